/* Ranges of a source, for the repair of a cached model: bnt_app's `source`. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/app.h"
#include "fetch/commands.h"
#include "fetch/source.h"

struct reader {
    struct source source;
    int fd;
};

static void close_reader(void *reader)
{
    struct reader *r = reader;
    if (r) {
        if (r->fd >= 0) {
            close(r->fd);
        }
        free(r);
    }
}

static enum bnt_status open_reader(const char *text, void **out, struct bnt_err *err)
{
    struct reader *r = calloc(1, sizeof *r);
    *out = r;
    if (!r) {
        return bnt_err_nomem(err, "source", sizeof *r);
    }
    r->fd = -1;
    enum bnt_status st = source_parse(text, &r->source, err);
    if (st == BNT_OK && source_is_remote(&r->source)) {
        st =
            bnt_err_set(err, BNT_E_UNSUPPORTED, "ranges of %.300s cannot be read", r->source.shown);
    }
    if (st == BNT_OK) {
        r->fd = open(r->source.path, O_RDONLY | O_CLOEXEC);
        if (r->fd < 0) {
            st = bnt_err_errno(err, "source %s", r->source.path);
        }
    }
    if (st != BNT_OK) {
        close_reader(r);
        *out = NULL;
    }
    return st;
}

static enum bnt_status read_range(void *reader, uint64_t offset, void *out, size_t n,
                                  struct bnt_err *err)
{
    const struct reader *r = reader;
    for (size_t got = 0; got < n;) {
        ssize_t part = pread(r->fd, (char *)out + got, n - got, (off_t)(offset + got));
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part < 0) {
            return bnt_err_errno(err, "source %s", r->source.path);
        }
        if (part == 0) {
            return bnt_err_set(err, BNT_E_FILE, "source %s is shorter than it was", r->source.path);
        }
        got += (size_t)part;
    }
    return BNT_OK;
}

const struct bnt_source fetch_source = {
    .open = open_reader, .read = read_range, .close = close_reader};
