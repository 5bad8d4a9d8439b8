/* Every number is an integer times a power of two, so that no rounding of any machine is in it. */
#include "mock/tiny_weights.h"

#include <stdlib.h>
#include <string.h>

#include "engine/quantize.h"
#include "mock/draw.h"
#include "engine/shape.h"

enum { BLOCK_MAX_BYTES = 256, MAX_CODE = 127 };

/* ceil(log2(sqrt(n))) */
static int half_log2(uint64_t n)
{
    int bits = 0;
    while (n > 1) {
        bits++;
        n = (n + 3) / 4;
    }
    return bits;
}

/* 2^-e */
static float power(int e)
{
    float f = 1;
    for (; e > 0; e--) {
        f /= 2;
    }
    for (; e < 0; e++) {
        f *= 2;
    }
    return f;
}

static float draw_code(struct draw *d)
{
    return (float)((int)draw_below(d, 2 * MAX_CODE + 1) - MAX_CODE);
}

/* Scales of Q4_K and Q5_K: eight sub-blocks, all with the same scale and minimum of 6 bits. */
static void store_k_scales(uint8_t *at, unsigned scale, unsigned min)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(scale | scale >> 4 << 6);
        at[4 + i] = (uint8_t)(min | min >> 4 << 6);
        at[8 + i] = (uint8_t)((scale & 15) | (min & 15) << 4);
    }
}

/* One block of random codes around zero; `unit` is the step of eight-bit codes. */
static void draw_block(struct draw *d, enum tensor_type type, float unit, uint8_t *b, uint32_t n)
{
    draw_bytes(d, b, n);
    switch (type) {
    case TENSOR_Q4_0:
        f16_store(b, 16 * unit);
        break;
    case TENSOR_Q4_1:
        f16_store(b, 16 * unit);
        f16_store(b + 2, -120 * unit);
        break;
    case TENSOR_Q5_0:
        f16_store(b, 8 * unit);
        break;
    case TENSOR_Q5_1:
        f16_store(b, 8 * unit);
        f16_store(b + 2, -124 * unit);
        break;
    case TENSOR_Q8_0:
        f16_store(b, unit);
        break;
    case TENSOR_Q2_K: /* 4 d q - 6 d */
        memset(b, 0x64, 16);
        f16_store(b + 80, 16 * unit);
        f16_store(b + 82, 16 * unit);
        break;
    case TENSOR_Q3_K: /* 8 d q - 32 d: sixes of 40 */
        memset(b + 96, 0x88, 8);
        memset(b + 104, 0xaa, 4);
        f16_store(b + 108, 4 * unit);
        break;
    case TENSOR_IQ4_NL:
        f16_store(b, unit);
        break;
    case TENSOR_IQ4_XS: /* sixes of 33 */
        f16_store(b, unit);
        memset(b + 2, 0xaa, 2);
        memset(b + 4, 0x11, 4);
        break;
    case TENSOR_Q4_K: /* 8 d q - 60 d */
        f16_store(b, 2 * unit);
        f16_store(b + 2, 2 * unit);
        store_k_scales(b + 4, 8, 60);
        break;
    case TENSOR_Q5_K: /* 8 d q - 62 * 2 d */
        f16_store(b, unit);
        f16_store(b + 2, 2 * unit);
        store_k_scales(b + 4, 8, 62);
        break;
    case TENSOR_Q6_K:
        memset(b + 192, 4, 16);
        f16_store(b + 208, unit);
        break;
    case TENSOR_Q1_0:
        f16_store(b, 64 * unit);
        break;
    case TENSOR_Q2_0:
    case TENSOR_Q2_0_G128:
        f16_store(b, 64 * unit);
        for (uint32_t i = 2; i < n; i++) { /* 3, which no ternary model has, becomes 1 */
            b[i] ^= (uint8_t)((b[i] & b[i] >> 1 & 0x55) << 1);
        }
        break;
    default:
        break;
    }
}

struct fill {
    const struct tiny_weights *w;
    const struct gplan_tensor *t;
    const struct shape_rule *rule; /* NULL: none, something between */
    enum shape_role role;
    uint64_t cols, rows;
    struct draw draw;
};

/* Weights have a root mean square of about 2^-exponent. At half_log2(cols) a row times a vector of
 * ones gives 1. Embeddings are four times that, so that logits spread; what attention adds is as
 * small as an embedding, what the feed-forward adds is large: the next token then follows from the
 * present one and a little from those before, and the tied head does not answer with its input. */
static int exponent_of(const struct fill *f)
{
    int plain = half_log2(f->cols);
    if (f->role == SHAPE_EMBEDDING) {
        return plain - 2;
    }
    if (f->rule && f->rule->cols == SHAPE_FF) {
        return plain - 4;
    }
    return f->rule && f->rule->cols == SHAPE_Q ? plain + half_log2(f->rows) - 2 : plain;
}

/* The root mean square of codes from -127 to 127 is 73, about 2^6. */
static float unit_of(const struct fill *f)
{
    return power(6 + exponent_of(f));
}

static float draw_small(struct fill *f)
{
    return (float)((int)draw_below(&f->draw, 17) - 8) / 64;
}

static float vector_value(struct fill *f, uint64_t i)
{
    switch (f->role) {
    case SHAPE_BIAS:
        return draw_small(f);
    case SHAPE_FREQS:
        return 1 + (float)(i % 8) / 8;
    default:
        return 1 + draw_small(f);
    }
}

/* A row of a type with one element to a block, which can hold each value exactly. */
static void draw_plain_row(struct fill *f, uint8_t *row)
{
    const enum tensor_type type = (enum tensor_type)f->t->type;
    bool vector = f->role != SHAPE_LINEAR && f->role != SHAPE_EMBEDDING;
    float unit = unit_of(f);
    for (uint64_t i = 0; i < f->cols; i++) {
        float v = vector ? vector_value(f, i) : draw_code(&f->draw) * unit;
        quantize_row(type, &v, 1, row + i * tensor_row_bytes(type, 1));
    }
}

static enum bnt_status fill_rows(struct fill *f, struct bnt_err *err)
{
    const struct tensor_type_info *info = tensor_type_info(f->t->type);
    uint64_t row_bytes = f->cols / info->block_weights * info->block_bytes;
    uint8_t *row = malloc((size_t)row_bytes);
    enum bnt_status st = row ? BNT_OK : bnt_err_nomem(err, "a row", row_bytes);
    float unit = unit_of(f);
    for (uint64_t r = 0; st == BNT_OK && r < f->rows; r++) {
        if (info->block_weights == 1) {
            draw_plain_row(f, row);
        } else {
            for (uint64_t at = 0; at < row_bytes; at += info->block_bytes) {
                draw_block(&f->draw, info->type, unit, row + at, info->block_bytes);
            }
        }
        st = f->w->sink(f->w->ctx, row, (size_t)row_bytes, err);
    }
    free(row);
    return st;
}

static enum bnt_status fill_ternary(struct fill *f, struct bnt_err *err)
{
    struct ternary_source shape = {.type = (enum tensor_type)f->t->type,
                                   .size = f->t->size,
                                   .rows = f->rows,
                                   .cols = f->cols,
                                   .layout = f->w->layout};
    bool tiled = shape.type == TENSOR_TL1 || shape.type == TENSOR_TL2;
    if (tiled && !tl_tiles_known(shape.type, shape.rows, shape.cols, &shape.tiles)) {
        bnt_err_hint(err, "--embd 1536 --ff 4096 --kv-heads as many as --heads is a known shape");
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "tensor %s: no tile sizes of %s are known for %llu x %llu", f->t->name,
                           tensor_type_info(f->t->type)->name, (unsigned long long)f->rows,
                           (unsigned long long)f->cols);
    }
    int8_t *codes = malloc((size_t)(f->rows * f->cols));
    uint8_t *bytes = malloc((size_t)f->t->size);
    enum bnt_status st =
        codes && bytes ? BNT_OK : bnt_err_nomem(err, "a tensor", f->rows * f->cols + f->t->size);
    if (st == BNT_OK) {
        draw_trits(&f->draw, codes, f->rows * f->cols);
        st = ternary_encode(&shape, codes, power(exponent_of(f)), bytes, err);
    }
    if (st == BNT_OK) {
        st = f->w->sink(f->w->ctx, bytes, (size_t)f->t->size, err);
    }
    free(codes);
    free(bytes);
    return st;
}

enum bnt_status tiny_weights_fill(const struct tiny_weights *w, const struct gplan_tensor *t,
                                  struct bnt_err *err)
{
    uint32_t layer;
    const struct gguf_str name = {t->name, strlen(t->name)};
    const struct shape_rule *rule = shape_find(name, &layer);
    struct fill f = {.w = w,
                     .t = t,
                     .rule = rule,
                     .role = t->ne[1] == 1 ? SHAPE_NORM : SHAPE_LINEAR,
                     .cols = t->ne[0],
                     .rows = t->ne[1] * t->ne[2] * t->ne[3],
                     .draw = draw_stream(w->seed, name.data, name.len)};
    if (rule) {
        f.role = rule->role;
    }
    return tensor_type_info(t->type)->ternary ? fill_ternary(&f, err) : fill_rows(&f, err);
}
