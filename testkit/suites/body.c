/* The inside of a test's process. See body.h.
 *
 * cmocka catches crash signals to go on in the same process; here the process is the test's own, so
 * the handlers that were there before (a sanitizer's, or ours, which write down what happened and
 * let the signal kill) are put back. */
#include "testkit/suites/body.h"

#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/fault.h"
#include "testkit/suites/confine.h"
#include "testkit/suites/test_place.h"
#include "testkit/suites/support.h"
#include "testkit/suites/thread_stack.h"
#include "testkit/suites/traits.h"

enum {
    FDS_MAX = 4096,
    STACK_SLACK_BYTES = 1 << 20, /* a frame, or the kernel's guard gap, may be this large */
};

/* What a fault raises; and what others send. */
static const int crash_signals[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS, SIGABRT, SIGTRAP};
static const int sent_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
enum {
    N_CRASH_SIGNALS = sizeof crash_signals / sizeof crash_signals[0],
    N_SENT_SIGNALS = sizeof sent_signals / sizeof sent_signals[0],
};

/* State of this process; one test per process. */
static struct {
    const struct suite_test *test;
    struct body_page *page;
    struct sigaction crash_handlers[N_CRASH_SIGNALS];
    unsigned char open_before[FDS_MAX / 8];
    bool returned;
    char alternate_stack[THREAD_ALTERNATE_BYTES];
} child;

static bool is_leader(void)
{
    return getpid() == child.page->leader;
}

/* ---- signals ---- */

static uintptr_t stack_pointer(const void *context)
{
    const ucontext_t *c = context;
#if defined(__x86_64__)
    return (uintptr_t)c->uc_mcontext.gregs[REG_RSP];
#elif defined(__aarch64__)
    return (uintptr_t)c->uc_mcontext.sp;
#else
    (void)c;
    return 0;
#endif
}

/* A fault near the lowest address that the thread's stack may reach. */
static bool is_at_stack_end(uintptr_t address, const void *context)
{
    uintptr_t bottom = thread_stack_bottom();
    return bottom != 0 && !BNT_FAULT(stack_end) && address < bottom + STACK_SLACK_BYTES &&
           address + STACK_SLACK_BYTES > bottom &&
           stack_pointer(context) < bottom + STACK_SLACK_BYTES;
}

static void write_trace(void)
{
    unsigned i = __atomic_fetch_add(&child.page->n_traces, 1, __ATOMIC_RELAXED);
    if (i < BODY_THREADS_MAX) {
        struct body_trace *t = &child.page->traces[i];
        t->tid = (pid_t)syscall(SYS_gettid);
        t->n_frames = backtrace(t->frames, BODY_FRAMES_MAX);
    }
}

static void on_trace(int number)
{
    (void)number;
    write_trace();
}

int body_trace_signal(void)
{
    return SIGRTMAX - 3;
}

/* The most address space that this process had, where that is limited. Safe in a signal handler. */
static void note_memory(void)
{
    char text[4096];
    int fd = child.page->memory_limit ? open("/proc/self/status", O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (n > 0) {
        text[n] = '\0';
        const char *peak = strstr(text, "VmPeak:");
        child.page->memory_peak = peak ? strtoull(peak + 7, NULL, 10) * 1024 : 0;
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* Written down, then left to do what it does to a process that does not catch it. */
static void on_fatal(int number, siginfo_t *info, void *context)
{
    signal(number, SIG_DFL);
    if (is_leader()) {
        struct body_page *page = child.page;
        bool is_fault = info->si_code > 0;
        page->fault.code = info->si_code;
        page->fault.sender = is_fault ? 0 : info->si_pid;
        page->fault.address = is_fault ? (uint64_t)(uintptr_t)info->si_addr : 0;
        page->fault.at_stack_end =
            is_fault && number == SIGSEGV && is_at_stack_end((uintptr_t)info->si_addr, context);
        page->fault.number = number;
        note_memory();
        write_trace();
    }
    raise(number);
}

/* A handler that is there already is a sanitizer's: its report says more. */
static void catch_unless_caught(int number)
{
    struct sigaction now;
    struct sigaction ours = {.sa_sigaction = on_fatal,
                             .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
        sigaction(number, &ours, NULL);
    }
}

static void catch_signals(void)
{
    thread_stack_prepare(child.alternate_stack, sizeof child.alternate_stack);
    for (int i = 0; i < N_CRASH_SIGNALS; i++) {
        catch_unless_caught(crash_signals[i]);
        sigaction(crash_signals[i], NULL, &child.crash_handlers[i]);
    }
    for (int i = 0; i < N_SENT_SIGNALS; i++) {
        catch_unless_caught(sent_signals[i]);
    }
    sigaction(body_trace_signal(),
              &(struct sigaction){.sa_handler = on_trace, .sa_flags = SA_RESTART}, NULL);
}

/* ---- descriptors ---- */

/* Call visit for each descriptor that is open now. */
static void each_open_fd(void (*visit)(int fd))
{
    DIR *dir = opendir("/proc/self/fd");
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        int fd = (int)strtol(e->d_name, NULL, 10);
        if (e->d_name[0] != '.' && fd != dirfd(dir) && fd < FDS_MAX) {
            visit(fd);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

static void note_open(int fd)
{
    child.open_before[fd / 8] |= (unsigned char)(1 << fd % 8);
}

static void note_leaked(int fd)
{
    char link[64];
    char target[64];
    char *out = child.page->leaked_fds;
    size_t len = strlen(out);
    if (child.open_before[fd / 8] & 1 << fd % 8) {
        return;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, target, sizeof target - 1);
    target[n > 0 ? n : 0] = '\0';
    snprintf(out + len, sizeof child.page->leaked_fds - len, "%s%d -> %s", len ? ", " : "", fd,
             target);
}

/* ---- the body ---- */

/* cmocka sets its own handlers before a test and, after it, the former ones without their flags. */
static void restore_handlers(void)
{
    for (int i = 0; i < N_CRASH_SIGNALS; i++) {
        sigaction(crash_signals[i], &child.crash_handlers[i], NULL);
    }
}

/* What starts threads and does not say so would never be looked at by ThreadSanitizer. */
static void check_threads(void)
{
    const struct traits *traits = traits_of_test(child.test);
    if (traits && traits->threads == SUITE_NO_THREADS && thread_stack_any_started() &&
        !BNT_FAULT(threads_untold)) {
        fail_msg("it started a thread: say so in the row of suite %s in "
                 "testkit/suites/traits.def",
                 traits->suite->name);
    }
}

static void call_body(void **state)
{
    restore_handlers();
    each_open_fd(note_open);
    support_skip_into(child.page->skip_why, sizeof child.page->skip_why);
    child.page->stage = BODY_RUNS;
    child.test->body(state);
    child.returned = true;
    if (is_leader() && !child.test->keeps_fds) {
        each_open_fd(note_leaked);
    }
    check_threads();
}

/* Registered before the body's handlers, so called after them. */
static void on_exit_reached(void)
{
    if (is_leader()) {
        note_memory();
        child.page->exit_aside = (pid_t)syscall(SYS_gettid) != child.page->leader;
        child.page->exiting = true;
    }
}

static enum body_stage outcome(int n_failed)
{
    return n_failed != 0 ? BODY_FAILED : child.returned ? BODY_PASSED : BODY_SKIPPED;
}

int body_run(const struct body_spec *spec)
{
    child.test = spec->test;
    child.page = spec->page;
    child.page->leader = getpid();
    child.page->anchor = (uintptr_t)&body_run;
    if (!test_place_enter(spec->root) || !confine_enter(spec)) {
        return 1;
    }
    catch_signals();
    atexit(on_exit_reached);
    setvbuf(stdout, NULL, _IOLBF, 0);
    const struct CMUnitTest group[] = {
        {child.test->name, call_body, NULL, NULL, (void *)(uintptr_t)child.test->ctx}};
    int n_failed = cmocka_run_group_tests_name(child.test->name, group, NULL, NULL);
    restore_handlers();
    if (is_leader()) {
        note_memory();
        snprintf(child.page->cause, sizeof child.page->cause, "%s",
                 n_failed && support_cause() ? support_cause() : "");
        child.page->stage = outcome(n_failed);
    }
    fflush(NULL);
    return n_failed == 0 ? 0 : 1;
}
