/* The hub's protocol, as its own tools use it: HEAD of /REPO/resolve/REV/FILE tells commit, digest
 * and size in headers; /api/models/REPO/tree/REV lists files; a folder per repository keeps what
 * was downloaded, large files under their SHA-256. */
#include "fetch/hub.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/env.h"
#include "base/json_load.h"
#include "base/utf8.h"
#include "fetch/ask.h"
#include "fetch/family.h"
#include "fetch/fetch_stop.h"
#include "fetch/settle.h"
#include "fetch/url_text.h"

#define DEFAULT_ENDPOINT "https://huggingface.co"
#define MAX_REDIRECTS 3
#define MAX_PAGES 20

/* ---- environment ---- */

/* Without a slash at its end. */
static void endpoint(char out[512])
{
    const char *given = bnt_env("HF_ENDPOINT");
    snprintf(out, 512, "%s", given ? given : DEFAULT_ENDPOINT);
    for (size_t n = strlen(out); n > 0 && out[n - 1] == '/'; n--) {
        out[n - 1] = '\0';
    }
}

/* $HF_HOME or its default; false when there is no home. */
static bool hub_home(char out[BNT_PATH_MAX])
{
    const char *home = bnt_env("HF_HOME"), *xdg = bnt_env("XDG_CACHE_HOME");
    if (home) {
        return bnt_path_format(out, NULL, "%s", home) == BNT_OK;
    }
    if (xdg) {
        return bnt_path_format(out, NULL, "%s/huggingface", xdg) == BNT_OK;
    }
    home = bnt_env("HOME");
    return home && bnt_path_format(out, NULL, "%s/.cache/huggingface", home) == BNT_OK;
}

/* A token is a line of printable characters; what is none is not sent. */
static void keep_token(const char *text, size_t n, char out[SOURCE_TOKEN_MAX])
{
    while (n > 0 && isspace((unsigned char)text[n - 1])) {
        n--;
    }
    while (n > 0 && isspace((unsigned char)*text)) {
        text++;
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)text[i] <= ' ' || (unsigned char)text[i] >= 0x7f) {
            n = 0;
        }
    }
    snprintf(out, SOURCE_TOKEN_MAX, "%.*s", n < SOURCE_TOKEN_MAX ? (int)n : 0, text);
}

static void find_token(const char *url, char out[SOURCE_TOKEN_MAX])
{
    char path[BNT_PATH_MAX], home[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(4096);
    const char *given = bnt_env("HF_TOKEN"), *file = bnt_env("HF_TOKEN_PATH");
    out[0] = '\0';
    if (strncasecmp(url, "https://", 8) != 0) {
        return; /* everybody on the way could read it */
    }
    if (given) {
        keep_token(given, strlen(given), out);
        return;
    }
    if (!file && hub_home(home) && bnt_path_format(path, NULL, "%s/token", home) == BNT_OK) {
        file = path;
    }
    if (file && bnt_file_read(file, &text, NULL) == BNT_OK) {
        keep_token(bnt_buf_view(&text), text.len, out);
    }
    bnt_buf_release(&text);
}

bool hub_is_offline(const struct bnt_fetch_opts *opts)
{
    return opts->offline || bnt_env_switch("HF_HUB_OFFLINE") == 1;
}

/* ---- references ---- */

/* Length of a part of a repository's name, 0 when it is none. */
static size_t name_part(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return isalnum((unsigned char)text[0]) ? n : 0;
}

/* Length of "org/name", 0 when the text does not begin with one. */
static size_t repository(const char *text)
{
    size_t org = name_part(text);
    size_t name = org && text[org] == '/' ? name_part(text + org + 1) : 0;
    return name ? org + 1 + name : 0;
}

bool hub_is_repository(const char *text)
{
    size_t n = repository(text);
    if (n == 0 || (n > 5 && strncasecmp(text + n - 5, ".gguf", 5) == 0)) {
        return false;
    }
    return text[n] == '\0' ||
           (text[n] == ':' && name_part(text + n + 1) == strlen(text + n + 1) && text[n + 1]);
}

static bool keep_part(char *out, size_t size, const char *text, size_t n)
{
    if (n == 0 || n >= size) {
        return false;
    }
    memcpy(out, text, n);
    out[n] = '\0';
    return url_decode(out) && !strstr(out, "..") && !strpbrk(out, "\\\r\n?#") &&
           bnt_utf8_valid(out, strlen(out)) == strlen(out); /* the hub lists files in JSON */
}

enum bnt_status hub_parse(const char *rest, struct hub_ref *out, struct bnt_err *err)
{
    *out = (struct hub_ref){0};
    size_t n = repository(rest);
    bool good = n > 0 && n < sizeof out->repo;
    if (good) {
        memcpy(out->repo, rest, n);
        rest += n;
    }
    if (good && *rest == '@') {
        n = strcspn(rest + 1, "/:");
        good = keep_part(out->rev, sizeof out->rev, rest + 1, n);
        rest += n + 1;
    }
    if (good && *rest == ':') {
        n = strlen(rest + 1);
        good = name_part(rest + 1) == n && keep_part(out->quant, sizeof out->quant, rest + 1, n);
    } else if (good && *rest == '/') {
        n = strlen(rest + 1);
        good = keep_part(out->file, sizeof out->file, rest + 1, n) && out->file[0] != '/';
    } else {
        good = good && *rest == '\0';
    }
    if (good) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "this is no file of the model hub");
    bnt_err_hint(err,
                 "write hf://ORG/REPO/FILE, hf://ORG/REPO@REVISION/FILE or hf://ORG/REPO:QUANT");
    return st;
}

static enum bnt_status too_long(struct bnt_err *err)
{
    return bnt_err_set(err, BNT_E_USAGE, "the source is too long");
}

enum bnt_status hub_show(const struct hub_ref *ref, char out[BNT_CACHE_SOURCE_MAX],
                         struct bnt_err *err)
{
    const size_t size = BNT_CACHE_SOURCE_MAX;
    snprintf(out, size, "hf://%s%s", ref->repo, ref->rev[0] ? "@" : "");
    bool fits = url_append(out, size, strlen(out), ref->rev, "");
    size_t n = strlen(out);
    if (ref->quant[0]) {
        snprintf(out + n, size - n, ":%s", ref->quant);
    } else if (ref->file[0]) {
        fits = fits && url_append(out, size, n, "/", "/") &&
               url_append(out, size, n + 1, ref->file, "/");
    }
    return fits ? BNT_OK : too_long(err);
}

enum bnt_status hub_url(const struct hub_ref *ref, char out[SOURCE_URL_MAX], struct bnt_err *err)
{
    char base[512];
    endpoint(base);
    snprintf(out, SOURCE_URL_MAX, "%s/%s", base, ref->repo);
    if (!ref->file[0]) {
        return BNT_OK;
    }
    size_t n = strlen(out);
    snprintf(out + n, SOURCE_URL_MAX - n, "/resolve/");
    bool fits = url_append(out, SOURCE_URL_MAX, strlen(out), ref->rev[0] ? ref->rev : "main", "");
    n = strlen(out);
    fits = fits && url_append(out, SOURCE_URL_MAX, n, "/", "/") &&
           url_append(out, SOURCE_URL_MAX, n + 1, ref->file, "/");
    return fits ? BNT_OK : too_long(err);
}

/* ---- questions ---- */

static enum bnt_status refused(const struct ask *a, const struct hub_ref *ref, struct bnt_err *err)
{
    enum bnt_status st = ask_refused(a, err);
    if (st == BNT_E_AUTH) {
        bnt_err_hint(err,
                     "set HF_TOKEN to a token that may read %s; some models want their terms "
                     "to be accepted on their page first",
                     ref->repo);
    } else if (st == BNT_E_NOT_FOUND) {
        bnt_err_hint(err, "check the spelling of repository, revision and file");
    }
    return st;
}

/* A redirect within the hub, as a renamed repository gives it: the new URL. */
static bool moved_within(const char *location, char url[SOURCE_URL_MAX])
{
    char base[512];
    endpoint(base);
    size_t n = strlen(base);
    if (location[0] == '/' && location[1] != '/') {
        return snprintf(url, SOURCE_URL_MAX, "%s%s", base, location) < SOURCE_URL_MAX;
    }
    if (strncmp(location, base, n) != 0 || location[n] != '/') {
        return false;
    }
    return snprintf(url, SOURCE_URL_MAX, "%s", location) < SOURCE_URL_MAX;
}

static bool is_commit(const char *text)
{
    size_t n = strspn(text, "0123456789abcdef");
    return n >= 40 && n < HUB_COMMIT_MAX && text[n] == '\0';
}

enum { COMMIT, ETAG, SIZE, LOCATION, N_HEADERS };

static void take_facts(const struct ask_header *h, struct source_facts *out)
{
    if (is_commit(h[COMMIT].value)) {
        snprintf(out->revision, sizeof out->revision, "%.64s", h[COMMIT].value);
    }
    const char *etag = h[ETAG].value;
    size_t quoted = etag[0] == '"';
    if (strlen(etag) == 64 + 2 * quoted) {
        char hex[BNT_SHA256_HEX];
        snprintf(hex, sizeof hex, "%.64s", etag + quoted);
        if (bnt_sha256_is_hex(hex) && strspn(hex, "0123456789abcdef") == 64) {
            memcpy(out->sha256, hex, sizeof hex);
        }
    }
    if (out->sha256[0] && isdigit((unsigned char)h[SIZE].value[0])) {
        const uint64_t size = strtoull(h[SIZE].value, NULL, 10);
        out->size = size <= INT64_MAX ? size : 0; /* more says nothing */
    }
}

/* HEAD of the file that `ref` names. */
static enum bnt_status ask_file(const struct hub_ref *ref, const struct bnt_fetch_opts *opts,
                                struct source_facts *out, struct bnt_err *err)
{
    char url[SOURCE_URL_MAX], shown[BNT_CACHE_SOURCE_MAX], token[SOURCE_TOKEN_MAX];
    struct ask_header h[N_HEADERS] = {{.name = "x-repo-commit"},
                                      {.name = "x-linked-etag"},
                                      {.name = "x-linked-size"},
                                      {.name = "location"}};
    enum bnt_status st = hub_show(ref, shown, err);
    st = st == BNT_OK ? hub_url(ref, url, err) : st;
    find_token(url, token);
    for (int i = 0; st == BNT_OK; i++) {
        struct ask a = {.url = url,
                        .shown = shown,
                        .token = token,
                        .persists = true,
                        .head = true,
                        .opts = opts,
                        .headers = h,
                        .n_headers = N_HEADERS};
        st = ask(&a, err);
        bnt_buf_release(&a.body);
        if (st == BNT_OK && (a.code == 405 || a.code == 501)) { /* it does not know HEAD */
            a.head = false;
            a.first_byte = true;
            st = ask(&a, err);
            bnt_buf_release(&a.body);
        }
        if (st == BNT_OK && a.code >= 400) {
            st = refused(&a, ref, err);
        }
        if (st != BNT_OK || a.code < 300 || h[COMMIT].value[0] || i == MAX_REDIRECTS ||
            !moved_within(h[LOCATION].value, url)) {
            break;
        }
    }
    if (st == BNT_OK) {
        take_facts(h, out);
    }
    return st;
}

/* ---- choosing a file ---- */

/* Whether the name has the word, in either case and with no letter or digit beside it. */
static bool has_word(const char *name, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = name; *p; p++) {
        if (strncasecmp(p, word, n) == 0 && (p == name || !isalnum((unsigned char)p[-1])) &&
            !isalnum((unsigned char)p[n])) {
            return true;
        }
    }
    return false;
}

static bool is_gguf(const char *path)
{
    size_t n = strlen(path);
    return n > 5 && strcasecmp(path + n - 5, ".gguf") == 0;
}

/* The URL of the next page from a Link header: <URL>; rel="next". */
static bool next_page(const char *link, char url[SOURCE_URL_MAX])
{
    char text[ASK_VALUE_MAX];
    const char *end = link[0] == '<' ? strchr(link, '>') : NULL;
    if (!end || !strstr(end, "rel=\"next\"")) {
        return false;
    }
    snprintf(text, sizeof text, "%.*s", (int)(end - link - 1), link + 1);
    return moved_within(text, url); /* the token goes there, too */
}

struct choice {
    const struct hub_ref *ref;
    size_t n;           /* files that fit */
    char file[512];     /* the first of them */
    struct bnt_buf all; /* names of GGUF files, for the hint */
    size_t n_tensors;   /* the same of another format, for repositories without GGUF */
    char tensors[512];
};

/* A file that may be chosen: of a model that is cut into several, the first. */
static void look_at(void *ctx, const char *path)
{
    struct choice *c = ctx;
    unsigned k = 1, n = 1;
    const bool gguf = is_gguf(path), tensors = family_needs_companions(path);
    if ((!gguf && !tensors) || strlen(path) >= sizeof c->file ||
        (family_shard(path, &k, &n) && k > 1)) {
        return;
    }
    if (tensors) {
        if (!c->ref->quant[0] && c->n_tensors++ == 0) {
            snprintf(c->tensors, sizeof c->tensors, "%s", path);
        }
        return;
    }
    (void)bnt_buf_printf(&c->all, NULL, "%s%s", c->all.len ? ", " : "", path);
    if (c->ref->quant[0] && !has_word(path, c->ref->quant)) {
        return;
    }
    if (c->n++ == 0) {
        snprintf(c->file, sizeof c->file, "%s", path);
    }
}

static enum bnt_status settle_choice(const struct choice *c, const char *shown, char file[512],
                                     struct bnt_err *err)
{
    if (c->n == 1) {
        memcpy(file, c->file, sizeof c->file);
        return BNT_OK;
    }
    if (c->all.len == 0 && c->n_tensors == 1) {
        memcpy(file, c->tensors, sizeof c->tensors);
        return BNT_OK;
    }
    enum bnt_status st =
        c->n ? bnt_err_set(err, BNT_E_USAGE, "%.200s: %zu GGUF files fit", shown, c->n)
             : bnt_err_set(err, BNT_E_NOT_FOUND, "%.200s: no GGUF file fits", shown);
    bnt_err_hint(err, "name one, hf://%.100s/FILE, of: %.180s", c->ref->repo,
                 c->all.len ? bnt_buf_view(&c->all) : "(none)");
    return st;
}

static void each_path(const json_t *page, hub_file_fn *fn, void *ctx)
{
    size_t i;
    json_t *item;
    json_array_foreach(page, i, item)
    {
        const char *path = json_string_value(json_object_get(item, "path"));
        if (path) {
            fn(ctx, path);
        }
    }
}

enum bnt_status hub_list(const struct hub_ref *ref, const struct bnt_fetch_opts *opts,
                         hub_file_fn *fn, void *ctx, struct bnt_err *err)
{
    char url[SOURCE_URL_MAX], shown[BNT_CACHE_SOURCE_MAX], base[512], token[SOURCE_TOKEN_MAX];
    struct ask_header link = {.name = "link"};
    bool more = true;
    endpoint(base);
    snprintf(url, sizeof url, "%s/api/models/%s/tree/", base, ref->repo);
    (void)url_append(url, sizeof url - 32, strlen(url), ref->rev[0] ? ref->rev : "main", "");
    snprintf(url + strlen(url), 32, "?recursive=true");
    find_token(url, token);
    enum bnt_status st = hub_show(ref, shown, err);
    for (int i = 0; st == BNT_OK && more && i < MAX_PAGES; i++) {
        struct ask a = {.url = url,
                        .shown = shown,
                        .token = token,
                        .persists = true,
                        .opts = opts,
                        .headers = &link,
                        .n_headers = 1};
        st = ask(&a, err);
        if (st == BNT_OK && a.code != 200) {
            st = refused(&a, ref, err);
        }
        json_t *page =
            st == BNT_OK ? bnt_json_load(bnt_buf_view(&a.body), a.body.len, 0, NULL) : NULL;
        if (st == BNT_OK && !json_is_array(page)) {
            st =
                bnt_err_set(err, BNT_E_NETWORK, "%.300s: the answer is not a list of files", shown);
        } else if (st == BNT_OK) {
            each_path(page, fn, ctx);
        }
        json_decref(page);
        bnt_buf_release(&a.body);
        more = st == BNT_OK && next_page(link.value, url);
    }
    return st;
}

static enum bnt_status choose(const struct hub_ref *ref, const struct bnt_fetch_opts *opts,
                              char file[512], struct bnt_err *err)
{
    char shown[BNT_CACHE_SOURCE_MAX];
    struct choice c = {.ref = ref, .all = BNT_BUF(160)};
    enum bnt_status st = hub_show(ref, shown, err);
    st = st == BNT_OK ? hub_list(ref, opts, look_at, &c, err) : st;
    st = st == BNT_OK ? settle_choice(&c, shown, file, err) : st;
    bnt_buf_release(&c.all);
    return st;
}

enum bnt_status hub_ask(const struct hub_ref *ref, const struct bnt_fetch_opts *opts,
                        struct source_facts *out, struct bnt_err *err)
{
    char shown[BNT_CACHE_SOURCE_MAX];
    struct hub_ref one = *ref;
    *out = (struct source_facts){0};
    enum bnt_status st = hub_show(ref, shown, err);
    if (st == BNT_OK && hub_is_offline(opts)) {
        return settle_offline(shown, err);
    }
    if (st == BNT_OK && !one.file[0]) {
        st = choose(ref, opts, one.file, err);
        one.quant[0] = '\0';
    }
    if (st == BNT_OK) {
        memcpy(out->file, one.file, sizeof out->file);
        st = ask_file(&one, opts, out, err);
    }
    return st;
}

/* ---- the hub's own cache ---- */

/* The folder of the repository in it. */
static bool local_folder(const struct hub_ref *ref, char out[BNT_PATH_MAX])
{
    char home[BNT_PATH_MAX], name[sizeof ref->repo];
    const char *cache = bnt_env("HF_HUB_CACHE");
    const size_t org = strcspn(ref->repo, "/");
    snprintf(name, sizeof name, "%s", ref->repo + org + 1);
    if (cache) {
        return bnt_path_format(out, NULL, "%s/models--%.*s--%s", cache, (int)org, ref->repo,
                               name) == BNT_OK;
    }
    return hub_home(home) && bnt_path_format(out, NULL, "%s/hub/models--%.*s--%s", home, (int)org,
                                             ref->repo, name) == BNT_OK;
}

/* The commit that a branch or tag was when the hub's tools last looked. */
static bool local_commit(const struct hub_ref *ref, char commit[HUB_COMMIT_MAX])
{
    char folder[BNT_PATH_MAX], path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(256);
    bool found = local_folder(ref, folder) &&
                 bnt_path_format(path, NULL, "%s/refs/%s", folder,
                                 ref->rev[0] ? ref->rev : "main") == BNT_OK &&
                 bnt_file_read(path, &text, NULL) == BNT_OK && is_commit(bnt_buf_view(&text));
    snprintf(commit, HUB_COMMIT_MAX, "%s", found ? bnt_buf_view(&text) : "");
    bnt_buf_release(&text);
    return found;
}

/* Whether the file at `path` is there and has the digest: a download that broke, or a disk that
 * rots, must not keep anybody from the network. */
static bool is_whole(const char *path, const char *sha256, const struct bnt_fetch_opts *opts)
{
    void *ctx = (void *)(uintptr_t)opts; /* only read */
    char hex[BNT_SHA256_HEX];
    return access(path, R_OK) == 0 &&
           (!sha256[0] || (bnt_sha256_file(path, fetch_stop_digest, ctx, hex, NULL) == BNT_OK &&
                           strcmp(hex, sha256) == 0));
}

/* Make the source a file of the hub's cache, when that has it: by digest, else by commit. A small
 * file's digest is not known there; a large one's is the name of what the link leads to. */
static bool take_local(struct source *s, const char *file, const char *commit,
                       const struct bnt_fetch_opts *opts, char expected[BNT_SHA256_HEX])
{
    char folder[BNT_PATH_MAX], path[BNT_PATH_MAX], real[BNT_PATH_MAX];
    bool found = false;
    if (!local_folder(&s->hub, folder)) {
        return false;
    }
    if (expected[0] && bnt_path_format(path, NULL, "%s/blobs/%s", folder, expected) == BNT_OK) {
        found = is_whole(path, expected, opts) && realpath(path, real);
    }
    if (!found && commit[0] && file[0] &&
        bnt_path_format(path, NULL, "%s/snapshots/%s/%s", folder, commit, file) == BNT_OK &&
        realpath(path, real)) {
        const char *last = strrchr(real, '/') + 1;
        const bool named = bnt_sha256_is_hex(last) && !strpbrk(last, "ABCDEF");
        const char *digest = expected[0] ? expected : named ? last : "";
        found = is_whole(real, digest, opts);
        if (found && digest != expected && named) {
            snprintf(expected, BNT_SHA256_HEX, "%s", last);
        }
    }
    if (found) {
        s->kind = SOURCE_FILE;
        memcpy(s->path, real, sizeof s->path);
    }
    return found;
}

/* ---- settling ---- */

enum bnt_status hub_settle(struct source *s, const struct bnt_fetch_opts *opts,
                           char expected[BNT_SHA256_HEX], struct source_facts *facts,
                           struct bnt_err *err)
{
    char commit[HUB_COMMIT_MAX] = "";
    *facts = (struct source_facts){0};
    memcpy(facts->file, s->hub.file, sizeof facts->file);
    if (is_commit(s->hub.rev)) {
        snprintf(commit, sizeof commit, "%.64s", s->hub.rev);
    } else if (hub_is_offline(opts)) {
        (void)local_commit(&s->hub, commit);
    }
    snprintf(facts->revision, sizeof facts->revision, "%s", commit);
    if (take_local(s, s->hub.file, commit, opts, expected)) {
        return BNT_OK;
    }
    if (hub_is_offline(opts)) {
        return settle_offline(s->shown, err);
    }
    enum bnt_status st = hub_ask(&s->hub, opts, facts, err);
    if (st == BNT_OK) {
        st = settle_compare(s, facts, expected, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    if (!expected[0]) {
        memcpy(expected, facts->sha256, BNT_SHA256_HEX);
    }
    struct hub_ref pinned = s->hub;
    memcpy(pinned.file, facts->file, sizeof pinned.file);
    if (facts->revision[0]) {
        snprintf(pinned.rev, sizeof pinned.rev, "%s", facts->revision);
    }
    if (!take_local(s, facts->file, facts->revision, opts, expected)) {
        st = hub_url(&pinned, s->url, err);
        find_token(s->url, s->token);
    }
    return st;
}
