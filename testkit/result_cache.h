/* The result cache: a test that declares itself cacheable, and passed with the same program, model,
 * inputs, environment and machine, need not run again. It is shown as CACHED, never as passed.
 * Three in a hundred of what would be taken from the cache run all the same: an audit. */
#ifndef TESTKIT_RESULT_CACHE_H
#define TESTKIT_RESULT_CACHE_H

#include "testkit/history.h"

#define RESULT_CACHE_AUDIT_PERCENT 3

/* Give every cacheable test its key. A test whose inputs are unknown gets none. Passes of tests
 * with a key are kept by history_record. */
enum bnt_status result_cache_keys(struct bnt_test_run *run, struct bnt_err *err);
/* Conclude as CACHED what the history keeps, but for the audits, which the run's seed chooses. */
enum bnt_status result_cache_take(struct bnt_test_run *run, struct history *history,
                                  struct bnt_err *err);
/* After the run: an audit that did not pass is DISAGREED; whatever failed under a kept key is
 * forgotten. history may be NULL. */
enum bnt_status result_cache_settle(struct bnt_test_run *run, struct history *history,
                                    struct bnt_err *err);

#endif
