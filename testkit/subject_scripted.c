/* The subject that answers from a file. */
#include <stdlib.h>
#include <string.h>

#include "mock/scripted.h"
#include "testkit/subject.h"

struct scripted_subject {
    struct bnt_subject base;
    struct bnt_scripted *script;
    char path[BNT_PATH_MAX];
    char digest[BNT_SHA256_HEX];
};

static const struct scripted_subject *of(const struct bnt_subject *s)
{
    return (const struct scripted_subject *)s;
}

static void describe(const struct bnt_subject *s, struct bnt_subject_facts *out)
{
    const struct bnt_scripted *script = of(s)->script;
    bool ids = bnt_scripted_has_ids(script);
    out->kind = "scripted";
    out->name = bnt_scripted_name(script);
    out->place = of(s)->path;
    out->digest = of(s)->digest;
    out->n_vocab = bnt_scripted_n_vocab(script);
    out->n_ctx = bnt_scripted_n_ctx(script);
    out->can = BNT_CAN_GENERATE | (ids ? BNT_CAN_TOKENIZE | BNT_CAN_IDS : 0) |
               (bnt_scripted_has_logits(script) ? BNT_CAN_EVALUATE : 0) |
               (bnt_scripted_has_logprobs(script) ? BNT_CAN_LOGPROBS : 0);
}

/* A script has one reading of a prompt, whatever the flags. */
static enum bnt_status tokenize(struct bnt_subject *s, const char *text, size_t len, unsigned flags,
                                struct bnt_ids *out, struct bnt_err *err)
{
    (void)flags;
    return bnt_scripted_tokenize(of(s)->script, text, len, out, err);
}

static enum bnt_status evaluate(struct bnt_subject *s, const int32_t *ids, size_t n,
                                bnt_logits_fn *fn, void *ctx, struct bnt_err *err)
{
    return bnt_scripted_evaluate(of(s)->script, ids, n, fn, ctx, err);
}

static enum bnt_status generate(struct bnt_subject *s, const struct bnt_subject_request *r,
                                struct bnt_subject_answer *out, struct bnt_err *err)
{
    struct bnt_stop *stop = NULL;
    struct bnt_scripted_prompt prompt = {r->prompt, r->prompt_len, r->ids, r->n_ids};
    enum bnt_status st = BNT_OK;
    /* A prompt without scripted ids is no error here: its answer may have text alone. */
    if (r->prompt) {
        (void)bnt_scripted_tokenize(of(s)->script, r->prompt, r->prompt_len, &out->prompt_ids,
                                    NULL);
    }
    for (size_t i = 0; st == BNT_OK && i < r->n_ids; i++) {
        st = bnt_ids_push(&out->prompt_ids, r->ids[i], err);
    }
    if (st == BNT_OK && r->n_stop > 0) {
        st = bnt_stop_new(r->stop, r->n_stop, &stop, err);
    }
    struct bnt_generate_params p = {
        .max_tokens = r->max_tokens, .stop = stop, .n_logprobs = r->n_logprobs};
    if (st == BNT_OK) {
        st = bnt_scripted_generate(of(s)->script, &prompt, &p, &out->made, err);
    }
    bnt_stop_free(stop);
    return st;
}

static void close_scripted(struct bnt_subject *s)
{
    bnt_scripted_close(((struct scripted_subject *)s)->script);
    free(s);
}

static const struct bnt_subject_ops ops = {
    .describe = describe,
    .tokenize = tokenize,
    .evaluate = evaluate,
    .generate = generate,
    .close = close_scripted,
};

enum bnt_status bnt_subject_open_scripted(const char *path, struct bnt_subject **out,
                                          struct bnt_err *err)
{
    struct scripted_subject *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) {
        return bnt_err_nomem(err, "a subject", sizeof *s);
    }
    s->base.ops = &ops;
    enum bnt_status st = bnt_path_format(s->path, err, "%s", path);
    if (st == BNT_OK) {
        st = bnt_scripted_open(path, &s->script, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_file(path, NULL, NULL, s->digest, err);
    }
    if (st != BNT_OK) {
        close_scripted(&s->base);
        return st;
    }
    *out = &s->base;
    return BNT_OK;
}
