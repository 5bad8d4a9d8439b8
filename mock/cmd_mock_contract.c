/* bnt mock contract: the interface of a model as a text, and whether another model keeps it. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/app.h"
#include "base/msg.h"
#include "engine/model_arg.h"
#include "mock/cmd_mock_impl.h"
#include "mock/contract.h"

struct contract_opts {
    struct bnt_model_arg model;
    const char *check, *sections, *output;
    int64_t seed;
};

static const struct bnt_opt options[] = {
    BNT_MODEL_ARG_ROWS(struct contract_opts, model),
    {.kind = BNT_OPT_STR,
     .long_name = "check",
     .arg = "FILE",
     .help = "compare with this contract: a patch on stdout, and exit code 26 when they differ",
     .offset = offsetof(struct contract_opts, check)},
    {.kind = BNT_OPT_STR,
     .long_name = "sections",
     .arg = "LIST",
     .help =
         "format, metadata, tensors, numbers, tokenizer, text, errors, behaviour, or all (those "
         "eight, the default); values and answers of this one model. With --check: hold it to "
         "no others",
     .offset = offsetof(struct contract_opts, sections)},
    {.kind = BNT_OPT_INT,
     .long_name = "seed",
     .arg = "N",
     .help = "of the texts that go through the tokenizer",
     .offset = offsetof(struct contract_opts, seed),
     .def = "1",
     .max = 9007199254740992},
    {.kind = BNT_OPT_STR,
     .short_name = 'o',
     .long_name = "output",
     .arg = "FILE",
     .help = "write the contract here, whole or not at all (default: stdout)",
     .offset = offsetof(struct contract_opts, output)},
    BNT_OPT_END,
};

static enum bnt_status derive(const struct contract_opts *o, const struct bnt_contract_of *of,
                              struct bnt_err *err)
{
    struct bnt_buf text = BNT_BUF(BNT_CONTRACT_MAX_BYTES);
    unsigned sections;
    enum bnt_status st = bnt_contract_sections(o->sections ? o->sections : "all", &sections, err);
    if (st == BNT_OK) {
        st = bnt_contract_derive(of, sections, &text, err);
    }
    if (st == BNT_OK) {
        st = mock_write_out(o->output, &text, err);
    }
    bnt_buf_release(&text);
    return st;
}

static enum bnt_status check(const struct contract_opts *o, const struct bnt_contract_of *of,
                             const char *kind, struct bnt_err *err)
{
    struct bnt_buf patch = BNT_BUF(2 * BNT_CONTRACT_MAX_BYTES);
    char names[128];
    unsigned sections = BNT_CONTRACT_EVERYTHING;
    enum bnt_status st = o->sections ? bnt_contract_sections(o->sections, &sections, err) : BNT_OK;
    if (st == BNT_OK) {
        st = bnt_contract_check(o->check, of, &sections, &patch, err);
    }
    fwrite(bnt_buf_view(&patch), 1, patch.len, stdout);
    bnt_buf_release(&patch);
    if (st == BNT_OK) {
        bnt_contract_section_names(sections, names, sizeof names);
        bnt_msg_note("%s (kind: %s) keeps the contract %s, as far as: %s", of->path, kind, o->check,
                     names);
    }
    return st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct contract_opts *o = opts;
    struct bnt_model_arg model = o->model;
    struct bnt_model_ref ref;
    const struct bnt_contract_of of = {
        .path = ref.path, .seed = (uint64_t)o->seed, .interrupted = app->interrupted};
    struct bnt_err err = {0};
    bool mock = false;
    if (argc > 1 || (argc == 1 && model.name) || (o->check && o->output)) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt mock contract [--check CONTRACT] MODEL",
                            "one model at a time, and either --check or --output");
    }
    model.name = argc == 1 ? argv[0] : model.name;
    /* That a mock keeps a contract is what --check is for; none may be derived from one unasked. */
    model.allow_mock = model.allow_mock || (o->check && !model.real_model);
    enum bnt_status st = mock_may_write_out(o->output, &err);
    if (st == BNT_OK) {
        st = bnt_model_arg_resolve(app, &model, &ref, &mock, &err);
    }
    if (st == BNT_OK && o->check) {
        st = check(o, &of, ref.kind, &err);
        return st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
    }
    if (st == BNT_OK && mock) {
        bnt_model_arg_warn(&ref);
    }
    if (st == BNT_OK) {
        st = derive(o, &of, &err);
    }
    return st == BNT_OK ? bnt_model_arg_exit(st, mock) : bnt_msg_error(&err);
}

const struct bnt_cmd mock_cmd_contract = {
    .name = "contract",
    .synopsis = "[OPTIONS] [MODEL]",
    .summary = "the interface of a model as a text; does another one keep it?",
    .description =
        "Derives from a model what tests of its surroundings rely on: metadata keys and types, "
        "tensor names, types and shapes as functions of the model's numbers, tokenizer facts with "
        "500 texts drawn from a seed, what bad input is refused with, determinism and stop rules. "
        "Not its weights, nor what they say, unless the sections values (of all metadata keys) "
        "and answers (the greedy ids after some prompts) are asked for by name.\n\n"
        "With --check the sections of an existing contract are derived again and compared; lines "
        "that are new and lines that are gone both count. Recorded answers are followed id by id: "
        "one whose logit is within 3 % of the best is kept. A mock is welcome there, and held to "
        "all but values and answers; to derive a contract from one takes --allow-mock.",
    .examples = "  bnt mock contract model.gguf -o model.contract      # once, from the real one\n"
                "  bnt mock make --like model.gguf -o tiny.gguf        # a stand-in\n"
                "  bnt mock contract --check model.contract tiny.gguf  # exit code 26: it is none",
    .opts = options,
    .opts_size = sizeof(struct contract_opts),
    .run = run,
};
