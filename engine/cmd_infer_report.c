/* `bnt infer`: what is told about an answer: the JSON object, the table of metrics,
 * log-probabilities. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/msg.h"
#include "base/sysinfo.h"
#include "engine/bandwidth.h"
#include "engine/cmd_infer_impl.h"
#include "engine/file_facts.h"
#include "engine/quality.h"

#define MAX_JSON_TEXT (4u * BNT_GENERATE_MAX_TEXT)

/* Figures of one answer. A value that cannot be told is NaN: null in JSON, a dash in the table. */
struct figures {
    double load_ms, pack_ms, session_ms, self_test_ms, hash_ms, tokenize_ms, prefill_ms, kernels_ms,
        decode_ms, sample_ms, output_ms, total_ms;
    double first_token_ms, token_p50_ms, token_p95_ms;
    double prefill_tokens_per_s, decode_tokens_per_s;
    double bandwidth_fraction, bandwidth_gb_per_s;
    uint64_t peak_memory_bytes, session_memory_bytes, weight_bytes_per_token;
};

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Quantiles of the times between ids; the first id has none before it. */
static enum bnt_status token_quantiles(const struct bnt_generation *g, struct figures *f,
                                       struct bnt_err *err)
{
    f->token_p50_ms = f->token_p95_ms = f->decode_tokens_per_s = NAN;
    if (g->ids.n < 2) {
        return BNT_OK;
    }
    size_t n = g->ids.n - 1;
    uint64_t *sorted = malloc(n * sizeof(*sorted)), sum = 0;
    if (sorted == NULL) {
        return bnt_err_nomem(err, "token times", n * sizeof(*sorted));
    }
    for (size_t i = 0; i < n; i++) {
        sorted[i] = g->token_ns[i + 1];
        sum += sorted[i];
    }
    qsort(sorted, n, sizeof(*sorted), compare_u64);
    f->token_p50_ms = ms(sorted[(n - 1) / 2]);
    f->token_p95_ms = ms(sorted[(n - 1) * 95 / 100]);
    f->decode_tokens_per_s = sum > 0 ? (double)n * 1e9 / (double)sum : NAN;
    free(sorted);
    return BNT_OK;
}

/* After the answer and after the peak of memory was read: it takes a moment and a buffer. */
static enum bnt_status measure_bandwidth(const struct infer *in, struct figures *f,
                                         struct bnt_err *err)
{
    struct bandwidth b;
    enum bnt_status st = bandwidth_measure(bnt_session_n_threads(in->session), &b, err);
    if (st == BNT_OK) {
        f->bandwidth_gb_per_s = b.all_gb_per_s;
        f->bandwidth_fraction =
            (double)f->weight_bytes_per_token * f->decode_tokens_per_s / (b.all_gb_per_s * 1e9);
    }
    return st;
}

static enum bnt_status compute(const struct infer *in, const struct bnt_generation *g,
                               struct figures *f, struct bnt_err *err)
{
    struct bnt_session_stats stats;
    bnt_session_stats(in->session, &stats);
    const struct bnt_generate_times *t = &g->times;
    uint64_t pack_ns = bnt_model_info(in->model)->pack_ns;
    *f = (struct figures){.load_ms = ms(in->load_ns - pack_ns),
                          .pack_ms = ms(pack_ns),
                          .session_ms = ms(in->session_ns),
                          .self_test_ms = ms(stats.self_test_ns),
                          .hash_ms = ms(in->hash_ns),
                          .tokenize_ms = ms(in->tokenize_ns),
                          .prefill_ms = ms(t->prefill_ns),
                          .kernels_ms = ms(t->prefill_ns + t->decode_ns),
                          .decode_ms = ms(t->decode_ns),
                          .sample_ms = ms(t->sample_ns),
                          .output_ms = ms(t->output_ns),
                          .total_ms = ms(t->total_ns),
                          .first_token_ms = g->ids.n > 0 ? ms(t->first_token_ns) : NAN,
                          .prefill_tokens_per_s =
                              t->prefill_ns > 0 ? (double)in->prompt.n * 1e9 / (double)t->prefill_ns
                                                : NAN,
                          .peak_memory_bytes = bnt_peak_rss(),
                          .session_memory_bytes = stats.memory_bytes,
                          .weight_bytes_per_token = stats.weight_bytes_per_token,
                          .bandwidth_fraction = NAN,
                          .bandwidth_gb_per_s = NAN};
    enum bnt_status st = token_quantiles(g, f, err);
    /* The measurement reads a large buffer: not below a limit that somebody set. */
    bool measured = in->o->metrics && in->o->memory_limit == 0;
    return st == BNT_OK && measured ? measure_bandwidth(in, f, err) : st;
}

/* ---- Digest. */

static int stop_hashing(void *ctx, uint64_t done_bytes)
{
    const struct infer *in = ctx;
    (void)done_bytes;
    return in->app->interrupted != NULL && *in->app->interrupted != 0;
}

enum bnt_status infer_digest(struct infer *in, struct bnt_err *err)
{
    if (in->ref.digest[0] != '\0') {
        return BNT_OK;
    }
    bool hashed;
    uint64_t t0 = bnt_clock_now_ns();
    struct bnt_err inner = {0};
    enum bnt_status st =
        bnt_digest_of_file(in->ref.path, stop_hashing, in, in->ref.digest, &hashed, &inner);
    in->hash_ns = bnt_clock_now_ns() - t0;
    if (st == BNT_E_INTERRUPTED) { /* the answer is there: print it without */
        in->ref.digest[0] = '\0';
        return BNT_OK;
    }
    if (st != BNT_OK && err != NULL && err->status == BNT_OK) {
        *err = inner;
    }
    return st;
}

/* ---- JSON. */

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

/* Text for JSON: bytes that are no UTF-8 become U+FFFD (the ids lose nothing). */
static json_t *json_text(const char *text, size_t len)
{
    struct bnt_buf clean = BNT_BUF(MAX_JSON_TEXT);
    enum bnt_status st = BNT_OK;
    for (size_t at = 0; at < len && st == BNT_OK;) {
        size_t n = bnt_utf8_valid(text + at, len - at);
        st = n > 0 ? bnt_buf_append(&clean, text + at, n, NULL) : BNT_OK;
        at += n;
        if (at < len && st == BNT_OK) {
            st = bnt_buf_puts(&clean, "\xef\xbf\xbd", NULL);
            at++;
        }
    }
    json_t *out = st == BNT_OK ? json_stringn(bnt_buf_view(&clean), clean.len) : NULL;
    bnt_buf_release(&clean);
    return out;
}

static json_t *json_ids(const int32_t *ids, size_t n)
{
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(out, json_integer(ids[i]));
    }
    return out;
}

/* Text of one token, control tokens by their name. */
static json_t *json_piece(const struct infer *in, int32_t id)
{
    struct bnt_buf piece = BNT_BUF(INFER_MAX_PROMPT);
    json_t *out = NULL;
    if (bnt_tokenizer_piece(in->t, id, true, &piece, NULL) == BNT_OK) {
        out = json_text(bnt_buf_view(&piece), piece.len);
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
            const struct bnt_logprob *b = &g->best[i * g->n_best + k];
            if (b->id >= 0) {
                json_array_append_new(top, json_logprob(in, b->id, b->logprob));
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

static json_t *json_metrics(const struct infer *in, const struct bnt_generation *g,
                            const struct figures *f)
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
    json_object_set_new(out, "weight_bytes_per_token",
                        json_integer((json_int_t)f->weight_bytes_per_token));
    if (in->o->metrics) {
        json_object_set_new(out, "bandwidth_gb_per_s", number(f->bandwidth_gb_per_s));
        json_object_set_new(out, "bandwidth_fraction", number(f->bandwidth_fraction));
    }
    return out;
}

static json_t *json_model(const struct infer *in)
{
    json_t *digest = in->ref.digest[0] != '\0' ? json_string(in->ref.digest) : json_null();
    json_t *path = json_text(in->ref.path, strlen(in->ref.path));
    return json_pack("{s:o, s:o, s:s}", "path", path, "digest", digest, "kind", in->ref.kind);
}

static json_t *json_answer(const struct infer *in, const struct bnt_generation *g,
                           const struct figures *f)
{
    json_t *out = json_pack(
        "{s:o, s:o, s:o, s:s}", "prompt_ids", json_ids(in->prompt.at, in->prompt.n), "ids",
        json_ids(g->ids.at, g->ids.n), "text", json_text(bnt_buf_view(&g->text), g->text.len),
        "finish_reason", bnt_finish_name(g->finish));
    if (g->stop_id >= 0) {
        json_object_set_new(out, "stop_id", json_integer(g->stop_id));
    }
    if (g->stop_string >= 0) {
        const char *text = in->stop_texts[g->stop_string];
        json_object_set_new(out, "stop", json_text(text, strlen(text)));
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

enum bnt_status infer_print_json(struct infer *in, const struct bnt_generation *g,
                                 struct bnt_err *err)
{
    struct figures f;
    enum bnt_status st = infer_digest(in, err);
    if (st == BNT_OK) {
        st = compute(in, g, &f, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    json_t *doc = json_answer(in, g, &f);
    char *text = doc != NULL ? json_dumps(doc, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(doc);
    if (text == NULL) {
        return bnt_err_nomem(err, "the JSON answer", g->text.len);
    }
    st = infer_write_stdout(NULL, text, strlen(text), err);
    free(text);
    return st == BNT_OK ? infer_write_stdout(NULL, "\n", 1, err) : st;
}

/* ---- Tables on stderr. */

static void print_row(const char *name, double value, const char *unit, const char *remark)
{
    if (isfinite(value)) {
        fprintf(stderr, "  %-18s %10.2f %-9s %s\n", name, value, unit, remark);
    } else {
        fprintf(stderr, "  %-18s %10s %-9s %s\n", name, "-", unit, remark);
    }
}

static void print_times(const struct infer *in, const struct bnt_generation *g,
                        const struct figures *f)
{
    char remark[96];
    print_row("load", f->load_ms, "ms", "open, check, build the tokenizer");
    print_row("packing", f->pack_ms, "ms", "find the packing of I2_S, make packed copies");
    print_row("session", f->session_ms, "ms", "memory, threads, kernel self-test");
    print_row("  self-test", f->self_test_ms, "ms", "");
    print_row("tokenise", f->tokenize_ms, "ms", "");
    snprintf(remark, sizeof(remark), "%zu tokens, %.1f tokens/s", in->prompt.n,
             f->prefill_tokens_per_s);
    print_row("prefill", f->prefill_ms, "ms", remark);
    snprintf(remark, sizeof(remark), "%zu tokens, %.1f tokens/s", g->ids.n, f->decode_tokens_per_s);
    print_row("decode", f->decode_ms, "ms", isfinite(f->decode_tokens_per_s) ? remark : "");
    snprintf(remark, sizeof(remark), "prefill + decode in %s, %d thread%s",
             bnt_session_kernel(in->session), bnt_session_n_threads(in->session),
             bnt_session_n_threads(in->session) == 1 ? "" : "s");
    print_row("kernels", f->kernels_ms, "ms", remark);
    print_row("sample", f->sample_ms, "ms", "");
    print_row("output", f->output_ms, "ms", "");
    print_row("total", f->total_ms, "ms", "of prefill to output");
}

enum bnt_status infer_print_metrics(struct infer *in, const struct bnt_generation *g,
                                    struct bnt_err *err)
{
    struct figures f;
    enum bnt_status st = compute(in, g, &f, err);
    if (st != BNT_OK) {
        return st;
    }
    fprintf(stderr, "metrics:\n");
    print_times(in, g, &f);
    print_row("first token", f.first_token_ms, "ms", "after the start of prefill");
    print_row("token p50", f.token_p50_ms, "ms", "");
    print_row("token p95", f.token_p95_ms, "ms", "");
    print_row("peak memory", (double)f.peak_memory_bytes / 1e6, "MB", "");
    print_row("weights per token", (double)f.weight_bytes_per_token / 1e6, "MB", "");
    print_row("memory bandwidth", f.bandwidth_gb_per_s, "GB/s",
              "measured now, with as many threads");
    print_row("  of it used", f.bandwidth_fraction * 100, "%",
              "by decoding; past 100 the weights lie in a cache");
    return BNT_OK;
}

static enum bnt_status print_piece(const struct infer *in, int32_t id, double logprob,
                                   struct bnt_err *err)
{
    struct bnt_buf piece = BNT_BUF(INFER_MAX_PROMPT);
    enum bnt_status st = bnt_tokenizer_piece(in->t, id, true, &piece, err);
    if (st == BNT_OK) {
        json_t *quoted = json_text(bnt_buf_view(&piece), piece.len);
        char *text = quoted != NULL ? json_dumps(quoted, JSON_ENCODE_ANY) : NULL;
        fprintf(stderr, "  %8.4f %s", logprob, text != NULL ? text : "?");
        free(text);
        json_decref(quoted);
    }
    bnt_buf_release(&piece);
    return st;
}

enum bnt_status infer_print_logprobs(const struct infer *in, const struct bnt_generation *g,
                                     struct bnt_err *err)
{
    fprintf(stderr, "log-probabilities (taken | best):\n");
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < g->ids.n && st == BNT_OK; i++) {
        fprintf(stderr, "%5zu", i);
        st = print_piece(in, g->ids.at[i], g->logprob[i], err);
        fprintf(stderr, " |");
        for (uint32_t k = 0; k < g->n_best && st == BNT_OK; k++) {
            const struct bnt_logprob *b = &g->best[i * g->n_best + k];
            st = b->id >= 0 ? print_piece(in, b->id, b->logprob, err) : BNT_OK;
        }
        fputc('\n', stderr);
    }
    return st;
}
