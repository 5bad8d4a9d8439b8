/* Invariants: start has n + 1 entries, ascending, start[n] == len; an index never holds two symbols
 * of the same bytes. */
#include "engine/vocab.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static bool same(const struct vocab *v, uint32_t symbol, const char *bytes, size_t len)
{
    size_t have;
    const char *text = vocab_text(v, symbol, &have);
    return have == len && memcmp(text, bytes, len) == 0;
}

/* The slot that holds these bytes, or the free one where they belong. */
static uint64_t *find_slot(const struct vocab *v, const struct vocab_index *x, const char *bytes,
                           size_t len, uint64_t h)
{
    uint64_t i = h & x->mask;
    for (; x->slots[i] != 0; i = (i + 1) & x->mask) {
        if (x->slots[i] >> 32 == h >> 32 && same(v, (uint32_t)x->slots[i] - 1, bytes, len)) {
            break;
        }
    }
    return &x->slots[i];
}

static enum bnt_status grow_index(const struct vocab *v, struct vocab_index *x, struct bnt_err *err)
{
    struct vocab_index bigger;
    enum bnt_status st = vocab_index_init(&bigger, 2 * (x->mask + 1), err);
    if (st != BNT_OK) {
        return st;
    }
    for (uint64_t i = 0; i <= x->mask; i++) {
        if (x->slots[i] != 0) {
            size_t len;
            const char *bytes = vocab_text(v, (uint32_t)x->slots[i] - 1, &len);
            *find_slot(v, &bigger, bytes, len, vocab_hash(v, bytes, len)) = x->slots[i];
        }
    }
    bigger.n = x->n;
    free(x->slots);
    *x = bigger;
    return BNT_OK;
}

uint64_t vocab_hash(const struct vocab *v, const char *bytes, size_t len)
{
    uint64_t h = v->seed ^ len;
    uint64_t word;
    for (; len >= 8; len -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        h = mix(h, word);
    }
    word = 0;
    for (size_t i = 0; i < len; i++) {
        word = word << 8 | (unsigned char)bytes[i];
    }
    h = mix(h, word);
    return mix(h, h >> 32);
}

enum bnt_status vocab_init(struct vocab *v, uint32_t n, size_t bytes, struct bnt_err *err)
{
    *v = (struct vocab){.cap = bytes, .cap_start = n};
    if (getrandom(&v->seed, sizeof(v->seed), GRND_NONBLOCK) != (ssize_t)sizeof(v->seed)) {
        v->seed = (uintptr_t)v ^ 0x5851f42d4c957f2du;
    }
    v->bytes = malloc(bytes + 1);
    v->start = malloc(((size_t)n + 1) * sizeof(*v->start));
    if (v->bytes == NULL || v->start == NULL) {
        vocab_release(v);
        return bnt_err_nomem(err, "the vocabulary",
                             bytes + (unsigned long long)n * sizeof(*v->start));
    }
    v->start[0] = 0;
    return BNT_OK;
}

void vocab_release(struct vocab *v)
{
    free(v->bytes);
    free(v->start);
    *v = (struct vocab){0};
}

enum bnt_status vocab_index_init(struct vocab_index *x, uint64_t n, struct bnt_err *err)
{
    uint64_t slots = 16;
    while (slots < 2 * n) {
        slots *= 2;
    }
    *x = (struct vocab_index){.slots = calloc(slots, sizeof(*x->slots)), .mask = slots - 1};
    return x->slots != NULL
               ? BNT_OK
               : bnt_err_nomem(err, "the vocabulary's index", slots * sizeof(*x->slots));
}

void vocab_index_release(struct vocab_index *x)
{
    free(x->slots);
    *x = (struct vocab_index){0};
}

char *vocab_room(struct vocab *v, size_t bytes)
{
    if (bytes > UINT32_MAX - v->len) {
        return NULL;
    }
    if (v->len + bytes > v->cap) {
        size_t cap = v->cap + v->cap / 2 + bytes;
        char *grown = realloc(v->bytes, cap + 1);
        if (grown == NULL) {
            return NULL;
        }
        v->bytes = grown;
        v->cap = cap;
    }
    return v->bytes + v->len;
}

enum bnt_status vocab_add(struct vocab *v, size_t len, uint32_t *symbol, struct bnt_err *err)
{
    if (v->n == v->cap_start) {
        uint32_t cap = v->cap_start < (1u << 30) ? v->cap_start + v->cap_start / 2 + 64 : 0;
        uint32_t *grown = cap == 0 ? NULL : realloc(v->start, ((size_t)cap + 1) * sizeof(*grown));
        if (grown == NULL) {
            return bnt_err_nomem(err, "the vocabulary", (unsigned long long)v->n * sizeof(*grown));
        }
        v->start = grown;
        v->cap_start = cap;
    }
    v->len += len;
    *symbol = v->n++;
    v->start[v->n] = (uint32_t)v->len;
    return BNT_OK;
}

int32_t vocab_find(const struct vocab *v, const struct vocab_index *x, const char *bytes,
                   size_t len)
{
    uint64_t slot = *find_slot(v, x, bytes, len, vocab_hash(v, bytes, len));
    return (int32_t)(uint32_t)slot - 1;
}

enum bnt_status vocab_index_put(const struct vocab *v, struct vocab_index *x, uint32_t symbol,
                                bool *twice, struct bnt_err *err)
{
    if (2 * (x->n + 1) > x->mask + 1) {
        enum bnt_status st = grow_index(v, x, err);
        if (st != BNT_OK) {
            return st;
        }
    }
    size_t len;
    const char *bytes = vocab_text(v, symbol, &len);
    uint64_t h = vocab_hash(v, bytes, len);
    uint64_t *slot = find_slot(v, x, bytes, len, h);
    *twice = *slot != 0;
    if (*slot == 0) {
        *slot = (h >> 32 << 32) | (symbol + 1);
        x->n++;
    }
    return BNT_OK;
}

enum bnt_status vocab_intern(struct vocab *v, struct vocab_index *x, struct vocab_word word,
                             uint32_t *symbol, struct bnt_err *err)
{
    uint64_t slot = *find_slot(v, x, word.bytes, word.len, word.hash);
    if (slot != 0) {
        *symbol = (uint32_t)slot - 1;
        return BNT_OK;
    }
    char *room = vocab_room(v, word.len);
    if (room == NULL) {
        return bnt_err_nomem(err, "the vocabulary", v->len + word.len);
    }
    memcpy(room, word.bytes, word.len);
    enum bnt_status st = vocab_add(v, word.len, symbol, err);
    bool twice;
    return st == BNT_OK ? vocab_index_put(v, x, *symbol, &twice, err) : st;
}
