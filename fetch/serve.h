/* The cache of this machine as the mirror of others, over http. serve.c begins with the life of a
 * server, serve_reply.c with what it answers. docs/cache.md is the manual. */
#ifndef BNT_FETCH_SERVE_H
#define BNT_FETCH_SERVE_H

#include "base/app.h"

/* Where a server of this kind has a blob, below its URL. */
#define SERVE_BLOBS "/v1/blobs/sha256/"

/* bnt_network's serve. */
enum bnt_status serve(const struct bnt_serve_opts *opts, struct bnt_err *err);

#endif
