/* One file, one schema; breaker.c and asked.c own a table or two each. */
#include "fetch/net_db.h"

#include <unistd.h>

#include "base/file.h"
#include "cache/db_error.h"
#include "cache/guard_vfs.h"

#define BUSY_MS 10000

static const char schema[] =
    "CREATE TABLE IF NOT EXISTS origin(name TEXT PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0,"
    " open_until_s INTEGER NOT NULL DEFAULT 0, probe_until_s INTEGER NOT NULL DEFAULT 0,"
    " closed_s INTEGER NOT NULL DEFAULT 0, ejections INTEGER NOT NULL DEFAULT 0,"
    " cool_until_s INTEGER NOT NULL DEFAULT 0, rate INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS bucket(name TEXT NOT NULL, at_s INTEGER NOT NULL,"
    " calls INTEGER NOT NULL, failed INTEGER NOT NULL, slow INTEGER NOT NULL,"
    " PRIMARY KEY(name, at_s)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS retry_budget(name TEXT PRIMARY KEY, tenths INTEGER NOT NULL,"
    " at_s INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS asked(source TEXT PRIMARY KEY, at_s INTEGER NOT NULL,"
    " validator TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID;";

enum bnt_status net_db_error(sqlite3 *db, struct bnt_err *err)
{
    return db_error(db, NULL, err, "net.db");
}

enum bnt_status net_db_run(sqlite3 *db, const struct net_query *q, struct bnt_err *err)
{
    sqlite3_stmt *s = NULL;
    int rc = sqlite3_prepare_v2(db, q->sql, -1, &s, NULL);
    if (rc == SQLITE_OK && q->name) {
        rc = sqlite3_bind_text(s, 1, q->name, -1, SQLITE_STATIC);
    }
    for (int i = 0; rc == SQLITE_OK && i < q->n_in; i++) {
        rc = sqlite3_bind_int64(s, i + 1 + (q->name != NULL), q->in[i]);
    }
    rc = rc == SQLITE_OK ? sqlite3_step(s) : rc;
    bool got = rc == SQLITE_ROW;
    for (int i = 0; got && i < q->n_row; i++) {
        q->row[i] = sqlite3_column_int64(s, i);
    }
    if (q->found) {
        *q->found = got;
    }
    enum bnt_status st = got || rc == SQLITE_DONE ? BNT_OK : net_db_error(db, err);
    sqlite3_finalize(s);
    return st;
}

enum bnt_status net_db_exec(sqlite3 *db, const char *sql, struct bnt_err *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK ? BNT_OK : net_db_error(db, err);
}

enum bnt_status net_db_finish(sqlite3 *db, enum bnt_status st, struct bnt_err *err)
{
    if (st == BNT_OK) {
        st = net_db_exec(db, "COMMIT", err);
    }
    if (st != BNT_OK) {
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    return st;
}

static enum bnt_status try_open(const char *path, sqlite3 **db, struct bnt_err *err)
{
    if (sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, guard_vfs()) !=
        SQLITE_OK) {
        return net_db_error(*db, err);
    }
    sqlite3_busy_timeout(*db, BUSY_MS);
    enum bnt_status st = net_db_exec(*db, "PRAGMA synchronous = OFF", err);
    if (st == BNT_OK) {
        st = net_db_exec(*db, "BEGIN IMMEDIATE", err);
    }
    return st == BNT_OK ? net_db_finish(*db, net_db_exec(*db, schema, err), err) : st;
}

static bool damaged(sqlite3 *db)
{
    int rc = sqlite3_errcode(db);
    return rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB;
}

enum bnt_status net_db_open(const char *cache_dir, sqlite3 **out, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_err first = {0};
    *out = NULL;
    enum bnt_status st = bnt_path_format(path, err, "%s/net.db", cache_dir);
    if (st != BNT_OK) {
        return st;
    }
    st = try_open(path, out, &first);
    if (st != BNT_OK && damaged(*out)) {
        sqlite3_close(*out);
        *out = NULL;
        (void)unlink(path);
        return try_open(path, out, err);
    }
    if (st != BNT_OK && err && err->status == BNT_OK) {
        *err = first;
    }
    return st;
}

void net_db_close(sqlite3 *db)
{
    sqlite3_close(db);
}
