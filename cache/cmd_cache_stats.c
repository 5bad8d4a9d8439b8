/* `bnt cache stats|key`: the cache in numbers, and a key for the cache of a CI service. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/cmd_cache_impl.h"
#include "cache/digest_list.h"

/* ---- stats ---- */

struct stats_opts {
    bool advise;
    struct cmd_cache_advise_opts advice;
};

static const struct bnt_opt stats_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "advise",
     .help = "for each model, the cheapest tier for its use, and what to run",
     .offset = offsetof(struct stats_opts, advise)},
    {.kind = BNT_OPT_STR,
     .long_name = "prices",
     .arg = "FILE",
     .help = "with --advise: what space, transfers and processors cost, YAML or JSON; no price has "
             "a default",
     .offset = offsetof(struct stats_opts, advice.prices)},
    {.kind = BNT_OPT_STR,
     .long_name = "lock",
     .arg = "FILE",
     .help = "with --advise: digests that this file names stay [" CMD_CACHE_LOCK_FILE
             " of this folder, if there is one]",
     .offset = offsetof(struct stats_opts, advice.lock)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output",
     .offset = offsetof(struct stats_opts, advice.json)},
    BNT_OPT_END,
};

struct stats {
    uint64_t models, names, bytes, unnamed_bytes, pinned_bytes, leased_bytes, warm_bytes,
        cold_bytes, missing;
    uint64_t free_bytes, packed_files, packed_bytes;
    struct bnt_downloads downloads;
    int64_t oldest_use_s; /* 0: none */
};

/* A collection that may not remove anything knows all the numbers. */
static enum bnt_status gather_stats(struct bnt_cache *cache, struct stats *s, struct bnt_err *err)
{
    struct bnt_cache_gc_opts look = {.dry_run = true, .keep_latest = UINT64_MAX};
    struct bnt_cache_gc_report r;
    enum bnt_status st = bnt_cache_gc(cache, &look, &r, err);
    for (size_t i = 0; st == BNT_OK && i < r.n; i++) {
        const struct bnt_cache_gc_row *row = &r.at[i];
        s->models++;
        s->names += row->n_names;
        s->bytes += row->stored;
        s->unnamed_bytes += row->n_names == 0 ? row->stored : 0;
        s->pinned_bytes += row->verdict == BNT_GC_KEPT_PINNED ? row->stored : 0;
        s->leased_bytes += row->verdict == BNT_GC_KEPT_LEASED ? row->stored : 0;
        s->warm_bytes += row->warm ? row->stored : 0;
        s->missing += row->stored == 0 && !row->cold;
        s->cold_bytes += row->cold ? row->entry.size : 0;
    }
    s->packed_files = r.n_packed;
    s->packed_bytes = r.packed_bytes;
    if (st == BNT_OK && r.n > 0) {
        s->oldest_use_s = r.at[0].entry.used_s;
    }
    bnt_cache_gc_report_release(&r);
    if (st == BNT_OK) {
        st = bnt_cache_free_bytes(cache, &s->free_bytes, err);
    }
    return st;
}

static enum bnt_status run_stats(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct stats_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    struct stats s = {0};
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache stats [--advise] [--json]",
                            "unexpected operand: %s", argv[0]);
    }
    if (!o->advise && (o->advice.prices || o->advice.lock)) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache stats --advise --prices FILE",
                            "--prices and --lock say something to --advise alone");
    }
    if (o->advise) {
        return cmd_cache_advise(&o->advice);
    }
    enum bnt_status st = bnt_cache_open(NULL, &cache, &err);
    if (st == BNT_OK) {
        st = gather_stats(cache, &s, &err);
    }
    if (st == BNT_OK) {
        st = app->network->downloads(bnt_cache_folder(cache), false, &s.downloads, &err);
    }
    bnt_cache_close(cache);
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    const struct {
        const char *key, *words;
        uint64_t value;
        enum { COUNT, BYTES, DAY } unit;
    } rows[] = {
        {"models", "models", s.models, COUNT},
        {"names", "names", s.names, COUNT},
        {"missing", "files that are gone", s.missing, COUNT},
        {"bytes", "on disk", s.bytes, BYTES},
        {"unnamed_bytes", "  without a name", s.unnamed_bytes, BYTES},
        {"pinned_bytes", "  pinned", s.pinned_bytes, BYTES},
        {"leased_bytes", "  in use", s.leased_bytes, BYTES},
        {"warm_bytes", "  compressed", s.warm_bytes, BYTES},
        {"cold_bytes", "far away", s.cold_bytes, BYTES},
        {"packed_files", "files of packed weights", s.packed_files, COUNT},
        {"packed_bytes", "  on disk", s.packed_bytes, BYTES},
        {"download_bytes", "unfinished downloads", s.downloads.bytes, BYTES},
        {"free_bytes", "free on the disk", s.free_bytes, BYTES},
        {"oldest_use_s", "oldest use", (uint64_t)s.oldest_use_s, DAY},
    };
    json_t *object = o->advice.json ? json_object() : NULL;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (o->advice.json) {
            (void)json_object_set_new(object, rows[i].key, json_integer((json_int_t)rows[i].value));
        } else if (rows[i].unit == BYTES) {
            printf("%-22s  %12.1f MB\n", rows[i].words, (double)rows[i].value / 1e6);
        } else if (rows[i].unit == DAY) {
            char day[CMD_CACHE_DAY_MAX];
            printf("%-22s  %12s\n", rows[i].words, cmd_cache_day((int64_t)rows[i].value, day));
        } else {
            printf("%-22s  %12" PRIu64 "\n", rows[i].words, rows[i].value);
        }
    }
    return o->advice.json ? cmd_cache_print_json(object) : BNT_OK;
}

const struct bnt_cmd cmd_cache_stats = {
    .name = "stats",
    .synopsis = "[--advise [--prices FILE]] [--json]",
    .summary = "the cache in numbers, and where each model is cheapest",
    .description = "With --advise: a line per model with its use (hours in which it was looked up, "
                   "per\n30 days), what a month costs in each tier, the cheapest tier and the "
                   "command that\ngets there. What is pinned, in use or named by the lock file "
                   "stays, and nothing is\nsaid of what was counted for less than 7 days. Without "
                   "--prices only use and bytes\ncount. docs/cache.md has the price file.",
    .examples = "  bnt cache stats\n"
                "  bnt cache stats --advise --prices prices.yml",
    .opts = stats_options,
    .opts_size = sizeof(struct stats_opts),
    .run = run_stats,
};

/* ---- key ---- */

struct key_opts {
    const char *lock;
};

static const struct bnt_opt key_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "lock",
     .arg = "FILE",
     .help = "the file that names the digests [" CMD_CACHE_LOCK_FILE "]",
     .offset = offsetof(struct key_opts, lock)},
    BNT_OPT_END,
};

/* What decides the key: the digests of the named models; without names, those of the lock file. */
static enum bnt_status key_digests(const struct key_opts *o, int argc, char **argv,
                                   struct digest_list *list, struct bnt_err *err)
{
    struct bnt_cache *cache = NULL;
    struct bnt_cache_entry e;
    if (argc == 0) {
        enum bnt_status st = digest_list_read(list, o->lock ? o->lock : CMD_CACHE_LOCK_FILE, err);
        if (st == BNT_E_NOT_FOUND) {
            bnt_err_hint(err, "give the lock file with --lock, or names: bnt cache key NAME...");
        }
        if (st == BNT_OK && list->n == 0) {
            st = bnt_err_set(err, BNT_E_FILE, "%s names no digest",
                             o->lock ? o->lock : CMD_CACHE_LOCK_FILE);
        }
        return st;
    }
    enum bnt_status st = bnt_cache_open(NULL, &cache, err);
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        st = bnt_cache_find(cache, argv[i], &e, err);
        if (st == BNT_OK) {
            st = digest_list_add(list, e.digest, err);
        }
    }
    bnt_cache_close(cache);
    return st;
}

static enum bnt_status hash_list(const struct digest_list *list, char hex[BNT_SHA256_HEX],
                                 struct bnt_err *err)
{
    struct bnt_sha256 *d = NULL;
    enum bnt_status st = bnt_sha256_new(&d, err);
    for (size_t i = 0; st == BNT_OK && i < list->n; i++) {
        st = bnt_sha256_update(d, list->at[i], BNT_SHA256_HEX, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, hex, err);
    }
    bnt_sha256_free(d);
    return st;
}

static enum bnt_status run_key(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)app;
    struct bnt_err err = {0};
    struct digest_list list = {0};
    char hex[BNT_SHA256_HEX];
    if (argc > 0 && ((const struct key_opts *)opts)->lock) {
        return bnt_msg_fail(BNT_E_USAGE, "leave one of them out",
                            "the key is of a lock file, or of names");
    }
    enum bnt_status st = key_digests(opts, argc, argv, &list, &err);
    if (st == BNT_OK) {
        digest_list_sort(&list);
        st = hash_list(&list, hex, &err);
    }
    if (st == BNT_OK) {
        printf("bnt-1-%.20s\n", hex); /* 1: the layout of the cache folder */
    } else {
        st = bnt_msg_error(&err);
    }
    digest_list_release(&list);
    return st;
}

const struct bnt_cmd cmd_cache_key = {
    .name = "key",
    .synopsis = "[--lock FILE | NAME...]",
    .summary = "a key for the cache of a CI service",
    .description = "Equal for equal content, whatever its order and names: of the models that are\n"
                   "named, or of every sha256 digest in the lock file, so that a job knows the\n"
                   "key before it has the models.",
    .examples = "  bnt cache key                 # of bnt.lock\n"
                "  bnt cache key bitnet-2b       # of a model in the cache",
    .opts = key_options,
    .opts_size = sizeof(struct key_opts),
    .run = run_key,
};
