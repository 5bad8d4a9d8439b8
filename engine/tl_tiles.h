/* Tile sizes of TL1 and TL2. The formats have no place for them in a file; a file that `bnt` writes
 * says them all the same, under a key of its own: an array of texts "ROWSxCOLS=BM,BK,BM_INNER", one
 * for each shape. Files from elsewhere have the presets of their converter (tl_tiles_known). */
#ifndef BNT_TL_TILES_H
#define BNT_TL_TILES_H

#include "engine/gguf_plan.h"

#define TL_TILES_KEY "bnt.tl_tiles"

struct mwrite_tensor;

/* Of a matrix of this file: what the file says, else a preset; false when neither is there. */
bool tl_tiles_of_file(const struct gguf *g, enum tensor_type type, uint64_t rows, uint64_t cols,
                      struct tl_tiles *out);
/* Of a TL1 or TL2 tensor of this file: what the user says in one of n texts, else what the file
 * says, else a preset; false when nobody does. A text that is none says nothing (tl_tiles_check).
 */
bool tl_tiles_of_tensor(const struct gguf *g, const struct gguf_tensor *t, const char *const *texts,
                        size_t n, struct tl_tiles *out);
/* Errors: USAGE for a text that is none. */
enum bnt_status tl_tiles_check(const char *const *texts, size_t n, struct bnt_err *err);
/* For a matrix to be written: what the user says in one of n texts, else a preset. Errors: USAGE
 * for a text that is none, for a shape without tiles and for tiles that do not divide it. */
enum bnt_status tl_tiles_choose(enum tensor_type type, uint64_t rows, uint64_t cols,
                                const char *const *texts, size_t n, struct tl_tiles *out,
                                struct bnt_err *err);
/* The key into a plan, for those tensors of n that have tiles; without one the key goes. */
enum bnt_status tl_tiles_put(struct gguf_plan *p, const struct mwrite_tensor *tensors, size_t n,
                             struct bnt_err *err);

#endif
