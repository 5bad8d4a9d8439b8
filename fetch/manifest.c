/* The table of keys is the language: what is not in it is an error. A value that can only be judged
 * by opening the source (does the file exist, what is its digest) is judged later. */
#include "fetch/manifest.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/opt.h"
#include "fetch/source.h"
#include "fetch/url_text.h"

struct reader {
    struct manifest *m;
    struct manifest_model *model;
    bool has_files; /* the model names its files itself */
    struct bnt_err *err;
};

typedef enum bnt_status read_fn(struct reader *r, const struct yaml_node *n, void *into);

struct key {
    const char *name;
    read_fn *read;
};

/* ---- errors and plain values ---- */

static enum bnt_status bad(struct reader *r, unsigned line, unsigned column, const char *fmt, ...)
    BNT_PRINTF(4, 5);

static enum bnt_status bad(struct reader *r, unsigned line, unsigned column, const char *fmt, ...)
{
    char what[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return bnt_err_set(r->err, BNT_E_FILE, "%.200s:%u:%u: %s", r->m->shown, line, column, what);
}

/* What messages call a value: its key, or what it is an item of. */
static const char *label(const struct yaml_node *n)
{
    return n->key ? n->key : "an item";
}

static enum bnt_status want(struct reader *r, const struct yaml_node *n, enum yaml_tree_kind kind)
{
    if (yaml_is_null(n)) {
        return bad(r, n->line, n->column, "%.80s has no value", label(n));
    }
    if (n->kind == kind) {
        return BNT_OK;
    }
    struct yaml_node wanted = {.kind = kind};
    return bad(r, n->line, n->column, "%.80s is a %s, not a %s", label(n), yaml_kind_name(n),
               yaml_kind_name(&wanted));
}

static enum bnt_status read_text(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_text *out = into;
    enum bnt_status st = want(r, n, TREE_TEXT);
    if (st == BNT_OK && n->text[0] == '\0') {
        st = bad(r, n->line, n->column, "%.80s is empty", label(n));
    }
    if (st == BNT_OK) {
        *out = (struct manifest_text){n->text, n->line, n->column};
    }
    return st;
}

static size_t count(const struct yaml_node *n)
{
    size_t k = 0;
    for (n = n->first; n; n = n->next) {
        k++;
    }
    return k;
}

static void *room(struct reader *r, size_t n, size_t bytes)
{
    return bnt_arena_alloc(&r->m->tree.arena, (n ? n : 1) * bytes);
}

static enum bnt_status read_texts(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_texts *out = into;
    enum bnt_status st = want(r, n, TREE_LIST);
    if (st != BNT_OK) {
        return st;
    }
    size_t k = 0;
    struct manifest_text *at = room(r, count(n), sizeof *at);
    if (!at) {
        return bnt_err_nomem(r->err, r->m->shown, 0);
    }
    for (const struct yaml_node *item = n->first; st == BNT_OK && item; item = item->next) {
        st = read_text(r, item, &at[k++]);
    }
    *out = (struct manifest_texts){at, k};
    return st;
}

static enum bnt_status read_sha256(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_file *f = into;
    struct manifest_text text;
    enum bnt_status st = read_text(r, n, &text);
    if (st == BNT_OK && !bnt_sha256_is_hex(text.at)) {
        st = bad(r, n->line, n->column, "'%.80s' is not a sha256 digest", text.at);
        bnt_err_hint(r->err, "a digest is 64 hex digits, as sha256sum prints them");
    }
    for (size_t i = 0; st == BNT_OK && i < BNT_SHA256_HEX; i++) {
        f->sha256[i] = (char)tolower((unsigned char)text.at[i]);
    }
    return st;
}

static enum bnt_status read_size(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_file *f = into;
    struct manifest_text text;
    char *end;
    enum bnt_status st = read_text(r, n, &text);
    if (st != BNT_OK) {
        return st;
    }
    errno = 0;
    f->size = strtoull(text.at, &end, 10);
    f->has_size = true;
    if (!isdigit((unsigned char)text.at[0]) || *end || errno || f->size == 0 ||
        f->size > INT64_MAX) {
        return bad(r, n->line, n->column, "size '%.40s' is not a number of bytes", text.at);
    }
    return BNT_OK;
}

/* A number with a unit, by the parser that options have, too. */
static enum bnt_status read_bytes(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_text text;
    struct bnt_err why = {0};
    enum bnt_status st = read_text(r, n, &text);
    if (st == BNT_OK && (bnt_parse_size(text.at, into, &why) != BNT_OK || *(uint64_t *)into == 0)) {
        st = bad(r, n->line, n->column, "%.80s: '%.40s' is not a size", label(n), text.at);
        bnt_err_hint(r->err, "write a number with an optional unit: 500M, 20GB, 512Mi");
    }
    return st;
}

static enum bnt_status read_time(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_text text;
    struct bnt_err why = {0};
    enum bnt_status st = read_text(r, n, &text);
    if (st == BNT_OK && bnt_parse_duration(text.at, into, &why) != BNT_OK) {
        st = bad(r, n->line, n->column, "%.80s: %.200s", label(n), why.msg);
        bnt_err_hint(r->err, "%s", why.hint);
    }
    return st;
}

static enum bnt_status read_timeout(struct reader *r, const struct yaml_node *n, void *into)
{
    enum bnt_status st = read_time(r, n, into);
    return st == BNT_OK && *(int64_t *)into > MANIFEST_TIMEOUT_MAX_S
               ? bad(r, n->line, n->column, "timeout: %.20s is more than a week", n->text)
               : st;
}

static enum bnt_status read_count(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_text text;
    enum bnt_status st = read_text(r, n, &text);
    if (st == BNT_OK && (text.at[strspn(text.at, "0123456789")] != '\0' || strlen(text.at) > 9)) {
        return bad(r, n->line, n->column, "%.80s: '%.40s' is not a number", label(n), text.at);
    }
    if (st == BNT_OK) {
        *(uint64_t *)into = strtoull(text.at, NULL, 10);
    }
    return st;
}

static enum bnt_status read_update(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_text text;
    enum bnt_status st = read_text(r, n, &text);
    if (st == BNT_OK && !source_update(text.at, into)) {
        st = bad(r, n->line, n->column, "update: '%.40s' is no policy", text.at);
        bnt_err_hint(r->err, "write one of " BNT_FETCH_UPDATE_WORDS);
    }
    return st;
}

/* ---- maps ---- */

/* Hand every member of a map to its key's reader. */
static enum bnt_status read_map(struct reader *r, const struct yaml_node *n, const struct key *keys,
                                void *const *into)
{
    enum { MAX_KEYS = 16 };
    const char *names[MAX_KEYS] = {NULL};
    enum bnt_status st = want(r, n, TREE_MAP);
    for (size_t i = 0; keys[i].name && i + 1 < MAX_KEYS; i++) {
        names[i] = keys[i].name;
    }
    for (const struct yaml_node *member = n->first; st == BNT_OK && member; member = member->next) {
        size_t i = 0;
        while (keys[i].name && strcmp(keys[i].name, member->key) != 0) {
            i++;
        }
        if (keys[i].name) {
            st = keys[i].read(r, member, into[i]);
            continue;
        }
        const char *near = bnt_did_you_mean(member->key, names);
        st = BNT_FAULT(manifest_key)
                 ? BNT_OK
                 : bad(r, member->key_line, member->key_column, "unknown key '%.80s'", member->key);
        if (near) {
            bnt_err_hint(r->err, "did you mean '%s'?", near);
        } else {
            bnt_err_hint(r->err, "the keys are listed in docs/manifest.md");
        }
    }
    return st;
}

/* ---- files ---- */

/* A path below the source: no way up or out. */
static bool path_stays_below(const char *path)
{
    if (path[0] == '/' || strchr(path, '\\')) {
        return false;
    }
    for (const char *part = path;;) {
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && memcmp(part, "..", 2) == 0)) {
            return false;
        }
        if (!part[n]) {
            return true;
        }
        part += n + 1;
    }
}

static enum bnt_status read_file_path(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_file *f = into;
    enum bnt_status st = read_text(r, n, &f->path);
    if (st == BNT_OK && !path_stays_below(n->text)) {
        st = bad(r, n->line, n->column, "'%.200s' does not lie below the source", n->text);
        bnt_err_hint(r->err, "write a path without '.', '..' and a '/' at either end");
    }
    return st;
}

/* An item of `files`: a path, or a map with the path and what is known of the file. */
static enum bnt_status read_file(struct reader *r, const struct yaml_node *n,
                                 struct manifest_file *f)
{
    static const struct key keys[] = {
        {"path", read_file_path}, {"sha256", read_sha256}, {"size", read_size}, {NULL, NULL}};
    if (n->kind == TREE_TEXT) {
        return read_file_path(r, n, f);
    }
    void *const into[] = {f, f, f};
    enum bnt_status st = read_map(r, n, keys, into);
    if (st == BNT_OK && !f->path.at) {
        st = bad(r, n->line, n->column, "a file without a path");
    }
    return st;
}

static enum bnt_status read_files(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_model *model = into;
    enum bnt_status st = want(r, n, TREE_LIST);
    if (st != BNT_OK) {
        return st;
    }
    struct manifest_file *given = room(r, count(n), sizeof *given);
    if (!given) {
        return bnt_err_nomem(r->err, r->m->shown, 0);
    }
    size_t k = 0;
    for (const struct yaml_node *item = n->first; st == BNT_OK && item; item = item->next) {
        given[k] = (struct manifest_file){0};
        st = read_file(r, item, &given[k++]);
    }
    if (st == BNT_OK && k == 0) {
        st = bad(r, n->line, n->column, "files is empty");
    }
    model->files = given;
    model->n_files = k;
    r->has_files = true;
    return st;
}

/* ---- limits and needs ---- */

static enum bnt_status read_limits(struct reader *r, const struct yaml_node *n, void *into)
{
    static const struct key keys[] = {{"max_size", read_bytes},    {"min_free", read_bytes},
                                      {"max_age", read_time},      {"demote_after", read_time},
                                      {"keep_latest", read_count}, {NULL, NULL}};
    struct manifest_limits *l = into;
    void *const at[] = {&l->max_size, &l->min_free, &l->max_age_s, &l->demote_after_s,
                        &l->keep_latest};
    l->given = true;
    return read_map(r, n, keys, at);
}

static enum bnt_status read_companions(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest_model *model = into;
    enum bnt_status st = want(r, n, TREE_TEXT);
    model->companions = strcmp(n->text, "true") == 0;
    model->says_companions = true;
    if (st == BNT_OK && !model->companions && strcmp(n->text, "false") != 0) {
        st = bad(r, n->line, n->column, "companions: '%.40s' is not true or false", n->text);
    }
    return st;
}

static enum bnt_status read_target(struct reader *r, const struct yaml_node *n, void *into)
{
    enum bnt_status st = read_text(r, n, into);
    if (st == BNT_OK && strcmp(n->text, "wasm32") != 0 && strcmp(n->text, "native") != 0) {
        st = bad(r, n->line, n->column, "target: '%.40s' is not known", n->text);
        bnt_err_hint(r->err, "write native or wasm32");
    }
    return st;
}

static enum bnt_status read_requires(struct reader *r, const struct yaml_node *n, void *into)
{
    static const struct key keys[] = {
        {"memory", read_bytes}, {"cpu", read_texts}, {"target", read_target}, {NULL, NULL}};
    struct manifest_requires *q = into;
    void *const at[] = {&q->memory, &q->cpu, &q->target};
    return read_map(r, n, keys, at);
}

/* ---- models ---- */

bool manifest_file_name(const char *model, const char *path, char out[BNT_CACHE_NAME_MAX])
{
    const int n = snprintf(out, BNT_CACHE_NAME_MAX, "%s.%s", model, path);
    for (char *p = out + strlen(model); *p; p++) {
        *p = (char)(isalnum((unsigned char)*p) || strchr("._+-", *p) ? *p : '-');
    }
    const size_t len = strlen(out);
    if (len > 5 && strcmp(out + len - 5, ".gguf") == 0) {
        out[len - 5] = '\0';
    }
    return n < BNT_CACHE_NAME_MAX && bnt_cache_name_ok(out);
}

static enum bnt_status name_files(struct reader *r)
{
    struct manifest_model *model = r->model;
    for (size_t i = 0; i < model->n_files; i++) {
        struct manifest_file *f = &model->files[i];
        snprintf(f->cache_name, sizeof f->cache_name, "%s", model->name);
        if (i > 0 && !manifest_file_name(model->name, f->path.at, f->cache_name)) {
            return bad(r, f->path.line, f->path.column, "'%.200s' makes no name for the cache",
                       f->path.at);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(model->files[k].cache_name, f->cache_name) == 0) {
                return bad(r, f->path.line, f->path.column,
                           "'%.200s' and '%.100s' would both be called %.120s in the cache",
                           f->path.at, model->files[k].path.at, f->cache_name);
            }
        }
    }
    return BNT_OK;
}

/* `sha256` and `size` of a model are those of its only file. */
static enum bnt_status settle_files(struct reader *r, const struct manifest_file *alone)
{
    struct manifest_model *model = r->model;
    if (!r->has_files) {
        model->files = room(r, 1, sizeof *model->files);
        if (!model->files) {
            return bnt_err_nomem(r->err, r->m->shown, 0);
        }
        model->files[0] = *alone;
        model->n_files = 1;
    } else if (alone->sha256[0] || alone->has_size) {
        enum bnt_status st =
            bad(r, model->line, 3, "%s has files, and a sha256 or size beside them", model->name);
        bnt_err_hint(r->err, "write - {path: FILE, sha256: HEX, size: BYTES} below files");
        return st;
    }
    model->given = model->files;
    model->n_given = model->n_files;
    return name_files(r);
}

/* A source that stands for a folder cannot have a query or be the bundled model. */
static enum bnt_status check_source(struct reader *r, const struct manifest_text *t)
{
    if (r->has_files &&
        (strncmp(t->at, "bundled:", 8) == 0 || (strstr(t->at, "://") && strpbrk(t->at, "?#")))) {
        return bad(r, t->line, t->column, "%.200s is not a folder that could hold files", t->at);
    }
    if (strlen(t->at) >= BNT_CACHE_SOURCE_MAX) {
        return bad(r, t->line, t->column, "the source is too long");
    }
    return BNT_OK;
}

/* hf://org/repo and a revision become hf://org/repo@REVISION. */
static enum bnt_status insert_revision(struct reader *r, const struct manifest_text *revision)
{
    enum { ESCAPED_MAX = 512 };
    struct manifest_text *source = &r->model->source;
    const char *repo = strncmp(source->at, "hf://", 5) == 0 ? source->at + 5 : NULL;
    const char *slash = repo ? strchr(repo, '/') : NULL;
    if (!slash) {
        return bad(r, revision->line, revision->column,
                   "revision belongs to sources of the hub, hf://ORG/REPO");
    }
    const char *end = slash + 1 + strcspn(slash + 1, "/:@");
    if (*end == '@') {
        return bad(r, revision->line, revision->column, "the source has a revision already");
    }
    char escaped[ESCAPED_MAX] = "";
    size_t size = strlen(source->at) + sizeof escaped + 2;
    char *text = room(r, 1, size);
    if (!text) {
        return bnt_err_nomem(r->err, r->m->shown, size);
    }
    if (!url_append(escaped, sizeof escaped, 0, revision->at, "")) {
        return bad(r, revision->line, revision->column, "the revision is too long");
    }
    snprintf(text, size, "%.*s@%s%s", (int)(end - source->at), source->at, escaped, end);
    source->at = text;
    return BNT_OK;
}

static enum bnt_status read_model(struct reader *r, const struct yaml_node *n)
{
    static const struct key keys[] = {
        {"source", read_text},
        {"mirrors", read_texts},
        {"files", read_files},
        {"sha256", read_sha256},
        {"size", read_size},
        {"license", read_text},
        {"groups", read_texts},
        {"revision", read_text},
        {"update", read_update},
        {"requires", read_requires},
        {"companions", read_companions},
        {NULL, NULL},
    };
    struct manifest_model *model = r->model;
    struct manifest_file alone = {0};
    r->has_files = false;
    if (!bnt_cache_name_ok(n->key)) {
        enum bnt_status st =
            bad(r, n->key_line, n->key_column, "'%.80s' cannot be the name of a model", n->key);
        bnt_err_hint(r->err, "up to %d letters, digits and . _ + - , not ending in .gguf",
                     BNT_CACHE_NAME_MAX - 1);
        return st;
    }
    snprintf(model->name, sizeof model->name, "%s", n->key);
    model->line = n->key_line;
    struct manifest_text revision = {0};
    void *const into[] = {&model->source, &model->mirrors,  model,          &alone,
                          &alone,         &model->license,  &model->groups, &revision,
                          &model->update, &model->requires, model};
    enum bnt_status st = read_map(r, n, keys, into);
    if (st == BNT_OK && !model->source.at) {
        st = bad(r, n->key_line, n->key_column, "%s has no source", model->name);
    }
    if (st == BNT_OK && revision.at) {
        st = insert_revision(r, &revision);
    }
    if (st == BNT_OK) {
        st = check_source(r, &model->source);
    }
    for (size_t i = 0; st == BNT_OK && i < model->mirrors.n; i++) {
        st = check_source(r, &model->mirrors.at[i]);
    }
    return st == BNT_OK ? settle_files(r, &alone) : st;
}

static int by_name(const void *a, const void *b)
{
    const struct manifest_model *x = a, *y = b;
    return strcmp(x->name, y->name);
}

const struct manifest_model *manifest_name_owner(const struct manifest *m, const char *cache_name,
                                                 const struct manifest_model *besides)
{
    for (size_t i = 0; i < m->n_models; i++) {
        const struct manifest_model *model = &m->models[i];
        for (size_t k = 0; model != besides && k < model->n_files; k++) {
            if (strcmp(model->files[k].cache_name, cache_name) == 0) {
                return model;
            }
        }
    }
    return NULL;
}

/* Names of files of one model may be names of other models, or of their files. */
static enum bnt_status check_names(struct reader *r)
{
    struct manifest *m = r->m;
    for (size_t i = 0; i < m->n_models; i++) {
        for (size_t k = 1; k < m->models[i].n_files; k++) {
            const struct manifest_file *f = &m->models[i].files[k];
            const struct manifest_model *other =
                manifest_name_owner(m, f->cache_name, &m->models[i]);
            if (other) {
                return bad(r, f->path.line, f->path.column,
                           "this file would be called %s in the cache, as a file of %s is",
                           f->cache_name, other->name);
            }
        }
    }
    return BNT_OK;
}

static enum bnt_status read_models(struct reader *r, const struct yaml_node *n, void *into)
{
    struct manifest *m = into;
    enum bnt_status st = want(r, n, TREE_MAP);
    if (st != BNT_OK) {
        return st;
    }
    m->models = room(r, count(n), sizeof *m->models);
    if (!m->models) {
        return bnt_err_nomem(r->err, m->shown, 0);
    }
    for (const struct yaml_node *member = n->first; st == BNT_OK && member; member = member->next) {
        r->model = &m->models[m->n_models++];
        *r->model = (struct manifest_model){0};
        st = read_model(r, member);
    }
    if (st == BNT_OK) {
        qsort(m->models, m->n_models, sizeof *m->models, by_name);
        st = check_names(r);
    }
    return st;
}

/* ---- the file ---- */

enum bnt_status manifest_find(char path[BNT_PATH_MAX], bool *found, struct bnt_err *err)
{
    char dir[BNT_PATH_MAX];
    *found = false;
    if (!getcwd(dir, sizeof dir)) {
        return bnt_err_errno(err, "the working folder");
    }
    for (;;) {
        enum bnt_status st = bnt_path_format(path, err, "%s/%s", dir, MANIFEST_FILE);
        if (st != BNT_OK || access(path, F_OK) == 0) {
            *found = st == BNT_OK;
            return st;
        }
        char *slash = strrchr(dir, '/');
        if (!slash) {
            return BNT_OK;
        }
        *slash = '\0';
    }
}

static enum bnt_status set_places(struct manifest *m, const char *path, struct bnt_err *err)
{
    if (!realpath(path, m->path)) {
        enum bnt_status st = bnt_err_errno(err, "manifest %s", path);
        bnt_err_hint(err, "a manifest is called %s and lists models: docs/manifest.md",
                     MANIFEST_FILE);
        return st;
    }
    enum bnt_status st = bnt_path_format(m->dir, err, "%s", m->path);
    *strrchr(m->dir, '/') = '\0';
    const char *last = strrchr(path, '/');
    return st == BNT_OK ? bnt_path_format(m->shown, err, "%s", last ? last + 1 : path) : st;
}

enum bnt_status manifest_read(struct manifest *m, const char *path, struct bnt_err *err)
{
    static const struct key keys[] = {{"models", read_models},
                                      {"update", read_update},
                                      {"timeout", read_timeout},
                                      {"cache", read_limits},
                                      {NULL, NULL}};
    struct reader r = {.m = m, .err = err};
    *m = (struct manifest){0};
    enum bnt_status st = set_places(m, path, err);
    if (st == BNT_OK) {
        st = yaml_tree_read(&m->tree, m->path, m->shown, YAML_TREE_ONE_LINE, err);
    }
    if (st == BNT_OK) {
        static const struct yaml_node nothing = {
            .kind = TREE_MAP, .text = "", .line = 1, .column = 1};
        const struct yaml_node *root = m->tree.root ? m->tree.root : &nothing;
        void *const into[] = {m, &m->update, &m->timeout_s, &m->limits};
        st = read_map(&r, root, keys, into);
        if (st == BNT_OK && !m->models) {
            st = bad(&r, root->line, root->column, "no models");
            bnt_err_hint(err, "begin with a line 'models:'");
        }
    }
    if (st != BNT_OK) {
        manifest_release(m);
    }
    return st;
}

void manifest_release(struct manifest *m)
{
    for (size_t i = 0; i < m->n_models; i++) {
        free(m->models[i].found);
    }
    yaml_tree_release(&m->tree);
    m->models = NULL;
    m->n_models = 0;
}

const struct manifest_model *manifest_model(const struct manifest *m, const char *name)
{
    for (size_t i = 0; i < m->n_models; i++) {
        if (strcmp(m->models[i].name, name) == 0) {
            return &m->models[i];
        }
    }
    return NULL;
}

bool manifest_in_group(const struct manifest_model *model, const char *group)
{
    for (size_t i = 0; i < model->groups.n; i++) {
        if (strcmp(model->groups.at[i].at, group) == 0) {
            return true;
        }
    }
    return false;
}

/* The place of file `i` at a source or mirror, `prefix` before it. */
static enum bnt_status join(const char *prefix, const struct manifest_model *model, size_t i,
                            const struct manifest_text *from, char out[BNT_CACHE_SOURCE_MAX],
                            struct bnt_err *err)
{
    const char *path = model->files[i].path.at;
    const bool url = strstr(from->at, "://") != NULL;
    const char *between = strncmp(from->at, "oci://", 6) == 0 ? "#" : "/";
    size_t n = strlen(from->at);
    while (path && n > 1 && from->at[n - 1] == '/') {
        n--;
    }
    int len = snprintf(out, BNT_CACHE_SOURCE_MAX, "%s%.*s%s%s", prefix, (int)n, from->at,
                       path ? between : "", path && !url ? path : "");
    bool fits = len < BNT_CACHE_SOURCE_MAX;
    if (fits && path && url) {
        fits = url_append(out, BNT_CACHE_SOURCE_MAX, (size_t)len, path, "/");
    }
    return fits ? BNT_OK
                : bnt_err_set(err, BNT_E_USAGE, "%.200s leads to a place of more than %d bytes",
                              from->at, BNT_CACHE_SOURCE_MAX - 1);
}

enum bnt_status manifest_place(const struct manifest_model *model, size_t i,
                               const struct manifest_text *mirror, char out[BNT_CACHE_SOURCE_MAX],
                               struct bnt_err *err)
{
    return join("", model, i, mirror ? mirror : &model->source, out, err);
}

enum bnt_status manifest_source(const struct manifest *m, const struct manifest_model *model,
                                size_t i, const struct manifest_text *mirror,
                                char out[BNT_CACHE_SOURCE_MAX], struct bnt_err *err)
{
    const struct manifest_text *from = mirror ? mirror : &model->source;
    char prefix[BNT_PATH_MAX] = "";
    enum bnt_status st = BNT_OK;
    if (!strstr(from->at, "://") && strncmp(from->at, "bundled:", 8) != 0 && from->at[0] != '/') {
        st = bnt_path_format(prefix, err, "%s/", m->dir);
    }
    return st == BNT_OK ? join(prefix, model, i, from, out, err) : st;
}
