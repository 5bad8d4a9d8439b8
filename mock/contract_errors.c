/* Section errors: what bad input is refused with, asked of the engine with this model. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/generate.h"
#include "engine/sampler.h"
#include "mock/contract_impl.h"

struct asking {
    const struct derivation *d;
    struct bnt_session *s;
    const struct bnt_tokenizer *t;
    int32_t n_vocab;
};

/* One bad input; `number` makes several of one function. */
typedef enum bnt_status bad_fn(struct asking *a, int64_t number, struct bnt_err *err);

static enum bnt_status eval_nothing(struct asking *a, int64_t number, struct bnt_err *err)
{
    (void)number;
    int32_t id = 0;
    return bnt_session_eval(a->s, &id, 0, err);
}

static enum bnt_status eval_id(struct asking *a, int64_t number, struct bnt_err *err)
{
    int32_t id = (int32_t)number;
    return bnt_session_eval(a->s, &id, 1, err);
}

static enum bnt_status eval_past_vocabulary(struct asking *a, int64_t number, struct bnt_err *err)
{
    return eval_id(a, a->n_vocab + number, err);
}

static enum bnt_status eval_many(struct asking *a, int64_t number, struct bnt_err *err)
{
    int32_t ids[CONTRACT_N_CTX + 1] = {0};
    return bnt_session_eval(a->s, ids, (size_t)number, err);
}

static enum bnt_status rewind_to(struct asking *a, int64_t number, struct bnt_err *err)
{
    return bnt_session_rewind(a->s, (uint32_t)number, err);
}

static enum bnt_status session_of(struct asking *a, const struct bnt_session_options *so,
                                  struct bnt_err *err)
{
    struct bnt_session *s = NULL;
    enum bnt_status st = bnt_session_new(a->d->model, so, &s, err);
    bnt_session_free(s);
    return st;
}

static enum bnt_status session_context(struct asking *a, int64_t number, struct bnt_err *err)
{
    return session_of(a, &(struct bnt_session_options){.n_ctx = (uint32_t)number}, err);
}

static enum bnt_status session_kernel(struct asking *a, int64_t number, struct bnt_err *err)
{
    (void)number;
    return session_of(a, &(struct bnt_session_options){.n_ctx = 8, .kernel = "abacus"}, err);
}

static enum bnt_status decode_id(struct asking *a, int64_t number, struct bnt_err *err)
{
    int32_t id = number < 0 ? -1 : bnt_tokenizer_n_vocab(a->t);
    struct bnt_buf out = BNT_BUF(1 << 16);
    enum bnt_status st = bnt_tokenizer_decode(a->t, &id, 1, true, &out, err);
    bnt_buf_release(&out);
    return st;
}

static enum bnt_status piece_of_id(struct asking *a, int64_t number, struct bnt_err *err)
{
    int32_t id = number < 0 ? -1 : bnt_tokenizer_n_vocab(a->t);
    struct bnt_buf out = BNT_BUF(1 << 16);
    enum bnt_status st = bnt_tokenizer_piece(a->t, id, true, &out, err);
    bnt_buf_release(&out);
    return st;
}

static enum bnt_status generate_after(struct asking *a, int64_t number, struct bnt_err *err)
{
    int32_t prompt[CONTRACT_N_CTX + 1] = {0};
    struct bnt_generate_params p = {.max_tokens = 1};
    struct bnt_generation g;
    struct bnt_sampler *sampler = NULL;
    struct bnt_sampler_params greedy = bnt_sampler_defaults();
    bnt_generation_init(&g);
    enum bnt_status st = bnt_sampler_new(&greedy, bnt_tokenizer_n_vocab(a->t), &sampler, err);
    if (st == BNT_OK) {
        st = bnt_generate(a->s, a->t, sampler, prompt, (size_t)number, &p, &g, err);
    }
    bnt_sampler_free(sampler);
    bnt_generation_release(&g);
    return st;
}

static enum bnt_status sampler_of(struct asking *a, const struct bnt_sampler_params *p,
                                  struct bnt_err *err)
{
    struct bnt_sampler *s = NULL;
    enum bnt_status st = bnt_sampler_new(p, a->n_vocab, &s, err);
    bnt_sampler_free(s);
    return st;
}

/* Parameters out of their range, by number. */
static enum bnt_status bad_sampler(struct asking *a, int64_t number, struct bnt_err *err)
{
    struct bnt_sampler_params all[12];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        all[i] = bnt_sampler_defaults();
    }
    all[0].temperature = -1;
    all[1].temperature = NAN;
    all[2].top_p = 0;
    all[3].top_p = 1.5;
    all[4].min_p = 1;
    all[5].typical_p = 0;
    all[6].repeat_penalty = 0;
    all[7].top_k = -1;
    all[8].penalty_last_n = -2;
    all[9].frequency_penalty = INFINITY;
    all[10].presence_penalty = NAN;
    all[11].repeat_penalty = -1;
    return sampler_of(a, &all[number], err);
}

static enum bnt_status logits_of_nothing(struct asking *a, int64_t number, struct bnt_err *err)
{
    (void)number;
    struct bnt_sampler *s = NULL;
    struct bnt_sampler_params p = bnt_sampler_defaults();
    float *logits = malloc((size_t)a->n_vocab * sizeof *logits);
    int32_t id;
    enum bnt_status st = logits ? bnt_sampler_new(&p, a->n_vocab, &s, err)
                                : bnt_err_nomem(err, "logits", (uint64_t)a->n_vocab);
    for (int32_t i = 0; logits && i < a->n_vocab; i++) {
        logits[i] = NAN;
    }
    st = st == BNT_OK ? bnt_sampler_next(s, logits, &id, err) : st;
    bnt_sampler_free(s);
    free(logits);
    return st;
}

static enum bnt_status stop_string(struct asking *a, int64_t number, struct bnt_err *err)
{
    (void)a;
    char text[BNT_STOP_MAX_BYTES + 2] = "";
    const char *strings[] = {text};
    struct bnt_stop *stop = NULL;
    memset(text, 'x', (size_t)number);
    enum bnt_status st = bnt_stop_new(strings, 1, &stop, err);
    bnt_stop_free(stop);
    return st;
}

static enum bnt_status perplexity_of(struct asking *a, int64_t number, struct bnt_err *err)
{
    int32_t ids[8] = {0};
    struct bnt_perplexity p;
    bool chunk = number > 0;
    return bnt_perplexity(a->s, ids, chunk ? 8 : 0, chunk ? (uint32_t)number : 8, NULL, NULL, &p,
                          err);
}

static enum bnt_status open_with(struct asking *a, const struct bnt_model_options *mo,
                                 struct bnt_err *err)
{
    struct bnt_model *m = NULL;
    enum bnt_status st = bnt_model_open(a->d->of.path, mo, &m, err);
    bnt_model_close(m);
    return st;
}

static enum bnt_status open_layout(struct asking *a, int64_t number, struct bnt_err *err)
{
    (void)number;
    return open_with(a, &(struct bnt_model_options){.i2s_layout = "8/8"}, err);
}

static enum bnt_status open_pre(struct asking *a, int64_t number, struct bnt_err *err)
{
    (void)number;
    return open_with(a, &(struct bnt_model_options){.pre = "nobody-knows"}, err);
}

static enum bnt_status open_memory(struct asking *a, int64_t number, struct bnt_err *err)
{
    return open_with(a, &(struct bnt_model_options){.memory_limit = (uint64_t)number}, err);
}

static enum bnt_status open_nowhere(struct asking *a, int64_t number, struct bnt_err *err)
{
    (void)a;
    (void)number;
    struct bnt_model *m = NULL;
    enum bnt_status st = bnt_model_open("/nowhere/at-all.gguf", NULL, &m, err);
    bnt_model_close(m);
    return st;
}

static const struct {
    const char *name;
    bad_fn *ask;
    int64_t number;
} bad_inputs[] = {
    {"evaluate no ids", eval_nothing, 0},
    {"evaluate id -1", eval_id, -1},
    {"evaluate id -2^31", eval_id, INT32_MIN},
    {"evaluate id 2^31 - 1", eval_id, INT32_MAX},
    {"evaluate the id after the last", eval_past_vocabulary, 0},
    {"evaluate one id more than the context has", eval_many, CONTRACT_N_CTX + 1},
    {"rewind past the end", rewind_to, 1},
    {"rewind to 2^32 - 1", rewind_to, UINT32_MAX},
    {"a context of 2^32 - 1", session_context, UINT32_MAX},
    {"a kernel that is none", session_kernel, 0},
    {"decode id -1", decode_id, -1},
    {"decode the id after the last", decode_id, 0},
    {"the piece of id -1", piece_of_id, -1},
    {"the piece of the id after the last", piece_of_id, 0},
    {"generate after nothing", generate_after, 0},
    {"generate after a full context", generate_after, CONTRACT_N_CTX},
    {"generate after more than the context", generate_after, CONTRACT_N_CTX + 1},
    {"temperature -1", bad_sampler, 0},
    {"temperature NaN", bad_sampler, 1},
    {"top-p 0", bad_sampler, 2},
    {"top-p 1.5", bad_sampler, 3},
    {"min-p 1", bad_sampler, 4},
    {"typical-p 0", bad_sampler, 5},
    {"repeat penalty 0", bad_sampler, 6},
    {"repeat penalty -1", bad_sampler, 11},
    {"top-k -1", bad_sampler, 7},
    {"penalties over the last -2", bad_sampler, 8},
    {"frequency penalty infinite", bad_sampler, 9},
    {"presence penalty NaN", bad_sampler, 10},
    {"sample from NaN", logits_of_nothing, 0},
    {"a stop string of nothing", stop_string, 0},
    {"a stop string of 1025 bytes", stop_string, BNT_STOP_MAX_BYTES + 1},
    {"perplexity of no ids", perplexity_of, 0},
    {"perplexity in chunks of 1", perplexity_of, 1},
    {"a packing that is none", open_layout, 0},
    {"a pre-tokenizer that is none", open_pre, 0},
    {"a memory limit of 1 byte", open_memory, 1},
    {"a file that is not there", open_nowhere, 0},
};

enum bnt_status contract_errors(struct derivation *d, struct bnt_err *err)
{
    struct asking a = {.d = d,
                       .t = bnt_model_tokenizer(d->model),
                       .n_vocab = (int32_t)bnt_model_info(d->model)->n_vocab};
    struct bnt_session_options so = {
        .n_ctx = CONTRACT_N_CTX, .n_threads = 1, .interrupted = d->of.interrupted};
    enum bnt_status st = bnt_session_new(d->model, &so, &a.s, err);
    for (size_t i = 0; st == BNT_OK && i < sizeof bad_inputs / sizeof bad_inputs[0]; i++) {
        struct bnt_err said = {0};
        st = bnt_session_rewind(a.s, 0, err);
        if (st == BNT_OK) {
            enum bnt_status answer = bad_inputs[i].ask(&a, bad_inputs[i].number, &said);
            st = bnt_buf_printf(d->out, err, "%s: %d %s\n", bad_inputs[i].name, (int)answer,
                                bnt_status_meaning((int)answer));
        }
    }
    bnt_session_free(a.s);
    return st;
}
