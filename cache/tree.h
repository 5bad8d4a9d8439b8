/* The chunk tree of a blob: digests of its 4 MiB leaves, kept beside the store, so that damage can
 * be told by offset and healed by chunks. tree.c begins with the format. */
#ifndef BNT_CACHE_TREE_H
#define BNT_CACHE_TREE_H

#include "cache/bnt_cache.h"

/* Path of the tree of a blob. */
enum bnt_status tree_path(const char *dir, const char *digest, char out[BNT_PATH_MAX],
                          struct bnt_err *err);
/* The folder in which they lie. */
enum bnt_status tree_root_folder(const char *dir, char out[BNT_PATH_MAX], struct bnt_err *err);
/* Keep a finished tree. */
enum bnt_status tree_store(const char *dir, const char *digest, struct bnt_chunk_tree *t,
                           struct bnt_err *err);
/* The kept tree, or NULL in *out when there is none, or none that is whole. */
enum bnt_status tree_load(const char *dir, const char *digest, struct bnt_chunk_tree **out,
                          struct bnt_err *err);
/* Remove it; fine when there is none. */
void tree_remove(const char *dir, const char *digest);

/* Of a chain, only tree_leaf_is says whether a chunk is right; its leaves are of use to nobody
 * else. */
bool tree_is_chain(const struct bnt_chunk_tree *t);
size_t tree_leaves(const struct bnt_chunk_tree *t);
/* Bytes of leaf i: all have BNT_CACHE_CHUNK_BYTES but the last. */
size_t tree_leaf_bytes(const struct bnt_chunk_tree *t, size_t i);
/* The digest of leaf i, BNT_SHA256_BYTES. */
const uint8_t *tree_leaf(const struct bnt_chunk_tree *t, size_t i);
/* Whether n bytes are leaf i. */
enum bnt_status tree_leaf_is(const struct bnt_chunk_tree *t, size_t i, const void *bytes, size_t n,
                             bool *same, struct bnt_err *err);

#endif
