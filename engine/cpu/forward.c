/* A layer on the CPU, as steps that run in parallel: over tokens where a step is elementwise, over
 * rows of weights where it is a product, over (token, head group) in attention. Which thread does
 * which piece is not fixed and does not matter: every element of a result is computed by one thread
 * in one order.
 *
 *     x: norm, quantise, q k v, rotate and store, attend, [sub-norm], quantise, wo, + x
 *     x: norm, quantise, gate and up, act * mul, [sub-norm], quantise, down, + x
 */
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/backend_cpu.h"

enum { ROW_GRAIN = 16 };

size_t cpu_chunk(const struct backend_cpu *b, uint64_t rows, uint64_t macs, size_t n_tok)
{
    uint64_t threads = (uint64_t)b->base.config.n_threads, pieces = threads * 8;
    if (threads == 1 || macs < CPU_SERIAL_MACS) {
        return (size_t)rows;
    }
    if (n_tok >= CPU_MANY_TOKENS && rows < pieces * b->kernels->piece_rows) {
        uint64_t whole = rows / b->kernels->piece_rows / threads * threads;
        pieces = whole > threads ? whole : threads;
    }
    return (size_t)((rows + pieces * ROW_GRAIN - 1) / (pieces * ROW_GRAIN) * ROW_GRAIN);
}

/* Tokens per piece of an elementwise step. */
static size_t token_chunk(const struct backend_cpu *b)
{
    return b->n < 8 ? b->n
                    : (b->n + (uint32_t)b->base.config.n_threads * 2 - 1) /
                          ((uint32_t)b->base.config.n_threads * 2);
}

/* ---- products ---- */

struct linear_task {
    struct backend_cpu *b;
    const struct weight *const *w;
    const struct cpu_output *out;
    int n_w;
    uint64_t first[4]; /* first row of matrix i in the joint range */
    bool add;          /* the product joins the residual stream x */
    bool gated;        /* two matrices, gate and up: then act·mul */
};

/* What follows the product of rows [r0, r1) of matrix i. */
static void finish_rows(const struct linear_task *t, int i, uint64_t r0, uint64_t r1)
{
    const struct backend_cpu *b = t->b;
    const struct weight *w = t->w[i];
    if (w->out_scale == 1.0f && !w->bias) {
        return;
    }
    for (uint32_t tok = 0; tok < b->n; tok++) {
        float *y = t->out[i].y + tok * t->out[i].stride;
        for (uint64_t r = r0; r < r1; r++) {
            y[r] = y[r] * w->out_scale + (w->bias && !BNT_FAULT(bias) ? w->bias[r] : 0.0f);
        }
    }
}

void cpu_multiply(const struct backend_cpu *b, const struct weight *w, struct cpu_rows rows,
                  const struct cpu_output *out, int thread)
{
    const uint64_t r0 = rows.begin, r1 = rows.end;
    if (w->look_up) {
        struct tl_weights tw = {weight_planes(w), w->scale};
        b->kernels->matmul_tl(&tw, r0, r1, &b->s.act, b->n, out->y, out->stride);
    } else if (w->ternary) {
        struct ternary_weights tw = cpu_ternary(w);
        struct act_rows act = b->s.act;
        act.scratch += b->n > 1 ? (size_t)thread * b->kernels->scratch_bytes : 0;
        b->kernels->matmul_ternary(&tw, r0, r1, &act, b->n, out->y, out->stride);
    } else {
        struct float_weights fw = cpu_floats(w);
        b->kernels->matmul_float(&fw, r0, r1, b->s.h, b->width, b->n, out->y, out->stride,
                                 cpu_own_row(&b->s, thread));
    }
}

static void product_rows(const struct linear_task *t, int i, uint64_t r0, uint64_t r1, int thread)
{
    cpu_multiply(t->b, t->w[i], (struct cpu_rows){r0, r1}, &t->out[i], thread);
    finish_rows(t, i, r0, r1);
}

static void linear_piece(void *ctx, size_t begin, size_t end, int thread)
{
    const struct linear_task *t = ctx;
    for (int i = 0; i < t->n_w; i++) {
        uint64_t r0 = begin > t->first[i] ? begin : t->first[i];
        uint64_t r1 = end < t->first[i + 1] ? end : t->first[i + 1];
        if (r0 < r1) {
            product_rows(t, i, r0 - t->first[i], r1 - t->first[i], thread);
        }
    }
    if (t->add && !BNT_FAULT(residual)) {
        const struct backend_cpu *b = t->b;
        size_t n_embd = b->base.model->info.n_embd;
        for (uint32_t tok = 0; tok < b->n; tok++) {
            b->kernels->add(b->s.x + tok * n_embd + begin,
                            t->out[0].y + tok * t->out[0].stride + begin, end - begin);
        }
    }
}

/* Gate and up by the same rows in one piece, so that their product needs no step of its own. */
static void gated_piece(void *ctx, size_t begin, size_t end, int thread)
{
    const struct linear_task *t = ctx;
    const struct backend_cpu *b = t->b;
    product_rows(t, 0, begin, end, thread);
    product_rows(t, 1, begin, end, thread);
    for (uint32_t tok = 0; tok < b->n; tok++) {
        b->kernels->act_mul(b->base.model->arch->act, t->out[0].y + tok * t->out[0].stride + begin,
                            t->out[1].y + tok * t->out[1].stride + begin, end - begin);
    }
}

/* ---- products of one token ---- */

/* Slots [begin, end) of matrix i; returns the ranges of rows that they are. */
static int dot_slots(const struct linear_task *t, int i, struct cpu_rows slots, int thread,
                     struct cpu_rows ranges[SLOT_RANGES])
{
    cpu_dot_slots(t->b, t->w[i], slots, t->out[i].y, thread);
    int n = cpu_slot_rows(t->w[i]->rows, cpu_slot_height(t->b, t->w[i]), slots, ranges);
    for (int j = 0; j < n; j++) {
        finish_rows(t, i, ranges[j].begin, ranges[j].end);
    }
    return n;
}

static void linear_slots(void *ctx, size_t begin, size_t end, int thread)
{
    const struct linear_task *t = ctx;
    const struct backend_cpu *b = t->b;
    for (int i = 0; i < t->n_w; i++) {
        uint64_t s0 = begin > t->first[i] ? begin : t->first[i];
        uint64_t s1 = end < t->first[i + 1] ? end : t->first[i + 1];
        if (s0 >= s1) {
            continue;
        }
        struct cpu_rows ranges[SLOT_RANGES], slots = {s0 - t->first[i], s1 - t->first[i]};
        int n = dot_slots(t, i, slots, thread, ranges);
        for (int j = 0; t->add && j < n && !BNT_FAULT(residual); j++) {
            b->kernels->add(b->s.x + ranges[j].begin, t->out[i].y + ranges[j].begin,
                            ranges[j].end - ranges[j].begin);
        }
    }
}

static void gated_slots(void *ctx, size_t begin, size_t end, int thread)
{
    const struct linear_task *t = ctx;
    const struct backend_cpu *b = t->b;
    struct cpu_rows ranges[SLOT_RANGES], slots = {begin, end};
    (void)dot_slots(t, 0, slots, thread, ranges);
    int n = dot_slots(t, 1, slots, thread, ranges);
    for (int j = 0; j < n; j++) {
        b->kernels->act_mul(b->base.model->arch->act, t->out[0].y + ranges[j].begin,
                            t->out[1].y + ranges[j].begin, ranges[j].end - ranges[j].begin);
    }
}

static void run_linear_one(struct linear_task *t)
{
    struct backend_cpu *b = t->b;
    struct cpu_slot_kind kind = {.height = cpu_slot_height(b, t->w[0])};
    uint64_t slots = 0, rows = 0;
    for (int i = 0; i < t->n_w; i++) {
        const struct weight *w = t->w[i];
        uint64_t height = cpu_slot_height(b, w);
        uint64_t group = height == FIVES_ROWS ? act_stride(w->cols) : w->row_bytes;
        uint64_t bytes = WALK_STREAMS * group;
        t->first[i] = slots;
        slots += cpu_slots(w->rows, height);
        rows += w->rows;
        kind.slot_bytes = t->gated                  ? kind.slot_bytes + bytes
                          : bytes > kind.slot_bytes ? bytes
                                                    : kind.slot_bytes;
        b->base.spared_bytes += weight_bytes(w) - cpu_read_bytes(b, w);
    }
    t->first[t->n_w] = slots;
    slots = t->gated ? t->first[1] : slots;
    size_t chunk = cpu_slot_chunk(b, kind, slots, rows * t->w[0]->cols);
    cpu_pool_run(b->pool, slots, chunk, t->gated ? gated_slots : linear_slots, t);
}

static void run_linear(struct linear_task *t)
{
    struct backend_cpu *b = t->b;
    bool tiled = false;
    for (int i = 0; i < t->n_w; i++) {
        tiled = tiled || t->w[i]->look_up;
    }
    if (b->n == 1 && !tiled) {
        run_linear_one(t);
        return;
    }
    uint64_t rows = 0;
    for (int i = 0; i < t->n_w; i++) {
        t->first[i] = rows;
        rows += t->w[i]->rows;
    }
    t->first[t->n_w] = rows;
    uint64_t macs = rows * t->w[0]->cols * b->n;
    if (t->gated) {
        rows = t->w[0]->rows;
    }
    size_t chunk = cpu_chunk(b, rows, macs, b->n);
    /* Tiles are summed as wholes, of 32 or 64 rows. */
    chunk = tiled ? (chunk + 63) / 64 * 64 : chunk;
    cpu_pool_run(b->pool, rows, chunk, t->gated ? gated_piece : linear_piece, t);
}

/* ---- steps over tokens ---- */

struct norm_task {
    struct backend_cpu *b;
    enum bnt_tap_op op; /* of the norm, for a tap; the op of its 8-bit form is the next one */
    uint32_t il;
    const float *x, *norm; /* x: rows of n; norm NULL: x is taken as it is */
    size_t n;
    const struct weight *w; /* n_w matrices that take the result */
    int n_w;
    bool quantize;
    bool kept;               /* the floats are read later: by a product of floats or by a tap */
    struct tl_planes planes; /* of one that is looked up; type F32: none is */
};

static void norm_tokens(void *ctx, size_t begin, size_t end, int thread)
{
    const struct norm_task *t = ctx;
    const struct backend_cpu *b = t->b;
    for (size_t tok = begin; tok < end; tok++) {
        const float *x = t->x + tok * t->n;
        /* Else in one row that stays in the nearest cache. */
        float *h = t->kept ? b->s.h + tok * b->width : cpu_own_row(&b->s, thread);
        if (t->norm) {
            float eps = (float)b->base.model->info.rms_eps * (BNT_FAULT(norm_epsilon) ? 1e4f : 1);
            b->kernels->rmsnorm(x, t->norm, eps, t->n, h);
        } else {
            memcpy(h, x, t->n * sizeof *h);
        }
        if (t->quantize) {
            b->kernels->quantize_act(h, t->n, b->s.act.q + tok * b->s.act.stride,
                                     &b->s.act.scale[tok], &b->s.act.sum[tok]);
        }
        if (t->planes.type != TENSOR_F32) {
            b->kernels->tl_tables(&t->planes, b->s.act.q + tok * b->s.act.stride,
                                  b->s.act.tables + tok * b->s.act.tables_stride);
        }
    }
}

/* One op of the whole batch, rows of n at x, for whoever listens. */
static void tap(const struct backend_cpu *b, enum bnt_tap_op op, uint32_t il, const float *x,
                size_t n)
{
    if (b->base.tap.row) {
        struct cpu_tap_at at = {.op = op, .layer = (int32_t)il, .n_tok = b->n, .n = n};
        cpu_tap_rows(b, &at, x, n);
    }
}

static void tap_input(const struct norm_task *t)
{
    struct cpu_tap_at at = {.op = t->op, .layer = (int32_t)t->il, .n_tok = t->b->n, .n = t->n};
    if (t->norm) {
        cpu_tap_rows(t->b, &at, t->b->s.h, t->b->width);
    }
    if (t->quantize) {
        at.op = (enum bnt_tap_op)(t->op + 1);
        cpu_tap_act(t->b, &at);
    }
}

/* The input of a product: x, normed into h and, for ternary weights, quantised into act, with
 * tables where they are looked up. */
static void prepare(struct norm_task *t)
{
    struct backend_cpu *b = t->b;
    t->kept = b->base.tap.row != NULL;
    for (int i = 0; i < t->n_w; i++) {
        t->quantize = t->quantize || t->w[i].ternary;
        t->kept = t->kept || !t->w[i].ternary;
        if (t->w[i].look_up) {
            t->planes = weight_planes(&t->w[i]);
        }
    }
    cpu_pool_run(b->pool, b->n, token_chunk(b), norm_tokens, t);
    if (b->base.tap.row) {
        tap_input(t);
    }
}

/* Where the keys (or values) of a layer and head begin in the cache of a token's sequence. */
static size_t cache_at(const struct backend_cpu *b, size_t tok, uint32_t il, uint32_t head)
{
    uint32_t seq = BNT_FAULT(sequence_mixed) ? 0 : b->s.rows[tok].seq;
    return cpu_cache_at(b, (struct backend_head){.seq = seq, .layer = il, .head = head});
}

static void store_head(const struct backend_cpu *b, uint8_t *cache, size_t at, const float *x,
                       uint32_t n)
{
    if (b->base.config.kv_type == BNT_KV_F16) {
        b->kernels->store_f16(x, n, (uint16_t *)(void *)cache + at);
    } else {
        memcpy((float *)(void *)cache + at, x, n * sizeof *x);
    }
}

struct layer_task {
    struct backend_cpu *b;
    uint32_t il;
};

/* Each of the heads in a row, by the weights of one. */
static void norm_heads(const struct backend_cpu *b, float *x, uint32_t n_head, const float *norm)
{
    const struct bnt_model_info *in = &b->base.model->info;
    for (uint32_t head = 0; norm && head < n_head; head++) {
        float *at = x + (size_t)head * in->head_dim;
        b->kernels->rmsnorm(at, norm, (float)in->rms_eps, in->head_dim, at);
    }
}

static void rotate_and_store(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    const struct layer_task *t = ctx;
    const struct backend_cpu *b = t->b;
    const struct bnt_model *m = b->base.model;
    uint32_t hd = m->info.head_dim;
    for (size_t tok = begin; tok < end; tok++) {
        const float *cs = b->s.cs + tok * m->rope.n_rot;
        float *q = b->s.q + tok * b->q_dim, *k = b->s.k + tok * b->kv_dim;
        enum rope_style style =
            BNT_FAULT(rope_style) ? ROPE_NORM + ROPE_NEOX - m->arch->rope : m->arch->rope;
        norm_heads(b, q, m->info.n_head, b->now->q_norm);
        norm_heads(b, k, m->info.n_head_kv, BNT_FAULT(head_norm) ? NULL : b->now->k_norm);
        b->kernels->rope(q, m->info.n_head, hd, m->rope.n_rot, style, cs);
        b->kernels->rope(k, m->info.n_head_kv, hd, m->rope.n_rot, m->arch->rope,
                         cs - (BNT_FAULT(rope_key_late) && tok > 0 ? m->rope.n_rot : 0));
        for (uint32_t head = 0; head < m->info.n_head_kv; head++) {
            size_t at = cache_at(b, tok, t->il, head) + (size_t)b->s.rows[tok].pos * hd;
            store_head(b, b->s.k_cache, at, k + (size_t)head * hd, hd);
            store_head(b, b->s.v_cache, at, b->s.v + tok * b->kv_dim + (size_t)head * hd, hd);
        }
    }
}

/* ---- attention ---- */

/* Positions that a token of the batch attends to: all before it and itself. */
static uint32_t visible(const struct backend_cpu *b, uint32_t tok)
{
    if (BNT_FAULT(causal_mask)) {
        return b->n_seen;
    }
    uint32_t pos = b->s.rows[tok].pos;
    return pos + 1 - (BNT_FAULT(kv_off_by_one) && pos > 0);
}

/* How many tokens from tok on, at most `most`, follow one another in one sequence. */
static uint32_t run_length(const struct backend_cpu *b, uint32_t tok, uint32_t most)
{
    const struct backend_row *row = b->s.rows + tok;
    uint32_t n = 1;
    while (n < most && row[n].seq == row[0].seq && row[n].pos == row[0].pos + n) {
        n++;
    }
    return n;
}

/* n tokens of one sequence from tok on, by a head group; the result takes the place of the query.
 */
static void attend_run(const struct layer_task *t, uint32_t tok, uint32_t n, uint32_t head,
                       int thread)
{
    const struct backend_cpu *b = t->b;
    const struct bnt_model_info *in = &b->base.model->info;
    uint32_t group = in->n_head / in->n_head_kv, block = cpu_attend_tokens(in);
    size_t element = b->base.config.kv_type == BNT_KV_F16 ? sizeof(uint16_t) : sizeof(float);
    float *q = b->s.q + (size_t)tok * b->q_dim + (size_t)head * group * in->head_dim;
    uint32_t kv_head = BNT_FAULT(head_group) ? in->n_head_kv - 1 - head : head;
    size_t at = cache_at(b, tok, t->il, kv_head) * element;
    struct attend_args args = {
        .q = q,
        .out = q,
        .n_tok = n,
        .tok_stride = b->q_dim,
        .n_head_group = group,
        .head_dim = in->head_dim,
        .k = b->s.k_cache + at,
        .v = b->s.v_cache + at,
        .kv_stride = in->head_dim,
        .kv_f16 = b->base.config.kv_type == BNT_KV_F16,
        .n_kv = visible(b, tok),
        .n_kv_step = !BNT_FAULT(causal_mask),
        .scale = b->base.model->attn_scale * (1 + BNT_FAULT(attention_scale)),
        .scores = b->s.scores + (size_t)thread * block * group * b->base.config.n_ctx,
    };
    b->kernels->attend(&args);
}

/* Piece i is block i / n_head_kv of tokens and head group i % n_head_kv. */
static void attend_pieces(void *ctx, size_t begin, size_t end, int thread)
{
    const struct layer_task *t = ctx;
    const struct backend_cpu *b = t->b;
    const struct bnt_model_info *in = &b->base.model->info;
    uint32_t block = cpu_attend_tokens(in);
    for (size_t i = begin; i < end; i++) {
        uint32_t tok = (uint32_t)(i / in->n_head_kv) * block, head = (uint32_t)(i % in->n_head_kv);
        uint32_t last = b->n - tok < block ? b->n : tok + block, n;
        for (; tok < last; tok += n) {
            n = run_length(b, tok, last - tok);
            attend_run(t, tok, n, head, thread);
        }
    }
}

static void attend(struct backend_cpu *b, struct layer_task *t)
{
    const struct bnt_model_info *in = &b->base.model->info;
    uint32_t block = cpu_attend_tokens(in);
    size_t pieces = (size_t)((b->n + block - 1) / block) * in->n_head_kv;
    uint64_t macs = (uint64_t)b->n * b->n_seen * b->q_dim * 2;
    cpu_pool_run(b->pool, pieces, macs < CPU_SERIAL_MACS ? pieces : 1, attend_pieces, t);
}

/* ---- a layer ---- */

static void run_qkv(struct backend_cpu *b)
{
    const struct weight *const w = b->now->w, *qkv[] = {&w[W_Q], &w[W_K], &w[W_V]};
    const struct cpu_output out[] = {{b->s.q, b->q_dim}, {b->s.k, b->kv_dim}, {b->s.v, b->kv_dim}};
    run_linear(&(struct linear_task){.b = b, .w = qkv, .out = out, .n_w = 3});
}

/* Back to the width of the residual stream, and, if it is to, into it. */
static void run_out(struct backend_cpu *b, uint32_t il, int which, bool add)
{
    const struct weight *w[] = {&b->now->w[which]};
    const struct cpu_output out[] = {{b->s.y, b->base.model->info.n_embd}};
    struct linear_task t = {.b = b, .w = w, .out = out, .n_w = 1, .add = add};
    if (b->n > 1 || which != W_DOWN || !cpu_dot_columns(b, il, w[0], b->s.y)) {
        run_linear(&t);
        return;
    }
    finish_rows(&t, 0, 0, w[0]->rows);
    if (add && !BNT_FAULT(residual)) {
        b->kernels->add(b->s.x, b->s.y, w[0]->rows);
    }
}

static void run_gate_up(struct backend_cpu *b, bool gated)
{
    const size_t n_ff = b->base.model->info.n_ff;
    const struct weight *w[] = {&b->now->w[W_GATE], &b->now->w[W_UP]};
    const struct cpu_output out[] = {{b->s.gate, n_ff}, {b->s.up, n_ff}};
    run_linear(&(struct linear_task){.b = b, .w = w, .out = out, .n_w = 2, .gated = gated});
}

/* cached: whose keys and values they are. */
static void attention_block(struct backend_cpu *b, uint32_t il, uint32_t cached, bool attends)
{
    const struct layer *l = b->now;
    const struct bnt_model_info *in = &b->base.model->info;
    struct layer_task here = {b, cached};

    prepare(&(struct norm_task){.b = b,
                                .op = BNT_TAP_ATTN_NORM,
                                .il = il,
                                .x = b->s.x,
                                .norm = l->attn_norm,
                                .n = in->n_embd,
                                .w = &l->w[W_Q],
                                .n_w = 3});
    run_qkv(b);
    tap(b, BNT_TAP_Q, il, b->s.q, b->q_dim);
    tap(b, BNT_TAP_K, il, b->s.k, b->kv_dim);
    tap(b, BNT_TAP_V, il, b->s.v, b->kv_dim);
    cpu_pool_run(b->pool, b->n, token_chunk(b), rotate_and_store, &here);
    tap(b, BNT_TAP_Q_ROPE, il, b->s.q, b->q_dim);
    tap(b, BNT_TAP_K_ROPE, il, b->s.k, b->kv_dim);
    if (attends) {
        attend(b, &here);
    }
    tap(b, BNT_TAP_ATTN, il, b->s.q, b->q_dim);
    prepare(&(struct norm_task){.b = b,
                                .op = BNT_TAP_ATTN_SUB_NORM,
                                .il = il,
                                .x = b->s.q,
                                .norm = l->attn_sub_norm,
                                .n = b->q_dim,
                                .w = &l->w[W_O],
                                .n_w = 1});
    run_out(b, il, W_O, true);
    tap(b, BNT_TAP_ATTN_OUT, il, b->s.y, in->n_embd);
    tap(b, BNT_TAP_ATTN_RESIDUAL, il, b->s.x, in->n_embd);
}

/* act * mul as a step of its own: a tap wants to see gate and up before it. */
static void apart_gate(struct backend_cpu *b, uint32_t il)
{
    size_t n_ff = b->base.model->info.n_ff;
    tap(b, BNT_TAP_GATE, il, b->s.gate, n_ff);
    tap(b, BNT_TAP_UP, il, b->s.up, n_ff);
    b->kernels->act_mul(b->base.model->arch->act, b->s.gate, b->s.up, b->n * n_ff);
    tap(b, BNT_TAP_ACT, il, b->s.gate, n_ff);
}

static void feed_forward_block(struct backend_cpu *b, uint32_t il)
{
    const struct layer *l = b->now;
    const struct bnt_model_info *in = &b->base.model->info;

    prepare(&(struct norm_task){.b = b,
                                .op = BNT_TAP_FFN_NORM,
                                .il = il,
                                .x = b->s.x,
                                .norm = l->ffn_norm,
                                .n = in->n_embd,
                                .w = &l->w[W_GATE],
                                .n_w = 2});
    bool gated = b->base.tap.row == NULL;
    run_gate_up(b, gated);
    if (!gated) {
        apart_gate(b, il);
    }
    prepare(&(struct norm_task){.b = b,
                                .op = BNT_TAP_FFN_SUB_NORM,
                                .il = il,
                                .x = b->s.gate,
                                .norm = BNT_FAULT(sub_norm) ? NULL : l->ffn_sub_norm,
                                .n = in->n_ff,
                                .w = &l->w[W_DOWN],
                                .n_w = 1});
    run_out(b, il, W_DOWN, true);
    tap(b, BNT_TAP_DOWN, il, b->s.y, in->n_embd);
    tap(b, BNT_TAP_FFN_RESIDUAL, il, b->s.x, in->n_embd);
}

void cpu_layer(struct backend_cpu *b, uint32_t il)
{
    attention_block(b, il, il, true);
    feed_forward_block(b, il);
}

void cpu_layer_products(struct backend_cpu *b, uint32_t il)
{
    b->now = &b->base.model->layers[il];
    run_qkv(b);
    run_out(b, il, W_O, false);
    run_gate_up(b, true);
    run_out(b, il, W_DOWN, false);
}

void cpu_layer_unattended(struct backend_cpu *b, uint32_t il)
{
    b->now = &b->base.model->layers[il];
    attention_block(b, il, 0, false);
    feed_forward_block(b, il);
}

void cpu_layer_attention(struct backend_cpu *b, uint32_t il)
{
    struct layer_task here = {b, 0};
    b->now = &b->base.model->layers[il];
    cpu_pool_run(b->pool, b->n, token_chunk(b), rotate_and_store, &here);
    attend(b, &here);
}
