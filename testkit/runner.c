/* Running tests: processes, time and verdicts. Which tests there are is collect.c's.
 *
 * Invariants of bnt_test_execute: tests start in list order; a test leaves PENDING exactly once;
 * nothing is started after the budget is spent or an interrupt came, and a test that runs then is
 * ended only by the interrupt, never by the budget. */
#include "testkit/bnt_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/proc.h"
#include "testkit/runner_tap.h"

enum {
    OUTPUT_MAX_BYTES = 1 << 20,
    /* bnt-suites itself ends a test at its time; this much later it is the program that hangs. */
    PROGRAM_SLACK_MS = 30 * 1000,
    GRACE_MS = 2000,
    TICK_MS = 50,
};

struct runner {
    struct bnt_test_run *run;
    const struct bnt_test_options *options;
    struct proc procs[BNT_TEST_JOBS_MAX];
    struct bnt_test *slots[BNT_TEST_JOBS_MAX]; /* the test that procs[i] runs; NULL: free */
    size_t n_slots, n_busy, next;
    uint64_t start_ns;
    bool stopping;
};

static uint64_t elapsed_ms(const struct runner *r)
{
    return (bnt_clock_now_ns() - r->start_ns) / 1000000u;
}

static void conclude(struct bnt_test *t, enum bnt_test_outcome outcome, const char *reason)
{
    t->outcome = outcome;
    free(t->reason);
    t->reason = strdup(reason);
}

/* The program ended without a verdict that can be trusted. */
static void conclude_without_verdict(struct bnt_test *t, const struct proc *p)
{
    char how[160];
    char reason[256];
    proc_describe(p, how, sizeof how);
    snprintf(reason, sizeof reason, "no verdict: the suites program %s", how);
    conclude(t, BNT_TEST_FAILED, reason);
    char *out = proc_output(p, PROC_OUT);
    char *said = proc_output(p, PROC_ERR);
    struct bnt_buf both = BNT_BUF(2 * OUTPUT_MAX_BYTES + 256);
    (void)bnt_buf_printf(&both, NULL, "%s%s", said ? said : "", out ? out : "");
    t->output = bnt_buf_take(&both);
    bnt_buf_release(&both);
    free(out);
    free(said);
}

static void finish(struct runner *r, size_t i)
{
    struct proc *p = &r->procs[i];
    struct bnt_test *t = r->slots[i];
    t->wall_ns = p->wall_ns;
    char *tap = proc_output(p, PROC_OUT);
    if (p->end == PROC_STOPPED) {
        conclude(t, BNT_TEST_NOT_RUN, "interrupted");
    } else if (p->end != PROC_EXITED || !tap || !runner_tap_read(tap, p->code, t)) {
        conclude_without_verdict(t, p);
    }
    free(tap);
    proc_release(p);
    r->slots[i] = NULL;
    r->n_busy--;
}

static void start(struct runner *r, size_t i, struct bnt_test *t)
{
    struct bnt_err err = {0};
    char flag[] = "--run";
    char *argv[] = {r->run->program, flag, t->name, NULL};
    const struct proc_spec spec = {
        .argv = argv,
        .timeout_ms = t->timeout_ms + PROGRAM_SLACK_MS,
        .grace_ms = GRACE_MS,
        .keep_bytes = OUTPUT_MAX_BYTES,
    };
    if (proc_start(&r->procs[i], &spec, &err) != BNT_OK) {
        conclude(t, BNT_TEST_FAILED, err.msg);
        return;
    }
    r->slots[i] = t;
    r->n_busy++;
}

static void give_up_rest(struct runner *r, const char *reason)
{
    for (; r->next < r->run->n; r->next++) {
        conclude(&r->run->at[r->next], BNT_TEST_NOT_RUN, reason);
    }
}

static void start_what_fits(struct runner *r)
{
    for (size_t i = 0; i < r->n_slots && r->next < r->run->n; i++) {
        if (elapsed_ms(r) >= r->run->budget_ms) {
            give_up_rest(r, "budget");
        } else if (!r->slots[i]) {
            start(r, i, &r->run->at[r->next++]);
        }
    }
}

static void stop_all(struct runner *r)
{
    r->stopping = true;
    r->run->interrupted = true;
    give_up_rest(r, "interrupted");
    for (size_t i = 0; i < r->n_slots; i++) {
        if (r->slots[i]) {
            proc_stop(&r->procs[i]);
        }
    }
}

static void tick(const struct runner *r)
{
    const char *running = NULL;
    for (size_t i = 0; i < r->n_slots && !running; i++) {
        running = r->slots[i] ? r->slots[i]->name : NULL;
    }
    if (r->options->tick) {
        r->options->tick(r->options->tick_ctx, r->run, running, elapsed_ms(r));
    }
}

static void serve(struct runner *r)
{
    proc_serve(r->procs, r->n_slots, TICK_MS);
    for (size_t i = 0; i < r->n_slots; i++) {
        if (r->slots[i] && proc_done(&r->procs[i])) {
            finish(r, i);
        }
    }
}

enum bnt_status bnt_test_execute(struct bnt_test_run *run, const struct bnt_test_options *options,
                                 struct bnt_err *err)
{
    if (options->n_jobs < 1 || options->n_jobs > BNT_TEST_JOBS_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "%d jobs: must be from 1 to %d", options->n_jobs,
                           BNT_TEST_JOBS_MAX);
    }
    struct runner *r = calloc(1, sizeof *r);
    if (!r) {
        return bnt_err_nomem(err, "the runner", sizeof *r);
    }
    r->run = run;
    r->options = options;
    r->n_slots = (size_t)options->n_jobs;
    r->start_ns = bnt_clock_now_ns();
    run->n_jobs = options->n_jobs;
    run->budget_ms = options->budget_ms ? options->budget_ms : bnt_test_tier_budget_ms(run->tier);
    run->started_unix_s = bnt_clock_unix_s();
    proc_adopt_orphans();
    while (r->next < run->n || r->n_busy > 0) {
        if (options->interrupted && *options->interrupted && !r->stopping) {
            stop_all(r);
        }
        start_what_fits(r);
        tick(r);
        serve(r);
    }
    run->wall_ns = bnt_clock_now_ns() - r->start_ns;
    free(r);
    return BNT_OK;
}
