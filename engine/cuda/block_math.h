/* What several kernels do: sums in the canonical order of engine/cpu/kernels.h, exp, loads of
 * values of any float type, norm and quantisation of one row. */
#ifndef BNT_CUDA_BLOCK_MATH_H
#define BNT_CUDA_BLOCK_MATH_H

#include "engine/cpu/fmath.h"
#include "engine/cuda/grid.h"
#include "engine/cuda/kernel_args.h"

#define BITS_INFINITE 0x7f800000u

THREAD_FN uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Orders floats as unsigned numbers. */
THREAD_FN uint32_t float_order(uint32_t bits)
{
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* fm_expf of engine/cpu/fmath.c, operation by operation. */
THREAD_FN float exp_f32(float x)
{
    if (x < FM_EXPF_LOW) {
        return 0.0f;
    }
    if (x > FM_EXPF_HIGH) {
        return float_of(BITS_INFINITE);
    }
    float t = x * FM_EXPF_LOG2E + FM_EXPF_MAGIC;
    float n = t - FM_EXPF_MAGIC;
    float r = (x - n * FM_EXPF_LN2_HI) - n * FM_EXPF_LN2_LO;
    float p = FM_EXPF_C6;
    p = p * r + FM_EXPF_C5;
    p = p * r + FM_EXPF_C4;
    p = p * r + FM_EXPF_C3;
    p = p * r + FM_EXPF_C2;
    p = p * (r * r) + r;
    p = p + 1.0f;
    int32_t whole = (int32_t)(bits_of(t) - bits_of(FM_EXPF_MAGIC));
    int32_t half = whole >> 1;
    return p * float_of((uint32_t)(half + 127) << 23) *
           float_of((uint32_t)(whole - half + 127) << 23);
}

THREAD_FN float activate(uint32_t act, float gate, float up)
{
    if (act == CUDA_ACT_SILU) {
        return gate / (1.0f + exp_f32(-gate)) * up;
    }
    float positive = gate < 0.0f ? 0.0f : gate; /* a NaN stays */
    return positive * positive * up;
}

/* The sum of 16 lanes as a tree. */
THREAD_FN float sum_lanes(const float *x)
{
    float a[8];
    UNROLL
    for (uint32_t j = 0; j < 8; j++) {
        a[j] = x[j] + x[j + 8];
    }
    UNROLL
    for (uint32_t j = 0; j < 4; j++) {
        a[j] += a[j + 4];
    }
    return (a[0] + a[2]) + (a[1] + a[3]);
}

/* Value c of a row. */
THREAD_FN float value_at(uint32_t type, const void *row, uint64_t c)
{
    if (type == CUDA_F32) {
        return ((const float *)row)[c];
    }
    uint16_t h = ((const uint16_t *)row)[c];
    return type == CUDA_F16 ? half_to_float(h) : float_of((uint32_t)h << 16);
}

/* Values c .. c+7 of a row, zeros from n on. aligned: c is whole eights, no value is missing, and
 * the row begins at a multiple of 16 bytes. */
THREAD_FN void load_eight(uint32_t type, const void *row, uint64_t c, uint64_t n, int aligned,
                          float out[8])
{
    if (!aligned) {
        for (uint32_t i = 0; i < 8; i++) {
            out[i] = c + i < n ? value_at(type, row, c + i) : 0.0f;
        }
        return;
    }
    const char *bytes = (const char *)row + c * (type == CUDA_F32 ? 4 : 2);
    struct words4 w = load_words(bytes);
    if (type == CUDA_F32) {
        struct words4 w1 = load_words(bytes + 16);
        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            out[i] = float_of(w.w[i]);
            out[4 + i] = float_of(w1.w[i]);
        }
        return;
    }
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        if (type == CUDA_F16) {
            out[2 * i] = half_to_float((uint16_t)w.w[i]);
            out[2 * i + 1] = half_to_float((uint16_t)(w.w[i] >> 16));
        } else {
            out[2 * i] = float_of(w.w[i] << 16);
            out[2 * i + 1] = float_of(w.w[i] & 0xffff0000u);
        }
    }
}

/* Where activation i lies in its planes, see kernel_args.h. */
THREAD_FN uint64_t plane_position(uint32_t i, uint32_t row_bytes)
{
    return (uint64_t)(i % 128 / 32) * row_bytes + i / 128 * 32 + i % 32;
}

/* ---- one row: norm and 8 bits ---- */

/* Shared memory of these steps. */
struct row_space {
    float *tile;  /* CUDA_TILE */
    float *lanes; /* CUDA_LANES */
    uint32_t *max;
    int32_t *sum;
};

/* x, or x normed. */
struct row_values {
    const float *x, *norm;
    uint32_t n;
    float inverse;
};

THREAD_FN float normed(const struct row_values *v, uint32_t i)
{
    return v->norm ? (v->x[i] * v->inverse) * v->norm[i] : v->x[i];
}

/* The canonical sum of squares: threads square, 16 of them add. */
BLOCK_FN float sum_of_squares(BLOCK, const float *x, uint32_t n, const struct row_space *s)
{
    FOR_THREADS(t)
    {
        if (t < CUDA_LANES) {
            s->lanes[t] = 0.0f;
        }
    }
    for (uint32_t at = 0; at < n; at += CUDA_TILE) {
        uint32_t len = min_u32(n - at, CUDA_TILE);
        BARRIER();
        FOR_THREADS(t)
        {
            for (uint32_t i = t; i < len; i += N_THREADS) {
                s->tile[i] = x[at + i] * x[at + i];
            }
        }
        BARRIER();
        FOR_THREADS(t)
        {
            if (t < CUDA_LANES) {
                float sum = s->lanes[t];
                for (uint32_t i = t; i < len; i += CUDA_LANES) {
                    sum += s->tile[i];
                }
                s->lanes[t] = sum;
            }
        }
    }
    BARRIER();
    return sum_lanes(s->lanes);
}

BLOCK_FN void norm_row(BLOCK, struct row_values *v, float eps, const struct row_space *s)
{
    v->inverse = 1.0f;
    if (v->norm) {
        float mean = sum_of_squares(SAME_BLOCK, v->x, v->n, s) / (float)v->n;
        v->inverse = 1.0f / SQRT(mean + eps);
    }
}

/* The 8-bit form of a row into q[4][row_bytes]; returns its scale, *s->sum is the sum of its codes.
 * Both and q may be read at once. */
BLOCK_FN float quantize_row(BLOCK, const struct row_values *v, int8_t *q, uint32_t row_bytes,
                            const struct row_space *s)
{
    FOR_THREADS(t)
    {
        if (t == 0) {
            *s->max = 0;
            *s->sum = 0;
        }
        for (uint32_t i = t; i < row_bytes; i += N_THREADS) { /* 4 codes at a time */
            ((uint32_t *)(void *)q)[i] = 0;
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        uint32_t most = 0;
        for (uint32_t i = t; i < v->n; i += N_THREADS) {
            uint32_t magnitude = bits_of(normed(v, i)) & 0x7fffffffu;
            most = magnitude > most ? magnitude : most;
        }
        shared_max(s->max, most);
    }
    BARRIER();
    float absmax = float_of(*s->max);
    if (*s->max >= BITS_INFINITE) { /* no code stands for such a row, see kernels_ref.c */
        return absmax;
    }
    absmax = absmax < 1e-5f ? 1e-5f : absmax;
    float inverse = 127.0f / absmax;
    FOR_THREADS(t)
    {
        int32_t sum = 0;
        for (uint32_t i = t; i < v->n; i += N_THREADS) {
            float x = normed(v, i) * inverse;
            x = (x + 0x1.8p+23f) - 0x1.8p+23f; /* half to even */
            x = x < -128.0f ? -128.0f : x > 127.0f ? 127.0f : x;
            q[plane_position(i, row_bytes)] = (int8_t)x;
            sum += (int8_t)x;
        }
        shared_add(s->sum, sum);
    }
    BARRIER();
    return absmax / 127.0f;
}

/* ---- results of products ---- */

/* From the sum of codes times activations to the value, see finish_rows of engine/cpu/forward.c. */
THREAD_FN float ternary_value(const struct cuda_matrix *m, uint32_t r, int32_t total, float scale)
{
    float y = (float)total * (m->scale * scale);
    if (m->out_scale == 1.0f && !m->bias) {
        return y;
    }
    return y * m->out_scale + (m->bias ? m->bias[r] : 0.0f);
}

#endif
