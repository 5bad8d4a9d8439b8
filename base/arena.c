/* Arena over one anonymous mapping; pages that nobody touches cost address space only. */
#include "base/arena.h"

#include <sys/mman.h>

enum { ALIGN = 64 };

uint64_t bnt_arena_cost(uint64_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

enum bnt_status bnt_arena_init(struct bnt_arena *a, size_t size, struct bnt_err *err)
{
    *a = (struct bnt_arena){0};
    if (size == 0) {
        size = ALIGN;
    }
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return bnt_err_nomem(err, "a session's arena", size);
    }
    a->base = base;
    a->size = size;
    return BNT_OK;
}

void bnt_arena_release(struct bnt_arena *a)
{
    if (a->base) {
        munmap(a->base, a->size);
    }
    *a = (struct bnt_arena){0};
}

void *bnt_arena_alloc(struct bnt_arena *a, size_t n)
{
    uint64_t cost = bnt_arena_cost(n);
    if (cost < n || cost > a->size - a->used) {
        return NULL;
    }
    void *p = a->base + a->used;
    a->used += (size_t)cost;
    return p;
}
