/* A session: positions and batches over a back end. Invariant: the back end's cache holds exactly
 * n_past positions, all of them from whole batches; a batch that fails or is interrupted leaves
 * n_past where it was. */
#include "engine/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fault.h"
#include "engine/model.h"

#define MAX_CTX (1u << 22) /* positions */

static enum bnt_status check_memory(const struct bnt_model *m,
                                    const struct bnt_session_options *opts, struct bnt_err *err)
{
    uint64_t need = bnt_model_memory_need(m, opts);
    if (need <= m->memory_limit) {
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_MEMORY,
                "this session needs %.0f MB of memory with the model, the limit is %.0f MB",
                (double)need / 1e6, (double)m->memory_limit / 1e6);
    bnt_err_hint(err, "take a smaller --ctx, or raise --memory-limit");
    return BNT_E_MEMORY;
}

enum bnt_status bnt_session_new(struct bnt_model *m, const struct bnt_session_options *opts,
                                struct bnt_session **out, struct bnt_err *err)
{
    static const struct bnt_session_options defaults;
    opts = opts ? opts : &defaults;
    *out = NULL;
    if (opts->n_ctx > MAX_CTX) {
        return bnt_err_set(err, BNT_E_USAGE, "a context of %u positions; the most is %u",
                           opts->n_ctx, MAX_CTX);
    }
    enum bnt_status st = check_memory(m, opts, err);
    if (st != BNT_OK) {
        return st;
    }
    struct bnt_session *s = calloc(1, sizeof *s);
    size_t logits_bytes = (size_t)m->info.n_vocab * BACKEND_HEAD_BATCH * sizeof(float);
    if (s) {
        s->logits = malloc(logits_bytes);
    }
    if (!s || !s->logits) {
        bnt_session_free(s);
        return bnt_err_nomem(err, "a session", logits_bytes);
    }
    s->model = m;
    struct backend_config config = backend_config_of(m, opts);
    s->held = malloc((size_t)config.n_ctx * sizeof *s->held);
    st = s->held ? backend_cpu_new(m, &config, &s->backend, err)
                 : bnt_err_nomem(err, "a session", config.n_ctx * sizeof *s->held);
    if (st != BNT_OK) {
        bnt_session_free(s);
        return st;
    }
    *out = s;
    return BNT_OK;
}

void bnt_session_free(struct bnt_session *s)
{
    if (s) {
        if (s->backend) {
            s->backend->ops->free(s->backend);
        }
        free(s->logits);
        free(s->held);
        free(s);
    }
}

static enum bnt_status check_ids(const struct bnt_session *s, const int32_t *ids, size_t n,
                                 struct bnt_err *err)
{
    uint32_t n_ctx = s->backend->config.n_ctx;
    if (n == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "nothing to evaluate");
    }
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (uint32_t)ids[i] > s->model->info.n_vocab - !BNT_FAULT(id_check)) {
            return bnt_err_set(err, BNT_E_USAGE, "token id %d is outside the vocabulary of %u",
                               ids[i], s->model->info.n_vocab);
        }
    }
    if (n > n_ctx - s->n_past) {
        bnt_err_set(err, BNT_E_INFERENCE,
                    "context full: %u positions are taken, %zu more do not fit into %u", s->n_past,
                    n, n_ctx);
        bnt_err_hint(err, "raise --ctx (the model was trained with %u), or shorten the text",
                     s->model->info.n_ctx_train);
        return BNT_E_INFERENCE;
    }
    return BNT_OK;
}

/* Logits of a whole batch, handed out row by row; the last of them stays. */
static enum bnt_status each_logits(struct bnt_session *s, size_t first_index, uint32_t n,
                                   bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    for (uint32_t first = 0; first < n; first += BACKEND_HEAD_BATCH) {
        uint32_t rows = n - first < BACKEND_HEAD_BATCH ? n - first : BACKEND_HEAD_BATCH;
        enum bnt_status st = s->backend->ops->logits(s->backend, first, rows, s->logits, err);
        for (uint32_t t = 0; st == BNT_OK && t < rows; t++) {
            s->last = s->logits + (size_t)t * s->model->info.n_vocab;
            st = fn(ctx, first_index + first + t, s->last, err);
        }
        if (st != BNT_OK) {
            s->last = NULL;
            return st;
        }
    }
    return BNT_OK;
}

enum bnt_status bnt_session_eval_each(struct bnt_session *s, const int32_t *ids, size_t n,
                                      bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    enum bnt_status st = check_ids(s, ids, n, err);
    uint32_t last = 0;
    for (size_t done = 0; st == BNT_OK && done < n; done += last) {
        size_t left = n - done;
        last = left < s->backend->config.n_batch ? (uint32_t)left : s->backend->config.n_batch;
        s->last = NULL;
        st = s->backend->ops->forward(s->backend, ids + done, last, s->n_past, err);
        if (st == BNT_OK && BNT_FAULT(slow_step)) {
            st = s->backend->ops->forward(s->backend, ids + done, last, s->n_past, err);
        }
        if (st == BNT_OK) {
            memcpy(s->held + s->n_past, ids + done, last * sizeof *ids);
            s->n_past += last;
            st = fn ? each_logits(s, done, last, fn, ctx, err) : BNT_OK;
        }
    }
    if (st == BNT_OK && !fn) {
        uint32_t row = last - 1 - (BNT_FAULT(last_row) && last > 1);
        st = s->backend->ops->logits(s->backend, row, 1, s->logits, err);
        s->last = st == BNT_OK ? s->logits : NULL;
    }
    return st;
}

enum bnt_status bnt_session_eval(struct bnt_session *s, const int32_t *ids, size_t n,
                                 struct bnt_err *err)
{
    return bnt_session_eval_each(s, ids, n, NULL, NULL, err);
}

float *bnt_session_logits(struct bnt_session *s)
{
    return s->last;
}

uint32_t bnt_session_n_vocab(const struct bnt_session *s)
{
    return s->model->info.n_vocab;
}

const struct bnt_tokenizer *bnt_session_tokenizer(const struct bnt_session *s)
{
    return s->model->tokenizer;
}

uint32_t bnt_session_n_past(const struct bnt_session *s)
{
    return s->n_past;
}

uint32_t bnt_session_n_ctx(const struct bnt_session *s)
{
    return s->backend->config.n_ctx;
}

enum bnt_status bnt_session_rewind(struct bnt_session *s, uint32_t n_past, struct bnt_err *err)
{
    if (n_past > s->n_past) {
        return bnt_err_set(err, BNT_E_USAGE, "cannot rewind to position %u: only %u are held",
                           n_past, s->n_past);
    }
    s->n_past = n_past + (BNT_FAULT(rewind) && n_past < s->n_past);
    s->last = NULL;
    return BNT_OK;
}

const int32_t *bnt_session_ids(const struct bnt_session *s)
{
    return s->held;
}

enum bnt_status bnt_session_reuse(struct bnt_session *s, const int32_t *ids, size_t n,
                                  uint32_t *reused, struct bnt_err *err)
{
    uint32_t common = 0;
    if (n == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "nothing to evaluate");
    }
    while (common < s->n_past && common + 1 < n && s->held[common] == ids[common]) {
        common++;
    }
    common += BNT_FAULT(reuse_blind) && common < s->n_past && common + 1 < n;
    *reused = common;
    return bnt_session_rewind(s, common, err);
}

void bnt_session_set_tap(struct bnt_session *s, const struct bnt_tap *tap)
{
    s->backend->tap = tap ? *tap : (struct bnt_tap){0};
}

const char *bnt_session_kernel(const struct bnt_session *s)
{
    return s->backend->kernel;
}

const char *bnt_session_kernel_note(const struct bnt_session *s)
{
    return s->backend->kernel_note;
}

int bnt_session_n_threads(const struct bnt_session *s)
{
    return s->backend->config.n_threads;
}

void bnt_session_stats(const struct bnt_session *s, struct bnt_session_stats *out)
{
    const struct bnt_model *m = s->model;
    *out = (struct bnt_session_stats){
        .memory_bytes = s->backend->memory_bytes,
        .kv_bytes = s->backend->kv_bytes,
        .self_test_ns = s->backend->self_test_ns,
        .thread_start_ns = s->backend->start_ns,
        .weight_bytes_per_token = weight_bytes(&m->head) + m->embd.row_bytes,
    };
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            out->weight_bytes_per_token += weight_bytes(&m->layers[il].w[i]);
        }
    }
}
