/* Streaming: text is handed on as soon as it is certain, in whole characters, and a stop string
 * ends the answer without being part of it, also when it comes in the pieces of two tokens.
 *
 *     build/release/examples/03-stream engine/models/tinystories-bitnet.gguf */
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "engine/generate.h"

static const char prompt[] = "One day, a girl";

/* An application would show the bytes here; this one keeps them to compare. */
static enum bnt_status on_text(void *ctx, const char *bytes, size_t n, struct bnt_err *err)
{
    return bnt_buf_append(ctx, bytes, n, err);
}

static enum bnt_status generate(struct bnt_session *s, const struct bnt_generate_params *p,
                                struct bnt_generation *g, struct bnt_err *err)
{
    const struct bnt_tokenizer *t = bnt_session_tokenizer(s);
    const struct bnt_sampler_params greedy = bnt_sampler_defaults();
    struct bnt_sampler *sampler = NULL;
    struct bnt_ids ids = {0};
    enum bnt_status st = bnt_session_rewind(s, 0, err);
    if (st == BNT_OK) {
        st = bnt_tokenizer_encode(t, prompt, strlen(prompt), BNT_ENCODE_ADD_SPECIAL, &ids, err);
    }
    if (st == BNT_OK) {
        st = bnt_sampler_new(&greedy, bnt_tokenizer_n_vocab(t), &sampler, err);
    }
    if (st == BNT_OK) {
        st = bnt_generate(s, t, sampler, ids.at, ids.n, p, g, err);
    }
    bnt_sampler_free(sampler);
    bnt_ids_release(&ids);
    return st;
}

/* A stop string that the model is bound to say: the pieces of its eighth and ninth token. */
static enum bnt_status choose_stop(struct bnt_session *s, struct bnt_buf *stop, struct bnt_err *err)
{
    const struct bnt_generate_params free_run = {.max_tokens = 16, .ignore_eos = true};
    struct bnt_generation g;
    bnt_generation_init(&g);
    enum bnt_status st = generate(s, &free_run, &g, err);
    for (size_t i = 7; st == BNT_OK && i < 9; i++) {
        st = bnt_tokenizer_piece(bnt_session_tokenizer(s), g.ids.at[i], false, stop, err);
    }
    bnt_generation_release(&g);
    return st;
}

static enum bnt_status stream(struct bnt_session *s, const char *word, struct bnt_err *err)
{
    struct bnt_buf seen = BNT_BUF(BNT_GENERATE_MAX_TEXT);
    struct bnt_generate_params params = {
        .max_tokens = 16, .ignore_eos = true, .on_text = on_text, .ctx = &seen};
    struct bnt_generation g;
    bnt_generation_init(&g);
    enum bnt_status st = bnt_stop_new(&word, 1, &params.stop, err);
    if (st == BNT_OK) {
        st = generate(s, &params, &g, err);
    }
    if (st == BNT_OK && (g.stop_string != 0 || strstr(bnt_buf_view(&seen), word) ||
                         strcmp(bnt_buf_view(&seen), bnt_buf_view(&g.text)) != 0)) {
        st = bnt_err_set(err, BNT_E_FAILED, "\"%s\" did not end the answer \"%s\"", word,
                         bnt_buf_view(&seen));
    }
    if (st == BNT_OK) {
        printf("%s|%s\n%zu bytes, ended by a stop string of %zu\n", prompt, bnt_buf_view(&seen),
               seen.len, strlen(word));
    }
    bnt_stop_free(params.stop);
    bnt_generation_release(&g);
    bnt_buf_release(&seen);
    return st;
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    const struct bnt_session_options options = {.n_ctx = 64};
    struct bnt_model *model = NULL;
    struct bnt_session *session = NULL;
    struct bnt_buf stop = BNT_BUF(BNT_STOP_MAX_BYTES);
    enum bnt_status st = bnt_model_open(path, NULL, &model, err);
    if (st == BNT_OK) {
        st = bnt_session_new(model, &options, &session, err);
    }
    if (st == BNT_OK) {
        st = choose_stop(session, &stop, err);
    }
    if (st == BNT_OK) {
        st = stream(session, bnt_buf_view(&stop), err);
    }
    bnt_buf_release(&stop);
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
