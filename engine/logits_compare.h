/* One distribution over the vocabulary against another: ours as a row of logits, the other either
 * whole, too, or as far as an engine or a record tells it: its best ids with their
 * log-probabilities. Rows are compared one by one and gathered in a summary.
 *
 *     struct bnt_logits_summary sum = {0};
 *     for each position:
 *         bnt_logits_compare(ours, n_vocab, &reference, &diff);
 *         bnt_logits_gather(&sum, position, &diff);
 *
 * What the figures mean is said once, in docs/perplexity.md. Nothing allocates. */
#ifndef BNT_LOGITS_COMPARE_H
#define BNT_LOGITS_COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/sampler.h"

/* Two ids that the reference holds for nearly as likely as one another, by at most so many nats:
 * rounding may turn the choice between them. */
#define BNT_LOGITS_TIE 0.1

struct bnt_logits_value {
    int32_t id;
    float value;
};

/* The other side. What the named ids leave of the probability belongs to the ids that are not
 * named. */
struct bnt_logits_reference {
    const struct bnt_logits_value *best; /* n of them, best first, every id once, below n_vocab */
    size_t n;
    /* Values are logits, of which this is the log of the sum of exp over the whole vocabulary, so
     * that value - logsum is the log-probability. NAN: values are log-probabilities (natural), and
     * are compared with ours in place of logits. */
    double logsum;
};

struct bnt_logits_diff {
    double kl; /* nats, of the reference to ours, >= 0; over the named ids and the rest as one */
    bool same_top; /* the best id is the same */
    bool match;    /* so it is, or ours is within BNT_LOGITS_TIE of the best for the reference */
    /* Over the ids that the reference names: */
    size_t n;
    double pearson, cosine; /* NAN where they are undefined: one id, or all values equal (or 0) */
    double mse, max_error;  /* of values */
    double largest;   /* magnitude among the reference's values: what errors are relative to */
    int32_t worst_id; /* where max_error is */
    int32_t our_top, their_top;
};

/* Compare logits[n_vocab] with what the reference tells. Errors: USAGE a reference without ids or
 * with one outside the vocabulary; INFERENCE logits or log-probabilities that are not numbers. */
enum bnt_status bnt_logits_compare(const float *logits, int32_t n_vocab,
                                   const struct bnt_logits_reference *reference,
                                   struct bnt_logits_diff *out, struct bnt_err *err);

/* The same for two whole rows. */
enum bnt_status bnt_logits_compare_rows(const float *logits, const float *reference,
                                        int32_t n_vocab, struct bnt_logits_diff *out,
                                        struct bnt_err *err);

/* Of many positions; begins as {0}. */
struct bnt_logits_summary {
    uint64_t n, n_same_top, n_match;
    double kl_sum, kl_max;
    double min_pearson, min_cosine; /* of the positions where they are defined */
    double pearson_sum, cosine_sum;
    uint64_t n_pearson, n_cosine;
    double squares_sum, max_error; /* of all values */
    double max_relative;           /* max_error / largest, of the worst position */
    uint64_t n_values;
    uint64_t worst_kl_at, worst_error_at, first_mismatch_at; /* positions; the last UINT64_MAX while
                                                                there is none */
};
void bnt_logits_gather(struct bnt_logits_summary *s, uint64_t position,
                       const struct bnt_logits_diff *d);

/* Shares of the positions and means over them; NAN of none. */
double bnt_logits_top_agreement(const struct bnt_logits_summary *s);
double bnt_logits_token_match(const struct bnt_logits_summary *s);
double bnt_logits_mean_kl(const struct bnt_logits_summary *s);
double bnt_logits_mean_pearson(const struct bnt_logits_summary *s);
double bnt_logits_mean_cosine(const struct bnt_logits_summary *s);
double bnt_logits_mse(const struct bnt_logits_summary *s);

#endif
