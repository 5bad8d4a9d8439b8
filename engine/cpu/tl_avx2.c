/* Products by table look-up with AVX2: vpshufb looks 32 codes up at a time, low and high bytes of
 * the sums apart; interleaving the two makes int16. */
#include "engine/cpu/tl.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define V_INLINE static inline __attribute__((always_inline))

V_INLINE __m256i load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* The same 16 bytes in both lanes. */
V_INLINE __m256i load_twice(const uint8_t *p)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)p));
}

V_INLINE __m256i nibbles(__m256i bytes, bool high)
{
    const __m256i low = _mm256_set1_epi8(15);
    return _mm256_and_si256(high ? _mm256_srli_epi16(bytes, 4) : bytes, low);
}

/* acc[8] += eight int16. */
V_INLINE void widen(int32_t *acc, __m128i sums)
{
    __m256i *p = (__m256i *)(void *)acc;
    _mm256_storeu_si256(p, _mm256_add_epi32(_mm256_loadu_si256(p), _mm256_cvtepi16_epi32(sums)));
}

V_INLINE void widen_lanes(int32_t *first, int32_t *second, __m256i sums)
{
    widen(first, _mm256_castsi256_si128(sums));
    widen(second, _mm256_extracti128_si256(sums, 1));
}

/* Add what the codes mean: sum[0] gets the first 8 bytes of each lane, sum[1] the others. */
V_INLINE void look_up(__m256i codes, __m256i lo, __m256i hi, __m256i sum[2])
{
    __m256i low = _mm256_shuffle_epi8(lo, codes), high = _mm256_shuffle_epi8(hi, codes);
    sum[0] = _mm256_add_epi16(sum[0], _mm256_unpacklo_epi8(low, high));
    sum[1] = _mm256_add_epi16(sum[1], _mm256_unpackhi_epi8(low, high));
}

/* A strip is two vectors. Narrow: each has 16 rows, its lanes are neighbouring quads of columns.
 * Wide: its lanes are 16 rows each, all of one quad. */
V_INLINE void tl1_strips(bool wide, const uint8_t *codes, const uint8_t *tables, uint64_t first,
                         uint64_t n, int32_t *acc)
{
    __m256i sum[2][2] = {{_mm256_setzero_si256(), _mm256_setzero_si256()},
                         {_mm256_setzero_si256(), _mm256_setzero_si256()}};
    for (uint64_t k = first; k < first + n; k++, codes += 64) {
        const uint8_t *t = wide ? tables + k / 2 * 128 + k % 2 * 16 : tables + k * 128;
        __m256i v[2] = {load(codes), load(codes + 32)};
        for (int j = 0; j < 2; j++) {
            __m256i lo = wide ? load_twice(t + 64 * j) : load(t + 64 * j);
            __m256i hi = wide ? load_twice(t + 64 * j + 32) : load(t + 64 * j + 32);
            look_up(nibbles(v[0], j == 0), lo, hi, sum[0]);
            look_up(nibbles(v[1], j == 0), lo, hi, sum[1]);
        }
    }
    for (int i = 0; i < 2; i++) {
        int32_t *rows = acc + (wide ? 32 : 16) * i;
        widen_lanes(rows, rows + (wide ? 16 : 0), sum[i][0]);
        widen_lanes(rows + 8, rows + (wide ? 24 : 8), sum[i][1]);
    }
}

/* Triple t of a word: the sums of rows 0..15 and of rows 16..31, each with its sign. */
V_INLINE void add_triple(int t, __m256i codes, const uint8_t *table, __m256i signs, __m256i sum[2])
{
    const __m256i one = _mm256_set1_epi16(1);
    __m256i low = _mm256_shuffle_epi8(load(table), codes);
    __m256i high = _mm256_shuffle_epi8(load(table + 64), codes);
    /* The sign bit of a lane decides; 1 in its lowest keeps the lane from being zero. */
    __m256i lower = _mm256_or_si256(_mm256_slli_epi16(signs, 2 * t), one);
    __m256i upper = _mm256_or_si256(_mm256_slli_epi16(signs, 2 * t + 1), one);
    sum[0] = _mm256_add_epi16(sum[0], _mm256_sign_epi16(_mm256_unpacklo_epi8(low, high), lower));
    sum[1] = _mm256_add_epi16(sum[1], _mm256_sign_epi16(_mm256_unpackhi_epi8(low, high), upper));
}

V_INLINE void tl2_triples(const uint8_t *magnitudes, const uint8_t *signs, const uint8_t *tables,
                          uint64_t n, int32_t *acc)
{
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (uint64_t k = 0; k < n; k++, magnitudes += 128, signs += 32, tables += 512) {
        __m256i s = load(signs);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m256i v = load(magnitudes + 32 * i);
            const uint8_t *t = tables + i / 2 * 256 + i % 2 * 32;
            add_triple(2 * i, nibbles(v, true), t, s, sum);
            add_triple(2 * i + 1, nibbles(v, false), t + 128, s, sum);
        }
    }
    widen_lanes(acc, acc + 8, sum[0]);
    widen_lanes(acc + 16, acc + 24, sum[1]);
}

V_INLINE void tl2_pairs(const uint8_t *codes, const uint8_t *tables, int32_t *acc)
{
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int k = 0; k < 8; k++) {
        const uint8_t *t = tables + k / 2 * 256 + k % 2 * 32;
        __m256i v = load(codes + 32 * k);
        look_up(nibbles(v, true), load(t), load(t + 64), sum);
        look_up(nibbles(v, false), load(t + 128), load(t + 192), sum);
    }
    widen_lanes(acc, acc + 8, sum[0]);
    widen_lanes(acc + 16, acc + 24, sum[1]);
}

#include "engine/cpu/tl_kernels.inc"

void tl_tables_avx2(const struct tl_planes *w, const int8_t *q, uint8_t *tables)
{
    tl_tables(w, q, tables);
}

void tl_matmul_avx2(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                    const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    tl_matmul(w, row0, row1, a, n_tok, y, y_stride);
}

#endif
