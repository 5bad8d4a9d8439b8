#include "mock/draw.h"

static uint64_t next(struct draw *d)
{
    d->state += 0x9e3779b97f4a7c15u;
    uint64_t z = d->state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

struct draw draw_stream(uint64_t seed, const char *name, size_t len)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a of the name */
    for (size_t i = 0; i < len; i++) {
        h = (h ^ (unsigned char)name[i]) * 0x100000001b3u;
    }
    struct draw d = {h};
    d.state = next(&d) ^ seed;
    return d;
}

uint64_t draw_below(struct draw *d, uint64_t n)
{
    return (uint64_t)((unsigned __int128)next(d) * n >> 64);
}

void draw_bytes(struct draw *d, uint8_t *out, size_t n)
{
    uint64_t word = 0;
    for (size_t i = 0; i < n; i++) {
        word = i % 8 == 0 ? next(d) : word >> 8;
        out[i] = (uint8_t)word;
    }
}

/* A word, seen as a fraction of 2^64, has its next digit of base 3 above the point after a product
 * with 3: 32 of them before too few bits are left. */
void draw_trits(struct draw *d, int8_t *out, uint64_t n)
{
    uint64_t fraction = 0;
    for (uint64_t i = 0; i < n; i++) {
        fraction = i % 32 == 0 ? next(d) : fraction;
        unsigned __int128 product = (unsigned __int128)fraction * 3;
        out[i] = (int8_t)((int)(product >> 64) - 1);
        fraction = (uint64_t)product;
    }
}
