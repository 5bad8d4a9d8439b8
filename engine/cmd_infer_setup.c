/* `bnt infer`: from options to an open session, a sampler and stops. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/msg.h"
#include "engine/cmd_infer_impl.h"
#include "engine/engine_arg.h"
#include "engine/file_facts.h"

static enum bnt_status parse_id(const char *option, const char *text, size_t len, int32_t n_vocab,
                                int32_t *out, struct bnt_err *err)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || end != text + len || errno != 0 || v < 0 || v >= n_vocab) {
        return bnt_err_set(err, BNT_E_USAGE, "%s %s: not an id from 0 to %d", option, text,
                           n_vocab - 1);
    }
    *out = (int32_t)v;
    return BNT_OK;
}

static enum bnt_status parse_bias(const char *text, int32_t n_vocab, struct bnt_logit_bias *out,
                                  struct bnt_err *err)
{
    const char *equals = strchr(text, '=');
    if (equals == NULL) {
        return bnt_err_set(err, BNT_E_USAGE, "--logit-bias %s: must be ID=VALUE", text);
    }
    char *end;
    out->bias = strtof(equals + 1, &end);
    if (end == equals + 1 || *end != '\0' || isnan(out->bias) || out->bias == INFINITY) {
        return bnt_err_set(err, BNT_E_USAGE, "--logit-bias %s: VALUE must be a number or -inf",
                           text);
    }
    return parse_id("--logit-bias", text, (size_t)(equals - text), n_vocab, &out->id, err);
}

static enum bnt_status choose_seed(struct infer *in, struct bnt_err *err)
{
    const char *text = in->o->seed;
    if (text != NULL) {
        char *end;
        errno = 0;
        in->sampling.seed = strtoull(text, &end, 10);
        if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
            return bnt_err_set(err, BNT_E_USAGE, "--seed %s: not a whole number from 0 to 2^64 - 1",
                               text);
        }
    } else if (in->seeded && getrandom(&in->sampling.seed, sizeof(in->sampling.seed), 0) < 0) {
        return bnt_err_errno(err, "drawing a seed");
    }
    if (in->seeded && text == NULL) {
        in->sampling.seed >>=
            11; /* 53 bits: readers of JSON that know only doubles keep it exactly */
        bnt_msg_verbose("seed: %llu", (unsigned long long)in->sampling.seed);
    }
    return BNT_OK;
}

static int32_t n_vocab_of(const struct infer *in)
{
    int32_t tokens = bnt_tokenizer_n_vocab(in->t),
            rows = (int32_t)bnt_model_info(in->model)->n_vocab;
    return tokens < rows ? tokens : rows;
}

/* What the options say of sampling, but for the seed and the values of biases. */
static struct bnt_sampler_params sampling_of(const struct infer_opts *o)
{
    struct bnt_sampler_params p = bnt_sampler_defaults();
    p.temperature = o->temperature;
    p.top_k = (int32_t)o->top_k;
    p.top_p = o->top_p;
    p.min_p = o->min_p;
    p.typical_p = o->typical_p;
    p.repeat_penalty = o->repeat_penalty;
    p.frequency_penalty = o->frequency_penalty;
    p.presence_penalty = o->presence_penalty;
    p.penalty_last_n = (int32_t)o->penalty_last_n;
    p.n_bias = o->logit_bias.n;
    return p;
}

enum bnt_status infer_make_sampler(struct infer *in, struct bnt_err *err)
{
    const struct infer_opts *o = in->o;
    struct bnt_sampler_params *p = &in->sampling;
    int32_t n_vocab = n_vocab_of(in);
    *p = sampling_of(o);
    in->seeded = p->temperature > 0;
    enum bnt_status st = choose_seed(in, err);
    for (size_t i = 0; i < o->logit_bias.n && st == BNT_OK; i++) {
        st = parse_bias(o->logit_bias.at[i], n_vocab, &in->bias[i], err);
    }
    p->bias = in->bias;
    return st == BNT_OK ? bnt_sampler_new(p, n_vocab, &in->sampler, err) : st;
}

/* A text that ends answers of a chat form: a token where the vocabulary has it, else a stop string.
 */
static enum bnt_status add_form_stop(struct infer *in, const char *text, struct bnt_err *err)
{
    int32_t id = bnt_tokenizer_find(in->t, text);
    if (id >= 0) {
        return bnt_ids_push(&in->stop_ids, id, err);
    }
    in->stop_texts[in->n_stop_texts++] = text;
    return BNT_OK;
}

enum bnt_status infer_make_stops(struct infer *in, struct bnt_err *err)
{
    const struct infer_opts *o = in->o;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < o->stop_id.n && st == BNT_OK; i++) {
        int32_t id = 0;
        st = parse_id("--stop-id", o->stop_id.at[i], strlen(o->stop_id.at[i]), n_vocab_of(in), &id,
                      err);
        if (st == BNT_OK) {
            st = bnt_ids_push(&in->stop_ids, id, err);
        }
    }
    for (size_t i = 0; i < o->stop.n; i++) {
        in->stop_texts[in->n_stop_texts++] = o->stop.at[i];
    }
    for (size_t i = 0; i < 4 && in->chat.stop[i] != NULL && !o->ignore_eos && st == BNT_OK; i++) {
        st = add_form_stop(in, in->chat.stop[i], err);
    }
    return st == BNT_OK ? bnt_stop_new(in->stop_texts, in->n_stop_texts, &in->stop, err) : st;
}

/* ---- Opening. */

/* A copy of the head is of use where the best logits are all that anybody looks at. */
static enum bnt_head_form head_for(const struct infer_opts *o, enum bnt_head_form form)
{
    struct bnt_sampler_params p = sampling_of(o);
    size_t k = bnt_sampler_params_n_best(&p);
    bool near = k > 0 && k <= BNT_BEST_MAX && o->logprobs == 0 && !o->validate;
    if (!near && form == BNT_HEAD_SCREENED) {
        bnt_msg_warn("--head screened is for greedy decoding and --top-k up to 64, without "
                     "--logprobs and --validate-output",
                     "the output matrix is read in full: these options look at other logits, too");
    }
    return near ? form : BNT_HEAD_NARROW;
}

/* It happens once for each model and takes seconds, in which nothing else is seen. */
static void tell_packing(void *ctx, uint64_t bytes)
{
    (void)ctx;
    if (isatty(STDERR_FILENO)) {
        bnt_msg_note("packing %.0f MB of weights, which later starts find in the cache (--packed, "
                     "--head)",
                     (double)bytes / 1e6);
    }
}

static enum bnt_status open_model(struct infer *in, const struct bnt_session_options *session,
                                  struct bnt_err *err)
{
    const struct infer_opts *o = in->o;
    struct bnt_model_options mo = bnt_engine_model(&o->engine);
    char packed_dir[BNT_PATH_MAX];
    mo.session = session;
    mo.head = head_for(o, mo.head);
    mo.packing = tell_packing;
    bnt_engine_packed(o->engine.packed, in->ref.digest, packed_dir, &mo);
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st = bnt_model_open(in->ref.path, &mo, &in->model, err);
    in->load_ns = bnt_clock_now_ns() - t0;
    if (st == BNT_OK) {
        in->t = bnt_model_tokenizer(in->model);
    }
    return st;
}

static enum bnt_status detect_chat(struct infer *in, struct bnt_err *err)
{
    if (!in->o->chat || in->o->raw) {
        return BNT_OK;
    }
    enum bnt_status st =
        bnt_chat_detect(bnt_model_gguf(in->model), in->o->chat_template, &in->chat, err);
    if (st == BNT_OK && in->chat.note != NULL) {
        bnt_msg_note("%s", in->chat.note);
    }
    return st;
}

enum bnt_status infer_open(struct infer *in, struct bnt_err *err)
{
    const struct infer_opts *o = in->o;
    enum bnt_status st = bnt_model_arg_resolve(in->app, &o->model, &in->ref, &in->mock, err);
    if (st != BNT_OK) {
        return st;
    }
    if (in->mock) {
        bnt_model_arg_warn(&in->ref);
    }
    struct bnt_session_options so = bnt_engine_session(&o->engine);
    so.interrupted = in->app->interrupted;
    st = open_model(in, &so, err);
    if (st == BNT_OK && so.n_ctx > bnt_model_info(in->model)->n_ctx_train) {
        bnt_msg_warn("answers lose their thread past that",
                     "--ctx %u: this model was trained with %u positions", so.n_ctx,
                     bnt_model_info(in->model)->n_ctx_train);
    }
    if (st == BNT_OK) {
        st = detect_chat(in, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    uint64_t t0 = bnt_clock_now_ns();
    st = bnt_session_new(in->model, &so, &in->session, err);
    in->session_ns = bnt_clock_now_ns() - t0;
    if (st == BNT_OK && bnt_session_kernel_note(in->session)[0] != '\0') {
        bnt_msg_warn(NULL, "%s", bnt_session_kernel_note(in->session));
    }
    return st;
}

void infer_close(struct infer *in)
{
    bnt_ids_release(&in->prompt);
    bnt_ids_release(&in->stop_ids);
    bnt_stop_free(in->stop);
    bnt_sampler_free(in->sampler);
    if (in->session != NULL) {
        bnt_session_free(in->session);
    }
    if (in->model != NULL) {
        bnt_model_close(in->model);
    }
}

enum bnt_status infer_need_digest(struct infer *in, struct bnt_err *err)
{
    bool hashed;
    if (in->ref.digest[0] != '\0') {
        return BNT_OK;
    }
    uint64_t t0 = bnt_clock_now_ns();
    enum bnt_status st =
        bnt_digest_of_file(in->ref.path, in->app->interrupted, in->ref.digest, &hashed, err);
    in->hash_ns = bnt_clock_now_ns() - t0;
    if (st != BNT_OK) {
        in->ref.digest[0] = '\0';
    }
    return st;
}

struct bnt_generate_params infer_params(const struct infer *in)
{
    const struct infer_opts *o = in->o;
    struct bnt_generate_params p = {.ignore_eos = o->ignore_eos,
                                    .check_logits = o->validate,
                                    .stop_ids = in->stop_ids.at,
                                    .n_stop_ids = in->stop_ids.n,
                                    .stop = in->stop,
                                    .n_logprobs = (uint32_t)o->logprobs,
                                    .whole = true,
                                    .speculate = (uint32_t)o->speculate,
                                    .interrupted = in->app->interrupted};
    if (o->max_tokens > 0) {
        p.max_tokens = (uint32_t)o->max_tokens;
    } else if (o->max_tokens == 0 && !infer_converses(o) && !isatty(STDOUT_FILENO)) {
        p.max_tokens = 32;
    }
    return p;
}
