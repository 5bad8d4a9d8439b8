/* The inside of a test's process: the body runs in cmocka, and what happens is written down on a
 * page of memory that only the test's process and the one that watches it share.
 *
 * Nothing that a body prints, and no descriptor that it closes or writes to, can touch the page:
 * the verdict is not a message. Whoever is not the leader (a forked child of the body that comes to
 * the end of the body as well) writes nothing. */
#ifndef SUITES_BODY_H
#define SUITES_BODY_H

#include "testkit/suite.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* How far the leader came. Values that no stray write makes by chance. */
enum body_stage {
    BODY_STARTING = 0,
    BODY_RUNS = 0x51a1c0de,
    BODY_FAILED, /* an assertion */
    BODY_SKIPPED,
    BODY_PASSED,
};

enum { BODY_THREADS_MAX = 32, BODY_FRAMES_MAX = 48 };

/* Stack of one thread, as return addresses: the watcher was forked from the same image. */
struct body_trace {
    pid_t tid;
    volatile int n_frames; /* 0 until the frames are there */
    void *frames[BODY_FRAMES_MAX];
};

struct body_page {
    pid_t leader;
    uintptr_t anchor; /* address of body_run in the test's process */
    volatile uint32_t stage;
    volatile bool exiting;    /* exit(3) ran the handlers that the body had left to it */
    volatile bool exit_aside; /* it was called by another thread than the leader's first */
    /* The last signal that the leader caught before it died of it. */
    struct {
        volatile int number;
        int code;          /* si_code */
        pid_t sender;      /* of a signal sent by a process */
        uint64_t address;  /* of a fault */
        bool at_stack_end; /* of the thread that faulted */
    } fault;
    unsigned not_enforced;              /* enum confine_gap */
    uint64_t memory_limit, memory_peak; /* address space in bytes; 0: no limit */
    char leaked_fds[200];               /* "5 -> /tmp/x, 6 -> socket:[1]", "" for none */
    char cause[16];                     /* named by suite_infrastructure */
    char skip_why[200];                 /* named by suite_skip; "" */
    bool stopped;                       /* written by the watcher: it lay stopped at its deadline */
    char trouble[160];                  /* why the body could not be entered */
    unsigned n_traces;                  /* changed by __atomic_fetch_add */
    struct body_trace traces[BODY_THREADS_MAX];
};

struct body_spec {
    const struct suite_test *test;
    struct body_page *page;
    const char *root;           /* the test's own folder */
    struct memory_group *group; /* entered before anything else; NULL in what is executed anew */
};

/* In the forked process, once: enter the test's place, run the body. Value: the exit status. */
int body_run(const struct body_spec *spec);
/* What runs when a thread is sent this signal: it writes its stack to the page. */
int body_trace_signal(void);

#endif
