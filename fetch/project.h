/* A project: a manifest, its lock file, and what is done with both. The commands lock, update and
 * fetch are thin shells around this. */
#ifndef BNT_FETCH_PROJECT_H
#define BNT_FETCH_PROJECT_H

#include "fetch/bnt_fetch.h"
#include "fetch/lockfile.h"
#include "fetch/manifest.h"

struct project {
    struct manifest manifest;
    struct lockfile lock;
};

struct project_opts {
    struct bnt_cache *cache;
    struct bnt_fetch_opts fetch;  /* name, sha256, force, move_name and nameless are set per file */
    enum bnt_fetch_update update; /* goes before what the manifest says */
    bnt_warn_fn *warn;            /* told when a mirror has to help; may be NULL */
    void *warn_ctx;
};

/* Read the manifest (`path`, or NULL: the one of the working folder, manifest_find) and the lock
 * file beside it. Errors: NOT_FOUND no manifest; those of manifest_read and lockfile_read. */
enum bnt_status project_open(struct project *p, const char *path, struct bnt_err *err);
void project_release(struct project *p);

/* The model of that name. Errors: NOT_FOUND with the nearest name. */
enum bnt_status project_model(const struct project *p, const char *name,
                              const struct manifest_model **out, struct bnt_err *err);

/* LOCK_DRIFT unless the lock file has what the manifest asks for: of one model, or (NULL) of all
 * and of no others. */
enum bnt_status project_check(const struct project *p, const struct manifest_model *model,
                              struct bnt_err *err);

/* Bring the lock's entry of a model up to date in memory (lockfile_write makes it durable). What
 * the manifest does not say is learned from the content, which is fetched into the cache without
 * a name. `refresh`: an entry that is up to date is made again, from the sources as they are now.
 */
enum bnt_status project_lock(struct project *p, const struct manifest_model *model, bool refresh,
                             const struct project_opts *opts, struct bnt_err *err);

/* The same, as the model's policy of updates says: an entry that fits stays, unless the policy
 * wants the source asked (docs/manifest.md). When that fails under `daily`, a warning is given and
 * the entry stays, too. */
enum bnt_status project_settle(struct project *p, const struct manifest_model *model,
                               const struct project_opts *opts, struct bnt_err *err);

/* Bring file `i` of a model that is locked into the cache, under its name, from the source or, when
 * that fails, a mirror. Errors: those of bnt_fetch, of the source; FILE a size or a chunk tree
 * that the lock contradicts. */
enum bnt_status project_fetch(const struct project *p, const struct manifest_model *model, size_t i,
                              const struct project_opts *opts, struct bnt_fetch_result *out,
                              struct bnt_err *err);

#endif
