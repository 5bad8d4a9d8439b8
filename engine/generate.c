/* The loop of generation. Owns nothing beyond a call: results go to the caller's bnt_generation,
 * whose arrays are reserved before the first id, so that the loop itself allocates nothing but room
 * for text. */
#include "engine/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "engine/draft.h"
#include "engine/quality.h"

enum { TEXT_BYTES_PER_ID = 8 }; /* a guess for reserving */
enum { FIRST_DRAFT = 4 };       /* ids; later ones are as long as pays */

/* State of one call. */
struct run {
    struct bnt_session *s;
    const struct bnt_tokenizer *t;
    struct bnt_sampler *sampler;
    const struct bnt_generate_params *p;
    struct bnt_generation *g;
    int32_t n_vocab;
    struct bnt_detok detok;
    struct bnt_buf piece, out; /* text of one id; what of it is final */
    float *raw;   /* logits before the sampler changed them; NULL without log-probabilities */
    bool by_near; /* a few logits decide, and are all that is asked for; else whole rows */
    struct bnt_near near; /* of the last row */
    uint64_t start_ns, last_ns;
    size_t most;   /* ids that this call can generate */
    uint32_t past; /* positions before the id that is picked next */
    bool done;     /* g->finish says why */
    /* Speculation: the text so far (NULL without), the draft, how long the next one may be, and
     * whether an id was picked that the draft has not. */
    int32_t *text;
    size_t n_text;
    int32_t batch[1 + BNT_SPECULATE_MAX];
    uint32_t n_draft, width;
    bool parted;
};

const char *bnt_finish_name(enum bnt_finish f)
{
    static const char *const names[] = {"stop", "length", "context", "interrupted"};
    return names[f];
}

void bnt_generation_init(struct bnt_generation *g)
{
    *g = (struct bnt_generation){.stop_id = -1, .stop_string = -1};
    bnt_buf_init(&g->text, BNT_GENERATE_MAX_TEXT);
}

void bnt_generation_release(struct bnt_generation *g)
{
    bnt_ids_release(&g->ids);
    bnt_buf_release(&g->text);
    free(g->token_ns);
    free(g->logprob);
    free(g->best);
    bnt_generation_init(g);
}

static bool interrupted(const struct run *r)
{
    return r->p->interrupted != NULL && *r->p->interrupted != 0;
}

/* Most ids that this call can generate. */
static size_t most_ids(const struct run *r, size_t n_prompt)
{
    size_t room = bnt_session_n_ctx(r->s) - bnt_session_n_past(r->s) - n_prompt + 1;
    return r->p->max_tokens > 0 && r->p->max_tokens < room ? r->p->max_tokens : room;
}

static enum bnt_status reserve(struct run *r, size_t n, struct bnt_err *err)
{
    struct bnt_generation *g = r->g;
    uint32_t n_best = r->p->n_logprobs < BNT_LOGPROBS_MAX ? r->p->n_logprobs : BNT_LOGPROBS_MAX;
    g->n_best = (int32_t)n_best < r->n_vocab ? n_best : (uint32_t)r->n_vocab;
    g->cap = n;
    g->token_ns = malloc(n * sizeof(*g->token_ns));
    bool ok = g->token_ns != NULL;
    if (ok && r->p->n_logprobs > 0) {
        r->raw = malloc((size_t)r->n_vocab * sizeof(*r->raw));
        g->logprob = malloc(n * sizeof(*g->logprob));
        g->best = malloc(n * g->n_best * sizeof(*g->best));
        ok = r->raw != NULL && g->logprob != NULL && g->best != NULL;
    }
    g->ids.at = malloc(n * sizeof(*g->ids.at));
    g->ids.cap = g->ids.at != NULL ? n : 0;
    if (!ok || g->ids.at == NULL) {
        return bnt_err_nomem(err, "results of a generation", n * sizeof(*g->ids.at));
    }
    return bnt_buf_reserve(&g->text, n * TEXT_BYTES_PER_ID, err);
}

static bool is_stop_id(const struct run *r, int32_t id)
{
    for (size_t i = 0; i < r->p->n_stop_ids; i++) {
        if (r->p->stop_ids[i] == id) {
            return true;
        }
    }
    return !r->p->ignore_eos && bnt_tokenizer_is_eog(r->t, id);
}

/* From whole rows. */
static enum bnt_status pick_of_all(struct run *r, int32_t *id, struct bnt_err *err)
{
    float *logits = bnt_session_logits(r->s);
    enum bnt_status st = r->p->check_logits ? bnt_quality_logits(logits, r->n_vocab, err) : BNT_OK;
    if (st == BNT_OK && r->raw != NULL) {
        memcpy(r->raw, logits, (size_t)r->n_vocab * sizeof(*logits));
    }
    if (st == BNT_OK) {
        st = bnt_sampler_next(r->sampler, logits, id, err);
    }
    return st;
}

/* Where the back end can choose the best logits itself, and those are all that the sampler and the
 * caller look at. */
static bool near_decides(struct run *r)
{
    bool whole = r->p->n_logprobs > 0 || r->p->check_logits ||
                 (uint32_t)r->n_vocab != bnt_session_n_vocab(r->s) || !bnt_session_has_best(r->s);
    if (whole || !bnt_sampler_near(r->sampler, &r->near)) {
        return false;
    }
    bool more = bnt_sampler_changes(r->sampler) || r->p->speculate > 0;
    return !more || bnt_session_has_near(r->s);
}

static enum bnt_status pick(struct run *r, int32_t *id, struct bnt_err *err)
{
    enum bnt_status st =
        r->by_near ? bnt_sampler_next_near(r->sampler, &r->near, id, err) : pick_of_all(r, id, err);
    return st == BNT_OK ? BNT_OK
                        : bnt_err_context(err, "token %zu (position %u)", r->g->ids.n, r->past);
}

/* Log-probabilities of the distribution that id was picked from, into the row of the next id. */
static void record_logprobs(struct run *r, int32_t id)
{
    if (r->raw != NULL) {
        struct bnt_generation *g = r->g;
        struct bnt_candidate *row = g->best + g->ids.n * g->n_best;
        size_t n = bnt_logprobs_top(r->raw, r->n_vocab, g->n_best, row);
        for (; n < g->n_best; n++) { /* banned or broken logits leave the row short */
            row[n].id = -1;
        }
        g->logprob[g->ids.n] = (float)((double)r->raw[id] - bnt_logsumexp(r->raw, r->n_vocab));
    }
}

/* Text in r->piece through the stop strings to the caller. */
static enum bnt_status emit(struct run *r, bool flush, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    bnt_buf_reset(&r->out);
    if (r->p->stop == NULL) {
        st = bnt_buf_append(&r->out, bnt_buf_view(&r->piece), r->piece.len, err);
    } else if (r->g->stop_string < 0) {
        st = bnt_stop_push(r->p->stop, bnt_buf_view(&r->piece), r->piece.len, &r->out,
                           &r->g->stop_string, err);
        if (st == BNT_OK && flush && r->g->stop_string < 0) {
            st = bnt_stop_flush(r->p->stop, &r->out, err);
        }
    }
    if (st == BNT_OK && r->out.len > 0) {
        st = bnt_buf_append(&r->g->text, r->out.data, r->out.len, err);
    }
    if (st == BNT_OK && r->out.len > 0 && r->p->on_text != NULL) {
        st = r->p->on_text(r->p->ctx, r->out.data, r->out.len, err);
    }
    return st;
}

static enum bnt_status output(struct run *r, int32_t id, struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    bnt_buf_reset(&r->piece);
    enum bnt_status st = bnt_detok_push(&r->detok, id, &r->piece, err);
    if (st == BNT_OK) {
        st = emit(r, false, err);
    }
    r->g->times.output_ns += bnt_clock_now_ns() - t0;
    return st;
}

static enum bnt_status flush_output(struct run *r, struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    bnt_buf_reset(&r->piece);
    enum bnt_status st = bnt_detok_flush(&r->detok, &r->piece, err);
    if (st == BNT_OK) {
        st = emit(r, true, err);
    }
    r->g->times.output_ns += bnt_clock_now_ns() - t0;
    return st;
}

/* Evaluate, add the time to *ns. *stopped: an interruption came meanwhile. */
static enum bnt_status eval(struct run *r, const int32_t *ids, size_t n, uint64_t *ns,
                            bool *stopped, struct bnt_err *err)
{
    uint64_t t0 = bnt_clock_now_ns();
    struct bnt_err inner = {0};
    enum bnt_status st = r->by_near && bnt_sampler_near(r->sampler, &r->near)
                             ? bnt_session_eval_near(r->s, ids, n, &r->near, &inner)
                             : bnt_session_eval(r->s, ids, n, &inner);
    *ns += bnt_clock_now_ns() - t0;
    *stopped = st == BNT_E_INTERRUPTED && interrupted(r);
    if (*stopped) {
        return BNT_OK;
    }
    if (st != BNT_OK && err != NULL && err->status == BNT_OK) {
        *err = inner;
    }
    return st;
}

/* Pick one id and put it out. */
static enum bnt_status next_id(struct run *r, struct bnt_err *err)
{
    struct bnt_generation *g = r->g;
    int32_t id;
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = pick(r, &id, err);
    if (st != BNT_OK) {
        return st;
    }
    r->done = true;
    g->finish = BNT_FINISH_STOP;
    if (is_stop_id(r, id)) {
        g->stop_id = id;
        g->times.sample_ns += bnt_clock_now_ns() - t0;
        return BNT_OK;
    }
    record_logprobs(r, id);
    uint64_t now = bnt_clock_now_ns();
    g->times.sample_ns += now - t0;
    g->token_ns[g->ids.n] = now - r->last_ns;
    r->last_ns = now;
    if (g->ids.n == 0) {
        g->times.first_token_ns = now - r->start_ns;
    }
    g->ids.at[g->ids.n++] = id;
    if (r->text != NULL) {
        r->text[r->n_text++] = id;
    }
    st = output(r, id, err);
    if (st != BNT_OK || g->stop_string >= 0) {
        return st;
    }
    bool full = r->past == bnt_session_n_ctx(r->s);
    g->finish = g->ids.n == r->p->max_tokens ? BNT_FINISH_LENGTH : BNT_FINISH_CONTEXT;
    r->done = g->ids.n == r->most || full;
    return BNT_OK;
}

/* ---- Speculation. The last id is evaluated together with a draft of what follows it. From each
 * row of logits an id is picked as it would be without a draft; when it is the draft's, the next
 * row is that of an evaluation one by one, bit for bit (bnt_infer.h), else it is of another text,
 * and the positions of the rest are forgotten. */

static void make_draft(struct run *r)
{
    size_t room = bnt_session_n_ctx(r->s) - r->past - 1, left = r->most - r->g->ids.n - 1;
    size_t most = r->width < room ? r->width : room;
    r->n_draft = 0;
    if (r->text != NULL) {
        most = most < left ? most : left;
        most = most < bnt_session_n_batch(r->s) ? most : bnt_session_n_batch(r->s) - 1;
        r->n_draft = (uint32_t)draft_look_up(r->text, r->n_text, most, r->batch + 1);
    }
}

static enum bnt_status on_row(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    struct run *r = ctx;
    (void)logits;
    r->past++;
    if (interrupted(r)) {
        return BNT_E_INTERRUPTED;
    }
    size_t n_before = r->g->ids.n;
    enum bnt_status st = next_id(r, err);
    if (st != BNT_OK || index == r->n_draft) {
        return st;
    }
    bool same = r->g->ids.n > n_before && r->g->ids.at[n_before] == r->batch[1 + index];
    r->g->speculation.accepted += same;
    if (r->done || (!same && !BNT_FAULT(speculate_unverified))) {
        r->parted = true;
        return BNT_E_INTERRUPTED; /* ends the rows: no failure */
    }
    return BNT_OK;
}

/* The same by the logits that decide: what these are depends on the ids before. */
static enum bnt_status near_rows(struct run *r, struct bnt_err *err)
{
    enum bnt_status st = bnt_session_push(r->s, r->batch, 1 + (size_t)r->n_draft, err);
    for (uint32_t i = 0; st == BNT_OK && i <= r->n_draft; i++) {
        bnt_sampler_near(r->sampler, &r->near);
        st = bnt_session_near_at(r->s, i, &r->near, err);
        if (st == BNT_OK) {
            st = on_row(r, i, NULL, err);
        }
    }
    return st;
}

static uint32_t at_most(const struct run *r, uint32_t width)
{
    uint32_t longest =
        r->p->speculate < BNT_SPECULATE_MAX ? r->p->speculate : (uint32_t)BNT_SPECULATE_MAX;
    return width < longest ? width : longest;
}

/* Drafts that fail cost the time of their rows: make them shorter, and longer when all is right. */
static void adapt_width(struct run *r, uint64_t accepted)
{
    if (accepted == r->n_draft) {
        r->width = at_most(r, r->width * 2);
    } else if (accepted * 2 < r->n_draft && r->width > 1) {
        r->width /= 2;
    }
}

static enum bnt_status verify(struct run *r, bool *stopped, struct bnt_err *err)
{
    struct bnt_generation *g = r->g;
    struct bnt_generate_times *t = &g->times;
    struct bnt_speculation *sp = &g->speculation;
    struct bnt_err inner = {0};
    uint64_t accepted = sp->accepted, n_ids = g->ids.n, other_ns = t->sample_ns + t->output_ns;
    uint64_t t0 = bnt_clock_now_ns();
    r->batch[0] = g->ids.at[g->ids.n - 1];
    r->parted = false;
    enum bnt_status st = r->by_near ? near_rows(r, &inner)
                                    : bnt_session_eval_each(r->s, r->batch, 1 + (size_t)r->n_draft,
                                                            on_row, r, &inner);
    uint64_t ns = bnt_clock_now_ns() - t0 - (t->sample_ns + t->output_ns - other_ns);
    t->decode_ns += ns;
    sp->drafts_ns += ns;
    sp->drafts++;
    sp->drafted += r->n_draft;
    sp->draft_ids += g->ids.n - n_ids;
    adapt_width(r, sp->accepted - accepted);
    *stopped = st == BNT_E_INTERRUPTED && !r->parted && interrupted(r);
    if (st != BNT_OK && !r->parted && !*stopped) {
        return bnt_err_copy(err, &inner);
    }
    return r->past < bnt_session_n_past(r->s) ? bnt_session_rewind(r->s, r->past, err) : BNT_OK;
}

/* Evaluate the last id and pick what follows. */
static enum bnt_status single(struct run *r, bool *stopped, struct bnt_err *err)
{
    struct bnt_generation *g = r->g;
    uint64_t before_ns = g->times.decode_ns;
    enum bnt_status st = eval(r, &g->ids.at[g->ids.n - 1], 1, &g->times.decode_ns, stopped, err);
    g->speculation.singles++;
    g->speculation.singles_ns += g->times.decode_ns - before_ns;
    r->past = bnt_session_n_past(r->s);
    *stopped = *stopped || interrupted(r);
    return st == BNT_OK && !*stopped ? next_id(r, err) : st;
}

static enum bnt_status loop(struct run *r, struct bnt_err *err)
{
    bool stopped = interrupted(r);
    enum bnt_status st = stopped ? BNT_OK : next_id(r, err);
    while (st == BNT_OK && !r->done && !stopped) {
        make_draft(r);
        st = r->n_draft > 0 ? verify(r, &stopped, err) : single(r, &stopped, err);
        stopped = stopped || (!r->done && interrupted(r));
    }
    if (st == BNT_OK && !r->done) {
        r->g->finish = BNT_FINISH_INTERRUPTED;
    }
    return st;
}

/* The text that drafts are looked up in: all that the session holds. */
static enum bnt_status begin_drafts(struct run *r, struct bnt_err *err)
{
    if (r->p->speculate == 0) {
        return BNT_OK;
    }
    size_t n = bnt_session_n_past(r->s);
    r->text = malloc((n + r->most) * sizeof(*r->text));
    if (r->text == NULL) {
        return bnt_err_nomem(err, "the text for drafts", (n + r->most) * sizeof(*r->text));
    }
    memcpy(r->text, bnt_session_ids(r->s), n * sizeof(*r->text));
    r->n_text = n;
    r->width = at_most(r, FIRST_DRAFT);
    return BNT_OK;
}

static enum bnt_status check_room(const struct run *r, size_t n, struct bnt_err *err)
{
    if (n == 0) {
        return bnt_err_set(err, BNT_E_USAGE, "the prompt is empty: there is nothing to continue");
    }
    uint32_t past = bnt_session_n_past(r->s), n_ctx = bnt_session_n_ctx(r->s);
    if (n >= n_ctx - past) {
        bnt_err_set(err, BNT_E_USAGE,
                    "the prompt of %zu ids%s needs a context of at least %zu: this one has %u", n,
                    past > 0 ? " after those in the session" : "", past + n + 1, n_ctx);
        bnt_err_hint(err, "give --ctx %zu, or a shorter prompt", past + n + 1);
        return BNT_E_USAGE;
    }
    return BNT_OK;
}

/* The first word of a SentencePiece text loses its leading space only where no text stands before
 * it. */
static void begin_text(struct run *r, const int32_t *prompt, size_t n)
{
    bnt_detok_init(&r->detok, r->t, false);
    for (size_t i = 0; i < n && !r->detok.started; i++) {
        r->detok.started = !bnt_tokenizer_is_control(r->t, prompt[i]);
    }
    if (r->p->stop != NULL) {
        bnt_stop_reset(r->p->stop);
    }
}

enum bnt_status bnt_generate(struct bnt_session *s, const struct bnt_tokenizer *t,
                             struct bnt_sampler *sampler, const int32_t *prompt, size_t n,
                             const struct bnt_generate_params *p, struct bnt_generation *g,
                             struct bnt_err *err)
{
    struct run r = {.s = s,
                    .t = t,
                    .sampler = sampler,
                    .p = p,
                    .g = g,
                    .n_vocab = bnt_sampler_n_vocab(sampler)};
    uint32_t held = 0;
    enum bnt_status st = p->whole && n > 0 ? bnt_session_reuse(s, prompt, n, &held, err) : BNT_OK;
    if (st == BNT_OK) {
        st = check_room(&r, n - held, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    g->n_reused = held;
    bnt_buf_init(&r.piece, BNT_GENERATE_MAX_TEXT);
    bnt_buf_init(&r.out, BNT_GENERATE_MAX_TEXT);
    r.most = most_ids(&r, n - held);
    bool stopped = false;
    r.by_near = near_decides(&r);
    st = reserve(&r, r.most, err);
    r.start_ns = bnt_clock_now_ns();
    if (st == BNT_OK) {
        begin_text(&r, prompt, n);
        for (size_t i = 0; i < n; i++) { /* what the sampler asks for depends on it */
            bnt_sampler_accept(sampler, prompt[i]);
        }
        st = eval(&r, prompt + held, n - held, &g->times.prefill_ns, &stopped, err);
    }
    r.past = bnt_session_n_past(s);
    if (st == BNT_OK && !stopped) {
        st = begin_drafts(&r, err);
    }
    r.last_ns = bnt_clock_now_ns();
    if (st == BNT_OK) {
        g->finish = BNT_FINISH_INTERRUPTED;
        st = stopped ? BNT_OK : loop(&r, err);
    }
    if (st == BNT_OK) {
        st = flush_output(&r, err);
    }
    g->times.total_ns = bnt_clock_now_ns() - r.start_ns;
    free(r.raw);
    free(r.text);
    bnt_buf_release(&r.piece);
    bnt_buf_release(&r.out);
    return st;
}
