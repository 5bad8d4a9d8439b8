/* Threads and shared memory of launches, in one place for the host; kernels_*.h lay that memory
 * out. */
#ifndef BNT_CUDA_LAUNCH_SHAPE_H
#define BNT_CUDA_LAUNCH_SHAPE_H

#include "engine/cuda/kernel_args.h"

#define CUDA_SHARED_MAX (48u * 1024) /* what every device gives without asking */

#define CUDA_ROW_BYTES(n) (CUDA_ROW_FLOATS(n) * 4u + CUDA_LANES * 4u + 16u)
#define CUDA_NORM_THREADS 256u
/* Rows of a block of a step, CUDA_STEP_GROUP threads each: as many as norm a row quickly enough,
 * and as many as can have 72 registers each. */
#define CUDA_STEP_LEAST 16u
#define CUDA_STEP_MOST 56u
/* Words of a row's parts, with one between two rows: those who add them up meet different banks. */
#define CUDA_STEP_APART (CUDA_STEP_GROUP + 1u)
#define CUDA_STEP_BYTES_OF_ROW (8u * CUDA_STEP_APART)
#define CUDA_STEP_BYTES(n, row_bytes, rows)                                                        \
    (CUDA_ROW_BYTES(n) + 4u * (row_bytes) + (rows)*CUDA_STEP_BYTES_OF_ROW)
#define CUDA_FLOAT_ROWS 64u /* two threads each */
#define CUDA_FLOAT_TILE(n) ((n) < CUDA_TILE ? ((n) + 15u) / 16u * 16u : CUDA_TILE)
#define CUDA_FLOAT_BYTES(n) (CUDA_FLOAT_TILE(n) * 4u + CUDA_FLOAT_ROWS * CUDA_LANES * 4u)
#define CUDA_FEW_FLOAT_ROWS 16384u
#define CUDA_LANE_THREADS 256u /* a lane of 16 rows */
#define CUDA_FLOAT_MANY_BYTES                                                                      \
    (CUDA_FLOAT_TOKENS * CUDA_FLOAT_PART * 4u + CUDA_FLOAT_ROWS * CUDA_LANES * 4u)
#define CUDA_MMA_THREADS 128u
/* Where the two words of a thread of a warp lie in staged rows of 32 bytes: those of the 16 threads
 * that are served together meet different banks. */
#define CUDA_MMA_PLACE(row, lane) ((row)*32u + (lane) % 4u * 8u)
/* Where the sum of a row and a token lies, and words of them all: tokens of neighbouring threads
 * begin eight banks apart. */
#define CUDA_MMA_SUM(row_groups, row, tok) ((tok) * ((row_groups)*32u + 4u) + (row))
#define CUDA_MMA_PART(row_groups, tiles) CUDA_MMA_SUM(row_groups, 0u, (tiles)*8u)
/* 32 bytes of the rows of so many warps, and of four planes of so many eights of tokens; slices
 * that are filled together begin at different banks. */
#define CUDA_MMA_SLICE(row_groups, tiles) (((row_groups) + (tiles)) * 32u * 32u + 32u)
#define CUDA_MMA_STAGES 3u
#define CUDA_FEW_STAGES 2u
#define CUDA_MMA_BYTES (CUDA_MMA_STAGES * CUDA_MMA_SLICE(4u, CUDA_MMA_TILES))
#define CUDA_FEW_BYTES (CUDA_FEW_STAGES * 4u * CUDA_MMA_SLICE(1u, CUDA_FEW_TILES))
#define CUDA_PICK_BYTES ((CUDA_PICK_SPAN + 2u) * 8u)
#define CUDA_DRAW_BYTES (2u * CUDA_PICK_MAX * 8u + 16u)
/* A row, its lengths summed by halves, two 8-bit rows are elsewhere. */
#define CUDA_SCREEN_INPUT_BYTES(n) (CUDA_ROW_BYTES(n) + CUDA_NORM_THREADS * 24u)
#define CUDA_SCREEN_THREADS (CUDA_SCREEN_ROWS / 2 * CUDA_SCREEN_GROUP)
/* Blocks of 256 activations lie 320 bytes apart, so that the threads of a row meet different banks.
 */
#define CUDA_SCREEN_APART 320u
#define CUDA_SCREEN_SCORE_BYTES(stride)                                                            \
    (2u * ((stride) / 256u * CUDA_SCREEN_APART) + 4u * CUDA_SCREEN_THREADS * 4u + 16u)
#define CUDA_MANY_THREADS (CUDA_MANY_ROWS * 2u) /* a warp for 16 rows */
/* 256 columns of both rows of each input. */
#define CUDA_MANY_SLICE (CUDA_MANY_INPUTS * 2u * 256u)
/* Floats between the scores of two inputs: the threads that write at once meet different banks. */
#define CUDA_MANY_APART (CUDA_MANY_ROWS + 8u)
#define CUDA_SCREEN_MANY_BYTES (2u * CUDA_MANY_SLICE)
#define CUDA_FULL_THREADS 256u
#define CUDA_FULL_ROWS (CUDA_FULL_THREADS / CUDA_LANES)
#define CUDA_SCREEN_FULL_BYTES(n)                                                                  \
    (CUDA_ROW_FLOATS(n) * 4u + CUDA_FULL_THREADS * 4u +                                            \
     CUDA_FULL_THREADS * CUDA_FULL_TOGETHER * 8u + 16u)
#define CUDA_ATTEND_BYTES(head_dim, n_scores) (((head_dim) + CUDA_LANES + 4u + (n_scores)) * 4u)
/* Positions are whole 16s of a group's scores. */
#define CUDA_GROUP_BYTES(head_dim, n_scores)                                                       \
    (CUDA_ATTEND_GROUP * 4u * ((head_dim) + CUDA_LANES + 1u + (n_scores)))
#define CUDA_SCORE_THREADS 128u
#define CUDA_WEIGH_THREADS 256u
/* Stages and scores, products, weights, lanes, a word and three unused. */
#define CUDA_VALUES_BYTES                                                                          \
    (CUDA_WEIGH_STAGES * (CUDA_WEIGH_STAGE_BYTES + CUDA_WEIGH_MOST * 4u) +                         \
     (2u * (CUDA_WEIGH_COLS * CUDA_WEIGH_APART + CUDA_WEIGH_MOST) + CUDA_LANES + 4u) * 4u)
/* Behind those a query, a key, and scores. */
#define CUDA_ONE_BYTES(head_dim, n_scores) (CUDA_VALUES_BYTES + (2u * (head_dim) + (n_scores)) * 4u)
#define CUDA_SCORES_BYTES(head_dim)                                                                \
    (((CUDA_ATTEND_GROUP + 1u) * (head_dim) + CUDA_ATTEND_GROUP) * 4u)

#endif
