/* bnt bisect: where two kernels, thread counts, builds or files part. */
#include <jansson.h>
#include <stdio.h>

#include "base/app.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "engine/model_arg.h"
#include "testkit/bisect.h"
#include "testkit/commands.h"

struct bisect_opts {
    struct bnt_model_arg model;
    const char *prompt, *ids;
    int64_t max_tokens;
    double atol, rtol;
    struct bnt_strs a, b;
    bool json;
};

#define ROW(kind_, short_, long_, arg_, help_, member, ...)                                        \
    {                                                                                              \
        .kind = BNT_OPT_##kind_, .short_name = short_, .long_name = long_, .arg = arg_,            \
        .help = help_, .offset = offsetof(struct bisect_opts, member), __VA_ARGS__                 \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("What both sides run"),
    BNT_MODEL_ARG_ROWS(struct bisect_opts, model),
    ROW(STR, 'p', "prompt", "TEXT", "the prompt", prompt, .def = NULL),
    ROW(STR, 0, "ids", "IDS", "the prompt as token ids", ids, .def = NULL),
    ROW(INT, 'n', "max-tokens", "N", "go on for N likeliest tokens of each side", max_tokens,
        .def = "4", .min = 0, .max = 1048576),
    BNT_OPT_HEAD("What differs"),
    ROW(LIST, 0, "a", "KEY=VALUE",
        "a setting of side A: bnt (a program), model, kernel, device, threads, batch, kv-type, "
        "i2s-layout, pre, tl, tiles, env (NAME=VALUE); repeatable",
        a, .def = NULL),
    ROW(LIST, 0, "b", "KEY=VALUE", "the same of side B", b, .def = NULL),
    ROW(FLOAT, 0, "atol", "X", "values that are at most X apart are equal", atol, .def = "0",
        .min = 0, .max = 1e30),
    ROW(FLOAT, 0, "rtol", "X", "the same, X times the root mean square of the row more", rtol,
        .def = "0", .min = 0, .max = 1e30),
    BNT_OPT_HEAD("Output"),
    ROW(FLAG, 0, "json", NULL, "one JSON value", json, .def = NULL),
    BNT_OPT_END,
};

static enum bnt_status print_text(const struct bisect_result *r, struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(4096);
    enum bnt_status st = op_difference_describe(&r->first, &text, err);
    if (st == BNT_OK) {
        printf("%s\n", bnt_buf_view(&text));
    }
    if (st == BNT_OK && r->first.kind != OP_DIFF_NONE) {
        printf("before it %llu records agree\n", (unsigned long long)r->n_before);
    }
    if (st == BNT_OK && r->first.op) {
        printf("%s: %s\n", r->first.op, bnt_tap_what(bnt_tap_find(r->first.op)));
    }
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status print_json(const struct bisect_result *r, struct bnt_err *err)
{
    json_t *root = json_pack("{s:b, s:b, s:I, s:o}", "differs", r->first.kind != OP_DIFF_NONE,
                             "unstable", r->unstable, "records_before", (json_int_t)r->n_before,
                             "first", op_difference_json(&r->first));
    return bnt_json_print(root, JSON_COMPACT, err);
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct bisect_opts *o = opts;
    struct bnt_err err = {0};
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "settings are options: --a KEY=VALUE --b KEY=VALUE",
                            "unexpected operand: %s", argv[0]);
    }
    if ((o->prompt == NULL) == (o->ids == NULL)) {
        return bnt_msg_fail(BNT_E_USAGE, "for example: bnt bisect -p Hello --a kernel=ref",
                            "what shall run? give either --prompt or --ids");
    }
    const struct bisect_run what = {.model = o->model.name,
                                    .prompt = o->prompt,
                                    .ids = o->ids,
                                    .max_tokens = o->max_tokens,
                                    .allow_mock = o->model.allow_mock,
                                    .tolerance = {.absolute = o->atol, .relative = o->rtol},
                                    .interrupted = app->interrupted};
    const struct bisect_side sides[2] = {{&o->a, 'A'}, {&o->b, 'B'}};
    struct bisect_result r;
    enum bnt_status st = bisect(&what, sides, &r, &err);
    if (st == BNT_OK) {
        st = o->json ? print_json(&r, &err) : print_text(&r, &err);
    }
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    if (r.unstable) {
        return bnt_msg_fail(
            BNT_E_INCONCLUSIVE, "run each side twice and compare: bnt trace, bnt diff",
            "the second pass saw no difference there: a side does not repeat itself");
    }
    return r.first.kind != OP_DIFF_NONE ? BNT_E_DIFFERS : bnt_model_arg_exit(BNT_OK, r.mock);
}

const struct bnt_cmd bnt_cmd_bisect = {
    .name = "bisect",
    .synopsis = "[OPTIONS] -p TEXT | --ids IDS [--a KEY=VALUE]... [--b KEY=VALUE]...",
    .summary = "find the first token, layer, op and element where two runs differ",
    .description =
        "Runs bnt trace once for each side, in processes of their own, and compares; then once "
        "more for all values of the first record that differs. A side is this program on the "
        "model unless settings say otherwise: another kernel, number of threads, program or "
        "file.\n\n"
        "Exit codes: 0 no difference, 6 different, 3 when a side does not repeat itself; else "
        "that of a side that failed.",
    .examples =
        "  bnt bisect -p Hello --a kernel=ref                     # reference kernels against fast "
        "ones\n"
        "  bnt bisect -p Hello --b bnt=./old/bnt                  # this build against another\n"
        "  bnt bisect -p Hello --a model=x.gguf --b model=y.gguf --rtol 1e-3\n"
        "  bnt bisect -p Hello --a threads=1 --b threads=8 --json",
    .opts = options,
    .opts_size = sizeof(struct bisect_opts),
    .run = run,
};
