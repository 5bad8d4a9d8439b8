/* A session: positions and batches over a back end. Invariant: the back end's cache of a sequence
 * holds exactly its n_past positions, all of them from whole batches; a batch that fails or is
 * interrupted leaves n_past where it was. The ids of those positions are held, so that the CPU can
 * take the place of a GPU that failed. */
#include "engine/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/fault.h"
#include "engine/best.h"
#include "engine/model.h"

#define MAX_CTX (1u << 22) /* positions */
enum { RATE_IDS = 16 };    /* decoded ones over which a rate is taken */

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

static enum bnt_status check_sizes(const struct bnt_model *m,
                                   const struct bnt_session_options *opts, struct bnt_err *err)
{
    if (opts->n_ctx > MAX_CTX) {
        return bnt_err_set(err, BNT_E_USAGE, "a context of %u positions; the most is %u",
                           opts->n_ctx, MAX_CTX);
    }
    if (opts->n_ctx > m->rope.n_ctx_max) {
        bnt_err_set(err, BNT_E_UNSUPPORTED,
                    "a context of %u positions: beyond %u this model wants the factors of "
                    "rope_factors_long.weight, which are not used here",
                    opts->n_ctx, m->rope.n_ctx_max);
        bnt_err_hint(err, "say --ctx %u or less", m->rope.n_ctx_max);
        return BNT_E_UNSUPPORTED;
    }
    if (opts->n_sequences > BNT_MAX_SEQUENCES) {
        return bnt_err_set(err, BNT_E_USAGE, "%u sequences in one session; the most is %d",
                           opts->n_sequences, BNT_MAX_SEQUENCES);
    }
    return BNT_OK;
}

/* What is held of each sequence, and the rows of a batch, for a back end that is there. */
static enum bnt_status take_sequences(struct bnt_session *s, struct bnt_err *err)
{
    const struct backend_config *c = &s->backend->config;
    size_t ids = (size_t)c->n_seq * c->n_ctx;
    s->held = malloc(ids * sizeof *s->held);
    s->sequences = calloc(c->n_seq, sizeof *s->sequences);
    s->rows = malloc(c->n_batch * sizeof *s->rows);
    if (!s->held || !s->sequences || !s->rows) {
        return bnt_err_nomem(err, "a session", ids * sizeof *s->held);
    }
    for (uint32_t i = 0; i < c->n_seq; i++) {
        s->sequences[i].held = s->held + (size_t)i * c->n_ctx;
    }
    s->now = s->sequences;
    return BNT_OK;
}

static void note_backend(struct bnt_session *s, const char *between)
{
    size_t d = strlen(s->device), k = strlen(s->kernel);
    snprintf(s->device + d, sizeof s->device - d, "%s%s", between, s->backend->device);
    snprintf(s->kernel + k, sizeof s->kernel - k, "%s%s", between, s->backend->kernel);
}

enum bnt_status bnt_session_new(struct bnt_model *m, const struct bnt_session_options *opts,
                                struct bnt_session **out, struct bnt_err *err)
{
    static const struct bnt_session_options defaults;
    opts = opts ? opts : &defaults;
    *out = NULL;
    struct device_choice choice;
    enum bnt_status st = check_sizes(m, opts, err);
    if (st == BNT_OK) {
        st = check_memory(m, opts, err);
    }
    if (st == BNT_OK) {
        st = device_choice_of(opts, &choice, err);
    }
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
    s->choice = choice;
    st = device_backend_new(m, backend_config_of(m, opts), opts->n_batch != 0, &choice, &s->backend,
                            err);
    if (st == BNT_OK) {
        note_backend(s, "");
        st = take_sequences(s, err);
    }
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
        free(s->sequences);
        free(s->rows);
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
    if (n > n_ctx - s->now->n_past) {
        bnt_err_set(err, BNT_E_INFERENCE,
                    "context full: %u positions are taken, %zu more do not fit into %u",
                    s->now->n_past, n, n_ctx);
        bnt_err_hint(err, "raise --ctx (the model was trained with %u), or shorten the text",
                     s->model->info.n_ctx_train);
        return BNT_E_INFERENCE;
    }
    return BNT_OK;
}

/* ---- from a GPU to the CPU ---- */

/* Evaluate what a sequence holds again, but for what the last batch added. rows: n_batch. */
static enum bnt_status replay_sequence(const struct bnt_session *s, uint32_t seq, struct backend *b,
                                       struct backend_row *rows, struct bnt_err *err)
{
    const struct session_sequence *q = &s->sequences[seq];
    enum bnt_status st = BNT_OK;
    uint32_t before = q->n_past;
    for (uint32_t i = 0; i < s->n_last; i++) {
        before -= s->rows[i].seq == seq;
    }
    for (uint32_t at = 0, n; st == BNT_OK && at < before; at += n) {
        n = before - at < b->config.n_batch ? before - at : b->config.n_batch;
        backend_rows(rows, q->held + at, n, (struct backend_row){.seq = seq, .pos = at});
        st = b->ops->forward(b, rows, n, err);
    }
    return st;
}

/* Evaluate what the session holds again: the last batch as one, since its rows may be asked for. */
static enum bnt_status replay(const struct bnt_session *s, struct backend *b, struct bnt_err *err)
{
    size_t bytes = b->config.n_batch * sizeof(struct backend_row);
    struct backend_row *rows = malloc(bytes);
    enum bnt_status st = rows ? BNT_OK : bnt_err_nomem(err, "what a session holds", bytes);
    for (uint32_t i = 0; st == BNT_OK && i < b->config.n_seq; i++) {
        st = replay_sequence(s, i, b, rows, err);
    }
    free(rows);
    return st == BNT_OK && s->n_last > 0 ? b->ops->forward(b, s->rows, s->n_last, err) : st;
}

static uint64_t positions_held(const struct bnt_session *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->backend->config.n_seq; i++) {
        n += s->sequences[i].n_past;
    }
    return n;
}

/* The CPU takes over: same ids, same positions. why: what is told about the GPU. */
static enum bnt_status fall_back(struct bnt_session *s, const char *why, struct bnt_err *err)
{
    struct backend *old = s->backend, *cpu = NULL;
    enum bnt_status st = backend_cpu_new(s->model, &old->config, &cpu, err);
    if (st != BNT_OK) {
        return st;
    }
    st = replay(s, cpu, err);
    if (st != BNT_OK) {
        cpu->ops->free(cpu);
        return st;
    }
    if (s->choice.warn && !BNT_FAULT(device_silent)) {
        char text[1024];
        snprintf(text, sizeof text,
                 "%s: the CPU goes on after %llu positions, which it has evaluated again", why,
                 (unsigned long long)positions_held(s));
        s->choice.warn(s->choice.warn_ctx, text, "--fallback never makes an error of this");
    }
    cpu->tap = old->tap;
    cpu->n_drawn = old->n_drawn; /* what is told of the session is told of all of it */
    cpu->n_not_drawn = old->n_not_drawn;
    cpu->self_test_ns = old->self_test_ns;
    old->ops->free(old);
    s->backend = cpu;
    note_backend(s, ", then ");
    return BNT_OK;
}

bool session_again(struct bnt_session *s, enum bnt_status *st, const struct bnt_err *failed,
                   struct bnt_err *err)
{
    if (!device_failed(s->backend, *st) || s->choice.fallback == DEVICE_FALLBACK_NEVER) {
        bnt_err_copy(err, failed);
        return false;
    }
    *st = fall_back(s, failed->msg, err);
    return *st == BNT_OK;
}

enum bnt_status session_forward(struct bnt_session *s, uint32_t n, struct bnt_err *err)
{
    struct bnt_err failed = {0};
    s->n_last = 0; /* its rows are no more */
    enum bnt_status st = s->backend->ops->forward(s->backend, s->rows, n, &failed);
    if (st != BNT_OK && session_again(s, &st, &failed, err)) {
        st = s->backend->ops->forward(s->backend, s->rows, n, err);
    }
    if (st == BNT_OK && BNT_FAULT(slow_step)) {
        st = s->backend->ops->forward(s->backend, s->rows, n, err);
    }
    for (uint32_t i = 0; st == BNT_OK && i < n; i++) {
        struct session_sequence *q = &s->sequences[s->rows[i].seq];
        q->held[q->n_past++] = s->rows[i].id;
    }
    s->n_last = st == BNT_OK ? n : 0;
    return st;
}

/* Rows first.. of the last batch, into s->logits. */
static enum bnt_status compute_logits(struct bnt_session *s, uint32_t first, uint32_t n,
                                      struct bnt_err *err)
{
    struct bnt_err failed = {0};
    enum bnt_status st = s->backend->ops->logits(s->backend, first, n, s->logits, &failed);
    if (st != BNT_OK && session_again(s, &st, &failed, err)) {
        st = s->backend->ops->logits(s->backend, first, n, s->logits, err);
    }
    return st;
}

enum bnt_status session_watch_rate(struct bnt_session *s, uint32_t decoded, uint64_t ns,
                                   struct bnt_err *err)
{
    if (s->choice.fallback != DEVICE_FALLBACK_BELOW || decoded == 0 || device_is_cpu(s->backend)) {
        return BNT_OK;
    }
    s->timed_ns += ns;
    s->n_timed += decoded;
    if (s->n_timed < RATE_IDS) {
        return BNT_OK;
    }
    double rate = s->timed_ns ? s->n_timed * 1e9 / (double)s->timed_ns : INFINITY;
    s->n_timed = 0;
    s->timed_ns = 0;
    if (rate >= s->choice.below) {
        return BNT_OK;
    }
    char why[160];
    snprintf(why, sizeof why, "%s decodes %.1f tokens/s, below the %g that were asked for",
             s->backend->device, rate, s->choice.below);
    return fall_back(s, why, err);
}

/* ---- evaluating ---- */

enum bnt_status session_each_logits(struct bnt_session *s, size_t first_index, uint32_t n,
                                    bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    for (uint32_t first = 0; first < n; first += BACKEND_HEAD_BATCH) {
        uint32_t rows = n - first < BACKEND_HEAD_BATCH ? n - first : BACKEND_HEAD_BATCH;
        enum bnt_status st = compute_logits(s, first, rows, err);
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

/* All ids, batch by batch; fn may be NULL. */
static enum bnt_status eval_ids(struct bnt_session *s, const int32_t *ids, size_t n,
                                bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    enum bnt_status st = check_ids(s, ids, n, err);
    uint32_t batch = 0;
    for (size_t done = 0; st == BNT_OK && done < n; done += batch) {
        size_t left = n - done;
        batch = left < s->backend->config.n_batch ? (uint32_t)left : s->backend->config.n_batch;
        s->last = NULL;
        struct backend_row first = {.seq = (uint32_t)(s->now - s->sequences),
                                    .pos = s->now->n_past};
        backend_rows(s->rows, ids + done, batch, first);
        st = session_forward(s, batch, err);
        if (st == BNT_OK && fn) {
            st = session_each_logits(s, done, batch, fn, ctx, err);
        }
    }
    return st;
}

static uint32_t last_row(const struct bnt_session *s)
{
    return s->n_last - 1 - (BNT_FAULT(last_row) && s->n_last > 1);
}

enum bnt_status bnt_session_eval_each(struct bnt_session *s, const int32_t *ids, size_t n,
                                      bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = eval_ids(s, ids, n, fn, ctx, err);
    if (st == BNT_OK && !fn) {
        st = compute_logits(s, last_row(s), 1, err);
        s->last = st == BNT_OK ? s->logits : NULL;
    }
    return st == BNT_OK ? session_watch_rate(s, n == 1, bnt_clock_now_ns() - t0, err) : st;
}

enum bnt_status bnt_session_eval(struct bnt_session *s, const int32_t *ids, size_t n,
                                 struct bnt_err *err)
{
    return bnt_session_eval_each(s, ids, n, NULL, NULL, err);
}

/* An id that is chosen where the logits are spares their way back. */
static enum bnt_status ask_near(struct backend *b, uint32_t row, struct bnt_near *near,
                                struct bnt_err *err)
{
    const struct backend_ops *ops = b->ops;
    if (near->draw && near->n_also == 0 && ops->draw) {
        enum bnt_status st = ops->draw(b, row, near->k, near->draw, &near->drawn, err);
        near->n_best = 0;
        if (st != BNT_OK || near->drawn >= 0) {
            b->n_drawn += st == BNT_OK;
            return st;
        }
        b->n_not_drawn++;
    }
    return ops->near ? ops->near(b, row, near, err)
                     : ops->best(b, row, near->k, near->best, &near->n_best, err);
}

/* By the back end, or from the whole row. */
static enum bnt_status near_of(struct bnt_session *s, uint32_t row, struct bnt_near *near,
                               struct bnt_err *err)
{
    struct bnt_err failed = {0};
    near->drawn = -1;
    if (near->n_also > 0 ? bnt_session_has_near(s) : bnt_session_has_best(s)) {
        enum bnt_status st = ask_near(s->backend, row, near, &failed);
        if (st == BNT_OK || !session_again(s, &st, &failed, err)) {
            return st;
        }
    }
    enum bnt_status st = compute_logits(s, row, 1, err);
    near->drawn = -1;
    if (st == BNT_OK) {
        near_of_row(s->logits, s->model->info.n_vocab, near);
    }
    return st;
}

static enum bnt_status check_near(const struct bnt_session *s, const struct bnt_near *near,
                                  struct bnt_err *err)
{
    if (near->k == 0 || near->k > BNT_BEST_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "the best %u logits: 1 to %u can be asked for",
                           near->k, BNT_BEST_MAX);
    }
    for (size_t i = 0; i < near->n_also; i++) {
        if (near->also[i] < 0 || (uint32_t)near->also[i] >= s->model->info.n_vocab) {
            return bnt_err_set(err, BNT_E_USAGE, "the logit of id %d: the vocabulary has %u ids",
                               near->also[i], s->model->info.n_vocab);
        }
    }
    return BNT_OK;
}

enum bnt_status bnt_session_eval_near(struct bnt_session *s, const int32_t *ids, size_t n,
                                      struct bnt_near *near, struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = check_near(s, near, err);
    if (st != BNT_OK) {
        return st;
    }
    st = eval_ids(s, ids, n, NULL, NULL, err);
    s->last = NULL;
    if (st == BNT_OK) {
        st = near_of(s, last_row(s), near, err);
    }
    return st == BNT_OK ? session_watch_rate(s, n == 1, bnt_clock_now_ns() - t0, err) : st;
}

enum bnt_status bnt_session_push(struct bnt_session *s, const int32_t *ids, size_t n,
                                 struct bnt_err *err)
{
    if (n > bnt_session_n_batch(s)) {
        return bnt_err_set(err, BNT_E_USAGE, "%zu ids in one step: %u at most", n,
                           bnt_session_n_batch(s));
    }
    enum bnt_status st = eval_ids(s, ids, n, NULL, NULL, err);
    s->last = NULL;
    return st;
}

enum bnt_status bnt_session_near_at(struct bnt_session *s, uint32_t index, struct bnt_near *near,
                                    struct bnt_err *err)
{
    if (index >= s->n_last) {
        return bnt_err_set(err, BNT_E_USAGE, "logits of id %u: %u were evaluated last", index,
                           s->n_last);
    }
    enum bnt_status st = check_near(s, near, err);
    return st == BNT_OK ? near_of(s, index, near, err) : st;
}

enum bnt_status bnt_session_eval_best(struct bnt_session *s, const int32_t *ids, size_t n,
                                      uint32_t k, struct bnt_candidate *out, uint32_t *n_out,
                                      struct bnt_err *err)
{
    struct bnt_near near = {.k = k};
    enum bnt_status st = bnt_session_eval_near(s, ids, n, &near, err);
    if (st == BNT_OK) {
        memcpy(out, near.best, near.n_best * sizeof *out);
        *n_out = near.n_best;
    }
    return st;
}

bool bnt_session_has_near(const struct bnt_session *s)
{
    return s->backend->ops->near != NULL && s->backend->tap.row == NULL;
}

bool bnt_session_has_best(const struct bnt_session *s)
{
    return bnt_session_has_near(s) ||
           (s->backend->ops->best != NULL && s->backend->tap.row == NULL);
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
    return s->now->n_past;
}

uint32_t bnt_session_n_ctx(const struct bnt_session *s)
{
    return s->backend->config.n_ctx;
}

uint32_t bnt_session_n_batch(const struct bnt_session *s)
{
    return s->backend->config.n_batch;
}

enum bnt_status bnt_session_rewind(struct bnt_session *s, uint32_t n_past, struct bnt_err *err)
{
    struct session_sequence *q = s->now;
    if (n_past > q->n_past) {
        return bnt_err_set(err, BNT_E_USAGE, "cannot rewind to position %u: only %u are held",
                           n_past, q->n_past);
    }
    q->n_past = n_past + (BNT_FAULT(rewind) && n_past < q->n_past);
    s->n_last = 0;
    s->last = NULL;
    return BNT_OK;
}

const int32_t *bnt_session_ids(const struct bnt_session *s)
{
    return s->now->held;
}

enum bnt_status bnt_session_reuse(struct bnt_session *s, const int32_t *ids, size_t n,
                                  uint32_t *reused, struct bnt_err *err)
{
    uint32_t common = 0;
    if (n == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "nothing to evaluate");
    }
    const struct session_sequence *q = s->now;
    while (common < q->n_past && common + 1 < n && q->held[common] == ids[common]) {
        common++;
    }
    common += BNT_FAULT(reuse_blind) && common < q->n_past && common + 1 < n;
    *reused = common;
    return bnt_session_rewind(s, common, err);
}

void bnt_session_set_tap(struct bnt_session *s, const struct bnt_tap *tap)
{
    s->backend->tap = tap ? *tap : (struct bnt_tap){0};
}

const char *bnt_session_device(const struct bnt_session *s)
{
    return s->device;
}

const char *bnt_session_kernel(const struct bnt_session *s)
{
    return s->kernel;
}

const char *bnt_session_kernel_note(const struct bnt_session *s)
{
    return s->backend->kernel_note;
}

int bnt_session_n_threads(const struct bnt_session *s)
{
    return s->backend->config.n_threads;
}

/* Of a single token. */
static uint64_t head_bytes(const struct bnt_session *s)
{
    const struct backend *b = s->backend;
    const struct weight *head = &s->model->head;
    return b->screened      ? screen_token_bytes(head)
           : b->narrow_head ? narrow_token_bytes(s->model)
                            : weight_bytes(head);
}

void bnt_session_stats(const struct bnt_session *s, struct bnt_session_stats *out)
{
    const struct bnt_model *m = s->model;
    *out = (struct bnt_session_stats){
        .memory_bytes = s->backend->memory_bytes,
        .kv_bytes = s->backend->kv_bytes,
        .self_test_ns = s->backend->self_test_ns,
        .screened = s->backend->screened,
        .n_drawn = s->backend->n_drawn,
        .n_not_drawn = s->backend->n_not_drawn,
        .narrow_head = s->backend->narrow_head,
        .head_bytes_per_token = head_bytes(s),
    };
    out->weight_bytes_per_token = out->head_bytes_per_token + m->embd.row_bytes;
    for (uint32_t il = 0; il < m->info.n_layer; il++) {
        for (int i = 0; i < N_LAYER_WEIGHTS; i++) {
            out->weight_bytes_per_token += weight_bytes(&m->layers[il].w[i]);
        }
    }
    if (s->backend->n_single > 0) {
        out->left_out_bytes_per_token = s->backend->left_out_bytes / s->backend->n_single;
        out->weight_bytes_per_token -= out->left_out_bytes_per_token;
        out->weight_bytes_per_token -= s->backend->spared_bytes / s->backend->n_single;
    }
}
