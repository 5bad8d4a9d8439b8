/* The content-addressed folder.
 *
 *   <dir>/tmp/<random>               bytes that are still coming
 *   <dir>/blobs/sha256/<aa>/<hex>    finished blobs, mode 0444; <aa> begins <hex>
 *
 * Invariants:
 *   1. A file below blobs/ is whole, and hashed to its name when it was put there.
 *   2. It is never written again: it can only be replaced by rename, or removed. Whoever has mapped
 *      it keeps the old bytes.
 *   3. Its bytes were synced before the rename and its folder after, so 1 holds after a power cut.
 *   4. Nothing ever reads tmp/; a file there belongs to the process that holds its lock, and to
 *      nobody when that process is gone.
 *
 *   temp_open -> write -> seal -> make_folder -> publish
 *       |          |       |           |
 *       +----------+-------+-----------+---- death here leaves only a file in tmp/, which a
 *                                            later temp_sweep removes */
#include "cache/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOBS "blobs/sha256"

enum bnt_status store_blob_path(const char *dir, const char *digest, char out[BNT_PATH_MAX],
                                struct bnt_err *err)
{
    if (!bnt_sha256_is_hex(digest)) {
        return bnt_err_set(err, BNT_E_INTERNAL, "cache: '%.80s' is not a sha256 digest", digest);
    }
    return bnt_path_format(out, err, "%s/" BLOBS "/%.2s/%s", dir, digest, digest);
}

enum bnt_status store_temp_open(const char *dir, struct bnt_cache_temp *t, struct bnt_err *err)
{
    *t = (struct bnt_cache_temp){.fd = -1};
    enum bnt_status st = bnt_path_format(t->path, err, "%s/tmp", dir);
    if (st == BNT_OK) {
        st = bnt_mkdirs(t->path, err);
    }
    if (st == BNT_OK) {
        st = bnt_path_format(t->path, err, "%s/tmp/XXXXXX", dir);
    }
    if (st != BNT_OK) {
        bnt_err_hint(err, "set BNT_CACHE_DIR to a folder that can be written");
        return st;
    }
    t->fd = mkostemp(t->path, O_CLOEXEC);
    if (t->fd < 0) {
        st = bnt_err_errno(err, "cache: cannot make a file in %s/tmp", dir);
        bnt_err_hint(err, "set BNT_CACHE_DIR to a folder that can be written");
        return st;
    }
    /* The lock only tells a sweep that we live. Where locks do not work, the age alone protects the
     * file, and if even that fails, the rename reports that it is gone: bytes are lost, nothing is
     * damaged. */
    (void)flock(t->fd, LOCK_EX | LOCK_NB);
    return BNT_OK;
}

/* True when the file is old and its owner is gone. */
static bool abandoned(int dir_fd, const char *name, int64_t now_s)
{
    struct stat sb;
    if (fstatat(dir_fd, name, &sb, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(sb.st_mode) ||
        now_s - sb.st_mtime < STORE_TEMP_AGE_S) {
        return false;
    }
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return false;
    }
    bool free_of_owner = flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    close(fd);
    return free_of_owner;
}

enum bnt_status store_temp_sweep(const char *dir, int64_t now_s, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(path, err, "%s/tmp", dir);
    if (st != BNT_OK) {
        return st;
    }
    DIR *tmp = opendir(path);
    if (!tmp) {
        return errno == ENOENT ? BNT_OK : bnt_err_errno(err, "cache: cannot list %s", path);
    }
    for (struct dirent *e = readdir(tmp); e; e = readdir(tmp)) {
        if (abandoned(dirfd(tmp), e->d_name, now_s)) {
            /* Another process may have swept it first; then there is nothing left to do. */
            (void)unlinkat(dirfd(tmp), e->d_name, 0);
        }
    }
    closedir(tmp);
    return BNT_OK;
}

enum bnt_status store_seal(const struct bnt_cache_temp *t, uint64_t *size, struct bnt_err *err)
{
    struct stat sb;
    if (fchmod(t->fd, 0444) != 0 || bnt_file_sync(t->fd) != 0 || fstat(t->fd, &sb) != 0) {
        return bnt_err_errno(err, "cache: cannot bring %s to disk", t->path);
    }
    *size = (uint64_t)sb.st_size;
    return BNT_OK;
}

enum bnt_status store_make_folder_of(const char *dir, const char *path, struct bnt_err *err)
{
    char folder[BNT_PATH_MAX];
    enum bnt_status st = bnt_folder_of(path, folder, err);
    if (st == BNT_OK) {
        st = bnt_mkdirs(folder, err);
    }
    /* Not "made it ourselves": the process that made it may have died before its sync. */
    const size_t top = strlen(dir);
    for (char *slash; st == BNT_OK && (slash = strrchr(folder, '/')) && slash >= folder + top;) {
        *slash = '\0';
        st = bnt_dir_sync(folder, err);
    }
    return st;
}

enum bnt_status store_make_folder(const char *dir, const char *digest, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = store_blob_path(dir, digest, path, err);
    return st == BNT_OK ? store_make_folder_of(dir, path, err) : st;
}

enum bnt_status store_show(struct bnt_cache_temp *t, const char *path, struct bnt_err *err)
{
    char folder[BNT_PATH_MAX];
    if (bnt_file_rename(t->path, path) != 0) {
        return bnt_err_errno(err, "cache: cannot rename %s to %s", t->path, path);
    }
    t->path[0] = '\0';
    enum bnt_status st = bnt_folder_of(path, folder, err);
    return st == BNT_OK ? bnt_dir_sync(folder, err) : st;
}

enum bnt_status store_publish(const char *dir, struct bnt_cache_temp *t, const char *digest,
                              struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = store_blob_path(dir, digest, path, err);
    return st == BNT_OK ? store_show(t, path, err) : st;
}

enum bnt_status store_stat(const char *dir, const char *digest, bool *found, uint64_t *size,
                           struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = store_blob_path(dir, digest, path, err);
    if (st != BNT_OK) {
        return st;
    }
    struct stat sb;
    *found = false;
    *size = 0;
    if (stat(path, &sb) != 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? BNT_OK
                   : bnt_err_errno(err, "cache: cannot look at %s", path);
    }
    *found = S_ISREG(sb.st_mode);
    *size = *found ? (uint64_t)sb.st_size : 0;
    return BNT_OK;
}

enum bnt_status store_write_record(const char *dir, const char *path, const char *text,
                                   struct bnt_err *err)
{
    struct bnt_cache_temp t = {.fd = -1}; /* a death leaves it where it is swept */
    enum bnt_status st = store_make_folder_of(dir, path, err);
    if (st == BNT_OK) {
        st = store_temp_open(dir, &t, err);
    }
    if (st == BNT_OK) {
        st = bnt_write_all(t.fd, text, strlen(text), t.path, err);
    }
    if (st == BNT_OK && (fchmod(t.fd, 0644) != 0 || bnt_file_sync(t.fd) != 0)) {
        st = bnt_err_errno(err, "cache: cannot bring %s to disk", t.path);
    }
    if (st == BNT_OK) {
        st = store_show(&t, path, err);
    }
    bnt_cache_temp_release(&t);
    return st;
}

/* The digest that a file is named by, without the suffix; false when it is not ours. */
static bool digest_of_name(const char *name, const char *folder, const char *suffix,
                           char hex[BNT_SHA256_HEX])
{
    size_t n = strlen(name);
    if (n != BNT_SHA256_HEX - 1 + strlen(suffix) ||
        strcmp(name + BNT_SHA256_HEX - 1, suffix) != 0 || strncmp(name, folder, 2) != 0) {
        return false;
    }
    memcpy(hex, name, BNT_SHA256_HEX - 1);
    hex[BNT_SHA256_HEX - 1] = '\0';
    return bnt_sha256_is_hex(hex);
}

/* The files of one two-digit folder; anything with another name is not ours and is left alone. */
static enum bnt_status walk_folder(const char *path, const char *folder, const char *suffix,
                                   store_visit_fn *fn, void *ctx, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    DIR *d = opendir(path);
    if (!d) {
        return errno == ENOTDIR ? BNT_OK : bnt_err_errno(err, "cache: cannot list %s", path);
    }
    for (struct dirent *e = readdir(d); st == BNT_OK && e; e = readdir(d)) {
        char hex[BNT_SHA256_HEX];
        struct stat sb;
        if (digest_of_name(e->d_name, folder, suffix, hex) &&
            fstatat(dirfd(d), e->d_name, &sb, 0) == 0 && S_ISREG(sb.st_mode)) {
            st = fn(ctx, hex, (uint64_t)sb.st_size, err);
        }
    }
    closedir(d);
    return st;
}

enum bnt_status store_walk_below(const char *root, const char *suffix, store_visit_fn *fn,
                                 void *ctx, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = BNT_OK;
    DIR *d = opendir(root);
    if (!d) {
        return errno == ENOENT ? BNT_OK : bnt_err_errno(err, "cache: cannot list %s", root);
    }
    for (struct dirent *e = readdir(d); st == BNT_OK && e; e = readdir(d)) {
        if (strlen(e->d_name) == 2 && e->d_name[0] != '.') {
            st = bnt_path_format(path, err, "%s/%s", root, e->d_name);
            if (st == BNT_OK) {
                st = walk_folder(path, e->d_name, suffix, fn, ctx, err);
            }
        }
    }
    closedir(d);
    return st;
}

enum bnt_status store_walk(const char *dir, store_visit_fn *fn, void *ctx, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(path, err, "%s/" BLOBS, dir);
    return st == BNT_OK ? store_walk_below(path, "", fn, ctx, err) : st;
}
