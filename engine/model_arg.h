/* The option rows that every command with a model takes, and their meaning: which model, and
 * whether a mock will do.
 *
 *     struct my_opts { struct bnt_model_arg model; ... };
 *     static const struct bnt_opt options[] = {
 *         BNT_MODEL_ARG_ROWS(struct my_opts, model), ..., BNT_OPT_END };
 *     st = bnt_model_arg_resolve(app, &o->model, &ref, &mock, &err);
 *     ...
 *     return bnt_model_arg_exit(st, mock);
 *
 * A mock never passes for a real model: without --allow-mock it is refused, with it the command
 * warns, marks its output with the kind and ends with BNT_E_MOCK_USED where it would have ended
 * with success. */
#ifndef BNT_MODEL_ARG_H
#define BNT_MODEL_ARG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/app.h"
#include "base/opt.h"
#include "base/status.h"

/* The metadata key with which a file says that it is a mock, and of which kind ("tiny"). */
#define BNT_MOCK_KIND_KEY "general.mock.kind"
#define BNT_MOCK_RECIPE_KEY "general.mock.recipe"

/* *kind: "tiny" for a file that says so of itself, else "real"; static. A file that cannot be read
 * is whoever opens it next's to refuse; only for lack of memory is there no answer. */
enum bnt_status bnt_model_kind_of_file(const char *path, const char **kind, struct bnt_err *err);

struct bnt_model_arg {
    const char *name; /* as typed; NULL: the bundled model */
    bool real_model, allow_mock;
};

#define BNT_MODEL_ARG_ROWS(type, member)                                                           \
    {.kind = BNT_OPT_STR,                                                                          \
     .short_name = 'm',                                                                            \
     .long_name = "model",                                                                         \
     .arg = "FILE",                                                                                \
     .help = "model: a GGUF file, a cached name or bundled: (the default)",                        \
     .offset = offsetof(type, member.name)},                                                       \
        {.kind = BNT_OPT_STR,                                                                      \
         .long_name = "model-path",                                                                \
         .arg = "FILE",                                                                            \
         .offset = offsetof(type, member.name)},                                                   \
        {.kind = BNT_OPT_FLAG,                                                                     \
         .long_name = "real-model",                                                                \
         .help = "only a real model will do (the default)",                                        \
         .offset = offsetof(type, member.real_model)},                                             \
    {                                                                                              \
        .kind = BNT_OPT_FLAG, .long_name = "allow-mock",                                           \
        .help = "take a mock too: with a warning, and exit code 24 for success",                   \
        .offset = offsetof(type, member.allow_mock)                                                \
    }

/* The model that arg means. *mock: it is none that was trained (kind other than "real"), and that
 * was allowed: the command warns with bnt_model_arg_warn. Errors: USAGE (both flags), NOT_FOUND (no
 * such model; or a mock where a real one is asked for), those of app->resolve_model. */
enum bnt_status bnt_model_arg_resolve(const struct bnt_app *app, const struct bnt_model_arg *arg,
                                      struct bnt_model_ref *ref, bool *mock, struct bnt_err *err);
/* For a command whose one operand is another way to write -m. usage: how it is run, for the hint.
 * Errors: USAGE. */
enum bnt_status bnt_model_arg_operand(struct bnt_model_arg *arg, const char *usage, int argc,
                                      char **argv, struct bnt_err *err);
/* The warning that goes with *mock. */
void bnt_model_arg_warn(const struct bnt_model_ref *ref);
/* The status with which a command ends. */
enum bnt_status bnt_model_arg_exit(enum bnt_status status, bool mock);

#endif
