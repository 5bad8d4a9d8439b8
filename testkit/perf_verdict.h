/* Is one program slower than another? Judged from pairs of times that were measured in turn, so
 * that what the machine does meanwhile meets both.
 *
 * The figure is the midmean (mean of the middle half) of log(head / base) over the pairs: ratios
 * are symmetric in logarithms, and a run that something disturbed has no weight. Its interval is
 * the percentile bootstrap of base/stats.h. With a margin below which a change does not matter:
 *
 *     same       the whole interval lies within the margin
 *     slower     the interval lies above zero, and the figure is above the margin
 *     faster     the same below
 *     undecided  anything else: more pairs, or a quieter machine, would tell
 *
 * testkit/suites/suite_perf_verdict.c holds this against recorded pairs of a program with itself:
 * at most 1 false alarm in 100, and 95 of 100 injected slowdowns of 5 % found. */
#ifndef TESTKIT_PERF_VERDICT_H
#define TESTKIT_PERF_VERDICT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum perf_verdict { PERF_SAME, PERF_FASTER, PERF_UNDECIDED, PERF_SLOWER };

enum { PERF_PAIRS_MIN = 12, PERF_PAIRS_DEFAULT = 60, PERF_PAIRS_MAX = 10000 };
#define PERF_MARGIN_DEFAULT 0.025
/* Of one comparison, however many figures it has: each gets its share of what is left to 1. */
#define PERF_CONFIDENCE_DEFAULT 0.99

struct perf_rule {
    double margin;     /* relative; 0.025: changes below 2.5 % do not matter */
    double confidence; /* of all figures of the comparison together */
    size_t n_figures;  /* at least 1 */
    uint64_t seed;     /* of the bootstrap */
};

struct perf_pair {
    double base, head; /* times in one unit, more than 0 */
};

struct perf_judgement {
    enum perf_verdict verdict;
    double change, low, high; /* of the time, relative to base: 0.05 is 5 % slower */
    double confidence;        /* of this interval */
};

const char *perf_verdict_name(enum perf_verdict v); /* "same"... */
/* Of several figures: one that is slower decides, then one that is undecided. */
enum perf_verdict perf_verdict_join(enum perf_verdict a, enum perf_verdict b);
/* The status with which a command ends: OK, SLOWER or INCONCLUSIVE. */
enum bnt_status perf_verdict_status(enum perf_verdict v);

/* Errors: USAGE for fewer than PERF_PAIRS_MIN pairs, or a rule out of its ranges; INCONCLUSIVE for
 * times that are no positive numbers; MEMORY. */
enum bnt_status perf_judge(const struct perf_rule *rule, const struct perf_pair *pairs, size_t n,
                           struct perf_judgement *out, struct bnt_err *err);

/* Counts that are equal from run to run (instructions) need no interval: one pair decides. */
#define PERF_MARGIN_COUNTS 0.005
void perf_judge_counts(double margin, const struct perf_pair *counts, struct perf_judgement *out);

/* ---- a figure over many runs ---- */

/* Has a figure made a step? The medians of its latest PERF_TREND_NEW values and of those before are
 * compared: a step is a change of at least PERF_TREND_MARGIN whose interval does not reach 0. Runs
 * of a history are not measured in turn, so this alone says where to look; perf_steps.h decides. */
enum perf_trend { PERF_TREND_FEW, PERF_TREND_STEADY, PERF_TREND_UP, PERF_TREND_DOWN };
enum { PERF_TREND_NEW = 4, PERF_TREND_OLD = 6 }; /* at least so many of each */
#define PERF_TREND_MARGIN 0.05

struct perf_history {
    double median, low, high; /* of all values, with a 95 % interval */
    enum perf_trend trend;
    double change; /* of the median, relative; 0 with PERF_TREND_FEW */
};

const char *perf_trend_name(enum perf_trend t); /* "too few", "steady", "up", "down" */
/* n > 0 values, oldest first. Errors: INCONCLUSIVE for values that are no numbers; MEMORY. */
enum bnt_status perf_history_of(const double *values, size_t n, struct perf_history *out,
                                struct bnt_err *err);

#endif
