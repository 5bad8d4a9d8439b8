/* An answer against what was expected of it: one function per kind of expectation, each of which
 * says what came instead. All are asked, so that one run shows everything that is wrong. */
#include <math.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/fault.h"
#include "base/pattern.h"
#include "base/utf8.h"
#include "engine/cpu/fmath.h"
#include "engine/perplexity.h"
#include "engine/quality.h"
#include "engine/text_quality.h"
#include "testkit/scoring.h"
#include "testkit/user_suite.h"

#define SHOWN_BYTES 400 /* of an answer, in a report */
#define ROW_ENTRIES 20  /* that a server is asked for whose vocabulary is not known */

const struct user_expect user_expect_nothing = {
    .tokens = {NAN, NAN},
    .coherence = {NAN, NAN},
    .relevance = {NAN, NAN},
    .repetition = {NAN, NAN},
    .tokens_per_second = {NAN, NAN},
    .first_token_ms = {NAN, NAN},
    .memory_bytes = {NAN, NAN},
};

struct asking {
    const struct user_test *test;
    struct bnt_subject *subject;
    struct bnt_subject_answer answer;
    struct bnt_buf *report;
    size_t n_wrong;
    struct bnt_err *err; /* of the subject, when it fails */
};

/* ---- reporting ---- */

__attribute__((format(printf, 3, 4))) static void wrong(struct asking *a, const char *key,
                                                        const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    a->n_wrong++;
    (void)bnt_buf_printf(a->report, NULL, "%s: %s\n", key, line);
}

static void check_range(struct asking *a, const char *key, double value, const struct user_range *g)
{
    if (value < g->min || isnan(value)) {
        wrong(a, key, "%.6g, should be at least %.6g", value, g->min);
    } else if (value > g->max && !BNT_FAULT(user_range)) {
        wrong(a, key, "%.6g, should be at most %.6g", value, g->max);
    }
}

static bool asked(const struct user_range *g)
{
    return !isnan(g->min) || !isnan(g->max);
}

/* ---- ids and text ---- */

static const char *text_of(const struct asking *a)
{
    return bnt_buf_view(&a->answer.made.text);
}

/* Not up to the first NUL: an answer may have one. */
static size_t length_of(const struct asking *a)
{
    return a->answer.made.text.len;
}

static bool is_text(const struct asking *a, const char *text, size_t len)
{
    return length_of(a) == len && memcmp(text_of(a), text, len) == 0;
}

static bool has_part(const struct asking *a, const char *part)
{
    return memmem(text_of(a), length_of(a), part, strlen(part)) != NULL;
}

static void check_ids(struct asking *a, const char *key, const struct user_ids *want, bool all)
{
    const struct bnt_ids *got = &a->answer.made.ids;
    size_t i = 0;
    if (!want->at) {
        return;
    }
    while (i < want->n && i < got->n && want->at[i] == got->at[i]) {
        i++;
    }
    if (i < want->n && i < got->n) {
        wrong(a, key, "id %zu is %d, should be %d", i, got->at[i], want->at[i]);
    } else if (a->answer.ids_end_early && (all || i < want->n)) {
        wrong(a, key, "the subject tells only the first %zu ids of its answer", got->n);
    } else if (i < want->n || (all && got->n > want->n)) {
        wrong(a, key, "%zu ids came, should be %zu", got->n, want->n);
    }
}

static void check_text(struct asking *a)
{
    const struct user_expect *e = &a->test->expect;
    if (e->text && !is_text(a, e->text, strlen(e->text))) {
        wrong(a, "text", "is not \"%.300s\"", e->text);
    }
    if (e->begins && strncmp(text_of(a), e->begins, strlen(e->begins)) != 0) {
        wrong(a, "begins", "does not begin with \"%.300s\"", e->begins);
    }
}

static void check_parts(struct asking *a)
{
    const struct user_expect *e = &a->test->expect;
    bool any = e->contains_any.n == 0;
    for (size_t i = 0; i < e->contains.n; i++) {
        if (!has_part(a, e->contains.at[i]) && !BNT_FAULT(user_contains)) {
            wrong(a, "contains", "there is no \"%.300s\"", e->contains.at[i]);
        }
    }
    for (size_t i = 0; i < e->contains_any.n; i++) {
        any = any || has_part(a, e->contains_any.at[i]);
    }
    if (!any) {
        wrong(a, "contains_any", "none of the %zu texts is there", e->contains_any.n);
    }
    for (size_t i = 0; i < e->not_contains.n; i++) {
        if (has_part(a, e->not_contains.at[i])) {
            wrong(a, "not_contains", "there is \"%.300s\"", e->not_contains.at[i]);
        }
    }
}

static void check_patterns(struct asking *a, const char *key, const struct user_texts *t, bool want)
{
    for (size_t i = 0; i < t->n; i++) {
        regex_t regex;
        if (bnt_pattern_compile(&regex, t->at[i], NULL) != BNT_OK) {
            wrong(a, key, "out of memory"); /* the pattern was compiled when the file was read */
            return;
        }
        regmatch_t all = {0, (regoff_t)length_of(a)};
        const int rc = regexec(&regex, text_of(a), 1, &all, REG_STARTEND);
        if (rc != 0 && rc != REG_NOMATCH) {
            wrong(a, key, "out of memory: /%.300s/", t->at[i]);
        } else if ((rc == 0) != want) {
            wrong(a, key, "%s /%.300s/", want ? "does not match" : "matches", t->at[i]);
        }
        regfree(&regex);
    }
}

static void check_shape(struct asking *a)
{
    struct bnt_err why = {0};
    if (a->test->expect.json &&
        json_shape_check(a->test->expect.json, text_of(a), length_of(a), &why) != BNT_OK) {
        wrong(a, "json", "%s", why.msg);
    }
}

static void check_end(struct asking *a)
{
    const struct user_expect *e = &a->test->expect;
    const struct bnt_generation *g = &a->answer.made;
    struct bnt_err why = {0};
    if (e->finish && strcmp(bnt_finish_name(g->finish), e->finish) != 0) {
        wrong(a, "finish", "ended by %s, should be %s", bnt_finish_name(g->finish), e->finish);
    }
    if (asked(&e->tokens)) {
        check_range(a, "tokens", (double)g->ids.n, &e->tokens);
    }
    if (e->quality && bnt_quality_answer(g->ids.at, g->ids.n, text_of(a), g->text.len,
                                         g->finish != BNT_FINISH_STOP, &why) != BNT_OK) {
        wrong(a, "quality", "%s", why.msg);
    }
}

/* Figures of the words of the answer, which every subject gives. */
static enum bnt_status check_words(struct asking *a)
{
    const struct user_expect *e = &a->test->expect;
    const struct {
        const char *key;
        const struct user_range *range;
        size_t figure;
    } figures[] = {
        {"coherence", &e->coherence, offsetof(struct bnt_text_quality, coherence)},
        {"relevance", &e->relevance, offsetof(struct bnt_text_quality, relevance)},
        {"repetition", &e->repetition, offsetof(struct bnt_text_quality, repetition)},
    };
    const char *prompt = a->test->prompt ? a->test->prompt : "";
    struct bnt_text_quality q;
    enum bnt_status st =
        bnt_text_quality(text_of(a), length_of(a), prompt, strlen(prompt), &q, a->err);
    for (size_t i = 0; st == BNT_OK && i < sizeof figures / sizeof *figures; i++) {
        if (asked(figures[i].range)) {
            double value;
            memcpy(&value, (const char *)&q + figures[i].figure, sizeof value);
            check_range(a, figures[i].key, value, figures[i].range);
        }
    }
    return st;
}

static enum bnt_status cannot(struct asking *a, const char *what)
{
    const struct bnt_subject_facts f = bnt_subject_describe(a->subject);
    return bnt_err_set(a->err, BNT_E_UNSUPPORTED, "a subject of kind %s (%s) cannot %s", f.kind,
                       f.place, what);
}

/* ---- time and memory ---- */

static enum bnt_status check_cost(struct asking *a)
{
    const struct user_expect *e = &a->test->expect;
    const struct bnt_generation *g = &a->answer.made;
    const struct bnt_generate_times *t = &g->times;
    struct rusage usage;
    if ((asked(&e->tokens_per_second) && t->total_ns == 0) ||
        (asked(&e->first_token_ms) && t->first_token_ns == 0)) {
        return cannot(a, "tell how long it took");
    }
    if (asked(&e->tokens_per_second)) {
        double seconds = (double)(t->total_ns - t->first_token_ns) * 1e-9;
        check_range(a, "tokens_per_second",
                    g->ids.n > 1 && seconds > 0 ? (double)(g->ids.n - 1) / seconds : NAN,
                    &e->tokens_per_second);
    }
    if (asked(&e->first_token_ms)) {
        check_range(a, "first_token_ms", (double)t->first_token_ns * 1e-6, &e->first_token_ms);
    }
    if (asked(&e->memory_bytes) && getrusage(RUSAGE_SELF, &usage) == 0) {
        check_range(a, "memory", (double)usage.ru_maxrss * 1024, &e->memory_bytes);
    }
    return BNT_OK;
}

static struct bnt_subject_request request_of(const struct user_test *t)
{
    return (struct bnt_subject_request){
        .prompt = t->prompt,
        .prompt_len = t->prompt ? strlen(t->prompt) : 0,
        .ids = t->ids.at,
        .n_ids = t->ids.n,
        .max_tokens = t->max_tokens,
        .sampling = &t->sampling,
        .stop = t->stop.at,
        .n_stop = t->stop.n,
        .ignore_eos = t->ignore_eos,
    };
}

/* ---- log-probabilities ---- */

/* Log-probability of an id after the last of n. */
struct last_place {
    size_t n;
    int32_t n_vocab, id;
    double logprob;
};

static enum bnt_status read_last(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct last_place *l = ctx;
    (void)err;
    if (index + 1 == l->n) {
        l->logprob = -bnt_surprise(logits, l->n_vocab, l->id);
    }
    return BNT_OK;
}

static enum bnt_status one_id(struct asking *a, const char *text, int32_t *id)
{
    struct bnt_ids ids = {0};
    enum bnt_status st = bnt_subject_tokenize(a->subject, text, strlen(text), 0, &ids, a->err);
    if (st == BNT_OK && ids.n != 1) {
        wrong(a, "logprob", "\"%.100s\" is %zu tokens, not one", text, ids.n);
    }
    *id = st == BNT_OK && ids.n == 1 ? ids.at[0] : -1;
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status append(struct bnt_ids *to, const int32_t *ids, size_t n, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = bnt_ids_push(to, ids[i], err);
    }
    return st;
}

/* The request whose next place is that of the expectation: the ids before it where the subject
 * takes ids (appended to `ids`), else the test's own prompt and the place in its answer. */
static enum bnt_status before(struct asking *a, const struct user_logprob *l, struct bnt_ids *ids,
                              struct bnt_subject_request *r)
{
    const struct bnt_ids *prompt = &a->answer.prompt_ids;
    *r = request_of(a->test);
    if (!(bnt_subject_describe(a->subject).can & BNT_CAN_IDS)) {
        return BNT_OK;
    }
    enum bnt_status st = append(ids, prompt->at, prompt->n, a->err);
    if (st == BNT_OK) {
        st = append(ids, a->answer.made.ids.at, l->at, a->err);
    }
    r->prompt = NULL;
    r->ids = ids->at;
    r->n_ids = ids->n;
    return st;
}

static bool is_entry(const struct bnt_row_entry *e, const struct user_logprob *l, int32_t id)
{
    return id >= 0 ? e->id == id : l->token && e->text && strcmp(e->text, l->token) == 0;
}

/* An id that is not in the row is at most as likely as the last one that is: where that decides
 * nothing, nothing is said. */
static enum bnt_status check_in_row(struct asking *a, const struct user_logprob *l, int32_t id,
                                    const struct bnt_row *row)
{
    for (size_t i = 0; i < row->n; i++) {
        if (is_entry(&row->at[i], l, id)) {
            check_range(a, "logprob", row->at[i].logprob, &l->range);
            return BNT_OK;
        }
    }
    const double most = row->n > 0 ? row->at[row->n - 1].logprob : 0;
    if (most < l->range.min) {
        wrong(a, "logprob", "less than %.6g, should be at least %.6g", most, l->range.min);
        return BNT_OK;
    }
    return most <= l->range.max && isnan(l->range.min)
               ? BNT_OK
               : cannot(a, "tell the log-probability of a token that is so unlikely");
}

/* Of a subject that tells rows instead of logits. */
static enum bnt_status check_row(struct asking *a, const struct user_logprob *l)
{
    const struct bnt_subject_facts f = bnt_subject_describe(a->subject);
    struct bnt_subject_request r;
    struct bnt_row row;
    struct bnt_ids ids = {0};
    int32_t id = l->id;
    enum bnt_status st = BNT_OK;
    if ((f.can & BNT_CAN_IDS) && l->at > a->answer.made.ids.n) {
        wrong(a, "logprob", "there is no token %u", l->at);
        return BNT_OK;
    }
    if (l->token && (f.can & BNT_CAN_TOKENIZE)) {
        st = one_id(a, l->token, &id);
        if (st != BNT_OK || id < 0) {
            return st;
        }
    } else if (!l->token && !(f.can & BNT_CAN_IDS)) {
        return cannot(a, "tell ids");
    }
    bnt_row_init(&row);
    st = before(a, l, &ids, &r);
    r.n_logprobs = f.n_vocab ? f.n_vocab : ROW_ENTRIES;
    if (st == BNT_OK) {
        st = bnt_subject_row(a->subject, &r, r.ids ? 0 : l->at, &row, a->err);
    }
    if (st == BNT_OK) {
        st = check_in_row(a, l, id, &row);
    }
    bnt_row_release(&row);
    bnt_ids_release(&ids);
    return st;
}

/* Evaluate the prompt and what was generated before `at`; the logits after that. */
static enum bnt_status check_logprob(struct asking *a, const struct user_logprob *l)
{
    if (!(bnt_subject_describe(a->subject).can & BNT_CAN_EVALUATE)) {
        return check_row(a, l);
    }
    struct last_place last = {.id = l->id,
                              .n_vocab = (int32_t)bnt_subject_describe(a->subject).n_vocab};
    struct bnt_subject_request r;
    struct bnt_ids ids = {0};
    enum bnt_status st = l->token ? one_id(a, l->token, &last.id) : BNT_OK;
    if (st != BNT_OK || last.id < 0) {
        return st;
    }
    if (l->at > a->answer.made.ids.n || last.id >= last.n_vocab) {
        wrong(a, "logprob", "there is no token %u, or no id %d", l->at, last.id);
        return BNT_OK;
    }
    st = before(a, l, &ids, &r);
    last.n = ids.n;
    if (st == BNT_OK) {
        st = bnt_subject_evaluate(a->subject, ids.at, ids.n, read_last, &last, a->err);
    }
    if (st == BNT_OK) {
        check_range(a, "logprob", last.logprob, &l->range);
    }
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status check_perplexity(struct asking *a)
{
    const struct user_perplexity *p = &a->test->expect.perplexity;
    struct bnt_ids ids = {0};
    if (!p->text) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_subject_tokenize(a->subject, p->text, strlen(p->text),
                                              BNT_ENCODE_ADD_SPECIAL, &ids, a->err);
    double sum = 0;
    if (st == BNT_OK && ids.n < 2) {
        wrong(a, "perplexity", "a text of %zu tokens has none", ids.n);
    } else if (st == BNT_OK) {
        st = bnt_subject_score(a->subject, ids.at, ids.n, &sum, a->err);
        if (st == BNT_OK) {
            check_range(a, "perplexity", fm_exp(-sum / (double)(ids.n - 1)), &p->range);
        }
    }
    bnt_ids_release(&ids);
    return st;
}

/* ---- the test ---- */

static enum bnt_status ask(struct asking *a, bool afresh, struct bnt_subject_answer *out)
{
    struct bnt_subject_request request = request_of(a->test);
    request.afresh = afresh;
    return bnt_subject_generate(a->subject, &request, out, a->err);
}

/* The same prompt again must have the same answer. */
static enum bnt_status check_repeats(struct asking *a)
{
    enum bnt_status st = BNT_OK;
    for (uint32_t i = 1; st == BNT_OK && i < a->test->expect.repeats; i++) {
        struct bnt_subject_answer again;
        bnt_subject_answer_init(&again);
        st = ask(a, true, &again);
        if (st == BNT_OK && !is_text(a, bnt_buf_view(&again.made.text), again.made.text.len)) {
            wrong(a, "repeats", "answer %u is another one: \"%.300s\"", i + 1,
                  bnt_buf_view(&again.made.text));
        }
        bnt_subject_answer_release(&again);
    }
    return st;
}

static enum bnt_status check_answer(struct asking *a)
{
    const struct user_expect *e = &a->test->expect;
    enum bnt_status st = check_cost(a); /* before further work adds to it */
    if (st != BNT_OK) {
        return st;
    }
    check_ids(a, "ids", &e->ids, true);
    check_ids(a, "ids_begin", &e->ids_begin, false);
    check_text(a);
    check_parts(a);
    check_patterns(a, "matches", &e->matches, true);
    check_patterns(a, "not_matches", &e->not_matches, false);
    check_shape(a);
    check_end(a);
    st = check_words(a);
    if (st == BNT_OK) {
        st = check_repeats(a);
    }
    for (size_t i = 0; st == BNT_OK && i < e->n_logprob; i++) {
        st = check_logprob(a, &e->logprob[i]);
    }
    return st;
}

/* Why this subject cannot answer the test, or NULL. Without ids there is neither a count of tokens
 * nor a look at their repetition. */
static const char *inability(const struct user_expect *e, const struct bnt_subject_facts *f)
{
    const bool ids = e->ids.at || e->ids_begin.at || asked(&e->tokens) ||
                     asked(&e->tokens_per_second) || e->quality;
    if (ids && !(f->can & BNT_CAN_IDS)) {
        return "tell ids";
    }
    if (e->n_logprob > 0 && !(f->can & (BNT_CAN_EVALUATE | BNT_CAN_ROWS))) {
        return "tell log-probabilities";
    }
    return asked(&e->memory_bytes) && f->remote ? "tell its memory" : NULL;
}

static enum bnt_status run(struct asking *a)
{
    const struct user_test *t = a->test;
    enum bnt_status st = BNT_OK;
    struct bnt_subject_facts facts = bnt_subject_describe(a->subject);
    const char *what = inability(&t->expect, &facts);
    if (what) {
        return cannot(a, what);
    }
    if (t->prompt || t->ids.at) {
        st = ask(a, false, &a->answer);
        if (st == BNT_OK) {
            st = check_answer(a);
        }
    }
    return st == BNT_OK ? check_perplexity(a) : st;
}

enum bnt_status user_test_run(const struct user_test *t, struct bnt_subject *subject,
                              struct bnt_buf *report, struct bnt_err *err)
{
    struct asking a = {.test = t, .subject = subject, .report = report, .err = err};
    bnt_subject_answer_init(&a.answer);
    enum bnt_status st = run(&a);
    if (st == BNT_OK && a.n_wrong > 0) {
        const int shown = (int)bnt_utf8_cut(text_of(&a), length_of(&a), SHOWN_BYTES);
        (void)bnt_buf_printf(report, NULL, "the answer: \"%.*s\"%s\n", shown, text_of(&a),
                             length_of(&a) > SHOWN_BYTES ? "..." : "");
        st = bnt_err_set(err, BNT_E_FAILED, "%zu expectation%s not hold", a.n_wrong,
                         a.n_wrong == 1 ? " does" : "s do");
    }
    bnt_subject_answer_release(&a.answer);
    return st;
}

bool user_test_takes(const struct user_test *t, const char *kind)
{
    size_t n = strlen(kind);
    for (const char *at = t->subjects; *at;) {
        size_t len = strcspn(at, ",");
        if (len == n && memcmp(at, kind, n) == 0) {
            return true;
        }
        at += len + (at[len] == ',');
    }
    return t->subjects[0] == '\0';
}
