/* Attention of one token, or of a few, spread over the device. The processor adds values by
 * ascending position, one rounding after the other, so positions cannot be divided: what is, are
 * columns. Blocks of k_values take CUDA_WEIGH_COLS columns of a head each and go over all
 * positions, by stages. One warp does nothing but add, one thread a column, since its additions
 * wait for each other; meanwhile the others of its block have the values of later stages on their
 * way to shared memory, turn the scores of the stage after the next into weights, and multiply
 * those of the next one. Scores depend on nothing but their position: blocks of k_scores take a
 * slice of positions each, and say the largest score of theirs, which has no order to keep.
 *
 * Up to a few hundred positions one launch does both, as k_attend_one: each block finds all scores
 * of its head itself, with the values already on their way. Neither grid depends on the position,
 * so that a captured launch serves every position that it is meant for. */
#ifndef BNT_CUDA_KERNELS_SPLIT_H
#define BNT_CUDA_KERNELS_SPLIT_H

#include "engine/cuda/block_math.h"
#include "engine/cuda/kernels_attend.h"
#include "engine/cuda/kernels_row.h"

/* ---- queries and a key on their way to shared memory ---- */

struct turning {
    const float *cs, *q, *key; /* key NULL: it is somebody else's */
    uint32_t n;                /* queries, one after the other */
};

/* Rotated, the key behind the queries; by thread t of n_threads. */
THREAD_FN void rotate_into(const struct cuda_heads *h, const struct turning *a, float *to,
                           uint32_t t, uint32_t n_threads)
{
    uint32_t pairs = h->n_rot / 2, plain = h->head_dim - 2 * pairs, n = a->n + (a->key != 0);
    for (uint32_t i = t; i < n * pairs; i += n_threads) {
        uint32_t head = i / pairs, pair = i % pairs;
        uint32_t x = h->neox ? pair : 2 * pair, y = h->neox ? pair + pairs : 2 * pair + 1;
        const float *from = head < a->n ? a->q + head * h->head_dim : a->key;
        float *at = to + head * h->head_dim;
        float from_x = from[x], from_y = from[y], c = a->cs[2 * pair], s = a->cs[2 * pair + 1];
        at[x] = from_x * c - from_y * s;
        at[y] = from_x * s + from_y * c;
    }
    for (uint32_t i = t; i < n * plain; i += n_threads) {
        uint32_t head = i / plain, at = 2 * pairs + i % plain;
        to[head * h->head_dim + at] = (head < a->n ? a->q + head * h->head_dim : a->key)[at];
    }
}

/* A row of a head into a cache, at element `at`. */
THREAD_FN void store_row(const struct cuda_heads *h, void *cache, uint64_t at, const float *x,
                         uint32_t t, uint32_t n_threads)
{
    for (uint32_t i = t; i < h->head_dim; i += n_threads) {
        cache_put(h, cache, at + i, x[i]);
    }
}

/* ---- columns of the values, weighted ---- */

/* Shared memory of a block that weighs; more may follow at `end`. */
struct weigh_space {
    unsigned char *stages; /* [CUDA_WEIGH_STAGES][CUDA_WEIGH_STAGE_BYTES] */
    float *raw;            /* [CUDA_WEIGH_STAGES][CUDA_WEIGH_MOST]: scores that came from afar */
    float *products;       /* [2][CUDA_WEIGH_COLS][CUDA_WEIGH_APART]: of the stage that is added */
    float *weights;        /* [2][CUDA_WEIGH_MOST]: of the next one, and of that after it */
    float *lanes;          /* sums of weights */
    uint32_t *max;
    float *end;
};

/* What it weighs. */
struct weigh_work {
    const char *values; /* the first of its columns at position 0 */
    uint32_t n_kv, n_cols;
    uint32_t element, apart, unit; /* bytes: of a value, between positions, of a copy */
    uint32_t per_stage;            /* positions */
    const float *scores;           /* of all positions */
    int far;                       /* they are in global memory, in rows of whole fours */
    float max;
};

THREAD_FN struct weigh_space weigh_space_at(unsigned char *shared)
{
    struct weigh_space s;
    s.stages = shared;
    s.raw = (float *)(void *)(shared + CUDA_WEIGH_STAGES * CUDA_WEIGH_STAGE_BYTES);
    s.products = s.raw + CUDA_WEIGH_STAGES * CUDA_WEIGH_MOST;
    s.weights = s.products + 2 * CUDA_WEIGH_COLS * CUDA_WEIGH_APART;
    s.lanes = s.weights + 2 * CUDA_WEIGH_MOST;
    s.max = (uint32_t *)(void *)(s.lanes + CUDA_LANES);
    s.end = (float *)(void *)(s.max + 4);
    return s;
}

/* Columns col.. of a head's values, at: of the head in the caches, in elements. Copies are as long
 * as the rows of a cache allow. */
THREAD_FN struct weigh_work weigh_work_of(const struct cuda_heads *h, uint64_t at, uint32_t col,
                                          uint32_t n_kv)
{
    struct weigh_work w;
    w.element = h->kv_f16 ? 2 : 4;
    w.apart = h->head_dim * w.element;
    w.values = (const char *)h->v_cache + (at + col) * w.element;
    w.n_kv = n_kv;
    w.n_cols = min_u32(h->head_dim - col, CUDA_WEIGH_COLS);
    w.unit = w.apart % 16 == 0 ? 16 : w.apart % 4 == 0 ? 4 : 2;
    w.per_stage = CUDA_WEIGH_STAGE_BYTES / (CUDA_WEIGH_COLS * w.element);
    w.scores = 0;
    w.far = 0;
    w.max = 0.0f;
    return w;
}

/* `unit` bytes, or zeros. */
THREAD_FN void send_unit(uint32_t unit, unsigned char *to, const char *from, int wanted)
{
    if (unit == 16) {
        send_words(to, from, wanted);
    } else if (unit == 4) {
        send_word(to, from, wanted);
    } else {
        *(uint16_t *)(void *)to = wanted ? *(const uint16_t *)(const void *)from : (uint16_t)0;
    }
}

/* Values of a stage on their way, by thread `t` of n; zeros past the last position, which are
 * weighted with zeros. */
THREAD_FN void send_values(const struct weigh_work *w, unsigned char *stage, uint32_t first,
                           uint32_t t, uint32_t n)
{
    uint32_t row_bytes = CUDA_WEIGH_COLS * w->element, used = w->n_cols * w->element;
    for (uint32_t i = t * w->unit; i < CUDA_WEIGH_STAGE_BYTES; i += n * w->unit) {
        uint32_t p = first + i / row_bytes, b = i % row_bytes;
        int wanted = p < w->n_kv;
        if (b < used) {
            send_unit(w->unit, stage + i, w->values + (uint64_t)(wanted ? p : 0) * w->apart + b,
                      wanted);
        }
    }
}

/* Stage k of values, and the far scores of the stage after it, whose weights are found earlier. */
THREAD_FN void send_stage(const struct weigh_work *w, const struct weigh_space *s, uint32_t k,
                          uint32_t t, uint32_t n)
{
    uint32_t first = k * w->per_stage, next = first + w->per_stage;
    if (first < w->n_kv) {
        send_values(w, s->stages + k % CUDA_WEIGH_STAGES * CUDA_WEIGH_STAGE_BYTES, first, t, n);
    }
    float *raw = s->raw + (k + 1) % CUDA_WEIGH_STAGES * CUDA_WEIGH_MOST;
    for (uint32_t i = 4 * t; w->far && i < w->per_stage && next + i < w->n_kv; i += 4 * n) {
        send_words(raw + i, w->scores + next + i, 1);
    }
}

/* As many stages as there is room for, before anything is known of the weights. */
BLOCK_FN void send_first_stages(BLOCK, const struct weigh_work *w, const struct weigh_space *s)
{
    for (uint32_t k = 0; k < CUDA_WEIGH_STAGES; k++) {
        FOR_THREADS(t)
        {
            send_stage(w, s, k, t, N_THREADS);
        }
        END_COPIES();
    }
}

/* Weights of stage k from its scores; zeros past the last position. */
THREAD_FN void find_weights(const struct weigh_work *w, const struct weigh_space *s, uint32_t k,
                            const float *scores, uint32_t t, uint32_t n)
{
    uint32_t first = k * w->per_stage;
    float *weights = s->weights + k % 2 * CUDA_WEIGH_MOST;
    for (uint32_t i = t; i < w->per_stage; i += n) {
        weights[i] = first + i < w->n_kv ? exp_f32(scores[i] - w->max) : 0.0f;
    }
}

/* The lanes of the sum of weights go on over stage k. Sums that begin at zero are not changed by
 * adding zeros. */
THREAD_FN void add_weights(const struct weigh_work *w, const struct weigh_space *s, uint32_t k,
                           uint32_t t)
{
    const float *weights = s->weights + k % 2 * CUDA_WEIGH_MOST;
    if (t < CUDA_LANES) {
        float sum = s->lanes[t];
        for (uint32_t i = t; i < w->per_stage; i += 2 * CUDA_LANES) {
            sum += weights[i];
            sum += weights[i + CUDA_LANES];
        }
        s->lanes[t] = sum;
    }
}

/* Products of stage k by CUDA_MULTIPLY_THREADS, one column and a quarter of the stage each; the
 * thread that adds the column reads four at once. */
THREAD_FN void multiply_stage(uint32_t type, const struct weigh_space *s, uint32_t k, uint32_t t)
{
    const uint32_t each =
        CUDA_WEIGH_STAGE_BYTES / (type == CUDA_F16 ? 2 : 4) / CUDA_MULTIPLY_THREADS;
    uint32_t col = t % CUDA_WEIGH_COLS, p = t / CUDA_WEIGH_COLS * each;
    const unsigned char *stage = s->stages + k % CUDA_WEIGH_STAGES * CUDA_WEIGH_STAGE_BYTES;
    const float *weights = s->weights + k % 2 * CUDA_WEIGH_MOST + p;
    float *to = s->products + (k % 2 * CUDA_WEIGH_COLS + col) * CUDA_WEIGH_APART + p;
    struct words4 w[CUDA_WEIGH_MOST / 16];
    float v[CUDA_WEIGH_MOST / 4];
    UNROLL
    for (uint32_t i = 0; i < each; i++) {
        v[i] = value_at(type, stage, (p + i) * CUDA_WEIGH_COLS + col);
    }
    UNROLL
    for (uint32_t i = 0; i < each / 4; i++) {
        w[i] = load_words(weights + 4 * i);
    }
    UNROLL
    for (uint32_t i = 0; i < each; i++) {
        w[i / 4].w[i % 4] = bits_of(float_of(w[i / 4].w[i % 4]) * v[i]);
    }
    UNROLL
    for (uint32_t i = 0; i < each / 4; i++) {
        store_words(to + 4 * i, w[i]);
    }
}

THREAD_FN void multiply(const struct weigh_work *w, const struct weigh_space *s, uint32_t k,
                        uint32_t t)
{
    if (t >= CUDA_MULTIPLY_THREADS) {
        return;
    }
    if (w->element == 2) {
        multiply_stage(CUDA_F16, s, k, t);
    } else {
        multiply_stage(CUDA_F32, s, k, t);
    }
}

/* A column's sum goes on over the products of a stage. */
THREAD_FN float add_stage(float sum, const float *products, uint32_t per_stage)
{
    for (uint32_t p = 0; p < per_stage; p += 32) {
        struct words4 x[8];
        UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            x[i] = load_words(products + p + 4 * i);
        }
        UNROLL
        for (uint32_t i = 0; i < 32; i++) {
            sum += float_of(x[i / 4].w[i % 4]);
        }
    }
    return sum;
}

/* What the other threads do while stage k is added, t of n of them: the first multiply, the others
 * send, find weights, and sum those. Stage k + CUDA_WEIGH_STAGES takes the place of that which has
 * been multiplied before. */
THREAD_FN void serve_stage(const struct weigh_work *w, const struct weigh_space *s, uint32_t k,
                           uint32_t t, uint32_t n)
{
    uint32_t multiplied = (k + 1) * w->per_stage, weighted = multiplied + w->per_stage;
    if (t < CUDA_MULTIPLY_THREADS) {
        if (multiplied < w->n_kv) {
            multiply(w, s, k + 1, t);
        }
        return;
    }
    t -= CUDA_MULTIPLY_THREADS;
    n -= CUDA_MULTIPLY_THREADS;
    send_stage(w, s, k + CUDA_WEIGH_STAGES, t, n);
    if (weighted < w->n_kv) {
        const float *raw = s->raw + (k + 2) % CUDA_WEIGH_STAGES * CUDA_WEIGH_MOST;
        find_weights(w, s, k + 2, w->far ? raw : w->scores + weighted, t, n);
    }
    if (multiplied < w->n_kv) {
        add_weights(w, s, k + 1, n - 1 - t);
    }
}

/* What goes ahead of the first stage: the weights of two, the products of one. */
BLOCK_FN void begin_columns(BLOCK, const struct weigh_work *w, const struct weigh_space *s)
{
    FOR_THREADS(t)
    {
        if (t < CUDA_LANES) {
            s->lanes[t] = 0.0f;
        }
        find_weights(w, s, 0, w->scores, t, N_THREADS);
        if (w->per_stage < w->n_kv) {
            find_weights(w, s, 1, w->scores + w->per_stage, t, N_THREADS);
        }
    }
    COPIES_LEFT(CUDA_WEIGH_STAGES - 1);
    BARRIER();
    FOR_THREADS(t)
    {
        multiply(w, s, 0, t);
        add_weights(w, s, 0, t);
    }
}

/* After send_first_stages, the columns over the sum of weights to out; w has scores and their
 * largest by now. */
BLOCK_FN void weigh_columns(BLOCK, const struct weigh_work *w, const struct weigh_space *s,
                            float *out)
{
    KEEP(float, sum, 1);
    begin_columns(SAME_BLOCK, w, s);
    FOR_THREADS(t)
    {
        MINE(sum, t)[0] = 0.0f;
    }
    for (uint32_t k = 0; k * w->per_stage < w->n_kv; k++) {
        COPIES_LEFT(CUDA_WEIGH_STAGES - 2);
        BARRIER();
        FOR_THREADS(t)
        {
            const float *products = s->products + (k % 2 * CUDA_WEIGH_COLS + t) * CUDA_WEIGH_APART;
            if (t >= CUDA_WEIGH_COLS) {
                serve_stage(w, s, k, t - CUDA_WEIGH_COLS, N_THREADS - CUDA_WEIGH_COLS);
            } else if (t < w->n_cols) {
                MINE(sum, t)[0] = add_stage(MINE(sum, t)[0], products, w->per_stage);
            }
        }
        END_COPIES();
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < w->n_cols) {
            out[t] = MINE(sum, t)[0] / sum_lanes(s->lanes);
        }
    }
}

/* ---- one launch ---- */

/* Block h * C + c, C pieces of CUDA_WEIGH_COLS columns: piece c of head h. */
BLOCK_FN void k_attend_one(BLOCK, const struct cuda_split_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    const struct cuda_heads *h = &a->heads;
    uint32_t pieces = (h->head_dim + CUDA_WEIGH_COLS - 1) / CUDA_WEIGH_COLS;
    uint32_t head = BLOCK_X / pieces, col = BLOCK_X % pieces * CUDA_WEIGH_COLS;
    uint32_t kv_head = head / (h->n_head / h->n_head_kv);
    uint32_t seq = a->rows->seq, pos = a->rows->pos;
    struct weigh_space s = weigh_space_at(BLOCK_SHARED);
    float *q = s.end, *key = q + h->head_dim, *scores = key + h->head_dim;
    uint64_t newest = cache_at(h, seq, kv_head, pos), kv = (uint64_t)kv_head * h->head_dim;
    struct turning turning;
    turning.cs = h->cs + (uint64_t)pos * h->n_rot;
    turning.q = a->q + (uint64_t)head * h->head_dim;
    turning.key = a->k + kv;
    turning.n = 1;
    FOR_THREADS(t) /* every block of the group stores the same */
    {
        if (t < N_THREADS / 2) {
            rotate_into(h, &turning, q, t, N_THREADS / 2);
        } else {
            store_row(h, h->v_cache, newest, a->v + kv, t - N_THREADS / 2, N_THREADS / 2);
        }
        if (t == 0) {
            *s.max = 0;
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        store_row(h, h->k_cache, newest, key, t, N_THREADS);
    }
    BARRIER();
    uint64_t at = cache_at(h, seq, kv_head, 0);
    struct weigh_work w = weigh_work_of(h, at, col, pos + 1);
    send_first_stages(SAME_BLOCK, &w, &s);
    FOR_THREADS(t)
    {
        uint32_t most = 0;
        for (uint32_t p = t; p < w.n_kv; p += N_THREADS) {
            float x = score(h, a->scale, q,
                            (const char *)h->k_cache + at * w.element + (uint64_t)p * w.apart);
            uint32_t order = float_order(bits_of(x));
            scores[p] = x;
            most = order > most ? order : most;
        }
        shared_max(s.max, most);
    }
    BARRIER();
    w.scores = scores;
    w.max = float_of_order(*s.max);
    weigh_columns(SAME_BLOCK, &w, &s, a->out + (uint64_t)head * h->head_dim + col);
}

/* ---- two launches ---- */

/* The heads of a block of k_scores: up to CUDA_ATTEND_GROUP that share keys. */
struct score_block {
    uint32_t kv_head, head, n; /* the first of n heads */
    uint32_t slice, positions; /* that it takes at once */
};

THREAD_FN struct score_block score_block_at(const struct cuda_split_args *a, uint32_t x)
{
    uint32_t of_group = a->heads.n_head / a->heads.n_head_kv;
    uint32_t pieces = (of_group + CUDA_ATTEND_GROUP - 1) / CUDA_ATTEND_GROUP;
    uint32_t piece = x / a->n_slices, first = piece % pieces * CUDA_ATTEND_GROUP;
    struct score_block b;
    b.kv_head = piece / pieces;
    b.head = b.kv_head * of_group + first;
    b.n = min_u32(of_group - first, CUDA_ATTEND_GROUP);
    b.slice = x % a->n_slices;
    b.positions = CUDA_SCORE_POSITIONS(of_group);
    return b;
}

/* The queries of a block to shared memory, and the newest key and values into the caches by the
 * block that takes their position. */
BLOCK_FN void fetch_queries(BLOCK, const struct cuda_split_args *a, const struct score_block *b,
                            float *queries)
{
    const struct cuda_heads *h = &a->heads;
    uint32_t pos = a->rows[BLOCK_Y].pos, dim = h->head_dim;
    int stores = a->rotate && pos / b->positions % a->n_slices == b->slice;
    uint64_t kv = ((uint64_t)BLOCK_Y * h->n_head_kv + b->kv_head) * dim;
    uint64_t newest = cache_at(h, a->rows[BLOCK_Y].seq, b->kv_head, pos);
    struct turning turning;
    turning.cs = h->cs + (uint64_t)pos * h->n_rot;
    turning.q = a->q + ((uint64_t)BLOCK_Y * h->n_head + b->head) * dim;
    turning.key = stores ? a->k + kv : 0;
    turning.n = b->n;
    FOR_THREADS(t)
    {
        if (a->rotate) {
            rotate_into(h, &turning, queries, t, N_THREADS);
        }
        for (uint32_t i = t; !a->rotate && i < b->n * dim; i += N_THREADS) {
            queries[i] = turning.q[i];
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (stores) {
            store_row(h, h->k_cache, newest, queries + b->n * dim, t, N_THREADS);
            store_row(h, h->v_cache, newest, a->v + kv, t, N_THREADS);
        }
    }
    BARRIER();
}

/* Block (g * S + s, t), S slices: every S-th CUDA_SCORE_POSITIONS of token t, for the heads g. */
BLOCK_FN void k_scores(BLOCK, const struct cuda_split_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    const struct cuda_heads *h = &a->heads;
    struct score_block b = score_block_at(a, BLOCK_X);
    uint32_t n_kv = a->rows[BLOCK_Y].pos + 1, element = h->kv_f16 ? 2 : 4;
    if (b.slice * b.positions >= n_kv) {
        return;
    }
    float *queries = (float *)(void *)BLOCK_SHARED;
    uint32_t *max = (uint32_t *)(void *)(queries + (CUDA_ATTEND_GROUP + 1) * h->head_dim);
    FOR_THREADS(t)
    {
        if (t < CUDA_ATTEND_GROUP) {
            max[t] = 0;
        }
    }
    fetch_queries(SAME_BLOCK, a, &b, queries);
    const char *keys =
        (const char *)h->k_cache + cache_at(h, a->rows[BLOCK_Y].seq, b.kv_head, 0) * element;
    uint64_t row = (uint64_t)BLOCK_Y * h->n_head + b.head;
    FOR_THREADS(t)
    {
        uint32_t g = t / b.positions, most = 0; /* one head for a whole warp */
        uint32_t from = b.slice * b.positions + t % b.positions;
        for (uint32_t p = from; g < b.n && p < n_kv; p += a->n_slices * b.positions) {
            float x = score(h, a->scale, queries + g * h->head_dim,
                            keys + (uint64_t)p * h->head_dim * element);
            uint32_t order = float_order(bits_of(x));
            a->scores[(row + g) * a->stride + p] = x;
            most = order > most ? order : most;
        }
        if (g < b.n) {
            shared_max(max + g, most);
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        if (t < b.n) {
            a->tops[(row + t) * a->n_slices + b.slice] = max[t];
        }
    }
}

/* Block (h * C + c, t): as k_attend_one, of token t, from the scores of k_scores. */
BLOCK_FN void k_values(BLOCK, const struct cuda_split_args *a)
{
    LET_NEXT_BEGIN();
    WAIT_PREVIOUS();
    const struct cuda_heads *h = &a->heads;
    uint32_t pieces = (h->head_dim + CUDA_WEIGH_COLS - 1) / CUDA_WEIGH_COLS;
    uint32_t head = BLOCK_X / pieces, col = BLOCK_X % pieces * CUDA_WEIGH_COLS;
    uint32_t of_group = h->n_head / h->n_head_kv, positions = CUDA_SCORE_POSITIONS(of_group);
    uint64_t row = (uint64_t)BLOCK_Y * h->n_head + head;
    struct weigh_space s = weigh_space_at(BLOCK_SHARED);
    uint64_t at = cache_at(h, a->rows[BLOCK_Y].seq, head / of_group, 0);
    struct weigh_work w = weigh_work_of(h, at, col, a->rows[BLOCK_Y].pos + 1);
    w.scores = a->scores + row * a->stride;
    w.far = 1;
    send_first_stages(SAME_BLOCK, &w, &s);
    FOR_THREADS(t)
    {
        if (t == 0) {
            *s.max = 0;
        }
    }
    BARRIER();
    FOR_THREADS(t)
    {
        uint32_t n = min_u32((w.n_kv + positions - 1) / positions, a->n_slices), most = 0;
        for (uint32_t i = t; i < n; i += N_THREADS) {
            uint32_t top = a->tops[row * a->n_slices + i];
            most = top > most ? top : most;
        }
        shared_max(s.max, most);
    }
    BARRIER();
    w.max = float_of_order(*s.max);
    weigh_columns(SAME_BLOCK, &w, &s, a->out + row * h->head_dim + col);
}

#endif
