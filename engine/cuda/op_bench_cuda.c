/* Times of single operations on a GPU, for `bnt bench --ops --device cuda`. Each is launched many
 * times in one captured graph, every launch on another copy of its weights, so that they come from
 * memory and not from a cache; the wall time of the graph over the launches counts, best of the
 * repetitions. Before it is timed a product is held against the reference kernels of the
 * processor. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/rng.h"
#include "engine/cpu/tables.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/cuda/launches.h"
#include "engine/op_bench.h"

/* Launches of a graph; copies of weights take so many bytes together, which no L2 holds. The fake
 * device has no cache to get around, and is not judged. */
enum { RUNS = 64, FAKE_RUNS = 2, CHECKED_ROWS = 64 };
#define COPIES_BYTES (512ull << 20)
#define STREAM_FLOATS (64ull << 20) /* of the probe of memory, which reads two and writes one */
#define FAKE_STREAM_FLOATS (1ull << 12)
#define WEIGHT_SCALE 0.25f

/* A product or quantiser on its way: host operands, and where they lie on the device. */
struct op {
    struct backend_cuda b; /* the table, the context and what errors name */
    uint32_t n_runs, repetitions;
    const struct op_shape *shape;
    uint32_t n_tok;
    uint64_t row_bytes; /* of ternary weights */
    uint8_t *codes;
    float *x, *weights;
    const uint8_t *on_device; /* copies of the weights, `bytes` apart */
    uint64_t bytes;
    uint32_t n_copies;
    const float *x_device;
    float *y_device;
    struct cuda_norm_args quantize;
};

/* Whether one launch does the quantising too: a step's, of one token whose row fits. */
static bool is_fused(uint32_t cols, uint32_t n_tok)
{
    return n_tok == 1 && launch_step_takes(cols);
}

/* ---- the device ---- */

static enum bnt_status open_gpu(struct op *op, int index, struct bnt_err *err)
{
    char why[256] = "";
    op->b.options.index = index;
    op->b.table = cuda_table_get(why, sizeof why);
    if (index >= cuda_device_count(why, sizeof why) ||
        op->b.table->info(index, &op->b.info) != CUDA_OK ||
        op->b.table->open(index, 0, &op->b.context) != CUDA_OK) {
        return bnt_err_set(err, BNT_E_DEVICE, "cuda:%d: no such device: %s", index, why);
    }
    op->n_runs = op->b.info.fake ? FAKE_RUNS : RUNS;
    return BNT_OK;
}

static void close_gpu(struct op *op)
{
    if (op->b.context) {
        op->b.table->close(op->b.context);
    }
    free(op->codes);
    free(op->x);
    free(op->weights);
}

/* Memory of the device with `bytes` of src in it; src NULL: zeros. */
static enum bnt_status put(const struct op *op, const void *src, uint64_t bytes, void **out,
                           struct bnt_err *err)
{
    const struct cuda_table *t = op->b.table;
    enum bnt_status st = cuda_error(&op->b, t->alloc(op->b.context, bytes, out), err);
    return st == BNT_OK && src ? cuda_error(&op->b, t->upload(op->b.context, *out, src, bytes), err)
                               : st;
}

static enum bnt_status put_copies(struct op *op, const void *weights, uint64_t bytes,
                                  struct bnt_err *err)
{
    void *at = NULL;
    uint64_t most = op->b.info.fake ? 1 : COPIES_BYTES / bytes;
    op->bytes = (bytes + 255) / 256 * 256;
    op->n_copies = (uint32_t)(most < 1 ? 1 : most < RUNS ? most : RUNS);
    enum bnt_status st = put(op, NULL, op->bytes * op->n_copies, &at, err);
    op->on_device = at;
    for (uint32_t i = 0; st == BNT_OK && i < op->n_copies; i++) {
        uint8_t *to = (uint8_t *)at + i * op->bytes;
        st = cuda_error(&op->b, op->b.table->upload(op->b.context, to, weights, bytes), err);
    }
    return st;
}

/* ---- timing ---- */

/* The i-th launch reads the i-th copy: weights is the place of its address in the arguments. */
static enum bnt_status launch_all(struct op *op, const struct cuda_launch *l,
                                  const uint8_t **weights, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (uint32_t i = 0; st == BNT_OK && i < op->n_runs; i++) {
        if (weights) {
            *weights = op->on_device + i % op->n_copies * op->bytes;
        }
        st = cuda_launch(&op->b, l, err);
    }
    return st;
}

static enum bnt_status run_graph(struct op *op, struct cuda_graph *graph, double *ns,
                                 struct bnt_err *err)
{
    const struct cuda_table *t = op->b.table;
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = cuda_error(&op->b, t->graph_run(op->b.context, graph), err);
    if (st == BNT_OK) {
        st = cuda_error(&op->b, t->sync(op->b.context), err);
    }
    *ns = (double)(bnt_clock_now_ns() - t0) / op->n_runs;
    return st;
}

static enum bnt_status time_launch(struct op *op, const struct cuda_launch *l,
                                   const uint8_t **weights, double *best, struct bnt_err *err)
{
    const struct cuda_table *t = op->b.table;
    struct cuda_graph *graph = NULL;
    enum bnt_status st = cuda_error(&op->b, t->graph_begin(op->b.context), err);
    if (st != BNT_OK) {
        return st;
    }
    st = launch_all(op, l, weights, err);
    enum bnt_status ended = cuda_error(&op->b, t->graph_end(op->b.context, &graph), err);
    st = st == BNT_OK ? ended : st;
    *best = INFINITY;
    for (uint32_t i = 0; st == BNT_OK && i <= op->repetitions; i++) {
        double ns = 0;
        st = run_graph(op, graph, &ns, err);
        *best = i > 0 && ns < *best ? ns : *best; /* the first one warms up */
    }
    t->graph_free(op->b.context, graph);
    return st;
}

/* ---- operands ---- */

static enum bnt_status make_operands(struct op *op, struct bnt_err *err)
{
    struct bnt_rng rng;
    uint64_t cols = op->shape->cols, n = (uint64_t)op->shape->rows * cols;
    op->row_bytes = ternary_row_bytes(cols);
    uint64_t n_codes = op->shape->rows * op->row_bytes, n_x = op->n_tok * cols;
    bnt_rng_seed(&rng, 1);
    op->codes = malloc((size_t)n_codes);
    op->weights = malloc((size_t)n * sizeof(float));
    op->x = malloc((size_t)n_x * sizeof(float));
    if (!op->codes || !op->weights || !op->x) {
        return bnt_err_nomem(err, "operands of a product", n * sizeof(float));
    }
    for (uint64_t i = 0; i < n_codes; i++) {
        uint64_t r = bnt_rng_next(&rng);
        op->codes[i] =
            (uint8_t)(r % 3 | (r >> 8) % 3 << 2 | (r >> 16) % 3 << 4 | (r >> 24) % 3 << 6);
    }
    for (uint64_t i = 0; i < n; i++) {
        op->weights[i] = (float)((int)(op->codes[i % n_codes] % 3) - 1) * WEIGHT_SCALE;
    }
    for (uint64_t i = 0; i < n_x; i++) {
        op->x[i] = (float)(bnt_rng_unit(&rng) - 0.5);
    }
    return BNT_OK;
}

/* x, its 8-bit form, and room for the results. */
static enum bnt_status put_operands(struct op *op, struct bnt_err *err)
{
    void *x = NULL, *y = NULL, *q = NULL, *scale = NULL, *sum = NULL;
    uint64_t cols = op->shape->cols, rows = op->shape->rows, n_tok = op->n_tok;
    enum bnt_status st = put(op, op->x, n_tok * cols * sizeof(float), &x, err);
    st = st == BNT_OK ? put(op, NULL, n_tok * rows * sizeof(float), &y, err) : st;
    st = st == BNT_OK ? put(op, NULL, n_tok * 4 * op->row_bytes, &q, err) : st;
    st = st == BNT_OK ? put(op, NULL, n_tok * sizeof(float), &scale, err) : st;
    st = st == BNT_OK ? put(op, NULL, n_tok * sizeof(int32_t), &sum, err) : st;
    op->x_device = x;
    op->y_device = y;
    op->quantize = (struct cuda_norm_args){.x = x,
                                           .x_stride = cols,
                                           .n = (uint32_t)cols,
                                           .q = q,
                                           .row_bytes = op->row_bytes,
                                           .scale = scale,
                                           .sum = sum};
    return st;
}

/* ---- checking ---- */

typedef void reference_fn(const struct op *op, uint64_t row0, uint64_t row1, float *y);

static void reference_float(const struct op *op, uint64_t row0, uint64_t row1, float *y)
{
    const struct float_weights w = {.type = TENSOR_F32,
                                    .data = (const uint8_t *)op->weights,
                                    .rows = op->shape->rows,
                                    .cols = op->shape->cols,
                                    .row_bytes = op->shape->cols * sizeof(float)};
    cpu_kernels_ref.matmul_float(&w, row0, row1, op->x, w.cols, op->n_tok, y, w.rows, NULL);
}

static void reference_ternary(const struct op *op, uint64_t row0, uint64_t row1, float *y)
{
    const struct ternary_weights w = {op->codes, op->shape->rows, op->shape->cols, op->row_bytes,
                                      WEIGHT_SCALE};
    int8_t *q = calloc(1, act_stride(w.cols));
    for (uint32_t t = 0; q && t < op->n_tok; t++) {
        float scale;
        int32_t sum;
        cpu_kernels_ref.quantize_act(op->x + t * w.cols, w.cols, q, &scale, &sum);
        const struct act_rows a = {
            .q = q, .scale = &scale, .sum = &sum, .stride = act_stride(w.cols)};
        cpu_kernels_ref.matmul_ternary(&w, row0, row1, &a, 1, y + t * w.rows, w.rows);
    }
    free(q);
}

static bool rows_equal(const struct op *op, const float *got, const float *wanted, uint64_t row0,
                       uint64_t row1)
{
    bool equal = true;
    for (uint32_t t = 0; t < op->n_tok; t++) {
        uint64_t at = t * (uint64_t)op->shape->rows + row0;
        equal = equal && memcmp(got + at, wanted + at, (row1 - row0) * sizeof *got) == 0;
    }
    return equal;
}

/* The first and the last rows of the product, after one launch. */
static enum bnt_status check(struct op *op, const struct cuda_launch *l, reference_fn *reference,
                             struct bnt_err *err)
{
    uint64_t rows = op->shape->rows, n = op->n_tok * rows;
    uint64_t head = rows < CHECKED_ROWS ? rows : CHECKED_ROWS;
    float *got = calloc(2 * (size_t)n, sizeof *got);
    if (!got) {
        return bnt_err_nomem(err, "results of a product", 2 * n * sizeof *got);
    }
    float *wanted = got + n;
    enum bnt_status st = cuda_launch(&op->b, l, err);
    if (st == BNT_OK) {
        st = cuda_error(
            &op->b, op->b.table->download(op->b.context, got, op->y_device, n * sizeof *got), err);
    }
    if (st == BNT_OK) {
        reference(op, 0, head, wanted);
        reference(op, rows - head, rows, wanted);
        bool equal =
            rows_equal(op, got, wanted, 0, head) && rows_equal(op, got, wanted, rows - head, rows);
        if (!equal && !BNT_FAULT(ops_unchecked)) {
            st = bnt_err_set(err, BNT_E_DIFFERS,
                             "%s: the product of %llu x %u by %u tokens is not the reference's",
                             op->b.info.name, (unsigned long long)rows, op->shape->cols, op->n_tok);
        }
    }
    free(got);
    return st;
}

/* ---- the three of a product ---- */

static struct cuda_matrix matrix_of(const struct op *op)
{
    return (struct cuda_matrix){.codes = op->on_device,
                                .rows = op->shape->rows,
                                .scale = WEIGHT_SCALE,
                                .out_scale = 1,
                                .y = op->y_device,
                                .stride = op->shape->rows};
}

/* One token as a step does it, its quantiser in every block; more as a batch does. */
static enum bnt_status time_ternary(struct op *op, double *ns, struct bnt_err *err)
{
    enum bnt_status st = put_copies(op, op->codes, op->shape->rows * op->row_bytes, err);
    struct cuda_step_args one = {.x = op->x_device,
                                 .cols = op->shape->cols,
                                 .row_bytes = (uint32_t)op->row_bytes,
                                 .n_matrices = 1,
                                 .m = {matrix_of(op)}};
    struct cuda_ternary_args many = {.q = op->quantize.q,
                                     .scale = op->quantize.scale,
                                     .sum = op->quantize.sum,
                                     .n = op->n_tok,
                                     .row_bytes = (uint32_t)op->row_bytes,
                                     .n_matrices = 1,
                                     .m = {matrix_of(op)}};
    bool fused = is_fused(op->shape->cols, op->n_tok);
    struct cuda_launch l =
        fused ? launch_of_step(&one, op->b.info.n_processors)
              : launch_of_ternary(&many, launch_ternary_kernel(&many, &op->b.info));
    struct cuda_launch quantize = launch_of_norm(&op->quantize, op->n_tok);
    st = st == BNT_OK && !fused ? cuda_launch(&op->b, &quantize, err) : st;
    st = st == BNT_OK ? check(op, &l, reference_ternary, err) : st;
    const uint8_t **weights = fused ? &one.m[0].codes : &many.m[0].codes;
    return st == BNT_OK ? time_launch(op, &l, weights, ns, err) : st;
}

static enum bnt_status time_float(struct op *op, double *ns, struct bnt_err *err)
{
    uint64_t row_bytes = op->shape->cols * sizeof(float);
    enum bnt_status st = put_copies(op, op->weights, op->shape->rows * row_bytes, err);
    struct cuda_float_args a = {.n = op->n_tok,
                                .w = op->on_device,
                                .row_bytes = row_bytes,
                                .type = CUDA_F32,
                                .rows = op->shape->rows,
                                .cols = op->shape->cols,
                                .x = op->x_device,
                                .x_stride = op->shape->cols,
                                .out_scale = 1,
                                .y = op->y_device,
                                .stride = op->shape->rows};
    struct cuda_launch l = launch_of_float(&a);
    st = st == BNT_OK ? check(op, &l, reference_float, err) : st;
    return st == BNT_OK ? time_launch(op, &l, &a.w, ns, err) : st;
}

/* What each of them does and touches; the quantiser reads floats and writes bytes. */
static void count(const struct op *op, struct op_product *p)
{
    uint64_t rows = op->shape->rows, cols = op->shape->cols, n = op->n_tok;
    p->ternary.count = p->f32.count = rows * cols * n;
    p->ternary.weight_bytes = rows * op->row_bytes;
    p->f32.weight_bytes = rows * cols * sizeof(float);
    p->ternary.bytes = p->ternary.weight_bytes + n * (4 * op->row_bytes + rows * sizeof(float));
    p->f32.bytes = p->f32.weight_bytes + n * (cols + rows) * sizeof(float);
    p->quantize.count = n * cols;
    p->quantize.bytes = n * (cols * sizeof(float) + 4 * op->row_bytes);
    p->fused = is_fused(op->shape->cols, op->n_tok);
}

struct on_gpu {
    int index;
    uint32_t repetitions;
};

static enum bnt_status time_product(void *ctx, struct op_product *p, struct bnt_err *err)
{
    const struct on_gpu *gpu = ctx;
    struct op op = {.repetitions = gpu->repetitions, .shape = p->shape, .n_tok = p->n_tok};
    enum bnt_status st = open_gpu(&op, gpu->index, err);
    st = st == BNT_OK ? make_operands(&op, err) : st;
    st = st == BNT_OK ? put_operands(&op, err) : st;
    st = st == BNT_OK ? time_ternary(&op, &p->ternary.ns, err) : st;
    st = st == BNT_OK ? time_float(&op, &p->f32.ns, err) : st;
    struct cuda_launch quantize = launch_of_norm(&op.quantize, op.n_tok);
    st = st == BNT_OK ? time_launch(&op, &quantize, NULL, &p->quantize.ns, err) : st;
    count(&op, p);
    close_gpu(&op);
    return st;
}

/* ---- all ---- */

/* The speed of memory: gate = act(gate) * up over arrays that no cache holds. */
static enum bnt_status probe(int index, struct op_bench_result *result, struct bnt_err *err)
{
    struct op op = {.repetitions = 3};
    void *gate = NULL, *up = NULL;
    enum bnt_status st = open_gpu(&op, index, err);
    uint64_t n = op.b.info.fake ? FAKE_STREAM_FLOATS : STREAM_FLOATS;
    st = st == BNT_OK ? put(&op, NULL, n * sizeof(float), &gate, err) : st;
    st = st == BNT_OK ? put(&op, NULL, n * sizeof(float), &up, err) : st;
    struct cuda_act_args a = {.gate = gate, .up = up, .n = n, .act = CUDA_ACT_RELU2};
    struct cuda_launch l = {.kernel = CUDA_K_ACT,
                            .grid_x = launch_pieces(n, 256),
                            .grid_y = 1,
                            .block = 256,
                            .args = &a,
                            .args_bytes = sizeof a};
    double ns = 0;
    op.n_runs = FAKE_RUNS;
    st = st == BNT_OK ? time_launch(&op, &l, NULL, &ns, err) : st;
    if (st == BNT_OK) {
        result->bandwidth.all_gb_per_s = 3 * sizeof(float) * (double)n / ns;
        snprintf(result->kernel, sizeof result->kernel, "cuda");
        snprintf(result->device, sizeof result->device, "%s", op.b.info.name);
        result->fake = op.b.info.fake;
        result->ratio_min = OP_CUDA_RATIO_MIN;
    }
    close_gpu(&op);
    return st;
}

enum bnt_status op_bench_run_cuda(const struct op_bench_plan *plan, int index,
                                  struct op_bench_result *result, struct bnt_err *err)
{
    struct on_gpu gpu = {.index = index, .repetitions = plan->timer.repetitions};
    enum bnt_status st = probe(index, result, err);
    return st == BNT_OK ? op_bench_products(plan, time_product, &gpu, result, err) : st;
}
