/* Guards the circuit breaker: a server that is asked although it fails, one that is never asked
 * again, a crowd where one probe was meant. The clock is a fake. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "fetch/breaker.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

#define ORIGIN "https://h:443"

static void pass_s(uint64_t s)
{
    bnt_clock_sleep_ns(s * 1000000000u);
}

static struct breaker *start(void)
{
    struct breaker *b;
    struct bnt_err err = {0};
    if (breaker_open(suite_scratch(), &b, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    return b;
}

static bool asked(struct breaker *b, bool last, int64_t *wait_s)
{
    struct breaker_permit p;
    assert_int_equal(breaker_ask(b, ORIGIN, last, &p, NULL), BNT_OK);
    *wait_s = p.wait_s;
    return p.go;
}

static void report(struct breaker *b, enum breaker_outcome outcome, int times)
{
    for (int i = 0; i < times; i++) {
        assert_int_equal(breaker_report(b, ORIGIN, outcome, 0, NULL), BNT_OK);
    }
}

static enum breaker_state state_of(struct breaker *b)
{
    struct breaker_row r;
    assert_int_equal(breaker_look(b, ORIGIN, &r, NULL), BNT_OK);
    return r.state;
}

static void origins_are_scheme_host_and_port(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"https://Example.org/a/b.gguf?x=1", "https://example.org:443"},
        {"HTTP://h", "http://h:80"},
        {"http://h:8080/a:1", "http://h:8080"},
        {"https://[::1]/m", "https://[::1]:443"},
        {"https://[::1]:8/m", "https://[::1]:8"},
    };
    char out[BREAKER_ORIGIN_MAX];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(breaker_origin(cases[i][0], out, NULL), BNT_OK);
        assert_string_equal(out, cases[i][1]);
    }
    assert_int_equal(breaker_origin("/a/path", out, NULL), BNT_E_USAGE);
    assert_int_equal(breaker_origin("https:///x", out, NULL), BNT_E_USAGE);
}

static void opens_on_rates_of_enough_calls(void **state)
{
    (void)state;
    static const struct {
        int good, slow, failed;
        enum breaker_state state;
    } cases[] = {
        {0, 0, 9, BREAKER_CLOSED},    {0, 0, 10, BREAKER_OPEN},  {6, 0, 5, BREAKER_CLOSED},
        {5, 0, 5, BREAKER_OPEN},      {3, 7, 0, BREAKER_CLOSED}, {2, 8, 0, BREAKER_OPEN},
        {100, 0, 90, BREAKER_CLOSED},
    };
    bnt_clock_fake(1000000000000);
    struct breaker *b = start();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(breaker_reset(b, i % 2 ? ORIGIN : NULL, NULL), BNT_OK);
        report(b, BREAKER_GOOD, cases[i].good);
        report(b, BREAKER_SLOW, cases[i].slow);
        report(b, BREAKER_FAILED, cases[i].failed);
        if (state_of(b) != cases[i].state) {
            fail_msg("case %zu: state %d", i, state_of(b));
        }
    }
    breaker_close(b);
}

static void window_forgets(void **state)
{
    (void)state;
    bnt_clock_fake(1000000000000);
    struct breaker *b = start();
    struct breaker_row r;
    report(b, BREAKER_FAILED, 9);
    pass_s(BREAKER_WINDOW_S + BREAKER_BUCKET_S);
    report(b, BREAKER_FAILED, 9);
    assert_int_equal(state_of(b), BREAKER_CLOSED);
    assert_int_equal(breaker_look(b, ORIGIN, &r, NULL), BNT_OK);
    assert_int_equal(r.calls, 9);
    report(b, BREAKER_FAILED, 1);
    assert_int_equal(state_of(b), BREAKER_OPEN);
    breaker_close(b);
}

static void one_probe_at_a_time_then_closed_or_longer_open(void **state)
{
    (void)state;
    int64_t wait_s;
    bnt_clock_fake(1000000000000);
    struct breaker *b = start(), *other = start(); /* another process */
    report(b, BREAKER_FAILED, 10);
    assert_false(asked(other, false, &wait_s));
    assert_int_equal(wait_s, BREAKER_OPEN_S);
    for (int64_t length_s = BREAKER_OPEN_S, i = 0; i < 9; i++) {
        pass_s((uint64_t)length_s - 1);
        assert_false(asked(b, false, &wait_s));
        assert_int_equal(wait_s, 1);
        pass_s(1);
        assert_int_equal(state_of(b), BREAKER_HALF_OPEN);
        assert_true(asked(b, false, &wait_s));
        assert_false(asked(other, false, &wait_s)); /* one probe is under way */
        assert_int_equal(wait_s, BREAKER_PROBE_S);
        report(b, i % 2 ? BREAKER_FAILED : BREAKER_SLOW, 1);
        length_s = 2 * length_s < BREAKER_OPEN_MAX_S ? 2 * length_s : BREAKER_OPEN_MAX_S;
        assert_false(asked(other, false, &wait_s));
        assert_int_equal(wait_s, length_s);
    }
    pass_s(BREAKER_OPEN_MAX_S);
    assert_true(asked(b, false, &wait_s));
    report(b, BREAKER_GOOD, 1);
    assert_int_equal(state_of(other), BREAKER_CLOSED);
    report(b, BREAKER_FAILED, 9); /* the window began anew */
    assert_true(asked(other, false, &wait_s));
    breaker_close(other);
    breaker_close(b);
}

static void dead_probe_is_replaced(void **state)
{
    (void)state;
    int64_t wait_s;
    bnt_clock_fake(1000000000000);
    struct breaker *b = start();
    report(b, BREAKER_FAILED, 10);
    pass_s(BREAKER_OPEN_S);
    assert_true(asked(b, false, &wait_s));
    pass_s(BREAKER_PROBE_S - 1);
    assert_false(asked(b, false, &wait_s));
    pass_s(1);
    assert_true(asked(b, false, &wait_s));
    breaker_close(b);
}

/* A machine that begins in the future, and is told the time then. */
static void clock_that_is_set_back_opens_no_circuit(void **state)
{
    (void)state;
    int64_t wait_s;
    bnt_clock_fake(5000000000000000);
    struct breaker *b = start();
    report(b, BREAKER_FAILED, 10);
    assert_false(asked(b, false, &wait_s));
    bnt_clock_fake(1000000000000000);
    assert_true(asked(b, false, &wait_s)); /* the probe */
    assert_false(asked(b, false, &wait_s));
    bnt_clock_fake(500000000000000);
    assert_true(asked(b, false, &wait_s));
    report(b, BREAKER_GOOD, 1);
    assert_int_equal(state_of(b), BREAKER_CLOSED);
    breaker_close(b);
}

static void last_mirror_is_asked_but_gets_its_pause(void **state)
{
    (void)state;
    int64_t wait_s;
    bnt_clock_fake(1000000000000);
    struct breaker *b = start();
    report(b, BREAKER_FAILED, 10);
    assert_false(asked(b, false, &wait_s));
    assert_true(asked(b, true, &wait_s));
    assert_int_equal(breaker_cool(b, ORIGIN, 50, NULL), BNT_OK);
    assert_int_equal(breaker_cool(b, ORIGIN, 20, NULL), BNT_OK); /* does not shorten it */
    assert_false(asked(b, true, &wait_s));
    assert_int_equal(wait_s, 50);
    breaker_close(b);
}

static void damaged_record_is_replaced(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX];
    int64_t wait_s;
    fixture_write(fixture_path(path, "net.db"), "this is not a database, whatever its name says");
    struct breaker *b = start();
    assert_true(asked(b, false, &wait_s));
    breaker_close(b);
}

/* What the events of a fetch tell of servers that are not asked. */
static unsigned n_circuits;

static void count_circuits(void *ctx, const struct bnt_fetch_event *e)
{
    (void)ctx;
    if (e->kind == BNT_FETCH_CIRCUIT) {
        assert_int_equal(e->status, BNT_E_CIRCUIT);
        assert_non_null(strstr(e->server, "https://127.0.0.1:"));
        assert_non_null(strstr(e->why, "failed too often"));
        n_circuits++;
    }
}

/* The whole way: fetches that fail open the circuit, the next one is refused without a packet. */
static void open_circuit_ends_a_fetch(void **state)
{
    (void)state;
    static const struct bnt_mock_step sick[] = {{.status = 500}, {.status = 500}, {.status = 500},
                                                {.status = 500}, {.status = 500}, {.status = 500},
                                                {.status = 500}, {.status = 500}, {.status = 500},
                                                {.status = 500}, {.status = 200}, {0}};
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", .body = "bytes", .body_bytes = 5, .steps = sick}, {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {.event = count_circuits};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_E_NETWORK);
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_E_NETWORK);
    assert_int_equal(bnt_mock_server_requests(s), 10);
    assert_int_equal(n_circuits, 0);
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, &err), BNT_E_CIRCUIT);
    assert_non_null(strstr(err.hint, "bnt mirror status"));
    assert_int_equal(n_circuits, 1);
    assert_int_equal(bnt_mock_server_requests(s), 10);
    pass_s(BREAKER_OPEN_S);
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(s), 11);
    bnt_mock_server_stop(s);
}

static void status_shows_servers(void **state)
{
    (void)state;
    char dir[BNT_PATH_MAX];
    struct suite_output out;
    struct breaker *b = start(); /* in the scratch folder itself, with real time */
    report(b, BREAKER_FAILED, 10);
    breaker_close(b);
    assert_int_equal(setenv("BNT_CACHE_DIR", suite_scratch(), 1), 0);
    const char *json[] = {suite_bnt(), "mirror", "status", "--json", NULL};
    suite_run(json, NULL, 0, &out);
    assert_int_equal(out.exit, 0);
    assert_non_null(strstr(out.out, "\"origin\": \"" ORIGIN "\""));
    assert_non_null(strstr(out.out, "\"state\": \"open\""));
    assert_non_null(strstr(out.out, "\"failed\": 10"));
    suite_output_release(&out);
    const char *reset[] = {suite_bnt(), "mirror", "reset", "https://h/any", NULL};
    suite_run(reset, NULL, 0, &out);
    assert_int_equal(out.exit, 0);
    suite_output_release(&out);
    const char *table[] = {suite_bnt(), "mirror", "status", NULL};
    suite_run(table, NULL, 0, &out);
    assert_int_equal(out.exit, 0);
    assert_string_equal(out.out, "");
    suite_output_release(&out);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "nothing"), 1), 0);
    suite_run(json, NULL, 0, &out);
    assert_int_equal(out.exit, 0);
    assert_string_equal(out.out, "[]\n");
    suite_output_release(&out);
}

/* ---- the retry budget ---- */

static bool may_retry(struct breaker *b, const char *origin)
{
    bool granted = false;
    assert_int_equal(breaker_retry(b, origin, &granted, NULL), BNT_OK);
    return granted;
}

static void retries_are_a_budget_of_all_processes(void **state)
{
    (void)state;
    bnt_clock_fake(1000000000000000u);
    struct breaker *one = start(), *two = start(); /* as two processes have it */
    for (int i = 0; i < BREAKER_RETRIES; i++) {
        assert_true(may_retry(i % 2 ? one : two, ORIGIN));
    }
    assert_false(may_retry(one, ORIGIN));
    assert_false(may_retry(two, ORIGIN));
    assert_true(may_retry(one, "https://other:443"));
    for (int i = 0; i < BREAKER_RETRY_PER; i++) {
        assert_false(may_retry(one, ORIGIN));
        assert_int_equal(breaker_earn(two, ORIGIN, NULL), BNT_OK);
    }
    assert_true(may_retry(one, ORIGIN)); /* a share of the requests */
    assert_false(may_retry(one, ORIGIN));
    pass_s(BREAKER_RETRY_EVERY_S - 1);
    assert_false(may_retry(one, ORIGIN));
    pass_s(1);
    assert_true(may_retry(two, ORIGIN)); /* and a trickle */
    assert_false(may_retry(one, ORIGIN));
    pass_s(1000000); /* never more than a full one */
    for (int i = 0; i < BREAKER_RETRIES; i++) {
        assert_true(may_retry(one, ORIGIN));
    }
    assert_false(may_retry(one, ORIGIN));
    assert_int_equal(breaker_reset(one, ORIGIN, NULL), BNT_OK);
    assert_true(may_retry(two, ORIGIN));
    breaker_close(one);
    breaker_close(two);
}

/* A server that answers 429 gets the retries that others have left, and then none from anybody. */
static void empty_budget_ends_a_fetch(void **state)
{
    (void)state;
    enum { LEFT = 2 }; /* whose waits are too short for another one to come */
    const struct bnt_mock_route routes[] = {{.path = "/m.gguf", .status = 429}, {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    bnt_clock_fake(TRANSFER_START_S * UINT64_C(1000000000));
    char dir[BNT_PATH_MAX];
    struct breaker *others;
    assert_int_equal(mkdir(fixture_path(dir, "c"), 0777), 0);
    assert_int_equal(breaker_open(dir, &others, NULL), BNT_OK);
    for (int i = LEFT; i < BREAKER_RETRIES; i++) {
        assert_true(may_retry(others, bnt_mock_server_url(s)));
    }
    breaker_close(others);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {.max_attempts = 100, .connections = 1};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, &err), BNT_E_RATE_LIMIT);
    assert_int_equal(bnt_mock_server_requests(s), 1 + LEFT);
    assert_non_null(strstr(err.hint, "no more retries"));
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, NULL), BNT_E_RATE_LIMIT);
    assert_int_equal(bnt_mock_server_requests(s), 2 + LEFT);
    bnt_mock_server_stop(s);
}

static const struct suite_test tests[] = {
    {.name = "breaker_retries_are_a_budget_of_all_processes",
     .body = retries_are_a_budget_of_all_processes},
    {.name = "breaker_empty_budget_ends_a_fetch", .body = empty_budget_ends_a_fetch},
    {.name = "breaker_origins_are_scheme_host_and_port", .body = origins_are_scheme_host_and_port},
    {.name = "breaker_opens_on_rates_of_enough_calls", .body = opens_on_rates_of_enough_calls},
    {.name = "breaker_window_forgets", .body = window_forgets},
    {.name = "breaker_one_probe_at_a_time_then_closed_or_longer_open",
     .body = one_probe_at_a_time_then_closed_or_longer_open},
    {.name = "breaker_clock_that_is_set_back_opens_no_circuit",
     .body = clock_that_is_set_back_opens_no_circuit},
    {.name = "breaker_dead_probe_is_replaced", .body = dead_probe_is_replaced},
    {.name = "breaker_last_mirror_is_asked_but_gets_its_pause",
     .body = last_mirror_is_asked_but_gets_its_pause},
    {.name = "breaker_damaged_record_is_replaced", .body = damaged_record_is_replaced},
    {.name = "breaker_open_circuit_ends_a_fetch", .body = open_circuit_ends_a_fetch},
    {.name = "breaker_status_shows_servers", .body = status_shows_servers},
    {0},
};
const struct suite suite_breaker = {"breaker", tests,
                                    "breaker_clock breaker_escalation breaker_probe retry_budget"};
