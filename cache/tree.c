/* Chunk trees and chains: <dir>/trees/sha256/<aa>/<hex>, named as the blob is.
 *
 *   offset  bytes   what (numbers are little-endian)
 *   0       8       "bnttree1", or "bntchain"
 *   8       8       size of the blob
 *   16      32      root = SHA-256 of that word, the size and all leaves, as they lie here
 *   48      32 * n  of a tree: SHA-256 of each 4 MiB of the blob; the last may be shorter.
 *                   Of a chain: the chaining value (FIPS 180-4) of the blob's own SHA-256 after
 *                   each 4 MiB; the last is the digest.
 *
 * A chain costs nothing beside the digest of the whole, and tells damage by chunk as a tree does:
 * chunk i is right when it leads from value i - 1 to value i. A tree costs a second hash, but its
 * leaves say what a chunk is wherever it lies, which updates by chunk and lock files need.
 *
 * Invariants:
 *   1. A tree is only kept for content that was hashed to its name as a whole at that time.
 *   2. A tree that is not whole (its root or length differs) counts as none: it is derived, and the
 *      next verification of a sound blob makes it again. So it is not synced, and a torn one does
 *      no harm.
 *   3. A tree never decides that content is right: after a repair the whole digest does. */
#include "cache/tree.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "cache/store.h"

#define MAGIC_BYTES 8
#define TREES "trees/sha256"

enum { RAW = BNT_SHA256_BYTES, HEAD = 8 + 8 + RAW };

struct bnt_chunk_tree {
    bool chain;
    uint64_t size; /* bytes so far */
    uint8_t (*leaf)[RAW];
    size_t n, cap;           /* finished leaves */
    struct bnt_sha256 *hash; /* of the leaf under way; of a chain: of everything. NULL when done */
};

enum bnt_status bnt_chunk_tree_new(struct bnt_chunk_tree **out, struct bnt_err *err)
{
    *out = calloc(1, sizeof **out);
    return *out ? BNT_OK : bnt_err_nomem(err, "a chunk tree", sizeof **out);
}

enum bnt_status bnt_chunk_chain_new(struct bnt_chunk_tree **out, struct bnt_err *err)
{
    enum bnt_status st = bnt_chunk_tree_new(out, err);
    if (st == BNT_OK) {
        (*out)->chain = true;
        st = bnt_sha256_new(&(*out)->hash, err);
    }
    return st;
}

static const char *magic(const struct bnt_chunk_tree *t)
{
    return t->chain ? "bntchain" : "bnttree1";
}

void bnt_chunk_tree_free(struct bnt_chunk_tree *t)
{
    if (t) {
        bnt_sha256_free(t->hash);
        free(t->leaf);
        free(t);
    }
}

static enum bnt_status reserve(struct bnt_chunk_tree *t, size_t n, struct bnt_err *err)
{
    if (n <= t->cap) {
        return BNT_OK;
    }
    size_t more = n > t->cap * 2 ? n : t->cap * 2;
    void *leaf = realloc(t->leaf, more * sizeof *t->leaf);
    if (!leaf) {
        return bnt_err_nomem(err, "a chunk tree", more * sizeof *t->leaf);
    }
    t->leaf = leaf;
    t->cap = more;
    return BNT_OK;
}

/* The leaf under way is complete, and nothing goes on from its hash. */
static enum bnt_status close_leaf(struct bnt_chunk_tree *t, struct bnt_err *err)
{
    enum bnt_status st = reserve(t, t->n + 1, err);
    if (st == BNT_OK) {
        st = bnt_sha256_raw(t->hash, t->leaf[t->n], err);
    }
    t->n += st == BNT_OK;
    bnt_sha256_free(t->hash);
    t->hash = NULL;
    return st;
}

/* A chunk is full. */
static enum bnt_status finish_leaf(struct bnt_chunk_tree *t, struct bnt_err *err)
{
    if (!t->chain) {
        return close_leaf(t, err);
    }
    enum bnt_status st = reserve(t, t->n + 1, err);
    if (st == BNT_OK) {
        bnt_sha256_state(t->hash, t->leaf[t->n++]);
    }
    return st;
}

enum bnt_status bnt_chunk_tree_update(struct bnt_chunk_tree *t, const void *bytes, size_t n,
                                      struct bnt_err *err)
{
    const uint8_t *p = bytes;
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && n > 0) {
        size_t room = BNT_CACHE_CHUNK_BYTES - (size_t)(t->size % BNT_CACHE_CHUNK_BYTES);
        size_t part = n < room ? n : room;
        st = t->hash ? BNT_OK : bnt_sha256_new(&t->hash, err);
        if (st == BNT_OK) {
            st = bnt_sha256_update(t->hash, p, part, err);
        }
        t->size += part;
        p += part;
        n -= part;
        if (st == BNT_OK && part == room) {
            st = finish_leaf(t, err);
        }
    }
    return st;
}

static void put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        to[i] = (uint8_t)(v >> 8 * i);
    }
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) {
        v = v << 8 | from[i];
    }
    return v;
}

/* The root, of a tree that is complete. */
static enum bnt_status root_of(const struct bnt_chunk_tree *t, uint8_t root[RAW],
                               struct bnt_err *err)
{
    uint8_t head[16];
    struct bnt_sha256 *d = NULL;
    memcpy(head, magic(t), MAGIC_BYTES);
    put_u64(head + 8, t->size);
    enum bnt_status st = bnt_sha256_new(&d, err);
    if (st == BNT_OK) {
        st = bnt_sha256_update(d, head, sizeof head, err);
    }
    if (st == BNT_OK && t->n > 0) {
        st = bnt_sha256_update(d, t->leaf, t->n * RAW, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_raw(d, root, err);
    }
    bnt_sha256_free(d);
    return st;
}

static enum bnt_status complete(struct bnt_chunk_tree *t, struct bnt_err *err)
{
    if (!t->hash) {
        return BNT_OK;
    }
    if (t->chain && t->n > 0 && t->size % BNT_CACHE_CHUNK_BYTES == 0) {
        t->n--; /* the value after the last chunk gives way to the digest */
    }
    return close_leaf(t, err);
}

enum bnt_status bnt_chunk_chain_digest(struct bnt_chunk_tree *t, char hex[BNT_SHA256_HEX],
                                       struct bnt_err *err)
{
    enum bnt_status st = complete(t, err);
    if (st == BNT_OK) {
        bnt_sha256_print(t->leaf[t->n - 1], hex);
    }
    return st;
}

enum bnt_status bnt_chunk_tree_root(struct bnt_chunk_tree *t, char hex[BNT_SHA256_HEX],
                                    struct bnt_err *err)
{
    uint8_t root[RAW];
    enum bnt_status st = complete(t, err);
    if (st == BNT_OK) {
        st = root_of(t, root, err);
    }
    if (st == BNT_OK) {
        bnt_sha256_print(root, hex);
    }
    return st;
}

uint64_t bnt_chunk_tree_size(const struct bnt_chunk_tree *t)
{
    return t->size;
}

size_t tree_leaves(const struct bnt_chunk_tree *t)
{
    return t->n;
}

size_t tree_leaf_bytes(const struct bnt_chunk_tree *t, size_t i)
{
    uint64_t rest = t->size - (uint64_t)i * BNT_CACHE_CHUNK_BYTES;
    return rest < BNT_CACHE_CHUNK_BYTES ? (size_t)rest : BNT_CACHE_CHUNK_BYTES;
}

const uint8_t *tree_leaf(const struct bnt_chunk_tree *t, size_t i)
{
    return t->leaf[i];
}

enum bnt_status tree_leaf_is(const struct bnt_chunk_tree *t, size_t i, const void *bytes, size_t n,
                             bool *same, struct bnt_err *err)
{
    uint8_t raw[RAW];
    struct bnt_sha256 *d = NULL;
    *same = false;
    if (n != tree_leaf_bytes(t, i)) {
        return BNT_OK;
    }
    enum bnt_status st =
        t->chain && i > 0
            ? bnt_sha256_resume(t->leaf[i - 1], (uint64_t)i * BNT_CACHE_CHUNK_BYTES, &d, err)
            : bnt_sha256_new(&d, err);
    if (st == BNT_OK) {
        st = bnt_sha256_update(d, bytes, n, err);
    }
    if (st == BNT_OK && t->chain && i + 1 < t->n) {
        bnt_sha256_state(d, raw);
    } else if (st == BNT_OK) {
        st = bnt_sha256_raw(d, raw, err);
    }
    *same = st == BNT_OK && memcmp(raw, t->leaf[i], RAW) == 0;
    bnt_sha256_free(d);
    return st;
}

enum bnt_status bnt_chunk_tree_of_file(const char *path, const volatile sig_atomic_t *interrupted,
                                       struct bnt_chunk_tree **out, struct bnt_err *err)
{
    struct bnt_mapping m;
    *out = NULL;
    enum bnt_status st = bnt_map_file(path, &m, err);
    if (st != BNT_OK) {
        return st;
    }
    st = bnt_chunk_tree_new(out, err);
    for (uint64_t at = 0; st == BNT_OK && at < m.size; at += BNT_CACHE_CHUNK_BYTES) {
        const uint64_t left = m.size - at;
        st = bnt_chunk_tree_update(
            *out, m.data + at, left < BNT_CACHE_CHUNK_BYTES ? left : BNT_CACHE_CHUNK_BYTES, err);
        st = st == BNT_OK ? bnt_err_interrupted(interrupted, err) : st;
    }
    if (st == BNT_OK) {
        st = complete(*out, err);
    }
    bnt_unmap(&m);
    if (st != BNT_OK) {
        bnt_chunk_tree_free(*out);
        *out = NULL;
    }
    return st;
}

/* ---- the file ---- */

enum bnt_status tree_path(const char *dir, const char *digest, char out[BNT_PATH_MAX],
                          struct bnt_err *err)
{
    if (!bnt_sha256_is_hex(digest)) {
        return bnt_err_set(err, BNT_E_INTERNAL, "cache: '%.80s' is not a sha256 digest", digest);
    }
    return bnt_path_format(out, err, "%s/" TREES "/%.2s/%s", dir, digest, digest);
}

enum bnt_status tree_root_folder(const char *dir, char out[BNT_PATH_MAX], struct bnt_err *err)
{
    return bnt_path_format(out, err, "%s/" TREES, dir);
}

enum bnt_status bnt_chunk_tree_encode(struct bnt_chunk_tree *t, struct bnt_buf *out,
                                      struct bnt_err *err)
{
    uint8_t head[HEAD];
    memcpy(head, magic(t), MAGIC_BYTES);
    enum bnt_status st = complete(t, err);
    if (st == BNT_OK) {
        put_u64(head + 8, t->size);
        st = root_of(t, head + 16, err);
    }
    if (st == BNT_OK) {
        st = bnt_buf_append(out, head, sizeof head, err);
    }
    return st == BNT_OK && t->n > 0 ? bnt_buf_append(out, t->leaf, t->n * RAW, err) : st;
}

enum bnt_status tree_store(const char *dir, const char *digest, struct bnt_chunk_tree *t,
                           struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf bytes = BNT_BUF(BNT_CHUNK_TREE_MAX_BYTES);
    struct bnt_cache_temp temp = {.fd = -1};
    enum bnt_status st = bnt_chunk_tree_encode(t, &bytes, err);
    if (st == BNT_OK) {
        st = bnt_path_format(path, err, "%s/" TREES "/%.2s", dir, digest);
    }
    if (st == BNT_OK) {
        st = bnt_mkdirs(path, err);
    }
    if (st == BNT_OK) {
        st = tree_path(dir, digest, path, err);
    }
    if (st == BNT_OK) {
        st = store_temp_open(dir, &temp, err);
    }
    if (st == BNT_OK) {
        st = bnt_write_all(temp.fd, bytes.data, bytes.len, temp.path, err);
    }
    if (st == BNT_OK && bnt_file_rename(temp.path, path) != 0) {
        st = bnt_err_errno(err, "cache: cannot rename %s to %s", temp.path, path);
    } else if (st == BNT_OK) {
        temp.path[0] = '\0';
    }
    bnt_cache_temp_release(&temp);
    bnt_buf_release(&bytes);
    return st;
}

static uint64_t leaves_of(const struct bnt_chunk_tree *t)
{
    uint64_t chunks = t->size / BNT_CACHE_CHUNK_BYTES + (t->size % BNT_CACHE_CHUNK_BYTES != 0);
    return t->chain && chunks == 0 ? 1 : chunks; /* of nothing: its digest */
}

/* Whether the bytes of a tree file are whole; then *t has them. */
static enum bnt_status parse(const uint8_t *bytes, size_t n, struct bnt_chunk_tree *t, bool *whole,
                             struct bnt_err *err)
{
    uint8_t root[RAW];
    *whole = false;
    if (n < HEAD || (n - HEAD) % RAW != 0) {
        return BNT_OK;
    }
    t->size = get_u64(bytes + 8);
    t->chain = memcmp(bytes, "bntchain", MAGIC_BYTES) == 0;
    size_t leaves = (n - HEAD) / RAW;
    if (memcmp(bytes, magic(t), MAGIC_BYTES) != 0 || leaves != leaves_of(t)) {
        return BNT_OK;
    }
    enum bnt_status st = reserve(t, leaves + 1, err);
    if (st == BNT_OK) {
        memcpy(t->leaf, bytes + HEAD, leaves * RAW);
        t->n = leaves;
        st = root_of(t, root, err);
    }
    *whole = st == BNT_OK && memcmp(root, bytes + 16, RAW) == 0;
    return st;
}

/* The tree that the bytes are; NULL when they are not whole. */
static enum bnt_status decode(const void *bytes, size_t n, struct bnt_chunk_tree **out,
                              struct bnt_err *err)
{
    bool whole = false;
    struct bnt_chunk_tree *t = NULL;
    *out = NULL;
    enum bnt_status st = bnt_chunk_tree_new(&t, err);
    if (st == BNT_OK) {
        st = parse(bytes, n, t, &whole, err);
    }
    if (whole) {
        *out = t;
    } else {
        bnt_chunk_tree_free(t);
    }
    return st;
}

enum bnt_status bnt_chunk_tree_decode(const void *bytes, size_t n, struct bnt_chunk_tree **out,
                                      struct bnt_err *err)
{
    enum bnt_status st = decode(bytes, n, out, err);
    if (st == BNT_OK && *out && (*out)->chain) { /* it never leaves the cache */
        bnt_chunk_tree_free(*out);
        *out = NULL;
    }
    return st == BNT_OK && !*out ? bnt_err_set(err, BNT_E_FILE, "not a whole chunk tree") : st;
}

enum bnt_status tree_load(const char *dir, const char *digest, struct bnt_chunk_tree **out,
                          struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf bytes = BNT_BUF(BNT_CHUNK_TREE_MAX_BYTES);
    *out = NULL;
    enum bnt_status st = tree_path(dir, digest, path, err);
    if (st == BNT_OK && bnt_file_read(path, &bytes, NULL) == BNT_OK) {
        st = decode(bnt_buf_view(&bytes), bytes.len, out, err);
    }
    bnt_buf_release(&bytes);
    return st;
}

bool tree_is_chain(const struct bnt_chunk_tree *t)
{
    return t->chain;
}

enum bnt_status bnt_cache_tree_load(struct bnt_cache *c, const char *digest,
                                    struct bnt_chunk_tree **out, struct bnt_err *err)
{
    enum bnt_status st = tree_load(bnt_cache_folder(c), digest, out, err);
    if (*out && (*out)->chain) {
        bnt_chunk_tree_free(*out);
        *out = NULL;
    }
    return st;
}

/* Whether a tree and its blob belong together: the blob still has the digest that is its name. */
static enum bnt_status tree_of_sound(struct bnt_cache *c, const char *path, const char *digest,
                                     struct bnt_chunk_tree **out, struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX] = "";
    enum bnt_status st = cache_digest_of_file(c, path, hex, err);
    if (st == BNT_OK && strcmp(hex, digest) == 0) {
        st = bnt_chunk_tree_of_file(path, c->interrupted, out, err);
    }
    return st;
}

enum bnt_status bnt_cache_tree_make(struct bnt_cache *c, const char *digest,
                                    struct bnt_chunk_tree **out, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    const char *dir = bnt_cache_folder(c);
    bool hot = false;
    uint64_t bytes = 0;
    enum bnt_status st = bnt_cache_tree_load(c, digest, out, err);
    if (st != BNT_OK || *out) {
        return st;
    }
    st = store_stat(dir, digest, &hot, &bytes, err);
    if (st == BNT_OK && hot) {
        st = store_blob_path(dir, digest, path, err);
        st = st == BNT_OK ? tree_of_sound(c, path, digest, out, err) : st;
    }
    if (st == BNT_OK && *out) {
        (void)tree_store(dir, digest, *out, NULL); /* else the next one makes it again */
    }
    return st;
}

enum bnt_status bnt_cache_tree_open(struct bnt_cache *c, const char *digest, int *fd,
                                    struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_chunk_tree *t = NULL;
    *fd = -1;
    enum bnt_status st = bnt_cache_tree_make(c, digest, &t, err);
    if (st == BNT_OK && !t) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "cache: there is no chunk tree of %s", digest);
    }
    bnt_chunk_tree_free(t);
    if (st == BNT_OK) {
        st = tree_path(bnt_cache_folder(c), digest, path, err);
    }
    if (st == BNT_OK) {
        *fd = open(path, O_RDONLY | O_CLOEXEC);
        st = *fd >= 0 ? BNT_OK : bnt_err_errno(err, "cache: cannot open %s", path);
    }
    return st;
}

void tree_remove(const char *dir, const char *digest)
{
    char path[BNT_PATH_MAX];
    if (tree_path(dir, digest, path, NULL) == BNT_OK) {
        (void)unlink(path);
    }
}
