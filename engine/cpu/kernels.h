/* CPU kernels: one table per instruction set, each entry with a twin in kernels_ref.c that defines
 * its result.
 *
 * Exactness. Ternary x int8 products are summed in int32: any order gives the same integer. Float
 * stages have one order, so that all tables give equal bits: a reduction over i runs in 16 lanes
 * (lane i % 16, ascending i; lanes that a short tail does not reach are left alone), then lanes are
 * added pairwise: l[j] += l[j+8], then 4, 2, 1. No fused multiply-add anywhere; files are compiled
 * with -ffp-contract=off. Maxima are taken on the bits of |x| as integers, so that a NaN wins and
 * is seen. Which NaN (sign, payload) a result is, is left to the processor; that it is one is not.
 *
 * All pointers are to non-overlapping memory unless said otherwise; float rows need no alignment;
 * int8 activation rows are 64-byte aligned. */
#ifndef BNT_CPU_KERNELS_H
#define BNT_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/tensor_type.h"
#include "engine/tl_place.h"

/* Hides from the compiler what a vector is; in an emulated one (check/emulated) it may look. */
#ifdef CPU_EMULATED
#define CPU_OPAQUE(vector) ((void)0)
#else
#define CPU_OPAQUE(vector) __asm__("" : "+v"(vector))
#endif

/* With more columns than this a sum of hostile codes (3) and activations (-128) leaves int32. */
#define TERNARY_MAX_COLS (1u << 22)

/* Ternary weights: 2-bit codes (weight = code - 1), I2_S 128/32 blocks, each row padded with code 1
 * to a whole number of blocks. w[r][c] = scale * (code - 1). */
struct ternary_weights {
    const uint8_t *codes; /* rows * row_bytes */
    uint64_t rows, cols;  /* cols <= TERNARY_MAX_COLS */
    uint64_t row_bytes;   /* ternary_row_bytes(cols) */
    float scale;
};

/* TL1 or TL2 weights as the file has them; their tiles fit (tl_find_planes). w[r][c] = scale * -1,
 * 0 or 1; a code that means no weight counts as zeros. cols <= TERNARY_MAX_COLS. */
struct tl_weights {
    struct tl_planes planes;
    float scale;
};

/* Activations of n_tok tokens for a ternary product.
 * Row t: q + t*stride, int8, stride at least act_stride(cols) bytes. Within it, blocks of 256
 * activations are interleaved so that 64 loaded weight bytes (two I2_S blocks) meet 64 contiguous
 * activations:
 *     position 256*b + 64*g + p       holds x[256*b + 32*g + p]         p = 0..31, g = 0..3
 *     position 256*b + 64*g + 32 + p  holds x[256*b + 128 + 32*g + p]
 * Positions past cols hold 0. */
struct act_rows {
    int8_t *q;
    float *scale; /* n_tok: absmax/127 (absmax floored at 1e-5): x ~ q * scale. NaN if the row held
                     a NaN */
    int32_t *sum; /* n_tok: sum of q */
    uint64_t stride; /* bytes */
    uint8_t *tables; /* n_tok times tables_stride: what tl_tables made of q; else NULL */
    uint64_t tables_stride;
    uint8_t *scratch; /* of the calling thread, for products of two tokens or more: scratch_bytes of
                         the table, 64-byte aligned */
};
static inline uint64_t act_stride(uint64_t cols)
{
    return (cols + 255) / 256 * 256;
}
/* Where activation i of a row lies. Runs of 32 stay together. */
static inline uint64_t act_position(uint64_t i)
{
    return i / 256 * 256 + i % 128 / 32 * 64 + i % 256 / 128 * 32 + i % 32;
}

/* Rows of a matrix for one token, in the order that memory likes best: WALK_STREAMS stretches of
 * `spread` rows each, read side by side, every one from its begin to its end. The processor follows
 * each of them, and while one waits for a page's address the others go on. The rows of a walk are
 * i*spread + r for i < WALK_STREAMS and begin <= r < end <= spread. */
enum { WALK_STREAMS = 4 };
struct row_walk {
    uint64_t begin, end, spread;
};

/* A head in 5 bits per weight (engine/screen.h): four bits say which of the levels its magnitude
 * is, the fifth says that it is negative. In blocks of 256 weights in the order in which struct
 * act_rows has its activations, 64 in each of four groups g: byte p < 64 holds the level of weight
 * p of groups 0 (below) and 1, byte 64 + p those of groups 2 and 3; byte 128 + p (p < 32) the signs
 * of weights p, group g at bit g, and of weights 32 + p, group g at bit 4 + g. */
enum { SCREEN_BLOCK_BYTES = 160, SCREEN_LEVELS = 16, SCREEN_FINER = 256 };
extern const uint8_t screen_levels[SCREEN_LEVELS];
struct screen_codes {
    const uint8_t *codes;
    uint64_t row_bytes; /* whole blocks; a row of at most 65536 weights */
};
static inline uint64_t screen_row_bytes(uint64_t cols)
{
    return (cols + 255) / 256 * SCREEN_BLOCK_BYTES;
}

/* An input of a screened head: two rows, x ~ scale[0] * (q[0] + q[1] / SCREEN_FINER), and no q is
 * -128. This is the product with a row of codes, by its sums of level * q, in units of scale[0] /
 * SCREEN_FINER. */
static inline float screen_score(int32_t sum, int32_t fine)
{
    return (float)sum * (float)SCREEN_FINER + (float)fine;
}

/* Ternary codes column by column (engine/columns.h), for inputs with many zeros: column p holds
 * what meets position p of an act row, so that both are walked alike. COLUMN_ROWS rows are 64
 * bytes; row 16*(4*g + k) + 4*i + j of them, i, j, k, g < 4, is at bit 2*g of byte 16*i + 4*k + j.
 * Four columns whose bytes are interleaved (bytes, then pairs) thus give sums of 16 rows in their
 * order. Rows after the last one hold any codes. */
enum { COLUMN_ROWS = 256, COLUMN_LINE = COLUMN_ROWS / 4 };
struct column_codes {
    const uint8_t *codes;  /* 64-byte aligned */
    uint64_t column_bytes; /* whole lines */
    uint64_t columns;      /* act_stride of the matrix's columns, at most COLUMN_MAX */
};
/* The sums that a product with them has: rows rounded up to whole COLUMN_ROWS. */
static inline uint64_t column_sums(const struct column_codes *w)
{
    return w->column_bytes / COLUMN_LINE * COLUMN_ROWS;
}
/* With more columns than this, 64 * 127 * 3 times their number leaves int32. */
#define COLUMN_MAX 65536u

/* Ternary weights of five rows in a byte (engine/fives.h): 81*t[4] + 27*t[3] + 9*t[2] + 3*t[1] +
 * t[0], where t[k] is weight + 1 of row k of the five, and byte p of a group of rows has what meets
 * position p of an act row. The rows of a walk are groups here. */
enum { FIVES_ROWS = 5 };
struct five_codes {
    const uint8_t *codes; /* values below 243 */
    uint64_t group_bytes; /* act_stride of the columns, at most FIVES_MAX_COLS */
    float scale;
};
/* With more columns than this, 242 * 128 times their number leaves int32. */
#define FIVES_MAX_COLS 65536u

enum act_fn { ACT_SILU, ACT_RELU2 };
enum rope_style { ROPE_NORM /* pairs 2i, 2i+1 */, ROPE_NEOX /* pairs i, i + n_rot/2 */ };

/* Float-like weights, row-major: F32, F16, BF16 directly; other types by dequantising rows. */
struct float_weights {
    enum tensor_type type;
    const uint8_t *data; /* host byte order */
    uint64_t rows, cols;
    uint64_t row_bytes;
};

/* A head whose values are those of bfloat16, in 12 bits per weight (engine/narrow.h). Of the upper
 * half of such a float32 the lower byte stands as it is; of the upper byte, the sign and seven bits
 * of the exponent, four bits say which of 16 of the row it is. In blocks of 128 weights, places 0
 * to 127: byte p < 64 has the codes of places p (below) and 64 + p, byte 64 + p the lower byte of
 * place p. What follows the row's end has code and lower byte 0. */
enum { NARROW_BLOCK = 128, NARROW_BLOCK_BYTES = 192, NARROW_HIGH = 16, NARROW_ODD = 5 };
/* n_odd of a row that is not in this form. */
#define NARROW_WHOLE 255u
struct narrow_row {
    uint8_t high[NARROW_HIGH];
    /* Weights whose upper byte is none of those: what it is, and their places in the row by
     * ascending order. */
    uint8_t n_odd, odd_high[NARROW_ODD];
    uint16_t odd_at[NARROW_ODD];
};
struct narrow_codes {
    const struct narrow_row *rows;
    const uint8_t *codes; /* row_bytes of each row: whole blocks */
    uint64_t row_bytes;
    struct float_weights whole; /* the head itself */
};
static inline uint64_t narrow_row_bytes(uint64_t cols)
{
    return (cols + NARROW_BLOCK - 1) / NARROW_BLOCK * NARROW_BLOCK_BYTES;
}
/* Where weight i of a row is. Of 64 places, a quarter has four weights of each of four vectors of
 * 16: upper and lower bytes side by side are then a pair of vectors in each half of the quarter. */
static inline uint64_t narrow_place(uint64_t i)
{
    return i / 64 * 64 + i % 16 / 4 * 16 + i % 4 * 2 + i / 16 % 2 + i / 32 % 2 * 8;
}

struct attend_args {
    const float *q;      /* n_tok x n_head_group x head_dim: query heads that share one KV head */
    uint32_t n_tok;      /* successive query tokens */
    uint64_t tok_stride; /* elements from one token's heads to the next one's, in q and out */
    uint32_t n_head_group, head_dim;
    const void *k, *v;  /* n_kv x head_dim of one KV head, rows kv_stride elements apart */
    uint64_t kv_stride; /* elements */
    bool kv_f16;        /* else float32 */
    uint32_t n_kv;      /* positions that the first token sees: its own + 1 */
    uint32_t n_kv_step; /* 1: every later token sees one more; 0: all see the same */
    float scale;        /* 1/sqrt(head_dim) */
    float *scores;      /* scratch: n_tok * n_head_group * (n_kv of the last token) floats */
    float *out;         /* as q; may be q */
};
/* Positions that the last token sees. */
static inline uint32_t attend_most_seen(const struct attend_args *a)
{
    return a->n_kv + (a->n_tok - 1) * a->n_kv_step;
}

enum { CPU_DEQUANT_ROWS = 8 };

struct cpu_kernels {
    const char *name; /* "ref", "avx2", "avx512", "neon", "i8mm", "wasm" */

    /* x[n] -> one act row: scale = max(absmax, 1e-5)/127; q = clamp(round_half_even(x *
     * (127/max(absmax, 1e-5))), -128, 127), permuted as struct act_rows says. q has act_stride(n)
     * bytes. */
    void (*quantize_act)(const float *x, size_t n, int8_t *q, float *scale, int32_t *sum);

    /* y[t*y_stride + r] = (float)(sum_c (code-1)*q) * (w.scale * a.scale[t]) for rows r in [row0,
     * row1), t < n_tok. */
    void (*matmul_ternary)(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                           const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);

    /* The tables of one act row q for products with w, or with weights of the same type, columns
     * and columns in triples; engine/cpu/tl.h describes them and says how long they are. */
    void (*tl_tables)(const struct tl_planes *w, const int8_t *q, uint8_t *tables);

    /* As matmul_ternary, by looking up in a->tables. Whole tiles of tiles.bm_inner rows are
     * summed, so rows are best taken in multiples of it. */
    void (*matmul_tl)(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                      const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);

    /* y[t*y_stride + r] = dot(row r, x + t*x_stride), canonical 16-lane order, for r in [row0,
     * row1). scratch: CPU_DEQUANT_ROWS * w->cols floats for dequantised rows; of F32, F16 and BF16
     * there are none. */
    void (*matmul_float)(const struct float_weights *w, uint64_t row0, uint64_t row1,
                         const float *x, size_t x_stride, size_t n_tok, float *y, size_t y_stride,
                         float *scratch);

    /* matmul_ternary of one token for the rows of a walk: y[row]. */
    void (*dot_ternary)(const struct ternary_weights *w, const struct row_walk *walk,
                        const struct act_rows *a, float *y);

    /* matmul_ternary of one token for the rows of the groups g of a walk: y[FIVES_ROWS * g + k].
     * NULL: the table has no kernel that gains by it; see cpu_kernels_have_fives. */
    void (*dot_fives)(const struct five_codes *w, const struct row_walk *walk,
                      const struct act_rows *a, float *y);

    /* acc[r] += sum of code(r, p) * q[p] over p in [begin, end), multiples of 64: only columns
     * whose q is not 0 are read. acc has column_sums(w). */
    void (*add_columns)(const struct column_codes *w, const int8_t *q, uint64_t begin, uint64_t end,
                        int32_t *acc);

    /* matmul_float of one token for the rows of a walk: y[row]; F32, F16 and BF16. */
    void (*dot_float)(const struct float_weights *w, const struct row_walk *walk, const float *x,
                      float *y);

    /* As dot_float with w->whole, bit for bit, read in the short form. */
    void (*dot_narrow)(const struct narrow_codes *w, const struct row_walk *walk, const float *x,
                       float *y);

    /* out[row] = screen_score of the sums of level * q of both rows of a, for the rows of a walk.
     */
    void (*dot_screen)(const struct screen_codes *w, const struct row_walk *walk,
                       const struct act_rows *a, float *out);

    /* y[i] = (x[i] * (1/sqrt(mean(x^2) + eps))) * w[i]; y may be x. */
    void (*rmsnorm)(const float *x, const float *w, float eps, size_t n, float *y);

    /* Rotate n_head heads of head_dim in place; the first n_rot of each head take part. cs: n_rot/2
     * pairs (cos, sin). */
    void (*rope)(float *x, uint32_t n_head, uint32_t head_dim, uint32_t n_rot,
                 enum rope_style style, const float *cs);

    /* Per query token, one group: scores by canonical dots, softmax (max, exp, 16-lane sum over
     * positions), then out = sum over positions in ascending order of p*v, divided by the sum. */
    void (*attend)(const struct attend_args *a);

    /* gate[i] = act(gate[i]) * up[i]; ACT_RELU2: max(g,0)^2. */
    void (*act_mul)(enum act_fn fn, float *gate, const float *up, size_t n);

    void (*add)(float *y, const float *x, size_t n);            /* y += x */
    void (*store_f16)(const float *x, size_t n, uint16_t *dst); /* round to nearest even */

    /* What matmul_ternary makes of the activations of CPU_MANY_TOKENS or more is worth it when so
     * many rows meet it in one call; 0: any number. */
    uint32_t piece_rows;
    uint32_t scratch_bytes; /* of struct act_rows, for matmul_ternary: whole lines of 64 bytes */
};
enum { CPU_MANY_TOKENS = 28 };

/* Features of this processor that kernels ask for, detected once. */
struct cpu_features {
    bool avx2, f16c, avx512f, avx512bw, avx512vl, avx512vnni, avxvnni; /* x86-64, with OS support */
    bool avx512vbmi;
    bool neon, dotprod, i8mm; /* aarch64 */
    char model[64];           /* "AMD EPYC" */
    uint64_t l1d, l2, l3;     /* bytes, 0: unknown */
};
const struct cpu_features *cpu_features(void);

/* All tables compiled in, fastest first, NULL-terminated; the last is "ref". */
const struct cpu_kernels *const *cpu_kernels_all(void);
/* NULL when this processor can run it, else the name of the feature that is missing. */
const char *cpu_kernels_missing(const struct cpu_kernels *k);

/* The table that cpu_kernels_choose takes by that name as long as no self-test fails; the reference
 * where it takes none. */
const struct cpu_kernels *cpu_kernels_expected(const char *name);

/* Whether dot_fives of k runs here: it may ask for more than its table does. */
bool cpu_kernels_have_fives(const struct cpu_kernels *k);
/* Whether some table that runs here is faster with five weights in a byte than with 2-bit codes. */
bool cpu_fives_pay(void);

/* Compare every entry of k with the reference on small pseudo-random inputs (all tails, all types);
 * under 10 ms. Errors: SELF_TEST naming the entry and the first differing element. */
enum bnt_status cpu_kernels_self_test(const struct cpu_kernels *k, struct bnt_err *err);

/* The table to use. name NULL or "auto": the fastest that this processor runs and that passes its
 * self-test; a demoted one is told in note (size bytes). Otherwise that table. Errors: USAGE
 * (unknown), UNSUPPORTED (feature missing), SELF_TEST (forced). */
enum bnt_status cpu_kernels_choose(const char *name, const struct cpu_kernels **out, char *note,
                                   size_t size, struct bnt_err *err);

#endif
