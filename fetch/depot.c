/* Blobs go to a depot by PUT and are read back whole; they come back as any other download
 * (bnt_fetch_blob). What a server says of itself proves nothing: only bytes that were read and
 * hashed do. */
#include "fetch/depot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/backoff.h"
#include "fetch/bnt_fetch.h"
#include "fetch/http.h"
#include "fetch/s3.h"
#include "fetch/serve.h"

enum { ATTEMPTS = 3 };

/* ---- where ---- */

enum bnt_status depot_place(const char *text, char out[BNT_PLACE_MAX], struct bnt_err *err)
{
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '/') {
        n--;
    }
    if (strpbrk(text, "?#@")) { /* what stands there may be a secret, and is not shown */
        enum bnt_status st =
            bnt_err_set(err, BNT_E_USAGE,
                        "the URL of a place for models must hold no user name, password or query");
        bnt_err_hint(err, "the token of bnt cache serve goes into BNT_CACHE_TOKEN, a login into "
                          "~/.netrc");
        return st;
    }
    bool known = strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0 ||
                 strncmp(text, "s3://", 5) == 0;
    if (!known || n + sizeof SERVE_BLOBS + BNT_SHA256_HEX > BNT_PLACE_MAX) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_USAGE, "'%.200s' is no place that can hold models", text);
        bnt_err_hint(err, "write http://HOST:PORT (what bnt cache serve prints), https://HOST/PATH "
                          "or s3://BUCKET/PREFIX");
        return st;
    }
    snprintf(out, BNT_PLACE_MAX, "%.*s", (int)n, text);
    return BNT_OK;
}

enum bnt_status depot_source(const char *place, const char *digest, const char *method,
                             struct source *out, struct bnt_err *err)
{
    char base[BNT_PLACE_MAX], text[BNT_PLACE_MAX + BNT_SHA256_HEX], url[SOURCE_URL_MAX];
    const char *token = getenv("BNT_CACHE_TOKEN");
    enum bnt_status st = depot_place(place, base, err);
    if (st == BNT_OK) {
        snprintf(text, sizeof text, "%s" SERVE_BLOBS "%s", base, digest);
        st = source_parse(text, out, err);
    }
    if (st == BNT_OK && out->s3) {
        st = s3_url(out, method, url, err);
        memcpy(out->url, url, st == BNT_OK ? sizeof url : 0);
    } else if (st == BNT_OK && token && strlen(token) < sizeof out->token) {
        snprintf(out->token, sizeof out->token, "%s", token);
    }
    return st;
}

/* ---- requests ---- */

struct call {
    const struct bnt_far_blob *blob;
    const char *method;
    struct http_upload upload; /* of a PUT */
    struct bnt_sha256 *hash;   /* of what a GET brings */
    uint64_t bytes;
    long code;
};

static enum bnt_status on_head(void *ctx, const struct http_head *head, struct bnt_err *err)
{
    (void)ctx, (void)head, (void)err;
    return BNT_OK;
}

static enum bnt_status on_body(void *ctx, const char *bytes, size_t n, struct bnt_err *err)
{
    struct call *c = ctx;
    if (bnt_err_interrupted(c->blob->interrupted, err) != BNT_OK) {
        return BNT_E_INTERRUPTED;
    }
    c->bytes += n;
    return bnt_sha256_update(c->hash, bytes, n, err);
}

/* One request. *again: it may go better next time. */
static enum bnt_status call_once(struct call *c, const struct curl_lib *lib, bool *again,
                                 struct bnt_err *err)
{
    struct source at;
    struct http_exchange *x = calloc(1, sizeof *x);
    const struct bnt_fetch_opts opts = {.interrupted = c->blob->interrupted};
    const struct http_request request = {
        .source = &at,
        .upload = strcmp(c->method, "PUT") == 0 ? &c->upload : NULL,
        .end = HTTP_TO_THE_END,
        .opts = &opts,
        .on_head = on_head,
        .on_body = on_body,
        .ctx = c,
    };
    struct http_outcome o = {.status = BNT_OK};
    if (!x) {
        return bnt_err_nomem(err, "the request", sizeof *x);
    }
    enum bnt_status st = depot_source(c->blob->place, c->blob->digest, c->method, &at, err);
    if (st == BNT_OK) {
        st = http_begin(x, lib, &request, err);
    }
    if (st == BNT_OK) {
        o = http_end(x, lib->easy_perform(x->easy), err);
        st = o.status;
        c->code = x->head.code;
    }
    *again = o.transient;
    http_release(x);
    free(x);
    return st;
}

static enum bnt_status call_depot(struct call *c, struct bnt_err *err)
{
    const struct curl_lib *lib;
    bool again = true;
    struct bnt_err why = {0};
    enum bnt_status st = curl_lib_load(&lib, err);
    if (st != BNT_OK) {
        return st;
    }
    st = BNT_E_NETWORK;
    for (unsigned i = 1; i <= ATTEMPTS && again && st != BNT_OK; i++) {
        why = (struct bnt_err){0};
        c->bytes = 0;
        bnt_sha256_free(c->hash);
        c->hash = NULL;
        st = bnt_sha256_new(&c->hash, &why);
        st = st == BNT_OK ? call_once(c, lib, &again, &why) : st;
        if (st != BNT_OK && again && i < ATTEMPTS) {
            bnt_clock_sleep_ns(backoff_wait_ns(i, backoff_random()));
        }
    }
    return st == BNT_OK ? st : bnt_err_copy(err, &why);
}

enum bnt_status depot_put(const struct bnt_far_blob *blob, const char *path, struct bnt_err *err)
{
    struct call c = {.blob = blob, .method = "PUT", .upload = {.bytes = blob->size}};
    struct bnt_err why = {0};
    c.upload.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (c.upload.fd < 0) {
        return bnt_err_errno(err, "cannot open %s", path);
    }
    enum bnt_status st = call_depot(&c, &why);
    if (st != BNT_OK && (c.code == 507 || c.code == 413)) {
        st = bnt_err_set(err, BNT_E_NO_SPACE, "%.300s has no room for %.1f MB", blob->place,
                         (double)blob->size / 1e6);
        bnt_err_hint(err, "free some there, or choose another place; nothing was removed here");
    } else if (st != BNT_OK) {
        st = bnt_err_copy(err, &why);
    }
    close(c.upload.fd);
    bnt_sha256_free(c.hash);
    return st;
}

enum bnt_status depot_prove(const struct bnt_far_blob *blob, bool *same, struct bnt_err *err)
{
    struct call c = {.blob = blob, .method = "GET"};
    struct bnt_err why = {0};
    char hex[BNT_SHA256_HEX];
    *same = false;
    enum bnt_status st = call_depot(&c, &why);
    if (st == BNT_E_NOT_FOUND) {
        st = BNT_OK;
    } else if (st == BNT_OK) {
        st = bnt_sha256_hex(c.hash, hex, &why);
        *same = st == BNT_OK && c.bytes == blob->size && strcmp(hex, blob->digest) == 0;
    }
    bnt_sha256_free(c.hash);
    return st == BNT_OK ? st : bnt_err_copy(err, &why);
}

enum bnt_status depot_recall(struct bnt_cache *cache, const struct bnt_far_blob *blob,
                             struct bnt_err *err)
{
    struct bnt_fetch_result r;
    const struct bnt_fetch_opts opts = {
        .sha256 = blob->digest, .size = blob->size, .interrupted = blob->interrupted};
    return bnt_fetch_blob(cache, blob->place, &opts, &r, err);
}
