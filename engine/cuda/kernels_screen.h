/* The head for a caller who needs its best logits only: kernel_args.h says what the kernels do,
 * engine/cpu/screen_cpu.c why no row that matters is left out. */
#ifndef BNT_CUDA_KERNELS_SCREEN_H
#define BNT_CUDA_KERNELS_SCREEN_H

#include "engine/cuda/block_math.h"
#include "engine/cuda/kernels_product.h"
#include "engine/cuda/kernels_row.h"
#include "engine/screen.h"

/* ---- the input ---- */

/* Where activation i of a row lies: act_position of engine/cpu/kernels.h. */
THREAD_FN uint32_t screen_place(uint32_t i)
{
    return i / 256 * 256 + i % 128 / 32 * 64 + i % 256 / 128 * 32 + i % 32;
}

/* Shared: a row, then for each thread the squares that it has seen of x, and of what both rows of
 * codes and the first alone leave of it. */
struct screen_lengths {
    double *xx, *dd, *cc;
};

/* h = x normed, also in the tile; the largest magnitude of it. */
BLOCK_FN void screen_norm(BLOCK, const struct row_values *v, float *h, const struct row_space *s)
{
    FOR_THREADS(t)
    {
        uint32_t most = 0;
        for (uint32_t i = t; i < v->n; i += N_THREADS) {
            float x = normed(v, i);
            h[i] = s->tile[i] = x;
            most = larger_magnitude(most, x);
        }
        shared_max(s->max, most);
    }
    BARRIER();
}

/* An activation in steps of `scale`, and the rest in fine steps; the squares of x, of what both
 * leave of it and of what the first leaves are added. */
THREAD_FN void screen_codes_of(float x, float scale, float inverse, int8_t q[2], double squares[3])
{
    double fine_scale = (double)scale / SCREEN_FINER;
    q[0] = (int8_t)act_code_bits(x, inverse);
    double d = (double)x - (double)scale * (double)q[0];
    double fine = rint(d / fine_scale);
    fine = fine < -127 ? -127 : fine > 127 ? 127 : fine;
    q[1] = (int8_t)fine;
    squares[0] += (double)x * (double)x;
    squares[2] += d * d;
    d -= fine_scale * fine;
    squares[1] += d * d;
}

/* Both rows of codes, zeros behind them; their sums, and the squares of the lengths. */
BLOCK_FN void screen_quantize(BLOCK, const struct cuda_screen_input_args *a, float scale,
                              const struct row_space *s, const struct screen_lengths *sums)
{
    int8_t *row = a->q + 2ull * BLOCK_X * a->stride;
    float absmax = float_of(*s->max);
    float inverse = 127.0f / (absmax < 1e-5f ? 1e-5f : absmax);
    FOR_THREADS(t)
    {
        int32_t sum[2] = {0, 0};
        double squares[3] = {0, 0, 0};
        for (uint32_t i = t; i < a->stride; i += N_THREADS) {
            int8_t q[2] = {0, 0};
            if (i < a->n && *s->max < BITS_INFINITE) {
                screen_codes_of(s->tile[i], scale, inverse, q, squares);
            }
            row[screen_place(i)] = q[0];
            row[a->stride + screen_place(i)] = q[1];
            sum[0] += q[0];
            sum[1] += q[1];
        }
        sums->xx[t] = squares[0];
        sums->dd[t] = squares[1];
        sums->cc[t] = squares[2];
        shared_add(s->sum, sum[0]);
        shared_add(s->sum + 1, sum[1]);
    }
    for (uint32_t half = N_THREADS / 2; half > 0; half /= 2) {
        BARRIER();
        FOR_THREADS(t)
        {
            if (t < half) {
                sums->xx[t] += sums->xx[t + half];
                sums->dd[t] += sums->dd[t + half];
                sums->cc[t] += sums->cc[t + half];
            }
        }
    }
    BARRIER();
}

/* The length of what is left of an input of `length`, with its share of roundings. */
THREAD_FN float screen_left(double left, double length, double unit)
{
    return (float)(left + unit * (length + left));
}

BLOCK_FN void k_screen_input(BLOCK, const struct cuda_screen_input_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    struct row_space s = row_space_at(BLOCK_SHARED, a->n);
    struct screen_lengths sums;
    sums.xx = (double *)(void *)(BLOCK_SHARED + CUDA_ROW_BYTES(a->n));
    sums.dd = sums.xx + N_THREADS;
    sums.cc = sums.dd + N_THREADS;
    struct row_values v;
    v.x = a->x + (uint64_t)BLOCK_X * a->n;
    v.norm = a->norm;
    v.n = a->n;
    norm_row(SAME_BLOCK, &v, a->eps, &s);
    FOR_THREADS(t)
    {
        if (t == 0) {
            s.sum[1] = 0;
        }
    }
    screen_norm(SAME_BLOCK, &v, a->h + (uint64_t)BLOCK_X * a->n, &s);
    float absmax = float_of(*s.max);
    float scale = *s.max >= BITS_INFINITE ? absmax : (absmax < 1e-5f ? 1e-5f : absmax) / 127.0f;
    screen_quantize(SAME_BLOCK, a, scale, &s, &sums);
    FOR_THREADS(t)
    {
        if (t == 0) {
            double length = sqrt(sums.xx[0]);
            int broken = *s.max >= BITS_INFINITE;
            struct cuda_screen_input *out = a->out + BLOCK_X;
            out->scale = scale / SCREEN_FINER;
            out->x_length = broken ? absmax : (float)(length * (1 + a->unit));
            out->d_length = broken ? absmax : screen_left(sqrt(sums.dd[0]), length, a->unit);
            out->c_length = broken ? absmax : screen_left(sqrt(sums.cc[0]), length, a->unit);
            out->sum[0] = s.sum[0];
            out->sum[1] = s.sum[1];
            out->n_full = 0;
        }
    }
}

/* ---- scores ---- */

/* Shared: both rows of the input, the parts of sums, the best row of the block. */
struct screen_space {
    unsigned char *q;
    uint32_t q_bytes; /* of a row */
    int32_t *part;
    uint64_t *top;
};

/* Four levels, by the low four nibbles of `which`. None has its highest bit set, so that a mask may
 * have it where it likes. */
THREAD_FN uint32_t screen_four_levels(const uint32_t levels[4], uint32_t which)
{
    uint32_t low = pick_bytes(levels[0], levels[1], which & 0x7777u);
    uint32_t high = pick_bytes(levels[2], levels[3], which & 0x7777u);
    uint32_t upper = pick_bytes(0x80808080u, 0x80808080u, which); /* 0xff from 8 on, else 0x80 */
    return (low & ~upper) | (high & upper);
}

/* Products are of levels plus this: bytes without sign, as tensor cores take ternary codes, too. */
#define SCREEN_SHIFT 128

/* Those of four levels, which are negated where the lowest bit of a byte of `signs` is set; nothing
 * is carried from one byte to the next. */
THREAD_FN uint32_t screen_shifted(uint32_t levels, uint32_t signs)
{
    uint32_t negative = signs & 0x01010101u;
    return ((levels | 0x80808080u) ^ negative * 255u) + negative;
}

/* What thread `part` of four reads of a block of the copy, by the layout that
 * engine/cpu/kernels.h describes: codes of groups 0 and 1, of 2 and 3, and the signs. */
struct screen_piece {
    struct words4 codes[2], signs;
};

THREAD_FN struct words4 screen_codes_at(const uint8_t *block, uint32_t part, uint32_t pair)
{
    return load_constant(block + 64 * pair + 16 * part);
}

THREAD_FN struct words4 screen_signs_at(const uint8_t *block, uint32_t part)
{
    return load_constant(block + 128 + part % 2 * 16);
}

THREAD_FN struct screen_piece screen_piece_at(const uint8_t *block, uint32_t part)
{
    struct screen_piece p;
    p.codes[0] = screen_codes_at(block, part, 0);
    p.codes[1] = screen_codes_at(block, part, 1);
    p.signs = screen_signs_at(block, part);
    return p;
}

/* Weights of groups 2*pair and 2*pair + 1 at bytes 16*part.. of a block, plus SCREEN_SHIFT. */
THREAD_FN void screen_unpack(const uint32_t levels[4], const struct screen_piece *p, uint32_t part,
                             uint32_t pair, uint32_t codes[2][4])
{
    uint32_t bit = part / 2 * 4 + 2 * pair;
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        uint32_t w = p->codes[pair].w[i], signs = p->signs.w[i] >> bit;
        uint32_t first = screen_four_levels(levels, w);
        uint32_t second = screen_four_levels(levels, w >> 16);
        codes[0][i] = screen_shifted(pick_bytes(first, second, 0x6420u), signs);
        codes[1][i] = screen_shifted(pick_bytes(first, second, 0x7531u), signs >> 1);
    }
}

/* Both rows of the input into shared memory. */
BLOCK_FN void screen_fetch(BLOCK, const struct cuda_screen_score_args *a,
                           const struct screen_space *s)
{
    FOR_THREADS(t)
    {
        for (uint32_t i = t; i < a->stride / 8; i += N_THREADS) { /* 16 bytes of either row */
            uint32_t row = i / (a->stride / 16), at = i % (a->stride / 16);
            store_words(s->q + row * s->q_bytes + at / 16 * CUDA_SCREEN_APART + at % 16 * 16,
                        load_words(a->q + row * a->stride + at * 16));
        }
        if (t == 0) {
            *s->top = 0;
        }
    }
}

/* 64 weights of each of two rows, the part of a block, times both rows of the input. */
THREAD_FN void screen_add(const struct cuda_screen_score_args *a, const uint8_t *const at[2],
                          uint32_t part, const unsigned char *q, int32_t sum[4])
{
    uint32_t q_bytes = a->stride / 256 * CUDA_SCREEN_APART;
    struct screen_piece p[2];
    p[0] = screen_piece_at(at[0], part);
    p[1] = screen_piece_at(at[1], part);
    UNROLL
    for (uint32_t pair = 0; pair < 2; pair++) {
        uint32_t codes[2][2][4];
        screen_unpack(a->levels, &p[0], part, pair, codes[0]);
        screen_unpack(a->levels, &p[1], part, pair, codes[1]);
        UNROLL
        for (uint32_t g = 0; g < 2; g++) {
            struct words4 x = load_words(q + 128 * pair + 64 * g + 16 * part);
            struct words4 fine = load_words(q + q_bytes + 128 * pair + 64 * g + 16 * part);
            UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                sum[0] = dot4(codes[0][g][i], x.w[i], sum[0]);
                sum[1] = dot4(codes[0][g][i], fine.w[i], sum[1]);
                sum[2] = dot4(codes[1][g][i], x.w[i], sum[2]);
                sum[3] = dot4(codes[1][g][i], fine.w[i], sum[3]);
            }
        }
    }
}

/* The parts of rows r and r + CUDA_SCREEN_ROWS/2 that are thread t's; past the last row those of
 * the last one, which nobody asks for. */
BLOCK_FN void screen_parts(BLOCK, const struct cuda_screen_score_args *a,
                           const struct screen_space *s)
{
    FOR_THREADS(t)
    {
        uint32_t lane = t % CUDA_SCREEN_GROUP;
        uint64_t r = (uint64_t)BLOCK_X * CUDA_SCREEN_ROWS + t / CUDA_SCREEN_GROUP;
        uint64_t r1 = r + CUDA_SCREEN_ROWS / 2, last = a->n_rows - 1;
        const uint8_t *row = a->codes + (r < last ? r : last) * a->row_bytes;
        const uint8_t *row1 = a->codes + (r1 < last ? r1 : last) * a->row_bytes;
        int32_t sum[4] = {0, 0, 0, 0};
        for (uint32_t u = lane; u < a->stride / 64; u += CUDA_SCREEN_GROUP) {
            const uint8_t *const at[2] = {row + u / 4 * SCREEN_BLOCK_BYTES,
                                          row1 + u / 4 * SCREEN_BLOCK_BYTES};
            screen_add(a, at, u % 4, s->q + u / 4 * CUDA_SCREEN_APART, sum);
        }
        UNROLL
        for (uint32_t i = 0; i < 4; i++) {
            s->part[i * N_THREADS + t] = sum[i];
        }
    }
}

THREAD_FN int32_t screen_sum(const int32_t *part)
{
    int32_t sum = 0;
    UNROLL
    for (uint32_t i = 0; i < CUDA_SCREEN_GROUP; i++) {
        sum += part[i];
    }
    return sum;
}

/* The score of row r for an input from the sums of what was multiplied. */
THREAD_FN float screen_finish(const struct cuda_screen_score_args *a,
                              const struct cuda_screen_input *in, uint32_t r, int32_t sum,
                              int32_t fine)
{
    float step = a->rows[r].step * in->scale;
    sum -= SCREEN_SHIFT * in->sum[0];
    fine -= SCREEN_SHIFT * in->sum[1];
    return ((float)sum * (float)SCREEN_FINER + (float)fine) * step;
}

/* What was candidate_key; id -1 where that is 0. */
THREAD_FN struct cuda_candidate candidate_of(uint64_t key)
{
    struct cuda_candidate c;
    c.logit = float_of_order((uint32_t)(key >> 32));
    c.id = key ? (int32_t)(0xffffffffu - (uint32_t)key) : -1;
    return c;
}

BLOCK_FN void k_screen_score(BLOCK, const struct cuda_screen_score_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    struct screen_space s;
    s.q = BLOCK_SHARED;
    s.q_bytes = a->stride / 256 * CUDA_SCREEN_APART;
    s.part = (int32_t *)(void *)(s.q + 2 * s.q_bytes);
    s.top = (uint64_t *)(void *)(s.part + 4 * N_THREADS);
    screen_fetch(SAME_BLOCK, a, &s);
    BARRIER();
    screen_parts(SAME_BLOCK, a, &s);
    BARRIER();
    FOR_THREADS(t)
    {
        uint32_t r = BLOCK_X * CUDA_SCREEN_ROWS + t;
        uint64_t key = 0;
        if (t < CUDA_SCREEN_ROWS && r < a->n_rows) {
            uint32_t half = t / (CUDA_SCREEN_ROWS / 2), group = t % (CUDA_SCREEN_ROWS / 2);
            const int32_t *part = s.part + 2 * half * N_THREADS + group * CUDA_SCREEN_GROUP;
            float score =
                screen_finish(a, a->in, r, screen_sum(part), screen_sum(part + N_THREADS));
            a->near[r] = score;
            key = candidate_key(score, (int32_t)r);
        }
        shared_max64(s.top, key);
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t == 0) {
            a->tops[BLOCK_X] = candidate_of(*s.top);
        }
    }
}

/* ---- rows in full ---- */

/* The arguments as the blocks of one input see them. */
BLOCK_FN struct cuda_screen_full_args full_input(BLOCK, const struct cuda_screen_full_args *a)
{
    struct cuda_screen_full_args mine = *a;
    mine.x += (uint64_t)BLOCK_Y * a->cols;
    mine.q += 2ull * BLOCK_Y * a->stride;
    mine.near += (uint64_t)BLOCK_Y * a->rows;
    mine.logits += (uint64_t)BLOCK_Y * a->rows;
    mine.seeds += (uint64_t)BLOCK_Y * a->k;
    mine.in += BLOCK_Y;
    return mine;
}

/* Shared: the input, lanes of 16 rows, the rows that are left by the first part of the copy and by
 * both, their numbers. */
struct full_space {
    float *x, *lanes;
    uint32_t *list, *kept, *n, *n_kept;
};

BLOCK_FN struct full_space full_space_at(unsigned char *shared, uint32_t cols)
{
    struct full_space s;
    s.x = (float *)(void *)shared;
    s.lanes = s.x + CUDA_ROW_FLOATS(cols);
    s.list = (uint32_t *)(void *)(s.lanes + CUDA_FULL_THREADS);
    s.kept = s.list + CUDA_FULL_THREADS * CUDA_FULL_TOGETHER;
    s.n = s.kept + CUDA_FULL_THREADS * CUDA_FULL_TOGETHER;
    s.n_kept = s.n + 1;
    return s;
}

/* The lane of thread t of row r. */
THREAD_FN float full_lane(const struct cuda_screen_full_args *a, uint32_t r, uint32_t t,
                          const float *x)
{
    struct lane_row row = {a->w + (uint64_t)r * a->row_bytes, t % CUDA_LANES, a->type};
    return lane_product(&row, 0, x, a->cols, 0.0f);
}

BLOCK_FN void k_screen_seeds(BLOCK, const struct cuda_screen_full_args *all)
{
    const struct cuda_screen_full_args mine = full_input(SAME_BLOCK, all), *a = &mine;
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    struct full_space s = full_space_at(BLOCK_SHARED, a->cols);
    uint32_t first = BLOCK_X * CUDA_FULL_ROWS;
    fetch_row(SAME_BLOCK, a->x, a->cols, s.x);
    BARRIER();
    FOR_THREADS(t)
    {
        uint32_t i = first + t / CUDA_LANES;
        if (i < a->k && a->seeds[i].id >= 0) {
            s.lanes[t] = full_lane(a, (uint32_t)a->seeds[i].id, t, s.x);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < CUDA_FULL_ROWS && first + t < a->k && a->seeds[first + t].id >= 0) {
            a->seeds[first + t].logit = sum_lanes(s.lanes + t * CUDA_LANES);
        }
    }
}

/* The least of k known logits; -infinity when one of them is none. */
THREAD_FN float least_seed(const struct cuda_candidate *seeds, uint32_t k)
{
    float least = float_of(BITS_INFINITE);
    int known = 1;
    for (uint32_t i = 0; i < k; i++) {
        float logit = seeds[i].logit;
        known = known && seeds[i].id >= 0 && (bits_of(logit) & 0x7fffffffu) < BITS_INFINITE;
        least = logit < least ? logit : least;
    }
    return known ? least : -float_of(BITS_INFINITE);
}

/* Rows go round among the blocks by eights, so that neighbours, which are alike, do not all meet
 * one of them. The row of thread t in a round. */
THREAD_FN uint32_t full_row(const struct cuda_screen_full_args *a, uint32_t block, uint32_t round,
                            uint32_t t)
{
    return ((round * CUDA_FULL_THREADS + t) / 8 * a->n_blocks + block) * 8 + t % 8;
}

/* What row r may be at most by the first part of the copy. */
THREAD_FN float screen_above(const struct cuda_screen_full_args *a, uint32_t r)
{
    const struct screen_row *row = &a->screen_rows[r];
    float bound = row->error * a->in->x_length + row->norm * a->in->d_length + SCREEN_LOSS;
    return a->near[r] + bound;
}

/* The rows of a->together rounds that may reach `least`, into the list; the others are not to be
 * chosen. */
BLOCK_FN void full_list(BLOCK, const struct cuda_screen_full_args *a, uint32_t round, float least,
                        const struct full_space *s)
{
    FOR_THREADS(t)
    {
        if (t == 0) {
            *s->n = 0;
            *s->n_kept = 0;
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        for (uint32_t i = 0; i < a->together; i++) {
            uint32_t r = full_row(a, BLOCK_X, round + i, t);
            if (r < a->rows) {
                if (screen_above(a, r) < least) {
                    a->logits[r] = -float_of(BITS_INFINITE);
                } else {
                    s->list[shared_next(s->n)] = r;
                }
            }
        }
    }
    BARRIER();
}

/* The part of the second part of row r times the first row of the input that is thread `lane` of
 * CUDA_LANES. */
THREAD_FN int32_t rest_part(const struct cuda_screen_full_args *a, uint32_t r, uint32_t lane)
{
    const uint8_t *row = a->rest + r * a->rest_bytes;
    int32_t sum[PLANES] = {0, 0, 0, 0};
    for (uint32_t c = lane; c < a->rest_bytes / 16; c += CUDA_LANES) {
        struct words4 w = load_constant(row + 16 * c);
        UNROLL
        for (uint32_t g = 0; g < PLANES; g++) {
            struct words4 x = load_words(a->q + c / 4 * 256 + 64 * g + c % 4 * 16);
            UNROLL
            for (uint32_t i = 0; i < 4; i++) {
                sum[g] = dot4(plane_codes(w.w[i], g), x.w[i], sum[g]);
            }
        }
    }
    return join_planes(sum);
}

/* What row r may be at most by both parts of the copy, from the sum of the second's codes. */
THREAD_FN float rest_above(const struct cuda_screen_full_args *a, uint32_t r, int32_t codes)
{
    const struct screen_row *row = &a->screen_rows[r];
    const struct cuda_screen_input *in = a->in;
    float step = SCREEN_REST * (in->scale * (float)SCREEN_FINER);
    float sum = (float)(codes - in->sum[0]) * step - 0.5f * step * (float)in->sum[0];
    float bound = row->left * in->x_length + row->norm * in->d_length +
                  (row->error + row->left) * in->c_length + SCREEN_LOSS;
    return a->near[r] + sum * row->step + bound;
}

/* The rows of the list that may reach `least` by both parts of the copy. */
BLOCK_FN void full_thin(BLOCK, const struct cuda_screen_full_args *a, float least,
                        const struct full_space *s)
{
    uint32_t n = *s->n;
    int32_t *part = (int32_t *)(void *)s->lanes;
    for (uint32_t first = 0; first < n; first += CUDA_FULL_ROWS) {
        FOR_THREADS(t)
        {
            uint32_t i = first + t / CUDA_LANES;
            if (i < n) {
                part[t] = rest_part(a, s->list[i], t % CUDA_LANES);
            }
        }
        BARRIER();
        FOR_THREADS(t)
        {
            if (t < CUDA_FULL_ROWS && first + t < n) {
                uint32_t r = s->list[first + t];
                if (rest_above(a, r, sum_group(part + t * CUDA_LANES)) < least) {
                    a->logits[r] = -float_of(BITS_INFINITE);
                } else {
                    s->kept[shared_next(s->n_kept)] = r;
                }
            }
        }
        BARRIER();
    }
}

/* Rows that are kept, in full. */
BLOCK_FN void full_kept(BLOCK, const struct cuda_screen_full_args *a, const struct full_space *s)
{
    uint32_t n = *s->n_kept;
    for (uint32_t first = 0; first < n; first += CUDA_FULL_ROWS) {
        FOR_THREADS(t)
        {
            uint32_t i = first + t / CUDA_LANES;
            if (i < n) {
                s->lanes[t] = full_lane(a, s->kept[i], t, s->x);
            }
        }
        BARRIER();
        FOR_THREADS(t)
        {
            if (t < CUDA_FULL_ROWS && first + t < n) {
                a->logits[s->kept[first + t]] = sum_lanes(s->lanes + t * CUDA_LANES);
            }
        }
        BARRIER();
    }
    FOR_THREADS(t)
    {
        if (t == 0 && n > 0) {
            shared_add((int32_t *)a->n_full, (int32_t)n);
        }
    }
}

BLOCK_FN void k_screen_rows(BLOCK, const struct cuda_screen_full_args *all)
{
    const struct cuda_screen_full_args mine = full_input(SAME_BLOCK, all), *a = &mine;
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    struct full_space s = full_space_at(BLOCK_SHARED, a->cols);
    float least = least_seed(a->seeds, a->k);
    fetch_row(SAME_BLOCK, a->x, a->cols, s.x);
    for (uint32_t round = 0; full_row(a, BLOCK_X, round, 0) < a->rows; round += a->together) {
        full_list(SAME_BLOCK, a, round, least, &s);
        full_thin(SAME_BLOCK, a, least, &s);
        full_kept(SAME_BLOCK, a, &s);
        BARRIER();
    }
}

#endif
