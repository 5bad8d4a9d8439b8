/* Signature Version 4 as the AWS General Reference describes it, in the query form: a canonical
 * request, its digest in a string to sign, and a key derived from date, region and service. */
#include "fetch/s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/crypto_lib.h"
#include "base/env.h"
#include "base/fault.h"
#include "fetch/url_text.h"

#define DEFAULT_REGION "us-east-1"
#define DAY_CHARS 8 /* of 20130524T000000Z */
enum { MAC_BYTES = 32, STAMP_MAX = 32, SCOPE_MAX = 160, CANONICAL_MAX = 2 * SOURCE_URL_MAX };

static const char *region(void)
{
    const char *given = bnt_env("AWS_REGION");
    given = given ? given : bnt_env("AWS_DEFAULT_REGION");
    return given ? given : DEFAULT_REGION;
}

/* ---- sources ---- */

/* Names that are good for a host name and for a path: 3 to 63 of a-z 0-9 . - */
static size_t bucket_length(const char *text)
{
    size_t n = strcspn(text, "/");
    size_t good = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789.-_");
    return n == good && n >= 3 && n <= 63 && text[0] != '.' && text[0] != '-' ? n : 0;
}

/* "https://host/" or "https://host/bucket/": where the keys of a bucket begin. */
static bool bucket_url(const char *bucket, char out[SOURCE_URL_MAX])
{
    const char *endpoint = bnt_env("AWS_ENDPOINT_URL_S3");
    int n;
    endpoint = endpoint ? endpoint : bnt_env("AWS_ENDPOINT_URL");
    if (endpoint) {
        size_t end = strlen(endpoint);
        while (end > 0 && endpoint[end - 1] == '/') {
            end--;
        }
        if (strpbrk(endpoint, "?#@ ") || (strncasecmp(endpoint, "https://", 8) != 0 &&
                                          strncasecmp(endpoint, "http://", 7) != 0)) {
            return false;
        }
        n = snprintf(out, SOURCE_URL_MAX, "%.*s/%s/", (int)end, endpoint, bucket);
    } else if (strpbrk(bucket, "._")) { /* certificates do not cover a bucket with dots */
        n = snprintf(out, SOURCE_URL_MAX, "https://s3.%s.amazonaws.com/%s/", region(), bucket);
    } else {
        n = snprintf(out, SOURCE_URL_MAX, "https://%s.s3.%s.amazonaws.com/", bucket, region());
    }
    return n < SOURCE_URL_MAX;
}

enum bnt_status s3_parse(const char *rest, struct source *out, struct bnt_err *err)
{
    char bucket[64], key[1100];
    size_t n = bucket_length(rest);
    bool good = n > 0 && rest[n] == '/' && rest[n + 1] && strlen(rest + n + 1) < sizeof key;
    if (good) {
        snprintf(bucket, sizeof bucket, "%.*s", (int)n, rest);
        snprintf(key, sizeof key, "%s", rest + n + 1);
        good = url_decode(key) && key[0] && !strpbrk(key, "\r\n");
    }
    if (!good) {
        enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "this is no object of S3");
        bnt_err_hint(err, "write s3://BUCKET/KEY; in a key, %%XX stands for other bytes");
        return st;
    }
    if (!bucket_url(bucket, out->url)) {
        return bnt_err_set(err, BNT_E_USAGE, "AWS_ENDPOINT_URL is not the URL of a server");
    }
    snprintf(out->shown, sizeof out->shown, "s3://%s/", bucket);
    if (!url_append(out->url, sizeof out->url, strlen(out->url), key, "/") ||
        !url_append(out->shown, sizeof out->shown, strlen(out->shown), key, "/")) {
        return bnt_err_set(err, BNT_E_USAGE, "the source is too long");
    }
    out->kind = strncasecmp(out->url, "http://", 7) == 0 ? SOURCE_HTTP : SOURCE_HTTPS;
    out->s3 = true;
    return BNT_OK;
}

/* ---- signatures ---- */

static bool mac(const void *key, size_t n_key, const char *text, unsigned char out[MAC_BYTES])
{
    size_t n = 0;
    const struct crypto_lib *lib = NULL;
    return crypto_lib_load(&lib, NULL) == BNT_OK &&
           lib->mac(NULL, "HMAC", NULL, "SHA256", NULL, key, n_key, (const unsigned char *)text,
                    strlen(text), out, MAC_BYTES, &n) != NULL &&
           n == MAC_BYTES;
}

/* The key of one day, region and service. */
static bool signing_key(const struct s3_key *key, const char *day, unsigned char out[MAC_BYTES])
{
    char first[512];
    unsigned char step[MAC_BYTES];
    bool done = snprintf(first, sizeof first, "AWS4%s", key->secret) < (int)sizeof first &&
                mac(first, strlen(first), day, out) && mac(out, MAC_BYTES, key->region, step) &&
                mac(step, sizeof step, BNT_FAULT(s3_service) ? "sts" : "s3", out) &&
                mac(out, MAC_BYTES, "aws4_request", step);
    memcpy(out, step, sizeof step);
    return done;
}

/* The query without its signature, names in order. */
static bool make_query(const struct s3_key *key, const char *stamp, const char *scope,
                       char out[SOURCE_URL_MAX])
{
    const size_t size = SOURCE_URL_MAX;
    snprintf(out, size, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=");
    bool fits = url_append(out, size, strlen(out), key->access, "") &&
                url_append(out, size, strlen(out), "/", "") &&
                url_append(out, size, strlen(out), scope, "");
    size_t n = strlen(out);
    snprintf(out + n, size - n, "&X-Amz-Date=%s&X-Amz-Expires=%d", stamp, S3_SIGNED_FOR_S);
    n = strlen(out);
    if (fits && key->session) {
        snprintf(out + n, size - n, "&X-Amz-Security-Token=");
        fits = url_append(out, size, strlen(out), key->session, "");
        n = strlen(out);
    }
    return fits && snprintf(out + n, size - n, "&X-Amz-SignedHeaders=host") < (int)(size - n);
}

/* The host as it is sent in the header of that name, and where the path begins. */
static const char *host_of(const char *url, char host[300])
{
    const char *begin = strstr(url, "://") + 3;
    size_t n = strcspn(begin, "/");
    const char *path = begin + n;
    const char *usual = strncasecmp(url, "https:", 6) == 0 ? ":443" : ":80";
    size_t k = strlen(usual);
    if (n > k && memcmp(begin + n - k, usual, k) == 0) {
        n -= k; /* libcurl does not send the usual port */
    }
    snprintf(host, 300, "%.*s", (int)n, begin);
    return path;
}

/* A request without its signature. */
struct unsigned_request {
    const char *method, *url, *query;
    const char *stamp; /* of the time, as S3 writes it */
};

static enum bnt_status sign_query(const struct unsigned_request *r, const struct s3_key *key,
                                  char signature[BNT_SHA256_HEX], struct bnt_err *err)
{
    char host[300], canonical[CANONICAL_MAX], hex[BNT_SHA256_HEX], text[512];
    unsigned char secret[MAC_BYTES] = {0}, out[MAC_BYTES];
    char day[DAY_CHARS + 1];
    const char *path = host_of(r->url, host);
    snprintf(day, sizeof day, "%.*s", DAY_CHARS, r->stamp);
    int n = snprintf(canonical, sizeof canonical, "%s\n%s\n%s\nhost:%s\n\nhost\nUNSIGNED-PAYLOAD",
                     r->method, path, r->query, host);
    if (n >= (int)sizeof canonical) {
        return bnt_err_set(err, BNT_E_USAGE, "the source is too long");
    }
    enum bnt_status st = bnt_sha256_text(canonical, strlen(canonical), hex, err);
    if (st != BNT_OK) {
        return st;
    }
    snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s", r->stamp, day,
             key->region, hex);
    if (!signing_key(key, day, secret) || !mac(secret, sizeof secret, text, out)) {
        return bnt_err_set(err, BNT_E_INTERNAL, "the request to S3 could not be signed");
    }
    for (size_t i = 0; i < sizeof out; i++) {
        snprintf(signature + 2 * i, 3, "%02x", out[i]);
    }
    return BNT_OK;
}

enum bnt_status s3_sign(const struct s3_request *request, const struct s3_key *key,
                        char out[SOURCE_URL_MAX], struct bnt_err *err)
{
    char stamp[STAMP_MAX], scope[SCOPE_MAX], query[SOURCE_URL_MAX], signature[BNT_SHA256_HEX];
    const time_t when = (time_t)request->now_s;
    struct tm utc;
    if (!gmtime_r(&when, &utc) || strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &utc) == 0) {
        return bnt_err_set(err, BNT_E_INTERNAL, "the time cannot be written");
    }
    int n =
        snprintf(scope, sizeof scope, "%.*s/%.100s/s3/aws4_request", DAY_CHARS, stamp, key->region);
    if (n >= (int)sizeof scope || !make_query(key, stamp, scope, query)) {
        return bnt_err_set(err, BNT_E_USAGE, "the credentials for S3 are too long");
    }
    const struct unsigned_request r = {
        .method = request->method, .url = request->url, .query = query, .stamp = stamp};
    enum bnt_status st = sign_query(&r, key, signature, err);
    if (st == BNT_OK && snprintf(out, SOURCE_URL_MAX, "%s?%s&X-Amz-Signature=%s", request->url,
                                 query, signature) >= SOURCE_URL_MAX) {
        st = bnt_err_set(err, BNT_E_USAGE, "the source is too long");
    }
    return st;
}

static enum bnt_status credentials(struct s3_key *out, struct bnt_err *err)
{
    *out = (struct s3_key){.access = bnt_env("AWS_ACCESS_KEY_ID"),
                           .secret = bnt_env("AWS_SECRET_ACCESS_KEY"),
                           .session = bnt_env("AWS_SESSION_TOKEN"),
                           .region = region()};
    return !out->access == !out->secret
               ? BNT_OK
               : bnt_err_set(err, BNT_E_AUTH,
                             "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set");
}

enum bnt_status s3_url(const struct source *s, const char *method, char out[SOURCE_URL_MAX],
                       struct bnt_err *err)
{
    struct s3_key key;
    const struct s3_request r = {.method = method, .url = s->url, .now_s = bnt_clock_unix_s()};
    enum bnt_status st = credentials(&key, err);
    if (st == BNT_OK && key.access) {
        return s3_sign(&r, &key, out, err);
    }
    snprintf(out, SOURCE_URL_MAX, "%s", s->url);
    return st;
}

enum bnt_status s3_settle(struct source *s, struct bnt_err *err)
{
    char url[SOURCE_URL_MAX];
    enum bnt_status st = s3_url(s, "GET", url, err);
    if (st == BNT_OK) {
        memcpy(s->url, url, sizeof s->url);
    }
    return st;
}
