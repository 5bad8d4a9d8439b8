/* Guards what bnt-suites says and clears away: counts, exit codes, bounds on output, what a test
 * leaves, an interrupt. The tests that misbehave are those of `bnt-suites --corpus`; their verdicts
 * are suite_isolation.c's. */
#include "testkit/suite.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/file.h"
#include "base/status.h"
#include "testkit/proc.h"

enum { CORPUS_TIMEOUT_MS = 120 * 1000 };

static bool build_is(const char *config)
{
    return strcmp(BNT_CONFIG, config) == 0;
}

static void run_suites(const char *const *args, struct suite_output *result)
{
    char program[BNT_PATH_MAX];
    char dir[BNT_PATH_MAX];
    assert_int_equal(bnt_exe_dir(dir, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(program, NULL, "%s/bnt-suites", dir), BNT_OK);
    const char *argv[8] = {program};
    for (size_t i = 0; args[i]; i++) {
        argv[i + 1] = args[i];
    }
    suite_run(argv, NULL, CORPUS_TIMEOUT_MS, result);
}

static void run_corpus_test(const char *name, struct suite_output *result)
{
    run_suites((const char *const[]){"--corpus", "--run", name, NULL}, result);
}

static const char *after(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    return at ? at + strlen(word) : NULL;
}

/* The process has ended; a zombie that nobody waited for counts as ended. */
static bool process_is_gone(int pid)
{
    char path[64];
    char line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) {
        return true;
    }
    bool read = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    const char *state = strrchr(line, ')');
    return !read || !state || state[2] == 'Z' || state[2] == 'X';
}

static void last_line_counts_what_the_lines_say(void **state)
{
    (void)state;
    struct suite_output o;
    run_suites((const char *const[]){"--corpus", "corpus_passes", "corpus_fails_assertion",
                                     "corpus_skips", "corpus_exits_3", NULL},
               &o);
    assert_int_equal(o.exit, 1);
    assert_non_null(strstr(o.out, "\n1..4\n1 passed, 2 failed, 1 skipped\n"));
    assert_string_equal(strstr(o.out, "\n1 passed") + 1, "1 passed, 2 failed, 1 skipped\n");
    suite_output_release(&o);
}

static void exit_codes_tell_what_happened(void **state)
{
    (void)state;
    static const struct {
        const char *args[4];
        int exit;
    } cases[] = {
        {{"--corpus", "--run", "corpus_passes"}, 0},
        {{"--corpus", "--run", "corpus_skips"}, 0},
        {{"--corpus", "--run", "corpus_exits_0"}, 1},
        {{"--corpus", "no test has this name"}, BNT_E_NO_TESTS},
        {{"--run", "corpus_passes"}, BNT_E_NO_TESTS},
        {{"--corpus", "--run", "corpus_passe"}, BNT_E_NO_TESTS},
        {{"--corpse"}, BNT_E_USAGE},
        {{"--faults"}, 0}, /* every suite has a planted defect to see, every defect a suite */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        run_suites(cases[i].args, &o);
        print_message("case %zu: %d\n%s%s", i, o.exit, o.out, o.err);
        assert_int_equal(o.exit, cases[i].exit);
        suite_output_release(&o);
    }
}

static void output_is_bounded_and_keeps_both_ends(void **state)
{
    (void)state;
    struct suite_output o;
    run_corpus_test("corpus_writes_much_then_fails", &o);
    assert_non_null(strstr(o.out, "# | the very first line\n"));
    assert_non_null(strstr(o.out, "# | the very last line\n"));
    assert_non_null(strstr(o.out, " bytes left out ...]\n"));
    assert_true(strlen(o.out) < 256 * 1024);
    suite_output_release(&o);
    run_corpus_test("corpus_writes_without_end", &o);
    assert_true(strlen(o.out) < 256 * 1024);
    suite_output_release(&o);
}

static void what_a_test_leaves_is_cleared(void **state)
{
    (void)state;
    static const char *const leaky[] = {"corpus_leaks_process_with_pipe",
                                        "corpus_hangs_with_grandchild"};
    struct suite_output o;
    for (size_t i = 0; i < 2; i++) {
        run_corpus_test(leaky[i], &o);
        const char *pid = after(o.out, "left behind: ");
        assert_non_null(pid);
        assert_true(process_is_gone((pid_t)strtol(pid, NULL, 10)));
        suite_output_release(&o);
    }
    run_corpus_test("corpus_leaves_files", &o);
    const char *path = after(o.out, "scratch: ");
    assert_non_null(path);
    char *folder = strndup(path, strcspn(path, "\n"));
    assert_int_not_equal(access(folder, F_OK), 0);
    free(folder);
    suite_output_release(&o);
}

static void leak_found_at_exit_fails_the_test(void **state)
{
    (void)state;
    struct suite_output o;
    run_corpus_test("corpus_leaks_memory", &o);
    print_message("%s", o.out);
    if (build_is("asan")) {
        assert_int_equal(o.exit, 1);
        assert_non_null(strstr(o.out, "LeakSanitizer"));
    } else {
        assert_int_equal(o.exit, 0);
    }
    suite_output_release(&o);
}

/* SIGTERM to bnt-suites ends the running test too, shows what ran, and leaves no folder behind. */
static void interrupt_ends_the_test_and_reports(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    char program[BNT_PATH_MAX];
    assert_int_equal(bnt_exe_dir(dir, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(program, NULL, "%s/bnt-suites", dir), BNT_OK);
    char corpus[] = "--corpus";
    char passes[] = "corpus_passes";
    char hangs[] = "corpus_waits_for_a_signal";
    char *argv[] = {program, corpus, passes, hangs, NULL};
    struct proc p;
    setenv("BNT_CORPUS_ASKED", "1", 1);
    assert_int_equal(
        proc_start(&p, &(struct proc_spec){.argv = argv, .timeout_ms = CORPUS_TIMEOUT_MS}, NULL),
        BNT_OK);
    while (!strstr(p.capture[PROC_OUT].data ? p.capture[PROC_OUT].data : "", "corpus_passes") &&
           !proc_done(&p)) {
        proc_serve(&p, 1, 10);
    }
    assert_false(proc_done(&p));
    kill(p.pid, SIGTERM);
    while (!proc_done(&p)) {
        proc_serve(&p, 1, 100);
    }
    char *out = proc_output(&p, PROC_OUT);
    assert_int_equal(p.end, PROC_EXITED);
    assert_int_equal(p.code, BNT_E_INTERRUPTED);
    assert_non_null(strstr(out, "1..1\n1 passed, 0 failed, 0 skipped\n"));
    assert_false(p.leaked);
    free(out);
    proc_release(&p);
}

/* A row of `bnt-suites --list` has what its suite says of all its tests. */
static void list_has_what_suites_say_of_all(void **state)
{
    (void)state;
    static const char *const words[][2] = {{"swift", "\tretry_on=network"},
                                           {"swift", "\ttags=fetch,server"},
                                           {"chat", "\tcacheable=yes"},
                                           {"contract", "\ttags=contract"},
                                           {"contract", "\tkills=contract_drift\t"},
                                           {"any_model", "\tsubjects=real,tiny\t"},
                                           {"pool", "\tthreads=shared\t"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        char program[BNT_PATH_MAX], dir[BNT_PATH_MAX], filter[32];
        struct suite_output o;
        assert_int_equal(bnt_exe_dir(dir, NULL), BNT_OK);
        assert_int_equal(bnt_path_format(program, NULL, "%s/bnt-suites", dir), BNT_OK);
        snprintf(filter, sizeof filter, "%s/", words[i][0]);
        const char *const argv[] = {program, "--list", filter, NULL};
        suite_run(argv, NULL, 0, &o);
        assert_int_equal(o.exit, 0);
        if (!strstr(o.out, words[i][1])) {
            fail_msg("%s has no%s:\n%s", words[i][0], words[i][1], o.out);
        }
        suite_output_release(&o);
    }
}

/* Nothing lies beside the program there, and no folder of it is in PATH. */
static void what_is_installed_tests_itself(void **state)
{
    (void)state;
    static const char script[] =
        "cd \"$0\" && mkdir -p 'a b/bin' 'a b/libexec/bnt' 'a b/lib/bnt' 'a b/share/bnt/models' && "
        "put() { ln \"$1\" \"$2\" 2>/dev/null || cp \"$1\" \"$2\"; } && cd 'a b' && "
        "put \"$1\" bin/bnt && put \"$2/bnt-suites\" libexec/bnt/bnt-suites && "
        "put \"$2/fake_cuda.so\" lib/bnt/bnt_cuda.so && put \"$3\" share/bnt/models/ && "
        "unset BNT BNT_SOURCE_DIR BNT_MODELS_DIR && cd .. && "
        "'a b/bin/bnt' test --history none --quarantine none --diagnose 0 "
        "--filter name:cache_cli_empty_cache_is_an_empty_list --filter "
        "name:bad_locks_a_lock_that_lies "
        "--filter name:crossval_bounds_come_from_a_file && "
        "'a b/bin/bnt' test --history none --quarantine none --diagnose 0 --device cuda "
        "--filter name:any_model_text_comes_back";
    char dir[BNT_PATH_MAX], module[BNT_PATH_MAX], model[BNT_PATH_MAX];
    struct suite_output o;
    assert_int_equal(bnt_exe_dir(dir, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(module, NULL, "%s/fake_cuda.so", dir), BNT_OK);
    if (access(module, R_OK) != 0) {
        suite_skip("needs: fake_cuda.so beside bnt");
    }
    assert_int_equal(bnt_bundled_model(model, NULL), BNT_OK);
    const char *const argv[] = {"/bin/sh",   "-c", script, suite_scratch(),
                                suite_bnt(), dir,  model,  NULL};
    suite_run(argv, suite_scratch(), 0, &o);
    print_message("%s%s", o.out, o.err);
    assert_int_equal(o.exit, 0);
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "testkit_last_line_counts", .body = last_line_counts_what_the_lines_say},
    {.name = "testkit_exit_codes_tell_what_happened", .body = exit_codes_tell_what_happened},
    {.name = "testkit_output_is_bounded",
     .body = output_is_bounded_and_keeps_both_ends,
     .timeout_ms = 30000},
    {.name = "testkit_what_a_test_leaves_is_cleared", .body = what_a_test_leaves_is_cleared},
    {.name = "testkit_leak_found_at_exit_fails_the_test",
     .body = leak_found_at_exit_fails_the_test},
    {.name = "testkit_interrupt_ends_the_test_and_reports",
     .body = interrupt_ends_the_test_and_reports,
     .timeout_ms = 30000},
    {.name = "testkit_what_is_installed_tests_itself",
     .body = what_is_installed_tests_itself,
     .timeout_ms = 60000},
    {.name = "testkit_list_has_what_suites_say_of_all", .body = list_has_what_suites_say_of_all},
    {0},
};

const struct suite suite_testkit = {"testkit", tests, "test_folder"};
