/* Guards the plan of a tier: a run that ends late, a test that never gets its turn, a failure that
 * is looked at last. Most of it is simulation: runs of made-up tests whose times have heavy tails,
 * drift, and jump, against the real planner and the real schedule. */
#include "testkit/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testkit/planner.h"
#include "testkit/schedule.h"

/* ---- one test and its history ---- */

#define P                                                                                          \
    {                                                                                              \
        BNT_TEST_PASSED, 100, true, true, true, 0                                                  \
    }
#define F                                                                                          \
    {                                                                                              \
        BNT_TEST_FAILED, 100, true, true, true, 0                                                  \
    }
#define N                                                                                          \
    {                                                                                              \
        BNT_TEST_NOT_RUN, 0, true, true, true, 0                                                   \
    }
#define OLD_INPUTS                                                                                 \
    {                                                                                              \
        BNT_TEST_PASSED, 100, false, true, true, 0                                                 \
    }
#define OLD_PROGRAM                                                                                \
    {                                                                                              \
        BNT_TEST_PASSED, 100, true, false, true, 0                                                 \
    }
#define SKIPS                                                                                      \
    {                                                                                              \
        BNT_TEST_SKIPPED, 0, true, true, true, 0                                                   \
    }

static struct bnt_test judged(const char *tags, const struct plan_sample *samples, size_t n)
{
    static char none[] = "";
    struct bnt_test t = {.name = none, .suite = none, .subjects = none, .timeout_ms = 10000};
    t.tags = (char *)(uintptr_t)tags;
    plan_judge(&t, samples, n);
    return t;
}

static void class_follows_from_history(void **state)
{
    (void)state;
    static const struct {
        const char *what, *tags;
        size_t n;
        struct plan_sample latest_first[10];
        enum bnt_plan_class kind;
    } cases[] = {
        {"nothing is known", "", 0, {P}, BNT_PLAN_NEW},
        {"only skipped so far", "", 2, {SKIPS, SKIPS}, BNT_PLAN_NEW},
        {"passes", "", 3, {P, P, P}, BNT_PLAN_VALUE},
        {"failed last", "", 3, {F, P, P}, BNT_PLAN_MUST},
        {"failed last, then unrun", "", 3, {N, F, P}, BNT_PLAN_MUST},
        {"failed once", "", 3, {P, F, P}, BNT_PLAN_VALUE},
        {"passed with other inputs", "", 2, {OLD_INPUTS, OLD_INPUTS}, BNT_PLAN_MUST},
        {"passed with these inputs, then with others", "", 2, {OLD_INPUTS, P}, BNT_PLAN_VALUE},
        {"passed with another program", "", 2, {OLD_PROGRAM, OLD_PROGRAM}, BNT_PLAN_VALUE},
        {"a contract", "slow,contract", 1, {P}, BNT_PLAN_MUST},
        {"no contract, though the word is in another", "contracted", 1, {P}, BNT_PLAN_VALUE},
        {"unrun seven times", "", 8, {N, N, N, N, N, N, N, P}, BNT_PLAN_VALUE},
        {"unrun eight times", "", 9, {N, N, N, N, N, N, N, N, P}, BNT_PLAN_OVERDUE},
        {"unrun eight times, never run", "", 8, {N, N, N, N, N, N, N, N}, BNT_PLAN_OVERDUE},
        {"ran between", "", 9, {N, N, N, N, P, N, N, N, N}, BNT_PLAN_VALUE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test t = judged(cases[i].tags, cases[i].latest_first, cases[i].n);
        print_message("%s: %s, %s\n", cases[i].what, bnt_test_class_name(t.plan.kind), t.plan.why);
        assert_int_equal(t.plan.kind, cases[i].kind);
        assert_int_equal(t.past.n, cases[i].n);
        assert_true(t.plan.why[0] != '\0');
    }
}

static double value(size_t n, const struct plan_sample *samples)
{
    return judged("", samples, n).plan.value;
}

static void value_grows_with_failures_age_and_change(void **state)
{
    (void)state;
    const struct plan_sample steady[] = {P, P, P, P};
    const struct plan_sample failed_once[] = {P, F, P, P};
    const struct plan_sample failed_long_ago[] = {P, P, P, F};
    const struct plan_sample waiting[] = {N, N, P, P, P, P};
    const struct plan_sample rebuilt[] = {OLD_PROGRAM, OLD_PROGRAM, OLD_PROGRAM, OLD_PROGRAM};
    struct plan_sample idle[] = {P, P, P, P};
    idle[0].age_days = 7;
    assert_true(value(4, failed_once) > value(4, failed_long_ago));
    assert_true(value(4, failed_long_ago) > value(4, steady));
    assert_true(value(6, waiting) > value(4, steady));
    assert_true(value(4, rebuilt) > value(4, steady));
    assert_true(value(4, idle) > value(4, steady));
    /* 1 - (1 - f)^(s c) by hand: f = 0.02 / (1 + 0.9 + 0.81 + 0.729 + 1), s = c = 1. */
    assert_true(fabs(value(4, steady) - 0.02 / 4.439) < 1e-9);
    assert_true(value(4, failed_once) < 1 && value(0, steady) == 1);
}

static void times_are_bounded_by_what_was_seen_and_by_the_limit(void **state)
{
    (void)state;
    struct plan_sample s[10];
    for (size_t i = 0; i < 10; i++) {
        s[i] = (struct plan_sample)P;
        s[i].wall_ms = 100 + 10 * i;
    }
    struct bnt_test t = judged("", s, 0);
    assert_int_equal(t.plan.fit_ms, 500); /* a twentieth of the limit */
    assert_int_equal(t.plan.worst_ms, 2000);
    t = judged("", s, 1);
    assert_int_equal(t.plan.mean_ms, 100);
    assert_int_equal(t.plan.fit_ms, 150);
    assert_int_equal(t.plan.worst_ms, 500);
    t = judged("", s, 10);
    assert_int_equal(t.plan.fit_ms, 180); /* the ninth of ten */
    assert_int_equal(t.plan.worst_ms, 570);
    s[0].wall_ms = 4000; /* once is an outlier */
    assert_int_equal(judged("", s, 10).plan.fit_ms, 190);
    s[1].wall_ms = 4000; /* twice, it has become slow */
    t = judged("", s, 10);
    assert_int_equal(t.plan.fit_ms, 4000);
    assert_int_equal(t.plan.worst_ms, 10000);
    for (size_t i = 0; i < 5; i++) { /* of this machine, against slow ones of another */
        s[i].wall_ms = 10;
        s[i + 5].wall_ms = 5000;
        s[i + 5].comparable = false;
    }
    assert_int_equal(judged("", s, 10).plan.fit_ms, 10);
}

/* ---- order ---- */

enum { N_ROWS = 6 };

/* A run of n tests with plans as given; at most N_ROWS. */
static void make_run(struct bnt_test_run *run, struct bnt_test *tests,
                     const struct bnt_test_plan *plans, size_t n)
{
    static char names[N_ROWS][8] = {"a", "b", "c", "d", "e", "f"};
    static char none[] = "";
    *run = (struct bnt_test_run){.at = tests, .n = n};
    for (size_t i = 0; i < n; i++) {
        tests[i] = (struct bnt_test){.name = names[i], .suite = none, .plan = plans[i]};
    }
}

static void check_order(const struct bnt_test_plan *plans, size_t n, uint64_t budget_ms,
                        const char *expected)
{
    struct bnt_test tests[N_ROWS];
    struct bnt_test_run run;
    make_run(&run, tests, plans, n);
    run.budget_ms = budget_ms;
    assert_int_equal(plan_order(&run, 1, NULL), BNT_OK);
    char got[N_ROWS + 1] = "";
    for (size_t i = 0; i < n; i++) {
        got[i] = run.at[run.order[i]].name[0];
        assert_int_equal(run.at[run.order[i]].plan.rank, i);
    }
    assert_string_equal(got, expected);
    free(run.order);
}

static void order_is_by_class_then_by_value_per_second(void **state)
{
    (void)state;
    const struct bnt_test_plan plans[] = {
        {.kind = BNT_PLAN_VALUE, .value = 0.1, .mean_ms = 100},
        {.kind = BNT_PLAN_VALUE, .value = 0.5, .mean_ms = 100},
        {.kind = BNT_PLAN_MUST, .value = 0.1, .mean_ms = 100},
        {.kind = BNT_PLAN_NEW, .value = 1, .mean_ms = 100},
        {.kind = BNT_PLAN_OVERDUE, .value = 0.1, .mean_ms = 100, .n_unrun = 8},
        {.kind = BNT_PLAN_VALUE, .value = 0.01, .mean_ms = 100, .n_unrun = 5},
    };
    check_order(plans, N_ROWS, 300, "ecdfba");
}

static void when_all_fits_the_longest_go_first(void **state)
{
    (void)state;
    const struct bnt_test_plan plans[] = {
        {.kind = BNT_PLAN_VALUE, .value = 0.1, .mean_ms = 900},
        {.kind = BNT_PLAN_VALUE, .value = 0.5, .mean_ms = 100},
        {.kind = BNT_PLAN_MUST, .value = 0.1, .mean_ms = 50},
        {.kind = BNT_PLAN_NEW, .value = 1, .mean_ms = 500},
    };
    check_order(plans, 4, 300 * 1000, "cadb");
}

static void must_run_beyond_the_budget_is_refused(void **state)
{
    (void)state;
    const struct bnt_test_plan plans[] = {
        {.kind = BNT_PLAN_MUST, .mean_ms = 4000}, {.kind = BNT_PLAN_MUST, .mean_ms = 1000},
        {.kind = BNT_PLAN_MUST, .mean_ms = 3000}, {.kind = BNT_PLAN_VALUE, .mean_ms = 9000},
        {.kind = BNT_PLAN_MUST, .mean_ms = 2000},
    };
    struct bnt_test tests[N_ROWS];
    struct bnt_test_run run;
    struct bnt_err err = {0};
    make_run(&run, tests, plans, 5);
    run.budget_ms = 10000;
    assert_int_equal(plan_check_must(&run, 1, &err), BNT_OK);
    run.budget_ms = 9000;
    assert_int_equal(plan_check_must(&run, 2, &err), BNT_OK);
    assert_int_equal(plan_check_must(&run, 1, &err), BNT_E_NOT_ALL_RAN);
    print_message("%s\n%s\n", err.msg, err.hint);
    assert_non_null(strstr(err.msg, "the 4 tests that must run take 10.0 s"));
    assert_non_null(strstr(err.hint, "a (4.0 s), c (3.0 s), e (2.0 s)"));
    err = (struct bnt_err){0};
    run.budget_ms = 3999; /* any number of workers: one test alone is longer */
    assert_int_equal(plan_check_must(&run, 64, &err), BNT_E_NOT_ALL_RAN);
}

/* ---- simulation ---- */

/* SplitMix64. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state)
{
    return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

static double normal(uint64_t *state)
{
    double u = uniform(state) + 1e-300;
    return sqrt(-2 * log(u)) * cos(2 * 3.14159265358979323846 * uniform(state));
}

enum { SIM_TESTS = 30, SIM_RUNS = 20, SIM_HISTORIES = 1000, SIM_JOBS_MAX = 4 };

/* A test as nature has it. */
struct sim_test {
    double median_ms; /* drifts */
    double spread;    /* of the logarithm */
    double outlier;   /* probability of a time four times as long */
    double fails;     /* probability */
    size_t n_samples, longest_wait, wait;
    struct plan_sample latest_first[PLAN_SAMPLES_MAX];
};

struct sim {
    uint64_t random;
    struct sim_test tests[SIM_TESTS];
    struct bnt_test rows[SIM_TESTS];
    struct bnt_test_run run;
    int n_jobs;
    double budgets; /* time of all tests, in budgets */
    size_t n_stopped;
};

static double sim_time(struct sim *s, const struct sim_test *t, double limit_ms)
{
    double ms = t->median_ms * exp(t->spread * normal(&s->random));
    ms = uniform(&s->random) < t->outlier ? 4 * ms : ms;
    return ms < 1 ? 1 : ms > limit_ms ? limit_ms : ms;
}

static void sim_setup(struct sim *s, uint64_t seed)
{
    static char none[] = "";
    *s = (struct sim){.random = seed};
    double sum = 0;
    double longest = 0;
    for (size_t i = 0; i < SIM_TESTS; i++) {
        struct sim_test *t = &s->tests[i];
        double u = uniform(&s->random);
        t->median_ms =
            200 * pow(1 - 0.999 * u, -1.0 / 1.1); /* Pareto: few long ones make the sum */
        t->median_ms = t->median_ms > 120000 ? 120000 : t->median_ms;
        t->spread = 0.05 + 0.4 * uniform(&s->random);
        t->outlier = uniform(&s->random) < 0.2 ? 0.02 : 0;
        t->fails = uniform(&s->random) < 0.1 ? 0.3 : 0.001;
        sum += t->median_ms;
        longest = t->median_ms > longest ? t->median_ms : longest;
        s->rows[i] = (struct bnt_test){.name = none, .suite = none, .tags = none};
        s->rows[i].subjects = none;
        s->rows[i].retry_on = none;
        s->rows[i].timeout_ms = (unsigned)(20 * t->median_ms) + 1000;
    }
    s->n_jobs = 1 + (int)(uniform(&s->random) * SIM_JOBS_MAX);
    s->budgets = 0.5 + 2.0 * uniform(&s->random);
    double budget = sum / s->n_jobs / s->budgets;
    budget = budget > 4 * longest ? budget : 4 * longest; /* any test fits by itself */
    s->run = (struct bnt_test_run){.at = s->rows, .n = SIM_TESTS, .budget_ms = (uint64_t)budget};
}

static void sim_note(struct sim_test *t, const struct bnt_test *row)
{
    memmove(t->latest_first + 1, t->latest_first,
            (PLAN_SAMPLES_MAX - 1) * sizeof t->latest_first[0]);
    t->latest_first[0] = (struct plan_sample){
        .outcome = row->outcome, .wall_ms = row->wall_ns / 1000000u, .comparable = true};
    t->latest_first[0].same_inputs = t->latest_first[0].same_program = true;
    t->n_samples += t->n_samples < PLAN_SAMPLES_MAX;
    t->wait = row->outcome == BNT_TEST_NOT_RUN ? t->wait + 1 : 0;
    t->longest_wait = t->wait > t->longest_wait ? t->wait : t->longest_wait;
}

/* What the runner makes of a test that starts at `start` and would take `ms`. */
static double sim_one(struct sim *s, struct bnt_test *t, double start)
{
    struct sim_test *nature = &s->tests[t - s->rows];
    double last = (double)(s->run.budget_ms + bnt_test_grace_ms(s->run.budget_ms));
    double ms = sim_time(s, nature, t->timeout_ms);
    bool failed = uniform(&s->random) < nature->fails;
    if (start + ms > last) {
        s->n_stopped++;
        ms = last - start;
        schedule_conclude(t, BNT_TEST_NOT_RUN, "");
    } else {
        schedule_conclude(t, failed ? BNT_TEST_FAILED : BNT_TEST_PASSED, "");
    }
    t->wall_ns = (uint64_t)(ms * 1e6);
    return ms;
}

/* Let the schedule run on n_jobs workers in simulated time; false when a test had to be stopped. */
static bool sim_execute(struct sim *s)
{
    struct schedule schedule;
    const struct bnt_test_options options = {.n_jobs = s->n_jobs};
    double free_at[SIM_JOBS_MAX] = {0};
    assert_int_equal(schedule_init(&schedule, &s->run, &options, NULL), BNT_OK);
    s->n_stopped = 0;
    while (schedule_has_more(&schedule)) {
        int slot = 0;
        for (int i = 1; i < s->n_jobs; i++) {
            slot = free_at[i] < free_at[slot] ? i : slot;
        }
        struct bnt_test *t = schedule_next(&schedule, (uint64_t)free_at[slot]);
        if (t) {
            free_at[slot] += sim_one(s, t, free_at[slot]);
            schedule_ended(&schedule, t);
        }
    }
    schedule_release(&schedule);
    return s->n_stopped == 0;
}

/* One run: plan, execute, remember. False when it did not end in time by itself. */
static bool sim_run(struct sim *s)
{
    for (size_t i = 0; i < SIM_TESTS; i++) {
        struct bnt_test *row = &s->rows[i];
        free(row->reason);
        row->reason = NULL;
        row->outcome = BNT_TEST_PENDING;
        row->place.started = false;
        row->wall_ns = 0;
        plan_judge(row, s->tests[i].latest_first, s->tests[i].n_samples);
        s->tests[i].median_ms *= 1 + 0.02 * normal(&s->random); /* drift */
    }
    assert_int_equal(plan_order(&s->run, s->n_jobs, NULL), BNT_OK);
    bool in_time = sim_execute(s);
    for (size_t i = 0; i < SIM_TESTS; i++) {
        assert_int_not_equal(s->rows[i].outcome, BNT_TEST_PENDING);
        sim_note(&s->tests[i], &s->rows[i]);
    }
    return in_time;
}

static void sim_finish(struct sim *s)
{
    for (size_t i = 0; i < SIM_TESTS; i++) {
        free(s->rows[i].reason);
    }
    free(s->run.order);
}

static void simulated_runs_end_in_time_and_nothing_starves(void **state)
{
    (void)state;
    struct sim *s = malloc(sizeof *s);
    assert_non_null(s);
    size_t n_runs = 0;
    size_t n_late = 0;
    size_t longest_wait = 0;
    for (uint64_t seed = 1; seed <= SIM_HISTORIES; seed++) {
        sim_setup(s, seed);
        for (int i = 0; i < SIM_RUNS; i++) {
            n_runs++;
            n_late += !sim_run(s);
        }
        for (size_t i = 0; i < SIM_TESTS; i++) {
            size_t wait = s->tests[i].longest_wait;
            longest_wait = wait > longest_wait ? wait : longest_wait;
        }
        sim_finish(s);
    }
    free(s);
    print_message("%zu runs, %zu had to be stopped after budget and grace, longest wait %zu runs\n",
                  n_runs, n_late, longest_wait);
    suite_metric("stopped", (double)n_late, "runs");
    suite_metric("longest_wait", (double)longest_wait, "runs");
    assert_true((double)n_late <= 0.001 * (double)n_runs);
    assert_true(longest_wait <= 10);
}

/* ---- what suites say they depend on ---- */

static void inputs_of_suites_exist(void **state)
{
    (void)state;
    static const char *const rows[] = {
#define INPUTS(suite, paths) paths,
#include "testkit/suites/inputs.def"
#undef INPUTS
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (const char *at = rows[i]; *at;) {
            char path[256];
            size_t len = strcspn(at, " ");
            snprintf(path, sizeof path, "%.*s", (int)len, at);
            print_message("%s\n", path);
            assert_int_equal(access(suite_source(path), R_OK), 0);
            at += len + strspn(at + len, " ");
        }
    }
}

static const struct suite_test tests[] = {
    {.name = "planner_inputs_of_suites_exist", .body = inputs_of_suites_exist, .needs = "source"},
    {.name = "planner_class_follows_from_history", .body = class_follows_from_history},
    {.name = "planner_value_grows_with_failures_age_and_change",
     .body = value_grows_with_failures_age_and_change},
    {.name = "planner_times_are_bounded",
     .body = times_are_bounded_by_what_was_seen_and_by_the_limit},
    {.name = "planner_order_is_by_class_then_value",
     .body = order_is_by_class_then_by_value_per_second},
    {.name = "planner_when_all_fits_the_longest_go_first",
     .body = when_all_fits_the_longest_go_first},
    {.name = "planner_refuses_what_cannot_be", .body = must_run_beyond_the_budget_is_refused},
    {.name = "planner_simulated_runs_end_in_time_and_nothing_starves",
     .body = simulated_runs_end_in_time_and_nothing_starves,
     .timeout_ms = 20000},
    {0},
};

const struct suite suite_planner = {"planner", tests, "starvation"};
