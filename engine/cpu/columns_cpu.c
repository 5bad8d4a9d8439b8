/* The product of one token with a `down` matrix, by the columns that do not meet a zero. */
#include <string.h>

#include "base/fault.h"
#include "engine/columns.h"
#include "engine/cpu/backend_cpu.h"

enum { COLUMN_GRAIN = 64 /* positions */, FIRST_POSITIONS = 256 };

struct column_task {
    const struct backend_cpu *b;
    struct column_codes codes;
    uint64_t n_sums; /* of a thread */
};

/* Whoever takes his first piece finds nothing in his caches: columns of its first positions are
 * asked for all at once, instead of being missed one after the other in the order of the sums. */
static void ask_for_columns(const struct column_task *t, size_t begin, size_t end)
{
    const int8_t *q = t->b->s.act.q;
    const uint64_t bytes = t->codes.column_bytes;
    end = end - begin < FIRST_POSITIONS ? end : begin + FIRST_POSITIONS;
    for (size_t p = begin; p < end; p++) {
        for (uint64_t at = 0; q[p] != 0 && at < bytes; at += COLUMN_LINE) {
            __builtin_prefetch(t->codes.codes + p * bytes + at, 0, 2);
        }
    }
}

static void column_pieces(void *ctx, size_t begin, size_t end, int thread)
{
    const struct column_task *t = ctx;
    end -= BNT_FAULT(columns_last) && end * COLUMN_GRAIN == t->codes.columns;
    const struct cpu_scratch *s = &t->b->s;
    int32_t *sums = s->column_sums + (size_t)thread * t->n_sums;
    if (!s->column_used[thread]) {
        ask_for_columns(t, begin * COLUMN_GRAIN, end * COLUMN_GRAIN);
        s->column_used[thread] = true;
        memset(sums, 0, t->n_sums * sizeof *sums);
    }
    t->b->kernels->add_columns(&t->codes, s->act.q, begin * COLUMN_GRAIN, end * COLUMN_GRAIN, sums);
}

/* The sums of all threads, less those of weights taken one too large, into y. */
static void finish_columns(const struct column_task *t, const struct weight *w, float *y)
{
    const struct cpu_scratch *s = &t->b->s;
    float scale = w->scale * s->act.scale[0];
    int32_t *all = NULL;
    for (int i = 0; i < t->b->base.config.n_threads; i++) {
        int32_t *sums = s->column_sums + (size_t)i * t->n_sums;
        for (uint64_t r = 0; all && s->column_used[i] && r < w->rows; r++) {
            all[r] += sums[r];
        }
        all = all || !s->column_used[i] ? all : sums;
    }
    for (uint64_t r = 0; r < w->rows; r++) {
        y[r] = (float)(all[r] - s->act.sum[0]) * scale;
    }
}

bool cpu_dot_codes(struct backend_cpu *b, const struct column_codes *codes, const struct weight *w,
                   float *y)
{
    struct column_task t = {b, *codes, column_sums(codes)};
    uint64_t n = 0;
    for (uint64_t p = 0; p < t.codes.columns; p++) {
        n += b->s.act.q[p] != 0;
    }
    /* With few zeros the walk by rows is faster; without any value there is nothing to add. */
    if (n == 0 || n * 4 > w->cols * 3) {
        return false;
    }
    memset(b->s.column_used, 0, (size_t)b->base.config.n_threads * sizeof *b->s.column_used);
    uint64_t grains = t.codes.columns / COLUMN_GRAIN;
    uint64_t chunk = CPU_PIECE_BYTES * grains / (n * t.codes.column_bytes);
    if (n * w->rows < CPU_SERIAL_MACS) {
        chunk = grains;
    }
    cpu_pool_run(b->pool, grains, chunk, column_pieces, &t);
    finish_columns(&t, w, y);
    b->base.left_out_bytes += w->rows * w->row_bytes - n * t.codes.column_bytes;
    return true;
}

bool cpu_dot_columns(struct backend_cpu *b, uint32_t il, const struct weight *w, float *y)
{
    struct column_codes codes = columns_of(b->base.model, il);
    return codes.codes && cpu_dot_codes(b, &codes, w, y);
}
