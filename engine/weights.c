/* Weights: from tensors of the file to the forms that kernels read. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fault.h"
#include "engine/model.h"
#include "engine/tl_tiles.h"

/* Rows decoded at a time when a packing is converted: bounds the scratch. Tiled packings span many
 * rows. */
enum { PACK_ROWS = 64 };

static enum bnt_status check_shape(const struct bnt_model *m, const struct gguf_tensor *t,
                                   uint64_t rows, uint64_t cols, struct bnt_err *err)
{
    if (t->ne[0] == cols && t->ne[1] == rows && t->ne[2] == 1 && t->ne[3] == 1) {
        return BNT_OK;
    }
    return gguf_fail(
        err, GGUF_FAULT_DIMENSIONS,
        "%s: tensor %.*s is %llu x %llu x %llu x %llu, the architecture derives %llu x %llu",
        m->gguf->path, (int)t->name.len, t->name.data, (unsigned long long)t->ne[0],
        (unsigned long long)t->ne[1], (unsigned long long)t->ne[2], (unsigned long long)t->ne[3],
        (unsigned long long)cols, (unsigned long long)rows);
}

static enum bnt_status missing(const struct bnt_model *m, const char *name, struct bnt_err *err)
{
    return gguf_fail(err, GGUF_FAULT_ARCHITECTURE,
                     "%s: tensor %s is missing, architecture %s needs it", m->gguf->path, name,
                     m->arch->name);
}

static struct ternary_source source_of(const struct bnt_model *m, const struct weight *w,
                                       const uint8_t *data)
{
    struct ternary_source src = {.type = w->tensor->type,
                                 .data = data,
                                 .size = w->tensor->size,
                                 .rows = w->rows,
                                 .cols = w->cols,
                                 .layout = m->i2s_layout};
    src.tiles = w->tiles;
    return src;
}

static bool is_tiled(const struct weight *w)
{
    return w->tensor->type == TENSOR_TL1 || w->tensor->type == TENSOR_TL2;
}

/* Those that the user says, else those of the file. */
static enum bnt_status find_tiles(const struct bnt_model *m, struct weight *w, const char *name,
                                  struct bnt_err *err)
{
    enum tensor_type type = w->tensor->type;
    if (tl_tiles_of_tensor(m->gguf, w->tensor, m->tl_tiles, m->n_tl_tiles, &w->tiles)) {
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_UNSUPPORTED,
                "%s: tensor %s: the tile sizes of %s for %llu x %llu are not recorded in the file",
                m->gguf->path, name, tensor_type_info(type)->name, (unsigned long long)w->rows,
                (unsigned long long)w->cols);
    bnt_err_hint(err,
                 "say them: --tiles %llux%llu=BM,BK,BM_INNER, as the file's maker chose them; or "
                 "use the I2_S file of this model",
                 (unsigned long long)w->rows, (unsigned long long)w->cols);
    return BNT_E_UNSUPPORTED;
}

static enum bnt_status bind_scale(struct bnt_model *m, const char *name, struct weight *w,
                                  struct bnt_err *err)
{
    char scale_name[GGUF_MAX_NAME_BYTES + 1];
    const float *scale = NULL;
    size_t stem = strlen(name) - strlen(".weight");
    snprintf(scale_name, sizeof scale_name, "%.*s.scale", (int)stem, name);
    enum bnt_status st = vector_load(m, scale_name, 1, true, &scale, err);
    w->out_scale = scale ? *scale : 1.0f;
    if (st == BNT_OK && !isfinite(w->out_scale)) {
        st = gguf_fail(err, GGUF_FAULT_SCALE, "%s: %s is %g", m->gguf->path, scale_name,
                       (double)w->out_scale);
    }
    return st;
}

struct tl_planes weight_planes(const struct weight *w)
{
    struct ternary_source src = {.type = w->tensor->type,
                                 .data = w->data,
                                 .size = w->tensor->size,
                                 .rows = w->rows,
                                 .cols = w->cols,
                                 .tiles = w->tiles};
    struct tl_planes planes;
    tl_find_planes(&src, &planes); /* they fit: bound so */
    return planes;
}

/* The form in memory: as the file has it where kernels read that, else F32 or codes of 2 bits. */
static void choose_form(const struct bnt_model *m, struct weight *w)
{
    enum tensor_type type = w->tensor->type;
    if (w->ternary && m->dequantize) {
        w->ternary = false;
        w->type = TENSOR_F32;
        w->row_bytes = w->cols * sizeof(float);
        return;
    }
    struct ternary_source src = source_of(m, w, NULL);
    struct tl_planes planes;
    w->look_up = w->ternary && m->tl_look_up && is_tiled(w) && tl_find_planes(&src, &planes);
    if (w->look_up) {
        w->native = true;
        w->type = type;
        return;
    }
    const bool apart = tensor_type_info(type)->rows_together > 1; /* to be taken apart */
    w->type = w->ternary ? TENSOR_I2_S : apart ? TENSOR_IQ2_BN : type;
    w->row_bytes = w->ternary ? ternary_row_bytes(w->cols) : w->tensor->size / w->rows;
    w->native =
        w->ternary ? type == TENSOR_I2_S && m->i2s_layout == I2S_X86 && w->cols % 128 == 0 : !apart;
}

void weights_share_tables(struct weight *w, size_t n)
{
    const struct weight *first = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!w[i].look_up) {
            continue;
        }
        first = first ? first : &w[i];
        if ((w[i].type != first->type ||
             weight_planes(&w[i]).cols3 != weight_planes(first).cols3) &&
            !BNT_FAULT(tl_shared_tables)) {
            w[i].look_up = w[i].native = false;
            w[i].type = TENSOR_I2_S;
            w[i].row_bytes = ternary_row_bytes(w[i].cols);
        }
    }
}

enum bnt_status weight_bind(struct bnt_model *m, const char *name, uint64_t rows, uint64_t cols,
                            struct weight *w, struct bnt_err *err)
{
    *w = (struct weight){
        .tensor = gguf_find_tensor(m->gguf, name), .rows = rows, .cols = cols, .out_scale = 1.0f};
    if (!w->tensor) {
        return missing(m, name, err);
    }
    enum bnt_status st = check_shape(m, w->tensor, rows, cols, err);
    const struct tensor_type_info *info = tensor_type_info(w->tensor->type);
    if (st == BNT_OK && info->ternary) {
        st = one_scale_ask(m, w->tensor, &w->ternary, err);
    }
    if (st == BNT_OK && is_tiled(w)) {
        st = find_tiles(m, w, name, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    choose_form(m, w);
    return bind_scale(m, name, w, err);
}

uint64_t weight_bytes(const struct weight *w)
{
    return !w->tensor ? 0 : w->look_up ? w->tensor->size : w->rows * w->row_bytes;
}

uint64_t weight_scratch_bytes(const struct weight *w)
{
    return !w->tensor || w->native ? 0 : w->tensor->size + PACK_ROWS * w->cols;
}

static void put_rows(const struct weight *w, const int8_t *codes, uint64_t rows, uint8_t *dst)
{
    if (w->ternary) {
        ternary_pack(codes, rows, w->cols, dst);
        return;
    }
    float *values = (float *)(void *)dst;
    for (uint64_t i = 0; i < rows * w->cols; i++) {
        values[i] = (float)codes[i] * w->scale;
    }
}

/* Convert a ternary tensor of any packing, PACK_ROWS rows at a time; rows with scales of their own
 * are only taken apart. */
static enum bnt_status load_packed(const struct bnt_model *m, struct weight *w, uint64_t row0,
                                   uint64_t row1, uint8_t *dst, uint8_t *scratch,
                                   struct bnt_err *err)
{
    int8_t *codes = (int8_t *)(scratch + w->tensor->size);
    enum bnt_status st = gguf_tensor_read(m->gguf, w->tensor, 0, w->tensor->size, scratch, err);
    struct ternary_source src = source_of(m, w, scratch);
    if (st == BNT_OK && w->type == TENSOR_IQ2_BN) {
        ternary_part_rows(&src, row0, row1, dst);
        return BNT_OK;
    }
    for (uint64_t r = row0; st == BNT_OK && r < row1; r += PACK_ROWS) {
        uint64_t end = r + PACK_ROWS < row1 ? r + PACK_ROWS : row1;
        st = ternary_decode(&src, r, end, codes, &w->scale, err);
        src.scale = w->scale;
        if (st == BNT_OK) {
            put_rows(w, codes, end - r, dst + (r - row0) * w->row_bytes);
        }
    }
    if (st != BNT_OK) {
        bnt_err_context(err, "%s: tensor %.*s", m->gguf->path, (int)w->tensor->name.len,
                        w->tensor->name.data);
    }
    return st;
}

/* The scale of an I2_S, TL1 or TL2 tensor begins its last 32 bytes. */
static enum bnt_status read_tail_scale(const struct bnt_model *m, struct weight *w,
                                       struct bnt_err *err)
{
    enum bnt_status st =
        gguf_tensor_read(m->gguf, w->tensor, w->tensor->size - 32, sizeof w->scale, &w->scale, err);
    if (BNT_FAULT(i2s_scale)) {
        w->scale = 1.0f / w->scale;
    }
    if (st == BNT_OK && !isfinite(w->scale) && !BNT_FAULT(scale_unchecked)) {
        st = gguf_fail(err, GGUF_FAULT_SCALE, "%s: tensor %.*s has scale %g", m->gguf->path,
                       (int)w->tensor->name.len, w->tensor->name.data, (double)w->scale);
    }
    return st;
}

enum bnt_status weight_load(const struct bnt_model *m, struct weight *w, uint64_t row0,
                            uint64_t row1, uint8_t *dst, uint8_t *scratch, struct bnt_err *err)
{
    uint64_t from = w->look_up ? 0 : row0 * w->row_bytes;
    uint64_t n = w->look_up ? w->tensor->size : (row1 - row0) * w->row_bytes;
    enum bnt_status st = w->native ? gguf_tensor_read(m->gguf, w->tensor, from, n, dst, err)
                                   : load_packed(m, w, row0, row1, dst, scratch, err);
    if (st == BNT_OK && w->native && w->ternary) {
        st = read_tail_scale(m, w, err);
    }
    /* What was copied is not read again soon: its mapped pages must not count as ours. */
    if (!BNT_FAULT(mapping_kept)) {
        gguf_tensor_release(m->gguf, w->tensor);
    }
    return st;
}

enum bnt_status weight_make_resident(struct bnt_model *m, struct weight *w, struct bnt_err *err)
{
    if (w->data) {
        return BNT_OK; /* among the kept ones */
    }
    const uint8_t *view = w->native ? gguf_tensor_view(m->gguf, w->tensor) : NULL;
    if (view) {
        w->data = view;
        return w->ternary ? read_tail_scale(m, w, err) : BNT_OK;
    }
    uint64_t bytes = weight_bytes(w);
    uint64_t scratch_bytes = weight_scratch_bytes(w);
    w->owned = aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64));
    uint8_t *scratch = malloc((size_t)scratch_bytes + 1);
    enum bnt_status st =
        w->owned && scratch ? BNT_OK : bnt_err_nomem(err, "a packed tensor", bytes + scratch_bytes);
    if (st == BNT_OK) {
        st = weight_load(m, w, 0, w->rows, w->owned, scratch, err);
    }
    free(scratch);
    if (st == BNT_OK) {
        w->data = w->owned;
    }
    return st;
}

void weight_release(struct weight *w)
{
    free(w->owned);
    w->owned = NULL;
    w->data = NULL;
}

/* Room for n floats among the model's norms, which never move: the size is computed before anything
 * is loaded. */
static float *norms_take(struct bnt_model *m, uint64_t n)
{
    if (n > m->norms_size - m->norms_used) {
        return NULL;
    }
    float *p = m->norms + m->norms_used;
    m->norms_used += (size_t)n;
    return p;
}

enum bnt_status vector_load(struct bnt_model *m, const char *name, uint64_t n, bool optional,
                            const float **out, struct bnt_err *err)
{
    const struct gguf_tensor *t = gguf_find_tensor(m->gguf, name);
    *out = NULL;
    if (!t) {
        return optional ? BNT_OK : missing(m, name, err);
    }
    enum bnt_status st = check_shape(m, t, 1, n, err);
    if (st != BNT_OK) {
        return st;
    }
    const struct tensor_type_info *info = tensor_type_info(t->type);
    if (info->block_bytes == 0 || info->block_weights != 1) {
        return gguf_fail(err, GGUF_FAULT_UNSUPPORTED_TYPE,
                         "%s: tensor %s is %s; norms and biases are F32, F16 or BF16",
                         m->gguf->path, name, info->name);
    }
    float *dst = norms_take(m, n);
    void *raw = malloc((size_t)t->size);
    st = dst && raw ? gguf_tensor_read(m->gguf, t, 0, t->size, raw, err)
                    : bnt_err_nomem(err, name, t->size);
    if (st == BNT_OK) {
        dequantize_row(t->type, raw, n, dst);
        *out = dst;
    }
    free(raw);
    return st;
}

enum bnt_status embedding_row(const struct bnt_model *m, uint64_t r, float *dst, uint8_t *scratch,
                              struct bnt_err *err)
{
    const struct weight *w = &m->embd;
    const uint8_t *row = scratch;
    if (w->data) {
        row = w->data + r * w->row_bytes;
    } else {
        enum bnt_status st =
            gguf_tensor_read(m->gguf, w->tensor, r * w->row_bytes, w->row_bytes, scratch, err);
        if (st != BNT_OK) {
            return st;
        }
    }
    dequantize_row(w->type, row, w->cols, dst);
    for (uint64_t i = 0; w->out_scale != 1.0f && i < w->cols; i++) {
        dst[i] *= w->out_scale;
    }
    return BNT_OK;
}

uint64_t model_layer_bytes(const struct bnt_model *m)
{
    uint64_t most = 0;
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        uint64_t sum = 0;
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            sum += (weight_bytes(&m->layers[il].w[i]) + 63) / 64 * 64;
        }
        most = sum > most ? sum : most;
    }
    return most;
}

uint64_t model_layer_scratch(const struct bnt_model *m)
{
    uint64_t most = 0;
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            uint64_t n = weight_scratch_bytes(&m->layers[il].w[i]);
            most = n > most ? n : most;
        }
    }
    return most;
}
