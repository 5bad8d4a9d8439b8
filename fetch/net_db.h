/* <cache>/net.db: what is known about servers and sources, shared by all processes of a cache. It
 * is advice: losing it costs requests, so it is not synced to disk, and replaced by an empty one
 * when it is damaged. */
#ifndef BNT_FETCH_NET_DB_H
#define BNT_FETCH_NET_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* The tables are there afterwards. On an error *out may still need net_db_close. */
enum bnt_status net_db_open(const char *cache_dir, sqlite3 **out, struct bnt_err *err);
void net_db_close(sqlite3 *db); /* NULL is fine */

/* What SQLite said last. */
enum bnt_status net_db_error(sqlite3 *db, struct bnt_err *err);

/* A statement with one text (or NULL) and up to eight numbers; `row` receives up to n_row columns
 * of the first row, *found says whether there was one. Both may be NULL. */
struct net_query {
    const char *sql, *name;
    int64_t in[8];
    int n_in;
    int64_t *row;
    int n_row;
    bool *found;
};
enum bnt_status net_db_run(sqlite3 *db, const struct net_query *q, struct bnt_err *err);
enum bnt_status net_db_exec(sqlite3 *db, const char *sql, struct bnt_err *err);
/* End a transaction as `st` says; returns st, or what kept it from being committed. */
enum bnt_status net_db_finish(sqlite3 *db, enum bnt_status st, struct bnt_err *err);

#endif
