/* The cold tier: blobs that lie on another machine. Here is what remembers where:
 * <dir>/cold/sha256/<aa>/<hex>.json. cold.c begins with the invariants. */
#ifndef BNT_CACHE_COLD_H
#define BNT_CACHE_COLD_H

#include "cache/bnt_cache.h"
#include "cache/store.h"

/* Forget where a blob lies; fine when it lies nowhere. */
void cold_drop(const char *dir, const char *digest);
/* Call fn for every record with the size of its blob. */
enum bnt_status cold_walk(const char *dir, store_visit_fn *fn, void *ctx, struct bnt_err *err);

/* Before a look-up: bring back what the key leads to when it is far away alone. Without a network
 * (NULL) and for any other key nothing happens; the look-up says what is wrong. */
enum bnt_status cold_bring(struct bnt_cache *c, const char *key, const struct bnt_network *network,
                           struct bnt_err *err);

#endif
