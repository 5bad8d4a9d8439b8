/* Reading a result file back into a run. The file may come from anywhere: every field is checked
 * for its type and its range before it is used. A field that is absent has the value that the
 * writer leaves out (zero, ""), except the ones without which a test has no meaning. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json_load.h"
#include "testkit/report_writer.h"

#define HINT "give a file that bnt test --result wrote"
enum { RESULT_MAX_BYTES = 256 << 20, ARRAY_MAX = 1 << 20 };

/* The first failure stays; reading goes on with zeroes. */
struct reader {
    const char *path;
    char where[160]; /* "tests[3]" */
    struct bnt_err *err;
    enum bnt_status status;
};

static void complain(struct reader *r, const char *key, const char *expected)
{
    if (r->status == BNT_OK) {
        r->status = bnt_err_set(r->err, BNT_E_FILE, "%s: %s%s%s is not %s", r->path, r->where,
                                r->where[0] ? "." : "", key, expected);
        bnt_err_hint(r->err, "%s", HINT);
    }
}

/* The text of a key, "" when it is absent; of a required one that is absent a complaint. */
static const char *text_of(struct reader *r, const json_t *o, const char *key, bool required)
{
    const json_t *v = json_object_get(o, key);
    if ((v && !json_is_string(v)) || (!v && required)) {
        complain(r, key, "a text");
    }
    return json_is_string(v) ? json_string_value(v) : "";
}

static char *take_text(struct reader *r, const json_t *o, const char *key, bool required)
{
    char *copy = strdup(text_of(r, o, key, required));
    if (!copy && r->status == BNT_OK) {
        r->status = bnt_err_nomem(r->err, r->path, 0);
    }
    return copy;
}

/* NULL when it is absent. */
static char *take_optional(struct reader *r, const json_t *o, const char *key)
{
    return json_object_get(o, key) ? take_text(r, o, key, true) : NULL;
}

static void copy_text(struct reader *r, const json_t *o, const char *key, char *out, size_t size)
{
    const char *text = text_of(r, o, key, false);
    if (strlen(text) >= size) {
        complain(r, key, "short enough");
        text = "";
    }
    memcpy(out, text, strlen(text) + 1);
}

static double real_of(struct reader *r, const json_t *o, const char *key, double max)
{
    const json_t *v = json_object_get(o, key);
    double value = json_number_value(v);
    if (v && (!json_is_number(v) || !(value >= 0 && value <= max))) {
        complain(r, key, "a number in its range");
        return 0;
    }
    return value;
}

static uint64_t ms_of(struct reader *r, const json_t *o, const char *key)
{
    return (uint64_t)(real_of(r, o, key, 1e9) * 1e3 + 0.5);
}

static uint64_t ns_of(struct reader *r, const json_t *o, const char *key)
{
    return (uint64_t)(real_of(r, o, key, 1e9) * 1e9 + 0.5);
}

static uint64_t integer_of(struct reader *r, const json_t *o, const char *key, uint64_t max)
{
    const json_t *v = json_object_get(o, key);
    json_int_t value = json_integer_value(v);
    if (v && (!json_is_integer(v) || value < 0 || (uint64_t)value > max)) {
        complain(r, key, "an integer in its range");
        return 0;
    }
    return (uint64_t)value;
}

/* Room for the n values of an array, zeroed; NULL when there are none, or with a complaint. */
static void *take_array(struct reader *r, const json_t *array, const char *key, size_t value_bytes)
{
    size_t n = json_array_size(array);
    if (n > ARRAY_MAX || (array && !json_is_array(array))) {
        complain(r, key, "an array of bearable length");
        return NULL;
    }
    void *at = n > 0 ? calloc(n, value_bytes) : NULL;
    if (n > 0 && !at && r->status == BNT_OK) {
        r->status = bnt_err_nomem(r->err, r->path, n * value_bytes);
    }
    return at;
}

static enum bnt_test_outcome outcome_of(struct reader *r, const json_t *o)
{
    enum bnt_test_outcome outcome = bnt_test_outcome_from_name(text_of(r, o, "outcome", true));
    if (outcome == BNT_TEST_OUTCOMES || outcome == BNT_TEST_PENDING) {
        complain(r, "outcome", "an outcome");
        return BNT_TEST_FAILED;
    }
    return outcome;
}

static enum bnt_test_tier tier_of(struct reader *r, const json_t *o)
{
    enum bnt_test_tier tier = bnt_test_tier_from_name(text_of(r, o, "tier", true));
    if (tier == BNT_TIERS) {
        complain(r, "tier", "fast, integration or full");
        return BNT_TIER_FAST;
    }
    return tier;
}

/* ---- one test ---- */

static void read_plan(struct reader *r, const json_t *o, struct bnt_test_plan *p)
{
    const char *name = text_of(r, o, "class", true);
    int kind = 0;
    while (kind < BNT_PLAN_CLASSES &&
           strcmp(bnt_test_class_name((enum bnt_plan_class)kind), name) != 0) {
        kind++;
    }
    if (kind == BNT_PLAN_CLASSES) {
        complain(r, "plan.class", "a class of the plan");
        kind = BNT_PLAN_VALUE;
    }
    p->kind = (enum bnt_plan_class)kind;
    copy_text(r, o, "why", p->why, sizeof p->why);
    p->rank = (size_t)integer_of(r, o, "rank", ARRAY_MAX);
    p->value = real_of(r, o, "value", 1);
    p->mean_ms = ms_of(r, o, "mean_seconds");
    p->fit_ms = ms_of(r, o, "fit_seconds");
    p->worst_ms = ms_of(r, o, "worst_seconds");
}

static void read_place(struct reader *r, const json_t *o, struct bnt_test_place *p)
{
    p->started = true;
    p->order = (size_t)integer_of(r, o, "order", ARRAY_MAX);
    p->slot = (unsigned)integer_of(r, o, "slot", 1 << 20);
    p->start_ms = ms_of(r, o, "start_seconds");
}

static void read_tries(struct reader *r, const json_t *tries, struct bnt_test *t)
{
    size_t n = json_array_size(tries);
    t->tries = take_array(r, tries, "tries", sizeof *t->tries);
    for (size_t i = 0; t->tries && i < n; i++) {
        const json_t *o = json_array_get(tries, i);
        struct bnt_test_try *try = &t->tries[t->n_tries++];
        try->outcome = outcome_of(r, o);
        try->reason = take_text(r, o, "reason", false);
        try->output = take_text(r, o, "output", false);
        try->wall_ns = ns_of(r, o, "seconds");
    }
}

static void read_past(struct reader *r, const json_t *past, struct bnt_test_past *out)
{
    size_t n = json_array_size(past);
    for (size_t i = n > BNT_TEST_PAST ? n - BNT_TEST_PAST : 0; i < n; i++) {
        const json_t *o = json_array_get(past, i);
        out->at[out->n].outcome = outcome_of(r, o);
        out->at[out->n++].wall_ms = ms_of(r, o, "seconds");
    }
}

static void read_metric(struct reader *r, const json_t *o, struct bnt_test_metric *m)
{
    const json_t *past = json_object_get(o, "past");
    size_t n = json_array_size(past);
    copy_text(r, o, "name", m->name, sizeof m->name);
    copy_text(r, o, "unit", m->unit, sizeof m->unit);
    m->value = json_number_value(json_object_get(o, "value"));
    m->worse = json_object_get(o, "worse") != NULL;
    m->change = json_number_value(json_object_get(o, "worse"));
    for (size_t i = n > BNT_TEST_PAST ? n - BNT_TEST_PAST : 0; i < n; i++) {
        m->past[m->n_past++] = json_number_value(json_array_get(past, i));
    }
}

static void read_metrics(struct reader *r, const json_t *metrics, struct bnt_test *t)
{
    size_t n = json_array_size(metrics);
    t->metrics = take_array(r, metrics, "metrics", sizeof *t->metrics);
    for (size_t i = 0; t->metrics && i < n && i < BNT_TEST_METRICS_MAX; i++) {
        read_metric(r, json_array_get(metrics, i), &t->metrics[t->n_metrics++]);
    }
}

static void read_cache(struct reader *r, const json_t *o, struct bnt_test *t)
{
    const char *name = text_of(r, o, "state", true);
    copy_text(r, o, "key", t->cache_key, sizeof t->cache_key);
    for (int s = BNT_CACHE_OFF; s <= BNT_CACHE_AUDIT; s++) {
        if (strcmp(bnt_test_cache_name((enum bnt_cache_state)s), name) == 0) {
            t->cache = (enum bnt_cache_state)s;
            return;
        }
    }
    complain(r, "cache.state", "off, miss, hit or audit");
}

static void read_extras(struct reader *r, const json_t *o, struct bnt_test *t)
{
    const json_t *plan = json_object_get(o, "plan");
    const json_t *place = json_object_get(o, "place");
    const json_t *cache = json_object_get(o, "cache");
    const json_t *quarantine = json_object_get(o, "quarantine");
    if (plan) {
        read_plan(r, plan, &t->plan);
    }
    if (place) {
        read_place(r, place, &t->place);
    }
    if (cache) {
        read_cache(r, cache, t);
    }
    if (quarantine) {
        t->owner = take_text(r, quarantine, "owner", true);
        t->excuse = take_text(r, quarantine, "reason", true);
        t->expires = take_text(r, quarantine, "expires", true);
    }
    read_tries(r, json_object_get(o, "tries"), t);
    read_past(r, json_object_get(o, "past"), &t->past);
    read_metrics(r, json_object_get(o, "metrics"), t);
}

static void read_test(struct reader *r, const json_t *o, struct bnt_test *t)
{
    t->name = take_text(r, o, "name", true);
    t->suite = take_text(r, o, "suite", true);
    t->needs = take_text(r, o, "needs", false);
    t->tags = take_text(r, o, "tags", false);
    t->subjects = take_text(r, o, "subjects", false);
    t->kills = take_text(r, o, "kills", false);
    t->threads = take_text(r, o, "threads", false);
    t->retry_on = take_text(r, o, "retry_on", false);
    t->inputs = take_text(r, o, "inputs", false);
    t->tier = tier_of(r, o);
    t->timeout_ms = (unsigned)integer_of(r, o, "timeout_ms", UINT32_MAX);
    t->outcome = outcome_of(r, o);
    t->wall_ns = ns_of(r, o, "seconds");
    t->reason = take_optional(r, o, "reason");
    t->output = take_optional(r, o, "output");
    t->rerun = take_optional(r, o, "rerun");
    t->cause = take_optional(r, o, "cause");
    t->warning = take_optional(r, o, "warning");
    t->not_enforced = take_optional(r, o, "not_enforced");
    (void)verdict_from_word(text_of(r, o, "verdict", false), &t->verdict);
    t->label = take_optional(r, o, "label");
    t->diagnosis = take_optional(r, o, "diagnosis");
    read_extras(r, o, t);
}

/* ---- the run ---- */

static void read_machine(struct reader *r, const json_t *o, struct bnt_test_machine *m)
{
    copy_text(r, o, "fingerprint", m->fingerprint, sizeof m->fingerprint);
    copy_text(r, o, "host", m->host, sizeof m->host);
    copy_text(r, o, "cpu", m->cpu, sizeof m->cpu);
    copy_text(r, o, "os", m->os, sizeof m->os);
    copy_text(r, o, "device", m->device, sizeof m->device);
    m->n_cpu = (int)integer_of(r, o, "processors", 1 << 20);
    m->memory_bytes = integer_of(r, o, "memory_bytes", INT64_MAX);
}

static void read_model(struct reader *r, const json_t *o, struct bnt_model_ref *m)
{
    static const char *const kinds[] = {"real", "tiny", "scripted", "http"};
    copy_text(r, o, "path", m->path, sizeof m->path);
    copy_text(r, o, "digest", m->digest, sizeof m->digest);
    const char *kind = text_of(r, o, "kind", true);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && !m->kind; i++) {
        m->kind = strcmp(kinds[i], kind) == 0 ? kinds[i] : NULL;
    }
    if (!m->kind) {
        complain(r, "model.kind", "a kind of model");
    }
}

static void read_shard(struct reader *r, const json_t *o, struct bnt_test_shard *s)
{
    s->index = (unsigned)integer_of(r, o, "index", UINT16_MAX);
    s->total = (unsigned)integer_of(r, o, "total", UINT16_MAX);
    s->seconds = real_of(r, o, "expected_seconds", 1e9);
    copy_text(r, o, "plan", s->plan, sizeof s->plan);
    const json_t *elsewhere = json_object_get(o, "elsewhere");
    size_t n = json_array_size(elsewhere);
    s->elsewhere.at = take_array(r, elsewhere, "shard.elsewhere", sizeof *s->elsewhere.at);
    for (size_t i = 0; s->elsewhere.at && i < n; i++) {
        const char *name = json_string_value(json_array_get(elsewhere, i));
        char *copy = strdup(name ? name : "");
        if (!copy || !name) {
            complain(r, "shard.elsewhere", "a list of names");
            free(copy);
            return;
        }
        s->elsewhere.at[s->elsewhere.n++] = copy;
    }
    if (s->total == 0 || s->index == 0 || s->index > s->total) {
        complain(r, "shard.index", "from 1 to shard.total");
    }
}

static void read_parts(struct reader *r, const json_t *parts, struct bnt_test_run *run)
{
    size_t n = json_array_size(parts);
    run->parts = take_array(r, parts, "parts", sizeof *run->parts);
    for (size_t i = 0; run->parts && i < n; i++) {
        const json_t *o = json_array_get(parts, i);
        struct bnt_test_part *p = &run->parts[run->n_parts++];
        copy_text(r, o, "run", p->id, sizeof p->id);
        p->shard = (unsigned)integer_of(r, o, "shard", UINT16_MAX);
        p->exit_code = (int)integer_of(r, o, "exit", 255);
        p->seconds = real_of(r, o, "seconds", 1e9);
        p->expected_seconds = real_of(r, o, "expected_seconds", 1e9);
        read_machine(r, json_object_get(o, "machine"), &p->machine);
    }
}

static void read_run(struct reader *r, const json_t *root, struct bnt_test_run *run)
{
    const json_t *program = json_object_get(root, "program");
    copy_text(r, root, "run", run->id, sizeof run->id);
    copy_text(r, program, "path", run->program, sizeof run->program);
    copy_text(r, program, "digest", run->program_digest, sizeof run->program_digest);
    copy_text(r, program, "version", run->version, sizeof run->version);
    copy_text(r, program, "config", run->config, sizeof run->config);
    run->tier = tier_of(r, root);
    run->n_other_tier = (size_t)integer_of(r, root, "other_tier", ARRAY_MAX);
    run->seed = integer_of(r, root, "seed", INT64_MAX);
    run->started_unix_s = (int64_t)integer_of(r, root, "started_unix_s", INT64_MAX);
    if (run->started_unix_s == 0) { /* a list of tests has none, and no results */
        complain(r, "started_unix_s", "the time of a run");
    }
    run->budget_ms = ms_of(r, root, "budget_seconds");
    run->wall_ns = ns_of(r, root, "seconds");
    run->n_jobs = (int)integer_of(r, root, "jobs", 1 << 20);
    run->interrupted = json_is_true(json_object_get(root, "interrupted"));
    run->model_given = json_is_true(json_object_get(root, "model_given"));
    read_model(r, json_object_get(root, "model"), &run->model);
    read_machine(r, json_object_get(root, "machine"), &run->machine);
    if (json_object_get(root, "shard")) {
        read_shard(r, json_object_get(root, "shard"), &run->shard);
    }
    read_parts(r, json_object_get(root, "parts"), run);
}

/* Planned positions become the order again, when they are one. */
static void restore_order(struct reader *r, struct bnt_test_run *run)
{
    run->order = malloc((run->n + 1) * sizeof *run->order);
    bool *seen = calloc(run->n + 1, sizeof *seen);
    if (!run->order || !seen) {
        r->status = r->status ? r->status : bnt_err_nomem(r->err, r->path, 0);
    }
    for (size_t i = 0; r->status == BNT_OK && i < run->n; i++) {
        size_t rank = run->at[i].plan.rank;
        if (rank >= run->n || seen[rank]) {
            complain(r, "plan.rank", "a position of its own");
        } else {
            seen[rank] = true;
            run->order[rank] = i;
        }
    }
    free(seen);
}

static void read_tests(struct reader *r, const json_t *tests, struct bnt_test_run *run)
{
    size_t n = json_array_size(tests);
    if (!tests) {
        complain(r, "tests", "there");
    }
    run->at = take_array(r, tests, "tests", sizeof *run->at);
    bool planned = n > 0;
    while (run->at && run->n < n && r->status == BNT_OK) {
        const json_t *o = json_array_get(tests, run->n);
        snprintf(r->where, sizeof r->where, "tests[%zu]", run->n);
        planned &= json_object_get(o, "plan") != NULL;
        read_test(r, o, &run->at[run->n++]);
    }
    r->where[0] = '\0';
    if (planned) {
        restore_order(r, run);
    }
}

static void read_root(struct reader *r, const json_t *root, struct bnt_test_run *run)
{
    const json_t *schema = json_object_get(root, "schema");
    if (strcmp(text_of(r, root, "format", true), "bnt-test-result") != 0) {
        complain(r, "format", "bnt-test-result");
    } else if (json_integer_value(schema) > BNT_TEST_RESULT_SCHEMA) {
        r->status =
            bnt_err_set(r->err, BNT_E_UNSUPPORTED, "%s has schema %lld; this bnt knows %d", r->path,
                        (long long)json_integer_value(schema), BNT_TEST_RESULT_SCHEMA);
        bnt_err_hint(r->err, "use the bnt that wrote it, or a newer one");
    } else {
        read_run(r, root, run);
        read_tests(r, json_object_get(root, "tests"), run);
    }
}

enum bnt_status bnt_test_result_read(const char *path, struct bnt_test_run *run, int *exit_code,
                                     struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(RESULT_MAX_BYTES);
    struct reader r = {.path = path, .err = err};
    r.status = bnt_file_read(path, &text, err);
    json_error_t at;
    json_t *root = r.status == BNT_OK
                       ? bnt_json_load(bnt_buf_view(&text), text.len, JSON_REJECT_DUPLICATES, &at)
                       : NULL;
    if (r.status == BNT_OK && !root) {
        r.status = bnt_err_set(err, BNT_E_FILE, "%s:%d: no JSON: %s", path, at.line, at.text);
        bnt_err_hint(err, "%s", HINT);
    }
    if (root) {
        read_root(&r, root, run);
        *exit_code = (int)integer_of(&r, root, "exit", 255);
    }
    json_decref(root);
    bnt_buf_release(&text);
    return r.status;
}
