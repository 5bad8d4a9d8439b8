/* Percent-encoding (RFC 3986, section 2). */
#include "fetch/url_text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'         ? c - '0'
           : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                        : -1;
}

bool url_decode(char *s)
{
    char *to = s;
    for (const char *from = s; *from; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int hi = hex_digit(from[1]);
        int lo = hi < 0 ? -1 : hex_digit(from[2]);
        if (lo < 0 || (hi == 0 && lo == 0)) {
            return false;
        }
        *to++ = (char)(hi * 16 + lo);
        from += 2;
    }
    *to = '\0';
    return true;
}

bool url_append(char *out, size_t size, size_t n, const char *text, const char *keep)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = c < 0x80 && (isalnum(c) || strchr("-._~", c) || strchr(keep, c));
        if (n + 4 > size) {
            return false;
        }
        n += (size_t)snprintf(out + n, size - n, plain ? "%c" : "%%%02X", c);
    }
    return true;
}
