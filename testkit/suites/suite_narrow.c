/* Guards the copy of a head in 12 bits per weight: a logit that differs from the head's by a bit, a
 * row that does not fit and is taken nevertheless, a copy where none is to be. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/rng.h"
#include "engine/bnt_infer.h"
#include "engine/cpu/tables.h"
#include "engine/model.h"
#include "engine/narrow.h"
#include "testkit/suites/engine_support.h"

/* ---- products ---- */

enum { ROWS = 19, MOST_COLS = 400 };

/* Kinds of rows. */
enum { PLAIN, ZEROS, ALL_HIGH, ODD, TOO_ODD, SUBNORMAL, BROKEN, LONG, N_KINDS };

struct product {
    struct weight head;
    uint32_t bits[ROWS][MOST_COLS]; /* of the float32 values */
    uint8_t data[ROWS * MOST_COLS * 4];
};

/* A value of bfloat16 that F16 has too, of the n-th upper byte of 22. */
static uint32_t bits_of_high(struct bnt_rng *rng, int n)
{
    float value = ldexpf(1.0f + (float)bnt_rng_below(rng, 128) / 128, 2 * (n / 2) - 13);
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits | (uint32_t)(n % 2) << 31;
}

static void fill_row(struct bnt_rng *rng, int kind, uint64_t cols, uint32_t *row)
{
    int n_high = kind == ALL_HIGH || kind == ODD || kind == TOO_ODD ? NARROW_HIGH : 7;
    uint64_t n_odd = kind == ODD ? NARROW_ODD : kind == TOO_ODD ? NARROW_ODD + 1 : 0;
    for (uint64_t c = 0; c < cols; c++) {
        row[c] = bits_of_high(rng, (int)(c % (uint64_t)n_high));
        row[c] = kind == ZEROS ? (uint32_t)(c % 3) << 31 : row[c];
        row[c] = kind == SUBNORMAL ? 0x33800000u + (uint32_t)(c % 5) * 0x00800000u : row[c];
    }
    for (uint64_t i = 0; i < n_odd && cols > 1; i++) {
        row[i * (cols - 1) / (n_odd - 1)] = bits_of_high(rng, NARROW_HIGH + (int)i);
    }
    if (kind == BROKEN) {
        row[cols / 2] = 0x7f800000u;
        row[cols - 1] = cols % 2 == 0 ? 0x7fc00000u : 0xff800000u;
    }
    if (kind == LONG) { /* one bit more than bfloat16 has */
        row[cols / 3] |= 0x8000u;
    }
}

static void make_head(struct product *p, enum tensor_type type, uint64_t cols)
{
    struct bnt_rng rng;
    uint64_t width = type == TENSOR_F32 ? 4 : 2;
    bnt_rng_seed(&rng, cols);
    for (uint64_t r = 0; r < ROWS; r++) {
        int kind = (int)(r % N_KINDS);
        fill_row(&rng, kind == LONG && type == TENSOR_BF16 ? PLAIN : kind, cols, p->bits[r]);
        for (uint64_t c = 0; c < cols; c++) {
            float value;
            memcpy(&value, &p->bits[r][c], sizeof value);
            uint16_t half =
                type == TENSOR_F16 ? f32_to_f16(value) : (uint16_t)(p->bits[r][c] >> 16);
            memcpy(p->data + (r * cols + c) * width,
                   type == TENSOR_F32 ? (const void *)&value : &half, width);
        }
    }
    p->head = (struct weight){
        .type = type, .rows = ROWS, .cols = cols, .row_bytes = cols * width, .data = p->data};
}

static void check_products(const struct product *p, const struct narrow_codes *w)
{
    struct row_walk walk = {0, ROWS / WALK_STREAMS, ROWS / WALK_STREAMS};
    float x[MOST_COLS], y[2][ROWS] = {{0}};
    for (uint64_t c = 0; c < p->head.cols; c++) {
        x[c] = sinf((float)c + 1);
    }
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        if (cpu_kernels_missing(*k)) {
            continue;
        }
        cpu_kernels_ref.dot_float(&w->whole, &walk, x, y[0]);
        (*k)->dot_narrow(w, &walk, x, y[1]);
        for (int r = 0; r < ROWS; r++) {
            assert_true((isnan(y[0][r]) && isnan(y[1][r])) ||
                        memcmp(&y[0][r], &y[1][r], sizeof(float)) == 0);
        }
    }
}

static void products_are_those_of_the_head(void **state)
{
    (void)state;
    static struct product p;
    static const enum tensor_type types[] = {TENSOR_F16, TENSOR_BF16, TENSOR_F32};
    static const uint64_t cols[] = {1, 100, 128, 257, 400};
    for (size_t i = 0; i < 15; i++) {
        struct bnt_err err = {0};
        struct narrow_codes w;
        make_head(&p, types[i % 3], cols[i / 3]);
        assert_true(narrow_may_fit(&p.head));
        uint8_t *form = aligned_alloc(64, (narrow_bytes(&p.head) + 63) / 64 * 64);
        assert_non_null(form);
        memset(form, 0, narrow_bytes(&p.head));
        es_ok(narrow_fill(&p.head, form, &err), &err);
        narrow_view(&p.head, form, &w);
        for (int r = 0; r < ROWS && cols[i / 3] > 1; r++) {
            int kind = r % N_KINDS;
            bool whole = kind == TOO_ODD || (kind == LONG && types[i % 3] != TENSOR_BF16);
            assert_int_equal(w.rows[r].n_odd, whole ? NARROW_WHOLE : kind == ODD ? NARROW_ODD : 0);
        }
        assert_true(cols[i / 3] == 1 ||
                    narrow_whole_rows(form) == (types[i % 3] == TENSOR_BF16 ? 2 : 4));
        check_products(&p, &w);
        free(form);
    }
}

static void forget_a_row(const struct narrow_codes *w, const struct row_walk *walk, const float *x,
                         float *y)
{
    cpu_kernels_ref.dot_narrow(w, walk, x, y);
    y[walk->end - 1] *= w->whole.cols > 100 ? 2 : 1;
}

static void a_table_that_is_wrong_fails_its_self_test(void **state)
{
    (void)state;
    struct cpu_kernels broken = cpu_kernels_ref;
    struct bnt_err err = {0};
    broken.dot_narrow = forget_a_row;
    assert_int_equal(cpu_kernels_self_test(&broken, &err), BNT_E_SELF_TEST);
    assert_non_null(strstr(err.msg, "dot_narrow"));
}

/* ---- a model ---- */

enum { TOKENS = 24 };

static char heard[BNT_PATH_MAX + 200];

static void hear(void *ctx, const char *what, const char *hint)
{
    (void)ctx;
    (void)hint;
    snprintf(heard, sizeof heard, "%s", what);
}

/* The bundled model with a head whose values bfloat16 has, in the scratch folder. */
static const char *rounded_model(void)
{
    static char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_buf file;
    struct bnt_model *m;
    es_ok(bnt_model_open(suite_bundled_model(), NULL, &m, &err), &err);
    const struct gguf_tensor *t = gguf_find_tensor(bnt_model_gguf(m), "token_embd.weight");
    uint64_t first = t->offset, n = t->size / 2;
    assert_int_equal(t->type, TENSOR_F16);
    bnt_model_close(m);
    bnt_buf_init(&file, 64 << 20);
    es_ok(bnt_file_read(suite_bundled_model(), &file, &err), &err);
    for (uint64_t i = 0; i < n; i++) {
        uint16_t half;
        char *at = file.data + first + 2 * i;
        memcpy(&half, at, sizeof half);
        half &= half & 0x7c00 ? 0xfff8 : 0x8000;
        memcpy(at, &half, sizeof half);
    }
    snprintf(path, sizeof path, "%s/rounded.gguf", suite_scratch());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    es_ok(bnt_write_all(fd, file.data, file.len, path, &err), &err);
    close(fd);
    bnt_buf_release(&file);
    return path;
}

static struct bnt_model_options kept_in(char dir[BNT_PATH_MAX])
{
    snprintf(dir, BNT_PATH_MAX, "%s/kept", suite_scratch());
    return (struct bnt_model_options){.i2s_layout = "128/32",
                                      .packed_dir = dir,
                                      .packed_min_bytes = 1,
                                      .head = BNT_HEAD_NARROW,
                                      .warn = hear};
}

static void check_same_logits(struct es_engine *full, struct es_engine *narrow)
{
    struct bnt_err err = {0};
    size_t bytes = bnt_session_n_vocab(full->session) * sizeof(float);
    struct bnt_session_stats stats[2];
    for (int32_t i = 0; i < TOKENS; i++) {
        int32_t id = 11 + i * 13 % 200;
        es_ok(bnt_session_eval(full->session, &id, 1, &err), &err);
        es_ok(bnt_session_eval(narrow->session, &id, 1, &err), &err);
        assert_memory_equal(bnt_session_logits(full->session), bnt_session_logits(narrow->session),
                            bytes);
    }
    bnt_session_stats(full->session, &stats[0]);
    bnt_session_stats(narrow->session, &stats[1]);
    assert_true(stats[1].narrow_head && !stats[0].narrow_head);
    assert_true(stats[1].weight_bytes_per_token < stats[0].weight_bytes_per_token);
}

static void logits_are_those_of_the_head(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    const char *path = rounded_model();
    struct bnt_model_options mo = kept_in(dir), full_mo = mo;
    full_mo.head = BNT_HEAD_FULL;
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            struct bnt_session_options so = {
                .n_ctx = TOKENS, .n_threads = threads, .kernel = (*k)->name};
            struct es_engine full, narrow;
            if (cpu_kernels_missing(*k)) {
                continue;
            }
            es_open_with(&full, path, &full_mo, &so);
            es_open_with(&narrow, path, &mo, &so);
            check_same_logits(&full, &narrow);
            es_close(&narrow);
            es_close(&full);
        }
    }
}

/* Whether the model at path reads such a copy with these options, and what was made for it. */
static bool is_narrow(const char *path, struct bnt_model_options mo, uint64_t *made)
{
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_session_options so = {.n_ctx = 16, .n_threads = 1};
    mo.session = mo.session ? mo.session : &so;
    heard[0] = '\0';
    es_ok(bnt_model_open(path, &mo, &m, &err), &err);
    bool narrow = bnt_model_info(m)->narrow_head;
    assert_int_equal(narrow, m->narrow.rows != NULL);
    assert_false(bnt_model_info(m)->streamed);
    *made = bnt_model_info(m)->packed_made_bytes;
    bnt_model_close(m);
    return narrow;
}

static void a_copy_is_made_once_where_it_is_kept_and_has_room(void **state)
{
    (void)state;
    uint64_t made, first;
    char dir[BNT_PATH_MAX];
    const char *path = rounded_model();
    struct bnt_err err = {0};
    struct bnt_model *m;
    struct bnt_session_options gpu = {.n_ctx = 16, .device = "auto"}, one = {.n_ctx = 16};
    struct bnt_model_options mo = kept_in(dir), other = mo;
    other.head = BNT_HEAD_FULL;
    assert_false(is_narrow(path, other, &first));
    assert_false(is_narrow(suite_bundled_model(), mo, &made)); /* its values are others */
    other = mo;
    other.packed_min_bytes = 0;
    assert_false(is_narrow(path, other, &made)); /* too small to be kept */
    other = mo;
    other.session = &gpu;
    assert_false(is_narrow(path, other, &made)); /* a GPU may compute */
    es_ok(bnt_model_open(path, NULL, &m, &err), &err);
    other.session = &one;
    other.memory_limit = bnt_model_memory_need(m, &one) + 1000;
    bnt_model_close(m);
    assert_false(is_narrow(path, other, &made));
    assert_true(is_narrow(path, mo, &made) && made > 0);
    assert_true(is_narrow(path, mo, &made) && made == 0);
    assert_string_equal(heard, "");
}

static void a_damaged_copy_is_made_anew(void **state)
{
    (void)state;
    uint64_t made;
    char dir[BNT_PATH_MAX], pattern[BNT_PATH_MAX + 32];
    const char *path = rounded_model();
    struct bnt_model_options mo = kept_in(dir);
    glob_t found;
    assert_true(is_narrow(path, mo, &made));
    snprintf(pattern, sizeof pattern, "%s/*/head-bf16.*.pack", dir);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    chmod(found.gl_pathv[0], 0644);
    int fd = open(found.gl_pathv[0], O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0 && pwrite(fd, "\xff", 1, 5000) == 1);
    close(fd);
    globfree(&found);
    assert_true(is_narrow(path, mo, &made) && made > 0);
    assert_non_null(strstr(heard, "its content is damaged"));
}

static const struct suite_test tests[] = {
    {.name = "narrow_products_are_those_of_the_head", .body = products_are_those_of_the_head},
    {.name = "narrow_a_table_that_is_wrong_fails_its_self_test",
     .body = a_table_that_is_wrong_fails_its_self_test},
    {.name = "narrow_logits_are_those_of_the_head", .body = logits_are_those_of_the_head},
    {.name = "narrow_a_copy_is_made_once_where_it_is_kept_and_has_room",
     .body = a_copy_is_made_once_where_it_is_kept_and_has_room},
    {.name = "narrow_a_damaged_copy_is_made_anew", .body = a_damaged_copy_is_made_anew},
    {0},
};

const struct suite suite_narrow = {"narrow", tests, "narrow_odd_lost"};
