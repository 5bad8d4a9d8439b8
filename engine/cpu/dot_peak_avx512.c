/* Dot products by vpdpbusd on 512 bits: twelve sums, more than the instruction takes cycles. */
#include "engine/cpu/dot_peak.h"

#if defined(__x86_64__)

#include <immintrin.h>

enum { SUMS = 12 };

static uint32_t run(uint64_t rounds)
{
    __m512i sum[SUMS], codes = _mm512_set1_epi8((char)(1 + rounds % 2)),
                       acts = _mm512_set1_epi8((char)(rounds % 3));
    for (int i = 0; i < SUMS; i++) {
        sum[i] = _mm512_set1_epi32(i);
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < SUMS; i++) {
            sum[i] = _mm512_dpbusd_epi32(sum[i], codes, acts);
        }
    }
    for (int i = 1; i < SUMS; i++) {
        sum[0] = _mm512_add_epi32(sum[0], sum[i]);
    }
    return (uint32_t)_mm512_reduce_add_epi32(sum[0]);
}

const struct dot_loop dot_loop_avx512 = {"avx512", run, SUMS * 64};

#endif
