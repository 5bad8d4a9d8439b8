/* Results as TAP: what bnt-suites prints, and what testkit/runner_tap.c reads. */
#ifndef SUITES_TAP_WRITE_H
#define SUITES_TAP_WRITE_H

#include <stdio.h>

#include "testkit/suites/isolate.h"

struct tap_tally {
    unsigned number, passed, failed, skipped;
    unsigned not_enforced; /* what was reported already */
    const char *program;
    bool corpus;
};

/* One result: its line, and comments about it. An interrupted test has none. */
void tap_write_result(FILE *out, const struct suite_test *test, const struct isolate_result *r,
                      struct tap_tally *tally);
/* The plan and the counts. */
void tap_write_end(FILE *out, const struct tap_tally *tally);

#endif
