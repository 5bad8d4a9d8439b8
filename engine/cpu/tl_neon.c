/* Products by table look-up with NEON: tbl looks 16 codes up at a time. */
#include "engine/cpu/tl.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define V_INLINE static inline __attribute__((always_inline))

V_INLINE uint8x16_t nibbles(uint8x16_t bytes, bool high)
{
    return high ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15));
}

/* acc[8] += eight int16. */
V_INLINE void widen(int32_t *acc, int16x8_t sums)
{
    vst1q_s32(acc, vaddw_s16(vld1q_s32(acc), vget_low_s16(sums)));
    vst1q_s32(acc + 4, vaddw_s16(vld1q_s32(acc + 4), vget_high_s16(sums)));
}

/* What codes mean, table bytes `apart`: of the first 8 and of the others. */
V_INLINE int16x8x2_t look_up(uint8x16_t codes, const uint8_t *table, int apart)
{
    uint8x16_t low = vqtbl1q_u8(vld1q_u8(table), codes);
    uint8x16_t high = vqtbl1q_u8(vld1q_u8(table + apart), codes);
    return (int16x8x2_t){
        {vreinterpretq_s16_u8(vzip1q_u8(low, high)), vreinterpretq_s16_u8(vzip2q_u8(low, high))}};
}

V_INLINE void add_both(int16x8_t sum[2], int16x8x2_t v)
{
    sum[0] = vaddq_s16(sum[0], v.val[0]);
    sum[1] = vaddq_s16(sum[1], v.val[1]);
}

/* A strip is four vectors of 16 rows. Narrow: rows 0..15 of two quads of columns, then rows 16..31.
 * Wide: 64 rows of one quad. */
V_INLINE void tl1_strips(bool wide, const uint8_t *codes, const uint8_t *tables, uint64_t first,
                         uint64_t n, int32_t *acc)
{
    int16x8_t sum[4][2];
    for (int i = 0; i < 8; i++) {
        sum[i / 2][i % 2] = vdupq_n_s16(0);
    }
    for (uint64_t k = first; k < first + n; k++, codes += 64) {
        const uint8_t *t = wide ? tables + k / 2 * 128 + k % 2 * 16 : tables + k * 128;
        for (int i = 0; i < 4; i++) {
            uint8x16_t v = vld1q_u8(codes + 16 * i);
            const uint8_t *quad = wide ? t : t + 16 * (i % 2);
            add_both(sum[i], look_up(nibbles(v, true), quad, 32));
            add_both(sum[i], look_up(nibbles(v, false), quad + 64, 32));
        }
    }
    for (int i = 0; i < 4; i++) {
        int32_t *rows = acc + 16 * (wide ? i : i / 2);
        widen(rows, sum[i][0]);
        widen(rows + 8, sum[i][1]);
    }
}

V_INLINE int16x8_t negate_where(int16x8_t v, uint16x8_t signs, unsigned bit)
{
    int16x8_t mask = vreinterpretq_s16_u16(vtstq_u16(signs, vdupq_n_u16((uint16_t)(1u << bit))));
    return vsubq_s16(veorq_s16(v, mask), mask);
}

V_INLINE void add_triple(unsigned t, uint8x16_t codes, const uint8_t *table, uint16x8_t signs,
                         int16x8_t sum[2])
{
    int16x8x2_t v = look_up(codes, table, 64);
    v.val[0] = negate_where(v.val[0], signs, 15 - 2 * t);
    v.val[1] = negate_where(v.val[1], signs, 14 - 2 * t);
    add_both(sum, v);
}

/* Half h of 32 positions: rows 8h.. and 16 + 8h.., which share words 8h.. of signs. */
V_INLINE void tl2_triples(const uint8_t *magnitudes, const uint8_t *signs, const uint8_t *tables,
                          uint64_t n, int32_t *acc)
{
    for (int h = 0; h < 2; h++) {
        int16x8_t sum[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
        for (uint64_t k = 0; k < n; k++) {
            uint16x8_t s = vreinterpretq_u16_u8(vld1q_u8(signs + 32 * k + 16 * h));
            for (unsigned i = 0; i < 4; i++) {
                uint8x16_t v = vld1q_u8(magnitudes + 128 * k + 32 * i + 16 * h);
                const uint8_t *t = tables + 512 * k + i / 2 * 256 + i % 2 * 32;
                add_triple(2 * i, nibbles(v, true), t, s, sum);
                add_triple(2 * i + 1, nibbles(v, false), t + 128, s, sum);
            }
        }
        widen(acc + 8 * h, sum[0]);
        widen(acc + 16 + 8 * h, sum[1]);
    }
}

V_INLINE void tl2_pairs(const uint8_t *codes, const uint8_t *tables, int32_t *acc)
{
    for (int h = 0; h < 2; h++) {
        int16x8_t sum[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
        for (int k = 0; k < 8; k++) {
            uint8x16_t v = vld1q_u8(codes + 32 * k + 16 * h);
            const uint8_t *t = tables + k / 2 * 256 + k % 2 * 32;
            add_both(sum, look_up(nibbles(v, true), t, 64));
            add_both(sum, look_up(nibbles(v, false), t + 128, 64));
        }
        widen(acc + 8 * h, sum[0]);
        widen(acc + 16 + 8 * h, sum[1]);
    }
}

#include "engine/cpu/tl_kernels.inc"

void tl_tables_neon(const struct tl_planes *w, const int8_t *q, uint8_t *tables)
{
    tl_tables(w, q, tables);
}

void tl_matmul_neon(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                    const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    tl_matmul(w, row0, row1, a, n_tok, y, y_stride);
}

#endif
