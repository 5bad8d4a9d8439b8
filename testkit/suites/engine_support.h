/* What the engine's suites share: opening, greedy steps, variants of the bundled file. A failure
 * fails the test. */
#ifndef SUITES_ENGINE_SUPPORT_H
#define SUITES_ENGINE_SUPPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/bnt_infer.h"

struct es_engine {
    struct bnt_model *model;
    struct bnt_session *session;
};

/* Fail the test with err's message unless st is BNT_OK. */
void es_ok(enum bnt_status st, const struct bnt_err *err);
/* As 128/32, without the check of the packing. */
void es_open(struct es_engine *e, const char *path, const struct bnt_session_options *so);
void es_open_with(struct es_engine *e, const char *path, struct bnt_model_options *mo,
                  const struct bnt_session_options *so);
void es_close(struct es_engine *e);
/* Evaluate and take the best next id. */
int32_t es_greedy(struct es_engine *e, const int32_t *ids, size_t n);
/* n rows of n_vocab logits, freed by the caller. */
float *es_eval_rows(struct bnt_session *s, const int32_t *ids, size_t n);

/* Calls of malloc, calloc and realloc so far in this process; not countable where a sanitizer owns
 * them. */
bool es_counts_allocations(void);
uint64_t es_allocations(void);

/* Variants of the bundled model in the test's scratch folder; the path is valid until the next
 * call. */
const char *es_repacked_model(enum i2s_layout layout); /* the same weights in another packing */
const char *es_scrambled_model(void);                  /* random codes */
const char *es_noisy_model(double share);              /* such a share of the codes is wrong */
const char *es_patched_model(const char *from,
                             const char *to); /* first occurrence of from, of equal length */

#endif
