/* Fuzzer of tokenizers, vocabularies and texts alike: `make fuzz-tokenizer`. A refusal must come
 * with a message. */
#include "engine/fuzz/exercise_tokenizer.inc"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bnt_err err = {0};
    if (exercise_tokenizer(data, size, &err) != BNT_OK && err.msg[0] == '\0') {
        abort();
    }
    return 0;
}
