/* A copy of a head in 12 bits per weight without loss, for the product with one token, which memory
 * binds. Heads of trained models are mostly values of bfloat16, in F16 or F32 too: the lower half
 * of each float32 is 0. Of its upper byte, sign and seven bits of the exponent, a row has hardly
 * more than 16, so that four bits tell which; what is none of those is listed (struct narrow_codes
 * of cpu/kernels.h). Rows that are otherwise are read from the head itself.
 *
 * The form (packed.h) is a function of the head's values alone. */
#ifndef BNT_NARROW_H
#define BNT_NARROW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/cpu/kernels.h"

struct bnt_model;
struct weight;

/* True when a head may have the copy, by its type and size: F32, F16 or BF16 in memory. */
bool narrow_may_fit(const struct weight *head);
uint64_t narrow_bytes(const struct weight *head);
/* Write the form, narrow_bytes, to dst. All threads of the process's share work on it. Errors:
 * MEMORY, FAILED (no threads). */
enum bnt_status narrow_fill(const struct weight *head, uint8_t *dst, struct bnt_err *err);
/* data: 64-byte aligned, as long as the copy is used. */
void narrow_view(const struct weight *head, const uint8_t *data, struct narrow_codes *out);
/* Rows that are read from the head itself. */
uint64_t narrow_whole_rows(const uint8_t *data);
/* Find or make the copy for a model whose head is in memory, if its values are of that kind:
 * m->narrow. Errors: those of packed_open. */
enum bnt_status narrow_open(struct bnt_model *m, struct bnt_err *err);
/* What a token reads of the head with it. */
uint64_t narrow_token_bytes(const struct bnt_model *m);

#endif
