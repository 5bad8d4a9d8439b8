/* `bnt cache export|import`: models from one machine to another without a network. */
#include <inttypes.h>

#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/cmd_cache_impl.h"

static enum bnt_status run_export(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    struct bnt_cache_list list = {0};
    if (argc == 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache export FILE.tar [NAME...]",
                            "which file shall the models go to?");
    }
    enum bnt_status st = bnt_cache_open(NULL, &cache, &err);
    bnt_cache_interrupt(cache, app->interrupted);
    if (st == BNT_OK) {
        st = argc == 1 ? bnt_cache_list(cache, &list, &err)
                       : cmd_cache_find_all(cache, argc - 1, argv + 1, &list, &err);
    }
    if (st == BNT_OK) {
        st = bnt_cache_export(cache, &list, argv[0], &err);
    }
    if (st == BNT_OK) {
        bnt_msg_note("%zu %s in %s", list.n, list.n == 1 ? "model" : "models", argv[0]);
    } else {
        st = bnt_msg_error(&err);
    }
    bnt_cache_list_release(&list);
    bnt_cache_close(cache);
    return st;
}

const struct bnt_cmd cmd_cache_export = {
    .name = "export",
    .synopsis = "FILE.tar [NAME...]",
    .summary = "models into a tar archive",
    .description = "All models, or the named ones, with their names. The archive is the same for\n"
                   "the same content, and any tar can list it.",
    .examples = "  bnt cache export models.tar bitnet-2b\n"
                "  ssh runner bnt cache import models.tar",
    .run = run_export,
};

static enum bnt_status run_import(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    struct bnt_cache_import r;
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache import FILE.tar",
                            "which archive? one file of bnt cache export");
    }
    if (bnt_cache_open(NULL, &cache, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    bnt_cache_interrupt(cache, app->interrupted);
    enum bnt_status st = bnt_cache_import_file(cache, argv[0], &r, &err);
    if (st == BNT_OK) {
        bnt_msg_note("%" PRIu64 " models, %.1f MB, and %" PRIu64 " names imported", r.n_models,
                     (double)r.bytes / 1e6, r.n_names);
        if (r.n_taken > 0) {
            bnt_msg_warn("bnt cache rm NAME makes room for the other",
                         "cache: %" PRIu64 " names have other content here and stay", r.n_taken);
        }
    } else {
        st = bnt_msg_error(&err);
    }
    bnt_cache_close(cache);
    return st;
}

const struct bnt_cmd cmd_cache_import = {
    .name = "import",
    .synopsis = "FILE.tar",
    .summary = "models from an archive of bnt cache export",
    .description = "Every model is hashed on its way in and must have the digest that it is named\n"
                   "by. A name that has other content here stays as it is.",
    .run = run_import,
};
