/* The lock file: bnt.lock beside the manifest, which says exactly which bytes a project uses. bnt
 * writes it, people commit and review it: JSON, sorted, one file of a model per line.
 *
 *     {
 *       "schema": 1,
 *       "models": {
 *         "bitnet-2b": {
 *           "source": "https://example.org/bitnet/ggml-model-i2_s.gguf",
 *           "files": [
 *             {"path": "ggml-model-i2_s.gguf", "size": 1187801280, "sha256": "42...",
 *              "tree": "9b...", "mirrors": []}
 *           ]
 *         }
 *       }
 *     }
 *
 * A model of the hub has "revision" after its source: the commit that its revision was; one of a
 * registry has the digest of its manifest there. "tree" is the root of the chunk tree
 * (cache/tree.c), there when whoever locked the file had its content; it proves the tree by which
 * an update moves chunks. The file holds no secret: the query of a URL is recorded as digits of its
 * digest. A lock that lies costs bandwidth, never correctness: content is always compared with its
 * digest. */
#ifndef BNT_FETCH_LOCKFILE_H
#define BNT_FETCH_LOCKFILE_H

#include <jansson.h>

#include "fetch/manifest.h"

#define LOCKFILE_FILE "bnt.lock"
#define LOCKFILE_SCHEMA 1
#define LOCKFILE_MAX_BYTES (8u << 20)

struct lockfile {
    char path[BNT_PATH_MAX];
    bool exists;    /* there was a file */
    bool is_held;   /* somebody has the lock on the folder for long: it is not waited for again */
    json_t *models; /* name → entry; owned */
    json_t *edits;  /* what is not written yet: name → entry, or null of one that is dropped */
};

/* What is locked of one file; texts are borrowed from the lock file. */
struct lock_file {
    const char *path; /* NULL in an entry that is made: as the manifest says */
    const char *sha256;
    uint64_t size;    /* bytes */
    const char *tree; /* root of the chunk tree; NULL: not known */
};

/* Read the lock file in `dir`; none is an empty one. Errors: FILE with "bnt.lock:line: what",
 * UNSUPPORTED a newer schema. */
enum bnt_status lockfile_read(struct lockfile *l, const char *dir, struct bnt_err *err);
/* Whether lockfile_write would write: something changed, or there was no file. */
bool lockfile_differs(const struct lockfile *l);
/* Durably, when it differs: the changes go into the file as it is by now, since other processes may
 * lock other models meanwhile. Errors: those of lockfile_read. */
enum bnt_status lockfile_write(struct lockfile *l, struct bnt_err *err);
void lockfile_release(struct lockfile *l);

/* The entry of a model, or NULL. Valid until the entry is put or dropped. */
const json_t *lockfile_entry(const struct lockfile *l, const char *name);
size_t lockfile_n_files(const json_t *entry);
struct lock_file lockfile_file(const json_t *entry, size_t i);

/* Whether the entry is no longer what the manifest asks for; `why` says in what, "" when it is. */
enum bnt_status lockfile_drift(const struct lockfile *l, const struct manifest_model *model,
                               char why[256], struct bnt_err *err);

/* The commit of an entry, or NULL. */
const char *lockfile_revision(const json_t *entry);

/* An entry for the model without its files and revision. Owned by the caller until lockfile_put. */
enum bnt_status lockfile_entry_new(const struct manifest_model *model, json_t **out,
                                   struct bnt_err *err);
enum bnt_status lockfile_entry_revision(json_t *entry, const char *commit, struct bnt_err *err);
/* Add file `i` of the model to a new entry. */
enum bnt_status lockfile_entry_add(json_t *entry, const struct manifest_model *model, size_t i,
                                   const struct lock_file *file, struct bnt_err *err);
/* Note the root of the chunk tree of file `i` of a new entry; it has none yet. */
enum bnt_status lockfile_entry_tree(json_t *entry, size_t i, const char *root, struct bnt_err *err);
/* Set the model's entry; takes it, also on failure. */
enum bnt_status lockfile_put(struct lockfile *l, const char *name, json_t *entry,
                             struct bnt_err *err);
/* As if it had not been put: `before`, which is taken, is what the file has. */
void lockfile_take_back(struct lockfile *l, const char *name, json_t *before);
/* Drop entries of models that the manifest does not have. */
void lockfile_prune(struct lockfile *l, const struct manifest *m);

#endif
