/* The history of runs: an SQLite file with what was decided, what came out, and on what machine.
 *
 *     $BNT_HISTORY, else $XDG_STATE_HOME/bnt/history.db, else ~/.local/state/bnt/history.db
 *
 * A run never fails for its history: whoever runs tests treats every error here as "there is none"
 * and says so. Many processes may use one file. It is bounded: HISTORY_PER_TEST results of each
 * test, HISTORY_RUNS runs.
 *
 *     history_find(given, path, &err);
 *     history_open(path, HISTORY_WRITE, &h, &err);
 *     history_of_test(h, test, rows, &n, &err);  ...  history_record(h, run, exit, &err);
 *     history_close(h); */
#ifndef TESTKIT_HISTORY_H
#define TESTKIT_HISTORY_H

#include "testkit/bnt_test.h"

enum {
    HISTORY_SCHEMA = 1,
    HISTORY_PER_TEST = 60,
    HISTORY_RUNS = 2000,
    HISTORY_DIGEST_BYTES = 17, /* a digest is kept by its first 16 digits */
    HISTORY_REASON_BYTES = 160,
};

enum history_mode {
    HISTORY_READ,  /* must exist */
    HISTORY_WRITE, /* made when it does not exist; a file that cannot be written is opened to read
                    */
};

struct history;

/* given: a path, or NULL. "none", given or in $BNT_HISTORY, is "" in out: no history is kept.
 * Errors: as bnt_user_dir. */
enum bnt_status history_find(const char *given, char out[BNT_PATH_MAX], struct bnt_err *err);
/* Errors: NOT_FOUND (HISTORY_READ), FILE when it is damaged, UNSUPPORTED for a newer schema. */
enum bnt_status history_open(const char *path, enum history_mode mode, struct history **out,
                             struct bnt_err *err);
void history_close(struct history *h); /* NULL is fine */
bool history_is_readonly(struct history *h);
const char *history_path(const struct history *h);

/* One decision about a test, and what came of it. */
struct history_row {
    char run[17];
    int64_t started_unix_s;
    bool elsewhere; /* another shard had it: `outcome` says nothing */
    enum bnt_test_outcome outcome;
    uint64_t wall_ms;
    char tier[16], kind[16], reason[HISTORY_REASON_BYTES], why[160], label[32];
    char inputs[HISTORY_DIGEST_BYTES], program[HISTORY_DIGEST_BYTES], model[HISTORY_DIGEST_BYTES];
    char machine[17];
    double value;
};

/* The latest rows of a test, newest first, at most HISTORY_PER_TEST. */
enum bnt_status history_of_test(struct history *h, const char *test,
                                struct history_row rows[HISTORY_PER_TEST], size_t *n,
                                struct bnt_err *err);
/* The name nearest to an unknown one, else the first that contains it; "" when there is none. */
enum bnt_status history_near(struct history *h, const char *test, char *out, size_t size,
                             struct bnt_err *err);

/* Keep a finished run whole or not at all; a run that is there already is left as it is, so that
 * importing twice is harmless. Prunes. */
enum bnt_status history_record(struct history *h, const struct bnt_test_run *run, int exit_code,
                               struct bnt_err *err);
/* Take over all runs and kept results of another history, or none of itself. *n: runs that were
 * new.
 */
enum bnt_status history_merge(struct history *h, const char *other, size_t *n, struct bnt_err *err);
/* Write a copy that nobody else writes to, whole or not at all. Errors: FAILED when the file
 * exists.
 */
enum bnt_status history_export(struct history *h, const char *path, struct bnt_err *err);
/* Delete what is beyond the bounds. */
enum bnt_status history_prune(struct history *h, struct bnt_err *err);

/* One line per run, newest first, at most `most`. */
struct history_run {
    char id[17], tier[16], config[16], host[64];
    int64_t started_unix_s;
    uint64_t wall_ms;
    int exit_code;
    unsigned shard_index, shard_total;
    uint64_t n_tests, n_passed, n_red, n_not_run, n_cached;
};
typedef enum bnt_status history_run_fn(void *ctx, const struct history_run *run,
                                       struct bnt_err *err);
enum bnt_status history_each_run(struct history *h, unsigned most, history_run_fn *each, void *ctx,
                                 struct bnt_err *err);
/* The rows of one run, in the order of the plan. */
typedef enum bnt_status history_row_fn(void *ctx, const char *suite, const char *test,
                                       const struct history_row *row, struct bnt_err *err);
/* run_id: how the id of one run begins. Errors: NOT_FOUND for none, USAGE for several. */
enum bnt_status history_each_row(struct history *h, const char *run_id, history_row_fn *each,
                                 void *ctx, struct bnt_err *err);

/* The figures of a test, newest run first. */
typedef enum bnt_status history_metric_fn(void *ctx, const char *run_id,
                                          const struct bnt_test_metric *metric,
                                          struct bnt_err *err);
enum bnt_status history_each_metric(struct history *h, const char *test, history_metric_fn *each,
                                    void *ctx, struct bnt_err *err);

/* Fill `past` of every figure of a run that is not recorded yet. */
enum bnt_status history_metrics_past(struct history *h, struct bnt_test_run *run,
                                     struct bnt_err *err);

/* Mean time of every test that ran, for a timing file (shard.h). */
typedef enum bnt_status history_time_fn(void *ctx, const char *test, double mean_ms,
                                        struct bnt_err *err);
enum bnt_status history_each_time(struct history *h, history_time_fn *each, void *ctx,
                                  struct bnt_err *err);

/* ---- kept results: the result cache (result_cache.h) ---- */

/* *found: a pass is kept under the key; *run is the run that made it. */
enum bnt_status history_kept(struct history *h, const char *key, char run[17], bool *found,
                             struct bnt_err *err);
/* Forget a key: the audit found it wrong. */
enum bnt_status history_forget(struct history *h, const char *key, struct bnt_err *err);

#endif
