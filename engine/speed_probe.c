/* Measuring what the model of time is made of. */
#include "engine/speed_probe.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
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
    return (struct op_spec){.what = m->ternary ? OP_TERNARY : OP_FLOAT,
                            .type = m->type,
                            .rows = m->rows,
                            .cols = m->cols,
                            .n_tok = n_tok,
                            .cycle_bytes = p->cycle_bytes};
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

/* Attention from two lengths: what each position costs, and what a head does besides. Tokens of a
 * batch go in blocks. */
static void probe_attention(struct prober *p, struct speed_batch *b)
{
    enum { FEW = 32, MANY = 512 };
    const struct speed_shape *s = p->plan->shape;
    const struct bnt_model_info heads = {.n_head = s->n_head, .n_head_kv = s->n_head_kv};
    const uint32_t most = cpu_attend_tokens(&heads), block = b->n_tok < most ? b->n_tok : most;
    struct op_spec spec = {.what = OP_ATTEND,
                           .rows = s->n_head / s->n_head_kv,
                           .cols = s->head_dim,
                           .n_tok = FEW,
                           .block = block};
    const double few = ns_of(p, spec) / block;
    spec.n_tok = MANY;
    b->attend_position_ns = (ns_of(p, spec) / block - few) / (MANY - FEW);
    b->attend_ns = fmax(0, few - FEW * b->attend_position_ns);
}

static void probe_one_thread(struct prober *p, struct speed_rates *r)
{
    const struct speed_shape *s = p->plan->shape;
    for (size_t i = 0; i < p->plan->n_batches; i++) {
        r->batches[i].n_tok = p->plan->batches[i];
        probe_batch(p, &r->batches[i]);
        probe_attention(p, &r->batches[i]);
    }
    r->n_batches = p->plan->n_batches;
    r->head_ns = ns_of(p, product_of(p, &s->head, 1));
    r->argmax_ns =
        ns_of(p, (struct op_spec){.what = OP_ARGMAX, .rows = s->n_vocab, .cols = 1, .n_tok = 1});
    r->final_norm_ns = ns_of(p, (struct op_spec){.what = OP_NORM, .cols = s->n_embd, .n_tok = 1});
    r->gmacs = dot_peak_gmacs(op_timer_pool(p->t), op_timer_kernels(p->t)->name);
}

/* How much of the memory's speed a product reaches whose weights come from there. */
static double share_of(struct prober *p, const struct speed_matrix *m, double gb_per_s)
{
    struct op_spec spec = product_of(p, m, 1);
    spec.cycle_bytes = 0;
    const double ns = ns_of(p, spec);
    const uint64_t row = spec.what == OP_TERNARY ? ternary_row_bytes(spec.cols)
                                                 : tensor_row_bytes(spec.type, spec.cols);
    return (double)(row * spec.rows) / ns / gb_per_s;
}

enum { EXCHANGE_ROWS = 64 }; /* of a batch that threads share */

/* Rows that one job copies and the next one copies back, from their other end. */
struct exchange {
    float *a, *b;
    size_t n_rows, cols;
};

static void write_rows(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    const struct exchange *x = ctx;
    memcpy(x->b + begin * x->cols, x->a + begin * x->cols, (end - begin) * x->cols * sizeof *x->a);
}

static void read_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct exchange *x = ctx;
    const struct exchange back = {x->b, x->a, x->n_rows, x->cols};
    write_rows((void *)(uintptr_t)&back, x->n_rows - end, x->n_rows - begin, thread);
}

/* Of both, by the pool's threads or by the caller alone. */
static double copies_ns(struct cpu_pool *pool, struct exchange *x, size_t chunk)
{
    enum { TIMES = 32 };
    const uint64_t start = bnt_clock_now_ns();
    for (int i = 0; i < TIMES; i++) {
        cpu_pool_run(pool, x->n_rows, chunk, write_rows, x);
        cpu_pool_run(pool, x->n_rows, chunk, read_rows, x);
    }
    return (double)(bnt_clock_now_ns() - start) / TIMES;
}

/* What a byte costs beyond the share of a thread that keeps its rows: (threads - 1) / threads of
 * them change hands, twice. */
static double exchange_byte_ns(struct cpu_pool *pool, struct exchange *x)
{
    const size_t threads = (size_t)cpu_pool_n_threads(pool);
    if (threads == 1 || x->n_rows < SPEED_STEPS_SHARED) {
        return 0;
    }
    const double n = (double)threads, bytes = (double)(x->n_rows * x->cols * sizeof *x->a);
    const double alone = copies_ns(pool, x, x->n_rows);
    const double all = copies_ns(pool, x, (x->n_rows + 2 * threads - 1) / (2 * threads));
    return fmax(0, all - alone / n) * n / (2 * bytes * (n - 1) / n);
}

static double probe_exchange(struct prober *p)
{
    const size_t cols = p->plan->shape->n_embd;
    float *rows = calloc(2 * EXCHANGE_ROWS * cols, sizeof *rows);
    if (!rows) {
        p->st = p->st == BNT_OK ? bnt_err_nomem(p->err, "rows to hand over", cols) : p->st;
        return 0;
    }
    struct exchange x = {rows, rows + EXCHANGE_ROWS * cols, EXCHANGE_ROWS, cols};
    const double ns = exchange_byte_ns(op_timer_pool(p->t), &x);
    free(rows);
    return ns;
}

static void probe_machine(struct prober *p, int threads, struct speed_machine *m)
{
    const struct speed_shape *s = p->plan->shape;
    struct bandwidth bandwidth = {0};
    if (p->st == BNT_OK) {
        p->st = bandwidth_measure(threads, &bandwidth, p->err);
    }
    *m = (struct speed_machine){.n_threads = threads,
                                .gb_per_s = bandwidth.all_gb_per_s,
                                .dot_speed = 1,
                                .step_speed = 1,
                                .cache_bytes = cpu_features()->l3 > cpu_features()->l2
                                                   ? cpu_features()->l3 / 2
                                                   : cpu_features()->l2};
    double gb_per_s = bandwidth.all_gb_per_s;
    m->ternary_share = share_of(p, &s->w[W_UP], gb_per_s);
    m->head_share = share_of(p, &s->head, gb_per_s);
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
                                                 .typical = true};
        p.st = op_timer_new(&options, &p.t, err);
        if (p.st != BNT_OK) {
            break;
        }
        probe_machine(&p, plan->threads[i], &out->machines[i]);
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

/* ---- streams of a session ---- */

/* A plain sum. */
struct stream_sum {
    const uint64_t *words;
    _Atomic uint64_t sum; /* keeps the reads from being left out */
};

static void sum_words(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct stream_sum *t = ctx;
    t->sum += bandwidth_sum(t->words + begin, end - begin);
}

static double plain_gb_per_s(struct backend_cpu *b)
{
    enum { PIECE_WORDS = 1 << 17 };
    const struct weight *head = &b->base.model->head;
    const uint64_t bytes = head->rows * head->row_bytes;
    struct stream_sum t = {.words = (const uint64_t *)(const void *)head->data};
    const uint64_t start = bnt_clock_now_ns();
    cpu_pool_run(b->pool, (size_t)(bytes / sizeof *t.words), PIECE_WORDS, sum_words, &t);
    return (double)bytes / (double)(bnt_clock_now_ns() - start);
}

/* Of a layer, with n tokens: one after the other, as in an evaluation, so that weights come from
 * where they come from there. */
static double layer_ns(struct backend_cpu *b, uint32_t n)
{
    enum { LEAST_NS = 2000000, MOST_NS = 30000000 };
    const uint32_t n_layer = b->base.model->info.n_layer;
    const uint64_t start = bnt_clock_now_ns();
    uint64_t ns = 0;
    uint32_t done = 0;
    while (ns < LEAST_NS || (done < n_layer && ns < MOST_NS)) {
        cpu_layer_products(b, done++ % n_layer, n);
        ns = bnt_clock_now_ns() - start;
    }
    return (double)ns / done;
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

enum bnt_status speed_streams_probe(struct bnt_session *s, const struct speed_rates *batches,
                                    struct speed_streams *out, struct bnt_err *err)
{
    enum bnt_status st = check_streams(s, err);
    if (st != BNT_OK) {
        return st;
    }
    struct backend_cpu *b = (struct backend_cpu *)s->backend;
    const uint64_t left_out_bytes = b->base.left_out_bytes; /* by tokens: these are none */
    s->last = NULL;
    out->plain_gb_per_s = plain_gb_per_s(b);
    out->head_bytes =
        s->model->screened ? screen_token_bytes(&s->model->head) : weight_bytes(&s->model->head);
    const uint64_t start = bnt_clock_now_ns();
    st = run_head(s, err);
    out->head_ns = (double)(bnt_clock_now_ns() - start);
    const struct bnt_model_info *in = &s->model->info;
    struct exchange x = {b->s.gate, b->s.up, s->backend->config.n_batch, in->n_embd};
    x.cols = x.cols < in->n_ff ? x.cols : in->n_ff; /* of those buffers */
    x.n_rows = x.n_rows < EXCHANGE_ROWS ? x.n_rows : EXCHANGE_ROWS;
    out->exchange_ns = exchange_byte_ns(b->pool, &x);
    for (size_t i = 0; i < batches->n_batches; i++) {
        const uint32_t n = batches->batches[i].n_tok;
        out->product_ns[i] = n <= s->backend->config.n_batch ? layer_ns(b, n) : 0;
    }
    b->base.left_out_bytes = left_out_bytes;
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
        m->product_ns[i] =
            median_of(streams, n, offsetof(struct speed_streams, product_ns) + i * sizeof(double));
    }
    m->exchange_ns = median_of(streams, n, offsetof(struct speed_streams, exchange_ns));
    m->head_ns = from_memory || m->head_chooses ? head : 0;
    if (from_memory) {
        const double layer = (double)(speed_weight_bytes(s) - s->head.bytes) / s->n_layer;
        m->gb_per_s = median_of(streams, n, offsetof(struct speed_streams, plain_gb_per_s));
        m->ternary_share = layer / m->product_ns[0] / m->gb_per_s;
        m->head_share = (double)s->head.bytes / head / m->gb_per_s;
    }
}
