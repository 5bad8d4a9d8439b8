/* Guards the server of the cache: an answer that is not the bytes of the digest, a path that leads
 * out of the store, a blob that enters unverified, a transfer that is lost when the server ends. */
#include "testkit/suite.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/bnt_cache.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/serve_fixture.h"
#include "testkit/suites/transfer_fixture.h"

#define TEXT "the bytes of a model, some of them, again and again; the bytes of a model"
#define AUTH "Authorization: Bearer " SERVE_TOKEN

static char blob_path[128], etag[80], digest[BNT_SHA256_HEX];

/* <scratch>/c has one model, m. */
static void make_cache(void)
{
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", TEXT);
    bnt_cache_close(c);
    memcpy(digest, e.digest, sizeof digest);
    snprintf(blob_path, sizeof blob_path, "/v1/blobs/sha256/%s", digest);
    snprintf(etag, sizeof etag, "\"%s\"", digest);
}

static bool cache_has(const char *hex)
{
    bool has = false;
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_has(c, hex, &has, NULL), BNT_OK);
    bnt_cache_close(c);
    return has;
}

/* ---- reading ---- */

static void ranges_are_what_was_asked_for(void **state)
{
    (void)state;
    const size_t n = strlen(TEXT);
    const struct {
        const char *range;
        int code;
        size_t begin, bytes;
    } cases[] = {
        {NULL, 200, 0, n},
        {"Range: bytes=0-3", 206, 0, 4},
        {"Range: bytes=4-", 206, 4, n - 4},
        {"Range: bytes=-5", 206, n - 5, 5},
        {"Range: bytes=-5000", 206, 0, n},
        {"Range: bytes=70-5000", 206, 70, n - 70},
        {"Range: bytes=5000-", 416, 0, 0},
        {"Range: bytes=-0", 416, 0, 0},
        {"Range: bytes=0-1,5-6", 200, 0, n},
        {"Range: bytes=9-3", 200, 0, n},
        {"Range: bytes=-", 200, 0, n},
        {"Range: bytes=99999999999999999999-", 200, 0, n},
        {"Range: lines=0-3", 200, 0, n},
    };
    struct served s;
    struct served_answer a;
    char line[128];
    make_cache();
    served_start(&s, "c", NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        served_get(&s, "GET", blob_path, cases[i].range, &a);
        if (a.code != cases[i].code) {
            fail_msg("%s: %d", cases[i].range, a.code);
        }
        assert_int_equal(a.n, cases[i].bytes);
        assert_memory_equal(a.body, &TEXT[cases[i].begin], a.n);
        if (a.code == 206) {
            snprintf(line, sizeof line, "Content-Range: bytes %zu-%zu/%zu", cases[i].begin,
                     cases[i].begin + a.n - 1, n);
            assert_true(served_has(&a, line));
        }
        served_release(&a);
    }
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
}

static void head_and_conditions_answer_without_bytes(void **state)
{
    (void)state;
    struct served s;
    struct served_answer a;
    char line[128];
    make_cache();
    served_start(&s, "c", NULL);
    served_get(&s, "HEAD", blob_path, NULL, &a);
    assert_int_equal(a.code, 200);
    assert_int_equal(a.n, 0);
    snprintf(line, sizeof line, "Content-Length: %zu", strlen(TEXT));
    assert_true(served_has(&a, line));
    snprintf(line, sizeof line, "ETag: %s", etag);
    assert_true(served_has(&a, line));
    assert_non_null(strstr(a.head, "immutable"));
    served_release(&a);
    snprintf(line, sizeof line, "If-None-Match: %s", etag);
    served_get(&s, "GET", blob_path, line, &a);
    assert_int_equal(a.code, 304);
    assert_int_equal(a.n, 0);
    served_release(&a);
    snprintf(line, sizeof line, "Range: bytes=1-2\r\nIf-Range: %s", etag);
    served_get(&s, "GET", blob_path, line, &a);
    assert_int_equal(a.code, 206);
    served_release(&a);
    served_get(&s, "GET", blob_path, "Range: bytes=1-2\r\nIf-Range: \"other\"", &a);
    assert_int_equal(a.code, 200);
    assert_int_equal(a.n, strlen(TEXT));
    served_release(&a);
    assert_int_equal(served_stop(&s, SIGINT, NULL), 0);
}

static void names_and_trees_are_told(void **state)
{
    (void)state;
    struct served s;
    struct served_answer a;
    char path[128];
    make_cache();
    served_start(&s, "c", NULL);
    served_get(&s, "GET", "/v1/models/m", NULL, &a);
    assert_int_equal(a.code, 200);
    assert_non_null(strstr(a.body, digest));
    assert_non_null(strstr(a.body, "\"size\": 73"));
    assert_non_null(strstr(a.body, "\"source\": \"file:///test/m\""));
    served_release(&a);
    served_get(&s, "GET", "/v1/models", NULL, &a);
    assert_non_null(strstr(a.body, "\"name\": \"m\""));
    served_release(&a);
    served_get(&s, "GET", "/v1/models/other", NULL, &a);
    assert_int_equal(a.code, 404);
    served_release(&a);
    snprintf(path, sizeof path, "/v1/trees/sha256/%s", digest);
    served_get(&s, "GET", path, NULL, &a);
    assert_int_equal(a.code, 200);
    assert_int_equal(a.n, 48 + 32);
    assert_memory_equal(a.body, "bnttree1", 8);
    served_release(&a);
    served_get(&s, "GET", "/v1/health", NULL, &a);
    assert_non_null(strstr(a.body, "\"status\": \"ok\""));
    served_release(&a);
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
}

/* Nothing but digests and names is ever looked up, whatever the path is made of. */
static void no_path_leads_out_of_the_store(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "..",     "%2e%2e",   "/",          "//",  "%2f", "\\",     "v1",    "blobs",
        "sha256", "index.db", "etc/passwd", "%00", ".",   "models", "trees", "?",
        "#",      "m",        "m%2f..",     "tmp", "~",   "%",      "%zz",   "\x80",
    };
    enum { PIECES = sizeof pieces / sizeof pieces[0], TRIES = 400 };
    struct served s;
    struct served_answer a;
    uint32_t x = (uint32_t)bnt_clock_now_ns() | 1;
    print_message("seed %u\n", (unsigned)x);
    make_cache();
    served_start(&s, "c", NULL);
    for (int i = 0; i < TRIES; i++) {
        char path[512] = "/v1/blobs/sha256/";
        path[i % 3 == 0 ? 1 : i % 3 == 1 ? 4 : 17] = '\0';
        for (int k = 0; k < 8; k++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            size_t n = strlen(path);
            snprintf(path + n, sizeof path - n, "%s", pieces[x % PIECES]);
        }
        served_get(&s, "GET", path, NULL, &a);
        if (a.code != 404 && a.code != 400 && !(a.code == 200 && strstr(path, "v1/models"))) {
            fail_msg("%s: %d", path, a.code);
        }
        assert_true(!a.body || (!strstr(a.body, "SQLite") && !strstr(a.body, "root:")));
        served_release(&a);
    }
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
}

static void warm_model_is_served_in_its_true_size(void **state)
{
    (void)state;
    enum { N = 200000 };
    static char text[N + 1];
    struct served s;
    struct served_answer a;
    struct bnt_cache_demotion d;
    for (size_t i = 0; i < N; i++) {
        text[i] = (char)('a' + i / 7 % 20);
    }
    struct bnt_cache *c = fixture_cache();
    struct bnt_cache_entry e = fixture_add(c, "m", text);
    assert_int_equal(bnt_cache_demote(c, &e, &d, NULL), BNT_OK);
    assert_true(d.moved);
    bnt_cache_close(c);
    snprintf(blob_path, sizeof blob_path, "/v1/blobs/sha256/%s", e.digest);
    served_start(&s, "c", NULL);
    served_get(&s, "HEAD", blob_path, NULL, &a);
    assert_true(served_has(&a, "Content-Length: 200000"));
    served_release(&a);
    served_get(&s, "GET", blob_path, "Range: bytes=100000-", &a);
    assert_int_equal(a.code, 206);
    assert_int_equal(a.n, N / 2);
    assert_memory_equal(a.body, text + N / 2, N / 2);
    served_release(&a);
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
}

/* ---- writing ---- */

static void put(const struct served *s, const char *path, const char *auth, const char *text,
                struct served_answer *a)
{
    char head[1024];
    snprintf(head, sizeof head, "PUT %s HTTP/1.1\r\nHost: test\r\nContent-Length: %zu%s%s", path,
             strlen(text), auth ? "\r\n" : "", auth ? auth : "");
    served_ask(s, head, text, strlen(text), a);
}

static void blob_enters_verified_or_not_at_all(void **state)
{
    (void)state;
    static const char *const writable[] = {"--writable", NULL};
    char hex[BNT_SHA256_HEX], path[128], none[128];
    struct served s;
    struct served_answer a;
    make_cache();
    fixture_digest("", hex);
    snprintf(none, sizeof none, "/v1/blobs/sha256/%s", hex);
    fixture_digest("new bytes", hex);
    snprintf(path, sizeof path, "/v1/blobs/sha256/%s", hex);
    served_start(&s, "c", writable);
    const struct {
        const char *path, *auth, *text;
        int code;
    } cases[] = {
        {path, NULL, "new bytes", 401},
        {path, "Authorization: Bearer another-token-of-some-length", "new bytes", 401},
        {path, "Authorization: Basic " SERVE_TOKEN, "new bytes", 401},
        {path, AUTH, "other bytes", 422},
        {path, AUTH, "", 422},
        {none, AUTH, "", 422}, /* a blob of no bytes is none */
        {"/v1/models/m", AUTH, "new bytes", 404},
        {"/v1/blobs/sha256/../../x", AUTH, "new bytes", 404},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put(&s, cases[i].path, cases[i].auth, cases[i].text, &a);
        if (a.code != cases[i].code) {
            fail_msg("case %zu: %d", i, a.code);
        }
        served_release(&a);
        assert_false(cache_has(hex));
    }
    put(&s, path, AUTH, "new bytes", &a);
    assert_int_equal(a.code, 201);
    served_release(&a);
    assert_true(cache_has(hex));
    assert_int_equal(fixture_sql("SELECT count(*) FROM blob WHERE pinned = 1"), 1);
    served_get(&s, "GET", path, NULL, &a);
    assert_string_equal(a.body, "new bytes");
    served_release(&a);
    char tmp[BNT_PATH_MAX];
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
    assert_int_equal(rmdir(fixture_path(tmp, "c/tmp")), 0); /* nothing is left in it */
}

static void server_is_read_only_and_private_only_when_told(void **state)
{
    (void)state;
    static const char *const is_private[] = {"--private", NULL};
    struct served s;
    struct served_answer a;
    make_cache();
    served_start(&s, "c", NULL);
    put(&s, blob_path, AUTH, TEXT, &a);
    assert_int_equal(a.code, 405);
    served_release(&a);
    served_get(&s, "DELETE", blob_path, AUTH, &a);
    assert_int_equal(a.code, 405);
    served_release(&a);
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
    served_start(&s, "c", is_private);
    served_get(&s, "GET", blob_path, NULL, &a);
    assert_int_equal(a.code, 401);
    assert_true(served_has(&a, "WWW-Authenticate: Bearer"));
    served_release(&a);
    served_get(&s, "GET", blob_path, AUTH, &a);
    assert_int_equal(a.code, 200);
    served_release(&a);
    served_get(&s, "GET", "/v1/health", NULL, &a);
    assert_int_equal(a.code, 200);
    served_release(&a);
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
}

static void command_refuses_what_cannot_be_served(void **state)
{
    (void)state;
    static const struct {
        const char *words[3];
        int code;
    } cases[] = {
        {{"--writable", NULL, NULL}, 2},
        {{"--private", NULL, NULL}, 2},
        {{"--listen", "127.0.0.1", NULL}, 2},
        {{"--listen", "no such host:1", NULL}, 2},
        {{"--listen", "127.0.0.1:65536", NULL}, 2},
        {{"--listen", "192.0.2.1:1", NULL}, 1},
        {{"--token-file", "/dev/null", "--writable"}, 2},
        {{"operand", NULL, NULL}, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct suite_output o;
        const char *argv[] = {suite_bnt(),       "cache",           "serve", cases[i].words[0],
                              cases[i].words[1], cases[i].words[2], NULL};
        suite_run(argv, suite_scratch(), 0, &o);
        if (o.exit != cases[i].code || !strstr(o.err, "error: ") || o.out[0]) {
            fail_msg("case %zu: exit code %d: %s%s", i, o.exit, o.out, o.err);
        }
        suite_output_release(&o);
    }
}

/* ---- many, and the end ---- */

enum { CLIENTS = 16, LARGE_BYTES = 8 << 20 };

struct client {
    const struct served *server;
    const char *bytes;
    size_t good;
};

static void *client_main(void *arg)
{
    struct client *c = arg;
    struct served_answer a;
    for (int i = 0; i < 4; i++) {
        served_get(c->server, "GET", blob_path, NULL, &a);
        c->good += a.code == 200 && a.n == LARGE_BYTES && memcmp(a.body, c->bytes, a.n) == 0;
        served_release(&a);
    }
    return NULL;
}

/* A blob of LARGE_BYTES in <scratch>/c. */
static const char *make_large(void)
{
    const char *bytes = transfer_bytes(LARGE_BYTES, 3);
    struct bnt_cache_entry e = {.name = "large"};
    struct bnt_cache_temp t;
    struct bnt_cache *c = fixture_cache();
    transfer_digest(bytes, LARGE_BYTES, e.digest);
    assert_int_equal(bnt_cache_temp_open(c, &t, NULL), BNT_OK);
    assert_int_equal(bnt_write_all(t.fd, bytes, LARGE_BYTES, "test", NULL), BNT_OK);
    assert_int_equal(bnt_cache_add(c, &t, &e, NULL), BNT_OK);
    bnt_cache_close(c);
    snprintf(blob_path, sizeof blob_path, "/v1/blobs/sha256/%s", e.digest);
    return bytes;
}

static void many_clients_get_the_same_bytes(void **state)
{
    (void)state;
    struct served s;
    pthread_t threads[CLIENTS];
    struct client clients[CLIENTS];
    size_t good = 0;
    const char *bytes = make_large();
    served_start(&s, "c", NULL);
    for (size_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){&s, bytes, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (size_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        good += clients[i].good;
    }
    assert_int_equal(good, CLIENTS * 4);
    assert_int_equal(served_stop(&s, SIGTERM, NULL), 0);
}

/* A connection that has asked for the large blob and reads slowly. */
static int begin_slow_transfer(const struct served *s)
{
    char head[512];
    const int small = 4096;
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_addr = {htonl(INADDR_LOOPBACK)},
                                   .sin_port = htons((uint16_t)s->port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
    int n = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
                     blob_path);
    assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
    assert_int_equal(recv(fd, head, 1, 0), 1);
    return fd;
}

static size_t drain(int fd)
{
    static char block[65536];
    size_t sum = 0;
    for (ssize_t n; (n = recv(fd, block, sizeof block, 0)) > 0;) {
        sum += (size_t)n;
    }
    close(fd);
    return sum;
}

static void running_transfer_ends_before_the_server(void **state)
{
    (void)state;
    struct served s;
    (void)make_large();
    served_start(&s, "c", NULL);
    int fd = begin_slow_transfer(&s);
    assert_int_equal(kill(s.proc.pid, SIGTERM), 0);
    assert_true(drain(fd) > LARGE_BYTES); /* and the head */
    assert_int_equal(served_stop(&s, 0, NULL), 0);
}

static void transfer_that_does_not_end_is_cut_and_told(void **state)
{
    (void)state;
    static const char *const no_grace[] = {"--grace", "0", NULL};
    struct served s;
    char *log;
    (void)make_large();
    served_start(&s, "c", no_grace);
    int fd = begin_slow_transfer(&s);
    assert_int_equal(served_stop(&s, SIGTERM, &log), 130);
    assert_non_null(strstr(log, "transfers were cut"));
    assert_true(drain(fd) < LARGE_BYTES);
    free(log);
}

static void served_model_is_leased(void **state)
{
    (void)state;
    struct served s;
    struct bnt_cache_gc_report r;
    (void)make_large();
    served_start(&s, "c", NULL);
    int fd = begin_slow_transfer(&s);
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(bnt_cache_gc(c, &(struct bnt_cache_gc_opts){.max_bytes = 1}, &r, NULL),
                     BNT_OK);
    assert_int_equal(r.n_removed, 0);
    assert_int_equal(r.at[0].verdict, BNT_GC_KEPT_LEASED);
    bnt_cache_gc_report_release(&r);
    bnt_cache_close(c);
    assert_true(drain(fd) > LARGE_BYTES);
    char *log;
    assert_int_equal(served_stop(&s, SIGTERM, &log), 0);
    assert_non_null(strstr(log, " GET /v1/blobs/sha256/"));
    assert_non_null(strstr(log, " 200 8388608 bytes "));
    free(log);
}

/* Nobody can ask a server whose address was not told. */
static void address_that_cannot_be_written_ends_it(void **state)
{
    (void)state;
    static const char run[] = "exec \"$0\" cache serve --listen 127.0.0.1:0 >/dev/full";
    struct suite_output o;
    suite_run((const char *const[]){"/bin/sh", "-c", run, suite_bnt(), NULL}, NULL, 8000, &o);
    assert_int_equal(o.exit, BNT_E_NO_SPACE);
    assert_non_null(strstr(o.err, "cannot write standard output"));
    suite_output_release(&o);
}

static const struct suite_test tests[] = {
    {.name = "serve_ranges_are_what_was_asked_for", .body = ranges_are_what_was_asked_for},
    {.name = "serve_head_and_conditions_answer_without_bytes",
     .body = head_and_conditions_answer_without_bytes},
    {.name = "serve_names_and_trees_are_told", .body = names_and_trees_are_told},
    {.name = "serve_no_path_leads_out_of_the_store", .body = no_path_leads_out_of_the_store},
    {.name = "serve_warm_model_is_served_in_its_true_size",
     .body = warm_model_is_served_in_its_true_size},
    {.name = "serve_blob_enters_verified_or_not_at_all",
     .body = blob_enters_verified_or_not_at_all},
    {.name = "serve_is_read_only_and_open_unless_told",
     .body = server_is_read_only_and_private_only_when_told},
    {.name = "serve_command_refuses_what_cannot_be_served",
     .body = command_refuses_what_cannot_be_served},
    {.name = "serve_many_clients_get_the_same_bytes",
     .body = many_clients_get_the_same_bytes,
     .timeout_ms = 30000},
    {.name = "serve_running_transfer_ends_before_the_server",
     .body = running_transfer_ends_before_the_server},
    {.name = "serve_transfer_that_does_not_end_is_cut_and_told",
     .body = transfer_that_does_not_end_is_cut_and_told},
    {.name = "serve_address_that_cannot_be_written_ends_it",
     .body = address_that_cannot_be_written_ends_it},
    {.name = "serve_model_is_leased_while_it_is_sent", .body = served_model_is_leased},
    {0},
};
const struct suite suite_serve = {"serve", tests, "put_unchecked"};
