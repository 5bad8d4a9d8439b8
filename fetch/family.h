/* The files that belong to a model beside the one that is named: the other shards of a model that
 * is cut into several, and tokenizer, template and configuration that lie in its folder. */
#ifndef BNT_FETCH_FAMILY_H
#define BNT_FETCH_FAMILY_H

#include "fetch/bnt_fetch.h"
#include "fetch/source.h"

#define FAMILY_PATH_MAX 512
#define FAMILY_SHARDS_MAX 1000
#define FAMILY_FILES_MAX 1100 /* shards and companions, of which there are fewer than 100 */

struct family {
    char (*at)[FAMILY_PATH_MAX]; /* paths as that of the model's file: shards in order, the rest */
    size_t n;
};

/* Whether a path is that of shard k of n, NAME-00001-of-00003.gguf (or .safetensors). */
bool family_shard(const char *path, unsigned *k, unsigned *n);
/* Whether a model of this file has others without being asked for them: more shards, or a format
 * that holds no tokenizer. */
bool family_by_itself(const char *path);
/* Whether a file of this kind has its tokenizer beside it. */
bool family_needs_companions(const char *path);

/* Look where the file `path` of the source lies: in the hub's repository, or in a folder of this
 * machine. Errors: NOT_FOUND a shard that is missing; USAGE another shard than the first, or a
 * source that has no listing; those of the hub. */
enum bnt_status family_find(const struct source *s, const char *path, bool companions,
                            const struct bnt_fetch_opts *opts, struct family *out,
                            struct bnt_err *err);
void family_release(struct family *f);

#endif
