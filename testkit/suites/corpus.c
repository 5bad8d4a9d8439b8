/* Pathological tests: each misbehaves in one way, and suite_testkit.c holds the verdict that it
 * must get. */
#include "testkit/suites/corpus.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void passes(void **state)
{
    (void)state;
    assert_int_equal(1, 1);
}

static void fails_assertion(void **state)
{
    (void)state;
    printf("said before the failure\n");
    assert_int_equal(1, 2);
}

static void exits_0(void **state)
{
    (void)state;
    exit(0);
}

static void underscore_exits_0(void **state)
{
    (void)state;
    _exit(0);
}

static void exits_3(void **state)
{
    (void)state;
    exit(3);
}

static void exit_after_the_end(void)
{
    _exit(5);
}

static void exits_5_at_exit(void **state)
{
    (void)state;
    atexit(exit_after_the_end);
}

static void aborts(void **state)
{
    (void)state;
    abort();
}

static void writes_to_null(void **state)
{
    (void)state;
    volatile char *volatile nowhere = (volatile char *)(uintptr_t)16; /* in the page of NULL */
    *nowhere = 1;
}

static void raises(int number)
{
    raise(number);
}

static void divides_by_zero_signal(void **state)
{
    (void)state;
    raises(SIGFPE);
}

static void killed_by_kill(void **state)
{
    (void)state;
    raises(SIGKILL);
}

static void terminated(void **state)
{
    (void)state;
    raises(SIGTERM);
}

/* Deep without end; the volatile array keeps the frames real. */
static unsigned sink_deeper(unsigned depth)
{
    volatile char frame[4096];
    memset((char *)(uintptr_t)frame, (int)(depth & 0x7f), sizeof frame);
    return depth == UINT32_MAX
               ? 0
               : sink_deeper(depth + 1) + (unsigned char)frame[depth % sizeof frame];
}

static void overflows_stack(void **state)
{
    (void)state;
    assert_int_equal(sink_deeper(0), 1);
}

static void loops(void **state)
{
    (void)state;
    for (volatile unsigned i = 0;; i++) {
    }
}

static void sleeps_through_sigterm(void **state)
{
    (void)state;
    signal(SIGTERM, SIG_IGN);
    for (;;) {
        pause();
    }
}

static void writes_without_end(void **state)
{
    (void)state;
    for (;;) {
        puts("a line that never stops coming, again and again and again and again and again");
    }
}

static void waits_for_a_signal(void **state)
{
    (void)state;
    pause();
}

/* Much output, yet an end: the first and the last line must be kept, the middle may go. */
static void writes_much_then_fails(void **state)
{
    (void)state;
    printf("the very first line\n");
    for (int i = 0; i < 20000; i++) {
        printf("line %d of very many lines that a test may print\n", i);
    }
    printf("the very last line\n");
    fail();
}

static void writes_bytes_that_are_no_text(void **state)
{
    (void)state;
    static const char bytes[] =
        "bell \a escape \033[31m, ]]> & <tag> \"quote\", broken \xff\xfe utf-8, \xef\xbf\xbf end\n";
    fwrite(bytes, 1, sizeof bytes - 1, stdout);
    fail();
}

static void leave_a_process(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;) {
            pause();
        }
    }
    printf("left behind: %d\n", (int)pid);
}

static void leaks_process_with_pipe(void **state)
{
    (void)state;
    leave_a_process();
}

/* A child that was waited for, and one that has ended but was not: nothing runs on, so this is a
 * pass. */
static void ends_its_processes(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        if (fork() == 0) {
            _exit(0);
        }
    }
    assert_true(wait(NULL) > 0);
    siginfo_t info;
    assert_int_equal(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
}

static void hangs_with_grandchild(void **state)
{
    (void)state;
    leave_a_process();
    for (;;) {
        pause();
    }
}

static void leaves_files(void **state)
{
    (void)state;
    assert_int_equal(chdir(suite_scratch()), 0);
    assert_int_equal(mkdir("a", 0700), 0);
    assert_int_equal(mkdir("a/b", 0700), 0);
    FILE *f = fopen("a/b/c", "w");
    assert_non_null(f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod("a", 0500), 0);
    printf("scratch: %s\n", suite_scratch());
    fail();
}

static void skips(void **state)
{
    (void)state;
    skip();
}

/* Found by the address sanitizer, invisible without it. */
static void leaks_memory(void **state)
{
    (void)state;
    char *volatile lost = malloc(100);
    assert_non_null(lost);
    lost = NULL;
}

static void *nothing(void *arg)
{
    return arg;
}

static void starts_a_thread_untold(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, nothing, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static const struct suite_test tests[] = {
    {.name = "corpus_passes", .body = passes},
    {.name = "corpus_fails_assertion", .body = fails_assertion},
    {.name = "corpus_exits_0", .body = exits_0},
    {.name = "corpus_underscore_exits_0", .body = underscore_exits_0},
    {.name = "corpus_exits_3", .body = exits_3},
    {.name = "corpus_exits_5_at_exit", .body = exits_5_at_exit},
    {.name = "corpus_aborts", .body = aborts},
    {.name = "corpus_writes_to_null", .body = writes_to_null},
    {.name = "corpus_divides_by_zero", .body = divides_by_zero_signal},
    {.name = "corpus_killed_by_kill", .body = killed_by_kill},
    {.name = "corpus_terminated", .body = terminated},
    {.name = "corpus_overflows_stack", .body = overflows_stack},
    {.name = "corpus_loops", .body = loops, .timeout_ms = 200},
    {.name = "corpus_sleeps_through_sigterm", .body = sleeps_through_sigterm, .timeout_ms = 200},
    {.name = "corpus_waits_for_a_signal",
     .body = waits_for_a_signal,
     .timeout_ms = 60000,
     .needs = "corpus-asked"},
    {.name = "corpus_writes_without_end", .body = writes_without_end, .timeout_ms = 60000},
    {.name = "corpus_writes_much_then_fails", .body = writes_much_then_fails},
    {.name = "corpus_writes_bytes_that_are_no_text", .body = writes_bytes_that_are_no_text},
    {.name = "corpus_leaks_process_with_pipe", .body = leaks_process_with_pipe},
    {.name = "corpus_ends_its_processes", .body = ends_its_processes},
    {.name = "corpus_hangs_with_grandchild", .body = hangs_with_grandchild, .timeout_ms = 200},
    {.name = "corpus_leaves_files", .body = leaves_files},
    {.name = "corpus_skips", .body = skips},
    {.name = "corpus_leaks_memory", .body = leaks_memory},
    {.name = "corpus_starts_a_thread_untold", .body = starts_a_thread_untold},
    {.name = "corpus_needs_unmet", .body = passes, .needs = "corpus-asked"},
    {.name = "corpus_needs_unknown", .body = passes, .needs = "source,flying-carpet"},
    {.name = "corpus_integration", .body = passes, .tier = SUITE_INTEGRATION},
    {.name = "corpus_full", .body = passes, .tier = SUITE_FULL},
    {0},
};

const struct suite suite_corpus = {"corpus", tests, ""};
