/* Guards the copy of ternary matrices five weights to a byte: a logit that differs from that by
 * 2-bit codes, a weight in the wrong place, codes that are no weight, a copy where none is to be.
 */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bnt_infer.h"
#include "engine/cpu/tables.h"
#include "engine/fives.h"
#include "engine/gguf.h"
#include "engine/model.h"
#include "testkit/suites/engine_support.h"

enum { TOKENS = 10 };

static struct bnt_model_options kept_in(char dir[BNT_PATH_MAX])
{
    snprintf(dir, BNT_PATH_MAX, "%s/kept", suite_scratch());
    return (struct bnt_model_options){
        .i2s_layout = "128/32", .packed_dir = dir, .packed_min_bytes = 1};
}

/* A model with the copy, also where the processor would gain nothing by it. */
static void open_with_fives(struct es_engine *e, const char *path, struct bnt_model_options *mo,
                            const struct bnt_session_options *so)
{
    struct bnt_err err = {0};
    es_open_with(e, path, mo, so);
    if (!e->model->by_fives) {
        es_ok(fives_open(e->model, &err), &err);
    }
    assert_true(e->model->by_fives);
}

static uint64_t bytes_of_a_token(const struct es_engine *e)
{
    struct bnt_session_stats stats;
    bnt_session_stats(e->session, &stats);
    return stats.weight_bytes_per_token;
}

/* Tokens one by one, then a batch, which reads the 2-bit codes. */
static void check_same_logits(struct es_engine *codes, struct es_engine *fives)
{
    struct bnt_err err = {0};
    size_t bytes = bnt_session_n_vocab(codes->session) * sizeof(float);
    for (int32_t i = 0; i <= TOKENS; i++) {
        int32_t ids[3] = {11 + i * 13 % 200, 17, 5 + i};
        size_t n = i < TOKENS ? 1 : 3;
        es_ok(bnt_session_eval(codes->session, ids, n, &err), &err);
        es_ok(bnt_session_eval(fives->session, ids, n, &err), &err);
        assert_memory_equal(bnt_session_logits(codes->session), bnt_session_logits(fives->session),
                            bytes);
    }
}

static void logits_are_those_of_the_codes(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_model_options mo = kept_in(dir), plain = mo;
    plain.packed_dir = NULL;
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        for (int threads = 1; threads <= (*k == &cpu_kernels_ref ? 1 : 3); threads += 2) {
            struct bnt_session_options so = {
                .n_ctx = TOKENS + 3, .n_threads = threads, .kernel = (*k)->name};
            struct es_engine codes, fives;
            if (cpu_kernels_missing(*k)) {
                continue;
            }
            es_open_with(&codes, suite_bundled_model(), &plain, &so);
            open_with_fives(&fives, suite_bundled_model(), &mo, &so);
            assert_false(codes.model->by_fives);
            check_same_logits(&codes, &fives);
            es_close(&fives);
            es_close(&codes);
        }
    }
}

/* Of a token: a fifth less of the matrices that have a copy, by a kernel that reads it. */
static void a_token_reads_fewer_bytes(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_model_options mo = kept_in(dir);
    struct bnt_session_options so = {.n_ctx = 16, .n_threads = 1, .kernel = "ref"};
    struct es_engine e;
    struct bnt_err err = {0};
    open_with_fives(&e, suite_bundled_model(), &mo, &so);
    uint64_t before = bytes_of_a_token(&e), saved = 0;
    for (uint32_t il = 0; il < e.model->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            const struct weight *w = &e.model->layers[il].w[i];
            assert_int_equal(w->fives != NULL, i != W_DOWN);
            saved += w->fives ? weight_bytes(w) - fives_read_bytes(w) : 0;
        }
    }
    int32_t id = 7;
    uint64_t zeros = e.model->by_columns ? 1 : 0; /* `down` leaves some out, too */
    es_ok(bnt_session_eval(e.session, &id, 1, &err), &err);
    assert_true(saved > 0 && before - bytes_of_a_token(&e) >= saved + zeros);
    es_close(&e);
}

/* Rows that no group takes, columns that end within a block; what a byte says, by its definition.
 */
static void each_weight_is_in_its_byte(void **state)
{
    (void)state;
    enum { ROWS = 23, COLS = 300, ROW_BYTES = 96, GROUPS = 4, GROUP_BYTES = 512 };
    static uint8_t codes[ROWS][ROW_BYTES], fives[GROUP_BYTES];
    for (uint32_t i = 0; i < sizeof codes; i++) {
        uint32_t u = i * 2654435761u >> 9;
        codes[i / ROW_BYTES][i % ROW_BYTES] =
            (uint8_t)(u % 3 | u / 3 % 3 << 2 | u / 9 % 3 << 4 | u / 27 % 3 << 6);
    }
    struct weight w = {.ternary = true,
                       .rows = ROWS,
                       .cols = COLS,
                       .row_bytes = ROW_BYTES,
                       .data = (const uint8_t *)codes};
    assert_int_equal(fives_read_bytes(&w), GROUPS * GROUP_BYTES + 3 * ROW_BYTES);
    for (uint32_t g = 0; g < GROUPS; g++) {
        assert_true(fives_pack(&w, g, fives));
        for (uint32_t c = 0; c < COLS; c++) {
            uint32_t code = fives[act_position(c)];
            for (uint32_t k = 0; k < FIVES_ROWS; k++, code /= 3) {
                uint8_t byte = codes[FIVES_ROWS * g + k][c / 128 * 32 + c % 32];
                assert_int_equal(code % 3, byte >> (6 - 2 * (c % 128 / 32)) & 3);
            }
        }
    }
    codes[7][95] |= 3 << 2;
    assert_true(fives_pack(&w, 0, fives));
    assert_false(fives_pack(&w, 1, fives));
}

/* The bundled model, with codes of 3 in one byte, which count as weights of 2. */
static const char *model_with_a_wrong_code(void)
{
    struct bnt_err err = {0};
    struct gguf *g;
    const char *path = es_noisy_model(0.001);
    es_ok(gguf_open(path, GGUF_MODE_AUTO, &g, &err), &err);
    uint64_t at = gguf_find_tensor(g, "blk.1.attn_k.weight")->offset;
    gguf_close(g);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\xff", 1, (off_t)at + 5), 1);
    close(fd);
    return path;
}

static void codes_that_are_no_weight_have_no_copy(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_model_options mo = kept_in(dir), plain = mo;
    struct bnt_session_options so = {.n_ctx = TOKENS + 3, .n_threads = 1};
    struct bnt_err err = {0};
    struct es_engine codes, none;
    plain.packed_dir = NULL;
    const char *path = model_with_a_wrong_code();
    es_open_with(&codes, path, &plain, &so);
    es_open_with(&none, path, &mo, &so);
    es_ok(none.model->fives_form.data ? BNT_OK : fives_open(none.model, &err), &err);
    assert_false(none.model->by_fives);
    check_same_logits(&codes, &none);
    es_close(&none);
    es_close(&codes);
}

static void wrong_fives(const struct five_codes *w, const struct row_walk *walk,
                        const struct act_rows *a, float *y)
{
    cpu_kernels_ref.dot_fives(w, walk, a, y);
    y[FIVES_ROWS * walk->begin + 4] += 1;
}

static void a_table_with_a_wrong_sum_fails_its_self_test(void **state)
{
    (void)state;
    struct cpu_kernels broken = cpu_kernels_ref;
    struct bnt_err err = {0};
    broken.dot_fives = wrong_fives;
    assert_int_equal(cpu_kernels_self_test(&broken, &err), BNT_E_SELF_TEST);
    assert_non_null(strstr(err.msg, "dot_fives"));
}

static bool by_fives(const struct bnt_model_options *mo, uint64_t *made)
{
    struct bnt_err err = {0};
    struct bnt_model *m;
    es_ok(bnt_model_open(suite_bundled_model(), mo, &m, &err), &err);
    bool yes = bnt_model_info(m)->by_fives;
    *made = bnt_model_info(m)->packed_made_bytes;
    bnt_model_close(m);
    return yes;
}

static void a_copy_is_made_once_where_it_pays_and_is_kept(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_model_options mo = kept_in(dir);
    struct bnt_session_options so = {.n_ctx = 16, .n_threads = 1}, gpu = {.device = "auto"};
    uint64_t made;
    mo.session = &gpu;
    assert_false(by_fives(&mo, &made)); /* a GPU may compute */
    mo.session = &so;
    mo.packed_min_bytes = 0;
    assert_false(by_fives(&mo, &made)); /* too small to be kept */
    mo.packed_min_bytes = 1;
    assert_int_equal(by_fives(&mo, &made), cpu_fives_pay());
    assert_true(made > 0);
    assert_int_equal(by_fives(&mo, &made), cpu_fives_pay());
    assert_int_equal(made, 0);
}

static const struct suite_test tests[] = {
    {.name = "fives_logits_are_those_of_the_codes", .body = logits_are_those_of_the_codes},
    {.name = "fives_a_token_reads_fewer_bytes", .body = a_token_reads_fewer_bytes},
    {.name = "fives_each_weight_is_in_its_byte", .body = each_weight_is_in_its_byte},
    {.name = "fives_codes_that_are_no_weight_have_no_copy",
     .body = codes_that_are_no_weight_have_no_copy},
    {.name = "fives_a_table_with_a_wrong_sum_fails_its_self_test",
     .body = a_table_with_a_wrong_sum_fails_its_self_test},
    {.name = "fives_a_copy_is_made_once_where_it_pays_and_is_kept",
     .body = a_copy_is_made_once_where_it_pays_and_is_kept},
    {0},
};

const struct suite suite_fives = {"fives", tests, "fives_no_weight"};
