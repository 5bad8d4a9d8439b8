/* Guards the screened head: one of the best logits that is missing or differs from the whole
 * head's, a bound that does not hold, a copy where none is to be. */
#include "testkit/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/best.h"
#include "engine/bnt_infer.h"
#include "engine/cpu/screen_code.h"
#include "engine/cpu/tables.h"
#include "engine/generate.h"
#include "engine/model.h"
#include "engine/quantize_file.h"
#include "engine/sampler.h"
#include "engine/screen.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

enum { TOKENS = 40 };

struct pair {
    struct bnt_model *model[2]; /* whole, screened */
    struct bnt_session *session[2];
    uint32_t n_vocab;
};

static void open_pair_of(struct pair *p, const char *path, const char *kernel)
{
    struct bnt_err err = {0};
    struct bnt_session_options so = {.n_ctx = TOKENS + 8, .n_threads = 2, .kernel = kernel};
    for (int i = 0; i < 2; i++) {
        struct bnt_model_options mo = {.session = &so,
                                       .head = i ? BNT_HEAD_SCREENED : BNT_HEAD_FULL};
        es_ok(bnt_model_open(path, &mo, &p->model[i], &err), &err);
        es_ok(bnt_session_new(p->model[i], &so, &p->session[i], &err), &err);
        assert_int_equal(bnt_model_info(p->model[i])->screened, i == 1);
        assert_int_equal(bnt_session_has_best(p->session[i]), i == 1);
    }
    p->n_vocab = bnt_session_n_vocab(p->session[0]);
}

static void open_pair(struct pair *p, const char *kernel)
{
    open_pair_of(p, suite_bundled_model(), kernel);
}

static void close_pair(struct pair *p)
{
    for (int i = 0; i < 2; i++) {
        bnt_session_free(p->session[i]);
        bnt_model_close(p->model[i]);
    }
}

/* That best[n] are the n best of a row, each with its logit, bit for bit. */
static void check_best(const float *row, uint32_t n_vocab, const struct bnt_candidate *best,
                       uint32_t n)
{
    uint32_t before_last = 0;
    for (uint32_t i = 0; i < n; i++) {
        assert_memory_equal(&best[i].value, &row[best[i].id], sizeof(float));
        assert_true(i == 0 || best[i - 1].value > best[i].value ||
                    (best[i - 1].value == best[i].value && best[i - 1].id < best[i].id));
    }
    for (uint32_t id = 0; id < n_vocab; id++) {
        before_last += row[id] > best[n - 1].value ||
                       (row[id] == best[n - 1].value && (int32_t)id < best[n - 1].id);
    }
    assert_int_equal(before_last, n - 1);
}

static void best_logits_are_those_of_the_whole_row(void **state)
{
    (void)state;
    static const char *const kernels[] = {"auto", "ref"};
    static const uint32_t wanted[] = {1, 2, 20, BNT_BEST_MAX};
    for (size_t k = 0; k < 2; k++) {
        struct pair p;
        struct bnt_err err = {0};
        open_pair(&p, kernels[k]);
        for (uint32_t i = 0; i < TOKENS; i++) {
            struct bnt_candidate best[BNT_BEST_MAX];
            uint32_t n = 0, want = wanted[i % 4];
            int32_t id = (int32_t)(11 + i * 13 % 200);
            es_ok(bnt_session_eval(p.session[0], &id, 1, &err), &err);
            es_ok(bnt_session_eval_best(p.session[1], &id, 1, want, best, &n, &err), &err);
            assert_int_equal(n, want);
            check_best(bnt_session_logits(p.session[0]), p.n_vocab, best, n);
        }
        int32_t id = 5; /* whole rows stay as they are */
        es_ok(bnt_session_eval(p.session[0], &id, 1, &err), &err);
        es_ok(bnt_session_eval(p.session[1], &id, 1, &err), &err);
        assert_memory_equal(bnt_session_logits(p.session[0]), bnt_session_logits(p.session[1]),
                            p.n_vocab * sizeof(float));
        close_pair(&p);
    }
}

/* Ids into ids; returns how many were drafted. */
static uint64_t generate(struct bnt_session *s, const struct bnt_tokenizer *t,
                         const struct bnt_sampler_params *params, uint32_t speculate,
                         int32_t ids[TOKENS])
{
    static const int32_t prompt[] = {11, 7, 120, 33};
    struct bnt_err err = {0};
    struct bnt_sampler *sampler = NULL;
    struct bnt_generate_params gp = {
        .max_tokens = TOKENS, .ignore_eos = true, .speculate = speculate};
    struct bnt_generation g;
    bnt_generation_init(&g);
    es_ok(bnt_session_rewind(s, 0, &err), &err);
    es_ok(bnt_sampler_new(params, (int32_t)bnt_session_n_vocab(s), &sampler, &err), &err);
    es_ok(bnt_generate(s, t, sampler, prompt, 4, &gp, &g, &err), &err);
    assert_int_equal(g.ids.n, TOKENS);
    memcpy(ids, g.ids.at, TOKENS * sizeof *ids);
    uint64_t drafted = g.speculation.drafted;
    bnt_generation_release(&g);
    bnt_sampler_free(sampler);
    return drafted;
}

enum { SETTINGS = 14, BIASES = 6 };

/* Settings that look at few logits, the first two plain: penalties that lower and that raise,
 * windows of all lengths, biases of which some meet and some ban. */
static struct bnt_sampler_params draw_settings(struct bnt_rng *rng, int i,
                                               struct bnt_logit_bias bias[BIASES])
{
    static const int32_t windows[] = {-1, 0, 3, 64};
    struct bnt_sampler_params p = bnt_sampler_defaults();
    if (i % 2 == 1) {
        p.temperature = 0.5 + bnt_rng_unit(rng);
        p.top_k = 1 + (int32_t)bnt_rng_below(rng, BNT_BEST_MAX);
        p.top_p = 0.5 + bnt_rng_unit(rng) / 2;
        p.seed = (uint64_t)i;
    }
    if (i > 1) {
        p.repeat_penalty = 0.7 + 2 * bnt_rng_unit(rng);
        p.frequency_penalty = 6 * bnt_rng_unit(rng) - 2;
        p.presence_penalty = 6 * bnt_rng_unit(rng) - 2;
        p.penalty_last_n = windows[i / 2 % 4];
    }
    for (int b = 0; b < BIASES; b++) {
        bias[b] = (struct bnt_logit_bias){.id = (int32_t)bnt_rng_below(rng, 40),
                                          .bias = b == 0 ? -INFINITY
                                                         : (float)(24 * bnt_rng_unit(rng) - 8)};
    }
    if (i > 5) {
        p.bias = bias;
        p.n_bias = BIASES;
    }
    return p;
}

/* Closes the pair. Returns how many tokens were drafted. */
static uint64_t check_generations(struct pair *p, int settings)
{
    struct bnt_rng rng;
    uint64_t drafted = 0;
    bnt_rng_seed(&rng, 20);
    for (int k = 0; k < settings; k++) {
        int32_t ids[2][TOKENS];
        struct bnt_logit_bias bias[BIASES];
        struct bnt_sampler_params params = draw_settings(&rng, k, bias);
        for (int i = 0; i < 2; i++) {
            uint32_t speculate = i == 1 && k % 4 > 1 ? 12 : 0;
            drafted += generate(p->session[i], bnt_model_tokenizer(p->model[i]), &params, speculate,
                                ids[i]);
        }
        assert_memory_equal(ids[0], ids[1], sizeof ids[0]);
    }
    close_pair(p);
    return drafted;
}

static void generations_have_the_same_tokens(void **state)
{
    (void)state;
    struct pair p;
    open_pair(&p, "auto");
    assert_true(check_generations(&p, SETTINGS) > 20);
}

static void heads_in_blocks_are_screened_too(void **state)
{
    (void)state;
    static const char *const types[] = {"q8_0", "q6_k", "q4_0"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct pair p;
        struct bnt_err err = {0};
        struct mwrite_report report;
        const char *path = ms_path(types[i]);
        const struct bnt_quantize_options o = {
            .type = TENSOR_I2_S, .embedding = tensor_type_find(types[i]), .i2s_layout = "128/32"};
        es_ok(bnt_quantize(suite_bundled_model(), path, &o, &report, &err), &err);
        open_pair_of(&p, path, "auto");
        (void)check_generations(&p, SETTINGS / 4);
    }
}

struct rows_seen {
    uint32_t n_vocab;
    struct bnt_near near[20];
};

static enum bnt_status check_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    const struct rows_seen *seen = ctx;
    (void)err;
    check_best(logits, seen->n_vocab, seen->near[index].best, seen->near[index].n_best);
    return BNT_OK;
}

/* More rows than are scored together, asked for in an order of which a part goes back. */
static void check_rows_of_a_step(struct pair *p)
{
    enum { N = 20 };
    int32_t ids[N];
    struct bnt_err err = {0};
    struct rows_seen seen = {.n_vocab = p->n_vocab};
    for (uint32_t i = 0; i < N; i++) {
        ids[i] = (int32_t)(9 + 31 * i);
    }
    es_ok(bnt_session_push(p->session[1], ids, N, &err), &err);
    for (uint32_t i = 0; i < N + 4; i++) {
        uint32_t index = i < 12 ? i : i == 12 ? 3 : i < 16 ? i - 12 : i - 4;
        seen.near[index].k = 1 + index;
        es_ok(bnt_session_near_at(p->session[1], index, &seen.near[index], &err), &err);
    }
    struct bnt_near none = {.k = 1};
    assert_int_equal(bnt_session_near_at(p->session[1], N, &none, &err), BNT_E_USAGE);
    err = (struct bnt_err){0};
    es_ok(bnt_session_eval_each(p->session[0], ids, N, check_row, &seen, &err), &err);
}

/* Those that are asked for in any case are left out of the best, and a wrong id is refused. */
static void logits_come_beside_the_best(void **state)
{
    (void)state;
    struct pair p;
    struct bnt_err err = {0};
    open_pair(&p, "auto");
    for (uint32_t i = 0; i < 8; i++) {
        int32_t id = (int32_t)(11 + i * 13), also[3] = {2, (int32_t)(40 + i), 0};
        float beside[3];
        struct bnt_near near = {.k = 5, .also = also, .n_also = 3, .also_logits = beside};
        es_ok(bnt_session_eval(p.session[0], &id, 1, &err), &err);
        float *row = bnt_session_logits(p.session[0]);
        struct bnt_candidate first;
        best_of_row(row, p.n_vocab, 1, &first);
        also[2] = first.id;
        es_ok(bnt_session_eval_near(p.session[1], &id, 1, &near, &err), &err);
        assert_int_equal(near.n_best, 5);
        for (int a = 0; a < 3; a++) {
            assert_memory_equal(&beside[a], &row[also[a]], sizeof(float));
            row[also[a]] = -INFINITY;
        }
        check_best(row, p.n_vocab, near.best, near.n_best);
    }
    int32_t id = 5, outside = (int32_t)p.n_vocab;
    check_rows_of_a_step(&p);
    float logit;
    struct bnt_near near = {.k = 1, .also = &outside, .n_also = 1, .also_logits = &logit};
    assert_int_equal(bnt_session_eval_near(p.session[1], &id, 1, &near, &err), BNT_E_USAGE);
    close_pair(&p);
}

/* ---- when there is a copy ---- */

static char heard[200];

static void hear(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)hint;
    snprintf(heard, sizeof heard, "%s", what);
}

static unsigned packings;

static void count_packing(void *ctx, uint64_t bytes)
{
    (void)ctx;
    assert_true(bytes > 0);
    packings++;
}

/* Whether the bundled model is screened with these options; what was found, and made. */
static bool is_screened(struct bnt_model_options mo, uint64_t *found, uint64_t *made)
{
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_session_options so = {.n_ctx = 16, .n_threads = 1};
    heard[0] = '\0';
    mo.session = mo.session ? mo.session : &so;
    mo.warn = hear;
    mo.packing = count_packing;
    es_ok(bnt_model_open(suite_bundled_model(), &mo, &m, &err), &err);
    const struct bnt_model_info *info = bnt_model_info(m);
    bool screened = info->screened;
    *found = info->packed_bytes;
    *made = info->packed_made_bytes;
    assert_false(info->streamed);
    bnt_model_close(m);
    return screened;
}

static void auto_makes_a_copy_where_it_is_kept(void **state)
{
    (void)state;
    uint64_t found, made, first;
    char dir[BNT_PATH_MAX];
    snprintf(dir, sizeof dir, "%s/kept", suite_scratch());
    struct bnt_session_options gpu = {.n_ctx = 16, .device = "auto"};
    struct bnt_model_options mo = {.head = BNT_HEAD_AUTO};
    packings = 0;
    assert_false(is_screened(mo, &found, &made));
    mo.packed_dir = dir;
    assert_false(is_screened(mo, &found, &made)); /* too small to be kept */
    mo.packed_min_bytes = 1;
    mo.session = &gpu;
    assert_false(is_screened(mo, &found, &made)); /* a GPU may compute */
    mo.session = NULL;
    assert_int_equal(packings, 0);
    assert_true(is_screened(mo, &found, &first));
    /* The others: engine/columns.h, and engine/fives.h where it pays. */
    unsigned forms = 2u + cpu_fives_pay();
    assert_true(first > 0 && found == 0 && packings == forms);
    assert_true(is_screened(mo, &found, &made));
    assert_true(made == 0 && found == first && packings == forms);
}

static void a_copy_without_room_is_left_out(void **state)
{
    (void)state;
    uint64_t found, made;
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_session_options so = {.n_ctx = 16, .n_threads = 1};
    struct bnt_model_options mo = {.head = BNT_HEAD_SCREENED, .session = &so};
    es_ok(bnt_model_open(suite_bundled_model(), NULL, &m, &err), &err);
    mo.memory_limit = bnt_model_memory_need(m, &so) + 1000;
    bnt_model_close(m);
    assert_false(is_screened(mo, &found, &made));
    assert_non_null(strstr(heard, "does not fit into memory"));
    mo.memory_limit = 0;
    assert_true(is_screened(mo, &found, &made));
    assert_string_equal(heard, "");
}

/* What stands in a copy, by the words of its headers. */
static int level_of(const struct screen *s, int r, int c)
{
    int g = c % 128 / 32, half = c % 256 / 128, p = 32 * half + c % 32;
    const uint8_t *block = s->codes + (uint64_t)r * s->row_bytes + c / 256 * 160;
    int level = screen_levels[block[64 * (g / 2) + p] >> 4 * (g % 2) & 15];
    return block[128 + c % 32] >> (g + 4 * half) & 1 ? -level : level;
}

static int rest_of(const struct screen *s, int r, int c)
{
    uint8_t four = s->rest[(uint64_t)r * s->rest_bytes + (uint64_t)(c / 128 * 32 + c % 32)];
    return four >> (6 - 2 * (c % 128 / 32)) & 3;
}

static void check_length(bool broken, double length, double said)
{
    assert_true(broken ? isinf(said) : length <= said);
    assert_true(broken || said <= length * 1.000001 + 3e-45);
}

/* Rows at which codes are most likely to fail: nothing, one large value, subnormals, broken ones.
 */
static void a_copy_is_no_further_than_it_says(void **state)
{
    (void)state;
    enum { ROWS = 5, COLS = 300 };
    float w[ROWS][COLS] = {{0}};
    for (int c = 0; c < COLS; c++) {
        w[1][c] = c == 17 ? 1e30f : (float)(c % 7);
        w[2][c] = 1e-44f * (float)(c % 5);
        w[3][c] = c == 299 ? NAN : 1.0f;
        w[4][c] = sinf((float)c);
    }
    struct weight head = {.type = TENSOR_F32,
                          .rows = ROWS,
                          .cols = COLS,
                          .row_bytes = sizeof w[0],
                          .data = (const uint8_t *)w};
    assert_true(screen_fits(&head));
    struct bnt_err err = {0};
    uint8_t *copy = aligned_alloc(64, (screen_bytes(&head) + 63) / 64 * 64);
    assert_non_null(copy);
    assert_int_equal(screen_fill(&head, copy, NULL, &err), BNT_OK);
    struct screen s;
    screen_view(&head, copy, &s);
    for (int r = 0; r < ROWS; r++) {
        double errors = 0, left = 0;
        for (int c = 0; c < COLS; c++) {
            double step = (double)s.rows[r].step, e = (double)w[r][c] - step * level_of(&s, r, c);
            double f = e - step * (double)SCREEN_REST * (rest_of(&s, r, c) - 1.5);
            errors += e * e;
            left += f * f;
        }
        check_length(r == 3, sqrt(errors), (double)s.rows[r].error);
        check_length(r == 3, sqrt(left), (double)s.rows[r].left);
        assert_true(r != 4 || s.rows[r].left < 0.45f * s.rows[r].error);
    }
    free(copy);
}

static screen_code_fn *code_avx2(void)
{
#if defined(__x86_64__)
    if (!cpu_kernels_missing(&cpu_kernels_avx2)) {
        return screen_code_avx2;
    }
#endif
    return screen_code_ref;
}

/* A form is a function of the weights: what made it leaves no trace. */
static void every_instruction_set_makes_the_same_copy(void **state)
{
    (void)state;
    enum { COLS = 2560, BLOCKS = COLS / 256, ROUNDS = 40, N = 3 };
    screen_code_fn *const fns[N] = {screen_code_ref, code_avx2(), screen_code_best()};
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 5);
    for (int round = 0; round < ROUNDS; round++) {
        float w[COLS] = {0};
        uint64_t cols = round == 0 ? COLS : 1 + bnt_rng_below(&rng, COLS);
        double size = ldexp(1, round % 4 == 3 ? -140 : 4 * (round % 8) - 16);
        for (uint64_t c = 0; c < cols; c++) {
            w[c] = (float)(size * (bnt_rng_unit(&rng) + bnt_rng_unit(&rng) - 1));
        }
        w[0] = round == 9 ? INFINITY : w[0];
        struct screen_row rows[N];
        uint8_t codes[N][BLOCKS * SCREEN_BLOCK_BYTES] = {{0}};
        uint8_t rest[N][BLOCKS * SCREEN_REST_BLOCK_BYTES] = {{0}};
        for (int i = 0; i < N; i++) {
            fns[i](w, cols, &(struct screen_place){&rows[i], codes[i], rest[i]});
            assert_memory_equal(&rows[i], &rows[0], sizeof rows[0]);
            assert_memory_equal(codes[i], codes[0], sizeof codes[0]);
            assert_memory_equal(rest[i], rest[0], sizeof rest[0]);
        }
    }
}

static const struct suite_test tests[] = {
    {.name = "screen_best_logits_are_those_of_the_whole_row",
     .body = best_logits_are_those_of_the_whole_row},
    {.name = "screen_generations_have_the_same_tokens", .body = generations_have_the_same_tokens},
    {.name = "screen_heads_in_blocks_are_screened_too", .body = heads_in_blocks_are_screened_too},
    {.name = "screen_logits_come_beside_the_best", .body = logits_come_beside_the_best},
    {.name = "screen_auto_makes_a_copy_where_it_is_kept",
     .body = auto_makes_a_copy_where_it_is_kept},
    {.name = "screen_a_copy_without_room_is_left_out", .body = a_copy_without_room_is_left_out},
    {.name = "screen_a_copy_is_no_further_than_it_says", .body = a_copy_is_no_further_than_it_says},
    {.name = "screen_every_instruction_set_makes_the_same_copy",
     .body = every_instruction_set_makes_the_same_copy},
    {0},
};

const struct suite suite_screen = {"screen", tests, "screen_bound_lost bias_unseen"};
