/* Writing a GGUF file, tensor by tensor, whole or not at all.
 *
 *     gplan_put_str(&plan, "general.architecture", ...);  keys, then tensors (engine/gguf_plan.h)
 *     gplan_add_tensor(&plan, "token_embd.weight", ...);
 *     gguf_writer_open(&w, &plan, "out.gguf", &err);      places tensors, writes the header
 *     gguf_writer_begin(&w, "token_embd.weight", &err);   in the order of the plan
 *     gguf_writer_put(&w, bytes, n, &err);                its bytes, in as many pieces as they come
 *     gguf_writer_finish(&w, &err);                       w.file.temp is whole and may be checked
 *     gguf_writer_commit(&w, digest, &err);               it has its name, on the disk
 *     gguf_writer_release(&w);                            always; without commit nothing is left
 *
 * What the plan says of types and sizes is what is written: a tensor that gets more or fewer bytes
 * is an error, and so is a key or a tensor that stands twice. Memory: the header, nothing else. */
#ifndef BNT_GGUF_WRITE_H
#define BNT_GGUF_WRITE_H

#include <signal.h>

#include "base/digest.h"
#include "base/file.h"
#include "engine/gguf_plan.h"

struct gguf_writer {
    struct bnt_durable file;
    struct bnt_sha256 *digest;                /* of what was written so far */
    const struct gguf_plan *plan;             /* borrowed; unchanged until commit */
    uint64_t bytes, data_offset;              /* written; where the data begin */
    size_t n_begun;                           /* tensors of the plan that were begun */
    uint64_t left;                            /* bytes that the tensor in work still lacks */
    const volatile sig_atomic_t *interrupted; /* NULL, or non-zero ends a put with INTERRUPTED */
};

/* Sets offsets and general.alignment of the plan. w is zeroed or has only `interrupted`. Errors:
 * USAGE for a plan that no sound file can have; those of files. */
enum bnt_status gguf_writer_open(struct gguf_writer *w, struct gguf_plan *plan, const char *path,
                                 struct bnt_err *err);
/* Errors: INTERNAL when it is not that tensor's turn or the one before is not complete. */
enum bnt_status gguf_writer_begin(struct gguf_writer *w, const char *name, struct bnt_err *err);
enum bnt_status gguf_writer_put(struct gguf_writer *w, const void *bytes, size_t n,
                                struct bnt_err *err);
enum bnt_status gguf_writer_finish(struct gguf_writer *w, struct bnt_err *err);
/* digest may be NULL. After finish. */
enum bnt_status gguf_writer_commit(struct gguf_writer *w, char digest[BNT_SHA256_HEX],
                                   struct bnt_err *err);
void gguf_writer_release(struct gguf_writer *w);

/* The next tensor as it stands in another file, in host byte order, a piece at a time. */
enum bnt_status gguf_writer_copy(struct gguf_writer *w, const struct gguf *g,
                                 const struct gguf_tensor *t, struct bnt_err *err);

#endif
