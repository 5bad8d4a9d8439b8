/* Attention of one query head of one token by a block. The order of every sum is that of
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

/* One token: rotate the query into shared memory, the key on its way into the cache. k and v of the
 * head's group; every block of the group writes the same bytes. */
BLOCK_FN void rotate_and_store(BLOCK, const struct cuda_attend_args *a, float *q, float *key)
{
    uint32_t seq = a->rows->seq, pos = a->rows->pos;
    const struct cuda_heads *h = &a->heads;
    uint32_t kv_head = BLOCK_X / (h->n_head / h->n_head_kv);
    const float *k = a->k + (uint64_t)kv_head * h->head_dim;
    const float *v = a->v + (uint64_t)kv_head * h->head_dim;
    const float *cs = h->cs + (uint64_t)pos * h->n_rot;
    FOR_THREADS(t)
    {
        for (uint32_t i = t; i < h->head_dim; i += N_THREADS) {
            key[i] = k[i];
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        for (uint32_t i = t; i < h->n_rot; i += N_THREADS) {
            rotate_pair(h, cs, i / 2, i % 2 ? key : q);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        uint64_t at = cache_at(h, seq, kv_head, pos);
        for (uint32_t i = t; i < h->head_dim; i += N_THREADS) {
            cache_put(h, h->k_cache, at + i, key[i]);
            cache_put(h, h->v_cache, at + i, v[i]);
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
                UNROLL
                for (uint32_t i = 0; i < 8; i++) {
                    lane[j % 2 * 8 + i] += q[c + 8 * j + i] * k[i];
                }
            }
        }
    }
}

THREAD_FN float score(const struct cuda_attend_args *a, const float *q, const char *key)
{
    const struct cuda_heads *h = &a->heads;
    uint32_t type = h->kv_f16 ? CUDA_F16 : CUDA_F32;
    int aligned = h->head_dim % 16 == 0;
    float lane[CUDA_LANES];
    UNROLL
    for (uint32_t j = 0; j < CUDA_LANES; j++) {
        lane[j] = 0.0f;
    }
    if (aligned && h->kv_f16) {
        half_lanes(q, key, h->head_dim, lane);
        return sum_lanes(lane) * a->scale;
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
    return sum_lanes(lane) * a->scale;
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
            float x = score(a, s->q, keys + (uint64_t)p * h->head_dim * element);
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
        s.scores = a->scores + ((uint64_t)BLOCK_Y * h->n_head + BLOCK_X) * h->n_ctx;
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
    if (a->rotate) {
        BARRIER();
        rotate_and_store(SAME_BLOCK, a, s.q, s.scores);
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

#endif
