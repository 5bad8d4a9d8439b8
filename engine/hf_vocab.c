#include "engine/hf_vocab.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/tokenizer_impl.h"

#define MAX_MODEL_BYTES (256u << 20)
#define ADDED_SCORE (-1000.0f) /* of what merging must not make */
enum { KEY_BYTES = 128 };

static void release(struct hf_vocab *v)
{
    for (uint32_t i = 0; v->tokens && i < v->n; i++) {
        free(v->tokens[i].text);
    }
    free(v->tokens);
    bnt_buf_release(&v->merges);
}

enum bnt_status hf_vocab_set(struct hf_vocab *v, int64_t id, const char *text, size_t len,
                             int32_t type, struct bnt_err *err)
{
    const int shown = len < 60 ? (int)len : 60; /* no NUL need follow a text */
    if (id < 0) {
        return bnt_err_set(err, BNT_E_FILE,
                           "token %.*s has an id that is no whole number from 0 on", shown, text);
    }
    if (id >= v->n) {
        bnt_err_hint(err, "tokenizer and vocab_size of config.json are not of one checkpoint");
        return bnt_err_set(err, BNT_E_FILE, "token %.*s has the id %lld, the model has %u", shown,
                           text, (long long)id, v->n);
    }
    struct hf_token *t = &v->tokens[id];
    if (t->text && (t->len != len || memcmp(t->text, text, len) != 0)) {
        return bnt_err_set(err, BNT_E_FILE, "id %lld is token %.60s and token %.*s", (long long)id,
                           t->text, shown, text);
    }
    if (!t->text) {
        t->text = malloc(len + 1);
        if (!t->text) {
            return bnt_err_nomem(err, "a token", len);
        }
        memcpy(t->text, text, len);
        t->text[len] = '\0';
        t->len = len;
    }
    t->type = type;
    return BNT_OK;
}

int64_t hf_vocab_find(const struct hf_vocab *v, const char *text)
{
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->tokens[i].text && strcmp(v->tokens[i].text, text) == 0) {
            return i;
        }
    }
    return -1;
}

static enum bnt_status add_token(struct hf_vocab *v, int64_t id, const json_t *text, int32_t type,
                                 struct bnt_err *err)
{
    bool is_new = id >= 0 && id < v->n && !v->tokens[id].text;
    enum bnt_status st =
        hf_vocab_set(v, id, json_string_value(text), json_string_length(text), type, err);
    if (st == BNT_OK && is_new) {
        v->tokens[id].score = ADDED_SCORE;
    }
    return st;
}

static void note_some(struct hf_some *some, const char *text)
{
    if (some->n++ == 0) {
        snprintf(some->first, sizeof some->first, "%s", text);
    }
}

static enum bnt_status added_token(const json_t *token, int64_t id, struct hf_vocab *v,
                                   struct bnt_err *err)
{
    const json_t *content = json_object_get(token, "content");
    if (!json_is_string(content)) {
        return bnt_err_set(err, BNT_E_FILE, "the added token of id %lld has no content",
                           (long long)id);
    }
    if (id >= v->n) {
        note_some(&v->beyond, json_string_value(content));
        return BNT_OK;
    }
    bool special = json_is_true(json_object_get(token, "special"));
    bool unknown = special && id >= 0 && id < v->n && v->tokens[id].type == HF_TOKEN_UNKNOWN;
    enum bnt_status st = add_token(v, id, content,
                                   unknown   ? HF_TOKEN_UNKNOWN
                                   : special ? HF_TOKEN_CONTROL
                                             : HF_TOKEN_USER,
                                   err);
    if (st == BNT_OK) {
        struct hf_token *t = &v->tokens[id];
        t->lstrip = json_is_true(json_object_get(token, "lstrip"));
        t->rstrip = json_is_true(json_object_get(token, "rstrip"));
        t->single_word = json_is_true(json_object_get(token, "single_word"));
        t->normalized = json_is_true(json_object_get(token, "normalized"));
    }
    return st;
}

/* -1: the key is no id. */
static int64_t id_of_key(const char *key)
{
    const size_t digits = strspn(key, "0123456789");
    return digits > 0 && digits < 10 && key[digits] == '\0' ? strtoll(key, NULL, 10) : -1;
}

enum bnt_status hf_added_tokens(const json_t *added, struct hf_vocab *v, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    const char *key;
    json_t *token;
    for (size_t i = 0; st == BNT_OK && i < json_array_size(added); i++) {
        token = json_array_get(added, i);
        const json_t *id = json_object_get(token, "id");
        st = added_token(token, json_is_integer(id) ? json_integer_value(id) : -1, v, err);
    }
    json_object_foreach((json_t *)(uintptr_t)added, key, token)
    {
        if (st == BNT_OK) {
            st = added_token(token, id_of_key(key), v, err);
        }
    }
    return st;
}

/* added_tokens.json of older checkpoints: ids by text. */
static enum bnt_status read_added(const char *dir, struct hf_vocab *v, struct bnt_err *err)
{
    json_t *root = NULL, *id;
    const char *text;
    enum bnt_status st = hf_json_load(dir, "added_tokens.json", true, &root, err);
    json_object_foreach(root, text, id)
    {
        json_t *content = st == BNT_OK ? json_string(text) : NULL;
        if (st == BNT_OK) {
            st = add_token(v, json_is_integer(id) ? json_integer_value(id) : -1, content,
                           HF_TOKEN_USER, err);
        }
        json_decref(content);
    }
    json_decref(root);
    return st;
}

/* ---- special tokens ---- */

const char *hf_token_name(const json_t *config, const char *key)
{
    const json_t *name = json_object_get(config, key);
    name = json_is_object(name) ? json_object_get(name, "content") : name;
    return json_string_value(name);
}

/* tokenizer_config.json, NULL without one. While it says nothing of added tokens, the names in
 * special_tokens_map.json go before its own, as in the transformers library; else that file is only
 * for versions of the library that are older than added_tokens_decoder. */
static enum bnt_status load_config(const char *dir, json_t **out, struct bnt_err *err)
{
    static const char *const keys[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    json_t *map = NULL;
    enum bnt_status st = hf_json_load(dir, "tokenizer_config.json", true, out, err);
    if (st == BNT_OK && !json_object_get(*out, "added_tokens_decoder")) {
        st = hf_json_load(dir, "special_tokens_map.json", true, &map, err);
    }
    if (st == BNT_OK && map && !*out) {
        *out = json_object();
    }
    for (size_t i = 0; st == BNT_OK && i < sizeof keys / sizeof keys[0]; i++) {
        if (hf_token_name(map, keys[i]) &&
            json_object_set(*out, keys[i], json_object_get(map, keys[i])) != 0) {
            st = bnt_err_nomem(err, "special tokens", 0);
        }
    }
    json_decref(map);
    return st;
}

static int64_t named_id(const struct hf_vocab *v, const json_t *config, const char *key)
{
    const char *name = hf_token_name(config, key);
    return name ? hf_vocab_find(v, name) : -1;
}

static int flag_of(const json_t *config, const char *key, int otherwise)
{
    const json_t *v = json_object_get(config, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* tokenizer_config.json, where it says more than config.json. */
static void take_special(struct hf_vocab *v, const json_t *config, const struct hf_config *c)
{
    const struct {
        const char *key;
        int64_t *id, otherwise;
    } rows[] = {{"bos_token", &v->bos, c->bos},
                {"eos_token", &v->eos, c->eos},
                {"pad_token", &v->pad, c->pad},
                {"unk_token", &v->unk, -1}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int64_t named = named_id(v, config, rows[i].key);
        *rows[i].id = named >= 0                          ? named
                      : *rows[i].id >= 0                  ? *rows[i].id
                      : rows[i].otherwise < (int64_t)v->n ? rows[i].otherwise
                                                          : -1;
    }
    v->no_space_prefix = !flag_of(config, "add_prefix_space", !v->no_space_prefix);
    if (v->byte_level_alone) { /* the library looks at no other */
        v->blank_in_front = flag_of(config, "add_prefix_space", v->blank_in_front);
    }
    const json_t *class = json_object_get(config, "tokenizer_class");
    if (json_is_string(class) && !v->spm &&
        strncmp(json_string_value(class), "LlamaTokenizer", 14) == 0) {
        v->add_bos = 1; /* whatever the template says, the class adds one */
    }
    v->add_bos = flag_of(config, "add_bos_token", v->add_bos);
    v->add_eos = flag_of(config, "add_eos_token", v->add_eos);
}

/* Further ends that engines would not know by their names. */
static void take_ends(struct hf_vocab *v, const struct hf_config *c)
{
    for (size_t i = 0; i < c->n_ends; i++) {
        const char *text = v->tokens[c->ends[i]].text;
        if (c->ends[i] == v->eos || tokenizer_name_ends(text)) {
            continue;
        }
        if (v->eom < 0) {
            v->eom = c->ends[i];
        } else {
            note_some(&v->ends, text);
        }
    }
}

static enum bnt_status put_special(const struct hf_vocab *v, struct gguf_plan *p,
                                   struct bnt_err *err)
{
    int64_t eot = hf_vocab_find(v, "<|eot_id|>");
    eot = eot >= 0 ? eot : hf_vocab_find(v, "<|im_end|>");
    const struct {
        const char *key;
        int64_t id;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", v->bos},     {"tokenizer.ggml.eos_token_id", v->eos},
        {"tokenizer.ggml.eot_token_id", eot},        {"tokenizer.ggml.eom_token_id", v->eom},
        {"tokenizer.ggml.unknown_token_id", v->unk}, {"tokenizer.ggml.padding_token_id", v->pad}};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof ids / sizeof ids[0]; i++) {
        if (ids[i].id >= 0) {
            st = gplan_put_u32(p, ids[i].key, (uint32_t)ids[i].id, err);
        }
    }
    if (st == BNT_OK && v->add_bos >= 0) {
        st = gplan_put_bool(p, "tokenizer.ggml.add_bos_token", v->add_bos, err);
    }
    if (st == BNT_OK && v->add_eos >= 0) {
        st = gplan_put_bool(p, "tokenizer.ggml.add_eos_token", v->add_eos, err);
    }
    return st;
}

/* ---- chat ---- */

/* A name as part of a key: what is no letter and no digit becomes "_". */
static void key_of_template(const char *name, char key[KEY_BYTES])
{
    int n = snprintf(key, KEY_BYTES, "tokenizer.chat_template.%.80s", name);
    for (int i = (int)sizeof "tokenizer.chat_template." - 1; i < n; i++) {
        key[i] = isalnum((unsigned char)key[i]) ? key[i] : '_';
    }
}

/* Several templates, each with a name: "default" is the one that is meant, the others get keys of
 * their own and stand in a list. */
static enum bnt_status put_named(const json_t *list, struct gguf_plan *p, struct bnt_err *err)
{
    struct bnt_buf names = BNT_BUF(1u << 16);
    enum bnt_status st = BNT_OK;
    uint64_t n = 0;
    for (size_t i = 0; st == BNT_OK && i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *text = json_object_get(row, "template");
        const char *name = json_string_value(json_object_get(row, "name"));
        char key[KEY_BYTES] = "tokenizer.chat_template";
        bool named = name && strcmp(name, "default") != 0;
        if (!name || !json_is_string(text)) {
            continue;
        }
        if (named) {
            key_of_template(name, key);
            const char *clean = key + sizeof "tokenizer.chat_template." - 1;
            st = gplan_append_text(&names, clean, strlen(clean), err);
            n++;
        }
        st = st == BNT_OK ? gplan_put_str(p, key, json_string_value(text), err) : st;
    }
    if (st == BNT_OK && n > 0) {
        st = gplan_put_array(p, "tokenizer.chat_templates", GGUF_STR, n, &names, err);
    }
    bnt_buf_release(&names);
    return st;
}

/* A file of its own goes before tokenizer_config.json, as in the transformers library. */
static enum bnt_status put_chat(const char *dir, const json_t *config, struct gguf_plan *p,
                                struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(1u << 20);
    json_t *file = NULL;
    enum bnt_status st = bnt_path_format(path, err, "%s/chat_template.jinja", dir);
    if (st == BNT_OK && access(path, F_OK) == 0) {
        st = bnt_file_read(path, &text, err);
        if (st == BNT_OK) {
            st = gplan_put_str(p, "tokenizer.chat_template", bnt_buf_view(&text), err);
        }
        bnt_buf_release(&text);
        return st;
    }
    if (st == BNT_OK) {
        st = hf_json_load(dir, "chat_template.json", true, &file, err);
    }
    const json_t *t = json_object_get(file ? file : config, "chat_template");
    if (st == BNT_OK && json_is_array(t)) {
        st = put_named(t, p, err);
    } else if (st == BNT_OK && t && !json_is_string(t) && !json_is_null(t)) {
        st = bnt_err_set(err, BNT_E_FILE, "%s: chat_template is neither a text nor a list", dir);
    } else if (st == BNT_OK && json_is_string(t)) {
        st = gplan_put_str(p, "tokenizer.chat_template", json_string_value(t), err);
    }
    json_decref(file);
    return st;
}

/* ---- tokens ---- */

/* Rows of the embedding that no token uses, as other converters name them. */
static enum bnt_status pad(struct hf_vocab *v, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (uint32_t i = 0; st == BNT_OK && i < v->n; i++) {
        char name[32];
        int len = snprintf(name, sizeof name, "[PAD%u]", i);
        if (!v->tokens[i].text) {
            st = hf_vocab_set(v, i, name, (size_t)len, HF_TOKEN_UNUSED, err);
            v->tokens[i].score = ADDED_SCORE;
        }
    }
    return st;
}

/* One array over all tokens: texts, types or scores. */
enum column { TEXTS, TYPES, SCORES };

static enum bnt_status put_column(const struct hf_vocab *v, const char *key, enum column column,
                                  struct gguf_plan *p, struct bnt_err *err)
{
    static const enum gguf_value_type elem[] = {GGUF_STR, GGUF_I32, GGUF_F32};
    struct bnt_buf out = BNT_BUF(GPLAN_MAX_BYTES);
    enum bnt_status st = BNT_OK;
    for (uint32_t i = 0; st == BNT_OK && i < v->n; i++) {
        const struct hf_token *t = &v->tokens[i];
        uint32_t bits;
        memcpy(&bits, &t->score, sizeof bits);
        st = column == TEXTS
                 ? gplan_append_text(&out, t->text, t->len, err)
                 : gplan_append_number(&out, column == TYPES ? (uint32_t)t->type : bits, 4, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_array(p, key, elem[column], v->n, &out, err);
    }
    bnt_buf_release(&out);
    return st;
}

static enum bnt_status put_tokens(const struct hf_vocab *v, struct gguf_plan *p,
                                  struct bnt_err *err)
{
    enum bnt_status st = gplan_put_str(p, "tokenizer.ggml.model", v->spm ? "llama" : "gpt2", err);
    if (st == BNT_OK) {
        st = gplan_put_str(p, "tokenizer.ggml.pre", v->spm ? "default" : v->pre, err);
    }
    if (st == BNT_OK) {
        st = put_column(v, "tokenizer.ggml.tokens", TEXTS, p, err);
    }
    if (st == BNT_OK && v->spm) {
        st = put_column(v, "tokenizer.ggml.scores", SCORES, p, err);
    }
    if (st == BNT_OK) {
        st = put_column(v, "tokenizer.ggml.token_type", TYPES, p, err);
    }
    if (st == BNT_OK && !v->spm) {
        st = gplan_put_array(p, "tokenizer.ggml.merges", GGUF_STR, v->n_merges, &v->merges, err);
    }
    if (st == BNT_OK && v->spm && v->no_space_prefix) {
        st = gplan_put_bool(p, "tokenizer.ggml.add_space_prefix", false, err);
    }
    return st;
}

/* Ids of the tokens that swallow white space on one side. */
static enum bnt_status put_strips(const struct hf_vocab *v, bool left, struct gguf_plan *p,
                                  struct bnt_err *err)
{
    struct bnt_buf ids = BNT_BUF(GPLAN_MAX_BYTES);
    enum bnt_status st = BNT_OK;
    uint64_t n = 0;
    for (uint32_t i = 0; st == BNT_OK && i < v->n; i++) {
        if (left ? v->tokens[i].lstrip : v->tokens[i].rstrip) {
            st = gplan_append_number(&ids, i, 4, err);
            n++;
        }
    }
    if (st == BNT_OK && n > 0) {
        st = gplan_put_array(p, left ? TOKENIZER_LSTRIP_KEY : TOKENIZER_RSTRIP_KEY, GGUF_I32, n,
                             &ids, err);
    }
    bnt_buf_release(&ids);
    return st;
}

/* What GGUF has no field for. */
static enum bnt_status put_own_keys(const struct hf_vocab *v, struct gguf_plan *p,
                                    struct bnt_err *err)
{
    enum bnt_status st = put_strips(v, true, p, err);
    if (st == BNT_OK) {
        st = put_strips(v, false, p, err);
    }
    if (st == BNT_OK && v->ignore_merges >= 0) {
        st = gplan_put_bool(p, TOKENIZER_IGNORE_MERGES_KEY, v->ignore_merges, err);
    }
    if (st == BNT_OK && v->blank_in_front) {
        st = gplan_put_bool(p, TOKENIZER_BLANK_KEY, true, err);
    }
    if (st == BNT_OK && v->prefix_first && !v->no_space_prefix) {
        st = gplan_put_bool(p, TOKENIZER_PREFIX_FIRST_KEY, true, err);
    }
    return st;
}

/* ---- files ---- */

/* sentencepiece, with what older and newer files beside it add. */
static enum bnt_status read_model(const char *dir, const json_t *config, struct hf_vocab *v,
                                  struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf bytes = BNT_BUF(MAX_MODEL_BYTES);
    enum bnt_status st = bnt_path_format(path, err, "%s/tokenizer.model", dir);
    if (st == BNT_OK) {
        st = bnt_file_read(path, &bytes, err);
    }
    if (st == BNT_OK) {
        const char *other = hf_not_itself(bnt_buf_view(&bytes), bytes.len);
        st = other ? bnt_err_set(err, BNT_E_FILE, "it is %s", other)
                   : spm_model_read((const uint8_t *)bnt_buf_view(&bytes), bytes.len, v, err);
        st = st == BNT_OK ? st : bnt_err_context(err, "%s", path);
    }
    bnt_buf_release(&bytes);
    if (st == BNT_OK) {
        st = read_added(dir, v, err);
    }
    if (st == BNT_OK) {
        st = hf_added_tokens(json_object_get(config, "added_tokens_decoder"), v, err);
        st = st == BNT_OK ? st : bnt_err_context(err, "%s/tokenizer_config.json", dir);
    }
    return st;
}

/* tokenizer_config.json has the last word on added tokens. */
static enum bnt_status read_json(const char *dir, const json_t *root, const json_t *config,
                                 const char *pre, struct hf_vocab *v, struct bnt_err *err)
{
    enum bnt_status st = hf_tokenizer_json(root, pre, v, err);
    if (st != BNT_OK) {
        return bnt_err_context(err, "%s/tokenizer.json", dir);
    }
    st = hf_added_tokens(json_object_get(config, "added_tokens_decoder"), v, err);
    return st == BNT_OK ? st : bnt_err_context(err, "%s/tokenizer_config.json", dir);
}

/* tokenizer.json says most; the BPE of LLaMA is read from its original where that is there, with
 * the scores that it was trained with. */
static enum bnt_status read_vocab(const char *dir, const json_t *config, const char *pre,
                                  struct hf_vocab *v, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    json_t *root = NULL;
    enum bnt_status st = bnt_path_format(path, err, "%s/tokenizer.model", dir);
    if (st == BNT_OK) {
        st = hf_json_load(dir, "tokenizer.json", true, &root, err);
    }
    bool original = st == BNT_OK && access(path, F_OK) == 0;
    bool bytes = json_is_true(json_object_get(json_object_get(root, "model"), "byte_fallback"));
    if (st == BNT_OK && original && (!root || bytes)) {
        st = read_model(dir, config, v, err);
        /* Without tokenizer.json the library makes one, by the word of tokenizer_config.json. */
        v->prefix_first =
            root ? hf_prefix_first(root) : json_is_false(json_object_get(config, "legacy"));
    } else if (st == BNT_OK && root) {
        st = read_json(dir, root, config, pre, v, err);
    } else if (st == BNT_OK) {
        bnt_err_hint(err, "fetch all files of the checkpoint");
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "%s: no tokenizer.json and no tokenizer.model", dir);
    }
    json_decref(root);
    return st;
}

enum bnt_status hf_vocab_put(const char *dir, const struct hf_config *c,
                             const struct hf_vocab_options *o, struct gguf_plan *p,
                             struct bnt_err *err)
{
    json_t *config = NULL;
    struct hf_vocab v = {.n = c->n_vocab,
                         .bos = -1,
                         .eos = -1,
                         .eom = -1,
                         .unk = -1,
                         .pad = -1,
                         .add_bos = -1,
                         .add_eos = -1,
                         .ignore_merges = -1,
                         .merges = BNT_BUF(GPLAN_MAX_BYTES)};
    v.tokens = calloc(v.n, sizeof *v.tokens);
    enum bnt_status st = v.tokens ? load_config(dir, &config, err)
                                  : bnt_err_nomem(err, "a vocabulary", v.n * sizeof *v.tokens);
    if (st == BNT_OK) {
        st = read_vocab(dir, config, o->pre, &v, err);
    }
    if (st == BNT_OK) {
        st = pad(&v, err);
    }
    if (st == BNT_OK) {
        take_special(&v, config, c);
        take_ends(&v, c);
        st = put_tokens(&v, p, err);
    }
    if (st == BNT_OK) {
        st = put_special(&v, p, err);
    }
    if (st == BNT_OK) {
        st = put_own_keys(&v, p, err);
    }
    if (st == BNT_OK) {
        st = put_chat(dir, config, p, err);
    }
    if (st == BNT_OK && o->warn) {
        hf_vocab_tell(dir, &v, config, o);
    }
    json_decref(config);
    release(&v);
    return st;
}
