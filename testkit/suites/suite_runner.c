/* Guards `bnt test`: a verdict invented from half an answer, a budget that counts what never ran as
 * passed, a report that a reader cannot parse. The suites programs here are small scripts, so that
 * each answer is exactly known. */
#include "testkit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "testkit/bnt_test.h"
#include "testkit/live_line.h"
#include "testkit/proc.h"
#include "testkit/runner_tap.h"

enum { REPORT_MAX_BYTES = 16 << 20 };

/* ---- programs that speak as bnt-suites does ---- */

/* Each line: name, what the shell does for --run. Selected by name in the script. */
struct scripted {
    const char *name, *tier, *shell;
};

#define SAYS_OK(name)                                                                              \
    "echo 'ok 1 - " name " # time=1.0ms'; echo 1..1; echo '1 passed, 0 failed, 0 skipped'"

static const char *write_program(const struct scripted *rows)
{
    static char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/fake-suites", suite_scratch()), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\ncase \"$1\" in\n--list)\n");
    for (const struct scripted *r = rows; r->name; r++) {
        fprintf(f, "printf '%s\\tfake\\t%s\\t60000\\t-\\n'\n", r->name, r->tier);
    }
    fprintf(f, ";;\n--run)\ncase \"$2\" in\n");
    for (const struct scripted *r = rows; r->name; r++) {
        fprintf(f, "%s) %s;;\n", r->name, r->shell);
    }
    fprintf(f, "esac;;\nesac\n");
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static void collect(struct bnt_test_run *run, const char *program, enum bnt_test_tier tier)
{
    struct bnt_err err = {0};
    *run = (struct bnt_test_run){0};
    if (bnt_test_collect(run, program, tier, NULL, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    run->model.kind = "real";
    snprintf(run->model.path, sizeof run->model.path, "/models/some <model> & more.gguf");
}

static void execute(struct bnt_test_run *run, const struct bnt_test_options *options)
{
    struct bnt_err err = {0};
    if (bnt_test_execute(run, options, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(bnt_test_count(run, NULL).of[BNT_TEST_PENDING], 0);
}

/* ---- reading a verdict ---- */

static void verdict_is_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *tap;
        int exit;
        enum bnt_test_outcome outcome; /* PENDING: not a verdict */
        const char *reason;
    } cases[] = {
        {"ok 1 - t # time=1ms\n1..1\n1 passed, 0 failed, 0 skipped\n", 0, BNT_TEST_PASSED, NULL},
        {"ok 1 - t\n1..1\n", 0, BNT_TEST_PASSED, NULL},
        {"ok 1 - t # SKIP needs: shared (why)\n1..1\n", 0, BNT_TEST_SKIPPED, "needs: shared (why)"},
        {"ok 1 - t # skip not here\n1..1\n", 0, BNT_TEST_SKIPPED, "not here"},
        {"ok 1 - t # SKIP\n1..1\n", 0, BNT_TEST_SKIPPED, "it does not say why"},
        {"ok 1 - t # it does not skip\n1..1\n", 0, BNT_TEST_PASSED, NULL},
        {"not ok 1 - t # time=1ms\n# why: killed\n1..1\n", 1, BNT_TEST_FAILED, "killed"},
        {"", 0, BNT_TEST_PENDING, NULL},
        {"ok 1 - t\n", 0, BNT_TEST_PENDING, NULL},       /* no plan: it ended too early */
        {"1..1\n", 0, BNT_TEST_PENDING, NULL},           /* no result */
        {"ok 1 - t\n1..1\n", 1, BNT_TEST_PENDING, NULL}, /* the exit code says otherwise */
        {"not ok 1 - t\n# why: x\n1..1\n", 0, BNT_TEST_PENDING, NULL},
        {"ok 1 - t\n1..1\n", 139, BNT_TEST_PENDING, NULL},
        {"ok 1 - other\n1..1\n", 0, BNT_TEST_PENDING, NULL}, /* another test */
        {"ok 1 - t_and_more\n1..1\n", 0, BNT_TEST_PENDING, NULL},
        {"ok 1 - t\nok 2 - t\n1..1\n", 0, BNT_TEST_PENDING, NULL}, /* twice */
        {"ok 1 - t\n1..2\n", 0, BNT_TEST_PENDING, NULL},
        {"# | ok 1 - t\n1..1\n", 0, BNT_TEST_PENDING, NULL}, /* the test's output is no verdict */
        {"not ok 1 - t\n# why: x\n# | ok 1 - t\n# | 1..1\n1..1\n", 1, BNT_TEST_FAILED, "x"},
    };
    char name[] = "t";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test t = {.name = name};
        bool read = runner_tap_read(cases[i].tap, cases[i].exit, &t);
        print_message("case %zu: %d %s %s\n", i, read, bnt_test_outcome_name(t.outcome),
                      t.reason ? t.reason : "");
        assert_int_equal(read, cases[i].outcome != BNT_TEST_PENDING);
        assert_int_equal(t.outcome, cases[i].outcome);
        if (cases[i].reason) {
            assert_string_equal(t.reason, cases[i].reason);
        } else {
            assert_null(t.reason);
        }
        t.name = NULL; /* static */
        bnt_test_release(&t);
    }
}

static void program_without_a_verdict_is_a_failure(void **state)
{
    (void)state;
    static const struct scripted rows[] = {
        {"passes", "fast", SAYS_OK("passes")},
        {"silent", "fast", "exit 0"},
        {"lies", "fast", SAYS_OK("lies") "; exit 1"},
        {"dies", "fast", "echo 'ok 1 - dies'; kill -SEGV $$"},
        {"grumbles", "fast", "echo 'cannot open it' >&2; exit 3"},
        {NULL, NULL, NULL},
    };
    struct bnt_test_run run;
    collect(&run, write_program(rows), BNT_TIER_FAST);
    execute(&run, &(struct bnt_test_options){.n_jobs = 3});
    assert_int_equal(run.n, 5);
    assert_int_equal(run.at[0].outcome, BNT_TEST_PASSED);
    static const char *const reasons[] = {NULL, "exited with 0", "exited with 1", "SIGSEGV",
                                          "exited with 3"};
    for (size_t i = 1; i < run.n; i++) {
        print_message("%s: %s\n", run.at[i].name, run.at[i].reason);
        assert_int_equal(run.at[i].outcome, BNT_TEST_FAILED);
        assert_non_null(strstr(run.at[i].reason, "no verdict"));
        assert_non_null(strstr(run.at[i].reason, reasons[i]));
    }
    assert_non_null(strstr(run.at[4].output, "cannot open it"));
    bnt_test_run_release(&run);
}

static void missing_or_broken_program_is_an_error(void **state)
{
    (void)state;
    struct bnt_test_run run = {0};
    struct bnt_err err = {0};
    assert_int_not_equal(bnt_test_collect(&run, "/no/such/program", BNT_TIER_FAST, NULL, &err),
                         BNT_OK);
    assert_non_null(strstr(err.msg, "/no/such/program"));
    bnt_test_run_release(&run);
    struct bnt_err strange = {0};
    assert_int_equal(bnt_test_collect(&run, "/bin/echo", BNT_TIER_FAST, NULL, &strange),
                     BNT_E_FILE);
    bnt_test_run_release(&run);
}

static void list_that_cannot_be_is_an_error(void **state)
{
    (void)state;
    static const struct {
        const char *shell, *says;
        enum bnt_status status;
    } cases[] = {
        {"printf 'a\tf\tfast\t10\t-\nb\tf\tfast\t10\t-\na\tg\tfull\t10\t-\n'", "a is there twice",
         BNT_E_FILE},
        {"printf 'a\tf\tfast\tsoon\t-\n'", "not a line about a test", BNT_E_FILE},
        {"printf 'a\tf\tfast\t4294967297\t-\n'", "not a line about a test", BNT_E_FILE},
        {"echo 'error: no such model' >&2; exit 8", "no such model", BNT_E_NOT_FOUND},
        {"echo 'error: it broke' >&2; exit 200", "it broke", BNT_E_FAILED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test_run run = {0};
        struct bnt_err err = {0};
        const char *path = suite_in_scratch("lister");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fprintf(f, "#!/bin/sh\n%s\n", cases[i].shell);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(chmod(path, 0755), 0);
        enum bnt_status st = bnt_test_collect(&run, path, BNT_TIER_FAST, NULL, &err);
        if (st != cases[i].status || !strstr(err.msg, cases[i].says)) {
            fail_msg("%s: status %d, %s", cases[i].shell, (int)st, err.msg);
        }
        bnt_test_run_release(&run);
    }
}

/* ---- tiers, budget, interrupt ---- */

static const struct scripted three_tiers[] = {
    {"a", "fast", SAYS_OK("a")}, {"b", "integration", SAYS_OK("b")},
    {"c", "full", SAYS_OK("c")}, {"d", "fast", SAYS_OK("d")},
    {NULL, NULL, NULL},
};

static void tier_reaches_those_before_it(void **state)
{
    (void)state;
    static const size_t reached[BNT_TIERS] = {2, 3, 4};
    const char *program = write_program(three_tiers);
    for (int tier = 0; tier < BNT_TIERS; tier++) {
        struct bnt_test_run run;
        collect(&run, program, (enum bnt_test_tier)tier);
        assert_int_equal(run.n, reached[tier]);
        assert_int_equal(run.n_other_tier, 4 - reached[tier]);
        bnt_test_run_release(&run);
    }
    assert_int_equal(bnt_test_tier_budget_ms(BNT_TIER_FAST), 300 * 1000);
    assert_int_equal(bnt_test_tier_budget_ms(BNT_TIER_INTEGRATION), 900 * 1000);
    assert_int_equal(bnt_test_tier_budget_ms(BNT_TIER_FULL), 2700 * 1000);
}

static void filters_are_parts_of_suite_and_name(void **state)
{
    (void)state;
    static const struct {
        struct bnt_strs filters;
        size_t n;
    } cases[] = {
        {{0, {NULL}}, 4},       {{1, {"fake/"}}, 4},   {{1, {"/a"}}, 1},
        {{2, {"/a", "/b"}}, 2}, {{1, {"nothing"}}, 0},
    };
    const char *program = write_program(three_tiers);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test_run run = {0};
        assert_int_equal(bnt_test_collect(&run, program, BNT_TIER_FULL, &cases[i].filters, NULL),
                         BNT_OK);
        assert_int_equal(run.n, cases[i].n);
        bnt_test_run_release(&run);
    }
    char wide[301] = "";
    memset(wide, 'a', sizeof wide - 1);
    const char *const wrong[] = {wide, "tga:x", "tag:", " ", "!"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct bnt_test_run run = {0};
        const struct bnt_strs one = {1, {wrong[i]}};
        print_message("%.20s\n", wrong[i]);
        assert_int_equal(bnt_test_collect(&run, program, BNT_TIER_FULL, &one, NULL), BNT_E_USAGE);
        bnt_test_run_release(&run);
    }
}

/* A clock that only this callback moves: a second with each look. */
static void tick_a_second(void *ctx, const struct bnt_test_run *run, const char *running,
                          uint64_t elapsed_ms)
{
    (void)ctx;
    (void)run;
    (void)running;
    (void)elapsed_ms;
    bnt_clock_sleep_ns(1000000000u);
}

static void budget_leaves_the_rest_not_run(void **state)
{
    (void)state;
    struct bnt_test_run run;
    collect(&run, write_program(three_tiers), BNT_TIER_FULL);
    bnt_clock_fake(1);
    execute(&run,
            &(struct bnt_test_options){.n_jobs = 1, .budget_ms = 1000, .tick = tick_a_second});
    assert_int_equal(run.at[0].outcome, BNT_TEST_PASSED); /* it had been started: it may end */
    for (size_t i = 1; i < run.n; i++) {
        assert_int_equal(run.at[i].outcome, BNT_TEST_NOT_RUN);
        assert_string_equal(run.at[i].reason, "budget");
    }
    struct bnt_buf text = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_report_text(&run, &text, NULL), BNT_OK);
    assert_non_null(strstr(bnt_buf_view(&text), "NOT RUN (budget) fake/b\n"));
    assert_non_null(strstr(bnt_buf_view(&text), "\n1 passed, 0 failed, 0 skipped, 3 not run\n"));
    bnt_buf_release(&text);
    bnt_test_run_release(&run);
}

static volatile sig_atomic_t interrupted;

static void interrupt_when_running(void *ctx, const struct bnt_test_run *run, const char *running,
                                   uint64_t elapsed_ms)
{
    (void)ctx;
    (void)elapsed_ms;
    if (running && run->at[0].outcome == BNT_TEST_PASSED) {
        interrupted = 1;
    }
}

static void interrupt_ends_what_runs_and_keeps_what_ran(void **state)
{
    (void)state;
    static const struct scripted rows[] = {
        {"first", "fast", SAYS_OK("first")},
        {"hangs", "fast", "while :; do sleep 60; done"},
        {"never", "fast", SAYS_OK("never")},
        {NULL, NULL, NULL},
    };
    struct bnt_test_run run;
    collect(&run, write_program(rows), BNT_TIER_FAST);
    execute(&run, &(struct bnt_test_options){
                      .n_jobs = 1, .interrupted = &interrupted, .tick = interrupt_when_running});
    assert_true(run.interrupted);
    assert_int_equal(run.at[0].outcome, BNT_TEST_PASSED);
    assert_int_equal(run.at[1].outcome, BNT_TEST_NOT_RUN);
    assert_string_equal(run.at[1].reason, "interrupted");
    assert_int_equal(run.at[2].outcome, BNT_TEST_NOT_RUN);
    bnt_test_run_release(&run);
}

/* It is in a session of its own, where an end of the test's group does not reach it. */
static void what_outlives_a_test_is_ended_and_told(void **state)
{
    (void)state;
    static const struct scripted rows[] = {
        {"leaves", "fast", "setsid sleep 60 & echo $! >pid; " SAYS_OK("leaves")},
        {NULL, NULL, NULL},
    };
    int pid = 0;
    struct bnt_test_run run;
    assert_int_equal(chdir(suite_scratch()), 0);
    collect(&run, write_program(rows), BNT_TIER_FAST);
    execute(&run, &(struct bnt_test_options){.n_jobs = 1});
    FILE *f = fopen("pid", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%d", &pid), 1);
    fclose(f);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_non_null(strstr(run.worker_note, "outlived its test was ended: s"));
    bnt_test_run_release(&run);
}

/* Each waits for the other through a pair of pipes, so neither ends unless both run at once. */
static void jobs_run_side_by_side(void **state)
{
    (void)state;
    assert_int_equal(chdir(suite_scratch()), 0);
    assert_int_equal(mkfifo("one", 0600), 0);
    assert_int_equal(mkfifo("two", 0600), 0);
    static const struct scripted rows[] = {
        {"a", "fast", "echo >one; read x <two; " SAYS_OK("a")},
        {"b", "fast", "read x <one; echo >two; " SAYS_OK("b")},
        {NULL, NULL, NULL},
    };
    struct bnt_test_run run;
    collect(&run, write_program(rows), BNT_TIER_FAST);
    execute(&run, &(struct bnt_test_options){.n_jobs = 2});
    assert_int_equal(bnt_test_count(&run, "fake").of[BNT_TEST_PASSED], 2);
    bnt_test_run_release(&run);
}

/* ---- reports ---- */

/* A run with every outcome, and output that no report format likes. */
static void run_every_outcome(struct bnt_test_run *run)
{
    static const struct scripted rows[] = {
        {"passes", "fast", SAYS_OK("passes")},
        {"fails", "fast",
         "printf 'not ok 1 - fails # time=1.0ms\\n# why: it said \"<no>\" & left\\n"
         "# | bell \\007 esc \\033[31m ]]> <tag> & \\377\\376 \\357\\277\\277 "
         "\\303\\244\\n1..1\\n'; exit 1"},
        {"skips", "fast", "echo 'ok 1 - skips # SKIP needs: shared (no folder)'; echo 1..1"},
        {"late", "fast", SAYS_OK("late")},
        {NULL, NULL, NULL},
    };
    collect(run, write_program(rows), BNT_TIER_FAST);
    execute(run, &(struct bnt_test_options){.n_jobs = 2});
    struct bnt_test *late = &run->at[3]; /* as the budget would have left it */
    late->outcome = BNT_TEST_NOT_RUN;
    late->reason = strdup("budget");
}

static void text_report_shows_every_outcome(void **state)
{
    (void)state;
    struct bnt_test_run run;
    run_every_outcome(&run);
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_report_text(&run, &out, NULL), BNT_OK);
    const char *text = bnt_buf_view(&out);
    print_message("%s", text);
    assert_non_null(strstr(text, "model: /models/some <model> & more.gguf (real)\n"));
    assert_non_null(strstr(text, "[needs: shared]"));
    assert_non_null(strstr(text, "FAILED fake/fails: it said \"<no>\" & left"));
    assert_non_null(strstr(text, "  | bell"));
    assert_non_null(strstr(text, "NOT RUN (budget) fake/late"));
    assert_non_null(strstr(text, "\n1 passed, 1 failed, 1 skipped, 1 not run\n"));
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

static void rerun_line_runs_the_failure_again(void **state)
{
    (void)state;
    struct bnt_test_run run;
    run_every_outcome(&run);
    run.model_given = true;
    snprintf(run.model.path, sizeof run.model.path, "/it's a/model.gguf");
    struct bnt_buf line = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_rerun(&run, &run.at[1], &line, NULL), BNT_OK);
    assert_non_null(strstr(bnt_buf_view(&line), "BNT_TEST_MODEL='/it'\\''s a/model.gguf' "));
    struct suite_output o;
    suite_run((const char *const[]){"sh", "-c", bnt_buf_view(&line), NULL}, NULL, 0, &o);
    assert_int_equal(o.exit, 1);
    assert_non_null(strstr(o.out, "not ok 1 - fails"));
    suite_output_release(&o);
    bnt_buf_release(&line);
    bnt_test_run_release(&run);
}

static void json_report_is_one_object(void **state)
{
    (void)state;
    struct bnt_test_run run;
    run_every_outcome(&run);
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_report_json(&run, 1, &out, NULL), BNT_OK);
    json_error_t at;
    json_t *root = json_loads(bnt_buf_view(&out), JSON_REJECT_DUPLICATES, &at);
    assert_non_null(root);
    json_t *counts = json_object_get(root, "counts");
    static const char *const each[] = {"passed", "failed", "skipped", "not_run"};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(json_integer_value(json_object_get(counts, each[i])), 1);
    }
    assert_int_equal(json_integer_value(json_object_get(root, "exit")), 1);
    json_t *failed = json_array_get(json_object_get(root, "tests"), 1);
    assert_string_equal(json_string_value(json_object_get(failed, "outcome")), "failed");
    assert_non_null(
        strstr(json_string_value(json_object_get(failed, "output")), "<tag> & \xef\xbf\xbd"));
    json_decref(root);
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

static void junit_report_is_valid(void **state)
{
    (void)state;
    struct bnt_test_run run;
    run_every_outcome(&run);
    struct bnt_test *flaky = &run.at[0];
    flaky->tries = calloc(1, sizeof *flaky->tries);
    assert_non_null(flaky->tries);
    flaky->n_tries = 1;
    flaky->tries[0].outcome = BNT_TEST_FAILED;
    flaky->tries[0].reason = strdup("not there: <network>");
    struct bnt_buf out = BNT_BUF(REPORT_MAX_BYTES);
    assert_int_equal(bnt_test_report_junit(&run, &out, NULL), BNT_OK);
    const char *xml = bnt_buf_view(&out);
    assert_non_null(strstr(xml, "FLAKY: passed in run 2\nrun 1: not there: &lt;network&gt;\n"));
    assert_non_null(strstr(xml, "tests=\"4\" failures=\"1\" errors=\"0\" skipped=\"2\""));
    assert_non_null(strstr(
        xml,
        "bell \\x07 esc \\x1b[31m ]]&gt; &lt;tag&gt; &amp; \\xff\\xfe \\xef\\xbf\\xbf \xc3\xa4"));
    assert_non_null(strstr(xml, "<skipped message=\"NOT RUN (budget)\"/>"));
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/junit.xml", suite_scratch()), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(xml, 1, out.len, f), out.len);
    assert_int_equal(fclose(f), 0);
    struct suite_output o;
    const char *schema = suite_source("testkit/data/testkit/junit.xsd");
    suite_run(
        (const char *const[]){"xmllint", "--noout", "--nonet", "--schema", schema, path, NULL},
        NULL, 0, &o);
    print_message("%s%s\n%s", o.out, o.err, xml);
    assert_int_equal(o.exit, 0);
    suite_output_release(&o);
    bnt_buf_release(&out);
    bnt_test_run_release(&run);
}

static void live_line_shows_budget_and_fits(void **state)
{
    (void)state;
    struct bnt_test_run run;
    run_every_outcome(&run);
    run.budget_ms = 300 * 1000;
    char text[512];
    live_line_text(&run, "a_running_test", 150 * 1000, text, sizeof text);
    assert_string_equal(text,
                        "fast [##########..........] 150 of 300 s  4/4  1 failed  a_running_test");
    live_line_text(&run, "a_running_test", 900 * 1000, text, 40);
    assert_string_equal(text, "fast [####################] 900 of 300 ");
    bnt_test_run_release(&run);
}

static void a_run_without_a_place_says_what_to_set(void **state)
{
    (void)state;
    struct suite_output o;
    static const char script[] = "TMPDIR=./none \"$0\" test --history none --filter base/base_err";
    suite_run((const char *const[]){"sh", "-c", script, suite_bnt(), NULL}, suite_scratch(), 0, &o);
    if (o.exit != BNT_E_NOT_FOUND || !strstr(o.err, "can be made in ./none") ||
        !strstr(o.err, "set TMPDIR")) {
        fail_msg("exit %d: %s%s", o.exit, o.out, o.err);
    }
    suite_output_release(&o);
}

/* gdb stops in the body of the one test, which is a child of the suites program. */
static void gdb_stops_in_the_test(void **state)
{
    (void)state;
    struct suite_output o;
    static const char script[] = "printf 'break bnt_err_set\\nrun\\nbt\\nkill\\nquit\\n' | "
                                 "\"$0\" test --gdb base/base_err_keeps_the_first";
    const char *const argv[] = {"sh", "-c", script, suite_bnt(), NULL};
    suite_run(argv, suite_scratch(), 0, &o);
    if (!strstr(o.out, "err_keeps_the_first_and_gathers_context (")) {
        fail_msg("%s%s", o.out, o.err);
    }
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "runner_a_run_without_a_place_says_what_to_set",
     .body = a_run_without_a_place_says_what_to_set},
    {.name = "runner_verdict_is_read_strictly", .body = verdict_is_read_strictly},
    {.name = "runner_program_without_a_verdict_is_a_failure",
     .body = program_without_a_verdict_is_a_failure},
    {.name = "runner_missing_program_is_an_error", .body = missing_or_broken_program_is_an_error},
    {.name = "runner_list_that_cannot_be_is_an_error", .body = list_that_cannot_be_is_an_error},
    {.name = "runner_tier_reaches_those_before_it", .body = tier_reaches_those_before_it},
    {.name = "runner_filters_are_parts_of_suite_and_name",
     .body = filters_are_parts_of_suite_and_name},
    {.name = "runner_budget_leaves_the_rest_not_run", .body = budget_leaves_the_rest_not_run},
    {.name = "runner_interrupt_keeps_what_ran",
     .body = interrupt_ends_what_runs_and_keeps_what_ran},
    {.name = "runner_what_outlives_a_test_is_ended_and_told",
     .body = what_outlives_a_test_is_ended_and_told},
    {.name = "runner_jobs_run_side_by_side", .body = jobs_run_side_by_side},
    {.name = "runner_text_report_shows_every_outcome", .body = text_report_shows_every_outcome},
    {.name = "runner_rerun_line_runs_the_failure_again", .body = rerun_line_runs_the_failure_again},
    {.name = "runner_json_report_is_one_object", .body = json_report_is_one_object},
    {.name = "runner_junit_report_is_valid",
     .body = junit_report_is_valid,
     .needs = "xmllint,source"},
    {.name = "runner_live_line_shows_budget", .body = live_line_shows_budget_and_fits},
    {.name = "runner_gdb_stops_in_the_test",
     .body = gdb_stops_in_the_test,
     .needs = "gdb,release-build",
     .timeout_ms = 30000,
     .tier = SUITE_INTEGRATION},
    {0},
};

const struct suite suite_runner = {"runner", tests, "tap_name"};
