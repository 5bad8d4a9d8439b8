/* Collecting and running tests.
 *
 * Invariants of bnt_test_execute: tests start in list order; a test leaves PENDING exactly once;
 * nothing is started after the budget is spent or an interrupt came, and a test that runs then is
 * ended only by the interrupt, never by the budget. */
#include "testkit/bnt_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "testkit/proc.h"
#include "testkit/runner_tap.h"

enum {
    LIST_TIMEOUT_MS = 30 * 1000,
    LIST_MAX_BYTES = 8 << 20,
    OUTPUT_MAX_BYTES = 1 << 20,
    /* bnt-suites itself ends a test at its time; this much later it is the program that hangs. */
    PROGRAM_SLACK_MS = 30 * 1000,
    GRACE_MS = 2000,
    TICK_MS = 50,
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

/* ---- running ---- */

struct runner {
    struct bnt_test_run *run;
    const struct bnt_test_options *options;
    struct proc procs[BNT_TEST_JOBS_MAX];
    struct bnt_test *slots[BNT_TEST_JOBS_MAX]; /* the test that procs[i] runs; NULL: free */
    size_t n_slots, n_busy, next;
    uint64_t start_ns;
    bool stopping;
};

static uint64_t elapsed_ms(const struct runner *r)
{
    return (bnt_clock_now_ns() - r->start_ns) / 1000000u;
}

static void conclude(struct bnt_test *t, enum bnt_test_outcome outcome, const char *reason)
{
    t->outcome = outcome;
    free(t->reason);
    t->reason = strdup(reason);
}

/* The program ended without a verdict that can be trusted. */
static void conclude_without_verdict(struct bnt_test *t, const struct proc *p)
{
    char how[160];
    char reason[256];
    proc_describe(p, how, sizeof how);
    snprintf(reason, sizeof reason, "no verdict: the suites program %s", how);
    conclude(t, BNT_TEST_FAILED, reason);
    char *out = proc_output(p, PROC_OUT);
    char *said = proc_output(p, PROC_ERR);
    struct bnt_buf both = BNT_BUF(2 * OUTPUT_MAX_BYTES + 256);
    (void)bnt_buf_printf(&both, NULL, "%s%s", said ? said : "", out ? out : "");
    t->output = bnt_buf_take(&both);
    bnt_buf_release(&both);
    free(out);
    free(said);
}

static void finish(struct runner *r, size_t i)
{
    struct proc *p = &r->procs[i];
    struct bnt_test *t = r->slots[i];
    t->wall_ns = p->wall_ns;
    char *tap = proc_output(p, PROC_OUT);
    if (p->end == PROC_STOPPED) {
        conclude(t, BNT_TEST_NOT_RUN, "interrupted");
    } else if (p->end != PROC_EXITED || !tap || !runner_tap_read(tap, p->code, t)) {
        conclude_without_verdict(t, p);
    }
    free(tap);
    proc_release(p);
    r->slots[i] = NULL;
    r->n_busy--;
}

static void start(struct runner *r, size_t i, struct bnt_test *t)
{
    struct bnt_err err = {0};
    char flag[] = "--run";
    char *argv[] = {r->run->program, flag, t->name, NULL};
    const struct proc_spec spec = {
        .argv = argv,
        .timeout_ms = t->timeout_ms + PROGRAM_SLACK_MS,
        .grace_ms = GRACE_MS,
        .keep_bytes = OUTPUT_MAX_BYTES,
    };
    if (proc_start(&r->procs[i], &spec, &err) != BNT_OK) {
        conclude(t, BNT_TEST_FAILED, err.msg);
        return;
    }
    r->slots[i] = t;
    r->n_busy++;
}

static void give_up_rest(struct runner *r, const char *reason)
{
    for (; r->next < r->run->n; r->next++) {
        conclude(&r->run->at[r->next], BNT_TEST_NOT_RUN, reason);
    }
}

static void start_what_fits(struct runner *r)
{
    for (size_t i = 0; i < r->n_slots && r->next < r->run->n; i++) {
        if (elapsed_ms(r) >= r->run->budget_ms) {
            give_up_rest(r, "budget");
        } else if (!r->slots[i]) {
            start(r, i, &r->run->at[r->next++]);
        }
    }
}

static void stop_all(struct runner *r)
{
    r->stopping = true;
    r->run->interrupted = true;
    give_up_rest(r, "interrupted");
    for (size_t i = 0; i < r->n_slots; i++) {
        if (r->slots[i]) {
            proc_stop(&r->procs[i]);
        }
    }
}

static void tick(const struct runner *r)
{
    const char *running = NULL;
    for (size_t i = 0; i < r->n_slots && !running; i++) {
        running = r->slots[i] ? r->slots[i]->name : NULL;
    }
    if (r->options->tick) {
        r->options->tick(r->options->tick_ctx, r->run, running, elapsed_ms(r));
    }
}

static void serve(struct runner *r)
{
    proc_serve(r->procs, r->n_slots, TICK_MS);
    for (size_t i = 0; i < r->n_slots; i++) {
        if (r->slots[i] && proc_done(&r->procs[i])) {
            finish(r, i);
        }
    }
}

enum bnt_status bnt_test_execute(struct bnt_test_run *run, const struct bnt_test_options *options,
                                 struct bnt_err *err)
{
    if (options->n_jobs < 1 || options->n_jobs > BNT_TEST_JOBS_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "%d jobs: must be from 1 to %d", options->n_jobs,
                           BNT_TEST_JOBS_MAX);
    }
    struct runner *r = calloc(1, sizeof *r);
    if (!r) {
        return bnt_err_nomem(err, "the runner", sizeof *r);
    }
    r->run = run;
    r->options = options;
    r->n_slots = (size_t)options->n_jobs;
    r->start_ns = bnt_clock_now_ns();
    run->n_jobs = options->n_jobs;
    run->budget_ms = options->budget_ms ? options->budget_ms : tiers[run->tier].budget_ms;
    run->started_unix_s = bnt_clock_unix_s();
    proc_adopt_orphans();
    while (r->next < run->n || r->n_busy > 0) {
        if (options->interrupted && *options->interrupted && !r->stopping) {
            stop_all(r);
        }
        start_what_fits(r);
        tick(r);
        serve(r);
    }
    run->wall_ns = bnt_clock_now_ns() - r->start_ns;
    free(r);
    return BNT_OK;
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
