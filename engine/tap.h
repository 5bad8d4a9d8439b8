/* Taps: what a session computes on its way from ids to logits, handed out row by row.
 *
 *     static void see(void *ctx, const struct bnt_tap_row *row) { ... }
 *     bnt_session_set_tap(session, &(struct bnt_tap){see, ctx});
 *     bnt_session_eval(session, ids, n, &err);    see() is called for each op, layer and token
 *
 * Without a tap nothing is computed or copied for it. With one the values are the same bits; only
 * gate and up, which are otherwise fused with their activation, become steps of their own.
 *
 * Within one batch rows come op by op in the order of enum bnt_tap_op, layer by layer, and in each
 * op by ascending position; those of a step of several sequences in the order of its rows. Rows of
 * output_norm and logits come when logits are asked for: bnt_session_eval does so for the last id,
 * bnt_session_eval_each with a function for every id and once more for the last one. */
#ifndef BNT_TAP_H
#define BNT_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bnt_session;

/* X(identifier, name, in a layer, what the row holds). An op that a model has not (a sub-norm, an
 * activation for a product that is not ternary) is left out. */
#define BNT_TAP_TABLE(X)                                                                           \
    X(BNT_TAP_EMBD, "embd", false, "the embedding of the token")                                   \
    X(BNT_TAP_ATTN_NORM, "attn_norm", true, "the residual stream, normed")                         \
    X(BNT_TAP_ATTN_NORM_Q8, "attn_norm_q8", true, "the same in 8 bits, times its scale")           \
    X(BNT_TAP_Q, "q", true, "queries of all heads, before rotation")                               \
    X(BNT_TAP_K, "k", true, "keys of all heads, before rotation")                                  \
    X(BNT_TAP_V, "v", true, "values of all heads")                                                 \
    X(BNT_TAP_Q_ROPE, "q_rope", true, "queries, rotated")                                          \
    X(BNT_TAP_K_ROPE, "k_rope", true, "keys, rotated")                                             \
    X(BNT_TAP_ATTN, "attn", true, "what attention has gathered, all heads")                        \
    X(BNT_TAP_ATTN_SUB_NORM, "attn_sub_norm", true, "the same, normed")                            \
    X(BNT_TAP_ATTN_SUB_NORM_Q8, "attn_sub_norm_q8", true, "the input of wo in 8 bits")             \
    X(BNT_TAP_ATTN_OUT, "attn_out", true, "the product with wo")                                   \
    X(BNT_TAP_ATTN_RESIDUAL, "attn_residual", true, "the residual stream after attention")         \
    X(BNT_TAP_FFN_NORM, "ffn_norm", true, "the residual stream, normed")                           \
    X(BNT_TAP_FFN_NORM_Q8, "ffn_norm_q8", true, "the same in 8 bits, times its scale")             \
    X(BNT_TAP_GATE, "gate", true, "the product with ffn_gate")                                     \
    X(BNT_TAP_UP, "up", true, "the product with ffn_up")                                           \
    X(BNT_TAP_ACT, "act", true, "activation of gate, times up")                                    \
    X(BNT_TAP_FFN_SUB_NORM, "ffn_sub_norm", true, "the same, normed")                              \
    X(BNT_TAP_FFN_SUB_NORM_Q8, "ffn_sub_norm_q8", true, "the input of ffn_down in 8 bits")         \
    X(BNT_TAP_DOWN, "down", true, "the product with ffn_down")                                     \
    X(BNT_TAP_FFN_RESIDUAL, "ffn_residual", true, "the residual stream after the layer")           \
    X(BNT_TAP_OUTPUT_NORM, "output_norm", false, "the last residual stream, normed")               \
    X(BNT_TAP_LOGITS, "logits", false, "one number for each token of the vocabulary")

enum bnt_tap_op {
#define BNT_TAP_ID(id, name, in_layer, what) id,
    BNT_TAP_TABLE(BNT_TAP_ID)
#undef BNT_TAP_ID
        BNT_TAP_N_OPS
};

struct bnt_tap_row {
    enum bnt_tap_op op;
    int32_t layer;       /* -1: the op belongs to no layer */
    uint32_t sequence;   /* of the session, from 0 */
    uint32_t position;   /* of the token in its sequence, from 0 */
    uint32_t n;          /* elements */
    const float *values; /* valid during the call */
};

/* Called in the thread of eval. It may not call the session. */
typedef void bnt_tap_fn(void *ctx, const struct bnt_tap_row *row);

struct bnt_tap {
    bnt_tap_fn *row; /* NULL: no tap */
    void *ctx;
};

/* From the next eval on; NULL takes the tap away. */
void bnt_session_set_tap(struct bnt_session *s, const struct bnt_tap *tap);

const char *bnt_tap_name(enum bnt_tap_op op);
const char *bnt_tap_what(enum bnt_tap_op op);
bool bnt_tap_in_layer(enum bnt_tap_op op);
/* BNT_TAP_N_OPS when no op has this name. */
enum bnt_tap_op bnt_tap_find(const char *name);

#endif
