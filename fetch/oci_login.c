/* The account of a registry, and the token flow: 401 with a challenge, a token server that the
 * challenge names, a token for what was asked. */
#include "fetch/oci_login.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/crypto_lib.h"
#include "base/env.h"
#include "base/file.h"
#include "base/json_load.h"
#include "fetch/ask.h"
#include "fetch/url_text.h"

#define ACCOUNTS_MAX_BYTES (1u << 20)
#define TOKEN_ANSWER_MAX_BYTES (64u << 10)

bool oci_is_loopback(const char *registry)
{
    const char *host = registry;
    size_t n = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    return (n == 9 && strncasecmp(host, "localhost", n) == 0) ||
           (n == 5 && strncmp(host, "[::1]", n) == 0) ||
           (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n);
}

/* ---- accounts ---- */

struct account {
    char text[SOURCE_TOKEN_MAX]; /* USER:PASSWORD, or a token; "" when there is none */
    bool is_token;
    bool unused; /* a helper or an identity token would be asked by other tools */
};

/* The file of accounts. False when there is no home. */
static bool accounts_path(char out[BNT_PATH_MAX])
{
    const char *file = bnt_env("REGISTRY_AUTH_FILE"), *folder = bnt_env("DOCKER_CONFIG");
    const char *home = bnt_env("HOME");
    if (file) {
        return bnt_path_format(out, NULL, "%s", file) == BNT_OK;
    }
    if (folder) {
        return bnt_path_format(out, NULL, "%s/config.json", folder) == BNT_OK;
    }
    return home && bnt_path_format(out, NULL, "%s/.docker/config.json", home) == BNT_OK;
}

/* *out is NULL when there are no accounts. The parser's own words might quote a password. */
static enum bnt_status load_accounts(json_t **out, struct bnt_err *err)
{
    char path[BNT_PATH_MAX] = "DOCKER_AUTH_CONFIG";
    struct bnt_buf text = BNT_BUF(ACCOUNTS_MAX_BYTES);
    const char *given = bnt_env("DOCKER_AUTH_CONFIG");
    enum bnt_status st = BNT_OK;
    *out = NULL;
    if (!given && (!accounts_path(path) || access(path, F_OK) != 0)) {
        return BNT_OK;
    }
    if (!given) {
        st = bnt_file_read(path, &text, err);
        given = bnt_buf_view(&text);
    }
    if (st == BNT_OK) {
        *out = bnt_json_load(given, strlen(given), 0, NULL);
    }
    if (st == BNT_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        st = bnt_err_set(err, BNT_E_FILE, "%.300s: the accounts of registries are not JSON", path);
        bnt_err_hint(err, "docker login REGISTRY writes this file; see: bnt env");
    }
    bnt_buf_release(&text);
    return st;
}

/* Docker's own registry has three names. */
static bool is_docker(const char *host, size_t n)
{
    static const char *const names[] = {"docker.io", "index.docker.io", "registry-1.docker.io"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == n && strncasecmp(host, names[i], n) == 0) {
            return true;
        }
    }
    return false;
}

/* How well a key of "auths" fits: 0 not at all, else the more the longer the path it names. Keys
 * are HOST, https://HOST/v1/ or HOST/PATH. */
static size_t fit(const char *key, const struct oci_ref *ref)
{
    const char *scheme = strstr(key, "://");
    const char *host = scheme ? scheme + 3 : key;
    size_t n = strcspn(host, "/");
    const char *path = host + n + (host[n] == '/');
    const size_t n_registry = strlen(ref->registry);
    const bool same = n == n_registry && strncasecmp(host, ref->registry, n) == 0;
    if (!same && !(is_docker(host, n) && is_docker(ref->registry, n_registry))) {
        return 0;
    }
    if (strcmp(path, "v1/") == 0 || strcmp(path, "v2/") == 0 || strcmp(path, "v1") == 0) {
        path = "";
    }
    size_t k = strlen(path);
    const bool below = strncmp(path, ref->repo, k) == 0 && (ref->repo[k] == '/' || !ref->repo[k]);
    return k == 0 ? 1 : below ? 1 + k : 0;
}

static const json_t *find_account(const json_t *accounts, const struct oci_ref *ref)
{
    const json_t *found = NULL;
    const char *key;
    json_t *value;
    size_t best = 0;
    json_object_foreach(json_object_get(accounts, "auths"), key, value)
    {
        size_t n = fit(key, ref);
        if (n > best && json_object_size(value) > 0) {
            found = value;
            best = n;
        }
    }
    return found;
}

/* The bytes that base64 stands for, as text; "" when they are none. */
static void decode_base64(const char *text, char out[SOURCE_TOKEN_MAX])
{
    size_t n = strlen(text);
    out[0] = '\0';
    if (n == 0 || n % 4 != 0 || n / 4 * 3 >= SOURCE_TOKEN_MAX) {
        return;
    }
    const struct crypto_lib *lib = NULL;
    if (crypto_lib_load(&lib, NULL) != BNT_OK) {
        return;
    }
    int got = lib->decode_base64((unsigned char *)out, (const unsigned char *)text, (int)n);
    got -= got > 0 ? (text[n - 1] == '=') + (text[n - 2] == '=') : 0;
    out[got > 0 ? got : 0] = '\0';
}

static void take_account(const json_t *entry, struct account *out)
{
    const char *auth = json_string_value(json_object_get(entry, "auth"));
    const char *user = json_string_value(json_object_get(entry, "username"));
    const char *password = json_string_value(json_object_get(entry, "password"));
    const char *token = json_string_value(json_object_get(entry, "registrytoken"));
    const char *identity = json_string_value(json_object_get(entry, "identitytoken"));
    if (token && token[0] && strlen(token) < sizeof out->text) {
        snprintf(out->text, sizeof out->text, "%s", token);
        out->is_token = true;
    } else if (identity && identity[0]) {
        out->unused = true;
    } else if (auth && auth[0]) {
        decode_base64(auth, out->text);
    } else if (user && password &&
               snprintf(out->text, sizeof out->text, "%s:%s", user, password) >=
                   (int)sizeof out->text) {
        out->text[0] = '\0';
    }
    for (const char *p = out->text; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            out->text[0] = '\0'; /* no line of a header */
            break;
        }
    }
}

static enum bnt_status find(const struct source *s, struct account *out, struct bnt_err *err)
{
    json_t *accounts;
    *out = (struct account){.is_token = false};
    if (s->kind == SOURCE_HTTP && !oci_is_loopback(s->oci.registry)) {
        return BNT_OK; /* everybody on the way could read it */
    }
    enum bnt_status st = load_accounts(&accounts, err);
    const json_t *entry = find_account(accounts, &s->oci);
    if (entry) {
        take_account(entry, out);
    } else if (json_object_get(accounts, "credsStore") ||
               json_object_get(json_object_get(accounts, "credHelpers"), s->oci.registry)) {
        out->unused = true;
    }
    json_decref(accounts);
    return st;
}

/* ---- challenges ---- */

/* A parameter of a challenge: name="value" or name=value, by comma. */
static bool parameter(const char *text, const char *name, char *out, size_t size)
{
    while (*text) {
        text += strspn(text, ", \t");
        size_t n = strcspn(text, "=, \t");
        const char *value = text + n + 1;
        if (text[n] != '=') {
            text += n; /* a word: the next scheme */
            continue;
        }
        const bool quoted = *value == '"';
        value += quoted;
        size_t k = strcspn(value, quoted ? "\"" : ", \t");
        if (n == strlen(name) && strncasecmp(text, name, n) == 0) {
            return snprintf(out, size, "%.*s", (int)k, value) < (int)size;
        }
        text = value + k + (quoted && value[k] == '"');
    }
    return false;
}

/* What follows the word of a scheme in a list of challenges, or NULL. */
static const char *after_word(const char *text, const char *scheme)
{
    size_t n = strlen(scheme);
    for (const char *p = text; *p; p++) {
        const bool begins = p == text || p[-1] == ' ' || p[-1] == ',';
        if (begins && strncasecmp(p, scheme, n) == 0 && (p[n] == ' ' || p[n] == '\0')) {
            return p + n;
        }
    }
    return NULL;
}

static enum bnt_status bad_server(const struct source *s, const char *what, struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(err, BNT_E_AUTH, "%.300s: %s", s->shown, what);
    bnt_err_hint(err, "no account is sent there; ask who runs the registry");
    return st;
}

/* Where the token server is, and what it is asked for. It is https; only a registry of this machine
 * over http may name one of this machine over http. */
static enum bnt_status token_url(const struct source *s, const char *challenge,
                                 char out[SOURCE_URL_MAX], struct bnt_err *err)
{
    char realm[ASK_VALUE_MAX], service[512], scope[1024];
    if (!parameter(challenge, "realm", realm, sizeof realm)) {
        return bad_server(s, "the registry wants a token and does not say of whom", err);
    }
    const bool local = s->kind == SOURCE_HTTP && strncasecmp(realm, "http://", 7) == 0 &&
                       oci_is_loopback(s->oci.registry);
    char host[256] = "";
    snprintf(host, sizeof host, "%.*s", local ? (int)strcspn(realm + 7, "/?") : 0,
             local ? realm + 7 : "");
    const size_t scheme = local ? 7 : 8;
    if ((strncasecmp(realm, "https://", 8) != 0 && !(local && oci_is_loopback(host))) ||
        memchr(realm + scheme, '@', strcspn(realm + scheme, "/?")) || strpbrk(realm, " #\t")) {
        return bad_server(s, "the registry names a token server that is not https", err);
    }
    snprintf(out, SOURCE_URL_MAX, "%s%c", realm, strchr(realm, '?') ? '&' : '?');
    bool fits = true;
    if (parameter(challenge, "service", service, sizeof service)) {
        snprintf(out + strlen(out), 16, "service=");
        fits = url_append(out, SOURCE_URL_MAX, strlen(out), service, "");
        snprintf(out + strlen(out), 2, "&");
    }
    if (!parameter(challenge, "scope", scope, sizeof scope)) {
        snprintf(scope, sizeof scope, "repository:%s:pull", s->oci.repo);
    }
    snprintf(out + strlen(out), 16, "scope=");
    fits = fits && url_append(out, SOURCE_URL_MAX, strlen(out), scope, ":/,");
    return fits ? BNT_OK : bad_server(s, "the registry's challenge is too long", err);
}

static enum bnt_status take_token(struct source *s, const struct ask *a, struct bnt_err *err)
{
    json_t *answer = bnt_json_load(bnt_buf_view(&a->body), a->body.len, 0, NULL);
    const char *token = json_string_value(json_object_get(answer, "token"));
    token = token ? token : json_string_value(json_object_get(answer, "access_token"));
    bool good = token && token[0] && strlen(token) < sizeof s->token;
    for (const char *p = token; good && *p; p++) {
        good = (unsigned char)*p > ' ' && (unsigned char)*p < 0x7f;
    }
    if (good) {
        snprintf(s->token, sizeof s->token, "%s", token);
        s->basic = false;
    }
    json_decref(answer);
    return good ? BNT_OK
                : bnt_err_set(err, BNT_E_AUTH, "%.300s: the token server gives no token", s->shown);
}

static enum bnt_status ask_token(struct source *s, const char *challenge,
                                 const struct account *account, const struct bnt_fetch_opts *opts,
                                 struct bnt_err *err)
{
    char url[SOURCE_URL_MAX], shown[BNT_CACHE_SOURCE_MAX + 32];
    snprintf(shown, sizeof shown, "the token server of %s", s->shown);
    enum bnt_status st = token_url(s, challenge, url, err);
    if (st != BNT_OK) {
        return st;
    }
    struct ask a = {.url = url,
                    .shown = shown,
                    .token = account->text,
                    .basic = true,
                    .persists = true,
                    .opts = opts,
                    .body_max_bytes = TOKEN_ANSWER_MAX_BYTES};
    st = ask(&a, err);
    if (st == BNT_OK && a.code != 200) {
        st = ask_refused(&a, err);
        if (st == BNT_E_AUTH) {
            oci_login_hint(s, err);
        }
    } else if (st == BNT_OK) {
        st = take_token(s, &a, err);
    }
    bnt_buf_release(&a.body);
    return st;
}

void oci_login_hint(const struct source *s, struct bnt_err *err)
{
    struct account account;
    (void)find(s, &account, NULL);
    if (account.text[0]) {
        bnt_err_hint(err, "the account for %.100s may not read this", s->oci.registry);
    } else if (account.unused) {
        bnt_err_hint(err,
                     "credential helpers and identity tokens are not used; put USER:PASSWORD of "
                     "%.100s into DOCKER_AUTH_CONFIG, as bnt env says",
                     s->oci.registry);
    } else {
        bnt_err_hint(err,
                     "docker login %.100s, or DOCKER_AUTH_CONFIG, gives an account; see: bnt env",
                     s->oci.registry);
    }
}

enum bnt_status oci_login(struct source *s, const char *challenge,
                          const struct bnt_fetch_opts *opts, struct bnt_err *err)
{
    struct account account;
    const char *bearer = after_word(challenge, "Bearer");
    enum bnt_status st = find(s, &account, err);
    s->token[0] = '\0';
    if (st != BNT_OK) {
        return st;
    }
    if (account.is_token || (!bearer && after_word(challenge, "Basic") && account.text[0])) {
        memcpy(s->token, account.text, sizeof s->token);
        s->basic = !account.is_token;
        return BNT_OK;
    }
    if (bearer) {
        return ask_token(s, bearer, &account, opts, err);
    }
    st = bnt_err_set(err, BNT_E_AUTH, "%.300s: the registry wants an account", s->shown);
    oci_login_hint(s, err);
    return st;
}
