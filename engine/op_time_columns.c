/* Timing a product of one token by columns, of which those that meet a zero are passed over. */
#include <string.h>

#include "base/rng.h"
#include "engine/columns.h"
#include "engine/cpu/tables.h"
#include "engine/op_time_impl.h"

static struct column_codes codes_of(const struct op_run *r)
{
    return (struct column_codes){.codes = r->weights + r->at,
                                 .column_bytes = column_line_bytes(r->rows),
                                 .columns = act_stride(r->spec.cols)};
}

static void run_columns(struct op_run *r)
{
    const struct column_codes codes = codes_of(r);
    const struct weight w = {
        .rows = r->rows, .cols = r->spec.cols, .row_bytes = r->row_bytes, .scale = 1};
    struct backend_cpu b = op_engine_of(r);
    b.base.config.n_threads = cpu_pool_n_threads(r->t->pool);
    b.pool = r->t->pool;
    b.s.column_sums = (int32_t *)(void *)r->scratch;
    b.s.column_used = (bool *)(void *)r->bytes;
    (void)cpu_dot_codes(&b, &codes, &w, r->y);
    op_next_weights(r);
}

/* Zeros in the part of the row that was asked for; returns how many values are left. */
static uint64_t draw_zeros(struct op_run *r)
{
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 3);
    uint64_t left = 0;
    r->act.sum[0] = 0;
    for (uint64_t p = 0; p < act_stride(r->spec.cols); p++) {
        r->act.q[p] = bnt_rng_unit(&rng) < r->spec.zeros ? 0 : r->act.q[p];
        r->act.sum[0] += r->act.q[p];
        left += r->act.q[p] != 0;
    }
    return left;
}

/* Sums of integers: all rows are the reference's, to the bit. */
static enum bnt_status check_columns(struct op_run *r, struct bnt_err *err)
{
    const struct cpu_kernels *fast = r->t->kernels;
    memset(r->y, 0xff, r->rows * sizeof *r->y); /* no numbers: each has to be written */
    r->run(r);
    r->at = 0;
    memcpy(r->z, r->y, r->rows * sizeof *r->z);
    r->t->kernels = &cpu_kernels_ref;
    r->run(r);
    r->t->kernels = fast;
    r->at = 0;
    return memcmp(r->z, r->y, r->rows * sizeof *r->z) == 0
               ? BNT_OK
               : bnt_err_set(err, BNT_E_DIFFERS,
                             "the %s product by columns of %llu x %llu is not the reference's",
                             fast->name, (unsigned long long)r->rows,
                             (unsigned long long)r->spec.cols);
}

enum bnt_status op_columns_prepare(struct op_run *r, struct bnt_err *err)
{
    const struct op_spec *s = &r->spec;
    const struct column_codes codes = codes_of(r);
    const uint64_t threads = (uint64_t)cpu_pool_n_threads(r->t->pool);
    r->row_bytes = ternary_row_bytes(s->cols);
    r->matrix_bytes = codes.columns * codes.column_bytes;
    if (s->n_tok != 1 || s->cols > COLUMN_MAX || !(s->zeros >= 0.3 && s->zeros < 1) ||
        r->matrix_bytes > r->t->weight_bytes) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "a product by columns is of one token, of which 0.3 or more, but not "
                           "all is zero, and of a matrix of at most %llu bytes",
                           (unsigned long long)r->t->weight_bytes);
    }
    enum bnt_status st = op_take(r,
                                 &(struct op_needs){.x = s->cols,
                                                    .y = r->rows,
                                                    .z = r->rows,
                                                    .act_cols = s->cols,
                                                    .scratch = threads * column_sums(&codes),
                                                    .bytes = threads},
                                 err);
    if (st != BNT_OK) {
        return st;
    }
    r->t->kernels->quantize_act(r->x, s->cols, r->act.q, &r->act.scale[0], &r->act.sum[0]);
    const uint64_t read = draw_zeros(r) * codes.column_bytes;
    r->run = run_columns;
    r->cost = (struct op_time){.count = s->rows * s->cols,
                               .weight_bytes = read,
                               .bytes = read + r->act.stride + s->rows * sizeof(float)};
    return check_columns(r, err);
}
