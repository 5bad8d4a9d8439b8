/* Guards the way of bytes over a network that fails: a failure that ends what could go on, a wait
 * that a server asked for and did not get, bytes that are fetched twice, bytes of two files in one.
 * Every case says how often the server is asked, how long is waited (by a fake clock), how many
 * bytes move, and how it ends. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/backoff.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { FILE_BYTES = 300000, HALF = 150000 };

/* ---- waits ---- */

static void waits_are_jittered_and_bounded(void **state)
{
    (void)state;
    static const uint64_t ceiling_ms[] = {500, 1000, 2000, 4000, 8000, 16000, 30000, 30000};
    for (unsigned k = 0; k < 8; k++) {
        uint64_t least = UINT64_MAX, most = 0;
        for (uint64_t i = 0; i < 1000; i++) {
            uint64_t ns = backoff_wait_ns(k + 1, i * 0x9e3779b97f4a7c15u);
            least = ns < least ? ns : least;
            most = ns > most ? ns : most;
        }
        assert_true(most <= ceiling_ms[k] * 1000000);
        assert_true(most > ceiling_ms[k] * 950000); /* full jitter: all of the range is used */
        assert_true(least < ceiling_ms[k] * 50000);
    }
    assert_true(backoff_wait_ns(1000000, UINT64_MAX) <= 30000000000u);
}

static void headers_say_how_long_to_wait(void **state)
{
    (void)state;
    const int64_t now_s = 1445412480; /* Wed, 21 Oct 2015 07:28:00 GMT */
    static const struct {
        const char *name, *value;
        int64_t wait_s;
    } cases[] = {
        {"Retry-After", "120", 120},
        {"Retry-After", "0", -1},
        {"retry-after", "Wed, 21 Oct 2015 07:28:20 GMT", 20},
        {"Retry-After", "Wednesday, 21-Oct-15 07:28:20 GMT", 20},
        {"Retry-After", "Wed Oct 21 07:28:20 2015", 20},
        {"Retry-After", "Wed, 21 Oct 2015 07:27:00 GMT", -1},
        {"Retry-After", "soon", -1},
        {"Retry-After", "-5", -1},
        {"Retry-After", "", -1},
        {"Retry-After", "31535999", 31535999},
        {"Retry-After", "99999999999999999999", BACKOFF_ASKED_MAX_S},
        {"Retry-After", "Fri, 31 Dec 9999 23:59:59 GMT", BACKOFF_ASKED_MAX_S},
        {"X-RateLimit-Reset", "253402300799", BACKOFF_ASKED_MAX_S},
        {"RateLimit", "r=0;t=18446744075", BACKOFF_ASKED_MAX_S},
        {"RateLimit-Reset", "50", 50},
        {"X-RateLimit-Reset", "1445412490", 10},
        {"RateLimit", "\"api\";r=0;t=55", 55},
        {"RateLimit", "limit=100, remaining=0, reset=30", 30},
        {"RateLimit", "limit=100", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t got = backoff_header_wait_s(cases[i].name, cases[i].value, now_s);
        if (got != cases[i].wait_s) {
            fail_msg("%s: %s gave %lld", cases[i].name, cases[i].value, (long long)got);
        }
    }
}

/* ---- faults, one script each ---- */

#define REST BNT_MOCK_CLOSE, .fault_at = HALF
#define NO_WAIT .headers = "Retry-After: 0\r\n"

struct fault {
    const char *what;
    struct bnt_mock_step steps[8];
    enum bnt_status status;
    size_t requests;
    double least_s, most_s; /* waited */
    uint64_t served_bytes;  /* 0: a reset makes it uncertain */
    bool changed;           /* the content is the other one at the end */
    const char *last_has;   /* a line of the last request */
};

static const char *old_bytes, *new_bytes;

static void play(const struct fault *f)
{
    const struct bnt_mock_route routes[] = {{.path = "/m.gguf",
                                             .body = old_bytes,
                                             .body_bytes = FILE_BYTES,
                                             .etag = "\"v1\"",
                                             .steps = f->steps},
                                            {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    double waited_s;
    char name[64];
    snprintf(name, sizeof name, "n%p", (const void *)f); /* each case is a model of its own */
    const struct bnt_fetch_opts o = {.stall_timeout_s = 1, .name = name, .connections = 1};
    enum bnt_status st = transfer_fetch(s, "/m.gguf", &o, &r, &waited_s, &err);
    size_t requests = bnt_mock_server_requests(s);
    if (st != f->status || requests != f->requests || waited_s < f->least_s ||
        waited_s > f->most_s) {
        fail_msg("%s: status %d after %zu requests and %.3f s of waiting: %s", f->what, st,
                 requests, waited_s, err.msg);
    }
    uint64_t served = bnt_mock_server_body_bytes(s);
    if (f->served_bytes && served != f->served_bytes) {
        fail_msg("%s: %llu bytes were served", f->what, (unsigned long long)served);
    }
    if (f->last_has && !transfer_request_has(s, requests - 1, f->last_has)) {
        fail_msg("%s: the last request lacks %s", f->what, f->last_has);
    }
    if (st == BNT_OK) {
        transfer_assert_blob(&r, f->changed ? new_bytes : old_bytes, FILE_BYTES);
    }
    bnt_mock_server_stop(s);
}

static void play_all(const struct fault *faults, size_t n)
{
    old_bytes = transfer_bytes(FILE_BYTES, 1);
    new_bytes = transfer_bytes(FILE_BYTES, 2);
    for (size_t i = 0; i < n; i++) {
        play(&faults[i]);
    }
}

static void refusals_are_retried_when_they_may_pass(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"503 twice",
         {{.status = 503}, {.status = 503}, {.status = 200}},
         BNT_OK,
         3,
         0,
         1.5,
         FILE_BYTES,
         false,
         NULL},
        {"500, 502, 504, 408",
         {{.status = 500}, {.status = 502}, {.status = 504}, {.status = 408}, {.status = 200}},
         BNT_OK,
         5,
         0,
         7.5,
         FILE_BYTES,
         false,
         NULL},
        {"429, 0 s", {{.status = 429, NO_WAIT}}, BNT_E_RATE_LIMIT, 5, 0.01, 7.5, 0, false, NULL},
        {"503 for ever", {{.status = 503}}, BNT_E_NETWORK, 5, 0, 7.5, 0, false, NULL},
        {"429 in seconds",
         {{.status = 429, .headers = "Retry-After: 7\r\n"}, {.status = 200}},
         BNT_OK,
         2,
         7,
         7,
         FILE_BYTES,
         false,
         NULL},
        {"429 until a date, by the server's clock",
         {{.status = 429,
           .headers = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n"
                      "Retry-After: Wed, 21 Oct 2015 07:28:20 GMT\r\n"},
          {.status = 200}},
         BNT_OK,
         2,
         20,
         20,
         FILE_BYTES,
         false,
         NULL},
        {"429 until a date, by the server's clock that it tells last",
         {{.status = 429,
           .headers = "Retry-After: Wednesday, 21-Oct-15 07:28:20 GMT\r\n"
                      "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n"},
          {.status = 200}},
         BNT_OK,
         2,
         20,
         20,
         FILE_BYTES,
         false,
         NULL},
        {"429 until a date, by our clock", /* which stands at TRANSFER_START_S and some */
         {{.status = 429, .headers = "Retry-After: Mon, 12 Jan 1970 13:50:00 GMT\r\n"},
          {.status = 200}},
         BNT_OK,
         2,
         100,
         200,
         FILE_BYTES,
         false,
         NULL},
        {"429 with RateLimit",
         {{.status = 429, .headers = "RateLimit: \"a\";r=0;t=9\r\n"}, {.status = 200}},
         BNT_OK,
         2,
         9,
         9,
         FILE_BYTES,
         false,
         NULL},
        {"503 with Retry-After",
         {{.status = 503, .headers = "Retry-After: 11\r\n"}, {.status = 200}},
         BNT_OK,
         2,
         11,
         11,
         FILE_BYTES,
         false,
         NULL},
        {"503 with a longer Retry-After than there is time for",
         {{.status = 503, .headers = "Retry-After: 3600\r\n"}, {.status = 200}},
         BNT_E_RATE_LIMIT,
         1,
         0,
         0,
         0,
         false,
         NULL},
        {"401", {{.status = 401}, {.status = 200}}, BNT_E_AUTH, 1, 0, 0, 0, false, NULL},
        {"403", {{.status = 403}, {.status = 200}}, BNT_E_AUTH, 1, 0, 0, 0, false, NULL},
        {"404", {{.status = 404}, {.status = 200}}, BNT_E_NOT_FOUND, 1, 0, 0, 0, false, NULL},
    };
    play_all(faults, sizeof faults / sizeof faults[0]);
}

/* Whoever reads these has no other clue: each says what to do next. */
static void answers_without_a_file_say_what_to_do(void **state)
{
    (void)state;
    static const struct {
        struct bnt_mock_step steps[2];
        size_t body_bytes;
        enum bnt_status status;
        const char *says, *hint;
    } cases[] = {
        {{{.status = 204}}, 9, BNT_E_FAILED, "answered 204", "no whole file"},
        {{{.status = 203}}, 9, BNT_E_FAILED, "answered 203", "no whole file"},
        {{{.status = 304}}, 9, BNT_E_FAILED, "answered 304", "no whole file"},
        {{{.status = 302}}, 9, BNT_E_FAILED, "answered 302", "the URL of the file itself"},
        {{{.status = 405}}, 9, BNT_E_FAILED, "answered 405", "check the URL"},
        {{{.status = 200}}, 0, BNT_E_FILE, "is empty", "check the URL"},
        {{{.status = 302, .headers = "Location: https://\r\n"}},
         9,
         BNT_E_NETWORK,
         "URL",
         "redirects to what is no URL"},
        {{{.status = 302, .headers = "Location: /m.gguf\r\n"}},
         9,
         BNT_E_NETWORK,
         "redirects",
         "in a circle"},
        {{{.status = 200, .length_delta = INT64_MAX - 9}},
         9,
         BNT_E_NETWORK,
         "the server says 9223372036854775807 bytes",
         "fetch from another place"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct bnt_mock_route routes[] = {{.path = "/m.gguf",
                                                 .body = "nine bytes",
                                                 .body_bytes = cases[i].body_bytes,
                                                 .steps = cases[i].steps},
                                                {0}};
        struct bnt_mock_server *s = transfer_tls_server(routes);
        const struct bnt_fetch_opts o = {.connections = 1};
        struct bnt_fetch_result r;
        struct bnt_err err = {0};
        enum bnt_status st = transfer_fetch(s, "/m.gguf", &o, &r, NULL, &err);
        if (st != cases[i].status || !strstr(err.msg, cases[i].says) ||
            !strstr(err.hint, cases[i].hint)) {
            fail_msg("case %zu: status %d: %s (%s)", i, st, err.msg, err.hint);
        }
        bnt_mock_server_stop(s);
    }
}

static void broken_bodies_go_on_where_they_ended(void **state)
{
    (void)state;
    static const struct fault faults[] = {
        {"closed half way",
         {{.status = 200, .fault = REST}, {.status = 200}},
         BNT_OK,
         2,
         0,
         0.5,
         FILE_BYTES,
         false,
         "Range: bytes=150000-"},
        {"closed twice",
         {{.status = 200, .fault = REST},
          {.status = 200, .fault = BNT_MOCK_CLOSE, .fault_at = 50000},
          {.status = 200}},
         BNT_OK,
         3,
         0,
         1.5,
         FILE_BYTES,
         false,
         "Range: bytes=200000-"},
        {"asked only when it is the same",
         {{.status = 200, .fault = REST}, {.status = 200}},
         BNT_OK,
         2,
         0,
         0.5,
         FILE_BYTES,
         false,
         "If-Range: \"v1\""},
        {"reset half way",
         {{.status = 200, .fault = BNT_MOCK_RESET, .fault_at = HALF}, {.status = 200}},
         BNT_OK,
         2,
         0,
         0.5,
         0,
         false,
         "If-Range: \"v1\""},
        {"stalled at the last byte",
         {{.status = 200, .fault = BNT_MOCK_STALL, .fault_at = FILE_BYTES - 1}, {.status = 200}},
         BNT_OK,
         2,
         0,
         0.5,
         FILE_BYTES,
         false,
         "Range: bytes=299999-"},
        {"a head that never ends",
         {{.status = 200, .fault = BNT_MOCK_LORIS}, {.status = 200}},
         BNT_OK,
         2,
         0,
         0.5,
         FILE_BYTES,
         false,
         NULL},
        {"a body that never ends",
         {{.status = 200, .fault = BNT_MOCK_TRICKLE, .fault_at = HALF}, {.status = 200}},
         BNT_OK,
         2,
         0,
         0.5,
         0,
         false,
         "If-Range: \"v1\""},
        {"a length that is too long",
         {{.status = 200, .length_delta = 10}},
         BNT_E_NETWORK,
         5,
         0,
         7.5,
         0,
         false,
         NULL},
        {"a break, then 503, then the rest",
         {{.status = 200, .fault = REST}, {.status = 503}, {.status = 200}},
         BNT_OK,
         3,
         0,
         1.5,
         FILE_BYTES,
         false,
         "Range: bytes=150000-"},
    };
    play_all(faults, sizeof faults / sizeof faults[0]);
}

static void changed_or_wrong_answers_restart(void **state)
{
    (void)state;
    old_bytes = transfer_bytes(FILE_BYTES, 1);
    new_bytes = transfer_bytes(FILE_BYTES, 2);
    const struct fault faults[] = {
        {"the file changed",
         {{.status = 200, .fault = REST},
          {.status = 200, .etag = "\"v2\"", .body = new_bytes, .body_bytes = FILE_BYTES}},
         BNT_OK,
         2,
         0,
         0.5,
         HALF + FILE_BYTES,
         true,
         "If-Range: \"v1\""},
        {"the file changed within a second, and its ETag did not",
         {{.status = 200,
           .fault = REST,
           .headers = "Date: Thu, 01 Jan 2026 00:00:01 GMT\r\n"
                      "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"},
          {.status = 200, .body = new_bytes, .body_bytes = FILE_BYTES}},
         BNT_OK,
         2,
         0,
         0.5,
         HALF + FILE_BYTES,
         true,
         NULL},
        {"200 for a range",
         {{.status = 200, .fault = REST}, {.status = 200, .ignore_range = true}},
         BNT_OK,
         2,
         0,
         0.5,
         HALF + FILE_BYTES,
         false,
         "Range: bytes=150000-"},
        {"another range than asked for",
         {{.status = 200, .fault = REST},
          {.status = 200, .content_range = "bytes 140000-299999/300000"},
          {.status = 200}},
         BNT_OK,
         3,
         0,
         1.5,
         0,
         false,
         NULL},
        {"a range without Content-Range",
         {{.status = 200, .fault = REST},
          {.status = 200, .content_range = "none"},
          {.status = 200}},
         BNT_OK,
         3,
         0,
         1.5,
         0,
         false,
         NULL},
        {"a range of a file of another size",
         {{.status = 200, .fault = REST},
          {.status = 200, .content_range = "bytes 150000-299999/300001"},
          {.status = 200}},
         BNT_OK,
         3,
         0,
         1.5,
         0,
         false,
         NULL},
        {"416",
         {{.status = 200, .fault = REST}, {.status = 416}, {.status = 200}},
         BNT_OK,
         3,
         0,
         1.5,
         HALF + FILE_BYTES,
         false,
         NULL},
    };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        play(&faults[i]);
    }
}

static void flipped_bit_is_not_kept(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {
        {.status = 200, .fault = BNT_MOCK_FLIP, .fault_at = 1234}, {.status = 200}, {0}};
    char hex[BNT_SHA256_HEX];
    old_bytes = transfer_bytes(FILE_BYTES, 1);
    transfer_digest(old_bytes, FILE_BYTES, hex);
    const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", .body = old_bytes, .body_bytes = FILE_BYTES, .steps = steps}, {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    struct bnt_fetch_result r;
    const struct bnt_fetch_opts o = {.sha256 = hex};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_E_DIGEST);
    assert_int_equal(bnt_mock_server_requests(s), 1);
    struct bnt_cache *c = fixture_cache();
    fixture_assert_empty(c);
    bnt_cache_close(c);
    /* And nothing of it is taken up again. */
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    transfer_assert_blob(&r, old_bytes, FILE_BYTES);
    bnt_mock_server_stop(s);
}

/* A bit turned over in the first half, which only the second transfer can notice. */
static void spoilt_part_is_fetched_again(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {
        {.status = 200, .fault = BNT_MOCK_CLOSE, .fault_at = HALF}, {.status = 200}, {0}};
    char hex[BNT_SHA256_HEX];
    old_bytes = transfer_bytes(FILE_BYTES, 1);
    char *spoilt = malloc(FILE_BYTES);
    assert_non_null(spoilt);
    memcpy(spoilt, old_bytes, FILE_BYTES);
    spoilt[99] ^= 4;
    transfer_digest(old_bytes, FILE_BYTES, hex);
    const struct bnt_mock_route bad[] = {
        {.path = "/m", .body = spoilt, .body_bytes = FILE_BYTES, .etag = "\"1\"", .steps = steps},
        {0}};
    const struct bnt_mock_route good[] = {
        {.path = "/m", .status = 200, .body = old_bytes, .body_bytes = FILE_BYTES, .etag = "\"1\""},
        {0}};
    struct bnt_mock_server *s = transfer_server(bad), *t = transfer_server(good);
    struct bnt_fetch_result r;
    const struct bnt_fetch_opts o = {.sha256 = hex, .max_attempts = 1, .connections = 1};
    assert_int_equal(transfer_fetch(s, "/m", &o, &r, NULL, NULL), BNT_E_NETWORK);
    assert_int_equal(transfer_fetch(t, "/m", &o, &r, NULL, NULL), BNT_OK);
    transfer_assert_blob(&r, old_bytes, FILE_BYTES);
    assert_int_equal(bnt_mock_server_requests(t), 2);
    assert_true(transfer_request_has(t, 0, "Range: bytes=150000-"));
    assert_false(transfer_request_has(t, 1, "Range: bytes=150000-"));
    bnt_mock_server_stop(s);
    bnt_mock_server_stop(t);
    free(spoilt);
}

/* ---- pauses that hold for everybody ---- */

static void pause_of_a_server_holds_for_other_fetches(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {
        {.status = 429, .headers = "Retry-After: 1000\r\n"}, {.status = 200}, {0}};
    old_bytes = transfer_bytes(FILE_BYTES, 1);
    const struct bnt_mock_route routes[] = {
        {.path = "/a.gguf", .body = old_bytes, .body_bytes = FILE_BYTES, .steps = steps},
        {.path = "/b.gguf", .status = 200, .body = old_bytes, .body_bytes = FILE_BYTES},
        {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    double waited_s;
    const struct bnt_fetch_opts o = {0}, patient = {.max_wait_s = 2000};
    assert_int_equal(transfer_fetch(s, "/a.gguf", &o, &r, &waited_s, &err), BNT_E_RATE_LIMIT);
    assert_non_null(strstr(err.hint, "1000 s"));
    assert_true(waited_s == 0); /* more than the fetch may wait: it says so at once */
    assert_int_equal(transfer_fetch(s, "/b.gguf", &o, &r, &waited_s, NULL), BNT_E_RATE_LIMIT);
    assert_int_equal(bnt_mock_server_requests(s), 1); /* not even asked */
    assert_int_equal(transfer_fetch(s, "/b.gguf", &patient, &r, &waited_s, NULL), BNT_OK);
    assert_true(waited_s > 998.9 && waited_s < 1000.1);
    assert_int_equal(bnt_mock_server_requests(s), 2);
    bnt_mock_server_stop(s);
}

/* ---- redirects ---- */

static void expired_signature_is_resolved_again(void **state)
{
    (void)state;
    static const struct bnt_mock_step to[] = {{.status = 302, .headers = "Location: /signed?1\r\n"},
                                              {.status = 302, .headers = "Location: /signed?2\r\n"},
                                              {0}};
    static const struct bnt_mock_step first[] = {
        {.status = 200, .fault = BNT_MOCK_CLOSE, .fault_at = HALF}, {.status = 403}, {0}};
    static const struct bnt_mock_step expired[] = {{.status = 403}, {.status = 200}, {0}};
    old_bytes = transfer_bytes(FILE_BYTES, 1);
    const struct bnt_mock_route routes[] = {{.path = "/m.gguf", .steps = to},
                                            {.path = "/signed?1",
                                             .body = old_bytes,
                                             .body_bytes = FILE_BYTES,
                                             .etag = "\"v\"",
                                             .steps = first},
                                            {.path = "/signed?2",
                                             .body = old_bytes,
                                             .body_bytes = FILE_BYTES,
                                             .etag = "\"v\"",
                                             .steps = expired},
                                            {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_fetch_result r;
    assert_int_equal(transfer_fetch(s, "/m.gguf", &(struct bnt_fetch_opts){0}, &r, NULL, NULL),
                     BNT_OK);
    transfer_assert_blob(&r, old_bytes, FILE_BYTES);
    assert_int_equal(bnt_mock_server_requests(s), 6); /* three times, by way of the redirect */
    assert_int_equal(bnt_mock_server_body_bytes(s), FILE_BYTES);
    bnt_mock_server_stop(s);
}

static void login_does_not_follow_a_redirect_to_another_host(void **state)
{
    (void)state;
    static const struct bnt_mock_route there[] = {
        {.path = "/m.gguf", .status = 200, .body = "bytes", .body_bytes = 5}, {0}};
    char location[200], netrc[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    struct bnt_mock_server *other = transfer_server(there);
    snprintf(location, sizeof location, "Location: http://localhost%s/m.gguf\r\n",
             strrchr(bnt_mock_server_url(other), ':'));
    const struct bnt_mock_route here[] = {{.path = "/m.gguf", .status = 302, .headers = location},
                                          {0}};
    struct bnt_mock_server *s = transfer_server(here);
    struct bnt_fetch_result r;
    fixture_write(fixture_path(netrc, ".netrc"), "machine 127.0.0.1 login me password secret\n");
    assert_int_equal(setenv("HOME", suite_scratch(), 1), 0);
    transfer_digest("bytes", 5, hex);
    const struct bnt_fetch_opts o = {.sha256 = hex};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    assert_true(transfer_request_has(s, 0, "Authorization: Basic bWU6c2VjcmV0"));
    char head[8192];
    bnt_mock_server_request(other, 0, head, sizeof head);
    assert_non_null(strstr(head, "GET /m.gguf"));
    assert_null(strstr(head, "Authorization"));
    bnt_mock_server_stop(s);
    bnt_mock_server_stop(other);
}

static const struct suite_test tests[] = {
    {.name = "transfer_waits_are_jittered_and_bounded", .body = waits_are_jittered_and_bounded},
    {.name = "transfer_headers_say_how_long_to_wait", .body = headers_say_how_long_to_wait},
    {.name = "transfer_refusals_are_retried_when_they_may_pass",
     .body = refusals_are_retried_when_they_may_pass},
    {.name = "transfer_answers_without_a_file_say_what_to_do",
     .body = answers_without_a_file_say_what_to_do},
    {.name = "transfer_broken_bodies_go_on_where_they_ended",
     .body = broken_bodies_go_on_where_they_ended,
     .timeout_ms = 30000},
    {.name = "transfer_changed_or_wrong_answers_restart", .body = changed_or_wrong_answers_restart},
    {.name = "transfer_flipped_bit_is_not_kept", .body = flipped_bit_is_not_kept},
    {.name = "transfer_spoilt_part_is_fetched_again", .body = spoilt_part_is_fetched_again},
    {.name = "transfer_pause_of_a_server_holds_for_other_fetches",
     .body = pause_of_a_server_holds_for_other_fetches},
    {.name = "transfer_expired_signature_is_resolved_again",
     .body = expired_signature_is_resolved_again},
    {.name = "transfer_login_does_not_follow_a_redirect_to_another_host",
     .body = login_does_not_follow_a_redirect_to_another_host},
    {0},
};
const struct suite suite_transfer = {"transfer", tests,
                                     "if_range content_range resume retry_after etag_young"};
