/* A run of `bnt test`, from the collected tests to the exit code: identity, seed, quarantine,
 * selection by history and shard, result cache, plan, execution, diagnosis, history, reports. */
#include "testkit/cmd_test_session.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/file.h"
#include "base/msg.h"
#include "base/sysinfo.h"
#include "engine/device.h"
#include "testkit/diagnose.h"
#include "testkit/events.h"
#include "testkit/identity.h"
#include "testkit/live_line.h"
#include "testkit/perf_steps.h"
#include "testkit/prepare.h"
#include "testkit/quarantine.h"
#include "testkit/result_cache.h"
#include "testkit/shard.h"
#include "testkit/subject.h"

struct session {
    const struct bnt_app *app;
    const struct test_opts *o;
    struct bnt_test_run *run;
    struct history *history; /* NULL: none, or none that can be used */
    struct events events;
    int n_jobs;
    bool mock;
};

static bool is_none(const char *given)
{
    return given && strcmp(given, "none") == 0;
}

/* What --subject names instead of a model; the suites program opens it. */
static enum bnt_status choose_subject(const struct test_opts *o, struct bnt_test_run *run,
                                      bool *mock, struct bnt_err *err)
{
    const char *kind = strncmp(o->subject, "tiny:", 5) == 0       ? "tiny"
                       : strncmp(o->subject, "scripted:", 9) == 0 ? "scripted"
                       : strstr(o->subject, "://")                ? "http"
                                                                  : NULL;
    if (!kind) {
        enum bnt_status st = bnt_err_set(
            err, BNT_E_USAGE, "--subject %.200s: no subject of a known kind", o->subject);
        bnt_err_hint(err, "tiny:, tiny:SEED, scripted:FILE or http://HOST:PORT; a model is given "
                          "with -m");
        return st;
    }
    *mock = strcmp(kind, "http") != 0;
    run->model = (struct bnt_model_ref){.kind = kind};
    return bnt_path_format(run->model.path, err, "%s", o->subject);
}

/* Suites read BNT_TEST_MODEL; the path is absolute, since a test may change its folder. */
static enum bnt_status choose_model(const struct bnt_app *app, const struct test_opts *o,
                                    struct bnt_test_run *run, bool *mock, struct bnt_err *err)
{
    if (o->subject) {
        return choose_subject(o, run, mock, err);
    }
    enum bnt_status status = bnt_model_arg_resolve(app, &o->model, &run->model, mock, err);
    if (status != BNT_OK) {
        return status;
    }
    char absolute[BNT_PATH_MAX];
    if (!realpath(run->model.path, absolute)) {
        return bnt_err_errno(err, "%s", run->model.path);
    }
    if (setenv("BNT_TEST_MODEL", absolute, 1) != 0) {
        return bnt_err_errno(err, "BNT_TEST_MODEL");
    }
    run->model_given = o->model.name != NULL;
    return bnt_path_format(run->model.path, err, "%s", absolute);
}

/* auto is measured on the model of the run, once for all its tests. */
static enum bnt_status find_device(const struct test_opts *o, const struct bnt_test_run *run,
                                   struct device_place *out, struct bnt_err *err)
{
    const struct bnt_session_options so = {.device = o->device, .warn = bnt_msg_warn_fn};
    struct bnt_model *model = NULL;
    enum bnt_status st = BNT_OK;
    if (strcmp(o->device, "auto") == 0 && o->subject) {
        st = bnt_err_set(err, BNT_E_USAGE, "--device auto is measured on a model; %.100s is none",
                         o->subject);
        bnt_err_hint(err, "write cpu, cuda or cuda:N");
    } else if (strcmp(o->device, "auto") == 0) {
        st = bnt_model_open(run->model.path, NULL, &model, err);
    }
    if (st == BNT_OK) {
        st = device_find(model, &so, out, err);
    }
    bnt_model_close(model);
    return st;
}

/* Suites read BNT_TEST_DEVICE; what it is becomes part of the machine, so that a result or a time
 * of one device is never taken for another's. */
static enum bnt_status choose_device(const struct test_opts *o, struct bnt_test_run *run,
                                     struct bnt_err *err)
{
    struct device_place place;
    enum bnt_status st = find_device(o, run, &place, err);
    if (st != BNT_OK) {
        return st;
    }
    bool gpu = place.index >= 0;
    int rc = gpu ? setenv("BNT_TEST_DEVICE", place.name, 1) : unsetenv("BNT_TEST_DEVICE");
    if (rc != 0) {
        return bnt_err_errno(err, "BNT_TEST_DEVICE");
    }
    if (gpu) {
        snprintf(run->machine.device, sizeof run->machine.device, "%s", place.what);
        bnt_msg_note("tests of models compute on %s: %s", place.name, place.what);
    }
    return BNT_OK;
}

/* Every random test of a run draws from one seed, which a failure's rerun line names. */
static enum bnt_status choose_seed(const struct test_opts *o, struct bnt_test_run *run,
                                   struct bnt_err *err)
{
    const char *given = bnt_env("BNT_TEST_SEED");
    run->seed = (uint64_t)o->seed;
    if (run->seed == 0 && given) {
        run->seed = strtoull(given, NULL, 10);
        if (given[strspn(given, "0123456789")] || run->seed > SEED_MAX) {
            bnt_err_hint(err, "a whole number of at most %llu, or nothing", SEED_MAX);
            return bnt_err_set(err, BNT_E_USAGE, "BNT_TEST_SEED says \"%.100s\"", given);
        }
    }
    if (run->seed == 0) {
        run->seed = strtoull(run->id, NULL, 16) % 1000000000 + 1;
    }
    char text[32];
    snprintf(text, sizeof text, "%llu", (unsigned long long)run->seed);
    return setenv("BNT_TEST_SEED", text, 1) == 0 ? BNT_OK : bnt_err_errno(err, "BNT_TEST_SEED");
}

/* A server that cannot be reached is trouble of the network, told once, and no test is red for it.
 */
static enum bnt_status reach_server(const struct session *s, struct bnt_err *err)
{
    struct bnt_err why = {0};
    struct bnt_subject *server = NULL;
    const struct bnt_subject_options once = {.session.interrupted = s->app->interrupted,
                                             .http_max_attempts = 1};
    if (strcmp(s->run->model.kind, "http") != 0) {
        return BNT_OK;
    }
    enum bnt_status status = bnt_subject_open(s->app, s->run->model.path, &once, &server, &why);
    bnt_subject_close(server);
    if (status != BNT_OK) {
        bnt_err_set(err, status, "%s", why.msg);
        bnt_err_hint(err, "%s",
                     status == BNT_E_NETWORK
                         ? "no test was run: start the server, and wait until it answers"
                         : why.hint);
    }
    return status;
}

static enum bnt_status identify(struct session *s, struct bnt_err *err)
{
    enum bnt_status status = choose_model(s->app, s->o, s->run, &s->mock, err);
    if (status == BNT_OK) {
        status = reach_server(s, err);
    }
    if (status == BNT_OK) {
        status = choose_device(s->o, s->run, err);
    }
    if (status == BNT_OK) {
        status = identity_fill(s->run, err);
    }
    if (status == BNT_OK) {
        status = choose_seed(s->o, s->run, err);
    }
    return status;
}

/* No run fails for its history. */
static void open_history(struct session *s)
{
    char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    enum bnt_status st = history_find(s->o->history, path, &err);
    if (st == BNT_OK && path[0]) {
        st = history_open(path, HISTORY_WRITE, &s->history, &err);
    }
    if (st != BNT_OK) {
        bnt_msg_warn(err.hint[0] ? err.hint : NULL, "%s; the run goes on without history", err.msg);
    }
}

static void warn_about_history(const struct bnt_err *err)
{
    bnt_msg_warn(err->hint[0] ? err->hint : NULL, "%s", err->msg);
}

static enum bnt_status apply_quarantine(struct session *s, struct bnt_err *err)
{
    const char *path = s->o->quarantine ? s->o->quarantine : QUARANTINE_DEFAULT;
    bool absent = !s->o->quarantine && access(path, F_OK) != 0;
    return is_none(s->o->quarantine) || absent
               ? BNT_OK
               : quarantine_apply(s->run, path, bnt_clock_unix_s(),
                                  getenv("BNT_SUITE_FILES") != NULL, err);
}

static enum bnt_status narrow(struct session *s, struct bnt_err *err)
{
    unsigned index;
    unsigned total;
    enum bnt_status status = BNT_OK;
    if (s->o->shard) {
        status = shard_parse(s->o->shard, &index, &total, err);
        if (status == BNT_OK) {
            status = shard_split(s->run, index, total, s->o->times, err);
        }
    } else if (s->o->last_failed && s->history) {
        status = prepare_last_failed(s->run, s->history, err);
    } else if (s->o->last_failed) {
        status = bnt_err_set(err, BNT_E_USAGE, "--last-failed needs a history");
        bnt_err_hint(err, "name one: --history FILE, or BNT_HISTORY without the word none");
    }
    return status;
}

enum bnt_status test_select(const struct test_opts *o, struct bnt_test_run *run)
{
    struct session s = {.o = o, .run = run};
    struct bnt_err err = {0};
    if (o->last_failed) {
        open_history(&s);
    }
    enum bnt_status status = narrow(&s, &err);
    history_close(s.history);
    if (status != BNT_OK) {
        return bnt_msg_error(&err);
    }
    return run->n == 0 ? test_nothing_selected(run, o->last_failed) : BNT_OK;
}

/* A cache that cannot be read is an empty one. */
static enum bnt_status use_cache(struct session *s, struct bnt_err *err)
{
    struct bnt_err trouble = {0};
    enum bnt_status status = result_cache_keys(s->run, err);
    if (status == BNT_OK && s->o->cache && s->history &&
        result_cache_take(s->run, s->history, &trouble) != BNT_OK) {
        warn_about_history(&trouble);
    }
    return status;
}

static enum bnt_status prepare(struct session *s, struct bnt_err *err)
{
    struct bnt_test_run *run = s->run;
    run->budget_ms = s->o->budget_s > 0 ? (uint64_t)ceil(s->o->budget_s * 1000)
                                        : bnt_test_tier_budget_ms(run->tier);
    int n_cpu = bnt_cpu_count() < BNT_TEST_JOBS_MAX ? bnt_cpu_count() : BNT_TEST_JOBS_MAX;
    run->n_jobs = s->n_jobs = s->o->jobs > 0 ? (int)s->o->jobs : n_cpu;
    open_history(s);
    enum bnt_status status = apply_quarantine(s, err);
    if (status == BNT_OK) {
        status = narrow(s, err);
    }
    if (status == BNT_OK) {
        status = use_cache(s, err);
    }
    if (status == BNT_OK) {
        status = prepare_plan(run, s->history, s->n_jobs, bnt_msg_warn_fn, err);
    }
    if (status == BNT_OK) {
        status = events_open(&s->events, s->o->events, err);
    }
    return status;
}

static enum bnt_status execute(struct session *s, struct bnt_err *err)
{
    struct live_line line = {0};
    const struct bnt_test_options how = {
        .n_jobs = s->n_jobs,
        .budget_ms = s->run->budget_ms,
        .interrupted = s->app->interrupted,
        .n_repeats = (unsigned)s->o->repeat,
        .fail_fast = s->o->fail_fast,
        .tick = live_line_tick,
        .tick_ctx = &line,
        .event = events_test,
        .event_ctx = &s->events,
    };
    events_begin(&s->events, s->run);
    enum bnt_status status = bnt_test_execute(s->run, &how, err);
    live_line_end(&line);
    return status;
}

/* What the outcomes mean, once they are all there. */
static void settle(struct session *s)
{
    struct bnt_err trouble = {0}, unread = {0};
    if (result_cache_settle(s->run, s->history, &trouble) != BNT_OK) {
        warn_about_history(&trouble);
    }
    quarantine_settle(s->run);
    if (s->history && history_metrics_past(s->history, s->run, &unread) != BNT_OK) {
        warn_about_history(&unread);
    }
    if (s->o->diagnose_s > 0 && s->o->repeat <= 1 && !s->run->interrupted) {
        diagnose_failures(s->run, (uint64_t)(s->o->diagnose_s * 1000), s->app->interrupted);
        s->run->interrupted = *s->app->interrupted != 0;
    }
}

static void remember(const struct session *s, enum bnt_status exit_code)
{
    struct bnt_err err = {0};
    if (s->history && history_is_readonly(s->history)) {
        bnt_msg_note("history %s cannot be written: this run is not in it",
                     history_path(s->history));
    } else if (s->history && history_record(s->history, s->run, (int)exit_code, &err) != BNT_OK) {
        warn_about_history(&err);
    }
}

/* SLOWER when a figure got worse against its history. */
static enum bnt_status judge_figures(struct session *s)
{
    struct perf_steps steps;
    struct bnt_err err = {0};
    enum bnt_status st = perf_steps_judge(s->run, &steps, &err);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    if (steps.n_few > 0) {
        bnt_msg_note("%zu of %zu figures have too few earlier values on this machine to be judged",
                     steps.n_few, steps.n_few + steps.n_worse + steps.n_steady);
    }
    return steps.n_worse > 0 ? BNT_E_SLOWER : BNT_OK;
}

static enum bnt_status conclude(struct session *s)
{
    struct bnt_err err = {0};
    enum bnt_status exit_code = test_verdict(s->run, s->o->strict, s->mock);
    const bool green = exit_code == BNT_OK || exit_code == BNT_E_MOCK_USED;
    if (s->o->slower && green) {
        exit_code = test_worse(exit_code, judge_figures(s));
    }
    const size_t n_not_run = bnt_test_count(s->run, NULL).of[BNT_TEST_NOT_RUN];
    if (n_not_run > 0 && green) {
        bnt_msg_warn("give a larger --budget, or shards; --strict makes this exit code 27",
                     "%zu of %zu tests were not run", n_not_run, s->run->n);
    }
    if (test_nothing_ran(s->run)) {
        bnt_msg_warn("what is needed is named beside each suite; --strict makes this exit code 27",
                     "no test ran: %zu of %zu were skipped", s->run->n, s->run->n);
    }
    remember(s, exit_code);
    exit_code = test_reports_write(s->run, &s->o->reports, exit_code);
    if (events_end(&s->events, s->run, (int)exit_code, &err) != BNT_OK) {
        exit_code = test_worse(exit_code, bnt_msg_error(&err));
    }
    return exit_code;
}

enum bnt_status test_session(const struct bnt_app *app, const struct test_opts *o,
                             struct bnt_test_run *run)
{
    struct session s = {.app = app, .o = o, .run = run};
    struct bnt_err err = {0};
    enum bnt_status status = identify(&s, &err);
    if (status == BNT_OK && s.mock) {
        bnt_model_arg_warn(&run->model);
    }
    if (status == BNT_OK) {
        status = prepare(&s, &err);
    }
    bool none_failed = status == BNT_OK && run->n == 0 && o->last_failed;
    if (status == BNT_OK && !none_failed) {
        status = execute(&s, &err);
    }
    if (none_failed) {
        status = test_nothing_selected(run, true);
    } else if (status != BNT_OK) {
        status = bnt_msg_error(&err);
    } else {
        settle(&s);
        status = conclude(&s);
    }
    history_close(s.history);
    return status;
}

/* ---- gdb ---- */

/* The name of a test that the user called NAME or SUITE/NAME. */
static enum bnt_status find_known(const struct bnt_test_run *run, const char **name)
{
    const char *slash = strrchr(*name, '/');
    *name = slash ? slash + 1 : *name;
    const char *near = NULL;
    char hint[160] = "bnt test --tier full --list shows what there is";
    for (size_t i = 0; i < run->known.n; i++) {
        if (strcmp(run->known.at[i], *name) == 0) {
            return BNT_OK;
        }
        near = !near && strstr(run->known.at[i], *name) ? run->known.at[i] : near;
    }
    if (near) {
        snprintf(hint, sizeof hint, "did you mean: --gdb %s?", near);
    }
    return bnt_msg_fail(BNT_E_NO_TESTS, hint, "no test %s", *name);
}

enum bnt_status test_under_gdb(const struct bnt_app *app, const struct test_opts *o,
                               struct bnt_test_run *run)
{
    struct session s = {.app = app, .o = o, .run = run};
    struct bnt_err err = {0};
    const char *test = o->gdb;
    enum bnt_status status = find_known(run, &test);
    if (status != BNT_OK) {
        return status;
    }
    status = identify(&s, &err);
    if (status != BNT_OK) {
        return bnt_msg_error(&err);
    }
    /* The test is the first child of the suites program; with these it has no time limit, and no
     * child before it is there to make namespaces. */
    setenv("BNT_TEST_NO_LIMIT", "1", 1);
    setenv("BNT_TEST_CONFINE", "0", 1);
    execlp("gdb", "gdb", "-q", "-ex", "set follow-fork-mode child", "-ex",
           "set breakpoint pending on", "--args", run->program, "--run", test, (char *)NULL);
    return bnt_msg_fail(BNT_E_NOT_FOUND, "install gdb", "gdb: %s", strerror(errno));
}
