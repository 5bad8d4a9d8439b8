/* Which bytes are UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BNT_UTF8_H
#define BNT_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the valid sequence at s[0..n-1], 1..4; 0 when there is none. */
static inline unsigned bnt_utf8_len(const unsigned char *s, size_t n)
{
    if (n == 0) {
        return 0;
    }
    if (s[0] < 0x80) {
        return 1;
    }
    unsigned len = s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (len == 0 || n < len) {
        return 0;
    }
    for (unsigned i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    /* Overlong, surrogate, or above U+10FFFF: the second byte tells. */
    bool bad = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
               (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f);
    return bad ? 0 : len;
}

/* Bytes of valid UTF-8 at the front of text: len when all of it is. */
static inline size_t bnt_utf8_valid(const char *text, size_t len)
{
    size_t at = 0;
    for (unsigned n = 1; n > 0 && at < len; at += n) {
        n = bnt_utf8_len((const unsigned char *)text + at, len - at);
    }
    return at;
}

/* Bytes of text that stand in `most` bytes without half a character at their end. */
static inline size_t bnt_utf8_cut(const char *text, size_t len, size_t most)
{
    size_t n = len < most ? len : most;
    while (n > 0 && n < len && ((unsigned char)text[n] & 0xc0) == 0x80) {
        n--;
    }
    return n;
}

#endif
