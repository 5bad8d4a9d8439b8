/* Matrix products by smmla on 128 bits: two rows by two tokens of eight values each. */
#include "engine/cpu/dot_peak.h"

#if defined(__aarch64__)

#include <arm_neon.h>

enum { SUMS = 16, MACS = 32 };

static uint32_t run(uint64_t rounds)
{
    int32x4_t sum[SUMS];
    int8x16_t codes = vdupq_n_s8((int8_t)(1 + rounds % 2)), acts = vdupq_n_s8((int8_t)(rounds % 3));
    for (int i = 0; i < SUMS; i++) {
        sum[i] = vdupq_n_s32(i);
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < SUMS; i++) {
            sum[i] = vmmlaq_s32(sum[i], codes, acts);
        }
    }
    for (int i = 1; i < SUMS; i++) {
        sum[0] = vaddq_s32(sum[0], sum[i]);
    }
    return (uint32_t)vaddvq_s32(sum[0]);
}

const struct dot_loop dot_loop_i8mm = {"i8mm", run, SUMS *MACS};

#endif
