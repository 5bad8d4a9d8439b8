/* Guards the CUDA back end on the fake device, which runs the kernels that nvcc compiles: logits
 * that differ from the CPU's in any bit, threads that depend on each other between two barriers, a
 * device whose failure changes the answer or leaves memory behind, and a GPU that is used where
 * nobody asked. What only a GPU can show is in suite_device.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/generate.h"
#include "engine/session.h"
#include "engine/tap.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/fake_cuda.h"
#include "testkit/suites/mock_support.h"

static const int32_t story[] = {2045, 394, 401, 258, 372, 44, 382, 280, 267, 300, 12, 77};
enum { STORY = sizeof story / sizeof story[0], GREEDY = 256 };

static char warned[1024];
static int n_warned;

static void keep_warning(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)hint;
    n_warned++;
    snprintf(warned, sizeof warned, "%s", what);
}

/* A session of the bundled model on the fake device. */
static struct bnt_session_options on_fake(const struct fake_cuda_plan *plan)
{
    static const struct fake_cuda_plan sound;
    fake_cuda_reset(plan ? plan : &sound);
    cuda_table_use(fake_cuda_table());
    n_warned = 0;
    return (struct bnt_session_options){.device = "cuda", .n_threads = 1, .warn = keep_warning};
}

static void assert_nothing_held(void)
{
    struct fake_cuda_counts c = fake_cuda_count();
    assert_int_equal(c.contexts + c.allocations + c.bytes + c.graphs, 0);
}

/* Rows of the story, then of single ids after it. */
enum { SINGLES = 4 };
static float *some_logits(struct bnt_session *s)
{
    size_t n_vocab = bnt_session_n_vocab(s);
    float *all = malloc((STORY + SINGLES) * n_vocab * sizeof *all), *rows;
    int32_t ids[STORY];
    assert_non_null(all);
    for (int i = 0; i < STORY; i++) {
        ids[i] = story[i] % (int32_t)n_vocab;
    }
    rows = es_eval_rows(s, ids, STORY);
    memcpy(all, rows, STORY * n_vocab * sizeof *all);
    free(rows);
    for (int i = 0; i < SINGLES; i++) {
        struct bnt_err err = {0};
        int32_t id = 40 + i;
        es_ok(bnt_session_eval(s, &id, 1, &err), &err);
        memcpy(all + (STORY + (size_t)i) * n_vocab, bnt_session_logits(s), n_vocab * sizeof *all);
    }
    return all;
}

static void assert_same_logits(const char *path, struct bnt_session_options gpu)
{
    struct bnt_session_options cpu = {
        .n_threads = 1, .kv_type = gpu.kv_type, .n_ctx = gpu.n_ctx, .n_batch = gpu.n_batch};
    struct es_engine e;
    es_open(&e, path, &cpu);
    size_t bytes = (STORY + SINGLES) * (size_t)bnt_session_n_vocab(e.session) * sizeof(float);
    float *wanted = some_logits(e.session);
    es_close(&e);
    es_open(&e, path, &gpu);
    assert_string_equal(bnt_session_device(e.session), "cuda:0");
    float *got = some_logits(e.session);
    assert_string_equal(bnt_session_device(e.session), "cuda:0");
    const struct backend_cuda *b = (const struct backend_cuda *)(const void *)e.session->backend;
    assert_non_null(b->step_graphs[0]); /* a lone token is a graph, whatever its weights */
    es_close(&e);
    assert_memory_equal(got, wanted, bytes);
    free(got);
    free(wanted);
    assert_nothing_held();
}

static void the_logits_are_the_cpus_bit_for_bit(void **state)
{
    (void)state;
    struct bnt_session_options so = on_fake(NULL);
    assert_same_logits(suite_bundled_model(), so);
    so = on_fake(&(struct fake_cuda_plan){.no_mma = true, .downwards = true});
    so.kv_type = BNT_KV_F32;
    so.n_batch = 5;
    assert_same_logits(suite_bundled_model(), so);
}

static void greedy(struct bnt_session_options so, int32_t *ids)
{
    struct es_engine e;
    struct bnt_err err = {0};
    es_open(&e, suite_bundled_model(), &so);
    struct bnt_candidate best[4];
    uint32_t n = 0;
    es_ok(bnt_session_eval_best(e.session, story, STORY, 4, best, &n, &err), &err);
    for (int i = 0; i < GREEDY; i++) {
        assert_int_equal(n, 4);
        ids[i] = best[0].id;
        es_ok(bnt_session_eval_best(e.session, &ids[i], 1, 4, best, &n, &err), &err);
    }
    es_close(&e);
}

static void greedy_gives_the_cpus_256_tokens(void **state)
{
    (void)state;
    int32_t gpu[GREEDY], cpu[GREEDY];
    greedy(on_fake(NULL), gpu);
    greedy((struct bnt_session_options){.n_threads = 1}, cpu);
    assert_memory_equal(gpu, cpu, sizeof gpu);
    assert_int_equal(n_warned, 0);
    assert_nothing_held();
}

/* ---- other models ---- */

static void models_of_other_types_give_the_cpus_logits(void **state)
{
    (void)state;
    /* Float and block types in layers and head, few heads, a step that does not fit into a block's
     * memory, a context whose scores do not. */
    static const struct bnt_mock_recipe recipes[] = {
        {.type = "f16", .embd_type = "bf16", .n_vocab = 512, .seed = 1},
        {.type = "q8_0", .embd_type = "q6_k", .n_vocab = 512, .seed = 2},
        {.arch = "llama", .type = "bf16", .embd_type = "f32", .n_head = 2, .seed = 3},
        {.arch = "qwen2", .type = "i2_s", .layout = "64/16", .n_vocab = 600, .seed = 4},
        {.type = "tq2_0", .n_ctx = 16384, .n_layer = 1, .seed = 5},
        {.arch = "qwen3", .type = "i2_s", .n_vocab = 600, .seed = 6},
        {.arch = "qwen3", .type = "q1_0", .embd_type = "q2_0", .seed = 7},
        {.arch = "minicpm", .type = "i2_s", .n_vocab = 600, .seed = 8},
        {.arch = "minicpm", .type = "f16", .seed = 9},
    };
    for (size_t i = 0; i < sizeof recipes / sizeof recipes[0]; i++) {
        struct bnt_session_options so = on_fake(&(struct fake_cuda_plan){.downwards = i % 2});
        so.n_ctx = recipes[i].n_ctx ? 16384 : 64;
        assert_same_logits(ms_make("model.gguf", &recipes[i], NULL), so);
    }
}

/* At most three bits a weight, where a model has one or two. */
static void blocks_of_codes_stay_codes_on_the_device(void **state)
{
    (void)state;
    static const char *const types[] = {"q1_0", "q2_0"};
    for (int i = 0; i < 2; i++) {
        struct bnt_mock_recipe recipe = {.arch = "qwen3", .type = types[i], .seed = 7};
        struct bnt_session_options so = on_fake(NULL);
        struct es_engine e;
        es_open(&e, ms_make("model.gguf", &recipe, NULL), &so);
        const struct backend_cuda *b =
            (const struct backend_cuda *)(const void *)e.session->backend;
        for (int w = 0; w < N_LAYER_WEIGHTS; w++) {
            const struct cuda_weight *m = &b->w->layers[0].w[w];
            assert_int_equal(m->type, CUDA_CODES);
            assert_true(m->row_bytes <= m->cols * 3 / 8 + CUDA_CODES_BYTES);
        }
        es_close(&e);
    }
}

/* ---- taps ---- */

struct tapped {
    unsigned char *bytes;
    size_t n;
};

static void keep_row(void *ctx, const struct bnt_tap_row *row)
{
    struct tapped *t = ctx;
    size_t bytes = row->n * sizeof *row->values;
    t->bytes = realloc(t->bytes, t->n + sizeof row->op + bytes);
    assert_non_null(t->bytes);
    memcpy(t->bytes + t->n, &row->op, sizeof row->op);
    memcpy(t->bytes + t->n + sizeof row->op, row->values, bytes);
    t->n += sizeof row->op + bytes;
}

static struct tapped tap_all(struct bnt_session_options so)
{
    struct es_engine e;
    struct bnt_err err = {0};
    struct tapped t = {0};
    es_open(&e, suite_bundled_model(), &so);
    bnt_session_set_tap(e.session, &(struct bnt_tap){keep_row, &t});
    es_ok(bnt_session_eval(e.session, story, 3, &err), &err);
    es_ok(bnt_session_eval(e.session, story + 3, 1, &err), &err);
    es_close(&e);
    return t;
}

static void a_tap_sees_the_cpus_rows(void **state)
{
    (void)state;
    struct tapped gpu = tap_all(on_fake(NULL));
    struct tapped cpu = tap_all((struct bnt_session_options){.n_threads = 1});
    assert_int_equal(gpu.n, cpu.n);
    assert_memory_equal(gpu.bytes, cpu.bytes, cpu.n);
    free(gpu.bytes);
    free(cpu.bytes);
}

/* ---- sampling ---- */

enum { SAMPLED = 12 };

static void generate(struct bnt_session_options so, int32_t top_k, int32_t ids[SAMPLED])
{
    struct es_engine e;
    struct bnt_err err = {0};
    struct bnt_sampler *sampler = NULL;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    struct bnt_generate_params gp = {.max_tokens = SAMPLED, .ignore_eos = true};
    struct bnt_generation g;
    p.temperature = top_k ? 0.9 : 0;
    p.top_k = top_k;
    p.top_p = 0.9;
    p.seed = 11;
    es_open(&e, suite_bundled_model(), &so);
    es_ok(bnt_sampler_new(&p, (int32_t)bnt_session_n_vocab(e.session), &sampler, &err), &err);
    bnt_generation_init(&g);
    es_ok(
        bnt_generate(e.session, bnt_model_tokenizer(e.model), sampler, story, STORY, &gp, &g, &err),
        &err);
    assert_int_equal(g.ids.n, SAMPLED);
    memcpy(ids, g.ids.at, SAMPLED * sizeof *ids);
    bnt_generation_release(&g);
    bnt_sampler_free(sampler);
    es_close(&e);
}

static void sampling_on_the_device_draws_the_same_ids(void **state)
{
    (void)state;
    static const int32_t ks[] = {0, 40, 65};
    for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
        int32_t gpu[SAMPLED], cpu[SAMPLED];
        generate(on_fake(NULL), ks[i], gpu);
        generate((struct bnt_session_options){.n_threads = 1}, ks[i], cpu);
        assert_memory_equal(gpu, cpu, sizeof gpu);
    }
}

/* ---- failures ---- */

static enum bnt_status open_on(struct es_engine *e, struct bnt_session_options *so,
                               struct bnt_err *err)
{
    struct bnt_model_options mo = {.i2s_layout = "128/32", .session = so};
    es_ok(bnt_model_open(suite_bundled_model(), &mo, &e->model, err), err);
    enum bnt_status st = bnt_session_new(e->model, so, &e->session, err);
    if (st != BNT_OK) {
        bnt_model_close(e->model);
    }
    return st;
}

static void a_device_that_fails_is_replaced_with_the_same_ids(void **state)
{
    (void)state;
    /* The launches of a run: about 70 for the prompt, 22 and 3 for every token. */
    static const struct fake_cuda_plan plans[] = {
        {.alloc_fails = 1},   {.alloc_fails = 2},  {.alloc_fails = 3},   {.alloc_fails = 5},
        {.open_fails = true}, {.launch_fails = 1}, {.launch_fails = 75}, {.launch_fails = 200},
        {.lost_at = 1},       {.lost_at = 68},     {.lost_at = 101},     {.lost_at = 303},
        {.memory = 100000},
    };
    int32_t wanted[SAMPLED], got[SAMPLED];
    generate((struct bnt_session_options){.n_threads = 1}, 40, wanted);
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        generate(on_fake(&plans[i]), i % 2 ? 40 : 65, got);
        if (i % 2) {
            assert_memory_equal(got, wanted, sizeof got);
        }
        assert_int_equal(n_warned, 1);
        assert_non_null(strstr(warned, "CPU"));
        assert_nothing_held();
    }
}

static void without_fall_back_a_failure_is_an_error(void **state)
{
    (void)state;
    static const struct {
        struct fake_cuda_plan plan;
        bool at_start;
        enum bnt_status status;
    } cases[] = {
        {{.alloc_fails = 2}, true, BNT_E_MEMORY},   {{.open_fails = true}, true, BNT_E_DEVICE},
        {{.launch_fails = 3}, false, BNT_E_DEVICE}, {{.lost_at = 69}, false, BNT_E_DEVICE},
        {{.lost_at = 71}, false, BNT_E_DEVICE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_session_options so = on_fake(&cases[i].plan);
        struct es_engine e;
        struct bnt_err err = {0};
        so.fallback = "never";
        enum bnt_status st = open_on(&e, &so, &err);
        assert_int_equal(st, cases[i].at_start ? cases[i].status : BNT_OK);
        for (size_t t = 0; st == BNT_OK && t < STORY; t++) {
            st = bnt_session_eval(e.session, &story[t], 1, &err);
        }
        assert_int_equal(st, cases[i].status);
        assert_non_null(strstr(err.msg, "cuda:0"));
        if (!cases[i].at_start) {
            es_close(&e);
        }
        assert_int_equal(n_warned, 0);
        assert_nothing_held();
    }
}

static void a_device_slower_than_asked_for_is_left(void **state)
{
    (void)state;
    struct bnt_session_options so = on_fake(NULL);
    struct es_engine e;
    struct bnt_err err = {0};
    so.fallback = "below:100000000"; /* ten nanoseconds a token */
    es_ok(open_on(&e, &so, &err), &err);
    for (int i = 0; i < 17; i++) {
        es_ok(bnt_session_eval(e.session, story, 1, &err), &err);
        assert_string_equal(bnt_session_device(e.session), i < 15 ? "cuda:0" : "cuda:0, then cpu");
    }
    assert_int_equal(n_warned, 1);
    assert_non_null(strstr(warned, "below the 1e+08"));
    es_close(&e);
    bnt_clock_fake(1000); /* no time passes: no rate is too low */
    so = on_fake(NULL);
    so.fallback = "below:1000";
    es_ok(open_on(&e, &so, &err), &err);
    for (int i = 0; i < 17; i++) {
        es_ok(bnt_session_eval(e.session, story, 1, &err), &err);
    }
    assert_string_equal(bnt_session_device(e.session), "cuda:0");
    es_close(&e);
}

/* ---- which device ---- */

static void what_was_asked_for_is_done_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *device, *fallback;
        bool absent;
        enum bnt_status status;
        const char *got;
    } cases[] = {
        {"cpu", NULL, false, BNT_OK, "cpu"},
        {"cuda", NULL, false, BNT_OK, "cuda:0"},
        {"cuda:0", "never", false, BNT_OK, "cuda:0"},
        {"cuda:1", NULL, false, BNT_E_DEVICE, NULL},
        {"cuda", NULL, true, BNT_E_DEVICE, NULL},
        {"auto", NULL, true, BNT_OK, "cpu"},
        {"gpu", NULL, false, BNT_E_USAGE, NULL},
        {"cuda:", NULL, false, BNT_E_USAGE, NULL},
        {"cuda:x", NULL, false, BNT_E_USAGE, NULL},
        {"cuda", "sometimes", false, BNT_E_USAGE, NULL},
        {"cuda", "below:0", false, BNT_E_USAGE, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_session_options so =
            on_fake(&(struct fake_cuda_plan){.absent = cases[i].absent});
        struct es_engine e;
        struct bnt_err err = {0};
        so.device = cases[i].device;
        so.fallback = cases[i].fallback;
        assert_int_equal(open_on(&e, &so, &err), cases[i].status);
        if (cases[i].got) {
            assert_string_equal(bnt_session_device(e.session), cases[i].got);
            es_close(&e);
        }
        assert_int_equal(n_warned, 0);
    }
}

static void weights_on_their_way_can_be_interrupted(void **state)
{
    (void)state;
    static const struct {
        const char *device;
        enum bnt_status status;
    } cases[] = {{"cuda", BNT_E_INTERRUPTED}, {"auto", BNT_OK}};
    volatile sig_atomic_t interrupted = 1;
    setenv("BNT_CACHE_DIR", suite_scratch(), 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_session_options so = on_fake(NULL);
        struct es_engine e;
        struct bnt_err err = {0};
        so.device = cases[i].device;
        so.interrupted = &interrupted;
        assert_int_equal(open_on(&e, &so, &err), cases[i].status);
        if (cases[i].status == BNT_OK) {
            assert_string_equal(bnt_session_device(e.session), "cpu");
            assert_int_equal(bnt_session_eval(e.session, story, 1, &err), BNT_E_INTERRUPTED);
            es_close(&e);
        }
        assert_int_equal(n_warned, 0);
        assert_nothing_held();
    }
}

/* The fake device is slower than the CPU, and can be wrong. */
static void auto_measures_once_and_believes_only_equal_logits(void **state)
{
    (void)state;
    for (int wrong = 1; wrong >= 0; wrong--) {
        struct bnt_session_options so = on_fake(&(struct fake_cuda_plan){.wrong_sum = wrong});
        struct es_engine e;
        struct bnt_err err = {0};
        setenv("BNT_CACHE_DIR", suite_scratch(), 1);
        so.device = "auto";
        es_ok(open_on(&e, &so, &err), &err);
        assert_string_equal(bnt_session_device(e.session), "cpu");
        es_close(&e);
        assert_int_equal(n_warned, wrong);
        assert_int_equal(fake_cuda_count().launches > 0, wrong); /* the verdict is remembered */
    }
    assert_non_null(strstr(warned, "logits differ"));
}

static void the_fake_says_what_it_is(void **state)
{
    (void)state;
    struct bnt_session_options so = on_fake(NULL);
    struct es_engine e;
    struct bnt_err err = {0};
    es_ok(open_on(&e, &so, &err), &err);
    assert_non_null(strstr(bnt_session_kernel_note(e.session), "this is no GPU"));
    es_close(&e);
}

/* ---- memory ---- */

/* The shapes of a model without its bytes. */
static void describe(struct bnt_model *m, const uint32_t dims[8])
{
    static struct layer layers[64];
    m->info = (struct bnt_model_info){.n_layer = dims[0],
                                      .n_embd = dims[1],
                                      .n_ff = dims[2],
                                      .n_head = dims[3],
                                      .n_head_kv = dims[4],
                                      .head_dim = dims[5],
                                      .n_vocab = dims[6],
                                      .n_ctx_train = dims[7],
                                      .tied_head = true};
    m->rope.n_rot = dims[5];
    m->layers = layers;
    m->embd = m->head = (struct weight){
        .type = TENSOR_F16, .rows = dims[6], .cols = dims[1], .row_bytes = 2ull * dims[1]};
    uint32_t q = dims[3] * dims[5], kv = dims[4] * dims[5];
    const uint32_t shapes[N_LAYER_WEIGHTS][2] = {
        {q, dims[1]},       {kv, dims[1]},      {kv, dims[1]},     {dims[1], q},
        {dims[2], dims[1]}, {dims[2], dims[1]}, {dims[1], dims[2]}};
    for (uint32_t il = 0; il < dims[0]; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            layers[il].w[i] = (struct weight){.ternary = true,
                                              .type = TENSOR_I2_S,
                                              .rows = shapes[i][0],
                                              .cols = shapes[i][1],
                                              .row_bytes = ternary_row_bytes(shapes[i][1])};
        }
    }
}

static void the_2b_shape_at_4096_positions_takes_less_than_4_gb(void **state)
{
    (void)state;
    static struct bnt_model m;
    describe(&m, (const uint32_t[8]){30, 2560, 6912, 20, 5, 128, 128256, 4096});
    struct backend_config c = {.n_ctx = 4096, .n_batch = 512, .n_seq = 1, .kv_type = BNT_KV_F16};
    struct cuda_memory need = cuda_memory_need(&m, &c);
    uint64_t all = need.weights + need.kv + need.scratch;
    suite_metric("device_mb", (double)all / 1e6, "MB");
    assert_true(need.weights > 1170000000 && need.weights < 1190000000);
    assert_int_equal(need.kv, 2ull * 30 * 5 * 128 * 4096 * 2);
    assert_true(all < 4000000000u);
}

static void what_does_not_fit_takes_nothing(void **state)
{
    (void)state;
    struct bnt_session_options so = on_fake(NULL);
    struct es_engine e;
    struct bnt_err err = {0};
    uint64_t before = fake_cuda_count().most_bytes;
    so.fallback = "never";
    so.device_memory = 1 << 20;
    assert_int_equal(open_on(&e, &so, &err), BNT_E_MEMORY);
    assert_non_null(strstr(err.msg, "--device-memory"));
    assert_int_equal(fake_cuda_count().most_bytes, before);
    assert_nothing_held();
}

static void a_thousand_sessions_leave_nothing(void **state)
{
    (void)state;
    struct bnt_session_options so = on_fake(NULL);
    struct es_engine e;
    struct bnt_err err = {0};
    so.n_ctx = 16;
    es_ok(open_on(&e, &so, &err), &err);
    bnt_session_free(e.session);
    for (int i = 0; i < 1000; i++) {
        es_ok(bnt_session_new(e.model, &so, &e.session, &err), &err);
        if (i % 100 == 0) {
            es_ok(bnt_session_eval(e.session, story, 1, &err), &err);
        }
        bnt_session_free(e.session);
        assert_nothing_held();
    }
    bnt_model_close(e.model);
}

/* Two sessions of one model: what the second one puts up and takes is its own cache and scratch,
 * both answer as they would alone, and the weights stay until the last one goes. */
static void sessions_of_a_model_share_its_weights(void **state)
{
    (void)state;
    struct bnt_session_options so = on_fake(NULL);
    struct es_engine e;
    struct bnt_session *second = NULL;
    struct bnt_err err = {0};
    so.n_ctx = 64;
    es_ok(open_on(&e, &so, &err), &err);
    struct fake_cuda_counts one = fake_cuda_count();
    es_ok(bnt_session_new(e.model, &so, &second, &err), &err);
    struct fake_cuda_counts two = fake_cuda_count();
    assert_true(two.uploaded_bytes - one.uploaded_bytes < one.uploaded_bytes / 20);
    assert_true(two.bytes - one.bytes < one.bytes - 1000000);
    assert_int_equal(two.contexts, one.contexts + 1);
    float *wanted = some_logits(e.session);
    bnt_session_free(e.session);
    e.session = second;
    float *got = some_logits(second);
    assert_memory_equal(got, wanted,
                        (STORY + SINGLES) * (size_t)bnt_session_n_vocab(second) * sizeof *got);
    free(got);
    free(wanted);
    es_close(&e);
    assert_nothing_held();
}

static const struct suite_test tests[] = {
    {.name = "the_logits_are_the_cpus_bit_for_bit", .body = the_logits_are_the_cpus_bit_for_bit},
    {.name = "greedy_gives_the_cpus_256_tokens",
     .body = greedy_gives_the_cpus_256_tokens,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "models_of_other_types_give_the_cpus_logits",
     .body = models_of_other_types_give_the_cpus_logits,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "blocks_of_codes_stay_codes_on_the_device",
     .body = blocks_of_codes_stay_codes_on_the_device},
    {.name = "a_tap_sees_the_cpus_rows", .body = a_tap_sees_the_cpus_rows},
    {.name = "sampling_on_the_device_draws_the_same_ids",
     .body = sampling_on_the_device_draws_the_same_ids,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "a_device_that_fails_is_replaced_with_the_same_ids",
     .body = a_device_that_fails_is_replaced_with_the_same_ids,
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "without_fall_back_a_failure_is_an_error",
     .body = without_fall_back_a_failure_is_an_error},
    {.name = "a_device_slower_than_asked_for_is_left",
     .body = a_device_slower_than_asked_for_is_left},
    {.name = "what_was_asked_for_is_done_or_refused",
     .body = what_was_asked_for_is_done_or_refused},
    {.name = "weights_on_their_way_can_be_interrupted",
     .body = weights_on_their_way_can_be_interrupted},
    {.name = "auto_measures_once_and_believes_only_equal_logits",
     .body = auto_measures_once_and_believes_only_equal_logits},
    {.name = "the_fake_says_what_it_is", .body = the_fake_says_what_it_is},
    {.name = "the_2b_shape_at_4096_positions_takes_less_than_4_gb",
     .body = the_2b_shape_at_4096_positions_takes_less_than_4_gb},
    {.name = "what_does_not_fit_takes_nothing", .body = what_does_not_fit_takes_nothing},
    {.name = "sessions_of_a_model_share_its_weights",
     .body = sessions_of_a_model_share_its_weights},
    {.name = "a_thousand_sessions_leave_nothing", .body = a_thousand_sessions_leave_nothing},
    {0},
};

const struct suite suite_cuda = {
    "cuda", tests, "cuda_residual cuda_position cuda_preflight cuda_leak cuda_weights_twice"};
