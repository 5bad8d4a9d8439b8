/* The CUDA back end on the host: memory, its seam to sessions, errors. forward_cuda.c has the
 * layers, weights_cuda.c what goes up first. */
#include "engine/cuda/backend_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cuda/launches.h"

enum { BEST_ROWS = 64 }; /* sequences whose best logits are chosen at once */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- errors ---- */

enum bnt_status cuda_error_in(const struct backend_cuda *b, const struct cuda_context *context,
                              enum cuda_code code, struct bnt_err *err)
{
    if (code == CUDA_OK) {
        return BNT_OK;
    }
    const char *what = b->table->problem(context);
    bool memory = code == CUDA_NO_MEMORY;
    bnt_err_set(err, memory ? BNT_E_MEMORY : BNT_E_DEVICE, "cuda:%d: %s%s", b->options.index,
                code == CUDA_LOST ? "the device is lost: " : "", what);
    if (err && err->status == (memory ? BNT_E_MEMORY : BNT_E_DEVICE)) {
        err->domain = "cuda";
        err->foreign = (int)code;
    }
    bnt_err_hint(err, "--device cpu does without it; bnt devices tells what is there");
    return memory ? BNT_E_MEMORY : BNT_E_DEVICE;
}

enum bnt_status cuda_error(const struct backend_cuda *b, enum cuda_code code, struct bnt_err *err)
{
    return cuda_error_in(b, b->context, code, err);
}

enum bnt_status cuda_launch(const struct backend_cuda *b, const struct cuda_launch *l,
                            struct bnt_err *err)
{
    return cuda_error(b, b->times ? cuda_launch_timed(b, l) : b->table->launch(b->context, l), err);
}

/* ---- memory ---- */

static uint64_t kv_bytes(const struct bnt_model *m, const struct backend_config *c)
{
    uint64_t element = c->kv_type == BNT_KV_F32 ? sizeof(float) : sizeof(uint16_t);
    return 2 * (uint64_t)m->info.n_layer * m->info.n_head_kv * m->info.head_dim * c->n_ctx *
           c->n_seq * element;
}

static float *take_floats(struct cuda_cursor *c, uint64_t rows, uint64_t cols)
{
    return cuda_take(c, rows * cols * sizeof(float));
}

/* What a screened head of so many inputs needs besides. */
static void screen_layout(struct cuda_scratch *s, const struct bnt_model *m, uint32_t n,
                          struct cuda_cursor *c)
{
    uint64_t n_vocab = m->info.n_vocab;
    uint64_t tops = max_u64(launch_pieces(n_vocab, launch_screen_rows(1)),
                            (uint64_t)n * launch_pieces(n_vocab, launch_screen_rows(n)));
    s->screen_input = cuda_take(c, n * sizeof *s->screen_input);
    s->screen_q = cuda_take(c, 2 * n * act_stride(m->info.n_embd));
    s->near = take_floats(c, n, n_vocab);
    s->tops = cuda_take(c, tops * sizeof *s->tops);
    s->seeds = cuda_take(c, (uint64_t)n * CUDA_PICK_MAX * sizeof *s->seeds);
}

static uint64_t n_picks(const struct bnt_model *m)
{
    uint64_t blocks = (m->info.n_vocab + CUDA_PICK_SPAN - 1) / CUDA_PICK_SPAN;
    return blocks * CUDA_PICK_MAX;
}

static uint32_t best_rows_of(const struct backend_config *c)
{
    return c->n_seq < BEST_ROWS ? c->n_seq : BEST_ROWS;
}

/* The best of each, and a count behind those of a screened head. */
static uint64_t n_chosen(const struct backend_config *c)
{
    return (uint64_t)best_rows_of(c) * CUDA_PICK_MAX + 1;
}

uint64_t cuda_scratch_layout(struct backend_cuda *b, uint8_t *base)
{
    const struct bnt_model_info *in = &b->base.model->info;
    struct cuda_cursor c = {.base = base};
    struct cuda_scratch *s = &b->s;
    uint64_t n = b->base.config.n_batch;
    s->rows = cuda_take(&c, n * sizeof *s->rows);
    s->x = take_floats(&c, n, in->n_embd);
    s->h = take_floats(&c, max_u64(n, BACKEND_HEAD_BATCH), b->width);
    s->q = take_floats(&c, n, b->q_dim);
    s->k = take_floats(&c, n, b->kv_dim);
    s->v = take_floats(&c, n, b->kv_dim);
    s->gate = take_floats(&c, n, in->n_ff);
    s->up = take_floats(&c, n, in->n_ff);
    s->y = take_floats(&c, n, in->n_embd);
    s->act = cuda_take(&c, n * 4 * ternary_row_bytes(b->width));
    s->act_scale = take_floats(&c, n, 1);
    s->act_sum = cuda_take(&c, n * sizeof(int32_t));
    s->cs = take_floats(&c, b->base.config.n_ctx, b->base.model->rope.n_rot);
    b->best_rows = best_rows_of(&b->base.config);
    uint64_t picks = b->best_rows * n_picks(b->base.model) * sizeof *s->chosen;
    s->logits = take_floats(&c, max_u64(b->best_rows, BACKEND_HEAD_BATCH), in->n_vocab);
    s->picks[0] = cuda_take(&c, picks);
    s->picks[1] = cuda_take(&c, picks);
    s->chosen = cuda_take(&c, n_chosen(&b->base.config) * sizeof *s->chosen);
    s->draw = cuda_take(&c, sizeof *s->draw);
    s->drawn = cuda_take(&c, 2 * sizeof *s->drawn);
    if (cuda_can_screen(b->base.model)) {
        screen_layout(s, b->base.model, b->best_rows, &c);
    }
    uint32_t n_ctx = b->base.config.n_ctx;
    b->scores_shared = CUDA_ATTEND_BYTES(in->head_dim, (uint64_t)n_ctx) <= CUDA_SHARED_MAX;
    b->scores_stride = launch_pieces(n_ctx, 4) * 4;
    s->scores = take_floats(&c, (uint64_t)CUDA_ATTEND_FEW * in->n_head, b->scores_stride);
    s->score_tops =
        cuda_take(&c, (uint64_t)CUDA_ATTEND_FEW * in->n_head *
                          launch_pieces(n_ctx, CUDA_SCORE_LEAST) * sizeof *s->score_tops);
    return c.used;
}

static void set_dimensions(struct backend_cuda *b, const struct bnt_model *m,
                           const struct backend_config *config)
{
    b->base.model = m;
    b->base.config = *config;
    b->q_dim = m->info.n_head * m->info.head_dim;
    b->kv_dim = m->info.n_head_kv * m->info.head_dim;
    b->width = (uint32_t)max_u64(max_u64(m->info.n_embd, m->info.n_ff), b->q_dim);
}

struct cuda_memory cuda_memory_need(const struct bnt_model *m, const struct backend_config *config)
{
    struct backend_cuda b = {0};
    struct cuda_weights w = {.model = m};
    set_dimensions(&b, m, config);
    uint64_t without = cuda_weights_layout(&w, NULL);
    w.screened = cuda_can_screen(m);
    uint64_t weights = cuda_weights_layout(&w, NULL);
    return (struct cuda_memory){.weights = weights,
                                .screen = weights - without,
                                .kv = kv_bytes(m, config),
                                .scratch = cuda_scratch_layout(&b, NULL)};
}

enum bnt_status cuda_check_memory(const struct backend_cuda *b, const struct cuda_memory *need,
                                  struct bnt_err *err)
{
    uint64_t all = need->weights + need->kv + need->scratch;
    uint64_t have =
        b->options.limit && b->options.limit < b->info.free ? b->options.limit : b->info.free;
    if (all <= have || BNT_FAULT(cuda_preflight)) {
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_MEMORY,
                "cuda:%d: weights of %.0f MB, a KV cache of %.0f MB and %.0f MB of scratch do not "
                "fit into %.0f MB%s",
                b->options.index, (double)need->weights / 1e6, (double)need->kv / 1e6,
                (double)need->scratch / 1e6, (double)have / 1e6,
                have == b->options.limit ? " (--device-memory)" : " that are free");
    bnt_err_hint(err, "take a smaller --ctx, or --device cpu");
    return BNT_E_MEMORY;
}

static enum bnt_status take_host(const struct backend_cuda *b, uint64_t bytes, void **out,
                                 struct bnt_err *err)
{
    return cuda_error(b, b->table->alloc_host(b->context, bytes, out), err);
}

static enum bnt_status take_memory(struct backend_cuda *b, struct bnt_err *err)
{
    struct cuda_memory need = cuda_memory_need(b->base.model, &b->base.config);
    enum bnt_status st = BNT_OK;
    const struct {
        void **at;
        uint64_t bytes;
    } pieces[] = {{&b->kv_memory, need.kv}, {&b->scratch_memory, need.scratch}};
    for (int i = 0; st == BNT_OK && i < 2; i++) {
        st = cuda_error(b, b->table->alloc(b->context, pieces[i].bytes, pieces[i].at), err);
    }
    const struct backend_config *config = &b->base.config;
    void *host = NULL;
    st = st == BNT_OK ? take_host(b, config->n_batch * sizeof *b->staging, &host, err) : st;
    b->staging = host;
    st = st == BNT_OK ? take_host(b, n_chosen(config) * sizeof *b->picked, &host, err) : st;
    b->picked = host;
    st = st == BNT_OK ? take_host(b, sizeof *b->best_draw, &host, err) : st;
    b->best_draw = host;
    b->base.memory_bytes = need.kv + need.scratch;
    b->base.kv_bytes = need.kv;
    return st;
}

/* ---- the seam ---- */

/* Wait for what was launched: an error of it is told here, and staging may be written again. */
static enum bnt_status settle(struct backend_cuda *b, struct bnt_err *err)
{
    if (!b->pending) {
        return BNT_OK;
    }
    b->pending = false;
    return cuda_error(b, b->table->sync(b->context), err);
}

static enum bnt_status forward(struct backend *base, const struct backend_row *rows, uint32_t n,
                               struct bnt_err *err)
{
    struct backend_cuda *b = (struct backend_cuda *)base;
    if (base->config.interrupted && *base->config.interrupted) {
        return bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted at position %u", rows[0].pos);
    }
    enum bnt_status st = settle(b, err);
    if (st != BNT_OK) {
        return st;
    }
    b->n = n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t pos = rows[i].pos - (BNT_FAULT(cuda_position) && rows[i].pos);
        b->staging[i] = (struct cuda_row){rows[i].id, rows[i].seq, pos};
    }
    b->pending = true;
    b->split = cuda_attend_splits(b);
    if (n == 1 && base->tap.row == NULL) {
        return cuda_forward_step(b, err);
    }
    if (n > 1 && n <= base->config.n_seq && base->tap.row == NULL) {
        return cuda_forward_wide(b, err);
    }
    return cuda_forward_batch(b, err);
}

static enum bnt_status tap_head(struct backend_cuda *b, uint32_t first, uint32_t n,
                                struct bnt_err *err)
{
    const struct bnt_model_info *in = &b->base.model->info;
    struct cuda_tap_at norm = {.op = BNT_TAP_OUTPUT_NORM,
                               .layer = -1,
                               .first_tok = first,
                               .n_tok = n,
                               .n = in->n_embd,
                               .x = b->s.h,
                               .stride = b->width};
    struct cuda_tap_at logits = norm;
    logits.op = BNT_TAP_LOGITS;
    logits.n = in->n_vocab;
    logits.x = b->s.logits;
    logits.stride = in->n_vocab;
    enum bnt_status st = cuda_tap_rows(b, &norm, err);
    return st == BNT_OK ? cuda_tap_rows(b, &logits, err) : st;
}

static enum bnt_status logits(struct backend *base, uint32_t first, uint32_t n, float *out,
                              struct bnt_err *err)
{
    struct backend_cuda *b = (struct backend_cuda *)base;
    enum bnt_status st = cuda_head(b, first, n, err);
    if (st == BNT_OK) {
        uint64_t bytes = (uint64_t)n * base->model->info.n_vocab * sizeof *out;
        st = cuda_error(b, b->table->download(b->context, out, b->s.logits, bytes), err);
    }
    b->pending = b->pending && st != BNT_OK; /* a download has waited */
    return st == BNT_OK && base->tap.row ? tap_head(b, first, n, err) : st;
}

/* Hand out the candidates of token i. */
static void take_chosen(const struct cuda_candidate *from, const struct backend_best *ask,
                        uint32_t i)
{
    struct bnt_candidate *out = ask->out + (size_t)i * ask->k;
    uint32_t n = 0;
    for (; n < ask->k && from[n].id >= 0; n++) {
        out[n] = (struct bnt_candidate){.id = from[n].id, .value = from[n].logit};
    }
    ask->found[i] = n;
}

/* The best of ask->n tokens from `first` on, as many at once as there is room for. */
static enum bnt_status best_from(struct backend *base, uint32_t first,
                                 const struct backend_best *ask, struct bnt_err *err)
{
    struct backend_cuda *b = (struct backend_cuda *)base;
    enum bnt_status st = BNT_OK;
    for (uint32_t at = 0, n; st == BNT_OK && at < ask->n; at += n) {
        n = ask->n - at < b->best_rows ? ask->n - at : b->best_rows;
        st = cuda_best(b, first + at, n, ask->k, err);
        for (uint32_t i = 0; st == BNT_OK && i < n; i++) {
            take_chosen(b->picked + (size_t)i * ask->k, ask, at + i);
        }
    }
    b->pending = b->pending && st != BNT_OK; /* a download has waited */
    return st;
}

static enum bnt_status best_rows(struct backend *base, const struct backend_best *ask,
                                 struct bnt_err *err)
{
    return best_from(base, 0, ask, err);
}

static enum bnt_status best(struct backend *base, uint32_t row, uint32_t k,
                            struct bnt_candidate *out, uint32_t *n, struct bnt_err *err)
{
    struct backend_best ask = {.n = 1, .k = k, .out = out, .found = n};
    return best_from(base, row, &ask, err);
}

static enum bnt_status draw(struct backend *base, uint32_t row, uint32_t k,
                            const struct bnt_draw *how, int32_t *id, struct bnt_err *err)
{
    struct backend_cuda *b = (struct backend_cuda *)base;
    enum bnt_status st = cuda_draw(b, row, k, how, id, err);
    b->pending = b->pending && st != BNT_OK; /* a download has waited */
    return st;
}

/* ---- life ---- */

static void free_cuda(struct backend *base)
{
    struct backend_cuda *b = (struct backend_cuda *)base;
    if (b->context) {
        b->table->graph_free(b->context, b->step_graphs[0]);
        b->table->graph_free(b->context, b->step_graphs[1]);
        b->table->graph_free(b->context, b->wide_graph);
        b->table->graph_free(b->context, b->head_graphs[0].graph);
        b->table->graph_free(b->context, b->head_graphs[1].graph);
        if (!BNT_FAULT(cuda_leak)) {
            b->table->close(b->context);
        }
    }
    cuda_weights_release(b->w);
    cuda_times_close(b->times);
    free(b->tap_row);
    free(b);
}

static const struct backend_ops cuda_ops = {.name = "cuda",
                                            .forward = forward,
                                            .logits = logits,
                                            .best = best,
                                            .best_rows = best_rows,
                                            .draw = draw,
                                            .free = free_cuda};

/* What the kernels cannot do. */
static enum bnt_status check_model(const struct backend_cuda *b, struct bnt_err *err)
{
    if (b->base.model->tl_look_up) {
        bnt_err_set(err, BNT_E_UNSUPPORTED, "cuda: the kernels read codes, not look-up tables");
        bnt_err_hint(err, "leave --tl tables out, or use --device cpu");
        return BNT_E_UNSUPPORTED;
    }
    if (b->width > CUDA_MAX_COLS) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "cuda: a matrix of %u columns; the kernels take at most %u", b->width,
                           CUDA_MAX_COLS);
    }
    uint32_t head_dim = b->base.model->info.head_dim;
    if (CUDA_ONE_BYTES(head_dim, 0) > CUDA_SHARED_MAX) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "cuda: heads of %u do not fit into the memory that a block shares",
                           head_dim);
    }
    return BNT_OK;
}

static enum bnt_status open_device(struct backend_cuda *b, struct bnt_err *err)
{
    char why[256] = "";
    int n = cuda_device_count(why, sizeof why);
    if (b->options.index < 0 || b->options.index >= n) {
        bnt_err_set(err, BNT_E_DEVICE, "cuda:%d: no such device: %s", b->options.index,
                    n > 0 ? "there are fewer" : why);
        bnt_err_hint(err, "bnt devices lists what is there; --device auto takes what there is");
        return BNT_E_DEVICE;
    }
    b->table = cuda_table_get(why, sizeof why);
    enum cuda_code code = b->table->info(b->options.index, &b->info);
    if (code == CUDA_OK) {
        code = b->table->open(b->options.index, b->options.overlap, &b->context);
    }
    if (code != CUDA_OK) {
        return bnt_err_set(err, code == CUDA_NO_MEMORY ? BNT_E_MEMORY : BNT_E_DEVICE, "cuda:%d: %s",
                           b->options.index, b->table->problem(NULL));
    }
    snprintf(b->base.kernel_note, sizeof b->base.kernel_note, "%s%.100s",
             b->info.fake ? "cuda: this is no GPU: " : "", b->info.fake ? b->info.name : "");
    return BNT_OK;
}

/* Who asked for a screened head is told why there is none. */
static void note_full_head(struct backend_cuda *b)
{
    const struct bnt_model *m = b->base.model;
    size_t used = strlen(b->base.kernel_note);
    if (!m->screened || b->w->screened) {
        return;
    }
    snprintf(b->base.kernel_note + used, sizeof b->base.kernel_note - used,
             "%scuda: the output matrix is read in full: its copy %s", used ? "; " : "",
             cuda_can_screen(m) ? "does not fit into the memory that may be taken"
                                : "has longer rows than the kernels take");
}

static enum bnt_status start(struct backend_cuda *b, struct bnt_err *err)
{
    enum bnt_status st = check_model(b, err);
    if (st == BNT_OK && b->options.times) {
        st = cuda_times_open(b->options.times, &b->times, err);
    }
    if (st == BNT_OK) {
        st = open_device(b, err);
    }
    if (st == BNT_OK) {
        st = cuda_weights_take(b, err);
    }
    if (st == BNT_OK) {
        st = take_memory(b, err);
    }
    if (st == BNT_OK) {
        cuda_scratch_layout(b, b->scratch_memory);
        note_full_head(b);
        st = cuda_rotations_upload(b, err);
    }
    return st;
}

enum bnt_status backend_cuda_new(const struct bnt_model *m, const struct backend_config *config,
                                 const struct cuda_options *o, struct backend **out,
                                 struct bnt_err *err)
{
    struct backend_cuda *b = calloc(1, sizeof *b);
    if (!b) {
        return bnt_err_nomem(err, "a back end", sizeof *b);
    }
    b->base.ops = &cuda_ops;
    b->base.kernel = "cuda";
    b->options = *o;
    snprintf(b->base.device, sizeof b->base.device, "cuda:%d", o->index);
    set_dimensions(b, m, config);
    enum bnt_status st = start(b, err);
    if (st != BNT_OK) {
        free_cuda(&b->base);
        return st;
    }
    *out = &b->base;
    return BNT_OK;
}
