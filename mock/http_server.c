/* The HTTP server of tests: one request per connection, one thread per connection.
 *
 * The accept thread owns the listening socket; a connection's thread owns its socket and closes it.
 * `lock` guards the table of open sockets, the counters and the last request. stop() shuts all
 * sockets down, which wakes every thread from whatever it waits for, and waits until none is left.
 */
#include "mock/bnt_mock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mock/tls_server.h"

enum { HEAD_MAX_BYTES = 16384, MAX_CONNECTIONS = 256, CLIENT_TIMEOUT_S = 30 };

struct bnt_mock_server {
    const struct bnt_mock_route *routes;
    struct tls_server *tls; /* NULL: plain */
    int listen_fd;
    char url[64];
    pthread_t accept_thread;
    pthread_mutex_t lock;
    pthread_cond_t all_gone;
    int open_fds[MAX_CONNECTIONS];
    size_t n_open, n_requests;
    bool stopping;
    char last_request[HEAD_MAX_BYTES];
};

struct connection {
    struct bnt_mock_server *server;
    int fd;
    struct tls_conn *tls;
};

/* ---- bytes ---- */

static ssize_t conn_read(struct connection *c, void *bytes, size_t n)
{
    return c->tls ? tls_read(c->tls, bytes, n) : recv(c->fd, bytes, n, 0);
}

static bool conn_write(struct connection *c, const void *bytes, size_t n)
{
    const char *p = bytes;
    while (n > 0) {
        ssize_t w = c->tls ? tls_write(c->tls, p, n) : send(c->fd, p, n, MSG_NOSIGNAL);
        if (w <= 0) {
            return false;
        }
        p += w;
        n -= (size_t)w;
    }
    return true;
}

/* The head of a request as a string; false when the client left before its end. */
static bool read_head(struct connection *c, char head[HEAD_MAX_BYTES])
{
    size_t n = 0;
    while (n < HEAD_MAX_BYTES - 1) {
        ssize_t got = conn_read(c, head + n, HEAD_MAX_BYTES - 1 - n);
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
        head[n] = '\0';
        if (strstr(head, "\r\n\r\n")) {
            return true;
        }
    }
    return false;
}

/* ---- answers ---- */

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

/* Wait until the client gives up, or stop() ends the connection. */
static void stall(struct connection *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    while (poll(&p, 1, -1) < 0 && errno == EINTR) {
    }
}

/* Make close() send a reset: bytes that were written are on their way, nothing more follows. */
static void arm_reset(struct connection *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* Returns whether the connection should end with TLS's goodbye. */
static bool answer(struct connection *c, const struct bnt_mock_route *r)
{
    char head[2048];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d Mock\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
                     r->status, r->body_bytes, r->headers ? r->headers : "");
    if (n < 0 || n >= (int)sizeof head || !conn_write(c, head, (size_t)n)) {
        return false;
    }
    size_t body_bytes = r->body_bytes;
    if (r->fault != BNT_MOCK_NO_FAULT && r->fault_at < body_bytes) {
        body_bytes = r->fault_at;
    }
    if (!conn_write(c, r->body, body_bytes)) {
        return false;
    }
    if (r->fault == BNT_MOCK_STALL) {
        stall(c);
    } else if (r->fault == BNT_MOCK_RESET) {
        arm_reset(c);
    }
    return r->fault == BNT_MOCK_NO_FAULT;
}

/* ---- connections ---- */

static void serve(struct connection *c)
{
    struct bnt_mock_server *s = c->server;
    char head[HEAD_MAX_BYTES];
    if (s->tls) {
        c->tls = tls_accept(s->tls, c->fd);
        if (!c->tls) {
            return;
        }
    }
    bool clean = false;
    if (read_head(c, head)) {
        pthread_mutex_lock(&s->lock);
        s->n_requests++;
        memcpy(s->last_request, head, sizeof head);
        pthread_mutex_unlock(&s->lock);
        clean = answer(c, find_route(s, head));
    }
    if (c->tls) {
        tls_close(c->tls, clean);
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

static void *connection_main(void *arg)
{
    struct connection *c = arg;
    serve(c);
    leave(c->server, c->fd);
    free(c);
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
    struct connection *c = calloc(1, sizeof *c);
    pthread_t thread;
    if (c) {
        *c = (struct connection){.server = s, .fd = fd};
    }
    if (!c || pthread_create(&thread, NULL, connection_main, c) != 0) {
        free(c);
        leave(s, fd);
        return;
    }
    pthread_detach(thread);
}

static void *accept_main(void *arg)
{
    struct bnt_mock_server *s = arg;
    for (;;) {
        int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            start_connection(s, fd);
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return NULL; /* stop() shut the socket down */
        }
    }
}

/* ---- start and stop ---- */

static enum bnt_status listen_on_loopback(struct bnt_mock_server *s, struct bnt_err *err)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    s->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listen_fd < 0 || bind(s->listen_fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        listen(s->listen_fd, MAX_CONNECTIONS) != 0 ||
        getsockname(s->listen_fd, (struct sockaddr *)&at, &size) != 0) {
        return bnt_err_errno(err, "mock server: no port on 127.0.0.1");
    }
    snprintf(s->url, sizeof s->url, "http%s://127.0.0.1:%u", s->tls ? "s" : "",
             (unsigned)ntohs(at.sin_port));
    return BNT_OK;
}

/* The server's threads take no signals: those are for the program, and SIGPIPE for nobody. */
static enum bnt_status start_accepting(struct bnt_mock_server *s, struct bnt_err *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errno = pthread_create(&s->accept_thread, NULL, accept_main, s);
    enum bnt_status st =
        errno == 0 ? BNT_OK : bnt_err_errno(err, "mock server: cannot start a thread");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return st;
}

static void release(struct bnt_mock_server *s)
{
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
    }
    tls_server_free(s->tls);
    pthread_cond_destroy(&s->all_gone);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

enum bnt_status bnt_mock_server_start(const struct bnt_mock_route *routes,
                                      const char *certificate_path, struct bnt_mock_server **out,
                                      struct bnt_err *err)
{
    *out = NULL;
    struct bnt_mock_server *s = calloc(1, sizeof *s);
    if (!s) {
        return bnt_err_nomem(err, "mock server", sizeof *s);
    }
    s->routes = routes;
    s->listen_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->all_gone, NULL);
    enum bnt_status st = certificate_path ? tls_server_new(certificate_path, &s->tls, err) : BNT_OK;
    if (st == BNT_OK) {
        st = listen_on_loopback(s, err);
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

const char *bnt_mock_server_url(const struct bnt_mock_server *s)
{
    return s->url;
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
