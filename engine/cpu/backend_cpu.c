/* The CPU back end: memory, embedding, head, streaming. The layers are in forward.c. */
#include "engine/cpu/backend_cpu.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/sysinfo.h"
#include "engine/best.h"
#include "engine/columns.h"
#include "engine/cpu/tl.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1; the C library of Debian 12 does not know it yet */
#endif

enum { DEFAULT_BATCH = 128, DEFAULT_CTX = 4096, MAX_BATCH = 4096 };

/* ---- configuration and memory ---- */

static uint32_t u32_or(uint32_t value, uint32_t fallback)
{
    return value ? value : fallback;
}

struct backend_config backend_config_of(const struct bnt_model *m,
                                        const struct bnt_session_options *opts)
{
    uint32_t trained = m->info.n_ctx_train < DEFAULT_CTX ? m->info.n_ctx_train : DEFAULT_CTX;
    trained = trained < m->rope.n_ctx_max ? trained : m->rope.n_ctx_max;
    struct backend_config c = {
        .n_ctx = u32_or(opts->n_ctx, trained),
        .n_batch = u32_or(opts->n_batch, DEFAULT_BATCH),
        .n_seq = u32_or(opts->n_sequences, 1),
        .n_threads = opts->n_threads > 0 ? opts->n_threads : bnt_cpu_count(),
        .kv_type = opts->kv_type,
        .kernel = opts->kernel,
        .interrupted = opts->interrupted,
    };
    c.n_batch = c.n_batch > MAX_BATCH ? MAX_BATCH : c.n_batch;
    c.n_batch = c.n_batch > c.n_ctx ? c.n_ctx : c.n_batch;
    c.n_batch = c.n_batch < c.n_seq ? c.n_seq : c.n_batch;
    c.n_threads = c.n_threads > BNT_MAX_THREADS ? BNT_MAX_THREADS : c.n_threads;
    return c;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The layout's cursor: counts bytes, and hands out memory when there is an arena. */
struct cursor {
    struct bnt_arena *arena;
    uint64_t bytes;
};

static void *take(struct cursor *c, uint64_t n)
{
    c->bytes += bnt_arena_cost(n);
    return c->arena ? bnt_arena_alloc(c->arena, (size_t)n) : NULL;
}

static float *take_floats(struct cursor *c, uint64_t rows, uint64_t cols)
{
    return take(c, rows * cols * sizeof(float));
}

static uint64_t kv_bytes(const struct bnt_model *m, const struct backend_config *c)
{
    uint64_t element = c->kv_type == BNT_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    return (uint64_t)m->info.n_layer * m->info.n_head_kv * m->info.head_dim * c->n_ctx * c->n_seq *
           element;
}

/* Of one token, the most that a matrix of the model wants; 0 where none is looked up. */
static uint64_t tables_bytes(const struct bnt_model *m)
{
    uint64_t most = 0;
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            const struct weight *w = &m->layers[il].w[i];
            if (w->look_up) {
                struct tl_planes p = weight_planes(w);
                most = max_u64(most, tl_tables_bytes(p.type, p.cols, p.cols3));
            }
        }
    }
    return (most + 63) / 64 * 64;
}

/* Whether some matrix of a layer is. */
static bool any_matrix(const struct bnt_model *m, bool (*is)(const struct weight *w))
{
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            if (is(&m->layers[il].w[i])) {
                return true;
            }
        }
    }
    return false;
}

/* Of ternary_weights. */
static bool is_in_codes(const struct weight *w)
{
    return w->ternary && !w->look_up;
}

/* Of float_weights that the kernels cannot multiply as they lie. */
static bool is_dequantized(const struct weight *w)
{
    return !w->ternary && !tensor_is_plain(w->type);
}

/* What products of several tokens want, of each thread. */
static uint64_t product_scratch_bytes(const struct bnt_model *m, const struct backend_config *c,
                                      const struct cpu_kernels *kernels)
{
    return c->n_batch > 1 && any_matrix(m, is_in_codes) ? kernels->scratch_bytes : 0;
}

static void take_batch(struct cursor *cur, const struct bnt_model *m,
                       const struct backend_config *c, struct cpu_scratch *s)
{
    const struct bnt_model_info *in = &m->info;
    uint64_t q_dim = (uint64_t)in->n_head * in->head_dim,
             kv_dim = (uint64_t)in->n_head_kv * in->head_dim;
    uint64_t width = max_u64(max_u64(in->n_embd, in->n_ff), q_dim);
    s->rows = take(cur, c->n_batch * sizeof *s->rows);
    s->x = take_floats(cur, c->n_batch, in->n_embd);
    s->h = take_floats(cur, c->n_batch, width);
    s->q = take_floats(cur, c->n_batch, q_dim);
    s->k = take_floats(cur, c->n_batch, kv_dim);
    s->v = take_floats(cur, c->n_batch, kv_dim);
    s->gate = take_floats(cur, c->n_batch, in->n_ff);
    s->up = take_floats(cur, c->n_batch, in->n_ff);
    s->y = take_floats(cur, c->n_batch, in->n_embd);
    s->cs = take_floats(cur, c->n_batch, m->rope.n_rot);
    s->act.stride = act_stride(width);
    s->act.q = take(cur, c->n_batch * s->act.stride);
    s->act.scale = take_floats(cur, c->n_batch, 1);
    s->act.sum = take(cur, c->n_batch * sizeof(int32_t));
    s->act.tables_stride = tables_bytes(m);
    s->act.tables = take(cur, c->n_batch * s->act.tables_stride);
    uint64_t query_rows = (uint64_t)cpu_attend_tokens(in) * (in->n_head / in->n_head_kv);
    s->scores = take_floats(cur, (uint64_t)c->n_threads * query_rows, c->n_ctx);
    bool dequantized = is_dequantized(&m->head) || any_matrix(m, is_dequantized);
    s->row_stride = width * (dequantized ? CPU_DEQUANT_ROWS : 1);
    s->row = take_floats(cur, c->n_threads, s->row_stride);
    if (m->by_columns) {
        struct column_codes codes = columns_of(m, 0);
        s->column_sums = take(cur, (uint64_t)c->n_threads * column_sums(&codes) * sizeof(int32_t));
        s->column_used = take(cur, (uint64_t)c->n_threads * sizeof(bool));
    }
}

uint64_t cpu_scratch_layout(const struct bnt_model *m, const struct backend_config *c,
                            const struct cpu_kernels *kernels, struct bnt_arena *arena,
                            struct cpu_scratch *s)
{
    struct cursor cur = {.arena = arena};
    s->k_cache = take(&cur, kv_bytes(m, c));
    s->v_cache = take(&cur, kv_bytes(m, c));
    take_batch(&cur, m, c, s);
    s->act.scratch = take(&cur, (uint64_t)c->n_threads * product_scratch_bytes(m, c, kernels));
    if (m->screened) {
        s->screen_act.stride = act_stride(m->info.n_embd);
        s->screen_act.q = take(&cur, 2 * CPU_NEAR_TOKENS * s->screen_act.stride);
        s->screen_act.scale = take_floats(&cur, 2 * CPU_NEAR_TOKENS, 1);
        s->screen_act.sum = take(&cur, 2 * CPU_NEAR_TOKENS * sizeof(int32_t));
        s->near = take_floats(&cur, m->info.n_vocab, CPU_NEAR_TOKENS);
        s->above = take_floats(&cur, m->info.n_vocab, CPU_NEAR_TOKENS);
        s->list = take(&cur, m->info.n_vocab * sizeof(uint32_t));
        s->exact = take_floats(&cur, m->info.n_vocab, 1);
    }
    if (m->info.streamed) {
        s->layer = take(&cur, model_layer_bytes(m));
        s->layer_scratch = take(&cur, model_layer_scratch(m));
        s->head_rows =
            take(&cur, max_u64(STREAM_HEAD_BYTES, max_u64(m->head.row_bytes, m->embd.row_bytes)));
    }
    return cur.bytes;
}

uint64_t backend_cpu_memory(const struct bnt_model *m, const struct bnt_session_options *opts)
{
    struct backend_config c = backend_config_of(m, opts);
    struct cpu_scratch s;
    return cpu_scratch_layout(m, &c, cpu_kernels_expected(c.kernel), NULL, &s) +
           (uint64_t)m->info.n_vocab * BACKEND_HEAD_BATCH * sizeof(float);
}

/* ---- streaming ---- */

/* Point b->now at layer il, reading its weights when nothing stays in memory. */
static enum bnt_status enter_layer(struct backend_cpu *b, uint32_t il, struct bnt_err *err)
{
    bool stale = BNT_FAULT(streamed_layer) && b->base.model->info.streamed;
    struct layer *layer = &b->base.model->layers[stale ? 0 : il];
    if (!b->base.model->info.streamed) {
        b->now = layer;
        return BNT_OK;
    }
    uint8_t *at = b->s.layer;
    b->streamed = *layer;
    b->now = &b->streamed;
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        struct weight *w = &b->streamed.w[i];
        enum bnt_status st = weight_load(b->base.model, w, 0, w->rows, at, b->s.layer_scratch, err);
        if (st != BNT_OK) {
            return st;
        }
        w->data = at;
        at += (weight_bytes(w) + 63) / 64 * 64;
    }
    return BNT_OK;
}

/* ---- embedding, layers ---- */

static enum bnt_status embed(struct backend_cpu *b, struct bnt_err *err)
{
    const struct bnt_model *m = b->base.model;
    for (uint32_t t = 0; t < b->n; t++) {
        const struct backend_row *row = &b->s.rows[t];
        enum bnt_status st = embedding_row(
            m, (uint64_t)row->id, b->s.x + (size_t)t * m->info.n_embd, b->s.head_rows, err);
        if (st != BNT_OK) {
            return st;
        }
        rope_at(&m->rope, row->pos, b->s.cs + (size_t)t * m->rope.n_rot);
    }
    if (b->base.tap.row) {
        struct cpu_tap_at at = {
            .op = BNT_TAP_EMBD, .layer = -1, .n_tok = b->n, .n = m->info.n_embd};
        cpu_tap_rows(b, &at, b->s.x, m->info.n_embd);
    }
    return BNT_OK;
}

/* A cache of so many bytes is read faster where it lies in pages of 2 MiB (docs/speedlog.md); a
 * smaller one is not what a token waits for. */
#define LARGE_CACHE_BYTES ((uint64_t)64 << 20)

/* Not before a quarter of the positions is in use: large pages hold memory for those to come. */
static void enlarge_cache_pages(struct backend_cpu *b, uint32_t n_pos)
{
#ifdef MADV_HUGEPAGE
    if (b->large_pages || n_pos < b->base.config.n_ctx / 4 ||
        b->base.kv_bytes < LARGE_CACHE_BYTES) {
        return;
    }
    b->large_pages = true;
    /* The caches are the arena's first bytes. A system that refuses leaves its pages as they are.
     */
    (void)madvise(b->arena.base, (size_t)b->base.kv_bytes, MADV_HUGEPAGE);
    (void)madvise(b->arena.base, (size_t)b->base.kv_bytes, MADV_COLLAPSE);
#else
    (void)b;
    (void)n_pos;
#endif
}

static enum bnt_status forward(struct backend *base, const struct backend_row *rows, uint32_t n,
                               struct bnt_err *err)
{
    struct backend_cpu *b = (struct backend_cpu *)base;
    memcpy(b->s.rows, rows, n * sizeof *rows);
    b->n = n;
    base->n_single += n == 1;
    b->near_n = 0;
    b->n_seen = 0;
    for (uint32_t t = 0; t < n; t++) {
        b->n_seen = rows[t].pos + 1 > b->n_seen ? rows[t].pos + 1 : b->n_seen;
    }
    enlarge_cache_pages(b, b->n_seen);
    enum bnt_status st = embed(b, err);
    for (uint32_t il = 0; st == BNT_OK && il < base->model->info.n_layer; il++) {
        if (base->config.interrupted && *base->config.interrupted) {
            return bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted at position %u", rows[0].pos);
        }
        st = enter_layer(b, il, err);
        if (st == BNT_OK) {
            cpu_layer(b, il);
        }
    }
    return st;
}

/* ---- head ---- */

struct head_task {
    struct backend_cpu *b;
    struct weight w; /* rows [first_row, first_row + w.rows) of the head */
    uint64_t first_row;
    uint32_t n;
    float *out;
};

static void head_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct head_task *t = ctx;
    const struct backend_cpu *b = t->b;
    struct float_weights fw = cpu_floats(&t->w);
    b->kernels->matmul_float(&fw, begin, end, b->s.h, b->width, t->n, t->out + t->first_row,
                             b->base.model->info.n_vocab, cpu_own_row(&b->s, thread));
}

static void head_slots(void *ctx, size_t begin, size_t end, int thread)
{
    const struct head_task *t = ctx;
    cpu_dot_slots(t->b, &t->w, (struct cpu_rows){begin, end}, t->out + t->first_row, thread);
}

static void run_head(struct head_task *t)
{
    uint64_t macs = t->w.rows * t->w.cols * t->n;
    if (t->n == 1 && t->b->base.model->narrow.rows) {
        cpu_narrow_head(t->b, t->out);
        return;
    }
    if (t->n == 1) {
        uint64_t slots = cpu_slots(t->w.rows, 1);
        struct cpu_slot_kind kind = {1, WALK_STREAMS * t->w.row_bytes};
        size_t chunk = cpu_slot_chunk(t->b, kind, slots, macs);
        cpu_pool_run(t->b->pool, slots, chunk, head_slots, t);
        return;
    }
    cpu_pool_run(t->b->pool, t->w.rows, cpu_chunk(t->b, t->w.rows, macs, t->n), head_rows, t);
}

/* The head by pieces of STREAM_HEAD_BYTES that are read, used and forgotten. */
static enum bnt_status stream_head(struct backend_cpu *b, struct head_task *t, struct bnt_err *err)
{
    struct weight w = b->base.model->head;
    uint64_t step = max_u64(STREAM_HEAD_BYTES / w.row_bytes, 1);
    for (uint64_t r = 0; r < w.rows; r += step) {
        uint64_t end = r + step < w.rows ? r + step : w.rows;
        enum bnt_status st = weight_load(b->base.model, &w, r, end, b->s.head_rows, NULL, err);
        if (st != BNT_OK) {
            return st;
        }
        t->first_row = r;
        t->w.rows = end - r;
        t->w.data = b->s.head_rows;
        run_head(t);
    }
    return BNT_OK;
}

static void tap_head(const struct head_task *t, uint32_t first)
{
    const struct bnt_model_info *in = &t->b->base.model->info;
    struct cpu_tap_at at = {
        .op = BNT_TAP_OUTPUT_NORM, .layer = -1, .first_tok = first, .n_tok = t->n, .n = in->n_embd};
    cpu_tap_rows(t->b, &at, t->b->s.h, t->b->width);
    at.op = BNT_TAP_LOGITS;
    at.n = in->n_vocab;
    cpu_tap_rows(t->b, &at, t->out, in->n_vocab);
}

static void output_norm(struct backend_cpu *b, uint32_t first, uint32_t n)
{
    const struct bnt_model *m = b->base.model;
    for (uint32_t t = 0; t < n; t++) {
        b->kernels->rmsnorm(b->s.x + (size_t)(first + t) * m->info.n_embd, m->output_norm,
                            (float)m->info.rms_eps, m->info.n_embd, b->s.h + (size_t)t * b->width);
    }
}

static enum bnt_status logits(struct backend *base, uint32_t first, uint32_t n, float *out,
                              struct bnt_err *err)
{
    struct backend_cpu *b = (struct backend_cpu *)base;
    const struct bnt_model *m = base->model;
    output_norm(b, first, n);
    b->near_n = 0;
    struct head_task task = {.b = b, .n = n, .out = out, .w = m->head};
    if (m->head.data) {
        run_head(&task);
    } else {
        enum bnt_status st = stream_head(b, &task, err);
        if (st != BNT_OK) {
            return st;
        }
    }
    if (b->base.tap.row) {
        tap_head(&task, first);
    }
    return BNT_OK;
}

/* A row and those after it are the ones in s.near from here on. */
static void begin_near(struct backend_cpu *b, uint32_t row, bool full)
{
    uint32_t left = row < b->n ? b->n - row : 1;
    b->near_first = b->near_next = row;
    b->near_n = left < CPU_NEAR_TOKENS ? left : CPU_NEAR_TOKENS;
    b->near_full = full;
}

static enum bnt_status near_in_full(struct backend_cpu *b, uint32_t row, struct bnt_err *err)
{
    begin_near(b, row, true);
    uint32_t n = b->near_n;
    enum bnt_status st = logits(&b->base, row, n, b->s.near, err);
    b->near_n = st == BNT_OK ? n : 0;
    return st;
}

/* Scores or logits of the row are in s.near, if that does not fail. */
static enum bnt_status reach_row(struct backend_cpu *b, uint32_t row, struct bnt_err *err)
{
    if (row >= b->near_next && row < b->near_first + b->near_n) {
        return BNT_OK;
    }
    begin_near(b, row, false);
    output_norm(b, row, b->near_n);
    return cpu_screen_score(b) ? BNT_OK : near_in_full(b, row, err);
}

/* Rows are mostly asked for one after the other, or the last alone: what is done for one is done
 * for those after it, too. A row that was asked for is used up. */
static enum bnt_status near(struct backend *base, uint32_t row, struct bnt_near *out,
                            struct bnt_err *err)
{
    struct backend_cpu *b = (struct backend_cpu *)base;
    uint32_t n_vocab = base->model->info.n_vocab;
    enum bnt_status st = reach_row(b, row, err);
    if (st == BNT_OK && !b->near_full) {
        b->near_next = row + 1;
        if (cpu_screened_near(b, row - b->near_first, out)) {
            return BNT_OK;
        }
        st = near_in_full(b, row, err);
    }
    if (st == BNT_OK) {
        b->near_next = row + 1;
        near_of_row(b->s.near + (size_t)(row - b->near_first) * n_vocab, n_vocab, out);
    }
    return st;
}

/* ---- life ---- */

static void free_cpu(struct backend *base)
{
    struct backend_cpu *b = (struct backend_cpu *)base;
    cpu_pool_free(b->pool);
    bnt_arena_release(&b->arena);
    free(b);
}

static void *kv_head(struct backend *backend, struct backend_head head, bool values,
                     size_t *position_bytes)
{
    struct backend_cpu *b = (struct backend_cpu *)backend;
    size_t element = backend->config.kv_type == BNT_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    *position_bytes = backend->model->info.head_dim * element;
    enlarge_cache_pages(b, head.n_pos);
    return (values ? b->s.v_cache : b->s.k_cache) + cpu_cache_at(b, head) * element;
}

static const struct backend_ops cpu_ops = {
    .name = "cpu", .forward = forward, .logits = logits, .kv_head = kv_head, .free = free_cpu};
static const struct backend_ops screened_ops = {.name = "cpu",
                                                .forward = forward,
                                                .logits = logits,
                                                .kv_head = kv_head,
                                                .near = near,
                                                .free = free_cpu};

static enum bnt_status start(struct backend_cpu *b, struct bnt_err *err)
{
    struct backend *base = &b->base;
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = cpu_kernels_choose(base->config.kernel, &b->kernels, base->kernel_note,
                                            sizeof base->kernel_note, err);
    base->self_test_ns = bnt_clock_now_ns() - t0;
    if (st == BNT_OK) {
        st = cpu_pool_new(base->config.n_threads, &b->pool, err);
    }
    if (st == BNT_OK) {
        base->kernel = b->kernels->name;
        b->fives = cpu_kernels_have_fives(b->kernels);
        uint64_t bytes = cpu_scratch_layout(base->model, &base->config, b->kernels, NULL, &b->s);
        st = bytes > SIZE_MAX ? bnt_err_nomem(err, "a session's arena", bytes)
                              : bnt_arena_init(&b->arena, (size_t)bytes, err);
    }
    if (st == BNT_OK) {
        base->memory_bytes =
            cpu_scratch_layout(base->model, &base->config, b->kernels, &b->arena, &b->s);
        base->kv_bytes = 2 * kv_bytes(base->model, &base->config);
    }
    return st;
}

enum bnt_status backend_cpu_new(const struct bnt_model *m, const struct backend_config *config,
                                struct backend **out, struct bnt_err *err)
{
    struct backend_cpu *b = calloc(1, sizeof *b);
    if (!b) {
        return bnt_err_nomem(err, "a back end", sizeof *b);
    }
    const struct bnt_model_info *in = &m->info;
    b->base = (struct backend){.ops = m->screen.rows ? &screened_ops : &cpu_ops,
                               .screened = m->screen.rows != NULL,
                               .narrow_head = m->narrow.rows != NULL,
                               .model = m,
                               .config = *config,
                               .device = "cpu"};
    b->q_dim = in->n_head * in->head_dim;
    b->kv_dim = in->n_head_kv * in->head_dim;
    b->width = (uint32_t)max_u64(max_u64(in->n_embd, in->n_ff), b->q_dim);
    enum bnt_status st = start(b, err);
    if (st != BNT_OK) {
        free_cpu(&b->base);
        return st;
    }
    *out = &b->base;
    return BNT_OK;
}
