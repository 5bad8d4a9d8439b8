/* Prints, for each prompt, the ids that it becomes, the greedy ids that follow, and a checksum of
 * all logits on the way: check_ids MODEL N_IDS PROMPT... Built natively and as a module, both must
 * print the same. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bnt_infer.h"
#include "engine/sampler.h"

struct check {
    struct bnt_session *session;
    const struct bnt_tokenizer *t;
    struct bnt_sampler *sampler;
    uint64_t hash; /* FNV-1a over the bits of logits */
};

static enum bnt_status mix_logits(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct check *c = ctx;
    (void)index, (void)err;
    for (uint32_t i = 0; i < bnt_session_n_vocab(c->session); i++) {
        uint32_t bits;
        memcpy(&bits, logits + i, sizeof(bits));
        c->hash = (c->hash ^ bits) * 0x100000001b3u;
    }
    return BNT_OK;
}

static void print_ids(const char *what, const int32_t *ids, size_t n)
{
    printf("%s", what);
    for (size_t i = 0; i < n; i++) {
        printf(" %" PRId32, ids[i]);
    }
    printf("\n");
}

static enum bnt_status answer(struct check *c, const struct bnt_ids *prompt, long n_ids,
                              struct bnt_err *err)
{
    enum bnt_status st = bnt_session_rewind(c->session, 0, err);
    if (st == BNT_OK) {
        st = bnt_session_eval_each(c->session, prompt->at, prompt->n, mix_logits, c, err);
    }
    struct bnt_ids out = {0};
    for (long i = 0; st == BNT_OK && i < n_ids; i++) {
        int32_t id = -1;
        st = bnt_sampler_next(c->sampler, bnt_session_logits(c->session), &id, err);
        if (st == BNT_OK && bnt_tokenizer_is_eog(c->t, id)) {
            break;
        }
        st = st == BNT_OK ? bnt_ids_push(&out, id, err) : st;
        st = st == BNT_OK ? bnt_session_eval_each(c->session, &id, 1, mix_logits, c, err) : st;
    }
    if (st == BNT_OK) {
        print_ids("prompt", prompt->at, prompt->n);
        print_ids("ids", out.at, out.n);
        printf("logits %016" PRIx64 "\n", c->hash);
    }
    bnt_ids_release(&out);
    return st;
}

static enum bnt_status run(struct bnt_model *m, long n_ids, char **prompts, struct bnt_err *err)
{
    struct check c = {.t = bnt_model_tokenizer(m), .hash = 0xcbf29ce484222325u};
    struct bnt_sampler_params greedy = bnt_sampler_defaults();
    greedy.temperature = 0;
    enum bnt_status st = bnt_session_new(m, NULL, &c.session, err);
    if (st == BNT_OK) {
        fprintf(stderr, "kernels: %s\n", bnt_session_kernel(c.session));
        st = bnt_sampler_new(&greedy, bnt_tokenizer_n_vocab(c.t), &c.sampler, err);
    }
    for (; st == BNT_OK && *prompts; prompts++) {
        struct bnt_ids ids = {0};
        st = bnt_tokenizer_encode(c.t, *prompts, strlen(*prompts), BNT_ENCODE_ADD_SPECIAL, &ids,
                                  err);
        if (st == BNT_OK && ids.n == 0) {
            st = bnt_ids_push(&ids, bnt_tokenizer_bos(c.t), err);
        }
        st = st == BNT_OK ? answer(&c, &ids, n_ids, err) : st;
        bnt_ids_release(&ids);
    }
    bnt_sampler_free(c.sampler);
    if (c.session != NULL) {
        bnt_session_free(c.session);
    }
    return st;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: check_ids MODEL N_IDS PROMPT...\n");
        return BNT_E_USAGE;
    }
    struct bnt_model *m = NULL;
    struct bnt_err err = {0};
    enum bnt_status st = bnt_model_open(argv[1], NULL, &m, &err);
    if (st == BNT_OK) {
        st = run(m, strtol(argv[2], NULL, 10), argv + 3, &err);
        bnt_model_close(m);
    }
    if (st != BNT_OK) {
        fprintf(stderr, "error: %s\n", err.msg);
    }
    return (int)st;
}
