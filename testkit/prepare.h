/* What happens between collecting and executing: history becomes a plan. */
#ifndef TESTKIT_PREPARE_H
#define TESTKIT_PREPARE_H

#include "testkit/history.h"

/* Judge every test by its history (NULL: nothing is known) and order the run. run's budget,
 * identity and inputs are set. Errors: NOT_ALL_RAN when what must run does not fit; those of the
 * history come out as warnings through warn, and the run goes on as if there were none. */
enum bnt_status prepare_plan(struct bnt_test_run *run, struct history *history, int n_jobs,
                             bnt_warn_fn *warn, struct bnt_err *err);

/* Drop every test whose last result in the history is not red. */
enum bnt_status prepare_last_failed(struct bnt_test_run *run, struct history *history,
                                    struct bnt_err *err);

#endif
