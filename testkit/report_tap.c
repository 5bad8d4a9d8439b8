/* A run as TAP version 14. What a test wrote is in comments: whatever it holds, it is no result to
 * a reader. */
#include <string.h>

#include "testkit/report_writer.h"

/* Within a line. '#' would begin a directive, or end one: a name has it behind a backslash, where a
 * directive cannot; what is no text is '?'. */
static void write_plain(struct report_writer *w, const char *text, bool is_name)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t n; *s; s += n > 0 ? n : 1) {
        bool special = *s == '#' || *s == '\\';
        n = *s < ' ' ? 0 : report_sequence(s);
        if (n == 0 || (special && !is_name)) {
            report_bytes(w, "?", 1);
        } else {
            report_bytes(w, "\\", special);
            report_bytes(w, s, n);
        }
    }
}

static void write_directive(struct report_writer *w, const char *word, const char *text)
{
    report_printf(w, " # %s ", word);
    write_plain(w, report_text(text), false);
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
    struct bnt_buf rerun = BNT_BUF(REPORT_RERUN_MAX_BYTES);
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
    report_printf(w, "%sok %zu - ",
                  bnt_test_is_red(t) || t->outcome == BNT_TEST_QUARANTINED ? "not " : "", i + 1);
    write_plain(w, t->suite, true);
    report_printf(w, "/");
    write_plain(w, t->name, true);
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
