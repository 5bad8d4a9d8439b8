/* From what the user typed to a kind, a place, and the name that the model gets unless another is
 * given. */
#include "fetch/source.h"

#include <assert.h>
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/app.h"
#include "base/utf8.h"
#include "fetch/bnt_fetch.h"
#include "fetch/hub.h"
#include "fetch/oci.h"
#include "fetch/s3.h"
#include "fetch/url_text.h"

static_assert(PATH_MAX <= BNT_PATH_MAX, "realpath writes up to PATH_MAX bytes");

/* The part after "scheme:", or NULL. Schemes are compared without case. */
static const char *after_scheme(const char *text, const char *scheme)
{
    size_t n = strlen(scheme);
    return strncasecmp(text, scheme, n) == 0 ? text + n : NULL;
}

/* "file://" and the path, with %XX for what a URL does not hold as such. */
static enum bnt_status show_file(struct source *s, struct bnt_err *err)
{
    size_t n = (size_t)snprintf(s->shown, sizeof s->shown, "file://");
    return url_append(s->shown, sizeof s->shown, n, s->path, "/+=@,:")
               ? BNT_OK
               : bnt_err_set(err, BNT_E_USAGE, "the path of the source is too long");
}

/* Name and file name from the last part of a path. */
static void set_names(struct source *s, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(s->file_name, sizeof s->file_name, "%s", slash ? slash + 1 : path);
    size_t n = strlen(s->file_name);
    if (n > 5 && strcasecmp(s->file_name + n - 5, ".gguf") == 0) {
        n -= 5;
    }
    if (n == 0 || n >= sizeof s->name) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s->file_name[i];
        s->name[i] = (char)(c < 0x80 && (isalnum(c) || strchr("._+-", c)) ? c : '-');
    }
    s->name[n] = '\0';
    if (!bnt_cache_name_ok(s->name)) {
        s->name[0] = '\0';
    }
}

static enum bnt_status parse_bundled(const char *rest, struct source *s, struct bnt_err *err)
{
    if (*rest) {
        return bnt_err_set(err, BNT_E_USAGE, "bundled: stands alone; '%.80s' follows it", rest);
    }
    s->kind = SOURCE_BUNDLED;
    enum bnt_status st = bnt_bundled_model(s->path, err);
    if (st == BNT_OK) {
        set_names(s, s->path);
        snprintf(s->shown, sizeof s->shown, "bundled:");
        snprintf(s->name, sizeof s->name, "%s", BNT_FETCH_BUNDLED_NAME);
    }
    return st;
}

static enum bnt_status parse_path(const char *path, struct source *s, struct bnt_err *err)
{
    s->kind = SOURCE_FILE;
    if (!realpath(path, s->path)) {
        enum bnt_status st = bnt_err_errno(err, "source %s", path);
        bnt_err_hint(err, "a SOURCE is a path, a URL or hf://ORG/REPO/FILE; a NAME is a model of "
                          "bnt.yml (docs/manifest.md)");
        return st;
    }
    set_names(s, s->path);
    return show_file(s, err);
}

static enum bnt_status parse_file_url(const char *text, const char *rest, struct source *s,
                                      struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    const char *local = after_scheme(rest, "localhost/");
    rest = local ? local - 1 : rest;
    if (rest[0] != '/') {
        enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "source %s has no absolute path", text);
        bnt_err_hint(err, "write file:///folder/model.gguf, or the path alone");
        return st;
    }
    enum bnt_status st = bnt_path_format(path, err, "%s", rest);
    if (st == BNT_OK && !url_decode(path)) {
        st = bnt_err_set(err, BNT_E_USAGE, "source %s: a %% is not followed by two hex digits",
                         text);
    }
    return st == BNT_OK ? parse_path(path, s, err) : st;
}

/* s->shown from s->url: no fragment, and a digest in place of the query. */
static enum bnt_status show_url(struct source *s, const char *path_end, struct bnt_err *err)
{
    char hex[BNT_SHA256_HEX] = "";
    int keep = (int)(path_end - s->url);
    int n = snprintf(s->shown, sizeof s->shown, "%.*s", keep, s->url);
    if (*path_end == '?') {
        enum bnt_status st = bnt_sha256_text(path_end, strlen(path_end), hex, err);
        if (st != BNT_OK) {
            return st;
        }
        n = snprintf(s->shown, sizeof s->shown, "%.*s?query-%.12s", keep, s->url, hex);
    }
    return n < (int)sizeof s->shown
               ? BNT_OK
               : bnt_err_set(err, BNT_E_USAGE, "the URL of the source is too long");
}

static enum bnt_status parse_url(const char *text, const char *rest, enum source_kind kind,
                                 struct source *s, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    s->kind = kind;
    size_t host = strcspn(rest, "/?#");
    if (memchr(rest, '@', host)) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_USAGE, "a source must not hold a user name or a password");
        bnt_err_hint(err, "put them into ~/.netrc: machine HOST login USER password SECRET");
        return st;
    }
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f) {
            return bnt_err_set(err, BNT_E_USAGE,
                               "a source must not hold spaces or control characters");
        }
    }
    if (bnt_utf8_valid(text, strlen(text)) < strlen(text)) {
        enum bnt_status st = bnt_err_set(err, BNT_E_USAGE, "a source must hold no bytes but UTF-8");
        bnt_err_hint(err, "write the others as %%XX");
        return st;
    }
    size_t length = strcspn(text, "#"); /* a fragment is not sent */
    if (host == 0 || length >= sizeof s->url) {
        return bnt_err_set(err, BNT_E_USAGE, "the source is not a URL: %s",
                           host ? "too long" : "no host");
    }
    snprintf(s->url, sizeof s->url, "%.*s", (int)length, text);
    const char *path_begin = s->url + (rest - text) + host;
    const char *path_end = path_begin + strcspn(path_begin, "?");
    enum bnt_status st =
        bnt_path_format(path, err, "%.*s", (int)(path_end - path_begin), path_begin);
    if (st == BNT_OK && url_decode(path)) {
        set_names(s, path);
    }
    return st == BNT_OK ? show_url(s, path_end, err) : st;
}

static enum bnt_status parse_hub(const char *rest, struct source *s, struct bnt_err *err)
{
    enum bnt_status st = hub_parse(rest, &s->hub, err);
    if (st == BNT_OK) {
        st = hub_show(&s->hub, s->shown, err);
    }
    if (st == BNT_OK) {
        st = hub_url(&s->hub, s->url, err);
    }
    if (st != BNT_OK) {
        return st;
    }
    char label[sizeof s->hub.repo + sizeof s->hub.quant + 2];
    snprintf(label, sizeof label, "%s%s%s", s->hub.repo, s->hub.quant[0] ? "-" : "", s->hub.quant);
    set_names(s, s->hub.file[0] ? s->hub.file : label);
    s->kind = after_scheme(s->url, "http://") ? SOURCE_HTTP : SOURCE_HTTPS;
    return BNT_OK;
}

static enum bnt_status parse_oci(const char *rest, struct source *s, struct bnt_err *err)
{
    char label[sizeof s->oci.repo + sizeof s->oci.tag + 8];
    enum bnt_status st = oci_parse(rest, s, err);
    if (st != BNT_OK) {
        return st;
    }
    const char *slash = strrchr(s->oci.repo, '/');
    snprintf(label, sizeof label, "%s%s%s.gguf", slash ? slash + 1 : s->oci.repo,
             s->oci.tag[0] ? "-" : "", s->oci.tag);
    const bool titled = s->oci.file[0] && strncmp(s->oci.file, "sha256:", 7) != 0;
    set_names(s, titled ? s->oci.file : label);
    return BNT_OK;
}

static enum bnt_status parse_s3(const char *rest, struct source *s, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    enum bnt_status st = s3_parse(rest, s, err);
    if (st == BNT_OK) {
        st = bnt_path_format(path, err, "%s", s->shown);
    }
    if (st == BNT_OK && url_decode(path)) {
        set_names(s, path);
    }
    return st;
}

/* A word and "://": somebody meant a URL, not a path. */
static bool has_scheme(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    return n > 0 && strncmp(text + n, "://", 3) == 0;
}

bool source_update(const char *word, enum bnt_fetch_update *out)
{
    static const char *const words[] = {NULL, "never", "if-missing", "daily", "always"};
    for (size_t i = 1; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(word, words[i]) == 0) {
            *out = (enum bnt_fetch_update)i;
            return true;
        }
    }
    return false;
}

enum bnt_status source_parse(const char *text, struct source *out, struct bnt_err *err)
{
    *out = (struct source){0};
    const char *rest;
    if (text[0] == '\0') {
        return bnt_err_set(err, BNT_E_USAGE, "the source is empty");
    }
    if ((rest = after_scheme(text, "bundled:"))) {
        return parse_bundled(rest, out, err);
    }
    if ((rest = after_scheme(text, "file://"))) {
        return parse_file_url(text, rest, out, err);
    }
    if ((rest = after_scheme(text, "https://"))) {
        return parse_url(text, rest, SOURCE_HTTPS, out, err);
    }
    if ((rest = after_scheme(text, "http://"))) {
        return parse_url(text, rest, SOURCE_HTTP, out, err);
    }
    if ((rest = after_scheme(text, "hf://"))) {
        return parse_hub(rest, out, err);
    }
    if ((rest = after_scheme(text, "s3://"))) {
        return parse_s3(rest, out, err);
    }
    if ((rest = after_scheme(text, "oci://"))) {
        return parse_oci(rest, out, err);
    }
    if (has_scheme(text)) {
        enum bnt_status st =
            bnt_err_set(err, BNT_E_UNSUPPORTED, "sources of the kind %.*s:// are not known",
                        (int)strcspn(text, ":"), text);
        bnt_err_hint(err, "known are bundled:, file://, hf://, oci://, s3://, https://, http:// "
                          "(with --sha256), and "
                          "paths");
        return st;
    }
    return hub_is_repository(text) && access(text, F_OK) != 0 ? parse_hub(text, out, err)
                                                              : parse_path(text, out, err);
}
