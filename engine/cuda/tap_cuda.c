/* Rows of the CUDA back end for a tap: fetched from the device after each operation. Slow, and
 * meant to be: it is how bnt trace and bnt bisect look inside. */
#include <stdlib.h>

#include "engine/cuda/backend_cuda.h"

static void emit(const struct backend_cuda *b, const struct cuda_tap_at *at, uint32_t tok,
                 const float *values)
{
    struct bnt_tap_row row = {.op = at->op,
                              .layer = at->layer,
                              .sequence = b->staging[at->first_tok + tok].seq,
                              .position = b->staging[at->first_tok + tok].pos,
                              .n = at->n,
                              .values = values};
    b->base.tap.row(b->base.tap.ctx, &row);
}

/* Floats of the widest row. */
static size_t row_floats(const struct backend_cuda *b)
{
    uint32_t n_vocab = b->base.model->info.n_vocab;
    return n_vocab > b->width ? n_vocab : b->width;
}

/* Room for one row of floats, and one of planes behind it. */
static enum bnt_status need_row(struct backend_cuda *b, struct bnt_err *err)
{
    size_t n = row_floats(b);
    if (!b->tap_row) {
        b->tap_row = malloc(n * sizeof(float) + 4 * ternary_row_bytes(b->width));
    }
    return b->tap_row ? BNT_OK : bnt_err_nomem(err, "a row for a tap", n * sizeof(float));
}

enum bnt_status cuda_tap_rows(struct backend_cuda *b, const struct cuda_tap_at *at,
                              struct bnt_err *err)
{
    enum bnt_status st = need_row(b, err);
    for (uint32_t tok = 0; st == BNT_OK && tok < at->n_tok; tok++) {
        st = cuda_error(b,
                        b->table->download(b->context, b->tap_row, at->x + tok * at->stride,
                                           at->n * sizeof(float)),
                        err);
        if (st == BNT_OK) {
            emit(b, at, tok, b->tap_row);
        }
    }
    return st;
}

/* Where the planes of a row keep element i. */
static uint64_t plane_position(uint32_t i, uint64_t row_bytes)
{
    uint32_t plane = i % 128 / 32, block = i / 128;
    return plane * row_bytes + block * 32 + i % 32;
}

enum bnt_status cuda_tap_act(struct backend_cuda *b, const struct cuda_tap_at *at,
                             uint64_t row_bytes, struct bnt_err *err)
{
    enum bnt_status st = need_row(b, err);
    float *values = b->tap_row, scale = 0;
    int8_t *q = st == BNT_OK ? (int8_t *)(values + row_floats(b)) : NULL;
    for (uint32_t tok = 0; st == BNT_OK && tok < at->n_tok; tok++) {
        const int8_t *from = b->s.act + (uint64_t)tok * 4 * row_bytes;
        st = cuda_error(b, b->table->download(b->context, q, from, 4 * row_bytes), err);
        if (st == BNT_OK) {
            st = cuda_error(
                b, b->table->download(b->context, &scale, b->s.act_scale + tok, sizeof scale), err);
        }
        if (st == BNT_OK) {
            for (uint32_t i = 0; i < at->n; i++) {
                values[i] = (float)q[plane_position(i, row_bytes)] * scale;
            }
            emit(b, at, tok, values);
        }
    }
    return st;
}
