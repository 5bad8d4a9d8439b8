/* The life of a server.
 *
 *   listen ─► answer ... ─► (interrupted) ─► no new connections ─► wait for what runs ─► end
 *                                                                  at most grace_s
 *
 * Invariants:
 *   1. Every connection has its own thread, so that one that expands a compressed model or writes
 *      to a slow disk keeps nobody waiting. A request has its own handle of the cache: handles are
 *      single-threaded.
 *   2. A blob that is being sent is leased: its file descriptor is the lease, and libmicrohttpd
 *      closes it with the answer.
 *   3. No thread of the server takes a signal: those are for the program. */
#include "fetch/serve.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/serve_impl.h"

enum { BACKLOG = 128, POLL_MS = 100, CONNECTION_BYTES = 256 << 10, LINE_MAX_BYTES = 1024 };

/* ---- where ---- */

/* "ADDRESS:PORT", "[::1]:PORT" in two parts. A port past 65535 would be taken modulo 65536. */
static bool split_listen(const char *text, char host[256], char port[16])
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    if (!colon || n == 0 || n >= 256 || strlen(colon + 1) == 0 || strlen(colon + 1) >= 16 ||
        strtoull(colon + 1, NULL, 10) > UINT16_MAX) {
        return false;
    }
    if (text[0] == '[' && text[n - 1] == ']') {
        text++;
        n -= 2;
    }
    snprintf(host, 256, "%.*s", (int)n, text);
    snprintf(port, 16, "%s", colon + 1);
    return true;
}

static enum bnt_status listen_on(struct server *s, const struct addrinfo *a, struct bnt_err *err)
{
    const int on = 1;
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    char host[96], port[16];
    s->listen_fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listen_fd < 0 ||
        setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(s->listen_fd, a->ai_addr, a->ai_addrlen) != 0 || listen(s->listen_fd, BACKLOG) != 0 ||
        getsockname(s->listen_fd, (struct sockaddr *)&at, &size) != 0) {
        enum bnt_status st = bnt_err_errno(err, "cannot listen on %s", s->opts->listen);
        bnt_err_hint(err,
                     "choose another address or port: --listen ADDRESS:PORT; 0 is a free port");
        return st;
    }
    if (getnameinfo((struct sockaddr *)&at, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return bnt_err_set(err, BNT_E_FAILED, "the address of the server has no text");
    }
    bool v6 = strchr(host, ':') != NULL;
    snprintf(s->url, sizeof s->url, "http://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", port);
    return BNT_OK;
}

static enum bnt_status begin_listening(struct server *s, struct bnt_err *err)
{
    char host[256], port[16];
    struct addrinfo *found = NULL;
    const struct addrinfo how = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int rc = split_listen(s->opts->listen, host, port) ? getaddrinfo(host, port, &how, &found)
                                                       : EAI_NONAME;
    if (rc != 0) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_USAGE, "'%.100s' is no address to listen on: %s",
                        s->opts->listen, gai_strerror(rc));
        bnt_err_hint(err, "write ADDRESS:PORT, for example 127.0.0.1:8417 or [::1]:8417");
        return st;
    }
    enum bnt_status st = listen_on(s, found, err);
    freeaddrinfo(found);
    return st;
}

/* ---- requests ---- */

static struct request *new_request(struct server *s, struct MHD_Connection *c, const char *path,
                                   const char *method)
{
    struct request *q = calloc(1, sizeof *q);
    if (q) {
        q->server = s;
        q->connection = c;
        q->route = serve_route(path);
        q->temp.fd = -1;
        q->began_ns = bnt_clock_now_ns();
        snprintf(q->method, sizeof q->method, "%s", method);
        snprintf(q->path, sizeof q->path, "%s", path);
        __atomic_fetch_add(&s->n_running, 1, __ATOMIC_SEQ_CST);
    }
    return q;
}

/* Called for the head, for each piece of a body, and at its end. */
static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *path,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *n, void **own)
{
    struct request *q = *own;
    (void)version;
    if (!q) {
        q = new_request(ctx, c, path, method);
        *own = q;
        if (!q) {
            return MHD_NO;
        }
        return strcmp(method, "PUT") == 0 ? serve_put_begin(q) : MHD_YES;
    }
    if (*n > 0) {
        serve_put_bytes(q, bytes, *n); /* of any other method nothing is kept */
        *n = 0;
        return MHD_YES;
    }
    if (q->code != 0) {
        return MHD_YES;
    }
    return q->taking ? serve_put_end(q) : serve_answer(q);
}

static void client_of(const struct request *q, char out[96])
{
    const union MHD_ConnectionInfo *info =
        q->server->lib->connection_info(q->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    snprintf(out, 96, "?");
    if (info && info->client_addr) {
        socklen_t size = info->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                                  : sizeof(struct sockaddr_in);
        (void)getnameinfo(info->client_addr, size, out, 96, NULL, 0, NI_NUMERICHOST);
    }
}

static void on_end(void *ctx, struct MHD_Connection *c, void **own,
                   enum MHD_RequestTerminationCode how)
{
    struct server *s = ctx;
    struct request *q = *own;
    char line[LINE_MAX_BYTES], client[96];
    (void)c;
    if (!q) {
        return;
    }
    serve_put_release(q);
    bnt_cache_close(q->cache);
    if (s->opts->served) {
        client_of(q, client);
        snprintf(line, sizeof line, "%s %s %s %u %llu bytes %llu ms%s%s%.200s", client, q->method,
                 q->path, q->code, (unsigned long long)q->bytes,
                 (unsigned long long)((bnt_clock_now_ns() - q->began_ns) / 1000000),
                 how == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : " cut",
                 q->why.msg[0] ? ": " : "", q->why.msg);
        s->opts->served(s->opts->ctx, line);
    }
    __atomic_fetch_sub(&s->n_running, 1, __ATOMIC_SEQ_CST);
    free(q);
    *own = NULL;
}

/* ---- begin and end ---- */

/* Paths are compared as they came: nothing that we have needs an escape. */
static size_t keep_escapes(void *ctx, struct MHD_Connection *c, char *text)
{
    (void)ctx, (void)c;
    return strlen(text);
}

static enum bnt_status start(struct server *s, struct bnt_err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->daemon = s->lib->start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL |
            MHD_USE_ITC,
        0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, s->listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, s->opts->connections, MHD_OPTION_CONNECTION_TIMEOUT,
        s->opts->timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_end, s,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->daemon ? BNT_OK : bnt_err_set(err, BNT_E_FAILED, "the server cannot be started");
}

/* Until a signal, or for at most so long until nothing runs; a signal ends a wait at once. */
static void wait_for_signal(const struct server *s)
{
    while (!*s->opts->interrupted) {
        (void)poll(NULL, 0, POLL_MS);
    }
}

static unsigned running(struct server *s)
{
    return __atomic_load_n(&s->n_running, __ATOMIC_SEQ_CST);
}

static bool wait_for_transfers(struct server *s)
{
    uint64_t end_ns = bnt_clock_now_ns() + s->opts->grace_s * UINT64_C(1000000000);
    while (running(s) > 0 && bnt_clock_now_ns() < end_ns) {
        (void)poll(NULL, 0, POLL_MS / 10);
    }
    return running(s) == 0;
}

enum bnt_status serve(const struct bnt_serve_opts *opts, struct bnt_err *err)
{
    struct server s = {.opts = opts, .listen_fd = -1};
    bool complete = true;
    enum bnt_status st = mhd_lib_load(&s.lib, err);
    if (st == BNT_OK) {
        st = begin_listening(&s, err);
    }
    if (st == BNT_OK) {
        st = start(&s, err);
    }
    if (st == BNT_OK) {
        st = opts->ready(opts->ctx, s.url, err);
        if (st == BNT_OK) {
            wait_for_signal(&s);
        }
        __atomic_store_n(&s.ending, true, __ATOMIC_SEQ_CST);
        (void)s.lib->quiesce_daemon(s.daemon);
        complete = wait_for_transfers(&s);
        s.lib->stop_daemon(s.daemon);
    }
    if (s.listen_fd >= 0) {
        close(s.listen_fd);
    }
    return st == BNT_OK && !complete
               ? bnt_err_set(err, BNT_E_INTERRUPTED, "transfers were cut after %u s", opts->grace_s)
               : st;
}
