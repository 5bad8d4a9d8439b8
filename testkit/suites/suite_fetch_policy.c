/* Guards what `bnt fetch` promises to people and to CI: an end in time, with all that came kept;
 * others that are fetched although one fails; events that say what happened; a line that is shown
 * and wiped. */
#include "testkit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pty.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/part.h"
#include "fetch/project.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

enum { FILE_BYTES = 300000, LONG_BYTES = 6000000, MAX_ARGS = 10 };
#define SECOND_NS 1000000000ull

#define RUN FIXTURE_BNT

/* ---- when a source is asked ---- */

enum { DAY_S = 86400, HOUR_S = 3600 };

static const char old_text[] = "the content of yesterday", new_text[] = "what is there today";

/* A source that changes, and a project that has it as m. */
struct changing {
    struct bnt_mock_server *s;
    struct bnt_mock_route routes[2];
    struct bnt_mock_step steps[2]; /* what every request gets */
    char said[300];                /* the last warning */
};

static void change(struct changing *c, struct bnt_mock_step step)
{
    bnt_mock_server_hold(c->s);
    c->steps[0] = step;
    bnt_mock_server_go_on(c->s);
}

#define STATE(text, tag)                                                                           \
    (struct bnt_mock_step)                                                                         \
    {                                                                                              \
        .status = 200, .body = (text), .body_bytes = strlen(text), .etag = (tag)                   \
    }

static void start_changing(struct changing *c, const char *update)
{
    char text[512];
    *c = (struct changing){.routes = {{.path = "/m.gguf"}}};
    c->routes[0].steps = c->steps;
    c->steps[0] = STATE(old_text, "\"1\"");
    c->s = transfer_tls_server(c->routes);
    snprintf(text, sizeof text, "update: %s\nmodels:\n  m:\n    source: %s/m.gguf\n", update,
             bnt_mock_server_url(c->s));
    fixture_file(MANIFEST_FILE, text);
    bnt_clock_fake(TRANSFER_START_S * SECOND_NS);
}

static void keep_warning(void *ctx, const char *what, const char *hint)
{
    struct changing *c = ctx;
    snprintf(c->said, sizeof c->said, "%s (%s)", what, hint);
}

/* What `bnt fetch m` does; `requests` is how many the server then has got in all. */
static void fetch_m(struct changing *c, enum bnt_status status, size_t requests, const char *text)
{
    char path[BNT_PATH_MAX];
    struct project p;
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    const struct manifest_model *m;
    const struct project_opts o = {.cache = fixture_cache(),
                                   .fetch = {.connections = 1, .max_attempts = 1},
                                   .warn = keep_warning,
                                   .warn_ctx = c};
    c->said[0] = '\0';
    assert_int_equal(project_open(&p, fixture_path(path, MANIFEST_FILE), NULL), BNT_OK);
    assert_int_equal(project_model(&p, "m", &m, NULL), BNT_OK);
    enum bnt_status st = project_settle(&p, m, &o, &err);
    if (st == BNT_OK) {
        assert_int_equal(lockfile_write(&p.lock, NULL), BNT_OK);
        st = project_fetch(&p, m, 0, &o, &r, &err);
    }
    if (st != status || bnt_mock_server_requests(c->s) != requests) {
        fail_msg("status %d after %zu requests: %s", st, bnt_mock_server_requests(c->s), err.msg);
    }
    if (text) { /* the name leads there, whatever happened */
        struct bnt_cache_entry e;
        assert_int_equal(bnt_cache_lookup(o.cache, "m", &e, path, NULL), BNT_OK);
        fixture_assert_holds(path, text);
        assert_string_equal(lockfile_file(lockfile_entry(&p.lock, "m"), 0).sha256, e.digest);
    }
    project_release(&p);
    bnt_cache_close(o.cache);
}

static void later(unsigned seconds)
{
    bnt_clock_sleep_ns(seconds * SECOND_NS);
}

static void daily_asks_once_a_day(void **state)
{
    (void)state;
    struct changing c;
    start_changing(&c, "daily");
    fetch_m(&c, BNT_OK, 1, old_text);
    change(&c, STATE(new_text, "\"2\""));
    later(HOUR_S);
    fetch_m(&c, BNT_OK, 1, old_text);
    change(&c, STATE(old_text, "\"1\""));
    later(DAY_S);
    fetch_m(&c, BNT_OK, 2, old_text);
    assert_true(transfer_request_has(c.s, 1, "If-None-Match: \"1\""));
    change(&c, STATE(new_text, "\"2\""));
    later(DAY_S - 10);
    fetch_m(&c, BNT_OK, 2, old_text);
    later(10);
    fetch_m(&c, BNT_OK, 3, new_text);
    later(HOUR_S);
    fetch_m(&c, BNT_OK, 3, new_text);
    change(&c, (struct bnt_mock_step){.status = 404});
    later(DAY_S);
    fetch_m(&c, BNT_OK, 4, new_text); /* what is there is used... */
    assert_non_null(strstr(c.said, "404"));
    fetch_m(&c, BNT_OK, 5, new_text); /* ...and the question is still open */
    bnt_mock_server_stop(c.s);
}

static void always_asks_and_fails_with_the_source(void **state)
{
    (void)state;
    struct changing c;
    start_changing(&c, "always");
    fetch_m(&c, BNT_OK, 1, old_text);
    fetch_m(&c, BNT_OK, 2, old_text);
    assert_int_equal(bnt_mock_server_body_bytes(c.s), strlen(old_text));
    struct bnt_mock_step deaf = STATE(old_text, "\"1\"");
    deaf.ignore_range = true; /* it does not know If-None-Match; the tag tells */
    change(&c, deaf);
    fetch_m(&c, BNT_OK, 3, old_text);
    struct bnt_mock_step cut = STATE(new_text, "\"2\"");
    cut.fault = BNT_MOCK_CLOSE;
    cut.fault_at = 5;
    change(&c, cut);
    fetch_m(&c, BNT_E_NETWORK, 4, old_text); /* until the new one is whole */
    change(&c, STATE(new_text, "\"2\""));
    fetch_m(&c, BNT_OK, 5, new_text);
    change(&c, (struct bnt_mock_step){.status = 403});
    fetch_m(&c, BNT_E_AUTH, 6, new_text);
    assert_string_equal(c.said, "");
    bnt_mock_server_stop(c.s);
}

static void what_has_not_changed_is_not_said_to_have_come(void **state)
{
    (void)state;
    struct changing c;
    struct suite_output o;
    start_changing(&c, "always");
    RUN(&o, 0, "fetch");
    assert_non_null(strstr(o.err, " MB from "));
    suite_output_release(&o);
    RUN(&o, 0, "fetch");
    assert_int_equal(bnt_mock_server_requests(c.s), 2);
    assert_non_null(strstr(o.err, "is in the cache already"));
    suite_output_release(&o);
    bnt_mock_server_stop(c.s);
}

static void never_takes_only_what_is_there(void **state)
{
    (void)state;
    struct changing c;
    start_changing(&c, "never");
    fetch_m(&c, BNT_E_OFFLINE, 0, NULL);
    char text[512];
    snprintf(text, sizeof text, "models:\n  m:\n    source: %s/m.gguf\n    update: %s\n",
             bnt_mock_server_url(c.s), "if-missing");
    fixture_file(MANIFEST_FILE, text);
    fetch_m(&c, BNT_OK, 1, old_text);
    change(&c, STATE(new_text, "\"2\""));
    later(30 * DAY_S);
    fetch_m(&c, BNT_OK, 1, old_text); /* it is not missing */
    snprintf(text, sizeof text,
             "update: always\nmodels:\n  m:\n    source: %s/m.gguf\n"
             "    update: never\n",
             bnt_mock_server_url(c.s));
    fixture_file(MANIFEST_FILE, text); /* what the model says goes before */
    fetch_m(&c, BNT_OK, 1, old_text);
    bnt_mock_server_stop(c.s);
}

/* Where the lock file decides, and where there is no network, nobody is asked. */
static void locked_and_offline_ask_nobody(void **state)
{
    (void)state;
    struct changing c;
    struct suite_output o;
    static const char *const flags[] = {"--locked", "--frozen", "--offline"};
    start_changing(&c, "always");
    RUN(&o, 0, "fetch");
    suite_output_release(&o);
    assert_int_equal(bnt_mock_server_requests(c.s), 1);
    change(&c, STATE(new_text, "\"2\""));
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        RUN(&o, 0, "fetch", flags[i], "--update", "always");
        suite_output_release(&o);
        assert_int_equal(bnt_mock_server_requests(c.s), 1);
    }
    RUN(&o, 0, "fetch", "--update", "if-missing"); /* the option goes before the manifest */
    suite_output_release(&o);
    assert_int_equal(bnt_mock_server_requests(c.s), 1);
    RUN(&o, 0, "fetch");
    suite_output_release(&o);
    assert_int_equal(bnt_mock_server_requests(c.s), 2);
    RUN(&o, 2, "fetch", "--update", "weekly");
    suite_output_release(&o);
    RUN(&o, 2, "fetch", "--update", "never", "--force");
    suite_output_release(&o);
    bnt_mock_server_stop(c.s);
}

/* The policy holds for a SOURCE, too, and when net.db is lost. */
static void source_is_asked_by_its_tag(void **state)
{
    (void)state;
    struct changing c;
    struct bnt_fetch_result r;
    char path[BNT_PATH_MAX];
    start_changing(&c, "if-missing");
    struct bnt_fetch_opts o = {.connections = 1};
    assert_int_equal(transfer_fetch(c.s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    assert_int_equal(unlink(fixture_path(path, "c/net.db")), 0);
    o.update = BNT_FETCH_UPDATE_ALWAYS;
    assert_int_equal(transfer_fetch(c.s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    assert_true(r.hit);
    assert_true(transfer_request_has(c.s, 1, "If-None-Match: \"1\""));
    o.update = BNT_FETCH_UPDATE_DAILY;
    assert_int_equal(transfer_fetch(c.s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(c.s), 2);
    later(DAY_S + 1);
    change(&c, STATE(new_text, "\"2\""));
    assert_int_equal(transfer_fetch(c.s, "/m.gguf", &o, &r, NULL, NULL), BNT_OK);
    assert_false(r.hit);
    fixture_assert_holds(r.path, new_text);
    bnt_mock_server_stop(c.s);
}

/* ---- limits of the cache ---- */

/* Three models of 4 kB from elsewhere, and a project that wants its cache to have 6 kB. */
static void limits_hold_after_a_fetch(void **state)
{
    (void)state;
    struct suite_output o;
    struct bnt_cache *cache;
    struct bnt_cache_entry e;
    struct bnt_cache_lease lease;
    char text[4001];
    static const char *const others[] = {"used", "spare", "latest"};
    for (int i = 0; i < 3; i++) {
        char name[64];
        memset(text, 'a' + i, 4000);
        text[4000] = '\0';
        snprintf(name, sizeof name, "%s.gguf", others[i]);
        fixture_file(name, text);
        snprintf(name, sizeof name, "./%s.gguf", others[i]);
        RUN(&o, 0, "fetch", name);
        suite_output_release(&o);
    }
    fixture_file("m.gguf", "what the lock file names");
    fixture_file(MANIFEST_FILE, "models:\n  m: {source: m.gguf}\ncache: {max_size: 20kB}\n");
    RUN(&o, 0, "fetch", "--json");
    assert_null(strstr(o.err, "cache:")); /* no limit is passed */
    assert_null(strstr(o.out, "collected"));
    suite_output_release(&o);
    assert_int_equal(bnt_cache_open(NULL, &cache, NULL), BNT_OK);
    assert_int_equal(bnt_cache_find(cache, "used", &e, NULL), BNT_OK);
    assert_int_equal(bnt_cache_lease_take(cache, e.digest, &lease, NULL), BNT_OK);
    fixture_file(MANIFEST_FILE, "models:\n  m: {source: m.gguf}\n"
                                "cache: {max_size: 6kB, keep_latest: 1}\n");
    RUN(&o, 0, "fetch", "--json", "m");
    assert_non_null(strstr(o.err, "cache: 2 removed (0.0 MB)"));
    assert_non_null(strstr(o.out, "{\"event\":\"collected\",\"removed\":2,\"bytes\":8000,"));
    suite_output_release(&o);
    bnt_cache_lease_release(&lease);
    bnt_cache_close(cache);
    RUN(&o, 0, "path", "used");
    suite_output_release(&o);
    RUN(&o, 8, "path", "spare");
    suite_output_release(&o);
    fixture_file(MANIFEST_FILE, "models:\n  m: {source: m.gguf}\ncache: {max_size: 1B}\n");
    RUN(&o, 0, "fetch");
    assert_non_null(strstr(o.err, "more than the limits of bnt.yml allow"));
    suite_output_release(&o);
    RUN(&o, 0, "path", "m"); /* the last copy of what the lock file names */
    suite_output_release(&o);
}

static void expect_limit(const char *limit, const char *collected)
{
    struct suite_output o;
    char text[200];
    snprintf(text, sizeof text, "models:\n  m: {source: m.gguf}\ncache: {%s}\n", limit);
    fixture_file(MANIFEST_FILE, text);
    RUN(&o, 0, "fetch", "--json");
    if (!strstr(o.out, collected)) {
        fail_msg("%s: %s%s", limit, o.out, o.err);
    }
    suite_output_release(&o);
}

static void age_room_and_demotion_are_limits_too(void **state)
{
    (void)state;
    struct suite_output o;
    char text[40001], dir[BNT_PATH_MAX];
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(dir, "c"), 1), 0);
    for (int i = 0; i < 2; i++) {
        memset(text, 'a' + i, 40000);
        text[40000] = '\0';
        fixture_file(i ? "new.gguf" : "old.gguf", text);
        RUN(&o, 0, "fetch", i ? "./new.gguf" : "./old.gguf");
        suite_output_release(&o);
    }
    fixture_file("m.gguf", "what the lock file names");
    fixture_sql("UPDATE blob SET used_s = used_s - 40 * 86400"
                " WHERE digest = (SELECT digest FROM name WHERE name = 'old')");
    expect_limit("max_age: 30d", "\"collected\",\"removed\":1,\"bytes\":40000,\"demoted\":0,");
    RUN(&o, 8, "path", "old");
    suite_output_release(&o);
    fixture_sql("UPDATE blob SET used_s = used_s - 2 * 86400");
    expect_limit("demote_after: 1d", "\"collected\",\"removed\":0,\"bytes\":0,\"demoted\":1,");
    RUN(&o, 0, "path", "new"); /* hot again */
    suite_output_release(&o);
    expect_limit("min_free: 9000000GB", "\"collected\",\"removed\":1,\"bytes\":40000,");
    RUN(&o, 8, "path", "new");
    suite_output_release(&o);
    RUN(&o, 0, "path", "m");
    suite_output_release(&o);
}

/* ---- what cannot run here ---- */

static void what_cannot_run_is_refused_before_it_comes(void **state)
{
    (void)state;
#ifdef __aarch64__
    static const char foreign[] = "cpu: [avx2]";
#else
    static const char foreign[] = "cpu: [neon]";
#endif
    static const char hex[] = "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162";
    const struct {
        const char *requires;
        unsigned long size;
        int exit;
        const char *said;
    } cases[] = {
        {"memory: 1000000GB", 5, 18, "requires 1000000.0 GB of memory"},
        {foreign, 5, 9, "this processor has none"},
        {"cpu: [avx3]", 5, 5, "bnt.yml:5:22: 'avx3'"},
        {"target: wasm32", 100000001, 18, "wasm32 can hold 100.0 MB"},
        {"target: wasm32", 100000000, 8, "404"}, /* it may come, if only it were there */
        {"memory: 1M", 5, 8, "404"},
    };
    const struct bnt_mock_route routes[] = {{0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        char text[600];
        snprintf(text, sizeof text,
                 "models:\n  m:\n    source: %s/m.gguf\n    sha256: %s\n    requires: {%s}\n"
                 "    size: %lu\n",
                 bnt_mock_server_url(s), hex, cases[i].requires, cases[i].size);
        fixture_file(MANIFEST_FILE, text);
        const size_t before = bnt_mock_server_requests(s);
        RUN(&o, cases[i].exit, "fetch");
        if (!strstr(o.err, cases[i].said)) {
            fail_msg("%s: %s", cases[i].requires, o.err);
        }
        assert_int_equal(bnt_mock_server_requests(s), before + (cases[i].exit == 8));
        suite_output_release(&o);
    }
    bnt_mock_server_stop(s);
}

/* Nobody said how large it is: the head of the answer does, and the rest is not taken. */
static void size_is_judged_at_the_head_of_the_answer(void **state)
{
    (void)state;
    static const struct bnt_mock_step huge[] = {{.status = 200, .length_delta = 150000000}, {0}};
    const char *bytes = transfer_bytes(LONG_BYTES, 1);
    const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", .body = bytes, .body_bytes = LONG_BYTES, .steps = huge}, {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {.max_bytes = BNT_WASM32_MAX_BYTES};
    assert_int_equal(transfer_fetch(s, "/m.gguf", &o, &r, NULL, &err), BNT_E_MEMORY);
    assert_non_null(strstr(err.msg, "156.0 MB"));
    assert_int_equal(bnt_mock_server_requests(s), 1);
    bnt_mock_server_stop(s);
    struct suite_output out;
    RUN(&out, 0, "fetch", "--for", "wasm32", "bundled:");
    suite_output_release(&out);
}

/* ---- one fails, the others come ---- */

static void others_are_fetched_when_one_fails(void **state)
{
    (void)state;
    struct suite_output o;
    fixture_file("a.gguf", "aa");
    fixture_file("c.gguf", "cc");
    fixture_file("bnt.yml", "models:\n"
                            "  a: {source: a.gguf}\n"
                            "  b: {source: absent.gguf}\n"
                            "  c: {source: c.gguf, sha256: "
                            "4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162}\n"
                            "  d: {source: c.gguf}\n");
    RUN(&o, 8, "fetch"); /* of b, the first that failed; c is 13 */
    assert_non_null(strstr(o.err, "2 of 4 could not be fetched: b, c"));
    suite_output_release(&o);
    RUN(&o, 13, "fetch", "--json", "d", "c", "b", "a");
    assert_non_null(strstr(o.err, "2 of 4 could not be fetched: c, b"));
    const char *last = strstr(o.out, "{\"event\":\"result\"");
    assert_non_null(last);
    json_t *result = json_loads(last, 0, NULL);
    assert_int_equal(json_integer_value(json_object_get(result, "exit")), 13);
    assert_int_equal(json_array_size(json_object_get(result, "files")), 2);
    json_decref(result);
    suite_output_release(&o);
    static const char *const there[] = {"a", "d"}, *const absent[] = {"b", "c"};
    for (int i = 0; i < 2; i++) {
        RUN(&o, 0, "path", there[i]);
        suite_output_release(&o);
        RUN(&o, 8, "path", absent[i]);
        suite_output_release(&o);
    }
}

/* ---- events ---- */

/* The member of the only event of its kind. */
static const json_t *member_of(json_t *const *events, size_t n, const char *kind, const char *key)
{
    const json_t *found = NULL;
    for (size_t i = 0; i < n; i++) {
        const char *is = json_string_value(json_object_get(events[i], "event"));
        assert_non_null(is);
        if (strcmp(is, kind) == 0) {
            assert_null(found);
            found = json_object_get(events[i], key);
        }
    }
    if (!found) {
        fail_msg("no event %s with %s", kind, key);
    }
    return found;
}

static void events_say_what_happened(void **state)
{
    (void)state;
    enum { MAX_EVENTS = 16 };
    static const struct bnt_mock_step steps[] = {
        {.status = 503, .headers = "Retry-After: 0\r\n"}, {.status = 200}, {0}};
    const char *bytes = transfer_bytes(FILE_BYTES, 1);
    const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", .body = bytes, .body_bytes = FILE_BYTES, .steps = steps}, {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct suite_output o;
    char url[300], hex[BNT_SHA256_HEX];
    json_t *events[MAX_EVENTS];
    size_t n = 0;
    transfer_digest(bytes, FILE_BYTES, hex);
    snprintf(url, sizeof url, "%s/m.gguf", bnt_mock_server_url(s));
    RUN(&o, 0, "fetch", "--json", url, "--sha256", hex, "--name", "m");
    for (char *line, *rest = o.out; (line = strtok_r(rest, "\n", &rest));) {
        assert_true(n < MAX_EVENTS);
        events[n] = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(events[n]);
        n++;
    }
    assert_string_equal(json_string_value(member_of(events, n, "start", "name")), "m");
    assert_int_equal(json_integer_value(member_of(events, n, "retry", "exit")), BNT_E_NETWORK);
    assert_string_equal(json_string_value(member_of(events, n, "retry", "server")),
                        bnt_mock_server_url(s));
    assert_string_equal(json_string_value(member_of(events, n, "mirror", "state")), "in");
    assert_string_equal(json_string_value(member_of(events, n, "verified", "name")), "m");
    assert_string_equal(json_string_value(member_of(events, n, "done", "digest")), hex);
    assert_int_equal(json_integer_value(member_of(events, n, "result", "bytes")), FILE_BYTES);
    assert_true(member_of(events, n, "result", "exit") == json_object_get(events[n - 1], "exit"));
    assert_string_equal(json_string_value(json_object_get(events[n - 1], "digest")), hex);
    for (size_t i = 0; i < n; i++) {
        json_decref(events[i]);
    }
    suite_output_release(&o);
    bnt_mock_server_stop(s);
}

static void error_is_an_event_before_the_result(void **state)
{
    (void)state;
    struct suite_output o;
    RUN(&o, 8, "fetch", "--json", "./absent.gguf");
    json_t *error = json_loads(o.out, JSON_DISABLE_EOF_CHECK, NULL);
    assert_string_equal(json_string_value(json_object_get(error, "event")), "error");
    assert_int_equal(json_integer_value(json_object_get(error, "exit")), 8);
    assert_non_null(strstr(o.out, "\n{\"event\":\"result\",\"exit\":8"));
    json_decref(error);
    suite_output_release(&o);
}

/* ---- the line ---- */

enum { WIDE = 120, NARROW = 40, SLOW_BYTES = 1500000, SHOWN_MAX = 100000 };

/* Run bnt with a terminal of so many columns as its standard error; what it got. */
static void run_on_terminal(unsigned short columns, const char *const *words, char out[SHOWN_MAX])
{
    const char *argv[MAX_ARGS + 2] = {suite_bnt()};
    int terminal, end, status;
    struct winsize w = {.ws_row = 24, .ws_col = columns};
    for (size_t n = 0; words[n]; n++) {
        argv[n + 1] = words[n];
    }
    assert_int_equal(openpty(&terminal, &end, NULL, NULL, &w), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(end, STDERR_FILENO);
        (void)dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
        close(terminal);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    close(end);
    size_t n = 0;
    for (ssize_t got;
         n + 1 < SHOWN_MAX && (got = read(terminal, out + n, SHOWN_MAX - 1 - n)) > 0;) {
        n += (size_t)got; /* EIO when the other end is closed */
    }
    out[n] = '\0';
    close(terminal);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void line_is_shown_cut_and_wiped(void **state)
{
    (void)state;
    static char shown[SHOWN_MAX];
    const char *bytes = transfer_bytes(SLOW_BYTES, 1);
    const struct bnt_mock_route routes[] = {{.path = "/m.gguf",
                                             .status = 200,
                                             .body = bytes,
                                             .body_bytes = SLOW_BYTES,
                                             .rate_bytes_s = 2 * SLOW_BYTES},
                                            {0}};
    struct bnt_mock_server *s = transfer_tls_server(routes);
    char url[300];
    snprintf(url, sizeof url, "%s/m.gguf", bnt_mock_server_url(s));
    assert_int_equal(setenv("TERM", "xterm", 1), 0);
    assert_int_equal(setenv("NO_COLOR", "1", 1), 0);
    const char *const words[] = {"fetch", url, "--name", "m", NULL};
    run_on_terminal(WIDE, words, shown);
    if (!strstr(shown, "\r\033[Km  0.") || !strstr(shown, " of 1.5 MB ") ||
        !strstr(shown, " MB/s") || !strstr(shown, " s left  from 127.0.0.1:")) {
        fail_msg("%s", shown);
    }
    assert_non_null(strstr(shown, "\r\033[Knote: m: ")); /* wiped, and without colour */
    assert_null(strstr(shown, "\033[3"));
    const char *const again[] = {"fetch", "--force", url, "--name", "m", NULL};
    run_on_terminal(NARROW, again, shown);
    size_t n = 0;
    const char *at = shown;
    for (const char *next; (next = strstr(at, "\r\033[K")); at = next + 4) {
        assert_true(next - at < NARROW);
        n++;
    }
    assert_true(n >= 2);
    assert_true(strncmp(at, "note: m: ", 9) == 0);
    const char *const quiet[] = {"fetch", "-q", "--force", url, "--name", "m", NULL};
    run_on_terminal(WIDE, quiet, shown);
    assert_string_equal(shown, "");
    assert_int_equal(setenv("TERM", "dumb", 1), 0);
    run_on_terminal(WIDE, again, shown);
    assert_null(strchr(shown, '\033'));
    bnt_mock_server_stop(s);
}

static const struct suite_test tests[] = {
    {.name = "fetch_daily_asks_once_a_day", .body = daily_asks_once_a_day},
    {.name = "fetch_always_asks_and_fails_with_the_source",
     .body = always_asks_and_fails_with_the_source},
    {.name = "fetch_what_has_not_changed_is_not_said_to_have_come",
     .body = what_has_not_changed_is_not_said_to_have_come},
    {.name = "fetch_never_takes_only_what_is_there", .body = never_takes_only_what_is_there},
    {.name = "fetch_locked_and_offline_ask_nobody", .body = locked_and_offline_ask_nobody},
    {.name = "fetch_source_is_asked_by_its_tag", .body = source_is_asked_by_its_tag},
    {.name = "fetch_limits_hold_after_a_fetch", .body = limits_hold_after_a_fetch},
    {.name = "fetch_age_room_and_demotion_are_limits_too",
     .body = age_room_and_demotion_are_limits_too},
    {.name = "fetch_what_cannot_run_is_refused_before_it_comes",
     .body = what_cannot_run_is_refused_before_it_comes},
    {.name = "fetch_size_is_judged_at_the_head_of_the_answer",
     .body = size_is_judged_at_the_head_of_the_answer},
    {.name = "fetch_others_come_when_one_fails", .body = others_are_fetched_when_one_fails},
    {.name = "fetch_events_say_what_happened", .body = events_say_what_happened},
    {.name = "fetch_error_is_an_event_before_the_result",
     .body = error_is_an_event_before_the_result},
    {.name = "fetch_line_is_shown_cut_and_wiped", .body = line_is_shown_cut_and_wiped},
    {0},
};
const struct suite suite_fetch_policy = {"fetch_policy", tests,
                                         "update_daily limits_lock first_failure target_size"};
