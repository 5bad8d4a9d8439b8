/* Kernels for aarch64 with the dot-product extension (sdot, exact in int32): 16 lanes are four
 * registers. The ternary product multiplies codes by activations and takes the sum of the
 * activations away, as on x86. */
#include "engine/cpu/tables.h"
#include "engine/cpu/tl.h"

#if defined(__aarch64__)

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"
#include "engine/cpu/neon_codes.h"

#define V_INLINE inline __attribute__((always_inline))

typedef struct {
    float32x4_t r[4];
} vf;
typedef struct {
    int32x4_t r[4];
} vi;

/* Register tiles of the float stages: 2 x 2 accumulators take 16 of 32 registers. */
#define F_ROWS 2
#define F_TOKS 2
#define KV_BLOCKS 1
#define PREFETCH_BYTES 8192
#define WALK_AHEAD_BYTES 2048

/* See lanes16.inc. */
#define V_EACH(type, op, a) ((type){{op((a).r[0]), op((a).r[1]), op((a).r[2]), op((a).r[3])}})
#define V_EACH2(type, op, a, b)                                                                    \
    ((type){{op((a).r[0], (b).r[0]), op((a).r[1], (b).r[1]), op((a).r[2], (b).r[2]),               \
             op((a).r[3], (b).r[3])}})
#define V_SAME(type, x) ((type){{(x), (x), (x), (x)}})
#define V_F32(name) v##name##q_f32
#define V_I32(name) v##name##q_s32
#define V_SPLAT_F32 vdupq_n_f32
#define V_SPLAT_I32 vdupq_n_s32
#define V_AND vandq_s32
#define V_BITS vreinterpretq_s32_f32
#define V_FLOATS vreinterpretq_f32_s32
#define V_HALF(x) vshrq_n_s32(x, 1)
#define V_EXPONENT(x) vshlq_n_s32(x, 23)
#include "engine/cpu/lanes16.inc"

static V_INLINE vf v_below(vf x, vf limit, vf a, vf b)
{
    vf out;
    for (int i = 0; i < 4; i++) {
        out.r[i] = vbslq_f32(vcltq_f32(x.r[i], limit.r[i]), a.r[i], b.r[i]);
    }
    return out;
}

static V_INLINE int32_t vi_hsum(vi a)
{
    return vaddvq_s32(vaddq_s32(vaddq_s32(a.r[0], a.r[1]), vaddq_s32(a.r[2], a.r[3])));
}

static V_INLINE int32_t vi_hmax(vi a)
{
    return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.r[0], a.r[1]), vmaxq_s32(a.r[2], a.r[3])));
}

static V_INLINE void vi_store_i8(int8_t *p, vi a)
{
    int16x8_t lo = vcombine_s16(vmovn_s32(a.r[0]), vmovn_s32(a.r[1]));
    int16x8_t hi = vcombine_s16(vmovn_s32(a.r[2]), vmovn_s32(a.r[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}

static V_INLINE vf v_load(const float *p)
{
    return (vf){{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}

static V_INLINE void v_store(float *p, vf a)
{
    for (int i = 0; i < 4; i++) {
        vst1q_f32(p + 4 * i, a.r[i]);
    }
}

static V_INLINE vf v_load_f16(const uint16_t *p)
{
    vf out;
    for (int i = 0; i < 4; i++) {
        out.r[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)));
    }
    return out;
}

static V_INLINE vf v_load_bf16(const uint16_t *p)
{
    vf out;
    for (int i = 0; i < 4; i++) {
        out.r[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16));
    }
    return out;
}

static V_INLINE void v_store_f16(uint16_t *p, vf a)
{
    for (int i = 0; i < 4; i++) {
        vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.r[i])));
    }
}

#include "engine/cpu/tails16.inc"

static V_INLINE vf v_swap_pairs(vf a)
{
    return V_EACH(vf, vrev64q_f32, a);
}
static V_INLINE vf v_even_lanes(vf a)
{
    return V_EACH2(vf, vtrn1q_f32, a, a);
}
static V_INLINE vf v_odd_lanes(vf a)
{
    return V_EACH2(vf, vtrn2q_f32, a, a);
}

/* Lanes 8 and 4 apart folded. */
static V_INLINE float32x4_t fold84(vf a)
{
    return vaddq_f32(vaddq_f32(a.r[0], a.r[2]), vaddq_f32(a.r[1], a.r[3]));
}

/* Lanes 2 apart of a and b folded: two lanes of a, two of b. */
static V_INLINE float32x4_t fold2(float32x4_t a, float32x4_t b)
{
    float64x2_t x = vreinterpretq_f64_f32(a), y = vreinterpretq_f64_f32(b);
    return vaddq_f32(vreinterpretq_f32_f64(vtrn1q_f64(x, y)),
                     vreinterpretq_f32_f64(vtrn2q_f64(x, y)));
}

static V_INLINE float v_hsum(vf a)
{
    float32x4_t w4 = fold84(a);
    float32x2_t w2 = vadd_f32(vget_low_f32(w4), vget_high_f32(w4));
    return vget_lane_f32(w2, 0) + vget_lane_f32(w2, 1);
}

static V_INLINE void v_sum16(const vf acc[16], float out[16])
{
    for (int i = 0; i < 4; i++) {
        float32x4_t ab = fold2(fold84(acc[i]), fold84(acc[4 + i]));
        float32x4_t cd = fold2(fold84(acc[8 + i]), fold84(acc[12 + i]));
        vst1q_f32(out + 4 * i, vpaddq_f32(ab, cd));
    }
}

#include "engine/cpu/float_kernels.inc"

/* Register tile of the ternary product: 16 accumulators, 4 packed, 4 unpacked, 1 activation of 32
 * registers. */
#define T_ROWS 4
#define T_TOKS 4

typedef int32x4_t vt;

static V_INLINE vt vt_zero(void)
{
    return vdupq_n_s32(0);
}
static V_INLINE int32_t vt_hsum(vt a)
{
    return vaddvq_s32(a);
}

/* 16 bytes of codes per row, half a block, against 64 activations per token. */
static V_INLINE void ternary_step(int n_row, int n_tok, const uint8_t *codes, uint64_t row_bytes,
                                  const int8_t *q, uint64_t stride, vt acc[T_ROWS * T_TOKS])
{
    uint8x16_t packed[T_ROWS];
    for (int r = 0; r < n_row; r++) {
        packed[r] = vld1q_u8(codes + (uint64_t)r * row_bytes);
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        int8x16_t code[T_ROWS];
        for (int r = 0; r < n_row; r++) {
            code[r] = neon_codes(packed[r], g);
        }
        for (int t = 0; t < n_tok; t++) {
            int8x16_t act = vld1q_s8(q + (uint64_t)t * stride + 64 * g);
            for (int r = 0; r < n_row; r++) {
                acc[T_TOKS * r + t] = vdotq_s32(acc[T_TOKS * r + t], code[r], act);
            }
        }
    }
}

#include "engine/cpu/ternary_tiles.inc"

/* ---- one token whose input has many zeros ---- */

#define STEP_COLUMNS 128

/* 16 bytes of four columns: sums[4*g + k] of bytes 4*k to 4*k + 3 of each, bit position 2*g. */
static V_INLINE void column_quad(const uint8_t *const *at, uint64_t byte, int8x16_t q,
                                 int32x4_t sums[16])
{
    uint8x16x2_t ab = vzipq_u8(vld1q_u8(at[0] + byte), vld1q_u8(at[1] + byte));
    uint8x16x2_t cd = vzipq_u8(vld1q_u8(at[2] + byte), vld1q_u8(at[3] + byte));
    for (int half = 0; half < 2; half++) {
        uint16x8x2_t rows =
            vzipq_u16(vreinterpretq_u16_u8(ab.val[half]), vreinterpretq_u16_u8(cd.val[half]));
        for (int i = 0; i < 2; i++) {
            uint8x16_t packed = vreinterpretq_u8_u16(rows.val[i]);
            int k = 2 * half + i;
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) {
                int32x4_t *sum = &sums[4 * (3 - g) + k];
                *sum = vdotq_s32(*sum, neon_codes(packed, g), q);
            }
        }
    }
}

static V_INLINE void column_line(const uint8_t *const *at, const int8_t *q, uint32_t n,
                                 uint64_t line, int32_t *acc)
{
    for (uint64_t part = 0; part < COLUMN_LINE / 16; part++) {
        int32x4_t sums[16];
        for (int i = 0; i < 16; i++) {
            sums[i] = vdupq_n_s32(0);
        }
        for (uint32_t c = 0; c < n; c += 4) {
            int32_t four;
            memcpy(&four, q + c, sizeof four);
            for (uint32_t j = n + c; part == 0 && j < n + c + 4; j++) {
                __builtin_prefetch(at[j] + line, 0, 2);
            }
            column_quad(at + c, line + 16 * part, vreinterpretq_s8_s32(vdupq_n_s32(four)), sums);
        }
        for (int i = 0; i < 16; i++) {
            int32_t *to = acc + 16 * i + 4 * part;
            vst1q_s32(to, vaddq_s32(vld1q_s32(to), sums[i]));
        }
    }
}

#include "engine/cpu/columns_walk.inc"

enum { SCREEN_OFFSET = 0 };
typedef int8x16x2_t screen_table; /* levels above zero, below it */

static V_INLINE screen_table screen_table_load(void)
{
    int8x16_t levels = vreinterpretq_s8_u8(vld1q_u8(screen_levels));
    return (screen_table){{levels, vnegq_s8(levels)}};
}

/* half: four bits of each code, without more above them; signs: the fifth in bit 4. */
static V_INLINE int8x16_t screen_code(screen_table table, uint8x16_t half, uint8x16_t signs)
{
    return vqtbl2q_s8(table, vorrq_u8(half, vandq_u8(signs, vdupq_n_u8(16))));
}

static V_INLINE void screen_codes_16(int8x16_t code[4], screen_table table, const uint8_t *levels,
                                     uint8x16_t signs)
{
    uint8x16_t a = vld1q_u8(levels), b = vld1q_u8(levels + 64);
    const uint8x16_t nibble = vdupq_n_u8(15);
    code[0] = screen_code(table, vandq_u8(a, nibble), vshlq_n_u8(signs, 4));
    code[1] = screen_code(table, vshrq_n_u8(a, 4), vshlq_n_u8(signs, 3));
    code[2] = screen_code(table, vandq_u8(b, nibble), vshlq_n_u8(signs, 2));
    code[3] = screen_code(table, vshrq_n_u8(b, 4), vshlq_n_u8(signs, 1));
}

static V_INLINE void screen_block(int32x4_t acc[2], screen_table table, const uint8_t *block,
                                  const int8_t *q, uint64_t stride)
{
    for (int p = 0; p < 64; p += 16) {
        uint8x16_t signs = vld1q_u8(block + 128 + p % 32);
        int8x16_t code[4];
        screen_codes_16(code, table, block + p, p < 32 ? signs : vshrq_n_u8(signs, 4));
        for (int g = 0; g < 4; g++) {
            acc[0] = vdotq_s32(acc[0], code[g], vld1q_s8(q + 64 * g + p));
            acc[1] = vdotq_s32(acc[1], code[g], vld1q_s8(q + stride + 64 * g + p));
        }
    }
}

#include "engine/cpu/screen_walk.inc"

typedef uint8x16x4_t narrow_bytes;
typedef uint8x16_t narrow_table;

static V_INLINE narrow_bytes narrow_load(const uint8_t *p)
{
    return vld1q_u8_x4(p);
}
static V_INLINE void narrow_store(uint8_t *p, narrow_bytes a)
{
    vst1q_u8_x4(p, a);
}

static V_INLINE narrow_table narrow_table_load(const uint8_t high[NARROW_HIGH])
{
    return vld1q_u8(high);
}

static V_INLINE narrow_bytes narrow_look_up(narrow_table table, narrow_bytes codes, bool upper)
{
    for (int i = 0; i < 4; i++) {
        uint8x16_t c = codes.val[i];
        codes.val[i] =
            vqtbl1q_u8(table, upper ? vshrq_n_u8(c, 4) : vandq_u8(c, vdupq_n_u8(NARROW_HIGH - 1)));
    }
    return codes;
}

/* Two weights stand in each element: the upper one is there when the lower one is cleared. */
static V_INLINE void narrow_widen(narrow_bytes high, narrow_bytes low, vf out[4])
{
    const uint32x4_t upper = vdupq_n_u32(0xffff0000u);
    for (int i = 0; i < 4; i++) {
        uint32x4_t first = vreinterpretq_u32_u8(vzip1q_u8(low.val[i], high.val[i]));
        uint32x4_t second = vreinterpretq_u32_u8(vzip2q_u8(low.val[i], high.val[i]));
        out[0].r[i] = vreinterpretq_f32_u32(vshlq_n_u32(first, 16));
        out[1].r[i] = vreinterpretq_f32_u32(vandq_u32(first, upper));
        out[2].r[i] = vreinterpretq_f32_u32(vshlq_n_u32(second, 16));
        out[3].r[i] = vreinterpretq_f32_u32(vandq_u32(second, upper));
    }
}

#include "engine/cpu/narrow_walk.inc"

const struct cpu_kernels cpu_kernels_neon = {
    .name = "neon",
    .matmul_ternary = matmul_ternary,
    .tl_tables = tl_tables_neon,
    .matmul_tl = tl_matmul_neon,
    .add_columns = add_columns,
    CPU_OWN_ENTRIES,
};

const struct cpu_kernels cpu_kernels_i8mm = {
    .name = "i8mm",
    .matmul_ternary = matmul_ternary_i8mm,
    .tl_tables = tl_tables_neon,
    .matmul_tl = tl_matmul_neon,
    .add_columns = add_columns,
    CPU_OWN_ENTRIES,
};

#endif
