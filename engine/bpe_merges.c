/* The table of merges: from pairs of symbols to ranks.
 *
 * A vocabulary has hundreds of thousands of merges and a model must be ready in a fraction of a
 * second, so what waiting for memory there is overlaps: merges are read in blocks, and each block
 * is walked several times, each walk asking for what the next one needs. */
#include <stdlib.h>
#include <string.h>

#include "engine/tokenizer_impl.h"

#define BLOCK 32

/* Both halves of a merge in bytes, one after the other at `at` in the block's bytes. */
struct pair {
    size_t at, n_left, n;
    uint64_t left_hash, right_hash;
    uint32_t left, right;
};

struct block {
    struct pair pairs[BLOCK];
    size_t n;
    char *bytes;
    size_t used, cap;
    uint32_t last_merged; /* of the merge before: the next one is often the same symbol, or the one
                             after it */
};

static uint64_t pair_hash(uint32_t left, uint32_t right)
{
    uint64_t h = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

/* The slot of the pair, or the free one where it belongs. */
static uint64_t *find_slot(const struct bnt_tokenizer *t, uint32_t left, uint32_t right,
                           uint64_t hash)
{
    uint64_t i = hash & t->merge_mask;
    for (; t->merge_slots[i] != 0; i = (i + 1) & t->merge_mask) {
        if (t->merge_slots[i] >> 32 == hash >> 32) {
            const struct bpe_merge *m = &t->merges[(uint32_t)t->merge_slots[i] - 1];
            if ((uint32_t)m->left == left && (uint32_t)m->right == right) {
                break;
            }
        }
    }
    return &t->merge_slots[i];
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

static enum bnt_status intern_bytes(struct bnt_tokenizer *t, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (unsigned b = 0; b < 256 && st == BNT_OK; b++) {
        char byte = (char)b;
        uint32_t symbol = 0;
        st = vocab_intern(&t->vocab, &t->words,
                          (struct vocab_word){&byte, 1, vocab_hash(&t->vocab, &byte, 1)}, &symbol,
                          err);
        t->byte_symbol[b] = (int32_t)symbol;
    }
    return st;
}

/* Where the halves of "left right" part: the first blank that is not the first character; 0:
 * nowhere. */
static size_t parting(struct gguf_str s)
{
    const char *blank = s.len < 3 ? NULL : memchr(s.data + 1, ' ', s.len - 1);
    size_t at = blank == NULL ? 0 : (size_t)(blank - s.data);
    return at + 1 < s.len ? at : 0;
}

/* Add a merge to the block. *bad: it is no pair that text could ever become. */
static enum bnt_status read_merge(struct block *b, struct gguf_str s, bool *bad,
                                  struct bnt_err *err)
{
    size_t at = parting(s);
    *bad = at == 0;
    if (at == 0) {
        return BNT_OK;
    }
    if (b->used + s.len > b->cap) {
        size_t cap = 2 * (b->used + s.len) + 1024;
        char *grown = realloc(b->bytes, cap);
        if (grown == NULL) {
            return bnt_err_nomem(err, "the merges", cap);
        }
        b->bytes = grown;
        b->cap = cap;
    }
    char *bytes = b->bytes + b->used;
    size_t n_left = uni_bytes_from_alphabet(s.data, at, bytes);
    size_t n_right = n_left == SIZE_MAX
                         ? SIZE_MAX
                         : uni_bytes_from_alphabet(s.data + at + 1, s.len - at - 1, bytes + n_left);
    *bad = n_right == SIZE_MAX;
    if (!*bad) {
        b->pairs[b->n++] = (struct pair){.at = b->used, .n_left = n_left, .n = n_left + n_right};
        b->used += n_left + n_right;
    }
    return BNT_OK;
}

static void hash_halves(const struct bnt_tokenizer *t, struct block *b)
{
    for (size_t i = 0; i < b->n; i++) {
        struct pair *p = &b->pairs[i];
        const char *bytes = b->bytes + p->at;
        p->left_hash = vocab_hash(&t->vocab, bytes, p->n_left);
        p->right_hash = vocab_hash(&t->vocab, bytes + p->n_left, p->n - p->n_left);
        vocab_prefetch_slot(&t->words, p->left_hash);
        vocab_prefetch_slot(&t->words, p->right_hash);
    }
    for (size_t i = 0; i < b->n; i++) {
        vocab_prefetch_text(&t->vocab, &t->words, b->pairs[i].left_hash);
        vocab_prefetch_text(&t->vocab, &t->words, b->pairs[i].right_hash);
    }
}

static enum bnt_status find_halves(struct bnt_tokenizer *t, struct block *b, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < b->n && st == BNT_OK; i++) {
        struct pair *p = &b->pairs[i];
        const char *bytes = b->bytes + p->at;
        st = vocab_intern(&t->vocab, &t->words, (struct vocab_word){bytes, p->n_left, p->left_hash},
                          &p->left, err);
        if (st == BNT_OK) {
            struct vocab_word right = {bytes + p->n_left, p->n - p->n_left, p->right_hash};
            st = vocab_intern(&t->vocab, &t->words, right, &p->right, err);
        }
        if (st == BNT_OK) {
            __builtin_prefetch(&t->merge_slots[pair_hash(p->left, p->right) & t->merge_mask], 1);
        }
    }
    return st;
}

static bool is_word(const struct bnt_tokenizer *t, uint32_t symbol, const char *bytes, size_t n)
{
    if (symbol >= t->vocab.n ||
        (symbol < (uint32_t)t->n_vocab && (t->type[symbol] & TOKEN_NO_WORD))) {
        return false;
    }
    size_t len;
    const char *text = vocab_text(&t->vocab, symbol, &len);
    return len == n && memcmp(text, bytes, n) == 0;
}

/* What a pair merges into. */
static enum bnt_status find_merged(struct bnt_tokenizer *t, struct block *b, const struct pair *p,
                                   uint32_t *merged, struct bnt_err *err)
{
    const char *bytes = b->bytes + p->at;
    for (*merged = b->last_merged; *merged <= b->last_merged + 1; ++*merged) {
        if (is_word(t, *merged, bytes, p->n)) {
            b->last_merged = *merged;
            return BNT_OK;
        }
    }
    uint64_t hash = vocab_hash(&t->vocab, bytes, p->n);
    enum bnt_status st =
        vocab_intern(&t->vocab, &t->words, (struct vocab_word){bytes, p->n, hash}, merged, err);
    b->last_merged = *merged;
    return st;
}

static enum bnt_status flush(struct bnt_tokenizer *t, struct block *b, struct bnt_err *err)
{
    hash_halves(t, b);
    enum bnt_status st = find_halves(t, b, err);
    for (size_t i = 0; i < b->n && st == BNT_OK; i++) {
        const struct pair *p = &b->pairs[i];
        uint32_t merged = 0;
        st = find_merged(t, b, p, &merged, err);
        uint64_t hash = pair_hash(p->left, p->right);
        uint64_t *slot = find_slot(t, p->left, p->right, hash);
        if (st == BNT_OK && *slot == 0) { /* of a pair that stands twice, the first one counts */
            t->merges[t->n_merges++] =
                (struct bpe_merge){(int32_t)p->left, (int32_t)p->right, (int32_t)merged};
            *slot = (hash >> 32 << 32) | t->n_merges;
        }
    }
    b->n = 0;
    b->used = 0;
    return st;
}

enum bnt_status bpe_load_merges(struct bnt_tokenizer *t, const struct gguf *g, size_t *n_bad,
                                struct bnt_err *err)
{
    struct gguf_iter it;
    uint64_t n = gguf_iter_begin(g, "tokenizer.ggml.merges", GGUF_STR, &it) ? it.kv->n : 0;
    if (n > INT32_MAX) {
        return gguf_fail(err, GGUF_FAULT_TOKENIZER, "%s: tokenizer.ggml.merges: too many", g->path);
    }
    enum bnt_status st = alloc_merges(t, n, err);
    if (st == BNT_OK) {
        st = intern_bytes(t, err);
    }
    struct block b = {.n = 0};
    struct gguf_str s;
    while (st == BNT_OK && n > 0 && gguf_iter_str(&it, &s)) {
        bool bad;
        st = read_merge(&b, s, &bad, err);
        *n_bad += bad;
        if (st == BNT_OK && b.n == BLOCK) {
            st = flush(t, &b, err);
        }
    }
    if (st == BNT_OK) {
        st = flush(t, &b, err);
    }
    free(b.bytes);
    return st;
}

uint32_t bpe_find_merge(const struct bnt_tokenizer *t, int32_t left, int32_t right)
{
    uint64_t slot =
        *find_slot(t, (uint32_t)left, (uint32_t)right, pair_hash((uint32_t)left, (uint32_t)right));
    return slot == 0 ? MERGE_NONE : (uint32_t)slot - 1;
}
