/* The manifest: bnt.yml, in which people write which models a project uses.
 *
 *     models:
 *       bitnet-2b:                            # the name for -m
 *         source: https://example.org/bitnet/ggml-model-i2_s.gguf
 *         mirrors: [https://mirror.example/ggml-model-i2_s.gguf]
 *         sha256: 4221b252fdd5fd25e15847adfeb5ee88886506ba50b8a34548374492884c2162
 *         size: 1187801280
 *         license: mit
 *         groups: [ci, nightly]
 *       from-the-hub:
 *         source: hf://org/repo/model.gguf
 *         revision: main                      # branch, tag or commit; the lock file has the commit
 *       with-tokenizer:
 *         source: ./models                    # a folder, from the manifest's; with files below it
 *         files: [model.gguf, tokenizer.json]
 *
 * What is not understood is an error that names its line: a misspelled key must not be a silent
 * wish. docs/manifest.md is the manual. */
#ifndef BNT_FETCH_MANIFEST_H
#define BNT_FETCH_MANIFEST_H

#include <stddef.h>

#include "base/digest.h"
#include "base/file.h"
#include "cache/bnt_cache.h"
#include "fetch/bnt_fetch.h"
#include "base/yaml_tree.h"

#define MANIFEST_FILE "bnt.yml"
#define MANIFEST_TIMEOUT_MAX_S (7 * 24 * 3600) /* for --timeout and BNT_FETCH_TIMEOUT, too */

struct manifest_text { /* and where it stands, for errors that are found later */
    const char *at;    /* NULL: not given */
    unsigned line, column;
};

struct manifest_texts {
    const struct manifest_text *at;
    size_t n;
};

struct manifest_file {
    struct manifest_text path;   /* below the source; at == NULL: the source is the file */
    char sha256[BNT_SHA256_HEX]; /* lower case; "" when not given */
    bool has_size;
    uint64_t size; /* bytes */
    /* The file's name in the cache: the model's for the first file, the model's, a dot and the
     * path for others. */
    char cache_name[BNT_CACHE_NAME_MAX];
    bool is_found; /* not named by the manifest; path is as that of the first file */
};

/* What the machine must have that runs a model; 0, empty and NULL: nothing is said. */
struct manifest_requires {
    uint64_t memory; /* bytes */
    struct manifest_texts cpu;
    struct manifest_text target;
};

struct manifest_model {
    char name[BNT_CACHE_NAME_MAX];
    unsigned line;
    struct manifest_text source; /* with the revision, when there is one: hf://org/repo@REVISION */
    struct manifest_texts mirrors;
    struct manifest_file *files; /* at least one */
    size_t n_files;
    struct manifest_file *given; /* those that the manifest names */
    size_t n_given;
    void *found; /* memory of `files` when there are more; freed with the manifest */
    bool companions, says_companions; /* tokenizer and the like belong to it */
    struct manifest_text license;
    struct manifest_texts groups;
    enum bnt_fetch_update update;
    struct manifest_requires requires;
};

/* Limits of the cache, as `bnt cache gc` has them; 0: none. */
struct manifest_limits {
    bool given;
    uint64_t max_size, min_free; /* bytes */
    int64_t max_age_s, demote_after_s;
    uint64_t keep_latest;
};

struct manifest {
    char path[BNT_PATH_MAX];       /* absolute */
    char dir[BNT_PATH_MAX];        /* of the file, absolute: relative sources begin here */
    char shown[BNT_PATH_MAX];      /* what errors call the file */
    struct yaml_tree tree;         /* owns the texts */
    struct manifest_model *models; /* sorted by name */
    size_t n_models;
    int64_t timeout_s; /* of a whole fetch; 0: not given */
    enum bnt_fetch_update update;
    struct manifest_limits limits;
};

/* The path of the manifest of this folder: MANIFEST_FILE in it or in the nearest folder above that
 * has one; *found is false when there is none. */
enum bnt_status manifest_find(char path[BNT_PATH_MAX], bool *found, struct bnt_err *err);

/* Read and check; the network and the sources are not touched. Errors: NOT_FOUND no such file; FILE
 * with "file:line:column: what" and the nearest key as hint. */
enum bnt_status manifest_read(struct manifest *m, const char *path, struct bnt_err *err);
void manifest_release(struct manifest *m);

/* The model of that name, or NULL. */
const struct manifest_model *manifest_model(const struct manifest *m, const char *name);
bool manifest_in_group(const struct manifest_model *model, const char *group);

/* The model that has a file of that name in the cache, `besides` not counted, or NULL. */
const struct manifest_model *manifest_name_owner(const struct manifest *m, const char *cache_name,
                                                 const struct manifest_model *besides);

/* The name in the cache of a file of a model beside its first; false when there can be none. */
bool manifest_file_name(const char *model, const char *path, char out[BNT_CACHE_NAME_MAX]);

/* Where file `i` of the model lies, at the source (mirror NULL) or a mirror; a file below a URL is
 * escaped as URLs want. Errors: USAGE too long. */
enum bnt_status manifest_place(const struct manifest_model *model, size_t i,
                               const struct manifest_text *mirror, char out[BNT_CACHE_SOURCE_MAX],
                               struct bnt_err *err);
/* The same for source_parse: a relative path leads from the manifest's folder. */
enum bnt_status manifest_source(const struct manifest *m, const struct manifest_model *model,
                                size_t i, const struct manifest_text *mirror,
                                char out[BNT_CACHE_SOURCE_MAX], struct bnt_err *err);

#endif
