/* Attention of many query rows (heads of a group times tokens), or of one token, for the tables
 * that have such kernels. The table's own softmax stands between the two. */
#ifndef BNT_CPU_ATTEND_H
#define BNT_CPU_ATTEND_H

#include "engine/cpu/kernels.h"

/* Where they win, and the most that they take. */
enum { ATTEND_MIN_ROWS = 8, ATTEND_MAX_ROWS = 64, ATTEND_MAX_DIM = 256 };

static inline bool attend_many_rows(const struct attend_args *a)
{
    uint32_t rows = a->n_tok * a->n_head_group;
    return rows >= ATTEND_MIN_ROWS && rows <= ATTEND_MAX_ROWS && a->head_dim % 16 == 0 &&
           a->head_dim <= ATTEND_MAX_DIM;
}

/* a->scores of every row: canonical dots times a->scale. Also of positions that only later rows
 * see. */
void attend_scores_avx512(const struct attend_args *a);

/* a->out of every row: the sum, in order of position, of a->scores times values, divided by the
 * row's sum. */
void attend_values_avx512(const struct attend_args *a, const float sums[ATTEND_MAX_ROWS]);

/* The same for one token of 4 heads, see attend_one_avx512.c and attend_one_avx2.c. */
enum { ATTEND_ONE_ROWS = 4 };
static inline bool attend_one_token(const struct attend_args *a)
{
    return a->n_tok == 1 && a->n_head_group == ATTEND_ONE_ROWS && a->kv_f16 &&
           a->head_dim % 64 == 0 && a->head_dim <= ATTEND_MAX_DIM;
}
void attend_one_scores_avx512(const struct attend_args *a);
void attend_one_values_avx512(const struct attend_args *a, const float sums[ATTEND_ONE_ROWS]);
void attend_one_scores_avx2(const struct attend_args *a);
void attend_one_values_avx2(const struct attend_args *a, const float sums[ATTEND_ONE_ROWS]);

#endif
