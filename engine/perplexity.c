/* Scoring in windows. The sum of the negative log-likelihoods runs in double in the order of the
 * text. */
#include "engine/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"
#include "engine/sampler.h"

double bnt_surprise(const float *logits, int32_t n_vocab, int32_t id)
{
    return bnt_logsumexp(logits, n_vocab) - logits[id];
}

/* ---- windows ---- */

/* What one window reads and predicts, as indices of the text: [from, end) is read after BOS, and of
 * it [first, end) is predicted. Without BOS the first id that is read is no prediction. */
struct window {
    size_t from, first, end;
};

struct plan {
    int32_t bos;  /* -1: none */
    size_t n;     /* ids of the text */
    size_t reads; /* ids of the text that a window holds */
    size_t stride;
};

static struct plan plan_of(const struct bnt_session *s, size_t n, const struct bnt_score_options *o)
{
    const struct bnt_tokenizer *t = bnt_session_tokenizer(s);
    int32_t bos = t ? bnt_tokenizer_bos(t) : -1;
    return (struct plan){.bos = bos,
                         .n = n,
                         .reads = o->window - (bos >= 0),
                         .stride = o->stride ? o->stride : o->window - 1};
}

/* The window after the one that ended at `done`, 0 before the first. */
static struct window window_after(const struct plan *p, size_t done)
{
    size_t unpredicted = p->bos < 0;
    size_t room = done == 0 ? p->reads - unpredicted : p->stride;
    size_t context = p->reads - room;
    struct window w = {.first = done == 0 ? unpredicted : done};
    w.from = w.first > context ? w.first - context : 0;
    w.end = p->n - w.first < room ? p->n : w.first + room;
    return w;
}

size_t bnt_score_count(const struct bnt_session *s, size_t n)
{
    struct bnt_score_options any = {.window = 2};
    size_t unpredicted = plan_of(s, n, &any).bos < 0;
    return n > unpredicted ? n - unpredicted : 0;
}

uint64_t bnt_score_cost(const struct bnt_session *s, size_t n, const struct bnt_score_options *o)
{
    struct plan p = plan_of(s, n, o);
    uint64_t sum = 0;
    for (size_t done = 0; done < n;) {
        struct window w = window_after(&p, done);
        sum += w.end - w.from - (p.bos < 0);
        done = w.end;
    }
    return sum;
}

/* ---- scoring ---- */

struct scoring {
    const struct bnt_score_options *o;
    const int32_t *ids;
    int32_t n_vocab;
    size_t next; /* index of the id that the next row predicts */
};

static enum bnt_status score_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct scoring *s = ctx;
    struct bnt_scored row = {.index = s->next, .id = s->ids[s->next], .logits = logits};
    (void)index;
    int32_t target = BNT_FAULT(perplexity_target) && s->next > 0 ? s->ids[s->next - 1] : row.id;
    row.nll = bnt_surprise(logits, s->n_vocab, target);
    if (!isfinite(row.nll)) {
        return bnt_err_set(err, BNT_E_INFERENCE,
                           "the logits at token %zu of the text do not tell how likely it is "
                           "(surprise %g)",
                           s->next, row.nll);
    }
    s->next++;
    return s->o->scored ? s->o->scored(s->o->ctx, &row, err) : BNT_OK;
}

/* `inputs` are BOS, if any, and the ids that are read. All but the last are evaluated; those before
 * the one that predicts the first need no logits. */
static enum bnt_status score_window(struct bnt_session *s, const struct plan *p,
                                    const struct window *w, int32_t *inputs, struct scoring *sc,
                                    struct bnt_err *err)
{
    size_t n = 0;
    if (p->bos >= 0) {
        inputs[n++] = p->bos;
    }
    size_t context = n + (w->first - w->from) - 1;
    memcpy(inputs + n, sc->ids + w->from, (w->end - w->from) * sizeof *inputs);
    n += w->end - w->from;
    sc->next = w->first;
    enum bnt_status st = bnt_session_rewind(s, 0, err);
    if (st == BNT_OK && context > 0) {
        st = bnt_session_eval(s, inputs, context, err);
    }
    return st == BNT_OK ? bnt_session_eval_each(s, inputs + context, n - 1 - context, score_row,
                                                sc, err)
                        : st;
}

static enum bnt_status check(const struct bnt_session *s, size_t n,
                             const struct bnt_score_options *o, struct bnt_err *err)
{
    if (o->window < 2 || o->window > bnt_session_n_ctx(s) || o->stride >= o->window) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "windows of %u positions every %u: a window has from 2 to %u, and the "
                           "stride is less than the window",
                           o->window, o->stride, bnt_session_n_ctx(s));
    }
    if (bnt_score_count(s, n) == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "a text of %zu tokens has none to predict", n);
    }
    return BNT_OK;
}

enum bnt_status bnt_score_text(struct bnt_session *s, const int32_t *ids, size_t n,
                               const struct bnt_score_options *o, struct bnt_err *err)
{
    enum bnt_status st = check(s, n, o, err);
    if (st != BNT_OK) {
        return st;
    }
    struct plan p = plan_of(s, n, o);
    int32_t *inputs = malloc(((size_t)o->window + 1) * sizeof *inputs);
    if (!inputs) {
        return bnt_err_nomem(err, "a window", o->window * sizeof *inputs);
    }
    struct scoring sc = {.o = o, .ids = ids, .n_vocab = (int32_t)bnt_session_n_vocab(s)};
    for (size_t done = 0; st == BNT_OK && done < n;) {
        struct window w = window_after(&p, done);
        st = score_window(s, &p, &w, inputs, &sc, err);
        done = w.end;
    }
    free(inputs);
    return st;
}

/* ---- perplexity ---- */

struct tally {
    double nll;
    uint64_t n;
    void (*progress)(void *ctx, uint64_t done);
    void *ctx;
};

static enum bnt_status add(void *ctx, const struct bnt_scored *row, struct bnt_err *err)
{
    struct tally *t = ctx;
    (void)err;
    t->nll += row->nll;
    t->n++;
    if (t->progress) {
        t->progress(t->ctx, t->n);
    }
    return BNT_OK;
}

enum bnt_status bnt_perplexity(struct bnt_session *s, const int32_t *ids, size_t n,
                               uint32_t n_chunk, void (*progress)(void *ctx, uint64_t done),
                               void *ctx, struct bnt_perplexity *out, struct bnt_err *err)
{
    struct tally t = {.progress = progress, .ctx = ctx};
    const struct bnt_score_options o = {.window = n_chunk, .scored = add, .ctx = &t};
    enum bnt_status st = bnt_score_text(s, ids, n, &o, err);
    if (st == BNT_OK) {
        double mean = t.nll / (double)t.n;
        *out = (struct bnt_perplexity){.n_tokens = t.n, .nll = mean, .ppl = fm_exp(mean)};
    }
    return st;
}
