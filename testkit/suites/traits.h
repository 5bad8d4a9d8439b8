/* What holds for all tests of a suite: the rows of traits.def. */
#ifndef SUITES_TRAITS_H
#define SUITES_TRAITS_H

#include <stdbool.h>

#include "base/status.h"
#include "testkit/suite.h"

enum suite_threads { SUITE_NO_THREADS, SUITE_USES_THREADS, SUITE_SHARES_DATA };

struct traits {
    const struct suite *suite;
    const char *tags, *subjects, *retry_on; /* "" for none */
    bool cacheable;
    enum suite_threads threads;
};

/* The row of a suite; NULL for one that has none (suites of users, the corpus). */
const struct traits *traits_of(const struct suite *s);
/* The row of the suite that a test belongs to, or NULL. */
const struct traits *traits_of_test(const struct suite_test *t);

/* FAILED, and a message, unless every suite has a row. */
enum bnt_status traits_check(const struct suite *const *all);

#endif
