/* Batch invariance: ids evaluated one at a time, on one thread, give the logits of one batch on two
 * threads, bit for bit. This is why answers may be written down and compared.
 *
 *     build/release/examples/08-batch engine/models/tinystories-bitnet.gguf */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/bnt_infer.h"

static const char text[] = "The little boat went down the river and into the sea.";

static enum bnt_status evaluate(struct bnt_session *s, const struct bnt_ids *ids, size_t step,
                                struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t at = 0; st == BNT_OK && at < ids->n; at += step) {
        size_t n = ids->n - at < step ? ids->n - at : step;
        st = bnt_session_eval(s, ids->at + at, n, err);
    }
    return st;
}

static enum bnt_status compare(struct bnt_session *single, struct bnt_session *batch,
                               struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    size_t row_bytes = bnt_session_n_vocab(single) * sizeof(float);
    enum bnt_status st = bnt_tokenizer_encode(bnt_session_tokenizer(single), text, strlen(text),
                                              BNT_ENCODE_ADD_SPECIAL, &ids, err);
    if (st == BNT_OK) {
        st = evaluate(single, &ids, 1, err);
    }
    if (st == BNT_OK) {
        st = evaluate(batch, &ids, ids.n, err);
    }
    if (st == BNT_OK &&
        memcmp(bnt_session_logits(single), bnt_session_logits(batch), row_bytes) != 0) {
        st = bnt_err_set(err, BNT_E_FAILED, "single ids and a batch give different logits");
    }
    if (st == BNT_OK) {
        printf("%zu ids, %u logits: equal bit for bit\n", ids.n, bnt_session_n_vocab(single));
    }
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    struct bnt_model *model = NULL;
    struct bnt_session *sessions[2] = {NULL, NULL};
    enum bnt_status st = bnt_model_open(path, NULL, &model, err);
    for (int i = 0; st == BNT_OK && i < 2; i++) {
        const struct bnt_session_options options = {.n_ctx = 64, .n_threads = i + 1};
        st = bnt_session_new(model, &options, &sessions[i], err);
    }
    if (st == BNT_OK) {
        st = compare(sessions[0], sessions[1], err);
    }
    bnt_session_free(sessions[0]);
    bnt_session_free(sessions[1]);
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
