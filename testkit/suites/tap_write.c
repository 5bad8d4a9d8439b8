/* Results as TAP. See tap_write.h. */
#include "testkit/suites/tap_write.h"

#include <string.h>

#include "testkit/suites/confine.h"

/* The test's output, each line behind "# | ": whatever it holds, it is a comment to a reader of
 * TAP. */
static void write_quoted(FILE *out, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");
        fprintf(out, "# | %.*s\n", (int)len, text);
        text += len + (text[len] == '\n');
    }
}

static void write_failure(FILE *out, const struct suite_test *t, const struct isolate_result *r,
                          const struct tap_tally *tally)
{
    fprintf(out, "# why: %s\n", r->why);
    if (r->cause[0]) {
        fprintf(out, "# cause: %s\n", r->cause);
    }
    fprintf(out, "# rerun: %s%s --run %s\n", tally->program, tally->corpus ? " --corpus" : "",
            t->name);
    write_quoted(out, r->output ? r->output : "");
}

/* The lines of suite_metric, whatever the verdict. */
static void write_metrics(FILE *out, const char *text)
{
    static const char mark[] = "@metric ";
    while (*text) {
        size_t len = strcspn(text, "\n");
        if (strncmp(text, mark, strlen(mark)) == 0) {
            size_t skip = strlen(mark);
            fprintf(out, "# metric: %.*s\n", (int)(len - skip), text + skip);
        }
        text += len + (text[len] == '\n');
    }
}

void tap_write_result(FILE *out, const struct suite_test *t, const struct isolate_result *r,
                      struct tap_tally *tally)
{
    double ms = (double)r->wall_ns / 1e6;
    if (r->verdict == VERDICT_INTERRUPTED) {
        return;
    }
    tally->number++;
    bool good = verdict_is_good(r->verdict);
    if (verdict_is_skip(r->verdict)) {
        tally->skipped++;
        fprintf(out, "ok %u - %s # SKIP %s\n", tally->number, t->name, r->why);
    } else {
        *(good ? &tally->passed : &tally->failed) += 1;
        fprintf(out, "%s %u - %s # time=%.1fms\n", good ? "ok" : "not ok", tally->number, t->name,
                ms);
    }
    fprintf(out, "# verdict: %s\n", verdict_word(r->verdict));
    if (r->time[0]) {
        fprintf(out, "# warning: %s\n", r->time);
    }
    if (r->not_enforced & ~tally->not_enforced) {
        fprintf(out, "# not enforced here: %s\n", confine_gaps(r->not_enforced));
        tally->not_enforced |= r->not_enforced;
    }
    write_metrics(out, r->output ? r->output : "");
    if (!good) {
        write_failure(out, t, r, tally);
    }
}

void tap_write_end(FILE *out, const struct tap_tally *t)
{
    fprintf(out, "1..%u\n%u passed, %u failed, %u skipped\n", t->number, t->passed, t->failed,
            t->skipped);
}
