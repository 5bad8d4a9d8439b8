/* Where the bytes of a transfer go: written and hashed in one pass. */
#ifndef BNT_FETCH_SINK_H
#define BNT_FETCH_SINK_H

#include "cache/bnt_cache.h"
#include "fetch/bnt_fetch.h"

struct sink {
    struct bnt_cache_temp *temp; /* borrowed; it gets the chain of the bytes */
    uint64_t done, total;        /* bytes; total 0 while unknown */
    bool shared; /* the temporary file has the bytes already: they are hashed only */
    const struct bnt_fetch_opts *opts;
};

enum bnt_status sink_init(struct sink *s, struct bnt_cache_temp *temp,
                          const struct bnt_fetch_opts *opts, struct bnt_err *err);
/* Make the temporary file, still empty, one that shares the blocks of the whole file fd, where the
 * file system can; false: bytes are to be written. */
bool sink_share(struct sink *s, int fd);
enum bnt_status sink_write(struct sink *s, const void *bytes, size_t n, struct bnt_err *err);
/* After the last write. */
enum bnt_status sink_digest(struct sink *s, char hex[BNT_SHA256_HEX], struct bnt_err *err);

#endif
