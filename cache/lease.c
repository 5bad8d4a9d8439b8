/* Leases: who uses a blob says so, and nobody removes it meanwhile.
 *
 * A lease is a shared flock on an open file description of the blob itself; it ends with the
 * process at the latest, so no lease outlives a crash. Who wants to remove takes the exclusive
 * lock without waiting, and leaves the blob alone when that fails. A blob that is being added is
 * locked exclusively by its adder until its row is in the index (the lock of the temporary moves
 * with the file through the rename).
 *
 * Invariants:
 *   1. While a lease is held and locks work, `path` leads to the leased file: lease_take looks
 *      again after it has the lock, so a removal that came first is seen.
 *   2. Locks are advice. On a file system that has none, or one that answers success without
 *      locking, a used blob can be removed: a program that has it open or mapped keeps its bytes,
 *      since the file lives until its last user is gone, and the next one fetches it again. That
 *      costs bandwidth, never correctness. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "cache/cache_impl.h"
#include "cache/store.h"

/* A removal or replacement can come between open and lock; each needs a whole fetch, so a handful
 * of tries is for ever. */
enum { LEASE_TRIES = 8 };

bool lease_same_file(const char *path, int fd)
{
    struct stat a, b;
    return fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

enum bnt_status lease_claim(const char *path, enum lease_state *state, int *fd, struct bnt_err *err)
{
    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0) {
        *state = LEASE_NO_BLOB;
        return errno == ENOENT ? BNT_OK : bnt_err_errno(err, "cache: cannot open %s", path);
    }
    *state = LEASE_FREE;
    if (flock(*fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK && !BNT_FAULT(lease_blind)) {
        *state = LEASE_TAKEN;
        close(*fd);
        *fd = -1;
    }
    return BNT_OK;
}

enum bnt_status bnt_cache_lease_take(struct bnt_cache *c, const char *digest,
                                     struct bnt_cache_lease *l, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    l->fd = -1;
    enum bnt_status st = store_blob_path(c->dir, digest, path, err);
    for (int i = 0; st == BNT_OK && i < LEASE_TRIES; i++) {
        l->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (l->fd < 0) {
            return bnt_err_errno(err, "cache: cannot open %s", path);
        }
        /* An adder or a collector holds the lock for milliseconds. */
        while (flock(l->fd, LOCK_SH) != 0 && errno == EINTR) {
        }
        if (lease_same_file(path, l->fd)) {
            return BNT_OK;
        }
        bnt_cache_lease_release(l);
    }
    return st == BNT_OK ? bnt_err_set(err, BNT_E_FAILED, "cache: %s changes all the time", path)
                        : st;
}

void bnt_cache_lease_release(struct bnt_cache_lease *l)
{
    if (l->fd >= 0) {
        close(l->fd);
        l->fd = -1;
    }
}

enum bnt_status bnt_cache_use(struct bnt_cache *c, const char *key, struct bnt_cache_entry *out,
                              char path[BNT_PATH_MAX], struct bnt_cache_lease *l,
                              struct bnt_err *err)
{
    /* Between the two a collection may compress the blob; the second look-up brings it back. */
    l->fd = -1;
    enum bnt_status st = bnt_cache_lookup(c, key, out, path, err);
    if (st == BNT_OK && bnt_cache_lease_take(c, out->digest, l, NULL) != BNT_OK) {
        st = bnt_cache_lookup(c, key, out, path, err);
        if (st == BNT_OK) {
            st = bnt_cache_lease_take(c, out->digest, l, err);
        }
    }
    return st;
}
