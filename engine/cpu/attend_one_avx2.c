/* Attention of one token whose 4 heads share keys and values in F16, with 16 registers of 8 lanes.
 *
 * A product of 2 keys with 4 heads has 8 sums of 8 lanes in registers: the lower lanes of the
 * canonical 16 in one pass over the components, the upper ones in another. Values are walked in
 * blocks of positions that stay in the nearest cache while 16 components after the other are added;
 * sums wait in the output meanwhile. */
#include "engine/cpu/attend.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "base/fault.h"

#define V_INLINE inline __attribute__((always_inline))

#include "engine/cpu/sums_avx2.inc"

enum {
    LANES = 16,       /* of a canonical sum */
    HALF = LANES / 2, /* of a register */
    ROWS = ATTEND_ONE_ROWS,
    KEYS = 2,        /* that meet the heads together */
    TILE = 4,        /* positions whose scores are finished together */
    KEYS_AHEAD = 64, /* positions that keys are asked for ahead */
    BLOCK = 64,      /* positions of a block of values, and how far ahead they are asked for */
    LINE = 32        /* components of a line of the nearest cache */
};

static V_INLINE __m256 widen(const uint16_t *half)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)half));
}

/* ---- scores ---- */

/* acc[key][head], 8 lanes of every 16 components from `lane` on. */
static V_INLINE void score_half(const struct attend_args *a, const uint16_t *const keys[KEYS],
                                uint32_t lane, __m256 acc[KEYS][ROWS])
{
    for (int j = 0; j < KEYS; j++) {
        for (int h = 0; h < ROWS; h++) {
            acc[j][h] = _mm256_setzero_ps();
        }
    }
    for (uint32_t c = lane; c < a->head_dim; c += LANES) {
        const __m256 key[KEYS] = {widen(keys[0] + c), widen(keys[1] + c)};
        for (uint32_t h = 0; h < ROWS; h++) {
            const __m256 query = _mm256_loadu_ps(a->q + (size_t)h * a->head_dim + c);
            for (int j = 0; j < KEYS; j++) {
                acc[j][h] = _mm256_add_ps(acc[j][h], _mm256_mul_ps(query, key[j]));
            }
        }
    }
}

/* The sums of 8 lanes of each position, of one head in the lower half, of the next in the upper. */
static V_INLINE __m256 two_heads(const __m256 sums[TILE][ROWS], int h)
{
    const __m256 even = fold2(fold4(sums[0][h], sums[0][h + 1]), fold4(sums[1][h], sums[1][h + 1]));
    const __m256 odd = fold2(fold4(sums[2][h], sums[2][h + 1]), fold4(sums[3][h], sums[3][h + 1]));
    return fold1(even, odd);
}

static V_INLINE void score_keys(const struct attend_args *a, const uint16_t *const keys[KEYS],
                                __m256 sums[KEYS][ROWS])
{
    __m256 upper[KEYS][ROWS];
    score_half(a, keys, 0, sums);
    score_half(a, keys, HALF, upper);
    for (int j = 0; j < KEYS; j++) {
        for (int h = 0; h < ROWS; h++) {
            sums[j][h] = _mm256_add_ps(sums[j][h], upper[j][h]);
        }
    }
}

void attend_one_scores_avx2(const struct attend_args *a)
{
    const uint64_t n_kv = a->n_kv, stride = a->kv_stride;
    const __m256 scale = _mm256_set1_ps(a->scale);
    for (uint64_t p = 0; p < n_kv; p += TILE) {
        __m256 sums[TILE][ROWS];
        for (uint64_t i = 0; i < TILE; i += KEYS) {
            const uint16_t *keys[KEYS];
            for (uint64_t j = 0; j < KEYS; j++) {
                const uint64_t at = p + i + j, row = at < n_kv ? at : n_kv - 1;
                keys[j] = (const uint16_t *)a->k + row * stride;
                for (uint32_t c = 0; c < a->head_dim; c += LINE) {
                    __builtin_prefetch(keys[j] + KEYS_AHEAD * stride + c, 0, 2);
                }
            }
            score_keys(a, keys, sums + i);
        }
        float out[ROWS][TILE];
        for (int h = 0; h < ROWS; h += 2) {
            _mm256_storeu_ps(out[h], _mm256_mul_ps(two_heads(sums, h), scale));
        }
        for (uint64_t h = 0; h < ROWS; h++) {
            for (uint64_t j = 0; j < TILE && p + j < n_kv; j++) {
                a->scores[h * n_kv + p + j] = out[h][j];
            }
        }
    }
}

/* ---- values ---- */

/* A block of positions. */
struct value_block {
    uint64_t begin, end;
    uint32_t c; /* 16 components from here on */
};

/* Add them to the sums, or begin these. Every second position asks for a line of the next block:
 * all passes together for all of it, in the order of memory, where the rows of a cache follow one
 * another. */
static V_INLINE void weigh_block(const struct attend_args *a, struct value_block b,
                                 float sums[ROWS][ATTEND_MAX_DIM])
{
    const uint64_t stride = a->kv_stride, n_kv = a->n_kv;
    const uint16_t *row = (const uint16_t *)a->v + b.begin * stride + b.c;
    const uint16_t *const next = (const uint16_t *)a->v + (b.begin + BLOCK) * stride;
    __m256 acc[ROWS][2];
    for (int h = 0; h < ROWS; h++) {
        for (int i = 0; i < 2; i++) {
            acc[h][i] = b.begin > 0 ? _mm256_load_ps(&sums[h][b.c + HALF * (uint32_t)i])
                                    : _mm256_setzero_ps();
        }
    }
    for (uint64_t p = b.begin; p < b.end; p++) {
        const __m256 value[2] = {widen(row), widen(row + HALF)};
        if (p % 2 == 0) {
            const uint64_t line = b.c / LANES * (BLOCK / 2) + (p - b.begin) / 2;
            __builtin_prefetch(next + line * LINE, 0, 3);
        }
        for (uint64_t h = 0; h < ROWS; h++) {
            const __m256 score = _mm256_broadcast_ss(a->scores + h * n_kv + p);
            for (int i = 0; i < 2; i++) {
                acc[h][i] = _mm256_add_ps(acc[h][i], _mm256_mul_ps(score, value[i]));
            }
        }
        row += BNT_FAULT(attend_one_last) && p + 2 == n_kv ? 0 : stride;
    }
    for (int h = 0; h < ROWS; h++) {
        for (int i = 0; i < 2; i++) {
            _mm256_store_ps(&sums[h][b.c + HALF * (uint32_t)i], acc[h][i]);
        }
    }
}

void attend_one_values_avx2(const struct attend_args *a, const float sums[ATTEND_ONE_ROWS])
{
    _Alignas(64) float added[ROWS][ATTEND_MAX_DIM];
    const uint64_t n_kv = a->n_kv;
    for (uint64_t p = 0; p < n_kv; p += BLOCK) {
        struct value_block b = {p, n_kv - p < BLOCK ? n_kv : p + BLOCK, 0};
        for (; b.c < a->head_dim; b.c += LANES) {
            weigh_block(a, b, added);
        }
    }
    for (uint32_t h = 0; h < ROWS; h++) {
        const __m256 sum = _mm256_set1_ps(sums[h]);
        for (uint32_t c = 0; c < a->head_dim; c += HALF) {
            _mm256_storeu_ps(a->out + (size_t)h * a->head_dim + c,
                             _mm256_div_ps(_mm256_load_ps(&added[h][c]), sum));
        }
    }
}

#endif
