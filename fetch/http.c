/* A request by libcurl. What may go wrong is turned into our statuses here and nowhere else, and so
 * is the question whether it may go better next time.
 *
 * A redirect may not leave https, and there are at most MAX_REDIRECTS of them; a login or a token
 * is for the origin of the source alone, and libcurl drops it when a redirect leads elsewhere. Only
 * 200 and 206 are answers; of every other one the body is not even received.
 *
 * Transient are failures of the way (resolve, connect, send, receive, time-out, an end before the
 * end) and 408, 425, 429, 500, 502, 503 and 504: the same request may succeed later. What the
 * server means (401, 403, 404...) and what is wrong on this side (a certificate that is not
 * trusted, a URL) stays as it is, however often it is asked. HTTP/1.1 is spoken, since several
 * connections over one multiplexed one would be none. */
#include "fetch/http.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/utf8.h"
#include "fetch/backoff.h"

#define MAX_REDIRECTS 8L
#define CONNECT_TIMEOUT_MS 20000
#define STALL_TIMEOUT_S 30
#define BUFFER_BYTES (512L * 1024)
#define LIMITED_BUFFER_BYTES (16L * 1024) /* libcurl reads up to a hundred before it returns */
#define VALIDATOR_AGE_S 60 /* a Last-Modified younger than this may stand for two contents */
/* So may an ETag of a file that changed in the second of its answer: nginx and others make it of
 * size and time in seconds. */
#define ETAG_AGE_S 2

/* ---- lines of a head ---- */

bool http_header_value(const char *line, size_t n, const char *name, char *value, size_t size)
{
    size_t k = strlen(name);
    if (n <= k || strncasecmp(line, name, k) != 0 || line[k] != ':') {
        return false;
    }
    const char *begin = line + k + 1, *end = line + n;
    while (begin < end && isspace((unsigned char)*begin)) {
        begin++;
    }
    while (end > begin && isspace((unsigned char)end[-1])) {
        end--;
    }
    if ((size_t)(end - begin) >= size) {
        return false;
    }
    memcpy(value, begin, (size_t)(end - begin));
    value[end - begin] = '\0';
    return true;
}

/* Another one may follow: after a redirect, or a proxy's. */
static bool begins_answer(const char *line, size_t n)
{
    return n >= 5 && memcmp(line, "HTTP/", 5) == 0;
}

void http_times_line(struct http_times *t, const char *line, size_t n)
{
    static const char *const waits[] = {"retry-after", "ratelimit", "ratelimit-reset",
                                        "x-ratelimit-reset"}; /* the first one, else who is first */
    char value[sizeof t->value];
    if (begins_answer(line, n)) {
        *t = (struct http_times){.date_s = 0};
    } else if (http_header_value(line, n, "date", value, sizeof value)) {
        (void)backoff_http_date(value, &t->date_s);
    }
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        if ((!t->name || i == 0) && http_header_value(line, n, waits[i], value, sizeof value)) {
            t->name = waits[i];
            memcpy(t->value, value, sizeof value);
        }
    }
}

int64_t http_times_wait_s(const struct http_times *t, long code)
{
    if (!t->name || (code != 429 && code != 503)) {
        return -1;
    }
    return backoff_header_wait_s(t->name, t->value, t->date_s ? t->date_s : bnt_clock_unix_s());
}

/* ---- an exchange ---- */

static long response_code(const struct http_exchange *x)
{
    long code = 0;
    (void)x->lib->easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

/* 206 is an answer only to who asked for a range. */
static bool is_answer(const struct http_exchange *x, long code)
{
    if (x->request.upload) {
        return code == 200 || code == 201 || code == 204;
    }
    return code == 200 || (code == 206 && x->range[0]);
}

/* Complete the head, now that all its lines were seen. */
static void finish_head(struct http_exchange *x)
{
    struct http_head *h = &x->head;
    int64_t modified_s;
    const int64_t date_s = x->times.date_s;
    bool dated = date_s && backoff_http_date(x->last_modified, &modified_s);
    h->code = response_code(x);
    if (h->code == 200) {
        curl_off_t length = -1;
        (void)x->lib->easy_getinfo(x->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        h->total = length > 0 ? (uint64_t)length : 0;
    }
    if (dated && date_s - modified_s < ETAG_AGE_S && !BNT_FAULT(etag_young)) {
        h->etag[0] = '\0';
    }
    if (h->etag[0]) {
        memcpy(h->validator, h->etag, sizeof h->validator);
    } else if (dated && date_s - modified_s >= VALIDATOR_AGE_S) {
        snprintf(h->validator, sizeof h->validator, "%s", x->last_modified);
    }
}

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
    struct http_exchange *x = ctx;
    const struct http_request *r = &x->request;
    (void)one; /* always 1 */
    if (!is_answer(x, response_code(x))) {
        return 0;
    }
    if (r->upload) {
        return n;
    }
    enum bnt_status st = BNT_OK;
    if (!x->head_seen) {
        x->head_seen = true;
        finish_head(x);
        st = r->on_head(r->ctx, &x->head, &x->failed);
    }
    if (st == BNT_OK) {
        st = r->on_body(r->ctx, bytes, n, &x->failed);
    }
    return st == BNT_OK ? n : 0;
}

/* "bytes BEGIN-LAST/TOTAL"; anything else, "*" included, leaves range_begin at its maximum. */
static void read_content_range(struct http_head *h, const char *value)
{
    char *end;
    if (strncasecmp(value, "bytes ", 6) != 0 || !isdigit((unsigned char)value[6])) {
        return;
    }
    uint64_t begin = strtoull(value + 6, &end, 10);
    if (*end != '-' || !isdigit((unsigned char)end[1])) {
        return;
    }
    uint64_t last = strtoull(end + 1, &end, 10);
    if (*end != '/' || !isdigit((unsigned char)end[1])) {
        return;
    }
    uint64_t total = strtoull(end + 1, &end, 10);
    if (*end == '\0' && begin <= last && last < total) {
        h->range_begin = begin;
        h->total = total;
    }
}

static void start_head(struct http_exchange *x)
{
    x->head = (struct http_head){.range_begin = UINT64_MAX, .wait_s = -1};
    x->last_modified[0] = '\0';
}

/* Whether the file itself is packed: servers say so by Content-Encoding, too. */
static bool is_archive(const struct source *s)
{
    static const char *const ends[] = {".gz", ".tgz", ".zst"};
    size_t n = strlen(s->file_name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t k = strlen(ends[i]);
        if (n > k && strcmp(s->file_name + n - k, ends[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void read_header(struct http_exchange *x, const char *line, size_t n)
{
    struct http_head *h = &x->head;
    char value[BNT_CACHE_TAG_MAX];
    if (http_header_value(line, n, "etag", value, sizeof value)) {
        const size_t len = strlen(value); /* one that is no UTF-8 cannot be kept in JSON */
        const bool strong = value[0] == '"' && bnt_utf8_valid(value, len) == len;
        snprintf(h->etag, sizeof h->etag, "%s", strong ? value : "");
    } else if (http_header_value(line, n, "content-range", value, sizeof value)) {
        read_content_range(h, value);
    } else if (http_header_value(line, n, "content-encoding", value, sizeof value)) {
        const bool plain = strcasecmp(value, "identity") == 0 || is_archive(x->request.source);
        snprintf(h->encoding, sizeof h->encoding, "%.31s", plain ? "" : value);
    } else {
        (void)http_header_value(line, n, "last-modified", x->last_modified,
                                sizeof x->last_modified);
    }
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    struct http_exchange *x = ctx;
    (void)one;
    http_times_line(&x->times, line, n);
    if (begins_answer(line, n)) {
        start_head(x);
    } else {
        read_header(x, line, n);
    }
    return n;
}

/* Which protocols a transfer may use, at first and after a redirect: never from https to http.
 * libcurl allows a redirect only what both this option and its own list for redirects allow; that
 * list holds http and https. Before 7.85 it took a mask, which later headers call deprecated. */
static CURLcode set_protocols(struct http_exchange *x)
{
    const bool https = x->request.source->kind == SOURCE_HTTPS;
#if LIBCURL_VERSION_NUM >= 0x075500
    const char *const allowed = https ? "https" : "http,https";
    return x->lib->easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR, allowed);
#else
    const long allowed = https ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS;
    return x->lib->easy_setopt(x->easy, CURLOPT_PROTOCOLS, allowed);
#endif
}

/* A login of ~/.netrc replaces neither a token nor a signature. */
static CURLcode set_token(struct http_exchange *x)
{
    const struct source *s = x->request.source;
    if (!s->token[0] && !s->s3) {
        return CURLE_OK;
    }
    CURLcode rc = x->lib->easy_setopt(x->easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    return rc == CURLE_OK && s->token[0] ? curl_lib_set_token(x->lib, x->easy, s->token, s->basic)
                                         : rc;
}

static CURLcode add_header(struct http_exchange *x, const char *name, const char *value)
{
    char line[BNT_CACHE_TAG_MAX + 24];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *all = x->lib->slist_append(x->headers, line);
    x->headers = all ? all : x->headers;
    return all ? x->lib->easy_setopt(x->easy, CURLOPT_HTTPHEADER, x->headers) : CURLE_OUT_OF_MEMORY;
}

/* Ask for the file only when it is not the one that the validator is of. */
static CURLcode set_unless(struct http_exchange *x)
{
    const char *validator = x->request.unless;
    if (!validator || !validator[0]) {
        return CURLE_OK;
    }
    return add_header(x, validator[0] == '"' ? "If-None-Match" : "If-Modified-Since", validator);
}

static CURLcode set_range(struct http_exchange *x)
{
    const struct http_request *r = &x->request;
    CURLcode rc = CURLE_OK;
    if (r->begin == 0 && r->end == HTTP_TO_THE_END) {
        return rc;
    }
    if (r->end == HTTP_TO_THE_END) {
        snprintf(x->range, sizeof x->range, "%" PRIu64 "-", r->begin);
    } else {
        snprintf(x->range, sizeof x->range, "%" PRIu64 "-%" PRIu64, r->begin, r->end - 1);
    }
    rc = x->lib->easy_setopt(x->easy, CURLOPT_RANGE, x->range);
    bool conditional = r->if_range && r->if_range[0] && !BNT_FAULT(if_range);
    return rc == CURLE_OK && conditional ? add_header(x, "If-Range", r->if_range) : rc;
}

static size_t on_send(char *out, size_t one, size_t n, void *ctx)
{
    struct http_exchange *x = ctx;
    const struct bnt_fetch_opts *o = x->request.opts;
    (void)one; /* always 1 */
    if (o->interrupted && *o->interrupted) {
        bnt_err_set(&x->failed, BNT_E_INTERRUPTED, "interrupted after %llu bytes",
                    (unsigned long long)x->sent);
        return CURL_READFUNC_ABORT;
    }
    ssize_t got = pread(x->request.upload->fd, out, n, (off_t)x->sent);
    if (got < 0) {
        (void)bnt_err_errno(&x->failed, "cannot read what is to be sent");
        return CURL_READFUNC_ABORT;
    }
    x->sent += (uint64_t)got;
    return (size_t)got;
}

/* After a redirect the bytes are sent once more. */
static int on_rewind(void *ctx, curl_off_t offset, int origin)
{
    struct http_exchange *x = ctx;
    if (origin != SEEK_SET || offset < 0) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    x->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Servers that do not know "Expect: 100-continue" cost a second of waiting, which only pays when a
 * refusal saves much. */
#define EXPECT_BYTES (1u << 20)

static CURLcode set_upload(struct http_exchange *x)
{
    const struct http_upload *u = x->request.upload;
    CURLcode rc = CURLE_OK;
    if (!u) {
        return rc;
    }
    if (u->bytes < EXPECT_BYTES) {
        rc = add_header(x, "Expect", "");
    }
    if (rc == CURLE_OK) {
        rc = x->lib->easy_setopt(x->easy, CURLOPT_UPLOAD, 1L);
    }
    if (rc == CURLE_OK) {
        rc = x->lib->easy_setopt(x->easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)u->bytes);
    }
    if (rc == CURLE_OK) {
        rc = x->lib->easy_setopt(x->easy, CURLOPT_READDATA, x);
    }
    if (rc == CURLE_OK) {
        rc = x->lib->easy_setopt(x->easy, CURLOPT_READFUNCTION, on_send);
    }
    if (rc == CURLE_OK) {
        rc = x->lib->easy_setopt(x->easy, CURLOPT_SEEKDATA, x);
    }
    return rc == CURLE_OK ? x->lib->easy_setopt(x->easy, CURLOPT_SEEKFUNCTION, on_rewind) : rc;
}

static CURLcode set_options(struct http_exchange *x)
{
    const struct bnt_fetch_opts *o = x->request.opts;
    const struct {
        CURLoption option;
        long value;
    } longs[] = {
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_FOLLOWLOCATION, 1},
        {CURLOPT_MAXREDIRS, MAX_REDIRECTS},
        {CURLOPT_CONNECTTIMEOUT_MS,
         o->connect_timeout_ms ? (long)o->connect_timeout_ms : CONNECT_TIMEOUT_MS},
        {CURLOPT_LOW_SPEED_LIMIT, BNT_FETCH_STALL_BYTES_S},
        {CURLOPT_LOW_SPEED_TIME, o->stall_timeout_s ? (long)o->stall_timeout_s : STALL_TIMEOUT_S},
        {CURLOPT_BUFFERSIZE, o->limit_bytes_s ? LIMITED_BUFFER_BYTES : BUFFER_BYTES},
        {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
        {CURLOPT_NETRC, CURL_NETRC_OPTIONAL},
    };
    const struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        {CURLOPT_URL, x->request.source->url},
        {CURLOPT_USERAGENT, "bnt/" BNT_VERSION},
        {CURLOPT_ERRORBUFFER, x->text},
        {CURLOPT_WRITEDATA, x},
        {CURLOPT_HEADERDATA, x},
        {CURLOPT_PRIVATE, x},
    };
    CURLcode rc = curl_lib_set_certificates(x->lib, x->easy);
    if (rc == CURLE_OK) {
        rc = set_protocols(x);
    }
    for (size_t i = 0; rc == CURLE_OK && i < sizeof longs / sizeof longs[0]; i++) {
        rc = x->lib->easy_setopt(x->easy, longs[i].option, longs[i].value);
    }
    for (size_t i = 0; rc == CURLE_OK && i < sizeof pointers / sizeof pointers[0]; i++) {
        rc = x->lib->easy_setopt(x->easy, pointers[i].option, pointers[i].value);
    }
    if (rc == CURLE_OK) {
        rc = set_token(x);
    }
    if (rc == CURLE_OK) {
        rc = x->lib->easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, on_body);
    }
    if (rc == CURLE_OK) {
        rc = x->lib->easy_setopt(x->easy, CURLOPT_HEADERFUNCTION, on_header);
    }
    if (rc == CURLE_OK) { /* sizes and ranges of a packed body would be others */
        rc = add_header(x, "Accept-Encoding", "identity");
    }
    if (rc == CURLE_OK) {
        rc = set_unless(x);
    }
    if (rc == CURLE_OK) {
        rc = set_upload(x);
    }
    return rc == CURLE_OK ? set_range(x) : rc;
}

/* What libcurl's result means here, and what to do next. */
static enum bnt_status curl_meaning(const struct http_exchange *x, CURLcode rc, const char **hint)
{
    const long code = response_code(x);
    const bool led = code >= 300 && code < 400; /* a redirect was the last answer */
    *hint = "the network or the server failed; try again, or fetch from another place";
    switch (rc) {
    case CURLE_UNKNOWN_OPTION:
    case CURLE_NOT_BUILT_IN:
        *hint = "libcurl 7.85 or newer with TLS is needed: apt-get install libcurl4";
        return BNT_E_UNSUPPORTED;
    case CURLE_URL_MALFORMAT:
        *hint = led ? "the server redirects to what is no URL; fetch from another place"
                    : "check the URL";
        return led ? BNT_E_NETWORK : BNT_E_USAGE;
    case CURLE_UNSUPPORTED_PROTOCOL:
        *hint = led ? "the server redirects to a place that is not https; ask for the https URL of "
                      "that place"
                    : "what answers there does not speak HTTP; check host and port";
        return BNT_E_NETWORK;
    case CURLE_TOO_MANY_REDIRECTS:
        *hint = "the server redirects in a circle; ask for the URL of the file itself";
        return BNT_E_NETWORK;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        *hint = "set SSL_CERT_FILE to a file with the certificate of the authority that signed the "
                "server's";
        return BNT_E_NETWORK;
    case CURLE_OPERATION_TIMEDOUT:
        *hint = "the server or the way to it is too slow or silent; try again later";
        return BNT_E_NETWORK;
    default:
        return BNT_E_NETWORK;
    }
}

/* A transfer that did not come to an answer. */
static enum bnt_status curl_error(const struct http_exchange *x, CURLcode rc, struct bnt_err *err)
{
    if (x->failed.status != BNT_OK) {
        return bnt_err_copy(err, &x->failed);
    }
    if (rc == CURLE_OUT_OF_MEMORY) {
        return bnt_err_nomem(err, "the transfer", 0);
    }
    const char *hint;
    enum bnt_status st = curl_meaning(x, rc, &hint);
    if (err && err->status == BNT_OK) {
        err->domain = "curl";
        err->foreign = (int)rc;
    }
    bnt_err_set(err, st, "%.300s: %s", x->request.source->shown,
                x->text[0] ? x->text : x->lib->easy_strerror(rc));
    bnt_err_hint(err, "%s", hint);
    return st;
}

enum bnt_status http_status_of_code(long code)
{
    switch (code) {
    case 401:
    case 403:
    case 407:
        return BNT_E_AUTH;
    case 404:
    case 410:
        return BNT_E_NOT_FOUND;
    case 429:
        return BNT_E_RATE_LIMIT;
    case 408:
        return BNT_E_NETWORK;
    default:
        return code >= 500 && code < 600 ? BNT_E_NETWORK : BNT_E_FAILED;
    }
}

/* What to do about an answer that has no row of its own. */
static const char *hint_of_class(long code)
{
    if (code < 300 || code == 304) {
        return "that brings no whole file; check the URL, or fetch from another place";
    }
    if (code < 400) {
        return "it redirects, and says to no place; ask for the URL of the file itself";
    }
    return "it does not give the file at this URL; check the URL, or fetch from another place";
}

void http_proxy_hint(long code, struct bnt_err *err)
{
    if (code == 407) {
        bnt_err_hint(err,
                     "it wants a login: put USER:PASSWORD@ before its host in the variable that "
                     "names it, such as https_proxy");
    } else {
        bnt_err_hint(err,
                     "it does not let the request through; ask who runs it, or name the host in "
                     "no_proxy");
    }
}

enum bnt_status http_proxy_error(const struct curl_lib *lib, CURL *easy, const char *shown,
                                 bool *transient, struct bnt_err *err)
{
    long code = 0;
    (void)lib->easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &code);
    if (code < 400 || BNT_FAULT(proxy_unseen)) {
        return BNT_OK;
    }
    *transient = http_code_is_transient(code);
    enum bnt_status st = http_status_of_code(code);
    bnt_err_set(err, st, "%.300s: the proxy answered %ld", shown, code);
    http_proxy_hint(code, err);
    return st;
}

/* An answer other than 200 and 206. */
static enum bnt_status code_error(const struct http_exchange *x, long code, struct bnt_err *err)
{
    enum bnt_status st = http_status_of_code(code);
    bnt_err_set(err, st, "%.300s: the server answered %ld", x->request.source->shown, code);
    if (code == 407) { /* over http the proxy answers in the server's stead */
        http_proxy_hint(code, err);
    } else if (st == BNT_E_AUTH) {
        bnt_err_hint(err, "the server wants a login that has access; put it into ~/.netrc");
    } else if (st == BNT_E_NOT_FOUND) {
        bnt_err_hint(err, "check the spelling of the URL");
    } else if (st == BNT_E_RATE_LIMIT && x->head.wait_s > 0) {
        bnt_err_hint(err, "too many requests; the server asks to wait %lld s",
                     (long long)x->head.wait_s);
    } else if (st == BNT_E_RATE_LIMIT) {
        bnt_err_hint(err, "too many requests; wait, then try again");
    } else if (st == BNT_E_NETWORK) {
        bnt_err_hint(err, "the server is in trouble; try again later");
    } else if (!x->request.upload) {
        bnt_err_hint(err, "%s", hint_of_class(code));
    }
    return st;
}

bool http_code_is_transient(long code)
{
    static const long codes[] = {408, 425, 429, 500, 502, 503, 504};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (code == codes[i]) {
            return true;
        }
    }
    return false;
}

bool http_curl_is_transient(CURLcode rc)
{
    switch (rc) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_PARTIAL_FILE:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return true;
    default:
        return false;
    }
}

enum bnt_status http_begin(struct http_exchange *x, const struct curl_lib *lib,
                           const struct http_request *request, struct bnt_err *err)
{
    *x = (struct http_exchange){.lib = lib, .request = *request};
    start_head(x);
    x->easy = lib->easy_init();
    if (!x->easy) {
        return bnt_err_nomem(err, "the transfer", 0);
    }
    CURLcode rc = set_options(x);
    return rc == CURLE_OK ? BNT_OK : curl_error(x, rc, err);
}

struct http_outcome http_end(struct http_exchange *x, CURLcode rc, struct bnt_err *err)
{
    struct http_outcome o = {.status = BNT_OK};
    long code = response_code(x), redirects = 0;
    curl_off_t first_us = 0;
    (void)x->lib->easy_getinfo(x->easy, CURLINFO_REDIRECT_COUNT, &redirects);
    (void)x->lib->easy_getinfo(x->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_us);
    o.redirected = redirects > 0;
    o.slow = first_us > HTTP_SLOW_MS * 1000;
    bool answered = rc == CURLE_OK || rc == CURLE_WRITE_ERROR || code >= 400;
    if (rc != CURLE_OK) {
        o.status = http_proxy_error(x->lib, x->easy, x->request.source->shown, &o.transient, err);
    }
    if (o.status != BNT_OK) {
        return o;
    }
    if (x->failed.status == BNT_OK && answered && !is_answer(x, code)) {
        x->head.code = code;
        x->head.wait_s = http_times_wait_s(&x->times, code);
        o.status = code_error(x, code, err);
        o.transient = http_code_is_transient(code);
    } else if (rc != CURLE_OK) {
        o.status = curl_error(x, rc, err);
        o.transient = x->failed.status == BNT_OK && http_curl_is_transient(rc);
    } else if (!x->head_seen && !x->request.upload) { /* a body of no bytes */
        x->head_seen = true;
        finish_head(x);
        o.status = x->request.on_head(x->request.ctx, &x->head, err);
    }
    return o;
}

void http_release(struct http_exchange *x)
{
    if (x->easy) {
        x->lib->easy_cleanup(x->easy);
        x->easy = NULL;
    }
    if (x->headers) {
        x->lib->slist_free_all(x->headers);
        x->headers = NULL;
    }
}
