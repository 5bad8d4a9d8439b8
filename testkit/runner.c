/* Running tests within a budget. Processes and verdicts are slots.c's. Which tests there are is
 * collect.c's, which of them starts next is schedule.c's.
 *
 * Invariants of bnt_test_execute: nothing is started that does not fit into what remains of the
 * budget, or after an interrupt came; a test that runs when the budget ends has the grace to end by
 * itself, and is stopped after it. */
#include "testkit/bnt_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/schedule.h"
#include "testkit/slots.h"

enum { TICK_MS = 50 };

struct runner {
    struct bnt_test_run *run;
    const struct bnt_test_options *options;
    struct slots *slots;
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

static void start(struct runner *r, size_t i, struct bnt_test *t)
{
    t->place.slot = (unsigned)i;
    tell(r, t);
    slots_start(r->slots, i, t);
    if (slots_test(r->slots, i)) {
        r->n_busy++;
    } else {
        tell(r, t);
        schedule_ended(&r->schedule, t);
    }
}

static void start_what_fits(struct runner *r)
{
    for (size_t i = 0; i < r->n_slots; i++) {
        struct bnt_test *t =
            slots_test(r->slots, i) ? NULL : schedule_next(&r->schedule, elapsed_ms(r));
        if (t) {
            start(r, i, t);
        }
    }
}

static void stop_all(struct runner *r)
{
    r->stopping = true;
    schedule_give_up(&r->schedule, r->run->interrupted ? "interrupted" : "budget");
    slots_stop(r->slots);
}

static void tick(const struct runner *r)
{
    const char *running = NULL;
    for (size_t i = 0; i < r->n_slots && !running; i++) {
        const struct bnt_test *t = slots_test(r->slots, i);
        running = t ? t->name : NULL;
    }
    if (r->options->tick) {
        r->options->tick(r->options->tick_ctx, r->run, running, elapsed_ms(r));
    }
}

static void serve(struct runner *r)
{
    slots_serve(r->slots, TICK_MS);
    for (size_t i = 0; i < r->n_slots; i++) {
        struct bnt_test *t = slots_take_ended(r->slots, i);
        if (t) {
            r->n_busy--;
            tell(r, t);
            schedule_ended(&r->schedule, t);
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
    if (status == BNT_OK) {
        status = slots_new(run, &r->slots, err);
    }
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
    if (r->slots) {
        slots_free(r->slots);
    }
    schedule_release(&r->schedule);
    free(r);
    return status;
}
