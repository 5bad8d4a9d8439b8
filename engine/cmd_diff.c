/* bnt diff: where two traces differ first. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "base/json_load.h"
#include "base/msg.h"
#include "engine/commands.h"
#include "engine/op_trace_diff.h"

struct diff_opts {
    double atol, rtol;
    bool common, json;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_FLOAT,
     .long_name = "atol",
     .arg = "X",
     .help = "values that are at most X apart are equal",
     .offset = offsetof(struct diff_opts, atol),
     .def = "0",
     .min = 0,
     .max = 1e30},
    {.kind = BNT_OPT_FLOAT,
     .long_name = "rtol",
     .arg = "X",
     .help = "the same, X times the root mean square of the row more",
     .offset = offsetof(struct diff_opts, rtol),
     .def = "0",
     .min = 0,
     .max = 1e30},
    {.kind = BNT_OPT_FLAG,
     .long_name = "common",
     .help = "pass over records that only one of both has",
     .offset = offsetof(struct diff_opts, common)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value",
     .offset = offsetof(struct diff_opts, json)},
    BNT_OPT_END,
};

static enum bnt_status print_text(const struct op_trace *const sides[2],
                                  const struct op_diff_result *r, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(4096);
    enum bnt_status st = op_difference_describe(&r->first, &text, err);
    if (st == BNT_OK) {
        printf("A: %s, %s, %d threads\nB: %s, %s, %d threads\n%s\n", sides[0]->model,
               sides[0]->kernel, sides[0]->n_threads, sides[1]->model, sides[1]->kernel,
               sides[1]->n_threads, bnt_buf_view(&text));
        printf("%llu records compared, %llu differ\n", (unsigned long long)r->n_compared,
               (unsigned long long)r->n_differ);
    }
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status print_json(const struct op_diff_result *r, struct bnt_err *err)
{
    json_t *root = json_pack("{s:b, s:I, s:I, s:o}", "differs", r->first.kind != OP_DIFF_NONE,
                             "compared", (json_int_t)r->n_compared, "differ",
                             (json_int_t)r->n_differ, "first", op_difference_json(&r->first));
    return bnt_json_print(root, JSON_COMPACT, err);
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    const struct diff_opts *o = opts;
    if (argc != 2) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt diff A.trace B.trace",
                            "two traces are compared; %d were given", argc);
    }
    struct op_trace a = {0}, b = {0};
    struct bnt_err err = {0};
    struct op_tolerance tolerance = {o->atol, o->rtol, o->common};
    struct op_diff_result result = {0};
    enum bnt_status st = op_trace_read(argv[0], &a, &err);
    if (st == BNT_OK) {
        st = op_trace_read(argv[1], &b, &err);
    }
    if (st == BNT_OK) {
        op_trace_diff(&a, &b, &tolerance, &result);
        if (result.n_compared == 0 && result.first.kind == OP_DIFF_NONE) {
            st = bnt_err_set(&err, BNT_E_INCONCLUSIVE, "%s and %s have no record in common",
                             argv[0], argv[1]);
        }
    }
    if (st == BNT_OK) {
        const struct op_trace *const sides[2] = {&a, &b};
        st = o->json ? print_json(&result, &err) : print_text(sides, &result, &err);
    }
    op_trace_release(&a);
    op_trace_release(&b);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    return result.first.kind == OP_DIFF_NONE ? BNT_OK : BNT_E_DIFFERS;
}

const struct bnt_cmd bnt_cmd_diff = {
    .name = "diff",
    .synopsis = "[OPTIONS] A B",
    .summary = "where two traces of bnt trace differ first, and by how much",
    .description =
        "Compares record by record in the order of computation, and names the first token, layer, "
        "op and element that differ. Without a tolerance every bit counts. With one, two values "
        "are equal up to atol + rtol times the root mean square of their row in A; of traces "
        "without --full the 16 samples and the statistics are compared then.\n\n"
        "Exit codes: 0 equal, 6 different, 3 when they have no record in common.",
    .examples = "  bnt diff a.trace b.trace               # equal bit for bit?\n"
                "  bnt diff a.trace b.trace --rtol 1e-3   # or nearly\n"
                "  bnt diff a.trace b.trace --json        # for a script",
    .opts = options,
    .opts_size = sizeof(struct diff_opts),
    .run = run,
};
