/* Making the small copy of a head. Each row is written by one thread in one order, so that the form
 * does not depend on their number. */
#include "engine/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysinfo.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pool.h"
#include "engine/model.h"

/* Sums of 6-bit codes times int8 stay in int32, far below its end. */
#define MAX_COLS 65536u
#define PIECE_ROWS 64u
enum { SCREEN_VERSION = 1, LARGEST = 31 }; /* code 63 - SCREEN_ZERO */

bool screen_fits(const struct weight *head)
{
    return (head->type == TENSOR_F32 || head->type == TENSOR_F16 || head->type == TENSOR_BF16) &&
           head->cols <= MAX_COLS;
}

static uint64_t table_bytes(const struct weight *head)
{
    return (head->rows * sizeof(struct screen_row) + 63) / 64 * 64;
}

uint64_t screen_bytes(const struct weight *head)
{
    return table_bytes(head) + head->rows * screen_row_bytes(head->cols);
}

void screen_view(const struct weight *head, const uint8_t *data, struct screen *out)
{
    *out = (struct screen){.rows = (const struct screen_row *)(const void *)data,
                           .codes = data + table_bytes(head),
                           .n_rows = head->rows,
                           .cols = head->cols,
                           .row_bytes = screen_row_bytes(head->cols)};
}

/* Codes of up to 256 weights into a block, in the order of struct act_rows. */
static void put_block(const uint8_t code[256], uint8_t *block)
{
    for (int p = 0; p < 64; p++) {
        const uint8_t *c = code + p / 32 * 128 + p % 32;
        block[p] = (uint8_t)((c[0] & 15) | (c[32] & 15) << 4);
        block[64 + p] = (uint8_t)((c[64] & 15) | (c[96] & 15) << 4);
        block[128 + p] = (uint8_t)(c[0] >> 4 | c[32] >> 4 << 2 | c[64] >> 4 << 4 | c[96] >> 4 << 6);
    }
}

static float rounded_up(double sum_of_squares)
{
    return nextafterf((float)(sqrt(sum_of_squares) * (1 + 0x1p-40)), INFINITY);
}

static void screen_values(const float *w, uint64_t cols, struct screen_row *row, uint8_t *codes)
{
    float most = 0;
    bool finite = true;
    for (uint64_t c = 0; c < cols; c++) {
        finite = finite && isfinite(w[c]);
        most = fabsf(w[c]) > most ? fabsf(w[c]) : most;
    }
    float step = finite ? most / LARGEST : 0;
    float inverse = step > 0 ? 1 / step : 0;
    inverse = isfinite(inverse) ? inverse : 0; /* a row of subnormals: all of it is error */
    double errors = 0, squares = 0;
    uint8_t block[256];
    for (uint64_t b = 0; b < cols; b += 256) {
        memset(block, SCREEN_ZERO, sizeof block);
        for (uint64_t c = b; finite && c < cols && c < b + 256; c++) {
            float scaled = (w[c] * inverse + 0x1.8p+23f) - 0x1.8p+23f;
            scaled = scaled > LARGEST ? LARGEST : scaled < -LARGEST ? -LARGEST : scaled;
            double near = (double)step * (double)scaled, e = (double)w[c] - near;
            errors += e * e;
            squares += near * near;
            block[c - b] = (uint8_t)((int)scaled + SCREEN_ZERO);
        }
        put_block(block, codes + b / 256 * SCREEN_BLOCK_BYTES);
    }
    row->step = step;
    row->error = finite ? rounded_up(errors) : INFINITY;
    row->norm = rounded_up(squares);
}

struct fill_task {
    const struct weight *head;
    struct screen_row *rows;
    uint8_t *codes;
    float *values; /* a row for each thread */
};

static void fill_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct fill_task *t = ctx;
    uint64_t cols = t->head->cols;
    float *values = t->values + (size_t)thread * cols;
    for (size_t r = begin; r < end; r++) {
        dequantize_row(t->head->type, t->head->data + r * t->head->row_bytes, cols, values);
        screen_values(values, cols, &t->rows[r], t->codes + r * screen_row_bytes(cols));
    }
}

enum bnt_status screen_fill(const struct weight *head, uint8_t *dst, struct bnt_err *err)
{
    int threads = bnt_cpu_count();
    threads = threads > BNT_MAX_THREADS ? BNT_MAX_THREADS : threads;
    size_t values_bytes = (size_t)threads * head->cols * sizeof(float);
    struct fill_task t = {.head = head,
                          .rows = (struct screen_row *)(void *)dst,
                          .codes = dst + table_bytes(head),
                          .values = malloc(values_bytes)};
    if (!t.values) {
        return bnt_err_nomem(err, "a row of the head", values_bytes);
    }
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
    struct packed_want want = {.layout = "head-u6",
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
