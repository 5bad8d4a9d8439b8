/* A corrected copy of a model file: alignment, a missing pre-tokenizer, the chat template that is
 * known to be wrong, I2_S weights packed for another processor, the older version of the format,
 * the other byte order, bytes that belong to nothing. The file itself is never touched.
 *
 * What is wrong is told by engine/validate.h; an error that is none of the above is refused. The
 * copy is validated before it gets its name. */
#ifndef BNT_FIX_H
#define BNT_FIX_H

#include "engine/validate.h"

enum { FIX_MAX_CHANGES = 16, FIX_TEXT_BYTES = 256 };

struct fix_options {
    const char *pre;             /* pre-tokenizer to write; NULL: the recognised one */
    const char *const *tl_tiles; /* n_tl_tiles, as in struct validate_options */
    size_t n_tl_tiles;
    bool overwrite;                           /* the target may exist */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

struct fix_change {
    const char *what;          /* name of the class, or "version", "byte-order" */
    char text[FIX_TEXT_BYTES]; /* a sentence */
};

struct fix_report {
    struct fix_change changes[FIX_MAX_CHANGES];
    size_t n; /* 0: the copy says what the file says */
    uint64_t bytes;
    char digest[BNT_SHA256_HEX];
    uint64_t n_warnings; /* of the copy: what was left alone */
};

/* Errors: USAGE (out is in itself, or exists and may not be overwritten; an unknown
 * pre-tokenizer); NOT_FOUND; the status of a defect that cannot be put right; FILE when the copy is
 * not sound either; NO_SPACE, INTERRUPTED, MEMORY. */
enum bnt_status fix_file(const char *in, const char *out, const struct fix_options *o,
                         struct fix_report *report, struct bnt_err *err);

#endif
