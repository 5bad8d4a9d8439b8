/* A Hugging Face checkpoint as a GGUF file: BitNet b1.58 (masters in float32, float16 or bfloat16,
 * or packed to two bits), LLaMA, Qwen2, Qwen3. Weights are streamed from the shards:
 * docs/convert.md says how little memory that takes. */
#ifndef BNT_CONVERT_H
#define BNT_CONVERT_H

#include "engine/model_write.h"

enum bnt_weight_scale { BNT_SCALE_AUTO, BNT_SCALE_MULTIPLY, BNT_SCALE_DIVIDE };

struct bnt_convert_options {
    const struct tensor_type_info *type;      /* of linear weights; NULL: I2_S, or F16 */
    const struct tensor_type_info *embedding; /* NULL: F16 */
    const char *name;                         /* general.name; NULL: that of the folder */
    const char *pre;                          /* pre-tokenizer; NULL: find it */
    enum bnt_weight_scale scale;              /* of packed weights */
    const char *const *tiles;
    size_t n_tiles;
    bool force, half_scales; /* as in bnt_quantize_options */
    const volatile sig_atomic_t *interrupted;
    void (*progress)(void *ctx, uint64_t done, uint64_t of);
    void *ctx;
    bnt_warn_fn *warn; /* may be NULL */
    void *warn_ctx;
};

struct bnt_convert_report {
    struct mwrite_report file;
    const char *arch, *type; /* static */
    bool packed;             /* the checkpoint's linear weights were packed */
};

/* Errors: those of safetensors_open, hf_config_load, hf_vocab_put and mwrite_run; FILE when a
 * tensor is missing or has another shape or dtype than the family derives; UNSUPPORTED for one that
 * the family does not have. */
enum bnt_status bnt_convert(const char *dir, const char *to, const struct bnt_convert_options *o,
                            struct bnt_convert_report *out, struct bnt_err *err);

#endif
