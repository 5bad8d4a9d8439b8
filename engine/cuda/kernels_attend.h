/* Attention of one query head of one token by a block, or of up to four that share their keys. The
 * order of every sum is that of
 * kernels_ref.c: dots in 16 lanes, the softmax's sum in 16 lanes over positions, values by
 * ascending position. */
#ifndef BNT_CUDA_KERNELS_ATTEND_H
#define BNT_CUDA_KERNELS_ATTEND_H

#include "engine/cuda/block_math.h"
#include "engine/cuda/kernels_row.h"

/* Shared: the query, 16 lanes, a word (and three unused), the scores. */
struct attend_space {
    float *q, *lanes;
    uint32_t *max;
    float *scores;
};

BLOCK_FN struct attend_space attend_space_at(unsigned char *shared, uint32_t head_dim)
{
    struct attend_space s;
    s.q = (float *)(void *)shared;
    s.lanes = s.q + head_dim;
    s.max = (uint32_t *)(void *)(s.lanes + CUDA_LANES);
    s.scores = (float *)(void *)(s.max + 4);
    return s;
}

/* Eight values of a key meet eight of the query, which stand at a multiple of 16 bytes. */
THREAD_FN void meet_eight(const float *q, const float k[8], float *lane)
{
    UNROLL
    for (uint32_t i = 0; i < 8; i += 4) {
        struct words4 w = load_words(q + i);
        UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            lane[i + j] += float_of(w.w[j]) * k[i + j];
        }
    }
}

/* A key of 16-bit floats whose length is whole 16s: eight loads are on their way at once. */
THREAD_FN void half_lanes(const float *q, const char *key, uint32_t head_dim,
                          float lane[CUDA_LANES])
{
    for (uint32_t c = 0; c < head_dim; c += 64) {
        struct words4 raw[8];
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            raw[j] = c + 8 * j < head_dim ? load_words(key + (c + 8 * j) * 2) : no_words();
        }
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            if (c + 8 * j < head_dim) {
                float k[8];
                unpack_eight(CUDA_F16, &raw[j], k);
                meet_eight(q + c + 8 * j, k, lane + j % 2 * 8);
            }
        }
    }
}

/* The same of whole fours: eight loads of four values. */
THREAD_FN void half_lanes_by_four(const float *q, const char *key, uint32_t head_dim,
                                  float lane[CUDA_LANES])
{
    for (uint32_t c = 0; c < head_dim; c += 32) {
        uint64_t raw[8];
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            const void *at = key + (c + 4 * j) * 2;
            raw[j] = c + 4 * j < head_dim ? *(const uint64_t *)at : 0;
        }
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            if (c + 4 * j < head_dim) {
                struct words4 w = load_words(q + c + 4 * j);
                UNROLL
                for (uint32_t i = 0; i < 4; i++) {
                    float k = half_to_float((uint16_t)(raw[j] >> 16 * i));
                    lane[j % 4 * 4 + i] += float_of(w.w[i]) * k;
                }
            }
        }
    }
}

/* The dot of a query, which stands at a multiple of 16 bytes where it is whole fours, and a key. */
THREAD_FN float score(const struct cuda_heads *h, float scale, const float *q, const char *key)
{
    uint32_t type = h->kv_f16 ? CUDA_F16 : CUDA_F32;
    int aligned = h->head_dim % 16 == 0;
    float lane[CUDA_LANES];
    UNROLL
    for (uint32_t j = 0; j < CUDA_LANES; j++) {
        lane[j] = 0.0f;
    }
    if (aligned && h->kv_f16) {
        half_lanes(q, key, h->head_dim, lane);
        return sum_lanes(lane) * scale;
    }
    if (h->head_dim % 4 == 0 && h->kv_f16) {
        half_lanes_by_four(q, key, h->head_dim, lane);
        return sum_lanes(lane) * scale;
    }
    for (uint32_t c = 0; c < h->head_dim; c += CUDA_LANES) {
        UNROLL
        for (uint32_t half = 0; half < CUDA_LANES; half += 8) {
            float k[8];
            load_eight(type, key, c + half, h->head_dim, aligned, k);
            UNROLL
            for (uint32_t j = 0; j < 8; j++) {
                if (c + half + j < h->head_dim) {
                    lane[half + j] += q[c + half + j] * k[j];
                }
            }
        }
    }
    return sum_lanes(lane) * scale;
}

/* Column c of the values, weighted, by ascending position; sixteen loads are on their way at once.
 * at: of position 0, in elements. */
THREAD_FN float weighted_values(uint32_t type, const float *scores, uint32_t n_kv,
                                const void *cache, uint64_t at, uint32_t apart)
{
    float acc = 0.0f;
    uint32_t p = 0;
    for (; p + 16 <= n_kv; p += 16) {
        float v[16];
        UNROLL
        for (uint32_t j = 0; j < 16; j++) {
            v[j] = value_at(type, cache, at + (uint64_t)(p + j) * apart);
        }
        UNROLL
        for (uint32_t j = 0; j < 16; j++) {
            acc += scores[p + j] * v[j];
        }
    }
    for (; p < n_kv; p++) {
        acc += scores[p] * value_at(type, cache, at + (uint64_t)p * apart);
    }
    return acc;
}

/* Scores of positions 0..n_kv-1, then exp(score - largest); returns the sum of those. at: of the
 * first key, in elements. */
BLOCK_FN float softmax(BLOCK, const struct cuda_attend_args *a, const struct attend_space *s,
                       uint32_t n_kv, uint64_t at)
{
    const struct cuda_heads *h = &a->heads;
    uint32_t element = h->kv_f16 ? 2 : 4;
    const char *keys = (const char *)h->k_cache + at * element;
    FOR_THREADS(t)
    {
        uint32_t most = 0;
        for (uint32_t p = t; p < n_kv; p += N_THREADS) {
            float x = score(h, a->scale, s->q, keys + (uint64_t)p * h->head_dim * element);
            uint32_t order = float_order(bits_of(x));
            s->scores[p] = x;
            most = order > most ? order : most;
        }
        shared_max(s->max, most);
    }
    BARRIER();
    float max = float_of_order(*s->max);
    FOR_THREADS(t)
    {
        for (uint32_t p = t; p < n_kv; p += N_THREADS) {
            s->scores[p] = exp_f32(s->scores[p] - max);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < CUDA_LANES) {
            float sum = 0.0f;
            for (uint32_t p = t; p < n_kv; p += CUDA_LANES) {
                sum += s->scores[p];
            }
            s->lanes[t] = sum;
        }
    }
    BARRIER();
    return sum_lanes(s->lanes);
}

BLOCK_FN void k_attend(BLOCK, const struct cuda_attend_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    const struct cuda_heads *h = &a->heads;
    struct attend_space s = attend_space_at(BLOCK_SHARED, h->head_dim);
    uint32_t tok = a->first + BLOCK_Y, n_kv = a->rows[tok].pos + 1;
    uint32_t kv_head = BLOCK_X / (h->n_head / h->n_head_kv);
    float *q = a->q + ((uint64_t)tok * h->n_head + BLOCK_X) * h->head_dim;
    if (a->scores) {
        s.scores = a->scores + ((uint64_t)BLOCK_Y * h->n_head + BLOCK_X) * a->stride;
    }
    FOR_THREADS(t)
    {
        if (t == 0) {
            *s.max = 0;
        }
        for (uint32_t i = t; i < h->head_dim; i += N_THREADS) {
            s.q[i] = q[i];
        }
    }
    BARRIER();
    uint64_t head = cache_at(h, a->rows[tok].seq, kv_head, 0);
    float sum = softmax(SAME_BLOCK, a, &s, n_kv, head);
    FOR_THREADS(t)
    {
        for (uint32_t c = t; c < h->head_dim; c += N_THREADS) {
            /* The type is a constant in each of the calls, so that its loads can be gathered. */
            float acc =
                h->kv_f16
                    ? weighted_values(CUDA_F16, s.scores, n_kv, h->v_cache, head + c, h->head_dim)
                    : weighted_values(CUDA_F32, s.scores, n_kv, h->v_cache, head + c, h->head_dim);
            q[c] = acc / sum;
        }
    }
}

/* ---- heads that share their keys ---- */

#define GROUP CUDA_ATTEND_GROUP

/* Shared: the queries, 16 lanes of each, the largest score of each, scores by position. */
struct group_space {
    float *q;     /* [GROUP][head_dim] */
    float *lanes; /* [GROUP][CUDA_LANES] */
    uint32_t *max;
    float *scores; /* [positions][GROUP] */
};

/* The lanes of a group's dots with a key of 16-bit floats, whose length is whole 16s; four loads
 * are on their way at once. */
THREAD_FN void group_lanes(const float *q, const char *key, uint32_t head_dim,
                           float lane[GROUP][CUDA_LANES])
{
    for (uint32_t c = 0; c < head_dim; c += 32) {
        struct words4 raw[4];
        UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            raw[j] = c + 8 * j < head_dim ? load_words(key + (c + 8 * j) * 2) : no_words();
        }
        UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            float k[8];
            unpack_eight(CUDA_F16, &raw[j], k);
            UNROLL
            for (uint32_t g = 0; g < GROUP && c + 8 * j < head_dim; g++) {
                meet_eight(q + g * head_dim + c + 8 * j, k, lane[g] + j % 2 * 8);
            }
        }
    }
}

/* As softmax, of each query of the group; the sums are those of the lanes. */
BLOCK_FN void group_softmax(BLOCK, const struct cuda_attend_args *a, const struct group_space *s,
                            uint32_t n_kv, const char *keys)
{
    uint32_t head_dim = a->heads.head_dim;
    FOR_THREADS(t)
    {
        uint32_t most[GROUP] = {0, 0, 0, 0};
        for (uint32_t p = t; p < n_kv; p += N_THREADS) {
            float lane[GROUP][CUDA_LANES];
            UNROLL
            for (uint32_t i = 0; i < GROUP * CUDA_LANES; i++) {
                lane[i / CUDA_LANES][i % CUDA_LANES] = 0.0f;
            }
            group_lanes(s->q, keys + (uint64_t)p * head_dim * 2, head_dim, lane);
            UNROLL
            for (uint32_t g = 0; g < GROUP; g++) {
                float x = sum_lanes(lane[g]) * a->scale;
                uint32_t order = float_order(bits_of(x));
                s->scores[p * GROUP + g] = x;
                most[g] = order > most[g] ? order : most[g];
            }
        }
        UNROLL
        for (uint32_t g = 0; g < GROUP; g++) {
            shared_max(s->max + g, most[g]);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        float max = float_of_order(s->max[t % GROUP]);
        for (uint32_t i = t; i < n_kv * GROUP; i += N_THREADS) {
            s->scores[i] = exp_f32(s->scores[i] - max);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < CUDA_LANES * GROUP) {
            uint32_t g = t % GROUP, lane = t / GROUP;
            float sum = 0.0f;
            for (uint32_t p = lane; p < n_kv; p += CUDA_LANES) {
                sum += s->scores[p * GROUP + g];
            }
            s->lanes[g * CUDA_LANES + lane] = sum;
        }
    }
    BARRIER();
}

/* One position more: its value by the weights of the group. */
THREAD_FN void group_add(float acc[GROUP], const float *scores, float v)
{
    struct words4 w = load_words(scores);
    UNROLL
    for (uint32_t g = 0; g < GROUP; g++) {
        acc[g] += float_of(w.w[g]) * v;
    }
}

/* As weighted_values, of each query of the group. */
THREAD_FN void group_values(const float *scores, uint32_t n_kv, const uint16_t *values,
                            uint32_t apart, float acc[GROUP])
{
    uint32_t p = 0;
    for (; p + 16 <= n_kv; p += 16) {
        uint16_t v[16];
        UNROLL
        for (uint32_t j = 0; j < 16; j++) {
            v[j] = values[(uint64_t)(p + j) * apart];
        }
        UNROLL
        for (uint32_t j = 0; j < 16; j++) {
            group_add(acc, scores + (p + j) * GROUP, half_to_float(v[j]));
        }
    }
    for (; p < n_kv; p++) {
        group_add(acc, scores + p * GROUP, half_to_float(values[(uint64_t)p * apart]));
    }
}

/* Block (b, t): heads of one group of token t; keys and values of 16 bits. Past the last head of a
 * group the last one stands in. */
BLOCK_FN void k_attend_group(BLOCK, const struct cuda_attend_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    const struct cuda_heads *h = &a->heads;
    uint32_t of_group = h->n_head / h->n_head_kv, pieces = (of_group + GROUP - 1) / GROUP;
    uint32_t kv_head = BLOCK_X / pieces, first = BLOCK_X % pieces * GROUP;
    uint32_t n = min_u32(of_group - first, GROUP), n_kv = a->rows[BLOCK_Y].pos + 1;
    float *q = a->q + ((uint64_t)BLOCK_Y * h->n_head + kv_head * of_group + first) * h->head_dim;
    uint64_t head = cache_at(h, a->rows[BLOCK_Y].seq, kv_head, 0);
    struct group_space s;
    s.q = (float *)(void *)BLOCK_SHARED;
    s.lanes = s.q + GROUP * h->head_dim;
    s.max = (uint32_t *)(void *)(s.lanes + GROUP * CUDA_LANES);
    s.scores = (float *)(void *)(s.max + GROUP);
    FOR_THREADS(t)
    {
        if (t < GROUP) {
            s.max[t] = 0;
        }
        for (uint32_t i = t; i < GROUP * h->head_dim; i += N_THREADS) {
            s.q[i] = q[min_u32(i / h->head_dim, n - 1) * h->head_dim + i % h->head_dim];
        }
    }
    BARRIER();
    group_softmax(SAME_BLOCK, a, &s, n_kv, (const char *)h->k_cache + head * 2);
    FOR_THREADS(t)
    {
        for (uint32_t c = t; c < h->head_dim; c += N_THREADS) {
            float acc[GROUP] = {0, 0, 0, 0};
            group_values(s.scores, n_kv, (const uint16_t *)h->v_cache + head + c, h->head_dim, acc);
            UNROLL
            for (uint32_t g = 0; g < GROUP; g++) {
                if (g < n) {
                    q[g * h->head_dim + c] = acc[g] / sum_lanes(s.lanes + g * CUDA_LANES);
                }
            }
        }
    }
}

#endif
