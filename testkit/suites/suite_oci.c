/* Guards sources of registries: content that is not the one that the manifest names, a manifest
 * that is hostile or huge, an account or a token that leaves the registry and its token server, a
 * token that expires. Registry, token server and storage are the project's own servers, on
 * 127.0.0.1. */
#include "testkit/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/oci.h"
#include "fetch/settle.h"
#include "mock/bnt_mock.h"
#include "testkit/suites/cache_fixture.h"
#include "testkit/suites/transfer_fixture.h"

#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define PASSWORD "s3cr3t"
#define TOKEN "t0ken.t0ken"

static const char body[] = "the bytes of a model";

static void clean_environment(void)
{
    static const char *const names[] = {"BNT_OCI_HTTP",  "DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE",
                                        "DOCKER_CONFIG", "CURL_CA_BUNDLE",     "SSL_CERT_DIR",
                                        "SSL_CERT_FILE", "http_proxy",         "https_proxy",
                                        "HTTPS_PROXY",   "all_proxy",          "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(unsetenv(names[i]), 0);
    }
}

static struct bnt_mock_route text_route(const char *path, const char *text)
{
    return (struct bnt_mock_route){
        .path = path, .status = 200, .body = text, .body_bytes = strlen(text)};
}

/* "oci://HOST:PORT/" and the rest, of a server of ours. */
static const char *source(const struct bnt_mock_server *s, const char *rest)
{
    static char text[512];
    snprintf(text, sizeof text, "oci://%s/%s", strstr(bnt_mock_server_url(s), "://") + 3, rest);
    return text;
}

static enum bnt_status get(const char *text, const struct bnt_fetch_opts *o,
                           struct bnt_fetch_result *r, struct bnt_err *err)
{
    struct bnt_cache *c = fixture_cache();
    *err = (struct bnt_err){0};
    enum bnt_status st = bnt_fetch(c, text, o, r, err);
    bnt_cache_close(c);
    assert_null(strstr(err->msg, PASSWORD));
    assert_null(strstr(err->hint, PASSWORD));
    assert_null(strstr(err->msg, TOKEN));
    return st;
}

static const struct bnt_fetch_opts plain = {0};

/* A manifest of one layer, the model. */
static void one_layer(const char *digest, size_t size, char out[1024])
{
    snprintf(out, 1024,
             "{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST_TYPE "\",\"layers\":[{\"mediaType\":"
             "\"application/vnd.docker.ai.gguf.v3\",\"digest\":\"sha256:%s\",\"size\":%zu}]}",
             digest, size);
}

/* ---- references ---- */

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void references_mean_what_they_say(void **state)
{
    (void)state;
    static const struct {
        const char *text, *shown, *name, *url; /* shown NULL: refused */
    } cases[] = {
        {"oci://ghcr.io/org/m:v1", "oci://ghcr.io/org/m:v1", "m-v1", "https://ghcr.io/v2/org/m"},
        {"oci://h:5000/m", "oci://h:5000/m", "m", "https://h:5000/v2/m"},
        {"OCI://h/a/b/c#x/m.gguf", "oci://h/a/b/c#x/m.gguf", "m", "https://h/v2/a/b/c"},
        {"oci://h/m:t@sha256:" HEX "#a%20b.gguf", "oci://h/m:t@sha256:" HEX "#a%20b.gguf", "a-b",
         "https://h/v2/m"},
        {"oci://h/m#sha256:" HEX, "oci://h/m#sha256:" HEX, "m", "https://h/v2/m"},
        {"oci://docker.io/m", "oci://docker.io/m", "m",
         "https://registry-1.docker.io/v2/library/m"},
        {"oci://docker.io/ai/m", "oci://docker.io/ai/m", "m",
         "https://registry-1.docker.io/v2/ai/m"},
        {"oci://localhost:5000/m", "oci://localhost:5000/m", "m", "http://localhost:5000/v2/m"},
        {"oci://127.0.0.1/m", "oci://127.0.0.1/m", "m", "http://127.0.0.1/v2/m"},
        {"oci://[::1]:5/m", "oci://[::1]:5/m", "m", "http://[::1]:5/v2/m"},
        {"oci://127.evil.example/m", "oci://127.evil.example/m", "m",
         "https://127.evil.example/v2/m"},
        {"oci://", NULL, NULL, NULL},
        {"oci://h", NULL, NULL, NULL},
        {"oci://h/", NULL, NULL, NULL},
        {"oci://h/M", NULL, NULL, NULL},
        {"oci://h/a//b", NULL, NULL, NULL},
        {"oci://h/../m", NULL, NULL, NULL},
        {"oci://h/a..b", NULL, NULL, NULL},
        {"oci://me:secret@h/m", NULL, NULL, NULL},
        {"oci://h/m:", NULL, NULL, NULL},
        {"oci://h/m:-t", NULL, NULL, NULL},
        {"oci://h/m@sha256:12", NULL, NULL, NULL},
        {"oci://h/m@sha512:" HEX, NULL, NULL, NULL},
        {"oci://h/m?x", NULL, NULL, NULL},
        {"oci://h/m#", NULL, NULL, NULL},
        {"oci://h/m#%0d%0aX: y", NULL, NULL, NULL},
        {"oci://h/m x", NULL, NULL, NULL},
    };
    clean_environment();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct source s;
        enum bnt_status st = source_parse(cases[i].text, &s, NULL);
        if ((st == BNT_OK) != (cases[i].shown != NULL)) {
            fail_msg("%s: status %d", cases[i].text, st);
        }
        if (cases[i].shown) {
            assert_string_equal(s.shown, cases[i].shown);
            assert_string_equal(s.name, cases[i].name);
            assert_string_equal(s.url, cases[i].url);
        }
    }
}

/* Only this machine is trusted over http; others need a digest. */
static void http_needs_a_digest(void **state)
{
    (void)state;
    struct bnt_fetch_result r;
    struct bnt_err err;
    struct source s;
    const struct bnt_fetch_opts offline = {.offline = true};
    clean_environment();
    assert_int_equal(setenv("BNT_OCI_HTTP", "far.example:80, other", 1), 0);
    assert_int_equal(get("oci://far.example:80/m", &offline, &r, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.hint, "--sha256"));
    assert_int_equal(get("oci://far.example:80/m@sha256:" HEX, &offline, &r, &err), BNT_E_OFFLINE);
    assert_int_equal(source_parse("oci://far.example/m", &s, NULL), BNT_OK);
    assert_string_equal(s.url, "https://far.example/v2/m");
    assert_int_equal(source_parse("oci://localhost/m", &s, NULL), BNT_OK);
    assert_string_equal(s.url, "https://localhost/v2/m"); /* the list is another one now */
}

/* ---- layers ---- */

#define LAYER(type, digit, notes)                                                                  \
    "{\"mediaType\":\"" type "\",\"digest\":\"sha256:" digit                                       \
    "123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"size\":3" notes "}"
#define TITLE(text) ",\"annotations\":{\"org.opencontainers.image.title\":\"" text "\"}"
#define FILEPATH(text) ",\"annotations\":{\"org.cncf.model.filepath\":\"" text "\"}"
#define LAYERS(...) "{\"schemaVersion\":2,\"layers\":[" __VA_ARGS__ "]}"
#define OLLAMA "application/vnd.ollama.image."
#define CNCF "application/vnd.cncf.model.weight.v1."
#define BYTES "application/octet-stream"

static const struct {
    const char *manifest, *file; /* file: what is asked for, "" is to be chosen */
    enum bnt_status status;
    const char *found; /* the file; of an error, what it says */
} choices[] = {
    {LAYERS(LAYER(BYTES, "0", TITLE("a.GGUF")) "," LAYER(BYTES, "1", TITLE("README.md"))), "",
     BNT_OK, "a.GGUF"},
    {LAYERS(LAYER(OLLAMA "model", "0", "") "," LAYER(OLLAMA "template", "1", "")), "", BNT_OK,
     "sha256:0"},
    {LAYERS(LAYER(CNCF "gguf", "0", FILEPATH("d/m"))), "", BNT_OK, "d/m"},
    {LAYERS(LAYER(CNCF "raw", "0", FILEPATH("m.gguf")) "," LAYER(CNCF "raw", "1", FILEPATH("t"))),
     "", BNT_OK, "m.gguf"},
    {LAYERS(LAYER(CNCF "tar", "0", FILEPATH("m.gguf"))), "", BNT_E_NOT_FOUND,
     "m.gguf (" CNCF "tar)"},
    {LAYERS(LAYER(CNCF "tar", "0", FILEPATH("m.gguf"))), "m.gguf", BNT_OK, "m.gguf"},
    {LAYERS(LAYER(BYTES, "0", TITLE("a.gguf")) "," LAYER(BYTES, "1", TITLE("b.gguf"))), "",
     BNT_E_USAGE, "2 GGUF files; it has: a.gguf"},
    {LAYERS(LAYER(BYTES, "0", TITLE("a.gguf")) "," LAYER(BYTES, "1", TITLE("b.gguf"))), "b.gguf",
     BNT_OK, "b.gguf"},
    {LAYERS(LAYER(OLLAMA "license", "0", "")),
     "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", BNT_OK, "sha256:0"},
    {LAYERS(LAYER(BYTES, "0", TITLE("x\\u001b[31m.gguf"))), "", BNT_E_NOT_FOUND, "sha256:0"},
    {LAYERS(LAYER(BYTES, "0", TITLE("../x.gguf"))), "", BNT_E_NOT_FOUND, "sha256:0"},
    {LAYERS(""), "", BNT_E_NOT_FOUND, "no layers"},
    /* What no registry should send. */
    {"", "", BNT_E_FILE, "not JSON"},
    {"[1]", "", BNT_E_UNSUPPORTED, "kind of manifest"},
    {"{\"schemaVersion\":1,\"fsLayers\":[]}", "", BNT_E_UNSUPPORTED, "kind of manifest"},
    {"{\"layers\":{\"a\":1}}", "", BNT_E_UNSUPPORTED, "kind of manifest"},
    {"{\"layers\":[7,null]}", "", BNT_E_FILE, "no mediaType"},
    {"{\"layers\":[{\"mediaType\":\"a\",\"digest\":7,\"size\":1}]}", "", BNT_E_FILE, "no digest"},
    {"{\"layers\":[{\"mediaType\":\"a\",\"digest\":\"b\",\"size\":-1}]}", "", BNT_E_FILE, "size"},
    {"{\"layers\":[{\"mediaType\":\"" OLLAMA "model\",\"digest\":\"sha256:../../x\",\"size\":1}]}",
     "", BNT_E_UNSUPPORTED, "not sha256"},
    {"{\"layers\":[{\"mediaType\":\"" OLLAMA "model\",\"digest\":\"sha256:" HEX "\",\"size\":0}]}",
     "", BNT_E_FILE, "empty"},
};

static void layer_is_chosen_by_title_or_kind(void **state)
{
    (void)state;
    struct bnt_mock_route routes[2] = {{.path = "/v2/m/manifests/latest"}, {0}};
    clean_environment();
    struct bnt_mock_server *s = transfer_server(routes);
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        struct bnt_err err = {0};
        struct source_facts facts;
        struct source src;
        bnt_mock_server_hold(s);
        routes[0] = text_route("/v2/m/manifests/latest", choices[i].manifest);
        bnt_mock_server_go_on(s);
        assert_int_equal(source_parse(source(s, "m"), &src, NULL), BNT_OK);
        snprintf(src.oci.file, sizeof src.oci.file, "%s", choices[i].file);
        enum bnt_status st = settle_ask(&src, &plain, &facts, &err);
        const char *said = st == BNT_OK ? facts.file : err.msg;
        if (st != choices[i].status || !strstr(said, choices[i].found)) {
            fail_msg("%zu: status %d, '%s'", i, st, said);
        }
        assert_null(strchr(said, '\033'));
    }
    bnt_mock_server_stop(s);
}

static void index_of_one_is_followed(void **state)
{
    (void)state;
    char digest[BNT_SHA256_HEX], manifest[1024], hex[BNT_SHA256_HEX], index[2048], path[128];
    struct bnt_fetch_result r;
    struct bnt_err err;
    char blob[128];
    clean_environment();
    fixture_digest(body, digest);
    one_layer(digest, sizeof body - 1, manifest);
    fixture_digest(manifest, hex);
    snprintf(path, sizeof path, "/v2/m/manifests/sha256:%s", hex);
    snprintf(blob, sizeof blob, "/v2/m/blobs/sha256:%s", digest);
    int n = snprintf(index, sizeof index,
                     "{\"manifests\":[{\"digest\":\"sha256:" HEX
                     "\",\"platform\":{\"os\":\"unknown\",\"architecture\":\"unknown\"}},"
                     "{\"digest\":\"sha256:%s\",\"platform\":{\"architecture\":\"amd64\"}}]}",
                     hex);
    struct bnt_mock_route routes[] = {text_route("/v2/m/manifests/latest", index),
                                      text_route(path, manifest),
                                      text_route(blob, body),
                                      {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    assert_int_equal(get(source(s, "m"), &plain, &r, &err), BNT_OK);
    fixture_assert_holds(r.path, body);
    snprintf(index + n - 2, sizeof index - (size_t)n + 2,
             ",{\"digest\":\"sha256:" HEX "\",\"platform\":{\"architecture\":\"arm64\"}}]}");
    bnt_mock_server_hold(s);
    routes[0] = text_route("/v2/m/manifests/latest", index);
    bnt_mock_server_go_on(s);
    const struct bnt_fetch_opts other = {.name = "other"};
    assert_int_equal(get(source(s, "m"), &other, &r, &err), BNT_E_USAGE);
    assert_non_null(strstr(err.msg, "2 manifests"));
    assert_non_null(strstr(err.msg, HEX " arm64"));
    bnt_mock_server_stop(s);
}

/* ---- content ---- */

static void other_content_than_named_is_refused(void **state)
{
    (void)state;
    char digest[BNT_SHA256_HEX], manifest[1024], hex[BNT_SHA256_HEX], blob[128], pinned[128];
    struct bnt_fetch_result r;
    struct bnt_err err;
    clean_environment();
    fixture_digest(body, digest);
    one_layer(digest, sizeof body - 1, manifest);
    fixture_digest(manifest, hex);
    snprintf(blob, sizeof blob, "/v2/m/blobs/sha256:%s", digest);
    struct bnt_mock_route routes[] = {text_route("/v2/m/manifests/latest", manifest),
                                      text_route("/v2/m/manifests/sha256:" HEX, manifest),
                                      text_route(blob, "the bytes of a modem"),
                                      {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    assert_int_equal(get(source(s, "m"), &plain, &r, &err), BNT_E_DIGEST);
    assert_int_equal(get(source(s, "m@sha256:" HEX), &plain, &r, &err), BNT_E_DIGEST);
    assert_non_null(strstr(err.msg, "another manifest"));
    size_t before = bnt_mock_server_requests(s);
    const struct bnt_fetch_opts o = {.sha256 = HEX};
    assert_int_equal(get(source(s, "m"), &o, &r, &err), BNT_E_DIGEST);
    assert_int_equal(bnt_mock_server_requests(s), before + 1); /* known before the download */
    bnt_mock_server_hold(s);
    routes[2] = (struct bnt_mock_route){.path = blob, .status = 404};
    bnt_mock_server_go_on(s);
    assert_int_equal(get(source(s, "m"), &plain, &r, &err), BNT_E_NOT_FOUND);
    assert_int_equal(get(source(s, "absent"), &plain, &r, &err), BNT_E_NOT_FOUND);
    snprintf(pinned, sizeof pinned, "m@sha256:%s", hex);
    assert_int_equal(get(source(s, pinned), &plain, &r, &err), BNT_E_NOT_FOUND);
    bnt_mock_server_stop(s);
}

static void manifest_has_a_ceiling(void **state)
{
    (void)state;
    const size_t n = OCI_MANIFEST_MAX_BYTES + 1;
    char *text = malloc(n + 1);
    struct bnt_fetch_result r;
    struct bnt_err err;
    clean_environment();
    assert_non_null(text);
    memset(text, '[', n);
    text[n] = '\0';
    struct bnt_mock_route routes[] = {text_route("/v2/m/manifests/latest", text), {0}};
    struct bnt_mock_server *s = transfer_server(routes);
    assert_int_equal(get(source(s, "m"), &plain, &r, &err), BNT_E_NETWORK);
    assert_non_null(strstr(err.msg, "too large"));
    bnt_mock_server_hold(s);
    routes[0].body_bytes = n - 1; /* as deep as it is long */
    bnt_mock_server_go_on(s);
    assert_int_equal(get(source(s, "m"), &plain, &r, &err), BNT_E_FILE);
    bnt_mock_server_stop(s);
    free(text);
}

/* ---- accounts and tokens ---- */

/* A registry with TLS that wants a token, and another origin that gives tokens and stores blobs. */
struct guarded {
    struct bnt_mock_server *registry, *other;
    char digest[BNT_SHA256_HEX], manifest[1024], blob[128], challenge[512], location[256];
    struct bnt_mock_step manifest_steps[3], blob_steps[4];
    struct bnt_mock_route routes[3], others[4];
};

#define TOKEN_PATH "/token?service=reg%20x&scope=repository:m:pull"

static void start(struct guarded *g, const char *account)
{
    char one[BNT_PATH_MAX], two[BNT_PATH_MAX], accounts[512];
    clean_environment();
    *g = (struct guarded){.registry = NULL};
    assert_int_equal(setenv("BNT_OCI_HTTP", "", 1), 0);
    fixture_digest(body, g->digest);
    one_layer(g->digest, sizeof body - 1, g->manifest);
    snprintf(g->blob, sizeof g->blob, "/v2/m/blobs/sha256:%s", g->digest);
    g->others[0] = text_route(TOKEN_PATH, "{\"token\":\"" TOKEN "\",\"expires_in\":60}");
    g->others[1] = text_route("/stored", body);
    fixture_path(one, "one.pem");
    fixture_path(two, "two.pem");
    assert_int_equal(bnt_mock_server_start(g->others, two, &g->other, NULL), BNT_OK);
    snprintf(g->challenge, sizeof g->challenge,
             "WWW-Authenticate: Bearer realm=\"%s/token\",service=\"reg x\","
             "scope=\"repository:m:pull\",error=\"invalid_token\"\r\n",
             bnt_mock_server_url(g->other));
    snprintf(g->location, sizeof g->location, "Location: %s/stored\r\n",
             bnt_mock_server_url(g->other));
    g->manifest_steps[0] = (struct bnt_mock_step){.status = 401, .headers = g->challenge};
    g->manifest_steps[1] = (struct bnt_mock_step){.status = 200};
    g->blob_steps[0] = (struct bnt_mock_step){.status = 307, .headers = g->location};
    g->routes[0] = text_route("/v2/m/manifests/latest", g->manifest);
    g->routes[0].steps = g->manifest_steps;
    g->routes[1] = text_route(g->blob, body);
    g->routes[1].steps = g->blob_steps;
    assert_int_equal(bnt_mock_server_start(g->routes, one, &g->registry, NULL), BNT_OK);
    fixture_trust(one, two);
    snprintf(accounts, sizeof accounts, "{\"auths\":{\"%s\":%s}}",
             bnt_mock_server_url(g->registry) + strlen("https://"), account);
    assert_int_equal(setenv("DOCKER_AUTH_CONFIG", accounts, 1), 0);
}

static void stop(struct guarded *g)
{
    bnt_mock_server_stop(g->registry);
    bnt_mock_server_stop(g->other);
}

/* Whether request k of the server has this line, "" for any line of that kind. */
static bool authorized(struct bnt_mock_server *s, size_t k, const char *value)
{
    char head[8192], line[256];
    bnt_mock_server_request(s, k, head, sizeof head);
    assert_string_not_equal(head, "");
    snprintf(line, sizeof line, "\r\nAuthorization: %s", value);
    return strstr(head, line) != NULL;
}

/* base64 of me:s3cr3t */
#define BASIC "bWU6czNjcjN0"

static void account_goes_to_the_token_server_and_the_token_to_the_registry(void **state)
{
    (void)state;
    struct guarded g;
    struct bnt_fetch_result r;
    struct bnt_err err;
    start(&g, "{\"auth\":\"" BASIC "\"}");
    if (get(source(g.registry, "m"), &plain, &r, &err) != BNT_OK) {
        fail_msg("%s; %s", err.msg, err.hint);
    }
    fixture_assert_holds(r.path, body);
    assert_int_equal(bnt_mock_server_requests(g.registry), 3);
    assert_false(authorized(g.registry, 0, ""));
    assert_true(authorized(g.registry, 1, "Bearer " TOKEN "\r\n"));
    assert_true(authorized(g.registry, 2, "Bearer " TOKEN "\r\n"));
    assert_int_equal(bnt_mock_server_requests(g.other), 2);
    assert_true(authorized(g.other, 0, "Basic " BASIC "\r\n"));
    assert_false(authorized(g.other, 1, "")); /* the storage */
    stop(&g);
}

static void token_that_expired_is_asked_for_again(void **state)
{
    (void)state;
    struct guarded g;
    struct bnt_fetch_result r;
    struct bnt_err err;
    start(&g, "{\"username\":\"me\",\"password\":\"" PASSWORD "\"}");
    /* Of the blob: refused, the question who gives tokens, and where it is. */
    g.blob_steps[2] = g.blob_steps[0];
    g.blob_steps[0] = g.blob_steps[1] = g.manifest_steps[0];
    if (get(source(g.registry, "m"), &plain, &r, &err) != BNT_OK) {
        fail_msg("%s; %s", err.msg, err.hint);
    }
    fixture_assert_holds(r.path, body);
    assert_int_equal(bnt_mock_server_requests(g.other), 3); /* two tokens, the blob */
    /* A new token that is refused, too, is the end. */
    const struct bnt_fetch_opts force = {.force = true};
    bnt_mock_server_hold(g.registry);
    g.blob_steps[2] = g.manifest_steps[0];
    bnt_mock_server_go_on(g.registry);
    assert_int_equal(get(source(g.registry, "m"), &force, &r, &err), BNT_E_AUTH);
    stop(&g);
}

static void causes_of_a_refusal_are_told_apart(void **state)
{
    (void)state;
    struct guarded g;
    struct bnt_fetch_result r;
    struct bnt_err err;
    static const struct {
        const char *accounts, *hint;
        enum bnt_status status;
    } cases[] = {
        {"{}", "docker login", BNT_E_AUTH},
        {"{\"credsStore\":\"desktop\",\"auths\":{}}", "helpers", BNT_E_AUTH},
        {"{\"auths\":{\"127.0.0.1\":{\"auth\":\"" BASIC "\"}}}", "docker login", BNT_E_AUTH},
        {"{\"auths\": \"" PASSWORD, "bnt env", BNT_E_FILE},
    };
    start(&g, "{}");
    g.manifest_steps[1] = g.manifest_steps[0];
    bnt_mock_server_hold(g.other);
    g.others[0] = (struct bnt_mock_route){.path = TOKEN_PATH, .status = 401};
    bnt_mock_server_go_on(g.other);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(setenv("DOCKER_AUTH_CONFIG", cases[i].accounts, 1), 0);
        enum bnt_status st = get(source(g.registry, "m"), &plain, &r, &err);
        if (st != cases[i].status || !strstr(err.hint, cases[i].hint)) {
            fail_msg("%zu: %d %s; %s", i, st, err.msg, err.hint);
        }
    }
    stop(&g);
}

/* Realms to which nothing is sent: over http, with a login in them, nothing at all. */
static void account_is_not_sent_to_a_doubtful_token_server(void **state)
{
    (void)state;
    struct guarded g;
    struct bnt_fetch_result r;
    struct bnt_err err;
    static const char *const challenges[] = {
        "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/token\"\r\n",
        "WWW-Authenticate: Bearer realm=\"https://a@127.0.0.1:1/token\"\r\n",
        "WWW-Authenticate: Bearer realm=\"ftp://127.0.0.1:1/\"\r\n",
        "WWW-Authenticate: Bearer service=\"x\"\r\n",
        "WWW-Authenticate: Negotiate\r\n",
        "",
    };
    start(&g, "{\"auth\":\"" BASIC "\"}");
    for (size_t i = 0; i < sizeof challenges / sizeof challenges[0]; i++) {
        size_t before = bnt_mock_server_requests(g.registry);
        bnt_mock_server_hold(g.registry);
        g.manifest_steps[0].headers = challenges[i];
        g.manifest_steps[1] = g.manifest_steps[0];
        bnt_mock_server_go_on(g.registry);
        assert_int_equal(get(source(g.registry, "m"), &plain, &r, &err), BNT_E_AUTH);
        assert_int_equal(bnt_mock_server_requests(g.registry), before + 1);
        assert_false(authorized(g.registry, before, ""));
    }
    assert_int_equal(bnt_mock_server_requests(g.other), 0);
    stop(&g);
}

/* A registry may keep its manifests elsewhere, too. */
static void manifest_behind_a_redirect_is_read_without_the_token(void **state)
{
    (void)state;
    struct guarded g;
    struct bnt_fetch_result r;
    struct bnt_err err;
    char to[300];
    start(&g, "{\"auth\":\"" BASIC "\"}");
    bnt_mock_server_hold(g.other);
    g.others[2] = text_route("/manifest", g.manifest);
    bnt_mock_server_go_on(g.other);
    snprintf(to, sizeof to, "Location: %s/manifest\r\n", bnt_mock_server_url(g.other));
    bnt_mock_server_hold(g.registry);
    g.manifest_steps[1] = (struct bnt_mock_step){.status = 307, .headers = to};
    bnt_mock_server_go_on(g.registry);
    if (get(source(g.registry, "m"), &plain, &r, &err) != BNT_OK) {
        fail_msg("%s", err.msg);
    }
    fixture_assert_holds(r.path, body);
    assert_true(authorized(g.other, 0, "Basic")); /* the token server; then the manifest */
    for (size_t k = 1; k < bnt_mock_server_requests(g.other); k++) {
        assert_false(authorized(g.other, k, ""));
    }
    assert_int_equal(bnt_mock_server_requests(g.other), 3);
    /* To http, and to itself without an end. */
    static const char *const ends[] = {"Location: http://127.0.0.1:1/m\r\n",
                                       "Location: /v2/m/manifests/latest\r\n"};
    for (size_t i = 0; i < 2; i++) {
        bnt_mock_server_hold(g.registry);
        g.manifest_steps[0] = (struct bnt_mock_step){.status = 302, .headers = ends[i]};
        for (size_t k = 1; k < sizeof g.manifest_steps / sizeof g.manifest_steps[0] - 1; k++) {
            g.manifest_steps[k] = g.manifest_steps[0];
        }
        bnt_mock_server_go_on(g.registry);
        const struct bnt_fetch_opts o = {.force = true};
        const size_t before = bnt_mock_server_requests(g.registry);
        assert_int_equal(get(source(g.registry, "m"), &o, &r, &err), BNT_E_FAILED);
        assert_in_range(bnt_mock_server_requests(g.registry), before + 1, before + 6);
    }
    stop(&g);
}

static const struct suite_test tests[] = {
    {.name = "oci_references_mean_what_they_say", .body = references_mean_what_they_say},
    {.name = "oci_http_needs_a_digest", .body = http_needs_a_digest},
    {.name = "oci_layer_is_chosen_by_title_or_kind", .body = layer_is_chosen_by_title_or_kind},
    {.name = "oci_index_of_one_is_followed", .body = index_of_one_is_followed},
    {.name = "oci_other_content_than_named_is_refused",
     .body = other_content_than_named_is_refused},
    {.name = "oci_manifest_has_a_ceiling", .body = manifest_has_a_ceiling},
    {.name = "oci_account_goes_to_the_token_server_and_the_token_to_the_registry",
     .body = account_goes_to_the_token_server_and_the_token_to_the_registry},
    {.name = "oci_manifest_behind_a_redirect_is_read_without_the_token",
     .body = manifest_behind_a_redirect_is_read_without_the_token},
    {.name = "oci_token_that_expired_is_asked_for_again",
     .body = token_that_expired_is_asked_for_again},
    {.name = "oci_causes_of_a_refusal_are_told_apart", .body = causes_of_a_refusal_are_told_apart},
    {.name = "oci_account_is_not_sent_to_a_doubtful_token_server",
     .body = account_is_not_sent_to_a_doubtful_token_server},
    {0},
};
const struct suite suite_oci = {"oci", tests, "oci_manifest oci_redirect"};
