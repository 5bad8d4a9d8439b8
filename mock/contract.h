/* Contracts: the interface of a model as a text, derived from the file and from what the engine
 * says to it. A mock that gives the same text stands in for the model where the text is all that is
 * relied on; a model that no longer gives it has changed. docs/mock.md describes the sections.
 *
 * Weights and what they say are no part of it. Keys below general.mock. are left out. */
#ifndef BNT_MOCK_CONTRACT_H
#define BNT_MOCK_CONTRACT_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

#define BNT_CONTRACT_MAX_BYTES (16u << 20)
#define BNT_CONTRACT_STRINGS 500 /* in the section text */

enum bnt_contract_section {
    BNT_CONTRACT_FORMAT = 1,      /* version, byte order, alignment */
    BNT_CONTRACT_METADATA = 2,    /* keys and their types */
    BNT_CONTRACT_TENSORS = 4,     /* name patterns, types, shapes as functions of the numbers */
    BNT_CONTRACT_NUMBERS = 8,     /* layers, widths, heads, context... */
    BNT_CONTRACT_TOKENIZER = 16,  /* kind, special tokens, the vocabulary's digest */
    BNT_CONTRACT_TEXT = 32,       /* texts drawn from the seed, their ids, and the way back */
    BNT_CONTRACT_ERRORS = 64,     /* what bad input is refused with */
    BNT_CONTRACT_BEHAVIOUR = 128, /* determinism and stop rules */
    BNT_CONTRACT_ALL = 255
};
/* The first three need a header only: a file without a vocabulary, or one too large to run. */

/* Sections from "tensors,text", or "all". Errors: USAGE. */
enum bnt_status bnt_contract_sections(const char *names, unsigned *out, struct bnt_err *err);

/* Append the contract of a file. Errors: those of gguf_open, bnt_model_open and of a session. */
enum bnt_status bnt_contract_derive(const char *path, unsigned sections, uint64_t seed,
                                    struct bnt_buf *out, struct bnt_err *err);

/* Derive what a contract has, and compare. CONTRACT: *patch is what turns the contract into what
 * was derived, and the error says how many lines differ. Errors: also FILE for no contract. */
enum bnt_status bnt_contract_check(const char *contract_path, const char *path,
                                   struct bnt_buf *patch, struct bnt_err *err);

#endif
