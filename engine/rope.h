/* Rotary position embedding (Su et al. 2021) with its scalings: linear position interpolation (Chen
 * et al. 2023), YaRN (Peng et al. 2023), and factors for each frequency: the rope_freqs tensor of
 * LLaMA 3, LongRoPE's (Ding et al. 2024) up to the original context. */
#ifndef BNT_ROPE_H
#define BNT_ROPE_H

#include <stdint.h>

#include "base/status.h"
#include "engine/gguf.h"

struct rope {
    uint32_t n_rot;     /* rotated elements of a head, even */
    double theta;       /* base of the frequencies */
    double attn_scale;  /* of what is rotated: scaling.attn_factor, times YaRN's own magnitude */
    uint32_t n_ctx_max; /* a longer context wants frequencies that are not here (LongRoPE) */
    double *freq;       /* n_rot/2: radians per position */
};

/* From the metadata "<arch>.rope.*" and the tensors of factors. Errors: FILE, UNSUPPORTED (unknown
 * scaling). */
enum bnt_status rope_init(struct rope *r, const struct gguf *g, const char *arch, uint32_t head_dim,
                          uint32_t n_ctx_train, struct bnt_err *err);
void rope_release(struct rope *r);
/* cos and sin of every pair at a position: cs[n_rot], (cos, sin) interleaved. */
void rope_at(const struct rope *r, uint64_t pos, float *cs);

#endif
