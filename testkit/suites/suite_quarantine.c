/* Guards what stands between a failure and a red run: the quarantine, which must end, and a second
 * run, which only a cause outside this project may bring. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "testkit/diagnose.h"
#include "testkit/quarantine.h"

/* 2026-06-15, 12:00 UTC. */
#define NOW 1781524800

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(suite_in_scratch(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* ---- the file ---- */

static void make_run(struct bnt_test_run *run)
{
    *run = (struct bnt_test_run){.n = 1, .at = calloc(1, sizeof *run->at)};
    assert_non_null(run->at);
    run->at[0].name = strdup("alpha");
    run->at[0].suite = strdup("fake");
    assert_int_equal(bnt_test_names_add(&run->known, "alpha", NULL), BNT_OK);
    assert_int_equal(bnt_test_names_add(&run->known, "beta", NULL), BNT_OK);
}

#define ENTRY(test, expires)                                                                       \
    "quarantine:\n  - test: " test "\n    owner: mira\n    reason: known\n    expires: " expires   \
    "\n"

static void file_is_read_strictly(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum bnt_status status;
        const char *says;
    } cases[] = {
        {"", BNT_OK, NULL},
        {"quarantine:\n", BNT_OK, NULL},
        {"quarantine: []\n", BNT_OK, NULL},
        {ENTRY("alpha", "2026-06-20"), BNT_OK, NULL},
        {ENTRY("alpha", "2026-06-15"), BNT_OK, NULL}, /* its last day */
        {ENTRY("alpha", "2026-07-15"), BNT_OK, NULL}, /* the 30th day */
        {ENTRY("beta", "2026-06-20"), BNT_OK, NULL},  /* a test that is not selected */
        {ENTRY("alpha", "2026-06-14"), BNT_E_FAILED, "expired on 2026-06-14"},
        {ENTRY("beta", "2026-06-14"), BNT_E_FAILED, "expired"},
        {ENTRY("alpha", "2026-07-16"), BNT_E_FILE, "more than 30 days ahead"},
        {ENTRY("alpha", "20.06.2026"), BNT_E_FILE, "not a date"},
        {ENTRY("alpha", "2026-6-20"), BNT_E_FILE, "not a date"},
        {ENTRY("alpha", "2026-06-31"), BNT_E_FILE, "not a date"},
        {ENTRY("alpha", "' 2026-6-20'"), BNT_E_FILE, "not a date"},
        {ENTRY("gamma", "2026-06-20"), BNT_E_FILE, "no test gamma"},
        {ENTRY("beta", "2026-06-20") "  - {test: alpha, owner: a, reason: b, expires: "
                                     "2026-06-20}\n"
                                     "  - {test: beta, owner: a, reason: b, expires: "
                                     "2026-06-20}\n",
         BNT_E_FILE, ":7:12: this test is there twice"},
        {ENTRY("alpha", "2026-06-20") "  - {test: alpha, owner: a, reason: b, expires: "
                                      "2026-06-20}\n",
         BNT_E_FILE, "there twice"},
        {"quarantine:\n  - test: alpha\n    owner: mira\n    expires: 2026-06-20\n", BNT_E_FILE,
         "a field is absent"},
        {"quarantine:\n  - test: alpha\n    owner: ''\n", BNT_E_FILE, "without a text"},
        {"quarantine:\n  - test: alpha\n    oner: mira\n", BNT_E_FILE, ":3:"},
        {"quarantine:\n  - alpha\n", BNT_E_FILE, "not an entry"},
        {"quarantine: alpha\n", BNT_E_FILE, "not a list"},
        {"tests: []\n", BNT_E_FILE, "not a quarantine"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test_run run;
        struct bnt_err err = {0};
        make_run(&run);
        write_text("q.yml", cases[i].text);
        enum bnt_status st = quarantine_apply(&run, suite_in_scratch("q.yml"), NOW, false, &err);
        print_message("case %zu: %d %s (%s)\n", i, (int)st, err.msg, err.hint);
        assert_int_equal(st, cases[i].status);
        assert_true(!cases[i].says || strstr(err.msg, cases[i].says));
        bnt_test_run_release(&run);
    }
}

/* One suite in YAML is run; the file names tests of others, too. */
static void tests_of_suites_that_are_not_named_are_passed_over(void **state)
{
    (void)state;
    struct bnt_test_run run;
    make_run(&run);
    write_text("q.yml", ENTRY("gamma", "2026-06-20"));
    assert_int_equal(quarantine_apply(&run, suite_in_scratch("q.yml"), NOW, true, NULL), BNT_OK);
    assert_false(run.at[0].quarantined);
    write_text("q.yml", ENTRY("alpha", "2026-06-20"));
    assert_int_equal(quarantine_apply(&run, suite_in_scratch("q.yml"), NOW, true, NULL), BNT_OK);
    assert_true(run.at[0].quarantined);
    write_text("q.yml", ENTRY("gamma", "2026-06-14"));
    assert_int_equal(quarantine_apply(&run, suite_in_scratch("q.yml"), NOW, true, NULL),
                     BNT_E_FAILED);
    bnt_test_run_release(&run);
    struct suite_output o;
    write_text("s.bnt.yml", "tests: [{name: a, prompt: b, max_tokens: 1, expect: {tokens: "
                            "{min: 1}}}]\n");
    write_text("q.yml", "quarantine: [{test: t_b, owner: o, reason: r, expires: soon}]\n");
    const char *script = "sed -i \"s/soon/$(date -u +%F)/\" q.yml; "
                         "\"$0\" test s.bnt.yml --quarantine q.yml --history none";
    const char *const argv[] = {"/bin/sh", "-c", script, suite_bnt(), NULL};
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("exit %d: %s", o.exit, o.err);
    }
    suite_output_release(&o);
}

static void only_a_failure_is_quarantined(void **state)
{
    (void)state;
    struct bnt_test_run run;
    make_run(&run);
    write_text("q.yml", ENTRY("alpha", "2026-06-20"));
    assert_int_equal(quarantine_apply(&run, suite_in_scratch("q.yml"), NOW, false, NULL), BNT_OK);
    static const enum bnt_test_outcome cases[][2] = {
        {BNT_TEST_FAILED, BNT_TEST_QUARANTINED},
        {BNT_TEST_PASSED, BNT_TEST_PASSED},
        {BNT_TEST_NOT_RUN, BNT_TEST_NOT_RUN},
        {BNT_TEST_DISAGREED, BNT_TEST_DISAGREED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run.at[0].outcome = cases[i][0];
        quarantine_settle(&run);
        assert_int_equal(run.at[0].outcome, cases[i][1]);
    }
    bnt_test_run_release(&run);
}

/* ---- second runs ---- */

/* A suites program with one test, whose shell may count its runs in ./count. */
static void run_one(struct bnt_test_run *run, const char *pairs, const char *shell,
                    const struct bnt_test_options *options)
{
    struct bnt_buf text = BNT_BUF(1 << 16);
    struct bnt_err err = {0};
    assert_int_equal(bnt_buf_printf(&text, NULL,
                                    "#!/bin/sh\ncase \"$1\" in\n"
                                    "--list) printf 'one\\tfake\\tfast\\t60000\\t-\\t%s\\n' ;;\n"
                                    "*) cd %s; echo x >>count; n=$(wc -l <count); %s ;;\nesac\n",
                                    pairs, suite_scratch(), shell),
                     BNT_OK);
    write_text("suites", bnt_buf_view(&text));
    bnt_buf_release(&text);
    assert_int_equal(chmod(suite_in_scratch("suites"), 0755), 0);
    *run = (struct bnt_test_run){0};
    if (bnt_test_collect(run, suite_in_scratch("suites"), BNT_TIER_FAST, NULL, &err) != BNT_OK ||
        bnt_test_execute(run, options, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
}

#define PASS "echo 'ok 1 - one'; echo 1..1"
#define SKIP "echo 'ok 1 - one # SKIP away'; echo 1..1"
#define FAIL(cause) "echo 'not ok 1 - one'; echo '# why: it broke'; " cause "echo 1..1; exit 1"
#define NETWORK "echo '# cause: network'; "

static void only_a_declared_cause_is_tried_again(void **state)
{
    (void)state;
    static const struct {
        const char *what, *pairs, *shell;
        enum bnt_test_outcome outcome;
        size_t n_tries;
    } cases[] = {
        {"declared, passes then", "retry_on=network",
         "if [ $n -lt 2 ]; then " FAIL(NETWORK) "; else " PASS "; fi", BNT_TEST_PASSED, 1},
        {"declared, stays", "retry_on=network", FAIL(NETWORK), BNT_TEST_FAILED, 2},
        {"not declared", "retry_on=disk", FAIL(NETWORK), BNT_TEST_FAILED, 0},
        {"nothing declared", "tags=x", FAIL(NETWORK), BNT_TEST_FAILED, 0},
        {"an assertion", "retry_on=network", FAIL(""), BNT_TEST_FAILED, 0},
        {"an assertion after the network", "retry_on=network",
         "if [ $n -lt 2 ]; then " FAIL(NETWORK) "; else " FAIL("") "; fi", BNT_TEST_FAILED, 1},
        {"a skip after the network", "retry_on=network",
         "if [ $n -lt 2 ]; then " FAIL(NETWORK) "; else " SKIP "; fi", BNT_TEST_FAILED, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test_run run;
        (void)remove(suite_in_scratch("count"));
        run_one(&run, cases[i].pairs, cases[i].shell, &(struct bnt_test_options){.n_jobs = 1});
        const struct bnt_test *t = &run.at[0];
        print_message("%s: %s after %zu\n", cases[i].what, bnt_test_outcome_name(t->outcome),
                      t->n_tries);
        assert_int_equal(t->outcome, cases[i].outcome);
        assert_int_equal(t->n_tries, cases[i].n_tries);
        assert_int_equal(bnt_test_is_flaky(t), t->outcome == BNT_TEST_PASSED);
        bnt_test_run_release(&run);
    }
}

static volatile sig_atomic_t interrupted;

static void interrupt_second_run(void *ctx, const struct bnt_test_run *run, const char *running,
                                 uint64_t elapsed_ms)
{
    (void)ctx;
    (void)elapsed_ms;
    interrupted = running && run->at[0].n_tries > 0;
}

/* With one, the first run's failure would be lost with the second run. */
static void failure_whose_next_run_is_stopped_stays_one(void **state)
{
    (void)state;
    static const unsigned repeats[] = {0, 2};
    static const char *const reasons[] = {"it broke", "1 of 1 runs failed: it broke"};
    for (size_t i = 0; i < sizeof repeats / sizeof repeats[0]; i++) {
        struct bnt_test_run run;
        interrupted = 0;
        (void)remove(suite_in_scratch("count"));
        run_one(&run, "retry_on=network",
                "if [ $n -lt 2 ]; then " FAIL(NETWORK) "; else exec sleep 60; fi",
                &(struct bnt_test_options){.n_jobs = 1,
                                           .n_repeats = repeats[i],
                                           .interrupted = &interrupted,
                                           .tick = interrupt_second_run});
        print_message("%u repeats: %s: %s\n", repeats[i], bnt_test_outcome_name(run.at[0].outcome),
                      run.at[0].reason);
        assert_true(run.interrupted);
        assert_int_equal(run.at[0].outcome, BNT_TEST_FAILED);
        assert_string_equal(run.at[0].reason, reasons[i]);
        assert_int_equal(run.at[0].verdict, VERDICT_ASSERTION);
        bnt_test_run_release(&run);
    }
}

static void repeated_test_fails_if_one_run_fails(void **state)
{
    (void)state;
    static const struct {
        const char *shell;
        enum bnt_test_outcome outcome;
        const char *reason;
    } cases[] = {
        {PASS, BNT_TEST_PASSED, NULL},
        {"if [ $n = 3 ]; then " FAIL("") "; else " PASS "; fi", BNT_TEST_FAILED,
         "1 of 5 runs failed: it broke"},
        {FAIL(""), BNT_TEST_FAILED, "5 of 5 runs failed: it broke"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test_run run;
        (void)remove(suite_in_scratch("count"));
        run_one(&run, "tags=x", cases[i].shell,
                &(struct bnt_test_options){.n_jobs = 2, .n_repeats = 5});
        assert_int_equal(run.at[0].outcome, cases[i].outcome);
        assert_int_equal(run.at[0].n_tries, 4);
        assert_int_equal(run.at[0].verdict, cases[i].reason ? VERDICT_ASSERTION : VERDICT_PASSED);
        if (cases[i].reason) {
            assert_string_equal(run.at[0].reason, cases[i].reason);
        }
        bnt_test_run_release(&run);
    }
}

static void failure_is_labelled_and_stays_a_failure(void **state)
{
    (void)state;
    static const struct {
        const char *shell, *label; /* n counts the runs: 1 is the gate, 2 and 3 the same seed, 4
                                      another, 5 one processor */
    } cases[] = {
        {FAIL(""), "deterministic"},
        {"if [ $n = 1 ]; then " FAIL("") "; else " PASS "; fi", "load-dependent"},
        {"if [ $n = 2 ]; then " PASS "; else " FAIL("") "; fi", "flaky"},
        {"if [ $BNT_TEST_SEED = 7 ]; then " FAIL("") "; else " PASS "; fi", "seed-dependent"},
        {"if [ $n = 5 ]; then " PASS "; else " FAIL("") "; fi", "thread-dependent"},
    };
    setenv("BNT_TEST_SEED", "7", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test_run run;
        (void)remove(suite_in_scratch("count"));
        run_one(&run, "tags=x", cases[i].shell, &(struct bnt_test_options){.n_jobs = 1});
        run.seed = 7;
        diagnose_failures(&run, 30000, NULL);
        print_message("%s: %s\n", cases[i].label, run.at[0].diagnosis);
        assert_int_equal(run.at[0].outcome, BNT_TEST_FAILED);
        assert_string_equal(run.at[0].label, cases[i].label);
        assert_string_equal(getenv("BNT_TEST_SEED"), "7");
        bnt_test_run_release(&run);
    }
    struct bnt_test_run run;
    (void)remove(suite_in_scratch("count"));
    run_one(&run, "tags=x", FAIL(""), &(struct bnt_test_options){.n_jobs = 1});
    diagnose_failures(&run, 0, NULL); /* no time: no label */
    assert_null(run.at[0].label);
    bnt_test_run_release(&run);
}

static const struct suite_test tests[] = {
    {.name = "quarantine_file_is_read_strictly", .body = file_is_read_strictly},
    {.name = "quarantine_tests_of_suites_that_are_not_named_are_passed_over",
     .body = tests_of_suites_that_are_not_named_are_passed_over},
    {.name = "quarantine_is_of_failures_only", .body = only_a_failure_is_quarantined},
    {.name = "quarantine_only_a_declared_cause_is_tried_again",
     .body = only_a_declared_cause_is_tried_again},
    {.name = "quarantine_failure_whose_next_run_is_stopped_stays_one",
     .body = failure_whose_next_run_is_stopped_stays_one},
    {.name = "quarantine_repeated_test_fails_if_one_run_fails",
     .body = repeated_test_fails_if_one_run_fails},
    {.name = "quarantine_failure_is_labelled_and_stays_a_failure",
     .body = failure_is_labelled_and_stays_a_failure},
    {0},
};

const struct suite suite_quarantine = {"quarantine", tests, "quarantine_forever retry_anything"};
