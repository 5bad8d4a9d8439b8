/* Locking learns digests, fetching uses them. A mirror is only asked for content whose digest is
 * known: whoever runs it does not decide what a project uses. */
#include "fetch/project.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/opt.h"
#include "fetch/asked.h"
#include "fetch/lock_trees.h"
#include "fetch/project_family.h"
#include "fetch/settle.h"
#include "fetch/source.h"

enum bnt_status project_open(struct project *p, const char *path, struct bnt_err *err)
{
    char found_path[BNT_PATH_MAX];
    bool found = true;
    enum bnt_status st = BNT_OK;
    *p = (struct project){0};
    if (!path) {
        st = manifest_find(found_path, &found, err);
        path = found_path;
    }
    if (st == BNT_OK && !found) {
        st = bnt_err_set(err, BNT_E_NOT_FOUND, "no %s in this folder or one above it",
                         MANIFEST_FILE);
        bnt_err_hint(err, "write one (docs/manifest.md), or name it with --manifest FILE");
    }
    if (st == BNT_OK) {
        st = manifest_read(&p->manifest, path, err);
    }
    if (st == BNT_OK) {
        st = lockfile_read(&p->lock, p->manifest.dir, err);
    }
    for (size_t i = 0; st == BNT_OK && i < p->manifest.n_models; i++) {
        st = project_grow_from_lock(p, &p->manifest.models[i], err);
    }
    if (st != BNT_OK) {
        project_release(p);
    }
    return st;
}

void project_release(struct project *p)
{
    lockfile_release(&p->lock);
    manifest_release(&p->manifest);
}

enum bnt_status project_model(const struct project *p, const char *name,
                              const struct manifest_model **out, struct bnt_err *err)
{
    const struct manifest *m = &p->manifest;
    *out = manifest_model(m, name);
    if (*out) {
        return BNT_OK;
    }
    enum bnt_status st =
        bnt_err_set(err, BNT_E_NOT_FOUND, "%s has no model '%.80s'", m->shown, name);
    const char **names = calloc(m->n_models + 1, sizeof *names);
    for (size_t i = 0; names && i < m->n_models; i++) {
        names[i] = m->models[i].name;
    }
    const char *near = names ? bnt_did_you_mean(name, names) : NULL;
    if (near) {
        bnt_err_hint(err, "did you mean '%s'?", near);
    }
    free(names);
    return st;
}

/* ---- drift ---- */

static enum bnt_status drifted(const char *name, const char *why, struct bnt_err *err)
{
    enum bnt_status st = bnt_err_set(err, BNT_E_LOCK_DRIFT, "%s is not up to date: %s: %s",
                                     LOCKFILE_FILE, name, why);
    bnt_err_hint(err, "run: bnt lock, look at the difference, and commit it");
    return st;
}

static enum bnt_status check_model(const struct project *p, const struct manifest_model *model,
                                   struct bnt_err *err)
{
    char why[256];
    enum bnt_status st = lockfile_drift(&p->lock, model, why, err);
    return st == BNT_OK && why[0] ? drifted(model->name, why, err) : st;
}

enum bnt_status project_check(const struct project *p, const struct manifest_model *model,
                              struct bnt_err *err)
{
    const char *name;
    json_t *entry;
    if (model) {
        return check_model(p, model, err);
    }
    for (size_t i = 0; i < p->manifest.n_models; i++) {
        enum bnt_status st = check_model(p, &p->manifest.models[i], err);
        if (st != BNT_OK) {
            return st;
        }
    }
    json_object_foreach(p->lock.models, name, entry)
    {
        if (!manifest_model(&p->manifest, name)) {
            return drifted(name, "the manifest has no such model", err);
        }
    }
    return BNT_OK;
}

/* ---- bytes ---- */

/* File `i` of a model, and how to get it. */
struct wanted {
    const struct project *p;
    const struct manifest_model *model;
    size_t i;
    const struct project_opts *opts;
    const char *revision;      /* which the source is held to: a commit, a manifest; NULL: none */
    const char *path;          /* of the file in its repository, when a revision is given */
    struct source_facts facts; /* what the source says, while locking */
};

/* Where in the manifest a source is written, in front of what went wrong with it. */
static enum bnt_status at_line(const struct project *p, const struct manifest_text *t,
                               struct bnt_err *err)
{
    return bnt_err_context(err, "%.200s:%u", p->manifest.shown, t->line);
}

/* Failures after which another place may do better. */
static bool mirror_may_help(enum bnt_status st)
{
    switch (st) {
    case BNT_E_FAILED:
    case BNT_E_FILE:
    case BNT_E_NOT_FOUND:
    case BNT_E_AUTH:
    case BNT_E_RATE_LIMIT:
    case BNT_E_DIGEST:
    case BNT_E_NETWORK:
    case BNT_E_OFFLINE:
    case BNT_E_CIRCUIT:
        return true;
    default:
        return false;
    }
}

/* The source at its revision: bytes of a branch or a tag may change between two requests. */
static enum bnt_status pin(const struct wanted *w, char source[BNT_CACHE_SOURCE_MAX],
                           struct bnt_err *err)
{
    struct source s;
    enum bnt_status st = source_parse(source, &s, err);
    return st == BNT_OK ? settle_pinned(&s, w->revision, w->path, source, err) : st;
}

static enum bnt_status fetch_from(const struct wanted *w, const struct manifest_text *mirror,
                                  const struct bnt_fetch_opts *fetch, struct bnt_fetch_result *out,
                                  struct bnt_err *err)
{
    char source[BNT_CACHE_SOURCE_MAX];
    enum bnt_status st = project_place(w->p, w->model, w->i, mirror, w->revision, source, err);
    if (st == BNT_OK && !mirror && w->revision && settle_tells(source)) {
        st = pin(w, source, err);
    }
    if (st == BNT_OK) {
        st = bnt_fetch(w->opts->cache, source, fetch, out, err);
    }
    return st == BNT_OK ? st : at_line(w->p, mirror ? mirror : &w->model->source, err);
}

/* Whether a place of that text can take part in a transfer together with others. */
static bool joins(const char *text)
{
    static const char *const schemes[] = {"https://", "http://", "oci://", "s3://"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (strncmp(text, schemes[i], strlen(schemes[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Mirrors that can take part in one transfer with the source, under its digest. */
static size_t plain_mirrors(const struct wanted *w, const struct bnt_fetch_opts *fetch,
                            char place[][BNT_CACHE_SOURCE_MAX], const char **at)
{
    const struct manifest_texts *mirrors = &w->model->mirrors;
    size_t n = 0;
    bool remote = joins(w->model->source.at) && fetch->sha256 && !w->model->files[w->i].is_found;
    for (size_t k = 0; remote && k < mirrors->n && n < BNT_FETCH_MIRRORS_MAX; k++) {
        if (joins(mirrors->at[k].at) &&
            manifest_place(w->model, w->i, &mirrors->at[k], place[n], NULL) == BNT_OK) {
            at[n] = place[n];
            n++;
        }
    }
    return n;
}

/* From the source together with its plain mirrors, then from the mirrors in order. The error is
 * that of the source. */
static enum bnt_status fetch_any(const struct wanted *w, const struct bnt_fetch_opts *fetch,
                                 struct bnt_fetch_result *out, struct bnt_err *err)
{
    const struct manifest_texts *mirrors = &w->model->mirrors;
    char places[BNT_FETCH_MIRRORS_MAX][BNT_CACHE_SOURCE_MAX];
    const char *at[BNT_FETCH_MIRRORS_MAX];
    struct bnt_fetch_opts together = *fetch;
    struct bnt_err first = {0};
    together.mirrors = at;
    together.n_mirrors = plain_mirrors(w, fetch, places, at);
    enum bnt_status st = fetch_from(w, NULL, &together, out, &first);
    size_t n_mirrors =
        fetch->sha256 && mirror_may_help(st) && !w->model->files[w->i].is_found ? mirrors->n : 0;
    for (size_t k = 0; st != BNT_OK && k < n_mirrors; k++) {
        struct bnt_err other = {0};
        enum bnt_status again = fetch_from(w, &mirrors->at[k], fetch, out, &other);
        if (again == BNT_OK && w->opts->warn) {
            w->opts->warn(w->opts->warn_ctx, first.msg, "a mirror had it");
        }
        if (again == BNT_OK || again == BNT_E_INTERRUPTED || again == BNT_E_NO_SPACE) {
            st = again;
            first = again == BNT_OK ? first : other;
            break;
        }
    }
    if (st != BNT_OK && err && err->status == BNT_OK) {
        *err = first;
    }
    return st;
}

/* What the source says of the file, when it is one that tells: the revision goes into the entry and
 * holds the files after it, too. */
static enum bnt_status ask_source(struct wanted *w, json_t *entry, struct bnt_err *err)
{
    struct source_facts *facts = &w->facts;
    char text[BNT_CACHE_SOURCE_MAX];
    struct source s;
    if (!settle_tells(w->model->source.at)) {
        return BNT_OK;
    }
    w->revision = lockfile_revision(entry);
    enum bnt_status st = project_place(w->p, w->model, w->i, NULL, w->revision, text, err);
    if (st == BNT_OK && w->revision) {
        st = pin(w, text, err);
    }
    st = st == BNT_OK ? source_parse(text, &s, err) : st;
    st = st == BNT_OK ? settle_ask(&s, &w->opts->fetch, facts, err) : st;
    if (st == BNT_OK && facts->revision[0] && !w->revision) {
        st = lockfile_entry_revision(entry, facts->revision, err);
    }
    w->revision = st == BNT_OK ? lockfile_revision(entry) : NULL;
    w->path = facts->file;
    return st == BNT_OK ? st : at_line(w->p, &w->model->source, err);
}

/* What the manifest and the source say, compared. */
static enum bnt_status check_facts(const struct wanted *w, struct bnt_err *err)
{
    const struct source_facts *facts = &w->facts;
    const struct manifest_file *f = &w->model->files[w->i];
    const bool sha256_differs =
        f->sha256[0] && facts->sha256[0] && strcmp(f->sha256, facts->sha256) != 0;
    if (!sha256_differs && (!f->has_size || !facts->size || f->size == facts->size)) {
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_DIGEST,
                "%s: the source has another file than the manifest says: %s, %llu "
                "bytes",
                f->cache_name, facts->sha256, (unsigned long long)facts->size);
    return at_line(w->p, &w->model->source, err);
}

static enum bnt_status lock_file(struct wanted *w, bool refresh, json_t *entry, struct bnt_err *err)
{
    const struct manifest_file *f = &w->model->files[w->i];
    struct bnt_fetch_opts fetch = w->opts->fetch;
    struct bnt_fetch_result got;
    const struct source_facts *facts = &w->facts;
    if (f->sha256[0] && f->has_size && !settle_tells(w->model->source.at)) {
        const struct lock_file known = {.sha256 = f->sha256, .size = f->size};
        return lockfile_entry_add(entry, w->model, w->i, &known, err);
    }
    enum bnt_status st = ask_source(w, entry, err);
    st = st == BNT_OK ? check_facts(w, err) : st;
    const char *path = facts->file[0] && !f->path.at ? facts->file : NULL;
    if (st != BNT_OK || (facts->sha256[0] && facts->size)) {
        const struct lock_file told = {.path = path, .sha256 = facts->sha256, .size = facts->size};
        return st == BNT_OK ? lockfile_entry_add(entry, w->model, w->i, &told, err) : st;
    }
    fetch.name = f->cache_name;
    fetch.sha256 = f->sha256[0] ? f->sha256 : NULL;
    fetch.nameless = true;
    fetch.update = refresh ? BNT_FETCH_UPDATE_ALWAYS : fetch.update;
    st = fetch_any(w, &fetch, &got, err);
    if (st == BNT_OK && f->has_size && got.entry.size != f->size) {
        bnt_err_set(err, BNT_E_DIGEST, "%s has %llu bytes, not %llu", f->cache_name,
                    (unsigned long long)got.entry.size, (unsigned long long)f->size);
        return at_line(w->p, &w->model->source, err);
    }
    const struct lock_file learned = {
        .path = path, .sha256 = got.entry.digest, .size = got.entry.size};
    return st == BNT_OK ? lockfile_entry_add(entry, w->model, w->i, &learned, err) : st;
}

enum bnt_status project_lock(struct project *p, const struct manifest_model *model, bool refresh,
                             const struct project_opts *opts, struct bnt_err *err)
{
    char why[256];
    json_t *entry = NULL;
    enum bnt_status st = lockfile_drift(&p->lock, model, why, err);
    if (st != BNT_OK || (!why[0] && !refresh)) {
        return st == BNT_OK ? st : at_line(p, &model->source, err);
    }
    project_shrink(p, model);
    st = lockfile_entry_new(model, &entry, err);
    for (size_t i = 0; st == BNT_OK && i < model->n_files; i++) {
        struct wanted w = {.p = p, .model = model, .i = i, .opts = opts};
        st = lock_file(&w, refresh, entry, err);
        if (st == BNT_OK && i + 1 == model->n_given) {
            st = project_grow(p, model, entry, &opts->fetch, err);
            st = st == BNT_OK ? st : at_line(p, &model->source, err);
        }
    }
    if (st == BNT_OK) {
        st = lock_trees_carry(opts->cache, lockfile_entry(&p->lock, model->name), entry, err);
    }
    if (st != BNT_OK) {
        json_decref(entry);
        (void)project_grow_from_lock(p, model, NULL);
        return st;
    }
    return lockfile_put(&p->lock, model->name, entry, err);
}

/* ---- policies ---- */

static enum bnt_fetch_update policy_of(const struct project *p, const struct manifest_model *model,
                                       const struct project_opts *opts)
{
    return opts->update ? opts->update : model->update ? model->update : p->manifest.update;
}

/* The options with which a model's content is got: under `never` the network is not there. */
static struct bnt_fetch_opts fetch_opts_of(const struct project *p,
                                           const struct manifest_model *model,
                                           const struct project_opts *opts)
{
    struct bnt_fetch_opts fetch = opts->fetch;
    const bool never = policy_of(p, model, opts) == BNT_FETCH_UPDATE_NEVER && !fetch.force;
    fetch.update = never ? BNT_FETCH_UPDATE_NEVER : BNT_FETCH_UPDATE_DEFAULT;
    fetch.offline = fetch.offline || never;
    return fetch;
}

/* The source of a model, as net.db knows it. */
static bool source_shown(const struct project *p, const struct manifest_model *model,
                         char out[BNT_CACHE_SOURCE_MAX])
{
    struct source s;
    if (manifest_source(&p->manifest, model, 0, NULL, out, NULL) != BNT_OK ||
        source_parse(out, &s, NULL) != BNT_OK) {
        return false;
    }
    snprintf(out, BNT_CACHE_SOURCE_MAX, "%s", s.shown);
    return true;
}

static bool wants_question(const struct project *p, const struct manifest_model *model,
                           const struct project_opts *opts)
{
    char source[BNT_CACHE_SOURCE_MAX];
    struct asked known;
    const enum bnt_fetch_update policy = policy_of(p, model, opts);
    if (opts->fetch.offline || policy < BNT_FETCH_UPDATE_DAILY) {
        return false;
    }
    if (policy == BNT_FETCH_UPDATE_ALWAYS || !source_shown(p, model, source)) {
        return true;
    }
    asked_look(bnt_cache_folder(opts->cache), source, &known);
    return !asked_today(&known);
}

/* Remember that the source was asked; a digest that is known already stays known. */
static void note_question(const struct project *p, const struct manifest_model *model,
                          const struct project_opts *opts)
{
    char source[BNT_CACHE_SOURCE_MAX];
    struct asked known;
    if (source_shown(p, model, source)) {
        asked_look(bnt_cache_folder(opts->cache), source, &known);
        known.at_s = bnt_clock_unix_s();
        asked_note(bnt_cache_folder(opts->cache), source, &known);
    }
}

/* Bring file `i` as the lock has it, under its name or without one. */
static enum bnt_status fetch_locked(const struct project *p, const struct manifest_model *model,
                                    size_t i, const struct project_opts *opts, bool nameless,
                                    struct bnt_fetch_result *out, struct bnt_err *err)
{
    const json_t *entry = lockfile_entry(&p->lock, model->name);
    const struct lock_file locked = lockfile_file(entry, i);
    const struct wanted w = {.p = p,
                             .model = model,
                             .i = i,
                             .opts = opts,
                             .revision = lockfile_revision(entry),
                             .path = model->files[i].path.at ? NULL : locked.path};
    struct bnt_fetch_opts fetch = fetch_opts_of(p, model, opts);
    fetch.name = model->files[i].cache_name;
    fetch.sha256 = locked.sha256;
    fetch.size = locked.size;
    fetch.tree = locked.tree;
    fetch.nameless = nameless;
    fetch.move_name = !nameless;
    enum bnt_status st = fetch_any(&w, &fetch, out, err);
    if (st == BNT_E_DIGEST && err) {
        err->hint[0] = '\0';
        if (model->files[i].sha256[0]) {
            bnt_err_hint(err, "if the new content is meant: write its sha256 into %.200s",
                         p->manifest.shown);
        } else {
            bnt_err_hint(err, "if the new content is meant: bnt update %s", model->name);
        }
    }
    if (st == BNT_OK && out->entry.size != locked.size) {
        const bool given = model->files[i].has_size; /* to make it again would change nothing */
        st = bnt_err_set(err, BNT_E_FILE, "%.200s says that %s has %llu bytes; it has %llu",
                         given ? p->manifest.shown : LOCKFILE_FILE, fetch.name,
                         (unsigned long long)locked.size, (unsigned long long)out->entry.size);
        bnt_err_hint(err, "%s%s",
                     given ? "write the true size there, or none" : "make it again: bnt update ",
                     given ? "" : model->name);
    }
    return st == BNT_OK ? lock_trees_check(opts->cache, fetch.name, &locked, err) : st;
}

/* Bring what is new in the entry of a model, that was `before`; when it does not come, the entry is
 * as before. A source that tells digests has been believed so far. */
static enum bnt_status keep_unless_there(struct project *p, const struct manifest_model *model,
                                         json_t *before, const struct project_opts *opts,
                                         struct bnt_err *err)
{
    struct bnt_fetch_result got;
    struct project_opts once = *opts;
    enum bnt_status st = BNT_OK;
    once.fetch.force = false; /* project_fetch does that */
    if (json_equal(before, lockfile_entry(&p->lock, model->name)) || BNT_FAULT(lock_promise)) {
        return BNT_OK;
    }
    for (size_t i = 0; st == BNT_OK && i < model->n_files; i++) {
        st = fetch_locked(p, model, i, &once, true, &got, err);
    }
    if (st != BNT_OK) {
        lockfile_take_back(&p->lock, model->name, json_incref(before));
        (void)project_grow_from_lock(p, model, NULL);
    }
    return st;
}

enum bnt_status project_settle(struct project *p, const struct manifest_model *model,
                               const struct project_opts *opts, struct bnt_err *err)
{
    char why[256];
    struct bnt_err first = {0};
    struct project_opts with = *opts;
    with.fetch = fetch_opts_of(p, model, opts);
    enum bnt_status st = lockfile_drift(&p->lock, model, why, &first);
    const bool fits = st == BNT_OK && !why[0];
    const bool ask = wants_question(p, model, opts);
    json_t *before = fits ? json_deep_copy(lockfile_entry(&p->lock, model->name)) : NULL;
    if (st == BNT_OK) {
        st = project_lock(p, model, ask, &with, &first);
    }
    if (st == BNT_OK && before) {
        st = keep_unless_there(p, model, before, opts, &first);
    }
    json_decref(before);
    if (st == BNT_OK && ask) {
        note_question(p, model, opts);
    }
    if (st != BNT_OK && ask && fits && mirror_may_help(st) &&
        policy_of(p, model, opts) == BNT_FETCH_UPDATE_DAILY) {
        if (opts->warn) {
            opts->warn(opts->warn_ctx, first.msg,
                       "what " LOCKFILE_FILE " has is used; the source "
                       "is asked again at the next fetch");
        }
        return BNT_OK;
    }
    if (st != BNT_OK && err && err->status == BNT_OK) {
        *err = first;
    }
    return st;
}

enum bnt_status project_fetch(const struct project *p, const struct manifest_model *model, size_t i,
                              const struct project_opts *opts, struct bnt_fetch_result *out,
                              struct bnt_err *err)
{
    return fetch_locked(p, model, i, opts, false, out, err);
}
