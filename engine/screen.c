/* Making the small copy of a head. Each row is written by one thread in one order, so that the form
 * does not depend on their number. */
#include "engine/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysinfo.h"
#include "engine/cpu/pool.h"
#include "engine/model.h"

/* Sums of levels times int8 stay in int32, as do sums of squares of levels. */
#define MAX_COLS 65536u
#define PIECE_ROWS 64u
/* The step of a row, in shares of the root of its mean square: with it the levels are those of the
 * least error for weights of a normal distribution, but for their rounding. */
#define STEP_SHARE 0.033776515f
enum { SCREEN_VERSION = 1, LANES = 8, NEAREST = 256, REST_BLOCK_BYTES = 64 };

bool screen_fits(const struct weight *head)
{
    return (head->type == TENSOR_F32 || head->type == TENSOR_F16 || head->type == TENSOR_BF16) &&
           head->cols <= MAX_COLS;
}

static uint64_t table_bytes(const struct weight *head)
{
    return (head->rows * sizeof(struct screen_row) + 63) / 64 * 64;
}

static uint64_t blocks_of(const struct weight *head)
{
    return (head->cols + 255) / 256;
}

static uint64_t codes_bytes(const struct weight *head)
{
    return (head->rows * screen_row_bytes(head->cols) + 63) / 64 * 64;
}

uint64_t screen_token_bytes(const struct weight *head)
{
    return table_bytes(head) + codes_bytes(head);
}

uint64_t screen_bytes(const struct weight *head)
{
    return screen_token_bytes(head) + head->rows * blocks_of(head) * REST_BLOCK_BYTES;
}

void screen_view(const struct weight *head, const uint8_t *data, struct screen *out)
{
    *out = (struct screen){.rows = (const struct screen_row *)(const void *)data,
                           .codes = data + table_bytes(head),
                           .rest = data + screen_token_bytes(head),
                           .n_rows = head->rows,
                           .cols = head->cols,
                           .row_bytes = screen_row_bytes(head->cols),
                           .rest_cols = blocks_of(head) * 256,
                           .rest_bytes = blocks_of(head) * REST_BLOCK_BYTES};
}

/* Up to 256 weights: which level, whether it is negative, and what is left of the weight. */
struct block_codes {
    uint8_t level[256], negative[256], rest[256];
};

/* In the order of struct act_rows. */
static void put_block(const struct block_codes *b, uint8_t *block)
{
    memset(block + 128, 0, 32);
    for (int half = 0; half < 2; half++) {
        const uint8_t *c = b->level + 128 * half, *n = b->negative + 128 * half;
        uint8_t *at = block + 32 * half;
        for (int p = 0; p < 32; p++) {
            at[p] = (uint8_t)(c[p] | c[p + 32] << 4);
            at[64 + p] = (uint8_t)(c[p + 64] | c[p + 96] << 4);
            block[128 + p] |=
                (uint8_t)((n[p] | n[p + 32] << 1 | n[p + 64] << 2 | n[p + 96] << 3) << 4 * half);
        }
    }
}

static void put_rest(const struct block_codes *b, uint8_t *block)
{
    for (int half = 0; half < 2; half++) {
        const uint8_t *c = b->rest + 128 * half;
        for (int p = 0; p < 32; p++) {
            block[32 * half + p] =
                (uint8_t)(c[p] << 6 | c[p + 32] << 4 | c[p + 64] << 2 | c[p + 96]);
        }
    }
}

static float rounded_up(double sum_of_squares)
{
    return nextafterf((float)(sqrt(sum_of_squares) * (1 + 0x1p-40)), INFINITY);
}

/* The sum of squares; infinite or NaN when a value is. n: whole lanes. In lanes, so that the
 * compiler may take values side by side, as in the short loops below. */
static double squares_of(const float *w, uint64_t n)
{
    double lane[LANES] = {0}, sum = 0;
    for (uint64_t c = 0; c < n; c += LANES) {
        for (int i = 0; i < LANES; i++) {
            lane[i] += (double)w[c + i] * (double)w[c + i];
        }
    }
    for (int i = 0; i < LANES; i++) {
        sum += lane[i];
    }
    return sum;
}

/* The level nearest to k / 2 and a little more, and which it is. */
struct nearest {
    uint8_t level[NEAREST], which[NEAREST];
};

static void find_nearest(struct nearest *t)
{
    for (int k = 0, i = 0; k < NEAREST; k++) {
        while (i + 1 < SCREEN_LEVELS && screen_levels[i] + screen_levels[i + 1] <= k) {
            i++;
        }
        t->level[k] = screen_levels[i];
        t->which[k] = (uint8_t)i;
    }
}

/* Of a row. */
struct row_sums {
    double errors[LANES], left[LANES];
    int32_t squares; /* of levels */
};

struct row_step {
    const struct nearest *nearest;
    float step, inverse; /* inverse: 0 where 1 / step is no number */
};

/* n: of the block's weights; what follows has no share in the sums. */
static void code_block(const float w[256], int n, const struct row_step *s, struct row_sums *sums,
                       struct block_codes *out)
{
    float size[256], level[256], kept[256];
    int32_t twice[256];
    for (int c = 0; c < 256; c++) {
        size[c] = fabsf(w[c]);
        float steps = 2 * s->inverse * size[c];
        twice[c] = (int32_t)(steps < NEAREST - 1 ? steps : NEAREST - 1);
        out->negative[c] = w[c] < 0;
    }
    for (int c = 0; c < 256; c++) {
        out->level[c] = s->nearest->which[twice[c]];
        level[c] = s->nearest->level[twice[c]];
    }
    for (int c = 0; c < 256; c++) {
        float rest = s->inverse * size[c] - level[c];
        int code = (rest > -SCREEN_REST) + (rest > 0) + (rest > SCREEN_REST);
        kept[c] = level[c] + SCREEN_REST * ((float)code - 1.5f);
        out->rest[c] = (uint8_t)(out->negative[c] ? 3 - code : code);
    }
    memset(level + n, 0, sizeof(float) * (size_t)(256 - n));
    memset(kept + n, 0, sizeof(float) * (size_t)(256 - n));
    for (int c = 0; c < 256; c += LANES) {
        for (int i = 0; i < LANES; i++) {
            double e = (double)size[c + i] - (double)s->step * (double)level[c + i];
            double f = (double)size[c + i] - (double)s->step * (double)kept[c + i];
            sums->errors[i] += e * e;
            sums->left[i] += f * f;
        }
    }
    for (int c = 0; c < n; c++) {
        sums->squares += (int32_t)level[c] * (int32_t)level[c];
    }
}

static struct screen_row finish_row(float step, const struct row_sums *sums)
{
    double errors = 0, left = 0;
    for (int i = 0; i < LANES; i++) {
        errors += sums->errors[i];
        left += sums->left[i];
    }
    return (struct screen_row){.step = step,
                               .error = rounded_up(errors),
                               .norm = rounded_up((double)step * (double)step * sums->squares),
                               .left = rounded_up(left)};
}

/* Where a row goes. */
struct row_place {
    struct screen_row *row;
    uint8_t *codes, *rest;
};

/* w: whole blocks, zeros after the row's end. */
static void screen_values(const float *w, uint64_t cols, const struct nearest *nearest,
                          const struct row_place *at)
{
    uint64_t blocks = (cols + 255) / 256;
    double squares = squares_of(w, blocks * 256);
    if (!isfinite(squares)) {
        memset(at->codes, 0, blocks * SCREEN_BLOCK_BYTES);
        memset(at->rest, 0, blocks * REST_BLOCK_BYTES);
        *at->row = (struct screen_row){.error = INFINITY, .left = INFINITY};
        return;
    }
    struct row_step s = {.nearest = nearest,
                         .step = STEP_SHARE * (float)sqrt(squares / (double)cols)};
    s.inverse = s.step > 0 ? 1 / s.step : 0;
    s.inverse = isfinite(s.inverse) ? s.inverse : 0; /* a row of subnormals */
    struct row_sums sums = {0};
    for (uint64_t b = 0; b < blocks; b++) {
        struct block_codes codes;
        uint64_t n = cols - b * 256;
        code_block(w + b * 256, n < 256 ? (int)n : 256, &s, &sums, &codes);
        put_block(&codes, at->codes + b * SCREEN_BLOCK_BYTES);
        put_rest(&codes, at->rest + b * REST_BLOCK_BYTES);
    }
    *at->row = finish_row(s.step, &sums);
}

struct fill_task {
    const struct weight *head;
    struct screen_row *rows;
    uint8_t *codes, *rest;
    float *values; /* a row for each thread */
    struct nearest nearest;
};

static void fill_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct fill_task *t = ctx;
    uint64_t cols = t->head->cols, blocks = blocks_of(t->head);
    float *values = t->values + (size_t)thread * blocks * 256;
    for (size_t r = begin; r < end; r++) {
        struct row_place at = {&t->rows[r], t->codes + r * screen_row_bytes(cols),
                               t->rest + r * blocks * REST_BLOCK_BYTES};
        dequantize_row(t->head->type, t->head->data + r * t->head->row_bytes, cols, values);
        screen_values(values, cols, &t->nearest, &at);
    }
}

enum bnt_status screen_fill(const struct weight *head, uint8_t *dst, struct bnt_err *err)
{
    int threads = bnt_cpu_count();
    threads = threads > BNT_MAX_THREADS ? BNT_MAX_THREADS : threads;
    size_t row_bytes = (size_t)(blocks_of(head) * 256 * sizeof(float));
    struct fill_task t = {.head = head,
                          .rows = (struct screen_row *)(void *)dst,
                          .codes = dst + table_bytes(head),
                          .rest = dst + screen_token_bytes(head),
                          .values = calloc((size_t)threads, row_bytes)};
    if (!t.values) {
        return bnt_err_nomem(err, "a row of the head", (size_t)threads * row_bytes);
    }
    find_nearest(&t.nearest);
    struct cpu_pool *pool;
    enum bnt_status st = cpu_pool_new(threads, &pool, err);
    if (st == BNT_OK) {
        cpu_pool_run(pool, head->rows, PIECE_ROWS, fill_rows, &t);
        cpu_pool_free(pool);
    }
    free(t.values);
    return st;
}

static enum bnt_status fill_form(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    const struct bnt_model *m = ctx;
    return screen_fill(&m->head, dst, err);
}

enum bnt_status screen_open(struct bnt_model *m, struct bnt_err *err)
{
    struct packed_want want = {.layout = "head-l5-2",
                               .version = SCREEN_VERSION,
                               .size = screen_bytes(&m->head),
                               .fill = fill_form,
                               .ctx = m};
    enum bnt_status st = packed_open(&m->packs, &want, &m->screen_form, err);
    if (st == BNT_OK) {
        screen_view(&m->head, m->screen_form.data, &m->screen);
    }
    return st;
}
