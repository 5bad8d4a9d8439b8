/* config.json of a Hugging Face checkpoint: the numbers that a GGUF file of the family needs. */
#ifndef BNT_HF_CONFIG_H
#define BNT_HF_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/arch.h"
#include "engine/gguf_plan.h"

enum { HF_MAX_ENDS = 8, HF_MAX_PAIRS = 512 };
#define HF_MAX_JSON_BYTES (64u << 20)

/* What a file that is not what its name says holds instead, as downloads leave it: "a Git LFS
 * pointer..."; NULL: nothing that is known. */
const char *hf_not_itself(const void *bytes, size_t n);

/* How the one scale of a packed matrix is meant (docs/convert.md). */
enum hf_scale { HF_SCALE_MULTIPLY, HF_SCALE_DIVIDE };

struct hf_config {
    const struct arch *arch;
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_ctx, n_vocab;
    double rms_eps, rope_theta;
    bool tied;                     /* the head is the embedding */
    bool attention_bias, mlp_bias; /* each product of that part has one */
    bool bitnet; /* trained for ternary weights: its family, or its quantization_config */
    enum hf_scale scale;
    int64_t bos, eos, pad;     /* -1: not said */
    int64_t ends[HF_MAX_ENDS]; /* all ids that end an answer, of which eos is one */
    size_t n_ends;
    double embedding_scale, residual_scale, logit_scale; /* of a scaled family */
    char rope_type[16]; /* "", "linear", "yarn", "llama3", "longrope" */
    double rope_factor, rope_n_ctx_orig, rope_low, rope_high;
    float rope_short[HF_MAX_PAIRS], rope_long[HF_MAX_PAIRS]; /* "longrope": head_dim / 2 of them */
    double yarn_beta_fast, yarn_beta_slow, rope_attention;   /* 0: not said */
};

/* A JSON file of a folder. *out is NULL when it is absent and optional. Errors: NOT_FOUND; FILE
 * with line and column. Free with json_decref. */
enum bnt_status hf_json_load(const char *dir, const char *name, bool optional, json_t **out,
                             struct bnt_err *err);

/* Errors: FILE (a member is missing or absurd), UNSUPPORTED (a family, an activation, a rope or a
 * window that the engine does not have). */
enum bnt_status hf_config_load(const char *dir, struct hf_config *out, struct bnt_err *err);
/* general.architecture and the keys of the family. */
enum bnt_status hf_config_put(const struct hf_config *c, const char *name, struct gguf_plan *p,
                              struct bnt_err *err);
/* Factors of "llama3" by which the engine divides frequencies: head_dim / 2 of them. */
void hf_rope_factors(const struct hf_config *c, float *out);

#endif
