/* Guards transfers against nginx from Debian, started by the test on loopback: ranges, If-Range and
 * 416 as a real server answers them, https with an authority of our own, files that change in
 * place, several mirrors, a proxy, and a body in an encoding that nobody asked for. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/server_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { MODEL_BYTES = 20 << 20, N_PORTS = 6, HOUR_S = 3600 };
/* What the ports are: plain, slow, the same in a folder of its own, with TLS, empty, one that takes
 * files. */
enum { PLAIN, SLOW, MIRROR, TLS, EMPTY, DAV };

struct nginx {
    struct server server;
    int port; /* of PLAIN; the others follow */
    const char *bytes;
    char digest[BNT_SHA256_HEX];
};

static void run(const char *const *argv)
{
    struct suite_output o;
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("%s: exit %d: %s", argv[0], o.exit, o.err);
    }
    suite_output_release(&o);
}
#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static time_t started_s;

/* Bytes in `name` below the scratch folder, in place of what it held, as if it had changed age_s
 * seconds before the start. */
static void put(const char *name, const char *bytes, size_t n, int age_s)
{
    char path[BNT_PATH_MAX];
    FILE *f = fopen(fixture_path(path, name), "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    const time_t then = started_s - age_s;
    const struct utimbuf times = {.actime = then, .modtime = then};
    assert_int_equal(utime(path, &times), 0);
}

/* An authority, and a certificate that it gave to 127.0.0.1. */
static void make_certificates(void)
{
    char path[BNT_PATH_MAX];
    fixture_write(fixture_path(path, "san.cnf"), "subjectAltName=IP:127.0.0.1\n");
    RUN("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2");
    RUN("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
        "/CN=server", "-keyout", "server.key", "-out", "server.csr");
    RUN("openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-extfile", "san.cnf", "-out", "server.pem", "-days", "2");
}

static void write_config(const struct nginx *n, bool tls)
{
    char path[BNT_PATH_MAX], text[8192], secure[1024] = "";
    if (tls) {
        make_certificates();
        snprintf(secure, sizeof secure,
                 "server { listen 127.0.0.1:%d ssl; root www; ssl_certificate server.pem; "
                 "ssl_certificate_key server.key; location /packed { gzip_static always; } "
                 "location /slow { limit_rate 8m; alias %.600s/www; } }\n",
                 n->port + TLS, suite_scratch());
    }
    snprintf(text, sizeof text,
             "daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n"
             "events { worker_connections 64; }\n"
             "http {\n"
             "log_format facts '$server_port $status $body_bytes_sent $host';\n"
             "access_log access.log facts;\n"
             "client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;\n"
             "uwsgi_temp_path t4; scgi_temp_path t5; gzip on; gzip_types *; gzip_min_length 1;\n"
             "server { listen 127.0.0.1:%d; root www; }\n"
             "server { listen 127.0.0.1:%d; root www; limit_rate 4m; }\n"
             "server { listen 127.0.0.1:%d; root mirror; }\n"
             "server { listen 127.0.0.1:%d; root empty; }\n"
             "server { listen 127.0.0.1:%d; root far; dav_methods PUT; create_full_put_path on;\n"
             "client_max_body_size 0; }\n%s}\n",
             n->port + PLAIN, n->port + SLOW, n->port + MIRROR, n->port + EMPTY, n->port + DAV,
             secure);
    fixture_write(fixture_path(path, "nginx.conf"), text);
}

static void start(struct nginx *n, bool tls)
{
    static const char *const names[] = {"CURL_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE",
                                        "http_proxy",     "https_proxy",  "HTTPS_PROXY",
                                        "all_proxy",      "ALL_PROXY",    "no_proxy"};
    char path[BNT_PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
    n->port = server_free_ports(N_PORTS);
    n->bytes = transfer_bytes(MODEL_BYTES, 11);
    transfer_digest(n->bytes, MODEL_BYTES, n->digest);
    RUN("mkdir", "www", "mirror", "empty", "far", "www/packed");
    started_s = time(NULL);
    put("www/m.gguf", n->bytes, MODEL_BYTES, HOUR_S);
    put("mirror/m.gguf", n->bytes, MODEL_BYTES, HOUR_S);
    write_config(n, tls);
    const char *program = access("/usr/sbin/nginx", X_OK) == 0 ? "/usr/sbin/nginx" : "nginx";
    fixture_path(path, "nginx.conf");
    const char *const argv[] = {program, "-p", suite_scratch(), "-c", path, NULL};
    server_start(&n->server, argv, n->port + EMPTY);
    if (tls) {
        assert_int_equal(setenv("SSL_CERT_FILE", fixture_path(path, "ca.pem"), 1), 0);
    }
}

static const char *url(const struct nginx *n, int which, const char *path)
{
    static char text[4][128];
    static unsigned next;
    char *out = text[next++ % 4];
    snprintf(out, sizeof text[0], "http%s://127.0.0.1:%d%s", which == TLS ? "s" : "",
             n->port + which, path);
    return out;
}

/* How many answers of that status a port gave, and their bytes, when it is told. */
static int answers(const struct nginx *n, int which, int status, uint64_t *bytes)
{
    char path[BNT_PATH_MAX], host[256];
    int port, code, count = 0;
    unsigned long long size;
    FILE *f = fopen(fixture_path(path, "access.log"), "r");
    assert_non_null(f);
    while (fscanf(f, "%d %d %llu %255s", &port, &code, &size, host) == 4) {
        if (port == n->port + which && code == status) {
            count++;
            *(bytes ? bytes : &(uint64_t){0}) += size;
        }
    }
    fclose(f);
    return count;
}

/* ---- tests ---- */

static void file_comes_by_ranges_over_http_and_https(void **state)
{
    (void)state;
    struct nginx n;
    struct bnt_fetch_result r;
    struct bnt_err err;
    uint64_t bytes = 0;
    start(&n, true);
    const struct bnt_fetch_opts known = {.sha256 = n.digest, .connections = 4};
    assert_int_equal(server_fetch(url(&n, PLAIN, "/m.gguf"), &known, &r, NULL, &err), BNT_OK);
    transfer_assert_blob(&r, n.bytes, MODEL_BYTES);
    const struct bnt_fetch_opts unknown = {.name = "b", .connections = 4};
    assert_int_equal(server_fetch(url(&n, TLS, "/m.gguf"), &unknown, &r, NULL, &err), BNT_OK);
    transfer_assert_blob(&r, n.bytes, MODEL_BYTES);
    assert_string_equal(r.entry.digest, n.digest);
    assert_int_equal(unsetenv("SSL_CERT_FILE"), 0);
    const struct bnt_fetch_opts other = {.name = "c"};
    assert_int_equal(server_fetch(url(&n, TLS, "/m.gguf"), &other, &r, NULL, &err), BNT_E_NETWORK);
    assert_non_null(strstr(err.hint, "SSL_CERT_FILE"));
    server_stop(&n.server);
    assert_true(answers(&n, PLAIN, 206, &bytes) >= 2); /* the log is written at the end of each */
    assert_int_equal(bytes, MODEL_BYTES);
    assert_true(answers(&n, TLS, 206, NULL) >= 2);
}

/* Killed at about 6 MB of 20; *resumed is what the next fetch began with. */
static enum bnt_status kill_and_go_on(const struct nginx *n, const struct bnt_fetch_opts *o,
                                      void (*change)(const struct nginx *n),
                                      struct bnt_fetch_result *r, uint64_t *resumed)
{
    struct bnt_err err;
    const char *where = o->sha256 ? url(n, SLOW, "/m.gguf") : url(n, TLS, "/slow/m.gguf");
    const char *const words[] = {
        "fetch", "-q", "--connections", "1", where, o->sha256 ? "--sha256" : NULL, o->sha256, NULL};
    server_kill_fetch(words, 6 << 20);
    if (change) {
        change(n);
    }
    return server_fetch(where, o, r, resumed, &err);
}

static void transfer_goes_on_after_a_kill(void **state)
{
    (void)state;
    struct nginx n;
    struct bnt_fetch_result r;
    uint64_t resumed = 0;
    start(&n, false);
    const struct bnt_fetch_opts o = {.sha256 = n.digest, .connections = 4};
    assert_int_equal(kill_and_go_on(&n, &o, NULL, &r, &resumed), BNT_OK);
    transfer_assert_blob(&r, n.bytes, MODEL_BYTES);
    assert_true(resumed >= 4 << 20);
    server_stop(&n.server);
}

static const char *other_bytes; /* what the file becomes */
static size_t other_size;
static int other_age_s;

static void replace(const struct nginx *n)
{
    (void)n;
    put("www/m.gguf", other_bytes, other_size, other_age_s);
}

/* No byte of the old file, which changed old_age_s before the start, is in the new one, which
 * changed new_age_s before it. */
static void fetch_anew(int old_age_s, int new_age_s)
{
    struct nginx n;
    struct bnt_fetch_result r;
    start(&n, true);
    put("www/m.gguf", n.bytes, MODEL_BYTES, old_age_s);
    other_bytes = transfer_bytes(MODEL_BYTES, 12);
    other_size = MODEL_BYTES;
    other_age_s = new_age_s;
    const struct bnt_fetch_opts unknown = {.connections = 4};
    assert_int_equal(kill_and_go_on(&n, &unknown, replace, &r, NULL), BNT_OK);
    transfer_assert_blob(&r, other_bytes, MODEL_BYTES);
    server_stop(&n.server);
}

/* By If-Range, and 416 where there is no validator. */
static void file_that_changes_in_place_is_fetched_anew(void **state)
{
    (void)state;
    fetch_anew(HOUR_S, 0);
}

/* The ETag of nginx is size and second: it stays as it was, and is not believed. Whenever this file
 * is asked for, it has just changed. */
static void file_that_changes_within_a_second_is_fetched_anew(void **state)
{
    (void)state;
    fetch_anew(-30, -30);
}

static void file_that_became_shorter_has_another_digest(void **state)
{
    (void)state;
    struct nginx n;
    struct bnt_fetch_result r;
    start(&n, false);
    other_bytes = n.bytes;
    other_size = 1 << 20;
    const struct bnt_fetch_opts known = {.sha256 = n.digest};
    assert_int_equal(kill_and_go_on(&n, &known, replace, &r, NULL), BNT_E_DIGEST);
    server_stop(&n.server);
    assert_true(answers(&n, SLOW, 416, NULL) >= 1);
}

static void mirrors_share_the_file_and_stand_in_for_each_other(void **state)
{
    (void)state;
    struct nginx n;
    struct bnt_fetch_result r;
    struct bnt_err err;
    uint64_t slow = 0, fast = 0;
    start(&n, false);
    const char *const mirrors[] = {url(&n, MIRROR, "/m.gguf"), url(&n, EMPTY, "/m.gguf")};
    const struct bnt_fetch_opts o = {
        .sha256 = n.digest, .mirrors = mirrors, .n_mirrors = 2, .connections = 3};
    assert_int_equal(server_fetch(url(&n, SLOW, "/m.gguf"), &o, &r, NULL, &err), BNT_OK);
    transfer_assert_blob(&r, n.bytes, MODEL_BYTES);
    server_stop(&n.server);
    assert_int_equal(answers(&n, EMPTY, 404, NULL), 1);
    (void)answers(&n, SLOW, 206, &slow);
    (void)answers(&n, MIRROR, 206, &fast);
    assert_true(fast > slow); /* its connections have no limit */
}

static void body_in_an_encoding_is_refused(void **state)
{
    (void)state;
    struct nginx n;
    struct bnt_fetch_result r;
    struct bnt_err err;
    char text[256];
    memset(text, 'a', sizeof text);
    start(&n, true);
    put("www/packed/m.gguf", text, sizeof text, HOUR_S);
    RUN("gzip", "-k", "www/packed/m.gguf");
    const struct bnt_fetch_opts o = {.name = "x"};
    assert_int_equal(server_fetch(url(&n, TLS, "/packed/m.gguf"), &o, &r, NULL, &err),
                     BNT_E_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "gzip"));
    put("www/text.gguf", text, sizeof text, HOUR_S); /* nginx would pack it for who asks for it */
    assert_int_equal(server_fetch(url(&n, TLS, "/text.gguf"), &o, &r, NULL, &err), BNT_OK);
    transfer_assert_blob(&r, text, sizeof text);
    server_stop(&n.server);
}

static void proxy_of_the_environment_is_used(void **state)
{
    (void)state;
    struct nginx n;
    struct bnt_fetch_result r;
    struct bnt_err err;
    start(&n, false);
    assert_int_equal(setenv("http_proxy", url(&n, PLAIN, ""), 1), 0);
    const struct bnt_fetch_opts o = {.sha256 = n.digest};
    assert_int_equal(server_fetch("http://models.invalid/m.gguf", &o, &r, NULL, &err), BNT_OK);
    transfer_assert_blob(&r, n.bytes, MODEL_BYTES);
    server_stop(&n.server);
    assert_true(answers(&n, PLAIN, 206, NULL) >= 2);
}

/* The cold tier needs no more than PUT and GET. */
static void model_goes_to_webdav_and_comes_back(void **state)
{
    (void)state;
    struct nginx n;
    struct bnt_fetch_result r;
    struct bnt_err err;
    char far[BNT_PATH_MAX], name[128];
    start(&n, false);
    const struct bnt_fetch_opts o = {.name = "m", .sha256 = n.digest};
    assert_int_equal(server_fetch(url(&n, PLAIN, "/m.gguf"), &o, &r, NULL, &err), BNT_OK);
    snprintf(name, sizeof name, "far/v1/blobs/sha256/%s", n.digest);
    fixture_path(far, name);
    RUN(suite_bnt(), "cache", "push", "--move", "--cold", url(&n, DAV, ""), "m");
    assert_int_equal(access(r.path, F_OK), -1);
    assert_int_equal(access(far, F_OK), 0);
    RUN(suite_bnt(), "cache", "pull", "m");
    transfer_assert_blob(&r, n.bytes, MODEL_BYTES);
    server_stop(&n.server);
    assert_int_equal(answers(&n, DAV, 201, NULL), 1);
}

#define NGINX_TEST(text, function)                                                                 \
    {                                                                                              \
        .name = text, .body = function, .needs = "nginx, openssl", .tier = SUITE_INTEGRATION,      \
        .timeout_ms = 60000                                                                        \
    }
static const struct suite_test tests[] = {
    NGINX_TEST("nginx_file_comes_by_ranges_over_http_and_https",
               file_comes_by_ranges_over_http_and_https),
    NGINX_TEST("nginx_transfer_goes_on_after_a_kill", transfer_goes_on_after_a_kill),
    NGINX_TEST("nginx_file_that_changes_in_place_is_fetched_anew",
               file_that_changes_in_place_is_fetched_anew),
    NGINX_TEST("nginx_file_that_changes_within_a_second_is_fetched_anew",
               file_that_changes_within_a_second_is_fetched_anew),
    NGINX_TEST("nginx_file_that_became_shorter_has_another_digest",
               file_that_became_shorter_has_another_digest),
    NGINX_TEST("nginx_mirrors_share_the_file_and_stand_in_for_each_other",
               mirrors_share_the_file_and_stand_in_for_each_other),
    NGINX_TEST("nginx_body_in_an_encoding_is_refused", body_in_an_encoding_is_refused),
    NGINX_TEST("nginx_model_goes_to_webdav_and_comes_back", model_goes_to_webdav_and_comes_back),
    NGINX_TEST("nginx_proxy_of_the_environment_is_used", proxy_of_the_environment_is_used),
    {0},
};
const struct suite suite_nginx = {"nginx", tests, "resume"};
