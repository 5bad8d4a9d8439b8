/* Two programs in turn. What they print comes from programs that may be older or no bnt at all:
 * every value is checked for its type and range before it is used. */
#include "testkit/perf_pairs.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "testkit/perf_server.h"
#include "testkit/proc.h"

enum { SERVE_MS = 100, GRACE_MS = 1000, KEEP_BYTES = 8 << 20 };

/* What one run of one program told: a time per figure. */
struct run {
    size_t n;
    double ms[PERF_FIGURES_MAX];
    char name[PERF_FIGURES_MAX][sizeof((struct perf_figure *)0)->name];
    struct perf_program program;
    char model[BNT_SHA256_HEX];
};

/* ---- Reading what a run printed. */

static void copy_text(const json_t *object, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));
    snprintf(out, size, "%s", text ? text : "");
}

/* The least of a list of times; NaN when it is none. */
static double fastest(const json_t *times)
{
    double least = NAN;
    size_t i;
    const json_t *v;
    json_array_foreach(times, i, v)
    {
        if (!json_is_number(v) || !(json_number_value(v) > 0)) {
            return NAN;
        }
        least = i == 0 || json_number_value(v) < least ? json_number_value(v) : least;
    }
    return least;
}

static bool add_figure(struct run *r, const char *name, const json_t *row, enum perf_clock clock)
{
    double ms = fastest(json_object_get(row, clock == PERF_WALL ? "samples_ms" : "cpu_ms"));
    if (!isfinite(ms) || r->n == PERF_FIGURES_MAX) {
        return false;
    }
    snprintf(r->name[r->n], sizeof r->name[r->n], "%s", name);
    r->ms[r->n++] = ms;
    return true;
}

static bool read_run(const json_t *doc, enum perf_clock clock, struct run *r)
{
    const json_t *prompts = json_object_get(doc, "prompts"), *row;
    const json_t *decode = json_object_get(doc, "decode");
    const json_t *settings = json_object_get(doc, "settings");
    size_t i;
    copy_text(doc, "version", r->program.version, sizeof r->program.version);
    copy_text(doc, "build", r->program.build, sizeof r->program.build);
    copy_text(settings, "kernel", r->program.kernel, sizeof r->program.kernel);
    r->program.n_threads = (int)json_integer_value(json_object_get(settings, "threads"));
    copy_text(json_object_get(doc, "model"), "digest", r->model, sizeof r->model);
    json_array_foreach(prompts, i, row)
    {
        char name[sizeof r->name[0]];
        snprintf(name, sizeof name, "prompt %lld",
                 (long long)json_integer_value(json_object_get(row, "tokens")));
        if (!add_figure(r, name, row, clock)) {
            return false;
        }
    }
    return (!json_is_object(decode) || add_figure(r, "token", decode, clock)) && r->n > 0;
}

/* "==1234== I refs: 1,234,567", the last one: that of the program which a script became. */
static bool read_count(const char *said, double *count)
{
    const char *at = NULL;
    for (const char *next = said; (next = strstr(next, " refs:")) != NULL; next++) {
        at = next;
    }
    *count = 0;
    for (at = at ? at + strlen(" refs:") : ""; *at && *at != '\n'; at++) {
        *count = *at >= '0' && *at <= '9' ? 10 * *count + (*at - '0') : *count;
    }
    return *count > 0;
}

/* Instead of its times, the instructions that the run took. */
static enum bnt_status take_count(const char *program, const struct proc *p, struct run *r,
                                  struct bnt_err *err)
{
    double count = 0;
    char *said = proc_output(p, PROC_ERR);
    bool read = said && read_count(said, &count);
    free(said);
    r->n = 1;
    snprintf(r->name[0], sizeof r->name[0], "instructions");
    r->ms[0] = count / 1e6;
    return read ? BNT_OK
                : bnt_err_set(err, BNT_E_FAILED, "%s: valgrind told no number of instructions",
                              program);
}

/* ---- Running. */

static enum bnt_status status_of_failed(const struct perf_plan *plan, const struct proc *p)
{
    if (p->end != PROC_EXITED) {
        return p->end == PROC_TIMED_OUT ? BNT_E_TIME : BNT_E_FAILED;
    }
    bool no_valgrind = plan->clock == PERF_INSTRUCTIONS && p->code == 127;
    return p->code == BNT_E_INTERRUPTED            ? BNT_E_INTERRUPTED
           : p->code == BNT_E_USAGE || no_valgrind ? BNT_E_UNSUPPORTED
                                                   : BNT_E_FAILED;
}

/* What a program that failed said, its first line. */
static enum bnt_status failed_run(const struct perf_plan *plan, const char *program,
                                  const struct proc *p, struct bnt_err *err)
{
    char how[160];
    char *said = proc_output(p, PROC_ERR);
    proc_describe(p, how, sizeof how);
    if (said) {
        said[strcspn(said, "\n")] = '\0';
    }
    enum bnt_status st = status_of_failed(plan, p);
    bool silent = !said || said[0] == '\0';
    bnt_err_set(err, st, "%s bench: %s%s%s", program, how, silent ? "" : ": ", silent ? "" : said);
    if (st == BNT_E_UNSUPPORTED && p->code == BNT_E_USAGE) {
        bnt_err_hint(err, "compare with a bnt that has `bench` and these options");
    } else if (st == BNT_E_UNSUPPORTED) {
        bnt_err_hint(err, "install valgrind, or take another --clock");
    }
    free(said);
    return st;
}

static enum bnt_status wait_for(const struct perf_plan *plan, struct proc *p)
{
    bool stopped = false;
    while (!proc_done(p)) {
        if (!stopped && plan->interrupted && *plan->interrupted) {
            proc_stop(p);
            stopped = true;
        }
        proc_serve(p, 1, SERVE_MS);
    }
    return stopped ? BNT_E_INTERRUPTED : BNT_OK;
}

static enum bnt_status parse_run(const struct perf_plan *plan, const char *program,
                                 const struct proc *p, struct run *r, struct bnt_err *err)
{
    char *text = proc_output(p, PROC_OUT);
    json_t *doc = text ? json_loads(text, 0, NULL) : NULL;
    bool ok = doc && read_run(doc, plan->clock, r);
    json_decref(doc);
    free(text);
    if (!ok) {
        bnt_err_set(err, BNT_E_UNSUPPORTED, "%s bench --json: its answer has no times", program);
        bnt_err_hint(err, "compare with a bnt whose `bench --json` has schema 1");
        return BNT_E_UNSUPPORTED;
    }
    return BNT_OK;
}

static enum bnt_status run_once(const struct perf_plan *plan, const char *program, struct run *r,
                                struct bnt_err *err)
{
    static const char *const count[] = {"valgrind", "--tool=cachegrind", "--cache-sim=no",
                                        "--cachegrind-out-file=/dev/null", "--trace-children=yes"};
    const char *argv[PERF_ARGS_MAX + 10] = {NULL};
    size_t n = 0;
    for (size_t i = 0; plan->clock == PERF_INSTRUCTIONS && i < sizeof count / sizeof *count; i++) {
        argv[n++] = count[i];
    }
    argv[n++] = program;
    argv[n++] = "bench";
    argv[n++] = "--json";
    argv[n++] = "--no-bandwidth";
    for (size_t i = 0; plan->options[i]; i++) {
        argv[n++] = plan->options[i];
    }
    struct proc p;
    const struct proc_spec spec = {.argv = (char *const *)(uintptr_t)argv,
                                   .timeout_ms = plan->timeout_ms,
                                   .grace_ms = GRACE_MS,
                                   .keep_bytes = KEEP_BYTES};
    *r = (struct run){0};
    enum bnt_status st = proc_start(&p, &spec, err);
    if (st != BNT_OK) {
        return st;
    }
    st = wait_for(plan, &p);
    if (st != BNT_OK) {
        bnt_err_set(err, st, "interrupted");
    } else if (p.end != PROC_EXITED || (p.code != BNT_OK && p.code != BNT_E_MOCK_USED)) {
        st = failed_run(plan, program, &p, err);
    } else {
        st = parse_run(plan, program, &p, r, err);
    }
    if (st == BNT_OK && plan->clock == PERF_INSTRUCTIONS) {
        st = take_count(program, &p, r, err);
    }
    proc_release(&p);
    return st;
}

/* The same work by a server; what it runs is not known but by name. */
static enum bnt_status ask_server(const struct perf_plan *plan, struct run *r, struct bnt_err *err)
{
    const struct bench_plan *work = perf_server_work(plan->server);
    struct perf_server_times times;
    *r = (struct run){0};
    enum bnt_status st = perf_server_run(plan->server, &times, err);
    for (size_t i = 0; i < work->n_lengths && st == BNT_OK; i++) {
        r->ms[r->n] = times.prompt_ms[i];
        snprintf(r->name[r->n++], sizeof r->name[0], "prompt %u", work->lengths[i]);
    }
    if (st == BNT_OK && work->n_decode > 0) {
        r->ms[r->n] = times.decode_ms;
        snprintf(r->name[r->n++], sizeof r->name[0], "token");
    }
    return st;
}

static enum bnt_status run_base(const struct perf_plan *plan, struct run *r, struct bnt_err *err)
{
    return plan->server ? ask_server(plan, r, err) : run_once(plan, plan->base, r, err);
}

/* ---- Pairs. */

static enum bnt_status check_same_work(const struct perf_plan *plan, const struct run *base,
                                       const struct run *head, struct bnt_err *err)
{
    if (!plan->server && strcmp(base->model, head->model) != 0) {
        return bnt_err_set(err, BNT_E_DIFFERS, "%s and %s measured different models", plan->base,
                           plan->head);
    }
    bool same = base->n == head->n;
    for (size_t i = 0; i < base->n && same; i++) {
        same = strcmp(base->name[i], head->name[i]) == 0;
    }
    return same ? BNT_OK
                : bnt_err_set(err, BNT_E_DIFFERS, "%s and %s measured different things", plan->base,
                              plan->head);
}

/* The pair before those that count. */
static enum bnt_status begin(const struct perf_plan *plan, const struct run *base,
                             const struct run *head, struct perf_pairs *out, struct bnt_err *err)
{
    out->base = base->program;
    out->head = head->program;
    snprintf(out->model, sizeof out->model, "%s", head->model);
    for (size_t i = 0; i < base->n; i++) {
        struct perf_figure *f = &out->figures[i];
        snprintf(f->name, sizeof f->name, "%s", base->name[i]);
        f->pairs = calloc(plan->n_pairs, sizeof *f->pairs);
        if (!f->pairs) {
            return bnt_err_nomem(err, "pairs of times", plan->n_pairs * sizeof *f->pairs);
        }
        out->n_figures++;
    }
    return BNT_OK;
}

static void keep(const struct run *base, const struct run *head, struct perf_pairs *out)
{
    for (size_t i = 0; i < out->n_figures; i++) {
        struct perf_figure *f = &out->figures[i];
        f->pairs[f->n++] = (struct perf_pair){base->ms[i], head->ms[i]};
    }
}

static enum bnt_status check_program(const char *path, struct bnt_err *err)
{
    return access(path, X_OK) == 0 ? BNT_OK : bnt_err_errno(err, "cannot run %s", path);
}

enum bnt_status perf_pairs_measure(const struct perf_plan *plan, struct perf_pairs *out,
                                   struct bnt_err *err)
{
    struct run base, head;
    enum bnt_status st = plan->server ? BNT_OK : check_program(plan->base, err);
    st = st == BNT_OK ? check_program(plan->head, err) : st;
    for (size_t i = 0; i <= plan->n_pairs && st == BNT_OK; i++) {
        bool head_first = i % 2 == 1;
        st = head_first ? run_once(plan, plan->head, &head, err) : run_base(plan, &base, err);
        if (st == BNT_OK) {
            st = head_first ? run_base(plan, &base, err) : run_once(plan, plan->head, &head, err);
        }
        st = st == BNT_OK ? check_same_work(plan, &base, &head, err) : st;
        if (st == BNT_OK && i == 0) {
            st = begin(plan, &base, &head, out, err);
        } else if (st == BNT_OK) {
            keep(&base, &head, out);
        }
        if (plan->progress) {
            plan->progress(plan->ctx, i, plan->n_pairs);
        }
    }
    return st;
}

void perf_pairs_release(struct perf_pairs *p)
{
    for (size_t i = 0; i < PERF_FIGURES_MAX; i++) {
        free(p->figures[i].pairs);
    }
    *p = (struct perf_pairs){0};
}
