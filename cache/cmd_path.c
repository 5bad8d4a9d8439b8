/* `bnt path NAME`: where a cached model lies. Opens the index and looks at one file: milliseconds,
 * no network. */
#include <stddef.h>
#include <stdio.h>

#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/commands.h"

static enum bnt_status run_path(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    (void)opts;
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
    enum bnt_status st = bnt_cache_lookup(cache, argv[0], &entry, path, &err);
    bnt_cache_close(cache);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    puts(path);
    return BNT_OK;
}

const struct bnt_cmd bnt_cmd_path = {
    .name = "path",
    .synopsis = "NAME",
    .summary = "the path of a model in the cache",
    .description =
        "Prints the path of the file that NAME stands for: a name given by bnt fetch, a\n"
        "sha256 digest, or at least 8 digits of one. Never touches the network.",
    .examples = "  bnt path bitnet-2b                  # ~/.cache/bnt/blobs/sha256/42/4221...\n"
                "  llama-cli -m $(bnt path bitnet-2b)  # hand it to any other program",
    .run = run_path,
};
