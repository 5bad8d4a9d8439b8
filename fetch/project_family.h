/* Models that are more files than the manifest names: they are found when the model is locked, and
 * the lock file knows them from then on. */
#ifndef BNT_FETCH_PROJECT_FAMILY_H
#define BNT_FETCH_PROJECT_FAMILY_H

#include "fetch/project.h"

/* Give the model the files that its lock entry has beyond those that the manifest names. */
enum bnt_status project_grow_from_lock(struct project *p, const struct manifest_model *model,
                                       struct bnt_err *err);
/* Take them away again: the model is to be locked anew. */
void project_shrink(struct project *p, const struct manifest_model *model);
/* Look for the files that belong to the model, whose named files are in the new entry. */
enum bnt_status project_grow(struct project *p, const struct manifest_model *model,
                             const json_t *entry, const struct bnt_fetch_opts *opts,
                             struct bnt_err *err);

/* Where file `i` of a model lies: as manifest_source, or where it was found. */
enum bnt_status project_place(const struct project *p, const struct manifest_model *model, size_t i,
                              const struct manifest_text *mirror, const char *revision,
                              char out[BNT_CACHE_SOURCE_MAX], struct bnt_err *err);

#endif
