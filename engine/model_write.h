/* A model file made of tensors from elsewhere: what `bnt convert` and `bnt quantize` have in common
 * once they know what comes from where.
 *
 *     mwrite_init -> keys into m.plan, mwrite_add for each tensor in the order of the file ->
 *     mwrite_survey -> (the caller may refuse) -> mwrite_run -> mwrite_release
 *
 * The file is audited before it has its name: types, shapes, sizes and places are those of the
 * plan, general.file_type is that of the linear weights, and a few tokens run through it with
 * finite logits. One that fails leaves nothing.
 *
 * A ternary matrix has one scale. TQ1_0, TQ2_0 and IQ1_BN hold it as a half: where it is none, 1
 * stands there and the scale becomes a tensor "<name>.scale" of one float, as the graphs of BitNet
 * know it, so that nothing is lost. Back in a type with a float32 scale, such a tensor is folded
 * in. */
#ifndef BNT_MODEL_WRITE_H
#define BNT_MODEL_WRITE_H

#include "engine/recode.h"

struct mwrite_tensor {
    char name[GGUF_MAX_NAME_BYTES + 1];
    const struct gguf_tensor *copy; /* as it stands in mwrite.source; NULL: recode `item` */
    struct recode_item item;
    bool linear;    /* a matrix of a layer: has the type of the file */
    bool has_scale; /* its ".scale": what came, after the survey what is written */
    float scale;
};

struct mwrite {
    struct gguf_plan plan;
    const struct gguf *source; /* of copies; may be NULL */
    struct mwrite_tensor *tensors;
    size_t n_tensors, cap_tensors;
    enum tensor_type type;    /* of linear weights */
    const char *const *tiles; /* n_tiles of "ROWSxCOLS=BM,BK,BM_INNER" */
    size_t n_tiles;
    bool half_scales;                         /* round scales to a half instead of adding tensors */
    size_t n_linear, n_were_ternary;          /* after the survey */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
    void (*progress)(void *ctx, uint64_t done_weights, uint64_t of_weights); /* may be NULL */
    void *ctx;
};

struct mwrite_report {
    uint64_t bytes;
    char digest[BNT_SHA256_HEX];
    size_t n_tensors; /* in the file */
    int32_t top_id;   /* the likeliest token after the audit's prompt */
};

void mwrite_init(struct mwrite *m, enum tensor_type type);
void mwrite_release(struct mwrite *m);
/* Takes a copy; item.name is set to the copy's name, item.to to the file's type for linear ones.
 * Errors: USAGE for TL1 and TL2 of a shape whose tiles nobody says. */
enum bnt_status mwrite_add(struct mwrite *m, const struct mwrite_tensor *t, struct bnt_err *err);
/* Errors: those of recode_survey. */
enum bnt_status mwrite_survey(struct mwrite *m, struct bnt_err *err);
/* Errors: those of sources and files; USAGE when a type cannot hold a shape; FAILED when the audit
 * finds what must not be. */
enum bnt_status mwrite_run(struct mwrite *m, const char *path, struct mwrite_report *out,
                           struct bnt_err *err);

/* What a tensor is, by its name. */
enum tensor_role {
    ROLE_OTHER,     /* norms, biases, factors: kept as they are, or float32 */
    ROLE_LINEAR,    /* "blk.N.attn_q.weight"... */
    ROLE_SCALE,     /* "blk.N.attn_q.scale"... */
    ROLE_EMBEDDING, /* "token_embd.weight", "output.weight" */
};
enum tensor_role tensor_role(struct gguf_str name);

#endif
