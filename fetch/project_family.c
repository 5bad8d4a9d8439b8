/* The models of a project belong to its manifest; only the list of a model's files is replaced
 * here, by one of its own memory (found), and put back. */
#include "fetch/project_family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fetch/family.h"
#include "fetch/settle.h"
#include "fetch/source.h"

static struct manifest_model *own(struct project *p, const struct manifest_model *model)
{
    return &p->manifest.models[model - p->manifest.models];
}

void project_shrink(struct project *p, const struct manifest_model *model)
{
    struct manifest_model *m = own(p, model);
    m->files = m->given;
    m->n_files = m->n_given;
    free(m->found);
    m->found = NULL;
}

/* Whether a file before `f` in the list has its name in the cache. */
static bool has_name(const struct manifest_file *files, const struct manifest_file *f)
{
    while (files < f && strcmp(files->cache_name, f->cache_name) != 0) {
        files++;
    }
    return files < f;
}

/* Append files of these paths, at most `n`, to those that are given. */
static enum bnt_status append(struct project *p, struct manifest_model *m,
                              const char *(*path)(const void *list, size_t i), const void *list,
                              size_t n, struct bnt_err *err)
{
    project_shrink(p, m);
    const size_t files_bytes = (m->n_given + n) * sizeof *m->files;
    char *block = calloc(1, files_bytes + n * FAMILY_PATH_MAX);
    if (!block) {
        return bnt_err_nomem(err, "files of a model", files_bytes);
    }
    struct manifest_file *files = (struct manifest_file *)(void *)block;
    memcpy(files, m->given, m->n_given * sizeof *files);
    for (size_t i = 0; i < n; i++) {
        struct manifest_file *f = &files[m->n_given + i];
        char *own_path = block + files_bytes + i * FAMILY_PATH_MAX;
        const char *slash = strrchr(path(list, i), '/');
        snprintf(own_path, FAMILY_PATH_MAX, "%s", path(list, i));
        f->path = (struct manifest_text){own_path, m->source.line, m->source.column};
        f->is_found = true;
        if (!manifest_file_name(m->name, slash ? slash + 1 : own_path, f->cache_name) ||
            manifest_name_owner(&p->manifest, f->cache_name, m) || has_name(files, f)) {
            free(block);
            return bnt_err_set(err, BNT_E_FILE,
                               "%s: %.200s makes no free name for the cache; rename one model, or "
                               "say `companions: false`",
                               m->name, path(list, i));
        }
    }
    m->found = block;
    m->files = files;
    m->n_files = m->n_given + n;
    return BNT_OK;
}

/* ---- from the lock ---- */

struct locked {
    const json_t *entry;
    size_t first;
};

static const char *locked_path(const void *list, size_t i)
{
    const struct locked *l = list;
    return lockfile_file(l->entry, l->first + i).path;
}

enum bnt_status project_grow_from_lock(struct project *p, const struct manifest_model *model,
                                       struct bnt_err *err)
{
    struct manifest_model *m = own(p, model);
    const json_t *entry = lockfile_entry(&p->lock, m->name);
    const size_t n = lockfile_n_files(entry);
    project_shrink(p, m);
    if (n <= m->n_given || n - m->n_given > FAMILY_FILES_MAX ||
        (!m->companions && !family_by_itself(lockfile_file(entry, 0).path))) {
        return BNT_OK;
    }
    const struct locked list = {entry, m->n_given};
    for (size_t i = m->n_given; i < n; i++) {
        if (strlen(lockfile_file(entry, i).path) >= FAMILY_PATH_MAX) {
            return BNT_OK; /* it is not what bnt writes: the entry has drifted */
        }
    }
    return append(p, m, locked_path, &list, n - m->n_given, err);
}

/* ---- from where the model lies ---- */

static const char *family_path(const void *list, size_t i)
{
    const struct family *f = list;
    return f->at[i];
}

/* What the manifest names itself is no find. */
static void drop_given(const struct manifest_model *m, struct family *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        bool given = false;
        for (size_t k = 0; k < m->n_given; k++) {
            given = given || (m->given[k].path.at && strcmp(m->given[k].path.at, f->at[i]) == 0);
        }
        if (!given) {
            memmove(f->at[n++], f->at[i], FAMILY_PATH_MAX);
        }
    }
    f->n = n;
}

enum bnt_status project_grow(struct project *p, const struct manifest_model *model,
                             const json_t *entry, const struct bnt_fetch_opts *opts,
                             struct bnt_err *err)
{
    struct manifest_model *m = own(p, model);
    const char *path = lockfile_file(entry, 0).path, *revision = lockfile_revision(entry);
    const bool companions = m->says_companions ? m->companions : family_needs_companions(path);
    unsigned k, n = 1;
    char place[BNT_CACHE_SOURCE_MAX];
    struct family found = {0};
    struct source s;
    if (!companions && !(family_shard(path, &k, &n) && n > 1)) {
        return BNT_OK;
    }
    enum bnt_status st = manifest_source(&p->manifest, m, 0, NULL, place, err);
    st = st == BNT_OK ? source_parse(place, &s, err) : st;
    if (st == BNT_OK && !m->says_companions && !s.hub.repo[0] && s.kind != SOURCE_FILE && n == 1) {
        return BNT_OK; /* nobody asked, and there is no listing */
    }
    if (st == BNT_OK && revision && s.hub.repo[0]) {
        snprintf(s.hub.rev, sizeof s.hub.rev, "%s", revision);
    }
    st = st == BNT_OK ? family_find(&s, path, companions, opts, &found, err) : st;
    if (st == BNT_OK) {
        drop_given(m, &found);
        st = found.n > 0 ? append(p, m, family_path, &found, found.n, err) : BNT_OK;
    }
    family_release(&found);
    return st;
}

/* ---- places ---- */

enum bnt_status project_place(const struct project *p, const struct manifest_model *model, size_t i,
                              const struct manifest_text *mirror, const char *revision,
                              char out[BNT_CACHE_SOURCE_MAX], struct bnt_err *err)
{
    const struct manifest_file *f = &model->files[i];
    struct source s;
    enum bnt_status st =
        manifest_source(&p->manifest, model, f->is_found ? 0 : i, mirror, out, err);
    if (st != BNT_OK || !f->is_found) {
        return st;
    }
    if (settle_tells(out)) {
        st = source_parse(out, &s, err);
        return st == BNT_OK
                   ? settle_pinned(&s, revision ? revision : s.hub.rev, f->path.at, out, err)
                   : st;
    }
    const char *base = strrchr(f->path.at, '/');
    char *end = strrchr(out, '/');
    base = base ? base + 1 : f->path.at;
    if (!end || (size_t)(end - out) + strlen(base) + 2 > BNT_CACHE_SOURCE_MAX) {
        return bnt_err_set(err, BNT_E_USAGE, "the source %.200s is too long", out);
    }
    memcpy(end + 1, base, strlen(base) + 1);
    return BNT_OK;
}
