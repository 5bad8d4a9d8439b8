/* bnt mock server: the fault-injecting HTTP server for anybody's tests. */
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "base/file.h"
#include "base/json_load.h"
#include "base/msg.h"
#include "mock/bnt_mock.h"
#include "mock/cmd_mock_impl.h"
#include "mock/server_script.h"

struct server_opts {
    const char *script, *listen, *certificate, *log;
};

static const struct bnt_opt options[] = {
    {.kind = BNT_OPT_STR,
     .long_name = "script",
     .arg = "FILE",
     .help = "routes, and what each answers: YAML or JSON, see docs/mock.md",
     .offset = offsetof(struct server_opts, script)},
    {.kind = BNT_OPT_STR,
     .long_name = "listen",
     .arg = "ADDRESS:PORT",
     .help = "where; port 0 is a free one",
     .offset = offsetof(struct server_opts, listen),
     .def = "127.0.0.1:0"},
    {.kind = BNT_OPT_STR,
     .long_name = "certificate",
     .arg = "FILE",
     .help = "speak TLS, and write the certificate for it here (the client's SSL_CERT_FILE)",
     .offset = offsetof(struct server_opts, certificate)},
    {.kind = BNT_OPT_STR,
     .long_name = "log",
     .arg = "FILE",
     .help = "a JSON line for each request once it is answered; - is stdout",
     .offset = offsetof(struct server_opts, log)},
    BNT_OPT_END,
};

/* ---- the log ---- */

static json_t *headers_of(const char *head)
{
    json_t *o = json_object();
    for (const char *at = strstr(head, "\r\n"); at && at[2] && at[2] != '\r';
         at = strstr(at + 2, "\r\n")) {
        const char *line = at + 2, *colon = strchr(line, ':'), *end = strstr(line, "\r\n");
        if (colon && end && colon < end) {
            const char *value = colon + 1 + strspn(colon + 1, " ");
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)(colon - line), line);
            json_object_set_new(o, name, bnt_json_bytes(value, (size_t)(end - value)));
        }
    }
    return o;
}

/* The first failure ends the log: lines behind a gap would be taken for all there were. */
struct log {
    int fd; /* STDOUT_FILENO, or a file's */
    const char *path;
    enum bnt_status status;
    struct bnt_err err;
};

static void log_request(void *ctx, const struct bnt_mock_served *served)
{
    struct log *log = ctx;
    size_t method = strcspn(served->head, " ");
    const char *path = served->head + method + (served->head[method] == ' ');
    json_t *o = json_pack("{s:i, s:o, s:o, s:i, s:s, s:I, s:o}", "n", (int)served->n, "method",
                          bnt_json_bytes(served->head, method), "path",
                          bnt_json_bytes(path, strcspn(path, " \r\n")), "status", served->status,
                          "fault", bnt_mock_fault_name(served->fault), "body_bytes",
                          (json_int_t)served->body_bytes, "headers", headers_of(served->head));
    char *text = o ? bnt_json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    if (!text && log->status == BNT_OK) {
        log->status = bnt_err_nomem(&log->err, "a line of the log", 0);
    }
    if (log->status == BNT_OK) {
        log->status = bnt_write_all(log->fd, text, strlen(text), log->path, &log->err);
    }
    if (log->status == BNT_OK) {
        log->status = bnt_write_all(log->fd, "\n", 1, log->path, &log->err);
    }
    free(text);
    json_decref(o);
}

static enum bnt_status open_log(struct log *log, const char *path, struct bnt_err *err)
{
    const bool out = strcmp(path, "-") == 0;
    log->path = out ? "standard output" : path;
    log->fd = out ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    return log->fd < 0 ? bnt_err_errno(err, "cannot write %s", path) : BNT_OK;
}

static enum bnt_status close_log(struct log *log, struct bnt_err *err)
{
    if (log->fd > STDOUT_FILENO && close(log->fd) != 0 && log->status == BNT_OK) {
        log->status = bnt_err_errno(&log->err, "cannot write %s", log->path);
    }
    return log->status == BNT_OK ? BNT_OK : bnt_err_copy(err, &log->err);
}

/* ---- running ---- */

/* "ADDRESS:PORT", "ADDRESS" or "PORT" alone. */
static enum bnt_status parse_listen(const char *text, char address[64], uint16_t *port,
                                    struct bnt_err *err)
{
    const char *colon = strrchr(text, ':');
    bool number = !colon && strspn(text, "0123456789") == strlen(text);
    const char *digits = colon ? colon + 1 : number ? text : "0";
    char *end;
    long v = strtol(digits, &end, 10);
    if (!digits[0] || *end || v < 0 || v > 65535) {
        return bnt_err_set(err, BNT_E_USAGE, "--listen %s: the port is no number up to 65535",
                           text);
    }
    *port = (uint16_t)v;
    size_t n = colon ? (size_t)(colon - text) : number ? 0 : strlen(text);
    snprintf(address, 64, "%.*s", n ? (int)n : 9, n ? text : "127.0.0.1");
    return BNT_OK;
}

/* Until one of the signals that ask for an end, which are blocked but while this waits. */
static void wait_for_signal(const struct bnt_app *app, const sigset_t *before)
{
    while (!*app->interrupted) {
        sigsuspend(before);
    }
}

/* Nobody can ask a server whose address was not told. */
static enum bnt_status tell_address(const struct bnt_mock_server *server, struct bnt_err *err)
{
    char line[256];
    const int n = snprintf(line, sizeof line, "%s\n", bnt_mock_server_url(server));
    return bnt_msg_write(line, (size_t)n, err);
}

static enum bnt_status serve(const struct bnt_app *app, const struct server_opts *o,
                             const struct bnt_mock_server_options *so, struct bnt_err *err)
{
    struct bnt_mock_server *server;
    sigset_t ending, before;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGHUP);
    sigprocmask(SIG_BLOCK, &ending, &before);
    struct log log = {.fd = -1};
    enum bnt_status st = o->log ? open_log(&log, o->log, err) : BNT_OK;
    struct bnt_mock_server_options logged = *so;
    logged.on_served = o->log ? log_request : NULL;
    logged.ctx = &log;
    if (st == BNT_OK) {
        st = bnt_mock_server_start_with(&logged, &server, err);
    }
    if (st == BNT_OK) {
        st = tell_address(server, err);
        if (st == BNT_OK) {
            wait_for_signal(app, &before);
        }
        bnt_mock_server_stop(server);
    }
    if (st == BNT_OK) {
        st = close_log(&log, err);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return st;
}

static enum bnt_status run(struct bnt_app *app, const void *opts, int argc, char **argv)
{
    const struct server_opts *o = opts;
    struct bnt_err err = {0};
    struct server_script *script = NULL;
    char address[64];
    if (argc > 0 || !o->script) {
        return bnt_msg_fail(BNT_E_USAGE, "write: bnt mock server --script FILE", "%s%s",
                            argc > 0 ? "unexpected operand " : "which script?",
                            argc > 0 ? argv[0] : "");
    }
    struct bnt_mock_server_options so = {.certificate_path = o->certificate, .address = address};
    enum bnt_status st = parse_listen(o->listen, address, &so.port, &err);
    if (st == BNT_OK) {
        st = server_script_open(o->script, &script, &err);
    }
    if (st == BNT_OK) {
        so.routes = server_script_routes(script);
        st = serve(app, o, &so, &err);
    }
    server_script_close(script);
    return st == BNT_OK ? BNT_OK : bnt_msg_error(&err);
}

const struct bnt_cmd mock_cmd_server = {
    .name = "server",
    .synopsis = "--script FILE [OPTIONS]",
    .summary = "an HTTP server that misbehaves as its script says",
    .description =
        "Its address is the one line on stdout; SIGTERM or Ctrl-C ends it with exit code 0. A path "
        "that the script has not is a 404. Every answer closes its connection; a route with an "
        "etag "
        "answers ranges.",
    .examples =
        "  bnt mock server --script routes.yml                       # prints "
        "http://127.0.0.1:PORT\n"
        "  bnt mock server --script routes.yml --log - --listen 8080 # and a line for each request",
    .opts = options,
    .opts_size = sizeof(struct server_opts),
    .run = run,
};
