/* `bnt cache gc|rm|pin|unpin`: what goes and what stays. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/cmd_cache_impl.h"
#include "cache/digest_list.h"

/* ---- rm, pin, unpin ---- */

enum bnt_status cmd_cache_open_for_names(const struct bnt_app *app, int argc,
                                         struct bnt_cache **cache)
{
    struct bnt_err err = {0};
    if (argc == 0) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt cache ls shows names and digests",
                            "which model? at least one name or digest");
    }
    enum bnt_status st = bnt_cache_open(NULL, cache, &err);
    bnt_cache_interrupt(*cache, app->interrupted);
    return st == BNT_OK ? st : bnt_msg_error(&err);
}

static enum bnt_status run_rm(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    enum bnt_status st = cmd_cache_open_for_names(app, argc, &cache);
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        struct bnt_cache_entry e;
        bool blob = false;
        st = bnt_cache_remove(cache, argv[i], &e, &blob, &err);
        if (st != BNT_OK) {
            st = bnt_msg_error(&err);
        } else if (blob) {
            bnt_msg_note("%s removed: %.1f MB", argv[i], (double)e.size / 1e6);
        } else {
            bnt_msg_note("%s is no name any more; its content has others", argv[i]);
        }
    }
    bnt_cache_close(cache);
    return st;
}

const struct bnt_cmd cmd_cache_rm = {
    .name = "rm",
    .synopsis = "NAME...",
    .summary = "remove models",
    .description = "A name goes, and the content with it when no other name is left. A digest\n"
                   "removes the content with all its names. A pinned model and one that a\n"
                   "process uses stay: exit code 1.",
    .examples = "  bnt cache rm bitnet-2b",
    .run = run_rm,
};

static enum bnt_status set_pins(const struct bnt_app *app, int argc, char **argv, bool pinned)
{
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    enum bnt_status st = cmd_cache_open_for_names(app, argc, &cache);
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        struct bnt_cache_entry e;
        if (bnt_cache_pin(cache, argv[i], pinned, &e, &err) != BNT_OK) {
            st = bnt_msg_error(&err);
        }
    }
    bnt_cache_close(cache);
    return st;
}

static enum bnt_status run_pin(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    return set_pins(app, argc, argv, true);
}

static enum bnt_status run_unpin(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    return set_pins(app, argc, argv, false);
}

/* ---- demote ---- */

static enum bnt_status run_demote(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    (void)opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    enum bnt_status st = cmd_cache_open_for_names(app, argc, &cache);
    for (int i = 0; st == BNT_OK && i < argc; i++) {
        struct bnt_cache_entry e;
        struct bnt_cache_demotion d;
        st = bnt_cache_find(cache, argv[i], &e, &err);
        if (st == BNT_OK) {
            st = bnt_cache_demote(cache, &e, &d, &err);
        }
        if (st != BNT_OK) {
            st = bnt_msg_error(&err);
        } else if (d.in_use) {
            st = bnt_msg_fail(BNT_E_FAILED, "end the program that has it open, then try again",
                              "cache: %s is in use by a process", argv[i]);
        } else if (d.moved) {
            bnt_msg_note("%s: %.1f MB became %.1f MB (%.1f %% less)", argv[i],
                         (double)d.before_bytes / 1e6, (double)d.after_bytes / 1e6,
                         100.0 - 100.0 * (double)d.after_bytes / (double)d.before_bytes);
        } else {
            bnt_msg_note("%s stays as it is: %s", argv[i],
                         d.after_bytes ? "compression saves too little" : "it is compressed");
        }
    }
    bnt_cache_close(cache);
    return st;
}

const struct bnt_cmd cmd_cache_demote = {
    .name = "demote",
    .synopsis = "NAME...",
    .summary = "compress models that are not needed now",
    .description = "The compressed copy is proven to become the same bytes before the file goes.\n"
                   "The next use expands it again. A model that a process uses stays: exit code 1.",
    .run = run_demote,
};

const struct bnt_cmd cmd_cache_pin = {
    .name = "pin",
    .synopsis = "NAME...",
    .summary = "keep models from bnt cache gc and rm",
    .description = "The pin is on the content: it stays where it is when the name moves on.",
    .run = run_pin,
};

const struct bnt_cmd cmd_cache_unpin = {
    .name = "unpin",
    .synopsis = "NAME...",
    .summary = "let bnt cache gc and rm have them again",
    .run = run_unpin,
};

/* ---- gc ---- */

struct gc_cmd_opts {
    uint64_t min_free;
    int64_t keep_latest;
    const char *max_size, *max_age, *demote_after, *cold_after, *cold, *lock;
    bool dry_run, json;
};

static const struct bnt_opt gc_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "max-size",
     .arg = "SIZE",
     .help = "remove until all models together have at most this (k M G Ki Mi Gi); 0: all that "
             "may go",
     .offset = offsetof(struct gc_cmd_opts, max_size)},
    {.kind = BNT_OPT_STR,
     .long_name = "max-age",
     .arg = "AGE",
     .help = "remove what was not used for this long: 90s, 30m, 12h, 7d",
     .offset = offsetof(struct gc_cmd_opts, max_age)},
    {.kind = BNT_OPT_STR,
     .long_name = "demote-after",
     .arg = "AGE",
     .help = "compress what stays and was not used for this long",
     .offset = offsetof(struct gc_cmd_opts, demote_after)},
    {.kind = BNT_OPT_STR,
     .long_name = "cold-after",
     .arg = "AGE",
     .help = "move to the cold tier what stays and was not used for this long",
     .offset = offsetof(struct gc_cmd_opts, cold_after)},
    {.kind = BNT_OPT_STR,
     .long_name = "cold",
     .arg = "URL",
     .help = "the cold tier, for --cold-after [that of BNT_COLD]",
     .offset = offsetof(struct gc_cmd_opts, cold)},
    {.kind = BNT_OPT_SIZE,
     .long_name = "min-free",
     .arg = "SIZE",
     .help = "remove until the disk has this much free",
     .offset = offsetof(struct gc_cmd_opts, min_free)},
    {.kind = BNT_OPT_INT,
     .long_name = "keep-latest",
     .arg = "N",
     .help = "the N models used last stay in any case",
     .offset = offsetof(struct gc_cmd_opts, keep_latest),
     .min = 0,
     .max = 1e9},
    {.kind = BNT_OPT_STR,
     .long_name = "lock",
     .arg = "FILE",
     .help = "digests that this file names stay [" CMD_CACHE_LOCK_FILE
             " of this folder, if there is one]",
     .offset = offsetof(struct gc_cmd_opts, lock)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "dry-run",
     .help = "only tell what would go",
     .offset = offsetof(struct gc_cmd_opts, dry_run)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output",
     .offset = offsetof(struct gc_cmd_opts, json)},
    BNT_OPT_END,
};

/* "7d" in seconds; text may be NULL. */
static enum bnt_status parse_age(const char *option, const char *text, int64_t *age_s)
{
    struct bnt_err err = {0};
    if (!text || bnt_parse_duration(text, age_s, &err) == BNT_OK) {
        return BNT_OK;
    }
    (void)bnt_err_context(&err, "%s", option);
    return bnt_msg_error(&err);
}

bool cmd_cache_is_listed(void *ctx, const char *digest)
{
    return digest_list_has(ctx, digest);
}

enum bnt_status cmd_cache_read_lock(const char *option, struct digest_list *listed,
                                    struct bnt_err *err)
{
    const char *lock = option                                   ? option
                       : access(CMD_CACHE_LOCK_FILE, F_OK) == 0 ? CMD_CACHE_LOCK_FILE
                                                                : NULL;
    enum bnt_status st = lock ? digest_list_read(listed, lock, err) : BNT_OK;
    if (st == BNT_OK) {
        digest_list_sort(listed);
    }
    return st;
}

static uint64_t bytes_kept(const struct bnt_cache_gc_report *r)
{
    return r->bytes_before - r->bytes_removed - r->bytes_saved - r->bytes_cold;
}

static json_t *gc_json(const struct bnt_cache_gc_report *r, const struct bnt_downloads *d,
                       bool dry_run)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < r->n; i++) {
        const struct bnt_cache_gc_row *row = &r->at[i];
        json_t *value = json_pack(
            "{s:o, s:s, s:I, s:I, s:b, s:s}", "name", cmd_cache_text_or_null(row->entry.name),
            "digest", row->entry.digest, "size", (json_int_t)row->stored, "used_s",
            (json_int_t)row->entry.used_s, "removed", (int)bnt_cache_gc_removes(row->verdict),
            "reason", bnt_cache_gc_words(row->verdict));
        if (json_array_append_new(rows, value) != 0) {
            json_decref(rows);
            return NULL;
        }
    }
    return json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o}", "dry_run",
                     (int)dry_run, "removed", (json_int_t)r->n_removed, "bytes_removed",
                     (json_int_t)r->bytes_removed, "bytes_kept", (json_int_t)bytes_kept(r),
                     "demoted", (json_int_t)r->n_demoted, "moved_away", (json_int_t)r->n_cold,
                     "download_bytes_removed", (json_int_t)d->stale_bytes, "packed_removed",
                     (json_int_t)r->n_packed_removed, "packed_bytes_removed",
                     (json_int_t)r->packed_bytes_removed, "unmet", (int)r->unmet, "models", rows);
}

static enum bnt_status gc_tell(const struct bnt_cache_gc_report *r, const struct bnt_downloads *d,
                               const struct gc_cmd_opts *o)
{
    if (o->json) {
        enum bnt_status st = cmd_cache_print_json(gc_json(r, d, o->dry_run));
        if (st != BNT_OK) {
            return st;
        }
    } else {
        for (size_t i = 0; i < r->n; i++) {
            const struct bnt_cache_gc_row *row = &r->at[i];
            bool goes = bnt_cache_gc_removes(row->verdict);
            printf("%-7s  %-10s  %.12s  %9.1f MB  %s\n", goes ? "removed" : "kept",
                   bnt_cache_gc_words(row->verdict), row->entry.digest, (double)row->stored / 1e6,
                   cmd_cache_shown_name(&row->entry));
        }
        const char *would = o->dry_run ? "would be " : "";
        if (r->n_demoted > 0) {
            printf("%" PRIu64 " %scompressed, %.1f MB\n", r->n_demoted, would,
                   (double)r->bytes_saved / 1e6);
        }
        if (r->n_cold > 0) {
            printf("%" PRIu64 " %smoved away, %.1f MB\n", r->n_cold, would,
                   (double)r->bytes_cold / 1e6);
        }
        printf("%" PRIu64 " %sremoved, %.1f MB; %.1f MB stay\n", r->n_removed, would,
               (double)r->bytes_removed / 1e6, (double)bytes_kept(r) / 1e6);
    }
    if (r->n_packed_removed > 0 && !o->json) {
        printf("%" PRIu64 " files of packed weights %sremoved, %.1f MB\n", r->n_packed_removed,
               o->dry_run ? "would be " : "", (double)r->packed_bytes_removed / 1e6);
    }
    if (d->stale_files > 0 && !o->json) {
        printf("%" PRIu64 " files of unfinished downloads %sremoved, %.1f MB\n", d->stale_files,
               o->dry_run ? "would be " : "", (double)d->stale_bytes / 1e6);
    }
    if (r->unmet) {
        bnt_msg_warn("the report says why: pinned, in use, lock file, latest",
                     "cache: what must stay is more than the limits allow");
    }
    return BNT_OK;
}

/* A limit of 0 is one that only an empty cache keeps; to the library 0 is none. */
static enum bnt_status parse_limit(const char *text, uint64_t *bytes)
{
    struct bnt_err err = {0};
    if (!text || bnt_parse_size(text, bytes, &err) == BNT_OK) {
        *bytes = text && *bytes == 0 ? 1 : *bytes;
        return BNT_OK;
    }
    (void)bnt_err_context(&err, "--max-size");
    return bnt_msg_error(&err);
}

static enum bnt_status gc_prepare(const struct bnt_app *app, const struct gc_cmd_opts *o,
                                  struct bnt_cache_gc_opts *gc, struct digest_list *listed)
{
    struct bnt_err err = {0};
    *gc = (struct bnt_cache_gc_opts){.min_free_bytes = o->min_free,
                                     .keep_latest = (uint64_t)o->keep_latest,
                                     .dry_run = o->dry_run,
                                     .keep = cmd_cache_is_listed,
                                     .ctx = listed};
    if (parse_limit(o->max_size, &gc->max_bytes) != BNT_OK ||
        parse_age("--max-age", o->max_age, &gc->max_age_s) != BNT_OK ||
        parse_age("--demote-after", o->demote_after, &gc->demote_after_s) != BNT_OK ||
        parse_age("--cold-after", o->cold_after, &gc->cold_after_s) != BNT_OK) {
        return BNT_E_USAGE;
    }
    if (gc->cold_after_s && cmd_cache_cold_place(app, o->cold, &gc->cold) != BNT_OK) {
        return BNT_E_USAGE;
    }
    return cmd_cache_read_lock(o->lock, listed, &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static enum bnt_status run_gc(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct gc_cmd_opts *o = opts;
    struct bnt_err err = {0};
    struct bnt_cache *cache = NULL;
    struct bnt_cache_gc_opts gc;
    struct bnt_cache_gc_report report = {0};
    struct bnt_downloads downloads = {.files = 0};
    struct digest_list listed = {0};
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "bnt cache rm removes one model", "unexpected operand: %s",
                            argv[0]);
    }
    if (o->cold && !o->cold_after) {
        return bnt_msg_fail(BNT_E_USAGE, "say when: --cold-after 30d",
                            "--cold says something to --cold-after alone");
    }
    enum bnt_status st = gc_prepare(app, o, &gc, &listed);
    if (st == BNT_OK && bnt_cache_open(NULL, &cache, &err) != BNT_OK) {
        st = bnt_msg_error(&err);
    }
    bnt_cache_interrupt(cache, app->interrupted);
    if (st == BNT_OK && (bnt_cache_gc(cache, &gc, &report, &err) != BNT_OK ||
                         app->network->downloads(bnt_cache_folder(cache), !o->dry_run, &downloads,
                                                 &err) != BNT_OK)) {
        st = bnt_msg_error(&err);
    }
    if (st == BNT_OK) {
        st = gc_tell(&report, &downloads, o);
    }
    bnt_cache_gc_report_release(&report);
    digest_list_release(&listed);
    bnt_cache_close(cache);
    return st;
}

const struct bnt_cmd cmd_cache_gc = {
    .name = "gc",
    .synopsis = "[OPTIONS]",
    .summary = "remove what is not needed any more",
    .description =
        "Least recently used models go first, by age, then by size, then for free space. What\n"
        "is pinned, what a process uses and what the lock file names stays, and the report\n"
        "says so. Without limits only content that has had no name and no use for 7 days and\n"
        "what dead processes left behind goes, downloads that nobody went on with for a week\n"
        "among it, and weights that the engine repacked and nobody used for so long. Those\n"
        "count for the limits and go before any model: they can be made again.",
    .examples = "  bnt cache gc --max-size 5G --dry-run    # what would go\n"
                "  bnt cache gc --max-age 7d               # not used for a week\n"
                "  bnt cache gc --min-free 10G --keep-latest 2\n"
                "  bnt cache gc --demote-after 7d --cold-after 30d   # hot, then warm, then cold",
    .opts = gc_options,
    .opts_size = sizeof(struct gc_cmd_opts),
    .run = run_gc,
};
