/* Making the small copy of a head. Each row is written by one thread in one order, so that the form
 * does not depend on their number. */
#include "engine/screen.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysinfo.h"
#include "engine/cpu/pool.h"
#include "engine/model.h"

/* Sums of 6-bit codes times int8 stay in int32, far below its end. */
#define MAX_COLS 65536u
#define PIECE_ROWS 64u
enum { SCREEN_VERSION = 1, LARGEST = 31 /* code 63 - SCREEN_ZERO */, LANES = 8 };

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
    for (int half = 0; half < 2; half++) {
        const uint8_t *c = code + 128 * half;
        uint8_t *at = block + 32 * half;
        for (int p = 0; p < 32; p++) {
            at[p] = (uint8_t)((c[p] & 15) | c[p + 32] << 4);
            at[64 + p] = (uint8_t)((c[p + 64] & 15) | c[p + 96] << 4);
            at[128 + p] = (uint8_t)(c[p] >> 4 | (c[p + 32] & 48) >> 2 | (c[p + 64] & 48) |
                                    (c[p + 96] & 48) << 2);
        }
    }
}

static float rounded_up(double sum_of_squares)
{
    return nextafterf((float)(sqrt(sum_of_squares) * (1 + 0x1p-40)), INFINITY);
}

/* The largest magnitude of n values; infinite or NaN when one of them is. */
static float largest(const float *w, uint64_t n)
{
    int32_t most = 0; /* bits without their sign are in the order of magnitudes */
    for (uint64_t c = 0; c < n; c++) {
        int32_t bits;
        memcpy(&bits, &w[c], sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    float out;
    memcpy(&out, &most, sizeof out);
    return out;
}

/* Sums over a row; lanes, so that the compiler may take values side by side, as in the short loops
 * below. */
struct row_sums {
    double errors[LANES];
    int32_t squares; /* of codes: at most 31 * 31 * MAX_COLS */
};

/* inverse * |w| <= LARGEST but for roundings, so that no code is out of range. */
static void code_block(const float w[256], float step, float inverse, struct row_sums *sums,
                       uint8_t code[256])
{
    float near[256];
    for (int c = 0; c < 256; c++) {
        near[c] = (w[c] * inverse + 0x1.8p+23f) - 0x1.8p+23f;
    }
    for (int c = 0; c < 256; c++) {
        int32_t whole = (int32_t)near[c];
        sums->squares += whole * whole;
        code[c] = (uint8_t)(whole + SCREEN_ZERO);
    }
    for (int c = 0; c < 256; c += LANES) {
        for (int i = 0; i < LANES; i++) {
            double e = (double)w[c + i] - (double)step * (double)near[c + i];
            sums->errors[i] += e * e;
        }
    }
}

/* w: whole blocks, zeros after the row's end. */
static void screen_values(const float *w, uint64_t blocks, struct screen_row *row, uint8_t *codes)
{
    float most = largest(w, blocks * 256);
    bool finite = isfinite(most);
    float step = finite ? most / LARGEST : 0;
    float inverse = step > 0 ? 1 / step : 0;
    inverse = isfinite(inverse) ? inverse : 0; /* a row of subnormals: all of it is error */
    struct row_sums sums = {0};
    uint8_t code[256];
    memset(code, SCREEN_ZERO, sizeof code);
    for (uint64_t b = 0; b < blocks; b++) {
        if (finite) {
            code_block(w + b * 256, step, inverse, &sums, code);
        }
        put_block(code, codes + b * SCREEN_BLOCK_BYTES);
    }
    double errors = 0;
    for (int i = 0; i < LANES; i++) {
        errors += sums.errors[i];
    }
    *row = (struct screen_row){.step = step,
                               .error = finite ? rounded_up(errors) : INFINITY,
                               .norm = rounded_up((double)step * (double)step * sums.squares)};
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
    uint64_t cols = t->head->cols, blocks = (cols + 255) / 256;
    float *values = t->values + (size_t)thread * blocks * 256;
    for (size_t r = begin; r < end; r++) {
        dequantize_row(t->head->type, t->head->data + r * t->head->row_bytes, cols, values);
        screen_values(values, blocks, &t->rows[r], t->codes + r * screen_row_bytes(cols));
    }
}

enum bnt_status screen_fill(const struct weight *head, uint8_t *dst, struct bnt_err *err)
{
    int threads = bnt_cpu_count();
    threads = threads > BNT_MAX_THREADS ? BNT_MAX_THREADS : threads;
    size_t row_bytes = (size_t)((head->cols + 255) / 256 * 256) * sizeof(float);
    struct fill_task t = {.head = head,
                          .rows = (struct screen_row *)(void *)dst,
                          .codes = dst + table_bytes(head),
                          .values = calloc((size_t)threads, row_bytes)};
    if (!t.values) {
        return bnt_err_nomem(err, "a row of the head", (size_t)threads * row_bytes);
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
