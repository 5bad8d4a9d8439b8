/* `bnt bench --explain`: the model of time, beside the clock or for another machine. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/msg.h"
#include "base/stats.h"
#include "base/sysinfo.h"
#include "engine/backend.h"
#include "engine/speed_probe.h"
#include "testkit/cmd_bench_impl.h"

#define ERROR_MAX 0.15
enum { SHORT_REPEATS = 3, ZEROS_TOKENS = 16 };

/* A figure: a prompt, or one token in the middle of those that are decoded. */
struct figure {
    uint32_t pos, n_tok;
    int n_threads;
    struct speed_time predicted;
    double measured_ms; /* NaN: not measured */
};

enum { FIGURES_MAX = SPEED_MACHINES_MAX * (BENCH_LENGTHS_MAX + 1) };

struct explain {
    const struct bnt_app *app;
    const struct bench_opts *o;
    struct bench_plan plan;
    const struct bnt_model_ref *ref;
    struct speed_shape shape;
    struct bench_machine said;
    struct speed_machine other;
    struct speed_probe probe;
    struct bandwidth_probe *bandwidth; /* while this machine is held against the clock */
    struct figure figures[FIGURES_MAX];
    size_t n_figures;
    struct speed_streams
        streams[SPEED_STREAMS_MAX]; /* of the threads in work, see explain_threads */
    size_t n_streams;
    uint32_t n_ctx, n_batch;
};

/* ---- what is asked for ---- */

/* With the copies that such a model would have: it is large enough for all of them. */
static enum bnt_status take_named_shape(struct explain *e, bool fives, struct bnt_err *err)
{
    const bool packed = strcmp(e->o->engine.packed, "off") != 0,
               full = strcmp(e->o->engine.head, "full") == 0;
    const bool screened = strcmp(e->o->engine.head, "screened") == 0 || (packed && !full);
    bool bf16 = false;
    enum bnt_status st = speed_shape_named(e->o->shape, &e->shape, &bf16, err);
    const struct speed_copies copies = {.fives = packed && fives,
                                        .columns = packed,
                                        .head = screened                 ? SPEED_HEAD_SCREENED
                                                : packed && full && bf16 ? SPEED_HEAD_NARROW
                                                                         : SPEED_HEAD_PLAIN};
    if (st == BNT_OK) {
        speed_shape_copy(&e->shape, &copies);
    }
    return st;
}

static enum bnt_status take_shape_of_model(struct explain *e, bool fives, struct bnt_err *err)
{
    struct bnt_model *model;
    struct bnt_model_options options = {.i2s_layout = e->o->engine.i2s_layout,
                                        .no_tokenizer = true,
                                        .head = e->plan.model.head,
                                        .memory_limit = e->o->engine.memory_limit};
    char packed_dir[BNT_PATH_MAX];
    bnt_engine_packed(e->o->engine.packed, e->ref->digest, packed_dir, &options);
    enum bnt_status st = bnt_model_open(e->ref->path, &options, &model, err);
    if (st != BNT_OK) {
        return st;
    }
    speed_shape_of_model(model, fives, &e->shape);
    if (bnt_model_info(model)->streamed) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED,
                         "%s is streamed below this memory limit: the model of time does not know "
                         "how fast the disk is",
                         e->ref->path);
    }
    bnt_model_close(model);
    return st;
}

static enum bnt_status read_shape(struct explain *e, struct bnt_err *err)
{
    const struct cpu_kernels *k;
    char note[256];
    enum bnt_status st = cpu_kernels_choose(e->o->engine.kernel, &k, note, sizeof note, err);
    if (st != BNT_OK) {
        return st;
    }
    const bool fives = cpu_kernels_have_fives(k);
    return e->o->shape ? take_named_shape(e, fives, err) : take_shape_of_model(e, fives, err);
}

static void choose_sizes(struct explain *e)
{
    const struct bench_plan *p = &e->plan;
    e->n_ctx = p->lengths[0] + p->n_decode;
    for (size_t i = 0; i < p->n_lengths; i++) {
        e->n_ctx = p->lengths[i] > e->n_ctx ? p->lengths[i] : e->n_ctx;
    }
    e->n_batch = p->session.n_batch > 0 ? p->session.n_batch : 128;
    e->n_batch = e->n_batch < e->n_ctx ? e->n_batch : e->n_ctx;
}

static enum bnt_status probe(struct explain *e, struct bnt_err *err)
{
    const int most = e->o->engine.threads > 0 ? (int)e->o->engine.threads : bnt_cpu_count();
    struct speed_probe_plan plan = {.shape = &e->shape,
                                    .kernel = e->o->engine.kernel,
                                    .repetitions = (uint32_t)e->o->repetitions,
                                    .interrupted = e->app->interrupted};
    for (int n = 1; n < most && plan.n_threads < SPEED_MACHINES_MAX - 1; n *= 2) {
        plan.threads[plan.n_threads++] = n;
    }
    plan.threads[plan.n_threads++] = most;
    plan.n_batches =
        speed_batch_sizes(e->plan.lengths, e->plan.n_lengths, e->n_batch, plan.batches);
    return speed_probe_run(&plan, &e->probe, err);
}

/* What of a model's `down` matrices single tokens leave out, in a few of them. */
static enum bnt_status measure_zeros(struct explain *e, struct bnt_err *err)
{
    struct bench_plan plan = e->plan;
    struct bench_result r = {0};
    plan.path = e->ref->path;
    plan.digest = e->ref->digest;
    plan.no_bandwidth = true;
    plan.progress = NULL;
    plan.n_lengths = plan.n_reps = 1;
    plan.n_warmups = 0;
    plan.n_decode = ZEROS_TOKENS;
    enum bnt_status st = bench_run(&plan, &r, err);
    e->shape.zeros = speed_zeros(&e->shape, (double)r.left_out_bytes_per_token / e->shape.n_layer);
    bench_release(&r);
    return st;
}

/* For another machine: of the model that is there, or of any with a shape. */
static enum bnt_status find_zeros(struct explain *e, struct bnt_err *err)
{
    if (e->shape.column_bytes == 0) {
        e->said.zeros_from = "its activation makes none, or its matrices have no copy by columns";
        return BNT_OK;
    }
    if (e->said.zeros >= 0) {
        e->shape.zeros = e->said.zeros;
        e->said.zeros_from = "said";
        return BNT_OK;
    }
    if (!e->o->shape) {
        e->said.zeros_from = "measured with this model";
        return measure_zeros(e, err);
    }
    e->said.zeros_from = "what squared ReLU leaves of random gates";
    return speed_random_zeros(e->o->engine.kernel, e->shape.n_ff, &e->shape.zeros, err);
}

/* ---- predicting and measuring ---- */

static size_t n_predicted(const struct explain *e)
{
    return e->plan.n_lengths + (e->plan.n_decode > 0);
}

/* Of the n-th length of prompts, or of a single token. */
static struct figure predicted(const struct explain *e, const struct speed_machine *m, size_t n)
{
    struct figure f = {.n_tok = 1, .n_threads = m->n_threads, .measured_ms = NAN};
    if (n < e->plan.n_lengths) {
        f.n_tok = e->plan.lengths[n];
    } else {
        f.pos = e->plan.lengths[0] + e->plan.n_decode / 2;
    }
    const struct speed_work work = {f.pos, f.n_tok, e->n_batch};
    speed_predict(&e->shape, &e->probe.rates, m, work, &f.predicted);
    return f;
}

static double error_of(const struct figure *f)
{
    return f->predicted.total / 1e6 / f->measured_ms - 1;
}

static enum bnt_status probe_streams(void *ctx, struct bnt_session *s, struct bnt_err *err)
{
    struct explain *e = ctx;
    return e->n_streams < SPEED_STREAMS_MAX
               ? speed_streams_probe(s, &e->probe.rates, &e->streams[e->n_streams++], err)
               : BNT_OK;
}

/* What memory gives in this moment, as it is said of another machine. */
static enum bnt_status probe_bandwidth(void *ctx, struct bnt_session *s, struct bnt_err *err)
{
    struct explain *e = ctx;
    (void)s;
    (void)err;
    if (e->n_streams < SPEED_STREAMS_MAX) {
        e->streams[e->n_streams++].plain_gb_per_s = bandwidth_probe_run(e->bandwidth);
    }
    return BNT_OK;
}

static enum bnt_status measure(struct explain *e, int n_threads, struct bench_result *r,
                               struct bnt_err *err)
{
    struct bnt_progress progress;
    struct bench_plan plan = e->plan;
    plan.path = e->ref->path;
    plan.digest = e->ref->digest;
    plan.session.n_threads = n_threads;
    plan.no_bandwidth = true;
    plan.ctx = &progress;
    plan.n_warmups = plan.n_warmups > 0 ? plan.n_warmups : 1;
    /* Where a prompt is over in less than a millisecond, whatever else happens is a large part. */
    const bool is_short = speed_weight_bytes(&e->shape) <= e->probe.machines[0].cache_bytes;
    plan.n_reps *= is_short ? SHORT_REPEATS : 1;
    plan.beside = e->bandwidth ? probe_bandwidth : probe_streams;
    plan.beside_ctx = e;
    e->n_streams = 0;
    bnt_progress_begin(&progress, "repetitions", (uint64_t)plan.n_warmups + plan.n_reps, false);
    enum bnt_status st = bench_run(&plan, r, err);
    bnt_progress_end(&progress);
    return st;
}

static int by_error(const void *a, const void *b)
{
    const double x = error_of(a), y = error_of(b);
    return (x > y) - (x < y);
}

/* The machine as it was between two looks: by what a session took, or, along the path of a machine
 * that is not there, by what its memory gave alone. */
static struct speed_machine machine_between(const struct explain *e, const struct speed_machine *m,
                                            const struct speed_streams looks[2])
{
    struct speed_machine now = *m;
    if (e->bandwidth) {
        const struct bench_machine said = {
            .cores = m->n_threads,
            .gb_per_s = (looks[0].plain_gb_per_s + looks[1].plain_gb_per_s) / 2};
        (void)bench_machine_of(&said, &e->probe, &now, NULL); /* its jobs were probed */
    } else {
        speed_streams_apply(looks, 2, &e->shape, &now);
    }
    return now;
}

/* A prompt (the n-th length) or the single tokens: predicted for each repetition by what was asked
 * right before and after it, held against what it took; the one in the middle is shown. Streams:
 * before the first repetition, after the prompts of each, after its tokens. */
static void add_measured(struct explain *e, const struct speed_machine *m, size_t n,
                         const struct bench_result *r)
{
    struct figure each[SPEED_STREAMS_MAX] = {{0}};
    const bool prompt = n < r->n_prompts;
    const struct bench_series *ms = prompt ? &r->prompts[n].first_ms : &r->decode.run_ms;
    const size_t looks = e->plan.n_decode > 0 ? 2 : 1;
    size_t n_each = 0;
    for (; n_each < ms->n && (n_each + 1) * looks < e->n_streams; n_each++) {
        const size_t before = n_each * looks + (prompt ? 0 : 1);
        const struct speed_machine now = machine_between(e, m, &e->streams[before]);
        each[n_each] = predicted(e, &now, n);
        each[n_each].measured_ms = ms->at[n_each] / (prompt ? 1 : e->plan.n_decode);
    }
    qsort(each, n_each, sizeof *each, by_error);
    e->figures[e->n_figures++] = each[n_each / 2];
}

/* As the engine counted. */
static void note_bytes(struct explain *e, const struct bench_result *r)
{
    e->shape.token_bytes = r->weight_bytes_per_token;
    e->shape.zeros = speed_zeros(&e->shape, (double)r->left_out_bytes_per_token / e->shape.n_layer);
}

/* The figures for the threads of a machine: what its memory gave is known once it is measured. */
static enum bnt_status explain_threads(struct explain *e, struct speed_machine *m,
                                       struct bnt_err *err)
{
    struct bench_result r = {0};
    enum bnt_status st = measure(e, m->n_threads, &r, err);
    if (st == BNT_OK) {
        m->head_chooses = r.screened;
        e->shape.head_token_bytes = e->streams[0].head_bytes;
        note_bytes(e, &r);
        for (size_t i = 0; i < n_predicted(e); i++) {
            add_measured(e, m, i, &r);
        }
        speed_streams_apply(e->streams, e->n_streams, &e->shape, m);
    }
    bench_release(&r);
    return st;
}

static enum bnt_status explain_here(struct explain *e, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < e->probe.n_machines && st == BNT_OK; i++) {
        st = explain_threads(e, &e->probe.machines[i], err);
    }
    return st;
}

/* The same path for this machine, held against the clock: what it is worth. */
static enum bnt_status check_path(struct explain *e, struct bnt_err *err)
{
    struct speed_machine *here = &e->probe.machines[e->probe.n_machines - 1];
    struct bench_result r = {0};
    enum bnt_status st = bandwidth_probe_new(here->n_threads, &e->bandwidth, err);
    st = st == BNT_OK ? measure(e, here->n_threads, &r, err) : st;
    for (size_t i = 0; st == BNT_OK && i < n_predicted(e); i++) {
        add_measured(e, here, i, &r);
    }
    bandwidth_probe_free(e->bandwidth);
    e->bandwidth = NULL;
    bench_release(&r);
    return st;
}

static enum bnt_status explain_other(struct explain *e, struct bnt_err *err)
{
    for (size_t i = 0; i < e->probe.n_machines; i++) {
        e->probe.machines[i].head_chooses = e->shape.head_form == SPEED_HEAD_SCREENED;
    }
    enum bnt_status st = bench_machine_of(&e->said, &e->probe, &e->other, err);
    if (st == BNT_OK && !e->o->shape) {
        st = check_path(e, err);
    }
    if (st == BNT_OK) {
        for (size_t i = 0; i < n_predicted(e); i++) {
            e->figures[e->n_figures++] = predicted(e, &e->other, i);
        }
    }
    return st;
}

/* ---- telling ---- */

static double worst_error(const struct explain *e)
{
    double worst = 0;
    for (size_t i = 0; i < e->n_figures; i++) {
        worst = fmax(worst, fabs(error_of(&e->figures[i]))); /* NaN: was not measured */
    }
    return worst;
}

static double tokens_per_s(const struct figure *f)
{
    return f->n_tok * 1e9 / f->predicted.total;
}

static void name_of(const struct figure *f, char *out, size_t size)
{
    snprintf(out, size, f->pos > 0 ? "token at %u" : "prompt %u", f->pos > 0 ? f->pos : f->n_tok);
}

static const char *const head_names[] = {[SPEED_HEAD_PLAIN] = "full",
                                         [SPEED_HEAD_NARROW] = "full, 12 bits",
                                         [SPEED_HEAD_SCREENED] = "screened"};

static json_t *json_figure(const struct figure *f)
{
    char name[32];
    name_of(f, name, sizeof name);
    const struct speed_time *t = &f->predicted;
    json_t *parts = json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "products", t->products / 1e6,
                              "head", t->head / 1e6, "attention", t->attention / 1e6, "steps",
                              t->steps / 1e6, "exchange", t->exchange / 1e6, "jobs", t->jobs / 1e6);
    return json_pack("{s:s, s:i, s:I, s:f, s:f, s:o, s:o, s:o, s:f}", "name", name, "threads",
                     f->n_threads, "tokens", (json_int_t)f->n_tok, "predicted_ms", t->total / 1e6,
                     "predicted_tokens_per_s", tokens_per_s(f), "measured_ms",
                     bench_json_number(f->measured_ms), "error", bench_json_number(error_of(f)),
                     "predicted_parts_ms", parts, "bytes_from_memory", t->bytes);
}

static json_t *json_machine(const struct speed_machine *m)
{
    return json_pack("{s:i, s:f, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I}", "threads",
                     m->n_threads, "gb_per_s", m->gb_per_s, "streams", m->streams, "ternary_share",
                     m->ternary_share, "fives_share", m->fives_share, "head_share", m->head_share,
                     "columns_share", m->columns_share, "job_us", m->job_ns / 1e3,
                     "exchange_ns_per_byte", m->exchange_ns, "dot_speed", m->dot_speed,
                     "step_speed", m->step_speed, "cache_bytes", (json_int_t)m->cache_bytes);
}

static enum bnt_status print_json(const struct explain *e, struct bnt_err *err)
{
    json_t *figures = json_array(), *machines = json_array();
    for (size_t i = 0; i < e->n_figures; i++) {
        json_array_append_new(figures, json_figure(&e->figures[i]));
    }
    for (size_t i = 0; i < e->probe.n_machines; i++) {
        json_array_append_new(machines, json_machine(&e->probe.machines[i]));
    }
    json_t *doc = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:f, s:o, s:o, s:o, s:o, s:I, s:I, s:f, s:I}", "schema", 1,
        "version", BNT_VERSION, "shape", e->shape.name, "head", head_names[e->shape.head_form],
        "kernel", e->probe.kernel, "dot_peak_gmac_per_s_of_a_thread", e->probe.rates.gmacs,
        "probed", machines, "machine", e->o->machine ? json_machine(&e->other) : json_null(),
        "figures", figures, "worst_error", e->o->shape ? json_null() : json_real(worst_error(e)),
        "weight_bytes_per_token", (json_int_t)speed_token_bytes(&e->shape), "head_bytes_per_token",
        (json_int_t)speed_head_bytes(&e->shape), "zeros",
        speed_by_columns(&e->shape) ? e->shape.zeros : 0.0, "memory_bytes",
        (json_int_t)speed_memory(&e->shape, e->n_ctx, e->n_batch));
    return bench_print_document(doc, err);
}

static void print_shape(const struct explain *e)
{
    const struct speed_shape *s = &e->shape;
    printf("model         %s: a token reads %.1f MB of weights: ternary ones in %s bits", s->name,
           (double)speed_token_bytes(s) / 1e6, s->w[W_UP].fives_bytes > 0 ? "1.6" : "2");
    if (speed_by_columns(s)) {
        printf(" (down without the %.0f %% of its columns that meet zeros)", 100 * s->zeros);
    }
    printf(", and %.1f MB of the head (%s)\n", (double)speed_head_bytes(s) / 1e6,
           head_names[s->head_form]);
}

/* Of the machines here: what its products take of a plain sum's speed, as a session does, or each
 * by itself. */
static void print_probes(const struct explain *e)
{
    const bool apart = e->o->machine != NULL;
    print_shape(e);
    printf("probed        %s kernels\n", e->probe.kernel);
    printf("%-14s  %10s  %7s  %14s  %11s  %12s  %8s\n", "  threads", "GB/s", "streams",
           apart ? "ternary, 2 bit" : "a layer's", "the head's", "GMAC/s", "job us");
    for (size_t i = 0; i < e->probe.n_machines; i++) {
        const struct speed_machine *m = &e->probe.machines[i];
        printf("  %-12d  %10.1f  %7d  %12.0f %%  %9.0f %%  %12.0f  %8.2f\n", m->n_threads,
               m->gb_per_s, m->streams, 100 * m->ternary_share, 100 * m->head_share,
               e->probe.gmacs[i], m->job_ns / 1e3);
    }
    putchar('\n');
}

static void print_figure(const struct figure *f, bool measured)
{
    char name[32];
    const struct speed_time *t = &f->predicted;
    name_of(f, name, sizeof name);
    printf("%-14s  %7d  %10.1f  %12.3f", name, f->n_threads, tokens_per_s(f), t->total / 1e6);
    if (measured && isfinite(f->measured_ms)) {
        printf("  %11.3f  %+6.1f %%", f->measured_ms, 100 * error_of(f));
    } else if (measured) {
        printf("  %11s  %8s", "-", "-");
    }
    printf("  %8.2f  %8.2f  %9.2f  %8.2f  %8.2f  %8.2f\n", t->products / 1e6, t->head / 1e6,
           t->attention / 1e6, t->steps / 1e6, t->exchange / 1e6, t->jobs / 1e6);
}

static void print_figures(const struct explain *e)
{
    const bool measured = e->o->shape == NULL;
    printf("%-14s  %7s  %10s  %12s%s  %8s  %8s  %9s  %8s  %8s  %8s\n", "", "threads", "tokens/s",
           "predicted ms", measured ? "  measured ms     error" : "", "products", "head",
           "attention", "steps", "exchange", "jobs");
    for (size_t i = 0; i < e->n_figures; i++) {
        print_figure(&e->figures[i], measured);
    }
    printf("a prompt's time is that to the first new token; the parts are of the prediction, ms\n");
}

static void print_table(const struct explain *e)
{
    print_probes(e);
    if (e->o->machine) {
        bench_machine_tell(&e->said, &e->probe, &e->shape, &e->other);
    }
    print_figures(e);
    printf("memory        %.1f MB at most: weights and their copies, a context of %u, batches of "
           "%u; without the program's own 10 MB or so\n",
           (double)speed_memory(&e->shape, e->n_ctx, e->n_batch) / 1e6, e->n_ctx, e->n_batch);
    if (e->o->shape) {
        printf("error         not known: -m FILE holds the same predictions for this machine "
               "against the clock\n");
    } else {
        printf("worst error   %.1f %%%s; at most %.0f %%\n", 100 * worst_error(e),
               e->o->machine ? " of the same predictions for this machine, by what its memory gave"
                             : "",
               100 * ERROR_MAX);
    }
}

enum bnt_status bench_explain(const struct bnt_app *app, const struct bench_opts *o,
                              const struct bench_plan *plan, const struct bnt_model_ref *ref)
{
    struct bnt_err err = {0};
    struct explain *e = calloc(1, sizeof *e);
    if (!e) {
        bnt_err_nomem(&err, "a model of time", sizeof *e);
        return bnt_msg_error(&err);
    }
    e->app = app;
    e->o = o;
    e->plan = *plan;
    e->ref = ref;
    enum bnt_status st = o->machine ? bench_machine_parse(o->machine, &e->said, &err) : BNT_OK;
    st = st == BNT_OK ? read_shape(e, &err) : st;
    if (st == BNT_OK) {
        choose_sizes(e);
        st = o->machine ? find_zeros(e, &err) : BNT_OK;
    }
    st = st == BNT_OK ? probe(e, &err) : st;
    if (st == BNT_OK) {
        st = o->machine ? explain_other(e, &err) : explain_here(e, &err);
    }
    if (st == BNT_OK && o->json) {
        st = print_json(e, &err);
    } else if (st == BNT_OK) {
        print_table(e);
    }
    st = st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
    if (st == BNT_OK && o->gate && worst_error(e) > ERROR_MAX) {
        st = BNT_E_FAILED;
    }
    free(e);
    return st;
}
