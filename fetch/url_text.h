/* What a URL may hold, and how the rest is written in it. */
#ifndef BNT_FETCH_URL_TEXT_H
#define BNT_FETCH_URL_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Undo %XX in place. False for a broken escape or a %00. */
bool url_decode(char *s);

/* Append `text` to out, of which `n` of `size` bytes are used: letters, digits, -._~ and the bytes
 * of `keep` as they are, all else as %XX. False when it does not fit. */
bool url_append(char *out, size_t size, size_t n, const char *text, const char *keep);

#endif
