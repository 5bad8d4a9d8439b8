/* Which model a command runs on, and whether a mock will do. */
#include "engine/model_arg.h"

#include <string.h>

#include "base/fault.h"
#include "base/msg.h"
#include "engine/gguf.h"

enum bnt_status bnt_model_kind_of_file(const char *path, const char **kind, struct bnt_err *err)
{
    struct gguf *g = NULL;
    struct bnt_err why = {0};
    *kind = "real";
    enum bnt_status st = gguf_open(path, GGUF_MODE_AUTO, &g, &why);
    if (st == BNT_OK && gguf_find(g, BNT_MOCK_KIND_KEY)) {
        *kind = "tiny";
    }
    gguf_close(g);
    /* What is wrong with a file is for who loads it to say. */
    return st == BNT_E_MEMORY && !BNT_FAULT(real_without_memory) ? bnt_err_copy(err, &why) : BNT_OK;
}

enum bnt_status bnt_model_arg_resolve(const struct bnt_app *app, const struct bnt_model_arg *arg,
                                      struct bnt_model_ref *ref, bool *mock, struct bnt_err *err)
{
    *mock = false;
    if (arg->real_model && arg->allow_mock) {
        return bnt_err_set(err, BNT_E_USAGE, "--real-model and --allow-mock contradict each other");
    }
    if (arg->name != NULL && arg->name[0] == '\0') { /* -m "$MODEL" where MODEL is not set */
        return bnt_err_set(err, BNT_E_USAGE, "--model: the name is empty");
    }
    enum bnt_status st = app->resolve_model(app, arg->name, ref, err);
    if (st != BNT_OK) {
        return st;
    }
    if (strcmp(ref->kind, "real") == 0) {
        st = bnt_model_kind_of_file(ref->path, &ref->kind, err);
    }
    if (st != BNT_OK || strcmp(ref->kind, "real") == 0) {
        return st;
    }
    if (!arg->allow_mock) {
        bnt_err_set(err, BNT_E_NOT_FOUND, "%s is a mock (kind: %s), and a real model is asked for",
                    ref->path, ref->kind);
        bnt_err_hint(err, "give --allow-mock to run it nevertheless, or a trained model with -m");
        return BNT_E_NOT_FOUND;
    }
    *mock = true;
    return BNT_OK;
}

enum bnt_status bnt_model_arg_operand(struct bnt_model_arg *arg, const char *usage, int argc,
                                      char **argv, struct bnt_err *err)
{
    if (argc > 1 || (argc == 1 && arg->name)) {
        bnt_err_hint(err, "run: %s", usage);
        return bnt_err_set(err, BNT_E_USAGE, "one model at a time, as an operand or with -m");
    }
    if (argc == 1) {
        arg->name = argv[0];
    }
    return BNT_OK;
}

void bnt_model_arg_warn(const struct bnt_model_ref *ref)
{
    bnt_msg_warn(NULL, "%s is a mock (kind: %s): what it says means nothing", ref->path, ref->kind);
}

enum bnt_status bnt_model_arg_exit(enum bnt_status status, bool mock)
{
    return status == BNT_OK && mock ? BNT_E_MOCK_USED : status;
}
