/* `bnt cache verify`: whether models are what they were, and their repair by chunks. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/app.h"
#include "base/msg.h"
#include "base/opt.h"
#include "cache/bnt_cache.h"
#include "cache/cmd_cache_impl.h"

struct verify_opts {
    bool json, repair;
};

static const struct bnt_opt verify_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "repair",
     .help = "read the bad chunks of damaged models again from their source",
     .offset = offsetof(struct verify_opts, repair)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output",
     .offset = offsetof(struct verify_opts, json)},
    BNT_OPT_END,
};

struct verify_run {
    struct bnt_app *app;
    struct bnt_cache *cache;
    struct bnt_progress progress;
    uint64_t before; /* bytes of the blobs that are done */
    size_t n_missing, n_corrupt, n_repaired;
    bool repair;
    json_t *entries; /* NULL without --json */
};

static const char *entry_label(const struct bnt_cache_entry *e)
{
    return e->name[0] ? e->name : e->digest;
}

static const char *health_name(enum bnt_cache_health health)
{
    static const char *const names[] = {"ok", "missing", "size", "corrupt", "cold"};
    return names[health];
}

static int verify_progress(void *ctx, uint64_t done_bytes)
{
    struct verify_run *run = ctx;
    bnt_progress_update(&run->progress, run->before + done_bytes);
    return *run->app->interrupted != 0;
}

/* "; 2 of 300 chunks, at 0 4194304": as many offsets as a line holds. */
static void describe_chunks(const struct bnt_cache_damage *d, char *out, size_t size)
{
    enum { SHOWN = 4 };
    int used = snprintf(out, size, "; %zu of %zu chunks, at", d->n_bad, d->n_chunks);
    for (size_t i = 0; i < d->n_bad && i < SHOWN && used > 0 && (size_t)used < size; i++) {
        used += snprintf(out + used, size - (size_t)used, " %" PRIu64, d->bad[i]);
    }
    if (d->n_bad > SHOWN && used > 0 && (size_t)used < size) {
        snprintf(out + used, size - (size_t)used, " ...");
    }
}

static void tell_problem(const struct bnt_cache_entry *e, enum bnt_cache_health health,
                         const struct bnt_cache_damage *d, bool repairs)
{
    static const char *const problems[] = {"", "its file is gone", "its size differs",
                                           "sha256 differs"};
    char hint[256], chunks[192] = "";
    snprintf(hint, sizeof hint, "run: bnt cache verify --repair %.70s, or bnt fetch --force %.120s",
             entry_label(e), e->source[0] ? e->source : "SOURCE");
    if (d->has_tree && health != BNT_CACHE_MISSING) {
        describe_chunks(d, chunks, sizeof chunks);
    }
    bnt_msg_warn(repairs ? NULL : hint, "cache: %s is %s: %s%s", entry_label(e),
                 health == BNT_CACHE_MISSING ? "missing" : "corrupt", problems[health], chunks);
}

/* Heal one model when that was asked for. A repair that fails is told, and the others go on. */
static bool repair_one(struct verify_run *run, const struct bnt_cache_entry *e,
                       const struct bnt_cache_damage *d)
{
    struct bnt_err err = {0};
    if (!run->repair) {
        return false;
    }
    if (bnt_cache_repair(run->cache, e, d, run->app->source, &err) != BNT_OK) {
        bnt_msg_error(&err);
        return false;
    }
    bnt_msg_note("%s is repaired: %.1f MB were read again", entry_label(e),
                 (double)d->bad_bytes / 1e6);
    run->n_repaired++;
    return true;
}

/* A row of the JSON answer. */
static enum bnt_status add_row(struct verify_run *run, const struct bnt_cache_entry *e,
                               enum bnt_cache_health health, const struct bnt_cache_damage *d,
                               bool repaired, struct bnt_err *err)
{
    json_t *row = json_pack("{s:o, s:s, s:I, s:s, s:b}", "name", cmd_cache_text_or_null(e->name),
                            "digest", e->digest, "size", (json_int_t)e->size, "health",
                            health_name(health), "repaired", (int)repaired);
    if (d->has_tree) {
        json_t *bad = json_array();
        for (size_t i = 0; i < d->n_bad; i++) {
            (void)json_array_append_new(bad, json_integer((json_int_t)d->bad[i]));
        }
        (void)json_object_set_new(row, "bad_chunks", bad);
        (void)json_object_set_new(row, "repair_bytes", json_integer((json_int_t)d->bad_bytes));
    }
    return json_array_append_new(run->entries, row) == 0 ? BNT_OK
                                                         : bnt_err_nomem(err, "the JSON answer", 0);
}

/* What is to be said and done about a model that is not what it was. */
static enum bnt_status handle_damage(struct verify_run *run, const struct bnt_cache_entry *e,
                                     enum bnt_cache_health health, struct bnt_cache_damage *d,
                                     bool *repaired, struct bnt_err *err)
{
    bnt_progress_end(&run->progress);
    enum bnt_status st = bnt_cache_damage_find(run->cache, e, d, err);
    if (st != BNT_OK) {
        return st;
    }
    tell_problem(e, health, d, run->repair);
    *repaired = repair_one(run, e, d);
    return BNT_OK;
}

/* Whether the content of entry `i` was found sound a moment ago, under another of its names. */
static bool is_sound(const struct bnt_cache_list *list, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (list->at[k].verified_s && strcmp(list->at[k].digest, list->at[i].digest) == 0) {
            return true;
        }
    }
    return false;
}

static enum bnt_status verify_one(struct verify_run *run, const struct bnt_cache_list *list,
                                  size_t i, struct bnt_err *err)
{
    struct bnt_cache_entry *e = &list->at[i];
    enum bnt_cache_health health = BNT_CACHE_OK;
    struct bnt_cache_damage damage = {0};
    bool repaired = false;
    enum bnt_status st = is_sound(list, i)
                             ? BNT_OK
                             : bnt_cache_verify(run->cache, e, verify_progress, run, &health, err);
    if (st == BNT_OK && health != BNT_CACHE_OK && health != BNT_CACHE_COLD) {
        st = handle_damage(run, e, health, &damage, &repaired, err);
    }
    run->before += e->size;
    run->n_missing += health == BNT_CACHE_MISSING && !repaired;
    run->n_corrupt +=
        (health == BNT_CACHE_SIZE_DIFFERS || health == BNT_CACHE_CORRUPT) && !repaired;
    if (st == BNT_OK && run->entries) {
        st = add_row(run, e, health, &damage, repaired, err);
    }
    bnt_cache_damage_release(&damage);
    return st;
}

/* The entries that were asked for, in the order of the question; all of them without a question. */
static enum bnt_status select_entries(struct bnt_cache *cache, struct bnt_cache_list *list,
                                      int argc, char **argv, struct bnt_err *err)
{
    if (argc == 0) {
        enum bnt_status st = bnt_cache_adopt(cache, err);
        return st == BNT_OK ? bnt_cache_list(cache, list, err) : st;
    }
    return cmd_cache_find_all(cache, argc, argv, list, err);
}

static enum bnt_status verify_list(struct verify_run *run, struct bnt_cache_list *list,
                                   struct bnt_err *err)
{
    uint64_t total = 0;
    for (size_t i = 0; i < list->n; i++) {
        total += list->at[i].size;
        list->at[i].verified_s = 0; /* from now on: of this run */
    }
    bnt_progress_begin(&run->progress, "verifying", total, true);
    enum bnt_status st = BNT_OK;
    for (size_t i = 0; st == BNT_OK && i < list->n; i++) {
        st = verify_one(run, list, i, err);
    }
    bnt_progress_end(&run->progress);
    return st;
}

/* The outcome in words or JSON, and the exit code. */
static enum bnt_status verify_report(struct verify_run *run, const struct bnt_cache_list *list)
{
    size_t problems = run->n_missing + run->n_corrupt;
    if (run->entries) {
        enum bnt_status st = cmd_cache_print_json(
            json_pack("{s:I, s:I, s:O}", "checked", (json_int_t)list->n, "problems",
                      (json_int_t)problems, "entries", run->entries));
        if (st != BNT_OK) {
            return st;
        }
    } else {
        printf("%zu checked, %zu ok, %zu corrupt, %zu missing", list->n,
               list->n - problems - run->n_repaired, run->n_corrupt, run->n_missing);
        if (run->n_repaired) {
            printf(", %zu repaired", run->n_repaired);
        }
        putchar('\n');
    }
    return run->n_corrupt ? BNT_E_DIGEST : run->n_missing ? BNT_E_NOT_FOUND : BNT_OK;
}

static enum bnt_status run_verify(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct verify_opts *o = opts;
    struct bnt_err err = {0};
    struct verify_run run = {
        .app = app, .repair = o->repair, .entries = o->json ? json_array() : NULL};
    struct bnt_cache_list list = {0};
    enum bnt_status st = bnt_cache_open(NULL, &run.cache, &err);
    bnt_cache_interrupt(run.cache, app->interrupted);
    if (st == BNT_OK) {
        st = select_entries(run.cache, &list, argc, argv, &err);
    }
    if (st == BNT_OK) {
        st = verify_list(&run, &list, &err);
    }
    st = st == BNT_OK ? verify_report(&run, &list) : bnt_msg_error(&err);
    json_decref(run.entries);
    bnt_cache_list_release(&list);
    bnt_cache_close(run.cache);
    return st;
}

const struct bnt_cmd cmd_cache_verify = {
    .name = "verify",
    .synopsis = "[--repair] [--json] [NAME...]",
    .summary = "hash models again and compare with their digests",
    .description =
        "Reads every byte of the named models, or of all. Exit code 13 when one is\n"
        "corrupt, 8 when one is missing. Damage is told by 4 MiB chunks; --repair reads\n"
        "only the bad ones again, from any place that the model came from or that the\n"
        "manifest of this folder knows, and replaces the file when the whole has its digest.",
    .opts = verify_options,
    .opts_size = sizeof(struct verify_opts),
    .examples = "  bnt cache verify              # everything\n"
                "  bnt cache verify bitnet-2b    # one model\n"
                "  bnt cache verify --repair     # and heal what is damaged",
    .run = run_verify,
};
