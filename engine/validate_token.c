/* The vocabulary against itself, the embedding and the chat template. */
#include <stdio.h>
#include <string.h>

#include "engine/chat.h"
#include "engine/validate_impl.h"

static const char tokens_key[] = "tokenizer.ggml.tokens";

/* What speaks of one element per token. */
static void check_array(struct validate *v, const char *key, uint64_t n_tokens)
{
    const struct gguf_kv *kv = gguf_find(v->g, key);
    struct validate_place at = validate_at_key(key);
    if (!kv) {
        return;
    }
    if (kv->type != GGUF_ARR || kv->elem_type == GGUF_STR || kv->elem_type == GGUF_ARR) {
        validate_add(v, GGUF_FAULT_TOKENIZER, &at, "%s is no array of numbers", key);
    } else if (kv->n != n_tokens) {
        validate_add(v, GGUF_FAULT_TOKENIZER, &at, "%s has %llu entries for %llu tokens", key,
                     (unsigned long long)kv->n, (unsigned long long)n_tokens);
    }
}

/* All bits set means that there is none. */
static void check_id(struct validate *v, const char *key, uint64_t n_tokens)
{
    int64_t id;
    struct validate_place at = validate_at_key(key);
    if (!gguf_find(v->g, key)) {
        return;
    }
    if (!gguf_get_i64(v->g, key, &id)) {
        validate_add(v, GGUF_FAULT_TOKENIZER, &at, "%s is no integer", key);
    } else if (id != -1 && id != UINT32_MAX && (id < 0 || (uint64_t)id >= n_tokens)) {
        validate_add(v, GGUF_FAULT_TOKENIZER, &at, "%s is %lld, but there are %llu tokens", key,
                     (long long)id, (unsigned long long)n_tokens);
    }
}

static void check_against_embedding(struct validate *v, uint64_t n_tokens)
{
    const struct gguf_tensor *embd = gguf_find_tensor(v->g, "token_embd.weight");
    struct validate_place at = validate_at_key(tokens_key);
    if (embd && n_tokens > embd->ne[1]) {
        validate_add(v, GGUF_FAULT_TOKENIZER, &at,
                     "the tokenizer has %llu tokens, token_embd.weight only %llu rows",
                     (unsigned long long)n_tokens, (unsigned long long)embd->ne[1]);
    }
}

/* What the arrays say, independently of each other. */
static void check_arrays(struct validate *v)
{
    static const char *const arrays[] = {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"};
    static const char *const ids[] = {
        "tokenizer.ggml.bos_token_id",     "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",     "tokenizer.ggml.eom_token_id",
        "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id",
    };
    const struct gguf_kv *tokens = gguf_find(v->g, tokens_key);
    if (!tokens || tokens->type != GGUF_ARR || tokens->elem_type != GGUF_STR) {
        return; /* making the tokenizer tells */
    }
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        check_array(v, arrays[i], tokens->n);
    }
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        check_id(v, ids[i], tokens->n);
    }
    check_against_embedding(v, tokens->n);
}

/* ---- the tokenizer as it is made ---- */

static bool lacks_pre(const struct gguf *g)
{
    struct gguf_str model, pre;
    return gguf_get_str(g, "tokenizer.ggml.model", &model) && gguf_str_eq(model, "gpt2") &&
           (!gguf_get_str(g, "tokenizer.ggml.pre", &pre) || pre.len == 0);
}

static void take_warning(void *ctx, const char *what, const char *hint)
{
    struct validate *v = ctx;
    struct validate_place at = validate_at_key(tokens_key);
    size_t n = strlen(v->path);
    bool named = strncmp(what, v->path, n) == 0 && strncmp(what + n, ": ", 2) == 0;
    (void)hint;
    validate_add(v, VALIDATE_VOCABULARY, &at, "%s", named ? what + n + 2 : what);
}

/* Echoes of what the arrays were found to be are not told again. */
static void make_tokenizer(struct validate *v, bool has_pre)
{
    struct bnt_err why = {0};
    uint64_t before = v->n_fatal;
    struct bnt_tokenizer_options opts = {
        .pre = has_pre ? NULL : "default", .warn = take_warning, .warn_ctx = v};
    check_arrays(v);
    bool told = v->n_fatal > before;
    enum bnt_status st = bnt_tokenizer_new(v->g, &opts, &v->tokenizer, &why);
    if (st != BNT_OK && (!told || why.foreign != GGUF_FAULT_TOKENIZER)) {
        struct validate_place at = {.offset = NULL};
        validate_add_error(v, GGUF_FAULT_TOKENIZER, &at, &why);
    }
}

static void tell_missing_pre(struct validate *v)
{
    const char *family = NULL;
    const char *pre = v->tokenizer ? bnt_tokenizer_recognise(v->tokenizer, &family) : NULL;
    struct validate_place at = validate_at_key("tokenizer.ggml.pre");
    if (pre) {
        validate_add(v, VALIDATE_PRE_TOKENIZER, &at,
                     "no tokenizer.ggml.pre: text is split by \"default\", and the vocabulary is "
                     "that of %s, which was trained with %s",
                     family, pre);
    } else {
        validate_add(v, VALIDATE_PRE_TOKENIZER, &at,
                     "no tokenizer.ggml.pre: text is split by \"default\"");
    }
}

/* ---- tokens that have a role ---- */

static void check_special(struct validate *v)
{
    const struct bnt_tokenizer *t = v->tokenizer;
    const struct {
        const char *key, *role;
        int32_t id;
    } roles[] = {
        {"tokenizer.ggml.bos_token_id", "start", bnt_tokenizer_bos(t)},
        {"tokenizer.ggml.eos_token_id", "end", bnt_tokenizer_eos(t)},
        {"tokenizer.ggml.eot_token_id", "end of a turn", bnt_tokenizer_eot(t)},
    };
    bool ends = false;
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        struct validate_place at = validate_at_key(roles[i].key);
        if (roles[i].id >= 0 && !bnt_tokenizer_is_control(t, roles[i].id)) {
            validate_add(v, VALIDATE_SPECIAL_TOKEN, &at,
                         "token %d is the %s, and an ordinary token that text may hold",
                         roles[i].id, roles[i].role);
        }
        ends = ends || (i > 0 && roles[i].id >= 0);
    }
    if (!ends) {
        struct validate_place at = validate_at_key("tokenizer.ggml.eos_token_id");
        validate_add(v, VALIDATE_SPECIAL_TOKEN, &at,
                     "no token ends an answer: it goes on until the context is full");
    }
}

static void check_template(struct validate *v)
{
    static const char key[] = "tokenizer.chat_template";
    struct gguf_str jinja;
    struct bnt_chat chat = {0};
    struct bnt_err why = {0};
    struct validate_place at = validate_at_key(key);
    if (!gguf_get_str(v->g, key, &jinja)) {
        return;
    }
    if (bnt_chat_recognise(jinja.data, jinja.len, &chat, &why) != BNT_OK) {
        validate_add_error(v, VALIDATE_CHAT_FORM, &at, &why);
    } else if (chat.corrected) {
        validate_add(v, VALIDATE_CHAT_TEMPLATE, &at, "%s", chat.note);
    }
}

/* ---- text there and back ---- */

static void check_round_trip(struct validate *v)
{
    static const char *const texts[] = {
        "Once upon a time, there was a little girl named Lily.",
        "int main(void) {\n\treturn 0; /* 42 */\n}\n",
        "  two  spaces, it's 1234567 and 3.14",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct bnt_ids ids = {0};
        struct bnt_buf back = BNT_BUF(1 << 16);
        struct validate_place at = validate_at_key(tokens_key);
        enum bnt_status st =
            bnt_tokenizer_encode(v->tokenizer, texts[i], strlen(texts[i]), 0, &ids, NULL);
        if (st == BNT_OK) {
            st = bnt_tokenizer_decode(v->tokenizer, ids.at, ids.n, false, &back, NULL);
        }
        if (st != BNT_OK || strcmp(bnt_buf_view(&back), texts[i]) != 0) {
            validate_add(v, VALIDATE_ROUND_TRIP, &at,
                         "\"%.40s...\" becomes %zu tokens, and they "
                         "\"%.60s\"",
                         texts[i], ids.n, bnt_buf_view(&back));
        }
        bnt_ids_release(&ids);
        bnt_buf_release(&back);
    }
}

void validate_tokenizer(struct validate *v)
{
    bool has_pre = !lacks_pre(v->g);
    make_tokenizer(v, has_pre);
    if (!has_pre) {
        tell_missing_pre(v);
    }
    if (v->tokenizer) {
        check_special(v);
        if (v->o->level >= VALIDATE_COMPREHENSIVE) {
            check_round_trip(v);
        }
    }
    check_template(v);
}
