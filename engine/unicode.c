/* UTF-8, and the classes of ASCII, which never leaves the small table here. Those of all other
 * characters: unicode_class.c. */
#include "engine/unicode.h"

#include "base/utf8.h"

static const uint32_t ascii_class[128] = {
    ['\t' ... '\r'] = UNI_WS,
    [' '] = UNI_WS,
    ['0' ... '9'] = UNI_N,
    ['A' ... 'Z'] = UNI_L,
    ['a' ... 'z'] = UNI_L,
    ['!' ... '#'] = UNI_P,
    ['$'] = UNI_S,
    ['%' ... '*'] = UNI_P,
    ['+'] = UNI_S,
    [',' ... '/'] = UNI_P,
    [':' ... ';'] = UNI_P,
    ['<' ... '>'] = UNI_S,
    ['?' ... '@'] = UNI_P,
    ['[' ... ']'] = UNI_P,
    ['^'] = UNI_S,
    ['_'] = UNI_P,
    ['`'] = UNI_S,
    ['{'] = UNI_P,
    ['|'] = UNI_S,
    ['}'] = UNI_P,
    ['~'] = UNI_S,
};

/* The byte whose printable character is cp, or -1: bytes that are printable in Latin-1 stand for
 * themselves, the others follow from U+0100 on in the order of their values. */
static int byte_from_alphabet(uint32_t cp)
{
    if ((cp >= 0x21 && cp <= 0x7e) || (cp >= 0xa1 && cp <= 0xac) || (cp >= 0xae && cp <= 0xff)) {
        return (int)cp;
    }
    if (cp >= 0x100 && cp <= 0x120) {
        return (int)(cp - 0x100);
    }
    if (cp >= 0x121 && cp <= 0x142) {
        return (int)(cp - 0x121 + 0x7f);
    }
    return cp == 0x143 ? 0xad : -1;
}

static uint32_t decode(const unsigned char *s, unsigned len)
{
    switch (len) {
    case 2:
        return (s[0] & 0x1fu) << 6 | (s[1] & 0x3fu);
    case 3:
        return (s[0] & 0x0fu) << 12 | (s[1] & 0x3fu) << 6 | (s[2] & 0x3fu);
    case 4:
        return (s[0] & 0x07u) << 18 | (s[1] & 0x3fu) << 12 | (s[2] & 0x3fu) << 6 | (s[3] & 0x3fu);
    default:
        return s[0];
    }
}

uint32_t uni_class(uint32_t cp)
{
    return cp < 128 ? ascii_class[cp] : uni_class_beyond(cp);
}

size_t uni_scan(const char *text, size_t n, uni_char *out)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n_chars = 0;
    for (size_t i = 0; i < n;) {
        if (s[i] < 0x80) {
            out[n_chars++] = s[i] | ascii_class[s[i]];
            i++;
            continue;
        }
        unsigned len = bnt_utf8_len(s + i, n - i);
        if (len == 0) {
            out[n_chars++] = 0xfffdu | UNI_S;
            i++;
            continue;
        }
        uint32_t cp = decode(s + i, len);
        out[n_chars++] = cp | (len - 1) << UNI_LEN_SHIFT | uni_class(cp);
        i += len;
    }
    return n_chars;
}

size_t uni_bytes_from_alphabet(const char *text, size_t n, char *out)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t n_bytes = 0;
    for (size_t i = 0; i < n;) {
        unsigned len = bnt_utf8_len(s + i, n - i);
        int byte = len == 0 || len > 2 ? -1 : byte_from_alphabet(decode(s + i, len));
        if (byte < 0) {
            return SIZE_MAX;
        }
        out[n_bytes++] = (char)byte;
        i += len;
    }
    return n_bytes;
}
