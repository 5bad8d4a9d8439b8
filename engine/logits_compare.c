/* Comparison of distributions. All sums are in double, over the ids in the reference's order. */
#include "engine/logits_compare.h"

#include <math.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"

/* Sums over pairs of values (ours, theirs) from which all but KL follows. */
struct pairs {
    size_t n;
    double ours, theirs, ours2, theirs2, product;
    double squares, max_error, largest;
    int32_t worst_id;
};

static void add_pair(struct pairs *p, int32_t id, double ours, double theirs)
{
    double error = fabs(ours - theirs);
    p->n++;
    p->ours += ours;
    p->theirs += theirs;
    p->ours2 += ours * ours;
    p->theirs2 += theirs * theirs;
    p->product += ours * theirs;
    p->squares += error * error;
    p->largest = fabs(theirs) > p->largest ? fabs(theirs) : p->largest;
    if (p->n == 1 || error > p->max_error) {
        p->max_error = error;
        p->worst_id = id;
    }
}

static double ratio(double over, double a, double b)
{
    double value = a > 0 && b > 0 ? over / sqrt(a * b) : NAN;
    return value > 1 ? 1 : value;
}

static void finish_pairs(const struct pairs *p, struct bnt_logits_diff *out)
{
    double n = (double)p->n;
    double spread = 1e-14 * (p->ours2 + p->theirs2); /* below that a variance is rounding */
    double ours = p->ours2 - p->ours * p->ours / n;
    double theirs = p->theirs2 - p->theirs * p->theirs / n;
    out->n = p->n;
    out->cosine = ratio(p->product, p->ours2, p->theirs2);
    out->pearson = ours > spread && theirs > spread
                       ? ratio(p->product - p->ours * p->theirs / n, ours, theirs)
                       : NAN;
    out->mse = p->squares / n;
    out->max_error = p->max_error;
    out->largest = p->largest;
    out->worst_id = p->worst_id;
}

/* p log(p / q) for p = exp(log_p); nothing where the reference sees no chance. */
static double divergence(double log_p, double log_q)
{
    return BNT_FAULT(kl_direction) ? fm_exp(log_q) * (log_q - log_p)
                                   : fm_exp(log_p) * (log_p - log_q);
}

/* What the named ids leave to the others, of the reference and of ours. A sum of rounded
 * log-probabilities may pass 1. Where only ours has nothing left, its share is taken as the
 * rounding of its sum, so that the divergence is large and finite. */
static double rest_divergence(double theirs, double ours)
{
    double p = 1 - theirs, q = 1 - ours;
    if (p <= 1e-7) { /* float log-probabilities do not tell such a rest from none */
        return 0;
    }
    return p * fm_log(p / (q > 1e-7 ? q : 1e-7));
}

static int32_t best_of(const float *logits, int32_t n_vocab)
{
    int32_t best = 0;
    for (int32_t i = 1; i < n_vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}

static enum bnt_status check(const float *logits, int32_t n_vocab, double *logsum,
                             struct bnt_err *err)
{
    *logsum = n_vocab > 0 ? bnt_logsumexp(logits, n_vocab) : NAN;
    return isfinite(*logsum) ? BNT_OK
                             : bnt_err_set(err, BNT_E_INFERENCE, "logits are not finite numbers");
}

static enum bnt_status check_reference(const struct bnt_logits_reference *r, int32_t n_vocab,
                                       struct bnt_err *err)
{
    double logsum = isnan(r->logsum) ? 0 : r->logsum;
    if (r->n == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "a reference that names no id");
    }
    for (size_t i = 0; i < r->n; i++) {
        if (r->best[i].id < 0 || r->best[i].id >= n_vocab) {
            return bnt_err_set(err, BNT_E_USAGE,
                               "the reference names id %d, our vocabulary has %d: another model",
                               r->best[i].id, n_vocab);
        }
        if (!(r->best[i].value - logsum <= 1e-3)) {
            return bnt_err_set(err, BNT_E_INFERENCE,
                               "the reference's log-probability of id %d is %g", r->best[i].id,
                               r->best[i].value - logsum);
        }
    }
    return BNT_OK;
}

/* Whether our best id is as good as the reference's best. One that it does not name lies below all
 * that it names. */
static bool near_best(const struct bnt_logits_reference *r, int32_t id)
{
    for (size_t i = 0; i < r->n; i++) {
        if (r->best[i].id == id) {
            return r->best[0].value - r->best[i].value <= BNT_LOGITS_TIE;
        }
    }
    return false;
}

enum bnt_status bnt_logits_compare(const float *logits, int32_t n_vocab,
                                   const struct bnt_logits_reference *r,
                                   struct bnt_logits_diff *out, struct bnt_err *err)
{
    double logsum, theirs = 0, ours = 0, kl = 0;
    struct pairs pairs = {0};
    enum bnt_status st = check(logits, n_vocab, &logsum, err);
    if (st == BNT_OK) {
        st = check_reference(r, n_vocab, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    bool raw = !isnan(r->logsum);
    for (size_t i = 0; i < r->n; i++) {
        int32_t id = r->best[i].id;
        double value = r->best[i].value;
        double log_p = raw ? value - r->logsum : value, log_q = logits[id] - logsum;
        theirs += fm_exp(log_p);
        ours += fm_exp(log_q);
        if (isfinite(log_p) && isfinite(log_q)) { /* a banned id has no value to compare */
            kl += divergence(log_p, log_q);
            add_pair(&pairs, id, raw ? logits[id] : log_q, value);
        }
    }
    kl += r->n < (size_t)n_vocab ? rest_divergence(theirs, ours) : 0;
    *out = (struct bnt_logits_diff){.kl = kl > 0 ? kl : 0, .their_top = r->best[0].id};
    out->our_top = best_of(logits, n_vocab);
    out->same_top = out->our_top == out->their_top;
    out->match = out->same_top || near_best(r, out->our_top);
    finish_pairs(&pairs, out);
    return BNT_OK;
}

enum bnt_status bnt_logits_compare_rows(const float *logits, const float *reference,
                                        int32_t n_vocab, struct bnt_logits_diff *out,
                                        struct bnt_err *err)
{
    double ours, theirs, kl = 0;
    struct pairs pairs = {0};
    enum bnt_status st = check(logits, n_vocab, &ours, err);
    if (st == BNT_OK) {
        st = check(reference, n_vocab, &theirs, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    for (int32_t i = 0; i < n_vocab; i++) {
        if (isfinite(logits[i]) && isfinite(reference[i])) {
            kl += divergence(reference[i] - theirs, logits[i] - ours);
            add_pair(&pairs, i, logits[i], reference[i]);
        }
    }
    *out = (struct bnt_logits_diff){.kl = kl > 0 ? kl : 0};
    out->our_top = best_of(logits, n_vocab);
    out->their_top = best_of(reference, n_vocab);
    out->same_top = out->our_top == out->their_top;
    out->match = reference[out->their_top] - reference[out->our_top] <= BNT_LOGITS_TIE;
    finish_pairs(&pairs, out);
    return BNT_OK;
}

/* ---- summary ---- */

static void gather_least(double value, double *sum, uint64_t *n, double *least)
{
    if (isfinite(value)) {
        *least = *n == 0 || value < *least ? value : *least;
        *sum += value;
        *n += 1;
    }
}

void bnt_logits_gather(struct bnt_logits_summary *s, uint64_t position,
                       const struct bnt_logits_diff *d)
{
    double relative = d->largest > 0 ? d->max_error / d->largest : 0;
    if (s->n == 0) {
        s->first_mismatch_at = UINT64_MAX;
    }
    if (s->n == 0 || d->kl > s->kl_max) {
        s->kl_max = d->kl;
        s->worst_kl_at = position;
    }
    if (s->n == 0 || d->max_error > s->max_error) {
        s->max_error = d->max_error;
        s->worst_error_at = position;
    }
    if (!d->match && s->first_mismatch_at == UINT64_MAX) {
        s->first_mismatch_at = position;
    }
    s->n++;
    s->n_same_top += d->same_top;
    s->n_match += d->match;
    s->kl_sum += d->kl;
    s->squares_sum += d->mse * (double)d->n;
    s->n_values += d->n;
    s->max_relative = relative > s->max_relative ? relative : s->max_relative;
    gather_least(d->pearson, &s->pearson_sum, &s->n_pearson, &s->min_pearson);
    gather_least(d->cosine, &s->cosine_sum, &s->n_cosine, &s->min_cosine);
}

static double share(double part, uint64_t whole)
{
    return whole > 0 ? part / (double)whole : NAN;
}

double bnt_logits_top_agreement(const struct bnt_logits_summary *s)
{
    return share((double)s->n_same_top, s->n);
}

double bnt_logits_token_match(const struct bnt_logits_summary *s)
{
    return share((double)s->n_match, s->n);
}

double bnt_logits_mean_kl(const struct bnt_logits_summary *s)
{
    return share(s->kl_sum, s->n);
}

double bnt_logits_mean_pearson(const struct bnt_logits_summary *s)
{
    return share(s->pearson_sum, s->n_pearson);
}

double bnt_logits_mean_cosine(const struct bnt_logits_summary *s)
{
    return share(s->cosine_sum, s->n_cosine);
}

double bnt_logits_mse(const struct bnt_logits_summary *s)
{
    return share(s->squares_sum, s->n_values);
}
