#include "engine/recode.h"

#include <stdlib.h>

enum { PIECE_WEIGHTS = 1 << 20, TAIL_BYTES = 32 };

/* Rows of a piece: whole I2_S blocks whatever the width, since 128 rows are; as many as lie
 * together in any type that is read or written. */
static uint64_t piece_rows(const struct recode_item *item)
{
    const uint64_t least = item->to == TENSOR_I2_S ? 128 : 4;
    const uint64_t n = PIECE_WEIGHTS / item->cols;
    return n < least ? least : n / least * least;
}

static bool is_tiled(enum tensor_type type)
{
    return type == TENSOR_TL1 || type == TENSOR_TL2;
}

/* The rows of an item, a piece at a time. */
struct piece {
    uint64_t row0, n, most; /* rows; most: of any piece */
    float *floats;          /* most * cols */
    int8_t *codes;          /* the same */
    uint8_t *bytes;         /* what becomes of a piece, or of the whole where it is tiled */
};

static void piece_release(struct piece *p)
{
    free(p->floats);
    free(p->codes);
    free(p->bytes);
}

static enum bnt_status piece_init(struct piece *p, const struct recode_item *item,
                                  struct bnt_err *err)
{
    uint64_t most = is_tiled(item->to) ? item->rows : piece_rows(item);
    most = most < item->rows ? most : item->rows;
    uint64_t float_rows = piece_rows(item) < most ? piece_rows(item) : most, n = most * item->cols;
    uint64_t size, ne[4] = {item->cols, most, 1, 1};
    *p = (struct piece){.most = most};
    if (!tensor_size(item->to, ne, &size)) {
        size = n * sizeof(float); /* a survey of what is refused later */
    }
    p->floats = malloc((size_t)(float_rows * item->cols * sizeof(float)));
    p->codes = malloc((size_t)n);
    p->bytes = malloc((size_t)size);
    return p->floats && p->codes && p->bytes
               ? BNT_OK
               : bnt_err_nomem(err, item->name, n + size + float_rows * item->cols * 4);
}

/* The next rows; false behind the last one. */
static bool piece_next(struct piece *p, const struct recode_item *item)
{
    p->row0 += p->n;
    p->n = item->rows - p->row0 < p->most ? item->rows - p->row0 : p->most;
    return p->n > 0;
}

static enum bnt_status not_finite(const struct recode_item *item, struct bnt_err *err)
{
    return gguf_fail(err, GGUF_FAULT_SCALE, "%s has a weight that is NaN or infinite", item->name);
}

static enum bnt_status survey_codes(struct recode_item *item, struct bnt_err *err)
{
    int8_t *row = malloc((size_t)item->cols);
    enum bnt_status st =
        row ? item->from->codes(item->from->ctx, item->which, 0, 1, row, &item->scale, err)
            : bnt_err_nomem(err, item->name, item->cols);
    free(row);
    item->was_ternary = true;
    return st;
}

static enum bnt_status survey_floats(struct recode_item *item, struct bnt_err *err)
{
    struct absmean mean = {0};
    const uint64_t rows = piece_rows(item);
    uint64_t n = rows < item->rows ? rows : item->rows;
    float *x = malloc((size_t)(n * item->cols * sizeof *x));
    enum bnt_status st = x ? BNT_OK : bnt_err_nomem(err, item->name, n * item->cols * sizeof *x);
    for (uint64_t r = 0; st == BNT_OK && r < item->rows; r += n) {
        n = item->rows - r < n ? item->rows - r : n;
        st = item->from->floats(item->from->ctx, item->which, r, n, x, err);
        if (st == BNT_OK) {
            absmean_add(&mean, x, n * item->cols);
        }
    }
    free(x);
    if (st == BNT_OK && !absmean_is_finite(&mean)) {
        st = not_finite(item, err);
    }
    item->was_ternary = absmean_is_ternary(&mean);
    item->scale = absmean_scale(&mean);
    return st;
}

enum bnt_status recode_survey(struct recode_item *item, struct bnt_err *err)
{
    struct bnt_err why = {0};
    enum bnt_status st = item->ternary ? survey_codes(item, &why) : survey_floats(item, &why);
    if (item->ternary && st == BNT_E_UNSUPPORTED) { /* more scales than one: numbers as any */
        bnt_err_hint(&why, "f16, bf16 and f32 can hold them");
        if (!tensor_type_info((uint32_t)item->to)->ternary && survey_floats(item, NULL) == BNT_OK) {
            item->ternary = false;
            st = BNT_OK;
        }
    }
    if (st != BNT_OK) {
        return bnt_err_copy(err, &why);
    }
    item->written_scale = item->scale;
    return BNT_OK;
}

/* ---- writing ---- */

/* Codes of p->n rows, from codes or by absmean. */
static enum bnt_status load_codes(const struct recode_item *item, struct piece *p,
                                  struct bnt_err *err)
{
    const struct recode_source *s = item->from;
    float scale;
    if (item->ternary) {
        return s->codes(s->ctx, item->which, p->row0, p->n, p->codes, &scale, err);
    }
    enum bnt_status st = BNT_OK;
    const uint64_t rows = piece_rows(item);
    for (uint64_t r = 0; st == BNT_OK && r < p->n; r += rows) {
        uint64_t n = p->n - r < rows ? p->n - r : rows;
        st = s->floats(s->ctx, item->which, p->row0 + r, n, p->floats, err);
        if (st == BNT_OK) {
            absmean_codes(item->scale, p->floats, n * item->cols, p->codes + r * item->cols);
        }
    }
    return st;
}

/* A piece of an I2_S tensor is one of its own but for its tail, which only the last piece keeps. */
static enum bnt_status put_codes(const struct recode_item *item, struct piece *p,
                                 struct gguf_writer *w, struct bnt_err *err)
{
    struct ternary_source shape = {
        .type = item->to, .rows = p->n, .cols = item->cols, .tiles = item->tiles};
    uint64_t ne[4] = {item->cols, p->n, 1, 1};
    bool last = p->row0 + p->n == item->rows;
    enum bnt_status st = load_codes(item, p, err);
    if (st == BNT_OK && !tensor_size(item->to, ne, &shape.size)) {
        st = bnt_err_set(err, BNT_E_INTERNAL, "%s: %llu rows have no size", item->name,
                         (unsigned long long)p->n);
    }
    if (st == BNT_OK) {
        st = ternary_encode(&shape, p->codes, item->written_scale, p->bytes, err);
    }
    uint64_t n = item->to == TENSOR_I2_S && !last ? shape.size - TAIL_BYTES : shape.size;
    return st == BNT_OK ? gguf_writer_put(w, p->bytes, (size_t)n, err) : st;
}

/* Rows as floats: read as such, or made of codes. */
static enum bnt_status load_floats(const struct recode_item *item, struct piece *p,
                                   struct bnt_err *err)
{
    const struct recode_source *s = item->from;
    float scale = 0;
    if (!item->ternary) {
        return s->floats(s->ctx, item->which, p->row0, p->n, p->floats, err);
    }
    enum bnt_status st = s->codes(s->ctx, item->which, p->row0, p->n, p->codes, &scale, err);
    for (uint64_t i = 0; st == BNT_OK && i < p->n * item->cols; i++) {
        p->floats[i] = item->written_scale * (float)p->codes[i];
    }
    return st;
}

/* Rounding to blocks needs numbers, and a half does not reach far. */
static enum bnt_status check_floats(const struct recode_item *item, const struct piece *p,
                                    struct bnt_err *err)
{
    struct absmean mean = {0};
    absmean_add(&mean, p->floats, p->n * item->cols);
    if (!absmean_is_finite(&mean)) {
        return not_finite(item, err);
    }
    if (item->to == TENSOR_F16 && f32_to_f16(mean.max) == 0x7c00) {
        bnt_err_hint(err, "BF16 and F32 can hold it");
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "%s has a weight of %g, more than F16 can hold",
                           item->name, (double)mean.max);
    }
    return BNT_OK;
}

static enum bnt_status put_floats(const struct recode_item *item, struct piece *p,
                                  struct gguf_writer *w, struct bnt_err *err)
{
    const uint64_t row_bytes = tensor_row_bytes(item->to, item->cols);
    enum bnt_status st = load_floats(item, p, err);
    if (st == BNT_OK) {
        st = check_floats(item, p, err);
    }
    for (uint64_t r = 0; st == BNT_OK && r < p->n; r++) {
        quantize_row(item->to, p->floats + r * item->cols, item->cols, p->bytes + r * row_bytes);
    }
    return st == BNT_OK ? gguf_writer_put(w, p->bytes, (size_t)(p->n * row_bytes), err) : st;
}

enum bnt_status recode_write(const struct recode_item *item, struct gguf_writer *w,
                             struct bnt_err *err)
{
    struct piece p;
    bool ternary = tensor_type_info((uint32_t)item->to)->ternary;
    enum bnt_status st = piece_init(&p, item, err);
    while (st == BNT_OK && piece_next(&p, item)) {
        st = ternary ? put_codes(item, &p, w, err) : put_floats(item, &p, w, err);
    }
    piece_release(&p);
    return st;
}
