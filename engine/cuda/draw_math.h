/* The arithmetic of a draw among the best logits: engine/sampler.c, operation by operation, so that
 * the id is the host's for every random number. Functions of single threads alone. */
#ifndef BNT_CUDA_DRAW_MATH_H
#define BNT_CUDA_DRAW_MATH_H

#include "engine/cuda/grid.h"
#include "engine/cuda/kernel_args.h"

/* 2^n for a normal result. */
THREAD_FN double power_of_two(int32_t n)
{
    return double_of((uint64_t)(n + 1023) << 52);
}

/* fm_exp of engine/cpu/fmath.c for numbers that are some; those above 709.8 do not occur. */
THREAD_FN double exp_f64(double x)
{
    const double magic = 0x1.8p+52;
    if (x < -745.2) {
        return 0.0;
    }
    double n = (x * 0x1.71547652b82fep+0 + magic) - magic;
    double r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 87178291200;
    p = p * r + 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * (r * r) + r;
    p = p + 1.0;
    int32_t whole = (int32_t)n;
    int32_t half = whole / 2;
    return p * power_of_two(half) * power_of_two(whole - half);
}

/* How many of n candidates, best first, have a logit that can be chosen. */
THREAD_FN uint32_t draw_usable(const struct cuda_candidate *c, uint32_t n)
{
    uint32_t usable = 0;
    while (usable < n && c[usable].id >= 0) {
        usable++;
    }
    return usable;
}

/* The sum of weights in their order. */
THREAD_FN double draw_sum(const double *p, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += p[i];
    }
    return sum;
}

/* Candidates until their probability reaches `mass`, at least one. */
THREAD_FN uint32_t draw_keep_mass(const double *p, uint32_t n, double mass)
{
    uint32_t kept = 0;
    for (double sum = 0; kept < n && (kept == 0 || sum < mass); kept++) {
        sum += p[kept];
    }
    return kept;
}

/* Those that are not below the threshold; they lie in descending order. */
THREAD_FN uint32_t draw_keep_near(const struct cuda_candidate *c, uint32_t n, double min_p_log)
{
    double threshold = n > 0 ? (double)c[0].logit + min_p_log : 0;
    uint32_t kept = 0;
    while (kept < n && (double)c[kept].logit >= threshold) {
        kept++;
    }
    return kept;
}

/* Which of n candidates the random number falls on; n > 0. */
THREAD_FN uint32_t draw_one(const double *p, uint32_t n, double unit)
{
    double sum = 0;
    uint32_t last = 0; /* rounding may leave the sum just below unit */
    for (uint32_t i = 0; i < n; i++) {
        if (p[i] <= 0) {
            continue;
        }
        last = i;
        sum += p[i];
        if (unit < sum) {
            break;
        }
    }
    return last;
}

#endif
