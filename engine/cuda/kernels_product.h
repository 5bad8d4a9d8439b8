/* Products of weights with activations. Ternary ones are sums of integers, so their order is free;
 * float ones keep the canonical 16 lanes.
 *
 * A byte of ternary weights holds four codes. Masking it for one of them leaves the code times 64,
 * 16, 4 or 1; each has a sum of its own, divided exactly at the end. */
#ifndef BNT_CUDA_KERNELS_PRODUCT_H
#define BNT_CUDA_KERNELS_PRODUCT_H

#include "engine/cuda/block_math.h"
#include "engine/cuda/kernels_row.h"

#define PLANES 4u

/* Codes of plane g in four bytes of weights, at 64, 16, 4 or 1 times their value. */
THREAD_FN uint32_t plane_codes(uint32_t weights, uint32_t g)
{
    return weights & 0xc0c0c0c0u >> 2 * g;
}

THREAD_FN int32_t join_planes(const int32_t sum[PLANES])
{
    return sum[0] / 64 + sum[1] / 16 + sum[2] / 4 + sum[3];
}

/* 16 bytes of weights times the four planes of an activation, which are row_bytes apart. */
THREAD_FN void add_chunk(int32_t sum[PLANES], const struct words4 *w, const int8_t *q,
                         uint32_t row_bytes)
{
    UNROLL
    for (uint32_t g = 0; g < PLANES; g++) {
        struct words4 x = load_words(q + g * row_bytes);
        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            sum[g] = dot4(plane_codes(w->w[i], g), x.w[i], sum[g]);
        }
    }
}

/* 16 bytes of either of two rows. */
THREAD_FN void add_chunks(int32_t sum[2][PLANES], const struct words4 *first,
                          const struct words4 *second, const int8_t *q, uint32_t row_bytes)
{
    UNROLL
    for (uint32_t g = 0; g < PLANES; g++) {
        struct words4 x = load_words(q + g * row_bytes);
        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            sum[0][g] = dot4(plane_codes(first->w[i], g), x.w[i], sum[0][g]);
            sum[1][g] = dot4(plane_codes(second->w[i], g), x.w[i], sum[1][g]);
        }
    }
}

/* Where chunk c of thread `lane` of CUDA_STEP_GROUP lies in a row: a thread has every sixteenth. */
THREAD_FN uint32_t chunk_at(uint32_t lane, uint32_t c)
{
    return (lane + c * CUDA_STEP_GROUP) * 16;
}

/* The first n chunks of a thread, asked for before what they are multiplied with is known; the rest
 * of them is brought near. */
THREAD_FN void fetch_chunks(const uint8_t *row, uint32_t row_bytes, uint32_t lane,
                            struct words4 *held, uint32_t n)
{
    UNROLL
    for (uint32_t c = 0; c < n; c++) {
        held[c] =
            chunk_at(lane, c) < row_bytes ? load_constant(row + chunk_at(lane, c)) : no_words();
    }
    for (uint32_t at = chunk_at(lane, n); at < row_bytes; at += CUDA_STEP_GROUP * 16) {
        soon_wanted(row + at);
    }
}

/* The part of a row's product that is thread `lane`: n chunks are held, the rest is fetched. q:
 * PLANES planes of row_bytes. */
THREAD_FN int32_t row_part(const uint8_t *row, const int8_t *q, uint32_t row_bytes, uint32_t lane,
                           const struct words4 *held, uint32_t n)
{
    int32_t sum[PLANES] = {0, 0, 0, 0};
    UNROLL
    for (uint32_t c = 0; c < n; c++) {
        if (chunk_at(lane, c) < row_bytes) {
            add_chunk(sum, &held[c], q + chunk_at(lane, c), row_bytes);
        }
    }
    for (uint32_t at = chunk_at(lane, n); at < row_bytes; at += CUDA_STEP_GROUP * 16) {
        struct words4 w = load_constant(row + at);
        add_chunk(sum, &w, q + at, row_bytes);
    }
    return join_planes(sum);
}

/* The same of two rows, whose planes are read once; 2n chunks are held, those of the first row
 * before those of the second. */
THREAD_FN void row_parts(const uint8_t *const rows[2], const int8_t *q, uint32_t row_bytes,
                         uint32_t lane, const struct words4 *held, uint32_t n, int32_t part[2])
{
    int32_t sum[2][PLANES] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    UNROLL
    for (uint32_t c = 0; c < n; c++) {
        if (chunk_at(lane, c) < row_bytes) {
            add_chunks(sum, &held[c], &held[n + c], q + chunk_at(lane, c), row_bytes);
        }
    }
    for (uint32_t at = chunk_at(lane, n); at < row_bytes; at += CUDA_STEP_GROUP * 16) {
        struct words4 first = load_constant(rows[0] + at), second = load_constant(rows[1] + at);
        add_chunks(sum, &first, &second, q + at, row_bytes);
    }
    part[0] = join_planes(sum[0]);
    part[1] = join_planes(sum[1]);
}

/* ---- one token ---- */

/* Row r of the matrices laid end to end. */
THREAD_FN const struct cuda_matrix *matrix_of(const struct cuda_step_args *a, uint32_t *r)
{
    uint32_t i = 0;
    while (i + 1 < a->n_matrices && *r >= a->m[i].rows) {
        *r -= a->m[i].rows;
        i++;
    }
    return &a->m[i];
}

THREAD_FN uint32_t step_rows(const struct cuda_step_args *a)
{
    uint32_t rows = a->m[0].rows;
    for (uint32_t i = 1; i < a->n_matrices && !a->gated; i++) {
        rows += a->m[i].rows;
    }
    return rows;
}

THREAD_FN int32_t sum_group(const int32_t *part)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < CUDA_STEP_GROUP; i++) {
        sum += part[i];
    }
    return sum;
}

#define STEP_HELD 3u /* chunks of each of two rows, or twice as many of one */

/* The row of the thread's group: where it begins in its matrix, or NULL past the last one. */
THREAD_FN const uint8_t *step_row(const struct cuda_step_args *a, uint32_t r)
{
    if (r >= step_rows(a)) {
        return 0;
    }
    const struct cuda_matrix *m = a->gated ? &a->m[0] : matrix_of(a, &r);
    return m->codes + (uint64_t)r * a->row_bytes;
}

/* Row r of the second of two matrices. */
THREAD_FN const uint8_t *step_second(const struct cuda_step_args *a, uint32_t r)
{
    return a->m[1].codes + (uint64_t)r * a->row_bytes;
}

/* Ask for the weights of the block's rows from `first` on. */
BLOCK_FN void step_fetch(BLOCK, const struct cuda_step_args *a, uint32_t first,
                         struct words4 (*held)[2 * STEP_HELD])
{
    FOR_THREADS(t)
    {
        uint32_t r = first + t / CUDA_STEP_GROUP, lane = t % CUDA_STEP_GROUP;
        const uint8_t *row = step_row(a, r);
        if (row && a->gated) {
            fetch_chunks(row, a->row_bytes, lane, MINE(held, t), STEP_HELD);
            fetch_chunks(step_second(a, r), a->row_bytes, lane, MINE(held, t) + STEP_HELD,
                         STEP_HELD);
        } else if (row) {
            fetch_chunks(row, a->row_bytes, lane, MINE(held, t), 2 * STEP_HELD);
        }
    }
}

/* The rows of later rounds, which begin at `first`, are brought near. */
BLOCK_FN void step_prefetch(BLOCK, const struct cuda_step_args *a, uint32_t first, uint32_t round)
{
    FOR_THREADS(t)
    {
        uint32_t lane = t % CUDA_STEP_GROUP;
        for (uint32_t r = first + t / CUDA_STEP_GROUP; r < step_rows(a); r += round) {
            const uint8_t *row = step_row(a, r);
            for (uint32_t at = 128 * lane; at < a->row_bytes; at += 128 * CUDA_STEP_GROUP) {
                soon_wanted(row + at);
                if (a->gated) {
                    soon_wanted(step_second(a, r) + at);
                }
            }
        }
    }
}

BLOCK_FN void step_parts(BLOCK, const struct cuda_step_args *a, uint32_t first, const int8_t *q,
                         struct words4 (*held)[2 * STEP_HELD], int32_t *part)
{
    FOR_THREADS(t)
    {
        uint32_t r = first + t / CUDA_STEP_GROUP, lane = t % CUDA_STEP_GROUP;
        const uint8_t *row = step_row(a, r);
        int32_t *to = part + t / CUDA_STEP_GROUP * CUDA_STEP_APART + lane;
        if (row && a->gated) {
            const uint8_t *const rows[2] = {row, step_second(a, r)};
            int32_t both[2];
            row_parts(rows, q, a->row_bytes, lane, MINE(held, t), STEP_HELD, both);
            to[0] = both[0];
            to[N_THREADS / CUDA_STEP_GROUP * CUDA_STEP_APART] = both[1];
        } else if (row) {
            *to = row_part(row, q, a->row_bytes, lane, MINE(held, t), 2 * STEP_HELD);
        }
    }
    BARRIER();
}

THREAD_FN void step_finish(const struct cuda_step_args *a, uint32_t r, const int32_t total[2],
                           float scale)
{
    if (a->gated) {
        float gate = ternary_value(&a->m[0], r, total[0], scale);
        float up = ternary_value(&a->m[1], r, total[1], scale);
        a->m[0].y[r] = activate(a->act, gate, up);
        return;
    }
    const struct cuda_matrix *m = matrix_of(a, &r);
    float y = ternary_value(m, r, total[0], scale);
    m->y[r] = a->add ? m->y[r] + y : y;
}

/* The products of the block's rows from `first` on, each from the parts of its threads. */
BLOCK_FN void step_rows_done(BLOCK, const struct cuda_step_args *a, uint32_t first,
                             const int32_t *part, int32_t sum, float scale)
{
    uint32_t per_block = N_THREADS / CUDA_STEP_GROUP;
    FOR_THREADS(t)
    {
        uint32_t r = first + t;
        if (t < per_block && r < step_rows(a)) {
            int32_t total[2] = {0, 0};
            total[0] = sum_group(part + t * CUDA_STEP_APART) - sum;
            if (a->gated) {
                total[1] = sum_group(part + (per_block + t) * CUDA_STEP_APART) - sum;
            }
            step_finish(a, r, total, scale);
        }
    }
}

BLOCK_FN void k_step(BLOCK, const struct cuda_step_args *a)
{
    KEEP(struct words4, held, 2 * STEP_HELD);
    KEEP(struct words4, norms, NORM_HELD);
    uint32_t per_block = N_THREADS / CUDA_STEP_GROUP, own = BLOCK_X * per_block;
    uint32_t round = a->n_blocks * per_block;
    LET_NEXT_BEGIN();
    fetch_norms(SAME_BLOCK, a->norm, a->cols, norms);
    step_fetch(SAME_BLOCK, a, own, held);
    step_prefetch(SAME_BLOCK, a, own + round, round);
    WAIT_PREVIOUS();
    struct row_space s = row_space_at(BLOCK_SHARED, a->cols);
    int8_t *q = (int8_t *)BLOCK_SHARED + CUDA_ROW_BYTES(a->cols);
    int32_t *part = (int32_t *)(void *)(q + PLANES * a->row_bytes);
    struct row_values v;
    v.x = a->x;
    v.norm = a->norm;
    v.n = a->cols;
    norm_row(SAME_BLOCK, &v, a->eps, &s);
    float scale = quantize_row(SAME_BLOCK, &v, norms, q, a->row_bytes, &s);
    uint32_t first = own, rows = step_rows(a);
    for (; first + round < rows; first += round) {
        step_parts(SAME_BLOCK, a, first, q, held, part);
        step_fetch(SAME_BLOCK, a, first + round, held);
        step_rows_done(SAME_BLOCK, a, first, part, *s.sum, scale);
        BARRIER(); /* the parts have been added up: others may take their place */
    }
    step_parts(SAME_BLOCK, a, first, q, held, part);
    step_rows_done(SAME_BLOCK, a, first, part, *s.sum, scale);
}

/* ---- many tokens ---- */

/* Row r of a matrix, token tok of a batch. */
THREAD_FN void batch_finish(const struct cuda_ternary_args *a, const struct cuda_matrix *m,
                            uint32_t r, uint32_t tok, int32_t codes)
{
    float y = ternary_value(m, r, codes - a->sum[tok], a->scale[tok]);
    float *at = m->y + tok * m->stride + r;
    *at = a->add ? *at + y : y;
}

/* The parts of a row's products with the tokens from tok0 on that are thread `lane`: each chunk of
 * weights is fetched once. */
THREAD_FN void batch_parts(const struct cuda_ternary_args *a, uint32_t r, uint32_t lane,
                           uint32_t tok0, int32_t *part)
{
    uint32_t n_tok = min_u32(a->n - tok0, CUDA_TOKENS);
    const uint8_t *row = a->m[0].codes + (uint64_t)r * a->row_bytes;
    const int8_t *q = a->q + (uint64_t)tok0 * PLANES * a->row_bytes;
    int32_t sum[CUDA_TOKENS][PLANES];
    UNROLL
    for (uint32_t i = 0; i < CUDA_TOKENS * PLANES; i++) {
        sum[i / PLANES][i % PLANES] = 0;
    }
    for (uint32_t at = chunk_at(lane, 0); at < a->row_bytes; at += CUDA_STEP_GROUP * 16) {
        struct words4 w = load_constant(row + at);
        UNROLL
        for (uint32_t j = 0; j < CUDA_TOKENS; j++) {
            if (j < n_tok) {
                add_chunk(sum[j], &w, q + (uint64_t)j * PLANES * a->row_bytes + at, a->row_bytes);
            }
        }
    }
    UNROLL
    for (uint32_t j = 0; j < CUDA_TOKENS; j++) {
        part[j] = join_planes(sum[j]);
    }
}

/* By dp4a. Shared: CUDA_TOKENS words per thread. */
BLOCK_FN void k_ternary(BLOCK, const struct cuda_ternary_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    int32_t *part = (int32_t *)(void *)BLOCK_SHARED;
    uint32_t per_block = N_THREADS / CUDA_STEP_GROUP, row0 = BLOCK_X * per_block;
    uint32_t tok0 = BLOCK_Y * CUDA_TOKENS, n_tok = min_u32(a->n - tok0, CUDA_TOKENS);
    FOR_THREADS(t)
    {
        uint32_t r = row0 + t / CUDA_STEP_GROUP, lane = t % CUDA_STEP_GROUP;
        if (r < a->m[0].rows) {
            batch_parts(a, r, lane, tok0, part + t * CUDA_TOKENS);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        uint32_t r = row0 + t / CUDA_TOKENS, j = t % CUDA_TOKENS;
        if (t / CUDA_TOKENS < per_block && r < a->m[0].rows && j < n_tok) {
            int32_t sum = 0;
            for (uint32_t i = 0; i < CUDA_STEP_GROUP; i++) {
                sum += part[(t / CUDA_TOKENS * CUDA_STEP_GROUP + i) * CUDA_TOKENS + j];
            }
            batch_finish(a, a->m, r, tok0 + j, sum);
        }
    }
}

/* ---- float weights ---- */

THREAD_FN void add_products(float acc[8], const float w[8], const float *x, uint32_t count)
{
    UNROLL
    for (uint32_t j = 0; j < 8; j++) {
        if (j < count) {
            acc[j] += w[j] * x[j];
        }
    }
}

/* The lanes 8*half.. of a row of 16-bit floats, from column `at` on over a tile of len; both are
 * whole 16s. Four loads of a thread are on their way at once. */
THREAD_FN void half_part(uint32_t type, const float *tile, uint32_t len, const char *row,
                         uint32_t half, float acc[8])
{
    for (uint32_t c = half * 8; c < len; c += 4 * CUDA_LANES) {
        struct words4 raw[4];
        UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            raw[j] = c + j * CUDA_LANES < len
                         ? load_constant(row + (uint64_t)(c + j * CUDA_LANES) * 2)
                         : no_words();
        }
        UNROLL
        for (uint32_t j = 0; j < 4; j++) {
            if (c + j * CUDA_LANES < len) {
                float w[8];
                unpack_eight(type, &raw[j], w);
                add_products(acc, w, tile + c + j * CUDA_LANES, 8);
            }
        }
    }
}

/* The same of codes, whose rows are whole 64s; the tile begins at column `at`. */
THREAD_FN void codes_part(const float *tile, uint32_t at, uint32_t len, const char *row,
                          uint32_t half, float acc[8])
{
    for (uint32_t c = 0; c < len; c += CUDA_CODES_SCALED) {
        const unsigned char *piece = codes_piece(row, at + c);
        const uint32_t *codes = (const uint32_t *)(const void *)codes_byte(piece, c + 8 * half);
        const float scale = codes_scale(piece, c);
        UNROLL
        for (uint32_t g = 0; g < 4; g++) {
            float w[8];
            unpack_codes(codes[g / 2] >> g % 2 * 16, scale, w);
            add_products(acc, w, tile + c + g * CUDA_LANES + half * 8, 8);
        }
    }
}

/* The lanes 8*half.. of row r, over the tile of x that begins at column `at`. */
THREAD_FN void float_part(const struct cuda_float_args *a, const float *tile, uint32_t at,
                          const char *row, uint32_t half, float acc[8])
{
    uint32_t len = min_u32(a->cols - at, CUDA_TILE);
    int aligned = a->cols % 16 == 0 && a->row_bytes % 16 == 0;
    if (aligned && a->type == CUDA_F16) {
        half_part(CUDA_F16, tile, len, row + (uint64_t)at * 2, half, acc);
        return;
    }
    if (a->type == CUDA_CODES) {
        codes_part(tile, at, len, row, half, acc);
        return;
    }
    for (uint32_t c = half * 8; c < len; c += CUDA_LANES) {
        float w[8];
        load_eight(a->type, row, at + c, a->cols, aligned, w);
        add_products(acc, w, tile + c, min_u32(len - c, 8));
    }
}

/* What becomes of the sum of row r and token tok. */
THREAD_FN void float_finish(const struct cuda_float_args *a, uint32_t r, uint32_t tok, float y)
{
    if (a->out_scale != 1.0f || a->bias) {
        y = y * a->out_scale + (a->bias ? a->bias[r] : 0.0f);
    }
    float *to = a->y + tok * a->stride + r;
    *to = a->add ? *to + y : y;
}

BLOCK_FN void k_float(BLOCK, const struct cuda_float_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    float *tile = (float *)(void *)BLOCK_SHARED, *lanes = tile + CUDA_FLOAT_TILE(a->cols);
    uint32_t per_block = N_THREADS / 2;
    const float *x = a->x + BLOCK_Y * a->x_stride;
    KEEP(float, acc, 8);
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            MINE(acc, t)[j] = 0.0f;
        }
    }
    for (uint32_t at = 0; at < a->cols; at += CUDA_TILE) {
        BARRIER();
        fetch_row(SAME_BLOCK, x + at, min_u32(a->cols - at, CUDA_TILE), tile);
        BARRIER();
        FOR_THREADS(t)
        {
            uint32_t r = BLOCK_X * per_block + t / 2;
            if (r < a->rows) {
                float_part(a, tile, at, (const char *)a->w + r * a->row_bytes, t % 2, MINE(acc, t));
            }
        }
    }
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            lanes[t * 8 + j] = MINE(acc, t)[j];
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        uint32_t r = BLOCK_X * per_block + t;
        if (t < per_block && r < a->rows) {
            float_finish(a, r, BLOCK_Y, sum_lanes(lanes + t * CUDA_LANES));
        }
    }
}

/* ---- few rows: a thread for each lane ---- */

struct lane_row {
    const uint8_t *w;
    uint32_t lane, type;
};

/* The lane's sum goes on over columns at.. of the row, which are the n of x; sixteen loads are on
 * their way at once. */
THREAD_FN float lane_values(const struct lane_row *row, uint32_t type, uint64_t at, const float *x,
                            uint32_t n, float acc)
{
    uint32_t c = row->lane;
    for (; c + 15 * CUDA_LANES < n; c += 16 * CUDA_LANES) {
        float w[16];
        UNROLL
        for (uint32_t j = 0; j < 16; j++) {
            w[j] = value_at(type, row->w, at + c + j * CUDA_LANES);
        }
        UNROLL
        for (uint32_t j = 0; j < 16; j++) {
            acc += w[j] * x[c + j * CUDA_LANES];
        }
    }
    for (; c < n; c += CUDA_LANES) {
        acc += value_at(type, row->w, at + c) * x[c];
    }
    return acc;
}

/* The lane's sum goes on over 64 columns of codes. half: the eight bytes that eight lanes share. */
THREAD_FN float lane_add(const uint32_t half[2], uint32_t lane, float scale, const float *x,
                         float acc)
{
    UNROLL
    for (uint32_t g = 0; g < 4; g++) {
        uint32_t code = half[g / 2] >> (g % 2 * 16 + lane % 8 * 2) & 3u;
        acc += code_value(code, scale) * x[g * CUDA_LANES];
    }
    return acc;
}

/* The same of codes, a piece at once; the tile begins with one. */
THREAD_FN float lane_codes(const struct lane_row *row, uint32_t at, const float *x, uint32_t n,
                           float acc)
{
    const uint32_t scaled = CUDA_CODES_SCALED, lane = row->lane;
    const unsigned char *piece = codes_piece(row->w, at);
    x += lane;
    for (; n >= CUDA_CODES_PIECE; n -= CUDA_CODES_PIECE) {
        uint32_t half[8][2];
        float scale[8];
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            const void *codes = codes_byte(piece, j * scaled + lane / 8 * 8);
            half[j][0] = ((const uint32_t *)codes)[0];
            half[j][1] = ((const uint32_t *)codes)[1];
            scale[j] = codes_scale(piece, j * scaled);
        }
        UNROLL
        for (uint32_t j = 0; j < 8; j++) {
            acc = lane_add(half[j], lane, scale[j], x + j * scaled, acc);
        }
        piece += CUDA_CODES_BYTES;
        x += CUDA_CODES_PIECE;
    }
    for (uint32_t c = 0; c < n; c += scaled) {
        const void *codes = codes_byte(piece, c + lane / 8 * 8);
        acc = lane_add((const uint32_t *)codes, lane, codes_scale(piece, c), x + c, acc);
    }
    return acc;
}

/* Either; the type is a constant in each of the calls, so that loads can be gathered. */
THREAD_FN float lane_product(const struct lane_row *row, uint32_t at, const float *x, uint32_t n,
                             float acc)
{
    return row->type == CUDA_CODES ? lane_codes(row, at, x, n, acc)
           : row->type == CUDA_F16 ? lane_values(row, CUDA_F16, at, x, n, acc)
           : row->type == CUDA_F32 ? lane_values(row, CUDA_F32, at, x, n, acc)
                                   : lane_values(row, CUDA_BF16, at, x, n, acc);
}

BLOCK_FN void k_float_lanes(BLOCK, const struct cuda_float_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    float *tile = (float *)(void *)BLOCK_SHARED, *lanes = tile + CUDA_FLOAT_TILE(a->cols);
    const uint32_t first = BLOCK_X * (N_THREADS / CUDA_LANES);
    const float *x = a->x + BLOCK_Y * a->x_stride;
    KEEP(float, acc, 1);
    FOR_THREADS(t)
    {
        *MINE(acc, t) = 0.0f;
    }
    for (uint32_t at = 0; at < a->cols; at += CUDA_TILE) {
        uint32_t len = min_u32(a->cols - at, CUDA_TILE);
        BARRIER();
        fetch_row(SAME_BLOCK, x + at, len, tile);
        BARRIER();
        FOR_THREADS(t)
        {
            uint64_t r = min_u32(first + t / CUDA_LANES, a->rows - 1);
            struct lane_row row = {a->w + r * a->row_bytes, t % CUDA_LANES, a->type};
            *MINE(acc, t) = lane_product(&row, at, tile, len, *MINE(acc, t));
        }
    }
    FOR_THREADS(t)
    {
        lanes[t] = *MINE(acc, t);
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < N_THREADS / CUDA_LANES && first + t < a->rows) {
            float_finish(a, first + t, BLOCK_Y, sum_lanes(lanes + t * CUDA_LANES));
        }
    }
}

/* ---- many tokens by float weights ---- */

/* Columns at .. at+len-1 of the tokens of a block. */
struct token_tiles {
    float *x; /* [CUDA_FLOAT_TOKENS][CUDA_FLOAT_PART] */
    uint32_t at, len;
};

/* A thread has eight lanes of two rows by four tokens, so that what it reads of a token in shared
 * memory serves both: rows pair and pair + MANY_PAIRS of the block, lanes 8*half.., tokens
 * 4*group...
 */
#define MANY_PAIRS (CUDA_FLOAT_ROWS / 2u)
#define MANY_TOKENS (CUDA_FLOAT_TOKENS / 2u)
#define MANY_SUMS (2u * MANY_TOKENS * 8u)
struct many_part {
    uint32_t half, pair, group;
};

THREAD_FN struct many_part many_part_of(uint32_t t)
{
    struct many_part p;
    p.half = t % 2;
    p.pair = t / 2 % MANY_PAIRS;
    p.group = t / (2 * MANY_PAIRS);
    return p;
}

/* Row i of the two: where it begins; past the last one that stands in. */
THREAD_FN const char *many_row(const struct cuda_float_args *a, uint32_t first_row,
                               const struct many_part *p, uint32_t i)
{
    uint64_t r = min_u32(first_row + p->pair + i * MANY_PAIRS, a->rows - 1);
    return (const char *)a->w + r * a->row_bytes;
}

/* Eight values of each row by those of the tokens at column c of the tiles. */
THREAD_FN void many_add(const struct token_tiles *tiles, const struct many_part *p, uint32_t c,
                        float w[2][8], uint32_t count, float *acc)
{
    UNROLL
    for (uint32_t k = 0; k < MANY_TOKENS; k++) {
        const float *x = tiles->x + (p->group * MANY_TOKENS + k) * CUDA_FLOAT_PART + c;
        add_products(acc + 8 * k, w[0], x, count);
        add_products(acc + 8 * (MANY_TOKENS + k), w[1], x, count);
    }
}

/* Over the tiles from column `from` on; aligned as in load_eight. */
THREAD_FN void many_any(const struct cuda_float_args *a, uint32_t type,
                        const struct token_tiles *tiles, uint32_t first_row,
                        const struct many_part *p, uint32_t from, float *acc)
{
    int aligned = a->cols % 16 == 0 && a->row_bytes % 16 == 0;
    for (uint32_t c = from + p->half * 8; c < tiles->len; c += CUDA_LANES) {
        float w[2][8];
        UNROLL
        for (uint32_t i = 0; i < 2; i++) {
            load_eight(type, many_row(a, first_row, p, i), tiles->at + c, a->cols, aligned, w[i]);
        }
        many_add(tiles, p, c, w, aligned ? 8 : min_u32(tiles->len - c, 8), acc);
    }
}

/* The same of 16-bit floats in aligned rows, as far as they are whole 32s; four loads of a thread
 * are on their way at once. Returns how far. */
THREAD_FN uint32_t many_halves(const struct cuda_float_args *a, const struct token_tiles *tiles,
                               uint32_t first_row, const struct many_part *p, float *acc)
{
    const char *first = many_row(a, first_row, p, 0) + (uint64_t)(tiles->at + p->half * 8) * 2;
    const char *second = many_row(a, first_row, p, 1) + (uint64_t)(tiles->at + p->half * 8) * 2;
    uint32_t whole = tiles->len / (2 * CUDA_LANES) * (2 * CUDA_LANES);
    for (uint32_t c = 0; c < whole; c += 2 * CUDA_LANES) {
        struct words4 raw[2][2];
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            raw[j][0] = load_constant(first + j * CUDA_LANES * 2);
            raw[j][1] = load_constant(second + j * CUDA_LANES * 2);
        }
        UNROLL
        for (uint32_t j = 0; j < 2; j++) {
            float w[2][8];
            unpack_eight(CUDA_F16, &raw[j][0], w[0]);
            unpack_eight(CUDA_F16, &raw[j][1], w[1]);
            many_add(tiles, p, c + p->half * 8 + j * CUDA_LANES, w, 8, acc);
        }
        first += 4 * CUDA_LANES;
        second += 4 * CUDA_LANES;
    }
    return whole;
}

/* The tiles of a block; the last token stands for those past it. */
BLOCK_FN void fetch_tokens(BLOCK, const struct cuda_float_args *a, const struct token_tiles *tiles)
{
    for (uint32_t k = 0; k < CUDA_FLOAT_TOKENS; k++) {
        uint32_t tok = min_u32(BLOCK_X * CUDA_FLOAT_TOKENS + k, a->n - 1);
        send_row(SAME_BLOCK, a->x + tok * a->x_stride + tiles->at, tiles->len,
                 tiles->x + k * CUDA_FLOAT_PART);
    }
    ROWS_ARRIVE();
}

/* The sums of one token after the other, by way of the same shared lanes. */
BLOCK_FN void k_float_many(BLOCK, const struct cuda_float_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    struct token_tiles tiles;
    tiles.x = (float *)(void *)BLOCK_SHARED;
    float *lanes = tiles.x + CUDA_FLOAT_TOKENS * CUDA_FLOAT_PART;
    uint32_t first_row = BLOCK_Y * CUDA_FLOAT_ROWS;
    int halves = a->type == CUDA_F16 && a->cols % 16 == 0 && a->row_bytes % 16 == 0;
    KEEP(float, acc, MANY_SUMS);
    FOR_THREADS(t)
    {
        UNROLL
        for (uint32_t j = 0; j < MANY_SUMS; j++) {
            MINE(acc, t)[j] = 0.0f;
        }
    }
    for (tiles.at = 0; tiles.at < a->cols; tiles.at += CUDA_FLOAT_PART) {
        tiles.len = min_u32(a->cols - tiles.at, CUDA_FLOAT_PART);
        BARRIER();
        fetch_tokens(SAME_BLOCK, a, &tiles);
        BARRIER();
        FOR_THREADS(t)
        {
            struct many_part p = many_part_of(t);
            if (a->type == CUDA_CODES) {
                many_any(a, CUDA_CODES, &tiles, first_row, &p, 0, MINE(acc, t));
            } else {
                uint32_t done = halves ? many_halves(a, &tiles, first_row, &p, MINE(acc, t)) : 0;
                many_any(a, a->type, &tiles, first_row, &p, done, MINE(acc, t));
            }
        }
    }
    UNROLL
    for (uint32_t k = 0; k < CUDA_FLOAT_TOKENS; k++) {
        uint32_t tok = BLOCK_X * CUDA_FLOAT_TOKENS + k;
        BARRIER();
        FOR_THREADS(t)
        {
            struct many_part p = many_part_of(t);
            UNROLL
            for (uint32_t j = 0; j < 16; j++) {
                if (p.group == k / MANY_TOKENS) {
                    lanes[(p.pair + j / 8 * MANY_PAIRS) * CUDA_LANES + p.half * 8 + j % 8] =
                        MINE(acc, t)[8 * (j / 8 * MANY_TOKENS + k % MANY_TOKENS) + j % 8];
                }
            }
        }
        BARRIER();
        FOR_THREADS(t)
        {
            if (t < CUDA_FLOAT_ROWS && first_row + t < a->rows && tok < a->n) {
                float_finish(a, first_row + t, tok, sum_lanes(lanes + t * CUDA_LANES));
            }
        }
    }
}

#endif
