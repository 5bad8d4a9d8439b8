/* Guards what decides between "worse" and "chance": an interval that is too narrow calls noise a
 * regression, one that is too wide lets every regression pass. */
#include "testkit/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/stats.h"

/* Of xoshiro256** itself, from the state {1, 2, 3, 4}: the authors' program prints these. */
static void rng_is_the_published_generator(void **state)
{
    (void)state;
    static const uint64_t published[] = {11520, 0, 1509978240, 1215971899390074240};
    struct bnt_rng r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < 4; i++) {
        assert_true(bnt_rng_next(&r) == published[i]);
    }
    size_t count[10] = {0};
    bnt_rng_seed(&r, 7);
    for (size_t i = 0; i < 100000; i++) {
        count[bnt_rng_below(&r, 10)]++;
    }
    for (size_t i = 0; i < 10; i++) {
        assert_in_range(count[i], 9600, 10400); /* four standard deviations */
    }
}

/* numpy: quantile([...], q) with its default method. */
static void quantiles_lie_between_neighbours(void **state)
{
    (void)state;
    double at[] = {7, 1, 4, 2};
    bnt_stats_sort(at, 4);
    assert_true(bnt_stats_median(at, 4) == 3);
    assert_true(bnt_stats_quantile(at, 4, 0) == 1);
    assert_true(bnt_stats_quantile(at, 4, 1) == 7);
    assert_true(fabs(bnt_stats_quantile(at, 4, 0.9) - 6.1) < 1e-12);
    assert_true(bnt_stats_median(at, 3) == 2);
    assert_true(bnt_stats_median(at, 1) == 1);
    struct bnt_mean m = bnt_stats_mean(at, 4);
    assert_true(m.mean == 3.5 && fabs(m.sd - sqrt(7)) < 1e-12 && fabs(m.se - m.sd / 2) < 1e-12);
    assert_true(bnt_stats_mean(at, 1).sd == 0);
}

/* ---- intervals ---- */

static double normal(struct bnt_rng *r)
{
    return sqrt(-2 * log(1 - bnt_rng_unit(r))) * cos(2 * acos(-1) * bnt_rng_unit(r));
}

static void same_seed_gives_the_same_interval(void **state)
{
    (void)state;
    double at[50];
    struct bnt_rng r;
    struct bnt_interval first, again, other;
    struct bnt_samples s = {at, 50};
    struct bnt_bootstrap how = {.statistic = bnt_statistic_median, .seed = 3, .n_resamples = 300};
    bnt_rng_seed(&r, 1);
    for (size_t i = 0; i < 50; i++) {
        at[i] = normal(&r);
    }
    assert_int_equal(bnt_stats_bootstrap(&how, &s, NULL, &first, NULL), BNT_OK);
    assert_int_equal(bnt_stats_bootstrap(&how, &s, NULL, &again, NULL), BNT_OK);
    how.seed = 4;
    assert_int_equal(bnt_stats_bootstrap(&how, &s, NULL, &other, NULL), BNT_OK);
    assert_memory_equal(&first, &again, sizeof first);
    assert_true(first.low < first.estimate && first.estimate < first.high);
    assert_true(first.estimate == other.estimate && first.low != other.low);
}

static void an_interval_needs_samples_and_finite_values(void **state)
{
    (void)state;
    struct bnt_interval out;
    const double at[] = {0, 0, 1};
    struct bnt_samples none = {at, 0}, some = {at, 3};
    struct bnt_bootstrap how = {.statistic = bnt_statistic_median_ratio, .n_resamples = 100};
    assert_int_equal(bnt_stats_bootstrap(&how, &none, NULL, &out, NULL), BNT_E_USAGE);
    assert_int_equal(bnt_stats_bootstrap(&how, &some, &none, &out, NULL), BNT_E_USAGE);
    assert_int_equal(bnt_stats_bootstrap(&how, &some, &some, &out, NULL), BNT_E_INCONCLUSIVE);
    how.statistic = bnt_statistic_mean;
    how.confidence = 1;
    assert_int_equal(bnt_stats_bootstrap(&how, &some, NULL, &out, NULL), BNT_E_USAGE);
    how.confidence = 0.5;
    assert_int_equal(bnt_stats_bootstrap(&how, &some, NULL, &out, NULL), BNT_OK);
}

/* Samples of a chain, each of which keeps a part of the one before it; of that is 0: independent.
 */
struct chain {
    double keeps;
    size_t n, block;
};

/* How often of `rounds` the true mean, 0, lies in the 95 % interval. */
static unsigned covered(const struct chain *c, unsigned rounds)
{
    double *at = malloc(c->n * sizeof *at), last = 0;
    struct bnt_samples s = {at, c->n};
    struct bnt_rng r;
    unsigned in = 0;
    assert_non_null(at);
    bnt_rng_seed(&r, 20);
    for (unsigned k = 0; k < rounds; k++) {
        for (size_t i = 0; i < c->n; i++) {
            at[i] = last = c->keeps * last + normal(&r);
        }
        struct bnt_bootstrap how = {
            .statistic = bnt_statistic_mean, .seed = k, .n_resamples = 200, .block = c->block};
        struct bnt_interval out;
        assert_int_equal(bnt_stats_bootstrap(&how, &s, NULL, &out, NULL), BNT_OK);
        in += out.low <= 0 && out.high >= 0;
    }
    free(at);
    return in;
}

/* 95 % of 400 is 380, with a standard deviation of 4.4. */
static void intervals_cover_the_truth_as_often_as_they_say(void **state)
{
    (void)state;
    const struct chain independent = {0, 60, 0}, ignored = {0.7, 400, 0}, seen = {0.7, 400, 25};
    assert_in_range(covered(&independent, 400), 366, 394);
    assert_in_range(covered(&seen, 400), 355, 394);
    assert_in_range(covered(&ignored, 400), 200, 320); /* what the blocks are for */
}

/* Two groups that differ by 5 %, with noise of 3 %: 30 runs of each tell, 5 % of noise alone do
 * not. */
static void two_groups_are_told_apart(void **state)
{
    (void)state;
    double a[30], b[30];
    struct bnt_rng r;
    struct bnt_interval out;
    struct bnt_samples old = {a, 30}, new = {b, 30};
    struct bnt_bootstrap how = {.statistic = bnt_statistic_median_ratio, .confidence = 0.99};
    bnt_rng_seed(&r, 5);
    for (size_t i = 0; i < 30; i++) {
        a[i] = 100 + 3 * normal(&r);
        b[i] = 105 + 3 * normal(&r);
    }
    assert_int_equal(bnt_stats_bootstrap(&how, &old, &new, &out, NULL), BNT_OK);
    assert_true(out.low > 1 && out.high < 1.1 && out.estimate > 1.02 && out.estimate < 1.08);
    assert_int_equal(bnt_stats_bootstrap(&how, &old, &old, &out, NULL), BNT_OK);
    assert_true(out.low < 1 && out.high > 1 && out.estimate == 1);
}

static const struct suite_test tests[] = {
    {.name = "rng_is_the_published_generator", .body = rng_is_the_published_generator},
    {.name = "stats_quantiles_lie_between_neighbours", .body = quantiles_lie_between_neighbours},
    {.name = "stats_same_seed_gives_the_same_interval", .body = same_seed_gives_the_same_interval},
    {.name = "stats_interval_needs_samples_and_finite_values",
     .body = an_interval_needs_samples_and_finite_values},
    {.name = "stats_intervals_cover_the_truth_as_often_as_they_say",
     .body = intervals_cover_the_truth_as_often_as_they_say},
    {.name = "stats_two_groups_are_told_apart", .body = two_groups_are_told_apart},
    {0},
};

const struct suite suite_stats = {"stats", tests, "bootstrap_block"};
