/* Products of ternary weights with many tokens, by int8 tensor cores.
 *
 * A block is four warps. A warp multiplies 32 rows by all tokens of the block over slices of 128
 * columns: 32 bytes of each row of weights and of each plane of each token. The warps share out
 * rows, or, where there are too few rows for the device, the slices. Slices come to shared memory
 * some stages ahead of the one that is multiplied. */
#ifndef BNT_CUDA_KERNELS_MMA_H
#define BNT_CUDA_KERNELS_MMA_H

#include "engine/cuda/kernels_product.h"

struct mma_shape {
    uint32_t row_groups, k_groups; /* warps along rows and along slices: 4 in all */
    uint32_t tiles;                /* of eight tokens */
    uint32_t stages;
};
#define MMA_SUMS (8u * CUDA_MMA_TILES) /* of a thread at most: four of 16 rows by 8 tokens */

THREAD_FN uint32_t mma_slice_bytes(const struct mma_shape *sh)
{
    return CUDA_MMA_SLICE(sh->row_groups, sh->tiles);
}

/* Row i of all that the blocks count: matrices laid end to end or, gated, 16 rows of the first and
 * the same of the second by turns. NULL: past the last one. *r: the row of that matrix. */
THREAD_FN const struct cuda_matrix *mma_row(const struct cuda_ternary_args *a, uint32_t i,
                                            uint32_t *r)
{
    if (a->gated) {
        *r = i / 32 * 16 + i % 16;
        return *r < a->m[0].rows ? &a->m[i / 16 % 2] : 0;
    }
    uint32_t k = 0;
    while (k < a->n_matrices && i >= a->m[k].rows) {
        i -= a->m[k].rows;
        k++;
    }
    *r = i;
    return k < a->n_matrices ? &a->m[k] : 0;
}

/* What a thread sends of every stage: 16 bytes of some rows of weights, and of each plane of some
 * tokens, all at the same place of their row. bytes: of those there are, 0 where there is none. */
struct mma_source {
    const uint8_t *rows[2];
    const int8_t *tokens[2];
    uint32_t row_bytes[2], token_bytes[2];
};

/* Rows that the threads of a block send at once, and tokens of a block for each thread. */
THREAD_FN uint32_t mma_apart(const struct mma_shape *sh)
{
    return CUDA_MMA_THREADS / (2 * sh->k_groups);
}

THREAD_FN uint32_t mma_tokens(const struct mma_shape *sh)
{
    return sh->tiles * 8 / mma_apart(sh);
}

BLOCK_FN void mma_sources(BLOCK, const struct cuda_ternary_args *a, const struct mma_shape *sh,
                          struct mma_source (*from)[1])
{
    FOR_THREADS(t)
    {
        struct mma_source *s = MINE(from, t);
        uint32_t i = t / (2 * sh->k_groups);
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            uint32_t r = 0;
            const struct cuda_matrix *m =
                mma_row(a, BLOCK_X * sh->row_groups * 32 + i + j * mma_apart(sh), &r);
            s->rows[j] = m ? m->codes + (uint64_t)r * a->row_bytes : (const uint8_t *)a->q;
            s->row_bytes[j] = m ? a->row_bytes : 0;
        }
        UNROLL
        for (uint32_t j = 0; j < mma_tokens(sh); j++) {
            uint32_t tok = BLOCK_Y * sh->tiles * 8 + i + j * mma_apart(sh);
            s->tokens[j] = a->q + (tok < a->n ? (uint64_t)tok * PLANES * a->row_bytes : 0);
            s->token_bytes[j] = tok < a->n ? a->row_bytes : 0;
        }
    }
}

/* Send a stage on its way: whole slices of the block's rows and tokens. */
BLOCK_FN void mma_stage(BLOCK, const struct cuda_ternary_args *a, const struct mma_shape *sh,
                        uint32_t stage, struct mma_source (*from)[1])
{
    uint32_t pieces = 2 * sh->k_groups, slice = mma_slice_bytes(sh), apart = mma_apart(sh) * 32;
    unsigned char *to = BLOCK_SHARED + stage % sh->stages * sh->k_groups * slice;
    if (stage * 16 * pieces >= a->row_bytes) {
        END_COPIES(); /* stages are counted by these */
        return;
    }
    FOR_THREADS(t)
    {
        const struct mma_source *s = MINE(from, t);
        uint32_t at = stage * 16 * pieces + t % pieces * 16;
        unsigned char *w = to + t % pieces / 2 * slice + t / pieces * 32 + t % 2 * 16;
        unsigned char *q = w + sh->row_groups * 32 * 32;
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            send_words(w + j * apart, s->rows[j] + at, at < s->row_bytes[j]);
        }
        UNROLL
        for (uint32_t j = 0; j < PLANES * mma_tokens(sh); j++) {
            uint32_t k = j % mma_tokens(sh);
            const int8_t *plane = s->tokens[k] + j / mma_tokens(sh) * a->row_bytes;
            send_words(q + j * apart, plane + at, at < s->token_bytes[k]);
        }
    }
    END_COPIES();
}

/* Two words of a thread of a staged row. The 32 bytes of a row meet those of another one in any
 * order that is the same for both: a thread's two words lie together. */
THREAD_FN void mma_words(const unsigned char *rows, uint32_t row, uint32_t lane, uint32_t *first,
                         uint32_t *second)
{
    uint64_t both = *(const uint64_t *)(const void *)(rows + CUDA_MMA_PLACE(row, lane));
    *first = (uint32_t)both;
    *second = (uint32_t)(both >> 32);
}

/* The four words of a thread for 16 rows from row0 of a slice on. */
THREAD_FN void mma_weights(const unsigned char *w, uint32_t row0, uint32_t lane, uint32_t out[4])
{
    mma_words(w, row0 + lane / 4, lane, &out[0], &out[2]);
    mma_words(w, row0 + lane / 4 + 8, lane, &out[1], &out[3]);
}

/* Multiply a stage that is there. */
BLOCK_FN void mma_multiply(BLOCK, const struct mma_shape *sh, uint32_t stage,
                           int32_t (*sum)[MMA_SUMS])
{
    const unsigned char *at =
        BLOCK_SHARED + stage % sh->stages * sh->k_groups * mma_slice_bytes(sh);
    KEEP(uint32_t, raw, 8);
    KEEP(uint32_t, a0, 4);
    KEEP(uint32_t, a1, 4);
    KEEP(uint32_t, b, 2);
    FOR_THREADS(t)
    {
        const unsigned char *w = at + t / 32 / sh->row_groups * mma_slice_bytes(sh);
        uint32_t row0 = t / 32 % sh->row_groups * 32;
        mma_weights(w, row0, t % 32, MINE(raw, t));
        mma_weights(w, row0 + 16, t % 32, MINE(raw, t) + 4);
    }
    UNROLL
    for (uint32_t g = 0; g < PLANES; g++) {
        FOR_THREADS(t)
        {
            UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                MINE(a0, t)[i] = MINE(raw, t)[i] >> (6 - 2 * g) & 0x03030303u;
                MINE(a1, t)[i] = MINE(raw, t)[4 + i] >> (6 - 2 * g) & 0x03030303u;
            }
        }
        UNROLL
        for (uint32_t j = 0; j < sh->tiles; j++) {
            FOR_THREADS(t)
            {
                const unsigned char *q =
                    at + t / 32 / sh->row_groups * mma_slice_bytes(sh) + sh->row_groups * 32 * 32;
                uint32_t row = (g * sh->tiles + j) * 8 + t % 32 / 4;
                mma_words(q, row, t % 32, &MINE(b, t)[0], &MINE(b, t)[1]);
            }
            MMA(sum, j * 4, a0, b, N_THREADS);
            MMA(sum, (sh->tiles + j) * 4, a1, b, N_THREADS);
        }
    }
}

/* ---- sums ---- */

/* All sums of a block to shared memory, those of each slice group apart. */
BLOCK_FN void mma_store(BLOCK, const struct mma_shape *sh, int32_t (*sum)[MMA_SUMS])
{
    int32_t *part = (int32_t *)(void *)BLOCK_SHARED;
    BARRIER(); /* stages are read no more */
    FOR_THREADS(t)
    {
        uint32_t lane = t % 32, row0 = t / 32 % sh->row_groups * 32 + lane / 4;
        int32_t *to = part + t / 32 / sh->row_groups * CUDA_MMA_PART(sh->row_groups, sh->tiles);
        UNROLL
        for (uint32_t i = 0; i < 8 * sh->tiles; i++) {
            uint32_t row = row0 + i / (4 * sh->tiles) * 16 + i % 4 / 2 * 8;
            uint32_t tok = i / 4 % sh->tiles * 8 + lane % 4 * 2 + i % 2;
            to[CUDA_MMA_SUM(sh->row_groups, row, tok)] = MINE(sum, t)[i];
        }
    }
    BARRIER();
}

/* The sum of a row of the block and one of its tokens. */
THREAD_FN int32_t mma_sum(const struct mma_shape *sh, const int32_t *part, uint32_t row,
                          uint32_t tok)
{
    int32_t sum = 0;
    UNROLL
    for (uint32_t k = 0; k < sh->k_groups; k++) {
        sum += part[k * CUDA_MMA_PART(sh->row_groups, sh->tiles) +
                    CUDA_MMA_SUM(sh->row_groups, row, tok)];
    }
    return sum;
}

#define MMA_AHEAD 8u /* tokens of a thread that are read of before the first value is written */

/* Where a thread finishes: row `row` of the block is row r of m; its tokens of the block are i, i +
 * apart and so on. */
struct mma_place {
    struct cuda_matrix m;
    uint32_t row, r, tok0, apart;
};

/* Values of `ahead` tokens. gated: of the row and that 16 further on, which is row r of the other
 * matrix. */
THREAD_FN void mma_values(const struct cuda_ternary_args *a, const struct mma_shape *sh,
                          const int32_t *part, const struct mma_place *p, uint32_t i,
                          uint32_t ahead, int gated)
{
    float was[MMA_AHEAD], scale[MMA_AHEAD];
    int32_t codes[MMA_AHEAD];
    UNROLL
    for (uint32_t j = 0; j < ahead; j++) {
        uint32_t tok = p->tok0 + i + j * p->apart, there = min_u32(tok, a->n - 1);
        was[j] = a->add && tok < a->n ? p->m.y[tok * p->m.stride + p->r] : 0.0f;
        scale[j] = a->scale[there];
        codes[j] = a->sum[there];
    }
    UNROLL
    for (uint32_t j = 0; j < ahead; j++) {
        uint32_t tok = p->tok0 + i + j * p->apart;
        int32_t sum = mma_sum(sh, part, p->row, i + j * p->apart);
        float y = ternary_value(&p->m, p->r, sum - codes[j], scale[j]);
        if (gated) {
            sum = mma_sum(sh, part, p->row + 16, i + j * p->apart);
            y = activate(a->act, y, ternary_value(&a->m[1], p->r, sum - codes[j], scale[j]));
        }
        if (tok < a->n) {
            p->m.y[tok * p->m.stride + p->r] = a->add ? was[j] + y : y;
        }
    }
}

/* What becomes of the sums of a block; threads that follow each other have rows that do. */
BLOCK_FN void mma_finish(BLOCK, const struct cuda_ternary_args *a, const struct mma_shape *sh,
                         int gated)
{
    const int32_t *part = (const int32_t *)(const void *)BLOCK_SHARED;
    const uint32_t rows = sh->row_groups * 32, n = gated ? rows / 2 : rows;
    const uint32_t apart = CUDA_MMA_THREADS / n, count = sh->tiles * 8 / apart;
    const uint32_t ahead = count < MMA_AHEAD ? count : MMA_AHEAD;
    FOR_THREADS(t)
    {
        struct mma_place p;
        p.row = gated ? t % n / 16 * 32 + t % 16 : t % n;
        p.tok0 = BLOCK_Y * sh->tiles * 8;
        p.apart = apart;
        const struct cuda_matrix *m = mma_row(a, BLOCK_X * rows + p.row, &p.r);
        if (m) {
            p.m = *m;
            for (uint32_t k = 0; k < count; k += ahead) {
                mma_values(a, sh, part, &p, t / n + k * apart, ahead, gated);
            }
        }
    }
}

BLOCK_FN void mma_product(BLOCK, const struct cuda_ternary_args *a, const struct mma_shape *sh)
{
    KEEP(int32_t, sum, MMA_SUMS);
    KEEP(struct mma_source, from, 1);
    uint32_t span = 32 * sh->k_groups, n_stages = (a->row_bytes + span - 1) / span;
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t i = 0; i < MMA_SUMS; i++) {
            MINE(sum, t)[i] = 0;
        }
    }
    mma_sources(SAME_BLOCK, a, sh, from);
    for (uint32_t s = 0; s + 1 < sh->stages; s++) {
        mma_stage(SAME_BLOCK, a, sh, s, from);
    }
    for (uint32_t s = 0; s < n_stages; s++) {
        if (sh->stages == CUDA_MMA_STAGES) {
            COPIES_LEFT(CUDA_MMA_STAGES - 2);
        } else {
            COPIES_LEFT(CUDA_FEW_STAGES - 2);
        }
        BARRIER(); /* the stage is there, and the one before it is read no more */
        mma_stage(SAME_BLOCK, a, sh, s + sh->stages - 1, from);
        mma_multiply(SAME_BLOCK, sh, s, sum);
    }
    mma_store(SAME_BLOCK, sh, sum);
    if (a->gated) {
        mma_finish(SAME_BLOCK, a, sh, 1);
    } else {
        mma_finish(SAME_BLOCK, a, sh, 0);
    }
}

BLOCK_FN void k_ternary_mma(BLOCK, const struct cuda_ternary_args *a)
{
    const struct mma_shape sh = {4, 1, CUDA_MMA_TILES, CUDA_MMA_STAGES};
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    mma_product(SAME_BLOCK, a, &sh);
}

BLOCK_FN void k_ternary_few(BLOCK, const struct cuda_ternary_args *a)
{
    const struct mma_shape sh = {1, 4, CUDA_FEW_TILES, CUDA_FEW_STAGES};
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    mma_product(SAME_BLOCK, a, &sh);
}

#endif
