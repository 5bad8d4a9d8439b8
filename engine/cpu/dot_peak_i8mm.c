/* Matrix products by smmla on 128 bits: two rows by two tokens of eight values each. */
#include "engine/cpu/dot_peak.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define DOT vmmlaq_s32
#include "engine/cpu/dot_peak_neon.inc"

const struct dot_loop dot_loop_i8mm = {"i8mm", run, SUMS * 32};

#endif
