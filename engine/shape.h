/* The tensors of a model as functions of its hyper-parameters: one table, from which mocks are made
 * and contracts are written. */
#ifndef BNT_SHAPE_H
#define BNT_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/arch.h"
#include "engine/gguf.h"

enum shape_dim {
    SHAPE_ONE,
    SHAPE_EMBD,
    SHAPE_FF,
    SHAPE_VOCAB,
    SHAPE_Q,       /* n_head * head_dim */
    SHAPE_KV,      /* n_head_kv * head_dim */
    SHAPE_HEAD,    /* head_dim */
    SHAPE_FACTORS, /* half of what is rotated */
    SHAPE_N_DIMS
};

/* What a tensor does, which decides what a mock puts into it. */
enum shape_role { SHAPE_NORM, SHAPE_BIAS, SHAPE_SCALE, SHAPE_FREQS, SHAPE_EMBEDDING, SHAPE_LINEAR };

/* Which families have it. */
enum shape_where {
    SHAPE_ALWAYS,
    SHAPE_SUB_NORMS,
    SHAPE_QKV_BIAS,
    SHAPE_HEAD_NORMS,
    SHAPE_OPTIONAL
};

struct shape_rule {
    const char *name; /* "attn_q.weight" (below blk.N.) or "output_norm.weight" */
    bool per_layer;
    enum shape_role role;
    enum shape_where where;
    enum shape_dim cols, rows;
};

/* In the order of a file; ends with a row without a name. */
extern const struct shape_rule shape_rules[];

struct shape_dims {
    uint64_t n[SHAPE_N_DIMS];
    uint32_t n_layer;
};

/* The rule of a tensor, and its layer (UINT32_MAX outside the layers); NULL when there is none. */
const struct shape_rule *shape_find(struct gguf_str name, uint32_t *layer);
/* "n_embd", "n_head*head_dim"... */
const char *shape_dim_name(enum shape_dim dim);
/* Does a family have it? Optional ones: no. */
bool shape_wanted(const struct shape_rule *r, const struct arch *arch);
/* From the metadata of a file and the rows of its embedding. Errors: MISSING_METADATA, BOUNDS. */
enum bnt_status shape_read(const struct gguf *g, const char *arch, struct shape_dims *out,
                           struct bnt_err *err);

#endif
