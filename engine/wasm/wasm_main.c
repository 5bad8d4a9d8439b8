/* `bnt infer` as a WebAssembly module: main. There is no cache, no network and no JSON library
 * here; a model is a file, and one that wasm32 cannot hold is refused before it is read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/app.h"
#include "base/msg.h"
#include "engine/cmd_infer_impl.h"
#include "engine/commands.h"

const struct infer_json infer_json = {NULL, NULL};

/* The folder of the bundled model is the runner's to find: it sets the variable. */
static enum bnt_status model_path(const char *name, char path[BNT_PATH_MAX], struct bnt_err *err)
{
    const char *dir = getenv("BNT_MODELS_DIR");
    if (name != NULL && strcmp(name, "bundled:") != 0) {
        return bnt_path_format(path, err, "%s", name);
    }
    return bnt_path_format(path, err, "%s/%s", dir != NULL ? dir : ".", BNT_BUNDLED_NAME);
}

static enum bnt_status resolve_model(const struct bnt_app *app, const char *name,
                                     struct bnt_model_ref *out, struct bnt_err *err)
{
    (void)app;
    *out = (struct bnt_model_ref){.kind = "real"};
    enum bnt_status st = model_path(name, out->path, err);
    struct stat sb;
    if (st != BNT_OK) {
        return st;
    }
    if (stat(out->path, &sb) != 0) {
        bnt_err_set(err, BNT_E_NOT_FOUND, "there is no file %s", out->path);
        bnt_err_hint(err, "give the path of a GGUF file; names of a cache are for a native bnt");
        return BNT_E_NOT_FOUND;
    }
    if (sb.st_size > BNT_WASM32_MAX_BYTES) {
        bnt_err_set(err, BNT_E_MEMORY, "%s has %.1f MB, and wasm32 can hold %.1f MB", out->path,
                    (double)sb.st_size / 1e6, BNT_WASM32_MAX_BYTES / 1e6);
        bnt_err_hint(err, "run it with a native bnt");
        return BNT_E_MEMORY;
    }
    return BNT_OK;
}

static const struct bnt_cmd *const commands[] = {&bnt_cmd_infer, NULL};

static const struct bnt_cmd root = {
    .name = "bnt.mjs",
    .synopsis = "infer ...",
    .summary = "1-bit language models in WebAssembly",
    .subs = commands,
    .examples = "  node bnt.mjs infer -p \"Once upon a time\"     # the bundled model answers\n"
                "  node bnt.mjs infer -m FILE.gguf -p Hello     # another model of at most 100 MB",
};

int main(int argc, char **argv)
{
    struct bnt_app app = {.resolve_model = resolve_model, .cpu_has = engine_cpu_has};
    const char *folder = getenv("PWD");
    bnt_msg_setup(BNT_MSG_NORMAL, BNT_COLOR_AUTO);
    /* WASI knows no current folder: the runner names it. Where it cannot be entered, paths are of
     * the root. */
    (void)(folder != NULL && chdir(folder) == 0);
    enum bnt_status st = bnt_cmd_run(&root, "", &app, argc, argv);
    return (int)(st == BNT_OK ? bnt_msg_flush() : st);
}
