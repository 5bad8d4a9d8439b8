#include "testkit/result_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/identity.h"
#include "testkit/schedule.h"

extern char **environ;

enum { ENVIRONMENT_MAX_BYTES = 1 << 20 };

/* Variables that may change what a test does. Of our own all but those that choose places and
 * orders. */
static bool counts(const char *entry)
{
    static const char *const others[] = {
        "LANG=", "LC_ALL=", "LC_CTYPE=", "TZ=", "OMP_NUM_THREADS="};
    static const char *const ours_but[] = {"BNT_HISTORY"
                                           "=",
                                           "BNT_TEST_SEED"
                                           "=",
                                           "BNT_CACHE_DIR"
                                           "=",
                                           "BNT_TEST_MODEL"
                                           "="};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strncmp(entry, others[i], strlen(others[i])) == 0) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof ours_but / sizeof ours_but[0]; i++) {
        if (strncmp(entry, ours_but[i], strlen(ours_but[i])) == 0) {
            return false;
        }
    }
    return strncmp(entry, "BNT_", 4) == 0;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What is the same for all tests of a run, as lines. */
static enum bnt_status write_surroundings(const struct bnt_test_run *run, struct bnt_buf *out,
                                          struct bnt_err *err)
{
    size_t n = 0;
    while (environ[n]) {
        n++;
    }
    const char **sorted = malloc((n + 1) * sizeof *sorted);
    if (!sorted) {
        return bnt_err_nomem(err, "the key of a result", n * sizeof *sorted);
    }
    memcpy(sorted, environ, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_text);
    enum bnt_status st = bnt_buf_printf(out, err, "program %s\nmachine %s\n", run->program_digest,
                                        run->machine.fingerprint);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        if (counts(sorted[i])) {
            st = bnt_buf_printf(out, err, "env %s\n", sorted[i]);
        }
    }
    free(sorted);
    return st;
}

enum bnt_status result_cache_keys(struct bnt_test_run *run, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(ENVIRONMENT_MAX_BYTES);
    enum bnt_status st = write_surroundings(run, &text, err);
    size_t common = text.len;
    for (size_t i = 0; st == BNT_OK && i < run->n; i++) {
        struct bnt_test *t = &run->at[i];
        if (!t->cacheable || !t->inputs[0] || !run->program_digest[0]) {
            continue;
        }
        text.len = common;
        st = bnt_buf_printf(&text, err, "test %s\ninputs %s\nmodel %s %s\n", t->name, t->inputs,
                            t->subjects[0] ? run->model.kind : "none",
                            t->subjects[0] && !BNT_FAULT(cache_any_model) ? run->model.digest : "");
        if (st == BNT_OK) {
            st = identity_digest(bnt_buf_view(&text), text.len, t->cache_key, err);
        }
        t->cache = BNT_CACHE_MISS;
    }
    bnt_buf_release(&text);
    return st;
}

/* The seed chooses, so that a run can be repeated; the key spreads. */
static bool is_audited(const struct bnt_test_run *run, const struct bnt_test *t)
{
    uint64_t z = run->seed * 0x9e3779b97f4a7c15u;
    char start[17];
    snprintf(start, sizeof start, "%.16s", t->cache_key);
    z ^= strtoull(start, NULL, 16);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % 100 < RESULT_CACHE_AUDIT_PERCENT;
}

enum bnt_status result_cache_take(struct bnt_test_run *run, struct history *history,
                                  struct bnt_err *err)
{
    for (size_t i = 0; i < run->n; i++) {
        struct bnt_test *t = &run->at[i];
        char from[17];
        bool found = false;
        enum bnt_status st = BNT_OK;
        if (t->cache_key[0]) {
            st = history_kept(history, t->cache_key, from, &found, err);
        }
        if (st != BNT_OK) {
            return st;
        }
        if (found && is_audited(run, t)) {
            t->cache = BNT_CACHE_AUDIT;
        } else if (found) {
            char reason[64];
            t->cache = BNT_CACHE_HIT;
            snprintf(reason, sizeof reason, "passed in run %s", from);
            schedule_conclude(t, BNT_TEST_CACHED, reason);
        }
    }
    return BNT_OK;
}

static void disagree(struct bnt_test *t)
{
    char reason[320];
    snprintf(reason, sizeof reason, "the result cache says passed, and now: %.240s",
             t->reason ? t->reason : "failed");
    schedule_conclude(t, BNT_TEST_DISAGREED, reason);
}

enum bnt_status result_cache_settle(struct bnt_test_run *run, struct history *history,
                                    struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < run->n; i++) {
        struct bnt_test *t = &run->at[i];
        if (!t->cache_key[0] || t->outcome != BNT_TEST_FAILED) {
            continue;
        }
        if (t->cache == BNT_CACHE_AUDIT && !BNT_FAULT(audit_ignored)) {
            disagree(t);
        }
        if (history && !history_is_readonly(history) && st == BNT_OK) {
            st = history_forget(history, t->cache_key, err);
        }
    }
    return st;
}
