#include "testkit/shard.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/json_load.h"
#include "testkit/identity.h"
#include "testkit/planner.h"

enum { TIMES_MAX_BYTES = 16 << 20, PLAN_MAX_BYTES = 16 << 20 };

/* ---- which shard this is ---- */

static bool read_number(const char *text, unsigned long max, unsigned *out)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    *out = (unsigned)value;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && value <= max;
}

/* "2/5", both from 1. */
static bool read_pair(const char *text, unsigned *index, unsigned *total)
{
    char first[16];
    const char *slash = strchr(text, '/');
    if (!slash || slash - text >= (long)sizeof first) {
        return false;
    }
    snprintf(first, sizeof first, "%.*s", (int)(slash - text), text);
    return read_number(first, SHARDS_MAX, index) && read_number(slash + 1, SHARDS_MAX, total) &&
           *index >= 1 && *index <= *total;
}

static enum bnt_status bad_environment(const char *what, const char *value, struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "--shard auto: %s says \"%s\"", what, value);
    bnt_err_hint(err, "give the shard as --shard INDEX/TOTAL, from 1");
    return st;
}

/* Slurm numbers an array from any minimum, in steps. */
static enum bnt_status from_slurm(unsigned *index, unsigned *total, struct bnt_err *err)
{
    const char *id = getenv("SLURM_ARRAY_TASK_ID");
    const char *min = getenv("SLURM_ARRAY_TASK_MIN");
    const char *step = getenv("SLURM_ARRAY_TASK_STEP");
    const char *count = getenv("SLURM_ARRAY_TASK_COUNT");
    unsigned at = 0;
    unsigned first = 0;
    unsigned by = 1;
    bool read = read_number(id, UINT32_MAX, &at) && count &&
                read_number(count, SHARDS_MAX, total) &&
                (!min || read_number(min, UINT32_MAX, &first)) &&
                (!step || read_number(step, UINT32_MAX, &by));
    if (!read || by == 0 || at < first || (at - first) % by != 0 || (at - first) / by >= *total) {
        return bad_environment("SLURM_ARRAY_TASK_ID", id, err);
    }
    *index = (at - first) / by + 1;
    return BNT_OK;
}

static enum bnt_status from_environment(unsigned *index, unsigned *total, struct bnt_err *err)
{
    const struct {
        const char *index_name, *index, *total_name, *total;
        unsigned base; /* number of the first shard */
    } systems[] = {
        {"CI_NODE_INDEX", getenv("CI_NODE_INDEX"), "CI_NODE_TOTAL", getenv("CI_NODE_TOTAL"), 1},
        {"BUILDKITE_PARALLEL_JOB", getenv("BUILDKITE_PARALLEL_JOB"), "BUILDKITE_PARALLEL_JOB_COUNT",
         getenv("BUILDKITE_PARALLEL_JOB_COUNT"), 0},
        {"CIRCLE_NODE_INDEX", getenv("CIRCLE_NODE_INDEX"), "CIRCLE_NODE_TOTAL",
         getenv("CIRCLE_NODE_TOTAL"), 0},
        {"JOB_COMPLETION_INDEX", getenv("JOB_COMPLETION_INDEX"), "BNT_SHARD_TOTAL",
         getenv("BNT_SHARD_TOTAL"), 0},
    };
    const char *ours = getenv("BNT_SHARD");
    if (ours) {
        return read_pair(ours, index, total) ? BNT_OK : bad_environment("BNT_SHARD", ours, err);
    }
    for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
        if (!systems[i].index) {
            continue;
        }
        if (!systems[i].total) {
            return bad_environment(systems[i].total_name, "nothing", err);
        }
        bool read = read_number(systems[i].index, SHARDS_MAX, index) &&
                    read_number(systems[i].total, SHARDS_MAX, total);
        *index += 1 - systems[i].base;
        return read && *index >= 1 && *index <= *total
                   ? BNT_OK
                   : bad_environment(systems[i].index_name, systems[i].index, err);
    }
    if (getenv("SLURM_ARRAY_TASK_ID")) {
        return from_slurm(index, total, err);
    }
    enum bnt_status st =
        bnt_err_set(err, BNT_E_USAGE, "--shard auto: no CI system says which shard this is");
    bnt_err_hint(err, "set BNT_SHARD=INDEX/TOTAL, or give --shard INDEX/TOTAL");
    return st;
}

enum bnt_status shard_parse(const char *text, unsigned *index, unsigned *total, struct bnt_err *err)
{
    if (strcmp(text, "auto") == 0) {
        return from_environment(index, total, err);
    }
    if (read_pair(text, index, total)) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "--shard %s: not INDEX/TOTAL", text);
    bnt_err_hint(err, "the second of five is --shard 2/5; at most %d", SHARDS_MAX);
    return st;
}

/* ---- who runs what ---- */

static enum bnt_status read_times(const char *path, json_t **root, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(TIMES_MAX_BYTES);
    json_error_t at;
    enum bnt_status st = bnt_file_read(path, &text, err);
    *root = st == BNT_OK ? bnt_json_load(bnt_buf_view(&text), text.len, 0, &at) : NULL;
    const char *format = json_string_value(json_object_get(*root, "format"));
    if (st == BNT_OK && (!format || strcmp(format, "bnt-test-times") != 0)) {
        st = bnt_err_set(err, BNT_E_FILE, "%s: no file of test times", path);
        bnt_err_hint(err, "write one: bnt test history --times >%s", path);
    }
    bnt_buf_release(&text);
    return st;
}

struct load {
    const struct bnt_test *test;
    uint64_t ms;
    size_t index;
    unsigned shard; /* from 1 */
};

static int longest_first(const void *a, const void *b)
{
    const struct load *x = a;
    const struct load *y = b;
    return x->ms != y->ms ? (x->ms < y->ms) - (x->ms > y->ms)
                          : strcmp(x->test->name, y->test->name);
}

/* A time that is not in the file, or is none, comes from the test's class. */
static uint64_t expected_ms(const struct bnt_test *t, const json_t *times)
{
    const json_t *seconds = json_object_get(json_object_get(times, "seconds"), t->name);
    double s = json_number_value(seconds);
    return json_is_number(seconds) && s >= 0 && s < 1e6 ? (uint64_t)(s * 1e3 + 0.5) + 1
                                                        : plan_class_ms(t);
}

/* Give every test its shard; what each has is in the loads, sorted by time. */
static void divide(struct load *loads, size_t n, unsigned total, uint64_t *sums)
{
    qsort(loads, n, sizeof *loads, longest_first);
    for (size_t i = 0; i < n; i++) {
        unsigned least = 0;
        for (unsigned k = 1; k < total; k++) {
            least = sums[k] < sums[least] && !BNT_FAULT(shard_unbalanced) ? k : least;
        }
        sums[least] += loads[i].ms;
        loads[i].shard = least + 1;
    }
}

static enum bnt_status digest_division(const struct load *loads, size_t n, unsigned total,
                                       char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(PLAN_MAX_BYTES);
    enum bnt_status st = bnt_buf_printf(&text, err, "%u\n", total);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = bnt_buf_printf(&text, err, "%s %u\n", loads[i].test->name, loads[i].shard);
    }
    if (st == BNT_OK) {
        st = identity_digest(bnt_buf_view(&text), text.len, hex, err);
    }
    bnt_buf_release(&text);
    return st;
}

char *shard_full_name(const struct bnt_test *t)
{
    char *full = NULL;
    return asprintf(&full, "%s/%s", t->suite, t->name) < 0 ? NULL : full;
}

/* Move the tests of the shard to the front, in their order, and keep only them. */
static enum bnt_status keep_shard(struct bnt_test_run *run, const struct load *loads, size_t n,
                                  struct bnt_err *err)
{
    bool *mine = calloc(n + 1, sizeof *mine);
    enum bnt_status st = mine ? BNT_OK : bnt_err_nomem(err, "the shard", n);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        bool is = mine[loads[i].index] = loads[i].shard == run->shard.index;
        char *full = is ? NULL : shard_full_name(loads[i].test);
        if (full) {
            st = bnt_test_names_add(&run->shard.elsewhere, full, err);
        } else if (!is) {
            st = bnt_err_nomem(err, "the shard", 0);
        }
        free(full);
    }
    size_t n_kept = 0;
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        if (mine[i]) {
            struct bnt_test kept = run->at[i];
            run->at[i] = run->at[n_kept];
            run->at[n_kept++] = kept;
        }
    }
    if (st == BNT_OK) {
        bnt_test_keep_first(run, n_kept);
    }
    free(mine);
    return st;
}

/* Who runs what. */
struct division {
    struct load *loads; /* one per test, sorted by time */
    uint64_t *sums;     /* one per shard, ms */
};

static void division_release(struct division *d)
{
    free(d->loads);
    free(d->sums);
}

/* Released by the caller also after a failure. */
static enum bnt_status division_make(const struct bnt_test_run *run, unsigned total,
                                     const char *times_path, struct division *d,
                                     struct bnt_err *err)
{
    json_t *times = NULL;
    d->sums = calloc(total, sizeof *d->sums);
    d->loads = calloc(run->n + 1, sizeof *d->loads);
    enum bnt_status st = d->sums && d->loads ? BNT_OK : bnt_err_nomem(err, "the shards", run->n);
    if (st == BNT_OK && times_path) {
        st = read_times(times_path, &times, err);
    }
    for (size_t i = 0; st == BNT_OK && i < run->n; i++) {
        d->loads[i] = (struct load){&run->at[i], expected_ms(&run->at[i], times), i, 0};
    }
    if (st == BNT_OK) {
        divide(d->loads, run->n, total, d->sums);
    }
    json_decref(times);
    return st;
}

enum bnt_status shard_loads(const struct bnt_test_run *run, unsigned total, const char *times_path,
                            struct shard_load *each, struct bnt_err *err)
{
    struct division d = {0};
    enum bnt_status st = division_make(run, total, times_path, &d, err);
    for (unsigned k = 0; st == BNT_OK && k < total; k++) {
        each[k] = (struct shard_load){0, (double)d.sums[k] / 1e3};
    }
    for (size_t i = 0; st == BNT_OK && i < run->n; i++) {
        each[d.loads[i].shard - 1].tests++;
    }
    division_release(&d);
    return st;
}

enum bnt_status shard_split(struct bnt_test_run *run, unsigned index, unsigned total,
                            const char *times_path, struct bnt_err *err)
{
    struct division d = {0};
    enum bnt_status st = division_make(run, total, times_path, &d, err);
    if (st == BNT_OK) {
        run->shard.index = index;
        run->shard.total = total;
        run->shard.seconds = (double)d.sums[index - 1] / 1e3;
        st = digest_division(d.loads, run->n, total, run->shard.plan, err);
    }
    if (st == BNT_OK) {
        st = keep_shard(run, d.loads, run->n, err);
    }
    division_release(&d);
    return st;
}
