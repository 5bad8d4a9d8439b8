/* What the engine keeps of models in <dir>/packed (base/packed_dir.h), counted and removed. All of
 * it can be made again, so it goes before any model does. packed_files.c has the rules. */
#ifndef BNT_CACHE_PACKED_FILES_H
#define BNT_CACHE_PACKED_FILES_H

#include "cache/bnt_cache.h"

/* Remove what is kept of one model; best effort, and fine when there is nothing. A process that
 * has a form mapped keeps it. */
void packed_drop(const char *dir, const char *digest);

/* What a collection sees. */
struct packed_limits {
    uint64_t model_bytes, free_bytes; /* of the blobs, of the disk */
    int64_t now_s;
};
/* The part of a collection: fills packed_* of the report. */
enum bnt_status packed_collect(const char *dir, const struct bnt_cache_gc_opts *o,
                               const struct packed_limits *limits, struct bnt_cache_gc_report *r,
                               struct bnt_err *err);

#endif
