/* Scripted answers (mock/scripted.h) taken from a model: what it says to some prompts, greedily. */
#ifndef BNT_MOCK_SCRIPT_RECORD_H
#define BNT_MOCK_SCRIPT_RECORD_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define SCRIPT_RECORD_MAX_BYTES (1u << 30)

struct script_record {
    const char *model; /* a GGUF */
    const char *const *prompts;
    size_t n_prompts;
    uint32_t max_tokens;
    bool logits;                              /* also a row for each id of a prompt */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

/* Append the file as text. Errors: those of opening and running the model; UNSUPPORTED for an
 * answer that is no UTF-8, which JSON cannot hold. */
enum bnt_status script_record(const struct script_record *r, struct bnt_buf *out,
                              struct bnt_err *err);

#endif
