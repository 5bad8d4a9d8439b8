/* Shared by the files of `bnt infer`: cmd_infer.c (options, one prompt), cmd_infer_setup.c (from
 * options to a session and a sampler), cmd_infer_chat.c (the conversation), cmd_infer_report.c
 * (figures, metrics), cmd_infer_json.c (JSON, log-probabilities). */
#ifndef BNT_CMD_INFER_IMPL_H
#define BNT_CMD_INFER_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/app.h"
#include "base/opt.h"
#include "engine/bnt_infer.h"
#include "engine/chat.h"
#include "engine/engine_arg.h"
#include "engine/generate.h"
#include "engine/model_arg.h"
#include "engine/sampler.h"
#include "engine/stop.h"

#define INFER_MAX_PROMPT (64u << 20) /* bytes */

struct infer_opts {
    struct bnt_model_arg model;
    struct bnt_engine_arg engine;
    const char *prompt, *file, *system, *chat_template, *seed, *prompts, *session_save,
        *session_load;
    int64_t speculate, max_tokens, top_k, penalty_last_n, logprobs;
    double temperature, top_p, min_p, typical_p, repeat_penalty, frequency_penalty,
        presence_penalty;
    bool deterministic, ignore_eos, echo, chat, raw, no_special, json, metrics, validate;
    struct bnt_strs logit_bias, stop, stop_id;
};

/* A chat without a prompt goes on line by line. */
static inline bool infer_converses(const struct infer_opts *o)
{
    return o->chat && o->prompt == NULL && o->file == NULL && o->prompts == NULL;
}

/* One run of the command. Released by infer_close, at whatever stage it is. */
struct infer {
    struct bnt_app *app;
    const struct infer_opts *o;
    struct bnt_model_ref ref;
    bool mock, seeded; /* seeded: the seed has a say in the text */
    struct bnt_model *model;
    struct bnt_session *session;
    const struct bnt_tokenizer *t;
    struct bnt_sampler *sampler;
    struct bnt_sampler_params sampling;
    struct bnt_logit_bias bias[BNT_STRS_MAX];
    struct bnt_stop *stop;
    struct bnt_ids stop_ids;
    const char *stop_texts[BNT_STRS_MAX + 4]; /* borrowed from argv and the chat form */
    size_t n_stop_texts;
    struct bnt_chat chat; /* form BNT_CHAT_UNKNOWN: no template */
    struct bnt_ids prompt;
    uint64_t load_ns, session_ns, tokenize_ns, hash_ns;
};

/* cmd_infer_setup.c. The steps in order; each needs the one before it. */
enum bnt_status infer_open(struct infer *in, struct bnt_err *err);
enum bnt_status infer_make_sampler(struct infer *in, struct bnt_err *err);
enum bnt_status infer_make_stops(struct infer *in, struct bnt_err *err);
void infer_close(struct infer *in);
/* in->ref.digest, "" until it is needed: the whole file may have to be read for it. */
enum bnt_status infer_need_digest(struct infer *in, struct bnt_err *err);
/* Parameters of bnt_generate, without text callback. */
struct bnt_generate_params infer_params(const struct infer *in);

/* cmd_infer_chat.c: read lines and answer them until the end of input. */
enum bnt_status infer_converse(struct infer *in);

/* cmd_infer_session.c: what the session holds comes from a file and goes into one, when that was
 * asked for; every line of a file answered as a prompt of its own. */
enum bnt_status infer_load_session(struct infer *in, struct bnt_err *err);
enum bnt_status infer_save_session(struct infer *in, struct bnt_err *err);
enum bnt_status infer_run_prompts(struct infer *in);

/* cmd_infer.c: answer one prompt, and report. Tells its failures, which begin with `where` it came
 * from; NULL when there is no other prompt. */
enum bnt_status infer_run_prompt(struct infer *in, const struct bnt_buf *prompt, const char *where);

/* cmd_infer_report.c */
/* Figures of one answer. A value that cannot be told is NaN: null in JSON, a dash in the table. */
struct infer_figures {
    double load_ms, pack_ms, session_ms, self_test_ms, hash_ms, tokenize_ms, prefill_ms, kernels_ms,
        decode_ms, sample_ms, output_ms, total_ms;
    double first_token_ms, token_p50_ms, token_p95_ms;
    double prefill_tokens_per_s, decode_tokens_per_s;
    double acceptance, tokens_per_eval, speedup; /* of speculation */
    double bandwidth_fraction, bandwidth_gb_per_s;
    uint64_t peak_memory_bytes, session_memory_bytes, weight_bytes_per_token;
    uint64_t drawn_on_device, not_drawn_on_device; /* ids; those that it left to the host */
};
enum bnt_status infer_compute(const struct infer *in, const struct bnt_generation *g,
                              struct infer_figures *f, struct bnt_err *err);
enum bnt_status infer_print_metrics(struct infer *in, const struct bnt_generation *g,
                                    struct bnt_err *err);

/* cmd_infer_json.c: what needs the JSON library. Both are NULL in a build without it, which refuses
 * the options. */
struct infer_json {
    /* Finds the model's digest, for which it may have to read the whole file. */
    enum bnt_status (*print)(struct infer *in, const struct bnt_generation *g, struct bnt_err *err);
    enum bnt_status (*print_logprobs)(const struct infer *in, const struct bnt_generation *g,
                                      struct bnt_err *err);
};
extern const struct infer_json infer_json;

/* A text callback that writes to stdout at once. ctx is ignored. */
enum bnt_status infer_write_stdout(void *ctx, const char *bytes, size_t n, struct bnt_err *err);

#endif
