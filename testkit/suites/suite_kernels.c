/* Guards the CPU kernels: a table whose results differ from another's by a bit, a tail that reads
 * past its rows, a batch that differs from steps, a pool that loses or repeats a piece. */
#include "testkit/suite.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "engine/cpu/fmath.h"
#include "engine/cpu/pool.h"
#include "engine/cpu/tables.h"

/* Every random case is made from its number, which a failure prints. */
enum { CASES = 60 };

static uint64_t rng;

static uint64_t next_u64(void)
{
    uint64_t z = (rng += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t between(uint64_t low, uint64_t high)
{
    return low + next_u64() % (high - low + 1);
}

static float next_float(void)
{
    return ldexpf((float)(int32_t)(next_u64() >> 40) / 8388608.0f - 1.0f, (int)between(0, 12) - 8);
}

/* ---- Memory that ends where a page without access begins: a read or write past the end is a
 * fault. */

#define PAGE ((size_t)4096)

static void *guarded(size_t bytes)
{
    size_t size = (bytes + PAGE - 1) / PAGE * PAGE;
    char *map = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(mprotect(map + size, PAGE, PROT_NONE), 0);
    return map + size - bytes;
}

static void drop(void *p, size_t bytes)
{
    size_t size = (bytes + PAGE - 1) / PAGE * PAGE;
    assert_int_equal(munmap((char *)p + bytes - size, size + PAGE), 0);
}

static float *guarded_floats(size_t n)
{
    return guarded(n * sizeof(float));
}

static void drop_floats(float *p, size_t n)
{
    drop(p, n * sizeof(float));
}

/* wild: also NaN, infinities, subnormals and zeros. */
static float *random_floats(size_t n, bool wild)
{
    static const float special[] = {NAN,   INFINITY, -INFINITY, 1e-45f, -1e-39f, 0.0f,
                                    -0.0f, 3e38f,    1e-30f,    88.0f,  -103.0f};
    float *x = guarded_floats(n);
    for (size_t i = 0; i < n; i++) {
        x[i] = wild && between(0, 9) == 0
                   ? special[between(0, sizeof(special) / sizeof(*special) - 1)]
                   : next_float();
    }
    return x;
}

static void assert_same(const struct cpu_kernels *k, uint64_t number, const char *what,
                        const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof(float)) != 0 && !(isnan(got[i]) && isnan(want[i]))) {
            fail_msg("%s %s, case %llu: element %zu of %zu is %.9g, not %.9g", k->name, what,
                     (unsigned long long)number, i, n, (double)got[i], (double)want[i]);
        }
    }
}

/* Call body for every table that runs here, the reference too, and every case. */
static void for_all_tables(void (*body)(const struct cpu_kernels *k, uint64_t number),
                           uint64_t cases)
{
    const struct cpu_kernels *const *all = cpu_kernels_all();
    for (size_t i = 0; all[i] != NULL; i++) {
        for (uint64_t number = 0; cpu_kernels_missing(all[i]) == NULL && number < cases; number++) {
            rng = number;
            body(all[i], number);
        }
    }
}

/* ---- Each entry against the reference, buffers of the exact size. */

/* Act rows of n_tok random tokens, quantised by the reference. */
static struct act_rows random_acts(uint64_t cols, size_t n_tok)
{
    struct act_rows a = {.stride = act_stride(cols)};
    a.q = guarded(n_tok * a.stride);
    a.scale = guarded_floats(n_tok);
    a.sum = guarded(n_tok * sizeof(*a.sum));
    for (size_t t = 0; t < n_tok; t++) {
        float *x = random_floats(cols, false);
        cpu_kernels_ref.quantize_act(x, cols, a.q + t * a.stride, &a.scale[t], &a.sum[t]);
        drop_floats(x, cols);
    }
    return a;
}

static void fill_acts(struct act_rows *a, uint64_t cols, size_t n_tok, int8_t value)
{
    for (size_t t = 0; t < n_tok; t++) {
        for (uint64_t i = 0; i < cols; i++) {
            a->q[t * a->stride + act_position(i)] = value;
        }
        a->sum[t] = value * (int32_t)cols;
    }
}

static void drop_acts(struct act_rows *a, size_t n_tok)
{
    drop(a->q, n_tok * a->stride);
    drop_floats(a->scale, n_tok);
    drop(a->sum, n_tok * sizeof(*a->sum));
}

static void quantize_case(const struct cpu_kernels *k, uint64_t number)
{
    size_t n = (size_t)between(1, 1500);
    float *x = random_floats(n, number % 3 == 0);
    for (size_t i = 0; number % 5 == 1 && i < n; i++) {
        x[i] = number % 2 == 0 ? 0.0f : 1e-42f;
    }
    int8_t *q = guarded(act_stride(n)), *want_q = guarded(act_stride(n));
    float scale, want_scale;
    int32_t sum, want_sum;
    memset(q, 0x55, act_stride(n));
    cpu_kernels_ref.quantize_act(x, n, want_q, &want_scale, &want_sum);
    k->quantize_act(x, n, q, &scale, &sum);
    assert_memory_equal(q, want_q, act_stride(n));
    assert_int_equal(sum, want_sum);
    assert_same(k, number, "quantize_act", &scale, &want_scale, 1);
    drop_floats(x, n);
    drop(q, act_stride(n));
    drop(want_q, act_stride(n));
}

static void ternary_case(const struct cpu_kernels *k, uint64_t number)
{
    /* Many rows and tokens; by look-up: two blocks, sums beyond 16 bits, codes in no table. */
    bool batch = number % 4 == 1, large = number % 16 == 5, tall = number % 16 == 13;
    uint64_t cols = between(1, 1400) + large * 3000u + tall * 300u;
    uint64_t rows = between(1, batch ? 90 : 30) + tall * (number == 13 ? 1300u : 390u);
    size_t n_tok = between(batch ? 15 : 1, batch ? 32 : 14) + large * 81u + tall * 13u;
    size_t n_out = n_tok * rows;
    struct act_rows a = random_acts(cols, n_tok);
    a.scratch = guarded(k->scratch_bytes);
    uint64_t row_bytes = ternary_row_bytes(cols);
    uint8_t *codes = guarded(rows * row_bytes);
    for (uint64_t i = 0; i < rows * row_bytes; i++) {
        uint8_t any = (uint8_t)(next_u64() >> 32); /* code 3, which no writer writes, too */
        codes[i] = number % 8 == 5 && number != 45 ? any & (uint8_t) ~(any >> 1 & 0x55) : any;
    }
    if (number % 4 == 0 || number % 16 == 1 || number == 29) { /* the largest sums */
        memset(codes, number % 4 == 0 ? 0xff : 0xaa, rows * row_bytes);
        fill_acts(&a, cols, n_tok, number % 32 < 16 ? 127 : -128);
    }
    struct ternary_weights w = {
        .codes = codes, .rows = rows, .cols = cols, .row_bytes = row_bytes, .scale = next_float()};
    float *got = guarded_floats(n_out), *want = guarded_floats(n_out);
    uint64_t row0 = between(0, tall ? 3 : rows - 1);
    cpu_kernels_ref.matmul_ternary(&w, row0, rows, &a, n_tok, want, rows);
    k->matmul_ternary(&w, row0, rows, &a, n_tok, got, rows);
    assert_same(k, number, "matmul_ternary", got, want, n_out);
    drop_acts(&a, n_tok);
    drop(a.scratch, k->scratch_bytes);
    drop(codes, rows * row_bytes);
    drop_floats(got, n_out);
    drop_floats(want, n_out);
}

static const enum tensor_type float_types[] = {
    TENSOR_F32,       TENSOR_F16,   TENSOR_BF16,  TENSOR_Q4_0,   TENSOR_Q4_1,
    TENSOR_Q5_0,      TENSOR_Q5_1,  TENSOR_Q8_0,  TENSOR_Q4_K,   TENSOR_Q5_K,
    TENSOR_Q6_K,      TENSOR_TQ1_0, TENSOR_TQ2_0, TENSOR_Q1_0,   TENSOR_Q2_0,
    TENSOR_Q2_0_G128, TENSOR_Q2_K,  TENSOR_Q3_K,  TENSOR_IQ4_NL, TENSOR_IQ4_XS,
};
enum { N_FLOAT_TYPES = sizeof(float_types) / sizeof(*float_types) };

/* Random bytes are random values, NaNs and subnormals among them. */
static struct float_weights random_weights(enum tensor_type type, uint64_t cols, uint64_t rows)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    uint64_t n = info->block_weights == 1 ? cols : (cols + 255) / 256 * 256;
    uint64_t row_bytes = n / info->block_weights * info->block_bytes;
    uint8_t *data = guarded(rows * row_bytes);
    for (uint64_t i = 0; i < rows * row_bytes; i++) {
        /* Bytes of up to 0x3f: halves below 2, floats too; one case in four takes anything. */
        data[i] = (uint8_t)(next_u64() >> 32) & (cols % 4 == 0 ? 0xff : 0x3f);
    }
    return (struct float_weights){
        .type = type, .data = data, .rows = rows, .cols = n, .row_bytes = row_bytes};
}

static void float_case(const struct cpu_kernels *k, uint64_t number)
{
    uint64_t rows = between(1, 13);
    size_t n_tok = (size_t)between(1, 9), n_out = n_tok * rows;
    struct float_weights w =
        random_weights(float_types[number % N_FLOAT_TYPES], between(1, 700), rows);
    float *x = random_floats(n_tok * w.cols, number % 7 == 0),
          *scratch = guarded_floats(CPU_DEQUANT_ROWS * w.cols);
    float *got = guarded_floats(n_out), *want = guarded_floats(n_out);
    uint64_t row0 = between(0, rows - 1);
    cpu_kernels_ref.matmul_float(&w, row0, rows, x, w.cols, n_tok, want, rows, scratch);
    k->matmul_float(&w, row0, rows, x, w.cols, n_tok, got, rows, scratch);
    assert_same(k, number, tensor_type_info((uint32_t)w.type)->name, got, want, n_out);
    drop_floats(x, n_tok * w.cols);
    drop_floats(scratch, CPU_DEQUANT_ROWS * w.cols);
    drop_floats(got, n_out);
    drop_floats(want, n_out);
    drop((void *)(uintptr_t)w.data, rows * w.row_bytes);
}

/* Entries over plain vectors of n floats: x is read, y is read and written. */
struct vectors {
    size_t n;
    float *x, *y, *want;
};

static struct vectors random_vectors(uint64_t number)
{
    struct vectors v = {.n = (size_t)between(1, 600)};
    v.x = random_floats(v.n, number % 2 == 0);
    v.y = random_floats(v.n, number % 3 == 0);
    v.want = guarded_floats(v.n);
    memcpy(v.want, v.y, v.n * sizeof(float));
    return v;
}

static void drop_vectors(struct vectors *v)
{
    drop_floats(v->x, v->n);
    drop_floats(v->y, v->n);
    drop_floats(v->want, v->n);
}

static void vector_case(const struct cpu_kernels *k, uint64_t number)
{
    struct vectors v = random_vectors(number);
    cpu_kernels_ref.add(v.want, v.x, v.n);
    k->add(v.y, v.x, v.n);
    assert_same(k, number, "add", v.y, v.want, v.n);
    enum act_fn fn = number % 2 == 0 ? ACT_SILU : ACT_RELU2;
    cpu_kernels_ref.act_mul(fn, v.want, v.x, v.n);
    k->act_mul(fn, v.y, v.x, v.n);
    assert_same(k, number, "act_mul", v.y, v.want, v.n);
    cpu_kernels_ref.rmsnorm(v.x, v.want, 1e-6f, v.n, v.want);
    k->rmsnorm(v.x, v.y, 1e-6f, v.n, v.y);
    assert_same(k, number, "rmsnorm", v.y, v.want, v.n);
    drop_vectors(&v);
}

static void store_f16_case(const struct cpu_kernels *k, uint64_t number)
{
    size_t n = (size_t)between(1, 600);
    float *x = random_floats(n, true);
    uint16_t *got = guarded(n * sizeof(*got));
    for (size_t i = 0; number % 2 == 0 && i < n; i++) {
        uint32_t bits = (uint32_t)next_u64();
        memcpy(&x[i], &bits, sizeof(bits));
    }
    k->store_f16(x, n, got);
    for (size_t i = 0; i < n; i++) {
        uint16_t want = f32_to_f16(x[i]);
        if (got[i] != want && !(isnan(x[i]) && isnan(f16_to_f32(got[i])))) {
            fail_msg("%s store_f16, case %llu: %a is %04x, not %04x", k->name,
                     (unsigned long long)number, (double)x[i], got[i], want);
        }
    }
    drop_floats(x, n);
    drop(got, n * sizeof(*got));
}

static void rope_case(const struct cpu_kernels *k, uint64_t number)
{
    uint32_t n_head = (uint32_t)between(1, 5), dim = 2 * (uint32_t)between(1, 80),
             n_rot = 2 * (uint32_t)between(1, dim / 2);
    size_t n = (size_t)n_head * dim;
    float *x = random_floats(n, number % 4 == 0), *cs = random_floats(n_rot, false),
          *want = guarded_floats(n);
    memcpy(want, x, n * sizeof(float));
    enum rope_style style = number % 2 == 0 ? ROPE_NORM : ROPE_NEOX;
    cpu_kernels_ref.rope(want, n_head, dim, n_rot, style, cs);
    k->rope(x, n_head, dim, n_rot, style, cs);
    assert_same(k, number, "rope", x, want, n);
    drop_floats(x, n);
    drop_floats(cs, n_rot);
    drop_floats(want, n);
}

/* Rows of a cache: n_kv rows, `stride` elements apart, the last ending where the memory does. */
static void *random_cache(bool f16, size_t elements)
{
    float *x = random_floats(elements, false);
    if (!f16) {
        return x;
    }
    uint16_t *half = guarded(elements * sizeof(*half));
    cpu_kernels_ref.store_f16(x, elements, half);
    drop_floats(x, elements);
    return half;
}

static void attend_case(const struct cpu_kernels *k, uint64_t number)
{
    bool f16 = number % 2 == 0;
    bool one = number % 6 == 0; /* what attend_one_avx512.c and attend_one_avx2.c are for */
    uint32_t group = one ? 4 : (uint32_t)between(1, 9), dim = (uint32_t)between(1, 140);
    dim = one ? 64 * (1 + dim % 4) : number % 5 == 0 ? 128 : dim;
    struct attend_args a = {.n_tok = number % 3 == 0 ? 1 : (uint32_t)between(1, 6),
                            .tok_stride = (size_t)group * dim + between(0, 1) * 9,
                            .n_head_group = group,
                            .head_dim = dim,
                            .kv_stride = dim + between(0, 1) * 24,
                            .kv_f16 = f16,
                            .n_kv = (uint32_t)between(1, 200),
                            .n_kv_step = number % 7 > 0,
                            .scale = 0.2f};
    uint32_t n_kv = a.n_kv + (a.n_tok - 1) * a.n_kv_step;
    size_t n = (a.n_tok - 1) * a.tok_stride + (size_t)group * dim;
    size_t elements = (size_t)(n_kv - 1) * a.kv_stride + dim;
    size_t n_score = (size_t)a.n_tok * group * n_kv;
    size_t cache_bytes = elements * (f16 ? sizeof(uint16_t) : sizeof(float));
    float *q = random_floats(n, number % 9 == 0), *want = guarded_floats(n);
    void *keys = random_cache(f16, elements), *values = random_cache(f16, elements);
    memcpy(want, q, n * sizeof(*q)); /* what lies between tokens stays */
    a.q = q;
    a.k = keys;
    a.v = values;
    a.scores = guarded_floats(n_score);
    a.out = want;
    cpu_kernels_ref.attend(&a);
    a.out = q; /* in place */
    k->attend(&a);
    assert_same(k, number, "attend", q, want, n);
    drop_floats(q, n);
    drop_floats(want, n);
    drop_floats(a.scores, n_score);
    drop(keys, cache_bytes);
    drop(values, cache_bytes);
}

static void all_agree(void **state)
{
    (void)state;
    for_all_tables(quantize_case, CASES);
    for_all_tables(ternary_case, CASES);
    for_all_tables(float_case, 2 * CASES);
    for_all_tables(vector_case, CASES);
    for_all_tables(store_f16_case, CASES);
    for_all_tables(rope_case, CASES);
    for_all_tables(attend_case, CASES);
}

/* ---- The reference against arithmetic in double, lest all tables agree on an error. ---- */

/* A packed matrix of known weights and its product with known integers. */
static void reference_ternary_is_exact(void **state)
{
    (void)state;
    enum { ROWS = 5, COLS = 300 };
    static int8_t w[ROWS * COLS];
    static float x[COLS], y[ROWS];
    for (int i = 0; i < ROWS * COLS; i++) {
        w[i] = (int8_t)((int)between(0, 2) - 1);
    }
    /* absmax is 127, so that the quantised activations are the floats themselves. */
    for (int i = 0; i < COLS; i++) {
        x[i] = (float)((int)between(0, 254) - 127);
    }
    x[7] = 127.0f;
    struct act_rows a = random_acts(COLS, 1);
    cpu_kernels_ref.quantize_act(x, COLS, a.q, a.scale, a.sum);
    assert_true(a.scale[0] == 1.0f);
    uint8_t codes[ROWS * 96];
    assert_int_equal(ternary_row_bytes(COLS), 96);
    ternary_pack(w, ROWS, COLS, codes);
    struct ternary_weights tw = {
        .codes = codes, .rows = ROWS, .cols = COLS, .row_bytes = 96, .scale = 0.5f};
    cpu_kernels_ref.matmul_ternary(&tw, 0, ROWS, &a, 1, y, ROWS);
    for (int r = 0; r < ROWS; r++) {
        int want = 0;
        for (int c = 0; c < COLS; c++) {
            want += w[r * COLS + c] * (int)x[c];
        }
        assert_true(y[r] == (float)want * 0.5f);
    }
}

/* Float sums of n terms may be off by n roundings of the largest partial sum; the sizes here stay
 * far below 1e-4. */
static const double float_tolerance = 1e-4;

static void reference_attend_is_softmax(void **state)
{
    (void)state;
    enum { DIM = 20, N_KV = 33 };
    float *q = random_floats(DIM, false), *keys = random_floats(DIM * N_KV, false),
          *values = random_floats(DIM * N_KV, false);
    float scores[N_KV], out[DIM];
    struct attend_args a = {.q = q,
                            .n_tok = 1,
                            .n_head_group = 1,
                            .head_dim = DIM,
                            .k = keys,
                            .v = values,
                            .kv_stride = DIM,
                            .n_kv = N_KV,
                            .scale = 0.3f,
                            .scores = scores,
                            .out = out};
    cpu_kernels_ref.attend(&a);
    double weight[N_KV], sum = 0;
    for (int p = 0; p < N_KV; p++) {
        double score = 0;
        for (int c = 0; c < DIM; c++) {
            score += (double)q[c] * (double)keys[p * DIM + c];
        }
        weight[p] = exp(score * (double)a.scale);
        sum += weight[p];
    }
    for (int c = 0; c < DIM; c++) {
        double want = 0;
        for (int p = 0; p < N_KV; p++) {
            want += weight[p] / sum * (double)values[p * DIM + c];
        }
        assert_true(fabs((double)out[c] - want) < float_tolerance);
    }
}

static void reference_norm_and_activations(void **state)
{
    (void)state;
    enum { N = 100 };
    float *x = random_floats(N, false), *w = random_floats(N, false), y[N], silu[N], relu2[N];
    double mean = 0;
    for (int i = 0; i < N; i++) {
        mean += (double)x[i] * (double)x[i] / N;
    }
    cpu_kernels_ref.rmsnorm(x, w, 1e-5f, N, y);
    memcpy(silu, x, sizeof(silu));
    memcpy(relu2, x, sizeof(relu2));
    cpu_kernels_ref.act_mul(ACT_SILU, silu, w, N);
    cpu_kernels_ref.act_mul(ACT_RELU2, relu2, w, N);
    for (int i = 0; i < N; i++) {
        double xi = (double)x[i], wi = (double)w[i];
        assert_true(fabs((double)y[i] - xi / sqrt(mean + 1e-5) * wi) < float_tolerance);
        assert_true(fabs((double)silu[i] - xi / (1 + exp(-xi)) * wi) <
                    float_tolerance * fmax(1, fabs(xi * wi)));
        assert_true(fabs((double)relu2[i] - (xi > 0 ? xi * xi : 0) * wi) <
                    float_tolerance * fmax(1, fabs(xi * xi * wi)));
    }
}

static void quantising_marks_bad_rows(void **state)
{
    (void)state;
    int8_t q[256];
    float scale, x[3] = {0, 0, 0};
    int32_t sum;
    cpu_kernels_ref.quantize_act(x, 3, q, &scale, &sum);
    assert_true(scale == 1e-5f / 127.0f && sum == 0);
    x[1] = NAN;
    cpu_kernels_ref.quantize_act(x, 3, q, &scale, &sum);
    assert_true(isnan(scale) && sum == 0);
    x[1] = -INFINITY;
    cpu_kernels_ref.quantize_act(x, 3, q, &scale, &sum);
    assert_true(isinf(scale) && sum == 0 && q[1] == 0); /* 0 * infinity is NaN: seen downstream */
}

/* The bounds that fmath.h states, against the 64-bit mantissa of long double (or the 113 of
 * aarch64). */
static void fmath_keeps_its_bounds(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++) {
        double u = (double)(next_u64() >> 11) * 0x1p-53 - 0.5;
        double e = u * 1400, angle = u * (i % 2 == 0 ? 2e9 : 300), l = exp(u * 600), s, c;
        float f = (float)(u * 174);
        fm_sincos(angle, &s, &c);
        assert_true(fabsl((long double)fm_exp(e) / expl((long double)e) - 1) < 1e-15L);
        assert_true(fabsl((long double)fm_log(l) - logl((long double)l)) <=
                    1e-15L * fabsl(logl((long double)l)));
        assert_true(fabsl((long double)s - sinl((long double)angle)) < 4e-16L);
        assert_true(fabsl((long double)c - cosl((long double)angle)) < 4e-16L);
        assert_true(fabsl((long double)fm_expf(f) / expl((long double)f) - 1) < 2e-7L);
    }
    assert_true(isnan(fm_expf(NAN)) && fm_expf(-90) == 0.0f && isinf(fm_expf(89)) &&
                isnan(fm_log(-1)));
    assert_true(fm_log(0) == -(double)INFINITY && fm_exp(-800) == 0.0 && isinf(fm_exp(800)));
}

/* ---- Batch and steps. */

static void batch_case(const struct cpu_kernels *k, uint64_t number)
{
    uint64_t cols = between(1, 900), rows = between(1, 20);
    size_t n_tok = (size_t)between(2, 19), n_out = n_tok * rows;
    struct act_rows a = random_acts(cols, n_tok);
    a.scratch = guarded(k->scratch_bytes);
    struct ternary_weights w = {
        .rows = rows, .cols = cols, .row_bytes = ternary_row_bytes(cols), .scale = 0.1f};
    uint8_t *codes = guarded(rows * w.row_bytes);
    for (uint64_t i = 0; i < rows * w.row_bytes; i++) {
        codes[i] = (uint8_t)(next_u64() >> 32);
    }
    w.codes = codes;
    struct float_weights fw = random_weights(float_types[number % 3], cols, rows);
    float *x = random_floats(n_tok * fw.cols, false);
    float *batch = guarded_floats(n_out), *steps = guarded_floats(n_out);
    k->matmul_ternary(&w, 0, rows, &a, n_tok, batch, rows);
    for (size_t t = 0; t < n_tok; t++) {
        struct act_rows one = {
            .q = a.q + t * a.stride, .scale = a.scale + t, .sum = a.sum + t, .stride = a.stride};
        k->matmul_ternary(&w, 0, rows, &one, 1, steps + t * rows, rows);
    }
    assert_same(k, number, "matmul_ternary in steps", steps, batch, n_out);
    k->matmul_float(&fw, 0, rows, x, fw.cols, n_tok, batch, rows, NULL);
    for (size_t t = 0; t < n_tok; t++) {
        k->matmul_float(&fw, 0, rows, x + t * fw.cols, fw.cols, 1, steps + t * rows, rows, NULL);
    }
    assert_same(k, number, "matmul_float in steps", steps, batch, n_out);
    drop_acts(&a, n_tok);
    drop(a.scratch, k->scratch_bytes);
    drop(codes, rows * w.row_bytes);
    drop((void *)(uintptr_t)fw.data, rows * fw.row_bytes);
    drop_floats(x, n_tok * fw.cols);
    drop_floats(batch, n_out);
    drop_floats(steps, n_out);
}

static void batch_equals_steps(void **state)
{
    (void)state;
    for_all_tables(batch_case, CASES);
}

/* ---- Threads. */

struct matmul_job {
    const struct cpu_kernels *k;
    const struct ternary_weights *w;
    const struct act_rows *a;
    size_t n_tok;
    float *y;
};

static void matmul_piece(void *ctx, size_t begin, size_t end, int thread)
{
    const struct matmul_job *job = ctx;
    struct act_rows a = *job->a;
    a.scratch += (size_t)thread * job->k->scratch_bytes;
    job->k->matmul_ternary(job->w, begin, end, &a, job->n_tok, job->y, job->w->rows);
}

static void thread_case(const struct cpu_kernels *k, uint64_t number)
{
    static const int threads[] = {2, 5};
    enum { ROWS = 1203, COLS = 140, TOKS = 29, MOST_THREADS = 5 };
    const bool large = number % 2 == 1; /* pieces that are worth a look-up, of codes in tables */
    struct act_rows a = random_acts(COLS, TOKS);
    a.scratch = guarded(MOST_THREADS * k->scratch_bytes);
    struct ternary_weights w = {
        .rows = ROWS, .cols = COLS, .row_bytes = ternary_row_bytes(COLS), .scale = 0.1f};
    uint8_t *codes = guarded(ROWS * w.row_bytes);
    for (uint64_t i = 0; i < ROWS * w.row_bytes; i++) {
        uint8_t any = (uint8_t)(next_u64() >> 32);
        codes[i] = large ? any & (uint8_t) ~(any >> 1 & 0x55) : any;
    }
    w.codes = codes;
    static float alone[ROWS * TOKS], together[ROWS * TOKS];
    k->matmul_ternary(&w, 0, ROWS, &a, TOKS, alone, ROWS);
    for (size_t i = 0; i < sizeof(threads) / sizeof(*threads); i++) {
        struct cpu_pool *pool;
        assert_int_equal(cpu_pool_new(threads[i], &pool, NULL), BNT_OK);
        struct matmul_job job = {.k = k, .w = &w, .a = &a, .n_tok = TOKS, .y = together};
        memset(together, 0, sizeof(together));
        size_t chunk = (size_t)(large ? between(400, 600) : between(1, 60));
        cpu_pool_run(pool, ROWS, chunk, matmul_piece, &job);
        assert_same(k, number, "matmul_ternary by threads", together, alone, ROWS * TOKS);
        cpu_pool_free(pool);
    }
    drop_acts(&a, TOKS);
    drop(a.scratch, MOST_THREADS * k->scratch_bytes);
    drop(codes, ROWS * w.row_bytes);
}

static void threads_do_not_change_results(void **state)
{
    (void)state;
    for_all_tables(thread_case, 6);
}

static const struct suite_test tests[] = {
    {.name = "kernels_agree_bit_for_bit_within_their_buffers",
     .body = all_agree,
     .timeout_ms = 60000},
    {.name = "kernels_reference_ternary_product_is_exact", .body = reference_ternary_is_exact},
    {.name = "kernels_reference_attention_is_softmax", .body = reference_attend_is_softmax},
    {.name = "kernels_reference_norm_and_activations", .body = reference_norm_and_activations},
    {.name = "kernels_quantising_marks_nan_and_infinity", .body = quantising_marks_bad_rows},
    {.name = "kernels_fmath_keeps_its_bounds", .body = fmath_keeps_its_bounds},
    {.name = "kernels_batch_equals_steps", .body = batch_equals_steps, .timeout_ms = 30000},
    {.name = "kernels_threads_do_not_change_results", .body = threads_do_not_change_results},
    {0},
};
const struct suite suite_kernels = {
    "kernels", tests,
    "f16_rounding ternary_sum quantize_rounding matmul_tail rmsnorm_no_eps lut_spent "
    "softmax_max relu2 expf_polynomial sincos_quadrant attend_one_last"};
