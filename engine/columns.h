/* A copy of the `down` matrices by columns. Their input is max(gate, 0)^2 * up, normed and in 8
 * bits: most of it is exactly 0 (two thirds with random weights, more in trained models), and a
 * column that meets a zero adds nothing. By columns they need not be read; the sums are those of
 * all columns, since they are integers.
 *
 * The form (packed.h) is a function of the codes alone. */
#ifndef BNT_COLUMNS_H
#define BNT_COLUMNS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/cpu/kernels.h"

struct bnt_model;
struct weight;

/* True when a model's activation makes zeros and all its `down` matrices are 2-bit codes. */
bool columns_fit(const struct bnt_model *m);
uint64_t columns_bytes(const struct bnt_model *m);
/* Find or make the copy for a model whose weights are in memory: m->columns_form. All threads of
 * the process's share work on it. Errors: MEMORY, FAILED (no threads). */
enum bnt_status columns_open(struct bnt_model *m, struct bnt_err *err);
/* Of one column of a matrix of so many rows. */
uint64_t column_line_bytes(uint64_t rows);
/* The matrix of layer il; codes is NULL when there is no copy. */
struct column_codes columns_of(const struct bnt_model *m, uint32_t il);

/* Of a matrix in memory the columns at positions [256*block, 256*(block + 1)) of an act row, in the
 * order of struct column_codes, into dst, which is zero before. */
void columns_turn(const struct weight *w, uint64_t block, uint8_t *dst);

#endif
