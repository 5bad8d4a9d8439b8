/* What stands in for the world in tests.
 *
 * The HTTP server: answers from a table of routes, on 127.0.0.1 only, and can misbehave on purpose
 * where a route says so. Every connection has its own thread and carries one request.
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

#include <stddef.h>

#include "base/status.h"

enum bnt_mock_fault {
    BNT_MOCK_NO_FAULT,
    BNT_MOCK_CLOSE, /* after fault_at bytes of the body: end the connection in order */
    BNT_MOCK_RESET, /* after fault_at bytes of the body: TCP reset */
    BNT_MOCK_STALL, /* after fault_at bytes of the body: send nothing until the client gives up */
};

struct bnt_mock_route {
    const char *path;    /* as in the request line, query included; NULL ends the table */
    int status;          /* 200, 404... */
    const char *headers; /* more header lines, each ending in "\r\n"; NULL: none */
    const void *body;
    size_t body_bytes; /* announced as Content-Length, whatever the fault */
    enum bnt_mock_fault fault;
    size_t fault_at;
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
/* How many requests came so far. */
size_t bnt_mock_server_requests(struct bnt_mock_server *s);
/* Head of the latest request, cut to size bytes: request line and headers. "" before the first. */
void bnt_mock_server_last_request(struct bnt_mock_server *s, char *out, size_t size);

#endif
