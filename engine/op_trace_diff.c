#include "engine/op_trace_diff.h"

#include <math.h>
#include <string.h>

#include "base/fault.h"

/* ---- one row ---- */

/* |a - b|: 0 for two NaNs and for two equal infinities. */
static double distance(double a, double b)
{
    if (isnan(a) || isnan(b)) {
        return isnan(a) && isnan(b) ? 0 : INFINITY;
    }
    return a == b ? 0 : isinf(a) || isinf(b) ? INFINITY : fabs(a - b);
}

/* Value i of the row with fewer values, and the same element of the other; false when it is not
 * kept there. */
static bool pair_at(const struct op_record *a, const struct op_record *b, uint32_t i,
                    struct op_difference *d)
{
    bool a_is_sparse = a->n_values <= b->n_values;
    const struct op_record *sparse = a_is_sparse ? a : b, *dense = a_is_sparse ? b : a;
    uint32_t element = op_record_element(sparse, i);
    uint32_t j = dense->n_values == sparse->n_values ? i : element;
    if (j >= dense->n_values || op_record_element(dense, j) != element) {
        return false;
    }
    double x = (double)sparse->values[i], y = (double)dense->values[j];
    d->element = element;
    d->a = a_is_sparse ? x : y;
    d->b = a_is_sparse ? y : x;
    return true;
}

static void compare_values(const struct op_record *a, const struct op_record *b, double limit,
                           struct op_difference *d)
{
    uint32_t n = a->n_values < b->n_values ? a->n_values : b->n_values;
    struct op_difference at = *d;
    for (uint32_t i = 0; i < n; i++) {
        if (!pair_at(a, b, i, &at)) {
            continue;
        }
        double apart = distance(at.a, at.b);
        d->n_compared++;
        if (apart > limit && d->n_differ++ == 0) {
            d->kind = OP_DIFF_VALUES;
            d->element = at.element;
            d->a = at.a;
            d->b = at.b;
        }
        if (apart > d->largest) {
            d->largest = apart;
            d->largest_at = at.element;
        }
    }
}

static void compare_statistics(const struct op_record *a, const struct op_record *b, double limit,
                               struct op_difference *d)
{
    const struct {
        const char *name;
        double a, b, limit;
    } rows[] = {
        {"nan", a->n_nan, b->n_nan, 0},    {"inf", a->n_inf, b->n_inf, 0},
        {"min", a->min, b->min, limit},    {"max", a->max, b->max, limit},
        {"mean", a->mean, b->mean, limit}, {"rms", a->rms, b->rms, limit},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && d->kind == OP_DIFF_NONE; i++) {
        if (distance(rows[i].a, rows[i].b) > rows[i].limit) {
            d->kind = OP_DIFF_STATISTIC;
            d->statistic = rows[i].name;
            d->a = rows[i].a;
            d->b = rows[i].b;
        }
    }
}

static void compare_rows(const struct op_record *a, const struct op_record *b,
                         const struct op_tolerance *t, struct op_difference *d)
{
    double limit = t->absolute + t->relative * a->rms;
    d->rms = a->rms;
    if (a->n != b->n) {
        d->kind = OP_DIFF_SHAPE;
        d->a = a->n;
        d->b = b->n;
        return;
    }
    if (memcmp(a->digest, b->digest, sizeof a->digest) == 0) {
        return;
    }
    compare_values(a, b, limit, d);
    bool complete = a->n_values == a->n && b->n_values == b->n;
    if (d->kind == OP_DIFF_NONE && !complete) {
        compare_statistics(a, b, limit, d);
    }
    /* Zeros of either sign are equal values with different digests. */
    if (d->kind == OP_DIFF_NONE && limit == 0 && !complete) {
        d->kind = OP_DIFF_UNSAMPLED;
    }
}

/* ---- ids ---- */

/* Token i of a run, prompt and generated ones in a row; -1 past their end. */
static int32_t id_at(const struct op_trace *t, size_t i)
{
    if (i < t->ids.n) {
        return t->ids.at[i];
    }
    i -= t->ids.n;
    return i < t->generated.n ? t->generated.at[i] : -1;
}

/* The first token that is not the same in both; SIZE_MAX when all are. */
static size_t ids_differ_at(const struct op_trace *a, const struct op_trace *b)
{
    size_t i = 0;
    while (id_at(a, i) >= 0 && id_at(a, i) == id_at(b, i)) {
        i++;
    }
    return id_at(a, i) == id_at(b, i) ? SIZE_MAX : i;
}

/* ---- two traces ---- */

struct walk {
    const struct op_trace *a, *b;
    size_t i, j;
    const struct op_tolerance *tolerance;
    struct op_diff_result *out;
};

static void note(struct walk *w, const struct op_difference *d)
{
    if (w->out->first.kind == OP_DIFF_NONE) {
        w->out->first = *d;
    }
}

/* The next record of either side, or of both. */
static void step(struct walk *w)
{
    const struct op_record *a = w->i < w->a->n_records ? &w->a->records[w->i] : NULL;
    const struct op_record *b = w->j < w->b->n_records ? &w->b->records[w->j] : NULL;
    int order = !a ? 1 : !b ? -1 : op_record_compare(a, b);
    const struct op_record *r = order <= 0 ? a : b;
    struct op_difference d = {
        .position = r->position, .layer = r->layer, .op = bnt_tap_name(r->op)};
    w->i += order <= 0;
    w->j += order >= 0;
    if (order != 0) {
        d.kind = order < 0 ? OP_DIFF_ONLY_A : OP_DIFF_ONLY_B;
        if (!w->tolerance->common) {
            note(w, &d);
        }
        return;
    }
    compare_rows(a, b, w->tolerance, &d);
    w->out->n_compared++;
    if (d.kind != OP_DIFF_NONE && !(BNT_FAULT(diff_first) && w->out->n_differ == 0)) {
        note(w, &d);
    }
    w->out->n_differ += d.kind != OP_DIFF_NONE;
}

void op_trace_diff(const struct op_trace *a, const struct op_trace *b,
                   const struct op_tolerance *tolerance, struct op_diff_result *out)
{
    *out = (struct op_diff_result){0};
    struct walk w = {.a = a, .b = b, .tolerance = tolerance, .out = out};
    size_t other = ids_differ_at(a, b);
    while (w.i < a->n_records || w.j < b->n_records) {
        /* Past another token nothing can be compared. */
        bool past_a = w.i == a->n_records || a->records[w.i].position >= other;
        bool past_b = w.j == b->n_records || b->records[w.j].position >= other;
        if (past_a && past_b) {
            break;
        }
        step(&w);
    }
    bool ended = other != SIZE_MAX && (id_at(a, other) < 0 || id_at(b, other) < 0);
    if (other != SIZE_MAX && !(ended && tolerance->common)) {
        bool prompt = other < a->ids.n || other < b->ids.n;
        note(&w, &(struct op_difference){.kind = prompt ? OP_DIFF_IDS : OP_DIFF_GENERATED,
                                         .position = (uint32_t)other,
                                         .layer = -1,
                                         .a = id_at(a, other),
                                         .b = id_at(b, other)});
    }
}

/* ---- words ---- */

static enum bnt_status describe_values(const struct op_difference *d, struct bnt_buf *out,
                                       struct bnt_err *err)
{
    return bnt_buf_printf(out, err,
                          "element %u: %.9g and %.9g (%u of %u compared elements differ, by %.3g "
                          "at most, at element %u; rms of the row %.3g)",
                          d->element, d->a, d->b, d->n_differ, d->n_compared, d->largest,
                          d->largest_at, d->rms);
}

static enum bnt_status describe_rest(const struct op_difference *d, struct bnt_buf *out,
                                     struct bnt_err *err)
{
    switch (d->kind) {
    case OP_DIFF_ONLY_A:
        return bnt_buf_puts(out, "only A has it", err);
    case OP_DIFF_ONLY_B:
        return bnt_buf_puts(out, "only B has it", err);
    case OP_DIFF_SHAPE:
        return bnt_buf_printf(out, err, "%.0f and %.0f elements", d->a, d->b);
    case OP_DIFF_UNSAMPLED:
        return bnt_buf_puts(
            out, "the digests differ, but no sampled element does (bnt trace --full has all)", err);
    case OP_DIFF_STATISTIC:
        return bnt_buf_printf(out, err, "%s: %.9g and %.9g", d->statistic, d->a, d->b);
    case OP_DIFF_VALUES:
        return describe_values(d, out, err);
    default:
        return BNT_OK;
    }
}

enum bnt_status op_difference_describe(const struct op_difference *d, struct bnt_buf *out,
                                       struct bnt_err *err)
{
    if (d->kind == OP_DIFF_NONE) {
        return bnt_buf_puts(out, "no difference", err);
    }
    enum bnt_status st = bnt_buf_printf(out, err, "differs at token %u", d->position);
    if (st == BNT_OK && !d->op) {
        return bnt_buf_printf(out, err, ": %s ids %.0f and %.0f (-1: none)",
                              d->kind == OP_DIFF_IDS ? "prompt" : "generated", d->a, d->b);
    }
    if (st == BNT_OK && d->layer >= 0) {
        st = bnt_buf_printf(out, err, ", layer %d", d->layer);
    }
    if (st == BNT_OK) {
        st = bnt_buf_printf(out, err, ", op %s: ", d->op);
    }
    return st == BNT_OK ? describe_rest(d, out, err) : st;
}

static json_t *number_or_word(double v)
{
    return isfinite(v) ? json_real(v) : json_string(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
}

static void add_values(json_t *root, const struct op_difference *d)
{
    json_object_set_new(root, "element", json_integer(d->element));
    json_object_set_new(root, "compared_elements", json_integer(d->n_compared));
    json_object_set_new(root, "different_elements", json_integer(d->n_differ));
    json_object_set_new(root, "largest", number_or_word(d->largest));
    json_object_set_new(root, "largest_at", json_integer(d->largest_at));
    json_object_set_new(root, "rms", number_or_word(d->rms));
}

json_t *op_difference_json(const struct op_difference *d)
{
    static const char *const names[] = {"none",   "ids",       "only-in-a", "only-in-b", "shape",
                                        "values", "unsampled", "statistic", "generated"};
    if (d->kind == OP_DIFF_NONE) {
        return json_null();
    }
    json_t *root =
        json_pack("{s:s, s:I}", "kind", names[d->kind], "token", (json_int_t)d->position);
    if (d->op) {
        json_object_set_new(root, "layer", json_integer(d->layer));
        json_object_set_new(root, "op", json_string(d->op));
    }
    if (d->statistic) {
        json_object_set_new(root, "statistic", json_string(d->statistic));
    }
    if (d->kind != OP_DIFF_ONLY_A && d->kind != OP_DIFF_ONLY_B && d->kind != OP_DIFF_UNSAMPLED) {
        json_object_set_new(root, "a", number_or_word(d->a));
        json_object_set_new(root, "b", number_or_word(d->b));
    }
    if (d->kind == OP_DIFF_VALUES) {
        add_values(root, d);
    }
    return root;
}
