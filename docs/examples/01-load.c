/* Load a model and say what it is: facts from its metadata, and the memory that a session of it
 * takes. A file that is no model is refused with what is wrong and where.
 *
 *     build/release/examples/01-load engine/models/tinystories-bitnet.gguf */
#include <inttypes.h>
#include <stdio.h>

#include "base/msg.h"
#include "engine/bnt_infer.h"

static void describe(const struct bnt_model *m)
{
    const struct bnt_model_info *info = bnt_model_info(m);
    const struct bnt_tokenizer *t = bnt_model_tokenizer(m);
    const struct bnt_session_options session = {.n_ctx = 64, .n_threads = 1};
    printf("name        %s\n", info->name[0] ? info->name : "(none)");
    printf("tokenizer   %s, %d tokens\n", bnt_tokenizer_model(t), bnt_tokenizer_n_vocab(t));
    printf("heads       %u of %u, %u for keys and values\n", info->n_head, info->head_dim,
           info->n_head_kv);
    printf("memory      %.1f MB with 64 positions\n",
           (double)bnt_model_memory_need(m, &session) / 1e6);
    printf("%s: %u layers, %u wide, %s, %" PRIu64 " parameters\n", info->arch, info->n_layer,
           info->n_embd, info->weights, info->n_params);
}

static enum bnt_status show(const char *path, struct bnt_err *err)
{
    struct bnt_model *model = NULL;
    enum bnt_status st = bnt_model_open(path, NULL, &model, err);
    if (st == BNT_OK) {
        describe(model);
        bnt_model_close(model);
    }
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
