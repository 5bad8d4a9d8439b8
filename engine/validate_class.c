/* The classes of findings: what each is, how bad for whom, what to do. Those of gguf.h are errors
 * for every reader. */
#include <string.h>

#include "engine/validate.h"

#define I VALIDATE_IGNORED
#define N VALIDATE_NOTE
#define W VALIDATE_WARNING
#define E VALIDATE_ERROR

static const char *const gguf_whats[GGUF_N_FAULTS] = {
    [GGUF_FAULT_HEADER] = "no GGUF magic, or the file ends inside the header",
    [GGUF_FAULT_VERSION] = "a version of the format that is not read",
    [GGUF_FAULT_ALIGNMENT] = "general.alignment or the offset of a tensor",
    [GGUF_FAULT_SIZE] = "a tensor ends past the file",
    [GGUF_FAULT_BOUNDS] = "a count, length, number or offset out of its bounds",
    [GGUF_FAULT_UNSUPPORTED_TYPE] = "a type of value or tensor that is not read",
    [GGUF_FAULT_SCALE] = "a scale that is NaN, infinite, negative or absurd",
    [GGUF_FAULT_MISSING_METADATA] = "a key that the architecture needs is missing",
    [GGUF_FAULT_CORRUPT] = "a name that stands twice, codes that no weight has",
    [GGUF_FAULT_DIMENSIONS] = "a shape is not what the hyper-parameters derive",
    [GGUF_FAULT_ARCHITECTURE] = "an unknown family, or one whose tensors are missing",
    [GGUF_FAULT_TOKENIZER] = "a vocabulary that contradicts itself or the embedding",
};

/* Severities: runtime, bitnet, llama.cpp, strict. */
static const struct validate_class_info own[VALIDATE_N_CLASSES - GGUF_N_FAULTS] = {
    {"hyper-parameter",
     "a number that no model was trained with",
     "compare it with config.json of the original model",
     BNT_E_FILE,
     true,
     false,
     {W, W, W, E}},
    {"unknown-tensor",
     "a tensor that the architecture has no place for",
     "it is not used here; convert the model again to leave it out",
     BNT_E_FILE,
     true,
     false,
     {N, W, E, W}},
    {"file-type",
     "general.file_type names a type that no tensor has",
     "set general.file_type to the type of the weights",
     BNT_E_FILE,
     true,
     false,
     {N, W, N, W}},
    {"padding",
     "bytes that belong to no tensor",
     "write the file again: bnt fix IN OUT",
     BNT_E_FILE,
     true,
     true,
     {N, N, N, W}},
    {"pre-tokenizer",
     "tokenizer.ggml.pre is missing: text is split as it was not trained",
     "bnt fix IN OUT adds the one that the vocabulary shows; --pre NAME for one run",
     BNT_E_FILE,
     true,
     true,
     {W, W, W, E}},
    {"special-token",
     "a token with a role that is no control token, or no end token at all",
     "compare the token ids with tokenizer_config.json of the original model",
     BNT_E_FILE,
     true,
     false,
     {W, W, W, E}},
    {"vocabulary",
     "tokens or merges that never come out of text",
     "usually harmless",
     BNT_E_FILE,
     true,
     false,
     {N, N, N, W}},
    {"chat-template",
     "a chat template that is known to be wrong",
     "it is corrected when the model is run here; bnt fix IN OUT corrects it in the file",
     BNT_E_FILE,
     true,
     true,
     {W, W, W, E}},
    {"chat-form",
     "a chat template that is not recognised here",
     "bnt infer --chat wants --chat-template NAME with this file",
     BNT_E_UNSUPPORTED,
     true,
     false,
     {N, N, I, W}},
    {"values",
     "weights that are NaN or infinite",
     "the weights are damaged or were converted wrongly: fetch or convert them again",
     BNT_E_FILE,
     false,
     false,
     {E, E, E, E}},
    {"statistics",
     "weights as no training leaves them",
     "compare the digest with the publisher's, or the tensor with the original model",
     BNT_E_FILE,
     false,
     false,
     {W, W, W, E}},
    {"packing",
     "I2_S weights are packed for another processor",
     "they are converted on load; bnt fix IN OUT packs them 128/32",
     BNT_E_FILE,
     true,
     true,
     {W, E, I, E}},
    {"digest",
     "the file is not the one that is expected",
     "fetch the file again",
     BNT_E_DIGEST,
     false,
     false,
     {E, E, E, E}},
    {"reader",
     "what the engine of the profile does not read",
     "convert the model again with the tools of that engine",
     BNT_E_UNSUPPORTED,
     true,
     false,
     {I, E, E, I}},
    {"load",
     "the model cannot be made ready to run",
     "see the message",
     BNT_E_FAILED,
     false,
     false,
     {E, E, E, E}},
    {"self-test",
     "kernels disagree with the reference on this machine",
     "bnt devices shows which; --kernel ref is always right",
     BNT_E_SELF_TEST,
     false,
     false,
     {E, E, E, E}},
    {"round-trip",
     "text does not come back from its tokens",
     "take the vocabulary from the original model and convert again",
     BNT_E_FILE,
     true,
     false,
     {W, W, W, E}},
    {"sense",
     "plain English makes no sense to the model",
     "the weights, their packing, the vocabulary or a hyper-parameter is not the trained one",
     BNT_E_QUALITY,
     false,
     false,
     {W, W, W, E}},
};

struct validate_class_info validate_class_info(int kind)
{
    if (kind >= GGUF_N_FAULTS) {
        return own[kind - GGUF_N_FAULTS];
    }
    const struct gguf_fault_info *info = gguf_fault_info(kind);
    return (struct validate_class_info){info->name,        gguf_whats[kind],
                                        info->hint,        info->status,
                                        info->recoverable, kind == GGUF_FAULT_ALIGNMENT,
                                        {E, E, E, E}};
}

static const char *const levels[VALIDATE_N_LEVELS] = {"basic", "standard", "comprehensive",
                                                      "paranoid"};
static const char *const profiles[VALIDATE_N_PROFILES] = {"runtime", "bitnet", "llama.cpp",
                                                          "strict"};

const char *validate_level_name(enum validate_level l)
{
    return levels[l];
}

const char *validate_profile_name(enum validate_profile p)
{
    return profiles[p];
}

const char *validate_severity_name(enum validate_severity s)
{
    static const char *const names[] = {"ignored", "note", "warning", "error"};
    return names[s];
}

static bool find(const char *text, const char *const *names, int n, int *out)
{
    for (int i = 0; i < n; i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

bool validate_level_parse(const char *text, enum validate_level *out)
{
    int i;
    bool ok = find(text, levels, VALIDATE_N_LEVELS, &i);
    *out = ok ? (enum validate_level)i : *out;
    return ok;
}

bool validate_profile_parse(const char *text, enum validate_profile *out)
{
    int i;
    bool ok = find(text, profiles, VALIDATE_N_PROFILES, &i);
    *out = ok ? (enum validate_profile)i : *out;
    return ok;
}
