/* Unpacking codes, for the kernels of aarch64. */
#ifndef BNT_NEON_CODES_H
#define BNT_NEON_CODES_H

#if defined(__aarch64__)

#include <arm_neon.h>

/* Codes of group g of 16 packed bytes, each in a byte. The first needs no mask, the last no shift;
 * shifts are constants once the caller's loop over g is unrolled. */
static inline __attribute__((always_inline)) int8x16_t neon_codes(uint8x16_t packed, int g)
{
    const uint8x16_t low = vdupq_n_u8(3);
    switch (g) {
    case 0:
        return vreinterpretq_s8_u8(vshrq_n_u8(packed, 6));
    case 1:
        return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(packed, 4), low));
    case 2:
        return vreinterpretq_s8_u8(vandq_u8(vshrq_n_u8(packed, 2), low));
    default:
        return vreinterpretq_s8_u8(vandq_u8(packed, low));
    }
}

#endif
#endif
