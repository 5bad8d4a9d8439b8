/* Kernels for AVX-512 with VNNI. The ternary product multiplies unsigned 2-bit codes by signed
 * activations (vpdpbusd, exact in int32) and takes the sum of the activations away: sum (code-1)*q
 * = sum code*q - sum q. */
#include "engine/cpu/attend.h"
#include "engine/cpu/panel.h"
#include "engine/cpu/tables.h"
#include "engine/cpu/tl.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"

#define V_INLINE inline __attribute__((always_inline))

typedef __m512 vf;
typedef __m512i vi;

/* Register tiles of the float stages: 4 x 4 accumulators of 32 registers. */
#define F_ROWS 4
#define F_TOKS 4
#define KV_BLOCKS 4
#define ATTEND_SCORES attend_scores_avx512
#define ATTEND_VALUES attend_values_avx512
#define ATTEND_ONE_SCORES attend_one_scores_avx512
#define ATTEND_ONE_VALUES attend_one_values_avx512
#define PREFETCH_BYTES 8192
#define WALK_AHEAD_BYTES 3072

/* See lanes16.inc. */
#define V_EACH(type, op, a) op(a)
#define V_EACH2(type, op, a, b) op(a, b)
#define V_SAME(type, x) (x)
#define V_F32(name) _mm512_##name##_ps
#define V_I32(name) _mm512_##name##_epi32
#define V_SPLAT_F32 _mm512_set1_ps
#define V_SPLAT_I32 _mm512_set1_epi32
#define V_AND _mm512_and_si512
#define V_BITS _mm512_castps_si512
#define V_FLOATS _mm512_castsi512_ps
#define V_HALF(x) _mm512_srai_epi32(x, 1)
#define V_EXPONENT(x) _mm512_slli_epi32(x, 23)
#include "engine/cpu/lanes16.inc"

static V_INLINE __mmask16 first_lanes(size_t n)
{
    return (__mmask16)((1u << n) - 1);
}

static V_INLINE vf v_below(vf x, vf limit, vf a, vf b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, limit, _CMP_LT_OQ), b, a);
}

static V_INLINE int32_t vi_hmax(vi a)
{
    return _mm512_reduce_max_epi32(a);
}
static V_INLINE int32_t vi_hsum(vi a)
{
    return _mm512_reduce_add_epi32(a);
}

static V_INLINE void vi_store_i8(int8_t *p, vi a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(a));
}

static V_INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static V_INLINE void v_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}

static V_INLINE vf v_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

static V_INLINE void v_store_n(float *p, vf a, size_t n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), a);
}

static V_INLINE vf v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static V_INLINE vf v_load_f16_n(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}

static V_INLINE vf widen_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

static V_INLINE vf v_load_bf16(const uint16_t *p)
{
    return widen_bf16(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static V_INLINE vf v_load_bf16_n(const uint16_t *p, size_t n)
{
    return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}

static V_INLINE __m256i narrow_f16(vf a)
{
    return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static V_INLINE void v_store_f16(uint16_t *p, vf a)
{
    _mm256_storeu_si256((__m256i *)(void *)p, narrow_f16(a));
}

static V_INLINE void v_store_f16_n(uint16_t *p, vf a, size_t n)
{
    _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_f16(a));
}

static V_INLINE vf v_swap_pairs(vf a)
{
    return _mm512_permute_ps(a, 0xb1);
}
static V_INLINE vf v_even_lanes(vf a)
{
    return _mm512_moveldup_ps(a);
}
static V_INLINE vf v_odd_lanes(vf a)
{
    return _mm512_movehdup_ps(a);
}

static V_INLINE float v_hsum(vf a)
{
    __m256 w8 = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 w4 = _mm_add_ps(_mm256_castps256_ps128(w8), _mm256_extractf128_ps(w8, 1));
    __m128 w2 = _mm_add_ps(w4, _mm_movehl_ps(w4, w4));
    return _mm_cvtss_f32(_mm_add_ss(w2, _mm_shuffle_ps(w2, w2, 1)));
}

#include "engine/cpu/sums_avx512.inc"

static V_INLINE void v_sum16(const vf acc[16], float out[16])
{
    sum16_avx512(acc, out);
}

static V_INLINE vf v_scales(const uint8_t *half)
{
    uint16_t bits;
    memcpy(&bits, half, sizeof bits);
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)bits));
}

static V_INLINE vf v_pick(vf values, uint32_t word, int bits, int from)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i at =
        _mm512_add_epi32(_mm512_slli_epi32(lane, (unsigned)bits - 1), _mm512_set1_epi32(from));
    return _mm512_permutevar_ps(values, _mm512_srlv_epi32(_mm512_set1_epi32((int)word), at));
}

#define DOT_GROUPS
#include "engine/cpu/group_rows.inc"
#include "engine/cpu/float_kernels.inc"

/* Register tile of the ternary product. */
#define T_ROWS 4
#define T_TOKS 4

/* Integer additions commute, so the float shuffles serve: out[4*i + j] = sum of acc[4*j + i]. */
static V_INLINE vi vi_sum16(const vi acc[16])
{
    vi quad[4];
    for (int j = 0; j < 4; j++) {
        vi a = acc[4 * j], b = acc[4 * j + 1], c = acc[4 * j + 2], d = acc[4 * j + 3];
        vi ab = vi_add(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xee));
        vi cd = vi_add(_mm512_shuffle_i32x4(c, d, 0x44), _mm512_shuffle_i32x4(c, d, 0xee));
        quad[j] = vi_add(_mm512_shuffle_i32x4(ab, cd, 0x88), _mm512_shuffle_i32x4(ab, cd, 0xdd));
    }
    vi lo =
        vi_add(_mm512_unpacklo_epi64(quad[0], quad[1]), _mm512_unpackhi_epi64(quad[0], quad[1]));
    vi hi =
        vi_add(_mm512_unpacklo_epi64(quad[2], quad[3]), _mm512_unpackhi_epi64(quad[2], quad[3]));
    vf even = _mm512_shuffle_ps(v_from_bits(lo), v_from_bits(hi), 0x88);
    vf odd = _mm512_shuffle_ps(v_from_bits(lo), v_from_bits(hi), 0xdd);
    return vi_add(v_bits(even), v_bits(odd));
}

/* 64 bytes of codes per row (two blocks of 128 weights) against 256 activations per token. */
static V_INLINE void ternary_step(int n_row, int n_tok, vi packed[T_ROWS], const int8_t *q,
                                  uint64_t stride, vi acc[T_ROWS * T_TOKS])
{
    const vi low = _mm512_set1_epi8(3);
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        vi code[T_ROWS];
        for (int r = 0; r < n_row; r++) {
            code[r] = vi_and(_mm512_srli_epi16(packed[r], (unsigned)(6 - 2 * g)), low);
        }
        for (int t = 0; t < n_tok; t++) {
            vi act = _mm512_load_si512(q + (uint64_t)t * stride + 64 * g);
            for (int r = 0; r < n_row; r++) {
                acc[T_TOKS * r + t] = _mm512_dpbusd_epi32(acc[T_TOKS * r + t], code[r], act);
            }
        }
    }
}

/* sums[4*t + r] of 4 tokens from t0 on and 4 rows, finished and stored. */
static V_INLINE void store_tile(vi sums, float w_scale, const struct act_rows *a, size_t t0,
                                float *y, size_t y_stride)
{
    const vi token = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    __m128i minus = _mm_loadu_si128((const __m128i *)(const void *)(a->sum + t0));
    __m128 scale = _mm_mul_ps(_mm_set1_ps(w_scale), _mm_loadu_ps(a->scale + t0));
    vi exact = vi_sub(sums, _mm512_permutexvar_epi32(token, _mm512_castsi128_si512(minus)));
    vf scales = _mm512_permutexvar_ps(token, _mm512_castps128_ps512(scale));
    vf result = v_mul(_mm512_cvtepi32_ps(exact), scales);
    _mm_storeu_ps(y, _mm512_castps512_ps128(result));
    _mm_storeu_ps(y + y_stride, _mm512_extractf32x4_ps(result, 1));
    _mm_storeu_ps(y + 2 * y_stride, _mm512_extractf32x4_ps(result, 2));
    _mm_storeu_ps(y + 3 * y_stride, _mm512_extractf32x4_ps(result, 3));
}

/* n_row rows from `codes` on, n_tok tokens from token t0 on; y points at the tile's first result.
 */
static V_INLINE void ternary_tile(int n_row, int n_tok, const struct ternary_weights *w,
                                  uint64_t row, const struct act_rows *a, size_t t0, float *y,
                                  size_t y_stride)
{
    vi acc[T_ROWS * T_TOKS], packed[T_ROWS];
    for (int r = 0; r < n_row; r++) {
        for (int t = 0; t < n_tok; t++) {
            acc[T_TOKS * r + t] = vi_zero();
        }
    }
    const uint8_t *codes = w->codes + row * w->row_bytes;
    const int8_t *q = a->q + t0 * a->stride;
    uint64_t b = 0, row_bytes = w->row_bytes;
    for (; b + 64 <= row_bytes; b += 64) {
        for (int r = 0; r < n_row; r++) {
            if (n_row > 1 && t0 == 0) {
                /* As in the float product: line by line beyond the tile, which is one stretch of
                 * memory. */
                __builtin_prefetch(codes + (uint64_t)n_row * (row_bytes + b) + 64 * (uint64_t)r +
                                       PREFETCH_BYTES,
                                   0, 2);
            }
            packed[r] = _mm512_loadu_si512(codes + (uint64_t)r * row_bytes + b);
        }
        ternary_step(n_row, n_tok, packed, q + 4 * b, a->stride, acc);
    }
    if (b < row_bytes) {
        /* An odd block: the codes may end with the mapping, so only 32 bytes are read. Activations
         * there are 0. */
        for (int r = 0; r < n_row; r++) {
            const void *half = codes + (uint64_t)r * row_bytes + b;
            packed[r] = _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)half));
        }
        ternary_step(n_row, n_tok, packed, q + 4 * b, a->stride, acc);
    }
    if (n_row == T_ROWS && n_tok == T_TOKS) {
        store_tile(vi_sum16(acc), w->scale, a, t0, y, y_stride);
        return;
    }
    for (int t = 0; t < n_tok; t++) {
        float scale = w->scale * a->scale[t0 + (size_t)t];
        int32_t minus = a->sum[t0 + (size_t)t];
        for (int r = 0; r < n_row; r++) {
            y[(size_t)t * y_stride + (size_t)r] =
                (float)(vi_hsum(acc[T_TOKS * r + t]) - minus) * scale;
        }
    }
}

/* Bytes of codes that stay in the second-level cache while all tokens pass over them. */
#define CODE_BLOCK_BYTES (256u * 1024)

static void ternary_block(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                          const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    size_t t = 0;
    for (; t + T_TOKS <= n_tok; t += T_TOKS) {
        uint64_t r = row0;
        for (; r + T_ROWS <= row1; r += T_ROWS) {
            ternary_tile(T_ROWS, T_TOKS, w, r, a, t, y + t * y_stride + r, y_stride);
        }
        for (; r < row1; r++) {
            ternary_tile(1, T_TOKS, w, r, a, t, y + t * y_stride + r, y_stride);
        }
    }
    for (; t < n_tok; t++) {
        uint64_t r = row0;
        for (; r + T_ROWS <= row1; r += T_ROWS) {
            ternary_tile(T_ROWS, 1, w, r, a, t, y + t * y_stride + r, y_stride);
        }
        for (; r < row1; r++) {
            ternary_tile(1, 1, w, r, a, t, y + t * y_stride + r, y_stride);
        }
    }
}

static void matmul_ternary(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                           const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    if (n_tok >= PANEL_MIN_TOKS && w->cols <= PANEL_MAX_COLS) {
        row0 = panel_ternary_avx512(w, row0, row1, a, n_tok, y, y_stride);
    }
    uint64_t block_rows = CODE_BLOCK_BYTES / (w->row_bytes + 1) / T_ROWS * T_ROWS + T_ROWS;
    for (uint64_t r = row0; r < row1; r += block_rows) {
        uint64_t end = row1 - r > block_rows ? r + block_rows : row1;
        ternary_block(w, r, end, a, n_tok, y, y_stride);
    }
}

/* ---- one token ---- */

/* Two accumulators per row: `quad` gathers four times the products of the codes that lie two bits
 * up in their half byte, so that one shift serves four codes. */
struct walk_sums {
    vi quad[WALK_STREAMS], one[WALK_STREAMS];
};

static V_INLINE void walk_step(struct walk_sums *s, int i, vi packed, const int8_t *q)
{
    const vi high = _mm512_set1_epi8(12), low = _mm512_set1_epi8(3);
    vi upper = _mm512_srli_epi16(packed, 4);
    s->quad[i] = _mm512_dpbusd_epi32(s->quad[i], vi_and(upper, high), _mm512_load_si512(q));
    s->one[i] = _mm512_dpbusd_epi32(s->one[i], vi_and(upper, low), _mm512_load_si512(q + 64));
    s->quad[i] = _mm512_dpbusd_epi32(s->quad[i], vi_and(packed, high), _mm512_load_si512(q + 128));
    s->one[i] = _mm512_dpbusd_epi32(s->one[i], vi_and(packed, low), _mm512_load_si512(q + 192));
}

#include "engine/cpu/walk_totals_avx512.inc"

static V_INLINE void rows_of_walk(const struct walk_sums *s, vi row[WALK_STREAMS])
{
    for (int i = 0; i < WALK_STREAMS; i++) {
        row[i] = vi_add(_mm512_srai_epi32(s->quad[i], 2), s->one[i]);
    }
}

/* One row of every stretch; codes: the first of them. */
static V_INLINE __m128i walk_ternary(const uint8_t *codes, uint64_t apart, uint64_t row_bytes,
                                     const int8_t *q)
{
    struct walk_sums s;
    for (int i = 0; i < WALK_STREAMS; i++) {
        s.quad[i] = s.one[i] = vi_zero();
    }
    uint64_t b = 0;
    for (; b + 64 <= row_bytes; b += 64) {
        for (int i = 0; i < WALK_STREAMS; i++) {
            const uint8_t *at = codes + (uint64_t)i * apart + b;
            __builtin_prefetch(at + WALK_AHEAD_BYTES, 0, 2);
            walk_step(&s, i, _mm512_loadu_si512(at), q + 4 * b);
        }
    }
    if (b < row_bytes) {
        /* An odd block, as in ternary_tile. */
        for (int i = 0; i < WALK_STREAMS; i++) {
            const void *half = codes + (uint64_t)i * apart + b;
            vi packed = _mm512_zextsi256_si512(_mm256_loadu_si256((const __m256i *)half));
            walk_step(&s, i, packed, q + 4 * b);
        }
    }
    vi row[WALK_STREAMS];
    rows_of_walk(&s, row);
    return walk_totals(row);
}

/* Rows of one block, half a vector: two of every stretch at a time, so that what finishes a row is
 * paid once for two. q: the block's activations, once for each half. sums: of the first row of
 * every stretch, and of the second. */
static V_INLINE void walk_pair(const uint8_t *codes, uint64_t apart, const int8_t *q,
                               __m128i sums[2])
{
    struct walk_sums s;
    for (int i = 0; i < WALK_STREAMS; i++) {
        const uint8_t *at = codes + (uint64_t)i * apart;
        s.quad[i] = s.one[i] = vi_zero();
        __builtin_prefetch(at + WALK_AHEAD_BYTES, 0, 2);
        walk_step(&s, i, _mm512_loadu_si512(at), q);
    }
    vi row[WALK_STREAMS];
    rows_of_walk(&s, row);
    const vi all = walk_lanes(row);
    const __m256i first = _mm512_castsi512_si256(all), second = _mm512_extracti64x4_epi64(all, 1);
    sums[0] = _mm_add_epi32(_mm256_castsi256_si128(first), _mm256_extracti128_si256(first, 1));
    sums[1] = _mm_add_epi32(_mm256_castsi256_si128(second), _mm256_extracti128_si256(second, 1));
}

static V_INLINE void store_row(float *y, uint64_t spread, __m128i sums, __m128i minus, __m128 scale)
{
    float out[WALK_STREAMS];
    _mm_storeu_ps(out, _mm_mul_ps(_mm_cvtepi32_ps(_mm_sub_epi32(sums, minus)), scale));
    for (uint64_t i = 0; i < WALK_STREAMS; i++) {
        y[i * spread] = out[i];
    }
}

/* All rows of the walk but an odd last one; returns that, or the end. */
static uint64_t dot_pairs(const struct ternary_weights *w, const struct row_walk *walk,
                          const struct act_rows *a, float *y)
{
    const __m128 scale = _mm_set1_ps(w->scale * a->scale[0]);
    const __m128i minus = _mm_set1_epi32(a->sum[0]);
    _Alignas(64) int8_t twice[256];
    for (int g = 0; g < 4; g++) {
        const void *half = a->q + 64 * g;
        _mm512_store_si512(twice + 64 * g,
                           _mm512_broadcast_i64x4(_mm256_load_si256((const __m256i *)half)));
    }
    uint64_t r = walk->begin;
    for (; r + 2 <= walk->end; r += 2) {
        __m128i sums[2];
        walk_pair(w->codes + r * w->row_bytes, walk->spread * w->row_bytes, twice, sums);
        store_row(y + r, walk->spread, sums[0], minus, scale);
        store_row(y + r + 1, walk->spread, sums[1], minus, scale);
    }
    return r;
}

static void dot_ternary(const struct ternary_weights *w, const struct row_walk *walk,
                        const struct act_rows *a, float *y)
{
    const __m128 scale = _mm_set1_ps(w->scale * a->scale[0]);
    const __m128i minus = _mm_set1_epi32(a->sum[0]);
    uint64_t r = w->row_bytes == 32 ? dot_pairs(w, walk, a, y) : walk->begin;
    for (; r < walk->end; r++) {
        __m128i sums = walk_ternary(w->codes + r * w->row_bytes, walk->spread * w->row_bytes,
                                    w->row_bytes, a->q);
        store_row(y + r, walk->spread, sums, minus, scale);
    }
}

/* ---- one token whose input has many zeros ---- */

/* Sums of 256 rows: sums[4*g + k] holds 4^g times those of rows 16*(4*g + k) on. */
static V_INLINE void column_quad(const vi column[4], vi q, vi sums[16])
{
    vi ab[2] = {_mm512_unpacklo_epi8(column[0], column[1]),
                _mm512_unpackhi_epi8(column[0], column[1])};
    vi cd[2] = {_mm512_unpacklo_epi8(column[2], column[3]),
                _mm512_unpackhi_epi8(column[2], column[3])};
    for (int k = 0; k < 4; k++) {
        vi rows = k % 2 == 0 ? _mm512_unpacklo_epi16(ab[k / 2], cd[k / 2])
                             : _mm512_unpackhi_epi16(ab[k / 2], cd[k / 2]);
        for (int g = 0; g < 4; g++) {
            vi code = vi_and(rows, _mm512_set1_epi8((char)(3 << 2 * g)));
            sums[4 * g + k] = _mm512_dpbusd_epi32(sums[4 * g + k], code, q);
        }
    }
}

#define STEP_COLUMNS 128

static V_INLINE uint64_t column_mask(const int8_t *q)
{
    vi values = _mm512_load_si512(q);
    return _mm512_test_epi8_mask(values, values);
}

static V_INLINE void column_line(const uint8_t *const *at, const int8_t *q, uint32_t n,
                                 uint64_t line, int32_t *acc)
{
    vi sums[16];
    for (int i = 0; i < 16; i++) {
        sums[i] = vi_zero();
    }
    for (uint32_t c = 0; c < n; c += 4) {
        vi column[4];
        int32_t four;
        memcpy(&four, q + c, sizeof four);
        for (uint32_t j = 0; j < 4; j++) {
            column[j] = _mm512_load_si512(at[c + j] + line);
            __builtin_prefetch(at[n + c + j] + line, 0, 2);
        }
        column_quad(column, vi_set1(four), sums);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
        int32_t *to = acc + 16 * i;
        vi sum = _mm512_srai_epi32(sums[i], (unsigned)(i / 4 * 2));
        _mm512_storeu_si512(to, vi_add(_mm512_loadu_si512(to), sum));
    }
}

#include "engine/cpu/columns_walk.inc"

/* Levels are looked up with 128 added, as codes without a sign. */
enum { SCREEN_OFFSET = 128 };
typedef vi screen_table;

static V_INLINE screen_table screen_table_load(void)
{
    __m128i levels = _mm_loadu_si128((const __m128i *)(const void *)screen_levels);
    return _mm512_add_epi8(_mm512_broadcast_i32x4(levels), _mm512_set1_epi8((char)SCREEN_OFFSET));
}

/* half: four bits of each code, and what may stand above them. sign: the bit in `signs` that the
 * lower 32 codes have theirs in; that of the others is four bits up. */
static V_INLINE vi screen_code(screen_table table, vi half, vi signs, int sign)
{
    const vi nibble = _mm512_set1_epi8(15);
    vi bit =
        _mm512_inserti64x4(_mm512_set1_epi8((char)sign), _mm256_set1_epi8((char)(sign << 4)), 1);
    vi code = _mm512_shuffle_epi8(table, vi_and(half, nibble));
    return _mm512_mask_sub_epi8(code, _mm512_test_epi8_mask(signs, bit), vi_zero(), code);
}

static V_INLINE void screen_block(vi acc[2], screen_table table, const uint8_t *block,
                                  const int8_t *q, uint64_t stride)
{
    vi a = _mm512_loadu_si512(block), b = _mm512_loadu_si512(block + 64);
    vi signs =
        _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)(block + 128)));
    vi code[4] = {
        screen_code(table, a, signs, 1), screen_code(table, _mm512_srli_epi16(a, 4), signs, 2),
        screen_code(table, b, signs, 4), screen_code(table, _mm512_srli_epi16(b, 4), signs, 8)};
    for (int g = 0; g < 4; g++) {
        acc[0] = _mm512_dpbusd_epi32(acc[0], code[g], _mm512_load_si512(q + 64 * g));
        acc[1] = _mm512_dpbusd_epi32(acc[1], code[g], _mm512_load_si512(q + stride + 64 * g));
    }
}

typedef vi vt;

static V_INLINE vt vt_zero(void)
{
    return vi_zero();
}
static V_INLINE int32_t vt_hsum(vt a)
{
    return vi_hsum(a);
}

#include "engine/cpu/screen_walk.inc"

typedef vi narrow_bytes;
typedef vi narrow_table;

static V_INLINE narrow_bytes narrow_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
static V_INLINE void narrow_store(uint8_t *p, narrow_bytes a)
{
    _mm512_storeu_si512(p, a);
}

static V_INLINE narrow_table narrow_table_load(const uint8_t high[NARROW_HIGH])
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)high));
}

static V_INLINE narrow_bytes narrow_look_up(narrow_table table, narrow_bytes codes, bool upper)
{
    vi half = upper ? _mm512_srli_epi16(codes, 4) : codes;
    return _mm512_shuffle_epi8(table, vi_and(half, _mm512_set1_epi8(15)));
}

/* Two weights stand in each element: the upper one is there when the lower one is cleared. */
static V_INLINE void narrow_widen(narrow_bytes high, narrow_bytes low, vf out[4])
{
    const vi upper = vi_set1((int32_t)0xffff0000u);
    vi first = _mm512_unpacklo_epi8(low, high), second = _mm512_unpackhi_epi8(low, high);
    out[0] = v_from_bits(_mm512_slli_epi32(first, 16));
    out[1] = v_from_bits(vi_and(first, upper));
    out[2] = v_from_bits(_mm512_slli_epi32(second, 16));
    out[3] = v_from_bits(vi_and(second, upper));
}

#include "engine/cpu/narrow_walk.inc"

const struct cpu_kernels cpu_kernels_avx512 = {
    .name = "avx512",
    .matmul_ternary = matmul_ternary,
    .tl_tables = tl_tables_avx512,
    .matmul_tl = tl_matmul_avx512,
    .dot_fives = dot_fives_vbmi,
    .add_columns = add_columns,
    CPU_OWN_ENTRIES,
};

#endif
