/* Products of one token, which memory binds: which rows are read side by side, and in what pieces.
 */
#include "engine/cpu/backend_cpu.h"
#include "engine/fives.h"

/* Rows of a stretch in a piece are about a multiple of this, so that neighbours' results lie in
 * different cache lines. */
enum { ROW_GRAIN = 16 };

size_t cpu_slot_chunk(const struct backend_cpu *b, struct cpu_slot_kind kind, uint64_t slots,
                      uint64_t macs)
{
    if (b->base.config.n_threads == 1 || macs < CPU_SERIAL_MACS) {
        return (size_t)slots;
    }
    uint64_t grain = ROW_GRAIN / kind.height;
    uint64_t grains = CPU_PIECE_BYTES / (kind.slot_bytes * grain);
    return (size_t)(grains > 0 ? grains * grain : grain);
}

uint64_t cpu_read_bytes(const struct backend_cpu *b, const struct weight *w)
{
    return cpu_slot_height(b, w) == FIVES_ROWS ? fives_read_bytes(w) : weight_bytes(w);
}

int cpu_slot_rows(uint64_t rows, uint64_t height, struct cpu_rows slots,
                  struct cpu_rows out[SLOT_RANGES])
{
    uint64_t spread = rows / (WALK_STREAMS * height);
    uint64_t whole = slots.end < spread ? slots.end : spread;
    int n = 0;
    for (uint64_t i = 0; slots.begin < whole && i < WALK_STREAMS; i++) {
        uint64_t first = i * spread;
        out[n++] = (struct cpu_rows){height * (first + slots.begin), height * (first + whole)};
    }
    if (slots.end > spread) {
        out[n++] = (struct cpu_rows){WALK_STREAMS * height * spread, rows};
    }
    return n;
}

static void dot_ternary(const struct backend_cpu *b, const struct weight *w,
                        const struct row_walk *walk, struct cpu_rows rest, float *y)
{
    struct ternary_weights tw = cpu_ternary(w);
    if (walk->begin < walk->end && cpu_slot_height(b, w) == FIVES_ROWS) {
        struct five_codes fives = {w->fives, act_stride(w->cols), w->scale};
        b->kernels->dot_fives(&fives, walk, &b->s.act, y);
    } else if (walk->begin < walk->end) {
        b->kernels->dot_ternary(&tw, walk, &b->s.act, y);
    }
    b->kernels->matmul_ternary(&tw, rest.begin, rest.end, &b->s.act, 1, y, 0);
}

static void dot_float(const struct backend_cpu *b, const struct weight *w,
                      const struct row_walk *walk, struct cpu_rows rest, float *y)
{
    struct float_weights fw = cpu_floats(w);
    if (walk->begin < walk->end) {
        b->kernels->dot_float(&fw, walk, b->s.h, y);
    }
    b->kernels->matmul_float(&fw, rest.begin, rest.end, b->s.h, 0, 1, y, 0, NULL);
}

/* Rows that are dequantised one by one. */
static void dot_dequantized(const struct backend_cpu *b, const struct weight *w,
                            struct cpu_rows slots, float *y, int thread)
{
    struct float_weights fw = cpu_floats(w);
    struct cpu_rows ranges[SLOT_RANGES];
    int n = cpu_slot_rows(w->rows, 1, slots, ranges);
    for (int i = 0; i < n; i++) {
        b->kernels->matmul_float(&fw, ranges[i].begin, ranges[i].end, b->s.h, 0, 1, y, 0,
                                 cpu_own_row(&b->s, thread));
    }
}

void cpu_dot_slots(const struct backend_cpu *b, const struct weight *w, struct cpu_rows slots,
                   float *y, int thread)
{
    uint64_t stretches = WALK_STREAMS * cpu_slot_height(b, w), spread = w->rows / stretches;
    struct row_walk walk = {slots.begin, slots.end < spread ? slots.end : spread, spread};
    struct cpu_rows rest = {slots.end > spread ? stretches * spread : w->rows, w->rows};
    if (w->ternary) {
        dot_ternary(b, w, &walk, rest, y);
    } else if (tensor_is_plain(w->type)) {
        dot_float(b, w, &walk, rest, y);
    } else {
        dot_dequantized(b, w, slots, y, thread);
    }
}

struct narrow_task {
    const struct backend_cpu *b;
    float *out;
};

static void narrow_slots(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    const struct narrow_task *t = ctx;
    const struct narrow_codes *w = &t->b->base.model->narrow;
    const struct cpu_kernels *kernels = t->b->kernels;
    uint64_t rows = w->whole.rows, spread = rows / WALK_STREAMS;
    struct row_walk walk = {begin, end < spread ? end : spread, spread};
    if (walk.begin < walk.end) {
        kernels->dot_narrow(w, &walk, t->b->s.h, t->out);
    }
    if (end > spread) {
        kernels->matmul_float(&w->whole, WALK_STREAMS * spread, rows, t->b->s.h, 0, 1, t->out, 0,
                              NULL);
    }
}

void cpu_narrow_head(struct backend_cpu *b, float *out)
{
    const struct narrow_codes *w = &b->base.model->narrow;
    struct narrow_task t = {b, out};
    uint64_t slots = cpu_slots(w->whole.rows, 1);
    struct cpu_slot_kind kind = {1, WALK_STREAMS * w->row_bytes};
    size_t chunk = cpu_slot_chunk(b, kind, slots, w->whole.rows * w->whole.cols);
    cpu_pool_run(b->pool, slots, chunk, narrow_slots, &t);
}
