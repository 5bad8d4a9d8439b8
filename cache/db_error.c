#include "cache/db_error.h"

#include <stdarg.h>
#include <stdio.h>

static enum bnt_status meaning(sqlite3 *db, const struct db_hints *hints, const char **hint)
{
    *hint = NULL;
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_ERROR: /* our statements are right: the tables are not those that they are for */
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        *hint = hints->damaged;
        return BNT_E_FILE;
    case SQLITE_FULL:
        *hint = hints->full;
        return BNT_E_NO_SPACE;
    case SQLITE_IOERR:
        *hint = hints->io;
        return bnt_status_of_errno(sqlite3_system_errno(db)) == BNT_E_NO_SPACE ? BNT_E_NO_SPACE
                                                                               : BNT_E_FAILED;
    case SQLITE_NOMEM:
        return BNT_E_MEMORY;
    case SQLITE_BUSY:
        *hint = hints->busy;
        return BNT_E_FAILED;
    case SQLITE_READONLY:
        *hint = sqlite3_extended_errcode(db) == SQLITE_READONLY_DBMOVED ? hints->replaced
                                                                        : hints->unwritable;
        return BNT_E_FAILED;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        *hint = hints->unwritable;
        return BNT_E_FAILED;
    default:
        return BNT_E_FAILED;
    }
}

enum bnt_status db_error(sqlite3 *db, const struct db_hints *hints, struct bnt_err *err,
                         const char *fmt, ...)
{
    static const struct db_hints none;
    char what[512];
    const char *hint;
    const enum bnt_status st = meaning(db, hints ? hints : &none, &hint);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    if (err && err->status == BNT_OK) {
        err->domain = "sqlite";
        err->foreign = sqlite3_extended_errcode(db);
    }
    bnt_err_set(err, st, "%s: %s", what, sqlite3_errmsg(db));
    if (hint) {
        bnt_err_hint(err, "%s", hint);
    }
    return st;
}
