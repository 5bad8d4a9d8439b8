/* From scores of single tokens to a verdict that says how sure it is. A figure is a mean over the
 * tokens of a text; its interval comes from the bootstrap over blocks of neighbouring tokens
 * (base/stats.h), since tokens of one passage are easy or hard together. A limit is kept when the
 * whole interval keeps it, broken when none of it does; anything else is undecided, and so is a
 * text that is too short for its interval to mean much. docs/perplexity.md has the definitions, the
 * limits and how often the intervals cover. */
#ifndef BNT_PERPLEXITY_GATE_H
#define BNT_PERPLEXITY_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/stats.h"
#include "base/status.h"

#define BNT_GATE_BLOCK 128       /* tokens that are drawn together */
#define BNT_GATE_MIN_TOKENS 2048 /* sixteen blocks: with fewer nothing is decided */

/* Limits that hold unless others are given; shares, not percent. */
#define BNT_GATE_LOSS_DEQUANTIZED 0.02 /* of perplexity, to the same weights as F32 */
#define BNT_GATE_LOSS_SAME 0.001       /* to the same weights in another engine, either way */
#define BNT_GATE_KL_SAME 3e-4          /* nats per token, to the same */

enum bnt_verdict { BNT_VERDICT_PASS, BNT_VERDICT_UNDECIDED, BNT_VERDICT_FAIL };

struct bnt_gate {
    const char *name; /* "perplexity", "loss", "kl", "match"; static */
    struct bnt_interval seen;
    double at_least, at_most; /* the limits; -INFINITY, INFINITY: none on that side */
    enum bnt_verdict verdict;
};

struct bnt_gate_options {
    uint64_t seed;
    double confidence; /* 0: 0.95 */
};

/* The mean of the samples of n tokens, with its interval. Errors: those of bnt_stats_bootstrap. */
enum bnt_status bnt_gate_mean(const double *samples, size_t n, const struct bnt_gate_options *o,
                              struct bnt_interval *out, struct bnt_err *err);
/* exp of it: surprise in nats to perplexity, differences of surprise to the ratio of two. */
struct bnt_interval bnt_gate_exp(const struct bnt_interval *nats);

/* Set the verdict from what was seen of n_tokens. */
void bnt_gate_judge(struct bnt_gate *g, size_t n_tokens);
/* "pass", "undecided", "fail". */
const char *bnt_verdict_name(enum bnt_verdict v);
/* OK when all pass, QUALITY when one fails, else INCONCLUSIVE; the message names the gate, what was
 * seen and what was allowed. */
enum bnt_status bnt_gates_status(const struct bnt_gate *gates, size_t n, size_t n_tokens,
                                 struct bnt_err *err);

#endif
