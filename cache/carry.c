/* From one cache to another through a tar archive.
 *
 *   bnt-cache.json                {"schema": 1, "names": [{name, digest, source, source_tag,
 *                                 file_name}...]}
 *   blobs/sha256/<aa>/<hex>       the models, each once
 *
 * Invariants:
 *   1. The name of a member decides nothing but which digest its bytes must have: no path of an
 *      archive is ever opened. Bytes with another digest do not enter.
 *   2. Names are given when all models are in, so that they never lead nowhere; one that has other
 *      content already stays where it is.
 *   3. An import that ends early keeps the models that were whole; the next one finishes it. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/json_load.h"
#include "cache/cache_impl.h"
#include "cache/tar.h"

#define LIST_NAME "bnt-cache.json"
#define BLOB_PREFIX "blobs/sha256/"
enum { COPY_BYTES = 1 << 20, LIST_MAX = 64 << 20, LIST_SCHEMA = 1 };

/* ---- export ---- */

static enum bnt_status write_member_end(struct bnt_durable *d, uint64_t size, struct bnt_err *err)
{
    static const uint8_t zeros[TAR_BLOCK];
    return bnt_durable_write(d, zeros, (size_t)tar_pad_bytes(size), err);
}

/* What is under way. */
struct export
{
    struct bnt_cache *c;
    struct bnt_durable d;
};

static enum bnt_status write_bytes(struct export *x, const char *name, const uint8_t *bytes,
                                   uint64_t size, struct bnt_err *err)
{
    uint8_t block[TAR_BLOCK];
    enum bnt_status st = tar_header(name, size, block, err);
    if (st == BNT_OK) {
        st = bnt_durable_write(&x->d, block, sizeof block, err);
    }
    for (uint64_t at = 0; st == BNT_OK && at < size; at += COPY_BYTES) {
        const uint64_t left = size - at;
        st = bnt_durable_write(&x->d, bytes + at, left < COPY_BYTES ? left : COPY_BYTES, err);
        st = st == BNT_OK ? bnt_err_interrupted(x->c->interrupted, err) : st;
    }
    return st == BNT_OK ? write_member_end(&x->d, size, err) : st;
}

static enum bnt_status write_list(struct export *x, const struct bnt_cache_list *l,
                                  struct bnt_err *err)
{
    json_t *names = json_array();
    for (size_t i = 0; i < l->n; i++) {
        const struct bnt_cache_entry *e = &l->at[i];
        if (e->name[0]) {
            (void)json_array_append_new(names, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name",
                                                         e->name, "digest", e->digest, "source",
                                                         e->source, "source_tag", e->source_tag,
                                                         "file_name", e->file_name));
        }
    }
    json_t *root = json_pack("{s:i, s:o}", "schema", LIST_SCHEMA, "names", names);
    char *text = root ? bnt_json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!text) {
        return bnt_err_nomem(err, "the list of an export", 0);
    }
    enum bnt_status st = write_bytes(x, LIST_NAME, (const uint8_t *)text, strlen(text), err);
    free(text);
    return st;
}

static bool is_first_of_blob(const struct bnt_cache_list *l, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (strcmp(l->at[k].digest, l->at[i].digest) == 0) {
            return false;
        }
    }
    return true;
}

static enum bnt_status write_blob(struct export *x, const struct bnt_cache_entry *e,
                                  struct bnt_err *err)
{
    struct bnt_cache *c = x->c;
    struct bnt_cache_entry found;
    struct bnt_cache_lease lease = {.fd = -1};
    struct bnt_mapping m;
    char path[BNT_PATH_MAX], name[TAR_NAME_MAX];
    enum bnt_status st = bnt_cache_lookup(c, e->digest, &found, path, err);
    if (st == BNT_OK) {
        st = bnt_cache_lease_take(c, e->digest, &lease, err);
    }
    if (st == BNT_OK) {
        st = bnt_map_file(path, &m, err);
    }
    if (st == BNT_OK) {
        snprintf(name, sizeof name, BLOB_PREFIX "%.2s/%s", e->digest, e->digest);
        st = write_bytes(x, name, m.data, m.size, err);
        bnt_unmap(&m);
    }
    bnt_cache_lease_release(&lease);
    return st;
}

enum bnt_status bnt_cache_export(struct bnt_cache *c, const struct bnt_cache_list *entries,
                                 const char *path, struct bnt_err *err)
{
    static const uint8_t end[2 * TAR_BLOCK];
    struct export x = {.c = c};
    enum bnt_status st = bnt_durable_open(&x.d, path, err);
    if (st != BNT_OK) {
        return st;
    }
    st = write_list(&x, entries, err);
    for (size_t i = 0; st == BNT_OK && i < entries->n; i++) {
        if (is_first_of_blob(entries, i)) {
            st = write_blob(&x, &entries->at[i], err);
        }
    }
    if (st == BNT_OK) {
        st = bnt_durable_write(&x.d, end, sizeof end, err);
    }
    if (st == BNT_OK) {
        st = bnt_durable_commit(&x.d, 0644, err);
    }
    bnt_durable_release(&x.d);
    return st;
}

/* ---- import ---- */

struct import {
    struct bnt_cache *c;
    int fd;
    const char *path;
    uint8_t *copy; /* COPY_BYTES */
    struct bnt_buf list;
    struct bnt_cache_import *result;
};

/* Exactly n bytes of the archive. */
static enum bnt_status read_exactly(const struct import *in, void *out, size_t n,
                                    struct bnt_err *err)
{
    for (size_t got = 0; got < n;) {
        ssize_t r = read(in->fd, (char *)out + got, n - got);
        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return bnt_err_errno(err, "cannot read %s", in->path);
        }
        if (r == 0) {
            return bnt_err_set(err, BNT_E_FILE, "%s ends early", in->path);
        }
        got += (size_t)r;
    }
    return BNT_OK;
}

/* Hand the bytes of a member on: to a file and its digest, to the list, or nowhere. */
static enum bnt_status read_member(struct import *in, uint64_t size, int to, struct bnt_sha256 *d,
                                   struct bnt_buf *list, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (uint64_t rest = size; st == BNT_OK && rest > 0;) {
        size_t n = rest < COPY_BYTES ? (size_t)rest : COPY_BYTES;
        st = read_exactly(in, in->copy, n, err);
        if (st == BNT_OK && d) {
            st = bnt_sha256_update(d, in->copy, n, err);
        }
        if (st == BNT_OK && to >= 0) {
            st = bnt_write_all(to, in->copy, n, "the imported model", err);
        }
        if (st == BNT_OK && list) {
            st = bnt_buf_append(list, in->copy, n, err);
        }
        st = st == BNT_OK ? bnt_err_interrupted(in->c->interrupted, err) : st;
        rest -= n;
    }
    return st == BNT_OK ? read_exactly(in, in->copy, (size_t)tar_pad_bytes(size), err) : st;
}

static enum bnt_status import_blob(struct import *in, const char *digest, uint64_t size,
                                   struct bnt_err *err)
{
    struct bnt_cache_temp temp;
    struct bnt_cache_entry e = {.name = ""};
    struct bnt_sha256 *d = NULL;
    bool has = false;
    enum bnt_status st = bnt_cache_has(in->c, digest, &has, err);
    if (st != BNT_OK || has) {
        return st == BNT_OK ? read_member(in, size, -1, NULL, NULL, err) : st;
    }
    st = bnt_cache_temp_open(in->c, &temp, err);
    if (st == BNT_OK) {
        st = bnt_sha256_new(&d, err);
    }
    if (st == BNT_OK) {
        st = read_member(in, size, temp.fd, d, NULL, err);
    }
    if (st == BNT_OK) {
        st = bnt_sha256_hex(d, e.digest, err);
    }
    if (st == BNT_OK && strcmp(e.digest, digest) != 0 && !BNT_FAULT(import_unchecked)) {
        st = bnt_err_set(err, BNT_E_DIGEST, "%s: %s has sha256 %s", in->path, digest, e.digest);
    }
    if (st == BNT_OK) {
        temp.origin = BNT_CACHE_FROM_HAND;
        st = bnt_cache_add(in->c, &temp, &e, err);
    }
    in->result->n_models += st == BNT_OK;
    in->result->bytes += st == BNT_OK ? size : 0;
    bnt_sha256_free(d);
    bnt_cache_temp_release(&temp);
    return st;
}

static enum bnt_status import_member(struct import *in, const struct tar_member *m,
                                     struct bnt_err *err)
{
    size_t prefix = strlen(BLOB_PREFIX);
    const char *digest = strrchr(m->name, '/');
    if (m->regular && strcmp(m->name, LIST_NAME) == 0) {
        return m->size <= LIST_MAX
                   ? read_member(in, m->size, -1, NULL, &in->list, err)
                   : bnt_err_set(err, BNT_E_FILE, "%s: the list is too long", in->path);
    }
    if (m->regular && strncmp(m->name, BLOB_PREFIX, prefix) == 0 &&
        digest == m->name + prefix + 2 && bnt_sha256_is_hex(digest + 1)) {
        return import_blob(in, digest + 1, m->size, err);
    }
    return read_member(in, m->size, -1, NULL, NULL, err);
}

/* A string of the list into an array; false when it is absent or too long. */
static bool take_text(const json_t *row, const char *key, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(row, key));
    size_t n = text ? strlen(text) : size;
    if (n >= size) {
        return false;
    }
    memcpy(out, text, n + 1);
    return true;
}

static enum bnt_status import_name(struct import *in, const json_t *row, struct bnt_err *err)
{
    struct bnt_cache_entry e = {.size = 0}, there;
    bool taken = false, has = false;
    if (!take_text(row, "name", e.name, sizeof e.name) || !bnt_cache_name_ok(e.name) ||
        !take_text(row, "digest", e.digest, sizeof e.digest) || !bnt_sha256_is_hex(e.digest) ||
        !take_text(row, "source", e.source, sizeof e.source) ||
        !take_text(row, "source_tag", e.source_tag, sizeof e.source_tag) ||
        !take_text(row, "file_name", e.file_name, sizeof e.file_name)) {
        return bnt_err_set(err, BNT_E_FILE, "%s: a name of the list is not one", in->path);
    }
    enum bnt_status st = bnt_cache_find_name(in->c, e.name, &there, &taken, err);
    if (st == BNT_OK && taken) {
        in->result->n_taken += strcmp(there.digest, e.digest) != 0;
        return BNT_OK;
    }
    if (st == BNT_OK) {
        st = bnt_cache_has(in->c, e.digest, &has, err);
    }
    if (st == BNT_OK && has) {
        st = bnt_cache_set_name(in->c, &e, err);
        in->result->n_names += st == BNT_OK;
    }
    return st;
}

static enum bnt_status import_names(struct import *in, struct bnt_err *err)
{
    json_error_t error;
    json_t *root =
        bnt_json_load(bnt_buf_view(&in->list), in->list.len, JSON_REJECT_DUPLICATES, &error);
    const json_t *names = json_object_get(root, "names");
    enum bnt_status st = BNT_OK;
    if (!json_is_array(names)) {
        st = bnt_err_set(err, BNT_E_FILE, "%s has no list of names, or a damaged one", in->path);
    } else if (json_integer_value(json_object_get(root, "schema")) != LIST_SCHEMA) {
        st = bnt_err_set(err, BNT_E_UNSUPPORTED, "%s was written by a newer bnt", in->path);
    }
    for (size_t i = 0; st == BNT_OK && i < json_array_size(names); i++) {
        st = import_name(in, json_array_get(names, i), err);
    }
    json_decref(root);
    return st;
}

static enum bnt_status import_all(struct import *in, struct bnt_err *err)
{
    struct tar_member m = {.end = false};
    uint8_t block[TAR_BLOCK];
    enum bnt_status st = BNT_OK;
    while (st == BNT_OK && !m.end) {
        st = read_exactly(in, block, sizeof block, err);
        if (st == BNT_OK) {
            st = tar_parse(block, &m, err);
            if (st != BNT_OK) {
                bnt_err_context(err, "%s", in->path);
            }
        }
        if (st == BNT_OK && !m.end) {
            st = import_member(in, &m, err);
        }
    }
    return st == BNT_OK ? import_names(in, err) : st;
}

enum bnt_status bnt_cache_import_file(struct bnt_cache *c, const char *path,
                                      struct bnt_cache_import *out, struct bnt_err *err)
{
    struct import in = {.c = c,
                        .path = path,
                        .result = out,
                        .list = BNT_BUF(LIST_MAX),
                        .fd = open(path, O_RDONLY | O_CLOEXEC)};
    *out = (struct bnt_cache_import){0};
    if (in.fd < 0) {
        return bnt_err_errno(err, "cannot open %s", path);
    }
    in.copy = malloc(COPY_BYTES);
    enum bnt_status st =
        in.copy ? import_all(&in, err) : bnt_err_nomem(err, "copy buffer", COPY_BYTES);
    bnt_buf_release(&in.list);
    free(in.copy);
    close(in.fd);
    return st;
}
