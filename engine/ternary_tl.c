/* TL1 and TL2: ternary weights in tiles, made for table look-up kernels. The order of bytes is in
 * docs/formats.md and here; tile sizes (bm rows by bk columns, bm_inner rows at a time) are an
 * argument, since files do not record them.
 *
 * Both are walked row by row. All weights of a row share an offset that depends on the row alone,
 * and groups of 4 (TL1, TL2 pairs) or 6 (TL2 triples) columns lie in one byte, so a row is a
 * strided walk over bytes. */
#include "engine/ternary_impl.h"

#include "base/fault.h"

#define TL2_ROWS 32u      /* rows of an inner TL2 tile */
#define TL2_PAIR_COLS 32u /* columns of a tile of pairs */
#define PAIR_CODES 9u     /* 3a + b + 4 */
#define TRIPLE_CODES 14u  /* |9a + 3b + c| */

/* Where a row stands in the tiles: tile, inner tile, row within it. */
struct row_place {
    uint64_t tile, inner, row;
};

static struct row_place place_row(uint64_t row, uint64_t bm, uint64_t bm_inner)
{
    struct row_place p = {row / bm, row % bm / bm_inner, row % bm_inner};
    return p;
}

/* Within 32 rows TL2 keeps groups of 8 in the order 0, 2, 1, 3. */
static uint64_t tl2_position(uint64_t row)
{
    static const uint8_t group[4] = {0, 2, 1, 3};
    return group[row / 8] * 8u + row % 8;
}

static bool put_pair(unsigned code, int8_t *dst)
{
    static const int8_t pairs[PAIR_CODES][2] = {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 0},
                                                {0, 1},   {1, -1}, {1, 0},  {1, 1}};
    if (code >= PAIR_CODES) {
        return false;
    }
    dst[0] = pairs[code][0];
    dst[1] = pairs[code][1];
    return true;
}

/* Four weights of a byte of pairs, the first two in the high nibble. */
static bool put_pairs(uint8_t byte, int8_t *dst)
{
    return put_pair(byte >> 4, dst) && put_pair(byte & 15, dst + 2);
}

static bool put_triple(unsigned magnitude, bool negative, int8_t *dst)
{
    if (magnitude >= TRIPLE_CODES || (negative && magnitude == 0)) {
        return false;
    }
    unsigned code = negative ? 13 - magnitude : 13 + magnitude;
    dst[0] = (int8_t)((int)(code / 9) - 1);
    dst[1] = (int8_t)((int)(code / 3 % 3) - 1);
    dst[2] = (int8_t)((int)(code % 3) - 1);
    return true;
}

static enum bnt_status bad_tiles(const struct ternary_source *src, struct bnt_err *err)
{
    return gguf_fail(err, GGUF_FAULT_DIMENSIONS,
                     "%s tiles %u x %u (%u rows at a time) do not divide %llu x %llu",
                     tensor_type_info((uint32_t)src->type)->name, src->tiles.bm, src->tiles.bk,
                     src->tiles.bm_inner, (unsigned long long)src->rows,
                     (unsigned long long)src->cols);
}

/* [rows/bm][cols/bk][bm/bm_inner][bk/by][bm_inner/16][by/4][16 rows]: one byte holds 4 columns of a
 * row. */
static enum bnt_status tl1_row(const struct ternary_source *src, uint64_t row, int8_t *dst,
                               struct bnt_err *err)
{
    const uint64_t bm = src->tiles.bm, bk = src->tiles.bk, inner = src->tiles.bm_inner,
                   by = 256 / inner;
    const struct row_place p = place_row(row, bm, inner);
    const uint8_t *tile = src->data + p.tile * bm * src->cols / 4 + p.inner * inner * bk / 4 +
                          p.row / 16 * (by / 4) * 16 + p.row % 16;
    uint64_t c = 0;
    for (; c < src->cols; tile += bm * bk / 4) {
        const uint8_t *strip = tile;
        for (uint64_t kb = 0; kb < bk; kb += by, strip += inner * by / 4) {
            for (uint64_t k = 0; k < by; k += 4, c += 4) {
                if (!put_pairs(strip[(k / 4 ^ BNT_FAULT(tl1_strip)) * 16], dst + c)) {
                    return ternary_bad_code(src, row, c, err);
                }
            }
        }
    }
    return BNT_OK;
}

static bool tl1_tiles_fit(const struct ternary_source *src)
{
    const struct tl_tiles *t = &src->tiles;
    return (t->bm_inner == 32 || t->bm_inner == 64) && t->bm != 0 && t->bk != 0 &&
           t->bm % t->bm_inner == 0 && t->bk % (256 / t->bm_inner) == 0 && src->rows % t->bm == 0 &&
           src->cols % t->bk == 0;
}

/* The three planes of a TL2 tensor: magnitudes of triples, their signs, pairs. Columns [0, cols3)
 * are triples. */
struct tl2_planes {
    uint64_t cols3;
    const uint8_t *magnitudes, *signs, *pairs;
};

/* Eight triples of a row: four bytes of magnitudes, 32 apart, and one word of signs. Returns how
 * many are sound. */
static unsigned put_8_triples(const uint8_t *magnitudes, unsigned signs, bool upper_row,
                              int8_t *dst)
{
    unsigned t = 0;
    for (; t < 8; t++) {
        uint8_t byte = magnitudes[t / 2 * TL2_ROWS];
        unsigned bit = 15 - 2 * t - (upper_row && !BNT_FAULT(tl2_sign) ? 1 : 0);
        if (!put_triple(t % 2 ? byte & 15 : byte >> 4, signs >> bit & 1, dst + 3 * t)) {
            break;
        }
    }
    return t;
}

/* Triples. Magnitudes: [rows/bm][cols3/bk][bm/32][bk/6][32 positions], two triples to a byte.
 * Signs: 16-bit little-endian words [rows/bm][cols3/bk][bm/32][bk/24][16], one for rows r and r +
 * 16 and 24 columns, the first triple's bits the highest. */
static enum bnt_status tl2_row_triples(const struct ternary_source *src,
                                       const struct tl2_planes *planes, uint64_t row, int8_t *dst,
                                       struct bnt_err *err)
{
    const uint64_t bm = src->tiles.bm, bk = src->tiles.bk;
    const struct row_place p = place_row(row, bm, TL2_ROWS);
    const uint8_t *magnitudes = planes->magnitudes + p.tile * bm * planes->cols3 / 6 +
                                p.inner * TL2_ROWS * bk / 6 + tl2_position(p.row);
    const uint8_t *signs = planes->signs + p.tile * bm * planes->cols3 / 24 +
                           p.inner * TL2_ROWS * bk / 24 + 2 * (p.row % 16);
    uint64_t c = 0;
    while (c < planes->cols3) {
        for (uint64_t k = 0; k < bk; k += 24, c += 24) {
            const uint8_t *word = signs + k / 24 * 32;
            unsigned bits = word[0] | (unsigned)word[1] << 8;
            unsigned n = put_8_triples(magnitudes + k / 6 * TL2_ROWS, bits, p.row >= 16, dst + c);
            if (n < 8) {
                return ternary_bad_code(src, row, c + 3 * (uint64_t)n, err);
            }
        }
        magnitudes += bm * bk / 6;
        signs += bm * bk / 24;
    }
    return BNT_OK;
}

/* The columns past the triples: [rows/bm][cols2/32][bm/32][8][32 positions], 4 columns to a byte as
 * in TL1. */
static enum bnt_status tl2_row_pairs(const struct ternary_source *src,
                                     const struct tl2_planes *planes, uint64_t row, int8_t *dst,
                                     struct bnt_err *err)
{
    const uint64_t bm = src->tiles.bm, cols2 = src->cols - planes->cols3;
    const struct row_place p = place_row(row, bm, TL2_ROWS);
    const uint8_t *tile = planes->pairs + p.tile * bm * cols2 / 4 +
                          p.inner * TL2_ROWS * TL2_PAIR_COLS / 4 + tl2_position(p.row);
    for (uint64_t c = 0; c < cols2; c += 4) {
        const uint8_t *at =
            tile + c / TL2_PAIR_COLS * (bm * TL2_PAIR_COLS / 4) + c % TL2_PAIR_COLS / 4 * TL2_ROWS;
        if (!put_pairs(*at, dst + planes->cols3 + c)) {
            return ternary_bad_code(src, row, planes->cols3 + c, err);
        }
    }
    return BNT_OK;
}

/* The planes of src; false when the tiles do not divide its shape or the planes would not fit
 * before the scale. */
static bool tl2_find_planes(const struct ternary_source *src, struct tl2_planes *out)
{
    const struct tl_tiles *t = &src->tiles;
    if (t->bm_inner != TL2_ROWS || t->bm == 0 || t->bk == 0 || t->bm % TL2_ROWS != 0 ||
        t->bk % 24 != 0 || src->rows % t->bm != 0) {
        return false;
    }
    uint64_t cols3 = src->cols / t->bk * t->bk, cols2 = src->cols - cols3;
    uint64_t magnitude_bytes = src->rows * cols3 / 6, sign_bytes = src->rows * cols3 / 24;
    out->cols3 = cols3;
    out->magnitudes = src->data;
    out->signs = src->data + magnitude_bytes;
    out->pairs = out->signs + sign_bytes;
    return cols2 % TL2_PAIR_COLS == 0 &&
           magnitude_bytes + sign_bytes + src->rows * cols2 / 4 + 32 <= src->size;
}

static enum bnt_status decode_tl1(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                                  int8_t *dst, struct bnt_err *err)
{
    enum bnt_status st = tl1_tiles_fit(src) ? BNT_OK : bad_tiles(src, err);
    for (uint64_t r = row0; st == BNT_OK && r < row1; r++) {
        st = tl1_row(src, r, dst + (r - row0) * src->cols, err);
    }
    return st;
}

static enum bnt_status decode_tl2(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                                  int8_t *dst, struct bnt_err *err)
{
    struct tl2_planes planes = {0};
    enum bnt_status st = tl2_find_planes(src, &planes) ? BNT_OK : bad_tiles(src, err);
    for (uint64_t r = row0; st == BNT_OK && r < row1; r++) {
        int8_t *row = dst + (r - row0) * src->cols;
        st = tl2_row_triples(src, &planes, r, row, err);
        if (st == BNT_OK) {
            st = tl2_row_pairs(src, &planes, r, row, err);
        }
    }
    return st;
}

enum bnt_status ternary_decode_tl(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                                  int8_t *dst, struct bnt_err *err)
{
    return src->type == TENSOR_TL1 ? decode_tl1(src, row0, row1, dst, err)
                                   : decode_tl2(src, row0, row1, dst, err);
}

/* ---- writing ---- */

static uint8_t pair_code(const int8_t *w)
{
    return (uint8_t)(3 * w[0] + w[1] + 4);
}

static uint8_t pairs_byte(const int8_t *w)
{
    return (uint8_t)(pair_code(w) << 4 | pair_code(w + 2));
}

/* The same walk as tl1_row, with every place computed from row and column. */
static void tl1_put_row(const struct ternary_source *shape, uint64_t row, const int8_t *w,
                        uint8_t *dst)
{
    const uint64_t bm = shape->tiles.bm, bk = shape->tiles.bk, inner = shape->tiles.bm_inner,
                   by = 256 / inner;
    const struct row_place p = place_row(row, bm, inner);
    uint64_t base = p.tile * bm * shape->cols / 4 + p.inner * inner * bk / 4 +
                    p.row / 16 * (by / 4) * 16 + p.row % 16;
    for (uint64_t c = 0; c < shape->cols; c += 4) {
        uint64_t at = c / bk * (bm * bk / 4) + c % bk / by * (inner * by / 4) + c % by / 4 * 16;
        dst[base + at] = pairs_byte(w + c);
    }
}

/* One triple at column c: its magnitude into a nibble, its sign into a bit; both planes are zero
 * before. */
static void tl2_put_triple(const struct ternary_source *shape, uint64_t cols3, uint64_t row,
                           uint64_t c, const int8_t *w, uint8_t *dst)
{
    const uint64_t bm = shape->tiles.bm, bk = shape->tiles.bk;
    const struct row_place p = place_row(row, bm, TL2_ROWS);
    int value = 9 * w[0] + 3 * w[1] + w[2];
    unsigned magnitude = (unsigned)(value < 0 ? -value : value);
    uint64_t at = p.tile * bm * cols3 / 6 + c / bk * (bm * bk / 6) + p.inner * TL2_ROWS * bk / 6 +
                  c % bk / 6 * TL2_ROWS + tl2_position(p.row);
    dst[at] |= (uint8_t)(c / 3 % 2 ? magnitude : magnitude << 4);
    uint64_t word = shape->rows * cols3 / 6 + p.tile * bm * cols3 / 24 + c / bk * (bm * bk / 24) +
                    p.inner * TL2_ROWS * bk / 24 + 2 * (p.row % 16) + c % bk / 24 * 32;
    unsigned bit = 15 - 2 * (unsigned)(c % 24 / 3) - (p.row >= 16 ? 1 : 0);
    dst[word + bit / 8] |= (uint8_t)((value < 0) << bit % 8);
}

static void tl2_put_row(const struct ternary_source *shape, const struct tl2_planes *planes,
                        uint64_t row, const int8_t *w, uint8_t *dst)
{
    const uint64_t bm = shape->tiles.bm, cols3 = planes->cols3, cols2 = shape->cols - cols3;
    const struct row_place p = place_row(row, bm, TL2_ROWS);
    for (uint64_t c = 0; c < cols3; c += 3) {
        tl2_put_triple(shape, cols3, row, c, w + c, dst);
    }
    uint64_t base = (uint64_t)(planes->pairs - shape->data) + p.tile * bm * cols2 / 4 +
                    p.inner * TL2_ROWS * TL2_PAIR_COLS / 4 + tl2_position(p.row);
    for (uint64_t c = 0; c < cols2; c += 4) {
        uint64_t at =
            c / TL2_PAIR_COLS * (bm * TL2_PAIR_COLS / 4) + c % TL2_PAIR_COLS / 4 * TL2_ROWS;
        dst[base + at] = pairs_byte(w + cols3 + c);
    }
}

enum bnt_status ternary_encode_tl(const struct ternary_source *shape, const int8_t *w, uint8_t *dst,
                                  struct bnt_err *err)
{
    struct tl2_planes planes = {0};
    struct ternary_source to = *shape;
    to.data = dst;
    bool tl1 = shape->type == TENSOR_TL1;
    if (!(tl1 ? tl1_tiles_fit(&to) : tl2_find_planes(&to, &planes))) {
        return bad_tiles(&to, err);
    }
    for (uint64_t r = 0; r < shape->rows; r++) {
        if (tl1) {
            tl1_put_row(&to, r, w + r * to.cols, dst);
        } else {
            tl2_put_row(&to, &planes, r, w + r * to.cols, dst);
        }
    }
    return BNT_OK;
}
