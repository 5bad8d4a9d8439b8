/* The arithmetic of the model of time. */
#include "engine/speed_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "engine/columns.h"
#include "engine/fives.h"

/* ---- shapes ---- */

static struct speed_matrix matrix_of(const struct weight *w)
{
    return (struct speed_matrix){.rows = w->rows,
                                 .cols = w->cols,
                                 .bytes = weight_bytes(w),
                                 .ternary = w->ternary,
                                 .type = w->type};
}

static struct weight weight_of(const struct speed_matrix *m)
{
    return (struct weight){.rows = m->rows,
                           .cols = m->cols,
                           .row_bytes = m->bytes / m->rows,
                           .ternary = m->ternary,
                           .type = m->type};
}

/* `down` that may have a copy by columns is left to that: the engine's rule. */
static void copy_matrices(struct speed_shape *s, const struct speed_copies *c)
{
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        const struct weight w = weight_of(&s->w[i]);
        const bool fives =
            c->fives && w.ternary && fives_fit(&w) && !(i == W_DOWN && s->makes_zeros);
        s->w[i].fives_bytes = fives ? fives_read_bytes(&w) : 0;
        s->copy_bytes += s->w[i].fives_bytes * s->n_layer;
    }
    s->column_bytes = c->columns && s->makes_zeros ? column_line_bytes(s->w[W_DOWN].rows) : 0;
}

void speed_shape_copy(struct speed_shape *s, const struct speed_copies *c)
{
    const struct weight head = weight_of(&s->head);
    const bool narrow = c->head == SPEED_HEAD_NARROW, screened = c->head == SPEED_HEAD_SCREENED;
    s->head_form = c->head;
    s->head_token_bytes = narrow     ? narrow_bytes(&head)
                          : screened ? screen_token_bytes(&head)
                                     : s->head.bytes;
    s->copy_bytes = narrow ? narrow_bytes(&head) : screened ? screen_bytes(&head) : 0;
    copy_matrices(s, c);
}

void speed_shape_of_model(const struct bnt_model *m, bool fives, struct speed_shape *out)
{
    const struct bnt_model_info *in = &m->info;
    *out = (struct speed_shape){.n_layer = in->n_layer,
                                .n_embd = in->n_embd,
                                .n_ff = in->n_ff,
                                .n_head = in->n_head,
                                .n_head_kv = in->n_head_kv,
                                .head_dim = in->head_dim,
                                .n_vocab = in->n_vocab,
                                .sub_norms = m->arch->sub_norms,
                                .head = matrix_of(&m->head),
                                .embd_bytes = in->tied_head ? 0 : weight_bytes(&m->embd)};
    snprintf(out->name, sizeof out->name, "%.127s", in->name);
    out->makes_zeros = columns_fit(m);
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        out->w[i] = matrix_of(&m->layers[0].w[i]);
    }
    const struct speed_copies copies = {.fives = fives && m->by_fives,
                                        .columns = m->by_columns,
                                        .head = m->screen.rows   ? SPEED_HEAD_SCREENED
                                                : m->narrow.rows ? SPEED_HEAD_NARROW
                                                                 : SPEED_HEAD_PLAIN};
    speed_shape_copy(out, &copies);
}

enum bnt_status speed_shape_named(const char *name, struct speed_shape *out, bool *bf16,
                                  struct bnt_err *err)
{
    static const struct {
        const char *name;
        bool tied, bf16;
        struct speed_shape shape;
    } known[] = {
        {"2b",
         true,
         true,
         {.name = "BitNet b1.58 2B4T",
          .n_layer = 30,
          .n_embd = 2560,
          .n_ff = 6912,
          .n_head = 20,
          .n_head_kv = 5,
          .head_dim = 128,
          .n_vocab = 128256,
          .makes_zeros = true,
          .sub_norms = true}},
        {"3b",
         false,
         false,
         {.name = "bitnet_b1_58-3B",
          .n_layer = 26,
          .n_embd = 3200,
          .n_ff = 8640,
          .n_head = 32,
          .n_head_kv = 32,
          .head_dim = 100,
          .n_vocab = 32002,
          .sub_norms = true}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(known[i].name, name) != 0) {
            continue;
        }
        *out = known[i].shape;
        const uint64_t q = (uint64_t)out->n_head * out->head_dim, embd = out->n_embd,
                       kv = (uint64_t)out->n_head_kv * out->head_dim, ff = out->n_ff;
        const uint64_t dims[N_LAYER_WEIGHTS][2] = {{q, embd},  {kv, embd}, {kv, embd}, {embd, q},
                                                   {ff, embd}, {ff, embd}, {embd, ff}};
        for (int w = 0; w < N_LAYER_WEIGHTS; w++) {
            const uint64_t rows = dims[w][0], cols = dims[w][1];
            out->w[w] = (struct speed_matrix){rows, cols,        rows * ternary_row_bytes(cols),
                                              true, TENSOR_I2_S, 0};
        }
        const uint64_t head_bytes = out->n_vocab * embd * 2;
        out->head = (struct speed_matrix){out->n_vocab, embd, head_bytes, false, TENSOR_F16, 0};
        out->embd_bytes = known[i].tied ? 0 : head_bytes;
        *bf16 = known[i].bf16;
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_USAGE, "no model shape by the name \"%.40s\"", name);
    bnt_err_hint(err, "2b or 3b; the shape of a file is that of -m");
    return BNT_E_USAGE;
}

uint64_t speed_weight_bytes(const struct speed_shape *s)
{
    uint64_t bytes = 0;
    for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
        bytes += s->w[i].bytes;
    }
    return bytes * s->n_layer + s->head.bytes;
}

enum {
    ROWS_PART = 4 /* of which three of values, or less, are read by columns: the engine's rule */
};

bool speed_by_columns(const struct speed_shape *s)
{
    return s->column_bytes > 0 && s->zeros * ROWS_PART >= 1;
}

static double copy_bytes(const struct speed_shape *s)
{
    return (double)act_stride(s->w[W_DOWN].cols) * (double)s->column_bytes;
}

/* Of a matrix that is read by rows, by so many tokens. */
static uint64_t row_bytes_of(const struct speed_matrix *w, uint32_t n_tok)
{
    return n_tok == 1 && w->fives_bytes > 0 ? w->fives_bytes : w->bytes;
}

/* Of `down`, that a single token reads. */
static double down_bytes(const struct speed_shape *s)
{
    return speed_by_columns(s)
               ? (1 - s->zeros) * (double)s->w[W_DOWN].cols * (double)s->column_bytes
               : (double)row_bytes_of(&s->w[W_DOWN], 1);
}

double speed_zeros(const struct speed_shape *s, double left_out_bytes)
{
    const struct speed_matrix *w = &s->w[W_DOWN];
    const double read = (double)w->bytes - left_out_bytes;
    return s->column_bytes > 0 && left_out_bytes > 0
               ? 1 - read / ((double)w->cols * (double)s->column_bytes)
               : 0;
}

uint64_t speed_head_bytes(const struct speed_shape *s)
{
    return s->head_token_bytes > 0 ? s->head_token_bytes : s->head.bytes;
}

uint64_t speed_token_bytes(const struct speed_shape *s)
{
    double layer = down_bytes(s);
    for (int i = 0; i < W_DOWN; i++) {
        layer += (double)row_bytes_of(&s->w[i], 1);
    }
    return s->token_bytes > 0 ? s->token_bytes
                              : (uint64_t)(layer * s->n_layer) + speed_head_bytes(s);
}

uint64_t speed_memory(const struct speed_shape *s, uint32_t n_ctx, uint32_t n_batch)
{
    const uint64_t kv_dim = (uint64_t)s->n_head_kv * s->head_dim,
                   q_dim = (uint64_t)s->n_head * s->head_dim;
    const uint64_t kv = 2 * sizeof(uint16_t) * kv_dim * n_ctx * s->n_layer;
    const uint64_t row = 2ull * s->n_embd + q_dim + 2 * kv_dim + 3ull * s->n_ff;
    const uint64_t copies = speed_by_columns(s) ? (uint64_t)copy_bytes(s) * s->n_layer : 0;
    return speed_weight_bytes(s) + s->copy_bytes + copies + s->embd_bytes + kv +
           row * n_batch * sizeof(float) + (uint64_t)s->n_vocab * sizeof(float);
}

/* ---- predicting ---- */

/* One evaluation of a batch, as far as it is summed. */
struct sum {
    const struct speed_shape *s;
    const struct speed_rates *r;
    const struct speed_machine *m;
    const struct speed_batch *b;
    bool from_memory; /* weights */
    struct speed_time *t;
};

static const struct speed_batch *batch_of(const struct speed_rates *r, uint32_t n_tok)
{
    const struct speed_batch *best = &r->batches[0];
    for (size_t i = 0; i < r->n_batches; i++) {
        best = r->batches[i].n_tok <= n_tok && r->batches[i].n_tok > best->n_tok ? &r->batches[i]
                                                                                 : best;
    }
    return best;
}

/* What threads share as one job. */
struct product {
    double ns, bytes, share; /* of one thread; of the bandwidth */
    double scaling;
    uint64_t rows, macs;
    uint32_t n_tok;
    bool columns, fives;
};

/* Pieces that a job is cut into, by the engine's own rule. */
static double pieces_of(const struct sum *s, const struct product *p)
{
    const struct backend_cpu b = {.base.config.n_threads = s->m->n_threads,
                                  .kernels = s->m->kernels};
    if (p->columns) {
        return ceil(p->bytes / CPU_PIECE_BYTES);
    }
    const bool one = p->n_tok == 1;
    const uint64_t height = p->fives ? FIVES_ROWS : 1;
    const uint64_t n = one ? cpu_slots(p->rows, height) : p->rows;
    const double slot_bytes = (double)(WALK_STREAMS * height) * p->bytes / (double)p->rows;
    const struct cpu_slot_kind kind = {height, (uint64_t)slot_bytes};
    const size_t chunk =
        one ? cpu_slot_chunk(&b, kind, n, p->macs) : cpu_chunk(&b, n, p->macs, p->n_tok);
    return ceil((double)n / (double)chunk);
}

static double product_ns(const struct sum *s, struct product p)
{
    const struct speed_machine *m = s->m;
    const bool alone = m->n_threads == 1 || p.macs < CPU_SERIAL_MACS;
    double compute = p.ns / m->dot_speed;
    if (!alone) {
        const double pieces = pieces_of(s, &p);
        compute *= ceil(pieces / m->n_threads) / pieces / p.scaling;
    }
    const double read = s->from_memory ? p.bytes / (m->gb_per_s * p.share) : 0;
    s->t->jobs += alone || BNT_FAULT(free_jobs) ? 0 : m->job_ns;
    s->t->bytes += s->from_memory ? p.bytes : 0;
    return fmax(compute, read);
}

/* As a session took for them: nothing is to be shared out, and nothing to be waited for. */
static bool add_known_products(struct sum *s)
{
    const size_t i = (size_t)(s->b - s->r->batches);
    const double ns = s->m->product_ns[i], most = s->m->unattended_ns[i];
    if (ns > 0) {
        const uint64_t bytes = s->b->n_tok == 1 ? speed_token_bytes(s->s) - speed_head_bytes(s->s)
                                                : speed_weight_bytes(s->s) - s->s->head.bytes;
        s->t->products += most > 0 ? fmin(ns, most) : ns;
        s->t->bytes += s->from_memory ? (double)bytes / s->s->n_layer : 0;
    }
    return ns > 0;
}

/* Matrices [first, last] are one job; gate and up are cut by the same rows. */
static void add_products(struct sum *s, int first, int last)
{
    const bool fives = s->b->n_tok == 1 && s->s->w[first].fives_bytes > 0;
    struct product p = {.n_tok = s->b->n_tok,
                        .share = fives ? s->m->fives_share : s->m->ternary_share,
                        .fives = fives,
                        .scaling = s->m->scaling[s->b - s->r->batches]};
    for (int i = first; i <= last; i++) {
        p.ns += s->b->product_ns[i];
        p.bytes += (double)row_bytes_of(&s->s->w[i], s->b->n_tok);
        p.macs += s->s->w[i].rows * s->s->w[i].cols * s->b->n_tok;
        p.rows += i == W_UP ? 0 : s->s->w[i].rows;
    }
    s->t->products += product_ns(s, p);
}

/* The part of a step over tokens that the thread with most of them does, by the engine's pieces. */
static double longest_share(const struct sum *s)
{
    const uint32_t n = s->b->n_tok, threads = (uint32_t)s->m->n_threads;
    if (threads == 1 || n < SPEED_STEPS_SHARED) {
        return 1;
    }
    const uint32_t chunk = (n + 2 * threads - 1) / (2 * threads), pieces = (n + chunk - 1) / chunk,
                   most = (pieces + threads - 1) / threads * chunk;
    return most < n ? (double)most / n : 1;
}

/* Every thread has sums of its own, which the caller adds up. */
static void add_columns(struct sum *s)
{
    const struct speed_matrix *w = &s->s->w[W_DOWN];
    const double others = s->m->n_threads - 1;
    s->t->products += product_ns(
        s, (struct product){.n_tok = 1,
                            .columns = true,
                            .ns = s->r->columns_ns,
                            .bytes = down_bytes(s->s),
                            .share = s->m->columns_share,
                            .scaling = s->m->scaling[s->b - s->r->batches],
                            .rows = w->rows,
                            .macs = (uint64_t)((1 - s->s->zeros) * (double)(w->rows * w->cols))});
    s->t->exchange +=
        others * (double)w->rows * sizeof(int32_t) * s->m->exchange_ns / s->m->step_speed;
}

static double steps_ns(const struct sum *s)
{
    const double tokens = s->b->norm_ns + s->b->rotate_ns;
    return (tokens * longest_share(s) + s->b->add_ns / s->m->n_threads) / s->m->step_speed;
}

static void add_steps(struct sum *s)
{
    const bool shared = s->m->n_threads > 1 && s->b->n_tok >= SPEED_STEPS_SHARED;
    s->t->jobs += shared ? 5 * s->m->job_ns : 0; /* before q k v, wo, gate and down; rotation */
    s->t->steps += steps_ns(s);
}

/* What one step leaves by rows of weights and the next one takes by tokens, or the other way: x, by
 * both blocks; queries and keys, which come back turned; values; gate; what is quantised for each
 * product; and what the cache holds for the tokens after them. */
static void add_exchange(struct sum *s)
{
    const struct speed_shape *p = s->s;
    const double q = (double)p->n_head * p->head_dim, kv = (double)p->n_head_kv * p->head_dim;
    const double floats = 2.0 * p->n_embd + 2 * (q + kv) + kv + p->n_ff;
    const double codes = 2.0 * p->n_embd + q + p->n_ff, cached = 2 * sizeof(uint16_t) * kv;
    const double n = s->m->n_threads;
    if (s->b->n_tok >= SPEED_STEPS_SHARED) {
        s->t->exchange += (floats * sizeof(float) + codes + cached) * s->b->n_tok *
                          s->m->exchange_ns * (n - 1) / n / n / s->m->step_speed;
    }
}

/* What a session took for a layer without attention, beyond its products: the steps, and what
 * several threads lose by handing rows over between steps and products. */
static bool add_known_steps(struct sum *s)
{
    const size_t i = (size_t)(s->b - s->r->batches);
    const double between = fmax(0, s->m->unattended_ns[i] - s->m->product_ns[i]);
    if (s->m->unattended_ns[i] == 0) {
        return false;
    }
    const double steps = s->m->n_threads > 1 ? fmin(steps_ns(s), between) : between;
    s->t->steps += steps;
    s->t->exchange += between - steps;
    return true;
}

static double attend_ns(const struct speed_attend *a, double seen)
{
    static const double at[SPEED_POINTS] = SPEED_SEEN;
    int i = 0;
    while (i + 2 < SPEED_POINTS && seen > at[i + 1]) {
        i++;
    }
    const double ns = a->ns[i] + (a->ns[i + 1] - a->ns[i]) * (seen - at[i]) / (at[i + 1] - at[i]);
    return fmax(0, ns);
}

static bool attends_alone(const struct sum *s, uint32_t pos)
{
    const uint64_t q_dim = (uint64_t)s->s->n_head * s->s->head_dim;
    const uint64_t macs = (uint64_t)s->b->n_tok * (pos + s->b->n_tok) * q_dim * 2;
    return s->m->n_threads == 1 || macs < CPU_SERIAL_MACS;
}

/* Attention of a batch, by the rates of one thread. Blocks of tokens are pieces of unequal size:
 * when the last one is taken, its thread works on for half of it, on average, while the others have
 * none. */
static double attention_ns(const struct sum *s, uint32_t pos)
{
    const struct speed_batch *b = s->b;
    double all = 0, largest = 0;
    for (uint32_t tok = 0; tok < b->n_tok;) {
        const struct speed_attend *a = tok + b->whole.n_tok <= b->n_tok ? &b->whole : &b->rest;
        const double ns = attend_ns(a, pos + tok + 1);
        all += ns * s->s->n_head_kv;
        largest = fmax(largest, ns);
        tok += a->n_tok;
    }
    const double threads = attends_alone(s, pos) ? 1 : s->m->n_threads;
    const double shared = fmax(largest, all / threads + largest * (1 - 1 / threads) / 2);
    return fmin(all, shared) / s->m->step_speed;
}

static void add_attention(struct sum *s, uint32_t pos)
{
    const double known = s->m->attended_ns[s->b - s->r->batches];
    double ns = attention_ns(s, pos);
    if (known > 0) {
        const double rotation = s->b->rotate_ns * longest_share(s) / s->m->step_speed;
        ns *= known / (rotation + attention_ns(s, 0));
    }
    s->t->attention += ns;
    s->t->jobs += attends_alone(s, pos) || known > 0 ? 0 : s->m->job_ns;
}

static void add_batch(struct sum *s, uint32_t pos)
{
    struct speed_time layer = {0};
    struct speed_time *all = s->t;
    s->t = &layer;
    if (!add_known_products(s)) {
        add_products(s, W_Q, W_V);
        add_products(s, W_O, W_O);
        add_products(s, W_GATE, W_UP);
        if (s->b->n_tok == 1 && speed_by_columns(s->s)) {
            add_columns(s);
        } else {
            add_products(s, W_DOWN, W_DOWN);
        }
        s->t->steps += s->b->act_ns / s->m->n_threads / s->m->step_speed;
    }
    if (!add_known_steps(s)) {
        add_steps(s);
        add_exchange(s);
    }
    add_attention(s, pos);
    s->t = all;
    all->products += layer.products * s->s->n_layer;
    all->steps += layer.steps * s->s->n_layer + s->b->embed_ns / s->m->step_speed;
    all->attention += layer.attention * s->s->n_layer;
    all->exchange += layer.exchange * s->s->n_layer;
    all->jobs += layer.jobs * s->s->n_layer;
    all->bytes += layer.bytes * s->s->n_layer;
}

static double head_ns(const struct sum *s)
{
    const struct speed_matrix *head = &s->s->head;
    if (s->m->head_ns > 0) {
        s->t->bytes += s->from_memory ? (double)speed_head_bytes(s->s) : 0;
        return s->m->head_ns;
    }
    return product_ns(s, (struct product){.ns = s->r->head_ns,
                                          .n_tok = 1,
                                          .bytes = (double)speed_head_bytes(s->s),
                                          .share = s->m->head_share,
                                          .scaling = 1,
                                          .rows = head->rows,
                                          .macs = head->rows * head->cols});
}

void speed_predict(const struct speed_shape *s, const struct speed_rates *r,
                   const struct speed_machine *m, struct speed_work work, struct speed_time *out)
{
    *out = (struct speed_time){0};
    struct sum sum = {
        .s = s, .r = r, .m = m, .from_memory = speed_weight_bytes(s) > m->cache_bytes, .t = out};
    for (uint32_t done = 0; done < work.n_tok;) {
        const uint32_t left = work.n_tok - done, n = left < work.n_batch ? left : work.n_batch;
        sum.b = batch_of(r, n);
        add_batch(&sum, work.pos + done);
        done += n;
    }
    out->head = head_ns(&sum);
    out->steps += (m->head_chooses ? 0 : r->argmax_ns + r->final_norm_ns) / m->step_speed;
    out->total =
        out->products + out->head + out->attention + out->steps + out->exchange + out->jobs;
}

size_t speed_batch_sizes(const uint32_t *lengths, size_t n, uint32_t n_batch,
                         uint32_t out[SPEED_BATCHES_MAX])
{
    size_t n_out = 0;
    out[n_out++] = 1;
    for (size_t i = 0; i < 2 * n; i++) {
        const uint32_t length = lengths[i / 2];
        const uint32_t size = i % 2 ? length % n_batch : (length < n_batch ? length : n_batch);
        bool seen = size == 0;
        for (size_t j = 0; j < n_out; j++) {
            seen = seen || out[j] == size;
        }
        if (!seen) {
            out[n_out++] = size;
        }
    }
    return n_out;
}
