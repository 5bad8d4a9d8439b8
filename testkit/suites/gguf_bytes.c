#include "testkit/suites/gguf_bytes.h"

#include <stdlib.h>
#include <string.h>

#include "testkit/suite.h"

enum { MAX_BYTES = 64 << 20 };

void gb_init(struct gguf_bytes *g, bool big)
{
    bnt_buf_init(&g->buf, MAX_BYTES);
    g->big = big;
}

void gb_release(struct gguf_bytes *g)
{
    bnt_buf_release(&g->buf);
}

uint8_t *gb_exact_copy(const struct bnt_buf *buf)
{
    uint8_t *copy = malloc(buf->len ? buf->len : 1);
    assert_non_null(copy);
    if (buf->len) {
        memcpy(copy, buf->data, buf->len);
    }
    return copy;
}

void gb_raw(struct gguf_bytes *g, const void *bytes, size_t n)
{
    assert_int_equal(bnt_buf_append(&g->buf, bytes, n, NULL), BNT_OK);
}

static void put_number(struct gguf_bytes *g, uint64_t v, unsigned width)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < width; i++) {
        unsigned shift = 8 * (g->big ? width - 1 - i : i);
        bytes[i] = (uint8_t)(v >> shift);
    }
    gb_raw(g, bytes, width);
}

void gb_u8(struct gguf_bytes *g, uint8_t v)
{
    put_number(g, v, 1);
}

void gb_u16(struct gguf_bytes *g, uint16_t v)
{
    put_number(g, v, 2);
}

void gb_u32(struct gguf_bytes *g, uint32_t v)
{
    put_number(g, v, 4);
}

void gb_u64(struct gguf_bytes *g, uint64_t v)
{
    put_number(g, v, 8);
}

void gb_f32(struct gguf_bytes *g, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    gb_u32(g, bits);
}

void gb_f64(struct gguf_bytes *g, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    gb_u64(g, bits);
}

void gb_str(struct gguf_bytes *g, const char *text)
{
    gb_u64(g, strlen(text));
    gb_raw(g, text, strlen(text));
}

void gb_zeros(struct gguf_bytes *g, uint64_t n)
{
    static const uint8_t zeros[4096];
    while (n > 0) {
        size_t part = n < sizeof zeros ? (size_t)n : sizeof zeros;
        gb_raw(g, zeros, part);
        n -= part;
    }
}

void gb_pad(struct gguf_bytes *g, uint64_t align)
{
    gb_zeros(g, (align - g->buf.len % align) % align);
}

void gb_head(struct gguf_bytes *g, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    gb_raw(g, "GGUF", 4);
    gb_u32(g, version);
    gb_u64(g, n_tensors);
    gb_u64(g, n_kv);
}

void gb_key(struct gguf_bytes *g, const char *key, uint32_t value_type)
{
    gb_str(g, key);
    gb_u32(g, value_type);
}

void gb_key_u32(struct gguf_bytes *g, const char *key, uint32_t v)
{
    gb_key(g, key, 4);
    gb_u32(g, v);
}

void gb_key_str(struct gguf_bytes *g, const char *key, const char *text)
{
    gb_key(g, key, 8);
    gb_str(g, text);
}

void gb_key_array(struct gguf_bytes *g, const char *key, uint32_t elem_type, uint64_t n)
{
    gb_key(g, key, 9);
    gb_u32(g, elem_type);
    gb_u64(g, n);
}

void gb_tensor(struct gguf_bytes *g, const char *name, uint64_t cols, uint64_t rows, uint32_t type,
               uint64_t offset)
{
    gb_str(g, name);
    gb_u32(g, 2);
    gb_u64(g, cols);
    gb_u64(g, rows);
    gb_u32(g, type);
    gb_u64(g, offset);
}
