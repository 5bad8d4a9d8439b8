/* A run as one JSON object. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "testkit/report_writer.h"

/* A JSON string whatever the bytes: in a text that is no UTF-8, every byte past ASCII becomes
 * U+FFFD. */
static json_t *json_text(const char *text)
{
    json_t *value = json_string(text);
    if (value) {
        return value;
    }
    struct bnt_buf clean = BNT_BUF(16 << 20);
    struct report_writer w = {&clean, NULL, BNT_OK};
    for (const char *c = text; *c; c++) {
        bool ascii = (unsigned char)*c < 0x80;
        report_bytes(&w, ascii ? c : "\xef\xbf\xbd", ascii ? 1 : 3);
    }
    value = json_string(bnt_buf_view(&clean));
    bnt_buf_release(&clean);
    return value;
}

static json_t *json_failure(const struct bnt_test_run *run, const struct bnt_test *t)
{
    struct bnt_buf rerun = BNT_BUF(4 * BNT_PATH_MAX);
    (void)bnt_test_rerun(run, t, &rerun, NULL);
    json_t *o = json_pack("{s:o, s:o}", "rerun", json_text(bnt_buf_view(&rerun)), "output",
                          json_text(report_text(t->output)));
    bnt_buf_release(&rerun);
    return o;
}

static json_t *json_test(const struct bnt_test_run *run, const struct bnt_test *t)
{
    json_t *o =
        json_pack("{s:o, s:o, s:s, s:o}", "name", json_text(t->name), "suite", json_text(t->suite),
                  "tier", bnt_test_tier_name(t->tier), "needs", json_text(t->needs));
    if (t->outcome == BNT_TEST_PENDING) { /* a listing */
        json_object_set_new(o, "timeout_ms", json_integer(t->timeout_ms));
        return o;
    }
    json_object_set_new(o, "outcome", json_string(bnt_test_outcome_name(t->outcome)));
    json_object_set_new(o, "seconds", json_real((double)t->wall_ns / 1e9));
    if (t->reason) {
        json_object_set_new(o, "reason", json_text(t->reason));
    }
    if (t->outcome == BNT_TEST_FAILED) {
        json_t *failure = json_failure(run, t);
        json_object_update(o, failure);
        json_decref(failure);
    }
    return o;
}

static json_t *json_counts(const struct bnt_test_run *run)
{
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "tests", (json_int_t)c.n, "passed",
                     (json_int_t)c.of[BNT_TEST_PASSED], "failed", (json_int_t)c.of[BNT_TEST_FAILED],
                     "skipped", (json_int_t)c.of[BNT_TEST_SKIPPED], "not_run",
                     (json_int_t)c.of[BNT_TEST_NOT_RUN]);
}

static void set_what_ran(json_t *root, const struct bnt_test_run *run, int exit_code)
{
    json_object_set_new(root, "model",
                        json_pack("{s:o, s:s, s:s}", "path", json_text(run->model.path), "digest",
                                  run->model.digest, "kind", report_text(run->model.kind)));
    json_object_set_new(root, "budget_seconds", json_real((double)run->budget_ms / 1e3));
    json_object_set_new(root, "seconds", json_real((double)run->wall_ns / 1e9));
    json_object_set_new(root, "jobs", json_integer(run->n_jobs));
    json_object_set_new(root, "interrupted", json_boolean(run->interrupted));
    json_object_set_new(root, "exit", json_integer(exit_code));
    json_object_set_new(root, "counts", json_counts(run));
}

enum bnt_status bnt_test_report_json(const struct bnt_test_run *run, int exit_code,
                                     struct bnt_buf *out, struct bnt_err *err)
{
    json_t *tests = json_array();
    for (size_t i = 0; i < run->n; i++) {
        json_array_append_new(tests, json_test(run, &run->at[i]));
    }
    json_t *root = json_pack("{s:s}", "tier", bnt_test_tier_name(run->tier));
    if (run->started_unix_s > 0) {
        set_what_ran(root, run, exit_code);
    }
    json_object_set_new(root, "tests", tests);
    char *text = json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(root);
    struct report_writer w = {out, err, text ? BNT_OK : bnt_err_nomem(err, "the JSON report", 0)};
    report_printf(&w, "%s\n", report_text(text));
    free(text);
    return w.status;
}
