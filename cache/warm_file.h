/* The file of a warm blob: zstd in the seekable format, frames of 4 MiB. warm_file.c begins with
 * the layout. Everything here works on files alone and knows nothing of the store. */
#ifndef BNT_CACHE_WARM_FILE_H
#define BNT_CACHE_WARM_FILE_H

#include "base/digest.h"
#include "base/status.h"

/* What the file says of itself; only its shape is checked. */
struct warm_info {
    uint64_t raw_bytes, stored_bytes;
    size_t n_frames;
};
enum bnt_status warm_file_info(const char *path, struct warm_info *out, struct bnt_err *err);

/* Compress the file at `from` into fd, which messages call `what`. interrupted: NULL, or non-zero
 * stops. */
enum bnt_status warm_file_write(const char *from, int fd, const char *what,
                                const volatile sig_atomic_t *interrupted, struct bnt_err *err);
/* Expand into fd (-1: nowhere) and hash. Errors: FILE when a frame is damaged. */
enum bnt_status warm_file_read(const char *path, int fd, char hex[BNT_SHA256_HEX],
                               const volatile sig_atomic_t *interrupted, struct bnt_err *err);
/* Expand what can be expanded; holes where frames are damaged. */
enum bnt_status warm_file_salvage(const char *path, int fd, struct bnt_err *err);

#endif
