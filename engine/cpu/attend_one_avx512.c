/* Attention of one token whose 4 heads share keys and values in F16.
 *
 * Each value meets no more than 4 heads, so that widening it from F16 counts beside the products.
 * On Zen 4 a product takes port 0 or 1, a sum or a conversion port 2 or 3, each for half of a
 * vector, and a conversion into a whole vector takes more of them to put the halves together. So
 * values are widened by halves, and by way of memory, whose ports are free: those of a later
 * position between the products of this one. And as 16 products, 16 sums and 8 conversions would
 * leave the first two ports idle, some sums go there: a + 1*b, fused, is a + b to the last bit. */
#include "engine/cpu/attend.h"

#if defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#include "base/fault.h"

#define V_INLINE inline __attribute__((always_inline))

typedef __m512 vf;

#include "engine/cpu/sums_avx512.inc"

enum {
    LANES = 16,        /* of a vector */
    ROWS = 4,          /* query heads */
    POSITIONS = 4,     /* of a tile of scores */
    VALUE_VECS = 4,    /* vectors of components of which values are added in one pass */
    WIDE_ROWS = 8,     /* positions that values are widened ahead */
    KEYS_AHEAD = 64,   /* positions that keys are asked for ahead, */
    VALUES_AHEAD = 96, /* and values */
};

/* a * the float at b, in all lanes. The compiler would load it once for several products, into all
 * lanes of a register, which takes a port that is wanted. */
static V_INLINE vf mul_each(vf a, const float *b)
{
#ifdef CPU_EMULATED
    return _mm512_mul_ps(a, _mm512_set1_ps(*b));
#else
    vf product;
    __asm__("vmulps %2%{1to16%}, %1, %0" : "=v"(product) : "v"(a), "m"(*b));
    return product;
#endif
}

/* A one of which the compiler does not know that it is one. */
static V_INLINE vf hidden_one(void)
{
    vf one = _mm512_set1_ps(1.0f);
    CPU_OPAQUE(one);
    return one;
}

/* a + b, the product of row and column of a tile: two of 16 where products are made. */
static V_INLINE vf add_product(vf a, vf b, int row, int column, vf one)
{
    return column == 3 && row % 2 == 0 ? _mm512_fmadd_ps(b, one, a) : _mm512_add_ps(a, b);
}

static V_INLINE void widen(const uint16_t *half, float wide[LANES])
{
    const __m128i *in = (const __m128i *)(const void *)half;
    _mm256_store_ps(wide, _mm256_cvtph_ps(_mm_loadu_si128(in)));
    _mm256_store_ps(wide + 8, _mm256_cvtph_ps(_mm_loadu_si128(in + 1)));
}

/* Row p of keys or values, or the last one. */
static V_INLINE const uint16_t *row_at(const struct attend_args *a, const void *kv, uint64_t p)
{
    return (const uint16_t *)kv + (p < a->n_kv ? p : a->n_kv - 1) * a->kv_stride;
}

/* ---- scores ---- */

/* 16 components of 4 keys, of the 4 that follow, and of the query heads. The padding keeps the
 * addresses of what is read from being those of what is just written modulo 4096, since a load
 * would wait for such a store. */
struct score_step {
    float keys[2][POSITIONS][LANES], q[ROWS][LANES], padding[ROWS][LANES];
};

/* A tile of 4 keys. */
struct score_tile {
    struct score_step *steps;
    uint32_t p, which;                    /* first position; which keys of the steps are meant */
    const uint16_t *next_rows[POSITIONS]; /* keys to widen for the next tile */
    const char *ahead;                    /* keys to ask for */
};

/* Sums of products of step i, [key][head]. The first step begins them: a lane of nothing but -0
 * stays -0, where the canonical one ends at +0, which makes no difference to exp. */
static V_INLINE void score_step(const struct score_tile *t, uint32_t i, bool first, vf acc[16])
{
    struct score_step *s = t->steps + i;
    const vf one = hidden_one();
    vf key[POSITIONS];
    __builtin_prefetch(t->ahead + 128 * (size_t)i, 0, 2);
    __builtin_prefetch(t->ahead + 128 * (size_t)i + 64, 0, 2);
    for (int j = 0; j < POSITIONS; j++) {
        key[j] = _mm512_load_ps(s->keys[t->which][j]);
    }
    for (int h = 0; h < ROWS; h++) {
        vf query = _mm512_load_ps(s->q[h]);
        for (int j = 0; j < POSITIONS; j++) {
            vf product = _mm512_mul_ps(query, key[j]), *sum = &acc[4 * j + h];
            *sum = first ? product : add_product(*sum, product, h, j, one);
        }
        widen(t->next_rows[h] + i * LANES, s->keys[!t->which][h]);
    }
}

static V_INLINE void score_tile(const struct attend_args *a, const struct score_tile *t)
{
    vf acc[16];
    score_step(t, 0, true, acc);
    for (uint32_t i = 1, n = a->head_dim / LANES; i < n; i++) {
        score_step(t, i, false, acc);
    }
    float sums[16];
    sum16_avx512(acc, sums);
    const uint32_t left = a->n_kv - t->p;
    for (size_t h = 0; h < ROWS; h++) {
        float *out = a->scores + h * a->n_kv + t->p;
        __m128 scores = _mm_mul_ps(_mm_loadu_ps(sums + 4 * h), _mm_set1_ps(a->scale));
        if (left >= POSITIONS) {
            _mm_storeu_ps(out, scores);
        } else {
            _mm_mask_storeu_ps(out, (__mmask8)((1u << left) - 1), scores);
        }
    }
}

void attend_one_scores_avx512(const struct attend_args *a)
{
    _Alignas(64) struct score_step steps[ATTEND_MAX_DIM / LANES];
    struct score_tile t = {.steps = steps};
    for (uint32_t i = 0; i < a->head_dim / LANES; i++) {
        for (uint32_t j = 0; j < POSITIONS; j++) {
            widen(row_at(a, a->k, j) + i * LANES, steps[i].keys[0][j]);
            memcpy(steps[i].q[j], a->q + j * a->head_dim + i * LANES, sizeof steps[i].q[j]);
        }
    }
    for (; t.p < a->n_kv; t.p += POSITIONS, t.which = !t.which) {
        for (uint32_t j = 0; j < POSITIONS; j++) {
            t.next_rows[j] = row_at(a, a->k, t.p + POSITIONS + j);
        }
        t.ahead = (const char *)a->k + (t.p + KEYS_AHEAD) * a->kv_stride * sizeof(uint16_t);
        score_tile(a, &t);
    }
}

/* ---- values ---- */

/* Components [c, c + VALUE_VECS * LANES) of all heads. */
static V_INLINE void weigh_part(const struct attend_args *a, uint32_t c, const float *sums)
{
    _Alignas(64) float wide[WIDE_ROWS][VALUE_VECS][LANES];
    const vf one = hidden_one();
    const size_t n_kv = a->n_kv, stride = a->kv_stride;
    vf acc[ROWS][VALUE_VECS];
    for (int h = 0; h < ROWS; h++) {
        for (int v = 0; v < VALUE_VECS; v++) {
            acc[h][v] = _mm512_setzero_ps();
        }
    }
    for (size_t p = 0; p < WIDE_ROWS; p++) {
        for (int v = 0; v < VALUE_VECS; v++) {
            widen(row_at(a, a->v, p) + c + LANES * v, wide[p][v]);
        }
    }
    const uint16_t *next = row_at(a, a->v, WIDE_ROWS) + c;
    const uint16_t *const last = row_at(a, a->v, n_kv - 1 - BNT_FAULT(attend_one_last)) + c;
    for (size_t p = 0; p < n_kv; p++) {
        float(*row)[LANES] = wide[p % WIDE_ROWS];
        vf value[VALUE_VECS];
        __builtin_prefetch(next + VALUES_AHEAD * stride, 0, 2);
        __builtin_prefetch(next + VALUES_AHEAD * stride + 32, 0, 2);
        for (int v = 0; v < VALUE_VECS; v++) {
            value[v] = _mm512_load_ps(row[v]);
        }
        for (int h = 0; h < ROWS; h++) {
            const float *score = a->scores + (size_t)h * n_kv + p;
            for (int v = 0; v < VALUE_VECS; v++) {
                acc[h][v] = add_product(acc[h][v], mul_each(value[v], score), h, v, one);
            }
            widen(next + LANES * h, row[h]);
        }
        next += next < last ? stride : 0;
    }
    for (int h = 0; h < ROWS; h++) {
        for (int v = 0; v < VALUE_VECS; v++) {
            float *out = a->out + (size_t)h * a->head_dim + c + LANES * v;
            _mm512_storeu_ps(out, _mm512_div_ps(acc[h][v], _mm512_set1_ps(sums[h])));
        }
    }
}

void attend_one_values_avx512(const struct attend_args *a, const float sums[ATTEND_ONE_ROWS])
{
    for (uint32_t c = 0; c < a->head_dim; c += VALUE_VECS * LANES) {
        weigh_part(a, c, sums);
    }
}

#endif
