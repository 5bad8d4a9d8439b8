/* bnt mock script: scripted answers taken from a model. */
#include <stddef.h>
#include <stdio.h>

#include "base/app.h"
#include "base/msg.h"
#include "engine/model_arg.h"
#include "mock/cmd_mock_impl.h"
#include "mock/script_record.h"

struct script_opts {
    struct bnt_model_arg model;
    int64_t max_tokens;
    bool logits;
    const char *output;
};

static const struct bnt_opt options[] = {
    BNT_MODEL_ARG_ROWS(struct script_opts, model),
    {.kind = BNT_OPT_INT,
     .short_name = 'n',
     .long_name = "max-tokens",
     .arg = "N",
     .help = "the longest answer",
     .offset = offsetof(struct script_opts, max_tokens),
     .def = "32",
     .min = 1,
     .max = 1048576},
    {.kind = BNT_OPT_FLAG,
     .long_name = "logits",
     .help = "also a row of logits for each id of a prompt",
     .offset = offsetof(struct script_opts, logits)},
    {.kind = BNT_OPT_STR,
     .short_name = 'o',
     .long_name = "output",
     .arg = "FILE",
     .help = "write the script here, whole or not at all (default: stdout)",
     .offset = offsetof(struct script_opts, output)},
    BNT_OPT_END,
};

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct script_opts *o = opts;
    struct bnt_model_ref ref;
    struct bnt_err err = {0};
    struct bnt_buf text = BNT_BUF(SCRIPT_RECORD_MAX_BYTES);
    bool mock = false;
    if (argc == 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt mock script -m MODEL \"Once upon a time\"",
                            "which prompts shall be answered?");
    }
    enum bnt_status st = mock_may_write_out(o->output, &err);
    if (st == BNT_OK) {
        st = bnt_model_arg_resolve(app, &o->model, &ref, &mock, &err);
    }
    if (st == BNT_OK && mock) {
        bnt_model_arg_warn(&ref);
    }
    if (st == BNT_OK) {
        struct script_record r = {.model = ref.path,
                                  .prompts = (const char *const *)argv,
                                  .n_prompts = (size_t)argc,
                                  .max_tokens = (uint32_t)o->max_tokens,
                                  .logits = o->logits,
                                  .interrupted = app->interrupted};
        st = script_record(&r, &text, &err);
    }
    if (st == BNT_OK) {
        st = mock_write_out(o->output, &text, &err);
    }
    bnt_buf_release(&text);
    return st == BNT_OK ? bnt_model_arg_exit(st, mock) : bnt_msg_error(&err);
}

const struct bnt_cmd mock_cmd_script = {
    .name = "script",
    .synopsis = "[OPTIONS] PROMPT...",
    .summary = "what a model says to some prompts, as a file of scripted answers",
    .description =
        "Each prompt is continued greedily, and ids, text, finish and log-probabilities of the "
        "answer are written down in the format of docs/mock.md. Tests that use the file as their "
        "subject (scripted:FILE) get what the model said, without the model.",
    .examples =
        "  bnt mock script \"Once upon a time\" Hello -o answers.json  # of the bundled model",
    .opts = options,
    .opts_size = sizeof(struct script_opts),
    .run = run,
};
