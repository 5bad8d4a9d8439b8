/* What the model expected at every position of a text: bnt_session_eval_each hands over each row of
 * logits, bnt_logprobs_top the best ids of a row with their log-probabilities.
 *
 *     build/release/examples/05-logits engine/models/tinystories-bitnet.gguf */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/bnt_infer.h"
#include "engine/quality.h"
#include "engine/sampler.h"

enum { TOP = 3 };

static const char text[] = "Once upon a time there was a little girl";

struct positions {
    struct bnt_session *session;
    size_t n;                       /* seen so far */
    struct bnt_candidate last[TOP]; /* of the last one */
};

static enum bnt_status look(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct positions *p = ctx;
    int32_t n_vocab = (int32_t)bnt_session_n_vocab(p->session);
    enum bnt_status st = bnt_quality_logits(logits, n_vocab, err);
    if (st != BNT_OK) {
        return st;
    }
    if (bnt_logprobs_top(logits, n_vocab, TOP, p->last) != TOP || index != p->n) {
        return bnt_err_set(err, BNT_E_FAILED, "position %zu has no %d best ids", index, (int)TOP);
    }
    for (size_t i = 1; i < TOP; i++) {
        if (p->last[i].value > p->last[i - 1].value || p->last[i - 1].value > 0) {
            return bnt_err_set(err, BNT_E_FAILED, "position %zu: ids are not in order", index);
        }
    }
    p->n++;
    return BNT_OK;
}

static enum bnt_status evaluate(struct bnt_session *s, struct bnt_err *err)
{
    struct positions p = {.session = s};
    struct bnt_ids ids = {0};
    enum bnt_status st = bnt_tokenizer_encode(bnt_session_tokenizer(s), text, strlen(text),
                                              BNT_ENCODE_ADD_SPECIAL, &ids, err);
    if (st == BNT_OK) {
        st = bnt_session_eval_each(s, ids.at, ids.n, look, &p, err);
    }
    if (st == BNT_OK && p.n != ids.n) {
        st = bnt_err_set(err, BNT_E_FAILED, "%zu rows for %zu ids", p.n, ids.n);
    }
    if (st == BNT_OK) {
        printf("%zu positions; then %d (%.2f), %d (%.2f), %d (%.2f)\n", p.n, p.last[0].id,
               (double)p.last[0].value, p.last[1].id, (double)p.last[1].value, p.last[2].id,
               (double)p.last[2].value);
    }
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    const struct bnt_session_options options = {.n_ctx = 64};
    struct bnt_model *model = NULL;
    struct bnt_session *session = NULL;
    enum bnt_status st = bnt_model_open(path, NULL, &model, err);
    if (st == BNT_OK) {
        st = bnt_session_new(model, &options, &session, err);
    }
    if (st == BNT_OK) {
        st = evaluate(session, err);
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
