/* The index: which names there are, what blobs they stand for, where those came from.
 *
 * Invariants:
 *   1. A row is written after its blob is durable in the store, so the index never promises what
 *      was not there. The reverse can happen (death between the two): such a blob costs space
 *      only, and the next `verify` lists it.
 *   2. Every name has a blob row. A blob may have any number of names, or none.
 *   3. All writes are in immediate transactions: a writer waits for its turn at the beginning and
 *      never upgrades a read, so two processes cannot wait for each other.
 *
 * The journal is a rollback journal, never a write-ahead log: SQLite 3.7.0 to 3.51.2, which
 * distributions still ship, can damage a database in WAL mode when a checkpoint that resets the log
 * races with a writer of another process, and "many processes, few writes" gains nothing from a
 * log. PERSIST rather than TRUNCATE: what an addition needed of the disk for the journal stays
 * there for the removal that makes room on a full disk. Rather than DELETE: the end of a
 * transaction is then synced with the journal itself and needs no sync of the folder. */
#include "cache/index.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "cache/db_error.h"
#include "cache/guard_vfs.h"

static const char schema[] =
    "CREATE TABLE blob("
    "  digest TEXT PRIMARY KEY CHECK(length(digest) = 64),"
    "  size INTEGER NOT NULL,"
    "  verified_s INTEGER NOT NULL," /* 0: never hashed since it was found */
    "  used_s INTEGER NOT NULL DEFAULT 0,"
    "  pinned INTEGER NOT NULL DEFAULT 0,"
    "  since_s INTEGER NOT NULL DEFAULT 0," /* since when the rest is counted */
    "  use_hours INTEGER NOT NULL DEFAULT 0,"
    "  from_source INTEGER NOT NULL DEFAULT 0,"
    "  from_cold INTEGER NOT NULL DEFAULT 0,"
    "  from_warm INTEGER NOT NULL DEFAULT 0,"
    "  warm_bytes INTEGER NOT NULL DEFAULT 0" /* 0: never compressed */
    ") STRICT, WITHOUT ROWID;"
    "CREATE TABLE name("
    "  name TEXT PRIMARY KEY,"
    "  digest TEXT NOT NULL REFERENCES blob(digest),"
    "  source TEXT NOT NULL,"
    "  source_tag TEXT NOT NULL,"
    "  file_name TEXT NOT NULL,"
    "  fetched_s INTEGER NOT NULL"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX name_by_digest ON name(digest);"
    "PRAGMA user_version = 3;";

/* From schema N+1 to N+2, so that every older index is one loop away. Columns have the order
 * and the defaults that ALTER TABLE gives them. */
static const char *const migrations[] = {
    "ALTER TABLE blob ADD COLUMN used_s INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE blob ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;"
    "UPDATE blob SET used_s = max(verified_s,"
    " coalesce((SELECT max(fetched_s) FROM name n WHERE n.digest = blob.digest), 0));"
    "PRAGMA user_version = 2;",
    "ALTER TABLE blob ADD COLUMN since_s INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE blob ADD COLUMN use_hours INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE blob ADD COLUMN from_source INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE blob ADD COLUMN from_cold INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE blob ADD COLUMN from_warm INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE blob ADD COLUMN warm_bytes INTEGER NOT NULL DEFAULT 0;"
    "UPDATE blob SET since_s = CAST(strftime('%s', 'now') AS INTEGER);"
    "PRAGMA user_version = 3;",
};
static_assert(sizeof migrations / sizeof migrations[0] == INDEX_SCHEMA - 1,
              "one migration for every schema but the first");

/* The columns that read_entry expects. */
#define ENTRY_COLUMNS                                                                              \
    "coalesce(n.name, ''), b.digest, b.size, coalesce(n.source, ''), coalesce(n.source_tag, ''),"  \
    " coalesce(n.file_name, ''), coalesce(n.fetched_s, 0), b.verified_s,"                          \
    " b.used_s, b.pinned, b.since_s, b.use_hours, b.from_source, b.from_cold, b.from_warm,"        \
    " b.warm_bytes"

#define REBUILD "run: bnt cache rebuild   (keeps every model and its names)"

struct cache_index {
    sqlite3 *db;
    char path[BNT_PATH_MAX];
    bool in_transaction;
    bool is_copy; /* in memory: of an older index that cannot be written */
};

static enum bnt_status index_error(struct cache_index *ix, const char *doing, struct bnt_err *err)
{
    static const struct db_hints hints = {
        .damaged = REBUILD,
        .full = "free some space, or set BNT_CACHE_DIR to another disk",
        .io = "the disk fails: the kernel's log says how; what it still holds stays in the cache",
        .busy = "another process has held the index for too long; end it, or try again",
        .unwritable = "set BNT_CACHE_DIR to a folder that can be written",
        .replaced = "it was made anew meanwhile: run this command again"};
    return db_error(ix->db, &hints, err, "cache index %s: cannot %s", ix->path, doing);
}

static enum bnt_status exec(struct cache_index *ix, const char *sql, const char *doing,
                            struct bnt_err *err)
{
    return sqlite3_exec(ix->db, sql, NULL, NULL, NULL) == SQLITE_OK ? BNT_OK
                                                                    : index_error(ix, doing, err);
}

static enum bnt_status prepare(struct cache_index *ix, const char *sql, sqlite3_stmt **out,
                               struct bnt_err *err)
{
    return sqlite3_prepare_v2(ix->db, sql, -1, out, NULL) == SQLITE_OK
               ? BNT_OK
               : index_error(ix, "read it", err);
}

static void bind_text(sqlite3_stmt *q, int at, const char *text)
{
    /* Fails only out of range or out of memory; the column is then NULL and NOT NULL makes the step
     * fail. */
    (void)sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

/* Run a statement that returns no rows, and finalise it. */
static enum bnt_status run(struct cache_index *ix, sqlite3_stmt *q, const char *doing,
                           struct bnt_err *err)
{
    int rc = sqlite3_step(q);
    enum bnt_status st = rc == SQLITE_DONE ? BNT_OK : index_error(ix, doing, err);
    sqlite3_finalize(q);
    return st;
}

static enum bnt_status read_version(struct cache_index *ix, int *version, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = prepare(ix, "PRAGMA user_version", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    if (sqlite3_step(q) == SQLITE_ROW) {
        *version = sqlite3_column_int(q, 0);
    } else {
        st = index_error(ix, "read its version", err);
    }
    sqlite3_finalize(q);
    return st;
}

/* Make the tables unless another process was faster. Leaves the transaction open when it made them.
 */
static enum bnt_status make_schema(struct cache_index *ix, bool *fresh, struct bnt_err *err)
{
    int version = 0;
    enum bnt_status st = index_begin(ix, err);
    if (st == BNT_OK) {
        st = read_version(ix, &version, err);
    }
    if (st == BNT_OK && version != 0) {
        return index_commit(ix, err);
    }
    if (st == BNT_OK) {
        st = exec(ix, schema, "make its tables", err);
    }
    *fresh = st == BNT_OK;
    return st;
}

/* Bring an older index up to date; another process may be doing the same. */
static enum bnt_status migrate(struct cache_index *ix, struct bnt_err *err)
{
    int version = 0;
    enum bnt_status st = index_begin(ix, err);
    if (st == BNT_OK) {
        st = read_version(ix, &version, err);
    }
    for (; st == BNT_OK && version < INDEX_SCHEMA; version++) {
        st = exec(ix, migrations[version - 1], "bring it up to date", err);
    }
    if (st == BNT_OK) {
        st = index_commit(ix, err);
    }
    if (st != BNT_OK) {
        index_rollback(ix);
    }
    return st;
}

/* An older index that cannot be written is brought up to date in memory, so that a cache that is
 * mounted read-only still answers. */
static enum bnt_status copy_to_memory(struct cache_index *ix, struct bnt_err *err)
{
    sqlite3 *memory = NULL;
    if (sqlite3_open(":memory:", &memory) != SQLITE_OK) {
        sqlite3_close(memory);
        return bnt_err_set(err, BNT_E_MEMORY, "cache index %s: no memory for a copy", ix->path);
    }
    sqlite3_backup *backup = sqlite3_backup_init(memory, "main", ix->db, "main");
    int rc = backup ? sqlite3_backup_step(backup, -1) : SQLITE_ERROR;
    sqlite3_backup_finish(backup);
    if (rc != SQLITE_DONE) {
        enum bnt_status st = index_error(ix, "copy it", err);
        sqlite3_close(memory);
        return st;
    }
    sqlite3_close(ix->db);
    ix->db = memory;
    ix->is_copy = true;
    return BNT_OK;
}

enum bnt_status index_open(const char *path, struct cache_index **out, bool *fresh,
                           struct bnt_err *err)
{
    *fresh = false;
    struct cache_index *ix = calloc(1, sizeof *ix);
    if (!ix) {
        return bnt_err_nomem(err, "cache index", sizeof *ix);
    }
    enum bnt_status st = bnt_path_format(ix->path, err, "%s", path);
    if (st == BNT_OK && sqlite3_open_v2(path, &ix->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                        guard_vfs()) != SQLITE_OK) {
        st = index_error(ix, "open it", err);
    }
    int version = 0;
    if (st == BNT_OK) {
        sqlite3_busy_timeout(ix->db, INDEX_BUSY_MS);
        st = exec(ix, "PRAGMA journal_mode = PERSIST; PRAGMA foreign_keys = ON;", "open it", err);
    }
    if (st == BNT_OK) {
        st = read_version(ix, &version, err);
    }
    if (st == BNT_OK && version < 0) {
        st = bnt_err_set(err, BNT_E_FILE, "cache index %s has schema %d, which none ever had", path,
                         version);
        bnt_err_hint(err, REBUILD);
    }
    if (st == BNT_OK && version > INDEX_SCHEMA) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "cache index %s has schema %d; this bnt knows %d",
                         path, version, INDEX_SCHEMA);
        bnt_err_hint(err,
                     "use the newer bnt that wrote it, or set BNT_CACHE_DIR to another folder");
    }
    if (st == BNT_OK && version == 0) {
        st = make_schema(ix, fresh, err);
    } else if (st == BNT_OK && version < INDEX_SCHEMA) {
        st = index_is_readonly(ix) ? copy_to_memory(ix, err) : BNT_OK;
        if (st == BNT_OK) {
            st = migrate(ix, err);
        }
    }
    if (st != BNT_OK) {
        index_close(ix);
        ix = NULL;
    }
    *out = ix;
    return st;
}

void index_close(struct cache_index *ix)
{
    if (ix) {
        sqlite3_close(ix->db); /* rolls back; no statement outlives its function */
        free(ix);
    }
}

bool index_is_readonly(struct cache_index *ix)
{
    return ix->is_copy || sqlite3_db_readonly(ix->db, "main") != 0;
}

enum bnt_status index_begin(struct cache_index *ix, struct bnt_err *err)
{
    enum bnt_status st = exec(ix, "BEGIN IMMEDIATE", "begin a change", err);
    ix->in_transaction = st == BNT_OK;
    return st;
}

enum bnt_status index_commit(struct cache_index *ix, struct bnt_err *err)
{
    enum bnt_status st = exec(ix, "COMMIT", "finish a change", err);
    ix->in_transaction = st != BNT_OK;
    return st;
}

void index_rollback(struct cache_index *ix)
{
    if (ix->in_transaction) {
        (void)sqlite3_exec(ix->db, "ROLLBACK", NULL, NULL,
                           NULL); /* fails when SQLite has rolled back by itself */
        ix->in_transaction = false;
    }
}

enum bnt_status index_put_blob(struct cache_index *ix, const struct bnt_cache_entry *entry,
                               enum bnt_cache_origin origin, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = prepare(
        ix,
        "INSERT INTO blob(digest, size, verified_s, used_s, since_s, use_hours, from_source,"
        " from_cold, from_warm) VALUES(?1, ?2, ?3, ?4, ?4, 1, ?5, ?6, ?7)"
        " ON CONFLICT(digest) DO UPDATE SET size = ?2, verified_s = max(verified_s, ?3),"
        " use_hours = use_hours + (?4 - used_s >= ?8), used_s = max(used_s, ?4),"
        " from_source = from_source + ?5, from_cold = from_cold + ?6, from_warm = from_warm + ?7",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, entry->digest);
    sqlite3_bind_int64(q, 2, (sqlite3_int64)entry->size);
    sqlite3_bind_int64(q, 3, entry->verified_s);
    sqlite3_bind_int64(q, 4, entry->used_s);
    sqlite3_bind_int(q, 5, origin == BNT_CACHE_FROM_SOURCE);
    sqlite3_bind_int(q, 6, origin == BNT_CACHE_FROM_COLD);
    sqlite3_bind_int(q, 7, origin == BNT_CACHE_FROM_WARM);
    sqlite3_bind_int(q, 8, BNT_CACHE_USE_STEP_S);
    return run(ix, q, "add a blob", err);
}

enum bnt_status index_note_blob(struct cache_index *ix, const char *digest, uint64_t size,
                                int64_t used_s, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = prepare(ix,
                                 "INSERT INTO blob(digest, size, verified_s, used_s, since_s)"
                                 " VALUES(?1, ?2, 0, ?3, ?3)"
                                 " ON CONFLICT(digest) DO NOTHING",
                                 &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, digest);
    sqlite3_bind_int64(q, 2, (sqlite3_int64)size);
    sqlite3_bind_int64(q, 3, used_s);
    return run(ix, q, "add a blob", err);
}

enum bnt_status index_put_name(struct cache_index *ix, const struct bnt_cache_entry *entry,
                               struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = prepare(
        ix,
        "INSERT OR REPLACE INTO name(name, digest, source, source_tag, file_name, fetched_s)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, entry->name);
    bind_text(q, 2, entry->digest);
    bind_text(q, 3, entry->source);
    bind_text(q, 4, entry->source_tag);
    bind_text(q, 5, entry->file_name);
    sqlite3_bind_int64(q, 6, entry->fetched_s);
    return run(ix, q, "add a name", err);
}

enum bnt_status index_set_verified(struct cache_index *ix, const char *digest, int64_t verified_s,
                                   struct bnt_err *err)
{
    if (index_is_readonly(ix)) {
        return BNT_OK; /* a cache shared read-only: the finding stands, only its time cannot be
                          noted */
    }
    sqlite3_stmt *q;
    enum bnt_status st = prepare(ix, "UPDATE blob SET verified_s = ?2 WHERE digest = ?1", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, digest);
    sqlite3_bind_int64(q, 2, verified_s);
    return run(ix, q, "note a check", err);
}

/* Of many processes that saw the same old note one counts. */
#define TEXT_OF(number) #number
#define WHERE_OLDER(step) " WHERE digest = ?1 AND used_s <= ?2 - " TEXT_OF(step)
#define UNLESS_NOTED WHERE_OLDER(BNT_CACHE_USE_STEP_S)

/* Run a statement that is as good as not run: when the index is held or cannot be written. */
static void run_if_free(struct cache_index *ix, const char *sql, const char *digest, int64_t value)
{
    sqlite3_stmt *q;
    if (index_is_readonly(ix) || prepare(ix, sql, &q, NULL) != BNT_OK) {
        return;
    }
    sqlite3_busy_timeout(ix->db, 0);
    bind_text(q, 1, digest);
    sqlite3_bind_int64(q, 2, value);
    (void)run(ix, q, "note a use", NULL); /* the next one tries again */
    sqlite3_busy_timeout(ix->db, INDEX_BUSY_MS);
}

void index_note_use(struct cache_index *ix, const char *digest, int64_t used_s)
{
    run_if_free(ix,
                BNT_FAULT(use_uncounted)
                    ? "UPDATE blob SET used_s = ?2" UNLESS_NOTED
                    : "UPDATE blob SET used_s = ?2, use_hours = use_hours + 1" UNLESS_NOTED,
                digest, used_s);
}

void index_note_warm(struct cache_index *ix, const char *digest, uint64_t warm_bytes)
{
    run_if_free(ix, "UPDATE blob SET warm_bytes = ?2 WHERE digest = ?1", digest,
                (int64_t)warm_bytes);
}

enum bnt_status index_set_pinned(struct cache_index *ix, const char *digest, bool pinned,
                                 struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = prepare(ix, "UPDATE blob SET pinned = ?2 WHERE digest = ?1", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, digest);
    sqlite3_bind_int(q, 2, pinned);
    return run(ix, q, "change a pin", err);
}

/* A statement with one text parameter and no rows. */
static enum bnt_status run_with_text(struct cache_index *ix, const char *sql, const char *text,
                                     struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = prepare(ix, sql, &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, text);
    return run(ix, q, "remove a model", err);
}

enum bnt_status index_remove_blob(struct cache_index *ix, const char *digest, struct bnt_err *err)
{
    enum bnt_status st = run_with_text(ix, "DELETE FROM name WHERE digest = ?1", digest, err);
    return st == BNT_OK ? run_with_text(ix, "DELETE FROM blob WHERE digest = ?1", digest, err) : st;
}

enum bnt_status index_remove_name(struct cache_index *ix, const char *name, struct bnt_err *err)
{
    return run_with_text(ix, "DELETE FROM name WHERE name = ?1", name, err);
}

enum bnt_status index_count_names(struct cache_index *ix, const char *digest, uint64_t *n,
                                  struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = prepare(ix, "SELECT count(*) FROM name WHERE digest = ?1", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, digest);
    if (sqlite3_step(q) == SQLITE_ROW) {
        *n = (uint64_t)sqlite3_column_int64(q, 0);
    } else {
        st = index_error(ix, "count names", err);
    }
    sqlite3_finalize(q);
    return st;
}

/* A column into a fixed array. Longer text than we ever write means that the file is damaged. */
static enum bnt_status read_text(struct cache_index *ix, sqlite3_stmt *q, int column, char *out,
                                 size_t size, struct bnt_err *err)
{
    const unsigned char *text = sqlite3_column_text(q, column);
    size_t n = (size_t)sqlite3_column_bytes(q, column);
    if (!text || n >= size) {
        bnt_err_hint(err, REBUILD);
        return bnt_err_set(err, BNT_E_FILE,
                           "cache index %s: a value of %zu bytes where at most %zu are written",
                           ix->path, n, size - 1);
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return BNT_OK;
}

/* Names and digests become parts of paths, so a file from elsewhere must not choose them. */
static enum bnt_status check_entry(struct cache_index *ix, const struct bnt_cache_entry *e,
                                   struct bnt_err *err)
{
    const bool named = e->name[0] == '\0' || bnt_cache_name_ok(e->name);
    if ((named && bnt_sha256_is_hex(e->digest) && e->size <= INT64_MAX) || BNT_FAULT(index_row)) {
        return BNT_OK;
    }
    bnt_err_hint(err, REBUILD);
    return bnt_err_set(err, BNT_E_FILE, "cache index %s: a row that nothing here writes: %.100s %s",
                       ix->path, e->name, e->digest);
}

/* The row that q stands on, of ENTRY_COLUMNS. */
static enum bnt_status read_entry(struct cache_index *ix, sqlite3_stmt *q,
                                  struct bnt_cache_entry *e, struct bnt_err *err)
{
    const struct {
        int column;
        char *out;
        size_t size;
    } texts[] = {
        {0, e->name, sizeof e->name},           {1, e->digest, sizeof e->digest},
        {3, e->source, sizeof e->source},       {4, e->source_tag, sizeof e->source_tag},
        {5, e->file_name, sizeof e->file_name},
    };
    *e = (struct bnt_cache_entry){0};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof texts / sizeof texts[0]; i++) {
        st = read_text(ix, q, texts[i].column, texts[i].out, texts[i].size, err);
    }
    e->size = (uint64_t)sqlite3_column_int64(q, 2);
    e->fetched_s = sqlite3_column_int64(q, 6);
    e->verified_s = sqlite3_column_int64(q, 7);
    e->used_s = sqlite3_column_int64(q, 8);
    e->pinned = sqlite3_column_int(q, 9) != 0;
    e->counts = (struct bnt_cache_counts){
        .since_s = sqlite3_column_int64(q, 10),
        .use_hours = (uint64_t)sqlite3_column_int64(q, 11),
        .from_source = (uint64_t)sqlite3_column_int64(q, 12),
        .from_cold = (uint64_t)sqlite3_column_int64(q, 13),
        .from_warm = (uint64_t)sqlite3_column_int64(q, 14),
        .warm_bytes = (uint64_t)sqlite3_column_int64(q, 15),
    };
    return st == BNT_OK ? check_entry(ix, e, err) : st;
}

enum bnt_status index_find_name(struct cache_index *ix, const char *name,
                                struct bnt_cache_entry *out, bool *found, struct bnt_err *err)
{
    sqlite3_stmt *q;
    *found = false;
    enum bnt_status st = prepare(
        ix, "SELECT " ENTRY_COLUMNS " FROM name n JOIN blob b USING(digest) WHERE n.name = ?1", &q,
        err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, name);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        st = read_entry(ix, q, out, err);
        *found = st == BNT_OK;
    } else if (rc != SQLITE_DONE) {
        st = index_error(ix, "look up a name", err);
    }
    sqlite3_finalize(q);
    return st;
}

enum bnt_status index_find_digest(struct cache_index *ix, const char *prefix,
                                  struct bnt_cache_entry *out, size_t *n_found, struct bnt_err *err)
{
    /* A range rather than LIKE or substr: it uses the primary key; 'g' follows 'f'. With min() in
     * the columns, SQLite takes the others from the row of the minimum: the first name of each
     * blob. */
    sqlite3_stmt *q;
    *n_found = 0;
    enum bnt_status st =
        prepare(ix,
                "SELECT " ENTRY_COLUMNS ", min(n.name) FROM blob b LEFT JOIN name n USING(digest)"
                " WHERE b.digest >= ?1 AND b.digest < ?1 || 'g' GROUP BY b.digest"
                " ORDER BY b.digest LIMIT 2",
                &q, err);
    if (st != BNT_OK) {
        return st;
    }
    bind_text(q, 1, prefix);
    int rc = sqlite3_step(q);
    for (; st == BNT_OK && rc == SQLITE_ROW; rc = sqlite3_step(q)) {
        struct bnt_cache_entry e;
        st = read_entry(ix, q, (*n_found)++ == 0 ? out : &e, err);
    }
    if (st == BNT_OK && rc != SQLITE_DONE) {
        st = index_error(ix, "look up a digest", err);
    }
    sqlite3_finalize(q);
    return st;
}

static enum bnt_status list_push(struct bnt_cache_list *l, size_t *cap,
                                 const struct bnt_cache_entry *e, struct bnt_err *err)
{
    if (l->n == *cap) {
        size_t more = *cap ? *cap * 2 : 16;
        struct bnt_cache_entry *at = realloc(l->at, more * sizeof *at);
        if (!at) {
            return bnt_err_nomem(err, "list of the cache", more * sizeof *at);
        }
        l->at = at;
        *cap = more;
    }
    l->at[l->n++] = *e;
    return BNT_OK;
}

enum bnt_status index_list(struct cache_index *ix, struct bnt_cache_list *out, struct bnt_err *err)
{
    *out = (struct bnt_cache_list){0};
    sqlite3_stmt *q;
    enum bnt_status st =
        prepare(ix,
                "SELECT " ENTRY_COLUMNS " FROM blob b LEFT JOIN name n USING(digest)"
                " ORDER BY n.name IS NULL, n.name, b.digest",
                &q, err);
    if (st != BNT_OK) {
        return st;
    }
    size_t cap = 0;
    int rc = sqlite3_step(q);
    for (; st == BNT_OK && rc == SQLITE_ROW; rc = sqlite3_step(q)) {
        struct bnt_cache_entry e;
        st = read_entry(ix, q, &e, err);
        if (st == BNT_OK) {
            st = list_push(out, &cap, &e, err);
        }
    }
    if (st == BNT_OK && rc != SQLITE_DONE) {
        st = index_error(ix, "list it", err);
    }
    sqlite3_finalize(q);
    if (st != BNT_OK) {
        bnt_cache_list_release(out);
    }
    return st;
}
