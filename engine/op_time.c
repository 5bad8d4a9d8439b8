/* The timer, and the products.
 *
 * The buffer of weights is filled once with bytes that serve every product: odd bytes are 0x40 and
 * even ones hold any four codes of 0 to 2. That is sound as ternary codes and as five weights to a
 * byte, and as F32 and F16 all numbers are between 2 and 8: no NaN, no infinity, nothing denormal,
 * which some processors are slow with. */
#include "engine/op_time.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/rng.h"
#include "base/stats.h"
#include "base/sysinfo.h"
#include "engine/bandwidth.h"
#include "engine/cpu/tables.h"
#include "engine/op_time_impl.h"

#define DEFAULT_PASS_US 2000u
#define DRAWN_BYTES (1u << 18)
enum { MAX_TOKENS = 4096, READ_BYTES = 1024 /* at least, by one thread */ };

const char *op_name(enum op_what what)
{
    static const char *const names[] = {
#define OP_NAME(id, name, does) name,
        OP_TABLE(OP_NAME)
#undef OP_NAME
    };
    return names[what];
}

/* ---- the timer ---- */

/* A piece is drawn, the rest repeats it. */
static void fill(uint8_t *at, uint64_t n)
{
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 1);
    for (uint64_t i = 0; i < DRAWN_BYTES; i++) {
        uint8_t code = 0;
        for (int k = 0; k < 4; k++) {
            code = (uint8_t)(code << 2 | bnt_rng_below(&rng, 3));
        }
        at[i] = i % 2 ? 0x40 : code;
    }
    for (uint64_t i = DRAWN_BYTES; i < n; i += DRAWN_BYTES) {
        memcpy(at + i, at, n - i < DRAWN_BYTES ? n - i : DRAWN_BYTES);
    }
}

static enum bnt_status take_weights(struct op_timer *t, bool large_pages, uint8_t **out,
                                    struct bnt_err *err)
{
    const size_t n = (size_t)t->weight_bytes;
    void *at = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return bnt_err_nomem(err, "weights to time products with", n);
    }
    (void)madvise(at, n, large_pages ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    fill(at, n);
    *out = at;
    return BNT_OK;
}

/* The weights of an op, in its kind of pages. */
static enum bnt_status choose_weights(struct op_run *r, struct bnt_err *err)
{
    const enum op_what what = r->spec.what;
    struct op_timer *t = r->t;
    const bool copy = r->spec.copy || what == OP_FIVES || what == OP_COLUMNS || what == OP_NARROW ||
                      what == OP_SCREEN;
    uint8_t **at = copy ? &t->copies : &t->weights;
    enum bnt_status st = *at ? BNT_OK : take_weights(t, copy, at, err);
    r->weights = *at;
    return st;
}

enum bnt_status op_timer_new(const struct op_timer_options *o, struct op_timer **out,
                             struct bnt_err *err)
{
    char note[256];
    struct op_timer *t = calloc(1, sizeof *t);
    if (!t) {
        return bnt_err_nomem(err, "a timer of operations", sizeof *t);
    }
    t->typical = o->typical;
    t->interrupted = o->interrupted;
    t->repetitions = o->repetitions > 0 ? o->repetitions : 1;
    t->pass_ns = 1000u * (uint64_t)(o->pass_us > 0 ? o->pass_us : DEFAULT_PASS_US);
    enum bnt_status st = cpu_kernels_choose(o->kernel, &t->kernels, note, sizeof note, err);
    if (st == BNT_OK) {
        st = cpu_pool_new(o->n_threads > 0 ? o->n_threads : bnt_cpu_count(), &t->pool, err);
    }
    t->weight_bytes = bandwidth_buffer_bytes();
    st = st == BNT_OK ? take_weights(t, false, &t->weights, err) : st;
    if (st != BNT_OK) {
        op_timer_free(t);
        return st;
    }
    *out = t;
    return BNT_OK;
}

void op_timer_free(struct op_timer *t)
{
    if (t) {
        cpu_pool_free(t->pool);
        uint8_t *const buffers[] = {t->weights, t->copies};
        for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
            if (buffers[i]) {
                munmap(buffers[i], (size_t)t->weight_bytes);
            }
        }
        free(t);
    }
}

const struct cpu_kernels *op_timer_kernels(const struct op_timer *t)
{
    return t->kernels;
}

struct cpu_pool *op_timer_pool(struct op_timer *t)
{
    return t->pool;
}

/* ---- one op ---- */

enum bnt_status op_take(struct op_run *r, const struct op_needs *n, struct bnt_err *err)
{
    uint64_t stride = act_stride(n->act_cols), n_tok = n->act_cols > 0 ? r->spec.n_tok : 0;
    const uint64_t sizes[] = {n->x * sizeof(float),
                              n->y * sizeof(float),
                              n->z * sizeof(float),
                              n->scratch * sizeof(float),
                              n_tok * stride,
                              n_tok * sizeof(float),
                              n_tok * sizeof(int32_t),
                              n->codes,
                              n->bytes};
    void *at[sizeof sizes / sizeof *sizes];
    uint64_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        total += bnt_arena_cost((size_t)sizes[i]) + 64;
    }
    enum bnt_status st = bnt_arena_init(&r->arena, (size_t)total, err);
    if (st != BNT_OK) {
        return st;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        at[i] = sizes[i] > 0 ? bnt_arena_alloc(&r->arena, (size_t)sizes[i]) : NULL;
    }
    r->x = at[0], r->y = at[1], r->z = at[2], r->scratch = at[3];
    r->act = (struct act_rows){.q = at[4], .scale = at[5], .sum = at[6], .stride = stride};
    r->codes = at[7], r->bytes = at[8], r->n_bytes = n->bytes;
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 2);
    for (uint64_t i = 0; i < n->x; i++) {
        r->x[i] = (float)(bnt_rng_unit(&rng) - 0.5);
    }
    for (uint64_t i = 0; i < n->z; i++) {
        r->z[i] = r->x[i % (n->x > 0 ? n->x : 1)];
    }
    for (uint64_t i = 0; i < n->codes; i++) {
        r->codes[i] = (int8_t)(bnt_rng_next(&rng) % 3) - 1;
    }
    return BNT_OK;
}

void op_spread(struct op_run *r, uint64_t n, cpu_pool_fn *fn)
{
    int threads = r->spec.alone ? 1 : cpu_pool_n_threads(r->t->pool);
    if (threads == 1) {
        fn(r, 0, (size_t)n, 0);
        return;
    }
    uint64_t pieces = (uint64_t)threads * 2;
    cpu_pool_run(r->t->pool, (size_t)n, (size_t)((n + pieces - 1) / pieces), fn, r);
}

/* ---- products ---- */

struct backend_cpu op_engine_of(const struct op_run *r)
{
    const bool alone = r->spec.alone;
    return (struct backend_cpu){.base.config.n_threads = alone ? 1 : cpu_pool_n_threads(r->t->pool),
                                .kernels = r->t->kernels,
                                .s = {.act = r->act,
                                      .h = r->x,
                                      .row = r->scratch,
                                      .row_stride = CPU_DEQUANT_ROWS * r->spec.cols},
                                .width = (uint32_t)r->spec.cols,
                                .n = r->spec.n_tok};
}

static struct weight weight_of(const struct op_run *r)
{
    return (struct weight){.ternary = r->spec.what == OP_TERNARY,
                           .type = r->spec.what == OP_TERNARY ? TENSOR_I2_S : r->spec.type,
                           .rows = r->rows,
                           .cols = r->spec.cols,
                           .row_bytes = r->row_bytes,
                           .data = r->weights + r->at,
                           .scale = 1};
}

/* Rows of several tokens. */
static void product_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct op_run *r = ctx;
    const struct backend_cpu b = op_engine_of(r);
    const struct weight w = weight_of(r);
    const struct cpu_output out = {r->y, r->rows};
    cpu_multiply(&b, &w, (struct cpu_rows){begin, end}, &out, thread);
}

static void product_slots(void *ctx, size_t begin, size_t end, int thread)
{
    const struct op_run *r = ctx;
    const struct backend_cpu b = op_engine_of(r);
    const struct weight w = weight_of(r);
    cpu_dot_slots(&b, &w, (struct cpu_rows){begin, end}, r->y, thread);
}

/* Those of the next run, which no cache holds. */
void op_next_weights(struct op_run *r)
{
    const uint64_t all = r->t->weight_bytes, wanted = r->spec.cycle_bytes;
    const uint64_t next = (r->at + r->matrix_bytes + 63) / 64 * 64;
    r->at = next + r->matrix_bytes > (wanted > 0 && wanted < all ? wanted : all) ? 0 : next;
}

static void run_product(struct op_run *r)
{
    const struct backend_cpu b = op_engine_of(r);
    const uint64_t macs = r->rows * r->spec.cols * r->spec.n_tok;
    const bool one = r->spec.n_tok == 1;
    const uint64_t n = one ? cpu_slots(r->rows, 1) : r->rows;
    const struct cpu_slot_kind kind = {1, WALK_STREAMS * r->row_bytes};
    const size_t chunk =
        one ? cpu_slot_chunk(&b, kind, n, macs) : cpu_chunk(&b, n, macs, r->spec.n_tok);
    cpu_pool_run(r->t->pool, (size_t)(BNT_FAULT(op_half) ? (n + 1) / 2 : n), chunk,
                 one ? product_slots : product_rows, r);
    op_next_weights(r);
}

/* A plain sum of as many bytes, in pieces of as many as a product's, in the streams that are
 * fastest here. */
static void read_piece(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct op_run *r = ctx;
    const uint8_t *from = r->weights + r->at + begin * READ_BYTES;
    const uint64_t sum =
        bandwidth_sum((const uint64_t *)(const void *)from,
                      (end - begin) * READ_BYTES / sizeof(uint64_t), r->t->streams);
    __atomic_fetch_add(&r->t->sum, sum, __ATOMIC_RELAXED);
}

static void run_read(struct op_run *r)
{
    const uint64_t n = r->matrix_bytes / READ_BYTES;
    cpu_pool_run(r->t->pool, (size_t)(n > 0 ? n : 1), CPU_PIECE_BYTES / READ_BYTES, read_piece, r);
    op_next_weights(r);
}

/* Every row is there, and the last one is what the reference says. */
static enum bnt_status check_product(struct op_run *r, struct bnt_err *err)
{
    const struct cpu_kernels *fast = r->t->kernels;
    for (uint64_t i = 0; i < r->rows * r->spec.n_tok; i++) {
        r->y[i] = NAN;
    }
    r->run(r);
    r->at = 0;
    bool good = true;
    for (uint64_t i = 0; i < r->rows * r->spec.n_tok && good; i++) {
        good = isfinite(r->y[i]);
    }
    for (uint64_t t = 0; t < r->spec.n_tok; t++) {
        r->z[t] = r->y[t * r->rows + r->rows - 1];
    }
    r->t->kernels = &cpu_kernels_ref;
    product_rows(r, r->rows - 1, r->rows, 0);
    r->t->kernels = fast;
    for (uint64_t t = 0; t < r->spec.n_tok && good; t++) {
        good = r->z[t] == r->y[t * r->rows + r->rows - 1];
    }
    return good ? BNT_OK
                : bnt_err_set(err, BNT_E_DIFFERS,
                              "the %s product of %llu x %llu by %u tokens is not the reference's",
                              fast->name, (unsigned long long)r->rows,
                              (unsigned long long)r->spec.cols, r->spec.n_tok);
}

static enum bnt_status bind_weights(struct op_run *r, struct bnt_err *err)
{
    const struct op_spec *s = &r->spec;
    uint64_t cols = s->cols;
    r->row_bytes = s->what == OP_READ    ? cols
                   : s->what == OP_FLOAT ? tensor_row_bytes(s->type, cols)
                                         : ternary_row_bytes(cols);
    if (r->row_bytes == 0 || (s->what == OP_FLOAT && !tensor_is_plain(s->type))) {
        return bnt_err_set(err, BNT_E_USAGE, "products are timed for F32, F16 and BF16 weights");
    }
    uint64_t most = r->t->weight_bytes / r->row_bytes;
    r->rows = s->rows < most ? s->rows : most;
    r->matrix_bytes = r->rows * r->row_bytes;
    return BNT_OK;
}

static enum bnt_status prepare_read(struct op_run *r, struct bnt_err *err)
{
    enum bnt_status st = bind_weights(r, err);
    r->run = run_read;
    const uint64_t bytes = r->spec.rows * r->spec.cols;
    r->cost = (struct op_time){.count = bytes, .weight_bytes = bytes, .bytes = bytes};
    return st == BNT_OK ? bandwidth_streams(cpu_pool_n_threads(r->t->pool), &r->t->streams, err)
                        : st;
}

static enum bnt_status prepare_product(struct op_run *r, struct bnt_err *err)
{
    const struct op_spec *s = &r->spec;
    enum bnt_status st = bind_weights(r, err);
    const bool ternary = s->what == OP_TERNARY;
    uint64_t threads = (uint64_t)cpu_pool_n_threads(r->t->pool);
    uint64_t scratch =
        ternary ? r->t->kernels->scratch_bytes / sizeof(float) : CPU_DEQUANT_ROWS * s->cols;
    if (st == BNT_OK) {
        st = op_take(r,
                     &(struct op_needs){.x = s->n_tok * s->cols,
                                        .y = s->n_tok * r->rows,
                                        .z = s->n_tok,
                                        .act_cols = ternary ? s->cols : 0,
                                        .scratch = threads * scratch},
                     err);
    }
    if (st != BNT_OK) {
        return st;
    }
    r->act.scratch = (uint8_t *)r->scratch;
    for (uint32_t t = 0; t < s->n_tok && ternary; t++) {
        r->t->kernels->quantize_act(r->x + t * s->cols, s->cols, r->act.q + t * r->act.stride,
                                    &r->act.scale[t], &r->act.sum[t]);
    }
    r->run = run_product;
    uint64_t in = ternary ? r->act.stride : s->cols * sizeof(float);
    r->cost = (struct op_time){.count = s->rows * s->cols * s->n_tok,
                               .weight_bytes = s->rows * r->row_bytes,
                               .bytes = s->rows * r->row_bytes +
                                        s->n_tok * (in + s->rows * sizeof(float))};
    return check_product(r, err);
}

/* ---- timing ---- */

static void release_run(struct op_run *r)
{
    bnt_arena_release(&r->arena);
    free(r->rope.freq);
    free(r->pass_ns);
    free(r->model);
    bnt_sampler_free(r->sampler);
}

typedef enum bnt_status prepare_fn(struct op_run *r, struct bnt_err *err);

static enum bnt_status prepare(struct op_timer *t, const struct op_spec *spec, struct op_run *r,
                               struct bnt_err *err)
{
    *r = (struct op_run){.t = t, .spec = *spec, .rows = spec->rows};
    if (spec->rows == 0 || spec->cols == 0 || spec->n_tok == 0 || spec->rows > TERNARY_MAX_COLS ||
        spec->cols > TERNARY_MAX_COLS || spec->n_tok > MAX_TOKENS) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "a shape of %llu x %llu by %u tokens: each is 1 to %u, tokens to %d",
                           (unsigned long long)spec->rows, (unsigned long long)spec->cols,
                           spec->n_tok, TERNARY_MAX_COLS, MAX_TOKENS);
    }
    static prepare_fn *const products[OP_WHATS] = {
        [OP_TERNARY] = prepare_product, [OP_FLOAT] = prepare_product,
        [OP_READ] = prepare_read,       [OP_COLUMNS] = op_columns_prepare,
        [OP_FIVES] = op_copies_prepare, [OP_NARROW] = op_copies_prepare,
        [OP_SCREEN] = op_copies_prepare};
    prepare_fn *const product = products[spec->what];
    enum bnt_status st = bnt_err_interrupted(t->interrupted, err);
    if (st == BNT_OK && product) {
        st = choose_weights(r, err);
    }
    return st != BNT_OK ? st : product ? product(r, err) : op_small_prepare(r, err);
}

static uint64_t pass(struct op_run *r)
{
    uint64_t start = bnt_clock_now_ns();
    for (uint64_t i = 0; i < r->runs_per_pass; i++) {
        r->run(r);
    }
    return bnt_clock_now_ns() - start;
}

/* As many runs as fill a pass; the first of them also warms up. */
static void find_runs(struct op_run *r)
{
    for (r->runs_per_pass = 1; r->runs_per_pass < UINT32_MAX; r->runs_per_pass *= 2) {
        if (pass(r) >= r->t->pass_ns) {
            return;
        }
    }
}

/* Of the time of the last run in the same turn. passes: room for one number a turn. */
static double of_last(const struct op_run *r, const struct op_run *last, double *passes)
{
    const uint32_t n = r->t->repetitions;
    for (uint32_t rep = 0; rep < n; rep++) {
        passes[rep] = r->pass_ns[rep] / last->pass_ns[rep];
    }
    bnt_stats_sort(passes, n);
    return bnt_stats_median(passes, n) * ((double)r->spec.rows / (double)r->rows) /
           ((double)last->spec.rows / (double)last->rows);
}

static enum bnt_status time_runs(struct op_run *runs, size_t n, struct op_time *out,
                                 struct bnt_err *err)
{
    const struct op_timer *t = runs[0].t;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < n; i++) {
        runs[i].pass_ns = calloc(t->repetitions, sizeof *runs[i].pass_ns);
        if (!runs[i].pass_ns) {
            return bnt_err_nomem(err, "times of passes", t->repetitions);
        }
        find_runs(&runs[i]);
    }
    for (uint32_t rep = 0; rep < t->repetitions && st == BNT_OK; rep++) {
        for (size_t i = 0; i < n; i++) {
            runs[i].pass_ns[rep] = (double)pass(&runs[i]) / (double)runs[i].runs_per_pass;
        }
        st = bnt_err_interrupted(t->interrupted, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    double *passes = calloc(t->repetitions, sizeof *passes);
    if (!passes) {
        return bnt_err_nomem(err, "times of passes", t->repetitions);
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = runs[i].cost;
        out[i].of_last = of_last(&runs[i], &runs[n - 1], passes);
    }
    free(passes);
    for (size_t i = 0; i < n; i++) {
        bnt_stats_sort(runs[i].pass_ns, t->repetitions);
        out[i].ns =
            t->typical ? bnt_stats_median(runs[i].pass_ns, t->repetitions) : runs[i].pass_ns[0];
        out[i].ns *= (double)runs[i].spec.rows / (double)runs[i].rows;
    }
    return BNT_OK;
}

enum bnt_status op_timer_run(struct op_timer *t, const struct op_spec *spec, struct op_time *out,
                             struct bnt_err *err)
{
    struct op_run r;
    enum bnt_status st = prepare(t, spec, &r, err);
    st = st == BNT_OK ? time_runs(&r, 1, out, err) : st;
    release_run(&r);
    return st;
}

enum bnt_status op_timer_turns(struct op_timer *t, const struct op_spec *specs, size_t n,
                               struct op_time *out, struct bnt_err *err)
{
    struct op_run r[OP_TURNS_MAX] = {0};
    enum bnt_status st = n >= 1 && n <= OP_TURNS_MAX
                             ? BNT_OK
                             : bnt_err_set(err, BNT_E_USAGE, "%zu ops cannot take turns", n);
    const size_t wanted = st == BNT_OK ? n : 0;
    for (size_t i = 0; i < wanted && st == BNT_OK; i++) {
        struct op_spec spec = specs[i];
        if (spec.what == OP_READ && spec.rows == 0) {
            spec.rows = (r[0].cost.weight_bytes + spec.cols - 1) / spec.cols;
        }
        st = prepare(t, &spec, &r[i], err);
    }
    st = st == BNT_OK ? time_runs(r, wanted, out, err) : st;
    for (size_t i = 0; i < wanted; i++) {
        release_run(&r[i]);
    }
    return st;
}
