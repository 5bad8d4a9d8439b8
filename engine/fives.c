/* Making the copy of ternary matrices five weights to a byte. */
#include "engine/fives.h"

#include <stdatomic.h>

#include "base/fault.h"
#include "engine/columns.h"
#include "engine/cpu/pool.h"
#include "engine/model.h"

enum { FIVES_VERSION = 1, HEAD_BYTES = 64, CHUNK = 64 /* bytes of codes: two blocks */ };

/* Groups of rows that a walk takes; the stretches have equally many. */
static uint64_t groups_of(const struct weight *w)
{
    return w->rows / (FIVES_ROWS * WALK_STREAMS) * WALK_STREAMS;
}

static uint64_t copy_bytes(const struct weight *w)
{
    return groups_of(w) * act_stride(w->cols);
}

bool fives_fit(const struct weight *w)
{
    return w->cols <= FIVES_MAX_COLS && groups_of(w) > 0 &&
           act_stride(w->cols) < FIVES_ROWS * ternary_row_bytes(w->cols);
}

static bool has_copy(const struct bnt_model *m, uint64_t unit)
{
    const uint64_t which = unit % N_LAYER_WEIGHTS;
    const struct weight *w = &m->layers[unit / N_LAYER_WEIGHTS].w[which];
    return w->tensor && w->ternary && !w->look_up && fives_fit(w) &&
           !(which == W_DOWN && columns_fit(m));
}

/* A unit is a matrix of a layer. */
static uint64_t n_units(const struct bnt_model *m)
{
    return (uint64_t)m->info.n_layer * N_LAYER_WEIGHTS;
}

static struct weight *unit_weight(const struct bnt_model *m, uint64_t unit)
{
    return &m->layers[unit / N_LAYER_WEIGHTS].w[unit % N_LAYER_WEIGHTS];
}

/* Where the copy of a unit begins in the form. */
static uint64_t unit_at(const struct bnt_model *m, uint64_t unit)
{
    uint64_t at = HEAD_BYTES;
    for (uint64_t i = 0; i < unit; i++) {
        at += has_copy(m, i) ? copy_bytes(unit_weight(m, i)) : 0;
    }
    return at;
}

uint64_t fives_bytes(const struct bnt_model *m)
{
    uint64_t bytes = unit_at(m, n_units(m));
    return bytes > HEAD_BYTES ? bytes : 0;
}

uint64_t fives_read_bytes(const struct weight *w)
{
    return copy_bytes(w) + (w->rows - groups_of(w) * FIVES_ROWS) * w->row_bytes;
}

/* n bytes of codes of each of five rows, for positions 64 * g + p of a block of 256. Returns which
 * codes are no weight: bits that are set in both halves of one. */
static inline uint8_t pack_chunk(const uint8_t *codes, uint64_t row_bytes, int n, uint8_t *dst)
{
    uint8_t wrong = 0;
    for (int g = 0; g < 4; g++) {
        for (int p = 0; p < n; p++) {
            uint8_t five = 0;
            for (uint64_t k = FIVES_ROWS; k-- > 0;) {
                uint8_t code = codes[k * row_bytes + (uint64_t)p] >> (6 - 2 * g) & 3;
                five = (uint8_t)(3 * five + code);
                wrong |= code & code >> 1;
            }
            dst[64 * g + p] = five;
        }
    }
    return wrong;
}

bool fives_pack(const struct weight *w, uint64_t g, uint8_t *dst)
{
    const uint8_t *codes = w->data + FIVES_ROWS * g * w->row_bytes;
    uint8_t wrong = 0;
    uint64_t at = 0;
    for (; at + CHUNK <= w->row_bytes; at += CHUNK) {
        wrong |= pack_chunk(codes + at, w->row_bytes, CHUNK, dst + 4 * at);
    }
    if (at < w->row_bytes) {
        wrong |= pack_chunk(codes + at, w->row_bytes, CHUNK / 2, dst + 4 * at);
    }
    return wrong == 0;
}

struct pack_task {
    const struct bnt_model *m;
    uint8_t *dst;
    _Atomic bool wrong;
};

static void pack_units(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct pack_task *t = ctx;
    for (size_t i = begin; i < end; i++) {
        const struct weight *w = unit_weight(t->m, i);
        uint8_t *to = t->dst + unit_at(t->m, i);
        for (uint64_t g = 0; has_copy(t->m, i) && g < groups_of(w); g++) {
            if (!fives_pack(w, g, to + g * act_stride(w->cols))) {
                t->wrong = true;
            }
        }
    }
}

static enum bnt_status fill_form(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    const struct bnt_model *m = ctx;
    struct pack_task t = {.m = m, .dst = dst};
    enum bnt_status st = cpu_pool_run_once(n_units(m), 1, pack_units, &t, err);
    dst[0] = st == BNT_OK && (!t.wrong || BNT_FAULT(fives_no_weight));
    return st;
}

enum bnt_status fives_open(struct bnt_model *m, struct bnt_err *err)
{
    char name[PACKED_LAYOUT_MAX];
    struct packed_want want = {.layout = name,
                               .version = FIVES_VERSION,
                               .size = fives_bytes(m),
                               .fill = fill_form,
                               .ctx = m};
    model_form_name(m, "fives", name);
    enum bnt_status st = packed_open(&m->packs, &want, &m->fives_form, err);
    m->by_fives = st == BNT_OK && m->fives_form.data[0] != 0;
    for (uint64_t i = 0; m->by_fives && i < n_units(m); i++) {
        if (has_copy(m, i)) {
            unit_weight(m, i)->fives = m->fives_form.data + unit_at(m, i);
        }
    }
    return st;
}
