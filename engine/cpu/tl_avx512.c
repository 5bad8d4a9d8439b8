/* Products by table look-up with AVX-512: vpshufb looks 64 codes up at a time; signs become masks
 * by testing one bit of every word. */
#include "engine/cpu/tl.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define V_INLINE static inline __attribute__((always_inline))

V_INLINE __m512i load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

V_INLINE __m512i load_half_twice(const uint8_t *p)
{
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

V_INLINE __m512i load_lane_4_times(const uint8_t *p)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)p));
}

V_INLINE __m512i nibbles(__m512i bytes, bool high)
{
    const __m512i low = _mm512_set1_epi8(15);
    return _mm512_and_si512(high ? _mm512_srli_epi16(bytes, 4) : bytes, low);
}

/* acc[16] += what lanes hold. */
V_INLINE void add_16(int32_t *acc, __m512i sums)
{
    _mm512_storeu_si512(acc, _mm512_add_epi32(_mm512_loadu_si512(acc), sums));
}

/* acc[16] += both halves of 32 int16. */
V_INLINE void widen_fold(int32_t *acc, __m512i sums)
{
    add_16(acc, _mm512_add_epi32(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(sums)),
                                 _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sums, 1))));
}

/* Add what the codes mean: sum[0] gets the first 8 bytes of each lane, sum[1] the others. */
V_INLINE void look_up(__m512i codes, __m512i lo, __m512i hi, __m512i sum[2])
{
    __m512i low = _mm512_shuffle_epi8(lo, codes), high = _mm512_shuffle_epi8(hi, codes);
    sum[0] = _mm512_add_epi16(sum[0], _mm512_unpacklo_epi8(low, high));
    sum[1] = _mm512_add_epi16(sum[1], _mm512_unpackhi_epi8(low, high));
}

/* Rows of a strip from its lanes. Narrow: lanes are (rows 0..15, quads 0 and 1), (rows 16..31, the
 * same quads): neighbours are added. Wide: 16 rows a lane. */
V_INLINE void strip_rows(bool wide, const __m512i sum[2], int32_t *acc)
{
    for (int half = 0; half < 2; half++) {
        __m512i first = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum[half]));
        __m512i second = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum[half], 1));
        const __m512i lanes[2] = {first, second};
        for (int i = 0; i < 2; i++) {
            __m256i a = _mm512_castsi512_si256(lanes[i]);
            __m256i b = _mm512_extracti64x4_epi64(lanes[i], 1);
            int32_t *rows = acc + (wide ? 32 : 16) * i + 8 * half;
            __m256i *to = (__m256i *)(void *)rows;
            if (wide) {
                __m256i *next = (__m256i *)(void *)(rows + 16);
                _mm256_storeu_si256(next, _mm256_add_epi32(_mm256_loadu_si256(next), b));
            } else {
                a = _mm256_add_epi32(a, b);
            }
            _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), a));
        }
    }
}

V_INLINE void tl1_strips(bool wide, const uint8_t *codes, const uint8_t *tables, uint64_t first,
                         uint64_t n, int32_t *acc)
{
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (uint64_t k = first; k < first + n; k++, codes += 64) {
        const uint8_t *t = wide ? tables + k / 2 * 128 + k % 2 * 16 : tables + k * 128;
        __m512i v = load(codes);
        for (int j = 0; j < 2; j++) {
            __m512i lo = wide ? load_lane_4_times(t + 64 * j) : load_half_twice(t + 64 * j);
            __m512i hi =
                wide ? load_lane_4_times(t + 64 * j + 32) : load_half_twice(t + 64 * j + 32);
            look_up(nibbles(v, j == 0), lo, hi, sum);
        }
    }
    strip_rows(wide, sum, acc);
}

V_INLINE __m512i negate_where(__m512i v, __m512i signs, __m512i bits)
{
    return _mm512_mask_sub_epi16(v, _mm512_test_epi16_mask(signs, bits), _mm512_setzero_si512(), v);
}

/* Triple t in the lower half of a vector, triple t + 2 in its upper half; `bit` is that of triple
 * t. */
V_INLINE __m512i sign_bits(int bit)
{
    const __m256i first = _mm256_set1_epi16((int16_t)(1 << bit));
    const __m256i second = _mm256_set1_epi16((int16_t)(1 << (bit - 4)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

V_INLINE void add_triples(int t, __m512i codes, const uint8_t *table, __m512i signs, __m512i sum[2])
{
    __m512i low = _mm512_shuffle_epi8(load(table), codes);
    __m512i high = _mm512_shuffle_epi8(load(table + 64), codes);
    __m512i lower = negate_where(_mm512_unpacklo_epi8(low, high), signs, sign_bits(15 - 2 * t));
    __m512i upper = negate_where(_mm512_unpackhi_epi8(low, high), signs, sign_bits(14 - 2 * t));
    sum[0] = _mm512_add_epi16(sum[0], lower);
    sum[1] = _mm512_add_epi16(sum[1], upper);
}

V_INLINE void tl2_triples(const uint8_t *magnitudes, const uint8_t *signs, const uint8_t *tables,
                          uint64_t n, int32_t *acc)
{
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (uint64_t k = 0; k < n; k++, magnitudes += 128, signs += 32, tables += 512) {
        __m512i s = load_half_twice(signs);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
            __m512i v = load(magnitudes + 64 * i);
            add_triples(4 * i, nibbles(v, true), tables + 256 * i, s, sum);
            add_triples(4 * i + 1, nibbles(v, false), tables + 256 * i + 128, s, sum);
        }
    }
    widen_fold(acc, sum[0]);
    widen_fold(acc + 16, sum[1]);
}

V_INLINE void tl2_pairs(const uint8_t *codes, const uint8_t *tables, int32_t *acc)
{
    __m512i sum[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int k = 0; k < 4; k++, tables += 256) {
        __m512i v = load(codes + 64 * k);
        look_up(nibbles(v, true), load(tables), load(tables + 64), sum);
        look_up(nibbles(v, false), load(tables + 128), load(tables + 192), sum);
    }
    widen_fold(acc, sum[0]);
    widen_fold(acc + 16, sum[1]);
}

#include "engine/cpu/tl_kernels.inc"

void tl_tables_avx512(const struct tl_planes *w, const int8_t *q, uint8_t *tables)
{
    tl_tables(w, q, tables);
}

void tl_matmul_avx512(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                      const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    tl_matmul(w, row0, row1, a, n_tok, y, y_stride);
}

#endif
