#include "engine/shape.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct shape_rule shape_rules[] = {
    {"token_embd.weight", false, SHAPE_EMBEDDING, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_VOCAB},
    {"attn_norm.weight", true, SHAPE_NORM, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_ONE},
    {"attn_q.weight", true, SHAPE_LINEAR, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_Q},
    {"attn_q.bias", true, SHAPE_BIAS, SHAPE_QKV_BIAS, SHAPE_Q, SHAPE_ONE},
    {"attn_q.scale", true, SHAPE_SCALE, SHAPE_OPTIONAL, SHAPE_ONE, SHAPE_ONE},
    {"attn_k.weight", true, SHAPE_LINEAR, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_KV},
    {"attn_k.bias", true, SHAPE_BIAS, SHAPE_QKV_BIAS, SHAPE_KV, SHAPE_ONE},
    {"attn_k.scale", true, SHAPE_SCALE, SHAPE_OPTIONAL, SHAPE_ONE, SHAPE_ONE},
    {"attn_v.weight", true, SHAPE_LINEAR, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_KV},
    {"attn_v.bias", true, SHAPE_BIAS, SHAPE_QKV_BIAS, SHAPE_KV, SHAPE_ONE},
    {"attn_v.scale", true, SHAPE_SCALE, SHAPE_OPTIONAL, SHAPE_ONE, SHAPE_ONE},
    {"attn_q_norm.weight", true, SHAPE_NORM, SHAPE_HEAD_NORMS, SHAPE_HEAD, SHAPE_ONE},
    {"attn_k_norm.weight", true, SHAPE_NORM, SHAPE_HEAD_NORMS, SHAPE_HEAD, SHAPE_ONE},
    {"attn_sub_norm.weight", true, SHAPE_NORM, SHAPE_SUB_NORMS, SHAPE_Q, SHAPE_ONE},
    {"attn_output.weight", true, SHAPE_LINEAR, SHAPE_ALWAYS, SHAPE_Q, SHAPE_EMBD},
    {"attn_output.scale", true, SHAPE_SCALE, SHAPE_OPTIONAL, SHAPE_ONE, SHAPE_ONE},
    {"ffn_norm.weight", true, SHAPE_NORM, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_ONE},
    {"ffn_gate.weight", true, SHAPE_LINEAR, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_FF},
    {"ffn_gate.scale", true, SHAPE_SCALE, SHAPE_OPTIONAL, SHAPE_ONE, SHAPE_ONE},
    {"ffn_up.weight", true, SHAPE_LINEAR, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_FF},
    {"ffn_up.scale", true, SHAPE_SCALE, SHAPE_OPTIONAL, SHAPE_ONE, SHAPE_ONE},
    {"ffn_sub_norm.weight", true, SHAPE_NORM, SHAPE_SUB_NORMS, SHAPE_FF, SHAPE_ONE},
    {"ffn_down.weight", true, SHAPE_LINEAR, SHAPE_ALWAYS, SHAPE_FF, SHAPE_EMBD},
    {"ffn_down.scale", true, SHAPE_SCALE, SHAPE_OPTIONAL, SHAPE_ONE, SHAPE_ONE},
    {"output_norm.weight", false, SHAPE_NORM, SHAPE_ALWAYS, SHAPE_EMBD, SHAPE_ONE},
    {"output.weight", false, SHAPE_EMBEDDING, SHAPE_OPTIONAL, SHAPE_EMBD, SHAPE_VOCAB},
    {"rope_freqs.weight", false, SHAPE_FREQS, SHAPE_OPTIONAL, SHAPE_FACTORS, SHAPE_ONE},
    {"rope_factors_short.weight", false, SHAPE_FREQS, SHAPE_OPTIONAL, SHAPE_FACTORS, SHAPE_ONE},
    {"rope_factors_long.weight", false, SHAPE_FREQS, SHAPE_OPTIONAL, SHAPE_FACTORS, SHAPE_ONE},
    {0},
};

/* "blk.12." in front of a name; false when there is none. */
static bool take_layer(struct gguf_str *name, uint32_t *layer)
{
    char digits[8] = "";
    if (name->len < 6 || memcmp(name->data, "blk.", 4) != 0) {
        return false;
    }
    const char *dot = memchr(name->data + 4, '.', name->len - 4);
    size_t n = dot ? (size_t)(dot - (name->data + 4)) : 0;
    if (n == 0 || n >= sizeof digits) {
        return false;
    }
    memcpy(digits, name->data + 4, n);
    char *end;
    *layer = (uint32_t)strtoul(digits, &end, 10);
    name->len -= (size_t)(dot + 1 - name->data);
    name->data = dot + 1;
    return *end == '\0';
}

const struct shape_rule *shape_find(struct gguf_str name, uint32_t *layer)
{
    *layer = UINT32_MAX;
    bool in_layer = take_layer(&name, layer);
    for (const struct shape_rule *r = shape_rules; r->name; r++) {
        if (r->per_layer == in_layer && gguf_str_eq(name, r->name)) {
            return r;
        }
    }
    return NULL;
}

const char *shape_dim_name(enum shape_dim dim)
{
    static const char *const names[SHAPE_N_DIMS] = {
        "1",        "n_embd", "n_ff", "n_vocab", "n_head*head_dim", "n_head_kv*head_dim",
        "head_dim", "n_rot/2"};
    return names[dim];
}

bool shape_wanted(const struct shape_rule *r, const struct arch *arch)
{
    return r->where == SHAPE_ALWAYS || (r->where == SHAPE_SUB_NORMS && arch->sub_norms) ||
           (r->where == SHAPE_QKV_BIAS && arch->qkv_bias) ||
           (r->where == SHAPE_HEAD_NORMS && arch->head_norms);
}

/* <arch>.<suffix>, or the fallback when it is not there; 0 stands for none. */
static uint64_t number(const struct gguf *g, const char *arch, const char *suffix,
                       uint64_t fallback)
{
    char key[160];
    uint64_t v;
    snprintf(key, sizeof key, "%s.%s", arch, suffix);
    return gguf_get_u64(g, key, &v) ? v : fallback;
}

enum bnt_status shape_read(const struct gguf *g, const char *arch, struct shape_dims *out,
                           struct bnt_err *err)
{
    const struct gguf_tensor *embd = gguf_find_tensor(g, "token_embd.weight");
    uint64_t n_embd = number(g, arch, "embedding_length", 0);
    uint64_t n_head = number(g, arch, "attention.head_count", 0);
    uint64_t n_layer = number(g, arch, "block_count", 0);
    uint64_t n_ff = number(g, arch, "feed_forward_length", 0);
    if (!embd || n_embd == 0 || n_head == 0 || n_layer == 0 || n_ff == 0 || n_layer > 1024 ||
        n_head > 65536 || n_embd > 1u << 24) {
        return gguf_fail(err, GGUF_FAULT_MISSING_METADATA,
                         "%s: layers, widths or heads of %s are missing or absurd", g->path, arch);
    }
    uint64_t head_dim = number(g, arch, "attention.key_length", n_embd / n_head);
    uint64_t n_rot = number(g, arch, "rope.dimension_count", head_dim);
    *out = (struct shape_dims){
        .n = {[SHAPE_ONE] = 1,
              [SHAPE_EMBD] = n_embd,
              [SHAPE_FF] = n_ff,
              [SHAPE_VOCAB] = embd->ne[1],
              [SHAPE_Q] = n_head * head_dim,
              [SHAPE_KV] = number(g, arch, "attention.head_count_kv", n_head) * head_dim,
              [SHAPE_HEAD] = head_dim,
              [SHAPE_FACTORS] = n_rot / 2},
        .n_layer = (uint32_t)n_layer};
    return BNT_OK;
}
