/* One prefix, two questions: the session evaluates the prefix once, and bnt_session_rewind goes
 * back to its end. What was rewound leaves no trace: the second answer is the one that a fresh
 * session gives, bit for bit.
 *
 *     build/release/examples/07-rewind engine/models/tinystories-bitnet.gguf */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/bnt_infer.h"
#include "engine/sampler.h"

static enum bnt_status say(struct bnt_session *s, const char *text, unsigned flags,
                           struct bnt_err *err)
{
    struct bnt_ids ids = {0};
    enum bnt_status st =
        bnt_tokenizer_encode(bnt_session_tokenizer(s), text, strlen(text), flags, &ids, err);
    if (st == BNT_OK) {
        st = bnt_session_eval(s, ids.at, ids.n, err);
    }
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status tell_two(struct bnt_session *s, const char *prefix, const char *const *next,
                                struct bnt_err *err)
{
    enum bnt_status st = say(s, prefix, BNT_ENCODE_ADD_SPECIAL, err);
    uint32_t n_prefix = bnt_session_n_past(s);
    if (st == BNT_OK) {
        st = say(s, next[0], 0, err);
    }
    if (st == BNT_OK) {
        st = bnt_session_rewind(s, n_prefix, err);
    }
    return st == BNT_OK ? say(s, next[1], 0, err) : st;
}

static enum bnt_status compare(struct bnt_session *used, struct bnt_session *fresh,
                               struct bnt_err *err)
{
    static const char prefix[] = "Lily had a big red ball.";
    static const char *const next[2] = {" The dog took it and", " She was very happy and"};
    size_t row_bytes = bnt_session_n_vocab(used) * sizeof(float);
    enum bnt_status st = tell_two(used, prefix, next, err);
    if (st == BNT_OK) {
        st = say(fresh, prefix, BNT_ENCODE_ADD_SPECIAL, err);
    }
    if (st == BNT_OK) {
        st = say(fresh, next[1], 0, err);
    }
    if (st == BNT_OK &&
        (bnt_session_n_past(used) != bnt_session_n_past(fresh) ||
         memcmp(bnt_session_logits(used), bnt_session_logits(fresh), row_bytes) != 0)) {
        st = bnt_err_set(err, BNT_E_FAILED, "what was rewound changes what comes after it");
    }
    struct bnt_candidate best;
    if (st == BNT_OK &&
        bnt_logprobs_top(bnt_session_logits(used), (int32_t)bnt_session_n_vocab(used), 1, &best)) {
        printf("%u positions, then id %d\n", bnt_session_n_past(used), best.id);
    }
    return st;
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    const struct bnt_session_options options = {.n_ctx = 64};
    struct bnt_model *model = NULL;
    struct bnt_session *sessions[2] = {NULL, NULL};
    enum bnt_status st = bnt_model_open(path, NULL, &model, err);
    for (size_t i = 0; st == BNT_OK && i < 2; i++) {
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
