/* What the lanes of a warp compute each for itself. */
#include <math.h>
#include <string.h>

#include "testkit/suites/ptx_module.h"

static inline float F(W bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline double G(D bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* A GPU has one result that is no number. */
static inline W PF(float x)
{
    W bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? 0x7fffffff : bits;
}

static inline D PG(double x)
{
    D bits;
    memcpy(&bits, &x, sizeof bits);
    return x != x ? UINT64_C(0x7fffffffffffffff) : bits;
}

static inline D ptx_bfi(D a, D b, W from, W n, W bits)
{
    from &= 0xff;
    n &= 0xff;
    if (n == 0 || from >= bits) {
        return b;
    }
    D mask = (n >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << from;
    return (b & ~mask) | (a << from & mask);
}

static inline W ptx_brev(W a)
{
    W out = 0;
    for (int i = 0; i < 32; i++) {
        out |= (a >> i & 1) << (31 - i);
    }
    return out;
}

static inline W ptx_prmt(W a, W b, W which)
{
    D bytes = (D)b << 32 | a;
    W out = 0;
    for (int i = 0; i < 4; i++) {
        W selector = which >> 4 * i & 15, byte = (W)(bytes >> 8 * (selector & 7)) & 0xff;
        byte = selector & 8 ? (byte & 0x80 ? 0xff : 0) : byte;
        out |= byte << 8 * i;
    }
    return out;
}

static inline W ptx_dp4a(W a, W b, W c, int is_signed)
{
    for (int i = 0; i < 32; i += 8) {
        int32_t x = is_signed ? (int8_t)(a >> i) : (int32_t)(a >> i & 0xff);
        c += (W)(x * (int8_t)(b >> i));
    }
    return c;
}

/* Towards zero; what does not fit is the nearest that does, and 0 what is no number. */
static inline W ptx_to_int(double x)
{
    return x != x ? 0 : x <= -0x1p31 ? 0x80000000 : x >= 0x1p31 - 1 ? 0x7fffffff : (W)(int32_t)x;
}

static inline W ptx_from_half(W h)
{
    W magnitude = (h & 0x7fff) << 13, sign = (h & 0x8000) << 16;
    float scaled = F(magnitude) * 0x1p+112f; /* exponents count from 15 there, from 127 here */
    return magnitude > 0x0f800000    ? 0x7fffffff
           : magnitude == 0x0f800000 ? sign | 0x7f800000
                                     : sign | PF(scaled);
}

static inline W ptx_to_half(W bits)
{
    W sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return 0x7fff;
    }
    double x = fabs((double)F(magnitude));
    int exponent = x >= 0x1p-14 ? ilogb(x) : -14;
    double units = rint(ldexp(x, 10 - exponent)); /* halves to even */
    double value = ldexp(units, exponent - 10);
    if (value >= 65520) {
        return sign | 0x7c00;
    }
    W mantissa = (W)units;
    return sign | (value < 0x1p-14 ? mantissa : ((W)(exponent + 14) << 10) + mantissa);
}

/* A result may lie where an operand does: it is written when all lanes have read. */
void ptx_run_lanes(W *registers, const struct ptx_instruction *in, uint32_t lanes)
{
    const uint32_t *at = in->at;
    enum { FIRST_OP = __COUNTER__ + 1 };
    switch (in->op) {
#define RUN(name, TD, TA, TB, TC, TE, value)                                                       \
    case __COUNTER__ - FIRST_OP: {                                                                 \
        TD out[PTX_LANES], *to = (TD *)(void *)(registers + (size_t)at[0] * PTX_LANES);            \
        const TA *as = (const TA *)(const void *)(registers + (size_t)at[1] * PTX_LANES);          \
        const TB *bs = (const TB *)(const void *)(registers + (size_t)at[2] * PTX_LANES);          \
        const TC *cs = (const TC *)(const void *)(registers + (size_t)at[3] * PTX_LANES);          \
        const TE *es = (const TE *)(const void *)(registers + (size_t)at[4] * PTX_LANES);          \
        for (int i = 0; i < PTX_LANES; i++) {                                                      \
            TA a = as[i];                                                                          \
            TB b = bs[i];                                                                          \
            TC c = cs[i];                                                                          \
            TE e = es[i];                                                                          \
            (void)a, (void)b, (void)c, (void)e;                                                    \
            out[i] = value;                                                                        \
        }                                                                                          \
        if (lanes == UINT32_MAX) {                                                                 \
            memcpy(to, out, sizeof out);                                                           \
            break;                                                                                 \
        }                                                                                          \
        for (int i = 0; i < PTX_LANES; i++) {                                                      \
            to[i] = lanes >> i & 1 ? out[i] : to[i];                                               \
        }                                                                                          \
        break;                                                                                     \
    }
        PTX_OPS(RUN)
#undef RUN
    default:
        break;
    }
}
