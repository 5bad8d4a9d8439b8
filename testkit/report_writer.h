/* What the reports share: a writer that remembers its first failure, so that a report is written as
 * it reads and checked once at its end. */
#ifndef TESTKIT_REPORT_WRITER_H
#define TESTKIT_REPORT_WRITER_H

#include <jansson.h>

#include "testkit/bnt_test.h"

struct report_writer {
    struct bnt_buf *out;
    struct bnt_err *err;
    enum bnt_status status; /* of the first call that failed; nothing is written after it */
};

void report_printf(struct report_writer *w, const char *fmt, ...) BNT_PRINTF(2, 3);
void report_bytes(struct report_writer *w, const void *bytes, size_t n);

/* True when run->at[i] is the first test of its suite: reports show suites once, in this order. */
bool report_first_of_suite(const struct bnt_test_run *run, size_t i);
/* The text, or "" for NULL. */
const char *report_text(const char *text);
/* A JSON string whatever the bytes: in a text that is no UTF-8, every byte past ASCII becomes
 * U+FFFD. "" for NULL. */
json_t *report_json_text(const char *text);

#endif
