/* Child processes of the testkit: each leads its own process group, its output is captured within a
 * bound, and it is ended with its whole group at a deadline. Several run side by side and are
 * served by one thread.
 *
 *     struct proc p;
 *     proc_start(&p, &(struct proc_spec){.argv = argv, .timeout_ms = 5000}, &err);
 *     while (!proc_done(&p)) { proc_serve(&p, 1, 100); }
 *     ... p.end, p.code, proc_output(&p, PROC_OUT) ...
 *     proc_release(&p);
 *
 * Life: proc_start -> proc_serve until proc_done -> proc_release. proc_release of a running child
 * kills its group. Time here is always the kernel's, never the fake clock of a test: a deadline
 * must hold for a test that froze time. */
#ifndef TESTKIT_PROC_H
#define TESTKIT_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/status.h"

/* Streams that are captured. */
enum { PROC_OUT, PROC_ERR, PROC_STREAMS };

enum proc_end {
    PROC_RUNNING,
    PROC_EXITED,      /* code: exit status */
    PROC_SIGNALED,    /* code: signal that nobody here sent */
    PROC_TIMED_OUT,   /* ended by us at its deadline */
    PROC_FLOODED,     /* ended by us: wrote more than flood_bytes */
    PROC_OVER_MEMORY, /* ended by us: held more than memory_bytes */
    PROC_STOPPED,     /* ended by us: proc_stop */
};

struct proc;

struct proc_spec {
    char *const *argv; /* program to execute, NULL-terminated; or: */
    /* what the forked child does instead; its value is the exit status. */
    int (*body)(void *ctx);
    /* Called before the child is ended at its deadline, while it still is as it was. */
    void (*before_end)(void *ctx, struct proc *p);
    void *ctx;       /* of both */
    const char *cwd; /* NULL: this process's */
    bool merge;      /* standard error goes to PROC_OUT, in the order in which both were written */
    bool input;      /* p->in is a socket to its standard input, which is empty otherwise */
    /* It leads a session of its own, and is the only child of this process: whatever else runs
     * below this process when it has ended was left by it, in whatever group or session. Needs
     * proc_adopt_orphans. */
    bool sole;
    uint64_t memory_bytes; /* of its own that it may hold with all below it; 0: no limit */
    bool memory_held;      /* a control group holds it to that: it is not watched besides */
    unsigned timeout_ms;   /* 0: none */
    unsigned grace_ms;     /* SIGTERM first, SIGKILL this much later; 0: SIGKILL at once */
    size_t keep_bytes;     /* kept per stream, the first and the last halves of it; 0: 128 KiB */
    uint64_t flood_bytes;  /* written in all before the child is ended; 0: 16 MiB */
};

struct proc_capture {
    char *data; /* keep_bytes, NULL until the first byte */
    size_t len, keep;
    uint64_t total; /* bytes written by the child */
};

struct proc {
    pid_t pid; /* 0 once reaped */
    pid_t group;
    int fd[PROC_STREAMS]; /* -1 when closed */
    int in;               /* with spec.input, else -1 */
    int pidfd;            /* readable when it has ended; -1 where the kernel has none */
    struct proc_capture capture[PROC_STREAMS];
    enum proc_end end;
    int code;
    bool leaked;           /* processes that it started outlived it; they have been killed */
    char leaked_what[120]; /* their names, with spec.sole */
    bool sole;
    unsigned grace_ms;
    uint64_t flood_bytes, memory_bytes, start_ns, wall_ns;
    bool memory_held;
    unsigned timeout_ms;
    uint64_t term_at_ns, kill_at_ns, measure_at_ns; /* 0: never */
    void (*before_end)(void *ctx, struct proc *p);
    void *ctx;
};

/* Orphans of our children become our children instead of init's, so that `leaked` tells a process
 * that still runs from one that merely waits to be reaped. For the whole of this process; call once
 * before proc_start. */
void proc_adopt_orphans(void);

enum bnt_status proc_start(struct proc *p, const struct proc_spec *spec, struct bnt_err *err);
/* Read output, hold deadlines, reap; returns as soon as one of n ended or one with spec.input wrote
 * something, or after wait_ms. Ended ones are skipped. */
void proc_serve(struct proc *procs, size_t n, unsigned wait_ms);
bool proc_done(const struct proc *p);
/* From now on it has this much time; 0: without a limit. */
void proc_give_time(struct proc *p, unsigned timeout_ms);
/* Forget what a stream held so far: the next bytes are a new answer. */
void proc_forget(struct proc *p, int stream);
/* End what runs below this process but belongs to none of procs: orphans of one that has died. */
void proc_end_strays(const struct proc *procs, size_t n);
/* End it now (with its grace); proc_done after some more proc_serve. */
void proc_stop(struct proc *p);
/* The same at once, for what a control group says: it is PROC_OVER_MEMORY. */
void proc_end_over_memory(struct proc *p);
/* What a stream held, NUL-terminated, with '?' for NUL bytes, and a line that says how many bytes
 * were left out of its middle; the caller frees. NULL: out of memory. */
char *proc_output(const struct proc *p, int stream);
void proc_release(struct proc *p);

/* Nanoseconds of the kernel's monotonic clock. */
uint64_t proc_now_ns(void);

/* proc_start and proc_serve until the end. */
enum bnt_status proc_run(struct proc *p, const struct proc_spec *spec, struct bnt_err *err);

/* Its exit code as a status of ours; FAILED when that is none, and for every other end. */
enum bnt_status proc_status(const struct proc *p);
/* "exited with 3", "killed by SIGSEGV (Segmentation fault)", "timed out after 10000 ms"... */
void proc_describe(const struct proc *p, char *out, size_t size);

#endif
