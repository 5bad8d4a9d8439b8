/* Reading the history: what was decided about a test, what a run was. */
#include <stdio.h>
#include <string.h>

#include "testkit/history_impl.h"

/* The columns that read_row expects from its first on. */
#define ROW_COLUMNS                                                                                \
    "n.id, n.started_s, r.outcome, r.wall_ms, n.tier, r.kind, r.reason, r.why, r.label, r.inputs," \
    " n.program, n.model, n.machine, r.value"

static void read_row(sqlite3_stmt *q, struct history_row *row)
{
    char outcome[24];
    *row = (struct history_row){.started_unix_s = sqlite3_column_int64(q, 1)};
    history_column(q, 0, row->run, sizeof row->run);
    history_column(q, 2, outcome, sizeof outcome);
    row->elsewhere = strcmp(outcome, "elsewhere") == 0;
    row->outcome = bnt_test_outcome_from_name(outcome);
    if (row->outcome == BNT_TEST_OUTCOMES) { /* of a newer bnt: it settles nothing here */
        row->outcome = BNT_TEST_SKIPPED;
    }
    row->wall_ms = (uint64_t)sqlite3_column_int64(q, 3);
    history_column(q, 4, row->tier, sizeof row->tier);
    history_column(q, 5, row->kind, sizeof row->kind);
    history_column(q, 6, row->reason, sizeof row->reason);
    history_column(q, 7, row->why, sizeof row->why);
    history_column(q, 8, row->label, sizeof row->label);
    history_column(q, 9, row->inputs, sizeof row->inputs);
    history_column(q, 10, row->program, sizeof row->program);
    history_column(q, 11, row->model, sizeof row->model);
    history_column(q, 12, row->machine, sizeof row->machine);
    row->value = sqlite3_column_double(q, 13);
}

enum bnt_status history_of_test(struct history *h, const char *test,
                                struct history_row rows[HISTORY_PER_TEST], size_t *n,
                                struct bnt_err *err)
{
    sqlite3_stmt *q;
    bool row = false;
    *n = 0;
    enum bnt_status st = history_prepare(
        h,
        "SELECT " ROW_COLUMNS " FROM result r JOIN run n ON n.seq = r.run WHERE r.test = ?1"
        " ORDER BY n.started_s DESC, n.seq DESC LIMIT ?2",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, test);
    sqlite3_bind_int(q, 2, HISTORY_PER_TEST);
    for (st = history_step(h, q, &row, err); row && *n < HISTORY_PER_TEST;
         st = history_step(h, q, &row, err)) {
        read_row(q, &rows[(*n)++]);
    }
    sqlite3_finalize(q);
    return st;
}

enum bnt_status history_near(struct history *h, const char *test, char *out, size_t size,
                             struct bnt_err *err)
{
    enum { NAMES_MAX = 4000 };
    static char names[NAMES_MAX][96];
    static const char *list[NAMES_MAX + 1];
    sqlite3_stmt *q;
    bool row = false;
    size_t n = 0;
    enum bnt_status st =
        history_prepare(h, "SELECT DISTINCT test FROM result ORDER BY test", &q, err);
    out[0] = '\0';
    if (st != BNT_OK) {
        return st;
    }
    for (st = history_step(h, q, &row, err); row && n < NAMES_MAX;
         st = history_step(h, q, &row, err)) {
        history_column(q, 0, names[n], sizeof names[n]);
        list[n] = names[n];
        n++;
    }
    sqlite3_finalize(q);
    list[n] = NULL;
    const char *near = bnt_did_you_mean(test, list);
    for (size_t i = 0; i < n && !near && test[0]; i++) {
        near = strstr(list[i], test) ? list[i] : NULL;
    }
    snprintf(out, size, "%s", near ? near : "");
    return st;
}

enum bnt_status history_each_run(struct history *h, unsigned most, history_run_fn *each, void *ctx,
                                 struct bnt_err *err)
{
    sqlite3_stmt *q;
    bool row = false;
    enum bnt_status st = history_prepare(
        h,
        "SELECT n.id, n.tier, n.config, m.host, n.started_s, n.wall_ms, n.exit, n.shard_index,"
        " n.shard_total, sum(r.outcome <> 'elsewhere'), sum(r.outcome = 'passed'),"
        " sum(r.outcome IN ('failed', 'disagreed')), sum(r.outcome = 'not run'),"
        " sum(r.outcome = 'cached')"
        " FROM run n JOIN machine m ON m.fingerprint = n.machine JOIN result r ON r.run = n.seq"
        " GROUP BY n.seq ORDER BY n.started_s DESC, n.seq DESC LIMIT ?1",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    sqlite3_bind_int64(q, 1, most);
    for (st = history_step(h, q, &row, err); row && st == BNT_OK;) {
        struct history_run run = {.started_unix_s = sqlite3_column_int64(q, 4)};
        history_column(q, 0, run.id, sizeof run.id);
        history_column(q, 1, run.tier, sizeof run.tier);
        history_column(q, 2, run.config, sizeof run.config);
        history_column(q, 3, run.host, sizeof run.host);
        run.wall_ms = (uint64_t)sqlite3_column_int64(q, 5);
        run.exit_code = sqlite3_column_int(q, 6);
        run.shard_index = (unsigned)sqlite3_column_int(q, 7);
        run.shard_total = (unsigned)sqlite3_column_int(q, 8);
        uint64_t *const counts[] = {&run.n_tests, &run.n_passed, &run.n_red, &run.n_not_run,
                                    &run.n_cached};
        for (int i = 0; i < 5; i++) {
            *counts[i] = (uint64_t)sqlite3_column_int64(q, 9 + i);
        }
        st = each(ctx, &run, err);
        st = st == BNT_OK ? history_step(h, q, &row, err) : st;
    }
    sqlite3_finalize(q);
    return st;
}

/* The one run whose id, of hexadecimal digits, begins so. */
static enum bnt_status find_run(struct history *h, const char *begin, sqlite3_int64 *seq,
                                struct bnt_err *err)
{
    sqlite3_stmt *q;
    bool first = false, second = false, whole = false;
    enum bnt_status st = history_prepare(
        h, "SELECT seq, id = ?1 FROM run WHERE id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 2", &q,
        err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, begin);
    st = history_step(h, q, &first, err);
    if (st == BNT_OK && first) {
        *seq = sqlite3_column_int64(q, 0);
        whole = sqlite3_column_int(q, 1) != 0;
        st = history_step(h, q, &second, err);
    }
    sqlite3_finalize(q);
    if (st == BNT_OK && !first) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "history %s: no run begins with %s", h->path, begin);
        bnt_err_hint(err, "bnt test history lists the runs");
    } else if (st == BNT_OK && second && !whole) {
        st = bnt_err_set(err, BNT_E_USAGE, "history %s: more than one run begins with '%s'",
                         h->path, begin);
        bnt_err_hint(err, "give more digits: bnt test history lists the runs");
    }
    return st;
}

enum bnt_status history_each_row(struct history *h, const char *run_id, history_row_fn *each,
                                 void *ctx, struct bnt_err *err)
{
    sqlite3_stmt *q;
    sqlite3_int64 seq = 0;
    bool row = false;
    enum bnt_status st = find_run(h, run_id, &seq, err);
    if (st == BNT_OK) {
        st = history_prepare(h,
                             "SELECT " ROW_COLUMNS
                             ", r.suite, r.test FROM result r JOIN run n ON n.seq = r.run"
                             " WHERE n.seq = ?1 ORDER BY r.outcome = 'elsewhere', r.rank, r.test",
                             &q, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    sqlite3_bind_int64(q, 1, seq);
    for (st = history_step(h, q, &row, err); row && st == BNT_OK;) {
        struct history_row r;
        read_row(q, &r);
        st = each(ctx, (const char *)sqlite3_column_text(q, 14),
                  (const char *)sqlite3_column_text(q, 15), &r, err);
        st = st == BNT_OK ? history_step(h, q, &row, err) : st;
    }
    sqlite3_finalize(q);
    return st;
}

enum bnt_status history_each_metric(struct history *h, const char *test, history_metric_fn *each,
                                    void *ctx, struct bnt_err *err)
{
    sqlite3_stmt *q;
    bool row = false;
    enum bnt_status st = history_prepare(
        h,
        "SELECT n.id, m.name, m.value, m.unit FROM metric m JOIN run n ON n.seq = m.run"
        " WHERE m.test = ?1 ORDER BY n.started_s DESC, n.seq DESC, m.name",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 1, test);
    for (st = history_step(h, q, &row, err); row && st == BNT_OK;) {
        char run[17];
        struct bnt_test_metric m = {.value = sqlite3_column_double(q, 2)};
        history_column(q, 0, run, sizeof run);
        history_column(q, 1, m.name, sizeof m.name);
        history_column(q, 3, m.unit, sizeof m.unit);
        st = each(ctx, run, &m, err);
        st = st == BNT_OK ? history_step(h, q, &row, err) : st;
    }
    sqlite3_finalize(q);
    return st;
}

/* The values that the statement gives, newest first, become the past of a figure. */
static enum bnt_status take_past(struct history *h, sqlite3_stmt *q, struct bnt_test_metric *m,
                                 struct bnt_err *err)
{
    double newest_first[BNT_TEST_PAST];
    size_t n = 0;
    bool row = false;
    enum bnt_status st;
    for (st = history_step(h, q, &row, err); row && n < BNT_TEST_PAST;
         st = history_step(h, q, &row, err)) {
        newest_first[n++] = sqlite3_column_double(q, 0);
    }
    sqlite3_reset(q);
    for (m->n_past = 0; m->n_past < n; m->n_past++) {
        m->past[m->n_past] = newest_first[n - 1 - m->n_past];
    }
    return st;
}

enum bnt_status history_metrics_past(struct history *h, struct bnt_test_run *run,
                                     struct bnt_err *err)
{
    sqlite3_stmt *q;
    enum bnt_status st =
        history_prepare(h,
                        "SELECT m.value FROM metric m JOIN run n ON n.seq = m.run"
                        " WHERE m.test = ?1 AND m.name = ?2 AND m.unit = ?3 AND n.machine = ?4"
                        " AND substr(n.model, 1, 16) = substr(?5, 1, 16) AND n.config = ?6"
                        " ORDER BY n.started_s DESC, n.seq DESC LIMIT ?7",
                        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    history_bind(q, 4, run->machine.fingerprint);
    history_bind(q, 5, run->model.digest);
    history_bind(q, 6, run->config);
    sqlite3_bind_int(q, 7, BNT_TEST_PAST);
    for (size_t i = 0; i < run->n && st == BNT_OK; i++) {
        struct bnt_test *t = &run->at[i];
        history_bind(q, 1, t->name);
        for (size_t k = 0; k < t->n_metrics && st == BNT_OK; k++) {
            history_bind(q, 2, t->metrics[k].name);
            history_bind(q, 3, t->metrics[k].unit);
            st = take_past(h, q, &t->metrics[k], err);
        }
    }
    sqlite3_finalize(q);
    return st;
}

enum bnt_status history_each_time(struct history *h, history_time_fn *each, void *ctx,
                                  struct bnt_err *err)
{
    sqlite3_stmt *q;
    bool row = false;
    enum bnt_status st = history_prepare(
        h,
        "SELECT test, avg(wall_ms) FROM result WHERE outcome IN ('passed', 'failed', 'quarantined')"
        " GROUP BY test ORDER BY test",
        &q, err);
    if (st != BNT_OK) {
        return st;
    }
    for (st = history_step(h, q, &row, err); row && st == BNT_OK;) {
        st = each(ctx, (const char *)sqlite3_column_text(q, 0), sqlite3_column_double(q, 1), err);
        st = st == BNT_OK ? history_step(h, q, &row, err) : st;
    }
    sqlite3_finalize(q);
    return st;
}
