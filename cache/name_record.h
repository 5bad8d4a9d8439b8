/* Names beside the index: <dir>/names/<name>.json, so that a new index has them again.
 * name_record.c begins with the invariants. */
#ifndef BNT_CACHE_NAME_RECORD_H
#define BNT_CACHE_NAME_RECORD_H

#include "cache/cache_impl.h"

/* Write the record of entry->name, durable. In the transaction that writes the row, before it. */
enum bnt_status name_record_write(const char *dir, const struct bnt_cache_entry *entry,
                                  struct bnt_err *err);
/* Remove it; fine when there is none. */
void name_record_drop(const char *dir, const char *name);
/* After a change of a name that failed: make the record what the index says. */
void name_record_restore(struct bnt_cache *c, const char *name);
/* Give a new index the names whose blobs it has. In its first transaction. */
enum bnt_status name_record_adopt(const char *dir, struct cache_index *ix, struct bnt_err *err);
/* Write the records that are missing, of names that are older than records. */
enum bnt_status name_record_complete(struct bnt_cache *c, struct bnt_err *err);

#endif
