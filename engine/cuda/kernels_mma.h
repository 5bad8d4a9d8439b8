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

/* 16 bytes of a row of weights or of a plane, or zeros past its end and for NULL. */
THREAD_FN void mma_send(const struct cuda_ternary_args *a, unsigned char *to, const void *row,
                        uint32_t at)
{
    int wanted = row && at < a->row_bytes;
    send_words(to, wanted ? (const char *)row + at : (const char *)a->q, wanted);
}

/* Send a stage on its way: whole slices of the block's rows and tokens. rows: of the two pieces of
 * weights that a thread sends. */
BLOCK_FN void mma_stage(BLOCK, const struct cuda_ternary_args *a, const struct mma_shape *sh,
                        uint32_t stage, const uint8_t *(*rows)[2])
{
    uint32_t pieces = 2 * sh->k_groups, slice = mma_slice_bytes(sh), n_tok = sh->tiles * 8;
    uint32_t at = stage * 32 * sh->k_groups;
    unsigned char *w = BLOCK_SHARED + stage % sh->stages * sh->k_groups * slice;
    unsigned char *q = w + sh->row_groups * 32 * 32;
    if (at >= a->row_bytes) {
        END_COPIES(); /* stages are counted by these */
        return;
    }
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            uint32_t i = t + j * CUDA_MMA_THREADS, row = i / pieces, piece = i % pieces;
            mma_send(a, w + piece / 2 * slice + CUDA_MMA_PLACE(row, piece % 2), MINE(rows, t)[j],
                     at + piece * 16);
        }
        UNROLL
        for (uint32_t j = 0; j < n_tok * PLANES * pieces / CUDA_MMA_THREADS; j++) {
            uint32_t i = t + j * CUDA_MMA_THREADS;
            uint32_t row = i / pieces, piece = i % pieces, tok = BLOCK_Y * n_tok + row % n_tok;
            const int8_t *plane =
                tok < a->n ? a->q + ((uint64_t)tok * PLANES + row / n_tok) * a->row_bytes : 0;
            mma_send(a, q + piece / 2 * slice + CUDA_MMA_PLACE(row, piece % 2), plane,
                     at + piece * 16);
        }
    }
    END_COPIES();
}

/* The four words of a thread for 16 rows from row0 of a slice on. */
THREAD_FN void mma_weights(const unsigned char *w, uint32_t row0, uint32_t lane, uint32_t out[4])
{
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t row = row0 + lane / 4 + i % 2 * 8;
        out[i] = *(const uint32_t *)(const void *)(w + CUDA_MMA_PLACE(row, i / 2) + lane % 4 * 4);
    }
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
                const unsigned char *q = at + t / 32 / sh->row_groups * mma_slice_bytes(sh) +
                                         sh->row_groups * 32 * 32 + t % 4 * 4;
                uint32_t row = g * sh->tiles * 8 + j * 8 + t % 32 / 4;
                MINE(b, t)[0] = *(const uint32_t *)(const void *)(q + CUDA_MMA_PLACE(row, 0));
                MINE(b, t)[1] = *(const uint32_t *)(const void *)(q + CUDA_MMA_PLACE(row, 1));
            }
            MMA(sum, j * 4, a0, b, N_THREADS);
            MMA(sum, (sh->tiles + j) * 4, a1, b, N_THREADS);
        }
    }
}

/* What becomes of two sums of a thread, 16 rows apart: rows `row` and row + 16 of all that the
 * blocks count, token tok. */
THREAD_FN void mma_finish(const struct cuda_ternary_args *a, uint32_t row, uint32_t tok,
                          const int32_t codes[2])
{
    uint32_t r = 0;
    const struct cuda_matrix *m = mma_row(a, row, &r);
    if (tok >= a->n || !m) {
        return;
    }
    if (a->gated) {
        float gate = ternary_value(m, r, codes[0] - a->sum[tok], a->scale[tok]);
        float up = ternary_value(&a->m[1], r, codes[1] - a->sum[tok], a->scale[tok]);
        m->y[tok * m->stride + r] = activate(a->act, gate, up);
        return;
    }
    batch_finish(a, m, r, tok, codes[0]);
    m = mma_row(a, row + 16, &r);
    if (m) {
        batch_finish(a, m, r, tok, codes[1]);
    }
}

/* Warps that shared out slices add their sums; then each has its share of them at its first places,
 * those of the first 16 rows before those of the second. */
BLOCK_FN void mma_join(BLOCK, const struct mma_shape *sh, int32_t (*sum)[MMA_SUMS])
{
    int32_t *part = (int32_t *)(void *)BLOCK_SHARED;
    uint32_t n = 8 * sh->tiles, share = n / sh->k_groups;
    BARRIER(); /* stages are read no more */
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t i = 0; i < n; i++) {
            part[i * CUDA_MMA_THREADS + t] = MINE(sum, t)[i];
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t i = 0; i < share; i++) {
            uint32_t half = i / (share / 2), at = half * (n / 2) + t / 32 * (share / 2);
            const int32_t *from = part + (at + i % (share / 2)) * CUDA_MMA_THREADS + t % 32;
            int32_t all = 0;
            UNROLL
            for (uint32_t k = 0; k < sh->k_groups; k++) {
                all += from[k * 32];
            }
            MINE(sum, t)[i] = all;
        }
    }
}

BLOCK_FN void mma_product(BLOCK, const struct cuda_ternary_args *a, const struct mma_shape *sh)
{
    KEEP(int32_t, sum, MMA_SUMS);
    KEEP(const uint8_t *, rows, 2);
    uint32_t span = 32 * sh->k_groups, n_stages = (a->row_bytes + span - 1) / span;
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t i = 0; i < MMA_SUMS; i++) {
            MINE(sum, t)[i] = 0;
        }
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            uint32_t i = (t + j * CUDA_MMA_THREADS) / (2 * sh->k_groups), r = 0;
            const struct cuda_matrix *m = mma_row(a, BLOCK_X * sh->row_groups * 32 + i, &r);
            MINE(rows, t)[j] = m ? m->codes + (uint64_t)r * a->row_bytes : 0;
        }
    }
    for (uint32_t s = 0; s + 1 < sh->stages; s++) {
        mma_stage(SAME_BLOCK, a, sh, s, rows);
    }
    for (uint32_t s = 0; s < n_stages; s++) {
        if (sh->stages == CUDA_MMA_STAGES) {
            COPIES_LEFT(CUDA_MMA_STAGES - 2);
        } else {
            COPIES_LEFT(CUDA_FEW_STAGES - 2);
        }
        BARRIER(); /* the stage is there, and the one before it is read no more */
        mma_stage(SAME_BLOCK, a, sh, s + sh->stages - 1, rows);
        mma_multiply(SAME_BLOCK, sh, s, sum);
    }
    if (sh->k_groups > 1) {
        mma_join(SAME_BLOCK, sh, sum);
    }
    FOR_THREADS(t)
    {
        uint32_t share = 4 * sh->tiles / sh->k_groups, lane = t % 32;
        uint32_t row0 = (BLOCK_X * sh->row_groups + t / 32 % sh->row_groups) * 32 + lane / 4;
        uint32_t first = sh->k_groups > 1 ? t / 32 * share : 0;
        uint32_t tok0 = BLOCK_Y * sh->tiles * 8 + lane % 4 * 2;
        UNROLL
        for (uint32_t i = 0; i < share; i++) {
            int32_t codes[2] = {MINE(sum, t)[i], MINE(sum, t)[share + i]};
            uint32_t at = first + i; /* of the sums of a tile's 16 rows */
            mma_finish(a, row0 + at % 4 / 2 * 8, tok0 + at / 4 * 8 + at % 2, codes);
        }
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
