/* Float32 rows to the types of GGUF files, and the absmean of BitNet b1.58.
 *
 * Block types round as ggml's reference quantisers do (quantize_row_*_ref of ggml-org/ggml
 * src/ggml-quants.c): the same operations in the same order, without weights of importance.
 *
 * absmean, as the paper has it (Ma et al. 2024, eq. 1-3) and the published training code computes
 * it: with g the mean of |w| over the whole matrix, at least 1e-5, a weight becomes g times
 * round(w / g) clipped to -1, 0, 1; the quotient is w times the float32 reciprocal of g, and a half
 * goes to the even side. The mean is summed in double, front to back, so that it is the same on
 * every machine. */
#ifndef BNT_QUANTIZE_H
#define BNT_QUANTIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/tensor_type.h"

/* F32, F16, BF16, Q4_0, Q8_0, Q6_K. */
bool quantize_row_can(enum tensor_type type);
/* x[cols], cols a multiple of the type's block, into cols/block * block_bytes at dst. */
void quantize_row(enum tensor_type type, const float *x, uint64_t cols, uint8_t *dst);

/* What a first pass over a matrix finds, in pieces from front to back. Starts zeroed. */
struct absmean {
    double sum; /* of |w| */
    uint64_t n;
    float max;        /* of |w| */
    bool not_ternary; /* two weights differ in size, and neither is 0 */
};
void absmean_add(struct absmean *a, const float *x, uint64_t n);
/* No NaN and no infinity was among them. */
bool absmean_is_finite(const struct absmean *a);
/* The weights are already a scale times -1, 0, 1. */
bool absmean_is_ternary(const struct absmean *a);
/* The scale: the mean, or for what is ternary already that one size (0 weighs nothing and means 0
 * for a matrix of zeros). */
float absmean_scale(const struct absmean *a);
/* Codes of n weights under that scale. */
void absmean_codes(float scale, const float *x, uint64_t n, int8_t *w);

#endif
