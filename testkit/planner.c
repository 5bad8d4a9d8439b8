#include "testkit/planner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/filter.h"

enum {
    CLASS_PART = 20,  /* a time limit over the time that a test is expected to take */
    TIMES_MAX = 20,   /* times that are looked at */
    ENOUGH_TIMES = 5, /* for a quantile */
    /* How many times the longest seen (or, of a test that never ran, the expected) time a test may
     * take: times have heavy tails, of which few samples show little. */
    WORST = 3,
    FEW_WORST = 5,
    UNKNOWN_WORST = 4,
    STALE_DAYS_MAX = 30,
    DEAREST = 3,
};

uint64_t plan_class_ms(const struct bnt_test *t)
{
    uint64_t ms = t->timeout_ms / CLASS_PART;
    return ms > 0 ? ms : 1;
}

static bool executed(enum bnt_test_outcome outcome)
{
    return outcome == BNT_TEST_PASSED || outcome == BNT_TEST_FAILED ||
           outcome == BNT_TEST_DISAGREED || outcome == BNT_TEST_QUARANTINED;
}

/* ---- time ---- */

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    return (*x > *y) - (*x < *y);
}

/* Times of the latest executed samples, newest first; from like machines only, if those suffice. */
static size_t collect_times(const struct plan_sample *samples, size_t n, bool only_comparable,
                            uint64_t times[TIMES_MAX])
{
    size_t n_times = 0;
    for (size_t i = 0; i < n && n_times < TIMES_MAX; i++) {
        if (executed(samples[i].outcome) && (samples[i].comparable || !only_comparable)) {
            times[n_times++] = samples[i].wall_ms > 0 ? samples[i].wall_ms : 1;
        }
    }
    return n_times;
}

static void judge_time(struct bnt_test *t, const struct plan_sample *samples, size_t n)
{
    uint64_t times[TIMES_MAX];
    size_t n_times = collect_times(samples, n, true, times);
    if (n_times < ENOUGH_TIMES) {
        n_times = collect_times(samples, n, false, times);
    }
    struct bnt_test_plan *p = &t->plan;
    uint64_t limit = t->timeout_ms;
    if (n_times == 0) {
        p->mean_ms = p->fit_ms = plan_class_ms(t);
        p->worst_ms = UNKNOWN_WORST * p->fit_ms;
        return;
    }
    double sum = 0;
    double weights = 0;
    for (size_t i = 0; i < n_times; i++) {
        double w = pow(0.8, (double)i);
        sum += w * (double)times[i];
        weights += w;
    }
    /* Times may drift, but one slow run is no drift. */
    uint64_t lately = n_times > 1 && times[1] < times[0] ? times[1] : times[0];
    qsort(times, n_times, sizeof times[0], by_size);
    uint64_t most = times[n_times - 1];
    uint64_t nine_of_ten = times[(n_times * 9 + 9) / 10 - 1];
    p->mean_ms = (uint64_t)(sum / weights + 0.5);
    p->fit_ms = n_times < ENOUGH_TIMES ? most + most / 2 : nine_of_ten;
    p->fit_ms = p->fit_ms > lately ? p->fit_ms : lately;
    if (t->plan.n_unrun >= PLAN_WAITED_RUNS) {
        /* What shut it out may have been a time that will not come again. */
        p->fit_ms = times[(n_times - 1) / 2];
    }
    p->worst_ms = (n_times < ENOUGH_TIMES ? FEW_WORST : WORST) * most;
    if (limit > 0 && p->worst_ms > limit) {
        p->worst_ms = limit; /* it is ended there */
    }
    if (p->worst_ms < p->fit_ms) {
        p->worst_ms = p->fit_ms;
    }
}

/* ---- value ---- */

struct standing {
    size_t n_unrun, n_executed;
    bool passed_same_inputs, passed_same_program, failed_last;
    double fail_rate, idle_days;
};

static void stand(const struct plan_sample *samples, size_t n, struct standing *s)
{
    double fails = 0;
    double weights = 0;
    bool waiting = true; /* no later sample than this one settled the test */
    for (size_t i = 0; i < n; i++) {
        const struct plan_sample *p = &samples[i];
        waiting &= p->outcome == BNT_TEST_NOT_RUN;
        s->n_unrun += waiting;
        if (!executed(p->outcome)) {
            continue;
        }
        bool passed = p->outcome == BNT_TEST_PASSED;
        if (s->n_executed++ == 0) {
            s->failed_last = !passed;
            s->idle_days = p->age_days;
        }
        double w = pow(0.9, (double)(s->n_executed - 1));
        fails += passed ? 0 : w;
        weights += w;
        s->passed_same_inputs |= passed && p->same_inputs;
        s->passed_same_program |= passed && p->same_program;
    }
    s->fail_rate = (fails + 0.02) / (weights + 1);
}

static double value_of(const struct standing *s)
{
    double days = s->idle_days < STALE_DAYS_MAX ? s->idle_days : STALE_DAYS_MAX;
    double staleness = 1 + (double)s->n_unrun + (days > 0 ? days : 0);
    double change = s->passed_same_program ? 1 : 4;
    return 1 - pow(1 - s->fail_rate, staleness * change);
}

static void classify(struct bnt_test *t, const struct standing *s)
{
    struct bnt_test_plan *p = &t->plan;
    const char *why = NULL;
    p->kind = BNT_PLAN_MUST;
    if (s->n_unrun >= PLAN_OVERDUE_RUNS && !BNT_FAULT(starvation)) {
        p->kind = BNT_PLAN_OVERDUE;
        snprintf(p->why, sizeof p->why, "%zu runs left it unrun", s->n_unrun);
    } else if (filter_has_word(t->tags, "contract")) {
        why = "contract";
    } else if (s->n_executed == 0) {
        p->kind = BNT_PLAN_NEW;
        why = "it never ran";
    } else if (s->failed_last) {
        why = "it failed last time";
    } else if (!s->passed_same_inputs) {
        why = t->subjects[0] ? "its inputs or its model changed since its last pass"
                             : "its inputs changed since its last pass";
    } else {
        p->kind = BNT_PLAN_VALUE;
        snprintf(p->why, sizeof p->why, "value %.3f at %.2f s%s", p->value,
                 (double)p->mean_ms / 1e3,
                 s->passed_same_program ? "" : "; the program changed since its last pass");
    }
    if (why) {
        snprintf(p->why, sizeof p->why, "%s", why);
    }
}

static void keep_past(struct bnt_test *t, const struct plan_sample *samples, size_t n)
{
    t->past.n = n < BNT_TEST_PAST ? n : BNT_TEST_PAST;
    for (size_t i = 0; i < t->past.n; i++) {
        const struct plan_sample *p = &samples[t->past.n - 1 - i];
        t->past.at[i].outcome = p->outcome;
        t->past.at[i].wall_ms = p->wall_ms;
    }
}

void plan_judge(struct bnt_test *t, const struct plan_sample *samples, size_t n)
{
    struct standing s = {0};
    n = n < PLAN_SAMPLES_MAX ? n : PLAN_SAMPLES_MAX;
    stand(samples, n, &s);
    t->plan.n_unrun = s.n_unrun;
    judge_time(t, samples, n);
    t->plan.value = s.n_executed > 0 ? value_of(&s) : 1;
    classify(t, &s);
    keep_past(t, samples, n);
}

/* ---- order ---- */

static bool is_planned(const struct bnt_test *t)
{
    return t->outcome == BNT_TEST_PENDING;
}

/* Expected time of the tests of a class on n_jobs workers: no less than the sum shared out, and no
 * less than the longest. BNT_PLAN_CLASSES: of all. */
static double span_ms(const struct bnt_test_run *run, enum bnt_plan_class kind, int n_jobs)
{
    double sum = 0;
    double longest = 0;
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test_plan *p = &run->at[i].plan;
        if (is_planned(&run->at[i]) && (kind == BNT_PLAN_CLASSES || p->kind == kind)) {
            sum += (double)p->mean_ms;
            longest = (double)p->mean_ms > longest ? (double)p->mean_ms : longest;
        }
    }
    sum /= n_jobs;
    return sum > longest ? sum : longest;
}

static void name_dearest(const struct bnt_test_run *run, struct bnt_err *err)
{
    char text[256] = "";
    const struct bnt_test *named[DEAREST] = {NULL};
    for (size_t k = 0; k < DEAREST; k++) {
        for (size_t i = 0; i < run->n; i++) {
            const struct bnt_test *t = &run->at[i];
            bool seen = t == named[0] || t == named[1];
            if (is_planned(t) && t->plan.kind == BNT_PLAN_MUST && !seen &&
                (!named[k] || t->plan.mean_ms > named[k]->plan.mean_ms)) {
                named[k] = t;
            }
        }
        size_t len = strlen(text);
        if (named[k]) {
            snprintf(text + len, sizeof text - len, "%s%.48s (%.1f s)", k ? ", " : "",
                     named[k]->name, (double)named[k]->plan.mean_ms / 1e3);
        }
    }
    bnt_err_hint(err, "give a larger --budget, or run less; the dearest: %s", text);
}

enum bnt_status plan_check_must(const struct bnt_test_run *run, int n_jobs, struct bnt_err *err)
{
    double span = span_ms(run, BNT_PLAN_MUST, n_jobs);
    if (span <= (double)run->budget_ms) {
        return BNT_OK;
    }
    size_t n_must = 0;
    for (size_t i = 0; i < run->n; i++) {
        n_must += is_planned(&run->at[i]) && run->at[i].plan.kind == BNT_PLAN_MUST;
    }
    bnt_err_set(err, BNT_E_NOT_ALL_RAN,
                "the %zu tests that must run take %.1f s, and the budget is %.1f s", n_must,
                span / 1e3, (double)run->budget_ms / 1e3);
    name_dearest(run, err);
    return BNT_E_NOT_ALL_RAN;
}

struct place_in_order {
    const struct bnt_test *test;
    size_t index;
    bool all_fits;
};

static int compare(double a, double b)
{
    return (a > b) - (a < b);
}

/* What goes earlier is smaller. New tests and valued ones are one group when all fits. */
static int by_plan(const void *a, const void *b)
{
    const struct place_in_order *x = a;
    const struct place_in_order *y = b;
    const struct bnt_test_plan *p = &x->test->plan;
    const struct bnt_test_plan *q = &y->test->plan;
    int last = x->all_fits ? BNT_PLAN_NEW : BNT_PLAN_VALUE;
    int kind_p = (int)p->kind < last ? (int)p->kind : last;
    int kind_q = (int)q->kind < last ? (int)q->kind : last;
    int order = kind_p - kind_q;
    if (order == 0 && (p->n_unrun >= PLAN_WAITED_RUNS || q->n_unrun >= PLAN_WAITED_RUNS)) {
        order = compare((double)q->n_unrun, (double)p->n_unrun);
    }
    if (order == 0 && (x->all_fits || kind_p == BNT_PLAN_MUST)) {
        order = compare((double)q->mean_ms, (double)p->mean_ms);
    } else if (order == 0) {
        order = compare(q->value / (double)(q->mean_ms + 1), p->value / (double)(p->mean_ms + 1));
    }
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* A test that seems longer than the whole budget gets its chance now and then, at the very
 * beginning of a run: what was seen of it may not come again. */
static void give_chance(struct bnt_test_plan *p, uint64_t budget_ms)
{
    uint64_t most = budget_ms - budget_ms / 10;
    if (p->kind == BNT_PLAN_OVERDUE && p->fit_ms > most && p->n_unrun % PLAN_OVERDUE_RUNS == 0) {
        p->fit_ms = most;
    }
}

enum bnt_status plan_order(struct bnt_test_run *run, int n_jobs, struct bnt_err *err)
{
    size_t bytes = (run->n + 1) * sizeof(struct place_in_order);
    struct place_in_order *places = malloc(bytes);
    free(run->order);
    run->order = malloc((run->n + 1) * sizeof *run->order);
    if (!places || !run->order) {
        free(places);
        return bnt_err_nomem(err, "the plan", bytes);
    }
    double longest_wait = span_ms(run, BNT_PLAN_CLASSES, n_jobs);
    bool all_fits = longest_wait < 0.7 * (double)run->budget_ms;
    for (size_t i = 0; i < run->n; i++) {
        give_chance(&run->at[i].plan, run->budget_ms);
        places[i] = (struct place_in_order){&run->at[i], i, all_fits};
    }
    qsort(places, run->n, sizeof *places, by_plan);
    for (size_t i = 0; i < run->n; i++) {
        run->order[i] = places[i].index;
        run->at[places[i].index].plan.rank = i;
    }
    free(places);
    return BNT_OK;
}
