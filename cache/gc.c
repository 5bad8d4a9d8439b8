/* Collection.
 *
 * The plan is made on a list, least recently used blob first; the rules in their order, each of
 * which only sees what the ones before have left:
 *
 *   1. pinned, leased, listed (a lock file names it), latest: stays, whatever follows
 *   2. without a name and unused for unnamed_age_s            -> no name
 *   3. unused for max_age_s                                   -> age
 *   4. while all that stay have more than max_bytes together  -> size
 *   5. while the disk has less than min_free_bytes free       -> free space
 *
 * Packed weights go before the models (packed_files.c).
 *
 * What stays and is hot, is not pinned, in use, listed or latest, and was not used for
 * demote_after_s is then compressed; what was not used for cold_after_s is moved away instead. What
 * is far away alone stays: it takes no space here.
 *
 * Leases are looked at before the plan, so that another blob goes where a used one cannot, and
 * again at each removal (remove.c), where a process may have been faster. A dry run stops after the
 * plan.
 */
#include "cache/gc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/fault.h"
#include "cache/cache_impl.h"
#include "cache/packed_files.h"
#include "cache/store.h"
#include "cache/tier.h"

static const struct {
    bool removes;
    const char *words;
} verdicts[] = {
#define BNT_CACHE_GC_ROW(identifier, removes, words) {removes, words},
    BNT_CACHE_GC_TABLE(BNT_CACHE_GC_ROW)
#undef BNT_CACHE_GC_ROW
};

bool bnt_cache_gc_removes(enum bnt_cache_gc_verdict v)
{
    return verdicts[v].removes;
}

const char *bnt_cache_gc_words(enum bnt_cache_gc_verdict v)
{
    return verdicts[v].words;
}

/* ---- the plan ---- */

static int by_last_use(const void *a, const void *b)
{
    const struct bnt_cache_gc_row *x = a, *y = b;
    if (x->entry.used_s != y->entry.used_s) {
        return x->entry.used_s < y->entry.used_s ? -1 : 1;
    }
    return strcmp(x->entry.digest, y->entry.digest);
}

static uint64_t bytes_kept(const struct bnt_cache_gc_report *r)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += bnt_cache_gc_removes(r->at[i].verdict) ? 0 : r->at[i].stored;
    }
    return sum;
}

static void plan_by_age(struct bnt_cache_gc_report *r, const struct bnt_cache_gc_opts *o,
                        int64_t now_s)
{
    int64_t unnamed_s = o->unnamed_age_s ? o->unnamed_age_s : BNT_CACHE_UNNAMED_AGE_S;
    for (size_t i = 0; i < r->n; i++) {
        struct bnt_cache_gc_row *row = &r->at[i];
        int64_t age_s = now_s - row->entry.used_s;
        if (row->verdict != BNT_GC_KEPT) {
            continue;
        }
        if (row->n_names == 0 && age_s > unnamed_s) {
            row->verdict = BNT_GC_UNNAMED;
        } else if (o->max_age_s && age_s > o->max_age_s) {
            row->verdict = BNT_GC_AGE;
        }
    }
}

/* Take the least recently used until `excess` bytes are gone; true when that could be done. */
static bool plan_excess(struct bnt_cache_gc_report *r, uint64_t excess,
                        enum bnt_cache_gc_verdict verdict)
{
    for (size_t i = 0; excess > 0 && i < r->n; i++) {
        struct bnt_cache_gc_row *row = &r->at[i];
        if (row->verdict == BNT_GC_KEPT && row->stored > 0) {
            row->verdict = verdict;
            excess -= row->stored < excess ? row->stored : excess;
        }
    }
    return excess == 0;
}

void gc_plan(struct bnt_cache_gc_report *r, const struct bnt_cache_gc_opts *o, int64_t now_s,
             uint64_t free_bytes)
{
    if (r->n > 1) {
        qsort(r->at, r->n, sizeof *r->at, by_last_use);
    }
    for (size_t i = 0; i < r->n; i++) {
        bool latest = r->n - i <= o->keep_latest;
        if (latest && r->at[i].verdict == BNT_GC_KEPT) {
            r->at[i].verdict = BNT_GC_KEPT_LATEST;
        }
    }
    r->bytes_before = bytes_kept(r);
    plan_by_age(r, o, now_s);
    uint64_t kept = bytes_kept(r);
    if (o->max_bytes && kept > o->max_bytes) {
        r->unmet |= !plan_excess(r, kept - o->max_bytes, BNT_GC_SIZE);
    }
    uint64_t free_then = free_bytes + (r->bytes_before - bytes_kept(r));
    if (o->min_free_bytes > free_then) {
        r->unmet |= !plan_excess(r, o->min_free_bytes - free_then, BNT_GC_FREE);
    }
}

/* ---- the cache ---- */

enum bnt_status bnt_cache_free_bytes(const struct bnt_cache *c, uint64_t *bytes,
                                     struct bnt_err *err)
{
    struct statvfs vfs;
    char at[BNT_PATH_MAX], up[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(at, err, "%s", c->dir);
    /* A cache that is not there yet will lie where its folders are. */
    while (st == BNT_OK && statvfs(at, &vfs) != 0) {
        int code = errno;
        st = bnt_folder_of(at, up, err);
        if (code != ENOENT || strcmp(at, up) == 0) {
            errno = code;
            return bnt_err_errno(err, "cache: cannot tell the free space of %s", c->dir);
        }
        memcpy(at, up, sizeof at);
    }
    if (st != BNT_OK) {
        return st;
    }
    return bnt_mul_u64(vfs.f_bavail, vfs.f_frsize, bytes)
               ? BNT_OK
               : bnt_err_set(err, BNT_E_FAILED, "cache: the free space of %s has no bounds",
                             c->dir);
}

/* What the store has of a blob, and whether somebody uses it. */
static enum bnt_status look_at_blob(struct bnt_cache *c, struct bnt_cache_gc_row *row,
                                    const struct bnt_cache_gc_opts *o, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    int fd = -1;
    struct bnt_cache_cold far;
    enum lease_state state = LEASE_NO_BLOB;
    enum bnt_status st = bnt_cache_tier(c, row->entry.digest, &row->warm, &row->stored, err);
    if (st == BNT_OK && row->stored == 0) {
        st = bnt_cache_cold(c, row->entry.digest, &far, &row->cold, err);
    }
    if (st == BNT_OK) {
        st = row->warm ? tier_warm_path(c->dir, row->entry.digest, path, err)
                       : store_blob_path(c->dir, row->entry.digest, path, err);
    }
    if (st == BNT_OK) {
        st = lease_claim(path, &state, &fd, err);
    }
    if (!row->warm && row->stored > 0 && !o->dry_run && state == LEASE_FREE) {
        /* What a death between two tiers has left. The claim lasts until it is gone, or a demotion
         * could drop the hot file meanwhile, and both would be lost. */
        tier_drop(c->dir, row->entry.digest);
    }
    if (fd >= 0) {
        close(fd);
    }
    row->verdict = row->entry.pinned && !BNT_FAULT(gc_pinned) ? BNT_GC_KEPT_PINNED
                   : state == LEASE_TAKEN                     ? BNT_GC_KEPT_LEASED
                   : row->cold                                ? BNT_GC_KEPT_COLD
                   : o->keep && !BNT_FAULT(gc_lock_file) && o->keep(o->ctx, row->entry.digest)
                       ? BNT_GC_KEPT_LISTED
                       : BNT_GC_KEPT;
    return st;
}

/* One row per blob, of a list that has one per name. */
static enum bnt_status gather(struct bnt_cache *c, const struct bnt_cache_gc_opts *o,
                              struct bnt_cache_gc_report *r, struct bnt_err *err)
{
    struct bnt_cache_list list;
    enum bnt_status st = bnt_cache_list(c, &list, err);
    if (st != BNT_OK) {
        return st;
    }
    r->at = calloc(list.n + 1, sizeof *r->at);
    if (!r->at) {
        st = bnt_err_nomem(err, "plan of the collection", (list.n + 1) * sizeof *r->at);
    }
    for (size_t i = 0; st == BNT_OK && i < list.n; i++) {
        size_t k = 0;
        while (k < r->n && strcmp(r->at[k].entry.digest, list.at[i].digest) != 0) {
            k++;
        }
        r->at[k].n_names += list.at[i].name[0] != '\0';
        if (k == r->n) {
            r->at[r->n++].entry = list.at[i];
            st = look_at_blob(c, &r->at[k], o, err);
        }
    }
    bnt_cache_list_release(&list);
    return st;
}

static uint64_t stored_bytes(const struct bnt_cache_gc_report *r)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        sum += r->at[i].stored;
    }
    return sum;
}

static enum bnt_status carry_out(struct bnt_cache *c, struct bnt_cache_gc_report *r, bool dry_run,
                                 struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < r->n; i++) {
        struct bnt_cache_gc_row *row = &r->at[i];
        enum lease_state state = LEASE_FREE;
        if (!bnt_cache_gc_removes(row->verdict)) {
            continue;
        }
        if (!dry_run) {
            st = cache_remove_blob(c, row->entry.digest, &state, err);
        }
        if (st == BNT_OK && state == LEASE_TAKEN) {
            row->verdict = BNT_GC_KEPT_LEASED;
        } else if (st == BNT_OK) {
            r->bytes_removed += row->stored;
            r->n_removed++;
        }
    }
    return st;
}

/* Whether a row is for the cold tier: it stays, and was not used for long. */
static bool goes_cold(const struct bnt_cache_gc_row *row, const struct bnt_cache_gc_opts *o,
                      int64_t now_s)
{
    return o->cold_after_s && row->verdict == BNT_GC_KEPT && row->stored > 0 &&
           now_s - row->entry.used_s > o->cold_after_s;
}

/* Move those away. Last of all: a network that fails keeps nothing else from being done. */
static enum bnt_status move_cold(struct bnt_cache *c, struct bnt_cache_gc_report *r,
                                 const struct bnt_cache_gc_opts *o, int64_t now_s,
                                 struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    struct bnt_cache_push_opts push = o->cold;
    push.move = true;
    for (size_t i = 0; st == BNT_OK && i < r->n; i++) {
        struct bnt_cache_gc_row *row = &r->at[i];
        struct bnt_cache_pushed p = {.moved = o->dry_run};
        if (!goes_cold(row, o, now_s)) {
            continue;
        }
        if (!o->dry_run) {
            st = bnt_cache_push(c, &row->entry, &push, &p, err);
        }
        if (p.moved) {
            row->verdict = BNT_GC_KEPT_COLD;
            row->cold = true;
            r->n_cold++;
            r->bytes_cold += row->stored;
        } else if (p.in_use) {
            row->verdict = BNT_GC_KEPT_LEASED;
        }
    }
    return st;
}

/* Whether compressing it saved too little when that was last tried. */
static bool was_in_vain(const struct bnt_cache_entry *e)
{
    return e->counts.warm_bytes > 0 && tier_saves_little(e->size, e->counts.warm_bytes) &&
           !BNT_FAULT(demote_in_vain);
}

/* Compress what stays and has not been used for long. A dry run cannot know what that would save.
 */
static enum bnt_status demote_old(struct bnt_cache *c, struct bnt_cache_gc_report *r,
                                  const struct bnt_cache_gc_opts *o, int64_t now_s,
                                  struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; o->demote_after_s && st == BNT_OK && i < r->n; i++) {
        struct bnt_cache_gc_row *row = &r->at[i];
        struct bnt_cache_demotion d = {0};
        if (row->verdict != BNT_GC_KEPT || row->warm || row->stored == 0 ||
            now_s - row->entry.used_s <= o->demote_after_s || goes_cold(row, o, now_s) ||
            was_in_vain(&row->entry)) {
            continue;
        }
        if (!o->dry_run) {
            st = bnt_cache_demote(c, &row->entry, &d, err);
        }
        if (d.moved || o->dry_run) {
            row->verdict = BNT_GC_KEPT_WARM;
            row->warm = true;
            r->n_demoted++;
            r->bytes_saved += d.moved ? d.before_bytes - d.after_bytes : 0;
        } else if (d.in_use) {
            row->verdict = BNT_GC_KEPT_LEASED;
        }
    }
    return st;
}

enum bnt_status bnt_cache_gc(struct bnt_cache *c, const struct bnt_cache_gc_opts *opts,
                             struct bnt_cache_gc_report *out, struct bnt_err *err)
{
    uint64_t free_bytes = 0;
    int64_t now_s = bnt_clock_unix_s();
    *out = (struct bnt_cache_gc_report){0};
    if (!c->index) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_cache_free_bytes(c, &free_bytes, err);
    if (st == BNT_OK && !opts->dry_run) {
        st = store_temp_sweep(c->dir, now_s, err);
    }
    if (st == BNT_OK && !opts->dry_run) {
        st = bnt_cache_adopt(c, err); /* or what has no row would never go */
    }
    if (st == BNT_OK) {
        st = gather(c, opts, out, err);
    }
    if (st == BNT_OK) {
        struct packed_limits l = {
            .model_bytes = stored_bytes(out), .free_bytes = free_bytes, .now_s = now_s};
        st = packed_collect(c->dir, opts, &l, out, err);
    }
    if (st == BNT_OK) {
        gc_plan(out, opts, now_s, free_bytes + out->packed_bytes_removed);
        st = carry_out(c, out, opts->dry_run, err);
    }
    if (st == BNT_OK) {
        st = demote_old(c, out, opts, now_s, err);
    }
    if (st == BNT_OK) {
        st = move_cold(c, out, opts, now_s, err);
    }
    return st;
}

void bnt_cache_gc_report_release(struct bnt_cache_gc_report *r)
{
    free(r->at);
    *r = (struct bnt_cache_gc_report){0};
}
