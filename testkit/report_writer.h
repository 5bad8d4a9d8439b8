/* What the reports share: a writer that remembers its first failure, so that a report is written as
 * it reads and checked once at its end. */
#ifndef TESTKIT_REPORT_WRITER_H
#define TESTKIT_REPORT_WRITER_H

#include <jansson.h>

#include "testkit/bnt_test.h"

/* Of the line that runs a test again: a list of suites is at most 100 KiB, and quotes may make it
 * longer. */
enum { REPORT_RERUN_MAX_BYTES = 512 << 10 };

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
/* Length of the UTF-8 sequence at s whose character is fit to be shown: allowed by XML 1.0, no
 * control code, none that turns the order of a text round. 0 if there is none. */
size_t report_sequence(const unsigned char *s);
/* Text within a line, for terminals and whoever reads lines: nothing in it commands the terminal or
 * ends the line. */
void report_line(struct report_writer *w, const char *text, size_t max_bytes);
/* SUITE/NAME of a test, so. */
void report_name(struct report_writer *w, const struct bnt_test *t);
/* Text of an element of XML or HTML, or (in_attribute) of a value in double quotes. */
void report_markup(struct report_writer *w, const char *text, size_t max_bytes, bool in_attribute);
/* Text within a line or a cell of a table of Markdown; cut after max_bytes, saying so. */
void report_markdown(struct report_writer *w, const char *text, size_t max_bytes);
/* Text as a code block of Markdown. */
void report_markdown_block(struct report_writer *w, const char *text, size_t max_bytes);
/* Where a failure happened: the first "FILE:LINE: " at the start of a line of its output. False
 * when there is none. */
bool report_location(const char *output, char *file, size_t size, unsigned *line);
/* Skips by their reason, the most frequent first; the caller frees `at`, whose reasons belong to
 * the run. */
struct report_tally {
    size_t n;
    struct report_tally_row {
        const char *reason;
        size_t n;
    } * at;
};
void report_tally_skips(struct report_writer *w, const struct bnt_test_run *run,
                        struct report_tally *out);
/* Figures that --slower found to be worse than before. */
size_t report_count_worse(const struct bnt_test_run *run);
/* A JSON string whatever the bytes: those that are no UTF-8 become U+FFFD. "" for NULL. */
json_t *report_json_text(const char *text);

#endif
