/* Guards sources of S3 against a server that checks signatures: the S3 interface of OpenStack Swift
 * from Debian, started by the test on loopback (testkit/servers/s3_of_swift.py). */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fetch/manifest.h"
#include "fetch/s3.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/server_fixture.h"
#include "testkit/suites/transfer_fixture.h"

#define KEY "test:tester"
#define SECRET "s3cr3t/+key"
enum { OBJECT_BYTES = 20 << 20 };

struct swift {
    struct server server;
    char endpoint[64];
    const char *bytes;
    char digest[BNT_SHA256_HEX];
};

static void set(const char *name, const char *value)
{
    assert_int_equal(value ? setenv(name, value, 1) : unsetenv(name), 0);
}

static void use_keys(const char *access, const char *secret)
{
    set("AWS_ACCESS_KEY_ID", access);
    set("AWS_SECRET_ACCESS_KEY", secret);
}

/* A request for a bucket or an object, signed by the code under test; the code of the answer. */
static long send_signed(const char *method, const char *text, const void *bytes, size_t n)
{
    struct source s;
    char url[SOURCE_URL_MAX];
    assert_int_equal(source_parse(text, &s, NULL), BNT_OK);
    assert_int_equal(s3_url(&s, method, url, NULL), BNT_OK);
    struct server_request r = {.method = method, .url = url, .body = bytes, .body_bytes = n};
    return server_send(&r);
}

/* A bucket's URL is no source. */
static void make_bucket(const struct swift *w, const char *name)
{
    char url[SOURCE_URL_MAX], path[128];
    const struct s3_key key = {.access = KEY, .secret = SECRET, .region = "us-east-1"};
    snprintf(path, sizeof path, "%s/%s", w->endpoint, name);
    const struct s3_request request = {.method = "PUT", .url = path, .now_s = time(NULL)};
    assert_int_equal(s3_sign(&request, &key, url, NULL), BNT_OK);
    struct server_request r = {.method = "PUT", .url = url, .body = "", .body_bytes = 0};
    assert_int_equal(server_send(&r), 200);
}

static void start(struct swift *w)
{
    char folder[BNT_PATH_MAX], script[BNT_PATH_MAX], port[16];
    static const char *const names[] = {"AWS_SESSION_TOKEN",   "AWS_REGION", "AWS_DEFAULT_REGION",
                                        "AWS_ENDPOINT_URL_S3", "http_proxy", "all_proxy"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        set(names[i], NULL);
    }
    int first = server_free_ports(4);
    snprintf(port, sizeof port, "%d", first);
    snprintf(script, sizeof script, "%s", suite_source("testkit/servers/s3_of_swift.py"));
    assert_int_equal(bnt_mkdirs(fixture_path(folder, "swift"), NULL), BNT_OK);
    const char *const argv[] = {script, folder, port, NULL};
    server_start_ready(&w->server, argv);
    snprintf(w->endpoint, sizeof w->endpoint, "http://127.0.0.1:%d", first);
    set("AWS_ENDPOINT_URL", w->endpoint);
    use_keys(KEY, SECRET);
    w->bytes = transfer_bytes(OBJECT_BYTES, 3);
    transfer_digest(w->bytes, OBJECT_BYTES, w->digest);
    make_bucket(w, "models");
}

static void fetch_whole(const struct swift *w, const char *text, const char *name)
{
    struct bnt_fetch_result r;
    struct bnt_err err;
    const struct bnt_fetch_opts o = {
        .name = name, .sha256 = w->digest, .connections = 4, .force = true};
    if (server_fetch(text, &o, &r, NULL, &err) != BNT_OK) {
        fail_msg("%s: %s", text, err.msg);
    }
    transfer_assert_blob(&r, w->bytes, OBJECT_BYTES);
}

/* What the server refuses has this exit code, and shows no key. */
static void assert_refused(const struct swift *w, const char *access, const char *secret, int exit)
{
    struct suite_output o;
    const char *const argv[] = {suite_bnt(), "fetch",   "--name",  "x",
                                "--sha256",  w->digest, "--force", "s3://models/m.gguf",
                                NULL};
    use_keys(access, secret);
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != exit) {
        fail_msg("%s: exit %d: %s", access ? access : "no key", o.exit, o.err);
    }
    assert_null(strstr(o.err, "X-Amz"));
    assert_null(strstr(o.err, SECRET));
    suite_output_release(&o);
    use_keys(KEY, SECRET);
}

static void signatures_are_accepted_and_wrong_ones_refused(void **state)
{
    (void)state;
    struct swift w;
    static const char *const keys[] = {
        "s3://models/m.gguf",
        "s3://models/a folder/m+n=1 & \xc3\xa4 (v2)~.gguf",
        "s3://models/100%25/%3Fq#x.gguf",
    };
    start(&w);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_int_equal(send_signed("PUT", keys[i], w.bytes, OBJECT_BYTES), 200);
        assert_int_equal(send_signed("HEAD", keys[i], NULL, 0), 200);
        fetch_whole(&w, keys[i], "m");
    }
    assert_refused(&w, KEY, "another secret", BNT_E_AUTH);
    assert_refused(&w, "test:nobody", SECRET, BNT_E_AUTH);
    assert_refused(&w, NULL, NULL, BNT_E_FAILED); /* 400: to Swift this is no request of S3 */
    assert_int_equal(send_signed("DELETE", keys[1], NULL, 0), 204);
    assert_int_equal(send_signed("HEAD", keys[1], NULL, 0), 404);
    struct bnt_fetch_result r;
    struct bnt_err err;
    const struct bnt_fetch_opts o = {.name = "gone", .sha256 = w.digest, .force = true};
    assert_int_equal(server_fetch(keys[1], &o, &r, NULL, &err), BNT_E_NOT_FOUND);
    server_stop(&w.server);
}

static void manifest_and_resume(void **state)
{
    (void)state;
    struct swift w;
    struct suite_output o;
    char path[BNT_PATH_MAX], text[512];
    struct bnt_fetch_result r;
    struct bnt_err err;
    uint64_t resumed = 0;
    start(&w);
    assert_int_equal(send_signed("PUT", "s3://models/m.gguf", w.bytes, OBJECT_BYTES), 200);
    const char *const words[] = {"fetch",    "-q",     "--limit-rate",       "4M",
                                 "--sha256", w.digest, "s3://models/m.gguf", NULL};
    server_kill_fetch(words, 6 << 20);
    /* Slow enough that what had come before is seen at the first look. */
    const struct bnt_fetch_opts known = {.sha256 = w.digest, .limit_bytes_s = 16 << 20};
    assert_int_equal(server_fetch("s3://models/m.gguf", &known, &r, &resumed, &err), BNT_OK);
    assert_true(resumed >= 4 << 20); /* what came in the last second may not be recorded yet */
    transfer_assert_blob(&r, w.bytes, OBJECT_BYTES);
    snprintf(text, sizeof text, "models:\n  a:\n    source: s3://models/m.gguf\n    sha256: %s\n",
             w.digest);
    fixture_write(fixture_path(path, MANIFEST_FILE), text);
    const char *const commands[][4] = {{"lock"}, {"fetch", "--locked"}, {"path", "a"}};
    for (size_t i = 0; i < 3; i++) {
        const char *argv[] = {suite_bnt(), commands[i][0], commands[i][1], NULL};
        suite_run(argv, suite_scratch(), 0, &o);
        if (o.exit != 0) {
            fail_msg("%s: exit %d: %s", commands[i][0], o.exit, o.err);
        }
        suite_output_release(&o);
    }
    server_stop(&w.server);
}

/* `bnt` with these words; what it says when it fails is shown. */
static void assert_runs(const char *const *words)
{
    struct suite_output o;
    const char *argv[8] = {suite_bnt()};
    for (size_t i = 0; words[i]; i++) {
        argv[i + 1] = words[i];
    }
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("bnt %s %s: exit %d: %s", words[0], words[1], o.exit, o.err);
    }
    suite_output_release(&o);
}

static void model_goes_to_the_cold_tier_and_comes_back(void **state)
{
    (void)state;
    struct swift w;
    struct bnt_cache_entry e;
    struct bnt_fetch_result r;
    struct bnt_err err;
    char object[128];
    start(&w);
    assert_int_equal(send_signed("PUT", "s3://models/m.gguf", w.bytes, OBJECT_BYTES), 200);
    fetch_whole(&w, "s3://models/m.gguf", "m");
    assert_runs(
        (const char *const[]){"cache", "push", "--cold", "s3://models/ci", "--move", "m", NULL});
    struct bnt_cache *c;
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_cache_open(NULL, &c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_find(c, "m", &e, NULL), BNT_OK);
    assert_int_equal(bnt_cache_blob_path(c, e.digest, path, NULL), BNT_OK);
    assert_int_not_equal(access(path, F_OK), 0);
    bnt_cache_close(c);
    snprintf(object, sizeof object, "s3://models/ci/v1/blobs/sha256/%s", w.digest);
    assert_int_equal(send_signed("HEAD", object, NULL, 0), 200);
    assert_int_equal(send_signed("DELETE", "s3://models/m.gguf", NULL, 0), 204);
    assert_runs((const char *const[]){"cache", "pull", "m", NULL});
    const struct bnt_fetch_opts known = {.sha256 = w.digest, .offline = true};
    assert_int_equal(server_fetch("s3://models/m.gguf", &known, &r, NULL, &err), BNT_OK);
    transfer_assert_blob(&r, w.bytes, OBJECT_BYTES);
    /* Keys that the server refuses move nothing, and the model stays. */
    use_keys(KEY, "another secret");
    struct suite_output o;
    const char *const refused[] = {suite_bnt(),         "cache",  "push", "--cold",
                                   "s3://models/other", "--move", "m",    NULL};
    suite_run(refused, suite_scratch(), 0, &o);
    assert_int_equal(o.exit, BNT_E_AUTH);
    assert_null(strstr(o.err, "another secret"));
    suite_output_release(&o);
    assert_int_equal(access(path, F_OK), 0);
    server_stop(&w.server);
}

static const struct suite_test tests[] = {
    {.name = "swift_signatures_are_accepted_and_wrong_ones_refused",
     .body = signatures_are_accepted_and_wrong_ones_refused,
     .needs = "swift-s3api, source",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {.name = "swift_transfer_goes_on_after_a_kill_and_manifest_locks_it",
     .body = manifest_and_resume,
     .needs = "swift-s3api, source",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {.name = "swift_model_goes_to_the_cold_tier_and_comes_back",
     .body = model_goes_to_the_cold_tier_and_comes_back,
     .needs = "swift-s3api, source",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 120000},
    {0},
};
const struct suite suite_swift = {"swift", tests, "s3_service"};
