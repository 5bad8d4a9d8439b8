/* Words are grown by joining two that are there, so that every token can be reached by merges:
 * letters first, the frequent ones more often, a space only in front. Tables are found with the
 * engine's own symbol table. */
#include "mock/tiny_vocab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/vocab.h"
#include "mock/draw.h"

enum {
    N_BYTES = 256,
    N_BPE_SPECIAL = 3, /* begin of text, end of text, end of turn */
    N_SPM_SPECIAL = 3, /* <unk>, <s>, </s> */
    MAX_WORD_BYTES = 16,
    RIGHT_HALVES = 256, /* the second half comes from the first words, which are short */
    MAX_TRIES = 100000
};

/* enum token_type of the format */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_BYTE = 6 };

/* By how often they stand in English text. */
static const char letters[] = "etaoinshrdlucmfwypvbgkqjxz";

#define SPM_SPACE "\xe2\x96\x81"

/* The tokens in the order of their ids, and the words that may still grow. */
struct growth {
    struct vocab vocab;
    struct vocab_index index;
    uint32_t *words; /* symbols; the first is the space, then letters, then what was joined */
    uint32_t n_words;
    struct draw draw;
};

static void growth_release(struct growth *g)
{
    vocab_release(&g->vocab);
    vocab_index_release(&g->index);
    free(g->words);
}

static enum bnt_status growth_init(struct growth *g, uint32_t n, uint64_t seed, struct bnt_err *err)
{
    *g = (struct growth){.draw = draw_stream(seed, "vocabulary", 10)};
    g->words = malloc(((size_t)n + N_BYTES) * sizeof *g->words);
    enum bnt_status st = g->words ? BNT_OK : bnt_err_nomem(err, "a vocabulary", n);
    if (st == BNT_OK) {
        st = vocab_init(&g->vocab, n + N_BYTES, 8 * (size_t)n, err);
    }
    return st == BNT_OK ? vocab_index_init(&g->index, (uint64_t)n + N_BYTES, err) : st;
}

static enum bnt_status add(struct growth *g, const char *bytes, size_t len, bool grows,
                           struct bnt_err *err)
{
    uint32_t symbol;
    struct vocab_word word = {bytes, len, vocab_hash(&g->vocab, bytes, len)};
    enum bnt_status st = vocab_intern(&g->vocab, &g->index, word, &symbol, err);
    if (st == BNT_OK && grows) {
        g->words[g->n_words++] = symbol;
    }
    return st;
}

/* An index below n, the small ones more often. */
static uint32_t draw_early(struct growth *g, uint32_t n)
{
    return (uint32_t)draw_below(&g->draw, draw_below(&g->draw, n) + 1);
}

/* Two words whose joined text is new; false after many tries. */
static bool draw_pair(struct growth *g, uint32_t *left, uint32_t *right, char *text, size_t *len)
{
    for (int i = 0; i < MAX_TRIES; i++) {
        uint32_t rights = g->n_words < RIGHT_HALVES ? g->n_words : RIGHT_HALVES;
        *left = g->words[draw_early(g, g->n_words)];
        *right = g->words[1 + draw_early(g, rights - 1)];
        size_t a, b;
        const char *left_text = vocab_text(&g->vocab, *left, &a);
        const char *right_text = vocab_text(&g->vocab, *right, &b);
        size_t space;
        const char *space_text = vocab_text(&g->vocab, g->words[0], &space);
        bool inner_space = b >= space && memcmp(right_text, space_text, space) == 0;
        if (a + b > MAX_WORD_BYTES || inner_space) {
            continue;
        }
        memcpy(text, left_text, a);
        memcpy(text + a, right_text, b);
        *len = a + b;
        if (vocab_find(&g->vocab, &g->index, text, a + b) < 0) {
            return true;
        }
    }
    return false;
}

/* One more word. *left and *right are its halves. */
static enum bnt_status grow(struct growth *g, uint32_t *left, uint32_t *right, struct bnt_err *err)
{
    char text[MAX_WORD_BYTES];
    size_t len;
    if (!draw_pair(g, left, right, text, &len)) {
        return bnt_err_set(err, BNT_E_USAGE, "no more than %u tokens can be drawn", g->vocab.n);
    }
    return add(g, text, len, true, err);
}

/* ---- byte-level BPE ---- */

/* Text in the byte alphabet: printable bytes stand for themselves, the others for U+0100 on. */
static enum bnt_status append_alphabet(struct bnt_buf *out, const char *bytes, size_t n,
                                       struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        unsigned code = 0, other = 0;
        unsigned byte = (unsigned char)bytes[i];
        for (unsigned b = 0; b <= byte; b++) {
            bool shown = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
            code = shown ? b : 256 + other++;
        }
        char utf8[2] = {(char)code, 0};
        if (code >= 0x80) {
            utf8[0] = (char)(0xc0 | code >> 6);
            utf8[1] = (char)(0x80 | (code & 63));
        }
        st = bnt_buf_append(out, utf8, code >= 0x80 ? 2 : 1, err);
    }
    return st;
}

static enum bnt_status append_merge(struct bnt_buf *out, const struct growth *g, uint32_t left,
                                    uint32_t right, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(256);
    size_t n;
    const char *bytes = vocab_text(&g->vocab, left, &n);
    enum bnt_status st = append_alphabet(&text, bytes, n, err);
    if (st == BNT_OK) {
        st = bnt_buf_putc(&text, ' ', err);
    }
    bytes = vocab_text(&g->vocab, right, &n);
    if (st == BNT_OK) {
        st = append_alphabet(&text, bytes, n, err);
    }
    if (st == BNT_OK) {
        st = gplan_append_text(out, bnt_buf_view(&text), text.len, err);
    }
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status append_bpe_tokens(struct bnt_buf *tokens, const struct growth *g,
                                         struct bnt_err *err)
{
    static const char *const special[N_BPE_SPECIAL] = {"<|begin_of_text|>", "<|end_of_text|>",
                                                       "<|eot_id|>"};
    struct bnt_buf text = BNT_BUF(256);
    enum bnt_status st = BNT_OK;
    for (uint32_t i = 0; st == BNT_OK && i < g->vocab.n; i++) {
        size_t n;
        const char *bytes = vocab_text(&g->vocab, i, &n);
        bnt_buf_reset(&text);
        st = append_alphabet(&text, bytes, n, err);
        if (st == BNT_OK) {
            st = gplan_append_text(tokens, bnt_buf_view(&text), text.len, err);
        }
    }
    for (int i = 0; st == BNT_OK && i < N_BPE_SPECIAL; i++) {
        st = gplan_append_text(tokens, special[i], strlen(special[i]), err);
    }
    bnt_buf_release(&text);
    return st;
}

/* The id of a byte's token is the byte. */
static enum bnt_status draw_bpe(struct growth *g, uint32_t n_words, struct bnt_buf *merges,
                                struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    uint32_t left, right;
    g->words[g->n_words++] = ' ';
    for (unsigned b = 0; st == BNT_OK && b < N_BYTES; b++) {
        char byte = (char)b;
        st = add(g, &byte, 1, false, err);
    }
    for (const char *c = letters; *c; c++) {
        g->words[g->n_words++] = (unsigned char)*c;
    }
    for (uint32_t i = 0; st == BNT_OK && i < n_words; i++) {
        st = grow(g, &left, &right, err);
        if (st == BNT_OK) {
            st = append_merge(merges, g, left, right, err);
        }
    }
    return st;
}

/* n_control tokens at the end of n are control tokens. */
static enum bnt_status put_types(struct gguf_plan *p, uint32_t n, uint32_t n_control,
                                 struct bnt_err *err)
{
    struct bnt_buf types = BNT_BUF(GPLAN_MAX_BYTES);
    enum bnt_status st = BNT_OK;
    for (uint32_t i = 0; st == BNT_OK && i < n; i++) {
        st = gplan_append_number(&types, i < n - n_control ? TYPE_NORMAL : TYPE_CONTROL, 4, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_array(p, "tokenizer.ggml.token_type", GGUF_I32, n, &types, err);
    }
    bnt_buf_release(&types);
    return st;
}

struct id_key {
    const char *key;
    uint32_t id;
};

static enum bnt_status put_ids(struct gguf_plan *p, const struct id_key *ids, size_t n,
                               struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = gplan_put_u32(p, ids[i].key, ids[i].id, err);
    }
    return st == BNT_OK ? gplan_put_bool(p, "tokenizer.ggml.add_bos_token", true, err) : st;
}

static enum bnt_status put_bpe(struct gguf_plan *p, struct growth *g, uint32_t n,
                               struct bnt_err *err)
{
    struct bnt_buf tokens = BNT_BUF(GPLAN_MAX_BYTES), merges = BNT_BUF(GPLAN_MAX_BYTES);
    const uint32_t n_words = n - N_BYTES - N_BPE_SPECIAL;
    enum bnt_status st = draw_bpe(g, n_words, &merges, err);
    if (st == BNT_OK) {
        st = append_bpe_tokens(&tokens, g, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_str(p, "tokenizer.ggml.model", "gpt2", err);
    }
    if (st == BNT_OK) {
        st = gplan_put_str(p, "tokenizer.ggml.pre", "llama-bpe", err);
    }
    if (st == BNT_OK) {
        st = gplan_put_array(p, "tokenizer.ggml.tokens", GGUF_STR, n, &tokens, err);
    }
    if (st == BNT_OK) {
        st = put_types(p, n, N_BPE_SPECIAL, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_array(p, "tokenizer.ggml.merges", GGUF_STR, n_words, &merges, err);
    }
    const struct id_key ids[] = {{"tokenizer.ggml.bos_token_id", n - 3},
                                 {"tokenizer.ggml.eos_token_id", n - 2},
                                 {"tokenizer.ggml.eot_token_id", n - 1},
                                 {"tokenizer.ggml.padding_token_id", n - 2}};
    bnt_buf_release(&tokens);
    bnt_buf_release(&merges);
    return st == BNT_OK ? put_ids(p, ids, sizeof ids / sizeof ids[0], err) : st;
}

/* ---- SentencePiece ---- */

static enum bnt_status draw_spm(struct growth *g, uint32_t n, struct bnt_err *err)
{
    uint32_t left, right;
    enum bnt_status st = add(g, SPM_SPACE, strlen(SPM_SPACE), true, err);
    for (const char *c = letters; st == BNT_OK && *c; c++) {
        st = add(g, c, 1, true, err);
    }
    for (char c = '!'; st == BNT_OK && c <= '~'; c++) { /* a letter is there already */
        st = add(g, &c, 1, false, err);
    }
    while (st == BNT_OK && g->vocab.n < n - N_SPM_SPECIAL - N_BYTES) {
        st = grow(g, &left, &right, err);
    }
    return st;
}

/* Token texts, types and scores of an id before the words. */
static void spm_head(uint32_t id, char text[16], uint32_t *type)
{
    static const char *const special[N_SPM_SPECIAL] = {"<unk>", "<s>", "</s>"};
    if (id < N_SPM_SPECIAL) {
        snprintf(text, 16, "%s", special[id]);
        *type = id == 0 ? TYPE_UNKNOWN : TYPE_CONTROL;
    } else {
        snprintf(text, 16, "<0x%02X>", id - N_SPM_SPECIAL);
        *type = TYPE_BYTE;
    }
}

struct spm_arrays {
    struct bnt_buf tokens, scores, types;
};

static enum bnt_status append_spm(struct spm_arrays *a, const char *text, size_t len, uint32_t type,
                                  float score, struct bnt_err *err)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    enum bnt_status st = gplan_append_text(&a->tokens, text, len, err);
    if (st == BNT_OK) {
        st = gplan_append_number(&a->types, type, 4, err);
    }
    return st == BNT_OK ? gplan_append_number(&a->scores, bits, 4, err) : st;
}

/* What was joined first is joined first: scores fall with the id. */
static enum bnt_status fill_spm(struct spm_arrays *a, const struct growth *g, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (uint32_t id = 0; st == BNT_OK && id < N_SPM_SPECIAL + N_BYTES; id++) {
        char text[16];
        uint32_t type;
        spm_head(id, text, &type);
        st = append_spm(a, text, strlen(text), type, 0, err);
    }
    for (uint32_t i = 0; st == BNT_OK && i < g->vocab.n; i++) {
        size_t len;
        const char *text = vocab_text(&g->vocab, i, &len);
        st = append_spm(a, text, len, TYPE_NORMAL, -(float)i, err);
    }
    return st;
}

static enum bnt_status put_spm(struct gguf_plan *p, struct growth *g, uint32_t n,
                               struct bnt_err *err)
{
    struct spm_arrays a = {BNT_BUF(GPLAN_MAX_BYTES), BNT_BUF(GPLAN_MAX_BYTES),
                           BNT_BUF(GPLAN_MAX_BYTES)};
    enum bnt_status st = draw_spm(g, n, err);
    if (st == BNT_OK) {
        st = fill_spm(&a, g, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_str(p, "tokenizer.ggml.model", "llama", err);
    }
    if (st == BNT_OK) {
        st = gplan_put_array(p, "tokenizer.ggml.tokens", GGUF_STR, n, &a.tokens, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_array(p, "tokenizer.ggml.scores", GGUF_F32, n, &a.scores, err);
    }
    if (st == BNT_OK) {
        st = gplan_put_array(p, "tokenizer.ggml.token_type", GGUF_I32, n, &a.types, err);
    }
    const struct id_key ids[] = {{"tokenizer.ggml.bos_token_id", 1},
                                 {"tokenizer.ggml.eos_token_id", 2},
                                 {"tokenizer.ggml.unknown_token_id", 0}};
    bnt_buf_release(&a.tokens);
    bnt_buf_release(&a.scores);
    bnt_buf_release(&a.types);
    return st == BNT_OK ? put_ids(p, ids, sizeof ids / sizeof ids[0], err) : st;
}

enum bnt_status tiny_vocab_put(struct gguf_plan *p, const char *kind, uint32_t n, uint64_t seed,
                               struct bnt_err *err)
{
    bool spm = strcmp(kind, "spm") == 0;
    uint32_t least = spm ? N_SPM_SPECIAL + N_BYTES + 1 + 94 : N_BYTES + N_BPE_SPECIAL;
    if (!spm && strcmp(kind, "bpe") != 0) {
        return bnt_err_set(err, BNT_E_USAGE, "tokenizer %s is not known: bpe or spm", kind);
    }
    if (n < least) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "a vocabulary of kind %s has at least %u tokens, not %u", kind, least,
                           n);
    }
    struct growth g;
    enum bnt_status st = growth_init(&g, n, seed, err);
    if (st == BNT_OK) {
        st = spm ? put_spm(p, &g, n, err) : put_bpe(p, &g, n, err);
    }
    growth_release(&g);
    return st;
}
