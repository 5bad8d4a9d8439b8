/* A run as one JSON object: the result file. docs/testkit.md describes every field; result.c reads
 * it back. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_load.h"
#include "testkit/report_writer.h"

json_t *report_json_text(const char *text)
{
    return bnt_json_text(report_text(text));
}

static double seconds_of_ms(uint64_t ms)
{
    return (double)ms / 1e3;
}

static double seconds_of_ns(uint64_t ns)
{
    return (double)ns / 1e9;
}

/* ---- one test ---- */

static json_t *json_plan(const struct bnt_test_plan *p)
{
    return json_pack("{s:I, s:s, s:o, s:f, s:f, s:f, s:f}", "rank", (json_int_t)p->rank, "class",
                     bnt_test_class_name(p->kind), "why", report_json_text(p->why), "value",
                     p->value, "mean_seconds", seconds_of_ms(p->mean_ms), "fit_seconds",
                     seconds_of_ms(p->fit_ms), "worst_seconds", seconds_of_ms(p->worst_ms));
}

static json_t *json_place(const struct bnt_test_place *p)
{
    return json_pack("{s:I, s:i, s:f}", "order", (json_int_t)p->order, "slot", (int)p->slot,
                     "start_seconds", seconds_of_ms(p->start_ms));
}

static json_t *json_tries(const struct bnt_test *t)
{
    json_t *tries = json_array();
    for (size_t i = 0; i < t->n_tries; i++) {
        const struct bnt_test_try *try = &t->tries[i];
        json_array_append_new(
            tries, json_pack("{s:s, s:o, s:f, s:o}", "outcome", bnt_test_outcome_name(try->outcome),
                             "reason", report_json_text(try->reason), "seconds",
                             seconds_of_ns(try->wall_ns), "output", report_json_text(try->output)));
    }
    return tries;
}

static json_t *json_past(const struct bnt_test_past *past)
{
    json_t *all = json_array();
    for (size_t i = 0; i < past->n; i++) {
        json_array_append_new(all, json_pack("{s:s, s:f}", "outcome",
                                             bnt_test_outcome_name(past->at[i].outcome), "seconds",
                                             seconds_of_ms(past->at[i].wall_ms)));
    }
    return all;
}

static json_t *json_metric(const struct bnt_test_metric *m)
{
    json_t *o = json_pack("{s:o, s:f, s:o}", "name", report_json_text(m->name), "value", m->value,
                          "unit", report_json_text(m->unit));
    json_t *past = m->n_past > 0 ? json_array() : NULL;
    for (size_t i = 0; i < m->n_past; i++) {
        json_array_append_new(past, json_real(m->past[i]));
    }
    if (past) {
        json_object_set_new(o, "past", past);
    }
    if (m->worse) {
        json_object_set_new(o, "worse", json_real(m->change));
    }
    return o;
}

static json_t *json_metrics(const struct bnt_test *t)
{
    json_t *all = json_array();
    for (size_t i = 0; i < t->n_metrics; i++) {
        json_array_append_new(all, json_metric(&t->metrics[i]));
    }
    return all;
}

static void set_failure(json_t *o, const struct bnt_test_run *run, const struct bnt_test *t)
{
    struct bnt_buf rerun = BNT_BUF(REPORT_RERUN_MAX_BYTES);
    (void)bnt_test_rerun(run, t, &rerun, NULL);
    json_object_set_new(o, "rerun", report_json_text(bnt_buf_view(&rerun)));
    json_object_set_new(o, "output", report_json_text(t->output));
    bnt_buf_release(&rerun);
    if (t->cause) {
        json_object_set_new(o, "cause", report_json_text(t->cause));
    }
    if (t->label) {
        json_object_set_new(o, "label", report_json_text(t->label));
        json_object_set_new(o, "diagnosis", report_json_text(t->diagnosis));
    }
}

static void set_verdict(json_t *o, const struct bnt_test *t)
{
    if (t->outcome == BNT_TEST_NOT_RUN || t->outcome == BNT_TEST_CACHED) {
        return; /* it did not run */
    }
    json_object_set_new(o, "verdict", json_string(verdict_word(t->verdict)));
    if (t->warning) {
        json_object_set_new(o, "warning", report_json_text(t->warning));
    }
    if (t->not_enforced) {
        json_object_set_new(o, "not_enforced", report_json_text(t->not_enforced));
    }
}

static void set_result(json_t *o, const struct bnt_test_run *run, const struct bnt_test *t)
{
    json_object_set_new(o, "outcome", json_string(bnt_test_outcome_name(t->outcome)));
    json_object_set_new(o, "seconds", json_real(seconds_of_ns(t->wall_ns)));
    if (t->reason) {
        json_object_set_new(o, "reason", report_json_text(t->reason));
    }
    set_verdict(o, t);
    if (bnt_test_is_red(t) || t->outcome == BNT_TEST_QUARANTINED) {
        set_failure(o, run, t);
    }
    if (t->place.started) {
        json_object_set_new(o, "place", json_place(&t->place));
    }
    if (t->n_tries > 0) {
        json_object_set_new(o, "tries", json_tries(t));
    }
    if (t->cache_key[0]) {
        json_object_set_new(
            o, "cache",
            json_pack("{s:s, s:s}", "state", bnt_test_cache_name(t->cache), "key", t->cache_key));
    }
    if (t->n_metrics > 0) {
        json_object_set_new(o, "metrics", json_metrics(t));
    }
    if (t->past.n > 0) {
        json_object_set_new(o, "past", json_past(&t->past));
    }
    if (t->owner) {
        json_object_set_new(o, "quarantine",
                            json_pack("{s:o, s:o, s:o}", "owner", report_json_text(t->owner),
                                      "reason", report_json_text(t->excuse), "expires",
                                      report_json_text(t->expires)));
    }
}

static json_t *json_test(const struct bnt_test_run *run, const struct bnt_test *t)
{
    json_t *o =
        json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:I}", "name", report_json_text(t->name), "suite",
                  report_json_text(t->suite), "tier", bnt_test_tier_name(t->tier), "needs",
                  report_json_text(t->needs), "tags", report_json_text(t->tags), "subjects",
                  report_json_text(t->subjects), "timeout_ms", (json_int_t)t->timeout_ms);
    if (t->inputs[0]) {
        json_object_set_new(o, "inputs", report_json_text(t->inputs));
    }
    if (t->kills && t->kills[0]) {
        json_object_set_new(o, "kills", report_json_text(t->kills));
    }
    if (t->threads && t->threads[0]) {
        json_object_set_new(o, "threads", report_json_text(t->threads));
    }
    if (t->retry_on[0]) {
        json_object_set_new(o, "retry_on", report_json_text(t->retry_on));
    }
    if (run->order) {
        json_object_set_new(o, "plan", json_plan(&t->plan));
    }
    if (t->outcome != BNT_TEST_PENDING) {
        set_result(o, run, t);
    }
    return o;
}

/* ---- the run ---- */

static json_t *json_counts(const struct bnt_test_run *run)
{
    struct bnt_test_counts c = bnt_test_count(run, NULL);
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "tests", (json_int_t)c.n, "passed",
        (json_int_t)c.of[BNT_TEST_PASSED], "failed", (json_int_t)c.of[BNT_TEST_FAILED], "skipped",
        (json_int_t)c.of[BNT_TEST_SKIPPED], "not_run", (json_int_t)c.of[BNT_TEST_NOT_RUN], "cached",
        (json_int_t)c.of[BNT_TEST_CACHED], "disagreed", (json_int_t)c.of[BNT_TEST_DISAGREED],
        "quarantined", (json_int_t)c.of[BNT_TEST_QUARANTINED], "flaky", (json_int_t)c.n_flaky);
}

static json_t *json_machine(const struct bnt_test_machine *m)
{
    json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:i, s:I}", "fingerprint", m->fingerprint, "host",
                          report_json_text(m->host), "cpu", report_json_text(m->cpu), "os",
                          report_json_text(m->os), "processors", m->n_cpu, "memory_bytes",
                          (json_int_t)m->memory_bytes);
    if (m->device[0]) {
        json_object_set_new(o, "device", report_json_text(m->device));
    }
    return o;
}

static json_t *json_shard(const struct bnt_test_shard *s)
{
    json_t *elsewhere = json_array();
    for (size_t i = 0; i < s->elsewhere.n; i++) {
        json_array_append_new(elsewhere, report_json_text(s->elsewhere.at[i]));
    }
    return json_pack("{s:i, s:i, s:s, s:f, s:o}", "index", (int)s->index, "total", (int)s->total,
                     "plan", s->plan, "expected_seconds", s->seconds, "elsewhere", elsewhere);
}

static json_t *json_parts(const struct bnt_test_run *run)
{
    json_t *parts = json_array();
    for (size_t i = 0; i < run->n_parts; i++) {
        const struct bnt_test_part *p = &run->parts[i];
        json_array_append_new(
            parts, json_pack("{s:s, s:i, s:i, s:f, s:f, s:o}", "run", p->id, "shard", (int)p->shard,
                             "exit", p->exit_code, "seconds", p->seconds, "expected_seconds",
                             p->expected_seconds, "machine", json_machine(&p->machine)));
    }
    return parts;
}

static void set_what_ran(json_t *root, const struct bnt_test_run *run, int exit_code)
{
    json_object_set_new(root, "run", json_string(run->id));
    json_object_set_new(root, "program",
                        json_pack("{s:o, s:s, s:s, s:s}", "path", report_json_text(run->program),
                                  "digest", run->program_digest, "version", run->version, "config",
                                  run->config));
    json_object_set_new(root, "model",
                        json_pack("{s:o, s:s, s:s}", "path", report_json_text(run->model.path),
                                  "digest", run->model.digest, "kind",
                                  report_text(run->model.kind)));
    json_object_set_new(root, "model_given", json_boolean(run->model_given));
    json_object_set_new(root, "machine", json_machine(&run->machine));
    json_object_set_new(root, "seed", json_integer((json_int_t)run->seed));
    json_object_set_new(root, "started_unix_s", json_integer(run->started_unix_s));
    json_object_set_new(root, "budget_seconds", json_real(seconds_of_ms(run->budget_ms)));
    json_object_set_new(root, "grace_seconds",
                        json_real(seconds_of_ms(bnt_test_grace_ms(run->budget_ms))));
    json_object_set_new(root, "seconds", json_real(seconds_of_ns(run->wall_ns)));
    json_object_set_new(root, "jobs", json_integer(run->n_jobs));
    json_object_set_new(root, "interrupted", json_boolean(run->interrupted));
    json_object_set_new(root, "exit", json_integer(exit_code));
    json_object_set_new(root, "counts", json_counts(run));
    if (run->shard.total > 0) {
        json_object_set_new(root, "shard", json_shard(&run->shard));
    }
    if (run->n_parts > 0) {
        json_object_set_new(root, "parts", json_parts(run));
    }
}

enum bnt_status bnt_test_report_json(const struct bnt_test_run *run, int exit_code,
                                     struct bnt_buf *out, struct bnt_err *err)
{
    json_t *tests = json_array();
    for (size_t i = 0; i < run->n; i++) {
        json_array_append_new(tests, json_test(run, &run->at[i]));
    }
    json_t *root = json_pack("{s:s, s:i, s:s, s:I}", "format", "bnt-test-result", "schema",
                             BNT_TEST_RESULT_SCHEMA, "tier", bnt_test_tier_name(run->tier),
                             "other_tier", (json_int_t)run->n_other_tier);
    if (run->started_unix_s > 0) {
        set_what_ran(root, run, exit_code);
    }
    json_object_set_new(root, "tests", tests);
    char *text = bnt_json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
    json_decref(root);
    struct report_writer w = {out, err, text ? BNT_OK : bnt_err_nomem(err, "the JSON report", 0)};
    report_printf(&w, "%s\n", report_text(text));
    free(text);
    return w.status;
}
