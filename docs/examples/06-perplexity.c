/* Perplexity: how surprised a model is by a text. bnt_perplexity does it by chunks; here one chunk
 * is also summed by hand, from the logits of every position, and both must agree.
 *
 *     build/release/examples/06-perplexity engine/models/tinystories-bitnet.gguf */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/bnt_infer.h"
#include "engine/sampler.h"

enum { CHUNK = 128 };

static const char text[] = "Once upon a time, there was a little girl named Lily. She loved to "
                           "play outside in the park.";

struct sum {
    const struct bnt_ids *ids;
    int32_t n_vocab;
    double nll; /* nats */
};

/* The row of a position is about the id after it. */
static enum bnt_status add(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    (void)err;
    struct sum *s = ctx;
    if (index + 1 < s->ids->n) {
        s->nll += bnt_logsumexp(logits, s->n_vocab) - (double)logits[s->ids->at[index + 1]];
    }
    return BNT_OK;
}

static enum bnt_status compare(struct bnt_session *s, struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_session_tokenizer(s);
    struct bnt_ids ids = {0}; /* BOS and the text */
    struct bnt_perplexity p = {0};
    struct sum sum = {.ids = &ids, .n_vocab = (int32_t)bnt_session_n_vocab(s)};
    enum bnt_status st = bnt_ids_push(&ids, bnt_tokenizer_bos(t), err);
    if (st == BNT_OK) {
        st = bnt_tokenizer_encode(t, text, strlen(text), 0, &ids, err);
    }
    if (st == BNT_OK) {
        st = bnt_perplexity(s, ids.at + 1, ids.n - 1, CHUNK, NULL, NULL, &p, err);
    }
    if (st == BNT_OK) {
        st = bnt_session_rewind(s, 0, err);
    }
    if (st == BNT_OK) {
        st = bnt_session_eval_each(s, ids.at, ids.n, add, &sum, err);
    }
    double by_hand = exp(sum.nll / (double)(ids.n > 1 ? ids.n - 1 : 1));
    if (st == BNT_OK && fabs(by_hand - p.ppl) > 1e-6 * by_hand) {
        st = bnt_err_set(err, BNT_E_FAILED, "perplexity %g is %g by hand", p.ppl, by_hand);
    }
    if (st == BNT_OK) {
        printf("perplexity %.2f over %u ids\n", p.ppl, (unsigned)p.n_tokens);
    }
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    const struct bnt_session_options options = {.n_ctx = CHUNK};
    struct bnt_model *model = NULL;
    struct bnt_session *session = NULL;
    enum bnt_status st = bnt_model_open(path, NULL, &model, err);
    if (st == BNT_OK) {
        st = bnt_session_new(model, &options, &session, err);
    }
    if (st == BNT_OK) {
        st = compare(session, err);
    }
    bnt_session_free(session);
    bnt_model_close(model);
    return st;
}

int main(int argc, char **argv)
{
    struct bnt_err err = {0};
    if (argc != 2) {
        return bnt_msg_fail(BNT_E_USAGE, NULL, "usage: %s MODEL", argv[0]);
    }
    return show(argv[1], &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}
