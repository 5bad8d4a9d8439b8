/* bnt test: run the suites of a tier on a model. */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "testkit/cmd_test_session.h"
#include "testkit/commands.h"
#include "testkit/user_files.h"
#include "testkit/user_suite.h"

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
     .arg = "WORDS",
     .help = "only tests that match all WORDS: a part of SUITE/NAME, suite:NAME, name:TEXT, "
             "tag:WORD, subject:WORD, tier:WORD, needs:WORD, kills:DEFECT, each with ! before it "
             "for the "
             "opposite; may be repeated for more tests",
     .offset = offsetof(struct test_opts, filters)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "last-failed",
     .help = "only tests whose last result in the history is a failure",
     .offset = offsetof(struct test_opts, last_failed)},
    {.kind = BNT_OPT_STR,
     .long_name = "shard",
     .arg = "I/N",
     .help = "only the I-th of N parts of equal time; auto: as the CI system says in the "
             "environment (docs/testkit.md)",
     .offset = offsetof(struct test_opts, shard)},
    {.kind = BNT_OPT_STR,
     .long_name = "times",
     .arg = "FILE",
     .help = "times by which shards are cut, from bnt test history --times; the same file for all",
     .offset = offsetof(struct test_opts, times)},
    {.kind = BNT_OPT_STR,
     .long_name = "suites",
     .arg = "FILE",
     .help = "the program that holds the tests (bnt-suites)",
     .offset = offsetof(struct test_opts, suites)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "list",
     .help = "list the tests that would run, of the shard if one is given, instead of running them",
     .offset = offsetof(struct test_opts, list)},
    BNT_MODEL_ARG_ROWS(struct test_opts, model),
    {.kind = BNT_OPT_STR,
     .long_name = "subject",
     .arg = "SPEC",
     .help = "what the tests of FILEs ask instead of a model: tiny:, tiny:SEED, scripted:FILE or "
             "the address of a server",
     .offset = offsetof(struct test_opts, subject)},
    {.kind = BNT_OPT_STR,
     .long_name = "device",
     .arg = "DEVICE",
     .help =
         "what computes in tests of models, those of FILEs too: cpu, cuda, cuda:N, or auto: the "
         "faster on MODEL; a GPU that fails fails the test",
     .offset = offsetof(struct test_opts, device),
     .def = "cpu"},
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
     .long_name = "repeat",
     .arg = "N",
     .help = "run every test N times; one failure is a failure",
     .offset = offsetof(struct test_opts, repeat),
     .max = 100000},
    {.kind = BNT_OPT_INT,
     .long_name = "seed",
     .arg = "N",
     .help = "BNT_TEST_SEED of random tests; 0: the one of the environment, else drawn anew",
     .offset = offsetof(struct test_opts, seed),
     .max = SEED_MAX},
    {.kind = BNT_OPT_FLAG,
     .long_name = "fail-fast",
     .help = "start nothing more after the first failure",
     .offset = offsetof(struct test_opts, fail_fast)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "slower",
     .help = "exit 17 when a figure of a test got worse against the history of this machine "
             "(docs/bench.md)",
     .offset = offsetof(struct test_opts, slower)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "strict",
     .help = "exit 27 when the budget left tests unrun, or all were skipped",
     .offset = offsetof(struct test_opts, strict)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "cache",
     .help = "take passes of tests that declare it from earlier runs with the same program, model, "
             "inputs and environment, but for a few that are audited; without it everything runs",
     .offset = offsetof(struct test_opts, cache)},
    {.kind = BNT_OPT_STR,
     .long_name = "history",
     .arg = "FILE",
     .help = "history of runs, by which the order is planned (BNT_HISTORY, else "
             "~/.local/state/bnt/history.db); none: no history",
     .offset = offsetof(struct test_opts, history)},
    {.kind = BNT_OPT_STR,
     .long_name = "quarantine",
     .arg = "FILE",
     .help = "known failures, each with owner, reason and expiry (testkit/quarantine.yml, if there "
             "is one); none: no quarantine",
     .offset = offsetof(struct test_opts, quarantine)},
    {.kind = BNT_OPT_FLOAT,
     .long_name = "diagnose",
     .arg = "SECONDS",
     .help =
         "time for looking at failures again after the run, to tell a flaky from a broken test; "
         "no outcome changes",
     .offset = offsetof(struct test_opts, diagnose_s),
     .def = "20",
     .max = 86400},
    {.kind = BNT_OPT_STR,
     .long_name = "gdb",
     .arg = "NAME",
     .help = "run the one test of this name under gdb, without its time limit",
     .offset = offsetof(struct test_opts, gdb)},
    BNT_OPT_HEAD("Reports"),
    TEST_REPORT_ROWS(struct test_opts, reports),
    {.kind = BNT_OPT_STR,
     .long_name = "events",
     .arg = "FILE",
     .help = "write JSON lines while it runs: what starts, what ends and how",
     .offset = offsetof(struct test_opts, events)},
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
        status = bnt_buf_printf(
            &out, &err, "%-12s %-12s %s%s%s%s%s%s%s\n", t->suite, bnt_test_tier_name(t->tier),
            t->name, t->needs[0] ? "  needs: " : "", t->needs, t->tags[0] ? "  tags: " : "",
            t->tags, t->subjects[0] ? "  subjects: " : "", t->subjects);
    }
    return test_print(&out, status, &err);
}

enum bnt_status test_nothing_selected(const struct bnt_test_run *run, bool last_failed)
{
    char hint[128] = "bnt test --list shows what there is";
    if (last_failed) {
        snprintf(hint, sizeof hint, "no selected test failed in its last run");
    } else if (run->n_other_tier > 0) {
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

static enum bnt_status check_options(const struct test_opts *o, int argc, char **argv)
{
    if (argc > 0 && o->suites) {
        return bnt_msg_fail(BNT_E_USAGE, "give one of the two",
                            "--suites names a program, %s a suite in YAML", argv[0]);
    }
    if (argc == 0 && o->subject) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt test --subject SPEC FILE" USER_SUITE_ENDING,
                            "--subject is for suites in YAML");
    }
    if (o->subject && strncmp(o->subject, "tiny:", 5) != 0 && strcmp(o->device, "cpu") != 0) {
        return bnt_msg_fail(BNT_E_USAGE, "give one of the two",
                            "--device is for models that bnt computes, and --subject names what "
                            "another computes");
    }
    if (o->shard && o->last_failed) {
        return bnt_msg_fail(BNT_E_USAGE, "shards must agree, and a history is of one machine",
                            "--shard and --last-failed do not go together");
    }
    return BNT_OK;
}

static enum bnt_status run_command(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    const struct test_opts *o = parsed;
    struct bnt_err err = {0};
    enum bnt_status status = check_options(o, argc, argv);
    if (status != BNT_OK) {
        return status;
    }
    struct bnt_test_run run = {0};
    status = user_files_export(argv, argc, o->subject, &err);
    if (status == BNT_OK) {
        status = collect(o, &run, &err);
    }
    if (status != BNT_OK) {
        status = bnt_msg_error(&err);
    } else if (o->gdb) {
        status = test_under_gdb(app, o, &run);
    } else if (run.n == 0) {
        status = test_nothing_selected(&run, false);
    } else if (o->list) {
        status = test_select(o, &run);
        status = status == BNT_OK ? list_tests(&run, o->reports.json) : status;
    } else {
        status = test_reports_check(&o->reports);
        status = status == BNT_OK ? test_session(app, o, &run) : status;
    }
    bnt_test_run_release(&run);
    return status;
}

static const struct bnt_cmd *const subs[] = {
    &bnt_cmd_test_history, &bnt_cmd_test_lint, &bnt_cmd_test_merge,
    &bnt_cmd_test_report,  &bnt_cmd_test_why,  NULL,
};

const struct bnt_cmd bnt_cmd_test = {
    .name = "test",
    .synopsis = "[--tier TIER] [--filter WORDS] [-m MODEL] [FILE...]",
    .summary = "run the suites of a tier on a model, within its budget",
    .description =
        "Every test runs in a process of its own. A crash, a hang or a flood of output "
        "ends that test alone and is reported "
        "as what it is. A skip names the need that is not met here. What must run goes "
        "first (contracts, changed inputs, last failures), then what teaches most per "
        "second by the history. What does not fit into the rest of the budget is not "
        "started and reported as NOT RUN, never as passed.\n\n"
        "Suites about any model run on the one given with -m (they read "
        "BNT_TEST_MODEL); suites against recorded answers "
        "run on the model of the record.\n\n"
        "FILE is a suite in YAML, NAME" USER_SUITE_ENDING
        ", or a folder of them: they run in place of the suites of this program "
        "(docs/user-suites.md).\n\n"
        "Exit: 0 all passed or skipped; 1 a test failed, or a quarantine expired; 4 no "
        "test selected; 17 a figure got worse and --slower was given; 24 all passed on "
        "a mock; 25 an audit found the result cache "
        "wrong; 27 tests were left unrun, or all were skipped, and --strict was given, or "
        "what must run does not fit into the budget; 130 interrupted.",
    .examples =
        "  bnt test --tier fast                      # the bundled model, 5 minutes at most\n"
        "  bnt test --filter gguf/ --junit out.xml   # one suite, with a JUnit report\n"
        "  bnt test -m my.gguf --filter suite:any_model   # what must hold for every model\n"
        "  bnt test prompts.bnt.yml -m my.gguf       # a suite of one's own\n"
        "  bnt test --device cuda --tier full        # all of it computed by a GPU\n"
        "  bnt test --last-failed --repeat 20        # does it fail each time?\n"
        "  bnt test --shard 2/5 --result 2.json      # one of five machines\n"
        "  bnt test merge 1.json 2.json 3.json 4.json 5.json   # and all of them",
    .opts = options,
    .opts_size = sizeof(struct test_opts),
    .subs = subs,
    .run = run_command,
};
