/* Guards the fault-injecting server itself: a fault that does not happen makes every test of the
 * transfer pass for nothing. The client here is a bare socket, so that what is seen is what was
 * sent. */
#include "testkit/suite.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "testkit/suites/mock_support.h"

/* ---- what the bodies share ---- */

static const char file[] = "0123456789abcdefghijklmnopqrstuvwxyz";
enum { FILE_BYTES = sizeof file - 1 };

static struct bnt_mock_server *start(const struct bnt_mock_route *routes)
{
    struct bnt_mock_server *s = NULL;
    assert_int_equal(bnt_mock_server_start(routes, NULL, &s, NULL), BNT_OK);
    return s;
}

static struct ms_answer ask(const struct bnt_mock_server *s, const char *path, const char *headers)
{
    return ms_ask(bnt_mock_server_url(s), "GET", path, headers);
}

/* ---- bodies ---- */

static void ranges_and_if_range(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/f", .status = 200, .body = file, .body_bytes = FILE_BYTES, .etag = "\"v1\""},
        {0},
    };
    static const struct {
        const char *headers, *status, *content_range, *body;
    } cases[] = {
        {"", "200", NULL, file},
        {"Range: bytes=30-\r\n", "206", "bytes 30-35/36", file + 30},
        {"Range: bytes=0-3\r\n", "206", "bytes 0-3/36", "0123"},
        {"Range: bytes=34-99\r\n", "206", "bytes 34-35/36", "yz"},
        {"Range: bytes=35-35\r\nIf-Range: \"v1\"\r\n", "206", "bytes 35-35/36", "z"},
        {"Range: bytes=35-35\r\nIf-Range: \"v2\"\r\n", "200", NULL, file},
        {"Range: bytes=36-\r\n", "416", NULL, ""},
    };
    struct bnt_mock_server *s = start(routes);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ms_answer a = ask(s, "/f", cases[i].headers);
        assert_memory_equal(a.text + 9, cases[i].status, 3);
        assert_string_equal(ms_body(&a), cases[i].body);
        const char *range = strstr(a.text, "Content-Range: ");
        assert_int_equal(range != NULL, cases[i].content_range != NULL);
        if (range) {
            assert_memory_equal(range + 15, cases[i].content_range, strlen(cases[i].content_range));
        }
    }
    bnt_mock_server_stop(s);
}

static void steps_are_played_in_order(void **state)
{
    (void)state;
    static const struct bnt_mock_step steps[] = {
        {.status = 429, .headers = "Retry-After: 7\r\n"},
        {.status = 200, .etag = "\"v2\"", .body = "new", .body_bytes = 3},
        {.status = 200, .ignore_range = true},
        {.status = 200, .content_range = "bytes 0-1/99"},
        {.status = 200, .length_delta = 5},
        {0},
    };
    static const struct bnt_mock_route routes[] = {
        {.path = "/f", .body = file, .body_bytes = FILE_BYTES, .etag = "\"v1\"", .steps = steps},
        {0},
    };
    static const char *const want[] = {
        "Retry-After: 7\r\n",    "ETag: \"v2\"",         "200 Mock", "Content-Range: bytes 0-1/99",
        "Content-Length: 8\r\n", "Content-Length: 8\r\n"}; /* the last step repeats */
    struct bnt_mock_server *s = start(routes);
    char head[512];
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        struct ms_answer a = ask(s, "/f", "Range: bytes=2-4\r\n");
        if (!strstr(a.text, want[i])) {
            fail_msg("answer %zu lacks '%s': %s", i, want[i], a.text);
        }
    }
    bnt_mock_server_request(s, 5, head, sizeof head);
    assert_non_null(strstr(head, "\r\nRange: bytes=2-4\r\n"));
    bnt_mock_server_request(s, 6, head, sizeof head);
    assert_string_equal(head, "");
    assert_int_equal(bnt_mock_server_requests(s), 6);
    /* Nothing; the last byte of the new file; the whole old one; three times three bytes. */
    assert_int_equal(bnt_mock_server_body_bytes(s), 1 + FILE_BYTES + 3 + 3 + 3);
    bnt_mock_server_stop(s);
}

static void faults_happen_where_they_should(void **state)
{
    (void)state;
    static const struct {
        enum bnt_mock_fault fault;
        const char *body;
        bool reset; /* also: the client's patience ended */
    } cases[] = {
        {BNT_MOCK_CLOSE, "01234567", false},
        {BNT_MOCK_RESET, "01234567", true},
        {BNT_MOCK_STALL, "01234567", true},
        {BNT_MOCK_FLIP, "0123456799", false}, /* '8' with its lowest bit turned */
        {BNT_MOCK_TRICKLE, "0123456789", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct bnt_mock_step steps[] = {
            {.status = 200, .fault = cases[i].fault, .fault_at = 8}, {0}};
        const struct bnt_mock_route routes[] = {
            {.path = "/f", .body = "0123456789", .body_bytes = 10, .steps = steps}, {0}};
        struct bnt_mock_server *s = start(routes);
        struct ms_answer a = ask(s, "/f", "");
        if (!a.reset || cases[i].fault != BNT_MOCK_RESET) {
            /* A reset may overtake the bytes before it. */
            assert_string_equal(ms_body(&a), cases[i].body);
        }
        assert_int_equal(a.reset, cases[i].reset);
        bnt_mock_server_stop(s);
    }
}

static void rate_of_a_connection_is_kept(void **state)
{
    (void)state;
    static char bytes[6000];
    static const struct bnt_mock_route routes[] = {
        {.path = "/f",
         .status = 200,
         .body = bytes,
         .body_bytes = sizeof bytes,
         .rate_bytes_s = 20000},
        {0},
    };
    struct bnt_mock_server *s = start(routes);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    (void)ask(s, "/f", "");
    clock_gettime(CLOCK_MONOTONIC, &b);
    double took_s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9;
    assert_true(took_s >= 0.29); /* 6,000 bytes at 20,000 a second */
    assert_int_equal(bnt_mock_server_body_bytes(s), sizeof bytes);
    bnt_mock_server_stop(s);
}

/* A client that comes while there is no descriptor for it is answered when there is one. */
static void server_lives_on_without_descriptors(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {{.path = "/f", .status = 200}, {0}};
    struct bnt_mock_server *s = start(routes);
    struct rlimit all, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), other = -1, kept[64];
    size_t n_kept = 0;
    few = (struct rlimit){.rlim_cur = 64, .rlim_max = all.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while (n_kept < 64 && (other = dup(client)) >= 0) {
        kept[n_kept++] = other;
    }
    assert_int_equal(errno, EMFILE);
    const struct sockaddr_in to = {
        .sin_family = AF_INET,
        .sin_addr = {htonl(INADDR_LOOPBACK)},
        .sin_port = htons((uint16_t)strtol(strrchr(bnt_mock_server_url(s), ':') + 1, NULL, 10))};
    assert_int_equal(connect(client, (const struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(poll(NULL, 0, 50), 0); /* the server sees it meanwhile, in real time */
    while (n_kept > 0) {
        close(kept[--n_kept]);
    }
    close(client);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    struct ms_answer a = ask(s, "/f", "");
    assert_non_null(strstr(a.text, "200 Mock"));
    bnt_mock_server_stop(s);
}

static const struct suite_test tests[] = {
    {.name = "http_mock_ranges_and_if_range", .body = ranges_and_if_range},
    {.name = "http_mock_steps_are_played_in_order", .body = steps_are_played_in_order},
    {.name = "http_mock_faults_happen_where_they_should", .body = faults_happen_where_they_should},
    {.name = "http_mock_server_lives_on_without_descriptors",
     .body = server_lives_on_without_descriptors},
    {.name = "http_mock_rate_of_a_connection_is_kept", .body = rate_of_a_connection_is_kept},
    {0},
};
const struct suite suite_http_mock = {"http_mock", tests, "mock_range"};
