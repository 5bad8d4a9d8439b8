/* Figures of a run that got worse against their history: the verdict "slower" of runs that are not
 * measured in turn with another program (for which there is perf_verdict.h).
 *
 * Machines that run a nightly job differ from night to night, so one bad night says nothing. A
 * figure got worse when it made a step (perf_history_of) to the bad side, and even the best of its
 * latest PERF_TREND_NEW values is worse than the median of those before by PERF_TREND_MARGIN. What
 * is bad says the unit: more of a time or a size, less of a rate. Figures of other units are not
 * judged. */
#ifndef TESTKIT_PERF_STEPS_H
#define TESTKIT_PERF_STEPS_H

#include "testkit/bnt_test.h"

struct perf_steps {
    size_t n_worse, n_steady; /* judged */
    size_t n_few;             /* too few earlier values to be judged */
};

/* Judge every figure of a run whose past is filled in (history_metrics_past): sets `worse` and
 * `change` of those that got worse. Errors: MEMORY. */
enum bnt_status perf_steps_judge(struct bnt_test_run *run, struct perf_steps *out,
                                 struct bnt_err *err);

#endif
