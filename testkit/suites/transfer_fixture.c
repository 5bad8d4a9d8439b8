/* A large file, a server for it, a fetch. */
#include "testkit/suites/transfer_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "testkit/suite.h"
#include "testkit/suites/cache_fixture.h"

const char *transfer_bytes(size_t n, unsigned seed)
{
    static char *kept[8]; /* so that they are not lost */
    static size_t n_kept;
    char *bytes = malloc(n);
    assert_non_null(bytes);
    assert_true(n_kept < sizeof kept / sizeof kept[0]);
    kept[n_kept++] = bytes;
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes[i] = (char)(x >> 56);
    }
    return bytes;
}

void transfer_digest(const char *bytes, size_t n, char hex[BNT_SHA256_HEX])
{
    struct bnt_sha256 *d;
    assert_int_equal(bnt_sha256_new(&d, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_update(d, bytes, n, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_hex(d, hex, NULL), BNT_OK);
    bnt_sha256_free(d);
}

static struct bnt_mock_server *start(const struct bnt_mock_route *routes, const char *certificate)
{
    static const char *const names[] = {
        "CURL_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "http_proxy", "https_proxy",
        "HTTPS_PROXY",    "all_proxy",    "ALL_PROXY",     "HTTP_PROXY", "SSLKEYLOGFILE",
    };
    struct bnt_mock_server *s = NULL;
    struct bnt_err err = {0};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
    if (bnt_mock_server_start(routes, certificate, &s, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return s;
}

struct bnt_mock_server *transfer_server(const struct bnt_mock_route *routes)
{
    return start(routes, NULL);
}

struct bnt_mock_server *transfer_tls_server(const struct bnt_mock_route *routes)
{
    char certificate[BNT_PATH_MAX];
    struct bnt_mock_server *s = start(routes, fixture_path(certificate, "certificate.pem"));
    assert_int_equal(setenv("SSL_CERT_FILE", certificate, 1), 0);
    return s;
}

enum bnt_status transfer_fetch(const struct bnt_mock_server *s, const char *path,
                               const struct bnt_fetch_opts *opts, struct bnt_fetch_result *r,
                               double *waited_s, struct bnt_err *err)
{
    char url[300];
    struct bnt_cache *c = fixture_cache();
    snprintf(url, sizeof url, "%s%s", bnt_mock_server_url(s), path);
    static bool faked;
    if (!faked) { /* a later fetch of a test comes later */
        bnt_clock_fake(TRANSFER_START_S * 1000000000ull);
        faked = true;
    }
    uint64_t before_ns = bnt_clock_now_ns();
    enum bnt_status st = bnt_fetch(c, url, opts, r, err);
    if (waited_s) {
        *waited_s = (double)(bnt_clock_now_ns() - before_ns) * 1e-9;
    }
    bnt_cache_close(c);
    return st;
}

void transfer_assert_blob(const struct bnt_fetch_result *r, const char *bytes, size_t n)
{
    struct bnt_buf b = BNT_BUF(256 << 20);
    assert_int_equal(bnt_file_read(r->path, &b, NULL), BNT_OK);
    assert_int_equal(b.len, n);
    assert_memory_equal(b.data, bytes, n);
    bnt_buf_release(&b);
}

bool transfer_request_has(struct bnt_mock_server *s, size_t k, const char *line)
{
    char head[8192], whole[512];
    bnt_mock_server_request(s, k, head, sizeof head);
    snprintf(whole, sizeof whole, "\r\n%s\r\n", line);
    return strstr(head, whole) != NULL;
}
