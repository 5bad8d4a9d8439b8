/* A text scored by a model: the surprise of every token, given those before it.
 *
 * The text is read in windows of `window` positions. Each begins with BOS, for a model that has
 * one, and predicts every token that no window before it predicted; the next one goes on `stride`
 * tokens later. With a stride below the window's length the tokens at its front are context only,
 * and no token but those of the first window is predicted from less than length - stride of them. A
 * model without BOS cannot predict the first token of the text.
 *
 *     chunk 0: BOS 0 1 2 ... 510            predicts 0 ... 510        (window 512, stride 511)
 *     chunk 1: BOS 511 512 ...              predicts 511 ...
 */
#ifndef BNT_PERPLEXITY_H
#define BNT_PERPLEXITY_H

#include <stddef.h>
#include <stdint.h>

#include "engine/bnt_infer.h"

/* -log of the probability that a row of logits gives to an id, in nats; not finite when a logit is
 * not a number, or the id is impossible. */
double bnt_surprise(const float *logits, int32_t n_vocab, int32_t id);

struct bnt_scored {
    size_t index; /* of the predicted id among the ids of the text */
    int32_t id;
    double nll;          /* its surprise */
    const float *logits; /* the row that predicts it; valid during the call */
};
/* Called for each predicted id in order. A status other than BNT_OK stops and is returned. */
typedef enum bnt_status bnt_scored_fn(void *ctx, const struct bnt_scored *s, struct bnt_err *err);

struct bnt_score_options {
    uint32_t window; /* positions, BOS included: 2 up to the session's context */
    uint32_t stride; /* 1 to window - 1; 0: window - 1, so that no token is read twice */
    bnt_scored_fn *scored;
    void *ctx;
};

/* Errors: USAGE a window or a stride out of range, a text with nothing to predict; INFERENCE a
 * surprise that is not finite, naming the place; those of the session. */
enum bnt_status bnt_score_text(struct bnt_session *s, const int32_t *ids, size_t n,
                               const struct bnt_score_options *o, struct bnt_err *err);
/* How many ids of n that predicts, and how many are evaluated for it. */
size_t bnt_score_count(const struct bnt_session *s, size_t n);
uint64_t bnt_score_cost(const struct bnt_session *s, size_t n, const struct bnt_score_options *o);

#endif
