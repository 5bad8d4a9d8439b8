/* bnt fix: a corrected copy of a model file. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/json_load.h"
#include "base/msg.h"
#include "engine/cmd_inspect_impl.h"
#include "engine/commands.h"
#include "engine/engine_arg.h"
#include "engine/fix.h"
#include "engine/model_arg.h"

struct fix_opts {
    struct bnt_engine_arg engine;
    bool force, allow_mock, json;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "pre",
     .arg = "NAME",
     .help = "the pre-tokenizer to write (default: the one that the vocabulary shows, where the "
             "file has none)",
     .offset = offsetof(struct fix_opts, engine.pre)},
    BNT_ENGINE_TILES_ROW(struct fix_opts),
    {.kind = BNT_OPT_FLAG,
     .long_name = "force",
     .help = "OUT may exist; it is replaced when the copy is whole",
     .offset = offsetof(struct fix_opts, force)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "allow-mock",
     .help = "take a mock too: with a warning, and exit code 24 for success",
     .offset = offsetof(struct fix_opts, allow_mock)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value: path, bytes, sha256, changes, warnings",
     .offset = offsetof(struct fix_opts, json)},
    BNT_OPT_END,
};

static enum bnt_status print_json(const char *out, const struct fix_report *r, struct bnt_err *err)
{
    json_t *changes = json_array();
    for (size_t i = 0; i < r->n; i++) {
        json_array_append_new(changes, json_pack("{s:s, s:o}", "class", r->changes[i].what, "text",
                                                 bnt_json_text(r->changes[i].text)));
    }
    json_t *root = json_object();
    json_object_set_new(root, "path", inspect_json_str((struct gguf_str){out, strlen(out)}));
    json_object_set_new(root, "bytes", inspect_json_u64(r->bytes));
    json_object_set_new(root, "sha256", json_string(r->digest));
    json_object_set_new(root, "changes", changes);
    json_object_set_new(root, "warnings", inspect_json_u64(r->n_warnings));
    return bnt_json_print(root, JSON_COMPACT, err);
}

static enum bnt_status print(const struct fix_opts *o, const char *out, const struct fix_report *r,
                             struct bnt_err *err)
{
    if (o->json) {
        return print_json(out, r, err);
    }
    for (size_t i = 0; i < r->n; i++) {
        printf("%-14s %s\n", r->changes[i].what, r->changes[i].text);
    }
    if (r->n == 0) {
        printf("nothing to correct: the copy says what the file says\n");
    }
    printf("%s  %s\n", r->digest, out);
    if (r->n_warnings) {
        bnt_msg_note("%llu warning%s left: bnt validate --comprehensive tells",
                     (unsigned long long)r->n_warnings, r->n_warnings == 1 ? " is" : "s are");
    }
    return BNT_OK;
}

static enum bnt_status fix(struct bnt_app *app, const struct fix_opts *o, char **paths, bool *mock,
                           struct bnt_err *err)
{
    const struct bnt_model_arg arg = {.name = paths[0], .allow_mock = o->allow_mock};
    const struct fix_options options_of_run = {.pre = o->engine.pre,
                                               .tl_tiles = o->engine.tiles.at,
                                               .n_tl_tiles = o->engine.tiles.n,
                                               .overwrite = o->force,
                                               .interrupted = app->interrupted};
    struct bnt_model_ref ref;
    struct fix_report report;
    enum bnt_status st = bnt_model_arg_resolve(app, &arg, &ref, mock, err);
    if (st == BNT_OK) {
        st = fix_file(ref.path, paths[1], &options_of_run, &report, err);
    }
    if (st == BNT_OK) {
        st = print(o, paths[1], &report, err);
    }
    if (st == BNT_OK && *mock) {
        bnt_model_arg_warn(&ref);
    }
    return st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct fix_opts *o = opts;
    struct bnt_err err = {0};
    bool mock = false;
    if (argc != 2 || !argv[1][0]) {
        return bnt_msg_fail(BNT_E_USAGE, "run: bnt fix IN OUT", "which file, and where to?");
    }
    enum bnt_status st = fix(app, o, argv, &mock, &err);
    if (st == BNT_OK) {
        return bnt_model_arg_exit(st, mock);
    }
    if (o->json) {
        inspect_print_error_json(&err);
    }
    return bnt_msg_error(&err);
}

const struct bnt_cmd bnt_cmd_fix = {
    .name = "fix",
    .synopsis = "[OPTIONS] IN OUT",
    .summary = "a corrected copy of a model file",
    .description =
        "IN is a GGUF file or the name of a cached model, and is never touched; OUT appears whole "
        "or not at all. Put right are: general.alignment and tensors that begin at the wrong "
        "places, a missing tokenizer.ggml.pre, the chat template that the converter of BitNet "
        "writes into every file, I2_S weights that are packed for another processor, version 2, "
        "the other byte order, bytes that belong to no tensor.\n\n"
        "A file with any other error is refused with that error; the copy is validated at the "
        "level "
        "comprehensive before it gets its name. stdout tells what was changed, then the copy's "
        "sha256 and path.",
    .examples = "  bnt fix model.gguf better.gguf               # what was wrong, and its digest\n"
                "  bnt fix --pre llama-bpe model.gguf b.gguf    # where the vocabulary is unknown\n"
                "  bnt validate --level comprehensive b.gguf    # what is left",
    .opts = options,
    .opts_size = sizeof(struct fix_opts),
    .run = run,
};
