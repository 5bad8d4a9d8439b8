/* exp, log, sin and cos of our own: libm's differ from processor to processor, these are plain IEEE operations in one
 * order and give the same bits everywhere. */
#ifndef BNT_FMATH_H
#define BNT_FMATH_H

float fm_expf(float x);   /* relative error under 2e-7; 0 below -87.3, INFINITY above 88.7; NaN stays NaN */
double fm_exp(double x);  /* relative error under 1e-15 */
double fm_log(double x);  /* x > 0; relative error under 1e-15; log(0) = -INFINITY, negative: NaN */
void fm_sincos(double x, double *sin_x, double *cos_x); /* |x| up to 1e9; absolute error under 1e-15 per unit of reduction */

#endif
