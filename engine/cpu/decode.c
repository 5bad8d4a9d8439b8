/* Products of one token, which memory binds: which rows are read side by side, and in what pieces.
 */
#include "engine/cpu/backend_cpu.h"

/* Slots of a piece are a multiple of this: neighbours' results lie in different cache lines. */
enum { SLOT_GRAIN = 16 };

size_t cpu_slot_chunk(const struct backend_cpu *b, uint64_t slots, uint64_t slot_bytes,
                      uint64_t macs)
{
    if (b->base.config.n_threads == 1 || macs < CPU_SERIAL_MACS) {
        return (size_t)slots;
    }
    uint64_t grains = CPU_PIECE_BYTES / (slot_bytes * SLOT_GRAIN);
    return (size_t)(grains > 0 ? grains * SLOT_GRAIN : SLOT_GRAIN);
}

int cpu_slot_rows(uint64_t rows, uint64_t begin, uint64_t end, struct cpu_rows out[SLOT_RANGES])
{
    uint64_t spread = rows / WALK_STREAMS, whole = end < spread ? end : spread;
    int n = 0;
    for (uint64_t i = 0; begin < whole && i < WALK_STREAMS; i++) {
        out[n++] = (struct cpu_rows){i * spread + begin, i * spread + whole};
    }
    if (end > spread) {
        out[n++] = (struct cpu_rows){WALK_STREAMS * spread, rows};
    }
    return n;
}

static void dot_ternary(const struct backend_cpu *b, const struct weight *w,
                        const struct row_walk *walk, struct cpu_rows rest, float *y)
{
    struct ternary_weights tw = cpu_ternary(w);
    if (walk->begin < walk->end) {
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
    int n = cpu_slot_rows(w->rows, slots.begin, slots.end, ranges);
    for (int i = 0; i < n; i++) {
        b->kernels->matmul_float(&fw, ranges[i].begin, ranges[i].end, b->s.h, 0, 1, y, 0,
                                 b->s.row + (size_t)thread * b->width);
    }
}

void cpu_dot_slots(const struct backend_cpu *b, const struct weight *w, struct cpu_rows slots,
                   float *y, int thread)
{
    uint64_t spread = w->rows / WALK_STREAMS;
    struct row_walk walk = {slots.begin, slots.end < spread ? slots.end : spread, spread};
    struct cpu_rows rest = {slots.end > spread ? WALK_STREAMS * spread : w->rows, w->rows};
    if (w->ternary) {
        dot_ternary(b, w, &walk, rest, y);
    } else if (tensor_is_plain(w->type)) {
        dot_float(b, w, &walk, rest, y);
    } else {
        dot_dequantized(b, w, slots, y, thread);
    }
}
