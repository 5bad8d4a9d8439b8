/* Guards the self-test of the CPU kernels: a table that does an entry slightly wrong and is not
 * found, one that is found and taken all the same, a table of this build that does not pass. */
#include "testkit/suite.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/cpu/tables.h"

/* ---- One table per entry that does it slightly wrong in one place. */

static void wrong_quantize(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum)
{
    cpu_kernels_ref.quantize_act(x, n, q, scale, sum);
    q[act_stride(n) - 1] = n % 32 == 1 ? 1 : q[act_stride(n) - 1]; /* padding is not zero */
}

static void wrong_ternary(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                          const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    struct ternary_weights short_by_a_block = *w;
    cpu_kernels_ref.matmul_ternary(w, row0, row1, a, n_tok, y, y_stride);
    if (n_tok == 5 && w->row_bytes % 64 == 32) {
        short_by_a_block.row_bytes -= 32;
        cpu_kernels_ref.matmul_ternary(&short_by_a_block, 0, 1, a, n_tok, y, y_stride);
    }
}

static void wrong_float(const struct float_weights *w, uint64_t row0, uint64_t row1, const float *x,
                        size_t x_stride, size_t n_tok, float *y, size_t y_stride, float *scratch)
{
    cpu_kernels_ref.matmul_float(w, row0, row1, x, x_stride, n_tok, y, y_stride, scratch);
    if (w->type == TENSOR_BF16 && w->cols % 16 != 0 && n_tok == 3) {
        y[2 * y_stride] = nextafterf(y[2 * y_stride], INFINITY);
    }
}

static void wrong_rmsnorm(const float *x, const float *w, float eps, size_t n, float *y)
{
    float first = x[0];
    cpu_kernels_ref.rmsnorm(x, w, eps, n, y);
    y[0] = n == 33 && x != y ? nextafterf(first, 0) : y[0];
}

static void wrong_rope(float *x, uint32_t n_head, uint32_t head_dim, uint32_t n_rot,
                       enum rope_style style, const float *cs)
{
    cpu_kernels_ref.rope(x, n_head, head_dim, style == ROPE_NEOX ? n_rot : n_rot - 2, style, cs);
}

static void wrong_attend(const struct attend_args *a)
{
    cpu_kernels_ref.attend(a);
    size_t last = (size_t)a->n_head_group * a->head_dim - 1;
    a->out[last] = a->kv_f16 || a->n_kv < 18 ? a->out[last] : nextafterf(a->out[last], 9);
}

static void wrong_act_mul(enum act_fn fn, float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        gate[i] = fn == ACT_RELU2 && isnan(gate[i]) ? 0 : gate[i]; /* hides a NaN */
    }
    cpu_kernels_ref.act_mul(fn, gate, up, n);
}

static void wrong_tables(const struct tl_planes *w, const int8_t *q, uint8_t *tables)
{
    cpu_kernels_ref.tl_tables(w, q, tables);
    tables[8] ^= w->type == TENSOR_TL1; /* the last code of a pair */
}

static void wrong_tl(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                     const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    /* The last rows of a range that ends within a tile. */
    uint64_t end = row1 % w->planes.tiles.bm_inner == 0 ? row1 : row1 - 1;
    cpu_kernels_ref.matmul_tl(w, row0, end, a, n_tok, y, y_stride);
}

static void wrong_add(float *y, const float *x, size_t n)
{
    cpu_kernels_ref.add(y, x, n % 16 == 1 ? n - 1 : n);
}

static void wrong_store_f16(const float *x, size_t n, uint16_t *dst)
{
    cpu_kernels_ref.store_f16(x, n, dst);
    for (size_t i = 0; i < n; i++) {
        dst[i] = (dst[i] & 0x7c00) == 0 ? dst[i] & 0x8000 : dst[i]; /* flushes subnormals */
    }
}

static void wrong_dot_ternary(const struct ternary_weights *w, const struct row_walk *walk,
                              const struct act_rows *a, float *y)
{
    struct row_walk late = {walk->begin + (walk->end > 1), walk->end, walk->spread};
    cpu_kernels_ref.dot_ternary(w, &late, a, y); /* the first row of a walk is left out */
}

static void wrong_dot_float(const struct float_weights *w, const struct row_walk *walk,
                            const float *x, float *y)
{
    cpu_kernels_ref.dot_float(w, walk, x, y);
    uint64_t last = (WALK_STREAMS - 1) * walk->spread + walk->end - 1;
    y[last] = w->type == TENSOR_F16 && w->cols == 17 ? y[0] : y[last];
}

static void finds_a_fault_in_every_entry(void **state)
{
    (void)state;
    enum { ENTRIES = 13 };
    struct cpu_kernels broken[ENTRIES];
    static const char *const entries[ENTRIES] = {
        "quantize_act", "matmul_ternary", "matmul_float", "rmsnorm",   "rope",
        "attend",       "act_mul",        "add",          "store_f16", "dot_ternary",
        "dot_float",    "tl_tables",      "matmul_tl"};
    for (int i = 0; i < ENTRIES; i++) {
        broken[i] = cpu_kernels_ref;
        broken[i].name = "broken";
    }
    broken[0].quantize_act = wrong_quantize;
    broken[1].matmul_ternary = wrong_ternary;
    broken[2].matmul_float = wrong_float;
    broken[3].rmsnorm = wrong_rmsnorm;
    broken[4].rope = wrong_rope;
    broken[5].attend = wrong_attend;
    broken[6].act_mul = wrong_act_mul;
    broken[7].add = wrong_add;
    broken[8].store_f16 = wrong_store_f16;
    broken[9].dot_ternary = wrong_dot_ternary;
    broken[10].dot_float = wrong_dot_float;
    broken[11].tl_tables = wrong_tables;
    broken[12].matmul_tl = wrong_tl;
    for (int i = 0; i < ENTRIES; i++) {
        struct bnt_err err = {0};
        assert_int_equal(cpu_kernels_self_test(&broken[i], &err), BNT_E_SELF_TEST);
        assert_non_null(strstr(err.msg, "broken"));
        assert_non_null(strstr(err.msg, entries[i]));
        assert_true(err.hint[0] != '\0');
    }
}

static void a_failing_table_is_demoted_and_named(void **state)
{
    (void)state;
    struct cpu_kernels broken = cpu_kernels_ref;
    broken.name = "fastest";
    broken.add = wrong_add;
    const struct cpu_kernels *const tables[] = {&broken, &cpu_kernels_ref, NULL}, *const only[] = {
                                                                                      &broken,
                                                                                      NULL};
    struct cpu_choice choice = {0};
    struct bnt_err err = {0};
    assert_int_equal(cpu_kernels_choose_from(tables, NULL, &choice, &err), BNT_OK);
    assert_ptr_equal(choice.kernels, &cpu_kernels_ref);
    assert_non_null(strstr(choice.note, "fastest"));
    assert_int_equal(cpu_kernels_choose_from(tables, "ref", &choice, &err), BNT_OK);
    assert_string_equal(choice.note, "");
    assert_int_equal(cpu_kernels_choose_from(tables, "fastest", &choice, &err), BNT_E_SELF_TEST);
    struct bnt_err none = {0};
    assert_int_equal(cpu_kernels_choose_from(only, "auto", &choice, &none), BNT_E_SELF_TEST);
    struct bnt_err unknown = {0};
    assert_int_equal(cpu_kernels_choose_from(tables, "sse9", &choice, &unknown), BNT_E_USAGE);
    assert_non_null(strstr(unknown.hint, "fastest"));
}

static void every_table_of_this_build_passes(void **state)
{
    (void)state;
    const struct cpu_kernels *const *all = cpu_kernels_all();
    const struct cpu_kernels *chosen = NULL, *first = NULL;
    struct timespec start, end;
    char note[256];
    for (size_t i = 0; all[i] != NULL; i++) {
        struct bnt_err err = {0};
        if (cpu_kernels_missing(all[i]) == NULL && cpu_kernels_self_test(all[i], &err) != BNT_OK) {
            fail_msg("%s", err.msg);
        }
        first = first == NULL && cpu_kernels_missing(all[i]) == NULL ? all[i] : first;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    assert_int_equal(cpu_kernels_choose("auto", &chosen, note, sizeof(note), NULL), BNT_OK);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    assert_ptr_equal(chosen, first);
    assert_string_equal(note, "");
    double ms =
        (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
    if (strcmp(BNT_CONFIG, "release") == 0 && ms > 50) {
        fail_msg("the self-test at start took %.1f ms of processor time", ms);
    }
}

static const struct suite_test tests[] = {
    {.name = "self_test_finds_a_fault_in_every_entry", .body = finds_a_fault_in_every_entry},
    {.name = "self_test_demotes_and_names_a_failing_table",
     .body = a_failing_table_is_demoted_and_named},
    {.name = "self_test_passes_all_of_this_build_in_time",
     .body = every_table_of_this_build_passes},
    {0},
};
const struct suite suite_self_test = {"self_test", tests, "self_test_blind"};
