/* Only what is certain is refused: the engine reads a model layer by layer when the memory does not
 * hold it, so a large file alone is no reason, and a machine is judged by what the manifest says.
 */
#include "fetch/project_needs.h"

#include <string.h>

#include "base/app.h"
#include "base/fault.h"

static enum bnt_status check_cpu(const struct project *p, const struct manifest_model *model,
                                 const struct project_machine *machine, struct bnt_err *err)
{
    for (size_t i = 0; i < model->requires.cpu.n; i++) {
        const struct manifest_text *t = &model->requires.cpu.at[i];
        const int has = machine->cpu_has(t->at);
        if (has < 0) {
            enum bnt_status st =
                bnt_err_set(err, BNT_E_FILE, "%.200s:%u:%u: '%.40s' is no feature that is known",
                            p->manifest.shown, t->line, t->column, t->at);
            bnt_err_hint(err, "features are: " BNT_CPU_FEATURES);
            return st;
        }
        if (has == 0) {
            enum bnt_status st = bnt_err_set(
                err, BNT_E_UNSUPPORTED, "%.200s:%u: %s requires %.40s, and this processor has none",
                p->manifest.shown, t->line, model->name, t->at);
            bnt_err_hint(err, "run it on another machine; bnt devices shows what this one has");
            return st;
        }
    }
    return BNT_OK;
}

enum bnt_status project_check_machine(const struct project *p, const struct manifest_model *model,
                                      const struct project_machine *machine, struct bnt_err *err)
{
    if (model->requires.memory > machine->memory) {
        enum bnt_status st = bnt_err_set(
            err, BNT_E_MEMORY, "%.200s:%u: %s requires %.1f GB of memory, and there is %.1f GB",
            p->manifest.shown, model->line, model->name, (double)model->requires.memory / 1e9,
            (double)machine->memory / 1e9);
        bnt_err_hint(err, "run it on a larger machine, or raise the limit of its cgroup");
        return st;
    }
    return check_cpu(p, model, machine, err);
}

uint64_t project_max_bytes(const struct manifest_model *model)
{
    const char *target = model->requires.target.at;
    return target && strcmp(target, "wasm32") == 0 ? BNT_WASM32_MAX_BYTES : 0;
}

uint64_t project_bytes(const struct project *p, const struct manifest_model *model)
{
    const json_t *entry = lockfile_entry(&p->lock, model->name);
    uint64_t sum = 0;
    for (size_t i = 0; i < lockfile_n_files(entry); i++) {
        sum += lockfile_file(entry, i).size;
    }
    return sum;
}

/* ---- the cache ---- */

static bool is_listed(void *ctx, const char *digest)
{
    return digest_list_has(ctx, digest) && !BNT_FAULT(limits_lock);
}

enum bnt_status project_collect(const struct project *p, struct bnt_cache *cache,
                                struct digest_list *also, struct bnt_cache_gc_report *out,
                                struct bnt_err *err)
{
    const struct manifest_limits *l = &p->manifest.limits;
    /* As it is by now: other processes may have locked more. */
    enum bnt_status st = p->lock.exists ? digest_list_read(also, p->lock.path, err) : BNT_OK;
    if (st != BNT_OK) {
        return st;
    }
    digest_list_sort(also);
    const struct bnt_cache_gc_opts gc = {.max_bytes = l->max_size,
                                         .min_free_bytes = l->min_free,
                                         .max_age_s = l->max_age_s,
                                         .demote_after_s = l->demote_after_s,
                                         .keep_latest = l->keep_latest,
                                         .keep = is_listed,
                                         .ctx = also};
    return bnt_cache_gc(cache, &gc, out, err);
}
