/* What the parts of a contract share: contract.c has the frame and the file's header,
 * contract_text.c the tokenizer, contract_errors.c and contract_behaviour.c what the engine says.
 */
#ifndef BNT_MOCK_CONTRACT_IMPL_H
#define BNT_MOCK_CONTRACT_IMPL_H

#include "engine/bnt_infer.h"
#include "mock/contract.h"

struct derivation {
    struct bnt_contract_of of;
    const struct gguf *g;
    struct bnt_model *model; /* NULL where only header sections are wanted */
    const char *given;       /* the contract that is checked; NULL when one is made */
    struct bnt_buf *out;
};

enum { CONTRACT_N_CTX = 64 }; /* positions of the sessions that are asked */

enum bnt_status contract_tokenizer(struct derivation *d, struct bnt_err *err);
enum bnt_status contract_text(struct derivation *d, struct bnt_err *err);
enum bnt_status contract_errors(struct derivation *d, struct bnt_err *err);
enum bnt_status contract_behaviour(struct derivation *d, struct bnt_err *err);
enum bnt_status contract_answers(struct derivation *d, struct bnt_err *err);

/* The lines of a section of a contract's text, up to the empty one before the next; NULL: it has no
 * such section. */
const char *contract_section(const char *text, const char *name, size_t *len);

/* Text in quotes, one line of printable ASCII whatever it is. */
enum bnt_status contract_quote(struct bnt_buf *out, const char *text, size_t n,
                               struct bnt_err *err);

#endif
