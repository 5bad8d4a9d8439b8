/* The seam between sessions and what computes. A back end owns its copy of the KV cache and all
 * scratch, takes ids and gives logits; everything above it (batching, positions, sampling,
 * perplexity) knows no back end.
 *
 * The seam is the forward pass of a batch, not the single op: a back end is free to fuse, to
 * capture a graph or to keep weights in a packed form of its own, as long as
 *   - the ternary x int8 products are exact integers, and
 *   - logits do not depend on how ids are cut into forward calls, nor on what other sequences do.
 * A back end is used by one thread at a time. */
#ifndef BNT_BACKEND_H
#define BNT_BACKEND_H

#include <stdint.h>

#include "base/status.h"
#include "engine/bnt_infer.h"
#include "engine/model.h"
#include "engine/tap.h"

/* Session options with every default filled in. */
struct backend_config {
    uint32_t n_ctx, n_batch; /* n_batch: tokens of one forward call, at least n_seq */
    uint32_t n_seq;          /* sequences, each with a KV cache of n_ctx positions */
    int n_threads;
    enum bnt_kv_type kv_type;
    const char *kernel;                       /* NULL: choose */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

/* A token of a batch, and where it stands. */
struct backend_row {
    int32_t id;
    uint32_t seq, pos; /* seq < n_seq, pos < n_ctx */
};
/* ids[n] of a sequence from position pos on, as rows. */
static inline void backend_rows(struct backend_row *rows, const int32_t *ids, uint32_t n,
                                struct backend_row first)
{
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = (struct backend_row){ids[i], first.seq, first.pos + i};
    }
}

/* A head of keys and values of a layer, in the cache of a sequence, and how many positions of it
 * the caller reads or writes. */
struct backend_head {
    uint32_t seq, layer, head, n_pos;
};

/* The best k logits of n tokens of the last batch, the first n: those of token i to out[i * k],
 * found[i] of them. */
struct backend_best {
    uint32_t n, k;
    struct bnt_candidate *out;
    uint32_t *found;
};

struct backend;

struct backend_ops {
    const char *name; /* "cpu", "cuda" */
    /* The hidden states of n tokens, n <= n_batch; their keys and values enter the caches of their
     * sequences. The weights are read once for all of them. Tokens of one sequence stand by
     * ascending position, without a gap to what its cache holds; a token sees those of its own
     * sequence alone. Errors: INTERRUPTED (the caches hold nothing of this batch), INFERENCE, FILE
     * (streamed weights), DEVICE and MEMORY (a device failed: the back end is of no more use; that
     * may also be told by a later call). */
    enum bnt_status (*forward)(struct backend *b, const struct backend_row *rows, uint32_t n,
                               struct bnt_err *err);
    /* Logits of tokens [first, first+n) of the last batch: out[n][n_vocab]; n <=
     * BACKEND_HEAD_BATCH. */
    enum bnt_status (*logits)(struct backend *b, uint32_t first, uint32_t n, float *out,
                              struct bnt_err *err);
    /* The cache of one head, from position 0 on: its keys, or its values; *position_bytes apart.
     * NULL: it lies where the host cannot follow. */
    void *(*kv_head)(struct backend *b, struct backend_head head, bool values,
                     size_t *position_bytes);
    /* The best k logits of token `row` of the last batch, best first: finite ones, ties to the
     * lower id; *n of them, less than k when fewer are finite. k <= BNT_BEST_MAX. NULL: this back
     * end gives whole rows alone, as do all where a tap listens. */
    enum bnt_status (*best)(struct backend *b, uint32_t row, uint32_t k, struct bnt_candidate *out,
                            uint32_t *n, struct bnt_err *err);
    /* The same of several tokens at once. NULL: whole rows are as good. */
    enum bnt_status (*best_rows)(struct backend *b, const struct backend_best *ask,
                                 struct bnt_err *err);
    /* The same with logits that come in any case (bnt_infer.h); its ids are sound. A back end has
     * one of the two, or none. */
    enum bnt_status (*near)(struct backend *b, uint32_t row, struct bnt_near *near,
                            struct bnt_err *err);
    /* The id that the sampler draws among the best k, by the same operations in the same order: the
     * same id for every random number. *id is -1 where that is left to the host, which then asks
     * for the best. NULL: always. */
    enum bnt_status (*draw)(struct backend *b, uint32_t row, uint32_t k,
                            const struct bnt_draw *draw, int32_t *id, struct bnt_err *err);
    void (*free)(struct backend *b);
};

#define BACKEND_HEAD_BATCH 16u

struct backend {
    const struct backend_ops *ops;
    const struct bnt_model *model;
    struct backend_config config;
    struct bnt_tap tap;    /* row is NULL while nobody listens */
    char device[16];       /* "cpu", "cuda:0" */
    const char *kernel;    /* name of the kernels in use */
    char kernel_note[256]; /* why faster ones are not */
    bool screened;         /* the best logits come from a small copy of the head and a few rows */
    bool narrow_head;      /* single tokens read the head's copy in 12 bits per weight */
    uint64_t memory_bytes, kv_bytes;
    /* Passes of one token; the bytes of weights that they left out because they meet zeros, and
     * those that they did not read because a copy says the same in fewer. */
    uint64_t n_single, left_out_bytes, spared_bytes;
    uint64_t n_drawn, n_not_drawn; /* ids that `draw` gave; times that it gave none */
    uint64_t self_test_ns;         /* time to check the kernels */
};

enum bnt_status backend_cpu_new(const struct bnt_model *m, const struct backend_config *config,
                                struct backend **out, struct bnt_err *err);
/* Bytes that backend_cpu_new and a session will take for these options. */
uint64_t backend_cpu_memory(const struct bnt_model *m, const struct bnt_session_options *opts);
/* Options with defaults filled in; n_ctx is cut to nothing: a wish past the ceiling is the caller's
 * to refuse. */
struct backend_config backend_config_of(const struct bnt_model *m,
                                        const struct bnt_session_options *opts);

#endif
