/* Shared by the files of `bnt bench`: cmd_bench.c (options, one measurement), cmd_bench_report.c
 * (its table and its JSON), cmd_bench_compare.c (two programs), cmd_bench_ops.c (single
 * operations).
 */
#ifndef TESTKIT_CMD_BENCH_IMPL_H
#define TESTKIT_CMD_BENCH_IMPL_H

#include "base/app.h"
#include "engine/bench.h"
#include "engine/engine_arg.h"
#include "engine/model_arg.h"

#define BENCH_COMPARE_LENGTHS "200" /* of prompts, unless told otherwise */

struct bench_opts {
    struct bnt_model_arg model;
    struct bnt_engine_arg engine;
    const char *prompt_lengths, *compare, *clock, *shapes, *batches, *shape, *machine;
    int64_t decode, sequences, batch, warmup, repetitions, pairs;
    double margin; /* percent */
    bool no_bandwidth, json, ops, gate, explain;
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

/* "10,50,100": numbers of 1 to `largest` into out[n_max]; option is for messages. */
struct bench_list {
    const char *option, *text;
    uint32_t largest;
};
enum bnt_status bench_parse_list(struct bench_list list, uint32_t *out, size_t n_max, size_t *n,
                                 struct bnt_err *err);

/* JSON: null for what is no finite number. */
struct json_t;
struct json_t *bench_json_number(double v);
/* The document on stdout; it is taken, NULL is out of memory. */
enum bnt_status bench_print_document(struct json_t *doc, struct bnt_err *err);

/* cmd_bench_ops.c: single operations, on the shapes of the model of ref and others. Errors that it
 * returns have been told; SLOWER by the gate. */
enum bnt_status bench_ops(const struct bnt_app *app, const struct bench_opts *o,
                          const struct bnt_model_ref *ref);

/* cmd_bench_explain.c: the model of time against the clock, or for another machine. plan: what is
 * measured; ref is not looked at with o->shape. Errors that it returns have been told; FAILED by
 * the gate. */
enum bnt_status bench_explain(const struct bnt_app *app, const struct bench_opts *o,
                              const struct bench_plan *plan, const struct bnt_model_ref *ref);

/* cmd_bench_machine.c: a machine that is not there. What is not said (0) is as here. */
struct bench_machine {
    double cores, gb_per_s, gmacs, job_us, core_speed, cache_mb;
    double zeros;           /* of what meets `down`; below 0: not said */
    const char *zeros_from; /* for `tell` */
};
/* "cores=16,bandwidth=100", or a file of such lines. Errors: USAGE names what is wrong; those of
 * reading the file. */
enum bnt_status bench_machine_parse(const char *text, struct bench_machine *out,
                                    struct bnt_err *err);
struct speed_machine;
struct speed_probe;
struct speed_shape;
/* The machine for the model of time; what it takes over from here is printed with `tell`. */
enum bnt_status bench_machine_of(const struct bench_machine *said, const struct speed_probe *probe,
                                 struct speed_machine *out, struct bnt_err *err);
void bench_machine_tell(const struct bench_machine *said, const struct speed_probe *probe,
                        const struct speed_shape *s, const struct speed_machine *m);

/* cmd_bench_compare.c: this program against another one, or a server that does the same work, with
 * a verdict, on the model of ref. */
enum bnt_status bench_compare(const struct bnt_app *app, const struct bench_opts *o,
                              const struct bench_plan *work, const struct bnt_model_ref *ref);

#endif
