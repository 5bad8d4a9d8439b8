/* Fetch: from a source to a verified blob in the cache.
 *
 *     source            example                       needs
 *     bundled:          bundled:                      nothing: the model that comes with bnt
 *     file://, a path   file:///models/m.gguf, m.gguf nothing
 *     https://          https://example.org/m.gguf    network
 *     http://           http://example.org/m.gguf     network and a digest: anybody may change it
 *     s3://             s3://bucket/m.gguf            network; see fetch/s3.h
 *     oci://            oci://host/org/repo:tag       network; see fetch/oci.h
 *     hf://, org/repo   hf://org/repo/m.gguf          network; see fetch/hub.h
 *
 * Bytes are hashed while they are written to a temporary of the cache, and enter it only when they
 * are complete and the digest is the expected one. Whatever fails leaves the cache as it was; what
 * came over the network is kept beside it, and the next fetch goes on from there
 * (docs/transfer.md). While one process fetches a file, others that want it wait.
 *
 * Environment for https and http: SSL_CERT_FILE, SSL_CERT_DIR, CURL_CA_BUNDLE, the proxy variables
 * (https_proxy, HTTPS_PROXY, http_proxy, all_proxy, no_proxy...) and ~/.netrc. */
#ifndef BNT_FETCH_H
#define BNT_FETCH_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "cache/bnt_cache.h"

#define BNT_FETCH_BUNDLED_NAME "tinystories-bitnet"

/* Bytes done and bytes in all, 0 while unknown. */
typedef void bnt_fetch_progress_fn(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

/* When a source is asked whether it has something new. docs/manifest.md says what each means. */
enum bnt_fetch_update {
    BNT_FETCH_UPDATE_DEFAULT, /* nothing was said: if missing */
    BNT_FETCH_UPDATE_NEVER,
    BNT_FETCH_UPDATE_IF_MISSING,
    BNT_FETCH_UPDATE_DAILY,
    BNT_FETCH_UPDATE_ALWAYS,
};
#define BNT_FETCH_UPDATE_WORDS "never|if-missing|daily|always"
#define BNT_FETCH_DAY_S 86400

/* What happens on the way. */
enum bnt_fetch_event_kind {
    BNT_FETCH_START,       /* a transfer begins; done_bytes are there from an earlier one */
    BNT_FETCH_RETRY,       /* a server failed and is asked again after wait_ms */
    BNT_FETCH_MIRROR_IN,   /* the first bytes of a server came */
    BNT_FETCH_MIRROR_OUT,  /* a server is not asked any more */
    BNT_FETCH_CIRCUIT,     /* the same, without a request: it failed too often lately */
    BNT_FETCH_HEDGE,       /* a range that hangs is asked of this server, too */
    BNT_FETCH_TRANSFERRED, /* the transfer is over, well or not: done_bytes came now */
    BNT_FETCH_VERIFIED,    /* the bytes have the digest that they must have */
};
struct bnt_fetch_event {
    enum bnt_fetch_event_kind kind;
    const char *server; /* "https://example.org:443"; NULL: of no server */
    const char *why;    /* "" when there is nothing to say */
    enum bnt_status status;
    uint64_t wait_ms;
    uint64_t done_bytes, total_bytes; /* total 0: not known */
};
typedef void bnt_fetch_event_fn(void *ctx, const struct bnt_fetch_event *event);

struct bnt_fetch_opts {
    const char *name;   /* NULL: the file's name without .gguf */
    const char *sha256; /* NULL, or the digest that the content must have, in either case */
    uint64_t size;      /* bytes that the content has; 0: not known */
    uint64_t max_bytes; /* content that has more is refused with MEMORY; 0: any size */
    const char *tree;   /* NULL, or the root that its chunk tree must have */
    bool offline;       /* no network: what is not in the cache is an error */
    bool force;         /* fetch again what is there, and let the name move to another source */
    bool move_name;     /* let the name move to another source, without fetching what is there */
    enum bnt_fetch_update update; /* whether a source is asked that the cache can answer for */
    bool nameless;                /* the name only finds what is there; what comes gets none */
    uint32_t connect_timeout_ms;  /* 0: 20 s */
    uint32_t stall_timeout_s;     /* 0: 30 s without BNT_FETCH_STALL_BYTES_S ends the request */
    /* Other places (https, http, s3, oci) of the same content; they need sha256. All are used at
     * once, as far as there are connections, and each stands in for those that fail. At most
     * BNT_FETCH_MIRRORS_MAX. */
    const char *const *mirrors;
    size_t n_mirrors;
    /* A server of bnt cache serve that is asked first for what has a known digest; NULL: that of
     * BNT_MIRROR, "": none. What it does not have, or has wrong, comes from the source. */
    const char *near;
    uint32_t connections;   /* 0: 4; at most 16 */
    uint64_t limit_bytes_s; /* 0: none; of all connections together */
    /* Folder of the cache whose net.db knows which servers are in trouble, for questions that are
     * no transfers; bnt_fetch sets it. NULL: nothing is known of them, nor noted. */
    const char *net_dir;
    uint32_t max_attempts; /* 0: 5 failures of a server in a row, without progress, are the end */
    uint32_t max_wait_s;  /* 0: 300 s of waiting in all, for servers that fail or ask for a pause */
    uint64_t deadline_ns; /* of the monotonic clock; past it everything ends with TIME. 0: none */
    const volatile sig_atomic_t *interrupted; /* NULL, or non-zero stops with INTERRUPTED */
    bnt_fetch_progress_fn *progress;          /* may be NULL */
    bnt_fetch_event_fn *event;                /* may be NULL */
    void *ctx;                                /* of both */
    bnt_warn_fn *warn; /* told when a server could not help that should have; may be NULL */
    void *warn_ctx;
};
#define BNT_FETCH_STALL_BYTES_S 1024
#define BNT_FETCH_MIRRORS_MAX 15

struct bnt_fetch_result {
    struct bnt_cache_entry entry;
    char path[BNT_PATH_MAX]; /* of the blob */
    bool hit;                /* nothing was read or downloaded */
    uint64_t reused_bytes;   /* of a download: taken from other models of the cache */
};

/* Errors by cause: USAGE a source or name that cannot be, or a name that another source has;
 * DIGEST; OFFLINE; AUTH 401, 403, 407; NOT_FOUND 404, 410, no such file; RATE_LIMIT 429; NETWORK
 * time-out, DNS, refused, reset, TLS, a body that ends early, a refused redirect, 408 and 5xx,
 * after all attempts; CIRCUIT the server failed too often lately and was not asked; NO_SPACE;
 * TIME the deadline; INTERRUPTED; UNSUPPORTED a scheme that is not known, or no libcurl; FAILED any
 * other answer. */
enum bnt_status bnt_fetch(struct bnt_cache *cache, const char *source,
                          const struct bnt_fetch_opts *opts, struct bnt_fetch_result *out,
                          struct bnt_err *err);

/* The content of opts->sha256 from a place that holds blobs by their digest (a server of bnt cache
 * serve, a cold tier), without a name. Errors as bnt_fetch. */
enum bnt_status bnt_fetch_blob(struct bnt_cache *cache, const char *place,
                               const struct bnt_fetch_opts *opts, struct bnt_fetch_result *out,
                               struct bnt_err *err);

#endif
