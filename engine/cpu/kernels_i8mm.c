/* The ternary product of several tokens by the 8-bit matrix instructions of Armv8.6 (smmla: two
 * rows of eight by two tokens of eight, exact in int32). One instruction makes twice the products
 * of sdot, for operands that hold eight bytes of each of two rows: codes are put side by side while
 * they are packed, activations at every load. All else of the table is that of kernels_neon.c. */
#include "engine/cpu/tables.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#include "engine/cpu/neon_codes.h"

#define V_INLINE inline __attribute__((always_inline))

/* Register tile: 4 pairs of rows by 2 pairs of tokens. 8 accumulators, 8 packed, 4 activations, 2
 * codes of 32 registers. */
#define PAIRS 4
#define TOK_PAIRS 2
#define M_ROWS (2 * PAIRS)
#define M_TOKS (2 * TOK_PAIRS)

/* Rows and tokens of a tile, as where their bytes begin. A tile that reaches past the last row or
 * token reads that one again; nothing of it is stored. */
struct tile {
    const uint8_t *row[M_ROWS];
    const int8_t *tok[M_TOKS];
};

/* The first and the second eight bytes of a and b, side by side. */
static V_INLINE int8x16_t first_halves(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vtrn1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

static V_INLINE int8x16_t second_halves(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vtrn2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

/* 16 bytes of codes per row, half a block, from byte c on, against 64 activations per token. */
static V_INLINE void mmla_step(const struct tile *tile, uint64_t c, uint64_t at,
                               int32x4_t acc[PAIRS][TOK_PAIRS])
{
    uint8x16_t packed[PAIRS][2];
    for (int p = 0; p < PAIRS; p++) {
        int8x16_t a = vreinterpretq_s8_u8(vld1q_u8(tile->row[2 * p] + c));
        int8x16_t b = vreinterpretq_s8_u8(vld1q_u8(tile->row[2 * p + 1] + c));
        packed[p][0] = vreinterpretq_u8_s8(first_halves(a, b));
        packed[p][1] = vreinterpretq_u8_s8(second_halves(a, b));
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        int8x16_t act[TOK_PAIRS][2];
        for (int t = 0; t < TOK_PAIRS; t++) {
            int8x16_t a = vld1q_s8(tile->tok[2 * t] + at + 64 * g);
            int8x16_t b = vld1q_s8(tile->tok[2 * t + 1] + at + 64 * g);
            act[t][0] = first_halves(a, b);
            act[t][1] = second_halves(a, b);
        }
        for (int p = 0; p < PAIRS; p++) {
            int8x16_t first = neon_codes(packed[p][0], g), second = neon_codes(packed[p][1], g);
            for (int t = 0; t < TOK_PAIRS; t++) {
                acc[p][t] = vmmlaq_s32(acc[p][t], first, act[t][0]);
                acc[p][t] = vmmlaq_s32(acc[p][t], second, act[t][1]);
            }
        }
    }
}

/* Rows [row, row + n_row) by tokens [t0, t0 + n_tok), no more of either than a tile has. */
static void mmla_tile(const struct ternary_weights *w, uint64_t row, uint64_t n_row,
                      const struct act_rows *a, size_t t0, size_t n_tok, float *y, size_t y_stride)
{
    struct tile tile;
    for (uint64_t r = 0; r < M_ROWS; r++) {
        tile.row[r] = w->codes + (row + (r < n_row ? r : n_row - 1)) * w->row_bytes;
    }
    for (size_t t = 0; t < M_TOKS; t++) {
        tile.tok[t] = a->q + (t0 + (t < n_tok ? t : n_tok - 1)) * a->stride;
    }
    int32x4_t acc[PAIRS][TOK_PAIRS];
    for (int i = 0; i < PAIRS * TOK_PAIRS; i++) {
        acc[i / TOK_PAIRS][i % TOK_PAIRS] = vdupq_n_s32(0);
    }
    for (uint64_t b = 0; b < w->row_bytes / 32; b++) {
        uint64_t at = 256 * (b / 2) + 32 * (b % 2);
        mmla_step(&tile, 32 * b, at, acc);
        mmla_step(&tile, 32 * b + 16, at + 16, acc);
    }
    for (size_t t = 0; t < n_tok; t++) {
        float scale = w->scale * a->scale[t0 + t];
        int32_t minus = a->sum[t0 + t];
        for (uint64_t r = 0; r < n_row; r++) {
            int32_t four[4]; /* [row of the pair][token of the pair] */
            vst1q_s32(four, acc[r / 2][t / 2]);
            y[(t0 + t) * y_stride + row + r] = (float)(four[2 * (r % 2) + t % 2] - minus) * scale;
        }
    }
}

/* Bytes of codes that stay in the second-level cache while all tokens pass over them. */
#define CODE_BLOCK_BYTES (128u * 1024)

void matmul_ternary_i8mm(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                         const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    if (n_tok == 1) {
        cpu_kernels_neon.matmul_ternary(w, row0, row1, a, n_tok, y, y_stride);
        return;
    }
    uint64_t block_rows = (CODE_BLOCK_BYTES / (w->row_bytes + 1) / M_ROWS + 1) * M_ROWS;
    for (uint64_t block = row0; block < row1; block += block_rows) {
        uint64_t end = row1 - block > block_rows ? block + block_rows : row1;
        for (size_t t = 0; t < n_tok; t += M_TOKS) {
            for (uint64_t r = block; r < end; r += M_ROWS) {
                mmla_tile(w, r, end - r < M_ROWS ? end - r : M_ROWS, a, t,
                          n_tok - t < M_TOKS ? n_tok - t : M_TOKS, y, y_stride);
            }
        }
    }
}

#endif
