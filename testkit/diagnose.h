/* Looking at a failure again, outside the gate: whatever comes out, the test stays failed. Each
 * failure is run alone with the same seed, twice; with another seed; and on one processor. The
 * label says what that means:
 *
 *     deterministic     fails alone, with any seed, on one processor too
 *     seed-dependent    fails with its seed, passes with another
 *     thread-dependent  passes on one processor
 *     flaky             fails and passes under the same conditions
 *     load-dependent    passes alone, each time: something that ran beside it, or its load
 */
#ifndef TESTKIT_DIAGNOSE_H
#define TESTKIT_DIAGNOSE_H

#include "testkit/bnt_test.h"

/* Give every failure a label, as far as limit_ms of time allow; what finds no time has none. Stops
 * at an interrupt. */
void diagnose_failures(struct bnt_test_run *run, uint64_t limit_ms,
                       const volatile sig_atomic_t *interrupted);

#endif
