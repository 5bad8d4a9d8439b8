/* One pass: hash, write, count, report. */
#include "fetch/sink.h"

#include <stdio.h>

#include "fetch/fetch_stop.h"

enum bnt_status sink_init(struct sink *s, int fd, const char *what,
                          const struct bnt_fetch_opts *opts, struct bnt_err *err)
{
    *s = (struct sink){.fd = fd, .what = what, .opts = opts};
    return bnt_sha256_new(&s->hash, err);
}

enum bnt_status sink_poll(const struct sink *s, struct bnt_err *err)
{
    char doing[64];
    snprintf(doing, sizeof doing, "after %llu bytes", (unsigned long long)s->done);
    return fetch_stop(s->opts, doing, err);
}

enum bnt_status sink_write(struct sink *s, const void *bytes, size_t n, struct bnt_err *err)
{
    enum bnt_status st = sink_poll(s, err);
    if (st == BNT_OK) {
        st = bnt_write_all(s->fd, bytes, n, s->what, err);
    }
    if (st == BNT_E_NO_SPACE) {
        bnt_err_hint(err, "free some space, or set BNT_CACHE_DIR to another disk");
    }
    if (st == BNT_OK) {
        st = bnt_sha256_update(s->hash, bytes, n, err);
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
    return bnt_sha256_hex(s->hash, hex, err);
}

void sink_release(struct sink *s)
{
    bnt_sha256_free(s->hash);
    s->hash = NULL;
}
