/* Small GGUF files, sound and broken in one way each: the table behind suite_gguf.c, and the
 * fuzzer's first inputs (testkit/data/fuzz/gguf/). */
#ifndef SUITES_GGUF_CASES_H
#define SUITES_GGUF_CASES_H

#include "engine/gguf.h"
#include "testkit/suites/gguf_bytes.h"

struct gguf_case {
    const char *name;
    void (*build)(struct gguf_bytes *g); /* into an initialised, empty, little-endian g */
    enum gguf_fault fault;               /* GGUF_FAULT_NONE: the file is sound */
    const char *says;                    /* what the message must contain */
};

/* Ends with a zeroed row. */
extern const struct gguf_case gguf_cases[];

/* A sound file with every value type and several tensors, the last of which ends with the file. */
void gguf_case_everything(struct gguf_bytes *g);

#endif
