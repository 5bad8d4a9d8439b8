/* Making the copy of the `down` matrices by columns. */
#include "engine/columns.h"

#include <stdio.h>
#include <string.h>

#include "engine/arch.h"
#include "engine/cpu/pool.h"
#include "engine/model.h"

enum { COLUMNS_VERSION = 1, BLOCK = 256 /* positions of two blocks of codes */ };

uint64_t column_line_bytes(uint64_t rows)
{
    return (rows + COLUMN_ROWS - 1) / COLUMN_ROWS * COLUMN_LINE;
}

static uint64_t column_bytes(const struct weight *w)
{
    return column_line_bytes(w->rows);
}

/* All layers have matrices of one shape. */
static uint64_t layer_bytes(const struct bnt_model *m)
{
    const struct weight *w = &m->layers[0].w[W_DOWN];
    return act_stride(w->cols) * column_bytes(w);
}

bool columns_fit(const struct bnt_model *m)
{
    bool fit = m->arch->act == ACT_RELU2;
    for (uint32_t il = 0; fit && il < m->info.n_layer; il++) {
        const struct weight *w = &m->layers[il].w[W_DOWN];
        fit = w->ternary && !w->look_up && w->cols <= COLUMN_MAX;
    }
    return fit && m->info.n_layer > 0;
}

uint64_t columns_bytes(const struct bnt_model *m)
{
    return m->info.n_layer * layer_bytes(m);
}

struct column_codes columns_of(const struct bnt_model *m, uint32_t il)
{
    const struct weight *w = &m->layers[0].w[W_DOWN];
    const uint8_t *codes = m->columns_form.data;
    return (struct column_codes){.codes = codes ? codes + il * layer_bytes(m) : NULL,
                                 .column_bytes = column_bytes(w),
                                 .columns = act_stride(w->cols)};
}

/* One block of 128 weights of the rows `row`, 64 apart, of which n are there: its 32 bytes into one
 * byte of each of 128 columns, which are four runs of 32. */
static void turn_block(const uint8_t *const row[4], int n, uint64_t column_bytes, uint8_t *dst)
{
    for (int p = 0; p < 32; p++, dst += column_bytes) {
        uint8_t out[4] = {0};
        for (int m = 0; m < n; m++) {
            for (int g = 0; g < 4; g++) {
                out[g] |= (uint8_t)((row[m][p] >> (6 - 2 * g) & 3) << 2 * m);
            }
        }
        for (uint64_t g = 0; g < 4; g++) {
            dst[g * 64 * column_bytes] = out[g];
        }
    }
}

void columns_turn(const struct weight *w, uint64_t block, uint8_t *dst)
{
    uint64_t stride = column_bytes(w);
    for (uint64_t r = 0; r < stride * 4; r++) {
        uint64_t in_line = r % COLUMN_ROWS, k = in_line / 16, i = in_line % 16;
        if (in_line >= 64) { /* taken with the row 64 or more before it */
            continue;
        }
        const uint8_t *row[4];
        int n = 0;
        for (uint64_t at = r; n < 4 && at < w->rows; at += 64) {
            row[n++] = w->data + at * w->row_bytes + block * (BLOCK / 4);
        }
        uint8_t *to = dst + r / COLUMN_ROWS * COLUMN_LINE + 16 * (i / 4) + 4 * k + i % 4;
        uint64_t left = w->row_bytes - block * (BLOCK / 4);
        for (uint64_t half = 0; half < 2 && 32 * half < left; half++) {
            const uint8_t *at[4];
            for (int m = 0; m < n; m++) {
                at[m] = row[m] + 32 * half;
            }
            turn_block(at, n, stride, to + 32 * half * stride);
        }
    }
}

struct turn_task {
    const struct bnt_model *m;
    uint64_t blocks; /* of a matrix */
    uint8_t *dst;
};

static void turn_pieces(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    const struct turn_task *t = ctx;
    for (size_t i = begin; i < end && bnt_err_interrupted(t->m->packs.interrupted, NULL) == BNT_OK;
         i++) {
        const struct weight *w = &t->m->layers[i / t->blocks].w[W_DOWN];
        columns_turn(w, i % t->blocks, t->dst + i * BLOCK * column_bytes(w));
    }
}

static enum bnt_status fill_form(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    const struct bnt_model *m = ctx;
    struct turn_task t = {m, act_stride(m->layers[0].w[W_DOWN].cols) / BLOCK, dst};
    return cpu_pool_run_once(m->info.n_layer * t.blocks, 1, turn_pieces, &t, err);
}

enum bnt_status columns_open(struct bnt_model *m, struct bnt_err *err)
{
    char name[PACKED_LAYOUT_MAX];
    struct packed_want want = {.layout = name,
                               .version = COLUMNS_VERSION,
                               .size = columns_bytes(m),
                               .fill = fill_form,
                               .ctx = m};
    model_form_name(m, "down-columns", name);
    return packed_open(&m->packs, &want, &m->columns_form, err);
}
