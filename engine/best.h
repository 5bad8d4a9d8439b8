/* The best entries of a row of logits: finite ones alone, best first, ties to the lower id. Lists
 * are short (BNT_BEST_MAX, BNT_LOGPROBS_MAX), so that insertion is cheap: most entries of a row
 * fail one comparison. */
#ifndef BNT_BEST_H
#define BNT_BEST_H

#include <stddef.h>

#include "engine/bnt_infer.h"

/* Take one more entry into list[len], which holds the best `most` so far; returns how many it then
 * has. The order in which entries come makes no difference. */
size_t best_insert(struct bnt_candidate *list, size_t len, size_t most, struct bnt_candidate entry);
/* Those of row[n]; their number. */
size_t best_of_row(const float *row, size_t n, size_t most, struct bnt_candidate *list);
/* What is asked for of row[n], which is overwritten. */
void near_of_row(float *row, size_t n, struct bnt_near *near);

#endif
