/* What the checks of validate_*.c share. A check looks at one thing and adds findings; it fails
 * only for what is no defect of the file. */
#ifndef BNT_VALIDATE_IMPL_H
#define BNT_VALIDATE_IMPL_H

#include "engine/arch.h"
#include "engine/shape.h"
#include "engine/tokenizer.h"
#include "engine/validate.h"

enum { VALIDATE_KEY_BYTES = 160 };

struct validate {
    const char *path;
    const struct validate_options *o;
    struct validate_report *report;
    struct gguf *g;          /* report->gguf */
    const struct arch *arch; /* NULL: unknown */
    uint64_t n_head;         /* 0: not said */
    bool has_dims;           /* n_head and dims are what the metadata say */
    struct shape_dims dims;
    struct bnt_tokenizer *tokenizer; /* NULL: there is none that works */
    uint64_t n_fatal;       /* findings so far that this engine fails at, whatever the profile */
    enum bnt_status status; /* of adding: MEMORY stops the run */
};

/* Where a finding is. */
struct validate_place {
    struct gguf_str key, tensor;
    const uint64_t *offset; /* NULL: the message says, or nobody knows */
};

void validate_add(struct validate *v, int kind, const struct validate_place *at, const char *fmt,
                  ...) BNT_PRINTF(4, 5);
/* An error of a library as a finding: of its own class when it is one of gguf.h, else of
 * `kind`. */
void validate_add_error(struct validate *v, int kind, const struct validate_place *at,
                        const struct bnt_err *error);
/* Shorthands: in a key, in a tensor. */
struct validate_place validate_at_key(const char *key);
struct validate_place validate_at_tensor(const struct gguf_tensor *t);

/* Tiles of a TL1 or TL2 tensor: false when nobody says them. */
bool validate_tiles(const struct validate *v, const struct gguf_tensor *t, struct tl_tiles *out);
/* Every tensor has data that can be read; where one has not, sums over all say nothing. */
bool validate_all_placed(const struct gguf *g);

void validate_layout(struct validate *v);
void validate_architecture(struct validate *v);
void validate_tokenizer(struct validate *v);
enum bnt_status validate_content(struct validate *v, struct bnt_err *err);
enum bnt_status validate_digest(struct validate *v, struct bnt_err *err);
enum bnt_status validate_behaviour(struct validate *v, struct bnt_err *err);
void validate_platforms(struct validate *v);

#endif
