/* Fuzzer of the GGUF parser and of everything that reads an opened file: `make fuzz-gguf`. A
 * refusal must come with a fault class, a message and a hint. */
#include "engine/fuzz/exercise_gguf.inc"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bnt_err err = {0};
    if (exercise_gguf(data, size, &err) != BNT_OK) {
        bool told = err.domain && strcmp(err.domain, "gguf") == 0 &&
                    err.foreign > GGUF_FAULT_NONE && err.foreign < GGUF_N_FAULTS &&
                    err.msg[0] != '\0' && err.hint[0] != '\0';
        if (!told) {
            abort();
        }
    }
    return 0;
}
