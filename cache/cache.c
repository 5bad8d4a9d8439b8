/* The cache as one thing: store.c (bytes) and index.c (names) in the order that keeps the index
 * honest: bytes first, then the row. */
#include "cache/bnt_cache.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/opt.h"
#include "cache/cache_impl.h"
#include "cache/cold.h"
#include "cache/name_record.h"
#include "cache/store.h"
#include "cache/tier.h"
#include "cache/tree.h"

enum { VERIFY_TRIES = 3 }; /* each but the first needs a move between tiers meanwhile */

/* Counts and lists what store_walk finds. */
struct adoption {
    struct cache_index *index;
    uint64_t blobs;
    const char *dir;
};

static enum bnt_status adopt_blob(void *ctx, const char *digest, uint64_t size, struct bnt_err *err)
{
    struct adoption *a = ctx;
    a->blobs++;
    return index_note_blob(a->index, digest, size, bnt_clock_unix_s(), err);
}

/* A blob that is hot and warm is counted once: the hot ones come first and have their rows. */
static enum bnt_status adopt_warm(void *ctx, const char *digest, uint64_t size, struct bnt_err *err)
{
    struct adoption *a = ctx;
    bool hot = false;
    uint64_t hot_size;
    enum bnt_status st = store_stat(a->dir, digest, &hot, &hot_size, err);
    return st != BNT_OK || hot ? st : adopt_blob(ctx, digest, size, err);
}

/* One that is far away alone. */
static enum bnt_status adopt_cold(void *ctx, const char *digest, uint64_t size, struct bnt_err *err)
{
    struct adoption *a = ctx;
    bool warm = false;
    uint64_t stored;
    enum bnt_status st = tier_stat(a->dir, digest, &warm, &stored, err);
    return st != BNT_OK || warm ? st : adopt_warm(ctx, digest, size, err);
}

static enum bnt_status adopt_all(const char *dir, struct adoption *a, struct bnt_err *err)
{
    a->dir = dir;
    enum bnt_status st = store_walk(dir, adopt_blob, a, err);
    if (st == BNT_OK) {
        st = tier_walk(dir, adopt_warm, a, err);
    }
    return st == BNT_OK ? cold_walk(dir, adopt_cold, a, err) : st;
}

/* Open the index; when it is new, list what the store already has in the same transaction. */
static enum bnt_status open_index(struct bnt_cache *c, uint64_t *blobs, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    bool fresh = false;
    enum bnt_status st = bnt_path_format(path, err, "%s/index.db", c->dir);
    if (st == BNT_OK) {
        st = index_open(path, &c->index, &fresh, err);
    }
    if (st == BNT_OK && fresh) {
        struct adoption a = {.index = c->index};
        st = adopt_all(c->dir, &a, err);
        if (st == BNT_OK) {
            st = name_record_adopt(c->dir, c->index, err);
        }
        if (st == BNT_OK) {
            st = index_commit(c->index, err);
        }
        *blobs = a.blobs;
    }
    return st;
}

/* Make the folder and the index of a cache that was empty. */
static enum bnt_status ensure_index(struct bnt_cache *c, struct bnt_err *err)
{
    uint64_t blobs = 0;
    if (c->index) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_mkdirs(c->dir, err);
    if (st != BNT_OK) {
        bnt_err_hint(err, "set BNT_CACHE_DIR to a folder that can be written");
        return st;
    }
    return open_index(c, &blobs, err);
}

void bnt_cache_interrupt(struct bnt_cache *c, const volatile sig_atomic_t *interrupted)
{
    if (c) {
        c->interrupted = interrupted;
    }
}

enum bnt_status bnt_cache_open(const char *dir, struct bnt_cache **out, struct bnt_err *err)
{
    *out = NULL;
    struct bnt_cache *c = calloc(1, sizeof *c);
    if (!c) {
        return bnt_err_nomem(err, "cache handle", sizeof *c);
    }
    uint64_t blobs = 0;
    enum bnt_status st = dir ? bnt_path_format(c->dir, err, "%s", dir) : bnt_cache_dir(c->dir, err);
    if (st == BNT_OK && access(c->dir, F_OK) == 0) {
        st = open_index(c, &blobs, err);
    } else if (st == BNT_OK && errno == EACCES) { /* what may be in it is not for us to say */
        st = bnt_err_errno(err, "cache: cannot open %s", c->dir);
        bnt_err_hint(err, "set BNT_CACHE_DIR to a folder that can be read");
    }
    if (st != BNT_OK) {
        bnt_cache_close(c);
        return st;
    }
    *out = c;
    return BNT_OK;
}

void bnt_cache_close(struct bnt_cache *c)
{
    if (c) {
        index_close(c->index);
        free(c);
    }
}

const char *bnt_cache_folder(const struct bnt_cache *c)
{
    return c->dir;
}

enum bnt_status bnt_cache_rebuild(const char *dir, uint64_t *blobs, struct bnt_err *err)
{
    struct bnt_cache c = {.index = NULL};
    char from[BNT_PATH_MAX], to[BNT_PATH_MAX];
    *blobs = 0;
    enum bnt_status st = dir ? bnt_path_format(c.dir, err, "%s", dir) : bnt_cache_dir(c.dir, err);
    /* The journal first: beside a new index it would be taken for that one's. */
    static const char *const files[] = {"index.db-journal", "index.db"};
    for (size_t i = 0; st == BNT_OK && i < sizeof files / sizeof files[0]; i++) {
        st = bnt_path_format(from, err, "%s/%s", c.dir, files[i]);
        if (st == BNT_OK) {
            st = bnt_path_format(to, err, "%s/%s.damaged", c.dir, files[i]);
        }
        if (st == BNT_OK && rename(from, to) != 0 && errno != ENOENT) {
            st = bnt_err_errno(err, "cache: cannot set %s aside", from);
        }
    }
    if (st == BNT_OK && access(c.dir, F_OK) == 0) {
        st = open_index(&c, blobs, err);
    }
    index_close(c.index);
    return st;
}

enum bnt_status bnt_cache_blob_path(const struct bnt_cache *c, const char *digest,
                                    char out[BNT_PATH_MAX], struct bnt_err *err)
{
    return store_blob_path(c->dir, digest, out, err);
}

enum bnt_status bnt_cache_find_name(struct bnt_cache *c, const char *name,
                                    struct bnt_cache_entry *out, bool *found, struct bnt_err *err)
{
    *found = false;
    return c->index ? index_find_name(c->index, name, out, found, err) : BNT_OK;
}

/* Note that a blob was asked for, rarely enough that a hit stays a read. */
static void note_use(struct bnt_cache *c, struct bnt_cache_entry *e)
{
    int64_t now_s = bnt_clock_unix_s();
    if (now_s - e->used_s >= BNT_CACHE_USE_STEP_S) {
        index_note_use(c->index, e->digest, now_s);
    }
}

/* The size of a blob in the hot tier, after bringing it there when only its warm copy is. */
static enum bnt_status stat_hot(struct bnt_cache *c, const char *digest, bool *found,
                                uint64_t *size, struct bnt_err *err)
{
    bool warm = false;
    uint64_t stored;
    enum bnt_status st = store_stat(c->dir, digest, found, size, err);
    if (st != BNT_OK || *found) {
        return st;
    }
    st = tier_stat(c->dir, digest, &warm, &stored, err);
    if (st != BNT_OK || !warm) {
        return st;
    }
    struct bnt_err why = {0};
    st = tier_promote(c, digest, &why);
    if (st == BNT_OK ||
        st == BNT_E_NOT_FOUND) { /* gone meanwhile, or another one has made it hot */
        return store_stat(c->dir, digest, found, size, err);
    }
    return bnt_err_copy(err, &why);
}

enum bnt_status bnt_cache_has(struct bnt_cache *c, const char *digest, bool *has,
                              struct bnt_err *err)
{
    struct bnt_cache_entry e;
    size_t n = 0;
    bool in_store = false;
    uint64_t size = 0;
    enum bnt_status st = c->index ? index_find_digest(c->index, digest, &e, &n, err) : BNT_OK;
    if (st == BNT_OK && n > 0) {
        st = stat_hot(c, digest, &in_store, &size, err);
    }
    *has = st == BNT_OK && n > 0 && in_store && size == e.size;
    if (*has) {
        note_use(c, &e);
    }
    return st;
}

/* True when key may stand for a digest; `prefix` is then its lower-case form. */
static bool digest_prefix(const char *key, char prefix[BNT_SHA256_HEX])
{
    size_t n = strlen(key);
    if (n < BNT_CACHE_PREFIX_MIN || n >= BNT_SHA256_HEX) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isxdigit((unsigned char)key[i])) {
            return false;
        }
        prefix[i] = (char)tolower((unsigned char)key[i]);
    }
    prefix[n] = '\0';
    return true;
}

/* NOT_FOUND for a key, naming the nearest name and saying what to type: who needs the model fetches
 * it, who tidies up looks at what is there. */
static enum bnt_status unknown_key(struct bnt_cache *c, const char *key, bool needed,
                                   struct bnt_err *err)
{
    struct bnt_cache_list list = {0};
    enum bnt_status st = c->index ? index_list(c->index, &list, err) : BNT_OK;
    const char **names = calloc(list.n + 1, sizeof *names);
    if (st != BNT_OK || !names) {
        bnt_cache_list_release(&list);
        free(names);
        return st != BNT_OK ? st
                            : bnt_err_nomem(err, "list of names", (list.n + 1) * sizeof *names);
    }
    size_t n = 0;
    for (size_t i = 0; i < list.n; i++) {
        if (list.at[i].name[0]) {
            names[n++] = list.at[i].name;
        }
    }
    const char *near = bnt_did_you_mean(key, names);
    st = bnt_err_set(err, BNT_E_NOT_FOUND, "no model '%.200s' in the cache %s%s%s%s", key, c->dir,
                     near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    const char *there = n ? "bnt cache ls shows what is there" : "the cache has no names yet";
    if (needed) {
        const bool ok = bnt_cache_name_ok(key); /* else no model could be given this name */
        bnt_err_hint(err, "run: bnt fetch SOURCE%s%.100s   (%s)", ok ? " --name " : "",
                     ok ? key : "", there);
    } else {
        bnt_err_hint(err, "%s", there);
    }
    free(names);
    bnt_cache_list_release(&list);
    return st;
}

static enum bnt_status find(struct bnt_cache *c, const char *key, bool needed,
                            struct bnt_cache_entry *out, struct bnt_err *err)
{
    char prefix[BNT_SHA256_HEX];
    size_t n_found = 0;
    bool found = false;
    enum bnt_status st = bnt_cache_find_name(c, key, out, &found, err);
    if (st != BNT_OK || found) {
        return st;
    }
    if (c->index && digest_prefix(key, prefix)) {
        st = index_find_digest(c->index, prefix, out, &n_found, err);
    }
    if (st == BNT_OK && n_found > 1) {
        st = bnt_err_set(err, BNT_E_USAGE, "'%s' begins more than one digest of the cache", key);
        bnt_err_hint(err, "give more digits; bnt cache ls shows them");
        return st;
    }
    return st != BNT_OK || n_found == 1 ? st : unknown_key(c, key, needed, err);
}

enum bnt_status bnt_cache_find(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                               struct bnt_err *err)
{
    return find(c, key, false, out, err);
}

enum bnt_status bnt_cache_lookup(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                                 char path[BNT_PATH_MAX], struct bnt_err *err)
{
    bool in_store = false, is_cold = false;
    struct bnt_cache_cold cold;
    uint64_t size = 0;
    enum bnt_status st = find(c, key, true, out, err);
    if (st == BNT_OK) {
        st = store_blob_path(c->dir, out->digest, path, err);
    }
    if (st == BNT_OK) {
        st = stat_hot(c, out->digest, &in_store, &size, err);
    }
    if (st == BNT_OK && !in_store) {
        st = bnt_cache_cold(c, out->digest, &cold, &is_cold, err);
    }
    if (is_cold) {
        return cache_cold_error(out, &cold, err);
    }
    if (st == BNT_OK && !in_store) {
        st =
            bnt_err_set(err, BNT_E_NOT_FOUND, "cache: %s is in the index, but its file is gone: %s",
                        cache_label(out), path);
    } else if (st == BNT_OK && size != out->size) {
        st = bnt_err_set(err, BNT_E_DIGEST, "cache: %s is corrupt: %s has %llu bytes, not %llu",
                         cache_label(out), path, (unsigned long long)size,
                         (unsigned long long)out->size);
    }
    if (st == BNT_OK) {
        note_use(c, out);
    }
    if (st == BNT_E_DIGEST) {
        bnt_err_hint(err, "run: bnt cache verify --repair %.200s", key);
    } else if (st == BNT_E_NOT_FOUND) {
        bnt_err_hint(err, "run: bnt fetch --force %.200s", out->source[0] ? out->source : "SOURCE");
    }
    return st;
}

enum bnt_status bnt_cache_temp_open(struct bnt_cache *c, struct bnt_cache_temp *t,
                                    struct bnt_err *err)
{
    *t = (struct bnt_cache_temp){.fd = -1};
    enum bnt_status st = store_temp_sweep(c->dir, bnt_clock_unix_s(), err);
    return st == BNT_OK ? store_temp_open(c->dir, t, err) : st;
}

void bnt_cache_temp_release(struct bnt_cache_temp *t)
{
    if (t->fd >= 0) {
        if (t->path[0]) {
            unlink(t->path); /* before close: the lock covers the removal */
        }
        close(t->fd);
        t->fd = -1;
    }
    bnt_chunk_tree_free(t->tree);
    t->tree = NULL;
}

/* In one transaction: show the blob of a temporary (NULL: the store has it already), its row and
 * its name. The rename is inside, so that a removal never sees a blob whose row is on its way. */
static enum bnt_status enter(struct bnt_cache *c, struct bnt_cache_temp *t,
                             const struct bnt_cache_entry *e, struct bnt_err *err)
{
    enum bnt_status st = index_begin(c->index, err);
    if (st == BNT_OK && t) {
        st = store_publish(c->dir, t, e->digest, err);
    }
    if (st == BNT_OK) {
        st = index_put_blob(c->index, e, t ? t->origin : BNT_CACHE_FROM_HAND, err);
    }
    if (st == BNT_OK && e->name[0]) {
        st = name_record_write(c->dir, e, err);
        st = st == BNT_OK ? index_put_name(c->index, e, err) : st;
    }
    if (st == BNT_OK) {
        st = index_commit(c->index, err);
    }
    if (st != BNT_OK) {
        index_rollback(c->index);
        if (e->name[0]) {
            name_record_restore(c, e->name);
        }
    }
    return st;
}

static enum bnt_status check_name(const char *name, struct bnt_err *err)
{
    if (name[0] == '\0' || bnt_cache_name_ok(name)) {
        return BNT_OK;
    }
    enum bnt_status st =
        bnt_err_set(err, BNT_E_USAGE, "'%.80s' cannot be the name of a model", name);
    bnt_err_hint(
        err,
        "use up to %d letters, digits and . _ + - , not beginning with . or -, not ending in .gguf",
        BNT_CACHE_NAME_MAX - 1);
    return st;
}

/* Keep the tree of a temporary. The blob may be damaged already when one is there: the new one is
 * of the bytes that were hashed. */
static enum bnt_status keep_tree(struct bnt_cache *c, struct bnt_cache_temp *t, const char *digest,
                                 struct bnt_err *err)
{
    struct bnt_chunk_tree *kept = NULL;
    enum bnt_status st = t->tree ? BNT_OK : tree_load(c->dir, digest, &kept, err);
    if (kept) { /* of the same content, or it would have another name */
        bnt_chunk_tree_free(kept);
        return st;
    }
    if (st == BNT_OK && !t->tree) {
        st = bnt_chunk_tree_of_file(t->path, c->interrupted, &t->tree, err);
    }
    return st == BNT_OK ? tree_store(c->dir, digest, t->tree, err) : st;
}

enum bnt_status bnt_cache_tree_root(struct bnt_cache *c, const char *digest, bool make,
                                    char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    struct bnt_chunk_tree *t = NULL;
    hex[0] = '\0';
    enum bnt_status st =
        make ? bnt_cache_tree_make(c, digest, &t, err) : bnt_cache_tree_load(c, digest, &t, err);
    if (st == BNT_OK && t) {
        st = bnt_chunk_tree_root(t, hex, err);
    }
    bnt_chunk_tree_free(t);
    return st;
}

enum bnt_status bnt_cache_add(struct bnt_cache *c, struct bnt_cache_temp *t,
                              struct bnt_cache_entry *entry, struct bnt_err *err)
{
    enum bnt_status st = check_name(entry->name, err);
    if (st == BNT_OK) {
        st = store_seal(t, &entry->size, err);
    }
    if (st == BNT_OK) {
        st = store_make_folder(c->dir, entry->digest, err);
    }
    if (st == BNT_OK) {
        st =
            ensure_index(c, err); /* before publish: a cache that cannot index should not fill up */
    }
    if (st == BNT_OK) {
        st = keep_tree(c, t, entry->digest, err);
    }
    if (st == BNT_OK) {
        entry->used_s = entry->verified_s = bnt_clock_unix_s();
        entry->fetched_s = entry->name[0] ? entry->verified_s : 0;
        st = enter(c, t, entry, err);
    }
    if (st == BNT_OK) {
        tier_drop(c->dir, entry->digest); /* a warm copy is of no use beside it */
        bnt_cache_temp_release(t);        /* and with it the lock that kept collections away */
    }
    return st;
}

enum bnt_status bnt_cache_set_name(struct bnt_cache *c, struct bnt_cache_entry *entry,
                                   struct bnt_err *err)
{
    struct bnt_cache_entry have = {0};
    size_t n = 0;
    enum bnt_status st = check_name(entry->name, err);
    if (st == BNT_OK && c->index) {
        st = index_find_digest(c->index, entry->digest, &have, &n, err);
    }
    if (st == BNT_OK && n == 0) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "cache: no blob %s", entry->digest);
    }
    if (st == BNT_OK) {
        entry->size = have.size;
        entry->verified_s = have.verified_s;
        entry->used_s = entry->fetched_s = bnt_clock_unix_s();
        st = enter(c, NULL, entry, err);
    }
    return st;
}

enum bnt_status bnt_cache_adopt(struct bnt_cache *c, struct bnt_err *err)
{
    if (!c->index || index_is_readonly(c->index)) {
        return BNT_OK;
    }
    struct adoption a = {.index = c->index};
    enum bnt_status st = index_begin(c->index, err);
    if (st == BNT_OK) {
        st = adopt_all(c->dir, &a, err);
    }
    if (st == BNT_OK) {
        st = name_record_complete(c, err);
    }
    if (st == BNT_OK) {
        st = index_commit(c->index, err);
    }
    if (st != BNT_OK) {
        index_rollback(c->index);
    }
    return st;
}

enum bnt_status bnt_cache_list(struct bnt_cache *c, struct bnt_cache_list *out, struct bnt_err *err)
{
    *out = (struct bnt_cache_list){0};
    return c->index ? index_list(c->index, out, err) : BNT_OK;
}

void bnt_cache_list_release(struct bnt_cache_list *l)
{
    free(l->at);
    *l = (struct bnt_cache_list){0};
}

/* Make the tree of a sound blob that has none. Whatever fails, the blob stays sound, and the next
 * verification tries again. */
static void note_tree(struct bnt_cache *c, const struct bnt_cache_entry *e, const char *path)
{
    struct bnt_chunk_tree *t = NULL;
    if (index_is_readonly(c->index) || tree_load(c->dir, e->digest, &t, NULL) != BNT_OK) {
        return;
    }
    if (!t && bnt_chunk_tree_of_file(path, c->interrupted, &t, NULL) == BNT_OK) {
        (void)tree_store(c->dir, e->digest, t, NULL);
    }
    bnt_chunk_tree_free(t);
}

static enum bnt_status note_verified(struct bnt_cache *c, struct bnt_cache_entry *entry,
                                     struct bnt_err *err)
{
    entry->verified_s = bnt_clock_unix_s();
    return index_set_verified(c->index, entry->digest, entry->verified_s, err);
}

/* What of an entry is looked at, and who is told how far that is. */
struct verification {
    struct bnt_cache_entry *entry;
    bnt_digest_progress_fn *progress;
    void *ctx;
};

static enum bnt_status verify_once(struct bnt_cache *c, const struct verification *v,
                                   enum bnt_cache_health *health, struct bnt_err *err)
{
    struct bnt_cache_entry *entry = v->entry;
    char path[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    bool in_store = false, warm = false, same = false, is_cold = false;
    struct bnt_cache_cold far;
    uint64_t size = 0, stored = 0;
    enum bnt_status st = store_stat(c->dir, entry->digest, &in_store, &size, err);
    if (st == BNT_OK && !in_store) {
        st = tier_stat(c->dir, entry->digest, &warm, &stored, err);
    }
    if (st == BNT_OK && warm) {
        st = tier_check(c, entry->digest, &same, err);
        *health = same ? BNT_CACHE_OK : BNT_CACHE_CORRUPT;
        return st == BNT_OK && same ? note_verified(c, entry, err) : st;
    }
    if (st == BNT_OK && (!in_store || size != entry->size)) {
        if (!in_store) {
            st = bnt_cache_cold(c, entry->digest, &far, &is_cold, err);
        }
        *health = in_store ? BNT_CACHE_SIZE_DIFFERS : is_cold ? BNT_CACHE_COLD : BNT_CACHE_MISSING;
        return st;
    }
    if (st == BNT_OK) {
        st = store_blob_path(c->dir, entry->digest, path, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_file(path, v->progress, v->ctx, hex, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    bool same_bytes = strcmp(hex, entry->digest) == 0 || BNT_FAULT(verify_blind);
    *health = same_bytes ? BNT_CACHE_OK : BNT_CACHE_CORRUPT;
    if (*health == BNT_CACHE_OK) {
        note_tree(c, entry, path);
        st = note_verified(c, entry, err);
    }
    return st;
}

enum bnt_status bnt_cache_verify(struct bnt_cache *c, struct bnt_cache_entry *entry,
                                 bnt_digest_progress_fn *progress, void *ctx,
                                 enum bnt_cache_health *health, struct bnt_err *err)
{
    const struct verification v = {entry, progress, ctx};
    enum bnt_status st = BNT_E_NOT_FOUND;
    /* A file that goes between look and reading has moved to the other tier, or was removed. */
    for (int i = 0; st == BNT_E_NOT_FOUND && i < VERIFY_TRIES; i++) {
        struct bnt_err why = {0};
        st = verify_once(c, &v, health, &why);
        if (st != BNT_OK && st != BNT_E_NOT_FOUND) {
            return bnt_err_copy(err, &why);
        }
    }
    *health = st == BNT_OK ? *health : BNT_CACHE_MISSING;
    return BNT_OK;
}
