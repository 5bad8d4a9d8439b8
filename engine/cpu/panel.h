/* Ternary products of many tokens, for the tables that have such a kernel. */
#ifndef BNT_CPU_PANEL_H
#define BNT_CPU_PANEL_H

#include "engine/cpu/kernels.h"

/* Where a panel of short rows wins: with so many tokens at least, and so many columns at most. */
enum { PANEL_MIN_TOKS = 16, PANEL_MAX_COLS = 1024 };

/* As matmul_ternary of struct cpu_kernels, for rows from row0 on by whole vectors of 16 rows; at
 * most PANEL_MAX_COLS columns. Returns the first row that is left to do. */
uint64_t panel_ternary_avx512(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                              const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);

/* What either of the next two takes of a->scratch, at most. */
enum { PRODUCT_SCRATCH_AVX2 = 341 * 1024 };

/* As panel_ternary_avx512, for rows of any length: of long ones it wins with so many tokens. */
enum { PANEL_MANY_TOKS_AVX2 = 40 };
uint64_t panel_ternary_avx2(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                            const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);

/* As panel_ternary_avx2, by look-up (lut_avx2.c) and by whole vectors of 8 rows: wins with so many
 * rows and CPU_MANY_TOKENS, which it takes LUT_TOKS at a time. Ends early where a code is 3. */
enum { LUT_MIN_ROWS = 384, LUT_TOKS = 16 };
uint64_t lut_ternary_avx2(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                          const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);

#endif
