/* Guards sources of registries against the registry that most run: docker-registry of Debian,
 * started by the test on loopback, plain and with accounts. A model artifact is pushed as tools do
 * it, then fetched, resumed and locked by the program. */
#include "testkit/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fetch/project.h"
#include "fetch/source.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/server_fixture.h"
#include "testkit/suites/transfer_fixture.h"

#define USER "tester"
#define PASSWORD "p4ss:w0rd"
enum { MODEL_BYTES = 20 << 20 };

struct registry {
    struct server server;
    int port;
    const char *login; /* NULL, or what pushing needs */
    const char *bytes;
    char digest[BNT_SHA256_HEX]; /* of the model */
    char manifest[SOURCE_REVISION_MAX];
};

/* ---- the registry ---- */

static void write_accounts(const char *path)
{
    struct suite_output o;
    const char *const argv[] = {"htpasswd", "-Bbn", USER, PASSWORD, NULL};
    suite_run(argv, NULL, 0, &o);
    assert_int_equal(o.exit, 0);
    fixture_write(path, o.out);
    suite_output_release(&o);
}

static void start(struct registry *r, bool accounts)
{
    char config[BNT_PATH_MAX], htpasswd[BNT_PATH_MAX], text[2 * BNT_PATH_MAX + 512];
    *r = (struct registry){.port = server_free_ports(1)};
    int n = snprintf(text, sizeof text,
                     "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                     "storage: {filesystem: {rootdirectory: %s/registry}}\n"
                     "http: {addr: 127.0.0.1:%d}\n",
                     suite_scratch(), r->port);
    if (accounts) {
        write_accounts(fixture_path(htpasswd, "htpasswd"));
        snprintf(text + n, sizeof text - (size_t)n, "auth: {htpasswd: {realm: test, path: %s}}\n",
                 htpasswd);
        r->login = USER ":" PASSWORD;
    }
    fixture_write(fixture_path(config, "registry.yml"), text);
    const char *const argv[] = {"docker-registry", "serve", config, NULL};
    server_start(&r->server, argv, r->port);
    r->bytes = transfer_bytes(MODEL_BYTES, 7);
    transfer_digest(r->bytes, MODEL_BYTES, r->digest);
}

static long send_to(const struct registry *r, const char *method, const char *path,
                    struct server_request *q)
{
    char url[2600];
    if (strncmp(path, "http", 4) == 0) {
        snprintf(url, sizeof url, "%s", path);
    } else {
        snprintf(url, sizeof url, "http://127.0.0.1:%d/v2/org/model%s", r->port, path);
    }
    q->method = method;
    q->url = url;
    q->login = r->login;
    return server_send(q);
}

static void push_blob(const struct registry *r, const char *bytes, size_t n, const char *digest)
{
    static const char *const headers[] = {"Content-Type: application/octet-stream", NULL};
    struct server_request begin = {.body = "", .body_bytes = 0};
    char place[2300];
    assert_int_equal(send_to(r, "POST", "/blobs/uploads/", &begin), 202);
    snprintf(place, sizeof place, "%s%cdigest=sha256:%s", begin.location,
             strchr(begin.location, '?') ? '&' : '?', digest);
    struct server_request put = {.headers = headers, .body = bytes, .body_bytes = n};
    assert_int_equal(send_to(r, "PUT", place, &put), 201);
}

/* Push a manifest with these layers under a tag; its digest is kept. */
static void push_manifest(struct registry *r, const char *tag, const char *type, const char *layers)
{
    static const char empty[] = "{}";
    char config[BNT_SHA256_HEX], text[4096], path[64], header[128], hex[BNT_SHA256_HEX];
    const char *const headers[] = {header, NULL};
    fixture_digest(empty, config);
    push_blob(r, empty, 2, config);
    snprintf(text, sizeof text,
             "{\"schemaVersion\": 2, \"mediaType\": \"%s\", \"config\": {\"mediaType\": "
             "\"application/vnd.oci.empty.v1+json\", \"digest\": \"sha256:%s\", \"size\": 2}, "
             "\"layers\": [%s]}",
             type, config, layers);
    snprintf(path, sizeof path, "/manifests/%s", tag);
    snprintf(header, sizeof header, "Content-Type: %s", type);
    struct server_request put = {.headers = headers, .body = text, .body_bytes = strlen(text)};
    assert_int_equal(send_to(r, "PUT", path, &put), 201);
    fixture_digest(text, hex);
    snprintf(r->manifest, sizeof r->manifest, "sha256:%s", hex);
}

#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"

/* The artifact of these tests: a model and its license, as `oras push` lays them out. */
static void push_model(struct registry *r, const char *tag)
{
    static const char license[] = "do what you want";
    char hex[BNT_SHA256_HEX], layers[2048];
    fixture_digest(license, hex);
    push_blob(r, license, sizeof license - 1, hex);
    push_blob(r, r->bytes, MODEL_BYTES, r->digest);
    snprintf(layers, sizeof layers,
             "{\"mediaType\": \"application/octet-stream\", \"digest\": \"sha256:%s\", \"size\": "
             "%zu, \"annotations\": {\"org.opencontainers.image.title\": \"LICENSE\"}}, "
             "{\"mediaType\": \"application/octet-stream\", \"digest\": \"sha256:%s\", \"size\": "
             "%d, \"annotations\": {\"org.opencontainers.image.title\": \"m-i2_s.gguf\"}}",
             hex, sizeof license - 1, r->digest, (int)MODEL_BYTES);
    push_manifest(r, tag, OCI_MANIFEST, layers);
}

/* ---- the program ---- */

/* Run bnt in the scratch folder; no secret is shown. */
static void bnt_says(int exit, const char *expected, const char *const *words)
{
    struct suite_output o;
    const char *argv[10] = {suite_bnt()};
    for (size_t n = 0; words[n] && n < 8; n++) {
        argv[n + 1] = words[n];
    }
    suite_run(argv, suite_scratch(), 0, &o);
    if (o.exit != exit || !(strstr(o.out, expected) || strstr(o.err, expected))) {
        fail_msg("bnt %s %s: exit %d, not %d, or not '%s'\n%s%s", words[0], words[1], o.exit, exit,
                 expected, o.out, o.err);
    }
    assert_null(strstr(o.out, PASSWORD));
    assert_null(strstr(o.err, PASSWORD));
    suite_output_release(&o);
}
#define BNT_SAYS(exit, expected, ...)                                                              \
    bnt_says((exit), (expected), (const char *const[]){__VA_ARGS__, NULL})

static const char *source(const struct registry *r, const char *rest)
{
    static char text[256];
    snprintf(text, sizeof text, "oci://127.0.0.1:%d/org/model%s", r->port, rest);
    return text;
}

static void assert_cached(const struct registry *r, const char *name)
{
    struct bnt_fetch_result got = {.hit = false};
    struct bnt_cache *c;
    bool found = false;
    assert_int_equal(bnt_cache_open(NULL, &c, NULL), BNT_OK);
    assert_int_equal(bnt_cache_find_name(c, name, &got.entry, &found, NULL), BNT_OK);
    assert_true(found);
    assert_int_equal(bnt_cache_blob_path(c, got.entry.digest, got.path, NULL), BNT_OK);
    assert_string_equal(got.entry.digest, r->digest);
    transfer_assert_blob(&got, r->bytes, MODEL_BYTES);
    bnt_cache_close(c);
}

/* ---- tests ---- */

static void pushed_model_is_fetched_by_tag_title_and_digest(void **state)
{
    (void)state;
    struct registry r;
    char by_digest[128];
    start(&r, false);
    push_model(&r, "v1");
    BNT_SAYS(0, "/blob", "fetch", source(&r, ":v1"));
    assert_cached(&r, "model-v1");
    BNT_SAYS(0, r.digest, "fetch", "--json", "--name", "a", source(&r, ":v1#m-i2_s.gguf"));
    snprintf(by_digest, sizeof by_digest, "@%s", r.manifest);
    BNT_SAYS(0, "already", "fetch", "--name", "b", source(&r, by_digest));
    BNT_SAYS(0, "LICENSE", "fetch", "--json", source(&r, ":v1#LICENSE"));
    BNT_SAYS(8, "LICENSE (application/octet-stream), m-i2_s.gguf", "fetch", source(&r, ":v1#x"));
    BNT_SAYS(8, "spelling", "fetch", source(&r, ":v2"));
    server_stop(&r.server);
}

static void transfer_goes_on_after_a_kill(void **state)
{
    (void)state;
    struct registry r;
    struct bnt_fetch_result got;
    struct bnt_err err;
    uint64_t resumed = 0;
    start(&r, false);
    push_model(&r, "v1");
    const char *const words[] = {"fetch", "-q", "--limit-rate", "4M", source(&r, ":v1"), NULL};
    server_kill_fetch(words, 6 << 20);
    /* Slow enough that what had come before is seen at the first look. */
    const struct bnt_fetch_opts o = {.connections = 4, .limit_bytes_s = 16 << 20};
    assert_int_equal(server_fetch(source(&r, ":v1"), &o, &got, &resumed, &err), BNT_OK);
    assert_true(resumed >= 4 << 20); /* what came in the last second may not be recorded yet */
    transfer_assert_blob(&got, r.bytes, MODEL_BYTES);
    server_stop(&r.server);
}

/* Accounts in the variable, in a file, wrong ones, none. */
static void account_is_needed_and_never_shown(void **state)
{
    (void)state;
    struct registry r;
    char folder[BNT_PATH_MAX], path[BNT_PATH_MAX], text[512];
    start(&r, true);
    push_model(&r, "v1");
    BNT_SAYS(11, "docker login 127.0.0.1", "fetch", source(&r, ":v1"));
    snprintf(text, sizeof text,
             "{\"auths\": {\"127.0.0.1:%d\": {\"username\": \"" USER "\", \"password\": \"" PASSWORD
             "\"}}}",
             r.port);
    assert_int_equal(setenv("DOCKER_AUTH_CONFIG", text, 1), 0);
    BNT_SAYS(0, "/blob", "fetch", source(&r, ":v1"));
    assert_cached(&r, "model-v1");
    BNT_SAYS(0, "***", "env");
    unsetenv("DOCKER_AUTH_CONFIG");
    assert_int_equal(setenv("HOME", suite_scratch(), 1), 0);
    assert_int_equal(mkdir(fixture_path(folder, ".docker"), 0700), 0);
    /* base64 of "tester:wrong", then of the right one. */
    snprintf(text, sizeof text, "{\"auths\": {\"127.0.0.1:%d\": {\"auth\": \"dGVzdGVyOndyb25n\"}}}",
             r.port);
    fixture_write(fixture_path(path, ".docker/config.json"), text);
    BNT_SAYS(11, "may not read", "fetch", "--name", "b", source(&r, ":v1"));
    snprintf(text, sizeof text,
             "{\"auths\": {\"127.0.0.1:%d\": {\"auth\": \"dGVzdGVyOnA0c3M6dzByZA==\"}}}", r.port);
    fixture_write(path, text);
    BNT_SAYS(0, "b: 21.0 MB", "fetch", "--force", "--name", "b", source(&r, ":v1"));
    server_stop(&r.server);
}

/* The tag moves; what is locked stays, and is found without it. */
static void lock_holds_what_the_tag_was(void **state)
{
    (void)state;
    struct registry r;
    char path[BNT_PATH_MAX], text[512];
    struct bnt_buf lock = BNT_BUF(1 << 16);
    start(&r, false);
    push_model(&r, "v1");
    snprintf(text, sizeof text,
             "models:\n  a:\n    source: oci://127.0.0.1:%d/org/model:v1\n"
             "  b:\n    source: oci://127.0.0.1:%d/org/model:v1\n"
             "    files: [LICENSE, m-i2_s.gguf]\n",
             r.port, r.port);
    fixture_write(fixture_path(path, MANIFEST_FILE), text);
    BNT_SAYS(0, "locked", "lock");
    BNT_SAYS(8, "a", "path", "a"); /* nothing was downloaded */
    assert_int_equal(bnt_file_read(fixture_path(path, LOCKFILE_FILE), &lock, NULL), BNT_OK);
    snprintf(text, sizeof text, "\"revision\": \"%s\"", r.manifest);
    assert_non_null(strstr(bnt_buf_view(&lock), text));
    snprintf(text, sizeof text,
             "{\"path\": \"m-i2_s.gguf\", \"size\": 20971520, \"sha256\": \"%s\"", r.digest);
    assert_non_null(strstr(bnt_buf_view(&lock), text));
    assert_non_null(strstr(bnt_buf_view(&lock), "{\"path\": \"LICENSE\", \"size\": 16,"));
    push_manifest(&r, "v1", OCI_MANIFEST, "");
    BNT_SAYS(0, "/blob", "fetch", "--locked");
    assert_cached(&r, "a");
    assert_cached(&r, "b.m-i2_s");
    BNT_SAYS(0, "/blob", "path", "b");
    BNT_SAYS(0, "", "fetch", "--frozen");
    BNT_SAYS(8, "no layers", "update", "a");
    bnt_buf_release(&lock);
    server_stop(&r.server);
}

static void other_layouts_of_models_are_understood(void **state)
{
    (void)state;
    struct registry r;
    char layer[512];
    start(&r, false);
    push_blob(&r, r.bytes, MODEL_BYTES, r.digest);
    static const struct {
        const char *manifest, *layer;
    } kinds[] = {
        {OCI_MANIFEST, "application/vnd.docker.ai.gguf.v3"},
        {OCI_MANIFEST, "application/vnd.cncf.model.weight.v1.gguf"},
        {"application/vnd.docker.distribution.manifest.v2+json",
         "application/vnd.ollama.image.model"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        snprintf(layer, sizeof layer,
                 "{\"mediaType\": \"%s\", \"digest\": \"sha256:%s\", \"size\": %d}", kinds[i].layer,
                 r.digest, (int)MODEL_BYTES);
        push_manifest(&r, "latest", kinds[i].manifest, layer);
        BNT_SAYS(0, r.digest, "fetch", "--force", "--json", source(&r, ""));
    }
    assert_cached(&r, "model");
    server_stop(&r.server);
}

/* Damage found later is read again from the registry; a registry with accounts, even, is a mirror
 * of a server that is gone. */
static void registry_repairs_and_is_a_mirror(void **state)
{
    (void)state;
    struct registry r;
    char path[BNT_PATH_MAX], mirror[256], accounts[256];
    struct bnt_fetch_result got;
    struct bnt_err err;
    start(&r, true);
    push_model(&r, "v1");
    snprintf(accounts, sizeof accounts,
             "{\"auths\": {\"127.0.0.1:%d\": {\"auth\": \"dGVzdGVyOnA0c3M6dzByZA==\"}}}", r.port);
    assert_int_equal(setenv("DOCKER_AUTH_CONFIG", accounts, 1), 0);
    snprintf(mirror, sizeof mirror, "%s", source(&r, ""));
    const char *const mirrors[] = {mirror};
    const struct bnt_fetch_opts o = {
        .name = "a", .sha256 = r.digest, .mirrors = mirrors, .n_mirrors = 1, .connections = 4};
    snprintf(path, sizeof path, "http://127.0.0.1:%d/m.gguf", server_free_ports(1));
    if (server_fetch(path, &o, &got, NULL, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    assert_cached(&r, "a");
    BNT_SAYS(0, "/blob", "fetch", "--name", "b", "--force", source(&r, ":v1"));
    assert_int_equal(chmod(got.path, 0600), 0);
    int fd = open(got.path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "damage", 6, 9 << 20), 6);
    close(fd);
    BNT_SAYS(0, "repaired", "cache", "verify", "--repair", "b");
    assert_cached(&r, "b");
    server_stop(&r.server);
}

static const struct suite_test tests[] = {
    {.name = "registry_pushed_model_is_fetched_by_tag_title_and_digest",
     .body = pushed_model_is_fetched_by_tag_title_and_digest,
     .needs = "docker-registry",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "registry_transfer_goes_on_after_a_kill",
     .body = transfer_goes_on_after_a_kill,
     .needs = "docker-registry",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "registry_account_is_needed_and_never_shown",
     .body = account_is_needed_and_never_shown,
     .needs = "docker-registry, htpasswd",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "registry_lock_holds_what_the_tag_was",
     .body = lock_holds_what_the_tag_was,
     .needs = "docker-registry",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "registry_other_layouts_of_models_are_understood",
     .body = other_layouts_of_models_are_understood,
     .needs = "docker-registry",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {.name = "registry_repairs_and_is_a_mirror",
     .body = registry_repairs_and_is_a_mirror,
     .needs = "docker-registry, htpasswd",
     .tier = SUITE_INTEGRATION,
     .timeout_ms = 60000},
    {0},
};
const struct suite suite_registry = {"registry", tests, "resume"};
