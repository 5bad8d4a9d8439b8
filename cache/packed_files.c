/* Packed weights in the cache: files that the engine made of models.
 *
 * In a collection a form goes, the one that was not used for longest first,
 *   1. when it was not used for max_age_s, or without that for BNT_CACHE_UNNAMED_AGE_S
 *   2. while models and forms together have more than max_bytes
 *   3. while the disk has less than min_free_bytes free
 * and so do temporaries that nobody has written for STORE_TEMP_AGE_S. The forms of a model go with
 * its blob. */
#include "cache/packed_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/packed_dir.h"
#include "cache/cache_impl.h"
#include "cache/store.h"

struct form {
    char folder[BNT_PATH_MAX], name[NAME_MAX + 1];
    uint64_t bytes;
    int64_t used_s;
    bool temporary; /* of a process that died */
    bool gone;
};

struct forms {
    struct form *at;
    size_t n, cap;
};

/* ---- what is there ---- */

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), k = strlen(suffix);
    return n > k && strcmp(name + n - k, suffix) == 0;
}

/* The file beside a form whose time is that of its last use. */
static enum bnt_status used_path(const struct form *f, char out[BNT_PATH_MAX])
{
    int stem = (int)(strlen(f->name) - strlen(BNT_PACKED_SUFFIX));
    return bnt_path_format(out, NULL, "%s/%.*s" BNT_PACKED_USED_SUFFIX, f->folder, stem, f->name);
}

static enum bnt_status add_form(struct forms *all, const char *folder, const char *name,
                                struct bnt_err *err)
{
    char path[BNT_PATH_MAX];
    struct stat sb;
    bool form = ends_in(name, BNT_PACKED_SUFFIX);
    if ((!form && !ends_in(name, ".tmp")) ||
        bnt_path_format(path, NULL, "%s/%s", folder, name) != BNT_OK || lstat(path, &sb) != 0) {
        return BNT_OK; /* gone meanwhile, or nothing of ours */
    }
    if (all->n == all->cap) {
        size_t cap = all->cap * 2 + 8;
        struct form *at = realloc(all->at, cap * sizeof *at);
        if (!at) {
            return bnt_err_nomem(err, "a list of packed weights", cap * sizeof *at);
        }
        all->at = at;
        all->cap = cap;
    }
    struct form *f = &all->at[all->n++];
    *f = (struct form){.bytes = (uint64_t)sb.st_size, .used_s = sb.st_mtime, .temporary = !form};
    memcpy(f->folder, folder, strlen(folder) + 1);
    memcpy(f->name, name, strlen(name) + 1);
    if (form && used_path(f, path) == BNT_OK && stat(path, &sb) == 0 && sb.st_mtime > f->used_s) {
        f->used_s = sb.st_mtime;
    }
    return BNT_OK;
}

static enum bnt_status list_folder(struct forms *all, const char *folder, struct bnt_err *err)
{
    DIR *dir = opendir(folder);
    enum bnt_status st = BNT_OK;
    for (struct dirent *e = dir ? readdir(dir) : NULL; e && st == BNT_OK; e = readdir(dir)) {
        st = add_form(all, folder, e->d_name, err);
    }
    if (dir) {
        closedir(dir);
    }
    return st;
}

static enum bnt_status list_all(const char *dir, struct forms *all, struct bnt_err *err)
{
    char root[BNT_PATH_MAX], folder[BNT_PATH_MAX];
    enum bnt_status st = bnt_path_format(root, err, "%s/" BNT_PACKED_FOLDER, dir);
    if (st == BNT_OK) { /* temporaries: they have no model before they have a name */
        st = list_folder(all, root, err);
    }
    DIR *models = st == BNT_OK ? opendir(root) : NULL;
    for (struct dirent *e = models ? readdir(models) : NULL; e && st == BNT_OK;
         e = readdir(models)) {
        if (bnt_sha256_is_hex(e->d_name)) {
            st = bnt_path_format(folder, err, "%s/%s", root, e->d_name);
            st = st == BNT_OK ? list_folder(all, folder, err) : st;
        }
    }
    if (models) {
        closedir(models);
    }
    return st;
}

/* ---- removal ---- */

/* The folder goes with its last form; its lock is nobody's then, or the folder is not empty soon.
 */
static void remove_form(const struct form *f)
{
    char path[BNT_PATH_MAX];
    if (bnt_path_format(path, NULL, "%s/%s", f->folder, f->name) == BNT_OK) {
        (void)unlink(path);
    }
    if (!f->temporary && used_path(f, path) == BNT_OK) {
        (void)unlink(path);
    }
    struct forms left = {0};
    if (!bnt_sha256_is_hex(strrchr(f->folder, '/') + 1)) {
        return; /* of no model yet: the folder of all */
    }
    if (list_folder(&left, f->folder, NULL) == BNT_OK && left.n == 0 &&
        bnt_path_format(path, NULL, "%s/" BNT_PACKED_LOCK, f->folder) == BNT_OK) {
        (void)unlink(path);
        (void)rmdir(f->folder);
    }
    free(left.at);
}

void packed_drop(const char *dir, const char *digest)
{
    char folder[BNT_PATH_MAX];
    struct forms all = {0};
    if (bnt_path_format(folder, NULL, "%s/" BNT_PACKED_FOLDER "/%s", dir, digest) == BNT_OK &&
        list_folder(&all, folder, NULL) == BNT_OK) {
        for (size_t i = 0; i < all.n; i++) {
            remove_form(&all.at[i]);
        }
    }
    free(all.at);
}

uint64_t bnt_cache_packed_bytes(const struct bnt_cache *c, const char *digest)
{
    char folder[BNT_PATH_MAX];
    struct forms all = {0};
    uint64_t sum = 0;
    if (!digest) {
        (void)list_all(c->dir, &all, NULL);
    } else if (bnt_path_format(folder, NULL, "%s/" BNT_PACKED_FOLDER "/%s", c->dir, digest) ==
               BNT_OK) {
        (void)list_folder(&all, folder, NULL);
    }
    for (size_t i = 0; i < all.n; i++) {
        sum += all.at[i].bytes;
    }
    free(all.at);
    return sum;
}

/* ---- collection ---- */

static int by_last_use(const void *a, const void *b)
{
    const struct form *x = a, *y = b;
    return (x->used_s > y->used_s) - (x->used_s < y->used_s);
}

static bool too_old(const struct form *f, const struct bnt_cache_gc_opts *o, int64_t now_s)
{
    int64_t age_s = o->max_age_s ? o->max_age_s : BNT_CACHE_UNNAMED_AGE_S;
    return now_s - f->used_s > (f->temporary ? STORE_TEMP_AGE_S : age_s) &&
           !BNT_FAULT(packed_ageless);
}

/* Whether what stays, `kept` of it forms, is more than a limit allows. */
static bool too_much(const struct bnt_cache_gc_opts *o, const struct packed_limits *l,
                     uint64_t kept, uint64_t removed)
{
    return (o->max_bytes && l->model_bytes + kept > o->max_bytes) ||
           (o->min_free_bytes && l->free_bytes + removed < o->min_free_bytes);
}

static void plan(struct forms *all, const struct bnt_cache_gc_opts *o,
                 const struct packed_limits *l, struct bnt_cache_gc_report *r)
{
    for (size_t i = 0; i < all->n; i++) {
        r->packed_bytes += all->at[i].bytes;
        r->n_packed += !all->at[i].temporary;
    }
    for (int round = 0; round < 2; round++) { /* what is too old first */
        for (size_t i = 0; i < all->n; i++) {
            struct form *f = &all->at[i];
            bool goes = round == 0 ? too_old(f, o, l->now_s)
                                   : too_much(o, l, r->packed_bytes - r->packed_bytes_removed,
                                              r->packed_bytes_removed);
            if (goes && !f->gone && (round == 0 || !f->temporary)) {
                f->gone = true;
                r->packed_bytes_removed += f->bytes;
                r->n_packed_removed++;
            }
        }
    }
}

enum bnt_status packed_collect(const char *dir, const struct bnt_cache_gc_opts *o,
                               const struct packed_limits *limits, struct bnt_cache_gc_report *r,
                               struct bnt_err *err)
{
    struct forms all = {0};
    enum bnt_status st = list_all(dir, &all, err);
    if (st == BNT_OK && all.n > 0) {
        qsort(all.at, all.n, sizeof *all.at, by_last_use);
        plan(&all, o, limits, r);
    }
    for (size_t i = 0; st == BNT_OK && !o->dry_run && i < all.n; i++) {
        if (all.at[i].gone) {
            remove_form(&all.at[i]);
        }
    }
    free(all.at);
    return st;
}
