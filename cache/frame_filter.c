/* Layouts, for a frame of n bytes:
 *
 *   planes of width w   byte 0 of every number, byte 1 of every number...; then the n % w bytes
 *                       that are left
 *   trits               u32 number of exceptions; per exception u32 position, then per exception
 *                       its byte; then 4 bytes for every 5 of the frame, padded with zero bytes to
 *                       a multiple of 5. Little-endian
 *
 * An exception is a byte that has a 2-bit field of 3: the scales and the padding between tensors of
 * ternary weights. It is packed as 0. Five bytes are 20 trits, and each byte of the packed four
 * holds five of them as a number below 243. */
#include "cache/frame_filter.h"

#include <pthread.h>
#include <string.h>

#include "base/fault.h"

enum {
    TRIT_GROUP = 5,           /* bytes of the frame... */
    TRIT_PACKED = 4,          /* ...that become so many */
    TRIT_EXCEPTION_PART = 64, /* at most n / this are worth the packing */
    TRIT_EXCEPTION_BYTES = 5
};

static pthread_once_t tables_once = PTHREAD_ONCE_INIT;
static uint8_t pack5[1024];   /* five 2-bit fields -> number below 243 */
static uint16_t unpack5[256]; /* and back; 0 for what no five trits give */
static bool is_trits[256];    /* all four 2-bit fields are below 3 */

static void make_tables(void)
{
    for (unsigned fields = 0; fields < 1024; fields++) {
        unsigned number = 0;
        bool ok = true;
        for (int i = 4; i >= 0; i--) {
            unsigned trit = fields >> 2 * i & 3;
            ok = ok && trit < 3;
            number = number * 3 + trit;
        }
        if (ok) {
            pack5[fields] = (uint8_t)number;
            unpack5[number] = (uint16_t)fields;
        }
    }
    for (unsigned b = 0; b < 256; b++) {
        is_trits[b] = (b & b >> 1 & 0x55) == 0;
    }
}

static void put_u32(uint8_t *to, uint32_t v)
{
    memcpy(to, (uint8_t[]){(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)},
           4);
}

static uint32_t get_u32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

size_t frame_filter_bound(size_t n)
{
    return n + n / TRIT_EXCEPTION_PART * TRIT_EXCEPTION_BYTES + 64;
}

/* ---- planes ---- */

static size_t planes_encode(const uint8_t *in, size_t n, size_t width, uint8_t *out)
{
    size_t count = n / width;
    for (size_t plane = 0; plane < width; plane++) {
        for (size_t i = 0; i < count; i++) {
            out[plane * count + i] = in[i * width + (plane ^ BNT_FAULT(warm_planes))];
        }
    }
    memcpy(out + count * width, in + count * width, n - count * width);
    return n;
}

static void planes2_decode(const uint8_t *in, uint8_t *out, size_t n)
{
    const uint8_t *low = in, *high = in + n / 2;
    for (size_t i = 0; i < n / 2; i++) {
        out[2 * i] = low[i];
        out[2 * i + 1] = high[i];
    }
    memcpy(out + n / 2 * 2, in + n / 2 * 2, n % 2);
}

static void planes4_decode(const uint8_t *in, uint8_t *out, size_t n)
{
    size_t count = n / 4;
    for (size_t i = 0; i < count; i++) {
        out[4 * i] = in[i];
        out[4 * i + 1] = in[count + i];
        out[4 * i + 2] = in[2 * count + i];
        out[4 * i + 3] = in[3 * count + i];
    }
    memcpy(out + count * 4, in + count * 4, n % 4);
}

/* ---- trits ---- */

static size_t trits_encode(const uint8_t *in, size_t n, uint8_t *out)
{
    size_t exceptions = 0;
    for (size_t i = 0; i < n; i++) {
        exceptions += !is_trits[in[i]];
    }
    if (exceptions > n / TRIT_EXCEPTION_PART) {
        return 0;
    }
    uint8_t *position = out + 4, *value = position + 4 * exceptions, *packed = value + exceptions;
    put_u32(out, (uint32_t)exceptions);
    for (size_t i = 0; i < n; i += TRIT_GROUP) {
        uint64_t fields = 0;
        for (size_t k = 0; k < TRIT_GROUP && i + k < n; k++) {
            uint8_t b = in[i + k];
            if (is_trits[b]) {
                fields |= (uint64_t)b << 8 * k;
            } else {
                put_u32(position, (uint32_t)(i + k));
                position += 4;
                *value++ = b;
            }
        }
        for (int k = 0; k < TRIT_PACKED; k++) {
            *packed++ = pack5[fields >> 10 * k & 1023];
        }
    }
    return (size_t)(packed - out);
}

static uint64_t unpack_group(const uint8_t *packed)
{
    return unpack5[packed[0]] | (uint64_t)unpack5[packed[1]] << 10 |
           (uint64_t)unpack5[packed[2]] << 20 | (uint64_t)unpack5[packed[3]] << 30;
}

static void store_group(uint8_t *out, uint64_t fields, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        out[k] = (uint8_t)(fields >> 8 * k);
    }
}

static bool trits_decode(const uint8_t *in, size_t in_bytes, uint8_t *out, size_t n)
{
    size_t groups = (n + TRIT_GROUP - 1) / TRIT_GROUP;
    if (in_bytes < 4) {
        return false;
    }
    size_t exceptions = get_u32(in);
    if (exceptions > n ||
        in_bytes != 4 + exceptions * TRIT_EXCEPTION_BYTES + groups * TRIT_PACKED) {
        return false;
    }
    const uint8_t *position = in + 4, *value = position + 4 * exceptions;
    const uint8_t *packed = value + exceptions;
    for (size_t g = 0; g < groups; g++) {
        size_t at = g * TRIT_GROUP;
        store_group(out + at, unpack_group(packed + g * TRIT_PACKED),
                    n - at < TRIT_GROUP ? n - at : TRIT_GROUP);
    }
    for (size_t e = 0; e < exceptions; e++) {
        size_t at = get_u32(position + 4 * e);
        if (at >= n) {
            return false;
        }
        out[at] = value[e];
    }
    return true;
}

/* ---- all of them ---- */

size_t frame_filter_encode(enum frame_filter f, const uint8_t *in, size_t n, uint8_t *out)
{
    pthread_once(&tables_once, make_tables);
    switch (f) {
    case FRAME_PLANES2:
        return planes_encode(in, n, 2, out);
    case FRAME_PLANES4:
        return planes_encode(in, n, 4, out);
    case FRAME_TRITS:
        return trits_encode(in, n, out);
    default:
        memcpy(out, in, n);
        return n;
    }
}

bool frame_filter_decode(enum frame_filter f, const uint8_t *in, size_t in_bytes, uint8_t *out,
                         size_t n)
{
    pthread_once(&tables_once, make_tables);
    if (f == FRAME_TRITS) {
        return trits_decode(in, in_bytes, out, n);
    }
    if (in_bytes != n) {
        return false;
    }
    switch (f) {
    case FRAME_PLANES2:
        planes2_decode(in, out, n);
        return true;
    case FRAME_PLANES4:
        planes4_decode(in, out, n);
        return true;
    case FRAME_PLAIN:
        memcpy(out, in, n);
        return true;
    default:
        return false;
    }
}
