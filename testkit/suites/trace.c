/* Stacks of a test's threads. See trace.h. */
#include "testkit/suites/trace.h"

#include <dirent.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "testkit/proc.h"
#include "testkit/suites/support.h"

enum {
    GDB_TIMEOUT_MS = 8000,
    NAMES_TIMEOUT_MS = 5000,
    THREADS_WAIT_MS = 300,
    ARGS_MAX = 256,
    ADDRESS_CHARS = 24,
};

void trace_prepare(void)
{
    void *frames[4];
    (void)backtrace(frames, 4);
}

/* ---- by gdb ---- */

/* False when gdb is not there or said nothing. */
static bool take_with_gdb(pid_t pid, struct bnt_buf *out)
{
    char number[16];
    snprintf(number, sizeof number, "%d", (int)pid);
    const char *const argv[] = {"gdb",
                                "-nx",
                                "-batch",
                                "-iex",
                                "set debuginfod enabled off",
                                "-p",
                                number,
                                "-ex",
                                "thread apply all backtrace 40",
                                NULL};
    struct proc p;
    const struct proc_spec spec = {.argv = (char *const *)(uintptr_t)argv,
                                   .timeout_ms = GDB_TIMEOUT_MS};
    if (proc_run(&p, &spec, NULL) != BNT_OK) {
        return false;
    }
    char *text = proc_output(&p, PROC_OUT);
    const char *from = text ? strstr(text, "\nThread ") : NULL;
    if (from) {
        (void)bnt_buf_printf(out, NULL, "\nstacks, by gdb:%s", from);
    }
    free(text);
    proc_release(&p);
    return from != NULL;
}

/* ---- by a signal to each thread ---- */

static unsigned signal_threads(pid_t pid)
{
    char path[64];
    unsigned n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);
        n += tid > 0 && syscall(SYS_tgkill, pid, tid, body_trace_signal()) == 0;
    }
    if (dir) {
        closedir(dir);
    }
    return n;
}

static unsigned n_complete(const struct body_page *page)
{
    unsigned n = 0;
    for (int i = 0; i < BODY_THREADS_MAX; i++) {
        n += page->traces[i].n_frames > 0;
    }
    return n;
}

static void take_by_signal(pid_t pid, struct body_page *page, struct bnt_buf *out)
{
    unsigned before = n_complete(page);
    unsigned n = signal_threads(pid);
    for (int ms = 0; ms < THREADS_WAIT_MS && n_complete(page) < before + n; ms += 2) {
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    }
    unsigned got = n_complete(page) - before;
    trace_show(page, out);
    if (got < n) {
        (void)bnt_buf_printf(out, NULL, "%u of %u threads gave no stack\n", n - got, n);
    }
}

void trace_take(pid_t pid, struct body_page *page, struct bnt_buf *out)
{
    const char *how = getenv("BNT_TEST_BACKTRACE");
    if (!how) {
        how = "gdb";
    }
    if (strcmp(how, "off") == 0 ||
        (strcmp(how, "gdb") == 0 && support_program_in_path("gdb") && take_with_gdb(pid, out))) {
        return;
    }
    take_by_signal(pid, page, out);
}

/* ---- names for addresses ---- */

/* The program's own addresses, as offsets for addr2line. */
struct addresses {
    char text[ARGS_MAX][ADDRESS_CHARS];
    size_t n;
};

/* Where the watcher has what the test had at `address`; a test that was executed anew lies
 * elsewhere. */
static uintptr_t here(const struct body_page *page, const void *address)
{
    return (uintptr_t)address - page->anchor + (uintptr_t)&body_run;
}

/* True when it is the program's own; *offset is then its place in the file. */
static bool own_offset(const struct body_page *page, const void *address, uintptr_t *offset)
{
    static Dl_info self;
    Dl_info info;
    uintptr_t at = here(page, address);
    if (!self.dli_fbase && !dladdr((void *)(uintptr_t)&body_run, &self)) {
        return false;
    }
    if (!dladdr((void *)at, &info) || info.dli_fbase != self.dli_fbase) {
        return false;
    }
    *offset = at - (uintptr_t)info.dli_fbase;
    return true;
}

static void collect(const struct body_page *page, struct addresses *all)
{
    for (int t = 0; t < BODY_THREADS_MAX; t++) {
        for (int i = 0; i < page->traces[t].n_frames; i++) {
            uintptr_t offset;
            if (all->n < ARGS_MAX && own_offset(page, page->traces[t].frames[i], &offset)) {
                /* A return address is behind its call. */
                snprintf(all->text[all->n++], ADDRESS_CHARS, "0x%lx", (unsigned long)(offset - 1));
            }
        }
    }
}

/* A line of "function at file:line" per address; NULL when nobody can tell. The caller frees. */
static char *name_addresses(const struct addresses *all)
{
    char exe[BNT_PATH_MAX];
    const char *argv[ARGS_MAX + 8] = {"addr2line", "-f", "-p", "-s", "-e", exe};
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    struct proc p;
    if (len <= 0 || all->n == 0 || !support_program_in_path("addr2line")) {
        return NULL;
    }
    exe[len] = '\0';
    for (size_t i = 0; i < all->n; i++) {
        argv[6 + i] = all->text[i];
    }
    const struct proc_spec spec = {.argv = (char *const *)(uintptr_t)argv,
                                   .timeout_ms = NAMES_TIMEOUT_MS};
    if (proc_run(&p, &spec, NULL) != BNT_OK) {
        return NULL;
    }
    char *text = p.end == PROC_EXITED && p.code == 0 ? proc_output(&p, PROC_OUT) : NULL;
    proc_release(&p);
    return text;
}

/* False at the end of what is the test's. */
static bool show_frame(const struct body_page *page, const void *address, char **names,
                       struct bnt_buf *out)
{
    uintptr_t offset;
    Dl_info info;
    if (own_offset(page, address, &offset)) {
        const char *line = *names ? strsep(names, "\n") : NULL;
        if (line && strncmp(line, "write_trace ", 12) == 0) {
            return true;
        }
        if (line && strncmp(line, "call_body ", 10) == 0) {
            return false;
        }
        (void)bnt_buf_printf(out, NULL, "  bnt-suites+0x%lx %s\n", (unsigned long)offset,
                             line ? line : "");
    } else if (page->anchor == (uintptr_t)&body_run && dladdr(address, &info) && info.dli_fname) {
        const char *base = strrchr(info.dli_fname, '/');
        (void)bnt_buf_printf(out, NULL, "  %s+0x%lx %s\n", base ? base + 1 : info.dli_fname,
                             (unsigned long)((uintptr_t)address - (uintptr_t)info.dli_fbase),
                             info.dli_sname ? info.dli_sname : "");
    } else {
        (void)bnt_buf_printf(out, NULL, "  %p\n", address);
    }
    return true;
}

static void show_thread(const struct body_page *page, const struct body_trace *t, char **names,
                        struct bnt_buf *out)
{
    bool own = true;
    if (t->n_frames > 0) {
        (void)bnt_buf_printf(out, NULL, "\nstack of thread %d%s:\n", (int)t->tid,
                             t->tid == page->leader ? " (the test's first)" : "");
    }
    for (int i = 0; i < t->n_frames; i++) {
        struct bnt_buf unseen = BNT_BUF(4096); /* names are taken in step even past the end */
        own &= show_frame(page, t->frames[i], names, own ? out : &unseen);
        bnt_buf_release(&unseen);
    }
}

void trace_show(const struct body_page *page, struct bnt_buf *out)
{
    struct addresses *all = calloc(1, sizeof *all);
    if (!all || n_complete(page) == 0) {
        free(all);
        return;
    }
    collect(page, all);
    char *names = name_addresses(all);
    char *rest = names;
    for (int t = 0; t < BODY_THREADS_MAX; t++) {
        show_thread(page, &page->traces[t], &rest, out);
    }
    free(names);
    free(all);
}
