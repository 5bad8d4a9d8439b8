/* Guards against weights that are read wrongly: a dequantiser that differs from the reference in
 * one bit, a ternary packing or tile order mistaken for another, codes and scales that no quantiser
 * writes taken for weights. */
#include "testkit/suite.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/gguf.h"
#include "engine/tensor_type.h"

enum { VEC_MAX_BYTES = 1 << 20 };

/* ---- recorded vectors (format: testkit/data/dequant/README.md) ---- */

struct vec_case {
    uint64_t cols, rows;
    struct tl_tiles tiles;
    uint32_t layout;
    uint64_t raw_len;
    const uint8_t *raw;
    const uint8_t *values; /* rows*cols floats, little-endian, unaligned */
};

typedef void vec_fn(const struct tensor_type_info *info, const struct vec_case *c, void *ctx);

static uint64_t take(const struct bnt_buf *buf, size_t *at, unsigned width)
{
    uint64_t v = 0;
    assert_true(*at + width <= buf->len);
    for (unsigned i = 0; i < width; i++) {
        v |= (uint64_t)(uint8_t)buf->data[*at + i] << (8 * i);
    }
    *at += width;
    return v;
}

static const uint8_t *take_bytes(const struct bnt_buf *buf, size_t *at, uint64_t n)
{
    assert_true(n <= buf->len - *at);
    const uint8_t *p = (const uint8_t *)buf->data + *at;
    *at += n;
    return p;
}

static void take_case(const struct bnt_buf *buf, size_t *at, struct vec_case *c)
{
    c->cols = take(buf, at, 8);
    c->rows = take(buf, at, 8);
    c->tiles.bm = (uint32_t)take(buf, at, 4);
    c->tiles.bk = (uint32_t)take(buf, at, 4);
    c->tiles.bm_inner = (uint32_t)take(buf, at, 4);
    c->layout = (uint32_t)take(buf, at, 4);
    c->raw_len = take(buf, at, 8);
    c->raw = take_bytes(buf, at, c->raw_len);
    assert_int_equal(take(buf, at, 8), c->rows * c->cols);
    c->values = take_bytes(buf, at, c->rows * c->cols * 4);
}

/* Call fn for every case of <name>.vec. */
static void each_case(const char *name, vec_fn *fn, void *ctx)
{
    char relative[128];
    snprintf(relative, sizeof relative, "testkit/data/dequant/%s.vec", name);
    struct bnt_buf buf = BNT_BUF(VEC_MAX_BYTES);
    assert_int_equal(bnt_file_read(suite_source(relative), &buf, NULL), BNT_OK);
    size_t at = 4;
    assert_true(buf.len > 16);
    assert_memory_equal(buf.data, "BNTV", 4);
    assert_int_equal(take(&buf, &at, 4), 1);
    const struct tensor_type_info *info = tensor_type_info((uint32_t)take(&buf, &at, 4));
    assert_non_null(info);
    assert_string_equal(info->name, name);
    uint64_t n = take(&buf, &at, 4);
    assert_true(n >= 2);
    for (uint64_t i = 0; i < n; i++) {
        struct vec_case c;
        take_case(&buf, &at, &c);
        fn(info, &c, ctx);
    }
    assert_int_equal(at, buf.len);
    bnt_buf_release(&buf);
}

static void assert_bits_equal(const struct vec_case *c, const float *got)
{
    for (uint64_t i = 0; i < c->rows * c->cols; i++) {
        uint32_t want_bits, got_bits;
        memcpy(&want_bits, c->values + 4 * i, 4);
        memcpy(&got_bits, &got[i], 4);
        if (want_bits != got_bits) {
            fail_msg("row %llu, column %llu: bits %08x, recorded %08x",
                     (unsigned long long)(i / c->cols), (unsigned long long)(i % c->cols), got_bits,
                     want_bits);
        }
    }
}

static void check_size(const struct tensor_type_info *info, const struct vec_case *c)
{
    uint64_t ne[4] = {c->cols, c->rows, 1, 1}, size = 0;
    assert_true(tensor_size(info->type, ne, &size));
    assert_int_equal(size, c->raw_len);
}

static void check_rows(const struct tensor_type_info *info, const struct vec_case *c, void *ctx)
{
    (void)ctx;
    check_size(info, c);
    float *got = test_calloc(c->rows * c->cols, sizeof *got);
    uint64_t row_bytes = c->cols / info->block_weights * info->block_bytes;
    /* From an odd address: rows need no alignment. */
    uint8_t *odd = test_malloc(c->raw_len + 1);
    memcpy(odd + 1, c->raw, c->raw_len);
    for (uint64_t r = 0; r < c->rows; r++) {
        dequantize_row(info->type, odd + 1 + r * row_bytes, c->cols, got + r * c->cols);
    }
    assert_bits_equal(c, got);
    test_free(odd);
    test_free(got);
}

static struct ternary_source source_of(const struct tensor_type_info *info,
                                       const struct vec_case *c)
{
    struct ternary_source src = {.type = info->type,
                                 .data = c->raw,
                                 .size = c->raw_len,
                                 .rows = c->rows,
                                 .cols = c->cols,
                                 .layout = (enum i2s_layout)c->layout,
                                 .tiles = c->tiles};
    return src;
}

static void check_codes(const struct tensor_type_info *info, const struct vec_case *c, void *ctx)
{
    (void)ctx;
    check_size(info, c);
    const struct ternary_source src = source_of(info, c);
    float *got = test_calloc(c->rows * c->cols, sizeof *got);
    int8_t *codes = test_malloc(c->rows * c->cols);
    float scale = 0;
    struct bnt_err err = {0};
    if (ternary_decode(&src, 0, c->rows, codes, &scale, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    for (uint64_t i = 0; i < c->rows * c->cols; i++) {
        got[i] = scale * (float)codes[i];
    }
    assert_bits_equal(c, got);

    /* Any range of rows gives the same codes. */
    int8_t *part = test_malloc(c->rows * c->cols);
    for (uint64_t r = 0; r < c->rows; r++) {
        uint64_t last = r + 1 + r % 3 < c->rows ? r + 1 + r % 3 : c->rows;
        assert_int_equal(ternary_decode(&src, r, last, part, &scale, &err), BNT_OK);
        assert_memory_equal(part, codes + r * c->cols, (last - r) * c->cols);
    }
    test_free(part);
    test_free(codes);
    test_free(got);
}

static void rows_equal_recorded_bits(void **state)
{
    (void)state;
    static const char *const names[] = {
        "F16",  "BF16", "Q4_0",   "Q4_1",   "Q5_0",  "Q5_1",  "Q8_0", "Q2_K", "Q3_K",     "Q4_K",
        "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0", "Q2_0_G128"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        each_case(names[i], check_rows, NULL);
    }
}

static void codes_equal_recorded_bits(void **state)
{
    (void)state;
    each_case("I2_S", check_codes, NULL);
    each_case("TL1", check_codes, NULL);
    each_case("TL2", check_codes, NULL);
}

/* ---- packing and unpacking what was packed ---- */

/* xorshift: the sequence is part of the tests. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill_codes(int8_t *w, uint64_t n, uint64_t seed)
{
    for (uint64_t i = 0; i < n; i++) {
        w[i] = (int8_t)((int)(next_random(&seed) >> 33) % 3 - 1);
    }
}

static void packed_rows_decode_to_the_same_codes(void **state)
{
    (void)state;
    enum { ROWS = 5, COLS = 384 };
    int8_t w[ROWS * COLS], back[ROWS * COLS];
    uint8_t data[ROWS * COLS / 4 + 32] = {0};
    const float scale = 0.75f;
    fill_codes(w, ROWS * COLS, 7);
    assert_int_equal(ternary_row_bytes(COLS), COLS / 4);
    ternary_pack(w, ROWS, COLS, data);
    memcpy(data + ROWS * COLS / 4, &scale, sizeof scale);
    struct ternary_source src = {
        .type = TENSOR_I2_S, .data = data, .size = sizeof data, .rows = ROWS, .cols = COLS};
    float got = 0;
    assert_int_equal(ternary_decode(&src, 0, ROWS, back, &got, NULL), BNT_OK);
    assert_memory_equal(w, back, sizeof w);
    assert_true(got == scale);
}

/* 8640 columns are 67.5 blocks: the last half block must hold the code of weight 0. */
static void packing_pads_a_row_with_zero_weights(void **state)
{
    (void)state;
    int8_t w[2 * 192];
    uint8_t packed[2 * 64];
    memset(w, 1, sizeof w);
    assert_int_equal(ternary_row_bytes(192), 64);
    ternary_pack(w, 2, 192, packed);
    for (unsigned r = 0; r < 2; r++) {
        for (unsigned p = 0; p < 32; p++) {
            assert_int_equal(packed[64 * r + p], 0xaa); /* codes 2 2 2 2 */
            assert_int_equal(packed[64 * r + 32 + p],
                             0xa5); /* codes 2 2 1 1: columns 64 and 96 are padding */
        }
    }
}

/* An I2_S stream does not stop at the end of a row. */
static void i2s_blocks_may_span_rows(void **state)
{
    (void)state;
    enum { ROWS = 4, COLS = 160 };
    int8_t w[ROWS * COLS], back[ROWS * COLS];
    uint8_t data[ROWS * COLS / 4 + 32] = {0};
    float scale = 1;
    fill_codes(w, ROWS * COLS, 11);
    ternary_pack(w, 1, ROWS * COLS, data);
    memcpy(data + ROWS * COLS / 4, &scale, sizeof scale);
    struct ternary_source src = {
        .type = TENSOR_I2_S, .data = data, .size = sizeof data, .rows = ROWS, .cols = COLS};
    for (uint64_t r = 0; r < ROWS; r++) {
        assert_int_equal(ternary_decode(&src, r, r + 1, back, &scale, NULL), BNT_OK);
        assert_memory_equal(back, w + r * COLS, COLS);
    }
}

/* ---- TL1 and TL2 at the sizes of real models, against the definition of their order ---- */

/* Write weight pair (a, b) of TL1 where the format's loops put it: an independent, slow statement
 * of the order. */
static void pack_tl1(const int8_t *w, uint64_t rows, uint64_t cols, const struct tl_tiles *t,
                     uint8_t *out)
{
    const uint64_t by = 256 / t->bm_inner;
    for (uint64_t mo = 0; mo < rows; mo += t->bm) {
        for (uint64_t ko = 0; ko < cols; ko += t->bk) {
            for (uint64_t mb = mo; mb < mo + t->bm; mb += t->bm_inner) {
                for (uint64_t kb = ko; kb < ko + t->bk; kb += by) {
                    for (uint64_t m16 = mb; m16 < mb + t->bm_inner; m16 += 16) {
                        for (uint64_t k = kb; k < kb + by; k += 4) {
                            for (uint64_t m = m16; m < m16 + 16; m++) {
                                const int8_t *x = w + m * cols + k;
                                *out++ =
                                    (uint8_t)((3 * x[0] + x[1] + 4) << 4 | (3 * x[2] + x[3] + 4));
                            }
                        }
                    }
                }
            }
        }
    }
}

/* TL2's planes likewise; out is zeroed. */
static void pack_tl2(const int8_t *w, uint64_t rows, uint64_t cols, const struct tl_tiles *t,
                     uint8_t *out)
{
    static const uint8_t row_at[32] = {0,  1,  2,  3,  4,  5,  6,  7,  16, 17, 18,
                                       19, 20, 21, 22, 23, 8,  9,  10, 11, 12, 13,
                                       14, 15, 24, 25, 26, 27, 28, 29, 30, 31};
    const uint64_t cols3 = cols / t->bk * t->bk;
    uint8_t *signs = out + rows * cols3 / 6, *pairs = signs + rows * cols3 / 24;
    for (uint64_t mo = 0; mo < rows; mo += t->bm) {
        for (uint64_t ko = 0; ko < cols3; ko += t->bk) {
            for (uint64_t mb = mo; mb < mo + t->bm; mb += 32) {
                for (uint64_t k = ko; k < ko + t->bk; k += 6) {
                    for (uint64_t p = 0; p < 32; p++) {
                        const int8_t *x = w + (mb + row_at[p]) * cols + k;
                        int v0 = 9 * x[0] + 3 * x[1] + x[2], v1 = 9 * x[3] + 3 * x[4] + x[5];
                        *out++ = (uint8_t)(abs(v0) << 4 | abs(v1));
                    }
                }
                for (uint64_t k = ko; k < ko + t->bk; k += 24) {
                    for (uint64_t p = 0; p < 16; p++) {
                        unsigned word = 0;
                        for (uint64_t j = 0; j < 16; j++) {
                            const int8_t *x = w + (mb + p + 16 * (j % 2)) * cols + k + j / 2 * 3;
                            word = word << 1 | (9 * x[0] + 3 * x[1] + x[2] < 0);
                        }
                        *signs++ = (uint8_t)word;
                        *signs++ = (uint8_t)(word >> 8);
                    }
                }
            }
        }
        for (uint64_t ko = cols3; ko < cols; ko += 32) {
            for (uint64_t mb = mo; mb < mo + t->bm; mb += 32) {
                for (uint64_t k = ko; k < ko + 32; k += 4) {
                    for (uint64_t p = 0; p < 32; p++) {
                        const int8_t *x = w + (mb + row_at[p]) * cols + k;
                        *pairs++ = (uint8_t)((3 * x[0] + x[1] + 4) << 4 | (3 * x[2] + x[3] + 4));
                    }
                }
            }
        }
    }
}

/* A few tile rows of every known shape: the order does not change with more of them. */
static void check_known_shape(enum tensor_type type, uint64_t rows, uint64_t cols)
{
    struct tl_tiles tiles;
    assert_true(tl_tiles_known(type, rows, cols, &tiles));
    assert_int_equal(rows % tiles.bm, 0);
    uint64_t n_rows = 2 * (uint64_t)tiles.bm, ne[4] = {cols, n_rows, 1, 1}, size;
    assert_true(tensor_size(type, ne, &size));
    int8_t *w = test_malloc(n_rows * cols), *back = test_malloc(n_rows * cols);
    uint8_t *data = test_calloc(1, size);
    const float scale = 1.5f;
    fill_codes(w, n_rows * cols, rows + cols);
    if (type == TENSOR_TL1) {
        pack_tl1(w, n_rows, cols, &tiles, data);
    } else {
        pack_tl2(w, n_rows, cols, &tiles, data);
    }
    memcpy(data + size - 32, &scale, sizeof scale);
    struct ternary_source src = {
        .type = type, .data = data, .size = size, .rows = n_rows, .cols = cols, .tiles = tiles};
    float got;
    struct bnt_err err = {0};
    if (ternary_decode(&src, 0, n_rows, back, &got, &err) != BNT_OK) {
        fail_msg("%llu x %llu: %s", (unsigned long long)rows, (unsigned long long)cols, err.msg);
    }
    assert_memory_equal(w, back, n_rows * cols);
    test_free(data);
    test_free(back);
    test_free(w);
}

static void tiles_of_known_models_decode(void **state)
{
    (void)state;
    static const uint32_t shapes[][2] = {
        {1536, 4096},  {1536, 1536},  {4096, 1536},              /* bitnet_b1_58-large */
        {3200, 8640},  {3200, 3200},  {8640, 3200},              /* 3B */
        {14336, 4096}, {4096, 14336}, {1024, 4096}, {4096, 4096} /* Llama3-8B */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_known_shape(TENSOR_TL1, shapes[i][0], shapes[i][1]);
        check_known_shape(TENSOR_TL2, shapes[i][0], shapes[i][1]);
    }
    check_known_shape(TENSOR_TL2, 2560, 6912);
    check_known_shape(TENSOR_TL2, 640, 2560);
    check_known_shape(TENSOR_TL2, 2560, 2560);
    check_known_shape(TENSOR_TL2, 6912, 2560);
    struct tl_tiles none;
    assert_false(tl_tiles_known(TENSOR_TL1, 123, 456, &none));
    assert_false(tl_tiles_known(TENSOR_I2_S, 4096, 4096, &none));
}

/* ---- what no quantiser writes ---- */

static void assert_refused(const struct ternary_source *src, enum gguf_fault fault,
                           const char *says)
{
    int8_t codes[64 * 512];
    float scale;
    struct bnt_err err = {0};
    assert_true(src->rows * src->cols <= sizeof codes);
    assert_int_equal(ternary_decode(src, 0, src->rows, codes, &scale, &err),
                     gguf_fault_info((int)fault)->status);
    assert_string_equal(err.domain, "gguf");
    assert_int_equal(err.foreign, fault);
    if (!strstr(err.msg, says)) {
        fail_msg("'%s' does not say '%s'", err.msg, says);
    }
}

static void wrong_codes_are_refused_by_position(void **state)
{
    (void)state;
    uint8_t data[4 * 128 / 4 + 32];
    memset(data, 0x55, sizeof data); /* all weights 0; 0x55555555 as a float is finite but absurd */
    const float one = 1;
    memcpy(data + 128, &one, sizeof one);
    struct ternary_source src = {
        .type = TENSOR_I2_S, .data = data, .size = sizeof data, .rows = 4, .cols = 128};
    data[2 * 32 + 5] = 0x75; /* second quarter of row 2: column 32 + 5 */
    assert_refused(&src, GGUF_FAULT_CORRUPT, "row 2, column 37");
    src.layout = I2S_ARM; /* bytes 64..79 are columns 0..63 of row 2 there; quarters are 16 wide */
    assert_refused(&src, GGUF_FAULT_CORRUPT, "row 2, column 21");
    src.layout = I2S_ROWS4; /* byte 69 is column 69 of the four rows; the second of them */
    assert_refused(&src, GGUF_FAULT_CORRUPT, "row 1, column 69");

    uint8_t tl[32 * 64 / 4 + 32] = {0};
    memset(tl, 0x44, 32 * 64 / 4);
    tl[17] = 0x94;
    struct ternary_source tl1 = {.type = TENSOR_TL1,
                                 .data = tl,
                                 .size = sizeof tl,
                                 .rows = 32,
                                 .cols = 64,
                                 .tiles = {32, 64, 32}};
    assert_refused(&tl1, GGUF_FAULT_CORRUPT, "row 1, column 4");
}

static void absurd_scales_are_refused(void **state)
{
    (void)state;
    static const float scales[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f};
    uint8_t data[128 / 4 + 32] = {0};
    struct ternary_source src = {
        .type = TENSOR_I2_S, .data = data, .size = sizeof data, .rows = 1, .cols = 128};
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        memcpy(data + 32, &scales[i], sizeof scales[i]);
        assert_refused(&src, GGUF_FAULT_SCALE, "scale");
    }
}

static void shapes_and_tiles_that_do_not_divide_are_refused(void **state)
{
    (void)state;
    uint8_t data[32 * 64 / 4 + 32] = {0};
    struct ternary_source src = {
        .type = TENSOR_TL1, .data = data, .size = sizeof data, .rows = 32, .cols = 64};
    static const struct tl_tiles bad[] = {{0, 64, 32},  {32, 0, 32},  {32, 64, 0},  {32, 64, 16},
                                          {64, 64, 32}, {32, 96, 32}, {32, 64, 64}, {32, 4, 32}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        src.tiles = bad[i];
        assert_refused(&src, GGUF_FAULT_DIMENSIONS, "do not divide");
    }
    src.tiles = (struct tl_tiles){32, 64, 32};
    src.size--;
    assert_refused(&src, GGUF_FAULT_BOUNDS, "bytes");
    struct ternary_source rows4 = {.type = TENSOR_I2_S,
                                   .data = data,
                                   .size = 6 * 64 / 4 + 32,
                                   .rows = 6,
                                   .cols = 64,
                                   .layout = I2S_ROWS4};
    assert_refused(&rows4, GGUF_FAULT_DIMENSIONS, "4-rows");
}

/* TL2: row tiles that do not divide, triples that leave no whole tile of pairs, and pairs that
 * would reach past the scale. */
static void tl2_tiles_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint64_t rows, cols;
        struct tl_tiles tiles;
    } cases[] = {
        {96, 128, {64, 96, 32}}, {96, 128, {32, 24, 32}},  {96, 128, {32, 100, 32}},
        {96, 128, {32, 96, 64}}, {96, 128, {0, 96, 32}},   {96, 128, {32, 0, 32}},
        {96, 128, {48, 96, 32}}, {32, 736, {32, 384, 32}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ne[4] = {cases[i].cols, cases[i].rows, 1, 1}, size;
        assert_true(tensor_size(TENSOR_TL2, ne, &size));
        uint8_t *data = test_calloc(1, size);
        struct ternary_source src = {.type = TENSOR_TL2,
                                     .data = data,
                                     .size = size,
                                     .rows = cases[i].rows,
                                     .cols = cases[i].cols,
                                     .tiles = cases[i].tiles};
        assert_refused(&src, GGUF_FAULT_DIMENSIONS, "do not divide");
        test_free(data);
    }
}

/* ---- TQ blocks have a scale each ---- */

static void put_tq2_block(uint8_t *block, float scale, uint8_t codes)
{
    uint16_t half = f32_to_f16(scale);
    memset(block, codes, 64);
    memcpy(block + 64, &half, sizeof half);
}

static void tq_with_one_scale_decodes_and_others_do_not(void **state)
{
    (void)state;
    uint8_t data[2 * 2 * 66];
    int8_t codes[2 * 512];
    float scale = 0;
    struct bnt_err err = {0};
    struct ternary_source src = {
        .type = TENSOR_TQ2_0, .data = data, .size = sizeof data, .rows = 2, .cols = 512};
    put_tq2_block(data, 0.5f, 0xaa);       /* 1 */
    put_tq2_block(data + 66, 0, 0x00);     /* no scale: nothing but zeros, whatever the codes */
    put_tq2_block(data + 132, 3.0f, 0x55); /* all zero: its scale does not count */
    put_tq2_block(data + 198, 0.5f, 0x00); /* -1 */
    assert_int_equal(ternary_decode(&src, 0, 2, codes, &scale, &err), BNT_OK);
    assert_true(scale == 0.5f);
    for (unsigned i = 0; i < 256; i++) {
        assert_int_equal(codes[i], 1);
        assert_int_equal(codes[256 + i], 0);
        assert_int_equal(codes[512 + i], 0);
        assert_int_equal(codes[768 + i], -1);
    }
    /* Rows alone, with the scale of the whole. */
    put_tq2_block(data + 198, 0, 0x00);
    assert_int_equal(ternary_decode(&src, 1, 2, codes, &scale, &err), BNT_OK);
    assert_true(scale == 0.5f);

    put_tq2_block(data + 198, 0.25f, 0x00);
    assert_int_equal(ternary_decode(&src, 0, 1, codes, &scale, &err), BNT_E_UNSUPPORTED);
    put_tq2_block(data + 198, 0.5f, 0xff);
    assert_refused(&src, GGUF_FAULT_CORRUPT, "row 1, column 256");
}

static void check_tq_codes(const struct tensor_type_info *info, const struct vec_case *c, void *ctx)
{
    unsigned *decoded = ctx;
    const struct ternary_source src = source_of(info, c);
    int8_t *codes = test_malloc(c->rows * c->cols);
    float scale;
    struct bnt_err err = {0};
    if (ternary_decode(&src, 0, c->rows, codes, &scale, &err) == BNT_OK) {
        ++*decoded;
    } else {
        /* Blocks of different scales, or codes of random bytes that mean no weight. */
        assert_true(err.status == BNT_E_UNSUPPORTED || err.foreign == GGUF_FAULT_CORRUPT);
    }
    test_free(codes);
}

static void tq_vectors_with_many_scales_are_left_to_floats(void **state)
{
    (void)state;
    unsigned decoded = 0;
    each_case("TQ1_0", check_tq_codes, &decoded);
    each_case("TQ2_0", check_tq_codes, &decoded);
    assert_int_equal(decoded, 0); /* their blocks differ in scale on purpose */
}

/* TQ1_0 codes agree with its floats, for every value that a byte can have. */
static void tq1_codes_agree_with_its_floats(void **state)
{
    (void)state;
    uint8_t block[54];
    int8_t codes[256];
    float values[256], scale;
    struct ternary_source src = {
        .type = TENSOR_TQ1_0, .data = block, .size = sizeof block, .rows = 1, .cols = 256};
    for (unsigned b = 0; b < 256; b++) {
        memset(block, (int)b, sizeof block);
        uint16_t half = f32_to_f16(2.0f);
        memcpy(block + 52, &half, sizeof half);
        dequantize_row(TENSOR_TQ1_0, block, 256, values);
        assert_int_equal(ternary_decode(&src, 0, 1, codes, &scale, NULL), BNT_OK);
        for (unsigned i = 0; i < 256; i++) {
            assert_true(values[i] == 2.0f * (float)codes[i]);
        }
    }
}

/* ---- half precision, against the definition ---- */

static void every_half_converts_exactly_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t half = (uint16_t)h;
        float f = f16_to_f32(half), in_a_row;
        dequantize_row(TENSOR_F16, &half, 1, &in_a_row);
        assert_memory_equal(&in_a_row, &f, sizeof f);
        int exponent = (int)(h >> 10 & 31);
        double mantissa = h & 1023;
        if (exponent == 31) {
            assert_true(mantissa != 0 ? isnan(f) : isinf(f));
        } else {
            double want =
                exponent == 0 ? ldexp(mantissa, -24) : ldexp(1024 + mantissa, exponent - 25);
            assert_true((double)f == (h >> 15 ? -want : want));
        }
        assert_int_equal(signbit(f) != 0, h >> 15);
        if (!isnan(f)) {
            assert_int_equal(f32_to_f16(f), h);
        } else {
            assert_true(isnan(f16_to_f32(f32_to_f16(f))));
        }
    }
}

/* Halfway between two halves rounds to the even one, a little to either side to the nearer. */
static void floats_round_to_the_nearest_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float low = f16_to_f32((uint16_t)h);
        float high = h == 0x7bff ? 65536.0f : f16_to_f32((uint16_t)(h + 1));
        float middle = (low + high) / 2;
        assert_int_equal(f32_to_f16(middle), h + (h & 1));
        assert_int_equal(f32_to_f16(nextafterf(middle, 0)), h);
        assert_int_equal(f32_to_f16(nextafterf(middle, 1e9f)), h + 1);
        assert_int_equal(f32_to_f16(-middle), 0x8000 + h + (h & 1));
    }
}

/* ---- the table ---- */

static void sizes_overflow_safely(void **state)
{
    (void)state;
    static const uint32_t ids[] = {0,  1,  2,  3,  6,  7,  8,  12, 13, 14,  10,  11,
                                   20, 23, 30, 34, 35, 36, 38, 39, 41, 134, 135, 335};
    static const uint64_t huge[][4] = {
        {1ull << 62, 1, 1, 1},
        {1ull << 32, 1ull << 32, 1, 1},
        {256, 1ull << 54, 4, 4},
        {256, 32, UINT64_MAX, 1},
        {0, 1, 1, 1},
        {256, 0, 1, 1},
        {256, 32, 1, 0},
    };
    uint64_t size;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        const struct tensor_type_info *info = tensor_type_info(ids[i]);
        assert_non_null(info);
        assert_int_equal(info->type, ids[i]);
        for (size_t k = 0; k < sizeof huge / sizeof huge[0]; k++) {
            assert_false(tensor_size(info->type, huge[k], &size));
        }
        uint64_t fine[4] = {512, 64, 1, 1},
                 half_block[4] = {512 + info->block_weights / 2, 1, 1, 1};
        assert_true(tensor_size(info->type, fine, &size));
        if (info->block_bytes) {
            assert_int_equal(size, 512 * 64 / info->block_weights * info->block_bytes +
                                       64 * info->row_scale_bytes);
        }
        if (info->block_weights > 1) {
            assert_false(tensor_size(info->type, half_block, &size));
        }
        fine[1] = 63;
        assert_int_equal(tensor_size(info->type, fine, &size),
                         info->rows_together == 1 && ids[i] != TENSOR_TL2);
    }
}

static void types_are_known_by_name(void **state)
{
    (void)state;
    static const struct {
        uint32_t id;
        const char *name;
        bool read;
    } rows[] = {{0, "F32", true},       {36, "I2_S", true},    {38, "TL1", true},
                {39, "TL2", true},      {10, "Q2_K", true},    {16, "IQ2_XXS", false},
                {20, "IQ4_NL", true},   {37, "I8_S", false},   {40, "NVFP4", false},
                {134, "IQ1_BN", true},  {135, "IQ2_BN", true}, {335, "IQ2_BN_R4", true},
                {142, "IQ2_TN", false}, {21, "IQ3_S", false}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal(tensor_type_name(rows[i].id), rows[i].name);
        assert_int_equal(tensor_type_info(rows[i].id) != NULL, rows[i].read);
    }
    assert_null(tensor_type_name(4242));
    assert_string_equal(i2s_layout_name(I2S_X86), "128/32");
    assert_string_equal(i2s_layout_name(I2S_ARM), "64/16");
    assert_string_equal(i2s_layout_name(I2S_ROWS4), "4-rows");
}

static const struct suite_test tests[] = {
    {.name = "tensor_rows_equal_recorded_bits",
     .body = rows_equal_recorded_bits,
     .cacheable = true,
     .needs = "source"},
    {.name = "tensor_codes_equal_recorded_bits",
     .body = codes_equal_recorded_bits,
     .cacheable = true,
     .needs = "source"},
    {.name = "tensor_packed_rows_decode_to_the_same_codes",
     .body = packed_rows_decode_to_the_same_codes},
    {.name = "tensor_packing_pads_a_row_with_zero_weights",
     .body = packing_pads_a_row_with_zero_weights},
    {.name = "tensor_i2s_blocks_may_span_rows", .body = i2s_blocks_may_span_rows},
    {.name = "tensor_tiles_of_known_models_decode",
     .body = tiles_of_known_models_decode,
     .timeout_ms = 60000},
    {.name = "tensor_wrong_codes_are_refused_by_position",
     .body = wrong_codes_are_refused_by_position},
    {.name = "tensor_absurd_scales_are_refused", .body = absurd_scales_are_refused},
    {.name = "tensor_shapes_and_tiles_that_do_not_divide_are_refused",
     .body = shapes_and_tiles_that_do_not_divide_are_refused},
    {.name = "tensor_tl2_tiles_that_do_not_fit_are_refused",
     .body = tl2_tiles_that_do_not_fit_are_refused},
    {.name = "tensor_tq_with_one_scale_decodes_and_others_do_not",
     .body = tq_with_one_scale_decodes_and_others_do_not},
    {.name = "tensor_tq_vectors_with_many_scales_are_left_to_floats",
     .body = tq_vectors_with_many_scales_are_left_to_floats,
     .needs = "source"},
    {.name = "tensor_tq1_codes_agree_with_its_floats", .body = tq1_codes_agree_with_its_floats},
    {.name = "tensor_every_half_converts_exactly_and_back",
     .body = every_half_converts_exactly_and_back},
    {.name = "tensor_floats_round_to_the_nearest_half", .body = floats_round_to_the_nearest_half},
    {.name = "tensor_sizes_overflow_safely", .body = sizes_overflow_safely},
    {.name = "tensor_types_are_known_by_name", .body = types_are_known_by_name},
    {0},
};
const struct suite suite_tensor_types = {
    "tensor_types", tests,
    "dequant_q4_0 dequant_q3_k dequant_q6_k dequant_iq4 dequant_k_scale dequant_tq1_order "
    "dequant_codes dequant_scale_block i2s_lanes ternary_sign ternary_bad_code "
    "tl1_strip "
    "tl2_sign f16_rounding"};
