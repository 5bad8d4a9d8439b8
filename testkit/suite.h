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

struct suite_test {
    const char *name; /* the behaviour; unique among all suites */
    void (*body)(void **state);
    const char *needs; /* NULL or machine-checked needs, comma-separated: "shared", "qemu-aarch64",
                          "network"... */
    unsigned timeout_ms;  /* 0: 10,000; builds other than release multiply it */
    enum suite_tier tier; /* the smallest tier that runs it; fast is 0 */
    /* Comma-separated words for `bnt test --filter tag:WORD`. "contract": it must run in every run
     * of its tier, and runs first. */
    const char *tags;
    const char *subjects; /* kinds of model it takes: "real,tiny"; NULL: none */
    /* Causes outside this project ("network") for which a failure may be tried again: those that
     * the body itself named with suite_infrastructure. A failed assertion is never tried again. */
    const char *retry_on;
    /* A pass may be taken from an earlier run with the same program, model, inputs and environment.
     * Only for a test that depends on nothing else: no clock, no network, no seed, no machine. */
    bool cacheable;
};

struct suite {
    const char *name;
    const struct suite_test *tests; /* ends with a zeroed row */
    const char *kills; /* planted defects (base/faults.def) that this suite must see, separated by
                          blanks; `make check-faults` proves it */
};

/* In this process, and in programs it starts, HOME, TMPDIR, XDG_CACHE_HOME and BNT_CACHE_DIR lead
 * into the test's own folder: no test sees or changes what belongs to the user. */

/* Why the first unmet one of comma-separated needs is not met here, or NULL when all are. Valid
 * until the next call. The needs that exist, each with its check, are the table in
 * testkit/suites/needs.c; another word is a failure of the test, not a skip. */
const char *suite_need_missing(const char *needs);
/* The first word of needs that is not in the table, or NULL. Valid until the next call. */
const char *suite_need_unknown(const char *needs);

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
/* The program `bnt` of this build ($BNT, else beside this executable). */
const char *suite_bnt(void);
/* This test's own empty folder, removed afterwards; the same one at every call. */
const char *suite_scratch(void);

/* What the test depends on outside this project is not there: fails the test with that cause, one
 * of "network", "disk" and "memory". A test with it in .retry_on is tried again. */
void suite_infrastructure(const char *cause, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

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
