/* Pre-tokenizers: how a byte-level BPE vocabulary wants its text cut into pieces before merging.
 *
 * The names are those of tokenizer.ggml.pre. A pre-tokenizer is a list of steps; each step looks at
 * every piece of the step before on its own, finds its matches from left to right, and cuts there:
 * matches and the gaps between them are the new pieces, so nothing is ever lost. Hand-written
 * scanners do the matching: each is linear in the length of the piece whatever the text, which a
 * backtracking regular expression is not. */
#ifndef BNT_PRETOK_H
#define BNT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "engine/unicode.h"

#define PRETOK_MAX_STEPS 6

enum pretok_flags {
    PRETOK_IGNORE_MERGES =
        1, /* a piece that is a token stands for itself, whatever the merges would make of it */
    PRETOK_ADD_BOS = 2,  /* default of tokenizer.ggml.add_bos_token */
    PRETOK_NO_MERGES = 4 /* works without tokenizer.ggml.merges */
};

/* End of the match that begins at c[at] (end is where the piece ends), or at when there is none. */
typedef size_t pretok_match_fn(const void *rule, const uni_char *c, size_t at, size_t end);
/* Cut the piece c[begin..end-1]: writes the end of each new piece to out, returns how many there
 * are. */
typedef size_t pretok_cut_fn(const uni_char *c, size_t begin, size_t end, uint32_t *out);

struct pretok_step {
    pretok_match_fn *match; /* either match with its rule ... */
    const void *rule;
    pretok_cut_fn *cut; /* ... or cut */
};

struct pretok {
    const char *name;
    unsigned flags;
    const struct pretok_step *steps; /* PRETOK_MAX_STEPS rows at most, ends with a zeroed one */
};

/* By name, not terminated; NULL when unknown. */
const struct pretok *pretok_find(const char *name, size_t len);
/* Row i of the table; NULL past its end. */
const struct pretok *pretok_at(size_t i);
/* One name for each way of splitting, separated by ", ". */
enum bnt_status pretok_names(struct bnt_buf *out, struct bnt_err *err);

/* Cut c[0..n-1]: ends gets the end of every piece (in characters), ascending; returns how many.
 * ends and spare have room for n each. */
size_t pretok_split(const struct pretok *p, const uni_char *c, size_t n, uint32_t *ends,
                    uint32_t *spare);

#endif
