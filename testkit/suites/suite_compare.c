/* Guards the comparison of distributions: a divergence of the wrong direction, a rest that is
 * forgotten, an agreement that counts a coin's toss as a fault. */
#include "testkit/suite.h"

#include <math.h>
#include <string.h>

#include "engine/logits_compare.h"

enum { N = 6 };

static const float ours[N] = {2, 1, 0, -1, 3, -2}, theirs[N] = {2, 1, 0.5f, -1, 2.5f, -2.5f};

static double logsum(const float *row)
{
    double sum = 0;
    for (int i = 0; i < N; i++) {
        sum += exp(row[i]);
    }
    return log(sum);
}

/* From the definitions, in plain words. */
static double plain_kl(const float *p, const float *q)
{
    double kl = 0;
    for (int i = 0; i < N; i++) {
        double log_p = p[i] - logsum(p), log_q = q[i] - logsum(q);
        kl += exp(log_p) * (log_p - log_q);
    }
    return kl;
}

static double plain_pearson(const float *a, const float *b)
{
    double ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < N; i++) {
        ma += a[i] / N;
        mb += b[i] / N;
    }
    for (int i = 0; i < N; i++) {
        ab += (a[i] - ma) * (b[i] - mb);
        aa += (a[i] - ma) * (a[i] - ma);
        bb += (b[i] - mb) * (b[i] - mb);
    }
    return ab / sqrt(aa * bb);
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * (1 + fabs(b));
}

static void whole_rows_are_compared_by_the_definitions(void **state)
{
    (void)state;
    struct bnt_logits_diff d;
    assert_int_equal(bnt_logits_compare_rows(ours, theirs, N, &d, NULL), BNT_OK);
    assert_true(near(d.kl, plain_kl(theirs, ours)));
    assert_false(near(d.kl, plain_kl(ours, theirs)));
    assert_true(near(d.pearson, plain_pearson(ours, theirs)));
    assert_true(near(d.mse, 0.75 / N));
    assert_true(near(d.max_error, 0.5) && d.worst_id == 2 && near(d.largest, 2.5));
    assert_true(near(d.cosine, 18.5 / sqrt(19 * 18.75)));
    assert_true(d.same_top && d.match && d.our_top == 4);
    assert_int_equal(bnt_logits_compare_rows(ours, ours, N, &d, NULL), BNT_OK);
    assert_true(d.kl == 0 && d.mse == 0 && d.max_error == 0 && near(d.pearson, 1));
}

/* What is named of a row, best first. */
static struct bnt_logits_value named[N];

static struct bnt_logits_reference best_of(const float *row, size_t n)
{
    struct bnt_candidate best[N];
    size_t found = bnt_logprobs_top(row, N, n, best);
    assert_int_equal(found, n);
    for (size_t i = 0; i < n; i++) {
        named[i] = (struct bnt_logits_value){best[i].id, row[best[i].id]};
    }
    return (struct bnt_logits_reference){named, n, logsum(row)};
}

/* Of a reference that names some ids, the others count as one: the divergence can only be less than
 * of the whole, and equals that of the two-part distribution. */
static void a_named_part_is_compared_with_the_rest_as_one(void **state)
{
    (void)state;
    struct bnt_logits_diff d;
    for (size_t n = 1; n <= N; n++) {
        struct bnt_logits_reference r = best_of(theirs, n);
        double kl = 0, p_rest = 1, q_rest = 1;
        for (size_t i = 0; i < n; i++) {
            double log_p = theirs[named[i].id] - logsum(theirs);
            double log_q = ours[named[i].id] - logsum(ours);
            kl += exp(log_p) * (log_p - log_q);
            p_rest -= exp(log_p);
            q_rest -= exp(log_q);
        }
        kl += n < N ? p_rest * log(p_rest / q_rest) : 0;
        assert_int_equal(bnt_logits_compare(ours, N, &r, &d, NULL), BNT_OK);
        assert_int_equal(d.n, n);
        assert_true(near(d.kl, kl) && d.kl <= plain_kl(theirs, ours) + 1e-12);
        assert_true(n > 1 || isnan(d.pearson));
        r = best_of(ours, n);
        assert_int_equal(bnt_logits_compare(ours, N, &r, &d, NULL), BNT_OK);
        assert_true(d.kl < 1e-12 && d.max_error == 0);
    }
}

/* An engine that tells log-probabilities only is compared by them: a constant is no difference. */
static void log_probabilities_stand_in_for_logits(void **state)
{
    (void)state;
    struct bnt_logits_diff d;
    float shifted[N];
    for (int i = 0; i < N; i++) {
        shifted[i] = ours[i] + 7;
    }
    struct bnt_logits_reference r = best_of(shifted, 4);
    assert_int_equal(bnt_logits_compare(ours, N, &r, &d, NULL), BNT_OK);
    assert_true(near(d.max_error, 7) && d.kl < 1e-9);
    for (int i = 0; i < 4; i++) {
        named[i].value -= (float)r.logsum;
    }
    r.logsum = NAN;
    assert_int_equal(bnt_logits_compare(ours, N, &r, &d, NULL), BNT_OK);
    assert_true(d.max_error < 1e-6 && d.kl < 1e-6);
}

static void a_near_tie_is_a_match_and_not_the_same(void **state)
{
    (void)state;
    struct bnt_logits_diff d;
    const struct {
        float gap;
        bool match;
    } cases[] = {{0.05f, true}, {0.15f, false}};
    for (int i = 0; i < 2; i++) {
        float other[N];
        memcpy(other, ours, sizeof other);
        other[0] = other[4] + cases[i].gap;
        struct bnt_logits_reference r = best_of(other, 3);
        assert_int_equal(bnt_logits_compare(ours, N, &r, &d, NULL), BNT_OK);
        assert_true(!d.same_top && d.match == cases[i].match);
        assert_int_equal(bnt_logits_compare_rows(ours, other, N, &d, NULL), BNT_OK);
        assert_true(!d.same_top && d.match == cases[i].match);
    }
    struct bnt_logits_reference r = {(const struct bnt_logits_value[]){{5, -0.01f}}, 1, NAN};
    assert_int_equal(bnt_logits_compare(ours, N, &r, &d, NULL), BNT_OK);
    assert_true(!d.match && d.kl > 3); /* our best is not even named */
}

static void what_cannot_be_compared_is_refused(void **state)
{
    (void)state;
    struct bnt_logits_diff d;
    float broken[N];
    memcpy(broken, ours, sizeof broken);
    broken[3] = NAN;
    const struct {
        struct bnt_logits_value best;
        size_t n;
        enum bnt_status expected;
    } cases[] = {{{0, -1}, 0, BNT_E_USAGE},
                 {{N, -1}, 1, BNT_E_USAGE},
                 {{-1, -1}, 1, BNT_E_USAGE},
                 {{0, 1}, 1, BNT_E_INFERENCE},
                 {{0, NAN}, 1, BNT_E_INFERENCE}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bnt_logits_reference r = {&cases[i].best, cases[i].n, NAN};
        assert_int_equal(bnt_logits_compare(ours, N, &r, &d, NULL), cases[i].expected);
    }
    assert_int_equal(bnt_logits_compare_rows(broken, ours, N, &d, NULL), BNT_E_INFERENCE);
    assert_int_equal(bnt_logits_compare_rows(ours, broken, N, &d, NULL), BNT_E_INFERENCE);
}

static void a_summary_names_the_worst_position(void **state)
{
    (void)state;
    struct bnt_logits_summary s = {0};
    const struct bnt_logits_diff rows[] = {
        {.kl = 0.1,
         .same_top = true,
         .match = true,
         .n = 2,
         .pearson = 0.9,
         .cosine = 1,
         .mse = 1,
         .max_error = 2,
         .largest = 4},
        {.kl = 0.4, .match = true, .n = 2, .pearson = NAN, .cosine = 0.8, .mse = 2},
        {.kl = 0.1, .n = 4, .pearson = 0.7, .cosine = 0.9, .mse = 0, .max_error = 3, .largest = 10},
    };
    assert_true(isnan(bnt_logits_mean_kl(&s)));
    for (uint64_t i = 0; i < 3; i++) {
        bnt_logits_gather(&s, 10 + i, &rows[i]);
    }
    assert_true(near(bnt_logits_mean_kl(&s), 0.2) && s.worst_kl_at == 11);
    assert_true(near(bnt_logits_top_agreement(&s), 1.0 / 3));
    assert_true(near(bnt_logits_token_match(&s), 2.0 / 3) && s.first_mismatch_at == 12);
    assert_true(near(bnt_logits_mean_pearson(&s), 0.8) && s.min_pearson == 0.7);
    assert_true(near(bnt_logits_mean_cosine(&s), 0.9) && s.min_cosine == 0.8);
    assert_true(near(bnt_logits_mse(&s), 6.0 / 8));
    assert_true(s.max_error == 3 && s.worst_error_at == 12 && near(s.max_relative, 0.5));
}

static const struct suite_test tests[] = {
    {.name = "compare_whole_rows_are_compared_by_the_definitions",
     .body = whole_rows_are_compared_by_the_definitions},
    {.name = "compare_named_part_is_compared_with_the_rest_as_one",
     .body = a_named_part_is_compared_with_the_rest_as_one},
    {.name = "compare_log_probabilities_stand_in_for_logits",
     .body = log_probabilities_stand_in_for_logits},
    {.name = "compare_near_tie_is_a_match_and_not_the_same",
     .body = a_near_tie_is_a_match_and_not_the_same},
    {.name = "compare_what_cannot_be_compared_is_refused",
     .body = what_cannot_be_compared_is_refused},
    {.name = "compare_summary_names_the_worst_position",
     .body = a_summary_names_the_worst_position},
    {0},
};

const struct suite suite_compare = {"compare", tests, "kl_direction"};
