/* Places of one content, each once. */
#include "fetch/places.h"

#include <stdio.h>
#include <string.h>

#include "fetch/project_family.h"
#include "fetch/settle.h"

static void add_source(struct places *p, const struct source *s)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->at[i].shown, s->shown) == 0) {
            return;
        }
    }
    if (p->n < sizeof p->at / sizeof p->at[0]) {
        p->at[p->n++] = *s;
    }
}

void places_add(struct places *p, const char *text, struct bnt_err *why)
{
    struct source s;
    if (strstr(text, "?query-")) {
        bnt_err_set(why, BNT_E_UNSUPPORTED, "the query of %.300s was not recorded", text);
    } else if (source_parse(text, &s, why) == BNT_OK) {
        add_source(p, &s);
    }
}

/* One place of a file of a model; a source of the hub or of a registry is held to the revision of
 * the lock file. */
static void add_place(struct places *p, const struct project *project,
                      const struct manifest_model *model, size_t i,
                      const struct manifest_text *mirror)
{
    char text[BNT_CACHE_SOURCE_MAX];
    struct source s;
    const json_t *entry = lockfile_entry(&project->lock, model->name);
    const char *revision = mirror ? NULL : lockfile_revision(entry);
    bool known = project_place(project, model, i, mirror, revision, text, NULL) == BNT_OK &&
                 source_parse(text, &s, NULL) == BNT_OK;
    if (known && revision && settle_tells(text)) {
        const bool named = model->files[i].path.at || i >= lockfile_n_files(entry);
        const char *file = named ? NULL : lockfile_file(entry, i).path;
        known = settle_pinned(&s, revision, file, text, NULL) == BNT_OK &&
                source_parse(text, &s, NULL) == BNT_OK;
    }
    if (known) {
        add_source(p, &s);
    }
}

static bool has_digest(const struct project *project, const struct manifest_model *model, size_t i,
                       const char *digest)
{
    const json_t *entry = lockfile_entry(&project->lock, model->name);
    const char *locked = entry && i < lockfile_n_files(entry) ? lockfile_file(entry, i).sha256 : "";
    return strcmp(model->files[i].sha256, digest) == 0 || strcmp(locked, digest) == 0;
}

void places_add_project(struct places *p, const char *digest)
{
    struct project project;
    if (project_open(&project, NULL, NULL) != BNT_OK) {
        return;
    }
    for (size_t k = 0; k < project.manifest.n_models; k++) {
        const struct manifest_model *model = &project.manifest.models[k];
        for (size_t i = 0; i < model->n_files; i++) {
            if (!has_digest(&project, model, i, digest)) {
                continue;
            }
            add_place(p, &project, model, i, NULL);
            const size_t n_mirrors = model->files[i].is_found ? 0 : model->mirrors.n;
            for (size_t m = 0; m < n_mirrors; m++) {
                add_place(p, &project, model, i, &model->mirrors.at[m]);
            }
        }
    }
    project_release(&project);
}
