/* Verdicts about speed. Pure functions of the pairs and a seed. */
#include "testkit/perf_verdict.h"

#include <math.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/stats.h"

/* Half of a two-sided tail needs several resamples beyond it to have a place. */
enum { RESAMPLES_BEYOND = 10 };

const char *perf_verdict_name(enum perf_verdict v)
{
    static const char *const names[] = {"same", "faster", "undecided", "slower"};
    return names[v];
}

enum perf_verdict perf_verdict_join(enum perf_verdict a, enum perf_verdict b)
{
    return a > b ? a : b;
}

enum bnt_status perf_verdict_status(enum perf_verdict v)
{
    return v == PERF_SLOWER && !BNT_FAULT(slower_is_fine) ? BNT_E_SLOWER
           : v == PERF_UNDECIDED                          ? BNT_E_INCONCLUSIVE
                                                          : BNT_OK;
}

static void swap(double *a, double *b)
{
    double kept = *a;
    *a = *b;
    *b = kept;
}

/* Reorder at[0..n-1] so that the k least come first (C. Hoare's selection, 1961): a verdict takes
 * thousands of midmeans, and sorting would cost several times as much. */
static void select_least(double *at, size_t n, size_t k)
{
    size_t low = 0, high = n;
    while (high - low > 1 && k > low && k < high) {
        double pivot = at[low + (high - 1 - low) / 2];
        size_t i = low, j = high - 1;
        for (;; i++, j--) {
            for (; at[i] < pivot; i++) {
            }
            for (; at[j] > pivot; j--) {
            }
            if (i >= j) {
                break;
            }
            swap(&at[i], &at[j]);
        }
        if (k <= j + 1) {
            high = j + 1;
        } else {
            low = j + 1;
        }
    }
}

/* The mean of the middle half; of the whole for n < 4. */
static double midmean(void *ctx, double *a, size_t n_a, double *b, size_t n_b)
{
    (void)ctx, (void)b, (void)n_b;
    size_t cut = n_a / 4;
    select_least(a, n_a, cut);
    select_least(a + cut, n_a - cut, n_a - 2 * cut);
    return bnt_stats_mean(a + cut, n_a - 2 * cut).mean;
}

static enum bnt_status check_rule(const struct perf_rule *rule, size_t n, struct bnt_err *err)
{
    if (n < PERF_PAIRS_MIN || n > PERF_PAIRS_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "%zu pairs of times; a verdict takes %d to %d", n,
                           PERF_PAIRS_MIN, PERF_PAIRS_MAX);
    }
    if (rule->n_figures == 0 || !(rule->margin > 0 && rule->margin < 1) ||
        !(rule->confidence > 0.5 && rule->confidence < 1)) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "a margin of %g and a confidence of %g: the margin must lie between 0 "
                           "and 1, the confidence between 0.5 and 1",
                           rule->margin, rule->confidence);
    }
    return BNT_OK;
}

static enum perf_verdict decide(double margin, const struct bnt_interval *log_ratio)
{
    double above = log1p(margin), below = log1p(-margin);
    if (log_ratio->low > below && log_ratio->high < above) {
        return PERF_SAME;
    }
    if (log_ratio->low > 0 && log_ratio->estimate >= above) {
        return PERF_SLOWER;
    }
    return log_ratio->high < 0 && log_ratio->estimate <= below ? PERF_FASTER : PERF_UNDECIDED;
}

enum bnt_status perf_judge(const struct perf_rule *rule, const struct perf_pair *pairs, size_t n,
                           struct perf_judgement *out, struct bnt_err *err)
{
    enum bnt_status st = check_rule(rule, n, err);
    if (st != BNT_OK) {
        return st;
    }
    double *logs = malloc(n * sizeof *logs);
    if (!logs) {
        return bnt_err_nomem(err, "pairs of times", n * sizeof *logs);
    }
    for (size_t i = 0; i < n && st == BNT_OK; i++) {
        logs[i] = log(pairs[i].head / pairs[i].base);
        if (!(pairs[i].head > 0 && pairs[i].base > 0) || !isfinite(logs[i])) {
            st = bnt_err_set(err, BNT_E_INCONCLUSIVE, "pair %zu: %g and %g are no two times", i + 1,
                             pairs[i].base, pairs[i].head);
        }
    }
    double beyond = (1 - rule->confidence) / (double)rule->n_figures;
    double resamples = 2 * RESAMPLES_BEYOND / beyond;
    struct bnt_bootstrap how = {.statistic = midmean,
                                .seed = rule->seed,
                                .confidence = 1 - beyond,
                                .n_resamples = resamples > BNT_BOOTSTRAP_MAX ? BNT_BOOTSTRAP_MAX
                                                                             : (uint32_t)resamples};
    struct bnt_interval log_ratio;
    if (st == BNT_OK) {
        st = bnt_stats_bootstrap(&how, &(struct bnt_samples){logs, n}, NULL, &log_ratio, err);
    }
    free(logs);
    if (st == BNT_OK) {
        *out = (struct perf_judgement){.verdict = decide(rule->margin, &log_ratio),
                                       .change = expm1(log_ratio.estimate),
                                       .low = expm1(log_ratio.low),
                                       .high = expm1(log_ratio.high),
                                       .confidence = how.confidence};
    }
    return st;
}

void perf_judge_counts(double margin, const struct perf_pair *counts, struct perf_judgement *out)
{
    double change = counts->head / counts->base - 1;
    *out = (struct perf_judgement){.verdict = change >= margin    ? PERF_SLOWER
                                              : change <= -margin ? PERF_FASTER
                                                                  : PERF_SAME,
                                   .change = change,
                                   .low = change,
                                   .high = change,
                                   .confidence = 1};
}

/* ---- a figure over many runs ---- */

const char *perf_trend_name(enum perf_trend t)
{
    static const char *const names[] = {"too few", "steady", "up", "down"};
    return names[t];
}

/* The step from old to latest, as a ratio of medians. */
static enum bnt_status find_step(const struct bnt_samples *old, const struct bnt_samples *latest,
                                 struct perf_history *out, struct bnt_err *err)
{
    struct bnt_bootstrap how = {
        .statistic = bnt_statistic_median_ratio, .seed = 1, .confidence = 0.99};
    struct bnt_interval ratio;
    enum bnt_status st = bnt_stats_bootstrap(&how, old, latest, &ratio, err);
    if (st == BNT_OK) {
        out->change = ratio.estimate - 1;
        out->trend = ratio.low > 1 && out->change >= PERF_TREND_MARGIN     ? PERF_TREND_UP
                     : ratio.high < 1 && out->change <= -PERF_TREND_MARGIN ? PERF_TREND_DOWN
                                                                           : PERF_TREND_STEADY;
    }
    return st;
}

enum bnt_status perf_history_of(const double *values, size_t n, struct perf_history *out,
                                struct bnt_err *err)
{
    struct bnt_bootstrap how = {.statistic = bnt_statistic_median, .seed = 1};
    struct bnt_interval median;
    *out = (struct perf_history){.trend = PERF_TREND_FEW};
    enum bnt_status st =
        bnt_stats_bootstrap(&how, &(struct bnt_samples){values, n}, NULL, &median, err);
    if (st != BNT_OK) {
        return st;
    }
    out->median = median.estimate;
    out->low = median.low;
    out->high = median.high;
    if (n < PERF_TREND_NEW + PERF_TREND_OLD || BNT_FAULT(step_unseen)) {
        return BNT_OK;
    }
    size_t n_old = n - PERF_TREND_NEW;
    return find_step(&(struct bnt_samples){values, n_old},
                     &(struct bnt_samples){values + n_old, PERF_TREND_NEW}, out, err);
}
