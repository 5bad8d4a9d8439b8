/* The forward pass as launches. The batch path mirrors engine/cpu/forward.c operation by operation;
 * the step path fuses each ternary product with the norm and quantisation before it.
 *
 *     batch: norm, q k v, rope, attend, norm, wo, norm, gate, up, act, norm, down    per layer
 *     step:  [norm q k v], [rope attend], [norm wo], [norm gate up act], [norm down]
 *            far into a context: ..., [rope scores], [values], ...
 */
#include "base/fault.h"
#include "engine/cuda/backend_cuda.h"
#include "engine/cuda/launches.h"

/* x * y blocks of `threads`, each with `bytes` of shared memory, of kernel id with *args_. */
#define LAUNCH(b, id, args_, x, y, threads, bytes, err)                                            \
    cuda_launch(b,                                                                                 \
                &(struct cuda_launch){.kernel = (id),                                              \
                                      .grid_x = (x),                                               \
                                      .grid_y = (y),                                               \
                                      .block = (threads),                                          \
                                      .shared = (bytes),                                           \
                                      .args = (args_),                                             \
                                      .args_bytes = sizeof *(args_)},                              \
                err)

static bool taps(const struct backend_cuda *b)
{
    return b->base.tap.row != NULL;
}

static enum bnt_status tap(struct backend_cuda *b, enum bnt_tap_op op, uint32_t il, const float *x,
                           uint32_t n, struct bnt_err *err)
{
    struct cuda_tap_at at = {
        .op = op, .layer = (int32_t)il, .n_tok = b->n, .n = n, .x = x, .stride = n};
    return taps(b) ? cuda_tap_rows(b, &at, err) : BNT_OK;
}

static enum bnt_status upload_rows(const struct backend_cuda *b, uint32_t n, struct bnt_err *err)
{
    uint64_t bytes = n * sizeof *b->staging;
    return cuda_error(b, b->table->upload(b->context, b->s.rows, b->staging, bytes), err);
}

static enum bnt_status embed(const struct backend_cuda *b, uint32_t n, struct bnt_err *err)
{
    struct cuda_embed_args a = {.rows = b->s.rows,
                                .table = b->w->embd.data,
                                .row_bytes = b->w->embd.row_bytes,
                                .type = b->w->embd.type,
                                .n_embd = b->base.model->info.n_embd,
                                .scale = b->base.model->embd.out_scale,
                                .x = b->s.x};
    return LAUNCH(b, CUDA_K_EMBED, &a, n, 1, 256, 0, err);
}

/* ---- products of a batch ---- */

struct product {
    const struct cuda_weight *w;
    float *y;
    uint64_t stride;
    bool add;
};

static struct cuda_matrix matrix(const struct cuda_weight *w, float *y, uint64_t stride)
{
    return (struct cuda_matrix){.codes = w->data,
                                .rows = (uint32_t)w->rows,
                                .scale = w->scale,
                                .out_scale = w->out_scale,
                                .bias = w->bias,
                                .y = y,
                                .stride = stride};
}

/* Matrices of one input, as a says, to its tokens. */
static enum bnt_status ternary(const struct backend_cuda *b, struct cuda_ternary_args *a,
                               struct bnt_err *err)
{
    a->q = b->s.act;
    a->scale = b->s.act_scale;
    a->sum = b->s.act_sum;
    a->n = b->n;
    struct cuda_launch l = launch_of_ternary(a, launch_ternary_kernel(a, &b->info));
    return cuda_launch(b, &l, err);
}

static bool all_ternary(const struct cuda_weight *first, const struct cuda_weight *last)
{
    bool all = true;
    for (const struct cuda_weight *w = first; w <= last; w++) {
        all = all && w->ternary;
    }
    return all;
}

/* Whether matrices first..last of a layer are multiplied by one launch: tensor cores take several,
 * and nobody wants to see one of them alone. */
static bool together(const struct backend_cuda *b, const struct cuda_weight *first,
                     const struct cuda_weight *last)
{
    return b->info.major >= 8 && b->n > CUDA_TOKENS && !taps(b) && all_ternary(first, last);
}

static enum bnt_status product(const struct backend_cuda *b, const struct product *p,
                               struct bnt_err *err)
{
    if (p->w->ternary) {
        struct cuda_ternary_args t = {.row_bytes = (uint32_t)p->w->row_bytes,
                                      .n_matrices = 1,
                                      .add = p->add,
                                      .m = {matrix(p->w, p->y, p->stride)}};
        return ternary(b, &t, err);
    }
    struct cuda_float_args a = {.w = p->w->data,
                                .row_bytes = p->w->row_bytes,
                                .type = p->w->type,
                                .rows = (uint32_t)p->w->rows,
                                .cols = (uint32_t)p->w->cols,
                                .n = b->n,
                                .x = b->s.h,
                                .x_stride = b->width,
                                .add = p->add,
                                .out_scale = p->w->out_scale,
                                .bias = p->w->bias,
                                .y = p->y,
                                .stride = p->stride};
    struct cuda_launch l = launch_of_float(&a);
    return cuda_launch(b, &l, err);
}

/* A product that joins the residual stream; a tap wants to see it apart. */
static enum bnt_status residual_product(struct backend_cuda *b, const struct cuda_weight *w,
                                        enum bnt_tap_op op, uint32_t il, struct bnt_err *err)
{
    uint32_t n_embd = b->base.model->info.n_embd;
    enum bnt_status st = BNT_OK;
    if (taps(b)) {
        st = product(b, &(struct product){w, b->s.y, n_embd, false}, err);
        st = st == BNT_OK ? tap(b, op, il, b->s.y, n_embd, err) : st;
    }
    if (st == BNT_OK) {
        st = product(b, &(struct product){w, b->s.x, n_embd, true}, err);
    }
    return st == BNT_OK ? tap(b, (enum bnt_tap_op)(op + 1), il, b->s.x, n_embd, err) : st;
}

/* ---- norms of a batch ---- */

struct norm {
    enum bnt_tap_op op; /* the op of the 8-bit form is the next one */
    uint32_t il;
    const float *x, *norm;
    uint32_t n;
    const struct cuda_weight *first, *last; /* the matrices that it feeds */
};

static struct norm attn_norm(const struct backend_cuda *b, uint32_t il)
{
    const struct cuda_layer *l = &b->w->layers[il];
    return (struct norm){BNT_TAP_ATTN_NORM,          il,         b->s.x,    l->attn_norm,
                         b->base.model->info.n_embd, &l->w[W_Q], &l->w[W_V]};
}

static struct norm attn_sub_norm(const struct backend_cuda *b, uint32_t il)
{
    const struct cuda_layer *l = &b->w->layers[il];
    return (struct norm){
        BNT_TAP_ATTN_SUB_NORM, il, b->s.q, l->attn_sub_norm, b->q_dim, &l->w[W_O], &l->w[W_O]};
}

static struct norm ffn_norm(const struct backend_cuda *b, uint32_t il)
{
    const struct cuda_layer *l = &b->w->layers[il];
    return (struct norm){
        BNT_TAP_FFN_NORM, il,         b->s.x, l->ffn_norm, b->base.model->info.n_embd,
        &l->w[W_GATE],    &l->w[W_UP]};
}

static struct norm ffn_sub_norm(const struct backend_cuda *b, uint32_t il)
{
    const struct cuda_layer *l = &b->w->layers[il];
    return (struct norm){
        BNT_TAP_FFN_SUB_NORM, il,           b->s.gate, l->ffn_sub_norm, b->base.model->info.n_ff,
        &l->w[W_DOWN],        &l->w[W_DOWN]};
}

static enum bnt_status prepare(struct backend_cuda *b, const struct norm *p, struct bnt_err *err)
{
    bool quantize = false, floats = taps(b); /* what reads them */
    uint64_t row_bytes = ternary_row_bytes(p->n);
    for (const struct cuda_weight *w = p->first; w <= p->last; w++) {
        quantize = quantize || w->ternary;
        floats = floats || !w->ternary;
    }
    struct cuda_norm_args a = {.x = p->x,
                               .norm = p->norm,
                               .x_stride = p->n,
                               .n = p->n,
                               .eps = (float)b->base.model->info.rms_eps,
                               .h = floats ? b->s.h : NULL,
                               .h_stride = b->width,
                               .q = quantize ? b->s.act : NULL,
                               .row_bytes = row_bytes,
                               .scale = b->s.act_scale,
                               .sum = b->s.act_sum};
    if (p->x == a.h && !p->norm && !quantize) { /* as it is, and where products read it */
        return BNT_OK;
    }
    struct cuda_launch l = launch_of_norm(&a, b->n);
    enum bnt_status st = cuda_launch(b, &l, err);
    struct cuda_tap_at at = {.op = p->op,
                             .layer = (int32_t)p->il,
                             .n_tok = b->n,
                             .n = p->n,
                             .x = b->s.h,
                             .stride = b->width};
    if (st == BNT_OK && taps(b) && p->norm) {
        st = cuda_tap_rows(b, &at, err);
    }
    if (st == BNT_OK && taps(b) && quantize) {
        at.op = (enum bnt_tap_op)(p->op + 1);
        st = cuda_tap_act(b, &at, row_bytes, err);
    }
    return st;
}

/* ---- attention ---- */

static struct cuda_heads heads(const struct backend_cuda *b, uint32_t il)
{
    const struct bnt_model *m = b->base.model;
    uint64_t element = b->base.config.kv_type == BNT_KV_F16 ? 2 : 4;
    uint64_t layer = (uint64_t)m->info.n_head_kv * b->base.config.n_ctx * m->info.head_dim;
    uint64_t caches = (uint64_t)b->base.config.n_seq * m->info.n_layer * layer;
    uint8_t *kv = b->kv_memory;
    return (struct cuda_heads){.n_head = m->info.n_head,
                               .n_head_kv = m->info.n_head_kv,
                               .head_dim = m->info.head_dim,
                               .n_rot = m->rope.n_rot,
                               .neox = m->arch->rope == ROPE_NEOX,
                               .n_ctx = b->base.config.n_ctx,
                               .kv_f16 = b->base.config.kv_type == BNT_KV_F16,
                               .seq_stride =
                                   BNT_FAULT(cuda_sequence_mixed) ? 0 : m->info.n_layer * layer,
                               .cs = b->s.cs,
                               .k_cache = kv + il * layer * element,
                               .v_cache = kv + (caches + il * layer) * element};
}

static uint32_t last_position(const struct backend_cuda *b)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        most = b->staging[i].pos > most ? b->staging[i].pos : most;
    }
    return most;
}

/* Positions that the batch may look at. Of a step of several sequences all: its launches are kept
 * for steps further on. */
static uint32_t positions_seen(const struct backend_cuda *b)
{
    bool kept = b->n > 1 && b->n <= b->base.config.n_seq;
    return kept ? b->base.config.n_ctx : last_position(b) + 1;
}

/* Heads that share keys, together: those are read once for up to four. */
static enum bnt_status attend_groups(const struct backend_cuda *b, struct cuda_attend_args *a,
                                     uint32_t n_scores, struct bnt_err *err)
{
    uint32_t of_group = a->heads.n_head / a->heads.n_head_kv;
    uint32_t blocks = a->heads.n_head_kv * launch_pieces(of_group, CUDA_ATTEND_GROUP);
    return LAUNCH(b, CUDA_K_ATTEND_GROUP, a, blocks, b->n, 128,
                  CUDA_GROUP_BYTES(a->heads.head_dim, n_scores), err);
}

/* The position from which on a token's attention takes two launches; one holds the scores of those
 * before it. 512: where a block needs about as long for the scores of four positions a thread as a
 * launch and a block's share of them take. */
static uint32_t split_from(const struct backend_cuda *b)
{
    enum { SPLIT_FROM = 512 };
    uint32_t wanted = b->options.split ? b->options.split : SPLIT_FROM;
    uint32_t room = (CUDA_SHARED_MAX - CUDA_ONE_BYTES(b->base.model->info.head_dim, 0)) / 4;
    return wanted < room ? wanted : room;
}

bool cuda_attend_splits(const struct backend_cuda *b)
{
    return b->n <= CUDA_ATTEND_FEW && last_position(b) >= split_from(b);
}

/* A token or a few over the whole device. A step rotates and stores on the way, and has its result
 * elsewhere than the query, which other blocks may read. */
static enum bnt_status attend_spread(const struct backend_cuda *b, uint32_t il, bool step,
                                     struct bnt_err *err)
{
    struct cuda_split_args a = {.heads = heads(b, il),
                                .rows = b->s.rows,
                                .q = b->s.q,
                                .k = b->s.k,
                                .v = b->s.v,
                                .out = step ? b->s.h : b->s.q,
                                .scale = b->base.model->attn_scale,
                                .rotate = step,
                                .stride = b->scores_stride,
                                .scores = b->s.scores,
                                .tops = b->s.score_tops};
    a.n_slices = launch_score_slices(&a.heads, b->n, b->info.n_processors);
    struct cuda_launch one = launch_of_attend_one(&a, split_from(b));
    struct cuda_launch scores = launch_of_scores(&a, b->n), values = launch_of_values(&a, b->n);
    if (!b->split) {
        return cuda_launch(b, &one, err);
    }
    enum bnt_status st = cuda_launch(b, &scores, err);
    return st == BNT_OK ? cuda_launch(b, &values, err) : st;
}

/* The tokens of a batch, which are rotated and stored. */
static enum bnt_status attend(const struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    struct cuda_attend_args a = {.heads = heads(b, il),
                                 .rows = b->s.rows,
                                 .q = b->s.q,
                                 .scale = b->base.model->attn_scale,
                                 .scores = b->scores_shared ? NULL : b->s.scores,
                                 .stride = b->scores_stride};
    uint32_t shared = CUDA_ATTEND_BYTES(a.heads.head_dim, b->scores_shared ? a.heads.n_ctx : 0);
    uint32_t slice = b->scores_shared ? b->n : CUDA_ATTEND_FEW, n_scores = positions_seen(b);
    if (b->split) {
        return attend_spread(b, il, false, err);
    }
    if (launch_groups_fit(&a.heads, n_scores)) {
        return attend_groups(b, &a, n_scores, err);
    }
    enum bnt_status st = BNT_OK;
    for (; st == BNT_OK && a.first < b->n; a.first += slice) {
        uint32_t left = b->n - a.first;
        st = LAUNCH(b, CUDA_K_ATTEND, &a, a.heads.n_head, left < slice ? left : slice, 128, shared,
                    err);
    }
    return st;
}

/* Each head of q and k, as rows of its own. */
static enum bnt_status norm_heads(const struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    const struct bnt_model_info *in = &b->base.model->info;
    const struct cuda_layer *l = &b->w->layers[il];
    const struct {
        float *x;
        const float *norm;
        uint32_t n_head;
    } rows[] = {{b->s.q, l->q_norm, in->n_head}, {b->s.k, l->k_norm, in->n_head_kv}};
    enum bnt_status st = BNT_OK;
    for (int i = 0; st == BNT_OK && i < 2 && rows[i].norm; i++) {
        struct cuda_norm_args a = {.x = rows[i].x,
                                   .norm = rows[i].norm,
                                   .x_stride = in->head_dim,
                                   .n = in->head_dim,
                                   .eps = (float)in->rms_eps,
                                   .h = rows[i].x,
                                   .h_stride = in->head_dim};
        struct cuda_launch normed = launch_of_norm(&a, b->n * rows[i].n_head);
        st = cuda_launch(b, &normed, err);
    }
    return st;
}

static enum bnt_status rotate_and_store(const struct backend_cuda *b, uint32_t il,
                                        struct bnt_err *err)
{
    struct cuda_rope_args a = {
        .heads = heads(b, il), .rows = b->s.rows, .q = b->s.q, .k = b->s.k, .v = b->s.v};
    return LAUNCH(b, CUDA_K_ROPE, &a, b->n, 1, 256, 0, err);
}

/* ---- a layer of a batch ---- */

static enum bnt_status qkv(struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    const struct cuda_layer *l = &b->w->layers[il];
    const struct {
        int w;
        enum bnt_tap_op op;
        float *y;
        uint32_t dim;
    } rows[] = {{W_Q, BNT_TAP_Q, b->s.q, b->q_dim},
                {W_K, BNT_TAP_K, b->s.k, b->kv_dim},
                {W_V, BNT_TAP_V, b->s.v, b->kv_dim}};
    enum bnt_status st = BNT_OK;
    if (together(b, &l->w[W_Q], &l->w[W_V])) {
        struct cuda_ternary_args a = {.row_bytes = (uint32_t)l->w[W_Q].row_bytes,
                                      .n_matrices = 3,
                                      .m = {matrix(&l->w[W_Q], b->s.q, b->q_dim),
                                            matrix(&l->w[W_K], b->s.k, b->kv_dim),
                                            matrix(&l->w[W_V], b->s.v, b->kv_dim)}};
        return ternary(b, &a, err);
    }
    for (int i = 0; st == BNT_OK && i < 3; i++) {
        st = product(b, &(struct product){&l->w[rows[i].w], rows[i].y, rows[i].dim, false}, err);
    }
    for (int i = 0; st == BNT_OK && i < 3; i++) {
        st = tap(b, rows[i].op, il, rows[i].y, rows[i].dim, err);
    }
    return st;
}

static enum bnt_status attention_block(struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    struct norm in = attn_norm(b, il), sub = attn_sub_norm(b, il);
    enum bnt_status st = prepare(b, &in, err);
    if (st == BNT_OK) {
        st = qkv(b, il, err);
    }
    if (st == BNT_OK) {
        st = norm_heads(b, il, err);
    }
    if (st == BNT_OK) {
        st = rotate_and_store(b, il, err);
    }
    if (st == BNT_OK) {
        st = tap(b, BNT_TAP_Q_ROPE, il, b->s.q, b->q_dim, err);
    }
    if (st == BNT_OK) {
        st = tap(b, BNT_TAP_K_ROPE, il, b->s.k, b->kv_dim, err);
    }
    if (st == BNT_OK) {
        st = attend(b, il, err);
    }
    if (st == BNT_OK) {
        st = tap(b, BNT_TAP_ATTN, il, b->s.q, b->q_dim, err);
    }
    if (st == BNT_OK) {
        st = prepare(b, &sub, err);
    }
    return st == BNT_OK ? residual_product(b, sub.first, BNT_TAP_ATTN_OUT, il, err) : st;
}

static enum bnt_status gate_and_up(struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    const struct cuda_layer *l = &b->w->layers[il];
    uint32_t n_ff = b->base.model->info.n_ff;
    struct cuda_act_args a = {.gate = b->s.gate,
                              .up = b->s.up,
                              .n = (uint64_t)b->n * n_ff,
                              .act = (uint32_t)b->base.model->arch->act};
    if (together(b, &l->w[W_GATE], &l->w[W_UP])) {
        struct cuda_ternary_args both = {
            .row_bytes = (uint32_t)l->w[W_GATE].row_bytes,
            .n_matrices = 2,
            .gated = 1,
            .act = a.act,
            .m = {matrix(&l->w[W_GATE], b->s.gate, n_ff), matrix(&l->w[W_UP], b->s.up, n_ff)}};
        return ternary(b, &both, err);
    }
    enum bnt_status st = product(b, &(struct product){&l->w[W_GATE], b->s.gate, n_ff, false}, err);
    if (st == BNT_OK) {
        st = product(b, &(struct product){&l->w[W_UP], b->s.up, n_ff, false}, err);
    }
    if (st == BNT_OK) {
        st = tap(b, BNT_TAP_GATE, il, b->s.gate, n_ff, err);
    }
    if (st == BNT_OK) {
        st = tap(b, BNT_TAP_UP, il, b->s.up, n_ff, err);
    }
    if (st == BNT_OK) {
        st = LAUNCH(b, CUDA_K_ACT, &a, launch_pieces(a.n, 256), 1, 256, 0, err);
    }
    return st == BNT_OK ? tap(b, BNT_TAP_ACT, il, b->s.gate, n_ff, err) : st;
}

static enum bnt_status feed_forward_block(struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    struct norm in = ffn_norm(b, il), sub = ffn_sub_norm(b, il);
    enum bnt_status st = prepare(b, &in, err);
    if (st == BNT_OK) {
        st = gate_and_up(b, il, err);
    }
    if (st == BNT_OK) {
        st = prepare(b, &sub, err);
    }
    return st == BNT_OK ? residual_product(b, sub.first, BNT_TAP_DOWN, il, err) : st;
}

enum bnt_status cuda_forward_batch(struct backend_cuda *b, struct bnt_err *err)
{
    enum bnt_status st = upload_rows(b, b->n, err);
    st = st == BNT_OK ? embed(b, b->n, err) : st;
    if (st == BNT_OK && taps(b)) {
        uint32_t n_embd = b->base.model->info.n_embd;
        struct cuda_tap_at at = {.op = BNT_TAP_EMBD,
                                 .layer = -1,
                                 .n_tok = b->n,
                                 .n = n_embd,
                                 .x = b->s.x,
                                 .stride = n_embd};
        st = cuda_tap_rows(b, &at, err);
    }
    for (uint32_t il = 0; st == BNT_OK && il < b->base.model->info.n_layer; il++) {
        st = attention_block(b, il, err);
        if (st == BNT_OK) {
            st = feed_forward_block(b, il, err);
        }
    }
    return st;
}

/* ---- one token ---- */

/* Whether matrices first..last take their norm into one launch. */
static bool fused(const struct cuda_weight *first, const struct cuda_weight *last)
{
    return all_ternary(first, last) && launch_step_takes((uint32_t)first->cols);
}

/* A norm and the products of one token in one launch. */
static enum bnt_status step(const struct backend_cuda *b, struct cuda_step_args *a,
                            struct bnt_err *err)
{
    a->eps = (float)b->base.model->info.rms_eps;
    a->row_bytes = (uint32_t)ternary_row_bytes(a->cols);
    struct cuda_launch l = launch_of_step(a, b->info.n_processors);
    return cuda_launch(b, &l, err);
}

static enum bnt_status step_qkv(struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    const struct cuda_layer *l = &b->w->layers[il];
    struct norm in = attn_norm(b, il);
    struct cuda_step_args a = {.x = in.x,
                               .norm = in.norm,
                               .cols = in.n,
                               .n_matrices = 3,
                               .m = {matrix(&l->w[W_Q], b->s.q, 0), matrix(&l->w[W_K], b->s.k, 0),
                                     matrix(&l->w[W_V], b->s.v, 0)}};
    if (fused(in.first, in.last)) {
        return step(b, &a, err);
    }
    enum bnt_status st = prepare(b, &in, err);
    return st == BNT_OK ? qkv(b, il, err) : st;
}

static enum bnt_status step_gate_and_up(struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    const struct cuda_layer *l = &b->w->layers[il];
    struct norm in = ffn_norm(b, il);
    struct cuda_step_args a = {
        .x = in.x,
        .norm = in.norm,
        .cols = in.n,
        .n_matrices = 2,
        .gated = 1,
        .act = (uint32_t)b->base.model->arch->act,
        .m = {matrix(&l->w[W_GATE], b->s.gate, 0), matrix(&l->w[W_UP], b->s.up, 0)}};
    if (fused(in.first, in.last)) {
        return step(b, &a, err);
    }
    enum bnt_status st = prepare(b, &in, err);
    return st == BNT_OK ? gate_and_up(b, il, err) : st;
}

/* A norm and the only matrix that it feeds, which joins the residual stream. */
static enum bnt_status step_residual(struct backend_cuda *b, const struct norm *in,
                                     struct bnt_err *err)
{
    struct cuda_step_args a = {.x = in->x,
                               .norm = in->norm,
                               .cols = in->n,
                               .n_matrices = 1,
                               .add = !BNT_FAULT(cuda_residual),
                               .m = {matrix(in->first, b->s.x, 0)}};
    if (fused(in->first, in->first)) {
        return step(b, &a, err);
    }
    enum bnt_status st = prepare(b, in, err);
    struct product p = {in->first, b->s.x, b->base.model->info.n_embd, true};
    return st == BNT_OK ? product(b, &p, err) : st;
}

static enum bnt_status step_layer(struct backend_cuda *b, uint32_t il, struct bnt_err *err)
{
    struct norm attended = attn_sub_norm(b, il), gated = ffn_sub_norm(b, il);
    attended.x = b->s.h; /* other blocks may read the query */
    enum bnt_status st = step_qkv(b, il, err);
    st = st == BNT_OK ? norm_heads(b, il, err) : st;
    st = st == BNT_OK ? attend_spread(b, il, true, err) : st;
    st = st == BNT_OK ? step_residual(b, &attended, err) : st;
    st = st == BNT_OK ? step_gate_and_up(b, il, err) : st;
    return st == BNT_OK ? step_residual(b, &gated, err) : st;
}

/* One token: its id and position come up first. */
static enum bnt_status launch_step(struct backend_cuda *b, struct bnt_err *err)
{
    enum bnt_status st = upload_rows(b, 1, err);
    st = st == BNT_OK ? embed(b, 1, err) : st;
    for (uint32_t il = 0; st == BNT_OK && il < b->base.model->info.n_layer; il++) {
        st = step_layer(b, il, err);
    }
    return st;
}

/* ---- graphs ---- */

enum bnt_status cuda_run_captured(struct backend_cuda *b, struct cuda_graph **graph,
                                  enum bnt_status (*launches)(struct backend_cuda *b,
                                                              struct bnt_err *err),
                                  struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (b->times) {
        return launches(b, err);
    }
    if (!*graph) {
        st = cuda_error(b, b->table->graph_begin(b->context), err);
        if (st != BNT_OK) {
            return st;
        }
        st = launches(b, err);
        /* Ended in any case: the context must not go on recording. */
        enum bnt_status ended = cuda_error(b, b->table->graph_end(b->context, graph), err);
        st = st == BNT_OK ? ended : st;
    }
    return st == BNT_OK ? cuda_error(b, b->table->graph_run(b->context, *graph), err) : st;
}

enum bnt_status cuda_forward_step(struct backend_cuda *b, struct bnt_err *err)
{
    return cuda_run_captured(b, &b->step_graphs[b->split], launch_step, err);
}

/* Sequences begin and end, and a capture costs more than a step: only the second of equal steps is
 * captured. */
enum bnt_status cuda_forward_wide(struct backend_cuda *b, struct bnt_err *err)
{
    if (b->wide_n == b->n && b->wide_split == b->split) {
        return cuda_run_captured(b, &b->wide_graph, cuda_forward_batch, err);
    }
    b->table->graph_free(b->context, b->wide_graph);
    b->wide_graph = NULL;
    b->wide_n = b->n;
    b->wide_split = b->split;
    return cuda_forward_batch(b, err);
}

/* ---- head ---- */

enum bnt_status cuda_head(struct backend_cuda *b, uint32_t first, uint32_t n, struct bnt_err *err)
{
    const struct bnt_model_info *in = &b->base.model->info;
    struct cuda_norm_args norm = {.x = b->s.x + (uint64_t)first * in->n_embd,
                                  .norm = b->w->output_norm,
                                  .x_stride = in->n_embd,
                                  .n = in->n_embd,
                                  .eps = (float)in->rms_eps,
                                  .h = b->s.h,
                                  .h_stride = b->width};
    struct cuda_float_args a = {.w = b->w->head.data,
                                .row_bytes = b->w->head.row_bytes,
                                .type = b->w->head.type,
                                .rows = in->n_vocab,
                                .cols = in->n_embd,
                                .n = n,
                                .x = b->s.h,
                                .x_stride = b->width,
                                .out_scale = 1.0f,
                                .y = b->s.logits,
                                .stride = in->n_vocab};
    struct cuda_launch normed = launch_of_norm(&norm, n), product = launch_of_float(&a);
    enum bnt_status st = cuda_launch(b, &normed, err);
    return st == BNT_OK ? cuda_launch(b, &product, err) : st;
}
