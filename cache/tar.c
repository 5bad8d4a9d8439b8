/* POSIX ustar headers. Numbers are octal text; a size of 8 GiB and more is the base-256 form that
 * GNU tar reads and writes: the top bit of the field, then the number, big-endian. */
#include "cache/tar.h"

#include <stdio.h>
#include <string.h>

enum {
    MODE = 100,
    UID = 108,
    GID = 116,
    SIZE = 124,
    SIZE_BYTES = 12,
    MTIME = 136,
    SUM = 148,
    SUM_BYTES = 8,
    TYPE = 156,
    MAGIC = 257,
    PREFIX = 345
};
#define OCTAL_MAX (((uint64_t)1 << 33) - 1)

/* Sum of the header with blanks in place of the sum. */
static unsigned header_sum(const uint8_t block[TAR_BLOCK])
{
    unsigned sum = 0;
    for (int i = 0; i < TAR_BLOCK; i++) {
        sum += i >= SUM && i < SUM + SUM_BYTES ? ' ' : block[i];
    }
    return sum;
}

enum bnt_status tar_header(const char *name, uint64_t size, uint8_t block[TAR_BLOCK],
                           struct bnt_err *err)
{
    char text[16];
    size_t n = strlen(name);
    if (n >= TAR_NAME_MAX) {
        return bnt_err_set(err, BNT_E_INTERNAL, "tar: the name %s is too long", name);
    }
    memset(block, 0, TAR_BLOCK);
    memcpy(block, name, n);
    memcpy(block + MODE, "0000444", 8);
    memcpy(block + UID, "0000000", 8);
    memcpy(block + GID, "0000000", 8);
    memcpy(block + MTIME, "00000000000", 12);
    if (size <= OCTAL_MAX) {
        snprintf(text, sizeof text, "%011llo", (unsigned long long)size);
        memcpy(block + SIZE, text, SIZE_BYTES);
    } else {
        block[SIZE] = 0x80;
        for (int i = 0; i < 8; i++) {
            block[SIZE + SIZE_BYTES - 1 - i] = (uint8_t)(size >> 8 * i);
        }
    }
    block[TYPE] = '0';
    memcpy(block + MAGIC, "ustar\00000", 8);
    snprintf(text, sizeof text, "%06o", header_sum(block));
    memcpy(block + SUM, text, 7);
    block[SUM + 7] = ' ';
    return BNT_OK;
}

/* An octal field; false for anything else. */
static bool parse_octal(const uint8_t *field, size_t n, uint64_t *out)
{
    size_t i = 0;
    *out = 0;
    while (i < n && field[i] == ' ') {
        i++;
    }
    size_t first = i;
    for (; i < n && field[i] >= '0' && field[i] <= '7'; i++) {
        *out = *out << 3 | (uint64_t)(field[i] - '0'); /* 12 digits are 36 bits */
    }
    return i > first && (i == n || field[i] == ' ' || field[i] == '\0');
}

static bool parse_size(const uint8_t *field, uint64_t *out)
{
    if (field[0] != 0x80) {
        return parse_octal(field, SIZE_BYTES, out);
    }
    *out = 0;
    for (int i = 1; i < SIZE_BYTES - 8; i++) {
        if (field[i] != 0) {
            return false;
        }
    }
    for (int i = SIZE_BYTES - 8; i < SIZE_BYTES; i++) {
        *out = *out << 8 | field[i];
    }
    return *out <= (uint64_t)1 << 62;
}

enum bnt_status tar_parse(const uint8_t block[TAR_BLOCK], struct tar_member *out,
                          struct bnt_err *err)
{
    static const uint8_t zeros[TAR_BLOCK];
    uint64_t sum = 0;
    *out = (struct tar_member){.end = memcmp(block, zeros, TAR_BLOCK) == 0};
    if (out->end) {
        return BNT_OK;
    }
    if (!parse_octal(block + SUM, SUM_BYTES, &sum) || sum != header_sum(block) ||
        !parse_size(block + SIZE, &out->size)) {
        return bnt_err_set(err, BNT_E_FILE, "not a tar archive, or a damaged one");
    }
    if (block[PREFIX] == '\0') { /* names of an export are short; others are skipped */
        size_t skip = block[0] == '.' && block[1] == '/' ? 2 : 0;
        memcpy(out->name, block + skip, TAR_NAME_MAX - 1 - skip);
    }
    switch (block[TYPE]) {
    case '0':
    case '\0':
        out->regular = true;
        return BNT_OK;
    case '5': /* folder */
    case 'x': /* extended headers of the next member and of all */
    case 'g':
        return BNT_OK;
    default:
        return bnt_err_set(err, BNT_E_FILE, "%s is a link or a device, which no export has",
                           out->name);
    }
}
