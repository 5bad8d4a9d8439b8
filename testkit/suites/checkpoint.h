/* Checkpoints that a test makes itself, in the folder "ck" below the current one. A failure fails
 * the test. */
#ifndef SUITES_CHECKPOINT_H
#define SUITES_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum { CP_MAX_TENSORS = 80 };

struct cp_tensor {
    char name[128];
    const char *dtype;
    uint64_t shape[2]; /* shape[1] 0: a vector */
    uint8_t *bytes;    /* owned */
    size_t n;
};

struct cp_made {
    struct cp_tensor t[CP_MAX_TENSORS];
    size_t n;
};

/* A copy of the numbers. dtype: "F32", "F16", "BF16" or "U8", a literal; shape as in cp_tensor. */
void cp_add(struct cp_made *m, const char *name, const char *dtype, const uint64_t shape[2],
            const void *numbers);
void cp_release(struct cp_made *m);
/* Tensors [from, to) as a file. */
void cp_write_shard(const struct cp_made *m, size_t from, size_t to, const char *name);
/* All of them as one.safetensors and two.safetensors, and their index. */
void cp_write_shards(const struct cp_made *m);
/* Members of the vocabulary of byte-level BPE: the token of byte i has the id i. */
void cp_byte_tokens(struct bnt_buf *json);
/* Any file, by its whole path. */
void cp_file(const char *path, const void *bytes, size_t n);
void cp_text(const char *path, const char *text);

#endif
