/* A reference, the manifest it leads to (through an index of one), and the layer that is meant:
 * OCI distribution specification, and Docker's manifests of schema 2 which look the same. */
#include "fetch/oci.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fault.h"
#include "base/json_load.h"
#include "fetch/ask.h"
#include "fetch/breaker.h"
#include "fetch/oci_login.h"
#include "fetch/settle.h"
#include "fetch/url_text.h"

#define ALGORITHM "sha256:"
#define TITLE "org.opencontainers.image.title"
#define FILEPATH "org.cncf.model.filepath"
#define ACCEPTED                                                                                   \
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "        \
    "application/vnd.docker.distribution.manifest.v2+json, "                                       \
    "application/vnd.docker.distribution.manifest.list.v2+json"

/* ---- references ---- */

/* The part of the text up to one of `stop`, of bytes of `good`; false when it is empty, too long or
 * has others. *text is moved behind it. */
static bool take(const char **text, const char *stop, const char *good, char *out, size_t size)
{
    size_t n = strcspn(*text, stop);
    if (n == 0 || n >= size || strspn(*text, good) < n) {
        return false;
    }
    memcpy(out, *text, n);
    out[n] = '\0';
    *text += n;
    return true;
}

#define DIGITS "0123456789"
#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* Host and port. */
static bool take_registry(const char **text, char *out, size_t size)
{
    return take(text, "/", DIGITS LOWER UPPER ".-:[]", out, size) && out[0] != '-' &&
           out[0] != '.' && out[0] != ':';
}

/* Parts of letters and digits with . _ - between them, by slash. */
static bool take_repository(const char **text, char *out, size_t size)
{
    if (!take(text, ":@#", DIGITS LOWER "._-/", out, size)) {
        return false;
    }
    for (const char *p = out; *p; p++) {
        const bool begins = p == out || p[-1] == '/';
        const bool ends = p[1] == '\0' || p[1] == '/';
        if ((begins || ends) && !isalnum((unsigned char)*p)) {
            return false;
        }
    }
    return !strstr(out, "..");
}

static bool is_digest(const char *text)
{
    const size_t n = strlen(ALGORITHM);
    return strncmp(text, ALGORITHM, n) == 0 && bnt_sha256_is_hex(text + n) &&
           !strpbrk(text + n, "ABCDEF");
}

static bool take_file(const char *text, char *out, size_t size)
{
    if (snprintf(out, size, "%s", text) >= (int)size || !url_decode(out) || !out[0]) {
        return false;
    }
    for (const char *p = out; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            return false;
        }
    }
    return true;
}

static bool parse_ref(const char *rest, struct oci_ref *out)
{
    if (!take_registry(&rest, out->registry, sizeof out->registry) || *rest++ != '/' ||
        !take_repository(&rest, out->repo, sizeof out->repo)) {
        return false;
    }
    if (*rest == ':') {
        rest++;
        if (!take(&rest, "@#", DIGITS LOWER UPPER "._-", out->tag, sizeof out->tag) ||
            out->tag[0] == '.' || out->tag[0] == '-') {
            return false;
        }
    }
    if (*rest == '@') {
        rest++;
        if (!take(&rest, "#", DIGITS LOWER ":", out->digest, sizeof out->digest) ||
            !is_digest(out->digest)) {
            return false;
        }
    }
    return *rest == '\0' || take_file(rest + 1, out->file, sizeof out->file);
}

/* Whether the registry is spoken to over http. */
static bool is_plain(const char *registry)
{
    const char *list = getenv("BNT_OCI_HTTP");
    if (!list) {
        return oci_is_loopback(registry);
    }
    while (*list) {
        list += strspn(list, ", ");
        size_t n = strcspn(list, ", ");
        if (n == strlen(registry) && strncasecmp(list, registry, n) == 0) {
            return true;
        }
        list += n;
    }
    return false;
}

/* "https://host/v2/repo" and what follows. Names of Docker's own registry are short. */
static bool make_url(const struct oci_ref *ref, const char *kind, const char *name,
                     char out[SOURCE_URL_MAX])
{
    const bool docker = strcasecmp(ref->registry, "docker.io") == 0;
    const bool official = docker && !strchr(ref->repo, '/');
    return snprintf(out, SOURCE_URL_MAX, "%s://%s/v2/%s%s%s%s",
                    is_plain(ref->registry) ? "http" : "https",
                    docker ? "registry-1.docker.io" : ref->registry, official ? "library/" : "",
                    ref->repo, kind, name) < SOURCE_URL_MAX;
}

enum bnt_status oci_parse(const char *rest, struct source *out, struct bnt_err *err)
{
    if (!parse_ref(rest, &out->oci) || !make_url(&out->oci, "", "", out->url)) {
        out->oci = (struct oci_ref){.repo = ""};
        enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "this is no artifact of a registry");
        bnt_err_hint(err, "write oci://REGISTRY/REPO:TAG or oci://REGISTRY/REPO@sha256:DIGEST, and "
                          "#FILE behind it to choose a file; in FILE, %%XX stands for other bytes");
        return st;
    }
    out->kind = is_plain(out->oci.registry) ? SOURCE_HTTP : SOURCE_HTTPS;
    return oci_show(&out->oci, out->shown, err);
}

enum bnt_status oci_show(const struct oci_ref *ref, char out[BNT_CACHE_SOURCE_MAX],
                         struct bnt_err *err)
{
    const size_t size = BNT_CACHE_SOURCE_MAX;
    int n = snprintf(out, size, "oci://%s/%s%s%s%s%s%s", ref->registry, ref->repo,
                     ref->tag[0] ? ":" : "", ref->tag, ref->digest[0] ? "@" : "", ref->digest,
                     ref->file[0] ? "#" : "");
    return n < (int)size && url_append(out, size, (size_t)n, ref->file, "/:+=@,")
               ? BNT_OK
               : bnt_err_set(err, BNT_E_USAGE, "the source is too long");
}

bool oci_is_trusted_http(const struct source *s)
{
    return s->oci.repo[0] && (s->oci.digest[0] || oci_is_loopback(s->oci.registry));
}

enum bnt_status oci_blob(struct source *s, const char sha256[BNT_SHA256_HEX], struct bnt_err *err)
{
    char name[SOURCE_REVISION_MAX];
    snprintf(name, sizeof name, ALGORITHM "%.64s", sha256);
    return make_url(&s->oci, "/blobs/", name, s->url)
               ? BNT_OK
               : bnt_err_set(err, BNT_E_USAGE, "the source is too long");
}

/* ---- questions ---- */

static enum bnt_status refused(const struct source *s, const struct ask *a, struct bnt_err *err)
{
    enum bnt_status st = ask_refused(a, err);
    if (st == BNT_E_AUTH) {
        oci_login_hint(s, err);
    } else if (st == BNT_E_NOT_FOUND) {
        bnt_err_hint(err, "check the spelling of registry, repository and tag");
    }
    return st;
}

enum { MAX_REDIRECTS = 5 };

/* Ask, and once more with what the registry wants to see. *location: where an answer leads, or "".
 * The caller releases a->body. */
static enum bnt_status ask_logged_in(struct source *s, struct ask *a, char location[ASK_VALUE_MAX],
                                     struct bnt_err *err)
{
    enum { CHALLENGE, LOCATION, N_HEADERS };
    struct ask_header h[N_HEADERS] = {{.name = "www-authenticate"}, {.name = "location"}};
    struct ask q = *a;
    enum bnt_status st = BNT_OK;
    bool refused_once = false;
    q.headers = h;
    q.n_headers = N_HEADERS;
    for (;;) {
        q.token = s->token;
        q.basic = s->basic;
        st = ask(&q, err);
        if (st != BNT_OK || q.code != 401 || refused_once) {
            break;
        }
        refused_once = true;
        bnt_buf_release(&q.body);
        st = oci_login(s, h[CHALLENGE].value, q.opts, err);
        if (st != BNT_OK) {
            break;
        }
    }
    memcpy(location, h[LOCATION].value, ASK_VALUE_MAX);
    a->body = q.body;
    a->code = q.code;
    a->pause_s = q.pause_s;
    return st;
}

/* Where a redirect leads from `url`, which becomes that; false for nowhere: never from https to
 * http. *within: it is the same origin. */
static bool redirect(char url[SOURCE_URL_MAX], const char *location, bool *within)
{
    char from[BREAKER_ORIGIN_MAX], to[BREAKER_ORIGIN_MAX], next[SOURCE_URL_MAX];
    const char *host = strstr(url, "://") + 3;
    const bool here = location[0] == '/' && location[1] != '/';
    const int base = here ? (int)(host - url + (int)strcspn(host, "/")) : 0;
    const bool plain = strncasecmp(location, "http://", 7) == 0;
    if (!here && strncasecmp(location, "https://", 8) != 0 &&
        !(plain && strncmp(url, "http://", 7) == 0)) {
        return false;
    }
    if (snprintf(next, sizeof next, "%.*s%s", base, url, location) >= (int)sizeof next ||
        breaker_origin(url, from, NULL) != BNT_OK || breaker_origin(next, to, NULL) != BNT_OK) {
        return false;
    }
    *within = strcmp(from, to) == 0;
    memcpy(url, next, sizeof next);
    return true;
}

/* Ask, and follow where the registry leads. A login is for the registry: from another origin on,
 * nothing of it is sent, and no challenge is met. */
static enum bnt_status ask_onward(struct source *s, struct ask *a, char url[SOURCE_URL_MAX],
                                  struct bnt_err *err)
{
    char location[ASK_VALUE_MAX];
    bool within = true;
    a->url = url;
    a->persists = true;
    enum bnt_status st = ask_logged_in(s, a, location, err);
    for (int i = 0; st == BNT_OK && i < MAX_REDIRECTS && a->code >= 300 && a->code < 400; i++) {
        struct ask_header to = {.name = "location"};
        bool same = within;
        if (!redirect(url, location, &same)) {
            break;
        }
        bnt_buf_release(&a->body);
        within = within && (same || BNT_FAULT(oci_redirect));
        if (within) {
            st = ask_logged_in(s, a, location, err);
            continue;
        }
        struct ask next = *a;
        next.headers = &to;
        next.n_headers = 1;
        st = ask(&next, err);
        memcpy(location, to.value, sizeof location);
        next.headers = NULL;
        next.n_headers = 0;
        *a = next;
    }
    return st;
}

/* A manifest by tag or digest, and its own digest with the algorithm before it. */
static enum bnt_status get_manifest(struct source *s, const char *reference,
                                    const struct bnt_fetch_opts *opts, json_t **out,
                                    char digest[SOURCE_REVISION_MAX], struct bnt_err *err)
{
    char url[SOURCE_URL_MAX], hex[BNT_SHA256_HEX];
    struct ask a = {.shown = s->shown,
                    .accept = ACCEPTED,
                    .opts = opts,
                    .body_max_bytes = OCI_MANIFEST_MAX_BYTES};
    *out = NULL;
    if (!make_url(&s->oci, "/manifests/", reference, url)) {
        return bnt_err_set(err, BNT_E_USAGE, "the source is too long");
    }
    enum bnt_status st = ask_onward(s, &a, url, err);
    if (st == BNT_OK && a.code != 200) {
        st = refused(s, &a, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_text(bnt_buf_view(&a.body), a.body.len, hex, err);
    }
    if (st == BNT_OK) {
        snprintf(digest, SOURCE_REVISION_MAX, ALGORITHM "%s", hex);
        if (is_digest(reference) && strcmp(reference, digest) != 0 && !BNT_FAULT(oci_manifest)) {
            st = bnt_err_set(err, BNT_E_DIGEST, "%.300s: the registry sent another manifest, %s",
                             s->shown, digest);
        } else if (!(*out = bnt_json_load(bnt_buf_view(&a.body), a.body.len, 0, NULL))) {
            st = bnt_err_set(err, BNT_E_FILE, "%.300s: the manifest is not JSON", s->shown);
        }
    }
    bnt_buf_release(&a.body);
    return st;
}

enum bnt_status oci_renew(struct source *s, const struct bnt_fetch_opts *opts, struct bnt_err *err)
{
    char location[ASK_VALUE_MAX];
    struct ask a = {.url = s->url, .shown = s->shown, .head = true, .opts = opts};
    s->token[0] = '\0';
    enum bnt_status st = ask_logged_in(s, &a, location, err);
    bnt_buf_release(&a.body);
    return st == BNT_OK && a.code >= 400 ? refused(s, &a, err) : st;
}

/* ---- an index ---- */

/* A signature or a record of a build, which stands beside what it is about. */
static bool is_beside(const json_t *item)
{
    const json_t *notes = json_object_get(item, "annotations");
    const char *os = json_string_value(json_object_get(json_object_get(item, "platform"), "os"));
    return json_object_get(notes, "vnd.docker.reference.type") || (os && !strcmp(os, "unknown"));
}

/* The only manifest of an index, or what there is to choose from. */
static enum bnt_status only_manifest(const struct source *s, const json_t *index,
                                     char digest[SOURCE_REVISION_MAX], struct bnt_err *err)
{
    struct bnt_buf all = BNT_BUF(280);
    size_t i, n = 0;
    json_t *item;
    json_array_foreach(json_object_get(index, "manifests"), i, item)
    {
        const char *name = json_string_value(json_object_get(item, "digest"));
        const json_t *platform = json_object_get(item, "platform");
        const char *arch = json_string_value(json_object_get(platform, "architecture"));
        if (!name || !is_digest(name) || is_beside(item)) {
            continue;
        }
        (void)bnt_buf_printf(&all, NULL, "%s%s%s%.20s", all.len ? ", " : "", name, arch ? " " : "",
                             arch ? arch : "");
        if (n++ == 0) {
            snprintf(digest, SOURCE_REVISION_MAX, "%s", name);
        }
    }
    enum bnt_status st = BNT_OK;
    if (n != 1) {
        st = bnt_err_set(err, n ? BNT_E_USAGE : BNT_E_NOT_FOUND,
                         "%.200s is an index of %zu manifests: %s", s->shown, n,
                         n ? bnt_buf_view(&all) : "none that could be fetched");
        bnt_err_hint(err, "name one: oci://%.100s/%.100s@sha256:DIGEST", s->oci.registry,
                     s->oci.repo);
    }
    bnt_buf_release(&all);
    return st;
}

/* ---- layers ---- */

struct layer {
    const char *title; /* NULL when it has none that could be shown */
    const char *type;
    const char *digest;
    json_int_t size;
};

/* What a layer is called; titles that could not be shown or stored are none. */
static const char *title_of(const json_t *item)
{
    const json_t *notes = json_object_get(item, "annotations");
    const char *title = json_string_value(json_object_get(notes, TITLE));
    title = title ? title : json_string_value(json_object_get(notes, FILEPATH));
    for (const char *p = title ? title : ""; *p; p++) {
        if ((unsigned char)*p < ' ' || *p == 0x7f) {
            return NULL;
        }
    }
    return title && title[0] && strlen(title) < sizeof((struct oci_ref *)0)->file &&
                   !strstr(title, "..") && title[strlen(title) - 1] != '/'
               ? title
               : NULL;
}

static enum bnt_status read_layer(const struct source *s, const json_t *item, struct layer *out,
                                  struct bnt_err *err)
{
    *out = (struct layer){.title = title_of(item),
                          .type = json_string_value(json_object_get(item, "mediaType")),
                          .digest = json_string_value(json_object_get(item, "digest")),
                          .size = json_integer_value(json_object_get(item, "size"))};
    if (!out->type || !out->digest || out->size < 0) {
        return bnt_err_set(err, BNT_E_FILE, "%.300s: a layer of the manifest has no %s", s->shown,
                           !out->type     ? "mediaType"
                           : !out->digest ? "digest"
                                          : "size that could be");
    }
    return BNT_OK;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcasecmp(text + n - k, end) == 0;
}

/* Whether the layer is a GGUF file as it is: not one in an archive, not compressed. */
static bool is_gguf(const struct layer *l)
{
    static const char *const types[] = {
        "application/vnd.docker.ai.gguf.v3",
        "application/vnd.ollama.image.model",
        "application/vnd.cncf.model.weight.v1.gguf",
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(l->type, types[i]) == 0) {
            return true;
        }
    }
    return l->title && ends_with(l->title, ".gguf") && !ends_with(l->type, ".tar") &&
           !ends_with(l->type, "+gzip") && !ends_with(l->type, "+zstd");
}

static bool is_wanted(const struct source *s, const struct layer *l)
{
    if (!s->oci.file[0]) {
        return is_gguf(l);
    }
    return (l->title && strcmp(l->title, s->oci.file) == 0) || strcmp(l->digest, s->oci.file) == 0;
}

static enum bnt_status take_facts(const struct source *s, const struct layer *l,
                                  struct source_facts *out, struct bnt_err *err)
{
    if (!is_digest(l->digest)) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED,
                           "%.300s: the digest of the layer is not sha256: %.100s", s->shown,
                           l->digest);
    }
    if (l->size == 0) {
        return bnt_err_set(err, BNT_E_FILE, "%.300s is empty", s->shown);
    }
    snprintf(out->file, sizeof out->file, "%s", l->title ? l->title : l->digest);
    snprintf(out->sha256, sizeof out->sha256, "%s", l->digest + strlen(ALGORITHM));
    out->size = (uint64_t)l->size;
    return BNT_OK;
}

/* The error when not exactly one layer is meant: `n` fit, `all` says what is there. */
static enum bnt_status no_choice(const struct source *s, size_t n, const struct bnt_buf *all,
                                 struct bnt_err *err)
{
    const char *what = s->oci.file[0] ? "files of that name" : "GGUF files";
    enum bnt_status st =
        bnt_err_set(err, n ? BNT_E_USAGE : BNT_E_NOT_FOUND, "%.200s has %zu %s; it has: %s",
                    s->shown, n, what, all->len ? bnt_buf_view(all) : "no layers");
    bnt_err_hint(err, "name one: oci://%.90s/%.90s:TAG#FILE", s->oci.registry, s->oci.repo);
    return st;
}

static enum bnt_status choose_layer(const struct source *s, const json_t *manifest,
                                    struct source_facts *out, struct bnt_err *err)
{
    struct bnt_buf all = BNT_BUF(360);
    struct layer l, chosen = {.size = 0};
    enum bnt_status st = BNT_OK;
    size_t i, n = 0;
    json_t *item;
    json_array_foreach(json_object_get(manifest, "layers"), i, item)
    {
        st = read_layer(s, item, &l, err);
        if (st != BNT_OK) {
            break;
        }
        (void)bnt_buf_printf(&all, NULL, "%s%.100s (%.60s)", all.len ? ", " : "",
                             l.title ? l.title : l.digest, l.type);
        if (is_wanted(s, &l)) {
            chosen = n++ == 0 ? l : chosen;
        }
    }
    if (st == BNT_OK) {
        st = n == 1 ? take_facts(s, &chosen, out, err) : no_choice(s, n, &all, err);
    }
    bnt_buf_release(&all);
    return st;
}

/* ---- the answer ---- */

static enum bnt_status read_manifest(const struct source *s, const json_t *manifest,
                                     struct source_facts *out, struct bnt_err *err)
{
    if (json_is_array(json_object_get(manifest, "layers"))) {
        return choose_layer(s, manifest, out, err);
    }
    return bnt_err_set(err, BNT_E_UNSUPPORTED, "%.300s: this kind of manifest is not known",
                       s->shown);
}

enum bnt_status oci_ask(struct source *s, const struct bnt_fetch_opts *opts,
                        struct source_facts *out, struct bnt_err *err)
{
    json_t *manifest = NULL;
    char name[SOURCE_REVISION_MAX];
    *out = (struct source_facts){.size = 0};
    if (opts->offline) {
        return settle_offline(s->shown, err);
    }
    const char *tag = s->oci.tag[0] ? s->oci.tag : "latest";
    enum bnt_status st = get_manifest(s, s->oci.digest[0] ? s->oci.digest : tag, opts, &manifest,
                                      out->revision, err);
    if (st == BNT_OK && json_is_array(json_object_get(manifest, "manifests"))) {
        st = only_manifest(s, manifest, name, err);
        json_decref(manifest);
        manifest = NULL;
        if (st == BNT_OK) {
            st = get_manifest(s, name, opts, &manifest, out->revision, err);
        }
    }
    if (st == BNT_OK) {
        st = read_manifest(s, manifest, out, err);
    }
    json_decref(manifest);
    return st;
}
