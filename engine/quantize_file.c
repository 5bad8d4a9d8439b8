#include "engine/quantize_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/file.h"
#include "engine/arch.h"
#include "engine/bnt_infer.h"
#include "engine/model.h"
#include "engine/tl_tiles.h"

/* A file as a source of rows. `which` is the tensor's index. A ternary tensor is held whole while
 * it is read: its rows do not lie on their own. */
struct gguf_source {
    struct gguf *g;
    enum i2s_layout layout;
    const char *const *tiles; /* n_tiles that the user says of TL1 and TL2 weights here */
    size_t n_tiles;
    struct recode_source source;
    size_t held; /* which, SIZE_MAX: none */
    uint8_t *bytes;
    float scale; /* of what is held; 0: not known */
};

static enum bnt_status read_floats(void *ctx, size_t which, uint64_t row0, uint64_t n, float *dst,
                                   struct bnt_err *err)
{
    const struct gguf_source *s = ctx;
    const struct gguf_tensor *t = &s->g->tensors[which];
    const uint64_t together = tensor_type_info((uint32_t)t->type)->rows_together, cols = t->ne[0];
    const uint64_t row_bytes = t->size / (t->ne[1] * t->ne[2] * t->ne[3]);
    if (tensor_unit_bytes(t->type, cols) == 0) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: %.*s is %s, which has no rows of numbers",
                           s->g->path, (int)t->name.len, t->name.data,
                           tensor_type_name((uint32_t)t->type));
    }
    uint8_t *raw = malloc((size_t)(n * row_bytes));
    enum bnt_status st = raw ? gguf_tensor_read(s->g, t, row0 * row_bytes, n * row_bytes, raw, err)
                             : bnt_err_nomem(err, "rows", n * row_bytes);
    for (uint64_t r = 0; st == BNT_OK && r < n; r += together) {
        dequantize_unit(t->type, raw + r * row_bytes, cols, dst + r * cols);
    }
    free(raw);
    return st;
}

static enum bnt_status hold(struct gguf_source *s, size_t which, struct bnt_err *err)
{
    const struct gguf_tensor *t = &s->g->tensors[which];
    if (s->held == which) {
        return BNT_OK;
    }
    free(s->bytes);
    s->held = SIZE_MAX;
    s->scale = 0;
    s->bytes = malloc((size_t)t->size);
    enum bnt_status st = s->bytes ? gguf_tensor_read(s->g, t, 0, t->size, s->bytes, err)
                                  : bnt_err_nomem(err, "a tensor", t->size);
    s->held = st == BNT_OK ? which : SIZE_MAX;
    return st;
}

static enum bnt_status read_codes(void *ctx, size_t which, uint64_t row0, uint64_t n, int8_t *dst,
                                  float *scale, struct bnt_err *err)
{
    struct gguf_source *s = ctx;
    const struct gguf_tensor *t = &s->g->tensors[which];
    enum bnt_status st = hold(s, which, err);
    struct ternary_source src = {.type = t->type,
                                 .data = s->bytes,
                                 .size = t->size,
                                 .rows = t->ne[1],
                                 .cols = t->ne[0],
                                 .layout = s->layout,
                                 .scale = s->scale};
    tl_tiles_of_tensor(s->g, t, s->tiles, s->n_tiles, &src.tiles);
    if (st == BNT_OK && (st = ternary_decode(&src, row0, row0 + n, dst, scale, err)) != BNT_OK) {
        bnt_err_context(err, "%s: %.*s", s->g->path, (int)t->name.len, t->name.data);
    }
    s->scale = st == BNT_OK ? *scale : s->scale;
    return st;
}

/* Which of the packings that share the type's number the file has. */
static enum bnt_status find_layout(struct gguf_source *s, const struct bnt_quantize_options *o,
                                   struct bnt_err *err)
{
    if (!gguf_has_type(s->g, TENSOR_I2_S)) {
        return BNT_OK;
    }
    const struct bnt_session_options so = {.n_ctx = 64};
    const struct bnt_model_options mo = {.session = &so,
                                         .i2s_layout = o->i2s_layout,
                                         .stream_weights = true,
                                         .warn = o->warn,
                                         .warn_ctx = o->warn_ctx};
    struct bnt_model *model = NULL;
    enum bnt_status st = bnt_model_open(s->g->path, &mo, &model, err);
    if (st == BNT_OK) {
        st = i2s_layout_parse(bnt_model_info(model)->i2s_layout, &s->layout, err);
    }
    bnt_model_close(model);
    return st;
}

/* ---- what becomes of the tensors ---- */

static enum bnt_status check_rounded(const struct gguf_source *s, const struct gguf_tensor *t,
                                     bool force, struct bnt_err *err)
{
    if (force || tensor_is_plain(t->type) || tensor_type_info((uint32_t)t->type)->ternary) {
        return BNT_OK;
    }
    bnt_err_hint(err, "start from the F16, BF16 or F32 file; --force rounds a second time");
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "%s: %.*s is %s: it was rounded already", s->g->path,
                       (int)t->name.len, t->name.data, tensor_type_name((uint32_t)t->type));
}

/* The ".scale" tensor beside a linear one, as float32. */
static enum bnt_status read_scale(struct gguf_source *s, struct mwrite_tensor *t,
                                  struct bnt_err *err)
{
    char name[GGUF_MAX_NAME_BYTES + 8];
    snprintf(name, sizeof name, "%.*s.scale", (int)(strlen(t->name) - strlen(".weight")), t->name);
    const struct gguf_tensor *scale = gguf_find_tensor(s->g, name);
    if (!scale) {
        return BNT_OK;
    }
    if (!tensor_is_plain(scale->type) || scale->ne[0] != 1 || scale->ne[1] != 1) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS, "%s: %s is no single number", s->g->path,
                         name);
    }
    t->has_scale = true;
    return read_floats(s, (size_t)(scale - s->g->tensors), 0, 1, &t->scale, err);
}

static enum bnt_status add_matrix(struct mwrite *m, struct gguf_source *s, size_t which,
                                  enum tensor_role role, const struct bnt_quantize_options *o,
                                  struct bnt_err *err)
{
    const struct gguf_tensor *t = &s->g->tensors[which];
    struct mwrite_tensor to = {.linear = role == ROLE_LINEAR,
                               .item = {.from = &s->source,
                                        .which = which,
                                        .rows = t->ne[1] * t->ne[2] * t->ne[3],
                                        .cols = t->ne[0]}};
    to.item.ternary = to.linear && tensor_type_info((uint32_t)t->type)->ternary;
    to.item.to = to.linear ? o->type : o->embedding->type;
    gplan_name(to.name, t->name);
    enum bnt_status st = check_rounded(s, t, o->force, err);
    if (st == BNT_OK && to.linear) {
        st = read_scale(s, &to, err);
    }
    return st == BNT_OK ? mwrite_add(m, &to, err) : st;
}

static enum bnt_status add_tensors(struct mwrite *m, struct gguf_source *s,
                                   const struct bnt_quantize_options *o, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < s->g->n_tensors; i++) {
        const struct gguf_tensor *t = &s->g->tensors[i];
        enum tensor_role role = tensor_role(t->name);
        if (role == ROLE_LINEAR || (role == ROLE_EMBEDDING && o->embedding)) {
            st = add_matrix(m, s, i, role, o, err);
        } else if (role != ROLE_SCALE) { /* those go with their matrix */
            struct mwrite_tensor copy = {.copy = t};
            gplan_name(copy.name, t->name);
            st = mwrite_add(m, &copy, err);
        }
    }
    return st;
}

static enum bnt_status put_keys(struct mwrite *m, const struct gguf *g, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    m->plan.alignment = (uint32_t)g->alignment;
    for (uint64_t i = 0; st == BNT_OK && i < g->n_kv; i++) {
        st = gplan_put_copy(&m->plan, g, &g->kv[i], err);
    }
    if (st == BNT_OK && gplan_find(&m->plan, I2S_LAYOUT_KEY)) {
        st = gplan_put_str(&m->plan, I2S_LAYOUT_KEY, i2s_layout_name(I2S_X86), err);
    }
    return st == BNT_OK ? gplan_put_u32(&m->plan, "general.quantization_version", 2, err) : st;
}

/* ---- decisions ---- */

enum bnt_status quantize_check_trained(const struct mwrite *m, const char *what, const char *arch,
                                       bool force, struct bnt_err *err)
{
    const struct arch *family = arch_find(arch, strlen(arch));
    bool ternary = tensor_type_info((uint32_t)m->type)->ternary;
    if (force || !ternary || (family && family->sub_norms) || m->n_were_ternary == m->n_linear ||
        BNT_FAULT(ternarise_any)) {
        return BNT_OK;
    }
    bnt_err_hint(err, "q8_0, q6_k and q4_0 keep what it says; --force ternarises it all the same");
    return bnt_err_set(
        err, BNT_E_UNSUPPORTED,
        "%s was not trained for ternary weights: a %s whose weights have many sizes (%zu of %zu "
        "matrices are ternary); in %s it would say nothing sensible",
        what, arch, m->n_were_ternary, m->n_linear, tensor_type_info((uint32_t)m->type)->name);
}

static enum bnt_status check_paths(const char *from, const char *to, struct bnt_err *err)
{
    if (bnt_same_file(from, to)) {
        bnt_err_hint(err, "name another file to write");
        return bnt_err_set(err, BNT_E_USAGE, "%s is the file that is read", to);
    }
    return BNT_OK;
}

static enum bnt_status check_type(const struct bnt_quantize_options *o, struct bnt_err *err)
{
    const struct tensor_type_info *type = tensor_type_info((uint32_t)o->type);
    bool can = type->ternary || quantize_row_can(type->type);
    bool embedding = !o->embedding || quantize_row_can(o->embedding->type);
    return can && embedding
               ? BNT_OK
               : bnt_err_set(err, BNT_E_UNSUPPORTED, "no weights of type %s can be written",
                             can ? o->embedding->name : type->name);
}

static enum bnt_status architecture(const struct gguf *g, char out[64], struct bnt_err *err)
{
    struct gguf_str arch = {"", 0};
    if (!gguf_get_str(g, "general.architecture", &arch) || arch.len >= 64) {
        return gguf_fail(err, GGUF_FAULT_MISSING_METADATA, "%s: no general.architecture", g->path);
    }
    snprintf(out, 64, "%.*s", (int)arch.len, arch.data);
    return BNT_OK;
}

static enum bnt_status run(struct mwrite *m, struct gguf_source *s, const char *to,
                           const struct bnt_quantize_options *o, struct mwrite_report *out,
                           struct bnt_err *err)
{
    char arch[64];
    enum bnt_status st = architecture(s->g, arch, err);
    if (st == BNT_OK) {
        st = find_layout(s, o, err);
    }
    if (st == BNT_OK) {
        st = add_tensors(m, s, o, err);
    }
    if (st == BNT_OK) {
        st = mwrite_survey(m, err);
    }
    if (st == BNT_OK) {
        st = quantize_check_trained(m, s->g->path, arch, o->force, err);
    }
    if (st == BNT_OK) {
        st = put_keys(m, s->g, err);
    }
    return st == BNT_OK ? mwrite_run(m, to, out, err) : st;
}

enum bnt_status bnt_quantize(const char *from, const char *to, const struct bnt_quantize_options *o,
                             struct mwrite_report *out, struct bnt_err *err)
{
    struct mwrite m;
    struct gguf_source s = {.held = SIZE_MAX,
                            .source = {.floats = read_floats, .codes = read_codes, .ctx = &s}};
    enum bnt_status st = check_paths(from, to, err);
    if (st == BNT_OK) {
        st = check_type(o, err);
    }
    if (st == BNT_OK) {
        st = gguf_open(from, GGUF_MODE_STREAM, &s.g, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    mwrite_init(&m, o->type);
    m.source = s.g;
    /* Where both are tiled, the user says those of the file that is written. */
    s.tiles = o->tiles;
    s.n_tiles = o->type == TENSOR_TL1 || o->type == TENSOR_TL2 ? 0 : o->n_tiles;
    m.tiles = o->tiles;
    m.n_tiles = o->n_tiles;
    m.half_scales = o->half_scales;
    m.interrupted = o->interrupted;
    m.progress = o->progress;
    m.ctx = o->ctx;
    st = run(&m, &s, to, o, out, err);
    mwrite_release(&m);
    gguf_close(s.g);
    free(s.bytes);
    return st;
}
