/* What a server answers.
 *
 *     GET /v1/health                   {"status": "ok", ...}
 *     GET /v1/models                   {"models": [{"name", "digest", "size", "source", "blob"}]}
 *     GET /v1/models/NAME              one of them
 *     GET /v1/blobs/sha256/<hex>       the bytes; ranges, If-Range, If-None-Match; the ETag is the
 *                                      digest, and the answer never changes
 *     PUT /v1/blobs/sha256/<hex>       serve_put.c
 *     GET /v1/trees/sha256/<hex>       the chunk tree of a blob, as cache/tree.c describes it
 *
 * HEAD goes wherever GET does. A path is taken apart into a kind and a digest or name, and only
 * those reach the cache: no part of a path is ever part of a file's path. */
#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crypto_lib.h"
#include "base/json_load.h"
#include "fetch/serve_impl.h"

#define TREES "/v1/trees/sha256/"
#define MODELS "/v1/models"
#define FOREVER "max-age=31536000, immutable"

/* ---- what is asked for ---- */

static bool take_digest(const char *path, const char *prefix, char digest[BNT_SHA256_HEX])
{
    size_t k = strlen(prefix);
    if (strncmp(path, prefix, k) != 0 || !bnt_sha256_is_hex(path + k)) {
        return false;
    }
    for (size_t i = 0; i < BNT_SHA256_HEX; i++) {
        digest[i] = (char)tolower((unsigned char)path[k + i]);
    }
    return true;
}

struct route serve_route(const char *path)
{
    struct route r = {.kind = ROUTE_NONE};
    if (strcmp(path, "/v1/health") == 0) {
        r.kind = ROUTE_HEALTH;
    } else if (strcmp(path, MODELS) == 0) {
        r.kind = ROUTE_MODELS;
    } else if (strncmp(path, MODELS "/", strlen(MODELS) + 1) == 0 &&
               bnt_cache_name_ok(path + strlen(MODELS) + 1)) {
        r.kind = ROUTE_MODEL;
        snprintf(r.name, sizeof r.name, "%s", path + strlen(MODELS) + 1);
    } else if (take_digest(path, SERVE_BLOBS, r.digest)) {
        r.kind = ROUTE_BLOB;
    } else if (take_digest(path, TREES, r.digest)) {
        r.kind = ROUTE_TREE;
    }
    return r;
}

static const char *header(const struct request *q, const char *name)
{
    return q->server->lib->lookup_value(q->connection, MHD_HEADER_KIND, name);
}

bool serve_authorised(const struct request *q)
{
    const struct bnt_serve_opts *o = q->server->opts;
    const char *given = header(q, "Authorization");
    const struct crypto_lib *lib = NULL;
    bool known = false;
    if (crypto_lib_load(&lib, NULL) != BNT_OK || !given || strncmp(given, "Bearer ", 7) != 0) {
        return false;
    }
    given += 7;
    for (size_t i = 0; i < o->n_tokens; i++) { /* all of them: the time tells nothing */
        size_t n = strlen(o->tokens[i]);
        known |= strlen(given) == n && lib->compare(given, o->tokens[i], n) == 0;
    }
    return known;
}

enum bnt_status serve_open_cache(struct request *q)
{
    return q->cache ? BNT_OK : bnt_cache_open(NULL, &q->cache, &q->why);
}

/* ---- answers ---- */

static bool is_head(const struct request *q)
{
    return strcmp(q->method, "HEAD") == 0;
}

/* Hand an answer over, whose headers are given in pairs; NULL ends them. */
static enum MHD_Result answer(struct request *q, unsigned code, struct MHD_Response *r,
                              const char *const *headers)
{
    const struct mhd_lib *lib = q->server->lib;
    enum MHD_Result ok = r ? MHD_YES : MHD_NO;
    for (size_t i = 0; ok == MHD_YES && headers && headers[i]; i += 2) {
        ok = lib->add_header(r, headers[i], headers[i + 1]);
    }
    if (ok == MHD_YES && __atomic_load_n(&q->server->ending, __ATOMIC_SEQ_CST)) {
        ok = lib->add_header(r, "Connection", "close");
    }
    if (ok == MHD_YES) {
        ok = lib->queue_response(q->connection, code, r);
    }
    if (r) {
        lib->destroy_response(r);
    }
    q->code = code;
    return ok;
}

/* Bytes of the heap, which are freed. */
static enum MHD_Result send_buffer(struct request *q, unsigned code, const char *type, char *text)
{
    const char *headers[] = {"Content-Type", type, "Cache-Control", "no-cache", NULL, NULL, NULL};
    if (!text) {
        return MHD_NO;
    }
    if (code == MHD_HTTP_UNAUTHORIZED) {
        headers[4] = "WWW-Authenticate";
        headers[5] = "Bearer";
    }
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED) {
        headers[4] = "Allow";
        headers[5] = "GET, HEAD";
    }
    size_t n = strlen(text);
    struct MHD_Response *r = q->server->lib->response_of_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (!r) {
        free(text);
    }
    q->bytes = is_head(q) ? 0 : n;
    return answer(q, code, r, headers);
}

enum MHD_Result serve_text(struct request *q, unsigned code, const char *text)
{
    char *line = NULL;
    return asprintf(&line, "%s\n", text) < 0
               ? MHD_NO
               : send_buffer(q, code, "text/plain; charset=utf-8", line);
}

/* What a failure is called outside; paths of this machine stay in the log. */
enum MHD_Result serve_failure(struct request *q, const struct bnt_err *why)
{
    switch (why->status) {
    case BNT_E_NOT_FOUND:
    case BNT_E_OFFLINE:
        return serve_text(q, MHD_HTTP_NOT_FOUND, "the cache does not have it");
    case BNT_E_NO_SPACE:
        return serve_text(q, MHD_HTTP_INSUFFICIENT_STORAGE, "no space");
    case BNT_E_DIGEST:
        return serve_text(q, MHD_HTTP_INTERNAL_SERVER_ERROR, "the copy of this cache is damaged");
    default:
        return serve_text(q, MHD_HTTP_INTERNAL_SERVER_ERROR, "the cache cannot be read");
    }
}

static enum MHD_Result fail(struct request *q)
{
    enum MHD_Result ok = serve_failure(q, &q->why);
    if (q->code < 500) { /* the asker's affair: nothing for the log */
        q->why.msg[0] = '\0';
    }
    return ok;
}

static enum MHD_Result send_json(struct request *q, json_t *value)
{
    char *text = value ? bnt_json_dumps(value, JSON_INDENT(1)) : NULL;
    json_decref(value);
    return send_buffer(q, MHD_HTTP_OK, "application/json", text);
}

static json_t *model_json(const struct bnt_cache_entry *e)
{
    char blob[sizeof SERVE_BLOBS + BNT_SHA256_HEX];
    snprintf(blob, sizeof blob, SERVE_BLOBS "%s", e->digest);
    return json_pack("{s:s, s:s, s:I, s:s, s:s}", "name", e->name, "digest", e->digest, "size",
                     (json_int_t)e->size, "source", e->source, "blob", blob);
}

static enum MHD_Result answer_health(struct request *q)
{
    return send_json(q, json_pack("{s:s, s:s, s:b}", "status", "ok", "version", BNT_VERSION,
                                  "writable", (int)q->server->opts->writable));
}

static enum MHD_Result answer_models(struct request *q)
{
    struct bnt_cache_list list = {0};
    if (bnt_cache_list(q->cache, &list, &q->why) != BNT_OK) {
        return fail(q);
    }
    json_t *models = json_array();
    for (size_t i = 0; i < list.n; i++) {
        if (list.at[i].name[0]) {
            (void)json_array_append_new(models, model_json(&list.at[i]));
        }
    }
    bnt_cache_list_release(&list);
    return send_json(q, json_pack("{s:o}", "models", models));
}

static enum MHD_Result answer_model(struct request *q)
{
    struct bnt_cache_entry e;
    bool found = false;
    if (bnt_cache_find_name(q->cache, q->route.name, &e, &found, &q->why) != BNT_OK) {
        return fail(q);
    }
    return found ? send_json(q, model_json(&e))
                 : serve_text(q, MHD_HTTP_NOT_FOUND, "the cache has no model of this name");
}

/* ---- files ---- */

struct span { /* of a file */
    uint64_t begin, bytes, total;
    bool part, unsatisfiable;
};

/* Digits to the end of the text or a '-'; false without one, or when they do not fit. */
static bool take_number(const char **at, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)**at)) {
        return false;
    }
    errno = 0;
    *out = strtoull(*at, &end, 10);
    *at = end;
    return errno == 0;
}

/* "bytes=A-B", "bytes=A-" and "bytes=-N"; whatever else a client writes is answered with all. */
static void narrow(struct span *s, const char *range)
{
    uint64_t first = 0, last = UINT64_MAX;
    if (strncmp(range, "bytes=", 6) != 0) {
        return;
    }
    const char *at = range + 6;
    bool from_end = *at == '-';
    if (!from_end && !take_number(&at, &first)) {
        return;
    }
    if (*at++ != '-' || (*at && !take_number(&at, &last)) || *at || (from_end && !range[7])) {
        return;
    }
    if (from_end) {
        s->unsatisfiable = last == 0 || s->total == 0;
        first = last < s->total ? s->total - last : 0;
        last = UINT64_MAX;
    } else if (last < first) {
        return;
    }
    s->unsatisfiable = s->unsatisfiable || first >= s->total;
    if (!s->unsatisfiable) {
        last = last < s->total ? last : s->total - 1;
        *s = (struct span){first, last - first + 1, s->total, true, false};
    }
}

/* Whether a list of ETags has ours. */
static bool names_tag(const char *list, const char *etag)
{
    return list && (strcmp(list, "*") == 0 || strstr(list, etag) != NULL);
}

static ssize_t read_nothing(void *ctx, uint64_t at, char *out, size_t n)
{
    (void)ctx, (void)at, (void)out, (void)n;
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* Send a span of fd, which is closed with the answer. fd -1: only the head. */
static enum MHD_Result send_file(struct request *q, int fd, const struct span *s, const char *etag)
{
    const struct mhd_lib *lib = q->server->lib;
    char range[80];
    const char *headers[] = {"ETag",
                             etag,
                             "Accept-Ranges",
                             "bytes",
                             "Content-Type",
                             "application/octet-stream",
                             "Cache-Control",
                             q->server->opts->is_private ? "private, " FOREVER : "public, " FOREVER,
                             s->part ? "Content-Range" : NULL,
                             range,
                             NULL};
    snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)s->begin,
             (unsigned long long)(s->begin + s->bytes - 1), (unsigned long long)s->total);
    struct MHD_Response *r =
        fd >= 0 ? lib->response_of_fd(s->bytes, fd, s->begin)
                : lib->response_of_callback(s->bytes, 1024, read_nothing, NULL, NULL);
    if (!r && fd >= 0) {
        close(fd);
    }
    q->bytes = fd >= 0 ? s->bytes : 0;
    return answer(q, s->part ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, r, headers);
}

static enum MHD_Result send_no_body(struct request *q, unsigned code, const char *name,
                                    const char *value)
{
    static char empty[1];
    const char *headers[] = {name, value, NULL};
    return answer(q, code, q->server->lib->response_of_buffer(0, empty, MHD_RESPMEM_PERSISTENT),
                  headers);
}

/* What is to be sent of a file of `total` bytes, or the answer that says why nothing is. */
static bool choose_span(struct request *q, uint64_t total, const char *etag, struct span *s,
                        enum MHD_Result *done)
{
    char all[64];
    const char *range = header(q, "Range"), *if_range = header(q, "If-Range");
    *s = (struct span){0, total, total, false, false};
    if (names_tag(header(q, "If-None-Match"), etag)) {
        *done = send_no_body(q, MHD_HTTP_NOT_MODIFIED, "ETag", etag);
        return false;
    }
    if (range && (!if_range || strcmp(if_range, etag) == 0)) {
        narrow(s, range);
    }
    if (s->unsatisfiable) {
        snprintf(all, sizeof all, "bytes */%llu", (unsigned long long)total);
        *done = send_no_body(q, MHD_HTTP_RANGE_NOT_SATISFIABLE, "Content-Range", all);
        return false;
    }
    return true;
}

/* The size of a blob that is there, from the index: HEAD expands nothing. */
static enum bnt_status look_at_blob(struct request *q, uint64_t *size)
{
    struct bnt_cache_entry e;
    bool warm = false;
    uint64_t stored = 0;
    enum bnt_status st = bnt_cache_find(q->cache, q->route.digest, &e, &q->why);
    if (st == BNT_OK) {
        st = bnt_cache_tier(q->cache, e.digest, &warm, &stored, &q->why);
    }
    if (st == BNT_OK && stored == 0 && e.size > 0) {
        st = bnt_err_set(&q->why, BNT_E_NOT_FOUND, "cache: the file of %s is gone", e.digest);
    } else if (st == BNT_OK && !warm && stored != e.size) {
        st = bnt_err_set(&q->why, BNT_E_DIGEST, "cache: %s has the wrong size", e.digest);
    }
    *size = st == BNT_OK ? e.size : 0;
    return st;
}

static enum MHD_Result answer_blob(struct request *q)
{
    struct bnt_cache_lease lease = {.fd = -1};
    struct bnt_cache_entry e;
    struct span s;
    char etag[BNT_SHA256_HEX + 2], path[BNT_PATH_MAX];
    uint64_t size = 0;
    enum MHD_Result done;
    snprintf(etag, sizeof etag, "\"%s\"", q->route.digest);
    if (look_at_blob(q, &size) != BNT_OK) {
        return fail(q);
    }
    if (!choose_span(q, size, etag, &s, &done)) {
        return done;
    }
    if (!is_head(q) && bnt_cache_use(q->cache, q->route.digest, &e, path, &lease, &q->why) != 0) {
        return fail(q);
    }
    return send_file(q, lease.fd, &s, etag);
}

static enum MHD_Result answer_tree(struct request *q)
{
    struct span s;
    struct stat sb;
    char etag[BNT_SHA256_HEX + 7];
    int fd = -1;
    enum MHD_Result done;
    snprintf(etag, sizeof etag, "\"tree-%s\"", q->route.digest);
    if (bnt_cache_tree_open(q->cache, q->route.digest, &fd, &q->why) != BNT_OK) {
        return fail(q);
    }
    if (fstat(fd, &sb) != 0) {
        close(fd);
        return MHD_NO;
    }
    if (!choose_span(q, (uint64_t)sb.st_size, etag, &s, &done)) {
        close(fd);
        return done;
    }
    if (is_head(q)) {
        close(fd);
        fd = -1;
    }
    return send_file(q, fd, &s, etag);
}

enum MHD_Result serve_answer(struct request *q)
{
    if (strcmp(q->method, "GET") != 0 && !is_head(q)) {
        return serve_text(q, MHD_HTTP_METHOD_NOT_ALLOWED, "GET, HEAD and PUT are answered");
    }
    if (q->route.kind == ROUTE_HEALTH) {
        return answer_health(q);
    }
    if (q->server->opts->is_private && !serve_authorised(q)) {
        return serve_text(q, MHD_HTTP_UNAUTHORIZED, "a token is needed");
    }
    if (q->route.kind != ROUTE_NONE && serve_open_cache(q) != BNT_OK) {
        return fail(q);
    }
    switch (q->route.kind) {
    case ROUTE_MODELS:
        return answer_models(q);
    case ROUTE_MODEL:
        return answer_model(q);
    case ROUTE_BLOB:
        return answer_blob(q);
    case ROUTE_TREE:
        return answer_tree(q);
    default:
        return serve_text(q, MHD_HTTP_NOT_FOUND, "there is no such place; see docs/cache.md");
    }
}
