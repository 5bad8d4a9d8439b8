/* UTF-8 and character classes, as the pre-tokenizers see them.
 *
 * A text is scanned as an array of packed characters, four bytes each: the code point, the number
 * of bytes it takes in the text, and its class. Bytes that are no valid UTF-8 (also overlong forms,
 * surrogates and anything above U+10FFFF) become one character each, U+FFFD of length 1, so that
 * the lengths always add up to the text and no byte is lost. */
#ifndef BNT_UNICODE_H
#define BNT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t uni_char;

#define UNI_CP_MASK 0x1fffffu
#define UNI_LEN_SHIFT 21
/* Classes: at most one of L* N* P* M* S*, and white space as the Unicode property White_Space has
 * it. */
#define UNI_L (1u << 23)
#define UNI_N (1u << 24)
#define UNI_P (1u << 25)
#define UNI_M (1u << 26)
#define UNI_S (1u << 27)
#define UNI_WS (1u << 28)

static inline uint32_t uni_cp(uni_char c)
{
    return c & UNI_CP_MASK;
}

/* Bytes of this character in the text it was read from, 1..4. */
static inline uint32_t uni_len(uni_char c)
{
    return ((c >> UNI_LEN_SHIFT) & 3u) + 1;
}

static inline bool uni_is(uni_char c, uint32_t classes)
{
    return (c & classes) != 0;
}

/* Classes of a code point: the UNI_* bits. */
uint32_t uni_class(uint32_t cp);
/* The same for a code point of 128 or more. */
uint32_t uni_class_beyond(uint32_t cp);
/* Read text into out, which has room for n characters; returns how many there are. */
size_t uni_scan(const char *text, size_t n, uni_char *out);

/* The alphabet in which byte-level vocabularies are written: every byte has one printable
 * character. Returns the number of bytes written to out (which has room for n; they are never
 * more), or SIZE_MAX when some character of the text stands for no byte. */
size_t uni_bytes_from_alphabet(const char *text, size_t n, char *out);

#endif
