/* Answers of a reference in a file, written down and given again:
 *
 *     {"bnt_crossval": 1, "model": "...", "n_vocab": 2048,
 *      "greedy": [{"prompt": "Once", "prompt_ids": [1, 2], "greedy_ids": [3], "greedy_text": "...",
 *                  "steps": [{"top": [[3, 14.8], [9, 11.6]], "logsumexp": 14.9}, null]}],
 *      "score": {"text": "...", "ids": [1, 2, 3], "sum": -4.5}}
 *
 * Step i is what is likely after the prompt and the first i greedy ids; a value less logsumexp is a
 * log-probability. A step that the subject did not tell is null; "ids_end_early" is true where the
 * answer goes on behind its ids. Other records of greedy answers are read as far as they have these
 * members, "top5" in the place of "top", and also as a map from prompts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/file.h"
#include "base/json_load.h"
#include "base/utf8.h"
#include "engine/quality.h"
#include "testkit/crossval_impl.h"
#include "testkit/scoring.h"

#define RECORD_MAX_BYTES (1u << 30)
#define STEP_ENTRIES 64 /* of a row that is written down */

/* ---- reading ---- */

struct recorded_subject {
    struct bnt_subject base;
    char path[BNT_PATH_MAX];
    char name[256];
    json_t *root;
    json_t *greedy; /* a list */
    uint32_t n_vocab;
    unsigned can;
};

static struct recorded_subject *of(struct bnt_subject *s)
{
    return (struct recorded_subject *)s;
}

static void describe(const struct bnt_subject *s, struct bnt_subject_facts *out)
{
    const struct recorded_subject *r = (const struct recorded_subject *)s;
    out->kind = "recorded";
    out->name = r->name;
    out->place = r->path;
    out->n_vocab = r->n_vocab;
    out->can = r->can;
    out->remote = true;
}

/* How many of a list of ids begin ids[0..n-1]; SIZE_MAX when they do not. */
static size_t begins(const json_t *list, const int32_t *ids, size_t n)
{
    const size_t have = json_array_size(list);
    const size_t both = have < n ? have : n;
    for (size_t i = 0; i < both; i++) {
        if (json_integer_value(json_array_get(list, i)) != ids[i]) {
            return SIZE_MAX;
        }
    }
    return both;
}

/* The answer whose prompt and first ids these are; *step: how many of its ids. Of several it is
 * that with the longest prompt: one answer may begin as another's prompt does. */
static const json_t *find(const struct recorded_subject *s, const int32_t *ids, size_t n,
                          size_t *step)
{
    const json_t *found = NULL;
    for (size_t i = 0; i < json_array_size(s->greedy); i++) {
        const json_t *entry = json_array_get(s->greedy, i);
        const json_t *prompt = json_object_get(entry, "prompt_ids");
        const size_t len = json_array_size(prompt);
        if (len > n || (found && n - len >= *step) || begins(prompt, ids, n) != len ||
            begins(json_object_get(entry, "greedy_ids"), ids + len, n - len) != n - len) {
            continue;
        }
        *step = n - len;
        found = entry;
    }
    return found;
}

static enum bnt_status not_recorded(const struct recorded_subject *s, const char *what,
                                    struct bnt_err *err)
{
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "%.300s has no %s", s->path, what);
}

static enum bnt_status push_ids(const json_t *list, size_t most, struct bnt_ids *out,
                                struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < json_array_size(list) && i < most; i++) {
        st = bnt_ids_push(out, (int32_t)json_integer_value(json_array_get(list, i)), err);
    }
    return st;
}

static enum bnt_status tokenize(struct bnt_subject *s, const char *text, size_t len, unsigned flags,
                                struct bnt_ids *out, struct bnt_err *err)
{
    (void)flags;
    for (size_t i = 0; i < json_array_size(of(s)->greedy); i++) {
        const json_t *entry = json_array_get(of(s)->greedy, i);
        const json_t *prompt = json_object_get(entry, "prompt");
        if (json_string_length(prompt) == len &&
            memcmp(json_string_value(prompt), text, len) == 0) {
            return push_ids(json_object_get(entry, "prompt_ids"), SIZE_MAX, out, err);
        }
    }
    return not_recorded(of(s), "such prompt", err);
}

static enum bnt_status generate(struct bnt_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err)
{
    size_t step = 0;
    const json_t *entry = r->ids ? find(of(s), r->ids, r->n_ids, &step) : NULL;
    if (!entry || step > 0) {
        return not_recorded(of(s), "answer to this prompt", err);
    }
    const json_t *ids = json_object_get(entry, "greedy_ids");
    const json_t *text = json_object_get(entry, "greedy_text");
    const bool whole = json_array_size(ids) <= r->max_tokens;
    enum bnt_status st = push_ids(ids, r->max_tokens, &out->made.ids, err);
    out->ids_end_early = whole && json_is_true(json_object_get(entry, "ids_end_early"));
    out->made.finish = whole ? BNT_FINISH_STOP : BNT_FINISH_LENGTH;
    return st == BNT_OK && whole && !out->ids_end_early && json_is_string(text)
               ? bnt_buf_append(&out->made.text, json_string_value(text), json_string_length(text),
                                err)
               : st;
}

static enum bnt_status row(struct bnt_subject *s, const struct bnt_subject_request *r, uint32_t at,
                           struct bnt_row *out, struct bnt_err *err)
{
    size_t step = 0;
    const json_t *entry = r->ids && at == 0 ? find(of(s), r->ids, r->n_ids, &step) : NULL;
    const json_t *place = json_array_get(json_object_get(entry, "steps"), step);
    const json_t *top = json_object_get(place, "top");
    top = top ? top : json_object_get(place, "top5");
    const json_t *logsum = json_object_get(place, "logsumexp");
    if (json_array_size(top) == 0 || !json_is_number(logsum)) {
        return not_recorded(of(s), "row of this place", err);
    }
    out->at = calloc(json_array_size(top), sizeof *out->at);
    if (!out->at) {
        return bnt_err_nomem(err, "a row", json_array_size(top));
    }
    for (size_t i = 0; i < json_array_size(top); i++) {
        const json_t *pair = json_array_get(top, i);
        out->at[out->n++] = (struct bnt_row_entry){
            .id = (int32_t)json_integer_value(json_array_get(pair, 0)),
            .logprob = json_number_value(json_array_get(pair, 1)) - json_number_value(logsum)};
    }
    return BNT_OK;
}

static enum bnt_status score(struct bnt_subject *s, const int32_t *ids, size_t n, double *sum,
                             struct bnt_err *err)
{
    const json_t *kept = json_object_get(of(s)->root, "score");
    const json_t *list = json_object_get(kept, "ids");
    if (json_array_size(list) != n || begins(list, ids, n) != n) {
        return not_recorded(of(s), "score of this text", err);
    }
    *sum = json_number_value(json_object_get(kept, "sum"));
    return BNT_OK;
}

static void close_recorded(struct bnt_subject *s)
{
    json_decref(of(s)->greedy);
    json_decref(of(s)->root);
    free(s);
}

static const struct bnt_subject_ops ops = {
    .describe = describe,
    .tokenize = tokenize,
    .generate = generate,
    .row = row,
    .score = score,
    .close = close_recorded,
};

/* A map from prompts becomes a list. */
static enum bnt_status list_answers(struct recorded_subject *s, struct bnt_err *err)
{
    const char *prompt;
    json_t *entry, *list = json_object_get(s->root, "greedy");
    if (json_is_array(list)) {
        s->greedy = json_incref(list);
        return BNT_OK;
    }
    s->greedy = json_array();
    json_object_foreach(s->root, prompt, entry)
    {
        if (json_is_array(json_object_get(entry, "prompt_ids")) &&
            (json_object_set_new(entry, "prompt", json_string(prompt)) != 0 ||
             json_array_append(s->greedy, entry) != 0)) {
            return bnt_err_nomem(err, "a record", 0);
        }
    }
    return BNT_OK;
}

static bool are_ids(const json_t *list, uint32_t n_vocab)
{
    const json_int_t end = n_vocab ? (json_int_t)n_vocab : INT32_MAX;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_int_t id = json_integer_value(json_array_get(list, i));
        if (!json_is_integer(json_array_get(list, i)) || id < 0 || id >= end) {
            return false;
        }
    }
    return json_is_array(list);
}

/* Every row: pairs of an id and a number. */
static bool are_steps(const json_t *steps, uint32_t n_vocab)
{
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *place = json_array_get(steps, i);
        const json_t *top = json_object_get(place, "top");
        top = top ? top : json_object_get(place, "top5");
        for (size_t k = 0; k < json_array_size(top); k++) {
            const json_t *pair = json_array_get(top, k), *id = json_array_get(pair, 0);
            const json_int_t value = json_integer_value(id);
            if (!json_is_integer(id) || value < 0 || value > INT32_MAX ||
                (n_vocab && value >= (json_int_t)n_vocab) ||
                !json_is_number(json_array_get(pair, 1))) {
                return false;
            }
        }
    }
    return true;
}

static enum bnt_status check(struct recorded_subject *s, struct bnt_err *err)
{
    bool rows = false;
    for (size_t i = 0; i < json_array_size(s->greedy); i++) {
        const json_t *e = json_array_get(s->greedy, i);
        const json_t *steps = json_object_get(e, "steps");
        if (!json_is_string(json_object_get(e, "prompt")) ||
            !are_ids(json_object_get(e, "prompt_ids"), s->n_vocab) ||
            json_array_size(json_object_get(e, "prompt_ids")) == 0 ||
            !are_ids(json_object_get(e, "greedy_ids"), s->n_vocab) ||
            !are_steps(steps, s->n_vocab)) {
            return bnt_err_set(err, BNT_E_FILE,
                               "%.300s: greedy[%zu]: it has not a prompt, lists of ids and steps "
                               "of [id, value]",
                               s->path, i);
        }
        rows = rows || json_array_size(steps) > 0;
    }
    if (json_array_size(s->greedy) == 0) {
        return bnt_err_set(err, BNT_E_FILE, "%.300s: it has no recorded answers", s->path);
    }
    const json_t *kept = json_object_get(s->root, "score");
    const bool scored = are_ids(json_object_get(kept, "ids"), s->n_vocab) &&
                        json_is_number(json_object_get(kept, "sum"));
    s->can = BNT_CAN_TOKENIZE | BNT_CAN_GENERATE | BNT_CAN_IDS | (rows ? BNT_CAN_ROWS : 0) |
             (scored ? BNT_CAN_SCORE : 0);
    return BNT_OK;
}

static enum bnt_status load(struct recorded_subject *s, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(RECORD_MAX_BYTES);
    json_error_t why;
    enum bnt_status st = bnt_file_read(s->path, &text, err);
    if (st == BNT_OK) {
        s->root = json_loadb(bnt_buf_view(&text), text.len, JSON_ALLOW_NUL, &why);
        st = json_is_object(s->root)
                 ? BNT_OK
                 : bnt_err_set(err, BNT_E_FILE, "%.300s:%d: it is no JSON object: %.100s", s->path,
                               s->root ? 1 : why.line, s->root ? "" : why.text);
    }
    bnt_buf_release(&text);
    return st;
}

enum bnt_status crossval_open_recorded(const char *path, struct bnt_subject **out,
                                       struct bnt_err *err)
{
    struct recorded_subject *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) {
        return bnt_err_nomem(err, "a subject", sizeof *s);
    }
    s->base.ops = &ops;
    enum bnt_status st = bnt_path_format(s->path, err, "%s", path);
    if (st == BNT_OK) {
        st = load(s, err);
    }
    if (st == BNT_OK) {
        const char *name = json_string_value(json_object_get(s->root, "model"));
        const json_int_t n = json_integer_value(json_object_get(s->root, "n_vocab"));
        snprintf(s->name, sizeof s->name, "%s", name ? name : "");
        s->n_vocab = n > 0 && n <= INT32_MAX ? (uint32_t)n : 0;
        st = list_answers(s, err);
    }
    if (st == BNT_OK) {
        st = check(s, err);
    }
    if (st != BNT_OK) {
        close_recorded(&s->base);
        return st;
    }
    *out = &s->base;
    return BNT_OK;
}

size_t crossval_recorded_prompts(const struct bnt_subject *s, const char **prompts, size_t max)
{
    const struct recorded_subject *r = (const struct recorded_subject *)s;
    size_t n = 0;
    for (; n < max && n < json_array_size(r->greedy); n++) {
        prompts[n] = json_string_value(json_object_get(json_array_get(r->greedy, n), "prompt"));
    }
    return n;
}

const char *crossval_recorded_text(const struct bnt_subject *s)
{
    const struct recorded_subject *r = (const struct recorded_subject *)s;
    return json_string_value(json_object_get(json_object_get(r->root, "score"), "text"));
}

void crossval_recorded_fit(const struct bnt_subject *s, struct crossval_plan *plan)
{
    const struct recorded_subject *r = (const struct recorded_subject *)s;
    size_t longest = 1;
    for (size_t i = 0; i < json_array_size(r->greedy); i++) {
        const json_t *entry = json_array_get(r->greedy, i);
        const size_t n = json_array_size(json_object_get(entry, "greedy_ids"));
        longest = n > longest ? n : longest;
    }
    const size_t n_text =
        json_array_size(json_object_get(json_object_get(r->root, "score"), "ids"));
    plan->n_tokens = longest < plan->n_tokens ? (uint32_t)longest : plan->n_tokens;
    plan->n_text = n_text > 0 && n_text < plan->n_text ? (uint32_t)n_text : plan->n_text;
}

/* ---- writing ---- */

struct recording {
    struct bnt_subject *subject;
    struct bnt_subject_facts facts;
    const struct crossval_plan *plan;
    size_t from; /* first place that is written down */
    json_t *steps;
    struct crossval_recorded *counts;
};

static uint32_t entries_of(const struct recording *r)
{
    const uint32_t n = r->plan->n_best ? r->plan->n_best : STEP_ENTRIES;
    return r->facts.n_vocab && n > r->facts.n_vocab ? r->facts.n_vocab : n;
}

/* Of log-probabilities the sum of their exponentials is 1, its logarithm 0. */
static enum bnt_status keep_step(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct recording *r = ctx;
    const uint32_t n = entries_of(r);
    if (index < r->from) {
        return BNT_OK;
    }
    struct bnt_candidate *best = calloc((size_t)n + 1, sizeof *best);
    if (!best) {
        return bnt_err_nomem(err, "a row", n);
    }
    const size_t have = bnt_logprobs_top(logits, (int32_t)r->facts.n_vocab, n, best);
    json_t *top = json_array();
    for (size_t i = 0; i < have; i++) {
        json_array_append_new(top,
                              json_pack("[i, f]", (int)best[i].id, (double)logits[best[i].id]));
    }
    json_array_append_new(r->steps, json_pack("{s:o, s:f}", "top", top, "logsumexp",
                                              bnt_logsumexp(logits, (int32_t)r->facts.n_vocab)));
    free(best);
    r->counts->n_rows++;
    return BNT_OK;
}

static json_t *step_of_row(const struct bnt_row *row)
{
    json_t *top = json_array();
    for (size_t k = 0; k < row->n; k++) {
        if (row->at[k].id >= 0) {
            json_array_append_new(top, json_pack("[i, f]", (int)row->at[k].id, row->at[k].logprob));
        }
    }
    return json_pack("{s:o, s:f}", "top", top, "logsumexp", 0.0);
}

static enum bnt_status keep_rows(struct recording *r, const struct bnt_ids *ids,
                                 struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = r->from; st == BNT_OK && i < ids->n; i++) {
        const struct bnt_subject_request q = {.ids = ids->at,
                                              .n_ids = i + 1,
                                              .max_tokens = 1,
                                              .n_logprobs = entries_of(r),
                                              .interrupted = r->plan->interrupted};
        struct bnt_err why = {0};
        struct bnt_row row;
        bnt_row_init(&row);
        st = bnt_subject_row(r->subject, &q, 0, &row, &why);
        const bool offered = st == BNT_OK;
        st = offered || st == BNT_E_UNSUPPORTED ? BNT_OK : bnt_err_copy(err, &why);
        json_array_append_new(r->steps, offered ? step_of_row(&row) : json_null());
        r->counts->n_rows += offered;
        r->counts->not_offered += !offered && st == BNT_OK;
        bnt_row_release(&row);
    }
    return st;
}

/* The steps of an answer, NULL when the subject tells none. The last id has none after it. */
static enum bnt_status steps_of(struct recording *r, const struct bnt_subject_answer *a,
                                const struct bnt_ids *prompt, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < prompt->n + a->made.ids.n; i++) {
        st = bnt_ids_push(&ids, i < prompt->n ? prompt->at[i] : a->made.ids.at[i - prompt->n], err);
    }
    r->from = prompt->n - 1;
    if (st == BNT_OK && (r->facts.can & BNT_CAN_EVALUATE)) {
        st = bnt_subject_evaluate(r->subject, ids.at, ids.n, keep_step, r, err);
    } else if (st == BNT_OK && (r->facts.can & BNT_CAN_ROWS)) {
        st = keep_rows(r, &ids, err);
    }
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status record_prompt(struct recording *r, const char *prompt, json_t *list,
                                     struct bnt_err *err)
{
    const unsigned flags = BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL;
    struct bnt_ids ids = {0};
    struct bnt_subject_answer a;
    bnt_subject_answer_init(&a);
    r->steps = json_array();
    enum bnt_status st = bnt_subject_tokenize(r->subject, prompt, strlen(prompt), flags, &ids, err);
    if (st == BNT_OK) {
        const struct bnt_subject_request q = {.ids = ids.at,
                                              .n_ids = ids.n,
                                              .max_tokens = r->plan->n_tokens,
                                              .interrupted = r->plan->interrupted};
        st = bnt_subject_generate(r->subject, &q, &a, err);
    }
    if (st == BNT_OK) {
        st = steps_of(r, &a, &ids, err);
    }
    const char *text = bnt_buf_view(&a.made.text);
    r->counts->n_early += a.ids_end_early;
    json_array_append_new(list,
                          json_pack("{s:s, s:o, s:o, s:b, s:s%, s:O}", "prompt", prompt,
                                    "prompt_ids", bnt_json_ids(ids.at, ids.n), "greedy_ids",
                                    bnt_json_ids(a.made.ids.at, a.made.ids.n), "ids_end_early",
                                    (int)a.ids_end_early, "greedy_text", text,
                                    bnt_utf8_valid(text, a.made.text.len), "steps", r->steps));
    json_decref(r->steps);
    bnt_subject_answer_release(&a);
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status score_text(struct recording *r, json_t *root, struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    double sum = 0;
    enum bnt_status st = bnt_subject_tokenize(r->subject, r->plan->text, strlen(r->plan->text),
                                              BNT_ENCODE_ADD_SPECIAL, &ids, err);
    ids.n = ids.n < r->plan->n_text ? ids.n : r->plan->n_text;
    if (st == BNT_OK && ids.n < 2) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "the text has fewer than two tokens");
    }
    if (st == BNT_OK) {
        st = bnt_subject_score(r->subject, ids.at, ids.n, &sum, err);
    }
    if (st == BNT_OK) {
        json_object_set_new(root, "score",
                            json_pack("{s:s, s:o, s:f}", "text", r->plan->text, "ids",
                                      bnt_json_ids(ids.at, ids.n), "sum", sum));
    }
    bnt_ids_release(&ids);
    return st;
}

/* A record without a score is one, and says why. */
static enum bnt_status record_score(struct recording *r, json_t *root, struct bnt_err *err)
{
    struct bnt_err why = {0};
    const bool rows = (r->facts.can & BNT_CAN_ROWS) && r->facts.n_vocab > 0;
    enum bnt_status st = rows || (r->facts.can & (BNT_CAN_SCORE | BNT_CAN_EVALUATE))
                             ? score_text(r, root, &why)
                             : bnt_err_set(&why, BNT_E_UNSUPPORTED,
                                           "the subject does not tell how likely a text is");
    if (st == BNT_E_UNSUPPORTED) {
        snprintf(r->counts->no_score, sizeof r->counts->no_score, "%s", why.msg);
        return BNT_OK;
    }
    return st == BNT_OK ? BNT_OK : bnt_err_copy(err, &why);
}

static enum bnt_status write_record(const json_t *root, struct bnt_durable *file,
                                    struct bnt_err *err)
{
    char *text = bnt_json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(12));
    if (!text) {
        return bnt_err_nomem(err, "a record", 0);
    }
    enum bnt_status st = bnt_durable_write(file, text, strlen(text), err);
    st = st == BNT_OK ? bnt_durable_commit(file, 0644, err) : st;
    free(text);
    return st;
}

/* JSON holds no other texts, and what it does not hold would be missing. */
static enum bnt_status check_texts(const struct crossval_plan *plan, struct bnt_err *err)
{
    for (size_t i = 0; i <= plan->n_prompts; i++) {
        const char *text = i < plan->n_prompts ? plan->prompts[i] : plan->text;
        if (bnt_utf8_valid(text, strlen(text)) != strlen(text)) {
            return bnt_err_set(err, BNT_E_UNSUPPORTED,
                               "%s is no UTF-8, and a record cannot hold it",
                               i < plan->n_prompts ? "a prompt" : "the text");
        }
    }
    return BNT_OK;
}

enum bnt_status crossval_record(struct bnt_subject *subject, const struct crossval_plan *plan,
                                const char *path, struct crossval_recorded *out,
                                struct bnt_err *err)
{
    struct recording r = {
        .subject = subject, .facts = bnt_subject_describe(subject), .plan = plan, .counts = out};
    *out = (struct crossval_recorded){0};
    const unsigned needed = BNT_CAN_TOKENIZE | BNT_CAN_GENERATE | BNT_CAN_IDS;
    if ((r.facts.can & needed) != needed) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "%.300s does not tell ids: its answers cannot be recorded",
                           r.facts.place);
    }
    struct bnt_durable file = {.fd = -1};
    enum bnt_status st = check_texts(plan, err);
    st = st == BNT_OK ? bnt_durable_open(&file, path, err) : st;
    json_t *list = json_array();
    json_t *root =
        json_pack("{s:i, s:s, s:s, s:I, s:o}", "bnt_crossval", 1, "model", r.facts.name, "kind",
                  r.facts.kind, "n_vocab", (json_int_t)r.facts.n_vocab, "greedy", list);
    if (st == BNT_OK && !root) {
        st = bnt_err_nomem(err, "a record", 0);
    }
    for (size_t i = 0; st == BNT_OK && i < plan->n_prompts; i++) {
        st = record_prompt(&r, plan->prompts[i], list, err);
        st = st == BNT_OK ? bnt_err_interrupted(plan->interrupted, err) : st;
    }
    if (st == BNT_OK) {
        st = record_score(&r, root, err);
    }
    if (st == BNT_OK) {
        st = write_record(root, &file, err);
    }
    bnt_durable_release(&file);
    json_decref(root);
    return st;
}
