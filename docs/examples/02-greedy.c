/* Greedy generation: a prompt in, text out. The defaults of the sampler take the likeliest id, so
 * the answer is the same on every machine; bnt_generate is the loop of eval, sample and stop.
 *
 *     build/release/examples/02-greedy engine/models/tinystories-bitnet.gguf */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/generate.h"

static const char prompt[] = "Once upon a time";

static enum bnt_status answer(struct bnt_session *s, struct bnt_generation *g, struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_session_tokenizer(s);
    const struct bnt_sampler_params greedy = bnt_sampler_defaults();
    const struct bnt_generate_params params = {.max_tokens = 16, .ignore_eos = true};
    struct bnt_sampler *sampler = NULL;
    struct bnt_ids ids = {0};
    enum bnt_status st =
        bnt_tokenizer_encode(t, prompt, strlen(prompt), BNT_ENCODE_ADD_SPECIAL, &ids, err);
    if (st == BNT_OK) {
        st = bnt_sampler_new(&greedy, bnt_tokenizer_n_vocab(t), &sampler, err);
    }
    if (st == BNT_OK) {
        st = bnt_generate(s, t, sampler, ids.at, ids.n, &params, g, err);
    }
    bnt_sampler_free(sampler);
    bnt_ids_release(&ids);
    return st;
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    const struct bnt_session_options options = {.n_ctx = 64};
    struct bnt_model *model = NULL;
    struct bnt_session *session = NULL;
    struct bnt_generation made;
    bnt_generation_init(&made);
    enum bnt_status st = bnt_model_open(path, NULL, &model, err);
    if (st == BNT_OK) {
        st = bnt_session_new(model, &options, &session, err);
    }
    if (st == BNT_OK) {
        st = answer(session, &made, err);
    }
    if (st == BNT_OK && (made.ids.n != 16 || made.finish != BNT_FINISH_LENGTH)) {
        st = bnt_err_set(err, BNT_E_FAILED, "%zu ids instead of 16 (%s)", made.ids.n,
                         bnt_finish_name(made.finish));
    }
    if (st == BNT_OK) {
        printf("%s|%s\nids", prompt, bnt_buf_view(&made.text));
        for (size_t i = 0; i < made.ids.n; i++) {
            printf(" %d", made.ids.at[i]);
        }
        putchar('\n');
    }
    bnt_generation_release(&made);
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
