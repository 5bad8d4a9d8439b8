/* The circuit breaker, one circuit per scheme, host and port.
 *
 * Invariants:
 *   1. Every decision is one immediate transaction over net.db, so processes see one order of them;
 *      no decision is kept in memory.
 *   2. While open_until_s lies ahead, nobody is let through, except to the last mirror.
 *   3. When half open, one probe at most is under way: probe_until_s lies ahead while it is. A
 *      probe whose process died is forgotten after BREAKER_PROBE_S.
 *   4. Only what a server did counts: answers such as 404 or 403 are good ones, an interrupt or a
 *      full disk here is no outcome at all.
 *   5. net.db is advice. Losing it costs requests; it is not synced to disk, and replaced when it
 *      cannot be read.
 *
 *                 at least BREAKER_CALLS_MIN calls in the window, and
 *                 half of them failed or 80 % of them slow (breaker_report)
 *        CLOSED ----------------------------------------------------------> OPEN <-+
 *          ^                                                                 |     |
 *          |                                   open_until_s passed,          |     | probe failed:
 *          |                                   one is let through            |     | twice as long
 *          |                                   (breaker_ask)                 v     |
 *          +-------------------------------------------------------------- HALF ---+
 *                 probe was good: the window is emptied (breaker_report)   OPEN
 *
 * A pause that a server asked for (cool_until_s) is apart from that: it holds in every state and
 * for every process, and the last mirror is no exception. */
#include "fetch/breaker.h"

#include <ctype.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "fetch/net_db.h"

#define RATE_WEIGHT 4 /* the latest rate counts 1/4 */

struct breaker {
    sqlite3 *db;
};

/* A row as it lies in the table. */
struct circuit {
    int64_t state, open_until_s, probe_until_s, closed_s, ejections, cool_until_s, rate;
};

/* ---- rows ---- */

/* A time that lies further ahead than it was ever put is of a clock that was set back since. */
static int64_t not_beyond(int64_t until_s, int64_t now_s, int64_t most_s)
{
    return until_s - now_s <= most_s || BNT_FAULT(breaker_clock) ? until_s : 0;
}

static enum bnt_status load(struct breaker *b, const char *origin, struct circuit *c,
                            struct bnt_err *err)
{
    int64_t row[7] = {0};
    const struct net_query q = {
        .sql = "SELECT state, open_until_s, probe_until_s, closed_s, ejections, cool_until_s, rate"
               " FROM origin WHERE name = ?1",
        .name = origin,
        .row = row,
        .n_row = 7,
    };
    enum bnt_status st = net_db_run(b->db, &q, err);
    const int64_t now_s = bnt_clock_unix_s();
    *c = (struct circuit){.state = row[0],
                          .open_until_s = not_beyond(row[1], now_s, BREAKER_OPEN_MAX_S),
                          .probe_until_s = not_beyond(row[2], now_s, BREAKER_PROBE_S),
                          .closed_s = row[3],
                          .ejections = row[4],
                          .cool_until_s = row[5],
                          .rate = row[6]};
    return st;
}

static enum bnt_status save(struct breaker *b, const char *origin, const struct circuit *c,
                            struct bnt_err *err)
{
    const struct net_query q = {
        .sql = "INSERT OR REPLACE INTO origin(name, state, open_until_s, probe_until_s, closed_s,"
               " ejections, cool_until_s, rate) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        .name = origin,
        .in = {c->state, c->open_until_s, c->probe_until_s, c->closed_s, c->ejections,
               c->cool_until_s, c->rate},
        .n_in = 7,
    };
    return net_db_run(b->db, &q, err);
}

/* Sums over the window: calls, failed, slow. */
static enum bnt_status sums(struct breaker *b, const char *origin, int64_t now_s, int64_t out[3],
                            struct bnt_err *err)
{
    const struct net_query q = {
        .sql = "SELECT total(calls), total(failed), total(slow) FROM bucket"
               " WHERE name = ?1 AND at_s > ?2 AND at_s <= ?3",
        .name = origin,
        .in = {now_s - BREAKER_WINDOW_S, now_s},
        .n_in = 2,
        .row = out,
        .n_row = 3,
    };
    return net_db_run(b->db, &q, err);
}

/* ---- open ---- */

enum bnt_status breaker_open(const char *cache_dir, struct breaker **out, struct bnt_err *err)
{
    *out = NULL;
    struct breaker *b = calloc(1, sizeof *b);
    if (!b) {
        return bnt_err_nomem(err, "breaker", sizeof *b);
    }
    enum bnt_status st = net_db_open(cache_dir, &b->db, err);
    if (st != BNT_OK) {
        breaker_close(b);
        return st;
    }
    *out = b;
    return BNT_OK;
}

void breaker_close(struct breaker *b)
{
    if (b) {
        net_db_close(b->db);
        free(b);
    }
}

enum bnt_status breaker_origin(const char *url, char out[BREAKER_ORIGIN_MAX], struct bnt_err *err)
{
    const char *rest = strstr(url, "://");
    size_t n = rest ? (size_t)(rest - url) + 3 : 0;
    size_t host = rest ? strcspn(rest + 3, "/?#") : 0;
    bool https = strncasecmp(url, "https:", 6) == 0;
    const char *end = url + n + host, *port = end;
    while (port > url + n && isdigit((unsigned char)port[-1])) {
        port--;
    }
    bool has_port = port < end && port > url + n && port[-1] == ':';
    int len = snprintf(out, BREAKER_ORIGIN_MAX, "%.*s%s", (int)(n + host), url,
                       has_port ? ""
                       : https  ? ":443"
                                : ":80");
    if (host == 0 || len >= BREAKER_ORIGIN_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "the source is not a URL of a server");
    }
    for (char *p = out; *p; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    return BNT_OK;
}

/* ---- decisions ---- */

enum bnt_status breaker_ask(struct breaker *b, const char *origin, bool last,
                            struct breaker_permit *out, struct bnt_err *err)
{
    struct circuit c;
    int64_t now_s = bnt_clock_unix_s();
    *out = (struct breaker_permit){.go = true};
    enum bnt_status st = net_db_exec(b->db, "BEGIN IMMEDIATE", err);
    if (st != BNT_OK) {
        return st;
    }
    st = load(b, origin, &c, err);
    if (c.cool_until_s > now_s) {
        *out = (struct breaker_permit){.wait_s = c.cool_until_s - now_s, .cooling = true};
    } else if (c.state != BREAKER_CLOSED && !last) {
        int64_t until_s = c.open_until_s > now_s ? c.open_until_s : c.probe_until_s;
        if (until_s > now_s) {
            *out = (struct breaker_permit){.wait_s = until_s - now_s};
        }
    }
    if (st == BNT_OK && out->go && c.state != BREAKER_CLOSED) {
        c.state = BREAKER_HALF_OPEN;
        c.probe_until_s = now_s + (BNT_FAULT(breaker_probe) ? 0 : BREAKER_PROBE_S);
        st = save(b, origin, &c, err);
    }
    return net_db_finish(b->db, st, err);
}

static void open_circuit(struct circuit *c, int64_t now_s)
{
    int64_t length_s = BREAKER_OPEN_S;
    if (c->state == BREAKER_CLOSED && now_s - c->closed_s > BREAKER_FORGIVE_S) {
        c->ejections = 0;
    }
    for (int64_t i = 0; i < c->ejections && length_s < BREAKER_OPEN_MAX_S; i++) {
        length_s *= 2;
    }
    length_s = BNT_FAULT(breaker_escalation) ? BREAKER_OPEN_S : length_s;
    c->state = BREAKER_OPEN;
    c->open_until_s = now_s + (length_s < BREAKER_OPEN_MAX_S ? length_s : BREAKER_OPEN_MAX_S);
    c->probe_until_s = 0;
    c->ejections++;
}

static enum bnt_status empty_window(struct breaker *b, const char *origin, struct bnt_err *err)
{
    const struct net_query q = {.sql = "DELETE FROM bucket WHERE name = ?1", .name = origin};
    return net_db_run(b->db, &q, err);
}

/* Count an outcome in its bucket, and forget buckets that left the window. */
static enum bnt_status count(struct breaker *b, const char *origin, int64_t now_s,
                             enum breaker_outcome outcome, struct bnt_err *err)
{
    const struct net_query add = {
        .sql = "INSERT INTO bucket(name, at_s, calls, failed, slow) VALUES(?1, ?2, 1, ?3, ?4)"
               " ON CONFLICT(name, at_s) DO UPDATE SET calls = calls + 1,"
               " failed = failed + excluded.failed, slow = slow + excluded.slow",
        .name = origin,
        .in = {now_s - now_s % BREAKER_BUCKET_S, outcome == BREAKER_FAILED,
               outcome == BREAKER_SLOW},
        .n_in = 3,
    };
    const struct net_query forget = {
        .sql = "DELETE FROM bucket WHERE name = ?1 AND (at_s <= ?2 OR at_s > ?3)",
        .name = origin,
        .in = {now_s - BREAKER_WINDOW_S, now_s},
        .n_in = 2,
    };
    enum bnt_status st = net_db_run(b->db, &add, err);
    return st == BNT_OK ? net_db_run(b->db, &forget, err) : st;
}

static enum bnt_status judge(struct breaker *b, const char *origin, int64_t now_s,
                             enum breaker_outcome outcome, struct circuit *c, struct bnt_err *err)
{
    int64_t n[3] = {0};
    enum bnt_status st = count(b, origin, now_s, outcome, err);
    if (st != BNT_OK) {
        return st;
    }
    if (c->state == BREAKER_OPEN) {
        return BNT_OK; /* of a request that began before it opened */
    }
    if (c->state == BREAKER_HALF_OPEN && outcome == BREAKER_GOOD) {
        c->state = BREAKER_CLOSED;
        c->closed_s = now_s;
        c->open_until_s = c->probe_until_s = 0;
        return empty_window(b, origin, err);
    }
    if (c->state == BREAKER_HALF_OPEN) {
        open_circuit(c, now_s);
        return BNT_OK;
    }
    st = sums(b, origin, now_s, n, err);
    if (n[0] >= BREAKER_CALLS_MIN && (n[1] * 100 >= n[0] * BREAKER_FAILED_PERCENT ||
                                      n[2] * 100 >= n[0] * BREAKER_SLOW_PERCENT)) {
        open_circuit(c, now_s);
    }
    return st;
}

enum bnt_status breaker_report(struct breaker *b, const char *origin, enum breaker_outcome outcome,
                               uint64_t rate_bytes_s, struct bnt_err *err)
{
    struct circuit c;
    int64_t now_s = bnt_clock_unix_s();
    enum bnt_status st = net_db_exec(b->db, "BEGIN IMMEDIATE", err);
    if (st != BNT_OK) {
        return st;
    }
    st = load(b, origin, &c, err);
    if (st == BNT_OK) {
        st = judge(b, origin, now_s, outcome, &c, err);
    }
    if (rate_bytes_s > 0 && rate_bytes_s < INT64_MAX / RATE_WEIGHT) {
        int64_t rate = (int64_t)rate_bytes_s;
        c.rate = c.rate ? c.rate + (rate - c.rate) / RATE_WEIGHT : rate;
    }
    if (st == BNT_OK) {
        st = save(b, origin, &c, err);
    }
    return net_db_finish(b->db, st, err);
}

enum bnt_status breaker_cool(struct breaker *b, const char *origin, int64_t wait_s,
                             struct bnt_err *err)
{
    struct circuit c;
    int64_t until_s = bnt_clock_unix_s() + wait_s;
    enum bnt_status st = net_db_exec(b->db, "BEGIN IMMEDIATE", err);
    if (st != BNT_OK) {
        return st;
    }
    st = load(b, origin, &c, err);
    if (st == BNT_OK && until_s > c.cool_until_s) {
        c.cool_until_s = until_s;
        st = save(b, origin, &c, err);
    }
    return net_db_finish(b->db, st, err);
}

/* ---- the retry budget ---- */

enum { TENTHS = 10, FULL = BREAKER_RETRIES * TENTHS };

/* What is there now, in tenths of a retry, with what came back since the last look. */
static enum bnt_status load_budget(struct breaker *b, const char *origin, int64_t now_s,
                                   int64_t *tenths, struct bnt_err *err)
{
    int64_t row[2] = {FULL, now_s};
    const struct net_query q = {.sql = "SELECT tenths, at_s FROM retry_budget WHERE name = ?1",
                                .name = origin,
                                .row = row,
                                .n_row = 2};
    enum bnt_status st = net_db_run(b->db, &q, err);
    const int64_t passed_s = now_s > row[1] ? now_s - row[1] : 0;
    const int64_t back = passed_s > FULL ? FULL : passed_s * TENTHS / BREAKER_RETRY_EVERY_S;
    *tenths = row[0] + back < FULL ? row[0] + back : FULL;
    return st;
}

/* Add `tenths` (or take them, when there are so many: *granted). */
static enum bnt_status change_budget(struct breaker *b, const char *origin, int64_t tenths,
                                     bool *granted, struct bnt_err *err)
{
    int64_t have = 0, now_s = bnt_clock_unix_s();
    enum bnt_status st = net_db_exec(b->db, "BEGIN IMMEDIATE", err);
    if (st != BNT_OK) {
        return st;
    }
    st = load_budget(b, origin, now_s, &have, err);
    *granted = have + tenths >= 0 || BNT_FAULT(retry_budget);
    have = *granted ? have + tenths : have;
    const struct net_query q = {.sql = "INSERT OR REPLACE INTO retry_budget VALUES(?1, ?2, ?3)",
                                .name = origin,
                                .in = {have < FULL ? have : FULL, now_s},
                                .n_in = 2};
    st = st == BNT_OK ? net_db_run(b->db, &q, err) : st;
    return net_db_finish(b->db, st, err);
}

enum bnt_status breaker_retry(struct breaker *b, const char *origin, bool *granted,
                              struct bnt_err *err)
{
    return change_budget(b, origin, -TENTHS, granted, err);
}

enum bnt_status breaker_earn(struct breaker *b, const char *origin, struct bnt_err *err)
{
    bool granted;
    return change_budget(b, origin, TENTHS / BREAKER_RETRY_PER, &granted, err);
}

/* ---- views ---- */

enum bnt_status breaker_look(struct breaker *b, const char *origin, struct breaker_row *out,
                             struct bnt_err *err)
{
    struct circuit c;
    int64_t n[3] = {0}, now_s = bnt_clock_unix_s();
    *out = (struct breaker_row){.calls = 0};
    snprintf(out->origin, sizeof out->origin, "%s", origin);
    enum bnt_status st = load(b, origin, &c, err);
    if (st == BNT_OK) {
        st = sums(b, origin, now_s, n, err);
    }
    out->state = (enum breaker_state)c.state;
    if (c.state == BREAKER_OPEN && c.open_until_s <= now_s) {
        out->state = BREAKER_HALF_OPEN; /* the next one to ask is the probe */
    }
    out->calls = n[0];
    out->failed = n[1];
    out->slow = n[2];
    out->ejections = c.ejections;
    out->open_s = c.state != BREAKER_CLOSED && c.open_until_s > now_s ? c.open_until_s - now_s : 0;
    out->cool_s = c.cool_until_s > now_s ? c.cool_until_s - now_s : 0;
    out->rate_bytes_s = c.rate > 0 ? (uint64_t)c.rate : 0;
    return st;
}

enum bnt_status breaker_list(struct breaker *b, struct breaker_row **rows, size_t *n,
                             struct bnt_err *err)
{
    sqlite3_stmt *s = NULL;
    int64_t count_rows = 0;
    *n = 0;
    *rows = NULL;
    const struct net_query how_many = {
        .sql = "SELECT min(count(*), 10000) FROM origin", .row = &count_rows, .n_row = 1};
    enum bnt_status st = net_db_run(b->db, &how_many, err);
    struct breaker_row *list = calloc((size_t)count_rows + 1, sizeof *list);
    if (!list) {
        return bnt_err_nomem(err, "list of servers", (unsigned long long)count_rows * sizeof *list);
    }
    if (st == BNT_OK && sqlite3_prepare_v2(b->db, "SELECT name FROM origin ORDER BY name", -1, &s,
                                           NULL) != SQLITE_OK) {
        st = net_db_error(b->db, err);
    }
    while (st == BNT_OK && *n < (size_t)count_rows && sqlite3_step(s) == SQLITE_ROW) {
        st = breaker_look(b, (const char *)sqlite3_column_text(s, 0), &list[*n], err);
        *n += st == BNT_OK;
    }
    sqlite3_finalize(s);
    if (st != BNT_OK) {
        free(list);
        *n = 0;
        return st;
    }
    *rows = list;
    return BNT_OK;
}

enum bnt_status breaker_reset(struct breaker *b, const char *origin, struct bnt_err *err)
{
    const struct net_query buckets = {.sql = "DELETE FROM bucket WHERE ?1 = '' OR name = ?1",
                                      .name = origin ? origin : ""};
    const struct net_query origins = {.sql = "DELETE FROM origin WHERE ?1 = '' OR name = ?1",
                                      .name = origin ? origin : ""};
    const struct net_query budgets = {.sql = "DELETE FROM retry_budget WHERE ?1 = '' OR name = ?1",
                                      .name = origin ? origin : ""};
    enum bnt_status st = net_db_exec(b->db, "BEGIN IMMEDIATE", err);
    if (st != BNT_OK) {
        return st;
    }
    st = net_db_run(b->db, &buckets, err);
    if (st == BNT_OK) {
        st = net_db_run(b->db, &budgets, err);
    }
    if (st == BNT_OK) {
        st = net_db_run(b->db, &origins, err);
    }
    return net_db_finish(b->db, st, err);
}
