/* `bnt crossval`: the engine against a reference, or as one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/file.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "engine/engine_arg.h"
#include "engine/model_arg.h"
#include "testkit/cmd_test_impl.h"
#include "testkit/commands.h"
#include "testkit/crossval.h"

#define TEXT_MAX_BYTES (16u << 20)

struct crossval_opts {
    struct bnt_model_arg model;
    struct bnt_engine_arg engine;
    const char *reference, *command, *file, *record, *logits, *tolerances, *text;
    struct bnt_strs prompts;
    int64_t n_tokens, n_text, n_best, window;
    bool serve, json;
};

#define ROW(kind_, short_, long_, arg_, help_, member, ...)                                        \
    {                                                                                              \
        .kind = BNT_OPT_##kind_, .short_name = short_, .long_name = long_, .arg = arg_,            \
        .help = help_, .offset = offsetof(struct crossval_opts, member), __VA_ARGS__               \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("Reference"),
    ROW(STR, 0, "reference", "ADDRESS",
        "a llama-server or an OpenAI-compatible one: http://HOST:PORT", reference, .def = NULL),
    ROW(STR, 0, "reference-cmd", "COMMAND",
        "a program that answers JSON lines (docs/crossval.md); run by the shell", command,
        .def = NULL),
    ROW(STR, 0, "reference-file", "FILE", "answers that were recorded with --record", file,
        .def = NULL),
    BNT_OPT_HEAD("Model and questions"),
    BNT_MODEL_ARG_ROWS(struct crossval_opts, model),
    ROW(LIST, 'p', "prompt", "TEXT", "a prompt; repeatable (default: four, or those of the record)",
        prompts, .def = NULL),
    ROW(INT, 'n', "tokens", "N", "tokens of each answer", n_tokens, .def = "32", .min = 1,
        .max = 4096),
    ROW(STR, 0, "text", "FILE", "the text of the perplexity (default: a short story)", text,
        .def = NULL),
    ROW(INT, 0, "text-tokens", "N", "at most so many tokens of that text", n_text, .def = "256",
        .min = 2, .max = 65536),
    ROW(INT, 0, "top", "N",
        "entries of a row that a server is asked for; 0: all of the vocabulary (64 when recording)",
        n_best, .def = "0", .min = 0, .max = 1048576),
    ROW(STR, 0, "tolerances", "FILE", "bounds, in YAML (docs/crossval.md)", tolerances,
        .def = NULL),
    BNT_OPT_HEAD("Other things to do"),
    ROW(STR, 0, "record", "FILE",
        "write the answers of the reference, or of the model where none is given, into FILE",
        record, .def = NULL),
    ROW(STR, 0, "record-logits", "FILE",
        "write what it holds likely in every place of the text into FILE, for bnt perplexity "
        "--against FILE --max-tokens N (its gate decides from 2048 tokens on)",
        logits, .def = NULL),
    ROW(INT, 0, "window", "N", "positions of a window of --record-logits", window, .def = "128",
        .min = 2, .max = 65536),
    ROW(FLAG, 0, "serve", NULL,
        "be a reference: answer the lines of standard input on standard output", serve,
        .def = NULL),
    BNT_OPT_HEAD("Engine and output"),
    BNT_ENGINE_THREADS_ROW(struct crossval_opts),
    BNT_ENGINE_KERNEL_ROW(struct crossval_opts),
    BNT_ENGINE_DEVICE_ROWS(struct crossval_opts),
    BNT_ENGINE_KV_TYPE_ROW(struct crossval_opts),
    BNT_ENGINE_MEMORY_ROW(struct crossval_opts),
    BNT_ENGINE_LAYOUT_ROW(struct crossval_opts),
    BNT_ENGINE_TL_ROW(struct crossval_opts),
    BNT_ENGINE_TILES_ROW(struct crossval_opts),
    BNT_ENGINE_PRE_ROW(struct crossval_opts),
    ROW(FLAG, 0, "json", NULL, "one JSON object instead of a table", json, .def = NULL),
    BNT_OPT_END,
};

/* What a run holds. */
struct crossval_run_of {
    struct bnt_app *app;
    const struct crossval_opts *o;
    struct bnt_subject *ours, *reference;
    struct crossval_plan plan;
    const char *prompts[CROSSVAL_PROMPTS_MAX];
    struct bnt_buf text;
    bool mock;
};

/* ---- opening ---- */

static enum bnt_status open_model(struct crossval_run_of *r, struct bnt_err *err)
{
    const struct crossval_opts *o = r->o;
    struct bnt_subject_options opts = {.session = bnt_engine_session(&o->engine),
                                       .model = bnt_engine_model(&o->engine)};
    opts.session.interrupted = r->app->interrupted;
    struct bnt_model_ref ref;
    enum bnt_status st = bnt_model_arg_resolve(r->app, &o->model, &ref, &r->mock, err);
    if (st == BNT_OK && r->mock) {
        bnt_model_arg_warn(&ref);
    }
    return st == BNT_OK ? bnt_subject_open_model(&ref, &opts, &r->ours, err) : st;
}

static enum bnt_status open_reference(struct crossval_run_of *r, struct bnt_err *err)
{
    const struct crossval_opts *o = r->o;
    const struct bnt_subject_options opts = {.session.interrupted = r->app->interrupted};
    if (o->reference) {
        return strncmp(o->reference, "http://", 7) == 0 || strncmp(o->reference, "https://", 8) == 0
                   ? bnt_subject_open_http(o->reference, &opts, &r->reference, err)
                   : bnt_err_set(err, BNT_E_USAGE, "--reference %.200s: it is no http address",
                                 o->reference);
    }
    if (o->command) {
        return bnt_subject_open_command(o->command, &opts, &r->reference, err);
    }
    return o->file ? crossval_open_recorded(o->file, &r->reference, err) : BNT_OK;
}

static void plan_prompts(struct crossval_run_of *r)
{
    const struct crossval_opts *o = r->o;
    if (o->prompts.n > 0) {
        r->plan.prompts = o->prompts.at;
        r->plan.n_prompts = o->prompts.n;
    } else if (o->file) {
        r->plan.n_prompts =
            crossval_recorded_prompts(r->reference, r->prompts, CROSSVAL_PROMPTS_MAX);
        r->plan.prompts = r->prompts;
    }
}

static enum bnt_status make_plan(struct crossval_run_of *r, struct bnt_err *err)
{
    const struct crossval_opts *o = r->o;
    r->plan = crossval_plan_default();
    r->plan.n_tokens = (uint32_t)o->n_tokens;
    r->plan.n_text = (uint32_t)o->n_text;
    r->plan.n_best = (uint32_t)o->n_best;
    r->plan.interrupted = r->app->interrupted;
    plan_prompts(r);
    if (o->text) {
        enum bnt_status st = bnt_file_read(o->text, &r->text, err);
        r->plan.text = bnt_buf_view(&r->text);
        return st;
    }
    const char *recorded = o->file ? crossval_recorded_text(r->reference) : NULL;
    r->plan.text = recorded ? recorded : r->plan.text;
    if (o->file) {
        crossval_recorded_fit(r->reference, &r->plan);
    }
    return BNT_OK;
}

/* ---- reports ---- */

/* "token_ids" as words. */
static void words(const char *name, char out[32])
{
    snprintf(out, 32, "%s", name);
    for (char *c = out; *c; c++) {
        *c = *c == '_' ? ' ' : *c;
    }
}

static void print_table(const struct crossval_run_of *r, const struct crossval_report *report)
{
    const struct bnt_subject_facts a = bnt_subject_describe(r->ours);
    const struct bnt_subject_facts b = bnt_subject_describe(r->reference);
    printf("ours:      %s (%s)\nreference: %s (%s)\n\n%-15s %s\n", a.place, a.kind, b.place, b.kind,
           "rung", "verdict");
    for (int i = 0; i < CROSSVAL_N_RUNGS; i++) {
        const struct crossval_result *g = &report->rungs[i];
        char name[32], verdict[32];
        words(crossval_rung_name((enum crossval_rung)i), name);
        words(crossval_verdict_name(g->verdict), verdict);
        printf("%-15s %-*s", name, g->n_figures ? 11 : 0, verdict);
        for (size_t k = 0; k < g->n_figures; k++) {
            char figure[32];
            words(g->figures[k].name, figure);
            printf("%s%s %.6g", k ? ", " : " ", figure, g->figures[k].value);
        }
        test_put(g->why[0] ? "\n                " : "", g->why);
        printf("\n");
    }
}

static json_t *rung_json(const struct crossval_report *report, int i)
{
    const struct crossval_result *g = &report->rungs[i];
    json_t *figures = json_object();
    for (size_t k = 0; k < g->n_figures; k++) {
        json_object_set_new(figures, g->figures[k].name, json_real(g->figures[k].value));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "rung", crossval_rung_name((enum crossval_rung)i),
                     "verdict", crossval_verdict_name(g->verdict), "why", bnt_json_text(g->why),
                     "figures", figures);
}

static json_t *side_json(const struct bnt_subject *s)
{
    const struct bnt_subject_facts f = bnt_subject_describe(s);
    return json_pack("{s:s, s:o, s:o}", "kind", f.kind, "place", bnt_json_text(f.place), "name",
                     bnt_json_text(f.name));
}

static enum bnt_status print_json(const struct crossval_run_of *r,
                                  const struct crossval_report *report)
{
    json_t *rungs = json_array();
    for (int i = 0; i < CROSSVAL_N_RUNGS; i++) {
        json_array_append_new(rungs, rung_json(report, i));
    }
    const bool differs = report->differs_at < CROSSVAL_N_RUNGS;
    json_t *root = json_pack(
        "{s:o, s:o, s:s?, s:o}", "ours", side_json(r->ours), "reference", side_json(r->reference),
        "differs_at", differs ? crossval_rung_name(report->differs_at) : NULL, "rungs", rungs);
    struct bnt_err err = {0};
    return bnt_json_print(root, JSON_COMPACT, &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

/* ---- what is done ---- */

static enum bnt_status conclude(const struct crossval_report *report)
{
    char rung[32];
    if (report->differs_at < CROSSVAL_N_RUNGS) {
        const struct crossval_result *g = &report->rungs[report->differs_at];
        words(crossval_rung_name(report->differs_at), rung);
        return bnt_msg_fail(report->differs_at == CROSSVAL_SPEED ? BNT_E_SLOWER : BNT_E_DIFFERS,
                            NULL, "%s: %s", rung, g->why);
    }
    if (report->n_same == 0) {
        return bnt_msg_fail(BNT_E_INCONCLUSIVE, "docs/crossval.md says what each rung takes",
                            "the reference could be asked for nothing that is compared");
    }
    return BNT_OK;
}

static enum bnt_status compare(struct crossval_run_of *r)
{
    struct crossval_tolerances tol = crossval_tolerances_default();
    struct crossval_report report;
    struct bnt_err err = {0};
    enum bnt_status st = BNT_OK;
    if (r->o->tolerances) {
        st = crossval_tolerances_read(r->o->tolerances, &tol, &err);
    }
    if (st == BNT_OK) {
        st = crossval_run(r->ours, r->reference, &r->plan, &tol, &report, &err);
    }
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    if (r->o->json) {
        st = print_json(r, &report);
    } else {
        print_table(r, &report);
    }
    return st == BNT_OK ? conclude(&report) : st;
}

static enum bnt_status read_line(void *ctx, struct bnt_buf *line, bool *end, struct bnt_err *err)
{
    (void)ctx;
    return bnt_read_line(stdin, line, end, err);
}

static enum bnt_status write_bytes(void *ctx, const char *bytes, size_t n, struct bnt_err *err)
{
    (void)ctx;
    return bnt_msg_write(bytes, n, err);
}

static enum bnt_status serve(struct crossval_run_of *r)
{
    const struct crossval_lines lines = {read_line, write_bytes, NULL};
    struct bnt_err err = {0};
    return crossval_serve(r->ours, &lines, &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static enum bnt_status check(const struct crossval_opts *o, int argc, char **argv)
{
    const int n = (o->reference != NULL) + (o->command != NULL) + (o->file != NULL);
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "the model is an option: -m FILE",
                            "unexpected operand: %s", argv[0]);
    }
    if (n > 1 || (o->serve && (n > 0 || o->record || o->logits || o->json)) ||
        (o->record && o->logits)) {
        return bnt_msg_fail(BNT_E_USAGE, "choose one",
                            "--reference, --reference-cmd, --reference-file and --serve exclude "
                            "each other, and so do --record and --record-logits");
    }
    if (n == 0 && !o->serve && !o->record && !o->logits) {
        return bnt_msg_fail(BNT_E_USAGE, "name one with --reference http://HOST:PORT",
                            "there is no reference");
    }
    return BNT_OK;
}

static enum bnt_status record(struct crossval_run_of *r)
{
    struct bnt_err err = {0};
    struct crossval_recorded kept;
    struct bnt_subject *subject = r->reference ? r->reference : r->ours;
    enum bnt_status st = crossval_record(subject, &r->plan, r->o->record, &kept, &err);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    bnt_msg_note("recorded %zu prompts and %zu places in %s", r->plan.n_prompts, kept.n_rows,
                 r->o->record);
    if (kept.not_offered + kept.n_early > 0) {
        bnt_msg_note("the subject told nothing of %zu places, and not all ids of %zu answers",
                     kept.not_offered, kept.n_early);
    }
    if (kept.no_score[0]) {
        bnt_msg_note("recorded no score of the text: %s", kept.no_score);
    }
    return BNT_OK;
}

static enum bnt_status record_logits(struct crossval_run_of *r)
{
    struct bnt_err err = {0};
    uint64_t n = 0;
    const struct crossval_logits_plan plan = {.text = r->plan.text,
                                              .n_text = r->plan.n_text,
                                              .window = (uint32_t)r->o->window,
                                              .interrupted = r->app->interrupted};
    enum bnt_status st = crossval_record_logits(r->reference ? r->reference : r->ours, &plan,
                                                r->o->logits, &n, &err);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    bnt_msg_note("recorded %llu places in %s", (unsigned long long)n, r->o->logits);
    return BNT_OK;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    struct crossval_run_of r = {.app = app, .o = opts, .text = BNT_BUF(TEXT_MAX_BYTES)};
    struct bnt_err err = {0};
    enum bnt_status st = check(r.o, argc, argv);
    if (st != BNT_OK) {
        return st;
    }
    const bool other = r.o->reference || r.o->command || r.o->file;
    st = other && (r.o->record || r.o->logits) ? BNT_OK : open_model(&r, &err);
    if (st == BNT_OK) {
        st = open_reference(&r, &err);
    }
    if (st == BNT_OK) {
        st = make_plan(&r, &err);
    }
    if (st != BNT_OK) {
        st = bnt_msg_error(&err);
    } else if (r.o->record) {
        st = record(&r);
    } else if (r.o->logits) {
        st = record_logits(&r);
    } else {
        st = r.o->serve ? serve(&r) : compare(&r);
    }
    bnt_subject_close(r.reference);
    bnt_subject_close(r.ours);
    bnt_buf_release(&r.text);
    return bnt_model_arg_exit(st, r.mock);
}

const struct bnt_cmd bnt_cmd_crossval = {
    .name = "crossval",
    .synopsis = "[OPTIONS] --reference ADDRESS | --reference-cmd COMMAND | --reference-file FILE",
    .summary = "hold the engine against another one, rung by rung",
    .description =
        "Climbs a ladder: token ids, first logits, layer taps, teacher-forced, greedy text, "
        "perplexity, speed. It stops at the first rung on which the two differ, says where, and "
        "ends with exit code 6 (17 for speed). A rung that the reference cannot offer is named as "
        "skipped, never as passed; when nothing could be compared the exit code is 3.\n\n"
        "The reference is a server (llama-server of llama.cpp, bitnet.cpp or ik_llama.cpp, or one "
        "with OpenAI's protocol), a program that answers JSON lines, or a file of recorded "
        "answers. --record writes such a file; --serve is such a program, so that two builds of "
        "bnt can be held against each other.",
    .examples =
        "  bnt crossval --reference http://127.0.0.1:8080       # against a llama-server\n"
        "  bnt crossval -m FILE --reference-cmd './other/bnt crossval --serve -m FILE'\n"
        "  bnt crossval --reference http://127.0.0.1:8080 --record answers.json\n"
        "  bnt crossval --reference-file answers.json --json    # later, without the server\n"
        "  bnt crossval --reference http://127.0.0.1:8080 --text t.txt --text-tokens 4096 \\\n"
        "               --record-logits t.rec\n"
        "  bnt perplexity -f t.txt --max-tokens 4096 --against t.rec   # within 0.1 %?\n",
    .opts = options,
    .opts_size = sizeof(struct crossval_opts),
    .run = run,
};
