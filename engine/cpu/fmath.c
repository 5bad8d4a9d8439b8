/* Elementary functions from IEEE basic operations alone. Invariant: no operation whose result is
 * left to the implementation (no libm, no fused multiply-add, no conversion out of range). */
#include "engine/cpu/fmath.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/fault.h"

static uint32_t bits_of_f32(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static float f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

static uint64_t bits_of_f64(double x)
{
    uint64_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static double f64_of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

/* 2^n for a normal result. */
static double pow2(int n)
{
    return f64_of_bits((uint64_t)(n + 1023) << 52);
}

float fm_expf(float x)
{
    if (x < FM_EXPF_LOW) {
        return 0.0f;
    }
    if (x > FM_EXPF_HIGH) {
        return INFINITY;
    }
    float t = x * FM_EXPF_LOG2E + FM_EXPF_MAGIC;
    float n = t - FM_EXPF_MAGIC;
    float r = (x - n * FM_EXPF_LN2_HI) - n * FM_EXPF_LN2_LO;
    float p = FM_EXPF_C6;
    p = p * r + FM_EXPF_C5;
    p = p * r + (BNT_FAULT(expf_polynomial) ? 0.0f : FM_EXPF_C4);
    p = p * r + FM_EXPF_C3;
    p = p * r + FM_EXPF_C2;
    p = p * (r * r) + r;
    p = p + 1.0f;
    /* For a NaN the integer is meaningless but harmless: NaN times any scale is NaN. */
    int32_t whole = (int32_t)(bits_of_f32(t) - bits_of_f32(FM_EXPF_MAGIC));
    int32_t half = whole >> 1;
    float scale1 = f32_of_bits((uint32_t)(half + 127) << 23);
    float scale2 = f32_of_bits((uint32_t)(whole - half + 127) << 23);
    return p * scale1 * scale2;
}

/* 1/k!, k = 2..14. */
static const double exp_coef[] = {
    0.5,
    1.0 / 6,
    1.0 / 24,
    1.0 / 120,
    1.0 / 720,
    1.0 / 5040,
    1.0 / 40320,
    1.0 / 362880,
    1.0 / 3628800,
    1.0 / 39916800,
    1.0 / 479001600,
    1.0 / 6227020800,
    1.0 / 87178291200,
};

double fm_exp(double x)
{
    const double ln2_hi = 0x1.62e42fee00000p-1; /* 32 bits: n*ln2_hi is exact */
    const double ln2_lo = 0x1.a39ef35793c76p-33;
    const double magic = 0x1.8p+52;
    if (isnan(x)) {
        return x;
    }
    if (x > 709.8) {
        return INFINITY;
    }
    if (x < -745.2) {
        return 0.0;
    }
    double n = (x * 0x1.71547652b82fep+0 + magic) - magic;
    double r = (x - n * ln2_hi) - n * ln2_lo;
    double p = exp_coef[12];
    for (int k = 11; k >= 0; k--) {
        p = p * r + exp_coef[k];
    }
    p = p * (r * r) + r;
    p = p + 1.0;
    int whole = (int)n;
    int half = whole / 2;
    return p * pow2(half) * pow2(whole - half);
}

double fm_log(double x)
{
    const double ln2_hi = 0x1.62e42fee00000p-1;
    const double ln2_lo = 0x1.a39ef35793c76p-33;
    if (isnan(x) || x == INFINITY) {
        return x;
    }
    if (x <= 0.0) {
        return x < 0.0 ? (double)NAN : -(double)INFINITY;
    }
    int k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p+54;
        k = -54;
    }
    /* x = m * 2^k with m in [sqrt(1/2), sqrt(2)). */
    uint64_t u = bits_of_f64(x);
    k += (int)(u >> 52) - 1023;
    double m = f64_of_bits((u & 0xfffffffffffffu) | 0x3ff0000000000000u);
    if (m >= 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        k++;
    }
    /* log(1+f) = f - f^2/2 + s*(f^2/2 + series), s = f/(2+f), series = sum 2/(2j+1) s^(2j). */
    double f = m - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double series = 2.0 / 25;
    for (int odd = 23; odd >= 3; odd -= 2) {
        series = series * z + 2.0 / odd;
    }
    series = series * z;
    double half_sq = 0.5 * f * f;
    double dk = (double)k;
    return dk * ln2_hi - ((half_sq - (s * (half_sq + series) + dk * ln2_lo)) - f);
}

/* sin and cos of r, |r| <= pi/4. */
static void sincos_small(double r, double *s, double *c)
{
    static const double sin_coef[] = {
        -1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
        -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000,
    };
    static const double cos_coef[] = {
        1.0 / 24,        -1.0 / 720,         1.0 / 40320,          -1.0 / 3628800,
        1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000,
    };
    double z = r * r;
    double ps = sin_coef[7];
    for (int k = 6; k >= 0; k--) {
        ps = ps * z + sin_coef[k];
    }
    double pc = cos_coef[6];
    for (int k = 5; k >= 0; k--) {
        pc = pc * z + cos_coef[k];
    }
    *s = r + r * z * ps;
    *c = 1.0 - (0.5 * z - z * z * pc);
}

void fm_sincos(double x, double *sin_x, double *cos_x)
{
    /* pi/2 in parts of 23 bits: n has at most 30 bits, so n*part is exact. */
    const double part1 = 0x1.921fb4p+0, part2 = 0x1.4442dp-24, part3 = 0x1.846988p-48;
    const double part4 = 0x1.8cc51701b839ap-72;
    const double magic = 0x1.8p+52;
    if (!(x >= -1e9 && x <= 1e9)) {
        *sin_x = *cos_x = (double)NAN;
        return;
    }
    double n = (x * 0x1.45f306dc9c883p-1 + magic) - magic;
    double r1 = (x - n * part1) - n * part2; /* exact */
    double t = n * part3;
    double r2 = r1 - t;
    double r = r2 + (((r1 - r2) - t) - n * part4);
    double s, c;
    sincos_small(r, &s, &c);
    switch (((int64_t)n + BNT_FAULT(sincos_quadrant)) & 3) {
    case 0:
        *sin_x = s;
        *cos_x = c;
        break;
    case 1:
        *sin_x = c;
        *cos_x = -s;
        break;
    case 2:
        *sin_x = -s;
        *cos_x = -c;
        break;
    default:
        *sin_x = -c;
        *cos_x = s;
        break;
    }
}
