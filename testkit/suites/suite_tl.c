/* Guards products by table look-up: a tile, a sign or a half of a sum in the wrong row gives fluent
 * nonsense, so results must be those of the same weights in 2 bits, bit for bit, in whatever shape,
 * range of rows and place in a batch, and in a model as a whole. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "engine/cpu/tables.h"
#include "engine/cpu/tl.h"
#include "engine/fix.h"
#include "engine/quantize_file.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

static struct bnt_rng rng;

/* ---- products ---- */

enum { TOKS = 3 };

/* A matrix of random ternary weights in both forms, and activations; memory ends where it must. */
struct product {
    struct tl_weights tl;
    struct ternary_weights codes;
    struct act_rows a;
    uint8_t *tiled, *packed;
};

static void make_weights(struct product *p, struct ternary_source shape)
{
    struct bnt_err err = {0};
    const uint64_t ne[4] = {shape.cols, shape.rows, 1, 1};
    assert_true(tensor_size(shape.type, ne, &shape.size));
    int8_t *w = malloc(shape.rows * shape.cols);
    for (uint64_t i = 0; i < shape.rows * shape.cols; i++) {
        w[i] = (int8_t)(bnt_rng_next(&rng) % 3) - 1;
    }
    p->tiled = calloc(1, shape.size);
    es_ok(ternary_encode(&shape, w, 0.37f, p->tiled, &err), &err);
    shape.data = p->tiled;
    assert_true(tl_find_planes(&shape, &p->tl.planes));
    p->tl.scale = 0.37f;
    p->codes = (struct ternary_weights){.rows = shape.rows,
                                        .cols = shape.cols,
                                        .row_bytes = ternary_row_bytes(shape.cols),
                                        .scale = 0.37f};
    p->packed = malloc(shape.rows * p->codes.row_bytes);
    ternary_pack(w, shape.rows, shape.cols, p->packed);
    p->codes.codes = p->packed;
    free(w);
}

/* extreme: the ends of the range, where sums of 16 bits would overflow if they were not widened. */
static void make_acts(struct product *p, bool extreme)
{
    const uint64_t cols = p->codes.cols;
    p->a = (struct act_rows){.stride = act_stride(cols)};
    p->a.q = aligned_alloc(64, TOKS * p->a.stride);
    memset(p->a.q, 0, TOKS * p->a.stride);
    p->a.scale = malloc(TOKS * sizeof(float));
    p->a.sum = calloc(TOKS, sizeof(int32_t));
    for (size_t t = 0; t < TOKS; t++) {
        p->a.scale[t] = 0.01f * (float)(t + 1);
        for (uint64_t c = 0; c < cols; c++) {
            int q = extreme ? (t == 1 ? 127 : -128) : (int)(bnt_rng_next(&rng) % 256) - 128;
            p->a.q[t * p->a.stride + act_position(c)] = (int8_t)q;
            p->a.sum[t] += q;
        }
    }
    p->a.tables_stride = tl_tables_bytes(p->tl.planes.type, cols, p->tl.planes.cols3);
    p->a.tables = malloc(TOKS * p->a.tables_stride);
}

static void product_release(struct product *p)
{
    free(p->tiled);
    free(p->packed);
    free(p->a.q);
    free(p->a.scale);
    free(p->a.sum);
    free(p->a.tables);
}

static void check_table(const struct cpu_kernels *k, const struct product *p, const char *detail)
{
    const uint64_t rows = p->codes.rows;
    float *got = calloc(TOKS * rows, sizeof *got), *want = calloc(TOKS * rows, sizeof *want);
    for (size_t t = 0; t < TOKS; t++) {
        k->tl_tables(&p->tl.planes, p->a.q + t * p->a.stride, p->a.tables + t * p->a.tables_stride);
    }
    uint64_t row0 = bnt_rng_next(&rng) % rows, row1 = row0 + 1 + bnt_rng_next(&rng) % (rows - row0);
    if (bnt_rng_next(&rng) % 2) {
        row0 = 0;
        row1 = rows;
    }
    cpu_kernels_ref.matmul_ternary(&p->codes, row0, row1, &p->a, TOKS, want, rows);
    k->matmul_tl(&p->tl, row0, row1, &p->a, TOKS, got, rows);
    for (uint64_t i = 0; i < TOKS * rows; i++) {
        if (memcmp(&got[i], &want[i], sizeof *got) != 0) {
            fail_msg("%s, %s, rows %d to %d: element %d is %.9g, not %.9g", k->name, detail,
                     (int)row0, (int)row1, (int)i, (double)got[i], (double)want[i]);
        }
    }
    free(got);
    free(want);
}

/* Tiles of every kind: more rows than are summed in one go, columns that are no whole octet,
 * triples without pairs, pairs without triples, sums that are widened midway. */
static const struct ternary_source shapes[] = {
    {.type = TENSOR_TL1, .rows = 64, .cols = 64, .tiles = {32, 32, 32}},
    {.type = TENSOR_TL1, .rows = 128, .cols = 36, .tiles = {64, 12, 64}},
    {.type = TENSOR_TL1, .rows = 1088, .cols = 48, .tiles = {544, 24, 32}},
    {.type = TENSOR_TL1, .rows = 64, .cols = 1600, .tiles = {64, 1600, 64}},
    {.type = TENSOR_TL1, .rows = 32, .cols = 1600, .tiles = {32, 1600, 32}},
    {.type = TENSOR_TL2, .rows = 64, .cols = 320, .tiles = {64, 96, 32}},
    {.type = TENSOR_TL2, .rows = 96, .cols = 288, .tiles = {32, 72, 32}},
    {.type = TENSOR_TL2, .rows = 32, .cols = 256, .tiles = {32, 264, 32}},
    {.type = TENSOR_TL2, .rows = 1088, .cols = 320, .tiles = {544, 96, 32}},
    {.type = TENSOR_TL2, .rows = 64, .cols = 1600, .tiles = {64, 768, 32}},
};

static void tables_equal_codes(void **state)
{
    (void)state;
    const struct cpu_kernels *const *all = cpu_kernels_all();
    for (size_t i = 0; i < 2 * sizeof shapes / sizeof shapes[0]; i++) {
        const struct ternary_source *s = &shapes[i / 2];
        struct product p = {0};
        char detail[64];
        bnt_rng_seed(&rng, i);
        snprintf(detail, sizeof detail, "shape %d%s", (int)(i / 2), i % 2 ? ", extreme" : "");
        make_weights(&p, *s);
        make_acts(&p, i % 2 != 0);
        for (size_t k = 0; all[k]; k++) {
            if (!cpu_kernels_missing(all[k])) {
                check_table(all[k], &p, detail);
            }
        }
        product_release(&p);
    }
}

/* ---- models ---- */

static const char *const tl1_tiles[] = {"256x256=64,64,64", "128x256=128,64,32", "256x768=64,96,32",
                                        "768x256=256,64,64"};
/* Keys and values have other columns in triples than queries: they cannot share their tables. */
static const char *const tl2_tiles[] = {"256x256=64,96,32", "128x256=64,264,32", "256x768=64,96,32",
                                        "768x256=256,96,32"};

static const char *tiled_model(enum tensor_type type)
{
    struct bnt_err err = {0};
    struct mwrite_report report;
    const char *to = ms_path(type == TENSOR_TL1 ? "tl1.gguf" : "tl2.gguf");
    struct bnt_quantize_options o = {.type = type,
                                     .i2s_layout = "128/32",
                                     .n_tiles = 4,
                                     .tiles = type == TENSOR_TL1 ? tl1_tiles : tl2_tiles};
    es_ok(bnt_quantize(suite_bundled_model(), to, &o, &report, &err), &err);
    return to;
}

static const int32_t ids[] = {1, 300, 17, 42, 900, 1200, 5, 77, 640, 1999, 12, 256};
enum { N_IDS = sizeof ids / sizeof ids[0], N_LAYER = 4, N_LINEAR = 7 * N_LAYER };

static float *rows_of(const char *path, struct bnt_model_options mo, const char *kernel,
                      uint32_t n_batch, uint32_t *n_vocab)
{
    struct es_engine e;
    struct bnt_session_options so = {
        .n_ctx = 64, .n_batch = n_batch, .n_threads = 2, .kernel = kernel, .device = "cpu"};
    mo.session = &so;
    es_open_with(&e, path, &mo, &so);
    float *rows = es_eval_rows(e.session, ids, N_IDS);
    *n_vocab = bnt_model_info(e.model)->n_vocab;
    es_close(&e);
    return rows;
}

static void a_model_speaks_the_same(void **state)
{
    (void)state;
    static const struct {
        enum tensor_type type;
        uint32_t n_batch;
        const char *kernel;
        bool streamed;
    } runs[] = {{TENSOR_TL1, 12, NULL, false},
                {TENSOR_TL1, 1, "ref", true},
                {TENSOR_TL2, 5, NULL, false},
                {TENSOR_TL2, 1, NULL, true},
                {TENSOR_TL2, 12, "ref", false}};
    uint32_t n_vocab;
    float *want = rows_of(suite_bundled_model(), (struct bnt_model_options){0}, NULL, 12, &n_vocab);
    const char *paths[2] = {tiled_model(TENSOR_TL1), tiled_model(TENSOR_TL2)};
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        struct bnt_model_options mo = {.tl_look_up = true, .stream_weights = runs[i].streamed};
        float *got = rows_of(paths[runs[i].type == TENSOR_TL2], mo, runs[i].kernel, runs[i].n_batch,
                             &n_vocab);
        if (memcmp(got, want, sizeof *got * N_IDS * n_vocab) != 0) {
            fail_msg("run %d: another answer than from I2_S", (int)i);
        }
        free(got);
    }
    free(want);
}

/* A file of another maker says no tiles. */
static void forget_tiles(const char *path)
{
    FILE *f = fopen(path, "r+b");
    char head[65536];
    size_t n = fread(head, 1, sizeof head, f);
    char *key = memmem(head, n, "bnt.tl_tiles", 12);
    assert_non_null(key);
    fseek(f, key - head, SEEK_SET);
    fwrite("bnt.tl_other", 1, 12, f);
    fclose(f);
}

static void unknown_tiles_are_an_argument(void **state)
{
    (void)state;
    char path[256];
    struct bnt_err err = {0};
    struct bnt_model *m = NULL;
    uint32_t n_vocab;
    float *want = rows_of(suite_bundled_model(), (struct bnt_model_options){0}, NULL, 12, &n_vocab);
    snprintf(path, sizeof path, "%s", tiled_model(TENSOR_TL2));
    forget_tiles(path);
    assert_int_equal(bnt_model_open(path, NULL, &m, &err), BNT_E_UNSUPPORTED);
    assert_non_null(strstr(err.hint, "--tiles 256x256="));
    struct bnt_model_options mo = {.tl_tiles = tl2_tiles, .n_tl_tiles = 4};
    for (int look_up = 0; look_up < 2; look_up++) {
        mo.tl_look_up = look_up != 0;
        float *got = rows_of(path, mo, NULL, 12, &n_vocab);
        assert_memory_equal(got, want, sizeof *got * N_IDS * n_vocab);
        free(got);
    }
    static const char *const wrong[] = {"256x256=64"};
    mo = (struct bnt_model_options){.tl_tiles = wrong, .n_tl_tiles = 1};
    err = (struct bnt_err){0};
    assert_int_equal(bnt_model_open(path, &mo, &m, &err), BNT_E_USAGE);
    err = (struct bnt_err){0}; /* of a model that needs none, too */
    assert_int_equal(bnt_model_open(suite_bundled_model(), &mo, &m, &err), BNT_E_USAGE);
    free(want);
}

static void expect_findings(const char *path, const struct validate_options *o, size_t n,
                            enum bnt_status status)
{
    struct validate_report r;
    struct bnt_err err = {0};
    es_ok(validate_file(path, o, &r, &err), &err);
    if (r.n != n || validate_status(&r) != status) {
        fail_msg("%s: %zu findings, %s", path, r.n, r.n ? r.findings[0].message : "");
    }
    validate_release(&r);
}

/* Validation, correction and conversion look at the same tiles as the engine does: those that are
 * said, else those of the file. */
static void tiles_are_known_to_whoever_reads_the_file(void **state)
{
    (void)state;
    char path[256], copy[256];
    struct bnt_err err = {0};
    struct fix_report fixed;
    struct mwrite_report made;
    uint32_t n_vocab;
    struct validate_options v = {.level = VALIDATE_COMPREHENSIVE, .profile = VALIDATE_STRICT};
    snprintf(path, sizeof path, "%s", tiled_model(TENSOR_TL2));
    snprintf(copy, sizeof copy, "%s", ms_path("copy.gguf"));
    expect_findings(path, &v, 0, BNT_OK);
    forget_tiles(path);
    expect_findings(path, &v, N_LINEAR, BNT_E_UNSUPPORTED);
    v.tl_tiles = tl2_tiles;
    v.n_tl_tiles = 4;
    v.tl_look_up = true;
    v.level = VALIDATE_PARANOID;
    expect_findings(path, &v, 0, BNT_OK);
    v.level = VALIDATE_STANDARD;
    v.n_tl_tiles = 3; /* the shape of ffn_up and ffn_gate is left out */
    expect_findings(path, &v, 2 * N_LAYER, BNT_E_UNSUPPORTED);
    struct fix_options fix = {0};
    assert_int_equal(fix_file(path, copy, &fix, &fixed, &err), BNT_E_UNSUPPORTED);
    fix = (struct fix_options){.tl_tiles = tl2_tiles, .n_tl_tiles = 4};
    err = (struct bnt_err){0};
    es_ok(fix_file(path, copy, &fix, &fixed, &err), &err);
    struct bnt_quantize_options q = {.type = TENSOR_I2_S};
    assert_int_not_equal(bnt_quantize(path, copy, &q, &made, &err), BNT_OK);
    q.tiles = tl2_tiles;
    q.n_tiles = 4;
    err = (struct bnt_err){0};
    es_ok(bnt_quantize(path, copy, &q, &made, &err), &err);
    float *want = rows_of(suite_bundled_model(), (struct bnt_model_options){0}, NULL, 12, &n_vocab);
    float *got = rows_of(copy, (struct bnt_model_options){0}, NULL, 12, &n_vocab);
    assert_memory_equal(got, want, sizeof *got * N_IDS * n_vocab);
    free(got);
    free(want);
}

static const struct suite_test tests[] = {
    {.name = "tl_tiles_are_known_to_whoever_reads_the_file",
     .body = tiles_are_known_to_whoever_reads_the_file},
    {.name = "tl_tables_equal_codes_bit_for_bit", .body = tables_equal_codes},
    {.name = "tl_a_model_speaks_the_same", .body = a_model_speaks_the_same},
    {.name = "tl_unknown_tiles_are_an_argument", .body = unknown_tiles_are_an_argument},
    {0},
};
const struct suite suite_tl = {"tl", tests, "tl_sign tl_shared_tables"};
