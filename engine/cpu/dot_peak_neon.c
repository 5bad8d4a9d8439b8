/* Dot products by sdot on 128 bits. */
#include "engine/cpu/dot_peak.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define DOT vdotq_s32
#include "engine/cpu/dot_peak_neon.inc"

const struct dot_loop dot_loop_neon = {"neon", run, SUMS * 16};

#endif
