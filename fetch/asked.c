/* Advice, as all of net.db: whatever fails here costs a question. */
#include "fetch/asked.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/fault.h"
#include "fetch/bnt_fetch.h"
#include "fetch/net_db.h"

static void copy_column(sqlite3_stmt *s, int column, char *out, size_t size)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    snprintf(out, size, "%s", text ? text : "");
}

void asked_look(const char *cache_dir, const char *source, struct asked *out)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    *out = (struct asked){0};
    if (net_db_open(cache_dir, &db, NULL) == BNT_OK &&
        sqlite3_prepare_v2(db, "SELECT at_s, validator, digest FROM asked WHERE source = ?1", -1,
                           &s, NULL) == SQLITE_OK &&
        sqlite3_bind_text(s, 1, source, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_step(s) == SQLITE_ROW) {
        out->at_s = sqlite3_column_int64(s, 0);
        copy_column(s, 1, out->validator, sizeof out->validator);
        copy_column(s, 2, out->digest, sizeof out->digest);
    }
    sqlite3_finalize(s);
    net_db_close(db);
}

static bool put(sqlite3 *db, const char *source, const struct asked *a)
{
    sqlite3_stmt *s = NULL;
    bool done = sqlite3_prepare_v2(db, "INSERT OR REPLACE INTO asked VALUES(?1, ?2, ?3, ?4)", -1,
                                   &s, NULL) == SQLITE_OK &&
                sqlite3_bind_text(s, 1, source, -1, SQLITE_STATIC) == SQLITE_OK &&
                sqlite3_bind_int64(s, 2, a->at_s) == SQLITE_OK &&
                sqlite3_bind_text(s, 3, a->validator, -1, SQLITE_STATIC) == SQLITE_OK &&
                sqlite3_bind_text(s, 4, a->digest, -1, SQLITE_STATIC) == SQLITE_OK &&
                sqlite3_step(s) == SQLITE_DONE;
    sqlite3_finalize(s);
    return done;
}

void asked_note(const char *cache_dir, const char *source, const struct asked *a)
{
    sqlite3 *db = NULL;
    const struct net_query old = {
        .sql = "DELETE FROM asked WHERE at_s < ?1", .in = {a->at_s - ASKED_KEEP_S}, .n_in = 1};
    if (net_db_open(cache_dir, &db, NULL) == BNT_OK &&
        net_db_exec(db, "BEGIN IMMEDIATE", NULL) == BNT_OK) {
        const bool done = put(db, source, a) && net_db_run(db, &old, NULL) == BNT_OK;
        (void)net_db_finish(db, done ? BNT_OK : BNT_E_FAILED, NULL);
    }
    net_db_close(db);
}

bool asked_today(const struct asked *a)
{
    const int64_t age_s = bnt_clock_unix_s() - a->at_s; /* below 0: the clock was set back */
    return a->at_s > 0 && !BNT_FAULT(update_daily) && age_s >= 0 && age_s < BNT_FETCH_DAY_S;
}
