/* Guards the model of time: a term that is left out, work that is not cut as the engine cuts it, a
 * machine that is not the one that was said. The numbers are made up, so that each sum can be done
 * by hand. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "engine/speed_probe.h"
#include "testkit/cmd_bench_impl.h"
#include "testkit/suites/infer_support.h"

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

/* Two layers of 1024 x 1024 matrices (262,144 bytes of codes), and an F16 head of 4096 rows. */
static struct speed_shape made_up_shape(void)
{
    struct speed_shape s = {.n_layer = 2,
                            .n_embd = 1024,
                            .n_ff = 1024,
                            .n_head = 8,
                            .n_head_kv = 4,
                            .head_dim = 128,
                            .n_vocab = 4096,
                            .sub_norms = true,
                            .head = {4096, 1024, 8388608, false, TENSOR_F16, 0}};
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        s.w[i] = (struct speed_matrix){1024, 1024, 262144, true, TENSOR_I2_S, 0};
    }
    return s;
}

/* One thread: 10 us for a matrix and a token. */
static struct speed_rates made_up_rates(void)
{
    struct speed_rates r = {
        .n_batches = 2, .head_ns = 200e3, .argmax_ns = 3e3, .final_norm_ns = 1e3, .gmacs = 100};
    const uint32_t sizes[] = {1, 16};
    for (size_t b = 0; b < 2; b++) {
        struct speed_batch *at = &r.batches[b];
        *at = (struct speed_batch){.n_tok = sizes[b],
                                   .norm_ns = 1000.0 * sizes[b],
                                   .rotate_ns = 200.0 * sizes[b],
                                   .act_ns = 100.0 * sizes[b],
                                   .add_ns = 60.0 * sizes[b],
                                   .embed_ns = 500.0 * sizes[b],
                                   .whole = {sizes[b] > 4 ? 4 : 1, {60, 380, 5180}}};
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            at->product_ns[i] = 10e3 * sizes[b];
        }
    }
    return r;
}

static struct speed_machine made_up_machine(int n_threads)
{
    return (struct speed_machine){.n_threads = n_threads,
                                  .gb_per_s = 20,
                                  .ternary_share = 0.5,
                                  .head_share = 1,
                                  .job_ns = 1000,
                                  .exchange_ns = 0.5,
                                  .scaling = {1, 0.8},
                                  .dot_speed = 1,
                                  .step_speed = 1};
}

static void a_token_costs_what_the_sum_says(void **state)
{
    (void)state;
    const struct speed_shape s = made_up_shape();
    const struct speed_rates r = made_up_rates();
    struct speed_machine m = made_up_machine(1);
    struct speed_time t;
    const struct speed_work token = {.pos = 99, .n_tok = 1, .n_batch = 16};
    speed_predict(&s, &r, &m, token, &t);
    /* Memory binds: a matrix at 10 GB/s takes 26 us, the head at 20 GB/s 419 us. */
    assert_true(near(t.products, 2 * 7 * 262144 / 10.0));
    assert_true(near(t.head, 8388608 / 20.0));
    assert_true(near(t.attention, 2 * 4 * (50 + 100 * 10)));
    assert_true(near(t.steps, 2 * (1000 + 200 + 100 + 60) + 500 + 3000 + 1000));
    assert_true(t.jobs == 0 && t.exchange == 0);
    assert_true(near(t.bytes, 2 * 7 * 262144 + 8388608));
    assert_true(near(t.total, t.products + t.head + t.attention + t.steps));
    /* In a cache the kernels bind. */
    m.cache_bytes = 1ull << 30;
    speed_predict(&s, &r, &m, token, &t);
    assert_true(near(t.products, 2 * 7 * 10e3) && near(t.head, 200e3) && t.bytes == 0);
    /* By four threads: four products of each layer and the head are jobs; 64 pieces and 32. */
    m = made_up_machine(4);
    m.cache_bytes = 1ull << 30;
    speed_predict(&s, &r, &m, token, &t);
    assert_true(near(t.products, 2 * 7 * 10e3 / 4) && near(t.head, 200e3 / 4));
    assert_true(near(t.jobs, (2 * 4 + 1) * 1000));
    assert_true(near(t.attention, 2 * 4 * (50 + 100 * 10)));
    /* A core that does twice as many dot products does its other steps no faster. */
    m.dot_speed = 2;
    speed_predict(&s, &r, &m, token, &t);
    assert_true(near(t.products, 2 * 7 * 10e3 / 8));
    assert_true(near(t.attention, 2 * 4 * (50 + 100 * 10)));
}

/* What a session was asked for is taken as it was told, and nothing of it counts twice. */
static void what_a_session_took_stands_for_its_products_and_head(void **state)
{
    (void)state;
    const struct speed_shape s = made_up_shape();
    const struct speed_rates r = made_up_rates();
    struct speed_machine m = made_up_machine(4);
    struct speed_time t;
    m.product_ns[0] = 150e3;
    m.head_ns = 90e3;
    m.head_chooses = true;
    speed_predict(&s, &r, &m, (struct speed_work){.pos = 99, .n_tok = 1, .n_batch = 16}, &t);
    assert_true(near(t.products, 2 * 150e3) && near(t.head, 90e3) && t.jobs == 0);
    assert_true(near(t.steps, 2 * (1000 + 200 + 60 / 4.0) + 500));
    assert_true(near(t.bytes, 2 * 7 * 262144 + 8388608));
    /* Batches of 16 were not asked for. */
    speed_predict(&s, &r, &m, (struct speed_work){.pos = 0, .n_tok = 16, .n_batch = 16}, &t);
    assert_true(near(t.products, 2 * 7 * 160e3 / 4 / 0.8) && near(t.head, 90e3));
    /* The median, with its shares of what memory gave. */
    struct speed_streams streams[3] = {{20, 400e3, 0, {150e3}, {0}, {0}},
                                       {10, 100e3, 0, {50e3}, {0}, {0}},
                                       {40, 800e3, 0, {90e3}, {0}, {0}}};
    speed_streams_apply(streams, 3, &s, &m);
    assert_true(near(m.product_ns[0], 90e3) && near(m.head_ns, 400e3) && m.gb_per_s == 20);
    assert_true(near(m.head_share, 8388608 / 400e3 / 20));
    assert_true(near(m.ternary_share, 7 * 262144 / 90e3 / 20));
}

/* What is known of a layer without its attention takes the place of steps and exchange, and what is
 * known of attention is how much longer it takes than the rates say. */
static void what_a_session_took_stands_for_its_steps_and_attention(void **state)
{
    (void)state;
    const struct speed_shape s = made_up_shape();
    const struct speed_rates r = made_up_rates();
    struct speed_machine m = made_up_machine(2);
    struct speed_time t;
    const struct speed_work batch = {.pos = 0, .n_tok = 16, .n_batch = 16};
    const double steps = 16 * (1200 / 2.0 + 60 / 2.0), attention = 4 * 480 / 2.0 + 180 / 2.0 / 2;
    m.product_ns[1] = 600e3;
    m.unattended_ns[1] = 600e3 + steps + 7e3;
    m.attended_ns[1] = 2 * (16 * 200 / 2.0 + attention);
    speed_predict(&s, &r, &m, batch, &t);
    assert_true(near(t.products, 2 * 600e3) && near(t.exchange, 2 * 7e3));
    assert_true(near(t.steps, 2 * steps + 16 * 500 + 3000 + 1000));
    assert_true(near(t.attention, 2 * 2 * attention) && near(t.jobs, 1000));
    /* Steps were faster than by themselves: nothing is left for the exchange. */
    m.unattended_ns[1] = 600e3 + 5e3;
    speed_predict(&s, &r, &m, batch, &t);
    assert_true(near(t.steps, 2 * 5e3 + 16 * 500 + 3000 + 1000) && t.exchange == 0);
    /* As many times as long, wherever it stands. */
    m = made_up_machine(1);
    m.attended_ns[1] = 3 * (16 * 200 + 4 * 480);
    speed_predict(&s, &r, &m, (struct speed_work){.pos = 100, .n_tok = 16, .n_batch = 16}, &t);
    assert_true(near(t.attention, 3 * 2 * 4 * (4 * 50 + 4 * 107 * 10)));
}

static void a_prompt_is_cut_into_batches(void **state)
{
    (void)state;
    const struct speed_shape s = made_up_shape();
    const struct speed_rates r = made_up_rates();
    struct speed_machine m = made_up_machine(1);
    struct speed_time t;
    speed_predict(&s, &r, &m, (struct speed_work){.pos = 0, .n_tok = 33, .n_batch = 16}, &t);
    /* Two batches of 16, bound by the kernels, and one of 1, bound by memory; one head. */
    assert_true(near(t.products, 2 * 7 * (2 * 160e3 + 262144 / 10.0)));
    assert_true(near(t.head, 8388608 / 20.0));
    /* Blocks of four see 1, 5, ... 29 positions first, the last token 33. */
    assert_true(near(t.attention, 2 * 4 * (8 * 50 + (1 + 29) * 4 * 10 + 380)));
    /* Two threads: all steps are shared, products reach 0.8 of twice the speed. */
    m = made_up_machine(2);
    speed_predict(&s, &r, &m, (struct speed_work){.pos = 0, .n_tok = 16, .n_batch = 16}, &t);
    assert_true(near(t.products, 2 * 7 * 160e3 / 2 / 0.8));
    assert_true(near(t.jobs, (2 * (4 + 5 + 1) + 1) * 1000));
    assert_true(near(t.steps, 2 * 16 * (1200 + 100 + 60) / 2.0 + 16 * 500 + 3000 + 1000));
    /* Blocks of 60, 100, 140 and 180 ns for each of four heads; half of a last one is alone. */
    assert_true(near(t.attention, 2 * (4 * 480 / 2.0 + 180 / 2.0 / 2)));
    /* 6,656 floats, 4,096 bytes and 1,024 halves of a token change hands by half, by two threads at
     * once. */
    const double bytes = 6656 * 4 + 4096 + 1024 * 2;
    assert_true(near(t.exchange, 2 * bytes * 16 * 0.5 / 2 / 2));
    uint32_t sizes[SPEED_BATCHES_MAX];
    assert_int_equal(speed_batch_sizes((const uint32_t[]){10, 128, 200, 512}, 4, 128, sizes), 4);
    assert_true(sizes[0] == 1 && sizes[1] == 10 && sizes[2] == 128 && sizes[3] == 72);
}

/* Of the `down` matrix (1024 columns of 256 bytes in the copy) a token reads what meets no zero. */
static void columns_that_meet_zeros_cost_nothing(void **state)
{
    (void)state;
    struct speed_shape s = made_up_shape();
    struct speed_rates r = made_up_rates();
    struct speed_machine m = made_up_machine(4);
    struct speed_time t;
    const struct speed_work token = {.pos = 99, .n_tok = 1, .n_batch = 16};
    const uint64_t all = speed_weight_bytes(&s), memory = speed_memory(&s, 512, 16);
    s.column_bytes = 256;
    m.columns_share = 0.25;
    r.columns_ns = 4e3;
    /* With few zeros it is read by rows. */
    s.zeros = 0.2;
    assert_true(speed_token_bytes(&s) == all && speed_memory(&s, 512, 16) == memory);
    s.zeros = 0.75;
    assert_true(speed_token_bytes(&s) == all - 2 * 262144 * 3 / 4);
    assert_true(speed_memory(&s, 512, 16) == memory + 2 * 262144);
    assert_true(near(speed_zeros(&s, 262144 * 0.75), 0.75) && speed_zeros(&s, 0) == 0);
    speed_predict(&s, &r, &m, token, &t);
    assert_true(near(t.products, 2 * (6 * 262144 / 10.0 + 65536 / 5.0)));
    assert_true(near(t.bytes, (double)speed_token_bytes(&s)));
    assert_true(near(t.exchange, 2 * 3 * 4096 * 0.5));
    /* In a cache: one piece of 64 KiB, by one of four threads; too little work is done alone. */
    m.cache_bytes = 1ull << 30;
    speed_predict(&s, &r, &m, token, &t);
    assert_true(near(t.products, 2 * (6 * 10e3 / 4 + 4e3)));
    /* A prompt reads them all. What an engine has counted stands. */
    m.cache_bytes = 0;
    speed_predict(&s, &r, &m, (struct speed_work){.pos = 0, .n_tok = 16, .n_batch = 16}, &t);
    assert_true(near(t.bytes, (double)all));
    s.token_bytes = 9000000;
    m.product_ns[0] = 100e3;
    m.head_ns = 100e3;
    speed_predict(&s, &r, &m, token, &t);
    assert_true(near(t.bytes, 9e6));
    /* Half of all gates are closed, and small values are rounded to nothing. */
    double zeros;
    assert_int_equal(speed_random_zeros("ref", 2048, &zeros, NULL), BNT_OK);
    assert_true(zeros > 0.6 && zeros < 0.75);
}

/* 1,024 rows are 51 groups of five by four stretches, 1,020 of them, and four rows of 256 bytes. */
static void a_token_reads_the_copies_that_there_are(void **state)
{
    (void)state;
    struct speed_shape s = made_up_shape();
    struct speed_rates r = made_up_rates();
    struct speed_machine m = made_up_machine(4);
    struct speed_time t;
    const uint64_t all = speed_weight_bytes(&s), memory = speed_memory(&s, 512, 16);
    const uint64_t fives = 204 * 1024 + 4 * 256;
    const struct speed_work token = {.pos = 99, .n_tok = 1, .n_batch = 16};
    m.fives_share = 0.25;
    s.makes_zeros = true;
    speed_shape_copy(&s, &(struct speed_copies){.fives = true, .head = SPEED_HEAD_SCREENED});
    /* `down` is left to a copy by columns, which there is none of. A row of the head: four blocks
     * of 160 bytes and 16 of bounds, and 256 more that a second look reads. */
    const uint64_t head = 4096 * (640 + 16);
    assert_int_equal(speed_head_bytes(&s), head);
    assert_int_equal(speed_token_bytes(&s), 2 * (6 * fives + 262144) + head);
    assert_int_equal(speed_weight_bytes(&s), all);
    assert_int_equal(speed_memory(&s, 512, 16), memory + 2 * 6 * fives + head + 4096 * 256);
    speed_predict(&s, &r, &m, token, &t);
    assert_true(near(t.products, 2 * (6 * (double)fives / 5.0 + 262144 / 10.0)));
    assert_true(near(t.head, (double)head / 20) && near(t.bytes, (double)speed_token_bytes(&s)));
    /* Prompts go on reading codes of two bits, of which 16 tokens leave the kernels to wait for. */
    speed_predict(&s, &r, &m, (struct speed_work){.pos = 0, .n_tok = 16, .n_batch = 16}, &t);
    assert_true(near(t.bytes, 2 * 7 * 262144.0 + (double)head));
    /* With the copy by columns `down` is read by that; blocks of 192 bytes and 34 in a table. */
    s.zeros = 0.75;
    speed_shape_copy(&s, &(struct speed_copies){.columns = true, .head = SPEED_HEAD_NARROW});
    assert_int_equal(speed_head_bytes(&s), 64 + 4096 * (8 * 192 + sizeof(struct narrow_row)));
    assert_int_equal(speed_token_bytes(&s), 2 * (6 * 262144 + 65536) + speed_head_bytes(&s));
    speed_shape_copy(&s, &(struct speed_copies){.fives = false});
    assert_int_equal(speed_token_bytes(&s), all);
    assert_int_equal(speed_memory(&s, 512, 16), memory);
}

static void shapes_that_are_named_have_the_bytes_of_their_files(void **state)
{
    (void)state;
    struct speed_shape s;
    bool bf16;
    assert_int_equal(speed_shape_named("2b", &s, &bf16, NULL), BNT_OK);
    assert_true(bf16);
    /* 2.084 G ternary weights at 2 bits, 328 M of the head at 16. */
    assert_true(fabs((double)speed_weight_bytes(&s) - 1177.7e6) < 0.5e6);
    assert_int_equal(speed_shape_named("3b", &s, &bf16, NULL), BNT_OK);
    assert_true(s.embd_bytes == s.head.bytes && speed_memory(&s, 512, 128) < 8e9);
    assert_int_equal(speed_shape_named("4b", &s, &bf16, NULL), BNT_E_USAGE);
}

static void a_machine_is_what_was_said_and_as_here_otherwise(void **state)
{
    (void)state;
    struct bench_machine said;
    struct speed_machine m;
    struct speed_probe here = {.n_machines = 2, .rates = {.gmacs = 100}};
    here.machines[0] = made_up_machine(1);
    here.machines[1] = made_up_machine(2);
    assert_int_equal(bench_machine_parse("cores=16,bandwidth=100,zeros=0", &said, NULL), BNT_OK);
    assert_true(said.zeros == 0);
    assert_int_equal(bench_machine_parse("cores=16,bandwidth=100,peak=3200", &said, NULL), BNT_OK);
    assert_true(said.zeros < 0);
    assert_int_equal(bench_machine_of(&said, &here, &m, NULL), BNT_OK);
    assert_true(m.n_threads == 16 && m.gb_per_s == 100 && m.ternary_share == 0.5);
    assert_true(near(m.dot_speed, 2) && m.step_speed == 1 && near(m.job_ns, 15000));
    here.n_machines = 1;
    assert_int_equal(bench_machine_of(&said, &here, &m, NULL), BNT_E_UNSUPPORTED);
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/machine", suite_scratch()), BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "# a server\ncores=8\nbandwidth=50 job_us=3 # measured\n");
    fclose(f);
    assert_int_equal(bench_machine_parse(path, &said, NULL), BNT_OK);
    assert_int_equal(bench_machine_of(&said, &here, &m, NULL), BNT_OK);
    assert_true(m.n_threads == 8 && near(m.job_ns, 3000) && m.dot_speed == 1);
    static const char *const bad[] = {"cores=16",
                                      "bandwidth=100",
                                      "cores=16,speed=1",
                                      "cores=1.5,bandwidth=1",
                                      "cores=,bandwidth=1",
                                      "cores=16,bandwidth=1x",
                                      "cores=16,bandwidth=nan",
                                      "cores=16,bandwidth=1,zeros=1",
                                      "cores=0,bandwidth=1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(bench_machine_parse(bad[i], &said, NULL), BNT_E_USAGE);
    }
}

/* The command, on the bundled model: how near the model of time comes is not judged here. */
static void predictions_stand_beside_the_clock(void **state)
{
    (void)state;
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "bench", "--explain", "--json", "-t", "2", "-r",
                                    "1", "-w", "0", "--prompt-lengths", "4", "-n", "4", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    json_t *doc = json_loads(o.out, 0, NULL);
    assert_non_null(doc);
    assert_int_equal(js_count(doc, "figures"), 4);
    assert_int_equal(js_count(doc, "probed"), 2);
    const json_t *token = json_array_get(js_get(doc, "figures"), 3);
    const double predicted = json_number_value(js_get(token, "predicted_ms"));
    const double measured = json_number_value(js_get(token, "measured_ms"));
    const double error = json_number_value(js_get(token, "error"));
    assert_string_equal(json_string_value(js_get(token, "name")), "token at 6");
    assert_int_equal(json_integer_value(js_get(token, "threads")), 2);
    assert_true(predicted > 0 && measured > 0);
    assert_true(json_integer_value(js_get(doc, "weight_bytes_per_token")) > 1000000);
    assert_true(fabs(predicted / measured - 1 - error) < 1e-6);
    json_decref(doc);
    suite_output_release(&o);
}

/* Whoever asks for another machine is told what the same path is worth here, and by which copies.
 */
static void another_machine_stands_beside_this_one(void **state)
{
    (void)state;
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(),
                                    "bench",
                                    "--explain",
                                    "--json",
                                    "-t",
                                    "1",
                                    "-r",
                                    "1",
                                    "-w",
                                    "0",
                                    "--prompt-lengths",
                                    "4",
                                    "-n",
                                    "2",
                                    "--machine",
                                    "cores=4,bandwidth=50,job_us=1",
                                    "--head",
                                    "screened",
                                    "--packed",
                                    "off",
                                    NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    json_t *doc = json_loads(o.out, 0, NULL);
    assert_non_null(doc);
    assert_int_equal(js_count(doc, "figures"), 4);
    const json_t *here = json_array_get(js_get(doc, "figures"), 1);
    const json_t *there = json_array_get(js_get(doc, "figures"), 3);
    assert_int_equal(json_integer_value(js_get(here, "threads")), 1);
    assert_true(json_number_value(js_get(here, "measured_ms")) > 0);
    assert_int_equal(json_integer_value(js_get(there, "threads")), 4);
    assert_true(json_is_null(js_get(there, "measured_ms")));
    assert_string_equal(json_string_value(js_get(doc, "head")), "screened");
    json_decref(doc);
    suite_output_release(&o);
    suite_run((const char *const[]){suite_bnt(), "bench", "--explain", "--gate", "--machine",
                                    "cores=4,bandwidth=50", "--shape", "2b", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
    suite_run((const char *const[]){suite_bnt(), "bench", "--explain", "-m", suite_bundled_model(),
                                    "--machine", "cores=4,bandwidth=50", "--shape", "2b", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    assert_non_null(strstr(o.err, "no --model"));
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "a_token_costs_what_the_sum_says", .body = a_token_costs_what_the_sum_says},
    {.name = "what_a_session_took_stands_for_its_products_and_head",
     .body = what_a_session_took_stands_for_its_products_and_head},
    {.name = "what_a_session_took_stands_for_its_steps_and_attention",
     .body = what_a_session_took_stands_for_its_steps_and_attention},
    {.name = "a_prompt_is_cut_into_batches", .body = a_prompt_is_cut_into_batches},
    {.name = "columns_that_meet_zeros_cost_nothing", .body = columns_that_meet_zeros_cost_nothing},
    {.name = "shapes_that_are_named_have_the_bytes_of_their_files",
     .body = shapes_that_are_named_have_the_bytes_of_their_files},
    {.name = "a_machine_is_what_was_said_and_as_here_otherwise",
     .body = a_machine_is_what_was_said_and_as_here_otherwise},
    {.name = "a_token_reads_the_copies_that_there_are",
     .body = a_token_reads_the_copies_that_there_are},
    {.name = "predictions_stand_beside_the_clock",
     .tier = SUITE_INTEGRATION,
     .body = predictions_stand_beside_the_clock},
    {.name = "another_machine_stands_beside_this_one",
     .tier = SUITE_INTEGRATION,
     .body = another_machine_stands_beside_this_one},
    {0},
};
const struct suite suite_bench_explain = {"bench_explain", tests, "free_jobs"};
