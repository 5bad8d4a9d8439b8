/* bnt test: run the suites of a tier on a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/msg.h"
#include "base/sysinfo.h"
#include "engine/model_arg.h"
#include "testkit/bnt_test.h"
#include "testkit/cmd_test_impl.h"
#include "testkit/commands.h"
#include "testkit/identity.h"
#include "testkit/live_line.h"

struct test_opts {
    struct bnt_model_arg model;
    struct test_reports reports;
    const char *tier, *suites;
    struct bnt_strs filters;
    int64_t jobs, seed;
    double budget_s;
    bool list, strict;
};

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("What runs"),
    {.kind = BNT_OPT_STR,
     .long_name = "tier",
     .arg = "TIER",
     .help = "budget of 5, 15 or 45 minutes, and the tests it reaches",
     .offset = offsetof(struct test_opts, tier),
     .def = "fast",
     .choices = "fast|integration|full"},
    {.kind = BNT_OPT_LIST,
     .long_name = "filter",
     .arg = "TEXT",
     .help = "only tests with TEXT in SUITE/NAME; may be repeated",
     .offset = offsetof(struct test_opts, filters)},
    {.kind = BNT_OPT_STR,
     .long_name = "suites",
     .arg = "FILE",
     .help = "the program that holds the tests (bnt-suites)",
     .offset = offsetof(struct test_opts, suites)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "list",
     .help = "list the tests instead of running them",
     .offset = offsetof(struct test_opts, list)},
    BNT_MODEL_ARG_ROWS(struct test_opts, model),
    BNT_OPT_HEAD("How"),
    {.kind = BNT_OPT_INT,
     .short_name = 'j',
     .long_name = "jobs",
     .arg = "N",
     .help = "tests at a time; 0: one per processor",
     .offset = offsetof(struct test_opts, jobs),
     .max = BNT_TEST_JOBS_MAX},
    {.kind = BNT_OPT_FLOAT,
     .long_name = "budget",
     .arg = "SECONDS",
     .help = "another budget than the tier's",
     .offset = offsetof(struct test_opts, budget_s),
     .max = 86400},
    {.kind = BNT_OPT_INT,
     .long_name = "seed",
     .arg = "N",
     .help = "BNT_TEST_SEED of random tests; 0: the one of the environment, else drawn anew",
     .offset = offsetof(struct test_opts, seed),
     .max = 9007199254740991.0},
    {.kind = BNT_OPT_FLAG,
     .long_name = "strict",
     .help = "exit 27 when the budget left tests unrun",
     .offset = offsetof(struct test_opts, strict)},
    BNT_OPT_HEAD("Reports"),
    TEST_REPORT_ROWS(struct test_opts, reports),
    BNT_OPT_END,
};

static enum bnt_status list_tests(const struct bnt_test_run *run, bool json)
{
    struct bnt_err err = {0};
    struct bnt_buf out = BNT_BUF(TEST_REPORT_MAX_BYTES);
    if (json) {
        return test_print(&out, bnt_test_report_json(run, BNT_OK, &out, &err), &err);
    }
    enum bnt_status status = BNT_OK;
    for (size_t i = 0; i < run->n && status == BNT_OK; i++) {
        const struct bnt_test *t = &run->at[i];
        status = bnt_buf_printf(&out, &err, "%-12s %-12s %s%s%s\n", t->suite,
                                bnt_test_tier_name(t->tier), t->name,
                                t->needs[0] ? "  needs: " : "", t->needs);
    }
    return test_print(&out, status, &err);
}

static enum bnt_status nothing_selected(const struct bnt_test_run *run)
{
    char hint[128] = "bnt test --list shows what there is";
    if (run->n_other_tier > 0) {
        snprintf(hint, sizeof hint,
                 "%zu would run in a larger tier: give --tier integration or full",
                 run->n_other_tier);
    }
    return bnt_msg_fail(BNT_E_NO_TESTS, hint, "no test selected");
}

static enum bnt_status collect(const struct test_opts *o, struct bnt_test_run *run,
                               struct bnt_err *err)
{
    char program[BNT_PATH_MAX];
    enum bnt_status status = o->suites ? bnt_path_format(program, err, "%s", o->suites)
                                       : bnt_test_find_program(program, err);
    return status == BNT_OK
               ? bnt_test_collect(run, program, bnt_test_tier_from_name(o->tier), &o->filters, err)
               : status;
}

/* Suites read BNT_TEST_MODEL; the path is absolute, since a test may change its folder. */
static enum bnt_status choose_model(const struct bnt_app *app, const struct test_opts *o,
                                    struct bnt_test_run *run, bool *mock, struct bnt_err *err)
{
    enum bnt_status status = bnt_model_arg_resolve(app, &o->model, &run->model, mock, err);
    if (status != BNT_OK) {
        return status;
    }
    char absolute[BNT_PATH_MAX];
    if (!realpath(run->model.path, absolute)) {
        return bnt_err_errno(err, "%s", run->model.path);
    }
    if (setenv("BNT_TEST_MODEL", absolute, 1) != 0) {
        return bnt_err_errno(err, "BNT_TEST_MODEL");
    }
    run->model_given = o->model.name != NULL;
    return bnt_path_format(run->model.path, err, "%s", absolute);
}

/* Every random test of a run draws from one seed, which a failure's rerun line names. */
static enum bnt_status choose_seed(const struct test_opts *o, struct bnt_test_run *run,
                                   struct bnt_err *err)
{
    const char *given = getenv("BNT_TEST_SEED");
    run->seed = (uint64_t)o->seed;
    if (run->seed == 0 && given) {
        run->seed = strtoull(given, NULL, 10);
    }
    if (run->seed == 0) {
        run->seed = strtoull(run->id, NULL, 16) % 1000000000 + 1;
    }
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)run->seed);
    return setenv("BNT_TEST_SEED", text, 1) == 0 ? BNT_OK : bnt_err_errno(err, "BNT_TEST_SEED");
}

static enum bnt_status run_tests(const struct bnt_app *app, const struct test_opts *o,
                                 struct bnt_test_run *run, struct bnt_err *err)
{
    bool mock = false;
    enum bnt_status status = choose_model(app, o, run, &mock, err);
    if (status == BNT_OK) {
        status = identity_fill(run, err);
    }
    if (status == BNT_OK) {
        status = choose_seed(o, run, err);
    }
    if (status != BNT_OK) {
        return bnt_msg_error(err);
    }
    if (mock) {
        bnt_model_arg_warn(&run->model, bnt_msg_warn_fn, NULL);
    }
    struct live_line line;
    live_line_begin(&line, bnt_msg_level() == BNT_MSG_QUIET ? -1 : 2);
    const struct bnt_test_options how = {
        .n_jobs = o->jobs > 0                           ? (int)o->jobs
                  : bnt_cpu_count() < BNT_TEST_JOBS_MAX ? bnt_cpu_count()
                                                        : BNT_TEST_JOBS_MAX,
        .budget_ms = (uint64_t)(o->budget_s * 1000),
        .interrupted = app->interrupted,
        .tick = live_line_tick,
        .tick_ctx = &line,
    };
    status = bnt_test_execute(run, &how, err);
    live_line_end(&line);
    return status == BNT_OK
               ? test_reports_write(run, &o->reports, test_verdict(run, o->strict, mock))
               : bnt_msg_error(err);
}

static enum bnt_status run_command(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    const struct test_opts *o = parsed;
    struct bnt_err err = {0};
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt test --filter TEXT", "no operand is taken: %s",
                            argv[0]);
    }
    struct bnt_test_run run = {0};
    enum bnt_status status = collect(o, &run, &err);
    if (status != BNT_OK) {
        status = bnt_msg_error(&err);
    } else if (run.n == 0) {
        status = nothing_selected(&run);
    } else {
        status = o->list ? list_tests(&run, o->reports.json) : run_tests(app, o, &run, &err);
    }
    bnt_test_run_release(&run);
    return status;
}

const struct bnt_cmd bnt_cmd_test = {
    .name = "test",
    .synopsis = "[--tier TIER] [--filter TEXT] [-m MODEL]",
    .summary = "run the suites of a tier on a model, within its budget",
    .description = "Every test runs in a process of its own. A crash, a hang or a flood of output "
                   "ends that test alone and is reported "
                   "as what it is. A skip names the need that is not met here. When the budget is "
                   "spent nothing more is started, and "
                   "what remains is reported as NOT RUN, never as passed.\n\n"
                   "Suites about any model run on the one given with -m (they read "
                   "BNT_TEST_MODEL); suites against recorded answers "
                   "run on the model of the record.\n\n"
                   "Exit: 0 all passed or skipped; 1 a test failed; 4 no test selected; 24 all "
                   "passed on a mock; 27 tests were left "
                   "unrun and --strict was given; 130 interrupted.",
    .examples =
        "  bnt test --tier fast                      # the bundled model, 5 minutes at most\n"
        "  bnt test --filter gguf/ --junit out.xml   # one suite, with a JUnit report\n"
        "  bnt test -m my.gguf --filter any_model   # what must hold for every model",
    .opts = options,
    .opts_size = sizeof(struct test_opts),
    .run = run_command,
};
