/* One test in one process. See isolate.h; what its end means is judge.c's. */
#include "testkit/suites/isolate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/memory_group.h"
#include "testkit/proc.h"
#include "testkit/suites/body.h"
#include "testkit/suites/confine.h"
#include "testkit/suites/judge.h"
#include "testkit/suites/test_place.h"
#include "testkit/suites/support.h"
#include "testkit/suites/trace.h"

enum {
    DEFAULT_TIMEOUT_MS = 10 * 1000,
    SLOW_BUILD_FACTOR = 6,
    GRACE_MS = 300, /* between SIGTERM and SIGKILL: for a test that cleans up outside itself */
    DEFAULT_MEMORY_MIB = 4096,
    TRACE_MAX_BYTES = 1 << 20,
};

/* One attempt to run one test. */
struct attempt {
    struct body_spec spec;
    int page_fd; /* of spec.page, for a test that is executed */
    char root[BNT_PATH_MAX];
    struct bnt_buf trace;
};

static bool map_page(struct attempt *a)
{
    a->page_fd = memfd_create("bnt-test-page", MFD_CLOEXEC);
    if (a->page_fd < 0 || ftruncate(a->page_fd, sizeof *a->spec.page) != 0) {
        return false;
    }
    void *page =
        mmap(NULL, sizeof *a->spec.page, PROT_READ | PROT_WRITE, MAP_SHARED, a->page_fd, 0);
    a->spec.page = page == MAP_FAILED ? NULL : page;
    return a->spec.page != NULL;
}

static bool is_fresh(const struct suite_test *test)
{
    return test->fresh || suite_needs_word(test->needs, "cuda");
}

/* In the child of a test that is executed: this program once more, with the page's descriptor. */
static int execute_body(const struct attempt *a)
{
    char fd[16];
    char exe[BNT_PATH_MAX];
    snprintf(fd, sizeof fd, "%d", a->page_fd);
    (void)fcntl(a->page_fd, F_SETFD, 0);
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (len > 0) {
        exe[len] = '\0';
        execl(exe, exe, "--body", a->spec.test->name, "--page", fd, "--place", a->root,
              (char *)NULL);
    }
    snprintf(a->spec.page->trouble, sizeof a->spec.page->trouble, "cannot execute %.100s", exe);
    return 1;
}

/* One for all tests, one after another; opened before the first of them. */
static struct {
    bool is_open;
    struct memory_group group;
} memory;

static struct memory_group *memory_of_tests(void)
{
    if (!memory.is_open) {
        memory_group_open(&memory.group);
        memory.is_open = true;
    }
    return &memory.group;
}

void isolate_end(void)
{
    if (memory.is_open) {
        memory_group_close(&memory.group);
        memory.is_open = false;
    }
}

static int child_main(void *ctx)
{
    const struct attempt *a = ctx;
    if (!a->spec.group || !memory_group_enter(a->spec.group)) {
        a->spec.page->not_enforced |= CONFINE_MEMORY;
    }
    return is_fresh(a->spec.test) ? execute_body(a) : body_run(&a->spec);
}

int isolate_fresh_body(const struct suite_test *test, int page_fd, const char *root)
{
    struct body_spec spec = {.test = test, .root = root};
    void *page = mmap(NULL, sizeof *spec.page, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
    if (page == MAP_FAILED) {
        return 1;
    }
    spec.page = page;
    confine_prepare(test);
    trace_prepare();
    return body_run(&spec);
}

/* ---- watching ---- */

static bool is_stopped(pid_t pid)
{
    char path[64];
    char text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f) {
        text[fread(text, 1, sizeof text - 1, f)] = '\0';
        fclose(f);
    }
    const char *state = strrchr(text, ')');
    return state && state[1] == ' ' && state[2] == 'T';
}

static void before_end(void *ctx, struct proc *p)
{
    struct attempt *a = ctx;
    a->spec.page->stopped = is_stopped(p->pid);
    trace_take(p->pid, a->spec.page, &a->trace);
}

/* Kills by the kernel's out-of-memory killer since the system started. */
static unsigned long long oom_kills(void)
{
    char line[128];
    unsigned long long n = 0;
    FILE *f = fopen("/proc/vmstat", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (strncmp(line, "oom_kill ", 9) == 0) {
            n = strtoull(line + 9, NULL, 10);
        }
    }
    if (f) {
        fclose(f);
    }
    return n;
}

static void conclude(struct attempt *a, const struct proc *p, bool oom_killer,
                     struct isolate_result *r)
{
    const struct memory_group *group = a->spec.group;
    char left[160];
    char *output = proc_output(p, PROC_OUT);
    test_place_list_left(a->root, left, sizeof left);
    const struct judge_evidence evidence = {.proc = p,
                                            .page = a->spec.page,
                                            .output = output ? output : "",
                                            .leaked_files = left,
                                            .oom_killer = oom_killer,
                                            .group_kills = group ? memory_group_kills(group) : 0,
                                            .group = group ? memory_group_name(group) : ""};
    judge(&evidence, r);
    if (p->end == PROC_SIGNALED) {
        trace_show(a->spec.page, &a->trace);
    }
    struct bnt_buf all = BNT_BUF(2 * TRACE_MAX_BYTES);
    (void)bnt_buf_printf(&all, NULL, "%s%s", output ? output : "", bnt_buf_view(&a->trace));
    r->output = bnt_buf_take(&all);
    r->wall_ns = p->wall_ns;
    r->not_enforced = a->spec.page->not_enforced;
    bnt_buf_release(&all);
    free(output);
}

static void run_body(struct attempt *a, const volatile sig_atomic_t *stop, struct isolate_result *r)
{
    struct bnt_err err = {0};
    struct proc p;
    const struct suite_test *test = a->spec.test;
    struct proc_spec spec = {
        .body = child_main,
        .before_end = before_end,
        .ctx = a,
        .merge = true,
        .sole = true,
        .memory_bytes = (uint64_t)(test->memory_mib ? test->memory_mib : DEFAULT_MEMORY_MIB) << 20,
        .timeout_ms = isolate_timeout_ms(test),
        .grace_ms = GRACE_MS,
    };
    unsigned long long kills = oom_kills();
    struct memory_group *group = memory_of_tests();
    a->spec.group = memory_group_limit(group, spec.memory_bytes) ? group : NULL;
    spec.memory_held = a->spec.group != NULL;
    if (proc_start(&p, &spec, &err) != BNT_OK) {
        r->verdict = VERDICT_NOT_STARTED;
        snprintf(r->why, sizeof r->why, "did not start: %.256s", err.msg);
        return;
    }
    while (!proc_done(&p)) {
        if (*stop) {
            proc_stop(&p);
        }
        proc_serve(&p, 1, 50);
        if (a->spec.page->not_enforced & CONFINE_MEMORY) {
            p.memory_held = false; /* it could not enter the group */
        }
        if (a->spec.group && memory_group_kills(group) > 0) {
            proc_end_over_memory(&p);
        }
    }
    conclude(a, &p, oom_kills() != kills, r);
    proc_release(&p);
}

/* ---- its time ---- */

/* Sanitizers and unoptimised code cost 2x to 10x; a deadline is against hangs and must not measure
 * them. */
unsigned isolate_timeout_ms(const struct suite_test *test)
{
    unsigned ms = test->timeout_ms ? test->timeout_ms : DEFAULT_TIMEOUT_MS;
    const char *no_limit = getenv("BNT_TEST_NO_LIMIT"); /* somebody is looking with a debugger */
    if (no_limit && strcmp(no_limit, "1") == 0) {
        return 0;
    }
    return strcmp(BNT_CONFIG, "release") == 0 ? ms : ms * SLOW_BUILD_FACTOR;
}

/* Whether how long a test takes is for its model to say, which whoever runs it chose: room for a
 * larger one is no mistake. */
static bool time_is_the_models(const struct suite_test *test)
{
    const char *of_a_user = getenv("BNT_SUITE_FILES");
    return test->subjects || (of_a_user && of_a_user[0]);
}

/* Half of its time is too near to a machine that is twice as slow; a class that is far larger than
 * another which would do lets a hang cost more than it must. */
static void warn_of_time(const struct suite_test *test, struct isolate_result *r)
{
    static const unsigned classes[] = {10000, 30000, 60000, 120000, 300000, 600000};
    enum { ROOM = 20, N = sizeof classes / sizeof classes[0] };
    unsigned limit = isolate_timeout_ms(test);
    uint64_t took = r->wall_ns / 1000000u;
    size_t fit = 0;
    if (limit == 0 || r->verdict != VERDICT_PASSED || strcmp(BNT_CONFIG, "release") != 0) {
        return;
    }
    while (fit < N - 1 && classes[fit] < took * ROOM) {
        fit++;
    }
    if (took > limit / 2) {
        snprintf(r->time, sizeof r->time, "took %.1f s of its %.1f s: too tight a time",
                 (double)took / 1e3, limit / 1e3);
    } else if (fit + 2 < N && limit > classes[fit + 2] && !time_is_the_models(test)) {
        snprintf(r->time, sizeof r->time, "took %.1f s of its %.0f s: %.0f s would do",
                 (double)took / 1e3, limit / 1e3, classes[fit] / 1e3);
    }
}

/* ---- all of it ---- */

/* A fork copies only the thread that calls it, and locks that the others hold stay locked. The
 * thread sanitizer has one of its own, and takes care of it. */
static bool has_one_thread(void)
{
    struct stat st;
    return strcmp(BNT_CONFIG, "tsan") == 0 || stat("/proc/self/task", &st) != 0 || st.st_nlink <= 3;
}

static void run_in_place(const struct suite_test *test, const volatile sig_atomic_t *stop,
                         struct isolate_result *r)
{
    struct bnt_err err = {0};
    struct attempt a = {.spec = {.test = test}, .page_fd = -1, .trace = BNT_BUF(TRACE_MAX_BYTES)};
    a.spec.root = a.root;
    r->verdict = VERDICT_NOT_STARTED;
    if (!has_one_thread()) {
        snprintf(r->why, sizeof r->why, "this process has several threads and must not fork");
    } else if (!map_page(&a)) {
        snprintf(r->why, sizeof r->why, "no page of shared memory: %s", strerror(errno));
    } else if (test_place_make(a.root, &err) != BNT_OK) {
        snprintf(r->why, sizeof r->why, "no scratch folder: %.256s", err.msg);
    } else {
        confine_prepare(test);
        trace_prepare();
        run_body(&a, stop, r);
        warn_of_time(test, r);
        test_place_give_back(a.root);
    }
    if (a.spec.page) {
        munmap(a.spec.page, sizeof *a.spec.page);
    }
    if (a.page_fd >= 0) {
        close(a.page_fd);
    }
    bnt_buf_release(&a.trace);
}

void isolate_run(const struct suite_test *test, const volatile sig_atomic_t *stop,
                 struct isolate_result *result)
{
    *result = (struct isolate_result){.verdict = VERDICT_NOT_STARTED};
    const char *unknown = suite_need_unknown(test->needs);
    if (unknown) {
        snprintf(result->why, sizeof result->why, "unknown need: %s", unknown);
        return;
    }
    const char *missing = suite_need_missing(test->needs);
    if (missing) {
        result->verdict = VERDICT_SKIPPED;
        snprintf(result->why, sizeof result->why, "needs: %s", missing);
        return;
    }
    run_in_place(test, stop, result);
}

void isolate_release(struct isolate_result *result)
{
    free(result->output);
    result->output = NULL;
}
