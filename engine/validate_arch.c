/* The architecture: hyper-parameters, and every tensor against the shape that they derive. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/cmd_inspect_impl.h"
#include "engine/model.h"
#include "engine/tl_tiles.h"
#include "engine/validate_impl.h"

/* Bases of rotation and epsilons that models were trained with lie well inside these. */
#define LEAST_ROPE_BASE 1000.0
#define MOST_ROPE_BASE 1e9
#define LEAST_EPSILON 1e-12
#define MOST_EPSILON 1e-3

static const char *key_of(const struct validate *v, const char *suffix,
                          char key[VALIDATE_KEY_BYTES])
{
    snprintf(key, VALIDATE_KEY_BYTES, "%s.%s", v->arch->name, suffix);
    return key;
}

/* ---- hyper-parameters ---- */

static const struct number_rule {
    const char *suffix;
    bool required;
    uint64_t most;
} number_rules[] = {
    {"block_count", true, MODEL_MAX_LAYERS},      {"embedding_length", true, MODEL_MAX_DIM},
    {"feed_forward_length", true, MODEL_MAX_DIM}, {"attention.head_count", true, 65536},
    {"attention.head_count_kv", false, 65536},    {"context_length", true, 1u << 30},
    {"attention.key_length", false, 65536},       {"attention.value_length", false, 65536},
    {"rope.dimension_count", false, 65536},       {"vocab_size", false, MODEL_MAX_DIM},
};

static void check_number(struct validate *v, const struct number_rule *rule)
{
    char key[VALIDATE_KEY_BYTES];
    uint64_t n;
    struct validate_place at = validate_at_key(key_of(v, rule->suffix, key));
    if (gguf_get_u64(v->g, key, &n)) {
        if (n == 0 || n > rule->most) {
            validate_add(v, GGUF_FAULT_BOUNDS, &at, "%s is %llu, must be from 1 to %llu", key,
                         (unsigned long long)n, (unsigned long long)rule->most);
        }
    } else if (rule->required || gguf_find(v->g, key)) {
        validate_add(v, GGUF_FAULT_MISSING_METADATA, &at, "metadata key %s is %s", key,
                     gguf_find(v->g, key) ? "not a whole number" : "missing");
    }
}

static void check_epsilon(struct validate *v)
{
    char key[VALIDATE_KEY_BYTES];
    double eps;
    struct validate_place at = validate_at_key(key_of(v, "attention.layer_norm_rms_epsilon", key));
    if (!gguf_get_f64(v->g, key, &eps)) {
        validate_add(v, GGUF_FAULT_MISSING_METADATA, &at, "metadata key %s is missing", key);
    } else if (!(eps >= 0 && eps < 1)) {
        validate_add(v, GGUF_FAULT_BOUNDS, &at, "%s is %g", key, eps);
    } else if (eps < LEAST_EPSILON || eps > MOST_EPSILON) {
        validate_add(v, VALIDATE_HYPER_PARAMETER, &at,
                     "%s is %g: models are trained with 1e-6 or 1e-5", key, eps);
    }
}

static void check_rope(struct validate *v)
{
    char key[VALIDATE_KEY_BYTES];
    double base;
    struct validate_place at = validate_at_key(key_of(v, "rope.freq_base", key));
    if (gguf_get_f64(v->g, key, &base) && base > 0 && isfinite(base) &&
        (base < LEAST_ROPE_BASE || base > MOST_ROPE_BASE)) {
        validate_add(v, VALIDATE_HYPER_PARAMETER, &at,
                     "%s is %g: models are trained with 10000 to some millions", key, base);
    }
    struct rope rope = {0};
    struct bnt_err why = {0};
    uint64_t n_ctx = 0;
    gguf_get_u64(v->g, key_of(v, "context_length", key), &n_ctx);
    uint32_t head_dim = (uint32_t)(v->dims.n[SHAPE_Q] / v->n_head);
    if (rope_init(&rope, v->g, v->arch->name, head_dim, (uint32_t)n_ctx, &why) != BNT_OK) {
        at = (struct validate_place){.offset = NULL};
        validate_add_error(v, GGUF_FAULT_BOUNDS, &at, &why);
    }
    rope_release(&rope);
}

static void check_heads(struct validate *v)
{
    char key[VALIDATE_KEY_BYTES];
    uint64_t n_head_kv = v->n_head, value_length;
    struct validate_place at = validate_at_key(key_of(v, "attention.head_count_kv", key));
    gguf_get_u64(v->g, key, &n_head_kv);
    if (n_head_kv == 0 || v->n_head % n_head_kv != 0) {
        validate_add(v, GGUF_FAULT_DIMENSIONS, &at,
                     "%llu heads cannot share %llu key/value heads evenly",
                     (unsigned long long)v->n_head, (unsigned long long)n_head_kv);
    }
    uint64_t head_dim = v->dims.n[SHAPE_Q] / v->n_head;
    at = validate_at_key(key_of(v, "attention.value_length", key));
    if (gguf_get_u64(v->g, key, &value_length) && value_length != head_dim) {
        validate_add(v, GGUF_FAULT_DIMENSIONS, &at, "key length %llu and value length %llu differ",
                     (unsigned long long)head_dim, (unsigned long long)value_length);
    }
}

static void check_hyper_parameters(struct validate *v)
{
    char key[VALIDATE_KEY_BYTES];
    uint64_t before = v->n_fatal;
    for (size_t i = 0; i < sizeof number_rules / sizeof number_rules[0]; i++) {
        check_number(v, &number_rules[i]);
    }
    check_epsilon(v);
    bool numbers = v->n_fatal == before;
    gguf_get_u64(v->g, key_of(v, "attention.head_count", key), &v->n_head);
    /* Its only other demand is the embedding, whose absence is told with the tensors. */
    v->has_dims = shape_read(v->g, v->arch->name, &v->dims, NULL) == BNT_OK;
    if (numbers && v->has_dims) {
        check_heads(v);
        check_rope(v);
    }
}

/* ---- tensors ---- */

static const struct gguf_tensor *tensor_of(const struct validate *v, const struct shape_rule *rule,
                                           uint32_t il, char name[VALIDATE_KEY_BYTES])
{
    if (rule->per_layer) {
        snprintf(name, VALIDATE_KEY_BYTES, "blk.%u.%s", il, rule->name);
    } else {
        snprintf(name, VALIDATE_KEY_BYTES, "%s", rule->name);
    }
    return gguf_find_tensor(v->g, name);
}

bool validate_tiles(const struct validate *v, const struct gguf_tensor *t, struct tl_tiles *out)
{
    return tl_tiles_of_tensor(v->g, t, v->o->tl_tiles, v->o->n_tl_tiles, out);
}

static void check_type(struct validate *v, const struct gguf_tensor *t, enum shape_role role)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)t->type);
    struct validate_place at = validate_at_tensor(t);
    struct tl_tiles tiles;
    const char *wants = NULL, *maker = tensor_type_maker(t->type);
    if (!info) {
        return; /* told with the header */
    }
    if (role == SHAPE_EMBEDDING) {
        wants = tensor_row_bytes(t->type, t->ne[0]) == 0 ? "an embedding or a head is a float type"
                                                         : NULL;
    } else if (role != SHAPE_LINEAR) {
        wants = info->block_bytes == 0 || info->block_weights != 1
                    ? "norms and biases are F32, F16 or BF16"
                    : NULL;
    } else if ((t->type == TENSOR_TL1 || t->type == TENSOR_TL2) && !validate_tiles(v, t, &tiles)) {
        wants = "its tile sizes for this shape are not recorded in the file: say them with --tiles";
    }
    if (wants) {
        validate_add(v, GGUF_FAULT_UNSUPPORTED_TYPE, &at, "tensor %.*s is %s; %s", (int)t->name.len,
                     t->name.data, info->name, wants);
    } else if (role == SHAPE_LINEAR && v->o->profile == VALIDATE_BITNET &&
               (!info->ternary || (maker && strcmp(maker, "bitnet.cpp") != 0))) {
        validate_add(v, VALIDATE_READER, &at, "tensor %.*s is %s; %s", (int)t->name.len,
                     t->name.data, info->name,
                     info->ternary ? "a type of ik_llama.cpp" : "a BitNet's matrices are ternary");
    }
}

static void check_tensor(struct validate *v, const struct shape_rule *rule,
                         const struct gguf_tensor *t)
{
    uint64_t cols = v->dims.n[rule->cols], rows = v->dims.n[rule->rows];
    struct validate_place at = validate_at_tensor(t);
    if (t->ne[0] != cols || t->ne[1] != rows || t->ne[2] != 1 || t->ne[3] != 1) {
        validate_add(v, GGUF_FAULT_DIMENSIONS, &at,
                     "tensor %.*s is %llu x %llu x %llu x %llu, the hyper-parameters derive %llu x "
                     "%llu (%s x %s)",
                     (int)t->name.len, t->name.data, (unsigned long long)t->ne[0],
                     (unsigned long long)t->ne[1], (unsigned long long)t->ne[2],
                     (unsigned long long)t->ne[3], (unsigned long long)cols,
                     (unsigned long long)rows, shape_dim_name(rule->cols),
                     shape_dim_name(rule->rows));
    }
    check_type(v, t, rule->role);
}

static void tell_missing(struct validate *v, const char *name)
{
    struct validate_place at = {.tensor = {name, strlen(name)}};
    validate_add(v, GGUF_FAULT_ARCHITECTURE, &at, "tensor %s is missing, architecture %s needs it",
                 name, v->arch->name);
}

/* A layer of which nothing is there is one finding. */
static void check_layer(struct validate *v, uint32_t il)
{
    char name[VALIDATE_KEY_BYTES];
    unsigned wanted = 0, there = 0;
    for (const struct shape_rule *r = shape_rules; r->name; r++) {
        if (r->per_layer && shape_wanted(r, v->arch)) {
            wanted++;
            there += tensor_of(v, r, il, name) != NULL;
        }
    }
    if (there == 0) {
        struct validate_place at = {.offset = NULL};
        validate_add(v, GGUF_FAULT_ARCHITECTURE, &at,
                     "layer %u: none of its %u tensors is there, block_count is %u", il, wanted,
                     v->dims.n_layer);
        return;
    }
    for (const struct shape_rule *r = shape_rules; r->name; r++) {
        const struct gguf_tensor *t = r->per_layer ? tensor_of(v, r, il, name) : NULL;
        if (t) {
            check_tensor(v, r, t);
        } else if (r->per_layer && shape_wanted(r, v->arch)) {
            tell_missing(v, name);
        }
    }
}

static void check_top(struct validate *v)
{
    char name[VALIDATE_KEY_BYTES];
    for (const struct shape_rule *r = shape_rules; r->name; r++) {
        const struct gguf_tensor *t = r->per_layer ? NULL : tensor_of(v, r, 0, name);
        if (t && v->has_dims) {
            check_tensor(v, r, t);
        } else if (!t && !r->per_layer && shape_wanted(r, v->arch)) {
            tell_missing(v, name);
        }
    }
}

/* Any matrix of a layer may have a bias, whatever the table of shapes says of its family. */
static bool is_bias(struct gguf_str name)
{
    static const char end[] = ".bias";
    uint32_t layer;
    char text[VALIDATE_KEY_BYTES];
    size_t n = sizeof end - 1;
    if (name.len <= n || name.len >= sizeof text - 4 ||
        memcmp(name.data + name.len - n, end, n) != 0) {
        return false;
    }
    int len = snprintf(text, sizeof text, "%.*s.weight", (int)(name.len - n), name.data);
    const struct shape_rule *r = shape_find((struct gguf_str){text, (size_t)len}, &layer);
    return r && r->role == SHAPE_LINEAR;
}

static void check_strangers(struct validate *v)
{
    for (uint64_t i = 0; i < v->g->n_tensors; i++) {
        const struct gguf_tensor *t = &v->g->tensors[i];
        struct validate_place at = validate_at_tensor(t);
        uint32_t layer;
        bool known = shape_find(t->name, &layer) != NULL || is_bias(t->name);
        if (!known) {
            validate_add(v, VALIDATE_UNKNOWN_TENSOR, &at, "tensor %.*s has no place in %s",
                         (int)t->name.len, t->name.data, v->arch->name);
        } else if (layer != UINT32_MAX && v->has_dims && layer >= v->dims.n_layer) {
            validate_add(v, VALIDATE_UNKNOWN_TENSOR, &at,
                         "tensor %.*s belongs to layer %u, block_count is %u", (int)t->name.len,
                         t->name.data, layer, v->dims.n_layer);
        }
    }
}

/* ---- the file as a whole ---- */

static void check_vocab_size(struct validate *v)
{
    char key[VALIDATE_KEY_BYTES];
    const struct gguf_tensor *embd = gguf_find_tensor(v->g, "token_embd.weight");
    uint64_t said;
    struct validate_place at = validate_at_key(key_of(v, "vocab_size", key));
    if (embd && gguf_get_u64(v->g, key, &said) && said != embd->ne[1]) {
        validate_add(v, VALIDATE_HYPER_PARAMETER, &at,
                     "%s is %llu, token_embd.weight has %llu rows", key, (unsigned long long)said,
                     (unsigned long long)embd->ne[1]);
    }
}

static void check_file_type(struct validate *v)
{
    struct inspect in;
    struct bnt_model_ref ref = {.kind = "real"};
    struct validate_place at = validate_at_key("general.file_type");
    if (!validate_all_placed(v->g)) {
        return; /* what is broken there has been told */
    }
    inspect_gather(v->g, &ref, &in);
    if (!in.file_type_name || inspect_has_type(&in, in.file_type_name)) {
        return;
    }
    validate_add(v, VALIDATE_FILE_TYPE, &at, "general.file_type is %lld (%s), and no tensor is %s",
                 (long long)in.file_type, in.file_type_name, in.file_type_name);
}

/* Families that llama.cpp has under the same name. */
static void check_reader(struct validate *v)
{
    struct validate_place at = validate_at_key("general.architecture");
    const char *name = v->arch->name;
    if (v->o->profile == VALIDATE_LLAMA_CPP &&
        (strcmp(name, "bitnet-b1.58") == 0 || strcmp(name, "bitnet-25") == 0)) {
        validate_add(v, VALIDATE_READER, &at,
                     "architecture %s is bitnet.cpp's; llama.cpp knows \"bitnet\" only", name);
    }
}

void validate_architecture(struct validate *v)
{
    struct gguf_str name;
    struct validate_place at = validate_at_key("general.architecture");
    if (!gguf_get_str(v->g, "general.architecture", &name)) {
        validate_add(v, GGUF_FAULT_MISSING_METADATA, &at,
                     "metadata key general.architecture is missing");
        return;
    }
    v->arch = arch_find(name.data, name.len);
    if (!v->arch) {
        validate_add(v, GGUF_FAULT_ARCHITECTURE, &at,
                     "architecture '%.*s' is not known here; known are %s",
                     name.len > 64 ? 64 : (int)name.len, name.data, arch_names());
        return;
    }
    check_reader(v);
    check_hyper_parameters(v);
    check_vocab_size(v);
    check_file_type(v);
    check_top(v);
    for (uint32_t il = 0; v->has_dims && il < v->dims.n_layer; il++) {
        check_layer(v, il);
    }
    check_strangers(v);
}
