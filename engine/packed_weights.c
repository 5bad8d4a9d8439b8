/* The kept forms (packed.h) of a model's matrices:
 *
 *   "one-scale"   a byte for each tensor of the file: whether its ternary blocks or rows agree in
 *                 their scale. Looking that up spares a start the reading of all weights.
 *   "ternary..."  every ternary matrix that the kernels cannot read as it lies in the file: a table
 *                 of their scales, then their codes, in the order of the layers and of enum W_Q....
 *                 With I2_S among them the name ends in their packing, which is the user's to say.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fault.h"
#include "engine/cpu/pool.h"
#include "engine/model.h"

enum { ONE_SCALE_VERSION = 1, TERNARY_VERSION = 1, ALIGN = 64 };
enum { PARALLEL_BYTES = 4 << 20 }; /* below, threads cost more than they bring */
enum { NOT_ASKED, AGREE, DIFFER };

/* ---- one scale ---- */

/* The tensor has more scales than one. */
static bool has_scales(const struct gguf_tensor *t)
{
    return tensor_type_info((uint32_t)t->type)->ternary && t->size > 0 &&
           tensor_unit_bytes(t->type, t->ne[0]) > 0;
}

static enum bnt_status look(const struct bnt_model *m, const struct gguf_tensor *t, uint8_t *answer,
                            struct bnt_err *err)
{
    const uint8_t *bytes = gguf_tensor_view(m->gguf, t);
    uint8_t *copy = NULL;
    enum bnt_status st = BNT_OK;
    if (!bytes) {
        bytes = copy = malloc((size_t)t->size);
        st = copy ? gguf_tensor_read(m->gguf, t, 0, t->size, copy, err)
                  : bnt_err_nomem(err, "a tensor", t->size);
    }
    if (st == BNT_OK) {
        const struct ternary_source src = {.type = (enum tensor_type)t->type,
                                           .data = bytes,
                                           .size = t->size,
                                           .rows = t->ne[1] * t->ne[2] * t->ne[3],
                                           .cols = t->ne[0]};
        *answer = ternary_scales_agree(&src) ? AGREE : DIFFER;
    }
    free(copy);
    return st;
}

static enum bnt_status fill_one_scale(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    const struct bnt_model *m = ctx;
    enum bnt_status st = BNT_OK;
    for (uint64_t i = 0; st == BNT_OK && i < m->gguf->n_tensors; i++) {
        const struct gguf_tensor *t = &m->gguf->tensors[i];
        dst[i] = NOT_ASKED;
        if (has_scales(t)) {
            st = look(m, t, &dst[i], err);
        }
    }
    return st;
}

enum bnt_status one_scale_open(struct bnt_model *m, struct bnt_err *err)
{
    struct packed_want want = {.layout = "one-scale",
                               .version = ONE_SCALE_VERSION,
                               .size = m->gguf->n_tensors,
                               .fill = fill_one_scale,
                               .ctx = m};
    for (uint64_t i = 0; i < m->gguf->n_tensors; i++) {
        want.cost_bytes += has_scales(&m->gguf->tensors[i]) ? m->gguf->tensors[i].size : 0;
    }
    return want.cost_bytes > 0 ? packed_open(&m->packs, &want, &m->one_scale, err) : BNT_OK;
}

enum bnt_status one_scale_ask(const struct bnt_model *m, const struct gguf_tensor *t, bool *yes,
                              struct bnt_err *err)
{
    uint8_t answer = has_scales(t) ? NOT_ASKED : AGREE;
    enum bnt_status st = BNT_OK;
    if (answer == NOT_ASKED && m->one_scale.data) {
        answer = m->one_scale.data[t - m->gguf->tensors];
    }
    if (answer == NOT_ASKED) {
        st = look(m, t, &answer, err);
    }
    *yes = answer == AGREE;
    return st;
}

/* ---- ternary matrices ---- */

static bool is_packed(const struct weight *w)
{
    return w->tensor && w->ternary && !w->native;
}

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static uint64_t table_bytes(const struct bnt_model *m)
{
    return aligned((uint64_t)m->info.n_layer * N_LAYER_WEIGHTS * sizeof(float));
}

/* Bytes of the form; 0 without matrices in it. */
static uint64_t form_bytes(const struct bnt_model *m)
{
    uint64_t sum = 0;
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            const struct weight *w = &m->layers[il].w[i];
            sum += is_packed(w) ? aligned(weight_bytes(w)) : 0;
        }
    }
    return sum > 0 ? sum + table_bytes(m) : 0;
}

/* A matrix on its way to its place in the form. */
struct pack_job {
    struct weight *w;
    uint8_t *at;
    float *scale;
    struct bnt_err err;
};

struct pack_task {
    const struct bnt_model *m;
    struct pack_job *jobs;
};

static void pack_matrices(void *ctx, size_t begin, size_t end, int thread)
{
    const struct pack_task *t = ctx;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        struct pack_job *j = &t->jobs[i];
        const uint64_t bytes = weight_scratch_bytes(j->w);
        uint8_t *scratch = malloc((size_t)bytes + 1);
        enum bnt_status st = bnt_err_interrupted(t->m->packs.interrupted, &j->err);
        if (st == BNT_OK && !scratch) {
            st = bnt_err_nomem(&j->err, "a tensor", bytes);
        }
        if (st == BNT_OK) {
            st = weight_load(t->m, j->w, 0, j->w->rows, j->at, scratch, &j->err);
            *j->scale = j->w->scale;
        }
        free(scratch);
    }
}

/* All threads of the process's share work on a large one, each on a matrix. */
static enum bnt_status fill_ternary(void *ctx, uint8_t *dst, struct bnt_err *err)
{
    struct bnt_model *m = ctx;
    const size_t most = (size_t)m->info.n_layer * N_LAYER_WEIGHTS;
    struct pack_task t = {.m = m, .jobs = calloc(most, sizeof *t.jobs)};
    uint8_t *at = dst + table_bytes(m);
    size_t n = 0;
    if (!t.jobs) {
        return bnt_err_nomem(err, "matrices to be packed", most * sizeof *t.jobs);
    }
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (uint32_t i = 0; i < N_LAYER_WEIGHTS; i++) {
            struct weight *w = &m->layers[il].w[i];
            if (is_packed(w)) {
                t.jobs[n++] = (struct pack_job){
                    .w = w, .at = at, .scale = (float *)(void *)dst + il * N_LAYER_WEIGHTS + i};
                at += aligned(weight_bytes(w));
            }
        }
    }
    enum bnt_status st = BNT_OK;
    if (form_bytes(m) < PARALLEL_BYTES) {
        pack_matrices(&t, 0, n, 0);
    } else {
        st = cpu_pool_run_once(n, 1, pack_matrices, &t, err);
    }
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = t.jobs[i].err.status != BNT_OK ? bnt_err_copy(err, &t.jobs[i].err) : BNT_OK;
    }
    free(t.jobs);
    return st;
}

/* Point the matrices at their codes. */
static void take(struct bnt_model *m)
{
    const float *scales = (const float *)(const void *)m->ternary.data;
    const uint8_t *at = m->ternary.data + table_bytes(m);
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            struct weight *w = &m->layers[il].w[i];
            if (is_packed(w)) {
                w->scale = scales[il * N_LAYER_WEIGHTS + (uint32_t)i];
                w->scale = BNT_FAULT(packed_scale) && m->ternary.mapped ? 1.0f : w->scale;
                w->data = at;
                at += aligned(weight_bytes(w));
            }
        }
    }
}

void model_form_name(const struct bnt_model *m, const char *form, char out[PACKED_LAYOUT_MAX])
{
    bool i2s = false;
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            const struct weight *w = &m->layers[il].w[i];
            i2s |= is_packed(w) && w->tensor->type == TENSOR_I2_S;
        }
    }
    snprintf(out, PACKED_LAYOUT_MAX, "%s%s%s%s", form, m->tl_look_up ? "-but-tl" : "",
             i2s ? "-i2s-" : "", i2s ? i2s_layout_name(m->i2s_layout) : "");
    for (char *slash = strchr(out, '/'); slash; slash = strchr(slash, '/')) {
        *slash = '-';
    }
}

enum bnt_status packed_ternary_open(struct bnt_model *m, struct bnt_err *err)
{
    char name[PACKED_LAYOUT_MAX];
    struct packed_want want = {.layout = name,
                               .version = TERNARY_VERSION,
                               .size = form_bytes(m),
                               .fill = fill_ternary,
                               .ctx = m};
    model_form_name(m, "ternary", name); /* "ternary-but-tl": those that are looked up stay */
    if (want.size == 0) {
        return BNT_OK;
    }
    enum bnt_status st = packed_open(&m->packs, &want, &m->ternary, err);
    if (st == BNT_OK) {
        take(m);
    }
    return st;
}
