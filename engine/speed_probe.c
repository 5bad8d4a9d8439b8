/* Measuring what the model of time is made of. */
#include "engine/speed_probe.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/stats.h"
#include "engine/bandwidth.h"
#include "engine/cpu/dot_peak.h"
#include "engine/session.h"

/* What one thread is asked for; the first error stays. */
struct prober {
    struct op_timer *t;
    const struct speed_probe_plan *plan;
    uint64_t cycle_bytes; /* of weights: those of the model */
    enum bnt_status st;
    struct bnt_err *err;
};

static double ns_of(struct prober *p, struct op_spec spec)
{
    struct op_time time = {0};
    spec.rows = spec.rows > 0 ? spec.rows : 1;
    if (p->st == BNT_OK) {
        p->st = op_timer_run(p->t, &spec, &time, p->err);
    }
    return time.ns;
}

static struct op_spec product_of(const struct prober *p, const struct speed_matrix *m,
                                 uint32_t n_tok)
{
    const bool fives = n_tok == 1 && m->fives_bytes > 0;
    return (struct op_spec){.what = fives        ? OP_FIVES
                                    : m->ternary ? OP_TERNARY
                                                 : OP_FLOAT,
                            .type = m->type,
                            .rows = m->rows,
                            .cols = m->cols,
                            .n_tok = n_tok,
                            .cycle_bytes = p->cycle_bytes};
}

/* The head in its form. */
static struct op_spec head_of(const struct prober *p)
{
    static const enum op_what copies[] = {
        [SPEED_HEAD_NARROW] = OP_NARROW, [SPEED_HEAD_SCREENED] = OP_SCREEN};
    const struct speed_shape *s = p->plan->shape;
    struct op_spec spec = product_of(p, &s->head, 1);
    spec.what = s->head_form == SPEED_HEAD_PLAIN ? spec.what : copies[s->head_form];
    return spec;
}

/* Norm, where there is one, and quantiser of n_tok rows. */
static double norm_ns(struct prober *p, uint64_t cols, uint32_t n_tok, bool norm)
{
    const double quantize =
        ns_of(p, (struct op_spec){.what = OP_QUANTIZE, .cols = cols, .n_tok = n_tok});
    return quantize +
           (norm ? ns_of(p, (struct op_spec){.what = OP_NORM, .cols = cols, .n_tok = n_tok}) : 0);
}

static void probe_batch(struct prober *p, struct speed_batch *b)
{
    const struct speed_shape *s = p->plan->shape;
    const uint64_t hd = s->head_dim, q_dim = s->n_head * hd, kv_dim = s->n_head_kv * hd;
    const uint32_t n = b->n_tok;
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        b->product_ns[i] = ns_of(p, product_of(p, &s->w[i], n));
    }
    b->norm_ns = 2 * norm_ns(p, s->n_embd, n, true) + norm_ns(p, q_dim, n, s->sub_norms) +
                 norm_ns(p, s->n_ff, n, s->sub_norms);
    b->rotate_ns =
        ns_of(p,
              (struct op_spec){
                  .what = OP_ROPE, .rows = s->n_head + s->n_head_kv, .cols = hd, .n_tok = n}) +
        2 * ns_of(p, (struct op_spec){.what = OP_STORE, .cols = kv_dim, .n_tok = n});
    b->act_ns = ns_of(p, (struct op_spec){.what = OP_ACT_MUL, .cols = s->n_ff, .n_tok = n});
    b->add_ns = 2 * ns_of(p, (struct op_spec){.what = OP_ADD, .cols = s->n_embd, .n_tok = n});
    b->embed_ns = ns_of(p, (struct op_spec){.what = OP_ANGLES, .cols = hd, .n_tok = n}) +
                  ns_of(p, (struct op_spec){.what = OP_STORE, .cols = s->n_embd, .n_tok = n});
}

/* n_tok tokens at a time, from where the first of them sees so many positions. */
static void probe_attention(struct prober *p, uint32_t n_tok, struct speed_attend *a)
{
    static const uint32_t seen[SPEED_POINTS] = SPEED_SEEN;
    const struct speed_shape *s = p->plan->shape;
    a->n_tok = n_tok;
    for (int i = 0; i < SPEED_POINTS && n_tok > 0; i++) {
        a->ns[i] = ns_of(p, (struct op_spec){.what = OP_ATTEND,
                                             .rows = s->n_head / s->n_head_kv,
                                             .cols = s->head_dim,
                                             .n_tok = seen[i],
                                             .block = n_tok});
    }
}

/* `down` by columns; cycle_bytes as of a product. */
static struct op_spec columns_of_down(const struct prober *p, uint64_t cycle_bytes)
{
    const struct speed_matrix *w = &p->plan->shape->w[W_DOWN];
    return (struct op_spec){.what = OP_COLUMNS,
                            .rows = w->rows,
                            .cols = w->cols,
                            .n_tok = 1,
                            .cycle_bytes = cycle_bytes,
                            .zeros = p->plan->shape->zeros};
}

static void probe_one_thread(struct prober *p, struct speed_rates *r)
{
    const struct speed_shape *s = p->plan->shape;
    const uint32_t most =
        cpu_attend_tokens(&(struct bnt_model_info){.n_head = s->n_head, .n_head_kv = s->n_head_kv});
    for (size_t i = 0; i < p->plan->n_batches; i++) {
        r->batches[i].n_tok = p->plan->batches[i];
        probe_batch(p, &r->batches[i]);
        const uint32_t n = p->plan->batches[i], block = n < most ? n : most;
        probe_attention(p, block, &r->batches[i].whole);
        probe_attention(p, n % block, &r->batches[i].rest);
    }
    r->n_batches = p->plan->n_batches;
    if (speed_by_columns(s)) {
        r->columns_ns = ns_of(p, columns_of_down(p, p->cycle_bytes));
    }
    r->head_ns = ns_of(p, head_of(p));
    r->argmax_ns =
        ns_of(p, (struct op_spec){.what = OP_ARGMAX, .rows = s->n_vocab, .cols = 1, .n_tok = 1});
    r->final_norm_ns = ns_of(p, (struct op_spec){.what = OP_NORM, .cols = s->n_embd, .n_tok = 1});
    r->gmacs = dot_peak_gmacs(op_timer_pool(p->t), op_timer_kernels(p->t)->name);
}

/* How much of the memory's speed a product reaches whose weights come from there: of a plain sum's,
 * in turn with it. */
static double share_of(struct prober *p, struct op_spec product)
{
    const struct op_spec both[2] = {
        product, {.what = OP_READ, .rows = 16384, .cols = 1024, .n_tok = 1, .copy = true}};
    struct op_time time[2] = {0};
    if (p->st == BNT_OK) {
        p->st = op_timer_turns(p->t, both, 2, time, p->err);
    }
    return (double)time[0].weight_bytes / (double)time[1].weight_bytes / time[0].of_last;
}

static double product_share(struct prober *p, struct op_spec spec)
{
    spec.cycle_bytes = 0;
    return share_of(p, spec);
}

static void probe_shares(struct prober *p, struct speed_machine *m)
{
    const struct speed_shape *s = p->plan->shape;
    struct speed_matrix codes = s->w[W_UP];
    codes.fives_bytes = 0;
    m->ternary_share = product_share(p, product_of(p, &codes, 1));
    m->fives_share =
        s->w[W_UP].fives_bytes > 0 ? product_share(p, product_of(p, &s->w[W_UP], 1)) : 0;
    m->head_share = product_share(p, head_of(p));
    m->columns_share =
        speed_by_columns(s) && m->n_threads == 1 ? share_of(p, columns_of_down(p, 0)) : 0;
}

enum {
    EXCHANGE_ROWS = 64, /* of a batch that threads share */
    EXCHANGE_PASSES = 9,
    LINE_FLOATS = 16
};

/* Rows that one job writes and the next one reads. */
struct exchange {
    float *at; /* [EXCHANGE_ROWS][cols] */
    size_t cols;
    _Atomic uint64_t sum; /* keeps the reads from being left out */
};

static void write_block(const struct exchange *x, size_t row, size_t begin, size_t end)
{
    memset(x->at + row * x->cols + begin, 0, (end - begin) * sizeof *x->at);
}

/* Columns [begin, end) of all rows, as a product writes them. */
static void write_columns(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    for (size_t row = 0; row < EXCHANGE_ROWS; row++) {
        write_block(ctx, row, begin, end);
    }
}

static void write_rows(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    const struct exchange *x = ctx;
    for (size_t row = begin; row < end; row++) {
        write_block(x, row, 0, x->cols);
    }
}

static void read_rows(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct exchange *x = ctx;
    const uint64_t *words = (const uint64_t *)(const void *)(x->at + begin * x->cols);
    x->sum += bandwidth_sum(words, (end - begin) * x->cols * sizeof *x->at / sizeof *words, 1);
}

/* Of both: written by columns, or each row by the thread that reads it. */
static double exchange_pass_ns(struct cpu_pool *pool, struct exchange *x, bool by_columns)
{
    enum { TIMES = 64 };
    const size_t pieces = 2 * (size_t)cpu_pool_n_threads(pool);
    const size_t rows = (EXCHANGE_ROWS + pieces - 1) / pieces;
    const size_t lines = (x->cols / LINE_FLOATS + pieces - 1) / pieces;
    const uint64_t start = bnt_clock_now_ns();
    for (int i = 0; i < TIMES; i++) {
        if (by_columns) {
            cpu_pool_run(pool, x->cols, lines * LINE_FLOATS, write_columns, x);
        } else {
            cpu_pool_run(pool, EXCHANGE_ROWS, rows, write_rows, x);
        }
        cpu_pool_run(pool, EXCHANGE_ROWS, rows, read_rows, x);
    }
    return (double)(bnt_clock_now_ns() - start) / TIMES;
}

/* What a byte costs that another thread wrote, beyond one of its own: (threads - 1) / threads of
 * all are such. */
static double probe_exchange(struct prober *p)
{
    struct cpu_pool *pool = op_timer_pool(p->t);
    const size_t cols = p->plan->shape->n_embd;
    struct exchange x = {.at = calloc(EXCHANGE_ROWS * cols, sizeof *x.at), .cols = cols};
    if (!x.at) {
        p->st = p->st == BNT_OK ? bnt_err_nomem(p->err, "rows to hand over", cols) : p->st;
        return 0;
    }
    const double n = cpu_pool_n_threads(pool),
                 bytes = (double)(EXCHANGE_ROWS * cols * sizeof *x.at);
    double more_ns[EXCHANGE_PASSES];
    for (int i = 0; i < EXCHANGE_PASSES; i++) {
        const double own = exchange_pass_ns(pool, &x, false);
        more_ns[i] = exchange_pass_ns(pool, &x, true) - own;
    }
    free(x.at);
    bnt_stats_sort(more_ns, EXCHANGE_PASSES);
    return fmax(0, bnt_stats_median(more_ns, EXCHANGE_PASSES)) * n / (bytes * (n - 1) / n);
}

static void probe_machine(struct prober *p, int threads, struct speed_machine *m)
{
    struct bandwidth bandwidth = {0};
    if (p->st == BNT_OK) {
        p->st = bandwidth_measure(threads, &bandwidth, p->err);
    }
    *m = (struct speed_machine){.n_threads = threads,
                                .kernels = op_timer_kernels(p->t),
                                .gb_per_s = bandwidth.all_gb_per_s,
                                .streams = bandwidth.all_streams,
                                .dot_speed = 1,
                                .step_speed = 1,
                                .cache_bytes = cpu_features()->l3 > cpu_features()->l2
                                                   ? cpu_features()->l3 / 2
                                                   : cpu_features()->l2};
    probe_shares(p, m);
    m->job_ns = threads > 1 ? ns_of(p, (struct op_spec){.what = OP_JOB,
                                                        .rows = (uint64_t)threads * 8,
                                                        .cols = 1,
                                                        .n_tok = 1})
                            : 0;
    m->exchange_ns = threads > 1 ? probe_exchange(p) : 0;
}

static bool known(const struct speed_matrix *m)
{
    return m->ternary || tensor_is_plain(m->type);
}

static enum bnt_status check_shape(const struct speed_shape *s, struct bnt_err *err)
{
    bool good = known(&s->head);
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        good = good && known(&s->w[i]);
    }
    return good ? BNT_OK
                : bnt_err_set(err, BNT_E_UNSUPPORTED,
                              "the model of time knows ternary, F32, F16 and BF16 weights alone");
}

/* The largest matrix of a layer by one thread and by all, from a cache: what threads lose to each
 * other and to the cutting, not to memory. */
static void probe_scaling(struct prober *p, struct speed_machine *m)
{
    const struct speed_shape *s = p->plan->shape;
    for (size_t i = 0; i < p->plan->n_batches; i++) {
        struct op_spec spec = product_of(p, &s->w[W_UP], p->plan->batches[i]);
        spec.cycle_bytes = 1;
        struct op_spec alone = spec;
        alone.alone = true;
        struct op_time time[2] = {0};
        if (p->st == BNT_OK && m->n_threads > 1) {
            const struct op_spec both[2] = {alone, spec};
            p->st = op_timer_turns(p->t, both, 2, time, p->err);
        }
        m->scaling[i] = m->n_threads > 1 ? time[0].ns / time[1].ns / m->n_threads : 1;
    }
}

enum bnt_status speed_probe_run(const struct speed_probe_plan *plan, struct speed_probe *out,
                                struct bnt_err *err)
{
    struct prober p = {.plan = plan,
                       .cycle_bytes = speed_weight_bytes(plan->shape),
                       .st = check_shape(plan->shape, err),
                       .err = err};
    for (size_t i = 0; i < plan->n_threads && p.st == BNT_OK; i++) {
        const struct op_timer_options options = {.kernel = plan->kernel,
                                                 .n_threads = plan->threads[i],
                                                 .repetitions = plan->repetitions,
                                                 .typical = true,
                                                 .interrupted = plan->interrupted};
        p.st = op_timer_new(&options, &p.t, err);
        if (p.st != BNT_OK) {
            break;
        }
        probe_machine(&p, plan->threads[i], &out->machines[i]);
        out->machines[i].columns_share = out->machines[0].columns_share;
        probe_scaling(&p, &out->machines[i]);
        if (i == 0) {
            probe_one_thread(&p, &out->rates);
            snprintf(out->kernel, sizeof out->kernel, "%s", op_timer_kernels(p.t)->name);
        }
        out->gmacs[i] = dot_peak_gmacs(op_timer_pool(p.t), op_timer_kernels(p.t)->name);
        op_timer_free(p.t);
        out->n_machines++;
    }
    return p.st;
}

/* Nearly normal: the sum of numbers between 0 and 1, less its mean, by its deviation. */
static float normal(struct bnt_rng *rng)
{
    enum { TERMS = 48 /* a twelfth is its variance */ };
    double sum = -TERMS / 2.0;
    for (int i = 0; i < TERMS; i++) {
        sum += bnt_rng_unit(rng);
    }
    return (float)(sum / 2);
}

enum bnt_status speed_random_zeros(const char *kernel, uint64_t n_ff, double *out,
                                   struct bnt_err *err)
{
    const struct cpu_kernels *k;
    char note[256];
    enum bnt_status st = cpu_kernels_choose(kernel, &k, note, sizeof note, err);
    if (st != BNT_OK) {
        return st;
    }
    const uint64_t stride = act_stride(n_ff);
    const size_t bytes = (size_t)(stride + 3 * n_ff * sizeof(float) + 63) / 64 * 64;
    int8_t *codes = aligned_alloc(64, bytes);
    if (!codes) {
        return bnt_err_nomem(err, "gates", bytes);
    }
    float *gate = (float *)(void *)(codes + stride), *up = gate + n_ff, *ones = up + n_ff, scale;
    int32_t sum;
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 4);
    for (uint64_t i = 0; i < n_ff; i++) {
        gate[i] = normal(&rng);
        up[i] = normal(&rng);
        ones[i] = 1;
    }
    k->act_mul(ACT_RELU2, gate, up, n_ff);
    k->rmsnorm(gate, ones, 1e-5f, n_ff, up);
    k->quantize_act(up, n_ff, codes, &scale, &sum);
    uint64_t n = 0;
    for (uint64_t i = 0; i < stride; i++) {
        n += codes[i] != 0;
    }
    *out = 1 - (double)n / (double)n_ff;
    free(codes);
    return BNT_OK;
}

/* ---- streams of a session ---- */

/* A plain sum. */
struct stream_sum {
    const uint64_t *words;
    int streams;
    _Atomic uint64_t sum; /* keeps the reads from being left out */
};

static void sum_words(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct stream_sum *t = ctx;
    t->sum += bandwidth_sum(t->words + begin, end - begin, t->streams);
}

static double plain_gb_per_s(struct backend_cpu *b, int streams)
{
    enum { PIECE_WORDS = 1 << 17 };
    const struct bnt_model *m = b->base.model;
    const bool narrow = m->narrow.rows != NULL;
    const uint8_t *data = narrow ? m->narrow_form.data : m->head.data;
    const uint64_t bytes = narrow ? m->narrow_form.size : m->head.rows * m->head.row_bytes;
    struct stream_sum t = {.words = (const uint64_t *)(const void *)data, .streams = streams};
    const uint64_t start = bnt_clock_now_ns();
    cpu_pool_run(b->pool, (size_t)(bytes / sizeof *t.words), PIECE_WORDS, sum_words, &t);
    return (double)bytes / (double)(bnt_clock_now_ns() - start);
}

static enum bnt_status check_streams(const struct bnt_session *s, struct bnt_err *err)
{
    const struct bnt_model *m = s->model;
    bool good = strcmp(s->backend->ops->name, "cpu") == 0 && !m->info.streamed && m->head.data;
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        good = good && !m->layers[0].w[i].look_up;
    }
    return good ? BNT_OK
                : bnt_err_set(err, BNT_E_UNSUPPORTED,
                              "the model of time knows weights in the memory of a CPU, and none "
                              "that are looked up in tables");
}

static enum bnt_status run_head(struct bnt_session *s, struct bnt_err *err)
{
    struct backend *b = s->backend;
    struct bnt_near near = {.k = 1};
    return b->ops->near ? b->ops->near(b, s->n_last - 1, &near, err)
                        : b->ops->logits(b, s->n_last - 1, 1, s->logits, err);
}

enum { PARTS_MAX = 2 };

/* A session whose layers can be run without harm: a copy of its back end, on the same threads and
 * the same rows, with caches of one layer and rows of a batch of its own. */
struct trial {
    struct bnt_session *session;
    struct backend_cpu b;
    float *x; /* the stream as it was, [n_batch][n_embd] */
    double heads, heads_ns;
    double layers[PARTS_MAX], layers_ns[PARTS_MAX]; /* by part of a layer that was run */
    void *held;                                     /* all of its memory */
};

static uint64_t cache_layer_bytes(const struct backend_cpu *b)
{
    return b->base.kv_bytes / 2 / b->base.config.n_seq / b->base.model->info.n_layer;
}

static enum bnt_status trial_begin(struct bnt_session *s, struct trial *t, struct bnt_err *err)
{
    *t = (struct trial){.session = s, .b = *(struct backend_cpu *)s->backend};
    const size_t n_batch = t->b.base.config.n_batch, n_embd = s->model->info.n_embd;
    const size_t cache = (size_t)cache_layer_bytes(&t->b), rows = n_batch * sizeof *t->b.s.rows;
    const size_t x = n_batch * n_embd * sizeof *t->x;
    uint8_t *at = calloc(1, 2 * cache + x + rows);
    if (!at) {
        return bnt_err_nomem(err, "a trial of the layers", 2 * cache + x + rows);
    }
    t->held = at;
    t->b.s.k_cache = at;
    t->b.s.v_cache = at + cache;
    t->x = (float *)(void *)(at + 2 * cache);
    t->b.s.rows = (struct backend_row *)(void *)(at + 2 * cache + x);
    for (uint32_t i = 0; i < n_batch; i++) {
        t->b.s.rows[i].pos = i;
    }
    memcpy(t->x, t->b.s.x, x);
    return BNT_OK;
}

/* Parts of a layer that take turns. */
struct parts {
    uint32_t n_tok, n;
    cpu_layer_fn *run[PARTS_MAX];
    double *ns[PARTS_MAX]; /* where the time of each goes */
};

/* The head, and after it the layers, each by the next part: weights come from where they come from
 * in an evaluation, and what memory does meanwhile meets all parts. */
static enum bnt_status trial_pass(struct trial *t, const struct parts *parts, uint32_t pass,
                                  struct bnt_err *err)
{
    enum { MOST_NS = 80000000 };
    const struct bnt_model_info *in = &t->session->model->info;
    const uint64_t start = bnt_clock_now_ns();
    enum bnt_status st = run_head(t->session, err);
    t->heads_ns += (double)(bnt_clock_now_ns() - start);
    t->heads++;
    t->b.n = t->b.n_seen = parts->n_tok;
    memcpy(t->b.s.x, t->x, parts->n_tok * in->n_embd * sizeof *t->x);
    const uint64_t begin = bnt_clock_now_ns();
    uint64_t before = begin;
    for (uint32_t il = 0; il < in->n_layer && before - begin < MOST_NS; il++) {
        const uint32_t which = (il + pass) % parts->n;
        parts->run[which](&t->b, il);
        const uint64_t now = bnt_clock_now_ns();
        t->layers_ns[which] += (double)(now - before);
        t->layers[which]++;
        before = now;
    }
    return st;
}

static enum bnt_status trial_run(struct trial *t, const struct parts *parts, struct bnt_err *err)
{
    enum { LEAST_NS = 1500000 };
    /* A pass of one token is short where its weights come from memory, whose modes are what is
     * looked for. */
    const uint32_t passes = parts->n_tok == 1 ? 4 : parts->n;
    enum bnt_status st = BNT_OK;
    memset(t->layers, 0, sizeof t->layers);
    memset(t->layers_ns, 0, sizeof t->layers_ns);
    for (uint32_t pass = 0; st == BNT_OK && (pass < passes || t->layers_ns[0] < LEAST_NS); pass++) {
        st = trial_pass(t, parts, pass, err);
    }
    for (uint32_t i = 0; i < parts->n; i++) {
        *parts->ns[i] = t->layers_ns[i] / t->layers[i];
    }
    return st;
}

static enum bnt_status trial_batch(struct trial *t, uint32_t n, size_t i, struct speed_streams *out,
                                   struct bnt_err *err)
{
    const struct parts between = {.n_tok = n,
                                  .n = 2,
                                  .run = {cpu_layer_products, cpu_layer_unattended},
                                  .ns = {&out->product_ns[i], &out->unattended_ns[i]}};
    const struct parts attention = {
        .n_tok = n, .n = 1, .run = {cpu_layer_attention}, .ns = {&out->attended_ns[i]}};
    enum bnt_status st = trial_run(t, &between, err);
    return st == BNT_OK && n > 1 ? trial_run(t, &attention, err) : st;
}

enum bnt_status speed_streams_probe(struct bnt_session *s, const struct speed_rates *batches,
                                    struct speed_streams *out, struct bnt_err *err)
{
    struct trial t = {0};
    int streams;
    enum bnt_status st = check_streams(s, err);
    st = st == BNT_OK ? bandwidth_streams(bnt_session_n_threads(s), &streams, err) : st;
    st = st == BNT_OK ? trial_begin(s, &t, err) : st;
    if (st != BNT_OK) {
        return st;
    }
    *out = (struct speed_streams){0};
    s->last = NULL;
    out->plain_gb_per_s = plain_gb_per_s(&t.b, streams);
    struct bnt_session_stats stats;
    bnt_session_stats(s, &stats);
    out->head_bytes = stats.head_bytes_per_token;
    /* Single tokens last: what comes next finds the caches as they leave them. */
    for (size_t i = batches->n_batches; i-- > 0 && st == BNT_OK;) {
        const uint32_t n = batches->batches[i].n_tok;
        if (n <= s->backend->config.n_batch) {
            st = trial_batch(&t, n, i, out, err);
        }
    }
    out->head_ns = t.heads_ns / t.heads;
    free(t.held);
    return st;
}

/* The median of one of their members, `at` bytes into each. */
static double median_of(const struct speed_streams *streams, size_t n, size_t at)
{
    double values[SPEED_STREAMS_MAX];
    for (size_t i = 0; i < n; i++) {
        memcpy(&values[i], (const char *)&streams[i] + at, sizeof *values);
    }
    bnt_stats_sort(values, n);
    return bnt_stats_median(values, n);
}

void speed_streams_apply(const struct speed_streams *streams, size_t n, const struct speed_shape *s,
                         struct speed_machine *m)
{
    const bool from_memory = speed_weight_bytes(s) > m->cache_bytes;
    const double head = median_of(streams, n, offsetof(struct speed_streams, head_ns));
    for (size_t i = 0; i < SPEED_BATCHES_MAX; i++) {
        const size_t at = i * sizeof(double);
        m->product_ns[i] = median_of(streams, n, offsetof(struct speed_streams, product_ns) + at);
        m->unattended_ns[i] =
            median_of(streams, n, offsetof(struct speed_streams, unattended_ns) + at);
        m->attended_ns[i] = median_of(streams, n, offsetof(struct speed_streams, attended_ns) + at);
    }
    m->head_ns = head;
    if (from_memory) {
        const double layer = (double)(speed_token_bytes(s) - speed_head_bytes(s)) / s->n_layer;
        m->gb_per_s = median_of(streams, n, offsetof(struct speed_streams, plain_gb_per_s));
        m->ternary_share = layer / m->product_ns[0] / m->gb_per_s;
        m->head_share = (double)speed_head_bytes(s) / head / m->gb_per_s;
    }
}
