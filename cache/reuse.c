/* A file built from the chunks of others.
 *
 *   all local trees ─► one sorted list of leaves ─► each leaf of the wanted tree looked up
 *   ─► bytes read from the blob that has it, held against the leaf, put into the new file
 *
 * A tree may be older than its blob's damage, so no chunk is taken unseen; and it is still the
 * digest of the whole new file that decides, not here. Chunks begin at multiples of
 * BNT_CACHE_CHUNK_BYTES in both files: what was replaced in place is found, what moved by other
 * distances is not. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "cache/store.h"
#include "cache/tree.h"

/* Where a chunk can be had. */
struct known_leaf {
    uint8_t raw[BNT_SHA256_BYTES];
    char digest[BNT_SHA256_HEX]; /* of the blob */
    uint64_t offset;
};

struct reuse {
    struct bnt_cache *c;
    const struct bnt_chunk_tree *want;
    int to;
    struct bnt_cache_reuse *out;
    struct known_leaf *known; /* sorted by raw */
    size_t n_known, cap;
    int from; /* the blob that was read last; -1: none */
    char from_digest[BNT_SHA256_HEX];
    uint8_t *chunk;
};

/* ---- what is here ---- */

static enum bnt_status reserve(struct reuse *r, size_t more, struct bnt_err *err)
{
    if (r->n_known + more <= r->cap) {
        return BNT_OK;
    }
    size_t cap = (r->n_known + more) * 2;
    struct known_leaf *known = realloc(r->known, cap * sizeof *known);
    if (!known) {
        return bnt_err_nomem(err, "list of chunks", cap * sizeof *known);
    }
    r->known = known;
    r->cap = cap;
    return BNT_OK;
}

/* The leaves of a blob that has only a chain are made by reading it, which only pays where it may
 * well be an older version: when it has between half and twice the size. */
static enum bnt_status leaves_of(struct reuse *r, const char *digest, uint64_t blob_bytes,
                                 struct bnt_chunk_tree **t, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = tree_load(r->c->dir, digest, t, err);
    if (st != BNT_OK || !*t || !tree_is_chain(*t)) {
        return st;
    }
    bnt_chunk_tree_free(*t);
    *t = NULL;
    uint64_t want = bnt_chunk_tree_size(r->want);
    if (blob_bytes < want / 2 || blob_bytes / 2 > want) {
        return BNT_OK;
    }
    st = store_blob_path(r->c->dir, digest, path, err);
    return st == BNT_OK ? bnt_chunk_tree_of_file(path, r->c->interrupted, t, err) : st;
}

/* store_visit_fn: the leaves of one tree, when its blob is hot. */
static enum bnt_status note_tree(void *ctx, const char *digest, uint64_t size, struct bnt_err *err)
{
    struct reuse *r = ctx;
    struct bnt_chunk_tree *t = NULL;
    bool hot = false;
    uint64_t blob_bytes = 0;
    (void)size;
    enum bnt_status st = store_stat(r->c->dir, digest, &hot, &blob_bytes, err);
    if (st == BNT_OK && hot) {
        st = leaves_of(r, digest, blob_bytes, &t, err);
    }
    if (st == BNT_OK && t && bnt_chunk_tree_size(t) == blob_bytes) {
        st = reserve(r, tree_leaves(t), err);
        for (size_t i = 0; st == BNT_OK && i < tree_leaves(t); i++) {
            struct known_leaf *k = &r->known[r->n_known++];
            memcpy(k->raw, tree_leaf(t, i), sizeof k->raw);
            memcpy(k->digest, digest, sizeof k->digest);
            k->offset = (uint64_t)i * BNT_CACHE_CHUNK_BYTES;
        }
    }
    bnt_chunk_tree_free(t);
    return st;
}

/* By leaf, then by place, so that neighbours come from one blob. */
static int by_leaf(const void *a, const void *b)
{
    const struct known_leaf *x = a, *y = b;
    int order = memcmp(x->raw, y->raw, sizeof x->raw);
    return order ? order : strcmp(x->digest, y->digest);
}

static int raw_vs_known(const void *raw, const void *known)
{
    return memcmp(raw, ((const struct known_leaf *)known)->raw, BNT_SHA256_BYTES);
}

/* ---- one chunk ---- */

static bool open_blob(struct reuse *r, const char *digest)
{
    char path[BNT_PATH_MAX];
    if (r->from >= 0 && strcmp(r->from_digest, digest) == 0) {
        return true;
    }
    if (r->from >= 0) {
        close(r->from);
    }
    r->from = store_blob_path(r->c->dir, digest, path, NULL) == BNT_OK
                  ? open(path, O_RDONLY | O_CLOEXEC)
                  : -1;
    memcpy(r->from_digest, digest, sizeof r->from_digest);
    return r->from >= 0;
}

/* Read chunk i from where it is known to be; false when it is not there, or not any more. */
static bool read_chunk(struct reuse *r, size_t i, const struct known_leaf *k)
{
    size_t n = tree_leaf_bytes(r->want, i), got = 0;
    bool same = false;
    if (!open_blob(r, k->digest)) {
        return false;
    }
    while (got < n) {
        ssize_t part = pread(r->from, r->chunk + got, n - got, (off_t)(k->offset + got));
        if (part <= 0) {
            return false;
        }
        got += (size_t)part;
    }
    return tree_leaf_is(r->want, i, r->chunk, n, &same, NULL) == BNT_OK && same;
}

static void add_missing(struct bnt_cache_reuse *out, uint64_t begin, uint64_t end)
{
    if (out->n_missing > 0 && out->missing[out->n_missing - 1].end == begin) {
        out->missing[out->n_missing - 1].end = end;
    } else {
        out->missing[out->n_missing++] = (struct bnt_cache_range){begin, end};
    }
}

static enum bnt_status place_chunk(struct reuse *r, size_t i, struct bnt_err *err)
{
    uint64_t offset = (uint64_t)i * BNT_CACHE_CHUNK_BYTES;
    size_t n = tree_leaf_bytes(r->want, i);
    const struct known_leaf *k = r->n_known == 0 ? NULL
                                                 : bsearch(tree_leaf(r->want, i), r->known,
                                                           r->n_known, sizeof *k, raw_vs_known);
    if (!k || !read_chunk(r, i, k)) {
        add_missing(r->out, offset, offset + n);
        return BNT_OK;
    }
    r->out->reused_bytes += n;
    return bnt_file_copy_range(r->from, k->offset, r->to, offset, n)
               ? BNT_OK
               : bnt_pwrite_all(r->to, r->chunk, n, offset, "the new file", err);
}

/* ---- all of them ---- */

enum bnt_status bnt_cache_reuse_chunks(struct bnt_cache *c, const struct bnt_chunk_tree *want,
                                       int fd, struct bnt_cache_reuse *out, struct bnt_err *err)
{
    char trees[BNT_PATH_MAX];
    struct reuse r = {.c = c, .want = want, .to = fd, .out = out, .from = -1};
    *out = (struct bnt_cache_reuse){0};
    out->missing = calloc(tree_leaves(want) + 1, sizeof *out->missing);
    r.chunk = malloc(BNT_CACHE_CHUNK_BYTES);
    enum bnt_status st = out->missing && r.chunk
                             ? BNT_OK
                             : bnt_err_nomem(err, "a chunk", (size_t)BNT_CACHE_CHUNK_BYTES);
    if (st == BNT_OK) {
        st = tree_root_folder(c->dir, trees, err);
    }
    if (st == BNT_OK) {
        st = store_walk_below(trees, "", note_tree, &r, err);
    }
    if (st == BNT_OK && r.n_known > 0) {
        qsort(r.known, r.n_known, sizeof *r.known, by_leaf);
    }
    for (size_t i = 0; st == BNT_OK && i < tree_leaves(want); i++) {
        st = place_chunk(&r, i, err);
        st = st == BNT_OK ? bnt_err_interrupted(c->interrupted, err) : st;
    }
    if (r.from >= 0) {
        close(r.from);
    }
    free(r.known);
    free(r.chunk);
    return st;
}

void bnt_cache_reuse_release(struct bnt_cache_reuse *r)
{
    free(r->missing);
    *r = (struct bnt_cache_reuse){0};
}
