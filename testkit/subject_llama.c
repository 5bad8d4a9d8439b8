/* llama-server's own protocol: /props, /tokenize and /completion, in today's form and in that of
 * older servers, which do not tell ids.
 *
 * A text is turned into ids by the server first, and the ids are the prompt: what the prompt was is
 * then known, and special tokens are as the model's file says. The chain of samplers is sent with
 * every request, so that the server's own settings have no part in the answer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_load.h"
#include "testkit/subject_http.h"

#define ANSWER_TEXT_MAX (64u << 20)
#define SEED_MAX 4294967294u /* the one above means a random one */

static const char completion[] = "/completion";

/* ---- ids ---- */

static enum bnt_status tokenize(struct http_subject *s, const char *text, size_t len,
                                unsigned flags, struct bnt_ids *out, struct bnt_err *err)
{
    json_t *answer = NULL;
    enum bnt_status st = subject_http_utf8(text, len, err);
    if (st != BNT_OK) {
        return st;
    }
    const struct http_question q = {
        .path = "/tokenize",
        .posts = true,
        .body = json_pack("{s:s%, s:b, s:b}", "content", text, len, "add_special",
                          (flags & BNT_ENCODE_ADD_SPECIAL) != 0, "parse_special",
                          (flags & BNT_ENCODE_PARSE_SPECIAL) != 0)};
    st = subject_http_ask(s, q, &answer, err);
    if (st == BNT_OK) {
        st = subject_http_ids(s, q.path, json_object_get(answer, "tokens"), out, err);
    }
    json_decref(answer);
    return st;
}

/* ---- the question ---- */

static json_t *bias_list(const struct bnt_sampler_params *p)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < p->n_bias; i++) {
        json_t *weight = isfinite(p->bias[i].bias) ? json_real((double)p->bias[i].bias)
                                                   : json_false(); /* banned */
        if (json_array_append_new(list, json_pack("[i, o]", (int)p->bias[i].id, weight)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *sampling_body(const struct bnt_sampler_params *p)
{
    return json_pack(
        "{s:[s, s, s, s, s, s], s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:i, s:I, s:o}", "samplers",
        "penalties", "top_k", "typ_p", "top_p", "min_p", "temperature", "temperature",
        p->temperature, "top_k", (int)p->top_k, "top_p", p->top_p, "min_p", p->min_p, "typical_p",
        p->typical_p, "repeat_penalty", p->repeat_penalty, "frequency_penalty",
        p->frequency_penalty, "presence_penalty", p->presence_penalty, "repeat_last_n",
        (int)p->penalty_last_n, "seed", (json_int_t)p->seed, "logit_bias", bias_list(p));
}

json_t *subject_llama_body(const struct bnt_subject_request *r, json_t *prompt)
{
    const struct bnt_sampler_params p = r->sampling ? *r->sampling : bnt_sampler_defaults();
    json_t *body = sampling_body(&p);
    json_t *rest = json_pack("{s:o, s:I, s:o, s:b, s:I, s:I, s:b, s:b, s:b}", "prompt", prompt,
                             "n_predict", r->max_tokens ? (json_int_t)r->max_tokens : -1, "stop",
                             subject_http_stops(r), "ignore_eos", (int)r->ignore_eos, "n_probs",
                             (json_int_t)r->n_logprobs, "logprobs", (json_int_t)r->n_logprobs,
                             "cache_prompt", 0, "return_tokens", 1, "stream", 0);
    if (!body || !rest || json_object_update(body, rest) != 0) {
        json_decref(body);
        body = NULL;
    }
    json_decref(rest);
    return body;
}

/* ---- the answer ---- */

/* How it ended: "stop_type", or the three flags of older servers. A full context is told as a limit
 * with "truncated". */
static enum bnt_status read_finish(const struct http_subject *s,
                                   const struct bnt_subject_request *r, const json_t *answer,
                                   struct bnt_subject_answer *out, struct bnt_err *err)
{
    struct bnt_generation *g = &out->made;
    const char *type = json_string_value(json_object_get(answer, "stop_type"));
    static const char *const types[] = {"eos", "word", "limit"};
    static const char *const flags[] = {"stopped_eos", "stopped_word", "stopped_limit"};
    size_t i = 0;
    while (i < 3 && !(type ? strcmp(type, types[i]) == 0
                           : json_is_true(json_object_get(answer, flags[i])))) {
        i++;
    }
    if (i == 3) {
        return subject_http_bad(s, completion, "it does not say how it ended", err);
    }
    if (i == 1) {
        g->stop_string = subject_http_stop_index(r, json_object_get(answer, "stopping_word"));
    }
    const bool full = json_is_true(json_object_get(answer, "truncated"));
    g->finish = i < 2 ? BNT_FINISH_STOP : full ? BNT_FINISH_CONTEXT : BNT_FINISH_LENGTH;
    if (i == 0 && g->ids.n > 0 && !out->ids_end_early) {
        g->stop_id = g->ids.at[--g->ids.n]; /* the server counts the end token in */
    }
    return BNT_OK;
}

/* Milliseconds as nanoseconds; 0 for what is no time. */
static uint64_t ns_of(const json_t *ms)
{
    const double value = json_number_value(ms);
    return value > 0 && value < 1e9 ? (uint64_t)(value * 1e6) : 0;
}

/* The server's clock: the way to it is not part of the answer. The first id is there when the
 * prompt is done. */
static void read_times(const json_t *answer, struct bnt_generate_times *t)
{
    const json_t *timings = json_object_get(answer, "timings");
    t->prefill_ns = ns_of(json_object_get(timings, "prompt_ms"));
    t->decode_ns = ns_of(json_object_get(timings, "predicted_ms"));
    if (t->prefill_ns > 0 && t->decode_ns > 0) {
        t->first_token_ns = t->prefill_ns;
        t->total_ns = t->prefill_ns + t->decode_ns;
    }
}

static bool read_logprob(const struct http_subject *s, const json_t *entry,
                         struct bnt_candidate *out)
{
    const json_t *value = json_object_get(entry, "logprob");
    out->value = (float)json_number_value(value);
    return json_is_number(value) && out->value <= 0.001f &&
           subject_http_id(s, json_object_get(entry, "id"), &out->id);
}

/* One row: the id's own log-probability and the best ones, best first. */
static bool read_row(const struct http_subject *s, const json_t *entry, struct bnt_generation *g,
                     size_t at)
{
    const json_t *top = json_object_get(entry, "top_logprobs");
    struct bnt_candidate own, *best = g->best + at * g->n_best;
    bool good = read_logprob(s, entry, &own) && own.id == g->ids.at[at];
    for (size_t k = 0; good && k < g->n_best; k++) {
        good = read_logprob(s, json_array_get(top, k), &best[k]) &&
               (k == 0 || best[k].value <= best[k - 1].value);
    }
    g->logprob[at] = own.value;
    return good;
}

/* A server leaves out the ids within a character of several bytes. What cannot be told of every id
 * is then not told at all. */
static enum bnt_status read_logprobs(const struct http_subject *s, const json_t *answer,
                                     struct bnt_generation *g, uint32_t wanted, struct bnt_err *err)
{
    const json_t *list = json_object_get(answer, "completion_probabilities");
    const size_t n = json_array_size(list);
    if (n < g->ids.n) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "%.300s tells log-probabilities of %zu of %zu tokens", s->url, n,
                           g->ids.n);
    }
    g->n_best = wanted;
    for (size_t i = 0; i < g->ids.n; i++) {
        const json_t *entry = json_array_get(list, i);
        const size_t have = json_array_size(json_object_get(entry, "top_logprobs"));
        g->n_best = have < g->n_best ? (uint32_t)have : g->n_best;
    }
    g->logprob = calloc(g->ids.n + 1, sizeof *g->logprob);
    g->best = calloc((g->ids.n + 1) * ((size_t)g->n_best + 1), sizeof *g->best);
    if (!g->logprob || !g->best) {
        return bnt_err_nomem(err, "log-probabilities", g->ids.n);
    }
    for (size_t i = 0; i < g->ids.n; i++) {
        if (!read_row(s, json_array_get(list, i), g, i)) {
            return subject_http_bad(s, completion, "its log-probabilities are not of its tokens",
                                    err);
        }
    }
    return BNT_OK;
}

static enum bnt_status read_answer(struct http_subject *s, const struct bnt_subject_request *r,
                                   const json_t *answer, struct bnt_subject_answer *out,
                                   struct bnt_err *err)
{
    struct bnt_generation *g = &out->made;
    enum bnt_status st =
        subject_http_text(s, completion, json_object_get(answer, "content"), r, out, err);
    if (st == BNT_OK && (s->can & BNT_CAN_IDS)) {
        st = subject_llama_ids(s, r, answer, out, err);
    }
    if (st == BNT_OK) {
        st = read_finish(s, r, answer, out, err);
    }
    read_times(answer, &g->times);
    return st == BNT_OK && r->n_logprobs > 0 ? read_logprobs(s, answer, g, r->n_logprobs, err) : st;
}

/* The last event as the answer, with the text of all. */
static enum bnt_status join_events(json_t **answer, struct bnt_err *err)
{
    const json_t *events = json_object_get(*answer, "events");
    const size_t n = json_array_size(events);
    struct bnt_buf text = BNT_BUF(ANSWER_TEXT_MAX);
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        const json_t *piece = json_object_get(json_array_get(events, i), "content");
        st = bnt_buf_append(&text, json_string_value(piece), json_string_length(piece), err);
    }
    json_t *last = st == BNT_OK && n > 0 ? json_incref(json_array_get(events, n - 1)) : NULL;
    if (last &&
        json_object_set_new(last, "content", json_stringn(bnt_buf_view(&text), text.len)) != 0) {
        st = bnt_err_nomem(err, "an answer", text.len);
    }
    bnt_buf_release(&text);
    json_decref(*answer);
    *answer = last;
    return st;
}

/* A server that tells ids by texts tells these with log-probabilities alone. ik_llama.cpp's fails
 * on a text that is no whole UTF-8, unless it streams. */
static enum bnt_status post(const struct http_subject *s, const struct bnt_subject_request *r,
                            json_t *prompt, json_t **answer, struct bnt_err *err)
{
    struct bnt_subject_request asked = *r;
    asked.n_logprobs += s->ids_by == HTTP_IDS_PIECES && r->n_logprobs == 0;
    const struct http_question q = {.path = completion,
                                    .posts = true,
                                    .body = subject_llama_body(&asked, prompt),
                                    .streams = s->ids_by == HTTP_IDS_CONTENT};
    enum bnt_status st = subject_http_ask(s, q, answer, err);
    return st == BNT_OK && q.streams ? join_events(answer, err) : st;
}

/* ---- the table ---- */

/* The ids of the prompt, when the server tells them; *prompt is what goes with the question. */
static enum bnt_status read_prompt(struct http_subject *s, const struct bnt_subject_request *r,
                                   struct bnt_ids *ids, json_t **prompt, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (r->prompt && !(s->can & BNT_CAN_IDS)) {
        *prompt = json_stringn(r->prompt, r->prompt_len);
        return BNT_OK;
    }
    if (r->prompt) {
        st = tokenize(s, r->prompt, r->prompt_len,
                      BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL, ids, err);
    }
    for (size_t i = 0; st == BNT_OK && i < r->n_ids; i++) {
        st = bnt_ids_push(ids, r->ids[i], err);
    }
    if (st == BNT_OK && ids->n == 0) {
        st = bnt_err_set(err, BNT_E_USAGE, "the prompt is empty");
    }
    *prompt = st == BNT_OK ? bnt_json_ids(ids->at, ids->n) : NULL;
    return st;
}

static enum bnt_status generate(struct http_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err)
{
    json_t *prompt = NULL, *answer = NULL;
    if (r->sampling && r->sampling->seed > SEED_MAX) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "a llama-server takes seeds up to %u", SEED_MAX);
    }
    enum bnt_status st = read_prompt(s, r, &out->prompt_ids, &prompt, err);
    if (st == BNT_OK) {
        st = post(s, r, prompt, &answer, err);
    }
    if (st == BNT_OK) {
        st = read_answer(s, r, answer, out, err);
    }
    json_decref(answer);
    return st;
}

/* ---- finding out ---- */

static void read_props(struct http_subject *s, const json_t *props)
{
    const json_t *settings = json_object_get(props, "default_generation_settings");
    const json_t *names[] = {json_object_get(props, "model_alias"),
                             json_object_get(props, "model_path"),
                             json_object_get(settings, "model")};
    s->n_ctx = subject_http_count(json_object_get(settings, "n_ctx"));
    s->name[0] = '\0';
    for (size_t i = 0; s->name[0] == '\0' && i < sizeof names / sizeof names[0]; i++) {
        const char *name = json_string_value(names[i]);
        snprintf(s->name, sizeof s->name, "%s", name ? name : "");
    }
}

/* An error that only says that the server has no such thing is taken away. */
static enum bnt_status absent(enum bnt_status st, const struct bnt_err *why, struct bnt_err *err)
{
    return st == BNT_OK || st == BNT_E_NOT_FOUND || st == BNT_E_INFERENCE ? BNT_OK
                                                                          : bnt_err_copy(err, why);
}

/* The size of the vocabulary stands in the list of models alone. */
static enum bnt_status ask_n_vocab(struct http_subject *s, struct bnt_err *err)
{
    json_t *answer = NULL;
    struct bnt_err why = {0};
    enum bnt_status st =
        subject_http_ask(s, (struct http_question){.path = "/v1/models"}, &answer, &why);
    const json_t *model = json_array_get(json_object_get(answer, "data"), 0);
    s->n_vocab = subject_http_count(json_object_get(json_object_get(model, "meta"), "n_vocab"));
    json_decref(answer);
    return absent(st, &why, err);
}

/* One token, greedy: whether ids and log-probabilities come with it. */
static enum bnt_status ask_abilities(struct http_subject *s, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    struct bnt_err why = {0};
    json_t *answer = NULL;
    const struct bnt_subject_request one = {.max_tokens = 1, .n_logprobs = 1};
    s->can = BNT_CAN_GENERATE | BNT_CAN_SAMPLE;
    enum bnt_status st = tokenize(s, "Hello", 5, BNT_ENCODE_ADD_SPECIAL, &ids, &why);
    const bool has_ids = st == BNT_OK && ids.n > 0;
    st = absent(st, &why, err);
    if (st == BNT_OK) {
        json_t *prompt = has_ids ? bnt_json_ids(ids.at, ids.n) : json_string("Hello");
        st = post(s, &one, prompt, &answer, err);
    }
    const json_t *row = json_array_get(json_object_get(answer, "completion_probabilities"), 0);
    const json_t *best = json_array_get(json_object_get(row, "top_logprobs"), 0);
    s->can |= has_ids ? BNT_CAN_TOKENIZE : 0;
    if (st == BNT_OK && has_ids) {
        st = subject_llama_ids_by(s, &ids, answer, err);
        s->can |= s->ids_by == HTTP_IDS_NONE ? 0 : BNT_CAN_IDS;
        s->can |= s->ids_by == HTTP_IDS_PLAIN && json_object_get(best, "id") ? BNT_CAN_LOGPROBS : 0;
        s->can |= s->ids_by != HTTP_IDS_PLAIN || json_object_get(best, "id") ? BNT_CAN_ROWS : 0;
        s->can &= s->ids_by == HTTP_IDS_NONE ? ~(unsigned)BNT_CAN_ROWS : ~0u;
    }
    bnt_ids_release(&ids);
    json_decref(answer);
    return st;
}

static const struct http_protocol protocol = {
    .tokenize = tokenize, .generate = generate, .row = subject_llama_row};

enum bnt_status subject_llama_detect(struct http_subject *s, bool *is, struct bnt_err *err)
{
    json_t *props = NULL;
    struct bnt_err why = {0};
    enum bnt_status st =
        subject_http_ask(s, (struct http_question){.path = "/props"}, &props, &why);
    st = absent(st, &why, err);
    *is = json_is_object(json_object_get(props, "default_generation_settings"));
    if (st == BNT_OK && *is) {
        s->protocol = &protocol;
        read_props(s, props);
        st = ask_n_vocab(s, err);
        if (st == BNT_OK) {
            st = ask_abilities(s, err);
        }
    }
    json_decref(props);
    return st;
}
