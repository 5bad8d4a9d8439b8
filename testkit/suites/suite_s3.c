/* Guards sources of S3: a signature that a server would refuse, a key or a signature that is
 * written down, a login that is sent beside the signature. The signature is held to the example
 * that the service's own manual publishes. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fetch/bnt_fetch.h"
#include "fetch/s3.h"
#include "mock/bnt_mock.h"
#include "testkit/suites/cache_fixture.h"

/* 2013-05-24T00:00:00Z, and the keys of the manual's examples. */
enum { EXAMPLE_S = 1369353600 };
static const struct s3_key example = {.access = "AKIAIOSFODNN7EXAMPLE",
                                      .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                                      .region = "us-east-1"};

static void set(const char *name, const char *value)
{
    assert_int_equal(value ? setenv(name, value, 1) : unsetenv(name), 0);
}

static void clean_environment(void)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID",   "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN",   "AWS_REGION",
                                        "AWS_DEFAULT_REGION",  "AWS_ENDPOINT_URL",
                                        "AWS_ENDPOINT_URL_S3", "CURL_CA_BUNDLE",
                                        "SSL_CERT_DIR",        "http_proxy",
                                        "https_proxy",         "HTTPS_PROXY",
                                        "all_proxy",           "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        set(names[i], NULL);
    }
}

/* A URL signed with the keys of the examples, at their time. */
static void sign(const char *method, const char *url, const struct s3_key *key,
                 char out[SOURCE_URL_MAX])
{
    const struct s3_request r = {.method = method, .url = url, .now_s = EXAMPLE_S};
    assert_int_equal(s3_sign(&r, key, out, NULL), BNT_OK);
}

static void signature_is_that_of_the_published_example(void **state)
{
    (void)state;
    static const char object[] = "https://examplebucket.s3.amazonaws.com/test.txt";
    char url[SOURCE_URL_MAX], other[SOURCE_URL_MAX];
    sign("GET", object, &example, url);
    assert_string_equal(
        url, "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
             "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
             "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
             "&X-Amz-Signature="
             "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    /* The usual port is not in the Host header; another one is, and is signed. */
    const char *signature = strstr(url, "Signature=");
    sign("GET", "https://examplebucket.s3.amazonaws.com:443/test.txt", &example, other);
    assert_string_equal(strstr(other, "Signature="), signature);
    sign("GET", "https://examplebucket.s3.amazonaws.com:444/test.txt", &example, other);
    assert_string_not_equal(strstr(other, "Signature="), signature);
    sign("PUT", object, &example, other); /* is good for a PUT alone */
    assert_string_not_equal(strstr(other, "Signature="), signature);
    struct s3_key session = example;
    session.session = "a/b+c=";
    sign("GET", "https://h/k", &session, url);
    assert_non_null(strstr(url, "&X-Amz-Security-Token=a%2Fb%2Bc%3D&X-Amz-SignedHeaders=host&"));
}

static void sources_mean_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *text, *endpoint, *region, *url; /* url NULL: refused */
    } cases[] = {
        {"s3://bucket/a/m.gguf", NULL, NULL, "https://bucket.s3.us-east-1.amazonaws.com/a/m.gguf"},
        {"s3://bucket/m", NULL, "eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com/m"},
        {"s3://a.bucket/m", NULL, NULL, "https://s3.us-east-1.amazonaws.com/a.bucket/m"},
        {"s3://bucket/a b+c", "https://h:9000/", NULL, "https://h:9000/bucket/a%20b%2Bc"},
        {"s3://bucket/a%20b", "http://h", NULL, "http://h/bucket/a%20b"},
        {"s3://bucket/m", "ftp://h", NULL, NULL},
        {"s3://bucket/m", "https://me:secret@h", NULL, NULL},
        {"s3://bucket", NULL, NULL, NULL},
        {"s3://bucket/", NULL, NULL, NULL},
        {"s3://Bucket/m", NULL, NULL, NULL},
        {"s3://-b-/m", NULL, NULL, NULL},
        {"s3://bucket/%0d%0aX", NULL, NULL, NULL},
    };
    clean_environment();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source s;
        set("AWS_ENDPOINT_URL", cases[i].endpoint);
        set("AWS_REGION", cases[i].region);
        enum bnt_status st = source_parse(cases[i].text, &s, NULL);
        if (!cases[i].url) {
            assert_int_equal(st, BNT_E_USAGE);
            continue;
        }
        assert_int_equal(st, BNT_OK);
        assert_string_equal(s.url, cases[i].url);
        assert_int_equal(strncmp(s.shown, "s3://", 5), 0);
    }
}

static const char body[] = "the bytes of a model";

static void object_is_fetched_by_a_signed_url_that_nobody_sees(void **state)
{
    (void)state;
    char certificate[BNT_PATH_MAX], netrc[BNT_PATH_MAX], url[SOURCE_URL_MAX], head[4096];
    struct bnt_mock_route routes[2] = {
        {.path = "/", .status = 200, .body = body, .body_bytes = sizeof body - 1}, {0}};
    struct bnt_mock_server *s = NULL;
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    clean_environment();
    bnt_clock_fake((uint64_t)EXAMPLE_S * 1000000000u);
    fixture_path(certificate, "certificate.pem");
    assert_int_equal(bnt_mock_server_start(routes, certificate, &s, NULL), BNT_OK);
    snprintf(head, sizeof head, "%s/bucket/m.gguf", bnt_mock_server_url(s));
    sign("GET", head, &example, url);
    routes[0].path = strchr(url + 8, '/');
    set("SSL_CERT_FILE", certificate);
    set("AWS_ENDPOINT_URL", bnt_mock_server_url(s));
    set("AWS_ACCESS_KEY_ID", example.access);
    fixture_write(fixture_path(netrc, ".netrc"), "machine 127.0.0.1 login me password secret\n");
    set("HOME", suite_scratch());
    struct bnt_cache *c = fixture_cache();
    const struct bnt_fetch_opts o = {0};
    assert_int_equal(bnt_fetch(c, "s3://bucket/m.gguf", &o, &r, &err), BNT_E_AUTH);
    assert_int_equal(bnt_mock_server_requests(s), 0); /* the secret is missing */
    set("AWS_SECRET_ACCESS_KEY", example.secret);
    err = (struct bnt_err){0};
    if (bnt_fetch(c, "s3://bucket/m.gguf", &o, &r, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    fixture_assert_holds(r.path, body);
    assert_string_equal(r.entry.source, "s3://bucket/m.gguf");
    assert_string_equal(r.entry.name, "m");
    bnt_mock_server_last_request(s, head, sizeof head);
    assert_null(strstr(head, "Authorization")); /* a server refuses two ways of signing */
    err = (struct bnt_err){0};
    const struct bnt_fetch_opts absent = {.name = "x"};
    assert_int_equal(bnt_fetch(c, "s3://bucket/absent", &absent, &r, &err), BNT_E_NOT_FOUND);
    assert_null(strstr(err.msg, "X-Amz"));
    assert_non_null(strstr(err.msg, "s3://bucket/absent"));
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static const struct suite_test tests[] = {
    {.name = "s3_signature_is_that_of_the_published_example",
     .body = signature_is_that_of_the_published_example},
    {.name = "s3_sources_mean_what_they_say", .body = sources_mean_what_they_say},
    {.name = "s3_object_is_fetched_by_a_signed_url_that_nobody_sees",
     .body = object_is_fetched_by_a_signed_url_that_nobody_sees},
    {0},
};
const struct suite suite_s3 = {"s3", tests, "s3_service"};
