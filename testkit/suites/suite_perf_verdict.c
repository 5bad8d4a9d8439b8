/* Guards the verdicts about speed: an alarm where nothing changed, a slowdown that is not seen, a
 * slower program that ends with success.
 *
 * How often a verdict is wrong is counted on recorded pairs of one program with itself
 * (testkit/data/perf/README.md says how they were taken): a comparison draws its pairs from them,
 * with replacement; a slowdown is injected by lengthening the times of head. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "testkit/perf_verdict.h"

/* ---- Rules. */

/* n pairs whose ratios lie evenly within spread around 1 + change. */
static void make_pairs(struct perf_pair *pairs, size_t n, double change, double spread)
{
    for (size_t i = 0; i < n; i++) {
        double at = n > 1 ? 2.0 * (double)i / (double)(n - 1) - 1 : 0;
        pairs[i] = (struct perf_pair){10, 10 * (1 + change) * (1 + spread * at)};
    }
}

static void verdicts_follow_interval_and_margin(void **state)
{
    (void)state;
    static const struct {
        double change, spread;
        enum perf_verdict verdict;
    } cases[] = {
        {0, 0.01, PERF_SAME},          {0.01, 0.005, PERF_SAME},
        {0.05, 0.02, PERF_SLOWER},     {-0.05, 0.02, PERF_FASTER},
        {0.05, 0.4, PERF_UNDECIDED},   {0, 0.4, PERF_UNDECIDED},
        {0.5, 0.2, PERF_SLOWER},       {-0.4, 0.2, PERF_FASTER},
        {0.024, 0.01, PERF_UNDECIDED}, /* more than nothing, and perhaps more than the margin */
    };
    struct perf_rule rule = {.margin = 0.025, .confidence = 0.99, .n_figures = 1, .seed = 3};
    struct perf_pair pairs[40];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct perf_judgement j;
        make_pairs(pairs, 40, cases[i].change, cases[i].spread);
        assert_int_equal(perf_judge(&rule, pairs, 40, &j, NULL), BNT_OK);
        if (j.verdict != cases[i].verdict) {
            fail_msg("case %zu: %s, not %s (%+.4f, %+.4f to %+.4f)", i,
                     perf_verdict_name(j.verdict), perf_verdict_name(cases[i].verdict), j.change,
                     j.low, j.high);
        }
        assert_true(fabs(j.change - cases[i].change) < 0.03 && j.low <= j.change &&
                    j.change <= j.high);
    }
}

static void one_slower_figure_decides(void **state)
{
    (void)state;
    assert_int_equal(perf_verdict_join(PERF_SAME, PERF_FASTER), PERF_FASTER);
    assert_int_equal(perf_verdict_join(PERF_FASTER, PERF_UNDECIDED), PERF_UNDECIDED);
    assert_int_equal(perf_verdict_join(PERF_SLOWER, PERF_UNDECIDED), PERF_SLOWER);
    assert_int_equal(perf_verdict_status(PERF_SLOWER), BNT_E_SLOWER);
    assert_int_equal(perf_verdict_status(PERF_UNDECIDED), BNT_E_INCONCLUSIVE);
    assert_int_equal(perf_verdict_status(PERF_SAME), BNT_OK);
    assert_int_equal(perf_verdict_status(PERF_FASTER), BNT_OK);
}

static void counts_are_judged_by_one_pair(void **state)
{
    (void)state;
    static const struct {
        double head;
        enum perf_verdict verdict;
    } cases[] = {{1000, PERF_SAME}, {1004, PERF_SAME}, {1006, PERF_SLOWER}, {994, PERF_FASTER}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct perf_judgement j;
        perf_judge_counts(PERF_MARGIN_COUNTS, &(struct perf_pair){1000, cases[i].head}, &j);
        assert_int_equal(j.verdict, cases[i].verdict);
    }
}

static void what_is_no_comparison_is_refused(void **state)
{
    (void)state;
    struct perf_rule rule = {.margin = 0.025, .confidence = 0.99, .n_figures = 1};
    struct perf_pair pairs[40];
    struct perf_judgement j;
    make_pairs(pairs, 40, 0, 0.01);
    assert_int_equal(perf_judge(&rule, pairs, PERF_PAIRS_MIN - 1, &j, NULL), BNT_E_USAGE);
    static const double bad[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pairs[7].head = bad[i];
        assert_int_equal(perf_judge(&rule, pairs, 40, &j, NULL), BNT_E_INCONCLUSIVE);
    }
    pairs[7].head = 10;
    rule.margin = 0;
    assert_int_equal(perf_judge(&rule, pairs, 40, &j, NULL), BNT_E_USAGE);
}

/* ---- A figure over many runs. */

static void a_step_in_a_history_is_seen(void **state)
{
    (void)state;
    static const struct {
        size_t n;
        double latest; /* factor of the last PERF_TREND_NEW values */
        enum perf_trend trend;
    } cases[] = {
        {3, 2, PERF_TREND_FEW},   {9, 2, PERF_TREND_FEW},     {20, 1, PERF_TREND_STEADY},
        {20, 1.2, PERF_TREND_UP}, {20, 0.8, PERF_TREND_DOWN}, {20, 1.03, PERF_TREND_STEADY},
        {10, 1.5, PERF_TREND_UP},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double values[24];
        struct perf_history h;
        for (size_t k = 0; k < cases[i].n; k++) {
            bool latest = k + PERF_TREND_NEW >= cases[i].n;
            values[k] = 100 * (1 + 0.01 * (double)(k * 7 % 5)) * (latest ? cases[i].latest : 1);
        }
        assert_int_equal(perf_history_of(values, cases[i].n, &h, NULL), BNT_OK);
        if (h.trend != cases[i].trend) {
            fail_msg("case %zu: %s (%+.3f), not %s", i, perf_trend_name(h.trend), h.change,
                     perf_trend_name(cases[i].trend));
        }
        assert_true(h.low <= h.median && h.median <= h.high);
    }
}

/* ---- How often a verdict is wrong. */

enum { RECORDED_MAX = 1000, FIGURES = 2 };

struct recorded {
    size_t n;
    struct perf_pair pairs[FIGURES][RECORDED_MAX]; /* of one place: of one comparison */
};

static void read_recorded(struct recorded *r)
{
    json_error_t e;
    const char *path = suite_source("testkit/data/perf/same_program.json");
    json_t *doc = json_load_file(path, 0, &e);
    if (!doc) {
        fail_msg("%s:%d: %s", path, e.line, e.text);
    }
    const json_t *figures = json_object_get(doc, "figures");
    assert_int_equal(json_array_size(figures), FIGURES);
    for (size_t f = 0; f < FIGURES; f++) {
        const json_t *pairs = json_object_get(json_array_get(figures, f), "pairs_ms");
        r->n = json_array_size(pairs);
        assert_true(r->n >= 200 && r->n <= RECORDED_MAX);
        for (size_t i = 0; i < r->n; i++) {
            const json_t *pair = json_array_get(pairs, i);
            r->pairs[f][i] = (struct perf_pair){json_number_value(json_array_get(pair, 0)),
                                                json_number_value(json_array_get(pair, 1))};
        }
    }
    json_decref(doc);
}

/* The verdict of a comparison of PERF_PAIRS_DEFAULT pairs drawn from what was recorded, with the
 * defaults of `bnt bench --compare`. */
static enum perf_verdict draw_verdict(const struct recorded *r, double slowdown,
                                      struct bnt_rng *rng)
{
    struct perf_rule rule = {.margin = PERF_MARGIN_DEFAULT,
                             .confidence = PERF_CONFIDENCE_DEFAULT,
                             .n_figures = FIGURES,
                             .seed = 1};
    struct perf_pair pairs[FIGURES][PERF_PAIRS_DEFAULT];
    struct perf_judgement j[FIGURES];
    for (size_t i = 0; i < PERF_PAIRS_DEFAULT; i++) {
        size_t at = (size_t)bnt_rng_below(rng, r->n);
        for (size_t f = 0; f < FIGURES; f++) {
            pairs[f][i] = r->pairs[f][at];
            pairs[f][i].head *= 1 + slowdown;
        }
    }
    for (size_t f = 0; f < FIGURES; f++) {
        assert_int_equal(perf_judge(&rule, pairs[f], PERF_PAIRS_DEFAULT, &j[f], NULL), BNT_OK);
    }
    return perf_verdict_join(j[0].verdict, j[1].verdict);
}

struct scale {
    size_t n_same, n_slower; /* comparisons */
};

static void few_false_alarms_and_few_missed_slowdowns(void **state)
{
    const struct scale *scale = *state;
    static struct recorded r;
    struct bnt_rng rng;
    size_t alarms = 0, found = 0, undecided = 0;
    read_recorded(&r);
    bnt_rng_seed(&rng, 20);
    for (size_t i = 0; i < scale->n_same; i++) {
        enum perf_verdict v = draw_verdict(&r, 0, &rng);
        alarms += v == PERF_SLOWER || v == PERF_FASTER;
        undecided += v == PERF_UNDECIDED;
    }
    for (size_t i = 0; i < scale->n_slower; i++) {
        found += draw_verdict(&r, 0.05, &rng) == PERF_SLOWER;
    }
    suite_metric("false_alarms", 100.0 * (double)alarms / (double)scale->n_same, "%");
    suite_metric("undecided", 100.0 * (double)undecided / (double)scale->n_same, "%");
    suite_metric("slowdowns_found", 100.0 * (double)found / (double)scale->n_slower, "%");
    printf(
        "of %zu comparisons of a program with itself %zu alarms, %zu undecided; of %zu slowdowns "
        "of 5 %% %zu found\n",
        scale->n_same, alarms, undecided, scale->n_slower, found);
    assert_true(100 * alarms <= scale->n_same);
    assert_true(100 * found >= 95 * scale->n_slower);
}

static const struct scale few = {30, 20}, many = {1000, 600};

static const struct suite_test tests[] = {
    {.name = "verdicts_follow_interval_and_margin", .body = verdicts_follow_interval_and_margin},
    {.name = "one_slower_figure_decides", .body = one_slower_figure_decides},
    {.name = "counts_are_judged_by_one_pair", .body = counts_are_judged_by_one_pair},
    {.name = "what_is_no_comparison_is_refused", .body = what_is_no_comparison_is_refused},
    {.name = "a_step_in_a_history_is_seen", .body = a_step_in_a_history_is_seen},
    {.name = "few_false_alarms_and_few_missed_slowdowns",
     .body = few_false_alarms_and_few_missed_slowdowns,
     .ctx = &few,
     .needs = "source"},
    {.name = "verdicts_are_wrong_as_seldom_as_promised",
     .body = few_false_alarms_and_few_missed_slowdowns,
     .ctx = &many,
     .needs = "source,release-build",
     .tier = SUITE_FULL,
     .timeout_ms = 300000},
    {0},
};
const struct suite suite_perf_verdict = {"perf_verdict", tests, "slower_is_fine step_unseen"};
