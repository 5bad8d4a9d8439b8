/* `bnt cache stats --advise`: which tier is the cheapest for each model, and what to run. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/msg.h"
#include "cache/advise.h"
#include "cache/cmd_cache_impl.h"

static json_t *cost_or_null(double cost)
{
    return cost < 0 ? json_null() : json_real(cost);
}

static json_t *row_json(const struct advise_row *row)
{
    char command[ADVISE_COMMAND_MAX];
    const struct bnt_cache_counts *n = &row->entry.counts;
    json_t *costs = json_object();
    advise_command(row, command);
    for (int t = 0; t < ADVISE_TIERS; t++) {
        (void)json_object_set_new(costs, advise_tier_words((enum advise_tier)t),
                                  cost_or_null(row->cost[t]));
    }
    json_t *counts = json_pack("{s:I, s:I, s:I, s:I, s:I, s:f}", "since_s", (json_int_t)n->since_s,
                               "use_hours", (json_int_t)n->use_hours, "from_source",
                               (json_int_t)n->from_source, "from_cold", (json_int_t)n->from_cold,
                               "from_warm", (json_int_t)n->from_warm, "uses_per_month", row->uses);
    return json_pack("{s:o, s:s, s:I, s:I, s:s, s:s, s:s, s:o, s:o, s:o}", "name",
                     cmd_cache_text_or_null(row->entry.name), "digest", row->entry.digest, "size",
                     (json_int_t)row->entry.size, "stored", (json_int_t)row->stored, "tier",
                     advise_tier_words(row->now), "best", advise_tier_words(row->best), "advice",
                     advise_verdict_words(row->verdict), "run", cmd_cache_text_or_null(command),
                     "counts", counts, "cost_per_month", costs);
}

static json_t *report_json(const struct advise_report *r, const struct advise_prices *p)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < r->n; i++) {
        if (json_array_append_new(rows, row_json(&r->at[i])) != 0) {
            json_decref(rows);
            return NULL;
        }
    }
    return json_pack("{s:b, s:o, s:o, s:o, s:I, s:o}", "prices", p != NULL, "currency",
                     p ? cmd_cache_text_or_null(p->currency) : json_null(), "cost_now",
                     p ? json_real(r->cost_now) : json_null(), "cost_after",
                     p ? json_real(r->cost_after) : json_null(), "idle_bytes",
                     (json_int_t)r->idle_bytes, "models", rows);
}

static void print_row(const struct advise_row *row, int width, int64_t now_s)
{
    const struct bnt_cache_counts *n = &row->entry.counts;
    char command[ADVISE_COMMAND_MAX];
    printf("%-*s  %.12s  %10.1f  %6.1f  %8.1f  %5llu  %-6s", width,
           cmd_cache_shown_name(&row->entry), row->entry.digest, (double)row->entry.size / 1e6,
           (double)(now_s - n->since_s) / ADVISE_DAY_S, row->uses,
           (unsigned long long)(n->from_source + n->from_cold), advise_tier_words(row->now));
    for (int t = 0; t < ADVISE_TIERS; t++) {
        if (row->cost[t] < 0) {
            printf("  %9s", "-");
        } else {
            printf("  %9.4f", row->cost[t]);
        }
    }
    advise_command(row, command);
    const bool move = row->verdict == ADVISE_MOVE;
    printf("  %s%s%s\n", move ? advise_tier_words(row->best) : advise_verdict_words(row->verdict),
           command[0] ? ": " : "", command);
}

static void print_report(const struct advise_report *r, const struct advise_prices *p,
                         int64_t now_s)
{
    int width = (int)strlen("NAME");
    for (size_t i = 0; i < r->n; i++) {
        int n = (int)strlen(cmd_cache_shown_name(&r->at[i].entry));
        width = n > width ? n : width;
    }
    printf("%-*s  %-12s  %10s  %6s  %8s  %5s  %-6s  %9s  %9s  %9s  %9s  %s\n", width, "NAME",
           "SHA256", "MB", "DAYS", "USES/30D", "MOVED", "TIER", "HOT", "WARM", "COLD", "SOURCE",
           "ADVICE");
    for (size_t i = 0; i < r->n; i++) {
        print_row(&r->at[i], width, now_s);
    }
    if (p) {
        printf("a month costs %.4f%s%s now, %.4f after\n", r->cost_now, p->currency[0] ? " " : "",
               p->currency, r->cost_after);
    } else {
        printf("%.1f MB were not used for 7 days; prices are missing (--prices FILE), so no tier "
               "is called the cheapest\n",
               (double)r->idle_bytes / 1e6);
    }
}

enum bnt_status cmd_cache_advise(const struct cmd_cache_advise_opts *o)
{
    struct bnt_err err = {0};
    struct digest_list listed = {0};
    struct advise_prices prices = {.currency = ""};
    struct advise_report report = {0};
    struct bnt_cache *cache = NULL;
    const struct advise_opts opts = {
        .prices = o->prices ? &prices : NULL, .keep = cmd_cache_is_listed, .ctx = &listed};
    enum bnt_status st = cmd_cache_read_lock(o->lock, &listed, &err);
    if (st == BNT_OK && o->prices) {
        st = advise_prices_read(o->prices, &prices, &err);
    }
    if (st == BNT_OK) {
        st = bnt_cache_open(NULL, &cache, &err);
    }
    if (st == BNT_OK) {
        st = advise_report(cache, &opts, &report, &err);
    }
    if (st != BNT_OK) {
        st = bnt_msg_error(&err);
    } else if (o->json) {
        st = cmd_cache_print_json(report_json(&report, opts.prices));
    } else {
        print_report(&report, opts.prices, bnt_clock_unix_s());
    }
    advise_report_release(&report);
    bnt_cache_close(cache);
    digest_list_release(&listed);
    return st;
}
