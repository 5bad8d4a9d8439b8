/* A trace: what each op of each layer and token of one run held, as JSON lines (docs/trace.md).
 *
 *     {"trace":"bnt","format":1,...,"ids":[2045,394]}          what ran
 *     {"op":"q","layer":0,"position":1,"n":256,...}            one record per op, layer and token
 *     {"end":true,"records":1234,"generated":[401]}            a file without it was cut short
 *
 * Writing goes line by line through a function of the caller; nothing is kept. Reading takes a
 * whole file into memory. */
#ifndef BNT_OP_TRACE_H
#define BNT_OP_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "engine/tap.h"
#include "engine/tokenizer.h"

enum {
    OP_TRACE_FORMAT = 1,
    OP_TRACE_SAMPLES = 16,          /* values of a record without all of them */
    OP_TRACE_DIGEST = 17,           /* 16 hex digits and the terminator */
    OP_TRACE_RANGES = 64,           /* in one list */
    OP_TRACE_LINE_MAX = 64 << 20,   /* bytes */
    OP_TRACE_RECORDS_MAX = 1 << 22, /* of a file that is read */
};

/* ---- which records ---- */

/* "0,3-5": numbers and ranges. n == 0: all. */
struct op_ranges {
    size_t n;
    struct {
        uint32_t first, last;
    } at[OP_TRACE_RANGES];
};
/* text NULL: all. Errors: USAGE, which names the option. */
enum bnt_status op_ranges_parse(const char *option, const char *text, struct op_ranges *out,
                                struct bnt_err *err);

struct op_choice {
    bool op[BNT_TAP_N_OPS];
    struct op_ranges layers; /* concern ops in layers alone */
    struct op_ranges positions;
    bool full; /* all values, not OP_TRACE_SAMPLES of them */
};
/* text: names by comma; NULL: all. Errors: USAGE with the names there are. */
enum bnt_status op_choice_ops(const char *text, struct op_choice *out, struct bnt_err *err);

/* ---- a record ---- */

/* Value i of a record is element i * n / n_values of the row. Statistics are those of the finite
 * elements, 0 when there is none. The digest is that of all elements (sha256 of the float32 in
 * little-endian order, its first 16 digits; every NaN counts as 7fc00000). */
struct op_record {
    enum bnt_tap_op op;
    int32_t layer; /* -1: of no layer */
    uint32_t position, n, n_nan, n_inf, n_values;
    double min, max, mean, rms;
    char digest[OP_TRACE_DIGEST];
    float *values;
};

static inline uint32_t op_record_element(const struct op_record *r, uint32_t i)
{
    return (uint32_t)((uint64_t)i * r->n / r->n_values);
}

/* Negative, 0 or positive: the order of computation, token by token. */
int op_record_compare(const struct op_record *a, const struct op_record *b);

/* ---- writing ---- */

typedef enum bnt_status op_put_fn(void *ctx, const char *line, size_t n, struct bnt_err *err);

/* What stands in the first line. Texts are borrowed. */
struct op_trace_head {
    const char *model, *arch, *kernel, *kv_type;
    uint32_t n_layer, n_vocab;
    int n_threads;
    const int32_t *ids; /* the prompt */
    size_t n_ids;
    bool full;
};

/* A tap that writes records. The first error stops it; op_tracer_end returns it. */
struct op_tracer {
    const struct op_choice *choice;
    op_put_fn *put;
    void *ctx;
    struct bnt_buf line;
    uint32_t next_head[2]; /* output_norm, logits: the last token's come twice in a run */
    uint64_t n_records;
    struct bnt_err err;
};
enum bnt_status op_tracer_begin(struct op_tracer *t, const struct op_trace_head *head,
                                struct bnt_err *err);
void op_tracer_row(void *ctx, const struct bnt_tap_row *row); /* a bnt_tap_fn, ctx: the tracer */
/* The last line. generated: the ids that followed the prompt. Releases the tracer in any case. */
enum bnt_status op_tracer_end(struct op_tracer *t, const struct bnt_ids *generated,
                              struct bnt_err *err);

/* ---- reading ---- */

struct op_trace {
    char *model, *arch, *kernel;
    int32_t n_threads;
    bool full;
    struct bnt_ids ids, generated;
    struct op_record *records; /* in the order of op_record_compare */
    size_t n_records, capacity;
};
/* "-" is standard input. Errors: NOT_FOUND; FILE with the line: no trace, cut short, a record that
 * is not one or stands twice; UNSUPPORTED: another format. */
enum bnt_status op_trace_read(const char *path, struct op_trace *out, struct bnt_err *err);
void op_trace_release(struct op_trace *t);

#endif
