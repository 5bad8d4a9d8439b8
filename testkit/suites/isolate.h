/* One test in one process of its own, watched from outside: started, held to its limits, ended with
 * everything that it started, judged. The process that calls this has no other children, and one
 * thread. */
#ifndef SUITES_ISOLATE_H
#define SUITES_ISOLATE_H

#include "testkit/suite.h"

#include <signal.h>
#include <stdbool.h>

#include "testkit/verdict.h"

struct isolate_result {
    enum verdict verdict;
    char why[320];  /* of anything but a pass: "killed by SIGSEGV ...", "needs: shared (...)" */
    char cause[16]; /* of a failure: what the body named with suite_infrastructure, or "" */
    char time[160]; /* a warning when its time is too tight or too generous, or "" */
    unsigned not_enforced; /* enum confine_gap; only of a body that ran */
    char *output; /* standard output and error of the body as written, then backtraces; NULL when
                     it did not run; heap */
    uint64_t wall_ns;
};

/* Runs a test's body if its needs are met. *stop becoming non-zero ends it. Always fills result;
 * release it. */
void isolate_run(const struct suite_test *test, const volatile sig_atomic_t *stop,
                 struct isolate_result *result);
void isolate_release(struct isolate_result *result);

/* The time that a test gets in this build. */
unsigned isolate_timeout_ms(const struct suite_test *test);

/* The other side of a test that is executed instead of forked (suite_test.fresh): run its body here
 * and now, with the page that descriptor `page_fd` holds and the test's folder. Value: the exit
 * status. */
int isolate_fresh_body(const struct suite_test *test, int page_fd, const char *root);

/* Before the program ends: gives back what isolate_run kept from one test to the next. */
void isolate_end(void);

#endif
