/* One allocation, handed out front to back, freed as a whole. A session takes all its memory from
 * one arena when it is made, so that nothing is allocated per token. Every piece starts on a
 * 64-byte boundary. */
#ifndef BNT_ARENA_H
#define BNT_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct bnt_arena {
    char *base;        /* page-aligned, zero-filled on first touch */
    size_t size, used; /* bytes */
};

/* Reserve `size` bytes (mmap: pages cost memory only when touched). */
enum bnt_status bnt_arena_init(struct bnt_arena *a, size_t size, struct bnt_err *err);
void bnt_arena_release(struct bnt_arena *a);
/* `n` bytes, zeroed, 64-byte aligned; NULL when the arena is full (a bug in the caller's size
 * computation). */
void *bnt_arena_alloc(struct bnt_arena *a, size_t n);
/* What an allocation of n bytes takes from the arena: n rounded up to 64. More than a size_t holds
 * is an arena that cannot be. */
uint64_t bnt_arena_cost(uint64_t n);

#endif
