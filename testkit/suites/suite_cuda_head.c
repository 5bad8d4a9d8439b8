/* Guards the screened head of the CUDA back end on the fake device: one of the best logits that is
 * missing or differs in a bit from the whole head's, a screen that computes most rows in full, a
 * copy that is put up where there is no room. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/best.h"
#include "engine/cpu/tables.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/cuda/launches.h"
#include "engine/session.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/fake_cuda.h"

enum {
    TOKENS = 12,
    PROMPT = 5,
    SEQUENCES = 37 /* more than a block of k_screen_many takes */
};

static struct bnt_session_options on_fake(const struct fake_cuda_plan *plan)
{
    fake_cuda_reset(plan);
    cuda_table_use(fake_cuda_table());
    return (struct bnt_session_options){.device = "cuda", .n_threads = 1, .fallback = "never"};
}

static void open_screened(struct es_engine *e, const struct bnt_session_options *so)
{
    struct bnt_model_options mo = {
        .i2s_layout = "128/32", .session = so, .head = BNT_HEAD_SCREENED};
    es_open_with(e, suite_bundled_model(), &mo, so);
}

static void assert_best(const float *row, size_t n_vocab, uint32_t k,
                        const struct bnt_candidate *best, uint32_t n)
{
    struct bnt_candidate wanted[BNT_BEST_MAX];
    assert_int_equal(n, best_of_row(row, n_vocab, k, wanted));
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(best[i].id, wanted[i].id);
        assert_memory_equal(&best[i].value, &wanted[i].value, sizeof(float));
    }
}

/* Prompts and single tokens, as many of the best as anybody asks for; `cpu` gives whole rows. */
static uint64_t compare(struct bnt_session *gpu, struct bnt_session *cpu)
{
    static const uint32_t ks[] = {1, 1, 3, 20, BNT_BEST_MAX, 2};
    static const int32_t prompt[PROMPT] = {45, 394, 401, 258, 372};
    struct bnt_err err = {0};
    uint32_t n_vocab = bnt_session_n_vocab(cpu), n;
    uint64_t in_full = 0;
    for (uint32_t i = 0; i < TOKENS; i++) {
        struct bnt_candidate best[BNT_BEST_MAX];
        size_t len = i % 6 ? 1 : PROMPT;
        uint32_t k = ks[i % 6];
        es_ok(bnt_session_eval(cpu, prompt + PROMPT - len, len, &err), &err);
        es_ok(bnt_session_eval_best(gpu, prompt + PROMPT - len, len, k, best, &n, &err), &err);
        assert_best(bnt_session_logits(cpu), n_vocab, k, best, n);
        const struct backend_cuda *b = (const struct backend_cuda *)(const void *)gpu->backend;
        in_full += (uint32_t)b->picked[k].id;
    }
    return in_full;
}

static void best_logits_are_those_of_the_whole_row(void **state)
{
    (void)state;
    for (int downwards = 0; downwards < 2; downwards++) {
        struct bnt_session_options cpu = {.n_threads = 1, .n_ctx = 64};
        struct bnt_session_options so = on_fake(&(struct fake_cuda_plan){.downwards = downwards});
        struct es_engine whole, screened;
        struct bnt_session_stats stats;
        so.n_ctx = 64;
        es_open(&whole, suite_bundled_model(), &cpu);
        open_screened(&screened, &so);
        bnt_session_stats(screened.session, &stats);
        assert_true(stats.screened);
        uint64_t in_full = compare(screened.session, whole.session);
        suite_metric("rows_in_full", (double)in_full, "rows");
        assert_true(in_full > 0 && in_full < TOKENS * bnt_session_n_vocab(whole.session) / 4);
        es_close(&screened);
        es_close(&whole);
    }
    struct fake_cuda_counts c = fake_cuda_count();
    assert_int_equal(c.contexts + c.allocations + c.bytes + c.graphs, 0);
}

/* ---- several sequences ---- */

/* The best of every row, from whole rows. */
struct rows_best {
    uint32_t n_vocab, k;
    struct bnt_candidate best[SEQUENCES][BNT_BEST_MAX];
    uint32_t n[SEQUENCES];
};

static enum bnt_status take_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct rows_best *r = ctx;
    (void)err;
    r->n[index] = (uint32_t)best_of_row(logits, r->n_vocab, r->k, r->best[index]);
    return BNT_OK;
}

/* A step of n sequences on both; rows of the screened one that were computed in full. */
static uint64_t compare_step(struct bnt_session *gpu, struct bnt_session *cpu, uint32_t n,
                             struct rows_best *wanted, struct bnt_rng *rng)
{
    struct bnt_err err = {0};
    struct bnt_step steps[SEQUENCES];
    static struct bnt_candidate best[SEQUENCES * BNT_BEST_MAX];
    uint32_t found[SEQUENCES];
    for (uint32_t i = 0; i < n; i++) {
        steps[i] = (struct bnt_step){i, (int32_t)bnt_rng_below(rng, wanted->n_vocab)};
    }
    es_ok(bnt_session_step(cpu, steps, n, take_row, wanted, &err), &err);
    es_ok(bnt_session_step_best(gpu, steps, n, wanted->k, best, found, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(found[i], wanted->n[i]);
        assert_memory_equal(best + (size_t)i * wanted->k, wanted->best[i],
                            found[i] * sizeof best[0]);
    }
    const struct backend_cuda *b = (const struct backend_cuda *)(const void *)gpu->backend;
    return (uint32_t)b->picked[n * wanted->k].id;
}

static void a_step_of_sequences_has_the_best_of_each(void **state)
{
    (void)state;
    static const uint32_t ns[] = {SEQUENCES, 2, 1, 32, SEQUENCES}, ks[] = {1, 3, 2, 4, 2};
    struct bnt_session_options cpu = {.n_threads = 1, .n_ctx = 16, .n_sequences = SEQUENCES};
    struct bnt_session_options so = on_fake(&(struct fake_cuda_plan){.downwards = true});
    struct es_engine whole, screened;
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 11);
    so.n_ctx = 16;
    so.n_sequences = SEQUENCES;
    es_open(&whole, suite_bundled_model(), &cpu);
    open_screened(&screened, &so);
    static struct rows_best wanted;
    wanted.n_vocab = bnt_session_n_vocab(whole.session);
    const struct backend_cuda *b =
        (const struct backend_cuda *)(const void *)screened.session->backend;
    for (size_t i = 0; i < sizeof ns / sizeof ns[0]; i++) {
        wanted.k = ks[i];
        uint64_t in_full = compare_step(screened.session, whole.session, ns[i], &wanted, &rng);
        if (b->info.major >= 8 || ns[i] == 1) {
            assert_in_range(in_full, ns[i], ns[i] * wanted.n_vocab / 4);
        }
    }
    es_close(&screened);
    es_close(&whole);
}

/* ---- heads and inputs at their worst ---- */

struct head_case {
    enum tensor_type type;
    uint32_t rows, cols, k;
    float input;  /* x[i] is a random number times this */
    bool odd;     /* rows that are no numbers, are huge, are nothing */
    bool threads; /* by threads that are threads */
};

static float odd_value(uint32_t r, float w)
{
    return r == 3    ? NAN
           : r == 70 ? INFINITY
           : r == 71 ? w * 1e4f
           : r == 72 ? 0
           : r == 73 ? w * 1e-6f
                     : w;
}

static void put_value(enum tensor_type type, float w, uint8_t *at)
{
    uint16_t h;
    if (type == TENSOR_F16) {
        cpu_kernels_ref.store_f16(&w, 1, &h);
    } else {
        uint32_t bits;
        memcpy(&bits, &w, sizeof bits);
        h = (uint16_t)(bits >> 16);
    }
    memcpy(at, type == TENSOR_F32 ? (void *)&w : (void *)&h, type == TENSOR_F32 ? 4 : 2);
}

static struct weight make_head(const struct head_case *c, struct bnt_rng *rng)
{
    size_t size = c->type == TENSOR_F32 ? 4 : 2;
    struct weight w = {
        .type = c->type, .rows = c->rows, .cols = c->cols, .row_bytes = size * c->cols};
    uint8_t *data = malloc(w.rows * w.row_bytes);
    assert_non_null(data);
    for (uint32_t r = 0; r < c->rows; r++) {
        for (uint32_t i = 0; i < c->cols; i++) {
            float value = (float)(bnt_rng_unit(rng) - 0.5);
            put_value(c->type, c->odd ? odd_value(r, value) : value,
                      data + r * w.row_bytes + i * size);
        }
    }
    w.data = data;
    return w;
}

static void *on_device(struct backend_cuda *b, const void *bytes, uint64_t n)
{
    void *p = NULL;
    assert_int_equal(b->table->alloc(b->context, n, &p), CUDA_OK);
    if (bytes) {
        assert_int_equal(b->table->upload(b->context, p, bytes, n), CUDA_OK);
    }
    return p;
}

/* A back end that has a head alone, and its inputs. */
static void put_up(struct backend_cuda *b, struct bnt_model *m, const float *x, uint32_t n)
{
    struct bnt_err err = {0};
    uint64_t bytes = screen_bytes(&m->head);
    uint8_t *copy = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(copy);
    es_ok(screen_fill(&m->head, copy, NULL, &err), &err);
    b->base.model = m;
    b->base.config = (struct backend_config){.n_ctx = 1, .n_batch = n, .n_seq = n};
    b->width = m->info.n_embd;
    assert_int_equal(b->table->info(0, &b->info), CUDA_OK);
    cuda_scratch_layout(b, on_device(b, NULL, cuda_scratch_layout(b, NULL)));
    b->s.x = on_device(b, x, (uint64_t)n * m->info.n_embd * sizeof *x);
    b->picked = on_device(b, NULL, (n * CUDA_PICK_MAX + 1) * sizeof *b->picked);
    b->w->screened = true;
    b->w->screen_form = on_device(b, copy, bytes);
    b->w->head = (struct cuda_weight){.rows = m->head.rows,
                                      .cols = m->head.cols,
                                      .row_bytes = m->head.row_bytes,
                                      .type = m->head.type == TENSOR_F32   ? CUDA_F32
                                              : m->head.type == TENSOR_F16 ? CUDA_F16
                                                                           : CUDA_BF16};
    b->w->head.data = on_device(b, m->head.data, m->head.rows * m->head.row_bytes);
    free(copy);
}

/* The best of `n` inputs from `row` on, and what the back end says they are. */
static void check_best(struct backend_cuda *b, const struct head_case *c, const float *rows,
                       uint32_t row, uint32_t n)
{
    struct bnt_err err = {0};
    es_ok(cuda_best(b, row, n, c->k, &err), &err);
    for (uint32_t i = 0; i < n; i++) {
        struct bnt_candidate best[BNT_BEST_MAX];
        const struct cuda_candidate *picked = b->picked + (size_t)i * c->k;
        uint32_t found = 0;
        for (; found < c->k && picked[found].id >= 0; found++) {
            best[found] =
                (struct bnt_candidate){.id = picked[found].id, .value = picked[found].logit};
        }
        assert_best(rows + (size_t)(row + i) * c->rows, c->rows, c->k, best, found);
    }
}

static void check_head(const struct head_case *c, struct bnt_rng *rng)
{
    static struct bnt_model m;
    struct cuda_weights w = {0};
    const uint32_t n = c->rows < 1000 ? SEQUENCES : c->rows < 10000 ? 2 : 1;
    struct backend_cuda b = {.table = fake_cuda_table(), .w = &w};
    m = (struct bnt_model){.screened = true, .head = make_head(c, rng)};
    m.info = (struct bnt_model_info){.n_vocab = c->rows, .n_embd = c->cols};
    float *x = malloc(n * (size_t)c->cols * sizeof *x);
    float *rows = malloc(n * (size_t)c->rows * sizeof *rows);
    assert_true(x && rows);
    for (uint32_t i = 0; i < n * c->cols; i++) { /* the first is the worst */
        const uint32_t input = i / c->cols;
        x[i] = (float)(bnt_rng_unit(rng) - 0.5) * (input == 0 ? c->input : (float)input);
    }
    assert_int_equal(b.table->open(0, 0, &b.context), CUDA_OK);
    put_up(&b, &m, x, n);
    struct float_weights head = {c->type, m.head.data, c->rows, c->cols, m.head.row_bytes};
    cpu_kernels_ref.matmul_float(&head, 0, c->rows, x, c->cols, n, rows, c->rows, NULL);
    const uint32_t some[][2] = {{0, 1}, {0, n}, {n - 2, 2}}; /* first and number */
    b.n = n;
    for (size_t i = 0; n > 1 && i < sizeof some / sizeof some[0]; i++) {
        check_best(&b, c, rows, some[i][0], some[i][1]);
        b.screen_rest = 0; /* all of them are to be screened */
    }
    b.n = 1; /* by the graph */
    check_best(&b, c, rows, 0, 1);
    b.table->graph_free(b.context, b.head_graphs[0].graph);
    b.table->graph_free(b.context, b.head_graphs[1].graph);
    b.table->close(b.context);
    free((void *)(uintptr_t)m.head.data);
    free(x);
    free(rows);
}

static void heads_and_inputs_at_their_worst_give_the_same_bits(void **state)
{
    (void)state;
    static const struct head_case cases[] = {
        {TENSOR_F32, 1, 1, 1, 1, .odd = false},
        {TENSOR_F16, 5000, 256, 3, 1, .odd = false},
        {TENSOR_BF16, 700, 300, 8, 1, .odd = true},
        {TENSOR_F32, 300, 513, 5, 1, .odd = true},
        {TENSOR_F16, 200, 96, 1, 1e30f, .odd = true},
        {TENSOR_F16, 200, 96, 2, 1e-38f, .odd = false},
        {TENSOR_F16, 200, 96, 2, 0, .odd = true},
        {TENSOR_F32, 500, 128, 8, NAN, .odd = false},
        {TENSOR_F32, 130, 40, 64, 1, .odd = false},
        {TENSOR_F16, 140000, 16, 2, 1, .odd = false},
        {TENSOR_F32, 200, 96, 2, INFINITY, .odd = true},
        {TENSOR_F16, 140, 257, 1, 1, .odd = true, .threads = true},
    };
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 7);
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        on_fake(&(struct fake_cuda_plan){.downwards = i % 2, .threads = cases[i / 2].threads});
        if (i % 2 == 0 || cases[i / 2].rows < 10000) { /* once is enough for the dear one */
            check_head(&cases[i / 2], &rng);
        }
    }
}

/* ---- room ---- */

static void a_copy_without_room_is_left_out_and_told(void **state)
{
    (void)state;
    struct bnt_session_options so = on_fake(&(struct fake_cuda_plan){0});
    struct es_engine e;
    struct bnt_session_stats stats;
    so.n_ctx = 64;
    struct bnt_model_options mo = {
        .i2s_layout = "128/32", .session = &so, .head = BNT_HEAD_SCREENED};
    es_open_with(&e, suite_bundled_model(), &mo, &so);
    struct backend_config config = e.session->backend->config;
    struct cuda_memory need = cuda_memory_need(e.model, &config);
    assert_true(need.screen >= screen_bytes(&e.model->head));
    es_close(&e);
    so.device_memory = need.weights + need.kv + need.scratch - 1;
    open_screened(&e, &so);
    bnt_session_stats(e.session, &stats);
    assert_false(stats.screened);
    assert_non_null(strstr(bnt_session_kernel_note(e.session), "is read in full"));
    assert_true(fake_cuda_count().bytes <= so.device_memory);
    es_close(&e);
    so.device_memory++;
    open_screened(&e, &so);
    bnt_session_stats(e.session, &stats);
    assert_true(stats.screened);
    assert_null(strstr(bnt_session_kernel_note(e.session), "is read in full"));
    es_close(&e);
}

static const struct suite_test tests[] = {
    {.name = "cuda_head_best_logits_are_those_of_the_whole_row",
     .body = best_logits_are_those_of_the_whole_row},
    {.name = "cuda_head_a_step_of_sequences_has_the_best_of_each",
     .body = a_step_of_sequences_has_the_best_of_each},
    {.name = "cuda_head_heads_and_inputs_at_their_worst_give_the_same_bits",
     .body = heads_and_inputs_at_their_worst_give_the_same_bits},
    {.name = "cuda_head_a_copy_without_room_is_left_out_and_told",
     .body = a_copy_without_room_is_left_out_and_told},
    {0},
};

const struct suite suite_cuda_head = {"cuda_head", tests,
                                      "cuda_screen_steps cuda_screen_crossed cuda_head_kept"};
