/* The rungs of logits: after the prompt, and along a text that both sides are given. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/crossval_impl.h"

bool crossval_tells_rows(const struct ladder *l)
{
    return crossval_can(&l->their_facts, BNT_CAN_EVALUATE) ||
           crossval_can(&l->their_facts, BNT_CAN_ROWS | BNT_CAN_IDS);
}

/* ---- one span ---- */

/* A stretch of ids: places from..n-1 of them are compared. */
struct span {
    const int32_t *ids;
    size_t n, from;
};

/* All places of a rung, and of these the first with another best token, else the worst one. */
struct tally {
    struct bnt_logits_summary sum;
    size_t at_case;     /* that is compared now */
    size_t not_offered; /* places of which the reference does not tell what is likely */
    struct bnt_err why; /* of the first of these */
    struct {
        size_t at_case, place;
        struct bnt_logits_diff diff;
    } worst;
};

struct comparing {
    struct ladder *l;
    const struct span *span;
    float *ours; /* rows of our logits, of places from..n-1 */
    struct tally *t;
};

static float *our_row(const struct comparing *c, size_t index)
{
    return c->ours + (index - c->span->from) * c->l->our_facts.n_vocab;
}

static enum bnt_status keep_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct comparing *c = ctx;
    (void)err;
    if (index >= c->span->from) {
        memcpy(our_row(c, index), logits, c->l->our_facts.n_vocab * sizeof *logits);
    }
    return BNT_OK;
}

static void gather(struct tally *t, size_t index, const struct bnt_logits_diff *d)
{
    const bool mismatch = !d->match && t->sum.n_match == t->sum.n;
    const bool worse = t->sum.n_match == t->sum.n && d->kl > t->worst.diff.kl;
    if (t->sum.n == 0 || mismatch || worse) {
        t->worst.at_case = t->at_case;
        t->worst.place = index;
        t->worst.diff = *d;
    }
    bnt_logits_gather(&t->sum, index, d);
}

static enum bnt_status compare_logits(void *ctx, size_t index, const float *logits,
                                      struct bnt_err *err)
{
    struct comparing *c = ctx;
    if (index < c->span->from) {
        return BNT_OK;
    }
    struct bnt_logits_diff d;
    enum bnt_status st = bnt_logits_compare_rows(our_row(c, index), logits,
                                                 (int32_t)c->l->our_facts.n_vocab, &d, err);
    if (st == BNT_OK) {
        gather(c->t, index, &d);
    }
    return st;
}

/* Entries without an id cannot be compared. */
static enum bnt_status compare_row(struct comparing *c, size_t index, const struct bnt_row *row,
                                   struct bnt_err *err)
{
    struct bnt_logits_value *best = calloc(row->n + 1, sizeof *best);
    size_t n = 0;
    if (!best) {
        return bnt_err_nomem(err, "a row", row->n);
    }
    for (size_t i = 0; i < row->n; i++) {
        if (row->at[i].id >= 0) {
            best[n++] = (struct bnt_logits_value){row->at[i].id, (float)row->at[i].logprob};
        }
    }
    const struct bnt_logits_reference r = {.best = best, .n = n, .logsum = NAN};
    struct bnt_logits_diff d;
    enum bnt_status st =
        bnt_logits_compare(our_row(c, index), (int32_t)c->l->our_facts.n_vocab, &r, &d, err);
    if (st == BNT_OK) {
        gather(c->t, index, &d);
    }
    free(best);
    return st;
}

static enum bnt_status compare_rows(struct comparing *c, struct bnt_err *err)
{
    const uint32_t all = c->l->our_facts.n_vocab, wanted = c->l->plan->n_best;
    enum bnt_status st = BNT_OK;
    for (size_t i = c->span->from; st == BNT_OK && i < c->span->n; i++) {
        const struct bnt_subject_request r = {.ids = c->span->ids,
                                              .n_ids = i + 1,
                                              .max_tokens = 1,
                                              .n_logprobs = wanted ? wanted : all,
                                              .interrupted = c->l->plan->interrupted};
        struct bnt_err why = {0};
        struct bnt_row row;
        bnt_row_init(&row);
        st = bnt_subject_row(c->l->reference, &r, 0, &row, &why);
        if (st == BNT_E_UNSUPPORTED) {
            c->t->not_offered++;
            bnt_err_copy(&c->t->why, &why);
            st = BNT_OK;
        } else {
            st = st == BNT_OK ? compare_row(c, i, &row, err) : bnt_err_copy(err, &why);
        }
        bnt_row_release(&row);
    }
    return st;
}

static enum bnt_status compare(struct ladder *l, const struct span *span, struct tally *t,
                               struct bnt_err *err)
{
    const size_t n = (span->n - span->from) * l->our_facts.n_vocab;
    struct comparing c = {.l = l, .span = span, .t = t, .ours = malloc(n * sizeof(float) + 1)};
    if (!c.ours) {
        return bnt_err_nomem(err, "logits", n * sizeof(float));
    }
    enum bnt_status st = bnt_subject_evaluate(l->ours, span->ids, span->n, keep_row, &c, err);
    if (st == BNT_OK) {
        st = crossval_can(&l->their_facts, BNT_CAN_EVALUATE)
                 ? bnt_subject_evaluate(l->reference, span->ids, span->n, compare_logits, &c, err)
                 : compare_rows(&c, err);
    }
    free(c.ours);
    return st;
}

/* ---- judging ---- */

struct bound {
    const char *name;
    double value, most; /* most, or least when `least` */
    bool least;
};

/* The first bound that does not hold, or NULL. A figure that is not defined holds no bound. */
static const struct bound *broken(const struct bound *at, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bool holds = at[i].least ? at[i].value >= at[i].most : at[i].value <= at[i].most;
        if (!isnan(at[i].most) && !holds && !BNT_FAULT(crossval_blind)) {
            return &at[i];
        }
    }
    return NULL;
}

static void judge(struct ladder *l, enum crossval_rung rung, const struct bnt_logits_summary *s,
                  const char *where)
{
    const struct crossval_tolerances *t = l->tol;
    const struct bound bounds[] = {
        {"token_match", bnt_logits_token_match(s), t->forced_match, true},
        {"pearson", bnt_logits_mean_pearson(s), t->pearson, true},
        {"cosine", bnt_logits_mean_cosine(s), t->cosine, true},
        {"kl", bnt_logits_mean_kl(s), t->kl, false},
        {"mse", bnt_logits_mse(s), t->mse, false},
        {"max_error", s->max_error, t->max_error, false},
    };
    const size_t n = sizeof bounds / sizeof bounds[0];
    crossval_figure(l, rung, "places", (double)s->n);
    crossval_figure(l, rung, "same_top", bnt_logits_top_agreement(s));
    for (size_t i = 0; i < n; i++) {
        crossval_figure(l, rung, bounds[i].name, bounds[i].value);
    }
    const struct bound *b = broken(bounds, n);
    if (b) {
        crossval_differs(l, rung, "%s is %.4g, should be at %s %.4g%s", b->name, b->value,
                         b->least ? "least" : "most", b->most, where);
    } else {
        crossval_result_of(l, rung)->verdict = CROSSVAL_SAME;
    }
}

static void conclude(struct ladder *l, enum crossval_rung rung, const struct tally *t)
{
    const struct bnt_logits_diff *d = &t->worst.diff;
    char where[320];
    if (t->sum.n == 0) {
        crossval_skip(l, rung, "%s", t->why.msg);
        return;
    }
    snprintf(where, sizeof where,
             ": prompt %zu (\"%.40s\"), place %zu: best token %d, reference %d, divergence %.3g "
             "nats, Pearson %.4g",
             t->worst.at_case + 1, l->cases[t->worst.at_case].prompt, t->worst.place,
             (int)d->our_top, (int)d->their_top, d->kl, d->pearson);
    judge(l, rung, &t->sum, where);
    if (t->not_offered > 0) {
        crossval_figure(l, rung, "not_offered", (double)t->not_offered);
    }
}

/* ---- first logits ---- */

/* Logits tell that something differs; taps, where there are some, tell what. */
static enum bnt_status add_tap(struct ladder *l, const struct tally *t, struct bnt_err *err)
{
    struct crossval_result *r = crossval_result_of(l, CROSSVAL_FIRST);
    const struct bnt_ids *ids = &l->cases[t->worst.at_case].ids;
    const size_t n = strlen(r->why);
    struct crossval_tap_place place;
    if (r->verdict != CROSSVAL_DIFFERS || !crossval_can(&l->their_facts, BNT_CAN_TAPS)) {
        return BNT_OK;
    }
    enum bnt_status st = crossval_find_tap(l, ids->at, ids->n, &place, err);
    if (st == BNT_OK && place.name[0]) {
        snprintf(r->why + n, sizeof r->why - n, "; first in %s, by %.3g of its size", place.name,
                 place.error);
    }
    return st;
}

enum bnt_status crossval_first(struct ladder *l, struct bnt_err *err)
{
    struct tally t = {0};
    enum bnt_status st = BNT_OK;
    if (!crossval_tells_rows(l)) {
        crossval_skip(l, CROSSVAL_FIRST, "the reference tells neither logits nor what is likely");
        return BNT_OK;
    }
    for (; st == BNT_OK && t.at_case < l->plan->n_prompts; t.at_case++) {
        const struct bnt_ids *ids = &l->cases[t.at_case].ids;
        const struct span span = {ids->at, ids->n, ids->n - 1};
        st = compare(l, &span, &t, err);
    }
    if (st == BNT_OK) {
        conclude(l, CROSSVAL_FIRST, &t);
        st = add_tap(l, &t, err);
    }
    return st;
}

/* ---- teacher-forced ---- */

static enum bnt_status append(struct bnt_ids *to, const struct bnt_ids *from, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < from->n; i++) {
        st = bnt_ids_push(to, from->at[i], err);
    }
    return st;
}

/* Both are given the prompt and the reference's own answer, or ours where it tells no ids. */
static enum bnt_status force(struct ladder *l, struct tally *t, struct bnt_err *err)
{
    const struct crossval_case *c = &l->cases[t->at_case];
    struct bnt_ids ids = {0};
    enum bnt_status st = append(&ids, &c->ids, err);
    if (st == BNT_OK) {
        st = append(&ids, c->theirs.made.ids.n ? &c->theirs.made.ids : &c->ours.made.ids, err);
    }
    if (st == BNT_OK) {
        const struct span span = {ids.at, ids.n, c->ids.n - 1};
        st = compare(l, &span, t, err);
    }
    bnt_ids_release(&ids);
    return st;
}

enum bnt_status crossval_forced(struct ladder *l, struct bnt_err *err)
{
    struct tally t = {0};
    if (!crossval_tells_rows(l)) {
        crossval_skip(l, CROSSVAL_FORCED, "the reference tells neither logits nor what is likely");
        return BNT_OK;
    }
    enum bnt_status st = crossval_answer(l, err);
    for (; st == BNT_OK && t.at_case < l->plan->n_prompts; t.at_case++) {
        st = force(l, &t, err);
    }
    if (st == BNT_OK) {
        conclude(l, CROSSVAL_FORCED, &t);
    }
    return st;
}
