/* bnt trace: what every op of one run held. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/file.h"
#include "base/msg.h"
#include "engine/bnt_infer.h"
#include "engine/commands.h"
#include "engine/engine_arg.h"
#include "engine/model_arg.h"
#include "engine/op_trace.h"

struct trace_opts {
    struct bnt_model_arg model;
    struct bnt_engine_arg engine;
    const char *prompt, *ids, *ops, *layers, *positions, *output;
    int64_t max_tokens, batch;
    bool full, no_special;
};

#define ROW(kind_, short_, long_, arg_, help_, member, ...)                                        \
    {                                                                                              \
        .kind = BNT_OPT_##kind_, .short_name = short_, .long_name = long_, .arg = arg_,            \
        .help = help_, .offset = offsetof(struct trace_opts, member), __VA_ARGS__                  \
    }

static const struct bnt_opt options[] = {
    BNT_OPT_HEAD("Model and prompt"),
    BNT_MODEL_ARG_ROWS(struct trace_opts, model),
    ROW(STR, 'p', "prompt", "TEXT", "the prompt", prompt, .def = NULL),
    ROW(STR, 0, "ids", "IDS", "the prompt as token ids: \"2045, 394\" (bnt tokenize gives them)",
        ids, .def = NULL),
    ROW(FLAG, 0, "no-special", NULL, "text of control tokens in the prompt stays text", no_special,
        .def = NULL),
    ROW(INT, 'n', "max-tokens", "N", "go on for N likeliest tokens, and trace them too", max_tokens,
        .def = "0", .min = 0, .max = 1048576),
    BNT_OPT_HEAD("What is recorded"),
    ROW(STR, 0, "ops", "LIST", "only these ops, by comma; see bnt trace --help for all", ops,
        .def = NULL),
    ROW(STR, 0, "layers", "LIST", "of ops in layers only these: 0,3-5", layers, .def = NULL),
    ROW(STR, 0, "positions", "LIST", "only these tokens, counted from 0: 0-7", positions,
        .def = NULL),
    ROW(FLAG, 0, "full", NULL, "all values of each record, not 16 of them", full, .def = NULL),
    ROW(STR, 'o', "output", "FILE", "write to FILE, which appears whole or not at all; -: stdout",
        output, .def = NULL),
    BNT_OPT_HEAD("Engine"),
    BNT_ENGINE_THREADS_ROW(struct trace_opts),
    BNT_ENGINE_KERNEL_ROW(struct trace_opts),
    BNT_ENGINE_DEVICE_ROWS(struct trace_opts),
    ROW(INT, 0, "batch", "N", "tokens of the prompt per step; 0: 128", batch, .def = "0", .min = 0,
        .max = 4096),
    BNT_ENGINE_CTX_ROW(struct trace_opts),
    BNT_ENGINE_KV_TYPE_ROW(struct trace_opts),
    BNT_ENGINE_MEMORY_ROW(struct trace_opts),
    BNT_ENGINE_LAYOUT_ROW(struct trace_opts),
    BNT_ENGINE_PACKED_ROW(struct trace_opts),
    BNT_ENGINE_TL_ROW(struct trace_opts),
    BNT_ENGINE_TILES_ROW(struct trace_opts),
    BNT_ENGINE_PRE_ROW(struct trace_opts),
    BNT_OPT_END,
};

/* One run of the command. */
struct tracing {
    const struct trace_opts *o;
    const struct bnt_app *app;
    struct op_choice choice;
    struct bnt_model_ref ref;
    struct bnt_model *model;
    struct bnt_session *session;
    struct bnt_ids ids, generated;
    struct bnt_durable file; /* closed without --output */
    bool mock;
};

/* ---- where lines go ---- */

/* NULL: standard output. */
static const char *file_of(const struct tracing *t)
{
    return t->o->output && strcmp(t->o->output, "-") != 0 ? t->o->output : NULL;
}

static enum bnt_status put(void *ctx, const char *line, size_t n, struct bnt_err *err)
{
    struct tracing *t = ctx;
    return file_of(t) ? bnt_durable_write(&t->file, line, n, err) : bnt_msg_write(line, n, err);
}

/* ---- the run ---- */

static enum bnt_status open_all(struct tracing *t, struct bnt_err *err)
{
    const struct trace_opts *o = t->o;
    struct bnt_session_options so = bnt_engine_session(&o->engine);
    struct bnt_model_options mo = bnt_engine_model(&o->engine);
    so.n_batch = (uint32_t)o->batch;
    so.interrupted = t->app->interrupted;
    mo.session = &so;
    char packed_dir[BNT_PATH_MAX];
    enum bnt_status st = bnt_model_arg_resolve(t->app, &o->model, &t->ref, &t->mock, err);
    if (st == BNT_OK && t->mock) {
        bnt_model_arg_warn(&t->ref);
    }
    if (st == BNT_OK) {
        bnt_engine_packed(o->engine.packed, t->ref.digest, packed_dir, &mo);
        st = bnt_model_open(t->ref.path, &mo, &t->model, err);
    }
    st = st == BNT_OK ? bnt_session_new(t->model, &so, &t->session, err) : st;
    if (st == BNT_OK && bnt_session_kernel_note(t->session)[0] != '\0') {
        bnt_msg_warn(NULL, "%s", bnt_session_kernel_note(t->session));
    }
    return st;
}

static enum bnt_status make_prompt(struct tracing *t, struct bnt_err *err)
{
    const struct trace_opts *o = t->o;
    if (o->ids) {
        enum bnt_status st = bnt_ids_parse(o->ids, &t->ids, err);
        return st == BNT_OK && t->ids.n == 0
                   ? bnt_err_set(err, BNT_E_USAGE, "--ids: there is no id in it")
                   : st;
    }
    unsigned flags = BNT_ENCODE_ADD_SPECIAL | (o->no_special ? 0u : BNT_ENCODE_PARSE_SPECIAL);
    const struct bnt_tokenizer *tokenizer = bnt_model_tokenizer(t->model);
    enum bnt_status st =
        bnt_tokenizer_encode(tokenizer, o->prompt, strlen(o->prompt), flags, &t->ids, err);
    if (st == BNT_OK && t->ids.n == 0 && bnt_tokenizer_bos(tokenizer) >= 0) {
        st = bnt_ids_push(&t->ids, bnt_tokenizer_bos(tokenizer), err);
    }
    return st == BNT_OK && t->ids.n == 0
               ? bnt_err_set(err, BNT_E_USAGE, "the prompt is empty: there is nothing to trace")
               : st;
}

/* The logits of every position are asked for, so that the tap sees them. */
static enum bnt_status pass(void *ctx, size_t index, const float *logits, struct bnt_err *err)
{
    (void)ctx;
    (void)index;
    (void)logits;
    (void)err;
    return BNT_OK;
}

static int32_t likeliest(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int32_t)best;
}

static enum bnt_status evaluate(struct tracing *t, struct bnt_err *err)
{
    enum bnt_status st = bnt_session_eval_each(t->session, t->ids.at, t->ids.n, pass, NULL, err);
    for (int64_t i = 0; st == BNT_OK && i < t->o->max_tokens; i++) {
        int32_t id = likeliest(bnt_session_logits(t->session), bnt_session_n_vocab(t->session));
        st = bnt_ids_push(&t->generated, id, err);
        if (st == BNT_OK) {
            st = bnt_session_eval(t->session, &id, 1, err);
        }
    }
    return st;
}

static enum bnt_status record(struct tracing *t, struct bnt_err *err)
{
    const struct bnt_model_info *info = bnt_model_info(t->model);
    struct op_trace_head head = {.model = t->ref.path,
                                 .arch = info->arch,
                                 .kernel = bnt_session_kernel(t->session),
                                 .kv_type = t->o->engine.kv_type,
                                 .n_layer = info->n_layer,
                                 .n_vocab = info->n_vocab,
                                 .n_threads = bnt_session_n_threads(t->session),
                                 .ids = t->ids.at,
                                 .n_ids = t->ids.n,
                                 .full = t->choice.full};
    struct op_tracer tracer = {.choice = &t->choice, .put = put, .ctx = t};
    enum bnt_status st = op_tracer_begin(&tracer, &head, err);
    if (st == BNT_OK) {
        bnt_session_set_tap(t->session, &(struct bnt_tap){op_tracer_row, &tracer});
        st = evaluate(t, err);
        bnt_session_set_tap(t->session, NULL);
    }
    if (st != BNT_OK) {
        bnt_buf_release(&tracer.line);
        return st;
    }
    return op_tracer_end(&tracer, &t->generated, err);
}

static enum bnt_status check_options(struct tracing *t, struct bnt_err *err)
{
    const struct trace_opts *o = t->o;
    if ((o->prompt == NULL) == (o->ids == NULL)) {
        bnt_err_set(err, BNT_E_USAGE, "what shall run? give either --prompt or --ids");
        bnt_err_hint(err, "for example: bnt trace -p \"Once upon a time\" -o a.trace");
        return BNT_E_USAGE;
    }
    t->choice.full = o->full;
    enum bnt_status st = op_choice_ops(o->ops, &t->choice, err);
    if (st == BNT_OK) {
        st = op_ranges_parse("--layers", o->layers, &t->choice.layers, err);
    }
    return st == BNT_OK ? op_ranges_parse("--positions", o->positions, &t->choice.positions, err)
                        : st;
}

static enum bnt_status trace(struct tracing *t, struct bnt_err *err)
{
    enum bnt_status st = check_options(t, err);
    if (st == BNT_OK) {
        st = open_all(t, err);
    }
    if (st == BNT_OK) {
        st = make_prompt(t, err);
    }
    if (st == BNT_OK && file_of(t)) {
        st = bnt_durable_open(&t->file, file_of(t), err);
    }
    if (st == BNT_OK) {
        st = record(t, err);
    }
    return st == BNT_OK && file_of(t) ? bnt_durable_commit(&t->file, 0644, err) : st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "the prompt is an option: -p TEXT",
                            "unexpected operand: %s", argv[0]);
    }
    struct tracing t = {.o = opts, .app = app, .file = {.fd = -1}};
    struct bnt_err err = {0};
    enum bnt_status st = trace(&t, &err);
    bnt_durable_release(&t.file);
    bnt_ids_release(&t.ids);
    bnt_ids_release(&t.generated);
    bnt_session_free(t.session);
    if (t.model) {
        bnt_model_close(t.model);
    }
    return st == BNT_OK ? bnt_model_arg_exit(st, t.mock) : bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_trace = {
    .name = "trace",
    .synopsis = "[OPTIONS] -p TEXT | --ids IDS",
    .summary = "record what each op of each layer and token held in one run",
    .description =
        "Writes JSON lines: what ran, then one record for each op, layer and token with minimum, "
        "maximum, mean, root of the mean square, counts of NaN and infinities, a digest of all "
        "values and 16 of them (all with --full), then a last line with their number. Two such "
        "files are compared by bnt diff.\n\n"
        "Ops in the order of computation: embd; in each layer attn_norm, attn_norm_q8, q, k, v, "
        "q_rope, k_rope, attn, attn_sub_norm, attn_sub_norm_q8, attn_out, attn_residual, "
        "ffn_norm, ffn_norm_q8, gate, up, act, ffn_sub_norm, ffn_sub_norm_q8, down, "
        "ffn_residual; then output_norm, logits. docs/trace.md says what each holds.",
    .examples =
        "  bnt trace -p \"Once upon a time\" -o a.trace             # all ops, to a file\n"
        "  bnt trace -p Hello --ops logits --full                 # all logits of every token\n"
        "  bnt trace -p Hello --kernel ref -o ref.trace           # then: bnt diff a.trace "
        "ref.trace",
    .opts = options,
    .opts_size = sizeof(struct trace_opts),
    .run = run,
};
