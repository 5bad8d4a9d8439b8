/* Timing products of one token by the copies that the engine makes of a model's weights: ternary
 * ones five to a byte, a head in 12 bits per weight, a head that is screened. Those by columns are
 * in op_time_columns.c. */
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/screen_code.h"
#include "engine/cpu/tables.h"
#include "engine/fives.h"
#include "engine/model.h"
#include "engine/op_time_impl.h"

enum {
    CHECK_ROWS = 256, /* of a head, held against the reference */
    /* One row in so many of a head of random weights is looked at again (docs/speedlog.md). */
    SECOND_LOOK = 30
};

/* Rows that are fewer than asked for where the buffer has no room for more; whole walks. */
static uint64_t rows_that_fit(const struct op_run *r, uint64_t bytes)
{
    const uint64_t most = r->t->weight_bytes / r->row_bytes;
    const uint64_t rows = r->spec.rows * r->row_bytes + bytes <= r->t->weight_bytes
                              ? r->spec.rows
                              : most - bytes / r->row_bytes - 1;
    return rows / WALK_STREAMS * WALK_STREAMS;
}

/* By both tables of kernels, the same to the bit. */
static enum bnt_status check_rows(struct op_run *r, uint64_t rows, struct bnt_err *err)
{
    const struct cpu_kernels *fast = r->t->kernels;
    const uint64_t all = r->rows;
    r->rows = rows;
    memset(r->y, 0xff, rows * sizeof *r->y); /* no numbers: each has to be written */
    r->run(r);
    r->at = 0;
    memcpy(r->z, r->y, rows * sizeof *r->z);
    r->t->kernels = &cpu_kernels_ref;
    r->run(r);
    r->t->kernels = fast;
    r->rows = all;
    r->at = 0;
    return memcmp(r->z, r->y, rows * sizeof *r->z) == 0
               ? BNT_OK
               : bnt_err_set(err, BNT_E_DIFFERS,
                             "the %s product (%s) of %llu x %llu is not the reference's",
                             fast->name, op_name(r->spec.what), (unsigned long long)r->spec.rows,
                             (unsigned long long)r->spec.cols);
}

/* ---- five weights to a byte ---- */

static struct weight fives_of(const struct op_run *r)
{
    const uint8_t *at = r->weights + r->at;
    return (struct weight){.ternary = true,
                           .type = TENSOR_I2_S,
                           .rows = r->rows,
                           .cols = r->spec.cols,
                           .row_bytes = r->row_bytes,
                           .data = at,
                           .fives = at,
                           .scale = 1};
}

static void fives_slots(void *ctx, size_t begin, size_t end, int thread)
{
    const struct op_run *r = ctx;
    struct backend_cpu b = op_engine_of(r);
    const struct weight w = fives_of(r);
    b.fives = true;
    cpu_dot_slots(&b, &w, (struct cpu_rows){begin, end}, r->y, thread);
}

static void run_fives(struct op_run *r)
{
    const struct backend_cpu b = op_engine_of(r);
    const uint64_t slots = cpu_slots(r->rows, FIVES_ROWS);
    const struct cpu_slot_kind kind = {FIVES_ROWS, WALK_STREAMS * act_stride(r->spec.cols)};
    const size_t chunk = cpu_slot_chunk(&b, kind, slots, r->rows * r->spec.cols);
    cpu_pool_run(r->t->pool, (size_t)slots, chunk, fives_slots, r);
    op_next_weights(r);
}

static enum bnt_status prepare_fives(struct op_run *r, struct bnt_err *err)
{
    const uint64_t cols = r->spec.cols;
    r->row_bytes = ternary_row_bytes(cols);
    r->rows = r->spec.rows;
    const struct weight w = fives_of(r);
    if (!fives_fit(&w) || !cpu_kernels_have_fives(r->t->kernels) ||
        r->rows * r->row_bytes > r->t->weight_bytes) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "no product of %llu x %llu by five weights to a byte: the %s kernels "
                           "have none, it would gain nothing, or it has more than %llu bytes",
                           (unsigned long long)r->rows, (unsigned long long)cols,
                           r->t->kernels->name, (unsigned long long)r->t->weight_bytes);
    }
    const uint64_t read = fives_read_bytes(&w);
    /* Rows that are left over are read where they would lie among codes of 2 bits. */
    const bool whole = r->rows % (FIVES_ROWS * WALK_STREAMS) == 0;
    r->matrix_bytes = whole ? read : r->rows * r->row_bytes;
    const struct op_needs needs = {.x = cols, .y = r->rows, .z = r->rows, .act_cols = cols};
    enum bnt_status st = op_take(r, &needs, err);
    if (st != BNT_OK) {
        return st;
    }
    r->t->kernels->quantize_act(r->x, cols, r->act.q, &r->act.scale[0], &r->act.sum[0]);
    r->run = run_fives;
    r->cost = (struct op_time){.count = r->rows * cols,
                               .weight_bytes = read,
                               .bytes = read + r->act.stride + r->rows * sizeof(float)};
    return check_rows(r, r->rows, err);
}

/* ---- heads ---- */

/* A model with nothing but what its head is read by. */
static enum bnt_status make_model(struct op_run *r, struct bnt_err *err)
{
    r->model = calloc(1, sizeof *r->model);
    return r->model ? BNT_OK : bnt_err_nomem(err, "a head to time", sizeof *r->model);
}

static struct backend_cpu head_engine_of(const struct op_run *r)
{
    struct backend_cpu b = op_engine_of(r);
    b.base.model = r->model;
    b.base.config.n_threads = cpu_pool_n_threads(r->t->pool);
    b.pool = r->t->pool;
    return b;
}

static void run_narrow(struct op_run *r)
{
    struct backend_cpu b = head_engine_of(r);
    r->model->narrow.codes = r->weights + r->at;
    r->model->narrow.whole.rows = r->rows;
    cpu_narrow_head(&b, r->y);
    op_next_weights(r);
}

static enum bnt_status prepare_narrow(struct op_run *r, struct bnt_err *err)
{
    const uint64_t cols = r->spec.cols;
    r->row_bytes = narrow_row_bytes(cols);
    r->rows = rows_that_fit(r, 0);
    r->matrix_bytes = r->rows * r->row_bytes;
    const uint64_t table = r->rows * sizeof(struct narrow_row);
    const struct op_needs needs = {.x = cols, .y = r->rows, .z = r->rows, .bytes = table};
    enum bnt_status st = op_take(r, &needs, err);
    st = st == BNT_OK ? make_model(r, err) : st;
    if (st != BNT_OK) {
        return st;
    }
    struct narrow_row *rows = (struct narrow_row *)(void *)r->bytes;
    for (uint64_t i = 0; i < r->rows; i++) {
        rows[i] = (struct narrow_row){.n_odd = 0};
        for (int k = 0; k < NARROW_HIGH; k++) {
            rows[i].high[k] = (uint8_t)((k % 2 ? 0x80 : 0) | (0x38 + k / 2)); /* 2^-15 to 2 */
        }
    }
    r->model->narrow = (struct narrow_codes){
        .rows = rows, .row_bytes = r->row_bytes, .whole = {.type = TENSOR_BF16, .cols = cols}};
    r->run = run_narrow;
    const uint64_t read = r->spec.rows * (r->row_bytes + sizeof *rows);
    r->cost = (struct op_time){
        .count = r->spec.rows * cols, .weight_bytes = read, .bytes = read + r->spec.rows * 4};
    return check_rows(r, r->rows < CHECK_ROWS ? r->rows : CHECK_ROWS, err);
}

/* Where the parts of `bytes` lie for a screened head. */
struct screen_parts {
    uint64_t q, list, exact, all; /* after the rows */
};

static struct screen_parts parts_of(const struct op_run *r)
{
    struct screen_parts p = {.q = (r->rows * sizeof(struct screen_row) + 63) / 64 * 64};
    p.list = p.q + 2 * act_stride(r->spec.cols);
    p.exact = p.list + r->rows * sizeof(uint32_t);
    p.all = p.exact + r->rows * sizeof(float);
    return p;
}

static void run_screen(struct op_run *r)
{
    struct backend_cpu b = head_engine_of(r);
    const struct screen_parts p = parts_of(r);
    float scale[2];
    int32_t sum[2];
    struct bnt_near near = {.k = 1};
    r->model->screen.codes = r->model->screen.rest = r->weights + r->at;
    r->model->screen.n_rows = r->rows;
    r->model->head.data = r->weights + r->at;
    b.near_n = 1;
    b.s.near = r->y;
    b.s.above = r->above;
    b.s.list = (uint32_t *)(void *)(r->bytes + p.list);
    b.s.exact = (float *)(void *)(r->bytes + p.exact);
    b.s.screen_act = (struct act_rows){.q = (int8_t *)(r->bytes + p.q),
                                       .scale = scale,
                                       .sum = sum,
                                       .stride = act_stride(r->spec.cols)};
    (void)(cpu_screen_score(&b) && cpu_screened_near(&b, 0, &near));
    op_next_weights(r);
}

/* Steps and bounds of rows as random weights have them, in units of a step: some are listed, hardly
 * any remains after the second look. */
static void fill_rows(struct op_run *r)
{
    struct screen_row *rows = (struct screen_row *)(void *)r->bytes;
    for (uint64_t i = 0; i < r->rows; i++) {
        rows[i] = (struct screen_row){.step = 1, .error = i % SECOND_LOOK ? 0 : 2000};
    }
}

static enum bnt_status prepare_screen(struct op_run *r, struct bnt_err *err)
{
    const uint64_t cols = r->spec.cols, threads = (uint64_t)cpu_pool_n_threads(r->t->pool);
    const uint64_t rest = (cols + 255) / 256 * SCREEN_REST_BLOCK_BYTES;
    r->row_bytes = screen_row_bytes(cols);
    r->rows = rows_that_fit(r, cols * sizeof(uint16_t));
    r->matrix_bytes = r->rows * r->row_bytes;
    struct op_needs needs = {
        .x = cols, .y = r->rows, .z = 2 * r->rows, .scratch = threads * CPU_DEQUANT_ROWS * cols};
    needs.bytes = parts_of(r).all;
    enum bnt_status st = op_take(r, &needs, err);
    st = st == BNT_OK ? make_model(r, err) : st;
    if (st != BNT_OK) {
        return st;
    }
    r->above = r->z + r->rows;
    fill_rows(r);
    r->model->screen = (struct screen){.rows = (const struct screen_row *)(const void *)r->bytes,
                                       .cols = cols,
                                       .row_bytes = r->row_bytes,
                                       .rest_cols = (cols + 255) / 256 * 256,
                                       .rest_bytes = rest};
    /* Rows of the head overlap, so that they fit into the buffer: few of them are read. */
    r->model->head = (struct weight){.type = TENSOR_F16, .cols = cols, .row_bytes = r->row_bytes};
    r->run = run_screen;
    const uint64_t read = r->spec.rows * (r->row_bytes + sizeof(struct screen_row)) +
                          r->spec.rows / SECOND_LOOK * rest;
    r->cost = (struct op_time){
        .count = r->spec.rows * cols, .weight_bytes = read, .bytes = read + r->spec.rows * 8};
    return check_rows(r, r->rows < CHECK_ROWS ? r->rows : CHECK_ROWS, err);
}

enum bnt_status op_copies_prepare(struct op_run *r, struct bnt_err *err)
{
    const uint64_t least = r->spec.what == OP_FIVES ? 1 : WALK_STREAMS;
    if (r->spec.n_tok != 1 || r->spec.rows < least || r->spec.cols > FIVES_MAX_COLS) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "a product by a copy is of one token, %llu rows or more, and at most "
                           "%u columns",
                           (unsigned long long)least, FIVES_MAX_COLS);
    }
    return r->spec.what == OP_FIVES    ? prepare_fives(r, err)
           : r->spec.what == OP_NARROW ? prepare_narrow(r, err)
                                       : prepare_screen(r, err);
}
