/* Numbers that a seed determines on every machine: integers only, from splitmix64 (Steele, Lea,
 * Flood 2014). A stream is named, so that what one part of a file draws does not depend on another.
 */
#ifndef BNT_MOCK_DRAW_H
#define BNT_MOCK_DRAW_H

#include <stddef.h>
#include <stdint.h>

struct draw {
    uint64_t state;
};

/* The stream of a seed and a name of `len` bytes. */
struct draw draw_stream(uint64_t seed, const char *name, size_t len);
/* Below n, n > 0; the bias of 2^-64 n is of no concern here. */
uint64_t draw_below(struct draw *d, uint64_t n);
void draw_bytes(struct draw *d, uint8_t *out, size_t n);
/* n values of -1, 0 and 1. */
void draw_trits(struct draw *d, int8_t *out, uint64_t n);

#endif
