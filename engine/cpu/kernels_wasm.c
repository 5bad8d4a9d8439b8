/* Kernels for WebAssembly with 128-bit SIMD: 16 lanes are four registers. There is no product of
 * bytes: i32x4.dot_i16x8_s adds pairs of 16-bit products, so codes and activations are widened
 * first. The ternary product keeps int32 sums throughout, exact, and takes the sum of the
 * activations away, as on x86. Conversions from and to F16 are those of tensor_type.h, since there
 * is no instruction. */
#include "engine/cpu/tables.h"
#include "engine/cpu/tl.h"

#if defined(__wasm_simd128__)

#include <math.h>
#include <string.h>
#include <wasm_simd128.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"

#define V_INLINE inline __attribute__((always_inline))

typedef struct {
    v128_t r[4];
} vf;
typedef struct {
    v128_t r[4];
} vi;

/* Register tiles of the float stages. The engine below maps onto the registers of the processor, of
 * which x86-64 has 16. */
#define F_ROWS 2
#define F_TOKS 1
#define KV_BLOCKS 1
#define PREFETCH_BYTES 0
#define WALK_AHEAD_BYTES 0

/* See lanes16.inc. f32x4.max keeps a NaN; it takes many instructions on x86, but there is little to
 * do. */
#define V_EACH(type, op, a) ((type){{op((a).r[0]), op((a).r[1]), op((a).r[2]), op((a).r[3])}})
#define V_EACH2(type, op, a, b)                                                                    \
    ((type){{op((a).r[0], (b).r[0]), op((a).r[1], (b).r[1]), op((a).r[2], (b).r[2]),               \
             op((a).r[3], (b).r[3])}})
#define V_SAME(type, x) ((type){{(x), (x), (x), (x)}})
#define V_F32(name) wasm_f32x4_##name
#define V_I32(name) wasm_i32x4_##name
#define V_SPLAT_F32 wasm_f32x4_splat
#define V_SPLAT_I32 wasm_i32x4_splat
#define V_AND wasm_v128_and
#define V_BITS(x) (x)
#define V_FLOATS(x) (x)
#define V_HALF(x) wasm_i32x4_shr(x, 1)
#define V_EXPONENT(x) wasm_i32x4_shl(x, 23)
#include "engine/cpu/lanes16.inc"

static V_INLINE vf v_below(vf x, vf limit, vf a, vf b)
{
    vf out;
    for (int i = 0; i < 4; i++) {
        out.r[i] = wasm_v128_bitselect(a.r[i], b.r[i], wasm_f32x4_lt(x.r[i], limit.r[i]));
    }
    return out;
}

static V_INLINE int32_t hsum_i32(v128_t a)
{
    a = wasm_i32x4_add(a, wasm_i32x4_shuffle(a, a, 2, 3, 0, 1));
    return wasm_i32x4_extract_lane(a, 0) + wasm_i32x4_extract_lane(a, 1);
}

static V_INLINE int32_t vi_hsum(vi a)
{
    return hsum_i32(wasm_i32x4_add(wasm_i32x4_add(a.r[0], a.r[1]), wasm_i32x4_add(a.r[2], a.r[3])));
}

static V_INLINE int32_t vi_hmax(vi a)
{
    v128_t m = wasm_i32x4_max(wasm_i32x4_max(a.r[0], a.r[1]), wasm_i32x4_max(a.r[2], a.r[3]));
    m = wasm_i32x4_max(m, wasm_i32x4_shuffle(m, m, 2, 3, 0, 1));
    m = wasm_i32x4_max(m, wasm_i32x4_shuffle(m, m, 1, 0, 3, 2));
    return wasm_i32x4_extract_lane(m, 0);
}

static V_INLINE void vi_store_i8(int8_t *p, vi a)
{
    v128_t lo = wasm_i16x8_narrow_i32x4(a.r[0], a.r[1]);
    v128_t hi = wasm_i16x8_narrow_i32x4(a.r[2], a.r[3]);
    wasm_v128_store(p, wasm_i8x16_narrow_i16x8(lo, hi));
}

static V_INLINE vf v_load(const float *p)
{
    return (vf){
        {wasm_v128_load(p), wasm_v128_load(p + 4), wasm_v128_load(p + 8), wasm_v128_load(p + 12)}};
}

static V_INLINE void v_store(float *p, vf a)
{
    for (int i = 0; i < 4; i++) {
        wasm_v128_store(p + 4 * i, a.r[i]);
    }
}

/* Four F16 in the low halves of the lanes to F32, exactly. The exponent and mantissa moved to their
 * place stand for a number 2^112 too small; the product puts that right, subnormals included.
 * Infinities and NaNs, whose exponent is then no longer the largest, get it back. */
static V_INLINE v128_t widen_f16(v128_t h)
{
    v128_t magnitude = wasm_v128_and(h, wasm_i32x4_splat(0x7fff));
    v128_t sign = wasm_i32x4_shl(wasm_v128_xor(h, magnitude), 16);
    v128_t scaled = wasm_f32x4_mul(wasm_i32x4_shl(magnitude, 13), wasm_f32x4_splat(0x1p112f));
    v128_t special = wasm_i32x4_gt(magnitude, wasm_i32x4_splat(0x7bff));
    v128_t exponent = wasm_v128_and(special, wasm_i32x4_splat(0x7f800000));
    return wasm_v128_or(wasm_v128_or(scaled, exponent), sign);
}

static V_INLINE vf v_load_f16(const uint16_t *p)
{
    vf out;
    for (int i = 0; i < 4; i++) {
        out.r[i] = widen_f16(wasm_u32x4_load16x4(p + 4 * i));
    }
    return out;
}

static V_INLINE vf v_load_bf16(const uint16_t *p)
{
    vf out;
    for (int i = 0; i < 4; i++) {
        out.r[i] = wasm_i32x4_shl(wasm_u32x4_load16x4(p + 4 * i), 16);
    }
    return out;
}

static V_INLINE void v_store_f16(uint16_t *p, vf a)
{
    float all[16];
    v_store(all, a);
    for (size_t i = 0; i < 16; i++) {
        p[i] = f32_to_f16(all[i]);
    }
}

#include "engine/cpu/tails16.inc"

static V_INLINE v128_t swap_pairs(v128_t a)
{
    return wasm_i32x4_shuffle(a, a, 1, 0, 3, 2);
}
static V_INLINE v128_t even_lanes(v128_t a)
{
    return wasm_i32x4_shuffle(a, a, 0, 0, 2, 2);
}
static V_INLINE v128_t odd_lanes(v128_t a)
{
    return wasm_i32x4_shuffle(a, a, 1, 1, 3, 3);
}

static V_INLINE vf v_swap_pairs(vf a)
{
    return V_EACH(vf, swap_pairs, a);
}
static V_INLINE vf v_even_lanes(vf a)
{
    return V_EACH(vf, even_lanes, a);
}
static V_INLINE vf v_odd_lanes(vf a)
{
    return V_EACH(vf, odd_lanes, a);
}

/* Lanes 8 and 4 apart folded. */
static V_INLINE v128_t fold84(vf a)
{
    return wasm_f32x4_add(wasm_f32x4_add(a.r[0], a.r[2]), wasm_f32x4_add(a.r[1], a.r[3]));
}

/* Lanes 2 apart of a and b folded: two lanes of a, two of b. */
static V_INLINE v128_t fold2(v128_t a, v128_t b)
{
    return wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 1, 4, 5),
                          wasm_i32x4_shuffle(a, b, 2, 3, 6, 7));
}

/* Neighbouring lanes of a and b folded. */
static V_INLINE v128_t fold1(v128_t a, v128_t b)
{
    return wasm_f32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6),
                          wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

static V_INLINE float v_hsum(vf a)
{
    v128_t w4 = fold84(a), w2 = fold2(w4, w4);
    return wasm_f32x4_extract_lane(w2, 0) + wasm_f32x4_extract_lane(w2, 1);
}

static V_INLINE void v_sum16(const vf acc[16], float out[16])
{
    for (int i = 0; i < 4; i++) {
        v128_t ab = fold2(fold84(acc[i]), fold84(acc[4 + i]));
        v128_t cd = fold2(fold84(acc[8 + i]), fold84(acc[12 + i]));
        wasm_v128_store(out + 4 * i, fold1(ab, cd));
    }
}

#include "engine/cpu/float_kernels.inc"

/* Register tile of the ternary product: 4 accumulators. One token takes the rows of a walk. */
#define T_ROWS 2
#define T_TOKS 2

typedef v128_t vt;

static V_INLINE vt vt_zero(void)
{
    return wasm_i32x4_splat(0);
}
static V_INLINE int32_t vt_hsum(vt a)
{
    return hsum_i32(a);
}

/* 16 bytes of codes per row, half a block, against 64 activations per token. */
static V_INLINE void ternary_step(int n_row, int n_tok, const uint8_t *codes, uint64_t row_bytes,
                                  const int8_t *q, uint64_t stride, vt acc[WALK_STREAMS * T_TOKS])
{
    const v128_t low = wasm_i8x16_splat(3);
    v128_t packed[WALK_STREAMS];
    for (int r = 0; r < n_row; r++) {
        packed[r] = wasm_v128_load(codes + (size_t)r * (size_t)row_bytes);
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        v128_t code_lo[WALK_STREAMS], code_hi[WALK_STREAMS];
        for (int r = 0; r < n_row; r++) {
            v128_t code = wasm_v128_and(wasm_u16x8_shr(packed[r], 6 - 2 * g), low);
            code_lo[r] = wasm_u16x8_extend_low_u8x16(code);
            code_hi[r] = wasm_u16x8_extend_high_u8x16(code);
        }
        for (int t = 0; t < n_tok; t++) {
            v128_t act = wasm_v128_load(q + (size_t)t * (size_t)stride + 64 * g);
            v128_t act_lo = wasm_i16x8_extend_low_i8x16(act);
            v128_t act_hi = wasm_i16x8_extend_high_i8x16(act);
            for (int r = 0; r < n_row; r++) {
                v128_t *sum = &acc[T_TOKS * r + t];
                *sum = wasm_i32x4_add(*sum, wasm_i32x4_dot_i16x8(code_lo[r], act_lo));
                *sum = wasm_i32x4_add(*sum, wasm_i32x4_dot_i16x8(code_hi[r], act_hi));
            }
        }
    }
}

#include "engine/cpu/ternary_tiles.inc"

/* ---- one token whose input has many zeros ---- */

/* By loops that a compiler turns into vectors of 16-bit products: 127 * 3 * 85 stays in int16. */
#define STEP_COLUMNS 64
enum { COLUMNS_OF_16_BITS = 64 };

/* Bit position 2 * g of byte p into sums[COLUMN_LINE * g + p]. */
static V_INLINE void add_column_line(const uint8_t *line, int16_t q, int16_t *sums)
{
    for (int g = 0; g < 4; g++) {
        for (int p = 0; p < COLUMN_LINE; p++) {
            int code = line[p] >> 2 * g & 3;
            sums[COLUMN_LINE * g + p] = (int16_t)(sums[COLUMN_LINE * g + p] + code * q);
        }
    }
}

static V_INLINE void column_line(const uint8_t *const *at, const int8_t *q, uint32_t n,
                                 uint64_t line, int32_t *acc)
{
    for (uint32_t begin = 0; begin < n; begin += COLUMNS_OF_16_BITS) {
        int16_t sums[COLUMN_ROWS] = {0};
        for (uint32_t c = begin; c < n && c < begin + COLUMNS_OF_16_BITS; c++) {
            __builtin_prefetch(at[n + c] + line, 0, 2);
            add_column_line(at[c] + line, q[c], sums);
        }
        for (int r = 0; r < COLUMN_ROWS; r++) {
            int m = r / 16, byte = 16 * (r % 16 / 4) + 4 * (m % 4) + r % 4;
            acc[r] += sums[COLUMN_LINE * (m / 4) + byte];
        }
    }
}

#include "engine/cpu/columns_walk.inc"

enum { SCREEN_OFFSET = 0 };
typedef v128_t screen_table;

static V_INLINE screen_table screen_table_load(void)
{
    return wasm_v128_load(screen_levels);
}

/* half: four bits of each code, and what may stand above them. The sign of each is this bit of
 * `signs`. */
static V_INLINE v128_t screen_code(screen_table table, v128_t half, v128_t signs, int bit)
{
    v128_t wanted = wasm_i8x16_splat((int8_t)(1 << bit));
    v128_t level = wasm_i8x16_swizzle(table, wasm_v128_and(half, wasm_i8x16_splat(15)));
    v128_t below = wasm_i8x16_eq(wasm_v128_and(signs, wanted), wanted);
    return wasm_i8x16_sub(wasm_v128_xor(level, below), below);
}

static V_INLINE v128_t screen_dot(v128_t acc, v128_t code, v128_t act)
{
    acc = wasm_i32x4_add(acc, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(code),
                                                   wasm_i16x8_extend_low_i8x16(act)));
    return wasm_i32x4_add(acc, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(code),
                                                    wasm_i16x8_extend_high_i8x16(act)));
}

static V_INLINE void screen_block(v128_t acc[2], screen_table table, const uint8_t *block,
                                  const int8_t *q, uint64_t stride)
{
    for (int p = 0; p < 64; p += 16) {
        v128_t a = wasm_v128_load(block + p), b = wasm_v128_load(block + 64 + p);
        v128_t signs = wasm_v128_load(block + 128 + p % 32);
        int bit = p < 32 ? 0 : 4;
        v128_t code[4] = {screen_code(table, a, signs, bit),
                          screen_code(table, wasm_u16x8_shr(a, 4), signs, bit + 1),
                          screen_code(table, b, signs, bit + 2),
                          screen_code(table, wasm_u16x8_shr(b, 4), signs, bit + 3)};
        for (int g = 0; g < 4; g++) {
            acc[0] = screen_dot(acc[0], code[g], wasm_v128_load(q + 64 * g + p));
            acc[1] = screen_dot(acc[1], code[g], wasm_v128_load(q + (size_t)stride + 64 * g + p));
        }
    }
}

#include "engine/cpu/screen_walk.inc"

typedef vi narrow_bytes;
typedef v128_t narrow_table;

static V_INLINE narrow_bytes narrow_load(const uint8_t *p)
{
    return (vi){{wasm_v128_load(p), wasm_v128_load(p + 16), wasm_v128_load(p + 32),
                 wasm_v128_load(p + 48)}};
}

static V_INLINE void narrow_store(uint8_t *p, narrow_bytes a)
{
    for (int i = 0; i < 4; i++) {
        wasm_v128_store(p + 16 * i, a.r[i]);
    }
}

static V_INLINE narrow_table narrow_table_load(const uint8_t high[NARROW_HIGH])
{
    return wasm_v128_load(high);
}

static V_INLINE narrow_bytes narrow_look_up(narrow_table table, narrow_bytes codes, bool upper)
{
    for (int i = 0; i < 4; i++) {
        v128_t half = upper ? wasm_u8x16_shr(codes.r[i], 4)
                            : wasm_v128_and(codes.r[i], wasm_i8x16_splat(NARROW_HIGH - 1));
        codes.r[i] = wasm_i8x16_swizzle(table, half);
    }
    return codes;
}

/* Two weights stand in each element: the upper one is there when the lower one is cleared. */
static V_INLINE void narrow_widen(narrow_bytes high, narrow_bytes low, vf out[4])
{
    const v128_t upper = wasm_i32x4_splat((int32_t)0xffff0000u);
    for (int i = 0; i < 4; i++) {
        v128_t first = wasm_i8x16_shuffle(low.r[i], high.r[i], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                          21, 6, 22, 7, 23);
        v128_t second = wasm_i8x16_shuffle(low.r[i], high.r[i], 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                           28, 13, 29, 14, 30, 15, 31);
        out[0].r[i] = wasm_i32x4_shl(first, 16);
        out[1].r[i] = wasm_v128_and(first, upper);
        out[2].r[i] = wasm_i32x4_shl(second, 16);
        out[3].r[i] = wasm_v128_and(second, upper);
    }
}

#include "engine/cpu/narrow_walk.inc"

const struct cpu_kernels cpu_kernels_wasm = {
    .name = "wasm",
    .matmul_ternary = matmul_ternary,
    /* Codes of 2 bits are what a module multiplies fast. */
    .tl_tables = tl_tables_ref,
    .matmul_tl = tl_matmul_ref,
    .add_columns = add_columns,
    CPU_OWN_ENTRIES,
};

#endif
