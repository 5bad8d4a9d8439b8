/* Guards fetching over the network: bytes that enter the cache although they are not the ones that
 * were meant, a failure that is reported under another cause, a secret that is written down, a
 * network that is touched without need. Servers are the project's own, on 127.0.0.1. */
#include "testkit/suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/bnt_fetch.h"
#include "mock/bnt_mock.h"
#include "testkit/suites/cache_fixture.h"

/* ---- what the bodies share ---- */

static const char body[] = "the bytes of a model, as far as fetch is concerned";
enum { BODY_BYTES = sizeof body - 1 };
#define WHOLE .status = 200, .body = body, .body_bytes = BODY_BYTES

/* Environment that the machine may have and that would change what these tests see. SIGPIPE is
 * ignored as in bnt: TLS may write into a connection that the server has closed. */
static void clean_environment(void)
{
    signal(SIGPIPE, SIG_IGN);
    static const char *const names[] = {
        "CURL_CA_BUNDLE", "SSL_CERT_DIR",  "SSL_CERT_FILE", "http_proxy",
        "https_proxy",    "HTTPS_PROXY",   "all_proxy",     "ALL_PROXY",
        "HTTP_PROXY",     "SSLKEYLOGFILE", "no_proxy",      "NO_PROXY",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
}

/* A server with TLS whose certificate this process trusts. */
static struct bnt_mock_server *start_https(const struct bnt_mock_route *routes)
{
    char certificate[BNT_PATH_MAX];
    struct bnt_mock_server *s = NULL;
    struct bnt_err err = {0};
    clean_environment();
    fixture_path(certificate, "certificate.pem");
    if (bnt_mock_server_start(routes, certificate, &s, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(setenv("SSL_CERT_FILE", certificate, 1), 0);
    return s;
}

static struct bnt_mock_server *start_http(const struct bnt_mock_route *routes)
{
    struct bnt_mock_server *s = NULL;
    clean_environment();
    assert_int_equal(bnt_mock_server_start(routes, NULL, &s, NULL), BNT_OK);
    return s;
}

static const char *url_of(const struct bnt_mock_server *s, const char *path)
{
    static char url[256];
    snprintf(url, sizeof url, "%s%s", bnt_mock_server_url(s), path);
    return url;
}

static enum bnt_status get(struct bnt_cache *c, const char *source, struct bnt_fetch_result *r)
{
    const struct bnt_fetch_opts plain = {0};
    return bnt_fetch(c, source, &plain, r, NULL);
}

static void assert_blob_is(const struct bnt_fetch_result *r, const char *text)
{
    fixture_assert_holds(r->path, text);
    assert_int_equal(r->entry.size, strlen(text));
}

/* ---- digests ---- */

static void wrong_digest_keeps_nothing(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", WHOLE},
        {0},
    };
    char file[BNT_PATH_MAX], wrong[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(file, "m.gguf"), body);
    fixture_digest("other bytes", wrong);
    const struct bnt_fetch_opts o = {.sha256 = wrong};
    const char *sources[] = {file, url_of(s, "/m.gguf")};
    for (size_t i = 0; i < 2; i++) {
        struct bnt_err err = {0};
        assert_int_equal(bnt_fetch(c, sources[i], &o, &r, &err), BNT_E_DIGEST);
        assert_non_null(strstr(err.msg, wrong));
        fixture_assert_empty(c);
    }
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void known_digest_needs_no_bytes(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {{0}};
    char file[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(file, "m.gguf"), body);
    fixture_digest(body, hex);
    assert_int_equal(get(c, file, &r), BNT_OK);
    const struct bnt_fetch_opts o = {.sha256 = hex, .name = "other", .offline = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/absent.gguf"), &o, &r, NULL), BNT_OK);
    assert_true(r.hit);
    assert_string_equal(r.entry.name, "other");
    assert_blob_is(&r, body);
    assert_int_equal(bnt_mock_server_requests(s), 0);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

/* ---- https and http ---- */

static const struct bnt_mock_route plain_routes[] = {
    {.path = "/m.gguf", WHOLE, .headers = "ETag: \"v1\"\r\n"},
    {.path = "/weak.gguf", WHOLE, .headers = "ETag: W/\"v1\"\r\n"},
    {.path = "/latin1.gguf", WHOLE, .headers = "ETag: \"v\xe9\"\r\n"},
    {0},
};

static void https_is_fetched_once(void **state)
{
    (void)state;
    struct bnt_mock_server *s = start_https(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    assert_false(r.hit);
    assert_string_equal(r.entry.source, url_of(s, "/m.gguf"));
    assert_string_equal(r.entry.source_tag, "\"v1\"");
    assert_blob_is(&r, body);
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    assert_true(r.hit);
    assert_int_equal(bnt_mock_server_requests(s), 1);
    const struct bnt_fetch_opts force = {.force = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &force, &r, NULL), BNT_OK);
    assert_false(r.hit);
    assert_int_equal(bnt_mock_server_requests(s), 2);
    static const char *const without_tag[] = {"/weak.gguf", "/latin1.gguf"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(get(c, url_of(s, without_tag[i]), &r), BNT_OK);
        assert_string_equal(r.entry.source_tag, "");
    }
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void certificate_must_be_trusted(void **state)
{
    (void)state;
    char other[BNT_PATH_MAX];
    struct bnt_mock_server *s = start_https(plain_routes), *stranger = NULL;
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_path(other, "other.pem");
    assert_int_equal(bnt_mock_server_start(plain_routes, other, &stranger, NULL), BNT_OK);
    const char *files[] = {other, "/nonexistent.pem", NULL};
    for (size_t i = 0; i < 3; i++) {
        struct bnt_err err = {0};
        assert_int_equal(
            files[i] ? setenv("SSL_CERT_FILE", files[i], 1) : unsetenv("SSL_CERT_FILE"), 0);
        assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &(struct bnt_fetch_opts){0}, &r, &err),
                         BNT_E_NETWORK);
        assert_non_null(strstr(err.hint, "SSL_CERT_FILE"));
        assert_string_equal(err.domain, "curl");
    }
    assert_int_equal(bnt_mock_server_requests(s), 0);
    fixture_assert_empty(c);
    bnt_mock_server_stop(stranger);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void http_needs_a_digest(void **state)
{
    (void)state;
    char hex[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start_http(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &(struct bnt_fetch_opts){0}, &r, &err),
                     BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--sha256"));
    assert_int_equal(bnt_mock_server_requests(s), 0);
    fixture_digest(body, hex);
    const struct bnt_fetch_opts o = {.sha256 = hex};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &o, &r, NULL), BNT_OK);
    assert_blob_is(&r, body);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void answers_map_to_causes(void **state)
{
    (void)state;
    static const struct {
        int code;
        enum bnt_status status;
    } cases[] = {
        {204, BNT_E_FAILED},  {206, BNT_E_FAILED},    {300, BNT_E_FAILED},     {400, BNT_E_FAILED},
        {401, BNT_E_AUTH},    {403, BNT_E_AUTH},      {404, BNT_E_NOT_FOUND},  {407, BNT_E_AUTH},
        {408, BNT_E_NETWORK}, {410, BNT_E_NOT_FOUND}, {429, BNT_E_RATE_LIMIT}, {451, BNT_E_FAILED},
        {500, BNT_E_NETWORK}, {502, BNT_E_NETWORK},   {503, BNT_E_NETWORK},    {504, BNT_E_NETWORK},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct bnt_mock_route routes[CASES + 1] = {{0}};
    char paths[CASES][16];
    for (size_t i = 0; i < CASES; i++) {
        snprintf(paths[i], sizeof paths[i], "/%d", cases[i].code);
        routes[i] = (struct bnt_mock_route){.path = paths[i], .status = cases[i].code};
        if (cases[i].code >= 206) {
            routes[i].body = "<html>an error page</html>";
            routes[i].body_bytes = 26;
        }
        if (cases[i].code == 500) { /* the rest of an error page is not waited for */
            routes[i].fault = BNT_MOCK_STALL;
            routes[i].fault_at = 10;
        }
        if (cases[i].code == 429) {
            routes[i].headers = "Retry-After: 17\r\n";
        }
    }
    bnt_clock_fake(1000000000000); /* the pause after the 429 holds for the cases after it */
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_cache *c = fixture_cache();
    for (size_t i = 0; i < CASES; i++) {
        struct bnt_fetch_result r;
        struct bnt_err err = {0};
        enum bnt_status st =
            bnt_fetch(c, url_of(s, paths[i]),
                      &(struct bnt_fetch_opts){.max_attempts = 1, .connections = 1}, &r, &err);
        if (st != cases[i].status || !strstr(err.msg, paths[i] + 1)) {
            fail_msg("%d gave status %d: %s", cases[i].code, st, err.msg);
        }
        if (cases[i].code == 429) {
            assert_non_null(strstr(err.hint, "17 s"));
        }
    }
    assert_int_equal(bnt_mock_server_requests(s), CASES);
    fixture_assert_empty(c);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void broken_transfers_are_network_errors_and_keep_nothing(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/close.gguf", WHOLE, .fault = BNT_MOCK_CLOSE, .fault_at = 10},
        {.path = "/close-early.gguf", WHOLE, .fault = BNT_MOCK_CLOSE, .fault_at = 0},
        {.path = "/reset.gguf", WHOLE, .fault = BNT_MOCK_RESET, .fault_at = 10},
        {.path = "/stall.gguf", WHOLE, .fault = BNT_MOCK_STALL, .fault_at = 10},
        {0},
    };
    char hex[BNT_SHA256_HEX];
    fixture_digest(body, hex);
    struct bnt_mock_server *servers[] = {start_http(routes), start_https(routes)};
    struct bnt_cache *c = fixture_cache();
    const struct bnt_fetch_opts o = {.sha256 = hex, .stall_timeout_s = 1, .max_attempts = 1};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; routes[i].path; i++) {
            struct bnt_fetch_result r;
            struct bnt_err err = {0};
            enum bnt_status st = bnt_fetch(c, url_of(servers[k], routes[i].path), &o, &r, &err);
            if (st != BNT_E_NETWORK) {
                fail_msg("%s: status %d, %s", routes[i].path, st, err.msg);
            }
            fixture_assert_empty(c);
        }
        assert_int_equal(bnt_mock_server_requests(servers[k]), 4);
        bnt_mock_server_stop(servers[k]);
    }
    bnt_cache_close(c);
}

static void refused_connection_is_a_network_error(void **state)
{
    (void)state;
    static const struct bnt_mock_route none[] = {{0}};
    char url[256];
    struct bnt_mock_server *s = start_https(none);
    snprintf(url, sizeof url, "%s", url_of(s, "/m.gguf"));
    bnt_mock_server_stop(s); /* nobody listens on its port now */
    bnt_clock_fake(1000000000000);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(get(c, url, &r), BNT_E_NETWORK);
    fixture_assert_empty(c);
    bnt_cache_close(c);
}

static void redirects_are_followed_within_https_only(void **state)
{
    (void)state;
    static const struct bnt_mock_route http_routes[] = {
        {.path = "/m.gguf", WHOLE},
        {0},
    };
    char down[128], hex[BNT_SHA256_HEX];
    struct bnt_mock_server *http = start_http(http_routes);
    snprintf(down, sizeof down, "Location: %s/m.gguf\r\n", bnt_mock_server_url(http));
    const struct bnt_mock_route routes[] = {
        {.path = "/latest.gguf", .status = 302, .headers = "Location: /v1/real.gguf\r\n"},
        {.path = "/v1/real.gguf", WHOLE},
        {.path = "/down.gguf", .status = 302, .headers = down},
        {.path = "/loop.gguf", .status = 302, .headers = "Location: /loop.gguf\r\n"},
        {.path = "/file.gguf", .status = 302, .headers = "Location: file:///etc/hostname\r\n"},
        {0},
    };
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_digest(body, hex); /* even the right digest does not make http acceptable */
    const struct bnt_fetch_opts o = {.sha256 = hex};
    assert_int_equal(bnt_fetch(c, url_of(s, "/down.gguf"), &o, &r, NULL), BNT_E_NETWORK);
    assert_int_equal(bnt_mock_server_requests(http), 0);
    assert_int_equal(get(c, url_of(s, "/file.gguf"), &r), BNT_E_NETWORK);
    size_t before = bnt_mock_server_requests(s);
    assert_int_equal(get(c, url_of(s, "/loop.gguf"), &r), BNT_E_NETWORK);
    assert_int_equal(bnt_mock_server_requests(s) - before, 9); /* the first and eight redirects */
    fixture_assert_empty(c);
    assert_int_equal(get(c, url_of(s, "/latest.gguf"), &r), BNT_OK);
    assert_string_equal(r.entry.name, "latest");
    assert_blob_is(&r, body);
    bnt_mock_server_stop(s);
    bnt_mock_server_stop(http);
    bnt_cache_close(c);
}

static void redirect_may_lead_from_http_to_https(void **state)
{
    (void)state;
    char up[128], hex[BNT_SHA256_HEX];
    struct bnt_mock_server *https = start_https(plain_routes), *http = NULL;
    snprintf(up, sizeof up, "Location: %s/m.gguf\r\n", bnt_mock_server_url(https));
    const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", .status = 301, .headers = up},
        {0},
    };
    assert_int_equal(bnt_mock_server_start(routes, NULL, &http, NULL), BNT_OK);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_digest(body, hex);
    const struct bnt_fetch_opts o = {.sha256 = hex};
    assert_int_equal(bnt_fetch(c, url_of(http, "/m.gguf"), &o, &r, NULL), BNT_OK);
    assert_blob_is(&r, body);
    assert_int_equal(bnt_mock_server_requests(https), 1);
    bnt_mock_server_stop(http);
    bnt_mock_server_stop(https);
    bnt_cache_close(c);
}

static void offline_uses_no_network(void **state)
{
    (void)state;
    struct bnt_mock_server *s = start_https(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    const struct bnt_fetch_opts offline = {.offline = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &offline, &r, NULL), BNT_E_OFFLINE);
    assert_int_equal(bnt_mock_server_requests(s), 0);
    fixture_assert_empty(c);
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &offline, &r, NULL), BNT_OK);
    assert_true(r.hit);
    const struct bnt_fetch_opts both = {.offline = true, .force = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &both, &r, NULL), BNT_E_OFFLINE);
    assert_int_equal(bnt_fetch(c, "bundled:", &offline, &r, NULL), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(s), 1);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

/* ---- secrets ---- */

static void signature_in_a_url_is_not_written_down(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf?sig=s3cr3t", WHOLE},
        {0},
    };
    char index[BNT_PATH_MAX];
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(get(c, url_of(s, "/m.gguf?sig=s3cr3t"), &r), BNT_OK);
    assert_non_null(strstr(r.entry.source, "/m.gguf?query-"));
    assert_null(strstr(r.entry.source, "s3cr3t"));
    assert_int_equal(get(c, url_of(s, "/m.gguf?sig=s3cr3t"), &r), BNT_OK);
    assert_true(r.hit);
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf?sig=s3cr3t-2"),
                               &(struct bnt_fetch_opts){.name = "n"}, &r, &err),
                     BNT_E_NOT_FOUND);
    assert_null(strstr(err.msg, "s3cr3t"));
    assert_null(strstr(err.hint, "s3cr3t"));
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
    struct bnt_buf bytes = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(fixture_path(index, "c/index.db"), &bytes, NULL), BNT_OK);
    assert_null(memmem(bytes.data, bytes.len, "s3cr3t", 6));
    assert_non_null(memmem(bytes.data, bytes.len, "query-", 6)); /* the search itself works */
    bnt_buf_release(&bytes);
}

/* What a job prints is read by many. */
static void secret_of_an_operand_is_not_printed(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf?sig=s3cr3t", WHOLE},
        {0},
    };
    struct bnt_mock_server *s = start_https(routes);
    struct suite_output o;
    char there[300], absent[300];
    snprintf(there, sizeof there, "%s", url_of(s, "/m.gguf?sig=s3cr3t"));
    snprintf(absent, sizeof absent, "%s", url_of(s, "/n.gguf?sig=s3cr3t"));
    FIXTURE_BNT(&o, 8, "fetch", "--json", there, absent, "https://user:s3cr3t@host/m.gguf");
    assert_null(strstr(o.out, "s3cr3t"));
    assert_null(strstr(o.err, "s3cr3t"));
    assert_non_null(strstr(o.out, "{\"event\":\"start\",\"name\":\"m\""));
    assert_non_null(strstr(o.err, "2 of 3 could not be fetched: n, https://..."));
    suite_output_release(&o);
    FIXTURE_BNT(&o, 2, "fetch", "--locked", there);
    assert_null(strstr(o.err, "s3cr3t"));
    suite_output_release(&o);
    bnt_mock_server_stop(s);
}

static void login_comes_from_netrc(void **state)
{
    (void)state;
    char netrc[BNT_PATH_MAX], head[4096];
    struct bnt_mock_server *s = start_https(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    fixture_write(fixture_path(netrc, ".netrc"), "machine 127.0.0.1 login me password secret\n");
    assert_int_equal(setenv("HOME", suite_scratch(), 1), 0);
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    bnt_mock_server_last_request(s, head, sizeof head);
    assert_non_null(strstr(head, "\r\nAuthorization: Basic bWU6c2VjcmV0\r\n"));
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

/* A proxy is asked for the whole URL (RFC 9112, 3.2.2); a host that no_proxy names is asked itself.
 */
static void proxy_of_the_environment_is_asked(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "http://models.invalid/m.gguf", WHOLE},
        {.path = "/direct.gguf", .status = 200, .body = "direct", .body_bytes = 6},
        {0},
    };
    char hex[BNT_SHA256_HEX];
    const struct bnt_fetch_opts o = {.sha256 = hex};
    struct bnt_mock_server *s = start_http(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(setenv("http_proxy", bnt_mock_server_url(s), 1), 0);
    fixture_digest(body, hex);
    assert_int_equal(bnt_fetch(c, "http://models.invalid/m.gguf", &o, &r, NULL), BNT_OK);
    assert_blob_is(&r, body);
    assert_int_equal(setenv("http_proxy", "http://models.invalid", 1), 0);
    assert_int_equal(setenv("no_proxy", "127.0.0.1", 1), 0);
    fixture_digest("direct", hex);
    assert_int_equal(bnt_fetch(c, url_of(s, "/direct.gguf"), &o, &r, NULL), BNT_OK);
    assert_blob_is(&r, "direct");
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

/* ---- the user ---- */

/* The server of the URL was never asked: that is said, and not tried again. */
static void proxy_that_lets_nothing_through_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        const char *code, *hint;
    } cases[] = {
        {"https://login.invalid/m.gguf", "the proxy answered 407", "USER:PASSWORD@"},
        {"https://closed.invalid/m.gguf", "the proxy answered 403", "no_proxy"},
        {"hf://org/repo/m.gguf", "the proxy answered 407", "USER:PASSWORD@"},
        {"http://plain.invalid/m.gguf", "the server answered 407", "USER:PASSWORD@"},
    };
    static const struct bnt_mock_route routes[] = {
        {.path = "login.invalid:443", .status = 407},
        {.path = "closed.invalid:443", .status = 403},
        {.path = "http://plain.invalid/m.gguf", .status = 407},
        {0},
    };
    struct bnt_mock_server *proxy = start_http(routes);
    struct bnt_cache *c = fixture_cache();
    char hex[BNT_SHA256_HEX];
    fixture_digest(body, hex);
    assert_int_equal(setenv("https_proxy", bnt_mock_server_url(proxy), 1), 0);
    assert_int_equal(setenv("http_proxy", bnt_mock_server_url(proxy), 1), 0);
    assert_int_equal(setenv("HF_ENDPOINT", "https://login.invalid", 1), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_fetch_result r;
        struct bnt_err err = {0};
        const struct bnt_fetch_opts o = {.sha256 = hex};
        if (bnt_fetch(c, cases[i].source, &o, &r, &err) != BNT_E_AUTH ||
            !strstr(err.msg, cases[i].code) || !strstr(err.hint, cases[i].hint)) {
            fail_msg("%s: status %d, %s, %s", cases[i].source, err.status, err.msg, err.hint);
        }
        assert_int_equal(bnt_mock_server_requests(proxy), i + 1);
    }
    fixture_assert_empty(c);
    bnt_mock_server_stop(proxy);
    bnt_cache_close(c);
}

static volatile sig_atomic_t interrupted;

static void interrupt_at_first_byte(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)done_bytes;
    *(uint64_t *)ctx = total_bytes;
    interrupted = 1;
}

static void interrupt_ends_a_transfer(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", WHOLE, .fault = BNT_MOCK_STALL, .fault_at = 10},
        {0},
    };
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = fixture_cache();
    uint64_t total = 0;
    const struct bnt_fetch_opts o = {
        .interrupted = &interrupted, .progress = interrupt_at_first_byte, .ctx = &total};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &o, &r, NULL), BNT_E_INTERRUPTED);
    assert_int_equal(total, BODY_BYTES);
    fixture_assert_empty(c);
    assert_int_equal(bnt_fetch(c, "bundled:", &o, &r, NULL), BNT_E_INTERRUPTED);
    fixture_assert_empty(c);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static const struct suite_test tests[] = {
    {.name = "fetch_wrong_digest_keeps_nothing", .body = wrong_digest_keeps_nothing},
    {.name = "fetch_known_digest_needs_no_bytes", .body = known_digest_needs_no_bytes},
    {.name = "fetch_https_is_fetched_once", .body = https_is_fetched_once},
    {.name = "fetch_certificate_must_be_trusted", .body = certificate_must_be_trusted},
    {.name = "fetch_http_needs_a_digest", .body = http_needs_a_digest},
    {.name = "fetch_answers_map_to_causes", .body = answers_map_to_causes},
    {.name = "fetch_broken_transfers_are_network_errors_and_keep_nothing",
     .body = broken_transfers_are_network_errors_and_keep_nothing,
     .timeout_ms = 30000},
    {.name = "fetch_refused_connection_is_a_network_error",
     .body = refused_connection_is_a_network_error},
    {.name = "fetch_redirects_are_followed_within_https_only",
     .body = redirects_are_followed_within_https_only},
    {.name = "fetch_redirect_may_lead_from_http_to_https",
     .body = redirect_may_lead_from_http_to_https},
    {.name = "fetch_offline_uses_no_network", .body = offline_uses_no_network},
    {.name = "fetch_signature_in_a_url_is_not_written_down",
     .body = signature_in_a_url_is_not_written_down},
    {.name = "fetch_secret_of_an_operand_is_not_printed",
     .body = secret_of_an_operand_is_not_printed},
    {.name = "fetch_login_comes_from_netrc", .body = login_comes_from_netrc},
    {.name = "fetch_proxy_of_the_environment_is_asked", .body = proxy_of_the_environment_is_asked},
    {.name = "fetch_proxy_that_lets_nothing_through_is_named",
     .body = proxy_that_lets_nothing_through_is_named},
    {.name = "fetch_interrupt_ends_a_transfer", .body = interrupt_ends_a_transfer},
    {0},
};
const struct suite suite_fetch_http = {"fetch_http", tests, "digest_unchecked proxy_unseen"};
