/* Guards single kernels of the CUDA back end on the fake device, in loops over the threads of a
 * block and by threads that are threads: products of shapes that end in the middle of a tile,
 * several matrices in one launch, blocks as codes, norms, the choice of the best logits. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/cpu/tables.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/cuda/launches.h"
#include "engine/sampler.h"
#include "testkit/suite.h"
#include "testkit/suites/fake_cuda.h"

/* The fake device by its table alone. */
static struct cuda_context *context;

static void *on_device(const void *bytes, uint64_t n)
{
    void *p = NULL;
    const struct cuda_table *t = fake_cuda_table();
    assert_int_equal(t->alloc(context, n, &p), CUDA_OK);
    if (bytes) {
        assert_int_equal(t->upload(context, p, bytes, n), CUDA_OK);
    }
    return p;
}

struct shape {
    uint32_t rows, cols, n_tok;
    enum cuda_kernel kernel;
    bool add;
};

/* Codes, activations and their planes for a shape; y_wanted by the reference kernels. */
struct operands {
    uint8_t *codes;
    float *x, *wanted;
};

static void make_operands(struct operands *o, const struct shape *s, uint64_t seed)
{
    struct bnt_rng rng;
    bnt_rng_seed(&rng, seed);
    uint64_t row_bytes = ternary_row_bytes(s->cols), stride = act_stride(s->cols);
    o->codes = malloc(s->rows * row_bytes);
    o->x = malloc((size_t)s->n_tok * s->cols * sizeof *o->x);
    o->wanted = malloc((size_t)s->n_tok * s->rows * sizeof *o->wanted);
    int8_t *w = malloc((size_t)s->rows * s->cols), *q = calloc(s->n_tok, stride);
    float *scale = malloc(s->n_tok * sizeof *scale);
    int32_t *sum = malloc(s->n_tok * sizeof *sum);
    assert_true(o->codes && o->x && o->wanted && w && q && scale && sum);
    for (size_t i = 0; i < (size_t)s->rows * s->cols; i++) {
        w[i] = (int8_t)((int)(bnt_rng_next(&rng) % 3) - 1);
    }
    ternary_pack(w, s->rows, s->cols, o->codes);
    for (size_t i = 0; i < (size_t)s->n_tok * s->cols; i++) {
        o->x[i] = (float)(bnt_rng_unit(&rng) * 8 - 4);
    }
    for (uint32_t t = 0; t < s->n_tok; t++) {
        cpu_kernels_ref.quantize_act(o->x + (size_t)t * s->cols, s->cols, q + t * stride, &scale[t],
                                     &sum[t]);
    }
    struct ternary_weights tw = {o->codes, s->rows, s->cols, row_bytes, 0.25f};
    struct act_rows act = {.q = q, .scale = scale, .sum = sum, .stride = stride};
    cpu_kernels_ref.matmul_ternary(&tw, 0, s->rows, &act, s->n_tok, o->wanted, s->rows);
    for (size_t i = 0; s->add && i < (size_t)s->n_tok * s->rows; i++) {
        o->wanted[i] = 1.5f + o->wanted[i];
    }
    free(w);
    free(q);
    free(scale);
    free(sum);
}

/* The activations of a shape by k_norm, and its weights, as a product takes them. */
static struct cuda_ternary_args quantized(const struct shape *s, const struct operands *o)
{
    uint32_t row_bytes = (uint32_t)ternary_row_bytes(s->cols);
    struct cuda_norm_args norm = {.x = on_device(o->x, (uint64_t)s->n_tok * s->cols * 4),
                                  .x_stride = s->cols,
                                  .n = s->cols,
                                  .q = on_device(NULL, (uint64_t)s->n_tok * 4 * row_bytes),
                                  .row_bytes = row_bytes,
                                  .scale = on_device(NULL, s->n_tok * 4),
                                  .sum = on_device(NULL, s->n_tok * 4)};
    struct cuda_launch l = launch_of_norm(&norm, s->n_tok);
    assert_int_equal(fake_cuda_table()->launch(context, &l), CUDA_OK);
    return (struct cuda_ternary_args){
        .q = norm.q,
        .scale = norm.scale,
        .sum = norm.sum,
        .n = s->n_tok,
        .row_bytes = row_bytes,
        .n_matrices = 1,
        .add = s->add,
        .m = {{.codes = on_device(o->codes, (uint64_t)s->rows * row_bytes),
               .rows = s->rows,
               .scale = 0.25f,
               .out_scale = 1,
               .stride = s->rows}}};
}

/* Quantise, then the product by the kernel of the shape. */
static void run_product(const struct shape *s, const struct operands *o, float *y)
{
    const struct cuda_table *t = fake_cuda_table();
    struct cuda_ternary_args many = quantized(s, o);
    many.m[0].y = on_device(y, (uint64_t)s->n_tok * s->rows * 4);
    struct cuda_step_args one = {.x = on_device(o->x, (uint64_t)s->n_tok * s->cols * 4),
                                 .cols = s->cols,
                                 .row_bytes = many.row_bytes,
                                 .n_matrices = 1,
                                 .add = s->add,
                                 .m = {many.m[0]}};
    struct cuda_launch l =
        s->kernel == CUDA_K_STEP ? launch_of_step(&one, 2) : launch_of_ternary(&many, s->kernel);
    assert_int_equal(t->launch(context, &l), CUDA_OK);
    assert_int_equal(t->download(context, y, many.m[0].y, (uint64_t)s->n_tok * s->rows * 4),
                     CUDA_OK);
}

static void products_of_any_shape_are_the_references(void **state)
{
    (void)state;
    static const struct shape shapes[] = {
        {1, 1, 1, CUDA_K_TERNARY, false},          {33, 130, 9, CUDA_K_TERNARY, true},
        {70, 640, 3, CUDA_K_TERNARY, false},       {1, 1, 1, CUDA_K_STEP, false},
        {17, 4224, 1, CUDA_K_STEP, true},          {40, 257, 1, CUDA_K_STEP, false},
        {3, 9300, 1, CUDA_K_STEP, false},          {20, 6912, 1, CUDA_K_STEP, true},
        {300, 257, 1, CUDA_K_STEP, true},          {5, 12301, 2, CUDA_K_TERNARY, true},
        {1, 1, 1, CUDA_K_TERNARY_MMA, false},      {130, 384, 65, CUDA_K_TERNARY_MMA, true},
        {64, 2000, 11, CUDA_K_TERNARY_MMA, false}, {1, 1, 1, CUDA_K_TERNARY_FEW, false},
        {70, 640, 33, CUDA_K_TERNARY_FEW, true},   {17, 1400, 9, CUDA_K_TERNARY_FEW, false},
        {33, 512, 40, CUDA_K_TERNARY_FEW, true},
    };
    const struct cuda_table *t = fake_cuda_table();
    for (size_t i = 0; i < 4 * sizeof shapes / sizeof shapes[0]; i++) {
        const struct shape *s = &shapes[i / 4];
        struct operands o;
        fake_cuda_reset(&(struct fake_cuda_plan){.downwards = i % 2, .threads = i / 2 % 2});
        assert_int_equal(t->open(0, 0, &context), CUDA_OK);
        make_operands(&o, s, i);
        size_t n = (size_t)s->n_tok * s->rows;
        float *y = malloc(n * sizeof *y);
        assert_non_null(y);
        for (size_t j = 0; j < n; j++) {
            y[j] = 1.5f;
        }
        run_product(s, &o, y);
        assert_memory_equal(y, o.wanted, n * sizeof *y);
        t->close(context);
        free(o.codes);
        free(o.x);
        free(o.wanted);
        free(y);
    }
    struct fake_cuda_counts c = fake_cuda_count();
    assert_int_equal(c.contexts + c.allocations + c.bytes, 0);
}

/* ---- float weights ---- */

enum { MANY_ROWS = 70, MANY_TOK = 11, MANY_COLS = 2100 };

/* A matrix by many tokens at once, and by each alone in either way. */
static void check_many(enum cuda_float_type type, uint32_t cols, const void *w, uint64_t bytes,
                       const float *x)
{
    static const enum cuda_kernel kernels[] = {CUDA_K_FLOAT_MANY, CUDA_K_FLOAT, CUDA_K_FLOAT_LANES};
    static float y[3][MANY_TOK * MANY_ROWS];
    const struct cuda_table *t = fake_cuda_table();
    assert_int_equal(t->open(0, 0, &context), CUDA_OK);
    struct cuda_float_args a = {.n = MANY_TOK,
                                .w = on_device(w, bytes),
                                .row_bytes =
                                    type == CUDA_CODES ? cuda_codes_row_bytes(cols) : 2ull * cols,
                                .type = type,
                                .rows = MANY_ROWS,
                                .cols = cols,
                                .x = on_device(x, MANY_TOK * MANY_COLS * sizeof *x),
                                .x_stride = cols,
                                .out_scale = 1,
                                .stride = MANY_ROWS};
    for (int i = 0; i < 3; i++) {
        a.y = on_device(NULL, sizeof y[0]);
        struct cuda_launch l = launch_of_float_by(&a, kernels[i]);
        assert_int_equal(t->launch(context, &l), CUDA_OK);
        assert_int_equal(t->download(context, y[i], a.y, sizeof y[0]), CUDA_OK);
        assert_memory_equal(y[i], y[0], sizeof y[0]);
    }
    t->close(context);
}

/* Rows of 16-bit floats, whose parts are whole 32s, one 16 more, or not aligned; rows of codes, of
 * whole pieces and of a part of one. */
static void float_products_of_many_tokens_are_those_of_each(void **state)
{
    (void)state;
    static const struct {
        enum cuda_float_type type;
        uint32_t cols;
    } cases[] = {{CUDA_F16, 1},      {CUDA_F16, 16},    {CUDA_F16, 48},        {CUDA_F16, 1032},
                 {CUDA_F16, 1040},   {CUDA_F16, 2080},  {CUDA_F16, MANY_COLS}, {CUDA_CODES, 64},
                 {CUDA_CODES, 1024}, {CUDA_CODES, 1088}};
    static _Alignas(8) uint16_t w[MANY_ROWS * MANY_COLS];
    static float x[MANY_TOK * MANY_COLS];
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 5);
    for (size_t i = 0; i < MANY_ROWS * MANY_COLS; i++) { /* as scales they are numbers, too */
        w[i] = (uint16_t)(0x2c00 + bnt_rng_unit(&rng) * 0x0fff) | (uint16_t)(i % 3 ? 0x8000 : 0);
    }
    for (size_t i = 0; i < MANY_TOK * MANY_COLS; i++) {
        x[i] = (float)(bnt_rng_unit(&rng) * 8 - 4);
    }
    for (size_t i = 0; i < 2 * sizeof cases / sizeof cases[0]; i++) {
        fake_cuda_reset(&(struct fake_cuda_plan){.downwards = i % 2, .threads = true});
        check_many(cases[i / 2].type, cases[i / 2].cols, w, sizeof w, x);
    }
}

/* ---- codes ---- */

enum { CODES_COLS = 768 }; /* a piece and a half */

/* A row of blocks of any codes, with scales that are numbers or none. */
static void random_blocks(enum tensor_type type, struct bnt_rng *rng, uint8_t *row)
{
    static const uint16_t scales[] = {0x3c00, 0xbc00, 0x0001, 0x7bff, 0,
                                      0x8000, 0x7c00, 0xfc00, 0x7e00, 0xb555};
    const struct tensor_type_info *info = tensor_type_info(type);
    bool behind = type == TENSOR_TQ1_0 || type == TENSOR_TQ2_0;
    for (uint32_t c = 0; c < CODES_COLS; c += info->block_weights, row += info->block_bytes) {
        uint16_t scale = scales[bnt_rng_below(rng, sizeof scales / sizeof scales[0])];
        uint8_t only = (uint8_t)bnt_rng_below(rng, 4); /* the same code, for some */
        for (uint32_t i = 0; i < info->block_bytes; i++) {
            row[i] = c % 3 ? (uint8_t)bnt_rng_below(rng, 256) : (uint8_t)(only * 0x55);
        }
        memcpy(row + (behind ? info->block_bytes - 2 : 0), &scale, sizeof scale);
    }
}

/* What the device makes of a row. */
static void row_on_device(const uint8_t *packed, float *out)
{
    const struct cuda_table *t = fake_cuda_table();
    assert_int_equal(t->open(0, 0, &context), CUDA_OK);
    struct cuda_row first = {0};
    struct cuda_embed_args a = {.rows = on_device(&first, sizeof first),
                                .table = on_device(packed, cuda_codes_row_bytes(CODES_COLS)),
                                .row_bytes = cuda_codes_row_bytes(CODES_COLS),
                                .type = CUDA_CODES,
                                .n_embd = CODES_COLS,
                                .scale = 1,
                                .x = on_device(NULL, CODES_COLS * sizeof *out)};
    struct cuda_launch l = {.kernel = CUDA_K_EMBED,
                            .grid_x = 1,
                            .grid_y = 1,
                            .block = 256,
                            .args = &a,
                            .args_bytes = sizeof a};
    assert_int_equal(t->launch(context, &l), CUDA_OK);
    assert_int_equal(t->download(context, out, a.x, CODES_COLS * sizeof *out), CUDA_OK);
    t->close(context);
}

static void codes_are_the_values_of_their_blocks(void **state)
{
    (void)state;
    static const enum tensor_type types[] = {TENSOR_Q1_0, TENSOR_Q2_0, TENSOR_Q2_0_G128,
                                             TENSOR_TQ1_0, TENSOR_TQ2_0};
    static _Alignas(8) uint8_t packed[2 * CUDA_CODES_BYTES];
    static uint8_t row[CODES_COLS];
    static float wanted[CODES_COLS], got[CODES_COLS];
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 3);
    fake_cuda_reset(&(struct fake_cuda_plan){0});
    for (size_t i = 0; i < 40 * sizeof types / sizeof types[0]; i++) {
        random_blocks(types[i / 40], &rng, row);
        dequantize_row(types[i / 40], row, CODES_COLS, wanted);
        cuda_pack_codes(wanted, CODES_COLS, packed);
        row_on_device(packed, got);
        for (uint32_t c = 0; c < CODES_COLS; c++) {
            if (memcmp(&got[c], &wanted[c], sizeof got[c]) != 0) {
                assert_true(isnan(got[c]) && isnan(wanted[c]));
            }
        }
    }
}

/* ---- norms ---- */

enum { NORM_TOK = 3 };

/* Rows of n normed to h, quantised to q, or both. */
static void norm_by(uint32_t n, const float *x, float *h, int8_t *q)
{
    const struct cuda_table *t = fake_cuda_table();
    uint32_t row_bytes = (uint32_t)ternary_row_bytes(n);
    uint64_t h_bytes = (uint64_t)NORM_TOK * n * sizeof *h, q_bytes = NORM_TOK * 4ull * row_bytes;
    struct cuda_norm_args a = {.x = on_device(x, h_bytes),
                               .norm = on_device(x, n * sizeof *x),
                               .x_stride = n,
                               .n = n,
                               .eps = 1e-5f,
                               .h = h ? on_device(NULL, h_bytes) : NULL,
                               .h_stride = n,
                               .q = q ? on_device(NULL, q_bytes) : NULL,
                               .row_bytes = row_bytes,
                               .scale = on_device(NULL, NORM_TOK * 4),
                               .sum = on_device(NULL, NORM_TOK * 4)};
    struct cuda_launch l = launch_of_norm(&a, NORM_TOK);
    assert_int_equal(t->launch(context, &l), CUDA_OK);
    if (h) {
        assert_int_equal(t->download(context, h, a.h, h_bytes), CUDA_OK);
    }
    if (q) {
        assert_int_equal(t->download(context, q, a.q, q_bytes), CUDA_OK);
    }
}

/* Rows that a block holds are normed in their place, which no thread may do before all have read
 * what they write as floats. */
static void a_row_is_normed_and_quantised_as_for_either_alone(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {640, 641, 3000, 9300};
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        uint32_t n = sizes[i / 2];
        size_t floats = (size_t)NORM_TOK * n, bytes = NORM_TOK * 4 * ternary_row_bytes(n);
        float *x = malloc(3 * floats * sizeof *x);
        int8_t *q = malloc(2 * bytes);
        struct bnt_rng rng;
        bnt_rng_seed(&rng, i);
        assert_true(x && q);
        for (size_t j = 0; j < floats; j++) {
            x[j] = (float)(bnt_rng_unit(&rng) * 8 - 4);
        }
        fake_cuda_reset(&(struct fake_cuda_plan){.downwards = i % 2, .threads = true});
        assert_int_equal(fake_cuda_table()->open(0, 0, &context), CUDA_OK);
        norm_by(n, x, x + floats, q);
        norm_by(n, x, x + 2 * floats, NULL);
        norm_by(n, x, NULL, q + bytes);
        assert_memory_equal(x + floats, x + 2 * floats, floats * sizeof *x);
        assert_memory_equal(q, q + bytes, bytes);
        fake_cuda_table()->close(context);
        free(x);
        free(q);
    }
}

/* ---- several matrices in one launch ---- */

enum { TOGETHER_COLS = 300, TOGETHER_TOK = 37, TOGETHER_MOST = 70 };

struct together_case {
    enum cuda_kernel kernel;
    uint32_t n_matrices, rows[3];
    bool gated;
};

/* As one launch, or as one for each matrix and one for the activation; y has room for all rows of
 * all tokens. */
static void multiply(const struct together_case *c, const struct cuda_ternary_args *from,
                     bool together, float *y, size_t n)
{
    const struct cuda_table *t = fake_cuda_table();
    struct cuda_ternary_args a = *from;
    float *to = on_device(NULL, n * sizeof *y);
    for (uint32_t i = 0; i < c->n_matrices; i++) {
        a.m[i].y = to + (size_t)i * TOGETHER_TOK * TOGETHER_MOST;
    }
    for (uint32_t i = 0; i < (together ? 1 : c->n_matrices); i++) {
        struct cuda_ternary_args one = a;
        one.n_matrices = together ? c->n_matrices : 1;
        one.gated = together && c->gated;
        one.m[0] = a.m[i];
        struct cuda_launch l = launch_of_ternary(&one, together ? c->kernel : CUDA_K_TERNARY);
        assert_int_equal(t->launch(context, &l), CUDA_OK);
    }
    struct cuda_act_args act = {.gate = a.m[0].y,
                                .up = a.m[1].y,
                                .n = (uint64_t)TOGETHER_TOK * TOGETHER_MOST,
                                .act = a.act};
    struct cuda_launch l = {.kernel = CUDA_K_ACT,
                            .grid_x = launch_pieces(act.n, 256),
                            .grid_y = 1,
                            .block = 256,
                            .args = &act,
                            .args_bytes = sizeof act};
    if (c->gated && !together) {
        assert_int_equal(t->launch(context, &l), CUDA_OK);
    }
    size_t bytes = (c->gated ? n / c->n_matrices : n) * sizeof *y;
    assert_int_equal(t->download(context, y, to, bytes), CUDA_OK);
}

/* Rows that end in the middle of a tile, of a warp and of a block. */
static void matrices_of_one_input_are_multiplied_as_each_alone(void **state)
{
    (void)state;
    static const struct together_case cases[] = {
        {CUDA_K_TERNARY_MMA, 3, {70, 17, 60}, false}, {CUDA_K_TERNARY_FEW, 3, {70, 17, 60}, false},
        {CUDA_K_TERNARY_MMA, 2, {70, 70}, true},      {CUDA_K_TERNARY_FEW, 2, {33, 33}, true},
        {CUDA_K_TERNARY_FEW, 2, {1, 1}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct together_case *c = &cases[i];
        struct shape s = {3 * TOGETHER_MOST, TOGETHER_COLS, TOGETHER_TOK, c->kernel, false};
        struct operands o;
        size_t n = (size_t)c->n_matrices * TOGETHER_TOK * TOGETHER_MOST;
        float *y = calloc(2 * n, sizeof *y);
        assert_non_null(y);
        fake_cuda_reset(&(struct fake_cuda_plan){.downwards = i % 2, .threads = true});
        assert_int_equal(fake_cuda_table()->open(0, 0, &context), CUDA_OK);
        make_operands(&o, &s, i);
        struct cuda_ternary_args a = quantized(&s, &o);
        a.act = CUDA_ACT_RELU2;
        for (uint32_t k = 0; k < c->n_matrices; k++) {
            a.m[k] = a.m[0];
            a.m[k].codes = a.m[0].codes + (uint64_t)k * TOGETHER_MOST * a.row_bytes;
            a.m[k].rows = c->rows[k];
            a.m[k].stride = TOGETHER_MOST;
            a.m[k].scale = 0.25f + (float)k;
        }
        multiply(c, &a, true, y, n);
        multiply(c, &a, false, y + n, n);
        assert_memory_equal(y, y + n, n * sizeof *y);
        fake_cuda_table()->close(context);
        free(o.codes);
        free(o.x);
        free(o.wanted);
        free(y);
    }
}

/* Half a warp that reads two words each of staged rows meets 32 banks, and so does a warp that
 * writes a sum each; what a block stores fits into its shared memory. */
static void threads_of_a_warp_meet_different_banks(void **state)
{
    (void)state;
    for (uint32_t first = 0; first < 64; first += 16) {
        uint32_t met = 0;
        for (uint32_t lane = first; lane < first + 16; lane++) {
            uint32_t at = CUDA_MMA_PLACE(lane / 4, lane);
            assert_int_equal(at / 32, lane / 4);
            met |= 3u << at / 4 % 32;
        }
        assert_int_equal(met, 0xffffffffu);
    }
    for (uint32_t row_groups = 1; row_groups <= 4; row_groups += 3) {
        for (uint32_t odd = 0; odd < 2; odd++) {
            uint32_t met = 0;
            for (uint32_t lane = 0; lane < 32; lane++) {
                met |= 1u << CUDA_MMA_SUM(row_groups, lane / 4, lane % 4 * 2 + odd) % 32;
            }
            assert_int_equal(met, 0xffffffffu);
        }
    }
    assert_true(4 * CUDA_MMA_PART(4, CUDA_MMA_TILES) <= CUDA_MMA_BYTES);
    assert_true(4 * 4 * CUDA_MMA_PART(1, CUDA_FEW_TILES) <= CUDA_FEW_BYTES);
}

/* Large blocks where they keep the device busy, small ones where half of it would have nothing. */
static void the_kernel_of_a_product_is_chosen_by_what_it_occupies(void **state)
{
    (void)state;
    static const struct {
        uint32_t rows, n, major;
        enum cuda_kernel wanted;
    } cases[] = {
        {2560, 8, 9, CUDA_K_TERNARY},       {2560, 9, 7, CUDA_K_TERNARY},
        {2560, 64, 9, CUDA_K_TERNARY_FEW},  {13824, 64, 9, CUDA_K_TERNARY_MMA},
        {2560, 512, 9, CUDA_K_TERNARY_MMA}, {2560, 25, 9, CUDA_K_TERNARY_FEW},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cuda_info h200 = {.major = cases[i].major, .n_processors = 132};
        struct cuda_ternary_args a = {
            .n = cases[i].n, .n_matrices = 1, .m = {{.rows = cases[i].rows}}};
        assert_int_equal(launch_ternary_kernel(&a, &h200), cases[i].wanted);
    }
    struct cuda_float_args head = {.rows = 128256, .cols = 2560, .n = 1};
    struct cuda_float_args layer = {.rows = 2560, .cols = 2560, .n = 1};
    assert_int_equal(launch_of_float(&head).kernel, CUDA_K_FLOAT);
    assert_int_equal(launch_of_float(&layer).kernel, CUDA_K_FLOAT_LANES);
    head.n = layer.n = 3;
    assert_int_equal(launch_of_float(&head).kernel, CUDA_K_FLOAT_MANY);
    assert_int_equal(launch_of_float(&layer).kernel, CUDA_K_FLOAT_MANY);
}

/* One block for each processor, of as many threads as it takes, in rounds where those do not fit.
 */
static void a_step_has_a_block_for_each_processor(void **state)
{
    (void)state;
    static const struct {
        uint32_t rows[3], cols, gated, n_processors;
        uint32_t blocks, threads, rounds;
    } cases[] = {
        {{2560, 640, 640}, 2560, 0, 132, 128, 480, 1}, /* q, k, v of the 2B shape */
        {{2560}, 2560, 0, 132, 128, 320, 1},
        {{6912, 6912}, 2560, 1, 132, 128, 864, 1},
        {{2560}, 6912, 0, 132, 128, 320, 1},
        {{8640, 8640}, 3200, 1, 132, 128, 544, 2}, /* of the 3B shape */
        {{1}, 64, 0, 132, 1, 256, 1},
        {{300}, 9000, 0, 2, 2, 416, 6}, /* little memory is left for the parts of a row */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t rows = 0;
        struct cuda_step_args a = {.cols = cases[i].cols,
                                   .row_bytes = (uint32_t)ternary_row_bytes(cases[i].cols),
                                   .gated = cases[i].gated};
        for (; a.n_matrices < 3 && cases[i].rows[a.n_matrices]; a.n_matrices++) {
            a.m[a.n_matrices].rows = cases[i].rows[a.n_matrices];
            rows += a.n_matrices == 0 || !a.gated ? a.m[a.n_matrices].rows : 0;
        }
        struct cuda_launch l = launch_of_step(&a, cases[i].n_processors);
        uint32_t at_once = l.grid_x * (l.block / CUDA_STEP_GROUP);
        assert_int_equal(a.n_blocks, l.grid_x);
        assert_int_equal(l.grid_x, cases[i].blocks);
        assert_true(l.shared <= CUDA_SHARED_MAX && l.block % 32 == 0);
        assert_int_equal(l.block, cases[i].threads);
        assert_int_equal(launch_pieces(rows, at_once), cases[i].rounds);
    }
}

/* ---- the best logits ---- */

/* The best k by both: ties, both zeros, numbers that are none. */
static void the_best_logits_are_the_samplers(void **state)
{
    (void)state;
    enum { N = 5000, K = BNT_BEST_MAX };
    static float logits[N];
    static const float odd[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f, -1e-40f};
    for (size_t i = 0; i < N; i++) {
        logits[i] = i % 11 == 3 ? odd[i / 11 % 7] : (float)(i * 7919 % 60) - 59;
    }
    const struct cuda_table *t = fake_cuda_table();
    fake_cuda_reset(&(struct fake_cuda_plan){.threads = true});
    assert_int_equal(t->open(0, 0, &context), CUDA_OK);
    struct cuda_candidate first[3 * K], best[K];
    struct cuda_pick_args a = {.logits = on_device(logits, sizeof logits),
                               .n = N,
                               .k = K,
                               .out = on_device(NULL, sizeof first)};
    struct cuda_launch l = {.kernel = CUDA_K_PICK,
                            .grid_x = 3,
                            .grid_y = 1,
                            .block = 256,
                            .shared = CUDA_PICK_BYTES,
                            .args = &a,
                            .args_bytes = sizeof a};
    assert_int_equal(t->launch(context, &l), CUDA_OK);
    a.list = a.out;
    a.n = 3 * K;
    a.out = on_device(NULL, sizeof best);
    l.grid_x = 1;
    assert_int_equal(t->launch(context, &l), CUDA_OK);
    assert_int_equal(t->download(context, best, a.out, sizeof best), CUDA_OK);
    t->close(context);
    struct bnt_candidate wanted[K];
    size_t n = bnt_logprobs_top(logits, N, K, wanted);
    assert_int_equal(n, K);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(best[i].id, wanted[i].id);
    }
}

static const struct suite_test tests[] = {
    {.name = "cuda_products_of_any_shape_are_the_references",
     .body = products_of_any_shape_are_the_references},
    {.name = "cuda_float_products_of_many_tokens_are_those_of_each",
     .body = float_products_of_many_tokens_are_those_of_each},
    {.name = "cuda_codes_are_the_values_of_their_blocks",
     .body = codes_are_the_values_of_their_blocks},
    {.name = "cuda_a_row_is_normed_and_quantised_as_for_either_alone",
     .body = a_row_is_normed_and_quantised_as_for_either_alone},
    {.name = "cuda_matrices_of_one_input_are_multiplied_as_each_alone",
     .body = matrices_of_one_input_are_multiplied_as_each_alone},
    {.name = "cuda_threads_of_a_warp_meet_different_banks",
     .body = threads_of_a_warp_meet_different_banks},
    {.name = "cuda_the_kernel_of_a_product_is_chosen_by_what_it_occupies",
     .body = the_kernel_of_a_product_is_chosen_by_what_it_occupies},
    {.name = "cuda_a_step_has_a_block_for_each_processor",
     .body = a_step_has_a_block_for_each_processor},
    {.name = "cuda_the_best_logits_are_the_samplers", .body = the_best_logits_are_the_samplers},
    {0},
};

const struct suite suite_cuda_product = {"cuda_product", tests,
                                         "cuda_rows_uncounted cuda_codes_scale"};
