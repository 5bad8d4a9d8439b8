/* OpenAI's protocol: /v1/models and /v1/completions. It tells no ids, log-probabilities by the text
 * of a token and where the server has them, and knows but some of the parameters of sampling: what
 * it has no word for is UNSUPPORTED, because servers pass over a word that they do not know. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/subject_http.h"

#define ROW_MAX 5 /* more is an error in OpenAI's own service */

static const char completions[] = "/v1/completions";

/* ---- the question ---- */

static enum bnt_status check_request(const struct bnt_subject_request *r,
                                     const struct bnt_sampler_params *p, struct bnt_err *err)
{
    const bool draws = p->temperature > 0;
    const struct {
        bool wanted;
        const char *what;
    } missing[] = {
        {r->max_tokens == 0, "an answer without a limit of tokens"},
        {r->ignore_eos, "ignore_eos"},
        {draws && p->top_k != 0, "top_k"},
        {draws && p->min_p > 0, "min_p"},
        {draws && p->typical_p < 1, "typical_p"},
        {p->repeat_penalty != 1, "repeat_penalty"},
        {p->n_bias > 0, "a bias by id"},
        {p->seed > INT64_MAX, "a seed above 2^63 - 1"},
    };
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        if (missing[i].wanted && !BNT_FAULT(http_unsaid)) {
            return bnt_err_set(err, BNT_E_UNSUPPORTED, "the OpenAI protocol has no word for %s",
                               missing[i].what);
        }
    }
    return BNT_OK;
}

static json_t *request_body(const struct http_subject *s, const struct bnt_subject_request *r,
                            const struct bnt_sampler_params *p)
{
    json_t *body = json_pack(
        "{s:s, s:s%, s:I, s:f, s:f, s:f, s:f, s:I, s:i, s:b}", "model", s->name, "prompt",
        r->prompt, r->prompt_len, "max_tokens", (json_int_t)r->max_tokens, "temperature",
        p->temperature, "top_p", p->top_p, "frequency_penalty", p->frequency_penalty,
        "presence_penalty", p->presence_penalty, "seed", (json_int_t)p->seed, "n", 1, "stream", 0);
    if (body && r->n_stop > 0 && json_object_set_new(body, "stop", subject_http_stops(r)) != 0) {
        json_decref(body);
        body = NULL;
    }
    return body;
}

/* ---- the answer ---- */

/* A limit that was reached before max_tokens is the end of the context. */
static enum bnt_status read_finish(const struct http_subject *s,
                                   const struct bnt_subject_request *r, const json_t *answer,
                                   struct bnt_generation *g, struct bnt_err *err)
{
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const char *reason = json_string_value(json_object_get(choice, "finish_reason"));
    if (!reason) {
        return subject_http_bad(s, completions, "it does not say how it ended", err);
    }
    if (strcmp(reason, "stop") == 0) {
        g->finish = BNT_FINISH_STOP;
        g->stop_string = subject_http_stop_index(r, json_object_get(choice, "stop_reason"));
        return BNT_OK;
    }
    if (strcmp(reason, "length") == 0) {
        const uint32_t made = subject_http_count(
            json_object_get(json_object_get(answer, "usage"), "completion_tokens"));
        g->finish = made > 0 && made < r->max_tokens ? BNT_FINISH_CONTEXT : BNT_FINISH_LENGTH;
        return BNT_OK;
    }
    char what[128];
    snprintf(what, sizeof what, "it ended by \"%.60s\"", reason);
    return subject_http_bad(s, completions, what, err);
}

static enum bnt_status read_answer(const struct http_subject *s,
                                   const struct bnt_subject_request *r, const json_t *answer,
                                   struct bnt_subject_answer *out, struct bnt_err *err)
{
    const json_t *choices = json_object_get(answer, "choices");
    if (json_array_size(choices) != 1) {
        return subject_http_bad(s, completions, "it has not one choice", err);
    }
    const json_t *text = json_object_get(json_array_get(choices, 0), "text");
    enum bnt_status st = subject_http_text(s, completions, text, r, out, err);
    return st == BNT_OK ? read_finish(s, r, answer, &out->made, err) : st;
}

static enum bnt_status generate(struct http_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err)
{
    const struct bnt_sampler_params p = r->sampling ? *r->sampling : bnt_sampler_defaults();
    json_t *answer = NULL;
    enum bnt_status st = check_request(r, &p, err);
    if (st == BNT_OK) {
        const struct http_question q = {
            .path = completions, .posts = true, .body = request_body(s, r, &p)};
        st = subject_http_ask(s, q, &answer, err);
    }
    if (st == BNT_OK) {
        st = read_answer(s, r, answer, out, err);
    }
    json_decref(answer);
    return st;
}

/* ---- a row ---- */

/* vLLM's and OpenAI's own form: lists side by side, and a map from text to log-probability. */
static enum bnt_status read_map(const struct http_subject *s, json_t *map, struct bnt_row *out,
                                struct bnt_err *err)
{
    const char *text;
    json_t *value;
    out->at = calloc(json_object_size(map) + 1, sizeof *out->at);
    if (!out->at) {
        return bnt_err_nomem(err, "a row", json_object_size(map));
    }
    json_object_foreach(map, text, value)
    {
        if (!json_is_number(value) || json_number_value(value) > 0.001) {
            return subject_http_bad(s, completions, "an entry of a row has no log-probability",
                                    err);
        }
        out->at[out->n++] =
            (struct bnt_row_entry){.id = -1, .text = text, .logprob = json_number_value(value)};
    }
    return BNT_OK;
}

/* llama-server's form: a list of objects. */
static enum bnt_status read_list(const struct http_subject *s, const json_t *list,
                                 struct bnt_row *out, struct bnt_err *err)
{
    const size_t n = json_array_size(list);
    out->at = calloc(n + 1, sizeof *out->at);
    if (!out->at) {
        return bnt_err_nomem(err, "a row", n);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *entry = json_array_get(list, i);
        const json_t *value = json_object_get(entry, "logprob");
        const char *text = json_string_value(json_object_get(entry, "token"));
        if (!text || !json_is_number(value) || json_number_value(value) > 0.001) {
            return subject_http_bad(s, completions, "an entry of a row has no log-probability",
                                    err);
        }
        out->at[out->n++] =
            (struct bnt_row_entry){.id = -1, .text = text, .logprob = json_number_value(value)};
    }
    return BNT_OK;
}

static int best_first(const void *a, const void *b)
{
    const double x = ((const struct bnt_row_entry *)a)->logprob;
    const double y = ((const struct bnt_row_entry *)b)->logprob;
    return (x < y) - (x > y);
}

static enum bnt_status read_row(const struct http_subject *s, const json_t *answer, uint32_t at,
                                struct bnt_row *out, struct bnt_err *err)
{
    const json_t *choice = json_array_get(json_object_get(answer, "choices"), 0);
    const json_t *logprobs = json_object_get(choice, "logprobs");
    json_t *map = json_array_get(json_object_get(logprobs, "top_logprobs"), at);
    const json_t *content = json_array_get(json_object_get(logprobs, "content"), at);
    const json_t *list = json_object_get(content, "top_logprobs");
    if (json_object_size(map) == 0 && json_array_size(list) == 0) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "%.300s tells no log-probabilities of place %u of its answer", s->url,
                           at);
    }
    enum bnt_status st = map ? read_map(s, map, out, err) : read_list(s, list, out, err);
    qsort(out->at, out->n, sizeof *out->at, best_first);
    return st;
}

static enum bnt_status row(struct http_subject *s, const struct bnt_subject_request *r, uint32_t at,
                           struct bnt_row *out, struct bnt_err *err)
{
    struct bnt_subject_request asked = *r;
    const struct bnt_sampler_params greedy = bnt_sampler_defaults();
    asked.max_tokens = at + 1;
    enum bnt_status st = check_request(&asked, &greedy, err);
    json_t *body = st == BNT_OK ? request_body(s, &asked, &greedy) : NULL;
    if (st == BNT_OK &&
        json_object_set_new(body, "logprobs",
                            json_integer(r->n_logprobs < ROW_MAX ? r->n_logprobs : ROW_MAX)) != 0) {
        json_decref(body);
        body = NULL;
    }
    if (st == BNT_OK) {
        const struct http_question q = {.path = completions, .posts = true, .body = body};
        st = subject_http_ask(s, q, &out->answer, err);
    }
    return st == BNT_OK ? read_row(s, out->answer, at, out, err) : st;
}

/* ---- finding out ---- */

static const struct http_protocol protocol = {.generate = generate, .row = row};

/* The model that the address names, or the only one. NULL: neither. */
static const json_t *choose(const struct http_subject *s, const json_t *models)
{
    const size_t n = json_array_size(models);
    for (size_t i = 0; s->name[0] && i < n; i++) {
        const char *id = json_string_value(json_object_get(json_array_get(models, i), "id"));
        if (id && strcmp(id, s->name) == 0) {
            return json_array_get(models, i);
        }
    }
    return s->name[0] || n != 1 ? NULL : json_array_get(models, 0);
}

static enum bnt_status no_choice(const struct http_subject *s, const json_t *models,
                                 struct bnt_err *err)
{
    enum bnt_status st =
        s->name[0] ? bnt_err_set(err, BNT_E_NOT_FOUND, "%.300s has no model %s", s->url, s->name)
                   : bnt_err_set(err, BNT_E_USAGE, "%.300s has %zu models: which?", s->url,
                                 json_array_size(models));
    const char *first = json_string_value(json_object_get(json_array_get(models, 0), "id"));
    bnt_err_hint(err, "name one: %.150s#%.100s", s->url, first ? first : "MODEL");
    return st;
}

static enum bnt_status read_models(struct http_subject *s, const json_t *answer,
                                   struct bnt_err *err)
{
    const json_t *models = json_object_get(answer, "data");
    if (json_array_size(models) == 0) {
        return subject_http_bad(s, "/v1/models", "it has no list of models", err);
    }
    const json_t *model = choose(s, models);
    if (!model) {
        return no_choice(s, models, err);
    }
    const char *id = json_string_value(json_object_get(model, "id"));
    if (!id || strlen(id) >= sizeof s->name) {
        return subject_http_bad(s, "/v1/models", "a model has no name", err);
    }
    snprintf(s->name, sizeof s->name, "%s", id);
    s->n_ctx = subject_http_count(json_object_get(model, "max_model_len"));
    s->can = BNT_CAN_GENERATE | BNT_CAN_SAMPLE | BNT_CAN_ROWS;
    s->protocol = &protocol;
    return BNT_OK;
}

enum bnt_status subject_openai_detect(struct http_subject *s, struct bnt_err *err)
{
    json_t *answer = NULL;
    struct bnt_err why = {0};
    enum bnt_status st =
        subject_http_ask(s, (struct http_question){.path = "/v1/models"}, &answer, &why);
    if (st == BNT_E_NOT_FOUND) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED,
                         "%.300s has neither /props nor /v1/models: it speaks no protocol that is "
                         "known here",
                         s->url);
        bnt_err_hint(err, "check the address; llama-server, vLLM and their like are known");
        return st;
    }
    if (st != BNT_OK) {
        return bnt_err_copy(err, &why);
    }
    st = read_models(s, answer, err);
    json_decref(answer);
    return st;
}
