/* The update of a model moves what changed: chunks of the new content that the cache has in another
 * model are taken from there. delta.c begins with how, and with where trees come from. */
#ifndef BNT_FETCH_DELTA_H
#define BNT_FETCH_DELTA_H

#include "fetch/bnt_fetch.h"
#include "fetch/part.h"
#include "fetch/source.h"

struct delta_want {
    const struct source *sources; /* settled; the first is the one that was asked for */
    size_t n_sources;
    const char *digest; /* of the new content; without one there is no update */
    const char *name;   /* that the new content will have */
    uint64_t size;      /* bytes; 0: not known */
    const struct bnt_fetch_opts *opts;
};

/* Fill a fresh part with what is here of the new content. When there is nothing, or no tree can be
 * had, the part stays empty: that is no error, and the whole is transferred. Errors: those of
 * writing. */
enum bnt_status delta_seed(struct bnt_cache *c, const struct delta_want *want, struct part *part,
                           uint64_t *reused_bytes, struct bnt_err *err);

/* Where the tree of a source is: false when it can have none. */
bool delta_tree_source(const struct source *s, struct source *out);

#endif
