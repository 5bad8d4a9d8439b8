/* The plan of a run: which test goes first, what it is worth, and what it will cost. Pure: it knows
 * earlier results, and neither clock nor files.
 *
 *     for each test: plan_judge(test, samples, n, &now);   what its history says of it
 *     plan_check_must(run, n_jobs, &err);                  refuse what cannot be
 *     plan_order(run, n_jobs, &err);                       run->order, and each test's rank
 *
 * Order (docs/testkit.md, "The plan"): tests that waited PLAN_OVERDUE_RUNS runs, then what must run
 * (tagged "contract", not passed with these inputs and this model, failed last time), then tests
 * that never ran, then the rest by value per second, where
 *
 *     value = 1 - (1 - f)^(s * c)
 *     f   rate of failures, recent ones weighing more: (sum w_i fail_i + 0.02) / (sum w_i + 1),
 *         w_i = 0.9^i, i = 0 for the latest
 *     s   staleness: 1 + runs that left it unrun + days since it last ran (at most 30)
 *     c   4 when this program never passed it, else 1
 *
 * and the second is its mean time, recent runs weighing more. When all fits well into the budget,
 * the longest come first within what must run and within the rest: the run is over sooner. */
#ifndef TESTKIT_PLANNER_H
#define TESTKIT_PLANNER_H

#include "testkit/bnt_test.h"

enum {
    PLAN_SAMPLES_MAX = 60,
    PLAN_WAITED_RUNS = 4,  /* unrun so often, a test goes before others of its class */
    PLAN_OVERDUE_RUNS = 8, /* unrun so often, it goes before all */
};

/* One earlier decision about a test. */
struct plan_sample {
    enum bnt_test_outcome outcome;
    uint64_t wall_ms;
    bool same_inputs;  /* as now, and where the test takes a model the same one */
    bool same_program; /* as now */
    bool comparable;   /* its time was taken on a machine like this one */
    double age_days;
};

/* Fill t->plan but its rank, and t->past, from samples, the latest first. */
void plan_judge(struct bnt_test *t, const struct plan_sample *samples, size_t n);

/* Errors: NOT_ALL_RAN when what must run does not fit into the run's budget even if all else is
 * left out; the hint names the three dearest. */
enum bnt_status plan_check_must(const struct bnt_test_run *run, int n_jobs, struct bnt_err *err);

/* Sets run->order and every rank; run->budget_ms is set. */
enum bnt_status plan_order(struct bnt_test_run *run, int n_jobs, struct bnt_err *err);

/* Expected time of a test that nothing is known of, from its time class: the limit is there to end
 * what hangs and lies far above what a test takes. */
uint64_t plan_class_ms(const struct bnt_test *t);

#endif
