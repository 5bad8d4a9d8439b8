/* Byte-level BPE: merges as a table of pairs, and encoding piece by piece.
 *
 * Symbols are compared by number: the vocabulary holds the bytes that tokens stand for, not their spelling in the byte
 * alphabet, so a piece of text is looked up as it is. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer_impl.h"

static uint64_t pair_hash(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 32) * 0xd6e8feb86659fd93u >> 20;
}

static uint32_t *merge_slot(const struct bnt_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t i = pair_hash(left, right) & t->merge_mask;
    for (; t->merge_slots[i] != 0; i = (i + 1) & t->merge_mask) {
        const struct bpe_merge *m = &t->merges[t->merge_slots[i] - 1];
        if (m->left == left && m->right == right) {
            break;
        }
    }
    return &t->merge_slots[i];
}

/* Where the halves of "left right" part: the first blank that is not the first character; 0: nowhere. */
static size_t parting(struct gguf_str s)
{
    const char *blank = s.len < 3 ? NULL : memchr(s.data + 1, ' ', s.len - 1);
    size_t at = blank == NULL ? 0 : (size_t)(blank - s.data);
    return at + 1 < s.len ? at : 0;
}

/* Both halves in bytes, one after the other, in buf; *n_left and *n are their lengths. False: not a pair that text could
 * ever become. */
static bool merge_bytes(struct gguf_str s, char *buf, size_t *n_left, size_t *n)
{
    size_t at = parting(s);
    if (at == 0) {
        return false;
    }
    size_t left = uni_bytes_from_alphabet(s.data, at, buf);
    if (left == SIZE_MAX) {
        return false;
    }
    size_t right = uni_bytes_from_alphabet(s.data + at + 1, s.len - at - 1, buf + left);
    *n_left = left;
    *n = left + right;
    return right != SIZE_MAX;
}

static enum bnt_status add_merge(struct bnt_tokenizer *t, const char *bytes, size_t n_left, size_t n,
                                 struct bnt_err *err)
{
    uint32_t left, right, merged;
    enum bnt_status st = vocab_intern(&t->vocab, &t->words, bytes, n_left, &left, err);
    if (st == BNT_OK) {
        st = vocab_intern(&t->vocab, &t->words, bytes + n_left, n - n_left, &right, err);
    }
    if (st == BNT_OK) {
        st = vocab_intern(&t->vocab, &t->words, bytes, n, &merged, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    uint32_t *slot = merge_slot(t, (int32_t)left, (int32_t)right);
    if (*slot == 0) { /* of a pair that stands twice, the first one counts */
        t->merges[t->n_merges++] = (struct bpe_merge){(int32_t)left, (int32_t)right, (int32_t)merged};
        *slot = t->n_merges;
    }
    return BNT_OK;
}

static enum bnt_status alloc_merges(struct bnt_tokenizer *t, uint64_t n, struct bnt_err *err)
{
    uint64_t slots = 16;
    while (slots < n + n / 2) {
        slots *= 2;
    }
    t->merges = malloc((n + 1) * sizeof(*t->merges));
    t->merge_slots = calloc(slots, sizeof(*t->merge_slots));
    t->merge_mask = slots - 1;
    if (t->merges == NULL || t->merge_slots == NULL) {
        return bnt_err_nomem(err, "the merges", n * sizeof(*t->merges));
    }
    return BNT_OK;
}

enum bnt_status bpe_load_merges(struct bnt_tokenizer *t, const struct gguf *g, size_t *n_bad, struct bnt_err *err)
{
    struct gguf_iter it;
    uint64_t n = gguf_iter_begin(g, "tokenizer.ggml.merges", GGUF_STR, &it) ? it.kv->n : 0;
    if (n > INT32_MAX) {
        return gguf_fail(err, GGUF_FAULT_TOKENIZER, "%s: tokenizer.ggml.merges: too many", g->path);
    }
    enum bnt_status st = alloc_merges(t, n, err);
    for (unsigned b = 0; b < 256 && st == BNT_OK; b++) {
        char byte = (char)b;
        uint32_t symbol;
        st = vocab_intern(&t->vocab, &t->words, &byte, 1, &symbol, err);
        t->byte_symbol[b] = (int32_t)symbol;
    }
    char *buf = NULL;
    size_t cap = 0;
    struct gguf_str s;
    while (st == BNT_OK && n > 0 && gguf_iter_str(&it, &s)) {
        if (s.len > cap) {
            free(buf);
            cap = 2 * s.len + 64;
            buf = malloc(cap);
            if (buf == NULL) {
                return bnt_err_nomem(err, "the merges", cap);
            }
        }
        size_t n_left, n_both;
        if (buf != NULL && merge_bytes(s, buf, &n_left, &n_both)) {
            st = add_merge(t, buf, n_left, n_both, err);
        } else {
            ++*n_bad;
        }
    }
    free(buf);
    return st;
}

static uint32_t pair_rank(const struct bnt_tokenizer *t, const struct merge_symbol *symbols, uint32_t i,
                          const char *word, size_t len, int32_t *merged)
{
    (void)word;
    (void)len;
    uint32_t slot = *merge_slot(t, symbols[i].id, symbols[symbols[i].next].id);
    if (slot == 0) {
        return MERGE_NONE;
    }
    *merged = t->merges[slot - 1].merged;
    return slot - 1;
}

/* A symbol that is no token goes out as its bytes; a byte without a token as the unknown token, if there is one. */
static enum bnt_status emit(const struct bnt_tokenizer *t, int32_t symbol, const char *bytes, size_t len,
                            struct bnt_ids *out, struct bnt_err *err)
{
    if (symbol < t->n_vocab) {
        return bnt_ids_push(out, symbol, err);
    }
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < len && st == BNT_OK; i++) {
        int32_t id = t->byte_symbol[(unsigned char)bytes[i]];
        id = id < t->n_vocab ? id : t->unk;
        st = id < 0 ? BNT_OK : bnt_ids_push(out, id, err);
    }
    return st;
}

static enum bnt_status encode_by_merges(const struct bnt_tokenizer *t, struct scratch *s, const char *word,
                                        size_t len, struct bnt_ids *out, struct bnt_err *err)
{
    enum bnt_status st = scratch_reserve_symbols(s, len, err);
    if (st != BNT_OK) {
        return st;
    }
    s->n_symbols = len;
    for (size_t i = 0; i < len; i++) {
        s->symbols[i].id = t->byte_symbol[(unsigned char)word[i]];
        s->symbols[i].at = (uint32_t)i;
    }
    st = merge_all(t, s, pair_rank, word, len, err);
    for (uint32_t i = 0; i != MERGE_NONE && st == BNT_OK; i = s->symbols[i].next) {
        const struct merge_symbol *symbol = &s->symbols[i];
        st = emit(t, symbol->id, word + symbol->at, merge_symbol_len(s->symbols, i, len), out, err);
    }
    return st;
}

static enum bnt_status encode_word(const struct bnt_tokenizer *t, struct scratch *s, const char *word, size_t len,
                                   struct bnt_ids *out, struct bnt_err *err)
{
    bool hit;
    enum bnt_status st = word_cache_get(s, word, len, out, &hit, err);
    if (hit || st != BNT_OK) {
        return st;
    }
    size_t before = out->n;
    int32_t whole = t->ignore_merges ? vocab_find(&t->vocab, &t->words, word, len) : -1;
    if (whole >= 0 && whole < t->n_vocab) {
        st = bnt_ids_push(out, whole, err);
    } else {
        st = encode_by_merges(t, s, word, len, out, err);
    }
    if (st == BNT_OK && out->n > before) {
        word_cache_put(s, word, len, out->at + before, out->n - before);
    }
    return st;
}

static enum bnt_status reserve_chars(struct scratch *s, size_t n, struct bnt_err *err)
{
    if (n <= s->cap_chars) {
        return BNT_OK;
    }
    free(s->chars);
    free(s->ends);
    free(s->spare);
    s->cap_chars = 0;
    s->chars = malloc(n * sizeof(*s->chars));
    s->ends = malloc(n * sizeof(*s->ends));
    s->spare = malloc(n * sizeof(*s->spare));
    if (s->chars == NULL || s->ends == NULL || s->spare == NULL) {
        return bnt_err_nomem(err, "pre-tokenizing", 3ull * n * sizeof(*s->chars));
    }
    s->cap_chars = n;
    return BNT_OK;
}

enum bnt_status bpe_encode(const struct bnt_tokenizer *t, struct scratch *s, const char *text, size_t len,
                           struct bnt_ids *out, struct bnt_err *err)
{
    enum bnt_status st = reserve_chars(s, len, err);
    if (st != BNT_OK) {
        return st;
    }
    size_t n_chars = uni_scan(text, len, s->chars);
    size_t n_pieces = pretok_split(t->pre, s->chars, n_chars, s->ends, s->spare);
    size_t c = 0;
    for (size_t i = 0; i < n_pieces && st == BNT_OK; i++) {
        size_t n_bytes = 0;
        for (; c < s->ends[i]; c++) {
            n_bytes += uni_len(s->chars[c]);
        }
        st = encode_word(t, s, text, n_bytes, out, err);
        text += n_bytes;
    }
    return st;
}
