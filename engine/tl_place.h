/* Where TL1 and TL2 keep what: the order of bytes of both formats (docs/formats.md) as the places
 * of one row and column, for writers, for the reference kernels and for those that walk tiles.
 *
 *     TL1           [rows/bm][cols/bk][bm/bm_inner][bk/by][bm_inner/16][by/4][16 rows], by =
 *                   256/bm_inner: a byte holds 4 columns of a row, the first two in the high nibble
 *     TL2, columns [0, cols3), in triples:
 *       magnitudes  [rows/bm][cols3/bk][bm/32][bk/6][32 positions]: two triples to a byte
 *       signs       16-bit little-endian words [rows/bm][cols3/bk][bm/32][bk/24][16]: of rows r and
 *                   r + 16, bits 15 - 2t and 14 - 2t of triple t
 *     TL2, the columns after them:
 *       pairs       [rows/bm][cols2/32][bm/32][8][32 positions]: 4 columns to a byte as in TL1
 *
 * A pair (a, b) is 3a + b + 4; a triple (a, b, c) is |9a + 3b + c| and a sign. */
#ifndef BNT_TL_PLACE_H
#define BNT_TL_PLACE_H

#include "engine/tensor_type.h"

#define TL2_ROWS 32u      /* rows of an inner TL2 tile */
#define TL2_PAIR_COLS 32u /* columns of a tile of pairs */
#define TL2_SIGN_COLS 24u /* columns of a word of signs */
#define TL_PAIR_CODES 9u
#define TL_TRIPLE_CODES 14u

/* A tensor whose tiles divide its shape. */
struct tl_planes {
    enum tensor_type type;
    uint64_t rows, cols;
    uint64_t cols3; /* TL2: columns in triples; TL1: 0 */
    struct tl_tiles tiles;
    const uint8_t *codes; /* TL1: all of it; TL2: magnitudes */
    const uint8_t *signs, *pairs;
};

/* False when the tiles do not divide the shape, or the planes would not fit before the scale. */
bool tl_find_planes(const struct ternary_source *src, struct tl_planes *out);

/* Where a row stands in the tiles: tile, inner tile, row within it. */
struct tl_row {
    uint64_t tile, inner, row;
};

static inline struct tl_row tl_place_row(uint64_t row, uint64_t bm, uint64_t bm_inner)
{
    return (struct tl_row){row / bm, row % bm / bm_inner, row % bm_inner};
}

/* Within 32 rows TL2 keeps groups of 8 in the order 0, 2, 1, 3. */
static inline uint64_t tl2_position(uint64_t row)
{
    static const uint8_t group[4] = {0, 2, 1, 3};
    return group[row / 8] * 8u + row % 8;
}

/* The byte of columns [c, c + 4) of TL1. */
static inline uint64_t tl1_byte_at(const struct tl_planes *p, uint64_t row, uint64_t c)
{
    const uint64_t bm = p->tiles.bm, bk = p->tiles.bk, inner = p->tiles.bm_inner, by = 256 / inner;
    const struct tl_row at = tl_place_row(row, bm, inner);
    return at.tile * bm * p->cols / 4 + c / bk * (bm * bk / 4) + at.inner * inner * bk / 4 +
           c % bk / by * (inner * by / 4) + at.row / 16 * (by / 4) * 16 + c % by / 4 * 16 +
           at.row % 16;
}

/* The byte of columns [c, c + 6) among the magnitudes. */
static inline uint64_t tl2_magnitude_at(const struct tl_planes *p, uint64_t row, uint64_t c)
{
    const uint64_t bm = p->tiles.bm, bk = p->tiles.bk;
    const struct tl_row at = tl_place_row(row, bm, TL2_ROWS);
    return at.tile * bm * p->cols3 / 6 + c / bk * (bm * bk / 6) + at.inner * TL2_ROWS * bk / 6 +
           c % bk / 6 * TL2_ROWS + tl2_position(at.row);
}

/* The first byte of the word of columns [c, c + 24) among the signs, and the triple's bit in it. */
static inline uint64_t tl2_sign_at(const struct tl_planes *p, uint64_t row, uint64_t c,
                                   unsigned *bit)
{
    const uint64_t bm = p->tiles.bm, bk = p->tiles.bk;
    const struct tl_row at = tl_place_row(row, bm, TL2_ROWS);
    *bit = 15 - 2 * (unsigned)(c % TL2_SIGN_COLS / 3) - (at.row >= 16 ? 1 : 0);
    return at.tile * bm * p->cols3 / 24 + c / bk * (bm * bk / 24) + at.inner * TL2_ROWS * bk / 24 +
           2 * (at.row % 16) + c % bk / TL2_SIGN_COLS * 32;
}

/* The byte of columns [cols3 + c, cols3 + c + 4) among the pairs. */
static inline uint64_t tl2_pairs_at(const struct tl_planes *p, uint64_t row, uint64_t c)
{
    const uint64_t bm = p->tiles.bm, cols2 = p->cols - p->cols3;
    const struct tl_row at = tl_place_row(row, bm, TL2_ROWS);
    return at.tile * bm * cols2 / 4 + at.inner * TL2_ROWS * TL2_PAIR_COLS / 4 +
           c / TL2_PAIR_COLS * (bm * TL2_PAIR_COLS / 4) + c % TL2_PAIR_COLS / 4 * TL2_ROWS +
           tl2_position(at.row);
}

#endif
