/* A step of a session of several sequences: one id of each, in one batch. What a step is about is
 * checked as a whole before anything is evaluated. */
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "engine/best.h"
#include "engine/model.h"
#include "engine/session.h"

enum bnt_status bnt_session_select(struct bnt_session *s, uint32_t sequence, struct bnt_err *err)
{
    if (sequence >= s->backend->config.n_seq) {
        return bnt_err_set(err, BNT_E_USAGE, "sequence %u of a session of %u: they count from 0",
                           sequence, s->backend->config.n_seq);
    }
    s->now = s->sequences + sequence;
    s->last = NULL;
    return BNT_OK;
}

/* Sequences that stand twice: each that a step has is marked while the step is laid out. */
static enum bnt_status check_step(struct bnt_session *s, const struct bnt_step *step,
                                  struct bnt_err *err)
{
    const struct backend_config *c = &s->backend->config;
    if (step->sequence >= c->n_seq) {
        return bnt_err_set(err, BNT_E_USAGE, "sequence %u of a session of %u: they count from 0",
                           step->sequence, c->n_seq);
    }
    const struct session_sequence *q = &s->sequences[step->sequence];
    if (q->in_step && !BNT_FAULT(step_twice)) {
        return bnt_err_set(err, BNT_E_USAGE, "sequence %u stands twice in one step",
                           step->sequence);
    }
    if (step->id < 0 || (uint32_t)step->id >= s->model->info.n_vocab) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "token id %d of sequence %u is outside the vocabulary of %u", step->id,
                           step->sequence, s->model->info.n_vocab);
    }
    if (q->n_past == c->n_ctx) {
        bnt_err_set(err, BNT_E_INFERENCE,
                    "context full: sequence %u has taken all of its %u positions", step->sequence,
                    c->n_ctx);
        bnt_err_hint(err, "raise --ctx (the model was trained with %u), or end the sequence",
                     s->model->info.n_ctx_train);
        return BNT_E_INFERENCE;
    }
    return BNT_OK;
}

/* The steps as rows of a batch. */
static enum bnt_status lay_out(struct bnt_session *s, const struct bnt_step *steps, uint32_t n,
                               struct bnt_err *err)
{
    if (n == 0 || n > s->backend->config.n_seq) {
        return bnt_err_set(err, BNT_E_USAGE, "a step of %u sequences: the session has %u", n,
                           s->backend->config.n_seq);
    }
    enum bnt_status st = BNT_OK;
    uint32_t done = 0;
    s->n_last = 0; /* its rows are no more */
    for (; st == BNT_OK && done < n; done++) {
        st = check_step(s, &steps[done], err);
        if (st == BNT_OK) {
            struct session_sequence *q = &s->sequences[steps[done].sequence];
            q->in_step = true;
            s->rows[done] = (struct backend_row){steps[done].id, steps[done].sequence, q->n_past};
        }
    }
    for (uint32_t i = 0; i < done; i++) {
        if (steps[i].sequence < s->backend->config.n_seq) {
            s->sequences[steps[i].sequence].in_step = false;
        }
    }
    return st;
}

static enum bnt_status forward(struct bnt_session *s, const struct bnt_step *steps, uint32_t n,
                               struct bnt_err *err)
{
    enum bnt_status st = lay_out(s, steps, n, err);
    s->last = NULL;
    return st == BNT_OK ? session_forward(s, n, err) : st;
}

/* Every row of the step, and none of them stays. */
static enum bnt_status each_row(struct bnt_session *s, uint32_t n, bnt_logits_fn *fn, void *ctx,
                                struct bnt_err *err)
{
    enum bnt_status st = session_each_logits(s, 0, n, fn, ctx, err);
    s->last = NULL;
    return st;
}

enum bnt_status bnt_session_step(struct bnt_session *s, const struct bnt_step *steps, uint32_t n,
                                 bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = forward(s, steps, n, err);
    if (st == BNT_OK && fn) {
        st = each_row(s, n, fn, ctx, err);
    }
    return st == BNT_OK ? session_watch_rate(s, n, bnt_clock_now_ns() - t0, err) : st;
}

/* ---- the best of each ---- */

struct best_rows {
    uint32_t n_vocab, k;
    struct bnt_candidate *out;
    uint32_t *found;
};

static enum bnt_status take_best(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    const struct best_rows *b = ctx;
    (void)err;
    b->found[index] = (uint32_t)best_of_row(logits, b->n_vocab, b->k, b->out + index * b->k);
    return BNT_OK;
}

/* Of the first n rows of the last batch. */
static enum bnt_status best_of_rows(struct bnt_session *s, uint32_t n, struct best_rows *rows,
                                    struct bnt_err *err)
{
    struct bnt_err failed = {0};
    enum bnt_status st = BNT_OK;
    if (s->backend->ops->best_rows && !s->backend->tap.row) {
        struct backend_best ask = {.n = n, .k = rows->k, .out = rows->out, .found = rows->found};
        st = s->backend->ops->best_rows(s->backend, &ask, &failed);
        if (st == BNT_OK || !session_again(s, &st, &failed, err)) {
            return st;
        }
    }
    return each_row(s, n, take_best, rows, err);
}

enum bnt_status bnt_session_step_best(struct bnt_session *s, const struct bnt_step *steps,
                                      uint32_t n, uint32_t k, struct bnt_candidate *out,
                                      uint32_t *found, struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    struct best_rows rows = {s->model->info.n_vocab, k, out, found};
    if (k == 0 || k > BNT_BEST_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "the best %u logits: 1 to %u can be asked for", k,
                           BNT_BEST_MAX);
    }
    enum bnt_status st = forward(s, steps, n, err);
    if (st == BNT_OK) {
        st = best_of_rows(s, n, &rows, err);
    }
    return st == BNT_OK ? session_watch_rate(s, n, bnt_clock_now_ns() - t0, err) : st;
}
