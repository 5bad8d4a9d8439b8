/* The options of `bnt test` and what a run makes of them, step by step. */
#ifndef TESTKIT_CMD_TEST_SESSION_H
#define TESTKIT_CMD_TEST_SESSION_H

#include "engine/model_arg.h"
#include "testkit/cmd_test_impl.h"

#define SEED_MAX 9007199254740991ull /* what every reader of JSON holds exactly */

struct test_opts {
    struct bnt_model_arg model;
    struct test_reports reports;
    const char *tier, *suites, *shard, *times, *history, *quarantine, *events, *gdb, *subject,
        *device;
    struct bnt_strs filters;
    int64_t jobs, seed, repeat;
    double budget_s, diagnose_s;
    bool list, strict, slower, last_failed, fail_fast, cache;
};

/* Plan, run and report the collected tests. */
enum bnt_status test_session(const struct bnt_app *app, const struct test_opts *o,
                             struct bnt_test_run *run);
/* Leave the tests that --shard or --last-failed would run. */
enum bnt_status test_select(const struct test_opts *o, struct bnt_test_run *run);
/* Run one test under gdb; returns only when that cannot be. */
enum bnt_status test_under_gdb(const struct bnt_app *app, const struct test_opts *o,
                               struct bnt_test_run *run);
/* The complaint of a run without tests. */
enum bnt_status test_nothing_selected(const struct bnt_test_run *run, bool last_failed);

#endif
