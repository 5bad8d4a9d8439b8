/* Shared by the files of `bnt bench`: cmd_bench.c (options, one measurement), cmd_bench_report.c
 * (its table and its JSON), cmd_bench_compare.c (two programs). */
#ifndef TESTKIT_CMD_BENCH_IMPL_H
#define TESTKIT_CMD_BENCH_IMPL_H

#include "base/app.h"
#include "engine/bench.h"
#include "engine/model_arg.h"

struct bench_opts {
    struct bnt_model_arg model;
    const char *prompt_lengths, *kernel, *kv_type, *i2s_layout, *packed, *compare, *clock;
    int64_t decode, threads, batch, warmup, repetitions, pairs;
    double margin; /* percent */
    uint64_t memory_limit;
    bool no_bandwidth, json;
};

/* What is told about a measurement. */
struct bench_report {
    const struct bench_opts *o;
    const struct bench_result *r;
    const struct bnt_model_ref *ref; /* with its digest */
};

/* The table, or one JSON object, on stdout. */
enum bnt_status bench_print_table(const struct bench_report *report, struct bnt_err *err);
enum bnt_status bench_print_json(const struct bench_report *report, struct bnt_err *err);

/* cmd_bench_compare.c: this program against another one, with a verdict, on the model of ref. */
enum bnt_status bench_compare(const struct bnt_app *app, const struct bench_opts *o,
                              const struct bnt_model_ref *ref);

#endif
