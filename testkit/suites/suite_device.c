/* Guards --device: a GPU that is used silently, replaced silently, or refused without a reason, by
 * programs that open the fake device as a module; and the module that nvcc built on a real GPU,
 * where there is one: what suite_cuda.c shows of the fake device. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/bnt_infer.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/generate.h"
#include "testkit/suite.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/engine_support.h"

/* ---- programs, on the fake device ---- */

static void use_fake_module(const char *plan)
{
    char path[BNT_PATH_MAX];
    const char *bnt = suite_bnt(), *slash = strrchr(bnt, '/');
    snprintf(path, sizeof path, "%.*s/fake_cuda.so", (int)(slash - bnt), bnt);
    if (access(path, R_OK) != 0) {
        suite_skip("needs: fake_cuda.so beside bnt");
    }
    setenv("BNT_CUDA_MODULE", path, 1);
    setenv("BNT_FAKE_CUDA", plan, 1);
}

struct run_case {
    const char *plan, *device, *fallback;
    int exit;
    const char *says; /* in stderr; NULL: it is empty */
};

static void programs_say_what_computes(void **state)
{
    (void)state;
    static const struct run_case cases[] = {
        {"", "cpu", "error", 0, NULL},
        {"", "cuda", "error", 0, "this is no GPU: FAKE DEVICE"},
        {"", "cuda:1", "error", 22, "cuda:1: no such device"},
        {"absent", "cuda", "error", 22, "the fake driver sees no GPU"},
        {"absent", "auto", "error", 0, NULL},
        {"lost=200", "cuda", "error", 0, "the CPU goes on after"},
        {"lost=200", "cuda", "never", 22, "the device is lost"},
        {"memory=1000000", "cuda", "error", 0, "do not fit into 1 MB that are free"},
        {"memory=1000000", "cuda", "never", 18, "do not fit into 1 MB that are free"},
        {"", "gpu", "error", 2, "device gpu is not one of"},
    };
    struct suite_output o, wanted;
    const char *plain[] = {suite_bnt(), "infer",     "-m", suite_bundled_model(),
                           "-p",        "Once upon", "-n", "12",
                           "-t",        "1",         NULL};
    suite_run(plain, NULL, 0, &wanted);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct run_case *c = &cases[i];
        const char *argv[] = {suite_bnt(),  "infer",     "-m",       suite_bundled_model(),
                              "-p",         "Once upon", "-n",       "12",
                              "-t",         "1",         "--device", c->device,
                              "--fallback", c->fallback, NULL};
        use_fake_module(c->plan);
        suite_run(argv, NULL, 0, &o);
        if (o.exit != c->exit || (c->says ? !strstr(o.err, c->says) : o.err[0] != '\0')) {
            fail_msg("--device %s, %s: exit %d: %s", c->device, c->plan, o.exit, o.err);
        }
        if (c->exit == 0) {
            assert_string_equal(o.out, wanted.out);
        }
        suite_output_release(&o);
    }
    suite_output_release(&wanted);
}

/* What the device draws, and what it cannot: both are told, and the text is the CPU's. */
static void ids_that_a_device_could_not_draw_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *plan, *device, *says; /* says: in a line of the metrics; NULL: nothing */
        int drawn, left;
        const char *kernel; /* how its name begins */
    } cases[] = {
        {"", "cpu", NULL, 0, 0, ""},
        {"", "cuda", "6 ids       on cuda:0; 0 that", 6, 0, "cuda"},
        {"draw=3", "cuda", "5 ids       on cuda:0; 1 that", 5, 1, "cuda"},
        {"lost=100", "cuda", "2 ids       on cuda:0, then cpu; 0 that", 2, 0, "cuda, then "}};
    char *text = NULL;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        bool json = i % 2 == 0;
        const char *argv[] = {suite_bnt(),
                              "infer",
                              "-m",
                              suite_bundled_model(),
                              "-p",
                              "Once",
                              "-n",
                              "6",
                              "--temperature",
                              "0.9",
                              "--top-k",
                              "20",
                              "--seed",
                              "5",
                              "-t",
                              "1",
                              "--device",
                              cases[i / 2].device,
                              json ? "--json" : "--metrics",
                              NULL};
        struct suite_output o;
        use_fake_module(cases[i / 2].plan);
        suite_run(argv, NULL, 0, &o);
        assert_int_equal(o.exit, 0);
        if (json) {
            json_t *doc = json_loads(o.out, 0, NULL), *metrics = json_object_get(doc, "metrics");
            assert_int_equal(json_integer_value(json_object_get(metrics, "drawn_on_device")),
                             cases[i / 2].drawn);
            assert_int_equal(json_integer_value(json_object_get(metrics, "not_drawn_on_device")),
                             cases[i / 2].left);
            const char *kernel = json_string_value(json_object_get(metrics, "kernel"));
            assert_non_null(kernel);
            assert_int_equal(strncmp(kernel, cases[i / 2].kernel, strlen(cases[i / 2].kernel)), 0);
            json_decref(doc);
        } else {
            const char *says = cases[i / 2].says;
            text = text ? text : strdup(o.out);
            assert_non_null(text);
            assert_string_equal(o.out, text);
            assert_non_null(strstr(o.err, says ? says : "sample"));
            assert_true(says || !strstr(o.err, "drawn"));
        }
        suite_output_release(&o);
    }
    free(text);
}

static void devices_lists_the_gpu_with_its_name(void **state)
{
    (void)state;
    struct suite_output o;
    const char *argv[] = {suite_bnt(), "devices", "--json", NULL};
    use_fake_module("");
    suite_run(argv, NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    assert_non_null(strstr(o.out, "\"name\": \"FAKE DEVICE"));
    assert_non_null(strstr(o.out, "\"fake\": true"));
    suite_output_release(&o);
}

/* ---- tests that compute on a device ---- */

struct test_case {
    const char *plan, *device;
    int exit;
    const char *says; /* in stderr; NULL: anything */
    int passed, failed, skipped;
};

/* `bnt test` of a user's suite: its result file; NULL when there is none. The caller drops it. */
static json_t *run_suite(const struct test_case *c, const char *suite)
{
    struct suite_output o;
    const char *argv[] = {suite_bnt(), "test", suite, "--device",   c->device, "--history", "none",
                          "--json",    "-j",   "1",   "--diagnose", "0",       NULL};
    use_fake_module(c->plan);
    suite_run(argv, NULL, 0, &o);
    if (o.exit != c->exit || (c->says && !strstr(o.err, c->says))) {
        fail_msg("--device %s, %s: exit %d: %s", c->device, c->plan, o.exit, o.err);
    }
    json_t *result = json_loads(o.out, 0, NULL);
    suite_output_release(&o);
    return result;
}

static const char *machine_text(const json_t *result, const char *key)
{
    return json_string_value(json_object_get(json_object_get(result, "machine"), key));
}

static void check_counts(const json_t *result, const struct test_case *c)
{
    json_t *counts = json_object_get(result, "counts");
    int passed = (int)json_integer_value(json_object_get(counts, "passed"));
    int failed = (int)json_integer_value(json_object_get(counts, "failed"));
    int skipped = (int)json_integer_value(json_object_get(counts, "skipped"));
    if (passed != c->passed || failed != c->failed || skipped != c->skipped) {
        fail_msg("--device %s, %s: %d passed, %d failed, %d skipped", c->device, c->plan, passed,
                 failed, skipped);
    }
}

/* The text that the CPU gives is expected of each device; what needs a GPU is skipped without one,
 * and a GPU that fails is no pass of the CPU's. */
static void suites_run_on_the_chosen_device(void **state)
{
    (void)state;
    static const struct test_case cases[] = {
        {"", "cpu", 0, NULL, 1, 0, 1},
        {"", "cuda", 0, "tests of models compute on cuda:0: FAKE DEVICE", 1, 0, 1},
        {"absent", "auto", 0, NULL, 1, 0, 1},
        {"lost=60", "cuda", 1, NULL, 0, 1, 1},
        {"absent", "cuda", 22, "the fake driver sees no GPU", 0, 0, 0},
        {"", "gpu", 2, "device gpu is not one of", 0, 0, 0},
    };
    char path[BNT_PATH_MAX], fingerprint[2][64] = {"", ""};
    fixture_write(fixture_path(path, "device.bnt.yml"),
                  "tests:\n"
                  "  - {name: speaks, prompt: Once upon, max_tokens: 4,"
                  " expect: {text: \" a time, there\"}}\n"
                  "  - {name: real, prompt: Once upon, needs: cuda, max_tokens: 1,"
                  " expect: {begins: \" a\"}}\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct test_case *c = &cases[i];
        json_t *result = run_suite(c, path);
        assert_true((result != NULL) == (c->exit < 2));
        if (result) {
            check_counts(result, c);
            const char *device = machine_text(result, "device");
            assert_true((strcmp(c->device, "cuda") == 0) == (device && strstr(device, "FAKE")));
            if (i < 2) {
                snprintf(fingerprint[i], sizeof fingerprint[i], "%s",
                         machine_text(result, "fingerprint"));
            }
        }
        json_decref(result);
    }
    assert_string_not_equal(fingerprint[0], fingerprint[1]);
}

/* Where a GPU parts from the CPU is found like any other difference. */
static void bisect_finds_where_a_device_parts(void **state)
{
    (void)state;
    static const struct {
        const char *plan;
        int exit;
        const char *says; /* on stdout */
    } cases[] = {{"", 0, "no difference"}, {"wrong", 6, "layer 0, op q"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        const char *argv[] = {suite_bnt(), "bisect",     "-p",  "Once upon",   "-n", "1",
                              "--a",       "device=cpu", "--b", "device=cuda", NULL};
        use_fake_module(cases[i].plan);
        suite_run(argv, NULL, 0, &o);
        if (o.exit != cases[i].exit || !strstr(o.out, cases[i].says)) {
            fail_msg("%s: exit %d: %s%s", cases[i].plan, o.exit, o.out, o.err);
        }
        suite_output_release(&o);
    }
}

/* Before the work, not after it. */
static void a_session_that_cannot_be_kept_is_refused_at_once(void **state)
{
    (void)state;
    struct suite_output o;
    const char *argv[] = {suite_bnt(),
                          "infer",
                          "-m",
                          suite_bundled_model(),
                          "-p",
                          "Once",
                          "-n",
                          "4",
                          "--device",
                          "cuda",
                          "-t",
                          "1",
                          "--session-save",
                          suite_in_scratch("kept"),
                          NULL};
    use_fake_module("");
    suite_run(argv, NULL, 0, &o);
    assert_int_equal(o.exit, BNT_E_UNSUPPORTED);
    assert_non_null(strstr(o.err, "a session on cuda:0 is not kept in files"));
    assert_string_equal(o.out, "");
    suite_output_release(&o);
}

/* ---- times ---- */

struct bench_case {
    const char *plan, *fallback, *device, *kernel; /* kernel: how its words begin */
};

/* Times of which a part is the CPU's do not pass for those of the GPU. */
static void times_after_a_takeover_name_both(void **state)
{
    (void)state;
    static const struct bench_case cases[] = {
        {"", "error", "cuda:0", "cuda"},
        {"alloc=1", "error", "cpu", ""},
        {"lost=100", "error", "cuda:0, then cpu", "cuda, then "},
        {"", "below:100000000", "cuda:0, then cpu", "cuda, then "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct bench_case *c = &cases[i];
        const char *argv[] = {suite_bnt(),
                              "bench",
                              "-m",
                              suite_bundled_model(),
                              "--prompt-lengths",
                              "4",
                              "-n",
                              "20",
                              "-r",
                              "1",
                              "-w",
                              "0",
                              "--device",
                              "cuda",
                              "--json",
                              "--fallback",
                              c->fallback,
                              "-t",
                              "1",
                              "--no-bandwidth",
                              NULL};
        struct suite_output o;
        use_fake_module(c->plan);
        suite_run(argv, NULL, 0, &o);
        assert_int_equal(o.exit, 0);
        json_t *doc = json_loads(o.out, 0, NULL), *settings = json_object_get(doc, "settings");
        const char *kernel = json_string_value(json_object_get(settings, "kernel"));
        assert_string_equal(json_string_value(json_object_get(settings, "device")), c->device);
        assert_true(kernel && strncmp(kernel, c->kernel, strlen(c->kernel)) == 0);
        assert_true(strlen(kernel) > strlen("cuda, then ") || !strchr(kernel, ','));
        json_decref(doc);
        suite_output_release(&o);
    }
}

/* ---- single operations ---- */

struct ops_case {
    const char *plan, *gate; /* gate: NULL or --gate */
    int exit;
    const char *says;
};

/* What is no GPU is timed as one and never judged; a product that is wrong has no time. */
static void operations_of_a_device_are_checked_and_timed(void **state)
{
    (void)state;
    static const struct ops_case cases[] = {
        {"", NULL, 0, ""},
        {"", "--gate", 22, "its times say nothing that --gate could judge"},
        {"wrong", NULL, 6, "is not the reference's"},
        {"absent", NULL, 22, "the fake driver sees no GPU"},
        {"memory=2000", NULL, 18, "out of memory"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        const char *argv[] = {suite_bnt(), "bench",    "--ops",         "--device",
                              "cuda",      "--shapes", "33x129,5x2000", "--batches",
                              "1,3,12",    "--json",   cases[i].gate,   NULL};
        use_fake_module(cases[i].plan);
        suite_run(argv, NULL, 0, &o);
        if (o.exit != cases[i].exit || !strstr(o.err, cases[i].says)) {
            fail_msg("%s: exit %d: %s", cases[i].plan, o.exit, o.err);
        }
        if (i == 0) {
            json_t *doc = json_loads(o.out, 0, NULL);
            assert_int_equal(json_array_size(json_object_get(doc, "products")), 6);
            assert_true(json_is_true(json_object_get(doc, "fake")));
            assert_true(json_is_null(json_object_get(doc, "good")));
            json_decref(doc);
        }
        suite_output_release(&o);
    }
}

/* ---- what is kept for a GPU ---- */

/* The script that shows on a GPU what only a GPU can show goes through all its commands here, with
 * small models: nothing fails, and what needs a GPU is counted as skipped. */
static void the_check_of_a_gpu_is_rehearsed(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "ok       every operation has the rows of the CPU",
        "ok       their 64 best logits are equal, bit for bit",
        "ok       4096 positions take less than 4 GB",
        "ok       a screened head gives the same tokens",
        "SKIPPED    decode with a screened head, against the full one",
        "SKIPPED    64 sequences with a screened head, against the full one",
        "SKIPPED    decode of the 2B shape",
        "SKIPPED    64 sequences of the 2B shape",
        "SKIPPED    decode of the 3B shape",
        "ok       the time of each kernel, a prompt and steps",
        "ok       the time of each kernel, 30 positions",
        "| k_step ",
        "| k_scores ",
        "| k_values ",
        "| k_attend_one ",
        "SKIPPED    decode of the 2B shape after 30 positions",
        "SKIPPED  compute-sanitizer racecheck, attention in two launches",
        "| k_draw ",
        "SKIPPED  each kernel by ncu",
        "SKIPPED  compute-sanitizer racecheck, a draw",
        "SKIPPED  compute-sanitizer racecheck, weights of one bit",
        "gpu-check: 0 failed",
    };
    char build[BNT_PATH_MAX];
    const char *bnt = suite_bnt();
    snprintf(build, sizeof build, "%.*s", (int)(strrchr(bnt, '/') - bnt), bnt);
    use_fake_module("");
    struct suite_output o;
    const char *argv[] = {"ci/gpu_check.sh", "--rehearse", build, NULL};
    suite_run(argv, suite_source(""), 120000, &o);
    assert_null(strstr(o.out, "FAILED"));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (o.exit != 3 || !strstr(o.out, rows[i])) {
            fail_msg("exit %d, should say %s: %s%s", o.exit, rows[i], o.out, o.err);
        }
    }
    suite_output_release(&o);
    use_fake_module("wrong"); /* a row that fails is told, counted and the exit code */
    suite_run(argv, suite_source(""), 120000, &o);
    assert_int_equal(o.exit, 1);
    assert_non_null(strstr(o.out, "FAILED   their 64 best logits are equal, bit for bit"));
    assert_non_null(strstr(o.out, "FAILED   every operation has the rows of the CPU"));
    assert_null(strstr(o.out, "gpu-check: 0 failed"));
    suite_output_release(&o);
}

/* ---- the library, on a GPU ---- */

static const int32_t story[] = {2045, 394, 401, 258, 372, 44, 382, 280, 267, 300, 12, 77};
enum { STORY = sizeof story / sizeof story[0], GREEDY = 256 };

static void open_on(struct es_engine *e, const char *device)
{
    es_open(e, suite_bundled_model(),
            &(struct bnt_session_options){.device = device, .fallback = "never"});
}

static void the_logits_of_a_batch_are_the_cpus(void **state)
{
    (void)state;
    struct es_engine gpu, cpu;
    open_on(&gpu, "cuda");
    open_on(&cpu, "cpu");
    float *got = es_eval_rows(gpu.session, story, STORY);
    float *wanted = es_eval_rows(cpu.session, story, STORY);
    assert_memory_equal(got, wanted, STORY * bnt_session_n_vocab(cpu.session) * sizeof *got);
    free(got);
    free(wanted);
    es_close(&gpu);
    es_close(&cpu);
}

/* Every row of 256 steps, and the choice made on the device. */
static void the_gpus_256_tokens_are_the_cpus(void **state)
{
    (void)state;
    struct es_engine gpu, cpu;
    struct bnt_err err = {0};
    struct bnt_candidate best;
    uint32_t n = 0;
    open_on(&gpu, "cuda");
    open_on(&cpu, "cpu");
    size_t bytes = bnt_session_n_vocab(cpu.session) * sizeof(float);
    int32_t id = es_greedy(&cpu, story, STORY);
    es_ok(bnt_session_eval_best(gpu.session, story, STORY, 1, &best, &n, &err), &err);
    for (int i = 0; i < GREEDY; i++) {
        assert_int_equal(n, 1);
        assert_int_equal(best.id, id);
        if (i % 2) {
            es_ok(bnt_session_eval(gpu.session, &id, 1, &err), &err);
            es_ok(bnt_session_eval(cpu.session, &id, 1, &err), &err);
            assert_memory_equal(bnt_session_logits(gpu.session), bnt_session_logits(cpu.session),
                                bytes);
            es_ok(bnt_session_rewind(gpu.session, bnt_session_n_past(gpu.session) - 1, &err), &err);
            es_ok(bnt_session_rewind(cpu.session, bnt_session_n_past(cpu.session) - 1, &err), &err);
        }
        es_ok(bnt_session_eval_best(gpu.session, &id, 1, 1, &best, &n, &err), &err);
        id = es_greedy(&cpu, &id, 1);
    }
    es_close(&gpu);
    es_close(&cpu);
}

/* Ids by a sampler with a temperature, and how many of them the device has drawn. */
static uint64_t sampled(const char *device, int32_t ids[GREEDY])
{
    struct es_engine e;
    struct bnt_err err = {0};
    struct bnt_sampler *sampler = NULL;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    struct bnt_generate_params gp = {.max_tokens = GREEDY, .ignore_eos = true};
    struct bnt_generation g;
    struct bnt_session_stats stats;
    p.temperature = 0.9;
    p.top_k = 40;
    p.top_p = 0.95;
    p.min_p = 0.01;
    p.seed = 7;
    open_on(&e, device);
    es_ok(bnt_sampler_new(&p, (int32_t)bnt_session_n_vocab(e.session), &sampler, &err), &err);
    bnt_generation_init(&g);
    es_ok(
        bnt_generate(e.session, bnt_model_tokenizer(e.model), sampler, story, STORY, &gp, &g, &err),
        &err);
    assert_int_equal(g.ids.n, GREEDY);
    memcpy(ids, g.ids.at, GREEDY * sizeof *ids);
    bnt_session_stats(e.session, &stats);
    bnt_generation_release(&g);
    bnt_sampler_free(sampler);
    es_close(&e);
    return stats.n_drawn;
}

static void ids_drawn_on_a_gpu_are_the_cpus(void **state)
{
    (void)state;
    int32_t gpu[GREEDY], cpu[GREEDY];
    assert_int_equal(sampled("cuda", gpu), GREEDY);
    assert_int_equal(sampled("cpu", cpu), 0);
    assert_memory_equal(gpu, cpu, sizeof gpu);
}

static uint64_t free_bytes(void)
{
    char why[256];
    struct cuda_info info;
    assert_int_equal(cuda_table_get(why, sizeof why)->info(0, &info), CUDA_OK);
    return info.free;
}

static void a_thousand_sessions_on_a_gpu_leave_nothing(void **state)
{
    (void)state;
    struct es_engine e;
    struct bnt_err err = {0};
    struct bnt_session_options so = {.device = "cuda", .fallback = "never", .n_ctx = 16};
    es_open(&e, suite_bundled_model(), &so);
    bnt_session_free(e.session);
    uint64_t before = free_bytes();
    for (int i = 0; i < 1000; i++) {
        es_ok(bnt_session_new(e.model, &so, &e.session, &err), &err);
        es_ok(bnt_session_eval(e.session, story, 1, &err), &err);
        bnt_session_free(e.session);
    }
    assert_true(free_bytes() + (64u << 20) >= before); /* one session takes 3 MB */
    bnt_model_close(e.model);
}

static const struct suite_test tests[] = {
    {.name = "programs_say_what_computes", .body = programs_say_what_computes},
    {.name = "suites_run_on_the_chosen_device", .body = suites_run_on_the_chosen_device},
    {.name = "bisect_finds_where_a_device_parts", .body = bisect_finds_where_a_device_parts},
    {.name = "a_session_that_cannot_be_kept_is_refused_at_once",
     .body = a_session_that_cannot_be_kept_is_refused_at_once},
    {.name = "times_after_a_takeover_name_both", .body = times_after_a_takeover_name_both},
    {.name = "operations_of_a_device_are_checked_and_timed",
     .body = operations_of_a_device_are_checked_and_timed},
    {.name = "ids_that_a_device_could_not_draw_are_told",
     .body = ids_that_a_device_could_not_draw_are_told},
    {.name = "devices_lists_the_gpu_with_its_name",
     .body = devices_lists_the_gpu_with_its_name,
     .tier = SUITE_INTEGRATION},
    {.name = "the_check_of_a_gpu_is_rehearsed",
     .body = the_check_of_a_gpu_is_rehearsed,
     .needs = "source",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {.name = "the_logits_of_a_batch_are_the_cpus",
     .body = the_logits_of_a_batch_are_the_cpus,
     .needs = "cuda",
     .timeout_ms = 60000},
    {.name = "the_gpus_256_tokens_are_the_cpus",
     .body = the_gpus_256_tokens_are_the_cpus,
     .needs = "cuda",
     .timeout_ms = 60000},
    {.name = "ids_drawn_on_a_gpu_are_the_cpus",
     .body = ids_drawn_on_a_gpu_are_the_cpus,
     .needs = "cuda",
     .timeout_ms = 60000},
    {.name = "a_thousand_sessions_on_a_gpu_leave_nothing",
     .body = a_thousand_sessions_on_a_gpu_leave_nothing,
     .needs = "cuda",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 300000},
    {0},
};

const struct suite suite_device = {"device", tests, "device_silent device_is_any ops_unchecked"};
