/* Pins and removal.
 *
 * A removal must not take a blob that somebody adds again at that moment. Both sides meet in the
 * index: an addition renames and writes its row inside one immediate transaction (cache.c), and
 * a removal is two of them:
 *
 *   claim the lock ─► [delete rows] ─► [still the claimed file? unlink] ─► let go
 *         |                          |
 *         |                          +-- death here: a blob without a row, costs space only
 *         +-- somebody uses it: nothing happens
 *
 * In the second transaction no addition is between its rename and its row; when one was faster, the
 * path leads to another file than the claimed one, and stays. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache_impl.h"
#include "cache/cold.h"
#include "cache/name_record.h"
#include "cache/packed_files.h"
#include "cache/store.h"
#include "cache/tier.h"
#include "cache/tree.h"

/* The records of names that are gone. */
static void drop_records(struct bnt_cache *c, const struct bnt_cache_list *names,
                         const char *digest)
{
    for (size_t i = 0; i < names->n; i++) {
        if (names->at[i].name[0] && strcmp(names->at[i].digest, digest) == 0) {
            name_record_drop(c->dir, names->at[i].name);
        }
    }
}

static enum bnt_status delete_rows(struct bnt_cache *c, const char *digest, struct bnt_err *err)
{
    struct bnt_cache_list names = {0};
    enum bnt_status st = index_begin(c->index, err);
    if (st == BNT_OK) {
        st = index_list(c->index, &names, err);
    }
    if (st == BNT_OK) {
        st = index_remove_blob(c->index, digest, err);
    }
    if (st == BNT_OK) {
        st = index_commit(c->index, err);
    }
    if (st != BNT_OK) {
        index_rollback(c->index);
    } else {
        drop_records(c, &names, digest);
    }
    bnt_cache_list_release(&names);
    return st;
}

/* Unlink a claimed file in a turn of the index, unless another one has taken its place. */
static enum bnt_status unlink_claimed(struct bnt_cache *c, const char *path, int fd, bool *gone,
                                      struct bnt_err *err)
{
    enum bnt_status st = index_begin(c->index, err);
    if (st != BNT_OK) {
        return st;
    }
    *gone = lease_same_file(path, fd);
    if (*gone && bnt_file_unlink(path) != 0 && errno != ENOENT) {
        st = bnt_err_errno(err, "cache: cannot remove %s", path);
    }
    index_rollback(c->index); /* nothing was written: only the turn was needed */
    return st;
}

/* Claim what there is of a blob: the hot file, else the warm one. */
static enum bnt_status claim_blob(struct bnt_cache *c, const char *digest, char path[BNT_PATH_MAX],
                                  enum lease_state *state, int *fd, struct bnt_err *err)
{
    enum bnt_status st = store_blob_path(c->dir, digest, path, err);
    if (st == BNT_OK) {
        st = lease_claim(path, state, fd, err);
    }
    if (st == BNT_OK && *state == LEASE_NO_BLOB) {
        st = tier_warm_path(c->dir, digest, path, err);
        if (st == BNT_OK) {
            st = lease_claim(path, state, fd, err);
        }
    }
    return st;
}

enum bnt_status cache_remove_blob(struct bnt_cache *c, const char *digest, enum lease_state *state,
                                  struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    bool gone = false;
    int fd = -1;
    enum bnt_status st = claim_blob(c, digest, path, state, &fd, err);
    if (st == BNT_OK && *state != LEASE_TAKEN) {
        st = delete_rows(c, digest, err);
    }
    if (st == BNT_OK && *state == LEASE_FREE) {
        st = unlink_claimed(c, path, fd, &gone, err);
    }
    if (st == BNT_OK && (gone || *state == LEASE_NO_BLOB)) {
        cold_drop(c->dir, digest);
    }
    if (st == BNT_OK && gone) {
        tier_drop(c->dir, digest);
        tree_remove(c->dir, digest);
        packed_drop(c->dir, digest);
    }
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

enum bnt_status cache_drop_hot(struct bnt_cache *c, const char *digest, enum lease_state *state,
                               struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    bool gone = false;
    int fd = -1;
    enum bnt_status st = store_blob_path(c->dir, digest, path, err);
    if (st == BNT_OK) {
        st = lease_claim(path, state, &fd, err);
    }
    if (st == BNT_OK && *state == LEASE_FREE) {
        st = unlink_claimed(c, path, fd, &gone, err);
        *state = gone ? LEASE_FREE : LEASE_TAKEN; /* somebody has just added it again */
    }
    if (fd >= 0) {
        close(fd);
    }
    return st;
}

enum bnt_status bnt_cache_pin(struct bnt_cache *c, const char *key, bool pinned,
                              struct bnt_cache_entry *out, struct bnt_err *err)
{
    enum bnt_status st = bnt_cache_find(c, key, out, err);
    if (st == BNT_OK) {
        st = index_set_pinned(c->index, out->digest, pinned, err);
    }
    if (st == BNT_OK) {
        out->pinned = pinned;
    }
    return st;
}

/* The name alone; its blob has others. */
static enum bnt_status remove_name(struct bnt_cache *c, const char *name, struct bnt_err *err)
{
    enum bnt_status st = index_begin(c->index, err);
    if (st == BNT_OK) {
        st = index_remove_name(c->index, name, err);
    }
    if (st == BNT_OK) {
        st = index_commit(c->index, err);
    }
    if (st != BNT_OK) {
        index_rollback(c->index);
    } else {
        name_record_drop(c->dir, name);
    }
    return st;
}

enum bnt_status bnt_cache_remove(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                                 bool *blob_removed, struct bnt_err *err)
{
    bool by_name = false;
    uint64_t n_names = 0;
    enum lease_state state = LEASE_FREE;
    *blob_removed = false;
    enum bnt_status st = bnt_cache_find(c, key, out, err);
    if (st == BNT_OK) {
        struct bnt_cache_entry row;
        st = bnt_cache_find_name(c, key, &row, &by_name, err);
    }
    if (st == BNT_OK) {
        st = index_count_names(c->index, out->digest, &n_names, err);
    }
    if (st == BNT_OK && by_name && n_names > 1) {
        return remove_name(c, key, err);
    }
    if (st == BNT_OK && out->pinned) {
        st = bnt_err_set(err, BNT_E_FAILED, "cache: %s is pinned", cache_label(out));
        bnt_err_hint(err, "run: bnt cache unpin %.200s", key);
    }
    if (st == BNT_OK) {
        st = cache_remove_blob(c, out->digest, &state, err);
    }
    if (st == BNT_OK && state == LEASE_TAKEN) {
        st = bnt_err_set(err, BNT_E_FAILED, "cache: %s is in use by a process", cache_label(out));
        bnt_err_hint(err, "end the program that has it open, then try again");
    }
    *blob_removed = st == BNT_OK;
    return st;
}
