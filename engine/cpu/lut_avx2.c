/* The ternary product of many tokens by look-up. A byte of codes is four weights of a row, and what
 * they can make of the four activations that they meet is one of 81 sums. For a strip of 16 tokens
 * these sums are laid out in a table, 16 bits a token, so that a row adds one vector for 64
 * products. Tables of 8 bytes fit the nearest cache; all rows of a block pass over them, then come
 * the tables of the next 8 bytes.
 *
 * Between two passes a row's sums wait in 16 bits. That is exact as long as the magnitudes of the
 * activations that a token has met add up to no more than 32767; before they would, the sums are
 * added to the result, which holds int32 until the last of them came. (Sums of this kind for one
 * token: Wei and others, T-MAC, 2024, arXiv:2407.00088.) */
#include "engine/cpu/panel.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "base/fault.h"

#define V_INLINE inline __attribute__((always_inline))

#include "engine/cpu/sums_avx2.inc"

enum {
    STRIP = LUT_TOKS,
    STRIPS = 4,      /* that use the places of a block's codes, once made */
    ROWS = 1280,     /* of a block, at most: its places and sums stay in the second-level cache */
    ROWS_AHEAD = 32, /* a little of each row is read in turn, which no processor foresees */
    PASS = 8,        /* bytes of codes */
    LINE_BYTES = 64, /* of codes, of each row: the passes of 256 columns */
    BLOCK_BYTES = 32,
    CHUNK_COLS = 256, /* whose activations lie together */
    PASSES = LINE_BYTES / PASS,
    TABLE_BYTES = 81 * STRIP * 2,
    HALF = 8 /* rows, and tokens, of a square that is transposed */
};

struct lut {
    const struct ternary_weights *w;
    const struct act_rows *a;
    uint64_t row; /* the first of the block */
    int rows;
    size_t tok; /* the first of the strips */
    int strips, last_toks;
    float *y;
    size_t y_stride;
    bool begun[STRIPS];    /* the result holds sums */
    __m256i spent[STRIPS]; /* magnitudes that a token's sums in 16 bits have met */
    _Alignas(64) int16_t sums[STRIPS][ROWS][STRIP];
    _Alignas(64) uint16_t place[PASSES][ROWS][PASS]; /* in bytes, of the row's sum in each table */
    _Alignas(64) uint8_t tables[PASS][TABLE_BYTES];
};
_Static_assert(sizeof(struct lut) <= PRODUCT_SCRATCH_AVX2, "its tables and sums fit");

/* ---- places ---- */

/* Of two codes, times 4. */
static V_INLINE __m256i place_of_two(__m256i codes)
{
    const __m128i two = _mm_setr_epi8(0, 4, 8, 0, 12, 16, 20, 0, 24, 28, 32, 0, 0, 0, 0, 0);
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(two),
                               _mm256_and_si256(codes, _mm256_set1_epi8(15)));
}

/* Those of all rows for the next n blocks of codes. False: a code is 3, which no table has. */
static bool find_places(struct lut *l, const uint8_t *codes, int n)
{
    const __m256i scale = _mm256_set1_epi16(STRIP * 2 / 4 * (1 + 9 * 256));
    __m256i odd = _mm256_setzero_si256();
    for (int r = 0; r < l->rows; r++, codes += l->w->row_bytes) {
        __builtin_prefetch(codes + ROWS_AHEAD * l->w->row_bytes, 0, 3);
        for (int b = 0; b < n; b++) {
            __m256i x = _mm256_loadu_si256((const void *)(codes + BLOCK_BYTES * b));
            odd = _mm256_or_si256(odd, _mm256_and_si256(x, _mm256_srli_epi16(x, 1)));
            __m256i low = place_of_two(x), high = place_of_two(_mm256_srli_epi16(x, 4));
            __m256i even = _mm256_maddubs_epi16(_mm256_unpacklo_epi8(low, high), scale);
            __m256i uneven = _mm256_maddubs_epi16(_mm256_unpackhi_epi8(low, high), scale);
            uint16_t(*to)[ROWS][PASS] = l->place + BLOCK_BYTES / PASS * b;
            _mm_store_si128((__m128i *)(void *)to[0][r], _mm256_castsi256_si128(even));
            _mm_store_si128((__m128i *)(void *)to[1][r], _mm256_castsi256_si128(uneven));
            _mm_store_si128((__m128i *)(void *)to[2][r], _mm256_extracti128_si256(even, 1));
            _mm_store_si128((__m128i *)(void *)to[3][r], _mm256_extracti128_si256(uneven, 1));
        }
    }
    return _mm256_testz_si256(odd, _mm256_set1_epi8(0x55)) != 0;
}

/* ---- tables ---- */

/* PASS successive activations of each token, by activation. */
static V_INLINE void turn_acts(const int8_t *q, uint64_t stride, int n_tok, __m128i out[PASS])
{
    __m128i in[STRIP], two[STRIP];
    for (int t = 0; t < STRIP; t++) {
        in[t] = t < n_tok ? _mm_loadl_epi64((const void *)(q + (uint64_t)t * stride))
                          : _mm_setzero_si128();
    }
    for (int i = 0; i < 8; i++) {
        two[i] = _mm_unpacklo_epi8(in[i], in[i + 8]);
    }
    for (int i = 0; i < 4; i++) {
        in[i] = _mm_unpacklo_epi8(two[i], two[i + 4]);
        in[4 + i] = _mm_unpackhi_epi8(two[i], two[i + 4]);
    }
    for (int i = 0; i < 8; i += 4) {
        for (int k = 0; k < 2; k++) {
            two[i + k] = _mm_unpacklo_epi8(in[i + k], in[i + k + 2]);
            two[i + 2 + k] = _mm_unpackhi_epi8(in[i + k], in[i + k + 2]);
        }
    }
    for (int i = 0; i < 8; i += 2) {
        out[i] = _mm_unpacklo_epi8(two[i], two[i + 1]);
        out[i + 1] = _mm_unpackhi_epi8(two[i], two[i + 1]);
    }
}

/* All that codes make of four activations, the first of which the lowest code meets. */
static V_INLINE void make_table(const __m256i x[4], uint8_t *table)
{
    __m256i *at = (__m256i *)(void *)table;
    __m256i least =
        _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_add_epi16(_mm256_add_epi16(x[0], x[1]),
                                                                  _mm256_add_epi16(x[2], x[3])));
    for (int d = 0; d < 3; d++, least = _mm256_add_epi16(least, x[3])) {
        __m256i third = least;
#pragma GCC unroll 3
        for (int c = 0; c < 3; c++, third = _mm256_add_epi16(third, x[2])) {
            __m256i second = third;
#pragma GCC unroll 3
            for (int b = 0; b < 3; b++, second = _mm256_add_epi16(second, x[1]), at += 3) {
                __m256i middle = _mm256_add_epi16(second, x[0]);
                _mm256_store_si256(at, second);
                _mm256_store_si256(at + 1, middle);
                _mm256_store_si256(at + 2, _mm256_add_epi16(middle, x[0]));
            }
        }
    }
}

/* The tables of a pass; q: what its first byte's highest code meets. Returns the magnitudes of the
 * activations, of each token. */
static __m256i make_tables(struct lut *l, const int8_t *q, int n_tok)
{
    __m128i acts[4][PASS];
    for (int g = 0; g < 4; g++) {
        turn_acts(q + 64 * g, l->a->stride, n_tok, acts[g]);
    }
    __m256i met = _mm256_setzero_si256();
    for (int j = 0; j < PASS; j++) {
        __m256i x[4];
        for (int g = 0; g < 4; g++) {
            x[3 - g] = _mm256_cvtepi8_epi16(acts[g][j]);
            met = _mm256_add_epi16(met, _mm256_abs_epi16(x[3 - g]));
        }
        make_table(x, l->tables[j]);
    }
    return met;
}

/* ---- sums ---- */

/* The sums of a pass are added to those of each row, of two rows in turn. */
static V_INLINE void add_pass(struct lut *l, int pass, int strip, bool first)
{
    const uint16_t *place = l->place[pass][0];
    int16_t *sums = l->sums[strip][0];
    const uint8_t *tables = l->tables[0];
    for (int r = 0; r < l->rows; r += 2, place += 2 * PASS, sums += 2 * STRIP) {
        __m256i sum[2];
        for (int i = 0; i < 2; i++) {
            sum[i] = first ? _mm256_setzero_si256()
                           : _mm256_load_si256((const void *)(sums + STRIP * i));
        }
#pragma GCC unroll 2
        for (int j = 0; j < PASS; j += 4) {
            uint64_t at[2];
            memcpy(&at[0], place + j, sizeof(at[0]));
            memcpy(&at[1], place + PASS + j, sizeof(at[1]));
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++) {
                for (int i = 0; i < 2; i++) {
                    const uint8_t *entry = tables + (j + k) * TABLE_BYTES + (uint16_t)at[i];
                    at[i] >>= 16;
                    /* Written out, and the shift kept as it is: gcc adds in another order and
                     * shifts copies, which costs half as many instructions again. */
                    __asm__("vpaddw %2, %0, %0"
                            : "+x"(sum[i]), "+r"(at[i])
                            : "m"(*(const __m256i *)(const void *)entry));
                }
            }
        }
        for (int i = 0; i < 2; i++) {
            _mm256_store_si256((__m256i *)(void *)(sums + STRIP * i), sum[i]);
        }
    }
}

static __attribute__((noinline)) void begin_sums(struct lut *l, int pass, int strip)
{
    add_pass(l, pass, strip, true);
}

static __attribute__((noinline)) void add_sums(struct lut *l, int pass, int strip)
{
    add_pass(l, pass, strip, false);
}

static V_INLINE int strip_toks(const struct lut *l, int strip)
{
    return strip + 1 < l->strips ? STRIP : l->last_toks;
}

/* The sums of a strip go to the result: as int32, or, the last ones, as what it is. */
static void put_sums(struct lut *l, int strip, bool last)
{
    const int n_tok = strip_toks(l, strip);
    for (int i = 0; i < l->rows / HALF * (STRIP / HALF); i++) {
        const int r = i / (STRIP / HALF) * HALF, h = i % (STRIP / HALF) * HALF;
        __m256i row[HALF], sum[HALF];
        for (int k = 0; k < HALF; k++) {
            row[k] = _mm256_cvtepi16_epi32(
                _mm_load_si128((const __m128i *)(const void *)(l->sums[strip][r + k] + h)));
        }
        transpose8(row, sum);
        for (int k = 0; k < HALF && h + k < n_tok; k++) {
            const size_t tok = l->tok + (size_t)(strip * STRIP + h + k);
            float *y = l->y + tok * l->y_stride + l->row + r;
            if (l->begun[strip]) {
                sum[k] = _mm256_add_epi32(sum[k], _mm256_loadu_si256((const void *)y));
            }
            if (last) {
                const __m256 scale = _mm256_set1_ps(l->w->scale * l->a->scale[tok]);
                sum[k] = _mm256_castps_si256(_mm256_mul_ps(_mm256_cvtepi32_ps(sum[k]), scale));
            }
            _mm256_storeu_si256((__m256i *)(void *)y, sum[k]);
        }
    }
    l->begun[strip] = true;
}

/* Tables of 8 bytes of codes, from column `at` of the bytes on, and what they add to a strip. */
static void pass_strip(struct lut *l, uint64_t at, int strip)
{
    const int8_t *q = l->a->q + (l->tok + (size_t)(strip * STRIP)) * l->a->stride +
                      at / LINE_BYTES * CHUNK_COLS + at % LINE_BYTES;
    const __m256i met = make_tables(l, q, strip_toks(l, strip));
    __m256i spent = _mm256_add_epi16(l->spent[strip], met);
    bool first = at == 0;
    if (_mm256_movemask_epi8(_mm256_srai_epi16(spent, 15)) && !BNT_FAULT(lut_spent)) {
        put_sums(l, strip, false);
        spent = met;
        first = true;
    }
    l->spent[strip] = spent;
    (first ? begin_sums : add_sums)(l, (int)(at % LINE_BYTES) / PASS, strip);
}

/* Some strips of tokens against a block of rows. False: a code is 3. */
static bool multiply_block(struct lut *l)
{
    const uint64_t row_bytes = l->w->row_bytes;
    const uint8_t *codes = l->w->codes + l->row * row_bytes;
    memset(l->begun, 0, sizeof(l->begun));
    memset(l->spent, 0, sizeof(l->spent));
    for (uint64_t at = 0; at < row_bytes; at += LINE_BYTES) {
        const int n = row_bytes - at < LINE_BYTES ? 1 : 2;
        if (!find_places(l, codes + at, n)) {
            return false;
        }
        for (int strip = 0; strip < l->strips; strip++) {
            for (int byte = 0; byte < n * BLOCK_BYTES; byte += PASS) {
                pass_strip(l, at + (uint64_t)byte, strip);
            }
        }
    }
    for (int i = 0; i < l->strips; i++) {
        put_sums(l, i, true);
    }
    return true;
}

uint64_t lut_ternary_avx2(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                          const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    struct lut *l = (struct lut *)(void *)a->scratch;
    l->w = w;
    l->a = a;
    l->y = y;
    l->y_stride = y_stride;
    l->row = row0;
    for (uint64_t left; (left = (row1 - l->row) / HALF) > 0; l->row += (uint64_t)l->rows) {
        /* Blocks of equal height, as few as there can be. */
        const uint64_t n_left = (left * HALF + ROWS - 1) / ROWS;
        l->rows = (int)((left + n_left - 1) / n_left * HALF);
        for (l->tok = 0; l->tok < n_tok; l->tok += STRIPS * STRIP) {
            const size_t toks = n_tok - l->tok < STRIPS * STRIP ? n_tok - l->tok : STRIPS * STRIP;
            l->strips = (int)((toks + STRIP - 1) / STRIP);
            l->last_toks = (int)toks - (l->strips - 1) * STRIP;
            if (!multiply_block(l)) {
                return l->row;
            }
        }
    }
    return l->row;
}

#endif
