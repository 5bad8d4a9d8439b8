/* Hashes a file while it is being written, on a thread of its own. When the digest is known
 * beforehand, one hash makes it and the chain of its chunks; on first contact a second one makes
 * the chunk tree (cache/tree.c), since a lock file and updates by chunk will want that. It also has
 * the kernel begin to write back what was hashed, so that the sync at the end finds little left to
 * do.
 *
 * One thread, the writer's, calls all of these. */
#ifndef BNT_FETCH_HASHER_H
#define BNT_FETCH_HASHER_H

#include "cache/bnt_cache.h"

struct hasher;

/* With its thread, which sees no signal. */
enum bnt_status hasher_new(bool first_contact, struct hasher **out, struct bnt_err *err);
/* Forget everything: from now on it is about the file fd (-1: none yet), borrowed until the next
 * begin or free. */
enum bnt_status hasher_begin(struct hasher *h, int fd, struct bnt_err *err);
/* The bytes [0, end) are there and stay as they are. */
void hasher_advance(struct hasher *h, uint64_t end);
/* Wait up to wait_ms until all of them are hashed; false: not yet. True also when it failed. */
bool hasher_wait(struct hasher *h, unsigned wait_ms);
/* After a wait that was true: the digest and the tree or chain, which becomes the
 * caller's. */
enum bnt_status hasher_finish(struct hasher *h, char hex[BNT_SHA256_HEX],
                              struct bnt_chunk_tree **tree, struct bnt_err *err);
void hasher_free(struct hasher *h); /* NULL is fine */

#endif
