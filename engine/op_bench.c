/* What is timed for `bnt bench --ops`, and what is made of it. */
#include "engine/op_bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/dot_peak.h"
#include "engine/fives.h"
#include "engine/model.h"
#include "engine/speed_probe.h"

/* ---- shapes ---- */

/* rows x cols. 2B: BitNet b1.58 2B4T, whose activation makes zeros; 3B: bitnet_b1_58-3B. Odd: rows
 * and columns that no tile divides, one column more than a block, few rows, few columns. */
static const struct {
    const char *list, *name;
    uint32_t rows, cols;
    bool zeros;
} known[] = {
    {"2b", "2b q o", 2560, 2560, false},        {"2b", "2b k v", 640, 2560, false},
    {"2b", "2b gate up", 6912, 2560, false},    {"2b", "2b down", 2560, 6912, true},
    {"3b", "3b q k v o", 3200, 3200, false},    {"3b", "3b gate up", 8640, 3200, false},
    {"3b", "3b down", 3200, 8640, false},       {"odd", "odd rows, cols", 2557, 2573, false},
    {"odd", "odd long", 333, 12289, false},     {"odd", "odd few rows", 7, 14336, false},
    {"odd", "odd few cols", 14336, 100, false},
};

static enum op_what form_of(const struct op_shape *s)
{
    const struct weight w = {.rows = s->rows, .cols = s->cols};
    return s->zeros && s->cols <= COLUMN_MAX ? OP_COLUMNS : fives_fit(&w) ? OP_FIVES : OP_TERNARY;
}

static enum bnt_status add_shape(const struct op_shape *shape, struct op_shape at[OP_SHAPES_MAX],
                                 size_t *n, struct bnt_err *err)
{
    if (*n == OP_SHAPES_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "more than %d shapes", OP_SHAPES_MAX);
    }
    at[(*n)++] = *shape;
    return BNT_OK;
}

static enum bnt_status add_written_out(const char *name, bool copied,
                                       struct op_shape at[OP_SHAPES_MAX], size_t *n,
                                       struct bnt_err *err)
{
    char *end, *last;
    unsigned long rows = strtoul(name, &end, 10),
                  cols = *end == 'x' ? strtoul(end + 1, &last, 10) : 0;
    if (*name < '0' || *name > '9' || rows == 0 || cols == 0 || rows > TERNARY_MAX_COLS ||
        cols > TERNARY_MAX_COLS || end[1] < '0' || end[1] > '9' || *last != '\0') {
        bnt_err_set(err, BNT_E_USAGE, "no shapes by the name \"%.40s\"", name);
        bnt_err_hint(err, "model, 2b, 3b, odd, or ROWSxCOLS with 1 to %u each", TERNARY_MAX_COLS);
        return BNT_E_USAGE;
    }
    struct op_shape shape = {.rows = (uint32_t)rows, .cols = (uint32_t)cols};
    snprintf(shape.name, sizeof shape.name, "%.23s", name);
    shape.form = copied ? form_of(&shape) : OP_TERNARY;
    return add_shape(&shape, at, n, err);
}

enum bnt_status op_shapes_named(const char *name, bool copied, struct op_shape at[OP_SHAPES_MAX],
                                size_t *n, struct bnt_err *err)
{
    bool any = false;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < sizeof known / sizeof *known && st == BNT_OK; i++) {
        if (strcmp(known[i].list, name) == 0) {
            struct op_shape shape = {
                .rows = known[i].rows, .cols = known[i].cols, .zeros = known[i].zeros};
            snprintf(shape.name, sizeof shape.name, "%s", known[i].name);
            shape.form = copied ? form_of(&shape) : OP_TERNARY;
            st = add_shape(&shape, at, n, err);
            any = true;
        }
    }
    return any || st != BNT_OK ? st : add_written_out(name, copied, at, n, err);
}

enum bnt_status op_shapes_of_model(const struct bnt_model *m, struct op_shape at[OP_SHAPES_MAX],
                                   size_t *n, struct bnt_err *err)
{
    static const char *const names[N_LAYER_WEIGHTS] = {"q", "k", "v", "o", "gate", "up", "down"};
    const size_t first = *n;
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        const struct weight *w = &m->layers[0].w[i];
        const enum op_what form = i == W_DOWN && m->by_columns ? OP_COLUMNS
                                  : w->fives                   ? OP_FIVES
                                                               : OP_TERNARY;
        size_t same = first;
        while (same < *n &&
               (at[same].rows != w->rows || at[same].cols != w->cols || at[same].form != form)) {
            same++;
        }
        struct op_shape shape = {.rows = (uint32_t)w->rows,
                                 .cols = (uint32_t)w->cols,
                                 .form = form,
                                 .zeros = form == OP_COLUMNS};
        snprintf(shape.name, sizeof shape.name, "model %s", names[i]);
        if (w->ternary && same < *n) {
            size_t len = strlen(at[same].name);
            snprintf(at[same].name + len, sizeof shape.name - len, " %s", names[i]);
        } else if (w->ternary) {
            enum bnt_status st = add_shape(&shape, at, n, err);
            if (st != BNT_OK) {
                return st;
            }
        }
    }
    return BNT_OK;
}

/* ---- running ---- */

enum { READ_COLS = 1024 };

/* What products are timed with, and what they are held against. */
struct timing {
    struct op_timer *t;
    const struct op_bench_result *result;
};

/* Of a shape and so many tokens. */
static enum op_what form_here(const struct timing *timing, const struct op_product *p)
{
    const bool fives = cpu_kernels_have_fives(op_timer_kernels(timing->t));
    return p->n_tok > 1 || (p->shape->form == OP_FIVES && !fives) ? OP_TERNARY : p->shape->form;
}

/* Of a single token without a copy by columns. */
static uint64_t bytes_by_rows(const struct op_timer *t, const struct op_shape *s)
{
    const struct weight w = {
        .rows = s->rows, .cols = s->cols, .row_bytes = ternary_row_bytes(s->cols)};
    return fives_fit(&w) && cpu_kernels_have_fives(op_timer_kernels(t)) ? fives_read_bytes(&w)
                                                                        : w.rows * w.row_bytes;
}

static enum bnt_status time_once(const struct timing *timing, struct op_product *p,
                                 struct bnt_err *err)
{
    struct op_timer *t = timing->t;
    p->form = form_here(timing, p);
    const struct op_spec specs[3] = {
        {.what = p->form,
         .rows = p->shape->rows,
         .cols = p->shape->cols,
         .n_tok = p->n_tok,
         .zeros = timing->result->zeros},
        {.what = OP_FLOAT,
         .type = TENSOR_F32,
         .rows = p->shape->rows,
         .cols = p->shape->cols,
         .n_tok = p->n_tok},
        {.what = OP_READ, .cols = READ_COLS, .n_tok = 1, .copy = p->form != OP_TERNARY}};
    const struct op_spec quantize = {
        .what = OP_QUANTIZE, .rows = 1, .cols = p->shape->cols, .n_tok = p->n_tok};
    struct op_time times[3];
    enum bnt_status st = op_timer_turns(t, specs, 3, times, err);
    if (st == BNT_OK) {
        p->ternary = times[0];
        p->f32 = times[1];
        p->read = times[2];
        p->read.ns = p->ternary.ns / p->ternary.of_last;
        p->row_bytes = bytes_by_rows(t, p->shape);
        st = op_timer_run(t, &quantize, &p->quantize, err);
    }
    return st;
}

/* A share that memory binds and that is too small is taken again: whatever else the machine does
 * only makes it smaller. */
static enum bnt_status time_product(void *ctx, struct op_product *p, struct bnt_err *err)
{
    enum { TIMES = 3 };
    const struct timing *timing = ctx;
    double best = 0;
    enum bnt_status st = BNT_OK;
    for (int i = 0; i < TIMES && st == BNT_OK; i++) {
        struct op_product now = {.shape = p->shape, .n_tok = p->n_tok};
        st = time_once(timing, &now, err);
        const double share = st == BNT_OK ? op_product_judged_share(timing->result, &now) : 0;
        if (share > best) {
            *p = now;
            best = share;
        }
        if (best >= OP_SHARE_MIN || op_bench_bound(timing->result, p) != OP_BOUND_MEMORY) {
            break;
        }
    }
    return st;
}

/* What holds all weights is a piece of them: as many rows as make about a megabyte of codes. */
static enum bnt_status time_encoder(struct op_timer *t, const struct op_shape *shape,
                                    struct op_spec spec, struct op_encoder *e, struct bnt_err *err)
{
    const uint64_t rows = (1u << 20) / shape->cols;
    spec.rows = rows == 0 ? 1 : rows < shape->rows ? rows : shape->rows;
    spec.cols = shape->cols;
    spec.n_tok = 1;
    spec.alone = true;
    e->shape = shape;
    snprintf(e->name, sizeof e->name, "%s",
             spec.what == OP_ENCODE ? tensor_type_info(spec.type)->name : op_name(spec.what));
    return op_timer_run(t, &spec, &e->time, err);
}

/* TL1 and TL2 want the tiles of a known model; they are no formats that speed is asked of. */
static enum bnt_status time_encoders(const struct op_bench_plan *plan, struct op_timer *t,
                                     struct op_bench_result *result, struct bnt_err *err)
{
    static const struct op_spec encoders[] = {
        {.what = OP_ABSMEAN},
        {.what = OP_PACK},
        {.what = OP_ENCODE, .type = TENSOR_I2_S},
        {.what = OP_ENCODE, .type = TENSOR_TQ1_0},
        {.what = OP_ENCODE, .type = TENSOR_TQ2_0},
        {.what = OP_ENCODE, .type = TENSOR_IQ2_BN},
        {.what = OP_ENCODE, .type = TENSOR_F16},
        {.what = OP_ENCODE, .type = TENSOR_BF16},
        {.what = OP_ENCODE, .type = TENSOR_Q4_0},
        {.what = OP_ENCODE, .type = TENSOR_Q8_0},
        {.what = OP_ENCODE, .type = TENSOR_Q6_K},
    };
    for (size_t i = 0; i < sizeof encoders / sizeof *encoders; i++) {
        enum bnt_status st = BNT_E_USAGE;
        for (size_t s = 0; s < plan->n_shapes && st == BNT_E_USAGE; s++) {
            struct op_encoder *e = &result->encoders[result->n_encoders];
            st = time_encoder(t, &plan->shapes[s], encoders[i], e, NULL);
        }
        if (st != BNT_OK && st != BNT_E_USAGE) {
            return bnt_err_set(err, st, "the quantisers of weights cannot be timed: %s",
                               bnt_status_meaning(st));
        }
        result->n_encoders += st == BNT_OK;
    }
    return BNT_OK;
}

/* What all figures are held against. */
static enum bnt_status probe(struct op_timer *t, struct op_bench_result *result,
                             struct bnt_err *err)
{
    const int threads = cpu_pool_n_threads(op_timer_pool(t));
    const struct op_spec job = {
        .what = OP_JOB, .rows = (uint64_t)threads * 8, .cols = 1, .n_tok = 1};
    struct op_time time = {0};
    result->n_threads = threads;
    result->ratio_min = OP_RATIO_MIN;
    snprintf(result->kernel, sizeof result->kernel, "%s", op_timer_kernels(t)->name);
    result->peak_gmacs = dot_peak_gmacs(op_timer_pool(t), result->kernel);
    enum bnt_status st = threads > 1 ? op_timer_run(t, &job, &time, err) : BNT_OK;
    result->job_ns = time.ns;
    return st == BNT_OK ? bandwidth_measure(threads, &result->bandwidth, err) : st;
}

enum bnt_status op_bench_products(const struct op_bench_plan *plan, op_product_fn *time, void *ctx,
                                  struct op_bench_result *result, struct bnt_err *err)
{
    const size_t total = plan->n_batches * plan->n_shapes;
    enum bnt_status st = BNT_OK;
    result->products = calloc(total ? total : 1, sizeof *result->products);
    if (!result->products) {
        return bnt_err_nomem(err, "times of products", total * sizeof *result->products);
    }
    for (size_t i = 0; i < total && st == BNT_OK; i++) {
        struct op_product *p = &result->products[result->n_products++];
        p->shape = &plan->shapes[i % plan->n_shapes];
        p->n_tok = plan->batches[i / plan->n_shapes];
        st = bnt_err_interrupted(plan->timer.interrupted, err);
        st = st == BNT_OK ? time(ctx, p, err) : st;
        if (plan->progress) {
            plan->progress(plan->ctx, i + 1, total);
        }
    }
    return st;
}

/* What zeros the products by columns meet: those of the first that is one. */
static enum bnt_status draw_zeros(const struct op_bench_plan *plan, struct op_bench_result *result,
                                  struct bnt_err *err)
{
    for (size_t i = 0; i < plan->n_shapes; i++) {
        if (plan->shapes[i].form == OP_COLUMNS) {
            return speed_random_zeros(result->kernel, plan->shapes[i].cols, &result->zeros, err);
        }
    }
    return BNT_OK;
}

/* What a product reached can be reached, whatever else the machine did while it was probed. */
static void raise_peak(struct op_bench_result *result)
{
    for (size_t i = 0; i < result->n_products; i++) {
        const struct op_product *p = &result->products[i];
        const double reached = p->form == OP_COLUMNS ? 0 : op_gmacs(&p->ternary);
        result->peak_gmacs = fmax(result->peak_gmacs, reached);
    }
}

enum bnt_status op_bench_run(const struct op_bench_plan *plan, struct op_bench_result *result,
                             struct bnt_err *err)
{
    struct op_timer *t = NULL;
    if (plan->n_batches * plan->n_shapes == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "no shapes, or no batches, to time");
    }
    enum bnt_status st = op_timer_new(&plan->timer, &t, err);
    struct timing timing = {t, result};
    st = st == BNT_OK ? probe(t, result, err) : st;
    st = st == BNT_OK ? draw_zeros(plan, result, err) : st;
    st = st == BNT_OK ? op_bench_products(plan, time_product, &timing, result, err) : st;
    raise_peak(result);
    st = st == BNT_OK ? time_encoders(plan, t, result, err) : st;
    op_timer_free(t);
    return st;
}

void op_bench_release(struct op_bench_result *result)
{
    free(result->products);
    *result = (struct op_bench_result){0};
}

/* ---- judging ---- */

const char *op_bound_name(enum op_bound b)
{
    static const char *const names[] = {"memory", "dot", "short"};
    return names[b];
}

static double read_ns(const struct op_bench_result *result, const struct op_product *p)
{
    return p->read.ns > 0 ? p->read.ns
                          : (double)p->ternary.weight_bytes / result->bandwidth.all_gb_per_s;
}

enum op_bound op_bench_bound(const struct op_bench_result *result, const struct op_product *p)
{
    double reading_ns = read_ns(result, p);
    const double done = (double)p->ternary.count * (p->form == OP_COLUMNS ? 1 - result->zeros : 1);
    double dot_ns = result->peak_gmacs > 0 ? done / result->peak_gmacs : 0;
    if (fmax(reading_ns, dot_ns) < fmax(OP_SHORT_NS, OP_SHORT_JOBS * result->job_ns)) {
        return OP_BOUND_SHORT;
    }
    return reading_ns > dot_ns ? OP_BOUND_MEMORY : OP_BOUND_DOT;
}

double op_gmacs(const struct op_time *t)
{
    return (double)t->count / t->ns;
}

double op_gb_per_s(const struct op_time *t)
{
    return (double)t->bytes / t->ns;
}

double op_product_share(const struct op_bench_result *result, const struct op_product *p)
{
    return read_ns(result, p) / p->ternary.ns;
}

double op_product_judged_share(const struct op_bench_result *result, const struct op_product *p)
{
    const double spared =
        p->form == OP_COLUMNS ? (double)p->row_bytes / (double)p->ternary.weight_bytes : 1;
    return op_product_share(result, p) * spared;
}

const char *op_form_name(const struct op_product *p)
{
    return p->form == OP_FIVES ? "1.6 bits" : p->form == OP_COLUMNS ? "columns" : "2 bits";
}

double op_product_ratio(const struct op_product *p)
{
    return p->f32.ns / (p->ternary.ns + (p->fused ? 0 : p->quantize.ns));
}

void op_bench_judge(const struct op_bench_result *result, struct op_verdict *out)
{
    *out = (struct op_verdict){.ratio = INFINITY, .share = INFINITY};
    for (size_t i = 0; i < result->n_products; i++) {
        const struct op_product *p = &result->products[i];
        double ratio = op_product_ratio(p);
        double share = op_product_judged_share(result, p);
        if (ratio < out->ratio) {
            out->ratio = ratio;
            out->worst_ratio = p;
        }
        if (op_bench_bound(result, p) == OP_BOUND_MEMORY && share < out->share) {
            out->share = share;
            out->worst_share = p;
        }
    }
    out->good =
        (out->ratio >= result->ratio_min && out->share >= OP_SHARE_MIN) || BNT_FAULT(ops_gate);
}
