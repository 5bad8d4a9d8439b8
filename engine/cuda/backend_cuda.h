/* Inside of the CUDA back end: what it holds on the device. The whole forward pass runs there; ids
 * go in, and logits or the best of them come out.
 *
 * Two paths give the same bits:
 *   batch   any number of tokens, any weights: a launch per operation (also while a tap listens)
 *   step    one token: five launches per layer where weights are ternary, captured once as a graph
 *           that reads the token and its position from the device
 * A step of several sequences is a batch; one that is as wide as the last is captured too.
 *
 * Far into a context the attention of few tokens takes two launches (kernels_split.h): a captured
 * step is then another graph.
 *
 * Three allocations: weights, KV cache, scratch; freed with their context. Weights have a context
 * of their own and are shared by the sessions of one model on one device: the first one puts them
 * up, the last one takes them down. */
#ifndef BNT_BACKEND_CUDA_H
#define BNT_BACKEND_CUDA_H

#include "base/file.h"
#include "engine/backend.h"
#include "engine/cuda/cuda_table.h"
#include "engine/cuda/kernel_args.h"

/* ---- the table (table.c) ---- */

/* The table of the module beside the program, or NULL and why there is none. Opened once. */
const struct cuda_table *cuda_table_get(char *why, size_t size);
/* The file of that module, "" while none was opened. */
void cuda_module_path(char out[BNT_PATH_MAX]);
/* For tests: use this table instead. NULL: as before. */
void cuda_table_use(const struct cuda_table *table);
/* Devices that can be used, 0 with why. */
int cuda_device_count(char *why, size_t size);

/* ---- the back end ---- */

struct cuda_weight {
    uint8_t *data; /* codes, or floats of `type` */
    uint64_t rows, cols, row_bytes;
    bool ternary;
    uint32_t type; /* enum cuda_float_type */
    float scale, out_scale;
    float *bias; /* or NULL */
};

struct cuda_layer {
    float *attn_norm, *attn_sub_norm, *ffn_norm, *ffn_sub_norm, *q_norm, *k_norm;
    struct cuda_weight w[N_LAYER_WEIGHTS];
};

/* In the scratch, rows are tokens. */
struct cuda_scratch {
    struct cuda_row *rows;
    float *x, *h, *q, *k, *v, *gate, *up, *y;
    int8_t *act;
    float *act_scale;
    int32_t *act_sum;
    float *scores;        /* [CUDA_ATTEND_FEW][n_head][stride] */
    uint32_t *score_tops; /* of slices of them, as kernel_args.h says */
    float *cs;            /* [n_ctx][n_rot]: cos, sin by turns */
    float *logits;        /* [best_rows, BACKEND_HEAD_BATCH at least][n_vocab] */
    struct cuda_candidate *picks[2], *chosen; /* chosen: [best_rows][CUDA_PICK_MAX], and one */
    struct cuda_draw *draw;
    struct cuda_candidate *drawn; /* an id, and a count behind it */
    /* Of a screened head, for best_rows inputs. */
    struct cuda_screen_input *screen_input;
    int8_t *screen_q; /* two rows of act_stride of each */
    float *near;      /* [inputs][n_vocab] */
    struct cuda_candidate *tops, *seeds;
};

/* The weights of a model on a device. Its sessions read it; the list of all and the counts are
 * behind the lock of weights_cuda.c. */
struct cuda_weights {
    struct cuda_weights *next;
    const struct bnt_model *model;
    const struct cuda_table *table;
    int index; /* of the device */
    uint32_t n_sessions;
    struct cuda_context *context; /* holds the memory, and nothing is launched in it */
    struct cuda_weight embd, head;
    bool screened;        /* a small copy of the head is there, too: */
    uint8_t *screen_form; /* as the model has it, engine/screen.h */
    float *output_norm;
    struct cuda_layer *layers;
};

/* The launches of the best logits of a lone token, and of a draw among them, kept for the same
 * question. */
struct cuda_head_graph {
    struct cuda_graph *graph;
    uint32_t k;
    bool draws;
};

/* By kernel. */
struct cuda_times {
    int fd; /* where they go in the end */
    uint64_t n[CUDA_N_KERNELS];
    double us[CUDA_N_KERNELS];
};

struct cuda_options {
    int index;         /* of the device */
    uint64_t limit;    /* bytes that may be taken on it; 0: what is free */
    bool overlap;      /* launches may begin before the one ahead of them has ended */
    const char *times; /* NULL, or the file that gets the time of each kernel (times_cuda.c) */
    uint32_t split;    /* from this position on attention takes two launches; 0: from 512 */
};

struct backend_cuda {
    struct backend base; /* first: the back end is one of these */
    const struct cuda_table *table;
    struct cuda_context *context;
    struct cuda_info info;
    struct cuda_options options;
    void *kv_memory, *scratch_memory;
    struct cuda_weights *w;
    struct cuda_scratch s;
    struct cuda_row *staging; /* host, n_batch: written before each batch, copied by a graph */
    struct cuda_graph *step_graphs[2]; /* by `split` */
    struct cuda_graph *wide_graph; /* of a step of wide_n sequences; NULL: that is not captured */
    uint32_t wide_n;
    bool wide_split;
    uint32_t best_rows;                    /* tokens whose best logits are chosen at once */
    struct cuda_head_graph head_graphs[2]; /* full, screened */
    uint32_t best_k;                       /* logits that launches of a head choose */
    struct cuda_draw *best_draw;           /* host: how one of them is drawn */
    bool draws;                            /* whether it is */
    uint32_t screen_rest;                  /* tokens whose head is computed in full without a try */
    struct cuda_candidate *picked;         /* host: as chosen */
    struct cuda_times *times;              /* NULL: nobody asked */
    void *tap_row; /* host: one batch of the widest rows; made by the first tap */
    uint32_t q_dim, kv_dim, width, n;
    uint32_t scores_stride; /* floats of a row of scores */
    bool scores_shared;     /* those of a context fit into the memory that a block shares */
    bool split;             /* the attention of this batch takes two launches */
    bool pending;           /* launches that nobody waited for */
};

/* Bytes on the device for a model and a config: each of the three allocations, and the part of the
 * weights that can be left out. */
struct cuda_memory {
    uint64_t weights, kv, scratch;
    uint64_t screen;
};
struct cuda_memory cuda_memory_need(const struct bnt_model *m, const struct backend_config *c);

/* Errors: DEVICE (no such device, a failure of the device), MEMORY (need and have are named;
 * nothing was taken), UNSUPPORTED (a model that the kernels cannot compute). */
enum bnt_status backend_cuda_new(const struct bnt_model *m, const struct backend_config *config,
                                 const struct cuda_options *o, struct backend **out,
                                 struct bnt_err *err);

/* ---- shared by its files ---- */

/* Lay weights out from `base` on, which may be NULL to count; returns the bytes. layers may be
 * NULL. (weights_cuda.c) */
uint64_t cuda_weights_layout(struct cuda_weights *w, uint8_t *base);
/* A row of cols weights, whole 64s that are each a scale times -1 to 2, as CUDA_CODES. */
static inline uint64_t cuda_codes_row_bytes(uint64_t cols)
{
    return (cols + CUDA_CODES_PIECE - 1) / CUDA_CODES_PIECE * CUDA_CODES_BYTES;
}
void cuda_pack_codes(const float *v, uint64_t cols, uint8_t *row);
/* The weights of b's model on its device, for which b has a context: those of another session, or
 * put up now, after cuda_check_memory of all that b needs. */
enum bnt_status cuda_weights_take(struct backend_cuda *b, struct bnt_err *err);
void cuda_weights_release(struct cuda_weights *w); /* NULL is fine */
/* cos and sin of every position to b->s.cs. */
enum bnt_status cuda_rotations_upload(struct backend_cuda *b, struct bnt_err *err);
/* Errors: MEMORY what is needed is more than what is free or allowed. (backend_cuda.c) */
enum bnt_status cuda_check_memory(const struct backend_cuda *b, const struct cuda_memory *need,
                                  struct bnt_err *err);
/* The same for the scratch. (backend_cuda.c) */
uint64_t cuda_scratch_layout(struct backend_cuda *b, uint8_t *base);

/* The next piece of a layout: aligned to 256 bytes. */
struct cuda_cursor {
    uint8_t *base;
    uint64_t used;
};
void *cuda_take(struct cuda_cursor *c, uint64_t bytes);

/* A code of the table as an error; the words are the device's. */
enum bnt_status cuda_error(const struct backend_cuda *b, enum cuda_code code, struct bnt_err *err);
/* The same of another context, NULL: one that could not be opened. */
enum bnt_status cuda_error_in(const struct backend_cuda *b, const struct cuda_context *context,
                              enum cuda_code code, struct bnt_err *err);
enum bnt_status cuda_launch(const struct backend_cuda *b, const struct cuda_launch *l,
                            struct bnt_err *err);

/* A whole batch or one token through all layers; what they launch is not waited for.
 * (forward_cuda.c) */
enum bnt_status cuda_forward_batch(struct backend_cuda *b, struct bnt_err *err);
enum bnt_status cuda_forward_step(struct backend_cuda *b, struct bnt_err *err);
/* Run *graph, captured first from what `launches` launches where there is none. */
enum bnt_status cuda_run_captured(struct backend_cuda *b, struct cuda_graph **graph,
                                  enum bnt_status (*launches)(struct backend_cuda *b,
                                                              struct bnt_err *err),
                                  struct bnt_err *err);
/* Whether the attention of the batch in b->staging takes two launches. */
bool cuda_attend_splits(const struct backend_cuda *b);
/* As cuda_forward_batch, for a step of several sequences. */
enum bnt_status cuda_forward_wide(struct backend_cuda *b, struct bnt_err *err);
/* Logits of tokens first.. into s.logits. */
enum bnt_status cuda_head(struct backend_cuda *b, uint32_t first, uint32_t n, struct bnt_err *err);
/* The best k logits of each of n tokens from `row` of the last batch on, at most b->best_rows, into
 * b->picked; with a screened head, where it helps. Waited for. (best_cuda.c) */
enum bnt_status cuda_best(struct backend_cuda *b, uint32_t row, uint32_t n, uint32_t k,
                          struct bnt_err *err);
/* An id drawn among those, or -1: there is none. (best_cuda.c) */
enum bnt_status cuda_draw(struct backend_cuda *b, uint32_t row, uint32_t k,
                          const struct bnt_draw *draw, int32_t *id, struct bnt_err *err);
/* Times of kernels, which go to the file at path when they are closed. Errors: IO, MEMORY.
 * (times_cuda.c) */
enum bnt_status cuda_times_open(const char *path, struct cuda_times **out, struct bnt_err *err);
void cuda_times_close(struct cuda_times *t); /* NULL is fine */
enum cuda_code cuda_launch_timed(const struct backend_cuda *b, const struct cuda_launch *l);
/* Whether the kernels can screen the head of a model that asks for it. */
bool cuda_can_screen(const struct bnt_model *m);

/* Rows of n floats, stride apart, at x on the device, for whoever listens. (tap_cuda.c) */
struct cuda_tap_at {
    enum bnt_tap_op op;
    int32_t layer;
    uint32_t first_tok, n_tok, n;
    const float *x;
    uint64_t stride;
};
enum bnt_status cuda_tap_rows(struct backend_cuda *b, const struct cuda_tap_at *at,
                              struct bnt_err *err);
/* The activations of the batch, back from their planes. */
enum bnt_status cuda_tap_act(struct backend_cuda *b, const struct cuda_tap_at *at,
                             uint64_t row_bytes, struct bnt_err *err);

#endif
