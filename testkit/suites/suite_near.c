/* Guards fetching by digest from a server beside us: content that it has and the source sends
 * again, bytes of it that are believed, a failure of it that costs a fetch. */
#include "testkit/suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/breaker.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/serve_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { N = 300000 };

static const char *bytes;
static char digest[BNT_SHA256_HEX], blob_path[128];

static void make_file(void)
{
    bytes = transfer_bytes(N, 5);
    transfer_digest(bytes, N, digest);
    snprintf(blob_path, sizeof blob_path, "/v1/blobs/sha256/%s", digest);
}

static char warned[700];

static void note_warning(void *ctx, const char *what, const char *hint)
{
    (void)ctx, (void)hint;
    snprintf(warned, sizeof warned, "%s", what);
}

/* Fetch from `origin` with `near` in front; the blob must be right. */
static struct bnt_fetch_result fetch_near(const struct bnt_mock_server *origin, const char *near)
{
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    double waited_s = 0;
    const struct bnt_fetch_opts o = {
        .sha256 = digest, .near = near, .connections = 1, .warn = note_warning, .force = true};
    warned[0] = '\0';
    if (transfer_fetch(origin, "/m.gguf", &o, &r, &waited_s, &err) != BNT_OK || waited_s > 0) {
        fail_msg("%.1f s: %s", waited_s, err.msg);
    }
    transfer_assert_blob(&r, bytes, N);
    return r;
}

static struct bnt_mock_server *origin_server(void)
{
    static struct bnt_mock_route routes[2];
    routes[0] = (struct bnt_mock_route){
        .path = "/m.gguf", .status = 200, .body = bytes, .body_bytes = N, .etag = "\"origin\""};
    return transfer_server(routes);
}

static void what_it_has_comes_from_it_alone(void **state)
{
    (void)state;
    make_file();
    struct bnt_mock_server *origin = origin_server();
    const struct bnt_mock_route routes[] = {
        {.path = blob_path, .status = 200, .body = bytes, .body_bytes = N, .etag = "\"near\""},
        {0}};
    struct bnt_mock_server *near = transfer_server(routes);
    struct bnt_fetch_result r = fetch_near(origin, bnt_mock_server_url(near));
    assert_int_equal(bnt_mock_server_requests(origin), 0);
    assert_int_equal(bnt_mock_server_requests(near), 1);
    assert_string_equal(r.entry.source_tag, ""); /* it would say what the source has */
    assert_non_null(strstr(r.entry.source, "/m.gguf"));
    assert_string_equal(warned, "");
    assert_int_equal(setenv("BNT_MIRROR", bnt_mock_server_url(near), 1), 0);
    (void)fetch_near(origin, NULL);
    assert_int_equal(bnt_mock_server_requests(origin), 0);
    (void)fetch_near(origin, ""); /* the option says none */
    assert_int_equal(bnt_mock_server_requests(origin), 1);
    bnt_mock_server_stop(near);
    bnt_mock_server_stop(origin);
}

/* Each with one request to the near server, no wait, and the right bytes. */
static void its_failure_costs_nothing_but_a_request(void **state)
{
    (void)state;
    static char other[N];
    const struct {
        const char *what;
        struct bnt_mock_route route;
        bool warns;
        uint64_t from_origin;
    } cases[] = {
        {"not there", {.path = "/else", .status = 200}, false, N},
        {"trouble", {.path = blob_path, .status = 503}, true, N},
        {"pause", {.path = blob_path, .status = 429, .headers = "Retry-After: 60\r\n"}, true, N},
        {"no login", {.path = blob_path, .status = 401}, true, N},
        {"other bytes",
         {.path = blob_path, .status = 200, .body = other, .body_bytes = N, .etag = "\"x\""},
         true,
         N},
        {"half of it",
         {.path = blob_path,
          .status = 200,
          .body = bytes,
          .body_bytes = N,
          .etag = "\"x\"",
          .fault = BNT_MOCK_CLOSE,
          .fault_at = N / 2},
         true,
         N},
    };
    make_file();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_mock_route routes[2] = {cases[i].route, {0}};
        if (routes[0].path[1] == 'v') {
            routes[0].path = blob_path;
            routes[0].body = routes[0].body == other ? other : routes[0].body_bytes ? bytes : NULL;
        }
        struct bnt_mock_server *origin = origin_server(), *near = transfer_server(routes);
        (void)fetch_near(origin, bnt_mock_server_url(near));
        if ((warned[0] != '\0') != cases[i].warns) {
            fail_msg("%s: '%s'", cases[i].what, warned);
        }
        assert_int_equal(bnt_mock_server_requests(near), 1);
        assert_int_equal(bnt_mock_server_body_bytes(origin), cases[i].from_origin);
        bnt_mock_server_stop(near);
        bnt_mock_server_stop(origin);
    }
}

/* What it sent of the file is not fetched again. */
static void source_goes_on_where_it_ended(void **state)
{
    (void)state;
    make_file();
    const struct bnt_mock_route routes[] = {{.path = blob_path,
                                             .status = 200,
                                             .body = bytes,
                                             .body_bytes = N,
                                             .etag = "\"x\"",
                                             .fault = BNT_MOCK_RESET,
                                             .fault_at = N / 2},
                                            {0}};
    struct bnt_mock_server *origin = origin_server(), *near = transfer_server(routes);
    struct bnt_fetch_result r;
    const struct bnt_fetch_opts o = {
        .sha256 = digest, .near = bnt_mock_server_url(near), .connections = 1};
    assert_int_equal(transfer_fetch(origin, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    transfer_assert_blob(&r, bytes, N);
    assert_true(bnt_mock_server_body_bytes(origin) < N);
    bnt_mock_server_stop(near);
    bnt_mock_server_stop(origin);
}

/* One that fails again and again is not asked any more. */
static void its_circuit_opens(void **state)
{
    (void)state;
    make_file();
    const struct bnt_mock_route routes[] = {{.path = blob_path, .status = 500}, {0}};
    struct bnt_mock_server *origin = origin_server(), *near = transfer_server(routes);
    for (int i = 0; i < 20; i++) {
        (void)fetch_near(origin, bnt_mock_server_url(near));
    }
    assert_in_range(bnt_mock_server_requests(near), 1, 12);
    assert_non_null(strstr(warned, "left alone"));
    bnt_mock_server_stop(near);
    bnt_mock_server_stop(origin);
}

static void it_is_not_asked_without_a_digest_or_offline(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    make_file();
    const struct bnt_mock_route routes[] = {
        {.path = blob_path, .status = 200, .body = bytes, .body_bytes = N}, {0}};
    struct bnt_mock_server *near = transfer_server(routes);
    const struct bnt_fetch_opts offline = {
        .sha256 = digest, .near = bnt_mock_server_url(near), .offline = true};
    assert_int_equal(transfer_fetch(near, "/m", &offline, &r, NULL, NULL), BNT_E_OFFLINE);
    const struct bnt_fetch_opts bad = {.sha256 = digest, .near = "/a/folder"};
    assert_int_equal(transfer_fetch(near, "/m", &bad, &r, NULL, NULL), BNT_E_USAGE);
    const struct bnt_fetch_opts login = {.sha256 = digest, .near = "http://user:s3cr3t@host"};
    struct bnt_err err = {0};
    assert_int_equal(transfer_fetch(near, "/m", &login, &r, NULL, &err), BNT_E_USAGE);
    assert_null(strstr(err.msg, "s3cr3t"));
    assert_int_equal(bnt_mock_server_requests(near), 0);
    bnt_mock_server_stop(near);
}

/* Two machines, one server between them, no source. */
static void command_fetches_from_a_served_cache(void **state)
{
    (void)state;
    struct served s;
    struct suite_output o;
    char *log, url[160];
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", "a model that only one machine has");
    bnt_cache_close(c);
    served_start(&s, "c", NULL);
    snprintf(url, sizeof url, "%s", s.url);
    assert_int_equal(setenv("BNT_MIRROR", url, 1), 0);
    const char *argv[] = {suite_bnt(), "fetch",  "-q",     "http://127.0.0.1:1/m.gguf",
                          "--sha256",  e.digest, "--name", "copy",
                          NULL};
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("%s", o.err);
    }
    o.out[strcspn(o.out, "\n")] = '\0';
    fixture_assert_holds(o.out, "a model that only one machine has");
    assert_string_equal(o.err, "");
    suite_output_release(&o);
    assert_int_equal(served_stop(&s, SIGTERM, &log), 0);
    assert_non_null(strstr(log, " 33 bytes "));
    free(log);
}

static const struct suite_test tests[] = {
    {.name = "near_what_it_has_comes_from_it_alone", .body = what_it_has_comes_from_it_alone},
    {.name = "near_failure_costs_nothing_but_a_request",
     .body = its_failure_costs_nothing_but_a_request},
    {.name = "near_source_goes_on_where_it_ended", .body = source_goes_on_where_it_ended},
    {.name = "near_circuit_opens", .body = its_circuit_opens},
    {.name = "near_is_not_asked_without_a_digest_or_offline",
     .body = it_is_not_asked_without_a_digest_or_offline},
    {.name = "near_command_fetches_from_a_served_cache",
     .body = command_fetches_from_a_served_cache},
    {0},
};
const struct suite suite_near = {"near", tests, "near_ignored"};
