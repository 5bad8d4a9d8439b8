/* A suite: named tests with cmocka bodies, run by bnt-suites (all in one process per test under `bnt test`).
 *
 * A suite file reads top to bottom: the failure it guards, a table of cases, the bodies, the registration:
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
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct suite_test {
    const char *name;         /* the behaviour; unique among all suites */
    void (*body)(void **state);
    const char *needs;        /* NULL or machine-checked needs, comma-separated: "shared", "qemu-aarch64", "network"... */
    unsigned timeout_ms;      /* 0: 10,000 */
};

struct suite {
    const char *name;
    const struct suite_test *tests; /* ends with a zeroed row */
};

/* Why a need is not met here, or NULL when it is. */
const char *suite_need_missing(const char *needs);

/* Path of a file in the shared folder ($BNT_SHARED, else ../shared beside the source tree): valid until the next call.
 * Only for tests with needs "shared". */
const char *suite_shared(const char *relative);
/* Path of a file in the source tree ($BNT_SOURCE_DIR, else found from the executable), e.g. "testkit/data/x.json". */
const char *suite_source(const char *relative);
/* The bundled model's path. */
const char *suite_bundled_model(void);
/* A fresh folder for this test, removed afterwards. */
const char *suite_scratch(void);

#endif
