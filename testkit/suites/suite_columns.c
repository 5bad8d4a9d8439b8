/* Guards the copy of the `down` matrices by columns: a logit that differs from that by rows, codes
 * in the wrong place, a copy where none is to be. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bnt_infer.h"
#include "engine/columns.h"
#include "engine/cpu/tables.h"
#include "engine/model.h"
#include "testkit/suites/engine_support.h"

enum { TOKENS = 48 };

static struct bnt_model_options kept_in(char dir[BNT_PATH_MAX])
{
    snprintf(dir, BNT_PATH_MAX, "%s/kept", suite_scratch());
    return (struct bnt_model_options){.i2s_layout = "128/32",
                                      .packed_dir = dir,
                                      .packed_min_bytes = 1};
}

static uint64_t bytes_of_a_token(const struct es_engine *e)
{
    struct bnt_session_stats stats;
    bnt_session_stats(e->session, &stats);
    return stats.weight_bytes_per_token;
}

static void check_same_logits(struct es_engine *rows, struct es_engine *columns)
{
    struct bnt_err err = {0};
    size_t bytes = bnt_session_n_vocab(rows->session) * sizeof(float);
    uint64_t before = bytes_of_a_token(columns);
    for (int32_t i = 0; i < TOKENS; i++) {
        int32_t id = 11 + i * 13 % 200;
        es_ok(bnt_session_eval(rows->session, &id, 1, &err), &err);
        es_ok(bnt_session_eval(columns->session, &id, 1, &err), &err);
        assert_memory_equal(bnt_session_logits(rows->session), bnt_session_logits(columns->session),
                            bytes);
    }
    assert_int_equal(bytes_of_a_token(rows), before);
    assert_true(bytes_of_a_token(columns) < before);
}

static void logits_are_those_by_rows(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_model_options mo = kept_in(dir);
    for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            struct bnt_session_options so = {
                .n_ctx = TOKENS, .n_threads = threads, .kernel = (*k)->name};
            struct es_engine rows, columns;
            if (cpu_kernels_missing(*k)) {
                continue;
            }
            es_open(&rows, suite_bundled_model(), &so);
            es_open_with(&columns, suite_bundled_model(), &mo, &so);
            assert_false(bnt_model_info(rows.model)->by_columns);
            assert_true(bnt_model_info(columns.model)->by_columns);
            check_same_logits(&rows, &columns);
            es_close(&columns);
            es_close(&rows);
        }
    }
}

static void another_packing_has_a_copy_of_its_own(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_model_options mo = kept_in(dir);
    struct bnt_session_options so = {.n_ctx = TOKENS, .n_threads = 1};
    const char *path = es_repacked_model(I2S_ARM);
    struct es_engine rows, columns;
    es_open(&rows, suite_bundled_model(), &so);
    for (int wrong = 1; wrong >= 0; wrong--) {
        mo.i2s_layout = wrong ? "128/32" : "64/16";
        es_open_with(&columns, path, &mo, &so);
        assert_true(bnt_model_info(columns.model)->by_columns);
        if (!wrong) {
            check_same_logits(&rows, &columns);
        }
        es_close(&columns);
    }
    es_close(&rows);
}

/* The codes of a matrix whose rows and columns both end within a block. */
static void each_code_is_in_its_column(void **state)
{
    (void)state;
    enum { ROWS = 300, COLS = 300, ROW_BYTES = 96, COLUMN_BYTES = 2 * COLUMN_LINE, BLOCKS = 2 };
    static uint8_t codes[ROWS][ROW_BYTES], turned[BLOCKS * 256][COLUMN_BYTES];
    for (uint32_t i = 0; i < sizeof codes; i++) {
        codes[i / ROW_BYTES][i % ROW_BYTES] = (uint8_t)(i * 2654435761u >> 11);
    }
    struct weight w = {.ternary = true,
                       .rows = ROWS,
                       .cols = COLS,
                       .row_bytes = ROW_BYTES,
                       .data = (const uint8_t *)codes};
    memset(turned, 0, sizeof turned);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        columns_turn(&w, block, turned[block * 256]);
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        uint32_t m = r % 256 / 16, byte = r / 256 * 64 + 16 * (r % 16 / 4) + 4 * (m % 4) + r % 4;
        for (uint32_t c = 0; c < COLS; c++) {
            int got = turned[act_position(c)][byte] >> (m / 4 * 2) & 3;
            int want = codes[r][c / 128 * 32 + c % 32] >> (6 - 2 * (c % 128 / 32)) & 3;
            assert_int_equal(got, want);
        }
    }
}

/* Columns longer than a table sums at a time, and more of them than it lists; codes 3 and values
 * -128 first. */
static void sums_are_the_reference_s(void **state)
{
    (void)state;
    enum { LINES = 19, COLUMNS = 1536, ROWS = LINES * COLUMN_ROWS };
    const uint64_t bytes = (uint64_t)COLUMNS * LINES * COLUMN_LINE;
    uint8_t *codes = aligned_alloc(64, bytes);
    int32_t *want = calloc(ROWS, sizeof *want), *got = calloc(ROWS, sizeof *got);
    static _Alignas(64) int8_t q[COLUMNS];
    assert_true(codes && want && got);
    struct column_codes w = {codes, LINES * COLUMN_LINE, COLUMNS};
    uint32_t random = 1;
    for (int round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < bytes; i++) {
            random = random * 1664525u + 1013904223u;
            codes[i] = round == 0 ? 0xff : (uint8_t)(random >> 24);
        }
        for (int i = 0; i < COLUMNS; i++) {
            random = random * 1664525u + 1013904223u;
            q[i] = (int8_t)(random >> 30 == 0 ? 0 : random >> 20 & 255);
            q[i] = round == 0 ? INT8_MIN : q[i];
        }
        cpu_kernels_ref.add_columns(&w, q, 64, COLUMNS, want);
        for (const struct cpu_kernels *const *k = cpu_kernels_all(); *k; k++) {
            if (!cpu_kernels_missing(*k)) {
                memset(got, 0, ROWS * sizeof *got);
                (*k)->add_columns(&w, q, 64, COLUMNS, got);
                assert_memory_equal(got, want, ROWS * sizeof *got);
            }
        }
        memset(want, 0, ROWS * sizeof *want);
    }
    free(codes);
    free(want);
    free(got);
}

static void lose_columns(const struct column_codes *w, const int8_t *q, uint64_t begin,
                         uint64_t end, int32_t *acc)
{
    cpu_kernels_ref.add_columns(w, q, begin, end - (begin > 0 && q[end - 1] != 0 ? 64 : 0), acc);
}

static void a_table_that_loses_columns_fails_its_self_test(void **state)
{
    (void)state;
    struct cpu_kernels broken = cpu_kernels_ref;
    struct bnt_err err = {0};
    broken.add_columns = lose_columns;
    assert_int_equal(cpu_kernels_self_test(&broken, &err), BNT_E_SELF_TEST);
    assert_non_null(strstr(err.msg, "add_columns"));
}

static bool by_columns(const struct bnt_model_options *mo, uint64_t *made)
{
    struct bnt_err err = {0};
    struct bnt_model *m;
    es_ok(bnt_model_open(suite_bundled_model(), mo, &m, &err), &err);
    bool yes = bnt_model_info(m)->by_columns;
    assert_false(bnt_model_info(m)->streamed);
    *made = bnt_model_info(m)->packed_made_bytes;
    bnt_model_close(m);
    return yes;
}

static void a_copy_is_made_once_where_it_is_kept_and_has_room(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct bnt_model_options mo = kept_in(dir);
    struct bnt_session_options so = {.n_ctx = 16, .n_threads = 1}, gpu = {.device = "auto"};
    struct bnt_model *m;
    struct bnt_err err = {0};
    uint64_t made;
    es_ok(bnt_model_open(suite_bundled_model(), NULL, &m, &err), &err);
    mo.session = &so;
    mo.memory_limit = bnt_model_memory_need(m, &so) + 1000;
    bnt_model_close(m);
    assert_false(by_columns(&mo, &made));
    mo.memory_limit = 0;
    mo.session = &gpu;
    assert_false(by_columns(&mo, &made)); /* a GPU may compute */
    mo.session = &so;
    mo.packed_min_bytes = 0;
    assert_false(by_columns(&mo, &made)); /* too small to be kept */
    mo.packed_min_bytes = 1;
    assert_true(by_columns(&mo, &made) && made > 0);
    assert_true(by_columns(&mo, &made) && made == 0);
}

static const struct suite_test tests[] = {
    {.name = "columns_logits_are_those_by_rows", .body = logits_are_those_by_rows},
    {.name = "columns_another_packing_has_a_copy_of_its_own",
     .body = another_packing_has_a_copy_of_its_own},
    {.name = "columns_each_code_is_in_its_column", .body = each_code_is_in_its_column},
    {.name = "columns_sums_are_the_reference_s", .body = sums_are_the_reference_s},
    {.name = "columns_a_table_that_loses_columns_fails_its_self_test",
     .body = a_table_that_loses_columns_fails_its_self_test},
    {.name = "columns_a_copy_is_made_once_where_it_is_kept_and_has_room",
     .body = a_copy_is_made_once_where_it_is_kept_and_has_room},
    {0},
};

const struct suite suite_columns = {"columns", tests, "columns_last"};
