/* bnt test history, bnt test why, bnt test merge: what was, and how it came about. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "engine/model_arg.h"
#include "testkit/cmd_test_impl.h"
#include "testkit/commands.h"
#include "testkit/history.h"
#include "testkit/report_writer.h"
#include "testkit/shard.h"

enum { SHOWN_RUNS = 20, SHOWN_ROWS = 10 };

static enum bnt_status open_for(const char *given, enum history_mode mode, struct history **out,
                                struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = history_find(given, path, err);
    if (st == BNT_OK && !path[0]) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "no history is kept: %s is none",
                         given ? "--history" : "BNT_HISTORY");
        bnt_err_hint(err, "name one: --history FILE");
    }
    return st == BNT_OK ? history_open(path, mode, out, err) : st;
}

static void format_time(int64_t unix_s, char out[24])
{
    struct tm utc;
    time_t t = (time_t)unix_s;
    strftime(out, 24, "%Y-%m-%d %H:%M:%SZ", gmtime_r(&t, &utc));
}

static enum bnt_status print_json(json_t *root, struct bnt_err *err)
{
    size_t flags = JSON_INDENT(1) | JSON_REAL_PRECISION(6);
    return bnt_json_print(root, flags, err) == BNT_OK ? BNT_OK : bnt_msg_error(err);
}

/* ---- bnt test history ---- */

struct history_opts {
    const char *history;
    bool json, times;
};

static const struct bnt_opt history_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "history",
     .arg = "FILE",
     .help = "the history (BNT_HISTORY, else ~/.local/state/bnt/history.db)",
     .offset = offsetof(struct history_opts, history)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "times",
     .help = "print the mean time of every test: the file that bnt test --times takes",
     .offset = offsetof(struct history_opts, times)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "print a JSON array",
     .offset = offsetof(struct history_opts, json)},
    BNT_OPT_END,
};

static enum bnt_status list_run(void *ctx, const struct history_run *r, struct bnt_err *err)
{
    char when[24];
    char shard[24] = "";
    (void)err;
    format_time(r->started_unix_s, when);
    if (ctx) {
        json_array_append_new(
            ctx,
            json_pack("{s:s, s:I, s:s, s:s, s:o, s:f, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I}",
                      "run", r->id, "started_unix_s", (json_int_t)r->started_unix_s, "tier",
                      r->tier, "config", r->config, "host", report_json_text(r->host), "seconds",
                      (double)r->wall_ms / 1e3, "exit", r->exit_code, "shard", (int)r->shard_index,
                      "shards", (int)r->shard_total, "tests", (json_int_t)r->n_tests, "passed",
                      (json_int_t)r->n_passed, "red", (json_int_t)r->n_red, "not_run",
                      (json_int_t)r->n_not_run, "cached", (json_int_t)r->n_cached));
        return BNT_OK;
    }
    if (r->shard_total > 0) {
        snprintf(shard, sizeof shard, "  shard %u/%u", r->shard_index, r->shard_total);
    }
    printf(
        "%s  %s  %-11s %5llu tests  %5llu passed  %3llu red  %3llu not run  %8.1f s  exit %d%s\n",
        r->id, when, r->tier, (unsigned long long)r->n_tests, (unsigned long long)r->n_passed,
        (unsigned long long)r->n_red, (unsigned long long)r->n_not_run, (double)r->wall_ms / 1e3,
        r->exit_code, shard);
    return BNT_OK;
}

static json_t *json_row(const struct history_row *r)
{
    return json_pack("{s:s, s:I, s:s, s:o, s:s, s:o, s:f, s:f, s:o}", "run", r->run,
                     "started_unix_s", (json_int_t)r->started_unix_s, "outcome",
                     r->elsewhere ? "elsewhere" : bnt_test_outcome_name(r->outcome), "reason",
                     report_json_text(r->reason), "class", r->kind, "why", report_json_text(r->why),
                     "value", r->value, "seconds", (double)r->wall_ms / 1e3, "label",
                     report_json_text(r->label));
}

static enum bnt_status list_row(void *ctx, const char *suite, const char *test,
                                const struct history_row *r, struct bnt_err *err)
{
    (void)err;
    if (ctx) {
        json_t *o = json_row(r);
        json_object_set_new(o, "suite", report_json_text(suite));
        json_object_set_new(o, "test", report_json_text(test));
        json_array_append_new(ctx, o);
        return BNT_OK;
    }
    printf("%-11s %-8s %8.2f s", r->elsewhere ? "elsewhere" : bnt_test_outcome_name(r->outcome),
           r->kind, (double)r->wall_ms / 1e3);
    test_put("  ", suite);
    test_put("/", test);
    test_put("  (", r->why);
    test_put(r->reason[0] ? ")  " : ")", r->reason);
    printf("\n");
    return BNT_OK;
}

static enum bnt_status add_time(void *ctx, const char *test, double mean_ms, struct bnt_err *err)
{
    return json_object_set_new(ctx, test, json_real(mean_ms / 1e3)) == 0
               ? BNT_OK
               : bnt_err_nomem(err, "the times", 0);
}

static enum bnt_status show_history(struct history *h, const struct history_opts *o,
                                    const char *run_id, struct bnt_err *err)
{
    json_t *rows = o->json ? json_array() : NULL;
    enum bnt_status st;
    if (o->times) {
        json_t *seconds = json_object();
        json_decref(rows);
        st = history_each_time(h, add_time, seconds, err);
        json_t *root = json_pack("{s:s, s:i, s:o}", "format", "bnt-test-times", "schema", 1,
                                 "seconds", seconds);
        if (st == BNT_OK) {
            return print_json(root, err);
        }
        json_decref(root);
        return bnt_msg_error(err);
    }
    st = run_id ? history_each_row(h, run_id, list_row, rows, err)
                : history_each_run(h, SHOWN_RUNS, list_run, rows, err);
    if (st == BNT_OK && rows) {
        return print_json(rows, err);
    }
    json_decref(rows);
    return st == BNT_OK ? BNT_OK : bnt_msg_error(err);
}

static enum bnt_status import_result(struct history *h, const char *path, struct bnt_err *err)
{
    struct bnt_test_run run = {0};
    int exit_code = 0;
    enum bnt_status st = bnt_test_result_read(path, &run, &exit_code, err);
    if (st == BNT_OK && run.n_parts > 0) {
        st = bnt_err_set(err, BNT_E_USAGE, "%s is a merged result", path);
        bnt_err_hint(err, "import the results of its shards");
    } else if (st == BNT_OK && (!run.id[0] || !run.machine.fingerprint[0])) {
        st = bnt_err_set(err, BNT_E_FILE, "%s: a result without a run or a machine", path);
    }
    if (st == BNT_OK) {
        st = history_record(h, &run, exit_code, err);
    }
    bnt_test_run_release(&run);
    return st;
}

static enum bnt_status take_over(const struct history_opts *o, const char *verb, int n,
                                 char **files)
{
    struct bnt_err err = {0};
    struct history *h = NULL;
    enum bnt_status st = open_for(o->history, HISTORY_WRITE, &h, &err);
    for (int i = 0; st == BNT_OK && i < n; i++) {
        size_t n_new = 0;
        bool imports = strcmp(verb, "import") == 0;
        st = imports ? import_result(h, files[i], &err) : history_merge(h, files[i], &n_new, &err);
        if (st == BNT_OK && imports) {
            bnt_msg_note("%s: taken over", files[i]);
        } else if (st == BNT_OK) {
            bnt_msg_note("%s: %zu new run%s", files[i], n_new, n_new == 1 ? "" : "s");
        }
    }
    history_close(h);
    return st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static enum bnt_status run_history(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct history_opts *o = parsed;
    const char *verb = argc > 0 ? argv[0] : "list";
    struct bnt_err err = {0};
    struct history *h = NULL;
    if (argc > 1 && (strcmp(verb, "import") == 0 || strcmp(verb, "merge") == 0)) {
        return take_over(o, verb, argc - 1, argv + 1);
    }
    bool show = argc == 2 && strcmp(verb, "show") == 0;
    bool export = argc == 2 && strcmp(verb, "export") == 0;
    if (argc > 0 && !show && !export) {
        return bnt_msg_fail(BNT_E_USAGE,
                            "show RUN, import FILE..., merge FILE..., export FILE, or nothing",
                            "bnt test history takes no such words: %s", verb);
    }
    enum bnt_status st = open_for(o->history, HISTORY_READ, &h, &err);
    if (st == BNT_OK && export) {
        st = history_export(h, argv[1], &err);
    }
    if (st != BNT_OK) {
        st = bnt_msg_error(&err);
    } else if (!export) {
        st = show_history(h, o, show ? argv[1] : NULL, &err);
    }
    history_close(h);
    return st;
}

const struct bnt_cmd bnt_cmd_test_history = {
    .name = "history",
    .synopsis = "[show RUN | import FILE... | merge FILE... | export FILE] [--times]",
    .summary = "show the runs of the past, or take over those of other machines",
    .description = "Without a word: the latest runs. show RUN: every decision of one run, in the "
                   "order of its plan (the first digits of its name suffice). import: result files "
                   "of bnt test --result. merge: other history files. A run that is there already "
                   "is left as it is, so doing it twice is harmless. export: a copy, for a cache "
                   "of CI or another machine.",
    .examples = "  bnt test history                          # the latest runs\n"
                "  bnt test history --times >ci/times.json   # by which shards are cut\n"
                "  bnt test history import 1.json 2.json     # what the machines of CI measured",
    .opts = history_options,
    .opts_size = sizeof(struct history_opts),
    .run = run_history,
};

/* ---- bnt test why ---- */

struct why_opts {
    const char *history;
    bool json;
};

static const struct bnt_opt why_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "history",
     .arg = "FILE",
     .help = "the history (BNT_HISTORY, else ~/.local/state/bnt/history.db)",
     .offset = offsetof(struct why_opts, history)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "print a JSON array of the decisions, newest first",
     .offset = offsetof(struct why_opts, json)},
    BNT_OPT_END,
};

static void explain_decision(const struct history_row *r)
{
    if (r->elsewhere) {
        printf("left to another shard");
        return;
    }
    switch (r->outcome) {
    case BNT_TEST_SKIPPED:
        test_put("skipped: ", r->reason);
        break;
    case BNT_TEST_NOT_RUN:
        test_put("not run: ", r->reason);
        break;
    case BNT_TEST_CACHED:
        test_put("taken from the cache: ", r->reason);
        break;
    default:
        test_put("run: ", bnt_test_outcome_name(r->outcome));
        test_put(r->reason[0] ? ": " : "", r->reason);
        break;
    }
    if (r->label[0]) {
        test_put(" [", r->label);
        printf("]");
    }
    test_put("\n    planned as ", r->kind);
    test_put(": ", r->why);
}

static void explain_change(const struct history_row *now, const struct history_row *before)
{
    static const char same[] = "";
    const char *program = strcmp(now->program, before->program) ? "  program changed" : same;
    const bool both = !now->elsewhere && !before->elsewhere; /* another shard's are not known */
    const char *inputs = both && strcmp(now->inputs, before->inputs) ? "  inputs changed" : same;
    const char *model = strcmp(now->model, before->model) ? "  model changed" : same;
    const char *machine = strcmp(now->machine, before->machine) ? "  other machine" : same;
    if (program[0] || inputs[0] || model[0] || machine[0]) {
        printf("\n    since the decision before:%s%s%s%s", program, inputs, model, machine);
    }
}

static void explain(const char *test, const struct history_row *rows, size_t n)
{
    test_put("", test);
    printf(": %zu decision%s in the history, the latest first\n", n, n == 1 ? "" : "s");
    for (size_t i = 0; i < n && i < SHOWN_ROWS; i++) {
        char when[24];
        format_time(rows[i].started_unix_s, when);
        printf("%s  run %.8s  %s  %.2f s  ", when, rows[i].run, rows[i].tier,
               (double)rows[i].wall_ms / 1e3);
        explain_decision(&rows[i]);
        if (i + 1 < n) {
            explain_change(&rows[i], &rows[i + 1]);
        }
        printf("\n");
    }
}

static enum bnt_status show_metric(void *ctx, const char *run_id, const struct bnt_test_metric *m,
                                   struct bnt_err *err)
{
    (void)ctx;
    (void)err;
    printf("figure of run %.8s: ", run_id);
    test_put("", m->name);
    printf(" = %g", m->value);
    test_put(" ", m->unit);
    printf("\n");
    return BNT_OK;
}

static enum bnt_status unknown_test(struct history *h, const char *test)
{
    char near[96] = "";
    char hint[160];
    (void)history_near(h, test, near, sizeof near, NULL);
    snprintf(hint, sizeof hint,
             near[0] ? "did you mean: bnt test why %s?"
                     : "it was never selected; see bnt test --list%s",
             near);
    return bnt_msg_fail(BNT_E_NOT_FOUND, hint, "the history knows no test %s", test);
}

static enum bnt_status run_why(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    const struct why_opts *o = parsed;
    struct bnt_err err = {0};
    struct history *h = NULL;
    struct history_row rows[HISTORY_PER_TEST];
    size_t n = 0;
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt test why NAME", "give the name of one test");
    }
    const char *slash = strrchr(argv[0], '/'); /* SUITE/NAME will do */
    const char *test = slash ? slash + 1 : argv[0];
    enum bnt_status st = open_for(o->history, HISTORY_READ, &h, &err);
    if (st == BNT_OK) {
        st = history_of_test(h, test, rows, &n, &err);
    }
    if (st != BNT_OK) {
        st = bnt_msg_error(&err);
    } else if (n == 0) {
        st = unknown_test(h, test);
    } else if (o->json) {
        json_t *all = json_array();
        for (size_t i = 0; i < n; i++) {
            json_array_append_new(all, json_row(&rows[i]));
        }
        st = print_json(all, &err);
    } else {
        explain(test, rows, n);
        if (history_each_metric(h, test, show_metric, NULL, &err) != BNT_OK) {
            st = bnt_msg_error(&err);
        }
    }
    history_close(h);
    return st;
}

const struct bnt_cmd bnt_cmd_test_why = {
    .name = "why",
    .synopsis = "NAME",
    .summary = "explain why a test ran, was skipped, cached, or not run",
    .description = "Shows the recorded decisions about one test, the latest first: what the plan "
                   "thought of it, what came out, and what had changed since the decision before.",
    .examples = "  bnt test why gguf_refuses_version_1",
    .opts = why_options,
    .opts_size = sizeof(struct why_opts),
    .run = run_why,
};

/* ---- bnt test merge ---- */

struct merge_opts {
    struct test_reports reports;
    bool strict;
};

static const struct bnt_opt merge_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "strict",
     .help = "exit 27 when the budget left tests unrun, or all were skipped",
     .offset = offsetof(struct merge_opts, strict)},
    TEST_REPORT_ROWS(struct merge_opts, reports),
    BNT_OPT_END,
};

/* The worst of the whole, and of what only a part can know: its own --strict, --slower and
 * --allow-mock. */
static enum bnt_status merged_exit(const struct bnt_test_run *run, bool strict)
{
    enum bnt_status exit_code = test_verdict(run, strict, false);
    for (size_t i = 0; i < run->n_parts; i++) {
        exit_code = test_worse(exit_code, (enum bnt_status)run->parts[i].exit_code);
    }
    return exit_code;
}

static enum bnt_status merge_parts(struct bnt_test_run *parts, const int *exit_codes, size_t n,
                                   const struct merge_opts *o)
{
    struct bnt_err err = {0};
    struct bnt_test_run whole = {0};
    struct bnt_buf problems = BNT_BUF(TEST_REPORT_MAX_BYTES);
    enum bnt_status st = shard_merge(parts, exit_codes, n, &whole, &problems, &err);
    if (st != BNT_OK) {
        fputs(bnt_buf_view(&problems), stderr);
        st = bnt_msg_error(&err);
    } else if ((st = test_reports_check(&o->reports)) == BNT_OK) {
        st = test_reports_write(&whole, &o->reports, merged_exit(&whole, o->strict));
    }
    bnt_buf_release(&problems);
    bnt_test_run_release(&whole);
    return st;
}

static enum bnt_status run_merge(struct bnt_app *app, const void *parsed, int argc, char **argv)
{
    (void)app;
    struct bnt_err err = {0};
    if (argc < 1) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt test --shard I/N --result FILE writes them",
                            "give the result files of all shards");
    }
    struct bnt_test_run *parts = calloc((size_t)argc, sizeof *parts);
    int *exit_codes = calloc((size_t)argc, sizeof *exit_codes);
    enum bnt_status st =
        parts && exit_codes ? BNT_OK : bnt_err_nomem(&err, "the merged run", sizeof *parts);
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        st = bnt_test_result_read(argv[i], &parts[i], &exit_codes[i], &err);
    }
    st = st == BNT_OK ? merge_parts(parts, exit_codes, (size_t)argc, parsed) : bnt_msg_error(&err);
    for (int i = 0; parts && i < argc; i++) {
        bnt_test_run_release(&parts[i]);
    }
    free(parts);
    free(exit_codes);
    return st;
}

const struct bnt_cmd bnt_cmd_test_merge = {
    .name = "merge",
    .synopsis = "FILE...",
    .summary = "make one result of the shards of a run, if they are the whole of it",
    .description =
        "Every test of the division must be in exactly one file, and all files of the "
        "same program, model, tier and division; what is missing or there twice is named "
        "and the exit code is 1. Otherwise reports and exit code are those of one run.",
    .examples = "  bnt test merge shard-*.json --junit all.xml --result all.json",
    .opts = merge_options,
    .opts_size = sizeof(struct merge_opts),
    .run = run_merge,
};
