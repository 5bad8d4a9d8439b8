/* Guards the division of a tier among machines: two that disagree on who runs what, one that gets
 * most of the work, and a union that seems whole and is not. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "testkit/shard.h"

/* ---- which one this is ---- */

static void clear_environment(void)
{
    static const char *const names[] = {"BNT_SHARD",
                                        "BNT_SHARD_TOTAL",
                                        "CI_NODE_INDEX",
                                        "CI_NODE_TOTAL",
                                        "BUILDKITE_PARALLEL_JOB",
                                        "BUILDKITE_PARALLEL_JOB_COUNT",
                                        "CIRCLE_NODE_INDEX",
                                        "CIRCLE_NODE_TOTAL",
                                        "JOB_COMPLETION_INDEX",
                                        "SLURM_ARRAY_TASK_ID",
                                        "SLURM_ARRAY_TASK_COUNT",
                                        "SLURM_ARRAY_TASK_MIN",
                                        "SLURM_ARRAY_TASK_STEP"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        unsetenv(names[i]);
    }
}

static void shard_is_read_from_option_and_environment(void **state)
{
    (void)state;
    static const struct {
        const char *text, *env[4][2];
        unsigned index, total; /* total 0: a usage error */
    } cases[] = {
        {"2/5", {{NULL, NULL}}, 2, 5},
        {"1/1", {{NULL, NULL}}, 1, 1},
        {"0/5", {{NULL, NULL}}, 0, 0},
        {"6/5", {{NULL, NULL}}, 0, 0},
        {"2", {{NULL, NULL}}, 0, 0},
        {"2/", {{NULL, NULL}}, 0, 0},
        {"-1/5", {{NULL, NULL}}, 0, 0},
        {"2/5000", {{NULL, NULL}}, 0, 0},
        {"auto", {{NULL, NULL}}, 0, 0},
        {"auto", {{"BNT_SHARD", "3/4"}}, 3, 4},
        {"auto", {{"BNT_SHARD", "4"}}, 0, 0},
        {"auto", {{"CI_NODE_INDEX", "1"}, {"CI_NODE_TOTAL", "3"}}, 1, 3},
        {"auto", {{"CI_NODE_INDEX", "4"}, {"CI_NODE_TOTAL", "3"}}, 0, 0},
        {"auto", {{"CI_NODE_INDEX", "1"}}, 0, 0},
        {"auto", {{"BUILDKITE_PARALLEL_JOB", "0"}, {"BUILDKITE_PARALLEL_JOB_COUNT", "2"}}, 1, 2},
        {"auto", {{"CIRCLE_NODE_INDEX", "1"}, {"CIRCLE_NODE_TOTAL", "2"}}, 2, 2},
        {"auto", {{"JOB_COMPLETION_INDEX", "9"}, {"BNT_SHARD_TOTAL", "10"}}, 10, 10},
        {"auto", {{"JOB_COMPLETION_INDEX", "9"}}, 0, 0},
        {"auto",
         {{"SLURM_ARRAY_TASK_ID", "14"},
          {"SLURM_ARRAY_TASK_COUNT", "3"},
          {"SLURM_ARRAY_TASK_MIN", "10"},
          {"SLURM_ARRAY_TASK_STEP", "2"}},
         3,
         3},
        {"auto",
         {{"SLURM_ARRAY_TASK_ID", "13"},
          {"SLURM_ARRAY_TASK_COUNT", "3"},
          {"SLURM_ARRAY_TASK_MIN", "10"},
          {"SLURM_ARRAY_TASK_STEP", "2"}},
         0,
         0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned index = 0;
        unsigned total = 0;
        struct bnt_err err = {0};
        clear_environment();
        for (size_t k = 0; k < 4 && cases[i].env[k][0]; k++) {
            setenv(cases[i].env[k][0], cases[i].env[k][1], 1);
        }
        enum bnt_status st = shard_parse(cases[i].text, &index, &total, &err);
        print_message("case %zu: %d %u/%u %s\n", i, (int)st, index, total, err.msg);
        assert_int_equal(st, cases[i].total ? BNT_OK : BNT_E_USAGE);
        assert_true(cases[i].total == 0 || index == cases[i].index);
        assert_true(cases[i].total == 0 || total == cases[i].total);
    }
}

/* ---- the division ---- */

/* Test t0000 and so on, with time limits that stand for the given times. */
static void make_run(struct bnt_test_run *run, const double *seconds, size_t n)
{
    *run = (struct bnt_test_run){.n = n, .at = calloc(n + 1, sizeof *run->at)};
    assert_non_null(run->at);
    run->model.kind = "real";
    run->started_unix_s = 1700000000;
    for (size_t i = 0; i < n; i++) {
        char name[32];
        struct bnt_test *t = &run->at[i];
        snprintf(name, sizeof name, "t%04zu", i);
        t->name = strdup(name);
        t->suite = strdup(i % 2 ? "odd" : "even");
        t->needs = strdup("");
        t->tags = strdup("");
        t->subjects = strdup("");
        t->retry_on = strdup("");
        t->inputs = strdup("");
        t->timeout_ms = (unsigned)(seconds[i] * 20000);
        t->outcome = BNT_TEST_PASSED;
        t->wall_ns = (uint64_t)(seconds[i] * 1e9);
    }
}

static double sum_seconds(const struct bnt_test_run *run)
{
    double sum = 0;
    for (size_t i = 0; i < run->n; i++) {
        sum += (double)run->at[i].wall_ns / 1e9;
    }
    return sum;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static double uniform(uint64_t *state)
{
    return (double)next_random(state) / 2147483648.0;
}

enum { DIVISIONS = 200, DIVISION_TESTS = 300, SHARDS = 8 };

/* Pareto times, as suites have them: a few long tests make most of the sum. No division is better
 * than its longest test, so that is cut at half a shard's share. */
static void shards_are_balanced_by_time_and_whole(void **state)
{
    (void)state;
    double worst = 0;
    for (uint64_t seed = 1; seed <= DIVISIONS; seed++) {
        double seconds[DIVISION_TESTS];
        uint64_t random = seed;
        unsigned total = 2 + (unsigned)(next_random(&random) % (SHARDS - 1));
        for (size_t i = 0; i < DIVISION_TESTS; i++) {
            seconds[i] = 0.02 * pow(1 - 0.9999 * uniform(&random), -1.0 / 1.2);
            seconds[i] = seconds[i] > 1.5 ? 1.5 : seconds[i];
        }
        double most = 0;
        double sum = 0;
        size_t n = 0;
        char plan[BNT_SHA256_HEX] = "";
        for (unsigned k = 1; k <= total; k++) {
            struct bnt_test_run run;
            make_run(&run, seconds, DIVISION_TESTS);
            assert_int_equal(shard_split(&run, k, total, NULL, NULL), BNT_OK);
            double own = sum_seconds(&run);
            most = own > most ? own : most;
            sum += own;
            n += run.n;
            assert_int_equal(run.n + run.shard.elsewhere.n, DIVISION_TESTS);
            assert_true(k == 1 || strcmp(plan, run.shard.plan) == 0);
            snprintf(plan, sizeof plan, "%s", run.shard.plan);
            bnt_test_run_release(&run);
        }
        assert_int_equal(n, DIVISION_TESTS);
        double ratio = most / (sum / total);
        worst = ratio > worst ? ratio : worst;
    }
    print_message("max/mean of %d divisions: at most %.4f\n", DIVISIONS, worst);
    suite_metric("max_over_mean", worst, "1");
    assert_true(worst <= 1.15);
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(suite_in_scratch(name), "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void times_of_a_file_divide(void **state)
{
    (void)state;
    static const double seconds[] = {1, 1, 1, 1};
    struct bnt_test_run run;
    struct bnt_err err = {0};
    write_text("times.json", "{\"format\": \"bnt-test-times\", \"schema\": 1, \"seconds\": "
                             "{\"t0000\": 30, \"t0001\": 10, \"t0002\": 10, \"t0003\": 10}}");
    make_run(&run, seconds, 4);
    assert_int_equal(shard_split(&run, 1, 2, suite_in_scratch("times.json"), NULL), BNT_OK);
    assert_int_equal(run.n, 1);
    assert_string_equal(run.at[0].name, "t0000");
    bnt_test_run_release(&run);
    write_text("times.json", "{\"t0000\": 30}");
    make_run(&run, seconds, 4);
    assert_int_equal(shard_split(&run, 1, 2, suite_in_scratch("times.json"), &err), BNT_E_FILE);
    assert_non_null(strstr(err.hint, "bnt test history --times"));
    bnt_test_run_release(&run);
}

/* ---- result files ---- */

/* Write a run as a result file and read it back into itself. */
static void through_a_file(struct bnt_test_run *run, int exit_code)
{
    struct bnt_err err = {0};
    struct bnt_buf text = BNT_BUF(16 << 20);
    int read_exit = -1;
    assert_int_equal(bnt_test_report_json(run, exit_code, &text, NULL), BNT_OK);
    write_text("result.json", bnt_buf_view(&text));
    bnt_buf_release(&text);
    bnt_test_run_release(run);
    *run = (struct bnt_test_run){0};
    if (bnt_test_result_read(suite_in_scratch("result.json"), run, &read_exit, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(read_exit, exit_code);
}

#define REASON_50 "a reason that is longer than a line of a terminal "
#define REASON_199 REASON_50 REASON_50 REASON_50 "a reason that is longer than a line of a terminal"

static void fill_one_of_each(struct bnt_test_run *run)
{
    struct bnt_test *t = &run->at[0];
    t->outcome = BNT_TEST_QUARANTINED;
    t->reason = strdup("an assertion failed");
    t->output = strdup("what it \"said\"\n\xff");
    t->label = strdup("flaky");
    t->diagnosis = strdup("alone: fails, passes");
    t->owner = strdup("mira");
    t->excuse = strdup("known");
    t->expires = strdup("2026-12-20");
    t->place = (struct bnt_test_place){true, 3, 1, 1500};
    t->plan = (struct bnt_test_plan){.kind = BNT_PLAN_MUST, .why = "contract", .rank = 1};
    t->tries = calloc(1, sizeof *t->tries);
    t->n_tries = 1;
    char long_reason[] = REASON_199;
    long_reason[158] = '\xe6'; /* half a character, where a shorter field would have cut it */
    t->tries[0] = (struct bnt_test_try){.outcome = BNT_TEST_FAILED,
                                        .reason = strdup(long_reason),
                                        .output = strdup("out"),
                                        .wall_ns = 2000000};
    t->metrics = calloc(1, sizeof *t->metrics);
    t->metrics[0] = (struct bnt_test_metric){.name = "tokens_per_s", .unit = "1/s", .value = 12.5};
    t->n_metrics = 1;
    t->past.n = 1;
    t->past.at[0].outcome = BNT_TEST_PASSED;
    t->past.at[0].wall_ms = 40;
    run->at[1].cache = BNT_CACHE_HIT;
    run->at[1].outcome = BNT_TEST_CACHED;
    snprintf(run->at[1].cache_key, sizeof run->at[1].cache_key, "abc");
    run->order = malloc(2 * sizeof *run->order);
    run->order[0] = 1;
    run->order[1] = 0;
}

static void result_file_reads_back_whole(void **state)
{
    (void)state;
    static const double seconds[] = {1.5, 2};
    struct bnt_test_run run;
    make_run(&run, seconds, 2);
    fill_one_of_each(&run);
    snprintf(run.model.digest, sizeof run.model.digest, "d1");
    snprintf(run.machine.fingerprint, sizeof run.machine.fingerprint, "f1");
    snprintf(run.machine.host, sizeof run.machine.host, "elsewhere");
    snprintf(run.version, sizeof run.version, "9.8.7");
    snprintf(run.config, sizeof run.config, "asan");
    run.seed = 42;
    run.budget_ms = 300000;
    run.interrupted = true;
    through_a_file(&run, 130);
    const struct bnt_test *t = &run.at[0];
    assert_int_equal(run.n, 2);
    assert_int_equal(run.seed, 42);
    assert_int_equal(run.budget_ms, 300000);
    assert_true(run.interrupted);
    assert_string_equal(run.model.digest, "d1");
    assert_int_equal(t->outcome, BNT_TEST_QUARANTINED);
    assert_string_equal(t->reason, "an assertion failed");
    assert_string_equal(t->output, "what it \"said\"\n\xef\xbf\xbd");
    assert_string_equal(t->label, "flaky");
    assert_string_equal(t->expires, "2026-12-20");
    assert_int_equal(t->place.slot, 1);
    assert_int_equal(t->place.start_ms, 1500);
    assert_int_equal(t->plan.kind, BNT_PLAN_MUST);
    assert_int_equal(t->tries[0].wall_ns, 2000000);
    assert_int_equal(strlen(t->tries[0].reason), 198 + 3);
    assert_int_equal(t->past.at[0].wall_ms, 40);
    assert_int_equal(t->n_metrics, 1);
    assert_true(t->metrics[0].value == 12.5);
    assert_int_equal(t->wall_ns, 1500000000);
    assert_int_equal(run.at[1].cache, BNT_CACHE_HIT);
    assert_int_equal(run.order[0], 1);
    /* A report made here is about the build and the machine that ran. */
    struct bnt_buf xml = BNT_BUF(1 << 20);
    assert_int_equal(bnt_test_report_junit(&run, &xml, NULL), BNT_OK);
    assert_non_null(strstr(bnt_buf_view(&xml), "hostname=\"elsewhere\""));
    assert_non_null(strstr(bnt_buf_view(&xml), "name=\"version\" value=\"9.8.7\""));
    assert_non_null(strstr(bnt_buf_view(&xml), "name=\"config\" value=\"asan\""));
    bnt_buf_release(&xml);
    bnt_test_run_release(&run);
}

#define LIST                                                                                       \
    "{\"format\": \"bnt-test-result\", \"schema\": 1, \"tier\": \"fast\", \"model\": {\"kind\": "  \
    "\"real\"}, "
#define RUN LIST "\"started_unix_s\": 1, "

/* Every value of a good file, replaced by what it must not be: an error or a fine run, no crash. */
static void hostile_result_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum bnt_status status;
    } cases[] = {
        {"", BNT_E_FILE},
        {"[]", BNT_E_FILE},
        {"{}", BNT_E_FILE},
        {"{\"format\": \"bnt-test-result\", \"schema\": 2}", BNT_E_UNSUPPORTED},
        {"{\"format\": \"bnt-test-result\", \"schema\": 1}", BNT_E_FILE},
        {RUN "\"tests\": 7}", BNT_E_FILE},
        {RUN "\"seconds\": 1}", BNT_E_FILE},
        {RUN "\"seconds\": -1, \"tests\": []}", BNT_E_FILE},
        {RUN "\"tests\": [{\"name\": \"a\", \"suite\": \"b\", \"tier\": "
             "\"fast\", \"outcome\": \"splendid\"}]}",
         BNT_E_FILE},
        {RUN "\"tests\": [{\"name\": \"a\", \"suite\": \"b\", \"tier\": "
             "\"fast\", \"outcome\": \"passed\", \"plan\": {\"class\": \"must\", \"rank\": 9}}]}",
         BNT_E_FILE},
        {RUN "\"shard\": {\"index\": 3, \"total\": 2}, \"tests\": []}", BNT_E_FILE},
        {LIST "\"tests\": []}", BNT_E_FILE},
        {RUN "\"tests\": []}", BNT_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_test_run run = {0};
        struct bnt_err err = {0};
        int exit_code;
        write_text("r.json", cases[i].text);
        enum bnt_status st =
            bnt_test_result_read(suite_in_scratch("r.json"), &run, &exit_code, &err);
        print_message("case %zu: %d %s\n", i, (int)st, err.msg);
        assert_int_equal(st, cases[i].status);
        bnt_test_run_release(&run);
    }
}

/* ---- the union ---- */

enum { PARTS = 3, MERGED = 9 };

static void make_parts(struct bnt_test_run parts[PARTS])
{
    static const double seconds[MERGED] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
    for (unsigned k = 0; k < PARTS; k++) {
        make_run(&parts[k], seconds, MERGED);
        assert_int_equal(shard_split(&parts[k], k + 1, PARTS, NULL, NULL), BNT_OK);
        parts[k].n_jobs = 2;
        through_a_file(&parts[k], 0);
    }
}

static void check_merge(struct bnt_test_run *parts, size_t n, const char *problem)
{
    static const int exit_codes[PARTS + 1] = {0};
    struct bnt_test_run whole = {0};
    struct bnt_buf problems = BNT_BUF(1 << 20);
    enum bnt_status st = shard_merge(parts, exit_codes, n, &whole, &problems, NULL);
    print_message("%s", bnt_buf_view(&problems));
    assert_int_equal(st, problem ? BNT_E_FAILED : BNT_OK);
    if (problem) {
        assert_non_null(strstr(bnt_buf_view(&problems), problem));
    } else {
        assert_int_equal(whole.n, MERGED);
        assert_int_equal(whole.n_parts, PARTS);
        assert_int_equal(whole.n_jobs, 2 * PARTS);
        assert_int_equal(bnt_test_count(&whole, NULL).of[BNT_TEST_PASSED], MERGED);
    }
    bnt_buf_release(&problems);
    bnt_test_run_release(&whole);
}

static void release_parts(struct bnt_test_run parts[PARTS])
{
    for (size_t i = 0; i < PARTS; i++) {
        bnt_test_run_release(&parts[i]);
    }
}

static void union_is_proved_whole(void **state)
{
    (void)state;
    struct bnt_test_run p[PARTS];
    make_parts(p);
    check_merge(p, 2, "shard 3 of 3 is missing");
    const struct bnt_test_run twice[] = {p[0], p[1], p[2], p[1]};
    check_merge((struct bnt_test_run *)(uintptr_t)twice, 4, "shard 2 of 3 is there twice");
    p[1].n--; /* a test that its shard lost */
    check_merge(p, PARTS, "missing: ");
    p[1].n++;
    snprintf(p[1].model.digest, sizeof p[1].model.digest, "another");
    check_merge(p, PARTS, "shard 2 has another");
    p[1].model.digest[0] = '\0';
    p[2].shard.plan[0] ^= 1;
    check_merge(p, PARTS, "division");
    p[2].shard.plan[0] ^= 1;
    for (size_t i = 0; i < PARTS; i++) { /* a mock that is no file; a server */
        p[i].model = (struct bnt_model_ref){.kind = "tiny", .path = "tiny:1"};
    }
    p[2].model.path[5] = '2';
    check_merge(p, PARTS, "shard 1 has model tiny:1, shard 3 has tiny:2");
    p[0].model.kind = p[1].model.kind = p[2].model.kind = "http";
    check_merge(p, PARTS, NULL);
    release_parts(p);
}

static const struct suite_test tests[] = {
    {.name = "shard_is_read_from_option_and_environment",
     .body = shard_is_read_from_option_and_environment},
    {.name = "shard_division_is_balanced_and_whole", .body = shards_are_balanced_by_time_and_whole},
    {.name = "shard_times_of_a_file_divide", .body = times_of_a_file_divide},
    {.name = "shard_result_file_reads_back_whole", .body = result_file_reads_back_whole},
    {.name = "shard_hostile_result_files_are_refused", .body = hostile_result_files_are_refused},
    {.name = "shard_union_is_proved_whole", .body = union_is_proved_whole},
    {0},
};

const struct suite suite_shard = {"shard", tests, "shard_unbalanced merge_gap"};
