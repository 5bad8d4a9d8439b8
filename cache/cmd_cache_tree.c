/* `bnt cache tree`: the chunk tree of a model, for a server that others update from. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/app.h"
#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/cmd_cache_impl.h"

struct tree_opts {
    const char *output;
    bool json;
};

static const struct bnt_opt tree_options[] = {
    {.kind = BNT_OPT_STR,
     .short_name = 'o',
     .long_name = "output",
     .arg = "FILE",
     .help = "write the tree into FILE, for a web server to give out beside the model",
     .offset = offsetof(struct tree_opts, output)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output",
     .offset = offsetof(struct tree_opts, json)},
    BNT_OPT_END,
};

static bool is_file(const char *text)
{
    struct stat sb;
    return strchr(text, '/') || (stat(text, &sb) == 0 && S_ISREG(sb.st_mode));
}

/* The tree of a cached model: the one that is kept, else made from its bytes and kept. */
static enum bnt_status tree_of_name(const struct bnt_app *app, const char *name,
                                    struct bnt_chunk_tree **out, struct bnt_err *err)
{
    struct bnt_cache *cache = NULL;
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    enum bnt_status st = bnt_cache_open(NULL, &cache, err);
    bnt_cache_interrupt(cache, app->interrupted);
    if (st == BNT_OK) {
        st = bnt_cache_find(cache, name, &e, err);
    }
    if (st == BNT_OK) {
        st = bnt_cache_tree_load(cache, e.digest, out, err);
    }
    if (st == BNT_OK && !*out) {
        st = bnt_cache_lookup(cache, name, &e, path, err);
        st = st == BNT_OK ? bnt_cache_tree_make(cache, e.digest, out, err) : st;
        if (st == BNT_OK && !*out) {
            st = bnt_err_set(err, BNT_E_DIGEST, "%s is damaged", name);
            bnt_err_hint(err, "run: bnt cache verify --repair %s", name);
        }
    }
    bnt_cache_close(cache);
    return st;
}

static enum bnt_status write_tree(struct bnt_chunk_tree *t, const char *path, struct bnt_err *err)
{
    struct bnt_buf bytes = BNT_BUF(BNT_CHUNK_TREE_MAX_BYTES);
    enum bnt_status st = bnt_chunk_tree_encode(t, &bytes, err);
    if (st == BNT_OK) {
        st = bnt_file_write(path, bytes.data, bytes.len, err);
    }
    bnt_buf_release(&bytes);
    return st;
}

static enum bnt_status print_tree(struct bnt_chunk_tree *t, bool json, struct bnt_err *err)
{
    char root[BNT_SHA256_HEX];
    uint64_t size = bnt_chunk_tree_size(t);
    enum bnt_status st = bnt_chunk_tree_root(t, root, err);
    if (st != BNT_OK || !json) {
        return st == BNT_OK ? (puts(root), st) : st;
    }
    uint64_t chunks = (size + BNT_CACHE_CHUNK_BYTES - 1) / BNT_CACHE_CHUNK_BYTES;
    return cmd_cache_print_json(
        json_pack("{s:s, s:I, s:I, s:I}", "root", root, "size", (json_int_t)size, "chunk_bytes",
                  (json_int_t)BNT_CACHE_CHUNK_BYTES, "chunks", (json_int_t)chunks));
}

static enum bnt_status run_tree(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct tree_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_chunk_tree *t = NULL;
    if (argc != 1) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache tree NAME, or bnt cache tree FILE",
                            "which model? one name or one file");
    }
    enum bnt_status st = o->output ? bnt_file_may_write(o->output, &err) : BNT_OK;
    if (st == BNT_OK) {
        st = is_file(argv[0]) ? bnt_chunk_tree_of_file(argv[0], app->interrupted, &t, &err)
                              : tree_of_name(app, argv[0], &t, &err);
    }
    if (st == BNT_OK && o->output) {
        st = write_tree(t, o->output, &err);
    }
    if (st == BNT_OK) {
        st = print_tree(t, o->json, &err);
    }
    bnt_chunk_tree_free(t);
    return st == BNT_OK || err.status == BNT_OK ? st : bnt_msg_error(&err);
}

const struct bnt_cmd cmd_cache_tree = {
    .name = "tree",
    .synopsis = "[-o FILE] [--json] NAME|FILE",
    .summary = "the chunk tree of a model, for updates by chunks",
    .description =
        "Prints the root of the digests of the 4 MiB chunks of a cached model or of a file:\n"
        "what bnt.lock has as \"tree\". With -o the tree itself is written. A web server that\n"
        "has it beside the model, as the model's URL and .bnttree, lets bnt fetch move only\n"
        "the chunks that changed; bnt cache serve does so without it.",
    .opts = tree_options,
    .opts_size = sizeof(struct tree_opts),
    .examples = "  bnt cache tree bitnet-2b                          # its root\n"
                "  bnt cache tree model.gguf -o model.gguf.bnttree   # for a web server",
    .run = run_tree,
};
