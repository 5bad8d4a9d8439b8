#include "testkit/diagnose.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/proc.h"
#include "testkit/runner_tap.h"

enum { SERVE_MS = 50, GRACE_MS = 500, SLACK_MS = 1000 };

/* Outcomes: true is a pass. */
struct probes {
    bool same_seed[2], other_seed, one_processor;
};

static const char *label_of(const struct probes *p)
{
    if (p->same_seed[0] != p->same_seed[1]) {
        return "flaky";
    }
    if (p->same_seed[0]) {
        return "load-dependent";
    }
    if (p->one_processor) {
        return "thread-dependent";
    }
    return p->other_seed ? "seed-dependent" : "deterministic";
}

struct diagnosis {
    struct bnt_test_run *run;
    uint64_t end_ns;
    const volatile sig_atomic_t *interrupted;
};

static uint64_t left_ms(const struct diagnosis *d)
{
    uint64_t now = bnt_clock_now_ns();
    return now < d->end_ns ? (d->end_ns - now) / 1000000u : 0;
}

/* Run the test once more; false when there was no time or no verdict. */
static bool probe(const struct diagnosis *d, const struct bnt_test *t, bool *passed)
{
    uint64_t expected_ms = t->wall_ns / 1000000u;
    uint64_t left = left_ms(d);
    if (left <= expected_ms || (d->interrupted && *d->interrupted)) {
        return false;
    }
    char flag[] = "--run";
    char *argv[] = {d->run->program, flag, t->name, NULL};
    uint64_t limit = t->timeout_ms ? (uint64_t)t->timeout_ms + SLACK_MS : UINT64_MAX;
    const struct proc_spec spec = {
        .argv = argv, .timeout_ms = (unsigned)(limit < left ? limit : left), .grace_ms = GRACE_MS};
    struct proc p;
    if (proc_start(&p, &spec, NULL) != BNT_OK) {
        return false;
    }
    while (!proc_done(&p)) {
        if (d->interrupted && *d->interrupted) {
            proc_stop(&p);
        }
        proc_serve(&p, 1, SERVE_MS);
    }
    char *tap = proc_output(&p, PROC_OUT);
    struct bnt_test again = {.name = strdup(t->name)};
    bool read = p.end == PROC_EXITED && tap && again.name && runner_tap_read(tap, p.code, &again);
    *passed = again.outcome == BNT_TEST_PASSED;
    /* Its program died, or the test hung: a failure, unless it was the time for this that ended. */
    read |= p.end == PROC_SIGNALED || (p.end == PROC_TIMED_OUT && limit < left);
    bnt_test_release(&again);
    free(tap);
    proc_release(&p);
    return read;
}

static bool probe_with_seed(const struct diagnosis *d, const struct bnt_test *t, uint64_t seed,
                            bool *passed)
{
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)seed);
    bool done = setenv("BNT_TEST_SEED", text, 1) == 0 && probe(d, t, passed);
    snprintf(text, sizeof text, "%llu", (unsigned long long)d->run->seed);
    return setenv("BNT_TEST_SEED", text, 1) == 0 && done;
}

/* A child inherits the processors that its parent may use. */
static bool probe_on_one_processor(const struct diagnosis *d, const struct bnt_test *t,
                                   bool *passed)
{
    cpu_set_t all;
    cpu_set_t one;
    if (sched_getaffinity(0, sizeof all, &all) != 0) {
        return false;
    }
    int first = 0;
    while (first < CPU_SETSIZE - 1 && !CPU_ISSET(first, &all)) {
        first++;
    }
    CPU_ZERO(&one);
    CPU_SET(first, &one);
    bool done = sched_setaffinity(0, sizeof one, &one) == 0 && probe(d, t, passed);
    (void)sched_setaffinity(0, sizeof all, &all);
    return done;
}

static const char *word(bool passed)
{
    return passed ? "passes" : "fails";
}

static bool diagnose(const struct diagnosis *d, struct bnt_test *t)
{
    struct probes p = {0};
    if (!probe(d, t, &p.same_seed[0]) || !probe(d, t, &p.same_seed[1]) ||
        !probe_with_seed(d, t, d->run->seed + 1, &p.other_seed) ||
        !probe_on_one_processor(d, t, &p.one_processor)) {
        return false;
    }
    char text[256];
    snprintf(text, sizeof text,
             "alone with seed %llu: %s, %s; with another seed: %s; on one processor: %s",
             (unsigned long long)d->run->seed, word(p.same_seed[0]), word(p.same_seed[1]),
             word(p.other_seed), word(p.one_processor));
    t->label = strdup(label_of(&p));
    t->diagnosis = strdup(text);
    return true;
}

void diagnose_failures(struct bnt_test_run *run, uint64_t limit_ms,
                       const volatile sig_atomic_t *interrupted)
{
    const struct diagnosis d = {run, bnt_clock_now_ns() + limit_ms * 1000000u, interrupted};
    for (size_t i = 0; i < run->n; i++) {
        struct bnt_test *t = &run->at[i];
        bool failed = bnt_test_is_red(t) || t->outcome == BNT_TEST_QUARANTINED;
        if (failed && t->place.started && !t->cause && !t->label) {
            (void)diagnose(&d, t); /* what found no time stays without a label */
        }
    }
}
