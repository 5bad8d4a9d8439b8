/* Guards the writers of packed types and `bnt quantize`: a code or a scale that changes on its way
 * between ternary types, rounding that is not the paper's or ggml's, a model that is ternarised
 * without having been trained for it, a file that is not of the type under which it goes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/file_audit.h"
#include "engine/quantize_file.h"
#include "engine/tl_tiles.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

/* ---- rows ---- */

/* The published rule, spelled out for these weights: their mean size is 1, a half goes to the even
 * side. */
static void absmean_is_that_of_the_paper(void **state)
{
    (void)state;
    static const float x[8] = {0.5f, -0.5f, 1.5f, -1.5f, 0.51f, -0.49f, 3.0f, 0.0f};
    static const int8_t want[8] = {0, 0, 1, -1, 1, 0, 1, 0};
    int8_t got[8];
    struct absmean whole = {0}, pieces = {0};
    absmean_add(&whole, x, 8);
    absmean_add(&pieces, x, 3);
    absmean_add(&pieces, x + 3, 5);
    assert_true(absmean_scale(&whole) == 1.0f && absmean_scale(&pieces) == 1.0f);
    assert_false(absmean_is_ternary(&whole));
    absmean_codes(1.0f, x, 8, got);
    assert_memory_equal(got, want, sizeof want);
}

static void absmean_keeps_what_is_ternary(void **state)
{
    (void)state;
    static const float x[4] = {0.3f, 0, -0.3f, 0}, tiny[2] = {1e-9f, 2e-9f};
    static const int8_t want[4] = {1, 0, -1, 0};
    int8_t got[4];
    struct absmean a = {0}, small = {0}, zero = {0}, broken = {0};
    absmean_add(&a, x, 4);
    assert_true(absmean_is_ternary(&a) && absmean_scale(&a) == 0.3f);
    absmean_codes(0.3f, x, 4, got);
    assert_memory_equal(got, want, sizeof want);
    absmean_add(&small, tiny, 2); /* the mean is clamped from below */
    assert_true(absmean_scale(&small) == 1e-5f);
    absmean_add(&zero, x + 1, 1);
    absmean_codes(absmean_scale(&zero), x + 1, 1, got);
    assert_true(absmean_scale(&zero) == 0 && got[0] == 0);
    absmean_add(&broken, &(float){NAN}, 1);
    assert_false(absmean_is_finite(&broken));
}

enum { ROW = 512 };

static void fill_row(float *x, uint64_t seed)
{
    for (int i = 0; i < ROW; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)((int64_t)(seed >> 40) - (1 << 23)) * 0x1p-23f * (i % 64 < 32 ? 1 : 0.25f);
    }
}

/* No weight is further off than half a step of its block, whose scale is a half; with 6 bits the
 * least squares may move a scale, so that the largest weights of a block are a whole step off. */
static void rows_are_off_by_half_a_step_at_most(void **state)
{
    (void)state;
    static const struct {
        enum tensor_type type;
        unsigned block;
        double steps, most; /* of the largest weight of a block; of a step */
    } cases[] = {{TENSOR_F32, 1, 1e9, 0},    {TENSOR_F16, 1, 1024, 0.5},
                 {TENSOR_BF16, 1, 128, 0.5}, {TENSOR_Q8_0, 32, 127, 0.57},
                 {TENSOR_Q4_0, 32, 8, 1.01}, {TENSOR_Q6_K, 16, 32, 1.2}};
    float x[ROW], y[ROW];
    uint8_t bytes[ROW * 4];
    fill_row(x, 7);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        double sum = 0, squares = 0;
        quantize_row(cases[k].type, x, ROW, bytes);
        dequantize_row(cases[k].type, bytes, ROW, y);
        for (unsigned i = 0; i < ROW; i++) {
            double largest = 0;
            for (unsigned j = i / cases[k].block * cases[k].block;
                 j < (i / cases[k].block + 1) * cases[k].block; j++) {
                largest = fabs(x[j]) > largest ? fabs(x[j]) : largest;
            }
            double off = fabs((double)x[i] - (double)y[i]), step = largest / cases[k].steps;
            if (off > cases[k].most * step) {
                fail_msg("type %d, weight %u: %g became %g", cases[k].type, i, (double)x[i],
                         (double)y[i]);
            }
            sum += off;
            squares += off * off;
        }
        assert_true(cases[k].type == TENSOR_F32 || sum > 0);
        /* Cutting off instead of rounding doubles this. */
        assert_true(cases[k].type != TENSOR_Q8_0 || sqrt(squares / ROW) < 0.32 / 127);
    }
}

/* Blocks worked out by hand from the rules of the reference quantisers. */
static void blocks_have_the_bytes_of_the_reference(void **state)
{
    (void)state;
    float x[256] = {0};
    uint8_t b[210];
    x[0] = 127, x[1] = -63.5f, x[2] = 0.5f, x[31] = -127;
    quantize_row(TENSOR_Q8_0, x, 32, b);
    static const uint8_t q8[6] = {0x00,         0x3c, 127,
                                  (uint8_t)-64, 1,    0}; /* d = 1, half away from 0 */
    assert_memory_equal(b, q8, sizeof q8);
    assert_int_equal(b[33], (uint8_t)-127);
    memset(x, 0, sizeof x);
    x[0] = -8, x[1] = 7, x[2] = 8, x[16] = 0.5f, x[17] = -0.5f;
    quantize_row(TENSOR_Q4_0, x, 32, b); /* d = 1 by the first of the largest; 8 is cut to 7 */
    static const uint8_t q4[6] = {0x00, 0x3c, 0x90, 0x8f, 0x8f, 0x88};
    assert_memory_equal(b, q4, sizeof q4);
    memset(x, 0, sizeof x);
    for (int i = 0; i < 16; i++) {
        x[i] = (float)(i - 8) * 4; /* -32 to 28: exact with a scale of 1 */
    }
    quantize_row(TENSOR_Q6_K, x, 256, b);
    float y[256];
    dequantize_row(TENSOR_Q6_K, b, 256, y);
    for (int i = 0; i < 256; i++) {
        assert_true(x[i] == y[i]); /* zeros may have either sign */
    }
    assert_int_equal(b[192], (uint8_t)-128);
    memset(x, 0, sizeof x);
    quantize_row(TENSOR_Q6_K, x, 256, b);
    for (int i = 0; i < 210; i++) {
        assert_int_equal(b[i], 0);
    }
}

/* ---- what ggml writes ---- */

enum { GOLD = 16384, GOLD_COLS = 1024 };

static uint64_t gold_rng;

static uint64_t gold_u64(void)
{
    uint64_t z = (gold_rng += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Sums of four draws, exact in float32; blocks of 32 of thirteen sizes, some of zeros, some with a
 * weight that is far larger than the others. */
static void fill_gold(float *x)
{
    gold_rng = 5;
    for (int i = 0; i < GOLD; i++) {
        int sum = 0, block = i / 32;
        for (int k = 0; k < 4; k++) {
            sum += (int)(gold_u64() >> 42) - (1 << 21);
        }
        x[i] = block % 29 == 0 ? 0 : ldexpf((float)sum, -21 - block % 13);
        x[i] *= block % 31 == 5 && i % 32 == 7 ? 64 : 1;
    }
}

static const float gold_scale = 0.0371f;

/* A fifth of the blocks of 256 has no weight. */
static void fill_gold_codes(int8_t *w)
{
    gold_rng = 6;
    for (int i = 0; i < GOLD; i++) {
        int code = (int)(gold_u64() % 3) - 1;
        w[i] = (int8_t)(i / 256 % 5 == 3 ? 0 : code);
    }
}

static uint64_t fnv(const void *bytes, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
    }
    return h;
}

/* Recorded by running the reference implementations on these inputs: quantize_row_*_ref and
 * dequantize_row_* of the ggml in microsoft/BitNet's llama.cpp (ygqdan/BitNet-linux at
 * 6d113cd299af; compiled with -ffp-contract=off: fused multiply-adds move the least squares of
 * Q6_K), quantize_i2_s of the same repository (the 28 bytes behind the scale, which it leaves as
 * they were, taken as zeros), and quantize_iq1_bn, quantize_iq2_bn and quantize_iq2_bn_r4 of
 * ikawrakow/ik_llama.cpp at 8337e4cd3861 (values: the codes that its dequantize_row_iq1_bn and
 * dequantize_row_iq2_bn give, times the scale of the row). */
static const struct gold {
    enum tensor_type type;
    uint64_t n_bytes, bytes, values; /* FNV-1a of the bytes and of the float32 values */
} golds[] = {
    {TENSOR_Q4_0, 9216, 0x8ddc5a60e6004e37, 0xc8934d8bbd951b72},
    {TENSOR_Q8_0, 17408, 0x1f27d17be944bc07, 0x57d45d725c68bd24},
    {TENSOR_Q6_K, 13440, 0x23391b2778d21dbd, 0xf21dfa123c8efdeb},
    {TENSOR_TQ1_0, 3456, 0x400530e01e0e16c0, 0x1f046536fdc10215},
    {TENSOR_TQ2_0, 4224, 0xc552fcf41af5a576, 0x1f046536fdc10215},
    {TENSOR_I2_S, 4128, 0xc7b5e576fc3331b4, 0xb9870b5db34b23b5},
    {TENSOR_IQ1_BN, 3360, 0x79a3395614807fdb, 0x1f046536fdc10215},
    {TENSOR_IQ2_BN, 4160, 0x9fa215c2d7d6ffed, 0xb9870b5db34b23b5},
    {TENSOR_IQ2_BN_R4, 4160, 0xddbddd9305b7460b, 0xb9870b5db34b23b5},
};

/* The values of a written tensor, as its readers give them. */
static void read_gold(const struct gold *g, const uint8_t *bytes, float *y)
{
    if (g->type != TENSOR_I2_S) {
        const int rows = GOLD / GOLD_COLS;
        const int step = (int)tensor_type_info(g->type)->rows_together;
        for (int r = 0; r < rows; r += step) {
            dequantize_unit(g->type, bytes + g->n_bytes / (uint64_t)rows * (uint64_t)r, GOLD_COLS,
                            y + GOLD_COLS * r);
        }
        return;
    }
    static int8_t w[GOLD];
    struct bnt_err err = {0};
    float scale;
    struct ternary_source src = {.type = g->type,
                                 .data = bytes,
                                 .size = g->n_bytes,
                                 .rows = GOLD / GOLD_COLS,
                                 .cols = GOLD_COLS};
    es_ok(ternary_decode(&src, 0, src.rows, w, &scale, &err), &err);
    for (int i = 0; i < GOLD; i++) {
        y[i] = (float)w[i] * scale;
    }
}

static void bytes_and_values_are_those_of_ggml(void **state)
{
    (void)state;
    static float x[GOLD], y[GOLD];
    static int8_t w[GOLD];
    static uint8_t bytes[2 * GOLD];
    struct bnt_err err = {0};
    fill_gold(x);
    fill_gold_codes(w);
    assert_true(fnv(x, sizeof x) == 0xfe0ed7a8328ac6ea); /* the recorded input */
    for (size_t i = 0; i < sizeof golds / sizeof golds[0]; i++) {
        const struct gold *g = &golds[i];
        memset(bytes, 0, sizeof bytes);
        if (tensor_type_info(g->type)->ternary) {
            struct ternary_source shape = {
                .type = g->type, .size = g->n_bytes, .rows = GOLD / GOLD_COLS, .cols = GOLD_COLS};
            es_ok(ternary_encode(&shape, w, gold_scale, bytes, &err), &err);
        } else {
            quantize_row(g->type, x, GOLD, bytes);
        }
        if (fnv(bytes, g->n_bytes) != g->bytes) {
            fail_msg("%s: other bytes than ggml writes", tensor_type_info(g->type)->name);
        }
        read_gold(g, bytes, y);
        if (fnv(y, sizeof y) != g->values) {
            fail_msg("%s: other values than ggml reads", tensor_type_info(g->type)->name);
        }
    }
}

/* ---- files ---- */

static const char *const tl_tiles[] = {"256x256=64,64,32", "128x256=64,64,32", "256x768=64,96,32",
                                       "768x256=64,64,32"};
static const char *const tl2_tiles[] = {"256x256=64,96,32", "128x256=64,96,32", "256x768=64,96,32",
                                        "768x256=64,96,32"};

static enum bnt_status quantize(const char *from, const char *to, const char *type, bool force,
                                struct bnt_err *err)
{
    struct mwrite_report report;
    const struct tensor_type_info *info = tensor_type_find(type);
    /* For what is written alone: those of what is read stand in the file. */
    const bool has_tiles = info->type == TENSOR_TL1 || info->type == TENSOR_TL2;
    struct bnt_quantize_options o = {.type = info->type,
                                     .force = force,
                                     .i2s_layout = "128/32",
                                     .n_tiles = has_tiles ? 4 : 0,
                                     .tiles = info->type == TENSOR_TL1 ? tl_tiles : tl2_tiles};
    return bnt_quantize(from, to, &o, &report, err);
}

/* Codes and scale of a linear weight, ".scale" and all; freed by the caller. */
static int8_t *codes_of(const struct gguf *g, const struct gguf_tensor *t, float *scale)
{
    struct bnt_err err = {0};
    struct ternary_source s = {
        .type = t->type, .size = t->size, .rows = t->ne[1], .cols = t->ne[0]};
    uint8_t *bytes = malloc(t->size);
    int8_t *w = malloc(s.rows * s.cols);
    es_ok(gguf_tensor_read(g, t, 0, t->size, bytes, &err), &err);
    s.data = bytes;
    tl_tiles_of_file(g, t->type, s.rows, s.cols, &s.tiles);
    es_ok(ternary_decode(&s, 0, s.rows, w, scale, &err), &err);
    char name[GGUF_MAX_NAME_BYTES + 8];
    snprintf(name, sizeof name, "%.*s.scale", (int)(t->name.len - strlen(".weight")), t->name.data);
    const struct gguf_tensor *beside = gguf_find_tensor(g, name);
    if (beside) {
        float factor;
        es_ok(gguf_tensor_read(g, beside, 0, 4, &factor, &err), &err);
        *scale *= factor;
    }
    free(bytes);
    return w;
}

/* Both files have the same codes and scales, and all else byte for byte. */
static void assert_same_model(const char *path, const char *type)
{
    struct bnt_err err = {0};
    struct gguf *a, *b;
    uint64_t file_type = 0;
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_MAP, &a, &err), &err);
    es_ok(gguf_open(path, GGUF_MODE_MAP, &b, &err), &err);
    assert_true(gguf_get_u64(b, "general.file_type", &file_type));
    assert_int_equal(file_type, tensor_file_type(tensor_type_find(type)->type));
    for (uint64_t i = 0; i < a->n_tensors; i++) {
        char name[GGUF_MAX_NAME_BYTES + 1];
        const struct gguf_tensor *t = &a->tensors[i];
        gplan_name(name, t->name);
        const struct gguf_tensor *u = gguf_find_tensor(b, name);
        assert_non_null(u);
        if (tensor_role(t->name) != ROLE_LINEAR) {
            assert_int_equal(t->size, u->size);
            assert_memory_equal(gguf_tensor_view(a, t), gguf_tensor_view(b, u), t->size);
            continue;
        }
        assert_string_equal(tensor_type_name(u->type), tensor_type_find(type)->name);
        float one = 0, other = 0;
        int8_t *v = codes_of(a, t, &one), *w = codes_of(b, u, &other);
        assert_memory_equal(v, w, t->ne[0] * t->ne[1]);
        assert_true(one == other);
        free(v);
        free(w);
    }
    gguf_close(a);
    gguf_close(b);
}

/* A chain through every ternary type and back; at every station nothing is lost. F32 holds the
 * products exactly, and its weights are seen to be ternary. */
static void ternary_types_lose_nothing(void **state)
{
    (void)state;
    static const char *const chain[] = {"tq1_0", "iq2_bn", "tl1", "f32", "iq2_bn_r4",
                                        "tq2_0", "iq1_bn", "tl2", "i2_s"};
    char from[256];
    snprintf(from, sizeof from, "%s", suite_bundled_model());
    for (size_t i = 0; i < sizeof chain / sizeof chain[0]; i++) {
        struct bnt_err err = {0};
        char to[256];
        snprintf(to, sizeof to, "%s", ms_path(chain[i]));
        es_ok(quantize(from, to, chain[i], false, &err), &err);
        if (strcmp(chain[i], "f32") != 0) {
            assert_same_model(to, chain[i]);
        }
        snprintf(from, sizeof from, "%s", to);
    }
}

/* No ternary type holds rows of different scales; what they are as numbers does not depend on how
 * they lie. */
static void rows_of_different_scales_are_numbers(void **state)
{
    (void)state;
    static const char *const types[] = {"iq2_bn", "iq2_bn_r4"};
    struct bnt_buf floats[2] = {BNT_BUF(64 << 20), BNT_BUF(64 << 20)};
    for (size_t i = 0; i < 2; i++) {
        struct bnt_err err = {0};
        char from[256], to[256];
        /* 5461 rows would fill a piece, which is no multiple of four. */
        const struct bnt_mock_recipe r = {
            .type = types[i], .n_layer = 1, .n_embd = 192, .n_head = 2, .n_ff = 5632};
        snprintf(from, sizeof from, "%s", ms_make("rows.gguf", &r, NULL));
        snprintf(to, sizeof to, "%s", ms_path("out.gguf"));
        ms_scale_each_row(from);
        assert_int_equal(quantize(from, to, "i2_s", false, &err), BNT_E_UNSUPPORTED);
        assert_non_null(strstr(err.msg, "rows of the tensor have different scales"));
        assert_non_null(strstr(err.hint, "f32 can hold them"));
        err = (struct bnt_err){0};
        es_ok(quantize(from, to, "f32", false, &err), &err);
        es_ok(bnt_file_read(to, &floats[i], &err), &err);
    }
    const size_t tail = 3 * 192 * 5632 * sizeof(float); /* behind keys, which name the type */
    assert_true(floats[0].len > tail && floats[1].len > tail);
    assert_memory_equal((const char *)bnt_buf_view(&floats[0]) + floats[0].len - tail,
                        (const char *)bnt_buf_view(&floats[1]) + floats[1].len - tail, tail);
    bnt_buf_release(&floats[0]);
    bnt_buf_release(&floats[1]);
}

static void tiles_that_nobody_says_are_asked_for(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct mwrite_report report;
    struct bnt_quantize_options o = {.type = TENSOR_TL2, .i2s_layout = "128/32"};
    assert_int_equal(bnt_quantize(suite_bundled_model(), ms_path("tl2.gguf"), &o, &report, &err),
                     BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--tiles 256x256="));
}

static void an_untrained_model_is_not_ternarised(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    const struct bnt_mock_recipe llama = {.arch = "llama", .type = "f16", .n_layer = 1},
                                 rounded = {.arch = "llama", .type = "q4_0", .n_layer = 1},
                                 ternary = {.arch = "llama", .type = "tq2_0", .n_layer = 1};
    char from[256], to[256];
    snprintf(from, sizeof from, "%s", ms_make("llama.gguf", &llama, NULL));
    snprintf(to, sizeof to, "%s", ms_path("out.gguf"));
    assert_int_equal(quantize(from, to, "i2_s", false, &err), BNT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "not trained for ternary"));
    assert_int_not_equal(access(to, F_OK), 0);
    err = (struct bnt_err){0};
    es_ok(quantize(from, to, "i2_s", true, &err), &err);
    es_ok(quantize(from, to, "q8_0", false, &err), &err);
    snprintf(from, sizeof from, "%s", ms_make("rounded.gguf", &rounded, NULL));
    assert_int_equal(quantize(from, to, "q8_0", false, &err), BNT_E_UNSUPPORTED);
    err = (struct bnt_err){0};
    es_ok(quantize(from, to, "q8_0", true, &err), &err);
    snprintf(from, sizeof from, "%s", ms_make("ternary.gguf", &ternary, NULL));
    es_ok(quantize(from, to, "i2_s", false, &err), &err);
    assert_int_equal(quantize(to, to, "tq2_0", false, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.msg, "is the file that is read"));
}

/* What the audit is for: a plan that says something else than the file. */
static void the_audit_sees_what_differs(void **state)
{
    (void)state;
    struct bnt_err err = {0};
    struct gguf *g;
    struct gguf_plan p;
    int32_t top;
    gplan_init(&p);
    es_ok(gguf_open(suite_bundled_model(), GGUF_MODE_STREAM, &g, &err), &err);
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        es_ok(gplan_copy_tensor(&p, &g->tensors[i], &err), &err);
        p.tensors[i].offset = g->tensors[i].offset - g->data_offset;
    }
    es_ok(file_audit(suite_bundled_model(), &p, TENSOR_I2_S, &top, &err), &err);
    assert_int_equal(file_audit(suite_bundled_model(), &p, TENSOR_F16, &top, NULL), BNT_E_FAILED);
    struct gplan_tensor *t = &p.tensors[5];
    const struct gplan_tensor sound = *t;
    t->type++;
    assert_int_equal(file_audit(suite_bundled_model(), &p, TENSOR_I2_S, &top, NULL), BNT_E_FAILED);
    *t = sound;
    t->offset += 32;
    assert_int_equal(file_audit(suite_bundled_model(), &p, TENSOR_I2_S, &top, NULL), BNT_E_FAILED);
    *t = sound;
    p.n_tensors--;
    assert_int_equal(file_audit(suite_bundled_model(), &p, TENSOR_I2_S, &top, NULL), BNT_E_FAILED);
    gplan_release(&p);
    gguf_close(g);
}

static void the_command_writes_and_tells(void **state)
{
    (void)state;
    struct suite_output o;
    const char *const good[] = {suite_bnt(), "quantize", suite_bundled_model(),
                                "q.gguf",    "q8_0",     "--embedding",
                                "q6_k",      "--json",   NULL};
    suite_run(good, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, 0);
    assert_non_null(strstr(o.out, "\"type\":\"Q8_0\""));
    suite_output_release(&o);
    const char *const bad[] = {suite_bnt(), "quantize", suite_bundled_model(),
                               "q.gguf",    "q9",       NULL};
    suite_run(bad, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, BNT_E_USAGE);
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "quantize_absmean_is_that_of_the_paper", .body = absmean_is_that_of_the_paper},
    {.name = "quantize_absmean_keeps_what_is_ternary", .body = absmean_keeps_what_is_ternary},
    {.name = "quantize_rows_are_off_by_half_a_step_at_most",
     .body = rows_are_off_by_half_a_step_at_most},
    {.name = "quantize_blocks_have_the_bytes_of_the_reference",
     .body = blocks_have_the_bytes_of_the_reference},
    {.name = "quantize_bytes_and_values_are_those_of_ggml",
     .body = bytes_and_values_are_those_of_ggml},
    {.name = "quantize_ternary_types_lose_nothing", .body = ternary_types_lose_nothing},
    {.name = "quantize_rows_of_different_scales_are_numbers",
     .body = rows_of_different_scales_are_numbers},
    {.name = "quantize_tiles_that_nobody_says_are_asked_for",
     .body = tiles_that_nobody_says_are_asked_for},
    {.name = "quantize_an_untrained_model_is_not_ternarised",
     .body = an_untrained_model_is_not_ternarised},
    {.name = "quantize_the_audit_sees_what_differs", .body = the_audit_sees_what_differs},
    {.name = "quantize_the_command_writes_and_tells", .body = the_command_writes_and_tells},
    {0},
};
const struct suite suite_quantize = {
    "quantize", tests,
    "dequant_iq1_order dequant_iq2_bn dequant_row_of_four quantize_q8_cut absmean_cut "
    "scale_rounded audit_blind ternarise_any"};
