/* A bounded byte buffer.
 *
 * Invariants: len < cap or cap == 0; data is NULL only while cap == 0; data[len] == 0 whenever data
 * is not NULL; len never exceeds max. A failed call leaves the content as it was. Life:
 * bnt_buf_init (or = BNT_BUF(max)) -> append... -> bnt_buf_release, or bnt_buf_take to keep the
 * bytes. */
#ifndef BNT_BUF_H
#define BNT_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct bnt_buf {
    char *data;
    size_t len, cap; /* bytes; cap counts the terminator */
    size_t max;      /* ceiling on len, bytes */
};

#define BNT_BUF(max_bytes)                                                                         \
    {                                                                                              \
        NULL, 0, 0, (max_bytes)                                                                    \
    }

void bnt_buf_init(struct bnt_buf *b, size_t max_bytes);
void bnt_buf_release(struct bnt_buf *b);
/* Empty the buffer and keep its memory. */
void bnt_buf_reset(struct bnt_buf *b);
/* Room for `extra_bytes` more without another allocation. */
enum bnt_status bnt_buf_reserve(struct bnt_buf *b, size_t extra_bytes, struct bnt_err *err);
enum bnt_status bnt_buf_append(struct bnt_buf *b, const void *bytes, size_t n, struct bnt_err *err);
enum bnt_status bnt_buf_puts(struct bnt_buf *b, const char *text, struct bnt_err *err);
enum bnt_status bnt_buf_putc(struct bnt_buf *b, char c, struct bnt_err *err);
enum bnt_status bnt_buf_printf(struct bnt_buf *b, struct bnt_err *err, const char *fmt, ...)
    BNT_PRINTF(3, 4);
/* The content as a NUL-terminated string, "" while empty; valid until the next call. */
const char *bnt_buf_view(const struct bnt_buf *b);
/* The content as a heap string that the caller frees; the buffer is empty afterwards. NULL: out of
 * memory. */
char *bnt_buf_take(struct bnt_buf *b);

#endif
