#include "engine/model_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/file_audit.h"
#include "engine/tl_tiles.h"

void mwrite_init(struct mwrite *m, enum tensor_type type)
{
    *m = (struct mwrite){.type = type};
    gplan_init(&m->plan);
}

void mwrite_release(struct mwrite *m)
{
    gplan_release(&m->plan);
    free(m->tensors);
    m->tensors = NULL;
    m->n_tensors = m->cap_tensors = 0;
}

/* ---- what to write ---- */

enum tensor_role tensor_role(struct gguf_str name)
{
    static const char *const linear[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                         "ffn_gate", "ffn_up", "ffn_down"};
    char text[GGUF_MAX_NAME_BYTES + 1], stem[32], end[32];
    unsigned layer;
    int n = 0;
    gplan_name(text, name);
    if (strcmp(text, "token_embd.weight") == 0 || strcmp(text, "output.weight") == 0) {
        return ROLE_EMBEDDING;
    }
    if (sscanf(text, "blk.%9u.%31[^.].%31[^.]%n", &layer, stem, end, &n) != 3 || text[n]) {
        return ROLE_OTHER;
    }
    for (size_t i = 0; i < sizeof linear / sizeof linear[0]; i++) {
        if (strcmp(stem, linear[i]) == 0) {
            return strcmp(end, "weight") == 0  ? ROLE_LINEAR
                   : strcmp(end, "scale") == 0 ? ROLE_SCALE
                                               : ROLE_OTHER;
        }
    }
    return ROLE_OTHER;
}

static bool is_tiled(enum tensor_type type)
{
    return type == TENSOR_TL1 || type == TENSOR_TL2;
}

enum bnt_status mwrite_add(struct mwrite *m, const struct mwrite_tensor *t, struct bnt_err *err)
{
    if (m->n_tensors == m->cap_tensors) {
        size_t cap = m->cap_tensors ? 2 * m->cap_tensors : 256;
        struct mwrite_tensor *all = realloc(m->tensors, cap * sizeof *all);
        if (!all) {
            return bnt_err_nomem(err, "tensors", cap * sizeof *all);
        }
        m->tensors = all;
        m->cap_tensors = cap;
    }
    struct mwrite_tensor *to = &m->tensors[m->n_tensors];
    *to = *t;
    to->item.to = t->linear ? m->type : t->item.to;
    enum bnt_status st = BNT_OK;
    if (!t->copy && is_tiled(to->item.to)) {
        st = tl_tiles_choose(to->item.to, t->item.rows, t->item.cols, m->tiles, m->n_tiles,
                             &to->item.tiles, err);
    }
    m->n_tensors += st == BNT_OK;
    return st;
}

/* ---- scales ---- */

/* Where the scale of a ternary matrix is written: in its codes' type, or in a tensor of its own. */
static void settle_scale(const struct mwrite *m, struct mwrite_tensor *t)
{
    struct recode_item *item = &t->item;
    if (!item->ternary && !tensor_type_info((uint32_t)item->to)->ternary) {
        return;
    }
    if (ternary_holds_half(item->to)) {
        bool exact = f16_to_f32(f32_to_f16(item->scale)) == item->scale;
        if (!exact && !m->half_scales && !BNT_FAULT(scale_rounded)) {
            t->scale = t->has_scale ? t->scale * item->scale : item->scale;
            t->has_scale = true;
            item->written_scale = 1;
        }
    } else if (t->has_scale && item->scale == 1) {
        item->written_scale = t->scale;
        t->has_scale = false;
    }
}

static uint64_t weights_of(const struct mwrite_tensor *t)
{
    return t->copy ? 0 : t->item.rows * t->item.cols;
}

/* `done` counts the weights of both passes. */
static void tell(const struct mwrite *m, size_t n_done, bool written)
{
    uint64_t done = 0, all = 0;
    for (size_t i = 0; m->progress && i < m->n_tensors; i++) {
        uint64_t n = weights_of(&m->tensors[i]);
        all += 2 * n;
        done += (i < n_done ? n : 0) + (written ? n : 0);
    }
    if (m->progress) {
        m->progress(m->ctx, done, all);
    }
}

enum bnt_status mwrite_survey(struct mwrite *m, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    m->n_linear = m->n_were_ternary = 0;
    for (size_t i = 0; st == BNT_OK && i < m->n_tensors; i++) {
        struct mwrite_tensor *t = &m->tensors[i];
        t->item.name = t->name;
        bool ternary = tensor_type_info((uint32_t)t->item.to)->ternary;
        if (m->interrupted && *m->interrupted) {
            st = bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted: nothing was written");
        } else if (!t->copy && (ternary || t->item.ternary)) {
            st = recode_survey(&t->item, err);
        }
        if (st == BNT_OK) {
            settle_scale(m, t);
        }
        m->n_linear += t->linear;
        m->n_were_ternary += t->linear && t->item.was_ternary;
        tell(m, i + 1, false);
    }
    return st;
}

/* ---- writing ---- */

static void scale_name(const struct mwrite_tensor *t, char out[GGUF_MAX_NAME_BYTES + 1])
{
    size_t stem = strlen(t->name) - strlen(".weight");
    snprintf(out, GGUF_MAX_NAME_BYTES + 1, "%.*s.scale", (int)stem, t->name);
}

static enum bnt_status plan_tensors(struct mwrite *m, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    char name[GGUF_MAX_NAME_BYTES + 1];
    for (size_t i = 0; st == BNT_OK && i < m->n_tensors; i++) {
        const struct mwrite_tensor *t = &m->tensors[i];
        st = t->copy
                 ? gplan_copy_tensor(&m->plan, t->copy, err)
                 : gplan_add_tensor(&m->plan, t->name, t->item.to, t->item.cols, t->item.rows, err);
        if (st == BNT_OK && t->has_scale) {
            scale_name(t, name);
            st = gplan_add_tensor(&m->plan, name, TENSOR_F32, 1, 1, err);
        }
    }
    return st;
}

static enum bnt_status write_tensor(const struct mwrite *m, const struct mwrite_tensor *t,
                                    struct gguf_writer *w, struct bnt_err *err)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    enum bnt_status st;
    if (t->copy) {
        st = gguf_writer_copy(w, m->source, t->copy, err);
    } else {
        st = gguf_writer_begin(w, t->name, err);
        st = st == BNT_OK ? recode_write(&t->item, w, err) : st;
    }
    if (st == BNT_OK && t->has_scale) {
        scale_name(t, name);
        st = gguf_writer_begin(w, name, err);
        st = st == BNT_OK ? gguf_writer_put(w, &t->scale, sizeof t->scale, err) : st;
    }
    return st;
}

static enum bnt_status write_file(struct mwrite *m, struct gguf_writer *w, const char *path,
                                  struct mwrite_report *out, struct bnt_err *err)
{
    enum bnt_status st = gguf_writer_open(w, &m->plan, path, err);
    for (size_t i = 0; st == BNT_OK && i < m->n_tensors; i++) {
        st = write_tensor(m, &m->tensors[i], w, err);
        tell(m, i + 1, true);
    }
    if (st == BNT_OK) {
        st = gguf_writer_finish(w, err);
    }
    if (st == BNT_OK) {
        st = file_audit(w->file.temp, &m->plan, m->type, &out->top_id, err);
    }
    return st == BNT_OK ? gguf_writer_commit(w, out->digest, err) : st;
}

enum bnt_status mwrite_run(struct mwrite *m, const char *path, struct mwrite_report *out,
                           struct bnt_err *err)
{
    struct gguf_writer w = {.interrupted = m->interrupted};
    w.file.fd = -1;
    enum bnt_status st =
        gplan_put_u32(&m->plan, "general.file_type", tensor_file_type(m->type), err);
    if (st == BNT_OK) {
        st = tl_tiles_put(&m->plan, m->tensors, m->n_tensors, err);
    }
    if (st == BNT_OK) {
        st = plan_tensors(m, err);
    }
    if (st == BNT_OK) {
        st = write_file(m, &w, path, out, err);
    }
    out->bytes = w.bytes;
    out->n_tensors = m->plan.n_tensors;
    gguf_writer_release(&w);
    return st;
}
