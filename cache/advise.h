/* What each tier costs for a blob, and which is the cheapest: from counted use and stated prices.
 *
 * Per month of 30 days, with S the size in GB (1e9 bytes), W the size compressed, h the hours with
 * a use in a month (bnt_cache_counts.use_hours, scaled from the time that was counted) and f =
 * min(1, h / 720), the part of the time in which a used blob is hot whatever its tier:
 *
 *     hot     S * hot_gb_month
 *     warm    (1 - f) * W * warm_gb_month + f * S * hot_gb_month + h * S * 1.4 * cpu_second
 *     cold    S * cold_gb_month + f * S * hot_gb_month + h * (S * cold_gb + request)
 *     source  f * S * hot_gb_month + h * (S * source_gb + request)
 *
 * It is the most that a tier can cost: as if each hour of use found the blob there again. A far
 * copy stays when a blob comes back or is forgotten, so hot, warm and source cost S * cold_gb_month
 * more where there is one. What cannot be said has no cost: warm of a blob that never was
 * compressed, or that was and saved nothing; source of a blob that no name says where to get. A
 * file of this machine comes for nothing. 1.4 is the measured processor time of expanding a GB
 * (docs/cache.md).
 */
#ifndef BNT_CACHE_ADVISE_H
#define BNT_CACHE_ADVISE_H

#include "cache/bnt_cache.h"

#define ADVISE_DAY_S (24 * 3600)
#define ADVISE_MONTH_S (30 * ADVISE_DAY_S)
#define ADVISE_MIN_S (7 * ADVISE_DAY_S) /* counted for less: not enough use to decide */
#define ADVISE_EXPAND_CPU_S_PER_GB 1.4
#define ADVISE_PRICE_MAX 1e9
#define ADVISE_CURRENCY_MAX 16 /* bytes with the terminator */

/* The numbers of a price file, all of one currency. */
#define ADVISE_PRICE_TABLE(X)                                                                      \
    X(hot_gb_month)  /* storage of the cache folder */                                             \
    X(warm_gb_month) /* the same, for compressed copies */                                         \
    X(cold_gb_month) /* storage far away */                                                        \
    X(source_gb)     /* moving a GB from the source */                                             \
    X(cold_gb)       /* moving a GB from the cold tier */                                          \
    X(request)       /* of the source or the cold tier, one per blob */                            \
    X(cpu_second)    /* of expanding */

struct advise_prices {
#define ADVISE_PRICE_FIELD(name) double name;
    ADVISE_PRICE_TABLE(ADVISE_PRICE_FIELD)
#undef ADVISE_PRICE_FIELD
    char currency[ADVISE_CURRENCY_MAX]; /* "" when the file does not say */
};

/* Read a price file: a map in YAML or JSON with every price of the table, from 0 to
 * ADVISE_PRICE_MAX, and `currency` where wanted. Errors: FILE with line and column; NOT_FOUND. */
enum bnt_status advise_prices_read(const char *path, struct advise_prices *out,
                                   struct bnt_err *err);

#define ADVISE_TIER_TABLE(X)                                                                       \
    X(ADVISE_HOT, "hot")                                                                           \
    X(ADVISE_WARM, "warm")                                                                         \
    X(ADVISE_COLD, "cold")                                                                         \
    X(ADVISE_SOURCE, "source")
#define ADVISE_VERDICT_TABLE(X)                                                                    \
    X(ADVISE_BEST, "cheapest already")                                                             \
    X(ADVISE_MOVE, "move")                                                                         \
    X(ADVISE_IDLE, "not used for 7 days")                                                          \
    X(ADVISE_USED, "in regular use")                                                               \
    X(ADVISE_YOUNG, "not enough use to decide")                                                    \
    X(ADVISE_PINNED, "pinned")                                                                     \
    X(ADVISE_LEASED, "in use")                                                                     \
    X(ADVISE_LISTED, "lock file")                                                                  \
    X(ADVISE_GONE, "file is gone")
#define ADVISE_ID(identifier, words) identifier,
enum advise_tier { ADVISE_TIER_TABLE(ADVISE_ID) ADVISE_TIERS };
/* MOVE and BEST need prices; IDLE and USED stand for them without. */
enum advise_verdict { ADVISE_VERDICT_TABLE(ADVISE_ID) ADVISE_VERDICTS };
#undef ADVISE_ID
const char *advise_tier_words(enum advise_tier t);       /* static */
const char *advise_verdict_words(enum advise_verdict v); /* static */

struct advise_row {
    struct bnt_cache_entry entry; /* of the blob's first name */
    uint64_t n_names, stored;     /* stored: bytes on disk */
    bool has_far;
    enum advise_tier now, best; /* best: where it should be; now unless the verdict is MOVE */
    enum advise_verdict verdict;
    double uses;               /* hours with a use, per month */
    double cost[ADVISE_TIERS]; /* per month; negative: cannot be said. All are without prices. */
};

struct advise_report {
    struct advise_row *at; /* least recently used first */
    size_t n;
    double cost_now, cost_after; /* per month, of all that have a cost */
    uint64_t idle_bytes;         /* on disk, of what was not used for ADVISE_MIN_S and may go */
};

/* Fill uses, cost, best and verdict of a row that has the rest; a verdict of PINNED, LEASED, LISTED
 * or GONE stays. prices may be NULL. */
void advise_judge(struct advise_row *row, const struct advise_prices *prices, int64_t now_s);

/* Judge every blob. `keep` and `ctx` are those of bnt_cache_gc_opts. */
struct advise_opts {
    const struct advise_prices *prices; /* NULL: none */
    bool (*keep)(void *ctx, const char *digest);
    void *ctx;
};
enum bnt_status advise_report(struct bnt_cache *c, const struct advise_opts *opts,
                              struct advise_report *out, struct bnt_err *err);
void advise_report_release(struct advise_report *r);

/* What to run for a row, "" when nothing. */
#define ADVISE_COMMAND_MAX 512
void advise_command(const struct advise_row *row, char out[ADVISE_COMMAND_MAX]);

#endif
