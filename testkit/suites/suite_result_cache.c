/* Guards the result cache: a pass taken from a run that was another one, a result shown as passed
 * that never ran, an audit that nobody notices. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "testkit/result_cache.h"
#include "testkit/schedule.h"

enum { MANY = 2000 };

/* A run of n cacheable tests, pending. */
static void make_run(struct bnt_test_run *run, size_t n, uint64_t seed)
{
    *run = (struct bnt_test_run){.n = n, .seed = seed, .at = calloc(n, sizeof *run->at)};
    assert_non_null(run->at);
    run->model.kind = "real";
    run->started_unix_s = 1700000000;
    snprintf(run->id, sizeof run->id, "%016llx", (unsigned long long)seed);
    snprintf(run->model.digest, sizeof run->model.digest, "aaaa");
    snprintf(run->program_digest, sizeof run->program_digest, "bbbb");
    snprintf(run->machine.fingerprint, sizeof run->machine.fingerprint, "cccc");
    for (size_t i = 0; i < n; i++) {
        char name[32];
        struct bnt_test *t = &run->at[i];
        snprintf(name, sizeof name, "t%04zu", i);
        t->name = strdup(name);
        t->suite = strdup("fake");
        t->needs = strdup("");
        t->tags = strdup("");
        t->subjects = strdup("real");
        t->retry_on = strdup("");
        t->inputs = strdup("dddd");
        t->cacheable = true;
    }
}

static void conclude_all(struct bnt_test_run *run, enum bnt_test_outcome outcome)
{
    for (size_t i = 0; i < run->n; i++) {
        if (run->at[i].outcome == BNT_TEST_PENDING) {
            schedule_conclude(&run->at[i], outcome, "");
        }
    }
}

static struct history *open_history(void)
{
    char path[BNT_PATH_MAX];
    struct history *h = NULL;
    assert_int_equal(bnt_path_format(path, NULL, "%s/h.db", suite_scratch()), BNT_OK);
    assert_int_equal(history_open(path, HISTORY_WRITE, &h, NULL), BNT_OK);
    return h;
}

/* One run in which every test passes and is kept. */
static void keep_passes(struct history *h, size_t n)
{
    struct bnt_test_run run;
    make_run(&run, n, 1);
    assert_int_equal(result_cache_keys(&run, NULL), BNT_OK);
    conclude_all(&run, BNT_TEST_PASSED);
    assert_int_equal(history_record(h, &run, 0, NULL), BNT_OK);
    bnt_test_run_release(&run);
}

static void key_of_one(const char *what, void (*change)(struct bnt_test_run *run),
                       char key[BNT_SHA256_HEX])
{
    struct bnt_test_run run;
    make_run(&run, 1, 1);
    if (change) {
        change(&run);
    }
    assert_int_equal(result_cache_keys(&run, NULL), BNT_OK);
    print_message("%-12s %s\n", what, run.at[0].cache_key);
    memcpy(key, run.at[0].cache_key, BNT_SHA256_HEX);
    bnt_test_run_release(&run);
}

static void other_program(struct bnt_test_run *run)
{
    run->program_digest[0] = 'x';
}
static void other_model(struct bnt_test_run *run)
{
    run->model.digest[0] = 'x';
}
static void mock_model(struct bnt_test_run *run)
{
    run->model.kind = "tiny";
}
static void other_machine(struct bnt_test_run *run)
{
    run->machine.fingerprint[0] = 'x';
}
static void other_inputs(struct bnt_test_run *run)
{
    run->at[0].inputs[0] = 'x';
}
static void other_name(struct bnt_test_run *run)
{
    run->at[0].name[0] = 'x';
}
static void other_environment(struct bnt_test_run *run)
{
    (void)run;
    setenv("LC_ALL", "C.UTF-8", 1);
}
static void other_seed(struct bnt_test_run *run)
{
    run->seed = 99;
    setenv("BNT_TEST_SEED", "99", 1);
    setenv("SOMETHING_ELSE", "x", 1);
}
static void not_cacheable(struct bnt_test_run *run)
{
    run->at[0].cacheable = false;
}
static void unknown_inputs(struct bnt_test_run *run)
{
    run->at[0].inputs[0] = '\0';
}

static void key_covers_all_that_matters(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        void (*change)(struct bnt_test_run *run);
        enum { SAME, OTHER, NONE } key;
    } cases[] = {
        {"again", NULL, SAME},
        {"program", other_program, OTHER},
        {"model", other_model, OTHER},
        {"mock", mock_model, OTHER},
        {"machine", other_machine, OTHER},
        {"inputs", other_inputs, OTHER},
        {"name", other_name, OTHER},
        {"seed", other_seed, SAME},
        {"undeclared", not_cacheable, NONE},
        {"no inputs", unknown_inputs, NONE},
        {"environment", other_environment, OTHER},
    };
    char base[BNT_SHA256_HEX];
    unsetenv("LC_ALL");
    key_of_one("base", NULL, base);
    assert_int_equal(strlen(base), 64);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char key[BNT_SHA256_HEX];
        key_of_one(cases[i].what, cases[i].change, key);
        assert_int_equal(strcmp(key, base) == 0, cases[i].key == SAME);
        assert_int_equal(key[0] == '\0', cases[i].key == NONE);
    }
}

static void hit_is_cached_and_three_in_a_hundred_are_audited(void **state)
{
    (void)state;
    struct history *h = open_history();
    keep_passes(h, MANY);
    size_t n_audits[2] = {0};
    size_t n_common = 0;
    bool audited[2][MANY] = {{false}};
    for (size_t k = 0; k < 2; k++) {
        struct bnt_test_run run;
        make_run(&run, MANY, 100 + k);
        assert_int_equal(result_cache_keys(&run, NULL), BNT_OK);
        assert_int_equal(result_cache_take(&run, h, NULL), BNT_OK);
        for (size_t i = 0; i < MANY; i++) {
            const struct bnt_test *t = &run.at[i];
            audited[k][i] = t->cache == BNT_CACHE_AUDIT;
            n_audits[k] += audited[k][i];
            assert_int_equal(t->outcome, audited[k][i] ? BNT_TEST_PENDING : BNT_TEST_CACHED);
        }
        assert_string_equal(run.at[0].reason ? run.at[0].reason : "",
                            "passed in run 0000000000000001");
        bnt_test_run_release(&run);
    }
    for (size_t i = 0; i < MANY; i++) {
        n_common += audited[0][i] && audited[1][i];
    }
    print_message("audits: %zu and %zu of %d, %zu in both\n", n_audits[0], n_audits[1], MANY,
                  n_common);
    for (size_t k = 0; k < 2; k++) { /* 60 expected, standard deviation 7.6 */
        assert_in_range(n_audits[k], 30, 90);
    }
    assert_in_range(n_common, 0, 12); /* another seed chooses others */
    history_close(h);
}

/* With audits for all: what the seed chooses is not the point here. */
static void disagreement_is_red_and_forgets(void **state)
{
    (void)state;
    struct history *h = open_history();
    struct bnt_test_run run;
    keep_passes(h, 2);
    make_run(&run, 2, 5);
    assert_int_equal(result_cache_keys(&run, NULL), BNT_OK);
    run.at[0].cache = run.at[1].cache = BNT_CACHE_AUDIT;
    schedule_conclude(&run.at[0], BNT_TEST_FAILED, "an assertion failed");
    schedule_conclude(&run.at[1], BNT_TEST_PASSED, "");
    assert_int_equal(result_cache_settle(&run, h, NULL), BNT_OK);
    assert_int_equal(run.at[0].outcome, BNT_TEST_DISAGREED);
    assert_true(bnt_test_is_red(&run.at[0]));
    assert_non_null(strstr(run.at[0].reason, "says passed, and now: an assertion failed"));
    assert_int_equal(run.at[1].outcome, BNT_TEST_PASSED);
    char from[17];
    bool found = true;
    assert_int_equal(history_kept(h, run.at[0].cache_key, from, &found, NULL), BNT_OK);
    assert_false(found);
    assert_int_equal(history_kept(h, run.at[1].cache_key, from, &found, NULL), BNT_OK);
    assert_true(found);
    bnt_test_run_release(&run);
    history_close(h);
}

static void only_plain_passes_are_kept(void **state)
{
    (void)state;
    struct history *h = open_history();
    struct bnt_test_run run;
    make_run(&run, 4, 5);
    assert_int_equal(result_cache_keys(&run, NULL), BNT_OK);
    schedule_conclude(&run.at[0], BNT_TEST_FAILED, "");
    schedule_conclude(&run.at[1], BNT_TEST_SKIPPED, "");
    schedule_conclude(&run.at[2], BNT_TEST_NOT_RUN, "");
    schedule_conclude(&run.at[3], BNT_TEST_PASSED, "");
    run.at[3].tries = calloc(1, sizeof *run.at[3].tries); /* but not at once */
    run.at[3].n_tries = 1;
    assert_int_equal(history_record(h, &run, 1, NULL), BNT_OK);
    for (size_t i = 0; i < 4; i++) {
        char from[17];
        bool found = true;
        assert_int_equal(history_kept(h, run.at[i].cache_key, from, &found, NULL), BNT_OK);
        assert_false(found);
    }
    bnt_test_run_release(&run);
    history_close(h);
}

static const struct suite_test tests[] = {
    {.name = "result_cache_key_covers_all_that_matters", .body = key_covers_all_that_matters},
    {.name = "result_cache_hit_is_cached_and_some_are_audited",
     .body = hit_is_cached_and_three_in_a_hundred_are_audited},
    {.name = "result_cache_disagreement_is_red", .body = disagreement_is_red_and_forgets},
    {.name = "result_cache_keeps_only_plain_passes", .body = only_plain_passes_are_kept},
    {0},
};

const struct suite suite_result_cache = {"result_cache", tests, "audit_ignored cache_any_model"};
