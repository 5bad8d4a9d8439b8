/* Merging of adjacent symbols, shared by both kinds of vocabulary.
 *
 * Symbols form a doubly linked list; a heap holds what may merge. An entry is never removed when
 * its pair changes: it is stale when the symbol's rank is no longer the entry's, and is dropped
 * when it comes up. A pair of the same rank at the same place is as good as the one that the entry
 * was made for. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/tokenizer_impl.h"

static void *grow(void *old, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap) {
        return old;
    }
    size_t wanted = *cap + *cap / 2 > need ? *cap + *cap / 2 : need;
    void *grown = wanted > SIZE_MAX / size ? NULL : realloc(old, wanted * size);
    if (grown != NULL) {
        *cap = wanted;
    }
    return grown;
}

static enum bnt_status heap_push(struct scratch *s, uint64_t key, struct bnt_err *err)
{
    if (s->n_heap == s->cap_heap) {
        uint64_t *grown = grow(s->heap, &s->cap_heap, s->n_heap + 64, sizeof(*s->heap));
        if (grown == NULL) {
            return bnt_err_nomem(err, "merging of tokens", s->n_heap * sizeof(*s->heap));
        }
        s->heap = grown;
    }
    size_t i = s->n_heap++;
    for (; i > 0 && s->heap[(i - 1) / 2] > key; i = (i - 1) / 2) {
        s->heap[i] = s->heap[(i - 1) / 2];
    }
    s->heap[i] = key;
    return BNT_OK;
}

static uint64_t heap_pop(struct scratch *s)
{
    uint64_t top = s->heap[0];
    uint64_t last = s->heap[--s->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= s->n_heap) {
            break;
        }
        if (child + 1 < s->n_heap && s->heap[child + 1] < s->heap[child]) {
            child++;
        }
        if (s->heap[child] >= last) {
            break;
        }
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

struct merging {
    const struct bnt_tokenizer *t;
    struct scratch *s;
    merge_rank_fn *rank;
    const char *word;
    size_t len;
};

/* Symbol i or its next has changed: rank them anew. */
static enum bnt_status consider(const struct merging *m, uint32_t i, struct bnt_err *err)
{
    struct merge_symbol *symbol = &m->s->symbols[i];
    symbol->rank = MERGE_NONE;
    if (symbol->next == MERGE_NONE) {
        return BNT_OK;
    }
    symbol->rank = m->rank(m->t, m->s->symbols, i, m->word, m->len, &symbol->merged);
    if (BNT_FAULT(merge_order) && symbol->rank != MERGE_NONE) {
        symbol->rank = MERGE_NONE - 1 - symbol->rank;
    }
    return symbol->rank == MERGE_NONE ? BNT_OK
                                      : heap_push(m->s, (uint64_t)symbol->rank << 32 | i, err);
}

/* Symbol i takes in its next, which leaves the list. */
static void absorb_next(struct merge_symbol *symbols, uint32_t i)
{
    struct merge_symbol *symbol = &symbols[i];
    struct merge_symbol *gone = &symbols[symbol->next];
    symbol->id = symbol->merged;
    symbol->next = gone->next;
    gone->rank = MERGE_NONE;
    if (symbol->next != MERGE_NONE) {
        symbols[symbol->next].prev = i;
    }
}

void scratch_release(struct scratch *s)
{
    free(s->chars);
    free(s->ends);
    free(s->spare);
    free(s->text);
    free(s->symbols);
    free(s->heap);
    free(s->cache);
    *s = (struct scratch){0};
}

enum bnt_status scratch_reserve_text(struct scratch *s, size_t n, struct bnt_err *err)
{
    if (n > s->cap_text) {
        free(s->text);
        s->text = malloc(n);
        s->cap_text = s->text == NULL ? 0 : n;
    }
    return n <= s->cap_text ? BNT_OK : bnt_err_nomem(err, "tokenizing", n);
}

enum bnt_status scratch_reserve_symbols(struct scratch *s, size_t n, struct bnt_err *err)
{
    if (n > s->cap_symbols) {
        struct merge_symbol *grown = grow(s->symbols, &s->cap_symbols, n, sizeof(*s->symbols));
        if (grown == NULL) {
            return bnt_err_nomem(err, "merging of tokens", n * sizeof(*s->symbols));
        }
        s->symbols = grown;
    }
    return BNT_OK;
}

enum bnt_status merge_all(const struct bnt_tokenizer *t, struct scratch *s, merge_rank_fn *rank,
                          const char *word, size_t len, struct bnt_err *err)
{
    struct merging m = {t, s, rank, word, len};
    s->n_heap = 0;
    for (uint32_t i = 0; i < s->n_symbols; i++) {
        s->symbols[i].prev = i == 0 ? MERGE_NONE : i - 1;
        s->symbols[i].next = i + 1 == s->n_symbols ? MERGE_NONE : i + 1;
    }
    for (uint32_t i = 0; i < s->n_symbols; i++) {
        enum bnt_status st = consider(&m, i, err);
        if (st != BNT_OK) {
            return st;
        }
    }
    while (s->n_heap > 0) {
        uint64_t top = heap_pop(s);
        uint32_t i = (uint32_t)top;
        if (s->symbols[i].rank != top >> 32) {
            continue;
        }
        absorb_next(s->symbols, i);
        enum bnt_status st = consider(&m, i, err);
        if (st == BNT_OK && s->symbols[i].prev != MERGE_NONE) {
            st = consider(&m, s->symbols[i].prev, err);
        }
        if (st != BNT_OK) {
            return st;
        }
    }
    return BNT_OK;
}

size_t merge_symbol_len(const struct merge_symbol *symbols, uint32_t i, size_t len)
{
    uint32_t next = symbols[i].next;
    return (next == MERGE_NONE ? len : symbols[next].at) - symbols[i].at;
}

static struct word_cache_entry *cache_slot(struct scratch *s, const char *word, size_t len)
{
    uint64_t h = len;
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (unsigned char)word[i]) * 0x9e3779b97f4a7c15u;
    }
    return &s->cache[(h >> 40) % WORD_CACHE_SLOTS];
}

enum bnt_status word_cache_get(struct scratch *s, const char *word, size_t len, struct bnt_ids *out,
                               bool *hit, struct bnt_err *err)
{
    *hit = false;
    if (s->cache == NULL || len == 0 || len > WORD_CACHE_BYTES) {
        return BNT_OK;
    }
    const struct word_cache_entry *e = cache_slot(s, word, len);
    size_t compared = BNT_FAULT(word_cache) ? 0 : len;
    *hit = e->len == len && memcmp(e->bytes, word, compared) == 0;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; *hit && i < e->n_ids && st == BNT_OK; i++) {
        st = bnt_ids_push(out, e->ids[i], err);
    }
    return st;
}

void word_cache_put(struct scratch *s, const char *word, size_t len, const int32_t *ids, size_t n)
{
    if (s->cache == NULL || len == 0 || len > WORD_CACHE_BYTES || n > WORD_CACHE_IDS) {
        return;
    }
    struct word_cache_entry *e = cache_slot(s, word, len);
    memcpy(e->bytes, word, len);
    memcpy(e->ids, ids, n * sizeof(*ids));
    e->len = (uint8_t)len;
    e->n_ids = (uint8_t)n;
}
