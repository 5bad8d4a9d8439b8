/* `bnt mirror`: what is known about the servers that were asked. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/app.h"
#include "base/cache_dir.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "base/opt.h"
#include "fetch/breaker.h"
#include "fetch/commands.h"

struct mirror_opts {
    bool json;
};

static const struct bnt_opt status_options[] = {
    {.kind = BNT_OPT_FLAG,
     .long_name = "json",
     .help = "one JSON value on standard output",
     .offset = offsetof(struct mirror_opts, json)},
    BNT_OPT_END,
};

static const char *state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half-open"};
    return names[state];
}

/* The record of servers; *out stays NULL when no server was ever asked. */
static enum bnt_status open_record(struct breaker **out, struct bnt_err *err)
{
    char dir[BNT_PATH_MAX], path[BNT_PATH_MAX];
    *out = NULL;
    enum bnt_status st = bnt_cache_dir(dir, err);
    if (st == BNT_OK) {
        st = bnt_path_format(path, err, "%s/net.db", dir);
    }
    if (st == BNT_OK && access(path, F_OK) == 0) {
        st = breaker_open(dir, out, err);
    }
    return st;
}

static enum bnt_status print_json(const struct breaker_row *rows, size_t n)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        const struct breaker_row *r = &rows[i];
        json_t *row =
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "origin", r->origin, "state",
                      state_name(r->state), "calls", (json_int_t)r->calls, "failed",
                      (json_int_t)r->failed, "slow", (json_int_t)r->slow, "ejections",
                      (json_int_t)r->ejections, "open_s", (json_int_t)r->open_s, "pause_s",
                      (json_int_t)r->cool_s, "rate_bytes_s", (json_int_t)r->rate_bytes_s);
        ok = row && json_array_append_new(list, row) == 0;
    }
    if (!ok) {
        json_decref(list);
        list = NULL;
    }
    struct bnt_err err = {0};
    return bnt_json_print(list, JSON_INDENT(2), &err) == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static void print_table(const struct breaker_row *rows, size_t n)
{
    if (n > 0) {
        printf("%-40s %-9s %6s %6s %6s %9s %7s %8s\n", "SERVER", "STATE", "CALLS", "FAILED", "SLOW",
               "ASK IN", "PAUSE", "MB/S");
    }
    for (size_t i = 0; i < n; i++) {
        const struct breaker_row *r = &rows[i];
        printf("%-40s %-9s %6lld %6lld %6lld %7lld s %5lld s %8.1f\n", r->origin,
               state_name(r->state), (long long)r->calls, (long long)r->failed, (long long)r->slow,
               (long long)r->open_s, (long long)r->cool_s, (double)r->rate_bytes_s / 1e6);
    }
}

static enum bnt_status run_status(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct mirror_opts *o = opts;
    struct bnt_err err = {0};
    struct breaker *b;
    struct breaker_row *rows = NULL;
    size_t n = 0;
    (void)app, (void)argv;
    if (argc != 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt mirror status", "no operand is taken");
    }
    enum bnt_status st = open_record(&b, &err);
    if (st == BNT_OK && b) {
        st = breaker_list(b, &rows, &n, &err);
    }
    if (st != BNT_OK) {
        st = bnt_msg_error(&err);
    } else if (o->json) {
        st = print_json(rows, n);
    } else {
        print_table(rows, n);
    }
    free(rows);
    breaker_close(b);
    return st;
}

static enum bnt_status run_reset(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    struct bnt_err err = {0};
    char origin[BREAKER_ORIGIN_MAX];
    struct breaker *b;
    (void)app, (void)opts;
    if (argc > 1) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt mirror reset [URL]", "one URL at most");
    }
    enum bnt_status st = argc == 1 ? breaker_origin(argv[0], origin, &err) : BNT_OK;
    if (st != BNT_OK) {
        return bnt_msg_error(&err);
    }
    st = open_record(&b, &err);
    if (st == BNT_OK && b) {
        st = breaker_reset(b, argc == 1 ? origin : NULL, &err);
    }
    breaker_close(b);
    return st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

static const struct bnt_cmd cmd_status = {
    .name = "status",
    .synopsis = "[OPTIONS]",
    .summary = "the servers that were asked, and which of them are left alone",
    .description =
        "CALLS, FAILED and SLOW count the last five minutes. A server is open, and not asked,\n"
        "when at least ten calls were made and half of them failed or four of five were slow;\n"
        "ASK IN says for how long: 30 s at first, twice as long each time in a row, an hour at\n"
        "most. Then it is half-open: one request at a time finds out whether it is well again.\n"
        "PAUSE is what the server itself asked for (Retry-After). All processes that share a\n"
        "cache share this.",
    .examples = "  bnt mirror status           # a table\n"
                "  bnt mirror status --json    # for programs",
    .opts = status_options,
    .opts_size = sizeof(struct mirror_opts),
    .run = run_status,
};

static const struct bnt_cmd cmd_reset = {
    .name = "reset",
    .synopsis = "[URL]",
    .summary = "forget what is known about the server of a URL, or about all",
    .examples = "  bnt mirror reset                        # all of them may be asked again\n"
                "  bnt mirror reset https://example.org    # this one",
    .run = run_reset,
};

static const struct bnt_cmd *const subs[] = {&cmd_status, &cmd_reset, NULL};

const struct bnt_cmd bnt_cmd_mirror = {
    .name = "mirror",
    .synopsis = "status|reset",
    .summary = "what is known about the servers that models come from",
    .subs = subs,
};
