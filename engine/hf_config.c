#include "engine/hf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/cpu/fmath.h"

enum { KEY_BYTES = 160 };
#define PI 3.14159265358979323846

const char *hf_not_itself(const void *bytes, size_t n)
{
    static const struct {
        const char *start, *what;
    } known[] = {
        {"version https://git-lfs", "a Git LFS pointer, not the file itself (run: git lfs pull)"},
        {"<!DOCTYPE", "a web page, not the file itself"},
        {"<!doctype", "a web page, not the file itself"},
        {"<html", "a web page, not the file itself"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t len = strlen(known[i].start);
        if (n >= len && memcmp(bytes, known[i].start, len) == 0) {
            return known[i].what;
        }
    }
    return n == 0 ? "an empty file" : NULL;
}

enum bnt_status hf_json_load(const char *dir, const char *name, bool optional, json_t **out,
                             struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(HF_MAX_JSON_BYTES);
    json_error_t at;
    *out = NULL;
    enum bnt_status st = bnt_path_format(path, err, "%s/%s", dir, name);
    if (st != BNT_OK || (optional && access(path, F_OK) != 0)) {
        return st;
    }
    st = bnt_file_read(path, &text, err);
    if (st == BNT_OK) {
        *out = json_loadb(bnt_buf_view(&text), text.len, JSON_ALLOW_NUL, &at);
    }
    const char *other = hf_not_itself(bnt_buf_view(&text), text.len);
    bnt_buf_release(&text);
    if (st == BNT_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return other ? bnt_err_set(err, BNT_E_FILE, "%s: it is %s", path, other)
               : at.line < 0
                   ? bnt_err_set(err, BNT_E_FILE, "%s: no JSON object, but another value", path)
                   : bnt_err_set(err, BNT_E_FILE, "%s: no JSON object: %s (line %d, column %d)",
                                 path, at.text, at.line, at.column);
    }
    return st;
}

/* What reads one file. */
struct reader {
    const char *dir;
    const json_t *root;
    struct bnt_err *err;
};

static enum bnt_status absurd(const struct reader *r, const char *key)
{
    return bnt_err_set(r->err, BNT_E_FILE, "%s/config.json: %s is %s", r->dir, key,
                       json_object_get(r->root, key) ? "nothing that a model can have" : "missing");
}

static enum bnt_status unsupported(const struct reader *r, const char *key, const char *value)
{
    bnt_err_hint(r->err, "BitNet b1.58, LLaMA, MiniCPM, Qwen2 and Qwen3 checkpoints are converted");
    return bnt_err_set(r->err, BNT_E_UNSUPPORTED, "%s/config.json: %s %s is not known here", r->dir,
                       key, value);
}

/* A whole number from 1 to max; fallback 0: it must be there. */
static enum bnt_status count(const struct reader *r, const char *key, uint32_t max,
                             uint32_t fallback, uint32_t *out)
{
    const json_t *v = json_object_get(r->root, key);
    if ((!v || json_is_null(v)) && fallback) {
        *out = fallback;
        return BNT_OK;
    }
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > max) {
        return absurd(r, key);
    }
    *out = (uint32_t)json_integer_value(v);
    return BNT_OK;
}

static double number(const json_t *object, const char *key, double fallback)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static int64_t token_id(const json_t *root, const char *key)
{
    const json_t *v = json_object_get(root, key);
    v = json_is_array(v) ? json_array_get(v, 0) : v;
    return json_is_integer(v) ? json_integer_value(v) : -1;
}

static const char *text(const json_t *object, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : fallback;
}

/* The row of engine/arch.h. */
static enum bnt_status read_family(const struct reader *r, struct hf_config *c)
{
    const char *name =
        json_string_value(json_array_get(json_object_get(r->root, "architectures"), 0));
    if (!name) {
        return absurd(r, "architectures");
    }
    /* What the library takes where config.json does not say. */
    bool b158 = strcmp(name, "BitNetForCausalLM") == 0;
    const char *act = text(r->root, "hidden_act", b158 ? "relu2" : "silu"), *row = NULL;
    bool silu = strcmp(act, "silu") == 0, relu2 = strcmp(act, "relu2") == 0;
    bool bitnet = b158 || strcmp(name, "BitnetForCausalLM") == 0;
    if (bitnet) {
        row = relu2 ? "bitnet-b1.58" : silu ? "bitnet" : NULL;
    } else if (strcmp(name, "LlamaForCausalLM") == 0) {
        row = silu ? "llama" : NULL;
    } else if (strcmp(name, "Qwen2ForCausalLM") == 0) {
        row = silu ? "qwen2" : NULL;
    } else if (strcmp(name, "Qwen3ForCausalLM") == 0) {
        row = silu ? "qwen3" : NULL;
    } else if (strcmp(name, "MiniCPMForCausalLM") == 0) {
        row = silu ? "minicpm" : NULL;
    } else {
        return unsupported(r, "architecture", name);
    }
    if (!row) {
        return unsupported(r, "hidden_act", act);
    }
    c->arch = arch_find(row, strlen(row));
    c->bitnet = bitnet;
    c->rope_theta = b158 ? 500000 : 10000;
    return BNT_OK;
}

/* Weights that were made ternary, and what their scale does: the linear class "autobitlinear" of
 * the transformers library multiplies with it, its "bitlinear", the default, divides by it. */
static enum bnt_status read_quantization(const struct reader *r, struct hf_config *c)
{
    const json_t *q = json_object_get(r->root, "quantization_config");
    if (!json_is_object(q)) {
        return !q || json_is_null(q) ? BNT_OK : absurd(r, "quantization_config");
    }
    const char *method = text(q, "quant_method", "");
    if (strcmp(method, "bitnet") != 0) {
        return unsupported(r, "quant_method", method);
    }
    bool autobit = strcmp(text(q, "linear_class", "bitlinear"), "autobitlinear") == 0;
    c->bitnet = true;
    c->scale = autobit ? HF_SCALE_MULTIPLY : HF_SCALE_DIVIDE;
    return BNT_OK;
}

/* What MiniCPM multiplies with; a GGUF file's logit_scale divides. */
static enum bnt_status read_factors(const struct reader *r, struct hf_config *c)
{
    static const char *const keys[] = {"scale_emb", "scale_depth", "dim_model_base"};
    double value[3];
    for (int i = 0; i < 3; i++) {
        value[i] = number(r->root, keys[i], 0);
        if (!(value[i] > 0 && value[i] < 1e6)) {
            return absurd(r, keys[i]);
        }
    }
    c->embedding_scale = value[0];
    c->residual_scale = value[1] / sqrt(c->n_layer);
    c->logit_scale = c->n_embd / value[2];
    return BNT_OK;
}

/* Parts of yarn for which a GGUF file has no key. */
static enum bnt_status check_yarn(const struct reader *r, const json_t *s)
{
    if (json_object_get(s, "mscale") || json_object_get(s, "mscale_all_dim")) {
        return unsupported(r, "rope scaling", "yarn with mscale");
    }
    return json_is_false(json_object_get(s, "truncate"))
               ? unsupported(r, "rope scaling", "yarn without truncate")
               : BNT_OK;
}

static bool read_list(const json_t *list, uint32_t n, float *out)
{
    bool sound = json_array_size(list) == n && n <= HF_MAX_PAIRS;
    for (uint32_t i = 0; sound && i < n; i++) {
        double v = json_number_value(json_array_get(list, i));
        out[i] = (float)v;
        sound = v > 1e-6 && v < 1e6;
    }
    return sound;
}

/* Frequencies are divided by one list or, beyond the original context, by the other; what is
 * rotated is longer where the context was extended. */
static enum bnt_status read_long_rope(const struct reader *r, const json_t *s, struct hf_config *c)
{
    c->rope_n_ctx_orig = number(s, "original_max_position_embeddings",
                                number(r->root, "original_max_position_embeddings", c->n_ctx));
    double times = c->n_ctx / c->rope_n_ctx_orig;
    bool sound = c->rope_n_ctx_orig > 1 && c->rope_n_ctx_orig <= c->n_ctx &&
                 read_list(json_object_get(s, "short_factor"), c->head_dim / 2, c->rope_short) &&
                 read_list(json_object_get(s, "long_factor"), c->head_dim / 2, c->rope_long);
    if (!sound) {
        return absurd(r, "rope_scaling");
    }
    double longer = sqrt(1 + fm_log(times) / fm_log(c->rope_n_ctx_orig));
    c->rope_attention = number(s, "attention_factor", longer);
    return c->rope_attention > 0 ? BNT_OK : absurd(r, "rope_scaling");
}

static enum bnt_status read_rope(const struct reader *r, struct hf_config *c)
{
    const json_t *s = json_object_get(r->root, "rope_scaling");
    const json_t *newer = json_object_get(r->root, "rope_parameters");
    const json_t *theta = json_object_get(json_is_object(newer) ? newer : r->root, "rope_theta");
    if (s && !json_is_object(s) && !json_is_null(s)) {
        return absurd(r, "rope_scaling");
    }
    s = json_is_object(s) ? s : newer;
    theta = theta ? theta : json_object_get(r->root, "rope_theta");
    c->rope_theta = json_is_number(theta) ? json_number_value(theta) : c->rope_theta;
    if (!(c->rope_theta > 1) || (theta && !json_is_number(theta) && !json_is_null(theta))) {
        return absurd(r, "rope_theta");
    }
    const char *type = text(s, "rope_type", text(s, "type", "default"));
    if (strcmp(type, "default") == 0 || strcmp(type, "none") == 0) {
        return BNT_OK;
    }
    snprintf(c->rope_type, sizeof c->rope_type, "%s", type);
    if (strcmp(type, "longrope") == 0) {
        return read_long_rope(r, s, c);
    }
    if (strcmp(type, "linear") != 0 && strcmp(type, "yarn") != 0 && strcmp(type, "llama3") != 0) {
        return unsupported(r, "rope scaling", type);
    }
    c->rope_factor = number(s, "factor", 0);
    c->rope_n_ctx_orig = number(s, "original_max_position_embeddings", c->n_ctx);
    c->rope_low = number(s, "low_freq_factor", 1);
    c->rope_high = number(s, "high_freq_factor", 4);
    c->yarn_beta_fast = number(s, "beta_fast", 0);
    c->yarn_beta_slow = number(s, "beta_slow", 0);
    c->rope_attention = number(s, "attention_factor", 0);
    bool sound = c->rope_factor >= 1 && c->rope_n_ctx_orig >= 1 && c->rope_low > 0 &&
                 c->rope_high > c->rope_low && c->rope_attention >= 0;
    if (!sound) {
        return absurd(r, json_is_object(newer) ? "rope_parameters" : "rope_scaling");
    }
    return strcmp(type, "yarn") == 0 ? check_yarn(r, s) : BNT_OK;
}

static enum bnt_status read_sizes(const struct reader *r, struct hf_config *c)
{
    const struct {
        const char *key;
        uint32_t max;
        uint32_t *out;
    } rows[] = {{"num_hidden_layers", 1024, &c->n_layer},
                {"hidden_size", 1u << 22, &c->n_embd},
                {"intermediate_size", 1u << 22, &c->n_ff},
                {"num_attention_heads", 65536, &c->n_head},
                {"max_position_embeddings", 1u << 30, &c->n_ctx},
                {"vocab_size", 1u << 22, &c->n_vocab}};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof rows / sizeof rows[0]; i++) {
        st = count(r, rows[i].key, rows[i].max, 0, rows[i].out);
    }
    if (st == BNT_OK) {
        st = count(r, "num_key_value_heads", c->n_head, c->n_head, &c->n_head_kv);
    }
    if (st == BNT_OK) {
        st = count(r, "head_dim", 65536, c->n_embd / c->n_head ? c->n_embd / c->n_head : 1,
                   &c->head_dim);
    }
    if (st == BNT_OK && (c->n_head % c->n_head_kv != 0 || c->head_dim % 2 != 0)) {
        st = absurd(r, c->head_dim % 2 == 0                   ? "num_key_value_heads"
                       : json_object_get(r->root, "head_dim") ? "head_dim"
                                                              : "num_attention_heads");
    }
    return st;
}

/* What would change the graph and is not in it. */
static enum bnt_status check_graph(const struct reader *r)
{
    const json_t *layers = json_object_get(r->root, "layer_types");
    if (json_is_true(json_object_get(r->root, "use_sliding_window"))) {
        return unsupported(r, "use_sliding_window", "true");
    }
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const char *type = json_string_value(json_array_get(layers, i));
        if (!type || strcmp(type, "full_attention") != 0) {
            return unsupported(r, "layer_types", type ? type : "?");
        }
    }
    if (json_is_object(json_object_get(r->root, "sparse_config"))) {
        return unsupported(r, "sparse_config", "(attention to chosen blocks)");
    }
    return number(r->root, "partial_rotary_factor", 1) == 1
               ? BNT_OK
               : unsupported(r, "partial_rotary_factor", "other than 1");
}

/* A family that always has the biases of q, k and v has no others, and its classes do not ask. */
static void read_biases(const struct reader *r, struct hf_config *c)
{
    c->attention_bias =
        c->arch && !c->arch->qkv_bias && json_is_true(json_object_get(r->root, "attention_bias"));
    c->mlp_bias = json_is_true(json_object_get(r->root, "mlp_bias"));
}

static enum bnt_status read_all(const struct reader *r, struct hf_config *c)
{
    enum bnt_status st = read_family(r, c);
    if (st == BNT_OK) {
        st = read_quantization(r, c);
    }
    if (st == BNT_OK) {
        st = read_sizes(r, c);
    }
    if (st == BNT_OK) {
        st = read_rope(r, c);
    }
    if (st == BNT_OK && c->arch->scaled) {
        st = read_factors(r, c);
    }
    c->rms_eps = number(r->root, "rms_norm_eps", -1);
    if (st == BNT_OK && !(c->rms_eps >= 0 && c->rms_eps < 1)) {
        st = absurd(r, "rms_norm_eps");
    }
    const json_t *tied = json_object_get(r->root, "tie_word_embeddings");
    c->tied = tied ? json_is_true(tied) : c->arch && c->arch->scaled; /* by its class */
    read_biases(r, c);
    c->bos = token_id(r->root, "bos_token_id");
    c->eos = token_id(r->root, "eos_token_id");
    if (st == BNT_OK && (c->bos >= c->n_vocab || c->eos >= c->n_vocab)) {
        st = absurd(r, c->bos >= c->n_vocab ? "bos_token_id" : "eos_token_id");
    }
    c->pad = token_id(r->root, "pad_token_id");
    return st == BNT_OK ? check_graph(r) : st;
}

/* One id or a list of them. */
static void read_ends(const json_t *value, struct hf_config *c)
{
    c->n_ends = 0;
    for (size_t i = 0; i == 0 || i < json_array_size(value); i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        bool sound = json_is_integer(id) && json_integer_value(id) >= 0 &&
                     json_integer_value(id) < c->n_vocab;
        if (sound && c->n_ends < HF_MAX_ENDS) {
            c->ends[c->n_ends++] = json_integer_value(id);
        }
    }
}

/* generation_config.json says what ends an answer, where it is there; else config.json does. */
static enum bnt_status read_generation(const char *dir, const json_t *config, struct hf_config *c,
                                       struct bnt_err *err)
{
    json_t *root = NULL;
    enum bnt_status st = hf_json_load(dir, "generation_config.json", true, &root, err);
    const json_t *ends = json_object_get(root, "eos_token_id");
    read_ends(ends && !json_is_null(ends) ? ends : json_object_get(config, "eos_token_id"), c);
    c->eos = c->eos < 0 && c->n_ends > 0 ? c->ends[0] : c->eos;
    json_decref(root);
    return st;
}

enum bnt_status hf_config_load(const char *dir, struct hf_config *out, struct bnt_err *err)
{
    json_t *root;
    enum bnt_status st = hf_json_load(dir, "config.json", false, &root, err);
    if (st != BNT_OK) {
        bnt_err_hint(err, "bnt convert takes the folder of a Hugging Face checkpoint");
        return st;
    }
    const struct reader r = {dir, root, err};
    *out = (struct hf_config){0};
    st = read_all(&r, out);
    if (st == BNT_OK) {
        st = read_generation(dir, root, out, err);
    }
    json_decref(root);
    return st;
}

/* ---- keys ---- */

static enum bnt_status put_u32(const struct hf_config *c, struct gguf_plan *p, const char *suffix,
                               uint32_t v, struct bnt_err *err)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", c->arch->name, suffix);
    return gplan_put_u32(p, key, v, err);
}

static enum bnt_status put_f32(const struct hf_config *c, struct gguf_plan *p, const char *suffix,
                               double v, struct bnt_err *err)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", c->arch->name, suffix);
    return gplan_put_f32(p, key, (float)v, err);
}

static enum bnt_status put_factors(const struct hf_config *c, struct gguf_plan *p,
                                   struct bnt_err *err)
{
    enum bnt_status st = put_f32(c, p, "embedding_scale", c->embedding_scale, err);
    if (st == BNT_OK) {
        st = put_f32(c, p, "residual_scale", c->residual_scale, err);
    }
    return st == BNT_OK ? put_f32(c, p, "logit_scale", c->logit_scale, err) : st;
}

/* "llama3" has no keys: it becomes a tensor of factors. */
static enum bnt_status put_rope(const struct hf_config *c, struct gguf_plan *p, struct bnt_err *err)
{
    char key[KEY_BYTES];
    bool yarn = strcmp(c->rope_type, "yarn") == 0, linear = strcmp(c->rope_type, "linear") == 0;
    bool by_context = strcmp(c->rope_type, "longrope") == 0;
    enum bnt_status st = put_f32(c, p, "rope.freq_base", c->rope_theta, err);
    if (st != BNT_OK || (!yarn && !linear && !by_context)) {
        return st;
    }
    snprintf(key, sizeof key, "%s.rope.scaling.type", c->arch->name);
    st = gplan_put_str(p, key, c->rope_type, err);
    if (st == BNT_OK && !by_context) {
        st = put_f32(c, p, "rope.scaling.factor", c->rope_factor, err);
    }
    if (st == BNT_OK && by_context) {
        st = put_f32(c, p, "rope.scaling.attn_factor", c->rope_attention, err);
    }
    if (st == BNT_OK && !linear) {
        st = put_u32(c, p, "rope.scaling.original_context_length", (uint32_t)c->rope_n_ctx_orig,
                     err);
    }
    if (st == BNT_OK && yarn && c->yarn_beta_fast > 0) {
        st = put_f32(c, p, "rope.scaling.yarn_beta_fast", c->yarn_beta_fast, err);
    }
    if (st == BNT_OK && yarn && c->yarn_beta_slow > 0) {
        st = put_f32(c, p, "rope.scaling.yarn_beta_slow", c->yarn_beta_slow, err);
    }
    if (st == BNT_OK && yarn && c->rope_attention > 0) {
        /* The key is of what the formula of YaRN gives, 0.1 ln(factor) + 1. */
        double whole = 0.1 * fm_log(c->rope_factor) + 1;
        st = put_f32(c, p, "rope.scaling.attn_factor", c->rope_attention / whole, err);
    }
    return st;
}

enum bnt_status hf_config_put(const struct hf_config *c, const char *name, struct gguf_plan *p,
                              struct bnt_err *err)
{
    const struct {
        const char *suffix;
        uint32_t value;
    } rows[] = {{"vocab_size", c->n_vocab},
                {"context_length", c->n_ctx},
                {"embedding_length", c->n_embd},
                {"block_count", c->n_layer},
                {"feed_forward_length", c->n_ff},
                {"rope.dimension_count", c->head_dim},
                {"attention.head_count", c->n_head},
                {"attention.head_count_kv", c->n_head_kv},
                {"attention.key_length", c->head_dim},
                {"attention.value_length", c->head_dim}};
    /* The last two only where they do not follow from the others. */
    size_t n = c->head_dim * c->n_head == c->n_embd ? 8 : 10;
    enum bnt_status st = gplan_put_str(p, "general.architecture", c->arch->name, err);
    if (st == BNT_OK) {
        st = gplan_put_str(p, "general.name", name, err);
    }
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = put_u32(c, p, rows[i].suffix, rows[i].value, err);
    }
    if (st == BNT_OK) {
        st = put_f32(c, p, "attention.layer_norm_rms_epsilon", c->rms_eps, err);
    }
    if (st == BNT_OK && c->arch->scaled) {
        st = put_factors(c, p, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_u32(p, "general.quantization_version", 2, err);
    }
    return st == BNT_OK ? put_rope(c, p, err) : st;
}

/* Long waves are slowed by the factor, short ones are kept, those between are mixed (LLaMA 3.1). */
void hf_rope_factors(const struct hf_config *c, float *out)
{
    const double log_theta = fm_log(c->rope_theta);
    for (uint32_t i = 0; i < c->head_dim / 2; i++) {
        double wave = 2 * PI * fm_exp(log_theta * 2 * i / c->head_dim);
        double turns = c->rope_n_ctx_orig / wave;
        double keep = (turns - c->rope_low) / (c->rope_high - c->rope_low);
        keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
        out[i] = (float)(1 / ((1 - keep) / c->rope_factor + keep));
    }
}
