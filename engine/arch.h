/* The table of model families. A new family is a row: which activation, where the norms are, how
 * heads are rotated. */
#ifndef BNT_ARCH_H
#define BNT_ARCH_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/cpu/kernels.h"

struct arch {
    const char *name;   /* general.architecture, and the prefix of its metadata keys */
    const char *family; /* what people call it */
    enum act_fn act;
    enum rope_style rope;
    bool sub_norms;  /* attn_sub_norm before wo, ffn_sub_norm before down (BitNet b1.58) */
    bool qkv_bias;   /* attn_{q,k,v}.bias are there; elsewhere they are optional */
    bool head_norms; /* attn_q_norm, attn_k_norm: each head of q and k, before it is rotated */
    bool scaled;     /* embedding, what joins the residual stream and logits have factors */
};

/* NULL when unknown. name has len bytes. */
const struct arch *arch_find(const char *name, size_t len);
/* All names, separated by ", ", for messages. */
const char *arch_names(void);

#endif
