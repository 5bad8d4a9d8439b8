/* What the files of the op timer share: op_time.c has the timer and the products, op_time_small.c
 * everything else that is timed; op_time_columns.c and op_time_copies.c the products by copies. */
#ifndef BNT_OP_TIME_IMPL_H
#define BNT_OP_TIME_IMPL_H

#include "base/arena.h"
#include "engine/cpu/backend_cpu.h"
#include "engine/op_time.h"
#include "engine/rope.h"
#include "engine/sampler.h"

struct op_timer {
    const struct cpu_kernels *kernels;
    struct cpu_pool *pool;
    uint8_t *weights; /* bytes that make sense as ternary codes, as F32 and as F16, see fill() */
    uint8_t *copies;  /* the same in large pages; NULL until an op asks for them */
    uint64_t weight_bytes;
    uint64_t sum; /* of OP_READ: keeps the reads from being left out */
    int streams;  /* of OP_READ */
    uint32_t repetitions;
    uint64_t pass_ns;
    bool typical;
    const volatile sig_atomic_t *interrupted;
};

/* One op, ready to run again and again. All its memory is in the arena. */
struct op_run {
    struct op_timer *t;
    struct op_spec spec;
    void (*run)(struct op_run *r);
    struct bnt_arena arena;
    float *x, *y, *z; /* what goes in, what comes out, a third row */
    struct act_rows act;
    int8_t *codes;
    uint8_t *bytes;
    float *above;            /* of a screened head, in z */
    struct bnt_model *model; /* of a head that is read by a copy; owned */
    float *scratch;          /* of a product of floats, a row per thread; of a ternary one, act's */
    struct rope rope;
    struct bnt_sampler *sampler;
    uint64_t rows; /* that are timed: fewer than asked for when a matrix is too large */
    uint64_t row_bytes;
    const uint8_t *weights;    /* of the timer, in the pages that the op wants */
    uint64_t matrix_bytes, at; /* of this run's weights: how many, and where they begin */
    uint64_t n_bytes;          /* of `bytes` */
    struct op_time cost;       /* count and bytes */
    double *pass_ns;           /* of one run, by pass */
    uint64_t runs_per_pass;
};

/* How much of each an op wants; rows are elements. */
struct op_needs {
    uint64_t x, y, z, act_cols, codes, bytes, scratch;
};

/* Prepare everything that is no product. Errors: USAGE, MEMORY. */
enum bnt_status op_small_prepare(struct op_run *r, struct bnt_err *err);
/* Prepare OP_COLUMNS. Errors: USAGE, DIFFERS, MEMORY. */
enum bnt_status op_columns_prepare(struct op_run *r, struct bnt_err *err);
/* Prepare OP_FIVES, OP_NARROW or OP_SCREEN. Errors: USAGE, DIFFERS, MEMORY. */
enum bnt_status op_copies_prepare(struct op_run *r, struct bnt_err *err);
/* The kernels and cuts of the engine's own steps, on this run's data. */
struct backend_cpu op_engine_of(const struct op_run *r);
/* The next run has other weights. */
void op_next_weights(struct op_run *r);
/* Take the memory and fill x, z and codes with numbers. */
enum bnt_status op_take(struct op_run *r, const struct op_needs *needs, struct bnt_err *err);
/* Call fn over [0, n): by all threads, or by the caller alone. */
void op_spread(struct op_run *r, uint64_t n, cpu_pool_fn *fn);

#endif
