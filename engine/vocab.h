/* The symbols of a tokenizer: the tokens of the vocabulary, and after them what merges mention
 * without being tokens.
 *
 * All texts lie in one block of bytes; a symbol is known by its number, a token's number is its id.
 * Finding a symbol by its bytes goes through a hash table of numbers. Nothing is allocated per
 * symbol. */
#ifndef BNT_VOCAB_H
#define BNT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct vocab {
    char *bytes;
    size_t len, cap;
    uint32_t *start; /* n + 1 offsets into bytes */
    uint32_t n, cap_start;
    uint64_t seed; /* of the hash: random, so that a file cannot be made to collide */
};

/* Finds symbols of a vocab; one vocab may have several. */
struct vocab_index {
    uint64_t *slots; /* upper half: hash; lower half: symbol + 1, 0 where free */
    uint64_t mask;   /* slots - 1, a power of two of which at most half are taken */
    uint64_t n;
};

struct vocab_word {
    const char *bytes;
    size_t len;
    uint64_t hash; /* vocab_hash of them */
};

/* Room for n symbols of `bytes` bytes in all; both grow when more come. */
enum bnt_status vocab_init(struct vocab *v, uint32_t n, size_t bytes, struct bnt_err *err);
void vocab_release(struct vocab *v);
enum bnt_status vocab_index_init(struct vocab_index *x, uint64_t n, struct bnt_err *err);
void vocab_index_release(struct vocab_index *x);

/* Where the bytes of the next symbol can be written, at least `bytes` of them; NULL: out of memory,
 * or past 4 GiB. */
char *vocab_room(struct vocab *v, size_t bytes);
/* The next symbol is what was written to vocab_room: `len` bytes. */
enum bnt_status vocab_add(struct vocab *v, size_t len, uint32_t *symbol, struct bnt_err *err);

static inline const char *vocab_text(const struct vocab *v, uint32_t symbol, size_t *len)
{
    *len = v->start[symbol + 1] - v->start[symbol];
    return v->bytes + v->start[symbol];
}

uint64_t vocab_hash(const struct vocab *v, const char *bytes, size_t len);
/* Look-ups in bulk: ask for the slot of a hash, later for the text it leads to, so that waiting
 * overlaps. */
static inline void vocab_prefetch_slot(const struct vocab_index *x, uint64_t hash)
{
    __builtin_prefetch(&x->slots[hash & x->mask]);
}
static inline void vocab_prefetch_text(const struct vocab *v, const struct vocab_index *x,
                                       uint64_t hash)
{
    uint64_t slot = x->slots[hash & x->mask];
    if (slot != 0) {
        __builtin_prefetch(&v->start[(uint32_t)slot - 1]);
    }
}

/* The symbol with these bytes, or -1. */
int32_t vocab_find(const struct vocab *v, const struct vocab_index *x, const char *bytes,
                   size_t len);
/* Put a symbol into the index. *twice: one with the same bytes is there already, and stays. */
enum bnt_status vocab_index_put(const struct vocab *v, struct vocab_index *x, uint32_t symbol,
                                bool *twice, struct bnt_err *err);
/* The symbol with these bytes, made when there is none. word.bytes must not lie in v. */
enum bnt_status vocab_intern(struct vocab *v, struct vocab_index *x, struct vocab_word word,
                             uint32_t *symbol, struct bnt_err *err);

#endif
