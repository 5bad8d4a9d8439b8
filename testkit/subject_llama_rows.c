/* What a llama-server holds likely, and which ids it answered with, in the three forms that are in
 * use:
 *
 *     today's          /completion tells ids, and log-probabilities before sampling
 *     bitnet.cpp's     /completion tells texts and probabilities as they are after sampling; the
 *                      texts have ids by the list of the vocabulary
 *     ik_llama.cpp's   /completion tells texts; /v1/completions tells ids
 *
 * Of bitnet.cpp's a row is asked for at temperature 1 with an empty chain of samplers, in which
 * case probabilities after sampling are those before it. Of the others it is asked for greedily.
 *
 * ik_llama.cpp's is asked for streams: else it fails on any text that is no whole UTF-8. Of a token
 * that ends within a character it tells nothing in either way, and such a place is not offered. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/json_load.h"
#include "engine/cpu/fmath.h"
#include "testkit/subject_http.h"

#define ANSWER_MAX_BYTES (256u << 20) /* of a row of some 300,000 entries */

#define UNTOLD (-1e30) /* below it a logarithm stands for a probability of 0 */

static const char completion[] = "/completion", v1[] = "/v1/completions";

static const char *path_of(const struct http_subject *s)
{
    return s->ids_by == HTTP_IDS_CONTENT ? v1 : completion;
}

/* The list with an entry per token of the answer. */
static const json_t *places_of(const json_t *answer)
{
    return json_object_get(answer, "completion_probabilities");
}

static const json_t *content_of(const json_t *event)
{
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    return json_object_get(json_object_get(choice, "logprobs"), "content");
}

/* Whether the server left a token out before this event, which is the n-th that it tells. */
static bool skipped(const json_t *event, size_t n)
{
    const json_t *made = json_object_get(json_object_get(event, "timings"), "predicted_n");
    return json_is_integer(made) && json_integer_value(made) > (json_int_t)n &&
           !BNT_FAULT(http_gap);
}

/* The entries of all events as one list, up to a token that is left out. */
static enum bnt_status gather_places(json_t *answer, struct bnt_err *err)
{
    const json_t *events = json_object_get(answer, "events");
    json_t *all = json_array();
    bool good = all != NULL, gap = false;
    for (size_t i = 0; good && !gap && i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i), *list = content_of(event);
        const size_t n = json_array_size(list);
        gap = n == 1 && skipped(event, json_array_size(all) + 1);
        for (size_t k = 0; good && !gap && k < n; k++) {
            good = json_array_append(all, json_array_get(list, k)) == 0;
        }
    }
    good = json_object_set_new(answer, "completion_probabilities", all) == 0 && good;
    return good ? BNT_OK : bnt_err_nomem(err, "an answer", 0);
}

/* Both doors' answers have the same list. The body is taken. */
static enum bnt_status ask_places(const struct http_subject *s, json_t *body, json_t **answer,
                                  struct bnt_err *err)
{
    const struct http_question q = {.path = path_of(s),
                                    .posts = true,
                                    .body = body,
                                    .answer_max_bytes = ANSWER_MAX_BYTES,
                                    .streams = s->ids_by == HTTP_IDS_CONTENT};
    enum bnt_status st = subject_http_ask(s, q, answer, err);
    return st == BNT_OK && q.streams ? gather_places(*answer, err) : st;
}

/* ---- ids ---- */

/* An answer that a stop string ended lacks the last of its tokens; the same question without stop
 * strings has them all. */
static enum bnt_status ask_again(struct http_subject *s, const struct bnt_subject_request *r,
                                 const struct bnt_ids *prompt, uint32_t n, json_t **answer,
                                 struct bnt_err *err)
{
    struct bnt_subject_request again = *r;
    again.n_stop = 0;
    again.max_tokens = n;
    again.n_logprobs = 1;
    if (n == 0) {
        return subject_http_bad(s, completion, "it does not tell how many tokens it made", err);
    }
    json_t *body = subject_llama_body(&again, bnt_json_ids(prompt->at, prompt->n));
    json_object_set_new(body, "timings_per_token", json_true());
    return ask_places(s, body, answer, err);
}

static enum bnt_status id_of_place(struct http_subject *s, const json_t *place, int32_t *id,
                                   struct bnt_err *err)
{
    if (s->ids_by == HTTP_IDS_CONTENT) {
        return subject_http_id(s, json_object_get(place, "id"), id)
                   ? BNT_OK
                   : subject_http_bad(s, v1, "a token is no id of the vocabulary", err);
    }
    const char *text = json_string_value(json_object_get(place, "content"));
    if (!text) {
        return subject_http_bad(s, completion, "a token has no text", err);
    }
    enum bnt_status st = http_pieces_find(s, text, id, err);
    if (st == BNT_OK && *id < 0) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED,
                         "%.300s tells texts, not ids, and \"%.60s\" is the text of no single id",
                         s->url, text);
    }
    return st;
}

static enum bnt_status ids_of_places(struct http_subject *s, const json_t *places,
                                     struct bnt_ids *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < json_array_size(places); i++) {
        int32_t id = -1;
        st = id_of_place(s, json_array_get(places, i), &id, err);
        if (st == BNT_OK) {
            st = bnt_ids_push(out, id, err);
        }
    }
    return st;
}

/* Which token was left out, bitnet.cpp's server does not tell: then no id is known. */
enum bnt_status subject_llama_ids(struct http_subject *s, const struct bnt_subject_request *r,
                                  const json_t *answer, struct bnt_subject_answer *out,
                                  struct bnt_err *err)
{
    struct bnt_ids *ids = &out->made.ids;
    if (s->ids_by == HTTP_IDS_PLAIN) {
        return subject_http_ids(s, completion, json_object_get(answer, "tokens"), ids, err);
    }
    const bool cut = json_is_true(json_object_get(answer, "stopped_word"));
    const uint32_t n = subject_http_count(json_object_get(answer, "tokens_predicted"));
    json_t *again = NULL;
    enum bnt_status st = BNT_OK;
    if (s->ids_by == HTTP_IDS_CONTENT || cut) {
        st = ask_again(s, r, &out->prompt_ids, n, &again, err);
    }
    if (st == BNT_OK) {
        st = ids_of_places(s, places_of(again ? again : answer), ids, err);
        out->ids_end_early = ids->n < n;
        ids->n = out->ids_end_early && s->ids_by == HTTP_IDS_PIECES ? 0 : ids->n;
    }
    json_decref(again);
    return st;
}

/* ---- finding out ---- */

static enum bnt_status lists_pieces(struct http_subject *s, const struct bnt_ids *prompt,
                                    bool *does, struct bnt_err *err)
{
    json_t *answer = NULL, *ids = bnt_json_ids(prompt->at, 1);
    const struct http_question q = {.path = "/tokenize",
                                    .posts = true,
                                    .body =
                                        json_pack("{s:o, s:b}", "content", ids, "with_pieces", 1)};
    enum bnt_status st = subject_http_ask(s, q, &answer, err);
    const json_t *first = json_array_get(json_object_get(answer, "tokens"), 0);
    *does = json_object_get(first, "piece") != NULL;
    json_decref(answer);
    return st;
}

static enum bnt_status tells_content(struct http_subject *s, const struct bnt_ids *prompt,
                                     bool *does, struct bnt_err *err)
{
    json_t *answer = NULL;
    const struct bnt_subject_request one = {.max_tokens = 1, .n_logprobs = 1};
    struct bnt_err why = {0};
    s->ids_by = HTTP_IDS_CONTENT;
    enum bnt_status st =
        ask_places(s, subject_llama_body(&one, bnt_json_ids(prompt->at, prompt->n)), &answer, &why);
    s->ids_by = HTTP_IDS_NONE;
    *does = json_object_get(json_array_get(places_of(answer), 0), "id") != NULL;
    json_decref(answer);
    return st == BNT_OK || st == BNT_E_NOT_FOUND || st == BNT_E_INFERENCE ? BNT_OK
                                                                          : bnt_err_copy(err, &why);
}

enum bnt_status subject_llama_ids_by(struct http_subject *s, const struct bnt_ids *prompt,
                                     const json_t *answer, struct bnt_err *err)
{
    const json_t *place = json_array_get(json_object_get(answer, "completion_probabilities"), 0);
    bool does = false;
    enum bnt_status st = BNT_OK;
    if (json_array_size(json_object_get(answer, "tokens")) > 0) {
        s->ids_by = HTTP_IDS_PLAIN;
        return BNT_OK;
    }
    if (json_array_size(json_object_get(place, "probs")) == 0 || s->n_vocab == 0) {
        return BNT_OK;
    }
    st = tells_content(s, prompt, &does, err);
    if (st == BNT_OK && does) {
        s->ids_by = HTTP_IDS_CONTENT;
        return BNT_OK;
    }
    if (st == BNT_OK) {
        st = lists_pieces(s, prompt, &does, err);
        s->ids_by = st == BNT_OK && does ? HTTP_IDS_PIECES : HTTP_IDS_NONE;
    }
    return st;
}

/* ---- a row ---- */

/* Log-probability of an entry, of which servers tell this or the probability. What is so unlikely
 * that it is 0 there cannot be told. */
static bool read_logprob(const json_t *entry, double *out)
{
    const json_t *value = json_object_get(entry, "logprob");
    const json_t *prob = json_object_get(entry, "prob");
    if (json_is_number(value)) {
        *out = json_number_value(value) > UNTOLD ? json_number_value(value) : -INFINITY;
        return *out <= 0.001;
    }
    *out = json_number_value(prob) > 0 ? fm_log(json_number_value(prob)) : -INFINITY;
    if (BNT_FAULT(http_linear)) {
        *out = -json_number_value(prob);
    }
    return json_is_number(prob) && *out <= 0.001;
}

static enum bnt_status read_entry(struct http_subject *s, const json_t *entry,
                                  struct bnt_row_entry *out, struct bnt_err *err)
{
    const json_t *id = json_object_get(entry, "id");
    const char *text = json_string_value(json_object_get(entry, id ? "token" : "tok_str"));
    enum bnt_status st = BNT_OK;
    out->text = text;
    if (id ? !subject_http_id(s, id, &out->id) : !text) {
        return subject_http_bad(s, path_of(s), "an entry of a row is no id of the vocabulary", err);
    }
    if (!id) {
        st = http_pieces_find(s, text, &out->id, err);
    }
    return st == BNT_OK && !read_logprob(entry, &out->logprob)
               ? subject_http_bad(s, path_of(s), "an entry of a row has no log-probability", err)
               : st;
}

/* Entries whose probability cannot be told are left out. */
static enum bnt_status read_row(struct http_subject *s, const json_t *list, struct bnt_row *out,
                                struct bnt_err *err)
{
    const size_t n = json_array_size(list);
    enum bnt_status st = BNT_OK;
    if (n == 0) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "%.300s tells no log-probabilities", s->url);
    }
    out->at = calloc(n, sizeof *out->at);
    if (!out->at) {
        return bnt_err_nomem(err, "a row", n * sizeof *out->at);
    }
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        struct bnt_row_entry *e = &out->at[out->n];
        st = read_entry(s, json_array_get(list, i), e, err);
        if (st == BNT_OK && out->n > 0 && e->logprob > e[-1].logprob) {
            st = subject_http_bad(s, path_of(s), "a row is not in order", err);
        }
        out->n += st == BNT_OK && isfinite(e->logprob);
    }
    out->whole = s->n_vocab > 0 && n >= s->n_vocab;
    return st;
}

/* The question of a row: one token, and what it was chosen from. */
static json_t *row_body(const struct http_subject *s, const struct bnt_subject_request *r,
                        uint32_t n)
{
    json_t *prompt =
        r->prompt ? json_stringn(r->prompt, r->prompt_len) : bnt_json_ids(r->ids, r->n_ids);
    const double temperature = s->ids_by == HTTP_IDS_PIECES ? 1 : 0;
    return json_pack("{s:o, s:i, s:i, s:f, s:f, s:f, s:[], s:I, s:I, s:b, s:b, s:i}", "prompt",
                     prompt, "n_predict", 1, "max_tokens", 1, "temperature", temperature,
                     "repeat_penalty", 1.0, "min_p", 0.0, "samplers", "n_probs", (json_int_t)n,
                     "logprobs", (json_int_t)n, "cache_prompt", 0, "stream", 0, "seed", 1);
}

/* A server of the older form reads past its list where more is asked for than there is. */
static enum bnt_status ask_row(struct http_subject *s, const struct bnt_subject_request *r,
                               uint32_t n, struct bnt_row *out, struct bnt_err *err)
{
    n = s->n_vocab > 0 && n > s->n_vocab ? s->n_vocab : n;
    enum bnt_status st = ask_places(s, row_body(s, r, n), &out->answer, err);
    const json_t *place = json_array_get(places_of(out->answer), 0);
    const json_t *today = json_object_get(place, "top_logprobs");
    if (st == BNT_OK && s->ids_by == HTTP_IDS_CONTENT && !place) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "%.300s tells nothing of a token that ends within a character", s->url);
    }
    return st == BNT_OK ? read_row(s, today ? today : json_object_get(place, "probs"), out, err)
                        : st;
}

/* ---- what is not in a row ---- */

static double mass_of(const struct bnt_row *row)
{
    double mass = 0;
    for (size_t i = 0; i < row->n; i++) {
        mass += fm_exp(row->at[i].logprob);
    }
    return mass;
}

/* By what the probabilities of a row are too small when what is not in it counts twice. */
static double shortfall(double mass)
{
    return fm_log(2 / (1 + mass));
}

/* Two rows of different length for one prompt: the best token must be as likely in both, as it
 * stands or with what is missing. Where the second best is too unlikely to tell, another prompt
 * will. */
static enum bnt_status find_rest(struct http_subject *s, const struct bnt_subject_request *r,
                                 struct bnt_err *err)
{
    struct bnt_row one, two;
    bnt_row_init(&one);
    bnt_row_init(&two);
    enum bnt_status st = ask_row(s, r, 1, &one, err);
    st = st == BNT_OK ? ask_row(s, r, 2, &two, err) : st;
    if (st == BNT_OK && one.n == 1 && two.n == 2) {
        const double told = one.at[0].logprob - two.at[0].logprob;
        const double meant = told + shortfall(mass_of(&one)) - shortfall(mass_of(&two));
        if (fabs(told) > 1e-4 && fabs(meant) < fabs(told) / 10) {
            s->rest = HTTP_REST_TWICE;
        } else if (fabs(told) < 1e-5 && fabs(meant) > 1e-4) {
            s->rest = HTTP_REST_ONCE;
        }
    }
    bnt_row_release(&one);
    bnt_row_release(&two);
    return st;
}

static void add_shortfall(struct bnt_row *row)
{
    const double missing = shortfall(mass_of(row));
    for (size_t i = 0; i < row->n; i++) {
        row->at[i].logprob += missing;
    }
}

enum bnt_status subject_llama_row(struct http_subject *s, const struct bnt_subject_request *r,
                                  uint32_t at, struct bnt_row *out, struct bnt_err *err)
{
    if (at > 0) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "a llama-server is asked for a place by the ids before it");
    }
    enum bnt_status st = ask_row(s, r, r->n_logprobs, out, err);
    if (st == BNT_OK && s->ids_by == HTTP_IDS_CONTENT && s->rest == HTTP_REST_UNKNOWN &&
        !out->whole) {
        st = find_rest(s, r, err);
    }
    if (st == BNT_OK && s->rest == HTTP_REST_TWICE && !out->whole && !BNT_FAULT(http_rest)) {
        add_shortfall(out);
    }
    return st;
}
