/* What the commands below `bnt test` share. */
#ifndef TESTKIT_CMD_TEST_IMPL_H
#define TESTKIT_CMD_TEST_IMPL_H

#include "base/opt.h"
#include "testkit/bnt_test.h"

enum { TEST_REPORT_MAX_BYTES = 256 << 20 };

/* Where a run is written besides the terminal. */
struct test_reports {
    const char *junit, *tap, *result, *html, *kills;
    bool json;
};

#define TEST_REPORT_ROWS(type, member)                                                             \
    {.kind = BNT_OPT_STR,                                                                          \
     .long_name = "junit",                                                                         \
     .arg = "FILE",                                                                                \
     .help = "write JUnit XML too",                                                                \
     .offset = offsetof(type, member.junit)},                                                      \
        {.kind = BNT_OPT_STR,                                                                      \
         .long_name = "tap",                                                                       \
         .arg = "FILE",                                                                            \
         .help = "write TAP (version 14) too",                                                     \
         .offset = offsetof(type, member.tap)},                                                    \
        {.kind = BNT_OPT_STR,                                                                      \
         .long_name = "html",                                                                      \
         .arg = "FILE",                                                                            \
         .help = "write one page with plots, which needs nothing besides itself",                  \
         .offset = offsetof(type, member.html)},                                                   \
        {.kind = BNT_OPT_STR,                                                                      \
         .long_name = "kills",                                                                     \
         .arg = "FILE",                                                                            \
         .help = "kill matrix for the page: the kills.tsv of make check-faults",                   \
         .offset = offsetof(type, member.kills)},                                                  \
        {.kind = BNT_OPT_STR,                                                                      \
         .long_name = "result",                                                                    \
         .arg = "FILE",                                                                            \
         .help = "write the result file, from which bnt test merge and every report can be made",  \
         .offset = offsetof(type, member.result)},                                                 \
    {                                                                                              \
        .kind = BNT_OPT_FLAG, .long_name = "json",                                                 \
        .help = "the result file on standard output, instead of the table",                        \
        .offset = offsetof(type, member.json)                                                      \
    }

/* Whether the reports can be written, and the kill matrix be read: asked before a run that takes
 * long, told when they cannot. */
enum bnt_status test_reports_check(const struct test_reports *reports);
/* The first exit code that says more than that all passed, on a mock or not; then that of a mock.
 */
enum bnt_status test_worse(enum bnt_status first, enum bnt_status then);
/* Print the run and write the files. Returns exit_code, or what went wrong in writing, as
 * test_worse has it. */
enum bnt_status test_reports_write(const struct bnt_test_run *run,
                                   const struct test_reports *reports, enum bnt_status exit_code);
/* Print out (or the error that made it impossible) and release it. */
enum bnt_status test_print(struct bnt_buf *out, enum bnt_status status, const struct bnt_err *err);

/* To standard output: what stands before it, and a text from elsewhere within a line, as reports
 * have it. */
void test_put(const char *before, const char *text);

/* Whether every test was skipped: nothing failed, and nothing was shown. */
bool test_nothing_ran(const struct bnt_test_run *run);
/* How a run ends; the worst thing that happened decides. */
enum bnt_status test_verdict(const struct bnt_test_run *run, bool strict, bool mock);

#endif
