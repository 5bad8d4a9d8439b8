/* From a recipe to a file: the recipe with its defaults, the plan of keys and tensors (drawn from
 * the families of engine/arch.h or taken from another file), then header and weights, written in
 * one pass with their digest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/arch.h"
#include "engine/model.h"
#include "engine/model_arg.h"
#include "mock/bnt_mock.h"
#include "mock/file_fault.h"
#include "engine/gguf_plan.h"
#include "engine/shape.h"
#include "mock/tiny_vocab.h"
#include "mock/tiny_weights.h"

enum { KEY_BYTES = 160, MAX_LAYERS = 1024, MAX_DIM = 1 << 20 };

/* A model on its way. */
struct making {
    struct bnt_mock_recipe r; /* without gaps, unless like */
    const struct arch *arch;
    enum tensor_type type, embd_type;
    enum i2s_layout layout;
    struct gguf_plan plan;
    struct gguf *like;                /* NULL: from scratch */
    char like_digest[BNT_SHA256_HEX]; /* of its header, which is all that is taken */
    char recipe[sizeof((struct bnt_mock_made *)0)->recipe];
    const struct file_fault *fault; /* NULL: a sound file */
};

/* ---- the recipe ---- */

static enum bnt_status find_type(const char *name, enum tensor_type *out, struct bnt_err *err)
{
    const struct tensor_type_info *info = tensor_type_find(name);
    if (info) {
        *out = info->type;
        return BNT_OK;
    }
    bnt_err_hint(err, "bnt mock make --help lists the types that are written");
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "no tensors of type %s can be written", name);
}

static uint32_t or_default(uint32_t given, uint32_t otherwise)
{
    return given ? given : otherwise;
}

static const char *or_text(const char *given, const char *otherwise)
{
    return given ? given : otherwise;
}

static enum bnt_status check_ranges(const struct bnt_mock_recipe *r, struct bnt_err *err)
{
    const struct {
        const char *name;
        uint32_t value, max;
    } limits[] = {{"layers", r->n_layer, MAX_LAYERS}, {"embd", r->n_embd, MAX_DIM},
                  {"heads", r->n_head, 65536},        {"kv-heads", r->n_head_kv, r->n_head},
                  {"ff", r->n_ff, MAX_DIM},           {"vocab", r->n_vocab, MAX_DIM},
                  {"ctx", r->n_ctx, 1u << 30}};
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (limits[i].value == 0 || limits[i].value > limits[i].max) {
            return bnt_err_set(err, BNT_E_USAGE, "--%s %u: must be from 1 to %u", limits[i].name,
                               limits[i].value, limits[i].max);
        }
    }
    if (r->n_embd % r->n_head != 0 || r->n_embd / r->n_head % 2 != 0) {
        return bnt_err_set(err, BNT_E_USAGE, "%u columns do not make %u heads of an even width",
                           r->n_embd, r->n_head);
    }
    if (r->n_head % r->n_head_kv != 0) {
        return bnt_err_set(err, BNT_E_USAGE, "%u heads cannot share %u key/value heads evenly",
                           r->n_head, r->n_head_kv);
    }
    return BNT_OK;
}

/* Fill the gaps of a recipe from scratch. */
static enum bnt_status settle(struct making *m, struct bnt_err *err)
{
    struct bnt_mock_recipe *r = &m->r;
    r->arch = or_text(r->arch, "bitnet-b1.58");
    r->type = or_text(r->type, "i2_s");
    r->embd_type = or_text(r->embd_type, "f16");
    r->tokenizer = or_text(r->tokenizer, "bpe");
    r->n_layer = or_default(r->n_layer, 2);
    r->n_embd = or_default(r->n_embd, 256);
    r->n_head = or_default(r->n_head, 4);
    r->n_head_kv = or_default(r->n_head_kv, r->n_head % 2 == 0 ? r->n_head / 2 : r->n_head);
    r->n_ff = or_default(r->n_ff, 2 * r->n_embd);
    r->n_vocab = or_default(r->n_vocab, 512);
    r->n_ctx = or_default(r->n_ctx, 256);
    m->arch = arch_find(r->arch, strlen(r->arch));
    if (!m->arch) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "architecture %s is not known here; known are %s", r->arch,
                           arch_names());
    }
    enum bnt_status st = check_ranges(r, err);
    if (st == BNT_OK) {
        st = find_type(r->type, &m->type, err);
    }
    return st == BNT_OK ? find_type(r->embd_type, &m->embd_type, err) : st;
}

/* The command line that makes the same file; what it was like, by the digest of its header. */
static void tell_recipe(struct making *m)
{
    const struct bnt_mock_recipe *r = &m->r;
    const struct {
        const char *option, *text;
        uint32_t number;
    } words[] = {{"like", m->like ? m->like_digest : NULL, 0},
                 {"arch", r->arch, 0},
                 {"layers", NULL, r->n_layer},
                 {"embd", NULL, r->n_embd},
                 {"heads", NULL, r->n_head},
                 {"kv-heads", NULL, r->n_head_kv},
                 {"ff", NULL, r->n_ff},
                 {"vocab", NULL, r->n_vocab},
                 {"ctx", NULL, r->n_ctx},
                 {"type", r->type, 0},
                 {"embd-type", r->embd_type, 0},
                 {"layout", r->layout, 0},
                 {"tokenizer", r->tokenizer, 0},
                 {"fault", r->fault, 0}};
    int n = snprintf(m->recipe, sizeof m->recipe, "bnt mock make");
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (words[i].text) {
            n += snprintf(m->recipe + n, sizeof m->recipe - (size_t)n, " --%s %.80s",
                          words[i].option, words[i].text);
        } else if (words[i].number) {
            n += snprintf(m->recipe + n, sizeof m->recipe - (size_t)n, " --%s %u", words[i].option,
                          words[i].number);
        }
    }
    snprintf(m->recipe + n, sizeof m->recipe - (size_t)n, " --seed %llu",
             (unsigned long long)r->seed);
}

/* ---- from scratch ---- */

static enum bnt_status put_mark(struct making *m, struct bnt_err *err)
{
    enum bnt_status st = gplan_put_str(&m->plan, BNT_MOCK_KIND_KEY, "tiny", err);
    if (st == BNT_OK) {
        st = gplan_put_str(&m->plan, BNT_MOCK_RECIPE_KEY, m->recipe, err);
    }
    return st == BNT_OK ? gplan_put_str(&m->plan, I2S_LAYOUT_KEY, i2s_layout_name(m->layout), err)
                        : st;
}

static enum bnt_status put_general(struct making *m, struct bnt_err *err)
{
    char name[96];
    snprintf(name, sizeof name, "tiny %s, seed %llu", m->r.arch, (unsigned long long)m->r.seed);
    enum bnt_status st = gplan_put_str(&m->plan, "general.architecture", m->r.arch, err);
    if (st == BNT_OK) {
        st = put_mark(m, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_str(&m->plan, "general.name", name, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_u32(&m->plan, "general.file_type", tensor_file_type(m->type), err);
    }
    return st == BNT_OK ? gplan_put_u32(&m->plan, "general.quantization_version", 2, err) : st;
}

static enum bnt_status put_arch_u32(struct making *m, const char *suffix, uint32_t v,
                                    struct bnt_err *err)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", m->r.arch, suffix);
    return gplan_put_u32(&m->plan, key, v, err);
}

static enum bnt_status put_arch_f32(struct making *m, const char *suffix, float v,
                                    struct bnt_err *err)
{
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.%s", m->r.arch, suffix);
    return gplan_put_f32(&m->plan, key, v, err);
}

/* None of them what a reader takes where there is none. */
static enum bnt_status put_factors(struct making *m, struct bnt_err *err)
{
    enum bnt_status st = put_arch_f32(m, "embedding_scale", 0.5f, err);
    if (st == BNT_OK) {
        st = put_arch_f32(m, "residual_scale", 0.75f, err);
    }
    return st == BNT_OK ? put_arch_f32(m, "logit_scale", 2, err) : st;
}

static enum bnt_status put_hyper_parameters(struct making *m, struct bnt_err *err)
{
    const struct bnt_mock_recipe *r = &m->r;
    const struct {
        const char *suffix;
        uint32_t value;
    } rows[] = {
        {"vocab_size", r->n_vocab},          {"context_length", r->n_ctx},
        {"embedding_length", r->n_embd},     {"block_count", r->n_layer},
        {"feed_forward_length", r->n_ff},    {"rope.dimension_count", r->n_embd / r->n_head},
        {"attention.head_count", r->n_head}, {"attention.head_count_kv", r->n_head_kv}};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof rows / sizeof rows[0]; i++) {
        st = put_arch_u32(m, rows[i].suffix, rows[i].value, err);
    }
    if (st == BNT_OK) {
        st = put_arch_f32(m, "attention.layer_norm_rms_epsilon", 1e-5f, err);
    }
    if (st == BNT_OK) {
        st = put_arch_f32(m, "rope.freq_base", 10000, err);
    }
    return st == BNT_OK && m->arch->scaled ? put_factors(m, err) : st;
}

static enum bnt_status plan_tensor(struct making *m, const struct shape_rule *rule, uint32_t layer,
                                   const struct shape_dims *dims, struct bnt_err *err)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    enum tensor_type type = rule->role == SHAPE_LINEAR      ? m->type
                            : rule->role == SHAPE_EMBEDDING ? m->embd_type
                                                            : TENSOR_F32;
    if (rule->per_layer) {
        snprintf(name, sizeof name, "blk.%u.%s", layer, rule->name);
    } else {
        snprintf(name, sizeof name, "%s", rule->name);
    }
    return gplan_add_tensor(&m->plan, name, type, dims->n[rule->cols], dims->n[rule->rows], err);
}

static enum bnt_status plan_scratch_tensors(struct making *m, struct bnt_err *err)
{
    const struct bnt_mock_recipe *r = &m->r;
    const struct shape_dims dims = {
        .n = {[SHAPE_ONE] = 1,
              [SHAPE_EMBD] = r->n_embd,
              [SHAPE_FF] = r->n_ff,
              [SHAPE_VOCAB] = r->n_vocab,
              [SHAPE_Q] = r->n_embd,
              [SHAPE_KV] = (uint64_t)r->n_embd / r->n_head * r->n_head_kv,
              [SHAPE_HEAD] = r->n_embd / r->n_head}};
    enum bnt_status st = BNT_OK;
    for (uint32_t layer = 0; layer <= r->n_layer; layer++) {
        for (const struct shape_rule *rule = shape_rules; st == BNT_OK && rule->name; rule++) {
            bool now = rule->per_layer ? layer < r->n_layer
                                       : layer == (rule->role == SHAPE_NORM ? r->n_layer : 0);
            if (now && shape_wanted(rule, m->arch)) {
                st = plan_tensor(m, rule, layer, &dims, err);
            }
        }
    }
    return st;
}

static enum bnt_status plan_scratch(struct making *m, struct bnt_err *err)
{
    enum bnt_status st = settle(m, err);
    if (st == BNT_OK) {
        tell_recipe(m);
        st = put_general(m, err);
    }
    if (st == BNT_OK) {
        st = put_hyper_parameters(m, err);
    }
    if (st == BNT_OK) {
        st = tiny_vocab_put(&m->plan, m->r.tokenizer, m->r.n_vocab, m->r.seed, err);
    }
    return st == BNT_OK ? plan_scratch_tensors(m, err) : st;
}

/* ---- like another file ---- */

static bool is_tokenizer_key(struct gguf_str key)
{
    return key.len > 10 && memcmp(key.data, "tokenizer.", 10) == 0;
}

/* Where the mark goes, or what belongs to another vocabulary, nothing is taken. */
static bool is_taken(const struct making *m, struct gguf_str key)
{
    return !(key.len > 13 && memcmp(key.data, "general.mock.", 13) == 0) &&
           !(m->r.tokenizer && is_tokenizer_key(key));
}

static enum bnt_status copy_keys(struct making *m, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < m->like->n_kv; i++) {
        if (is_taken(m, m->like->kv[i].key)) {
            st = gplan_put_copy(&m->plan, m->like, &m->like->kv[i], err);
        }
        if (st == BNT_OK && i == 0) {
            st = put_mark(m, err);
        }
    }
    return st;
}

/* Numbers of the recipe take the place of the file's: the dimensions before and after. */
static enum bnt_status override(struct making *m, struct shape_dims *dims, struct bnt_err *err)
{
    struct bnt_mock_recipe *r = &m->r;
    uint64_t n_head = 0, n_head_kv = 0;
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s.attention.head_count", m->arch->name);
    gguf_get_u64(m->like, key, &n_head);
    n_head_kv = n_head;
    snprintf(key, sizeof key, "%s.attention.head_count_kv", m->arch->name);
    gguf_get_u64(m->like, key, &n_head_kv);
    struct bnt_mock_recipe full = {.n_layer = or_default(r->n_layer, dims->n_layer),
                                   .n_embd = or_default(r->n_embd, (uint32_t)dims->n[SHAPE_EMBD]),
                                   .n_head = or_default(r->n_head, (uint32_t)n_head),
                                   .n_head_kv = or_default(r->n_head_kv, (uint32_t)n_head_kv),
                                   .n_ff = or_default(r->n_ff, (uint32_t)dims->n[SHAPE_FF]),
                                   .n_vocab =
                                       or_default(r->n_vocab, (uint32_t)dims->n[SHAPE_VOCAB]),
                                   .n_ctx = or_default(r->n_ctx, 1)};
    enum bnt_status st = check_ranges(&full, err);
    if (st == BNT_OK && full.n_layer > dims->n_layer) {
        st = bnt_err_set(err, BNT_E_USAGE, "%s has only %u layers", m->like->path, dims->n_layer);
    }
    if (st == BNT_OK && r->n_vocab && !r->tokenizer) {
        bnt_err_hint(err, "add --tokenizer bpe or --tokenizer spm");
        st = bnt_err_set(err, BNT_E_USAGE, "--vocab with --like needs a vocabulary of its own");
    }
    uint64_t head_dim = full.n_embd / full.n_head;
    dims->n_layer = full.n_layer;
    dims->n[SHAPE_EMBD] = full.n_embd;
    dims->n[SHAPE_FF] = full.n_ff;
    dims->n[SHAPE_VOCAB] = full.n_vocab;
    dims->n[SHAPE_Q] = full.n_head * head_dim;
    dims->n[SHAPE_KV] = full.n_head_kv * head_dim;
    dims->n[SHAPE_HEAD] = head_dim;
    dims->n[SHAPE_FACTORS] = head_dim / 2;
    return st;
}

/* The overridden numbers in the keys that are there. */
static enum bnt_status override_keys(struct making *m, const struct shape_dims *dims,
                                     struct bnt_err *err)
{
    const struct bnt_mock_recipe *r = &m->r;
    const uint32_t head_dim = (uint32_t)(2 * dims->n[SHAPE_FACTORS]);
    const struct {
        const char *suffix;
        uint32_t value; /* 0: as it is */
    } rows[] = {{"vocab_size", r->n_vocab},
                {"context_length", r->n_ctx},
                {"embedding_length", r->n_embd},
                {"block_count", r->n_layer},
                {"feed_forward_length", r->n_ff},
                {"attention.head_count", r->n_head},
                {"attention.head_count_kv", r->n_head_kv},
                {"rope.dimension_count", r->n_embd || r->n_head ? head_dim : 0},
                {"attention.key_length", r->n_embd || r->n_head ? head_dim : 0},
                {"attention.value_length", r->n_embd || r->n_head ? head_dim : 0}};
    enum bnt_status st = BNT_OK;
    char key[KEY_BYTES];
    for (size_t i = 0; st == BNT_OK && i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(key, sizeof key, "%s.%s", m->arch->name, rows[i].suffix);
        if (rows[i].value && gplan_find(&m->plan, key)) {
            st = put_arch_u32(m, rows[i].suffix, rows[i].value, err);
        }
    }
    return st;
}

static enum bnt_status copy_tensors(struct making *m, const struct shape_dims *from,
                                    const struct shape_dims *to, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < m->like->n_tensors; i++) {
        const struct gguf_tensor *t = &m->like->tensors[i];
        uint32_t layer;
        const struct shape_rule *rule = shape_find(t->name, &layer);
        uint64_t cols = t->ne[0], rows = t->ne[1] * t->ne[2] * t->ne[3];
        if (rule && cols == from->n[rule->cols] && rows == from->n[rule->rows]) {
            cols = to->n[rule->cols];
            rows = to->n[rule->rows];
        }
        char name[GGUF_MAX_NAME_BYTES + 1];
        snprintf(name, sizeof name, "%.*s", (int)t->name.len, t->name.data);
        if (!rule || !rule->per_layer || layer < to->n_layer) {
            st = gplan_add_tensor(&m->plan, name, t->type, cols, rows, err);
        }
    }
    return st;
}

/* What a drawn vocabulary has not, but the other file: as it is, save what speaks of its tokens. */
static enum bnt_status adopt_other(struct making *m, const struct gguf_plan *drawn, uint64_t n,
                                   const struct gguf_kv *kv, struct bnt_err *err)
{
    static const char id_suffix[] = "_token_id";
    const size_t suffix = sizeof id_suffix - 1;
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
    if (kv->key.len > suffix && strcmp(key + kv->key.len - suffix, id_suffix) == 0) {
        const struct bnt_buf *end = &gplan_find(drawn, "tokenizer.ggml.eos_token_id")->value;
        return gplan_add_raw(&m->plan, key, end->data, end->len, err);
    }
    const struct gguf_kv *tokens = gguf_find(m->like, "tokenizer.ggml.tokens");
    bool per_token =
        kv->type == GGUF_ARR && kv->elem_type == GGUF_F32 && tokens && kv->n == tokens->n;
    if (!per_token) {
        return gplan_put_copy(&m->plan, m->like, kv, err);
    }
    struct bnt_buf zeros = BNT_BUF(GPLAN_MAX_BYTES);
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < n; i++) {
        st = gplan_append_number(&zeros, 0, 4, err);
    }
    st = st == BNT_OK ? gplan_put_array(&m->plan, key, GGUF_F32, n, &zeros, err) : st;
    bnt_buf_release(&zeros);
    return st;
}

/* A drawn vocabulary under the keys that the other file has, and those that none can do without. */
static enum bnt_status adopt_vocabulary(struct making *m, uint64_t n, struct bnt_err *err)
{
    static const char *const needed[] = {"tokenizer.ggml.model", "tokenizer.ggml.tokens",
                                         "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
                                         "tokenizer.ggml.scores"};
    struct gguf_plan drawn;
    gplan_init(&drawn);
    enum bnt_status st = tiny_vocab_put(&drawn, m->r.tokenizer, (uint32_t)n, m->r.seed, err);
    for (uint64_t i = 0; st == BNT_OK && i < m->like->n_kv; i++) {
        const struct gguf_kv *kv = &m->like->kv[i];
        char key[KEY_BYTES];
        snprintf(key, sizeof key, "%.*s", (int)kv->key.len, kv->key.data);
        const struct gplan_kv *own = gplan_find(&drawn, key);
        if (is_tokenizer_key(kv->key)) {
            st = own ? gplan_add_raw(&m->plan, key, own->value.data, own->value.len, err)
                     : adopt_other(m, &drawn, n, kv, err);
        }
    }
    for (size_t i = 0; st == BNT_OK && i < sizeof needed / sizeof needed[0]; i++) {
        const struct gplan_kv *own = gplan_find(&drawn, needed[i]);
        if (own && !gplan_find(&m->plan, needed[i])) {
            st = gplan_add_raw(&m->plan, needed[i], own->value.data, own->value.len, err);
        }
    }
    gplan_release(&drawn);
    return st;
}

static enum bnt_status digest_header(struct making *m, struct bnt_err *err)
{
    struct bnt_mapping map;
    struct bnt_sha256 *sha = NULL;
    enum bnt_status st = bnt_map_file(m->r.like, &map, err);
    if (st != BNT_OK) {
        return st;
    }
    st = bnt_sha256_new(&sha, err);
    if (st == BNT_OK) {
        st = bnt_sha256_update(sha, map.data, (size_t)m->like->data_offset, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(sha, m->like_digest, err);
    }
    bnt_sha256_free(sha);
    bnt_unmap(&map);
    return st;
}

static enum bnt_status open_like(struct making *m, struct bnt_err *err)
{
    struct gguf_str arch = {"", 0};
    if (m->r.arch || m->r.type || m->r.embd_type) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "--like takes family and types from its file: leave --arch, --type and "
                           "--embd-type away");
    }
    enum bnt_status st = gguf_open(m->r.like, GGUF_MODE_AUTO, &m->like, err);
    if (st == BNT_OK) {
        st = digest_header(m, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    gguf_get_str(m->like, "general.architecture", &arch);
    m->arch = arch_find(arch.data, arch.len);
    return m->arch ? BNT_OK
                   : gguf_fail(err, GGUF_FAULT_ARCHITECTURE,
                               "%s: architecture '%.*s' is not known here; known are %s", m->r.like,
                               arch.len > 64 ? 64 : (int)arch.len, arch.data, arch_names());
}

static enum bnt_status plan_like(struct making *m, struct bnt_err *err)
{
    struct shape_dims from, to;
    enum bnt_status st = open_like(m, err);
    if (st == BNT_OK) {
        st = shape_read(m->like, m->arch->name, &from, err);
    }
    if (st == BNT_OK) {
        to = from;
        tell_recipe(m);
        m->r.arch = m->arch->name;
        st = override(m, &to, err);
    }
    if (st == BNT_OK) {
        st = copy_keys(m, err);
    }
    if (st == BNT_OK) {
        st = override_keys(m, &to, err);
    }
    if (st == BNT_OK && m->r.tokenizer) {
        st = adopt_vocabulary(m, to.n[SHAPE_VOCAB], err);
    }
    if (st == BNT_OK) {
        m->plan.alignment = (uint32_t)m->like->alignment;
        st = copy_tensors(m, &from, &to, err);
    }
    return st;
}

/* ---- writing ---- */

struct sink {
    struct bnt_durable file;
    struct bnt_sha256 *digest;
    uint64_t bytes;       /* that a sound file would have by now */
    uint64_t written;     /* no more than target.cut_bytes */
    uint64_t data_offset; /* of the data, once the header is out */
    struct fault_target target;
    const volatile sig_atomic_t *interrupted;
};

static enum bnt_status put_bytes(struct sink *s, const void *bytes, size_t n, struct bnt_err *err)
{
    uint64_t room = s->target.cut_bytes - s->written;
    n = n < room ? n : (size_t)room;
    enum bnt_status st = n ? bnt_durable_write(&s->file, bytes, n, err) : BNT_OK;
    s->written += n;
    return st == BNT_OK && n ? bnt_sha256_update(s->digest, bytes, n, err) : st;
}

/* The bytes of a piece that the fault touches, changed in a copy. */
static enum bnt_status put_patched(struct sink *s, const uint8_t *bytes, size_t n,
                                   struct bnt_err *err)
{
    uint64_t begin = s->data_offset + s->target.patch.at;
    uint8_t *copy = malloc(n);
    if (!copy) {
        return bnt_err_nomem(err, "a piece of a tensor", n);
    }
    memcpy(copy, bytes, n);
    for (size_t i = 0; i < s->target.patch.n; i++) {
        uint64_t at = begin + i - s->bytes; /* wraps past n where the piece does not hold it */
        if (at < n) {
            uint8_t b = s->target.patch.bytes[i];
            copy[at] = s->target.patch.flip ? copy[at] ^ b : b;
        }
    }
    enum bnt_status st = put_bytes(s, copy, n, err);
    free(copy);
    return st;
}

static enum bnt_status sink_write(void *ctx, const void *bytes, size_t n, struct bnt_err *err)
{
    struct sink *s = ctx;
    uint64_t begin = s->data_offset + s->target.patch.at;
    if (s->interrupted && *s->interrupted) {
        return bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted: nothing was written");
    }
    bool touched = s->target.patch.n && s->data_offset && begin < s->bytes + n &&
                   begin + s->target.patch.n > s->bytes;
    enum bnt_status st = touched ? put_patched(s, bytes, n, err) : put_bytes(s, bytes, n, err);
    s->bytes += n;
    return st;
}

static enum bnt_status pad_to(struct sink *s, uint64_t at, struct bnt_err *err)
{
    static const uint8_t zeros[64];
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && s->bytes < at) {
        uint64_t n = at - s->bytes;
        st = sink_write(s, zeros, n < sizeof zeros ? (size_t)n : sizeof zeros, err);
    }
    return st;
}

/* Places and header, which a fault may spoil after the sound ones are kept in *sound. */
static enum bnt_status write_header(struct making *m, struct sink *s, struct gplan_tensor *sound,
                                    struct bnt_err *err)
{
    struct bnt_buf header = BNT_BUF(GPLAN_MAX_BYTES);
    gplan_place(&m->plan);
    memcpy(sound, m->plan.tensors, m->plan.n_tensors * sizeof *sound);
    s->target.header = &header;
    enum bnt_status st = file_fault_place(m->fault, &s->target, err);
    if (st == BNT_OK) {
        st = gplan_header(&m->plan, &header, err);
    }
    if (st == BNT_OK) {
        st = file_fault_header(m->fault, &s->target, err);
    }
    if (st == BNT_OK) {
        st = sink_write(s, header.data, header.len, err);
    }
    s->data_offset = header.len;
    s->target.header = NULL;
    bnt_buf_release(&header);
    return st;
}

static enum bnt_status write_all(struct making *m, struct sink *s, struct bnt_err *err)
{
    struct tiny_weights w = {.seed = m->r.seed, .layout = m->layout, .sink = sink_write, .ctx = s};
    s->target = (struct fault_target){.plan = &m->plan, .arch = m->r.arch, .cut_bytes = UINT64_MAX};
    enum bnt_status st = file_fault_plan(m->fault, &s->target, err);
    struct gplan_tensor *sound = malloc((m->plan.n_tensors + 1) * sizeof *sound);
    if (st == BNT_OK) {
        st = sound ? write_header(m, s, sound, err)
                   : bnt_err_nomem(err, "tensor infos", m->plan.n_tensors * sizeof *sound);
    }
    for (size_t i = 0; st == BNT_OK && i < m->plan.n_tensors; i++) {
        st = pad_to(s, s->data_offset + sound[i].offset, err);
        if (st == BNT_OK) {
            st = tiny_weights_fill(&w, &sound[i], err);
        }
    }
    free(sound);
    uint64_t padded = (s->bytes + m->plan.alignment - 1) / m->plan.alignment * m->plan.alignment;
    return st == BNT_OK ? pad_to(s, padded, err) : st;
}

static enum bnt_status write_file(struct making *m, const char *path, struct bnt_mock_made *out,
                                  struct bnt_err *err)
{
    struct sink s = {.interrupted = m->r.interrupted};
    enum bnt_status st = bnt_durable_open(&s.file, path, err);
    if (st != BNT_OK) {
        return st;
    }
    st = bnt_sha256_new(&s.digest, err);
    if (st == BNT_OK) {
        st = write_all(m, &s, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(s.digest, out->digest, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_commit(&s.file, 0644, err);
    }
    bnt_durable_release(&s.file);
    bnt_sha256_free(s.digest);
    out->bytes = s.written;
    snprintf(out->recipe, sizeof out->recipe, "%s", m->recipe);
    return st;
}

enum bnt_status bnt_mock_make(const struct bnt_mock_recipe *r, const char *path,
                              struct bnt_mock_made *out, struct bnt_err *err)
{
    struct making *m = calloc(1, sizeof *m);
    if (!m) {
        return bnt_err_nomem(err, "a mock", sizeof *m);
    }
    m->r = *r;
    gplan_init(&m->plan);
    enum bnt_status st = r->layout ? i2s_layout_parse(r->layout, &m->layout, err) : BNT_OK;
    if (st == BNT_OK) {
        st = file_fault_find(r->fault, &m->fault, err);
    }
    if (st == BNT_OK) {
        st = r->like ? plan_like(m, err) : plan_scratch(m, err);
    }
    if (st == BNT_OK) {
        st = write_file(m, path, out, err);
    }
    gplan_release(&m->plan);
    gguf_close(m->like);
    free(m);
    return st;
}
