/* Guards the repair of a model over the network: more traffic than the bad chunks, a server that
 * fails once and is given up, bytes of another file that are taken for the right ones, a mirror
 * that is known and not asked. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/app.h"
#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "fetch/breaker.h"
#include "fetch/commands.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { CHUNK = 4 << 20, CHUNKS = 5, TAIL = 12345, FILE_BYTES = (CHUNKS - 1) * CHUNK + TAIL };

/* ---- what the bodies share ---- */

static const char *bytes;
static char digest[BNT_SHA256_HEX];

static void make_file(void)
{
    bytes = transfer_bytes(FILE_BYTES, 11);
    transfer_digest(bytes, FILE_BYTES, digest);
}

static struct bnt_mock_route route_of(const struct bnt_mock_step *steps)
{
    return (struct bnt_mock_route){.path = "/m.gguf",
                                   .status = 200,
                                   .body = bytes,
                                   .body_bytes = FILE_BYTES,
                                   .etag = "\"v1\"",
                                   .steps = steps};
}

/* The model m, as it came from the server: `steps` follow the first request. */
static struct bnt_cache *fetched_from(const struct bnt_mock_server *s, struct bnt_cache_entry *e)
{
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {.sha256 = digest, .connections = 1};
    if (transfer_fetch(s, "/m.gguf", &o, &r, NULL, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_find(c, "m", e, NULL), BNT_OK);
    return c;
}

static void flip_bit(struct bnt_cache *c, const struct bnt_cache_entry *e, uint64_t at, int bit)
{
    char path[BNT_PATH_MAX];
    uint8_t byte;
    assert_int_equal(bnt_cache_blob_path(c, e->digest, path, NULL), BNT_OK);
    assert_int_equal(chmod(path, 0644), 0);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= (uint8_t)(1 << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

static enum bnt_cache_health health_of(struct bnt_cache *c, struct bnt_cache_entry *e)
{
    enum bnt_cache_health h = BNT_CACHE_OK;
    assert_int_equal(bnt_cache_verify(c, e, NULL, NULL, &h, NULL), BNT_OK);
    return h;
}

/* Find the damage and heal it; *bad_bytes: what had to be read. */
static enum bnt_status repair(struct bnt_cache *c, struct bnt_cache_entry *e, uint64_t *bad_bytes,
                              struct bnt_err *err)
{
    struct bnt_cache_damage d;
    assert_int_equal(health_of(c, e), BNT_CACHE_CORRUPT);
    assert_int_equal(bnt_cache_damage_find(c, e, &d, NULL), BNT_OK);
    assert_true(d.has_tree);
    enum bnt_status st = bnt_cache_repair(c, e, &d, &fetch_source, err);
    *bad_bytes = d.bad_bytes;
    bnt_cache_damage_release(&d);
    assert_int_equal(health_of(c, e), st == BNT_OK ? BNT_CACHE_OK : BNT_CACHE_CORRUPT);
    return st;
}

/* ---- traffic ---- */

static void random_flips_cost_a_chunk_each(void **state)
{
    (void)state;
    enum { ROUNDS = 5 };
    unsigned seed = (unsigned)bnt_clock_now_ns();
    print_message("seed %u\n", seed);
    make_file();
    const struct bnt_mock_route routes[] = {route_of(NULL), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    struct bnt_cache_entry e;
    struct bnt_cache *c = fetched_from(s, &e);
    for (int round = 0; round < ROUNDS; round++) {
        bool hit[CHUNKS] = {false};
        uint64_t n_hit = 0, bad_bytes, before = bnt_mock_server_body_bytes(s);
        for (int flips = 0; flips <= round; flips++) {
            uint64_t at =
                ((uint64_t)(unsigned)rand_r(&seed) << 16 ^ (unsigned)rand_r(&seed)) % FILE_BYTES;
            n_hit += !hit[at / CHUNK];
            hit[at / CHUNK] = true;
            flip_bit(c, &e, at, flips);
        }
        struct bnt_err err = {0};
        if (repair(c, &e, &bad_bytes, &err) != BNT_OK) {
            fail_msg("%s", err.msg);
        }
        uint64_t moved = bnt_mock_server_body_bytes(s) - before;
        assert_int_equal(moved, bad_bytes);
        assert_true(moved <= n_hit * CHUNK);
    }
    bnt_cache_close(c);
    bnt_mock_server_stop(s);
}

static void a_server_without_ranges_is_read_once(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {{.status = 200, .ignore_range = true}, {0}};
    uint64_t bad_bytes;
    make_file();
    const struct bnt_mock_route routes[] = {route_of(steps), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    struct bnt_cache_entry e;
    struct bnt_cache *c = fetched_from(s, &e);
    flip_bit(c, &e, 5, 0);
    flip_bit(c, &e, 3 * CHUNK, 1);
    uint64_t before = bnt_mock_server_body_bytes(s);
    assert_int_equal(repair(c, &e, &bad_bytes, NULL), BNT_OK);
    assert_true(bnt_mock_server_body_bytes(s) - before < 2 * (uint64_t)FILE_BYTES);
    bnt_cache_close(c);
    bnt_mock_server_stop(s);
}

/* ---- failures ---- */

/* What the server does after the model was fetched, and what a repair of one chunk makes of it. */
static void failures_are_retried_as_in_a_transfer(void **state)
{
    (void)state;
    static const struct {
        struct bnt_mock_step steps[4]; /* the first is that of the fetch */
        double waits_s[2];             /* at least, at most */
        uint64_t moved;                /* bytes at most */
    } cases[] = {
        {{{.status = 200}, {.status = 503}, {.status = 200}, {0}}, {0, 0.5}, CHUNK},
        {{{.status = 200}, {.status = 429, .headers = "Retry-After: 7\r\n"}, {.status = 200}, {0}},
         {7, 7.01},
         CHUNK},
        {{{.status = 200},
          {.status = 200, .fault = BNT_MOCK_RESET, .fault_at = CHUNK / 2},
          {.status = 200},
          {0}},
         {0, 0.5},
         CHUNK + CHUNK / 2},
        {{{.status = 200},
          {.status = 200, .fault = BNT_MOCK_CLOSE, .fault_at = CHUNK / 2},
          {.status = 200},
          {0}},
         {0, 0.5},
         CHUNK},
    };
    make_file();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct bnt_mock_route routes[] = {route_of(cases[i].steps), {0}};
        struct bnt_mock_server *s = transfer_server(routes);
        struct bnt_cache_entry e;
        struct bnt_cache_entry gone;
        bool removed;
        struct bnt_cache *c = fetched_from(s, &e);
        struct bnt_err err = {0};
        uint64_t bad_bytes, bytes_before = bnt_mock_server_body_bytes(s);
        uint64_t before_ns = bnt_clock_now_ns();
        flip_bit(c, &e, CHUNK + 1, 2);
        if (repair(c, &e, &bad_bytes, &err) != BNT_OK) {
            fail_msg("case %zu: %s", i, err.msg);
        }
        double waited_s = (double)(bnt_clock_now_ns() - before_ns) * 1e-9;
        if (waited_s < cases[i].waits_s[0] || waited_s > cases[i].waits_s[1]) {
            fail_msg("case %zu: waited %.3f s", i, waited_s);
        }
        assert_int_equal(bnt_mock_server_requests(s), 3);
        assert_true(bnt_mock_server_body_bytes(s) - bytes_before <= cases[i].moved);
        assert_int_equal(bnt_cache_remove(c, "m", &gone, &removed, NULL), BNT_OK);
        bnt_cache_close(c);
        bnt_mock_server_stop(s);
    }
}

static void an_open_circuit_is_not_asked(void **state)
{
    (void)state;
    char origin[BREAKER_ORIGIN_MAX], dir[BNT_PATH_MAX];
    struct breaker *breaker;
    uint64_t bad_bytes;
    make_file();
    const struct bnt_mock_route routes[] = {route_of(NULL), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    struct bnt_cache_entry e;
    struct bnt_cache *c = fetched_from(s, &e);
    assert_int_equal(breaker_open(fixture_path(dir, "c"), &breaker, NULL), BNT_OK);
    assert_int_equal(breaker_origin(bnt_mock_server_url(s), origin, NULL), BNT_OK);
    for (size_t k = 0; k < 20; k++) {
        assert_int_equal(breaker_report(breaker, origin, BREAKER_FAILED, 0, NULL), BNT_OK);
    }
    breaker_close(breaker);
    flip_bit(c, &e, 0, 0);
    size_t before = bnt_mock_server_requests(s);
    assert_int_equal(repair(c, &e, &bad_bytes, NULL), BNT_E_CIRCUIT);
    assert_int_equal(bnt_mock_server_requests(s), before);
    bnt_cache_close(c);
    bnt_mock_server_stop(s);
}

/* ---- another file there ---- */

static void a_file_that_changed_heals_nothing_and_costs_a_chunk(void **state)
{
    (void)state;
    make_file();
    const char *other = transfer_bytes(FILE_BYTES, 12);
    const struct bnt_mock_step steps[2][3] = {
        {{.status = 200},
         {.status = 200, .body = other, .body_bytes = FILE_BYTES, .etag = "\"v2\""},
         {0}},
        {{.status = 200},
         {.status = 200, .body = other, .body_bytes = FILE_BYTES - 1, .etag = "\"v2\""},
         {0}}};
    for (size_t i = 0; i < 2; i++) {
        const struct bnt_mock_route routes[] = {route_of(steps[i]), {0}};
        struct bnt_mock_server *s = transfer_server(routes);
        struct bnt_cache_entry e, gone;
        struct bnt_err err = {0};
        bool removed;
        uint64_t bad_bytes;
        struct bnt_cache *c = fetched_from(s, &e);
        for (uint64_t k = 0; k < CHUNKS; k++) {
            flip_bit(c, &e, k * CHUNK, 0);
        }
        uint64_t before = bnt_mock_server_body_bytes(s);
        assert_int_equal(repair(c, &e, &bad_bytes, &err), BNT_E_DIGEST);
        assert_non_null(strstr(err.hint, "bnt fetch --force"));
        assert_true(bnt_mock_server_body_bytes(s) - before <= CHUNK);
        assert_int_equal(bnt_cache_remove(c, "m", &gone, &removed, NULL), BNT_OK);
        bnt_cache_close(c);
        bnt_mock_server_stop(s);
    }
}

/* ---- places ---- */

/* The server that the model came from has another file now; the manifest names a mirror. */
static void a_mirror_of_the_manifest_heals(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], dir[BNT_PATH_MAX], text[1024];
    struct suite_output o;
    make_file();
    const char *other = transfer_bytes(FILE_BYTES, 12);
    const struct bnt_mock_step steps[] = {
        {.status = 200},
        {.status = 200, .body = other, .body_bytes = FILE_BYTES, .etag = "\"v2\""},
        {0}};
    const struct bnt_mock_route changed[] = {route_of(steps), {0}};
    struct bnt_mock_route well[] = {route_of(NULL), {0}};
    well[0].path = "/x.gguf?key=1";
    struct bnt_mock_server *a = transfer_server(changed), *b = transfer_server(well);
    struct bnt_cache_entry e;
    struct bnt_cache *c = fetched_from(a, &e);
    flip_bit(c, &e, CHUNK, 0);
    bnt_cache_close(c);
    snprintf(text, sizeof text,
             "models:\n  m:\n    source: %s/m.gguf\n    mirrors: [\"%s/x.gguf?key=1\"]\n"
             "    sha256: %s\n    size: %d\n",
             bnt_mock_server_url(a), bnt_mock_server_url(b), digest, FILE_BYTES);
    fixture_write(fixture_path(path, "bnt.yml"), text);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    const char *verify[] = {suite_bnt(), "cache", "verify", "--repair", "m", NULL};
    suite_run(verify, suite_scratch(), 0, &o);
    if (o.exit != 0) {
        fail_msg("%s%s", o.out, o.err);
    }
    assert_string_equal(o.out, "1 checked, 0 ok, 0 corrupt, 0 missing, 1 repaired\n");
    suite_output_release(&o);
    assert_true(bnt_mock_server_body_bytes(b) <= CHUNK);
    bnt_mock_server_stop(a);
    bnt_mock_server_stop(b);
}

static const struct suite_test tests[] = {
    {.name = "repair_net_random_flips_cost_a_chunk_each",
     .body = random_flips_cost_a_chunk_each,
     .timeout_ms = 30000},
    {.name = "repair_net_a_server_without_ranges_is_read_once",
     .body = a_server_without_ranges_is_read_once},
    {.name = "repair_net_failures_are_retried_as_in_a_transfer",
     .body = failures_are_retried_as_in_a_transfer,
     .timeout_ms = 30000},
    {.name = "repair_net_an_open_circuit_is_not_asked", .body = an_open_circuit_is_not_asked},
    {.name = "repair_net_a_file_that_changed_heals_nothing_and_costs_a_chunk",
     .body = a_file_that_changed_heals_nothing_and_costs_a_chunk,
     .timeout_ms = 30000},
    {.name = "repair_net_a_mirror_of_the_manifest_heals", .body = a_mirror_of_the_manifest_heals},
    {0},
};
const struct suite suite_repair_net = {"repair_net", tests, "chunk_unchecked"};
