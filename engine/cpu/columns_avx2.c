/* The product of one token by columns (struct column_codes), for AVX2.
 *
 * Four columns at a time, from their first byte to their last: pairs of them, a byte of each side
 * by side, meet two values in vpmaddubsw. The 16-bit sums of all rows lie in the nearest cache
 * until they are as many as fit 16 bits. So memory is read a whole column at a time, few pages at
 * once, and the columns that come next are asked for meanwhile. */
#include "engine/cpu/tables.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define V_INLINE inline __attribute__((always_inline))

enum {
    HALF_LINE = COLUMN_LINE / 2,
    /* Vectors of sums of half a line: at 2*g rows of k 0 and 1, at 2*g + 1 those of k 2 and 3. */
    SUMS = 8,
    PART_BYTES = 1024, /* of columns that are summed at a time */
    /* Pairs of columns add at most 2 * 3 * 128 each: 42 of them stay in int16. */
    COLUMNS_OF_16_BITS = 84,
    AHEAD_COLUMNS = 8,
    LIST_COLUMNS = 8 * COLUMNS_OF_16_BITS
};

struct column_list {
    uint32_t n;              /* a multiple of four */
    int8_t q[LIST_COLUMNS];  /* 0 for those that fill the last four */
    const uint8_t *at[LIST_COLUMNS + AHEAD_COLUMNS]; /* after n, what is only asked for */
};

static V_INLINE uint64_t column_mask(const int8_t *q)
{
    const __m256i *at = (const __m256i *)(const void *)q, zero = _mm256_setzero_si256();
    uint32_t low = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_load_si256(at), zero));
    uint32_t high =
        (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_load_si256(at + 1), zero));
    return ~((uint64_t)high << 32 | low);
}

/* Columns of [p, end) whose value is not 0, of as many 64 positions as surely fit. Returns the
 * position after them. */
static uint64_t list_columns(struct column_list *list, const struct column_codes *w,
                             const int8_t *q, uint64_t p, uint64_t end)
{
    list->n = 0;
    for (; p < end && list->n <= LIST_COLUMNS - 64; p += 64) {
        for (uint64_t left = column_mask(q + p); left; left &= left - 1) {
            uint64_t here = p + (uint64_t)__builtin_ctzll(left);
            list->at[list->n] = w->codes + here * w->column_bytes;
            list->q[list->n++] = q[here];
        }
    }
    for (; list->n % 4 != 0; list->n++) {
        list->at[list->n] = list->at[list->n - 1];
        list->q[list->n] = 0;
    }
    for (uint32_t i = list->n; list->n > 0 && i < list->n + AHEAD_COLUMNS; i++) {
        list->at[i] = list->at[list->n - 1];
    }
    return p;
}

/* 16-bit sums of the 128 rows of half a line, into their places of acc (struct column_codes). */
static V_INLINE void add_half_sums(const __m256i sums[SUMS], int32_t *acc)
{
    for (int g = 0; g < 4; g++) {
        for (int i = 0; i < 4; i++) { /* lower and upper lanes of two vectors: pairs of k */
            __m256i sum = sums[2 * g + i / 2];
            __m256i wide = _mm256_cvtepi16_epi32(i % 2 == 0 ? _mm256_castsi256_si128(sum)
                                                            : _mm256_extracti128_si256(sum, 1));
            int32_t *at = acc + 16 * (4 * g + i / 2 * 2) + 4 * (i % 2);
            __m128i *first = (__m128i *)(void *)at, *second = (__m128i *)(void *)(at + 16);
            _mm_storeu_si128(first,
                             _mm_add_epi32(_mm_loadu_si128(first), _mm256_castsi256_si128(wide)));
            _mm_storeu_si128(
                second, _mm_add_epi32(_mm_loadu_si128(second), _mm256_extracti128_si256(wide, 1)));
        }
    }
}

static V_INLINE __m256i load_half(const uint8_t *p)
{
    return _mm256_load_si256((const __m256i *)(const void *)p);
}

/* Half a line of four columns. */
static V_INLINE void add_half(const uint8_t *const at[4], uint64_t half, const __m256i q[2],
                              __m256i sums[SUMS])
{
    const __m256i three = _mm256_set1_epi8(3);
    __m256i a = load_half(at[0] + half), b = load_half(at[1] + half);
    __m256i c = load_half(at[2] + half), d = load_half(at[3] + half);
    __m256i one[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    __m256i two[2] = {_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)};
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++) {
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) {
            __m256i x = _mm256_and_si256(_mm256_srli_epi16(one[k], 2 * g), three);
            __m256i y = _mm256_and_si256(_mm256_srli_epi16(two[k], 2 * g), three);
            __m256i sum =
                _mm256_add_epi16(_mm256_maddubs_epi16(x, q[0]), _mm256_maddubs_epi16(y, q[1]));
            sums[2 * g + k] = _mm256_add_epi16(sums[2 * g + k], sum);
        }
    }
}

static V_INLINE __m256i two_values(const int8_t *q)
{
    int16_t two;
    memcpy(&two, q, sizeof two);
    return _mm256_set1_epi16(two);
}

/* Bytes [begin, begin + bytes) of n columns. */
static void add_part(const uint8_t *const *at, const int8_t *q, uint32_t n, uint64_t begin,
                     uint64_t bytes, int32_t *acc)
{
    __m256i sums[PART_BYTES / HALF_LINE * SUMS];
    for (uint64_t i = 0; i < bytes / HALF_LINE * SUMS; i++) {
        sums[i] = _mm256_setzero_si256();
    }
    for (uint32_t c = 0; c < n; c += 4) {
        const __m256i values[2] = {two_values(q + c), two_values(q + c + 2)};
        for (uint64_t b = 0; b < bytes; b += COLUMN_LINE) {
            for (int i = 0; i < 4; i++) {
                __builtin_prefetch(at[c + AHEAD_COLUMNS + (uint32_t)i] + begin + b, 0, 2);
            }
            __m256i *here = sums + b / HALF_LINE * SUMS;
            add_half(at + c, begin + b, values, here);
            add_half(at + c, begin + b + HALF_LINE, values, here + SUMS);
        }
    }
    for (uint64_t b = 0; b < bytes; b += HALF_LINE) {
        /* Halves of a line take turns of eight rows. */
        add_half_sums(sums + b / HALF_LINE * SUMS,
                      acc + 4 * (b - b % COLUMN_LINE) + b % COLUMN_LINE / 4);
    }
}

void add_columns_avx2(const struct column_codes *w, const int8_t *q, uint64_t begin, uint64_t end,
                      int32_t *acc)
{
    struct column_list list;
    while (begin < end) {
        begin = list_columns(&list, w, q, begin, end);
        for (uint64_t from = 0; from < w->column_bytes; from += PART_BYTES) {
            uint64_t left = w->column_bytes - from, bytes = left < PART_BYTES ? left : PART_BYTES;
            for (uint32_t c = 0; c < list.n; c += COLUMNS_OF_16_BITS) {
                uint32_t n = list.n - c < COLUMNS_OF_16_BITS ? list.n - c : COLUMNS_OF_16_BITS;
                add_part(list.at + c, list.q + c, n, from, bytes, acc + 4 * from);
            }
        }
    }
}

#endif
