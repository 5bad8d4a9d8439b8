/* Guards taps: rows of another token or layer than they say, values that are not what the pass
 * computes with, and a tap that changes the answer. What each op is follows from the rows before
 * it, so the rows are held against each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bnt_infer.h"
#include "engine/tap.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"

static const int32_t story[] = {2045, 394, 401, 258, 372, 44, 382, 280};
enum { STORY = sizeof story / sizeof story[0], MAX_LAYERS = 8 };

/* Rows of one run: [op][layer, or 0][position]. */
struct rows {
    float *at[BNT_TAP_N_OPS][MAX_LAYERS][STORY];
    uint32_t n[BNT_TAP_N_OPS];
    size_t total;
};

static void keep(void *ctx, const struct bnt_tap_row *row)
{
    struct rows *r = ctx;
    assert_int_equal(row->layer < 0, !bnt_tap_in_layer(row->op));
    assert_true(row->layer < MAX_LAYERS && row->position < STORY);
    float **at = &r->at[row->op][row->layer < 0 ? 0 : row->layer][row->position];
    if (!*at) { /* the head of the last token comes twice */
        *at = malloc(row->n * sizeof **at);
        assert_non_null(*at);
        r->total++;
    }
    memcpy(*at, row->values, row->n * sizeof **at);
    r->n[row->op] = row->n;
}

static void drop(struct rows *r)
{
    for (size_t i = 0; i < sizeof r->at / sizeof(float *); i++) {
        free((&r->at[0][0][0])[i]);
    }
    free(r);
}

static struct rows *run(const struct bnt_session_options *so)
{
    struct es_engine e;
    struct rows *r = calloc(1, sizeof *r);
    assert_non_null(r);
    es_open(&e, suite_bundled_model(), so);
    float *plain = es_eval_rows(e.session, story, STORY);
    struct bnt_err err = {0};
    es_ok(bnt_session_rewind(e.session, 0, &err), &err);
    bnt_session_set_tap(e.session, &(struct bnt_tap){keep, r});
    float *tapped = es_eval_rows(e.session, story, STORY);
    size_t n_vocab = bnt_session_n_vocab(e.session);
    assert_memory_equal(plain, tapped, STORY * n_vocab * sizeof *plain);
    for (size_t pos = 0; pos < STORY; pos++) {
        assert_memory_equal(r->at[BNT_TAP_LOGITS][0][pos], tapped + pos * n_vocab,
                            n_vocab * sizeof *tapped);
    }
    size_t seen = r->total;
    bnt_session_set_tap(e.session, NULL);
    es_ok(bnt_session_rewind(e.session, 0, &err), &err);
    es_ok(bnt_session_eval(e.session, story, STORY, &err), &err);
    assert_int_equal(r->total, seen);
    free(plain);
    free(tapped);
    es_close(&e);
    return r;
}

/* sum[i] = a[i] + b[i] in float32, exactly. */
static void is_sum(const float *sum, const float *a, const float *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        assert_true(sum[i] == a[i] + b[i]);
    }
}

/* The 8-bit form keeps every element within half a step, and the largest at 127 steps. */
static void is_q8(const float *q8, const float *x, uint32_t n)
{
    float largest = 0, step;
    for (uint32_t i = 0; i < n; i++) {
        largest = fmaxf(largest, fabsf(x[i]));
    }
    step = largest / 127;
    for (uint32_t i = 0; i < n; i++) {
        assert_true(fabsf(q8[i] - x[i]) <= step * 0.501f);
    }
}

/* y is w * x / rms(x) for one w: y / x of two tokens have the same proportions. */
static void same_weight(float *const *y, float *const *x, uint32_t n)
{
    double square[2] = {0, 0};
    for (uint32_t i = 0; i < n; i++) {
        square[0] += (double)x[0][i] * x[0][i];
        square[1] += (double)x[1][i] * x[1][i];
    }
    double rms[2] = {sqrt(square[0] / n + 1e-5), sqrt(square[1] / n + 1e-5)};
    for (uint32_t i = 0; i < n; i++) {
        double a = y[0][i] * x[1][i] / rms[1], b = y[1][i] * x[0][i] / rms[0];
        assert_true(fabs(a - b) <= 1e-4 * (fabs(a) + fabs(b)) + 1e-9);
    }
}

static void check_layer(struct rows *r, int il)
{
    uint32_t n = r->n[BNT_TAP_EMBD], n_ff = r->n[BNT_TAP_ACT];
    for (int t = 0; t < STORY; t++) {
        const float *in =
            il == 0 ? r->at[BNT_TAP_EMBD][0][t] : r->at[BNT_TAP_FFN_RESIDUAL][il - 1][t];
        const float *middle = r->at[BNT_TAP_ATTN_RESIDUAL][il][t];
        const float *gate = r->at[BNT_TAP_GATE][il][t], *up = r->at[BNT_TAP_UP][il][t];
        is_sum(middle, in, r->at[BNT_TAP_ATTN_OUT][il][t], n);
        is_sum(r->at[BNT_TAP_FFN_RESIDUAL][il][t], middle, r->at[BNT_TAP_DOWN][il][t], n);
        is_q8(r->at[BNT_TAP_ATTN_NORM_Q8][il][t], r->at[BNT_TAP_ATTN_NORM][il][t], n);
        is_q8(r->at[BNT_TAP_FFN_SUB_NORM_Q8][il][t], r->at[BNT_TAP_FFN_SUB_NORM][il][t], n_ff);
        for (uint32_t i = 0; i < n_ff; i++) {
            float relu = gate[i] > 0 ? gate[i] : 0;
            assert_true(r->at[BNT_TAP_ACT][il][t][i] == relu * relu * up[i]);
        }
    }
    same_weight(r->at[BNT_TAP_FFN_NORM][il] + 2, r->at[BNT_TAP_ATTN_RESIDUAL][il] + 2, n);
    same_weight(r->at[BNT_TAP_FFN_SUB_NORM][il] + 2, r->at[BNT_TAP_ACT][il] + 2, n_ff);
    for (uint32_t i = 0; i < r->n[BNT_TAP_Q]; i++) { /* at position 0 nothing turns */
        assert_true(r->at[BNT_TAP_Q][il][0][i] == r->at[BNT_TAP_Q_ROPE][il][0][i]);
    }
    assert_memory_not_equal(r->at[BNT_TAP_K][il][1], r->at[BNT_TAP_K_ROPE][il][1],
                            r->n[BNT_TAP_K] * sizeof(float));
}

static void rows_follow_from_each_other(void **state)
{
    (void)state;
    struct bnt_session_options so = {.n_ctx = 64, .n_threads = 1};
    struct rows *r = run(&so);
    for (int il = 0; il < 4; il++) {
        check_layer(r, il);
    }
    same_weight(r->at[BNT_TAP_OUTPUT_NORM][0] + 2, r->at[BNT_TAP_FFN_RESIDUAL][3] + 2,
                r->n[BNT_TAP_EMBD]);
    drop(r);
}

static void rows_do_not_depend_on_kernel_threads_or_batch(void **state)
{
    (void)state;
    struct bnt_session_options plain = {.n_ctx = 64, .n_threads = 1, .n_batch = 1, .kernel = "ref"};
    struct bnt_session_options other = {.n_ctx = 64, .n_threads = 2, .n_batch = 3};
    struct rows *a = run(&plain), *b = run(&other);
    assert_int_equal(a->total, b->total);
    for (size_t op = 0; op < BNT_TAP_N_OPS; op++) {
        for (int i = 0; i < MAX_LAYERS * STORY; i++) {
            const float *x = a->at[op][i / STORY][i % STORY], *y = b->at[op][i / STORY][i % STORY];
            assert_int_equal(x == NULL, y == NULL);
            if (x && memcmp(x, y, a->n[op] * sizeof *x) != 0) {
                fail_msg("%s of layer %d, token %d differs", bnt_tap_name((enum bnt_tap_op)op),
                         i / STORY, i % STORY);
            }
        }
    }
    drop(a);
    drop(b);
}

/* Sequence and position of each row of one op of layer 0, in their order. */
struct places {
    uint32_t n, at[16][2];
};

static void keep_place(void *ctx, const struct bnt_tap_row *row)
{
    struct places *p = ctx;
    if (row->op == BNT_TAP_K && row->layer == 0) {
        assert_true(p->n < 16);
        p->at[p->n][0] = row->sequence;
        p->at[p->n++][1] = row->position;
    }
}

static void rows_name_their_sequence(void **state)
{
    (void)state;
    static const uint32_t want[][2] = {{1, 0}, {1, 1}, {1, 2}, {2, 0}, {2, 1},
                                       {2, 2}, {0, 0}, {1, 3}, {0, 1}};
    struct es_engine e;
    struct bnt_err err = {0};
    struct places p = {0};
    const struct bnt_session_options so = {.n_sequences = 3};
    const struct bnt_step one[] = {{2, story[2]}, {0, story[0]}, {1, story[3]}},
                          two = {0, story[1]};
    es_open(&e, suite_bundled_model(), &so);
    bnt_session_set_tap(e.session, &(struct bnt_tap){keep_place, &p});
    es_ok(bnt_session_select(e.session, 1, &err), &err);
    es_ok(bnt_session_eval(e.session, story, 3, &err), &err);
    es_ok(bnt_session_select(e.session, 2, &err), &err);
    es_ok(bnt_session_eval(e.session, story, 2, &err), &err);
    es_ok(bnt_session_step(e.session, one, 3, NULL, NULL, &err), &err);
    es_ok(bnt_session_step(e.session, &two, 1, NULL, NULL, &err), &err);
    assert_int_equal(p.n, sizeof want / sizeof want[0]);
    assert_memory_equal(p.at, want, sizeof want);
    es_close(&e);
}

static void names_are_found_again(void **state)
{
    (void)state;
    for (int op = 0; op < BNT_TAP_N_OPS; op++) {
        assert_int_equal(bnt_tap_find(bnt_tap_name((enum bnt_tap_op)op)), op);
    }
    assert_int_equal(bnt_tap_find("attention"), BNT_TAP_N_OPS);
}

static const struct suite_test tests[] = {
    {.name = "taps_rows_follow_from_each_other", .body = rows_follow_from_each_other},
    {.name = "taps_rows_do_not_depend_on_kernel_threads_or_batch",
     .body = rows_do_not_depend_on_kernel_threads_or_batch},
    {.name = "taps_rows_name_their_sequence", .body = rows_name_their_sequence},
    {.name = "taps_names_are_found_again", .body = names_are_found_again},
    {0},
};
const struct suite suite_taps = {"taps", tests, "tap_row"};
