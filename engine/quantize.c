#include "engine/quantize.h"

#include <math.h>
#include <string.h>

#include "base/fault.h"

enum { SMALL_BLOCK = 32, K_BLOCK = 256, SUB_BLOCK = 16, Q6_STEPS = 9 };
#define MIN_MEAN 1e-5f    /* of absmean: the published training code clamps there */
#define TINY_BLOCK 1e-15f /* a block whose largest weight is below it is written as zeros */

static float min_f(float a, float b)
{
    return a < b ? a : b;
}

/* The weight of the largest size, with its sign. */
static float largest(const float *x, unsigned n)
{
    float most = 0, size = 0;
    for (unsigned i = 0; i < n; i++) {
        if (fabsf(x[i]) > size) {
            size = fabsf(x[i]);
            most = x[i];
        }
    }
    return most;
}

/* The block functions take the weights of one block. */

static void block_q4_0(const float *x, uint8_t *b)
{
    const float d = largest(x, SMALL_BLOCK) / -8, inverse = d != 0 ? 1.0f / d : 0;
    f16_store(b, d);
    for (unsigned j = 0; j < 16; j++) {
        uint8_t low = (uint8_t)min_f(15, truncf(x[j] * inverse + 8.5f));
        uint8_t high = (uint8_t)min_f(15, truncf(x[j + 16] * inverse + 8.5f));
        b[2 + j] = (uint8_t)(low | high << 4);
    }
}

static void block_q8_0(const float *x, uint8_t *b)
{
    const float d = fabsf(largest(x, SMALL_BLOCK)) / 127, inverse = d != 0 ? 1.0f / d : 0;
    f16_store(b, d);
    for (unsigned j = 0; j < SMALL_BLOCK; j++) {
        float v = x[j] * inverse;
        b[2 + j] = (uint8_t)(int8_t)(BNT_FAULT(quantize_q8_cut) ? truncf(v) : roundf(v));
    }
}

static int clamped_step(float v)
{
    float r = rintf(v);
    return (int)(r < -32 ? -32 : r > 31 ? 31 : r);
}

/* The scale of 16 weights in steps of 6 bits: of 19 candidates around the largest weight the one
 * with the least error, weighted by the square of the weights. level: its steps, from 0 to 63,
 * which stay where the block's scale rounds to nothing. */
static float fit_16(const float *x, uint8_t *level)
{
    const float max = largest(x, SUB_BLOCK);
    float scale = 0, best = 0;
    memset(level, 0, SUB_BLOCK);
    if (fabsf(max) < TINY_BLOCK) {
        return 0;
    }
    for (int k = 0; k <= 2 * Q6_STEPS; k++) {
        /* The middle comes first, then all others from the lowest on. */
        int shift = k == 0 ? 0 : k <= Q6_STEPS ? k - Q6_STEPS - 1 : k - Q6_STEPS;
        float inverse = -(32 + 0.1f * (float)shift) / max, sum_lx = 0, sum_l2 = 0;
        for (unsigned i = 0; i < SUB_BLOCK; i++) {
            float l = (float)clamped_step(inverse * x[i]), w = x[i] * x[i];
            sum_lx += w * x[i] * l;
            sum_l2 += w * l * l;
        }
        bool better = k == 0 || (sum_l2 > 0 && sum_lx * sum_lx > best * sum_l2);
        if (better) {
            scale = sum_l2 != 0 ? sum_lx / sum_l2 : 0;
            best = scale * sum_lx;
            for (unsigned i = 0; i < SUB_BLOCK; i++) {
                level[i] = (uint8_t)(clamped_step(inverse * x[i]) + 32);
            }
        }
    }
    return scale;
}

/* Low nibbles ql[128], high pairs qh[64]: half h, quarter k of it, weight l of 32. */
static void pack_q6(const uint8_t *level, uint8_t *b)
{
    memset(b, 0, 192);
    for (unsigned i = 0; i < K_BLOCK; i++) {
        unsigned h = i / 128, k = i / 32 % 4, l = i % 32;
        b[64 * h + 32 * (k % 2) + l] |= (uint8_t)((level[i] & 15) << (k < 2 ? 0 : 4));
        b[128 + 32 * h + l] |= (uint8_t)((level[i] >> 4) << 2 * k);
    }
}

static void block_q6_k(const float *x, uint8_t *b)
{
    float scale[K_BLOCK / SUB_BLOCK];
    uint8_t level[K_BLOCK];
    for (unsigned s = 0; s < K_BLOCK / SUB_BLOCK; s++) {
        scale[s] = fit_16(x + SUB_BLOCK * s, level + SUB_BLOCK * s);
    }
    const float max = largest(scale, K_BLOCK / SUB_BLOCK);
    memset(b, 0, 210);
    if (fabsf(max) < TINY_BLOCK) {
        return;
    }
    const float inverse = -128.0f / max;
    uint16_t half = f32_to_f16(1 / inverse);
    memcpy(b + 208, &half, sizeof half);
    for (unsigned i = 0; i < K_BLOCK; i++) {
        int8_t sub = (int8_t)min_f(127, rintf(inverse * scale[i / SUB_BLOCK]));
        float d = f16_to_f32(half) * (float)sub;
        b[192 + i / SUB_BLOCK] = (uint8_t)sub;
        if (d != 0) {
            level[i] = (uint8_t)(clamped_step(x[i] / d) + 32);
        }
    }
    pack_q6(level, b);
}

static uint16_t f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return (uint16_t)(bits >> 16 | 64); /* a NaN stays one */
    }
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void halves(enum tensor_type type, const float *x, uint64_t cols, uint8_t *dst)
{
    for (uint64_t i = 0; i < cols; i++) {
        uint16_t half = type == TENSOR_F16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
        memcpy(dst + 2 * i, &half, sizeof half);
    }
}

typedef void block_fn(const float *x, uint8_t *block);

static block_fn *block_function(enum tensor_type type)
{
    switch (type) {
    case TENSOR_Q4_0:
        return block_q4_0;
    case TENSOR_Q8_0:
        return block_q8_0;
    case TENSOR_Q6_K:
        return block_q6_k;
    default:
        return NULL;
    }
}

bool quantize_row_can(enum tensor_type type)
{
    return tensor_is_plain(type) || block_function(type);
}

void quantize_row(enum tensor_type type, const float *x, uint64_t cols, uint8_t *dst)
{
    if (type == TENSOR_F32) {
        memcpy(dst, x, cols * sizeof *x);
        return;
    }
    if (type == TENSOR_F16 || type == TENSOR_BF16) {
        halves(type, x, cols, dst);
        return;
    }
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    block_fn *block = block_function(type);
    for (uint64_t i = 0; block && i < cols; i += info->block_weights, dst += info->block_bytes) {
        block(x + i, dst);
    }
}

/* ---- absmean ---- */

void absmean_add(struct absmean *a, const float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        a->sum += size;
        a->not_ternary = a->not_ternary || (size != 0 && a->max != 0 && size != a->max);
        a->max = size > a->max ? size : a->max;
    }
    a->n += n;
}

bool absmean_is_finite(const struct absmean *a)
{
    return isfinite(a->sum);
}

bool absmean_is_ternary(const struct absmean *a)
{
    return !a->not_ternary;
}

float absmean_scale(const struct absmean *a)
{
    if (!a->not_ternary) {
        return a->max;
    }
    float mean = (float)(a->sum / (double)a->n);
    return mean > MIN_MEAN ? mean : MIN_MEAN;
}

void absmean_codes(float scale, const float *x, uint64_t n, int8_t *w)
{
    const float inverse = scale != 0 ? 1.0f / scale : 0;
    for (uint64_t i = 0; i < n; i++) {
        float v = BNT_FAULT(absmean_cut) ? truncf(x[i] * inverse) : rintf(x[i] * inverse);
        w[i] = (int8_t)(v > 1 ? 1 : v < -1 ? -1 : v);
    }
}
