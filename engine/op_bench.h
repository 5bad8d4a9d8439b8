/* Every ternary product of a list of shapes beside the float32 product of the same shape, and the
 * quantisers: what `bnt bench --ops` tells and judges. A library: it prints nothing.
 *
 *     struct op_bench_plan plan = {.shapes = op_shapes_odd, .n_shapes = OP_SHAPES_ODD, ...};
 *     op_bench_run(&plan, &result, &err);
 *     op_bench_judge(&result, &verdict);
 *     op_bench_release(&result); */
#ifndef BNT_OP_BENCH_H
#define BNT_OP_BENCH_H

#include "engine/bandwidth.h"
#include "engine/bnt_infer.h"
#include "engine/op_time.h"

enum { OP_BATCHES_MAX = 16, OP_SHAPES_MAX = 64, OP_ENCODERS_MAX = 16 };

struct op_shape {
    char name[24]; /* "2b gate" */
    uint32_t rows, cols;
    /* What a single token reads of it: OP_TERNARY its codes of 2 bits; where the engine has made a
     * copy and the kernels take it, OP_FIVES, or OP_COLUMNS. */
    enum op_what form;
    bool zeros; /* what meets it is what squared ReLU leaves */
};

/* "2b", "3b", "odd" or "2560x6912", appended to at[*n]; copied: their forms are those of a large
 * model whose copies are kept. "model" is not known here. Errors: USAGE a name that is none, a
 * shape of 0 or past TERNARY_MAX_COLS, more than OP_SHAPES_MAX. */
enum bnt_status op_shapes_named(const char *name, bool copied, struct op_shape at[OP_SHAPES_MAX],
                                size_t *n, struct bnt_err *err);
/* The ternary matrices of a model, each shape and form once. */
enum bnt_status op_shapes_of_model(const struct bnt_model *m, struct op_shape at[OP_SHAPES_MAX],
                                   size_t *n, struct bnt_err *err);

struct op_bench_plan {
    const struct op_shape *shapes;
    size_t n_shapes;
    uint32_t batches[OP_BATCHES_MAX]; /* tokens */
    size_t n_batches;
    struct op_timer_options timer;
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

/* A shape and a batch. The activations' quantiser is timed apart: one serves q, k and v. */
struct op_product {
    const struct op_shape *shape; /* of the plan */
    uint32_t n_tok;
    struct op_time ternary, f32, quantize;
    /* A plain sum over as many bytes as the ternary weights have, in turn with both products: what
     * memory gave meanwhile. ns is 0 where that was not timed. */
    struct op_time read;
    uint64_t row_bytes; /* of the weights that a walk by rows would read */
    enum op_what form;  /* that was timed: a form of the shape, or OP_TERNARY */
    bool fused;         /* the ternary product quantises for itself: its time has both */
};

/* A quantiser of weights, on the first shape of the plan that it takes, by one thread. */
struct op_encoder {
    char name[24]; /* "absmean", "I2_S" */
    const struct op_shape *shape;
    struct op_time time;
};

struct op_bench_result {
    struct op_product *products; /* by batch, then by shape */
    size_t n_products;
    struct op_encoder encoders[OP_ENCODERS_MAX];
    size_t n_encoders;
    struct bandwidth bandwidth;
    double zeros; /* of the activations of OP_COLUMNS; 0: there was none */
    /* Dot products of all threads (engine/cpu/dot_peak.h), or what a product by rows reached if
     * that is more. */
    double peak_gmacs;
    double job_ns; /* to hand a job to all threads; 0 with one */
    char kernel[16];
    int n_threads;
    /* Of a GPU: its name; peak_gmacs is 0, not probed. fake: it is none, and its times mean
     * nothing. */
    char device[128];
    bool fake;
    double ratio_min; /* what a ternary product must reach of the float32 one */
};

/* result: zeroed; release it whatever comes back. Errors: those of op_timer_run and
 * bandwidth_measure; INTERRUPTED. */
enum bnt_status op_bench_run(const struct op_bench_plan *plan, struct op_bench_result *result,
                             struct bnt_err *err);
/* The same on a GPU, by index. It has no quantisers of weights: those are the processor's. Errors:
 * DEVICE, MEMORY; DIFFERS a product that is not the reference's; INTERRUPTED.
 * (engine/cuda/op_bench_cuda.c) */
enum bnt_status op_bench_run_cuda(const struct op_bench_plan *plan, int index,
                                  struct op_bench_result *result, struct bnt_err *err);
/* The walk of both: result->products, each timed by `time`. Errors: those of `time`; MEMORY;
 * INTERRUPTED. */
typedef enum bnt_status op_product_fn(void *ctx, struct op_product *p, struct bnt_err *err);
enum bnt_status op_bench_products(const struct op_bench_plan *plan, op_product_fn *time, void *ctx,
                                  struct op_bench_result *result, struct bnt_err *err);
void op_bench_release(struct op_bench_result *result);

/* ---- judging ---- */

/* The least that a ternary product must reach of the float32 one's multiply-adds per second, its
 * activations' quantiser included, and of the memory's speed where that binds. */
#define OP_RATIO_MIN 0.7
#define OP_CUDA_RATIO_MIN 0.9
#define OP_SHARE_MIN 0.6

/* What binds a product: the longer of what its weights take to be read and its multiply-adds at
 * the probed peak. Where both are shorter than OP_SHORT_NS or OP_SHORT_JOBS jobs,
 * neither does: reading has not come to speed, threads have hardly begun. */
enum op_bound { OP_BOUND_MEMORY, OP_BOUND_DOT, OP_BOUND_SHORT };
#define OP_SHORT_NS 10000.0
#define OP_SHORT_JOBS 5
const char *op_bound_name(enum op_bound b); /* "memory", "dot", "short" */
enum op_bound op_bench_bound(const struct op_bench_result *result, const struct op_product *p);

const char *op_form_name(const struct op_product *p); /* "2 bits", "1.6 bits", "columns" */
double op_product_ratio(const struct op_product *p);  /* with the quantiser; more is faster */
double op_gmacs(const struct op_time *t); /* for ops that are no product: 10^9 elements */
double op_gb_per_s(const struct op_time *t);
/* The time of a plain read of the weights that are read, or what they take at the probed bandwidth
 * of all threads where there is none, by that of the product. */
double op_product_share(const struct op_bench_result *result, const struct op_product *p);
/* The same, but a product by columns, which lie apart, is judged as if it had read the rows that it
 * spares: it has to be as fast as those would have to be. */
double op_product_judged_share(const struct op_bench_result *result, const struct op_product *p);

struct op_verdict {
    const struct op_product *worst_ratio; /* of all */
    const struct op_product *worst_share; /* as judged, where memory binds; NULL: none is */
    double ratio, share;
    bool good; /* both are what they must be */
};
/* Of at least one product. */
void op_bench_judge(const struct op_bench_result *result, struct op_verdict *out);

#endif
