/* Reversible rearrangements that make a frame of weights smaller for a general compressor. They
 * need no knowledge of formats: the writer tries them and keeps what wins. frame_filter.c has the
 * layouts. */
#ifndef BNT_CACHE_FRAME_FILTER_H
#define BNT_CACHE_FRAME_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_filter {
    FRAME_PLAIN,   /* as it is */
    FRAME_PLANES2, /* 16-bit numbers: low bytes, then high bytes */
    FRAME_PLANES4, /* 32-bit numbers: four planes */
    FRAME_TRITS,   /* bytes of four 2-bit fields below 3: five trits to a byte */
    FRAME_FILTERS
};

/* Ceiling on the output of frame_filter_encode for n bytes. */
size_t frame_filter_bound(size_t n);
/* Returns the bytes written, or 0 when the filter does not suit these bytes. */
size_t frame_filter_encode(enum frame_filter f, const uint8_t *in, size_t n, uint8_t *out);
/* Undo it into exactly n bytes. Hostile input: false when in_bytes is not what n bytes can come
 * from. */
bool frame_filter_decode(enum frame_filter f, const uint8_t *in, size_t in_bytes, uint8_t *out,
                         size_t n);

#endif
