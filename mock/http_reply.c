/* What one request gets: the range that it asks for, and the fault that the step wants.
 *
 * Time here is real time, taken by waiting on the socket: the clock of the process may be a fake
 * that belongs to the client under test. */
#include "mock/http_reply.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

#include "base/fault.h"

enum { HEAD_BYTES = 2048, TRICKLE_MS = 100, PACE_MS = 20, BLOCK_BYTES = 65536 };

/* The answer before faults. */
struct plan {
    int status;
    const char *body, *etag;
    size_t file_bytes, begin, bytes; /* the part of the file that is the body */
    bool range;
};

/* ---- bytes ---- */

ssize_t reply_read(struct reply_conn *c, void *bytes, size_t n)
{
    return c->tls ? tls_read(c->tls, bytes, n) : recv(c->fd, bytes, n, 0);
}

static bool send_all(struct reply_conn *c, const void *bytes, size_t n)
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

/* Wait for so long (-1: for ever) or until the client leaves or stop() ends the connection; false
 * then. */
static bool linger(const struct reply_conn *c, int ms)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};
    int n;
    while ((n = poll(&p, 1, ms)) < 0 && errno == EINTR) {
    }
    return n == 0;
}

static bool trickle(struct reply_conn *c, const char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!linger(c, TRICKLE_MS) || !send_all(c, bytes + i, 1)) {
            return false;
        }
    }
    return true;
}

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Bytes of the body, not faster than the route allows. */
static bool send_body(struct reply_conn *c, const char *bytes, size_t n, uint64_t rate_bytes_s)
{
    double start_s = now_s();
    for (size_t done = 0; done < n;) {
        size_t block = n - done < BLOCK_BYTES ? n - done : BLOCK_BYTES;
        size_t paced = (size_t)(rate_bytes_s * PACE_MS / 1000 + 1);
        block = rate_bytes_s && paced < block ? paced : block;
        if (!send_all(c, bytes + done, block)) {
            return false;
        }
        done += block;
        c->body_bytes += block;
        while (rate_bytes_s && (double)done / (double)rate_bytes_s > now_s() - start_s) {
            if (!linger(c, PACE_MS / 4)) {
                return false;
            }
        }
    }
    return true;
}

/* Make close() send a reset: bytes that were written are on their way, nothing more follows. */
static void arm_reset(const struct reply_conn *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* ---- what is asked for ---- */

/* The value of a header of the request, up to the end of its line; NULL when it has none. */
static const char *header(const char *head, const char *name)
{
    size_t k = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, k) == 0 && line[2 + k] == ':') {
            return line + 2 + k + 1 + strspn(line + 2 + k + 1, " ");
        }
    }
    return NULL;
}

/* Narrow the plan to a range "bytes=A-B" or "bytes=A-", when the file is still the one that
 * If-Range names. */
static void plan_range(struct plan *p, const char *head)
{
    const char *range = header(head, "Range"), *if_range = header(head, "If-Range");
    if (!p->etag || !range || strncmp(range, "bytes=", 6) != 0) {
        return;
    }
    size_t k = strlen(p->etag);
    if (if_range && (strncmp(if_range, p->etag, k) != 0 || if_range[k] != '\r')) {
        return;
    }
    char *end;
    unsigned long long begin = strtoull(range + 6, &end, 10);
    unsigned long long last =
        isdigit((unsigned char)end[1]) ? strtoull(end + 1, NULL, 10) : p->file_bytes - 1;
    if (begin >= p->file_bytes || last < begin) {
        p->status = 416;
        p->bytes = 0;
        return;
    }
    last = last < p->file_bytes ? last : p->file_bytes - 1;
    p->status = BNT_FAULT(mock_range) ? 200 : 206;
    p->range = true;
    p->begin = (size_t)begin;
    p->bytes = (size_t)(last - begin + 1);
}

/* Whether the client has the file already, by If-None-Match. */
static bool is_known(const struct plan *p, const char *head)
{
    const char *known = header(head, "If-None-Match");
    const size_t k = p->etag ? strlen(p->etag) : 0;
    return known && k > 0 && strncmp(known, p->etag, k) == 0 && known[k] == '\r';
}

static struct plan make_plan(const struct bnt_mock_route *r, const struct bnt_mock_step *step,
                             const char *head)
{
    struct plan p = {
        .status = step->status,
        .body = step->body ? step->body : r->body,
        .file_bytes = step->body ? step->body_bytes : r->body_bytes,
        .etag = step->etag ? step->etag : r->etag,
    };
    p.bytes = p.file_bytes;
    if (p.status == 200 && !step->ignore_range && is_known(&p, head)) {
        p.status = 304;
        p.bytes = 0;
    } else if (p.status == 200 && !step->ignore_range) {
        plan_range(&p, head);
    } else if (p.status != 200 && r->steps && !step->body) {
        p.bytes = 0; /* the route's body is the file, not the text of an error */
    }
    return p;
}

/* ---- the answer ---- */

static int make_head(char out[HEAD_BYTES], const struct plan *p, const struct bnt_mock_route *r,
                     const struct bnt_mock_step *step)
{
    char range[128] = "", etag[300] = "";
    if (step->content_range) {
        snprintf(range, sizeof range, "Content-Range: %s\r\n", step->content_range);
    } else if (p->range) {
        snprintf(range, sizeof range, "Content-Range: bytes %zu-%zu/%zu\r\n", p->begin,
                 p->begin + p->bytes - 1, p->file_bytes);
    }
    if (p->etag) {
        snprintf(etag, sizeof etag, "ETag: %s\r\nAccept-Ranges: bytes\r\n", p->etag);
    }
    const char *more = step->headers ? step->headers : r->headers;
    return snprintf(out, HEAD_BYTES,
                    "HTTP/1.1 %d Mock\r\nContent-Length: %lld\r\nConnection: close\r\n%s%s%s\r\n",
                    p->status, (long long)p->bytes + (long long)step->length_delta, etag, range,
                    more ? more : "");
}

/* The body with one bit turned over. */
static bool send_flipped(struct reply_conn *c, const struct plan *p, size_t at, uint64_t rate)
{
    const char *bytes = p->body + p->begin;
    if (at >= p->bytes) {
        return send_body(c, bytes, p->bytes, rate);
    }
    char wrong = (char)(bytes[at] ^ 1);
    return send_body(c, bytes, at, rate) && send_body(c, &wrong, 1, 0) &&
           send_body(c, bytes + at + 1, p->bytes - at - 1, rate);
}

static bool send_faulty(struct reply_conn *c, const struct plan *p,
                        const struct bnt_mock_step *step, uint64_t rate)
{
    const char *bytes = p->body + p->begin;
    size_t n = step->fault_at < p->bytes ? step->fault_at : p->bytes;
    if (!send_body(c, bytes, n, rate)) {
        return false;
    }
    if (step->fault == BNT_MOCK_STALL) {
        (void)linger(c, -1);
    } else if (step->fault == BNT_MOCK_RESET) {
        arm_reset(c);
    } else if (step->fault == BNT_MOCK_TRICKLE) {
        return trickle(c, bytes + n, p->bytes - n);
    }
    return false;
}

bool reply_send(struct reply_conn *c, const struct bnt_mock_route *r,
                const struct bnt_mock_step *step, const char *request)
{
    char head[HEAD_BYTES];
    struct plan p = make_plan(r, step, request);
    c->status = p.status;
    int n = make_head(head, &p, r, step);
    if (n < 0 || n >= (int)sizeof head) {
        return false;
    }
    bool loris = step->fault == BNT_MOCK_LORIS;
    if (!(loris ? trickle(c, head, (size_t)n) : send_all(c, head, (size_t)n))) {
        return false;
    }
    if (strncmp(request, "HEAD ", 5) == 0) {
        return true;
    }
    if (step->fault == BNT_MOCK_FLIP) {
        return send_flipped(c, &p, step->fault_at, r->rate_bytes_s);
    }
    if (step->fault != BNT_MOCK_NO_FAULT && !loris) {
        return send_faulty(c, &p, step, r->rate_bytes_s);
    }
    return p.bytes == 0 || send_body(c, p.body + p.begin, p.bytes, r->rate_bytes_s);
}
