/* A run as one page that needs nothing besides itself: no script, no image, no font from elsewhere;
 * plots are SVG within it (report_html_plots.c, report_html_figures.c). It is HTML and, but for its
 * first line, well-formed XML at once, so that a program can check it. Texts of tests pass
 * report_markup and are cut. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "testkit/report_html.h"

enum { OUTPUT_SHOWN_BYTES = 64 * 1024, NAME_SHOWN_BYTES = 512, REASON_SHOWN_BYTES = 4096 };

/* Colours of outcomes are those of the plots, too; each is named in words beside it. */
static const char style[] =
    ":root{color-scheme:light dark;--back:#fff;--text:#1c2024;--quiet:#5b6570;--line:#d9dee3;"
    "--card:#f5f7f9;--passed:#2f9e5b;--failed:#d03b3b;--skipped:#98a2ad;--unrun:#b06fd1;"
    "--cached:#3a82d6;--warn:#d98a1f}"
    "@media (prefers-color-scheme:dark){:root{--back:#14181c;--text:#e4e8ec;--quiet:#9aa5b1;"
    "--line:#323a42;--card:#1c2227;--passed:#4dbb79;--failed:#f06a6a;--skipped:#707b86;"
    "--unrun:#c794e2;--cached:#6aa9f0;--warn:#eeb04f}}"
    "body{margin:0 auto;max-width:72rem;padding:1rem;background:var(--back);color:var(--text);"
    "font:15px/1.45 system-ui,sans-serif;overflow-wrap:anywhere}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line);"
    "vertical-align:top}th{color:var(--quiet);font-weight:600}"
    ".n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".wide{overflow-x:auto}.quiet{color:var(--quiet)}"
    "pre,code{font:13px/1.4 ui-monospace,monospace}"
    "pre{background:var(--card);padding:.6rem;overflow-x:auto;max-height:30rem;white-space:pre}"
    "details{margin:.5rem 0}summary{cursor:pointer}"
    ".card{border-left:4px solid var(--failed);padding:.1rem .8rem;margin:1rem 0;"
    "background:var(--card)}.card.quarantined{border-color:var(--warn)}"
    ".tiles{display:flex;flex-wrap:wrap;gap:.5rem}"
    ".tile{background:var(--card);padding:.4rem .8rem;border-top:3px solid var(--line)}"
    ".tile b{display:block;font-size:1.4rem}"
    ".tile.passed{border-color:var(--passed)}.tile.failed,.tile.disagreed{border-color:"
    "var(--failed)}.tile.skipped{border-color:var(--skipped)}.tile.unrun{border-color:var(--unrun)}"
    ".tile.cached{border-color:var(--cached)}.tile.quarantined{border-color:var(--warn)}"
    "svg{max-width:100%;height:auto;display:block}svg text{fill:var(--quiet);font-size:12px}"
    ".plot{min-width:44rem}td svg{display:inline-block;vertical-align:middle}"
    ".back{fill:var(--card);stroke:var(--line)}.tick{stroke:var(--line)}"
    ".band{fill:var(--cached);opacity:.3}.now{fill:var(--text)}.then{fill:var(--quiet)}"
    ".step{color:var(--warn);font-weight:600}.worse{color:var(--failed);font-weight:600}"
    ".spark{fill:none;stroke:var(--quiet);stroke-width:1}"
    ".f-passed{fill:var(--passed)}.f-failed,.f-disagreed,.f-survived{fill:var(--failed)}"
    ".f-skipped{fill:var(--skipped)}.f-unrun{fill:var(--unrun)}.f-cached{fill:var(--cached)}"
    ".f-quarantined{fill:var(--warn)}.f-killed{fill:var(--passed)}"
    ".o-failed,.o-disagreed{color:var(--failed);font-weight:600}.o-unrun{color:var(--unrun)}"
    ".o-quarantined{color:var(--warn)}"
    "@media print{pre{max-height:none;white-space:pre-wrap}}";

void html_text(struct report_writer *w, const char *text, size_t max_bytes)
{
    text = report_text(text);
    if (BNT_FAULT(html_raw)) {
        report_printf(w, "%s", text);
        return;
    }
    report_markup(w, text, max_bytes, true);
    if (strlen(text) > max_bytes) {
        report_printf(w, " ... (%zu bytes more)", strlen(text) - max_bytes);
    }
}

const char *html_class(enum bnt_test_outcome outcome)
{
    return outcome == BNT_TEST_NOT_RUN ? "unrun" : bnt_test_outcome_name(outcome);
}

static void write_name(struct report_writer *w, const struct bnt_test *t)
{
    html_text(w, t->suite, NAME_SHOWN_BYTES);
    report_printf(w, "/");
    html_text(w, t->name, NAME_SHOWN_BYTES);
}

/* ---- the top ---- */

static void write_tiles(struct report_writer *w, const struct bnt_test_run *run)
{
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    report_printf(w, "<div class=\"tiles\">\n");
    for (int o = BNT_TEST_PASSED; o < BNT_TEST_OUTCOMES; o++) {
        enum bnt_test_outcome outcome = (enum bnt_test_outcome)o;
        if (c.of[o] > 0 || o <= BNT_TEST_SKIPPED) {
            report_printf(w, "<div class=\"tile %s\"><b>%zu</b>%s</div>\n", html_class(outcome),
                          c.of[o], bnt_test_outcome_name(outcome));
        }
    }
    if (c.n_flaky > 0) {
        report_printf(w, "<div class=\"tile quarantined\"><b>%zu</b>flaky</div>\n", c.n_flaky);
    }
    size_t n_worse = report_count_worse(run);
    if (n_worse > 0) {
        report_printf(w, "<div class=\"tile failed\"><b>%zu</b>figure%s slower</div>\n", n_worse,
                      n_worse == 1 ? "" : "s");
    }
    report_printf(w, "</div>\n");
}

static void write_fact(struct report_writer *w, const char *name, const char *value)
{
    report_printf(w, "<tr><th>%s</th><td>", name);
    html_text(w, value, REASON_SHOWN_BYTES);
    report_printf(w, "</td></tr>\n");
}

static void write_facts(struct report_writer *w, const struct bnt_test_run *run)
{
    char stamp[40];
    time_t started = (time_t)run->started_unix_s;
    struct tm utc;
    strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&started, &utc));
    report_printf(w, "<details><summary>model, machine, program</summary>\n<table>\n");
    write_fact(w, "started", stamp);
    write_fact(w, "model", run->model.path);
    write_fact(w, "its sha256", run->model.digest);
    write_fact(w, "its kind", run->model.kind);
    write_fact(w, "processor", run->machine.cpu);
    if (run->machine.device[0]) {
        write_fact(w, "computes on", run->machine.device);
    }
    write_fact(w, "system", run->machine.os);
    write_fact(w, "host", run->machine.host);
    write_fact(w, "program", run->program);
    report_printf(w, "<tr><th>seed</th><td>%llu</td></tr>\n</table>\n</details>\n",
                  (unsigned long long)run->seed);
}

/* ---- failures ---- */

static void write_failure(struct report_writer *w, const struct bnt_test_run *run,
                          const struct bnt_test *t)
{
    struct bnt_buf rerun = BNT_BUF(REPORT_RERUN_MAX_BYTES);
    if (w->status == BNT_OK) {
        w->status = bnt_test_rerun(run, t, &rerun, w->err);
    }
    report_printf(w, "<div class=\"card %s\">\n<h3>", html_class(t->outcome));
    write_name(w, t);
    report_printf(w, "</h3>\n<p>%s: ", bnt_test_outcome_name(t->outcome));
    html_text(w, t->reason, REASON_SHOWN_BYTES);
    if (t->label) {
        report_printf(w, "<br/>");
        html_text(w, t->label, NAME_SHOWN_BYTES);
        report_printf(w, ": ");
        html_text(w, t->diagnosis, REASON_SHOWN_BYTES);
    }
    if (t->owner) {
        report_printf(w, "<br/>quarantined by ");
        html_text(w, t->owner, NAME_SHOWN_BYTES);
        report_printf(w, " until ");
        html_text(w, t->expires, NAME_SHOWN_BYTES);
        report_printf(w, ": ");
        html_text(w, t->excuse, REASON_SHOWN_BYTES);
    }
    report_printf(w, "</p>\n<p>Run it again:</p>\n<pre>");
    html_text(w, bnt_buf_view(&rerun), REPORT_RERUN_MAX_BYTES);
    report_printf(w, "</pre>\n");
    if (t->output && t->output[0]) {
        report_printf(w, "<details%s><summary>output</summary>\n<pre>",
                      bnt_test_is_red(t) ? " open=\"open\"" : "");
        html_text(w, t->output, OUTPUT_SHOWN_BYTES);
        report_printf(w, "</pre>\n</details>\n");
    }
    report_printf(w, "</div>\n");
    bnt_buf_release(&rerun);
}

static void write_failures(struct report_writer *w, const struct bnt_test_run *run)
{
    bool any = false;
    for (int pass = 0; pass < 2; pass++) { /* what gates first */
        for (size_t i = 0; i < run->n; i++) {
            const struct bnt_test *t = &run->at[i];
            if (pass == 0 ? bnt_test_is_red(t) : t->outcome == BNT_TEST_QUARANTINED) {
                report_printf(w, "%s", any ? "" : "<h2>Failures</h2>\n");
                any = true;
                write_failure(w, run, t);
            }
        }
    }
}

/* ---- tables ---- */

static void write_skips(struct report_writer *w, const struct bnt_test_run *run)
{
    struct report_tally tally = {0};
    report_tally_skips(w, run, &tally);
    for (size_t i = 0; i < tally.n; i++) {
        report_printf(w, "%s<tr><td>",
                      i ? ""
                        : "<h2>Skipped: what is not met here</h2>\n<table>\n<tr><th>need</th><th "
                          "class=\"n\">tests</th></tr>\n");
        html_text(w, tally.at[i].reason, REASON_SHOWN_BYTES);
        report_printf(w, "</td><td class=\"n\">%zu</td></tr>\n", tally.at[i].n);
    }
    report_printf(w, "%s", tally.n ? "</table>\n" : "");
    free(tally.at);
}

static void write_suites(struct report_writer *w, const struct bnt_test_run *run)
{
    report_printf(w, "<h2>Suites</h2>\n<div class=\"wide\"><table>\n<tr><th>suite</th><th "
                     "class=\"n\">passed</th><th class=\"n\">red</th><th "
                     "class=\"n\">skipped</th><th class=\"n\">not run</th><th "
                     "class=\"n\">seconds</th></tr>\n");
    for (size_t i = 0; i < run->n; i++) {
        if (!report_first_of_suite(run, i)) {
            continue;
        }
        struct bnt_test_counts c = bnt_test_count(run, run->at[i].suite);
        report_printf(w, "<tr><td>");
        html_text(w, run->at[i].suite, NAME_SHOWN_BYTES);
        report_printf(w,
                      "</td><td class=\"n\">%zu</td><td class=\"n\">%zu</td><td "
                      "class=\"n\">%zu</td><td class=\"n\">%zu</td><td "
                      "class=\"n\">%.2f</td></tr>\n",
                      c.of[BNT_TEST_PASSED] + c.of[BNT_TEST_CACHED],
                      c.of[BNT_TEST_FAILED] + c.of[BNT_TEST_DISAGREED], c.of[BNT_TEST_SKIPPED],
                      c.of[BNT_TEST_NOT_RUN], (double)c.wall_ns / 1e9);
    }
    report_printf(w, "</table></div>\n");
}

static void write_tests(struct report_writer *w, const struct bnt_test_run *run)
{
    report_printf(w,
                  "<h2>Tests</h2>\n<details><summary>all %zu, with their latest "
                  "runs</summary>\n<div class=\"wide\"><table>\n<tr><th>test</th><th>outcome"
                  "</th><th class=\"n\">seconds</th><th>before</th><th>why</th></tr>\n",
                  run->n);
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        report_printf(w, "<tr><td>");
        write_name(w, t);
        report_printf(w, "</td><td class=\"o-%s\">%s%s</td><td class=\"n\">%.3f</td><td>",
                      html_class(t->outcome), bnt_test_outcome_name(t->outcome),
                      bnt_test_is_flaky(t) ? ", flaky" : "", (double)t->wall_ns / 1e9);
        html_plot_past(w, t);
        report_printf(w, "</td><td class=\"quiet\">");
        html_text(w, t->reason ? t->reason : t->plan.why, REASON_SHOWN_BYTES);
        report_printf(w, "</td></tr>\n");
    }
    report_printf(w, "</table></div>\n</details>\n");
}

enum bnt_status bnt_test_report_html(const struct bnt_test_run *run, int exit_code,
                                     const struct kills *kills, struct bnt_buf *out,
                                     struct bnt_err *err)
{
    struct report_writer w = {out, err, BNT_OK};
    const char *tier = bnt_test_tier_name(run->tier);
    report_printf(&w,
                  "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n<meta "
                  "name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
                  "<title>bnt test, %s tier, exit %d</title>\n<style>%s</style>\n</head>\n<body>\n"
                  "<h1>bnt test, %s tier: %s</h1>\n",
                  tier, exit_code, style, tier, exit_code == 0 ? "ok" : "not ok");
    report_printf(&w, "<p class=\"quiet\">exit %d%s</p>\n", exit_code,
                  run->interrupted ? ", interrupted" : "");
    write_tiles(&w, run);
    html_plot_budget(&w, run);
    write_facts(&w, run);
    write_failures(&w, run);
    html_plot_workers(&w, run);
    html_plot_figures(&w, run);
    write_skips(&w, run);
    write_suites(&w, run);
    if (kills && kills->n > 0) {
        html_plot_kills(&w, kills);
    }
    write_tests(&w, run);
    report_printf(&w, "</body>\n</html>\n");
    return w.status;
}
