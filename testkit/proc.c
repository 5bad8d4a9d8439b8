/* Child processes of the testkit. See proc.h.
 *
 * Invariants: while a proc runs, pid > 0 and group == pid; a stream's descriptor is open exactly
 * until its end of file or the child's end. A leaked grandchild that holds a pipe open cannot hang
 * us: the child's own end decides, not the end of its output. There is no SIGCHLD handler: poll
 * wakes on the child's pidfd, where the kernel has none on the pipes' end of file, and at the
 * latest after REAP_MS. */
#include "testkit/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "testkit/proc_tree.h"

enum {
    KEEP_BYTES = 128 * 1024,
    FLOOD_BYTES = 16 * 1024 * 1024,
    READ_BYTES = 16 * 1024,
    MAX_PROCS = 256,
    REAP_MS = 20,    /* longest time between two looks at a child that closed none of its pipes */
    ENDING_MS = 100, /* for a process that its parent killed but did not wait for */
    MEASURE_MS = 20, /* between two looks at the memory of a child with a limit */
};

uint64_t proc_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t ms_to_ns(unsigned ms)
{
    return (uint64_t)ms * 1000000u;
}

/* The first half of `keep` stays; when the rest is full, its oldest quarter goes. */
static void capture_append(struct proc_capture *c, const char *bytes, size_t n)
{
    c->total += n;
    if (!c->data) {
        c->data = malloc(c->keep);
        if (!c->data) {
            return;
        }
    }
    while (n > 0) {
        if (c->len == c->keep) {
            size_t head = c->keep / 2;
            size_t drop = c->keep / 4;
            memmove(c->data + head, c->data + head + drop, c->keep - head - drop);
            c->len -= drop;
        }
        size_t room = c->keep - c->len;
        size_t take = n < room ? n : room;
        memcpy(c->data + c->len, bytes, take);
        c->len += take;
        bytes += take;
        n -= take;
    }
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Read what is there without waiting. */
static void drain(struct proc *p, int stream)
{
    char bytes[READ_BYTES];
    while (p->fd[stream] >= 0) {
        ssize_t n = read(p->fd[stream], bytes, sizeof bytes);
        if (n > 0) {
            capture_append(&p->capture[stream], bytes, (size_t)n);
            if ((size_t)n < sizeof bytes) {
                return;
            }
            if (p->capture[stream].total > p->flood_bytes) {
                return;
            }
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            return;
        } else {
            close_fd(&p->fd[stream]);
        }
    }
}

/* Reap zombies of the group; true when one of its processes runs on. Needs proc_adopt_orphans. */
static bool group_is_alive(pid_t group)
{
    for (int ms = 0; ms < ENDING_MS;) {
        pid_t got = waitpid(-group, NULL, WNOHANG);
        if (got < 0 && errno != EINTR) {
            return false;
        }
        if (got == 0) {
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            ms++;
        }
    }
    return true;
}

/* True when a process that p started still runs. */
static bool left_running(const struct proc *p)
{
    if (!p->sole) {
        return group_is_alive(p->group);
    }
    if (waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD) {
        return false;
    }
    for (int ms = 0; ms < ENDING_MS; ms++) {
        if (proc_tree_reap(NULL, 0)) {
            return false;
        }
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    return true;
}

static void end_group(const struct proc *p)
{
    kill(-p->group, SIGKILL);
    (void)group_is_alive(
        p->group); /* until they are gone, so that the next test starts without them */
    if (p->sole) {
        proc_tree_end(NULL, 0);
    }
}

/* The leader is gone: note and kill what it left, take the last output. */
static void settle(struct proc *p, int status)
{
    p->pid = 0;
    p->wall_ns = proc_now_ns() - p->start_ns;
    if (p->end == PROC_RUNNING) {
        p->end = WIFSIGNALED(status) ? PROC_SIGNALED : PROC_EXITED;
        p->code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
        p->leaked = left_running(p);
        if (p->leaked && p->sole) {
            proc_tree_describe(NULL, 0, p->leaked_what, sizeof p->leaked_what);
        }
    }
    if (p->leaked || p->end > PROC_EXITED || !p->sole) {
        end_group(p);
    }
    for (int i = 0; i < PROC_STREAMS; i++) {
        drain(p, i);
        close_fd(&p->fd[i]);
    }
    close_fd(&p->pidfd);
}

/* The leader by its number too: it may not have made its group yet, or have left it. */
static void kill_now(const struct proc *p)
{
    kill(-p->group, SIGKILL);
    kill(p->pid, SIGKILL);
}

static void end_by_us(struct proc *p, enum proc_end why, uint64_t now)
{
    p->end = why;
    p->term_at_ns = 0;
    if (p->before_end && why == PROC_TIMED_OUT) {
        p->before_end(p->ctx, p);
    }
    if (p->grace_ms > 0) {
        kill(p->pid, SIGTERM);
        kill(p->pid, SIGCONT); /* a stopped one could not follow */
        p->kill_at_ns = now + ms_to_ns(p->grace_ms);
    } else {
        kill_now(p);
    }
}

/* What p and all below it hold of their own. */
static bool is_over_memory(struct proc *p, uint64_t now)
{
    if (!p->memory_bytes || p->memory_held || now < p->measure_at_ns) {
        return false;
    }
    p->measure_at_ns = now + ms_to_ns(MEASURE_MS);
    struct proc_tree *tree = malloc(sizeof *tree);
    uint64_t held = proc_tree_memory(p->pid);
    if (tree) {
        proc_tree_below(p->pid, NULL, 0, tree);
        for (size_t i = 0; i < tree->n; i++) {
            held += proc_tree_memory(tree->at[i]);
        }
    }
    free(tree);
    return held > p->memory_bytes;
}

static void hold_limits(struct proc *p)
{
    uint64_t now = proc_now_ns();
    if (p->end == PROC_RUNNING) {
        uint64_t written = p->capture[PROC_OUT].total + p->capture[PROC_ERR].total;
        if (written > p->flood_bytes) {
            end_by_us(p, PROC_FLOODED, now);
        } else if (p->term_at_ns && now >= p->term_at_ns) {
            end_by_us(p, PROC_TIMED_OUT, now);
        } else if (is_over_memory(p, now)) {
            end_by_us(p, PROC_OVER_MEMORY, now);
        }
    } else if (p->kill_at_ns && now >= p->kill_at_ns) {
        kill_now(p);
        p->kill_at_ns = 0;
    }
}

/* Serve one without waiting; true when it ended just now, or answered. */
static bool serve_one(struct proc *p)
{
    int status;
    uint64_t before = p->capture[PROC_OUT].total;
    for (int i = 0; i < PROC_STREAMS; i++) {
        drain(p, i);
    }
    pid_t got = waitpid(p->pid, &status, WNOHANG);
    if (got == p->pid) {
        settle(p, status);
        return true;
    }
    hold_limits(p);
    return p->in >= 0 && p->capture[PROC_OUT].total != before;
}

static void wait_for_output(struct proc *procs, size_t n, unsigned wait_ms)
{
    struct pollfd polled[MAX_PROCS * (PROC_STREAMS + 1)];
    nfds_t n_polled = 0;
    bool closing = false; /* a child closed all its pipes: it is about to end */
    for (size_t i = 0; i < n; i++) {
        nfds_t before = n_polled;
        for (int s = 0; s < PROC_STREAMS && !proc_done(&procs[i]); s++) {
            if (procs[i].fd[s] >= 0) {
                polled[n_polled++] = (struct pollfd){procs[i].fd[s], POLLIN, 0};
            }
        }
        if (!proc_done(&procs[i]) && procs[i].pidfd >= 0) {
            polled[n_polled++] = (struct pollfd){procs[i].pidfd, POLLIN, 0};
        }
        closing |= !proc_done(&procs[i]) && n_polled == before;
    }
    unsigned limit_ms = closing ? 1 : REAP_MS;
    (void)poll(polled, n_polled, (int)(wait_ms < limit_ms ? wait_ms : limit_ms));
}

/* The child's ends. */
struct child_fds {
    int out[PROC_STREAMS];
    int in; /* -1: nothing */
};

static _Noreturn void child_main(const struct proc_spec *spec, const struct child_fds *fds)
{
    (void)(spec->sole ? setsid() : setpgid(0, 0));
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    static const int reset[] = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGCHLD, SIGQUIT, SIGXFSZ};
    for (size_t i = 0; i < sizeof reset / sizeof reset[0]; i++) {
        signal(reset[i], SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    int in = fds->in >= 0 ? fds->in : open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(in, 0);
    dup2(fds->out[PROC_OUT], 1);
    dup2(fds->out[spec->merge ? PROC_OUT : PROC_ERR], 2);
    if (spec->cwd && chdir(spec->cwd) != 0) {
        dprintf(2, "cannot enter %s: %s\n", spec->cwd, strerror(errno));
        _exit(127);
    }
    if (spec->body) {
        close(in);
        close(fds->out[PROC_OUT]);
        close(fds->out[PROC_ERR]);
        exit(spec->body(spec->ctx));
    }
    execvp(spec->argv[0], spec->argv);
    dprintf(2, "cannot execute %s: %s\n", spec->argv[0], strerror(errno));
    _exit(127);
}

static enum bnt_status open_pipes(int pipes[PROC_STREAMS][2], struct bnt_err *err)
{
    for (int i = 0; i < PROC_STREAMS; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) != 0) {
            enum bnt_status status = bnt_err_errno(err, "a pipe to a child");
            while (i-- > 0) {
                close(pipes[i][0]);
                close(pipes[i][1]);
            }
            return status;
        }
        (void)fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
    }
    return BNT_OK;
}

void proc_adopt_orphans(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void fork_child(struct proc *p, const struct proc_spec *spec, int pipes[PROC_STREAMS][2],
                       const int in[2])
{
    fflush(NULL); /* or the child would write our buffered output once more */
    p->pid = fork();
    if (p->pid == 0) {
        struct child_fds fds = {.in = in[1]};
        for (int i = 0; i < PROC_STREAMS; i++) {
            close(pipes[i][0]);
            fds.out[i] = pipes[i][1];
        }
        child_main(spec, &fds);
    }
}

static void begin(struct proc *p, const struct proc_spec *spec)
{
    if (!spec->sole) {
        /* Both sides do it: whoever comes first, a kill of the group finds it. */
        setpgid(p->pid, p->pid);
    }
    p->group = p->pid;
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    p->start_ns = proc_now_ns();
    p->measure_at_ns = p->start_ns + ms_to_ns(MEASURE_MS);
    proc_give_time(p, spec->timeout_ms);
}

enum bnt_status proc_start(struct proc *p, const struct proc_spec *spec, struct bnt_err *err)
{
    *p = (struct proc){
        .fd = {-1, -1},
        .in = -1,
        .pidfd = -1,
        .sole = spec->sole,
        .grace_ms = spec->grace_ms,
        .memory_bytes = spec->memory_bytes,
        .memory_held = spec->memory_held,
        .flood_bytes = spec->flood_bytes ? spec->flood_bytes : FLOOD_BYTES,
        .before_end = spec->before_end,
        .ctx = spec->ctx,
    };
    int pipes[PROC_STREAMS][2];
    int in[2] = {-1, -1};
    enum bnt_status status = open_pipes(pipes, err);
    if (status) {
        p->end = PROC_STOPPED;
        return status;
    }
    if (spec->input && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) != 0) {
        status = bnt_err_errno(err, "a socket to a child");
    } else {
        fork_child(p, spec, pipes, in);
        if (p->pid < 0) {
            p->pid = 0;
            status = bnt_err_errno(err, "fork");
        }
    }
    for (int i = 0; i < PROC_STREAMS; i++) {
        close(pipes[i][1]);
        p->fd[i] = pipes[i][0];
        p->capture[i].keep = spec->keep_bytes ? spec->keep_bytes : KEEP_BYTES;
    }
    close_fd(&in[1]);
    p->in = in[0];
    if (status) {
        p->end = PROC_STOPPED;
        proc_release(p);
        return status;
    }
    begin(p, spec);
    return BNT_OK;
}

void proc_serve(struct proc *procs, size_t n, unsigned wait_ms)
{
    uint64_t until = proc_now_ns() + ms_to_ns(wait_ms);
    size_t most = n < MAX_PROCS ? n : MAX_PROCS;
    for (;;) {
        bool running = false;
        bool ended = false;
        for (size_t i = 0; i < most; i++) {
            if (!proc_done(&procs[i])) {
                running = true;
                ended |= serve_one(&procs[i]);
            }
        }
        uint64_t now = proc_now_ns();
        if (!running || ended || now >= until) {
            return;
        }
        wait_for_output(procs, most, (unsigned)((until - now) / 1000000u) + 1);
    }
}

bool proc_done(const struct proc *p)
{
    return p->pid == 0;
}

void proc_give_time(struct proc *p, unsigned timeout_ms)
{
    p->timeout_ms = timeout_ms;
    p->term_at_ns = timeout_ms ? proc_now_ns() + ms_to_ns(timeout_ms) : 0;
}

void proc_forget(struct proc *p, int stream)
{
    p->capture[stream].len = 0;
    p->capture[stream].total = 0;
}

void proc_end_strays(const struct proc *procs, size_t n)
{
    pid_t spare[MAX_PROCS];
    size_t n_spare = 0;
    for (size_t i = 0; i < n && i < MAX_PROCS; i++) {
        if (!proc_done(&procs[i])) {
            spare[n_spare++] = procs[i].pid;
        }
    }
    proc_tree_end(spare, n_spare);
}

void proc_stop(struct proc *p)
{
    if (!proc_done(p) && p->end == PROC_RUNNING) {
        end_by_us(p, PROC_STOPPED, proc_now_ns());
    }
}

void proc_end_over_memory(struct proc *p)
{
    if (!proc_done(p) && p->end == PROC_RUNNING) {
        p->grace_ms = 0;
        end_by_us(p, PROC_OVER_MEMORY, proc_now_ns());
    }
}

char *proc_output(const struct proc *p, int stream)
{
    const struct proc_capture *c = &p->capture[stream];
    char note[64] = "";
    size_t head = c->len;
    if (c->total > c->len) {
        head = c->data ? c->keep / 2 : 0;
        snprintf(note, sizeof note, "\n[... %llu bytes left out ...]\n",
                 (unsigned long long)(c->total - c->len));
    }
    size_t note_len = strlen(note);
    char *text = malloc(c->len + note_len + 1);
    if (!text) {
        return NULL;
    }
    if (c->len > 0) {
        memcpy(text, c->data, head);
        memcpy(text + head + note_len, c->data + head, c->len - head);
    }
    memcpy(text + head, note, note_len);
    size_t len = c->len + note_len;
    for (char *nul = text; (nul = memchr(nul, '\0', len - (size_t)(nul - text))) != NULL;) {
        *nul = '?';
    }
    text[len] = '\0';
    return text;
}

void proc_release(struct proc *p)
{
    if (p->pid > 0) {
        p->grace_ms = 0;
        end_by_us(p, PROC_STOPPED, proc_now_ns());
        while (!proc_done(p)) {
            proc_serve(p, 1, REAP_MS);
        }
    }
    for (int i = 0; i < PROC_STREAMS; i++) {
        close_fd(&p->fd[i]);
        free(p->capture[i].data);
        p->capture[i] = (struct proc_capture){0};
    }
    close_fd(&p->in);
    close_fd(&p->pidfd);
}

enum bnt_status proc_run(struct proc *p, const struct proc_spec *spec, struct bnt_err *err)
{
    enum bnt_status status = proc_start(p, spec, err);
    while (!status && !proc_done(p)) {
        proc_serve(p, 1, 1000);
    }
    return status;
}

enum bnt_status proc_status(const struct proc *p)
{
    const char *none = bnt_status_meaning(-1);
    bool known = p->end == PROC_EXITED && strcmp(bnt_status_meaning(p->code), none) != 0;
    return known ? (enum bnt_status)p->code : BNT_E_FAILED;
}

void proc_describe(const struct proc *p, char *out, size_t size)
{
    unsigned long long wall_ms = p->wall_ns / 1000000u;
    switch (p->end) {
    case PROC_RUNNING:
        snprintf(out, size, "still running");
        break;
    case PROC_EXITED:
        snprintf(out, size, "exited with %d", p->code);
        break;
    case PROC_SIGNALED:
        snprintf(out, size, "killed by SIG%s (%s)", sigabbrev_np(p->code), strsignal(p->code));
        break;
    case PROC_TIMED_OUT:
        snprintf(out, size, "timed out after %u ms", p->timeout_ms);
        break;
    case PROC_FLOODED:
        snprintf(out, size, "wrote more than %llu bytes of output",
                 (unsigned long long)p->flood_bytes);
        break;
    case PROC_OVER_MEMORY:
        snprintf(out, size, "held more than %llu MiB of memory",
                 (unsigned long long)(p->memory_bytes >> 20));
        break;
    case PROC_STOPPED:
        snprintf(out, size, "stopped after %llu ms", wall_ms);
        break;
    }
}
