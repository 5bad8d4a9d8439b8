/* Measuring a model: how long prompts of given lengths and single tokens take, how much memory and
 * energy. A library: it prints nothing and judges nothing.
 *
 *     struct bench_plan plan = {.path = path, .lengths = {10, 512}, .n_lengths = 2,
 *                               .n_decode = 128, .n_warmups = 1, .n_reps = 5};
 *     struct bench_result r = {0};
 *     bench_run(&plan, &r, &err);
 *     ... r.decode.token_ms.at[0 .. r.decode.token_ms.n - 1] ...
 *     bench_release(&r);
 *
 * What is measured: a repetition evaluates a prompt of every length, then one of the first length
 * and n_decode single tokens after it, each the likeliest one (argmax included, end tokens
 * ignored). Of several sequences each has that prompt and its own tokens, evaluated one step of all
 * at a time; what their prompts take is not measured. Repetitions are the outer loop, so that a
 * machine that changes its speed changes all figures alike. The text is fixed, so the work is the
 * same in every run of every build. */
#ifndef BNT_BENCH_H
#define BNT_BENCH_H

#include <stdint.h>

#include "engine/bandwidth.h"
#include "engine/bnt_infer.h"
#include "engine/energy.h"

enum {
    BENCH_LENGTHS_MAX = 16,
    BENCH_LENGTH_MAX = 1 << 20, /* ids of a prompt */
    BENCH_DECODE_MAX = 1 << 16,
    BENCH_REPS_MAX = 10000
};

struct bench_plan {
    const char *path; /* of the GGUF */
    uint32_t lengths[BENCH_LENGTHS_MAX];
    size_t n_lengths;     /* at least 1 */
    uint32_t n_decode;    /* 0: prompts alone */
    uint32_t n_sequences; /* that are decoded together; 0: 1 */
    uint32_t n_warmups;   /* repetitions before those that count */
    uint32_t n_reps;      /* at least 1 */
    /* n_ctx 0: just enough. */
    struct bnt_session_options session;
    /* Its session is the one above, its folder of packed weights that of `packed`; the head is that
     * of greedy decoding. */
    struct bnt_model_options model;
    const char *packed, *digest; /* as for bnt_engine_packed */
    bool no_bandwidth;           /* leave the probe out: it reads a buffer of up to 160 MB */
    const char *energy_root;     /* NULL: ENERGY_ROOT */
    /* After each step; steps are repetitions, warm-ups included. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
    /* To look at what the repetitions that count meet: before the first of them, after the prompts
     * of each, and, where there are any, after its single tokens. Something has been evaluated. May
     * be NULL, and wants n_warmups > 0. */
    enum bnt_status (*beside)(void *ctx, struct bnt_session *s, struct bnt_err *err);
    void *beside_ctx;
};

/* Values in the order in which they were measured. */
struct bench_series {
    double *at;
    size_t n;
};

struct bench_prompt {
    uint32_t n_ids;
    struct bench_series first_ms; /* n_reps: from the start of eval to the first new token */
    struct bench_series cpu_ms;   /* n_reps: processor time of all threads meanwhile */
    double joules;                /* of all repetitions; NaN: no figure */
};

struct bench_decode {
    /* Positions before the first token; tokens of a sequence in a repetition; sequences. */
    uint32_t n_before, n_ids, n_sequences;
    struct bench_series run_ms;   /* n_reps: all tokens of one repetition */
    struct bench_series cpu_ms;   /* n_reps: processor time of all threads meanwhile */
    struct bench_series token_ms; /* n_reps * n_ids: one token of every sequence */
    double joules;                /* of all repetitions; NaN: no figure */
};

struct bench_result {
    double open_ms, pack_ms, session_ms, self_test_ms; /* open_ms without pack_ms */
    struct bench_prompt prompts[BENCH_LENGTHS_MAX];
    size_t n_prompts;
    struct bench_decode decode;
    uint64_t peak_bytes; /* of the process, before the probe of bandwidth */
    uint64_t session_bytes, kv_bytes;
    /* That one token reads: its part of the weights, which a step of all sequences reads once, and
     * keys and values at the middle of the decoded ones. */
    uint64_t weight_bytes_per_token, kv_bytes_per_token;
    uint64_t left_out_bytes_per_token; /* of weights that meet zeros, and are not among those */
    bool has_bandwidth;
    /* With as many threads, the median of what was probed before and after the single tokens of
     * the repetitions, but before those of the first one: what is resident is measured first. */
    double bandwidth_gb_per_s;
    int bandwidth_streams; /* of each thread */
    char no_energy[200];   /* why there is no figure of energy; "" with figures */
    /* Facts of what ran; "cuda:0, then cpu" by "cuda, then avx2" where the CPU took over. */
    char arch[64], name[128], weights[32], device[32], kernel[64], kernel_note[256];
    uint64_t n_params, file_bytes;
    uint32_t n_ctx, n_batch;
    int n_threads;
    bool streamed, screened, narrow_head;
};

/* The prompt of n tokens or more that is measured, by a model's tokenizer: appended to out. */
enum bnt_status bench_prompt_ids(const struct bnt_tokenizer *t, uint32_t n, struct bnt_ids *out,
                                 struct bnt_err *err);

/* r: zeroed; release it whatever comes back. Errors: those of bnt_model_open and bnt_session_new;
 * USAGE for a plan out of its bounds; INFERENCE; INTERRUPTED. */
enum bnt_status bench_run(const struct bench_plan *plan, struct bench_result *r,
                          struct bnt_err *err);
void bench_release(struct bench_result *r);

#endif
