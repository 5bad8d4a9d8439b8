/* One pass: hash, write, count, report. */
#include "fetch/sink.h"

#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "fetch/fetch_stop.h"

enum bnt_status sink_init(struct sink *s, struct bnt_cache_temp *temp,
                          const struct bnt_fetch_opts *opts, struct bnt_err *err)
{
    *s = (struct sink){.temp = temp, .opts = opts};
    return bnt_chunk_chain_new(&temp->tree, err);
}

/* INTERRUPTED or TIME when it has to end. */
static enum bnt_status stop_or_go(const struct sink *s, struct bnt_err *err)
{
    char doing[64];
    snprintf(doing, sizeof doing, "after %llu bytes", (unsigned long long)s->done);
    return fetch_stop(s->opts, doing, err);
}

bool sink_share(struct sink *s, int fd)
{
    s->shared = ioctl(s->temp->fd, FICLONE, fd) == 0;
    return s->shared;
}

enum bnt_status sink_write(struct sink *s, const void *bytes, size_t n, struct bnt_err *err)
{
    enum bnt_status st = stop_or_go(s, err);
    if (st == BNT_OK && !s->shared) {
        st = bnt_write_all(s->temp->fd, bytes, n, s->temp->path, err);
    }
    if (st == BNT_E_NO_SPACE) {
        bnt_err_hint(err, "free some space, or set BNT_CACHE_DIR to another disk");
    }
    if (st == BNT_OK) {
        st = bnt_chunk_tree_update(s->temp->tree, bytes, n, err);
    }
    if (st == BNT_OK) {
        s->done += n;
        if (s->opts->progress) {
            s->opts->progress(s->opts->ctx, s->done, s->total);
        }
    }
    return st;
}

enum bnt_status sink_digest(struct sink *s, char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    return bnt_chunk_chain_digest(s->temp->tree, hex, err);
}
