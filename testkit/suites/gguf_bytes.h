/* GGUF files byte by byte, sound or broken as a test wants them. Nothing is checked and nothing is
 * added that was not asked for; running out of memory fails the test. */
#ifndef SUITES_GGUF_BYTES_H
#define SUITES_GGUF_BYTES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct gguf_bytes {
    struct bnt_buf buf;
    bool big; /* byte order of all numbers from now on */
};

void gb_init(struct gguf_bytes *g, bool big);
void gb_release(struct gguf_bytes *g);
/* The content in memory of just its size, so that a sanitizer sees a read past its end; free(3) it.
 */
uint8_t *gb_exact_copy(const struct bnt_buf *buf);

void gb_raw(struct gguf_bytes *g, const void *bytes, size_t n);
void gb_u8(struct gguf_bytes *g, uint8_t v);
void gb_u16(struct gguf_bytes *g, uint16_t v);
void gb_u32(struct gguf_bytes *g, uint32_t v);
void gb_u64(struct gguf_bytes *g, uint64_t v);
void gb_f32(struct gguf_bytes *g, float v);
void gb_f64(struct gguf_bytes *g, double v);
void gb_str(struct gguf_bytes *g, const char *text); /* length and bytes */
void gb_zeros(struct gguf_bytes *g, uint64_t n);
void gb_pad(struct gguf_bytes *g, uint64_t align); /* zeros up to a multiple of align */

/* Magic, version, counts. */
void gb_head(struct gguf_bytes *g, uint32_t version, uint64_t n_tensors, uint64_t n_kv);
/* Key and value type; the value follows. */
void gb_key(struct gguf_bytes *g, const char *key, uint32_t value_type);
void gb_key_u32(struct gguf_bytes *g, const char *key, uint32_t v);
void gb_key_str(struct gguf_bytes *g, const char *key, const char *text);
/* Key of an array of n elements, which follow. */
void gb_key_array(struct gguf_bytes *g, const char *key, uint32_t elem_type, uint64_t n);
/* Info of a tensor of two dimensions. */
void gb_tensor(struct gguf_bytes *g, const char *name, uint64_t cols, uint64_t rows, uint32_t type,
               uint64_t offset);

#endif
