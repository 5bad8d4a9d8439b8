/* `bnt cache`: what is in the cache, whether it is sound, where it lies. */
#include <inttypes.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/app.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/cmd_cache_impl.h"
#include "cache/commands.h"

struct cache_opts {
    bool json;
};

static const struct bnt_opt json_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output",
     .offset = offsetof(struct cache_opts, json)},
    BNT_OPT_END,
};

/* ---- shared by the sub-commands ---- */

enum bnt_status cmd_cache_print_json(json_t *value)
{
    struct bnt_err err = {0};
    return bnt_json_print(value, JSON_INDENT(2), &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

json_t *cmd_cache_text_or_null(const char *text)
{
    return text[0] ? bnt_json_text(text) : json_null();
}

enum bnt_status cmd_cache_find_all(struct bnt_cache *cache, int n, char **keys,
                                   struct bnt_cache_list *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    out->at = calloc((size_t)n, sizeof *out->at);
    if (!out->at) {
        return bnt_err_nomem(err, "list of models", (size_t)n * sizeof *out->at);
    }
    for (int i = 0; st == BNT_OK && i < n; i++) {
        st = bnt_cache_find(cache, keys[i], &out->at[out->n++], err);
    }
    return st;
}

static json_t *time_or_null(int64_t unix_s)
{
    return unix_s ? json_integer(unix_s) : json_null();
}

/* "hot", "warm", "cold", or "gone"; *stored is what it takes on this disk, in bytes. */
static const char *tier_of(struct bnt_cache *cache, const struct bnt_cache_entry *e,
                           uint64_t *stored)
{
    struct bnt_cache_cold far;
    bool warm = false, cold = false;
    *stored = 0;
    if (bnt_cache_tier(cache, e->digest, &warm, stored, NULL) == BNT_OK && *stored > 0) {
        return warm ? "warm" : "hot";
    }
    (void)bnt_cache_cold(cache, e->digest, &far, &cold, NULL);
    return cold ? "cold" : "gone";
}

static json_t *entry_json(struct bnt_cache *cache, const struct bnt_cache_entry *e)
{
    char path[BNT_PATH_MAX];
    uint64_t stored;
    const char *tier = tier_of(cache, e, &stored);
    if (bnt_cache_blob_path(cache, e->digest, path, NULL) != BNT_OK) {
        path[0] = '\0';
    }
    return json_pack("{s:o, s:s, s:I, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:I}", "name",
                     cmd_cache_text_or_null(e->name), "digest", e->digest, "size",
                     (json_int_t)e->size, "tier", tier, "stored_bytes", (json_int_t)stored,
                     "source", cmd_cache_text_or_null(e->source), "file_name",
                     cmd_cache_text_or_null(e->file_name), "fetched_s", time_or_null(e->fetched_s),
                     "verified_s", time_or_null(e->verified_s), "used_s", time_or_null(e->used_s),
                     "pinned", (int)e->pinned, "path", bnt_json_text(path), "packed_bytes",
                     (json_int_t)bnt_cache_packed_bytes(cache, e->digest));
}

const char *cmd_cache_shown_name(const struct bnt_cache_entry *e)
{
    return e->name[0] ? e->name : "-";
}

const char *cmd_cache_day(int64_t unix_s, char out[CMD_CACHE_DAY_MAX])
{
    struct tm tm;
    time_t t = (time_t)unix_s;
    if (!unix_s || !gmtime_r(&t, &tm) || !strftime(out, CMD_CACHE_DAY_MAX, "%Y-%m-%d", &tm)) {
        snprintf(out, CMD_CACHE_DAY_MAX, "-");
    }
    return out;
}

/* ---- ls ---- */

static void print_table(struct bnt_cache *cache, const struct bnt_cache_list *list)
{
    int width = (int)strlen("NAME");
    uint64_t total = 0;
    for (size_t i = 0; i < list->n; i++) {
        int n = (int)strlen(cmd_cache_shown_name(&list->at[i]));
        width = n > width ? n : width;
        bool repeated = i > 0 && strcmp(list->at[i].digest, list->at[i - 1].digest) == 0;
        total += repeated ? 0 : list->at[i].size;
    }
    printf("%-*s  %-12s  %12s  %-4s  %-10s  %s\n", width, "NAME", "SHA256", "SIZE", "TIER",
           "FETCHED", "SOURCE");
    for (size_t i = 0; i < list->n; i++) {
        const struct bnt_cache_entry *e = &list->at[i];
        char day[CMD_CACHE_DAY_MAX];
        uint64_t stored;
        printf("%-*s  %.12s  %9.1f MB  %-4s  %-10s  %s\n", width, cmd_cache_shown_name(e),
               e->digest, (double)e->size / 1e6, tier_of(cache, e, &stored),
               cmd_cache_day(e->fetched_s, day), e->source[0] ? e->source : "-");
    }
    bnt_msg_verbose("%zu rows, %.1f MB", list->n, (double)total / 1e6);
}

static enum bnt_status print_list(struct bnt_cache *cache, const struct bnt_cache_list *list,
                                  bool json)
{
    if (!json) {
        if (list->n == 0) {
            bnt_msg_note("the cache %s is empty; bnt fetch bundled: puts a first model in",
                         bnt_cache_folder(cache));
        } else {
            print_table(cache, list);
        }
        uint64_t packed = bnt_cache_packed_bytes(cache, NULL);
        if (packed > 0) {
            bnt_msg_note("besides, %.1f MB of packed weights, which bnt cache gc may remove",
                         (double)packed / 1e6);
        }
        return BNT_OK;
    }
    json_t *array = json_array();
    for (size_t i = 0; i < list->n; i++) {
        if (json_array_append_new(array, entry_json(cache, &list->at[i])) != 0) {
            json_decref(array);
            return cmd_cache_print_json(NULL);
        }
    }
    return cmd_cache_print_json(array);
}

static enum bnt_status run_ls(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    const struct cache_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    struct bnt_cache_list list = {0};
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache ls [--json]", "unexpected operand: %s",
                            argv[0]);
    }
    enum bnt_status st = bnt_cache_open(NULL, &cache, &err);
    if (st == BNT_OK) {
        st = bnt_cache_list(cache, &list, &err);
    }
    st = st == BNT_OK ? print_list(cache, &list, o->json) : bnt_msg_error(&err);
    bnt_cache_list_release(&list);
    bnt_cache_close(cache);
    return st;
}

static const struct bnt_cmd cmd_ls = {
    .name = "ls",
    .synopsis = "[--json]",
    .summary = "the models in the cache",
    .opts = json_options,
    .opts_size = sizeof(struct cache_opts),
    .examples = "  bnt cache ls          # a table\n"
                "  bnt cache ls --json   # with whole digests, paths and times",
    .run = run_ls,
};

/* ---- rebuild and dir ---- */

static enum bnt_status run_rebuild(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    (void)opts;
    struct bnt_err err = {0};
    uint64_t blobs = 0;
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache rebuild", "unexpected operand: %s",
                            argv[0]);
    }
    if (bnt_cache_rebuild(NULL, &blobs, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    printf("%" PRIu64 " models in the new index\n", blobs);
    return BNT_OK;
}

static const struct bnt_cmd cmd_rebuild = {
    .name = "rebuild",
    .synopsis = "",
    .summary = "a new index from the files of the store",
    .description = "For an index that is damaged: it is set aside as index.db.damaged, and every\n"
                   "file of the store is listed in a new one by its digest, and every name\n"
                   "whose model is there. The files stay as they are; pins and times of use\n"
                   "are lost.",
    .run = run_rebuild,
};

static enum bnt_status run_dir(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    (void)opts;
    struct bnt_err err = {0};
    char dir[BNT_PATH_MAX];
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache dir", "unexpected operand: %s", argv[0]);
    }
    if (bnt_cache_dir(dir, &err) != BNT_OK) {
        return bnt_msg_error(&err);
    }
    puts(dir);
    return BNT_OK;
}

static const struct bnt_cmd cmd_dir = {
    .name = "dir",
    .synopsis = "",
    .summary = "where the cache lies",
    .description = "$BNT_CACHE_DIR, else $XDG_CACHE_HOME/bnt, else ~/.cache/bnt. Save and restore\n"
                   "this folder to carry models from one CI job to the next.",
    .run = run_dir,
};

static const struct bnt_cmd *const sub_commands[] = {
    &cmd_ls,           &cmd_cache_stats,  &cmd_cache_verify,
    &cmd_cache_gc,     &cmd_cache_demote, &cmd_cache_rm,
    &cmd_cache_pin,    &cmd_cache_unpin,  &cmd_cache_export,
    &cmd_cache_import, &cmd_cache_key,    &cmd_cache_tree,
    &cmd_cache_push,   &cmd_cache_pull,   &cmd_cache_serve,
    &cmd_rebuild,      &cmd_dir,          NULL};

const struct bnt_cmd bnt_cmd_cache = {
    .name = "cache",
    .also = "ls list rm remove models",
    .synopsis = "ls|stats|verify|gc|demote|rm|pin|unpin|export|import|push|pull|key|tree|serve|"
                "rebuild|dir",
    .summary = "what is in the cache, whether it is sound, and what may go",
    .subs = sub_commands,
};
