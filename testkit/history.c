/* Invariants:
 *   1. A run is written in one immediate transaction with all its rows: readers see it whole or not
 *      at all, and two writers wait for each other at the beginning only.
 *   2. Every result has a run, and every run a machine.
 *   3. The journal is a rollback journal that is truncated, never a write-ahead log, for the
 *      reasons that cache/index.c gives.
 *
 * `seq` numbers the runs of this file; `id` is a run's name everywhere. */
#include "testkit/history.h"

#include <stdio.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cache_dir.h"
#include "base/env.h"
#include "cache/db_error.h"
#include "testkit/history_impl.h"

enum { BUSY_MS = 5000 };

static const char schema[] =
    "CREATE TABLE machine("
    "  fingerprint TEXT PRIMARY KEY, host TEXT NOT NULL, cpu TEXT NOT NULL, os TEXT NOT NULL,"
    "  processors INTEGER NOT NULL, memory INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE run("
    "  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, started_s INTEGER NOT NULL,"
    "  tier TEXT NOT NULL, machine TEXT NOT NULL REFERENCES machine(fingerprint),"
    "  program TEXT NOT NULL, model TEXT NOT NULL, model_kind TEXT NOT NULL,"
    "  config TEXT NOT NULL, version TEXT NOT NULL, seed INTEGER NOT NULL,"
    "  budget_ms INTEGER NOT NULL, wall_ms INTEGER NOT NULL, jobs INTEGER NOT NULL,"
    "  shard_index INTEGER NOT NULL, shard_total INTEGER NOT NULL, exit INTEGER NOT NULL"
    ") STRICT;"
    "CREATE TABLE result("
    "  test TEXT NOT NULL, run INTEGER NOT NULL REFERENCES run(seq) ON DELETE CASCADE,"
    "  suite TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, wall_ms INTEGER NOT NULL,"
    "  kind TEXT NOT NULL, why TEXT NOT NULL, value REAL NOT NULL, rank INTEGER NOT NULL,"
    "  inputs TEXT NOT NULL, label TEXT NOT NULL, tries INTEGER NOT NULL,"
    "  PRIMARY KEY(test, run)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX result_by_run ON result(run);"
    "CREATE TABLE metric("
    "  test TEXT NOT NULL, run INTEGER NOT NULL REFERENCES run(seq) ON DELETE CASCADE,"
    "  name TEXT NOT NULL, value REAL NOT NULL, unit TEXT NOT NULL,"
    "  PRIMARY KEY(test, name, run)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE kept("
    "  key TEXT PRIMARY KEY, test TEXT NOT NULL, run TEXT NOT NULL, made_s INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "PRAGMA user_version = 1;";

enum bnt_status history_error(struct history *h, const char *doing, struct bnt_err *err)
{
    static const struct db_hints hints = {
        .damaged = "delete the file: a new one is made with the next run",
        .unwritable = "set BNT_HISTORY to a file that can be written",
        .replaced = "another file took its place meanwhile: run this command again"};
    return db_error(h->db, &hints, err, "history %s: cannot %s", h->path, doing);
}

enum bnt_status history_exec(struct history *h, const char *sql, const char *doing,
                             struct bnt_err *err)
{
    return sqlite3_exec(h->db, sql, NULL, NULL, NULL) == SQLITE_OK ? BNT_OK
                                                                   : history_error(h, doing, err);
}

enum bnt_status history_prepare(struct history *h, const char *sql, sqlite3_stmt **out,
                                struct bnt_err *err)
{
    return sqlite3_prepare_v2(h->db, sql, -1, out, NULL) == SQLITE_OK
               ? BNT_OK
               : history_error(h, "read it", err);
}

void history_bind(sqlite3_stmt *q, int at, const char *text)
{
    /* Fails only out of range or out of memory; the column is then NULL, and NOT NULL makes the
     * step fail. */
    (void)sqlite3_bind_text(q, at, text ? text : "", -1, SQLITE_TRANSIENT);
}

enum bnt_status history_run_once(struct history *h, sqlite3_stmt *q, const char *doing,
                                 struct bnt_err *err)
{
    int rc = sqlite3_step(q);
    enum bnt_status st = rc == SQLITE_DONE ? BNT_OK : history_error(h, doing, err);
    sqlite3_finalize(q);
    return st;
}

enum bnt_status history_step(struct history *h, sqlite3_stmt *q, bool *row, struct bnt_err *err)
{
    int rc = sqlite3_step(q);
    *row = rc == SQLITE_ROW;
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? BNT_OK : history_error(h, "read it", err);
}

void history_column(sqlite3_stmt *q, int column, char *out, size_t size)
{
    const unsigned char *text = sqlite3_column_text(q, column);
    snprintf(out, size, "%s", text ? (const char *)text : "");
}

/* ---- open and close ---- */

enum bnt_status history_find(const char *given, char out[BNT_PATH_MAX], struct bnt_err *err)
{
    const char *file = given && given[0] ? given : bnt_env("BNT_HISTORY");
    char folder[BNT_PATH_MAX];
    struct bnt_err why = {0};
    if (file) {
        return bnt_path_format(out, err, "%s", strcmp(file, "none") == 0 ? "" : file);
    }
    enum bnt_status st = bnt_user_dir("XDG_STATE_HOME", "/.local/state", folder, &why);
    if (st == BNT_OK) {
        return bnt_path_format(out, err, "%s/history.db", folder);
    }
    (void)bnt_err_context(&why, "no place for the history of tests");
    bnt_err_hint(&why, "set HOME, or BNT_HISTORY to a file");
    return bnt_err_copy(err, &why);
}

static enum bnt_status make_folder_of(const char *path, struct bnt_err *err)
{
    char folder[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(folder, err, "%s", path);
    char *slash = strrchr(folder, '/');
    if (st != BNT_OK || !slash || slash == folder) {
        return st;
    }
    *slash = '\0';
    return access(folder, F_OK) == 0 ? BNT_OK : bnt_mkdirs(folder, err);
}

static enum bnt_status read_version(struct history *h, int *version, struct bnt_err *err)
{
    sqlite3_stmt *q;
    bool row = false;
    enum bnt_status st = history_prepare(h, "PRAGMA user_version", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    st = history_step(h, q, &row, err);
    *version = row ? sqlite3_column_int(q, 0) : 0;
    sqlite3_finalize(q);
    return st;
}

/* Make the tables unless another process was faster. */
static enum bnt_status make_schema(struct history *h, struct bnt_err *err)
{
    int version = 0;
    enum bnt_status st = history_exec(h, "BEGIN IMMEDIATE", "begin it", err);
    if (st == BNT_OK) {
        st = read_version(h, &version, err);
    }
    if (st == BNT_OK && version == 0) {
        st = history_exec(h, schema, "make its tables", err);
    }
    if (st == BNT_OK) {
        st = history_exec(h, "COMMIT", "make its tables", err);
    }
    if (st != BNT_OK) {
        (void)sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return st;
}

static enum bnt_status check_version(struct history *h, enum history_mode mode, struct bnt_err *err)
{
    int version = 0;
    enum bnt_status st = read_version(h, &version, err);
    if (st == BNT_OK && version > HISTORY_SCHEMA) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "history %s has schema %d; this bnt knows %d",
                         h->path, version, HISTORY_SCHEMA);
        bnt_err_hint(err, "use the newer bnt that wrote it, or set BNT_HISTORY to another file");
    } else if (st == BNT_OK && version == 0 && mode == HISTORY_READ) {
        st = bnt_err_set(err, BNT_E_FILE, "history %s: no history of tests", h->path);
    } else if (st == BNT_OK && version == 0) {
        st = make_schema(h, err);
    }
    return st;
}

static enum bnt_status open_file(struct history *h, enum history_mode mode, struct bnt_err *err)
{
    int flags =
        mode == HISTORY_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(h->path, &h->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
        return history_error(h, "open it", err);
    }
    sqlite3_busy_timeout(h->db, BUSY_MS);
    return history_exec(h, "PRAGMA journal_mode = TRUNCATE; PRAGMA foreign_keys = ON;", "open it",
                        err);
}

enum bnt_status history_open(const char *path, enum history_mode mode, struct history **out,
                             struct bnt_err *err)
{
    *out = NULL;
    if (mode == HISTORY_READ && access(path, F_OK) != 0) {
        enum bnt_status absent = bnt_err_set(err, BNT_E_NOT_FOUND, "no history at %s", path);
        bnt_err_hint(err, "the first `bnt test` makes it; --history names another file");
        return absent;
    }
    struct history *h = calloc(1, sizeof *h);
    if (!h) {
        return bnt_err_nomem(err, "the history", sizeof *h);
    }
    enum bnt_status st = bnt_path_format(h->path, err, "%s", path);
    st = st == BNT_OK ? bnt_file_is_named(path, err) : st;
    if (st == BNT_OK && mode == HISTORY_WRITE) {
        st = make_folder_of(path, err);
    }
    if (st == BNT_OK) {
        st = open_file(h, mode, err);
    }
    if (st == BNT_OK) {
        st = check_version(h, mode, err);
    }
    if (st != BNT_OK) {
        history_close(h);
        return st;
    }
    *out = h;
    return BNT_OK;
}

void history_close(struct history *h)
{
    if (h) {
        sqlite3_close(h->db); /* rolls back; no statement outlives its function */
        free(h);
    }
}

bool history_is_readonly(struct history *h)
{
    return sqlite3_db_readonly(h->db, "main") != 0;
}

const char *history_path(const struct history *h)
{
    return h->path;
}
