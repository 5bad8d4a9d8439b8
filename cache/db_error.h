/* Errors of SQLite: its codes become ours here and nowhere else. */
#ifndef BNT_CACHE_DB_ERROR_H
#define BNT_CACHE_DB_ERROR_H

#include <sqlite3.h>

#include "base/status.h"

/* What to do next; NULL: nothing to say. */
struct db_hints {
    const char *damaged;    /* no database, or not of our tables */
    const char *full;       /* the disk */
    const char *io;         /* the disk fails */
    const char *busy;       /* another process held it for too long */
    const char *unwritable; /* by who runs this */
    const char *replaced;   /* by another one, while this one had it open */
};

/* The last error of db as "<fmt>: <what SQLite says>". FILE: damaged; NO_SPACE; MEMORY; all else is
 * FAILED. hints may be NULL. */
enum bnt_status db_error(sqlite3 *db, const struct db_hints *hints, struct bnt_err *err,
                         const char *fmt, ...) BNT_PRINTF(4, 5);

#endif
