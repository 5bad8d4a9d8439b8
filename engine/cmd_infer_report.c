/* `bnt infer`: the figures of an answer and the table of metrics. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysinfo.h"
#include "engine/bandwidth.h"
#include "engine/cmd_infer_impl.h"

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Quantiles of the times between ids; the first id has none before it. */
static enum bnt_status token_quantiles(const struct bnt_generation *g, struct infer_figures *f,
                                       struct bnt_err *err)
{
    f->token_p50_ms = f->token_p95_ms = f->decode_tokens_per_s = NAN;
    if (g->ids.n < 2) {
        return BNT_OK;
    }
    size_t n = g->ids.n - 1;
    uint64_t *sorted = malloc(n * sizeof(*sorted)), sum = 0;
    if (sorted == NULL) {
        return bnt_err_nomem(err, "token times", n * sizeof(*sorted));
    }
    for (size_t i = 0; i < n; i++) {
        sorted[i] = g->token_ns[i + 1];
        sum += sorted[i];
    }
    qsort(sorted, n, sizeof(*sorted), compare_u64);
    f->token_p50_ms = ms(sorted[(n - 1) / 2]);
    f->token_p95_ms = ms(sorted[(n - 1) * 95 / 100]);
    f->decode_tokens_per_s = sum > 0 ? (double)n * 1e9 / (double)sum : NAN;
    free(sorted);
    return BNT_OK;
}

/* After the answer and after the peak of memory was read: it takes a moment and a buffer. */
static enum bnt_status measure_bandwidth(const struct infer *in, struct infer_figures *f,
                                         struct bnt_err *err)
{
    struct bandwidth b;
    enum bnt_status st = bandwidth_measure(bnt_session_n_threads(in->session), &b, err);
    if (st == BNT_OK) {
        f->bandwidth_gb_per_s = b.all_gb_per_s;
        f->bandwidth_fraction =
            (double)f->weight_bytes_per_token * f->decode_tokens_per_s / (b.all_gb_per_s * 1e9);
    }
    return st;
}

/* How much drafts helped: the time that the ids would have taken one by one, at the mean of those
 * of this answer that were evaluated so, by the time that they took. */
static void speculation_figures(const struct bnt_speculation *sp, struct infer_figures *f)
{
    uint64_t evals = sp->drafts + sp->singles, ids = sp->draft_ids + sp->singles;
    f->acceptance = sp->drafted > 0 ? (double)sp->accepted / (double)sp->drafted : NAN;
    f->tokens_per_eval = evals > 0 ? (double)ids / (double)evals : NAN;
    f->speedup = sp->singles > 0 && sp->drafts > 0
                     ? (double)sp->singles_ns / (double)sp->singles * (double)ids /
                           (double)(sp->singles_ns + sp->drafts_ns)
                     : NAN;
}

enum bnt_status infer_compute(const struct infer *in, const struct bnt_generation *g,
                              struct infer_figures *f, struct bnt_err *err)
{
    struct bnt_session_stats stats;
    bnt_session_stats(in->session, &stats);
    const struct bnt_generate_times *t = &g->times;
    uint64_t pack_ns = bnt_model_info(in->model)->pack_ns;
    *f = (struct infer_figures){.load_ms = ms(in->load_ns - pack_ns),
                                .pack_ms = ms(pack_ns),
                                .session_ms = ms(in->session_ns),
                                .self_test_ms = ms(stats.self_test_ns),
                                .hash_ms = ms(in->hash_ns + bnt_model_info(in->model)->hash_ns),
                                .tokenize_ms = ms(in->tokenize_ns),
                                .prefill_ms = ms(t->prefill_ns),
                                .kernels_ms = ms(t->prefill_ns + t->decode_ns),
                                .decode_ms = ms(t->decode_ns),
                                .sample_ms = ms(t->sample_ns),
                                .output_ms = ms(t->output_ns),
                                .total_ms = ms(t->total_ns),
                                .first_token_ms = g->ids.n > 0 ? ms(t->first_token_ns) : NAN,
                                .prefill_tokens_per_s = t->prefill_ns > 0
                                                            ? (double)(in->prompt.n - g->n_reused) *
                                                                  1e9 / (double)t->prefill_ns
                                                            : NAN,
                                .peak_memory_bytes = bnt_peak_rss(),
                                .session_memory_bytes = stats.memory_bytes,
                                .weight_bytes_per_token = stats.weight_bytes_per_token,
                                .drawn_on_device = stats.n_drawn,
                                .not_drawn_on_device = stats.n_not_drawn,
                                .bandwidth_fraction = NAN,
                                .bandwidth_gb_per_s = NAN};
    speculation_figures(&g->speculation, f);
    enum bnt_status st = token_quantiles(g, f, err);
    /* The measurement reads a large buffer: not below a limit that somebody set. */
    bool measured = in->o->metrics && in->o->engine.memory_limit == 0;
    return st == BNT_OK && measured ? measure_bandwidth(in, f, err) : st;
}

/* ---- Tables on stderr. */

static void print_row(const char *name, double value, const char *unit, const char *remark)
{
    if (isfinite(value)) {
        fprintf(stderr, "  %-18s %10.2f %-9s %s\n", name, value, unit, remark);
    } else {
        fprintf(stderr, "  %-18s %10s %-9s %s\n", name, "-", unit, remark);
    }
}

static void print_times(const struct infer *in, const struct bnt_generation *g,
                        const struct infer_figures *f)
{
    char remark[96];
    print_row("load", f->load_ms, "ms", "open, check, build the tokenizer");
    print_row("packing", f->pack_ms, "ms", "find the packing of I2_S, make packed copies");
    print_row("session", f->session_ms, "ms", "memory, threads, kernel self-test");
    print_row("  self-test", f->self_test_ms, "ms", "");
    print_row("tokenise", f->tokenize_ms, "ms", "");
    snprintf(remark, sizeof(remark), "%zu tokens, %.1f tokens/s", in->prompt.n - g->n_reused,
             f->prefill_tokens_per_s);
    print_row("prefill", f->prefill_ms, "ms", remark);
    snprintf(remark, sizeof(remark), "%zu tokens, %.1f tokens/s", g->ids.n, f->decode_tokens_per_s);
    print_row("decode", f->decode_ms, "ms", isfinite(f->decode_tokens_per_s) ? remark : "");
    snprintf(remark, sizeof(remark), "prefill + decode in %s, %d thread%s",
             bnt_session_kernel(in->session), bnt_session_n_threads(in->session),
             bnt_session_n_threads(in->session) == 1 ? "" : "s");
    print_row("kernels", f->kernels_ms, "ms", remark);
    if (in->o->speculate > 0) {
        print_row("speculation", f->speedup, "x", "as fast as one by one, by this answer's times");
        print_row("  accepted", f->acceptance * 100, "%", "of the drafted tokens");
    }
    print_row("sample", f->sample_ms, "ms", "");
    print_row("output", f->output_ms, "ms", "");
    print_row("total", f->total_ms, "ms", "of prefill to output");
}

/* Of a session that computes elsewhere than on the processor, or did so before that took over. */
static void print_draws(const struct infer *in, const struct infer_figures *f)
{
    const char *device = bnt_session_device(in->session);
    if (strcmp(device, "cpu") != 0) {
        char remark[96];
        snprintf(remark, sizeof(remark), "on %s; %llu that it could not were drawn here", device,
                 (unsigned long long)f->not_drawn_on_device);
        fprintf(stderr, "  %-18s %10llu %-9s %s\n", "drawn", (unsigned long long)f->drawn_on_device,
                "ids", remark);
    }
}

enum bnt_status infer_print_metrics(struct infer *in, const struct bnt_generation *g,
                                    struct bnt_err *err)
{
    struct infer_figures f;
    enum bnt_status st = infer_compute(in, g, &f, err);
    if (st != BNT_OK) {
        return st;
    }
    fprintf(stderr, "metrics:\n");
    print_times(in, g, &f);
    print_draws(in, &f);
    print_row("first token", f.first_token_ms, "ms", "after the start of prefill");
    print_row("token p50", f.token_p50_ms, "ms", "");
    print_row("token p95", f.token_p95_ms, "ms", "");
    print_row("peak memory", (double)f.peak_memory_bytes / 1e6, "MB", "");
    print_row("weights per token", (double)f.weight_bytes_per_token / 1e6, "MB", "");
    print_row("memory bandwidth", f.bandwidth_gb_per_s, "GB/s",
              "measured now, with as many threads");
    print_row("  of it used", f.bandwidth_fraction * 100, "%",
              "by decoding; past 100 the weights lie in a cache");
    return BNT_OK;
}
