/* `bnt cache serve`: this cache as the mirror of other machines. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/app.h"
#include "base/msg.h"
#include "base/opt.h"
#include "cache/cmd_cache_impl.h"

enum { TOKENS_MAX = 32, TOKEN_FILE_MAX_BYTES = 64 << 10, TOKEN_MIN_CHARS = 16 };

struct serve_cmd_opts {
    const char *listen, *token_file;
    int64_t connections, timeout_s, grace_s;
    bool writable, is_private, verbose;
};

static const struct bnt_opt serve_options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "listen",
     .arg = "ADDRESS:PORT",
     .help = "where to listen; port 0 is a free one. Only this machine reaches the default",
     .offset = offsetof(struct serve_cmd_opts, listen),
     .def = "127.0.0.1:8417"},
    {.kind = BNT_OPT_FLAG,
     .long_name = "writable",
     .help = "take models by PUT from who has a token: a cold tier for others (bnt cache push)",
     .offset = offsetof(struct serve_cmd_opts, writable)},
    {.kind = BNT_OPT_STR,
     .long_name = "token-file",
     .arg = "FILE",
     .help = "tokens, one a line, of 16 characters or more [the token in BNT_CACHE_TOKEN]",
     .offset = offsetof(struct serve_cmd_opts, token_file)},
    {.kind = BNT_OPT_FLAG,
     .long_name = "private",
     .help = "who reads needs a token, too",
     .offset = offsetof(struct serve_cmd_opts, is_private)},
    {.kind = BNT_OPT_INT,
     .long_name = "connections",
     .arg = "N",
     .help = "at most so many at a time",
     .offset = offsetof(struct serve_cmd_opts, connections),
     .def = "64",
     .min = 1,
     .max = 1024},
    {.kind = BNT_OPT_INT,
     .long_name = "timeout",
     .arg = "SECONDS",
     .help = "close a connection that is silent for so long",
     .offset = offsetof(struct serve_cmd_opts, timeout_s),
     .def = "30",
     .min = 1,
     .max = 3600},
    {.kind = BNT_OPT_INT,
     .long_name = "grace",
     .arg = "SECONDS",
     .help = "at the end, how long running transfers may take to finish",
     .offset = offsetof(struct serve_cmd_opts, grace_s),
     .def = "10",
     .min = 0,
     .max = 3600},
    {.kind = BNT_OPT_FLAG,
     .short_name = 'v',
     .long_name = "verbose",
     .help = "a line on standard error for every request",
     .offset = offsetof(struct serve_cmd_opts, verbose)},
    BNT_OPT_END,
};

/* Scripts wait for this line, so it must not stay in a buffer. */
static enum bnt_status show_url(void *ctx, const char *url, struct bnt_err *err)
{
    char line[256];
    (void)ctx;
    const int n = snprintf(line, sizeof line, "%s\n", url);
    return bnt_msg_write(line, (size_t)n, err);
}

static void show_request(void *ctx, const char *line)
{
    (void)ctx;
    bnt_msg_note("%s", line);
}

/* ---- tokens ---- */

struct tokens {
    struct bnt_buf text; /* owns them */
    const char *at[TOKENS_MAX];
    size_t n;
};

static enum bnt_status add_token(struct tokens *t, const char *token, struct bnt_err *err)
{
    if (t->n == TOKENS_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "at most %d tokens", TOKENS_MAX);
    }
    if (strlen(token) < TOKEN_MIN_CHARS || strpbrk(token, " \t")) {
        enum bnt_status st = bnt_err_set(err, BNT_E_USAGE,
                                         "a token has at least %d characters and "
                                         "no blanks",
                                         TOKEN_MIN_CHARS);
        bnt_err_hint(err, "make one: openssl rand -hex 32");
        return st;
    }
    t->at[t->n++] = token;
    return BNT_OK;
}

static enum bnt_status read_tokens(struct tokens *t, const char *path, struct bnt_err *err)
{
    const char *given = getenv("BNT_CACHE_TOKEN");
    if (!path) {
        return given && given[0] ? add_token(t, given, err) : BNT_OK;
    }
    enum bnt_status st = bnt_file_read(path, &t->text, err);
    char *rest = st == BNT_OK ? t->text.data : NULL;
    for (char *line; st == BNT_OK && (line = strsep(&rest, "\r\n"));) {
        st = line[0] ? add_token(t, line, err) : BNT_OK;
    }
    if (st == BNT_OK && t->n == 0) {
        st = bnt_err_set(err, BNT_E_USAGE, "%s has no token", path);
    }
    return st;
}

static enum bnt_status run_serve(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct serve_cmd_opts *o = opts;
    struct bnt_err err = {0};
    struct tokens tokens = {.text = BNT_BUF(TOKEN_FILE_MAX_BYTES)};
    if (argc > 0) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt cache serve [--listen ADDRESS:PORT]",
                            "unexpected operand: %s", argv[0]);
    }
    enum bnt_status st = read_tokens(&tokens, o->token_file, &err);
    if (st == BNT_OK && (o->writable || o->is_private) && tokens.n == 0) {
        st = bnt_err_set(&err, BNT_E_USAGE, "--writable and --private need a token");
        bnt_err_hint(&err, "set BNT_CACHE_TOKEN, or give --token-file FILE");
    }
    if (st == BNT_OK) {
        const struct bnt_serve_opts serve = {
            .listen = o->listen,
            .tokens = tokens.at,
            .n_tokens = tokens.n,
            .writable = o->writable,
            .is_private = o->is_private,
            .connections = (unsigned)o->connections,
            .timeout_s = (unsigned)o->timeout_s,
            .grace_s = (unsigned)o->grace_s,
            .interrupted = app->interrupted,
            .ready = show_url,
            .served = o->verbose || bnt_msg_level() == BNT_MSG_VERBOSE ? show_request : NULL,
        };
        st = app->network->serve(&serve, &err);
    }
    bnt_buf_release(&tokens.text);
    return st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

const struct bnt_cmd cmd_cache_serve = {
    .name = "serve",
    .synopsis = "[OPTIONS]",
    .summary = "let other machines fetch from this cache",
    .description =
        "Serves models by their digest over http: set BNT_MIRROR=URL on the other machines, and\n"
        "bnt fetch asks here first for whatever has a known digest. They trust nothing but the\n"
        "digest. The URL is printed on standard output as soon as the server answers.\n"
        "\n"
        "SIGINT and SIGTERM end it: no new connection is taken, running transfers get --grace\n"
        "seconds. Exit code 0 when all came to their end, 130 when some were cut. A second\n"
        "signal ends it at once.",
    .examples = "  bnt cache serve                                  # for this machine\n"
                "  bnt cache serve --listen 0.0.0.0:8417            # for the network\n"
                "  BNT_CACHE_TOKEN=$T bnt cache serve --writable    # and a cold tier for others",
    .opts = serve_options,
    .opts_size = sizeof(struct serve_cmd_opts),
    .run = run_serve,
};
