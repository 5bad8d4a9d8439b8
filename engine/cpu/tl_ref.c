/* The reference for products by table look-up: every weight at its place, multiplied. */
#include "engine/cpu/tl.h"

#include <string.h>

#include "base/fault.h"

uint64_t tl_tables_bytes(enum tensor_type type, uint64_t cols, uint64_t cols3)
{
    return type == TENSOR_TL1 ? (cols + 7) / 8 * 128 : cols3 / 12 * 256 + (cols - cols3) / 8 * 256;
}

/* The weights of a code; zeros for one that means nothing. */
static void pair_of(unsigned code, int w[2])
{
    bool sound = code < TL_PAIR_CODES;
    w[0] = sound ? (int)code / 3 - 1 : 0;
    w[1] = sound ? (int)code % 3 - 1 : 0;
}

static void triple_of(unsigned magnitude, int w[3])
{
    int code = magnitude < TL_TRIPLE_CODES ? 13 + (int)magnitude : 13;
    w[0] = code / 9 - 1;
    w[1] = code / 3 % 3 - 1;
    w[2] = code % 3 - 1;
}

/* ---- tables ---- */

/* One entry: its low byte at `at`, its high byte `apart` behind it, both copies. */
static void put_entry(uint8_t *at, size_t apart, bool twice, int sum)
{
    for (size_t copy = 0; copy < (twice ? 32u : 16u); copy += 16) {
        at[copy] = (uint8_t)(sum & 0xff);
        at[copy + apart] = (uint8_t)(sum >> 8 & 0xff);
    }
}

/* The table of the pair at column c, the n-th of its region. */
static void put_pair_table(const int8_t *q, uint64_t cols, uint64_t c, uint64_t n, bool twice,
                           uint8_t *tables)
{
    const size_t width = twice ? 2 : 1;
    uint8_t *at = tables + width * (n / 4 * 128 + n % 2 * 64 + n / 2 % 2 * 16);
    for (unsigned code = 0; code < 16; code++) {
        int w[2];
        pair_of(code, w);
        int sum = c < cols ? w[0] * q[act_position(c)] + w[1] * q[act_position(c + 1)] : 0;
        put_entry(at + code, 32 * width, twice, sum);
    }
}

void tl_tables_ref(const struct tl_planes *w, const int8_t *q, uint8_t *tables)
{
    for (uint64_t t = 0; t < w->cols3 / 3; t++) {
        uint8_t *at = tables + t / 4 * 256 + t % 2 * 128 + t % 4 / 2 * 32;
        for (unsigned m = 0; m < 16; m++) {
            int v[3], sum = 0;
            triple_of(m, v);
            for (unsigned i = 0; i < 3; i++) {
                sum += v[i] * q[act_position(3 * t + i)];
            }
            put_entry(at + m, 64, true, sum);
        }
    }
    bool twice = w->type == TENSOR_TL2;
    uint64_t n_pairs = twice ? (w->cols - w->cols3) / 2 : (w->cols + 7) / 8 * 4;
    for (uint64_t n = 0; n < n_pairs; n++) {
        put_pair_table(q, w->cols, w->cols3 + 2 * n, n, twice, tables + w->cols3 / 12 * 256);
    }
}

/* ---- products ---- */

static int32_t pairs_dot(unsigned byte, const int8_t *q, uint64_t c)
{
    int w[4];
    pair_of(byte >> 4, w);
    pair_of(byte & 15, w + 2);
    int32_t sum = 0;
    for (unsigned i = 0; i < 4; i++) {
        sum += w[i] * q[act_position(c + i)];
    }
    return sum;
}

static int32_t triple_dot(const struct tl_planes *p, uint64_t row, uint64_t c, const int8_t *q)
{
    unsigned byte = p->codes[tl2_magnitude_at(p, row, c)], bit;
    const uint8_t *word = p->signs + tl2_sign_at(p, row, c, &bit);
    int w[3];
    triple_of(c / 3 % 2 ? byte & 15 : byte >> 4, w);
    int32_t sum = 0;
    for (unsigned i = 0; i < 3; i++) {
        sum += w[i] * q[act_position(c + i)];
    }
    return word[bit / 8] >> bit % 8 & 1 && !BNT_FAULT(tl_sign) ? -sum : sum;
}

static int32_t row_dot(const struct tl_planes *p, uint64_t row, const int8_t *q)
{
    int32_t sum = 0;
    for (uint64_t c = 0; p->type == TENSOR_TL1 && c < p->cols; c += 4) {
        sum += pairs_dot(p->codes[tl1_byte_at(p, row, c)], q, c);
    }
    for (uint64_t c = 0; p->type == TENSOR_TL2 && c < p->cols3; c += 3) {
        sum += triple_dot(p, row, c, q);
    }
    for (uint64_t c = p->cols3; p->type == TENSOR_TL2 && c < p->cols; c += 4) {
        sum += pairs_dot(p->pairs[tl2_pairs_at(p, row, c - p->cols3)], q, c);
    }
    return sum;
}

void tl_matmul_ref(const struct tl_weights *w, uint64_t row0, uint64_t row1,
                   const struct act_rows *a, size_t n_tok, float *y, size_t y_stride)
{
    for (uint64_t r = row0; r < row1; r++) {
        for (size_t t = 0; t < n_tok; t++) {
            int32_t sum = row_dot(&w->planes, r, a->q + t * a->stride);
            y[t * y_stride + r] = (float)sum * (w->scale * a->scale[t]);
        }
    }
}
