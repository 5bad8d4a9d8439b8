#include "mock/file_fault.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opt.h"
#include "engine/tensor_type.h"

typedef enum bnt_status fault_fn(struct fault_target *t, struct bnt_err *err);

struct file_fault {
    struct bnt_mock_file_fault public;
    fault_fn *plan, *place, *header;
};

enum { KEY_BYTES = 160, TAIL_BYTES = 32 };

/* ---- parts ---- */

static enum bnt_status nothing_to_break(const char *what, struct bnt_err *err)
{
    return bnt_err_set(err, BNT_E_USAGE, "the fault cannot be planted: the file has no %s", what);
}

static const char *arch_key(const struct fault_target *t, const char *suffix, char key[KEY_BYTES])
{
    snprintf(key, KEY_BYTES, "%s.%s", t->arch, suffix);
    return key;
}

static enum bnt_status drop(struct fault_target *t, const char *key, struct bnt_err *err)
{
    if (!gplan_find(t->plan, key)) {
        return nothing_to_break(key, err);
    }
    gplan_drop(t->plan, key);
    return BNT_OK;
}

static enum bnt_status drop_tensor(struct fault_target *t, const char *name, struct bnt_err *err)
{
    if (!gplan_find_tensor(t->plan, name)) {
        return nothing_to_break(name, err);
    }
    gplan_drop_tensor(t->plan, name);
    return BNT_OK;
}

static enum bnt_status set_u32(struct fault_target *t, const char *suffix, uint32_t v,
                               struct bnt_err *err)
{
    char key[KEY_BYTES];
    return gplan_put_u32(t->plan, arch_key(t, suffix, key), v, err);
}

static enum bnt_status set_f32(struct fault_target *t, const char *suffix, float v,
                               struct bnt_err *err)
{
    char key[KEY_BYTES];
    return gplan_put_f32(t->plan, arch_key(t, suffix, key), v, err);
}

/* A number of a key that stands in the plan as u32; 0 when there is none. */
static uint32_t planned_u32(const struct fault_target *t, const char *suffix)
{
    char key[KEY_BYTES];
    const struct gplan_kv *kv = gplan_find(t->plan, arch_key(t, suffix, key));
    uint32_t v = 0;
    if (kv && kv->value.len == 8) {
        memcpy(&v, kv->value.data + 4, sizeof v);
    }
    return v;
}

static struct gplan_tensor *last_tensor(const struct fault_target *t)
{
    return t->plan->n_tensors ? &t->plan->tensors[t->plan->n_tensors - 1] : NULL;
}

static void put_bytes(struct bnt_buf *b, size_t at, uint64_t v, unsigned width)
{
    for (unsigned i = 0; i < width && at + i < b->len; i++) {
        b->data[at + i] = (char)(v >> 8 * i);
    }
}

/* Where the value of a key begins in the header, at its type. */
static enum bnt_status value_place(const struct fault_target *t, const char *key, size_t *at,
                                   struct bnt_err *err)
{
    const char *found = memmem(t->header->data, t->header->len, key, strlen(key));
    if (!found) {
        return nothing_to_break(key, err);
    }
    *at = (size_t)(found - t->header->data) + strlen(key);
    return BNT_OK;
}

/* A number of the value, `offset` bytes behind its start. */
static enum bnt_status overwrite_value(struct fault_target *t, const char *key, size_t offset,
                                       uint64_t v, struct bnt_err *err)
{
    size_t at = 0;
    enum bnt_status st = value_place(t, key, &at, err);
    if (st == BNT_OK) {
        put_bytes(t->header, at + offset, v, offset == 0 ? 4 : 8);
    }
    return st;
}

/* Set bytes inside the data of a tensor. */
static enum bnt_status patch_tensor(struct fault_target *t, const char *name, uint64_t at,
                                    const void *bytes, size_t n, struct bnt_err *err)
{
    const struct gplan_tensor *tensor = gplan_find_tensor(t->plan, name);
    if (!tensor || at + n > tensor->size) {
        return nothing_to_break(name, err);
    }
    t->patch.at = tensor->offset + at;
    t->patch.n = n;
    memcpy(t->patch.bytes, bytes, n);
    return BNT_OK;
}

/* The scale behind the codes of a tensor. */
static enum bnt_status patch_scale(struct fault_target *t, float scale, struct bnt_err *err)
{
    static const char name[] = "blk.0.ffn_up.weight";
    const struct gplan_tensor *tensor = gplan_find_tensor(t->plan, name);
    bool tail = tensor && (tensor->type == TENSOR_I2_S || tensor->type == TENSOR_TL1 ||
                           tensor->type == TENSOR_TL2);
    if (!tail) {
        return nothing_to_break("scale of its own (use --type i2_s)", err);
    }
    uint64_t n = tensor->ne[0] * tensor->ne[1] / 4;
    return patch_tensor(t, name, tensor->type == TENSOR_TL2 ? tensor->size - TAIL_BYTES : n, &scale,
                        sizeof scale, err);
}

/* ---- header ---- */

static enum bnt_status bad_magic(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->header->data[3] = 'X';
    return BNT_OK;
}

static enum bnt_status empty_file(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->cut_bytes = 0;
    return BNT_OK;
}

static enum bnt_status cut_in_header(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->cut_bytes = t->header->len / 2;
    return BNT_OK;
}

static enum bnt_status version_1(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->plan->version = 1;
    return BNT_OK;
}

static enum bnt_status version_99(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->plan->version = 99;
    return BNT_OK;
}

/* ---- places ---- */

static enum bnt_status alignment_24(struct fault_target *t, struct bnt_err *err)
{
    return gplan_put_u32(t->plan, "general.alignment", 24, err);
}

static enum bnt_status alignment_zero(struct fault_target *t, struct bnt_err *err)
{
    return gplan_put_u32(t->plan, "general.alignment", 0, err);
}

static enum bnt_status tensor_unaligned(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    last_tensor(t)->offset += 4;
    return BNT_OK;
}

static enum bnt_status tensor_past_end(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    last_tensor(t)->offset += 1ull << 40;
    return BNT_OK;
}

static enum bnt_status tensors_overlap(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->plan->tensors[1].offset = t->plan->tensors[0].offset;
    return BNT_OK;
}

static enum bnt_status cut_short(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->cut_bytes = t->header->len + last_tensor(t)->offset + last_tensor(t)->size - 1;
    return BNT_OK;
}

static enum bnt_status no_data(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->cut_bytes = t->header->len;
    return BNT_OK;
}

/* ---- counts and lengths ---- */

static enum bnt_status tensor_count(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    put_bytes(t->header, 8, UINT64_MAX, 8);
    return BNT_OK;
}

static enum bnt_status key_count(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    put_bytes(t->header, 16, 1ull << 40, 8);
    return BNT_OK;
}

static enum bnt_status key_length(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    put_bytes(t->header, 24, UINT64_MAX, 8);
    return BNT_OK;
}

static enum bnt_status string_length(struct fault_target *t, struct bnt_err *err)
{
    return overwrite_value(t, "general.architecture", 4, 1ull << 62, err);
}

static enum bnt_status array_length(struct fault_target *t, struct bnt_err *err)
{
    return overwrite_value(t, "tokenizer.ggml.token_type", 8, 1ull << 61, err);
}

static enum bnt_status five_dimensions(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    t->plan->tensors[0].n_dims = 5;
    return BNT_OK;
}

/* ---- types ---- */

static enum bnt_status value_type(struct fault_target *t, struct bnt_err *err)
{
    return overwrite_value(t, "general.architecture", 0, 99, err);
}

static enum bnt_status tensor_type_unknown(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    last_tensor(t)->type = 4242;
    return BNT_OK;
}

static enum bnt_status tensor_type_foreign(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    last_tensor(t)->type = 16; /* IQ2_XXS */
    return BNT_OK;
}

static enum bnt_status retype(struct fault_target *t, const char *name, enum tensor_type type,
                              struct bnt_err *err)
{
    struct gplan_tensor *tensor = gplan_find_tensor(t->plan, name);
    uint64_t size;
    if (!tensor || !tensor_size(type, tensor->ne, &size) || size > tensor->size) {
        return nothing_to_break(name, err);
    }
    tensor->type = (uint32_t)type;
    return BNT_OK;
}

static enum bnt_status norm_type(struct fault_target *t, struct bnt_err *err)
{
    return retype(t, "blk.0.attn_norm.weight", TENSOR_Q8_0, err);
}

static enum bnt_status embedding_type(struct fault_target *t, struct bnt_err *err)
{
    return retype(t, "token_embd.weight", TENSOR_I2_S, err);
}

/* ---- what stands twice or makes no sense ---- */

static enum bnt_status key_twice(struct fault_target *t, struct bnt_err *err)
{
    const struct gplan_kv *kv = &t->plan->kv[0];
    char key[KEY_BYTES];
    struct bnt_buf value = BNT_BUF(GPLAN_MAX_BYTES);
    snprintf(key, sizeof key, "%s", kv->key);
    enum bnt_status st = bnt_buf_append(&value, kv->value.data, kv->value.len, err);
    if (st == BNT_OK) {
        st = gplan_add_raw(t->plan, key, value.data, value.len, err);
    }
    bnt_buf_release(&value);
    return st;
}

static enum bnt_status key_empty(struct fault_target *t, struct bnt_err *err)
{
    static const uint8_t one[] = {GGUF_U8, 0, 0, 0, 1};
    return gplan_add_raw(t->plan, "", one, sizeof one, err);
}

static enum bnt_status boolean_2(struct fault_target *t, struct bnt_err *err)
{
    static const uint8_t two[] = {GGUF_BOOL, 0, 0, 0, 2};
    return gplan_add_raw(t->plan, "general.mock.flag", two, sizeof two, err);
}

static enum bnt_status tensor_twice(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    memcpy(t->plan->tensors[1].name, t->plan->tensors[0].name, sizeof t->plan->tensors[0].name);
    return BNT_OK;
}

/* ---- shapes ---- */

static enum bnt_status dimension_zero(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    last_tensor(t)->ne[0] = 0;
    return BNT_OK;
}

static enum bnt_status not_of_blocks(struct fault_target *t, struct bnt_err *err)
{
    (void)err;
    last_tensor(t)->type = TENSOR_Q8_0;
    last_tensor(t)->ne[0] = 33;
    return BNT_OK;
}

static enum bnt_status shape_swapped(struct fault_target *t, struct bnt_err *err)
{
    struct gplan_tensor *down = gplan_find_tensor(t->plan, "blk.0.ffn_down.weight");
    if (!down || down->ne[0] == down->ne[1]) {
        return nothing_to_break("blk.0.ffn_down.weight that is not square", err);
    }
    uint64_t ne[4] = {down->ne[1], down->ne[0], 1, 1}, size;
    if (!tensor_size((enum tensor_type)down->type, ne, &size) || size != down->size) {
        return nothing_to_break("blk.0.ffn_down.weight that can be turned", err);
    }
    memcpy(down->ne, ne, sizeof ne);
    return BNT_OK;
}

static enum bnt_status heads_uneven(struct fault_target *t, struct bnt_err *err)
{
    uint32_t n = planned_u32(t, "attention.head_count");
    return n > 2 ? set_u32(t, "attention.head_count_kv", n - 1, err)
                 : nothing_to_break("three heads", err);
}

/* ---- what the architecture needs ---- */

static enum bnt_status architecture_missing(struct fault_target *t, struct bnt_err *err)
{
    return drop(t, "general.architecture", err);
}

static enum bnt_status architecture_unknown(struct fault_target *t, struct bnt_err *err)
{
    return gplan_put_str(t->plan, "general.architecture", "nobody-knows", err);
}

static enum bnt_status heads_missing(struct fault_target *t, struct bnt_err *err)
{
    char key[KEY_BYTES];
    return drop(t, arch_key(t, "attention.head_count", key), err);
}

static enum bnt_status epsilon_missing(struct fault_target *t, struct bnt_err *err)
{
    char key[KEY_BYTES];
    return drop(t, arch_key(t, "attention.layer_norm_rms_epsilon", key), err);
}

static enum bnt_status epsilon_nan(struct fault_target *t, struct bnt_err *err)
{
    return set_f32(t, "attention.layer_norm_rms_epsilon", NAN, err);
}

static enum bnt_status layers_zero(struct fault_target *t, struct bnt_err *err)
{
    return set_u32(t, "block_count", 0, err);
}

static enum bnt_status layers_one_more(struct fault_target *t, struct bnt_err *err)
{
    return set_u32(t, "block_count", planned_u32(t, "block_count") + 1, err);
}

static enum bnt_status tensor_missing(struct fault_target *t, struct bnt_err *err)
{
    return drop_tensor(t, "blk.0.ffn_down.weight", err);
}

static enum bnt_status norm_missing(struct fault_target *t, struct bnt_err *err)
{
    return drop_tensor(t, "output_norm.weight", err);
}

static enum bnt_status embedding_missing(struct fault_target *t, struct bnt_err *err)
{
    return drop_tensor(t, "token_embd.weight", err);
}

/* ---- tokenizer ---- */

static enum bnt_status tokenizer_missing(struct fault_target *t, struct bnt_err *err)
{
    return drop(t, "tokenizer.ggml.model", err);
}

static enum bnt_status tokenizer_unknown(struct fault_target *t, struct bnt_err *err)
{
    return gplan_put_str(t->plan, "tokenizer.ggml.model", "wordpiece", err);
}

static enum bnt_status tokens_missing(struct fault_target *t, struct bnt_err *err)
{
    return drop(t, "tokenizer.ggml.tokens", err);
}

static enum bnt_status merges_missing(struct fault_target *t, struct bnt_err *err)
{
    return drop(t, "tokenizer.ggml.merges", err);
}

static enum bnt_status pre_unknown(struct fault_target *t, struct bnt_err *err)
{
    return gplan_find(t->plan, "tokenizer.ggml.merges")
               ? gplan_put_str(t->plan, "tokenizer.ggml.pre", "nobody-knows", err)
               : nothing_to_break("tokenizer.ggml.merges", err);
}

/* One row less than there are tokens. */
static enum bnt_status vocabulary_too_large(struct fault_target *t, struct bnt_err *err)
{
    struct gplan_tensor *embd = gplan_find_tensor(t->plan, "token_embd.weight");
    if (!embd || embd->ne[1] < 2) {
        return nothing_to_break("token_embd.weight", err);
    }
    embd->ne[1]--;
    return BNT_OK;
}

/* One entry less than there are tokens. */
static enum bnt_status token_types_short(struct fault_target *t, struct bnt_err *err)
{
    struct gplan_kv *kv = gplan_find(t->plan, "tokenizer.ggml.token_type");
    if (!kv || kv->value.len < 24) {
        return nothing_to_break("tokenizer.ggml.token_type", err);
    }
    put_bytes(&kv->value, 8, (kv->value.len - 16) / 4 - 1, 8);
    kv->value.len -= 4;
    kv->value.data[kv->value.len] = '\0';
    return BNT_OK;
}

static enum bnt_status start_token_outside(struct fault_target *t, struct bnt_err *err)
{
    return gplan_put_u32(t->plan, "tokenizer.ggml.bos_token_id", 0x7fffffff, err);
}

static enum bnt_status score_nan(struct fault_target *t, struct bnt_err *err)
{
    struct gplan_kv *kv = gplan_find(t->plan, "tokenizer.ggml.scores");
    if (!kv || !gplan_find(t->plan, "tokenizer.ggml.model") || kv->value.len < 20) {
        return nothing_to_break("tokenizer.ggml.scores (use --tokenizer spm)", err);
    }
    put_bytes(&kv->value, 16, 0x7fc00000, 4);
    return BNT_OK;
}

/* ---- scales and weights ---- */

static enum bnt_status scale_nan(struct fault_target *t, struct bnt_err *err)
{
    return patch_scale(t, NAN, err);
}

static enum bnt_status scale_infinite(struct fault_target *t, struct bnt_err *err)
{
    return patch_scale(t, INFINITY, err);
}

static enum bnt_status scale_off(struct fault_target *t, struct bnt_err *err)
{
    return patch_scale(t, -0.5f, err);
}

static enum bnt_status scale_absurd(struct fault_target *t, struct bnt_err *err)
{
    return patch_scale(t, 1e30f, err);
}

static enum bnt_status norm_nan(struct fault_target *t, struct bnt_err *err)
{
    static const uint8_t nan[4] = {0, 0, 0xc0, 0x7f};
    const struct gplan_tensor *norm = gplan_find_tensor(t->plan, "output_norm.weight");
    return norm && norm->type == TENSOR_F32
               ? patch_tensor(t, norm->name, 0, nan, sizeof nan, err)
               : nothing_to_break("output_norm.weight of type F32", err);
}

static enum bnt_status weight_code_3(struct fault_target *t, struct bnt_err *err)
{
    static const uint8_t code = 0xff;
    const struct gplan_tensor *q = gplan_find_tensor(t->plan, "blk.0.attn_q.weight");
    return q && q->type == TENSOR_I2_S ? patch_tensor(t, q->name, 0, &code, 1, err)
                                       : nothing_to_break("blk.0.attn_q.weight of type I2_S", err);
}

static enum bnt_status weight_bit(struct fault_target *t, struct bnt_err *err)
{
    static const uint8_t bit = 0x40;
    t->patch.flip = true;
    return patch_tensor(t, "token_embd.weight", 0, &bit, 1, err);
}

static enum bnt_status rope_base_off(struct fault_target *t, struct bnt_err *err)
{
    return set_f32(t, "rope.freq_base", 100, err);
}

static enum bnt_status epsilon_off(struct fault_target *t, struct bnt_err *err)
{
    return set_f32(t, "attention.layer_norm_rms_epsilon", 0.5f, err);
}

static enum bnt_status end_token_wrong(struct fault_target *t, struct bnt_err *err)
{
    return gplan_put_u32(t->plan, "tokenizer.ggml.eos_token_id", 65, err);
}

/* ---- the table ---- */

#define OPEN(name, breaks, fault, status)                                                          \
    .public = {name, breaks, BNT_MOCK_FOUND_OPEN, GGUF_FAULT_##fault, status, NULL}
#define LOAD(name, breaks, fault, status)                                                          \
    .public = {name, breaks, BNT_MOCK_FOUND_LOAD, GGUF_FAULT_##fault, status, NULL}
#define LOAD_OF(name, breaks, fault, status, needs)                                                \
    .public = {name, breaks, BNT_MOCK_FOUND_LOAD, GGUF_FAULT_##fault, status, needs}
#define DEEP(name, breaks)                                                                         \
    .public = {name, breaks, BNT_MOCK_FOUND_DEEP, GGUF_FAULT_NONE, BNT_OK, NULL}

static const struct file_fault faults[] = {
    {OPEN("bad-magic", "the first four bytes are GGUX", HEADER, BNT_E_FILE), .header = bad_magic},
    {OPEN("empty-file", "there are no bytes", HEADER, BNT_E_FILE), .header = empty_file},
    {OPEN("cut-in-header", "the file ends in the middle of its header", HEADER, BNT_E_FILE),
     .header = cut_in_header},
    {OPEN("version-1", "the version is 1", VERSION, BNT_E_UNSUPPORTED), .plan = version_1},
    {OPEN("version-99", "the version is one from the future", VERSION, BNT_E_UNSUPPORTED),
     .plan = version_99},
    {OPEN("alignment-24", "general.alignment is no power of two", ALIGNMENT, BNT_E_FILE),
     .plan = alignment_24},
    {OPEN("alignment-zero", "general.alignment is 0", ALIGNMENT, BNT_E_FILE),
     .plan = alignment_zero},
    {OPEN("tensor-unaligned", "the last tensor begins 4 bytes late", ALIGNMENT, BNT_E_FILE),
     .place = tensor_unaligned},
    {OPEN("cut-short", "the last byte of the last tensor is missing", SIZE, BNT_E_FILE),
     .header = cut_short},
    {OPEN("no-data", "the file ends where its tensors begin", SIZE, BNT_E_FILE), .header = no_data},
    {OPEN("tensor-past-end", "the last tensor begins a terabyte late", SIZE, BNT_E_FILE),
     .place = tensor_past_end},
    {OPEN("tensors-overlap", "the second tensor begins where the first does", BOUNDS, BNT_E_FILE),
     .place = tensors_overlap},
    {OPEN("tensor-count", "the number of tensors is 2^64 - 1", BOUNDS, BNT_E_FILE),
     .header = tensor_count},
    {OPEN("key-count", "the number of keys is 2^40", BOUNDS, BNT_E_FILE), .header = key_count},
    {OPEN("key-length", "the first key is 2^64 - 1 bytes long", BOUNDS, BNT_E_FILE),
     .header = key_length},
    {OPEN("string-length", "a text is 2^62 bytes long", BOUNDS, BNT_E_FILE),
     .header = string_length},
    {OPEN("array-length", "an array of 2^61 numbers of 4 bytes", BOUNDS, BNT_E_FILE),
     .header = array_length},
    {OPEN("five-dimensions", "the first tensor has five dimensions", BOUNDS, BNT_E_FILE),
     .plan = five_dimensions},
    {OPEN("value-type", "a value has type 99", UNSUPPORTED_TYPE, BNT_E_UNSUPPORTED),
     .header = value_type},
    {OPEN("tensor-type-unknown", "the last tensor has type 4242", UNSUPPORTED_TYPE,
          BNT_E_UNSUPPORTED),
     .place = tensor_type_unknown},
    {OPEN("tensor-type-foreign", "the last tensor is IQ2_XXS, which is not read", UNSUPPORTED_TYPE,
          BNT_E_UNSUPPORTED),
     .place = tensor_type_foreign},
    {OPEN("key-twice", "a key stands twice", CORRUPT, BNT_E_FILE), .plan = key_twice},
    {OPEN("key-empty", "a key has no name", CORRUPT, BNT_E_FILE), .plan = key_empty},
    {OPEN("boolean-2", "a boolean is 2", CORRUPT, BNT_E_FILE), .plan = boolean_2},
    {OPEN("tensor-twice", "two tensors have one name", CORRUPT, BNT_E_FILE), .place = tensor_twice},
    {OPEN("dimension-zero", "the last tensor has no columns", DIMENSIONS, BNT_E_FILE),
     .place = dimension_zero},
    {OPEN("not-of-blocks", "33 columns of a type with blocks of 32", DIMENSIONS, BNT_E_FILE),
     .place = not_of_blocks},
    {LOAD("architecture-missing", "general.architecture is not there", MISSING_METADATA,
          BNT_E_FILE),
     .plan = architecture_missing},
    {LOAD("architecture-unknown", "a family that nobody knows", ARCHITECTURE, BNT_E_UNSUPPORTED),
     .plan = architecture_unknown},
    {LOAD("heads-missing", "the number of heads is not there", MISSING_METADATA, BNT_E_FILE),
     .plan = heads_missing},
    {LOAD("heads-uneven", "heads cannot share the key/value heads evenly", DIMENSIONS, BNT_E_FILE),
     .plan = heads_uneven},
    {LOAD("epsilon-missing", "the epsilon of norms is not there", MISSING_METADATA, BNT_E_FILE),
     .plan = epsilon_missing},
    {LOAD("epsilon-nan", "the epsilon of norms is NaN", BOUNDS, BNT_E_FILE), .plan = epsilon_nan},
    {LOAD("layers-zero", "a model of no layers", BOUNDS, BNT_E_FILE), .plan = layers_zero},
    {LOAD("layers-one-more", "one layer more than there are tensors for", ARCHITECTURE,
          BNT_E_UNSUPPORTED),
     .plan = layers_one_more},
    {LOAD("tensor-missing", "a matrix of the first layer is not there", ARCHITECTURE,
          BNT_E_UNSUPPORTED),
     .plan = tensor_missing},
    {LOAD("norm-missing", "the last norm is not there", ARCHITECTURE, BNT_E_UNSUPPORTED),
     .plan = norm_missing},
    {LOAD("embedding-missing", "the embedding is not there", ARCHITECTURE, BNT_E_UNSUPPORTED),
     .plan = embedding_missing},
    {LOAD("shape-swapped", "rows and columns of a matrix are swapped", DIMENSIONS, BNT_E_FILE),
     .place = shape_swapped},
    {LOAD("norm-type", "a norm is Q8_0", UNSUPPORTED_TYPE, BNT_E_UNSUPPORTED), .place = norm_type},
    {LOAD("embedding-type", "the embedding is I2_S", UNSUPPORTED_TYPE, BNT_E_UNSUPPORTED),
     .place = embedding_type},
    {LOAD("tokenizer-missing", "tokenizer.ggml.model is not there", MISSING_METADATA, BNT_E_FILE),
     .plan = tokenizer_missing},
    {LOAD("tokenizer-unknown", "a kind of tokenizer that is not read", NONE, BNT_E_UNSUPPORTED),
     .plan = tokenizer_unknown},
    {LOAD("tokens-missing", "the vocabulary is not there", MISSING_METADATA, BNT_E_FILE),
     .plan = tokens_missing},
    {LOAD_OF("merges-missing", "the merges are not there", MISSING_METADATA, BNT_E_FILE,
             "--tokenizer bpe"),
     .plan = merges_missing},
    {LOAD_OF("pre-unknown", "a pre-tokenizer that nobody knows", NONE, BNT_E_UNSUPPORTED,
             "--tokenizer bpe"),
     .plan = pre_unknown},
    {LOAD("vocabulary-too-large", "a token more than the embedding has rows", TOKENIZER,
          BNT_E_FILE),
     .place = vocabulary_too_large},
    {LOAD("token-types-short", "a token more than there are token types", TOKENIZER, BNT_E_FILE),
     .plan = token_types_short},
    {LOAD("start-token-outside", "the start token is none of the vocabulary", TOKENIZER,
          BNT_E_FILE),
     .plan = start_token_outside},
    {LOAD_OF("score-nan", "the score of a token is NaN", TOKENIZER, BNT_E_FILE, "--tokenizer spm"),
     .plan = score_nan},
    {LOAD_OF("scale-nan", "the scale of a ternary matrix is NaN", SCALE, BNT_E_FILE,
             "--type i2_s, tl1 or tl2"),
     .place = scale_nan},
    {LOAD_OF("scale-infinite", "the scale of a ternary matrix is infinite", SCALE, BNT_E_FILE,
             "--type i2_s, tl1 or tl2"),
     .place = scale_infinite},
    {DEEP("scale-off", "the scale of a ternary matrix has the wrong sign and size"),
     .place = scale_off},
    {DEEP("scale-absurd", "the scale of a ternary matrix is 1e30"), .place = scale_absurd},
    {DEEP("norm-nan", "an element of the last norm is NaN"), .place = norm_nan},
    {DEEP("weight-code-3", "four codes of a ternary matrix mean no weight"),
     .place = weight_code_3},
    {DEEP("weight-bit", "one bit of the embedding is turned over"), .place = weight_bit},
    {DEEP("rope-base-off", "heads are rotated with another base"), .plan = rope_base_off},
    {DEEP("epsilon-off", "the epsilon of norms is 0.5"), .plan = epsilon_off},
    {DEEP("end-token-wrong", "the end token is a letter"), .plan = end_token_wrong},
};

enum { N_FAULTS = sizeof faults / sizeof faults[0] };

const struct bnt_mock_file_fault *bnt_mock_file_fault(size_t i)
{
    return i < N_FAULTS ? &faults[i].public : NULL;
}

const char *bnt_mock_found_name(enum bnt_mock_found found)
{
    static const char *const names[] = {"open", "load", "deep"};
    return names[found];
}

enum bnt_status file_fault_find(const char *name, const struct file_fault **out,
                                struct bnt_err *err)
{
    const char *names[N_FAULTS + 1] = {NULL};
    *out = NULL;
    for (size_t i = 0; name && i < N_FAULTS; i++) {
        names[i] = faults[i].public.name;
        if (strcmp(names[i], name) == 0) {
            *out = &faults[i];
        }
    }
    if (!name || *out) {
        return BNT_OK;
    }
    const char *near = bnt_did_you_mean(name, names);
    bnt_err_hint(err, near ? "did you mean %s?" : "bnt mock faults lists them", near);
    return bnt_err_set(err, BNT_E_USAGE, "there is no fault of the name %s", name);
}

enum bnt_status file_fault_plan(const struct file_fault *fault, struct fault_target *t,
                                struct bnt_err *err)
{
    return fault && fault->plan ? fault->plan(t, err) : BNT_OK;
}

enum bnt_status file_fault_place(const struct file_fault *fault, struct fault_target *t,
                                 struct bnt_err *err)
{
    if (fault && t->plan->n_tensors < 2) {
        return nothing_to_break("two tensors", err);
    }
    return fault && fault->place ? fault->place(t, err) : BNT_OK;
}

enum bnt_status file_fault_header(const struct file_fault *fault, struct fault_target *t,
                                  struct bnt_err *err)
{
    return fault && fault->header ? fault->header(t, err) : BNT_OK;
}
