/* A run as TAP version 14. What a test wrote is in comments: whatever it holds, it is no result to
 * a reader. */
#include <string.h>

#include "testkit/report_writer.h"

/* Behind "#"; '#' itself, line ends and control characters would end a directive. */
static void write_directive(struct report_writer *w, const char *word, const char *text)
{
    report_printf(w, " # %s ", word);
    for (const char *c = report_text(text); *c; c++) {
        bool plain = (unsigned char)*c >= 0x20 && *c != 0x7f && *c != '#' && *c != '\\';
        report_bytes(w, plain ? c : "?", 1);
    }
}

static void write_comment(struct report_writer *w, const char *head, const char *text)
{
    for (const char *at = report_text(text); *at;) {
        size_t len = strcspn(at, "\n");
        report_printf(w, "# %s", head);
        report_line(w, at, len);
        report_printf(w, "\n");
        at += len + (at[len] == '\n');
    }
}

static void write_detail(struct report_writer *w, const struct bnt_test_run *run,
                         const struct bnt_test *t)
{
    struct bnt_buf rerun = BNT_BUF(4 * BNT_PATH_MAX);
    if (w->status == BNT_OK) {
        w->status = bnt_test_rerun(run, t, &rerun, w->err);
    }
    write_comment(w, "why: ", t->reason);
    write_comment(w, "diagnosis: ", t->diagnosis);
    write_comment(w, "rerun: ", bnt_buf_view(&rerun));
    write_comment(w, "| ", t->output);
    bnt_buf_release(&rerun);
}

static void write_point(struct report_writer *w, const struct bnt_test_run *run, size_t i)
{
    const struct bnt_test *t = &run->at[i];
    report_printf(w, "%sok %zu - %s/%s",
                  bnt_test_is_red(t) || t->outcome == BNT_TEST_QUARANTINED ? "not " : "", i + 1,
                  t->suite, t->name);
    if (t->outcome == BNT_TEST_SKIPPED) {
        write_directive(w, "SKIP", t->reason);
    } else if (t->outcome == BNT_TEST_NOT_RUN) {
        write_directive(w, "SKIP NOT RUN:", t->reason);
    } else if (t->outcome == BNT_TEST_CACHED) {
        write_directive(w, "SKIP CACHED:", t->reason);
    } else if (t->outcome == BNT_TEST_QUARANTINED) {
        write_directive(w, "TODO quarantined:", t->excuse);
    }
    report_printf(w, "\n");
    if (bnt_test_is_flaky(t)) {
        report_printf(w, "# flaky: passed in run %zu\n", t->n_tries + 1);
    }
    if (bnt_test_is_red(t) || t->outcome == BNT_TEST_QUARANTINED) {
        write_detail(w, run, t);
    }
}

enum bnt_status bnt_test_report_tap(const struct bnt_test_run *run, struct bnt_buf *out,
                                    struct bnt_err *err)
{
    struct report_writer w = {out, err, BNT_OK};
    report_printf(&w, "TAP version 14\n1..%zu\n", run->n);
    for (size_t i = 0; i < run->n; i++) {
        write_point(&w, run, i);
    }
    return w.status;
}
