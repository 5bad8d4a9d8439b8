#include "engine/convert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "engine/hf_source.h"
#include "engine/hf_vocab.h"
#include "engine/quantize_file.h"

enum { NAME_BYTES = 160 };

enum dim { ONE, EMBD, FF, Q, KV, HEAD, VOCAB };

/* A tensor of the family: its name there ("self_attn.q_proj.weight", below model.layers.N.) and
 * another by which older checkpoints have it, and its name here, without "blk.N.". */
struct rule {
    const char *theirs, *older, *ours;
    enum dim rows, cols;
    enum { LAYER, LINEAR, SUB_NORM, HEAD_NORM, BIAS } kind;
};

static const struct rule layer_rules[] = {
    {"input_layernorm.weight", NULL, "attn_norm.weight", ONE, EMBD, LAYER},
    {"self_attn.q_proj.weight", NULL, "attn_q.weight", Q, EMBD, LINEAR},
    {"self_attn.q_proj.bias", NULL, "attn_q.bias", ONE, Q, BIAS},
    {"self_attn.k_proj.weight", NULL, "attn_k.weight", KV, EMBD, LINEAR},
    {"self_attn.k_proj.bias", NULL, "attn_k.bias", ONE, KV, BIAS},
    {"self_attn.v_proj.weight", NULL, "attn_v.weight", KV, EMBD, LINEAR},
    {"self_attn.v_proj.bias", NULL, "attn_v.bias", ONE, KV, BIAS},
    {"self_attn.q_norm.weight", NULL, "attn_q_norm.weight", ONE, HEAD, HEAD_NORM},
    {"self_attn.k_norm.weight", NULL, "attn_k_norm.weight", ONE, HEAD, HEAD_NORM},
    {"self_attn.attn_sub_norm.weight", "self_attn.inner_attn_ln.weight", "attn_sub_norm.weight",
     ONE, Q, SUB_NORM},
    {"self_attn.o_proj.weight", NULL, "attn_output.weight", EMBD, Q, LINEAR},
    {"self_attn.o_proj.bias", NULL, "attn_output.bias", ONE, EMBD, BIAS},
    {"post_attention_layernorm.weight", NULL, "ffn_norm.weight", ONE, EMBD, LAYER},
    {"mlp.gate_proj.weight", NULL, "ffn_gate.weight", FF, EMBD, LINEAR},
    {"mlp.gate_proj.bias", NULL, "ffn_gate.bias", ONE, FF, BIAS},
    {"mlp.up_proj.weight", NULL, "ffn_up.weight", FF, EMBD, LINEAR},
    {"mlp.up_proj.bias", NULL, "ffn_up.bias", ONE, FF, BIAS},
    {"mlp.ffn_sub_norm.weight", "mlp.ffn_layernorm.weight", "ffn_sub_norm.weight", ONE, FF,
     SUB_NORM},
    {"mlp.down_proj.weight", NULL, "ffn_down.weight", EMBD, FF, LINEAR},
    {"mlp.down_proj.bias", NULL, "ffn_down.bias", ONE, EMBD, BIAS},
};
#define N_RULES (sizeof layer_rules / sizeof layer_rules[0])

struct converting {
    const char *dir;
    const struct bnt_convert_options *o;
    struct hf_config config;
    struct safetensors files;
    struct hf_source source;
    struct mwrite m;
    enum tensor_type embedding;
    bool *used;          /* of files.tensors */
    bool packed;         /* some were */
    float *rope_factors; /* or NULL */
};

static uint64_t size_of(const struct hf_config *c, enum dim d)
{
    const uint64_t head = c->head_dim;
    const uint64_t sizes[] = {1,    c->n_embd, c->n_ff, c->n_head * head, c->n_head_kv * head,
                              head, c->n_vocab};
    return sizes[d];
}

/* ---- one tensor ---- */

static const struct st_tensor *take(struct converting *v, const char *name)
{
    const struct st_tensor *t = safetensors_find(&v->files, name);
    if (t) {
        v->used[t - v->files.tensors] = true;
    }
    return t;
}

static enum bnt_status wrong(const struct converting *v, const struct st_tensor *t,
                             const char *what, struct bnt_err *err)
{
    char shape[100];
    int n = snprintf(shape, sizeof shape, t->n_dims ? "" : "one number");
    for (int i = 0; i < t->n_dims; i++) {
        n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%llu", i ? " x " : "",
                      (unsigned long long)t->shape[i]);
    }
    return bnt_err_set(err, BNT_E_FILE, "%s: tensor %s (%s, %s): %s", v->files.shards[t->file].path,
                       t->name, t->dtype_name, shape, what);
}

/* The scale beside a packed matrix: one number, which multiplies or divides. */
static enum bnt_status read_scale(struct converting *v, const struct st_tensor *t, float *scale,
                                  struct bnt_err *err)
{
    char name[NAME_BYTES + 8];
    snprintf(name, sizeof name, "%s_scale", t->name);
    const struct st_tensor *s = take(v, name);
    size_t which;
    bool divide = v->o->scale == BNT_SCALE_AUTO ? v->config.scale == HF_SCALE_DIVIDE
                                                : v->o->scale == BNT_SCALE_DIVIDE;
    if (!s) {
        return wrong(v, t, "it is packed, but has no weight_scale beside it", err);
    }
    if (s->dtype > ST_BF16 || s->shape[0] * s->shape[1] * s->shape[2] * s->shape[3] != 1) {
        return wrong(v, s, "a weight_scale is one number", err);
    }
    const struct hf_rows one = {.tensor = s, .rows = 1, .cols = 1};
    enum bnt_status st = hf_source_add(&v->source, &one, &which, err);
    if (st == BNT_OK) {
        st = v->source.source.floats(&v->source, which, 0, 1, scale, err);
    }
    *scale = divide != BNT_FAULT(weight_scale) ? 1 / *scale : *scale;
    bool sound = isfinite(*scale) && *scale > 0;
    return st == BNT_OK && !sound ? wrong(v, s, "its value is no scale", err) : st;
}

/* Shape and dtype are what the family derives. */
static enum bnt_status check_tensor(struct converting *v, const struct st_tensor *t,
                                    struct hf_rows *h, bool linear, struct bnt_err *err)
{
    const bool vector = h->rows == 1;
    h->packed = t->dtype == ST_U8 && linear;
    uint64_t rows = h->packed ? h->rows / 4 : h->rows;
    bool fits = vector ? t->n_dims == 1 && t->shape[0] == h->cols
                       : t->n_dims == 2 && t->shape[0] == rows && t->shape[1] == h->cols &&
                             (!h->packed || h->rows % 4 == 0);
    if (!fits) {
        char what[120];
        if (vector) {
            snprintf(what, sizeof what, "config.json derives %llu", (unsigned long long)h->cols);
        } else {
            snprintf(what, sizeof what, "config.json derives %llu x %llu",
                     (unsigned long long)h->rows, (unsigned long long)h->cols);
        }
        return wrong(v, t, what, err);
    }
    if (t->dtype > ST_BF16 && !h->packed) {
        return wrong(
            v, t, linear ? "F32, F16, BF16 and packed U8 are read" : "F32, F16 and BF16 are read",
            err);
    }
    v->packed = v->packed || h->packed;
    return h->packed ? read_scale(v, t, &h->scale, err) : BNT_OK;
}

static enum bnt_status add(struct converting *v, const char *ours, enum tensor_type type,
                           struct hf_rows *h, struct bnt_err *err)
{
    const struct gguf_str name = {ours, strlen(ours)};
    struct mwrite_tensor to = {.linear = tensor_role(name) == ROLE_LINEAR};
    snprintf(to.name, sizeof to.name, "%s", ours);
    to.item = (struct recode_item){.from = &v->source.source,
                                   .rows = h->rows,
                                   .cols = h->cols,
                                   .ternary = h->packed,
                                   .to = type};
    enum bnt_status st = hf_source_add(&v->source, h, &to.item.which, err);
    return st == BNT_OK ? mwrite_add(&v->m, &to, err) : st;
}

static enum bnt_status missing(const struct converting *v, const char *name, struct bnt_err *err)
{
    return bnt_err_set(err, BNT_E_FILE, "%s: tensor %s is missing, %s needs it", v->dir, name,
                       v->config.arch->name);
}

/* ---- the tensors of a family ---- */

/* Biases that config.json does not speak of are taken where they are. */
static bool is_wanted(const struct converting *v, const struct rule *r)
{
    const struct hf_config *c = &v->config;
    return r->kind == SUB_NORM    ? c->arch->sub_norms
           : r->kind == HEAD_NORM ? c->arch->head_norms
           : r->kind != BIAS      ? true
           : r->theirs[0] == 's'  ? c->attention_bias
                                  : c->mlp_bias;
}

/* LLaMA's heads are rotated by neighbours in a GGUF file, by halves in a checkpoint. */
static uint32_t permuted_heads(const struct converting *v, const struct rule *r)
{
    bool rotated = strncmp(r->ours, "attn_q", 6) == 0 || strncmp(r->ours, "attn_k", 6) == 0;
    if (!rotated || v->config.arch->rope != ROPE_NORM) {
        return 0;
    }
    return r->ours[5] == 'q' ? v->config.n_head : v->config.n_head_kv;
}

static enum bnt_status add_vector_or_matrix(struct converting *v, const struct rule *r,
                                            uint32_t layer, const struct st_tensor *t,
                                            struct bnt_err *err)
{
    char ours[NAME_BYTES];
    uint32_t heads = permuted_heads(v, r);
    bool linear = r->kind == LINEAR;
    struct hf_rows h = {
        .tensor = t, .rows = size_of(&v->config, r->rows), .cols = size_of(&v->config, r->cols)};
    snprintf(ours, sizeof ours, "blk.%u.%s", layer, r->ours);
    enum bnt_status st = check_tensor(v, t, &h, linear, err);
    h.n_head = heads;
    return st == BNT_OK ? add(v, ours, linear ? v->m.type : TENSOR_F32, &h, err) : st;
}

static enum bnt_status add_layer(struct converting *v, uint32_t layer, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < N_RULES; i++) {
        const struct rule *r = &layer_rules[i];
        char name[NAME_BYTES], older[NAME_BYTES];
        snprintf(name, sizeof name, "model.layers.%u.%s", layer, r->theirs);
        snprintf(older, sizeof older, "model.layers.%u.%s", layer, r->older ? r->older : "");
        const struct st_tensor *t = take(v, name);
        t = t ? t : r->older ? take(v, older) : NULL;
        if (t) {
            st = add_vector_or_matrix(v, r, layer, t, err);
        } else if (is_wanted(v, r)) {
            st = missing(v, name, err);
        }
    }
    return st;
}

static enum bnt_status add_top(struct converting *v, const char *theirs, const char *ours,
                               enum tensor_type type, uint64_t rows, struct bnt_err *err)
{
    const struct st_tensor *t = take(v, theirs);
    struct hf_rows h = {.tensor = t, .rows = rows, .cols = v->config.n_embd};
    enum bnt_status st = t ? check_tensor(v, t, &h, false, err) : missing(v, theirs, err);
    return st == BNT_OK ? add(v, ours, type, &h, err) : st;
}

/* Of values that stay where they are until the file is written. */
static enum bnt_status add_factors(struct converting *v, const char *name, const float *values,
                                   struct bnt_err *err)
{
    struct hf_rows h = {.memory = values, .rows = 1, .cols = v->config.head_dim / 2};
    return add(v, name, TENSOR_F32, &h, err);
}

static enum bnt_status add_rope_factors(struct converting *v, struct bnt_err *err)
{
    uint64_t n = v->config.head_dim / 2;
    if (strcmp(v->config.rope_type, "longrope") == 0) {
        enum bnt_status st = add_factors(v, "rope_factors_long.weight", v->config.rope_long, err);
        return st == BNT_OK ? add_factors(v, "rope_factors_short.weight", v->config.rope_short, err)
                            : st;
    }
    if (strcmp(v->config.rope_type, "llama3") != 0) {
        return BNT_OK;
    }
    v->rope_factors = malloc((size_t)n * sizeof *v->rope_factors);
    if (!v->rope_factors) {
        return bnt_err_nomem(err, "rope factors", n * sizeof *v->rope_factors);
    }
    hf_rope_factors(&v->config, v->rope_factors);
    return add_factors(v, "rope_freqs.weight", v->rope_factors, err);
}

/* What was there and was not taken would be lost without a word. */
static enum bnt_status check_used(const struct converting *v, struct bnt_err *err)
{
    for (size_t i = 0; i < v->files.n_tensors; i++) {
        const char *name = v->files.tensors[i].name;
        bool derived = strstr(name, "rotary_emb.inv_freq") != NULL ||
                       (v->config.tied && strcmp(name, "lm_head.weight") == 0);
        if (!v->used[i] && !derived) {
            return bnt_err_set(err, BNT_E_UNSUPPORTED,
                               "%s: tensor %s is there, but %s has no place for it", v->dir, name,
                               v->config.arch->name);
        }
    }
    return BNT_OK;
}

static enum bnt_status add_tensors(struct converting *v, struct bnt_err *err)
{
    enum bnt_status st = add_top(v, "model.embed_tokens.weight", "token_embd.weight", v->embedding,
                                 v->config.n_vocab, err);
    for (uint32_t layer = 0; st == BNT_OK && layer < v->config.n_layer; layer++) {
        st = add_layer(v, layer, err);
    }
    if (st == BNT_OK) {
        st = add_top(v, "model.norm.weight", "output_norm.weight", TENSOR_F32, 1, err);
    }
    if (st == BNT_OK && !v->config.tied) {
        st = add_top(v, "lm_head.weight", "output.weight", v->embedding, v->config.n_vocab, err);
    }
    if (st == BNT_OK) {
        st = add_rope_factors(v, err);
    }
    return st == BNT_OK ? check_used(v, err) : st;
}

/* ---- the whole ---- */

/* The file to be written is none of those that are read. */
static enum bnt_status check_target(const struct converting *v, const char *to, struct bnt_err *err)
{
    for (size_t i = 0; i < v->files.n_shards; i++) {
        if (bnt_same_file(v->files.shards[i].path, to)) {
            bnt_err_hint(err, "name another file to write");
            return bnt_err_set(err, BNT_E_USAGE, "%s is a file that is read", to);
        }
    }
    return BNT_OK;
}

/* The last part of a folder's path, without a slash at its end. */
static void folder_name(const char *dir, char out[NAME_BYTES])
{
    size_t end = strlen(dir);
    while (end > 0 && dir[end - 1] == '/') {
        end--;
    }
    size_t begin = end;
    while (begin > 0 && dir[begin - 1] != '/') {
        begin--;
    }
    snprintf(out, NAME_BYTES, "%.*s", (int)(end - begin < 150 ? end - begin : 150), dir + begin);
}

static enum bnt_status put_keys(struct converting *v, struct bnt_err *err)
{
    char name[NAME_BYTES];
    folder_name(v->dir, name);
    enum bnt_status st = hf_config_put(&v->config, v->o->name ? v->o->name : name, &v->m.plan, err);
    const struct hf_vocab_options o = {
        .pre = v->o->pre, .warn = v->o->warn, .warn_ctx = v->o->warn_ctx};
    return st == BNT_OK ? hf_vocab_put(v->dir, &v->config, &o, &v->m.plan, err) : st;
}

static enum bnt_status choose_types(struct converting *v, struct bnt_err *err)
{
    const struct tensor_type_info *type = v->o->type;
    enum tensor_type linear = type ? type->type : v->config.bitnet ? TENSOR_I2_S : TENSOR_F16;
    mwrite_init(&v->m, linear);
    v->m.tiles = v->o->tiles;
    v->m.n_tiles = v->o->n_tiles;
    v->m.half_scales = v->o->half_scales;
    v->m.interrupted = v->o->interrupted;
    v->m.progress = v->o->progress;
    v->m.ctx = v->o->ctx;
    v->embedding = v->o->embedding ? v->o->embedding->type : TENSOR_F16;
    bool can = tensor_type_info((uint32_t)linear)->ternary || quantize_row_can(linear);
    return can && quantize_row_can(v->embedding)
               ? BNT_OK
               : bnt_err_set(err, BNT_E_UNSUPPORTED, "no weights of type %s can be written",
                             tensor_type_name((uint32_t)(can ? v->embedding : linear)));
}

static enum bnt_status run(struct converting *v, const char *to, struct bnt_convert_report *out,
                           struct bnt_err *err)
{
    enum bnt_status st = choose_types(v, err);
    if (st == BNT_OK) {
        st = safetensors_open(v->dir, &v->files, err);
    }
    if (st == BNT_OK) {
        st = check_target(v, to, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    hf_source_init(&v->source, &v->files);
    v->used = calloc(v->files.n_tensors + 1, sizeof *v->used);
    st = v->used ? put_keys(v, err) : bnt_err_nomem(err, "tensors", v->files.n_tensors);
    if (st == BNT_OK) {
        st = add_tensors(v, err);
    }
    if (st == BNT_OK) {
        st = mwrite_survey(&v->m, err);
    }
    if (st == BNT_OK) {
        st = quantize_check_trained(&v->m, v->dir, v->config.arch->name,
                                    v->o->force || v->config.bitnet, err);
    }
    return st == BNT_OK ? mwrite_run(&v->m, to, &out->file, err) : st;
}

enum bnt_status bnt_convert(const char *dir, const char *to, const struct bnt_convert_options *o,
                            struct bnt_convert_report *out, struct bnt_err *err)
{
    struct converting *v = calloc(1, sizeof *v);
    if (!v) {
        return bnt_err_nomem(err, "a conversion", sizeof *v);
    }
    v->dir = dir;
    v->o = o;
    enum bnt_status st = hf_config_load(dir, &v->config, err);
    if (st == BNT_OK) {
        st = run(v, to, out, err);
        out->arch = v->config.arch->name;
        out->type = tensor_type_name((uint32_t)v->m.type);
        out->packed = v->packed;
        mwrite_release(&v->m);
    }
    safetensors_close(&v->files);
    hf_source_release(&v->source);
    free(v->used);
    free(v->rope_factors);
    free(v);
    return st;
}
