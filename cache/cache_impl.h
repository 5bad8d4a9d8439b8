/* The handle behind bnt_cache.h, for the files of cache/ that work on both the store and the index:
 * cache.c, lease.c, remove.c, gc.c. */
#ifndef BNT_CACHE_IMPL_H
#define BNT_CACHE_IMPL_H

#include "cache/bnt_cache.h"
#include "cache/index.h"

struct bnt_cache {
    char dir[BNT_PATH_MAX];
    struct cache_index *index; /* NULL while the folder does not exist: an empty cache */
    const volatile sig_atomic_t *interrupted; /* NULL, or non-zero ends what takes long */
};

/* How an error calls the entry. */
static inline const char *cache_label(const struct bnt_cache_entry *e)
{
    return e->name[0] ? e->name : e->digest;
}

/* Of a file; an interruption ends it. */
static inline enum bnt_status cache_digest_of_file(const struct bnt_cache *c, const char *path,
                                                   char hex[BNT_SHA256_HEX], struct bnt_err *err)
{
    return bnt_sha256_file(path, bnt_digest_stop, (void *)(uintptr_t)c->interrupted, hex, err);
}

/* OFFLINE for a blob that is far away alone. */
enum bnt_status cache_cold_error(const struct bnt_cache_entry *e, const struct bnt_cache_cold *cold,
                                 struct bnt_err *err);

/* What lease_claim found. */
enum lease_state {
    LEASE_FREE,   /* nobody uses the blob; *fd keeps it so until it is closed */
    LEASE_TAKEN,  /* a process uses it or is adding it */
    LEASE_NO_BLOB /* the store does not have it */
};

/* Claim a file of the store for removal, without waiting. Where the file system has no locks it is
 * free: see lease.c. */
enum bnt_status lease_claim(const char *path, enum lease_state *state, int *fd,
                            struct bnt_err *err);
/* Whether `path` still is the file that fd has open. */
bool lease_same_file(const char *path, int fd);

/* Remove a blob, its row and its names. *state other than LEASE_FREE: nothing was removed, or only
 * the rows of a blob that was gone. */
enum bnt_status cache_remove_blob(struct bnt_cache *c, const char *digest, enum lease_state *state,
                                  struct bnt_err *err);

/* Remove the hot file of a blob that has a warm copy; rows and names stay. */
enum bnt_status cache_drop_hot(struct bnt_cache *c, const char *digest, enum lease_state *state,
                               struct bnt_err *err);

#endif
