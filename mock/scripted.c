/* Scripted answers: lists as the file gives them, checked when it is opened. */
#include "mock/scripted.h"

#include <jansson.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/json_load.h"
#include "base/pattern.h"

enum { PLACE_BYTES = 96, FORMAT_VERSION = 1 };

struct answer {
    const char *prompt, *pattern; /* NULL: none; the text is the document's */
    regex_t regex;                /* of pattern */
    bool compiled;
    json_t *prompt_ids, *ids, *pieces, *logits, *logprobs; /* lists, or NULL */
    enum bnt_finish finish;
    enum bnt_status status; /* of "error"; OK: none */
    const char *message;
};

struct bnt_scripted {
    json_t *doc;
    const char *name;
    uint32_t n_vocab, n_ctx;
    struct answer *answers;
    size_t n;
};

/* ---- reading ---- */

struct reading {
    const char *path;
    struct bnt_scripted *s;
    char place[PLACE_BYTES]; /* "answers[2]" */
    struct bnt_err *err;
};

static enum bnt_status wrong(const struct reading *r, const char *key, const char *what)
{
    bnt_err_hint(r->err, "docs/mock.md describes the format");
    return bnt_err_set(r->err, BNT_E_FILE, "%s: %s%s%s %s", r->path, r->place,
                       r->place[0] && key[0] ? "." : "", key, what);
}

static enum bnt_status take_text(const struct reading *r, const json_t *o, const char *key,
                                 const char **out)
{
    const json_t *v = json_object_get(o, key);
    *out = json_string_value(v);
    return !v || *out ? BNT_OK : wrong(r, key, "is no text");
}

static enum bnt_status take_count(const struct reading *r, const json_t *o, const char *key,
                                  uint32_t *out)
{
    const json_t *v = json_object_get(o, key);
    json_int_t n = json_integer_value(v);
    *out = (uint32_t)n;
    return !v || (json_is_integer(v) && n > 0 && n <= 1 << 30) ? BNT_OK
                                                               : wrong(r, key, "is no count");
}

static bool is_id(const struct reading *r, const json_t *v)
{
    json_int_t id = json_integer_value(v);
    json_int_t limit = r->s->n_vocab ? (json_int_t)r->s->n_vocab : INT32_MAX;
    return json_is_integer(v) && id >= 0 && id < limit;
}

static bool is_number(const struct reading *r, const json_t *v)
{
    (void)r;
    return json_is_number(v);
}

static bool is_text(const struct reading *r, const json_t *v)
{
    (void)r;
    return json_is_string(v);
}

static bool is_row(const struct reading *r, const json_t *v)
{
    bool ok = json_is_array(v) && r->s->n_vocab && json_array_size(v) == r->s->n_vocab;
    for (size_t i = 0; ok && i < json_array_size(v); i++) {
        ok = json_is_number(json_array_get(v, i));
    }
    return ok;
}

struct list_rule {
    const char *key;
    json_t **out;
    bool (*fits)(const struct reading *r, const json_t *v);
    const char *what;
};

static enum bnt_status take_list(const struct reading *r, json_t *o, const struct list_rule *rule)
{
    json_t *v = json_object_get(o, rule->key);
    *rule->out = v;
    if (v && !json_is_array(v)) {
        return wrong(r, rule->key, "is no list");
    }
    for (size_t i = 0; i < json_array_size(v); i++) {
        if (!rule->fits(r, json_array_get(v, i))) {
            char key[48];
            snprintf(key, sizeof key, "%s[%zu]", rule->key, i);
            return wrong(r, key, rule->what);
        }
    }
    return BNT_OK;
}

/* Keys that nobody reads are mistakes of spelling. */
static enum bnt_status known_keys(const struct reading *r, json_t *o, const char *const *keys)
{
    const char *key;
    json_t *value;
    json_object_foreach(o, key, value)
    {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key) != 0) {
            i++;
        }
        if (!keys[i]) {
            return wrong(r, key, "is not known");
        }
    }
    return BNT_OK;
}

static enum bnt_status take_finish(const struct reading *r, const json_t *o, struct answer *a)
{
    const char *name = NULL;
    enum bnt_status st = take_text(r, o, "finish", &name);
    a->finish = BNT_FINISH_STOP;
    if (st != BNT_OK || !name) {
        return st;
    }
    for (int f = BNT_FINISH_STOP; f <= BNT_FINISH_CONTEXT; f++) {
        if (strcmp(bnt_finish_name((enum bnt_finish)f), name) == 0) {
            a->finish = (enum bnt_finish)f;
            return BNT_OK;
        }
    }
    return wrong(r, "finish", "is none of stop, length, context");
}

static enum bnt_status take_error(struct reading *r, const json_t *o, struct answer *a)
{
    static const char *const keys[] = {"status", "message", NULL};
    json_t *e = json_object_get(o, "error");
    if (!e) {
        return BNT_OK;
    }
    json_int_t status = json_integer_value(json_object_get(e, "status"));
    if (!json_is_object(e) || status <= 0 || status > 255) {
        return wrong(r, "error.status", "is no exit code from 1 to 255");
    }
    a->status = (enum bnt_status)status;
    enum bnt_status st = take_text(r, e, "message", &a->message);
    a->message = a->message ? a->message : "scripted failure";
    return st == BNT_OK ? known_keys(r, e, keys) : st;
}

static enum bnt_status take_pattern(struct reading *r, const json_t *o, struct answer *a)
{
    enum bnt_status st = take_text(r, o, "matches", &a->pattern);
    if (st != BNT_OK || !a->pattern) {
        return st;
    }
    a->compiled = bnt_pattern_compile(&a->regex, a->pattern, NULL) == BNT_OK;
    return a->compiled ? BNT_OK : wrong(r, "matches", "is no regular expression");
}

/* Lists that go together have one length. */
static enum bnt_status check_lengths(const struct reading *r, const struct answer *a)
{
    size_t n = json_array_size(a->ids);
    if (a->ids && a->pieces && json_array_size(a->pieces) != n) {
        return wrong(r, "pieces", "are not as many as ids");
    }
    if (a->logprobs && json_array_size(a->logprobs) != n) {
        return wrong(r, "logprobs", "are not as many as ids");
    }
    if (a->logits && json_array_size(a->logits) != json_array_size(a->prompt_ids)) {
        return wrong(r, "logits", "are not one row for each of prompt_ids");
    }
    return BNT_OK;
}

/* "text" is one piece, which cannot be cut. */
static enum bnt_status take_pieces(const struct reading *r, json_t *o, struct answer *a)
{
    const char *text = NULL;
    enum bnt_status st = take_text(r, o, "text", &text);
    if (st != BNT_OK || !text) {
        return st;
    }
    if (a->pieces) {
        return wrong(r, "text", "and pieces exclude each other");
    }
    a->pieces = json_pack("[s]", text);
    if (!a->pieces || json_object_set_new(o, "pieces", a->pieces) != 0) {
        return bnt_err_nomem(r->err, "an answer", strlen(text));
    }
    return json_array_size(a->ids) > 1
               ? wrong(r, "text", "with several ids cannot be cut: give pieces, one for each")
               : BNT_OK;
}

static enum bnt_status take_answer(struct reading *r, json_t *o, struct answer *a)
{
    static const char *const keys[] = {"prompt", "matches", "prompt_ids", "ids",   "pieces", "text",
                                       "finish", "logits",  "logprobs",   "error", NULL};
    const struct list_rule lists[] = {
        {"prompt_ids", &a->prompt_ids, is_id, "is no id of the vocabulary"},
        {"ids", &a->ids, is_id, "is no id of the vocabulary"},
        {"pieces", &a->pieces, is_text, "is no text"},
        {"logits", &a->logits, is_row, "is no row of n_vocab numbers"},
        {"logprobs", &a->logprobs, is_number, "is no number"},
    };
    if (!json_is_object(o)) {
        return wrong(r, "", "is no object");
    }
    enum bnt_status st = known_keys(r, o, keys);
    if (st == BNT_OK) {
        st = take_text(r, o, "prompt", &a->prompt);
    }
    if (st == BNT_OK) {
        st = take_pattern(r, o, a);
    }
    for (size_t i = 0; st == BNT_OK && i < sizeof lists / sizeof lists[0]; i++) {
        st = take_list(r, o, &lists[i]);
    }
    if (st == BNT_OK) {
        st = take_pieces(r, o, a);
    }
    if (st == BNT_OK) {
        st = take_finish(r, o, a);
    }
    if (st == BNT_OK) {
        st = take_error(r, o, a);
    }
    return st == BNT_OK ? check_lengths(r, a) : st;
}

static enum bnt_status take_answers(struct reading *r)
{
    json_t *list = json_object_get(r->s->doc, "answers");
    if (!json_is_array(list) || json_array_size(list) == 0) {
        return wrong(r, "answers", "is no list of answers");
    }
    r->s->answers = calloc(json_array_size(list), sizeof *r->s->answers);
    if (!r->s->answers) {
        return bnt_err_nomem(r->err, "answers", json_array_size(list));
    }
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && r->s->n < json_array_size(list)) {
        size_t i = r->s->n++;
        snprintf(r->place, sizeof r->place, "answers[%zu]", i);
        st = take_answer(r, json_array_get(list, i), &r->s->answers[i]);
    }
    return st;
}

static enum bnt_status take_document(struct reading *r)
{
    static const char *const keys[] = {"bnt_scripted", "name", "n_vocab", "n_ctx", "answers", NULL};
    struct bnt_scripted *s = r->s;
    json_int_t version = json_integer_value(json_object_get(s->doc, "bnt_scripted"));
    if (version != FORMAT_VERSION) {
        return wrong(r, "bnt_scripted", "is not 1: this is no file of scripted answers");
    }
    enum bnt_status st = known_keys(r, s->doc, keys);
    if (st == BNT_OK) {
        st = take_text(r, s->doc, "name", &s->name);
    }
    if (st == BNT_OK) {
        st = take_count(r, s->doc, "n_vocab", &s->n_vocab);
    }
    if (st == BNT_OK) {
        st = take_count(r, s->doc, "n_ctx", &s->n_ctx);
    }
    return st == BNT_OK ? take_answers(r) : st;
}

enum bnt_status bnt_scripted_open(const char *path, struct bnt_scripted **out, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(BNT_SCRIPTED_MAX_BYTES);
    json_error_t e;
    *out = NULL;
    enum bnt_status st = bnt_file_read(path, &text, err);
    struct bnt_scripted *s = calloc(1, sizeof *s);
    if (st == BNT_OK && !s) {
        st = bnt_err_nomem(err, "scripted answers", sizeof *s);
    }
    if (st == BNT_OK) {
        s->doc = bnt_json_load(bnt_buf_view(&text), text.len, JSON_REJECT_DUPLICATES, &e);
        struct reading r = {.path = path, .s = s, .err = err};
        st = json_is_object(s->doc)
                 ? take_document(&r)
                 : bnt_err_set(err, BNT_E_FILE, "%s:%d: %s", path, s->doc ? 1 : e.line,
                               s->doc ? "no JSON object" : e.text);
    }
    bnt_buf_release(&text);
    if (st != BNT_OK) {
        bnt_scripted_close(s);
        return st;
    }
    *out = s;
    return BNT_OK;
}

void bnt_scripted_close(struct bnt_scripted *s)
{
    if (!s) {
        return;
    }
    for (size_t i = 0; i < s->n; i++) {
        if (s->answers[i].compiled) {
            regfree(&s->answers[i].regex);
        }
    }
    free(s->answers);
    json_decref(s->doc);
    free(s);
}

/* ---- facts ---- */

const char *bnt_scripted_name(const struct bnt_scripted *s)
{
    return s->name ? s->name : "";
}

uint32_t bnt_scripted_n_vocab(const struct bnt_scripted *s)
{
    return s->n_vocab;
}

uint32_t bnt_scripted_n_ctx(const struct bnt_scripted *s)
{
    return s->n_ctx;
}

bool bnt_scripted_has_ids(const struct bnt_scripted *s)
{
    bool has = false;
    for (size_t i = 0; i < s->n; i++) {
        has = has || s->answers[i].prompt_ids;
    }
    return has;
}

bool bnt_scripted_has_logits(const struct bnt_scripted *s)
{
    bool has = false;
    for (size_t i = 0; i < s->n; i++) {
        has = has || s->answers[i].logits;
    }
    return has;
}

bool bnt_scripted_has_logprobs(const struct bnt_scripted *s)
{
    bool has = false;
    for (size_t i = 0; i < s->n; i++) {
        has = has || s->answers[i].logprobs;
    }
    return has;
}

/* ---- answers ---- */

static int32_t id_at(const json_t *list, size_t i)
{
    return (int32_t)json_integer_value(json_array_get(list, i));
}

static bool has_ids(const struct answer *a, const int32_t *ids, size_t n)
{
    bool same = a->prompt_ids && json_array_size(a->prompt_ids) == n;
    for (size_t i = 0; same && i < n; i++) {
        same = id_at(a->prompt_ids, i) == ids[i];
    }
    return same;
}

static bool fits(const struct answer *a, const struct bnt_scripted_prompt *p, const char *text)
{
    if (!a->prompt && !a->pattern && !a->prompt_ids) {
        return true;
    }
    if (!p->text) {
        return has_ids(a, p->ids, p->n_ids);
    }
    if (a->prompt) {
        return strlen(a->prompt) == p->len &&
               (BNT_FAULT(scripted_prompt) || memcmp(a->prompt, p->text, p->len) == 0);
    }
    return a->pattern && regexec(&a->regex, text, 0, NULL, 0) == 0;
}

/* The answer for a prompt, or why there is none. */
static enum bnt_status find(const struct bnt_scripted *s, const struct bnt_scripted_prompt *p,
                            const struct answer **out, struct bnt_err *err)
{
    char *text = p->text ? strndup(p->text, p->len) : NULL;
    if (p->text && !text) {
        return bnt_err_nomem(err, "a prompt", p->len);
    }
    *out = NULL;
    for (size_t i = 0; !*out && i < s->n; i++) {
        *out = fits(&s->answers[i], p, text) ? &s->answers[i] : NULL;
    }
    enum bnt_status st = BNT_OK;
    if (!*out) {
        bnt_err_hint(err, "add an answer for it, or a last one without a prompt");
        st = text ? bnt_err_set(err, BNT_E_NOT_FOUND, "no scripted answer fits the prompt '%.80s'",
                                text)
                  : bnt_err_set(err, BNT_E_NOT_FOUND, "no scripted answer fits the %zu ids",
                                p->n_ids);
    } else if ((*out)->status != BNT_OK) {
        st = bnt_err_set(err, (*out)->status, "%s", (*out)->message);
    }
    free(text);
    return st;
}

enum bnt_status bnt_scripted_tokenize(const struct bnt_scripted *s, const char *text, size_t len,
                                      struct bnt_ids *out, struct bnt_err *err)
{
    const struct answer *a;
    struct bnt_scripted_prompt p = {.text = text, .len = len};
    enum bnt_status st = find(s, &p, &a, err);
    if (st == BNT_OK && !a->prompt_ids) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "the script has no prompt_ids for '%.*s'",
                         len > 80 ? 80 : (int)len, text);
    }
    for (size_t i = 0; st == BNT_OK && i < json_array_size(a->prompt_ids); i++) {
        st = bnt_ids_push(out, id_at(a->prompt_ids, i), err);
    }
    return st;
}

enum bnt_status bnt_scripted_evaluate(const struct bnt_scripted *s, const int32_t *ids, size_t n,
                                      bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    const struct answer *a;
    struct bnt_scripted_prompt p = {.ids = ids, .n_ids = n};
    enum bnt_status st = find(s, &p, &a, err);
    if (st == BNT_OK && !a->logits) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "the script has no logits for these %zu ids", n);
    }
    float *row = st == BNT_OK ? malloc(s->n_vocab * sizeof *row) : NULL;
    if (st == BNT_OK && !row) {
        st = bnt_err_nomem(err, "logits", s->n_vocab * sizeof *row);
    }
    for (size_t i = 0; st == BNT_OK && i < json_array_size(a->logits); i++) {
        const json_t *list = json_array_get(a->logits, i);
        for (uint32_t v = 0; v < s->n_vocab; v++) {
            row[v] = (float)json_number_value(json_array_get(list, v));
        }
        st = fn(ctx, i, row, err);
    }
    free(row);
    return st;
}

/* One answer on its way out. */
struct giving {
    const struct answer *a;
    const struct bnt_generate_params *p;
    struct bnt_generation *g;
    struct bnt_err *err;
};

/* Text that is final, to the result and to the caller. */
static enum bnt_status put_out(struct giving *v, const struct bnt_buf *text)
{
    enum bnt_status st =
        text->len ? bnt_buf_append(&v->g->text, text->data, text->len, v->err) : BNT_OK;
    return st == BNT_OK && text->len && v->p->on_text
               ? v->p->on_text(v->p->ctx, text->data, text->len, v->err)
               : st;
}

static enum bnt_status give_piece(struct giving *v, const char *piece)
{
    struct bnt_buf out = BNT_BUF(BNT_GENERATE_MAX_TEXT);
    enum bnt_status st = v->p->stop ? bnt_stop_push(v->p->stop, piece, strlen(piece), &out,
                                                    &v->g->stop_string, v->err)
                                    : bnt_buf_puts(&out, piece, v->err);
    if (st == BNT_OK) {
        st = put_out(v, &out);
    }
    bnt_buf_release(&out);
    return st;
}

static bool is_stop_id(const struct bnt_generate_params *p, int32_t id)
{
    bool is = false;
    for (size_t i = 0; i < p->n_stop_ids; i++) {
        is = is || p->stop_ids[i] == id;
    }
    return is;
}

static enum bnt_status reserve_logprobs(struct giving *v, size_t n)
{
    if (v->p->n_logprobs == 0) {
        return BNT_OK;
    }
    if (!v->a->logprobs) {
        return bnt_err_set(v->err, BNT_E_UNSUPPORTED, "the scripted answer has no logprobs");
    }
    v->g->logprob = calloc(n + 1, sizeof *v->g->logprob);
    return v->g->logprob ? BNT_OK : bnt_err_nomem(v->err, "log-probabilities", n);
}

/* Token i with its piece; *done: the generation ends here. */
static enum bnt_status give_token(struct giving *v, size_t i, bool *done)
{
    struct bnt_generation *g = v->g;
    enum bnt_status st = BNT_OK;
    if (v->a->ids) {
        int32_t id = id_at(v->a->ids, i);
        if (is_stop_id(v->p, id)) {
            g->stop_id = id;
            *done = true;
            return BNT_OK;
        }
        if (g->logprob) {
            g->logprob[g->ids.n] = (float)json_number_value(json_array_get(v->a->logprobs, i));
        }
        st = bnt_ids_push(&g->ids, id, v->err);
    }
    const char *piece = json_string_value(json_array_get(v->a->pieces, i));
    if (st == BNT_OK && piece) {
        st = give_piece(v, piece);
    }
    *done = g->stop_string >= 0;
    return st;
}

static enum bnt_status flush(struct giving *v)
{
    struct bnt_buf out = BNT_BUF(BNT_GENERATE_MAX_TEXT);
    enum bnt_status st =
        v->p->stop && v->g->stop_string < 0 ? bnt_stop_flush(v->p->stop, &out, v->err) : BNT_OK;
    if (st == BNT_OK) {
        st = put_out(v, &out);
    }
    bnt_buf_release(&out);
    return st;
}

enum bnt_status bnt_scripted_generate(const struct bnt_scripted *s,
                                      const struct bnt_scripted_prompt *prompt,
                                      const struct bnt_generate_params *p, struct bnt_generation *g,
                                      struct bnt_err *err)
{
    struct giving v = {.p = p, .g = g, .err = err};
    enum bnt_status st = find(s, prompt, &v.a, err);
    if (st != BNT_OK) {
        return st;
    }
    size_t n_pieces = json_array_size(v.a->pieces), n_ids = json_array_size(v.a->ids);
    size_t n = n_ids > n_pieces ? n_ids : n_pieces, i = 0;
    size_t most = p->max_tokens && p->max_tokens < n ? p->max_tokens : n;
    bool done = false;
    if (p->stop) {
        bnt_stop_reset(p->stop);
    }
    st = reserve_logprobs(&v, n);
    for (; st == BNT_OK && !done && i < most; i++) {
        st = give_token(&v, i, &done);
    }
    g->finish = done ? BNT_FINISH_STOP : most < n ? BNT_FINISH_LENGTH : v.a->finish;
    return st == BNT_OK ? flush(&v) : st;
}
