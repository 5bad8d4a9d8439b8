/* Archives: tar, tar.gz, tar.zst and zip, unpacked into a fresh folder. An archive is somebody
 * else's bytes: only regular files and folders below the new folder come out of it, and one entry
 * that wants anything else (a link, a device, a way up) refuses the whole. */
#ifndef BNT_FETCH_UNPACK_H
#define BNT_FETCH_UNPACK_H

#include <signal.h>
#include <stdint.h>

#include "base/status.h"

struct unpack_limits {
    uint64_t bytes;   /* of all files together */
    uint64_t entries; /* files and folders */
    uint64_t ratio;   /* bytes of files per byte of archive, beyond UNPACK_RATIO_FREE_BYTES */
};
#define UNPACK_LIMITS                                                                              \
    {                                                                                              \
        .bytes = 256ull << 30, .entries = 10000, .ratio = 50                                       \
    }
#define UNPACK_RATIO_FREE_BYTES (16ull << 20)
#define UNPACK_PATH_MAX 1024 /* of an entry, bytes */
#define UNPACK_DEPTH_MAX 16  /* folders */

struct unpack_count {
    uint64_t files, bytes;
};

/* Unpack the file `path` into `folder`, which must not exist; it appears when all is in it, or not
 * at all. Errors: USAGE the folder exists; FILE no archive, a damaged one, an entry that is
 * refused, a limit; NO_SPACE; INTERRUPTED; UNSUPPORTED no libarchive. */
enum bnt_status unpack(const char *path, const char *folder, const struct unpack_limits *limits,
                       const volatile sig_atomic_t *interrupted, struct unpack_count *count,
                       struct bnt_err *err);

#endif
