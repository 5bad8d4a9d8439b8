/* Running tests: processes, time and verdicts. Which tests there are is collect.c's, which of them
 * starts next is schedule.c's.
 *
 * Invariants of bnt_test_execute: nothing is started that does not fit into what remains of the
 * budget, or after an interrupt came; a test that runs when the budget ends has the grace to end by
 * itself, and is stopped after it. */
#include "testkit/bnt_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/proc.h"
#include "testkit/runner_tap.h"
#include "testkit/schedule.h"

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
    size_t n_slots, n_busy;
    struct schedule schedule;
    uint64_t start_ns;
    bool stopping;
};

static uint64_t elapsed_ms(const struct runner *r)
{
    return (bnt_clock_now_ns() - r->start_ns) / 1000000u;
}

static void tell(const struct runner *r, const struct bnt_test *t)
{
    if (r->options->event) {
        r->options->event(r->options->event_ctx, r->run, t);
    }
}

/* The program ended without a verdict that can be trusted. */
static void conclude_without_verdict(struct bnt_test *t, const struct proc *p)
{
    char how[160];
    char reason[256];
    proc_describe(p, how, sizeof how);
    snprintf(reason, sizeof reason, "no verdict: the suites program %s", how);
    schedule_conclude(t, BNT_TEST_FAILED, reason);
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
        schedule_conclude(t, BNT_TEST_NOT_RUN,
                          r->run->interrupted ? "interrupted" : "budget: stopped after the grace");
    } else if (p->end != PROC_EXITED || !tap || !runner_tap_read(tap, p->code, t)) {
        conclude_without_verdict(t, p);
    }
    free(tap);
    proc_release(p);
    r->slots[i] = NULL;
    r->n_busy--;
    tell(r, t);
    schedule_ended(&r->schedule, t);
}

static void start(struct runner *r, size_t i, struct bnt_test *t)
{
    struct bnt_err err = {0};
    t->place.slot = (unsigned)i;
    tell(r, t);
    char flag[] = "--run";
    char *argv[] = {r->run->program, flag, t->name, NULL};
    const struct proc_spec spec = {
        .argv = argv,
        .timeout_ms = t->timeout_ms + PROGRAM_SLACK_MS,
        .grace_ms = GRACE_MS,
        .keep_bytes = OUTPUT_MAX_BYTES,
    };
    if (proc_start(&r->procs[i], &spec, &err) != BNT_OK) {
        schedule_conclude(t, BNT_TEST_FAILED, err.msg);
        schedule_ended(&r->schedule, t);
        return;
    }
    r->slots[i] = t;
    r->n_busy++;
}

static void start_what_fits(struct runner *r)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct bnt_test *t = r->slots[i] ? NULL : schedule_next(&r->schedule, elapsed_ms(r));
        if (t) {
            start(r, i, t);
        }
    }
}

static void stop_all(struct runner *r)
{
    r->stopping = true;
    schedule_give_up(&r->schedule, r->run->interrupted ? "interrupted" : "budget");
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
    const uint64_t last_ms = run->budget_ms + bnt_test_grace_ms(run->budget_ms);
    enum bnt_status status = schedule_init(&r->schedule, run, options, err);
    proc_adopt_orphans();
    while (status == BNT_OK && (schedule_has_more(&r->schedule) || r->n_busy > 0)) {
        run->interrupted |= options->interrupted && *options->interrupted;
        if (!r->stopping && (run->interrupted || elapsed_ms(r) >= last_ms)) {
            stop_all(r);
        }
        start_what_fits(r);
        tick(r);
        serve(r);
    }
    run->wall_ns = bnt_clock_now_ns() - r->start_ns;
    schedule_release(&r->schedule);
    free(r);
    return status;
}
