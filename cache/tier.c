/* Where the bytes of a blob are.
 *
 *            bnt_cache_demote                      tier_promote (first use)
 *      hot ─────────────────────► hot and warm ◄──────────────────── warm
 *       ▲                          │        │                          ▲
 *       └──────────────────────────┘        └──────────────────────────┘
 *         the warm copy is dropped           the blob is unlinked (remove.c's rules)
 *
 * Invariants:
 *   1. A blob that the index names is hot, warm, or both; each change of tier makes the new copy
 *      durable before it drops the old one, so a death anywhere leaves at least one.
 *   2. A warm copy was expanded and hashed to its name before the hot one went; a promoted blob was
 *      before it is shown.
 *   3. When both are there, the hot one counts, and the next collection drops the warm one.
 *   4. A blob that a process uses stays hot.
 *
 * Locks: a promotion holds an exclusive flock on the warm file, so that of many processes one
 * expands and the others wait for it. Where locks lie, several expand the same bytes, and the last
 * rename wins. */
#include "cache/tier.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "cache/warm_file.h"

#define WARM "warm/sha256"

/* A copy that saves less than this part of the blob is not worth the time of its promotion. */
enum { DEMOTE_MIN_PART = 20 };

enum bnt_status tier_warm_path(const char *dir, const char *digest, char out[BNT_PATH_MAX],
                               struct bnt_err *err)
{
    if (!bnt_sha256_is_hex(digest)) {
        return bnt_err_set(err, BNT_E_INTERNAL, "cache: '%.80s' is not a sha256 digest", digest);
    }
    return bnt_path_format(out, err, "%s/" WARM "/%.2s/%s.zst", dir, digest, digest);
}

enum bnt_status tier_stat(const char *dir, const char *digest, bool *found, uint64_t *stored_bytes,
                          struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct stat sb;
    *found = false;
    *stored_bytes = 0;
    enum bnt_status st = tier_warm_path(dir, digest, path, err);
    if (st == BNT_OK && stat(path, &sb) == 0) {
        *found = S_ISREG(sb.st_mode);
        *stored_bytes = (uint64_t)sb.st_size;
    } else if (st == BNT_OK && errno != ENOENT && errno != ENOTDIR) {
        st = bnt_err_errno(err, "cache: cannot look at %s", path);
    }
    return st;
}

void tier_drop(const char *dir, const char *digest)
{
    char path[BNT_PATH_MAX];
    if (tier_warm_path(dir, digest, path, NULL) == BNT_OK) {
        (void)bnt_file_unlink(path);
    }
}

enum bnt_status tier_check(const struct bnt_cache *c, const char *digest, bool *same,
                           struct bnt_err *err)
{
    char path[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    *same = false;
    struct bnt_err why = {0};
    enum bnt_status st = tier_warm_path(c->dir, digest, path, &why);
    if (st == BNT_OK) {
        st = warm_file_read(path, -1, hex, c->interrupted, &why);
        *same = st == BNT_OK && strcmp(hex, digest) == 0;
    }
    /* A damaged frame is a finding. */
    return st == BNT_OK || st == BNT_E_FILE ? BNT_OK : bnt_err_copy(err, &why);
}

enum bnt_status tier_salvage(struct bnt_cache *c, const char *digest, int *fd, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    bool found = false;
    uint64_t stored = 0;
    struct bnt_cache_temp temp;
    struct bnt_err why = {0};
    *fd = -1;
    enum bnt_status st = tier_stat(c->dir, digest, &found, &stored, err);
    if (st != BNT_OK || !found) {
        return st;
    }
    st = tier_warm_path(c->dir, digest, path, &why);
    if (st == BNT_OK) {
        st = bnt_cache_temp_open(c, &temp, &why);
    }
    if (st == BNT_OK) {
        st = warm_file_salvage(path, temp.fd, &why);
        *fd = st == BNT_OK ? fcntl(temp.fd, F_DUPFD_CLOEXEC, 0) : -1;
        bnt_cache_temp_release(&temp); /* the name goes, the bytes stay with *fd */
    }
    /* Not even a seek table: nothing to be had. */
    return st == BNT_OK || st == BNT_E_FILE ? BNT_OK : bnt_err_copy(err, &why);
}

enum bnt_status bnt_cache_tier(struct bnt_cache *c, const char *digest, bool *warm,
                               uint64_t *stored_bytes, struct bnt_err *err)
{
    bool hot = false;
    *warm = false;
    enum bnt_status st = store_stat(c->dir, digest, &hot, stored_bytes, err);
    return st == BNT_OK && !hot ? tier_stat(c->dir, digest, warm, stored_bytes, err) : st;
}

/* ---- hot again ---- */

static enum bnt_status expand(struct bnt_cache *c, const char *path, const char *digest,
                              struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX];
    struct bnt_cache_temp temp;
    struct bnt_cache_entry e = {.name = ""}; /* names stay as they are */
    enum bnt_status st = bnt_cache_temp_open(c, &temp, err);
    if (st != BNT_OK) {
        return st;
    }
    st = warm_file_read(path, temp.fd, hex, c->interrupted, err);
    if (st == BNT_E_FILE || (st == BNT_OK && strcmp(hex, digest) != 0)) {
        st = BNT_E_DIGEST;
        if (err) {
            *err = (struct bnt_err){0};
        }
        bnt_err_set(err, st, "cache: the compressed copy of %s is corrupt", digest);
        bnt_err_hint(err, "run: bnt cache verify --repair %s", digest);
    }
    if (st == BNT_OK) {
        memcpy(e.digest, digest, sizeof e.digest);
        temp.origin = BNT_CACHE_FROM_WARM;
        st = bnt_cache_add(c, &temp, &e, err);
    }
    bnt_cache_temp_release(&temp);
    return st;
}

enum bnt_status tier_promote(struct bnt_cache *c, const char *digest, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    bool hot = false;
    uint64_t size = 0;
    enum bnt_status st = tier_warm_path(c->dir, digest, path, err);
    if (st != BNT_OK) {
        return st;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (st == BNT_OK && fd >= 0 && flock(fd, LOCK_EX) != 0 && errno == EINTR) {
        st = bnt_err_interrupted(c->interrupted, err);
    }
    if (st == BNT_OK) { /* another process may have been faster */
        st = store_stat(c->dir, digest, &hot, &size, err);
    }
    if (st == BNT_OK && !hot && fd < 0) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "cache: there is no blob %s", digest);
    } else if (st == BNT_OK && !hot) {
        st = expand(c, path, digest, err);
    }
    if (st == BNT_OK) {
        tier_drop(c->dir, digest);
    }
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

/* ---- warm ---- */

/* The finished warm copy under its name, durable. */
static enum bnt_status publish(struct bnt_cache *c, struct bnt_cache_temp *t, const char *digest,
                               struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    uint64_t stored = 0;
    enum bnt_status st = store_seal(t, &stored, err);
    if (st == BNT_OK) {
        st = tier_warm_path(c->dir, digest, path, err);
    }
    if (st == BNT_OK) {
        st = store_make_folder_of(c->dir, path, err);
    }
    if (st == BNT_OK) {
        st = store_show(t, path, err);
    }
    return st;
}

bool tier_saves_little(uint64_t blob_bytes, uint64_t warm_bytes)
{
    return warm_bytes >= blob_bytes - blob_bytes / DEMOTE_MIN_PART;
}

/* Write the warm copy and prove that it becomes the blob again. *small: it was worth it. */
static enum bnt_status compress(struct bnt_cache *c, const char *hot, const char *digest,
                                struct bnt_cache_temp *t, struct bnt_cache_demotion *out,
                                struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX];
    struct stat sb;
    enum bnt_status st = bnt_cache_temp_open(c, t, err);
    if (st == BNT_OK) {
        st = warm_file_write(hot, t->fd, t->path, c->interrupted, err);
    }
    if (st == BNT_OK && fstat(t->fd, &sb) != 0) {
        st = bnt_err_errno(err, "cache: cannot look at %s", t->path);
    }
    if (st != BNT_OK) {
        return st;
    }
    out->after_bytes = (uint64_t)sb.st_size;
    out->moved = !tier_saves_little(out->before_bytes, out->after_bytes);
    if (out->moved) {
        st = warm_file_read(t->path, -1, hex, c->interrupted, err);
    }
    if (st == BNT_OK && out->moved && strcmp(hex, digest) != 0) {
        st = bnt_err_set(err, BNT_E_DIGEST, "cache: %s is corrupt: sha256 differs", digest);
        bnt_err_hint(err, "run: bnt cache verify --repair %s", digest);
    }
    return st;
}

enum bnt_status bnt_cache_demote(struct bnt_cache *c, const struct bnt_cache_entry *entry,
                                 struct bnt_cache_demotion *out, struct bnt_err *err)
{
    char hot[BNT_PATH_MAX];
    struct bnt_cache_temp temp = {.fd = -1};
    enum lease_state state = LEASE_FREE;
    int fd = -1;
    *out = (struct bnt_cache_demotion){.before_bytes = entry->size};
    enum bnt_status st = store_blob_path(c->dir, entry->digest, hot, err);
    if (st == BNT_OK) {
        st = lease_claim(hot, &state, &fd, err);
    }
    if (fd >= 0) {
        close(fd); /* only a look: the claim counts at the end */
    }
    if (st != BNT_OK || state != LEASE_FREE) {
        out->in_use = state == LEASE_TAKEN;
        return st;
    }
    st = compress(c, hot, entry->digest, &temp, out, err);
    if (st == BNT_OK) {
        index_note_warm(c->index, entry->digest, out->after_bytes);
    }
    if (st == BNT_OK && out->moved) {
        st = publish(c, &temp, entry->digest, err);
    }
    if (st == BNT_OK && out->moved) {
        st = cache_drop_hot(c, entry->digest, &state, err);
        out->in_use = state == LEASE_TAKEN;
        out->moved = st == BNT_OK && state == LEASE_FREE;
        if (out->in_use) {
            tier_drop(c->dir, entry->digest);
        }
    }
    bnt_cache_temp_release(&temp);
    return st;
}

/* ---- all of them ---- */

struct walk {
    const char *dir;
    store_visit_fn *fn;
    void *ctx;
};

static enum bnt_status visit_warm(void *ctx, const char *digest, uint64_t stored_bytes,
                                  struct bnt_err *err)
{
    const struct walk *w = ctx;
    char path[BNT_PATH_MAX];
    struct warm_info info;
    (void)stored_bytes;
    enum bnt_status st = tier_warm_path(w->dir, digest, path, err);
    if (st != BNT_OK || warm_file_info(path, &info, NULL) != BNT_OK) {
        return st; /* one that cannot be read is not worth a row */
    }
    return w->fn(w->ctx, digest, info.raw_bytes, err);
}

enum bnt_status tier_walk(const char *dir, store_visit_fn *fn, void *ctx, struct bnt_err *err)
{
    char root[BNT_PATH_MAX];
    struct walk w = {dir, fn, ctx};
    enum bnt_status st = bnt_path_format(root, err, "%s/" WARM, dir);
    return st == BNT_OK ? store_walk_below(root, ".zst", visit_warm, &w, err) : st;
}
