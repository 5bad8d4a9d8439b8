/* `bnt bench --compare`: this program and another one in turn, and what that says. */
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/msg.h"
#include "base/json_load.h"
#include "testkit/cmd_bench_impl.h"
#include "testkit/perf_pairs.h"
#include "testkit/perf_server.h"

/* The seed of every bootstrap: a comparison of the same pairs gives the same verdict. */
enum { SEED = 1 };

/* What is told about a comparison. */
struct compared {
    const struct bench_opts *o;
    const struct perf_plan *plan;
    const struct bnt_model_ref *ref;
    double margin;
    struct perf_pairs pairs;
    struct perf_judgement of[PERF_FIGURES_MAX];
    enum perf_verdict verdict;
};

/* The options of both programs. Only what differs from the defaults is passed on, so that an older
 * program that lacks a newer option can be compared. numbers: where numbers become text. */
struct child_options {
    const char *at[PERF_ARGS_MAX + 1];
    size_t n;
    char numbers[8][24];
    size_t n_numbers;
};

static bool is_server(const struct bench_opts *o)
{
    return strncmp(o->compare, "http://", 7) == 0 || strncmp(o->compare, "https://", 8) == 0;
}

/* Nothing but time that passes can be told of a server. */
static const char *clock_name(const struct bench_opts *o)
{
    return o->clock ? o->clock : is_server(o) ? "wall" : "cpu";
}

static enum perf_clock clock_of(const struct bench_opts *o)
{
    const char *name = clock_name(o);
    return strcmp(name, "wall") == 0           ? PERF_WALL
           : strcmp(name, "instructions") == 0 ? PERF_INSTRUCTIONS
                                               : PERF_CPU;
}

static void add_text(struct child_options *c, const char *option, const char *value)
{
    c->at[c->n++] = option;
    c->at[c->n++] = value;
}

static void add_unless(struct child_options *c, const char *option, const char *value,
                       const char *usual)
{
    if (strcmp(value, usual) != 0) {
        add_text(c, option, value);
    }
}

static void add_number(struct child_options *c, const char *option, unsigned long long value)
{
    char *text = c->numbers[c->n_numbers++];
    snprintf(text, sizeof c->numbers[0], "%llu", value);
    add_text(c, option, text);
}

static void fill_options(const struct bench_opts *o, const char *model, struct child_options *c)
{
    add_text(c, "--model", model);
    add_text(c, "--prompt-lengths",
             o->prompt_lengths != NULL ? o->prompt_lengths : BENCH_COMPARE_LENGTHS);
    add_number(c, "--decode", (unsigned long long)o->decode);
    bool counted = clock_of(o) == PERF_INSTRUCTIONS;
    add_number(c, "--repetitions", counted ? 1 : (unsigned long long)o->repetitions);
    add_number(c, "--warmup", counted ? 0 : (unsigned long long)o->warmup);
    add_number(c, "--threads", o->engine.threads > 0 ? (unsigned long long)o->engine.threads : 1);
    if (o->batch > 0) {
        add_number(c, "--batch", (unsigned long long)o->batch);
    }
    if (o->engine.memory_limit > 0) {
        add_number(c, "--memory-limit", o->engine.memory_limit);
    }
    add_unless(c, "--kernel", o->engine.kernel, "auto");
    add_unless(c, "--kv-type", o->engine.kv_type, "f16");
    add_unless(c, "--tl", o->engine.tl, "codes");
    for (size_t i = 0; i < o->engine.tiles.n; i++) {
        add_text(c, "--tiles", o->engine.tiles.at[i]);
    }
    add_unless(c, "--i2s-layout", o->engine.i2s_layout, "auto");
    add_unless(c, "--packed", o->engine.packed, "auto");
    add_unless(c, "--head", o->engine.head, "auto");
    if (strcmp(o->engine.device, "cpu") != 0) {
        add_text(c, "--device", o->engine.device);
        add_text(c, "--fallback", o->engine.fallback);
    }
    if (o->engine.device_memory > 0) {
        add_number(c, "--device-memory", o->engine.device_memory);
    }
    if (o->model.allow_mock) {
        c->at[c->n++] = "--allow-mock";
    }
}

static enum bnt_status judge_all(struct compared *c, struct bnt_err *err)
{
    if (c->plan->clock == PERF_INSTRUCTIONS) {
        perf_judge_counts(c->margin, c->pairs.figures[0].pairs, &c->of[0]);
        c->verdict = c->of[0].verdict;
        return BNT_OK;
    }
    struct perf_rule rule = {.margin = c->margin,
                             .confidence = PERF_CONFIDENCE_DEFAULT,
                             .n_figures = c->pairs.n_figures,
                             .seed = SEED};
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; i < c->pairs.n_figures && st == BNT_OK; i++) {
        const struct perf_figure *f = &c->pairs.figures[i];
        st = perf_judge(&rule, f->pairs, f->n, &c->of[i], err);
        c->verdict = st == BNT_OK && i > 0 ? perf_verdict_join(c->verdict, c->of[i].verdict)
                                           : c->of[i].verdict;
    }
    return st;
}

/* ---- Telling. */

static double mean_ms(const struct perf_figure *f, bool head)
{
    double sum = 0;
    for (size_t i = 0; i < f->n; i++) {
        sum += head ? f->pairs[i].head : f->pairs[i].base;
    }
    return sum / (double)f->n;
}

static json_t *json_figure(const struct compared *c, const struct perf_figure *f,
                           const struct perf_judgement *j)
{
    const bool counted = c->plan->clock == PERF_INSTRUCTIONS;
    json_t *pairs = json_array();
    for (size_t i = 0; i < f->n; i++) {
        json_array_append_new(pairs, json_pack("[f, f]", f->pairs[i].base, f->pairs[i].head));
    }
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:o}", "name", f->name, "verdict",
                     perf_verdict_name(j->verdict), "change", j->change, "low", j->low, "high",
                     j->high, "confidence", j->confidence,
                     counted ? "pairs_million_instructions" : "pairs_ms", pairs);
}

static json_t *json_program(const char *path, const struct perf_program *p)
{
    return json_pack("{s:o, s:s, s:s, s:s, s:i}", "path", bnt_json_text(path), "version",
                     p->version, "build", p->build, "kernel", p->kernel, "threads", p->n_threads);
}

static enum bnt_status print_json(const struct compared *c, struct bnt_err *err)
{
    json_t *figures = json_array();
    for (size_t i = 0; i < c->pairs.n_figures; i++) {
        json_array_append_new(figures, json_figure(c, &c->pairs.figures[i], &c->of[i]));
    }
    json_t *doc =
        json_pack("{s:i, s:s, s:s, s:f, s:s, s:o, s:o, s:o}", "schema", 1, "verdict",
                  perf_verdict_name(c->verdict), "clock", clock_name(c->o), "margin", c->margin,
                  "model", c->pairs.model, "base", json_program(c->plan->base, &c->pairs.base),
                  "head", json_program(c->plan->head, &c->pairs.head), "figures", figures);
    return bench_print_document(doc, err);
}

static void print_program(const char *role, const char *path, const struct perf_program *p)
{
    printf("%-12s  %s (%s, %s build, %s kernels, %d thread%s)\n", role, path, p->version, p->build,
           p->kernel, p->n_threads, p->n_threads == 1 ? "" : "s");
}

/* The times of single tokens are those of all in a repetition. */
static void print_change(const struct compared *c, size_t i, int decimals)
{
    const struct perf_figure *f = &c->pairs.figures[i];
    const struct perf_judgement *j = &c->of[i];
    char name[32];
    snprintf(name, sizeof name, "%lld token%s", (long long)c->o->decode,
             c->o->decode == 1 ? "" : "s");
    printf("%-12s  %10.3f  %10.3f  %+6.*f %%  %+6.*f to %+6.*f %%  %s\n",
           strcmp(f->name, "token") == 0 ? name : f->name, mean_ms(f, false), mean_ms(f, true),
           decimals, 100 * j->change, decimals, 100 * j->low, decimals, 100 * j->high,
           perf_verdict_name(j->verdict));
}

static const char *verdict_words(enum perf_verdict v)
{
    return v == PERF_SAME     ? "head is as fast as base"
           : v == PERF_FASTER ? "head is faster than base"
           : v == PERF_SLOWER ? "head is slower than base"
                              : "undecided: more --pairs or a quieter machine would tell";
}

static void print_table(const struct compared *c)
{
    if (c->plan->server) {
        printf("%-12s  %s, model %s, times of %s\n", "base", c->plan->base,
               perf_server_name(c->plan->server),
               perf_server_has_clock(c->plan->server) ? "its own clock" : "questions and answers");
    } else {
        print_program("base", c->plan->base, &c->pairs.base);
    }
    print_program("head", c->plan->head, &c->pairs.head);
    printf("%-12s  %s\n\n", "model", c->ref->path);
    bool counted = c->plan->clock == PERF_INSTRUCTIONS;
    printf("%-12s  %10s  %10s  %8s  %-18s  %s\n", "", counted ? "base 10^6" : "base ms",
           counted ? "head 10^6" : "head ms", "change", "interval", "verdict");
    for (size_t i = 0; i < c->pairs.n_figures; i++) {
        print_change(c, i, counted ? 2 : 1);
    }
    const char *verdict = verdict_words(c->verdict);
    if (counted) {
        printf("\n%s: instructions of one repetition, margin %g %%\n", verdict, 100 * c->margin);
        return;
    }
    printf("\n%s: %zu pairs, %s of the fastest of %lld repetition%s, intervals of %.4g %%, "
           "margin %g %%\n",
           verdict, c->plan->n_pairs, c->plan->clock == PERF_CPU ? "processor time" : "wall time",
           (long long)c->o->repetitions, c->o->repetitions == 1 ? "" : "s",
           100 * c->of[0].confidence, 100 * c->margin);
}

static enum bnt_status tell(const struct compared *c, struct bnt_err *err)
{
    if (c->o->json) {
        return print_json(c, err);
    }
    print_table(c);
    return BNT_OK;
}

/* This program: what runs now, even if its file has been replaced since. */
static enum bnt_status own_path(char out[BNT_PATH_MAX], struct bnt_err *err)
{
    ssize_t n = readlink("/proc/self/exe", out, BNT_PATH_MAX - 1);
    if (n < 0) {
        return bnt_err_errno(err, "cannot find this program");
    }
    out[n] = '\0';
    return BNT_OK;
}

static enum bnt_status find_base(const struct bench_opts *o, char base[PATH_MAX],
                                 struct bnt_err *err)
{
    return realpath(o->compare, base) ? BNT_OK : bnt_err_errno(err, "--compare %s", o->compare);
}

static enum bnt_status open_server(const struct compared *c, struct perf_plan *plan,
                                   const struct bench_plan *work, struct bnt_err *err)
{
    if (plan->clock != PERF_WALL) {
        return bnt_err_set(err, BNT_E_USAGE, "--clock %s cannot be told of a server", c->o->clock);
    }
    const struct perf_server_plan server = {.address = c->o->compare,
                                            .model = c->ref->path,
                                            .work = work,
                                            .interrupted = plan->interrupted};
    plan->base = c->o->compare;
    return perf_server_open(&server, &plan->server, err);
}

enum bnt_status bench_compare(const struct bnt_app *app, const struct bench_opts *o,
                              const struct bench_plan *work, const struct bnt_model_ref *ref)
{
    struct bnt_err err = {0};
    struct bnt_progress progress;
    struct child_options options = {0};
    char self[BNT_PATH_MAX], base[PATH_MAX];
    struct perf_plan plan = {.base = base,
                             .head = self,
                             .options = options.at,
                             .clock = clock_of(o),
                             .n_pairs = clock_of(o) == PERF_INSTRUCTIONS ? 1
                                        : o->pairs > 0                   ? (size_t)o->pairs
                                                                         : PERF_PAIRS_DEFAULT,
                             .interrupted = app->interrupted,
                             .progress = bnt_progress_show,
                             .ctx = &progress};
    double margin = plan.clock == PERF_INSTRUCTIONS ? PERF_MARGIN_COUNTS : PERF_MARGIN_DEFAULT;
    struct compared c = {
        .o = o, .plan = &plan, .ref = ref, .margin = o->margin > 0 ? o->margin / 100 : margin};
    fill_options(o, ref->path, &options);
    enum bnt_status st = own_path(self, &err);
    if (st == BNT_OK) {
        st = is_server(o) ? open_server(&c, &plan, work, &err) : find_base(o, base, &err);
    }
    if (st == BNT_OK) {
        bnt_progress_begin(&progress, "pairs", plan.n_pairs, false);
        st = perf_pairs_measure(&plan, &c.pairs, &err);
        bnt_progress_end(&progress);
    }
    st = st == BNT_OK ? judge_all(&c, &err) : st;
    st = st == BNT_OK ? tell(&c, &err) : st;
    st = st == BNT_OK ? perf_verdict_status(c.verdict) : bnt_msg_error(&err);
    perf_pairs_release(&c.pairs);
    perf_server_close(plan.server);
    return st;
}
