/* A GGUF model with its linear weights in another type. */
#ifndef BNT_QUANTIZE_FILE_H
#define BNT_QUANTIZE_FILE_H

#include "engine/model_write.h"

struct bnt_quantize_options {
    enum tensor_type type;                    /* of linear weights: ternary, or quantize_row_can */
    const struct tensor_type_info *embedding; /* of embedding and head; NULL: as they are */
    const char *const *tiles; /* n_tiles of "ROWSxCOLS=BM,BK,BM_INNER": of what is written; where
                                 that has no tiles, of what is read */
    size_t n_tiles;
    const char *i2s_layout; /* of the input; NULL: find out */
    bool force;             /* ternarise what was not trained for it, round what was rounded */
    bool half_scales;
    const volatile sig_atomic_t *interrupted;
    void (*progress)(void *ctx, uint64_t done, uint64_t of);
    void *ctx;
    bnt_warn_fn *warn;
    void *warn_ctx;
};

/* Write `to` from the file `from`: keys and all other tensors as they are, linear weights anew.
 * From F32, F16 and BF16 to any type, by absmean to the ternary ones; between ternary types the
 * codes are kept. Errors: USAGE (the same file; shapes that a type cannot hold; tiles), UNSUPPORTED
 * (a model that is not ternary and was not trained to be; weights that were rounded already), those
 * of gguf_open and mwrite_run. */
enum bnt_status bnt_quantize(const char *from, const char *to, const struct bnt_quantize_options *o,
                             struct mwrite_report *out, struct bnt_err *err);

/* Refuse what is about to become ternary without having been trained for it: neither a family with
 * sub-norms nor weights that are ternary already. For `bnt convert` too. After the survey. */
enum bnt_status quantize_check_trained(const struct mwrite *m, const char *what, const char *arch,
                                       bool force, struct bnt_err *err);

#endif
