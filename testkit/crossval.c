/* The ladder, and its rungs of texts: token ids, greedy text, perplexity, speed. */
#include "testkit/crossval.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/utf8.h"
#include "engine/cpu/fmath.h"
#include "engine/quality.h"
#include "testkit/crossval_impl.h"
#include "testkit/scoring.h"

const char *crossval_rung_name(enum crossval_rung rung)
{
    static const char *const names[] = {
#define CROSSVAL_WORD(id, word) word,
        CROSSVAL_RUNGS(CROSSVAL_WORD)
#undef CROSSVAL_WORD
    };
    return names[rung];
}

const char *crossval_verdict_name(enum crossval_verdict verdict)
{
    static const char *const names[] = {"not_reached", "skipped", "same", "differs"};
    return names[verdict];
}

struct crossval_plan crossval_plan_default(void)
{
    static const char *const prompts[] = {
        "Once upon a time",
        "One day, a girl named Lily",
        "In 1984 there were 12345 birds.\n\"Hello!\" said Tom's cat",
        "The capital of France is",
    };
    return (struct crossval_plan){
        .prompts = prompts,
        .n_prompts = sizeof prompts / sizeof prompts[0],
        .text = "Once upon a time, there was a little girl named Lily. She loved to play outside "
                "in the park. One day, she saw a big red ball. She was very happy and wanted to "
                "play with it. Lily asked her mom if she could take the ball home. Her mom said "
                "yes, but first they had to find out whose ball it was. They asked a boy, and he "
                "said that it was not his. So Lily took the ball home and played with it every "
                "day. She learned that it is good to ask first.",
        .n_text = 256,
        .n_tokens = 32,
    };
}

/* ---- results ---- */

struct crossval_result *crossval_result_of(struct ladder *l, enum crossval_rung rung)
{
    return &l->report->rungs[rung];
}

__attribute__((format(printf, 3, 0))) static void
set(struct crossval_result *r, enum crossval_verdict v, const char *fmt, va_list ap)
{
    if (r->why[0] == '\0') {
        vsnprintf(r->why, sizeof r->why, fmt, ap);
    }
    r->verdict = v;
}

void crossval_differs(struct ladder *l, enum crossval_rung rung, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(crossval_result_of(l, rung), CROSSVAL_DIFFERS, fmt, ap);
    va_end(ap);
}

void crossval_skip(struct ladder *l, enum crossval_rung rung, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    set(crossval_result_of(l, rung), CROSSVAL_SKIPPED, fmt, ap);
    va_end(ap);
}

void crossval_figure(struct ladder *l, enum crossval_rung rung, const char *name, double value)
{
    struct crossval_result *r = crossval_result_of(l, rung);
    if (r->n_figures < CROSSVAL_FIGURES_MAX && !isnan(value)) {
        r->figures[r->n_figures].name = name;
        r->figures[r->n_figures++].value = value;
    }
}

bool crossval_can(const struct bnt_subject_facts *f, unsigned what)
{
    return (f->can & what) == what;
}

/* ---- token ids ---- */

/* Texts that tokenizers disagree on: blanks, line ends, digits, marks, several bytes. */
static const char *const texts[] = {
    "  two blanks\tand a tab\n\n\nand lines  ",
    ("na\xc3\xafve caf\xc3\xa9 \xe2\x80\x94 \xe2\x82\xac"
     "5 \xf0\x9f\x99\x82"),
    "1 + 1 = 2, 3.14159 and 1000000",
    "It's I'll WE'VE don't!?...",
};

static enum bnt_status same_ids(struct ladder *l, const char *text, const struct bnt_ids *ours,
                                const struct bnt_ids *theirs)
{
    size_t i = 0;
    while (i < ours->n && i < theirs->n && ours->at[i] == theirs->at[i]) {
        i++;
    }
    if (i < ours->n || i < theirs->n) {
        crossval_differs(l, CROSSVAL_TOKENS,
                         "\"%.60s\": id %zu is %d, of the reference %d (%zu ids, %zu of the "
                         "reference)",
                         text, i, i < ours->n ? (int)ours->at[i] : -1,
                         i < theirs->n ? (int)theirs->at[i] : -1, ours->n, theirs->n);
    }
    return BNT_OK;
}

static enum bnt_status tokenize_both(struct ladder *l, const char *text, size_t *n,
                                     struct bnt_err *err)
{
    const unsigned flags = BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL;
    struct bnt_ids ours = {0}, theirs = {0};
    enum bnt_status st = bnt_subject_tokenize(l->ours, text, strlen(text), flags, &ours, err);
    if (st == BNT_OK) {
        st = bnt_subject_tokenize(l->reference, text, strlen(text), flags, &theirs, err);
    }
    if (st == BNT_OK) {
        *n += ours.n;
        st = same_ids(l, text, &ours, &theirs);
    }
    bnt_ids_release(&ours);
    bnt_ids_release(&theirs);
    return st;
}

/* A record has the ids of its prompts alone. */
static enum bnt_status tokens(struct ladder *l, struct bnt_err *err)
{
    const size_t n_texts =
        strcmp(l->their_facts.kind, "recorded") == 0 ? 0 : sizeof texts / sizeof texts[0];
    size_t n = 0;
    enum bnt_status st = BNT_OK;
    if (!crossval_can(&l->their_facts, BNT_CAN_TOKENIZE)) {
        crossval_skip(l, CROSSVAL_TOKENS, "the reference does not turn text into ids");
        return BNT_OK;
    }
    for (size_t i = 0; st == BNT_OK && i < l->plan->n_prompts + n_texts; i++) {
        st = tokenize_both(
            l, i < l->plan->n_prompts ? l->plan->prompts[i] : texts[i - l->plan->n_prompts], &n,
            err);
    }
    crossval_figure(l, CROSSVAL_TOKENS, "texts", (double)(l->plan->n_prompts + n_texts));
    crossval_figure(l, CROSSVAL_TOKENS, "ids", (double)n);
    return st;
}

/* ---- greedy text ---- */

static enum bnt_status ask(struct ladder *l, struct bnt_subject *s, const struct crossval_case *c,
                           struct bnt_subject_answer *out, struct bnt_err *err)
{
    const bool ids = bnt_subject_describe(s).can & BNT_CAN_IDS;
    const struct bnt_subject_request r = {.ids = ids ? c->ids.at : NULL,
                                          .n_ids = ids ? c->ids.n : 0,
                                          .prompt = ids ? NULL : c->prompt,
                                          .prompt_len = ids ? 0 : strlen(c->prompt),
                                          .max_tokens = l->plan->n_tokens,
                                          .interrupted = l->plan->interrupted};
    return bnt_subject_generate(s, &r, out, err);
}

enum bnt_status crossval_answer(struct ladder *l, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && !l->answered && i < l->plan->n_prompts; i++) {
        struct crossval_case *c = &l->cases[i];
        bnt_subject_answer_release(&c->ours); /* what an attempt that failed has left */
        bnt_subject_answer_init(&c->ours);
        bnt_subject_answer_release(&c->theirs);
        bnt_subject_answer_init(&c->theirs);
        st = ask(l, l->ours, c, &c->ours, err);
        if (st == BNT_OK && crossval_can(&l->their_facts, BNT_CAN_GENERATE)) {
            st = ask(l, l->reference, c, &c->theirs, err);
        }
    }
    l->answered = st == BNT_OK;
    return st;
}

/* Whether the two ids of place `at` are as good as equally likely, after what both have said: then
 * rounding chooses, and what comes after is another text for both. */
struct tie {
    size_t index;
    int32_t n_vocab, a, b;
    bool is;
};

static enum bnt_status look(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct tie *t = ctx;
    (void)err;
    if (index == t->index) {
        t->is = t->a < t->n_vocab && t->b < t->n_vocab &&
                fabs((double)logits[t->a] - (double)logits[t->b]) <= BNT_LOGITS_TIE;
    }
    return BNT_OK;
}

static enum bnt_status is_tie(struct ladder *l, const struct crossval_case *c, size_t at, bool *tie,
                              struct bnt_err *err)
{
    const struct bnt_ids *a = &c->ours.made.ids, *b = &c->theirs.made.ids;
    struct bnt_ids ids = {0};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < c->ids.n + at; i++) {
        st = bnt_ids_push(&ids, i < c->ids.n ? c->ids.at[i] : a->at[i - c->ids.n], err);
    }
    struct tie t = {ids.n - 1, (int32_t)l->our_facts.n_vocab, a->at[at], b->at[at], false};
    if (st == BNT_OK) {
        st = bnt_subject_evaluate(l->ours, ids.at, ids.n, look, &t, err);
    }
    *tie = t.is;
    bnt_ids_release(&ids);
    return st;
}

struct greedy {
    size_t n, n_same, n_ties;
    size_t at_case, place; /* of the first token that differs; place SIZE_MAX: none */
};

static enum bnt_status compare_ids(struct ladder *l, size_t at_case, struct greedy *g,
                                   struct bnt_err *err)
{
    const struct crossval_case *c = &l->cases[at_case];
    const struct bnt_ids *a = &c->ours.made.ids, *b = &c->theirs.made.ids;
    const size_t n = a->n < b->n ? a->n : b->n;
    size_t i = 0;
    bool tie = false;
    enum bnt_status st = BNT_OK;
    while (i < n && a->at[i] == b->at[i]) {
        i++;
    }
    if (i < n) {
        st = is_tie(l, c, i, &tie, err);
    }
    g->n_ties += tie;
    const bool known = !c->theirs.ids_end_early;
    const size_t end = tie ? i : known && a->n > b->n ? a->n : b->n;
    if (i < end && g->place == SIZE_MAX) { /* also where one answer goes on and the other ends */
        g->at_case = at_case;
        g->place = i;
    }
    for (size_t k = 0; k < end; k++) {
        g->n_same += k < n && a->at[k] == b->at[k];
    }
    g->n += end;
    return st;
}

/* Without ids the bytes of the texts are held against each other. */
static void compare_texts(struct ladder *l, size_t at_case, struct greedy *g)
{
    const struct bnt_buf *a = &l->cases[at_case].ours.made.text;
    const struct bnt_buf *b = &l->cases[at_case].theirs.made.text;
    const size_t n = a->len < b->len ? a->len : b->len;
    size_t i = 0;
    while (i < n && bnt_buf_view(a)[i] == bnt_buf_view(b)[i]) {
        i++;
    }
    g->n += a->len > b->len ? a->len : b->len;
    g->n_same += i;
    if ((i < a->len || i < b->len) && g->place == SIZE_MAX) {
        g->at_case = at_case;
        g->place = i;
    }
}

/* Bytes that are no UTF-8 do not come over JSON: what is before them is held against each other. */
static bool texts_agree(const struct bnt_buf *ours, const struct bnt_buf *theirs)
{
    const size_t n = bnt_utf8_valid(bnt_buf_view(ours), ours->len);
    return strncmp(bnt_buf_view(ours), bnt_buf_view(theirs), n) == 0 &&
           (n < ours->len || theirs->len == n);
}

/* The same ids must be the same text. */
static void same_text(struct ladder *l, size_t at_case)
{
    const struct crossval_case *c = &l->cases[at_case];
    const struct bnt_ids *a = &c->ours.made.ids, *b = &c->theirs.made.ids;
    const char *ours = bnt_buf_view(&c->ours.made.text);
    const char *theirs = bnt_buf_view(&c->theirs.made.text);
    const bool same_ids =
        a->n == b->n && (a->n == 0 || !memcmp(a->at, b->at, a->n * sizeof *a->at));
    if (same_ids && c->theirs.made.text.len > 0 &&
        !texts_agree(&c->ours.made.text, &c->theirs.made.text)) {
        crossval_differs(l, CROSSVAL_GREEDY,
                         "prompt %zu: the same ids are the text \"%.60s\", of the reference "
                         "\"%.60s\"",
                         at_case + 1, ours, theirs);
    }
}

static void judge_greedy(struct ladder *l, const struct greedy *g, bool ids)
{
    const double match = g->n ? (double)g->n_same / (double)g->n : 1;
    const struct crossval_case *c = &l->cases[g->at_case];
    crossval_figure(l, CROSSVAL_GREEDY, ids ? "tokens" : "bytes", (double)g->n);
    crossval_figure(l, CROSSVAL_GREEDY, "token_match", match);
    crossval_figure(l, CROSSVAL_GREEDY, "ties", (double)g->n_ties);
    if (!isnan(l->tol->free_match) && match < l->tol->free_match) {
        crossval_differs(l, CROSSVAL_GREEDY,
                         "token_match is %.4g, should be at least %.4g: prompt %zu (\"%.40s\") "
                         "differs first at %s %zu: \"%.60s\", of the reference \"%.60s\"",
                         match, l->tol->free_match, g->at_case + 1, c->prompt,
                         ids ? "token" : "byte", g->place, bnt_buf_view(&c->ours.made.text),
                         bnt_buf_view(&c->theirs.made.text));
    }
}

static enum bnt_status greedy(struct ladder *l, struct bnt_err *err)
{
    struct greedy g = {.place = SIZE_MAX};
    const bool ids = crossval_can(&l->their_facts, BNT_CAN_IDS);
    if (!crossval_can(&l->their_facts, BNT_CAN_GENERATE)) {
        crossval_skip(l, CROSSVAL_GREEDY, "the reference does not generate");
        return BNT_OK;
    }
    enum bnt_status st = crossval_answer(l, err);
    for (size_t i = 0; st == BNT_OK && i < l->plan->n_prompts; i++) {
        if (ids) {
            st = compare_ids(l, i, &g, err);
            same_text(l, i);
        } else {
            compare_texts(l, i, &g);
        }
    }
    if (st == BNT_OK) {
        judge_greedy(l, &g, ids);
    }
    return st;
}

/* ---- perplexity ---- */

static enum bnt_status scores(struct ladder *l, struct bnt_ids *ids, double sum[2],
                              struct bnt_err *err)
{
    enum bnt_status st = bnt_subject_tokenize(l->ours, l->plan->text, strlen(l->plan->text),
                                              BNT_ENCODE_ADD_SPECIAL, ids, err);
    if (st == BNT_OK && ids->n < 2) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "the text has fewer than two tokens");
    }
    ids->n = ids->n < l->plan->n_text ? ids->n : l->plan->n_text;
    if (st == BNT_OK) {
        st = bnt_subject_score(l->reference, ids->at, ids->n, &sum[1], err);
    }
    return st == BNT_OK ? bnt_subject_score(l->ours, ids->at, ids->n, &sum[0], err) : st;
}

static enum bnt_status perplexity(struct ladder *l, struct bnt_err *err)
{
    const enum crossval_rung rung = CROSSVAL_PERPLEXITY;
    struct bnt_ids ids = {0};
    double sum[2] = {0};
    const bool rows = crossval_tells_rows(l) && l->their_facts.n_vocab > 0;
    if (!crossval_can(&l->their_facts, BNT_CAN_SCORE) && !rows) {
        crossval_skip(l, rung, "the reference does not tell how likely a text is");
        return BNT_OK;
    }
    enum bnt_status st = scores(l, &ids, sum, err);
    if (st == BNT_OK) {
        const double n = (double)(ids.n - 1);
        const double ours = fm_exp(-sum[0] / n), theirs = fm_exp(-sum[1] / n);
        const double relative = fabs(ours / theirs - 1);
        crossval_figure(l, rung, "tokens", n);
        crossval_figure(l, rung, "ours", ours);
        crossval_figure(l, rung, "reference", theirs);
        crossval_figure(l, rung, "relative", relative);
        if (!isnan(l->tol->perplexity) && !(relative <= l->tol->perplexity)) {
            crossval_differs(l, rung,
                             "%.6g, of the reference %.6g: apart by %.4g, should be by at most "
                             "%.4g",
                             ours, theirs, relative, l->tol->perplexity);
        }
    }
    bnt_ids_release(&ids);
    return st;
}

/* ---- speed ---- */

/* Tokens per second of decoding over all answers; NAN where no times are told. */
static double speed_of(const struct ladder *l, bool ours)
{
    double tokens = 0, seconds = 0;
    for (size_t i = 0; i < l->plan->n_prompts; i++) {
        const struct bnt_generation *g = ours ? &l->cases[i].ours.made : &l->cases[i].theirs.made;
        if (g->ids.n > 1 && g->times.total_ns > g->times.first_token_ns) {
            tokens += (double)(g->ids.n - 1);
            seconds += (double)(g->times.total_ns - g->times.first_token_ns) * 1e-9;
        }
    }
    return seconds > 0 ? tokens / seconds : NAN;
}

static enum bnt_status speed(struct ladder *l, struct bnt_err *err)
{
    const enum crossval_rung rung = CROSSVAL_SPEED;
    enum bnt_status st =
        crossval_can(&l->their_facts, BNT_CAN_GENERATE) ? crossval_answer(l, err) : BNT_OK;
    if (st != BNT_OK) {
        return st;
    }
    const double ours = speed_of(l, true), theirs = speed_of(l, false);
    if (isnan(theirs) || isnan(ours)) {
        crossval_skip(l, rung, "the reference does not tell how long it took");
        return BNT_OK;
    }
    crossval_figure(l, rung, "ours", ours);
    crossval_figure(l, rung, "reference", theirs);
    crossval_figure(l, rung, "ratio", ours / theirs);
    if (!isnan(l->tol->speed) && ours / theirs < l->tol->speed) {
        crossval_differs(l, rung,
                         "%.4g tokens per second, of the reference %.4g: should be at "
                         "least %.4g of it",
                         ours, theirs, l->tol->speed);
    }
    return st;
}

/* ---- the ladder ---- */

static enum bnt_status read_prompts(struct ladder *l, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    l->cases = calloc(l->plan->n_prompts, sizeof *l->cases);
    if (!l->cases) {
        return bnt_err_nomem(err, "prompts", l->plan->n_prompts);
    }
    for (size_t i = 0; st == BNT_OK && i < l->plan->n_prompts; i++) {
        struct crossval_case *c = &l->cases[i];
        c->prompt = l->plan->prompts[i];
        bnt_subject_answer_init(&c->ours);
        bnt_subject_answer_init(&c->theirs);
        st = bnt_subject_tokenize(l->ours, c->prompt, strlen(c->prompt),
                                  BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL, &c->ids, err);
        if (st == BNT_OK && c->ids.n == 0) {
            st = bnt_err_set(err, BNT_E_USAGE, "prompt %zu has no token", i + 1);
        }
    }
    return st;
}

static void release(struct ladder *l)
{
    for (size_t i = 0; l->cases && i < l->plan->n_prompts; i++) {
        bnt_ids_release(&l->cases[i].ids);
        bnt_subject_answer_release(&l->cases[i].ours);
        bnt_subject_answer_release(&l->cases[i].theirs);
    }
    free(l->cases);
}

typedef enum bnt_status rung_fn(struct ladder *l, struct bnt_err *err);

/* What the reference turns out not to be able to is a skip. */
static enum bnt_status climb(struct ladder *l, enum crossval_rung rung, rung_fn *fn,
                             struct bnt_err *err)
{
    struct crossval_result *r = crossval_result_of(l, rung);
    struct bnt_err why = {0};
    enum bnt_status st = fn(l, &why);
    if (st == BNT_E_UNSUPPORTED) {
        crossval_skip(l, rung, "%s", why.msg);
        return BNT_OK;
    }
    if (st != BNT_OK) {
        (void)bnt_err_context(&why, "%s", crossval_rung_name(rung));
        return bnt_err_copy(err, &why);
    }
    r->verdict = r->verdict == CROSSVAL_NOT_REACHED ? CROSSVAL_SAME : r->verdict;
    return BNT_OK;
}

enum bnt_status crossval_run(struct bnt_subject *ours, struct bnt_subject *reference,
                             const struct crossval_plan *plan,
                             const struct crossval_tolerances *tolerances,
                             struct crossval_report *out, struct bnt_err *err)
{
    static rung_fn *const rungs[CROSSVAL_N_RUNGS] = {
        tokens, crossval_first, crossval_taps, crossval_forced, greedy, perplexity, speed};
    struct ladder l = {.ours = ours,
                       .reference = reference,
                       .our_facts = bnt_subject_describe(ours),
                       .their_facts = bnt_subject_describe(reference),
                       .plan = plan,
                       .tol = tolerances,
                       .report = out};
    *out = (struct crossval_report){.differs_at = CROSSVAL_N_RUNGS};
    enum bnt_status st = read_prompts(&l, err);
    for (int i = 0; st == BNT_OK && i < CROSSVAL_N_RUNGS; i++) {
        st = climb(&l, (enum crossval_rung)i, rungs[i], err);
        st = st == BNT_OK ? bnt_err_interrupted(plan->interrupted, err) : st;
        out->n_same += i != CROSSVAL_SPEED && out->rungs[i].verdict == CROSSVAL_SAME;
        if (out->rungs[i].verdict == CROSSVAL_DIFFERS) {
            out->differs_at = (enum crossval_rung)i;
            break;
        }
    }
    release(&l);
    return st;
}
