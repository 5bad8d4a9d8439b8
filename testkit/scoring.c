/* The score of a text, each of three ways. */
#include "testkit/scoring.h"

#include "engine/perplexity.h"

struct scoring {
    const int32_t *ids;
    size_t n;
    int32_t n_vocab;
    double *sum;
};

static enum bnt_status add_position(void *ctx, size_t index, const float *logits,
                                    struct bnt_err *err)
{
    const struct scoring *s = ctx;
    (void)err;
    if (index + 1 < s->n) {
        *s->sum -= bnt_surprise(logits, s->n_vocab, s->ids[index + 1]);
    }
    return BNT_OK;
}

static enum bnt_status add_row(const struct bnt_row *row, int32_t id, double *sum,
                               struct bnt_err *err)
{
    for (size_t i = 0; i < row->n; i++) {
        if (row->at[i].id == id) {
            *sum += row->at[i].logprob;
            return BNT_OK;
        }
    }
    return bnt_err_set(err, BNT_E_UNSUPPORTED,
                       "the subject does not tell how likely id %d is: it is not among the %zu of "
                       "its row",
                       id, row->n);
}

static enum bnt_status score_by_rows(struct bnt_subject *s, const struct scoring *g,
                                     struct bnt_err *err)
{
    const struct bnt_subject_facts f = bnt_subject_describe(s);
    enum bnt_status st = BNT_OK;
    for (size_t i = 1; st == BNT_OK && i < g->n; i++) {
        const struct bnt_subject_request r = {
            .ids = g->ids, .n_ids = i, .max_tokens = 1, .n_logprobs = f.n_vocab};
        struct bnt_row row;
        bnt_row_init(&row);
        st = bnt_subject_row(s, &r, 0, &row, err);
        if (st == BNT_OK) {
            st = add_row(&row, g->ids[i], g->sum, err);
        }
        bnt_row_release(&row);
    }
    return st;
}

enum bnt_status bnt_score_by_logits(struct bnt_subject *s, const int32_t *ids, size_t n,
                                    double *sum, struct bnt_err *err)
{
    struct scoring g = {
        .ids = ids, .n = n, .n_vocab = (int32_t)bnt_subject_describe(s).n_vocab, .sum = sum};
    *sum = 0;
    return bnt_subject_evaluate(s, ids, n, add_position, &g, err);
}

enum bnt_status bnt_subject_score(struct bnt_subject *s, const int32_t *ids, size_t n, double *sum,
                                  struct bnt_err *err)
{
    const struct bnt_subject_facts f = bnt_subject_describe(s);
    const struct scoring g = {.ids = ids, .n = n, .n_vocab = (int32_t)f.n_vocab, .sum = sum};
    *sum = 0;
    if (f.can & BNT_CAN_SCORE) {
        return s->ops->score(s, ids, n, sum, err);
    }
    if (!(f.can & BNT_CAN_EVALUATE) && (f.can & BNT_CAN_ROWS) && f.n_vocab > 0) {
        return score_by_rows(s, &g, err);
    }
    return bnt_score_by_logits(s, ids, n, sum, err);
}
