/* Guards fetching: bytes that enter the cache although they are not the ones that were meant, a
 * failure that is reported under another cause, a secret that is written down, a network that is
 * touched without need. Servers are the project's own, on 127.0.0.1. */
#include "testkit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/bnt_cache.h"
#include "fetch/bnt_fetch.h"
#include "fetch/sink.h"
#include "fetch/source.h"
#include "mock/bnt_mock.h"

/* ---- what the bodies share ---------------------------------------------------------------------
 */

static const char body[] = "the bytes of a model, as far as fetch is concerned";
enum { BODY_BYTES = sizeof body - 1 };

static const char *path_in_scratch(char out[BNT_PATH_MAX], const char *relative)
{
    assert_int_equal(bnt_path_format(out, NULL, "%s/%s", suite_scratch(), relative), BNT_OK);
    return out;
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static struct bnt_cache *open_cache(void)
{
    char dir[BNT_PATH_MAX];
    struct bnt_cache *c = NULL;
    assert_int_equal(bnt_cache_open(path_in_scratch(dir, "c"), &c, NULL), BNT_OK);
    return c;
}

static void digest_of(const char *text, char hex[BNT_SHA256_HEX])
{
    struct bnt_sha256 *d;
    assert_int_equal(bnt_sha256_new(&d, NULL), BNT_OK);
    assert_int_equal(bnt_sha256_update(d, text, strlen(text), NULL), BNT_OK);
    assert_int_equal(bnt_sha256_hex(d, hex, NULL), BNT_OK);
    bnt_sha256_free(d);
}

static size_t entries_in(struct bnt_cache *c)
{
    struct bnt_cache_list list;
    assert_int_equal(bnt_cache_adopt(c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_list(c, &list, NULL), BNT_OK);
    size_t n = list.n;
    bnt_cache_list_release(&list);
    return n;
}

/* The cache has no entry, no blob, and no temporary. */
static void assert_nothing_was_kept(struct bnt_cache *c)
{
    char tmp[BNT_PATH_MAX];
    assert_int_equal(entries_in(c), 0);
    if (rmdir(path_in_scratch(tmp, "c/tmp")) != 0) { /* fails when there is anything in it */
        assert_int_equal(errno, ENOENT);
    }
}

/* Environment that the machine may have and that would change what these tests see. */
static void clean_environment(void)
{
    static const char *const names[] = {
        "CURL_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "http_proxy", "https_proxy",
        "HTTPS_PROXY",    "all_proxy",    "ALL_PROXY",     "HTTP_PROXY", "SSLKEYLOGFILE",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
}

/* A server with TLS whose certificate this process trusts. */
static struct bnt_mock_server *start_https(const struct bnt_mock_route *routes)
{
    char certificate[BNT_PATH_MAX];
    struct bnt_mock_server *s = NULL;
    struct bnt_err err = {0};
    clean_environment();
    path_in_scratch(certificate, "certificate.pem");
    if (bnt_mock_server_start(routes, certificate, &s, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_int_equal(setenv("SSL_CERT_FILE", certificate, 1), 0);
    return s;
}

static struct bnt_mock_server *start_http(const struct bnt_mock_route *routes)
{
    struct bnt_mock_server *s = NULL;
    clean_environment();
    assert_int_equal(bnt_mock_server_start(routes, NULL, &s, NULL), BNT_OK);
    return s;
}

static const char *url_of(const struct bnt_mock_server *s, const char *path)
{
    static char url[256];
    snprintf(url, sizeof url, "%s%s", bnt_mock_server_url(s), path);
    return url;
}

static enum bnt_status get(struct bnt_cache *c, const char *source, struct bnt_fetch_result *r)
{
    const struct bnt_fetch_opts plain = {0};
    return bnt_fetch(c, source, &plain, r, NULL);
}

static void assert_blob_is(const struct bnt_fetch_result *r, const char *text)
{
    struct bnt_buf b = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(r->path, &b, NULL), BNT_OK);
    assert_string_equal(bnt_buf_view(&b), text);
    assert_int_equal(r->entry.size, strlen(text));
    bnt_buf_release(&b);
}

/* ---- sources -----------------------------------------------------------------------------------
 */

static void sources_mean_what_they_say(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX], file_url[BNT_PATH_MAX + 16], spaced[BNT_PATH_MAX];
    write_file(path_in_scratch(file, "m.gguf"), "x");
    write_file(path_in_scratch(spaced, "a b.gguf"), "x");
    snprintf(file_url, sizeof file_url, "file://localhost%s", file);
    const struct {
        const char *text;
        enum bnt_status status;
        enum source_kind kind;
        const char *name;
    } cases[] = {
        {"bundled:", BNT_OK, SOURCE_BUNDLED, "tinystories-bitnet"},
        {file, BNT_OK, SOURCE_FILE, "m"},
        {file_url, BNT_OK, SOURCE_FILE, "m"},
        {spaced, BNT_OK, SOURCE_FILE, "a-b"},
        {"https://h/a/ggml-model-i2_s.gguf", BNT_OK, SOURCE_HTTPS, "ggml-model-i2_s"},
        {"HTTPS://h/m.GGUF?x=1#y", BNT_OK, SOURCE_HTTPS, "m"},
        {"https://h:81/a%20b.gguf", BNT_OK, SOURCE_HTTPS, "a-b"},
        {"https://h/", BNT_OK, SOURCE_HTTPS, ""},
        {"https://h", BNT_OK, SOURCE_HTTPS, ""},
        {"http://h/m", BNT_OK, SOURCE_HTTP, "m"},
        {"https:///m", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"https://user:secret@h/m", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"https://h/a b", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"https://h/a\r\nX: y", BNT_E_USAGE, SOURCE_HTTPS, NULL},
        {"", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"bundled:x", BNT_E_USAGE, SOURCE_BUNDLED, NULL},
        {"file://relative", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"file:///a%2", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"file:///a%00b", BNT_E_USAGE, SOURCE_FILE, NULL},
        {"ftp://h/m", BNT_E_UNSUPPORTED, SOURCE_FILE, NULL},
        {"./absent.gguf", BNT_E_NOT_FOUND, SOURCE_FILE, NULL},
        {"file:///absent.gguf", BNT_E_NOT_FOUND, SOURCE_FILE, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source s;
        struct bnt_err err = {0};
        enum bnt_status st = source_parse(cases[i].text, &s, &err);
        if (st != cases[i].status || err.status != cases[i].status) {
            fail_msg("'%s': status %d, %s", cases[i].text, st, err.msg);
        }
        assert_null(strstr(err.msg, "secret"));
        if (st == BNT_OK) {
            assert_int_equal(s.kind, cases[i].kind);
            assert_string_equal(s.name, cases[i].name);
        }
    }
}

static void file_source_is_shown_as_a_url_that_leads_back(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    struct source s, again;
    write_file(path_in_scratch(file, "50% & more?.gguf"), "x");
    assert_int_equal(source_parse(file, &s, NULL), BNT_OK);
    assert_non_null(strstr(s.shown, "50%25%20%26%20more%3F.gguf"));
    assert_int_equal(source_parse(s.shown, &again, NULL), BNT_OK);
    assert_string_equal(again.path, s.path);
    assert_string_equal(again.shown, s.shown);
}

/* ---- files -------------------------------------------------------------------------------------
 */

static void file_is_copied_once_and_again_when_it_changes(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(file, "m.gguf"), "version 1");
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_false(r.hit);
    assert_string_equal(r.entry.name, "m");
    assert_string_equal(r.entry.file_name, "m.gguf");
    assert_blob_is(&r, "version 1");
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_true(r.hit);
    assert_blob_is(&r, "version 1");
    write_file(file, "the second version");
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_false(r.hit);
    assert_blob_is(&r, "the second version");
    bnt_cache_close(c);
}

static void bundled_model_enters_under_its_name(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    char hex[BNT_SHA256_HEX];
    struct bnt_cache *c = open_cache();
    assert_int_equal(get(c, "bundled:", &r), BNT_OK);
    assert_string_equal(r.entry.name, BNT_FETCH_BUNDLED_NAME);
    assert_string_equal(r.entry.source, "bundled:");
    assert_int_equal(bnt_sha256_file(suite_bundled_model(), NULL, NULL, hex, NULL), BNT_OK);
    assert_string_equal(r.entry.digest, hex);
    assert_int_equal(get(c, "bundled:", &r), BNT_OK);
    assert_true(r.hit);
    bnt_cache_close(c);
}

static void lost_blob_is_not_a_hit(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(file, "m.gguf"), body);
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_int_equal(unlink(r.path), 0);
    assert_int_equal(get(c, file, &r), BNT_OK);
    assert_false(r.hit);
    assert_blob_is(&r, body);
    bnt_cache_close(c);
}

static void what_is_no_file_or_empty_is_refused(void **state)
{
    (void)state;
    char empty[BNT_PATH_MAX], fifo[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(empty, "empty.gguf"), "");
    assert_int_equal(mkfifo(path_in_scratch(fifo, "fifo"), 0600), 0);
    assert_int_equal(get(c, empty, &r), BNT_E_FILE);
    assert_int_equal(get(c, fifo, &r), BNT_E_FILE);
    assert_int_equal(get(c, suite_scratch(), &r), BNT_E_FILE);
    assert_nothing_was_kept(c);
    bnt_cache_close(c);
}

static void local_fetch_does_not_load_libcurl(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    struct bnt_buf maps = BNT_BUF(4 << 20);
    struct bnt_cache *c = open_cache();
    assert_int_equal(get(c, "bundled:", &r), BNT_OK);
    assert_int_equal(bnt_file_read("/proc/self/maps", &maps, NULL), BNT_OK);
    assert_null(strstr(bnt_buf_view(&maps), "libcurl"));
    assert_null(strstr(bnt_buf_view(&maps), "libssl"));
    bnt_buf_release(&maps);
    bnt_cache_close(c);
}

/* ---- digests and names -------------------------------------------------------------------------
 */

static void wrong_digest_keeps_nothing(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf", .status = 200, .body = body, .body_bytes = BODY_BYTES},
        {0},
    };
    char file[BNT_PATH_MAX], wrong[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(file, "m.gguf"), body);
    digest_of("other bytes", wrong);
    const struct bnt_fetch_opts o = {.sha256 = wrong};
    const char *sources[] = {file, url_of(s, "/m.gguf")};
    for (size_t i = 0; i < 2; i++) {
        struct bnt_err err = {0};
        assert_int_equal(bnt_fetch(c, sources[i], &o, &r, &err), BNT_E_DIGEST);
        assert_non_null(strstr(err.msg, wrong));
        assert_nothing_was_kept(c);
    }
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void right_digest_in_either_case_is_accepted(void **state)
{
    (void)state;
    char file[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(file, "m.gguf"), body);
    digest_of(body, hex);
    for (char *p = hex; *p; p++) {
        *p = (char)(*p >= 'a' ? *p - 'a' + 'A' : *p);
    }
    assert_int_equal(bnt_fetch(c, file, &(struct bnt_fetch_opts){.sha256 = hex}, &r, NULL), BNT_OK);
    assert_blob_is(&r, body);
    hex[63] = 'g';
    assert_int_equal(bnt_fetch(c, file, &(struct bnt_fetch_opts){.sha256 = hex}, &r, NULL),
                     BNT_E_USAGE);
    hex[63] = '\0';
    assert_int_equal(bnt_fetch(c, file, &(struct bnt_fetch_opts){.sha256 = hex}, &r, NULL),
                     BNT_E_USAGE);
    bnt_cache_close(c);
}

static void known_digest_needs_no_bytes(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {{0}};
    char file[BNT_PATH_MAX], hex[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(file, "m.gguf"), body);
    digest_of(body, hex);
    assert_int_equal(get(c, file, &r), BNT_OK);
    const struct bnt_fetch_opts o = {.sha256 = hex, .name = "other", .offline = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/absent.gguf"), &o, &r, NULL), BNT_OK);
    assert_true(r.hit);
    assert_string_equal(r.entry.name, "other");
    assert_blob_is(&r, body);
    assert_int_equal(bnt_mock_server_requests(s), 0);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void name_of_another_source_is_not_taken(void **state)
{
    (void)state;
    char one[BNT_PATH_MAX], two[BNT_PATH_MAX];
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(one, "one.gguf"), "one");
    write_file(path_in_scratch(two, "two.gguf"), "two");
    struct bnt_fetch_opts o = {.name = "m"};
    assert_int_equal(bnt_fetch(c, one, &o, &r, NULL), BNT_OK);
    assert_int_equal(bnt_fetch(c, two, &o, &r, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--force"));
    o.force = true;
    assert_int_equal(bnt_fetch(c, two, &o, &r, NULL), BNT_OK);
    assert_string_equal(r.entry.name, "m");
    assert_blob_is(&r, "two");
    bnt_cache_close(c);
}

static void bad_or_missing_name_is_a_usage_error(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = open_cache();
    assert_int_equal(bnt_fetch(c, "bundled:", &(struct bnt_fetch_opts){.name = "a/b"}, &r, NULL),
                     BNT_E_USAGE);
    assert_int_equal(bnt_fetch(c, "https://127.0.0.1/", &(struct bnt_fetch_opts){0}, &r, &err),
                     BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--name"));
    assert_nothing_was_kept(c);
    bnt_cache_close(c);
}

/* ---- https and http ----------------------------------------------------------------------------
 */

static const struct bnt_mock_route plain_routes[] = {
    {.path = "/m.gguf",
     .status = 200,
     .headers = "ETag: \"v1\"\r\n",
     .body = body,
     .body_bytes = BODY_BYTES},
    {.path = "/weak.gguf",
     .status = 200,
     .headers = "ETag: W/\"v1\"\r\n",
     .body = body,
     .body_bytes = BODY_BYTES},
    {0},
};

static void https_is_fetched_once(void **state)
{
    (void)state;
    struct bnt_mock_server *s = start_https(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    assert_false(r.hit);
    assert_string_equal(r.entry.source, url_of(s, "/m.gguf"));
    assert_string_equal(r.entry.source_tag, "\"v1\"");
    assert_blob_is(&r, body);
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    assert_true(r.hit);
    assert_int_equal(bnt_mock_server_requests(s), 1);
    const struct bnt_fetch_opts force = {.force = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &force, &r, NULL), BNT_OK);
    assert_false(r.hit);
    assert_int_equal(bnt_mock_server_requests(s), 2);
    assert_int_equal(get(c, url_of(s, "/weak.gguf"), &r), BNT_OK);
    assert_string_equal(r.entry.source_tag, "");
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void certificate_must_be_trusted(void **state)
{
    (void)state;
    char other[BNT_PATH_MAX];
    struct bnt_mock_server *s = start_https(plain_routes), *stranger = NULL;
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    path_in_scratch(other, "other.pem");
    assert_int_equal(bnt_mock_server_start(plain_routes, other, &stranger, NULL), BNT_OK);
    const char *files[] = {other, "/nonexistent.pem", NULL};
    for (size_t i = 0; i < 3; i++) {
        struct bnt_err err = {0};
        assert_int_equal(
            files[i] ? setenv("SSL_CERT_FILE", files[i], 1) : unsetenv("SSL_CERT_FILE"), 0);
        assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &(struct bnt_fetch_opts){0}, &r, &err),
                         BNT_E_NETWORK);
        assert_non_null(strstr(err.hint, "SSL_CERT_FILE"));
        assert_string_equal(err.domain, "curl");
    }
    assert_int_equal(bnt_mock_server_requests(s), 0);
    assert_nothing_was_kept(c);
    bnt_mock_server_stop(stranger);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void http_needs_a_digest(void **state)
{
    (void)state;
    char hex[BNT_SHA256_HEX];
    struct bnt_mock_server *s = start_http(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = open_cache();
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &(struct bnt_fetch_opts){0}, &r, &err),
                     BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--sha256"));
    assert_int_equal(bnt_mock_server_requests(s), 0);
    digest_of(body, hex);
    const struct bnt_fetch_opts o = {.sha256 = hex};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &o, &r, NULL), BNT_OK);
    assert_blob_is(&r, body);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void answers_map_to_causes(void **state)
{
    (void)state;
    static const struct {
        int code;
        enum bnt_status status;
    } cases[] = {
        {204, BNT_E_FAILED},  {206, BNT_E_FAILED},    {300, BNT_E_FAILED},     {400, BNT_E_FAILED},
        {401, BNT_E_AUTH},    {403, BNT_E_AUTH},      {404, BNT_E_NOT_FOUND},  {407, BNT_E_AUTH},
        {408, BNT_E_NETWORK}, {410, BNT_E_NOT_FOUND}, {429, BNT_E_RATE_LIMIT}, {451, BNT_E_FAILED},
        {500, BNT_E_NETWORK}, {502, BNT_E_NETWORK},   {503, BNT_E_NETWORK},    {504, BNT_E_NETWORK},
    };
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct bnt_mock_route routes[CASES + 1] = {{0}};
    char paths[CASES][16];
    for (size_t i = 0; i < CASES; i++) {
        snprintf(paths[i], sizeof paths[i], "/%d", cases[i].code);
        routes[i] = (struct bnt_mock_route){.path = paths[i], .status = cases[i].code};
        if (cases[i].code >= 206) {
            routes[i].body = "<html>an error page</html>";
            routes[i].body_bytes = 26;
        }
        if (cases[i].code == 429) {
            routes[i].headers = "Retry-After: 17\r\n";
        }
    }
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_cache *c = open_cache();
    for (size_t i = 0; i < CASES; i++) {
        struct bnt_fetch_result r;
        struct bnt_err err = {0};
        enum bnt_status st =
            bnt_fetch(c, url_of(s, paths[i]), &(struct bnt_fetch_opts){0}, &r, &err);
        if (st != cases[i].status || !strstr(err.msg, paths[i] + 1)) {
            fail_msg("%d gave status %d: %s", cases[i].code, st, err.msg);
        }
        if (cases[i].code == 429) {
            assert_non_null(strstr(err.hint, "17 s"));
        }
    }
    assert_int_equal(bnt_mock_server_requests(s), CASES);
    assert_nothing_was_kept(c);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void broken_transfers_are_network_errors_and_keep_nothing(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/close.gguf",
         .status = 200,
         .body = body,
         .body_bytes = BODY_BYTES,
         .fault = BNT_MOCK_CLOSE,
         .fault_at = 10},
        {.path = "/close-early.gguf",
         .status = 200,
         .body = body,
         .body_bytes = BODY_BYTES,
         .fault = BNT_MOCK_CLOSE,
         .fault_at = 0},
        {.path = "/reset.gguf",
         .status = 200,
         .body = body,
         .body_bytes = BODY_BYTES,
         .fault = BNT_MOCK_RESET,
         .fault_at = 10},
        {.path = "/stall.gguf",
         .status = 200,
         .body = body,
         .body_bytes = BODY_BYTES,
         .fault = BNT_MOCK_STALL,
         .fault_at = 10},
        {0},
    };
    char hex[BNT_SHA256_HEX];
    digest_of(body, hex);
    struct bnt_mock_server *servers[] = {start_http(routes), start_https(routes)};
    struct bnt_cache *c = open_cache();
    const struct bnt_fetch_opts o = {.sha256 = hex, .stall_timeout_s = 1};
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; routes[i].path; i++) {
            struct bnt_fetch_result r;
            struct bnt_err err = {0};
            enum bnt_status st = bnt_fetch(c, url_of(servers[k], routes[i].path), &o, &r, &err);
            if (st != BNT_E_NETWORK) {
                fail_msg("%s: status %d, %s", routes[i].path, st, err.msg);
            }
            assert_nothing_was_kept(c);
        }
        assert_int_equal(bnt_mock_server_requests(servers[k]), 4);
        bnt_mock_server_stop(servers[k]);
    }
    bnt_cache_close(c);
}

static void refused_connection_is_a_network_error(void **state)
{
    (void)state;
    static const struct bnt_mock_route none[] = {{0}};
    char url[256];
    struct bnt_mock_server *s = start_https(none);
    snprintf(url, sizeof url, "%s", url_of(s, "/m.gguf"));
    bnt_mock_server_stop(s); /* nobody listens on its port now */
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    assert_int_equal(get(c, url, &r), BNT_E_NETWORK);
    assert_nothing_was_kept(c);
    bnt_cache_close(c);
}

static void redirects_are_followed_within_https_only(void **state)
{
    (void)state;
    static const struct bnt_mock_route http_routes[] = {
        {.path = "/m.gguf", .status = 200, .body = body, .body_bytes = BODY_BYTES},
        {0},
    };
    char down[128], hex[BNT_SHA256_HEX];
    struct bnt_mock_server *http = start_http(http_routes);
    snprintf(down, sizeof down, "Location: %s/m.gguf\r\n", bnt_mock_server_url(http));
    const struct bnt_mock_route routes[] = {
        {.path = "/latest.gguf", .status = 302, .headers = "Location: /v1/real.gguf\r\n"},
        {.path = "/v1/real.gguf", .status = 200, .body = body, .body_bytes = BODY_BYTES},
        {.path = "/down.gguf", .status = 302, .headers = down},
        {.path = "/loop.gguf", .status = 302, .headers = "Location: /loop.gguf\r\n"},
        {.path = "/file.gguf", .status = 302, .headers = "Location: file:///etc/hostname\r\n"},
        {0},
    };
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    digest_of(body, hex); /* even the right digest does not make http acceptable */
    const struct bnt_fetch_opts o = {.sha256 = hex};
    assert_int_equal(bnt_fetch(c, url_of(s, "/down.gguf"), &o, &r, NULL), BNT_E_NETWORK);
    assert_int_equal(bnt_mock_server_requests(http), 0);
    assert_int_equal(get(c, url_of(s, "/file.gguf"), &r), BNT_E_NETWORK);
    size_t before = bnt_mock_server_requests(s);
    assert_int_equal(get(c, url_of(s, "/loop.gguf"), &r), BNT_E_NETWORK);
    assert_int_equal(bnt_mock_server_requests(s) - before, 9); /* the first and eight redirects */
    assert_nothing_was_kept(c);
    assert_int_equal(get(c, url_of(s, "/latest.gguf"), &r), BNT_OK);
    assert_string_equal(r.entry.name, "latest");
    assert_blob_is(&r, body);
    bnt_mock_server_stop(s);
    bnt_mock_server_stop(http);
    bnt_cache_close(c);
}

static void offline_uses_no_network(void **state)
{
    (void)state;
    struct bnt_mock_server *s = start_https(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    const struct bnt_fetch_opts offline = {.offline = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &offline, &r, NULL), BNT_E_OFFLINE);
    assert_int_equal(bnt_mock_server_requests(s), 0);
    assert_nothing_was_kept(c);
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &offline, &r, NULL), BNT_OK);
    assert_true(r.hit);
    const struct bnt_fetch_opts both = {.offline = true, .force = true};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &both, &r, NULL), BNT_E_OFFLINE);
    assert_int_equal(bnt_fetch(c, "bundled:", &offline, &r, NULL), BNT_OK);
    assert_int_equal(bnt_mock_server_requests(s), 1);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

/* ---- secrets -----------------------------------------------------------------------------------
 */

static void signature_in_a_url_is_not_written_down(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf?sig=s3cr3t", .status = 200, .body = body, .body_bytes = BODY_BYTES},
        {0},
    };
    char index[BNT_PATH_MAX];
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_err err = {0};
    struct bnt_cache *c = open_cache();
    assert_int_equal(get(c, url_of(s, "/m.gguf?sig=s3cr3t"), &r), BNT_OK);
    assert_non_null(strstr(r.entry.source, "/m.gguf?query-"));
    assert_null(strstr(r.entry.source, "s3cr3t"));
    assert_int_equal(get(c, url_of(s, "/m.gguf?sig=s3cr3t"), &r), BNT_OK);
    assert_true(r.hit);
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf?sig=s3cr3t-2"),
                               &(struct bnt_fetch_opts){.name = "n"}, &r, &err),
                     BNT_E_NOT_FOUND);
    assert_null(strstr(err.msg, "s3cr3t"));
    assert_null(strstr(err.hint, "s3cr3t"));
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
    struct bnt_buf bytes = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(path_in_scratch(index, "c/index.db"), &bytes, NULL), BNT_OK);
    assert_null(memmem(bytes.data, bytes.len, "s3cr3t", 6));
    assert_non_null(memmem(bytes.data, bytes.len, "query-", 6)); /* the search itself works */
    bnt_buf_release(&bytes);
}

static void login_comes_from_netrc(void **state)
{
    (void)state;
    char netrc[BNT_PATH_MAX], head[4096];
    struct bnt_mock_server *s = start_https(plain_routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    write_file(path_in_scratch(netrc, ".netrc"), "machine 127.0.0.1 login me password secret\n");
    assert_int_equal(setenv("HOME", suite_scratch(), 1), 0);
    assert_int_equal(get(c, url_of(s, "/m.gguf"), &r), BNT_OK);
    bnt_mock_server_last_request(s, head, sizeof head);
    assert_non_null(strstr(head, "\r\nAuthorization: Basic bWU6c2VjcmV0\r\n"));
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

/* ---- the user, the disk ------------------------------------------------------------------------
 */

static volatile sig_atomic_t interrupted;

static void interrupt_at_first_byte(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)done_bytes;
    *(uint64_t *)ctx = total_bytes;
    interrupted = 1;
}

static void interrupt_ends_a_transfer(void **state)
{
    (void)state;
    static const struct bnt_mock_route routes[] = {
        {.path = "/m.gguf",
         .status = 200,
         .body = body,
         .body_bytes = BODY_BYTES,
         .fault = BNT_MOCK_STALL,
         .fault_at = 10},
        {0},
    };
    struct bnt_mock_server *s = start_https(routes);
    struct bnt_fetch_result r;
    struct bnt_cache *c = open_cache();
    uint64_t total = 0;
    const struct bnt_fetch_opts o = {
        .interrupted = &interrupted, .progress = interrupt_at_first_byte, .ctx = &total};
    assert_int_equal(bnt_fetch(c, url_of(s, "/m.gguf"), &o, &r, NULL), BNT_E_INTERRUPTED);
    assert_int_equal(total, BODY_BYTES);
    assert_nothing_was_kept(c);
    assert_int_equal(bnt_fetch(c, "bundled:", &o, &r, NULL), BNT_E_INTERRUPTED);
    assert_nothing_was_kept(c);
    bnt_mock_server_stop(s);
    bnt_cache_close(c);
}

static void full_disk_is_no_space(void **state)
{
    (void)state;
    struct sink sink;
    struct bnt_err err = {0};
    const struct bnt_fetch_opts o = {0};
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(sink_init(&sink, fd, "the blob", &o, NULL), BNT_OK);
    assert_int_equal(sink_write(&sink, body, BODY_BYTES, &err), BNT_E_NO_SPACE);
    assert_non_null(strstr(err.hint, "BNT_CACHE_DIR"));
    assert_int_equal(sink.done, 0);
    sink_release(&sink);
    close(fd);
}

static const struct suite_test tests[] = {
    {.name = "fetch_sources_mean_what_they_say", .body = sources_mean_what_they_say},
    {.name = "fetch_file_source_is_shown_as_a_url_that_leads_back",
     .body = file_source_is_shown_as_a_url_that_leads_back},
    {.name = "fetch_file_is_copied_once_and_again_when_it_changes",
     .body = file_is_copied_once_and_again_when_it_changes},
    {.name = "fetch_bundled_model_enters_under_its_name",
     .body = bundled_model_enters_under_its_name},
    {.name = "fetch_lost_blob_is_not_a_hit", .body = lost_blob_is_not_a_hit},
    {.name = "fetch_what_is_no_file_or_empty_is_refused",
     .body = what_is_no_file_or_empty_is_refused},
    {.name = "fetch_local_does_not_load_libcurl", .body = local_fetch_does_not_load_libcurl},
    {.name = "fetch_wrong_digest_keeps_nothing", .body = wrong_digest_keeps_nothing},
    {.name = "fetch_right_digest_in_either_case_is_accepted",
     .body = right_digest_in_either_case_is_accepted},
    {.name = "fetch_known_digest_needs_no_bytes", .body = known_digest_needs_no_bytes},
    {.name = "fetch_name_of_another_source_is_not_taken",
     .body = name_of_another_source_is_not_taken},
    {.name = "fetch_bad_or_missing_name_is_a_usage_error",
     .body = bad_or_missing_name_is_a_usage_error},
    {.name = "fetch_https_is_fetched_once", .body = https_is_fetched_once},
    {.name = "fetch_certificate_must_be_trusted", .body = certificate_must_be_trusted},
    {.name = "fetch_http_needs_a_digest", .body = http_needs_a_digest},
    {.name = "fetch_answers_map_to_causes", .body = answers_map_to_causes},
    {.name = "fetch_broken_transfers_are_network_errors_and_keep_nothing",
     .body = broken_transfers_are_network_errors_and_keep_nothing,
     .timeout_ms = 30000},
    {.name = "fetch_refused_connection_is_a_network_error",
     .body = refused_connection_is_a_network_error},
    {.name = "fetch_redirects_are_followed_within_https_only",
     .body = redirects_are_followed_within_https_only},
    {.name = "fetch_offline_uses_no_network", .body = offline_uses_no_network},
    {.name = "fetch_signature_in_a_url_is_not_written_down",
     .body = signature_in_a_url_is_not_written_down},
    {.name = "fetch_login_comes_from_netrc", .body = login_comes_from_netrc},
    {.name = "fetch_interrupt_ends_a_transfer", .body = interrupt_ends_a_transfer},
    {.name = "fetch_full_disk_is_no_space", .body = full_disk_is_no_space},
    {0},
};
const struct suite suite_fetch = {"fetch", tests};
