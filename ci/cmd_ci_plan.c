/* bnt ci plan: how many machines a tier needs, as the matrix of a job. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json_load.h"
#include "base/msg.h"
#include "ci/cmd_ci_impl.h"
#include "testkit/bnt_test.h"
#include "testkit/shard.h"

struct plan_opts {
    const char *tier, *times, *suites, *output;
    struct bnt_strs filters;
    int64_t shards, most;
    double seconds;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "tier",
     .arg = "TIER",
     .help = "the tier that is cut",
     .offset = offsetof(struct plan_opts, tier),
     .def = "integration",
     .choices = "fast|integration|full"},
    {.kind = BNT_OPT_LIST,
     .long_name = "filter",
     .arg = "WORDS",
     .help = "only tests that match, as bnt test has it",
     .offset = offsetof(struct plan_opts, filters)},
    {.kind = BNT_OPT_INT,
     .long_name = "shards",
     .arg = "N",
     .help = "so many shards; 0: as few as keep each within --seconds",
     .offset = offsetof(struct plan_opts, shards),
     .max = SHARDS_MAX},
    {.kind = BNT_OPT_FLOAT,
     .long_name = "seconds",
     .arg = "SECONDS",
     .help = "what a shard may be expected to take; 0: half the tier's budget",
     .offset = offsetof(struct plan_opts, seconds),
     .max = 86400},
    {.kind = BNT_OPT_INT,
     .long_name = "max",
     .arg = "N",
     .help = "never more shards than that",
     .offset = offsetof(struct plan_opts, most),
     .def = "8",
     .min = 1,
     .max = SHARDS_MAX},
    {.kind = BNT_OPT_STR,
     .long_name = "times",
     .arg = "FILE",
     .help = "times of tests, from bnt test history --times; the file that bnt test --shard gets",
     .offset = offsetof(struct plan_opts, times)},
    {.kind = BNT_OPT_STR,
     .long_name = "suites",
     .arg = "FILE",
     .help = "the program that holds the tests (bnt-suites)",
     .offset = offsetof(struct plan_opts, suites)},
    CI_OUTPUT_ROW(struct plan_opts),
    BNT_OPT_END,
};

static enum bnt_status collect(const struct plan_opts *o, struct bnt_test_run *run,
                               struct bnt_err *err)
{
    char program[BNT_PATH_MAX];
    enum bnt_status st = o->suites ? bnt_path_format(program, err, "%s", o->suites)
                                   : bnt_test_find_program(program, err);
    if (st == BNT_OK) {
        st = bnt_test_collect(run, program, bnt_test_tier_from_name(o->tier), &o->filters, err);
    }
    if (st == BNT_OK && run->n == 0) {
        bnt_err_hint(err, "bnt test --list --tier %s shows what there is", o->tier);
        st = bnt_err_set(err, BNT_E_NO_TESTS, "no test selected");
    }
    return st;
}

static double longest(const struct shard_load *loads, unsigned n)
{
    double most = 0;
    for (unsigned i = 0; i < n; i++) {
        most = loads[i].seconds > most ? loads[i].seconds : most;
    }
    return most;
}

/* The least number of shards of which none takes longer than asked for, within the bounds. */
static enum bnt_status divide(const struct plan_opts *o, const struct bnt_test_run *run,
                              struct shard_load *loads, unsigned *n, struct bnt_err *err)
{
    double wanted =
        o->seconds > 0 ? o->seconds : (double)bnt_test_tier_budget_ms(run->tier) / 2000.0;
    unsigned most = (size_t)o->most < run->n ? (unsigned)o->most : (unsigned)run->n;
    *n = o->shards > 0 ? (unsigned)o->shards : 1;
    enum bnt_status st = shard_loads(run, *n, o->times, loads, err);
    while (st == BNT_OK && o->shards == 0 && *n < most && longest(loads, *n) > wanted) {
        st = shard_loads(run, ++*n, o->times, loads, err);
    }
    if (st == BNT_OK && longest(loads, *n) > wanted) {
        bnt_msg_note("with %u shards the longest is expected to take %.0f s, more than %.0f", *n,
                     longest(loads, *n), wanted);
    }
    return st;
}

static enum bnt_status print_matrix(const struct shard_load *loads, unsigned n, const char *output)
{
    json_t *include = json_array();
    for (unsigned i = 0; i < n; i++) {
        char shard[32];
        snprintf(shard, sizeof shard, "%u/%u", i + 1, n);
        json_array_append_new(include, json_pack("{s:s, s:I, s:f}", "shard", shard, "tests",
                                                 (json_int_t)loads[i].tests, "expected_seconds",
                                                 loads[i].seconds));
    }
    json_t *root = json_pack("{s:o}", "include", include);
    /* Not by bnt_json_print: the text may go into a file of outputs, too. */
    char *text = bnt_json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(root);
    enum bnt_status st =
        text ? ci_tell(text, output) : bnt_msg_fail(BNT_E_MEMORY, NULL, "no memory for the matrix");
    free(text);
    return st;
}

static enum bnt_status run(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct plan_opts *o = parsed;
    struct bnt_err err = {0};
    struct bnt_test_run tests = {0};
    unsigned n = 0;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "see: bnt ci plan --help", "no operand is taken: %s",
                            argv[0]);
    }
    struct shard_load *loads = calloc(SHARDS_MAX, sizeof *loads);
    enum bnt_status st = loads ? collect(o, &tests, &err) : bnt_err_nomem(&err, "the shards", 0);
    if (st == BNT_OK) {
        st = divide(o, &tests, loads, &n, &err);
    }
    st = st == BNT_OK ? print_matrix(loads, n, o->output) : bnt_msg_error(&err);
    bnt_test_run_release(&tests);
    free(loads);
    return st;
}

const struct bnt_cmd bnt_cmd_ci_plan = {
    .name = "plan",
    .synopsis = "[--tier TIER] [--shards N | --seconds S] [--times FILE] [--output NAME]",
    .summary = "the shards of a tier as the matrix of a job",
    .description = "Prints {\"include\": [{\"shard\": \"1/3\", \"tests\": 41, "
                   "\"expected_seconds\": 57.2}, ...]}, for strategy.matrix and then "
                   "bnt test --shard ${{ matrix.shard }}. The shards are those that bnt test cuts "
                   "with the same tier, filters and times.",
    .examples = "  bnt ci plan --tier integration --output matrix",
    .opts = options,
    .opts_size = sizeof(struct plan_opts),
    .run = run,
};
