/* One matrix after another from whatever holds it to whatever type a file wants: the middle of
 * `bnt convert` and `bnt quantize`.
 *
 * A matrix is read rows at a time, twice where it becomes ternary: a survey finds its scale, then
 * it is written. Memory is a few megabytes of rows, for I2_S, TQ1_0, TQ2_0, IQ1_BN, IQ2_BN,
 * IQ2_BN_R4 and all float types; TL1 and TL2, whose order of bytes spans the matrix, take a byte
 * and a quarter per weight of the one in work. */
#ifndef BNT_RECODE_H
#define BNT_RECODE_H

#include "engine/gguf_write.h"
#include "engine/quantize.h"

/* Where rows come from. `which` tells one matrix of a source from another. */
struct recode_source {
    /* n rows from row0 on, both multiples of 4 but for a last n, as float32. */
    enum bnt_status (*floats)(void *ctx, size_t which, uint64_t row0, uint64_t n, float *dst,
                              struct bnt_err *err);
    /* The same as codes in {-1, 0, 1}, and the one scale of the matrix; only where `ternary` of the
     * item says that it has them. */
    enum bnt_status (*codes)(void *ctx, size_t which, uint64_t row0, uint64_t n, int8_t *dst,
                             float *scale, struct bnt_err *err);
    void *ctx;
};

struct recode_item {
    const struct recode_source *from;
    size_t which;
    const char *name; /* for messages */
    uint64_t rows, cols;
    bool ternary; /* the source has codes */
    enum tensor_type to;
    struct tl_tiles tiles; /* of TL1 and TL2 */
    /* What the survey finds. */
    bool was_ternary;    /* its weights are a scale times -1, 0, 1 already */
    float scale;         /* of its codes */
    float written_scale; /* what is written for it: the same, but where a ".scale" tensor has it */
};

/* Find scale and was_ternary. For an item that becomes ternary or whose source is; else it only
 * looks for numbers that are none. Errors: the source's; FILE with class SCALE for a NaN or an
 * infinity. */
enum bnt_status recode_survey(struct recode_item *item, struct bnt_err *err);
/* All of its bytes into w, which has begun its tensor. */
enum bnt_status recode_write(const struct recode_item *item, struct gguf_writer *w,
                             struct bnt_err *err);

#endif
