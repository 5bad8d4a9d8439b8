/* What the parts of `bnt inspect` and `bnt validate` share: facts gathered once, shown as text, as
 * JSON or as SARIF. */
#ifndef BNT_CMD_INSPECT_IMPL_H
#define BNT_CMD_INSPECT_IMPL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/app.h"
#include "base/status.h"
#include "engine/gguf.h"

#define INSPECT_MAX_TYPES 32 /* more than there are tensor types */
#define INSPECT_N_SPECIAL 5
#define INSPECT_NUMBER_TEXT 40 /* bytes */

/* All tensors of one type. */
struct inspect_type {
    const char *name;
    uint64_t tensors, weights, bytes;
};

/* A token that has a role. */
struct inspect_special {
    const char *role; /* "bos" */
    int64_t id;       /* -1: the file names none */
    struct gguf_str text;
};

struct inspect {
    const struct gguf *g;
    const struct bnt_model_ref *ref;
    struct gguf_str arch, name;
    const char *family; /* what people call the architecture; NULL when it is not known here */
    /* Numbers of the architecture; -1 when the file does not say. */
    int64_t n_layer, n_embd, n_ff, n_head, n_head_kv, n_ctx, n_vocab, file_type;
    const char *file_type_name; /* NULL: none, or not known here */
    uint64_t n_weights, tensor_bytes;
    struct inspect_type types[INSPECT_MAX_TYPES]; /* most bytes first */
    size_t n_types;
    struct gguf_str tokenizer, pre, chat_template;
    uint64_t n_tokens, n_merges;
    struct inspect_special special[INSPECT_N_SPECIAL];
    bool add_bos, add_eos, add_bos_said, add_eos_said;
};

/* Fill `in` from an open file; in borrows from both. */
void inspect_gather(const struct gguf *g, const struct bnt_model_ref *ref, struct inspect *in);

/* Whether there are tensors of the type that a file type speaks of: "Q4_K_S" of Q4_K, "Q2_0" of
 * Q2_0_G128, too. */
bool inspect_has_type(const struct inspect *in, const char *name);

/* Scale of a tensor that has one (I2_S, TL1, TL2); false for other types. */
bool inspect_scale(const struct gguf *g, const struct gguf_tensor *t, float *scale);

/* The shortest decimal number that reads back as the same float (single) or double. */
void inspect_number(double v, bool single, char text[INSPECT_NUMBER_TEXT]);
/* That number of a float, as the double nearest to it. */
double inspect_shortest(float f);

/* A JSON value on standard output: everything, with arrays in full when full_arrays. */
enum bnt_status inspect_print_json(const struct inspect *in, bool full_arrays, struct bnt_err *err);
/* {"error": {...}} on standard output. */
void inspect_print_error_json(const struct bnt_err *error);

/* Text of the file on a terminal: what is no printable UTF-8 is escaped, the rest after `max` bytes
 * left out. */
void inspect_put_text(struct gguf_str s, size_t max);
/* JSON text must be UTF-8: bytes that are not become U+FFFD. */
json_t *inspect_json_str(struct gguf_str s);
/* An integer above what JSON readers hold becomes text; a number that is none becomes null. */
json_t *inspect_json_u64(uint64_t v);
json_t *inspect_json_double(double v);

/* A SARIF log on standard output: of a defect of the file, of another error, or (error unset) of a
 * sound file. */
enum bnt_status inspect_print_sarif(const char *path, const struct bnt_err *error,
                                    struct bnt_err *err);

#endif
