/* Contracts: the interface of a model as a text, derived from the file and from what the engine
 * says to it. A mock that gives the same text stands in for the model where the text is all that is
 * relied on; a model that no longer gives it has changed. docs/mock.md describes the sections.
 *
 * What the weights say is no part of it, but where the section `answers` is asked for by name. Keys
 * below general.mock. are left out. */
#ifndef BNT_MOCK_CONTRACT_H
#define BNT_MOCK_CONTRACT_H

#include <signal.h>
#include <stddef.h>
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
    BNT_CONTRACT_ALL = 255,       /* of those so far, all of which a mock can keep */
    BNT_CONTRACT_VALUES = 256,    /* of all metadata keys: of this one model, not of its mocks */
    BNT_CONTRACT_ANSWERS = 512,   /* ids of prompts, and what is said to them */
    BNT_CONTRACT_EVERYTHING = 1023
};
/* The first three and `values` need a header only: a file without a vocabulary, or one too large to
 * run. */

/* A recorded id is kept when its logit lies within this share of the best one's size below it: what
 * float arithmetic and finer activations of another engine may do. */
#define BNT_CONTRACT_TOLERANCE 0.03

/* Sections from "tensors,text" or "all,answers". Errors: USAGE. */
enum bnt_status bnt_contract_sections(const char *names, unsigned *out, struct bnt_err *err);
/* The other way round: "tensors, text" into out, cut at its size. */
void bnt_contract_section_names(unsigned sections, char *out, size_t size);

/* The model that is asked. */
struct bnt_contract_of {
    const char *path;
    uint64_t seed; /* of the texts; that of the contract where one is checked */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

/* Append the contract of a file. Errors: those of gguf_open, bnt_model_open and of a session;
 * INTERRUPTED. */
enum bnt_status bnt_contract_derive(const struct bnt_contract_of *of, unsigned sections,
                                    struct bnt_buf *out, struct bnt_err *err);

/* Derive what a contract has of *sections, and compare. A mock is not held to values and answers.
 * *sections becomes those that the contract has and the model was held to. CONTRACT: *patch is what
 * turns the contract into what was derived, and the error says how many lines differ. Errors: also
 * FILE for no contract, USAGE when none of its sections is left. */
enum bnt_status bnt_contract_check(const char *contract_path, const struct bnt_contract_of *of,
                                   unsigned *sections, struct bnt_buf *patch, struct bnt_err *err);

#endif
