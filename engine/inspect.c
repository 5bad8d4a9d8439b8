/* Facts about a model file for `bnt inspect`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/arch.h"
#include "engine/cmd_inspect_impl.h"

/* general.file_type: what most tensors are. The numbers are llama.cpp's, from 36 on bitnet.cpp's,
 * from 134 on ik_llama.cpp's; two names have 40. */
static const struct {
    int64_t id;
    const char *name;
} file_types[] = {
    {0, "F32"},     {1, "F16"},      {2, "Q4_0"},     {3, "Q4_1"},        {7, "Q8_0"},
    {8, "Q5_0"},    {9, "Q5_1"},     {10, "Q2_K"},    {11, "Q3_K_S"},     {12, "Q3_K_M"},
    {13, "Q3_K_L"}, {14, "Q4_K_S"},  {15, "Q4_K_M"},  {16, "Q5_K_S"},     {17, "Q5_K_M"},
    {18, "Q6_K"},   {25, "IQ4_NL"},  {30, "IQ4_XS"},  {32, "BF16"},       {36, "TQ1_0"},
    {37, "TQ2_0"},  {38, "TL1"},     {39, "TL2"},     {40, "I2_S"},       {40, "Q1_0"},
    {41, "Q2_0"},   {136, "IQ1_BN"}, {137, "IQ2_BN"}, {337, "IQ2_BN_R4"},
};

static const struct {
    const char *role, *key;
} special_keys[INSPECT_N_SPECIAL] = {
    {"bos", "tokenizer.ggml.bos_token_id"},     {"eos", "tokenizer.ggml.eos_token_id"},
    {"eot", "tokenizer.ggml.eot_token_id"},     {"unk", "tokenizer.ggml.unknown_token_id"},
    {"pad", "tokenizer.ggml.padding_token_id"},
};

/* The integer <arch>.<suffix>, or -1. */
static int64_t arch_number(const struct inspect *in, const char *suffix)
{
    char key[256];
    int64_t v = -1;
    int n = snprintf(key, sizeof key, "%.*s.%s", (int)(in->arch.len < 128 ? in->arch.len : 128),
                     in->arch.data, suffix);
    if (n < 0 || (size_t)n >= sizeof key || !gguf_get_i64(in->g, key, &v)) {
        return -1;
    }
    return v;
}

static uint64_t array_len(const struct gguf *g, const char *key)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    return kv && kv->type == GGUF_ARR ? kv->n : 0;
}

static void gather_architecture(struct inspect *in)
{
    in->arch = in->name = (struct gguf_str){"", 0};
    gguf_get_str(in->g, "general.name", &in->name);
    if (gguf_get_str(in->g, "general.architecture", &in->arch)) {
        const struct arch *known = arch_find(in->arch.data, in->arch.len);
        in->family = known ? known->family : NULL;
    }
    in->n_layer = arch_number(in, "block_count");
    in->n_embd = arch_number(in, "embedding_length");
    in->n_ff = arch_number(in, "feed_forward_length");
    in->n_head = arch_number(in, "attention.head_count");
    in->n_head_kv = arch_number(in, "attention.head_count_kv");
    in->n_ctx = arch_number(in, "context_length");
    in->n_vocab = arch_number(in, "vocab_size");
    if (in->n_vocab < 0 && in->n_tokens > 0) {
        in->n_vocab = (int64_t)in->n_tokens;
    }
    in->file_type = -1;
    gguf_get_i64(in->g, "general.file_type", &in->file_type);
}

bool inspect_has_type(const struct inspect *in, const char *name)
{
    for (size_t i = 0; i < in->n_types; i++) {
        const char *type = in->types[i].name;
        size_t ours = strlen(name), theirs = type ? strlen(type) : 0;
        if (type && strncmp(name, type, ours < theirs ? ours : theirs) == 0) {
            return true;
        }
    }
    return false;
}

static void name_file_type(struct inspect *in)
{
    for (size_t i = 0; i < sizeof file_types / sizeof file_types[0]; i++) {
        const char *name = file_types[i].name;
        if (file_types[i].id == in->file_type &&
            (!in->file_type_name || inspect_has_type(in, name))) {
            in->file_type_name = name;
        }
    }
}

static int by_bytes(const void *a, const void *b)
{
    const struct inspect_type *x = a, *y = b;
    if (x->bytes != y->bytes) {
        return x->bytes > y->bytes ? -1 : 1;
    }
    return strcmp(x->name, y->name);
}

static void gather_types(struct inspect *in)
{
    for (uint64_t i = 0; i < in->g->n_tensors; i++) {
        const struct gguf_tensor *t = &in->g->tensors[i];
        const char *name = tensor_type_name((uint32_t)t->type);
        size_t k = 0;
        while (k < in->n_types && in->types[k].name != name) {
            k++;
        }
        if (k == in->n_types) {
            in->types[in->n_types++].name = name;
        }
        uint64_t weights = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
        in->types[k].tensors++;
        in->types[k].weights += weights;
        in->types[k].bytes += t->size;
        in->n_weights += weights;
        in->tensor_bytes += t->size - (BNT_FAULT(inspect_weights) ? 32 : 0);
    }
    qsort(in->types, in->n_types, sizeof in->types[0], by_bytes);
}

/* Texts of the tokens that have a role: one walk over the vocabulary. */
static void gather_special(struct inspect *in)
{
    for (int k = 0; k < INSPECT_N_SPECIAL; k++) {
        in->special[k].role = special_keys[k].role;
        in->special[k].id = -1;
        gguf_get_i64(in->g, special_keys[k].key, &in->special[k].id);
    }
    struct gguf_iter it;
    struct gguf_str text;
    if (!gguf_iter_begin(in->g, "tokenizer.ggml.tokens", GGUF_STR, &it)) {
        return;
    }
    for (int64_t id = 0; gguf_iter_str(&it, &text); id++) {
        for (int k = 0; k < INSPECT_N_SPECIAL; k++) {
            if (in->special[k].id == id) {
                in->special[k].text = text;
            }
        }
    }
}

static void gather_tokenizer(struct inspect *in)
{
    const struct gguf *g = in->g;
    in->tokenizer = in->pre = in->chat_template = (struct gguf_str){"", 0};
    gguf_get_str(g, "tokenizer.ggml.model", &in->tokenizer);
    gguf_get_str(g, "tokenizer.ggml.pre", &in->pre);
    gguf_get_str(g, "tokenizer.chat_template", &in->chat_template);
    in->n_tokens = array_len(g, "tokenizer.ggml.tokens");
    in->n_merges = array_len(g, "tokenizer.ggml.merges");
    in->add_bos_said = gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &in->add_bos);
    in->add_eos_said = gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &in->add_eos);
    gather_special(in);
}

void inspect_gather(const struct gguf *g, const struct bnt_model_ref *ref, struct inspect *in)
{
    memset(in, 0, sizeof *in);
    in->g = g;
    in->ref = ref;
    gather_tokenizer(in);
    gather_architecture(in);
    gather_types(in);
    name_file_type(in);
}

bool inspect_scale(const struct gguf *g, const struct gguf_tensor *t, float *scale)
{
    bool has_one = t->type == TENSOR_I2_S || t->type == TENSOR_TL1 || t->type == TENSOR_TL2;
    return has_one && gguf_tensor_read(g, t, t->size - 32, sizeof *scale, scale, NULL) == BNT_OK;
}

double inspect_shortest(float f)
{
    char text[INSPECT_NUMBER_TEXT];
    inspect_number((double)f, true, text);
    return strtod(text, NULL);
}

void inspect_number(double v, bool single, char text[INSPECT_NUMBER_TEXT])
{
    const int most = single ? 9 : 17;
    for (int digits = single ? 6 : 15; digits <= most; digits++) {
        snprintf(text, INSPECT_NUMBER_TEXT, "%.*g", digits, v);
        if (single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v) {
            return;
        }
    }
}
