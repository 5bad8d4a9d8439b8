/* Times of single operations of the engine, each by itself: products of matrices, quantisers, and
 * the small steps between them. What a model costs is their sum (engine/speed_model.h).
 *
 *     struct op_timer *t;
 *     op_timer_new(&(struct op_timer_options){.n_threads = 2, .repetitions = 5}, &t, &err);
 *     struct op_spec spec = {.what = OP_TERNARY, .rows = 2560, .cols = 2560, .n_tok = 1};
 *     op_timer_run(t, &spec, &time, &err);    ... time.ns, time.macs, time.bytes ...
 *     op_timer_free(t);
 *
 * The best of a few passes counts, since whatever else the machine does only makes it slower; or
 * the median, where a typical time is wanted. Weights of a product come from memory: each run reads
 * other bytes of a buffer that no cache holds. The result of every product is held against
 * the reference kernel before it is timed: a wrong product has no speed. */
#ifndef BNT_OP_TIME_H
#define BNT_OP_TIME_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/cpu/kernels.h"

/* OP(identifier, name, what it does) */
#define OP_TABLE(OP)                                                                               \
    OP(OP_TERNARY, "ternary", "rows x cols ternary weights by n_tok rows of int8 activations")     \
    OP(OP_COLUMNS, "columns",                                                                      \
       "rows x cols ternary weights by columns, by one row of int8 activations with zeros")        \
    OP(OP_FIVES, "fives",                                                                          \
       "rows x cols ternary weights five to a byte, by one row of int8 activations")               \
    OP(OP_NARROW, "narrow", "a head of rows x cols in 12 bits per weight, by one row of float32")  \
    OP(OP_SCREEN, "screen",                                                                        \
       "the likeliest of rows x cols by their copy in 5 and 2 bits, for one row of float32")       \
    OP(OP_FLOAT, "float", "rows x cols weights of `type` by n_tok rows of float32")                \
    OP(OP_READ, "read", "rows x cols bytes, from where weights come from")                         \
    OP(OP_QUANTIZE, "quantize_act", "n_tok rows of cols float32 to int8 activations")              \
    OP(OP_NORM, "rmsnorm", "n_tok rows of cols")                                                   \
    OP(OP_ROPE, "rope", "rows heads of cols elements, n_tok tokens")                               \
    OP(OP_ANGLES, "angles", "sines and cosines for the rotation of cols elements, n_tok tokens")   \
    OP(OP_STORE, "store_f16", "n_tok rows of cols to half precision")                              \
    OP(OP_ACT_MUL, "act_mul", "n_tok rows of cols, relu² times the other factor")                  \
    OP(OP_ADD, "add", "n_tok rows of cols")                                                        \
    OP(OP_ATTEND, "attend", "rows heads of cols elements over n_tok positions of one F16 KV head") \
    OP(OP_ARGMAX, "argmax", "the likeliest of rows logits")                                        \
    OP(OP_JOB, "job", "a job of rows empty pieces, handed to all threads")                         \
    OP(OP_ABSMEAN, "absmean", "rows x cols float32 to ternary codes, both passes")                 \
    OP(OP_PACK, "pack", "rows x cols ternary codes to what the kernels read")                      \
    OP(OP_ENCODE, "encode", "rows x cols ternary codes, or float32, to `type` of a file")

enum op_what {
#define OP_ID(id, name, what) id,
    OP_TABLE(OP_ID)
#undef OP_ID
        OP_WHATS
};

const char *op_name(enum op_what what);

struct op_spec {
    enum op_what what;
    enum tensor_type type; /* of OP_FLOAT and OP_ENCODE */
    uint64_t rows, cols;
    uint32_t n_tok;
    /* Weights come from so many bytes in turn, as those of a model of that size would; 0: from more
     * than any cache holds. */
    uint64_t cycle_bytes;
    /* Of OP_ATTEND: so many tokens together, of which the first sees n_tok positions and each one
     * more than the one before; 0: 1. */
    uint32_t block;
    double zeros; /* of OP_COLUMNS: the part of the activations that is 0, at least 0.3 */
    /* By the caller's thread, whatever the pool has; OP_COLUMNS, OP_NARROW, OP_SCREEN are not. */
    bool alone;
    /* Weights lie in large pages, as the copies do that the engine makes of a model's weights:
     * always those of OP_COLUMNS, OP_FIVES, OP_NARROW and OP_SCREEN. Else in pages of the usual
     * size, as those of a mapped file. */
    bool copy;
};

struct op_time {
    double ns; /* of one run; of a matrix larger than the buffer, in proportion */
    /* Multiply-adds of a product, elements of anything else. */
    uint64_t count;
    uint64_t bytes;        /* read and written, each once */
    uint64_t weight_bytes; /* of them the matrix of a product, which comes from memory */
    /* Of ops that take turns: this one's time by that of the last one in the same turn, the median.
     * The best passes of two ops may have met different modes of the memory. */
    double of_last;
};

struct op_timer_options {
    const char *kernel;                       /* as of a session */
    int n_threads;                            /* 0: as many as this process may use */
    uint32_t repetitions;                     /* passes, of which the best counts */
    uint32_t pass_us;                         /* a pass is as many runs as fill this; 0: 2000 */
    bool typical;                             /* the median of the passes */
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

struct op_timer;
/* Errors: those of cpu_kernels_choose; MEMORY; FAILED threads cannot be started. */
enum bnt_status op_timer_new(const struct op_timer_options *o, struct op_timer **out,
                             struct bnt_err *err);
void op_timer_free(struct op_timer *t);
const struct cpu_kernels *op_timer_kernels(const struct op_timer *t);
struct cpu_pool;
struct cpu_pool *op_timer_pool(struct op_timer *t);

/* Errors: USAGE a shape of 0 or past TERNARY_MAX_COLS, a type that the op has not; DIFFERS a
 * product that is not the reference's; MEMORY; INTERRUPTED, looked for before each op and pass. */
enum bnt_status op_timer_run(struct op_timer *t, const struct op_spec *spec, struct op_time *out,
                             struct bnt_err *err);
/* Ops whose passes take turns, so that what the machine does meanwhile meets all of them. OP_READ
 * with 0 rows reads as many bytes as the first of them has weights. */
enum { OP_TURNS_MAX = 3 };
enum bnt_status op_timer_turns(struct op_timer *t, const struct op_spec *specs, size_t n,
                               struct op_time *out, struct bnt_err *err);

#endif
