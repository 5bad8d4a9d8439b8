/* Guards the guard: a test that crashes, exits early, hangs, floods or leaks, and is nevertheless
 * counted as passed, or takes others down with it. Runs `bnt-suites --corpus` (corpus.c) and holds
 * each verdict against this table. */
#include "testkit/suite.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/status.h"
#include "testkit/proc.h"

enum { CORPUS_TIMEOUT_MS = 120 * 1000 };

static bool build_is(const char *config)
{
    return strcmp(BNT_CONFIG, config) == 0;
}

/* A sanitizer turns a crash signal into a report and an exit of its own; then the report must be in
 * the output. */
static bool build_is_sanitized(void)
{
    return build_is("asan") || build_is("ubsan") || build_is("tsan");
}

struct verdict {
    const char *name;
    const char *line; /* how the result line starts, before the name */
    const char *why;  /* a part of the reason; NULL: a pass */
    bool crash;       /* a sanitizer may have its own say */
};

static const struct verdict verdicts[] = {
    {"corpus_passes", "ok ", NULL, false},
    {"corpus_fails_assertion", "not ok ", "an assertion failed", false},
    {"corpus_exits_0", "not ok ", "exited with 0 before the body ended", false},
    {"corpus_underscore_exits_0", "not ok ", "exited with 0 before the body ended", false},
    {"corpus_exits_3", "not ok ", "exited with 3 before the body ended", false},
    {"corpus_exits_5_at_exit", "not ok ", "exited with 5, after the body had ended", false},
    {"corpus_aborts", "not ok ", "killed by SIGABRT (Aborted)", true},
    {"corpus_writes_to_null", "not ok ", "killed by SIGSEGV (Segmentation fault)", true},
    {"corpus_divides_by_zero", "not ok ", "killed by SIGFPE (Floating point exception)", true},
    {"corpus_killed_by_kill", "not ok ", "killed by SIGKILL (Killed)", false},
    {"corpus_terminated", "not ok ", "killed by SIGTERM (Terminated)", false},
    {"corpus_overflows_stack", "not ok ", "killed by SIGSEGV (Segmentation fault)", true},
    {"corpus_loops", "not ok ", "timed out after ", false},
    {"corpus_sleeps_through_sigterm", "not ok ", "timed out after ", false},
    {"corpus_waits_for_a_signal", "ok ", "# SKIP needs: corpus-asked (by design)", false},
    {"corpus_writes_without_end", "not ok ", "wrote more than 16777216 bytes of output", false},
    {"corpus_writes_much_then_fails", "not ok ", "an assertion failed", false},
    {"corpus_writes_bytes_that_are_no_text", "not ok ", "an assertion failed", false},
    {"corpus_leaks_process_with_pipe", "not ok ", "left processes running (killed)", false},
    {"corpus_ends_its_processes", "ok ", NULL, false},
    {"corpus_hangs_with_grandchild", "not ok ", "timed out after ", false},
    {"corpus_leaves_files", "not ok ", "an assertion failed", false},
    {"corpus_skips", "ok ", "# SKIP the body called skip()", false},
    {"corpus_needs_unmet", "ok ", "# SKIP needs: corpus-asked (by design)", false},
    {"corpus_needs_unknown", "not ok ", "unknown need: flying-carpet", false},
    {"corpus_integration", "ok ", NULL, false},
    {"corpus_full", "ok ", NULL, false},
};

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

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;
    for (const char *at = text; (at = after(at, word)) != NULL;) {
        n++;
    }
    return n;
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

/* A test's own lines: from its result line to the next one. */
static char *part_of(const char *tap, const char *name)
{
    char mark[160];
    snprintf(mark, sizeof mark, " - %s ", name);
    const char *at = strstr(tap, mark);
    if (!at) {
        return NULL;
    }
    while (at > tap && at[-1] != '\n') {
        at--;
    }
    const char *end = strchr(at, '\n');
    while (end && end[1] == '#') {
        end = strchr(end + 1, '\n');
    }
    return strndup(at, end ? (size_t)(end - at) : strlen(at));
}

static bool sanitizer_spoke(const char *part)
{
    return strstr(part, "Sanitizer") || strstr(part, "runtime error:");
}

static void corpus_gets_its_verdicts(void **state)
{
    (void)state;
    struct suite_output o;
    run_suites((const char *const[]){"--corpus", NULL}, &o);
    assert_int_equal(o.exit, 1);
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++) {
        const struct verdict *v = &verdicts[i];
        char *part = part_of(o.out, v->name);
        print_message("%s\n", part ? part : v->name);
        assert_non_null(part);
        assert_int_equal(strncmp(part, v->line, strlen(v->line)), 0);
        bool as_said = !v->why || strstr(part, v->why);
        assert_true(as_said || (v->crash && build_is_sanitized() && sanitizer_spoke(part)));
        assert_true(v->why || !strstr(part, "# SKIP"));
        free(part);
    }
    suite_output_release(&o);
}

static void every_corpus_test_is_in_the_table(void **state)
{
    (void)state;
    struct suite_output o;
    run_suites((const char *const[]){"--corpus", "--list", NULL}, &o);
    assert_int_equal(o.exit, 0);
    unsigned lines = count(o.out, "\n");
    assert_int_equal(lines, sizeof verdicts / sizeof verdicts[0] +
                                1); /* and corpus_leaks_memory, which has its own test */
    suite_output_release(&o);
}

static void last_line_counts_what_the_lines_say(void **state)
{
    (void)state;
    struct suite_output o;
    run_suites((const char *const[]){"--corpus", "corpus_passes", "corpus_fails", "corpus_skips",
                                     "corpus_exits_0", NULL},
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

static const struct suite_test tests[] = {
    {.name = "testkit_corpus_gets_its_verdicts",
     .body = corpus_gets_its_verdicts,
     .timeout_ms = CORPUS_TIMEOUT_MS},
    {.name = "testkit_every_corpus_test_is_in_the_table",
     .body = every_corpus_test_is_in_the_table},
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
    {0},
};

const struct suite suite_testkit = {"testkit", tests, "leaked_processes"};
