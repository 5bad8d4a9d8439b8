/* A run as workflow commands of GitHub: `::error file=F,line=N,title=T::message`, which its pages
 * show beside the changed lines. Of each kind at most ten are shown per step, so the tenth counts
 * the rest. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "testkit/report_writer.h"

enum { ANNOTATIONS_MAX = 10, MESSAGE_BYTES = 4096, TITLE_BYTES = 200 };

bool report_location(const char *output, char *file, size_t size, unsigned *line)
{
    for (const char *at = output; at && *at;) {
        static const char cmocka[] = "[   LINE   ] --- ";
        at += strncmp(at, cmocka, sizeof cmocka - 1) == 0 ? sizeof cmocka - 1 : 0;
        size_t len = strcspn(at, *at == '/' ? "\t\r\n:" : " \t\r\n:"); /* prose has blanks, too */
        char *end = NULL;
        unsigned long n = at[len] == ':' ? strtoul(at + len + 1, &end, 10) : 0;
        if (n > 0 && n < 1u << 30 && *end == ':' && len > 2 && len < size && at[len + 1] != ' ' &&
            memchr(at, '.', len)) {
            memcpy(file, at, len);
            file[len] = '\0';
            *line = (unsigned)n;
            return true;
        }
        at += strcspn(at, "\n");
        at += *at == '\n';
    }
    return false;
}

/* Escaped as the runner reads it: a message ends with its line, a property also with ':' or ','.
 * What is no text is shown as \xHH. */
static void write_data(struct report_writer *w, const char *text, size_t max_bytes, bool property)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < max_bytes && s[i]) {
        size_t n = report_sequence(s + i);
        bool special = s[i] == '%' || s[i] == '\r' || (s[i] == '\n' && !BNT_FAULT(command_raw)) ||
                       (property && (s[i] == ':' || s[i] == ','));
        if (special) {
            report_printf(w, "%%%02X", s[i]);
        } else if (n > 0) {
            report_bytes(w, s + i, n);
        } else {
            report_printf(w, "\\x%02x", s[i]);
        }
        i += n > 0 ? n : 1;
    }
    if (s[i]) {
        report_printf(w, "...");
    }
}

/* Length of the folder of the checkout, which holds `.git`: this folder or one above it; this one
 * when none does. */
static size_t checkout_of(const char *here)
{
    char mark[BNT_PATH_MAX];
    size_t len = strlen(here);
    while (len > 0) {
        if (bnt_path_format(mark, NULL, "%.*s/.git", (int)len, here) == BNT_OK &&
            access(mark, F_OK) == 0) {
            return len;
        }
        while (len > 0 && here[--len] != '/') {
        }
    }
    return strlen(here);
}

/* The part of a path below the checkout: GitHub knows files by it. */
static const char *below_checkout(const char *file)
{
    char here[BNT_PATH_MAX];
    size_t len = getcwd(here, sizeof here) ? checkout_of(here) : 0;
    bool below = len > 1 && strncmp(file, here, len) == 0 && file[len] == '/';
    return below ? file + len + 1 : file;
}

struct annotations {
    struct report_writer w;
    const char *kind;
    size_t n, total; /* written, and to be written */
};

/* False when the kind is full; the tenth of more than ten says how many are not shown. */
static bool begin(struct annotations *a, const char *file, unsigned line)
{
    if (a->n == ANNOTATIONS_MAX - 1 && a->total > ANNOTATIONS_MAX) {
        report_printf(&a->w, "::%s title=bnt test::%zu more are in the result file\n", a->kind,
                      a->total - a->n);
        a->n++;
    }
    if (a->n >= ANNOTATIONS_MAX) {
        return false;
    }
    a->n++;
    report_printf(&a->w, "::%s ", a->kind);
    if (file) {
        report_printf(&a->w, "file=");
        write_data(&a->w, file, BNT_PATH_MAX, true);
        report_printf(&a->w, ",line=%u,", line);
    }
    report_printf(&a->w, "title=");
    return true;
}

static void annotate_test(struct annotations *a, const struct bnt_test_run *run,
                          const struct bnt_test *t)
{
    char file[512];
    unsigned line = 0;
    bool placed = report_location(t->output, file, sizeof file, &line);
    struct bnt_buf rerun = BNT_BUF(REPORT_RERUN_MAX_BYTES);
    if (!begin(a, placed ? below_checkout(file) : NULL, line)) {
        return;
    }
    if (a->w.status == BNT_OK) {
        a->w.status = bnt_test_rerun(run, t, &rerun, a->w.err);
    }
    write_data(&a->w, t->suite, TITLE_BYTES, true);
    report_printf(&a->w, "/");
    write_data(&a->w, t->name, TITLE_BYTES, true);
    if (bnt_test_is_flaky(t)) {
        report_printf(&a->w, "::passed in run %zu; before: ", t->n_tries + 1);
        write_data(&a->w, report_text(t->tries[t->n_tries - 1].reason), MESSAGE_BYTES / 4, false);
    } else {
        report_printf(&a->w, "::%s: ", bnt_test_outcome_name(t->outcome));
        write_data(&a->w, report_text(t->reason), MESSAGE_BYTES / 4, false);
    }
    if (t->label) {
        report_printf(&a->w, "%%0A");
        write_data(&a->w, t->label, TITLE_BYTES, false);
        report_printf(&a->w, ": ");
        write_data(&a->w, report_text(t->diagnosis), MESSAGE_BYTES / 4, false);
    }
    report_printf(&a->w, "%%0Arerun: ");
    write_data(&a->w, bnt_buf_view(&rerun), MESSAGE_BYTES / 2, false);
    if (t->output && t->output[0]) {
        report_printf(&a->w, "%%0A");
        write_data(&a->w, t->output, MESSAGE_BYTES, false);
    }
    report_printf(&a->w, "\n");
    bnt_buf_release(&rerun);
}

static bool is_warning(const struct bnt_test *t)
{
    return t->outcome == BNT_TEST_QUARANTINED || bnt_test_is_flaky(t);
}

static void annotate_worse(struct annotations *a, const struct bnt_test *t)
{
    for (size_t k = 0; k < t->n_metrics; k++) {
        const struct bnt_test_metric *m = &t->metrics[k];
        if (m->worse && begin(a, NULL, 0)) {
            write_data(&a->w, t->suite, TITLE_BYTES, true);
            report_printf(&a->w, "/");
            write_data(&a->w, t->name, TITLE_BYTES, true);
            report_printf(&a->w, "::slower: ");
            write_data(&a->w, m->name, sizeof m->name, false);
            report_printf(&a->w, " is %.5g ", m->value);
            write_data(&a->w, m->unit, sizeof m->unit, false);
            report_printf(&a->w, ", %+.1f %%25 against %zu earlier runs\n", 100 * m->change,
                          m->n_past);
        }
    }
}

static void annotate_tests(struct report_writer *w, const struct bnt_test_run *run,
                           const char *kind, bool (*wanted)(const struct bnt_test *))
{
    struct annotations a = {.w = *w, .kind = kind};
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    bool warns = wanted == is_warning;
    for (size_t i = 0; i < run->n; i++) {
        a.total += wanted(&run->at[i]);
    }
    a.total += warns ? 0 : report_count_worse(run);
    a.total += warns && c.of[BNT_TEST_NOT_RUN] > 0;
    if (warns && c.of[BNT_TEST_NOT_RUN] > 0 && begin(&a, NULL, 0)) {
        report_printf(&a.w,
                      "not run::%zu of %zu tests did not run: they did not fit into %.0f s, "
                      "or the run was ended early\n",
                      c.of[BNT_TEST_NOT_RUN], c.n, (double)run->budget_ms / 1e3);
    }
    for (size_t i = 0; i < run->n; i++) {
        if (wanted(&run->at[i])) {
            annotate_test(&a, run, &run->at[i]);
        }
    }
    for (size_t i = 0; i < run->n && !warns; i++) {
        annotate_worse(&a, &run->at[i]);
    }
    w->status = a.w.status;
}

static void annotate_skips(struct report_writer *w, const struct bnt_test_run *run)
{
    struct report_tally tally = {0};
    report_tally_skips(w, run, &tally);
    struct annotations a = {.w = *w, .kind = "notice", .total = tally.n};
    for (size_t i = 0; i < tally.n; i++) {
        if (begin(&a, NULL, 0)) {
            report_printf(&a.w, "%zu skipped::", tally.at[i].n);
            write_data(&a.w, tally.at[i].reason, MESSAGE_BYTES, false);
            report_printf(&a.w, "\n");
        }
    }
    w->status = a.w.status;
    free(tally.at);
}

enum bnt_status bnt_test_report_annotations(const struct bnt_test_run *run, struct bnt_buf *out,
                                            struct bnt_err *err)
{
    struct report_writer w = {out, err, BNT_OK};
    annotate_tests(&w, run, "error", bnt_test_is_red);
    annotate_tests(&w, run, "warning", is_warning);
    annotate_skips(&w, run);
    return w.status;
}
