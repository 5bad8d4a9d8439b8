/* Inside of the CPU back end: its arena and the phases of a layer. */
#ifndef BNT_BACKEND_CPU_H
#define BNT_BACKEND_CPU_H

#include "base/arena.h"
#include "base/fault.h"
#include "engine/backend.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pool.h"

/* One arena, laid out once (cpu_scratch_layout) and never touched by an allocator again:
 *
 *     [ KV caches ][ rows ][ x ][ h ][ q ][ k ][ v ][ gate ][ up ][ y ][ cs ][ act ]
 *     [ scores ][ dequantised rows ][ sums by columns ][ screened head ][ streaming buffers ]
 *
 * Rows of batch buffers are tokens; widths are in elements. */
struct cpu_scratch {
    uint8_t *k_cache, *v_cache; /* [n_seq][n_layer][n_head_kv][n_ctx][head_dim], F16 or F32 */
    struct backend_row *rows;   /* [n_batch]: the batch in work */
    float *x;                   /* [n_batch][n_embd]: the residual stream */
    float *h;                   /* [n_batch][max width]: normed input of a product */
    float *q;                   /* [n_batch][q_dim], then the attention's output */
    float *k, *v;               /* [n_batch][kv_dim] */
    float *gate, *up;           /* [n_batch][n_ff] */
    float *y;                   /* [n_batch][n_embd]: a product before it joins x */
    float *cs;                  /* [n_batch][n_rot] */
    struct act_rows act;        /* [n_batch] of the widest ternary input; scratch [n_threads] */
    float *scores;              /* [n_threads][cpu_attend_tokens][heads per group][n_ctx] */
    float *row;                 /* [n_threads][row_stride]: at least one of the widest cols */
    uint64_t row_stride;        /* CPU_DEQUANT_ROWS of them where rows are dequantised */
    int32_t *column_sums;       /* [n_threads][column_sums]: of a product by columns */
    bool *column_used;          /* [n_threads]: whose sums hold anything */
    /* Of a screened head, for up to CPU_NEAR_TOKENS tokens: their inputs (kernels.h), then
     * [CPU_NEAR_TOKENS][n_vocab]: scores, scores with their bound. Then [n_vocab]: the rows that
     * are computed in full, and their logits. */
    struct act_rows screen_act;
    float *near, *above;
    uint32_t *list;
    float *exact;
    uint8_t *layer, *layer_scratch; /* streamed: one layer's weights; loading scratch */
    uint8_t *head_rows; /* streamed: STREAM_HEAD_BYTES of the head, also one embedding row */
};

/* Tokens that a screened head scores in one pass. */
enum { CPU_NEAR_TOKENS = 8 };
/* What their inputs are, see screen_cpu.c. */
struct cpu_near_input {
    float scale, x_length, d_length, c_length;
};

/* Tokens of a batch whose queries meet keys and values together: about 32 query heads in all. */
static inline uint32_t cpu_attend_tokens(const struct bnt_model_info *in)
{
    uint32_t group = in->n_head / in->n_head_kv;
    /* The defect is of each token, and tokens of a block see one position more each. */
    return group < 32 && !BNT_FAULT(kv_off_by_one) ? 32 / group : 1;
}

/* Room of one thread in s->row. */
static inline float *cpu_own_row(const struct cpu_scratch *s, int thread)
{
    return s->row + (size_t)thread * s->row_stride;
}

#define STREAM_HEAD_BYTES (16u << 20)
/* Below this many multiply-adds a step is done by the caller alone: waking a thread costs more. */
#define CPU_SERIAL_MACS 400000u

struct backend_cpu {
    struct backend base; /* first: the back end is one of these */
    const struct cpu_kernels *kernels;
    struct cpu_pool *pool;
    struct bnt_arena arena;
    struct cpu_scratch s;
    uint32_t q_dim, kv_dim, width; /* width: widest input of a product */
    uint32_t n, n_seen;   /* of the batch in work: tokens; positions that the furthest one sees */
    bool large_pages;     /* asked for, for the caches */
    bool fives;           /* one token reads matrices five weights to a byte where they are so */
    uint32_t screen_rest; /* tokens whose head is computed in full without a try */
    /* Rows of the batch whose scores, or with near_full whose logits, lie in s.near; their normed
     * states are the first rows of s.h. Those before near_next are used up. */
    uint32_t near_first, near_n, near_next;
    bool near_full;
    struct cpu_near_input near_input[CPU_NEAR_TOKENS];
    struct layer *now; /* the layer in work: the model's, or a copy that points at streamed bytes */
    struct layer streamed;
};

/* Where a head's keys (or values) begin in the caches, in elements. */
static inline size_t cpu_cache_at(const struct backend_cpu *b, struct backend_head head)
{
    const struct bnt_model_info *in = &b->base.model->info;
    return (((size_t)head.seq * in->n_layer + head.layer) * in->n_head_kv + head.head) *
           b->base.config.n_ctx * in->head_dim;
}

/* Lay the scratch out for a config and the kernels that use it: fills s when there is an arena;
 * returns the bytes it takes. */
uint64_t cpu_scratch_layout(const struct bnt_model *m, const struct backend_config *c,
                            const struct cpu_kernels *kernels, struct bnt_arena *arena,
                            struct cpu_scratch *s);

/* One layer of the forward pass, see forward.c. */
typedef void cpu_layer_fn(struct backend_cpu *b, uint32_t il);
cpu_layer_fn cpu_layer;
/* To be timed, with the n tokens and whatever rows the scratch holds: its products alone, which
 * leave the stream x and the caches as they are; all of it but attention; rotation and attention.
 * The latter two have their keys and values in layer 0 of the caches. */
cpu_layer_fn cpu_layer_products, cpu_layer_unattended, cpu_layer_attention;

/* Score the first near_n rows of s.h. False: their logits have to be computed in full. */
bool cpu_screen_score(struct backend_cpu *b);
/* What is asked for of one of those, as struct backend_ops has it. False: as above. */
bool cpu_screened_near(struct backend_cpu *b, uint32_t token, struct bnt_near *near);

/* The rows that a tap gets for one op: tokens first_tok .. first_tok + n_tok - 1 of the batch. */
struct cpu_tap_at {
    enum bnt_tap_op op;
    int32_t layer;
    uint32_t first_tok, n_tok;
    size_t n; /* elements of a row */
};
/* Row t of the op is x + t*stride; only while there is a tap. */
void cpu_tap_rows(const struct backend_cpu *b, const struct cpu_tap_at *at, const float *x,
                  size_t stride);
/* The rows are the activations in s.act. Uses s.row of the first thread. */
void cpu_tap_act(const struct backend_cpu *b, const struct cpu_tap_at *at);

/* Where a product goes: row r of token t to y[t*stride + r]. */
struct cpu_output {
    float *y;
    size_t stride;
};
/* A matrix as the kernels take it. */
static inline struct ternary_weights cpu_ternary(const struct weight *w)
{
    return (struct ternary_weights){w->data, w->rows, w->cols, w->row_bytes, w->scale};
}
static inline struct float_weights cpu_floats(const struct weight *w)
{
    return (struct float_weights){w->type, w->data, w->rows, w->cols, w->row_bytes};
}

struct cpu_rows {
    uint64_t begin, end;
};
/* These rows of w times the inputs of the batch in work (s.act, or s.h). */
void cpu_multiply(const struct backend_cpu *b, const struct weight *w, struct cpu_rows rows,
                  const struct cpu_output *out, int thread);

/* A matrix for one token is cut into slots: `height` neighbouring rows of each of WALK_STREAMS
 * stretches (struct row_walk), or what is left over when the rows do not divide. */
static inline uint64_t cpu_slots(uint64_t rows, uint64_t height)
{
    return (rows + WALK_STREAMS * height - 1) / (WALK_STREAMS * height);
}
static inline uint64_t cpu_slot_height(const struct backend_cpu *b, const struct weight *w)
{
    return b->fives && w->fives ? FIVES_ROWS : 1;
}
/* Bytes that a product of one token reads. */
uint64_t cpu_read_bytes(const struct backend_cpu *b, const struct weight *w);
enum { SLOT_RANGES = WALK_STREAMS + 1 };
/* The rows of some slots: how many ranges, none of them empty. */
int cpu_slot_rows(uint64_t rows, uint64_t height, struct cpu_rows slots,
                  struct cpu_rows out[SLOT_RANGES]);
/* y[row] = row * input of the one token in work (s.act, or s.h), for the rows of slots [begin,
 * end).
 */
void cpu_dot_slots(const struct backend_cpu *b, const struct weight *w, struct cpu_rows slots,
                   float *y, int thread);
/* All logits of the one token in work (s.h), by the copy of the head in 12 bits per weight. */
void cpu_narrow_head(struct backend_cpu *b, float *out);
/* Weights of a piece: a microsecond or two of reading, so that threads end together. */
#define CPU_PIECE_BYTES (64u * 1024)
/* y = w * input of the one token in work (s.act), by the copy of layer il's `down` matrix by
 * columns. False: there is none, or too few zeros. */
bool cpu_dot_columns(struct backend_cpu *b, uint32_t il, const struct weight *w, float *y);
/* The same by these codes. Uses s.column_sums and s.column_used. */
bool cpu_dot_codes(struct backend_cpu *b, const struct column_codes *codes, const struct weight *w,
                   float *y);
/* Slots of a matrix for one token, each slot_bytes of weights. */
struct cpu_slot_kind {
    uint64_t height, slot_bytes;
};
/* Slots per piece of a parallel step over `slots` of them. */
size_t cpu_slot_chunk(const struct backend_cpu *b, struct cpu_slot_kind kind, uint64_t slots,
                      uint64_t macs);

/* Rows per piece for a parallel step over `rows` rows of weights that meet n_tok tokens, `macs`
 * multiply-adds in all. */
size_t cpu_chunk(const struct backend_cpu *b, uint64_t rows, uint64_t macs, size_t n_tok);

#endif
