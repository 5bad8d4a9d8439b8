/* Depots: places that hold blobs by their digest. Other machines' caches (bnt cache serve), and
 * whatever a cold tier is kept on: a WebDAV server, S3. A blob is at
 * <place>/v1/blobs/sha256/<hex>, whoever serves it. */
#ifndef BNT_FETCH_DEPOT_H
#define BNT_FETCH_DEPOT_H

#include "base/app.h"
#include "fetch/source.h"

/* Where a depot has a blob, for one method ("GET", "PUT"): signed when it is in S3, and with the
 * token of BNT_CACHE_TOKEN when it is a server. Errors: USAGE when the place is none. */
enum bnt_status depot_source(const char *place, const char *digest, const char *method,
                             struct source *out, struct bnt_err *err);

/* bnt_network's place, put, prove and recall. */
enum bnt_status depot_place(const char *text, char out[BNT_PLACE_MAX], struct bnt_err *err);
enum bnt_status depot_put(const struct bnt_far_blob *blob, const char *path, struct bnt_err *err);
enum bnt_status depot_prove(const struct bnt_far_blob *blob, bool *same, struct bnt_err *err);
enum bnt_status depot_recall(struct bnt_cache *cache, const struct bnt_far_blob *blob,
                             struct bnt_err *err);

#endif
