/* The plan of a collection, apart from the cache, so that tests can give it any list and clock. */
#ifndef BNT_CACHE_GC_H
#define BNT_CACHE_GC_H

#include "cache/bnt_cache.h"

/* Sort the rows and set their verdicts; rows that come with one other than BNT_GC_KEPT stay. Sets
 * bytes_before and unmet. */
void gc_plan(struct bnt_cache_gc_report *r, const struct bnt_cache_gc_opts *o, int64_t now_s,
             uint64_t free_bytes);

#endif
