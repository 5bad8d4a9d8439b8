/* Guards the draw of an id on the device, on the fake one: an id that the processor's sampler would
 * not have drawn, a random number that is used twice or never, logits that come back although only
 * the id was wanted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/cpu/fmath.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/cuda/draw_math.h"
#include "engine/cuda/launches.h"
#include "engine/generate.h"
#include "engine/sampler.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/fake_cuda.h"

enum { N_VOCAB = 3000, DRAWS = 300 };

/* ---- the exponential ---- */

static void assert_same_exp(double x)
{
    double got = exp_f64(x), wanted = fm_exp(x);
    assert_memory_equal(&got, &wanted, sizeof got);
}

static void the_exponential_is_the_samplers(void **state)
{
    (void)state;
    static const double edges[] = {0, -0.0, -745.2, -745.3, -708.4, -1e300, -1e-300, -INFINITY};
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 5);
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
        assert_same_exp(edges[i]);
    }
    for (int i = 0; i < 200000; i++) {
        assert_same_exp(-bnt_rng_unit(&rng) * (i % 2 ? 750 : 20));
    }
}

/* ---- kernels against the sampler ---- */

/* Logits as models have them, and as they should not have them: ties, no numbers, hardly any. */
static void make_row(float *row, uint32_t kind, struct bnt_rng *rng)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f};
    for (uint32_t i = 0; i < N_VOCAB; i++) {
        float x = (float)(bnt_rng_unit(rng) * 24 - 12);
        row[i] = kind == 0   ? x
                 : kind == 1 ? floorf(x / 6)
                 : kind == 2 ? (i % 7 ? x * 1e20f : odd[i / 7 % 5])
                 : kind == 3 ? (i % 1000 == 3 ? x : NAN)
                             : NAN;
    }
}

/* What the kernels need of a device, kept for all draws. */
struct device {
    const struct cuda_table *t;
    struct cuda_context *context;
    float *row;
    struct cuda_candidate *first, *best, *out;
    struct cuda_draw *how;
};

static void *room(struct device *d, uint64_t bytes)
{
    void *p = NULL;
    assert_int_equal(d->t->alloc(d->context, bytes, &p), CUDA_OK);
    return p;
}

static void open_device(struct device *d, bool downwards)
{
    fake_cuda_reset(&(struct fake_cuda_plan){.downwards = downwards});
    d->t = fake_cuda_table();
    assert_int_equal(d->t->open(0, 0, &d->context), CUDA_OK);
    d->row = room(d, N_VOCAB * sizeof *d->row);
    d->first = room(d, 2 * CUDA_PICK_MAX * sizeof *d->first);
    d->best = room(d, CUDA_PICK_MAX * sizeof *d->best);
    d->out = room(d, 2 * sizeof *d->out);
    d->how = room(d, sizeof *d->how);
}

static void launch(struct device *d, struct cuda_launch l)
{
    assert_int_equal(d->t->launch(d->context, &l), CUDA_OK);
}

static int32_t draw_on(struct device *d, const float *row, const struct bnt_near *near)
{
    struct cuda_draw how = {near->draw->temperature, near->draw->top_p, near->draw->min_p_log,
                            near->draw->unit};
    struct cuda_pick_args a = {.logits = d->row, .n = N_VOCAB, .k = near->k, .out = d->first};
    struct cuda_draw_args draw = {.list = d->best, .k = near->k, .how = d->how, .out = d->out};
    struct cuda_candidate got;
    assert_int_equal(d->t->upload(d->context, d->row, row, N_VOCAB * sizeof *row), CUDA_OK);
    assert_int_equal(d->t->upload(d->context, d->how, &how, sizeof how), CUDA_OK);
    launch(d, launch_of_pick(&a, 1));
    a = (struct cuda_pick_args){.list = d->first, .n = 2 * near->k, .k = near->k, .out = d->best};
    launch(d, launch_of_pick(&a, 1));
    launch(d, launch_of_draw(&draw));
    assert_int_equal(d->t->download(d->context, &got, d->out, sizeof got), CUDA_OK);
    return got.id;
}

static struct bnt_sampler *sampler_of(const struct bnt_sampler_params *p, uint64_t seed)
{
    struct bnt_sampler_params seeded = *p;
    struct bnt_sampler *s = NULL;
    struct bnt_err err = {0};
    seeded.seed = seed;
    es_ok(bnt_sampler_new(&seeded, N_VOCAB, &s, &err), &err);
    return s;
}

/* One draw by both; a row without a number is the host's to refuse, and uses no random number. */
static void draw_by_both(struct device *d, struct bnt_sampler *host, struct bnt_sampler *device,
                         const float *row)
{
    static float copy[N_VOCAB];
    struct bnt_near near = {0};
    struct bnt_err err = {0};
    int32_t wanted = -1, got = -1;
    memcpy(copy, row, sizeof copy);
    enum bnt_status st = bnt_sampler_next(host, copy, &wanted, &err);
    assert_true(bnt_sampler_near(device, &near));
    assert_non_null(near.draw);
    near.drawn = draw_on(d, row, &near);
    assert_int_equal(near.drawn, wanted);
    assert_int_equal(bnt_sampler_next_near(device, &near, &got, &err), st);
    assert_int_equal(got, wanted);
}

static void draws_are_the_samplers(void **state)
{
    (void)state;
    static const struct bnt_sampler_params cases[] = {
        {.temperature = 1, .top_k = 40, .top_p = 1, .typical_p = 1, .repeat_penalty = 1},
        {.temperature = 0.7, .top_k = 64, .top_p = 0.9, .typical_p = 1, .repeat_penalty = 1},
        {.temperature = 2.5, .top_k = 5, .top_p = 0.3, .typical_p = 1, .repeat_penalty = 1},
        {.temperature = 1e-3, .top_k = 2, .top_p = 1, .typical_p = 1, .repeat_penalty = 1},
        {.temperature = 30, .top_k = 1, .top_p = 1, .min_p = 0.5, .typical_p = 1},
        {.temperature = 9, .top_k = 63, .top_p = 0.99, .min_p = 0.02, .typical_p = 1},
        {.temperature = 1e30, .top_k = 33, .top_p = 1, .min_p = 1e-9, .typical_p = 1},
        {.temperature = 1e-300, .top_k = 8, .top_p = 1e-12, .typical_p = 1},
    };
    static float row[N_VOCAB];
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 3);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_sampler_params p = cases[i];
        struct device d;
        p.repeat_penalty = 1;
        open_device(&d, i % 2);
        struct bnt_sampler *host = sampler_of(&p, 17 * i), *device = sampler_of(&p, 17 * i);
        for (uint32_t n = 0; n < DRAWS; n++) {
            make_row(row, n % 5, &rng);
            draw_by_both(&d, host, device, row);
        }
        bnt_sampler_free(host);
        bnt_sampler_free(device);
        d.t->close(d.context);
    }
}

/* What the device cannot do stays with the host, which is asked without a draw. */
static void what_the_best_do_not_decide_is_not_drawn(void **state)
{
    (void)state;
    static const struct bnt_logit_bias bias = {1, 2.0f};
    struct bnt_sampler_params p = bnt_sampler_defaults();
    struct bnt_near near = {0};
    p.top_k = 40;
    const struct {
        double temperature, typical_p, repeat_penalty;
        size_t n_bias;
    } cases[] = {{0, 1, 1, 0}, {1, 0.5, 1, 0}, {1, 1, 1.1, 0}, {1, 1, 1, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        p.temperature = cases[i].temperature;
        p.typical_p = cases[i].typical_p;
        p.repeat_penalty = cases[i].repeat_penalty;
        p.bias = &bias;
        p.n_bias = cases[i].n_bias;
        struct bnt_sampler *s = sampler_of(&p, 1);
        assert_true(bnt_sampler_near(s, &near));
        assert_null(near.draw);
        assert_int_equal(near.drawn, -1);
        bnt_sampler_free(s);
    }
}

/* ---- a generation ---- */

static const int32_t story[] = {45, 394, 401, 258, 372, 44};
enum { STORY = sizeof story / sizeof story[0], IDS = 10 };

struct told {
    uint64_t drawn, left, back; /* back: bytes */
};

static struct told generate(const struct bnt_session_options *so, enum bnt_head_form head,
                            double typical_p, int32_t ids[IDS])
{
    struct es_engine e;
    struct bnt_err err = {0};
    struct bnt_model_options mo = {.i2s_layout = "128/32", .session = so, .head = head};
    struct bnt_sampler *sampler = NULL;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    struct bnt_generate_params gp = {.max_tokens = IDS, .ignore_eos = true};
    struct bnt_generation g;
    struct bnt_session_stats stats;
    p.temperature = 1.1;
    p.top_k = 20;
    p.top_p = 0.95;
    p.typical_p = typical_p;
    p.seed = 23;
    es_open_with(&e, suite_bundled_model(), &mo, so);
    es_ok(bnt_sampler_new(&p, (int32_t)bnt_session_n_vocab(e.session), &sampler, &err), &err);
    bnt_generation_init(&g);
    uint64_t before = fake_cuda_count().downloaded_bytes;
    es_ok(
        bnt_generate(e.session, bnt_model_tokenizer(e.model), sampler, story, STORY, &gp, &g, &err),
        &err);
    uint64_t back = fake_cuda_count().downloaded_bytes - before;
    assert_int_equal(g.ids.n, IDS);
    memcpy(ids, g.ids.at, IDS * sizeof *ids);
    bnt_session_stats(e.session, &stats);
    bnt_generation_release(&g);
    bnt_sampler_free(sampler);
    es_close(&e);
    return (struct told){stats.n_drawn, stats.n_not_drawn, back};
}

/* Eight bytes an id: it and a word that is not used; of a head that was screened a count of
 * rows, too. */
static void only_the_id_comes_back(void **state)
{
    (void)state;
    static const struct {
        enum bnt_head_form head;
        double typical_p;
        uint64_t drawn, least_back, most_back;
    } cases[] = {{BNT_HEAD_FULL, 1, IDS, IDS * 8, IDS * 8},
                 {BNT_HEAD_SCREENED, 1, IDS, IDS * 8 + 8, IDS * 16},
                 {BNT_HEAD_FULL, 0.9, 0, IDS * 20 * 8, IDS * 20 * 8}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_session_options cpu = {.n_threads = 1, .n_ctx = 64}, gpu = cpu;
        int32_t wanted[IDS], got[IDS];
        fake_cuda_reset(&(struct fake_cuda_plan){.downwards = i % 2});
        cuda_table_use(fake_cuda_table());
        gpu.device = "cuda";
        gpu.fallback = "never";
        struct told host = generate(&cpu, BNT_HEAD_FULL, cases[i].typical_p, wanted);
        struct told device = generate(&gpu, cases[i].head, cases[i].typical_p, got);
        assert_memory_equal(got, wanted, sizeof got);
        assert_int_equal(host.drawn, 0);
        assert_int_equal(device.drawn, cases[i].drawn);
        assert_int_equal(device.left, 0);
        assert_in_range(device.back, cases[i].least_back, cases[i].most_back);
    }
}

static const struct suite_test tests[] = {
    {.name = "cuda_draw_exponential_is_the_samplers", .body = the_exponential_is_the_samplers},
    {.name = "cuda_draw_ids_are_the_samplers", .body = draws_are_the_samplers},
    {.name = "cuda_draw_leaves_to_the_host_what_the_best_do_not_decide",
     .body = what_the_best_do_not_decide_is_not_drawn},
    {.name = "cuda_draw_brings_back_the_id_alone", .body = only_the_id_comes_back},
    {0},
};

const struct suite suite_cuda_draw = {"cuda_draw", tests, "cuda_draw_unit"};
