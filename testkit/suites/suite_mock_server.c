/* Guards `bnt mock server`, on which other people's tests rely: a route that answers otherwise than
 * its script says, a fault that cannot be asked for, a script that is read past its mistakes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mock/server_script.h"
#include "testkit/suite.h"
#include "testkit/suites/engine_support.h"
#include "testkit/suites/mock_support.h"

struct running {
    struct server_script *script;
    struct bnt_mock_server *server;
    struct bnt_mock_served last;
    char last_head[256];
};

static void keep(void *ctx, const struct bnt_mock_served *served)
{
    struct running *r = ctx;
    r->last = *served;
    snprintf(r->last_head, sizeof r->last_head, "%s", served->head);
}

static void start(struct running *r)
{
    struct bnt_err err = {0};
    *r = (struct running){.script = NULL};
    es_ok(server_script_open(suite_source("testkit/data/mock/server.yml"), &r->script, &err), &err);
    struct bnt_mock_server_options o = {
        .routes = server_script_routes(r->script), .on_served = keep, .ctx = r};
    es_ok(bnt_mock_server_start_with(&o, &r->server, &err), &err);
}

static void stop(struct running *r)
{
    bnt_mock_server_stop(r->server);
    server_script_close(r->script);
}

static struct ms_answer get(const struct running *r, const char *path)
{
    return ms_ask(bnt_mock_server_url(r->server), "GET", path, "");
}

static void routes_answer_as_the_script_says(void **state)
{
    (void)state;
    static const struct {
        const char *path, *head, *body;
        bool reset;
    } cases[] = {
        {"/plain", "HTTP/1.1 200 Mock\r\n", "0123456789", false},
        {"/plain", "\r\nX-Number: 7\r\n", "0123456789", false},
        {"/v1/models", "\r\nContent-Type: application/json\r\n",
         "{\"object\": \"list\", \"data\": []}", false},
        {"/moved", "HTTP/1.1 301 Mock\r\n", "", false},
        {"/nowhere", "HTTP/1.1 404 Mock\r\n", "", false},
        {"/close", "Content-Length: 10\r\n", "0123", false},
        {"/reset", "Content-Length: 10\r\n", "0123", true},
        {"/stall", "Content-Length: 10\r\n", "0123", true},
        {"/flip", "Content-Length: 10\r\n", "0123556789", false},
        {"/slow", "Content-Length: 10\r\n", "0123456789", false},
    };
    struct running r;
    start(&r);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ms_answer a = get(&r, cases[i].path);
        if (!strstr(a.text, cases[i].head) || strcmp(ms_body(&a), cases[i].body) != 0 ||
            a.reset != cases[i].reset) {
            fail_msg("%s: %s%s", cases[i].path, a.text, a.reset ? " (reset)" : "");
        }
    }
    stop(&r);
}

/* A byte every 100 ms, which the client sees as such: it gives up after 300 ms without one. */
static void slow_routes_come_byte_by_byte(void **state)
{
    (void)state;
    struct running r;
    start(&r);
    struct ms_answer a = get(&r, "/trickle");
    assert_string_equal(ms_body(&a), "0123456789");
    stop(&r);
    assert_int_equal(r.last.fault, BNT_MOCK_TRICKLE);
}

static void steps_are_played_one_by_one_and_the_last_repeats(void **state)
{
    (void)state;
    struct running r;
    struct ms_answer a;
    start(&r);
    a = get(&r, "/download");
    assert_non_null(strstr(a.text, "429"));
    assert_non_null(strstr(a.text, "Retry-After: 7\r\n"));
    a = get(&r, "/download");
    assert_int_equal(strlen(ms_body(&a)), 10);
    const char *url = bnt_mock_server_url(r.server);
    a = ms_ask(url, "GET", "/download", "Range: bytes=4-7\r\n");
    assert_non_null(strstr(a.text, " 200 "));
    a = ms_ask(url, "GET", "/download", "Range: bytes=4-7\r\n");
    assert_non_null(strstr(a.text, "Content-Range: bytes 0-9/10\r\n"));
    get(&r, "/download");
    a = get(&r, "/download");
    assert_non_null(strstr(a.text, "ETag: \"v2\"\r\n"));
    assert_string_equal(ms_body(&a), "changed");
    for (int i = 0; i < 2; i++) {
        a = ms_ask(url, "GET", "/download", "Range: bytes=2-6\r\n");
        assert_non_null(strstr(a.text, " 206 "));
        assert_string_equal(ms_body(&a), "Every");
    }
    stop(&r);
    assert_int_equal(r.last.n, 8);
    assert_int_equal(r.last.status, 206);
    assert_int_equal(r.last.body_bytes, 5);
    assert_non_null(strstr(r.last_head, "GET /download HTTP/1.1\r\n"));
}

static void other_methods_are_answered_too(void **state)
{
    (void)state;
    struct running r;
    start(&r);
    const char *url = bnt_mock_server_url(r.server);
    struct ms_answer a = ms_ask(url, "POST", "/v1/models", "Content-Length: 5\r\n\r\nhello");
    assert_false(a.reset);
    assert_non_null(strstr(ms_body(&a), "list"));
    a = ms_ask(url, "HEAD", "/plain", "");
    assert_non_null(strstr(a.text, "Content-Length: 10\r\n"));
    assert_string_equal(ms_body(&a), "");
    stop(&r);
}

static void mistakes_in_a_script_are_named_with_their_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", ":1: a script is one key"},
        {"- a\n", "a script is one key"},
        {"route: []\n", "a script is one key"},
        {"routes: []\nmore: 1\n", "a script is one key"},
        {"routes: []\n", "from 1 to 4096"},
        {"routes:\n  - 7\n", ":2: a route is a map"},
        {"routes:\n  - body: x\n", ":2: a route without a path"},
        {"routes:\n  - path: x\n", ":2: x does not begin with /"},
        {"routes:\n  - path: /a b\n", ":2: /a b has a blank"},
        {"routes:\n  - path: /a\n    at: 5\n", ":2: at says where a fault begins"},
        {"routes:\n  - path: /a\n    fault: flip\n    steps:\n      - at: 5\n", ":5: at says"},
        {"routes:\n  - path: /a\n    status: 500\n    status: 200\n", ":4: status is there twice"},
        {"routes:\n  - path: /a\n    steps:\n      - content-range: \"a\\nB: c\"\n",
         ":4: a\nB: c is no header"},
        {"routes:\n  - path: /x\n    colour: red\n", ":3: colour is not known"},
        {"routes:\n  - path: /x\n    fault: explode\n", ":3: explode is none of close"},
        {"routes:\n  - path: /x\n    status: 42\n", ":3: 42 is no whole number"},
        {"routes:\n  - path: /x\n    status: 2oo\n", ":3: 2oo is no whole number"},
        {"routes:\n  - path: /x\n    at: far\n", ":3: far is no number of bytes"},
        {"routes:\n  - path: /x\n    etag: v1\n", ":3: v1 is no etag"},
        {"routes:\n  - path: /x\n    headers: [a]\n", ":3: headers are a map"},
        {"routes:\n  - path: /x\n    headers: {a: \"b\\nc\"}\n", ":3: a is no header"},
        {"routes:\n  - path: /x\n    steps: {}\n", ":3: steps are a list"},
        {"routes:\n  - path: /x\n    steps: []\n", ":3: a list of steps"},
        {"routes:\n  - path: /x\n    steps:\n      - path: /y\n", ":4: path is not known"},
        {"routes:\n  - path: /x\n    steps:\n      - ignore-range: maybe\n", "neither true nor"},
        {"routes:\n  - path: /x\n    file: nothing-here\n", ":3: "},
        {"routes:\n  - path: /x\n  - path: /y\n  - path: /x\n",
         ":4: /x has a route already, in line 2"},
        {"routes: [\n", ":2: "},
        {"{\"routes\": [{\"path\": \"/x\", \"status\": \"up\"}]}", ":1: up is no"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_err err = {0};
        struct server_script *s;
        const char *path = ms_path("s.yml");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(cases[i].text, f);
        fclose(f);
        if (server_script_open(path, &s, &err) == BNT_OK || !strstr(err.msg, cases[i].says)) {
            fail_msg("case %zu: '%s'", i, err.msg);
        }
    }
}

static void addresses_that_are_none_are_refused(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {{.path = "/", .status = 200}, {0}};
    struct bnt_err err = {0};
    struct bnt_mock_server *s;
    struct bnt_mock_server_options o = {.routes = routes, .address = "localhost"};
    assert_int_equal(bnt_mock_server_start_with(&o, &s, &err), BNT_E_USAGE);
    o.address = "127.0.0.2";
    es_ok(bnt_mock_server_start_with(&o, &s, NULL), &err);
    assert_non_null(strstr(bnt_mock_server_url(s), "http://127.0.0.2:"));
    bnt_mock_server_stop(s);
}

/* A log with a gap would be taken for all requests, and nobody finds a server that is silent. */
static void what_cannot_be_written_is_no_success(void **state)
{
    (void)state;
    static const struct {
        const char *run, *says;
    } cases[] = {
        {"exec \"$0\" mock server --script s.yml >/dev/full",
         "cannot write standard output: No space"},
        {"\"$0\" mock server --script s.yml --log /dev/full >url & p=$!; "
         "until [ -s url ]; do sleep 0.05; done; "
         "exec 3<>/dev/tcp/127.0.0.1/$(sed 's/.*://' url); printf 'GET /x HTTP/1.1\\r\\n\\r\\n' "
         ">&3; "
         "cat <&3; kill $p; wait $p",
         "cannot write /dev/full: No space"},
    };
    FILE *f = fopen(ms_path("s.yml"), "w");
    assert_non_null(f);
    fputs("routes: [{path: /x, body: y}]\n", f);
    assert_int_equal(fclose(f), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        const char *const argv[] = {"/bin/bash", "-c", cases[i].run, suite_bnt(), NULL};
        suite_run(argv, suite_scratch(), 8000, &o);
        if (o.exit != BNT_E_NO_SPACE || !strstr(o.err, cases[i].says)) {
            fail_msg("case %zu: exit %d: %s%s", i, o.exit, o.out, o.err);
        }
        suite_output_release(&o);
    }
}

/* A request may hold any bytes, and each one has its line. */
static void request_that_is_no_utf8_has_its_line(void **state)
{
    (void)state;
    static const char script[] = "\"$0\" mock server --script s.yml --log log >url & p=$!; "
                                 "until [ -s url ]; do sleep 0.05; done; "
                                 "exec 3<>/dev/tcp/127.0.0.1/$(sed 's/.*://' url); "
                                 "printf 'GET /\\xe9 HTTP/1.1\\r\\nX: \\xff!\\r\\n\\r\\n' >&3; "
                                 "cat <&3 >/dev/null; kill $p; wait $p; cat log";
    FILE *f = fopen(ms_path("s.yml"), "w");
    assert_non_null(f);
    fputs("routes: [{path: /x, body: y}]\n", f);
    assert_int_equal(fclose(f), 0);
    struct suite_output o;
    const char *const argv[] = {"/bin/bash", "-c", script, suite_bnt(), NULL};
    suite_run(argv, suite_scratch(), 8000, &o);
    if (o.exit != 0 || !strstr(o.out, "\"path\":\"/\\uFFFD\"") ||
        !strstr(o.out, "\"X\":\"\\uFFFD!\"")) {
        fail_msg("exit %d: %s%s", o.exit, o.out, o.err);
    }
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "mock_server_routes_answer_as_the_script_says",
     .body = routes_answer_as_the_script_says,
     .needs = "source"},
    {.name = "mock_server_slow_routes_come_byte_by_byte",
     .body = slow_routes_come_byte_by_byte,
     .needs = "source"},
    {.name = "mock_server_steps_are_played_one_by_one_and_the_last_repeats",
     .body = steps_are_played_one_by_one_and_the_last_repeats,
     .needs = "source"},
    {.name = "mock_server_other_methods_are_answered_too",
     .body = other_methods_are_answered_too,
     .needs = "source"},
    {.name = "mock_server_mistakes_in_a_script_are_named_with_their_line",
     .body = mistakes_in_a_script_are_named_with_their_line},
    {.name = "mock_server_addresses_that_are_none_are_refused",
     .body = addresses_that_are_none_are_refused},
    {.name = "mock_server_what_cannot_be_written_is_no_success",
     .body = what_cannot_be_written_is_no_success},
    {.name = "mock_server_request_that_is_no_utf8_has_its_line",
     .body = request_that_is_no_utf8_has_its_line},
    {0},
};
const struct suite suite_mock_server = {"mock_server", tests, "mock_step"};
