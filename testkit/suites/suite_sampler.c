/* Guards sampling: a distribution that is nearly right, a tie that falls differently on another
 * day, a penalty that is applied twice, a NaN that is drawn. */
#include "testkit/suite.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/sampler.h"

enum { DRAWS = 20000, BIG_VOCAB = 128256 };

/* A pseudo-random stream of the tests' own (Knuth's MMIX constants), so that the sampler does not
 * test itself. */
static double noise(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (double)(*state >> 33) / 2147483648.0;
}

static struct bnt_sampler *make(const struct bnt_sampler_params *p, int32_t n_vocab)
{
    struct bnt_sampler *s = NULL;
    struct bnt_err err = {0};
    if (bnt_sampler_new(p, n_vocab, &s, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return s;
}

/* Next id from a copy of logits. */
static int32_t next(struct bnt_sampler *s, const float *logits, size_t n)
{
    float *copy = malloc(n * sizeof(*copy));
    int32_t id = -1;
    memcpy(copy, logits, n * sizeof(*copy));
    assert_int_equal(bnt_sampler_next(s, copy, &id, NULL), BNT_OK);
    free(copy);
    return id;
}

/* ---- Greedy. */

static void greedy_takes_the_lowest_of_equals(void **state)
{
    (void)state;
    static const struct {
        float logits[5];
        int32_t id;
    } cases[] = {
        {{1, 3, 2, 3, 3}, 1},
        {{-5, -5, -5, -5, -5}, 0},
        {{NAN, 1, 2, NAN, 0}, 2},
        {{INFINITY, 1, 2, 3, 0}, 3}, /* +infinity is no logit */
        {{-INFINITY, -INFINITY, -FLT_MAX, -INFINITY, -INFINITY}, 2},
    };
    struct bnt_sampler_params p = bnt_sampler_defaults();
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct bnt_sampler *s = make(&p, 5);
        assert_int_equal(next(s, cases[i].logits, 5), cases[i].id);
        bnt_sampler_free(s);
    }
}

static void no_finite_logit_is_an_error(void **state)
{
    (void)state;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    for (int sampled = 0; sampled < 2; sampled++) {
        p.temperature = sampled;
        float logits[] = {NAN, -INFINITY, INFINITY};
        struct bnt_err err = {0};
        struct bnt_sampler *s = make(&p, 3);
        int32_t id = 7;
        assert_int_equal(bnt_sampler_next(s, logits, &id, &err), BNT_E_INFERENCE);
        assert_int_equal(id, 7);
        assert_non_null(strstr(err.msg, "finite"));
        bnt_sampler_free(s);
    }
}

/* One candidate left, or next to no temperature: all the same as greedy. */
static void limits_equal_greedy(void **state)
{
    (void)state;
    uint64_t noise_state = 11;
    struct bnt_sampler_params greedy = bnt_sampler_defaults(), one = greedy, cold = greedy,
                              sharp = greedy;
    one.temperature = 1.7;
    one.top_k = 1;
    cold.temperature = 1e-4;
    sharp.temperature = 1;
    sharp.min_p = 0.9999;
    struct bnt_sampler *g = make(&greedy, 300), *a = make(&one, 300), *b = make(&cold, 300),
                       *c = make(&sharp, 300);
    for (int trial = 0; trial < 300; trial++) {
        float logits[300];
        for (int i = 0; i < 300; i++) {
            logits[i] = (float)(noise(&noise_state) * 20 - 10) + (float)i * 0.01f;
        }
        logits[trial] = 14; /* clear of the rest */
        int32_t expected = next(g, logits, 300);
        assert_int_equal(expected, trial);
        assert_int_equal(next(a, logits, 300), expected);
        assert_int_equal(next(b, logits, 300), expected);
        assert_int_equal(next(c, logits, 300), expected);
    }
    bnt_sampler_free(g);
    bnt_sampler_free(a);
    bnt_sampler_free(b);
    bnt_sampler_free(c);
}

/* ---- Distributions: probabilities of eight ids, and what each stage must leave of them. */

static const double base[8] = {0.05, 0.4, 0.005, 0.15, 0.03, 0.25, 0.1, 0.015}; /* of ids 0 to 7 */

#define ALL {0, 1, 2, 3, 4, 5, 6, 7}, 8

static const struct {
    const char *what;
    double temperature, top_p, min_p, typical_p;
    int top_k;
    int kept[8], n_kept; /* derived by hand from base */
} stages[] = {
    {"plain", 1, 1, 0, 1, 0, ALL},
    {"temperature 2", 2, 1, 0, 1, 0, ALL},
    {"temperature 0.5", 0.5, 1, 0, 1, 0, ALL},
    {"top-k 3", 1, 1, 0, 1, 3, {1, 5, 3}, 3},
    {"top-k past the vocabulary", 1, 1, 0, 1, 100, ALL},
    {"top-p 0.7: 0.4 + 0.25 + 0.15", 1, 0.7, 0, 1, 0, {1, 5, 3}, 3},
    {"top-p 0.1 keeps one", 1, 0.1, 0, 1, 0, {1}, 1},
    {"min-p 0.2: at least 0.08", 1, 1, 0.2, 1, 0, {1, 5, 3, 6}, 4},
    /* Entropy 1.572 nats; distances of -log p: 0.25 -> 0.19, 0.15 -> 0.32, 0.4 -> 0.66, 0.1 ->
       0.73, 0.05 -> 1.42. */
    {"typical 0.35: not the likeliest", 1, 1, 0, 0.35, 0, {5, 3}, 2},
    {"typical 0.5", 1, 1, 0, 0.5, 0, {5, 3, 1}, 3},
    {"top-k 5, then top-p 0.8 of what is left", 1, 0.8, 0, 1, 5, {1, 5, 3}, 3},
    {"typical, then top-p of what is left: 0.25 of 0.4", 1, 0.6, 0, 0.35, 0, {5}, 1},
    {"stages see temperature 1", 3, 0.7, 0, 1, 0, {1, 5, 3}, 3},
};

/* 0.999 quantiles of chi-square by degrees of freedom. */
static const double chi2_limit[8] = {0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46, 24.32};

static void check_stage(size_t k)
{
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.temperature = stages[k].temperature;
    p.top_p = stages[k].top_p;
    p.min_p = stages[k].min_p;
    p.typical_p = stages[k].typical_p;
    p.top_k = stages[k].top_k;
    p.seed = 1000 + k;
    float logits[8];
    double expected[8] = {0}, sum = 0;
    for (int i = 0; i < 8; i++) {
        logits[i] = (float)(log(base[i]) + 3.5);
    }
    for (int i = 0; i < stages[k].n_kept; i++) {
        int id = stages[k].kept[i];
        sum += expected[id] = pow(base[id], 1 / stages[k].temperature);
    }
    int seen[8] = {0};
    struct bnt_sampler *s = make(&p, 8);
    for (int i = 0; i < DRAWS; i++) {
        seen[next(s, logits, 8)]++;
    }
    bnt_sampler_free(s);
    double chi2 = 0;
    for (int i = 0; i < 8; i++) {
        double e = expected[i] / sum * DRAWS;
        if (e == 0 && seen[i] > 0) {
            fail_msg("%s: id %d was drawn %d times", stages[k].what, i, seen[i]);
        }
        chi2 += e > 0 ? (seen[i] - e) * (seen[i] - e) / e : 0;
    }
    if (stages[k].n_kept > 1 && chi2 > chi2_limit[stages[k].n_kept - 1]) {
        fail_msg("%s: chi-square %.2f", stages[k].what, chi2);
    }
}

static void draws_follow_the_distribution(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof(stages) / sizeof(*stages); k++) {
        check_stage(k);
    }
}

/* The generator is xoshiro256** seeded by splitmix64(42): with 256 equal logits an id is the top
 * byte of an output. The values come from an independent program of the published algorithms. */
static void generator_is_the_published_one(void **state)
{
    (void)state;
    static const int expected[] = {21, 97, 174, 236, 253, 197, 184, 217, 194, 149, 174, 74};
    float logits[256] = {0};
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.temperature = 1;
    p.seed = 42;
    struct bnt_sampler *s = make(&p, 256);
    for (size_t i = 0; i < sizeof(expected) / sizeof(*expected); i++) {
        assert_int_equal(next(s, logits, 256), expected[i]);
    }
    bnt_sampler_free(s);
}

static void same_seed_same_ids(void **state)
{
    (void)state;
    uint64_t noise_state = 5;
    float logits[1000];
    for (int i = 0; i < 1000; i++) {
        logits[i] = (float)(noise(&noise_state) * 4);
    }
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.temperature = 1;
    p.top_p = 0.9;
    p.seed = 77;
    struct bnt_sampler *a = make(&p, 1000), *b = make(&p, 1000);
    p.seed = 78;
    struct bnt_sampler *c = make(&p, 1000);
    int same = 0;
    for (int i = 0; i < 200; i++) {
        int32_t id = next(a, logits, 1000);
        assert_int_equal(id, next(b, logits, 1000));
        same += id == next(c, logits, 1000);
    }
    assert_in_range(same, 0, 40);
    bnt_sampler_free(a);
    bnt_sampler_free(b);
    bnt_sampler_free(c);
}

/* ---- Penalties and bias, by hand. */

static void penalties_are_as_published(void **state)
{
    (void)state;
    /* After ids 1, 1, 3: repetition 2 halves 4 and doubles -3; frequency 0.5 per occurrence;
     * presence 0.25 once. */
    static const struct {
        double repeat, frequency, presence;
        float expected[4];
    } cases[] = {
        {2, 0, 0, {1, 2, 0.5f, -6}},
        {1, 0.5, 0, {1, 3, 0.5f, -3.5f}},
        {1, 0, 0.25, {1, 3.75f, 0.5f, -3.25f}},
        {2, 0.5, 0.25, {1, 0.75f, 0.5f, -6.75f}},
        {1, -0.5, 0, {1, 5, 0.5f, -2.5f}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct bnt_sampler_params p = bnt_sampler_defaults();
        p.repeat_penalty = cases[i].repeat;
        p.frequency_penalty = cases[i].frequency;
        p.presence_penalty = cases[i].presence;
        struct bnt_sampler *s = make(&p, 4);
        bnt_sampler_accept(s, 1);
        bnt_sampler_accept(s, 1);
        bnt_sampler_accept(s, 3);
        bnt_sampler_accept(s, -1); /* ignored, like any id outside the vocabulary */
        bnt_sampler_accept(s, 4);
        float logits[4] = {1, 4, 0.5f, -3};
        int32_t id;
        assert_int_equal(bnt_sampler_next(s, logits, &id, NULL), BNT_OK);
        assert_memory_equal(logits, cases[i].expected, sizeof(logits));
        bnt_sampler_free(s);
    }
}

/* Each choice is penalised away, so ids cycle with the length of the window. */
static void penalties_look_back_so_far(void **state)
{
    (void)state;
    static const struct {
        int32_t last_n;
        int32_t ids[8];
    } cases[] = {
        {0, {0, 0, 0, 0, 0, 0, 0, 0}},  {1, {0, 1, 0, 1, 0, 1, 0, 1}},
        {2, {0, 1, 2, 0, 1, 2, 0, 1}},  {-1, {0, 1, 2, 3, 4, 5, 6, 7}},
        {64, {0, 1, 2, 3, 4, 5, 6, 7}},
    };
    float logits[8];
    for (int i = 0; i < 8; i++) {
        logits[i] = (float)(8 - i);
    }
    for (size_t k = 0; k < sizeof(cases) / sizeof(*cases); k++) {
        struct bnt_sampler_params p = bnt_sampler_defaults();
        p.presence_penalty = 100;
        p.penalty_last_n = cases[k].last_n;
        struct bnt_sampler *s = make(&p, 8);
        for (int i = 0; i < 8; i++) {
            assert_int_equal(next(s, logits, 8), cases[k].ids[i]);
        }
        bnt_sampler_free(s);
    }
}

/* The window's bookkeeping against a plain array over a long random walk. */
static void window_equals_a_plain_array(void **state)
{
    (void)state;
    enum { VOCAB = 13, LAST = 7, STEPS = 3000 };
    uint64_t noise_state = 99;
    int32_t walk[STEPS];
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.frequency_penalty = 1;
    p.penalty_last_n = LAST;
    struct bnt_sampler *s = make(&p, VOCAB);
    for (int step = 0; step < STEPS; step++) {
        float logits[VOCAB] = {0}, expected[VOCAB] = {0};
        int favourite = (int)(noise(&noise_state) * VOCAB);
        logits[favourite] = expected[favourite] = 50;
        for (int i = step > LAST ? step - LAST : 0; i < step; i++) {
            expected[walk[i]] -= 1;
        }
        assert_int_equal(bnt_sampler_next(s, logits, &walk[step], NULL), BNT_OK);
        assert_int_equal(walk[step], favourite);
        assert_memory_equal(logits, expected, sizeof(logits));
    }
    bnt_sampler_free(s);
}

static void bias_adds_and_bans(void **state)
{
    (void)state;
    static const struct bnt_logit_bias bias[] = {{0, -INFINITY}, {2, 1.5f}, {2, 0.6f}};
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.bias = bias;
    p.n_bias = 3;
    for (int sampled = 0; sampled < 2; sampled++) {
        p.temperature = sampled * 0.01;
        struct bnt_sampler *s = make(&p, 3);
        assert_int_equal(next(s, (float[]){9, 3, 1}, 3), 2);
        assert_int_equal(next(s, (float[]){9, 3, 0.5f}, 3), 1);
        bnt_sampler_free(s);
    }
}

static void parameters_out_of_range_are_named(void **state)
{
    (void)state;
    static const struct bnt_logit_bias far_id[] = {{8, 1}}, nan_bias[] = {{1, NAN}};
    const struct {
        const char *name;
        struct bnt_sampler_params change;
    } cases[] = {
        {"temperature", {.temperature = -0.1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1}},
        {"temperature", {.temperature = NAN, .top_p = 1, .typical_p = 1, .repeat_penalty = 1}},
        {"top_k", {.top_k = -1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1}},
        {"top_p", {.top_p = 0, .typical_p = 1, .repeat_penalty = 1}},
        {"top_p", {.top_p = 1.01, .typical_p = 1, .repeat_penalty = 1}},
        {"min_p", {.top_p = 1, .min_p = 1, .typical_p = 1, .repeat_penalty = 1}},
        {"typical_p", {.top_p = 1, .typical_p = 0, .repeat_penalty = 1}},
        {"repeat_penalty", {.top_p = 1, .typical_p = 1, .repeat_penalty = 0}},
        {"frequency_penalty",
         {.top_p = 1, .typical_p = 1, .repeat_penalty = 1, .frequency_penalty = INFINITY}},
        {"penalty_last_n", {.top_p = 1, .typical_p = 1, .repeat_penalty = 1, .penalty_last_n = -2}},
        {"bias for id 8",
         {.top_p = 1, .typical_p = 1, .repeat_penalty = 1, .bias = far_id, .n_bias = 1}},
        {"bias for id 1",
         {.top_p = 1, .typical_p = 1, .repeat_penalty = 1, .bias = nan_bias, .n_bias = 1}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct bnt_sampler *s = NULL;
        struct bnt_err err = {0};
        assert_int_equal(bnt_sampler_new(&cases[i].change, 8, &s, &err), BNT_E_USAGE);
        assert_non_null(strstr(err.msg, cases[i].name));
        assert_null(s);
    }
}

/* ---- Large vocabularies, log-probabilities. */

struct ranked {
    float logit;
    int32_t id;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit)
                                : (x->id > y->id) - (x->id < y->id);
}

/* Many ties: logits are cut to so many values. */
static struct ranked *make_ranked(float *logits, int levels, uint64_t seed)
{
    struct ranked *r = malloc(BIG_VOCAB * sizeof(*r));
    for (int32_t i = 0; i < BIG_VOCAB; i++) {
        logits[i] = (float)((int)(noise(&seed) * levels)) * (16.0f / (float)levels);
        r[i] = (struct ranked){logits[i], i};
    }
    qsort(r, BIG_VOCAB, sizeof(*r), by_rank);
    return r;
}

static void n_best_equal_a_full_sort(void **state)
{
    (void)state;
    float *logits = malloc(BIG_VOCAB * sizeof(*logits));
    struct ranked *r = make_ranked(logits, 4096, 3);
    long double sum = 0;
    for (int32_t i = 0; i < BIG_VOCAB; i++) {
        sum += expl((long double)logits[i]);
    }
    double lse = bnt_logsumexp(logits, BIG_VOCAB);
    assert_true(fabs(lse - (double)logl(sum)) < 1e-12);
    static const size_t counts[] = {0, 1, 5, 100};
    for (size_t k = 0; k < 4; k++) {
        struct bnt_candidate top[100];
        assert_int_equal(bnt_logprobs_top(logits, BIG_VOCAB, counts[k], top), counts[k]);
        for (size_t i = 0; i < counts[k]; i++) {
            assert_int_equal(top[i].id, r[i].id);
            assert_true(fabs((double)top[i].value - ((double)r[i].logit - lse)) < 1e-5);
        }
    }
    free(r);
    free(logits);
}

/* Top-k of a large vocabulary leaves exactly the k first of a full sort, ties by id. */
static void top_k_equals_a_full_sort(void **state)
{
    (void)state;
    enum { K = 7 };
    float *logits = malloc(BIG_VOCAB * sizeof(*logits));
    struct ranked *r = make_ranked(logits, 65536, 4);
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.temperature = 1e6; /* all that are kept are as good as equal */
    p.top_k = K;
    struct bnt_sampler *s = make(&p, BIG_VOCAB);
    bool drawn[K] = {false};
    for (int i = 0; i < 150; i++) {
        int32_t id = next(s, logits, BIG_VOCAB);
        int k = 0;
        while (k < K && r[k].id != id) {
            k++;
        }
        assert_in_range(k, 0, K - 1);
        drawn[k] = true;
    }
    for (int k = 0; k < K; k++) {
        assert_true(drawn[k]);
    }
    bnt_sampler_free(s);
    free(r);
    free(logits);
}

static void log_probabilities_of_odd_rows(void **state)
{
    (void)state;
    struct bnt_candidate top[4];
    float few[] = {-INFINITY, 2, NAN, 2};
    assert_int_equal(bnt_logprobs_top(few, 4, 4, top), 2);
    assert_int_equal(top[0].id, 1);
    assert_int_equal(top[1].id, 3);
    assert_true(isnan(top[0].value));
    assert_true(isnan(bnt_logsumexp(few, 4)));
    few[2] = -INFINITY;
    assert_int_equal(bnt_logprobs_top(few, 4, 4, top), 2);
    assert_true(fabs((double)top[0].value + log(2)) < 1e-6);
    float none[] = {-INFINITY, -INFINITY};
    assert_true(bnt_logsumexp(none, 2) == -INFINITY);
    assert_int_equal(bnt_logprobs_top(none, 2, 2, top), 0);
}

static const struct suite_test tests[] = {
    {.name = "sampler_greedy_takes_the_lowest_of_equals",
     .body = greedy_takes_the_lowest_of_equals},
    {.name = "sampler_no_finite_logit_is_an_error", .body = no_finite_logit_is_an_error},
    {.name = "sampler_limits_equal_greedy", .body = limits_equal_greedy},
    {.name = "sampler_draws_follow_the_distribution", .body = draws_follow_the_distribution},
    {.name = "sampler_generator_is_the_published_one", .body = generator_is_the_published_one},
    {.name = "sampler_same_seed_same_ids", .body = same_seed_same_ids},
    {.name = "sampler_penalties_are_as_published", .body = penalties_are_as_published},
    {.name = "sampler_penalties_look_back_so_far", .body = penalties_look_back_so_far},
    {.name = "sampler_window_equals_a_plain_array", .body = window_equals_a_plain_array},
    {.name = "sampler_bias_adds_and_bans", .body = bias_adds_and_bans},
    {.name = "sampler_parameters_out_of_range_are_named",
     .body = parameters_out_of_range_are_named},
    {.name = "sampler_n_best_equal_a_full_sort", .body = n_best_equal_a_full_sort},
    {.name = "sampler_top_k_equals_a_full_sort", .body = top_k_equals_a_full_sort},
    {.name = "sampler_log_probabilities_of_odd_rows", .body = log_probabilities_of_odd_rows},
    {0},
};

const struct suite suite_sampler = {"sampler", tests,
                                    "top_p top_k temperature min_p penalty_sign seed argmax_tie"};
