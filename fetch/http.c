/* A transfer by libcurl's easy interface. What may go wrong is turned into our statuses here and
 * nowhere else.
 *
 * A redirect may not leave https, and there are at most MAX_REDIRECTS of them. Only 200 is an
 * answer; of every other one the body is not even received. */
#include "fetch/http.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fetch/curl_lib.h"

#define MAX_REDIRECTS 8L
#define CONNECT_TIMEOUT_MS 20000
#define STALL_TIMEOUT_S 30
#define BUFFER_BYTES (512L * 1024)

struct transfer {
    const struct curl_lib *lib;
    CURL *easy;
    const struct source *source;
    struct sink *sink;
    char *etag;
    long retry_after_s;    /* -1: not said */
    struct bnt_err failed; /* of the sink, from within a callback */
    char text[CURL_ERROR_SIZE];
};

static long response_code(const struct transfer *t)
{
    long code = 0;
    (void)t->lib->easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &code);
    return code;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    (void)one; /* always 1 */
    if (response_code(t) != 200) {
        return 0;
    }
    if (t->sink->total == 0) {
        curl_off_t length = -1;
        (void)t->lib->easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        t->sink->total = length > 0 ? (uint64_t)length : 0;
    }
    return sink_write(t->sink, bytes, n, &t->failed) == BNT_OK ? n : 0;
}

/* The value of a header line, trimmed into `value`, when it is the header of that name. */
static bool header_value(const char *line, size_t n, const char *name, char *value, size_t size)
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

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    char value[BNT_CACHE_TAG_MAX];
    (void)one;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) { /* another answer: after a redirect or a proxy */
        t->etag[0] = '\0';
        t->retry_after_s = -1;
    } else if (header_value(line, n, "etag", value, sizeof value) && value[0] == '"') {
        memcpy(t->etag, value, sizeof value);
    } else if (header_value(line, n, "retry-after", value, sizeof value) &&
               isdigit((unsigned char)value[0])) {
        t->retry_after_s = strtol(value, NULL, 10);
    }
    return n;
}

/* libcurl calls this at least once a second, also while nothing arrives. */
static int on_tick(void *ctx, curl_off_t total, curl_off_t done, curl_off_t up_total, curl_off_t up)
{
    struct transfer *t = ctx;
    (void)total, (void)done, (void)up_total, (void)up;
    return sink_poll(t->sink, &t->failed) != BNT_OK;
}

/* Which protocols a transfer may use, at first and after a redirect: never from https to http.
 * libcurl allows a redirect only what both this option and its own list for redirects allow; that
 * list holds http and https. Before 7.85 it took a mask, which later headers call deprecated. */
static CURLcode set_protocols(struct transfer *t)
{
    const bool https = t->source->kind == SOURCE_HTTPS;
#if LIBCURL_VERSION_NUM >= 0x075500
    const char *const allowed = https ? "https" : "http,https";
    return t->lib->easy_setopt(t->easy, CURLOPT_PROTOCOLS_STR, allowed);
#else
    const long allowed = https ? CURLPROTO_HTTPS : CURLPROTO_HTTP | CURLPROTO_HTTPS;
    return t->lib->easy_setopt(t->easy, CURLOPT_PROTOCOLS, allowed);
#endif
}

static CURLcode set_options(struct transfer *t)
{
    const struct bnt_fetch_opts *o = t->sink->opts;
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
        {CURLOPT_BUFFERSIZE, BUFFER_BYTES},
        {CURLOPT_NOPROGRESS, 0},
        {CURLOPT_NETRC, CURL_NETRC_OPTIONAL},
    };
    const struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        {CURLOPT_URL, t->source->url},  {CURLOPT_USERAGENT, "bnt/" BNT_VERSION},
        {CURLOPT_ERRORBUFFER, t->text}, {CURLOPT_WRITEDATA, t},
        {CURLOPT_HEADERDATA, t},        {CURLOPT_XFERINFODATA, t},
    };
    CURLcode rc = curl_lib_set_certificates(t->lib, t->easy);
    if (rc == CURLE_OK) {
        rc = set_protocols(t);
    }
    for (size_t i = 0; rc == CURLE_OK && i < sizeof longs / sizeof longs[0]; i++) {
        rc = t->lib->easy_setopt(t->easy, longs[i].option, longs[i].value);
    }
    for (size_t i = 0; rc == CURLE_OK && i < sizeof pointers / sizeof pointers[0]; i++) {
        rc = t->lib->easy_setopt(t->easy, pointers[i].option, pointers[i].value);
    }
    if (rc == CURLE_OK) {
        rc = t->lib->easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    }
    if (rc == CURLE_OK) {
        rc = t->lib->easy_setopt(t->easy, CURLOPT_HEADERFUNCTION, on_header);
    }
    return rc == CURLE_OK ? t->lib->easy_setopt(t->easy, CURLOPT_XFERINFOFUNCTION, on_tick) : rc;
}

/* A transfer that did not come to an answer. */
static enum bnt_status curl_error(const struct transfer *t, CURLcode rc, struct bnt_err *err)
{
    if (t->failed.status != BNT_OK) {
        if (err && err->status == BNT_OK) {
            *err = t->failed;
        }
        return t->failed.status;
    }
    const char *hint = "the network or the server failed; try again, or fetch from another place";
    enum bnt_status st = BNT_E_NETWORK;
    switch (rc) {
    case CURLE_OUT_OF_MEMORY:
        return bnt_err_nomem(err, "the transfer", 0);
    case CURLE_UNKNOWN_OPTION:
    case CURLE_NOT_BUILT_IN:
        st = BNT_E_UNSUPPORTED;
        hint = "libcurl 7.85 or newer with TLS is needed: apt-get install libcurl4";
        break;
    case CURLE_URL_MALFORMAT:
        st = BNT_E_USAGE;
        hint = "check the URL";
        break;
    case CURLE_UNSUPPORTED_PROTOCOL:
        hint = "the server redirects to a place that is not https; ask for the https URL of that "
               "place";
        break;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        hint = "set SSL_CERT_FILE to a file with the certificate of the authority that signed the "
               "server's";
        break;
    case CURLE_OPERATION_TIMEDOUT:
        hint = "the server or the way to it is too slow or silent; try again later";
        break;
    default:
        break;
    }
    if (err && err->status == BNT_OK) {
        err->domain = "curl";
        err->foreign = (int)rc;
    }
    bnt_err_set(err, st, "%.300s: %s", t->source->shown,
                t->text[0] ? t->text : t->lib->easy_strerror(rc));
    bnt_err_hint(err, "%s", hint);
    return st;
}

static enum bnt_status status_of_code(long code)
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

/* An answer other than 200. */
static enum bnt_status code_error(const struct transfer *t, long code, struct bnt_err *err)
{
    enum bnt_status st = status_of_code(code);
    bnt_err_set(err, st, "%.300s: the server answered %ld", t->source->shown, code);
    if (st == BNT_E_AUTH) {
        bnt_err_hint(err, "the server wants a login that has access; put it into ~/.netrc");
    } else if (st == BNT_E_NOT_FOUND) {
        bnt_err_hint(err, "check the spelling of the URL");
    } else if (st == BNT_E_RATE_LIMIT && t->retry_after_s >= 0) {
        bnt_err_hint(err, "too many requests; the server asks to wait %ld s", t->retry_after_s);
    } else if (st == BNT_E_RATE_LIMIT) {
        bnt_err_hint(err, "too many requests; wait, then try again");
    } else if (st == BNT_E_NETWORK) {
        bnt_err_hint(err, "the server is in trouble; try again later");
    }
    return st;
}

enum bnt_status http_get(const struct source *source, struct sink *sink,
                         char etag[BNT_CACHE_TAG_MAX], struct bnt_err *err)
{
    struct transfer t = {.source = source, .sink = sink, .etag = etag, .retry_after_s = -1};
    etag[0] = '\0';
    enum bnt_status st = curl_lib_load(&t.lib, err);
    if (st != BNT_OK) {
        return st;
    }
    t.easy = t.lib->easy_init();
    if (!t.easy) {
        return bnt_err_nomem(err, "the transfer", 0);
    }
    CURLcode rc = set_options(&t);
    if (rc == CURLE_OK) {
        rc = t.lib->easy_perform(t.easy);
    }
    long code = response_code(&t);
    bool answered = rc == CURLE_OK || rc == CURLE_WRITE_ERROR || code >= 400;
    if (t.failed.status == BNT_OK && answered && code != 200) {
        st = code_error(&t, code, err);
    } else if (rc != CURLE_OK) {
        st = curl_error(&t, rc, err);
    }
    t.lib->easy_cleanup(t.easy);
    return st;
}
