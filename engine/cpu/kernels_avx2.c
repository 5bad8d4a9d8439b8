/* Kernels for AVX2 with F16C: 16 lanes are two registers. The ternary product multiplies unsigned
 * codes by signed activations into int16 pairs (vpmaddubsw) and widens in time: a pair is at most 2
 * * 3 * 128 = 768, code 3 included, so 42 of them fit. */
#include "engine/cpu/tables.h"
#include "engine/cpu/tl.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/attend.h"
#include "engine/cpu/fmath.h"
#include "engine/cpu/panel.h"

#define V_INLINE inline __attribute__((always_inline))

#include "engine/cpu/sums_avx2.inc"

typedef struct {
    __m256 lo, hi;
} vf;
typedef struct {
    __m256i lo, hi;
} vi;
typedef __m256i vt;

/* Register tiles of the float stages: 2 x 2 accumulators take 8 of 16 registers. */
#define F_ROWS 2
#define F_TOKS 2
#define KV_BLOCKS 1
#define PREFETCH_BYTES 8192
#define WALK_AHEAD_BYTES 2048

/* See lanes16.inc. */
#define V_EACH(type, op, a) ((type){op((a).lo), op((a).hi)})
#define V_EACH2(type, op, a, b) ((type){op((a).lo, (b).lo), op((a).hi, (b).hi)})
#define V_SAME(type, x) ((type){(x), (x)})
#define V_F32(name) _mm256_##name##_ps
#define V_I32(name) _mm256_##name##_epi32
#define V_SPLAT_F32 _mm256_set1_ps
#define V_SPLAT_I32 _mm256_set1_epi32
#define V_AND _mm256_and_si256
#define V_BITS _mm256_castps_si256
#define V_FLOATS _mm256_castsi256_ps
#define V_HALF(x) _mm256_srai_epi32(x, 1)
#define V_EXPONENT(x) _mm256_slli_epi32(x, 23)
#include "engine/cpu/lanes16.inc"

static V_INLINE vf v_below(vf x, vf limit, vf a, vf b)
{
    return (vf){_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(x.lo, limit.lo, _CMP_LT_OQ)),
                _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(x.hi, limit.hi, _CMP_LT_OQ))};
}

static V_INLINE vt vt_zero(void)
{
    return _mm256_setzero_si256();
}

static V_INLINE int32_t vt_hsum(vt a)
{
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

static V_INLINE int32_t vi_hsum(vi a)
{
    return vt_hsum(_mm256_add_epi32(a.lo, a.hi));
}

static V_INLINE int32_t vi_hmax(vi a)
{
    __m256i m8 = _mm256_max_epi32(a.lo, a.hi);
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}

static V_INLINE void vi_store_i8(int8_t *p, vi a)
{
    /* The 256-bit pack works within halves; 0xd8 puts the quarters in order. */
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
    __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)p, bytes);
}

/* Lane j of 8 is on when j < n. */
static V_INLINE __m256i lanes_below(size_t n)
{
    int limit = n < 8 ? (int)n : 8;
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

static V_INLINE vf v_load(const float *p)
{
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

static V_INLINE vf v_load_n(const float *p, size_t n)
{
    __m256 hi = n > 8 ? _mm256_maskload_ps(p + 8, lanes_below(n - 8)) : _mm256_setzero_ps();
    return (vf){_mm256_maskload_ps(p, lanes_below(n)), hi};
}

static V_INLINE void v_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}

static V_INLINE void v_store_n(float *p, vf a, size_t n)
{
    _mm256_maskstore_ps(p, lanes_below(n), a.lo);
    if (n > 8) {
        _mm256_maskstore_ps(p + 8, lanes_below(n - 8), a.hi);
    }
}

static V_INLINE __m128i load_halves(const uint16_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

static V_INLINE vf v_load_f16(const uint16_t *p)
{
    return (vf){_mm256_cvtph_ps(load_halves(p)), _mm256_cvtph_ps(load_halves(p + 8))};
}

static V_INLINE __m256 widen_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

static V_INLINE vf v_load_bf16(const uint16_t *p)
{
    return (vf){widen_bf16(load_halves(p)), widen_bf16(load_halves(p + 8))};
}

static V_INLINE void v_store_f16(uint16_t *p, vf a)
{
    _mm_storeu_si128((__m128i *)(void *)p,
                     _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(void *)(p + 8),
                     _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#define V_MASKED_F32
#include "engine/cpu/tails16.inc"

static V_INLINE vf v_swap_pairs(vf a)
{
    return (vf){_mm256_permute_ps(a.lo, 0xb1), _mm256_permute_ps(a.hi, 0xb1)};
}
static V_INLINE vf v_even_lanes(vf a)
{
    return V_EACH(vf, _mm256_moveldup_ps, a);
}
static V_INLINE vf v_odd_lanes(vf a)
{
    return V_EACH(vf, _mm256_movehdup_ps, a);
}

static V_INLINE float v_hsum(vf a)
{
    __m256 w8 = _mm256_add_ps(a.lo, a.hi);
    __m128 w4 = _mm_add_ps(_mm256_castps256_ps128(w8), _mm256_extractf128_ps(w8, 1));
    __m128 w2 = _mm_add_ps(w4, _mm_movehl_ps(w4, w4));
    return _mm_cvtss_f32(_mm_add_ss(w2, _mm_shuffle_ps(w2, w2, 1)));
}

/* Lanes 8 and 4 apart of a, b folded: 4 lanes of a, 4 of b. */
static V_INLINE __m256 fold84(vf a, vf b)
{
    return fold4(_mm256_add_ps(a.lo, a.hi), _mm256_add_ps(b.lo, b.hi));
}

static V_INLINE void v_sum16(const vf acc[16], float out[16])
{
    for (int i = 0; i < 4; i += 2) {
        __m256 x = fold2(fold84(acc[i], acc[i + 1]), fold84(acc[4 + i], acc[5 + i]));
        __m256 y = fold2(fold84(acc[8 + i], acc[9 + i]), fold84(acc[12 + i], acc[13 + i]));
        _mm256_storeu_ps(out + 4 * i, fold1(x, y));
    }
}

#define ATTEND_ONE_SCORES attend_one_scores_avx2
#define ATTEND_ONE_VALUES attend_one_values_avx2

static V_INLINE vf v_scales(const uint8_t *half)
{
    uint16_t bits;
    memcpy(&bits, half, sizeof bits);
    __m256 d = _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
    return (vf){d, d};
}

static V_INLINE vf v_pick(vf values, uint32_t word, int bits, int from)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                  w = _mm256_set1_epi32((int)word);
    __m256i lo = _mm256_add_epi32(_mm256_slli_epi32(lane, bits - 1), _mm256_set1_epi32(from));
    __m256i hi = _mm256_add_epi32(lo, _mm256_set1_epi32(8 * bits));
    return (vf){_mm256_permutevar_ps(values.lo, _mm256_srlv_epi32(w, lo)),
                _mm256_permutevar_ps(values.hi, _mm256_srlv_epi32(w, hi))};
}

#define DOT_GROUPS
#include "engine/cpu/group_rows.inc"
#include "engine/cpu/float_kernels.inc"

/* Register tile of the ternary product for several tokens; one token takes 4 rows. */
#define T_ROWS 2
#define T_TOKS 4
#define T_ROWS_ONE 4
#define T_ACCS 8

/* Bytes of a row before int16 sums are widened: 32 of them add 4 pairs of at most 768. */
#define WIDEN_BYTES 320u

/* One block of 128 weights per row against 128 activations per token (32 in each group of 64). */
static V_INLINE void ternary_step(int n_row, int n_tok, const uint8_t *codes, uint64_t row_bytes,
                                  const int8_t *q, uint64_t stride, __m256i acc[T_ACCS])
{
    const __m256i low = _mm256_set1_epi8(3);
    __m256i packed[T_ROWS_ONE];
    for (int r = 0; r < n_row; r++) {
        packed[r] =
            _mm256_loadu_si256((const __m256i *)(const void *)(codes + (uint64_t)r * row_bytes));
    }
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        __m256i code[T_ROWS_ONE];
        for (int r = 0; r < n_row; r++) {
            code[r] = _mm256_and_si256(_mm256_srli_epi16(packed[r], 6 - 2 * g), low);
        }
        for (int t = 0; t < n_tok; t++) {
            __m256i act = _mm256_load_si256(
                (const __m256i *)(const void *)(q + (uint64_t)t * stride + 64 * g));
            for (int r = 0; r < n_row; r++) {
                __m256i sum =
                    _mm256_add_epi16(acc[n_tok * r + t], _mm256_maddubs_epi16(code[r], act));
                /* Opaque, so that sums are not rearranged into a tree that does not fit the
                 * registers. */
                __asm__("" : "+x"(sum));
                acc[n_tok * r + t] = sum;
            }
        }
    }
}

static V_INLINE void ternary_tile(int n_row, int n_tok, const struct ternary_weights *w,
                                  uint64_t row, const struct act_rows *a, size_t t0, float *y,
                                  size_t y_stride)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint8_t *codes = w->codes + row * w->row_bytes;
    const int8_t *q = a->q + t0 * a->stride;
    __m256i wide[T_ACCS];
    for (int i = 0; i < n_row * n_tok; i++) {
        wide[i] = _mm256_setzero_si256();
    }
    uint64_t row_bytes = w->row_bytes;
    for (uint64_t b = 0; b < row_bytes;) {
        uint64_t end = row_bytes - b > WIDEN_BYTES ? b + WIDEN_BYTES : row_bytes;
        __m256i acc[T_ACCS];
        for (int i = 0; i < n_row * n_tok; i++) {
            acc[i] = _mm256_setzero_si256();
        }
        for (; b + 64 <= end; b += 64) {
            for (int i = 0; t0 == 0 && n_row > 1 && i < n_row; i++) {
                /* As in the float product: line by line beyond the tile, which is one stretch of
                 * memory. */
                uint64_t at = (uint64_t)n_row * (row_bytes + b) + 64 * (uint64_t)i + PREFETCH_BYTES;
                __builtin_prefetch(codes + at, 0, 2);
            }
            ternary_step(n_row, n_tok, codes + b, row_bytes, q + 4 * b, a->stride, acc);
            ternary_step(n_row, n_tok, codes + b + 32, row_bytes, q + 4 * b + 32, a->stride, acc);
        }
        if (b < end) {
            ternary_step(n_row, n_tok, codes + b, row_bytes, q + 4 * b, a->stride, acc);
            b = end;
        }
        for (int i = 0; i < n_row * n_tok; i++) {
            wide[i] = _mm256_add_epi32(wide[i], _mm256_madd_epi16(acc[i], ones));
        }
    }
    for (int t = 0; t < n_tok; t++) {
        float scale = w->scale * a->scale[t0 + (size_t)t];
        int32_t minus = a->sum[t0 + (size_t)t];
        for (int r = 0; r < n_row; r++) {
            y[(size_t)t * y_stride + (size_t)r] =
                (float)(vt_hsum(wide[n_tok * r + t]) - minus) * scale;
        }
    }
}

static void ternary_tokens(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                           const struct act_rows *a, size_t t, float *y, size_t y_stride)
{
    uint64_t r = row0;
    for (; r + T_ROWS <= row1; r += T_ROWS) {
        ternary_tile(T_ROWS, T_TOKS, w, r, a, t, y + t * y_stride + r, y_stride);
    }
    if (r < row1) {
        ternary_tile(1, T_TOKS, w, r, a, t, y + t * y_stride + r, y_stride);
    }
}

static void ternary_token(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                          const struct act_rows *a, size_t t, float *y, size_t y_stride)
{
    uint64_t r = row0;
    for (; r + T_ROWS_ONE <= row1; r += T_ROWS_ONE) {
        ternary_tile(T_ROWS_ONE, 1, w, r, a, t, y + t * y_stride + r, y_stride);
    }
    for (; r < row1; r++) {
        ternary_tile(1, 1, w, r, a, t, y + t * y_stride + r, y_stride);
    }
}

/* Bytes of codes that stay in the second-level cache while all tokens pass over them. */
#define CODE_BLOCK_BYTES (128u * 1024)

/* Tokens from t0 on. */
static void matmul_tiles(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                         const struct act_rows *a, size_t t0, size_t n_tok, float *y,
                         size_t y_stride)
{
    uint64_t block_rows = (CODE_BLOCK_BYTES / (w->row_bytes + 1) / T_ROWS_ONE + 1) * T_ROWS_ONE;
    for (uint64_t r = row0; t0 < n_tok && r < row1; r += block_rows) {
        uint64_t end = row1 - r > block_rows ? r + block_rows : row1;
        size_t t = t0;
        for (; t + T_TOKS <= n_tok; t += T_TOKS) {
            ternary_tokens(w, r, end, a, t, y, y_stride);
        }
        for (; t < n_tok; t++) {
            ternary_token(w, r, end, a, t, y, y_stride);
        }
    }
}

static void matmul_ternary(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                           const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    if (n_tok >= CPU_MANY_TOKENS && row1 - row0 >= LUT_MIN_ROWS) {
        /* A strip that is half empty takes as long as a full one. */
        size_t rest = n_tok % LUT_TOKS <= LUT_TOKS / 2 ? n_tok % LUT_TOKS : 0;
        uint64_t row = lut_ternary_avx2(w, row0, row1, a, n_tok - rest, y, y_stride);
        matmul_tiles(w, row0, row, a, n_tok - rest, n_tok, y, y_stride);
        row0 = row;
    }
    if (n_tok >= (w->cols <= PANEL_MAX_COLS ? PANEL_MIN_TOKS : PANEL_MANY_TOKS_AVX2)) {
        row0 = panel_ternary_avx2(w, row0, row1, a, n_tok, y, y_stride);
    }
    matmul_tiles(w, row0, row1, a, 0, n_tok, y, y_stride);
}

/* ---- one token ---- */

/* One row of every stretch of a walk; codes: the first of them. */
static V_INLINE void walk_ternary(const uint8_t *codes, uint64_t apart, uint64_t row_bytes,
                                  const int8_t *q, int32_t sums[WALK_STREAMS])
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i wide[WALK_STREAMS];
    for (int i = 0; i < WALK_STREAMS; i++) {
        wide[i] = _mm256_setzero_si256();
    }
    for (uint64_t b = 0; b < row_bytes;) {
        uint64_t end = row_bytes - b > WIDEN_BYTES ? b + WIDEN_BYTES : row_bytes;
        __m256i acc[T_ACCS];
        for (int i = 0; i < WALK_STREAMS; i++) {
            acc[i] = _mm256_setzero_si256();
        }
        for (; b < end; b += 32) {
            for (int i = 0; b % 64 == 0 && i < WALK_STREAMS; i++) {
                __builtin_prefetch(codes + (uint64_t)i * apart + b + WALK_AHEAD_BYTES, 0, 2);
            }
            ternary_step(WALK_STREAMS, 1, codes + b, apart, q + 256 * (b / 64) + b % 64, 0, acc);
        }
        for (int i = 0; i < WALK_STREAMS; i++) {
            wide[i] = _mm256_add_epi32(wide[i], _mm256_madd_epi16(acc[i], ones));
        }
    }
    for (int i = 0; i < WALK_STREAMS; i++) {
        sums[i] = vt_hsum(wide[i]);
    }
}

#include "engine/cpu/ternary_walk.inc"

static V_INLINE __m256i screen_load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

enum { SCREEN_OFFSET = 0 };
typedef __m256i screen_table;

static V_INLINE screen_table screen_table_load(void)
{
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)(const void *)screen_levels));
}

/* Products of one group of 32 codes with both rows of activations. */
static V_INLINE void screen_group(__m256i acc[2], __m256i level, __m256i sign, const int8_t *q,
                                  uint64_t stride)
{
    const __m256i ones = _mm256_set1_epi16(1);
    for (int r = 0; r < 2; r++) {
        __m256i act = _mm256_load_si256((const __m256i *)(const void *)(q + (uint64_t)r * stride));
        __m256i pairs = _mm256_maddubs_epi16(level, _mm256_sign_epi8(act, sign));
        acc[r] = _mm256_add_epi32(acc[r], _mm256_madd_epi16(pairs, ones));
        /* Opaque, so that sums are not rearranged into a tree that does not fit the registers. */
        __asm__("" : "+x"(acc[r]));
    }
}

static V_INLINE void screen_block(__m256i acc[2], screen_table table, const uint8_t *block,
                                  const int8_t *q, uint64_t stride)
{
    const __m256i nibble = _mm256_set1_epi8(15), one = _mm256_set1_epi8(1);
    const __m256i signs = screen_load(block + 128);
    /* Bit 7 of each byte, whose others are not all 0, is that of group i % 4 of half i / 4. */
    __m256i sign = _mm256_or_si256(signs, one);
    __m256i sum[2] = {acc[0], acc[1]};
    for (int i = 7; i >= 0; i--) {
        const int half = i / 4 * 32, g = i % 4;
        __m256i level = screen_load(block + 64 * (g / 2) + half);
        level = g % 2 ? _mm256_srli_epi16(level, 4) : level;
        level = _mm256_shuffle_epi8(table, _mm256_and_si256(level, nibble));
        screen_group(sum, level, sign, q + 64 * g + half, stride);
        sign =
            i > 1 ? _mm256_add_epi8(sign, sign) : _mm256_or_si256(_mm256_slli_epi16(signs, 7), one);
    }
    acc[0] = sum[0];
    acc[1] = sum[1];
}

#include "engine/cpu/screen_walk.inc"

typedef vi narrow_bytes;
typedef __m256i narrow_table;

static V_INLINE narrow_bytes narrow_load(const uint8_t *p)
{
    return (vi){_mm256_loadu_si256((const __m256i *)(const void *)p),
                _mm256_loadu_si256((const __m256i *)(const void *)(p + 32))};
}

static V_INLINE void narrow_store(uint8_t *p, narrow_bytes a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, a.lo);
    _mm256_storeu_si256((__m256i *)(void *)(p + 32), a.hi);
}

static V_INLINE narrow_table narrow_table_load(const uint8_t high[NARROW_HIGH])
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)high));
}

static V_INLINE narrow_bytes narrow_look_up(narrow_table table, narrow_bytes codes, bool upper)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i lo = upper ? _mm256_srli_epi16(codes.lo, 4) : codes.lo;
    __m256i hi = upper ? _mm256_srli_epi16(codes.hi, 4) : codes.hi;
    return (vi){_mm256_shuffle_epi8(table, _mm256_and_si256(lo, nibble)),
                _mm256_shuffle_epi8(table, _mm256_and_si256(hi, nibble))};
}

/* Two weights stand in each element: the upper one is there when the lower one is cleared. */
static V_INLINE void narrow_widen(narrow_bytes high, narrow_bytes low, vf out[4])
{
    const vi upper = vi_set1((int32_t)0xffff0000u);
    const vi pair[2] = {V_EACH2(vi, _mm256_unpacklo_epi8, low, high),
                        V_EACH2(vi, _mm256_unpackhi_epi8, low, high)};
    for (int i = 0; i < 2; i++) {
        vi lower = {_mm256_slli_epi32(pair[i].lo, 16), _mm256_slli_epi32(pair[i].hi, 16)};
        out[2 * i] = v_from_bits(lower);
        out[2 * i + 1] = v_from_bits(vi_and(pair[i], upper));
    }
}

#include "engine/cpu/narrow_walk.inc"

const struct cpu_kernels cpu_kernels_avx2 = {
    .name = "avx2",
    .matmul_ternary = matmul_ternary,
    .tl_tables = tl_tables_avx2,
    .matmul_tl = tl_matmul_avx2,
    .add_columns = add_columns_avx2,
    CPU_OWN_ENTRIES,
    .piece_rows = 1024,
    .scratch_bytes = PRODUCT_SCRATCH_AVX2,
};

#endif
