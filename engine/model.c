/* Opening a model: hyper-parameters from the metadata, tensors bound by name, memory planned before
 * anything large is touched. A file that lacks what its architecture needs is refused by the name
 * of what is missing. */
#include "engine/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/sysinfo.h"
#include "engine/backend.h"
#include "engine/columns.h"
#include "engine/fives.h"
#include "engine/tl_tiles.h"

enum { KEY_BYTES = 160 };

/* ---- hyper-parameters ---- */

static enum bnt_status key_u32(const struct bnt_model *m, const char *suffix, uint32_t max,
                               const uint32_t *fallback, uint32_t *out, struct bnt_err *err)
{
    char key[KEY_BYTES];
    uint64_t v;
    snprintf(key, sizeof key, "%s.%s", m->arch->name, suffix);
    if (!gguf_get_u64(m->gguf, key, &v)) {
        if (!fallback || gguf_find(m->gguf, key)) {
            return gguf_fail(err, GGUF_FAULT_MISSING_METADATA, "%s: metadata key %s is %s",
                             m->gguf->path, key,
                             gguf_find(m->gguf, key) ? "not a whole number" : "missing");
        }
        *out = *fallback;
        return BNT_OK;
    }
    if (v == 0 || v > max) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s is %llu, must be from 1 to %u",
                         m->gguf->path, key, (unsigned long long)v, max);
    }
    *out = (uint32_t)v;
    return BNT_OK;
}

static enum bnt_status read_architecture(struct bnt_model *m, struct bnt_err *err)
{
    struct gguf_str name;
    if (!gguf_get_str(m->gguf, "general.architecture", &name)) {
        return gguf_fail(err, GGUF_FAULT_MISSING_METADATA,
                         "%s: metadata key general.architecture is missing", m->gguf->path);
    }
    m->arch = arch_find(name.data, name.len);
    if (!m->arch) {
        return gguf_fail(err, GGUF_FAULT_ARCHITECTURE,
                         "%s: architecture '%.*s' is not known here; known are %s", m->gguf->path,
                         name.len > 64 ? 64 : (int)name.len, name.data, arch_names());
    }
    m->info.arch = m->arch->name;
    return BNT_OK;
}

static enum bnt_status check_heads(const struct bnt_model *m, uint32_t value_length,
                                   struct bnt_err *err)
{
    const struct bnt_model_info *in = &m->info;
    if (in->n_head % in->n_head_kv != 0) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS,
                         "%s: %u heads cannot share %u key/value heads evenly", m->gguf->path,
                         in->n_head, in->n_head_kv);
    }
    if (value_length != in->head_dim) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS, "%s: key length %u and value length %u differ",
                         m->gguf->path, in->head_dim, value_length);
    }
    return BNT_OK;
}

static enum bnt_status read_epsilon(struct bnt_model *m, struct bnt_err *err)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.attention.layer_norm_rms_epsilon", m->arch->name);
    if (!gguf_get_f64(m->gguf, key, &m->info.rms_eps)) {
        return gguf_fail(err, GGUF_FAULT_MISSING_METADATA, "%s: metadata key %s is missing",
                         m->gguf->path, key);
    }
    if (!(m->info.rms_eps >= 0 && m->info.rms_eps < 1)) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s is %g", m->gguf->path, key,
                         m->info.rms_eps);
    }
    return BNT_OK;
}

/* MiniCPM, section 4.1 of its report: rows of the embedding times 12, what joins the residual
 * stream times 1.4 / sqrt(layers), logits times 256 / width; newer files say which (logits are
 * divided by logit_scale). */
static enum bnt_status read_factors(struct bnt_model *m, struct bnt_err *err)
{
    double divisor = m->info.n_embd / 256.0;
    m->factors = (struct model_factors){1, 1, 1};
    if (!m->arch->scaled) {
        return BNT_OK;
    }
    m->factors = (struct model_factors){.embedding = 12, .residual = 1.4 / sqrt(m->info.n_layer)};
    const struct {
        const char *suffix;
        double *value;
    } rows[] = {{"embedding_scale", &m->factors.embedding},
                {"residual_scale", &m->factors.residual},
                {"logit_scale", &divisor}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char key[KEY_BYTES];
        snprintf(key, sizeof key, "%s.%s", m->arch->name, rows[i].suffix);
        if (gguf_find(m->gguf, key) && !gguf_get_number(m->gguf, key, rows[i].value)) {
            *rows[i].value = NAN;
        }
        if (!(*rows[i].value > 0 && *rows[i].value < 1e6)) {
            return gguf_fail(err, GGUF_FAULT_BOUNDS, "%s: %s is %g", m->gguf->path, key,
                             *rows[i].value);
        }
    }
    m->factors.logits = 1 / divisor;
    m->factors.residual = BNT_FAULT(family_factor) ? 1 : m->factors.residual;
    return BNT_OK;
}

static enum bnt_status read_hyper_parameters(struct bnt_model *m, struct bnt_err *err)
{
    struct bnt_model_info *in = &m->info;
    uint32_t value_length = 0, default_length = 0;
    enum bnt_status st = key_u32(m, "block_count", MODEL_MAX_LAYERS, NULL, &in->n_layer, err);
    if (st == BNT_OK) {
        st = key_u32(m, "embedding_length", MODEL_MAX_DIM, NULL, &in->n_embd, err);
    }
    if (st == BNT_OK) {
        st = key_u32(m, "feed_forward_length", MODEL_MAX_DIM, NULL, &in->n_ff, err);
    }
    if (st == BNT_OK) {
        st = key_u32(m, "attention.head_count", 65536, NULL, &in->n_head, err);
    }
    if (st == BNT_OK) {
        st = key_u32(m, "attention.head_count_kv", in->n_head, &in->n_head, &in->n_head_kv, err);
    }
    if (st == BNT_OK) {
        st = key_u32(m, "context_length", 1u << 30, NULL, &in->n_ctx_train, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    default_length = in->n_embd / in->n_head;
    st = key_u32(m, "attention.key_length", 65536, &default_length, &in->head_dim, err);
    if (st == BNT_OK) {
        st = key_u32(m, "attention.value_length", 65536, &in->head_dim, &value_length, err);
    }
    if (st == BNT_OK) {
        st = check_heads(m, value_length, err);
    }
    if (st == BNT_OK) {
        st = read_epsilon(m, err);
    }
    if (st == BNT_OK) {
        st = read_factors(m, err);
    }
    if (st == BNT_OK) {
        st = rope_init(&m->rope, m->gguf, m->arch->name, in->head_dim, in->n_ctx_train, err);
        in->rope_theta = m->rope.theta;
        m->attn_scale = (float)(1.0 / sqrt(in->head_dim));
    }
    return st;
}

/* ---- tensors ---- */

/* A loaded vector, or NULL. */
static void scale_vector(struct bnt_model *m, const float *v, uint64_t n, double factor)
{
    float *own = v ? m->norms + (v - m->norms) : NULL;
    for (uint64_t i = 0; own && factor != 1 && i < n; i++) {
        own[i] = (float)(own[i] * factor);
    }
}

/* Rows of the embedding are the vocabulary; everything that quotes the vocabulary must agree. */
static enum bnt_status read_vocabulary_size(struct bnt_model *m, struct bnt_err *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(m->gguf, "token_embd.weight");
    if (!t) {
        return gguf_fail(err, GGUF_FAULT_ARCHITECTURE, "%s: tensor token_embd.weight is missing",
                         m->gguf->path);
    }
    if (t->ne[1] == 0 || t->ne[1] > MODEL_MAX_DIM) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS, "%s: token_embd.weight has %llu rows",
                         m->gguf->path, (unsigned long long)t->ne[1]);
    }
    m->info.n_vocab = (uint32_t)t->ne[1];
    int32_t n_tokens = m->tokenizer ? bnt_tokenizer_n_vocab(m->tokenizer) : 0;
    if (n_tokens > 0 && (uint32_t)n_tokens > m->info.n_vocab) {
        return gguf_fail(err, GGUF_FAULT_TOKENIZER,
                         "%s: the tokenizer has %d tokens, token_embd.weight only %u rows",
                         m->gguf->path, n_tokens, m->info.n_vocab);
    }
    return BNT_OK;
}

struct matrix_row {
    int index;
    const char *name;
    uint64_t rows, cols;
};

static enum bnt_status bind_matrices(struct bnt_model *m, uint32_t il, struct bnt_err *err)
{
    const struct bnt_model_info *in = &m->info;
    uint64_t q_dim = (uint64_t)in->n_head * in->head_dim,
             kv_dim = (uint64_t)in->n_head_kv * in->head_dim;
    const struct matrix_row matrices[N_LAYER_WEIGHTS] = {
        {W_Q, "attn_q", q_dim, in->n_embd},         {W_K, "attn_k", kv_dim, in->n_embd},
        {W_V, "attn_v", kv_dim, in->n_embd},        {W_O, "attn_output", in->n_embd, q_dim},
        {W_GATE, "ffn_gate", in->n_ff, in->n_embd}, {W_UP, "ffn_up", in->n_ff, in->n_embd},
        {W_DOWN, "ffn_down", in->n_embd, in->n_ff},
    };
    enum bnt_status st = BNT_OK;
    for (int i = 0; st == BNT_OK && i < N_LAYER_WEIGHTS; i++) {
        const struct matrix_row *row = &matrices[i];
        struct weight *w = &m->layers[il].w[row->index];
        char name[KEY_BYTES];
        snprintf(name, sizeof name, "blk.%u.%s.weight", il, row->name);
        st = weight_bind(m, name, row->rows, row->cols, w, err);
        if (st == BNT_OK) {
            bool optional = !(m->arch->qkv_bias && row->index <= W_V);
            snprintf(name, sizeof name, "blk.%u.%s.bias", il, row->name);
            st = vector_load(m, name, row->rows, optional, &w->bias, err);
        }
        if (st == BNT_OK && (row->index == W_O || row->index == W_DOWN)) {
            w->out_scale *= (float)m->factors.residual;
            scale_vector(m, w->bias, row->rows, m->factors.residual);
        }
    }
    return st;
}

static enum bnt_status bind_layer(struct bnt_model *m, uint32_t il, struct bnt_err *err)
{
    const struct bnt_model_info *in = &m->info;
    struct layer *layer = &m->layers[il];
    const struct {
        const char *name;
        uint64_t n;
        bool wanted;
        const float **out;
    } norms[] = {
        {"attn_norm", in->n_embd, true, &layer->attn_norm},
        {"ffn_norm", in->n_embd, true, &layer->ffn_norm},
        {"attn_q_norm", in->head_dim, m->arch->head_norms, &layer->q_norm},
        {"attn_k_norm", in->head_dim, m->arch->head_norms, &layer->k_norm},
        {"attn_sub_norm", (uint64_t)in->n_head * in->head_dim, m->arch->sub_norms,
         &layer->attn_sub_norm},
        {"ffn_sub_norm", in->n_ff, m->arch->sub_norms, &layer->ffn_sub_norm},
    };
    enum bnt_status st = bind_matrices(m, il, err);
    if (st == BNT_OK) {
        weights_share_tables(&layer->w[W_Q], 3);
        weights_share_tables(&layer->w[W_GATE], 2);
    }
    for (size_t i = 0; st == BNT_OK && i < sizeof norms / sizeof norms[0]; i++) {
        char name[KEY_BYTES];
        snprintf(name, sizeof name, "blk.%u.%s.weight", il, norms[i].name);
        if (norms[i].wanted) {
            st = vector_load(m, name, norms[i].n, false, norms[i].out, err);
        }
    }
    return st;
}

/* Float room for all norms, biases and scales: every tensor that is a vector. */
static enum bnt_status reserve_norms(struct bnt_model *m, struct bnt_err *err)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->gguf->n_tensors; i++) {
        const struct gguf_tensor *t = &m->gguf->tensors[i];
        if (t->ne[1] == 1 && t->ne[2] == 1 && t->ne[3] == 1) {
            n += t->ne[0];
        }
    }
    m->norms = malloc((size_t)n * sizeof *m->norms + 1);
    m->norms_size = (size_t)n;
    return m->norms ? BNT_OK : bnt_err_nomem(err, "norms", n * sizeof *m->norms);
}

static enum bnt_status bind_embedding(struct bnt_model *m, const char *name, struct weight *w,
                                      struct bnt_err *err)
{
    enum bnt_status st = weight_bind(m, name, m->info.n_vocab, m->info.n_embd, w, err);
    if (st == BNT_OK && tensor_row_bytes(w->tensor->type, w->cols) == 0) {
        return gguf_fail(err, GGUF_FAULT_UNSUPPORTED_TYPE,
                         "%s: tensor %s is %s; an embedding or a head is a float type",
                         m->gguf->path, name, tensor_type_info(w->tensor->type)->name);
    }
    if (st == BNT_OK && (w->ternary || m->dequantize)) {
        /* Rows are looked up one by one: keep the file's form. */
        w->ternary = w->look_up = false;
        w->native = true;
        w->type = w->tensor->type;
        w->row_bytes = w->tensor->size / w->rows;
    }
    return st;
}

static enum bnt_status bind_tensors(struct bnt_model *m, struct bnt_err *err)
{
    struct bnt_model_info *in = &m->info;
    enum bnt_status st = reserve_norms(m, err);
    if (st == BNT_OK) {
        st = one_scale_open(m, err);
    }
    if (st == BNT_OK) {
        st = bind_embedding(m, "token_embd.weight", &m->embd, err);
    }
    in->tied_head = gguf_find_tensor(m->gguf, "output.weight") == NULL;
    if (st == BNT_OK && in->tied_head) {
        m->head = m->embd;
    } else if (st == BNT_OK) {
        st = bind_embedding(m, "output.weight", &m->head, err);
    }
    m->embd.out_scale = (float)m->factors.embedding;
    if (st == BNT_OK) {
        st = vector_load(m, "output_norm.weight", in->n_embd, false, &m->output_norm, err);
    }
    if (st == BNT_OK) {
        scale_vector(m, m->output_norm, in->n_embd, m->factors.logits);
    }
    m->layers = calloc(in->n_layer, sizeof *m->layers);
    if (st == BNT_OK && !m->layers) {
        st = bnt_err_nomem(err, "layers", in->n_layer * sizeof *m->layers);
    }
    for (uint32_t il = 0; st == BNT_OK && il < in->n_layer; il++) {
        st = bind_layer(m, il, err);
    }
    return st;
}

void model_set_i2s_layout(struct bnt_model *m, enum i2s_layout layout)
{
    m->i2s_layout = layout;
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            struct weight *w = &m->layers[il].w[i];
            if (w->tensor->type == TENSOR_I2_S) {
                w->native = w->ternary && layout == I2S_X86 && w->cols % 128 == 0;
            }
        }
    }
    m->info.i2s_layout = i2s_layout_name(layout);
}

/* ---- memory ---- */

/* Bytes of all weights once they are resident, mapped ones included. */
static uint64_t resident_bytes(const struct bnt_model *m)
{
    uint64_t sum = m->screened ? screen_bytes(&m->head) : 0;
    sum += m->narrowed ? narrow_bytes(&m->head) : 0;
    sum += m->by_columns ? columns_bytes(m) : 0;
    sum += m->by_fives ? fives_bytes(m) : 0;
    sum += weight_bytes(&m->embd) + (m->info.tied_head ? 0 : weight_bytes(&m->head));
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            sum += weight_bytes(&m->layers[il].w[i]);
        }
    }
    return sum;
}

/* What is held besides weights and sessions: metadata, vocabulary, norms, the program itself, and
 * mapped pages between their copying and their release. */
static uint64_t fixed_bytes(const struct bnt_model *m)
{
    return m->gguf->data_offset * 3 + m->norms_size * sizeof(float) + (32u << 20);
}

uint64_t bnt_model_memory_need(const struct bnt_model *m, const struct bnt_session_options *opts)
{
    struct bnt_session_options none = {0};
    uint64_t weights =
        m->info.streamed ? 0 : resident_bytes(m); /* streaming buffers belong to the session */
    return fixed_bytes(m) + weights + backend_cpu_memory(m, opts ? opts : &none);
}

static bool has_i2s(const struct bnt_model *m)
{
    for (uint64_t i = 0; i < m->gguf->n_tensors; i++) {
        if (m->gguf->tensors[i].type == TENSOR_I2_S) {
            return true;
        }
    }
    return false;
}

/* Streaming buffers can take more than the layers of a small model: the lesser need is told, in
 * megabytes that would do. whole: UINT64_MAX where layers cannot be resident. */
static enum bnt_status too_little(const struct bnt_model *m, uint64_t whole, uint64_t streamed,
                                  struct bnt_err *err)
{
    const uint64_t mb = 1000000, need = whole < streamed ? whole : streamed;
    bnt_err_set(err, BNT_E_MEMORY, "%s: needs %llu MB of memory%s, the limit is %llu MB",
                m->gguf->path, (unsigned long long)((need + mb - 1) / mb),
                need == streamed ? " even when layers are streamed" : "",
                (unsigned long long)(m->memory_limit / mb));
    bnt_err_hint(err, "raise --memory-limit, or take a smaller --ctx");
    return BNT_E_MEMORY;
}

static bool computes_on_cpu(const struct bnt_model_options *opts)
{
    const char *device = opts->session ? opts->session->device : NULL;
    return !device || strcmp(device, "cpu") == 0;
}

/* Whether a small copy of the head is wanted and possible, memory left out of account. */
static bool wants_screen(const struct bnt_model *m, const struct bnt_model_options *opts)
{
    bool pays = packed_store_keeps(&m->packs, screen_bytes(&m->head)) && computes_on_cpu(opts);
    return screen_fits(&m->head) &&
           (opts->head == BNT_HEAD_SCREENED || (opts->head == BNT_HEAD_AUTO && pays));
}

static bool wants_columns(const struct bnt_model *m, const struct bnt_model_options *opts)
{
    return columns_fit(m) && computes_on_cpu(opts) &&
           packed_store_keeps(&m->packs, columns_bytes(m));
}

static bool wants_fives(const struct bnt_model *m, const struct bnt_model_options *opts)
{
    return cpu_fives_pay() && fives_bytes(m) > 0 && computes_on_cpu(opts) &&
           packed_store_keeps(&m->packs, fives_bytes(m));
}

static bool wants_narrow(const struct bnt_model *m, const struct bnt_model_options *opts)
{
    return opts->head == BNT_HEAD_NARROW && narrow_may_fit(&m->head) && computes_on_cpu(opts) &&
           packed_store_keeps(&m->packs, narrow_bytes(&m->head));
}

static bool fits_in_memory(const struct bnt_model *m, const struct bnt_model_options *opts)
{
    return m->gguf->mapped && !opts->stream_weights &&
           bnt_model_memory_need(m, opts->session) <= m->memory_limit;
}

/* Who insisted on the copy is told why there is none. */
static void tell_full_head(const struct bnt_model *m, const struct bnt_model_options *opts)
{
    char text[160];
    if (opts->head != BNT_HEAD_SCREENED || m->screened || !opts->warn) {
        return;
    }
    if (screen_fits(&m->head)) {
        snprintf(text, sizeof text,
                 "the output matrix is read in full: its copy of %.0f MB does not fit into memory",
                 (double)screen_bytes(&m->head) / 1e6);
    } else {
        snprintf(text, sizeof text, "the output matrix is read in full: %s cannot be screened",
                 tensor_type_info(m->head.type)->name);
    }
    opts->warn(opts->warn_ctx, text, "the tokens are the same, --head auto says nothing");
}

/* Resident when it fits and the file is mapped, with the small copy of the head if that fits, too;
 * else streamed; else an error with need and have. */
static enum bnt_status plan_memory(struct bnt_model *m, const struct bnt_model_options *opts,
                                   struct bnt_err *err)
{
    m->memory_limit = opts->memory_limit ? opts->memory_limit : bnt_memory_limit();
    m->info.streamed = false;
    m->screened = wants_screen(m, opts);
    m->screened = m->screened && fits_in_memory(m, opts);
    tell_full_head(m, opts);
    m->narrowed = wants_narrow(m, opts);
    m->narrowed = m->narrowed && fits_in_memory(m, opts);
    m->by_columns = wants_columns(m, opts);
    m->by_columns = m->by_columns && fits_in_memory(m, opts);
    m->by_fives = wants_fives(m, opts);
    m->by_fives = m->by_fives && fits_in_memory(m, opts);
    if (m->by_fives || m->by_columns || m->narrowed || m->screened || fits_in_memory(m, opts)) {
        return BNT_OK;
    }
    bool can_map = m->gguf->mapped && !opts->stream_weights;
    uint64_t whole = can_map ? bnt_model_memory_need(m, opts->session) : UINT64_MAX;
    m->info.streamed = true;
    uint64_t streamed = bnt_model_memory_need(m, opts->session);
    return streamed <= m->memory_limit ? BNT_OK : too_little(m, whole, streamed, err);
}

static void release_weights(struct bnt_model *m)
{
    for (uint32_t il = 0; m->layers && il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            weight_release(&m->layers[il].w[i]);
        }
    }
    weight_release(&m->head);
    weight_release(&m->embd);
    packed_release(&m->ternary);
}

/* Nothing to do when weights are streamed. */
static enum bnt_status make_resident(struct bnt_model *m, struct bnt_err *err)
{
    if (m->info.streamed) {
        return BNT_OK;
    }
    enum bnt_status st = weight_make_resident(m, &m->embd, err);
    if (st == BNT_OK && m->info.tied_head) {
        m->head = m->embd;
        m->head.owned = NULL;
    } else if (st == BNT_OK) {
        st = weight_make_resident(m, &m->head, err);
    }
    if (st == BNT_OK) {
        st = packed_ternary_open(m, err);
    }
    for (uint32_t il = 0; st == BNT_OK && il < m->info.n_layer; il++) {
        for (int i = 0; st == BNT_OK && i < N_LAYER_WEIGHTS; i++) {
            st = weight_make_resident(m, &m->layers[il].w[i], err);
        }
    }
    return st;
}

/* Weights in their places, under the packing that was asked for or found. */
static enum bnt_status settle_weights(struct bnt_model *m, const struct bnt_model_options *opts,
                                      struct bnt_err *err)
{
    enum i2s_layout layout = I2S_X86;
    bool relevant = has_i2s(m);
    bool known = opts->i2s_layout && strcmp(opts->i2s_layout, "auto") != 0;
    enum bnt_status st = known ? i2s_layout_parse(opts->i2s_layout, &layout, err) : BNT_OK;
    if (st == BNT_OK && relevant) {
        known = known || i2s_recall(m, opts, &layout);
        model_set_i2s_layout(m, layout);
    }
    if (st == BNT_OK) {
        st = make_resident(m, err);
    }
    if (st == BNT_OK && relevant && !known) {
        st = i2s_detect(m, opts, &layout, err);
    }
    if (st == BNT_OK && layout != m->i2s_layout) {
        release_weights(m);
        model_set_i2s_layout(m, layout);
        st = make_resident(m, err);
    }
    if (st == BNT_OK && m->screened) {
        st = screen_open(m, err);
    }
    if (st == BNT_OK && m->narrowed) {
        st = narrow_open(m, err);
    }
    if (st == BNT_OK && m->by_columns) {
        st = columns_open(m, err);
    }
    return st == BNT_OK && m->by_fives ? fives_open(m, err) : st;
}

/* ---- open, close ---- */

static enum bnt_status describe(struct bnt_model *m, struct bnt_err *err)
{
    struct gguf_str name = {"", 0};
    gguf_get_str(m->gguf, "general.name", &name);
    m->name = strndup(name.data, name.len);
    if (!m->name) {
        return bnt_err_nomem(err, "a name", name.len);
    }
    m->info.name = m->name;
    m->info.file_bytes = m->gguf->file_size;
    m->info.weights = tensor_type_info(m->layers[0].w[W_DOWN].tensor->type)->name;
    for (uint64_t i = 0; i < m->gguf->n_tensors; i++) {
        const uint64_t *ne = m->gguf->tensors[i].ne;
        m->info.n_params += ne[0] * ne[1] * ne[2] * ne[3];
    }
    return BNT_OK;
}

static enum bnt_status open_tokenizer(struct bnt_model *m, const struct bnt_model_options *opts,
                                      struct bnt_err *err)
{
    struct bnt_tokenizer_options t = {
        .pre = opts->pre, .warn = opts->warn, .warn_ctx = opts->warn_ctx};
    return opts->no_tokenizer ? BNT_OK : bnt_tokenizer_new(m->gguf, &t, &m->tokenizer, err);
}

static enum bnt_status open_steps(struct bnt_model *m, const char *path,
                                  const struct bnt_model_options *opts, struct bnt_err *err)
{
    struct bnt_model_options keeping = *opts;
    /* What depends on tiles that the user says is not the file's alone, so it is not kept. */
    keeping.packed_dir = opts->n_tl_tiles > 0 ? NULL : opts->packed_dir;
    enum bnt_status st = packed_store_init(&m->packs, path, &keeping, err);
    if (st == BNT_OK) {
        st = tl_tiles_check(opts->tl_tiles, opts->n_tl_tiles, err);
    }
    m->dequantize = opts->dequantize;
    m->tl_look_up = opts->tl_look_up;
    m->tl_tiles = opts->tl_tiles;
    m->n_tl_tiles = opts->n_tl_tiles;
    if (st == BNT_OK) {
        st = gguf_open(path, GGUF_MODE_AUTO, &m->gguf, err);
    }
    if (st == BNT_OK) {
        st = read_architecture(m, err);
    }
    if (st == BNT_OK) {
        st = read_hyper_parameters(m, err);
    }
    if (st == BNT_OK) {
        st = open_tokenizer(m, opts, err);
    }
    if (st == BNT_OK) {
        st = read_vocabulary_size(m, err);
    }
    if (st == BNT_OK) {
        st = bind_tensors(m, err);
    }
    if (st == BNT_OK) {
        st = plan_memory(m, opts, err);
    }
    if (st == BNT_OK) {
        uint64_t t0 = bnt_clock_now_ns();
        st = settle_weights(m, opts, err);
        packed_finish(&m->packs);
        m->info.pack_ns = bnt_clock_now_ns() - t0;
        m->info.screened = m->screened;
        m->info.narrow_head = m->narrowed;
        m->info.by_columns = m->by_columns;
        m->info.by_fives = m->by_fives;
        m->info.packed_bytes = m->packs.mapped_bytes;
        m->info.packed_made_bytes = m->packs.made_bytes;
        m->info.hash_ns = m->packs.hash_ns;
    }
    return st == BNT_OK ? describe(m, err) : st;
}

enum bnt_status bnt_model_open(const char *path, const struct bnt_model_options *opts,
                               struct bnt_model **out, struct bnt_err *err)
{
    static const struct bnt_model_options defaults;
    struct bnt_model *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m) {
        return bnt_err_nomem(err, "a model", sizeof *m);
    }
    enum bnt_status st = open_steps(m, path, opts ? opts : &defaults, err);
    if (st != BNT_OK) {
        bnt_model_close(m);
        return st;
    }
    m->packs.warn = NULL;
    m->packs.packing = NULL;
    *out = m;
    return BNT_OK;
}

void bnt_model_close(struct bnt_model *m)
{
    if (!m) {
        return;
    }
    release_weights(m);
    free(m->layers);
    free(m->norms);
    free(m->name);
    rope_release(&m->rope);
    packed_release(&m->one_scale);
    packed_release(&m->screen_form);
    packed_release(&m->columns_form);
    packed_release(&m->fives_form);
    packed_release(&m->narrow_form);
    packed_store_release(&m->packs);
    bnt_tokenizer_free(m->tokenizer);
    gguf_close(m->gguf);
    free(m);
}

const struct bnt_model_info *bnt_model_info(const struct bnt_model *m)
{
    return &m->info;
}

const struct gguf *bnt_model_gguf(const struct bnt_model *m)
{
    return m->gguf;
}

const struct bnt_tokenizer *bnt_model_tokenizer(const struct bnt_model *m)
{
    return m->tokenizer;
}
