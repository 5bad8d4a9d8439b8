/* Rows of the CUDA back end for a tap: fetched from the device after each operation. Slow, and
 * meant to be: it is how bnt trace and bnt bisect look inside. */
#include <stdlib.h>

#include "engine/cuda/backend_cuda.h"

static void emit(const struct backend_cuda *b, const struct cuda_tap_at *at, uint32_t tok,
                 const float *values)
{
    struct bnt_tap_row row = {.op = at->op,
                              .layer = at->layer,
                              .position = b->pos + at->first_tok + tok,
                              .n = at->n,
                              .values = values};
    b->base.tap.row(b->base.tap.ctx, &row);
}

/* Room for one row of floats, and one of planes behind it. */
static enum bnt_status need_row(struct backend_cuda *b, struct bnt_err *err)
{
    uint32_t n_vocab = b->base.model->info.n_vocab;
    size_t n = n_vocab > b->width ? n_vocab : b->width;
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

enum bnt_status cuda_tap_act(struct backend_cuda *b, const struct cuda_tap_at *at,
                             uint64_t row_bytes, struct bnt_err *err)
{
    enum bnt_status st = need_row(b, err);
    float *values = b->tap_row, scale = 0;
    int8_t *q = (int8_t *)b->tap_row + sizeof(float) * (b->base.model->info.n_vocab > b->width
                                                            ? b->base.model->info.n_vocab
                                                            : b->width);
    for (uint32_t tok = 0; st == BNT_OK && tok < at->n_tok; tok++) {
        const int8_t *from = b->s.act + (uint64_t)tok * 4 * row_bytes;
        st = cuda_error(b, b->table->download(b->context, q, from, 4 * row_bytes), err);
        if (st == BNT_OK) {
            st = cuda_error(
                b, b->table->download(b->context, &scale, b->s.act_scale + tok, sizeof scale), err);
        }
        if (st == BNT_OK) {
            for (uint32_t i = 0; i < at->n; i++) {
                values[i] = (float)q[i % 128 / 32 * row_bytes + i / 128 * 32 + i % 32] * scale;
            }
            emit(b, at, tok, values);
        }
    }
    return st;
}
