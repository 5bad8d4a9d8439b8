/* The scores of many inputs of a screened head, by int8 tensor cores (8.0 and later).
 *
 * A block is eight warps. A warp unpacks 16 rows, once for all inputs of the block, and multiplies
 * them with the two 8-bit rows of each input: eight columns of `mma` are four inputs. A slice is a
 * block of the copy, 256 columns. The next slice of the inputs is on its way to shared memory, and
 * that of the rows to the threads that unpack it, while one is multiplied. */
#ifndef BNT_CUDA_KERNELS_SCREEN_MANY_H
#define BNT_CUDA_KERNELS_SCREEN_MANY_H

#include "engine/cuda/kernels_screen.h"

#define MANY_TILES (CUDA_MANY_INPUTS / 4)

/* Where 16 bytes of a row of an input lie in a slice: two rows that are read at once meet different
 * banks. */
THREAD_FN uint32_t many_place(uint32_t q_row, uint32_t at)
{
    return q_row * 256 + (at ^ q_row % 2 * 4) * 16;
}

/* Send a slice of both rows of the block's inputs on its way. */
BLOCK_FN void many_send(BLOCK, const struct cuda_screen_score_args *a, uint32_t slice)
{
    unsigned char *to = BLOCK_SHARED + slice % 2 * CUDA_MANY_SLICE;
    if (slice == a->stride / 256) {
        return;
    }
    FOR_THREADS(t)
    {
        const uint32_t row = t / 16, first = BLOCK_Y * CUDA_MANY_INPUTS * 2 + row, apart = 16;
        const int8_t *from = a->q + (uint64_t)first * a->stride + slice * 256 + t % 16 * 16;
        UNROLL
        for (uint32_t j = 0; j < CUDA_MANY_INPUTS * 2; j += apart) {
            int wanted = first + j < 2 * a->n;
            send_words(to + many_place(row + j, t % 16),
                       wanted ? from + (uint64_t)j * a->stride : a->q, wanted);
        }
    }
    END_COPIES();
}

/* The rows of a thread, and its piece of the next slice of each. */
struct many_rows {
    const uint8_t *at[2];
    struct screen_piece next[2];
};

/* Rows past the last one are the last one, which nobody asks for. */
BLOCK_FN void many_begin(BLOCK, const struct cuda_screen_score_args *a, struct many_rows (*rows)[1],
                         int32_t (*sum)[4 * MANY_TILES])
{
    FOR_THREADS(t)
    {
        uint32_t r = BLOCK_X * CUDA_MANY_ROWS + t / 32 * 16 + t % 32 / 4;
        UNROLL
        for (uint32_t i = 0; i < 2; i++) {
            const uint8_t *at =
                a->codes + (uint64_t)min_u32(r + 8 * i, a->n_rows - 1) * a->row_bytes;
            MINE(rows, t)->next[i] = screen_piece_at(at, t % 4);
            MINE(rows, t)->at[i] = at;
        }
        UNROLL
        for (uint32_t i = 0; i < 4 * MANY_TILES; i++) {
            MINE(sum, t)[i] = 0;
        }
    }
}

/* Unpack two groups of a thread's rows, and ask for the same of slice `then`. */
THREAD_FN void many_unpack(const struct cuda_screen_score_args *a, uint32_t t, uint32_t pair,
                           uint32_t then, struct many_rows *rows, uint32_t (*codes)[2][4])
{
    uint32_t there = min_u32(then, a->stride / 256 - 1) * SCREEN_BLOCK_BYTES;
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        struct screen_piece *p = &rows->next[i];
        screen_unpack(a->levels, p, t % 4, pair, codes[i]);
        p->codes[pair] = screen_codes_at(rows->at[i] + there, t % 4, pair);
        if (pair == 1) {
            p->signs = screen_signs_at(rows->at[i] + there, t % 4);
        }
    }
}

/* Multiply one group of a slice, unpacked, with all inputs. The order of its 64 columns is that of
 * the threads, for rows and inputs alike: a thread has four words of each. */
BLOCK_FN void many_group(BLOCK, const unsigned char *q, uint32_t group, uint32_t (*first)[4],
                         uint32_t (*second)[4], int32_t (*sum)[4 * MANY_TILES])
{
    KEEP(uint32_t, b, 2);
    KEEP(uint32_t, b1, 2);
    UNROLL
    for (uint32_t tile = 0; tile < MANY_TILES; tile++) {
        FOR_THREADS(t)
        {
            struct words4 x = load_words(q + many_place(tile * 8 + t % 32 / 4, group * 4 + t % 4));
            MINE(b, t)[0] = x.w[0];
            MINE(b, t)[1] = x.w[1];
            MINE(b1, t)[0] = x.w[2];
            MINE(b1, t)[1] = x.w[3];
        }
        MMA(sum, tile * 4, first, b, N_THREADS);
        MMA(sum, tile * 4, second, b1, N_THREADS);
    }
}

/* Multiply a slice that is there. */
BLOCK_FN void many_multiply(BLOCK, const struct cuda_screen_score_args *a, uint32_t slice,
                            struct many_rows (*rows)[1], int32_t (*sum)[4 * MANY_TILES])
{
    const unsigned char *q = BLOCK_SHARED + slice % 2 * CUDA_MANY_SLICE;
    KEEP(uint32_t, codes, 16); /* of two rows, two groups, four words */
    KEEP(uint32_t, first, 4);
    KEEP(uint32_t, second, 4);
    UNROLL
    for (uint32_t pair = 0; pair < 2; pair++) {
        FOR_THREADS(t)
        {
            many_unpack(a, t, pair, slice + 1, MINE(rows, t),
                        (uint32_t(*)[2][4])(void *)MINE(codes, t));
        }
        UNROLL
        for (uint32_t g = 0; g < 2; g++) {
            FOR_THREADS(t)
            {
                UNROLL
                for (uint32_t i = 0; i < 4; i++) { /* rows by turns, words of a row two apart */
                    const uint32_t *row = MINE(codes, t) + i % 2 * 8 + g * 4;
                    MINE(first, t)[i] = row[i / 2];
                    MINE(second, t)[i] = row[2 + i / 2];
                }
            }
            many_group(SAME_BLOCK, q, 2 * pair + g, first, second, sum);
        }
    }
}

/* Shared, when slices are read no more: scores of each input, the best row of each. */
THREAD_FN float *many_scores(unsigned char *shared, uint32_t input)
{
    return (float *)(void *)shared + input * CUDA_MANY_APART;
}

/* Sums become scores: a thread has those of two rows and one input of every four. */
BLOCK_FN void many_finish(BLOCK, const struct cuda_screen_score_args *a,
                          int32_t (*sum)[4 * MANY_TILES])
{
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t i = 0; i < 2 * MANY_TILES; i++) {
            uint32_t input = i / 2 * 4 + t % 4, row = t / 32 * 16 + t % 32 / 4 + i % 2 * 8;
            uint32_t r = BLOCK_X * CUDA_MANY_ROWS + row;
            const int32_t *mine = MINE(sum, t) + i / 2 * 4 + i % 2 * 2;
            if (BLOCK_Y * CUDA_MANY_INPUTS + input < a->n && r < a->n_rows) {
                many_scores(BLOCK_SHARED, input)[row] = screen_finish(
                    a, a->in + BLOCK_Y * CUDA_MANY_INPUTS + input, r, mine[0], mine[1]);
            }
        }
    }
}

/* The scores of the block go up, with the best row of each input. */
BLOCK_FN void many_store(BLOCK, const struct cuda_screen_score_args *a)
{
    const uint32_t n_tops = (a->n_rows + CUDA_MANY_ROWS - 1) / CUDA_MANY_ROWS;
    uint64_t *top = (uint64_t *)(void *)many_scores(BLOCK_SHARED, CUDA_MANY_INPUTS);
    const uint32_t first = BLOCK_Y * CUDA_MANY_INPUTS;
    FOR_THREADS(t)
    {
        for (uint32_t i = t / 32; i < CUDA_MANY_INPUTS && first + i < a->n; i += N_THREADS / 32) {
            uint64_t key = 0;
            UNROLL
            for (uint32_t row = t % 32; row < CUDA_MANY_ROWS; row += 32) {
                uint32_t r = BLOCK_X * CUDA_MANY_ROWS + row;
                if (r < a->n_rows) {
                    float score = many_scores(BLOCK_SHARED, i)[row];
                    uint64_t of_row = candidate_key(score, (int32_t)r);
                    a->near[(uint64_t)(first + i) * a->n_rows + r] = score;
                    key = of_row > key ? of_row : key;
                }
            }
            shared_max64(&top[i], key);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < CUDA_MANY_INPUTS && first + t < a->n) {
            a->tops[(first + t) * n_tops + BLOCK_X] = candidate_of(top[t]);
        }
    }
}

BLOCK_FN void k_screen_many(BLOCK, const struct cuda_screen_score_args *a)
{
    KEEP(struct many_rows, rows, 1);
    KEEP(int32_t, sum, 4 * MANY_TILES);
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    many_send(SAME_BLOCK, a, 0);
    many_begin(SAME_BLOCK, a, rows, sum);
    for (uint32_t slice = 0; slice < a->stride / 256; slice++) {
        COPIES_LEFT(0);
        BARRIER(); /* the slice is there, and the one before it is read no more */
        many_send(SAME_BLOCK, a, slice + 1);
        many_multiply(SAME_BLOCK, a, slice, rows, sum);
    }
    COPIES_LEFT(0);
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < CUDA_MANY_INPUTS) {
            ((uint64_t *)(void *)many_scores(BLOCK_SHARED, CUDA_MANY_INPUTS))[t] = 0;
        }
    }
    many_finish(SAME_BLOCK, a, sum);
    BARRIER();
    many_store(SAME_BLOCK, a);
}

#endif
