/* The warm tier: compressed copies, <dir>/warm/sha256/<aa>/<hex>.zst. tier.c begins with the
 * states.
 */
#ifndef BNT_CACHE_TIER_H
#define BNT_CACHE_TIER_H

#include "cache/bnt_cache.h"
#include "cache/store.h"

enum bnt_status tier_warm_path(const char *dir, const char *digest, char out[BNT_PATH_MAX],
                               struct bnt_err *err);
/* The warm copy of a blob: its size on disk; *found is false when there is none. */
enum bnt_status tier_stat(const char *dir, const char *digest, bool *found, uint64_t *stored_bytes,
                          struct bnt_err *err);
/* Make a blob hot again when only its warm copy is there. Fine when it is hot. Errors: NOT_FOUND
 * when the cache has neither, DIGEST when the warm copy is damaged. */
enum bnt_status tier_promote(struct bnt_cache *c, const char *digest, struct bnt_err *err);
/* Expand a warm copy without keeping it, and compare: *same. */
enum bnt_status tier_check(const struct bnt_cache *c, const char *digest, bool *same,
                           struct bnt_err *err);
/* What can be read of a damaged warm copy, as a file without a name. *fd is -1 when there is none.
 */
enum bnt_status tier_salvage(struct bnt_cache *c, const char *digest, int *fd, struct bnt_err *err);
/* Remove the warm copy; fine when there is none. */
void tier_drop(const char *dir, const char *digest);
/* Whether so many bytes, compressed, are too few less than the blob has. */
bool tier_saves_little(uint64_t blob_bytes, uint64_t warm_bytes);
/* Call fn for every warm copy with the size of its blob. */
enum bnt_status tier_walk(const char *dir, store_visit_fn *fn, void *ctx, struct bnt_err *err);

#endif
