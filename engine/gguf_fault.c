/* The table of what can be wrong with a model file: names, hints, exit statuses. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"

static const struct gguf_fault_info faults[GGUF_N_FAULTS] = {
    [GGUF_FAULT_NONE] = {"none", BNT_E_FILE, "", false},
    [GGUF_FAULT_HEADER] = {"header", BNT_E_FILE,
                           "this is no GGUF file, or the start of one: fetch it again", false},
    [GGUF_FAULT_VERSION] =
        {"version", BNT_E_UNSUPPORTED,
         "versions 2 and 3 are read: convert the model anew with a current converter", true},
    [GGUF_FAULT_ALIGNMENT] = {"alignment", BNT_E_FILE,
                              "write the file again with aligned offsets, or fetch it again", true},
    [GGUF_FAULT_SIZE] = {"size", BNT_E_FILE, "the file is cut short: fetch it again", false},
    [GGUF_FAULT_BOUNDS] = {"bounds", BNT_E_FILE,
                           "the file is damaged or made to harm: fetch it from its publisher",
                           false},
    [GGUF_FAULT_UNSUPPORTED_TYPE] =
        {"unsupported-type", BNT_E_UNSUPPORTED,
         "quantise the model anew as I2_S, TQ2_0, Q8_0, Q6_K, Q5_K, Q4_K or F16", true},
    [GGUF_FAULT_SCALE] =
        {"scale", BNT_E_FILE,
         "the weights are damaged or were quantised wrongly: fetch or convert them again", false},
    [GGUF_FAULT_MISSING_METADATA] =
        {"missing-metadata", BNT_E_FILE,
         "add the key with a metadata editor, or convert the model again", true},
    [GGUF_FAULT_CORRUPT] = {"corrupt", BNT_E_FILE, "the content is damaged: fetch the file again",
                            false},
    [GGUF_FAULT_DIMENSIONS] =
        {"dimensions", BNT_E_FILE,
         "metadata and tensors do not belong together: convert the model again", false},
    [GGUF_FAULT_ARCHITECTURE] =
        {"architecture", BNT_E_UNSUPPORTED,
         "use a model of a supported family: bnt inspect shows what this one is", false},
    [GGUF_FAULT_TOKENIZER] = {"tokenizer", BNT_E_FILE,
                              "take the vocabulary from the original model and convert again",
                              true},
};

const struct gguf_fault_info *gguf_fault_info(int fault)
{
    if (fault < 0 || fault >= GGUF_N_FAULTS) {
        fault = GGUF_FAULT_NONE;
    }
    return &faults[fault];
}

bool gguf_fault_offset(const char *message, uint64_t *offset)
{
    static const char words[] = "at byte ";
    const char *at = strstr(message, words);
    if (!at || at[sizeof words - 1] < '0' || at[sizeof words - 1] > '9') {
        return false;
    }
    *offset = strtoull(at + sizeof words - 1, NULL, 10);
    return true;
}

enum bnt_status gguf_fail(struct bnt_err *err, enum gguf_fault fault, const char *fmt, ...)
{
    const struct gguf_fault_info *info = gguf_fault_info((int)fault);
    if (!err || err->status != BNT_OK) {
        return info->status;
    }
    char text[sizeof err->msg];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err->domain = "gguf";
    err->foreign = (int)fault;
    bnt_err_hint(err, "%s", info->hint);
    return bnt_err_set(err, info->status, "%s", text);
}
