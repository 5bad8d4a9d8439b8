/* Shared by the files of the history: the connection and the border to SQLite. */
#ifndef TESTKIT_HISTORY_IMPL_H
#define TESTKIT_HISTORY_IMPL_H

#include <sqlite3.h>

#include "testkit/history.h"

struct history {
    sqlite3 *db;
    char path[BNT_PATH_MAX];
};

enum bnt_status history_error(struct history *h, const char *doing, struct bnt_err *err);
enum bnt_status history_exec(struct history *h, const char *sql, const char *doing,
                             struct bnt_err *err);
enum bnt_status history_prepare(struct history *h, const char *sql, sqlite3_stmt **out,
                                struct bnt_err *err);
void history_bind(sqlite3_stmt *q, int at, const char *text);
/* Run a statement without rows, and finalise it. */
enum bnt_status history_run_once(struct history *h, sqlite3_stmt *q, const char *doing,
                                 struct bnt_err *err);
/* *row: the statement stands on one. */
enum bnt_status history_step(struct history *h, sqlite3_stmt *q, bool *row, struct bnt_err *err);
/* A column's text, cut to size. */
void history_column(sqlite3_stmt *q, int column, char *out, size_t size);

#endif
