/* A model of time: what evaluating tokens costs, from bytes, operations and a few rates of a
 * machine. Pure arithmetic; engine/speed_probe.h measures the rates. `bnt bench --explain` holds it
 * against the clock, and predicts with it what a machine would do that is not there.
 *
 * A layer is what engine/cpu/forward.c does. Each product takes the longer of
 *     its weights' bytes at the rate at which kernels stream weights from memory, and
 *     the time that one thread takes for it, by how its pieces fall to the threads and what these
 *     reach together of their speed alone,
 * and costs a job where threads share it. Weights that a cache holds are not read from memory.
 * Steps over tokens (norms, quantisers, rotation) are divided by the threads from STEPS_SHARED
 * tokens on, in the engine's pieces, and attention where it is large enough, by blocks of tokens,
 * each of which costs more the more positions it sees; from then on, what a step leaves is in the
 * wrong thread's cache for all threads but one, and has to be fetched by them.
 *
 * Of a machine that is there, products, steps and head are not put together from those: a session
 * was asked what each takes, with its threads, on its pages, and how much longer than its blocks by
 * themselves attention takes there. Nothing else is in it: what the model leaves out shows as its
 * error. */
#ifndef BNT_SPEED_MODEL_H
#define BNT_SPEED_MODEL_H

#include "engine/cpu/backend_cpu.h"

/* ---- what is computed ---- */

struct speed_matrix {
    uint64_t rows, cols, bytes;
    bool ternary;
    enum tensor_type type; /* of one that is not ternary */
    uint64_t fives_bytes;  /* single tokens read it five weights to a byte, so many; 0: as it is */
};

enum speed_head { SPEED_HEAD_PLAIN, SPEED_HEAD_NARROW, SPEED_HEAD_SCREENED };

struct speed_shape {
    char name[128];
    uint32_t n_layer, n_embd, n_ff, n_head, n_head_kv, head_dim, n_vocab;
    bool sub_norms;
    bool makes_zeros; /* its activation does */
    struct speed_matrix w[N_LAYER_WEIGHTS], head;
    uint64_t embd_bytes; /* of an embedding that is not the head */
    /* What the next token is chosen by, and the bytes of that which are read each time; 0: all of
     * the head. */
    enum speed_head head_form;
    uint64_t head_token_bytes;
    uint64_t copy_bytes; /* of all copies that are held beside the weights, but that by columns */
    /* Of a column of the copy of `down` by columns (engine/columns.h); 0: the model has none. The
     * part of `down`'s input that is zero: with enough of them a single token reads by columns. */
    uint64_t column_bytes;
    double zeros;
    /* All that a single token reads, where an engine was there to count it; 0: by the above. */
    uint64_t token_bytes;
};
/* As it was opened, with the copies that it has; fives: the kernels take those of five weights to a
 * byte. */
void speed_shape_of_model(const struct bnt_model *m, bool fives, struct speed_shape *out);
/* "2b" (BitNet b1.58 2B4T), "3b" (bitnet_b1_58-3B), with an F16 head, no zeros and no copies.
 * *bf16: the head's values are those of bfloat16. Errors: USAGE. */
enum bnt_status speed_shape_named(const char *name, struct speed_shape *out, bool *bf16,
                                  struct bnt_err *err);
/* Copies of weights that single tokens read: engine/fives.h, columns.h, narrow.h, screen.h. */
struct speed_copies {
    bool fives, columns;
    enum speed_head head;
};
void speed_shape_copy(struct speed_shape *s, const struct speed_copies *c);

uint64_t speed_weight_bytes(const struct speed_shape *s); /* of all weights, in 2 bits and F16 */
uint64_t speed_head_bytes(const struct speed_shape *s);   /* of the head, that every token reads */
uint64_t speed_token_bytes(const struct speed_shape *s);  /* that a single token reads */
bool speed_by_columns(const struct speed_shape *s);       /* there are zeros enough */
/* The part of zeros that leaves out so many bytes of each `down` matrix, on average. */
double speed_zeros(const struct speed_shape *s, double left_out_bytes);
/* That a session of n_ctx positions and batches of n_batch takes at most: weights and their copies,
 * F16 keys and values, rows of a batch. */
uint64_t speed_memory(const struct speed_shape *s, uint32_t n_ctx, uint32_t n_batch);

/* ---- with what ---- */

enum { SPEED_BATCHES_MAX = 40 };

/* Attention of n_tok tokens together by the queries of one KV head, from where the first of them
 * sees SPEED_SEEN positions; between and beyond in proportion. */
enum { SPEED_POINTS = 3 };
#define SPEED_SEEN                                                                                 \
    {                                                                                              \
        1, 33, 513                                                                                 \
    }
struct speed_attend {
    uint32_t n_tok; /* 0: there are none */
    double ns[SPEED_POINTS];
};

/* Nanoseconds of one thread for batches of n_tok tokens, of one layer where not said otherwise. */
struct speed_batch {
    uint32_t n_tok;
    double product_ns[N_LAYER_WEIGHTS]; /* of one token in its form */
    double norm_ns;                     /* the steps before products: norms and quantisers */
    double rotate_ns;                   /* rotation, and keys and values into the cache */
    double act_ns, add_ns; /* relu² times the other factor; the products that join the stream */
    double embed_ns;       /* once per batch: angles and embeddings */
    struct speed_attend whole, rest; /* the blocks that its tokens are cut into, the last one */
};

/* Of one thread on the machine where they were measured. */
struct speed_rates {
    struct speed_batch batches[SPEED_BATCHES_MAX];
    size_t n_batches;
    double columns_ns;                        /* of `down` by columns, for a single token */
    double head_ns, argmax_ns, final_norm_ns; /* once per evaluation; the head in its form */
    double gmacs;                             /* peak of dot products */
};

struct speed_machine {
    int n_threads;
    const struct cpu_kernels *kernels; /* by which jobs are cut into pieces */
    double gb_per_s;                   /* read by all threads together, as probed */
    int streams;                       /* of each of them meanwhile (engine/bandwidth.h) */
    /* Of it, that the products reach: of ternary weights in 2 bits, five to a byte, of the head in
     * its form, and, by one thread, of columns, whose exchange is reckoned apart. */
    double ternary_share, fives_share, head_share, columns_share;
    /* Where a session with so many threads was there to be asked, what it takes, jobs and all; 0:
     * by bytes, operations and what follows. The head; and of a layer, by batch of the rates: its
     * products, with what joins gate and up; all of it but attention; rotation and attention of a
     * batch that nothing precedes, of which others take as many times as long as the rates say. */
    double head_ns, product_ns[SPEED_BATCHES_MAX], unattended_ns[SPEED_BATCHES_MAX],
        attended_ns[SPEED_BATCHES_MAX];
    bool head_chooses; /* that is with the choice of the token */
    /* What threads that share a product reach of what each does alone, by batch of the rates. */
    double scaling[SPEED_BATCHES_MAX];
    double exchange_ns;           /* a byte that one thread wrote and another reads */
    double job_ns;                /* to hand a job to all threads and wait */
    double dot_speed, step_speed; /* of a core, in those of the rates: products, steps */
    uint64_t cache_bytes;         /* weights that fit are not read from memory */
};

/* ---- what it takes ---- */

struct speed_time { /* nanoseconds */
    double products, head, attention, steps, exchange, jobs, total;
    double bytes; /* read from memory */
};

enum { SPEED_STEPS_SHARED = 8 };

/* n_tok tokens after pos positions, in batches of n_batch, with the logits of the last one. */
struct speed_work {
    uint32_t pos, n_tok, n_batch;
};
/* The rates know the sizes of its batches. */
void speed_predict(const struct speed_shape *s, const struct speed_rates *r,
                   const struct speed_machine *m, struct speed_work work, struct speed_time *out);

/* The sizes of batches that evaluations of these lengths come in, 1 included, each once; returns
 * how many. */
size_t speed_batch_sizes(const uint32_t *lengths, size_t n, uint32_t n_batch,
                         uint32_t out[SPEED_BATCHES_MAX]);

#endif
