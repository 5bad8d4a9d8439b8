/* TL1 and TL2: ternary weights in tiles, made for table look-up kernels. The order of bytes is in
 * docs/formats.md and here; tile sizes (bm rows by bk columns, bm_inner rows at a time) are an
 * argument, since files do not record them.
 *
 * Both are walked row by row. All weights of a row share an offset that depends on the row alone,
 * and groups of 4 (TL1, TL2 pairs) or 6 (TL2 triples) columns lie in one byte, so a row is a
 * strided walk over bytes. */
#include "engine/tl_place.h"

#include "base/fault.h"
#include "engine/ternary_impl.h"

static bool put_pair(unsigned code, int8_t *dst)
{
    static const int8_t pairs[TL_PAIR_CODES][2] = {{-1, -1}, {-1, 0}, {-1, 1}, {0, -1}, {0, 0},
                                                   {0, 1},   {1, -1}, {1, 0},  {1, 1}};
    if (code >= TL_PAIR_CODES) {
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
    if (magnitude >= TL_TRIPLE_CODES || (negative && magnitude == 0)) {
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

static bool tl1_tiles_fit(const struct ternary_source *src)
{
    const struct tl_tiles *t = &src->tiles;
    return (t->bm_inner == 32 || t->bm_inner == 64) && t->bm != 0 && t->bk != 0 &&
           t->bm % t->bm_inner == 0 && t->bk % (256 / t->bm_inner) == 0 && src->rows % t->bm == 0 &&
           src->cols % t->bk == 0;
}

bool tl_find_planes(const struct ternary_source *src, struct tl_planes *out)
{
    const struct tl_tiles *t = &src->tiles;
    *out = (struct tl_planes){
        .type = src->type, .rows = src->rows, .cols = src->cols, .tiles = *t, .codes = src->data};
    if (src->type == TENSOR_TL1) {
        return tl1_tiles_fit(src);
    }
    if (t->bm_inner != TL2_ROWS || t->bm == 0 || t->bk == 0 || t->bm % TL2_ROWS != 0 ||
        t->bk % TL2_SIGN_COLS != 0 || src->rows % t->bm != 0) {
        return false;
    }
    uint64_t cols3 = src->cols / t->bk * t->bk, cols2 = src->cols - cols3;
    uint64_t magnitude_bytes = src->rows * cols3 / 6, sign_bytes = src->rows * cols3 / 24;
    out->cols3 = cols3;
    out->signs = src->data + magnitude_bytes;
    out->pairs = out->signs + sign_bytes;
    return cols2 % TL2_PAIR_COLS == 0 &&
           magnitude_bytes + sign_bytes + src->rows * cols2 / 4 + 32 <= src->size;
}

static enum bnt_status tl1_row(const struct ternary_source *src, uint64_t row, int8_t *dst,
                               struct bnt_err *err)
{
    const uint64_t bm = src->tiles.bm, bk = src->tiles.bk, inner = src->tiles.bm_inner,
                   by = 256 / inner;
    const struct tl_row p = tl_place_row(row, bm, inner);
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

static enum bnt_status tl2_row_triples(const struct ternary_source *src,
                                       const struct tl_planes *planes, uint64_t row, int8_t *dst,
                                       struct bnt_err *err)
{
    const uint64_t bm = src->tiles.bm, bk = src->tiles.bk;
    unsigned bit;
    const uint8_t *magnitudes = planes->codes + tl2_magnitude_at(planes, row, 0);
    const uint8_t *signs = planes->signs + tl2_sign_at(planes, row, 0, &bit);
    uint64_t c = 0;
    while (c < planes->cols3) {
        for (uint64_t k = 0; k < bk; k += TL2_SIGN_COLS, c += TL2_SIGN_COLS) {
            const uint8_t *word = signs + k / TL2_SIGN_COLS * 32;
            unsigned bits = word[0] | (unsigned)word[1] << 8;
            unsigned n =
                put_8_triples(magnitudes + k / 6 * TL2_ROWS, bits, row % TL2_ROWS >= 16, dst + c);
            if (n < 8) {
                return ternary_bad_code(src, row, c + 3 * (uint64_t)n, err);
            }
        }
        magnitudes += bm * bk / 6;
        signs += bm * bk / 24;
    }
    return BNT_OK;
}

static enum bnt_status tl2_row_pairs(const struct ternary_source *src,
                                     const struct tl_planes *planes, uint64_t row, int8_t *dst,
                                     struct bnt_err *err)
{
    for (uint64_t c = 0; c < src->cols - planes->cols3; c += 4) {
        if (!put_pairs(planes->pairs[tl2_pairs_at(planes, row, c)], dst + planes->cols3 + c)) {
            return ternary_bad_code(src, row, planes->cols3 + c, err);
        }
    }
    return BNT_OK;
}

enum bnt_status ternary_decode_tl(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                                  int8_t *dst, struct bnt_err *err)
{
    struct tl_planes planes;
    enum bnt_status st = tl_find_planes(src, &planes) ? BNT_OK : bad_tiles(src, err);
    for (uint64_t r = row0; st == BNT_OK && r < row1; r++) {
        int8_t *row = dst + (r - row0) * src->cols;
        if (src->type == TENSOR_TL1) {
            st = tl1_row(src, r, row, err);
            continue;
        }
        st = tl2_row_triples(src, &planes, r, row, err);
        if (st == BNT_OK) {
            st = tl2_row_pairs(src, &planes, r, row, err);
        }
    }
    return st;
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

/* One triple at column c: its magnitude into a nibble, its sign into a bit; both planes are zero
 * before. */
static void tl2_put_triple(const struct tl_planes *p, uint64_t row, uint64_t c, const int8_t *w,
                           uint8_t *dst)
{
    int value = 9 * w[0] + 3 * w[1] + w[2];
    unsigned magnitude = (unsigned)(value < 0 ? -value : value), bit;
    dst[tl2_magnitude_at(p, row, c)] |= (uint8_t)(c / 3 % 2 ? magnitude : magnitude << 4);
    uint64_t word = (uint64_t)(p->signs - p->codes) + tl2_sign_at(p, row, c, &bit);
    dst[word + bit / 8] |= (uint8_t)((value < 0) << bit % 8);
}

static void put_row(const struct tl_planes *p, uint64_t row, const int8_t *w, uint8_t *dst)
{
    if (p->type == TENSOR_TL1) {
        for (uint64_t c = 0; c < p->cols; c += 4) {
            dst[tl1_byte_at(p, row, c)] = pairs_byte(w + c);
        }
        return;
    }
    for (uint64_t c = 0; c < p->cols3; c += 3) {
        tl2_put_triple(p, row, c, w + c, dst);
    }
    for (uint64_t c = 0; c < p->cols - p->cols3; c += 4) {
        uint64_t at = (uint64_t)(p->pairs - p->codes) + tl2_pairs_at(p, row, c);
        dst[at] = pairs_byte(w + p->cols3 + c);
    }
}

enum bnt_status ternary_encode_tl(const struct ternary_source *shape, const int8_t *w, uint8_t *dst,
                                  struct bnt_err *err)
{
    struct tl_planes planes;
    struct ternary_source to = *shape;
    to.data = dst;
    if (!tl_find_planes(&to, &planes)) {
        return bad_tiles(&to, err);
    }
    for (uint64_t r = 0; r < shape->rows; r++) {
        put_row(&planes, r, w + r * to.cols, dst);
    }
    return BNT_OK;
}
