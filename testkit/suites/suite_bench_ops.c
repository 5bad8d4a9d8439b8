/* Guards the timing of single operations: a product that is timed without being computed, counts
 * that do not belong to what ran, a gate that lets everything pass. How long anything took is not
 * judged: machines differ. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "engine/op_bench.h"
#include "testkit/suites/infer_support.h"

/* ---- The timer. */

static void an_op_is_computed_whole_and_counted(void **state)
{
    (void)state;
    static const struct {
        struct op_spec spec;
        uint64_t count, bytes, weight_bytes;
    } cases[] = {
        /* 300 rows of three blocks of 32 bytes; 512 activations, 300 results for each token */
        {{.what = OP_TERNARY, .rows = 300, .cols = 257, .n_tok = 3},
         300 * 257 * 3,
         300 * 96 + 3 * (512 + 1200),
         300 * 96},
        {{.what = OP_FLOAT, .type = TENSOR_F32, .rows = 300, .cols = 257, .n_tok = 2},
         300 * 257 * 2,
         300 * 1028 + 2 * (1028 + 1200),
         300 * 1028},
        {{.what = OP_FLOAT,
          .type = TENSOR_F16,
          .rows = 2,
          .cols = 64,
          .n_tok = 1,
          .cycle_bytes = 1},
         128,
         256 + 256 + 8,
         256},
        {{.what = OP_READ, .rows = 300, .cols = 257, .n_tok = 1}, 300 * 257, 300 * 257, 300 * 257},
        /* 48 places of 128 of each row: 1,200 rows of 192 bytes and a table of 34 bytes a row */
        {{.what = OP_NARROW, .rows = 1200, .cols = 48, .n_tok = 1},
         1200 * 48,
         1200 * (192 + sizeof(struct narrow_row) + 4),
         1200 * (192 + sizeof(struct narrow_row))},
        /* Blocks of 160 bytes and 16 of bounds; 40 rows are looked at again. */
        {{.what = OP_SCREEN, .rows = 1200, .cols = 257, .n_tok = 1},
         1200 * 257,
         1200 * (320 + 16 + 8) + 40 * 128,
         1200 * (320 + 16) + 40 * 128},
        {{.what = OP_QUANTIZE, .rows = 1, .cols = 300, .n_tok = 2}, 600, 2400 + 1024, 0},
        {{.what = OP_ATTEND, .rows = 4, .cols = 64, .n_tok = 10}, 2 * 4 * 640, 2560, 0},
        {{.what = OP_ANGLES, .rows = 1, .cols = 64, .n_tok = 1}, 64, 512, 0},
        {{.what = OP_ROPE, .rows = 4, .cols = 64, .n_tok = 2}, 512, 4096, 0},
        {{.what = OP_PACK, .rows = 4, .cols = 129, .n_tok = 1, .alone = true}, 516, 516 + 256, 0},
        {{.what = OP_ENCODE, .type = TENSOR_Q8_0, .rows = 2, .cols = 64, .n_tok = 1},
         128,
         512 + 136,
         0},
    };
    struct op_timer *t;
    const struct op_timer_options options = {.n_threads = 2, .repetitions = 1, .pass_us = 50};
    assert_int_equal(op_timer_new(&options, &t, NULL), BNT_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct op_time time;
        struct bnt_err err = {0};
        if (op_timer_run(t, &cases[i].spec, &time, &err) != BNT_OK) {
            fail_msg("case %zu: %s", i, err.msg);
        }
        assert_int_equal(time.count, cases[i].count);
        assert_int_equal(time.bytes, cases[i].bytes);
        assert_int_equal(time.weight_bytes, cases[i].weight_bytes);
        assert_true(time.ns > 0 && isfinite(time.ns));
    }
    static const struct op_spec bad[] = {
        {.what = OP_TERNARY, .rows = 0, .cols = 4, .n_tok = 1},
        {.what = OP_TERNARY, .rows = 4, .cols = TERNARY_MAX_COLS + 1, .n_tok = 1},
        {.what = OP_FLOAT, .type = TENSOR_Q8_0, .rows = 4, .cols = 32, .n_tok = 1},
        {.what = OP_ENCODE, .type = TENSOR_Q6_K, .rows = 4, .cols = 100, .n_tok = 1},
        {.what = OP_COLUMNS, .rows = 4, .cols = 100, .n_tok = 1, .zeros = 0.1},
        {.what = OP_COLUMNS, .rows = 4, .cols = 100, .n_tok = 2, .zeros = 0.5},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct op_time time;
        assert_int_equal(op_timer_run(t, &bad[i], &time, NULL), BNT_E_USAGE);
    }
    op_timer_free(t);
}

/* 300 rows are two lines of a column: half of 2048 columns are read, or nearly so. */
static void columns_that_meet_zeros_are_not_counted(void **state)
{
    (void)state;
    struct op_timer *t;
    struct op_time time;
    const struct op_timer_options options = {.n_threads = 2, .repetitions = 1, .pass_us = 50};
    const struct op_spec spec = {
        .what = OP_COLUMNS, .rows = 300, .cols = 2048, .n_tok = 1, .zeros = 0.5};
    assert_int_equal(op_timer_new(&options, &t, NULL), BNT_OK);
    assert_int_equal(op_timer_run(t, &spec, &time, NULL), BNT_OK);
    assert_int_equal(time.count, 300 * 2048);
    assert_int_equal(time.weight_bytes % 128, 0);
    assert_true(time.weight_bytes > 900 * 128 && time.weight_bytes < 1150 * 128);
    assert_int_equal(time.bytes, time.weight_bytes + 2048 + 1200);
    op_timer_free(t);
}

/* 307 rows are 60 groups of five that four stretches share, and 7 rows of four blocks of 32 bytes.
 * The kernels of the reference take them everywhere. */
static void five_weights_to_a_byte_are_read_as_such(void **state)
{
    (void)state;
    struct op_timer *t;
    struct op_time time[2];
    const struct op_timer_options options = {
        .kernel = "ref", .n_threads = 2, .repetitions = 1, .pass_us = 50};
    const struct op_spec specs[] = {{.what = OP_FIVES, .rows = 307, .cols = 500, .n_tok = 1},
                                    {.what = OP_READ, .cols = 64, .n_tok = 1, .copy = true}};
    assert_int_equal(op_timer_new(&options, &t, NULL), BNT_OK);
    assert_int_equal(op_timer_turns(t, specs, 2, time, NULL), BNT_OK);
    assert_int_equal(time[0].count, 307 * 500);
    assert_int_equal(time[0].weight_bytes, 60 * 512 + 7 * 128);
    assert_int_equal(time[1].weight_bytes, 60 * 512 + 7 * 128);
    struct op_spec none = specs[0];
    none.cols = 100; /* a row of 256 places is more than five of 32 bytes */
    assert_int_equal(op_timer_run(t, &none, time, NULL), BNT_E_USAGE);
    op_timer_free(t);
}

/* ---- Shapes. */

static void shapes_are_named_or_written_out(void **state)
{
    (void)state;
    struct op_shape at[OP_SHAPES_MAX];
    size_t n = 0;
    assert_int_equal(op_shapes_named("2b", true, at, &n, NULL), BNT_OK);
    assert_int_equal(n, 4);
    assert_int_equal(at[2].form, OP_FIVES);
    assert_int_equal(at[3].form, OP_COLUMNS);
    assert_int_equal(op_shapes_named("33x129", true, at, &n, NULL), BNT_OK);
    assert_int_equal(n, 5);
    assert_int_equal(at[4].rows, 33);
    assert_int_equal(at[4].cols, 129);
    static const char *const bad[] = {"",     "4b",   "12",         "12x",  "x12",
                                      "0x12", "12x0", "12x12x12",   "-1x2", "12x-2",
                                      "1x 2", "2x4 ", "1x99999999", "model"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(op_shapes_named(bad[i], false, at, &n, NULL), BNT_E_USAGE);
        assert_int_equal(n, 5);
    }
}

/* ---- The gate, on times that are made up. */

/* A product of 1000 x 1000 at 10 GB/s, 100 GMAC/s: reading takes 25 us, dot products n_tok times
 * 10. */
static struct op_product product(uint32_t n_tok, double ternary_us, double f32_us)
{
    static const struct op_shape shape = {.name = "made up", .rows = 1000, .cols = 1000};
    return (struct op_product){
        .shape = &shape,
        .n_tok = n_tok,
        .ternary = {.ns = ternary_us * 1e3, .count = n_tok * 1000000ull, .weight_bytes = 250000},
        .f32 = {.ns = f32_us * 1e3},
        .quantize = {.ns = 1e3}};
}

static void the_gate_fails_below_its_bounds_alone(void **state)
{
    (void)state;
    static const struct {
        uint32_t n_tok;
        double ternary_us, f32_us, job_us, read_us;
        enum op_bound bound;
        bool good;
    } cases[] = {
        {1, 30, 100, 0, 0, OP_BOUND_MEMORY, true},
        {1, 41, 100, 0, 0, OP_BOUND_MEMORY, true},  /* 61 % of the bandwidth */
        {1, 43, 100, 0, 0, OP_BOUND_MEMORY, false}, /* 58 % */
        {1, 43, 100, 6, 0, OP_BOUND_SHORT, true},   /* threads cost more than reading */
        {8, 199, 141, 0, 0, OP_BOUND_DOT, true},    /* 0.705, little bandwidth is no matter */
        {8, 199, 139, 0, 0, OP_BOUND_DOT, false},   /* 0.695 */
        /* What a plain sum took in turn stands for what was probed at another moment. */
        {1, 43, 100, 0, 30, OP_BOUND_MEMORY, true},
        {1, 30, 100, 0, 17, OP_BOUND_MEMORY, false},
        {8, 139.5, 98, 0, 0, OP_BOUND_DOT, false}, /* fast enough but for its quantiser */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct op_product p[2] = {product(1, 26, 500),
                                  product(cases[i].n_tok, cases[i].ternary_us, cases[i].f32_us)};
        p[0].read.ns = cases[i].read_us > 0 ? 26e3 : 0;
        p[1].read.ns = cases[i].read_us * 1e3;
        const struct op_bench_result r = {.ratio_min = OP_RATIO_MIN,
                                          .products = p,
                                          .n_products = 2,
                                          .bandwidth = {.all_gb_per_s = 10},
                                          .peak_gmacs = 100,
                                          .job_ns = cases[i].job_us * 1e3};
        struct op_verdict v;
        op_bench_judge(&r, &v);
        print_message("case %zu\n", i);
        assert_int_equal(op_bench_bound(&r, &p[1]), cases[i].bound);
        assert_int_equal(v.good, cases[i].good);
        assert_ptr_equal(v.worst_ratio, &p[1]);
    }
}

/* 35 % of the columns in 40 us, where a plain sum would read them in 16 and all rows in 37. */
static void columns_are_judged_by_the_rows_that_they_spare(void **state)
{
    (void)state;
    struct op_product p = product(1, 40, 500);
    p.form = OP_COLUMNS;
    p.row_bytes = 200000;
    p.ternary.weight_bytes = 87500;
    p.read.ns = 16e3;
    const struct op_bench_result r = {.ratio_min = OP_RATIO_MIN,
                                      .products = &p,
                                      .n_products = 1,
                                      .bandwidth = {.all_gb_per_s = 10},
                                      .peak_gmacs = 25, /* all products would take 40 us */
                                      .zeros = 0.65};
    struct op_verdict v;
    op_bench_judge(&r, &v);
    assert_int_equal(op_bench_bound(&r, &p), OP_BOUND_MEMORY);
    assert_true(fabs(op_product_share(&r, &p) - 0.4) < 1e-9);
    assert_true(v.good && v.worst_share == &p && fabs(v.share - 16.0 / 40 * 200 / 87.5) < 1e-9);
    p.ternary.ns = 62e3;
    op_bench_judge(&r, &v);
    assert_false(v.good);
}

/* ---- The command. */

static void ops_are_told_as_json(void **state)
{
    (void)state;
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "bench", "--ops", "--json", "-r", "1", "-t", "1",
                                    "--kernel", "ref", "--shapes", "model,33x128", "--batches",
                                    "1,2", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    json_t *doc = json_loads(o.out, 0, NULL);
    assert_non_null(doc);
    /* q and o, k and v, gate and up, down; and the one that was asked for. */
    assert_int_equal(js_count(doc, "products"), 10);
    assert_string_equal(json_string_value(js_get(doc, "kernel")), "ref");
    const json_t *last = json_array_get(js_get(doc, "products"), 9);
    const json_t *ternary = js_get(last, "ternary");
    assert_int_equal(json_integer_value(js_get(last, "rows")), 33);
    assert_int_equal(json_integer_value(js_get(last, "tokens")), 2);
    double us = json_number_value(js_get(ternary, "us"));
    double gmac = json_number_value(js_get(ternary, "gmac_per_s"));
    assert_true(fabs(gmac * us * 1e3 - 33 * 128 * 2) < 1);
    double both = us + json_number_value(js_get(js_get(last, "quantize_act"), "us"));
    double ratio = json_number_value(js_get(js_get(last, "f32"), "us")) / both;
    assert_true(fabs(json_number_value(js_get(last, "ratio")) - ratio) < 1e-3 * ratio);
    assert_true(js_count(doc, "quantisers") > 5);
    json_decref(doc);
    suite_output_release(&o);
    suite_run((const char *const[]){suite_bnt(), "bench", "--gate", NULL}, NULL, 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
}

static void nothing_is_timed_past_an_interruption(void **state)
{
    (void)state;
    const volatile sig_atomic_t now = 1;
    const struct op_shape shape = {.name = "64x64", .rows = 64, .cols = 64};
    const struct op_bench_plan plan = {
        .shapes = &shape,
        .n_shapes = 1,
        .batches = {1},
        .n_batches = 1,
        .timer = {.n_threads = 1, .repetitions = 1, .pass_us = 50, .interrupted = &now}};
    struct op_bench_result result = {0};
    struct op_timer *t;
    struct op_time time;
    const struct op_spec spec = {.what = OP_ADD, .rows = 1, .cols = 64, .n_tok = 1};
    assert_int_equal(op_timer_new(&plan.timer, &t, NULL), BNT_OK);
    assert_int_equal(op_timer_run(t, &spec, &time, NULL), BNT_E_INTERRUPTED);
    op_timer_free(t);
    assert_int_equal(op_bench_run(&plan, &result, NULL), BNT_E_INTERRUPTED);
    op_bench_release(&result);
}

static const struct suite_test tests[] = {
    {.name = "an_op_is_computed_whole_and_counted", .body = an_op_is_computed_whole_and_counted},
    {.name = "columns_that_meet_zeros_are_not_counted",
     .body = columns_that_meet_zeros_are_not_counted},
    {.name = "five_weights_to_a_byte_are_read_as_such",
     .body = five_weights_to_a_byte_are_read_as_such},
    {.name = "shapes_are_named_or_written_out", .body = shapes_are_named_or_written_out},
    {.name = "the_gate_fails_below_its_bounds_alone",
     .body = the_gate_fails_below_its_bounds_alone},
    {.name = "columns_are_judged_by_the_rows_that_they_spare",
     .body = columns_are_judged_by_the_rows_that_they_spare},
    {.name = "ops_are_told_as_json", .body = ops_are_told_as_json},
    {.name = "nothing_is_timed_past_an_interruption",
     .body = nothing_is_timed_past_an_interruption},
    {0},
};
const struct suite suite_bench_ops = {"bench_ops", tests, "op_half ops_gate"};
