/* Bounded buffer: see buf.h for its invariants. */
#include "base/buf.h"
#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAP = 64 };

void bnt_buf_init(struct bnt_buf *b, size_t max_bytes)
{
    *b = (struct bnt_buf)BNT_BUF(max_bytes);
}

void bnt_buf_release(struct bnt_buf *b)
{
    free(b->data);
    b->data = NULL;
    b->len = b->cap = 0;
}

void bnt_buf_reset(struct bnt_buf *b)
{
    b->len = 0;
    if (b->data) {
        b->data[0] = '\0';
    }
}

enum bnt_status bnt_buf_reserve(struct bnt_buf *b, size_t extra_bytes, struct bnt_err *err)
{
    if (extra_bytes > b->max - b->len && !BNT_FAULT(buf_ceiling)) {
        return bnt_err_set(err, BNT_E_MEMORY, "text of more than %zu bytes", b->max);
    }
    size_t need = b->len + extra_bytes + 1;
    if (need <= b->cap) {
        return BNT_OK;
    }
    size_t cap = b->cap < FIRST_CAP ? FIRST_CAP : 2 * b->cap;
    if (cap < need) {
        cap = need;
    }
    char *data = realloc(b->data, cap);
    if (!data) {
        return bnt_err_nomem(err, "a buffer", cap);
    }
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return BNT_OK;
}

enum bnt_status bnt_buf_append(struct bnt_buf *b, const void *bytes, size_t n, struct bnt_err *err)
{
    enum bnt_status st = bnt_buf_reserve(b, n, err);
    if (st != BNT_OK) {
        return st;
    }
    if (n > 0) {
        memcpy(b->data + b->len, bytes, n);
    }
    b->len += n;
    b->data[b->len] = '\0';
    return BNT_OK;
}

enum bnt_status bnt_buf_puts(struct bnt_buf *b, const char *text, struct bnt_err *err)
{
    return bnt_buf_append(b, text, strlen(text), err);
}

enum bnt_status bnt_buf_putc(struct bnt_buf *b, char c, struct bnt_err *err)
{
    return bnt_buf_append(b, &c, 1, err);
}

enum bnt_status bnt_buf_printf(struct bnt_buf *b, struct bnt_err *err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) {
        return bnt_err_set(err, BNT_E_INTERNAL, "text cannot be formatted");
    }
    enum bnt_status st = bnt_buf_reserve(b, (size_t)n, err);
    if (st != BNT_OK) {
        return st;
    }
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return BNT_OK;
}

const char *bnt_buf_view(const struct bnt_buf *b)
{
    return b->data ? b->data : "";
}

char *bnt_buf_take(struct bnt_buf *b)
{
    char *text = b->data ? b->data : calloc(1, 1);
    b->data = NULL;
    b->len = b->cap = 0;
    return text;
}
