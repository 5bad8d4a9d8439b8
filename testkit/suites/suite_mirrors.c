/* Guards fetching from several places and over several connections: a mirror that is not used when
 * another fails, bytes of two contents in one file, a slow or hanging connection that keeps the end
 * of a file. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "fetch/breaker.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { SMALL_BYTES = 300000, LARGE_BYTES = 24 << 20, MB = 1 << 20 };

/* ---- what the bodies share ---- */

static char digest[BNT_SHA256_HEX];
static const char *bytes;

static void make_file(size_t n)
{
    bytes = transfer_bytes(n, 7);
    transfer_digest(bytes, n, digest);
}

static struct bnt_mock_route route_of(const struct bnt_mock_step *steps, size_t n, uint64_t rate)
{
    return (struct bnt_mock_route){.path = "/m.gguf",
                                   .status = 200,
                                   .body = bytes,
                                   .body_bytes = n,
                                   .etag = "\"v1\"",
                                   .steps = steps,
                                   .rate_bytes_s = rate};
}

static char mirror_urls[3][300];
static const char *const mirrors[3] = {mirror_urls[0], mirror_urls[1], mirror_urls[2]};

static void name_mirror(size_t i, const struct bnt_mock_server *s)
{
    snprintf(mirror_urls[i], sizeof mirror_urls[i], "%s/m.gguf", bnt_mock_server_url(s));
}

/* Fetch in real time; seconds. */
static double timed_fetch(const struct bnt_mock_server *s, const struct bnt_fetch_opts *o, size_t n)
{
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    char url[300];
    snprintf(url, sizeof url, "%s/m.gguf", bnt_mock_server_url(s));
    struct bnt_cache *c = fixture_cache();
    uint64_t begin_ns = bnt_clock_now_ns();
    if (bnt_fetch(c, url, o, &r, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    double took_s = (double)(bnt_clock_now_ns() - begin_ns) * 1e-9;
    transfer_assert_blob(&r, bytes, n);
    bnt_cache_close(c);
    return took_s;
}

/* ---- one stands in for the other ---- */

static void a_mirror_stands_in_for_what_fails(void **state)
{
    (void)state;
    static const struct bnt_mock_step cases[][3] = {
        {{.status = 503}, {0}},
        {{.status = 404}, {0}},
        {{.status = 429, .headers = "Retry-After: 100\r\n"}, {0}},
        {{.status = 200, .fault = BNT_MOCK_CLOSE, .fault_at = SMALL_BYTES / 2},
         {.status = 500},
         {0}},
    };
    make_file(SMALL_BYTES);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct bnt_mock_route sick[] = {route_of(cases[i], SMALL_BYTES, 0), {0}};
        const struct bnt_mock_route well[] = {route_of(NULL, SMALL_BYTES, 0), {0}};
        struct bnt_mock_server *a = transfer_server(sick), *b = transfer_server(well);
        struct bnt_fetch_result r;
        struct bnt_err err = {0};
        double waited_s;
        name_mirror(0, b);
        const struct bnt_fetch_opts o = {
            .sha256 = digest, .mirrors = mirrors, .n_mirrors = 1, .connections = 1, .force = true};
        enum bnt_status st = transfer_fetch(a, "/m.gguf", &o, &r, &waited_s, &err);
        if (st != BNT_OK || waited_s > 0) {
            fail_msg("case %zu: status %d, %.1f s: %s", i, st, waited_s, err.msg);
        }
        transfer_assert_blob(&r, bytes, SMALL_BYTES);
        assert_int_equal(bnt_mock_server_requests(a), 1);
        assert_int_equal(bnt_mock_server_requests(b), 1);
        if (i == 3) { /* what the first one sent is not fetched again */
            assert_int_equal(bnt_mock_server_body_bytes(b), SMALL_BYTES / 2);
        }
        bnt_mock_server_stop(a);
        bnt_mock_server_stop(b);
    }
}

static void a_mirror_with_other_bytes_spoils_nothing(void **state)
{
    (void)state;
    static const struct bnt_mock_step half[] = {
        {.status = 200, .fault = BNT_MOCK_CLOSE, .fault_at = SMALL_BYTES / 2},
        {.status = 200},
        {0}};
    make_file(SMALL_BYTES);
    char *other = malloc(SMALL_BYTES);
    assert_non_null(other);
    memcpy(other, bytes, SMALL_BYTES);
    other[100] ^= 1;
    const struct bnt_mock_route bad[] = {{.path = "/m.gguf",
                                          .body = other,
                                          .etag = "\"x\"",
                                          .body_bytes = SMALL_BYTES,
                                          .steps = half},
                                         {0}};
    const struct bnt_mock_route good[] = {route_of(NULL, SMALL_BYTES, 0), {0}};
    struct bnt_mock_server *a = transfer_server(bad), *b = transfer_server(good);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    name_mirror(0, b);
    const struct bnt_fetch_opts o = {
        .sha256 = digest, .mirrors = mirrors, .n_mirrors = 1, .connections = 1};
    if (transfer_fetch(a, "/m.gguf", &o, &r, NULL, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    transfer_assert_blob(&r, bytes, SMALL_BYTES);
    bnt_mock_server_stop(a);
    bnt_mock_server_stop(b);
    free(other);
}

static void mirrors_need_a_digest_and_are_urls(void **state)
{
    (void)state;
    static const char *const path[] = {"/etc/hostname"};
    struct bnt_cache *c = fixture_cache();
    struct bnt_fetch_result r;
    const struct bnt_fetch_opts no_digest = {.mirrors = path, .n_mirrors = 1};
    assert_int_equal(bnt_fetch(c, "https://127.0.0.1:1/m", &no_digest, &r, NULL), BNT_E_USAGE);
    make_file(10);
    const struct bnt_fetch_opts file = {.mirrors = path, .n_mirrors = 1, .sha256 = digest};
    assert_int_equal(bnt_fetch(c, "https://127.0.0.1:1/m", &file, &r, NULL), BNT_E_USAGE);
    bnt_cache_close(c);
}

/* Both circuits are open: one of two is asked nevertheless, a single source is not. */
static void the_last_mirror_is_asked_although_it_failed(void **state)
{
    (void)state;
    char origin[BREAKER_ORIGIN_MAX], dir[BNT_PATH_MAX];
    make_file(SMALL_BYTES);
    const struct bnt_mock_route well[] = {route_of(NULL, SMALL_BYTES, 0), {0}};
    struct bnt_mock_server *a = transfer_server(well), *b = transfer_server(well);
    struct bnt_mock_server *const both[] = {a, b};
    struct bnt_fetch_result r;
    struct breaker *breaker;
    const struct bnt_fetch_opts alone = {.sha256 = digest, .connections = 1};
    name_mirror(0, b);
    const struct bnt_fetch_opts two = {
        .sha256 = digest, .mirrors = mirrors, .n_mirrors = 1, .connections = 1, .force = true};
    assert_int_equal(transfer_fetch(a, "/m.gguf", &alone, &r, NULL, NULL), BNT_OK);
    assert_int_equal(breaker_open(fixture_path(dir, "c"), &breaker, NULL), BNT_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(breaker_origin(bnt_mock_server_url(both[i]), origin, NULL), BNT_OK);
        for (size_t k = 0; k < 20; k++) {
            assert_int_equal(breaker_report(breaker, origin, BREAKER_FAILED, 0, NULL), BNT_OK);
        }
    }
    breaker_close(breaker);
    const struct bnt_fetch_opts again = {.sha256 = digest, .connections = 1, .force = true};
    assert_int_equal(transfer_fetch(a, "/m.gguf", &again, &r, NULL, NULL), BNT_E_CIRCUIT);
    size_t before = bnt_mock_server_requests(a) + bnt_mock_server_requests(b);
    assert_int_equal(transfer_fetch(a, "/m.gguf", &two, &r, NULL, NULL), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(a) + bnt_mock_server_requests(b), before + 1);
    bnt_mock_server_stop(a);
    bnt_mock_server_stop(b);
}

/* ---- several at once, in real time ---- */

static void connections_add_up(void **state)
{
    (void)state;
    make_file(LARGE_BYTES);
    const struct bnt_mock_route routes[] = {route_of(NULL, LARGE_BYTES, 8 * MB), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    double took_s =
        timed_fetch(s, &(struct bnt_fetch_opts){.sha256 = digest, .connections = 4}, LARGE_BYTES);
    if (took_s > 2) { /* one connection takes 3 s */
        fail_msg("four connections took %.2f s", took_s);
    }
    assert_true(bnt_mock_server_requests(s) >= 4);
    bnt_mock_server_stop(s);
}

static void a_slow_mirror_costs_little(void **state)
{
    (void)state;
    make_file(LARGE_BYTES);
    const struct bnt_mock_route fast[] = {route_of(NULL, LARGE_BYTES, 8 * MB), {0}};
    const struct bnt_mock_route slow[] = {route_of(NULL, LARGE_BYTES, MB / 2), {0}};
    struct bnt_mock_server *a = transfer_server(fast), *b = transfer_server(fast),
                           *c = transfer_server(slow);
    name_mirror(0, b);
    name_mirror(1, c);
    double took_s =
        timed_fetch(a,
                    &(struct bnt_fetch_opts){
                        .sha256 = digest, .connections = 3, .mirrors = mirrors, .n_mirrors = 2},
                    LARGE_BYTES);
    if (took_s > 4) { /* 1.5 s at best; the chunk of the slow one alone would take 8 s */
        fail_msg("with a slow mirror it took %.2f s", took_s);
    }
    assert_true(bnt_mock_server_requests(b) > 0);
    assert_true(bnt_mock_server_requests(c) > 0);
    bnt_mock_server_stop(a);
    bnt_mock_server_stop(b);
    bnt_mock_server_stop(c);
}

static void a_slow_mirror_is_left(void **state)
{
    (void)state;
    make_file(LARGE_BYTES);
    const struct bnt_mock_route fast[] = {route_of(NULL, LARGE_BYTES, 8 * MB), {0}};
    const struct bnt_mock_route slow[] = {route_of(NULL, LARGE_BYTES, MB / 8), {0}};
    struct bnt_mock_server *a = transfer_server(fast), *b = transfer_server(slow);
    name_mirror(0, b);
    (void)timed_fetch(a,
                      &(struct bnt_fetch_opts){
                          .sha256 = digest, .connections = 2, .mirrors = mirrors, .n_mirrors = 1},
                      LARGE_BYTES);
    /* The other one takes 3 s for all; in two of them the slow one would bring 2 / 8 MB and more.
     */
    uint64_t brought = bnt_mock_server_body_bytes(b);
    if (brought > MB / 4) {
        fail_msg("the slow mirror kept its connection for %llu bytes", (unsigned long long)brought);
    }
    bnt_mock_server_stop(a);
    bnt_mock_server_stop(b);
}

static unsigned n_hedges;

static void count_hedges(void *ctx, const struct bnt_fetch_event *e)
{
    (void)ctx;
    n_hedges += e->kind == BNT_FETCH_HEDGE && strstr(e->server, "http://127.0.0.1:");
}

static void a_connection_that_hangs_does_not_keep_the_end(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {
        {.status = 200},
        {.status = 200, .fault = BNT_MOCK_STALL, .fault_at = MB},
        {.status = 200},
        {0}};
    make_file(LARGE_BYTES);
    const struct bnt_mock_route routes[] = {route_of(steps, LARGE_BYTES, 16 * MB), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    double took_s = timed_fetch(
        s, &(struct bnt_fetch_opts){.sha256 = digest, .connections = 3, .event = count_hedges},
        LARGE_BYTES);
    assert_in_range(n_hedges, 1, 8); /* the second request is told */
    if (took_s > 6) {                /* the hanging connection is given up after 30 s */
        fail_msg("with a hanging connection it took %.2f s", took_s);
    }
    bnt_mock_server_stop(s);
}

static void the_rate_is_limited(void **state)
{
    (void)state;
    make_file(LARGE_BYTES);
    const struct bnt_mock_route routes[] = {route_of(NULL, LARGE_BYTES, 0), {0}};
    for (uint32_t n = 1; n <= 4; n += 3) {
        struct bnt_mock_server *s = transfer_server(routes);
        double took_s = timed_fetch(
            s,
            &(struct bnt_fetch_opts){
                .sha256 = digest, .connections = n, .force = true, .limit_bytes_s = 16 * MB},
            LARGE_BYTES);
        if (took_s < 1.2) { /* 1.5 s, but for what one read may be ahead */
            fail_msg("%u connections took %.2f s for 24 MiB at 16 MiB/s", n, took_s);
        }
        bnt_mock_server_stop(s);
    }
}

static void servers_without_ranges_are_asked_once(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {{.status = 200, .ignore_range = true}, {0}};
    make_file(LARGE_BYTES);
    const struct bnt_mock_route routes[] = {route_of(steps, LARGE_BYTES, 0), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    (void)timed_fetch(s, &(struct bnt_fetch_opts){.sha256 = digest, .connections = 4}, LARGE_BYTES);
    assert_int_equal(bnt_mock_server_requests(s), 1);
    assert_int_equal(bnt_mock_server_body_bytes(s), LARGE_BYTES);
    bnt_mock_server_stop(s);
}

/* Machines behind one name that tag the same file each in its own way: no answer fits the one
 * before it, so ranges would begin the file anew without an end. */
static void an_etag_of_its_own_for_each_answer_is_no_loop(void **state)
{
    (void)state;
    enum { N = 60, MOST = 10, RATE = 8 * MB };
    static struct bnt_mock_step steps[N + 1];
    static char etags[N][16];
    make_file(LARGE_BYTES);
    for (size_t i = 0; i < N; i++) {
        snprintf(etags[i], sizeof etags[i], "\"of-%zu\"", i);
        steps[i] = (struct bnt_mock_step){.status = 200, .etag = etags[i]};
    }
    const struct bnt_mock_route routes[] = {route_of(steps, LARGE_BYTES, RATE), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    const struct bnt_fetch_opts o = {.sha256 = digest, .connections = 4};
    (void)timed_fetch(s, &o, LARGE_BYTES);
    if (bnt_mock_server_requests(s) > MOST) {
        fail_msg("%u requests", (unsigned)bnt_mock_server_requests(s));
    }
    bnt_mock_server_stop(s);
}

static const struct suite_test tests[] = {
    {.name = "mirrors_one_stands_in_for_what_fails", .body = a_mirror_stands_in_for_what_fails},
    {.name = "mirrors_with_other_bytes_spoil_nothing",
     .body = a_mirror_with_other_bytes_spoils_nothing},
    {.name = "mirrors_need_a_digest_and_are_urls", .body = mirrors_need_a_digest_and_are_urls},
    {.name = "mirrors_the_last_one_is_asked_although_it_failed",
     .body = the_last_mirror_is_asked_although_it_failed},
    {.name = "mirrors_connections_add_up", .body = connections_add_up},
    {.name = "mirrors_a_slow_one_costs_little", .body = a_slow_mirror_costs_little},
    {.name = "mirrors_a_slow_one_is_left", .body = a_slow_mirror_is_left},
    {.name = "mirrors_a_connection_that_hangs_does_not_keep_the_end",
     .body = a_connection_that_hangs_does_not_keep_the_end,
     .timeout_ms = 20000},
    {.name = "mirrors_the_rate_is_limited", .body = the_rate_is_limited},
    {.name = "mirrors_an_etag_of_its_own_for_each_answer_is_no_loop",
     .body = an_etag_of_its_own_for_each_answer_is_no_loop},
    {.name = "mirrors_servers_without_ranges_are_asked_once",
     .body = servers_without_ranges_are_asked_once},
    {0},
};
const struct suite suite_mirrors = {"mirrors", tests, "hedge keep_slow"};
