/* What stands in for the world in tests.
 *
 * The HTTP server: answers from a table of routes, on 127.0.0.1 only, and can misbehave on purpose
 * where a route says so. Every connection has its own thread and carries one request. A route with
 * an ETag answers ranges; one with steps plays them request by request:
 *
 *     static const struct bnt_mock_step steps[] = {
 *         {.status = 429, .headers = "Retry-After: 7\r\n"},
 *         {.status = 200, .fault = BNT_MOCK_RESET, .fault_at = 1000},
 *         {.status = 200},
 *         {0},
 *     };
 *     ... {.path = "/m.gguf", .body = bytes, .body_bytes = n, .etag = "\"v1\"", .steps = steps} ...
 *
 *     static const struct bnt_mock_route routes[] = {
 *         {.path = "/m.gguf", .status = 200, .body = bytes, .body_bytes = n},
 *         {.path = "/cut.gguf", .status = 200, .body = bytes, .body_bytes = n,
 *          .fault = BNT_MOCK_CLOSE, .fault_at = 100},
 *         {0},
 *     };
 *     struct bnt_mock_server *server;
 *     if (bnt_mock_server_start(routes, NULL, &server, &err) == BNT_OK) {
 *         ... bnt_mock_server_url(server) ...
 *         bnt_mock_server_stop(server);
 *     } */
#ifndef BNT_MOCK_H
#define BNT_MOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Bytes of a fault are counted in the body of the one answer, not in the file. */
enum bnt_mock_fault {
    BNT_MOCK_NO_FAULT,
    BNT_MOCK_CLOSE,   /* after fault_at bytes of the body: end the connection in order */
    BNT_MOCK_RESET,   /* after fault_at bytes of the body: TCP reset */
    BNT_MOCK_STALL,   /* after fault_at bytes of the body: send nothing until the client gives up */
    BNT_MOCK_FLIP,    /* one bit of byte fault_at is wrong; the rest is in order */
    BNT_MOCK_TRICKLE, /* after fault_at bytes of the body: a byte every 100 ms */
    BNT_MOCK_LORIS,   /* the head comes a byte every 100 ms */
};

/* What one request gets. Whatever is zero is as the route says. */
struct bnt_mock_step {
    int status;          /* 200 (which a range turns into 206), 404...; 0 ends the script */
    const char *headers; /* more header lines, each ending in "\r\n" */
    const char *etag;    /* the file has changed to this state... */
    const void *body;    /* ...and to this content, of body_bytes */
    size_t body_bytes;
    enum bnt_mock_fault fault;
    size_t fault_at;
    bool ignore_range;         /* the whole file and 200, whatever was asked for */
    const char *content_range; /* this value instead of the true one */
    int64_t length_delta;      /* Content-Length says so many bytes more than there are */
};

struct bnt_mock_route {
    const char *path;    /* as in the request line, query included; NULL ends the table */
    int status;          /* 200, 404...; unused with steps */
    const char *headers; /* more header lines, each ending in "\r\n"; NULL: none */
    const void *body;
    size_t body_bytes; /* announced as Content-Length, whatever the fault */
    enum bnt_mock_fault fault;
    size_t fault_at;
    const char *etag;                  /* strong, with quotes; then ranges and If-Range work */
    const struct bnt_mock_step *steps; /* NULL, or one per request; the last one repeats */
    uint64_t rate_bytes_s;             /* ceiling of one connection; 0: none */
};

struct bnt_mock_server;

/* Serve `routes` (borrowed until stop; other paths get 404) on a free port. With `certificate_path`
 * the server speaks TLS with a key made for it, and writes its self-signed certificate for
 * 127.0.0.1 and localhost there: the client's SSL_CERT_FILE. NULL: plain HTTP. */
enum bnt_status bnt_mock_server_start(const struct bnt_mock_route *routes,
                                      const char *certificate_path, struct bnt_mock_server **out,
                                      struct bnt_err *err);
/* Ends all connections and waits for their threads. NULL is fine. */
void bnt_mock_server_stop(struct bnt_mock_server *s);

/* "http://127.0.0.1:PORT" or "https://..."; valid until stop. */
const char *bnt_mock_server_url(const struct bnt_mock_server *s);
/* The caller's routes may be changed between these two while the server runs and serves nobody. */
void bnt_mock_server_hold(struct bnt_mock_server *s);
void bnt_mock_server_go_on(struct bnt_mock_server *s);
/* How many requests came so far. */
size_t bnt_mock_server_requests(struct bnt_mock_server *s);
/* Head of the latest request, cut to size bytes: request line and headers. "" before the first. */
void bnt_mock_server_last_request(struct bnt_mock_server *s, char *out, size_t size);
/* Head of request number k, from 0; "" when there was none, or it came after BNT_MOCK_LOG_MAX. */
void bnt_mock_server_request(struct bnt_mock_server *s, size_t k, char *out, size_t size);
#define BNT_MOCK_LOG_MAX 4096
/* Bytes of bodies that were handed to the network so far. */
uint64_t bnt_mock_server_body_bytes(struct bnt_mock_server *s);

#endif
