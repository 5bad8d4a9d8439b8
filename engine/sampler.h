/* Choosing the next id from logits. Same parameters, same seed, same logits: same ids, on every
 * machine (own generator and own exp). Order of the stages: logit bias, penalties (repetition,
 * frequency, presence), then either argmax (temperature 0) or top-k, typical, top-p, min-p,
 * temperature, draw. Ties go to the lower id. */
#ifndef BNT_SAMPLER_H
#define BNT_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/bnt_infer.h"

struct bnt_logit_bias {
    int32_t id;
    float bias; /* added to the logit; -INFINITY bans the id */
};

struct bnt_sampler_params {
    double temperature;    /* 0: greedy */
    int32_t top_k;         /* 0: off */
    double top_p;          /* in (0, 1]; 1: off */
    double min_p;          /* in [0, 1); 0: off */
    double typical_p;      /* in (0, 1]; 1: off */
    double repeat_penalty; /* > 0; 1: off: positive logits are divided, negative multiplied (Keskar
                              et al. 2019) */
    double frequency_penalty,
        presence_penalty;   /* 0: off; subtracted, per occurrence / once (OpenAI API) */
    int32_t penalty_last_n; /* ids that penalties look back on; 0: none; -1: all */
    uint64_t seed;
    const struct bnt_logit_bias *bias; /* borrowed for the sampler's life */
    size_t n_bias;
};

struct bnt_sampler;

/* Greedy, everything else off. */
struct bnt_sampler_params bnt_sampler_defaults(void);

/* Errors: USAGE names the parameter outside its range. */
enum bnt_status bnt_sampler_check(const struct bnt_sampler_params *p, int32_t n_vocab,
                                  struct bnt_err *err);
/* Errors: those of bnt_sampler_check. */
enum bnt_status bnt_sampler_new(const struct bnt_sampler_params *p, int32_t n_vocab,
                                struct bnt_sampler **out, struct bnt_err *err);
void bnt_sampler_free(struct bnt_sampler *s);
int32_t bnt_sampler_n_vocab(const struct bnt_sampler *s);

/* Next id from logits[n_vocab], which are overwritten. The id is remembered for the penalties.
 * Errors: INFERENCE when no logit is a finite number. */
enum bnt_status bnt_sampler_next(struct bnt_sampler *s, float *logits, int32_t *id,
                                 struct bnt_err *err);

/* How many of the best logits decide, beside those that biases and penalties change: 0: the whole
 * row does. */
size_t bnt_sampler_params_n_best(const struct bnt_sampler_params *p);
bool bnt_sampler_changes(const struct bnt_sampler *s); /* whether there are any such */
/* What to ask of the next row; arrays are the sampler's. False: all of it. An id that was drawn
 * for it (bnt_near.drawn) is the one that bnt_sampler_next_near would give, and is handed there
 * like any answer: only then its random number is used up. */
bool bnt_sampler_near(struct bnt_sampler *s, struct bnt_near *near);
/* With that what bnt_sampler_next gives with the whole row: a logit that is changed comes with its
 * id, and of those that are not only the best can be among the best. */
enum bnt_status bnt_sampler_next_near(struct bnt_sampler *s, const struct bnt_near *near,
                                      int32_t *id, struct bnt_err *err);
/* The same where nothing is changed. */
/* best[n]: the best logits, best first, ties to the lower id, all finite. */
enum bnt_status bnt_sampler_next_best(struct bnt_sampler *s, const struct bnt_candidate *best,
                                      size_t n, int32_t *id, struct bnt_err *err);

/* Let penalties see an id that was not sampled (the prompt). */
void bnt_sampler_accept(struct bnt_sampler *s, int32_t id);

/* n best ids with natural log-probabilities of the unmodified distribution, best first; out has n
 * entries. Returns how many were written. */
size_t bnt_logprobs_top(const float *logits, int32_t n_vocab, size_t n, struct bnt_candidate *out);
/* Natural log of sum(exp(logits)), fixed order, in double. NaN if any logit is NaN. */
double bnt_logsumexp(const float *logits, int32_t n_vocab);

#endif
