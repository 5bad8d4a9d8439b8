/* Everything that is timed and is no product: the steps between them, and the quantisers of
 * weights. Their data is small enough for a cache, as it is in a layer. */
#include <stdlib.h>
#include <string.h>

#include "engine/op_time_impl.h"
#include "engine/quantize.h"

/* ---- the steps of a layer ---- */

static void quantize_tokens(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    const struct op_run *r = ctx;
    for (size_t t = begin; t < end; t++) {
        r->t->kernels->quantize_act(r->x + t * r->spec.cols, r->spec.cols,
                                    r->act.q + t * r->act.stride, &r->act.scale[t], &r->act.sum[t]);
    }
}

static void run_quantize(struct op_run *r)
{
    op_spread(r, r->spec.n_tok, quantize_tokens);
}

static void run_norm(struct op_run *r)
{
    for (uint32_t t = 0; t < r->spec.n_tok; t++) {
        r->t->kernels->rmsnorm(r->x + t * r->spec.cols, r->z, 1e-5f, r->spec.cols,
                               r->y + t * r->spec.cols);
    }
}

static void run_rope(struct op_run *r)
{
    uint64_t n = r->spec.rows * r->spec.cols;
    for (uint32_t t = 0; t < r->spec.n_tok; t++) {
        r->t->kernels->rope(r->x + t * n, (uint32_t)r->spec.rows, (uint32_t)r->spec.cols,
                            r->rope.n_rot, ROPE_NEOX, r->z);
    }
}

static void run_angles(struct op_run *r)
{
    for (uint32_t t = 0; t < r->spec.n_tok; t++) {
        rope_at(&r->rope, t, r->z);
    }
}

static void run_store(struct op_run *r)
{
    r->t->kernels->store_f16(r->x, r->spec.n_tok * r->spec.cols, (uint16_t *)(void *)r->bytes);
}

/* The gate is put back each time: it would leave the range of floats soon. */
static void run_act_mul(struct op_run *r)
{
    uint64_t n = r->spec.n_tok * r->spec.cols;
    memcpy(r->y, r->x, n * sizeof *r->y);
    r->t->kernels->act_mul(ACT_RELU2, r->y, r->z, n);
}

static void run_add(struct op_run *r)
{
    r->t->kernels->add(r->y, r->x, r->spec.n_tok * r->spec.cols);
}

static uint32_t block_of(const struct op_spec *s)
{
    return s->block > 0 ? s->block : 1;
}

/* Positions that the last token of a block sees. */
static uint64_t seen_of(const struct op_spec *s)
{
    return s->n_tok + block_of(s) - 1;
}

static void run_attend(struct op_run *r)
{
    uint64_t n = seen_of(&r->spec) * r->spec.cols;
    const struct attend_args args = {.q = r->x,
                                     .n_tok = block_of(&r->spec),
                                     .tok_stride = r->spec.rows * r->spec.cols,
                                     .n_head_group = (uint32_t)r->spec.rows,
                                     .head_dim = (uint32_t)r->spec.cols,
                                     .k = r->bytes,
                                     .v = r->bytes + n * sizeof(uint16_t),
                                     .kv_stride = r->spec.cols,
                                     .kv_f16 = true,
                                     .n_kv = r->spec.n_tok,
                                     .n_kv_step = 1,
                                     .scale = 0.1f,
                                     .scores = r->z,
                                     .out = r->y};
    r->t->kernels->attend(&args);
}

static void run_argmax(struct op_run *r)
{
    int32_t id;
    (void)bnt_sampler_next(r->sampler, r->x, &id, NULL); /* its logits are finite */
}

static void nothing(void *ctx, size_t begin, size_t end, int thread)
{
    (void)ctx;
    (void)begin;
    (void)end;
    (void)thread;
}

static void run_job(struct op_run *r)
{
    cpu_pool_run(r->t->pool, (size_t)r->spec.rows, 1, nothing, r);
}

/* ---- quantisers of weights ---- */

static void run_absmean(struct op_run *r)
{
    struct absmean a = {0};
    uint64_t n = r->spec.rows * r->spec.cols;
    absmean_add(&a, r->x, n);
    absmean_codes(absmean_scale(&a), r->x, n, r->codes);
}

static void run_pack(struct op_run *r)
{
    ternary_pack(r->codes, r->spec.rows, r->spec.cols, r->bytes);
}

static enum bnt_status encode_ternary(struct op_run *r, struct bnt_err *err)
{
    const struct ternary_source shape = {.type = r->spec.type,
                                         .size = r->n_bytes,
                                         .rows = r->spec.rows,
                                         .cols = r->spec.cols,
                                         .layout = I2S_X86};
    return ternary_encode(&shape, r->codes, 1, r->bytes, err);
}

static void run_encode_ternary(struct op_run *r)
{
    (void)encode_ternary(r, NULL); /* it could, when it was prepared */
}

static void run_encode_floats(struct op_run *r)
{
    for (uint64_t row = 0; row < r->spec.rows; row++) {
        quantize_row(r->spec.type, r->x + row * r->spec.cols, r->spec.cols,
                     r->bytes + row * r->row_bytes);
    }
}

static enum bnt_status prepare_encode(struct op_run *r, struct bnt_err *err)
{
    const struct op_spec *s = &r->spec;
    const struct tensor_type_info *info = tensor_type_info(s->type);
    const uint64_t ne[4] = {s->cols, s->rows, 1, 1}, n = s->rows * s->cols;
    uint64_t bytes = 0;
    bool can = info && tensor_size(s->type, ne, &bytes) &&
               (info->ternary || (quantize_row_can(s->type) && s->cols % info->block_weights == 0));
    if (!can) {
        return bnt_err_set(err, BNT_E_USAGE, "%s does not take %llu x %llu weights",
                           info ? info->name : "this type", (unsigned long long)s->rows,
                           (unsigned long long)s->cols);
    }
    r->row_bytes = info->ternary ? 0 : tensor_row_bytes(s->type, s->cols);
    r->run = info->ternary ? run_encode_ternary : run_encode_floats;
    r->cost = (struct op_time){.count = n, .bytes = bytes + (info->ternary ? n : 4 * n)};
    enum bnt_status st =
        op_take(r,
                &(struct op_needs){
                    .x = info->ternary ? 0 : n, .codes = info->ternary ? n : 0, .bytes = bytes},
                err);
    return st == BNT_OK && info->ternary ? encode_ternary(r, err) : st;
}

/* ---- preparing ---- */

static enum bnt_status make_rope(struct op_run *r, struct bnt_err *err)
{
    uint32_t n_rot = (uint32_t)r->spec.cols / 2 * 2;
    r->rope = (struct rope){.n_rot = n_rot,
                            .theta = 10000,
                            .attn_scale = 1,
                            .freq = malloc((n_rot / 2 + 1) * sizeof(double))};
    if (!r->rope.freq) {
        return bnt_err_nomem(err, "angles", n_rot);
    }
    for (uint32_t i = 0; i < n_rot / 2; i++) {
        r->rope.freq[i] = 1.0 / (1 + i);
    }
    rope_at(&r->rope, 7, r->z);
    return BNT_OK;
}

/* What an op takes, and what it moves; elements count but where they do not. */
static void describe(const struct op_run *r, struct op_needs *n, struct op_time *cost)
{
    const struct op_spec *s = &r->spec;
    const uint64_t row = s->n_tok * s->cols, matrix = s->rows * s->cols;
    *cost = (struct op_time){.count = row, .bytes = row * 2 * sizeof(float)};
    switch (s->what) {
    case OP_QUANTIZE:
        *n = (struct op_needs){.x = row, .act_cols = s->cols};
        cost->bytes = row * sizeof(float) + s->n_tok * act_stride(s->cols);
        break;
    case OP_ROPE:
        *n = (struct op_needs){.x = s->n_tok * matrix, .z = s->cols};
        *cost = (struct op_time){.count = s->n_tok * matrix, .bytes = s->n_tok * matrix * 8};
        break;
    case OP_STORE:
        *n = (struct op_needs){.x = row, .bytes = row * sizeof(uint16_t)};
        cost->bytes = row * (sizeof(float) + sizeof(uint16_t));
        break;
    case OP_ATTEND:
        *n = (struct op_needs){.x = matrix * block_of(s),
                               .y = matrix * block_of(s),
                               .z = block_of(s) * s->rows * seen_of(s),
                               .bytes = 4 * seen_of(s) * s->cols};
        *cost = (struct op_time){.count = 2 * block_of(s) * s->rows * row, .bytes = n->bytes};
        break;
    case OP_ARGMAX:
        *n = (struct op_needs){.x = s->rows};
        *cost = (struct op_time){.count = s->rows, .bytes = s->rows * sizeof(float)};
        break;
    case OP_ABSMEAN:
        *n = (struct op_needs){.x = matrix, .codes = matrix};
        *cost = (struct op_time){.count = matrix, .bytes = matrix * 9}; /* floats twice */
        break;
    case OP_PACK:
        *n = (struct op_needs){.codes = matrix, .bytes = s->rows * ternary_row_bytes(s->cols)};
        *cost = (struct op_time){.count = matrix, .bytes = matrix + n->bytes};
        break;
    default:
        *n = (struct op_needs){.x = row, .y = row, .z = row > s->cols ? row : s->cols};
        break;
    }
}

enum bnt_status op_small_prepare(struct op_run *r, struct bnt_err *err)
{
    static void (*const runs[OP_WHATS])(struct op_run *) = {
        [OP_QUANTIZE] = run_quantize, [OP_NORM] = run_norm,       [OP_ROPE] = run_rope,
        [OP_ANGLES] = run_angles,     [OP_STORE] = run_store,     [OP_ACT_MUL] = run_act_mul,
        [OP_ADD] = run_add,           [OP_ATTEND] = run_attend,   [OP_ARGMAX] = run_argmax,
        [OP_JOB] = run_job,           [OP_ABSMEAN] = run_absmean, [OP_PACK] = run_pack};
    if (r->spec.what == OP_ENCODE) {
        return prepare_encode(r, err);
    }
    struct op_needs needs;
    describe(r, &needs, &r->cost);
    r->run = runs[r->spec.what];
    enum bnt_status st = op_take(r, &needs, err);
    if (st == BNT_OK && (r->spec.what == OP_ROPE || r->spec.what == OP_ANGLES)) {
        st = make_rope(r, err);
    }
    if (st == BNT_OK && r->spec.what == OP_ARGMAX) {
        struct bnt_sampler_params greedy = bnt_sampler_defaults();
        st = bnt_sampler_new(&greedy, (int32_t)r->spec.rows, &r->sampler, err);
    }
    return st;
}
