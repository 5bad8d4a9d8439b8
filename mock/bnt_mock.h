/* What stands in for the world in tests: models drawn from a seed, and an HTTP server.
 *
 * A tiny model is a GGUF like any other: it goes through the loader, the tokenizer and the kernels,
 * and what it says means nothing. It is bit-identical for one recipe on every machine. Its keys
 * general.mock.kind and general.mock.recipe keep it from being taken for a trained one
 * (engine/model_arg.h), whoever passes it on.
 *
 * The HTTP server: answers from a table of routes, on 127.0.0.1 unless told otherwise, and can
 * misbehave on purpose where a route says so. Every connection has its own thread and carries one
 * request. A route with an ETag answers ranges and If-None-Match; one with steps plays them request
 * by request:
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

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"
#include "engine/gguf.h"

/* ---- tiny models ---- */

/* What is NULL or 0 has a default: a BitNet b1.58 of two layers, 256 wide, with 512 tokens; or with
 * `like`, that file's. */
struct bnt_mock_recipe {
    const char *like;      /* a GGUF whose keys, types, shapes and vocabulary are taken */
    const char *arch;      /* a family of engine/arch.h */
    const char *type;      /* of linear weights: "i2_s", "tq2_0", "f16"...: any that is read */
    const char *embd_type; /* of the embedding */
    const char *tokenizer; /* "bpe" or "spm", drawn from the seed */
    const char *layout;    /* of I2_S: "128/32", "64/16" or "4-rows" */
    uint32_t n_layer, n_embd, n_head, n_head_kv, n_ff, n_vocab, n_ctx;
    uint64_t seed;
    const char *fault;                        /* a defect to plant, by name */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

struct bnt_mock_made {
    uint64_t bytes;
    char digest[BNT_SHA256_HEX];
    char recipe[512]; /* as general.mock.recipe says it: a command line */
};

/* Write the model, whole or not at all. Errors: USAGE (shapes that cannot be; a fault that is not
 * known, or that the file has no place for), NOT_FOUND and FILE (like), UNSUPPORTED (a family or a
 * type that is not known; TL1 and TL2 of a shape whose tiles are not known), INTERRUPTED. */
enum bnt_status bnt_mock_make(const struct bnt_mock_recipe *r, const char *path,
                              struct bnt_mock_made *out, struct bnt_err *err);

/* What a planted defect breaks, and what a reader must say to it. */
enum bnt_mock_found {
    BNT_MOCK_FOUND_OPEN, /* by reading the header: gguf_open, bnt inspect */
    BNT_MOCK_FOUND_LOAD, /* by making a model of it: bnt_model_open, bnt infer */
    BNT_MOCK_FOUND_DEEP, /* only by running it, or by comparison: the file loads */
};
struct bnt_mock_file_fault {
    const char *name, *breaks;
    enum bnt_mock_found found;
    enum gguf_fault fault;  /* class of the error; NONE: it has none, or the file loads */
    enum bnt_status status; /* of the error, and the exit code of commands; OK: the file loads */
    const char *needs;      /* option without which the file has not what it breaks, or NULL */
};
/* Row i of the table; NULL past its end. */
const struct bnt_mock_file_fault *bnt_mock_file_fault(size_t i);
const char *bnt_mock_found_name(enum bnt_mock_found found); /* "open", "load", "deep" */

/* ---- HTTP server ---- */

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
    bool ignore_range;         /* the whole file and 200, whatever was asked for, or known */
    const char *content_range; /* this value instead of the true one */
    int64_t length_delta;      /* Content-Length says so many bytes more than there are */
    bool no_answer;            /* the connection ends when the request was read */
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
/* The same with more wishes, for `bnt mock server`. */
struct bnt_mock_served { /* one request that was answered; valid during the call */
    size_t n;            /* from 1, in the order in which they came */
    const char *head;    /* request line and headers */
    int status;          /* of the answer */
    enum bnt_mock_fault fault;
    uint64_t body_bytes; /* handed to the network */
};
struct bnt_mock_server_options {
    const struct bnt_mock_route *routes;
    const char *certificate_path;
    const char *address; /* IPv4; NULL: 127.0.0.1 */
    uint16_t port;       /* 0: a free one */
    /* Called after each request, one at a time, by the connection's thread. May be NULL. */
    void (*on_served)(void *ctx, const struct bnt_mock_served *served);
    void *ctx;
};
enum bnt_status bnt_mock_server_start_with(const struct bnt_mock_server_options *o,
                                           struct bnt_mock_server **out, struct bnt_err *err);
/* Ends all connections and waits for their threads. NULL is fine. */
void bnt_mock_server_stop(struct bnt_mock_server *s);

/* "close"... ; "none" without one. */
const char *bnt_mock_fault_name(enum bnt_mock_fault fault);
/* "http://127.0.0.1:PORT" or "https://..."; valid until stop. */
const char *bnt_mock_server_url(const struct bnt_mock_server *s);
/* The caller's routes may be changed between these two while the server runs and serves nobody. */
void bnt_mock_server_hold(struct bnt_mock_server *s);
void bnt_mock_server_go_on(struct bnt_mock_server *s);
/* How many requests came so far. */
size_t bnt_mock_server_requests(struct bnt_mock_server *s);
/* Head of the latest request, cut to size bytes: request line and headers. "" before the first. */
void bnt_mock_server_last_request(struct bnt_mock_server *s, char *out, size_t size);
/* Body of the latest request as a string, its first 16 KiB; "" without one. */
void bnt_mock_server_last_body(struct bnt_mock_server *s, char *out, size_t size);
/* Head of request number k, from 0; "" when there was none, or it came after BNT_MOCK_LOG_MAX. */
void bnt_mock_server_request(struct bnt_mock_server *s, size_t k, char *out, size_t size);
#define BNT_MOCK_LOG_MAX 4096
/* Bytes of bodies that were handed to the network so far. */
uint64_t bnt_mock_server_body_bytes(struct bnt_mock_server *s);

#endif
