/* Sampling with a seed: one seed gives one answer, however often and wherever it is asked; another
 * seed gives another one.
 *
 *     build/release/examples/04-seed engine/models/tinystories-bitnet.gguf */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/generate.h"

static const char prompt[] = "Tom and Lily";

static enum bnt_status sample(struct bnt_session *s, uint64_t seed, struct bnt_generation *g,
                              struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_session_tokenizer(s);
    const struct bnt_generate_params params = {.max_tokens = 16, .ignore_eos = true};
    struct bnt_sampler_params how = bnt_sampler_defaults();
    how.temperature = 1.0;
    how.top_k = 40;
    how.top_p = 0.95;
    how.seed = seed;
    struct bnt_sampler *sampler = NULL;
    struct bnt_ids ids = {0};
    enum bnt_status st = bnt_session_rewind(s, 0, err);
    if (st == BNT_OK) {
        st = bnt_tokenizer_encode(t, prompt, strlen(prompt), BNT_ENCODE_ADD_SPECIAL, &ids, err);
    }
    if (st == BNT_OK) {
        st = bnt_sampler_new(&how, bnt_tokenizer_n_vocab(t), &sampler, err);
    }
    if (st == BNT_OK) {
        st = bnt_generate(s, t, sampler, ids.at, ids.n, &params, g, err);
    }
    bnt_sampler_free(sampler);
    bnt_ids_release(&ids);
    return st;
}

static bool same(const struct bnt_generation *a, const struct bnt_generation *b)
{
    return a->ids.n == b->ids.n && memcmp(a->ids.at, b->ids.at, a->ids.n * sizeof *a->ids.at) == 0;
}

static enum bnt_status compare(struct bnt_session *s, struct bnt_err *err)
{
    static const uint64_t seeds[3] = {42, 42, 43};
    struct bnt_generation made[3];
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < 3; i++) {
        bnt_generation_init(&made[i]);
        st = st == BNT_OK ? sample(s, seeds[i], &made[i], err) : st;
    }
    if (st == BNT_OK &&
        (made[0].ids.n != 16 || !same(&made[0], &made[1]) || same(&made[0], &made[2]))) {
        st = bnt_err_set(err, BNT_E_FAILED, "seed 42 must give one answer and seed 43 another");
    }
    if (st == BNT_OK) {
        printf("%s|%s\nids %d %d %d...\n", prompt, bnt_buf_view(&made[0].text), made[0].ids.at[0],
               made[0].ids.at[1], made[0].ids.at[2]);
    }
    for (size_t i = 0; i < 3; i++) {
        bnt_generation_release(&made[i]);
    }
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
