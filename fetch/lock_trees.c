/* The digest of a file decides what it is; the root of its chunk tree only follows from that. It is
 * in the lock file so that a tree that comes over the network can be believed before the bytes. */
#include "fetch/lock_trees.h"

#include <string.h>

/* The file of that digest in an entry that may be NULL; *found: whether there is one. */
static struct lock_file same_file(const json_t *entry, const char *sha256, bool *found)
{
    struct lock_file file = {.tree = NULL};
    *found = false;
    for (size_t i = 0; !*found && i < lockfile_n_files(entry); i++) {
        file = lockfile_file(entry, i);
        *found = strcmp(file.sha256, sha256) == 0;
    }
    return file;
}

enum bnt_status lock_trees_carry(struct bnt_cache *cache, const json_t *old, json_t *entry,
                                 struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < lockfile_n_files(entry); i++) {
        char root[BNT_SHA256_HEX];
        bool had;
        const struct lock_file file = lockfile_file(entry, i);
        const struct lock_file before = same_file(old, file.sha256, &had);
        if (had && !before.tree) {
            continue;
        }
        st = bnt_cache_tree_root(cache, file.sha256, true, root, err);
        const char *tree = root[0] ? root : had ? before.tree : NULL;
        if (st == BNT_OK && tree) {
            st = lockfile_entry_tree(entry, i, tree, err);
        }
    }
    return st;
}

enum bnt_status lock_trees_fill(struct lockfile *l, const char *name, struct bnt_cache *cache,
                                struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    json_t *entry = json_deep_copy(lockfile_entry(l, name));
    if (!entry) {
        return bnt_err_nomem(err, LOCKFILE_FILE, 0);
    }
    for (size_t i = 0; st == BNT_OK && i < lockfile_n_files(entry); i++) {
        char root[BNT_SHA256_HEX];
        st = bnt_cache_tree_root(cache, lockfile_file(entry, i).sha256, true, root, err);
        if (st == BNT_OK && root[0]) {
            st = lockfile_entry_tree(entry, i, root, err);
        }
    }
    if (st != BNT_OK) {
        json_decref(entry);
        return st;
    }
    return lockfile_put(l, name, entry, err);
}

enum bnt_status lock_trees_check(struct bnt_cache *cache, const char *name,
                                 const struct lock_file *file, struct bnt_err *err)
{
    char root[BNT_SHA256_HEX];
    enum bnt_status st = bnt_cache_tree_root(cache, file->sha256, false, root, err);
    if (st != BNT_OK || !file->tree || !root[0] || strcmp(root, file->tree) == 0) {
        return st;
    }
    st =
        bnt_err_set(err, BNT_E_FILE, "%s says that %s has the chunk tree %.12s...; it has %.12s...",
                    LOCKFILE_FILE, name, file->tree, root);
    bnt_err_hint(err, "make it again: bnt lock");
    return st;
}
