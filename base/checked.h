/* Arithmetic on numbers that come from a file or the network: true means that the result fits. */
#ifndef BNT_CHECKED_H
#define BNT_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool bnt_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool bnt_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* Round up to a multiple of `align`, which is not 0. */
static inline bool bnt_align_u64(uint64_t a, uint64_t align, uint64_t *out)
{
    uint64_t sum;
    if (!bnt_add_u64(a, align - 1, &sum)) {
        return false;
    }
    *out = sum - sum % align;
    return true;
}

#endif
