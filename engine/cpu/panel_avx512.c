/* The ternary product of many tokens by short rows. The codes of a panel of rows are unpacked once,
 * into bytes that lie as vpdpbusd wants them: a vector holds four successive codes of each of 16
 * rows, so that it meets four activations of a token, broadcast, and every lane sums a row of its
 * own. Nothing is added across lanes, which costs more than the products where rows are short. A
 * panel of long rows does not fit the nearest caches: there the tiles of kernels_avx512.c win. */
#include "engine/cpu/panel.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define V_INLINE inline __attribute__((always_inline))

#include "engine/cpu/transpose_avx512.inc"

typedef __m512i vi;

enum {
    LANES = 16,      /* rows of a vector */
    PANEL_VECS = 3,  /* 3 vectors of rows and 8 tokens: 24 sums of 32 registers */
    PANEL_TOKS = 8,  /* tokens of a tile */
    STEP_BYTES = 64, /* of codes: 256 columns of a row */
    STEP_VECS = 64,  /* code vectors that they make */
    PANEL_STEPS = PANEL_MAX_COLS / 256,
};

/* A panel of rows and what it is a part of. */
struct panel {
    uint8_t *code; /* n_step * STEP_VECS * vectors of rows * 64 bytes */
    const struct ternary_weights *w;
    const struct act_rows *a;
    size_t n_tok;
    uint64_t row, n_step; /* the first row; steps of 64 bytes of codes */
    float *y;
    size_t y_stride;
};

/* 64 bytes of codes of 16 rows into 64 code vectors, n_vec vectors apart. */
static V_INLINE void unpack_step(const uint8_t *codes, uint64_t row_bytes, __mmask16 present,
                                 int n_vec, uint8_t *out)
{
    vi row[LANES], column[LANES];
    for (int r = 0; r < LANES; r++) {
        const uint8_t *at = codes + (uint64_t)r * row_bytes;
        row[r] = _mm512_maskz_loadu_epi32(present, at);
    }
    transpose_avx512(row, column);
    const vi low = _mm512_set1_epi8(3);
#pragma GCC unroll 4
    for (int g = 0; g < 4; g++) {
        for (int j = 0; j < LANES; j++) {
            vi code = _mm512_and_si512(_mm512_srli_epi16(column[j], (unsigned)(6 - 2 * g)), low);
            _mm512_store_si512(out + (size_t)(LANES * g + j) * (size_t)n_vec * STEP_BYTES, code);
        }
    }
}

static V_INLINE void unpack_panel(struct panel *p, int n_vec)
{
    uint64_t row_bytes = p->w->row_bytes;
    for (uint64_t s = 0; s < p->n_step; s++) {
        uint64_t at = s * STEP_BYTES;
        /* Of an odd block only 32 bytes are there; activations past them are 0. */
        __mmask16 present = row_bytes - at < STEP_BYTES ? 0xff : 0xffff;
        for (int v = 0; v < n_vec; v++) {
            const uint8_t *codes = p->w->codes + (p->row + (uint64_t)(LANES * v)) * row_bytes + at;
            unpack_step(codes, row_bytes, present, n_vec,
                        p->code + (s * STEP_VECS * (uint64_t)n_vec + (uint64_t)v) * STEP_BYTES);
        }
    }
}

/* Four activations of token i of a tile that begins at q. The addresses of all eight are made of
 * four registers: q, half (four tokens on), the stride and thrice the stride. */
static V_INLINE vi broadcast4(const int8_t *q, const int8_t *half, uint64_t stride, uint64_t thrice,
                              int i)
{
    const int8_t *row = i < 4 ? q : half;
    int32_t four;
    memcpy(&four, i % 4 == 3 ? row + thrice : row + (uint64_t)(i % 4) * stride, sizeof(four));
    return _mm512_set1_epi32(four);
}

static V_INLINE void store_tile(const struct panel *p, int n_vec, int n_tok, size_t t,
                                vi acc[PANEL_VECS][PANEL_TOKS])
{
    for (int i = 0; i < n_tok; i++) {
        float *y = p->y + (t + (size_t)i) * p->y_stride + p->row;
        vi minus = _mm512_set1_epi32(p->a->sum[t + (size_t)i]);
        __m512 scale = _mm512_set1_ps(p->w->scale * p->a->scale[t + (size_t)i]);
        for (int v = 0; v < n_vec; v++) {
            __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(acc[v][i], minus));
            _mm512_storeu_ps(y + LANES * v, _mm512_mul_ps(exact, scale));
        }
    }
}

/* Tokens [t, t + n_tok) against the panel. */
static V_INLINE void panel_tile(const struct panel *p, int n_vec, int n_tok, size_t t)
{
    vi acc[PANEL_VECS][PANEL_TOKS];
    for (int v = 0; v < n_vec; v++) {
        for (int i = 0; i < n_tok; i++) {
            acc[v][i] = _mm512_setzero_si512();
        }
    }
    uint64_t stride = p->a->stride, thrice = 3 * stride;
    __asm__("" : "+r"(thrice));
    const int8_t *q = p->a->q + t * stride, *half = q + 4 * stride;
    __asm__("" : "+r"(half));
    const uint8_t *codes = p->code;
    for (uint64_t k = 0; k < p->n_step * STEP_VECS; k++) {
        vi code[PANEL_VECS];
        for (int v = 0; v < n_vec; v++) {
            code[v] = _mm512_load_si512(codes + STEP_BYTES * v);
        }
        codes += STEP_BYTES * n_vec;
        for (int i = 0; i < n_tok; i++) {
            vi act = broadcast4(q, half, stride, thrice, i);
            for (int v = 0; v < n_vec; v++) {
                /* Opaque, so that a sum stays in its register. */
                vi sum = _mm512_dpbusd_epi32(acc[v][i], code[v], act);
                CPU_OPAQUE(sum);
                acc[v][i] = sum;
            }
        }
        q += 4;
        half += 4;
    }
    store_tile(p, n_vec, n_tok, t, acc);
}

#define TILE(n_vec, n_tok)                                                                         \
    static __attribute__((noinline)) void tile_##n_vec##_##n_tok(const struct panel *p, size_t t)  \
    {                                                                                              \
        panel_tile(p, n_vec, n_tok, t);                                                            \
    }
TILE(1, 1)
TILE(1, 2)
TILE(1, 4)
TILE(1, 8) TILE(2, 1) TILE(2, 2) TILE(2, 4) TILE(2, 8) TILE(3, 1) TILE(3, 2) TILE(3, 4) TILE(3, 8)

    typedef void tile_fn(const struct panel *p, size_t t);
static tile_fn *const tiles[PANEL_VECS][4] = {{tile_1_1, tile_1_2, tile_1_4, tile_1_8},
                                              {tile_2_1, tile_2_2, tile_2_4, tile_2_8},
                                              {tile_3_1, tile_3_2, tile_3_4, tile_3_8}};

static V_INLINE void panel_tokens(struct panel *p, int n_vec)
{
    unpack_panel(p, n_vec);
    size_t t = 0;
    for (int i = 3; i >= 0; i--) {
        for (; t + (1u << i) <= p->n_tok; t += 1u << i) {
            tiles[n_vec - 1][i](p, t);
        }
    }
}

/* Vectors of rows of the next panel when `left` are left: four are better two and two than three
 * and one. */
static uint64_t panel_vecs(uint64_t left)
{
    return left == 4 ? 2 : left < PANEL_VECS ? left : PANEL_VECS;
}

uint64_t panel_ternary_avx512(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                              const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    _Alignas(64) uint8_t code[PANEL_STEPS * STEP_VECS * PANEL_VECS * STEP_BYTES];
    struct panel p = {.code = code, .w = w, .a = a, .n_tok = n_tok, .y = y, .y_stride = y_stride};
    p.n_step = (w->row_bytes + STEP_BYTES - 1) / STEP_BYTES;
    uint64_t n_vec;
    for (p.row = row0; p.row + LANES <= row1; p.row += n_vec * LANES) {
        n_vec = panel_vecs((row1 - p.row) / LANES);
        switch (n_vec) {
        case 1:
            panel_tokens(&p, 1);
            break;
        case 2:
            panel_tokens(&p, 2);
            break;
        default:
            panel_tokens(&p, 3);
            break;
        }
    }
    return p.row;
}

#endif
