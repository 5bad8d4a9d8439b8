/* The lock file is kept as the JSON value that it is. It is checked in full when it is read, so
 * that everything after that may rely on its shape. */
#include "fetch/lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/json_load.h"
#include "fetch/bnt_fetch.h"
#include "fetch/settle.h"
#include "fetch/source.h"

enum { STEP_MS = 10, WAIT_MS = 5000 }; /* for the lock on the folder */
#define REMAKE "bnt writes this file: take it from the last commit, or remove it and run: bnt lock"

/* ---- errors with lines ---- */

struct reader {
    const char *text;
    const char *name; /* the model at hand; NULL above models */
    size_t file;      /* its file at hand, from 1; 0: none */
    struct bnt_err *err;
};

static unsigned line_at(const char *text, const char *at)
{
    unsigned line = 1;
    for (; text < at; text++) {
        line += *text == '\n';
    }
    return line;
}

/* The line of what is at hand: jansson does not keep it, but the file has a fixed form, in which
 * the model's name and then the n-th "path" lead there. */
static unsigned line_of(const struct reader *r)
{
    char quoted[BNT_CACHE_NAME_MAX + 4];
    const char *at = r->text, *next;
    if (r->name) {
        snprintf(quoted, sizeof quoted, "\"%s\"", r->name);
        const char *models = strstr(at, "\"models\"");
        next = strstr(models ? models : at, quoted);
        at = next ? next : at;
    }
    for (size_t i = 0; i < r->file && (next = strstr(at + 1, "\"path\"")) != NULL; i++) {
        at = next;
    }
    return line_at(r->text, at);
}

static enum bnt_status bad(const struct reader *r, const char *what)
{
    enum bnt_status st = bnt_err_set(r->err, BNT_E_FILE, "%s:%u: %s%s%s", LOCKFILE_FILE, line_of(r),
                                     r->name ? r->name : "", r->name ? ": " : "", what);
    bnt_err_hint(r->err, REMAKE);
    return st;
}

/* Marks of an unfinished merge, which would only be a syntax error to JSON. */
static enum bnt_status check_conflict(const struct reader *r)
{
    static const char *const marks[] = {"<<<<<<< ", "=======\n", ">>>>>>> "};
    for (const char *line = r->text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
            if (strncmp(line, marks[i], strlen(marks[i])) == 0) {
                enum bnt_status st =
                    bnt_err_set(r->err, BNT_E_FILE, "%s:%u: a mark of an unfinished merge",
                                LOCKFILE_FILE, line_at(r->text, line));
                bnt_err_hint(r->err, "merge %s, take either side of %s, and run: bnt lock",
                             MANIFEST_FILE, LOCKFILE_FILE);
                return st;
            }
        }
    }
    return BNT_OK;
}

/* ---- reading ---- */

/* Only the keys that are named, comma-separated. */
static bool only_keys(const json_t *object, const char *keys)
{
    const char *key;
    json_t *value;
    char wanted[64];
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        snprintf(wanted, sizeof wanted, ",%.60s,", key);
        if (!strstr(keys, wanted)) {
            return false;
        }
    }
    return true;
}

static bool texts_only(const json_t *array)
{
    size_t i;
    json_t *item;
    json_array_foreach(array, i, item)
    {
        if (!json_is_string(item)) {
            return false;
        }
    }
    return json_is_array(array);
}

static bool is_digest(const char *text)
{
    return text && bnt_sha256_is_hex(text) && !strpbrk(text, "ABCDEF");
}

static enum bnt_status check_file(const struct reader *r, const json_t *file)
{
    const char *sha256 = json_string_value(json_object_get(file, "sha256"));
    const json_t *tree = json_object_get(file, "tree");
    if (!json_is_object(file) || !only_keys(file, ",path,size,sha256,tree,mirrors,")) {
        return bad(r, "a file has path, size, sha256, tree and mirrors, and nothing else");
    }
    if (!json_is_string(json_object_get(file, "path"))) {
        return bad(r, "a file without a path");
    }
    if (!is_digest(sha256)) {
        return bad(r, "sha256 is not 64 digits in lower case");
    }
    if (tree && !is_digest(json_string_value(tree))) {
        return bad(r, "tree is not 64 digits in lower case");
    }
    if (json_integer_value(json_object_get(file, "size")) <= 0) {
        return bad(r, "size is not a number of bytes");
    }
    return texts_only(json_object_get(file, "mirrors")) ? BNT_OK
                                                        : bad(r, "mirrors is not a list of texts");
}

static enum bnt_status check_entry(struct reader *r, const json_t *entry)
{
    size_t i;
    json_t *file;
    const json_t *files = json_object_get(entry, "files");
    if (!json_is_object(entry) || !only_keys(entry, ",source,revision,companions,files,")) {
        return bad(r, "a model has source, revision, companions and files, and nothing else");
    }
    const char *revision = lockfile_revision(entry);
    const char *hex = revision && strncmp(revision, "sha256:", 7) == 0 ? revision + 7 : revision;
    if (json_object_get(entry, "revision") &&
        (!hex || hex[strspn(hex, "0123456789abcdef")] || strlen(hex) < 40 || strlen(hex) > 64)) {
        return bad(r, "revision is neither a commit nor a digest");
    }
    const json_t *companions = json_object_get(entry, "companions");
    if (companions && !json_is_boolean(companions)) {
        return bad(r, "companions is neither true nor false");
    }
    if (!json_is_string(json_object_get(entry, "source"))) {
        return bad(r, "no source");
    }
    if (json_array_size(files) == 0) {
        return bad(r, "no files");
    }
    json_array_foreach(files, i, file)
    {
        r->file = i + 1;
        enum bnt_status st = check_file(r, file);
        if (st != BNT_OK) {
            return st;
        }
    }
    r->file = 0;
    return BNT_OK;
}

static enum bnt_status check_root(struct reader *r, const json_t *root, json_t **models)
{
    const char *name;
    json_t *entry;
    const json_t *schema = json_object_get(root, "schema");
    if (!json_is_integer(schema) || json_integer_value(schema) < 1) {
        return bad(r, "no schema number");
    }
    if (json_integer_value(schema) > LOCKFILE_SCHEMA) {
        enum bnt_status st =
            bnt_err_set(r->err, BNT_E_UNSUPPORTED, "%s has schema %lld; this bnt knows up to %d",
                        LOCKFILE_FILE, (long long)json_integer_value(schema), LOCKFILE_SCHEMA);
        bnt_err_hint(r->err, "install the version of bnt that wrote it, or a newer one");
        return st;
    }
    *models = json_object_get(root, "models");
    if (!json_is_object(*models) || !only_keys(root, ",schema,models,")) {
        return bad(r, "it holds schema and models, and nothing else");
    }
    json_object_foreach(*models, name, entry)
    {
        r->name = name;
        enum bnt_status st =
            bnt_cache_name_ok(name) ? check_entry(r, entry) : bad(r, "not the name of a model");
        if (st != BNT_OK) {
            return st;
        }
    }
    return BNT_OK;
}

/* What broke off a write, or a merge, leaves; the parser's word for it says nothing. */
static bool is_blank(const struct bnt_buf *bytes)
{
    const char *text = bnt_buf_view(bytes);
    return strspn(text, " \t\r\n") == bytes->len;
}

static enum bnt_status parse(struct lockfile *l, const struct bnt_buf *bytes, struct bnt_err *err)
{
    struct reader r = {.text = bnt_buf_view(bytes), .err = err};
    json_error_t at;
    json_t *models = NULL;
    enum bnt_status st = check_conflict(&r);
    if (st != BNT_OK) {
        return st;
    }
    json_t *root = bnt_json_load(r.text, bytes->len, JSON_REJECT_DUPLICATES, &at);
    if (!root && bnt_json_ran_out()) {
        return bnt_err_nomem(err, LOCKFILE_FILE, bytes->len);
    }
    if (!root) {
        st = is_blank(bytes) ? bnt_err_set(err, BNT_E_FILE, "%s is empty", LOCKFILE_FILE)
                             : bnt_err_set(err, BNT_E_FILE, "%s:%d:%d: %s", LOCKFILE_FILE, at.line,
                                           at.column, at.text);
        bnt_err_hint(err, REMAKE);
        return st;
    }
    st = check_root(&r, root, &models);
    if (st == BNT_OK) {
        l->models = json_incref(models);
    }
    json_decref(root);
    return st;
}

enum bnt_status lockfile_read(struct lockfile *l, const char *dir, struct bnt_err *err)
{
    struct bnt_buf bytes = BNT_BUF(LOCKFILE_MAX_BYTES);
    *l = (struct lockfile){0};
    enum bnt_status st = bnt_path_format(l->path, err, "%s/%s", dir, LOCKFILE_FILE);
    l->edits = json_object();
    if (st == BNT_OK && !l->edits) {
        st = bnt_err_nomem(err, LOCKFILE_FILE, 0);
    }
    if (st == BNT_OK && access(l->path, F_OK) != 0 && errno == ENOENT) {
        l->models = json_object();
        return l->models ? BNT_OK : bnt_err_nomem(err, LOCKFILE_FILE, 0);
    }
    if (st == BNT_OK) {
        l->exists = true;
        st = bnt_file_read(l->path, &bytes, err);
    }
    if (st == BNT_OK) {
        st = parse(l, &bytes, err);
    }
    bnt_buf_release(&bytes);
    return st;
}

void lockfile_release(struct lockfile *l)
{
    json_decref(l->models);
    json_decref(l->edits);
    l->models = l->edits = NULL;
}

/* ---- writing ---- */

static enum bnt_status put_json(struct bnt_buf *b, const json_t *value, struct bnt_err *err)
{
    char *text = bnt_json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    enum bnt_status st = text ? bnt_buf_puts(b, text, err) : bnt_err_nomem(err, LOCKFILE_FILE, 0);
    free(text);
    return st;
}

static enum bnt_status put_entry(struct bnt_buf *b, const char *name, const json_t *entry,
                                 struct bnt_err *err)
{
    size_t i;
    json_t *file;
    const json_t *files = json_object_get(entry, "files");
    enum bnt_status st = bnt_buf_printf(b, err, "    \"%s\": {\n      \"source\": ", name);
    if (st == BNT_OK) {
        st = put_json(b, json_object_get(entry, "source"), err);
    }
    if (st == BNT_OK && lockfile_revision(entry)) {
        st = bnt_buf_printf(b, err, ",\n      \"revision\": \"%s\"", lockfile_revision(entry));
    }
    if (st == BNT_OK && json_is_true(json_object_get(entry, "companions"))) {
        st = bnt_buf_puts(b, ",\n      \"companions\": true", err);
    }
    if (st == BNT_OK) {
        st = bnt_buf_puts(b, ",\n      \"files\": [\n", err);
    }
    json_array_foreach(files, i, file)
    {
        st = st == BNT_OK ? bnt_buf_puts(b, "        ", err) : st;
        st = st == BNT_OK ? put_json(b, file, err) : st;
        st =
            st == BNT_OK ? bnt_buf_puts(b, i + 1 < json_array_size(files) ? ",\n" : "\n", err) : st;
    }
    return st == BNT_OK ? bnt_buf_puts(b, "      ]\n    }", err) : st;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum bnt_status put_all(struct bnt_buf *b, json_t *models, struct bnt_err *err)
{
    size_t n = 0, size = json_object_size(models);
    const char *name, **names = calloc(size + 1, sizeof *names);
    json_t *entry;
    if (!names) {
        return bnt_err_nomem(err, LOCKFILE_FILE, 0);
    }
    json_object_foreach(models, name, entry)
    {
        names[n++] = name;
    }
    qsort(names, n, sizeof *names, by_text);
    enum bnt_status st =
        bnt_buf_printf(b, err, "{\n  \"schema\": %d,\n  \"models\": {\n", LOCKFILE_SCHEMA);
    for (size_t i = 0; st == BNT_OK && i < n; i++) {
        st = put_entry(b, names[i], json_object_get(models, names[i]), err);
        st = st == BNT_OK ? bnt_buf_puts(b, i + 1 < n ? ",\n" : "\n", err) : st;
    }
    free(names);
    return st == BNT_OK ? bnt_buf_puts(b, "  }\n}\n", err) : st;
}

bool lockfile_differs(const struct lockfile *l)
{
    return json_object_size(l->edits) > 0 || !l->exists;
}

/* Who changes the file holds a lock on its folder meanwhile, for milliseconds; it leaves nothing
 * behind. Where folders cannot be locked, or somebody has it for long (flock DIR bnt lock), the
 * changes of two processes may meet, as without it. */
static int lock_folder(struct lockfile *l, const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int ms = 0; fd >= 0 && !l->is_held && flock(fd, LOCK_EX | LOCK_NB) != 0; ms += STEP_MS) {
        l->is_held = errno != EINTR && (errno != EWOULDBLOCK || ms >= WAIT_MS);
        bnt_clock_sleep_ns(l->is_held ? 0 : STEP_MS * 1000000u);
    }
    return fd;
}

static enum bnt_status merge(json_t *edits, json_t *models, struct bnt_err *err)
{
    const char *name;
    json_t *entry;
    json_object_foreach(edits, name, entry)
    {
        if (json_is_null(entry)) {
            (void)json_object_del(models, name);
        } else if (json_object_set(models, name, entry) != 0) {
            return bnt_err_nomem(err, LOCKFILE_FILE, 0);
        }
    }
    return BNT_OK;
}

enum bnt_status lockfile_write(struct lockfile *l, struct bnt_err *err)
{
    struct bnt_buf b = BNT_BUF(LOCKFILE_MAX_BYTES);
    struct lockfile now = {.exists = false};
    char dir[BNT_PATH_MAX];
    int folder = -1;
    if (!lockfile_differs(l)) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_folder_of(l->path, dir, err);
    if (st == BNT_OK) {
        folder = lock_folder(l, dir);
        st = lockfile_read(&now, dir, err);
    }
    st = st == BNT_OK ? merge(l->edits, now.models, err) : st;
    if (st == BNT_OK) {
        st = put_all(&b, BNT_FAULT(lock_merge) ? l->models : now.models, err);
    }
    if (st == BNT_OK) {
        st = bnt_file_write(l->path, b.data, b.len, err);
    }
    if (st == BNT_OK) {
        l->exists = true;
        (void)json_object_clear(l->edits);
    }
    bnt_lock_release(&folder);
    lockfile_release(&now);
    bnt_buf_release(&b);
    return st;
}

/* ---- entries ---- */

const json_t *lockfile_entry(const struct lockfile *l, const char *name)
{
    return json_object_get(l->models, name);
}

size_t lockfile_n_files(const json_t *entry)
{
    return json_array_size(json_object_get(entry, "files"));
}

const char *lockfile_revision(const json_t *entry)
{
    return json_string_value(json_object_get(entry, "revision"));
}

struct lock_file lockfile_file(const json_t *entry, size_t i)
{
    const json_t *file = json_array_get(json_object_get(entry, "files"), i);
    return (struct lock_file){
        .path = json_string_value(json_object_get(file, "path")),
        .sha256 = json_string_value(json_object_get(file, "sha256")),
        .size = (uint64_t)json_integer_value(json_object_get(file, "size")),
        .tree = json_string_value(json_object_get(file, "tree")),
    };
}

/* A source as the lock file records it: a URL that holds a password is refused here as everywhere,
 * and its query, which may be a signature, becomes digits of its digest. */
static enum bnt_status recorded(const char *place, char out[BNT_CACHE_SOURCE_MAX],
                                struct bnt_err *err)
{
    struct source s;
    if (!strstr(place, "://") || strncmp(place, "file:", 5) == 0) {
        snprintf(out, BNT_CACHE_SOURCE_MAX, "%s", place);
        return BNT_OK;
    }
    enum bnt_status st = source_parse(place, &s, err);
    if (st == BNT_OK) {
        snprintf(out, BNT_CACHE_SOURCE_MAX, "%s", s.shown);
    }
    return st;
}

static enum bnt_status file_mirrors(const struct manifest_model *model, size_t i, json_t **out,
                                    struct bnt_err *err)
{
    char place[BNT_CACHE_SOURCE_MAX], text[BNT_CACHE_SOURCE_MAX];
    *out = json_array();
    enum bnt_status st = *out ? BNT_OK : bnt_err_nomem(err, LOCKFILE_FILE, 0);
    const size_t n = model->files[i].is_found ? 0 : model->mirrors.n; /* those are of the model */
    for (size_t k = 0; st == BNT_OK && k < n; k++) {
        st = manifest_place(model, i, &model->mirrors.at[k], place, err);
        if (st == BNT_OK) {
            st = recorded(place, text, err);
        }
        if (st == BNT_OK && json_array_append_new(*out, json_string(text)) != 0) {
            st = bnt_err_nomem(err, LOCKFILE_FILE, 0);
        }
    }
    return st;
}

/* What file `i` is called: the path that the manifest gives, else that in the repository of the hub
 * or registry, else the last part of the source. "" when its listing decides, so that only the lock
 * knows. */
static void file_path(const struct manifest_model *model, size_t i, char out[BNT_CACHE_SOURCE_MAX])
{
    const char *from = model->source.at;
    struct source s;
    if (model->files[i].path.at) {
        snprintf(out, BNT_CACHE_SOURCE_MAX, "%s", model->files[i].path.at);
    } else if (strncmp(from, "bundled:", 8) == 0) {
        snprintf(out, BNT_CACHE_SOURCE_MAX, "%s.gguf", BNT_FETCH_BUNDLED_NAME);
    } else if (settle_tells(from) && source_parse(from, &s, NULL) == BNT_OK) {
        snprintf(out, BNT_CACHE_SOURCE_MAX, "%s", s.oci.repo[0] ? s.oci.file : s.hub.file);
    } else {
        size_t n = strcspn(from, "?#"), begin = n;
        while (begin > 0 && from[begin - 1] != '/') {
            begin--;
        }
        snprintf(out, BNT_CACHE_SOURCE_MAX, "%.*s", (int)(n - begin), from + begin);
    }
}

static enum bnt_status file_drift(const json_t *locked, const struct manifest_model *model,
                                  size_t i, char why[256], struct bnt_err *err)
{
    const struct manifest_file *f = &model->files[i];
    const char *sha256 = json_string_value(json_object_get(locked, "sha256"));
    char path[BNT_CACHE_SOURCE_MAX];
    json_t *mirrors = NULL;
    file_path(model, i, path);
    if (path[0] && strcmp(path, json_string_value(json_object_get(locked, "path"))) != 0) {
        snprintf(why, 256, "its files are others");
    } else if (f->sha256[0] && !BNT_FAULT(lock_digest) && strcmp(f->sha256, sha256) != 0) {
        snprintf(why, 256, "sha256 of %.150s is another", path);
    } else if (f->has_size &&
               f->size != (uint64_t)json_integer_value(json_object_get(locked, "size"))) {
        snprintf(why, 256, "size of %.150s is another", path);
    }
    enum bnt_status st = file_mirrors(model, i, &mirrors, err);
    if (st == BNT_OK && !why[0] && !json_equal(mirrors, json_object_get(locked, "mirrors"))) {
        snprintf(why, 256, "its mirrors are others");
    }
    json_decref(mirrors);
    return st;
}

enum bnt_status lockfile_drift(const struct lockfile *l, const struct manifest_model *model,
                               char why[256], struct bnt_err *err)
{
    char source[BNT_CACHE_SOURCE_MAX];
    const json_t *entry = lockfile_entry(l, model->name);
    why[0] = '\0';
    enum bnt_status st = recorded(model->source.at, source, err);
    if (!entry) {
        snprintf(why, 256, "it is not in %s", LOCKFILE_FILE);
    } else if (st == BNT_OK &&
               strcmp(source, json_string_value(json_object_get(entry, "source"))) != 0) {
        snprintf(why, 256, "its source is another");
    } else if (json_is_true(json_object_get(entry, "companions")) != model->companions) {
        snprintf(why, 256, "its companions are %swanted", model->companions ? "" : "not ");
    } else if (lockfile_n_files(entry) != model->n_files) {
        snprintf(why, 256, "its files are others");
    }
    for (size_t i = 0; st == BNT_OK && !why[0] && i < model->n_files; i++) {
        const json_t *file = json_array_get(json_object_get(entry, "files"), i);
        st = file_drift(file, model, i, why, err);
    }
    return st;
}

enum bnt_status lockfile_entry_new(const struct manifest_model *model, json_t **out,
                                   struct bnt_err *err)
{
    char source[BNT_CACHE_SOURCE_MAX];
    *out = NULL;
    enum bnt_status st = recorded(model->source.at, source, err);
    if (st == BNT_OK) {
        *out = model->companions
                   ? json_pack("{s:s, s:b, s:[]}", "source", source, "companions", 1, "files")
                   : json_pack("{s:s, s:[]}", "source", source, "files");
        st = *out ? BNT_OK : bnt_err_nomem(err, LOCKFILE_FILE, 0);
    }
    return st;
}

enum bnt_status lockfile_entry_revision(json_t *entry, const char *commit, struct bnt_err *err)
{
    return json_object_set_new(entry, "revision", json_string(commit)) == 0
               ? BNT_OK
               : bnt_err_nomem(err, LOCKFILE_FILE, 0);
}

enum bnt_status lockfile_entry_add(json_t *entry, const struct manifest_model *model, size_t i,
                                   const struct lock_file *file, struct bnt_err *err)
{
    char path[BNT_CACHE_SOURCE_MAX];
    json_t *mirrors = NULL;
    enum bnt_status st = file_mirrors(model, i, &mirrors, err);
    if (st != BNT_OK) {
        json_decref(mirrors);
        return st;
    }
    if (file->path) {
        snprintf(path, sizeof path, "%s", file->path);
    } else {
        file_path(model, i, path);
    }
    json_t *value = json_pack("{s:s, s:I, s:s, s:o}", "path", path, "size", (json_int_t)file->size,
                              "sha256", file->sha256, "mirrors", mirrors);
    return json_array_append_new(json_object_get(entry, "files"), value) == 0
               ? BNT_OK
               : bnt_err_nomem(err, LOCKFILE_FILE, 0);
}

enum bnt_status lockfile_entry_tree(json_t *entry, size_t i, const char *root, struct bnt_err *err)
{
    json_t *files = json_object_get(entry, "files"), *file = json_array_get(files, i);
    json_t *with =
        json_pack("{s:O, s:O, s:O, s:s, s:O}", "path", json_object_get(file, "path"), "size",
                  json_object_get(file, "size"), "sha256", json_object_get(file, "sha256"), "tree",
                  root, "mirrors", json_object_get(file, "mirrors"));
    return json_array_set_new(files, i, with) == 0 ? BNT_OK : bnt_err_nomem(err, LOCKFILE_FILE, 0);
}

enum bnt_status lockfile_put(struct lockfile *l, const char *name, json_t *entry,
                             struct bnt_err *err)
{
    if (json_equal(lockfile_entry(l, name), entry)) {
        json_decref(entry);
        return BNT_OK;
    }
    const bool done = json_object_set(l->edits, name, entry) == 0;
    return json_object_set_new(l->models, name, entry) == 0 && done
               ? BNT_OK
               : bnt_err_nomem(err, LOCKFILE_FILE, 0);
}

void lockfile_take_back(struct lockfile *l, const char *name, json_t *before)
{
    (void)json_object_set_new(l->models, name, before);
    (void)json_object_del(l->edits, name);
}

void lockfile_prune(struct lockfile *l, const struct manifest *m)
{
    const char *name;
    json_t *entry;
    void *next;
    json_object_foreach_safe(l->models, next, name, entry)
    {
        if (!manifest_model(m, name)) {
            (void)json_object_set_new(l->edits, name, json_null());
            (void)json_object_del(l->models, name);
        }
    }
}
