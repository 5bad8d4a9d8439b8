/* exp, log, sin and cos of our own: libm's differ from processor to processor, these are plain IEEE
 * operations in one order and give the same bits everywhere. */
#ifndef BNT_FMATH_H
#define BNT_FMATH_H

float fm_expf(
    float x); /* relative error under 2e-7; 0 below -87.3, INFINITY above 88.7; NaN stays NaN */
double fm_exp(double x);  /* relative error under 1e-15 */
double fm_log(double x);  /* x > 0; relative error under 1e-15; log(0) = -INFINITY, negative: NaN */
/* Absolute error under 4e-16. Both are NaN when |x| exceeds 1e9. */
void fm_sincos(double x, double *sin_x, double *cos_x);

/* Constants of fm_expf, shared with its vector forms, which do the same operations in the same
 * order: t = x*LOG2E + MAGIC; n = t - MAGIC (an integer, also readable from the low bits of t) r =
 * (x - n*LN2_HI) - n*LN2_LO p = ((((C6*r + C5)*r + C4)*r + C3)*r + C2)*(r*r) + r + 1 p * 2^(n >> 1)
 * * 2^(n - (n >> 1)): two steps, since 2^128 is not a float */
#define FM_EXPF_LOG2E 0x1.715476p+0f
#define FM_EXPF_MAGIC 0x1.8p+23f
#define FM_EXPF_LN2_HI 0x1.62e4p-1f /* 15 bits, so that n*LN2_HI is exact */
#define FM_EXPF_LN2_LO 0x1.7f7d1cp-20f
#define FM_EXPF_C2 0x1p-1f
#define FM_EXPF_C3 0x1.5554dcp-3f
#define FM_EXPF_C4 0x1.55551ap-5f
#define FM_EXPF_C5 0x1.120b90p-7f
#define FM_EXPF_C6 0x1.6d112cp-10f
#define FM_EXPF_LOW -87.3f
#define FM_EXPF_HIGH 88.7f

#endif
