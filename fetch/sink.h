/* Where the bytes of a transfer go: written and hashed in one pass. */
#ifndef BNT_FETCH_SINK_H
#define BNT_FETCH_SINK_H

#include "base/digest.h"
#include "fetch/bnt_fetch.h"

struct sink {
    int fd;           /* borrowed */
    const char *what; /* what errors call the target; borrowed */
    struct bnt_sha256 *hash;
    uint64_t done, total; /* bytes; total 0 while unknown */
    const struct bnt_fetch_opts *opts;
};

enum bnt_status sink_init(struct sink *s, int fd, const char *what,
                          const struct bnt_fetch_opts *opts, struct bnt_err *err);
enum bnt_status sink_write(struct sink *s, const void *bytes, size_t n, struct bnt_err *err);
/* INTERRUPTED or TIME when it has to end. */
enum bnt_status sink_poll(const struct sink *s, struct bnt_err *err);
enum bnt_status sink_digest(struct sink *s, char hex[BNT_SHA256_HEX], struct bnt_err *err);
void sink_release(struct sink *s);

#endif
