/* A run as it happens: one JSON object per line, each flushed when it is written.
 *
 *     {"event": "run", "run": ID, "tier", "tests", "jobs", "budget_seconds", "started_unix_s"}
 *     {"event": "start", "at": 1.25, "suite", "test", "slot", "try": 1}
 *     {"event": "end", "at": 1.5, "suite", "test", "outcome", "seconds", "reason", "try": 1}
 *     {"event": "done", "at": 60.1, "exit": 0, "passed", "failed", ...}
 *
 * `at`: seconds since the run began. A test that is retried or repeated starts and ends several
 * times; one that never starts (cached, not run) ends only. */
#ifndef TESTKIT_EVENTS_H
#define TESTKIT_EVENTS_H

#include <stdio.h>

#include "testkit/bnt_test.h"

struct events {
    FILE *file; /* NULL: nobody listens */
    const char *path;
    uint64_t start_ns;
    int failed; /* errno of the line that could not be written, after which none is; 0 */
};

/* path: NULL for nobody. */
enum bnt_status events_open(struct events *e, const char *path, struct bnt_err *err);
void events_begin(struct events *e, const struct bnt_test_run *run);
/* A bnt_test_options.event; ctx is the struct events. */
void events_test(void *ctx, const struct bnt_test_run *run, const struct bnt_test *test);
/* The ends of what never started, and the end of the run. Closes. Errors: what could not be
 * written. */
enum bnt_status events_end(struct events *e, const struct bnt_test_run *run, int exit_code,
                           struct bnt_err *err);

#endif
