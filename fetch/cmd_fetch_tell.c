/* Events are written and flushed one by one, so that who reads them sees them when they happen. */
#include "fetch/cmd_fetch_tell.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_load.h"

#define PROGRESS_NS 500000000u /* between two events of progress */

void fetch_tell_init(struct fetch_tell *t, bool json, bool quiet)
{
    *t = (struct fetch_tell){
        .json = json, .quiet = quiet, .name = "", .began_ns = bnt_clock_now_ns()};
    t->files = json_array();
}

void fetch_tell_release(struct fetch_tell *t)
{
    json_decref(t->files);
    t->files = NULL;
}

static double seconds_since(uint64_t then_ns)
{
    const uint64_t ms = (bnt_clock_now_ns() - then_ns) / 1000000; /* more digits say nothing */
    return (double)ms / 1e3;
}

/* ---- events ---- */

void fetch_tell_put(struct fetch_tell *t, json_t *event)
{
    if (t->json) {
        size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(6);
        t->lost = bnt_json_print(event, flags, NULL) != BNT_OK || t->lost;
        fflush(stdout);
    } else {
        json_decref(event);
    }
}

static void put_progress(struct fetch_tell *t)
{
    const uint64_t now_ns = bnt_clock_now_ns();
    if (!t->json || now_ns - t->last_ns < PROGRESS_NS) {
        return;
    }
    t->last_ns = now_ns;
    const double s = (double)(now_ns - t->progress.start_ns) / 1e9;
    const double rate = s > 0 ? (double)(t->done_bytes - t->base_bytes) / s : 0;
    json_t *e =
        json_pack("{s:s, s:o, s:I, s:I}", "event", "progress", "name", bnt_json_text(t->name),
                  "bytes", (json_int_t)t->done_bytes, "bytes_s", (json_int_t)rate);
    if (t->total_bytes > 0) {
        (void)json_object_set_new(e, "total", json_integer((json_int_t)t->total_bytes));
    }
    if (t->total_bytes >= t->done_bytes && rate > 0) {
        const double left_s = (double)(t->total_bytes - t->done_bytes) / rate;
        (void)json_object_set_new(e, "eta_s", json_integer((json_int_t)left_s));
    }
    fetch_tell_put(t, e);
}

void fetch_tell_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    struct fetch_tell *t = ctx;
    t->done_bytes = done_bytes;
    t->total_bytes = total_bytes;
    put_progress(t);
    if (!t->quiet) {
        t->progress.total = total_bytes;
        bnt_progress_update(&t->progress, done_bytes);
    }
}

/* The line shows the first two servers, then how many more there are. */
static void add_server(struct fetch_tell *t, const char *server)
{
    char *from = t->progress.from;
    const size_t size = sizeof t->progress.from, n = strlen(from);
    const char *host = strstr(server, "://");
    t->n_servers++;
    if (t->n_servers <= 2) {
        snprintf(from + n, size - n, "%s%.40s", n ? ", " : "", host ? host + 3 : server);
    } else {
        const size_t kept = strcspn(from, "+");
        snprintf(from + kept, size - kept, "%s+%zu", t->n_servers == 3 ? " " : "",
                 t->n_servers - 2);
    }
}

static void start(struct fetch_tell *t, const struct bnt_fetch_event *e)
{
    t->progress.base = t->base_bytes = t->done_bytes = e->done_bytes;
    t->progress.from[0] = '\0';
    t->n_servers = 0;
    t->came = true;
    json_t *event = json_pack("{s:s, s:o, s:I}", "event", "start", "name", bnt_json_text(t->name),
                              "bytes", (json_int_t)e->done_bytes);
    if (e->total_bytes > 0) {
        (void)json_object_set_new(event, "total", json_integer((json_int_t)e->total_bytes));
    }
    fetch_tell_put(t, event);
}

/* What happened with a server. */
static void put_server(struct fetch_tell *t, const struct bnt_fetch_event *e, const char *what)
{
    json_t *event = json_pack("{s:s, s:o, s:s}", "event", what, "name", bnt_json_text(t->name),
                              "server", e->server);
    if (e->kind == BNT_FETCH_MIRROR_IN || e->kind == BNT_FETCH_MIRROR_OUT) {
        const char *state = e->kind == BNT_FETCH_MIRROR_IN ? "in" : "out";
        (void)json_object_set_new(event, "state", json_string(state));
    }
    if (e->kind == BNT_FETCH_RETRY) {
        (void)json_object_set_new(event, "wait_s", json_real((double)e->wait_ms / 1e3));
    }
    if (e->status != BNT_OK) {
        (void)json_object_set_new(event, "exit", json_integer(e->status));
        (void)json_object_set_new(event, "why", bnt_json_text(e->why));
    }
    fetch_tell_put(t, event);
}

void fetch_tell_event(void *ctx, const struct bnt_fetch_event *e)
{
    struct fetch_tell *t = ctx;
    switch (e->kind) {
    case BNT_FETCH_START:
        start(t, e);
        break;
    case BNT_FETCH_RETRY:
        put_server(t, e, "retry");
        break;
    case BNT_FETCH_MIRROR_IN:
        add_server(t, e->server);
        put_server(t, e, "mirror");
        break;
    case BNT_FETCH_MIRROR_OUT:
        put_server(t, e, "mirror");
        break;
    case BNT_FETCH_CIRCUIT:
        put_server(t, e, "circuit");
        break;
    case BNT_FETCH_HEDGE:
        put_server(t, e, "hedge");
        break;
    case BNT_FETCH_TRANSFERRED:
        t->came = e->done_bytes > 0 || t->base_bytes > 0; /* else the source has what it had */
        t->file_bytes += e->done_bytes;
        t->all_bytes += e->done_bytes;
        break;
    case BNT_FETCH_VERIFIED:
        fetch_tell_put(
            t, json_pack("{s:s, s:o}", "event", "verified", "name", bnt_json_text(t->name)));
        break;
    }
}

/* ---- one file ---- */

void fetch_tell_begin(struct fetch_tell *t, const char *name)
{
    t->name = name;
    t->done_bytes = t->total_bytes = t->base_bytes = 0;
    t->last_ns = 0;
    if (t->file_began_ns == 0) {
        t->file_began_ns = bnt_clock_now_ns();
    }
    bnt_progress_begin(&t->progress, name, 0, true);
}

void fetch_tell_pause(struct fetch_tell *t)
{
    bnt_progress_end(&t->progress);
}

void fetch_tell_forget(struct fetch_tell *t)
{
    t->file_bytes = 0;
    t->file_began_ns = 0;
    t->came = false;
}

void fetch_tell_done(struct fetch_tell *t, const struct bnt_fetch_result *r, const char *unpacked)
{
    const struct bnt_cache_entry *e = &r->entry;
    const bool hit = r->hit && !t->came; /* else it came while it was locked */
    if (!t->quiet && hit) {
        bnt_msg_note("%s is in the cache already, from %s", e->name, e->source);
    } else if (!t->quiet) {
        bnt_msg_note("%s: %.1f MB from %s, sha256 %.12s", e->name, (double)e->size / 1e6, e->source,
                     e->digest);
    }
    if (!t->json) {
        puts(unpacked ? unpacked : r->path);
        return;
    }
    json_t *file = json_pack("{s:s, s:o, s:s, s:I, s:s, s:b, s:I, s:f}", "name", e->name, "path",
                             bnt_json_text(r->path), "digest", e->digest, "size",
                             (json_int_t)e->size, "source", e->source, "hit", (int)hit, "bytes",
                             (json_int_t)t->file_bytes, "seconds", seconds_since(t->file_began_ns));
    if (unpacked) {
        (void)json_object_set_new(file, "unpacked", bnt_json_text(unpacked));
    }
    t->lost = json_array_append(t->files, file) != 0 || t->lost;
    json_t *event = json_pack("{s:s}", "event", "done");
    (void)json_object_update_missing(event, file);
    json_decref(file);
    fetch_tell_put(t, event);
}

enum bnt_status fetch_tell_error(struct fetch_tell *t, const struct bnt_err *err)
{
    fetch_tell_put(t, json_pack("{s:s, s:o, s:i, s:o, s:o}", "event", "error", "name",
                                bnt_json_text(t->name), "exit", (int)err->status, "message",
                                bnt_json_text(err->msg), "hint", bnt_json_text(err->hint)));
    return bnt_msg_error(err);
}

/* ---- the end ---- */

enum bnt_status fetch_tell_result(struct fetch_tell *t, enum bnt_status st)
{
    json_t *event = json_pack("{s:s, s:i, s:I, s:f, s:O}", "event", "result", "exit", (int)st,
                              "bytes", (json_int_t)t->all_bytes, "seconds",
                              seconds_since(t->began_ns), "files", t->files);
    if (json_array_size(t->files) == 1) { /* of one file there is nothing to look for in a list */
        (void)json_object_update_missing(event, json_array_get(t->files, 0));
    }
    fetch_tell_put(t, event);
    if (!t->lost || st != BNT_OK) {
        return st;
    }
    return bnt_msg_fail(BNT_E_MEMORY, NULL, "out of memory for the JSON output");
}
