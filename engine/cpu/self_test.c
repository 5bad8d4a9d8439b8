/* A table of kernels against the reference, on small pseudo-random inputs: every entry, short and
 * odd lengths, special values. Inputs come from one fixed seed, so a failure repeats. A NaN equals
 * a NaN; all else must agree bit for bit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/tables.h"
#include "engine/cpu/tl.h"

#define MAX_COLS 768u
#define MAX_ROWS 11u
#define MAX_TOKS 9u
#define MAX_BATCH 28u
#define LUT_ROWS 393u
#define MAX_HEADS 5u
#define MAX_DIM 128u
#define MAX_ATTEND_TOKS 4u
#define MAX_KV (37u + MAX_ATTEND_TOKS)
#define TL_COLS 304u
#define TL_TOKS 2u

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct check {
    const struct cpu_kernels *k;
    struct bnt_err *err;
    uint64_t rng;
    _Alignas(64) int8_t q[2][MAX_BATCH * MAX_COLS];
    _Alignas(64) uint8_t bytes[MAX_ROWS * MAX_COLS * 4];
    float x[MAX_TOKS * MAX_COLS], w[MAX_COLS];
    float scratch[CPU_DEQUANT_ROWS * MAX_COLS];
    float y[2][CPU_MANY_TOKENS * (LUT_ROWS + 1)];
    float scale[2][MAX_BATCH];
    int32_t sum[2][MAX_BATCH];
    uint16_t half[2][MAX_COLS];
    float kv[2][MAX_KV * MAX_DIM];
    uint16_t kv_half[2][MAX_KV * MAX_DIM];
    float scores[MAX_ATTEND_TOKS * MAX_HEADS * MAX_KV];
    uint8_t tables[2][TL_TOKS * (32 * TL_COLS + 256)];
    _Alignas(64) uint8_t for_products[]; /* k->scratch_bytes */
};

/* SplitMix64. */
static uint64_t next_u64(struct check *c)
{
    uint64_t z = (c->rng += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Signed, with magnitudes from 2^-8 to 2^3. */
static float next_float(struct check *c)
{
    uint64_t u = next_u64(c);
    float mantissa = (float)(int32_t)(u >> 40) / 8388608.0f - 1.0f;
    return ldexpf(mantissa, (int)(u & 15) % 12 - 8);
}

static void fill(struct check *c, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = next_float(c);
    }
}

static void fill_bytes(struct check *c, uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(next_u64(c) >> 32);
    }
}

/* Values at which vector and scalar code are most likely to part. */
static const float special[] = {
    0.0f,  -0.0f,  1e-45f,   -1e-40f,     1.17549435e-38f, 5.9e-8f,  2.98e-8f,  6.1e-5f, 0.5f,
    1.5f,  -2.5f,  65504.0f, 65519.9f,    65520.0f,        -1e6f,    3.4e38f,   87.3f,   -87.4f,
    88.8f, -88.7f, 104.0f,   1.00048828f, 1.00146484f,     INFINITY, -INFINITY, NAN,
};

static void fill_special(struct check *c, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = next_u64(c) % 3 == 0 ? next_float(c) : special[next_u64(c) % COUNT(special)];
    }
}

static bool differs(struct check *c, const char *entry, const char *detail, size_t index,
                    double got, double want)
{
    bnt_err_set(c->err, BNT_E_SELF_TEST,
                "kernel %s: %s (%s) differs from the reference at element %zu: %.9g, not %.9g",
                c->k->name, entry, detail, index, got, want);
    bnt_err_hint(c->err, "--kernel auto takes the fastest that agrees; bnt devices shows them all");
    return false;
}

static bool same_floats(struct check *c, const char *entry, const char *detail, const float *got,
                        const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool both_nan = isnan(got[i]) && isnan(want[i]);
        if (!both_nan && memcmp(&got[i], &want[i], sizeof(float)) != 0) {
            return differs(c, entry, detail, i, (double)got[i], (double)want[i]);
        }
    }
    return true;
}

static bool check_quantize_row(struct check *c, size_t n, const char *kind)
{
    char detail[64];
    snprintf(detail, sizeof(detail), "%s values, n %zu", kind, n);
    memset(c->q, 0x55, sizeof(c->q));
    cpu_kernels_ref.quantize_act(c->x, n, c->q[0], &c->scale[0][0], &c->sum[0][0]);
    c->k->quantize_act(c->x, n, c->q[1], &c->scale[1][0], &c->sum[1][0]);
    for (size_t i = 0; i < act_stride(n); i++) {
        if (c->q[0][i] != c->q[1][i]) {
            return differs(c, "quantize_act", detail, i, c->q[1][i], c->q[0][i]);
        }
    }
    if (c->sum[0][0] != c->sum[1][0]) {
        return differs(c, "quantize_act: sum", detail, 0, c->sum[1][0], c->sum[0][0]);
    }
    return same_floats(c, "quantize_act: scale", detail, c->scale[1], c->scale[0], 1);
}

static bool check_quantize_act(struct check *c)
{
    static const size_t lengths[] = {1,   15,  16,  17,  31,  32,  33,  100,
                                     127, 128, 130, 255, 256, 257, 400, 700};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        size_t n = lengths[i];
        fill(c, c->x, n);
        bool ok = check_quantize_row(c, n, "random");
        c->x[n / 2] = NAN;
        ok = ok && check_quantize_row(c, n, "NaN among random");
        c->x[n / 2] = -INFINITY;
        ok = ok && check_quantize_row(c, n, "infinity among random");
        /* The largest is 127, so that halves are exact: ties. */
        for (size_t j = 0; j < n; j++) {
            c->x[j] = (float)((int)(next_u64(c) % 507) - 253) / 2.0f;
        }
        c->x[n - 1] = -127.0f;
        ok = ok && check_quantize_row(c, n, "half-way");
        for (size_t j = 0; j < n; j++) {
            c->x[j] = 1e-41f * next_float(c);
        }
        ok = ok && check_quantize_row(c, n, "subnormal");
        memset(c->x, 0, n * sizeof(c->x[0]));
        ok = ok && check_quantize_row(c, n, "zero");
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool check_ternary_shape(struct check *c, uint64_t cols, uint64_t rows, size_t n_tok)
{
    struct ternary_weights w = {.codes = c->bytes,
                                .rows = rows,
                                .cols = cols,
                                .row_bytes = ternary_row_bytes(cols),
                                .scale = 0.37f};
    struct act_rows a = {.q = c->q[0],
                         .scale = c->scale[0],
                         .sum = c->sum[0],
                         .stride = act_stride(cols),
                         .scratch = c->for_products};
    for (size_t t = 0; t < n_tok; t++) {
        fill(c, c->x, cols);
        cpu_kernels_ref.quantize_act(c->x, cols, a.q + t * a.stride, &a.scale[t], &a.sum[t]);
    }
    fill_bytes(c, c->bytes, w.row_bytes * rows);
    for (uint64_t i = 0; rows == LUT_ROWS && i < w.row_bytes * rows; i++) {
        c->bytes[i] &= (uint8_t) ~(c->bytes[i] >> 1 & 0x55); /* codes that are in tables: no 3 */
    }
    if (n_tok % 4 == 3) {
        /* The largest sums: code 3, which no writer writes, against the end of the range. */
        memset(c->bytes, 0xff, w.row_bytes * rows);
        memset(a.q, n_tok == 3 ? 127 : -128, n_tok * a.stride);
    }
    if (n_tok == 24) { /* the largest sums of codes that are written */
        memset(c->bytes, 0xaa, w.row_bytes * rows);
        memset(a.q, -128, n_tok * a.stride);
    }
    memset(c->y, 0, sizeof(c->y));
    uint64_t row0 = rows > 4 ? 1 : 0;
    cpu_kernels_ref.matmul_ternary(&w, row0, rows, &a, n_tok, c->y[0], rows + 1);
    c->k->matmul_ternary(&w, row0, rows, &a, n_tok, c->y[1], rows + 1);
    char detail[80];
    snprintf(detail, sizeof(detail), "%u rows of %u, %u tokens", (unsigned)rows, (unsigned)cols,
             (unsigned)n_tok);
    return same_floats(c, "matmul_ternary", detail, c->y[1], c->y[0], n_tok * (rows + 1));
}

/* The walk that covers most of c->y: rows of four stretches, the first and last of them left out.
 */
static struct row_walk walk_of(uint64_t rows)
{
    uint64_t spread = rows / WALK_STREAMS;
    return (struct row_walk){.begin = spread > 1, .end = spread, .spread = spread};
}

static bool check_dot_ternary(struct check *c)
{
    static const uint64_t cols[] = {1, 100, 128, 256, 300, 384, 640, 768};
    for (size_t i = 0; i < 2 * COUNT(cols); i++) {
        uint64_t rows = i % 3 == 0 ? 4 : MAX_ROWS;
        struct ternary_weights w = {.codes = c->bytes,
                                    .rows = rows,
                                    .cols = cols[i / 2],
                                    .row_bytes = ternary_row_bytes(cols[i / 2]),
                                    .scale = -0.21f};
        struct act_rows a = {
            .q = c->q[0], .scale = c->scale[0], .sum = c->sum[0], .stride = act_stride(w.cols)};
        fill(c, c->x, w.cols);
        cpu_kernels_ref.quantize_act(c->x, w.cols, a.q, a.scale, a.sum);
        fill_bytes(c, c->bytes, w.row_bytes * rows);
        if (i % 2 == 1) {
            memset(c->bytes, 0xff, w.row_bytes * rows);
            memset(a.q, i % 4 == 1 ? 127 : -128, a.stride);
        }
        memset(c->y, 0, sizeof(c->y));
        struct row_walk walk = walk_of(rows);
        cpu_kernels_ref.dot_ternary(&w, &walk, &a, c->y[0]);
        c->k->dot_ternary(&w, &walk, &a, c->y[1]);
        char detail[64];
        snprintf(detail, sizeof(detail), "%u rows of %u", (unsigned)rows, (unsigned)w.cols);
        if (!same_floats(c, "dot_ternary", detail, c->y[1], c->y[0], MAX_ROWS + 1)) {
            return false;
        }
    }
    return true;
}

/* All values of a byte of five, groups of one and of several vectors, the largest sums. */
static bool check_dot_fives(struct check *c)
{
    enum { GROUPS = 11, ROWS = FIVES_ROWS * GROUPS };
    static const uint64_t cols[] = {1, 256, 300, MAX_COLS};
    for (size_t i = 0; cpu_kernels_have_fives(c->k) && i < 2 * COUNT(cols); i++) {
        uint64_t n = cols[i / 2];
        struct five_codes w = {c->bytes, act_stride(n), 0.43f};
        struct act_rows a = {.q = c->q[0], .scale = c->scale[0], .sum = c->sum[0]};
        fill(c, c->x, n);
        cpu_kernels_ref.quantize_act(c->x, n, a.q, a.scale, a.sum);
        for (uint64_t p = 0; p < GROUPS * w.group_bytes; p++) {
            c->bytes[p] = (uint8_t)(i % 2 == 0 ? next_u64(c) % 243 : 242);
        }
        if (i % 2 == 1) {
            memset(a.q, i % 4 == 1 ? 127 : -128, w.group_bytes);
        }
        memset(c->y, 0, sizeof(c->y));
        struct row_walk walk = walk_of(GROUPS);
        cpu_kernels_ref.dot_fives(&w, &walk, &a, c->y[0]);
        c->k->dot_fives(&w, &walk, &a, c->y[1]);
        char detail[64];
        snprintf(detail, sizeof(detail), "%u groups of %u", (unsigned)GROUPS, (unsigned)n);
        if (!same_floats(c, "dot_fives", detail, c->y[1], c->y[0], ROWS)) {
            return false;
        }
    }
    return true;
}

static bool check_matmul_ternary(struct check *c)
{
    static const uint64_t cols[] = {1, 100, 128, 256, 300, 384, 640, 768};
    static const uint64_t rows[] = {1, 3, 4, 11};
    for (size_t i = 0; i < COUNT(cols); i++) {
        for (size_t n_tok = 1; n_tok <= MAX_TOKS; n_tok++) {
            if (!check_ternary_shape(c, cols[i], rows[(i + n_tok) % COUNT(rows)], n_tok)) {
                return false;
            }
        }
    }
    /* Batches: kernels that take many rows and tokens at once, with what is left over of both. */
    return check_ternary_shape(c, 384, 62, 23) && check_ternary_shape(c, 100, 68, 18) &&
           check_ternary_shape(c, 256, 17, 24) &&
           check_ternary_shape(c, 100, LUT_ROWS, CPU_MANY_TOKENS);
}

/* Any bytes are codes: what means no weight counts as zeros. */
static bool check_tl_shape(struct check *c, const struct ternary_source *shape, bool extreme)
{
    struct tl_weights w = {.scale = 0.37f};
    struct ternary_source src = *shape;
    src.data = c->bytes;
    src.size = sizeof c->bytes;
    char detail[80];
    snprintf(detail, sizeof(detail), "%s, %u x %u in tiles of %u x %u, %u rows at a time",
             tensor_type_info((uint32_t)src.type)->name, (unsigned)src.rows, (unsigned)src.cols,
             src.tiles.bm, src.tiles.bk, src.tiles.bm_inner);
    if (!tl_find_planes(&src, &w.planes)) {
        return differs(c, "matmul_tl", detail, 0, 0, 1);
    }
    fill_bytes(c, c->bytes, src.rows * src.cols / 4 + 64);
    uint64_t n = tl_tables_bytes(src.type, src.cols, w.planes.cols3);
    struct act_rows a = {
        .q = c->q[0], .scale = c->scale[0], .sum = c->sum[0], .stride = act_stride(src.cols)};
    for (size_t t = 0; t < TL_TOKS; t++) {
        fill(c, c->x, src.cols);
        int8_t *q = a.q + t * a.stride;
        cpu_kernels_ref.quantize_act(c->x, src.cols, q, &a.scale[t], &a.sum[t]);
        for (uint64_t i = 0; extreme && i < src.cols; i++) {
            q[act_position(i)] = next_u64(c) & 1 ? 127 : -128;
        }
        cpu_kernels_ref.tl_tables(&w.planes, q, c->tables[0] + t * n);
        c->k->tl_tables(&w.planes, q, c->tables[1] + t * n);
    }
    for (uint64_t i = 0; i < TL_TOKS * n; i++) {
        if (c->tables[0][i] != c->tables[1][i]) {
            return differs(c, "tl_tables", detail, i, c->tables[1][i], c->tables[0][i]);
        }
    }
    a.tables = c->tables[1];
    a.tables_stride = n;
    memset(c->y, 0, sizeof(c->y));
    cpu_kernels_ref.matmul_tl(&w, 5, src.rows - 3, &a, TL_TOKS, c->y[0], src.rows);
    c->k->matmul_tl(&w, 5, src.rows - 3, &a, TL_TOKS, c->y[1], src.rows);
    return same_floats(c, "matmul_tl", detail, c->y[1], c->y[0], TL_TOKS * src.rows);
}

static bool check_matmul_tl(struct check *c)
{
    static const struct ternary_source shapes[] = {
        {.type = TENSOR_TL1, .rows = 64, .cols = 64, .tiles = {32, 32, 32}},
        {.type = TENSOR_TL1, .rows = 128, .cols = 36, .tiles = {64, 36, 64}},
        {.type = TENSOR_TL1, .rows = 64, .cols = 300, .tiles = {64, 300, 64}}, /* widened midway */
        {.type = TENSOR_TL2, .rows = 64, .cols = 128, .tiles = {32, 96, 32}},
        {.type = TENSOR_TL2, .rows = 64, .cols = TL_COLS, .tiles = {64, 240, 32}}, /* likewise */
    };
    for (size_t i = 0; i < 2 * COUNT(shapes); i++) {
        if (!check_tl_shape(c, &shapes[i / 2], i % 2 != 0)) {
            return false;
        }
    }
    return true;
}

/* Weights of the type: small random values where bytes are values, else random bytes. */
static void fill_weights(struct check *c, enum tensor_type type, uint64_t n_values,
                         uint64_t n_bytes)
{
    for (uint64_t i = 0; i < n_values; i++) {
        float f = next_float(c);
        uint32_t bits;
        memcpy(&bits, &f, sizeof(bits));
        uint16_t half = type == TENSOR_F16 ? f32_to_f16(f) : (uint16_t)(bits >> 16);
        if (type == TENSOR_F32) {
            memcpy(c->bytes + 4 * i, &f, sizeof(f));
        } else if (type == TENSOR_F16 || type == TENSOR_BF16) {
            memcpy(c->bytes + 2 * i, &half, sizeof(half));
        } else {
            fill_bytes(c, c->bytes, n_bytes);
            return;
        }
    }
}

static bool check_float_shape(struct check *c, enum tensor_type type, uint64_t cols, uint64_t rows,
                              size_t n_tok)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    uint64_t row_bytes = cols / info->block_weights * info->block_bytes;
    struct float_weights w = {
        .type = type, .data = c->bytes, .rows = rows, .cols = cols, .row_bytes = row_bytes};
    fill_weights(c, type, rows * cols, rows * row_bytes);
    fill(c, c->x, n_tok * cols);
    memset(c->y, 0, sizeof(c->y));
    cpu_kernels_ref.matmul_float(&w, 0, rows, c->x, cols, n_tok, c->y[0], MAX_ROWS + 1, c->scratch);
    c->k->matmul_float(&w, 0, rows, c->x, cols, n_tok, c->y[1], MAX_ROWS + 1, c->scratch);
    char detail[96];
    snprintf(detail, sizeof(detail), "%s, %u rows of %u, %u tokens", info->name, (unsigned)rows,
             (unsigned)cols, (unsigned)n_tok);
    return same_floats(c, "matmul_float", detail, c->y[1], c->y[0], n_tok * (MAX_ROWS + 1));
}

static bool check_dot_float(struct check *c)
{
    static const enum tensor_type types[] = {TENSOR_F32, TENSOR_F16, TENSOR_BF16};
    static const uint64_t cols[] = {1, 15, 16, 17, 40, 100, 256};
    for (size_t i = 0; i < COUNT(types) * COUNT(cols); i++) {
        const struct tensor_type_info *info = tensor_type_info((uint32_t)types[i % COUNT(types)]);
        uint64_t rows = i % 2 == 0 ? 4 : MAX_ROWS;
        struct float_weights w = {.type = types[i % COUNT(types)],
                                  .data = c->bytes,
                                  .rows = rows,
                                  .cols = cols[i / COUNT(types)]};
        w.row_bytes = w.cols * info->block_bytes;
        fill_weights(c, w.type, rows * w.cols, rows * w.row_bytes);
        fill(c, c->x, w.cols);
        memset(c->y, 0, sizeof(c->y));
        struct row_walk walk = walk_of(rows);
        cpu_kernels_ref.dot_float(&w, &walk, c->x, c->y[0]);
        c->k->dot_float(&w, &walk, c->x, c->y[1]);
        char detail[64];
        snprintf(detail, sizeof(detail), "%s, %u rows of %u", info->name, (unsigned)rows,
                 (unsigned)w.cols);
        if (!same_floats(c, "dot_float", detail, c->y[1], c->y[0], MAX_ROWS + 1)) {
            return false;
        }
    }
    return true;
}

/* Rows whose upper bytes are those of small floats: without odd weights, with few, with all that a
 * row may list, in no short form. */
static void fill_narrow(struct check *c, struct narrow_row *rows, const struct narrow_codes *w)
{
    for (uint64_t r = 0; r < w->whole.rows; r++) {
        uint64_t apart = w->whole.cols / NARROW_ODD;
        rows[r] = (struct narrow_row){.n_odd = (uint8_t)(apart > 0 ? r % (NARROW_ODD + 1) : 0)};
        for (int i = 0; i < NARROW_HIGH; i++) {
            rows[r].high[i] = (uint8_t)((next_u64(c) & 0x83) + 0x3c);
        }
        for (uint64_t i = 0; i < rows[r].n_odd; i++) {
            rows[r].odd_high[i] = (uint8_t)((next_u64(c) & 0x83) + 0x38);
            rows[r].odd_at[i] = (uint16_t)(i * apart + next_u64(c) % apart);
        }
        rows[r].n_odd = r == 3 ? NARROW_WHOLE : rows[r].n_odd;
    }
}

static bool check_dot_narrow(struct check *c)
{
    static const uint64_t cols[] = {1, 16, 17, 63, 100, 128, 129, 300, 400};
    for (size_t i = 0; i < COUNT(cols); i++) {
        struct narrow_row *rows = (struct narrow_row *)(void *)c->bytes;
        struct narrow_codes w = {.rows = rows,
                                 .codes = c->bytes + MAX_ROWS * sizeof *rows,
                                 .row_bytes = narrow_row_bytes(cols[i]),
                                 .whole = {TENSOR_F32, (const uint8_t *)c->kv[0],
                                           i % 2 == 0 ? MAX_ROWS : 4, cols[i], 4 * cols[i]}};
        fill_bytes(c, c->bytes + MAX_ROWS * sizeof *rows, w.whole.rows * w.row_bytes);
        fill_narrow(c, rows, &w);
        fill(c, c->kv[0], w.whole.rows * cols[i]);
        fill(c, c->x, cols[i]);
        memset(c->y, 0, sizeof c->y);
        struct row_walk walk = walk_of(w.whole.rows);
        cpu_kernels_ref.dot_narrow(&w, &walk, c->x, c->y[0]);
        c->k->dot_narrow(&w, &walk, c->x, c->y[1]);
        char detail[32];
        snprintf(detail, sizeof detail, "rows of %u", (unsigned)cols[i]);
        if (!same_floats(c, "dot_narrow", detail, c->y[1], c->y[0], MAX_ROWS + 1)) {
            return false;
        }
    }
    return true;
}

/* Of activations without -128, which is put right. */
static int32_t whole_sum(int8_t *q, uint64_t n)
{
    int32_t sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        q[i] = q[i] < -127 ? -127 : q[i];
        sum += q[i];
    }
    return sum;
}

static bool check_dot_screen(struct check *c)
{
    for (uint64_t i = 0; i < 12; i++) {
        uint64_t cols = 256 * (1 + i % 3), rows = i % 2 == 0 ? 4 : MAX_ROWS;
        struct screen_codes w = {c->bytes, screen_row_bytes(cols)};
        fill_bytes(c, c->bytes, rows * w.row_bytes);
        struct act_rows a = {.q = c->q[0], .sum = c->sum[0], .stride = act_stride(cols)};
        fill_bytes(c, (uint8_t *)a.q, 2 * a.stride);
        if (i >= 6) { /* the largest sums */
            memset(c->bytes, 0xff, rows * w.row_bytes);
            memset(a.q, i >= 9 ? 127 : -127, 2 * a.stride);
        }
        a.sum[0] = whole_sum(a.q, a.stride);
        a.sum[1] = whole_sum(a.q + a.stride, a.stride);
        memset(c->y, 0, sizeof c->y);
        struct row_walk walk = walk_of(rows);
        cpu_kernels_ref.dot_screen(&w, &walk, &a, c->y[0]);
        c->k->dot_screen(&w, &walk, &a, c->y[1]);
        if (!same_floats(c, "dot_screen", "5-bit codes", c->y[1], c->y[0], MAX_ROWS + 1)) {
            return false;
        }
    }
    return true;
}

static bool check_matmul_float(struct check *c)
{
    static const enum tensor_type types[] = {
        TENSOR_F32,       TENSOR_F16,   TENSOR_BF16,  TENSOR_Q4_0,   TENSOR_Q4_1,
        TENSOR_Q5_0,      TENSOR_Q5_1,  TENSOR_Q8_0,  TENSOR_Q4_K,   TENSOR_Q5_K,
        TENSOR_Q6_K,      TENSOR_TQ1_0, TENSOR_TQ2_0, TENSOR_Q1_0,   TENSOR_Q2_0,
        TENSOR_Q2_0_G128, TENSOR_Q2_K,  TENSOR_Q3_K,  TENSOR_IQ4_NL, TENSOR_IQ4_XS,
    };
    static const uint64_t cols[] = {1, 15, 16, 17, 40, 100, 256};
    static const uint64_t rows[] = {1, 3, 4, 7, 11};
    for (size_t i = 0; i < COUNT(types); i++) {
        bool direct = tensor_type_info((uint32_t)types[i])->block_weights == 1;
        for (size_t j = direct ? 0 : COUNT(cols) - 1; j < COUNT(cols); j++) {
            for (size_t n_tok = 1; n_tok <= (direct ? 6u : 2u); n_tok++) {
                if (!check_float_shape(c, types[i], cols[j], rows[(i + j + n_tok) % COUNT(rows)],
                                       n_tok)) {
                    return false;
                }
            }
        }
    }
    return true;
}

static const size_t vector_lengths[] = {1, 5, 15, 16, 17, 31, 32, 33, 64, 100, 257};

static bool check_rmsnorm(struct check *c)
{
    for (size_t i = 0; i < COUNT(vector_lengths); i++) {
        size_t n = vector_lengths[i];
        char detail[32];
        snprintf(detail, sizeof(detail), "n %zu", n);
        fill(c, c->w, n);
        fill(c, c->x, n);
        cpu_kernels_ref.rmsnorm(c->x, c->w, 1e-5f, n, c->y[0]);
        c->k->rmsnorm(c->x, c->w, 1e-5f, n, c->y[1]);
        if (!same_floats(c, "rmsnorm", detail, c->y[1], c->y[0], n)) {
            return false;
        }
        c->k->rmsnorm(c->x, c->w, 1e-5f, n, c->x);
        if (!same_floats(c, "rmsnorm in place", detail, c->x, c->y[0], n)) {
            return false;
        }
    }
    return true;
}

static bool check_rope(struct check *c)
{
    static const uint32_t dims[][2] = {{2, 2}, {8, 8}, {20, 12}, {64, 64}, {80, 32}, {128, 128}};
    for (size_t i = 0; i < 2 * COUNT(dims); i++) {
        uint32_t head_dim = dims[i / 2][0], n_rot = dims[i / 2][1];
        enum rope_style style = i % 2 == 0 ? ROPE_NORM : ROPE_NEOX;
        char detail[48];
        snprintf(detail, sizeof(detail), "%s, %u of %u", i % 2 == 0 ? "pairs" : "halves", n_rot,
                 head_dim);
        fill(c, c->w, n_rot);
        fill(c, c->y[0], 3 * head_dim);
        memcpy(c->y[1], c->y[0], 3 * head_dim * sizeof(float));
        cpu_kernels_ref.rope(c->y[0], 3, head_dim, n_rot, style, c->w);
        c->k->rope(c->y[1], 3, head_dim, n_rot, style, c->w);
        if (!same_floats(c, "rope", detail, c->y[1], c->y[0], 3 * head_dim)) {
            return false;
        }
    }
    return true;
}

/* n_tok tokens of n_group heads; the first sees n_kv positions. */
static bool check_attend_shape(struct check *c, struct attend_args a)
{
    size_t n = (size_t)a.n_tok * a.n_head_group * a.head_dim;
    size_t n_cache = (size_t)(a.n_kv + a.n_tok - 1) * a.head_dim;
    a.q = c->x;
    a.k = c->kv[0];
    a.v = c->kv[1];
    a.tok_stride = (uint64_t)a.n_head_group * a.head_dim;
    a.kv_stride = a.head_dim;
    a.n_kv_step = 1;
    a.scale = 0.25f;
    a.scores = c->scores;
    fill(c, c->x, n);
    fill(c, c->kv[0], n_cache);
    fill(c, c->kv[1], n_cache);
    if (a.kv_f16) {
        for (int i = 0; i < 2; i++) {
            cpu_kernels_ref.store_f16(c->kv[i], n_cache, c->kv_half[i]);
        }
        a.k = c->kv_half[0];
        a.v = c->kv_half[1];
    }
    a.out = c->y[0];
    cpu_kernels_ref.attend(&a);
    /* In place, as callers may. */
    a.out = c->x;
    c->k->attend(&a);
    char detail[96];
    snprintf(detail, sizeof(detail), "%s, %u tokens, %u heads of %u, %u positions",
             a.kv_f16 ? "F16" : "F32", a.n_tok, a.n_head_group, a.head_dim, a.n_kv);
    return same_floats(c, "attend", detail, c->x, c->y[0], n);
}

static bool check_attend(struct check *c)
{
    static const uint32_t dims[] = {8, 16, 20, 64, 80, 128};
    static const uint32_t lengths[] = {1, 3, 4, 16, 18, 37};
    for (uint32_t i = 0; i < 2 * COUNT(dims); i++) {
        for (uint32_t j = 0; j < COUNT(lengths); j++) {
            struct attend_args a = {.n_tok = 1 + (i + j) % 2 * (j % MAX_ATTEND_TOKS),
                                    .n_head_group = 1 + (i / 2 + j) % MAX_HEADS,
                                    .head_dim = dims[i / 2],
                                    .kv_f16 = i % 2 == 0,
                                    .n_kv = lengths[j]};
            if (!check_attend_shape(c, a)) {
                return false;
            }
        }
    }
    /* For which a table may have kernels of its own. */
    for (uint32_t j = 0; j < COUNT(lengths); j++) {
        struct attend_args a = {
            .n_tok = 1, .n_head_group = 4, .head_dim = 128, .kv_f16 = true, .n_kv = lengths[j]};
        if (!check_attend_shape(c, a)) {
            return false;
        }
    }
    return true;
}

static bool check_act_mul(struct check *c)
{
    for (size_t i = 0; i < 2 * COUNT(vector_lengths); i++) {
        size_t n = vector_lengths[i / 2];
        enum act_fn fn = i % 2 == 0 ? ACT_SILU : ACT_RELU2;
        char detail[32];
        snprintf(detail, sizeof(detail), "%s, n %zu", i % 2 == 0 ? "SiLU" : "ReLU squared", n);
        fill_special(c, c->y[0], n);
        memcpy(c->y[1], c->y[0], n * sizeof(float));
        fill(c, c->x, n);
        cpu_kernels_ref.act_mul(fn, c->y[0], c->x, n);
        c->k->act_mul(fn, c->y[1], c->x, n);
        if (!same_floats(c, "act_mul", detail, c->y[1], c->y[0], n)) {
            return false;
        }
    }
    return true;
}

static bool check_add(struct check *c)
{
    for (size_t i = 0; i < COUNT(vector_lengths); i++) {
        size_t n = vector_lengths[i];
        char detail[32];
        snprintf(detail, sizeof(detail), "n %zu", n);
        fill_special(c, c->x, n);
        fill(c, c->y[0], n + 1);
        memcpy(c->y[1], c->y[0], (n + 1) * sizeof(float));
        cpu_kernels_ref.add(c->y[0], c->x, n);
        c->k->add(c->y[1], c->x, n);
        if (!same_floats(c, "add", detail, c->y[1], c->y[0], n + 1)) {
            return false;
        }
    }
    return true;
}

static bool check_store_f16(struct check *c)
{
    for (size_t i = 0; i < COUNT(vector_lengths); i++) {
        size_t n = vector_lengths[i];
        char detail[32];
        snprintf(detail, sizeof(detail), "n %zu", n);
        fill_special(c, c->x, n);
        memset(c->half, 0x55, sizeof(c->half));
        cpu_kernels_ref.store_f16(c->x, n, c->half[0]);
        c->k->store_f16(c->x, n, c->half[1]);
        for (size_t j = 0; j < n + 1; j++) {
            float got = f16_to_f32(c->half[1][j]), want = f16_to_f32(c->half[0][j]);
            if (c->half[0][j] != c->half[1][j] && !(isnan(got) && isnan(want))) {
                return differs(c, "store_f16", detail, j, (double)got, (double)want);
            }
        }
    }
    return true;
}

/* Sums that grow from one stretch of columns to the next, with no value, few and all of them; codes
 * of 3 and values of -128 at the end. */
static bool check_add_columns(struct check *c)
{
    static const uint64_t ends[] = {64, 128, 320, 384};
    enum { COLUMNS = 384, SUMS = 2 * COLUMN_ROWS };
    int32_t acc[2][SUMS];
    for (size_t i = 0; i < 6; i++) {
        uint64_t column_bytes = COLUMN_LINE * (1 + i % 2);
        struct column_codes w = {c->bytes, column_bytes, i < 5 ? COLUMNS : COLUMNS / 4};
        fill_bytes(c, c->bytes, w.columns * column_bytes);
        for (size_t p = 0; p < COLUMNS; p++) {
            int8_t value = (int8_t)(next_u64(c) >> 40);
            c->q[0][p] = i == 0 || (p * i) % 7 > i ? 0 : value;
        }
        if (i == 4) {
            memset(c->bytes, 0xff, COLUMNS * column_bytes);
            memset(c->q[0], -128, COLUMNS);
        }
        memset(acc, 0, sizeof acc);
        uint64_t begin = 0;
        for (size_t j = 0; j < COUNT(ends) && ends[j] <= w.columns; begin = ends[j++]) {
            cpu_kernels_ref.add_columns(&w, c->q[0], begin, ends[j], acc[0]);
            c->k->add_columns(&w, c->q[0], begin, ends[j], acc[1]);
        }
        for (size_t r = 0; r < SUMS; r++) {
            if (acc[0][r] != acc[1][r]) {
                return differs(c, "add_columns", "sums", r, acc[1][r], acc[0][r]);
            }
        }
    }
    return true;
}

enum bnt_status cpu_kernels_self_test(const struct cpu_kernels *k, struct bnt_err *err)
{
    static bool (*const checks[])(struct check *) = {
        check_quantize_act, check_matmul_ternary, check_dot_ternary, check_matmul_tl,
        check_matmul_float, check_dot_float,      check_dot_narrow,  check_dot_screen,
        check_rmsnorm,      check_rope,           check_attend,      check_act_mul,
        check_add,          check_store_f16,      check_add_columns, check_dot_fives,
    };
    if (k == &cpu_kernels_ref) {
        return BNT_OK; /* it defines the results */
    }
    size_t size = sizeof(struct check) + k->scratch_bytes;
    struct check *c = aligned_alloc(64, size);
    if (c == NULL) {
        return bnt_err_nomem(err, "the kernel self-test", size);
    }
    memset(c, 0, sizeof(*c));
    c->k = k;
    struct bnt_err own = {0};
    c->err = err != NULL ? err : &own;
    c->rng = 20240227;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < COUNT(checks) && st == BNT_OK; i++) {
        st = checks[i](c) ? BNT_OK : BNT_E_SELF_TEST;
    }
    free(c);
    return st;
}
