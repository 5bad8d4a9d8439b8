/* Guards the guard: a test that crashes, exits early, hangs, floods, takes too much or leaves
 * something behind, and is counted as passed, reported as something else, or takes others down with
 * it. The pathological tests are those of `bnt-suites --corpus`; this is the table of what each
 * must be called, by bnt-suites alone and by 32 workers at once, with every sanitizer. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/bnt_test.h"

enum {
    CORPUS_TIMEOUT_MS = 120 * 1000,
    N_WORKERS = 32,
    N_OVERHEAD_RUNS = 300,
    OVERHEAD_MAX_MS = 5,
};

/* What a test of the corpus must be called. In some builds a sanitizer has its own word. */
struct expected {
    const char *name;
    enum verdict verdict;
    const char *why;     /* a part of the reason; NULL for a pass */
    const char *configs; /* the builds in which it is `otherwise`, NULL: none */
    enum verdict otherwise;
};

#define PASSES(name)                                                                               \
    {                                                                                              \
        name, VERDICT_PASSED, NULL, NULL, 0                                                        \
    }
#define IS(name, verdict, why)                                                                     \
    {                                                                                              \
        name, VERDICT_##verdict, why, NULL, 0                                                      \
    }
#define ELSEWHERE(name, verdict, why, configs, otherwise)                                          \
    {                                                                                              \
        name, VERDICT_##verdict, why, configs, VERDICT_##otherwise                                 \
    }

static const struct expected table[] = {
    PASSES("corpus_passes"),
    IS("corpus_fails_assertion", ASSERTION, "an assertion failed"),
    IS("corpus_exits_0", EARLY_EXIT, "exited with 0 before the body ended"),
    IS("corpus_underscore_exits_0", EARLY_EXIT, "exited with 0 before the body ended"),
    IS("corpus_exits_3", EARLY_EXIT, "exited with 3 before the body ended"),
    IS("corpus_exits_5_at_exit", EXIT_CODE, "exited with 5, after the body had ended"),
    IS("corpus_aborts", CRASH, "killed by SIGABRT (Aborted)"),
    IS("corpus_writes_to_null", CRASH, "killed by SIGSEGV (Segmentation fault)"),
    IS("corpus_divides_by_zero", CRASH, "killed by SIGFPE (Floating point exception)"),
    IS("corpus_killed_by_kill", KILLED, "killed by SIGKILL (Killed), by itself or from outside"),
    IS("corpus_terminated", CRASH, "killed by SIGTERM (Terminated), sent by itself"),
    IS("corpus_overflows_stack", STACK_OVERFLOW, "stack overflow"),
    IS("corpus_loops", TIMEOUT, "200 ms"),
    IS("corpus_sleeps_through_sigterm", TIMEOUT, "200 ms"),
    IS("corpus_waits_for_a_signal", SKIPPED, "needs: corpus-asked (by design)"),
    IS("corpus_writes_without_end", FLOOD, "wrote more than 16777216 bytes of output"),
    IS("corpus_writes_much_then_fails", ASSERTION, "an assertion failed"),
    IS("corpus_writes_bytes_that_are_no_text", ASSERTION, "an assertion failed"),
    IS("corpus_leaks_process_with_pipe", LEAKED_PROCESS, "left processes running (killed): "),
    PASSES("corpus_ends_its_processes"),
    IS("corpus_hangs_with_grandchild", TIMEOUT, "timed out after "),
    IS("corpus_leaves_files", ASSERTION, "an assertion failed"),
    IS("corpus_skips", SKIPPED_WITHIN, "the body called skip()"),
    ELSEWHERE("corpus_leaks_memory", PASSED, NULL, "asan", SANITIZER),
    IS("corpus_starts_a_thread_untold", ASSERTION, "an assertion failed"),
    IS("corpus_needs_unmet", SKIPPED, "needs: corpus-asked (by design)"),
    IS("corpus_needs_unknown", NOT_STARTED, "unknown need: flying-carpet"),
    PASSES("corpus_integration"),
    PASSES("corpus_full"),

    IS("corpus_exits_0_in_thread", EARLY_EXIT, "from another thread"),
    IS("corpus_underscore_exits_0_at_exit", EARLY_EXIT, "amid the handlers of exit(3)"),
    IS("corpus_crashes_at_exit", CRASH,
       "killed by SIGSEGV (Segmentation fault), after the body had ended"),
    IS("corpus_executes_true", EARLY_EXIT, "exited with 0 before the body ended"),
    IS("corpus_executes_sleep", TIMEOUT, "timed out after "),
    PASSES("corpus_forks_and_both_return"),
    IS("corpus_child_returns_and_parent_exits_0", EARLY_EXIT, "exited with 0 before"),
    IS("corpus_forges_a_pass_and_exits_0", EARLY_EXIT, "exited with 0 before the body ended"),
    PASSES("corpus_closes_everything"),
    IS("corpus_closes_everything_and_fails", ASSERTION, "an assertion failed"),
    IS("corpus_closes_everything_and_hangs", TIMEOUT, "timed out after "),
    IS("corpus_prints_tap_and_fails", ASSERTION, "an assertion failed"),
    IS("corpus_prints_no_newline_and_fails", ASSERTION, "an assertion failed"),
    IS("corpus_prints_100_mb", FLOOD, "wrote more than 16777216 bytes of output"),
    IS("corpus_stops_itself", TIMEOUT, "stopped by a signal"),
    IS("corpus_kills_its_group", KILLED, "killed by SIGKILL (Killed), by itself or from outside"),
    IS("corpus_blocks_signals_and_hangs", TIMEOUT, "timed out after "),
    PASSES("corpus_changes_its_signals"),
    IS("corpus_alarm_ends_it", CRASH, "killed by SIGALRM (Alarm clock)"),
    IS("corpus_fails_in_a_handler", ASSERTION, "an assertion failed"),
    IS("corpus_traps", CRASH, "killed by SIGILL (Illegal instruction)"),
    IS("corpus_meets_a_hole_in_a_file", CRASH, "killed by SIGBUS (Bus error)"),
    IS("corpus_sends_itself_sigsegv", CRASH, "killed by SIGSEGV (Segmentation fault)"),
    IS("corpus_runs_out_of_processor_time", CRASH, "killed by SIGXCPU"),
    IS("corpus_fails_in_a_thread", EARLY_EXIT, "from another thread"),
    IS("corpus_overflows_the_stack_of_a_thread", STACK_OVERFLOW, "stack overflow"),
    IS("corpus_crashes_in_a_thread", CRASH, "killed by SIGSEGV (Segmentation fault)"),
    IS("corpus_threads_deadlock", TIMEOUT, "timed out after "),
    PASSES("corpus_leaves_a_thread"),
    PASSES("corpus_nested_group_passes"),
    IS("corpus_fails_after_a_nested_group", EARLY_EXIT, "exited with 255 before the body ended"),
    IS("corpus_nested_group_without_setup", EARLY_EXIT, "exited with 7 before the body ended"),
    IS("corpus_filters_itself_away", ASSERTION, "an assertion failed"),
    IS("corpus_names_a_cause", ASSERTION, "not there: network"),

    IS("corpus_leaves_a_daemon", LEAKED_PROCESS, "left processes running (killed): "),
    IS("corpus_leaves_a_session_with_the_pipe", LEAKED_PROCESS, "left processes running"),
    IS("corpus_forks_like_a_bomb", TIMEOUT, "timed out after "),
    IS("corpus_stopped_child_is_left", LEAKED_PROCESS, "left processes running (killed): "),
    PASSES("corpus_changes_its_group"),
    PASSES("corpus_cannot_kill_its_parent"),
    PASSES("corpus_cannot_kill_everything"),
    PASSES("corpus_cannot_trace_its_parent"),
    IS("corpus_kills_its_parent", SKIPPED, "needs: corpus-asked (by design)"),
    IS("corpus_leaks_a_descriptor", LEAKED_FD, "left file descriptors open: "),
    IS("corpus_leaks_a_socket", LEAKED_FD, " -> socket:["),
    PASSES("corpus_keeps_a_descriptor"),
    IS("corpus_leaves_a_file_in_tmpdir", LEAKED_FILE, "tmp/bnt-forgotten"),
    IS("corpus_leaves_a_file_at_home", LEAKED_FILE, "home/.forgotten"),
    IS("corpus_leaves_a_file_where_it_stands", LEAKED_FILE, "home/core"),
    PASSES("corpus_deletes_its_scratch"),
    PASSES("corpus_closes_its_scratch"),
    PASSES("corpus_goes_elsewhere"),
    PASSES("corpus_cannot_write_outside"),
    PASSES("corpus_cannot_read_other_tests"),
    PASSES("corpus_reads_what_it_may"),
    PASSES("corpus_uses_the_model"),
    IS("corpus_allocates_without_end", OUT_OF_MEMORY, "of "),
    IS("corpus_children_take_too_much", OUT_OF_MEMORY, "held more than 256 MiB of memory"),
    IS("corpus_leaves_control_groups", ASSERTION, "an assertion failed"),
    ELSEWHERE("corpus_lowers_its_limits", PASSED, NULL, "asan", SANITIZER),
    PASSES("corpus_cannot_connect_outside"),
    PASSES("corpus_connects_to_itself"),
    PASSES("corpus_cannot_connect_to_itself"),
    ELSEWHERE("corpus_writes_to_freed_memory", PASSED, NULL, "asan,tsan", SANITIZER),
    ELSEWHERE("corpus_overflows_an_integer", PASSED, NULL, "asan,ubsan", SANITIZER),
    ELSEWHERE("corpus_races", PASSED, NULL, "tsan", SANITIZER),
    PASSES("corpus_fresh_passes"),
    IS("corpus_fresh_exits_0", EARLY_EXIT, "exited with 0 before the body ended"),
    IS("corpus_fresh_crashes", CRASH, "killed by SIGSEGV (Segmentation fault)"),
    IS("corpus_fresh_hangs", TIMEOUT, "timed out after "),
    PASSES("corpus_has_far_too_much_time"),
};
enum { N_EXPECTED = sizeof table / sizeof table[0] };

/* ---- comparing ---- */

static bool is_otherwise_here(const struct expected *e)
{
    return e->configs && suite_needs_word(e->configs, BNT_CONFIG);
}

/* A verdict is the expected one; a pass may be a skip for want of something that this kernel lacks.
 */
static bool is_as_expected(const struct expected *e, enum verdict v, const char *why)
{
    if (is_otherwise_here(e)) {
        return v == e->otherwise;
    }
    if (e->verdict == VERDICT_PASSED && v == VERDICT_SKIPPED) {
        return strncmp(why, "needs: ", 7) == 0;
    }
    return v == e->verdict && (!e->why || strstr(why, e->why));
}

static const struct expected *find_expected(const char *name)
{
    for (size_t i = 0; i < N_EXPECTED; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

/* ---- running the corpus ---- */

static const char *program(void)
{
    static char path[BNT_PATH_MAX];
    char dir[BNT_PATH_MAX];
    assert_int_equal(bnt_exe_dir(dir, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(path, NULL, "%s/bnt-suites", dir), BNT_OK);
    return path;
}

/* A suites program whose tests are the corpus; one that does not say so has no workers, and is
 * started for each test. */
static const char *write_corpus_program(bool workers)
{
    static char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/corpus-suites", suite_scratch()), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\ncase $1 in\n--list) '%s' --corpus --list%s;;\n", program(),
            workers ? "" : " | sed 's/worker=yes/worker=no/'");
    fprintf(f, "*) exec '%s' --corpus \"$@\";;\nesac\n", program());
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static void run_corpus(struct bnt_test_run *run, bool workers, const struct bnt_strs *names,
                       const struct bnt_test_options *options)
{
    struct bnt_err err = {0};
    *run = (struct bnt_test_run){0};
    const char *path = write_corpus_program(workers);
    if (bnt_test_collect(run, path, BNT_TIER_FULL, names, &err) != BNT_OK ||
        bnt_test_execute(run, options, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(run->has_workers, workers);
}

/* Every test of the corpus has the verdict of the table, and is in it. */
static void assert_all_as_expected(const struct bnt_test_run *run)
{
    size_t n_wrong = 0;
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        const struct expected *e = find_expected(t->name);
        const char *why = t->reason ? t->reason : "";
        if (!e || !is_as_expected(e, t->verdict, why)) {
            print_message("%s: %s (%s)\n%s\n", t->name, verdict_word(t->verdict), why,
                          t->output ? t->output : "");
            n_wrong++;
        }
    }
    print_message("%zu tests, worker: %s\n", run->n, run->worker_note);
    assert_int_equal(run->n, N_EXPECTED);
    assert_int_equal(n_wrong, 0);
    assert_string_equal(run->worker_note, "");
}

static void workers_at_once_give_every_verdict(void **state)
{
    (void)state;
    struct bnt_test_run run;
    setenv("BNT_TEST_BACKTRACE", "off", 1); /* they have a test of their own */
    run_corpus(&run, true, NULL, &(struct bnt_test_options){.n_jobs = N_WORKERS});
    assert_all_as_expected(&run);
    bnt_test_run_release(&run);
}

static void tests_by_themselves_give_every_verdict(void **state)
{
    (void)state;
    struct bnt_test_run run;
    setenv("BNT_TEST_BACKTRACE", "off", 1);
    run_corpus(&run, false, NULL, &(struct bnt_test_options){.n_jobs = 4});
    assert_all_as_expected(&run);
    bnt_test_run_release(&run);
}

/* ---- one worker ---- */

static const struct bnt_test *result_of(const struct bnt_test_run *run, const char *name)
{
    for (size_t i = 0; i < run->n; i++) {
        if (strcmp(run->at[i].name, name) == 0) {
            print_message("%s: %s (%s)\n", name, verdict_word(run->at[i].verdict),
                          run->at[i].reason ? run->at[i].reason : "");
            return &run->at[i];
        }
    }
    fail_msg("%s did not run", name);
    return NULL;
}

/* Nothing holds the tests here, so that one of them can kill the worker that runs them all. */
static void dead_worker_takes_one_test_with_it(void **state)
{
    (void)state;
    static const struct bnt_strs names = {
        3, {"corpus_passes", "corpus_kills_its_parent", "corpus_skips"}};
    struct bnt_test_run run;
    setenv("BNT_TEST_CONFINE", "0", 1);
    setenv("BNT_CORPUS_ASKED", "1", 1);
    run_corpus(&run, true, &names, &(struct bnt_test_options){.n_jobs = 1});
    assert_int_equal(run.n, 3);
    const struct bnt_test *killer = result_of(&run, "corpus_kills_its_parent");
    assert_int_equal(killer->outcome, BNT_TEST_FAILED);
    assert_int_equal(killer->verdict, VERDICT_WORKER_DIED);
    assert_non_null(strstr(killer->reason, "killed by SIGKILL"));
    assert_int_equal(result_of(&run, "corpus_passes")->verdict, VERDICT_PASSED);
    assert_int_equal(result_of(&run, "corpus_skips")->verdict, VERDICT_SKIPPED_WITHIN);
    assert_non_null(strstr(result_of(&run, "corpus_passes")->not_enforced, "BNT_TEST_CONFINE=0"));
    bnt_test_run_release(&run);
}

static void time_that_does_not_fit_is_told(void **state)
{
    (void)state;
    static const struct bnt_strs names = {1, {"corpus_has_far_too_much_time"}};
    struct bnt_test_run run;
    run_corpus(&run, true, &names, &(struct bnt_test_options){.n_jobs = 1});
    const struct bnt_test *t = result_of(&run, "corpus_has_far_too_much_time");
    assert_int_equal(t->outcome, BNT_TEST_PASSED);
    assert_non_null(t->warning);
    assert_non_null(strstr(t->warning, "of its 300 s: 10 s would do"));
    bnt_test_run_release(&run);
}

/* ---- stacks ---- */

static void assert_both_stacks(const char *how)
{
    static const struct bnt_strs names = {1, {"corpus_threads_deadlock"}};
    struct bnt_test_run run;
    setenv("BNT_TEST_BACKTRACE", how, 1);
    run_corpus(&run, true, &names, &(struct bnt_test_options){.n_jobs = 1});
    const struct bnt_test *t = result_of(&run, "corpus_threads_deadlock");
    assert_int_equal(t->verdict, VERDICT_TIMEOUT);
    print_message("%s\n", t->output);
    assert_non_null(strstr(t->output, "corpus_takes_right_then_left"));
    assert_non_null(strstr(t->output, "threads_deadlock at corpus_ends.c") ||
                            strstr(t->output, "in threads_deadlock (")
                        ? t->output
                        : NULL);
    bnt_test_run_release(&run);
}

static void stacks_of_all_threads_are_taken(void **state)
{
    (void)state;
    assert_both_stacks("self");
}

static void stacks_of_all_threads_are_taken_by_gdb(void **state)
{
    (void)state;
    assert_both_stacks("gdb");
}

static void stack_of_a_crash_names_its_place(void **state)
{
    (void)state;
    static const struct bnt_strs names = {1, {"corpus_writes_to_null"}};
    struct bnt_test_run run;
    run_corpus(&run, true, &names, &(struct bnt_test_options){.n_jobs = 1});
    assert_non_null(strstr(result_of(&run, "corpus_writes_to_null")->output, "writes_to_null"));
    bnt_test_run_release(&run);
}

/* ---- cost ---- */

struct cost {
    double wall_ms, cpu_ms;
};

/* Of all processes that were started and have ended. */
static double children_cpu_ms(void)
{
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_CHILDREN, &u), 0);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

/* Of so many runs of a test that only looks at the model, by one worker. */
static struct cost cost_of_runs(unsigned n_runs)
{
    static const struct bnt_strs names = {1, {"corpus_uses_the_model"}};
    struct bnt_test_run run;
    double before = children_cpu_ms();
    run_corpus(&run, true, &names, &(struct bnt_test_options){.n_jobs = 1, .n_repeats = n_runs});
    assert_int_equal(result_of(&run, "corpus_uses_the_model")->outcome, BNT_TEST_PASSED);
    const struct cost cost = {(double)run.wall_ns / 1e6, children_cpu_ms() - before};
    bnt_test_run_release(&run);
    return cost;
}

/* Other work on the machine makes wall time longer, but hardly the processor's: that is bounded. */
static void test_on_a_large_model_costs_milliseconds(void **state)
{
    (void)state;
    setenv("BNT_TEST_MODEL", getenv("BNT_SYNTH2B"), 1);
    (void)cost_of_runs(1); /* finds the packing of the model, which is remembered */
    struct cost one = cost_of_runs(1);
    struct cost all = cost_of_runs(N_OVERHEAD_RUNS);
    double wall_ms = (all.wall_ms - one.wall_ms) / (N_OVERHEAD_RUNS - 1);
    double cpu_ms = (all.cpu_ms - one.cpu_ms) / (N_OVERHEAD_RUNS - 1);
    print_message("a worker and its first test: %.0f ms; each further test: %.2f ms, of the "
                  "processor %.2f ms\n",
                  one.wall_ms, wall_ms, cpu_ms);
    suite_metric("overhead_per_test", wall_ms, "ms");
    suite_metric("overhead_per_test_cpu", cpu_ms, "ms");
    if (cpu_ms > OVERHEAD_MAX_MS) {
        fail_msg("a test costs %.2f ms of the processor, more than %d", cpu_ms, OVERHEAD_MAX_MS);
    }
}

/* Run a test of the corpus as a user who is not root, in a folder of that user. */
static void run_as_nobody(const char *name, const char *folder, struct suite_output *o)
{
    char home[BNT_PATH_MAX + 8], tmp[BNT_PATH_MAX + 8];
    snprintf(home, sizeof home, "HOME=%s", folder);
    snprintf(tmp, sizeof tmp, "TMPDIR=%s", folder);
    const char *const argv[] = {"setpriv",        "--reuid", "65534", "--regid", "65534",
                                "--clear-groups", "env",     home,    tmp,       program(),
                                "--corpus",       "--run",   name,    NULL};
    suite_run(argv, folder, 0, o);
}

/* Everybody may pass through the folders above this test's own. */
static void open_the_way(void)
{
    char at[BNT_PATH_MAX];
    struct stat sb;
    assert_int_equal(bnt_path_format(at, NULL, "%s", suite_scratch()), BNT_OK);
    for (char *slash = at + strlen(at); slash && slash > at; slash = strrchr(at, '/')) {
        *slash = '\0';
        if (stat(at, &sb) == 0 && !(sb.st_mode & S_IXOTH)) {
            assert_int_equal(chmod(at, (sb.st_mode & 07777) | S_IXGRP | S_IXOTH), 0);
        }
    }
}

/* Landlock and namespaces want other rights of root than of everybody else. */
static void confines_without_root(void **state)
{
    (void)state;
    static const char *const names[] = {"corpus_cannot_write_outside", "corpus_reads_what_it_may",
                                        "corpus_cannot_kill_its_parent", "corpus_uses_the_model"};
    char folder[BNT_PATH_MAX];
    struct suite_output o;
    assert_int_equal(bnt_path_format(folder, NULL, "%s/nobody", suite_scratch()), BNT_OK);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(chown(folder, 65534, 65534), 0);
    open_the_way();
    run_as_nobody("no_such_test", folder, &o);
    if (o.exit != BNT_E_NO_TESTS) {
        suite_skip("needs: a build folder that everybody may read");
    }
    suite_output_release(&o);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        run_as_nobody(names[i], folder, &o);
        if (o.exit != 0 || strstr(o.out, "not enforced here: files") || strstr(o.out, "# SKIP")) {
            fail_msg("%s: exit %d\n%s%s", names[i], o.exit, o.out, o.err);
        }
        suite_output_release(&o);
    }
}

static const struct suite_test tests[] = {
    {.name = "isolation_workers_at_once_give_every_verdict",
     .body = workers_at_once_give_every_verdict,
     .needs = "no-tsan",
     .timeout_ms = CORPUS_TIMEOUT_MS},
    {.name = "isolation_tests_by_themselves_give_every_verdict",
     .body = tests_by_themselves_give_every_verdict,
     .needs = "no-tsan",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = CORPUS_TIMEOUT_MS},
    {.name = "isolation_dead_worker_takes_one_test_with_it",
     .body = dead_worker_takes_one_test_with_it,
     .timeout_ms = 30000},
    {.name = "isolation_time_that_does_not_fit_is_told",
     .body = time_that_does_not_fit_is_told,
     .needs = "release-build"},
    {.name = "isolation_stacks_of_all_threads_are_taken",
     .body = stacks_of_all_threads_are_taken,
     .needs = "addr2line,no-tsan"},
    {.name = "isolation_stacks_of_all_threads_are_taken_by_gdb",
     .body = stacks_of_all_threads_are_taken_by_gdb,
     .tier = SUITE_INTEGRATION,
     .needs = "gdb",
     .timeout_ms = 60000},
    {.name = "isolation_stack_of_a_crash_names_its_place",
     .body = stack_of_a_crash_names_its_place,
     .needs = "addr2line"},
    {.name = "isolation_confines_without_root",
     .body = confines_without_root,
     .needs = "root,landlock,source,no-tsan"},
    {.name = "isolation_test_on_a_large_model_costs_milliseconds",
     .body = test_on_a_large_model_costs_milliseconds,
     .tier = SUITE_FULL,
     .needs = "synth2b,release-build",
     .timeout_ms = 300000},
    {0},
};

const struct suite suite_isolation = {
    "isolation", tests, "leaked_processes early_exit leaked_fd stack_end confine_files "
                          "threads_untold"};
