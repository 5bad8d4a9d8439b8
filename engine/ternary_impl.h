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

/* Codes in {-1, 0, 1}, or 2 for the one that means no weight: a block of 64 of IQ1_BN and of
 * IQ2_BN, of 256 of TQ1_0 and of TQ2_0. */
void ternary_codes_iq1_bn(const uint8_t *block, int8_t *w);
void ternary_codes_iq2_bn(const uint8_t *block, int8_t *w);
void ternary_codes_tq1(const uint8_t *block, int8_t *w);
void ternary_codes_tq2(const uint8_t *block, int8_t *w);

/* 64 weights of one of four rows of IQ2_BN_R4 in the 64 bytes that hold those of all four. */
void ternary_codes_of_four(const uint8_t *block, unsigned row, int8_t *w);

/* The scale that begins a row of IQ1_BN (a half) or IQ2_BN. */
float ternary_row_scale(enum tensor_type type, const uint8_t *row);

/* The CORRUPT error for the weight at row, col. */
enum bnt_status ternary_bad_code(const struct ternary_source *src, uint64_t row, uint64_t col,
                                 struct bnt_err *err);

#endif
