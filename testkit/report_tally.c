/* What is counted over a run: skips by what is not met, the most frequent first (what a machine
 * lacks is one line, however many tests want it), and figures that got worse. */
#include <stdlib.h>
#include <string.h>

#include "testkit/report_writer.h"

static int most_first(const void *a, const void *b)
{
    const struct report_tally_row *x = a;
    const struct report_tally_row *y = b;
    return x->n != y->n ? (x->n < y->n) - (x->n > y->n) : strcmp(x->reason, y->reason);
}

void report_tally_skips(struct report_writer *w, const struct bnt_test_run *run,
                        struct report_tally *out)
{
    out->at = calloc(run->n + 1, sizeof *out->at);
    if (!out->at) {
        w->status = w->status ? w->status : bnt_err_nomem(w->err, "a report", run->n);
        return;
    }
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        size_t k = 0;
        if (t->outcome != BNT_TEST_SKIPPED) {
            continue;
        }
        while (k < out->n && strcmp(out->at[k].reason, report_text(t->reason)) != 0) {
            k++;
        }
        out->at[k].reason = report_text(t->reason);
        out->at[k].n++;
        out->n += k == out->n;
    }
    qsort(out->at, out->n, sizeof *out->at, most_first);
}

size_t report_count_worse(const struct bnt_test_run *run)
{
    size_t n = 0;
    for (size_t i = 0; i < run->n; i++) {
        for (size_t k = 0; k < run->at[i].n_metrics; k++) {
            n += run->at[i].metrics[k].worse;
        }
    }
    return n;
}
