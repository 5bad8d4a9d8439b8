/* Kernels over rows of tokens: embedding, norm and quantisation, rotation and storing, activation,
 * and the choice of the best logits. */
#ifndef BNT_CUDA_KERNELS_ROW_H
#define BNT_CUDA_KERNELS_ROW_H

#include "engine/cuda/block_math.h"
#include "engine/cuda/launch_shape.h"

BLOCK_FN void k_embed(BLOCK, const struct cuda_embed_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    const char *row = (const char *)a->table + (uint64_t)a->rows[BLOCK_X].id * a->row_bytes;
    float *x = a->x + (uint64_t)BLOCK_X * a->n_embd;
    FOR_THREADS(t)
    {
        for (uint32_t i = t; i < a->n_embd; i += N_THREADS) {
            x[i] = value_at(a->type, row, i) * a->scale;
        }
    }
}

/* Shared: tile, lanes, two words. n: of the row. */
THREAD_FN struct row_space row_space_at(unsigned char *shared, uint32_t n)
{
    struct row_space s;
    s.tile = (float *)(void *)shared;
    s.lanes = s.tile + CUDA_ROW_FLOATS(n);
    s.max = (uint32_t *)(void *)(s.lanes + CUDA_LANES);
    s.sum = (int32_t *)(void *)(s.max + 2);
    return s;
}

BLOCK_FN void k_norm(BLOCK, const struct cuda_norm_args *a)
{
    KEEP(struct words4, norms, NORM_HELD);
    LET_NEXT_BEGIN();
    fetch_norms(SAME_BLOCK, a->norm, a->n, norms);
    WAIT_PREVIOUS();
    struct row_space s = row_space_at(BLOCK_SHARED, a->n);
    struct row_values v;
    v.x = a->x + BLOCK_X * a->x_stride;
    v.norm = a->norm;
    v.n = a->n;
    norm_row(SAME_BLOCK, &v, a->eps, &s);
    if (a->h) {
        float *h = a->h + BLOCK_X * a->h_stride;
        FOR_THREADS(t)
        {
            for (uint32_t i = t; i < v.n; i += N_THREADS) {
                h[i] = normed(&v, i);
            }
        }
        BARRIER(); /* a row that is held is normed in its place below */
    }
    if (a->q) {
        int8_t *q = a->q + (uint64_t)BLOCK_X * 4 * a->row_bytes;
        float scale = quantize_row(SAME_BLOCK, &v, norms, q, a->row_bytes, &s);
        FOR_THREADS(t)
        {
            if (t == 0) {
                a->scale[BLOCK_X] = scale;
                a->sum[BLOCK_X] = *s.sum;
            }
        }
    }
}

/* ---- rotation and cache ---- */

/* Pair i of a head, by the style of the family. */
THREAD_FN void rotate_pair(const struct cuda_heads *h, const float *cs, uint32_t i, float *head)
{
    float *x = h->neox ? head + i : head + 2 * i;
    float *y = h->neox ? head + i + h->n_rot / 2 : head + 2 * i + 1;
    float c = cs[2 * i], s = cs[2 * i + 1];
    float rotated_x = *x * c - *y * s;
    float rotated_y = *x * s + *y * c;
    *x = rotated_x;
    *y = rotated_y;
}

THREAD_FN void cache_put(const struct cuda_heads *h, void *cache, uint64_t at, float x)
{
    if (h->kv_f16) {
        ((uint16_t *)cache)[at] = float_to_half(x);
    } else {
        ((float *)cache)[at] = x;
    }
}

/* Where head `head` of a sequence keeps position pos, in elements. */
THREAD_FN uint64_t cache_at(const struct cuda_heads *h, uint32_t seq, uint32_t head, uint32_t pos)
{
    return seq * h->seq_stride + ((uint64_t)head * h->n_ctx + pos) * h->head_dim;
}

BLOCK_FN void k_rope(BLOCK, const struct cuda_rope_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    const struct cuda_heads *h = &a->heads;
    uint32_t seq = a->rows[BLOCK_X].seq, pos = a->rows[BLOCK_X].pos, pairs = h->n_rot / 2;
    uint32_t kv_dim = h->n_head_kv * h->head_dim;
    const float *cs = h->cs + (uint64_t)pos * h->n_rot;
    float *q = a->q + (uint64_t)BLOCK_X * h->n_head * h->head_dim;
    float *k = a->k + (uint64_t)BLOCK_X * kv_dim;
    const float *v = a->v + (uint64_t)BLOCK_X * kv_dim;
    FOR_THREADS(t)
    {
        for (uint32_t i = t; i < (h->n_head + h->n_head_kv) * pairs; i += N_THREADS) {
            uint32_t head = i / pairs;
            float *at =
                head < h->n_head ? q + head * h->head_dim : k + (head - h->n_head) * h->head_dim;
            rotate_pair(h, cs, i % pairs, at);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        for (uint32_t i = t; i < kv_dim; i += N_THREADS) {
            uint64_t at = cache_at(h, seq, i / h->head_dim, pos) + i % h->head_dim;
            cache_put(h, h->k_cache, at, k[i]);
            cache_put(h, h->v_cache, at, v[i]);
        }
    }
}

BLOCK_FN void k_act(BLOCK, const struct cuda_act_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    FOR_THREADS(t)
    {
        uint64_t i = (uint64_t)BLOCK_X * N_THREADS + t;
        if (i < a->n) {
            a->gate[i] = activate(a->act, a->gate[i], a->up[i]);
        }
    }
}

/* ---- the best logits ---- */

/* Orders candidates: a higher logit first, then a lower id; 0 for one that cannot be chosen. Both
 * zeros are equal. */
THREAD_FN uint64_t candidate_key(float logit, int32_t id)
{
    uint32_t bits = bits_of(logit);
    if (id < 0 || (bits & 0x7fffffffu) >= BITS_INFINITE) {
        return 0;
    }
    bits = bits == 0x80000000u ? 0 : bits;
    return (uint64_t)float_order(bits) << 32 | (0xffffffffu - (uint32_t)id);
}

/* No candidates from `from` on. */
BLOCK_FN void pick_none(BLOCK, struct cuda_candidate *out, uint32_t from, uint32_t k)
{
    FOR_THREADS(t)
    {
        for (uint32_t i = from + t; i < k; i += N_THREADS) {
            out[i].id = -1;
            out[i].logit = 0.0f;
        }
    }
}

/* Shared: CUDA_PICK_SPAN keys, then the best of the even and of the odd rounds. */
BLOCK_FN void k_pick(BLOCK, const struct cuda_pick_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    uint64_t *key = (uint64_t *)(void *)BLOCK_SHARED, *best = key + CUDA_PICK_SPAN;
    uint32_t n_blocks = (a->n + CUDA_PICK_SPAN - 1) / CUDA_PICK_SPAN;
    uint32_t from = BLOCK_X * CUDA_PICK_SPAN;
    uint32_t len = min_u32(a->n - from, CUDA_PICK_SPAN);
    const float *logits = a->logits + (uint64_t)BLOCK_Y * a->n;
    const struct cuda_candidate *list = a->list ? a->list + (uint64_t)BLOCK_Y * a->n : a->list;
    struct cuda_candidate *chosen = a->out + ((uint64_t)BLOCK_Y * n_blocks + BLOCK_X) * a->k;
    FOR_THREADS(t)
    {
        if (t < 2) {
            best[t] = 0;
        }
        if (t == 0 && BLOCK_X == 0 && BLOCK_Y == 0 && a->counted) {
            a->counted->id = (int32_t)*a->count;
        }
        for (uint32_t i = t; i < len; i += N_THREADS) {
            key[i] = list ? candidate_key(list[from + i].logit, list[from + i].id)
                          : candidate_key(logits[from + i], (int32_t)(from + i));
        }
    }
    for (uint32_t round = 0; round < a->k; round++) {
        BARRIER();
        FOR_THREADS(t)
        {
            uint64_t mine = 0;
            for (uint32_t i = t; i < len; i += N_THREADS) {
                mine = key[i] > mine ? key[i] : mine;
            }
            shared_max64(&best[round % 2], mine);
        }
        BARRIER();
        uint64_t won = best[round % 2];
        if (won == 0) { /* nothing is left */
            pick_none(SAME_BLOCK, chosen, round, a->k);
            return;
        }
        FOR_THREADS(t)
        {
            if (t == 0) {
                best[(round + 1) % 2] = 0;
            }
            for (uint32_t i = t; i < len; i += N_THREADS) {
                if (key[i] == won) {
                    chosen[round].id = list ? list[from + i].id : (int32_t)(from + i);
                    chosen[round].logit = list ? list[from + i].logit : logits[from + i];
                    key[i] = 0;
                }
            }
        }
    }
}

#endif
