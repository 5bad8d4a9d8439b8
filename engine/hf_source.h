/* The tensors of a checkpoint as rows for a GGUF file. */
#ifndef BNT_HF_SOURCE_H
#define BNT_HF_SOURCE_H

#include "engine/recode.h"
#include "engine/safetensors.h"

/* Where the rows of one matrix come from. */
struct hf_rows {
    const struct st_tensor *tensor; /* NULL: `memory` */
    const float *memory;            /* borrowed */
    uint64_t rows, cols;
    uint32_t n_head; /* not 0: each head's rows i and i + half become 2i and 2i + 1; of a vector,
                        its numbers */
    bool packed;     /* four rows to a byte, and a scale */
    float scale;
};

struct hf_source {
    const struct safetensors *files;
    struct hf_rows *rows; /* index: `which` */
    size_t n_rows, cap_rows;
    struct recode_source source;
};

void hf_source_init(struct hf_source *s, const struct safetensors *files);
void hf_source_release(struct hf_source *s);
/* *which: its index. */
enum bnt_status hf_source_add(struct hf_source *s, const struct hf_rows *rows, size_t *which,
                              struct bnt_err *err);

#endif
