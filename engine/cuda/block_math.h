/* What several kernels do: sums in the canonical order of engine/cpu/kernels.h, exp, loads of
 * values of any float type, norm and quantisation of one row. */
#ifndef BNT_CUDA_BLOCK_MATH_H
#define BNT_CUDA_BLOCK_MATH_H

#include "engine/cpu/fmath.h"
#include "engine/cuda/grid.h"
#include "engine/cuda/launch_shape.h"

#define BITS_INFINITE 0x7f800000u

THREAD_FN uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

THREAD_FN struct words4 no_words(void)
{
    struct words4 none = {{0, 0, 0, 0}};
    return none;
}

/* Orders floats as unsigned numbers. */
THREAD_FN uint32_t float_order(uint32_t bits)
{
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

THREAD_FN float float_of_order(uint32_t order)
{
    return float_of(order & 0x80000000u ? order & 0x7fffffffu : ~order);
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

/* Of CUDA_CODES: where the piece of column c is, the scale of c in it, and the byte of its code. */
THREAD_FN const unsigned char *codes_piece(const void *row, uint32_t c)
{
    return (const unsigned char *)row + (uint64_t)(c / CUDA_CODES_PIECE) * CUDA_CODES_BYTES;
}

THREAD_FN float codes_scale(const unsigned char *piece, uint32_t c)
{
    return ((const float *)(const void *)piece)[c % CUDA_CODES_PIECE / CUDA_CODES_SCALED];
}

THREAD_FN const unsigned char *codes_byte(const unsigned char *piece, uint32_t c)
{
    return piece + CUDA_CODES_EIGHT(c) + c / 4 % 2;
}

/* The value of a code, whose number a float of this size has in its lowest bits. */
THREAD_FN float code_value(uint32_t code, float scale)
{
    return (float_of(0x4b000000u | code) - 8388609.0f) * scale;
}

/* Those of eight codes in 16 bits. */
THREAD_FN void unpack_codes(uint32_t codes, float scale, float out[8])
{
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        out[i] = code_value(codes >> 2 * i & 3u, scale);
    }
}

/* Value c of a row. */
THREAD_FN float value_at(uint32_t type, const void *row, uint64_t c)
{
    if (type == CUDA_CODES) {
        const uint32_t at = (uint32_t)c;
        const unsigned char *piece = codes_piece(row, at);
        return code_value((uint32_t)*codes_byte(piece, at) >> 2 * (at % 4) & 3u,
                          codes_scale(piece, at));
    }
    if (type == CUDA_F32) {
        return ((const float *)row)[c];
    }
    uint16_t h = ((const uint16_t *)row)[c];
    return type == CUDA_F16 ? half_to_float(h) : float_of((uint32_t)h << 16);
}

/* Eight 16-bit floats. */
THREAD_FN void unpack_eight(uint32_t type, const struct words4 *w, float out[8])
{
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        if (type == CUDA_F16) {
            out[2 * i] = half_to_float((uint16_t)w->w[i]);
            out[2 * i + 1] = half_to_float((uint16_t)(w->w[i] >> 16));
        } else {
            out[2 * i] = float_of(w->w[i] << 16);
            out[2 * i + 1] = float_of(w->w[i] & 0xffff0000u);
        }
    }
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
    if (type == CUDA_CODES) {
        const uint32_t at = (uint32_t)c;
        const unsigned char *piece = codes_piece(row, at);
        unpack_codes(*(const uint16_t *)(const void *)codes_byte(piece, at), codes_scale(piece, at),
                     out);
        return;
    }
    const char *bytes = (const char *)row + c * (type == CUDA_F32 ? 4 : 2);
    struct words4 w = load_words(bytes);
    if (type != CUDA_F32) {
        unpack_eight(type, &w, out);
        return;
    }
    struct words4 w1 = load_words(bytes + 16);
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        out[i] = float_of(w.w[i]);
        out[4 + i] = float_of(w1.w[i]);
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
    float *tile;  /* CUDA_ROW_FLOATS of the row */
    float *lanes; /* CUDA_LANES */
    uint32_t *max;
    int32_t *sum;
};

/* x, or x normed. A row that fits is held: x is then the tile. */
struct row_values {
    const float *x, *norm;
    uint32_t n;
    float inverse;
};

THREAD_FN float normed(const struct row_values *v, uint32_t i)
{
    return v->norm ? (v->x[i] * v->inverse) * v->norm[i] : v->x[i];
}

/* Part of a row on its way into the tile; all copies of a thread go at once. */
BLOCK_FN void send_row(BLOCK, const float *x, uint32_t n, float *tile)
{
    FOR_THREADS(t)
    {
        int whole = n % 4 == 0 && (uintptr_t)x % 16 == 0;
        for (uint32_t i = 4 * t; whole && i < n; i += 4 * N_THREADS) {
            send_words(tile + i, x + i, 1);
        }
        for (uint32_t i = t; !whole && i < n; i += N_THREADS) {
            tile[i] = x[i];
        }
    }
}

/* What was sent is there for the thread that sent it; a barrier shows it to all. */
#define ROWS_ARRIVE()                                                                              \
    do {                                                                                           \
        END_COPIES();                                                                              \
        COPIES_LEFT(0);                                                                            \
    } while (0)

BLOCK_FN void fetch_row(BLOCK, const float *x, uint32_t n, float *tile)
{
    send_row(SAME_BLOCK, x, n, tile);
    ROWS_ARRIVE();
}

#define SQUARES 10u /* of a lane that are read while as many are added */

/* A lane of the canonical sum of squares goes on over n values. Each addition waits for the one
 * before, so nothing else may: values are read ahead of it. */
THREAD_FN float add_squares(float sum, const float *tile, uint32_t lane, uint32_t n)
{
    const uint32_t step = SQUARES * CUDA_LANES, whole = n / step * step;
    float x[SQUARES], ahead[SQUARES];
    UNROLL
    for (uint32_t j = 0; j < SQUARES && whole > 0; j++) {
        x[j] = tile[lane + j * CUDA_LANES];
    }
    for (uint32_t i = lane; i < whole; i += step) {
        const float *next = tile + (i + step < whole ? i + step : i);
        UNROLL
        for (uint32_t j = 0; j < SQUARES; j++) {
            ahead[j] = next[j * CUDA_LANES];
        }
        UNROLL
        for (uint32_t j = 0; j < SQUARES; j++) {
            sum += x[j] * x[j];
            x[j] = ahead[j];
        }
    }
    for (uint32_t i = whole + lane; i < n; i += CUDA_LANES) {
        sum += tile[i] * tile[i];
    }
    return sum;
}

/* What stands before the squares in the order of a row's work: zeroed sums. */
BLOCK_FN void clear_space(BLOCK, const struct row_space *s)
{
    FOR_THREADS(t)
    {
        if (t < CUDA_LANES) {
            s->lanes[t] = 0.0f;
        }
        if (t == 0) {
            *s->max = 0;
            *s->sum = 0;
        }
    }
}

/* Fetch the row, and find what it is multiplied with; one thread does, in the first lane. */
BLOCK_FN void norm_row(BLOCK, struct row_values *v, float eps, const struct row_space *s)
{
    uint32_t whole = CUDA_ROW_FLOATS(v->n);
    clear_space(SAME_BLOCK, s);
    for (uint32_t at = 0; at < v->n; at += whole) {
        uint32_t len = min_u32(v->n - at, whole);
        if (at > 0) {
            BARRIER();
        }
        fetch_row(SAME_BLOCK, v->x + at, len, s->tile);
        BARRIER();
        FOR_THREADS(t)
        {
            if (t < CUDA_LANES && v->norm) {
                s->lanes[t] = add_squares(s->lanes[t], s->tile, t, len);
            }
        }
    }
    WARP_BARRIER(); /* one warp has all lanes */
    FOR_THREADS(t)
    {
        if (t == 0) {
            s->lanes[0] = v->norm ? 1.0f / SQRT(sum_lanes(s->lanes) / (float)v->n + eps) : 1.0f;
        }
    }
    BARRIER();
    v->inverse = s->lanes[0];
    v->x = v->n <= whole ? s->tile : v->x;
}

THREAD_FN uint32_t larger_magnitude(uint32_t most, float x)
{
    uint32_t magnitude = bits_of(x) & 0x7fffffffu;
    return magnitude > most ? magnitude : most;
}

/* Four values of a held row, normed in place by four weights; the largest magnitude of those and
 * `most`. */
THREAD_FN uint32_t norm_four(const struct row_values *v, float *tile, const struct words4 *w,
                             uint32_t most)
{
    struct words4 x = load_words(tile);
    if (v->norm) {
        UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            x.w[j] = bits_of((float_of(x.w[j]) * v->inverse) * float_of(w->w[j]));
        }
        store_words(tile, x);
    }
    UNROLL
    for (uint32_t j = 0; j < 4; j++) {
        most = larger_magnitude(most, float_of(x.w[j]));
    }
    return most;
}

/* Values of a row that are worked on by fours: all, where it is held and whole fours. */
THREAD_FN uint32_t row_fours(uint32_t n)
{
    return n <= CUDA_ROW_FLOATS(n) && n % 4 == 0 ? n : 0;
}

#define NORM_HELD 3u /* fours of weights that a thread has on their way at once */

/* The weights of a thread's fours from i on, `apart` apart. */
THREAD_FN void load_norms(const float *norm, uint32_t i, uint32_t n, uint32_t apart,
                          struct words4 *w)
{
    UNROLL
    for (uint32_t j = 0; j < NORM_HELD; j++) {
        w[j] = norm && i + j * apart < n ? load_constant(norm + i + j * apart) : no_words();
    }
}

/* The first of them, which may be asked for before the row is there. */
BLOCK_FN void fetch_norms(BLOCK, const float *norm, uint32_t n, struct words4 (*held)[NORM_HELD])
{
    FOR_THREADS(t)
    {
        load_norms(norm, 4 * t, row_fours(n), 4 * N_THREADS, MINE(held, t));
    }
}

/* The fours of a thread, the weights of the first of which are held. */
THREAD_FN uint32_t norm_fours(const struct row_values *v, float *tile, uint32_t i, uint32_t apart,
                              struct words4 *held)
{
    uint32_t most = 0, n = row_fours(v->n);
    while (i < n) {
        UNROLL
        for (uint32_t j = 0; j < NORM_HELD; j++) {
            if (i + j * apart < n) {
                most = norm_four(v, tile + i + j * apart, &held[j], most);
            }
        }
        i += NORM_HELD * apart;
        if (i < n) {
            load_norms(v->norm, i, n, apart, held);
        }
    }
    return most;
}

/* The code of x in the low byte. No value of a row is larger than the magnitude that its inverse is
 * 127 over, so that the sum's last bits are the value, rounded half to even, and it fits. */
THREAD_FN uint32_t act_code_bits(float x, float inverse)
{
    return bits_of(x * inverse + 0x1.8p+23f);
}

/* Codes i .. i+3, which lie together in their plane; their sum is added to `sum`. */
THREAD_FN int32_t quantize_four(const float *x, uint32_t i, float inverse, uint32_t row_bytes,
                                int8_t *q, int32_t sum)
{
    struct words4 w = load_words(x + i);
    UNROLL
    for (uint32_t j = 0; j < 4; j++) {
        w.w[j] = act_code_bits(float_of(w.w[j]), inverse);
    }
    uint32_t packed =
        pick_bytes(pick_bytes(w.w[0], w.w[1], 0x0040), pick_bytes(w.w[2], w.w[3], 0x0040), 0x5410);
    *(uint32_t *)(void *)(q + plane_position(i, row_bytes)) = packed;
    return dot4_signed(packed, 0x01010101u, sum);
}

/* The 8-bit form of a row that norm_row has seen into q[4][row_bytes]; returns its scale, *s->sum
 * is the sum of its codes. Both and q may be read at once. held: of fetch_norms. */
BLOCK_FN float quantize_row(BLOCK, struct row_values *v, struct words4 (*held)[NORM_HELD],
                            int8_t *q, uint32_t row_bytes, const struct row_space *s)
{
    uint32_t fours = row_fours(v->n);
    FOR_THREADS(t)
    {
        uint32_t most = norm_fours(v, s->tile, 4 * t, 4 * N_THREADS, MINE(held, t));
        for (uint32_t i = t; v->n % 128 && i < row_bytes; i += N_THREADS) {
            ((uint32_t *)(void *)q)[i] = 0; /* what stands behind the row in its last 128 */
        }
        for (uint32_t i = t; !fours && i < v->n; i += N_THREADS) {
            most = larger_magnitude(most, normed(v, i));
        }
        shared_max(s->max, most);
    }
    BARRIER();
    float absmax = float_of(*s->max);
    if (*s->max >= BITS_INFINITE) { /* no code stands for such a row, see kernels_ref.c */
        FOR_THREADS(t)
        {
            for (uint32_t i = t; i < row_bytes; i += N_THREADS) {
                ((uint32_t *)(void *)q)[i] = 0;
            }
        }
        BARRIER();
        return absmax;
    }
    absmax = absmax < 1e-5f ? 1e-5f : absmax;
    float inverse = 127.0f / absmax;
    FOR_THREADS(t)
    {
        int32_t sum = 0;
        for (uint32_t i = 4 * t; i < fours; i += 4 * N_THREADS) {
            sum = quantize_four(s->tile, i, inverse, row_bytes, q, sum);
        }
        for (uint32_t i = t; !fours && i < v->n; i += N_THREADS) {
            int8_t code = (int8_t)act_code_bits(normed(v, i), inverse);
            q[plane_position(i, row_bytes)] = code;
            sum += code;
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
