/* Writing the history: runs, merging, bounds, kept results. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/utf8.h"
#include "testkit/history_impl.h"

/* Runs between two looks at the bounds. */
enum { PRUNE_EVERY = 16 };

static enum bnt_status put_machine(struct history *h, const struct bnt_test_machine *m,
                                   struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st =
        history_prepare(h, "INSERT OR IGNORE INTO machine VALUES(?1, ?2, ?3, ?4, ?5, ?6)", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, m->fingerprint);
    history_bind(q, 2, m->host);
    history_bind(q, 3, m->cpu);
    history_bind(q, 4, m->os);
    sqlite3_bind_int(q, 5, m->n_cpu);
    sqlite3_bind_int64(q, 6, (sqlite3_int64)m->memory_bytes);
    return history_run_once(h, q, "add a machine", err);
}

/* *seq: the run's number here, 0 when it was there before. */
static enum bnt_status put_run(struct history *h, const struct bnt_test_run *run, int exit_code,
                               sqlite3_int64 *seq, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = history_prepare(
        h,
        "INSERT OR IGNORE INTO run(id, started_s, tier, machine, program, model, model_kind,"
        " config, version, seed, budget_ms, wall_ms, jobs, shard_index, shard_total, exit)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, run->id);
    sqlite3_bind_int64(q, 2, run->started_unix_s);
    history_bind(q, 3, bnt_test_tier_name(run->tier));
    history_bind(q, 4, run->machine.fingerprint);
    history_bind(q, 5, run->program_digest);
    history_bind(q, 6, run->model.digest);
    history_bind(q, 7, run->model.kind);
    history_bind(q, 8, run->config);
    history_bind(q, 9, run->version);
    sqlite3_bind_int64(q, 10, (sqlite3_int64)run->seed);
    sqlite3_bind_int64(q, 11, (sqlite3_int64)run->budget_ms);
    sqlite3_bind_int64(q, 12, (sqlite3_int64)(run->wall_ns / 1000000u));
    sqlite3_bind_int(q, 13, run->n_jobs);
    sqlite3_bind_int(q, 14, (int)run->shard.index);
    sqlite3_bind_int(q, 15, (int)run->shard.total);
    sqlite3_bind_int(q, 16, exit_code);
    st = history_run_once(h, q, "add a run", err);
    *seq = st == BNT_OK && sqlite3_changes(h->db) > 0 ? sqlite3_last_insert_rowid(h->db) : 0;
    return st;
}

/* The statement of put_results, with the columns that all rows have set for one of them. */
static void bind_result(sqlite3_stmt *q, sqlite3_int64 seq, const struct bnt_test *t)
{
    char inputs[HISTORY_DIGEST_BYTES];
    const char *reason = t->reason ? t->reason : "";
    snprintf(inputs, sizeof inputs, "%.16s", t->inputs);
    history_bind(q, 1, t->name);
    sqlite3_bind_int64(q, 2, seq);
    history_bind(q, 3, t->suite);
    history_bind(q, 4, bnt_test_outcome_name(t->outcome));
    (void)sqlite3_bind_text(q, 5, reason,
                            (int)bnt_utf8_cut(reason, strlen(reason), HISTORY_REASON_BYTES - 1),
                            SQLITE_TRANSIENT);
    sqlite3_bind_int64(q, 6, (sqlite3_int64)(t->wall_ns / 1000000u));
    history_bind(q, 7, bnt_test_class_name(t->plan.kind));
    history_bind(q, 8, t->plan.why);
    sqlite3_bind_double(q, 9, t->plan.value);
    sqlite3_bind_int64(q, 10, (sqlite3_int64)t->plan.rank);
    history_bind(q, 11, inputs);
    history_bind(q, 12, t->label);
    sqlite3_bind_int64(q, 13, (sqlite3_int64)t->n_tries + 1);
}

static enum bnt_status step_again(struct history *h, sqlite3_stmt *q, struct bnt_err *err)
{
    enum bnt_status st =
        sqlite3_step(q) == SQLITE_DONE ? BNT_OK : history_error(h, "add a result", err);
    sqlite3_reset(q);
    return st;
}

static void bind_elsewhere(sqlite3_stmt *q, sqlite3_int64 seq, const char *full_name)
{
    const char *slash = strrchr(full_name, '/');
    char suite[128];
    snprintf(suite, sizeof suite, "%.*s", slash ? (int)(slash - full_name) : 0, full_name);
    sqlite3_clear_bindings(q);
    history_bind(q, 1, slash ? slash + 1 : full_name);
    sqlite3_bind_int64(q, 2, seq);
    history_bind(q, 3, suite);
    history_bind(q, 4, "elsewhere");
    static const int empty[] = {5, 7, 8, 11, 12};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        history_bind(q, empty[i], "");
    }
    static const int zero[] = {6, 10, 13};
    for (size_t i = 0; i < sizeof zero / sizeof zero[0]; i++) {
        sqlite3_bind_int64(q, zero[i], 0);
    }
    sqlite3_bind_double(q, 9, 0);
}

static enum bnt_status put_results(struct history *h, const struct bnt_test_run *run,
                                   sqlite3_int64 seq, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = history_prepare(
        h,
        "INSERT OR REPLACE INTO result(test, run, suite, outcome, reason, wall_ms, kind, why,"
        " value, rank, inputs, label, tries)"
        " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    for (size_t i = 0; st == BNT_OK && i < run->n; i++) {
        bind_result(q, seq, &run->at[i]);
        st = step_again(h, q, err);
    }
    for (size_t i = 0; st == BNT_OK && i < run->shard.elsewhere.n; i++) {
        bind_elsewhere(q, seq, run->shard.elsewhere.at[i]);
        st = step_again(h, q, err);
    }
    sqlite3_finalize(q);
    return st;
}

static enum bnt_status put_metrics(struct history *h, const struct bnt_test_run *run,
                                   sqlite3_int64 seq, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st =
        history_prepare(h, "INSERT OR REPLACE INTO metric VALUES(?1, ?2, ?3, ?4, ?5)", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    for (size_t i = 0; st == BNT_OK && i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        for (size_t k = 0; st == BNT_OK && k < t->n_metrics; k++) {
            history_bind(q, 1, t->name);
            sqlite3_bind_int64(q, 2, seq);
            history_bind(q, 3, t->metrics[k].name);
            sqlite3_bind_double(q, 4, t->metrics[k].value);
            history_bind(q, 5, t->metrics[k].unit);
            st = step_again(h, q, err);
        }
    }
    sqlite3_finalize(q);
    return st;
}

/* Passes of cacheable tests that ran. */
static enum bnt_status put_kept(struct history *h, const struct bnt_test_run *run,
                                struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st =
        history_prepare(h, "INSERT OR IGNORE INTO kept VALUES(?1, ?2, ?3, ?4)", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    for (size_t i = 0; st == BNT_OK && i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (t->cache == BNT_CACHE_MISS && t->outcome == BNT_TEST_PASSED && t->n_tries == 0) {
            history_bind(q, 1, t->cache_key);
            history_bind(q, 2, t->name);
            history_bind(q, 3, run->id);
            sqlite3_bind_int64(q, 4, run->started_unix_s);
            st = step_again(h, q, err);
        }
    }
    sqlite3_finalize(q);
    return st;
}

static enum bnt_status end_change(struct history *h, enum bnt_status st, struct bnt_err *err)
{
    if (st == BNT_OK && !BNT_FAULT(history_no_commit)) {
        st = history_exec(h, "COMMIT", "finish a change", err);
    }
    if (st != BNT_OK || BNT_FAULT(history_no_commit)) {
        /* Fails when SQLite has rolled back by itself. */
        (void)sqlite3_exec(h->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return st;
}

static const char prune_sql[] =
    "DELETE FROM run WHERE seq NOT IN (SELECT seq FROM run ORDER BY started_s DESC, seq DESC LIMIT"
    " 2000);"
    "DELETE FROM result WHERE (test, run) IN ("
    "  SELECT test, run FROM (SELECT r.test, r.run, row_number() OVER ("
    "    PARTITION BY r.test ORDER BY n.started_s DESC, n.seq DESC) AS age"
    "    FROM result r JOIN run n ON n.seq = r.run) WHERE age > 60);"
    "DELETE FROM kept WHERE (test, key) IN ("
    "  SELECT test, key FROM (SELECT test, key, row_number() OVER ("
    "    PARTITION BY test ORDER BY made_s DESC) AS age FROM kept) WHERE age > 20);"
    "DELETE FROM run WHERE seq NOT IN (SELECT run FROM result);";
_Static_assert(HISTORY_RUNS == 2000 && HISTORY_PER_TEST == 60, "the numbers in prune_sql");

enum bnt_status history_prune(struct history *h, struct bnt_err *err)
{
    return history_exec(h, prune_sql, "delete old runs from it", err);
}

enum bnt_status history_record(struct history *h, const struct bnt_test_run *run, int exit_code,
                               struct bnt_err *err)
{
    sqlite3_int64 seq = 0;
    enum bnt_status st = history_exec(h, "BEGIN IMMEDIATE", "begin a change", err);
    if (st != BNT_OK) {
        return st;
    }
    st = put_machine(h, &run->machine, err);
    if (st == BNT_OK) {
        st = put_run(h, run, exit_code, &seq, err);
    }
    if (st == BNT_OK && seq > 0) {
        st = put_results(h, run, seq, err);
    }
    if (st == BNT_OK && seq > 0) {
        st = put_metrics(h, run, seq, err);
    }
    if (st == BNT_OK && seq > 0) {
        st = put_kept(h, run, err);
    }
    if (st == BNT_OK && seq % PRUNE_EVERY == 0) {
        st = history_prune(h, err);
    }
    return end_change(h, st, err);
}

static const char merge_sql[] =
    "INSERT OR IGNORE INTO machine SELECT * FROM other.machine;"
    "CREATE TEMP TABLE taken AS SELECT seq, id FROM other.run"
    "  WHERE id NOT IN (SELECT id FROM main.run);"
    "INSERT INTO main.run SELECT NULL, id, started_s, tier, machine, program, model, model_kind,"
    "  config, version, seed, budget_ms, wall_ms, jobs, shard_index, shard_total, exit"
    "  FROM other.run WHERE seq IN (SELECT seq FROM taken) ORDER BY started_s, seq;"
    "INSERT INTO main.result SELECT r.test, n.seq, r.suite, r.outcome, r.reason, r.wall_ms, r.kind,"
    "  r.why, r.value, r.rank, r.inputs, r.label, r.tries"
    "  FROM other.result r JOIN taken t ON t.seq = r.run JOIN main.run n ON n.id = t.id;"
    "INSERT INTO main.metric SELECT m.test, n.seq, m.name, m.value, m.unit"
    "  FROM other.metric m JOIN taken t ON t.seq = m.run JOIN main.run n ON n.id = t.id;"
    "INSERT OR IGNORE INTO main.kept SELECT * FROM other.kept;";

static enum bnt_status attach(struct history *h, const char *other, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = history_prepare(h, "ATTACH ?1 AS other", &q, err);
    if (st == BNT_OK) {
        history_bind(q, 1, other);
        st = history_run_once(h, q, "read the other one", err);
    }
    return st;
}

static enum bnt_status count_taken(struct history *h, size_t *n, struct bnt_err *err)
{
    sqlite3_stmt *q;
    bool row = false;
    enum bnt_status st = history_prepare(h, "SELECT count(*) FROM taken", &q, err);
    if (st == BNT_OK) {
        st = history_step(h, q, &row, err);
        *n = row ? (size_t)sqlite3_column_int64(q, 0) : 0;
        sqlite3_finalize(q);
    }
    return st;
}

enum bnt_status history_merge(struct history *h, const char *other, size_t *n, struct bnt_err *err)
{
    if (bnt_same_file(h->path, other)) { /* its own lock would keep it out */
        *n = 0;
        return BNT_OK;
    }
    /* Opened by itself first: that checks that it is a history, and of what schema. */
    struct history *checked;
    enum bnt_status st = history_open(other, HISTORY_READ, &checked, err);
    history_close(checked);
    if (st == BNT_OK) {
        st = attach(h, other, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    st = history_exec(h, "BEGIN IMMEDIATE", "begin a change", err);
    if (st == BNT_OK) {
        st = history_exec(h, merge_sql, "take over the other one", err);
        if (st == BNT_OK) {
            st = count_taken(h, n, err);
        }
        if (st == BNT_OK) {
            st = history_exec(h, "DROP TABLE taken;", "take over the other one", err);
        }
        if (st == BNT_OK) {
            st = history_prune(h, err);
        }
        st = end_change(h, st, err);
    }
    (void)sqlite3_exec(h->db, "DETACH other", NULL, NULL, NULL);
    return st;
}

static enum bnt_status vacuum_into(struct history *h, const char *path, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = history_prepare(h, "VACUUM INTO ?1", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, path);
    return history_run_once(h, q, "copy it", err);
}

enum bnt_status history_export(struct history *h, const char *path, struct bnt_err *err)
{
    struct stat sb;
    struct bnt_durable file = {.fd = -1};
    if (stat(path, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_size > 0) {
        bnt_err_hint(err, "delete it first, or name another file");
        return bnt_err_set(err, BNT_E_FAILED, "%s is there already", path);
    }
    enum bnt_status st = bnt_durable_open(&file, path, err);
    st = st == BNT_OK ? vacuum_into(h, file.temp, err) : st;
    st = st == BNT_OK ? bnt_durable_commit(&file, 0644, err) : st;
    bnt_durable_release(&file);
    return st;
}

enum bnt_status history_kept(struct history *h, const char *key, char run[17], bool *found,
                             struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = history_prepare(h, "SELECT run FROM kept WHERE key = ?1", &q, err);
    *found = false;
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, key);
    st = history_step(h, q, found, err);
    if (*found) {
        history_column(q, 0, run, 17);
    }
    sqlite3_finalize(q);
    return st;
}

enum bnt_status history_forget(struct history *h, const char *key, struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st = history_prepare(h, "DELETE FROM kept WHERE key = ?1", &q, err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, key);
    return history_run_once(h, q, "forget a result", err);
}
