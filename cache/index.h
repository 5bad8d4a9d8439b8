/* The index of the cache: <dir>/index.db. index.c begins with the schema and the invariants. */
#ifndef BNT_CACHE_INDEX_H
#define BNT_CACHE_INDEX_H

#include "cache/bnt_cache.h"

#define INDEX_SCHEMA 3 /* PRAGMA user_version */
#define INDEX_BUSY_MS                                                                              \
    30000 /* how long to wait for other processes; each holds the lock for milliseconds */

struct cache_index;

/* Open, and make the tables when they are not there: *fresh says that this call made them, and
 * leaves the transaction open so that the caller fills the index before anybody else sees it;
 * index_commit ends it. */
enum bnt_status index_open(const char *path, struct cache_index **out, bool *fresh,
                           struct bnt_err *err);
void index_close(struct cache_index *ix); /* NULL is fine; an open transaction is rolled back */

bool index_is_readonly(struct cache_index *ix);
enum bnt_status index_begin(struct cache_index *ix, struct bnt_err *err);
enum bnt_status index_commit(struct cache_index *ix, struct bnt_err *err);
void index_rollback(struct cache_index *ix);

/* Note a blob that was just put into the store, and where from; an existing row is brought up to
 * date. Of the entry: digest, size, verified_s and used_s. Inside a transaction. */
enum bnt_status index_put_blob(struct cache_index *ix, const struct bnt_cache_entry *entry,
                               enum bnt_cache_origin origin, struct bnt_err *err);
/* Note a blob that was found in the store; an existing row stays, since it knows the size that the
 * blob should have. Inside a transaction. */
enum bnt_status index_note_blob(struct cache_index *ix, const char *digest, uint64_t size,
                                int64_t used_s, struct bnt_err *err);
/* Give entry->name to entry->digest, taking it from whatever had it. Inside a transaction. */
enum bnt_status index_put_name(struct cache_index *ix, const struct bnt_cache_entry *entry,
                               struct bnt_err *err);
enum bnt_status index_set_verified(struct cache_index *ix, const char *digest, int64_t verified_s,
                                   struct bnt_err *err);

/* Note a use, unless another process holds the index right now or it cannot be written: a hit never
 * waits. */
void index_note_use(struct cache_index *ix, const char *digest, int64_t used_s);
/* Note what a blob takes compressed, under the same conditions. */
void index_note_warm(struct cache_index *ix, const char *digest, uint64_t warm_bytes);
enum bnt_status index_set_pinned(struct cache_index *ix, const char *digest, bool pinned,
                                 struct bnt_err *err);
/* The row of a blob and its names; fine when there is none. Inside a transaction. */
enum bnt_status index_remove_blob(struct cache_index *ix, const char *digest, struct bnt_err *err);
enum bnt_status index_remove_name(struct cache_index *ix, const char *name, struct bnt_err *err);
enum bnt_status index_count_names(struct cache_index *ix, const char *digest, uint64_t *n,
                                  struct bnt_err *err);

enum bnt_status index_find_name(struct cache_index *ix, const char *name,
                                struct bnt_cache_entry *out, bool *found, struct bnt_err *err);
/* prefix: lower-case hex. *n_found counts blobs, up to 2; *out is the first of the names of the
 * first. */
enum bnt_status index_find_digest(struct cache_index *ix, const char *prefix,
                                  struct bnt_cache_entry *out, size_t *n_found,
                                  struct bnt_err *err);
enum bnt_status index_list(struct cache_index *ix, struct bnt_cache_list *out, struct bnt_err *err);

#endif
