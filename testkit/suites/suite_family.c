/* Guards models of several files: a part that is missing, a tokenizer that does not come with its
 * model or is another one than was locked. The hub is the project's own server, on 127.0.0.1. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fetch/family.h"
#include "fetch/project.h"
#include "mock/bnt_mock.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
enum { MAX_ROUTES = 64, TEXT_MAX = 160 };

static const struct {
    const char *repo, *path;
} files[] = {
    {"org/two", "q/m-Q4-00001-of-00002.gguf"},
    {"org/two", "q/m-Q4-00002-of-00002.gguf"},
    {"org/two", "q/tokenizer.json"},
    {"org/two", "q/chat_template.jinja"},
    {"org/two", "q/README.md"},
    {"org/two", "tokenizer_config.json"}, /* in another folder */
    {"org/st", "model.safetensors"},
    {"org/st", "config.json"},
    {"org/st", "tokenizer.json"},
    {"org/gap", "x-00001-of-00003.gguf"},
    {"org/gap", "x-00003-of-00003.gguf"},
};
enum { N_FILES = sizeof files / sizeof files[0] };

/* Each file holds its own path. */
struct hub {
    struct bnt_mock_server *s;
    struct bnt_mock_route routes[MAX_ROUTES];
    char text[MAX_ROUTES][TEXT_MAX], listing[3][1000];
    size_t n;
};

static void add(struct hub *h, const char *path, const char *body)
{
    assert_true(h->n + 1 < MAX_ROUTES);
    snprintf(h->text[h->n], TEXT_MAX, "%s", path);
    h->routes[h->n] = (struct bnt_mock_route){.path = h->text[h->n],
                                              .status = 200,
                                              .headers = "X-Repo-Commit: " COMMIT "\r\n",
                                              .body = body,
                                              .body_bytes = strlen(body)};
    h->n++;
}

static void add_repo(struct hub *h, const char *repo, char listing[1000])
{
    static const char *const revisions[] = {"main", COMMIT};
    char path[TEXT_MAX];
    size_t n = 0;
    for (size_t i = 0; i < N_FILES; i++) {
        if (strcmp(files[i].repo, repo) == 0) {
            n += (size_t)snprintf(listing + n, 1000 - n, "%c{\"path\":\"%s\"}", n ? ',' : '[',
                                  files[i].path);
        }
    }
    snprintf(listing + n, 1000 - n, "]");
    for (size_t k = 0; k < 2; k++) {
        snprintf(path, sizeof path, "/api/models/%s/tree/%s?recursive=true", repo, revisions[k]);
        add(h, path, listing);
        for (size_t i = 0; i < N_FILES; i++) {
            if (strcmp(files[i].repo, repo) == 0) {
                snprintf(path, sizeof path, "/%s/resolve/%s/%s", repo, revisions[k], files[i].path);
                add(h, path, files[i].path);
            }
        }
    }
}

static void start(struct hub *h)
{
    static const char *const names[] = {"HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_CACHE",
                                        "HF_HUB_OFFLINE", "HF_HOME"};
    *h = (struct hub){0};
    add_repo(h, "org/two", h->listing[0]);
    add_repo(h, "org/st", h->listing[1]);
    add_repo(h, "org/gap", h->listing[2]);
    h->s = transfer_tls_server(h->routes);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
    assert_int_equal(setenv("HF_ENDPOINT", bnt_mock_server_url(h->s), 1), 0);
}

/* Run bnt in the scratch folder and expect the exit code; *said is its stderr, *out its stdout. */
static const char *run(int exit, bool out, const char *const *words)
{
    static char text[4096];
    struct suite_output o;
    fixture_bnt(&o, exit, words);
    snprintf(text, sizeof text, "%s", out ? o.out : o.err);
    suite_output_release(&o);
    return text;
}
#define BNT(exit, ...) run((exit), false, (const char *const[]){__VA_ARGS__, NULL})
#define OUT(exit, ...) run((exit), true, (const char *const[]){__VA_ARGS__, NULL})

/* The name leads to this content. */
static void assert_named(const char *name, const char *text)
{
    struct bnt_cache *cache;
    struct bnt_cache_entry e;
    char path[BNT_PATH_MAX];
    struct bnt_err err = {0};
    assert_int_equal(bnt_cache_open(NULL, &cache, NULL), BNT_OK);
    if (bnt_cache_lookup(cache, name, &e, path, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    bnt_cache_close(cache);
    fixture_assert_holds(path, text);
}

static void assert_lock_has(const char *first, const char *second, bool has)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf b = BNT_BUF(1 << 20);
    assert_int_equal(bnt_file_read(fixture_path(path, LOCKFILE_FILE), &b, NULL), BNT_OK);
    const char *at = strstr(bnt_buf_view(&b), first);
    if (((at && strstr(at, second)) ? true : false) != has) {
        fail_msg("%s, then %s in %s", first, second, bnt_buf_view(&b));
    }
    bnt_buf_release(&b);
}

/* ---- cases ---- */

static void parts_are_told_from_names(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        unsigned k, n; /* 0: none */
    } cases[] = {
        {"m-00001-of-00003.gguf", 1, 3}, {"a/m-00003-of-00003.safetensors", 3, 3},
        {"m-00004-of-00003.gguf", 0, 0}, {"m-00000-of-00003.gguf", 0, 0},
        {"m-1-of-3.gguf", 0, 0},         {"-00001-of-00003.gguf", 0, 0},
        {"m-00001-of-00003.bin", 0, 0},  {"m-00001-of-0000a.gguf", 0, 0},
        {"m-00001-of-00003", 0, 0},      {"m.gguf", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned k = 0, n = 0;
        bool is = family_shard(cases[i].path, &k, &n);
        if (is != (cases[i].k > 0) || (is && (k != cases[i].k || n != cases[i].n))) {
            fail_msg("%s: %d, %u of %u", cases[i].path, is, k, n);
        }
    }
}

static void model_comes_with_its_parts_and_companions(void **state)
{
    (void)state;
    struct hub h;
    char cache[BNT_PATH_MAX];
    start(&h);
    fixture_file(MANIFEST_FILE, "models:\n  two: {source: 'hf://org/two:Q4', companions: true}\n");
    BNT(0, "fetch");
    assert_named("two", "q/m-Q4-00001-of-00002.gguf");
    assert_named("two.m-Q4-00002-of-00002", "q/m-Q4-00002-of-00002.gguf");
    assert_named("two.tokenizer.json", "q/tokenizer.json");
    assert_named("two.chat_template.jinja", "q/chat_template.jinja");
    BNT(8, "path", "two.README.md");
    BNT(8, "path", "two.tokenizer_config.json");
    assert_lock_has("q/m-Q4-00001-of-00002.gguf", "q/m-Q4-00002-of-00002.gguf", true);
    assert_lock_has("q/m-Q4-00002-of-00002.gguf", "q/tokenizer.json", true);
    assert_lock_has("\"companions\": true", "\"files\"", true);
    const size_t requests = bnt_mock_server_requests(h.s);
    BNT(0, "fetch", "--frozen");
    BNT(0, "fetch");
    assert_int_equal(bnt_mock_server_requests(h.s), requests);
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(cache, "empty"), 1), 0);
    BNT(0, "fetch", "--locked");
    assert_named("two.tokenizer.json", "q/tokenizer.json");
    BNT(0, "update", "--check");
    fixture_file(MANIFEST_FILE, "models:\n  two: {source: 'hf://org/two:Q4'}\n");
    BNT(20, "fetch", "--locked");
    BNT(0, "fetch");
    assert_lock_has("q/m-Q4-00001-of-00002.gguf", "q/m-Q4-00002-of-00002.gguf", true);
    assert_lock_has("q/m-Q4", "tokenizer.json", false);
    BNT(0, "fetch", "--frozen");
    bnt_mock_server_stop(h.s);
}

static void formats_without_tokenizer_bring_theirs(void **state)
{
    (void)state;
    struct hub h;
    start(&h);
    fixture_file(MANIFEST_FILE, "models:\n  st: {source: 'hf://org/st'}\n"
                                "  bare: {source: 'hf://org/st', companions: false}\n");
    BNT(0, "fetch");
    assert_named("st", "model.safetensors");
    assert_named("st.config.json", "config.json");
    assert_named("st.tokenizer.json", "tokenizer.json");
    assert_named("bare", "model.safetensors");
    BNT(8, "path", "bare.config.json");
    BNT(0, "fetch", "--frozen");
    bnt_mock_server_stop(h.s);
}

static void missing_part_is_named_and_nothing_is_locked(void **state)
{
    (void)state;
    struct hub h;
    start(&h);
    fixture_file(MANIFEST_FILE, "models:\n  gap: {source: 'hf://org/gap/x-00001-of-00003.gguf'}\n");
    assert_non_null(strstr(BNT(8, "fetch"), "x-00002-of-00003.gguf is not there"));
    BNT(20, "fetch", "--locked");
    BNT(8, "path", "gap");
    fixture_file(MANIFEST_FILE, "models:\n  gap: {source: 'hf://org/gap/x-00003-of-00003.gguf'}\n");
    assert_non_null(strstr(BNT(2, "fetch"), "name the first part"));
    bnt_mock_server_stop(h.s);
}

static void source_brings_its_family_in_order(void **state)
{
    (void)state;
    struct hub h;
    char lines[4][BNT_PATH_MAX];
    start(&h);
    const char *out = OUT(0, "fetch", "hf://org/two/q/m-Q4-00001-of-00002.gguf", "--name", "n",
                          "--with-tokenizer");
    assert_int_equal(
        sscanf(out, "%4095s %4095s %4095s %4095s", lines[0], lines[1], lines[2], lines[3]), 4);
    fixture_assert_holds(lines[0], "q/m-Q4-00001-of-00002.gguf");
    fixture_assert_holds(lines[1], "q/m-Q4-00002-of-00002.gguf");
    fixture_assert_holds(lines[2], "q/tokenizer.json");
    assert_named("n.chat_template.jinja", "q/chat_template.jinja");
    BNT(0, "fetch", "org/two:Q4", "--name", "part");
    assert_named("part.m-Q4-00002-of-00002", "q/m-Q4-00002-of-00002.gguf");
    BNT(8, "path", "part.tokenizer.json");
    bnt_mock_server_stop(h.s);
}

static void local_companions_are_locked_and_verified(void **state)
{
    (void)state;
    char cache[BNT_PATH_MAX];
    fixture_file("m.gguf", "m");
    fixture_file("tokenizer.json", "t");
    fixture_file("other.json", "o");
    fixture_file(MANIFEST_FILE, "models:\n  m: {source: m.gguf, companions: true}\n");
    BNT(0, "fetch");
    assert_named("m.tokenizer.json", "t");
    BNT(8, "path", "m.other.json");
    fixture_file("tokenizer.json", "changed");
    assert_int_equal(setenv("BNT_CACHE_DIR", fixture_path(cache, "empty"), 1), 0);
    BNT(13, "fetch", "--locked");
    BNT(0, "update", "m");
    BNT(0, "fetch", "--locked");
    assert_named("m.tokenizer.json", "changed");
    fixture_file(MANIFEST_FILE, "models:\n  m: {source: 'bundled:', companions: true}\n");
    assert_non_null(strstr(BNT(2, "fetch"), "files: [FILE, FILE]"));
    BNT(0, "fetch", "./m.gguf", "--name", "own", "--with-tokenizer");
    assert_named("own.tokenizer.json", "changed");
    fixture_file(MANIFEST_FILE, "models:\n  m: {source: m.gguf, companions: true}\n"
                                "  m.tokenizer.json: {source: other.json}\n");
    assert_non_null(strstr(BNT(5, "fetch"), "m: tokenizer.json makes no free name"));
}

/* One name for two files would lead to whichever came last. */
static void what_is_found_takes_no_name_of_another_file(void **state)
{
    (void)state;
    static const char *const manifests[] = {
        "models:\n  m: {source: ., files: [sub/m.safetensors, tokenizer.json]}\n",
        "models:\n  m: {source: sub/m.safetensors}\n"
        "  m.tokenizer: {source: ., files: [tokenizer.json, json]}\n",
        "models:\n  m.tokenizer: {source: ., files: [tokenizer.json, json]}\n"
        "  m: {source: sub/m.safetensors}\n"};
    char path[BNT_PATH_MAX];
    assert_int_equal(mkdir(fixture_path(path, "sub"), 0777), 0);
    fixture_file("sub/m.safetensors", "m");
    fixture_file("sub/tokenizer.json", "t");
    fixture_file("tokenizer.json", "outer");
    fixture_file("json", "j");
    for (size_t i = 0; i < sizeof manifests / sizeof manifests[0]; i++) {
        fixture_file(MANIFEST_FILE, manifests[i]);
        const char *said = BNT(5, "lock");
        assert_non_null(strstr(said, "m: "));
        assert_non_null(strstr(said, "tokenizer.json makes no free name"));
    }
}

/* The project of the folder knows where a file lies that it found, and its name has moved on. */
static void what_is_found_is_healed_from_where_it_lies(void **state)
{
    (void)state;
    char path[BNT_PATH_MAX], digest[BNT_SHA256_HEX];
    struct suite_output o;
    fixture_file("m.safetensors", "m");
    fixture_file("tokenizer.json", "t");
    fixture_file("other.json", "o");
    fixture_file(MANIFEST_FILE, "models:\n  m: {source: m.safetensors}\n");
    BNT(0, "fetch");
    BNT(0, "fetch", "other.json", "--name", "m.tokenizer.json", "--force");
    fixture_digest("t", digest);
    FIXTURE_BNT(&o, 0, "path", digest);
    o.out[strcspn(o.out, "\n")] = '\0';
    assert_int_equal(bnt_path_format(path, NULL, "%s", o.out), BNT_OK);
    suite_output_release(&o);
    assert_int_equal(unlink(path), 0);
    fixture_write(path, "x");
    BNT(0, "cache", "verify", "--repair", digest);
    fixture_assert_holds(path, "t");
}

/* ---- a hub that is not at its best ---- */

static void question_is_repeated_when_it_may_be_answered_later(void **state)
{
    (void)state;
    static const struct bnt_mock_step busy[] = {
        {.status = 429, .headers = "Retry-After: 7\r\n"},
        {.status = 200, .headers = "X-Repo-Commit: " COMMIT "\r\n"},
        {0}};
    static const struct bnt_mock_step headless[] = {
        {.status = 405}, {.status = 200, .headers = "X-Repo-Commit: " COMMIT "\r\n"}, {0}};
    static const struct bnt_mock_step down[] = {{.status = 503}, {0}};
    const struct bnt_mock_route routes[] = {
        {.path = "/org/a/resolve/main/f.json", .steps = busy},
        {.path = "/org/a/resolve/" COMMIT "/f.json", .status = 200, .body = "a", .body_bytes = 1},
        {.path = "/org/b/resolve/main/f.json", .steps = headless},
        {.path = "/org/b/resolve/" COMMIT "/f.json", .status = 200, .body = "b", .body_bytes = 1},
        {.path = "/org/c/resolve/main/f.json", .steps = down},
        {0}};
    static const struct {
        const char *source, *name;
        enum bnt_status status;
        size_t requests; /* in all */
        double least_s, most_s;
    } cases[] = {
        {"hf://org/a/f.json", "a", BNT_OK, 3, 7, 7.1},
        {"hf://org/b/f.json", "b", BNT_OK, 6, 0, 0.1},
        {"hf://org/c/f.json", "c", BNT_E_NETWORK, 11, 0, 7.6},
    };
    struct bnt_mock_server *s = transfer_tls_server(routes);
    struct bnt_cache *c = fixture_cache();
    assert_int_equal(setenv("HF_ENDPOINT", bnt_mock_server_url(s), 1), 0);
    bnt_clock_fake(TRANSFER_START_S * 1000000000ull);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bnt_fetch_result r;
        struct bnt_err err = {0};
        const struct bnt_fetch_opts o = {.name = cases[i].name, .connections = 1};
        const uint64_t before_ns = bnt_clock_now_ns();
        enum bnt_status st = bnt_fetch(c, cases[i].source, &o, &r, &err);
        const double waited_s = (double)(bnt_clock_now_ns() - before_ns) * 1e-9;
        if (st != cases[i].status || bnt_mock_server_requests(s) != cases[i].requests ||
            waited_s < cases[i].least_s || waited_s > cases[i].most_s) {
            fail_msg("%s: status %d, %zu requests, %.1f s: %s", cases[i].source, st,
                     bnt_mock_server_requests(s), waited_s, err.msg);
        }
    }
    bnt_cache_close(c);
    bnt_mock_server_stop(s);
}

static const struct suite_test tests[] = {
    {.name = "family_question_is_repeated_when_it_may_be_answered_later",
     .body = question_is_repeated_when_it_may_be_answered_later},
    {.name = "family_parts_are_told_from_names", .body = parts_are_told_from_names},
    {.name = "family_model_comes_with_its_parts_and_companions",
     .body = model_comes_with_its_parts_and_companions},
    {.name = "family_formats_without_tokenizer_bring_theirs",
     .body = formats_without_tokenizer_bring_theirs},
    {.name = "family_missing_part_is_named_and_nothing_is_locked",
     .body = missing_part_is_named_and_nothing_is_locked},
    {.name = "family_source_brings_its_family_in_order", .body = source_brings_its_family_in_order},
    {.name = "family_local_companions_are_locked_and_verified",
     .body = local_companions_are_locked_and_verified},
    {.name = "family_what_is_found_is_healed_from_where_it_lies",
     .body = what_is_found_is_healed_from_where_it_lies},
    {.name = "family_what_is_found_takes_no_name_of_another_file",
     .body = what_is_found_takes_no_name_of_another_file},
    {0},
};
const struct suite suite_family = {"family", tests, "missing_shard family_companions"};
