/* A suite: named tests with cmocka bodies, run by bnt-suites, one forked process per test.
 *
 * A suite file reads top to bottom: the failure it guards, a table of cases, the bodies, the
 * registration:
 *
 *     static const struct suite_test tests[] = {
 *         {.name = "gguf_refuses_version_1", .body = refuses_version_1},
 *         {.name = "gguf_official_shape_loads", .body = official_shape_loads, .needs = "shared"},
 *         {0},
 *     };
 *     const struct suite suite_gguf = {"gguf", tests};
 *
 * and is listed once in testkit/suites.def. */
#ifndef BNT_SUITE_H
#define BNT_SUITE_H

/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* A tier runs its own tests and those of the tiers before it. */
enum suite_tier { SUITE_FAST, SUITE_INTEGRATION, SUITE_FULL };

/* What a test may connect to. A need that stands for the network opens it too. */
enum suite_network {
    SUITE_NETWORK_LOOPBACK, /* servers that it starts itself; not those of the machine */
    SUITE_NETWORK_NONE,     /* not even that */
    SUITE_NETWORK_OPEN,     /* whatever the machine may: for servers that were started elsewhere */
};

struct bnt_model;

struct suite_test {
    const char *name;           /* the behaviour; unique among all suites */
    void (*body)(void **state); /* *state is ctx */
    const void *ctx;            /* for one body that serves many tests */
    const char *needs; /* NULL or machine-checked needs, comma-separated: "shared", "qemu-aarch64",
                          "network"... */
    /* Its time class: 0 is 10,000; choose the smallest of 30,000, 60,000, 120,000, 300,000 and
     * 600,000 that is several times what it takes on a slow machine. Builds other than release
     * multiply it. A run that needed more than half says so, and one that could do with a time
     * three classes smaller, unless it takes the model of the run. */
    unsigned timeout_ms;
    enum suite_tier tier; /* the smallest tier that runs it; fast is 0 */
    /* What follows is of this test alone; what all tests of a suite share is in
     * testkit/suites/traits.def. Comma-separated words for `bnt test --filter tag:WORD`.
     * "contract": it must run in every run of its tier, and runs first. */
    const char *tags;
    const char *subjects; /* kinds of model it takes: "real,tiny"; NULL: none */
    /* Causes outside this project ("network") for which a failure may be tried again: those that
     * the body itself named with suite_infrastructure. A failed assertion is never tried again. */
    const char *retry_on;
    /* A pass may be taken from an earlier run with the same program, model, inputs and environment.
     * Only for a test that depends on nothing else: no clock, no network, no seed, no machine. */
    bool cacheable;
    const char *reads; /* a file or folder that it may read besides; NULL: none */
    enum suite_network network;
    unsigned memory_mib; /* more of its own memory than this ends it; 0: 4096. Stated, it also
                            limits the address space that it may add (not under sanitizers) */
    bool keeps_fds;      /* what it calls keeps descriptors to the end of the process, by design (a
                            lease of a cached file) */
    bool makes_groups;   /* it may make control groups below its own */
    bool mounts;         /* it mounts a file system, where nobody else sees it: what the kernel
                            refuses under Landlock, so files and signals are not held */
    bool fresh; /* runs in a newly executed program instead of a forked one, as every test that
                   needs cuda does: a driver does not survive a fork */
};

struct suite {
    const char *name;
    const struct suite_test *tests; /* ends with a zeroed row */
    const char *kills; /* planted defects (base/faults.def) that this suite must see, separated by
                          blanks; `make check-faults` proves it */
};

/* One test, one process (docs/testkit.md): the current folder, HOME, TMPDIR and the caches are the
 * test's own, in this process and in programs it starts. The kernel holds it to them where it can
 * (testkit/suites/confine.h): it reads the system, the source tree, the build, the shared folder
 * and the model, writes to its own folder, signals what it started, and connects to itself. What it
 * leaves fails it: processes, open descriptors, files in TMPDIR, HOME or the current folder. */

/* Why the first unmet one of comma-separated needs is not met here, or NULL when all are. Valid
 * until the next call. The needs that exist, each with its check, are the table in
 * testkit/suites/needs.c; another word is a failure of the test, not a skip. */
const char *suite_need_missing(const char *needs);
/* The first word of needs that is not in the table, or NULL. Valid until the next call. */
const char *suite_need_unknown(const char *needs);
/* True when the word is among them; when one of them opens the network. */
bool suite_needs_word(const char *needs, const char *wanted);
bool suite_needs_network(const char *needs);

/* Path of a file in the shared folder ($BNT_SHARED, else ../shared beside the source tree): valid
 * until the next call. Only for tests with needs "shared". */
const char *suite_shared(const char *relative);
/* Path of a file in the source tree ($BNT_SOURCE_DIR, else found from the executable), e.g.
 * "testkit/data/x.json": valid until the next call. */
const char *suite_source(const char *relative);
/* The bundled model's path: for tests against recorded answers of that model. */
const char *suite_bundled_model(void);
/* The model under test: $BNT_TEST_MODEL (`bnt test -m`), else the bundled one. For what must hold
 * for every model. */
const char *suite_model(void);
/* That model, opened with the defaults: mapped once before the tests were forked, so it costs
 * nothing here. Borrowed: never close it. Fails the test when it cannot be opened. */
struct bnt_model *suite_model_open(void);
/* What computes in sessions that leave it open: $BNT_TEST_DEVICE (`bnt test --device`), else "cpu".
 * A test that is about the CPU says so itself. */
const char *suite_on_device(void);
/* The program `bnt` of this build ($BNT, else beside this executable). */
const char *suite_bnt(void);
/* This test's own empty folder, removed afterwards; the same one at every call. */
const char *suite_scratch(void);
/* The path of a file in it: valid until the fourth call from here. */
const char *suite_in_scratch(const char *name);

/* Report a figure: it is kept in the result file and the history, and judges nothing. name and unit
 * are words without blanks ("tokens_per_s", "1/s"); at most 16 figures a test. */
void suite_metric(const char *name, double value, const char *unit);

/* What the test depends on outside this project is not there: fails the test with that cause, one
 * of "network", "disk" and "memory". A test with it in .retry_on is tried again. */
void suite_infrastructure(const char *cause, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/* What the test needs turned out not to be there, which .needs cannot say beforehand: it is skipped
 * for this reason, "needs: ...". */
void suite_skip(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Run a program to its end (at most timeout_ms; 0: 60,000) with standard input closed. A program
 * that does not exit by itself fails the test. */
struct suite_output {
    int exit;
    char *out, *err; /* NUL-terminated */
};
void suite_run(const char *const *argv, const char *cwd, unsigned timeout_ms,
               struct suite_output *result);
void suite_output_release(struct suite_output *o);

#endif
