/* What the index says of a name, once more as a file.
 *
 * Invariants:
 *   1. Every name of the index has a record that says the same: it is written, durable, before its
 *      row is committed, in the same turn of the index, so records change in the order of the rows.
 *   2. A record may be ahead of the index by a change that a death cut off, or behind it by a
 *      removal that one cut off. Both only show in an index that is made anew, and lead to content
 *      that is whole: a record whose blob is not there counts as none.
 *   3. One that is not whole counts as none, and nothing but a new index reads records. */
#include "cache/name_record.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json_load.h"
#include "cache/store.h"

#define NAMES "names"
#define SUFFIX ".json"
enum { RECORD_MAX_BYTES = 16 << 10, RECORD_SCHEMA = 1 };

static enum bnt_status record_path(const char *dir, const char *name, char out[BNT_PATH_MAX],
                                   struct bnt_err *err)
{
    return bnt_path_format(out, err, "%s/" NAMES "/%s" SUFFIX, dir, name);
}

enum bnt_status name_record_write(const char *dir, const struct bnt_cache_entry *e,
                                  struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    json_t *root =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I}", "schema", RECORD_SCHEMA, "name", e->name,
                  "digest", e->digest, "source", e->source, "source_tag", e->source_tag,
                  "file_name", e->file_name, "fetched_s", (json_int_t)e->fetched_s);
    char *text = root ? bnt_json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    if (!text) {
        return bnt_err_nomem(err, "the record of a name", RECORD_MAX_BYTES);
    }
    enum bnt_status st = record_path(dir, e->name, path, err);
    if (st == BNT_OK) {
        st = store_write_record(dir, path, text, err);
    }
    free(text);
    return st;
}

void name_record_drop(const char *dir, const char *name)
{
    char path[BNT_PATH_MAX];
    if (record_path(dir, name, path, NULL) == BNT_OK) {
        (void)bnt_file_unlink(path);
    }
}

void name_record_restore(struct bnt_cache *c, const char *name)
{
    struct bnt_cache_entry e;
    bool found = false;
    if (index_find_name(c->index, name, &e, &found, NULL) != BNT_OK) {
        return;
    }
    if (!found) {
        name_record_drop(c->dir, name);
    } else {
        (void)name_record_write(c->dir, &e, NULL);
    }
}

static bool take_text(const json_t *root, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(root, key));
    size_t n = text ? strlen(text) : size;
    if (n < size) {
        memcpy(out, text, n + 1);
    }
    return n < size;
}

/* Read a record. *whole: it is, and of that name. For lack of memory it is not taken for a damaged
 * one: the name would be lost. */
static enum bnt_status read_record(const char *dir, const char *name, struct bnt_cache_entry *e,
                                   bool *whole, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_buf text = BNT_BUF(RECORD_MAX_BYTES);
    *e = (struct bnt_cache_entry){.size = 0};
    json_t *root = NULL;
    enum bnt_status st = record_path(dir, name, path, NULL);
    st = st == BNT_OK ? bnt_file_read(path, &text, NULL) : st;
    if (st == BNT_OK) {
        root = bnt_json_load(bnt_buf_view(&text), text.len, JSON_REJECT_DUPLICATES, NULL);
        st = !root && bnt_json_ran_out() ? BNT_E_MEMORY : BNT_OK;
    }
    *whole = json_integer_value(json_object_get(root, "schema")) == RECORD_SCHEMA &&
             take_text(root, "name", e->name, sizeof e->name) && strcmp(e->name, name) == 0 &&
             take_text(root, "digest", e->digest, sizeof e->digest) &&
             bnt_sha256_is_hex(e->digest) &&
             take_text(root, "source", e->source, sizeof e->source) &&
             take_text(root, "source_tag", e->source_tag, sizeof e->source_tag) &&
             take_text(root, "file_name", e->file_name, sizeof e->file_name);
    e->fetched_s = json_integer_value(json_object_get(root, "fetched_s"));
    json_decref(root);
    bnt_buf_release(&text);
    return st == BNT_E_MEMORY ? bnt_err_nomem(err, "the record of a name", RECORD_MAX_BYTES)
                              : BNT_OK;
}

/* The name that a file is the record of; false when it is none. */
static bool name_of_file(const char *file, char name[BNT_CACHE_NAME_MAX])
{
    size_t n = strlen(file), k = strlen(SUFFIX);
    if (n <= k || n - k >= BNT_CACHE_NAME_MAX || strcmp(file + n - k, SUFFIX) != 0) {
        return false;
    }
    memcpy(name, file, n - k);
    name[n - k] = '\0';
    return bnt_cache_name_ok(name);
}

enum bnt_status name_record_adopt(const char *dir, struct cache_index *ix, struct bnt_err *err)
{
    char path[BNT_PATH_MAX], name[BNT_CACHE_NAME_MAX];
    enum bnt_status st = bnt_path_format(path, err, "%s/" NAMES, dir);
    DIR *d = st == BNT_OK ? opendir(path) : NULL;
    if (!d) {
        return st != BNT_OK || errno == ENOENT ? st
                                               : bnt_err_errno(err, "cache: cannot list %s", path);
    }
    for (struct dirent *f = readdir(d); st == BNT_OK && f; f = readdir(d)) {
        struct bnt_cache_entry e, blob;
        size_t n = 0;
        bool whole = false;
        if (!name_of_file(f->d_name, name)) {
            continue;
        }
        st = read_record(dir, name, &e, &whole, err);
        if (st == BNT_OK && whole) {
            st = index_find_digest(ix, e.digest, &blob, &n, err);
        }
        if (st == BNT_OK && n == 1) {
            st = index_put_name(ix, &e, err);
        }
    }
    closedir(d);
    return st;
}

enum bnt_status name_record_complete(struct bnt_cache *c, struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct bnt_cache_list list;
    enum bnt_status st = bnt_cache_list(c, &list, err);
    for (size_t i = 0; st == BNT_OK && i < list.n; i++) {
        const struct bnt_cache_entry *e = &list.at[i];
        st = record_path(c->dir, e->name, path, err);
        if (st == BNT_OK && e->name[0] && access(path, F_OK) != 0) {
            st = name_record_write(c->dir, e, err);
        }
    }
    bnt_cache_list_release(&list);
    return st;
}
