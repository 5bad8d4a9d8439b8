/* JUnit XML of a run: the attributes and elements on which the common readers (GitHub, GitLab,
 * Jenkins) agree.
 *
 * Whatever the tests wrote, the file is well-formed: characters that XML 1.0 forbids, and bytes
 * that are no UTF-8, are written as text, \xHH. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "testkit/report_writer.h"

/* Output kept per failure: readers such as GitHub's cut or refuse more. */
enum { OUTPUT_SHOWN_BYTES = 64 * 1024 };

static void write_attribute(struct report_writer *w, const char *name, const char *value)
{
    report_printf(w, " %s=\"", name);
    report_markup(w, value, SIZE_MAX, true);
    report_printf(w, "\"");
}

/* The text of an element: how to run it again, what was found out, what it wrote. */
static void write_story(struct report_writer *w, const struct bnt_test_run *run,
                        const struct bnt_test *t)
{
    struct bnt_buf rerun = BNT_BUF(REPORT_RERUN_MAX_BYTES);
    if (w->status == BNT_OK) {
        w->status = bnt_test_rerun(run, t, &rerun, w->err);
    }
    report_printf(w, "verdict: %s\nrerun: ", verdict_word(t->verdict));
    report_markup(w, bnt_buf_view(&rerun), SIZE_MAX, false);
    report_printf(w, "\n");
    if (t->label) {
        report_markup(w, t->label, SIZE_MAX, false);
        report_printf(w, ": ");
        report_markup(w, report_text(t->diagnosis), SIZE_MAX, false);
        report_printf(w, "\n");
    }
    report_markup(w, report_text(t->output), OUTPUT_SHOWN_BYTES, false);
    bnt_buf_release(&rerun);
}

static void write_failure(struct report_writer *w, const struct bnt_test_run *run,
                          const struct bnt_test *t)
{
    report_printf(w, "      <failure");
    write_attribute(w, "message", report_text(t->reason));
    write_attribute(w, "type", t->label ? t->label : bnt_test_outcome_name(t->outcome));
    report_printf(w, ">");
    write_story(w, run, t);
    report_printf(w, "</failure>\n");
}

/* What did not run, or did not count: readers know only one word for it. */
static void write_skipped(struct report_writer *w, const struct bnt_test *t)
{
    static const char *const words[BNT_TEST_OUTCOMES] = {
        [BNT_TEST_NOT_RUN] = "NOT RUN (",
        [BNT_TEST_CACHED] = "CACHED (",
        [BNT_TEST_QUARANTINED] = "QUARANTINED (",
    };
    char message[512];
    const char *word = report_text(words[t->outcome]);
    snprintf(message, sizeof message, "%s%s%s", word, report_text(t->reason), word[0] ? ")" : "");
    report_printf(w, "      <skipped");
    write_attribute(w, "message", message);
    report_printf(w, "/>\n");
}

/* A failure in quarantine is a skip, so that it does not count, with its story as output. */
static void write_quarantined(struct report_writer *w, const struct bnt_test_run *run,
                              const struct bnt_test *t)
{
    write_skipped(w, t);
    report_printf(w, "      <system-out>");
    report_markup(w, report_text(t->owner), SIZE_MAX, false);
    report_printf(w, ", until ");
    report_markup(w, report_text(t->expires), SIZE_MAX, false);
    report_printf(w, ": ");
    report_markup(w, report_text(t->excuse), SIZE_MAX, false);
    report_printf(w, "\n");
    write_story(w, run, t);
    report_printf(w, "</system-out>\n");
}

static void write_flaky(struct report_writer *w, const struct bnt_test *t)
{
    report_printf(w, "      <system-out>FLAKY: passed in run %zu\n", t->n_tries + 1);
    for (size_t i = 0; i < t->n_tries; i++) {
        report_printf(w, "run %zu: ", i + 1);
        report_markup(w, report_text(t->tries[i].reason), SIZE_MAX, false);
        report_printf(w, "\n");
        report_markup(w, report_text(t->tries[i].output), OUTPUT_SHOWN_BYTES, false);
    }
    report_printf(w, "</system-out>\n");
}

static void write_case(struct report_writer *w, const struct bnt_test_run *run,
                       const struct bnt_test *t)
{
    report_printf(w, "    <testcase");
    write_attribute(w, "name", t->name);
    write_attribute(w, "classname", t->suite);
    report_printf(w, " time=\"%.3f\">\n", (double)t->wall_ns / 1e9);
    if (bnt_test_is_red(t)) {
        write_failure(w, run, t);
    } else if (t->outcome == BNT_TEST_QUARANTINED) {
        write_quarantined(w, run, t);
    } else if (bnt_test_is_flaky(t)) {
        write_flaky(w, t);
    } else if (t->outcome != BNT_TEST_PASSED) {
        write_skipped(w, t);
    }
    report_printf(w, "    </testcase>\n");
}

static void write_counts(struct report_writer *w, const struct bnt_test_counts *c)
{
    report_printf(w, " tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"%zu\" time=\"%.3f\"",
                  c->n, c->of[BNT_TEST_FAILED] + c->of[BNT_TEST_DISAGREED],
                  c->of[BNT_TEST_SKIPPED] + c->of[BNT_TEST_NOT_RUN] + c->of[BNT_TEST_CACHED] +
                      c->of[BNT_TEST_QUARANTINED],
                  (double)c->wall_ns / 1e9);
}

static void write_properties(struct report_writer *w, const struct bnt_test_run *run)
{
    const char *const rows[][2] = {
        {"tier", bnt_test_tier_name(run->tier)},
        {"model", run->model.path},
        {"model-kind", run->model.kind},
        {"version", run->version},
        {"config", run->config},
    };
    report_printf(w, "    <properties>\n");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        report_printf(w, "      <property");
        write_attribute(w, "name", rows[i][0]);
        write_attribute(w, "value", report_text(rows[i][1]));
        report_printf(w, "/>\n");
    }
    report_printf(w, "    </properties>\n");
}

static void write_suite(struct report_writer *w, const struct bnt_test_run *run, const char *suite)
{
    char stamp[32];
    time_t started = (time_t)run->started_unix_s;
    struct tm utc;
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", gmtime_r(&started, &utc));
    struct bnt_test_counts c = bnt_test_count(run, suite);
    report_printf(w, "  <testsuite");
    write_attribute(w, "name", suite);
    write_counts(w, &c);
    write_attribute(w, "timestamp", stamp);
    write_attribute(w, "hostname", run->machine.host);
    report_printf(w, ">\n");
    write_properties(w, run);
    for (size_t i = 0; i < run->n; i++) {
        if (strcmp(run->at[i].suite, suite) == 0) {
            write_case(w, run, &run->at[i]);
        }
    }
    report_printf(w, "  </testsuite>\n");
}

enum bnt_status bnt_test_report_junit(const struct bnt_test_run *run, struct bnt_buf *out,
                                      struct bnt_err *err)
{
    struct report_writer w = {out, err, BNT_OK};
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    report_printf(&w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"bnt test\"");
    write_counts(&w, &c);
    report_printf(&w, ">\n");
    for (size_t i = 0; i < run->n; i++) {
        if (report_first_of_suite(run, i)) {
            write_suite(&w, run, run->at[i].suite);
        }
    }
    report_printf(&w, "</testsuites>\n");
    return w.status;
}
