/* Measuring a model. Everything is allocated before the first measurement; the clock is read around
 * the calls that a user waits for, nothing else. */
#include "engine/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/stats.h"
#include "base/sysinfo.h"
#include "engine/engine_arg.h"
#include "engine/sampler.h"

/* Prompts are cut from this text, repeated. */
static const char text[] =
    "Once upon a time, there was a little girl named Lily. She loved to play outside with her "
    "friends. One day, they found a big red ball under an old tree. \"Whose ball is this?\" asked "
    "Lily. Nobody knew, so they went from house to house to find out. ";

/* One run of bench_run. */
struct bench {
    const struct bench_plan *plan;
    struct bench_result *r;
    struct bnt_model *model;
    struct bnt_session *session;
    struct bnt_sampler *sampler;
    struct bnt_ids prompt; /* as long as the longest */
    struct energy energy;
    struct bandwidth_probe *bandwidth;        /* NULL: not yet, or not at all */
    struct bench_series gb_per_s;             /* that it gave */
    struct bnt_step steps[BNT_MAX_SEQUENCES]; /* the next one of each sequence, and what it gave */
    struct bnt_candidate best[BNT_MAX_SEQUENCES];
    uint32_t found[BNT_MAX_SEQUENCES];
};

static double ms_since(uint64_t start_ns)
{
    return (double)(bnt_clock_now_ns() - start_ns) / 1e6;
}

/* Processor time of all threads of this process, milliseconds. */
static double cpu_ms(void)
{
    struct timespec t;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0
               ? (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6
               : NAN;
}

static uint32_t longest(const struct bench_plan *plan)
{
    uint32_t most = 0;
    for (size_t i = 0; i < plan->n_lengths; i++) {
        most = plan->lengths[i] > most ? plan->lengths[i] : most;
    }
    return most;
}

static enum bnt_status check_plan(const struct bench_plan *plan, struct bnt_err *err)
{
    if (plan->n_lengths == 0 || plan->n_lengths > BENCH_LENGTHS_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "%zu lengths of prompts; 1 to %d can be measured",
                           plan->n_lengths, BENCH_LENGTHS_MAX);
    }
    for (size_t i = 0; i < plan->n_lengths; i++) {
        if (plan->lengths[i] == 0 || plan->lengths[i] > BENCH_LENGTH_MAX) {
            return bnt_err_set(err, BNT_E_USAGE, "a prompt of %u tokens; 1 to %d can be measured",
                               plan->lengths[i], BENCH_LENGTH_MAX);
        }
    }
    if (plan->n_reps == 0 || plan->n_reps > BENCH_REPS_MAX || plan->n_warmups > BENCH_REPS_MAX ||
        plan->n_decode > BENCH_DECODE_MAX) {
        return bnt_err_set(err, BNT_E_USAGE,
                           "1 to %d repetitions, at most as many warm-ups, at most %d tokens",
                           BENCH_REPS_MAX, BENCH_DECODE_MAX);
    }
    if (plan->n_sequences > BNT_MAX_SEQUENCES) {
        return bnt_err_set(err, BNT_E_USAGE, "%u sequences; at most %d can be decoded together",
                           plan->n_sequences, BNT_MAX_SEQUENCES);
    }
    return BNT_OK;
}

/* ---- Opening. */

enum bnt_status bench_prompt_ids(const struct bnt_tokenizer *t, uint32_t n, struct bnt_ids *out,
                                 struct bnt_err *err)
{
    unsigned flags = BNT_ENCODE_ADD_SPECIAL;
    while (out->n < n) {
        size_t before = out->n;
        enum bnt_status st = bnt_tokenizer_encode(t, text, sizeof text - 1, flags, out, err);
        if (st != BNT_OK) {
            return st;
        }
        if (out->n == before) {
            return bnt_err_set(err, BNT_E_FILE, "the model's tokenizer makes no tokens of a text");
        }
        flags = 0;
    }
    return BNT_OK;
}

static enum bnt_status series_new(struct bench_series *s, size_t n, struct bnt_err *err)
{
    s->at = calloc(n, sizeof(*s->at));
    return s->at != NULL ? BNT_OK : bnt_err_nomem(err, "measured times", n * sizeof(*s->at));
}

static enum bnt_status make_series(struct bench *b, struct bnt_err *err)
{
    const struct bench_plan *plan = b->plan;
    struct bench_decode *d = &b->r->decode;
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < plan->n_lengths && st == BNT_OK; i++) {
        b->r->prompts[i].n_ids = plan->lengths[i];
        st = series_new(&b->r->prompts[i].first_ms, plan->n_reps, err);
        st = st == BNT_OK ? series_new(&b->r->prompts[i].cpu_ms, plan->n_reps, err) : st;
    }
    b->r->n_prompts = plan->n_lengths;
    d->n_before = plan->lengths[0];
    d->n_ids = plan->n_decode;
    d->n_sequences = plan->n_sequences > 0 ? plan->n_sequences : 1;
    if (st == BNT_OK && !plan->no_bandwidth) {
        st = series_new(&b->gb_per_s, 2 * (size_t)plan->n_reps, err);
    }
    if (st == BNT_OK && plan->n_decode > 0) {
        st = series_new(&d->run_ms, plan->n_reps, err);
        st = st == BNT_OK ? series_new(&d->cpu_ms, plan->n_reps, err) : st;
        st = st == BNT_OK ? series_new(&d->token_ms, (size_t)plan->n_reps * plan->n_decode, err)
                          : st;
    }
    return st;
}

static struct bnt_session_options session_options(const struct bench_plan *plan)
{
    struct bnt_session_options o = plan->session;
    uint32_t with_decode = plan->lengths[0] + plan->n_decode, most = longest(plan);
    if (o.n_ctx == 0) {
        o.n_ctx = with_decode > most ? with_decode : most;
    }
    o.n_sequences = plan->n_sequences;
    return o;
}

static enum bnt_status open_model(struct bench *b, const struct bnt_session_options *session,
                                  struct bnt_err *err)
{
    const struct bench_plan *plan = b->plan;
    struct bnt_model_options options = plan->model;
    char packed_dir[BNT_PATH_MAX];
    options.session = session;
    bnt_engine_packed(plan->packed, plan->digest, packed_dir, &options);
    uint64_t start = bnt_clock_now_ns();
    enum bnt_status st = bnt_model_open(plan->path, &options, &b->model, err);
    if (st != BNT_OK) {
        return st;
    }
    const struct bnt_model_info *info = bnt_model_info(b->model);
    b->r->pack_ms = (double)info->pack_ns / 1e6;
    b->r->open_ms = ms_since(start) - b->r->pack_ms;
    start = bnt_clock_now_ns();
    st = bnt_session_new(b->model, session, &b->session, err);
    b->r->session_ms = ms_since(start);
    struct bnt_sampler_params greedy = bnt_sampler_defaults();
    return st == BNT_OK ? bnt_sampler_new(&greedy, (int32_t)info->n_vocab, &b->sampler, err) : st;
}

/* At the end once more: where the CPU took over the times are of both. */
static void note_kernels(struct bench *b)
{
    snprintf(b->r->device, sizeof b->r->device, "%s", bnt_session_device(b->session));
    snprintf(b->r->kernel, sizeof b->r->kernel, "%s", bnt_session_kernel(b->session));
}

static void note_facts(struct bench *b)
{
    struct bench_result *r = b->r;
    const struct bnt_model_info *info = bnt_model_info(b->model);
    struct bnt_session_stats stats;
    bnt_session_stats(b->session, &stats);
    snprintf(r->arch, sizeof r->arch, "%s", info->arch);
    snprintf(r->name, sizeof r->name, "%s", info->name);
    snprintf(r->weights, sizeof r->weights, "%s", info->weights);
    note_kernels(b);
    snprintf(r->kernel_note, sizeof r->kernel_note, "%s", bnt_session_kernel_note(b->session));
    r->n_params = info->n_params;
    r->file_bytes = info->file_bytes;
    r->streamed = info->streamed;
    r->narrow_head = stats.narrow_head;
    r->screened = bnt_session_has_best(b->session) && stats.screened;
    r->n_ctx = bnt_session_n_ctx(b->session);
    r->n_batch = bnt_session_n_batch(b->session);
    r->n_threads = bnt_session_n_threads(b->session);
    r->self_test_ms = (double)stats.self_test_ns / 1e6;
    r->session_bytes = stats.memory_bytes;
    r->kv_bytes = stats.kv_bytes;
    const uint64_t n = r->decode.n_sequences;
    r->kv_bytes_per_token =
        stats.kv_bytes / n / r->n_ctx * (r->decode.n_before + (uint64_t)r->decode.n_ids / 2);
}

static enum bnt_status open_all(struct bench *b, struct bnt_err *err)
{
    struct bnt_session_options session = session_options(b->plan);
    enum bnt_status st = make_series(b, err);
    st = st == BNT_OK ? open_model(b, &session, err) : st;
    st = st == BNT_OK
             ? bench_prompt_ids(bnt_model_tokenizer(b->model), longest(b->plan), &b->prompt, err)
             : st;
    if (st == BNT_OK) {
        note_facts(b);
        energy_open(&b->energy, b->plan->energy_root != NULL ? b->plan->energy_root : ENERGY_ROOT);
    }
    return st;
}

/* ---- Measuring. */

/* Energy since the last call goes to *sum; NULL: to nobody. */
static void take_energy(struct bench *b, double *sum)
{
    double joules;
    if (b->energy.n > 0 && energy_since(&b->energy, &joules) && sum != NULL) {
        *sum += joules;
    }
}

/* Evaluate ids, as bnt_generate does, and pick what follows. */
static enum bnt_status eval_next(struct bench *b, const int32_t *ids, size_t n, int32_t *id,
                                 struct bnt_err *err)
{
    struct bnt_candidate best;
    uint32_t found = 0;
    if (bnt_session_has_best(b->session)) {
        enum bnt_status st = bnt_session_eval_best(b->session, ids, n, 1, &best, &found, err);
        return st == BNT_OK ? bnt_sampler_next_best(b->sampler, &best, found, id, err) : st;
    }
    enum bnt_status st = bnt_session_eval(b->session, ids, n, err);
    return st == BNT_OK ? bnt_sampler_next(b->sampler, bnt_session_logits(b->session), id, err)
                        : st;
}

/* From nothing to the first token after n ids. */
static enum bnt_status first_token(struct bench *b, uint32_t n, int32_t *id, struct bnt_err *err)
{
    enum bnt_status st = bnt_session_rewind(b->session, 0, err);
    return st == BNT_OK ? eval_next(b, b->prompt.at, n, id, err) : st;
}

static enum bnt_status measure_prompt(struct bench *b, struct bench_prompt *p, bool counts,
                                      struct bnt_err *err)
{
    int32_t id;
    take_energy(b, NULL);
    double cpu = cpu_ms();
    uint64_t start = bnt_clock_now_ns();
    enum bnt_status st = first_token(b, p->n_ids, &id, err);
    if (st == BNT_OK && counts) {
        p->first_ms.at[p->first_ms.n++] = ms_since(start);
        p->cpu_ms.at[p->cpu_ms.n++] = cpu_ms() - cpu;
        take_energy(b, &p->joules);
    }
    return st;
}

/* Every sequence behind its prompt, most of which it holds from the repetition before. */
static enum bnt_status begin_sequences(struct bench *b, struct bnt_err *err)
{
    const struct bench_decode *d = &b->r->decode;
    enum bnt_status st = BNT_OK;
    for (uint32_t i = d->n_sequences; i-- > 0 && st == BNT_OK;) {
        uint32_t held = 0;
        b->steps[i].sequence = i;
        st = bnt_session_select(b->session, i, err);
        if (st == BNT_OK) {
            st = bnt_session_reuse(b->session, b->prompt.at, d->n_before, &held, err);
        }
        if (st == BNT_OK) {
            st = eval_next(b, b->prompt.at + held, d->n_before - held, &b->steps[i].id, err);
        }
    }
    return st;
}

/* One token of every sequence. */
static enum bnt_status step(struct bench *b, struct bnt_err *err)
{
    const uint32_t n = b->r->decode.n_sequences;
    if (n == 1) {
        return eval_next(b, &b->steps[0].id, 1, &b->steps[0].id, err);
    }
    enum bnt_status st = bnt_session_step_best(b->session, b->steps, n, 1, b->best, b->found, err);
    for (uint32_t i = 0; i < n && st == BNT_OK; i++) {
        st = bnt_sampler_next_best(b->sampler, &b->best[i], b->found[i], &b->steps[i].id, err);
    }
    return st;
}

static enum bnt_status measure_decode(struct bench *b, bool counts, struct bnt_err *err)
{
    struct bench_decode *d = &b->r->decode;
    enum bnt_status st = d->n_sequences == 1 ? first_token(b, d->n_before, &b->steps[0].id, err)
                                             : begin_sequences(b, err);
    take_energy(b, NULL);
    double cpu = cpu_ms();
    uint64_t start = bnt_clock_now_ns(), before = start;
    for (uint32_t i = 0; i < d->n_ids && st == BNT_OK; i++) {
        st = step(b, err);
        uint64_t now = bnt_clock_now_ns();
        if (st == BNT_OK && counts) {
            d->token_ms.at[d->token_ms.n++] = (double)(now - before) / 1e6;
        }
        before = now;
    }
    if (st == BNT_OK && counts) {
        d->run_ms.at[d->run_ms.n++] = (double)(before - start) / 1e6;
        d->cpu_ms.at[d->cpu_ms.n++] = cpu_ms() - cpu;
        take_energy(b, &d->joules);
    }
    return st;
}

static enum bnt_status look_beside(struct bench *b, struct bnt_err *err)
{
    const struct bench_plan *plan = b->plan;
    return plan->beside != NULL ? plan->beside(plan->beside_ctx, b->session, err) : BNT_OK;
}

/* The memory of this machine bounds what its processor decodes. The first probe takes a large
 * buffer, which is not to be seen in the process's memory. */
static enum bnt_status look_at_memory(struct bench *b, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    if (b->plan->no_bandwidth || strcmp(b->r->device, "cpu") != 0) {
        return BNT_OK;
    }
    if (b->bandwidth == NULL) {
        b->r->peak_bytes = bnt_peak_rss();
        st = bandwidth_probe_new(b->r->n_threads, &b->bandwidth, err);
    }
    if (st == BNT_OK) {
        b->gb_per_s.at[b->gb_per_s.n++] = bandwidth_probe_run(b->bandwidth);
    }
    return st;
}

static enum bnt_status measure_repetition(struct bench *b, bool counts, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < b->plan->n_lengths && st == BNT_OK; i++) {
        st = measure_prompt(b, &b->r->prompts[i], counts, err);
    }
    st = st == BNT_OK && counts ? look_beside(b, err) : st;
    if (st == BNT_OK && b->plan->n_decode > 0) {
        st = counts && b->bandwidth != NULL ? look_at_memory(b, err) : BNT_OK;
        st = st == BNT_OK ? measure_decode(b, counts, err) : st;
        st = st == BNT_OK && counts ? look_beside(b, err) : st;
    }
    return st == BNT_OK && counts ? look_at_memory(b, err) : st;
}

static enum bnt_status measure_all(struct bench *b, struct bnt_err *err)
{
    const struct bench_plan *plan = b->plan;
    uint64_t total = (uint64_t)plan->n_warmups + plan->n_reps;
    enum bnt_status st = BNT_OK;
    for (uint64_t rep = 0; rep < total && st == BNT_OK; rep++) {
        bool counts = rep >= plan->n_warmups - (BNT_FAULT(bench_warmup) && plan->n_warmups > 0);
        st = rep == plan->n_warmups ? look_beside(b, err) : BNT_OK;
        st = st == BNT_OK ? measure_repetition(b, counts, err) : st;
        if (plan->progress != NULL) {
            plan->progress(plan->ctx, rep + 1, total);
        }
    }
    return st;
}

/* What tokens read is counted while they are evaluated. */
static void note_bytes(struct bench *b)
{
    struct bnt_session_stats stats;
    bnt_session_stats(b->session, &stats);
    b->r->weight_bytes_per_token = stats.weight_bytes_per_token / b->r->decode.n_sequences;
    b->r->left_out_bytes_per_token = stats.left_out_bytes_per_token;
}

/* A counter that went away in the middle leaves no figure at all. */
static void finish_energy(struct bench *b)
{
    if (b->energy.n > 0) {
        return;
    }
    snprintf(b->r->no_energy, sizeof b->r->no_energy, "%s", b->energy.why);
    b->r->decode.joules = NAN;
    for (size_t i = 0; i < b->r->n_prompts; i++) {
        b->r->prompts[i].joules = NAN;
    }
}

enum bnt_status bench_run(const struct bench_plan *plan, struct bench_result *r,
                          struct bnt_err *err)
{
    struct bench b = {.plan = plan, .r = r};
    enum bnt_status st = check_plan(plan, err);
    st = st == BNT_OK ? open_all(&b, err) : st;
    st = st == BNT_OK ? measure_all(&b, err) : st;
    if (st == BNT_OK) {
        finish_energy(&b);
        note_kernels(&b);
        note_bytes(&b);
        r->peak_bytes = r->peak_bytes > 0 ? r->peak_bytes : bnt_peak_rss();
        r->has_bandwidth = b.gb_per_s.n > 0;
    }
    if (st == BNT_OK && r->has_bandwidth) {
        bnt_stats_sort(b.gb_per_s.at, b.gb_per_s.n);
        r->bandwidth_gb_per_s = bnt_stats_median(b.gb_per_s.at, b.gb_per_s.n);
        r->bandwidth_streams = bandwidth_probe_streams(b.bandwidth);
    }
    bandwidth_probe_free(b.bandwidth);
    free(b.gb_per_s.at);
    bnt_ids_release(&b.prompt);
    bnt_sampler_free(b.sampler);
    if (b.session != NULL) {
        bnt_session_free(b.session);
    }
    if (b.model != NULL) {
        bnt_model_close(b.model);
    }
    return st;
}

void bench_release(struct bench_result *r)
{
    for (size_t i = 0; i < BENCH_LENGTHS_MAX; i++) {
        free(r->prompts[i].first_ms.at);
        free(r->prompts[i].cpu_ms.at);
    }
    free(r->decode.run_ms.at);
    free(r->decode.cpu_ms.at);
    free(r->decode.token_ms.at);
    *r = (struct bench_result){0};
}
