/* Checks of what a model produced, for --validate-output. They find broken models and broken
 * kernels, not dull prose: a text that passes can still be nonsense. */
#ifndef BNT_QUALITY_H
#define BNT_QUALITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Degenerate repetition: a block of at most BLOCK ids that stands REPEATS times in a row and fills
 * at least SPAN ids. A greedy small model may tell a sentence twice; it takes a broken one to say
 * "GGGG". */
#define BNT_QUALITY_BLOCK 32
#define BNT_QUALITY_REPEATS 4
#define BNT_QUALITY_SPAN 24
/* Poverty: in a window of WINDOW ids fewer than one in DISTINCT is new. */
#define BNT_QUALITY_WINDOW 128
#define BNT_QUALITY_DISTINCT 16

/* The answer: ids, and their text. cut: it ended for a reason of ours (length, context, a signal),
 * so its last UTF-8 sequence may be incomplete. Errors: QUALITY with the reason and where: empty,
 * invalid UTF-8, repetition. */
enum bnt_status bnt_quality_answer(const int32_t *ids, size_t n_ids, const char *text, size_t len,
                                   bool cut, struct bnt_err *err);

/* Errors: INFERENCE when a logit is NaN or +infinity, naming the first. */
enum bnt_status bnt_quality_logits(const float *logits, int32_t n_vocab, struct bnt_err *err);

#endif
