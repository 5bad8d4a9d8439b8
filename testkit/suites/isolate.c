/* One test in one forked process.
 *
 * A pass needs all of: the body returned to us, cmocka counted no failure, the word "passed" came
 * over the report pipe, the process then ended by itself with status 0, and left no process behind.
 * exit(0) in a body, a leak report at exit or a crash in an atexit handler thus cannot pass. cmocka
 * catches crash signals to go on in the same process; here the process is the test's own, so the
 * handlers that were there before (the default, or a sanitizer's) are put back and the signal or
 * the report shows. */
#include "testkit/suites/isolate.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "testkit/suites/support.h"

enum { DEFAULT_TIMEOUT_MS = 10 * 1000, SLOW_BUILD_FACTOR = 6 };

static const char WORD_PASSED[] = "passed";
static const char WORD_FAILED[] = "failed";
static const char WORD_SKIPPED[] = "skipped";

static const int crash_signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS, SIGABRT};
enum { N_CRASH_SIGNALS = sizeof crash_signals / sizeof crash_signals[0] };

/* State of the child; one test per process. */
static struct {
    const struct suite_test *test;
    struct sigaction crash_handlers[N_CRASH_SIGNALS];
    bool returned;
} child;

static void call_body(void **state)
{
    for (int i = 0; i < N_CRASH_SIGNALS; i++) {
        sigaction(crash_signals[i], &child.crash_handlers[i], NULL);
    }
    child.test->body(state);
    child.returned = true;
}

static int child_body(void *ctx, int report_fd)
{
    child.test = ctx;
    for (int i = 0; i < N_CRASH_SIGNALS; i++) {
        sigaction(crash_signals[i], NULL, &child.crash_handlers[i]);
    }
    support_enter_test();
    setvbuf(stdout, NULL, _IOLBF, 0);
    const struct CMUnitTest group[] = {{child.test->name, call_body, NULL, NULL, NULL}};
    int n_failed = cmocka_run_group_tests_name(child.test->name, group, NULL, NULL);
    const char *word = n_failed != 0 ? WORD_FAILED : child.returned ? WORD_PASSED : WORD_SKIPPED;
    if (n_failed != 0 && support_cause()) {
        word = support_cause();
    }
    fflush(NULL);
    bool told = bnt_write_all(report_fd, word, strlen(word), "the report", NULL) == BNT_OK;
    close(report_fd);
    return n_failed == 0 && told ? 0 : 1;
}

static void judge(const struct proc *p, struct isolate_result *r)
{
    char *word = proc_output(p, PROC_REPORT);
    const char *said = word ? word : "";
    r->verdict = ISOLATE_FAILED;
    if (p->end == PROC_STOPPED) {
        r->verdict = ISOLATE_STOPPED;
        snprintf(r->why, sizeof r->why, "interrupted");
    } else if (p->end == PROC_EXITED && strcmp(said, WORD_FAILED) == 0) {
        snprintf(r->why, sizeof r->why, "an assertion failed");
    } else if (p->end == PROC_EXITED && support_is_cause(said)) {
        snprintf(r->cause, sizeof r->cause, "%s", said);
        snprintf(r->why, sizeof r->why, "not there: %s", said);
    } else if (p->end == PROC_EXITED && said[0] == '\0') {
        snprintf(r->why, sizeof r->why, "exited with %d before the body ended", p->code);
    } else if (p->end != PROC_EXITED || p->code != 0) {
        char how[160];
        proc_describe(p, how, sizeof how);
        snprintf(r->why, sizeof r->why, "%s%s", how,
                 p->end != PROC_TIMED_OUT && said[0] ? ", after the body had ended" : "");
    } else if (p->leaked && !BNT_FAULT(leaked_processes)) {
        snprintf(r->why, sizeof r->why, "left processes running (killed)");
    } else if (strcmp(said, WORD_SKIPPED) == 0) {
        r->verdict = ISOLATE_SKIPPED;
        snprintf(r->why, sizeof r->why, "the body called skip()");
    } else {
        r->verdict = ISOLATE_PASSED;
    }
    free(word);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *where)
{
    (void)st;
    (void)flag;
    (void)where;
    (void)remove(path);
    return 0;
}

static int open_up(const char *path, const struct stat *st, int flag, struct FTW *where)
{
    (void)st;
    (void)where;
    if (flag == FTW_D || flag == FTW_DNR) {
        (void)chmod(path, 0700);
    }
    return 0;
}

/* A test may have left folders without write permission; those are opened first. */
static void remove_tree(const char *path)
{
    (void)nftw(path, open_up, 16, FTW_PHYS);
    (void)nftw(path, remove_entry, 16, FTW_PHYS | FTW_DEPTH);
}

static void run_body(const struct suite_test *test, const volatile sig_atomic_t *stop,
                     struct isolate_result *r)
{
    struct bnt_err err = {0};
    struct proc p;
    const struct proc_spec spec = {
        .body = child_body,
        .ctx = (void *)(uintptr_t)test,
        .merge = true,
        .timeout_ms = isolate_timeout_ms(test),
    };
    if (proc_start(&p, &spec, &err) != BNT_OK) {
        r->verdict = ISOLATE_FAILED;
        snprintf(r->why, sizeof r->why, "did not start: %.256s", err.msg);
        return;
    }
    while (!proc_done(&p)) {
        if (*stop) {
            proc_stop(&p);
        }
        proc_serve(&p, 1, 50);
    }
    judge(&p, r);
    r->output = proc_output(&p, PROC_OUT);
    r->wall_ns = p.wall_ns;
    proc_release(&p);
}

void isolate_run(const struct suite_test *test, const volatile sig_atomic_t *stop,
                 struct isolate_result *result)
{
    *result = (struct isolate_result){.verdict = ISOLATE_FAILED};
    const char *unknown = suite_need_unknown(test->needs);
    if (unknown) {
        snprintf(result->why, sizeof result->why, "unknown need: %s", unknown);
        return;
    }
    const char *missing = suite_need_missing(test->needs);
    if (missing) {
        result->verdict = ISOLATE_SKIPPED;
        snprintf(result->why, sizeof result->why, "needs: %s", missing);
        return;
    }
    struct bnt_err err = {0};
    char scratch[BNT_PATH_MAX];
    if (support_make_scratch(scratch, &err) != BNT_OK) {
        snprintf(result->why, sizeof result->why, "no scratch folder: %.256s", err.msg);
        return;
    }
    run_body(test, stop, result);
    remove_tree(scratch);
}

void isolate_release(struct isolate_result *result)
{
    free(result->output);
    result->output = NULL;
}

/* Sanitizers and unoptimised code cost 2x to 10x; a deadline is against hangs and must not measure
 * them. */
unsigned isolate_timeout_ms(const struct suite_test *test)
{
    unsigned ms = test->timeout_ms ? test->timeout_ms : DEFAULT_TIMEOUT_MS;
    const char *no_limit = getenv("BNT_TEST_NO_LIMIT"); /* somebody is looking with a debugger */
    if (no_limit && strcmp(no_limit, "1") == 0) {
        return 0;
    }
    return strcmp(BNT_CONFIG, "release") == 0 ? ms : ms * SLOW_BUILD_FACTOR;
}
