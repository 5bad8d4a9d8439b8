/* Builds a tokenizer from metadata. Every array is checked against the number of tokens before it
 * is used; what other engines guess from token names (end markers that the file does not call
 * control tokens) is guessed the same way. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opt.h"
#include "engine/tokenizer_impl.h"

/* Tokens of these names end an answer, and are control tokens whatever the file says. The first
 * ones, in this order, also name the end of a turn where the file does not. */
static const char *const end_names[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "</s>",
    "<|eom_id|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]", /* padding and borders of code, which end it */
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
};
enum { N_TURN_NAMES = 11 };

/* Control tokens too, though they end nothing. */
static const char *const control_names[] = {
    "<|fim_prefix|>",  "<fim-prefix>",    "<fim_prefix>",    "<PRE>",         "▁<PRE>",
    "<|code_prefix|>", "<|prefix|>",      "<|fim_suffix|>",  "<fim-suffix>",  "<fim_suffix>",
    "<SUF>",           "▁<SUF>",          "<|code_suffix|>", "<|suffix|>",    "<|fim_middle|>",
    "<fim-middle>",    "<fim_middle>",    "<MID>",           "▁<MID>",        "<|code_middle|>",
    "<|middle|>",      "<｜fim▁begin｜>", "<｜fim▁hole｜>",  "<｜fim▁end｜>",
};

/* Always matched and always shown. */
static const char *const user_names[] = {"<|channel|>", "<|message|>", "<|start|>",
                                         "<|constrain|>"};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

bool tokenizer_name_ends(const char *text)
{
    for (size_t i = 0; i < COUNT(end_names); i++) {
        if (strcmp(text, end_names[i]) == 0) {
            return true;
        }
    }
    return false;
}

struct load {
    const struct gguf *g;
    const struct bnt_tokenizer_options *opts;
    struct bnt_tokenizer *t;
    struct bnt_err *err;
};

static void warn(const struct load *l, const char *what, const char *hint)
{
    if (l->opts->warn != NULL) {
        l->opts->warn(l->opts->warn_ctx, what, hint);
    }
}

static void warn_count(const struct load *l, size_t n, const char *what)
{
    char text[256];
    if (n > 0) {
        snprintf(text, sizeof(text), "%.120s: %zu %s", l->g->path, n, what);
        warn(l, text, NULL);
    }
}

/* True or false into *value, which keeps what it has where the key is not there. */
static enum bnt_status read_flag(struct load *l, const char *key, bool *value)
{
    return gguf_find(l->g, key) == NULL || gguf_get_bool(l->g, key, value)
               ? BNT_OK
               : gguf_fail(l->err, GGUF_FAULT_TOKENIZER, "%s: %s is neither true nor false",
                           l->g->path, key);
}

/* A text into *value, which keeps what it has where the key is not there. */
static enum bnt_status read_text(struct load *l, const char *key, struct gguf_str *value)
{
    return gguf_find(l->g, key) == NULL || gguf_get_str(l->g, key, value)
               ? BNT_OK
               : gguf_fail(l->err, GGUF_FAULT_TOKENIZER, "%s: %s is no text", l->g->path, key);
}

static enum bnt_status read_model(struct load *l)
{
    struct gguf_str model = {NULL, 0};
    enum bnt_status st = read_text(l, "tokenizer.ggml.model", &model);
    if (st != BNT_OK) {
        return st;
    }
    if (model.data == NULL) {
        return gguf_fail(l->err, GGUF_FAULT_MISSING_METADATA, "%s: no tokenizer.ggml.model",
                         l->g->path);
    }
    l->t->spm = gguf_str_eq(model, "llama");
    if (!l->t->spm && !gguf_str_eq(model, "gpt2")) {
        int shown = model.len > 64 ? 64 : (int)model.len;
        bnt_err_set(l->err, BNT_E_UNSUPPORTED,
                    "%s: tokenizer.ggml.model \"%.*s\" is not known here (known: gpt2, llama)",
                    l->g->path, shown, model.data);
        bnt_err_hint(l->err, "take a model with a vocabulary of GPT-2 or LLaMA kind");
        return BNT_E_UNSUPPORTED;
    }
    return BNT_OK;
}

/* ---- tokens ---- */

static enum bnt_status count_tokens(struct load *l)
{
    struct gguf_iter it;
    if (gguf_find(l->g, "tokenizer.ggml.tokens") == NULL) {
        return gguf_fail(l->err, GGUF_FAULT_MISSING_METADATA, "%s: no tokenizer.ggml.tokens",
                         l->g->path);
    }
    if (!gguf_iter_begin(l->g, "tokenizer.ggml.tokens", GGUF_STR, &it)) {
        return gguf_fail(l->err, GGUF_FAULT_TOKENIZER,
                         "%s: tokenizer.ggml.tokens is no array of strings", l->g->path);
    }
    if (it.kv->n == 0 || it.kv->n > INT32_MAX / 2) {
        return gguf_fail(l->err, GGUF_FAULT_TOKENIZER,
                         "%s: tokenizer.ggml.tokens has %llu elements", l->g->path,
                         (unsigned long long)it.kv->n);
    }
    l->t->n_vocab = (int32_t)it.kv->n;
    return BNT_OK;
}

/* An array that has an entry per token: false when absent; *st tells when it is wrong. */
static bool per_token(struct load *l, const char *key, struct gguf_iter *it, enum bnt_status *st)
{
    const struct gguf_kv *kv = gguf_find(l->g, key);
    if (kv == NULL) {
        return false;
    }
    bool number = kv->type == GGUF_ARR && kv->elem_type != GGUF_STR && kv->elem_type != GGUF_ARR;
    if (!number || !gguf_iter_begin(l->g, key, kv->elem_type, it)) {
        *st = gguf_fail(l->err, GGUF_FAULT_TOKENIZER, "%s: %s is no array of numbers", l->g->path,
                        key);
        return false;
    }
    if (kv->n != (uint64_t)l->t->n_vocab) {
        *st = gguf_fail(l->err, GGUF_FAULT_TOKENIZER, "%s: %s has %llu entries for %d tokens",
                        l->g->path, key, (unsigned long long)kv->n, l->t->n_vocab);
        return false;
    }
    return true;
}

static enum bnt_status read_types(struct load *l)
{
    enum bnt_status st = BNT_OK;
    struct gguf_iter it;
    l->t->type = malloc((size_t)l->t->n_vocab);
    if (l->t->type == NULL) {
        return bnt_err_nomem(l->err, "the vocabulary", (unsigned long long)l->t->n_vocab);
    }
    memset(l->t->type, TOKEN_NORMAL, (size_t)l->t->n_vocab);
    if (!per_token(l, "tokenizer.ggml.token_type", &it, &st)) {
        if (st == BNT_OK) {
            warn(l, "no tokenizer.ggml.token_type: special tokens are known by a few names alone",
                 "the file is incomplete: convert it again");
        }
        return st;
    }
    int64_t type;
    for (int32_t id = 0; id < l->t->n_vocab; id++) {
        if (!gguf_iter_i64(&it, &type)) {
            return gguf_fail(l->err, GGUF_FAULT_TOKENIZER,
                             "%s: tokenizer.ggml.token_type is no array of integers", l->g->path);
        }
        l->t->type[id] = type < 0 || type >= TOKEN_N_TYPES ? TOKEN_UNDEFINED : (uint8_t)type;
    }
    return BNT_OK;
}

/* One token's text: in the byte alphabet its bytes are kept, else the text as it stands. */
static enum bnt_status add_token(struct load *l, struct gguf_str text, bool *twice, bool *is_word)
{
    struct bnt_tokenizer *t = l->t;
    char *room = vocab_room(&t->vocab, text.len);
    if (room == NULL) {
        return bnt_err_nomem(l->err, "the vocabulary", t->vocab.len + text.len);
    }
    struct vocab_index *index = &t->words;
    size_t len = t->spm ? SIZE_MAX : uni_bytes_from_alphabet(text.data, text.len, room);
    if (len == SIZE_MAX) {
        memcpy(room, text.data, text.len);
        len = text.len;
        index = t->spm ? &t->words : &t->others;
    }
    *is_word = index == &t->words && len > 0;
    uint32_t symbol;
    enum bnt_status st = vocab_add(&t->vocab, len, &symbol, l->err);
    return st != BNT_OK || len == 0 ? st : vocab_index_put(&t->vocab, index, symbol, twice, l->err);
}

static enum bnt_status read_tokens(struct load *l)
{
    struct gguf_iter it;
    struct bnt_tokenizer *t = l->t;
    gguf_iter_begin(l->g, "tokenizer.ggml.tokens", GGUF_STR, &it);
    enum bnt_status st = vocab_init(&t->vocab, (uint32_t)t->n_vocab + 256, it.kv->raw_len, l->err);
    if (st == BNT_OK) {
        st = vocab_index_init(&t->words, (uint64_t)t->n_vocab + 256, l->err);
    }
    if (st == BNT_OK) {
        st = vocab_index_init(&t->others, 256, l->err);
    }
    size_t n_empty = 0;
    size_t n_twice = 0;
    struct gguf_str text;
    while (st == BNT_OK && gguf_iter_str(&it, &text)) {
        bool twice = false;
        bool is_word = true;
        int32_t id = (int32_t)t->vocab.n;
        st = add_token(l, text, &twice, &is_word);
        t->type[id] |= twice || !is_word ? TOKEN_NO_WORD : 0;
        n_empty += text.len == 0;
        n_twice += twice;
    }
    warn_count(l, n_empty, "tokens are empty and never come out of text");
    warn_count(l, n_twice, "tokens have the text of an earlier one and never come out of text");
    return st;
}

static enum bnt_status read_scores(struct load *l)
{
    enum bnt_status st = BNT_OK;
    struct gguf_iter it;
    bool there = per_token(l, "tokenizer.ggml.scores", &it, &st);
    if (st != BNT_OK || !l->t->spm) {
        return st;
    }
    l->t->score = calloc((size_t)l->t->n_vocab, sizeof(*l->t->score));
    if (l->t->score == NULL) {
        return bnt_err_nomem(l->err, "the vocabulary",
                             (unsigned long long)l->t->n_vocab * sizeof(float));
    }
    if (!there) {
        warn(l, "no tokenizer.ggml.scores: text is merged from left to right",
             "the file is incomplete: convert it again");
        return BNT_OK;
    }
    double score;
    for (int32_t id = 0; id < l->t->n_vocab && gguf_iter_f64(&it, &score); id++) {
        if (isnan(score)) {
            return gguf_fail(l->err, GGUF_FAULT_TOKENIZER, "%s: the score of token %d is NaN",
                             l->g->path, id);
        }
        l->t->score[id] = (float)score;
    }
    return BNT_OK;
}

/* ---- pre-tokenizer ---- */

static bool has_token(const struct bnt_tokenizer *t, const char *text, int32_t id)
{
    return bnt_tokenizer_find(t, text) == id;
}

const char *bnt_tokenizer_recognise(const struct bnt_tokenizer *t, const char **family)
{
    if (t->n_vocab == 128256 && has_token(t, "<|begin_of_text|>", 128000)) {
        *family = "LLaMA-3";
        return "llama-bpe";
    }
    if (has_token(t, "<|endoftext|>", 151643) && has_token(t, "<|im_start|>", 151644)) {
        *family = "Qwen 2";
        return "qwen2";
    }
    if (t->n_vocab == 50257 && has_token(t, "<|endoftext|>", 50256)) {
        *family = "GPT-2";
        return "gpt-2";
    }
    return NULL;
}

static void warn_of_missing_pre(const struct load *l)
{
    char what[256];
    char hint[256];
    const char *family;
    const char *better = bnt_tokenizer_recognise(l->t, &family);
    snprintf(what, sizeof(what),
             "%.120s: no tokenizer.ggml.pre: text is split by \"default\", as other engines do",
             l->g->path);
    if (better != NULL) {
        snprintf(hint, sizeof(hint),
                 "the vocabulary is that of %s, which was trained with %s: --pre %s", family,
                 better, better);
    } else {
        snprintf(hint, sizeof(hint), "if you know what it was trained with, name it: --pre NAME");
    }
    warn(l, what, hint);
}

static enum bnt_status unknown_pre(const struct load *l, struct gguf_str name)
{
    enum { MAX_NAMES = 128 };
    const char *names[MAX_NAMES + 1] = {NULL};
    for (size_t i = 0; i < MAX_NAMES && pretok_at(i) != NULL; i++) {
        names[i] = pretok_at(i)->name;
    }
    char shown[49];
    snprintf(shown, sizeof(shown), "%.*s", name.len > 48 ? 48 : (int)name.len, name.data);
    struct bnt_buf known = BNT_BUF(4096);
    enum bnt_status st = pretok_names(&known, l->err);
    if (st == BNT_OK) {
        st = bnt_err_set(
            l->err, BNT_E_UNSUPPORTED,
            "%.160s: pre-tokenizer \"%s\" is not known here (known: %s and their aliases)",
            l->g->path, shown, bnt_buf_view(&known));
    }
    bnt_buf_release(&known);
    const char *near = bnt_did_you_mean(shown, names);
    if (near != NULL) {
        bnt_err_hint(l->err, "did you mean %s? take it with --pre %s", near, near);
    } else {
        bnt_err_hint(l->err, "take one that splits alike: --pre NAME");
    }
    return st;
}

static enum bnt_status choose_pre(struct load *l)
{
    struct gguf_str name = {"", 0};
    enum bnt_status st = BNT_OK;
    if (l->opts->pre != NULL) {
        name = (struct gguf_str){l->opts->pre, strlen(l->opts->pre)};
    } else {
        st = read_text(l, "tokenizer.ggml.pre", &name);
    }
    if (st != BNT_OK) {
        return st;
    }
    if (name.len == 0) {
        warn_of_missing_pre(l);
        name = (struct gguf_str){"default", 7};
    }
    l->t->pre = pretok_find(name.data, name.len);
    if (l->t->pre == NULL) {
        return unknown_pre(l, name);
    }
    l->t->ignore_merges = (l->t->pre->flags & PRETOK_IGNORE_MERGES) != 0;
    l->t->add_bos = (l->t->pre->flags & PRETOK_ADD_BOS) != 0;
    return read_flag(l, TOKENIZER_IGNORE_MERGES_KEY, &l->t->ignore_merges);
}

static enum bnt_status read_merges(struct load *l)
{
    const struct gguf_kv *kv = gguf_find(l->g, "tokenizer.ggml.merges");
    if (kv == NULL && !(l->t->pre->flags & PRETOK_NO_MERGES)) {
        return gguf_fail(l->err, GGUF_FAULT_MISSING_METADATA, "%s: no tokenizer.ggml.merges",
                         l->g->path);
    }
    if (kv != NULL && (kv->type != GGUF_ARR || kv->elem_type != GGUF_STR)) {
        return gguf_fail(l->err, GGUF_FAULT_TOKENIZER,
                         "%s: tokenizer.ggml.merges is no array of strings", l->g->path);
    }
    size_t n_bad = 0;
    enum bnt_status st = bpe_load_merges(l->t, l->g, &n_bad, l->err);
    warn_count(l, n_bad, "merges are no pair of texts in the byte alphabet, and count for nothing");
    return st;
}

/* ---- special tokens ---- */

/* An id from the file into *id, which keeps its value when there is none. All bits set means none.
 */
static enum bnt_status read_id(struct load *l, const char *key, int32_t *id)
{
    int64_t value;
    if (gguf_find(l->g, key) == NULL) {
        return BNT_OK;
    }
    if (!gguf_get_i64(l->g, key, &value)) {
        return gguf_fail(l->err, GGUF_FAULT_TOKENIZER, "%s: %s is no integer", l->g->path, key);
    }
    if (value == -1 || value == UINT32_MAX) {
        *id = -1;
        return BNT_OK;
    }
    if (value < 0 || value >= l->t->n_vocab) {
        return gguf_fail(l->err, GGUF_FAULT_TOKENIZER, "%s: %s is %lld, but there are %d tokens",
                         l->g->path, key, (long long)value, l->t->n_vocab);
    }
    *id = (int32_t)value;
    return BNT_OK;
}

static void set_type(struct bnt_tokenizer *t, int32_t id, enum token_type type)
{
    t->type[id] = (uint8_t)((t->type[id] & ~TOKEN_TYPE_MASK) | type);
}

/* Two families give a name of end_names another meaning. */
static void unmark_exceptions(struct bnt_tokenizer *t)
{
    int32_t end = bnt_tokenizer_find(t, "<|end|>");
    bool calls = bnt_tokenizer_find(t, "<|call|>") >= 0 || bnt_tokenizer_find(t, "<|calls|>") >= 0;
    bool returns =
        bnt_tokenizer_find(t, "<|return|>") >= 0 && bnt_tokenizer_find(t, "<|call|>") >= 0;
    bool flushes = bnt_tokenizer_find(t, "<|flush|>") >= 0 && calls;
    if (end >= 0 && (returns || flushes)) {
        t->type[end] = TOKEN_USER_DEFINED;
    }
    int32_t s = bnt_tokenizer_find(t, "</s>");
    if (s >= 0 && bnt_tokenizer_find(t, "<|tool_response>") >= 0) {
        t->type[s] = TOKEN_NORMAL;
    }
}

static void mark_by_name(struct bnt_tokenizer *t)
{
    for (size_t i = 0; i < COUNT(end_names); i++) {
        int32_t id = bnt_tokenizer_find(t, end_names[i]);
        if (id >= 0) {
            set_type(t, id, TOKEN_CONTROL);
            t->type[id] |= TOKEN_EOG;
            if (i < N_TURN_NAMES && t->eot < 0) {
                t->eot = id;
            }
        }
    }
    for (size_t i = 0; i < COUNT(control_names); i++) {
        int32_t id = bnt_tokenizer_find(t, control_names[i]);
        if (id >= 0) {
            set_type(t, id, TOKEN_CONTROL);
        }
    }
    for (size_t i = 0; i < COUNT(user_names); i++) {
        int32_t id = bnt_tokenizer_find(t, user_names[i]);
        if (id >= 0) {
            set_type(t, id, TOKEN_USER_DEFINED);
        }
    }
}

static enum bnt_status read_special(struct load *l)
{
    struct bnt_tokenizer *t = l->t;
    int32_t eom = -1;
    t->bos = t->spm && t->n_vocab > 1 ? 1 : -1;
    t->eos = t->spm && t->n_vocab > 2 ? 2 : -1;
    t->unk = t->spm ? 0 : -1;
    t->eot = -1;
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &t->bos},     {"tokenizer.ggml.eos_token_id", &t->eos},
        {"tokenizer.ggml.eot_token_id", &t->eot},     {"tokenizer.ggml.eom_token_id", &eom},
        {"tokenizer.ggml.unknown_token_id", &t->unk},
    };
    for (size_t i = 0; i < COUNT(ids); i++) {
        enum bnt_status st = read_id(l, ids[i].key, ids[i].id);
        if (st != BNT_OK) {
            return st;
        }
    }
    mark_by_name(t);
    const int32_t ends[] = {t->eos, t->eot, eom};
    for (size_t i = 0; i < COUNT(ends); i++) {
        if (ends[i] >= 0) {
            t->type[ends[i]] |= TOKEN_EOG;
        }
    }
    unmark_exceptions(t);
    return special_build(t, l->g, l->err);
}

static enum bnt_status read_flags(struct load *l)
{
    struct bnt_tokenizer *t = l->t;
    bool none; /* of what the other kind of vocabulary has */
    const struct {
        const char *key;
        bool *value;
    } rows[] = {
        {"tokenizer.ggml.add_bos_token", &t->add_bos},
        {"tokenizer.ggml.add_eos_token", &t->add_eos},
        {"tokenizer.ggml.add_space_prefix", t->spm ? &t->add_space_prefix : &none},
        {TOKENIZER_BLANK_KEY, t->spm ? &none : &t->blank_in_front},
        {TOKENIZER_PREFIX_FIRST_KEY, t->spm ? &t->prefix_first : &none},
    };
    if (t->spm) {
        t->add_bos = true;
        t->add_space_prefix = true;
    }
    for (size_t i = 0; i < COUNT(rows); i++) {
        enum bnt_status st = read_flag(l, rows[i].key, rows[i].value);
        if (st != BNT_OK) {
            return st;
        }
    }
    if ((t->add_bos && t->bos < 0) || (t->add_eos && t->eos < 0)) {
        warn(l,
             "the file asks for a token at the start or the end of a text without naming it: none "
             "is added",
             NULL);
    }
    t->add_bos = t->add_bos && t->bos >= 0;
    t->add_eos = t->add_eos && t->eos >= 0;
    return BNT_OK;
}

/* Vocabularies may do without the rarer control characters and what no UTF-8 text has. */
static bool is_ordinary(unsigned byte)
{
    return byte == '\t' || byte == '\n' || (byte >= 0x20 && byte < 0x7f) ||
           (byte >= 0x80 && byte < 0xc0) || (byte >= 0xc3 && byte <= 0xf0);
}

static void count_lost_bytes(struct load *l)
{
    size_t n = 0;
    for (unsigned b = 0; b < 256; b++) {
        n += is_ordinary(b) && (l->t->byte_symbol[b] < 0 || l->t->byte_symbol[b] >= l->t->n_vocab);
    }
    warn_count(l, n,
               l->t->unk >= 0 ? "bytes have no token and become the unknown one"
                              : "bytes have no token and are lost from text");
}

static enum bnt_status load(struct load *l)
{
    enum bnt_status st = read_model(l);
    if (st == BNT_OK) {
        st = count_tokens(l);
    }
    if (st == BNT_OK) {
        st = read_types(l);
    }
    if (st == BNT_OK) {
        st = read_tokens(l);
    }
    if (st == BNT_OK) {
        st = read_scores(l);
    }
    if (st == BNT_OK && !l->t->spm) {
        st = choose_pre(l);
    }
    if (st == BNT_OK && !l->t->spm) {
        st = read_merges(l);
    }
    if (st == BNT_OK) {
        st = read_special(l);
    }
    if (st != BNT_OK) {
        return st;
    }
    if (l->t->spm) {
        spm_prepare(l->t);
    }
    st = read_flags(l);
    if (st == BNT_OK) {
        count_lost_bytes(l);
    }
    return st;
}

enum bnt_status bnt_tokenizer_new(const struct gguf *g, const struct bnt_tokenizer_options *opts,
                                  struct bnt_tokenizer **out, struct bnt_err *err)
{
    static const struct bnt_tokenizer_options none = {0};
    struct load l = {.g = g, .opts = opts != NULL ? opts : &none, .err = err};
    l.t = calloc(1, sizeof(*l.t));
    if (l.t == NULL) {
        return bnt_err_nomem(err, "the tokenizer", sizeof(*l.t));
    }
    enum bnt_status st = load(&l);
    if (st != BNT_OK) {
        bnt_tokenizer_free(l.t);
        return st;
    }
    *out = l.t;
    return BNT_OK;
}
