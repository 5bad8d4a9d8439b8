/* Block formats to float32, row by row. Values are bit-exact to ggml's reference: the same
 * operations in the same order (a product of scale and sub-scale is rounded before the quant
 * multiplies it), no fused multiply-add, no table. Blocks are read byte by byte at fixed offsets,
 * so a row needs no alignment. */
#include <string.h>

#include "base/fault.h"
#include "engine/ternary_impl.h"

#define K_BLOCK 256 /* weights in a super-block of the K and TQ types */

static uint16_t load16(const uint8_t *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static float half_at(const uint8_t *p)
{
    return f16_to_f32(load16(p));
}

/* The block functions take one block and write its weights. */

static void block_q4_0(const uint8_t *b, float *y)
{
    const float d = half_at(b);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)((b[2 + j] & 15) - 8 + BNT_FAULT(dequant_q4_0)) * d;
        y[j + 16] = (float)((b[2 + j] >> 4) - 8) * d;
    }
}

static void block_q4_1(const uint8_t *b, float *y)
{
    const float d = half_at(b), m = half_at(b + 2);
    for (int j = 0; j < 16; j++) {
        y[j] = (float)(b[4 + j] & 15) * d + m;
        y[j + 16] = (float)(b[4 + j] >> 4) * d + m;
    }
}

/* Quant j of 32 with 5 bits: nibbles in qs, the fifth bits in a 32-bit word. */
static int q5_at(const uint8_t *qs, uint32_t high, int j)
{
    int low = j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
    return low | (int)(high >> j & 1) << 4;
}

static void block_q5_0(const uint8_t *b, float *y)
{
    const float d = half_at(b);
    const uint32_t high = load32(b + 2);
    for (int j = 0; j < 32; j++) {
        y[j] = (float)(q5_at(b + 6, high, j) - 16) * d;
    }
}

static void block_q5_1(const uint8_t *b, float *y)
{
    const float d = half_at(b), m = half_at(b + 2);
    const uint32_t high = load32(b + 4);
    for (int j = 0; j < 32; j++) {
        y[j] = (float)q5_at(b + 8, high, j) * d + m;
    }
}

static void block_q8_0(const uint8_t *b, float *y)
{
    const float d = half_at(b);
    for (int j = 0; j < 32; j++) {
        y[j] = (float)(int8_t)b[2 + j] * d;
    }
}

/* Scale and minimum i of 8, 6 bits each in 12 bytes: 0..3 lie in the low six bits of bytes i and
 * 4+i; 4..7 take a nibble of byte 4+i and the two high bits that the first eight bytes have left.
 */
static void k_scale_min(const uint8_t *s, int i, uint8_t *scale, uint8_t *min)
{
    if (i < 4) {
        *scale = s[i] & 63;
        *min = s[i + 4] & 63;
    } else {
        *scale = (uint8_t)((s[i + 4] & 15) | (s[i - 4 + BNT_FAULT(dequant_k_scale)] >> 6) << 4);
        *min = (uint8_t)(s[i + 4] >> 4 | (s[i] >> 6) << 4);
    }
}

/* Q4_K and Q5_K: eight sub-blocks of 32 in pairs that share 32 bytes of nibbles. high: 32 bytes,
 * bit i of byte l is the fifth bit of weight l of sub-block i; NULL without. */
static void block_q45_k(const uint8_t *b, const uint8_t *high, const uint8_t *nibbles, float *y)
{
    const float d = half_at(b), dmin = half_at(b + 2);
    for (int i = 0; i < 8; i++) {
        uint8_t scale, min;
        k_scale_min(b + 4, i, &scale, &min);
        const float d1 = d * (float)scale, m1 = dmin * (float)min;
        const uint8_t *q = nibbles + 32 * (i / 2);
        for (int l = 0; l < 32; l++) {
            int v = i % 2 ? q[l] >> 4 : q[l] & 15;
            if (high) {
                v += (high[l] >> i & 1) << 4;
            }
            y[32 * i + l] = d1 * (float)v - m1;
        }
    }
}

static void block_q4_k(const uint8_t *b, float *y)
{
    block_q45_k(b, NULL, b + 16, y);
}

static void block_q5_k(const uint8_t *b, float *y)
{
    block_q45_k(b, b + 16, b + 48, y);
}

/* Q6_K: low nibbles ql[128], high pairs qh[64], int8 sub-scales[16] for 16 weights each, f16 scale.
 * Half h of the block, quarter k of the half: 32 weights. */
static void block_q6_k(const uint8_t *b, float *y)
{
    const float d = half_at(b + 208);
    for (int i = 0; i < K_BLOCK; i++) {
        int h = i / 128, k = i / 32 % 4, l = i % 32;
        uint8_t low = b[64 * h + 32 * (k % 2) + l];
        uint8_t high = b[128 + 32 * h + l];
        int q = (k < 2 ? low & 15 : low >> 4) | (high >> (2 * (k ^ BNT_FAULT(dequant_q6_k))) & 3)
                                                    << 4;
        float scale = d * (float)(int8_t)b[192 + i / 16];
        y[i] = scale * (float)(q - 32);
    }
}

static void block_tq1_0(const uint8_t *b, float *y)
{
    int8_t w[K_BLOCK];
    const float d = half_at(b + 52);
    ternary_codes_tq1(b, w);
    for (int i = 0; i < K_BLOCK; i++) {
        y[i] = (float)w[i] * d;
    }
}

static void block_tq2_0(const uint8_t *b, float *y)
{
    int8_t w[K_BLOCK];
    const float d = half_at(b + 64);
    ternary_codes_tq2(b, w);
    for (int i = 0; i < K_BLOCK; i++) {
        y[i] = (float)w[i] * d;
    }
}

/* Q1_0 and Q2_0: the scale, then n codes of 1 or 2 bits from the low bits of a byte up. */
static void block_of_codes(const uint8_t *b, int bits, const float *values, int n, float *y)
{
    const int mask = (1 << bits) - 1, last = 8 / bits - 1;
    for (int i = 0; i < n; i++) {
        int place = BNT_FAULT(dequant_codes) ? last - (i & last) : i & last;
        y[i] = values[b[2 + i * bits / 8] >> bits * place & mask];
    }
}

static void block_q1_0(const uint8_t *b, float *y)
{
    const float d = half_at(b), values[2] = {-d, d};
    block_of_codes(b, 1, values, 128, y);
}

static void block_q2_0(const uint8_t *b, int n, float *y)
{
    const float d = half_at(b), values[4] = {-d, 0 * d, d, 2 * d};
    block_of_codes(b, 2, values, n, y);
}

static void block_q2_0_g64(const uint8_t *b, float *y)
{
    block_q2_0(b, 64, y);
}

static void block_q2_0_g128(const uint8_t *b, float *y)
{
    block_q2_0(b, 128, y);
}

/* IQ1_BN and IQ2_BN: the row's scale, then its codes. */
static void row_bn(const struct tensor_type_info *info, const uint8_t *row, uint64_t cols, float *y)
{
    const float d = ternary_row_scale(info->type, row);
    row += info->row_scale_bytes;
    for (uint64_t i = 0; i < cols; i += info->block_weights, row += info->block_bytes) {
        int8_t w[64];
        if (info->type == TENSOR_IQ1_BN) {
            ternary_codes_iq1_bn(row, w);
        } else {
            ternary_codes_iq2_bn(row, w);
        }
        for (int k = 0; k < 64; k++) {
            y[i + (uint64_t)k] = (float)w[k] * d;
        }
    }
}

typedef void block_fn(const uint8_t *block, float *y);

static block_fn *block_function(enum tensor_type type)
{
    switch (type) {
    case TENSOR_Q4_0:
        return block_q4_0;
    case TENSOR_Q4_1:
        return block_q4_1;
    case TENSOR_Q5_0:
        return block_q5_0;
    case TENSOR_Q5_1:
        return block_q5_1;
    case TENSOR_Q8_0:
        return block_q8_0;
    case TENSOR_Q4_K:
        return block_q4_k;
    case TENSOR_Q5_K:
        return block_q5_k;
    case TENSOR_Q6_K:
        return block_q6_k;
    case TENSOR_TQ1_0:
        return block_tq1_0;
    case TENSOR_TQ2_0:
        return block_tq2_0;
    case TENSOR_Q1_0:
        return block_q1_0;
    case TENSOR_Q2_0:
        return block_q2_0_g64;
    case TENSOR_Q2_0_G128:
        return block_q2_0_g128;
    default:
        return NULL;
    }
}

/* f16_to_f32 without branches, for many values: the bits as a float are 2^112 too small, exactly,
 * subnormals included; infinities and NaNs get the largest exponent. */
static void row_f16(const uint8_t *p, uint64_t cols, float *dst)
{
    for (uint64_t i = 0; i < cols; i++) {
        uint32_t half = load16(p + 2 * i), bits = (half & 0x7fff) << 13;
        float f;
        memcpy(&f, &bits, sizeof f);
        f *= 0x1p112f;
        uint32_t last = bits >= 31u << 23 ? 255u << 23 : 0;
        memcpy(&bits, &f, sizeof bits);
        bits |= last | (half & 0x8000) << 16;
        memcpy(&dst[i], &bits, sizeof bits);
    }
}

void dequantize_row(enum tensor_type type, const void *row, uint64_t cols, float *dst)
{
    const uint8_t *p = row;
    if (type == TENSOR_F32) {
        memcpy(dst, p, cols * sizeof *dst);
        return;
    }
    if (type == TENSOR_F16) {
        row_f16(p, cols, dst);
        return;
    }
    if (type == TENSOR_BF16) {
        for (uint64_t i = 0; i < cols; i++) {
            dst[i] = bf16_to_f32(load16(p + 2 * i));
        }
        return;
    }
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    if (info->row_scale_bytes > 0) {
        row_bn(info, p, cols, dst);
        return;
    }
    block_fn *block = block_function(type);
    for (uint64_t i = 0; block && i < cols; i += info->block_weights) {
        block(p - (BNT_FAULT(dequant_scale_block) && i > 0 ? info->block_bytes : 0), dst + i);
        p += info->block_bytes;
    }
}

void dequantize_unit(enum tensor_type type, const void *unit, uint64_t cols, float *dst)
{
    if (type != TENSOR_IQ2_BN_R4) {
        dequantize_row(type, unit, cols, dst);
        return;
    }
    for (unsigned k = 0; k < 4; k++, dst += cols) {
        const float d = ternary_row_scale(type, (const uint8_t *)unit + k * sizeof d);
        const uint8_t *block = (const uint8_t *)unit + 4 * sizeof d;
        for (uint64_t i = 0; i < cols; i += 64, block += 64) {
            int8_t w[64];
            ternary_codes_of_four(block, k, w);
            for (int c = 0; c < 64; c++) {
                dst[i + (uint64_t)c] = (float)w[c] * d;
            }
        }
    }
}
