/* What a run says to people: the table, the failures, the count. */
#include <stdio.h>
#include <string.h>

#include "testkit/report_writer.h"

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* ---- rerun ---- */

static void write_quoted(struct report_writer *w, const char *word)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
    if (word[0] && strspn(word, plain) == strlen(word)) {
        report_printf(w, "%s", word);
        return;
    }
    report_printf(w, "'");
    for (const char *c = word; *c; c++) {
        report_printf(w, *c == '\'' ? "'\\''" : "%c", *c);
    }
    report_printf(w, "'");
}

static void write_rerun(struct report_writer *w, const struct bnt_test_run *run,
                        const struct bnt_test *test)
{
    if (run->model_given) {
        report_printf(w, "BNT_TEST_MODEL=");
        write_quoted(w, run->model.path);
        report_printf(w, " ");
    }
    if (run->seed) {
        report_printf(w, "BNT_TEST_SEED=%llu ", (unsigned long long)run->seed);
    }
    write_quoted(w, run->program);
    report_printf(w, " --run %s", test->name);
}

enum bnt_status bnt_test_rerun(const struct bnt_test_run *run, const struct bnt_test *test,
                               struct bnt_buf *out, struct bnt_err *err)
{
    struct report_writer w = {out, err, BNT_OK};
    write_rerun(&w, run, test);
    return w.status;
}

/* ---- the table ---- */

/* The distinct reasons for which tests of a suite were skipped, without their details, such as
 * "needs: shared". */
static void write_skip_reasons(struct report_writer *w, const struct bnt_test_run *run,
                               const char *suite)
{
    char seen[512] = "";
    size_t len = 0;
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (t->outcome != BNT_TEST_SKIPPED || strcmp(t->suite, suite) != 0) {
            continue;
        }
        const char *why = report_text(t->reason);
        size_t n = strcspn(why, "(");
        while (n > 0 && why[n - 1] == ' ') {
            n--;
        }
        char word[128];
        snprintf(word, sizeof word, "[%.*s]", (int)n, why);
        if (!strstr(seen, word) && len + strlen(word) + 2 < sizeof seen) {
            len += (size_t)snprintf(seen + len, sizeof seen - len, " %s", word);
        }
    }
    report_printf(w, "%s%s", len ? " " : "", seen);
}

static void write_row(struct report_writer *w, const char *name, const struct bnt_test_counts *c)
{
    report_printf(w, "%-14s %6zu %7zu %7zu %8zu %8zu %8.1f s", name, c->n, c->of[BNT_TEST_PASSED],
                  c->of[BNT_TEST_FAILED], c->of[BNT_TEST_SKIPPED], c->of[BNT_TEST_NOT_RUN],
                  seconds(c->wall_ns));
}

static void write_table(struct report_writer *w, const struct bnt_test_run *run)
{
    report_printf(w, "%-14s %6s %7s %7s %8s %8s %10s\n", "suite", "tests", "passed", "failed",
                  "skipped", "not run", "time");
    for (size_t i = 0; i < run->n; i++) {
        if (report_first_of_suite(run, i)) {
            const char *suite = run->at[i].suite;
            struct bnt_test_counts c = bnt_test_count(run, suite);
            write_row(w, suite, &c);
            write_skip_reasons(w, run, suite);
            report_printf(w, "\n");
        }
    }
    struct bnt_test_counts all = bnt_test_count(run, NULL);
    write_row(w, "all", &all);
    report_printf(w, "\n");
}

/* ---- failures ---- */

/* Indented, so that a test's output cannot be taken for the report's. */
static void write_output(struct report_writer *w, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        report_printf(w, "  | ");
        report_bytes(w, text, len);
        report_printf(w, "\n");
        text += len + (text[len] == '\n');
    }
}

static void write_failures(struct report_writer *w, const struct bnt_test_run *run)
{
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (t->outcome == BNT_TEST_FAILED) {
            report_printf(w, "\nFAILED %s/%s: %s (%.2f s)\n  rerun: ", t->suite, t->name,
                          report_text(t->reason), seconds(t->wall_ns));
            write_rerun(w, run, t);
            report_printf(w, "\n");
            write_output(w, report_text(t->output));
        }
    }
}

static void write_not_run(struct report_writer *w, const struct bnt_test_run *run)
{
    const char *gap = "\n";
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (t->outcome == BNT_TEST_NOT_RUN) {
            report_printf(w, "%sNOT RUN (%s) %s/%s\n", gap, report_text(t->reason), t->suite,
                          t->name);
            gap = "";
        }
    }
}

static void write_heading(struct report_writer *w, const struct bnt_test_run *run)
{
    bool mock = strcmp(run->model.kind, "real") != 0;
    report_printf(w, "model: %s (%s)%s\n", run->model.path, run->model.kind, mock ? "  MOCK" : "");
    report_printf(w, "tier:  %s, %.1f s of %g s, %d job%s%s\n\n", bnt_test_tier_name(run->tier),
                  seconds(run->wall_ns), (double)run->budget_ms / 1e3, run->n_jobs,
                  run->n_jobs == 1 ? "" : "s", run->interrupted ? "  INTERRUPTED" : "");
}

enum bnt_status bnt_test_report_text(const struct bnt_test_run *run, struct bnt_buf *out,
                                     struct bnt_err *err)
{
    struct report_writer w = {out, err, BNT_OK};
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    write_heading(&w, run);
    write_table(&w, run);
    write_failures(&w, run);
    write_not_run(&w, run);
    report_printf(&w, "\n%zu passed, %zu failed, %zu skipped", c.of[BNT_TEST_PASSED],
                  c.of[BNT_TEST_FAILED], c.of[BNT_TEST_SKIPPED]);
    if (c.of[BNT_TEST_NOT_RUN] > 0) {
        report_printf(&w, ", %zu not run", c.of[BNT_TEST_NOT_RUN]);
    }
    report_printf(&w, "\n");
    return w.status;
}
