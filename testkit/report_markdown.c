/* A run as Markdown for the summary of a CI job. It never exceeds the given size: what comes first
 * is what one looks for first, the tables at its end have room kept for them, and what found none
 * is counted in a line. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/report_writer.h"

enum {
    OUTPUT_SHOWN_BYTES = 16 * 1024, /* of one failure */
    OUTPUT_LEAST_BYTES = 256,       /* however many there are */
    REASON_SHOWN_BYTES = 1024,
    LEFT_OUT_BYTES = 256, /* the line that counts what found no room */
    ROWS_MAX = 200,       /* of one table */
};

static void write_count(struct report_writer *w, size_t n, const char *word, bool *first)
{
    if (n > 0) {
        report_printf(w, "%s%zu %s", *first ? "" : ", ", n, word);
        *first = false;
    }
}

static void write_counts(struct report_writer *w, const struct bnt_test_run *run)
{
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    bool first = true;
    for (int o = BNT_TEST_PASSED; o < BNT_TEST_OUTCOMES; o++) {
        write_count(w, c.of[o], bnt_test_outcome_name((enum bnt_test_outcome)o), &first);
    }
    write_count(w, c.n_flaky, "flaky", &first);
    report_printf(w, "%s", first ? "no tests" : "");
}

static void write_head(struct report_writer *w, const struct bnt_test_run *run, int exit_code)
{
    report_printf(w, "## bnt test, %s tier: %s\n\n**", bnt_test_tier_name(run->tier),
                  exit_code == 0 ? "ok" : "not ok");
    write_counts(w, run);
    report_printf(w, "** in %.1f s of %.0f s, %d at a time, exit %d\n\n",
                  (double)run->wall_ns / 1e9, (double)run->budget_ms / 1e3, run->n_jobs, exit_code);
    if (run->interrupted) {
        report_printf(w, "The run was **interrupted**.\n\n");
    }
    report_printf(w, "Model: ");
    report_markdown(w, run->model.path, BNT_PATH_MAX);
    report_printf(w, " (%s", report_text(run->model.kind));
    if (run->model.digest[0]) {
        report_printf(w, ", sha256 %.12s", run->model.digest);
    }
    report_printf(w, "). Machine: ");
    report_markdown(w, run->machine.cpu, sizeof run->machine.cpu);
    if (run->machine.device[0]) {
        report_printf(w, ", computing on ");
        report_markdown(w, run->machine.device, sizeof run->machine.device);
    }
    report_printf(w, ", %d processors. Seed %llu.\n", run->machine.n_cpu,
                  (unsigned long long)run->seed);
    if (run->shard.total > 0) {
        report_printf(w, "\nShard %u of %u.\n", run->shard.index, run->shard.total);
    }
}

/* ---- the tables at the end ---- */

static void write_suites(struct report_writer *w, const struct bnt_test_run *run)
{
    size_t n = 0;
    report_printf(w, "\n### Suites\n\n| suite | passed | failed | skipped | not run | cached | s "
                     "|\n|---|---:|---:|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < run->n; i++) {
        if (!report_first_of_suite(run, i) || ++n > ROWS_MAX) {
            continue;
        }
        struct bnt_test_counts c = bnt_test_count(run, run->at[i].suite);
        report_printf(w, "| ");
        report_markdown(w, run->at[i].suite, REASON_SHOWN_BYTES);
        report_printf(w, " | %zu | %zu | %zu | %zu | %zu | %.1f |\n", c.of[BNT_TEST_PASSED],
                      c.of[BNT_TEST_FAILED] + c.of[BNT_TEST_DISAGREED], c.of[BNT_TEST_SKIPPED],
                      c.of[BNT_TEST_NOT_RUN], c.of[BNT_TEST_CACHED], (double)c.wall_ns / 1e9);
    }
    if (n > ROWS_MAX) {
        report_printf(w, "\n%zu more suites are in the result file.\n", n - ROWS_MAX);
    }
}

/* Tests of one outcome, one row each. */
static void write_outcome(struct report_writer *w, const struct bnt_test_run *run,
                          enum bnt_test_outcome outcome, const char *title)
{
    size_t n = 0;
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (t->outcome != outcome || ++n > ROWS_MAX) {
            continue;
        }
        report_printf(w, "%s%s%s| ", n == 1 ? "\n### " : "", n == 1 ? title : "",
                      n == 1 ? "\n\n| test | why |\n|---|---|\n" : "");
        report_markdown(w, t->suite, REASON_SHOWN_BYTES);
        report_printf(w, "/");
        report_markdown(w, t->name, REASON_SHOWN_BYTES);
        report_printf(w, " | ");
        report_markdown(w, report_text(t->excuse ? t->excuse : t->reason), REASON_SHOWN_BYTES);
        if (t->owner) {
            report_printf(w, " (");
            report_markdown(w, t->owner, REASON_SHOWN_BYTES);
            report_printf(w, ", until ");
            report_markdown(w, report_text(t->expires), REASON_SHOWN_BYTES);
            report_printf(w, ")");
        }
        report_printf(w, " |\n");
    }
    if (n > ROWS_MAX) {
        report_printf(w, "\n%zu more are in the result file.\n", n - ROWS_MAX);
    }
}

static void write_worse(struct report_writer *w, const struct bnt_test_run *run)
{
    size_t n = 0;
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        for (size_t k = 0; k < t->n_metrics; k++) {
            const struct bnt_test_metric *m = &t->metrics[k];
            if (!m->worse || ++n > ROWS_MAX) {
                continue;
            }
            report_printf(w, "%s| ",
                          n == 1 ? "\n### Slower\n\n| test | figure | now | against its past "
                                   "|\n|---|---|---:|---:|\n"
                                 : "");
            report_markdown(w, t->suite, REASON_SHOWN_BYTES);
            report_printf(w, "/");
            report_markdown(w, t->name, REASON_SHOWN_BYTES);
            report_printf(w, " | ");
            report_markdown(w, m->name, sizeof m->name);
            report_printf(w, " | %.5g ", m->value);
            report_markdown(w, m->unit, sizeof m->unit);
            report_printf(w, " | %+.1f %% |\n", 100 * m->change);
        }
    }
    if (n > ROWS_MAX) {
        report_printf(w, "\n%zu more are in the result file.\n", n - ROWS_MAX);
    }
}

static void write_skips(struct report_writer *w, const struct bnt_test_run *run)
{
    struct report_tally tally = {0};
    report_tally_skips(w, run, &tally);
    for (size_t i = 0; i < tally.n && i < ROWS_MAX; i++) {
        report_printf(w, "%s| ",
                      i == 0 ? "\n### Skipped\n\n| what is not met | tests |\n|---|---:|\n" : "");
        report_markdown(w, tally.at[i].reason, REASON_SHOWN_BYTES);
        report_printf(w, " | %zu |\n", tally.at[i].n);
    }
    if (tally.n > ROWS_MAX) {
        report_printf(w, "\n%zu more needs are in the result file.\n", tally.n - ROWS_MAX);
    }
    free(tally.at);
}

static void write_tables(struct report_writer *w, const struct bnt_test_run *run)
{
    write_worse(w, run);
    write_outcome(w, run, BNT_TEST_QUARANTINED, "Quarantined failures");
    write_outcome(w, run, BNT_TEST_NOT_RUN, "Not run");
    write_skips(w, run);
    write_suites(w, run);
}

/* ---- failures ---- */

static void write_failure(struct report_writer *w, const struct bnt_test_run *run,
                          const struct bnt_test *t, size_t output_bytes)
{
    struct bnt_buf rerun = BNT_BUF(REPORT_RERUN_MAX_BYTES);
    if (w->status == BNT_OK) {
        w->status = bnt_test_rerun(run, t, &rerun, w->err);
    }
    report_printf(w, "\n#### ");
    report_markdown(w, t->suite, REASON_SHOWN_BYTES);
    report_printf(w, "/");
    report_markdown(w, t->name, REASON_SHOWN_BYTES);
    report_printf(w, "\n\n%s: ", bnt_test_outcome_name(t->outcome));
    report_markdown(w, report_text(t->reason), REASON_SHOWN_BYTES);
    if (t->label) {
        report_printf(w, ". ");
        report_markdown(w, t->label, REASON_SHOWN_BYTES);
        report_printf(w, ": ");
        report_markdown(w, report_text(t->diagnosis), REASON_SHOWN_BYTES);
    }
    report_printf(w, "\n\n");
    report_markdown_block(w, bnt_buf_view(&rerun), OUTPUT_SHOWN_BYTES);
    if (t->output && t->output[0]) {
        report_printf(w, "\n<details><summary>output</summary>\n\n");
        report_markdown_block(w, t->output, output_bytes);
        report_printf(w, "\n</details>\n");
    }
    bnt_buf_release(&rerun);
}

/* Outputs share the room; a quarter, since escapes and fences make them longer. */
static size_t output_share(const struct bnt_test_run *run, size_t max)
{
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    size_t share = max / 4 / (c.of[BNT_TEST_FAILED] + c.of[BNT_TEST_DISAGREED] + 1);
    share = share < OUTPUT_LEAST_BYTES ? OUTPUT_LEAST_BYTES : share;
    return share < OUTPUT_SHOWN_BYTES ? share : OUTPUT_SHOWN_BYTES;
}

/* As many as stay below `max` bytes of the whole; the rest is counted. */
static void write_failures(struct report_writer *w, const struct bnt_test_run *run, size_t max)
{
    size_t left_out = 0;
    size_t output_bytes = output_share(run, max);
    struct bnt_buf one = BNT_BUF(16 * OUTPUT_SHOWN_BYTES);
    bool first = true;
    for (size_t i = 0; i < run->n && w->status == BNT_OK; i++) {
        if (!bnt_test_is_red(&run->at[i])) {
            continue;
        }
        struct report_writer piece = {&one, w->err, BNT_OK};
        bnt_buf_reset(&one);
        report_printf(&piece, "%s", first ? "\n### Failures\n" : "");
        write_failure(&piece, run, &run->at[i], output_bytes);
        w->status = piece.status;
        if (w->out->len + one.len > max && !BNT_FAULT(summary_unbounded)) {
            left_out++;
            continue;
        }
        report_bytes(w, bnt_buf_view(&one), one.len);
        first = false;
    }
    bnt_buf_release(&one);
    if (left_out > 0) {
        report_printf(w,
                      "\n**%zu more failures** find no room in this summary: the result file has "
                      "them, `bnt test report` shows them.\n",
                      left_out);
    }
}

enum bnt_status bnt_test_report_markdown(const struct bnt_test_run *run, int exit_code,
                                         size_t max_bytes, struct bnt_buf *out, struct bnt_err *err)
{
    static const char cut[] = "\nThe tables of suites, skips and tests that did not run find no "
                              "room in this summary: the result file has them.\n";
    struct bnt_buf tables = BNT_BUF(TEST_SUMMARY_MAX_BYTES * 8);
    struct report_writer tail = {&tables, err, BNT_OK};
    struct report_writer w = {out, err, BNT_OK};
    size_t before = out->len;
    size_t end = before + max_bytes;
    write_tables(&tail, run);
    bool fits = tables.len <= max_bytes / 2;
    size_t kept = LEFT_OUT_BYTES + (fits ? tables.len : sizeof cut - 1);
    w.status = tail.status;
    write_head(&w, run, exit_code);
    if (w.status == BNT_OK && out->len + kept > end) {
        w.status =
            bnt_err_set(err, BNT_E_NO_SPACE, "no room for a summary in %zu bytes", max_bytes);
        bnt_err_hint(err, "write it in a step of its own: each step has its own summary");
    }
    if (w.status == BNT_OK) {
        write_failures(&w, run, end - kept);
        report_bytes(&w, fits ? bnt_buf_view(&tables) : cut, fits ? tables.len : sizeof cut - 1);
    }
    bnt_buf_release(&tables);
    return w.status;
}
