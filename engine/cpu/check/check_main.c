/* Prints one line per kernel entry: its name and a checksum of its results on seeded inputs. Every
 * table that this processor runs must agree, else the exit code is 1. Two processors are compared
 * by comparing what they print: `make check-neon` does so for x86-64 and for aarch64 under qemu.
 *
 * Larger inputs than the self-test at start, and also the plain functions of fmath.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/fmath.h"
#include "engine/cpu/kernels.h"

#define COLS 1664u /* an odd number of blocks */
#define ROWS 37u
#define TOKS 11u

static uint64_t rng;
static uint64_t hash;

static float x[TOKS * COLS], w[COLS], y[TOKS * COLS], scratch[CPU_DEQUANT_ROWS * COLS],
    scores[8 * 512];
static uint8_t bytes[ROWS * COLS * 4];
static _Alignas(64) int8_t q[TOKS * 1792];
static float scale[TOKS];
static int32_t sum[TOKS];

static uint64_t next_u64(void)
{
    uint64_t z = (rng += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static float next_float(void)
{
    return ((float)(int32_t)(next_u64() >> 40) / 8388608.0f - 1.0f) * (float)(1 << next_u64() % 6);
}

static void fill(float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = next_float();
    }
}

/* FNV-1a, eight bytes at a time. */
static void mix(uint64_t value)
{
    hash = (hash ^ value) * 0x100000001b3u;
}

static void mix_floats(const float *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof(bits));
        mix(isnan(v[i]) ? 0x7fc00000u : bits); /* which NaN is the processor's choice */
    }
}

static void mix_double(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    mix(bits);
}

static void run_quantize_act(const struct cpu_kernels *k)
{
    for (size_t n = 1; n <= COLS; n += n < 300 ? 1 : 151) {
        fill(x, n);
        if (n % 7 == 0) {
            x[n / 2] = n % 2 == 0 ? NAN : INFINITY;
        }
        k->quantize_act(x, n, q, scale, sum);
        for (size_t i = 0; i < act_stride(n); i++) {
            mix((uint8_t)q[i]);
        }
        mix((uint32_t)sum[0]);
        mix_floats(scale, 1);
    }
}

static const struct row_walk whole_walk = {0, ROWS / WALK_STREAMS, ROWS / WALK_STREAMS};

static void run_matmul_ternary(const struct cpu_kernels *k)
{
    uint8_t *for_products = aligned_alloc(64, k->scratch_bytes);
    for (uint64_t cols = 1; cols <= COLS; cols += 63) {
        size_t n_tok = 1 + cols % TOKS;
        struct ternary_weights tw = {.codes = bytes,
                                     .rows = ROWS,
                                     .cols = cols,
                                     .row_bytes = ternary_row_bytes(cols),
                                     .scale = 0.0173f};
        struct act_rows a = {.q = q,
                             .scale = scale,
                             .sum = sum,
                             .stride = act_stride(cols),
                             .scratch = for_products};
        for (size_t t = 0; t < n_tok; t++) {
            fill(x, cols);
            k->quantize_act(x, cols, q + t * a.stride, &scale[t], &sum[t]);
        }
        for (size_t i = 0; i < ROWS * tw.row_bytes; i++) {
            bytes[i] = (uint8_t)(next_u64() >> 40);
        }
        k->matmul_ternary(&tw, 0, ROWS, &a, n_tok, y, ROWS);
        mix_floats(y, n_tok * ROWS);
        k->dot_ternary(&tw, &whole_walk, &a, y);
        mix_floats(y, WALK_STREAMS * whole_walk.spread);
    }
    free(for_products);
}

/* A table without a kernel for it has the reference's results. */
static void run_dot_fives(const struct cpu_kernels *k)
{
    const struct cpu_kernels *const *all = cpu_kernels_all();
    while (!cpu_kernels_have_fives(k)) {
        k = *all++;
    }
    for (uint64_t cols = 1; cols <= COLS; cols += 63) {
        struct five_codes fives = {bytes, act_stride(cols), 0.0173f};
        struct act_rows a = {.q = q, .scale = scale, .sum = sum};
        fill(x, cols);
        k->quantize_act(x, cols, q, scale, sum);
        for (size_t i = 0; i < ROWS * fives.group_bytes; i++) {
            bytes[i] = (uint8_t)((next_u64() >> 40) % 243);
        }
        k->dot_fives(&fives, &whole_walk, &a, y);
        mix_floats(y, FIVES_ROWS * WALK_STREAMS * whole_walk.spread);
    }
}

static void run_matmul_tl(const struct cpu_kernels *k)
{
    static const struct ternary_source shapes[] = {
        {.type = TENSOR_TL1, .rows = 64, .cols = 520, .tiles = {32, 520, 32}},
        {.type = TENSOR_TL1, .rows = 128, .cols = 396, .tiles = {64, 396, 64}},
        {.type = TENSOR_TL2, .rows = 96, .cols = 416, .tiles = {96, 384, 32}},
        {.type = TENSOR_TL2, .rows = 64, .cols = 320, .tiles = {32, 96, 32}},
    };
    static uint8_t tables[32 * COLS];
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct tl_weights tl = {.scale = 0.0173f};
        struct ternary_source src = shapes[i];
        struct act_rows a = {.q = q, .scale = scale, .sum = sum, .tables = tables};
        src.data = bytes;
        src.size = sizeof(bytes);
        for (size_t j = 0; j < src.rows * src.cols / 2; j++) {
            bytes[j] = (uint8_t)(next_u64() >> 40);
        }
        fill(x, src.cols);
        k->quantize_act(x, src.cols, q, scale, sum);
        if (!tl_find_planes(&src, &tl.planes)) {
            mix(i);
            continue;
        }
        k->tl_tables(&tl.planes, q, tables);
        k->matmul_tl(&tl, 1, src.rows - 1, &a, 1, y, src.rows);
        mix_floats(y + 1, src.rows - 2);
    }
}

static void run_matmul_float(const struct cpu_kernels *k)
{
    static const enum tensor_type types[] = {TENSOR_F32,  TENSOR_F16,  TENSOR_BF16,
                                             TENSOR_Q8_0, TENSOR_Q6_K, TENSOR_TQ2_0};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        const struct tensor_type_info *info = tensor_type_info((uint32_t)types[i]);
        for (uint64_t cols = 256; cols <= 1280; cols += 256) {
            uint64_t n = info->block_weights == 1 ? cols + cols / 256 * 3 : cols;
            struct float_weights fw = {.type = types[i],
                                       .data = bytes,
                                       .rows = ROWS,
                                       .cols = n,
                                       .row_bytes = n / info->block_weights * info->block_bytes};
            /* Bytes with a high nibble of at most 3 keep every value small, whatever the type. */
            for (size_t j = 0; j < fw.row_bytes * ROWS; j++) {
                bytes[j] = (uint8_t)(next_u64() >> 40) & 0x3f;
            }
            size_t n_tok = 1 + cols / 256;
            fill(x, n_tok * n);
            k->matmul_float(&fw, 0, ROWS, x, n, n_tok, y, ROWS, scratch);
            mix_floats(y, n_tok * ROWS);
            if (info->block_weights == 1) {
                k->dot_float(&fw, &whole_walk, x, y);
                mix_floats(y, WALK_STREAMS * whole_walk.spread);
            }
        }
    }
}

static void run_dot_narrow(const struct cpu_kernels *k)
{
    static struct narrow_row rows[ROWS];
    for (uint64_t cols = 1; cols <= COLS; cols += 111) {
        struct narrow_codes head = {.rows = rows,
                                    .codes = bytes,
                                    .row_bytes = narrow_row_bytes(cols),
                                    .whole = {.rows = ROWS, .cols = cols}};
        for (size_t i = 0; i < ROWS * head.row_bytes; i++) {
            bytes[i] = (uint8_t)(next_u64() >> 40);
        }
        for (size_t r = 0; r < ROWS; r++) {
            for (size_t i = 0; i < NARROW_HIGH; i++) {
                rows[r].high[i] = (uint8_t)((next_u64() & 0x83) + 0x3c);
            }
            rows[r].n_odd = (uint8_t)(next_u64() % 3 % cols);
            rows[r].odd_high[0] = rows[r].odd_high[1] = 0xc0;
            rows[r].odd_at[0] = (uint16_t)(next_u64() % (cols / 2 + 1));
            rows[r].odd_at[1] = (uint16_t)(cols - 1);
        }
        fill(x, cols);
        k->dot_narrow(&head, &whole_walk, x, y);
        mix_floats(y, WALK_STREAMS * whole_walk.spread);
    }
}

static void run_dot_screen(const struct cpu_kernels *k)
{
    int32_t row_sums[2];
    for (uint64_t cols = 256; cols <= 1024; cols += 256) {
        struct screen_codes codes = {bytes, screen_row_bytes(cols)};
        for (size_t i = 0; i < ROWS * codes.row_bytes; i++) {
            bytes[i] = (uint8_t)(next_u64() >> 40);
        }
        struct act_rows a = {.q = q, .sum = row_sums, .stride = act_stride(cols)};
        row_sums[0] = row_sums[1] = 0;
        for (size_t i = 0; i < 2 * cols; i++) {
            q[i] = (int8_t)(next_u64() % 255) - 127;
            row_sums[i / cols] += q[i];
        }
        k->dot_screen(&codes, &whole_walk, &a, y);
        mix_floats(y, WALK_STREAMS * whole_walk.spread);
    }
}

static void run_rmsnorm(const struct cpu_kernels *k)
{
    for (size_t n = 1; n <= COLS; n += 41) {
        fill(x, n);
        fill(w, n);
        k->rmsnorm(x, w, 1e-6f, n, y);
        mix_floats(y, n);
    }
}

static void run_rope(const struct cpu_kernels *k)
{
    for (uint32_t dim = 2; dim <= 128; dim += 6) {
        for (int style = 0; style < 2; style++) {
            fill(x, 4 * dim);
            for (uint32_t i = 0; i < dim / 2; i++) {
                double s, c;
                fm_sincos((double)(i * 977u), &s, &c);
                w[2 * i] = (float)c;
                w[2 * i + 1] = (float)s;
            }
            k->rope(x, 4, dim, dim / 4 * 2, style == 0 ? ROPE_NORM : ROPE_NEOX, w);
            mix_floats(x, 4 * dim);
        }
    }
}

static void run_attend(const struct cpu_kernels *k)
{
    static uint16_t keys[512 * 128], values[512 * 128];
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t dim = i % 3 == 0 ? 128 : 8 * (1 + i), n_kv = 1 + i * i * 4, group = 1 + i % 7;
        for (size_t j = 0; j < (size_t)n_kv * dim; j++) {
            keys[j] = f32_to_f16(next_float());
            values[j] = f32_to_f16(next_float());
        }
        fill(x, group * dim);
        struct attend_args a = {.q = x,
                                .n_tok = 1,
                                .n_head_group = group,
                                .head_dim = dim,
                                .k = keys,
                                .v = values,
                                .kv_stride = dim,
                                .kv_f16 = true,
                                .n_kv = n_kv,
                                .scale = 0.11f,
                                .scores = scores,
                                .out = y};
        k->attend(&a);
        mix_floats(y, group * dim);
    }
}

static void run_act_mul(const struct cpu_kernels *k)
{
    for (size_t n = 1; n <= COLS; n += 97) {
        for (int fn = 0; fn < 2; fn++) {
            fill(x, n);
            fill(w, n);
            x[n / 2] *= 40.0f;
            x[n / 3] = n % 2 == 0 ? NAN : -INFINITY;
            k->act_mul(fn == 0 ? ACT_SILU : ACT_RELU2, x, w, n);
            mix_floats(x, n);
        }
    }
}

static void run_add(const struct cpu_kernels *k)
{
    fill(x, COLS);
    fill(w, COLS);
    k->add(x, w, COLS - 3);
    mix_floats(x, COLS);
}

/* Floats of all exponents and signs. */
static void run_store_f16(const struct cpu_kernels *k)
{
    static uint16_t half[COLS];
    for (int round = 0; round < 16; round++) {
        for (size_t i = 0; i < COLS; i++) {
            uint32_t bits = (uint32_t)(next_u64() >> 32);
            memcpy(x + i, &bits, sizeof(bits));
        }
        k->store_f16(x, COLS, half);
        for (size_t i = 0; i < COLS; i++) {
            mix((half[i] & 0x7fff) > 0x7c00 ? 0x7e00u : half[i]);
        }
    }
}

/* The same for every table: the plain functions that kernels and RoPE tables are made of. */
static void run_fmath(const struct cpu_kernels *k)
{
    (void)k;
    for (int i = 0; i < 20000; i++) {
        double u = (double)(next_u64() >> 11) * 0x1p-53, s, c;
        float e = fm_expf((float)(u * 180.0 - 90.0));
        fm_sincos((u - 0.5) * (i % 2 == 0 ? 2e9 : 20.0), &s, &c);
        mix_floats(&e, 1);
        mix_double(s);
        mix_double(c);
        mix_double(fm_exp((u - 0.5) * 1400.0));
        mix_double(fm_log(u * 1e3));
    }
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(const struct cpu_kernels *k);
    } entries[] = {
        {"quantize_act", run_quantize_act},
        {"matmul_ternary", run_matmul_ternary},
        {"dot_fives", run_dot_fives},
        {"matmul_tl", run_matmul_tl},
        {"matmul_float", run_matmul_float},
        {"dot_narrow", run_dot_narrow},
        {"dot_screen", run_dot_screen},
        {"rmsnorm", run_rmsnorm},
        {"rope", run_rope},
        {"attend", run_attend},
        {"act_mul", run_act_mul},
        {"add", run_add},
        {"store_f16", run_store_f16},
        {"fmath", run_fmath},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        uint64_t first = 0;
        const struct cpu_kernels *const *all = cpu_kernels_all();
        for (size_t j = 0; all[j] != NULL; j++) {
            const char *missing = cpu_kernels_missing(all[j]);
            if (missing != NULL) {
                fprintf(stderr, "%s: not run, no %s\n", all[j]->name, missing);
                continue;
            }
            rng = i + 1;
            hash = 0xcbf29ce484222325u;
            entries[i].run(all[j]);
            first = first == 0 ? hash : first;
            if (hash != first) {
                fprintf(stderr, "%s: %s differs from the table before it\n", entries[i].name,
                        all[j]->name);
                failed = 1;
            }
            fprintf(stderr, "%-15s %-8s %016" PRIx64 "\n", entries[i].name, all[j]->name, hash);
        }
        printf("%s %016" PRIx64 "\n", entries[i].name, first);
    }
    return failed;
}
