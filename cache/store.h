/* The bytes of the cache: <dir>/blobs/sha256/<aa>/<hex> and <dir>/tmp. store.c begins with the
 * invariants. The steps of an addition are separate functions so that tests can stop between them,
 * as a killed process does. */
#ifndef BNT_CACHE_STORE_H
#define BNT_CACHE_STORE_H

#include "cache/bnt_cache.h"

/* Longest time for which a temporary that nobody writes is left alone: far above any time-out of a
 * transfer. */
#define STORE_TEMP_AGE_S 3600

enum bnt_status store_blob_path(const char *dir, const char *digest, char out[BNT_PATH_MAX],
                                struct bnt_err *err);

enum bnt_status store_temp_open(const char *dir, struct bnt_cache_temp *t, struct bnt_err *err);
/* Remove temporaries that were not written for STORE_TEMP_AGE_S before now_s and that no live
 * process has locked. */
enum bnt_status store_temp_sweep(const char *dir, int64_t now_s, struct bnt_err *err);

/* Write a small text to `path`, below `dir`, making its folder: whole or not at all, and durable.
 */
enum bnt_status store_write_record(const char *dir, const char *path, const char *text,
                                   struct bnt_err *err);

/* Make the folder of a file below dir, durable with those above it. */
enum bnt_status store_make_folder_of(const char *dir, const char *path, struct bnt_err *err);
/* The rename that shows a temporary as the file of this path, durable. It has no path any more. */
enum bnt_status store_show(struct bnt_cache_temp *t, const char *path, struct bnt_err *err);

/* Step 1: mode 0444 and the bytes on disk. */
enum bnt_status store_seal(const struct bnt_cache_temp *t, uint64_t *size, struct bnt_err *err);
/* Step 2: the folder of the blob, durable. */
enum bnt_status store_make_folder(const char *dir, const char *digest, struct bnt_err *err);
/* Step 3: store_show of the blob. Its file stays open and locked until bnt_cache_temp_release, so
 * that no collection takes the blob before its row is in the index. */
enum bnt_status store_publish(const char *dir, struct bnt_cache_temp *t, const char *digest,
                              struct bnt_err *err);

/* Size of a blob; *found is false when the store does not have it. */
enum bnt_status store_stat(const char *dir, const char *digest, bool *found, uint64_t *size,
                           struct bnt_err *err);

/* Call fn for every blob. fn's failure ends the walk and is returned. */
typedef enum bnt_status store_visit_fn(void *ctx, const char *digest, uint64_t size,
                                       struct bnt_err *err);
/* The same for files named by digest and suffix in the two-digit folders of `root`; size is that of
 * the file. */
enum bnt_status store_walk_below(const char *root, const char *suffix, store_visit_fn *fn,
                                 void *ctx, struct bnt_err *err);
enum bnt_status store_walk(const char *dir, store_visit_fn *fn, void *ctx, struct bnt_err *err);

#endif
