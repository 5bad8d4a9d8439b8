/* What `bnt-suites --run ID` said about its one test. */
#ifndef TESTKIT_RUNNER_TAP_H
#define TESTKIT_RUNNER_TAP_H

#include "testkit/bnt_test.h"

/* Read the TAP of one run into test's outcome, reason and output. False when it is not the complete
 * word on exactly this test: no or two result lines, another name, no plan, or an exit code that
 * contradicts it; test is then unchanged. */
bool runner_tap_read(const char *tap, int exit_code, struct bnt_test *test);

#endif
