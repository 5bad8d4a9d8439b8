/* The subject behind an address: a question and its answer as JSON, what an error of the server
 * means, and which of the two protocols it speaks. */
#include "testkit/subject_http.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/json_load.h"
#include "base/utf8.h"
#include "engine/quality.h"
#include "fetch/ask.h"

#define TIMEOUT_MS 600000 /* as long as a test may take */
#define MAX_WAIT_S 60     /* between two attempts, for a server that is loading its model */
#define WORDS_MAX 200     /* of a server, in an error */

static const struct http_subject *of(const struct bnt_subject *s)
{
    return (const struct http_subject *)s;
}

/* ---- errors ---- */

enum bnt_status subject_http_bad(const struct http_subject *s, const char *path, const char *what,
                                 struct bnt_err *err)
{
    enum bnt_status st =
        bnt_err_set(err, BNT_E_INFERENCE, "%.300s%s: the answer cannot be: %s", s->url, path, what);
    bnt_err_hint(err, "is this a server of the OpenAI or the llama-server protocol?");
    return st;
}

/* What the server says of an error, in the three forms that are in use. NULL: nothing. */
static const char *words_of(const json_t *answer)
{
    const json_t *error = json_object_get(answer, "error");
    const json_t *places[] = {json_object_get(error, "message"), error,
                              json_object_get(answer, "message"),
                              json_object_get(answer, "detail")};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        if (json_is_string(places[i])) {
            return json_string_value(places[i]);
        }
    }
    return NULL;
}

/* The words go to a terminal, and some servers repeat the key that they did not like. */
static void clean_words(const struct http_subject *s, const json_t *answer, char out[WORDS_MAX])
{
    const char *words = words_of(answer);
    size_t n = 0;
    if (words && (s->key[0] == '\0' || !strstr(words, s->key))) {
        for (; n < WORDS_MAX - 1 && words[n]; n++) {
            out[n] = iscntrl((unsigned char)words[n]) ? ' ' : words[n];
        }
        n = words[n] ? bnt_utf8_valid(out, n) : n;
    }
    out[n] = '\0';
}

static enum bnt_status refused(const struct http_subject *s, const struct ask *a,
                               const json_t *answer, struct bnt_err *err)
{
    char words[WORDS_MAX];
    struct bnt_err why = {0};
    enum bnt_status st = ask_refused(a, &why);
    st = st == BNT_E_FAILED ? BNT_E_INFERENCE : st;
    clean_words(s, answer, words);
    bnt_err_set(err, st, "%s%s%s", why.msg, words[0] ? ": " : "", words);
    if (st == BNT_E_AUTH) {
        bnt_err_hint(err, "set BNT_API_KEY to a key that this server takes");
    } else if (a->code >= 300 && a->code < 400) {
        bnt_err_hint(err, "give the address that it leads to");
    } else if (why.hint[0]) {
        bnt_err_hint(err, "%s", why.hint);
    }
    return st;
}

/* ---- the exchange ---- */

/* {"events": [...]}, of lines "data: {...}"; others, like "data: [DONE]", say nothing. */
static json_t *read_events(const char *text, size_t len)
{
    static const char data[] = "data: {";
    const char *end = text + len;
    json_t *list = json_array();
    json_error_t why;
    while (list && text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        if ((size_t)(stop - text) >= sizeof data - 1 && !memcmp(text, data, sizeof data - 1)) {
            const char *object = text + sizeof data - 2;
            json_t *event = bnt_json_load(object, (size_t)(stop - object), JSON_ALLOW_NUL, &why);
            if (!event || json_array_append_new(list, event) != 0) {
                json_decref(list);
                list = NULL;
            }
        }
        text = newline ? newline + 1 : end;
    }
    return list ? json_pack("{s:o}", "events", list) : NULL;
}

/* One object counts as the only event where a server does not stream. */
static json_t *read_body(const struct ask *a, bool streams)
{
    const char *text = bnt_buf_view(&a->body);
    json_error_t why;
    if (streams && a->code == 200 && strncmp(text, "data:", 5) == 0) {
        return read_events(text, a->body.len);
    }
    json_t *answer = bnt_json_load(text, a->body.len, JSON_ALLOW_NUL, &why);
    return streams && a->code == 200 && json_is_object(answer)
               ? json_pack("{s:[o]}", "events", answer)
               : answer;
}

static enum bnt_status read_answer(const struct http_subject *s, const struct http_question *q,
                                   const struct ask *a, json_t **answer, struct bnt_err *err)
{
    *answer = read_body(a, q->streams);
    if (a->code != 200) {
        enum bnt_status st = refused(s, a, *answer, err);
        json_decref(*answer);
        *answer = NULL;
        return st;
    }
    if (!json_is_object(*answer)) {
        json_decref(*answer);
        *answer = NULL;
        return subject_http_bad(s, q->path, "it is no JSON object", err);
    }
    return BNT_OK;
}

enum bnt_status subject_http_ask(const struct http_subject *s, struct http_question q,
                                 json_t **answer, struct bnt_err *err)
{
    char url[HTTP_ADDRESS_MAX + 64];
    struct bnt_fetch_opts opts = {.max_attempts = q.once ? 1 : s->max_attempts,
                                  .max_wait_s = MAX_WAIT_S,
                                  .interrupted = s->interrupted};
    struct ask a = {.url = url,
                    .shown = url,
                    .token = s->key,
                    .accept = "application/json",
                    .timeout_ms = s->timeout_ms,
                    .body_max_bytes = q.answer_max_bytes,
                    .opts = &opts};
    if (q.streams) {
        json_object_set_new(q.body, "stream", json_true());
    }
    char *text = q.body ? bnt_json_dumps(q.body, JSON_COMPACT) : NULL;
    json_decref(q.body);
    *answer = NULL;
    if (q.posts && !text) {
        return bnt_err_nomem(err, "a request", 0);
    }
    a.json = text;
    snprintf(url, sizeof url, "%s%s", s->url, q.path);
    enum bnt_status st = ask(&a, err);
    if (st == BNT_OK) {
        st = read_answer(s, &q, &a, answer, err);
    }
    bnt_buf_release(&a.body);
    free(text);
    return st;
}

/* ---- values ---- */

bool subject_http_id(const struct http_subject *s, const json_t *value, int32_t *id)
{
    const json_int_t n = json_integer_value(value);
    const json_int_t end = s->n_vocab ? (json_int_t)s->n_vocab : INT32_MAX;
    if (!json_is_integer(value) || ((n < 0 || n >= end) && !BNT_FAULT(http_any_id))) {
        return false;
    }
    *id = (int32_t)n;
    return true;
}

enum bnt_status subject_http_ids(const struct http_subject *s, const char *path, const json_t *list,
                                 struct bnt_ids *out, struct bnt_err *err)
{
    enum bnt_status st =
        json_is_array(list) ? BNT_OK : subject_http_bad(s, path, "it has no list of tokens", err);
    for (size_t i = 0; st == BNT_OK && i < json_array_size(list); i++) {
        int32_t id = 0;
        st = subject_http_id(s, json_array_get(list, i), &id)
                 ? bnt_ids_push(out, id, err)
                 : subject_http_bad(s, path, "a token is no id of the vocabulary", err);
    }
    return st;
}

enum bnt_status subject_http_text(const struct http_subject *s, const char *path,
                                  const json_t *value, const struct bnt_subject_request *r,
                                  struct bnt_subject_answer *out, struct bnt_err *err)
{
    if (!json_is_string(value)) {
        return subject_http_bad(s, path, "it has no text", err);
    }
    const char *text = json_string_value(value);
    const size_t len = json_string_length(value);
    for (size_t i = 0; i < r->n_stop; i++) {
        if (memmem(text, len, r->stop[i], strlen(r->stop[i]))) {
            return subject_http_bad(s, path, "a stop string is in its text", err);
        }
    }
    return bnt_buf_append(&out->made.text, text, len, err);
}

uint32_t subject_http_count(const json_t *value)
{
    const json_int_t n = json_integer_value(value);
    return n > 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

json_t *subject_http_stops(const struct bnt_subject_request *r)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < r->n_stop; i++) {
        if (json_array_append_new(list, json_string(r->stop[i])) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

int subject_http_stop_index(const struct bnt_subject_request *r, const json_t *text)
{
    const char *word = json_string_value(text);
    for (size_t i = 0; word && i < r->n_stop; i++) {
        if (strcmp(r->stop[i], word) == 0) {
            return (int)i;
        }
    }
    return -1;
}

enum bnt_status subject_http_utf8(const char *text, size_t len, struct bnt_err *err)
{
    const size_t valid = bnt_utf8_valid(text, len);
    return valid == len
               ? BNT_OK
               : bnt_err_set(err, BNT_E_UNSUPPORTED,
                             "byte %zu of the text is no UTF-8: a server cannot be asked", valid);
}

/* ---- the table ---- */

static void describe(const struct bnt_subject *s, struct bnt_subject_facts *out)
{
    out->kind = "http";
    out->name = of(s)->name;
    out->place = of(s)->url;
    out->n_vocab = of(s)->n_vocab;
    out->n_ctx = of(s)->n_ctx;
    out->can = of(s)->can;
    out->remote = true;
}

static enum bnt_status tokenize(struct bnt_subject *s, const char *text, size_t len, unsigned flags,
                                struct bnt_ids *out, struct bnt_err *err)
{
    struct http_subject *h = (struct http_subject *)s;
    return h->protocol->tokenize(h, text, len, flags, out, err);
}

/* The parameters are held to the ranges of our own sampler: a server's reading of others is its
 * own. */
static enum bnt_status check_sampling(const struct bnt_subject_request *r, struct bnt_err *err)
{
    struct bnt_sampler_params p = r->sampling ? *r->sampling : bnt_sampler_defaults();
    p.n_bias = 0;
    return bnt_sampler_check(&p, 1, err);
}

static enum bnt_status check_request(const struct bnt_subject_request *r, struct bnt_err *err)
{
    enum bnt_status st = check_sampling(r, err);
    if (st == BNT_OK && r->prompt) {
        st = subject_http_utf8(r->prompt, r->prompt_len, err);
    }
    for (size_t i = 0; st == BNT_OK && i < r->n_stop; i++) {
        st = r->stop[i][0] ? subject_http_utf8(r->stop[i], strlen(r->stop[i]), err)
                           : bnt_err_set(err, BNT_E_USAGE, "a stop string is empty");
    }
    return st;
}

/* An interruption is no failure, as with bnt_generate: the answer is what came before it. */
static enum bnt_status generate(struct bnt_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err)
{
    struct http_subject *h = (struct http_subject *)s;
    struct bnt_err why = {0};
    enum bnt_status st = check_request(r, &why);
    const volatile sig_atomic_t *always = h->interrupted;
    h->interrupted = r->interrupted ? r->interrupted : always;
    if (st == BNT_OK) {
        st = h->protocol->generate(h, r, out, &why);
    }
    h->interrupted = always;
    if (st == BNT_E_INTERRUPTED) {
        out->made.finish = BNT_FINISH_INTERRUPTED;
        return BNT_OK;
    }
    return st == BNT_OK ? st : bnt_err_copy(err, &why);
}

static enum bnt_status row(struct bnt_subject *s, const struct bnt_subject_request *r, uint32_t at,
                           struct bnt_row *out, struct bnt_err *err)
{
    struct http_subject *h = (struct http_subject *)s;
    enum bnt_status st = check_request(r, err);
    const volatile sig_atomic_t *always = h->interrupted;
    h->interrupted = r->interrupted ? r->interrupted : always;
    if (st == BNT_OK) {
        st = h->protocol->row(h, r, at, out, err);
    }
    h->interrupted = always;
    return st;
}

/* The key does not stay in memory. */
static void close_http(struct bnt_subject *s)
{
    http_pieces_release(&((struct http_subject *)s)->pieces);
    explicit_bzero(((struct http_subject *)s)->key, HTTP_KEY_MAX);
    free(s);
}

static const struct bnt_subject_ops ops = {
    .describe = describe,
    .tokenize = tokenize,
    .generate = generate,
    .row = row,
    .close = close_http,
};

/* ---- opening ---- */

/* The address without "#MODEL", a slash at the end and /v1. An error does not show it: a password
 * may be in it. */
static enum bnt_status read_address(struct http_subject *s, const char *address,
                                    struct bnt_err *err)
{
    const char *host = strstr(address, "://") + 3;
    const char *model = strchr(address, '#');
    size_t n = model ? (size_t)(model - address) : strlen(address);
    while (n > 0 && address[n - 1] == '/') {
        n--;
    }
    if (n > 3 && strncmp(address + n - 3, "/v1", 3) == 0) {
        n -= 3;
    }
    const bool odd = memchr(address, '@', n) || memchr(address, '?', n);
    if (odd || address + n <= host || n >= sizeof s->url || strcspn(address, " \t\r\n\"<>\\") < n ||
        (model && strlen(model + 1) >= sizeof s->name)) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_USAGE,
                        "this is no address of a server: http://HOST[:PORT][/FOLDER][#MODEL]");
        bnt_err_hint(err, "a key for the server goes into BNT_API_KEY");
        return st;
    }
    memcpy(s->url, address, n);
    snprintf(s->name, sizeof s->name, "%s", model ? model + 1 : "");
    return BNT_OK;
}

static enum bnt_status read_key(struct http_subject *s, struct bnt_err *err)
{
    const char *key = getenv("BNT_API_KEY");
    if (!key) {
        return BNT_OK;
    }
    for (const char *c = key; *c; c++) {
        if (!isgraph((unsigned char)*c)) {
            return bnt_err_set(err, BNT_E_USAGE, "BNT_API_KEY has a character that no key has");
        }
    }
    if (strlen(key) >= sizeof s->key) {
        return bnt_err_set(err, BNT_E_USAGE, "BNT_API_KEY is too long");
    }
    memcpy(s->key, key, strlen(key) + 1);
    return BNT_OK;
}

static enum bnt_status detect(struct http_subject *s, struct bnt_err *err)
{
    bool is_llama = false;
    enum bnt_status st = subject_llama_detect(s, &is_llama, err);
    return st == BNT_OK && !is_llama ? subject_openai_detect(s, err) : st;
}

enum bnt_status bnt_subject_open_http(const char *address, const struct bnt_subject_options *opts,
                                      struct bnt_subject **out, struct bnt_err *err)
{
    struct http_subject *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) {
        return bnt_err_nomem(err, "a subject", sizeof *s);
    }
    s->base.ops = &ops;
    s->timeout_ms = opts && opts->http_timeout_ms ? opts->http_timeout_ms : TIMEOUT_MS;
    s->max_attempts = opts ? opts->http_max_attempts : 0;
    s->interrupted = opts ? opts->session.interrupted : NULL;
    enum bnt_status st = read_address(s, address, err);
    if (st == BNT_OK) {
        st = read_key(s, err);
    }
    if (st == BNT_OK) {
        st = detect(s, err);
    }
    if (st != BNT_OK) {
        close_http(&s->base);
        return st;
    }
    *out = &s->base;
    return BNT_OK;
}
