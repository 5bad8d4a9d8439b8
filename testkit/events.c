#include "testkit/events.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json_load.h"
#include "testkit/report_writer.h"

enum bnt_status events_open(struct events *e, const char *path, struct bnt_err *err)
{
    *e = (struct events){.start_ns = bnt_clock_now_ns(), .path = path};
    if (!path) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_file_is_named(path, err);
    if (st != BNT_OK) {
        return st;
    }
    e->file = fopen(path, "we");
    return e->file ? BNT_OK : bnt_err_errno(err, "events %s", path);
}

/* Takes line. */
static void write_line(struct events *e, json_t *line)
{
    char *text = line ? bnt_json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    errno = ENOMEM;
    if (!e->failed && (!text || fprintf(e->file, "%s\n", text) < 0 || fflush(e->file) != 0)) {
        e->failed = errno;
    }
    free(text);
    json_decref(line);
}

static double at(const struct events *e)
{
    return (double)(bnt_clock_now_ns() - e->start_ns) / 1e9;
}

void events_begin(struct events *e, const struct bnt_test_run *run)
{
    e->start_ns = bnt_clock_now_ns();
    if (e->file) {
        write_line(e,
                   json_pack("{s:s, s:s, s:s, s:I, s:i, s:f, s:I}", "event", "run", "run", run->id,
                             "tier", bnt_test_tier_name(run->tier), "tests", (json_int_t)run->n,
                             "jobs", run->n_jobs, "budget_seconds", (double)run->budget_ms / 1e3,
                             "started_unix_s", (json_int_t)bnt_clock_unix_s()));
    }
}

static void write_end(struct events *e, const struct bnt_test *t)
{
    write_line(e, json_pack("{s:s, s:f, s:o, s:o, s:s, s:f, s:o, s:I}", "event", "end", "at", at(e),
                            "suite", report_json_text(t->suite), "test", report_json_text(t->name),
                            "outcome", bnt_test_outcome_name(t->outcome), "seconds",
                            (double)t->wall_ns / 1e9, "reason", report_json_text(t->reason), "try",
                            (json_int_t)t->n_tries + 1));
}

void events_test(void *ctx, const struct bnt_test_run *run, const struct bnt_test *t)
{
    struct events *e = ctx;
    (void)run;
    if (!e->file) {
        return;
    }
    if (t->outcome == BNT_TEST_PENDING) {
        write_line(e,
                   json_pack("{s:s, s:f, s:o, s:o, s:i, s:I}", "event", "start", "at", at(e),
                             "suite", report_json_text(t->suite), "test", report_json_text(t->name),
                             "slot", (int)t->place.slot, "try", (json_int_t)t->n_tries + 1));
    } else {
        write_end(e, t);
    }
}

enum bnt_status events_end(struct events *e, const struct bnt_test_run *run, int exit_code,
                           struct bnt_err *err)
{
    if (!e->file) {
        return BNT_OK;
    }
    for (size_t i = 0; i < run->n; i++) {
        if (!run->at[i].place.started) {
            write_end(e, &run->at[i]);
        }
    }
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    json_t *done = json_pack("{s:s, s:f, s:i}", "event", "done", "at", at(e), "exit", exit_code);
    for (int o = BNT_TEST_PASSED; o < BNT_TEST_OUTCOMES; o++) {
        json_object_set_new(done, bnt_test_outcome_name((enum bnt_test_outcome)o),
                            json_integer((json_int_t)c.of[o]));
    }
    write_line(e, done);
    if (fclose(e->file) != 0 && !e->failed) {
        e->failed = errno;
    }
    e->file = NULL;
    errno = e->failed;
    return e->failed ? bnt_err_errno(err, "events %s", e->path) : BNT_OK;
}
