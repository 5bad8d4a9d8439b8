/* AVX-512 on a processor that has AVX2 alone: its intrinsics as functions, from SIMDe
 * (https://github.com/simd-everywhere/simde; libsimde-dev) and, where its version 0.7.4 has none,
 * from here. Found before the compiler's header of this name by the objects of `make
 * check-avx512`, which may not contain an instruction of AVX-512. What each one computes: Intel 64
 * and IA-32 Architectures Software Developer's Manual, volume 2. */
#ifndef BNT_EMULATED_IMMINTRIN_H
#define BNT_EMULATED_IMMINTRIN_H

#pragma GCC system_header
#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

typedef float emulated_f32 __attribute__((vector_size(64)));
typedef int32_t emulated_i32 __attribute__((vector_size(64)));

static inline __m512 emulated_halves(__m256 lo, __m256 hi)
{
    emulated_f32 v;
    __builtin_memcpy(&v, &lo, sizeof(lo));
    __builtin_memcpy((char *)&v + sizeof(lo), &hi, sizeof(hi));
    return (__m512)v;
}
static inline __m256 emulated_half(__m512 a, int which)
{
    __m256 half;
    __builtin_memcpy(&half, (const char *)&a + sizeof(half) * (size_t)which, sizeof(half));
    return half;
}

/* Lanes whose bit is not set are neither read nor written. */
static inline void emulated_move(void *to, const void *from, uint32_t mask, size_t lane, int n)
{
    for (int i = 0; i < n; i++) {
        if (mask >> i & 1) {
            __builtin_memcpy((char *)to + lane * (size_t)i, (const char *)from + lane * (size_t)i,
                             lane);
        }
    }
}
#define EMULATED_LOAD(type, mask, from, lane, n)                                                   \
    __extension__({                                                                                \
        type emulated = {0};                                                                       \
        emulated_move(&emulated, from, mask, lane, n);                                             \
        emulated;                                                                                  \
    })
#define EMULATED_STORE(to, mask, value, lane, n)                                                   \
    do {                                                                                           \
        __typeof__(value) emulated = (value);                                                      \
        emulated_move(to, &emulated, mask, lane, n);                                               \
    } while (0)
#define _mm512_maskz_loadu_ps(mask, from) EMULATED_LOAD(__m512, mask, from, 4, 16)
#define _mm512_maskz_loadu_epi32(mask, from) EMULATED_LOAD(__m512i, mask, from, 4, 16)
#define _mm256_maskz_loadu_epi16(mask, from) EMULATED_LOAD(__m256i, mask, from, 2, 16)
#define _mm512_mask_storeu_ps(to, mask, value) EMULATED_STORE(to, mask, value, 4, 16)
#define _mm256_mask_storeu_epi16(to, mask, value) EMULATED_STORE(to, mask, value, 2, 16)
#define _mm_mask_storeu_ps(to, mask, value) EMULATED_STORE(to, mask, value, 4, 4)

static inline __m512 emulated_cvtph_ps(__m256i a)
{
    return emulated_halves(_mm256_cvtph_ps(_mm256_castsi256_si128(a)),
                           _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)));
}
#define _mm512_cvtph_ps(a) emulated_cvtph_ps(a)
#undef _mm512_cvtps_ph
#define _mm512_cvtps_ph(a, rounding)                                                               \
    _mm256_set_m128i(_mm256_cvtps_ph(emulated_half(a, 1), (rounding)&7),                           \
                     _mm256_cvtps_ph(emulated_half(a, 0), (rounding)&7))

static inline __m512i emulated_cvtepi16_epi32(__m256i a)
{
    typedef int16_t lanes __attribute__((vector_size(32)));
    return (__m512i) __builtin_convertvector((lanes)a, emulated_i32);
}
#define _mm512_cvtepi16_epi32(a) emulated_cvtepi16_epi32(a)
static inline __m512i emulated_cvtepu16_epi32(__m256i a)
{
    typedef uint16_t lanes __attribute__((vector_size(32)));
    return (__m512i) __builtin_convertvector((lanes)a, emulated_i32);
}
#define _mm512_cvtepu16_epi32(a) emulated_cvtepu16_epi32(a)
static inline __m128i emulated_cvtepi32_epi8(__m512i a)
{
    typedef int8_t lanes __attribute__((vector_size(16)));
    return (__m128i) __builtin_convertvector((emulated_i32)a, lanes);
}
#define _mm512_cvtepi32_epi8(a) emulated_cvtepi32_epi8(a)
#define _mm512_cvtepi32_ps(a) ((__m512) __builtin_convertvector((emulated_i32)(a), emulated_f32))

#undef _mm512_srai_epi32
#define _mm512_srai_epi32(a, n) ((__m512i)((emulated_i32)(a) >> (int)(n)))
/* SIMDe's asks for a constant when clang compiles. */
static inline __m512i emulated_srli_epi16(__m512i a, unsigned n)
{
    typedef uint16_t lanes __attribute__((vector_size(64)));
    return n < 16 ? (__m512i)((lanes)a >> (uint16_t)n) : (__m512i){0};
}
#undef _mm512_srli_epi16
#define _mm512_srli_epi16(a, n) emulated_srli_epi16(a, n)
static inline __m512i emulated_zext(__m256i a)
{
    __m512i v = {0};
    __builtin_memcpy(&v, &a, sizeof(a));
    return v;
}
#define _mm512_zextsi256_si512(a) emulated_zext(a)
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps(a, which) emulated_half(a, which)

static inline int32_t emulated_reduce_add_epi32(__m512i a)
{
    uint32_t sum = 0;
    for (int i = 0; i < 16; i++) {
        sum += (uint32_t)((emulated_i32)a)[i];
    }
    return (int32_t)sum;
}
#define _mm512_reduce_add_epi32(a) emulated_reduce_add_epi32(a)
static inline int32_t emulated_reduce_max_epi32(__m512i a)
{
    int32_t max = INT32_MIN;
    for (int i = 0; i < 16; i++) {
        max = ((emulated_i32)a)[i] > max ? ((emulated_i32)a)[i] : max;
    }
    return max;
}
#define _mm512_reduce_max_epi32(a) emulated_reduce_max_epi32(a)

#undef _mm512_permute_ps
#define _mm512_permute_ps(a, order)                                                                \
    emulated_halves(_mm256_permute_ps(emulated_half(a, 0), order),                                 \
                    _mm256_permute_ps(emulated_half(a, 1), order))
static inline __m512 emulated_permutevar_ps(__m512 a, __m512i at)
{
    emulated_f32 v;
    for (int i = 0; i < 16; i++) {
        v[i] = ((emulated_f32)a)[(i & ~3) + (((emulated_i32)at)[i] & 3)];
    }
    return (__m512)v;
}
#define _mm512_permutevar_ps(a, at) emulated_permutevar_ps(a, at)
#undef _mm512_shuffle_f32x4
#define _mm512_shuffle_f32x4(a, b, order) simde_mm512_shuffle_f32x4(a, b, order)
#define _mm512_moveldup_ps(a) _mm512_permute_ps(a, 0xa0)
#define _mm512_movehdup_ps(a) _mm512_permute_ps(a, 0xf5)

/* Pairs of products u8 x s8 saturate when they are added in 16 bits, one of them does not. SIMDe's
 * goes byte by byte. */
static inline __m256i emulated_dpbusd_half(__m256i sum, __m256i a, __m256i b)
{
    const __m256i even = _mm256_set1_epi16(0xff), ones = _mm256_set1_epi16(1);
    __m256i first = _mm256_maddubs_epi16(_mm256_and_si256(a, even), b);
    __m256i second = _mm256_maddubs_epi16(_mm256_andnot_si256(even, a), b);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(first, ones));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(second, ones));
}
static inline __m512i emulated_dpbusd_epi32(__m512i sum, __m512i a, __m512i b)
{
    __m256i *s = (__m256i *)(void *)&sum;
    s[0] = emulated_dpbusd_half(s[0], ((__m256i *)(void *)&a)[0], ((__m256i *)(void *)&b)[0]);
    s[1] = emulated_dpbusd_half(s[1], ((__m256i *)(void *)&a)[1], ((__m256i *)(void *)&b)[1]);
    return sum;
}
#undef _mm512_dpbusd_epi32
#define _mm512_dpbusd_epi32(sum, a, b) emulated_dpbusd_epi32(sum, a, b)

static inline __m512i emulated_mask_sub_epi16(__m512i off, uint32_t mask, __m512i a, __m512i b)
{
    typedef uint16_t lanes __attribute__((vector_size(64)));
    lanes v = (lanes)off;
    for (int i = 0; i < 32; i++) {
        if (mask >> i & 1) {
            v[i] = (uint16_t)(((lanes)a)[i] - ((lanes)b)[i]);
        }
    }
    return (__m512i)v;
}
#define _mm512_mask_sub_epi16(off, mask, a, b) emulated_mask_sub_epi16(off, mask, a, b)

#endif
