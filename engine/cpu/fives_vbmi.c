/* The product of one token with weights five to a byte, for AVX-512 with VNNI and VBMI.
 *
 * A byte v = 81*t4 + u, u = 27*t3 + 9*t2 + 3*t1 + t0, is multiplied as it is, and so is f = 64*t3 +
 * 16*t2 + 4*t1 + t0, whole and with its upper parts masked away. From the sums of v, f, f & 3,
 * f & 15 and f & 63 those of t0 to t4 follow by subtraction and exact division.
 *
 * f is looked up by u, which is v mod 81. A look-up of two registers takes seven bits: v below 128
 * is its own index. For 128 + i a first look-up by i gives r with r mod 128 = (128 + i) mod 81 and
 * i <= r <= 128 + i, so that the lesser of v and r is the index in either case: v below 128, and r
 * from there on. That takes one instruction, which any port executes; a mask of the upper halves
 * would need a port that the products wait for. */
#include "engine/cpu/tables.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define V_INLINE inline __attribute__((always_inline))
#define WALK_AHEAD_BYTES 2048

typedef __m512i vi;

#include "engine/cpu/walk_totals_avx512.inc"

enum { V, F, F3, F15, F63, N_SUMS };
enum { INVERSE_OF_81 = 0x781948b1 }; /* modulo 2^32 */

/* The compiler would add into a copy of the sum and move it back, in every step. */
#define ADD_PRODUCTS(sum, a, b)                                                                    \
    do {                                                                                           \
        (sum) = _mm512_dpbusd_epi32(sum, a, b);                                                    \
        CPU_OPAQUE(sum);                                                                           \
    } while (0)

#define DIGITS(u) ((u) % 3 + (u) / 3 % 3 * 4 + (u) / 9 % 3 * 16 + (u) / 27 * 64)
#define WANTED(i) ((128 + (i)) % 81)
#define FIRST(i) (WANTED(i) < (i) ? WANTED(i) + 128 : WANTED(i)),
#define SECOND(i) DIGITS((i) % 81),
#define FOUR(e, i) e(i) e((i) + 1) e((i) + 2) e((i) + 3)
#define SIXTEEN(e, i) FOUR(e, i) FOUR(e, (i) + 4) FOUR(e, (i) + 8) FOUR(e, (i) + 12)
#define SIXTY_FOUR(e, i)                                                                           \
    SIXTEEN(e, i) SIXTEEN(e, (i) + 16) SIXTEEN(e, (i) + 32) SIXTEEN(e, (i) + 48)

static const _Alignas(64) uint8_t first[128] = {SIXTY_FOUR(FIRST, 0) SIXTY_FOUR(FIRST, 64)};
static const _Alignas(64) uint8_t second[128] = {SIXTY_FOUR(SECOND, 0) SIXTY_FOUR(SECOND, 64)};

/* One group of every stretch, `apart` bytes from each other: the sums of t[k] * q. */
static V_INLINE void walk_fives(const uint8_t *codes, uint64_t apart, uint64_t group_bytes,
                                const int8_t *q, __m128i out[FIVES_ROWS])
{
    const vi first0 = _mm512_load_si512(first), first1 = _mm512_load_si512(first + 64);
    const vi second0 = _mm512_load_si512(second), second1 = _mm512_load_si512(second + 64);
    const vi m3 = _mm512_set1_epi8(3), m15 = _mm512_set1_epi8(15), m63 = _mm512_set1_epi8(63);
    vi sums[N_SUMS][WALK_STREAMS];
    for (int s = 0; s < N_SUMS; s++) {
        for (int i = 0; i < WALK_STREAMS; i++) {
            sums[s][i] = _mm512_setzero_si512();
        }
    }
    for (uint64_t p = 0; p < group_bytes; p += 64) {
        vi act = _mm512_load_si512(q + p);
#pragma GCC unroll 4
        for (int i = 0; i < WALK_STREAMS; i++) {
            const uint8_t *at = codes + (uint64_t)i * apart + p;
            __builtin_prefetch(at + WALK_AHEAD_BYTES, 0, 2);
            vi v = _mm512_loadu_si512(at);
            vi index = _mm512_min_epu8(v, _mm512_permutex2var_epi8(first0, v, first1));
            vi f = _mm512_permutex2var_epi8(second0, index, second1);
            ADD_PRODUCTS(sums[V][i], v, act);
            ADD_PRODUCTS(sums[F][i], f, act);
            ADD_PRODUCTS(sums[F3][i], _mm512_and_si512(f, m3), act);
            ADD_PRODUCTS(sums[F15][i], _mm512_and_si512(f, m15), act);
            ADD_PRODUCTS(sums[F63][i], _mm512_and_si512(f, m63), act);
        }
    }
    __m128i all = walk_totals(sums[F]), f63 = walk_totals(sums[F63]), f15 = walk_totals(sums[F15]);
    out[0] = walk_totals(sums[F3]);
    out[1] = _mm_srai_epi32(_mm_sub_epi32(f15, out[0]), 2);
    out[2] = _mm_srai_epi32(_mm_sub_epi32(f63, f15), 4);
    out[3] = _mm_srai_epi32(_mm_sub_epi32(all, f63), 6);
    const __m128i three = _mm_set1_epi32(3);
    __m128i u = out[3];
    for (int k = 2; k >= 0; k--) {
        u = _mm_add_epi32(out[k], _mm_mullo_epi32(u, three));
    }
    /* A division that leaves no rest. */
    out[4] = _mm_mullo_epi32(_mm_sub_epi32(walk_totals(sums[V]), u), _mm_set1_epi32(INVERSE_OF_81));
}

void dot_fives_vbmi(const struct five_codes *w, const struct row_walk *walk,
                    const struct act_rows *a, float *y)
{
    const __m128 scale = _mm_set1_ps(w->scale * a->scale[0]);
    const __m128i minus = _mm_set1_epi32(a->sum[0]);
    for (uint64_t g = walk->begin; g < walk->end; g++) {
        __m128i sums[FIVES_ROWS];
        float out[FIVES_ROWS][WALK_STREAMS];
        walk_fives(w->codes + g * w->group_bytes, walk->spread * w->group_bytes, w->group_bytes,
                   a->q, sums);
        for (int k = 0; k < FIVES_ROWS; k++) {
            _mm_storeu_ps(out[k],
                          _mm_mul_ps(_mm_cvtepi32_ps(_mm_sub_epi32(sums[k], minus)), scale));
        }
        for (uint64_t i = 0; i < WALK_STREAMS; i++) {
            for (uint64_t k = 0; k < FIVES_ROWS; k++) {
                y[FIVES_ROWS * (i * walk->spread + g) + k] = out[k][i];
            }
        }
    }
}

#endif
