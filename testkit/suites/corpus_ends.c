/* Pathological tests about ends: exits, signals, threads, hangs, and what cmocka makes of them. The
 * verdict of each is in suite_isolation.c. */
#include "testkit/suites/corpus.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- exits ---- */

static void *exit_0(void *arg)
{
    (void)arg;
    exit(0);
}

static void in_thread(void *(*start)(void *))
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, start, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void exits_0_in_thread(void **state)
{
    (void)state;
    in_thread(exit_0);
}

static void exit_0_at_once(void)
{
    _exit(0);
}

/* What would have been found at the exit (a leak report) is never looked for. */
static void underscore_exits_0_at_exit(void **state)
{
    (void)state;
    atexit(exit_0_at_once);
}

static void write_to_null_at_exit(void)
{
    volatile char *volatile nowhere = (volatile char *)(uintptr_t)16; /* in the page of NULL */
    *nowhere = 1;
}

static void crashes_at_exit(void **state)
{
    (void)state;
    atexit(write_to_null_at_exit);
}

static void executes_true(void **state)
{
    (void)state;
    execlp("true", "true", (char *)NULL);
    fail();
}

static void executes_sleep(void **state)
{
    (void)state;
    execlp("sleep", "sleep", "1000", (char *)NULL);
    fail();
}

/* Both come to the end of the body; only one of them is the test. */
static void forks_and_both_return(void **state)
{
    (void)state;
    int status = 1;
    pid_t pid = fork();
    if (pid > 0) {
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

/* The child's pass is not the test's: that exits before its end. */
static void child_returns_and_parent_exits_0(void **state)
{
    (void)state;
    pid_t pid = fork();
    if (pid > 0) {
        (void)waitpid(pid, NULL, 0);
        _exit(0);
    }
}

/* ---- forgery and lost channels ---- */

static void write_everywhere(const char *text)
{
    for (int fd = 0; fd < 256; fd++) {
        (void)!write(fd, text, strlen(text));
    }
}

/* Also through what /proc shows of the process that watches. */
static void write_to_the_watcher(const char *text)
{
    for (int fd = 0; fd < 16; fd++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getppid(), fd);
        int out = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
        if (out >= 0) {
            (void)!write(out, text, strlen(text));
            close(out);
        }
    }
}

static void forges_a_pass_and_exits_0(void **state)
{
    (void)state;
    static const char words[] =
        "passed\nok 1 - corpus_forges_a_pass_and_exits_0\n# verdict: passed\n"
        "1..1\nrecord 00000000000000000000000000000000 0 10\n"
        "ok 1 - x\n1..1\n1 passed, 0 failed, 0 skipped\n";
    write_everywhere(words);
    write_to_the_watcher(words);
    _exit(0);
}

static void close_everything(void)
{
    assert_int_equal(syscall(SYS_close_range, 0u, ~0u, 0u), 0);
}

static void closes_everything(void **state)
{
    (void)state;
    close_everything();
}

static void closes_everything_and_fails(void **state)
{
    (void)state;
    close_everything();
    fail();
}

static void closes_everything_and_hangs(void **state)
{
    (void)state;
    close_everything();
    for (;;) {
        pause();
    }
}

static void prints_tap_and_fails(void **state)
{
    (void)state;
    printf("ok 1 - corpus_prints_tap_and_fails\n1..1\n# verdict: passed\n# | quoted\nBail out!\n");
    fail();
}

static void prints_no_newline_and_fails(void **state)
{
    (void)state;
    printf("an unfinished line");
    fail();
}

static void prints_100_mb(void **state)
{
    (void)state;
    static char block[1 << 16];
    memset(block, 'x', sizeof block);
    for (int i = 0; i < 1600; i++) {
        fwrite(block, 1, sizeof block, stdout);
    }
}

/* ---- signals ---- */

static void stops_itself(void **state)
{
    (void)state;
    raise(SIGSTOP);
}

static void kills_its_group(void **state)
{
    (void)state;
    kill(0, SIGKILL);
}

static void blocks_signals_and_hangs(void **state)
{
    (void)state;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (;;) {
        pause();
    }
}

static void changes_its_signals(void **state)
{
    (void)state;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int i = 1; i < 32; i++) {
        signal(i, SIG_IGN);
    }
}

static void alarm_ends_it(void **state)
{
    (void)state;
    ualarm(1000, 0);
    for (;;) {
        pause();
    }
}

static void fail_on_alarm(int number)
{
    (void)number;
    fail();
}

static void fails_in_a_handler(void **state)
{
    (void)state;
    signal(SIGALRM, fail_on_alarm);
    ualarm(1000, 0);
    for (;;) {
        pause();
    }
}

static void traps(void **state)
{
    (void)state;
    raise(SIGILL);
}

static void meets_a_hole_in_a_file(void **state)
{
    (void)state;
    int fd = memfd_create("hole", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    volatile char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(at, MAP_FAILED);
    assert_int_equal(ftruncate(fd, 0), 0);
    at[0] = 1;
}

static void sends_itself_sigsegv(void **state)
{
    (void)state;
    kill(getpid(), SIGSEGV);
    pause();
}

static void runs_out_of_processor_time(void **state)
{
    (void)state;
    assert_int_equal(setrlimit(RLIMIT_CPU, &(struct rlimit){1, 2}), 0);
    for (volatile unsigned i = 0;; i++) {
    }
}

/* ---- threads ---- */

static void *assert_wrongly(void *arg)
{
    (void)arg;
    assert_int_equal(1, 2);
    return NULL;
}

static void fails_in_a_thread(void **state)
{
    (void)state;
    in_thread(assert_wrongly);
}

static unsigned fall_deeper(unsigned depth)
{
    volatile char frame[4096];
    memset((char *)(uintptr_t)frame, (int)(depth & 0x7f), sizeof frame);
    return depth == UINT32_MAX
               ? 0
               : fall_deeper(depth + 1) + (unsigned char)frame[depth % sizeof frame];
}

static void *overflow(void *arg)
{
    (void)arg;
    return (void *)(uintptr_t)fall_deeper(0);
}

static void overflows_the_stack_of_a_thread(void **state)
{
    (void)state;
    in_thread(overflow);
}

static void *crash(void *arg)
{
    write_to_null_at_exit();
    return arg;
}

static void crashes_in_a_thread(void **state)
{
    (void)state;
    in_thread(crash);
}

static pthread_mutex_t left = PTHREAD_MUTEX_INITIALIZER, right = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both_have_one;

static void *corpus_takes_right_then_left(void *arg)
{
    pthread_mutex_lock(&right);
    pthread_barrier_wait(&both_have_one);
    pthread_mutex_lock(&left);
    return arg;
}

static void threads_deadlock(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_barrier_init(&both_have_one, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, corpus_takes_right_then_left, NULL), 0);
    pthread_mutex_lock(&left);
    pthread_barrier_wait(&both_have_one);
    pthread_mutex_lock(&right);
}

static void *wait_for_ever(void *arg)
{
    for (;;) {
        pause();
    }
    return arg;
}

static void leaves_a_thread(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, NULL), 0);
    assert_int_equal(pthread_detach(thread), 0);
}

/* ---- cmocka within ---- */

static void inner_passes(void **state)
{
    (void)state;
}

static void inner_fails(void **state)
{
    (void)state;
    fail();
}

static int refuse_setup(void **state)
{
    (void)state;
    return -1;
}

static void nested_group_passes(void **state)
{
    (void)state;
    const struct CMUnitTest inner[] = {cmocka_unit_test(inner_passes)};
    if (cmocka_run_group_tests(inner, NULL, NULL) != 0) {
        abort();
    }
}

/* The outer test is over for cmocka once a nested group ran: its assertion ends the process. */
static void fails_after_a_nested_group(void **state)
{
    (void)state;
    const struct CMUnitTest inner[] = {cmocka_unit_test(inner_fails)};
    assert_int_equal(cmocka_run_group_tests(inner, NULL, NULL), 0);
}

static void nested_group_without_setup(void **state)
{
    (void)state;
    const struct CMUnitTest inner[] = {cmocka_unit_test(inner_passes)};
    if (cmocka_run_group_tests(inner, refuse_setup, NULL) != 0) {
        exit(7);
    }
}

static void filters_itself_away(void **state)
{
    (void)state;
    cmocka_set_test_filter("no test has this name");
    fail();
}

static void names_a_cause(void **state)
{
    (void)state;
    suite_infrastructure("network", "the server is %s", "away");
}

static const struct suite_test tests[] = {
    {.name = "corpus_exits_0_in_thread", .body = exits_0_in_thread},
    {.name = "corpus_underscore_exits_0_at_exit", .body = underscore_exits_0_at_exit},
    {.name = "corpus_crashes_at_exit", .body = crashes_at_exit},
    {.name = "corpus_executes_true", .body = executes_true},
    {.name = "corpus_executes_sleep", .body = executes_sleep, .timeout_ms = 300},
    {.name = "corpus_forks_and_both_return", .body = forks_and_both_return},
    {.name = "corpus_child_returns_and_parent_exits_0", .body = child_returns_and_parent_exits_0},
    {.name = "corpus_forges_a_pass_and_exits_0", .body = forges_a_pass_and_exits_0},
    {.name = "corpus_closes_everything", .body = closes_everything},
    {.name = "corpus_closes_everything_and_fails", .body = closes_everything_and_fails},
    {.name = "corpus_closes_everything_and_hangs",
     .body = closes_everything_and_hangs,
     .timeout_ms = 300},
    {.name = "corpus_prints_tap_and_fails", .body = prints_tap_and_fails},
    {.name = "corpus_prints_no_newline_and_fails", .body = prints_no_newline_and_fails},
    {.name = "corpus_prints_100_mb", .body = prints_100_mb, .timeout_ms = 60000},
    {.name = "corpus_stops_itself", .body = stops_itself, .timeout_ms = 300},
    {.name = "corpus_kills_its_group", .body = kills_its_group},
    {.name = "corpus_blocks_signals_and_hangs",
     .body = blocks_signals_and_hangs,
     .timeout_ms = 300},
    {.name = "corpus_changes_its_signals", .body = changes_its_signals},
    {.name = "corpus_alarm_ends_it", .body = alarm_ends_it},
    {.name = "corpus_fails_in_a_handler", .body = fails_in_a_handler},
    {.name = "corpus_traps", .body = traps},
    {.name = "corpus_meets_a_hole_in_a_file", .body = meets_a_hole_in_a_file},
    {.name = "corpus_sends_itself_sigsegv", .body = sends_itself_sigsegv},
    {.name = "corpus_runs_out_of_processor_time",
     .body = runs_out_of_processor_time,
     .timeout_ms = 60000},
    {.name = "corpus_fails_in_a_thread", .body = fails_in_a_thread},
    {.name = "corpus_overflows_the_stack_of_a_thread", .body = overflows_the_stack_of_a_thread},
    {.name = "corpus_crashes_in_a_thread", .body = crashes_in_a_thread},
    {.name = "corpus_threads_deadlock", .body = threads_deadlock, .timeout_ms = 500},
    {.name = "corpus_leaves_a_thread", .body = leaves_a_thread},
    {.name = "corpus_nested_group_passes", .body = nested_group_passes},
    {.name = "corpus_fails_after_a_nested_group", .body = fails_after_a_nested_group},
    {.name = "corpus_nested_group_without_setup", .body = nested_group_without_setup},
    {.name = "corpus_filters_itself_away", .body = filters_itself_away},
    {.name = "corpus_names_a_cause", .body = names_a_cause},
    {0},
};

const struct suite suite_corpus_ends = {"corpus_ends", tests, NULL};
