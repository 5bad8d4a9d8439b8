/* Guards sources of the model hub: a token that leaves the hub, content that is not the one that
 * the hub names, a branch that moves between two requests, a download of what the hub's own tools
 * have already. The hub and its storage are the project's own servers, on 127.0.0.1. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/hub.h"
#include "fetch/project.h"
#include "mock/bnt_mock.h"
#include "testkit/suites/cache_fixture.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define TOKEN "hf_s3cr3t"

static const char body[] = "the bytes of a model";
static const char listing[] =
    "[{\"type\":\"directory\",\"path\":\"sub\"},{\"type\":\"file\",\"path\":\"README.md\"},"
    "{\"type\":\"file\",\"path\":\"m-Q8_0.gguf\"}]";
static const char listing_2[] = "[{\"type\":\"file\",\"path\":\"sub/m-i2_s.gguf\"}]";

/* A hub, and the storage that it redirects to: another origin. */
struct hub {
    struct bnt_mock_server *hub, *storage;
    char digest[BNT_SHA256_HEX], facts[512], link[256];
    struct bnt_mock_route routes[12], stored[3];
};

static void clean_environment(void)
{
    static const char *const names[] = {
        "HF_TOKEN",       "HF_TOKEN_PATH", "HF_HUB_CACHE",  "HF_HUB_OFFLINE", "HF_ENDPOINT",
        "CURL_CA_BUNDLE", "SSL_CERT_DIR",  "SSL_CERT_FILE", "http_proxy",     "https_proxy",
        "HTTPS_PROXY",    "all_proxy",     "ALL_PROXY",     "HTTP_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
}

static void start(struct hub *h)
{
    char one[BNT_PATH_MAX], two[BNT_PATH_MAX], home[BNT_PATH_MAX];
    clean_environment();
    *h = (struct hub){0};
    fixture_digest(body, h->digest);
    h->stored[0] = (struct bnt_mock_route){
        .path = "/cdn/m", .status = 200, .body = body, .body_bytes = sizeof body - 1};
    h->stored[1] = (struct bnt_mock_route){
        .path = "/cdn/other", .status = 200, .body = "other bytes", .body_bytes = 11};
    fixture_path(one, "one.pem");
    fixture_path(two, "two.pem");
    assert_int_equal(bnt_mock_server_start(h->stored, two, &h->storage, NULL), BNT_OK);
    snprintf(h->facts, sizeof h->facts,
             "X-Repo-Commit: " COMMIT "\r\nX-Linked-ETag: \"%s\"\r\nX-Linked-Size: %zu\r\n"
             "Location: %s/cdn/m\r\n",
             h->digest, sizeof body - 1, bnt_mock_server_url(h->storage));
    static char wrong[512];
    snprintf(wrong, sizeof wrong, "%.*s/cdn/other\r\n", (int)strlen(h->facts) - 8, h->facts);
    const struct bnt_mock_route routes[] = {
        {.path = "/org/repo/resolve/main/m.gguf", .status = 302, .headers = h->facts},
        {.path = "/org/repo/resolve/" COMMIT "/m.gguf", .status = 302, .headers = h->facts},
        {.path = "/org/repo/resolve/main/sub/m-i2_s.gguf", .status = 302, .headers = h->facts},
        {.path = "/org/repo/resolve/" COMMIT "/sub/m-i2_s.gguf",
         .status = 302,
         .headers = h->facts},
        {.path = "/org/repo/resolve/main/small.json",
         .status = 200,
         .headers = "X-Repo-Commit: " COMMIT "\r\nETag: \"abc\"\r\n"},
        {.path = "/org/repo/resolve/" COMMIT "/small.json",
         .status = 200,
         .headers = "X-Repo-Commit: " COMMIT "\r\nETag: \"abc\"\r\n",
         .body = "{}",
         .body_bytes = 2},
        {.path = "/old/name/resolve/main/m.gguf",
         .status = 307,
         .headers = "Location: /org/repo/resolve/main/m.gguf\r\n"},
        {.path = "/org/bad/resolve/main/m.gguf", .status = 302, .headers = wrong},
        {.path = "/org/bad/resolve/" COMMIT "/m.gguf", .status = 302, .headers = wrong},
        {.path = "/org/gated/resolve/main/m.gguf", .status = 401},
        {.path = "/api/models/org/repo/tree/main?recursive=true",
         .status = 200,
         .headers = h->link,
         .body = listing,
         .body_bytes = sizeof listing - 1},
    };
    memcpy(h->routes, routes, sizeof routes);
    h->routes[sizeof routes / sizeof routes[0]] = (struct bnt_mock_route){0};
    assert_int_equal(bnt_mock_server_start(h->routes, one, &h->hub, NULL), BNT_OK);
    fixture_trust(one, two);
    assert_int_equal(setenv("HF_ENDPOINT", bnt_mock_server_url(h->hub), 1), 0);
    assert_int_equal(setenv("HF_HOME", fixture_path(home, "hf"), 1), 0);
}

static void stop(struct hub *h)
{
    bnt_mock_server_stop(h->hub);
    bnt_mock_server_stop(h->storage);
}

static enum bnt_status get(const char *source, const struct bnt_fetch_opts *o,
                           struct bnt_fetch_result *r, struct bnt_err *err)
{
    struct bnt_cache *c = fixture_cache();
    *err = (struct bnt_err){0};
    enum bnt_status st = bnt_fetch(c, source, o, r, err);
    bnt_cache_close(c);
    assert_null(strstr(err->msg, TOKEN));
    assert_null(strstr(err->hint, TOKEN));
    return st;
}

static const struct bnt_fetch_opts plain = {0};

/* ---- what a source means ---- */

static void forms_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown, *name, *url; /* shown NULL: refused */
    } cases[] = {
        {"hf://o/r/m.gguf", "hf://o/r/m.gguf", "m",
         "https://huggingface.co/o/r/resolve/main/m.gguf"},
        {"hf://o/r@v1/a/m.gguf", "hf://o/r@v1/a/m.gguf", "m",
         "https://huggingface.co/o/r/resolve/v1/a/m.gguf"},
        {"hf://o/r@refs%2Fpr%2F1/m%20x.gguf", "hf://o/r@refs%2Fpr%2F1/m%20x.gguf", "m-x",
         "https://huggingface.co/o/r/resolve/refs%2Fpr%2F1/m%20x.gguf"},
        {"hf://o/r-GGUF:Q8_0", "hf://o/r-GGUF:Q8_0", "r-GGUF-Q8_0", NULL},
        {"o/r-GGUF", "hf://o/r-GGUF", "r-GGUF", NULL},
        {"o/r:i2_s", "hf://o/r:i2_s", "r-i2_s", NULL},
        {"hf://o", NULL, NULL, NULL},
        {"hf://o/r@/m", NULL, NULL, NULL},
        {"hf://o/r/", NULL, NULL, NULL},
        {"hf://o/r/../m", NULL, NULL, NULL},
        {"hf://o/r/%2e%2e/m", NULL, NULL, NULL},
        {"hf://o/r:a/b", NULL, NULL, NULL},
        {"hf://o/r?x", NULL, NULL, NULL},
        {"hf://-o/r/m", NULL, NULL, NULL},
    };
    clean_environment();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source s;
        enum bnt_status st = source_parse(cases[i].text, &s, NULL);
        if (!cases[i].shown) {
            assert_int_equal(st, BNT_E_USAGE);
            continue;
        }
        assert_int_equal(st, BNT_OK);
        assert_string_equal(s.shown, cases[i].shown);
        assert_string_equal(s.name, cases[i].name);
        if (cases[i].url) {
            assert_string_equal(s.url, cases[i].url);
        }
    }
    const char *paths[] = {"./o/r", "o/r/m", "o/m.gguf", "o", "/o/r", "../r", "o/r:", "o/r:a/b"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        assert_false(hub_is_repository(paths[i]));
    }
}

/* ---- transfers ---- */

static void download_is_held_to_the_hubs_digest_and_commit(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_fetch_result r;
    struct bnt_err err;
    char head[4096];
    start(&h);
    assert_int_equal(setenv("HF_TOKEN", TOKEN, 1), 0);
    if (get("hf://org/repo/m.gguf", &plain, &r, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    fixture_assert_holds(r.path, body);
    assert_string_equal(r.entry.digest, h.digest);
    assert_string_equal(r.entry.source, "hf://org/repo/m.gguf");
    assert_int_equal(bnt_mock_server_requests(h.hub), 2);
    for (size_t k = 0; k < 2; k++) {
        bnt_mock_server_request(h.hub, k, head, sizeof head);
        assert_non_null(strstr(head, k ? "GET /org/repo/resolve/" COMMIT "/m.gguf "
                                       : "HEAD /org/repo/resolve/main/m.gguf "));
        assert_non_null(strstr(head, "\r\nAuthorization: Bearer " TOKEN "\r\n"));
    }
    bnt_mock_server_request(h.storage, 0, head, sizeof head);
    assert_non_null(strstr(head, "GET /cdn/m "));
    assert_null(strstr(head, "Authorization"));
    assert_null(strstr(head, TOKEN));
    /* Under another name the hub is asked, and the cache has it. */
    const struct bnt_fetch_opts other = {.name = "other"};
    assert_int_equal(get("hf://old/name/m.gguf", &other, &r, &err), BNT_OK);
    assert_true(r.hit);
    assert_int_equal(bnt_mock_server_requests(h.storage), 1);
    stop(&h);
}

static void other_content_than_named_is_refused(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_fetch_result r;
    struct bnt_err err;
    char wrong[BNT_SHA256_HEX];
    start(&h);
    assert_int_equal(get("hf://org/bad/m.gguf", &plain, &r, &err), BNT_E_DIGEST);
    assert_int_equal(bnt_mock_server_requests(h.storage), 1);
    fixture_digest("something else", wrong);
    const struct bnt_fetch_opts o = {.sha256 = wrong};
    assert_int_equal(get("hf://org/repo/m.gguf", &o, &r, &err), BNT_E_DIGEST);
    assert_int_equal(bnt_mock_server_requests(h.storage), 1); /* known before the download */
    stop(&h);
}

static void causes_are_told_apart(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_fetch_result r;
    struct bnt_err err;
    start(&h);
    assert_int_equal(setenv("HF_TOKEN", TOKEN, 1), 0);
    assert_int_equal(get("hf://org/gated/m.gguf", &plain, &r, &err), BNT_E_AUTH);
    assert_non_null(strstr(err.hint, "HF_TOKEN"));
    assert_int_equal(get("hf://org/absent/m.gguf", &plain, &r, &err), BNT_E_NOT_FOUND);
    size_t before = bnt_mock_server_requests(h.hub);
    assert_int_equal(setenv("HF_HUB_OFFLINE", "1", 1), 0);
    assert_int_equal(get("hf://org/repo/m.gguf", &plain, &r, &err), BNT_E_OFFLINE);
    assert_int_equal(bnt_mock_server_requests(h.hub), before);
    stop(&h);
}

static void token_comes_from_a_file_and_never_over_http(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_mock_server *http;
    struct bnt_fetch_result r;
    struct bnt_err err;
    char path[BNT_PATH_MAX], head[4096];
    start(&h);
    assert_int_equal(mkdir(fixture_path(path, "hf"), 0700), 0);
    fixture_write(fixture_path(path, "hf/token"), TOKEN "\n");
    assert_int_equal(get("hf://org/gated/m.gguf", &plain, &r, &err), BNT_E_AUTH);
    bnt_mock_server_last_request(h.hub, head, sizeof head);
    assert_non_null(strstr(head, "Bearer " TOKEN "\r\n"));
    assert_int_equal(bnt_mock_server_start(h.routes, NULL, &http, NULL), BNT_OK);
    assert_int_equal(setenv("HF_ENDPOINT", bnt_mock_server_url(http), 1), 0);
    const struct bnt_fetch_opts o = {.sha256 = h.digest};
    assert_int_equal(get("hf://org/gated/m.gguf", &o, &r, &err), BNT_E_AUTH);
    bnt_mock_server_last_request(http, head, sizeof head);
    assert_non_null(strstr(head, "HEAD "));
    assert_null(strstr(head, TOKEN));
    bnt_mock_server_stop(http);
    stop(&h);
}

/* ---- a choice of files ---- */

static void file_is_chosen_from_the_listing(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_fetch_result r;
    struct bnt_err err;
    start(&h);
    struct bnt_mock_route *second = &h.routes[9]; /* the gated one: not needed here */
    *second = (struct bnt_mock_route){
        .path = "/api/page2", .status = 200, .body = listing_2, .body_bytes = sizeof listing_2 - 1};
    snprintf(h.link, sizeof h.link, "Link: <%s/api/page2>; rel=\"next\"\r\n",
             bnt_mock_server_url(h.hub));
    assert_int_equal(get("org/repo", &plain, &r, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "m-Q8_0.gguf, sub/m-i2_s.gguf"));
    assert_int_equal(get("org/repo:Q8", &plain, &r, &err), BNT_E_NOT_FOUND); /* a whole word */
    assert_int_equal(get("org/repo:I2_S", &plain, &r, &err), BNT_OK);
    fixture_assert_holds(r.path, body);
    assert_string_equal(r.entry.name, "repo-I2_S");
    assert_string_equal(r.entry.file_name, "m-i2_s.gguf");
    /* A page of another origin is not asked for: the token would go there. */
    snprintf(h.link, sizeof h.link, "Link: <%s/api/page2>; rel=\"next\"\r\n",
             bnt_mock_server_url(h.storage));
    size_t before = bnt_mock_server_requests(h.storage);
    assert_int_equal(get("hf://org/repo:i2_s", &(struct bnt_fetch_opts){.name = "x"}, &r, &err),
                     BNT_E_NOT_FOUND);
    assert_int_equal(bnt_mock_server_requests(h.storage), before);
    stop(&h);
}

/* ---- the hub's own cache ---- */

static void make_local(const char *digest, const char *content)
{
    static const char *const folders[] = {"hf",
                                          "hf/hub",
                                          "hf/hub/models--org--repo",
                                          "hf/hub/models--org--repo/blobs",
                                          "hf/hub/models--org--repo/refs",
                                          "hf/hub/models--org--repo/snapshots",
                                          ("hf/hub/models--org--repo/snapshots/" COMMIT)};
    char path[BNT_PATH_MAX], name[256];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        assert_int_equal(mkdir(fixture_path(path, folders[i]), 0700), 0);
    }
    snprintf(name, sizeof name, "hf/hub/models--org--repo/blobs/%s", digest);
    fixture_write(fixture_path(path, name), content);
    fixture_write(fixture_path(path, "hf/hub/models--org--repo/refs/main"), COMMIT);
    snprintf(name, sizeof name, "../../blobs/%s", digest);
    fixture_path(path, "hf/hub/models--org--repo/snapshots/" COMMIT "/m.gguf");
    assert_int_equal(symlink(name, path), 0);
}

static void hubs_cache_is_asked_before_the_network(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_fetch_result r;
    struct bnt_err err;
    start(&h);
    make_local(h.digest, body);
    const struct bnt_fetch_opts offline = {.offline = true, .name = "a"};
    assert_int_equal(get("hf://org/repo/m.gguf", &offline, &r, &err), BNT_OK);
    assert_false(r.hit);
    assert_string_equal(r.entry.source, "hf://org/repo/m.gguf");
    assert_int_equal(bnt_mock_server_requests(h.hub), 0);
    const struct bnt_fetch_opts known = {.sha256 = h.digest, .name = "b", .force = true};
    assert_int_equal(get("hf://org/repo@v7/m.gguf", &known, &r, &err), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(h.hub), 0);
    const struct bnt_fetch_opts moving = {.name = "c", .force = true};
    assert_int_equal(get("hf://org/repo/m.gguf", &moving, &r, &err), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(h.hub), 1); /* is the branch still there? */
    assert_int_equal(bnt_mock_server_requests(h.storage), 0);
    stop(&h);
}

static void damaged_file_of_the_hubs_cache_is_passed_over(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_fetch_result r;
    struct bnt_err err;
    start(&h);
    make_local(h.digest, "the bytes of a modem");
    assert_int_equal(get("hf://org/repo/m.gguf", &plain, &r, &err), BNT_OK);
    fixture_assert_holds(r.path, body);
    assert_int_equal(bnt_mock_server_requests(h.storage), 1);
    stop(&h);
}

/* ---- a hub in trouble ---- */

static void ask_often(struct hub *h, int times, enum bnt_status last)
{
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    enum bnt_status st = BNT_OK;
    const struct bnt_fetch_opts o = {.name = "a", .force = true, .max_attempts = 3};
    for (int i = 0; i < times; i++) {
        st = get("hf://org/repo/m.gguf", &o, &r, &err);
    }
    if (st != last) {
        fail_msg("status %d, not %d: %s, after %zu requests", st, last, err.msg,
                 bnt_mock_server_requests(h->hub));
    }
}

/* Questions share with transfers what is known of a server: each failure is one of its circuit, and
 * each repetition is one of its budget. */
static void questions_leave_a_failing_hub_alone(void **state)
{
    (void)state;
    struct hub h;
    char dir[BNT_PATH_MAX];
    start(&h);
    bnt_clock_fake(UINT64_C(1000000) * 1000000000u);
    assert_int_equal(bnt_mkdirs(fixture_path(dir, "c"), NULL), BNT_OK);
    bnt_mock_server_hold(h.hub);
    h.routes[0].status = 503;
    bnt_mock_server_go_on(h.hub);
    ask_often(&h, 10, BNT_E_CIRCUIT);
    const size_t asked = bnt_mock_server_requests(h.hub);
    assert_in_range(asked, 10, 12); /* three at a time, until ten have failed */
    bnt_clock_fake(UINT64_C(1000600) * 1000000000u);
    bnt_mock_server_hold(h.hub);
    h.routes[0].status = 302;
    bnt_mock_server_go_on(h.hub);
    ask_often(&h, 1, BNT_OK);
    stop(&h);
}

/* A network that fails for a moment costs a question no more than a transfer. */
static void a_question_without_an_answer_is_asked_again(void **state)
{
    (void)state;
    struct hub h;
    struct bnt_fetch_result r;
    struct bnt_err err;
    enum { LISTING = 10 };
    start(&h);
    bnt_clock_fake(UINT64_C(1000000) * 1000000000u);
    const struct bnt_mock_step steps[] = {{.status = 200, .fault = BNT_MOCK_CLOSE, .fault_at = 5},
                                          {.status = 200, .no_answer = true},
                                          {.status = 200, .fault = BNT_MOCK_RESET, .fault_at = 1},
                                          {.status = 200},
                                          {0}};
    const struct bnt_fetch_opts twice = {.name = "a", .max_attempts = 2};
    bnt_mock_server_hold(h.hub);
    h.routes[0].path = "/org/repo/resolve/main/m-Q8_0.gguf";
    h.routes[1].path = "/org/repo/resolve/" COMMIT "/m-Q8_0.gguf";
    h.routes[LISTING].steps = steps;
    bnt_mock_server_go_on(h.hub);
    assert_int_equal(get("hf://org/repo:Q8_0", &twice, &r, &err), BNT_E_NETWORK);
    assert_int_equal(bnt_mock_server_requests(h.hub), 2);
    assert_int_equal(get("hf://org/repo:Q8_0", &twice, &r, &err), BNT_OK);
    fixture_assert_holds(r.path, body);
    stop(&h);
}

static void a_pause_is_kept_by_the_next_question(void **state)
{
    (void)state;
    static const struct {
        int status;
        const char *headers;
        enum bnt_status first, next;
        size_t asked;
    } cases[] = {
        {503, "Retry-After: 200\r\n", BNT_E_RATE_LIMIT, BNT_E_RATE_LIMIT, 1},
        {429, "RateLimit: \"api\";r=0;t=200\r\n", BNT_E_RATE_LIMIT, BNT_E_RATE_LIMIT, 1},
        /* What is left of an allowance is no wish for a pause. */
        {500, "RateLimit: \"api\";r=99;t=200\r\n", BNT_E_NETWORK, BNT_E_NETWORK, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hub h;
        char dir[BNT_PATH_MAX];
        struct bnt_fetch_result r;
        struct bnt_err err;
        const struct bnt_fetch_opts once = {.name = "a", .max_attempts = 1, .max_wait_s = 100};
        start(&h);
        bnt_clock_fake(UINT64_C(1000000) * 1000000000u);
        assert_int_equal(bnt_mkdirs(fixture_path(dir, "c"), NULL), BNT_OK);
        bnt_mock_server_hold(h.hub);
        h.routes[0].status = cases[i].status;
        h.routes[0].headers = cases[i].headers;
        bnt_mock_server_go_on(h.hub);
        assert_int_equal(get("hf://org/repo/m.gguf", &once, &r, &err), cases[i].first);
        assert_int_equal(get("hf://org/repo/m.gguf", &once, &r, &err), cases[i].next);
        if (cases[i].asked == 1) {
            assert_non_null(strstr(err.msg, "asked for a pause of "));
        }
        assert_int_equal(bnt_mock_server_requests(h.hub), cases[i].asked);
        stop(&h);
    }
}

/* ---- the lock file ---- */

static void bnt_exits(int exit, const char *const *words)
{
    struct suite_output o;
    fixture_bnt(&o, exit, words);
    assert_null(strstr(o.err, TOKEN));
    suite_output_release(&o);
}
#define BNT_EXITS(exit, ...) bnt_exits((exit), (const char *const[]){__VA_ARGS__, NULL})

static void lock_records_commit_and_digest_without_a_download(void **state)
{
    (void)state;
    struct hub h;
    char path[BNT_PATH_MAX], head[4096];
    struct bnt_buf lock = BNT_BUF(1 << 16);
    start(&h);
    assert_int_equal(setenv("HF_TOKEN", TOKEN, 1), 0);
    fixture_write(fixture_path(path, MANIFEST_FILE),
                  "models:\n  a:\n    source: hf://org/repo\n    revision: main\n"
                  "    files: [m.gguf, small.json]\n  b:\n    source: hf://org/repo:Q8_0\n");
    bnt_mock_server_hold(h.hub);
    h.routes[0].path = "/org/repo/resolve/main/m-Q8_0.gguf";
    h.routes[2].path = "/org/repo/resolve/main/m.gguf";
    h.routes[3].path = "/org/repo/resolve/" COMMIT "/m-Q8_0.gguf";
    bnt_mock_server_go_on(h.hub);
    BNT_EXITS(0, "lock");
    assert_int_equal(bnt_mock_server_requests(h.storage), 0);
    assert_int_equal(bnt_file_read(fixture_path(path, LOCKFILE_FILE), &lock, NULL), BNT_OK);
    const char *text = bnt_buf_view(&lock);
    assert_non_null(
        strstr(text, "\"source\": \"hf://org/repo@main\",\n      \"revision\": \"" COMMIT));
    assert_non_null(strstr(text, "{\"path\": \"m-Q8_0.gguf\", \"size\": 20, \"sha256\": "));
    assert_non_null(strstr(text, "{\"path\": \"small.json\", \"size\": 2, \"sha256\": "));
    assert_non_null(strstr(text, h.digest));
    assert_null(strstr(text, TOKEN));
    bnt_mock_server_hold(h.hub);
    h.routes[0].status = h.routes[2].status = 404; /* the branch has moved on */
    bnt_mock_server_go_on(h.hub);
    BNT_EXITS(0, "fetch", "--locked");
    bnt_mock_server_last_request(h.hub, head, sizeof head);
    assert_non_null(strstr(head, COMMIT));
    BNT_EXITS(0, "fetch", "--frozen");
    fixture_write(fixture_path(path, MANIFEST_FILE),
                  "models:\n  a:\n    source: hf://org/repo\n    revision: v2\n"
                  "    files: [m.gguf, small.json]\n");
    BNT_EXITS(20, "fetch", "--locked", "a");
    fixture_write(path, "models:\n  a:\n    source: hf://org/repo@x/m\n    revision: v2\n");
    BNT_EXITS(5, "lock");
    fixture_write(path, "models:\n  a:\n    source: https://h/m\n    revision: v2\n");
    BNT_EXITS(5, "lock");
    bnt_buf_release(&lock);
    stop(&h);
}

/* It would be a negative number in the lock file, which nobody could read again. */
static void size_that_cannot_be_is_not_believed(void **state)
{
    (void)state;
    struct hub h;
    char path[BNT_PATH_MAX], facts[512];
    start(&h);
    snprintf(facts, sizeof facts,
             "X-Repo-Commit: " COMMIT "\r\nX-Linked-ETag: \"%s\"\r\n"
             "X-Linked-Size: 99999999999999999999\r\nLocation: %s/cdn/m\r\n",
             h.digest, bnt_mock_server_url(h.storage));
    bnt_mock_server_hold(h.hub);
    h.routes[0].headers = h.routes[1].headers = facts;
    bnt_mock_server_go_on(h.hub);
    fixture_write(fixture_path(path, MANIFEST_FILE),
                  "models:\n  a:\n    source: hf://org/repo/m.gguf\n");
    BNT_EXITS(0, "lock");
    BNT_EXITS(0, "fetch", "--locked");
    stop(&h);
}

/* What the hub has now is at `path` of the storage, or is not. */
static void hub_moves_on(struct hub *h, const char *digest, size_t bytes, const char *path)
{
    static char facts[512];
    bnt_mock_server_hold(h->hub);
    snprintf(facts, sizeof facts,
             "X-Repo-Commit: " COMMIT "\r\nX-Linked-ETag: \"%s\"\r\nX-Linked-Size: %zu\r\n"
             "Location: %s%s\r\n",
             digest, bytes, bnt_mock_server_url(h->storage), path);
    h->routes[0].headers = h->routes[1].headers = facts;
    bnt_mock_server_go_on(h->hub);
}

/* The hub tells a digest before a download: it is in the lock file once the bytes are there. */
static void new_content_is_locked_when_it_is_there(void **state)
{
    (void)state;
    static const struct {
        const char *policy;
        int exit; /* while it is not there */
    } cases[] = {{"always", 8}, {"daily", 0}};
    struct hub h;
    char path[BNT_PATH_MAX], other[BNT_SHA256_HEX], text[256];
    start(&h);
    fixture_digest("other bytes", other);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct {
            const char *at, *digest;
            int exit;
        } steps[] = {{"/cdn/absent", h.digest, cases[i].exit}, {"/cdn/other", other, 0}};
        assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(path, cases[i].policy), 1), 0);
        hub_moves_on(&h, h.digest, sizeof body - 1, "/cdn/m");
        snprintf(text, sizeof text,
                 "update: %s\nmodels:\n  %s:\n    source: hf://org/repo/m.gguf\n", cases[i].policy,
                 cases[i].policy);
        fixture_write(fixture_path(path, MANIFEST_FILE), text);
        BNT_EXITS(0, "update");
        BNT_EXITS(0, "fetch", "--locked");
        for (size_t k = 0; k < 2; k++) {
            struct bnt_buf lock = BNT_BUF(1 << 16);
            hub_moves_on(&h, other, 11, steps[k].at);
            BNT_EXITS(steps[k].exit, "fetch");
            assert_int_equal(bnt_file_read(fixture_path(path, LOCKFILE_FILE), &lock, NULL), 0);
            assert_non_null(strstr(bnt_buf_view(&lock), steps[k].digest));
            BNT_EXITS(0, "fetch", "--frozen");
            bnt_buf_release(&lock);
        }
    }
    stop(&h);
}

static const struct suite_test tests[] = {
    {.name = "hub_new_content_is_locked_when_it_is_there",
     .body = new_content_is_locked_when_it_is_there},
    {.name = "hub_size_that_cannot_be_is_not_believed",
     .body = size_that_cannot_be_is_not_believed},
    {.name = "hub_forms_are_told_apart", .body = forms_are_told_apart},
    {.name = "hub_download_is_held_to_the_hubs_digest_and_commit",
     .body = download_is_held_to_the_hubs_digest_and_commit},
    {.name = "hub_other_content_than_named_is_refused",
     .body = other_content_than_named_is_refused},
    {.name = "hub_causes_are_told_apart", .body = causes_are_told_apart},
    {.name = "hub_token_comes_from_a_file_and_never_over_http",
     .body = token_comes_from_a_file_and_never_over_http},
    {.name = "hub_file_is_chosen_from_the_listing", .body = file_is_chosen_from_the_listing},
    {.name = "hub_cache_is_asked_before_the_network",
     .body = hubs_cache_is_asked_before_the_network},
    {.name = "hub_damaged_file_of_its_cache_is_passed_over",
     .body = damaged_file_of_the_hubs_cache_is_passed_over},
    {.name = "hub_questions_leave_a_failing_hub_alone",
     .body = questions_leave_a_failing_hub_alone},
    {.name = "hub_a_question_without_an_answer_is_asked_again",
     .body = a_question_without_an_answer_is_asked_again},
    {.name = "hub_a_pause_is_kept_by_the_next_question",
     .body = a_pause_is_kept_by_the_next_question},
    {.name = "hub_lock_records_commit_and_digest_without_a_download",
     .body = lock_records_commit_and_digest_without_a_download},
    {0},
};
const struct suite suite_hub = {"hub", tests, "hub_digest ask_unbounded lock_promise"};
