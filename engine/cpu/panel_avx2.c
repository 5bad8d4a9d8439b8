/* The ternary product of many tokens. The codes of a panel of 16 rows are unpacked once, into bytes
 * that lie as vpmaddubsw wants them: a vector holds four successive codes of each of 8 rows, so
 * that it meets four activations of a token, broadcast, and sums of a row stay in their lanes. The
 * loop is loads, products and additions alone, and nothing is added across lanes.
 *
 * 16 bits hold the sums of a chunk of 256 columns if no code is 3: 64 pairs of at most 2 * 2 * 128
 * below zero and 2 * 2 * 127 above. Where a code is 3 they are looked at twice as often. Rows that
 * are long are taken in stretches of chunks; between two stretches the result itself holds the
 * sums, as int32. */
#include "engine/cpu/panel.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define V_INLINE inline __attribute__((always_inline))

#include "engine/cpu/sums_avx2.inc"

enum {
    LANES = 8,      /* rows of a vector */
    PANEL_VECS = 2, /* 2 vectors of rows and 6 tokens: 12 sums of 16 registers */
    PANEL_ROWS = LANES * PANEL_VECS,
    PANEL_TOKS = 6,
    PANEL_SUMS = PANEL_VECS * PANEL_TOKS,
    CHUNK_COLS = 256, /* columns between two looks at int32 */
    CHUNK_STEPS = CHUNK_COLS / 4,
    CHUNK_BYTES = CHUNK_STEPS * PANEL_VECS * 32, /* of a panel */
    PANEL_CHUNKS = 10, /* 40 KiB, read in one direction from the second-level cache */
    BLOCK_BYTES = 32,  /* of codes: 128 columns of a row */
    LINE_BYTES = 64,
};

/* A panel of rows, a stretch of its columns, and what it is a part of. */
struct panel {
    const struct ternary_weights *w;
    const struct act_rows *a;
    uint64_t row, chunk; /* the first of each */
    int n_chunk, span;   /* chunks of the stretch; steps that 16 bits hold */
    bool last;           /* no chunk comes after them */
    float *y;
    size_t y_stride;
    uint8_t *code; /* PANEL_CHUNKS * CHUNK_BYTES */
};
_Static_assert(PRODUCT_SCRATCH_AVX2 >= PANEL_CHUNKS * CHUNK_BYTES, "a panel fits");

static V_INLINE __m256i load(const void *p)
{
    return _mm256_loadu_si256(p);
}

/* A block of 8 rows into its 32 code vectors; returns bits where a code is 3. */
static V_INLINE __m256i unpack_block(const uint8_t *codes, uint64_t row_bytes, uint8_t *out)
{
    __m256i row[8], column[8], odd = _mm256_setzero_si256();
    const __m256i low = _mm256_set1_epi8(3);
    for (int r = 0; r < LANES; r++) {
        row[r] = load(codes + (uint64_t)r * row_bytes);
        odd = _mm256_or_si256(odd, _mm256_and_si256(row[r], _mm256_srli_epi16(row[r], 1)));
    }
    transpose8(row, column);
    for (int g = 0; g < 4; g++) {
        for (int j = 0; j < 8; j++) {
            __m256i code = _mm256_and_si256(_mm256_srli_epi16(column[j], 6 - 2 * g), low);
            size_t step = (size_t)(16 * g + j);
            _mm256_store_si256((__m256i *)(void *)(out + step * PANEL_VECS * 32), code);
        }
    }
    return odd;
}

/* Whether a code is 3. */
static bool unpack_panel(struct panel *p)
{
    uint64_t row_bytes = p->w->row_bytes;
    __m256i odd = _mm256_setzero_si256();
    for (int b = 0; b < 2 * p->n_chunk; b++) {
        uint64_t at = 2 * BLOCK_BYTES * p->chunk + BLOCK_BYTES * (uint64_t)b;
        for (int v = 0; v < PANEL_VECS; v++) {
            uint8_t *out = p->code + b / 2 * CHUNK_BYTES + b % 2 * (8 * PANEL_VECS * 32) + 32 * v;
            if (at < row_bytes) {
                const uint8_t *codes = p->w->codes + (p->row + (uint64_t)(LANES * v)) * row_bytes;
                odd = _mm256_or_si256(odd, unpack_block(codes + at, row_bytes, out));
                continue;
            }
            /* The second half of a last chunk: activations are 0, codes are any. */
            for (int step = 0; step < CHUNK_STEPS; step += step % 16 == 7 ? 9 : 1) {
                _mm256_store_si256((__m256i *)(void *)(out + step * PANEL_VECS * 32),
                                   _mm256_setzero_si256());
            }
        }
    }
    return !_mm256_testz_si256(odd, _mm256_set1_epi8(0x55));
}

static V_INLINE __m256i broadcast4(const int8_t *q)
{
    int32_t four;
    memcpy(&four, q, sizeof(four));
    return _mm256_set1_epi32(four);
}

/* One step of n_tok tokens against both vectors of rows. */
static V_INLINE void add_step(int n_tok, const uint8_t *codes, const int8_t *q, uint64_t stride,
                              uint64_t thrice, uint64_t five, __m256i acc[PANEL_SUMS])
{
    __m256i code[PANEL_VECS];
    for (int v = 0; v < PANEL_VECS; v++) {
        code[v] = _mm256_load_si256((const __m256i *)(const void *)(codes + 32 * v));
    }
    for (int t = 0; t < n_tok; t++) {
        uint64_t away = t == 5 ? five : t == 3 ? thrice : (uint64_t)t * stride;
        __m256i act = broadcast4(q + away);
        for (int v = 0; v < PANEL_VECS; v++) {
            /* Written out, so that a sum stays in its register: gcc adds into another one and moves
             * it back, and seven moves in a step cost a quarter of the time. */
            __m256i product = _mm256_maddubs_epi16(code[v], act);
            __m256i sum = acc[PANEL_VECS * t + v];
            __asm__("vpaddw %1, %0, %0" : "+x"(sum) : "x"(product));
            acc[PANEL_VECS * t + v] = sum;
        }
    }
}

/* `span` steps, added to wide. */
static V_INLINE void add_span(int n_tok, int span, const uint8_t *codes, const int8_t *q,
                              uint64_t stride, __m256i wide[PANEL_SUMS])
{
    const __m256i ones = _mm256_set1_epi16(1);
    uint64_t thrice = 3 * stride, five = 5 * stride;
    __asm__("" : "+r"(thrice), "+r"(five));
    __m256i acc[PANEL_SUMS];
    for (int i = 0; i < PANEL_VECS * n_tok; i++) {
        acc[i] = _mm256_setzero_si256();
    }
    for (int k = 0; k < span; k += 4) {
#pragma GCC unroll 4
        for (int u = 0; u < 4; u++) {
            add_step(n_tok, codes + 32 * PANEL_VECS * u, q + 4 * u, stride, thrice, five, acc);
        }
        codes += 4 * 32 * PANEL_VECS;
        q += 4 * 4;
    }
#pragma GCC unroll 12
    for (int i = 0; i < PANEL_VECS * n_tok; i++) {
        wide[i] = _mm256_add_epi32(wide[i], _mm256_madd_epi16(acc[i], ones));
    }
}

/* Tokens [t0, t0 + n_tok) against the panel. */
static V_INLINE void panel_tile(const struct panel *p, int n_tok, size_t t0)
{
    __m256i wide[PANEL_SUMS];
    for (int i = 0; i < PANEL_VECS * n_tok; i++) {
        const float *y = p->y + (t0 + (size_t)(i / PANEL_VECS)) * p->y_stride + p->row;
        wide[i] = p->chunk > 0 ? load(y + LANES * (i % PANEL_VECS))
                               : _mm256_set1_epi32(-p->a->sum[t0 + (size_t)(i / PANEL_VECS)]);
    }
    const uint8_t *codes = p->code;
    const int8_t *q = p->a->q + t0 * p->a->stride + p->chunk * CHUNK_COLS;
    for (int s = p->n_chunk * CHUNK_STEPS / p->span; s > 0; s--) {
        add_span(n_tok, p->span, codes, q, p->a->stride, wide);
        codes += p->span * PANEL_VECS * 32;
        q += p->span * 4;
    }
    for (int i = 0; i < PANEL_VECS * n_tok; i++) {
        size_t tok = t0 + (size_t)(i / PANEL_VECS);
        float *y = p->y + tok * p->y_stride + p->row + LANES * (i % PANEL_VECS);
        __m256 scale = _mm256_set1_ps(p->w->scale * p->a->scale[tok]);
        __m256i sum = wide[i];
        if (p->last) {
            sum = _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale));
        }
        _mm256_storeu_si256((__m256i *)(void *)y, sum);
    }
}

#define TILE(n_tok)                                                                                \
    static __attribute__((noinline)) void tile_##n_tok(const struct panel *p, size_t t)            \
    {                                                                                              \
        panel_tile(p, n_tok, t);                                                                   \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

typedef void tile_fn(const struct panel *p, size_t t);
static tile_fn *const tiles[PANEL_TOKS] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

/* Unpacking reads 16 rows a little of each, which no processor foresees: the codes of the next
 * stretch, `from` on in the panel's first row, are asked for while tokens meet this one. */
static V_INLINE void ask_for_row(const struct panel *p, const uint8_t *from, uint64_t row)
{
    for (int b = 0; b <= p->n_chunk; b++) { /* a chunk is a line, which may lie in two */
        __builtin_prefetch(from + row * p->w->row_bytes + LINE_BYTES * (uint64_t)b, 0, 2);
    }
}

/* One stretch of the columns of a panel, for all tokens. */
static void panel_stretch(struct panel *p, size_t n_tok)
{
    uint64_t row_bytes = p->w->row_bytes, asked = 0;
    const uint8_t *first = p->w->codes + p->row * row_bytes;
    const uint8_t *next = p->last ? first + PANEL_ROWS * row_bytes
                                  : first + (p->chunk + (uint64_t)p->n_chunk) * 2 * BLOCK_BYTES;
    p->span = unpack_panel(p) ? CHUNK_STEPS / 2 : CHUNK_STEPS;
    for (size_t t = 0, n; t < n_tok; t += n) {
        n = n_tok - t < PANEL_TOKS ? n_tok - t : PANEL_TOKS;
        for (; asked * n_tok < (t + n) * PANEL_ROWS; asked++) {
            ask_for_row(p, next, asked);
        }
        tiles[n - 1](p, t);
    }
}

uint64_t panel_ternary_avx2(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                            const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    struct panel p = {
        .w = w, .a = a, .row = row0, .y = y, .y_stride = y_stride, .code = a->scratch};
    uint64_t n_chunk = act_stride(w->cols) / CHUNK_COLS;
    for (; row1 - p.row >= PANEL_ROWS; p.row += PANEL_ROWS) {
        for (p.chunk = 0; p.chunk < n_chunk; p.chunk += (uint64_t)p.n_chunk) {
            /* Stretches of equal length, as few as there can be. */
            uint64_t left = n_chunk - p.chunk, n_left = (left + PANEL_CHUNKS - 1) / PANEL_CHUNKS;
            p.n_chunk = (int)((left + n_left - 1) / n_left);
            p.last = n_left == 1;
            panel_stretch(&p, n_tok);
        }
    }
    return p.row;
}

#endif
