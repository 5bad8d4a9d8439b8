/* `bnt infer`: what of an answer needs the JSON library: the JSON object, and log-probabilities,
 * whose texts are quoted as JSON quotes them. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_load.h"
#include "engine/cmd_infer_impl.h"
#include "engine/quality.h"

/* ---- Digest. */

static enum bnt_status digest(struct infer *in, struct bnt_err *err)
{
    struct bnt_err inner = {0};
    enum bnt_status st = infer_need_digest(in, &inner);
    /* After an interruption the answer is there: it is printed without. */
    return st == BNT_OK || st == BNT_E_INTERRUPTED ? BNT_OK : bnt_err_copy(err, &inner);
}

/* ---- JSON. */

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

/* Text of one token, control tokens by their name. */
static json_t *json_piece(const struct infer *in, int32_t id)
{
    struct bnt_buf piece = BNT_BUF(INFER_MAX_PROMPT);
    json_t *out = NULL;
    if (bnt_tokenizer_piece(in->t, id, true, &piece, NULL) == BNT_OK) {
        out = bnt_json_bytes(bnt_buf_view(&piece), piece.len);
    }
    bnt_buf_release(&piece);
    return out != NULL ? out : json_null();
}

static json_t *json_logprob(const struct infer *in, int32_t id, double logprob)
{
    return json_pack("{s:i, s:o, s:o}", "id", (int)id, "text", json_piece(in, id), "logprob",
                     number(logprob));
}

static json_t *json_logprobs(const struct infer *in, const struct bnt_generation *g)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < g->ids.n; i++) {
        json_t *row = json_logprob(in, g->ids.at[i], g->logprob[i]);
        json_t *top = json_array();
        for (uint32_t k = 0; k < g->n_best; k++) {
            const struct bnt_candidate *b = &g->best[i * g->n_best + k];
            if (b->id >= 0) {
                json_array_append_new(top, json_logprob(in, b->id, b->value));
            }
        }
        json_object_set_new(row, "top", top);
        json_array_append_new(rows, row);
    }
    return rows;
}

static json_t *json_sampling(const struct infer *in)
{
    const struct bnt_sampler_params *p = &in->sampling;
    json_t *out = json_pack("{s:f}", "temperature", p->temperature);
    if (in->seeded) {
        json_object_set_new(out, "seed", json_integer((json_int_t)p->seed));
        json_object_set_new(out, "top_k", json_integer(p->top_k));
        json_object_set_new(out, "typical_p", json_real(p->typical_p));
        json_object_set_new(out, "top_p", json_real(p->top_p));
        json_object_set_new(out, "min_p", json_real(p->min_p));
    }
    if (p->repeat_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0) {
        json_object_set_new(out, "repeat_penalty", json_real(p->repeat_penalty));
        json_object_set_new(out, "frequency_penalty", json_real(p->frequency_penalty));
        json_object_set_new(out, "presence_penalty", json_real(p->presence_penalty));
        json_object_set_new(out, "penalty_last_n", json_integer(p->penalty_last_n));
    }
    return out;
}

static json_t *json_speculation(const struct bnt_speculation *sp, const struct infer_figures *f)
{
    return json_pack("{s:I, s:I, s:o, s:o, s:o}", "drafted", (json_int_t)sp->drafted, "accepted",
                     (json_int_t)sp->accepted, "acceptance", number(f->acceptance),
                     "tokens_per_eval", number(f->tokens_per_eval), "speedup", number(f->speedup));
}

static json_t *json_metrics(const struct infer *in, const struct bnt_generation *g,
                            const struct infer_figures *f)
{
    const struct {
        const char *name;
        double value;
    } rows[] = {
        {"load_ms", f->load_ms},
        {"pack_ms", f->pack_ms},
        {"session_ms", f->session_ms},
        {"self_test_ms", f->self_test_ms},
        {"tokenize_ms", f->tokenize_ms},
        {"prefill_ms", f->prefill_ms},
        {"decode_ms", f->decode_ms},
        {"kernels_ms", f->kernels_ms},
        {"sample_ms", f->sample_ms},
        {"output_ms", f->output_ms},
        {"total_ms", f->total_ms},
        {"hash_ms", f->hash_ms},
        {"first_token_ms", f->first_token_ms},
        {"token_p50_ms", f->token_p50_ms},
        {"token_p95_ms", f->token_p95_ms},
        {"prefill_tokens_per_s", f->prefill_tokens_per_s},
        {"decode_tokens_per_s", f->decode_tokens_per_s},
    };
    json_t *out =
        json_pack("{s:i, s:i, s:s, s:i}", "prompt_tokens", (int)in->prompt.n, "generated_tokens",
                  (int)g->ids.n, "kernel", bnt_session_kernel(in->session), "threads",
                  bnt_session_n_threads(in->session));
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        json_object_set_new(out, rows[i].name, number(rows[i].value));
    }
    json_object_set_new(out, "peak_memory_bytes", json_integer((json_int_t)f->peak_memory_bytes));
    json_object_set_new(out, "session_memory_bytes",
                        json_integer((json_int_t)f->session_memory_bytes));
    const struct bnt_model_info *info = bnt_model_info(in->model);
    json_object_set_new(out, "reused_tokens", json_integer(g->n_reused));
    if (in->o->speculate > 0) {
        json_object_set_new(out, "speculation", json_speculation(&g->speculation, f));
    }
    json_object_set_new(out, "packed_bytes", json_integer((json_int_t)info->packed_bytes));
    json_object_set_new(out, "packed_made_bytes",
                        json_integer((json_int_t)info->packed_made_bytes));
    json_object_set_new(out, "weight_bytes_per_token",
                        json_integer((json_int_t)f->weight_bytes_per_token));
    json_object_set_new(out, "drawn_on_device", json_integer((json_int_t)f->drawn_on_device));
    json_object_set_new(out, "not_drawn_on_device",
                        json_integer((json_int_t)f->not_drawn_on_device));
    if (in->o->metrics) {
        json_object_set_new(out, "bandwidth_gb_per_s", number(f->bandwidth_gb_per_s));
        json_object_set_new(out, "bandwidth_fraction", number(f->bandwidth_fraction));
    }
    return out;
}

static json_t *json_model(const struct infer *in)
{
    json_t *digest = in->ref.digest[0] != '\0' ? json_string(in->ref.digest) : json_null();
    json_t *path = bnt_json_text(in->ref.path);
    return json_pack("{s:o, s:o, s:s}", "path", path, "digest", digest, "kind", in->ref.kind);
}

static json_t *json_answer(const struct infer *in, const struct bnt_generation *g,
                           const struct infer_figures *f)
{
    json_t *out =
        json_pack("{s:o, s:o, s:o, s:s}", "prompt_ids", bnt_json_ids(in->prompt.at, in->prompt.n),
                  "ids", bnt_json_ids(g->ids.at, g->ids.n), "text",
                  bnt_json_bytes(bnt_buf_view(&g->text), g->text.len), "finish_reason",
                  bnt_finish_name(g->finish));
    if (g->stop_id >= 0) {
        json_object_set_new(out, "stop_id", json_integer(g->stop_id));
    }
    if (g->stop_string >= 0) {
        const char *text = in->stop_texts[g->stop_string];
        json_object_set_new(out, "stop", bnt_json_text(text));
    }
    if (in->chat.form != BNT_CHAT_UNKNOWN) {
        json_object_set_new(out, "chat_form", json_string(in->chat.name));
    }
    json_object_set_new(out, "model", json_model(in));
    json_object_set_new(out, "sampling", json_sampling(in));
    if (in->o->logprobs > 0) {
        json_object_set_new(out, "logprobs", json_logprobs(in, g));
    }
    json_object_set_new(out, "metrics", json_metrics(in, g, f));
    return out;
}

static enum bnt_status print_json(struct infer *in, const struct bnt_generation *g,
                                  struct bnt_err *err)
{
    struct infer_figures f;
    enum bnt_status st = digest(in, err);
    if (st == BNT_OK) {
        st = infer_compute(in, g, &f, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    json_t *doc = json_answer(in, g, &f);
    size_t form = in->o->prompts != NULL ? JSON_COMPACT : JSON_INDENT(1); /* a line each */
    char *text = doc != NULL ? bnt_json_dumps(doc, form | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(doc);
    if (text == NULL) {
        return bnt_err_nomem(err, "the JSON answer", g->text.len);
    }
    /* Not by bnt_json_print: who reads the answers of --prompts gets each when it is there. */
    st = infer_write_stdout(NULL, text, strlen(text), err);
    free(text);
    return st == BNT_OK ? infer_write_stdout(NULL, "\n", 1, err) : st;
}

/* ---- Log-probabilities on stderr. */

static enum bnt_status print_piece(const struct infer *in, int32_t id, double logprob,
                                   struct bnt_err *err)
{
    struct bnt_buf piece = BNT_BUF(INFER_MAX_PROMPT);
    enum bnt_status st = bnt_tokenizer_piece(in->t, id, true, &piece, err);
    if (st == BNT_OK) {
        json_t *quoted = bnt_json_bytes(bnt_buf_view(&piece), piece.len);
        char *text = quoted != NULL ? bnt_json_dumps(quoted, JSON_ENCODE_ANY) : NULL;
        fprintf(stderr, "  %8.4f %s", logprob, text != NULL ? text : "?");
        free(text);
        json_decref(quoted);
    }
    bnt_buf_release(&piece);
    return st;
}

static enum bnt_status print_logprobs(const struct infer *in, const struct bnt_generation *g,
                                      struct bnt_err *err)
{
    fprintf(stderr, "log-probabilities (taken | best):\n");
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < g->ids.n && st == BNT_OK; i++) {
        fprintf(stderr, "%5zu", i);
        st = print_piece(in, g->ids.at[i], g->logprob[i], err);
        fprintf(stderr, " |");
        for (uint32_t k = 0; k < g->n_best && st == BNT_OK; k++) {
            const struct bnt_candidate *b = &g->best[i * g->n_best + k];
            st = b->id >= 0 ? print_piece(in, b->id, b->value, err) : BNT_OK;
        }
        fputc('\n', stderr);
    }
    return st;
}

const struct infer_json infer_json = {.print = print_json, .print_logprobs = print_logprobs};
