/* The launches of products and norms from their arguments: one place for the forward pass, for
 * times of single operations and for tests. Of the host alone. */
#ifndef BNT_CUDA_LAUNCHES_H
#define BNT_CUDA_LAUNCHES_H

#include <stdbool.h>

#include "base/fault.h"
#include "engine/cuda/cuda_table.h"
#include "engine/cuda/launch_shape.h"
#include "engine/tensor_type.h"

#define CUDA_GRID_Y_MAX 65535u

static inline uint32_t launch_pieces(uint64_t n, uint64_t of)
{
    return (uint32_t)((n + of - 1) / of);
}

/* Whether a step takes rows of so many ternary weights: they fit into the memory that a block
 * shares. */
static inline bool launch_step_takes(uint32_t cols)
{
    return CUDA_STEP_BYTES(cols, ternary_row_bytes(cols), CUDA_STEP_LEAST) <= CUDA_SHARED_MAX;
}

/* n_tok rows. */
static inline struct cuda_launch launch_of_norm(const struct cuda_norm_args *a, uint32_t n_tok)
{
    return (struct cuda_launch){.kernel = CUDA_K_NORM,
                                .grid_x = n_tok,
                                .grid_y = 1,
                                .block = CUDA_NORM_THREADS,
                                .shared = CUDA_ROW_BYTES(a->n),
                                .args = a,
                                .args_bytes = sizeof *a};
}

/* Every block norms the input for itself, so there is one for each processor, and each has an equal
 * share of the rows: at once, if so many threads fit into it, or by several rounds of equal length.
 * Sets a->n_blocks. */
static inline struct cuda_launch launch_of_step(struct cuda_step_args *a, uint32_t n_processors)
{
    uint32_t rows = a->m[0].rows;
    for (uint32_t i = 1; i < a->n_matrices && !a->gated; i++) {
        rows += a->m[i].rows;
    }
    uint32_t room = (CUDA_SHARED_MAX - CUDA_STEP_BYTES(a->cols, a->row_bytes, 0u)) /
                    CUDA_STEP_BYTES_OF_ROW / 2 * 2;
    uint32_t most = room < CUDA_STEP_MOST ? room : CUDA_STEP_MOST;
    uint32_t rounds = launch_pieces(rows, (uint64_t)n_processors * most);
    uint32_t each = launch_pieces(rows, 2ull * n_processors * rounds) * 2; /* whole warps */
    each = each < CUDA_STEP_LEAST ? CUDA_STEP_LEAST : each;
    a->n_blocks = launch_pieces(rows, (uint64_t)each * rounds);
    return (struct cuda_launch){.kernel = CUDA_K_STEP,
                                .grid_x = a->n_blocks,
                                .grid_y = 1,
                                .block = each * CUDA_STEP_GROUP,
                                .shared = CUDA_STEP_BYTES(a->cols, a->row_bytes, each),
                                .args = a,
                                .args_bytes = sizeof *a};
}

/* Rows that the blocks of a kernel for tensor cores count, see mma_row of kernels_mma.h. */
static inline uint32_t launch_mma_rows(const struct cuda_ternary_args *a)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < a->n_matrices - BNT_FAULT(cuda_rows_uncounted); i++) {
        rows += a->gated ? (a->m[i].rows + 15) / 16 * 16 : a->m[i].rows;
    }
    return rows;
}

/* The kernel for a product on a device of so many processors: by tensor cores, where it has them
 * for bytes, and in small blocks where large ones would leave half of it idle. */
static inline enum cuda_kernel launch_ternary_kernel(const struct cuda_ternary_args *a,
                                                     const struct cuda_info *on)
{
    uint64_t blocks = (uint64_t)launch_pieces(launch_mma_rows(a), CUDA_MMA_ROWS) *
                      launch_pieces(a->n, CUDA_MMA_TILES * 8);
    return on->major < 8 || a->n <= CUDA_TOKENS ? CUDA_K_TERNARY
           : 2 * blocks < on->n_processors      ? CUDA_K_TERNARY_FEW
                                                : CUDA_K_TERNARY_MMA;
}

static inline struct cuda_launch launch_of_ternary(const struct cuda_ternary_args *a,
                                                   enum cuda_kernel kernel)
{
    bool few = kernel == CUDA_K_TERNARY_FEW;
    struct cuda_launch l = {
        .kernel = kernel,
        .grid_x = launch_pieces(launch_mma_rows(a), few ? CUDA_FEW_ROWS : CUDA_MMA_ROWS),
        .grid_y = launch_pieces(a->n, 8 * (few ? CUDA_FEW_TILES : CUDA_MMA_TILES)),
        .block = CUDA_MMA_THREADS,
        .shared = few ? CUDA_FEW_BYTES : CUDA_MMA_BYTES,
        .args = a,
        .args_bytes = sizeof *a};
    if (kernel == CUDA_K_TERNARY) {
        l.grid_x = launch_pieces(a->m[0].rows, 256 / CUDA_STEP_GROUP);
        l.grid_y = launch_pieces(a->n, CUDA_TOKENS);
        l.block = 256;
        l.shared = 256 * CUDA_TOKENS * 4;
    }
    return l;
}

static inline struct cuda_launch launch_of_float_by(const struct cuda_float_args *a,
                                                    enum cuda_kernel kernel)
{
    struct cuda_launch l = {.kernel = kernel,
                            .grid_x = launch_pieces(a->rows, CUDA_FLOAT_ROWS),
                            .grid_y = a->n,
                            .block = 2 * CUDA_FLOAT_ROWS,
                            .shared = CUDA_FLOAT_BYTES(a->cols),
                            .args = a,
                            .args_bytes = sizeof *a};
    if (kernel == CUDA_K_FLOAT_LANES) {
        l.grid_x = launch_pieces(a->rows, CUDA_LANE_THREADS / CUDA_LANES);
        l.block = CUDA_LANE_THREADS;
    } else if (kernel == CUDA_K_FLOAT_MANY) {
        l.grid_y = l.grid_x;
        l.grid_x = launch_pieces(a->n, CUDA_FLOAT_TOKENS);
        l.shared = CUDA_FLOAT_MANY_BYTES;
    }
    return l;
}

/* A few tokens, one by one, read a matrix that is in the cache of the device; more read it once for
 * eight of them. Two threads to a row keep a device busy where there are many rows. */
static inline struct cuda_launch launch_of_float(const struct cuda_float_args *a)
{
    bool many = a->n > 2 && launch_pieces(a->rows, CUDA_FLOAT_ROWS) < CUDA_GRID_Y_MAX;
    return launch_of_float_by(a, many                            ? CUDA_K_FLOAT_MANY
                                 : a->rows < CUDA_FEW_FLOAT_ROWS ? CUDA_K_FLOAT_LANES
                                                                 : CUDA_K_FLOAT);
}

/* Whether the heads of a group are computed together: some share keys, which are 16 bits in whole
 * 16s, and their scores fit into the memory that a block shares. */
static inline bool launch_groups_fit(const struct cuda_heads *h, uint64_t n_scores)
{
    return h->n_head > h->n_head_kv && h->kv_f16 && h->head_dim % 16 == 0 &&
           CUDA_GROUP_BYTES((uint64_t)h->head_dim, n_scores) <= CUDA_SHARED_MAX;
}

/* One token at a position below n_scores. */
static inline struct cuda_launch launch_of_attend_one(const struct cuda_split_args *a,
                                                      uint32_t n_scores)
{
    const struct cuda_heads *h = &a->heads;
    return (struct cuda_launch){.kernel = CUDA_K_ATTEND_ONE,
                                .grid_x = h->n_head * launch_pieces(h->head_dim, CUDA_WEIGH_COLS),
                                .grid_y = 1,
                                .block = CUDA_WEIGH_THREADS,
                                .shared = CUDA_ONE_BYTES(h->head_dim, n_scores),
                                .args = a,
                                .args_bytes = sizeof *a};
}

/* Heads that k_scores takes together, of all. */
static inline uint32_t launch_score_pieces(const struct cuda_heads *h)
{
    return h->n_head_kv * launch_pieces(h->n_head / h->n_head_kv, CUDA_ATTEND_GROUP);
}

/* Slices of the positions of n tokens: four blocks for each processor, if there is so much to do
 * when the cache is full. */
static inline uint32_t launch_score_slices(const struct cuda_heads *h, uint32_t n,
                                           uint32_t n_processors)
{
    enum { BLOCKS_PER_PROCESSOR = 4 };
    uint32_t positions = CUDA_SCORE_POSITIONS(h->n_head / h->n_head_kv);
    uint32_t wanted = launch_pieces((uint64_t)n_processors * BLOCKS_PER_PROCESSOR,
                                    (uint64_t)launch_score_pieces(h) * n);
    uint32_t most = launch_pieces(h->n_ctx, positions);
    return wanted < most ? wanted : most;
}

/* n tokens. */
static inline struct cuda_launch launch_of_scores(const struct cuda_split_args *a, uint32_t n)
{
    return (struct cuda_launch){.kernel = CUDA_K_SCORES,
                                .grid_x = launch_score_pieces(&a->heads) *
                                          (a->n_slices - BNT_FAULT(cuda_slice_lost)),
                                .grid_y = n,
                                .block = CUDA_SCORE_THREADS,
                                .shared = CUDA_SCORES_BYTES(a->heads.head_dim),
                                .args = a,
                                .args_bytes = sizeof *a};
}

static inline struct cuda_launch launch_of_values(const struct cuda_split_args *a, uint32_t n)
{
    struct cuda_launch l = launch_of_attend_one(a, 0);
    l.kernel = CUDA_K_VALUES;
    l.grid_y = n;
    l.shared = CUDA_VALUES_BYTES;
    return l;
}

/* n rows of a->n entries. */
static inline struct cuda_launch launch_of_pick(const struct cuda_pick_args *a, uint32_t n)
{
    return (struct cuda_launch){.kernel = CUDA_K_PICK,
                                .grid_x = launch_pieces(a->n, CUDA_PICK_SPAN),
                                .grid_y = n,
                                .block = 256,
                                .shared = CUDA_PICK_BYTES,
                                .args = a,
                                .args_bytes = sizeof *a};
}

static inline struct cuda_launch launch_of_draw(const struct cuda_draw_args *a)
{
    return (struct cuda_launch){.kernel = CUDA_K_DRAW,
                                .grid_x = 1,
                                .grid_y = 1,
                                .block = CUDA_PICK_MAX,
                                .shared = CUDA_DRAW_BYTES,
                                .args = a,
                                .args_bytes = sizeof *a};
}

/* ---- a screened head ---- */

/* Whether a head of so many columns can be screened: its input fits into the memory that a block
 * shares. */
static inline bool launch_screen_takes(uint64_t cols)
{
    return cols <= CUDA_ROW_MAX;
}

/* n inputs. */
static inline struct cuda_launch launch_of_screen_input(const struct cuda_screen_input_args *a,
                                                        uint32_t n)
{
    return (struct cuda_launch){.kernel = CUDA_K_SCREEN_INPUT,
                                .grid_x = n,
                                .grid_y = 1,
                                .block = CUDA_NORM_THREADS,
                                .shared = CUDA_SCREEN_INPUT_BYTES(a->n),
                                .args = a,
                                .args_bytes = sizeof *a};
}

/* Rows of a block of the kernel for n inputs. */
static inline uint32_t launch_screen_rows(uint32_t n)
{
    return n == 1 ? CUDA_SCREEN_ROWS : CUDA_MANY_ROWS;
}

static inline struct cuda_launch launch_of_screen_score(const struct cuda_screen_score_args *a)
{
    bool many = a->n > 1;
    return (struct cuda_launch){.kernel = many ? CUDA_K_SCREEN_MANY : CUDA_K_SCREEN_SCORE,
                                .grid_x = launch_pieces(a->n_rows, launch_screen_rows(a->n)),
                                .grid_y = many ? launch_pieces(a->n, CUDA_MANY_INPUTS) : 1,
                                .block = many ? CUDA_MANY_THREADS : CUDA_SCREEN_THREADS,
                                .shared = many ? CUDA_SCREEN_MANY_BYTES
                                               : CUDA_SCREEN_SCORE_BYTES(a->stride),
                                .args = a,
                                .args_bytes = sizeof *a};
}

/* Of n inputs. seeds: the k of each; otherwise the rows that they leave, by a->n_blocks blocks. */
static inline struct cuda_launch launch_of_screen_full(const struct cuda_screen_full_args *a,
                                                       uint32_t n, bool seeds)
{
    return (struct cuda_launch){.kernel = seeds ? CUDA_K_SCREEN_SEEDS : CUDA_K_SCREEN_ROWS,
                                .grid_x = seeds ? launch_pieces(a->k, CUDA_FULL_ROWS) : a->n_blocks,
                                .grid_y = n,
                                .block = CUDA_FULL_THREADS,
                                .shared = CUDA_SCREEN_FULL_BYTES(a->cols),
                                .args = a,
                                .args_bytes = sizeof *a};
}

#endif
