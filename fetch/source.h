/* What a source means. */
#ifndef BNT_FETCH_SOURCE_H
#define BNT_FETCH_SOURCE_H

#include "cache/bnt_cache.h"

enum source_kind { SOURCE_BUNDLED, SOURCE_FILE, SOURCE_HTTPS, SOURCE_HTTP };

struct source {
    enum source_kind kind;
    /* How the index records it and messages show it. A query string, which may hold a signature, is
     * replaced by the first digits of its digest, so that equal sources are equal and no secret is
     * kept. */
    char shown[BNT_CACHE_SOURCE_MAX];
    char url[BNT_CACHE_SOURCE_MAX];     /* https and http: what is asked for */
    char path[BNT_PATH_MAX];            /* bundled and file: absolute, without symbolic links */
    char file_name[BNT_CACHE_FILE_MAX]; /* last part of the path, decoded */
    char name[BNT_CACHE_NAME_MAX];      /* name made from it; "" when none can be */
};

/* Parse; of a file it must exist. Errors: USAGE, UNSUPPORTED for an unknown scheme, NOT_FOUND. */
enum bnt_status source_parse(const char *text, struct source *out, struct bnt_err *err);
static inline bool source_is_remote(const struct source *s)
{
    return s->kind == SOURCE_HTTPS || s->kind == SOURCE_HTTP;
}

#endif
