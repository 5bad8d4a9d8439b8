/* The HTTP server of tests: one request per connection, one thread per connection.
 *
 * The accept thread owns the listening socket; a connection's thread owns its socket and closes it.
 * `lock` guards the table of open sockets, the counters and the log. stop() shuts all sockets down,
 * which wakes every thread from whatever it waits for, and waits until none is left. What an answer
 * is made of is in http_reply.c.
 */
#include "mock/bnt_mock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/thread.h"
#include "mock/http_reply.h"
#include "mock/tls_server.h"

enum {
    HEAD_MAX_BYTES = 16384,
    BODY_KEPT_BYTES = 16384,
    MAX_CONNECTIONS = 256,
    CLIENT_TIMEOUT_S = 30,
    RETRY_MS = 10
};
#define BODY_MAX_BYTES (64u << 20) /* of a request; more is not read */

struct bnt_mock_server {
    struct bnt_mock_server_options options;
    const struct bnt_mock_route *routes;
    struct tls_server *tls; /* NULL: plain */
    int listen_fd;
    char url[64];
    pthread_t accept_thread;
    pthread_mutex_t lock;
    pthread_cond_t all_gone;
    int open_fds[MAX_CONNECTIONS];
    size_t n_open, n_requests;
    uint64_t body_bytes;
    size_t *played; /* per route: steps that were taken */
    bool stopping;
    char *log[BNT_MOCK_LOG_MAX]; /* heads; NULL from n_requests on */
    char last_request[HEAD_MAX_BYTES];
    char last_body[BODY_KEPT_BYTES];
};

/* As strings, each cut to its size. */
struct request {
    char head[HEAD_MAX_BYTES];
    char body[BODY_KEPT_BYTES];
};

/* ---- requests ---- */

/* What a client sends besides the head: read to its end, so that closing the connection does not
 * reset it under the answer; `got` bytes of it are in r->body. */
static void read_body(struct reply_conn *c, struct request *r, size_t got)
{
    static const char name[] = "\r\nContent-Length:";
    const char *line = strcasestr(r->head, name);
    unsigned long long left = line ? strtoull(line + sizeof name - 1, NULL, 10) : 0;
    char bytes[4096];
    left = left < BODY_MAX_BYTES ? left : BODY_MAX_BYTES;
    while (left > got) {
        ssize_t n = reply_read(c, bytes, sizeof bytes);
        if (n <= 0) {
            return;
        }
        if (got + (size_t)n < BODY_KEPT_BYTES) {
            memcpy(r->body + got, bytes, (size_t)n);
            r->body[got + (size_t)n] = '\0';
        }
        got += (size_t)n;
    }
}

/* False when the client left before the end of the head. */
static bool read_request(struct reply_conn *c, struct request *r)
{
    size_t n = 0;
    r->body[0] = '\0';
    while (n < HEAD_MAX_BYTES - 1) {
        ssize_t got = reply_read(c, r->head + n, HEAD_MAX_BYTES - 1 - n);
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
        r->head[n] = '\0';
        char *end = strstr(r->head, "\r\n\r\n");
        if (end) {
            const size_t more = n - (size_t)(end + 4 - r->head);
            memcpy(r->body, end + 4, more + 1);
            end[4] = '\0';
            read_body(c, r, more);
            return true;
        }
    }
    return false;
}

/* The route for "GET /path HTTP/1.1"; an unknown path leads to a 404 without a body. */
static const struct bnt_mock_route *find_route(const struct bnt_mock_server *s, const char *head)
{
    static const struct bnt_mock_route not_found = {.path = "", .status = 404};
    const char *path = strchr(head, ' ');
    if (!path) {
        return &not_found;
    }
    path++;
    size_t n = strcspn(path, " \r\n");
    for (const struct bnt_mock_route *r = s->routes; r->path; r++) {
        if (strlen(r->path) == n && memcmp(r->path, path, n) == 0) {
            return r;
        }
    }
    return &not_found;
}

/* Note a request, and take the step that is due. Returns its number. */
static size_t note_request(struct bnt_mock_server *s, const struct bnt_mock_route *r,
                           const struct request *request, struct bnt_mock_step *step)
{
    pthread_mutex_lock(&s->lock);
    if (s->n_requests < BNT_MOCK_LOG_MAX) {
        s->log[s->n_requests] = strdup(request->head);
    }
    size_t number = ++s->n_requests;
    snprintf(s->last_request, sizeof s->last_request, "%s", request->head);
    snprintf(s->last_body, sizeof s->last_body, "%s", request->body);
    *step = (struct bnt_mock_step){.status = r->status, .fault = r->fault, .fault_at = r->fault_at};
    if (r->steps) {
        size_t *played = &s->played[r - s->routes];
        *step = r->steps[*played];
        *played += r->steps[*played + 1].status != 0 && !BNT_FAULT(mock_step);
    }
    pthread_mutex_unlock(&s->lock);
    return number;
}

/* ---- connections ---- */

static void serve(struct bnt_mock_server *s, int fd)
{
    struct request request;
    const char *head = request.head;
    struct reply_conn c = {.fd = fd};
    if (s->tls) {
        c.tls = tls_accept(s->tls, fd);
        if (!c.tls) {
            return;
        }
    }
    bool clean = false;
    if (read_request(&c, &request)) {
        pthread_mutex_lock(&s->lock);
        const struct bnt_mock_route *r = find_route(s, head);
        pthread_mutex_unlock(&s->lock);
        struct bnt_mock_step step;
        size_t number = note_request(s, r, &request, &step);
        clean = !step.no_answer && reply_send(&c, r, &step, head);
        struct bnt_mock_served served = {number, head, c.status, step.fault, c.body_bytes};
        pthread_mutex_lock(&s->lock);
        s->body_bytes += c.body_bytes;
        if (s->options.on_served) {
            s->options.on_served(s->options.ctx, &served);
        }
        pthread_mutex_unlock(&s->lock);
    }
    if (c.tls) {
        tls_close(c.tls, clean);
    }
}

/* Note an open socket; false when the table is full or the server stops. */
static bool enter(struct bnt_mock_server *s, int fd)
{
    pthread_mutex_lock(&s->lock);
    bool ok = !s->stopping && s->n_open < MAX_CONNECTIONS;
    if (ok) {
        s->open_fds[s->n_open++] = fd;
    }
    pthread_mutex_unlock(&s->lock);
    return ok;
}

/* Forget a socket and close it, in one step: its number may be in use again right after. */
static void leave(struct bnt_mock_server *s, int fd)
{
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_open; i++) {
        if (s->open_fds[i] == fd) {
            s->open_fds[i] = s->open_fds[--s->n_open];
            break;
        }
    }
    close(fd);
    pthread_cond_signal(&s->all_gone);
    pthread_mutex_unlock(&s->lock);
}

/* A connection on its way to its thread, which frees it. */
struct accepted {
    struct bnt_mock_server *server;
    int fd;
};

static void *connection_main(void *arg)
{
    struct accepted *a = arg;
    serve(a->server, a->fd);
    leave(a->server, a->fd);
    free(a);
    return NULL;
}

static void start_connection(struct bnt_mock_server *s, int fd)
{
    struct timeval limit = {.tv_sec = CLIENT_TIMEOUT_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (!enter(s, fd)) {
        close(fd);
        return;
    }
    struct accepted *a = calloc(1, sizeof *a);
    pthread_t thread;
    if (a) {
        *a = (struct accepted){.server = s, .fd = fd};
    }
    if (!a || pthread_create(&thread, NULL, connection_main, a) != 0) {
        free(a);
        leave(s, fd);
        return;
    }
    pthread_detach(thread);
}

/* stop() has shut the listening socket down. */
static bool stops(struct bnt_mock_server *s)
{
    pthread_mutex_lock(&s->lock);
    bool stopping = s->stopping;
    pthread_mutex_unlock(&s->lock);
    return stopping;
}

static void *accept_main(void *arg)
{
    struct bnt_mock_server *s = arg;
    while (!stops(s)) {
        int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            start_connection(s, fd);
        } else if (errno != EINTR && errno != ECONNABORTED) { /* of descriptors there may be more */
            (void)poll(NULL, 0, RETRY_MS);
        }
    }
    return NULL;
}

/* ---- start and stop ---- */

static enum bnt_status listen_at(struct bnt_mock_server *s, struct bnt_err *err)
{
    const char *address = s->options.address ? s->options.address : "127.0.0.1";
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(s->options.port)};
    socklen_t size = sizeof at;
    int yes = 1;
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1) {
        return bnt_err_set(err, BNT_E_USAGE, "mock server: %s is no IPv4 address", address);
    }
    s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listen_fd < 0 ||
        setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
        bind(s->listen_fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(s->listen_fd, MAX_CONNECTIONS) != 0 ||
        getsockname(s->listen_fd, (struct sockaddr *)&at, &size) != 0) {
        return bnt_err_errno(err, "mock server: cannot listen on %s port %u", address,
                             (unsigned)s->options.port);
    }
    snprintf(s->url, sizeof s->url, "http%s://%s:%u", s->tls ? "s" : "", address,
             (unsigned)ntohs(at.sin_port));
    return BNT_OK;
}

/* The server's threads take no signals: those are for the program, and SIGPIPE for nobody. */
static enum bnt_status start_accepting(struct bnt_mock_server *s, struct bnt_err *err)
{
    errno = bnt_thread_start(&s->accept_thread, accept_main, s);
    return errno == 0 ? BNT_OK : bnt_err_errno(err, "mock server: cannot start a thread");
}

static void release(struct bnt_mock_server *s)
{
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
    }
    tls_server_free(s->tls);
    for (size_t i = 0; i < BNT_MOCK_LOG_MAX; i++) {
        free(s->log[i]);
    }
    free(s->played);
    pthread_cond_destroy(&s->all_gone);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

enum bnt_status bnt_mock_server_start_with(const struct bnt_mock_server_options *o,
                                           struct bnt_mock_server **out, struct bnt_err *err)
{
    *out = NULL;
    struct bnt_mock_server *s = calloc(1, sizeof *s);
    if (!s) {
        return bnt_err_nomem(err, "mock server", sizeof *s);
    }
    s->options = *o;
    s->routes = o->routes;
    s->listen_fd = -1;
    size_t n_routes = 0;
    while (s->routes[n_routes].path) {
        n_routes++;
    }
    s->played = calloc(n_routes + 1, sizeof *s->played);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->all_gone, NULL);
    enum bnt_status st =
        s->played ? BNT_OK : bnt_err_nomem(err, "mock server", n_routes * sizeof *s->played);
    if (st == BNT_OK && o->certificate_path) {
        st = tls_server_new(o->certificate_path, &s->tls, err);
    }
    if (st == BNT_OK) {
        st = listen_at(s, err);
    }
    if (st == BNT_OK) {
        st = start_accepting(s, err);
    }
    if (st != BNT_OK) {
        release(s);
        return st;
    }
    *out = s;
    return BNT_OK;
}

enum bnt_status bnt_mock_server_start(const struct bnt_mock_route *routes,
                                      const char *certificate_path, struct bnt_mock_server **out,
                                      struct bnt_err *err)
{
    struct bnt_mock_server_options o = {.routes = routes, .certificate_path = certificate_path};
    return bnt_mock_server_start_with(&o, out, err);
}

void bnt_mock_server_stop(struct bnt_mock_server *s)
{
    if (!s) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_mutex_unlock(&s->lock);
    shutdown(s->listen_fd, SHUT_RDWR);
    pthread_join(s->accept_thread, NULL);
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n_open; i++) {
        shutdown(s->open_fds[i], SHUT_RDWR);
    }
    while (s->n_open > 0) {
        pthread_cond_wait(&s->all_gone, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    release(s);
}

const char *bnt_mock_fault_name(enum bnt_mock_fault fault)
{
    static const char *const names[] = {"none", "close",   "reset", "stall",
                                        "flip", "trickle", "loris"};
    return names[fault];
}

const char *bnt_mock_server_url(const struct bnt_mock_server *s)
{
    return s->url;
}

void bnt_mock_server_hold(struct bnt_mock_server *s)
{
    pthread_mutex_lock(&s->lock);
}

void bnt_mock_server_go_on(struct bnt_mock_server *s)
{
    pthread_mutex_unlock(&s->lock);
}

size_t bnt_mock_server_requests(struct bnt_mock_server *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->n_requests;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void bnt_mock_server_last_request(struct bnt_mock_server *s, char *out, size_t size)
{
    pthread_mutex_lock(&s->lock);
    snprintf(out, size, "%s", s->last_request);
    pthread_mutex_unlock(&s->lock);
}

void bnt_mock_server_last_body(struct bnt_mock_server *s, char *out, size_t size)
{
    pthread_mutex_lock(&s->lock);
    snprintf(out, size, "%s", s->last_body);
    pthread_mutex_unlock(&s->lock);
}

void bnt_mock_server_request(struct bnt_mock_server *s, size_t k, char *out, size_t size)
{
    pthread_mutex_lock(&s->lock);
    const char *head = k < BNT_MOCK_LOG_MAX ? s->log[k] : NULL;
    snprintf(out, size, "%s", head ? head : "");
    pthread_mutex_unlock(&s->lock);
}

uint64_t bnt_mock_server_body_bytes(struct bnt_mock_server *s)
{
    pthread_mutex_lock(&s->lock);
    uint64_t n = s->body_bytes;
    pthread_mutex_unlock(&s->lock);
    return n;
}
