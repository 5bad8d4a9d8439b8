/* Making the small copy of a head. Each row is written by one thread in one order, so that the form
 * does not depend on their number. */
#include "engine/screen.h"

#include <stdlib.h>

#include "engine/cpu/pool.h"
#include "engine/cpu/screen_code.h"
#include "engine/model.h"

/* Sums of levels times int8 stay in int32, as do sums of squares of levels. */
#define MAX_COLS 65536u
#define PIECE_ROWS 64u
/* Of a weight. Products with fewer bits (Q1_0, Q2_0) are made as they lie and read less than the
 * copy. */
#define LEAST_BITS 4u
enum { SCREEN_VERSION = 1 };

bool screen_fits(const struct weight *head)
{
    return head->row_bytes * 8 >= head->cols * LEAST_BITS && head->cols <= MAX_COLS;
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
    return screen_token_bytes(head) + head->rows * blocks_of(head) * SCREEN_REST_BLOCK_BYTES;
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
                           .rest_bytes = blocks_of(head) * SCREEN_REST_BLOCK_BYTES};
}

struct fill_task {
    const struct weight *head;
    struct screen_row *rows;
    uint8_t *codes, *rest;
    float *values; /* a row for each thread */
    screen_code_fn *code;
    const volatile sig_atomic_t *interrupted;
};

static void fill_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct fill_task *t = ctx;
    uint64_t cols = t->head->cols, blocks = blocks_of(t->head);
    float *values = t->values + (size_t)thread * blocks * 256;
    for (size_t r = begin; r < end && bnt_err_interrupted(t->interrupted, NULL) == BNT_OK; r++) {
        struct screen_place at = {&t->rows[r], t->codes + r * screen_row_bytes(cols),
                                  t->rest + r * blocks * SCREEN_REST_BLOCK_BYTES};
        dequantize_row(t->head->type, t->head->data + r * t->head->row_bytes, cols, values);
        t->code(values, cols, &at);
    }
}

enum bnt_status screen_fill(const struct weight *head, uint8_t *dst,
                            const volatile sig_atomic_t *interrupted, struct bnt_err *err)
{
    struct cpu_pool *pool;
    enum bnt_status st = cpu_pool_new_shared(&pool, err);
    if (st != BNT_OK) {
        return st;
    }
    size_t row_bytes = (size_t)(blocks_of(head) * 256 * sizeof(float));
    size_t bytes = (size_t)cpu_pool_n_threads(pool) * row_bytes;
    struct fill_task t = {.head = head,
                          .rows = (struct screen_row *)(void *)dst,
                          .codes = dst + table_bytes(head),
                          .rest = dst + screen_token_bytes(head),
                          .code = screen_code_best(),
                          .interrupted = interrupted,
                          .values = calloc(1, bytes)};
    if (t.values) {
        cpu_pool_run(pool, head->rows, PIECE_ROWS, fill_rows, &t);
    } else {
        st = bnt_err_nomem(err, "a row of the head", bytes);
    }
    cpu_pool_free(pool);
    free(t.values);
    return st;
}

static enum bnt_status fill_form(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    const struct bnt_model *m = ctx;
    return screen_fill(&m->head, dst, m->packs.interrupted, err);
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
