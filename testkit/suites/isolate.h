/* One test in one forked process: the verdict is what the child says over a pipe and what its end
 * confirms. */
#ifndef SUITES_ISOLATE_H
#define SUITES_ISOLATE_H

#include "testkit/suite.h"

#include <stdbool.h>
#include <signal.h>

#include "testkit/proc.h"

enum isolate_verdict { ISOLATE_PASSED, ISOLATE_FAILED, ISOLATE_SKIPPED, ISOLATE_STOPPED };

struct isolate_result {
    enum isolate_verdict verdict;
    char why[320];  /* of anything but a pass: "killed by SIGSEGV ...", "needs: shared (...)" */
    char cause[16]; /* of a failure: what suite_infrastructure named; "" if nothing */
    char *output;   /* standard output and error of the body as written; NULL when it did not run;
                       heap */
    uint64_t wall_ns;
};

/* Runs a test's body if its needs are met. *stop becoming non-zero ends it. Always fills result;
 * release it. */
void isolate_run(const struct suite_test *test, const volatile sig_atomic_t *stop,
                 struct isolate_result *result);
void isolate_release(struct isolate_result *result);

/* The time that a test gets in this build. */
unsigned isolate_timeout_ms(const struct suite_test *test);

#endif
