/* What a run says to people: the table, the failures, the count. */
#include <stdio.h>
#include <stdlib.h>
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

/* A variable that tells the suites program what to run. */
static void write_variable(struct report_writer *w, const char *name, const char *value)
{
    if (value) {
        report_printf(w, "%s=", name);
        write_quoted(w, value);
        report_printf(w, " ");
    }
}

static void write_rerun(struct report_writer *w, const struct bnt_test_run *run,
                        const struct bnt_test *test)
{
    if (test->rerun) {
        report_line(w, test->rerun, SIZE_MAX);
        return;
    }
    write_variable(w, "BNT_TEST_MODEL", run->model_given ? run->model.path : NULL);
    if (run->seed) {
        report_printf(w, "BNT_TEST_SEED=%llu ", (unsigned long long)run->seed);
    }
    write_variable(w, "BNT_SUITE_FILES", test->file ? test->file : getenv("BNT_SUITE_FILES"));
    write_variable(w, "BNT_TEST_SUBJECT", getenv("BNT_TEST_SUBJECT"));
    write_variable(w, "BNT_TEST_DEVICE", getenv("BNT_TEST_DEVICE"));
    write_quoted(w, run->program);
    report_printf(w, " --run ");
    write_quoted(w, test->name);
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
    report_printf(w, "%s", len ? " " : "");
    report_line(w, seen, sizeof seen);
}

static void write_row(struct report_writer *w, const char *name, const struct bnt_test_counts *c)
{
    enum { NAME_COLUMNS = 14 };
    const int len = (int)strnlen(name, NAME_COLUMNS);
    report_line(w, name, SIZE_MAX);
    report_printf(w, "%*s %6zu %7zu %7zu %8zu %8zu %8.1f s", NAME_COLUMNS - len, "", c->n,
                  c->of[BNT_TEST_PASSED], c->of[BNT_TEST_FAILED], c->of[BNT_TEST_SKIPPED],
                  c->of[BNT_TEST_NOT_RUN], seconds(c->wall_ns));
}

/* Outcomes without a column: most runs have none of them. */
static void write_rest(struct report_writer *w, const struct bnt_test_counts *c)
{
    static const enum bnt_test_outcome rest[] = {BNT_TEST_CACHED, BNT_TEST_DISAGREED,
                                                 BNT_TEST_QUARANTINED};
    for (size_t i = 0; i < sizeof rest / sizeof rest[0]; i++) {
        if (c->of[rest[i]] > 0) {
            report_printf(w, "  [%zu %s]", c->of[rest[i]], bnt_test_outcome_name(rest[i]));
        }
    }
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
            write_rest(w, &c);
            report_printf(w, "\n");
        }
    }
    struct bnt_test_counts all = bnt_test_count(run, NULL);
    write_row(w, "all", &all);
    write_rest(w, &all);
    report_printf(w, "\n");
}

/* ---- failures ---- */

/* Indented, so that a test's output cannot be taken for the report's. */
static void write_output(struct report_writer *w, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        report_printf(w, "  | ");
        report_line(w, text, len);
        report_printf(w, "\n");
        text += len + (text[len] == '\n');
    }
}

/* A text within a line, and what stands before and after it. */
static void write_line(struct report_writer *w, const char *before, const char *text,
                       const char *after)
{
    report_printf(w, "%s", before);
    report_line(w, report_text(text), SIZE_MAX);
    report_printf(w, "%s", after);
}

static void write_tries(struct report_writer *w, const struct bnt_test *t)
{
    for (size_t i = 0; i < t->n_tries; i++) {
        const struct bnt_test_try *try = &t->tries[i];
        if (try->outcome != BNT_TEST_PASSED) {
            report_printf(w, "  run %zu: %s", i + 1, bnt_test_outcome_name(try->outcome));
            write_line(w, ": ", try->reason, "\n");
        }
    }
}

static void write_failure(struct report_writer *w, const struct bnt_test_run *run,
                          const struct bnt_test *t)
{
    static const char *const words[BNT_TEST_OUTCOMES] = {
        [BNT_TEST_FAILED] = "FAILED",
        [BNT_TEST_DISAGREED] = "DISAGREED",
        [BNT_TEST_QUARANTINED] = "QUARANTINED",
    };
    report_printf(w, "\n%s ", words[t->outcome]);
    report_name(w, t);
    write_line(w, ": ", t->reason, " (");
    report_printf(w, "%.2f s)\n", seconds(t->wall_ns));
    if (t->outcome == BNT_TEST_QUARANTINED) {
        write_line(w, "  known: ", t->excuse, "");
        write_line(w, " (", t->owner, "");
        write_line(w, ", until ", t->expires, ")\n");
    }
    if (t->label) {
        write_line(w, "  ", t->label, "");
        write_line(w, ": ", t->diagnosis, "\n");
    }
    write_tries(w, t);
    report_printf(w, "  rerun: ");
    write_rerun(w, run, t);
    report_printf(w, "\n");
    write_output(w, report_text(t->output));
}

/* What is known first, so that what counts is near the end, where people look. */
static void write_failures(struct report_writer *w, const struct bnt_test_run *run)
{
    for (int red = 0; red <= 1; red++) {
        for (size_t i = 0; i < run->n; i++) {
            const struct bnt_test *t = &run->at[i];
            if (red ? bnt_test_is_red(t) : t->outcome == BNT_TEST_QUARANTINED) {
                write_failure(w, run, t);
            }
        }
    }
}

static void write_flaky(struct report_writer *w, const struct bnt_test_run *run)
{
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (bnt_test_is_flaky(t)) {
            report_printf(w, "\nFLAKY ");
            report_name(w, t);
            report_printf(w, ": passed in run %zu\n", t->n_tries + 1);
            write_tries(w, t);
        }
    }
}

static void write_worse(struct report_writer *w, const struct bnt_test_run *run)
{
    const char *gap = "\n";
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        for (size_t k = 0; k < t->n_metrics; k++) {
            const struct bnt_test_metric *m = &t->metrics[k];
            if (m->worse) {
                report_printf(w, "%sSLOWER ", gap);
                report_name(w, t);
                write_line(w, ": ", m->name, " is ");
                report_printf(w, "%.5g", m->value);
                write_line(w, " ", m->unit, "");
                report_printf(w, ", %+.1f %% against %zu earlier runs\n", 100 * m->change,
                              m->n_past);
                gap = "";
            }
        }
    }
}

/* What is to be known about how tests ran, beside their verdicts. */
static void write_notes(struct report_writer *w, const struct bnt_test_run *run)
{
    enum { SHOWN = 8 };
    size_t n = 0;
    const char *gaps = NULL;
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        gaps = gaps ? gaps : t->not_enforced;
        if (t->warning && n++ < SHOWN) {
            report_printf(w, "%stime: ", n == 1 ? "\n" : "");
            report_name(w, t);
            write_line(w, " ", t->warning, "\n");
        }
    }
    if (n > SHOWN) {
        report_printf(w, "time: and %zu more, which --json shows\n", n - SHOWN);
    }
    write_worse(w, run);
    if (gaps) {
        write_line(w, "\nnot enforced here: ", gaps, "\n");
    }
    if (run->worker_note[0]) {
        write_line(w, "\nnote: ", run->worker_note, "\n");
    }
}

static void write_not_run(struct report_writer *w, const struct bnt_test_run *run)
{
    const char *gap = "\n";
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (t->outcome == BNT_TEST_NOT_RUN) {
            report_printf(w, "%sNOT RUN", gap);
            write_line(w, " (", t->reason, ") ");
            report_name(w, t);
            report_printf(w, "\n");
            gap = "";
        }
    }
}

static void write_heading(struct report_writer *w, const struct bnt_test_run *run)
{
    bool mock = bnt_test_kind_is_mock(run->model.kind);
    write_line(w, "model: ", run->model.path, "");
    report_printf(w, " (%s)%s\n", run->model.kind, mock ? "  MOCK" : "");
    report_printf(w, "tier:  %s, %.1f s of %g s, %d job%s", bnt_test_tier_name(run->tier),
                  seconds(run->wall_ns), (double)run->budget_ms / 1e3, run->n_jobs,
                  run->n_jobs == 1 ? "" : "s");
    if (run->shard.total > 0) {
        report_printf(w, ", shard %u of %u (%zu tests elsewhere)", run->shard.index,
                      run->shard.total, run->shard.elsewhere.n);
    }
    report_printf(w, "%s\n\n", run->interrupted ? "  INTERRUPTED" : "");
}

enum bnt_status bnt_test_report_text(const struct bnt_test_run *run, struct bnt_buf *out,
                                     struct bnt_err *err)
{
    struct report_writer w = {out, err, BNT_OK};
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    write_heading(&w, run);
    write_table(&w, run);
    write_flaky(&w, run);
    write_failures(&w, run);
    write_not_run(&w, run);
    write_notes(&w, run);
    report_printf(&w, "\n%zu passed, %zu failed, %zu skipped", c.of[BNT_TEST_PASSED],
                  c.of[BNT_TEST_FAILED], c.of[BNT_TEST_SKIPPED]);
    for (int o = BNT_TEST_NOT_RUN; o < BNT_TEST_OUTCOMES; o++) {
        if (c.of[o] > 0) {
            report_printf(&w, ", %zu %s", c.of[o], bnt_test_outcome_name((enum bnt_test_outcome)o));
        }
    }
    if (c.n_flaky > 0) {
        report_printf(&w, ", %zu flaky", c.n_flaky);
    }
    report_printf(&w, "\n");
    return w.status;
}
