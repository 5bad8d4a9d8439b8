/* Two traces held against each other: the first place, in the order of computation, where they
 * differ. Without a tolerance the digests decide, so that a trace with samples finds every
 * difference; with one, values decide, and of a trace without all values its samples and
 * statistics stand for them. */
#ifndef BNT_OP_TRACE_DIFF_H
#define BNT_OP_TRACE_DIFF_H

#include <jansson.h>

#include "engine/op_trace.h"

struct op_tolerance {
    double absolute; /* a difference up to this is none */
    double relative; /* plus this share of the row's rms */
    bool common;     /* records and last tokens that only one trace has are passed over */
};

enum op_diff_kind {
    OP_DIFF_NONE,
    OP_DIFF_IDS,       /* the prompts differ at token `position` */
    OP_DIFF_ONLY_A,    /* a record that B has not */
    OP_DIFF_ONLY_B,    /* a record that A has not */
    OP_DIFF_SHAPE,     /* rows of different length: a_n, b_n */
    OP_DIFF_VALUES,    /* an element: a, b */
    OP_DIFF_UNSAMPLED, /* the digests differ, no sampled element does */
    OP_DIFF_STATISTIC, /* samples are within the tolerance, a statistic is not: a, b */
    OP_DIFF_GENERATED, /* generated ids differ at `position` */
};

struct op_difference {
    enum op_diff_kind kind;
    uint32_t position;
    const char *op;        /* static; NULL for ids */
    int32_t layer;         /* -1: of no layer */
    uint32_t element;      /* VALUES: the first one that differs */
    const char *statistic; /* STATISTIC: "min", "max", "mean", "rms", "nan", "inf" */
    double a, b;           /* the two values; ids; lengths */
    /* VALUES: of all elements of this row that both traces hold. */
    uint32_t n_compared, n_differ, largest_at;
    double largest; /* |a - b|; infinity where one is a NaN or infinite */
    double rms;     /* of the row in A */
};

struct op_diff_result {
    struct op_difference first;
    uint64_t n_compared, n_differ; /* records that both have; those of them that differ */
};

void op_trace_diff(const struct op_trace *a, const struct op_trace *b,
                   const struct op_tolerance *tolerance, struct op_diff_result *out);

/* One sentence: "differs at token 3, layer 2, attn, element 17: 0.5 and 0.25 ...". */
enum bnt_status op_difference_describe(const struct op_difference *d, struct bnt_buf *out,
                                       struct bnt_err *err);
/* Its members that mean something for its kind ("values", "only-in-a"...); null for none. The
 * caller owns it; NULL: out of memory. */
json_t *op_difference_json(const struct op_difference *d);

#endif
