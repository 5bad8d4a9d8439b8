/* Weights on the device. Ternary ones go up as the kernels of the CPU read them, I2_S 128/32, so
 * nothing is packed again; F32, F16 and BF16 go up as they are. Types whose weights are a scale
 * times -1 to 2 go up as codes, all others dequantised to F32; the CPU multiplies both as floats,
 * too. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/pool.h"
#include "engine/cuda/backend_cuda.h"

enum {
    UPLOAD_ROWS = 256, /* of a dequantised or streamed matrix at a time */
    MAKE_ROWS = 8      /* of them by a thread at a time */
};

void *cuda_take(struct cuda_cursor *c, uint64_t bytes)
{
    void *at = c->base ? c->base + c->used : NULL;
    c->used += (bytes + 255) / 256 * 256;
    return at;
}

/* ---- forms ---- */

static bool as_it_is(const struct weight *w)
{
    return w->ternary || tensor_is_plain(w->type);
}

static enum cuda_float_type float_type_of(enum tensor_type type)
{
    switch (type) {
    case TENSOR_F16:
        return CUDA_F16;
    case TENSOR_BF16:
        return CUDA_BF16;
    case TENSOR_TQ1_0:
    case TENSOR_TQ2_0:
    case TENSOR_IQ1_BN:
    case TENSOR_IQ2_BN:
    case TENSOR_Q1_0:
    case TENSOR_Q2_0:
    case TENSOR_Q2_0_G128:
        return CUDA_CODES;
    default:
        return CUDA_F32;
    }
}

/* The scale s of 64 values that are s * {-1, 0, 1, 2}. Where no value is 2*s, s is their magnitude
 * with the sign that makes the zeros what they are. Written for compilers that take vectors. */
static float scale_of(const float v[CUDA_CODES_SCALED])
{
    int32_t bits[CUDA_CODES_SCALED], half = 0, twice = 0, none = 0; /* bits of such beside `some` */
    uint32_t first = 0;
    while (first < CUDA_CODES_SCALED - 1 && !(fabsf(v[first]) > 0)) {
        first++;
    }
    float some = fabsf(v[first]), out;
    memcpy(bits, v, sizeof bits);
    for (uint32_t i = 0; i < CUDA_CODES_SCALED; i++) {
        float m = fabsf(v[i]);
        int32_t if_half = m + m == some ? bits[i] : 0, if_twice = m == some + some ? bits[i] : 0;
        half |= m < some ? if_half : 0; /* not infinities, which are twice themselves */
        twice |= m > some ? if_twice : 0;
        none |= m > 0 ? 0 : bits[i];
    }
    int32_t sign = half ? bits[first] : twice ? twice : none;
    int32_t scale = ((half ? half : bits[first]) & INT32_MAX) | (sign & INT32_MIN);
    memcpy(&out, &scale, sizeof out);
    return out;
}

/* The codes of 64 values, a byte each. */
static void codes_of(const float v[CUDA_CODES_SCALED], float scale, uint8_t code[CUDA_CODES_SCALED])
{
    int32_t wide[CUDA_CODES_SCALED];
    for (uint32_t i = 0; i < CUDA_CODES_SCALED; i++) {
        int32_t others = v[i] == 2 * scale ? 3 : 1;
        int32_t positive = v[i] == scale ? 2 : others;
        wide[i] = v[i] == -scale ? 0 : positive;
    }
    for (uint32_t i = 0; i < CUDA_CODES_SCALED; i++) {
        code[i] = (uint8_t)wide[i];
    }
    for (uint32_t i = 0; scale == 0 && i < CUDA_CODES_SCALED; i++) { /* zeros of both signs */
        code[i] = !signbit(v[i]) == !signbit(scale) ? 2 : 0;
    }
}

void cuda_pack_codes(const float *v, uint64_t cols, uint8_t *row)
{
    memset(row, 0, cuda_codes_row_bytes(cols));
    for (uint64_t c = 0; c < cols; c += CUDA_CODES_SCALED) {
        uint8_t *piece = row + c / CUDA_CODES_PIECE * CUDA_CODES_BYTES, code[CUDA_CODES_SCALED];
        float scale = scale_of(v + (BNT_FAULT(cuda_codes_scale) ? 0 : c));
        ((float *)(void *)piece)[c % CUDA_CODES_PIECE / CUDA_CODES_SCALED] = scale;
        codes_of(v + c, scale, code);
        for (uint32_t at = 0; at < CUDA_CODES_SCALED; at += 8) {
            uint64_t codes;
            memcpy(&codes, code + at, sizeof codes);
            codes = (codes | codes >> 6) & 0x000f000f000f000f;
            codes = (codes | codes >> 12) & 0x000000ff000000ff;
            *(uint16_t *)(void *)(piece + CUDA_CODES_EIGHT(c + at)) =
                (uint16_t)(codes | codes >> 24);
        }
    }
}

static uint64_t row_bytes_of(const struct weight *w)
{
    return as_it_is(w)                            ? w->row_bytes
           : float_type_of(w->type) == CUDA_CODES ? cuda_codes_row_bytes(w->cols)
                                                  : w->cols * sizeof(float);
}

static void place(struct cuda_cursor *c, const struct weight *w, struct cuda_weight *out)
{
    *out = (struct cuda_weight){.rows = w->rows,
                                .cols = w->cols,
                                .row_bytes = row_bytes_of(w),
                                .ternary = w->ternary,
                                .type = (uint32_t)float_type_of(w->type),
                                .out_scale = w->out_scale};
    out->data = cuda_take(c, out->rows * out->row_bytes);
    out->bias = w->bias ? cuda_take(c, w->rows * sizeof(float)) : NULL;
}

static float *place_vector(struct cuda_cursor *c, const float *v, uint64_t n)
{
    return v ? cuda_take(c, n * sizeof *v) : NULL;
}

uint64_t cuda_weights_layout(struct cuda_weights *to, uint8_t *base)
{
    const struct bnt_model *m = to->model;
    uint32_t q_dim = m->info.n_head * m->info.head_dim;
    struct cuda_cursor c = {.base = base};
    place(&c, &m->embd, &to->embd);
    if (m->info.tied_head) {
        to->head = to->embd;
    } else {
        place(&c, &m->head, &to->head);
    }
    if (to->screened) {
        to->screen_form = cuda_take(&c, screen_bytes(&m->head));
    }
    to->output_norm = place_vector(&c, m->output_norm, m->info.n_embd);
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        const struct layer *from = &m->layers[il];
        struct cuda_layer discarded = {0};
        struct cuda_layer *l = to->layers ? &to->layers[il] : &discarded;
        l->attn_norm = place_vector(&c, from->attn_norm, m->info.n_embd);
        l->attn_sub_norm = place_vector(&c, from->attn_sub_norm, q_dim);
        l->ffn_norm = place_vector(&c, from->ffn_norm, m->info.n_embd);
        l->ffn_sub_norm = place_vector(&c, from->ffn_sub_norm, m->info.n_ff);
        l->q_norm = place_vector(&c, from->q_norm, m->info.head_dim);
        l->k_norm = place_vector(&c, from->k_norm, m->info.head_dim);
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            place(&c, &from->w[i], &l->w[i]);
        }
    }
    return c.used;
}

static enum bnt_status put(const struct backend_cuda *b, void *dst, const void *src, uint64_t bytes,
                           struct bnt_err *err)
{
    enum bnt_status st = bnt_err_interrupted(b->base.config.interrupted, err);
    return st == BNT_OK && dst ? cuda_error(b, b->table->upload(b->context, dst, src, bytes), err)
                               : st;
}

/* Rows [r, end) in the kernels' form: views of the model, or read into `read`; rows that are made
 * of such, and a row of floats for each thread that does. */
struct upload_space {
    struct cpu_pool *pool;
    uint8_t *read, *scratch, *made;
    float *floats;
};

struct make_task {
    const struct weight *w;
    const struct cuda_weight *to;
    const struct upload_space *s;
    const uint8_t *from;
};

/* Rows [begin, end) of `from` as they go up. */
static void make_rows(void *ctx, size_t begin, size_t end, int thread)
{
    const struct make_task *t = ctx;
    const struct weight *w = t->w;
    float *floats = t->s->floats + (size_t)thread * w->cols;
    for (size_t i = begin; i < end; i++) {
        const uint8_t *from = t->from + i * w->row_bytes;
        uint8_t *row = t->s->made + i * t->to->row_bytes;
        if (t->to->type == CUDA_CODES) {
            dequantize_row(w->type, from, w->cols, floats);
            cuda_pack_codes(floats, w->cols, row);
        } else {
            dequantize_row(w->type, from, w->cols, (float *)(void *)row);
        }
    }
}

static enum bnt_status put_rows(const struct backend_cuda *b, struct weight *w,
                                const struct cuda_weight *to, uint64_t r,
                                const struct upload_space *s, struct bnt_err *err)
{
    uint64_t end = r + UPLOAD_ROWS < w->rows ? r + UPLOAD_ROWS : w->rows;
    const uint8_t *from = w->data ? w->data + r * w->row_bytes : s->read;
    enum bnt_status st = BNT_OK;
    if (!w->data) {
        st = weight_load(b->base.model, w, r, end, s->read, s->scratch, err);
    }
    if (st == BNT_OK && !as_it_is(w)) {
        struct make_task t = {w, to, s, from};
        cpu_pool_run(s->pool, (size_t)(end - r), MAKE_ROWS, make_rows, &t);
        from = s->made;
    }
    return st == BNT_OK ? put(b, to->data + r * to->row_bytes, from, (end - r) * to->row_bytes, err)
                        : st;
}

/* *pool is NULL until a weight needs it: most models have none that does. */
static enum bnt_status put_weight(const struct backend_cuda *b, struct cpu_pool **pool,
                                  const struct weight *source, struct cuda_weight *to,
                                  struct bnt_err *err)
{
    struct weight w = *source; /* a streamed one learns its scale here */
    bool mapped = w.data && as_it_is(&w);
    enum bnt_status st = BNT_OK;
    if (!mapped && !*pool) {
        st = cpu_pool_new_shared(pool, err);
    }
    if (mapped) {
        st = put(b, to->data, w.data, w.rows * w.row_bytes, err);
    } else if (st == BNT_OK) {
        size_t row_floats = (size_t)w.cols * sizeof(float);
        struct upload_space s = {.pool = *pool,
                                 .read = malloc((size_t)(UPLOAD_ROWS * w.row_bytes)),
                                 .scratch = malloc((size_t)weight_scratch_bytes(&w) + 1),
                                 .made = malloc((size_t)(UPLOAD_ROWS * to->row_bytes)),
                                 .floats = calloc((size_t)cpu_pool_n_threads(*pool), row_floats)};
        if (!s.read || !s.scratch || !s.made || !s.floats) {
            st = bnt_err_nomem(err, "rows on their way to the device", UPLOAD_ROWS * w.row_bytes);
        }
        for (uint64_t r = 0; st == BNT_OK && r < w.rows; r += UPLOAD_ROWS) {
            st = put_rows(b, &w, to, r, &s, err);
        }
        free(s.read);
        free(s.scratch);
        free(s.made);
        free(s.floats);
    }
    to->scale = w.scale;
    if (st == BNT_OK && w.bias) {
        st = put(b, to->bias, w.bias, w.rows * sizeof(float), err);
    }
    return st;
}

static enum bnt_status put_layer(const struct backend_cuda *b, struct cpu_pool **pool,
                                 struct cuda_layer *to, uint32_t il, struct bnt_err *err)
{
    const struct bnt_model *m = b->base.model;
    const struct layer *l = &m->layers[il];
    const struct {
        float *dst;
        const float *src;
        uint64_t n;
    } norms[] = {{to->attn_norm, l->attn_norm, m->info.n_embd},
                 {to->attn_sub_norm, l->attn_sub_norm, b->q_dim},
                 {to->ffn_norm, l->ffn_norm, m->info.n_embd},
                 {to->ffn_sub_norm, l->ffn_sub_norm, m->info.n_ff},
                 {to->q_norm, l->q_norm, m->info.head_dim},
                 {to->k_norm, l->k_norm, m->info.head_dim}};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < sizeof norms / sizeof norms[0]; i++) {
        st = put(b, norms[i].dst, norms[i].src, norms[i].n * sizeof(float), err);
    }
    for (int i = 0; st == BNT_OK && i < N_LAYER_WEIGHTS; i++) {
        st = put_weight(b, pool, &l->w[i], &to->w[i], err);
    }
    return st;
}

/* Made by the host, whose bits are the same everywhere. */
enum bnt_status cuda_rotations_upload(struct backend_cuda *b, struct bnt_err *err)
{
    const struct bnt_model *m = b->base.model;
    uint64_t n = (uint64_t)b->base.config.n_ctx * m->rope.n_rot;
    float *cs = malloc((size_t)n * sizeof *cs);
    if (!cs) {
        return bnt_err_nomem(err, "rotations", n * sizeof *cs);
    }
    for (uint32_t pos = 0; pos < b->base.config.n_ctx; pos++) {
        rope_at(&m->rope, pos, cs + (size_t)pos * m->rope.n_rot);
    }
    enum bnt_status st = put(b, b->s.cs, cs, n * sizeof *cs, err);
    free(cs);
    return st;
}

/* The small copy of the head goes up as it is. */
static enum bnt_status put_screen(const struct backend_cuda *b, const struct cuda_weights *to,
                                  struct bnt_err *err)
{
    const struct bnt_model *m = b->base.model;
    return put(b, to->screen_form, m->screen_form.data, screen_bytes(&m->head), err);
}

static enum bnt_status put_all(const struct backend_cuda *b, struct cpu_pool **pool,
                               struct cuda_weights *to, struct bnt_err *err)
{
    const struct bnt_model *m = b->base.model;
    enum bnt_status st = put_weight(b, pool, &m->embd, &to->embd, err);
    if (st == BNT_OK && !m->info.tied_head) {
        st = put_weight(b, pool, &m->head, &to->head, err);
    } else if (st == BNT_OK) {
        to->head = to->embd;
    }
    if (st == BNT_OK && to->screened) {
        st = put_screen(b, to, err);
    }
    if (st == BNT_OK) {
        st = put(b, to->output_norm, m->output_norm, m->info.n_embd * sizeof(float), err);
    }
    for (uint32_t il = 0; st == BNT_OK && il < m->info.n_layer; il++) {
        st = put_layer(b, pool, &to->layers[il], il, err);
    }
    return st;
}

/* ---- sharing ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct cuda_weights *all;

static void take_down(struct cuda_weights *w)
{
    if (w->context) {
        w->table->close(w->context);
    }
    free(w->layers);
    free(w);
}

/* Under the lock. */
static struct cuda_weights *find(const struct backend_cuda *b)
{
    struct cuda_weights *w = all;
    while (w && (w->model != b->base.model || w->table != b->table ||
                 w->index != b->options.index || BNT_FAULT(cuda_weights_twice))) {
        w = w->next;
    }
    return w;
}

/* A context of their own and memory in it; copies go by the session's. */
static enum bnt_status put_up(const struct backend_cuda *b, struct cuda_weights *w,
                              struct bnt_err *err)
{
    uint64_t n_layer = b->base.model->info.n_layer;
    void *memory = NULL;
    w->layers = calloc((size_t)n_layer, sizeof *w->layers);
    if (!w->layers) {
        return bnt_err_nomem(err, "layers", n_layer * sizeof *w->layers);
    }
    enum cuda_code code = w->table->open(w->index, 0, &w->context);
    if (code == CUDA_OK) {
        code = w->table->alloc(w->context, cuda_weights_layout(w, NULL), &memory);
    }
    if (code != CUDA_OK) {
        return cuda_error_in(b, w->context, code, err);
    }
    cuda_weights_layout(w, memory);
    struct cpu_pool *pool = NULL;
    enum bnt_status st = put_all(b, &pool, w, err);
    cpu_pool_free(pool);
    return st;
}

static enum bnt_status make(const struct backend_cuda *b, bool screened, struct cuda_weights **out,
                            struct bnt_err *err)
{
    struct cuda_weights *w = calloc(1, sizeof *w);
    if (!w) {
        return bnt_err_nomem(err, "weights of a model", sizeof *w);
    }
    w->model = b->base.model;
    w->table = b->table;
    w->index = b->options.index;
    w->screened = screened;
    enum bnt_status st = put_up(b, w, err);
    if (st != BNT_OK) {
        take_down(w);
        return st;
    }
    w->next = all;
    all = w;
    *out = w;
    return BNT_OK;
}

/* Who comes while they are put up waits for them. */
enum bnt_status cuda_weights_take(struct backend_cuda *b, struct bnt_err *err)
{
    struct cuda_memory need = cuda_memory_need(b->base.model, &b->base.config);
    pthread_mutex_lock(&lock);
    struct cuda_weights *w = find(b);
    need.weights = w ? 0 : need.weights;
    bool screened = need.screen > 0 && cuda_check_memory(b, &need, NULL) == BNT_OK;
    if (!w && !screened) { /* the copy of the head is left out first */
        need.weights -= need.screen;
    }
    enum bnt_status st = cuda_check_memory(b, &need, err);
    if (st == BNT_OK && !w) {
        st = make(b, screened, &w, err);
    }
    if (st == BNT_OK) {
        w->n_sessions++;
        b->w = w;
        b->base.screened = w->screened;
    }
    pthread_mutex_unlock(&lock);
    return st;
}

void cuda_weights_release(struct cuda_weights *w)
{
    pthread_mutex_lock(&lock);
    if (w && --w->n_sessions == 0) {
        struct cuda_weights **at = &all;
        while (*at != w) {
            at = &(*at)->next;
        }
        *at = w->next;
        take_down(w);
    }
    pthread_mutex_unlock(&lock);
}
