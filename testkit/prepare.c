#include "testkit/prepare.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/planner.h"

_Static_assert((int)PLAN_SAMPLES_MAX == (int)HISTORY_PER_TEST, "all that is kept is looked at");

/* What a row of the past means for a test of this run. */
static struct plan_sample sample_of(const struct bnt_test_run *run, const struct bnt_test *t,
                                    const struct history_row *row)
{
    bool same_model = !t->subjects[0] || strncmp(row->model, run->model.digest, 16) == 0;
    bool same_inputs = !t->inputs[0] || strncmp(row->inputs, t->inputs, 16) == 0;
    double age_s = (double)(bnt_clock_unix_s() - row->started_unix_s);
    struct plan_sample s = {.outcome = row->outcome, .wall_ms = row->wall_ms};
    s.same_inputs = same_inputs && same_model;
    s.same_program = strncmp(row->program, run->program_digest, 16) == 0;
    s.comparable = strcmp(row->machine, run->machine.fingerprint) == 0;
    s.age_days = age_s > 0 ? age_s / 86400 : 0;
    return s;
}

static enum bnt_status judge(struct bnt_test_run *run, struct bnt_test *t, struct history *history,
                             struct bnt_err *err)
{
    struct history_row rows[HISTORY_PER_TEST];
    struct plan_sample samples[PLAN_SAMPLES_MAX];
    size_t n = 0;
    size_t n_samples = 0;
    enum bnt_status st = history_of_test(history, t->name, rows, &n, err);
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].elsewhere) {
            samples[n_samples++] = sample_of(run, t, &rows[i]);
        }
    }
    plan_judge(t, samples, n_samples);
    return st;
}

enum bnt_status prepare_plan(struct bnt_test_run *run, struct history *history, int n_jobs,
                             bnt_warn_fn *warn, struct bnt_err *err)
{
    struct bnt_err trouble = {0};
    for (size_t i = 0; i < run->n; i++) {
        struct bnt_test *t = &run->at[i];
        if (!history || trouble.status != BNT_OK) {
            plan_judge(t, NULL, 0);
        } else if (judge(run, t, history, &trouble) != BNT_OK) {
            warn(NULL, trouble.msg, trouble.hint[0] ? trouble.hint : NULL);
        }
    }
    enum bnt_status st = plan_check_must(run, n_jobs, err);
    return st == BNT_OK ? plan_order(run, n_jobs, err) : st;
}

/* The latest row that is a result. */
static bool failed_last(const struct history_row *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        enum bnt_test_outcome o = rows[i].outcome;
        bool settled = o == BNT_TEST_PASSED || o == BNT_TEST_CACHED;
        bool red = o == BNT_TEST_FAILED || o == BNT_TEST_DISAGREED || o == BNT_TEST_QUARANTINED;
        if (!rows[i].elsewhere && (settled || red)) {
            return red;
        }
    }
    return false;
}

enum bnt_status prepare_last_failed(struct bnt_test_run *run, struct history *history,
                                    struct bnt_err *err)
{
    struct history_row rows[HISTORY_PER_TEST];
    size_t n_kept = 0;
    for (size_t i = 0; i < run->n; i++) {
        size_t n = 0;
        enum bnt_status st = history_of_test(history, run->at[i].name, rows, &n, err);
        if (st != BNT_OK) {
            return st;
        }
        if (failed_last(rows, n)) {
            struct bnt_test kept = run->at[i];
            run->at[i] = run->at[n_kept];
            run->at[n_kept++] = kept;
        }
    }
    bnt_test_keep_first(run, n_kept);
    return BNT_OK;
}
