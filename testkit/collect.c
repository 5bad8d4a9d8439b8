/* Which tests there are: asks a suites program for its list, and keeps what tier and filters
 * select. Owns the names and budgets of tiers, the names of outcomes, and the memory of a run. */
#include "testkit/bnt_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testkit/proc.h"

enum {
    LIST_TIMEOUT_MS = 30 * 1000,
    LIST_MAX_BYTES = 8 << 20,
};

static const struct {
    const char *name;
    uint64_t budget_ms;
} tiers[BNT_TIERS] = {
    [BNT_TIER_FAST] = {"fast", 300 * 1000},
    [BNT_TIER_INTEGRATION] = {"integration", 900 * 1000},
    [BNT_TIER_FULL] = {"full", 2700 * 1000},
};

const char *bnt_test_tier_name(enum bnt_test_tier tier)
{
    return tiers[tier].name;
}

uint64_t bnt_test_tier_budget_ms(enum bnt_test_tier tier)
{
    return tiers[tier].budget_ms;
}

const char *bnt_test_outcome_name(enum bnt_test_outcome outcome)
{
    static const char *const names[] = {"pending", "passed", "failed", "skipped", "not run"};
    return names[outcome];
}

enum bnt_status bnt_test_find_program(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    static const char *const places[] = {"bnt-suites", "../libexec/bnt/bnt-suites"};
    char dir[BNT_PATH_MAX];
    enum bnt_status status = bnt_exe_dir(dir, err);
    for (size_t i = 0; status == BNT_OK && i < sizeof places / sizeof places[0]; i++) {
        status = bnt_path_format(out, err, "%s/%s", dir, places[i]);
        if (status == BNT_OK && access(out, X_OK) == 0) {
            return BNT_OK;
        }
    }
    if (status == BNT_OK) {
        status = bnt_err_set(err, BNT_E_NOT_FOUND, "no program bnt-suites beside %s/bnt", dir);
        bnt_err_hint(err, "run: make, or name it with --suites PROGRAM");
    }
    return status;
}

/* ---- collecting ---- */

static bool tier_from_name(const char *name, enum bnt_test_tier *out)
{
    for (int i = 0; i < BNT_TIERS; i++) {
        if (strcmp(tiers[i].name, name) == 0) {
            *out = (enum bnt_test_tier)i;
            return true;
        }
    }
    return false;
}

static bool matches(const struct bnt_strs *filters, const char *suite, const char *name)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", suite, name);
    for (size_t i = 0; filters && i < filters->n; i++) {
        if (strstr(full, filters->at[i])) {
            return true;
        }
    }
    return !filters || filters->n == 0;
}

static void test_release(struct bnt_test *t)
{
    free(t->name);
    free(t->suite);
    free(t->needs);
    free(t->reason);
    free(t->output);
}

static enum bnt_status add_test(struct bnt_test_run *run, const struct bnt_test *test,
                                struct bnt_err *err)
{
    size_t bytes = (run->n + 1) * sizeof *run->at;
    struct bnt_test *grown = realloc(run->at, bytes);
    if (!grown) {
        return bnt_err_nomem(err, "the list of tests", bytes);
    }
    run->at = grown;
    struct bnt_test *t = &run->at[run->n++];
    *t = *test;
    t->name = strdup(test->name);
    t->suite = strdup(test->suite);
    t->needs = strdup(test->needs);
    return t->name && t->suite && t->needs ? BNT_OK
                                           : bnt_err_nomem(err, "the list of tests", bytes);
}

/* One line of `bnt-suites --list`: name, suite, tier, timeout in ms, needs. */
static enum bnt_status read_listed(struct bnt_test_run *run, char *line,
                                   const struct bnt_strs *filters, struct bnt_err *err)
{
    char *rest = NULL;
    char *name = strtok_r(line, "\t", &rest);
    char *suite = strtok_r(NULL, "\t", &rest);
    char *tier = strtok_r(NULL, "\t", &rest);
    char *timeout = strtok_r(NULL, "\t", &rest);
    char *needs = strtok_r(NULL, "\t", &rest);
    struct bnt_test test = {.name = name, .suite = suite, .needs = needs};
    if (!needs || !tier_from_name(tier, &test.tier)) {
        return bnt_err_set(err, BNT_E_FILE, "%s --list: not a line about a test: %.80s",
                           run->program, line);
    }
    if (strcmp(needs, "-") == 0) {
        test.needs = needs + 1;
    }
    test.timeout_ms = (unsigned)strtoul(timeout, NULL, 10);
    if (!matches(filters, suite, name)) {
        return BNT_OK;
    }
    if (test.tier > run->tier) {
        run->n_other_tier++;
        return BNT_OK;
    }
    return add_test(run, &test, err);
}

static enum bnt_status list_program(const char *program, char **list, struct bnt_err *err)
{
    char flag[] = "--list";
    char *argv[] = {(char *)(uintptr_t)program, flag, NULL};
    struct proc p;
    const struct proc_spec spec = {
        .argv = argv, .timeout_ms = LIST_TIMEOUT_MS, .keep_bytes = LIST_MAX_BYTES};
    enum bnt_status status = proc_run(&p, &spec, err);
    if (status) {
        return status;
    }
    char *said = proc_output(&p, PROC_ERR);
    *list = proc_output(&p, PROC_OUT);
    if (!said || !*list) {
        status = bnt_err_nomem(err, "the list of tests", LIST_MAX_BYTES);
    } else if (p.end != PROC_EXITED || (p.code != 0 && p.code != BNT_E_NO_TESTS)) {
        char how[160];
        proc_describe(&p, how, sizeof how);
        status = bnt_err_set(err, BNT_E_FAILED, "%s --list %s: %.300s", program, how, said);
    }
    free(said);
    proc_release(&p);
    return status;
}

enum bnt_status bnt_test_collect(struct bnt_test_run *run, const char *program,
                                 enum bnt_test_tier tier, const struct bnt_strs *filters,
                                 struct bnt_err *err)
{
    char *list = NULL;
    run->tier = tier;
    if (access(program, X_OK) != 0) {
        enum bnt_status missing = bnt_err_errno(err, "suites program %s", program);
        bnt_err_hint(err, "give the path of an executable that speaks as bnt-suites does");
        return missing;
    }
    enum bnt_status status = bnt_path_format(run->program, err, "%s", program);
    if (status == BNT_OK) {
        status = list_program(program, &list, err);
    }
    char *rest = NULL;
    for (char *line = status == BNT_OK ? strtok_r(list, "\n", &rest) : NULL;
         line && status == BNT_OK; line = strtok_r(NULL, "\n", &rest)) {
        status = read_listed(run, line, filters, err);
    }
    free(list);
    return status;
}

void bnt_test_run_release(struct bnt_test_run *run)
{
    for (size_t i = 0; i < run->n; i++) {
        test_release(&run->at[i]);
    }
    free(run->at);
    run->at = NULL;
    run->n = 0;
}

struct bnt_test_counts bnt_test_count(const struct bnt_test_run *run, const char *suite)
{
    struct bnt_test_counts c = {0};
    for (size_t i = 0; i < run->n; i++) {
        const struct bnt_test *t = &run->at[i];
        if (!suite || strcmp(t->suite, suite) == 0) {
            c.n++;
            c.of[t->outcome]++;
            c.wall_ns += t->wall_ns;
        }
    }
    return c;
}
