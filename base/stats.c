/* Quantiles, means and bootstrap intervals. Pure functions; the only state is a generator on the
 * stack. */
#include "base/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fault.h"
#include "base/rng.h"

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void bnt_stats_sort(double *at, size_t n)
{
    qsort(at, n, sizeof *at, compare);
}

double bnt_stats_quantile(const double *sorted, size_t n, double q)
{
    double place = q * (double)(n - 1);
    size_t below = (size_t)place;
    double rest = place - (double)below;
    return below + 1 < n ? sorted[below] + rest * (sorted[below + 1] - sorted[below])
                         : sorted[n - 1];
}

double bnt_stats_median(const double *sorted, size_t n)
{
    return bnt_stats_quantile(sorted, n, 0.5);
}

struct bnt_mean bnt_stats_mean(const double *at, size_t n)
{
    struct bnt_mean m = {.n = n};
    double squares = 0;
    for (size_t i = 0; i < n; i++) {
        m.mean += at[i];
    }
    m.mean /= (double)n;
    for (size_t i = 0; i < n; i++) {
        squares += (at[i] - m.mean) * (at[i] - m.mean);
    }
    m.sd = n > 1 ? sqrt(squares / (double)(n - 1)) : 0;
    m.se = m.sd / sqrt((double)n);
    return m;
}

/* ---- statistics ---- */

double bnt_statistic_mean(void *ctx, double *a, size_t n_a, double *b, size_t n_b)
{
    double sum = 0;
    (void)ctx, (void)b, (void)n_b;
    for (size_t i = 0; i < n_a; i++) {
        sum += a[i];
    }
    return sum / (double)n_a;
}

double bnt_statistic_median(void *ctx, double *a, size_t n_a, double *b, size_t n_b)
{
    (void)ctx, (void)b, (void)n_b;
    bnt_stats_sort(a, n_a);
    return bnt_stats_median(a, n_a);
}

double bnt_statistic_median_ratio(void *ctx, double *a, size_t n_a, double *b, size_t n_b)
{
    return bnt_statistic_median(ctx, b, n_b, NULL, 0) / bnt_statistic_median(ctx, a, n_a, NULL, 0);
}

/* ---- bootstrap ---- */

/* As many samples as there are, in blocks that begin anywhere and go on at the front. */
static void draw(struct bnt_rng *rng, const struct bnt_samples *from, size_t block, double *into)
{
    for (size_t i = 0; i < from->n;) {
        size_t at = bnt_rng_below(rng, from->n);
        for (size_t k = 0; k < block && i < from->n; k++) {
            into[i++] = from->at[at];
            at = at + 1 < from->n ? at + 1 : 0;
        }
    }
}

static enum bnt_status check(const struct bnt_bootstrap *how, const struct bnt_samples *a,
                             const struct bnt_samples *b, struct bnt_err *err)
{
    if (a->n == 0 || b->n == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "an interval of no samples");
    }
    if (how->n_resamples > BNT_BOOTSTRAP_MAX || how->confidence < 0 || how->confidence >= 1) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "an interval of confidence %g by %u resamples: confidence must lie "
                           "between 0 and 1, resamples end at %d",
                           how->confidence, how->n_resamples, BNT_BOOTSTRAP_MAX);
    }
    return BNT_OK;
}

struct resampling {
    const struct bnt_bootstrap *how;
    const struct bnt_samples *a, *b; /* b may be NULL */
    double *copy_a, *copy_b;
};

static double evaluate(const struct resampling *r)
{
    return r->how->statistic(r->how->ctx, r->copy_a, r->a->n, r->copy_b, r->b ? r->b->n : 0);
}

static enum bnt_status resample(const struct resampling *r, double *found, uint32_t n,
                                struct bnt_err *err)
{
    struct bnt_rng rng;
    size_t block = r->how->block > 1 && !BNT_FAULT(bootstrap_block) ? r->how->block : 1;
    bnt_rng_seed(&rng, r->how->seed);
    for (uint32_t i = 0; i < n; i++) {
        draw(&rng, r->a, block, r->copy_a);
        if (r->b) {
            draw(&rng, r->b, block, r->copy_b);
        }
        found[i] = evaluate(r);
        if (!isfinite(found[i])) {
            return bnt_err_set(err, BNT_E_INCONCLUSIVE,
                               "resample %u of %u has no finite value: the samples are too few or "
                               "too odd for an interval",
                               i + 1, n);
        }
    }
    return BNT_OK;
}

enum bnt_status bnt_stats_bootstrap(const struct bnt_bootstrap *how, const struct bnt_samples *a,
                                    const struct bnt_samples *b, struct bnt_interval *out,
                                    struct bnt_err *err)
{
    uint32_t n = how->n_resamples ? how->n_resamples : BNT_BOOTSTRAP_RESAMPLES;
    double confidence = how->confidence > 0 ? how->confidence : 0.95;
    uint64_t numbers, bytes;
    enum bnt_status st = check(how, a, b ? b : a, err);
    if (st != BNT_OK) {
        return st;
    }
    double *found = NULL;
    if (bnt_add_u64(a->n, b ? b->n : 0, &numbers) && bnt_add_u64(numbers, n, &numbers) &&
        bnt_mul_u64(numbers, sizeof *found, &bytes)) {
        found = malloc(bytes);
    }
    if (!found) {
        return bnt_err_nomem(err, "the samples of an interval", numbers * sizeof *found);
    }
    struct resampling r = {how, a, b, found + n, b ? found + n + a->n : NULL};
    memcpy(r.copy_a, a->at, a->n * sizeof *found);
    if (b) {
        memcpy(r.copy_b, b->at, b->n * sizeof *found);
    }
    double estimate = evaluate(&r);
    st = resample(&r, found, n, err);
    if (st == BNT_OK) {
        bnt_stats_sort(found, n);
        out->estimate = estimate;
        out->low = bnt_stats_quantile(found, n, (1 - confidence) / 2);
        out->high = bnt_stats_quantile(found, n, (1 + confidence) / 2);
    }
    free(found);
    return st;
}
