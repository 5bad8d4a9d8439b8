/* Dot products by sdot on 128 bits: sixteen sums, more than the instruction takes cycles. */
#include "engine/cpu/dot_peak.h"

#if defined(__aarch64__)

#include <arm_neon.h>

enum { SUMS = 16 };

static uint32_t run(uint64_t rounds)
{
    int32x4_t sum[SUMS];
    int8x16_t codes = vdupq_n_s8((int8_t)(1 + rounds % 2)), acts = vdupq_n_s8((int8_t)(rounds % 3));
    for (int i = 0; i < SUMS; i++) {
        sum[i] = vdupq_n_s32(i);
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < SUMS; i++) {
            sum[i] = vdotq_s32(sum[i], codes, acts);
        }
    }
    for (int i = 1; i < SUMS; i++) {
        sum[0] = vaddq_s32(sum[0], sum[i]);
    }
    return (uint32_t)vaddvq_s32(sum[0]);
}

const struct dot_loop dot_loop_neon = {"neon", run, SUMS * 16};

#endif
