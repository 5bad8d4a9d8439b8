/* The tar archives of an export: regular files with short names, written the same for the same
 * content. The reader takes what other tars make of such files. Plain calls rather than a library,
 * since every command would load it. */
#ifndef BNT_CACHE_TAR_H
#define BNT_CACHE_TAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { TAR_BLOCK = 512, TAR_NAME_MAX = 101 /* with the terminator */ };

/* Write the header of a regular file; its bytes and tar_pad_bytes(size) zero bytes follow. */
enum bnt_status tar_header(const char *name, uint64_t size, uint8_t block[TAR_BLOCK],
                           struct bnt_err *err);
static inline uint64_t tar_pad_bytes(uint64_t size)
{
    return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

struct tar_member {
    char name[TAR_NAME_MAX]; /* without "./" in front */
    uint64_t size;
    bool regular; /* false: a folder or extended header, to be skipped with its bytes */
    bool end;     /* a block of zeros */
};
/* Hostile input. Errors: FILE when it is no header, or one of a link or device: those have no place
 * in an export. */
enum bnt_status tar_parse(const uint8_t block[TAR_BLOCK], struct tar_member *out,
                          struct bnt_err *err);

#endif
