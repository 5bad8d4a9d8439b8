/* Perplexity over chunks. The sum of the negative log-likelihoods runs in double in the order of
 * the text. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/bnt_infer.h"
#include "engine/cpu/fmath.h"
#include "engine/sampler.h"

struct tally {
    const int32_t *chunk; /* BOS and the chunk's ids */
    size_t n;
    int32_t n_vocab;
    double nll;
};

static enum bnt_status add_position(void *ctx, size_t index, const float *logits,
                                    struct bnt_err *err)
{
    struct tally *t = ctx;
    if (index + 1 >= t->n) {
        return BNT_OK;
    }
    double nll =
        bnt_logsumexp(logits, t->n_vocab) - logits[t->chunk[index + !BNT_FAULT(perplexity_target)]];
    if (!isfinite(nll)) {
        return bnt_err_set(err, BNT_E_INFERENCE, "logits at position %zu are not finite", index);
    }
    t->nll += nll;
    return BNT_OK;
}

enum bnt_status bnt_perplexity(struct bnt_session *s, const int32_t *ids, size_t n,
                               uint32_t n_chunk, void (*progress)(void *ctx, uint64_t done),
                               void *ctx, struct bnt_perplexity *out, struct bnt_err *err)
{
    const struct bnt_tokenizer *tokenizer = bnt_session_tokenizer(s);
    int32_t bos = tokenizer ? bnt_tokenizer_bos(tokenizer) : -1;
    if (n == 0 || n_chunk < 2 || n_chunk > bnt_session_n_ctx(s) || bos < 0) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "perplexity needs text, a model with BOS and chunks of 2 to %u ids (got "
                           "%zu ids, chunks of %u)",
                           bnt_session_n_ctx(s), n, n_chunk);
    }
    int32_t *chunk = malloc(n_chunk * sizeof *chunk);
    if (!chunk) {
        return bnt_err_nomem(err, "a chunk", n_chunk * sizeof *chunk);
    }
    enum bnt_status st = BNT_OK;
    struct tally tally = {.chunk = chunk, .n_vocab = (int32_t)bnt_session_n_vocab(s)};
    for (size_t first = 0; st == BNT_OK && first < n; first += n_chunk - 1) {
        size_t take = n - first < n_chunk - 1 ? n - first : n_chunk - 1;
        chunk[0] = bos;
        memcpy(chunk + 1, ids + first, take * sizeof *chunk);
        tally.n = take + 1;
        st = bnt_session_rewind(s, 0, err);
        if (st == BNT_OK) {
            st = bnt_session_eval_each(s, chunk, take, add_position, &tally, err);
        }
        if (st == BNT_OK && progress) {
            progress(ctx, first + take);
        }
    }
    free(chunk);
    if (st == BNT_OK) {
        double mean = tally.nll / (double)n;
        *out = (struct bnt_perplexity){.n_tokens = n, .nll = mean, .ppl = fm_exp(mean)};
    }
    return st;
}
