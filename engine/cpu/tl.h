/* TL1 and TL2 by table look-up: the product for weights that stay as the file has them.
 *
 * What a pair or a triple of activations adds up to under every code of weights is tabulated once
 * per token; a row then is a sum of look-ups, without a multiplication. Sums are exact integers, so
 * that results equal those of the same weights in 2 bits (matmul_ternary), bit for bit.
 *
 * The tables of a token, 16 entries of int16 each, low bytes and high bytes apart (what a byte
 * shuffle looks up); entry m is the sum under code m, 0 for codes that mean nothing:
 *
 *     TL1 and the pairs of TL2: code 3a + b + 4 of columns (2n, 2n + 1)
 *     triples of TL2: magnitude |9a + 3b + c|; the sign is applied to what was looked up
 *
 *     TL1       128 bytes per 8 columns: [high, low nibble][low, high byte][2 quads of columns][16]
 *     triples   256 bytes per 12 columns: [high, low nibble][low, high byte][2 bytes][twice][16]
 *     pairs     256 bytes per 8 columns: [high, low nibble][low, high byte][2 quads][twice][16]
 *
 * Triples come first, then pairs. "Twice" lets one load serve the 32 rows of a tile. */
#ifndef BNT_CPU_TL_H
#define BNT_CPU_TL_H

#include "engine/cpu/kernels.h"

/* An int16 sum of pairs grows by at most 512 per byte of codes, one of triples by 3072 per word of
 * signs: how many are added before they are widened. */
enum { TL_PAIR_BYTES = 48, TL_SIGN_WORDS = 8 };

/* Rows of a tile that are summed in one go. */
enum { TL_BLOCK_ROWS = 512 };

/* Bytes of the tables of one token for products with these weights. */
uint64_t tl_tables_bytes(enum tensor_type type, uint64_t cols, uint64_t cols3);

/* Entries of struct cpu_kernels, as kernels.h states them. */
void tl_tables_ref(const struct tl_planes *w, const int8_t *q, uint8_t *tables);
void tl_matmul_ref(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                   const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);
#if defined(__x86_64__)
void tl_tables_avx2(const struct tl_planes *w, const int8_t *q, uint8_t *tables);
void tl_matmul_avx2(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                    const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);
void tl_tables_avx512(const struct tl_planes *w, const int8_t *q, uint8_t *tables);
void tl_matmul_avx512(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                      const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);
#endif
#if defined(__aarch64__)
void tl_tables_neon(const struct tl_planes *w, const int8_t *q, uint8_t *tables);
void tl_matmul_neon(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                    const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);
#endif

#endif
