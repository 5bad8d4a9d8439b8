/* A copy of ternary matrices in 1.6 bits per weight instead of 2, for products of one token, whose
 * time is that of reading them: five weights are one of 243 values of a byte. The sums are those of
 * the 2-bit codes, since they are integers.
 *
 * A byte holds weights of five neighbouring rows and of one column. So all five meet the same
 * activation, and a kernel needs not take the byte apart: any five sums will do from which those of
 * the rows follow (cpu/fives_vbmi.c). Rows that are left over, fewer than FIVES_ROWS *
 * WALK_STREAMS, are read as 2-bit codes.
 *
 * The form (packed.h) is a function of the codes alone: 64 bytes, of which the first says whether
 * there is a copy at all, then the matrices in the order of the layers and of enum W_Q.... */
#ifndef BNT_FIVES_H
#define BNT_FIVES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct bnt_model;
struct weight;

/* Bytes of the form; 0 when no matrix would gain by it. `down` matrices that may have a copy by
 * columns (columns.h) are left to that. */
uint64_t fives_bytes(const struct bnt_model *m);
/* Find or make the copy for a model whose weights are in memory, and point its matrices at it. All
 * threads of the process's share make it. Codes that are no weight cannot be told in it: then
 * m->by_fives is false afterwards. Errors: MEMORY, FAILED (no threads). */
enum bnt_status fives_open(struct bnt_model *m, struct bnt_err *err);
/* Whether a ternary matrix of its rows and columns would gain by a copy. */
bool fives_fit(const struct weight *w);
/* Bytes that a product of one token reads of a matrix that has a copy. */
uint64_t fives_read_bytes(const struct weight *w);

/* The group of rows FIVES_ROWS * g on of a matrix in memory, in act_stride(cols) bytes. False: some
 * code is no weight. */
bool fives_pack(const struct weight *w, uint64_t g, uint8_t *dst);

#endif
