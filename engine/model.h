/* A model inside the engine: hyper-parameters, weights, and how weights come into memory.
 *
 * Weights are in one of three places:
 *   mapped    the kernels read them where they lie in the mapping (F32, F16, BF16, block types,
 *             I2_S 128/32);
 *   packed    made on load in memory of the model's own (other ternary packings, foreign byte
 *             order);
 *   streamed  nothing stays: each layer is read into a buffer of the back end before it is used.
 *             Chosen when the memory limit does not hold the weights, or when the file cannot be
 *             mapped.
 * Norms and biases are small and always copied to float32. */
#ifndef BNT_MODEL_H
#define BNT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/arch.h"
#include "engine/bnt_infer.h"
#include "engine/gguf.h"
#include "engine/narrow.h"
#include "engine/packed.h"
#include "engine/rope.h"
#include "engine/screen.h"
#include "engine/tensor_type.h"
#include "engine/tl_place.h"

#define MODEL_MAX_LAYERS 1024u
#define MODEL_MAX_DIM TERNARY_MAX_COLS

/* One matrix: rows outputs, cols inputs. */
struct weight {
    const struct gguf_tensor *tensor; /* NULL: the model has no such matrix */
    bool ternary;                     /* multiplied with int8 activations; else with floats */
    bool native;                      /* the file's bytes are what the kernels read */
    bool look_up;                     /* ternary and kept as TL1 or TL2, by tiles */
    struct tl_tiles tiles;
    /* Of data: F32 when dequantised, TL1 or TL2 when looked up, I2_S when ternary otherwise. */
    enum tensor_type type;
    uint64_t rows, cols, row_bytes; /* row_bytes: of data; 0 when looked up */
    const uint8_t *data;            /* NULL while streamed */
    uint8_t *owned;                 /* packed copy, or NULL */
    float scale;                    /* ternary: of the codes; known once loaded */
    float out_scale;      /* optional "<name>.scale" tensor, else 1; the family's factor */
    const float *bias;    /* rows, or NULL */
    const uint8_t *fives; /* its rows five to a byte (fives.h), or NULL */
};

enum { W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN, N_LAYER_WEIGHTS };

struct layer {
    const float *attn_norm, *ffn_norm;
    const float *attn_sub_norm, *ffn_sub_norm; /* NULL without */
    const float *q_norm, *k_norm;              /* of one head; NULL without */
    struct weight w[N_LAYER_WEIGHTS];
};

/* Of embedding rows, of what joins the residual stream, and of logits: each is part of what is
 * bound, `out_scale` of embedding, W_O and W_DOWN, and the output norm. */
struct model_factors {
    double embedding, residual, logits;
};

struct bnt_model {
    struct bnt_model_info info;
    const struct arch *arch;
    struct gguf *gguf;
    struct bnt_tokenizer *tokenizer;
    struct rope rope;
    struct layer *layers;
    const float *output_norm;
    struct weight embd; /* rows = n_vocab; never ternary */
    struct weight head; /* the same as embd when tied */
    enum i2s_layout i2s_layout;
    bool dequantize; /* as the options of bnt_model_open */
    bool tl_look_up;
    const char *const *tl_tiles; /* n_tl_tiles; while the model is being opened */
    size_t n_tl_tiles;
    float attn_scale;                 /* 1/sqrt(head_dim) */
    struct model_factors factors;     /* of a scaled family, else 1 */
    uint64_t memory_limit;            /* bytes */
    struct packed_store packs;        /* forms that are made once; its warn ends with the opening */
    struct packed one_scale, ternary; /* see packed_weights.c */
    bool screened;                    /* there is, or will be, a small copy of the head */
    struct packed screen_form;
    bool by_columns; /* there is, or will be, a copy of the `down` matrices (columns.h) */
    struct packed columns_form;
    bool by_fives; /* there are, or will be, ternary matrices five weights to a byte (fives.h) */
    struct packed fives_form;
    bool narrowed; /* there is, or may be, a copy of the head in 12 bits per weight */
    struct packed narrow_form;
    struct narrow_codes narrow;    /* in narrow_form; without rows until it is there */
    struct screen screen;          /* in screen_form; without rows until it is made */
    char *name;                    /* general.name */
    float *norms;                  /* owner of all norms and biases */
    size_t norms_used, norms_size; /* floats */
};

/* ---- loading (weights.c) ---- */

/* Bind a matrix by tensor name: check its shape, choose its form; data stays NULL. */
enum bnt_status weight_bind(struct bnt_model *m, const char *name, uint64_t rows, uint64_t cols,
                            struct weight *w, struct bnt_err *err);
/* The tensor of a looked-up matrix, at its loaded bytes. */
struct tl_planes weight_planes(const struct weight *w);
/* Matrices [first, first + n) of a layer have the same input, so those that are looked up must
 * share one set of tables: one that would need another is made of 2-bit codes instead. */
void weights_share_tables(struct weight *w, size_t n);
/* Bytes that the loaded form of w takes. */
uint64_t weight_bytes(const struct weight *w);
/* Largest temporary that weight_load needs for w: 0 when native. */
uint64_t weight_scratch_bytes(const struct weight *w);
/* Read rows [row0, row1) of w into dst in the kernels' form, and set w->scale of a ternary one; one
 * that is looked up is read as a whole. scratch has weight_scratch_bytes(w). */
enum bnt_status weight_load(const struct bnt_model *m, struct weight *w, uint64_t row0,
                            uint64_t row1, uint8_t *dst, uint8_t *scratch, struct bnt_err *err);
/* Make w->data point at mapped or packed memory for the model's life. */
enum bnt_status weight_make_resident(struct bnt_model *m, struct weight *w, struct bnt_err *err);
/* Float32 copy of a vector of n elements ("blk.0.attn_norm.weight"); *out is NULL when absent and
 * optional. */
enum bnt_status vector_load(struct bnt_model *m, const char *name, uint64_t n, bool optional,
                            const float **out, struct bnt_err *err);
void weight_release(struct weight *w);
/* Row r of the embedding as float32. scratch: embd.row_bytes, used when streamed. */
enum bnt_status embedding_row(const struct bnt_model *m, uint64_t r, float *dst, uint8_t *scratch,
                              struct bnt_err *err);

/* Bytes of the largest layer in the kernels' form, and its largest loading scratch (streaming
 * buffers). */
uint64_t model_layer_bytes(const struct bnt_model *m);
uint64_t model_layer_scratch(const struct bnt_model *m);

/* ---- forms that are made once (packed_weights.c) ---- */

/* Find out which tensors have one scale, before any is bound. */
enum bnt_status one_scale_open(struct bnt_model *m, struct bnt_err *err);
/* A tensor with a scale per block or row is a BitLinear only when all agree; else its values are
 * plain numbers. */
enum bnt_status one_scale_ask(const struct bnt_model *m, const struct gguf_tensor *t, bool *yes,
                              struct bnt_err *err);
/* The name of a form of ternary codes: with the packing of I2_S where that has a say. */
void model_form_name(const struct bnt_model *m, const char *form, char out[PACKED_LAYOUT_MAX]);
/* Make every ternary matrix resident that the kernels cannot read as it lies in the file. */
enum bnt_status packed_ternary_open(struct bnt_model *m, struct bnt_err *err);

/* ---- packing of I2_S ---- */

/* Take a packing: every I2_S matrix changes its form. Before weights are resident. */
void model_set_i2s_layout(struct bnt_model *m, enum i2s_layout layout);

/* A mock, whose text no packing makes sense of, says by which it was packed. */
#define I2S_LAYOUT_KEY "general.mock.i2s_layout"
/* The packing that the file states or that an earlier check of it found; what that said is said
 * again. */
bool i2s_recall(struct bnt_model *m, const struct bnt_model_options *opts, enum i2s_layout *layout);
/* Find the packing by scoring a fixed text, and remember it. The model is ready to run as 128/32,
 * and is so again afterwards. */
enum bnt_status i2s_detect(struct bnt_model *m, const struct bnt_model_options *opts,
                           enum i2s_layout *layout, struct bnt_err *err);

#endif
