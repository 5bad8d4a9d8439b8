/* The loop of generation: prompt ids -> eval -> sample -> text -> stop, with timings. A library
 * function: it prints nothing, text goes to a callback as it becomes certain. */
#ifndef BNT_GENERATE_H
#define BNT_GENERATE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "engine/bnt_infer.h"
#include "engine/sampler.h"
#include "engine/stop.h"

#define BNT_GENERATE_MAX_TEXT (64u << 20) /* bytes of text of one generation */
#define BNT_LOGPROBS_MAX 100              /* n-best per token */
#define BNT_SPECULATE_MAX 64              /* ids of a draft */

enum bnt_finish {
    BNT_FINISH_STOP,        /* an end token, a stop id or a stop string */
    BNT_FINISH_LENGTH,      /* max_tokens */
    BNT_FINISH_CONTEXT,     /* no position left */
    BNT_FINISH_INTERRUPTED, /* *interrupted became non-zero */
};
/* "stop", "length", "context", "interrupted" */
const char *bnt_finish_name(enum bnt_finish f);

struct bnt_generate_params {
    uint32_t max_tokens; /* 0: until the end or until the context is full */
    bool ignore_eos;     /* go on past end tokens; their logits are not touched */
    bool check_logits;   /* fail on any NaN or +infinite logit (bnt_quality_logits) */
    const int32_t *stop_ids;
    size_t n_stop_ids;
    struct bnt_stop *stop; /* stop strings; NULL: none. Reset by bnt_generate */
    uint32_t n_logprobs;   /* n-best to record per token, at most BNT_LOGPROBS_MAX */
    const volatile sig_atomic_t *interrupted; /* NULL: never */
    /* The prompt is all of the context: what the session holds of its beginning is kept and not
     * evaluated again, the rest is forgotten. Else the prompt follows what the session holds. */
    bool whole;
    /* Most ids to draft by look-up (engine/draft.h) and to verify in one evaluation, at most
     * BNT_SPECULATE_MAX; 0: one id at a time. Changes neither ids nor text, whatever the sampling.
     */
    uint32_t speculate;
    /* Text that is final, whole UTF-8 sequences (save bytes that never become one). A status other
     * than BNT_OK ends the generation with it. NULL: collect only. */
    enum bnt_status (*on_text)(void *ctx, const char *bytes, size_t n, struct bnt_err *err);
    void *ctx;
};

/* What the parts of one generation took, nanoseconds. prefill + decode + sample + output is nearly
 * all of total. */
struct bnt_generate_times {
    uint64_t total_ns;
    uint64_t prefill_ns;     /* eval of the prompt */
    uint64_t decode_ns;      /* eval of generated ids */
    uint64_t sample_ns;      /* log-probabilities and sampling */
    uint64_t output_ns;      /* ids to text, stop strings, on_text */
    uint64_t first_token_ns; /* start to first id */
};

/* What drafts came to. */
struct bnt_speculation {
    uint64_t drafted, accepted;     /* ids; those that were generated, too */
    uint64_t drafts, singles;       /* evaluations of a draft, of one id */
    uint64_t draft_ids;             /* ids that evaluations of drafts led to */
    uint64_t drafts_ns, singles_ns; /* time of the two */
};

struct bnt_generation {
    struct bnt_ids ids;  /* generated, without the stop token. With a stop string: up to the id that
                            completed it */
    struct bnt_buf text; /* of ids, without the stop string */
    enum bnt_finish finish;
    int32_t stop_id; /* the token that ended it, or -1 */
    int stop_string; /* index of the stop string that ended it, or -1 */
    uint64_t
        *token_ns; /* ids.n entries: from the previous id (or the end of prefill) to this one */
    /* With n_logprobs: per id its own log-probability, and the n_best best (rows of n_best; the
     * vocabulary may be smaller than what was asked for). */
    float *logprob;
    struct bnt_candidate *best;
    uint32_t n_best;
    size_t cap;        /* entries of the arrays above */
    uint32_t n_reused; /* ids of the prompt that the session held already */
    struct bnt_speculation speculation;
    struct bnt_generate_times times;
};

void bnt_generation_init(struct bnt_generation *g);
void bnt_generation_release(struct bnt_generation *g);

/* The sampler was made for no more ids than model and tokenizer have.
 * Evaluate prompt[0..n-1] after what the session holds, then generate. Afterwards the session holds
 * the prompt and every generated id but possibly the last (bnt_session_n_past tells). g is
 * initialised, and holds on failure what was produced before it. An interruption is no failure.
 * Errors: USAGE (n == 0; prompt and one more do not fit: need and n_ctx are named, nothing was
 * evaluated), INFERENCE, what on_text returned. */
enum bnt_status bnt_generate(struct bnt_session *s, const struct bnt_tokenizer *t,
                             struct bnt_sampler *sampler, const int32_t *prompt, size_t n,
                             const struct bnt_generate_params *p, struct bnt_generation *g,
                             struct bnt_err *err);

#endif
