/* Ranges of a file that came from somewhere, for the repair of a cached model: bnt_app's `source`.
 *
 * Places of this machine are read first. Then the others, all in one transfer, with its order of
 * health, attempts, pauses and circuits (fetch/transfer.c): a range is the one hole of a part that
 * is otherwise taken to be full. One connection fills it, so that no byte is asked for twice. When
 * what came is not right, each place is asked alone, since one of them has spoilt it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "fetch/commands.h"
#include "fetch/part.h"
#include "fetch/places.h"
#include "fetch/settle.h"
#include "fetch/transfer.h"

struct reader {
    struct bnt_source_want want;
    struct bnt_fetch_opts opts;
    struct places places; /* of this machine from 0 to n_local, then the others */
    size_t n_local;
    bool settled;       /* the places that are not of this machine were */
    struct part part;   /* of those; open when part.file.fd >= 0 */
    char data_name[64]; /* of the part, as it was opened */
};

static void close_reader(void *reader)
{
    struct reader *r = reader;
    if (r) {
        part_drop(&r->part);
        free(r);
    }
}

/* Bring places of this machine to the front. */
static void sort_places(struct reader *r)
{
    struct places *p = &r->places;
    r->n_local = 0;
    for (size_t i = 0; i < p->n; i++) {
        if (!source_is_remote(&p->at[i])) {
            struct source s = p->at[i];
            p->at[i] = p->at[r->n_local];
            p->at[r->n_local++] = s;
        }
    }
}

static enum bnt_status open_reader(const struct bnt_source_want *want, void **out,
                                   struct bnt_err *err)
{
    struct bnt_err why = {0};
    struct reader *r = calloc(1, sizeof *r);
    *out = r;
    if (!r) {
        return bnt_err_nomem(err, "source", sizeof *r);
    }
    r->want = *want;
    r->opts = (struct bnt_fetch_opts){.connections = 1, .interrupted = want->interrupted};
    r->part = (struct part){.file = {.fd = -1}, .state_fd = -1};
    for (size_t i = 0; i < want->n_places; i++) {
        places_add(&r->places, want->places[i], &why);
    }
    places_add_project(&r->places, want->digest);
    sort_places(r);
    if (r->places.n > 0) {
        return BNT_OK;
    }
    close_reader(r);
    *out = NULL;
    bnt_err_set(&why, BNT_E_UNSUPPORTED, "no place is known that has it");
    return bnt_err_copy(err, &why);
}

/* ---- files ---- */

static enum bnt_status read_file(const char *path, uint64_t offset, void *out, size_t n,
                                 struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return bnt_err_errno(err, "source %s", path);
    }
    for (size_t got = 0; st == BNT_OK && got < n;) {
        ssize_t part = pread(fd, (char *)out + got, n - got, (off_t)(offset + got));
        if (part < 0 && errno != EINTR) {
            st = bnt_err_errno(err, "source %s", path);
        } else if (part == 0) {
            st = bnt_err_set(err, BNT_E_DIGEST, "source %s is shorter than it was", path);
        }
        got += part > 0 ? (size_t)part : 0;
    }
    close(fd);
    return st;
}

/* ---- the network ---- */

/* What must be asked before the first transfer. A place that refuses is left out; when none is
 * left, the first refusal is the error. */
static enum bnt_status settle_all(struct reader *r, struct bnt_err *err)
{
    struct places *p = &r->places;
    struct bnt_err first = {0};
    size_t kept = r->n_local;
    for (size_t i = r->n_local; !r->settled && i < p->n; i++) {
        struct source_facts facts;
        char expected[BNT_SHA256_HEX];
        snprintf(expected, sizeof expected, "%s", r->want.digest);
        if (settle_source(&p->at[i], &r->opts, expected, &facts, &first) == BNT_OK) {
            p->at[kept++] = p->at[i];
        }
    }
    if (!r->settled) {
        p->n = kept;
        sort_places(r); /* the hub's own cache may have it */
        r->settled = true;
    }
    if (p->n == 0 && err && err->status == BNT_OK) {
        *err = first;
    }
    return p->n == 0 ? first.status : BNT_OK;
}

static enum bnt_status open_part(struct reader *r, struct bnt_err *err)
{
    char key[PART_KEY_MAX];
    if (r->part.file.fd >= 0) {
        return BNT_OK;
    }
    snprintf(key, sizeof key, "r%.31s", r->want.digest); /* no key of a whole file begins so */
    enum bnt_status st = part_open(r->want.cache_dir, key, false, &r->part, err);
    if (st == BNT_OK) {
        memcpy(r->data_name, r->part.record.data_name, sizeof r->data_name);
    }
    return st;
}

/* A server that answers no ranges has sent the whole: then all of it is in the part. */
static bool has_whole(const struct reader *r)
{
    return r->part.file.fd >= 0 && part_complete(&r->part) &&
           strcmp(r->data_name, r->part.record.data_name) != 0;
}

/* Bytes [offset, offset + n) from n_sources sources. */
static enum bnt_status transfer_range(struct reader *r, struct source *sources, size_t n_sources,
                                      struct part_hole range, struct bnt_err *err)
{
    struct transfer_result result;
    const struct transfer_spec spec = {.cache_dir = r->want.cache_dir,
                                       .sources = sources,
                                       .n_sources = n_sources,
                                       .digest = r->want.digest,
                                       .only_holes = true,
                                       .opts = &r->opts};
    struct part_record *record = &r->part.record;
    record->total = r->want.size;
    memset(record->holes, 0, sizeof record->holes);
    record->holes[0] = range;
    enum bnt_status st = part_save(&r->part, err);
    return st == BNT_OK ? transfer_run(&spec, &r->part, &result, err) : st;
}

static enum bnt_status read_remote(struct reader *r, struct source *sources, size_t n_sources,
                                   struct part_hole range, void *out, struct bnt_err *err)
{
    enum bnt_status st = open_part(r, err);
    if (st == BNT_OK && !has_whole(r)) {
        st = transfer_range(r, sources, n_sources, range, err);
    }
    return st == BNT_OK ? read_file(r->part.file.path, range.begin, out,
                                    (size_t)(range.end - range.begin), err)
                        : st;
}

/* ---- one range from wherever it is right ---- */

/* Judge what came from a place. `why` keeps the first thing that went wrong. */
static enum bnt_status judge(const struct reader *r, enum bnt_status st, uint64_t offset,
                             const void *bytes, size_t n, struct bnt_err *why)
{
    if (st == BNT_OK && !r->want.right(r->want.ctx, offset, bytes, n)) {
        st = bnt_err_set(why, BNT_E_DIGEST,
                         "the source has other bytes at %llu: it is not the same file any more",
                         (unsigned long long)offset);
    }
    return st;
}

static enum bnt_status read_from_places(struct reader *r, uint64_t offset, void *out, size_t n,
                                        struct bnt_err *why)
{
    const struct part_hole range = {offset, offset + n};
    enum bnt_status st = BNT_E_UNSUPPORTED;
    for (size_t i = 0; st != BNT_OK && i < r->n_local; i++) {
        st = read_file(r->places.at[i].path, offset, out, n, why);
        st = judge(r, st, offset, out, n, why);
    }
    if (st == BNT_OK || r->places.n == r->n_local) {
        return st;
    }
    struct source *remote = r->places.at + r->n_local;
    size_t n_remote = r->places.n - r->n_local;
    st = judge(r, read_remote(r, remote, n_remote, range, out, why), offset, out, n, why);
    for (size_t i = 0; st == BNT_E_DIGEST && n_remote > 1 && i < n_remote; i++) {
        st = judge(r, read_remote(r, &remote[i], 1, range, out, why), offset, out, n, why);
    }
    return st;
}

static enum bnt_status read_range(void *reader, uint64_t offset, void *out, size_t n,
                                  struct bnt_err *err)
{
    struct reader *r = reader;
    struct bnt_err why = {0};
    enum bnt_status st = settle_all(r, &why);
    st = st == BNT_OK ? read_from_places(r, offset, out, n, &why) : st;
    if (st != BNT_OK && err && err->status == BNT_OK) {
        *err = why;
    }
    return st;
}

const struct bnt_source fetch_source = {
    .open = open_reader, .read = read_range, .close = close_reader};
