/* Damage by chunk, and its repair.
 *
 *   whole digest differs ─► leaves compared ─► bad chunks known
 *   ─► temporary: the good chunks of the blob, the bad ones from the source, each held against
 *      its leaf
 *   ─► whole digest of the temporary is the name ─► bnt_cache_add replaces the blob by rename
 *
 * Nobody's mapping changes, a death anywhere leaves the damaged blob and a temporary, and a source
 * that has other content by now is noticed at the first chunk. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/app.h"
#include "base/fault.h"
#include "cache/cache_impl.h"
#include "cache/store.h"
#include "cache/tier.h"
#include "cache/tree.h"

/* ---- finding ---- */

/* Up to n bytes at an offset; *got is less only at the end of the file. */
static enum bnt_status read_at(int fd, const char *path, uint64_t offset, uint8_t *out, size_t n,
                               size_t *got, struct bnt_err *err)
{
    *got = 0;
    while (*got < n) {
        ssize_t r = pread(fd, out + *got, n - *got, (off_t)(offset + *got));
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0 && errno == EIO) { /* a bad sector: the chunk is bad, and others may be good */
            return BNT_OK;
        }
        if (r < 0) {
            return bnt_err_errno(err, "cannot read %s", path);
        }
        if (r == 0) {
            break;
        }
        *got += (size_t)r;
    }
    return BNT_OK;
}

static enum bnt_status find_bad(const struct bnt_cache *c, int fd, const struct bnt_chunk_tree *t,
                                struct bnt_cache_damage *out, struct bnt_err *err)
{
    uint8_t *chunk = malloc(BNT_CACHE_CHUNK_BYTES);
    out->bad = calloc(tree_leaves(t) + 1, sizeof *out->bad);
    enum bnt_status st =
        chunk && out->bad ? BNT_OK : bnt_err_nomem(err, "a chunk", (size_t)BNT_CACHE_CHUNK_BYTES);
    for (size_t i = 0; st == BNT_OK && i < tree_leaves(t); i++) {
        uint64_t offset = (uint64_t)i * BNT_CACHE_CHUNK_BYTES;
        size_t n = tree_leaf_bytes(t, i), got = 0;
        bool same = false;
        if (fd >= 0) {
            st = read_at(fd, "the damaged model", offset, chunk, n, &got, err);
        }
        if (st == BNT_OK && got == n) {
            st = tree_leaf_is(t, i, chunk, n, &same, err);
        }
        if (st == BNT_OK && !same) {
            out->bad[out->n_bad++] = offset;
            out->bad_bytes += n;
        }
        st = st == BNT_OK ? bnt_err_interrupted(c->interrupted, err) : st;
    }
    free(chunk);
    return st;
}

/* The damaged bytes: the hot file, else what can be read of the warm copy; -1 when neither is
 * there.
 */
static enum bnt_status open_damaged(struct bnt_cache *c, const char *digest, int *fd,
                                    struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    *fd = -1;
    enum bnt_status st = store_blob_path(c->dir, digest, path, err);
    if (st == BNT_OK) {
        *fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    return st == BNT_OK && *fd < 0 ? tier_salvage(c, digest, fd, err) : st;
}

enum bnt_status bnt_cache_damage_find(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                                      struct bnt_cache_damage *out, struct bnt_err *err)
{
    struct bnt_chunk_tree *t = NULL;
    int fd = -1;
    *out = (struct bnt_cache_damage){0};
    enum bnt_status st = tree_load(c->dir, entry->digest, &t, err);
    if (st == BNT_OK && t && bnt_chunk_tree_size(t) == entry->size) {
        out->has_tree = true;
        out->n_chunks = tree_leaves(t);
        st = open_damaged(c, entry->digest, &fd, err);
        if (st == BNT_OK) {
            st = find_bad(c, fd, t, out, err);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    bnt_chunk_tree_free(t);
    return st;
}

void bnt_cache_damage_release(struct bnt_cache_damage *d)
{
    free(d->bad);
    *d = (struct bnt_cache_damage){0};
}

/* ---- healing ---- */

struct repair {
    struct bnt_cache *c;
    const struct bnt_chunk_tree *tree;
    const struct bnt_cache_damage *damage;
    const struct bnt_source *source;
    void *reader;
    int from; /* the damaged blob, or -1 */
    struct bnt_cache_temp *temp;
    uint8_t *chunk; /* BNT_CACHE_CHUNK_BYTES */
};

static enum bnt_status write_at(const struct repair *r, uint64_t offset, size_t n,
                                struct bnt_err *err)
{
    if (lseek(r->temp->fd, (off_t)offset, SEEK_SET) < 0) {
        return bnt_err_errno(err, "cache: cannot write %s", r->temp->path);
    }
    return bnt_write_all(r->temp->fd, r->chunk, n, r->temp->path, err);
}

/* One bad chunk from the source. */
static enum bnt_status fill_bad(const struct repair *r, size_t i, struct bnt_err *err)
{
    uint64_t offset = (uint64_t)i * BNT_CACHE_CHUNK_BYTES;
    size_t n = tree_leaf_bytes(r->tree, i);
    bool same = false;
    enum bnt_status st = r->source->read(r->reader, offset, r->chunk, n, err);
    if (st == BNT_OK) {
        st = tree_leaf_is(r->tree, i, r->chunk, n, &same, err);
    }
    if (st == BNT_OK && !same) {
        st = bnt_err_set(err, BNT_E_DIGEST,
                         "the source has other bytes at %llu: it is not the same file any more",
                         (unsigned long long)offset);
    }
    return st == BNT_OK ? write_at(r, offset, n, err) : st;
}

/* One good chunk from the damaged blob. */
static enum bnt_status copy_good(const struct repair *r, size_t i, struct bnt_err *err)
{
    uint64_t offset = (uint64_t)i * BNT_CACHE_CHUNK_BYTES;
    size_t n = tree_leaf_bytes(r->tree, i), got = 0;
    enum bnt_status st = read_at(r->from, "the damaged model", offset, r->chunk, n, &got, err);
    return st == BNT_OK ? write_at(r, offset, got, err) : st;
}

static enum bnt_status fill_temp(const struct repair *r, struct bnt_err *err)
{
    /* Where the file system shares blocks, the good chunks cost nothing. */
    bool shared = r->from >= 0 && ioctl(r->temp->fd, FICLONE, r->from) == 0;
    enum bnt_status st = BNT_OK;
    size_t b = 0;
    if (shared && ftruncate(r->temp->fd, (off_t)bnt_chunk_tree_size(r->tree)) != 0) {
        st = bnt_err_errno(err, "cache: cannot cut %s", r->temp->path);
    }
    for (size_t i = 0; st == BNT_OK && i < tree_leaves(r->tree); i++) {
        uint64_t offset = (uint64_t)i * BNT_CACHE_CHUNK_BYTES;
        if (b < r->damage->n_bad && r->damage->bad[b] == offset) {
            st = fill_bad(r, i, err);
            b++;
        } else if (!shared) {
            st = copy_good(r, i, err);
        }
    }
    return st;
}

/* The temporary holds what the name says; make it the blob. */
static enum bnt_status replace_blob(struct repair *r, const struct bnt_cache_entry *entry,
                                    struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX];
    struct bnt_cache_entry healed = {.name = ""}; /* no name: those that there are stay */
    enum bnt_status st = cache_digest_of_file(r->c, r->temp->path, hex, err);
    if (st == BNT_OK && strcmp(hex, entry->digest) != 0) {
        st = bnt_err_set(err, BNT_E_DIGEST, "the repaired file has sha256 %s", hex);
    }
    if (st == BNT_OK) {
        memcpy(healed.digest, entry->digest, sizeof healed.digest);
        r->temp->origin = BNT_CACHE_FROM_HAND;
        st = bnt_cache_add(r->c, r->temp, &healed, err);
    }
    return st;
}

/* struct bnt_source_want's right: a chunk is right when it is its leaf. */
static bool is_leaf(void *ctx, uint64_t offset, const void *bytes, size_t n)
{
    const struct bnt_chunk_tree *t = ctx;
    bool same = false;
    size_t i = (size_t)(offset / BNT_CACHE_CHUNK_BYTES);
    return offset % BNT_CACHE_CHUNK_BYTES == 0 && i < tree_leaves(t) &&
           ((tree_leaf_is(t, i, bytes, n, &same, NULL) == BNT_OK && same) ||
            BNT_FAULT(chunk_unchecked));
}

struct place_list {
    struct bnt_cache_list list; /* owns the texts */
    const char **at;
    size_t n;
};

/* The sources of all names of a blob. */
static enum bnt_status list_places(struct bnt_cache *c, const char *digest, struct place_list *out,
                                   struct bnt_err *err)
{
    enum bnt_status st = bnt_cache_list(c, &out->list, err);
    out->at = calloc(out->list.n + 1, sizeof *out->at);
    if (st == BNT_OK && !out->at) {
        st = bnt_err_nomem(err, "list of sources", (out->list.n + 1) * sizeof *out->at);
    }
    for (size_t i = 0; st == BNT_OK && i < out->list.n; i++) {
        const struct bnt_cache_entry *e = &out->list.at[i];
        if (strcmp(e->digest, digest) == 0 && e->source[0]) {
            out->at[out->n++] = e->source;
        }
    }
    return st;
}

static enum bnt_status run_repair(struct repair *r, const struct bnt_cache_entry *entry,
                                  const struct bnt_source_want *want, struct bnt_err *err)
{
    struct bnt_cache_temp temp = {.fd = -1};
    r->chunk = malloc(BNT_CACHE_CHUNK_BYTES);
    if (!r->chunk) {
        return bnt_err_nomem(err, "a chunk", (size_t)BNT_CACHE_CHUNK_BYTES);
    }
    enum bnt_status st = r->source->open(want, &r->reader, err);
    if (st == BNT_OK) {
        st = bnt_cache_temp_open(r->c, &temp, err);
    }
    r->temp = &temp;
    if (st == BNT_OK) {
        st = fill_temp(r, err);
    }
    if (st == BNT_OK) {
        st = replace_blob(r, entry, err);
    }
    bnt_cache_temp_release(&temp);
    r->source->close(r->reader);
    free(r->chunk);
    r->temp = NULL;
    r->chunk = NULL;
    return st;
}

/* The tree and what is left of the blob are at hand. */
static enum bnt_status repair_from_places(struct repair *r, const struct bnt_cache_entry *entry,
                                          struct bnt_err *err)
{
    struct place_list places = {.n = 0};
    enum bnt_status st = list_places(r->c, entry->digest, &places, err);
    if (st == BNT_OK) {
        const struct bnt_source_want want = {.digest = entry->digest,
                                             .size = entry->size,
                                             .places = places.at,
                                             .n_places = places.n,
                                             .cache_dir = r->c->dir,
                                             .right = is_leaf,
                                             .ctx = (void *)(uintptr_t)r->tree,
                                             .interrupted = r->c->interrupted};
        st = run_repair(r, entry, &want, err);
    }
    free(places.at);
    bnt_cache_list_release(&places.list);
    return st;
}

enum bnt_status bnt_cache_repair(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                                 const struct bnt_cache_damage *damage,
                                 const struct bnt_source *source, struct bnt_err *err)
{
    struct bnt_chunk_tree *t = NULL;
    int from = -1;
    enum bnt_status st = tree_load(c->dir, entry->digest, &t, err);
    if (st == BNT_OK && !t) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: there is no chunk tree of it",
                         cache_label(entry));
    }
    if (st == BNT_OK) {
        st = open_damaged(c, entry->digest, &from, err);
    }
    if (st == BNT_OK) {
        struct repair r = {.c = c, .tree = t, .damage = damage, .source = source, .from = from};
        st = repair_from_places(&r, entry, err);
    }
    if (from >= 0) {
        close(from);
    }
    bnt_chunk_tree_free(t);
    if (st != BNT_OK && st != BNT_E_INTERRUPTED) {
        bnt_err_context(err, "cache: %s cannot be repaired", cache_label(entry));
        bnt_err_hint(err, "run: bnt fetch --force %.200s",
                     entry->source[0] ? entry->source : "SOURCE");
    }
    return st;
}
