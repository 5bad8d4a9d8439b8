/* What ternary.c, ternary_tl.c and dequant.c share. */
#ifndef BNT_TERNARY_IMPL_H
#define BNT_TERNARY_IMPL_H

#include "engine/gguf.h"
#include "engine/tensor_type.h"

/* Rows [row0, row1) of a TL1 or TL2 source whose size and rows have been checked. */
enum bnt_status ternary_decode_tl(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                                  int8_t *dst, struct bnt_err *err);

/* The same for a tensor to be written: all codes of w[rows*cols] into dst, whose tail is left
 * alone. Errors: DIMENSIONS. */
enum bnt_status ternary_encode_tl(const struct ternary_source *shape, const int8_t *w, uint8_t *dst,
                                  struct bnt_err *err);

/* Codes in {-1, 0, 1}, or 2 for the one that means no weight: n weights of IQ2_BN behind their
 * scale, a multiple of 64; a block of 256 of TQ1_0 and of TQ2_0. */
void ternary_codes_iq2_bn(const uint8_t *bytes, uint64_t n, int8_t *w);
void ternary_codes_tq1(const uint8_t *block, int8_t *w);
void ternary_codes_tq2(const uint8_t *block, int8_t *w);

/* The CORRUPT error for the weight at row, col. */
enum bnt_status ternary_bad_code(const struct ternary_source *src, uint64_t row, uint64_t col,
                                 struct bnt_err *err);

#endif
