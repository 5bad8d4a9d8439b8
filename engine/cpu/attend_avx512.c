/* Attention of many query rows at once.
 *
 * Keys are turned once for all rows: a vector holds one component of 16 positions and meets that of
 * a query, broadcast. So every lane of the canonical sum (kernels.h) is a vector of its own, and
 * adding lanes needs no shuffles, which otherwise take as long as the products. Values are widened
 * once for all rows, a few positions at a time; sums wait in the output meanwhile. */
#include "engine/cpu/attend.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define V_INLINE inline __attribute__((always_inline))

#include "engine/cpu/transpose_avx512.inc"

typedef __m512 vf;

enum {
    POSITIONS = 16, /* of turned keys */
    LANES = 16,     /* of a vector */
    ROWS = 4,       /* query rows of a tile */
    VALUE_RUN = 32, /* positions whose values are widened together */
    VALUE_VECS = 4, /* vectors of components of a tile */
};

/* 16 components from c on of position p of keys or values. */
static V_INLINE vf load_kv(const struct attend_args *a, const void *kv, uint32_t p, uint32_t c)
{
    uint64_t at = p * a->kv_stride + c;
    if (a->kv_f16) {
        return _mm512_cvtph_ps(
            _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)kv + at)));
    }
    return _mm512_loadu_ps((const float *)kv + at);
}

/* ---- scores ---- */

/* turned[c][i] = component c of position p + i, or of the last one, n_kv - 1. */
static void turn_keys(const struct attend_args *a, uint32_t p, uint32_t n_kv, float *turned)
{
    for (uint32_t c = 0; c < a->head_dim; c += LANES) {
        __m512i in[LANES], out[LANES];
        for (uint32_t i = 0; i < POSITIONS; i++) {
            uint32_t at = p + i < n_kv ? p + i : n_kv - 1;
            in[i] = _mm512_castps_si512(load_kv(a, a->k, at, c));
        }
        transpose_avx512(in, out);
        for (uint32_t i = 0; i < LANES; i++) {
            _mm512_store_si512(turned + (size_t)(c + i) * POSITIONS, out[i]);
        }
    }
}

/* sums[r] = lanes j and j + 8 of n_row rows, added. */
static V_INLINE void lane_pair(const float *turned, const float *const q[ROWS], int n_row,
                               uint32_t dim, uint32_t j, vf sums[ROWS])
{
    vf low[ROWS], high[ROWS];
    for (int r = 0; r < n_row; r++) {
        low[r] = high[r] = _mm512_setzero_ps();
    }
    for (uint32_t c = j; c < dim; c += LANES) {
        vf key = _mm512_load_ps(turned + (size_t)c * POSITIONS);
        vf key8 = _mm512_load_ps(turned + (size_t)(c + 8) * POSITIONS);
        for (int r = 0; r < n_row; r++) {
            low[r] = _mm512_add_ps(low[r], _mm512_mul_ps(_mm512_set1_ps(q[r][c]), key));
            high[r] = _mm512_add_ps(high[r], _mm512_mul_ps(_mm512_set1_ps(q[r][c + 8]), key8));
        }
    }
    for (int r = 0; r < n_row; r++) {
        sums[r] = _mm512_add_ps(low[r], high[r]);
    }
}

/* Lanes j, j + 8, j + 4, j + 12, j + 2, ... of the canonical order: all even ones, or all odd. */
static V_INLINE void lane_half(const float *turned, const float *const q[ROWS], int n_row,
                               uint32_t dim, uint32_t j, vf sums[ROWS])
{
    vf quarter[ROWS], other[ROWS], next[ROWS];
    lane_pair(turned, q, n_row, dim, j, quarter);
    lane_pair(turned, q, n_row, dim, j + 4, other);
    lane_pair(turned, q, n_row, dim, j + 2, next);
    for (int r = 0; r < n_row; r++) {
        sums[r] = _mm512_add_ps(quarter[r], other[r]);
    }
    lane_pair(turned, q, n_row, dim, j + 6, other);
    for (int r = 0; r < n_row; r++) {
        sums[r] = _mm512_add_ps(sums[r], _mm512_add_ps(next[r], other[r]));
    }
}

/* n_row query rows from `first` on against 16 positions from p on. */
static V_INLINE void score_rows(const struct attend_args *a, const float *turned, int n_row,
                                uint32_t first, uint32_t p, uint32_t n_kv)
{
    const float *q[ROWS];
    for (int r = 0; r < n_row; r++) {
        uint32_t row = first + (uint32_t)r;
        q[r] = a->q + row / a->n_head_group * a->tok_stride +
               (size_t)(row % a->n_head_group) * a->head_dim;
    }
    vf even[ROWS], odd[ROWS];
    lane_half(turned, q, n_row, a->head_dim, 0, even);
    lane_half(turned, q, n_row, a->head_dim, 1, odd);
    uint32_t n = n_kv - p;
    __mmask16 present = n < POSITIONS ? (__mmask16)((1u << n) - 1) : 0xffff;
    for (int r = 0; r < n_row; r++) {
        vf score = _mm512_mul_ps(_mm512_add_ps(even[r], odd[r]), _mm512_set1_ps(a->scale));
        float *out = a->scores + (size_t)(first + (uint32_t)r) * n_kv + p;
        _mm512_mask_storeu_ps(out, present, score);
    }
}

void attend_scores_avx512(const struct attend_args *a)
{
    _Alignas(64) float turned[ATTEND_MAX_DIM * POSITIONS];
    uint32_t n_row = a->n_tok * a->n_head_group, n_kv = attend_most_seen(a);
    for (uint32_t p = 0; p < n_kv; p += POSITIONS) {
        turn_keys(a, p, n_kv, turned);
        uint32_t first = 0;
        for (; first + ROWS <= n_row; first += ROWS) {
            score_rows(a, turned, ROWS, first, p, n_kv);
        }
        for (; first < n_row; first++) {
            score_rows(a, turned, 1, first, p, n_kv);
        }
    }
}

/* ---- values ---- */

/* Values of positions [begin, end), components [c, c + 16 * n_vec), widened: VALUE_VECS vectors a
 * position. */
struct value_run {
    const float *wide;
    uint32_t begin, end, c;
};

/* n_row rows from `first` on. Rows of later tokens see more; what all see comes first, without a
 * question. */
static V_INLINE void weigh_run(const struct attend_args *a, const struct value_run *run, int n_row,
                               int n_vec, uint32_t first, const float *sums)
{
    uint32_t n_kv = attend_most_seen(a), seen[ROWS];
    const float *scores = a->scores + (size_t)first * n_kv;
    float *out[ROWS];
    vf acc[ROWS][VALUE_VECS];
    for (int r = 0; r < n_row; r++) {
        uint32_t row = first + (uint32_t)r, tok = row / a->n_head_group;
        out[r] =
            a->out + tok * a->tok_stride + (size_t)(row % a->n_head_group) * a->head_dim + run->c;
        seen[r] = a->n_kv + tok * a->n_kv_step;
        for (int v = 0; v < n_vec; v++) {
            acc[r][v] = run->begin == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out[r] + LANES * v);
        }
    }
    uint32_t p = run->begin, all = seen[0] < run->end ? seen[0] : run->end;
    const float *wide = run->wide;
    for (int each = 0; each < 2; each++) {
        for (uint32_t end = each ? run->end : all; p < end; p++, wide += LANES * VALUE_VECS) {
            for (int r = 0; r < n_row; r++) {
                if (each && p >= seen[r]) {
                    continue;
                }
                vf weight = _mm512_set1_ps(scores[(size_t)r * n_kv + p]);
                for (int v = 0; v < n_vec; v++) {
                    vf value = _mm512_load_ps(wide + LANES * v);
                    acc[r][v] = _mm512_add_ps(acc[r][v], _mm512_mul_ps(weight, value));
                }
            }
        }
    }
    for (int r = 0; r < n_row; r++) {
        vf sum = _mm512_set1_ps(sums[first + (uint32_t)r]);
        for (int v = 0; v < n_vec; v++) {
            vf result = run->end == n_kv ? _mm512_div_ps(acc[r][v], sum) : acc[r][v];
            _mm512_storeu_ps(out[r] + LANES * v, result);
        }
    }
}

/* All rows; n_vec vectors of components from c on. */
static V_INLINE void weigh_values(const struct attend_args *a, int n_vec, uint32_t c,
                                  const float *sums)
{
    _Alignas(64) float wide[VALUE_RUN * VALUE_VECS * LANES];
    uint32_t n_row = a->n_tok * a->n_head_group, n_kv = attend_most_seen(a);
    for (uint32_t p = 0; p < n_kv; p += VALUE_RUN) {
        struct value_run run = {wide, p, n_kv - p < VALUE_RUN ? n_kv : p + VALUE_RUN, c};
        for (uint32_t i = 0; i < run.end - p; i++) {
            for (int v = 0; v < n_vec; v++) {
                _mm512_store_ps(wide + LANES * (VALUE_VECS * (size_t)i + (size_t)v),
                                load_kv(a, a->v, p + i, c + (uint32_t)(LANES * v)));
            }
        }
        uint32_t first = 0;
        for (; first + ROWS <= n_row; first += ROWS) {
            weigh_run(a, &run, ROWS, n_vec, first, sums);
        }
        for (; first < n_row; first++) {
            weigh_run(a, &run, 1, n_vec, first, sums);
        }
    }
}

void attend_values_avx512(const struct attend_args *a, const float sums[ATTEND_MAX_ROWS])
{
    uint32_t c = 0, whole = LANES * VALUE_VECS;
    for (; c + whole <= a->head_dim; c += whole) {
        weigh_values(a, VALUE_VECS, c, sums);
    }
    for (; c < a->head_dim; c += LANES) {
        weigh_values(a, 1, c, sums);
    }
}

#endif
