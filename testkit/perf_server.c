/* Asking a server for the work of `bnt bench`. */
#include "testkit/perf_server.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/json_load.h"
#include "testkit/subject_http.h"

struct perf_server {
    struct bnt_subject *subject;
    const struct bench_plan *work;
    struct bnt_ids ids; /* as many as the longest prompt */
    bool own_clock;
};

/* One answer. */
struct answer {
    double wall_ms, prompt_ms, decode_ms; /* by its clock; NaN: not told */
    uint32_t n_prompt, n_made;            /* 0: not told */
};

/* What can be told of its model without its file. */
static enum bnt_status check_model(const struct perf_server *s, uint32_t n_vocab,
                                   struct bnt_err *err)
{
    const struct http_subject *http = (const struct http_subject *)s->subject;
    return http->n_vocab == 0 || http->n_vocab == n_vocab
               ? BNT_OK
               : bnt_err_set(err, BNT_E_DIFFERS,
                             "%.300s runs a model of %u tokens of vocabulary, ours has %u",
                             http->url, http->n_vocab, n_vocab);
}

enum bnt_status perf_server_open(const struct perf_server_plan *plan, struct perf_server **out,
                                 struct bnt_err *err)
{
    struct bnt_model *model = NULL;
    struct perf_server *s = calloc(1, sizeof *s);
    if (!s) {
        return bnt_err_nomem(err, "a server to compare with", sizeof *s);
    }
    uint32_t longest = 0;
    for (size_t i = 0; i < plan->work->n_lengths; i++) {
        longest = plan->work->lengths[i] > longest ? plan->work->lengths[i] : longest;
    }
    s->work = plan->work;
    enum bnt_status st = bnt_model_open(plan->model, NULL, &model, err);
    if (st == BNT_OK) {
        const uint32_t n_vocab = bnt_model_info(model)->n_vocab;
        st = bench_prompt_ids(bnt_model_tokenizer(model), longest, &s->ids, err);
        bnt_model_close(model);
        const struct bnt_subject_options opts = {.session.interrupted = plan->interrupted};
        st = st == BNT_OK ? bnt_subject_open_http(plan->address, &opts, &s->subject, err) : st;
        st = st == BNT_OK ? check_model(s, n_vocab, err) : st;
    }
    if (st != BNT_OK) {
        perf_server_close(s);
        return st;
    }
    *out = s;
    return BNT_OK;
}

void perf_server_close(struct perf_server *s)
{
    if (s) {
        if (s->subject) {
            bnt_subject_close(s->subject);
        }
        bnt_ids_release(&s->ids);
        free(s);
    }
}

const struct bench_plan *perf_server_work(const struct perf_server *s)
{
    return s->work;
}

const char *perf_server_name(const struct perf_server *s)
{
    return ((const struct http_subject *)s->subject)->name;
}

bool perf_server_has_clock(const struct perf_server *s)
{
    return s->own_clock;
}

/* ---- one question ---- */

static json_t *question(const struct http_subject *http, bool llama, json_t *prompt, uint32_t n)
{
    if (llama) {
        const struct bnt_subject_request r = {.max_tokens = n, .ignore_eos = true};
        return subject_llama_body(&r, prompt);
    }
    return json_pack("{s:s, s:o, s:I, s:i, s:i, s:b}", "model", http->name, "prompt", prompt,
                     "max_tokens", (json_int_t)n, "temperature", 0, "n", 1, "stream", 0);
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) && json_number_value(value) > 0 ? json_number_value(value) : NAN;
}

static enum bnt_status read_answer(const json_t *doc, uint32_t n_ids, struct answer *a,
                                   struct bnt_err *err)
{
    const json_t *timings = json_object_get(doc, "timings"), *usage = json_object_get(doc, "usage");
    a->prompt_ms = number_of(timings, "prompt_ms");
    a->decode_ms = number_of(timings, "predicted_ms");
    a->n_prompt = subject_http_count(json_object_get(timings, "prompt_n"));
    a->n_made = subject_http_count(json_object_get(timings, "predicted_n"));
    a->n_prompt =
        a->n_prompt ? a->n_prompt : subject_http_count(json_object_get(usage, "prompt_tokens"));
    a->n_made =
        a->n_made ? a->n_made : subject_http_count(json_object_get(usage, "completion_tokens"));
    if (a->n_prompt > 0 && a->n_prompt != n_ids && !BNT_FAULT(server_work)) {
        return bnt_err_set(err, BNT_E_DIFFERS,
                           "the server evaluated %u tokens of a prompt of %u: it has another "
                           "tokenizer, adds tokens, or kept some from before",
                           a->n_prompt, n_ids);
    }
    return BNT_OK;
}

static enum bnt_status ask(struct perf_server *s, uint32_t n_ids, uint32_t n_new, struct answer *a,
                           struct bnt_err *err)
{
    struct http_subject *http = (struct http_subject *)s->subject;
    const bool llama = http->protocol->tokenize != NULL;
    json_t *doc = NULL, *prompt = bnt_json_ids(s->ids.at, n_ids);
    const struct http_question q = {.path = llama ? "/completion" : "/v1/completions",
                                    .posts = true,
                                    .body = prompt ? question(http, llama, prompt, n_new) : NULL,
                                    .once = true};
    const uint64_t start = bnt_clock_now_ns();
    enum bnt_status st = subject_http_ask(http, q, &doc, err);
    a->wall_ms = (double)(bnt_clock_now_ns() - start) / 1e6;
    st = st == BNT_OK ? read_answer(doc, n_ids, a, err) : st;
    json_decref(doc);
    return st;
}

/* ---- the work ---- */

static enum bnt_status time_prompt(struct perf_server *s, uint32_t n_ids, double *ms,
                                   struct bnt_err *err)
{
    struct answer a;
    enum bnt_status st = ask(s, n_ids, 1, &a, err);
    if (st == BNT_OK) {
        s->own_clock = isfinite(a.prompt_ms);
        *ms = s->own_clock ? a.prompt_ms : a.wall_ms;
    }
    return st;
}

/* The first new token belongs to the prompt. */
static enum bnt_status time_decode(struct perf_server *s, double *ms, struct bnt_err *err)
{
    struct answer a;
    const uint32_t n = s->work->n_decode, n_before = s->work->lengths[0];
    double first_ms = 0;
    enum bnt_status st = ask(s, n_before, n + 1, &a, err);
    if (st == BNT_OK && a.n_made > 0 && a.n_made < n / 2 + 2) {
        return bnt_err_set(err, BNT_E_INFERENCE,
                           "the server made %u tokens where %u were asked for", a.n_made, n + 1);
    }
    const double made = a.n_made > 0 ? a.n_made - 1.0 : n;
    if (st == BNT_OK && !isfinite(a.decode_ms)) {
        const double all_ms = a.wall_ms;
        st = ask(s, n_before, 1, &a, err);
        first_ms = a.wall_ms;
        a.decode_ms = all_ms - first_ms;
    }
    *ms = a.decode_ms * n / made;
    return st != BNT_OK || *ms > 0 ? st
                                   : bnt_err_set(err, BNT_E_INFERENCE,
                                                 "more tokens took the server no longer than one");
}

static void keep_less(double *least, double ms, bool counts)
{
    if (counts && (isnan(*least) || ms < *least)) {
        *least = ms;
    }
}

enum bnt_status perf_server_run(struct perf_server *s, struct perf_server_times *out,
                                struct bnt_err *err)
{
    const struct bench_plan *work = s->work;
    enum bnt_status st = BNT_OK;
    out->decode_ms = NAN;
    for (size_t i = 0; i < BENCH_LENGTHS_MAX; i++) {
        out->prompt_ms[i] = NAN;
    }
    for (uint64_t rep = 0; rep < (uint64_t)work->n_warmups + work->n_reps && st == BNT_OK; rep++) {
        const bool counts = rep >= work->n_warmups;
        double ms = 0;
        for (size_t i = 0; i < work->n_lengths && st == BNT_OK; i++) {
            st = time_prompt(s, work->lengths[i], &ms, err);
            keep_less(&out->prompt_ms[i], ms, counts);
        }
        if (st == BNT_OK && work->n_decode > 0) {
            st = time_decode(s, &ms, err);
            keep_less(&out->decode_ms, ms, counts);
        }
    }
    return st;
}
