/* What a project asks of the machine: what must be there for a model to run, and what the cache may
 * take up. */
#ifndef BNT_FETCH_PROJECT_NEEDS_H
#define BNT_FETCH_PROJECT_NEEDS_H

#include "cache/digest_list.h"
#include "fetch/project.h"

struct project_machine {
    uint64_t memory;                     /* bytes that a process may use */
    int (*cpu_has)(const char *feature); /* as struct bnt_app has it */
};

/* Whether the machine has what the manifest says that the model requires. Errors: MEMORY;
 * UNSUPPORTED a processor without the feature; FILE a feature that nobody knows, with its line. */
enum bnt_status project_check_machine(const struct project *p, const struct manifest_model *model,
                                      const struct project_machine *machine, struct bnt_err *err);

/* The most that a model's files may have together for its target, bytes; 0: no limit. */
uint64_t project_max_bytes(const struct manifest_model *model);
/* What they have by the lock file; 0: it is not locked. */
uint64_t project_bytes(const struct project *p, const struct manifest_model *model);

/* Keep the cache within the limits of the manifest. What the lock file names stays, and so does
 * `also` (of what was fetched besides). The caller releases the report. */
enum bnt_status project_collect(const struct project *p, struct bnt_cache *cache,
                                struct digest_list *also, struct bnt_cache_gc_report *out,
                                struct bnt_err *err);

#endif
