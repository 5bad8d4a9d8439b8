/* Guards the history of runs: a damaged file that makes a run fail, a run that is half there,
 * writers that lose each other's runs, a file that grows without end. */
#include "testkit/suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/history.h"
#include "testkit/prepare.h"

/* ---- runs made by hand ---- */

enum { N_TESTS = 3 };

struct made {
    struct bnt_test_run run;
    struct bnt_test tests[N_TESTS];
};

/* Run `number`, a minute after the one before; all pass, in 100 ms each. */
static void make_run(struct made *m, unsigned number)
{
    static char none[] = "";
    static char suite[] = "fake";
    static char names[N_TESTS][8] = {"alpha", "beta", "gamma"};
    static char inputs[] = "1111111111111111ffff";
    *m = (struct made){.run = {.n = N_TESTS, .started_unix_s = 1700000000 + 60 * number}};
    m->run.at = m->tests;
    m->run.model.kind = "real";
    snprintf(m->run.id, sizeof m->run.id, "%016x", number);
    snprintf(m->run.program_digest, sizeof m->run.program_digest, "22222222222222220000");
    snprintf(m->run.machine.fingerprint, sizeof m->run.machine.fingerprint, "machine");
    for (size_t i = 0; i < N_TESTS; i++) {
        struct bnt_test *t = &m->tests[i];
        *t = (struct bnt_test){.name = names[i], .suite = suite, .tags = none, .subjects = none};
        t->retry_on = none;
        t->inputs = inputs;
        t->timeout_ms = 10000;
        t->outcome = BNT_TEST_PASSED;
        t->wall_ns = 100000000;
        t->plan.rank = i;
        snprintf(t->plan.why, sizeof t->plan.why, "by hand");
    }
}

static struct history *open_history(const char *name)
{
    struct bnt_err err = {0};
    struct history *h = NULL;
    if (history_open(suite_in_scratch(name), HISTORY_WRITE, &h, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return h;
}

static void record(struct history *h, unsigned number)
{
    struct made m;
    struct bnt_err err = {0};
    make_run(&m, number);
    if (history_record(h, &m.run, 0, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
}

static size_t rows_of(struct history *h, const char *test, struct history_row *rows)
{
    struct bnt_err err = {0};
    size_t n = 0;
    if (history_of_test(h, test, rows, &n, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return n;
}

/* ---- what is kept ---- */

static enum bnt_status check_metric(void *ctx, const char *run_id, const struct bnt_test_metric *m,
                                    struct bnt_err *err)
{
    (void)err;
    ++*(size_t *)ctx;
    assert_string_equal(run_id, "0000000000000007");
    assert_string_equal(m->name, "tokens_per_s");
    assert_string_equal(m->unit, "1/s");
    assert_true(m->value == 12.5);
    return BNT_OK;
}

static void decision_comes_back_as_it_was(void **state)
{
    (void)state;
    struct made m;
    struct history_row rows[HISTORY_PER_TEST];
    struct history *h = open_history("h.db");
    make_run(&m, 7);
    m.tests[1].outcome = BNT_TEST_NOT_RUN;
    m.tests[1].reason = (char[]){"budget"};
    m.tests[1].plan.kind = BNT_PLAN_VALUE;
    m.tests[1].plan.value = 0.25;
    struct bnt_test_metric metric = {.name = "tokens_per_s", .unit = "1/s", .value = 12.5};
    m.tests[0].metrics = &metric;
    m.tests[0].n_metrics = 1;
    char reason[300]; /* of characters of three bytes, of which 159 would cut one */
    for (size_t i = 0; i < sizeof reason; i++) {
        reason[i] = "\xe6\x9d\xb1"[(i + 1) % 3];
    }
    memcpy(reason, "ab", 2);
    reason[sizeof reason - 1] = '\0';
    m.tests[0].outcome = BNT_TEST_FAILED;
    m.tests[0].reason = reason;
    assert_int_equal(history_record(h, &m.run, 27, NULL), BNT_OK);
    record(h, 8);
    assert_int_equal(rows_of(h, "alpha", rows), 2);
    assert_int_equal(strlen(rows[1].reason), 158);
    assert_memory_equal(rows[1].reason, reason, 158);
    size_t n_metrics = 0;
    assert_int_equal(history_each_metric(h, "alpha", check_metric, &n_metrics, NULL), BNT_OK);
    assert_int_equal(n_metrics, 1);
    assert_int_equal(rows_of(h, "beta", rows), 2);
    assert_string_equal(rows[0].run, "0000000000000008"); /* the latest first */
    assert_int_equal(rows[1].outcome, BNT_TEST_NOT_RUN);
    assert_string_equal(rows[1].reason, "budget");
    assert_string_equal(rows[1].kind, "value");
    assert_string_equal(rows[1].why, "by hand");
    assert_string_equal(rows[1].inputs, "1111111111111111");
    assert_string_equal(rows[1].program, "2222222222222222");
    assert_string_equal(rows[1].machine, "machine");
    assert_true(rows[1].value == 0.25);
    assert_int_equal(rows_of(h, "nobody", rows), 0);
    char near[96];
    assert_int_equal(history_near(h, "lph", near, sizeof near, NULL), BNT_OK);
    assert_string_equal(near, "alpha");
    assert_int_equal(history_near(h, "aplha", near, sizeof near, NULL), BNT_OK);
    assert_string_equal(near, "alpha");
    history_close(h);
}

/* A figure is compared with itself alone: the same machine, model, name and unit. */
static void figures_have_the_past_of_their_machine(void **state)
{
    (void)state;
    struct history *h = open_history("h.db");
    struct bnt_test_metric metric = {.name = "speed", .unit = "1/s"};
    struct made m;
    for (unsigned i = 1; i <= BNT_TEST_PAST + 8; i++) {
        make_run(&m, i);
        m.tests[1].metrics = &metric;
        m.tests[1].n_metrics = 1;
        metric.value = i;
        snprintf(m.run.machine.fingerprint, sizeof m.run.machine.fingerprint, "%s",
                 i == 20 ? "another" : "machine");
        snprintf(m.run.model.digest, sizeof m.run.model.digest, "%s", i == 21 ? "other" : "model");
        snprintf(metric.unit, sizeof metric.unit, "%s", i == 22 ? "1/h" : "1/s");
        assert_int_equal(history_record(h, &m.run, 0, NULL), BNT_OK);
    }
    metric.value = 77;
    assert_int_equal(history_metrics_past(h, &m.run, NULL), BNT_OK);
    assert_int_equal(metric.n_past, BNT_TEST_PAST);
    double last = 0;
    for (size_t i = 0; i < metric.n_past; i++) {
        double v = metric.past[i];
        assert_true(v > last && v != 20 && v != 21 && v != 22);
        last = v;
    }
    assert_true(last == BNT_TEST_PAST + 8 && metric.past[0] == 6);
    history_close(h);
}

static void run_is_recorded_once(void **state)
{
    (void)state;
    struct history_row rows[HISTORY_PER_TEST];
    struct history *h = open_history("h.db");
    record(h, 1);
    record(h, 1);
    assert_int_equal(rows_of(h, "alpha", rows), 1);
    history_close(h);
}

static enum bnt_status count_row(void *ctx, const char *suite, const char *test,
                                 const struct history_row *row, struct bnt_err *err)
{
    (void)suite, (void)test, (void)err;
    assert_string_equal(row->run, "0000000000000021");
    ++*(size_t *)ctx;
    return BNT_OK;
}

static void run_is_found_by_the_begin_of_its_id(void **state)
{
    (void)state;
    static const struct {
        const char *begin;
        enum bnt_status status;
        size_t n_rows;
    } cases[] = {{"0000000000000021", BNT_OK, N_TESTS},
                 {"000000000000002", BNT_E_USAGE, 0},
                 {"", BNT_E_USAGE, 0},
                 {"1", BNT_E_NOT_FOUND, 0},
                 {"00000000000000211", BNT_E_NOT_FOUND, 0}};
    struct history *h = open_history("h.db");
    record(h, 0x21);
    record(h, 0x22);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t n = 0;
        assert_int_equal(history_each_row(h, cases[i].begin, count_row, &n, NULL), cases[i].status);
        assert_int_equal(n, cases[i].n_rows);
    }
    history_close(h);
}

static void tests_of_other_shards_are_noted(void **state)
{
    (void)state;
    struct made m;
    struct history_row rows[HISTORY_PER_TEST];
    char *elsewhere[] = {(char[]){"fake/delta"}};
    struct history *h = open_history("h.db");
    make_run(&m, 1);
    m.run.shard.elsewhere.at = elsewhere;
    m.run.shard.elsewhere.n = 1;
    assert_int_equal(history_record(h, &m.run, 0, NULL), BNT_OK);
    assert_int_equal(rows_of(h, "delta", rows), 1);
    assert_true(rows[0].elsewhere);
    history_close(h);
}

static enum bnt_status count_run(void *ctx, const struct history_run *run, struct bnt_err *err)
{
    (void)run;
    (void)err;
    ++*(size_t *)ctx;
    return BNT_OK;
}

static size_t n_runs(struct history *h)
{
    size_t n = 0;
    assert_int_equal(history_each_run(h, 1000, count_run, &n, NULL), BNT_OK);
    return n;
}

static void history_is_bounded(void **state)
{
    (void)state;
    struct history_row rows[HISTORY_PER_TEST];
    struct history *h = open_history("h.db");
    for (unsigned i = 1; i <= HISTORY_PER_TEST + 20; i++) {
        record(h, i);
    }
    assert_int_equal(history_prune(h, NULL), BNT_OK);
    assert_int_equal(n_runs(h), HISTORY_PER_TEST); /* runs without a row left are gone */
    assert_int_equal(rows_of(h, "alpha", rows), HISTORY_PER_TEST);
    assert_string_equal(rows[HISTORY_PER_TEST - 1].run, "0000000000000015");
    history_close(h);
}

static void hold_files_to(rlim_t bytes)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = bytes < r.rlim_max ? bytes : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
    signal(SIGXFSZ, SIG_IGN);
}

static void merging_twice_is_harmless(void **state)
{
    (void)state;
    struct history_row rows[HISTORY_PER_TEST];
    char other[BNT_PATH_MAX];
    struct history *h = open_history("other.db");
    size_t n_new = 99;
    record(h, 2);
    record(h, 3);
    history_close(h);
    snprintf(other, sizeof other, "%s", suite_in_scratch("other.db"));
    h = open_history("h.db");
    record(h, 1);
    record(h, 2);
    assert_int_equal(history_merge(h, other, &n_new, NULL), BNT_OK);
    assert_int_equal(n_new, 1);
    assert_int_equal(history_merge(h, other, &n_new, NULL), BNT_OK);
    assert_int_equal(n_new, 0);
    assert_int_equal(history_merge(h, history_path(h), &n_new, NULL), BNT_OK);
    assert_int_equal(n_new, 0);
    assert_int_equal(history_export(h, other, NULL), BNT_E_FAILED); /* it is there */
    assert_int_equal(unlink(other), 0);
    hold_files_to(1);
    assert_int_equal(history_export(h, other, NULL), BNT_E_NO_SPACE);
    assert_int_equal(access(other, F_OK), -1); /* nothing, rather than a part */
    hold_files_to(RLIM_INFINITY);
    assert_int_equal(history_export(h, other, NULL), BNT_OK);
    assert_int_equal(history_merge(h, other, &n_new, NULL), BNT_OK);
    assert_int_equal(n_new, 0);
    assert_int_equal(n_runs(h), 3);
    assert_int_equal(rows_of(h, "gamma", rows), 3);
    history_close(h);
}

/* One that could not get its tables is not taken for one that has none. */
static void new_file_on_a_full_disk_is_told(void **state)
{
    (void)state;
    struct history *h;
    hold_files_to(8192);
    assert_int_not_equal(history_open(suite_in_scratch("h.db"), HISTORY_WRITE, &h, NULL), BNT_OK);
    hold_files_to(RLIM_INFINITY);
    h = open_history("h.db");
    record(h, 1);
    assert_int_equal(n_runs(h), 1);
    history_close(h);
}

enum { WRITERS = 4, RUNS_EACH = 6 };

static void writers_do_not_lose_each_others_runs(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    pid_t pids[WRITERS];
    snprintf(path, sizeof path, "%s", suite_in_scratch("new/folder/h.db"));
    for (unsigned w = 0; w < WRITERS; w++) {
        pids[w] = fork();
        assert_true(pids[w] >= 0);
        for (unsigned i = 0; pids[w] == 0 && i < RUNS_EACH; i++) {
            struct made m;
            struct history *h = NULL;
            make_run(&m, 100 * w + i + 1);
            bool kept = history_open(path, HISTORY_WRITE, &h, NULL) == BNT_OK &&
                        history_record(h, &m.run, 0, NULL) == BNT_OK;
            history_close(h);
            if (!kept || i + 1 == RUNS_EACH) {
                _exit(kept ? 0 : 1);
            }
        }
    }
    for (unsigned w = 0; w < WRITERS; w++) {
        int status;
        assert_int_equal(waitpid(pids[w], &status, 0), pids[w]);
        assert_int_equal(status, 0);
    }
    struct history *h = open_history("new/folder/h.db");
    assert_int_equal(n_runs(h), WRITERS * RUNS_EACH);
    history_close(h);
}

/* ---- files that are none ---- */

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(suite_in_scratch(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void damaged_and_newer_files_are_told_apart(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct history *h;
    write_file("junk.db", "this is no database, and longer than any header of SQLite would be; "
                          "it goes on for more than a hundred bytes, to be sure of that.");
    assert_int_equal(history_open(suite_in_scratch("junk.db"), HISTORY_WRITE, &h, &err),
                     BNT_E_FILE);
    assert_non_null(strstr(err.hint, "delete the file"));
    err = (struct bnt_err){0};
    assert_int_equal(history_open(suite_in_scratch("none.db"), HISTORY_READ, &h, &err),
                     BNT_E_NOT_FOUND);
    assert_true(access(suite_in_scratch("none.db"), F_OK) != 0);
}

/* A program of suites whose one test passes. */
static void suites_of_one_test(char path[BNT_PATH_MAX])
{
    static const char program[] = "#!/bin/sh\n"
                                  "case $1 in\n"
                                  "--list) printf 'good\\tfake\\tfast\\t1000\\t-\\n' ;;\n"
                                  "*) printf 'ok 1 - good\\n1..1\\n' ;;\n"
                                  "esac\n";
    write_file("suites", program);
    snprintf(path, BNT_PATH_MAX, "%s", suite_in_scratch("suites"));
    assert_int_equal(chmod(path, 0755), 0);
}

/* "none" is a word for every command, not the name of a file for some. */
static void none_is_no_history_for_any_command(void **state)
{
    (void)state;
    char suites[BNT_PATH_MAX];
    suites_of_one_test(suites);
    const struct {
        const char *argv[8];
        int exit;
        const char *says;
    } cases[] = {
        {{suite_bnt(), "test", "--suites", suites}, 0, ""},
        {{suite_bnt(), "test", "--suites", suites, "--last-failed"}, 2, "needs a history"},
        {{suite_bnt(), "test", "history"}, 8, "no history is kept: BNT_HISTORY is none"},
        {{suite_bnt(), "test", "why", "good"}, 8, "no history is kept"},
        {{suite_bnt(), "test", "history", "--history", "none"}, 8, "--history is none"},
    };
    assert_int_equal(setenv("BNT_HISTORY", "none", 1), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        suite_run(cases[i].argv, NULL, 0, &o);
        print_message("case %zu: %d\n%s%s\n", i, o.exit, o.out, o.err);
        assert_int_equal(o.exit, cases[i].exit);
        assert_non_null(strstr(o.err, cases[i].says));
        suite_output_release(&o);
    }
    assert_int_not_equal(access("none", F_OK), 0);
}

/* A run with a history that cannot be used ends as it would without, and says so. */
static void run_does_not_fail_for_its_history(void **state)
{
    (void)state;
    char suites[BNT_PATH_MAX];
    suites_of_one_test(suites);
    write_file("junk.db", "this is no database, and longer than any header of SQLite would be; "
                          "it goes on for more than a hundred bytes, to be sure of that.");
    static const char *const places[] = {"junk.db", "suites/h.db", "good.db"};
    for (size_t i = 0; i < 3; i++) {
        struct suite_output o;
        const char *const argv[] = {suite_bnt(), "test",      "--suites",
                                    suites,      "--history", suite_in_scratch(places[i]),
                                    NULL};
        suite_run(argv, NULL, 0, &o);
        print_message("%s: %d\n%s%s\n", places[i], o.exit, o.out, o.err);
        assert_int_equal(o.exit, 0);
        assert_non_null(strstr(o.out, "1 passed, 0 failed"));
        bool told = strstr(o.err, "the run goes on without history") != NULL;
        assert_int_equal(told, i < 2);
        suite_output_release(&o);
    }
}

/* ---- from history to plan ---- */

static void warn_never(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)hint;
    fail_msg("%s", what);
}

static void plan_follows_changes_of_inputs_program_and_model(void **state)
{
    (void)state;
    struct made m;
    struct history *h = open_history("h.db");
    for (unsigned i = 1; i <= 6; i++) {
        record(h, i);
    }
    make_run(&m, 7);
    m.run.budget_ms = 100000;
    for (size_t i = 0; i < N_TESTS; i++) {
        m.tests[i].outcome = BNT_TEST_PENDING;
    }
    m.tests[1].inputs = (char[]){"3333333333333333"};
    m.tests[2].subjects = (char[]){"real"};
    snprintf(m.run.model.digest, sizeof m.run.model.digest, "4444444444444444");
    assert_int_equal(prepare_plan(&m.run, h, 1, warn_never, NULL), BNT_OK);
    assert_int_equal(m.tests[0].plan.kind, BNT_PLAN_VALUE);
    assert_int_equal(m.tests[1].plan.kind, BNT_PLAN_MUST);
    assert_int_equal(m.tests[2].plan.kind, BNT_PLAN_MUST);
    assert_int_equal(m.tests[0].plan.mean_ms, 100);
    assert_int_equal(m.tests[0].past.n, 6);
    assert_int_equal(m.run.order[2], 0);
    double before = m.tests[0].plan.value;
    m.run.program_digest[0] = '9';
    assert_int_equal(prepare_plan(&m.run, h, 1, warn_never, NULL), BNT_OK);
    assert_true(m.tests[0].plan.value > before);
    free(m.run.order);
    history_close(h);
}

static const struct suite_test tests[] = {
    {.name = "history_decision_comes_back_as_it_was", .body = decision_comes_back_as_it_was},
    {.name = "history_figures_have_the_past_of_their_machine",
     .body = figures_have_the_past_of_their_machine},
    {.name = "history_run_is_recorded_once", .body = run_is_recorded_once},
    {.name = "history_run_is_found_by_the_begin_of_its_id",
     .body = run_is_found_by_the_begin_of_its_id},
    {.name = "history_notes_tests_of_other_shards", .body = tests_of_other_shards_are_noted},
    {.name = "history_is_bounded", .body = history_is_bounded},
    {.name = "history_merging_twice_is_harmless", .body = merging_twice_is_harmless},
    {.name = "history_new_file_on_a_full_disk_is_told", .body = new_file_on_a_full_disk_is_told},
    {.name = "history_writers_do_not_lose_each_others_runs",
     .body = writers_do_not_lose_each_others_runs},
    {.name = "history_damaged_file_is_told", .body = damaged_and_newer_files_are_told_apart},
    {.name = "history_none_is_no_history_for_any_command",
     .body = none_is_no_history_for_any_command},
    {.name = "history_never_makes_a_run_fail", .body = run_does_not_fail_for_its_history},
    {.name = "history_plan_follows_changes",
     .body = plan_follows_changes_of_inputs_program_and_model},
    {0},
};

const struct suite suite_history = {"history", tests, "history_no_commit"};
