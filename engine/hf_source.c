/* Packed weights, as the transformers library has them: a matrix of M rows is a tensor of M/4 rows
 * of bytes; bits 2k and 2k+1 of byte row r are row k*M/4 + r, a weight being its code minus 1. */
#include "engine/hf_source.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"

static enum bnt_status read_floats(void *ctx, size_t which, uint64_t row0, uint64_t n, float *dst,
                                   struct bnt_err *err);
static enum bnt_status read_codes(void *ctx, size_t which, uint64_t row0, uint64_t n, int8_t *dst,
                                  float *scale, struct bnt_err *err);

void hf_source_init(struct hf_source *s, const struct safetensors *files)
{
    *s = (struct hf_source){.files = files,
                            .source = {.floats = read_floats, .codes = read_codes, .ctx = s}};
}

void hf_source_release(struct hf_source *s)
{
    free(s->rows);
    s->rows = NULL;
}

enum bnt_status hf_source_add(struct hf_source *s, const struct hf_rows *rows, size_t *which,
                              struct bnt_err *err)
{
    if (s->n_rows == s->cap_rows) {
        size_t cap = s->cap_rows ? 2 * s->cap_rows : 256;
        struct hf_rows *all = realloc(s->rows, cap * sizeof *all);
        if (!all) {
            return bnt_err_nomem(err, "tensors", cap * sizeof *all);
        }
        s->rows = all;
        s->cap_rows = cap;
    }
    *which = s->n_rows;
    s->rows[s->n_rows++] = *rows;
    return BNT_OK;
}

/* Which of n rows of the checkpoint is row r of the file; of a bias, which of n numbers. */
static uint64_t source_row(const struct hf_rows *h, uint64_t n, uint64_t r)
{
    if (h->n_head == 0 || BNT_FAULT(rope_rows)) {
        return r;
    }
    uint64_t head = n / h->n_head, at = r % head;
    return r - at + (at % 2) * (head / 2) + at / 2;
}

static enum tensor_type float_type(enum st_dtype dtype)
{
    return dtype == ST_F32 ? TENSOR_F32 : dtype == ST_F16 ? TENSOR_F16 : TENSOR_BF16;
}

/* A bias of rotated heads, in the order of their rows. */
static enum bnt_status read_bias(const struct hf_source *s, const struct hf_rows *h, float *dst,
                                 struct bnt_err *err)
{
    float *x = malloc((size_t)h->cols * sizeof *x);
    uint8_t *raw = malloc((size_t)h->tensor->size);
    enum bnt_status st = x && raw ? BNT_OK : bnt_err_nomem(err, "a bias", h->tensor->size);
    if (st == BNT_OK) {
        st = safetensors_read(s->files, h->tensor, 0, h->tensor->size, raw, err);
    }
    if (st == BNT_OK) {
        dequantize_row(float_type(h->tensor->dtype), raw, h->cols, x);
        for (uint64_t i = 0; i < h->cols; i++) {
            dst[i] = x[source_row(h, h->cols, i)];
        }
    }
    free(x);
    free(raw);
    return st;
}

/* Rows whose order is kept are read at once. */
static enum bnt_status read_floats(void *ctx, size_t which, uint64_t row0, uint64_t n, float *dst,
                                   struct bnt_err *err)
{
    const struct hf_source *s = ctx;
    const struct hf_rows *h = &s->rows[which];
    if (!h->tensor) {
        memcpy(dst, h->memory + row0 * h->cols, n * h->cols * sizeof *dst);
        return BNT_OK;
    }
    if (h->rows == 1 && h->n_head) {
        return read_bias(s, h, dst, err);
    }
    const enum tensor_type type = float_type(h->tensor->dtype);
    const uint64_t row_bytes = tensor_row_bytes(type, h->cols), step = h->n_head ? 1 : n;
    uint8_t *raw = malloc((size_t)(step * row_bytes));
    enum bnt_status st = raw ? BNT_OK : bnt_err_nomem(err, "rows", step * row_bytes);
    for (uint64_t r = 0; st == BNT_OK && r < n; r += step) {
        st = safetensors_read(s->files, h->tensor, source_row(h, h->rows, row0 + r) * row_bytes,
                              step * row_bytes, raw, err);
        if (st == BNT_OK) {
            dequantize_row(type, raw, step * h->cols, dst + r * h->cols);
        }
    }
    free(raw);
    return st;
}

static enum bnt_status unpack(const struct hf_rows *h, const uint8_t *raw, uint64_t row,
                              int8_t *dst, struct bnt_err *err)
{
    const unsigned shift = 2 * (unsigned)(row / (h->rows / 4));
    unsigned worst = 0;
    for (uint64_t c = 0; c < h->cols; c++) {
        unsigned code = raw[c] >> shift & 3;
        worst = code > worst ? code : worst;
        dst[c] = (int8_t)((int)code - 1);
    }
    return worst < 3
               ? BNT_OK
               : bnt_err_set(err, BNT_E_FILE, "tensor %s: row %llu has a code that means no weight",
                             h->tensor->name, (unsigned long long)row);
}

static enum bnt_status read_codes(void *ctx, size_t which, uint64_t row0, uint64_t n, int8_t *dst,
                                  float *scale, struct bnt_err *err)
{
    const struct hf_source *s = ctx;
    const struct hf_rows *h = &s->rows[which];
    uint8_t *raw = malloc((size_t)h->cols);
    enum bnt_status st = raw ? BNT_OK : bnt_err_nomem(err, "a row", h->cols);
    *scale = h->scale;
    for (uint64_t r = 0; st == BNT_OK && r < n; r++) {
        uint64_t row = source_row(h, h->rows, row0 + r);
        st =
            safetensors_read(s->files, h->tensor, row % (h->rows / 4) * h->cols, h->cols, raw, err);
        if (st == BNT_OK) {
            st = unpack(h, raw, row, dst + r * h->cols, err);
        }
    }
    free(raw);
    return st;
}
