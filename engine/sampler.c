/* Sampling. Owns the candidate list, the window of ids that penalties look back on, and the random
 * generator.
 *
 * Invariants: count[id] is how often id stands in the window; distinct[0..n_distinct-1] are the ids
 * with a count above zero, place[id] their index in it; with penalty_last_n > 0 the window is the
 * ring. Everything is allocated by bnt_sampler_new, nothing by bnt_sampler_next.
 *
 * All probabilities are computed in double by our own exp and log, summed in one order. A candidate
 * whose logit is NaN or +infinity never takes part: it is the mark of a broken model, not a
 * probability. */
#include "engine/sampler.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/rng.h"
#include "engine/best.h"
#include "engine/cpu/fmath.h"

#define MAX_PENALTY_WINDOW (1 << 20) /* ids */

struct candidate {
    int32_t id;
    float logit;
    double p;   /* probability among the candidates, while a stage needs it */
    double key; /* what a stage ranks by; higher is better */
};

struct bnt_sampler {
    struct bnt_sampler_params p;
    int32_t n_vocab;
    struct bnt_rng rng;
    struct candidate *cand; /* n_vocab; NULL when greedy */
    uint32_t *count;        /* n_vocab; NULL without penalties, and so are the next three */
    int32_t *distinct, *place;
    int32_t *ring; /* penalty_last_n; NULL when the window is everything */
    size_t n_distinct, ring_n, ring_at;
    /* The next three are NULL when no logit is ever changed. Ids whose logits are; their logits;
     * a row of which only those entries are used. */
    int32_t *changed;
    float *changed_logits, *row;
    int32_t *biased; /* ids with a bias, each once, ascending */
    size_t n_biased;
    struct bnt_draw draw; /* of the next id, for a device */
};

/* A logit that can be chosen at all. */
static bool usable(float logit)
{
    return isfinite(logit);
}

/* ---- The window of penalties. */

static void window_add(struct bnt_sampler *s, int32_t id)
{
    if (s->count[id]++ == 0) {
        s->place[id] = (int32_t)s->n_distinct;
        s->distinct[s->n_distinct++] = id;
    }
}

static void window_drop(struct bnt_sampler *s, int32_t id)
{
    if (--s->count[id] == 0) {
        int32_t last = s->distinct[--s->n_distinct];
        s->distinct[s->place[id]] = last;
        s->place[last] = s->place[id];
    }
}

void bnt_sampler_accept(struct bnt_sampler *s, int32_t id)
{
    if (s->count == NULL || id < 0 || id >= s->n_vocab) {
        return;
    }
    if (s->ring != NULL) {
        size_t cap = (size_t)s->p.penalty_last_n;
        if (s->ring_n == cap) {
            window_drop(s, s->ring[s->ring_at]);
        } else {
            s->ring_n++;
        }
        s->ring[s->ring_at] = id;
        s->ring_at = (s->ring_at + 1) % cap;
    }
    window_add(s, id);
}

static void apply_penalties(const struct bnt_sampler *s, float *logits)
{
    for (size_t i = 0; i < s->n_distinct; i++) {
        int32_t id = s->distinct[i];
        double l = logits[id];
        l = (l > 0) ^ BNT_FAULT(penalty_sign) ? l / s->p.repeat_penalty : l * s->p.repeat_penalty;
        l -= s->p.frequency_penalty * s->count[id] + s->p.presence_penalty;
        logits[id] = (float)l;
    }
}

static void apply_bias(const struct bnt_sampler *s, float *logits)
{
    for (size_t i = 0; i < s->p.n_bias; i++) {
        logits[s->p.bias[i].id] += s->p.bias[i].bias;
    }
}

static void change_logits(const struct bnt_sampler *s, float *logits)
{
    apply_bias(s, logits);
    if (s->count != NULL) {
        apply_penalties(s, logits);
    }
}

/* ---- Candidates. */

/* True when a ranks before b. */
static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->key > b->key || (a->key == b->key && a->id < b->id);
}

static void swap(struct candidate *a, struct candidate *b)
{
    struct candidate t = *a;
    *a = *b;
    *b = t;
}

/* Heap with the best candidate on top (sign 1) or the worst (sign -1). */
static void sift_down(struct candidate *c, size_t n, size_t i, int sign)
{
    for (;;) {
        size_t top = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++) {
            if (sign > 0 ? before(&c[child], &c[top]) : before(&c[top], &c[child])) {
                top = child;
            }
        }
        if (top == i) {
            return;
        }
        swap(&c[i], &c[top]);
        i = top;
    }
}

static void heapify(struct candidate *c, size_t n, int sign)
{
    for (size_t i = n / 2; i-- > 0;) {
        sift_down(c, n, i, sign);
    }
}

/* Sort a worst-on-top heap into best first. */
static void sort_heap(struct candidate *c, size_t n)
{
    while (n > 1) {
        n--;
        swap(&c[0], &c[n]);
        sift_down(c, n, 0, -1);
    }
}

static struct candidate make_candidate(int32_t id, float logit)
{
    return (struct candidate){.id = id, .logit = logit, .key = logit};
}

/* The k best logits, best first. One pass over the vocabulary with a heap of k: most ids fail one
 * comparison. */
static size_t select_best(const float *logits, int32_t n_vocab, size_t k, struct candidate *c)
{
    size_t n = 0;
    for (int32_t id = 0; id < n_vocab; id++) {
        if (!usable(logits[id])) {
            continue;
        }
        if (n < k) {
            c[n++] = make_candidate(id, logits[id]);
            if (n == k) {
                heapify(c, n, -1);
            }
        } else if (logits[id] > c[0].logit) {
            c[0] = make_candidate(id, logits[id]);
            sift_down(c, n, 0, -1);
        }
    }
    if (n < k) {
        heapify(c, n, -1);
    }
    sort_heap(c, n);
    return n;
}

static size_t take_all(const float *logits, int32_t n_vocab, struct candidate *c)
{
    size_t n = 0;
    for (int32_t id = 0; id < n_vocab; id++) {
        if (usable(logits[id])) {
            c[n++] = make_candidate(id, logits[id]);
        }
    }
    return n;
}

/* p = softmax(logit / temperature) over the candidates. */
static void softmax(struct candidate *c, size_t n, double temperature)
{
    float max = c[0].logit;
    for (size_t i = 1; i < n; i++) {
        max = c[i].logit > max ? c[i].logit : max;
    }
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        c[i].p = fm_exp(((double)c[i].logit - (double)max) /
                        (BNT_FAULT(temperature) ? 1 / temperature : temperature));
        sum += c[i].p;
    }
    for (size_t i = 0; i < n; i++) {
        c[i].p /= sum;
    }
}

/* Keep the candidates of highest key until their probability reaches `mass`, at least one; best
 * first. Candidates come off a heap one by one, so a peaked distribution over a large vocabulary
 * costs little more than one pass. */
static size_t keep_mass(struct candidate *c, size_t n, double mass)
{
    heapify(c, n, 1);
    double sum = 0;
    size_t left = n;
    double enough = BNT_FAULT(top_p) ? mass / 2 : mass;
    while (left > 0 && (left == n || sum < enough)) {
        left--;
        swap(&c[0], &c[left]);
        sift_down(c, left, 0, 1);
        sum += c[left].p;
    }
    for (size_t i = left, j = n; i + 1 < j; i++) { /* they lie worst first at the end */
        swap(&c[i], &c[--j]);
    }
    memmove(c, c + left, (n - left) * sizeof(*c));
    return n - left;
}

/* Locally typical sampling (Meister et al. 2022): closest to the expected information content
 * first. */
static size_t keep_typical(struct candidate *c, size_t n, double mass)
{
    softmax(c, n, 1.0);
    double entropy = 0;
    for (size_t i = 0; i < n; i++) {
        entropy -= c[i].p > 0 ? c[i].p * fm_log(c[i].p) : 0;
    }
    for (size_t i = 0; i < n; i++) {
        c[i].key = c[i].p > 0 ? -fabs(-fm_log(c[i].p) - entropy) : -INFINITY;
    }
    n = keep_mass(c, n, mass);
    for (size_t i = 0; i < n; i++) {
        c[i].key = c[i].logit;
    }
    return n;
}

/* p >= min_p * best, said in logits: no exp is needed. */
static size_t keep_min_p(struct candidate *c, size_t n, double min_p)
{
    float best = c[0].logit;
    for (size_t i = 1; i < n; i++) {
        best = c[i].logit > best ? c[i].logit : best;
    }
    double threshold = (double)best + (BNT_FAULT(min_p) ? -min_p : fm_log(min_p));
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if ((double)c[i].logit >= threshold) {
            c[kept++] = c[i];
        }
    }
    return kept;
}

static int32_t draw(struct bnt_sampler *s, size_t n)
{
    softmax(s->cand, n, s->p.temperature);
    double u = bnt_rng_unit(&s->rng), sum = 0;
    size_t last =
        0; /* rounding may leave the sum just below u: then the last that is possible at all */
    for (size_t i = 0; i < n; i++) {
        if (s->cand[i].p <= 0) {
            continue;
        }
        last = i;
        sum += s->cand[i].p;
        if (u < sum) {
            break;
        }
    }
    return s->cand[last].id;
}

/* Among the first n candidates, best first where top-k is on. */
static int32_t sample_candidates(struct bnt_sampler *s, size_t n)
{
    const struct bnt_sampler_params *p = &s->p;
    struct candidate *c = s->cand;
    if (n == 0) {
        return -1;
    }
    if (p->typical_p < 1) {
        n = keep_typical(c, n, p->typical_p);
    }
    if (p->top_p < 1) {
        softmax(c, n, 1.0);
        n = keep_mass(c, n, p->top_p);
    }
    if (p->min_p > 0) {
        n = keep_min_p(c, n, p->min_p);
    }
    return draw(s, n);
}

static int32_t sample(struct bnt_sampler *s, const float *logits)
{
    size_t k = (size_t)s->p.top_k;
    size_t n = k > 0 ? select_best(logits, s->n_vocab, k - (BNT_FAULT(top_k) && k > 1), s->cand)
                     : take_all(logits, s->n_vocab, s->cand);
    return sample_candidates(s, n);
}

static int32_t argmax(const float *logits, int32_t n)
{
    int32_t best = -1;
    for (int32_t i = 0; i < n; i++) {
        if (usable(logits[i]) && (best < 0 || logits[i] > logits[best] ||
                                  (BNT_FAULT(argmax_tie) && logits[i] == logits[best]))) {
            best = i;
        }
    }
    return best;
}

/* ---- Construction. */

static enum bnt_status out_of_range(struct bnt_err *err, const char *name, double value,
                                    const char *range)
{
    return bnt_err_set(err, BNT_E_USAGE, "sampler: %s = %g is outside %s", name, value, range);
}

enum bnt_status bnt_sampler_check(const struct bnt_sampler_params *p, int32_t n_vocab,
                                  struct bnt_err *err)
{
    if (!(p->temperature >= 0) || isinf(p->temperature)) {
        return out_of_range(err, "temperature", p->temperature, "[0, infinity)");
    }
    if (p->top_k < 0) {
        return out_of_range(err, "top_k", p->top_k, "[0, vocabulary]");
    }
    if (!(p->top_p > 0 && p->top_p <= 1)) {
        return out_of_range(err, "top_p", p->top_p, "(0, 1]");
    }
    if (!(p->min_p >= 0 && p->min_p < 1)) {
        return out_of_range(err, "min_p", p->min_p, "[0, 1)");
    }
    if (!(p->typical_p > 0 && p->typical_p <= 1)) {
        return out_of_range(err, "typical_p", p->typical_p, "(0, 1]");
    }
    if (!(p->repeat_penalty > 0) || isinf(p->repeat_penalty)) {
        return out_of_range(err, "repeat_penalty", p->repeat_penalty, "(0, infinity)");
    }
    if (!isfinite(p->frequency_penalty)) {
        return out_of_range(err, "frequency_penalty", p->frequency_penalty, "finite numbers");
    }
    if (!isfinite(p->presence_penalty)) {
        return out_of_range(err, "presence_penalty", p->presence_penalty, "finite numbers");
    }
    if (p->penalty_last_n < -1 || p->penalty_last_n > MAX_PENALTY_WINDOW) {
        return out_of_range(err, "penalty_last_n", p->penalty_last_n, "[-1, 1048576]");
    }
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].id < 0 || p->bias[i].id >= n_vocab) {
            return bnt_err_set(err, BNT_E_USAGE,
                               "sampler: logit bias for id %d: the vocabulary has %d ids",
                               p->bias[i].id, n_vocab);
        }
        if (isnan(p->bias[i].bias) || p->bias[i].bias == INFINITY) {
            return bnt_err_set(err, BNT_E_USAGE,
                               "sampler: logit bias for id %d is no number that can be added",
                               p->bias[i].id);
        }
    }
    return BNT_OK;
}

static bool wants_penalties(const struct bnt_sampler_params *p)
{
    return p->penalty_last_n != 0 &&
           (p->repeat_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0);
}

static int by_id(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static bool note_changes(struct bnt_sampler *s)
{
    size_t n = (size_t)s->n_vocab;
    if (s->p.n_bias == 0 && !wants_penalties(&s->p)) {
        return true;
    }
    s->changed = malloc(n * sizeof(*s->changed));
    s->changed_logits = malloc(n * sizeof(*s->changed_logits));
    s->row = malloc(n * sizeof(*s->row));
    s->biased = malloc((s->p.n_bias + 1) * sizeof(*s->biased));
    if (s->changed == NULL || s->changed_logits == NULL || s->row == NULL || s->biased == NULL) {
        return false;
    }
    for (size_t i = 0; i < s->p.n_bias; i++) {
        s->biased[i] = s->p.bias[i].id;
    }
    qsort(s->biased, s->p.n_bias, sizeof(*s->biased), by_id);
    for (size_t i = 0; i < s->p.n_bias; i++) {
        if (i == 0 || s->biased[i] != s->biased[s->n_biased - 1]) {
            s->biased[s->n_biased++] = s->biased[i];
        }
    }
    return true;
}

static bool allocate(struct bnt_sampler *s)
{
    size_t n = (size_t)s->n_vocab;
    if (s->p.temperature > 0) {
        s->cand = malloc(n * sizeof(*s->cand));
        if (s->cand == NULL) {
            return false;
        }
    }
    if (!wants_penalties(&s->p)) {
        return true;
    }
    s->count = calloc(n, sizeof(*s->count));
    s->distinct = malloc(n * sizeof(*s->distinct));
    s->place = malloc(n * sizeof(*s->place));
    if (s->p.penalty_last_n > 0) {
        s->ring = malloc((size_t)s->p.penalty_last_n * sizeof(*s->ring));
    }
    return s->count != NULL && s->distinct != NULL && s->place != NULL &&
           (s->ring != NULL || s->p.penalty_last_n < 0);
}

struct bnt_sampler_params bnt_sampler_defaults(void)
{
    return (struct bnt_sampler_params){
        .top_p = 1, .typical_p = 1, .repeat_penalty = 1, .penalty_last_n = 64};
}

enum bnt_status bnt_sampler_new(const struct bnt_sampler_params *p, int32_t n_vocab,
                                struct bnt_sampler **out, struct bnt_err *err)
{
    if (n_vocab <= 0) {
        return bnt_err_set(err, BNT_E_USAGE, "sampler: a vocabulary of %d ids", n_vocab);
    }
    enum bnt_status st = bnt_sampler_check(p, n_vocab, err);
    if (st != BNT_OK) {
        return st;
    }
    struct bnt_sampler *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return bnt_err_nomem(err, "sampler", sizeof(*s));
    }
    s->p = *p;
    s->p.top_k = p->top_k > n_vocab ? n_vocab : p->top_k;
    s->n_vocab = n_vocab;
    bnt_rng_seed(&s->rng, BNT_FAULT(seed) ? 0 : p->seed);
    if (!allocate(s) || !note_changes(s)) {
        bnt_sampler_free(s);
        return bnt_err_nomem(err, "sampler",
                             (unsigned long long)n_vocab * sizeof(struct candidate));
    }
    *out = s;
    return BNT_OK;
}

void bnt_sampler_free(struct bnt_sampler *s)
{
    if (s == NULL) {
        return;
    }
    free(s->cand);
    free(s->count);
    free(s->distinct);
    free(s->place);
    free(s->ring);
    free(s->changed);
    free(s->changed_logits);
    free(s->row);
    free(s->biased);
    free(s);
}

int32_t bnt_sampler_n_vocab(const struct bnt_sampler *s)
{
    return s->n_vocab;
}

static enum bnt_status take_id(struct bnt_sampler *s, int32_t next, int32_t *id,
                               struct bnt_err *err)
{
    if (next < 0) {
        bnt_err_set(err, BNT_E_INFERENCE, "sampler: none of the %d logits is a finite number",
                    s->n_vocab);
        bnt_err_hint(
            err, "the model's weights or its quantised format are broken; try: bnt inspect FILE");
        return BNT_E_INFERENCE;
    }
    bnt_sampler_accept(s, next);
    *id = next;
    return BNT_OK;
}

enum bnt_status bnt_sampler_next(struct bnt_sampler *s, float *logits, int32_t *id,
                                 struct bnt_err *err)
{
    change_logits(s, logits);
    int32_t next = s->p.temperature > 0 ? sample(s, logits) : argmax(logits, s->n_vocab);
    return take_id(s, next, id, err);
}

size_t bnt_sampler_params_n_best(const struct bnt_sampler_params *p)
{
    return p->temperature > 0 ? (size_t)p->top_k : 1;
}

enum bnt_status bnt_sampler_next_best(struct bnt_sampler *s, const struct bnt_candidate *best,
                                      size_t n, int32_t *id, struct bnt_err *err)
{
    int32_t next = n > 0 ? best[0].id : -1;
    if (s->p.temperature > 0) {
        for (size_t i = 0; i < n; i++) {
            s->cand[i] = make_candidate(best[i].id, best[i].value);
        }
        next = sample_candidates(s, n);
    }
    return take_id(s, next, id, err);
}

bool bnt_sampler_changes(const struct bnt_sampler *s)
{
    return s->changed != NULL;
}

/* What a device needs for drawing the next id, or NULL where something else than the best logits
 * has a say. The generator itself stays where it is. */
static const struct bnt_draw *next_draw(struct bnt_sampler *s)
{
    const struct bnt_sampler_params *p = &s->p;
    if (p->temperature <= 0 || p->typical_p < 1 || s->changed != NULL) {
        return NULL;
    }
    struct bnt_rng ahead = s->rng;
    s->draw = (struct bnt_draw){.temperature = p->temperature,
                                .top_p = p->top_p,
                                .min_p_log = p->min_p > 0 ? fm_log(p->min_p) : -INFINITY,
                                .unit = bnt_rng_unit(&ahead)};
    return &s->draw;
}

bool bnt_sampler_near(struct bnt_sampler *s, struct bnt_near *near)
{
    size_t k = bnt_sampler_params_n_best(&s->p), n = 0;
    if (k == 0 || k > BNT_BEST_MAX) {
        return false;
    }
    if (s->count != NULL) {
        memcpy(s->changed, s->distinct, s->n_distinct * sizeof(*s->changed));
        n = s->n_distinct;
    }
    for (size_t i = 0; i < s->n_biased; i++) {
        if (s->count == NULL || s->count[s->biased[i]] == 0) {
            s->changed[n++] = s->biased[i];
        }
    }
    near->k = (uint32_t)k;
    near->also = s->changed;
    near->n_also = BNT_FAULT(bias_unseen) ? n / 2 : n;
    near->also_logits = s->changed_logits;
    near->draw = next_draw(s);
    near->drawn = -1;
    return true;
}

enum bnt_status bnt_sampler_next_near(struct bnt_sampler *s, const struct bnt_near *near,
                                      int32_t *id, struct bnt_err *err)
{
    struct bnt_candidate best[BNT_BEST_MAX];
    size_t n = near->n_best;
    if (near->drawn >= 0) {
        (void)bnt_rng_unit(&s->rng); /* the number that it was drawn by */
        return take_id(s, near->drawn, id, err);
    }
    memcpy(best, near->best, n * sizeof(*best));
    if (near->n_also > 0) {
        for (size_t i = 0; i < near->n_also; i++) {
            s->row[near->also[i]] = near->also_logits[i];
        }
        change_logits(s, s->row);
    }
    for (size_t i = 0; i < near->n_also; i++) {
        struct bnt_candidate one = {near->also[i], s->row[near->also[i]]};
        n = best_insert(best, n, near->k, one);
    }
    return bnt_sampler_next_best(s, best, n, id, err);
}

size_t bnt_logprobs_top(const float *logits, int32_t n_vocab, size_t n, struct bnt_candidate *out)
{
    size_t len = best_of_row(logits, (size_t)n_vocab, n, out);
    double lse = bnt_logsumexp(logits, n_vocab);
    for (size_t i = 0; i < len; i++) {
        out[i].value = (float)((double)out[i].value - lse);
    }
    return len;
}

double bnt_logsumexp(const float *logits, int32_t n_vocab)
{
    float max = -INFINITY;
    for (int32_t i = 0; i < n_vocab; i++) {
        if (isnan(logits[i])) {
            return NAN;
        }
        max = logits[i] > max ? logits[i] : max;
    }
    if (isinf(max)) {
        return max;
    }
    double sum = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        sum += fm_exp((double)logits[i] - (double)max);
    }
    return (double)max + fm_log(sum);
}
