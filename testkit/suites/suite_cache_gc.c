/* Guards what goes and what stays: a model that is removed while a process uses it, a pin that does
 * not hold, a collection that takes the wrong model, more than it must or less, a look-up that
 * waits or writes each time, an older index that is not understood. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/packed_dir.h"
#include "cache/bnt_cache.h"
#include "cache/cache_impl.h"
#include "cache/commands.h"
#include "cache/gc.h"
#include "cache/store.h"
#include "testkit/suites/cache_fixture.h"

enum { DAY_S = 24 * 3600 };

static bool in_cache(struct bnt_cache *c, const char *key)
{
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    enum bnt_status st = bnt_cache_lookup(c, key, &e, path, NULL);
    assert_true(st == BNT_OK || st == BNT_E_NOT_FOUND);
    return st == BNT_OK;
}

/* The last use of a model, this long ago. */
static void set_age(const char *digest, int64_t age_s)
{
    char statement[256];
    snprintf(statement, sizeof statement, "UPDATE blob SET used_s = %lld WHERE digest = '%s'",
             (long long)(bnt_clock_unix_s() - age_s), digest);
    fixture_sql(statement);
}

static struct bnt_cache_gc_report collect(struct bnt_cache *c, struct bnt_cache_gc_opts opts)
{
    struct bnt_cache_gc_report r;
    struct bnt_err err = {0};
    if (bnt_cache_gc(c, &opts, &r, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return r;
}

static enum bnt_cache_gc_verdict verdict_of(const struct bnt_cache_gc_report *r, const char *digest)
{
    for (size_t i = 0; i < r->n; i++) {
        if (strcmp(r->at[i].entry.digest, digest) == 0) {
            return r->at[i].verdict;
        }
    }
    fail_msg("%s is not in the report", digest);
    return BNT_GC_KEPT;
}

/* ---- the plan ---- */

/* Rows as "age in days, size, names, verdict before", and the verdicts that must come out. */
#define ROWS_MAX 4
static const struct plan_case {
    const char *what;
    struct {
        int days;
        uint64_t size, names;
        enum bnt_cache_gc_verdict before, after;
    } rows[ROWS_MAX];
    size_t n;
    struct bnt_cache_gc_opts opts;
    uint64_t free_bytes;
    bool unmet;
} plan_cases[] = {
    {"no limits: only what has no name and is old",
     {{30, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT},
      {30, 10, 0, BNT_GC_KEPT, BNT_GC_UNNAMED},
      {6, 10, 0, BNT_GC_KEPT, BNT_GC_KEPT}},
     3,
     {0},
     0,
     false},
    {"age",
     {{8, 10, 1, BNT_GC_KEPT, BNT_GC_AGE},
      {8, 10, 1, BNT_GC_KEPT_PINNED, BNT_GC_KEPT_PINNED},
      {6, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT}},
     3,
     {.max_age_s = 7 * DAY_S},
     0,
     false},
    {"size: the least recently used first, and no more than needed",
     {{3, 10, 1, BNT_GC_KEPT, BNT_GC_SIZE},
      {2, 10, 1, BNT_GC_KEPT, BNT_GC_SIZE},
      {1, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT}},
     3,
     {.max_bytes = 19},
     0,
     false},
    {"size: exactly full is not too much",
     {{3, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT}, {2, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT}},
     2,
     {.max_bytes = 20},
     0,
     false},
    {"size: another goes where a leased one cannot",
     {{3, 10, 1, BNT_GC_KEPT_LEASED, BNT_GC_KEPT_LEASED}, {2, 10, 1, BNT_GC_KEPT, BNT_GC_SIZE}},
     2,
     {.max_bytes = 10},
     0,
     false},
    {"size: what must stay is too much",
     {{3, 10, 1, BNT_GC_KEPT_LISTED, BNT_GC_KEPT_LISTED},
      {2, 10, 1, BNT_GC_KEPT_PINNED, BNT_GC_KEPT_PINNED}},
     2,
     {.max_bytes = 10},
     0,
     true},
    {"latest stay against age and size",
     {{90, 10, 1, BNT_GC_KEPT, BNT_GC_AGE},
      {80, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT_LATEST},
      {70, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT_LATEST}},
     3,
     {.max_age_s = 7 * DAY_S, .max_bytes = 1, .keep_latest = 2},
     0,
     true},
    {"free space counts what the other rules have freed",
     {{9, 10, 1, BNT_GC_KEPT, BNT_GC_AGE},
      {3, 10, 1, BNT_GC_KEPT, BNT_GC_FREE},
      {2, 10, 1, BNT_GC_KEPT, BNT_GC_KEPT}},
     3,
     {.max_age_s = 7 * DAY_S, .min_free_bytes = 25},
     5,
     false},
    {"free space that cannot be had",
     {{3, 10, 1, BNT_GC_KEPT, BNT_GC_FREE}, {2, 0, 1, BNT_GC_KEPT, BNT_GC_KEPT}},
     2,
     {.min_free_bytes = 100},
     5,
     true},
};

static void plans_by_the_rules_in_their_order(void **state)
{
    (void)state;
    const int64_t now_s = 1000 * DAY_S;
    for (size_t i = 0; i < sizeof plan_cases / sizeof plan_cases[0]; i++) {
        const struct plan_case *pc = &plan_cases[i];
        struct bnt_cache_gc_row rows[ROWS_MAX] = {0};
        struct bnt_cache_gc_report r = {.at = rows, .n = pc->n};
        for (size_t k = 0; k < pc->n; k++) {
            struct bnt_cache_gc_row *row = &rows[pc->n - 1 - k]; /* comes in the wrong order */
            row->entry.used_s = now_s - (int64_t)pc->rows[k].days * DAY_S;
            row->entry.digest[0] = (char)('a' + k);
            row->stored = pc->rows[k].size;
            row->n_names = pc->rows[k].names;
            row->verdict = pc->rows[k].before;
        }
        gc_plan(&r, &pc->opts, now_s, pc->free_bytes);
        for (size_t k = 0; k < pc->n; k++) {
            size_t at = 0;
            while (rows[at].entry.digest[0] != (char)('a' + k)) {
                at++;
            }
            if (rows[at].verdict != pc->rows[k].after) {
                fail_msg("%s: row %zu is '%s', not '%s'", pc->what, k,
                         bnt_cache_gc_words(rows[at].verdict),
                         bnt_cache_gc_words(pc->rows[k].after));
            }
        }
        if (r.unmet != pc->unmet) {
            fail_msg("%s: unmet is %d", pc->what, r.unmet);
        }
    }
}

/* ---- collections of a cache ---- */

static bool keeps_one(void *ctx, const char *digest)
{
    return strcmp(ctx, digest) == 0;
}

static void collection_removes_files_rows_and_names(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry old = fixture_add(c, "old", "old content"),
                           pinned = fixture_add(c, "pinned", "pinned content"), got,
                           listed = fixture_add(c, "listed", "listed content"),
                           recent = fixture_add(c, "recent", "recent content");
    fixture_add(c, "old-too", "old content");
    assert_int_equal(bnt_cache_pin(c, "pinned", true, &got, NULL), BNT_OK);
    assert_true(got.pinned);
    set_age(old.digest, 8 * DAY_S);
    set_age(pinned.digest, 9 * DAY_S);
    set_age(listed.digest, 9 * DAY_S);
    struct bnt_cache_gc_opts opts = {
        .max_age_s = 7 * DAY_S, .keep = keeps_one, .ctx = listed.digest, .dry_run = true};
    assert_int_equal(bnt_cache_blob_path(c, old.digest, path, NULL), BNT_OK);
    for (int dry = 1; dry >= 0; dry--) {
        opts.dry_run = dry;
        struct bnt_cache_gc_report r = collect(c, opts);
        assert_int_equal(r.n, 4);
        assert_int_equal(r.n_removed, 1);
        assert_int_equal(r.bytes_removed, strlen("old content"));
        assert_int_equal(verdict_of(&r, old.digest), BNT_GC_AGE);
        assert_int_equal(verdict_of(&r, pinned.digest), BNT_GC_KEPT_PINNED);
        assert_int_equal(verdict_of(&r, listed.digest), BNT_GC_KEPT_LISTED);
        assert_int_equal(verdict_of(&r, recent.digest), BNT_GC_KEPT);
        bnt_cache_gc_report_release(&r);
        assert_int_equal(access(path, F_OK), dry ? 0 : -1);
        assert_int_equal(fixture_sql("SELECT count(*) FROM name"), dry ? 5 : 3);
    }
    assert_false(in_cache(c, "old"));
    assert_false(in_cache(c, old.digest));
    assert_true(in_cache(c, "pinned") && in_cache(c, "listed") && in_cache(c, "recent"));
    bnt_cache_close(c);
}

static void collection_takes_blobs_without_a_row(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content");
    fixture_sql("DELETE FROM name");
    fixture_sql("DELETE FROM blob");
    struct bnt_cache_gc_report r = collect(c, (struct bnt_cache_gc_opts){0});
    assert_int_equal(verdict_of(&r, e.digest), BNT_GC_KEPT); /* found now: its week begins */
    bnt_cache_gc_report_release(&r);
    set_age(e.digest, 8 * DAY_S);
    r = collect(c, (struct bnt_cache_gc_opts){0});
    assert_int_equal(verdict_of(&r, e.digest), BNT_GC_UNNAMED);
    bnt_cache_gc_report_release(&r);
    assert_false(in_cache(c, e.digest));
    bnt_cache_close(c);
}

static void leased_blob_stays_until_its_user_is_gone(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    int ready[2], end[2];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content"), got;
    struct bnt_cache_gc_opts all = {.max_bytes = 1};
    bool removed = true;
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(end), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* a command that was given -m m */
        struct bnt_model_ref ref;
        char byte = cache_resolve_model(NULL, "m", &ref, NULL) == BNT_OK ? 'y' : 'n';
        close(end[1]);
        if (write(ready[1], &byte, 1) == 1 && read(end[0], &byte, 1) == 0) {
            _exit(0);
        }
        _exit(1);
    }
    char byte = 'n';
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(byte, 'y');
    struct bnt_cache_gc_report r = collect(c, all);
    assert_int_equal(verdict_of(&r, e.digest), BNT_GC_KEPT_LEASED);
    assert_true(r.unmet);
    bnt_cache_gc_report_release(&r);
    assert_int_equal(bnt_cache_remove(c, "m", &got, &removed, NULL), BNT_E_FAILED);
    assert_false(removed);
    assert_true(in_cache(c, "m"));
    close(end[1]);
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(ready[0]);
    close(ready[1]);
    close(end[0]);
    r = collect(c, all);
    assert_int_equal(verdict_of(&r, e.digest), BNT_GC_SIZE);
    bnt_cache_gc_report_release(&r);
    assert_false(in_cache(c, "m"));
    bnt_cache_close(c);
}

/* What a lock that lies costs: the file goes, and whoever has it mapped does not notice. */
static void mapped_bytes_outlive_a_removal(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    struct bnt_mapping m;
    bool removed = false;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content"), got;
    assert_int_equal(bnt_cache_lookup(c, "m", &got, path, NULL), BNT_OK);
    assert_int_equal(bnt_map_file(path, &m, NULL), BNT_OK);
    assert_int_equal(bnt_cache_remove(c, e.digest, &got, &removed, NULL), BNT_OK);
    assert_true(removed);
    assert_int_equal(access(path, F_OK), -1);
    assert_memory_equal(m.data, "content", 7);
    bnt_unmap(&m);
    bnt_cache_close(c);
}

static void lease_of_a_replaced_file_is_taken_again(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content");
    struct bnt_cache_lease a, b;
    enum lease_state found = LEASE_FREE;
    assert_int_equal(bnt_cache_lease_take(c, e.digest, &a, NULL), BNT_OK);
    fixture_add(c, "m", "content"); /* heals: another file under the same path */
    assert_int_equal(bnt_cache_lease_take(c, e.digest, &b, NULL), BNT_OK);
    bnt_cache_lease_release(&a);
    assert_int_equal(cache_remove_blob(c, e.digest, &found, NULL), BNT_OK);
    assert_int_equal(found, LEASE_TAKEN);
    bnt_cache_lease_release(&b);
    assert_int_equal(cache_remove_blob(c, e.digest, &found, NULL), BNT_OK);
    assert_int_equal(found, LEASE_FREE);
    assert_int_equal(bnt_cache_lease_take(c, e.digest, &a, NULL), BNT_E_NOT_FOUND);
    bnt_cache_close(c);
}

/* A blob that is renamed into place and whose row is not there yet belongs to its adder. */
static void collection_leaves_an_addition_alone(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX], hex[BNT_SHA256_HEX], path[BNT_PATH_MAX];
    struct bnt_cache_temp t;
    uint64_t size = 0;
    struct bnt_cache *c = fixture_cache();
    fixture_add(c, "other", "other content");
    fixture_digest("text", hex);
    fixture_path(dir, "c");
    assert_int_equal(store_temp_open(dir, &t, NULL), BNT_OK);
    assert_int_equal(bnt_write_all(t.fd, "text", 4, "test", NULL), BNT_OK);
    assert_int_equal(store_seal(&t, &size, NULL), BNT_OK);
    assert_int_equal(store_make_folder(dir, hex, NULL), BNT_OK);
    assert_int_equal(store_publish(dir, &t, hex, NULL), BNT_OK);
    struct bnt_cache_gc_report r = collect(c, (struct bnt_cache_gc_opts){.max_bytes = 1});
    assert_int_equal(verdict_of(&r, hex), BNT_GC_KEPT_LEASED);
    bnt_cache_gc_report_release(&r);
    assert_int_equal(store_blob_path(dir, hex, path, NULL), BNT_OK);
    fixture_assert_holds(path, "text");
    bnt_cache_temp_release(&t);
    fixture_assert_holds(path, "text");
    bnt_cache_close(c);
}

static void removal_by_name_keeps_what_has_other_names(void **state)
{
    (void)state;
    bool removed = true;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "one", "content"), got;
    fixture_add(c, "two", "content");
    assert_int_equal(bnt_cache_remove(c, "one", &got, &removed, NULL), BNT_OK);
    assert_false(removed);
    assert_true(in_cache(c, "two") && !in_cache(c, "one"));
    assert_int_equal(bnt_cache_pin(c, "two", true, &got, NULL), BNT_OK);
    assert_int_equal(bnt_cache_remove(c, "two", &got, &removed, NULL), BNT_E_FAILED);
    assert_true(in_cache(c, "two"));
    assert_int_equal(bnt_cache_pin(c, "two", false, &got, NULL), BNT_OK);
    assert_int_equal(bnt_cache_remove(c, "two", &got, &removed, NULL), BNT_OK);
    assert_true(removed);
    assert_false(in_cache(c, e.digest));
    assert_int_equal(bnt_cache_remove(c, "two", &got, &removed, NULL), BNT_E_NOT_FOUND);
    bnt_cache_close(c);
}

/* ---- the last use ---- */

static void use_is_noted_at_most_once_an_hour_and_never_waited_for(void **state)
{
    (void)state;
    char index[BNT_PATH_MAX];
    sqlite3 *other;
    bool has = false;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content"), got;
    int64_t now_s = bnt_clock_unix_s();
    set_age(e.digest, BNT_CACHE_USE_STEP_S - 60);
    assert_true(in_cache(c, "m"));
    assert_int_equal(bnt_cache_find(c, "m", &got, NULL), BNT_OK);
    assert_true(got.used_s <= now_s - BNT_CACHE_USE_STEP_S + 120);
    set_age(e.digest, BNT_CACHE_USE_STEP_S + 60);
    /* Held by another process: answered at once, not noted. */
    assert_int_equal(sqlite3_open(fixture_path(index, "c/index.db"), &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    uint64_t begin_ns = bnt_clock_now_ns();
    assert_true(in_cache(c, "m"));
    assert_true(bnt_clock_now_ns() - begin_ns < INDEX_BUSY_MS * 1000000ull / 4);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_int_equal(bnt_cache_find(c, "m", &got, NULL), BNT_OK);
    assert_true(got.used_s < now_s - BNT_CACHE_USE_STEP_S);
    assert_int_equal(bnt_cache_has(c, e.digest, &has, NULL), BNT_OK);
    assert_int_equal(bnt_cache_find(c, "m", &got, NULL), BNT_OK);
    assert_true(got.used_s >= now_s);
    bnt_cache_close(c);
}

/* ---- older schemas ---- */

/* Turn the index of the cache into one as an older release wrote it. */
static void make_schema_2(void)
{
    static const char *const columns[] = {"since_s",   "use_hours", "from_source",
                                          "from_cold", "from_warm", "warm_bytes"};
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
        char statement[64];
        snprintf(statement, sizeof statement, "ALTER TABLE blob DROP COLUMN %s", columns[i]);
        fixture_sql(statement);
    }
    fixture_sql("PRAGMA user_version = 2");
}

static void make_schema_1(void)
{
    make_schema_2();
    fixture_sql("ALTER TABLE blob DROP COLUMN used_s");
    fixture_sql("ALTER TABLE blob DROP COLUMN pinned");
    fixture_sql("PRAGMA user_version = 1");
}

static void index_of_schema_1_is_brought_up_to_date(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content"), got;
    bnt_cache_close(c);
    make_schema_1();
    fixture_sql("UPDATE name SET fetched_s = 1700000123");
    fixture_sql("UPDATE blob SET verified_s = 1700000000");
    c = fixture_cache();
    assert_int_equal(fixture_sql("PRAGMA user_version"), INDEX_SCHEMA);
    assert_int_equal(bnt_cache_find(c, "m", &got, NULL), BNT_OK);
    assert_string_equal(got.digest, e.digest);
    assert_int_equal(got.verified_s, 1700000000);
    assert_int_equal(got.used_s, 1700000123);
    assert_false(got.pinned);
    bnt_cache_close(c);
}

static void index_of_schema_2_begins_to_count(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content"), got;
    int64_t before_s = bnt_clock_unix_s();
    assert_int_equal(bnt_cache_pin(c, "m", true, &got, NULL), BNT_OK);
    bnt_cache_close(c);
    make_schema_2();
    fixture_sql("UPDATE blob SET used_s = 1700000000");
    c = fixture_cache();
    assert_int_equal(fixture_sql("PRAGMA user_version"), INDEX_SCHEMA);
    assert_int_equal(bnt_cache_find(c, "m", &got, NULL), BNT_OK);
    assert_true(got.pinned);
    assert_int_equal(got.used_s, 1700000000);
    assert_true(got.counts.since_s >= before_s);
    assert_int_equal(got.counts.use_hours, 0);
    assert_true(in_cache(c, e.digest));
    assert_int_equal(bnt_cache_find(c, "m", &got, NULL), BNT_OK);
    assert_int_equal(got.counts.use_hours, 1);
    bnt_cache_close(c);
}

/* ---- what is counted ---- */

/* A clock that only the test moves; the hours of use, however many look-ups each has. */
static void hours_with_a_use_are_counted_once_each(void **state)
{
    (void)state;
    struct bnt_cache_entry got;
    bnt_clock_fake(1800000000ull * 1000000000u);
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content");
    struct bnt_cache *other = fixture_cache();
    for (int hour = 0; hour < 3; hour++) {
        for (int i = 0; i < 4; i++) {
            assert_true(in_cache(i % 2 ? c : other, "m"));
        }
        bnt_clock_sleep_ns(BNT_CACHE_USE_STEP_S * 1000000000ull);
    }
    assert_int_equal(bnt_cache_find(c, e.digest, &got, NULL), BNT_OK);
    assert_int_equal(got.counts.since_s, 1800000000);
    assert_int_equal(got.counts.use_hours, 3);
    assert_int_equal(got.counts.from_source, 1);
    assert_int_equal(got.counts.from_warm + got.counts.from_cold, 0);
    fixture_add(c, "m", "content");
    assert_int_equal(bnt_cache_find(c, "m", &got, NULL), BNT_OK);
    assert_int_equal(got.counts.use_hours, 4);
    assert_int_equal(got.counts.from_source, 2);
    bnt_cache_close(other);
    bnt_cache_close(c);
}

static void read_only_index_of_schema_1_answers(void **state)
{
    (void)state;
    char index[BNT_PATH_MAX];
    struct cache_index *ix = NULL;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "content"), got;
    bool fresh = true, found = false;
    bnt_cache_close(c);
    make_schema_1();
    fixture_path(index, "c/index.db");
    assert_int_equal(chmod(index, 0444), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool ok = fixture_drop_capabilities() && index_open(index, &ix, &fresh, NULL) == BNT_OK &&
                  !fresh && index_is_readonly(ix) &&
                  index_find_name(ix, "m", &got, &found, NULL) == BNT_OK && found &&
                  strcmp(got.digest, e.digest) == 0;
        _exit(ok ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(fixture_sql("PRAGMA user_version"), 1);
}

/* ---- packed weights ---- */

/* A form of a model, last used so long ago. */
static void add_packed(const char *digest, const char *name, size_t bytes, int64_t age_s)
{
    char path[BNT_PATH_MAX], relative[BNT_PATH_MAX], text[64] = "";
    snprintf(relative, sizeof relative, "c/packed/%s", digest);
    assert_int_equal(bnt_mkdirs(fixture_path(path, relative), NULL), BNT_OK);
    snprintf(relative, sizeof relative, "c/packed/%s/lock", digest);
    fixture_file(relative, "");
    memset(text, 'x', bytes);
    static const char *const suffixes[] = {BNT_PACKED_SUFFIX, BNT_PACKED_USED_SUFFIX};
    for (int i = 0; i < 2; i++) {
        struct timespec old = {.tv_sec = bnt_clock_unix_s() - (i == 0 ? 100 * DAY_S : age_s)};
        snprintf(relative, sizeof relative, "c/packed/%s/%s%s", digest, name, suffixes[i]);
        fixture_write(fixture_path(path, relative), i == 0 ? text : "");
        assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){old, old}, 0), 0);
    }
}

/* A form that somebody was making so long ago. */
static void add_unnamed(const char *name, int64_t age_s)
{
    char path[BNT_PATH_MAX], relative[BNT_PATH_MAX];
    struct timespec old = {.tv_sec = bnt_clock_unix_s() - age_s};
    snprintf(relative, sizeof relative, "c/packed/%s", name);
    fixture_write(fixture_path(path, relative), "1234567");
    assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]){old, old}, 0), 0);
}
enum { UNNAMED_BYTES = 7 };

/* A file of a model, or by "" as its name the entry `digest` itself. */
static bool packed_there(const char *digest, const char *name)
{
    char path[BNT_PATH_MAX], relative[BNT_PATH_MAX];
    snprintf(relative, sizeof relative, "c/packed/%s%s%s", digest, name[0] ? "/" : "", name);
    return access(fixture_path(path, relative), F_OK) == 0;
}

static void packed_weights_go_before_models_and_with_them(void **state)
{
    (void)state;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry a = fixture_add(c, "a", "0123456789"), out;
    char other[BNT_SHA256_HEX];
    bool gone;
    fixture_digest("a model that came by its path", other);
    add_packed(a.digest, "form.1", 20, DAY_S);
    add_packed(a.digest, "head.1", 5, 0);
    add_packed(other, "form.1", 30, 8 * DAY_S);
    add_unnamed("form.1.pack.dead.tmp", 8 * DAY_S);
    add_unnamed("form.1.pack.live.tmp", 0);
    fixture_file("c/packed/lock", "");
    assert_int_equal(bnt_cache_packed_bytes(c, NULL), 55 + 2 * UNNAMED_BYTES);
    assert_int_equal(bnt_cache_packed_bytes(c, a.digest), 25);

    struct bnt_cache_gc_report r = collect(c, (struct bnt_cache_gc_opts){.dry_run = true});
    assert_int_equal(r.packed_bytes, 55 + 2 * UNNAMED_BYTES);
    assert_int_equal(r.packed_bytes_removed, 30 + UNNAMED_BYTES);
    bnt_cache_gc_report_release(&r);
    assert_true(packed_there(other, "form.1.pack")); /* only told */

    r = collect(c, (struct bnt_cache_gc_opts){0}); /* not used for more than a week */
    assert_int_equal(r.n_packed_removed, 2);       /* the unfinished one is a file, too */
    bnt_cache_gc_report_release(&r);
    assert_false(packed_there(other, "")); /* with its folder */
    assert_false(packed_there("form.1.pack.dead.tmp", ""));
    assert_true(packed_there("form.1.pack.live.tmp", ""));
    assert_true(packed_there("lock", "")); /* somebody may hold it */
    assert_true(packed_there(a.digest, "form.1.pack"));

    /* The model and the later form. */
    r = collect(c, (struct bnt_cache_gc_opts){.max_bytes = 15 + UNNAMED_BYTES});
    assert_int_equal(r.packed_bytes_removed, 20);
    assert_int_equal(r.n_removed, 0);
    bnt_cache_gc_report_release(&r);
    assert_false(packed_there(a.digest, "form.1.used"));
    assert_true(packed_there(a.digest, "head.1.pack"));
    assert_true(in_cache(c, "a"));

    assert_int_equal(bnt_cache_remove(c, "a", &out, &gone, NULL), BNT_OK);
    assert_true(gone);
    assert_false(packed_there(a.digest, ""));
    assert_int_equal(bnt_cache_packed_bytes(c, NULL), UNNAMED_BYTES);
    bnt_cache_close(c);
}

/* A full disk is made emptier by a removal, whose journal must find room there. */
static void removal_needs_no_new_room_for_its_journal(void **state)
{
    (void)state;
    char journal[BNT_PATH_MAX];
    struct stat before, after;
    struct bnt_cache_entry got;
    bool removed = false;
    struct bnt_cache *c = fixture_cache();
    fixture_add(c, "first", "bytes");
    fixture_add(c, "second", "other bytes");
    assert_int_equal(stat(fixture_path(journal, "c/index.db-journal"), &before), 0);
    assert_true(before.st_size > 0);
    assert_int_equal(bnt_cache_remove(c, "first", &got, &removed, NULL), BNT_OK);
    assert_int_equal(bnt_cache_remove(c, "second", &got, &removed, NULL), BNT_OK);
    assert_int_equal(stat(journal, &after), 0);
    assert_int_equal(after.st_size, before.st_size);
    bnt_cache_close(c);
}

static const struct suite_test tests[] = {
    {.name = "cache_gc_removal_needs_no_new_room_for_its_journal",
     .body = removal_needs_no_new_room_for_its_journal},
    {.name = "cache_gc_plans_by_the_rules_in_their_order",
     .body = plans_by_the_rules_in_their_order},
    {.name = "cache_gc_removes_files_rows_and_names",
     .body = collection_removes_files_rows_and_names},
    {.name = "cache_gc_takes_blobs_without_a_row", .body = collection_takes_blobs_without_a_row},
    {.name = "cache_gc_leased_blob_stays_until_its_user_is_gone",
     .body = leased_blob_stays_until_its_user_is_gone},
    {.name = "cache_gc_mapped_bytes_outlive_a_removal", .body = mapped_bytes_outlive_a_removal},
    {.name = "cache_gc_lease_of_a_replaced_file_is_taken_again",
     .body = lease_of_a_replaced_file_is_taken_again},
    {.name = "cache_gc_leaves_an_addition_alone", .body = collection_leaves_an_addition_alone},
    {.name = "cache_gc_removal_by_name_keeps_what_has_other_names",
     .body = removal_by_name_keeps_what_has_other_names},
    {.name = "cache_gc_use_is_noted_at_most_once_an_hour_and_never_waited_for",
     .body = use_is_noted_at_most_once_an_hour_and_never_waited_for},
    {.name = "cache_gc_index_of_schema_1_is_brought_up_to_date",
     .body = index_of_schema_1_is_brought_up_to_date},
    {.name = "cache_gc_index_of_schema_2_begins_to_count",
     .body = index_of_schema_2_begins_to_count},
    {.name = "cache_gc_hours_with_a_use_are_counted_once_each",
     .body = hours_with_a_use_are_counted_once_each},
    {.name = "cache_gc_read_only_index_of_schema_1_answers",
     .body = read_only_index_of_schema_1_answers},
    {.name = "cache_gc_packed_weights_go_before_models_and_with_them",
     .body = packed_weights_go_before_models_and_with_them},
    {0},
};
const struct suite suite_cache_gc = {"cache_gc", tests,
                                     "gc_pinned gc_lock_file lease_blind use_uncounted "
                                     "packed_ageless"};
