/* `bnt path NAME`: where a cached model lies. Opens the index and looks at one file: milliseconds,
 * no network. */
#include <stddef.h>
#include <stdio.h>

#include "base/app.h"
#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/cold.h"
#include "cache/commands.h"

struct path_opts {
    bool offline;
};

static const struct bnt_opt path_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "offline",
     .help = "use no network; a model of the cold tier is exit code 15 [BNT_OFFLINE=1]",
     .offset = offsetof(struct path_opts, offline)},
    BNT_OPT_END,
};

static enum bnt_status run_path(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct path_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache;
    struct bnt_cache_entry entry;
    char path[BNT_PATH_MAX];
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt path NAME", "which model? one name or digest");
    }
    if (bnt_cache_open(NULL, &cache, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    bnt_cache_interrupt(cache, app->interrupted);
    const struct bnt_network *network = o->offline || bnt_app_offline() ? NULL : app->network;
    enum bnt_status st = cold_bring(cache, argv[0], network, &err);
    if (st == BNT_OK) {
        st = bnt_cache_lookup(cache, argv[0], &entry, path, &err);
    }
    bnt_cache_close(cache);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    puts(path);
    return BNT_OK;
}

const struct bnt_cmd bnt_cmd_path = {
    .name = "path",
    .synopsis = "[--offline] NAME",
    .summary = "the path of a model in the cache",
    .description =
        "Prints the path of the file that NAME stands for: a name given by bnt fetch, a\n"
        "sha256 digest, or at least 8 digits of one. Touches the network only when the model\n"
        "lies in the cold tier alone; then it is brought back first.",
    .examples = "  bnt path bitnet-2b                  # ~/.cache/bnt/blobs/sha256/42/4221...\n"
                "  llama-cli -m $(bnt path bitnet-2b)  # hand it to any other program",
    .opts = path_options,
    .opts_size = sizeof(struct path_opts),
    .run = run_path,
};
