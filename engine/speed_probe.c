/* Measuring what the model of time is made of. */
#include "engine/speed_probe.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
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

/* Attention from two lengths: what each position costs, and what a head does besides. */
static void probe_attention(struct prober *p, struct speed_rates *r)
{
    enum { FEW = 32, MANY = 512 };
    const struct speed_shape *s = p->plan->shape;
    struct op_spec spec = {
        .what = OP_ATTEND, .rows = s->n_head / s->n_head_kv, .cols = s->head_dim, .n_tok = FEW};
    const double few = ns_of(p, spec);
    spec.n_tok = MANY;
    r->attend_position_ns = (ns_of(p, spec) - few) / (MANY - FEW);
    r->attend_ns = fmax(0, few - FEW * r->attend_position_ns);
}

static void probe_one_thread(struct prober *p, struct speed_rates *r)
{
    const struct speed_shape *s = p->plan->shape;
    for (size_t i = 0; i < p->plan->n_batches; i++) {
        r->batches[i].n_tok = p->plan->batches[i];
        probe_batch(p, &r->batches[i]);
    }
    r->n_batches = p->plan->n_batches;
    r->head_ns = ns_of(p, product_of(p, &s->head, 1));
    r->argmax_ns =
        ns_of(p, (struct op_spec){.what = OP_ARGMAX, .rows = s->n_vocab, .cols = 1, .n_tok = 1});
    r->final_norm_ns = ns_of(p, (struct op_spec){.what = OP_NORM, .cols = s->n_embd, .n_tok = 1});
    probe_attention(p, r);
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

/* Rows of a batch go from thread to thread: what it takes beyond the share of one that keeps them.
 * Written and read backwards, (n - 1) / n of the bytes change hands twice. */
static double exchange_ns(struct prober *p, const struct speed_machine *m)
{
    struct op_spec spec = {.what = OP_EXCHANGE, .cols = p->plan->shape->n_embd, .n_tok = 64};
    const double n = m->n_threads, bytes = (double)spec.cols * spec.n_tok * sizeof(float);
    const double all = ns_of(p, spec);
    spec.alone = true;
    const double alone = ns_of(p, spec);
    return fmax(0, all - alone / n - 2 * m->job_ns) * n / (2 * bytes * (n - 1) / n);
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
    m->exchange_ns = threads > 1 ? exchange_ns(p, m) : 0;
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
            p->st = op_timer_pair(p->t, both, time, p->err);
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

/* One matrix with the input of one token. */
struct stream_task {
    struct backend_cpu *b;
    const struct weight *w;
    float *y;
    const uint64_t *words; /* of a plain sum */
    _Atomic uint64_t sum;  /* keeps the reads from being left out */
};

static void stream_slots(void *ctx, size_t begin, size_t end, int thread)
{
    const struct stream_task *t = ctx;
    cpu_dot_slots(t->b, t->w, (struct cpu_rows){begin, end}, t->y, thread);
}

static void stream_product(struct stream_task *t)
{
    const uint64_t slots = cpu_slots(t->w->rows);
    const size_t chunk = cpu_slot_chunk(t->b, slots, WALK_STREAMS * t->w->row_bytes,
                                        t->w->rows * t->w->cols);
    cpu_pool_run(t->b->pool, (size_t)slots, chunk, stream_slots, t);
}

/* Where the engine has its results, which the next evaluation makes anew. */
static void stream_layers(struct backend_cpu *b)
{
    const struct bnt_model *m = b->base.model;
    float *const y[N_LAYER_WEIGHTS] = {b->s.q,    b->s.k,  b->s.v, b->s.y,
                                       b->s.gate, b->s.up, b->s.y};
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            stream_product(&(struct stream_task){.b = b, .w = &m->layers[il].w[i], .y = y[i]});
        }
    }
}

static void sum_words(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct stream_task *t = ctx;
    t->sum += bandwidth_sum(t->words + begin, end - begin);
}

static double plain_gb_per_s(struct backend_cpu *b)
{
    enum { PIECE_WORDS = 1 << 17 };
    const struct weight *head = &b->base.model->head;
    const uint64_t bytes = head->rows * head->row_bytes;
    struct stream_task t = {.words = (const uint64_t *)(const void *)head->data};
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
    struct bnt_candidate best;
    uint32_t n;
    return b->ops->best ? b->ops->best(b, s->n_last - 1, 1, &best, &n, err)
                        : b->ops->logits(b, s->n_last - 1, 1, s->logits, err);
}

enum bnt_status speed_streams_probe(struct bnt_session *s, struct speed_streams *out,
                                    struct bnt_err *err)
{
    enum bnt_status st = check_streams(s, err);
    if (st != BNT_OK) {
        return st;
    }
    struct backend_cpu *b = (struct backend_cpu *)s->backend;
    s->last = NULL;
    out->plain_gb_per_s = plain_gb_per_s(b);
    const uint64_t start = bnt_clock_now_ns();
    st = run_head(s, err);
    const uint64_t between = bnt_clock_now_ns();
    stream_layers(b);
    out->head_ns = (double)(between - start);
    out->ternary_ns = (double)(bnt_clock_now_ns() - between);
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
    const double plain = median_of(streams, n, offsetof(struct speed_streams, plain_gb_per_s)),
                 head = median_of(streams, n, offsetof(struct speed_streams, head_ns)),
                 layers = median_of(streams, n, offsetof(struct speed_streams, ternary_ns)),
                 jobs = (double)s->n_layer * N_LAYER_WEIGHTS * m->job_ns;
    const double layer_bytes = (double)(speed_weight_bytes(s) - s->head.bytes);
    if (speed_weight_bytes(s) > m->cache_bytes) {
        m->gb_per_s = plain;
        m->ternary_share = layer_bytes / fmax(layers - jobs, layers / 2) / plain;
        m->whole_share = true;
        m->head_share = (double)s->head.bytes / head / plain;
        m->head_ns = head;
    } else if (m->head_chooses) {
        m->head_ns = head;
    }
}
