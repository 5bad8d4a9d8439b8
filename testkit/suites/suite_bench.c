/* Guards the measuring of a model: warm-ups that count, times of something else than what the plan
 * says, a figure where there is none. How long anything took is not judged: machines differ. */
#include "testkit/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/bench.h"
#include "testkit/suites/infer_support.h"

/* ---- Measuring. */

static void all_positive(const struct bench_series *s, size_t n)
{
    assert_int_equal(s->n, n);
    for (size_t i = 0; i < n; i++) {
        assert_true(s->at[i] > 0 && isfinite(s->at[i]));
    }
}

static void count_steps(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *last = ctx;
    assert_true(done == *last + 1 && done <= total);
    *last = done;
}

static void bench_measures_what_the_plan_says(void **state)
{
    (void)state;
    uint64_t steps = 0;
    struct bench_plan plan = {.path = suite_bundled_model(),
                              .lengths = {9, 2},
                              .n_lengths = 2,
                              .n_decode = 5,
                              .n_warmups = 2,
                              .n_reps = 3,
                              .no_bandwidth = true,
                              .energy_root = suite_scratch(),
                              .progress = count_steps,
                              .ctx = &steps};
    struct bench_result r = {0};
    assert_int_equal(bench_run(&plan, &r, NULL), BNT_OK);
    assert_int_equal(steps, 5);
    assert_int_equal(r.n_prompts, 2);
    assert_int_equal(r.prompts[0].n_ids, 9);
    all_positive(&r.prompts[0].first_ms, 3);
    all_positive(&r.prompts[1].first_ms, 3);
    all_positive(&r.prompts[1].cpu_ms, 3);
    all_positive(&r.decode.run_ms, 3);
    all_positive(&r.decode.cpu_ms, 3);
    all_positive(&r.decode.token_ms, 15);
    for (size_t rep = 0; rep < 3; rep++) {
        double sum = 0;
        for (size_t i = 0; i < 5; i++) {
            sum += r.decode.token_ms.at[rep * 5 + i];
        }
        assert_true(fabs(sum - r.decode.run_ms.at[rep]) < 1e-3 * sum);
    }
    /* The context is just what the plan needs; keys and values are those of its middle. */
    assert_int_equal(r.n_ctx, 14);
    assert_int_equal(r.kv_bytes_per_token, r.kv_bytes / 14 * 11);
    assert_true(r.weight_bytes_per_token > 1000000 && r.weight_bytes_per_token < r.file_bytes);
    assert_true(r.peak_bytes > r.session_bytes && !r.has_bandwidth);
    assert_true(isnan(r.decode.joules) && strstr(r.no_energy, suite_scratch()) != NULL);
    bench_release(&r);
}

/* Two of three tokens each: a step is a time, and its weights are read for both. */
static void bench_decodes_several_sequences_together(void **state)
{
    (void)state;
    struct bench_plan plan = {.path = suite_bundled_model(),
                              .lengths = {9, 2},
                              .n_lengths = 2,
                              .n_decode = 3,
                              .n_reps = 2,
                              .no_bandwidth = true,
                              .energy_root = suite_scratch()};
    struct bench_result one = {0}, two = {0};
    assert_int_equal(bench_run(&plan, &one, NULL), BNT_OK);
    plan.n_sequences = 2;
    assert_int_equal(bench_run(&plan, &two, NULL), BNT_OK);
    assert_int_equal(two.decode.n_sequences, 2);
    all_positive(&two.decode.run_ms, 2);
    all_positive(&two.decode.token_ms, 6);
    assert_int_equal(two.n_ctx, 12);
    assert_int_equal(two.kv_bytes, 2 * one.kv_bytes);
    assert_int_equal(two.kv_bytes_per_token, one.kv_bytes_per_token);
    assert_int_equal(two.weight_bytes_per_token, one.weight_bytes_per_token / 2);
    bench_release(&one);
    bench_release(&two);
}

static void bench_refuses_a_plan_out_of_bounds(void **state)
{
    (void)state;
    static const struct bench_plan bad[] = {
        {.n_lengths = 0, .n_reps = 1},
        {.lengths = {0}, .n_lengths = 1, .n_reps = 1},
        {.lengths = {4}, .n_lengths = 1, .n_reps = 0},
        {.lengths = {4}, .n_lengths = 1, .n_reps = BENCH_REPS_MAX + 1},
        {.lengths = {BENCH_LENGTH_MAX + 1}, .n_lengths = 1, .n_reps = 1},
        {.lengths = {4}, .n_lengths = 1, .n_reps = 1, .n_decode = BENCH_DECODE_MAX + 1},
        {.lengths = {4}, .n_lengths = 1, .n_reps = 1, .n_sequences = BNT_MAX_SEQUENCES + 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bench_result r = {0};
        assert_int_equal(bench_run(&bad[i], &r, NULL), BNT_E_USAGE);
        bench_release(&r);
    }
}

/* ---- Energy, from counters that this test writes. */

static void write_counter(const char *package, const char *name, const char *text)
{
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s", suite_scratch(), package), BNT_OK);
    assert_int_equal(bnt_mkdirs(path, NULL), BNT_OK);
    assert_int_equal(bnt_path_format(path, NULL, "%s/%s/%s", suite_scratch(), package, name),
                     BNT_OK);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "%s\n", text);
    fclose(f);
}

static void write_package(const char *package, const char *energy_uj)
{
    write_counter(package, "energy_uj", energy_uj);
    write_counter(package, "max_energy_range_uj", "10000000");
}

static void energy_adds_packages_and_sees_a_counter_begin_anew(void **state)
{
    (void)state;
    struct energy e;
    double joules;
    energy_open(&e, suite_scratch());
    assert_int_equal(e.n, 0);
    assert_non_null(strstr(e.why, "no counters"));
    write_package("intel-rapl:0", "1000000");
    write_package("intel-rapl:1", "9500000");
    write_package("intel-rapl:0:0", "77"); /* a part of package 0 */
    write_package("intel-rapl-mmio:0", "77");
    energy_open(&e, suite_scratch());
    assert_int_equal(e.n, 2);
    write_package("intel-rapl:0", "3000000");
    write_package("intel-rapl:1", "500000");
    assert_true(energy_since(&e, &joules));
    assert_true(fabs(joules - 3.0) < 1e-9);
    assert_true(energy_since(&e, &joules) && joules == 0);
    write_counter("intel-rapl:1", "energy_uj", "no number");
    assert_false(energy_since(&e, &joules));
    assert_non_null(strstr(e.why, "went away"));
    energy_open(&e, suite_scratch()); /* one of two is no figure */
    assert_int_equal(e.n, 0);
    assert_non_null(strstr(e.why, "cannot be read"));
}

/* ---- The command. */

static void bench_tells_its_figures_as_json_and_as_a_table(void **state)
{
    (void)state;
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "bench", "--prompt-lengths", "4,8", "-n", "6",
                                    "-r", "2", "-t", "1", "--json", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    json_t *doc = json_loads(o.out, 0, NULL);
    assert_non_null(doc);
    assert_int_equal(js_count(doc, "prompts"), 2);
    const json_t *decode = js_get(doc, "decode"), *memory = js_get(doc, "memory");
    double per_s = json_number_value(js_get(decode, "tokens_per_s"));
    double used = json_number_value(js_get(memory, "used_gb_per_s"));
    double bytes = json_number_value(js_get(memory, "bytes_per_token"));
    double probed = json_number_value(js_get(memory, "bandwidth_gb_per_s"));
    double share = json_number_value(js_get(memory, "share"));
    assert_true(per_s > 0 && probed > 0);
    assert_true(fabs(used - per_s * bytes / 1e9) < 1e-6 * used);
    assert_true(fabs(share - used / probed) < 1e-6 * share);
    assert_int_equal(js_count(decode, "samples_ms"), 2);
    assert_int_equal(js_count(decode, "cpu_ms"), 2);
    const json_t *second = json_array_get(js_get(doc, "prompts"), 1);
    assert_int_equal(json_integer_value(js_get(second, "tokens")), 8);
    assert_int_equal(js_count(second, "samples_ms"), 2);
    assert_int_equal(js_count(second, "cpu_ms"), 2);
    json_decref(doc);
    suite_output_release(&o);
    suite_run((const char *const[]){suite_bnt(), "bench", "--prompt-lengths", "4", "-n", "0", "-r",
                                    "1", "-w", "0", "--no-bandwidth", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    assert_true(strstr(o.out, "prompt 4 ") && strstr(o.out, "not probed"));
    assert_null(strstr(o.out, "token (of"));
    suite_output_release(&o);
}

static void bench_tells_tokens_of_all_sequences(void **state)
{
    (void)state;
    struct suite_output o;
    suite_run((const char *const[]){suite_bnt(), "bench", "--prompt-lengths", "4", "-n", "5", "-r",
                                    "1", "-w", "0", "--no-bandwidth", "--sequences", "3", "--json",
                                    NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    json_t *doc = json_loads(o.out, 0, NULL);
    assert_non_null(doc);
    const json_t *decode = js_get(doc, "decode");
    double ms = json_number_value(json_array_get(js_get(decode, "samples_ms"), 0));
    double per_s = json_number_value(js_get(decode, "tokens_per_s"));
    assert_int_equal(json_integer_value(js_get(decode, "tokens")), 5);
    assert_int_equal(json_integer_value(js_get(decode, "sequences")), 3);
    assert_true(fabs(per_s * ms / 1e3 - 15) < 1e-6);
    json_decref(doc);
    suite_output_release(&o);
    suite_run((const char *const[]){suite_bnt(), "bench", "--prompt-lengths", "4", "-n", "0", "-r",
                                    "1", "-w", "0", "--no-bandwidth", "--sequences", "3", NULL},
              NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    assert_null(strstr(o.out, "decoded together")); /* nothing was decoded */
    suite_output_release(&o);
    suite_run((const char *const[]){suite_bnt(), "bench", "--sequences", "2", "--ops", NULL}, NULL,
              0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
}

static void bench_refuses_lengths_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "0",
                                      "-4",
                                      "4,",
                                      ",4",
                                      "4;8",
                                      "4,x",
                                      "99999999999999",
                                      "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct suite_output o;
        suite_run((const char *const[]){suite_bnt(), "bench", "--prompt-lengths", bad[i], NULL},
                  NULL, 0, &o);
        assert_int_equal(o.exit, BNT_E_USAGE);
        assert_non_null(strstr(o.err, "--prompt-lengths"));
        suite_output_release(&o);
    }
}

/* What would change nothing is refused, not taken in silence. */
static void bench_refuses_options_that_say_nothing(void **state)
{
    (void)state;
    static const char *const bad[][3] = {
        {"--pairs", "20", "are of --compare"},
        {"--margin", "5", "are of --compare"},
        {"--clock", "wall", "are of --compare"},
        {"--shapes", "2b", "are of --ops"},
        {"--batches", "1", "are of --ops"},
        {"--shape", "2b", "--shape of --machine"},
        {"--gate", NULL, "--gate is of --ops"},
        {"--ops", "--prompt-lengths=9", "--ops has no prompts"},
        {"--ops", "--no-bandwidth", "--no-bandwidth leaves out"},
        {"--explain", "--no-bandwidth", "--no-bandwidth leaves out"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct suite_output o;
        suite_run((const char *const[]){suite_bnt(), "bench", bad[i][0], bad[i][1], NULL}, NULL, 0,
                  &o);
        if (o.exit != BNT_E_USAGE || !strstr(o.err, bad[i][2])) {
            fail_msg("%s: exit %d: %s", bad[i][0], o.exit, o.err);
        }
        suite_output_release(&o);
    }
}

static const struct suite_test tests[] = {
    {.name = "bench_measures_what_the_plan_says", .body = bench_measures_what_the_plan_says},
    {.name = "bench_refuses_a_plan_out_of_bounds", .body = bench_refuses_a_plan_out_of_bounds},
    {.name = "energy_adds_packages_and_sees_a_counter_begin_anew",
     .body = energy_adds_packages_and_sees_a_counter_begin_anew},
    {.name = "bench_tells_its_figures_as_json_and_as_a_table",
     .body = bench_tells_its_figures_as_json_and_as_a_table},
    {.name = "bench_decodes_several_sequences_together",
     .body = bench_decodes_several_sequences_together},
    {.name = "bench_tells_tokens_of_all_sequences", .body = bench_tells_tokens_of_all_sequences},
    {.name = "bench_refuses_lengths_that_are_none", .body = bench_refuses_lengths_that_are_none},
    {.name = "bench_refuses_options_that_say_nothing",
     .body = bench_refuses_options_that_say_nothing},
    {0},
};
const struct suite suite_bench = {"bench", tests, "bench_warmup energy_wrap"};
