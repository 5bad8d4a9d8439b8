/* How likely a subject holds a text: from its logits, or, where it gives none, from a row per
 * place.
 */
#ifndef BNT_SCORING_H
#define BNT_SCORING_H

#include "testkit/subject.h"

/* Sum over ids[1..n-1] of the natural logarithm of each one's probability after those before it.
 * Errors: UNSUPPORTED the subject tells neither logits nor rows, or an id is not in its row; those
 * of the subject. */
enum bnt_status bnt_subject_score(struct bnt_subject *s, const int32_t *ids, size_t n, double *sum,
                                  struct bnt_err *err);
/* The same from logits alone. */
enum bnt_status bnt_score_by_logits(struct bnt_subject *s, const int32_t *ids, size_t n,
                                    double *sum, struct bnt_err *err);

#endif
