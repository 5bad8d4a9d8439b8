/* Section behaviour: determinism, and what ends an answer. Only whether a rule holds is written
 * down, never what the weights say. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/generate.h"
#include "engine/sampler.h"
#include "mock/contract_impl.h"

enum { N_PROMPT_MAX = 4, N_MADE = 8 };

struct watching {
    const struct derivation *d;
    const struct bnt_tokenizer *t;
    int32_t prompt[N_PROMPT_MAX];
    size_t n_prompt;
    uint32_t n_vocab;
    float *first; /* logits after the prompt, one thread, one batch */
};

static enum bnt_status verdict(struct watching *w, const char *what, bool holds,
                               struct bnt_err *err)
{
    return bnt_buf_printf(w->d->out, err, "%s: %s\n", what, holds ? "yes" : "no");
}

/* Logits after the prompt with a session of these options into out[n_vocab]. */
static enum bnt_status logits_with(struct watching *w, struct bnt_session_options so, float *out,
                                   struct bnt_err *err)
{
    struct bnt_session *s = NULL;
    so.n_ctx = CONTRACT_N_CTX;
    so.interrupted = w->d->of.interrupted;
    enum bnt_status st = bnt_session_new(w->d->model, &so, &s, err);
    if (st == BNT_OK) {
        st = bnt_session_eval(s, w->prompt, w->n_prompt, err);
    }
    if (st == BNT_OK) {
        memcpy(out, bnt_session_logits(s), w->n_vocab * sizeof *out);
    }
    bnt_session_free(s);
    return st;
}

static enum bnt_status determinism(struct watching *w, struct bnt_err *err)
{
    const struct {
        const char *what;
        struct bnt_session_options so;
    } cases[] = {{"logits are the same twice", {.n_threads = 1}},
                 {"logits are the same with two threads", {.n_threads = 2}},
                 {"logits are the same id by id", {.n_threads = 1, .n_batch = 1}},
                 {"logits are the same with reference kernels", {.n_threads = 1, .kernel = "ref"}}};
    float *other = malloc(w->n_vocab * sizeof *other);
    enum bnt_status st = other ? BNT_OK : bnt_err_nomem(err, "logits", w->n_vocab);
    bool finite = true;
    for (uint32_t i = 0; i < w->n_vocab; i++) {
        finite = finite && isfinite(w->first[i]);
    }
    st = st == BNT_OK ? verdict(w, "logits are finite", finite, err) : st;
    for (size_t i = 0; st == BNT_OK && i < sizeof cases / sizeof cases[0]; i++) {
        st = logits_with(w, cases[i].so, other, err);
        if (st == BNT_OK) {
            bool same = memcmp(w->first, other, w->n_vocab * sizeof *other) == 0;
            st = verdict(w, cases[i].what, same, err);
        }
    }
    free(other);
    return st;
}

/* ---- generation ---- */

/* The prompt continued with these parameters, in a context of its own. */
struct request {
    struct bnt_generate_params params;
    struct bnt_sampler_params sampling;
    const char *stop; /* NULL: none */
    uint32_t n_ctx;
};

static struct request greedy(uint32_t max_tokens)
{
    return (struct request){.params = {.max_tokens = max_tokens, .ignore_eos = true},
                            .sampling = bnt_sampler_defaults(),
                            .n_ctx = CONTRACT_N_CTX};
}

static enum bnt_status generate(struct watching *w, struct request r, struct bnt_generation *g,
                                struct bnt_err *err)
{
    struct bnt_session *s = NULL;
    struct bnt_sampler *sampler = NULL;
    struct bnt_session_options so = {
        .n_ctx = r.n_ctx, .n_threads = 1, .interrupted = w->d->of.interrupted};
    bnt_generation_init(g);
    enum bnt_status st = bnt_session_new(w->d->model, &so, &s, err);
    if (st == BNT_OK) {
        st = bnt_sampler_new(&r.sampling, bnt_tokenizer_n_vocab(w->t), &sampler, err);
    }
    if (st == BNT_OK && r.stop) {
        st = bnt_stop_new(&r.stop, 1, &r.params.stop, err);
    }
    if (st == BNT_OK) {
        st = bnt_generate(s, w->t, sampler, w->prompt, w->n_prompt, &r.params, g, err);
    }
    bnt_stop_free(r.params.stop);
    bnt_sampler_free(sampler);
    bnt_session_free(s);
    return st;
}

static bool same_ids(const struct bnt_generation *a, const struct bnt_generation *b)
{
    return a->ids.n == b->ids.n && memcmp(a->ids.at, b->ids.at, a->ids.n * sizeof *a->ids.at) == 0;
}

static enum bnt_status same_twice(struct watching *w, const char *what, struct request r,
                                  struct bnt_err *err)
{
    struct bnt_generation one, two;
    enum bnt_status st = generate(w, r, &one, err);
    bnt_generation_init(&two);
    if (st == BNT_OK) {
        st = generate(w, r, &two, err);
    }
    st = st == BNT_OK ? verdict(w, what, same_ids(&one, &two), err) : st;
    bnt_generation_release(&one);
    bnt_generation_release(&two);
    return st;
}

/* Finish and number of ids of one request. */
static enum bnt_status ends_with(struct watching *w, const char *what, struct request r,
                                 struct bnt_err *err)
{
    struct bnt_generation g;
    enum bnt_status st = generate(w, r, &g, err);
    if (st == BNT_OK) {
        st = bnt_buf_printf(w->d->out, err, "%s: %s after %zu ids\n", what,
                            bnt_finish_name(g.finish), g.ids.n);
    }
    bnt_generation_release(&g);
    return st;
}

/* A stop string taken from the middle of what comes: the text ends before it. */
static enum bnt_status stop_string(struct watching *w, const struct bnt_generation *g,
                                   struct bnt_err *err)
{
    char stop[4] = "";
    struct bnt_generation cut;
    size_t n = g->text.len < 3 ? g->text.len : 3;
    memcpy(stop, bnt_buf_view(&g->text) + g->text.len / 2 - (g->text.len > 3 ? 1 : 0), n);
    if (strlen(stop) == 0) {
        return verdict(w, "a stop string ends the text before it", false, err);
    }
    struct request r = greedy(N_MADE);
    r.stop = stop;
    enum bnt_status st = generate(w, r, &cut, err);
    const char *text = bnt_buf_view(&g->text), *at = strstr(text, stop);
    bool holds = st == BNT_OK && at && cut.finish == BNT_FINISH_STOP && cut.stop_string == 0 &&
                 cut.text.len == (size_t)(at - text) &&
                 memcmp(bnt_buf_view(&cut.text), text, cut.text.len) == 0;
    bnt_generation_release(&cut);
    return st == BNT_OK ? verdict(w, "a stop string ends the text before it", holds, err) : st;
}

static enum bnt_status stop_rules(struct watching *w, struct bnt_err *err)
{
    struct bnt_generation g;
    struct request r = greedy(N_MADE);
    enum bnt_status st = generate(w, r, &g, err);
    if (st == BNT_OK) {
        st = stop_string(w, &g, err);
    }
    if (st == BNT_OK && g.ids.n > 0) {
        r.params.stop_ids = g.ids.at;
        r.params.n_stop_ids = 1;
        st = ends_with(w, "a stop id", r, err);
    }
    bnt_generation_release(&g);
    if (st == BNT_OK) {
        st = ends_with(w, "at most 4 ids", greedy(4), err);
    }
    if (st == BNT_OK) {
        r = greedy(0);
        r.n_ctx = (uint32_t)w->n_prompt + 3;
        st = ends_with(w, "a context of the prompt and 3", r, err);
    }
    return st;
}

static enum bnt_status generation(struct watching *w, struct bnt_err *err)
{
    struct request warm = greedy(N_MADE);
    warm.sampling.temperature = 1;
    warm.sampling.seed = w->d->of.seed;
    enum bnt_status st = same_twice(w, "greedy ids are the same twice", greedy(N_MADE), err);
    if (st == BNT_OK) {
        st = same_twice(w, "sampled ids of one seed are the same twice", warm, err);
    }
    return st == BNT_OK ? stop_rules(w, err) : st;
}

/* The first ids of a sentence. */
static enum bnt_status take_prompt(struct watching *w, struct bnt_err *err)
{
    static const char text[] = "Once upon a time there was a small fox.";
    struct bnt_ids ids = {0};
    enum bnt_status st =
        bnt_tokenizer_encode(w->t, text, sizeof text - 1, BNT_ENCODE_ADD_SPECIAL, &ids, err);
    for (; st == BNT_OK && w->n_prompt < N_PROMPT_MAX && w->n_prompt < ids.n; w->n_prompt++) {
        w->prompt[w->n_prompt] = ids.at[w->n_prompt];
    }
    bnt_ids_release(&ids);
    return st;
}

enum bnt_status contract_behaviour(struct derivation *d, struct bnt_err *err)
{
    struct watching w = {
        .d = d, .t = bnt_model_tokenizer(d->model), .n_vocab = bnt_model_info(d->model)->n_vocab};
    w.first = malloc(w.n_vocab * sizeof *w.first);
    enum bnt_status st = w.first ? take_prompt(&w, err) : bnt_err_nomem(err, "logits", w.n_vocab);
    if (st == BNT_OK) {
        st = logits_with(&w, (struct bnt_session_options){.n_threads = 1}, w.first, err);
    }
    if (st == BNT_OK) {
        st = determinism(&w, err);
    }
    if (st == BNT_OK) {
        st = generation(&w, err);
    }
    free(w.first);
    return st;
}
