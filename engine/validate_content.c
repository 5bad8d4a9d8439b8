/* Every byte of every tensor: codes that no weight has, scales, NaN and infinities, and numbers as
 * no training leaves them; the digest of the file.
 *
 * Tensors are read in pieces of a megabyte or so, and their pages given back, so that a file of any
 * size takes little memory. TL1 and TL2, whose tiles span many rows, are looked at whole. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/file_facts.h"
#include "engine/validate_impl.h"

#define PIECE_BYTES (1u << 20)
#define TAIL_BYTES 32u               /* behind the codes of I2_S, TL1 and TL2: the scale first */
#define DECODE_WEIGHTS (16ull << 20) /* of TL and TQ at a time */
#define LEAST_SCALE 1e-8
#define MOST_SCALE 1e8
#define MOST_ZERO_SHARE 0.98   /* trained ternary matrices: 0.3 to 0.6 */
#define MOST_SIGN_SHARE 0.9    /* of one sign among the weights that are not zero */
#define MOST_OVER_RMS 1000.0   /* trained weights: below a hundred */
#define MOST_SCALE_RATIO 100.0 /* to the median of the same matrix in all layers */
enum { FEW = 1024 };           /* fewer weights than this have no statistics worth the name */

/* A tensor while it is read. */
struct scan {
    struct validate *v;
    const struct gguf_tensor *t;
    struct validate_stats *s;
    const uint8_t *view; /* the tensor's bytes, NULL: they are read into buf */
    uint8_t *buf;        /* PIECE_BYTES, or the whole tensor */
    double sum, squares;
    uint64_t first_bad;  /* weight */
    uint64_t bad_offset; /* byte in the tensor */
    struct bnt_err *err;
};

static bool interrupted(const struct validate *v)
{
    return v->o->interrupted && *v->o->interrupted;
}

static const uint8_t *bytes_at(struct scan *c, uint64_t at, uint64_t n, enum bnt_status *st)
{
    if (c->view) {
        return c->view + at;
    }
    *st = gguf_tensor_read(c->v->g, c->t, at, n, c->buf, c->err);
    return c->buf;
}

static void bad_at(struct scan *c, uint64_t weight, uint64_t offset)
{
    if (c->s->n_bad == 0) {
        c->first_bad = weight;
        c->bad_offset = offset;
    }
    c->s->n_bad++;
}

/* ---- floats ---- */

static void add_floats(struct scan *c, const float *x, uint64_t n, uint64_t first, uint64_t offset)
{
    struct validate_stats *s = c->s;
    for (uint64_t i = 0; i < n; i++) {
        double d = (double)x[i];
        if (!isfinite(d)) {
            bad_at(c, first + i, offset);
            continue;
        }
        s->n_zero += d == 0;
        s->n_negative += d < 0;
        s->n_positive += d > 0;
        s->min = d < s->min ? d : s->min;
        s->max = d > s->max ? d : s->max;
        c->sum += d;
        c->squares += d * d;
    }
}

static enum bnt_status scan_floats(struct scan *c)
{
    const uint64_t together = tensor_type_info((uint32_t)c->t->type)->rows_together;
    const uint64_t cols = c->t->ne[0], rows = c->s->n / cols, row_bytes = c->t->size / rows;
    const uint64_t most = PIECE_BYTES / row_bytes / together * together;
    const uint64_t piece = most ? most : together;
    float *x = malloc((size_t)(together * cols) * sizeof *x);
    enum bnt_status st = x ? BNT_OK : bnt_err_nomem(c->err, "a row", together * cols * sizeof *x);
    if (st == BNT_OK && !c->view) {
        c->buf = malloc((size_t)(piece * row_bytes));
        st = c->buf ? BNT_OK : bnt_err_nomem(c->err, "rows", piece * row_bytes);
    }
    for (uint64_t r = 0; st == BNT_OK && r < rows && !interrupted(c->v); r += piece) {
        uint64_t n = rows - r < piece ? rows - r : piece;
        const uint8_t *bytes = bytes_at(c, r * row_bytes, n * row_bytes, &st);
        for (uint64_t k = 0; st == BNT_OK && k < n; k += together) {
            dequantize_unit(c->t->type, bytes + k * row_bytes, cols, x);
            add_floats(c, x, together * cols, (r + k) * cols, (r + k) * row_bytes);
        }
    }
    free(x);
    return st;
}

/* ---- ternary codes ---- */

static bool has_code_3(unsigned byte)
{
    return (byte & byte >> 1 & 0x55) != 0;
}

static void count_codes(struct scan *c, const uint64_t seen[256])
{
    uint64_t of[4] = {0};
    for (unsigned b = 0; b < 256; b++) {
        for (unsigned shift = 0; shift < 8; shift += 2) {
            of[b >> shift & 3] += seen[b];
        }
    }
    c->s->n_negative = of[0];
    c->s->n_zero = of[1];
    c->s->n_positive = of[2];
    c->s->n_bad = BNT_FAULT(validate_codes) ? 0 : of[3];
}

/* Whatever the packing, a byte holds four codes. */
static enum bnt_status scan_i2s(struct scan *c)
{
    const uint64_t n_bytes = c->s->n / 4;
    uint64_t seen[256] = {0};
    enum bnt_status st = BNT_OK;
    bool found = false;
    c->buf = c->view ? NULL : malloc(PIECE_BYTES);
    if (!c->view && !c->buf) {
        return bnt_err_nomem(c->err, "codes", PIECE_BYTES);
    }
    for (uint64_t at = 0; st == BNT_OK && at < n_bytes && !interrupted(c->v); at += PIECE_BYTES) {
        uint64_t n = n_bytes - at < PIECE_BYTES ? n_bytes - at : PIECE_BYTES;
        const uint8_t *bytes = bytes_at(c, at, n, &st);
        for (uint64_t i = 0; st == BNT_OK && i < n; i++) {
            seen[bytes[i]]++;
            if (!found && has_code_3(bytes[i])) {
                found = true;
                c->bad_offset = at + i;
            }
        }
    }
    count_codes(c, seen);
    return st;
}

static void add_weights(struct validate_stats *s, const int8_t *w, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        s->n_zero += w[i] == 0;
        s->n_negative += w[i] < 0;
        s->n_positive += w[i] > 0;
    }
}

/* Whole tensor in memory; *scaled is false where blocks or rows have scales of their own, of which
 * only the codes are looked at: the numbers are those of scan_floats. */
static enum bnt_status decode_all(struct scan *c, const uint8_t *bytes, bool *scaled)
{
    struct ternary_source src = {.type = c->t->type,
                                 .data = bytes,
                                 .size = c->t->size,
                                 .rows = c->s->n / c->t->ne[0],
                                 .cols = c->t->ne[0]};
    validate_tiles(c->v, c->t, &src.tiles);
    uint64_t piece = DECODE_WEIGHTS / src.cols > 64 ? DECODE_WEIGHTS / src.cols / 64 * 64 : 64;
    piece = piece < src.rows ? piece : src.rows;
    int8_t *w = malloc((size_t)(piece * src.cols));
    enum bnt_status st = w ? BNT_OK : bnt_err_nomem(c->err, "codes", piece * src.cols);
    for (uint64_t r = 0; st == BNT_OK && r < src.rows && !interrupted(c->v); r += piece) {
        uint64_t end = src.rows - r < piece ? src.rows : r + piece;
        float scale = 0;
        struct bnt_err why = {0};
        st = ternary_decode(&src, r, end, w, &scale, &why);
        if (st == BNT_E_UNSUPPORTED) {
            *scaled = false;
            why = (struct bnt_err){0};
            src.scale = 1; /* any: scales that are known are not compared */
            st = ternary_decode(&src, r, end, w, &scale, &why);
        }
        if (st != BNT_OK) {
            struct validate_place at = validate_at_tensor(c->t);
            validate_add_error(c->v, GGUF_FAULT_CORRUPT, &at, &why);
            free(w);
            return BNT_OK;
        }
        src.scale = scale;
        if (*scaled) {
            add_weights(c->s, w, (end - r) * src.cols);
            c->s->scale = (double)scale;
        }
    }
    free(w);
    return st;
}

static enum bnt_status scan_packed(struct scan *c)
{
    enum bnt_status st = BNT_OK;
    bool scaled = true;
    c->buf = c->view ? NULL : malloc((size_t)c->t->size);
    if (!c->view && !c->buf) {
        return bnt_err_nomem(c->err, "a tensor", c->t->size);
    }
    const uint8_t *bytes = bytes_at(c, 0, c->t->size, &st);
    if (st == BNT_OK) {
        st = decode_all(c, bytes, &scaled);
    }
    if (st == BNT_OK && !scaled) {
        free(c->buf);
        c->buf = NULL;
        st = scan_floats(c);
    }
    c->s->has_scale = scaled;
    return st;
}

/* ---- what the numbers say ---- */

static void check_scale(struct scan *c)
{
    struct validate_place at = validate_at_tensor(c->t);
    uint64_t offset = c->t->offset + c->t->size - TAIL_BYTES;
    float scale;
    if (c->t->type != TENSOR_I2_S && c->t->type != TENSOR_TL1 && c->t->type != TENSOR_TL2) {
        return;
    }
    if (gguf_tensor_read(c->v->g, c->t, c->t->size - TAIL_BYTES, sizeof scale, &scale, NULL) !=
        BNT_OK) {
        return;
    }
    at.offset = &offset;
    c->s->has_scale = true;
    c->s->scale = (double)scale;
    if (!(c->s->scale >= LEAST_SCALE && c->s->scale <= MOST_SCALE)) {
        validate_add(c->v, GGUF_FAULT_SCALE, &at, "tensor %.*s has scale %g", (int)c->t->name.len,
                     c->t->name.data, c->s->scale);
    }
}

static void tell_bad(struct scan *c, bool codes)
{
    const struct validate_stats *s = c->s;
    uint64_t offset = c->t->offset + c->bad_offset;
    struct validate_place at = {.tensor = c->t->name, .offset = &offset};
    if (codes) {
        validate_add(c->v, GGUF_FAULT_CORRUPT, &at,
                     "tensor %.*s: %llu of %llu codes mean no weight, the first in byte %llu of it",
                     (int)c->t->name.len, c->t->name.data, (unsigned long long)s->n_bad,
                     (unsigned long long)s->n, (unsigned long long)c->bad_offset);
    } else {
        validate_add(c->v, VALIDATE_VALUES, &at,
                     "tensor %.*s: %llu of %llu numbers are NaN or infinite, the first at row "
                     "%llu, column %llu",
                     (int)c->t->name.len, c->t->name.data, (unsigned long long)s->n_bad,
                     (unsigned long long)s->n, (unsigned long long)(c->first_bad / c->t->ne[0]),
                     (unsigned long long)(c->first_bad % c->t->ne[0]));
    }
}

static void finish_floats(struct scan *c)
{
    struct validate_stats *s = c->s;
    uint64_t n = s->n - s->n_bad;
    s->mean = n ? c->sum / (double)n : 0;
    s->rms = n ? sqrt(c->squares / (double)n) : 0;
    s->min = n ? s->min : 0;
    s->max = n ? s->max : 0;
}

static void finish_ternary(struct validate_stats *s)
{
    double n = (double)s->n, scale = s->scale;
    s->min = s->n_negative ? -scale : 0;
    s->max = s->n_positive ? scale : 0;
    s->mean = ((double)s->n_positive - (double)s->n_negative) / n * scale;
    s->rms = sqrt(((double)s->n_positive + (double)s->n_negative) / n) * scale;
}

static void check_statistics(struct scan *c)
{
    const struct validate_stats *s = c->s;
    struct validate_place at = validate_at_tensor(c->t);
    double most = fabs(s->min) > fabs(s->max) ? fabs(s->min) : fabs(s->max);
    uint64_t nonzero = s->n_negative + s->n_positive;
    uint64_t one_sign = s->n_negative > s->n_positive ? s->n_negative : s->n_positive;
    bool matrix = c->t->ne[1] > 1;
    uint32_t layer;
    const struct shape_rule *rule = shape_find(c->t->name, &layer);
    if (s->n_bad) {
        return;
    }
    if (nonzero == 0 && rule && rule->role != SHAPE_BIAS) {
        validate_add(c->v, VALIDATE_STATISTICS, &at, "tensor %.*s is zero throughout",
                     (int)c->t->name.len, c->t->name.data);
    } else if (!matrix || s->n < FEW) {
        return;
    } else if (s->has_scale && (double)s->n_zero > MOST_ZERO_SHARE * (double)s->n) {
        validate_add(c->v, VALIDATE_STATISTICS, &at, "tensor %.*s: %.1f %% of the weights are zero",
                     (int)c->t->name.len, c->t->name.data,
                     100.0 * (double)s->n_zero / (double)s->n);
    } else if ((double)one_sign > MOST_SIGN_SHARE * (double)nonzero) {
        validate_add(c->v, VALIDATE_STATISTICS, &at,
                     "tensor %.*s: %.1f %% of the weights that are not zero have one sign",
                     (int)c->t->name.len, c->t->name.data,
                     100.0 * (double)one_sign / (double)nonzero);
    } else if (!s->has_scale && most > MOST_OVER_RMS * s->rms) {
        validate_add(c->v, VALIDATE_STATISTICS, &at,
                     "tensor %.*s: the largest weight is %.3g, the root mean square %.3g",
                     (int)c->t->name.len, c->t->name.data, most, s->rms);
    }
}

static bool lacks_tiles(const struct scan *c)
{
    struct tl_tiles tiles;
    return (c->t->type == TENSOR_TL1 || c->t->type == TENSOR_TL2) &&
           !validate_tiles(c->v, c->t, &tiles);
}

static enum bnt_status scan_tensor(struct scan *c)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)c->t->type);
    enum bnt_status st;
    /* What begins unaligned (and has been told) is copied: rows of numbers are read as such. */
    c->view = c->t->offset % sizeof(double) == 0 ? gguf_tensor_view(c->v->g, c->t) : NULL;
    c->s->min = INFINITY;
    c->s->max = -INFINITY;
    check_scale(c);
    if (c->t->type == TENSOR_I2_S) {
        st = scan_i2s(c);
    } else if (lacks_tiles(c)) {
        return BNT_OK; /* told with the architecture */
    } else if (info->ternary) {
        st = scan_packed(c);
    } else {
        st = scan_floats(c);
    }
    free(c->buf);
    gguf_tensor_release(c->v->g, c->t);
    if (st != BNT_OK || interrupted(c->v)) {
        return st;
    }
    if (c->s->n_bad) {
        tell_bad(c, c->t->type == TENSOR_I2_S);
    }
    if (c->s->has_scale) {
        finish_ternary(c->s);
    } else {
        finish_floats(c);
    }
    check_statistics(c);
    return BNT_OK;
}

/* ---- scales of one matrix across the layers ---- */

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static bool is_of(const struct validate_stats *s, const struct shape_rule *rule)
{
    uint32_t layer;
    return s->has_scale && shape_find(s->tensor->name, &layer) == rule;
}

static void compare_scales(struct validate *v, const struct shape_rule *rule, double *sorted)
{
    const struct validate_report *r = v->report;
    size_t n = 0;
    for (size_t i = 0; i < r->n_stats; i++) {
        if (is_of(&r->stats[i], rule)) {
            sorted[n++] = r->stats[i].scale;
        }
    }
    qsort(sorted, n, sizeof *sorted, by_value);
    double median = n ? sorted[n / 2] : 0;
    for (size_t i = 0; i < r->n_stats && n >= 3 && median > 0; i++) {
        const struct validate_stats *s = &r->stats[i];
        struct validate_place at = validate_at_tensor(s->tensor);
        if (is_of(s, rule) && s->scale >= LEAST_SCALE && s->scale <= MOST_SCALE &&
            (s->scale > MOST_SCALE_RATIO * median || s->scale * MOST_SCALE_RATIO < median)) {
            validate_add(v, VALIDATE_STATISTICS, &at,
                         "tensor %.*s has scale %g, the median of all layers is %g",
                         (int)s->tensor->name.len, s->tensor->name.data, s->scale, median);
        }
    }
}

static enum bnt_status compare_layers(struct validate *v, struct bnt_err *err)
{
    double *sorted = malloc((v->report->n_stats + 1) * sizeof *sorted);
    if (!sorted) {
        return bnt_err_nomem(err, "scales", v->report->n_stats * sizeof *sorted);
    }
    for (const struct shape_rule *r = shape_rules; r->name; r++) {
        if (r->role == SHAPE_LINEAR) {
            compare_scales(v, r, sorted);
        }
    }
    free(sorted);
    return BNT_OK;
}

/* ---- all ---- */

/* Weights of a tensor; its size fits the file, so the product of a readable one does. */
static uint64_t n_weights(const struct gguf_tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

enum bnt_status validate_content(struct validate *v, struct bnt_err *err)
{
    const struct gguf *g = v->g;
    struct validate_report *r = v->report;
    uint64_t done = 0, total = g->file_size - g->data_offset;
    r->stats = calloc(g->n_tensors + 1, sizeof *r->stats);
    if (!r->stats) {
        return bnt_err_nomem(err, "statistics", g->n_tensors * sizeof *r->stats);
    }
    for (uint64_t i = 0; i < g->n_tensors; i++) {
        const struct gguf_tensor *t = &g->tensors[i];
        if (t->size == 0) {
            continue; /* told with the header */
        }
        struct validate_stats *s = &r->stats[r->n_stats++];
        *s = (struct validate_stats){.tensor = t, .n = n_weights(t)};
        struct scan c = {.v = v, .t = t, .s = s, .err = err};
        enum bnt_status st = scan_tensor(&c);
        st = st == BNT_OK ? bnt_err_interrupted(v->o->interrupted, err) : st;
        if (st != BNT_OK) {
            return st;
        }
        done += t->size;
        if (v->o->progress) {
            v->o->progress(v->o->ctx, done, total);
        }
    }
    return compare_layers(v, err);
}

/* ---- the digest ---- */

enum bnt_status validate_digest(struct validate *v, struct bnt_err *err)
{
    bool hashed;
    char *digest = v->report->digest;
    enum bnt_status st = bnt_digest_of_file(v->path, NULL, digest, &hashed, err);
    if (st == BNT_OK && v->o->expected && strcmp(digest, v->o->expected) != 0) {
        struct validate_place at = {.offset = NULL};
        validate_add(v, VALIDATE_DIGEST, &at, "sha256 is %s, expected %s", digest, v->o->expected);
    }
    return st;
}
