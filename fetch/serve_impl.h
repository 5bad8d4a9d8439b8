/* What the files of the server share: serve.c (its life), serve_reply.c (questions), serve_put.c
 * (what others bring). */
#ifndef BNT_FETCH_SERVE_IMPL_H
#define BNT_FETCH_SERVE_IMPL_H

#include "cache/bnt_cache.h"
#include "fetch/mhd_lib.h"
#include "fetch/serve.h"

struct server {
    const struct bnt_serve_opts *opts;
    const struct mhd_lib *lib;
    struct MHD_Daemon *daemon;
    int listen_fd;
    char url[128];
    /* Shared by all threads, through the __atomic functions alone. */
    unsigned n_running; /* requests between their head and their end */
    bool ending;
};

enum route_kind { ROUTE_NONE, ROUTE_HEALTH, ROUTE_MODELS, ROUTE_MODEL, ROUTE_BLOB, ROUTE_TREE };

/* What a path asks for. Only whole digests and names that the cache could have come through. */
struct route {
    enum route_kind kind;
    char digest[BNT_SHA256_HEX];   /* of a blob or a tree, lower case */
    char name[BNT_CACHE_NAME_MAX]; /* of a model */
};
struct route serve_route(const char *path);

/* One request, from its head to its end, in the thread of its connection. */
struct request {
    struct server *server;
    struct MHD_Connection *connection;
    char method[16], path[256]; /* for the log; cut */
    struct route route;
    struct bnt_cache *cache; /* NULL until it is needed */
    bool counted;
    unsigned code; /* of the answer; 0: none yet */
    uint64_t bytes;
    uint64_t began_ns;
    struct bnt_err why; /* of an answer above 499, for the log */
    /* A blob on its way in. */
    bool taking;
    struct bnt_cache_temp temp;
    struct bnt_sha256 *hash;
};

/* Who asks knows a token. */
bool serve_authorised(const struct request *q);
enum bnt_status serve_open_cache(struct request *q);
/* Answers. The text is a line for people; digest: whose ETag the answer bears, or NULL. */
enum MHD_Result serve_text(struct request *q, unsigned code, const char *text);
enum MHD_Result serve_failure(struct request *q, const struct bnt_err *why);
/* GET and HEAD. */
enum MHD_Result serve_answer(struct request *q);

/* PUT of a blob: the head, the bytes, the end. */
enum MHD_Result serve_put_begin(struct request *q);
void serve_put_bytes(struct request *q, const char *bytes, size_t n);
enum MHD_Result serve_put_end(struct request *q);
void serve_put_release(struct request *q);

#endif
