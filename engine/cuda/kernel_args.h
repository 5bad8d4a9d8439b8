/* The kernels by number, and what each takes. Shared by the host, by nvcc and by the fake device,
 * so plain structs of fixed layout: pointers are addresses on the device, sizes are in elements
 * unless they say bytes.
 *
 * Activations of a ternary product lie in planes: a row has 4 planes of row_bytes bytes (row_bytes
 * of the weights), and plane g, byte k holds the activation that meets the code in bits 6-2g..7-2g
 * of byte k of a row of weights. I2_S 128/32 thus needs no repacking: x[i] is in plane i % 128 / 32
 * at byte i / 128 * 32 + i % 32 */
#ifndef BNT_CUDA_KERNEL_ARGS_H
#define BNT_CUDA_KERNEL_ARGS_H

#include <stdint.h>

/* A sum of codes left at 64 times their value must stay in 32 bits: 2^16 columns of a plane. */
#define CUDA_MAX_COLS (1u << 18)
#define CUDA_PICK_MAX 64u    /* candidates that `pick` can give */
#define CUDA_PICK_SPAN 2048u /* entries that a block of `pick` looks at */
#define CUDA_ROW_MAX 9216u   /* floats of an input that a block holds whole */
#define CUDA_TILE 4096u      /* of a longer one at once; whole 16s */
#define CUDA_LANES 16u       /* of a canonical sum, engine/cpu/kernels.h */

/* X(identifier, function, struct of its arguments) */
#define CUDA_KERNEL_TABLE(X)                                                                       \
    X(CUDA_K_EMBED, k_embed, cuda_embed_args)                                                      \
    X(CUDA_K_NORM, k_norm, cuda_norm_args)                                                         \
    X(CUDA_K_STEP, k_step, cuda_step_args)                                                         \
    X(CUDA_K_TERNARY, k_ternary, cuda_ternary_args)                                                \
    X(CUDA_K_TERNARY_MMA, k_ternary_mma, cuda_ternary_args)                                        \
    X(CUDA_K_TERNARY_FEW, k_ternary_few, cuda_ternary_args)                                        \
    X(CUDA_K_FLOAT, k_float, cuda_float_args)                                                      \
    X(CUDA_K_FLOAT_LANES, k_float_lanes, cuda_float_args)                                          \
    X(CUDA_K_FLOAT_MANY, k_float_many, cuda_float_args)                                            \
    X(CUDA_K_ROPE, k_rope, cuda_rope_args)                                                         \
    X(CUDA_K_ATTEND, k_attend, cuda_attend_args)                                                   \
    X(CUDA_K_ATTEND_GROUP, k_attend_group, cuda_attend_args)                                       \
    X(CUDA_K_ATTEND_ONE, k_attend_one, cuda_split_args)                                            \
    X(CUDA_K_SCORES, k_scores, cuda_split_args)                                                    \
    X(CUDA_K_VALUES, k_values, cuda_split_args)                                                    \
    X(CUDA_K_ACT, k_act, cuda_act_args)                                                            \
    X(CUDA_K_PICK, k_pick, cuda_pick_args)                                                         \
    X(CUDA_K_DRAW, k_draw, cuda_draw_args)                                                         \
    X(CUDA_K_SCREEN_INPUT, k_screen_input, cuda_screen_input_args)                                 \
    X(CUDA_K_SCREEN_SCORE, k_screen_score, cuda_screen_score_args)                                 \
    X(CUDA_K_SCREEN_MANY, k_screen_many, cuda_screen_score_args)                                   \
    X(CUDA_K_SCREEN_SEEDS, k_screen_seeds, cuda_screen_full_args)                                  \
    X(CUDA_K_SCREEN_ROWS, k_screen_rows, cuda_screen_full_args)

/* Floats of a row of n that a block holds at once. */
#define CUDA_ROW_FLOATS(n) ((n) <= CUDA_ROW_MAX ? ((n) + 15u) / 16u * 16u : CUDA_TILE)

enum cuda_kernel {
#define CUDA_KERNEL_ID(id, fn, type) id,
    CUDA_KERNEL_TABLE(CUDA_KERNEL_ID)
#undef CUDA_KERNEL_ID
        CUDA_N_KERNELS
};

/* What a matrix of floats lies as. CUDA_CODES: weight = scale * (code - 1), a scale for 64 weights.
 * A row is pieces of 512 weights: eight scales (F32), then 16 bytes of codes for each, of which
 * byte 8*h + 2*g + b has columns 16*g + 8*h + 4*b.., the first in its lowest bits. So a thread that
 * has eight of each 16 columns reads eight bytes that follow one another. Behind the last column
 * there are zeros. */
enum cuda_float_type { CUDA_F32, CUDA_F16, CUDA_BF16, CUDA_CODES };
#define CUDA_CODES_PIECE 512u
#define CUDA_CODES_SCALED 64u
#define CUDA_CODES_BYTES 160u
/* Where the 16 bits of columns c.. of eight lie in their piece. */
#define CUDA_CODES_EIGHT(c)                                                                        \
    (32u + (c) % CUDA_CODES_PIECE / CUDA_CODES_SCALED * 16u + (c) / 8u % 2u * 8u +                 \
     (c) % CUDA_CODES_SCALED / 16u * 2u)
enum cuda_act { CUDA_ACT_SILU, CUDA_ACT_RELU2 }; /* as enum act_fn */

/* A token of a batch, as the host says before each one: kernels read it on the device, so that a
 * captured graph serves every step. */
struct cuda_row {
    int32_t id;
    uint32_t seq, pos; /* of the sequence in whose cache it stands */
};

/* Block t: x[t] = row rows[t].id of the table, times scale. */
struct cuda_embed_args {
    const struct cuda_row *rows;
    const void *table;
    uint64_t row_bytes;
    uint32_t type; /* enum cuda_float_type */
    uint32_t n_embd;
    float scale;
    float *x;
};

/* Block t: x[t] normed (norm NULL: as it is) to h (NULL: not wanted), and quantised to q, scale and
 * sum (q NULL: not). Shared: CUDA_ROW_BYTES. */
struct cuda_norm_args {
    const float *x, *norm;
    uint64_t x_stride; /* floats */
    uint32_t n;
    float eps;
    float *h;
    uint64_t h_stride;
    int8_t *q;
    uint64_t row_bytes; /* of a plane; a row of q has 4 */
    float *scale;
    int32_t *sum;
};

/* Where a product goes. y[t*stride + r] is stored, or added to what is there. */
struct cuda_matrix {
    const uint8_t *codes; /* rows * row_bytes */
    uint32_t rows;
    float scale, out_scale;
    const float *bias; /* NULL: none */
    float *y;
    uint64_t stride;
};

/* One token's norm, quantisation and products in one launch: every block norms the same input
 * again, which costs less than a launch between. Block b computes rows b*R.. of the matrices laid
 * end to end, R = threads / CUDA_STEP_GROUP, then rows (n_blocks + b)*R.., and so on. gated: two
 * matrices of equal rows, m[0].y = act(row of m[0]) * row of m[1]. Shared: CUDA_STEP_BYTES. */
#define CUDA_STEP_GROUP 16u
struct cuda_step_args {
    const float *x, *norm;
    uint32_t cols;
    float eps;
    uint32_t row_bytes;
    uint32_t n_blocks;
    uint32_t n_matrices; /* 1 to 3 */
    uint32_t add, gated, act;
    struct cuda_matrix m[3];
};

/* Many tokens. Block (b, j): rows b*R.. of the first matrix, tokens j*CUDA_TOKENS... The forms for
 * tensor cores take up to three matrices as a step does: rows b*CUDA_MMA_ROWS.. of all, tokens
 * j*CUDA_MMA_TILES*8.., and for few blocks of that kind rows b*CUDA_FEW_ROWS.., tokens
 * j*CUDA_FEW_TILES*8... */
#define CUDA_TOKENS 8u
#define CUDA_MMA_ROWS 128u
#define CUDA_MMA_TILES 8u
#define CUDA_FEW_ROWS 32u
#define CUDA_FEW_TILES 4u
struct cuda_ternary_args {
    const int8_t *q;
    const float *scale;
    const int32_t *sum;
    uint32_t n, row_bytes;
    uint32_t n_matrices;
    uint32_t add, gated, act;
    struct cuda_matrix m[3];
};

/* Block (b, t): rows of a float matrix, two threads to a row, by token t of x. Canonical sums of 16
 * lanes. Shared: as much of x as CUDA_TILE, 16 floats per row.
 * The form for few rows: 16 threads to a row, a lane each. Shared: the same.
 * The form for many: block (j, b), rows b*R.. by tokens j*CUDA_FLOAT_TOKENS.., so that blocks that
 * run together read the same rows. Shared: CUDA_FLOAT_PART columns of each of those tokens, 16
 * floats per row. */
#define CUDA_FLOAT_TOKENS 8u
#define CUDA_FLOAT_PART 1024u
struct cuda_float_args {
    uint32_t n; /* tokens */
    const uint8_t *w;
    uint64_t row_bytes;
    uint32_t type; /* enum cuda_float_type */
    uint32_t rows, cols;
    const float *x;
    uint64_t x_stride;
    uint32_t add;
    float out_scale;
    const float *bias;
    float *y;
    uint64_t stride;
};

/* The geometry of attention. Caches are [n_head_kv][n_ctx][head_dim] of this layer and of the first
 * sequence; that of the next is seq_stride elements further on. */
struct cuda_heads {
    uint32_t n_head, n_head_kv, head_dim, n_rot, neox, n_ctx, kv_f16;
    uint64_t seq_stride;
    const float *cs; /* [n_ctx][n_rot]: cos, sin by turns */
    void *k_cache, *v_cache;
};

/* Block t: rotate q and k of token t, store k and v. */
struct cuda_rope_args {
    struct cuda_heads heads;
    const struct cuda_row *rows;
    float *q, *k;
    const float *v; /* rows of n_head, n_head_kv, n_head_kv heads */
};

/* Block (h, t): query head h of token t, rotated and stored before. scores: NULL (shared memory
 * holds n_ctx floats), or [blocks][stride]. The result takes the place of the query. Shared:
 * CUDA_ATTEND_BYTES. The form for groups: blocks (b, t) of up to CUDA_ATTEND_GROUP heads that share
 * keys of 16 bits, `first` 0, their scores in shared memory: CUDA_GROUP_BYTES. */
#define CUDA_ATTEND_GROUP 4u
struct cuda_attend_args {
    struct cuda_heads heads;
    const struct cuda_row *rows;
    float *q;
    float scale;
    float *scores;
    uint32_t stride;
    uint32_t first; /* token of the batch that blocks (h, 0) compute */
};

/* One token or a few, by many blocks (kernels_split.h). k_attend_one takes one token: it rotates q
 * and k, and stores k and v. k_scores does that where `rotate` says so, and k_values follows it;
 * out may be q for those two alone. */
#define CUDA_ATTEND_FEW 8u           /* tokens */
#define CUDA_WEIGH_COLS 32u          /* of the values, by a block: one warp */
#define CUDA_WEIGH_STAGES 5u         /* of positions in shared memory */
#define CUDA_WEIGH_STAGE_BYTES 4096u /* of their values */
#define CUDA_WEIGH_MOST 64u          /* positions of a stage at most: of 16 bits */
#define CUDA_MULTIPLY_THREADS 128u   /* of a block's, whole warps: a quarter of a stage each */
#define CUDA_WEIGH_APART 68u         /* floats between columns of products, for different banks */
/* Positions that the 128 threads of k_scores take at once: each is one head's, and a warp has one
 * head. */
#define CUDA_SCORE_LEAST 32u
#define CUDA_SCORE_POSITIONS(of_group)                                                             \
    ((of_group) == 1 ? 128u : (of_group) == 2 ? 64u : CUDA_SCORE_LEAST)
struct cuda_split_args {
    struct cuda_heads heads;
    const struct cuda_row *rows;
    const float *q, *k, *v;
    float *out;
    float scale;
    uint32_t rotate, n_slices;
    uint32_t stride; /* of scores: whole fours */
    float *scores;   /* [tokens][n_head][stride] */
    uint32_t
        *tops; /* [tokens][n_head][n_slices]: the largest score of each slice, as float_order */
};

/* gate[i] = act(gate[i]) * up[i]. */
struct cuda_act_args {
    float *gate;
    const float *up;
    uint64_t n;
    uint32_t act;
};

/* The k best of the finite ones among n, best first, ties to the lower id. Block (b, t) looks at
 * CUDA_PICK_SPAN entries of row t, of B such blocks, and writes out[(t*B + b)*k ..]; id -1 where
 * there is none. Entries are logits[t*n + i] with id i, or, where `list` is given, those. counted:
 * NULL, or an entry whose id becomes *count. */
struct cuda_candidate {
    float logit;
    int32_t id;
};
struct cuda_pick_args {
    const float *logits;
    const struct cuda_candidate *list;
    uint32_t n, k;
    struct cuda_candidate *out;
    const uint32_t *count;
    struct cuda_candidate *counted;
};

/* How an id is drawn among the best logits, as struct bnt_draw; the host says it before each draw,
 * and kernels read it on the device. */
struct cuda_draw {
    double temperature, top_p, min_p_log, unit;
};

/* One block of CUDA_PICK_MAX threads: draws among list[k], which is best first. out[0].id is the
 * id, or -1 where there is none to draw; the id of out[1] is *count, or 0. Shared: CUDA_DRAW_BYTES.
 */
struct cuda_draw_args {
    const struct cuda_candidate *list;
    uint32_t k;
    const struct cuda_draw *how;
    const uint32_t *count; /* may be NULL */
    struct cuda_candidate *out;
};

/* ---- the head, screened ----
 *
 * As engine/cpu/screen_cpu.c: all rows are scored against the small copy of the head
 * (engine/screen.h), a few of high score are computed in full, and then every row whose score plus
 * bound reaches the least of those, by both parts of the copy. The others cannot be among the best,
 * and get a logit that is not chosen. Where nothing can be left out, all rows are computed in full:
 * a row that is no finite number, or whose bound is none, is never below. */

/* An input of a head: x ~ scale * (q[0] + q[1] / SCREEN_FINER). */
struct cuda_screen_input {
    float scale; /* of fine steps */
    /* Of x, of what q leaves of it, of what q[0] alone does, with their share of roundings. */
    float x_length, d_length, c_length;
    int32_t sum[2];  /* of q[0], q[1] */
    uint32_t n_full; /* of the first input: rows that k_screen_rows has computed, of all inputs */
};

/* Block t: x[t*n..] normed to h[t*n..], and its two rows of 8 bits, in the order of struct act_rows
 * of engine/cpu/kernels.h, to q[2*t*stride..], `stride` apart. n <= CUDA_ROW_MAX. Shared:
 * CUDA_SCREEN_INPUT_BYTES. */
struct cuda_screen_input_args {
    const float *x, *norm;
    uint32_t n;
    float eps;
    float *h;
    int8_t *q;
    uint32_t stride;
    double unit; /* what roundings of a logit and of its score may make of a length */
    struct cuda_screen_input *out;
};

/* near[t*n_rows + r] = the score of row r of the copy for input t. Of each block the row of highest
 * score goes to tops.
 * k_screen_score, one input: block b has rows b*CUDA_SCREEN_ROWS.. Shared:
 * CUDA_SCREEN_SCORE_BYTES.
 * k_screen_many, n inputs, by tensor cores: block (b, j) has rows b*CUDA_MANY_ROWS.. and inputs
 * j*CUDA_MANY_INPUTS..; tops is [inputs][blocks along rows]. Shared: CUDA_SCREEN_MANY_BYTES. */
#define CUDA_SCREEN_GROUP 8u /* threads that share two rows */
#define CUDA_SCREEN_ROWS 64u
#define CUDA_MANY_ROWS 128u
#define CUDA_MANY_INPUTS 32u
struct screen_row;
struct cuda_screen_score_args {
    const struct screen_row *rows;
    const uint8_t *codes;
    uint32_t n_rows, n, stride; /* of q, in bytes */
    uint64_t row_bytes;
    const int8_t *q;
    const struct cuda_screen_input *in;
    uint32_t levels[4]; /* the bytes of screen_levels */
    float *near;
    struct cuda_candidate *tops;
};

/* Of input BLOCK_Y, whose seeds are at seeds[t*k..], and so on. k_screen_seeds, blocks of
 * CUDA_FULL_ROWS of the k seeds: their logits take the place of their scores. k_screen_rows, any
 * number of blocks: logits[t*rows + r] of every row that may reach the least of the seeds,
 * -infinity of all others; a thread judges `together` rows before those that are left are computed.
 * Canonical sums of 16 lanes. Shared: CUDA_SCREEN_FULL_BYTES. */
#define CUDA_FULL_TOGETHER 4u
struct cuda_screen_full_args {
    const uint8_t *w;
    uint64_t row_bytes;
    uint32_t type; /* enum cuda_float_type */
    uint32_t rows, cols, k, n_blocks;
    uint32_t together; /* 1 to CUDA_FULL_TOGETHER */
    const float *x, *near;
    const struct screen_row *screen_rows;
    const uint8_t *rest; /* the second part of the copy, rest_bytes a row */
    uint64_t rest_bytes;
    const int8_t *q;
    uint32_t stride; /* of q, in bytes */
    struct cuda_candidate *seeds;
    float *logits;
    const struct cuda_screen_input *in;
    uint32_t *n_full;
};

#endif
