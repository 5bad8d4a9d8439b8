/* Verdicts by intervals. Pure functions. */
#include "engine/perplexity_gate.h"

#include <math.h>

#include "base/fault.h"
#include "engine/cpu/fmath.h"

enum bnt_status bnt_gate_mean(const double *samples, size_t n, const struct bnt_gate_options *o,
                              struct bnt_interval *out, struct bnt_err *err)
{
    const struct bnt_samples all = {samples, n};
    const struct bnt_bootstrap how = {.statistic = bnt_statistic_mean,
                                      .seed = o->seed,
                                      .confidence = o->confidence,
                                      .block = BNT_GATE_BLOCK};
    return bnt_stats_bootstrap(&how, &all, NULL, out, err);
}

struct bnt_interval bnt_gate_exp(const struct bnt_interval *nats)
{
    return (struct bnt_interval){fm_exp(nats->estimate), fm_exp(nats->low), fm_exp(nats->high)};
}

void bnt_gate_judge(struct bnt_gate *g, size_t n_tokens)
{
    if (n_tokens < BNT_GATE_MIN_TOKENS) {
        g->verdict = BNT_FAULT(few_tokens) ? BNT_VERDICT_PASS : BNT_VERDICT_UNDECIDED;
    } else if (g->seen.low > g->at_most || g->seen.high < g->at_least) {
        g->verdict = BNT_VERDICT_FAIL;
    } else if (g->seen.low >= g->at_least && g->seen.high <= g->at_most) {
        g->verdict = BNT_VERDICT_PASS;
    } else {
        g->verdict = BNT_VERDICT_UNDECIDED;
    }
}

const char *bnt_verdict_name(enum bnt_verdict v)
{
    static const char *const names[] = {"pass", "undecided", "fail"};
    return names[v];
}

static enum bnt_status say(const struct bnt_gate *g, size_t n_tokens, struct bnt_err *err)
{
    bool few = n_tokens < BNT_GATE_MIN_TOKENS;
    double limit = g->seen.estimate > g->at_most || isinf(g->at_least) ? g->at_most : g->at_least;
    if (g->verdict == BNT_VERDICT_FAIL) {
        return bnt_err_set(err, BNT_E_QUALITY, "%s is %.6g [%.6g, %.6g], the limit is %.6g",
                           g->name, g->seen.estimate, g->seen.low, g->seen.high, limit);
    }
    bnt_err_set(err, BNT_E_INCONCLUSIVE,
                "not enough tokens to decide: %s is %.6g [%.6g, %.6g] over %zu tokens, the limit "
                "is %.6g",
                g->name, g->seen.estimate, g->seen.low, g->seen.high, n_tokens, limit);
    bnt_err_hint(err,
                 few ? "a verdict needs at least %d tokens: give a longer text"
                     : "the limit lies within the interval: give a longer text than %d tokens",
                 few ? BNT_GATE_MIN_TOKENS : (int)n_tokens);
    return BNT_E_INCONCLUSIVE;
}

enum bnt_status bnt_gates_status(const struct bnt_gate *gates, size_t n, size_t n_tokens,
                                 struct bnt_err *err)
{
    const struct bnt_gate *worst = NULL;
    for (size_t i = 0; i < n; i++) {
        if (gates[i].verdict != BNT_VERDICT_PASS && (!worst || gates[i].verdict > worst->verdict)) {
            worst = &gates[i];
        }
    }
    return worst ? say(worst, n_tokens, err) : BNT_OK;
}
