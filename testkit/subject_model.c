/* The subjects in the engine: a trained model, or one drawn from a seed. */
#include <stdlib.h>
#include <string.h>

#include "engine/engine_arg.h"
#include "engine/model_arg.h"
#include "testkit/scoring.h"
#include "testkit/subject.h"

struct model_subject {
    struct bnt_subject base;
    struct bnt_model_ref ref;
    struct bnt_model *model;
    struct bnt_session *session;
};

static struct model_subject *of(struct bnt_subject *s)
{
    return (struct model_subject *)s;
}

static void describe(const struct bnt_subject *s, struct bnt_subject_facts *out)
{
    const struct model_subject *m = (const struct model_subject *)s;
    const struct bnt_model_info *info = bnt_model_info(m->model);
    *out = (struct bnt_subject_facts){.kind = m->ref.kind,
                                      .name = info->name,
                                      .arch = info->arch,
                                      .place = m->ref.path,
                                      .digest = m->ref.digest,
                                      .n_vocab = info->n_vocab,
                                      .n_ctx = bnt_session_n_ctx(m->session),
                                      .can = BNT_CAN_TOKENIZE | BNT_CAN_EVALUATE |
                                             BNT_CAN_GENERATE | BNT_CAN_IDS | BNT_CAN_LOGPROBS |
                                             BNT_CAN_SAMPLE | BNT_CAN_TAPS | BNT_CAN_SCORE,
                                      .model = m->model,
                                      .session = m->session};
}

static enum bnt_status tokenize(struct bnt_subject *s, const char *text, size_t len, unsigned flags,
                                struct bnt_ids *out, struct bnt_err *err)
{
    return bnt_tokenizer_encode(bnt_model_tokenizer(of(s)->model), text, len, flags, out, err);
}

static enum bnt_status evaluate(struct bnt_subject *s, const int32_t *ids, size_t n,
                                bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    struct bnt_session *session = of(s)->session;
    enum bnt_status st = bnt_session_rewind(session, 0, err);
    return st == BNT_OK ? bnt_session_eval_each(session, ids, n, fn, ctx, err) : st;
}

/* The ids of the prompt in out->prompt_ids. */
static enum bnt_status read_prompt(struct bnt_subject *s, const struct bnt_subject_request *r,
                                   struct bnt_subject_answer *out, struct bnt_err *err)
{
    if (r->prompt) {
        return tokenize(s, r->prompt, r->prompt_len,
                        BNT_ENCODE_ADD_SPECIAL | BNT_ENCODE_PARSE_SPECIAL, &out->prompt_ids, err);
    }
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < r->n_ids; i++) {
        st = bnt_ids_push(&out->prompt_ids, r->ids[i], err);
    }
    return st;
}

static enum bnt_status run(struct model_subject *m, const struct bnt_subject_request *r,
                           struct bnt_subject_answer *out, struct bnt_stop *stop,
                           struct bnt_err *err)
{
    struct bnt_sampler_params sampling = r->sampling ? *r->sampling : bnt_sampler_defaults();
    struct bnt_sampler *sampler = NULL;
    const struct bnt_tokenizer *t = bnt_model_tokenizer(m->model);
    struct bnt_generate_params p = {.max_tokens = r->max_tokens,
                                    .ignore_eos = r->ignore_eos,
                                    .check_logits = true,
                                    .whole = true,
                                    .stop = stop,
                                    .n_logprobs = r->n_logprobs,
                                    .interrupted = r->interrupted};
    enum bnt_status st = bnt_sampler_new(&sampling, bnt_tokenizer_n_vocab(t), &sampler, err);
    if (st == BNT_OK) {
        st = bnt_generate(m->session, t, sampler, out->prompt_ids.at, out->prompt_ids.n, &p,
                          &out->made, err);
    }
    bnt_sampler_free(sampler);
    return st;
}

static enum bnt_status generate(struct bnt_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err)
{
    struct bnt_stop *stop = NULL;
    /* What an earlier prompt begins with, too, is not evaluated again, unless that is the question.
     */
    enum bnt_status st = r->afresh ? bnt_session_rewind(of(s)->session, 0, err) : BNT_OK;
    if (st == BNT_OK) {
        st = read_prompt(s, r, out, err);
    }
    if (st == BNT_OK && r->n_stop > 0) {
        st = bnt_stop_new(r->stop, r->n_stop, &stop, err);
    }
    if (st == BNT_OK) {
        st = run(of(s), r, out, stop, err);
    }
    bnt_stop_free(stop);
    return st;
}

static enum bnt_status taps(struct bnt_subject *s, const int32_t *ids, size_t n,
                            const struct bnt_tap *tap, struct bnt_err *err)
{
    struct bnt_session *session = of(s)->session;
    enum bnt_status st = bnt_session_rewind(session, 0, err);
    if (st == BNT_OK) {
        bnt_session_set_tap(session, tap);
        st = bnt_session_eval(session, ids, n, err);
        bnt_session_set_tap(session, NULL);
    }
    return st;
}

/* By the engine's own perplexity where the text begins as a chunk of it does. */
static enum bnt_status score(struct bnt_subject *s, const int32_t *ids, size_t n, double *sum,
                             struct bnt_err *err)
{
    struct bnt_session *session = of(s)->session;
    struct bnt_perplexity p;
    if (n < 2 || n > bnt_session_n_ctx(session) ||
        ids[0] != bnt_tokenizer_bos(bnt_model_tokenizer(of(s)->model))) {
        return bnt_score_by_logits(s, ids, n, sum, err);
    }
    enum bnt_status st = bnt_perplexity(session, ids + 1, n - 1, (uint32_t)n, NULL, NULL, &p, err);
    *sum = st == BNT_OK ? -p.nll * (double)p.n_tokens : 0;
    return st;
}

static void close_model(struct bnt_subject *s)
{
    bnt_session_free(of(s)->session);
    bnt_model_close(of(s)->model);
    free(s);
}

static const struct bnt_subject_ops ops = {
    .describe = describe,
    .tokenize = tokenize,
    .evaluate = evaluate,
    .generate = generate,
    .taps = taps,
    .score = score,
    .close = close_model,
};

enum bnt_status bnt_subject_open_model(const struct bnt_model_ref *ref,
                                       const struct bnt_subject_options *opts,
                                       struct bnt_subject **out, struct bnt_err *err)
{
    static const struct bnt_subject_options defaults;
    const struct bnt_subject_options *o = opts ? opts : &defaults;
    struct model_subject *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m) {
        return bnt_err_nomem(err, "a subject", sizeof *m);
    }
    struct bnt_model_options mo = o->model;
    char packed_dir[BNT_PATH_MAX];
    mo.session = &o->session;
    bnt_engine_packed(NULL, ref->digest, packed_dir, &mo);
    m->base.ops = &ops;
    m->ref = *ref;
    enum bnt_status st = bnt_model_kind_of_file(ref->path, &m->ref.kind, err);
    if (st == BNT_OK) {
        st = bnt_model_open(ref->path, &mo, &m->model, err);
    }
    if (st == BNT_OK) {
        st = bnt_session_new(m->model, &o->session, &m->session, err);
    }
    if (st != BNT_OK) {
        close_model(&m->base);
        return st;
    }
    *out = &m->base;
    return BNT_OK;
}
