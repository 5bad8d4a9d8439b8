/* What ternary.c and ternary_tl.c share. */
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

/* The CORRUPT error for the weight at row, col. */
enum bnt_status ternary_bad_code(const struct ternary_source *src, uint64_t row, uint64_t col,
                                 struct bnt_err *err);

#endif
