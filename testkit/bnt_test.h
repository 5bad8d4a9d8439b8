/* The runner: collects tests from a program that speaks as bnt-suites does, runs each in a process
 * of its own within the budget of a tier, and reports.
 *
 *     struct bnt_test_run run = {0};
 *     bnt_test_collect(&run, program, BNT_TIER_FAST, &filters, &err);
 *     bnt_test_execute(&run, &options, &err);
 *     bnt_test_report_text(&run, &buf, &err);
 *     bnt_test_run_release(&run);
 *
 * A tier is a budget of time. Once it is spent nothing more is started, and what remains is NOT
 * RUN: a result of its own, counted and shown, never a pass. */
#ifndef BNT_TEST_H
#define BNT_TEST_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/app.h"
#include "base/buf.h"
#include "base/opt.h"

enum bnt_test_tier { BNT_TIER_FAST, BNT_TIER_INTEGRATION, BNT_TIER_FULL, BNT_TIERS };

enum bnt_test_outcome {
    BNT_TEST_PENDING,
    BNT_TEST_PASSED,
    BNT_TEST_FAILED,
    BNT_TEST_SKIPPED,
    BNT_TEST_NOT_RUN,
    BNT_TEST_OUTCOMES
};

struct bnt_test {
    char *name; /* unique */
    char *suite;
    char *needs;             /* as stated, "" if none */
    enum bnt_test_tier tier; /* the smallest that runs it */
    unsigned timeout_ms;
    enum bnt_test_outcome outcome;
    char *reason; /* of anything but a pass: "an assertion failed", "needs: shared (...)", "budget";
                     NULL for a pass */
    char *output; /* what the body wrote, for a failure; may be NULL */
    uint64_t wall_ns;
};

struct bnt_test_run {
    char program[BNT_PATH_MAX];
    enum bnt_test_tier tier;
    struct bnt_test *at; /* the selected tests, in the program's order */
    size_t n;
    size_t n_other_tier;        /* tests that the filters match and the tier does not reach */
    struct bnt_model_ref model; /* what ran; set by the caller before bnt_test_execute */
    bool model_given;           /* not the default: reruns must name it */
    uint64_t budget_ms;
    int n_jobs;
    int64_t started_unix_s;
    uint64_t wall_ns;
    bool interrupted;
};

struct bnt_test_counts {
    size_t n, of[BNT_TEST_OUTCOMES];
    uint64_t wall_ns; /* sum over tests */
};

struct bnt_test_options {
    int n_jobs;                               /* processes at a time, 1 to BNT_TEST_JOBS_MAX */
    uint64_t budget_ms;                       /* 0: the tier's */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
    /* Called some ten times a second: for a live line. `running` is the name of one test that runs
     * now, or NULL. */
    void (*tick)(void *ctx, const struct bnt_test_run *run, const char *running,
                 uint64_t elapsed_ms);
    void *tick_ctx;
};
#define BNT_TEST_JOBS_MAX 64

const char *bnt_test_tier_name(enum bnt_test_tier tier);
uint64_t bnt_test_tier_budget_ms(enum bnt_test_tier tier);
const char *bnt_test_outcome_name(enum bnt_test_outcome outcome); /* "passed"... "not run" */

/* The suites program of this build or installation: beside the executable, else
 * <prefix>/libexec/bnt/. */
enum bnt_status bnt_test_find_program(char out[BNT_PATH_MAX], struct bnt_err *err);

/* Ask the program for its tests and keep those of the tier that match one of the filters (a part of
 * "suite/name"; none given: all). No test left is BNT_OK with run->n == 0. */
enum bnt_status bnt_test_collect(struct bnt_test_run *run, const char *program,
                                 enum bnt_test_tier tier, const struct bnt_strs *filters,
                                 struct bnt_err *err);
/* Run them all. BNT_OK whatever the tests' outcomes; afterwards none is PENDING. */
enum bnt_status bnt_test_execute(struct bnt_test_run *run, const struct bnt_test_options *options,
                                 struct bnt_err *err);
void bnt_test_run_release(struct bnt_test_run *run);

/* Of one suite, or of all with NULL. */
struct bnt_test_counts bnt_test_count(const struct bnt_test_run *run, const char *suite);

/* Command line that runs one test again as it was run here, quoted for a shell. */
enum bnt_status bnt_test_rerun(const struct bnt_test_run *run, const struct bnt_test *test,
                               struct bnt_buf *out, struct bnt_err *err);

/* The table, then every failure with its output, then "N passed, N failed, N skipped[, N not run]".
 */
enum bnt_status bnt_test_report_text(const struct bnt_test_run *run, struct bnt_buf *out,
                                     struct bnt_err *err);
/* One JSON object. */
enum bnt_status bnt_test_report_json(const struct bnt_test_run *run, int exit_code,
                                     struct bnt_buf *out, struct bnt_err *err);
/* JUnit XML; valid UTF-8 and XML 1.0 whatever the tests wrote. NOT RUN is a <skipped> that says so.
 */
enum bnt_status bnt_test_report_junit(const struct bnt_test_run *run, struct bnt_buf *out,
                                      struct bnt_err *err);

#endif
