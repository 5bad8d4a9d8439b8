/* What others bring: a blob enters whole and under the digest of its bytes, or not at all.
 *
 *   head: allowed, fits ─► temporary of the cache, hashed ─► digest is the path's? ─► blob, pinned
 *
 * The pin keeps it from this machine's collections: for who sent it this may be the only copy. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "fetch/serve_impl.h"

#define UNPROCESSABLE 422 /* the name of this number differs between releases of the library */

static enum MHD_Result refuse(struct request *q, unsigned code, const char *text)
{
    q->taking = false;
    return serve_text(q, code, text);
}

/* Whether the announced bytes have room, as far as the client says how many. */
static bool fits(struct request *q)
{
    const char *text = q->server->lib->lookup_value(q->connection, MHD_HEADER_KIND,
                                                    MHD_HTTP_HEADER_CONTENT_LENGTH);
    uint64_t room = 0;
    return !text || bnt_cache_free_bytes(q->cache, &room, NULL) != BNT_OK ||
           strtoull(text, NULL, 10) <= room;
}

enum MHD_Result serve_put_begin(struct request *q)
{
    const struct bnt_serve_opts *o = q->server->opts;
    if (q->route.kind != ROUTE_BLOB) {
        return refuse(q, MHD_HTTP_NOT_FOUND, "only blobs can be put: /v1/blobs/sha256/DIGEST");
    }
    if (!o->writable) {
        return refuse(q, MHD_HTTP_METHOD_NOT_ALLOWED, "this server is read-only");
    }
    if (!serve_authorised(q)) {
        return refuse(q, MHD_HTTP_UNAUTHORIZED, "a token is needed");
    }
    enum bnt_status st = serve_open_cache(q);
    if (st == BNT_OK && !fits(q)) {
        st = bnt_err_set(&q->why, BNT_E_NO_SPACE, "the blob does not fit");
    }
    if (st == BNT_OK) {
        st = bnt_cache_temp_open(q->cache, &q->temp, &q->why);
    }
    if (st == BNT_OK) {
        st = bnt_chunk_tree_new(&q->temp.tree, &q->why);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_new(&q->hash, &q->why);
    }
    q->taking = st == BNT_OK;
    return st == BNT_OK ? MHD_YES : serve_failure(q, &q->why);
}

/* After a failure the rest is read and dropped, so that the client reads the answer. */
void serve_put_bytes(struct request *q, const char *bytes, size_t n)
{
    q->bytes += n;
    if (!q->taking || q->why.status != BNT_OK) {
        return;
    }
    enum bnt_status st = bnt_write_all(q->temp.fd, bytes, n, q->temp.path, &q->why);
    if (st == BNT_OK) {
        st = bnt_sha256_update(q->hash, bytes, n, &q->why);
    }
    if (st == BNT_OK) {
        (void)bnt_chunk_tree_update(q->temp.tree, bytes, n, &q->why);
    }
}

static enum bnt_status keep(struct request *q)
{
    struct bnt_cache_entry e = {.name = ""}, there;
    memcpy(e.digest, q->route.digest, sizeof e.digest);
    q->temp.origin = BNT_CACHE_FROM_HAND;
    enum bnt_status st = bnt_cache_add(q->cache, &q->temp, &e, &q->why);
    return st == BNT_OK ? bnt_cache_pin(q->cache, e.digest, true, &there, &q->why) : st;
}

enum MHD_Result serve_put_end(struct request *q)
{
    char hex[BNT_SHA256_HEX];
    if (q->why.status == BNT_OK && q->bytes == 0) {
        return refuse(q, UNPROCESSABLE, "there are no bytes; nothing was kept");
    }
    if (q->why.status == BNT_OK && bnt_sha256_hex(q->hash, hex, &q->why) == BNT_OK) {
        if (strcmp(hex, q->route.digest) != 0 && !BNT_FAULT(put_unchecked)) {
            return refuse(q, UNPROCESSABLE, "the bytes have another digest; nothing was kept");
        }
        if (keep(q) == BNT_OK) {
            return serve_text(q, MHD_HTTP_CREATED, "kept");
        }
    }
    return serve_failure(q, &q->why);
}

void serve_put_release(struct request *q)
{
    bnt_cache_temp_release(&q->temp);
    bnt_sha256_free(q->hash);
    q->hash = NULL;
}
