/* Roots of chunk trees in the lock file: filled from what the cache knows, never by a download. */
#ifndef BNT_FETCH_LOCK_TREES_H
#define BNT_FETCH_LOCK_TREES_H

#include "fetch/lockfile.h"

/* Give a new entry the roots of an older one (NULL: none) for files whose digest is the same, and
 * those of the cache for the others; where the cache contradicts the older entry, it wins. A file
 * that had none gets none, so that an entry that is made again stays equal. */
enum bnt_status lock_trees_carry(struct bnt_cache *cache, const json_t *old, json_t *entry,
                                 struct bnt_err *err);
/* Bring the roots of a model's entry to what the cache knows. */
enum bnt_status lock_trees_fill(struct lockfile *l, const char *name, struct bnt_cache *cache,
                                struct bnt_err *err);
/* FILE when the content of a file that is in the cache has another root than the lock file says.
 * `name` is for the message. */
enum bnt_status lock_trees_check(struct bnt_cache *cache, const char *name,
                                 const struct lock_file *file, struct bnt_err *err);

#endif
