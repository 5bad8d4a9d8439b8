/* Advice on tiers: advise.h has the formula. The rows are those of a collection that may remove
 * nothing, so that what stays for a collection (pins, leases, lock file) stays here, too. */
#include "cache/advise.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "cache/tier.h"

#define GB 1e9
#define UNKNOWN (-1.0)

#define ADVISE_WORDS(identifier, words) words,
static const char *const tiers[] = {ADVISE_TIER_TABLE(ADVISE_WORDS)};
static const char *const verdicts[] = {ADVISE_VERDICT_TABLE(ADVISE_WORDS)};
#undef ADVISE_WORDS

const char *advise_tier_words(enum advise_tier t)
{
    return tiers[t];
}

const char *advise_verdict_words(enum advise_verdict v)
{
    return verdicts[v];
}

/* ---- one blob ---- */

static bool is_local(const char *source)
{
    return strncmp(source, "file:", strlen("file:")) == 0 ||
           strncmp(source, "bundled:", strlen("bundled:")) == 0;
}

/* What it takes compressed; 0 when that is not known, or is no gain. */
static uint64_t warm_bytes(const struct advise_row *row)
{
    uint64_t bytes = row->now == ADVISE_WARM ? row->stored : row->entry.counts.warm_bytes;
    return row->now != ADVISE_WARM && tier_saves_little(row->entry.size, bytes) ? 0 : bytes;
}

static void fill_costs(struct advise_row *row, const struct advise_prices *p)
{
    const double size = (double)row->entry.size / GB, h = row->uses;
    const double part = h * 3600 < ADVISE_MONTH_S ? h * 3600 / ADVISE_MONTH_S : 1;
    const double hot = size * p->hot_gb_month, far = size * p->cold_gb_month;
    const double sunk = row->has_far ? far : 0;
    const double warm = (double)warm_bytes(row) / GB * p->warm_gb_month;
    const double expand = size * ADVISE_EXPAND_CPU_S_PER_GB * p->cpu_second;
    const bool local = is_local(row->entry.source);
    const double again = local ? 0 : size * p->source_gb + p->request;
    row->cost[ADVISE_HOT] = hot + sunk;
    row->cost[ADVISE_WARM] =
        warm_bytes(row) ? (1 - part) * warm + part * hot + h * expand + sunk : UNKNOWN;
    row->cost[ADVISE_COLD] = far + part * hot + h * (size * p->cold_gb + p->request);
    row->cost[ADVISE_SOURCE] = row->entry.source[0] ? part * hot + h * again + sunk : UNKNOWN;
    if (BNT_FAULT(advise_no_traffic)) {
        row->cost[ADVISE_COLD] = far;
    }
}

static enum advise_tier cheapest(const struct advise_row *row)
{
    enum advise_tier best = row->now;
    for (int t = 0; t < ADVISE_TIERS; t++) {
        if (row->cost[t] >= 0 && row->cost[t] < row->cost[best]) {
            best = (enum advise_tier)t;
        }
    }
    return best;
}

void advise_judge(struct advise_row *row, const struct advise_prices *prices, int64_t now_s)
{
    const int64_t counted_s = now_s - row->entry.counts.since_s;
    const bool open = row->verdict < ADVISE_PINNED;
    row->best = row->now;
    /* What was counted for less than a day says nothing of a month: one use is not thousands. */
    row->uses = (double)row->entry.counts.use_hours * ADVISE_MONTH_S /
                (double)(counted_s > ADVISE_DAY_S ? counted_s : ADVISE_DAY_S);
    for (int t = 0; t < ADVISE_TIERS; t++) {
        row->cost[t] = UNKNOWN;
    }
    if (counted_s < ADVISE_MIN_S) {
        row->verdict = open ? ADVISE_YOUNG : row->verdict;
        return;
    }
    if (prices) {
        fill_costs(row, prices);
    }
    if (open && prices) {
        row->best = cheapest(row);
        row->verdict = row->best == row->now ? ADVISE_BEST : ADVISE_MOVE;
    } else if (open) {
        row->verdict = now_s - row->entry.used_s >= ADVISE_MIN_S ? ADVISE_IDLE : ADVISE_USED;
    }
}

void advise_command(const struct advise_row *row, char out[ADVISE_COMMAND_MAX])
{
    char key[BNT_CACHE_NAME_MAX];
    const char *const from = row->now == ADVISE_COLD ? "bnt cache pull " : "bnt path ";
    enum advise_tier to = row->best;
    out[0] = '\0';
    if (row->verdict == ADVISE_IDLE) { /* one step further away */
        const bool in_vain = row->entry.counts.warm_bytes > 0 && warm_bytes(row) == 0;
        to = row->now == ADVISE_HOT && !in_vain ? ADVISE_WARM : ADVISE_COLD;
    } else if (row->verdict != ADVISE_MOVE) {
        return;
    }
    /* A name is not enough to remove content that has several. */
    snprintf(key, sizeof key, row->n_names == 1 ? "%s" : "%.16s",
             row->n_names == 1 ? row->entry.name : row->entry.digest);
    if (to == row->now) {
        return;
    }
    if (to == ADVISE_HOT) {
        snprintf(out, ADVISE_COMMAND_MAX, "%s%s", from, key);
    } else if (to == ADVISE_WARM && row->now == ADVISE_COLD) {
        snprintf(out, ADVISE_COMMAND_MAX, "%s%s && bnt cache demote %s", from, key, key);
    } else {
        snprintf(out, ADVISE_COMMAND_MAX, "bnt cache %s %s",
                 to == ADVISE_WARM   ? "demote"
                 : to == ADVISE_COLD ? "push --move"
                                     : "rm",
                 key);
    }
}

/* ---- the cache ---- */

static enum bnt_status make_row(struct bnt_cache *c, const struct bnt_cache_gc_row *from,
                                const struct advise_opts *o, struct advise_row *row,
                                struct bnt_err *err)
{
    struct bnt_cache_cold far;
    *row = (struct advise_row){.entry = from->entry,
                               .n_names = from->n_names,
                               .stored = from->stored,
                               .now = from->cold          ? ADVISE_COLD
                                      : from->stored == 0 ? ADVISE_SOURCE
                                      : from->warm        ? ADVISE_WARM
                                                          : ADVISE_HOT};
    row->verdict = row->now == ADVISE_SOURCE                       ? ADVISE_GONE
                   : from->verdict == BNT_GC_KEPT_PINNED           ? ADVISE_PINNED
                   : from->verdict == BNT_GC_KEPT_LEASED           ? ADVISE_LEASED
                   : o->keep && o->keep(o->ctx, row->entry.digest) ? ADVISE_LISTED
                                                                   : ADVISE_BEST;
    return bnt_cache_cold(c, row->entry.digest, &far, &row->has_far, err);
}

static void add_up(struct advise_report *r, const struct advise_row *row)
{
    if (row->cost[row->now] >= 0) {
        r->cost_now += row->cost[row->now];
        r->cost_after += row->cost[row->best];
    }
    r->idle_bytes += row->verdict == ADVISE_IDLE ? row->stored : 0;
}

enum bnt_status advise_report(struct bnt_cache *c, const struct advise_opts *opts,
                              struct advise_report *out, struct bnt_err *err)
{
    const struct bnt_cache_gc_opts look = {.dry_run = true, .keep_latest = UINT64_MAX};
    struct bnt_cache_gc_report gc;
    const int64_t now_s = bnt_clock_unix_s();
    *out = (struct advise_report){0};
    enum bnt_status st = bnt_cache_gc(c, &look, &gc, err);
    if (st == BNT_OK) {
        out->at = calloc(gc.n + 1, sizeof *out->at);
        st = out->at ? BNT_OK : bnt_err_nomem(err, "advice", (gc.n + 1) * sizeof *out->at);
    }
    for (size_t i = 0; st == BNT_OK && i < gc.n; i++) {
        struct advise_row *row = &out->at[out->n++];
        st = make_row(c, &gc.at[i], opts, row, err);
        advise_judge(row, opts->prices, now_s);
        add_up(out, row);
    }
    bnt_cache_gc_report_release(&gc);
    return st;
}

void advise_report_release(struct advise_report *r)
{
    free(r->at);
    *r = (struct advise_report){0};
}
