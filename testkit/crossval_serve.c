/* The other side of the command protocol: a subject answers lines. A question that fails is
 * answered by an error, and the next one is read. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/json_load.h"
#include "base/utf8.h"
#include "engine/quality.h"
#include "testkit/crossval.h"
#include "testkit/scoring.h"

struct serving {
    struct bnt_subject *subject;
    struct bnt_subject_facts facts;
    const struct crossval_lines *lines;
    struct bnt_err failed; /* of writing, within a callback */
};

/* The answer is taken. Nine digits tell every float apart. */
static enum bnt_status answer(struct serving *s, json_t *value, struct bnt_err *err)
{
    char *text = value ? bnt_json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(value);
    if (!text) {
        return bnt_err_nomem(err, "an answer", 0);
    }
    enum bnt_status st = s->lines->write(s->lines->ctx, text, strlen(text), err);
    free(text);
    return st == BNT_OK ? s->lines->write(s->lines->ctx, "\n", 1, err) : st;
}

static json_t *float_list(const float *at, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < n; i++) {
        json_array_append_new(list, json_real((double)at[i]));
    }
    return list;
}

static enum bnt_status read_ids(const json_t *question, struct bnt_ids *out, struct bnt_err *err)
{
    const json_t *list = json_object_get(question, "ids");
    enum bnt_status st = json_array_size(list) > 0
                             ? BNT_OK
                             : bnt_err_set(err, BNT_E_USAGE, "a question without \"ids\"");
    for (size_t i = 0; st == BNT_OK && i < json_array_size(list); i++) {
        const json_t *value = json_array_get(list, i);
        const json_int_t id = json_integer_value(value);
        st = json_is_integer(value) && id >= 0 && id <= INT32_MAX
                 ? bnt_ids_push(out, (int32_t)id, err)
                 : bnt_err_set(err, BNT_E_USAGE, "\"ids\" holds what is no id");
    }
    return st;
}

/* ---- the questions ---- */

static enum bnt_status describe(struct serving *s, const json_t *question, struct bnt_err *err)
{
    static const struct {
        unsigned can;
        const char *word;
    } words[] = {{BNT_CAN_TOKENIZE, "tokenize"},
                 {BNT_CAN_EVALUATE, "logits"},
                 {BNT_CAN_IDS, "generate"},
                 {BNT_CAN_TAPS, "taps"},
                 {BNT_CAN_SCORE, "score"}};
    json_t *can = json_array();
    (void)question;
    for (size_t i = 0; can && i < sizeof words / sizeof words[0]; i++) {
        if (s->facts.can & words[i].can) {
            json_array_append_new(can, json_string(words[i].word));
        }
    }
    return answer(s,
                  json_pack("{s:s, s:s, s:I, s:I, s:o}", "engine", "bnt", "name", s->facts.name,
                            "n_vocab", (json_int_t)s->facts.n_vocab, "n_ctx",
                            (json_int_t)s->facts.n_ctx, "can", can),
                  err);
}

static enum bnt_status tokenize(struct serving *s, const json_t *question, struct bnt_err *err)
{
    const json_t *text = json_object_get(question, "text");
    const bool plain = json_is_false(json_object_get(question, "parse_special"));
    const bool bare = json_is_false(json_object_get(question, "add_special"));
    const unsigned flags =
        (bare ? 0 : BNT_ENCODE_ADD_SPECIAL) | (plain ? 0 : BNT_ENCODE_PARSE_SPECIAL);
    struct bnt_ids ids = {0};
    if (!json_is_string(text)) {
        return bnt_err_set(err, BNT_E_USAGE, "a question without \"text\"");
    }
    enum bnt_status st = bnt_subject_tokenize(s->subject, json_string_value(text),
                                              json_string_length(text), flags, &ids, err);
    if (st == BNT_OK) {
        st = answer(s, json_pack("{s:o}", "ids", bnt_json_ids(ids.at, ids.n)), err);
    }
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status pass_logits(void *ctx, size_t index, const float *logits,
                                   struct bnt_err *err)
{
    struct serving *s = ctx;
    return answer(s,
                  json_pack("{s:I, s:o}", "index", (json_int_t)index, "logits",
                            float_list(logits, s->facts.n_vocab)),
                  err);
}

static enum bnt_status logits(struct serving *s, const json_t *question, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    enum bnt_status st = read_ids(question, &ids, err);
    if (st == BNT_OK) {
        st = bnt_subject_evaluate(s->subject, ids.at, ids.n, pass_logits, s, err);
    }
    bnt_ids_release(&ids);
    return st;
}

/* A text that is no UTF-8, cut within a character, is told up to there. */
static enum bnt_status tell_made(struct serving *s, const struct bnt_generation *g,
                                 struct bnt_err *err)
{
    const char *text = bnt_buf_view(&g->text);
    return answer(s,
                  json_pack("{s:o, s:s%, s:s, s:f, s:f}", "ids", bnt_json_ids(g->ids.at, g->ids.n),
                            "text", text, bnt_utf8_valid(text, g->text.len), "finish",
                            bnt_finish_name(g->finish), "prefill_seconds",
                            (double)g->times.first_token_ns * 1e-9, "decode_seconds",
                            (double)(g->times.total_ns - g->times.first_token_ns) * 1e-9),
                  err);
}

static enum bnt_status generate(struct serving *s, const json_t *question, struct bnt_err *err)
{
    const json_int_t n = json_integer_value(json_object_get(question, "max_tokens"));
    struct bnt_ids ids = {0};
    struct bnt_subject_answer a;
    bnt_subject_answer_init(&a);
    enum bnt_status st = read_ids(question, &ids, err);
    if (st == BNT_OK && (n < 1 || n > INT32_MAX)) {
        st = bnt_err_set(err, BNT_E_USAGE, "a question without \"max_tokens\"");
    }
    if (st == BNT_OK) {
        const struct bnt_subject_request r = {
            .ids = ids.at, .n_ids = ids.n, .max_tokens = (uint32_t)n};
        st = bnt_subject_generate(s->subject, &r, &a, err);
    }
    if (st == BNT_OK) {
        st = tell_made(s, &a.made, err);
    }
    bnt_subject_answer_release(&a);
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status score(struct serving *s, const json_t *question, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    double sum = 0;
    enum bnt_status st = read_ids(question, &ids, err);
    if (st == BNT_OK) {
        st = bnt_subject_score(s->subject, ids.at, ids.n, &sum, err);
    }
    if (st == BNT_OK) {
        st = answer(s, json_pack("{s:f}", "sum", sum), err);
    }
    bnt_ids_release(&ids);
    return st;
}

static void pass_row(void *ctx, const struct bnt_tap_row *row)
{
    struct serving *s = ctx;
    json_t *value =
        json_pack("{s:s, s:i, s:I, s:o}", "tap", bnt_tap_name(row->op), "layer", (int)row->layer,
                  "position", (json_int_t)row->position, "values", float_list(row->values, row->n));
    if (s->failed.status == BNT_OK) {
        (void)answer(s, value, &s->failed);
    } else {
        json_decref(value);
    }
}

static enum bnt_status taps(struct serving *s, const json_t *question, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    const struct bnt_tap tap = {pass_row, s};
    enum bnt_status st = read_ids(question, &ids, err);
    if (st == BNT_OK) {
        st = bnt_subject_taps(s->subject, ids.at, ids.n, &tap, err);
    }
    if (st == BNT_OK) {
        st = s->failed.status ? bnt_err_copy(err, &s->failed)
                              : answer(s, json_pack("{s:b}", "done", 1), err);
    }
    bnt_ids_release(&ids);
    return st;
}

/* ---- the loop ---- */

static enum bnt_status reply(struct serving *s, const json_t *question, struct bnt_err *err)
{
    static const struct {
        const char *word;
        enum bnt_status (*reply)(struct serving *s, const json_t *question, struct bnt_err *err);
    } words[] = {{"describe", describe}, {"tokenize", tokenize}, {"logits", logits},
                 {"generate", generate}, {"score", score},       {"taps", taps}};
    const char *word = json_string_value(json_object_get(question, "ask"));
    for (size_t i = 0; word && i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(word, words[i].word) == 0) {
            return words[i].reply(s, question, err);
        }
    }
    return bnt_err_set(err, BNT_E_USAGE, "a line that asks nothing that is known here");
}

enum bnt_status crossval_serve(struct bnt_subject *subject, const struct crossval_lines *lines,
                               struct bnt_err *err)
{
    struct serving s = {.subject = subject, .facts = bnt_subject_describe(subject), .lines = lines};
    struct bnt_buf line = BNT_BUF(64u << 20);
    bool end = false;
    enum bnt_status st = BNT_OK;
    for (unsigned long long n = 1; st == BNT_OK; n++) {
        bnt_buf_reset(&line);
        st = lines->read(lines->ctx, &line, &end, err);
        if (st != BNT_OK) {
            (void)bnt_err_context(err, "question %llu", n);
        }
        if (st != BNT_OK || end) {
            break;
        }
        struct bnt_err why = {0};
        json_t *question = json_loadb(bnt_buf_view(&line), line.len, JSON_ALLOW_NUL, NULL);
        if (reply(&s, question, &why) != BNT_OK) {
            st = answer(&s, json_pack("{s:s}", "error", why.msg), err);
        }
        json_decref(question);
    }
    bnt_buf_release(&line);
    return st;
}
