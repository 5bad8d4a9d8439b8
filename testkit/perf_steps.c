/* Figures against their history. See perf_steps.h. */
#include "testkit/perf_steps.h"

#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "base/stats.h"
#include "testkit/perf_verdict.h"

/* 1: more is worse; -1: less is worse; 0: neither is known. */
static int bad_side(const char *unit)
{
    static const struct {
        const char *unit;
        int side;
    } units[] = {{"s", 1},    {"ms", 1},        {"us", 1},   {"ns", 1},    {"B", 1},
                 {"kB", 1},   {"MB", 1},        {"MiB", 1},  {"GB", 1},    {"GiB", 1},
                 {"1/s", -1}, {"tokens/s", -1}, {"B/s", -1}, {"MB/s", -1}, {"GB/s", -1}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(units[i].unit, unit) == 0) {
            return units[i].side;
        }
    }
    return 0;
}

static double median(const double *values, size_t n)
{
    double sorted[BNT_TEST_PAST + 1];
    memcpy(sorted, values, n * sizeof *values);
    bnt_stats_sort(sorted, n);
    return bnt_stats_median(sorted, n);
}

/* Even the best of the latest is worse than the median before by the margin. */
static bool all_are_worse(const double *values, size_t n, int side)
{
    double before = median(values, n - PERF_TREND_NEW);
    for (size_t i = n - PERF_TREND_NEW; i < n; i++) {
        if (side * (values[i] - before) < PERF_TREND_MARGIN * fabs(before)) {
            return false;
        }
    }
    return true;
}

static enum bnt_status judge(struct bnt_test_metric *m, int side, struct perf_steps *out,
                             struct bnt_err *err)
{
    double values[BNT_TEST_PAST + 1];
    size_t n = m->n_past;
    struct perf_history h;
    memcpy(values, m->past, n * sizeof *values);
    values[n++] = m->value;
    enum bnt_status st = perf_history_of(values, n, &h, err);
    if (st != BNT_OK) {
        return st;
    }
    if (h.trend == PERF_TREND_FEW) {
        out->n_few++;
        return BNT_OK;
    }
    m->worse = h.trend == (side > 0 ? PERF_TREND_UP : PERF_TREND_DOWN) &&
               all_are_worse(values, n, side) && !BNT_FAULT(worse_unseen);
    m->change = h.change;
    out->n_worse += m->worse;
    out->n_steady += !m->worse;
    return BNT_OK;
}

enum bnt_status perf_steps_judge(struct bnt_test_run *run, struct perf_steps *out,
                                 struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    *out = (struct perf_steps){.n_worse = 0};
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        for (size_t k = 0; k < t->n_metrics && st == BNT_OK; k++) {
            int side = bad_side(t->metrics[k].unit);
            st = side != 0 ? judge(&t->metrics[k], side, out, err) : BNT_OK;
        }
    }
    return st;
}
