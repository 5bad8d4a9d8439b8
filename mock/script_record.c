#include "mock/script_record.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_load.h"
#include "engine/bnt_infer.h"
#include "engine/generate.h"
#include "engine/sampler.h"

struct recording {
    const struct script_record *r;
    struct bnt_model *model;
    struct bnt_session *session;
    const struct bnt_tokenizer *t;
    json_t *answers;
};

/* The text that each id adds; what is held back at the end belongs to the last. */
static enum bnt_status json_pieces(const struct recording *v, const struct bnt_ids *prompt,
                                   const struct bnt_ids *ids, json_t *out, struct bnt_err *err)
{
    struct bnt_detok d;
    struct bnt_buf piece = BNT_BUF(1 << 20);
    enum bnt_status st = BNT_OK;
    bnt_detok_init(&d, v->t, false);
    for (size_t i = 0; i < prompt->n && !d.started; i++) {
        d.started = !bnt_tokenizer_is_control(v->t, prompt->at[i]);
    }
    for (size_t i = 0; st == BNT_OK && i < ids->n; i++) {
        bnt_buf_reset(&piece);
        st = bnt_detok_push(&d, ids->at[i], &piece, err);
        if (st == BNT_OK && i + 1 == ids->n) {
            st = bnt_detok_flush(&d, &piece, err);
        }
        if (st == BNT_OK &&
            json_array_append_new(out, json_stringn(bnt_buf_view(&piece), piece.len)) != 0) {
            st = bnt_err_set(err, BNT_E_UNSUPPORTED,
                             "what id %d adds is no UTF-8, and JSON cannot hold it", ids->at[i]);
        }
    }
    bnt_buf_release(&piece);
    return st;
}

static enum bnt_status keep_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    json_t **rows = ctx;
    json_t *row = json_array();
    size_t n = (size_t)json_integer_value(rows[1]), i = 0;
    while (i < n && json_array_append_new(row, json_real((double)logits[i])) == 0) {
        i++;
    }
    json_array_append_new(rows[0], row);
    return i == n ? BNT_OK
                  : bnt_err_set(err, BNT_E_UNSUPPORTED,
                                "logit %zu at position %zu is %g, and JSON cannot hold it", i,
                                index, (double)logits[i]);
}

static enum bnt_status add_logits(const struct recording *v, const struct bnt_ids *prompt,
                                  json_t *answer, struct bnt_err *err)
{
    json_t *rows[2] = {json_array(), json_integer(bnt_session_n_vocab(v->session))};
    enum bnt_status st = bnt_session_rewind(v->session, 0, err);
    if (st == BNT_OK) {
        st = bnt_session_eval_each(v->session, prompt->at, prompt->n, keep_row, rows, err);
    }
    json_object_set_new(answer, "logits", rows[0]);
    json_decref(rows[1]);
    return st;
}

static enum bnt_status generate(const struct recording *v, const struct bnt_ids *prompt,
                                struct bnt_generation *g, struct bnt_err *err)
{
    struct bnt_sampler_params greedy = bnt_sampler_defaults();
    struct bnt_sampler *sampler = NULL;
    struct bnt_generate_params p = {
        .max_tokens = v->r->max_tokens, .n_logprobs = 1, .interrupted = v->r->interrupted};
    enum bnt_status st = bnt_session_rewind(v->session, 0, err);
    if (st == BNT_OK) {
        st = bnt_sampler_new(&greedy, bnt_tokenizer_n_vocab(v->t), &sampler, err);
    }
    if (st == BNT_OK) {
        st = bnt_generate(v->session, v->t, sampler, prompt->at, prompt->n, &p, g, err);
    }
    if (st == BNT_OK && g->finish == BNT_FINISH_INTERRUPTED) {
        st = bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted: nothing was recorded");
    }
    bnt_sampler_free(sampler);
    return st;
}

/* What the model says, as an answer of a script. */
static enum bnt_status fill_answer(const struct recording *v, const struct bnt_ids *prompt,
                                   const struct bnt_generation *g, json_t *answer,
                                   struct bnt_err *err)
{
    json_t *pieces = json_array(), *logprobs = json_array();
    json_object_set_new(answer, "prompt_ids", bnt_json_ids(prompt->at, prompt->n));
    json_object_set_new(answer, "ids", bnt_json_ids(g->ids.at, g->ids.n));
    json_object_set_new(answer, "pieces", pieces);
    json_object_set_new(answer, "finish", json_string(bnt_finish_name(g->finish)));
    json_object_set_new(answer, "logprobs", logprobs);
    for (size_t i = 0; i < g->ids.n; i++) {
        json_array_append_new(logprobs, json_real((double)g->logprob[i]));
    }
    enum bnt_status st = json_pieces(v, prompt, &g->ids, pieces, err);
    return st == BNT_OK && v->r->logits ? add_logits(v, prompt, answer, err) : st;
}

static enum bnt_status record_prompt(const struct recording *v, const char *prompt,
                                     struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    struct bnt_generation g;
    json_t *answer = json_object(), *text = json_string(prompt);
    bnt_generation_init(&g);
    if (!text) {
        json_decref(answer);
        return bnt_err_set(err, BNT_E_USAGE, "a prompt is no UTF-8, and JSON cannot hold it");
    }
    json_object_set_new(answer, "prompt", text);
    enum bnt_status st = bnt_tokenizer_encode(
        v->t, prompt, strlen(prompt), BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL, &ids, err);
    if (st == BNT_OK) {
        st = generate(v, &ids, &g, err);
    }
    if (st == BNT_OK) {
        st = fill_answer(v, &ids, &g, answer, err);
    }
    bnt_generation_release(&g);
    bnt_ids_release(&ids);
    json_array_append_new(v->answers, answer);
    return st == BNT_OK ? BNT_OK : bnt_err_context(err, "prompt '%.80s'", prompt);
}

static enum bnt_status print_script(const struct recording *v, struct bnt_buf *out,
                                    struct bnt_err *err)
{
    const struct bnt_model_info *info = bnt_model_info(v->model);
    json_t *name = json_string(info->name);
    json_t *doc = json_pack("{s:i, s:o, s:i, s:i, s:O}", "bnt_scripted", 1, "name",
                            name ? name : json_string(""), "n_vocab", (int)info->n_vocab, "n_ctx",
                            (int)bnt_session_n_ctx(v->session), "answers", v->answers);
    char *text = doc ? bnt_json_dumps(doc, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    enum bnt_status st =
        text ? bnt_buf_printf(out, err, "%s\n", text) : bnt_err_nomem(err, "a script", 0);
    free(text);
    json_decref(doc);
    return st;
}

enum bnt_status script_record(const struct script_record *r, struct bnt_buf *out,
                              struct bnt_err *err)
{
    struct recording v = {.r = r, .answers = json_array()};
    const struct bnt_session_options so = {.interrupted = r->interrupted};
    enum bnt_status st = bnt_model_open(r->model, NULL, &v.model, err);
    if (st == BNT_OK) {
        st = bnt_session_new(v.model, &so, &v.session, err);
    }
    if (st == BNT_OK) {
        v.t = bnt_model_tokenizer(v.model);
    }
    for (size_t i = 0; st == BNT_OK && i < r->n_prompts; i++) {
        st = record_prompt(&v, r->prompts[i], err);
    }
    st = st == BNT_OK ? print_script(&v, out, err) : st;
    json_decref(v.answers);
    bnt_session_free(v.session);
    bnt_model_close(v.model);
    return st;
}
