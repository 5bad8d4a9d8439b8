/* Fuzzer of chat templates and of what messages become under them: `make fuzz-chat`, from the top
 * of the source tree (the vocabulary is the bundled model's). */
#include <stdio.h>

#include "engine/fuzz/exercise_chat.inc"

static struct bnt_tokenizer *tokenizer;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    struct gguf *g = NULL;
    struct bnt_err err = {0};
    if (gguf_open("engine/models/tinystories-bitnet.gguf", GGUF_MODE_AUTO, &g, &err) != BNT_OK ||
        bnt_tokenizer_new(g, NULL, &tokenizer, &err) != BNT_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
    gguf_close(g);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bnt_err err = {0};
    enum bnt_status st = exercise_chat(data, size, tokenizer, &err);
    if (st != BNT_OK && (st != BNT_E_UNSUPPORTED || err.msg[0] == '\0' || err.hint[0] == '\0')) {
        abort();
    }
    return 0;
}
