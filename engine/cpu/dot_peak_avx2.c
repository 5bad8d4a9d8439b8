/* Dot products without VNNI: vpmaddubsw into 16-bit sums, as the kernel does between two
 * widenings. */
#include "engine/cpu/dot_peak.h"

#if defined(__x86_64__)

#include <immintrin.h>

enum { SUMS = 10 };

static uint32_t run(uint64_t rounds)
{
    __m256i sum[SUMS], codes = _mm256_set1_epi8((char)(1 + rounds % 2)),
                       acts = _mm256_set1_epi8((char)(rounds % 3));
    for (int i = 0; i < SUMS; i++) {
        sum[i] = _mm256_set1_epi16((short)i);
    }
    for (uint64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 10
        for (int i = 0; i < SUMS; i++) {
            /* Opaque, else the product, always the same, would leave the loop, and sums that
             * nobody looks at before the end would wait for it in memory. */
            __asm__ volatile("" : "+x"(codes));
            __m256i next = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(codes, acts));
            __asm__ volatile("" : "+x"(next));
            sum[i] = next;
        }
    }
    for (int i = 1; i < SUMS; i++) {
        sum[0] = _mm256_add_epi16(sum[0], sum[i]);
    }
    uint32_t word[8];
    _mm256_storeu_si256((__m256i *)(void *)word, sum[0]);
    return word[0] + word[3] + word[7];
}

const struct dot_loop dot_loop_avx2 = {"avx2", run, SUMS * 32};

#endif
