/* Guards the cold tier: a model whose last copy went before the far one was proven, far bytes that
 * are believed, a model that does not come back. */
#include "testkit/suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/app.h"
#include "cache/bnt_cache.h"
#include "base/clock.h"
#include "fetch/commands.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/serve_fixture.h"
#include "testkit/suites/transfer_fixture.h"

#define TEXT "the bytes of a model that is rarely used"
#define TEXT_BYTES (sizeof TEXT - 1)

static char blob_path[128];

/* With a clock that only waits move: a test takes no time to wait for another attempt. */
static struct bnt_cache_entry add_model(struct bnt_cache *c)
{
    bnt_clock_fake(TRANSFER_START_S * 1000000000ull);
    struct bnt_cache_entry e = fixture_add(c, "m", TEXT);
    snprintf(blob_path, sizeof blob_path, "/v1/blobs/sha256/%s", e.digest);
    return e;
}

/* A far place that plays these steps for the model. */
static struct bnt_mock_server *far_place(const struct bnt_mock_step *steps)
{
    static struct bnt_mock_route routes[2];
    routes[0] = (struct bnt_mock_route){
        .path = blob_path, .body = TEXT, .body_bytes = TEXT_BYTES, .steps = steps};
    return transfer_server(routes);
}

static enum bnt_status push(struct bnt_cache *c, const struct bnt_cache_entry *e,
                            const struct bnt_mock_server *to, struct bnt_cache_pushed *p,
                            struct bnt_err *err)
{
    const struct bnt_cache_push_opts o = {
        .network = &fetch_network, .place = bnt_mock_server_url(to), .move = true};
    return bnt_cache_push(c, e, &o, p, err);
}

static bool is_here(struct bnt_cache *c, const char *digest)
{
    char path[BNT_PATH_MAX];
    assert_int_equal(bnt_cache_blob_path(c, digest, path, NULL), BNT_OK);
    return access(path, F_OK) == 0;
}

static bool is_recorded(struct bnt_cache *c, const char *digest)
{
    struct bnt_cache_cold cold;
    bool found = false;
    assert_int_equal(bnt_cache_cold(c, digest, &cold, &found, NULL), BNT_OK);
    return found;
}

/* Not there; sent; there. */
static const struct bnt_mock_step good[] = {{.status = 404}, {.status = 201}, {.status = 200}, {0}};

/* ---- there ---- */

static void proven_model_goes_and_comes_back(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], dir[BNT_PATH_MAX];
    enum bnt_cache_health h = BNT_CACHE_OK;
    struct bnt_cache_pushed p;
    struct bnt_cache_entry got;
    struct bnt_err err = {0};
    uint64_t blobs = 0;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_model(c);
    struct bnt_mock_server *far = far_place(good);
    assert_int_equal(push(c, &e, far, &p, NULL), BNT_OK);
    assert_true(p.moved && p.sent_bytes == TEXT_BYTES);
    assert_int_equal(bnt_mock_server_requests(far), 3);
    assert_false(is_here(c, e.digest));
    assert_int_equal(bnt_cache_verify(c, &e, NULL, NULL, &h, NULL), BNT_OK);
    assert_int_equal(h, BNT_CACHE_COLD);
    assert_int_equal(bnt_cache_lookup(c, "m", &got, path, &err), BNT_E_OFFLINE);
    assert_non_null(strstr(err.msg, bnt_mock_server_url(far)));
    assert_non_null(strstr(err.hint, "bnt cache pull m"));
    bnt_cache_close(c);
    assert_int_equal(bnt_cache_rebuild(fixture_path(dir, "c"), &blobs, NULL), BNT_OK);
    assert_int_equal(blobs, 1); /* the index knows it again from the record alone */
    c = fixture_cache();
    assert_int_equal(bnt_cache_pull(c, &e, NULL, NULL), BNT_E_OFFLINE);
    assert_int_equal(bnt_cache_pull(c, &e, &fetch_network, NULL), BNT_OK);
    assert_int_equal(bnt_cache_pull(c, &e, NULL, NULL), BNT_OK); /* it is here */
    assert_int_equal(bnt_cache_lookup(c, e.digest, &got, path, NULL), BNT_OK);
    fixture_assert_holds(path, TEXT);
    assert_true(is_recorded(c, e.digest));
    assert_int_equal(got.counts.from_cold, 1);
    assert_int_equal(got.counts.from_source, 0); /* the index was made anew */
    bnt_cache_close(c);
    bnt_mock_server_stop(far);
}

static void what_is_there_already_is_not_sent(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {{.status = 200}, {0}};
    struct bnt_cache_pushed p;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_model(c);
    struct bnt_mock_server *far = far_place(steps);
    assert_int_equal(push(c, &e, far, &p, NULL), BNT_OK);
    assert_true(p.moved && p.sent_bytes == 0);
    assert_int_equal(bnt_mock_server_requests(far), 1);
    bnt_cache_close(c);
    bnt_mock_server_stop(far);
}

/* Whatever goes wrong, the model is here, and nothing says that it is elsewhere. */
static void nothing_goes_before_it_is_proven(void **state)
{
    (void)state;
    static char other[TEXT_BYTES];
    static const struct {
        const char *what;
        struct bnt_mock_step steps[6];
        enum bnt_status status;
    } cases[] = {
        {"cut before the answer",
         {{.status = 404},
          {.status = 201, .no_answer = true},
          {.status = 201, .no_answer = true},
          {.status = 201, .no_answer = true},
          {0}},
         BNT_E_NETWORK},
        {"no space there", {{.status = 404}, {.status = 507}, {0}}, BNT_E_NO_SPACE},
        {"not allowed", {{.status = 404}, {.status = 403}, {0}}, BNT_E_AUTH},
        {"read-only", {{.status = 404}, {.status = 405}, {0}}, BNT_E_FAILED},
        {"not kept", {{.status = 404}, {.status = 201}, {.status = 404}, {0}}, BNT_E_DIGEST},
        {"other bytes",
         {{.status = 404},
          {.status = 201},
          {.status = 200, .body = other, .body_bytes = TEXT_BYTES},
          {0}},
         BNT_E_DIGEST},
        {"one bit",
         {{.status = 404},
          {.status = 201},
          {.status = 200, .fault = BNT_MOCK_FLIP, .fault_at = 7},
          {0}},
         BNT_E_DIGEST},
        {"a part of it",
         {{.status = 404}, {.status = 201}, {.status = 200, .body = TEXT, .body_bytes = 9}, {0}},
         BNT_E_DIGEST},
        {"other bytes were there, and stay",
         {{.status = 200, .body = other, .body_bytes = TEXT_BYTES},
          {.status = 204},
          {.status = 200, .body = other, .body_bytes = TEXT_BYTES},
          {0}},
         BNT_E_DIGEST},
        {"trouble", {{.status = 503}, {0}}, BNT_E_NETWORK},
    };
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_model(c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_cache_pushed p;
        struct bnt_err err = {0};
        struct bnt_mock_server *far = far_place(cases[i].steps);
        enum bnt_status st = push(c, &e, far, &p, &err);
        if (st != cases[i].status || p.moved) {
            fail_msg("%s: status %d, %s", cases[i].what, (int)st, err.msg);
        }
        assert_true(is_here(c, e.digest));
        assert_false(is_recorded(c, e.digest));
        bnt_mock_server_stop(far);
    }
    bnt_cache_close(c);
}

static void upload_that_broke_is_sent_again(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {
        {.status = 404}, {.status = 201, .no_answer = true},
        {.status = 503}, {.status = 201},
        {.status = 200}, {0}};
    struct bnt_cache_pushed p;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_model(c);
    struct bnt_mock_server *far = far_place(steps);
    assert_int_equal(push(c, &e, far, &p, NULL), BNT_OK);
    assert_true(p.moved);
    assert_int_equal(bnt_mock_server_requests(far), 5);
    bnt_cache_close(c);
    bnt_mock_server_stop(far);
}

static void used_model_stays_here(void **state)
{
    (void)state;
    struct bnt_cache_pushed p;
    struct bnt_cache_lease lease;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_model(c);
    struct bnt_mock_server *far = far_place(good);
    assert_int_equal(bnt_cache_lease_take(c, e.digest, &lease, NULL), BNT_OK);
    assert_int_equal(push(c, &e, far, &p, NULL), BNT_OK);
    assert_true(p.in_use && !p.moved);
    assert_true(is_here(c, e.digest));
    bnt_cache_lease_release(&lease);
    bnt_cache_close(c);
    bnt_mock_server_stop(far);
}

/* ---- back ---- */

static void far_bytes_are_held_to_the_digest(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {
        {.status = 404},
        {.status = 201},
        {.status = 200},
        {.status = 200, .fault = BNT_MOCK_FLIP, .fault_at = 3},
        {.status = 404},
        {.status = 200},
        {0}};
    struct bnt_cache_pushed p;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_model(c);
    struct bnt_mock_server *far = far_place(steps);
    assert_int_equal(push(c, &e, far, &p, NULL), BNT_OK);
    assert_int_equal(bnt_cache_pull(c, &e, &fetch_network, NULL), BNT_E_DIGEST);
    assert_false(is_here(c, e.digest));
    assert_int_equal(bnt_cache_pull(c, &e, &fetch_network, NULL), BNT_E_NOT_FOUND);
    assert_true(is_recorded(c, e.digest)); /* the place may have it again, as here */
    assert_int_equal(bnt_cache_pull(c, &e, &fetch_network, NULL), BNT_OK);
    assert_true(is_here(c, e.digest));
    bnt_cache_close(c);
    bnt_mock_server_stop(far);
}

static void fetch_brings_it_back_or_asks_the_source(void **state)
{
    (void)state;
    static const struct bnt_mock_step gone[] = {
        {.status = 404}, {.status = 201}, {.status = 200}, {.status = 404}, {0}};
    const struct bnt_mock_step *const places[] = {good, gone};
    for (size_t i = 0; i < 2; i++) {
        char file[BNT_PATH_MAX];
        struct bnt_cache_pushed p;
        struct bnt_fetch_result r;
        const struct bnt_fetch_opts opts = {.name = "m"};
        fixture_write(fixture_path(file, "m.gguf"), TEXT);
        struct bnt_cache *c = fixture_cache();
        assert_int_equal(bnt_fetch(c, file, &opts, &r, NULL), BNT_OK);
        struct bnt_cache_entry e = r.entry;
        snprintf(blob_path, sizeof blob_path, "/v1/blobs/sha256/%s", e.digest);
        struct bnt_mock_server *far = far_place(places[i]);
        assert_int_equal(push(c, &e, far, &p, NULL), BNT_OK);
        assert_false(is_here(c, e.digest));
        assert_int_equal(bnt_fetch(c, file, &opts, &r, NULL), BNT_OK);
        fixture_assert_holds(r.path, TEXT);
        assert_string_equal(r.entry.name, "m");
        assert_true(bnt_mock_server_requests(far) >= 4);
        bnt_cache_close(c);
        bnt_mock_server_stop(far);
    }
}

/* ---- collections ---- */

static void collection_moves_by_age_of_use(void **state)
{
    (void)state;
    struct bnt_cache_gc_report r;
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = add_model(c);
    struct bnt_mock_server *far = far_place(good);
    struct bnt_cache_gc_opts o = {
        .cold_after_s = 3600,
        .demote_after_s = 60,
        .cold = {.network = &fetch_network, .place = bnt_mock_server_url(far)}};
    assert_int_equal(bnt_cache_gc(c, &o, &r, NULL), BNT_OK);
    assert_int_equal(r.n_cold, 0);
    bnt_cache_gc_report_release(&r);
    fixture_sql("UPDATE blob SET used_s = used_s - 4000");
    o.dry_run = true;
    assert_int_equal(bnt_cache_gc(c, &o, &r, NULL), BNT_OK);
    assert_int_equal(r.n_cold, 1);
    assert_int_equal(bnt_mock_server_requests(far), 0);
    bnt_cache_gc_report_release(&r);
    o.dry_run = false;
    assert_int_equal(bnt_cache_gc(c, &o, &r, NULL), BNT_OK);
    assert_int_equal(r.n_cold, 1);
    assert_int_equal(r.n_demoted, 0); /* it was not compressed before */
    assert_int_equal(r.bytes_cold, TEXT_BYTES);
    assert_int_equal(r.at[0].verdict, BNT_GC_KEPT_COLD);
    bnt_cache_gc_report_release(&r);
    assert_false(is_here(c, e.digest));
    /* It takes no space here: no limit takes its name. */
    o = (struct bnt_cache_gc_opts){.max_bytes = 1, .max_age_s = 1, .unnamed_age_s = 1};
    assert_int_equal(bnt_cache_gc(c, &o, &r, NULL), BNT_OK);
    assert_int_equal(r.n_removed, 0);
    assert_false(r.unmet);
    assert_int_equal(r.at[0].verdict, BNT_GC_KEPT_COLD);
    bnt_cache_gc_report_release(&r);
    bool removed = false;
    assert_int_equal(bnt_cache_remove(c, "m", &e, &removed, NULL), BNT_OK);
    assert_false(is_recorded(c, e.digest));
    bnt_cache_close(c);
    bnt_mock_server_stop(far);
}

/* ---- as a user ---- */

static struct suite_output run(const char *const *words, int code)
{
    struct suite_output o;
    const char *argv[12] = {suite_bnt()};
    for (size_t i = 0; words[i]; i++) {
        argv[i + 1] = words[i];
    }
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != code) {
        fail_msg("bnt %s %s: exit code %d: %s", words[0], words[1], o.exit, o.err);
    }
    return o;
}

static void check(const char *const *words, int code)
{
    struct suite_output o = run(words, code);
    suite_output_release(&o);
}

static void commands_move_a_compressed_model_and_use_brings_it_back(void **state)
{
    (void)state;
    enum { N = 60000 };
    static char text[N + 1];
    char file[BNT_PATH_MAX];
    static const char *const writable[] = {"--writable", NULL};
    static const char *const fetch[] = {"fetch", "-q", "m.gguf", NULL};
    static const char *const demote[] = {"cache", "demote", "m", NULL};
    static const char *const move[] = {"cache", "push", "--move", "m", NULL};
    static const char *const offline[] = {"path", "--offline", "m", NULL};
    static const char *const path[] = {"path", "m", NULL};
    static const char *const stats[] = {"cache", "stats", "--json", NULL};
    static const char *const verify[] = {"cache", "verify", NULL};
    struct served s;
    for (size_t i = 0; i < N; i++) {
        text[i] = (char)('a' + i / 9 % 23);
    }
    fixture_write(fixture_path(file, "m.gguf"), text);
    served_start(&s, "far", writable);
    check(move, 2); /* there is no cold tier */
    assert_int_equal(setenv("BNT_COLD", s.url, 1), 0);
    check(fetch, 0);
    check(demote, 0);
    check(move, 11); /* no token */
    check(path, 0);
    check(demote, 0);
    assert_int_equal(setenv("BNT_CACHE_TOKEN", SERVE_TOKEN, 1), 0);
    check(move, 0);
    check(offline, 15);
    check(verify, 0);
    struct suite_output o = run(stats, 0);
    assert_non_null(strstr(o.out, "\"cold_bytes\": 60000"));
    assert_non_null(strstr(o.out, "\"missing\": 0"));
    suite_output_release(&o);
    o = run(path, 0);
    o.out[strcspn(o.out, "\n")] = '\0';
    fixture_assert_holds(o.out, text);
    suite_output_release(&o);
    check(move, 0); /* it is there already */
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
    check(offline, 15);
}

static const struct suite_test tests[] = {
    {.name = "cold_proven_model_goes_and_comes_back", .body = proven_model_goes_and_comes_back},
    {.name = "cold_what_is_there_already_is_not_sent", .body = what_is_there_already_is_not_sent},
    {.name = "cold_nothing_goes_before_it_is_proven",
     .body = nothing_goes_before_it_is_proven,
     .timeout_ms = 30000},
    {.name = "cold_upload_that_broke_is_sent_again", .body = upload_that_broke_is_sent_again},
    {.name = "cold_used_model_stays_here", .body = used_model_stays_here},
    {.name = "cold_far_bytes_are_held_to_the_digest", .body = far_bytes_are_held_to_the_digest},
    {.name = "cold_fetch_brings_it_back_or_asks_the_source",
     .body = fetch_brings_it_back_or_asks_the_source},
    {.name = "cold_collection_moves_by_age_of_use", .body = collection_moves_by_age_of_use},
    {.name = "cold_commands_move_a_model_and_use_brings_it_back",
     .body = commands_move_a_compressed_model_and_use_brings_it_back,
     .timeout_ms = 60000},
    {0},
};
const struct suite suite_cold = {"cold", tests, "cold_unproven"};
