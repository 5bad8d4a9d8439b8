/* Ternary codes of a tensor, whatever its packing, and the packing that the kernels read. TL1 and
 * TL2 are in ternary_tl.c. The layouts are described in docs/formats.md. */
#include "engine/ternary_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fault.h"

#define TAIL_BYTES 32u
#define TQ_BLOCK 256u
#define BN_BLOCK 64u
/* A trained scale is a mean or maximum of weights (or its inverse): far from this, whatever the
 * unit. */
#define MAX_SCALE 1e8f

float ternary_row_scale(enum tensor_type type, const uint8_t *row)
{
    uint16_t half;
    float d;
    if (type == TENSOR_IQ1_BN) {
        memcpy(&half, row, sizeof half);
        return f16_to_f32(half);
    }
    memcpy(&d, row, sizeof d);
    return d;
}

void ternary_codes_iq2_bn(const uint8_t *restrict block, int8_t *restrict w)
{
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned j = 0; j < 16; j++) {
            int code = block[j] >> (2 * k) & 3;
            w[16 * k + j] = (int8_t)(code - 1 + BNT_FAULT(dequant_iq2_bn));
        }
    }
}

void ternary_codes_of_four(const uint8_t *restrict block, unsigned row, int8_t *restrict w)
{
    row = BNT_FAULT(dequant_row_of_four) ? row ^ 1 : row;
    for (unsigned l = 0; l < 4; l++) {
        for (unsigned k = 0; k < 4; k++) {
            for (unsigned i = 0; i < 4; i++) {
                int code = block[16 * l + 4 * row + i] >> (2 * k) & 3;
                w[16 * l + 4 * k + i] = (int8_t)(code - 1);
            }
        }
    }
}

/* Trit n of bytes that hold five as a fraction of 256 of 3^5, 0 the most significant: w[m] that of
 * byte m. No byte has one that would mean a weight of 2. */
static inline void trits_of(const uint8_t *restrict bytes, unsigned n_bytes, unsigned n,
                            int8_t *restrict w)
{
    static const uint8_t pow3[5] = {1, 3, 9, 27, 81};
    for (unsigned m = 0; m < n_bytes; m++) {
        uint8_t q = (uint8_t)(bytes[m] * pow3[n]);
        w[m] = (int8_t)((q * 3 >> 8) - 1);
    }
}

void ternary_codes_tq1(const uint8_t *restrict block, int8_t *restrict w)
{
    for (unsigned n = 0; n < 5; n++) {
        trits_of(block, 32, BNT_FAULT(dequant_tq1_order) ? 4 - n : n, w + 32 * n);
        trits_of(block + 32, 16, n, w + 160 + 16 * n);
    }
    for (unsigned n = 0; n < 4; n++) {
        trits_of(block + 48, 4, n, w + 240 + 4 * n);
    }
}

/* Of each 16 weights, five by five in three bytes, the first the least significant; of the 16ths,
 * all four in the last byte. */
void ternary_codes_iq1_bn(const uint8_t *restrict block, int8_t *restrict w)
{
    uint8_t bytes[16] = {0}; /* 13 and what makes them as many as a compiler likes */
    int8_t trits[5][16];
    memcpy(bytes, block, 13);
    for (unsigned n = 0; n < 5; n++) {
        trits_of(bytes, 16, BNT_FAULT(dequant_iq1_order) ? n : 4 - n, trits[n]);
    }
    for (unsigned g = 0; g < 4; g++) {
        for (unsigned k = 0; k < 3; k++) {
            for (unsigned n = 0; n < 5; n++) {
                w[16 * g + 5 * k + n] = trits[n][3 * g + k];
            }
        }
        w[16 * g + 15] = trits[g][12];
    }
}

void ternary_codes_tq2(const uint8_t *restrict block, int8_t *restrict w)
{
    for (unsigned h = 0; h < 2; h++) {
        for (unsigned k = 0; k < 4; k++) {
            for (unsigned m = 0; m < 32; m++) {
                int code = block[32 * h + m] >> (2 * k) & 3;
                w[128 * h + 32 * k + m] = (int8_t)(code - 1);
            }
        }
    }
}

enum bnt_status ternary_bad_code(const struct ternary_source *src, uint64_t row, uint64_t col,
                                 struct bnt_err *err)
{
    const char *name = tensor_type_info((uint32_t)src->type)->name;
    return gguf_fail(err, GGUF_FAULT_CORRUPT,
                     "%s weight at row %llu, column %llu has a code that means no weight", name,
                     (unsigned long long)row, (unsigned long long)col);
}

static enum bnt_status check_scale(float scale, struct bnt_err *err)
{
    if (fabsf(scale) <= MAX_SCALE) { /* false for a NaN */
        return BNT_OK;
    }
    return gguf_fail(err, GGUF_FAULT_SCALE, "the tensor's scale is %g", (double)scale);
}

/* Index of the first code 3 (stored as 2) among n weights, or n. */
static uint64_t find_bad(const int8_t *w, uint64_t n)
{
    int8_t most = -1;
    for (uint64_t i = 0; i < n; i++) {
        most = w[i] > most ? w[i] : most;
    }
    if (most < 2 || BNT_FAULT(ternary_bad_code)) {
        return n;
    }
    uint64_t i = 0;
    while (w[i] != 2) {
        i++;
    }
    return i;
}

/* Weights of one I2_S block of `lane` bytes, the first quarter in the high bits; code 3 becomes 2.
 */
static void unpack_block(const uint8_t *bytes, unsigned lane, int8_t *w)
{
    for (unsigned p = 0; p < lane; p++) {
        w[p] = (int8_t)((bytes[p] >> 6) - 1);
        w[lane + p] = (int8_t)((bytes[p] >> 4 & 3) - 1);
        w[2 * lane + p] = (int8_t)((bytes[p] >> 2 & 3) - 1);
        w[3 * lane + p] = (int8_t)((bytes[p] & 3) - 1);
    }
}

/* I2_S in blocks along the flat stream: weights [from, to). */
static enum bnt_status decode_i2s_blocks(const struct ternary_source *src, uint64_t from,
                                         uint64_t to, int8_t *dst, struct bnt_err *err)
{
    const unsigned lane = src->layout == I2S_ARM || BNT_FAULT(i2s_lanes) ? 16 : 32,
                   block = 4 * lane;
    int8_t w[128];
    for (uint64_t b = from / block; b * block < to; b++) {
        uint64_t base = b * block;
        uint64_t first = from > base ? from - base : 0;
        uint64_t n = (to - base < block ? to - base : block) - first;
        unpack_block(src->data + b * lane, lane, w);
        uint64_t bad = find_bad(w + first, n);
        if (bad < n) {
            uint64_t at = base + first + bad;
            return ternary_bad_code(src, at / src->cols, at % src->cols, err);
        }
        memcpy(dst, w + first, n);
        dst += n;
    }
    return BNT_OK;
}

/* I2_S, four rows in a byte, the first of them in the high bits. */
static enum bnt_status decode_i2s_rows4(const struct ternary_source *src, uint64_t row0,
                                        uint64_t row1, int8_t *dst, struct bnt_err *err)
{
    for (uint64_t r = row0; r < row1; r++, dst += src->cols) {
        const uint8_t *bytes = src->data + r / 4 * src->cols;
        const unsigned shift = 6 - 2 * (unsigned)(r % 4);
        for (uint64_t c = 0; c < src->cols; c++) {
            dst[c] = (int8_t)((bytes[c] >> shift & 3) - 1);
        }
        uint64_t bad = find_bad(dst, src->cols);
        if (bad < src->cols) {
            return ternary_bad_code(src, r, bad, err);
        }
    }
    return BNT_OK;
}

static enum bnt_status check_layout(const struct ternary_source *src, struct bnt_err *err)
{
    uint64_t weights = src->rows * src->cols;
    bool divides = src->layout == I2S_ROWS4 ? src->rows % 4 == 0
                                            : weights % (src->layout == I2S_ARM ? 64 : 128) == 0;
    return divides ? BNT_OK
                   : gguf_fail(err, GGUF_FAULT_DIMENSIONS,
                               "I2_S packing %s does not divide %llu x %llu weights",
                               i2s_layout_name(src->layout), (unsigned long long)src->rows,
                               (unsigned long long)src->cols);
}

static enum bnt_status decode_i2s(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                                  int8_t *dst, struct bnt_err *err)
{
    enum bnt_status st = check_layout(src, err);
    if (st != BNT_OK) {
        return st;
    }
    if (src->layout == I2S_ROWS4) {
        return decode_i2s_rows4(src, row0, row1, dst, err);
    }
    return decode_i2s_blocks(src, row0 * src->cols, row1 * src->cols, dst, err);
}

/* What has a scale of its own: blocks of TQ1_0 and TQ2_0, rows of the others, of which `together`
 * lie between one another in `bytes`. n_units 0: the type has one scale for all. */
struct units {
    const struct ternary_source *src;
    const struct tensor_type_info *info;
    uint64_t n_units, weights, together, bytes;
    bool rows;
};

static bool has_row_scales(enum tensor_type type)
{
    return tensor_type_info((uint32_t)type)->row_scale_bytes > 0;
}

bool ternary_holds_half(enum tensor_type type)
{
    return type == TENSOR_TQ1_0 || type == TENSOR_TQ2_0 || type == TENSOR_IQ1_BN;
}

static struct units units_of(const struct ternary_source *src)
{
    struct units u = {.src = src,
                      .info = tensor_type_info((uint32_t)src->type),
                      .bytes = tensor_unit_bytes(src->type, src->cols),
                      .rows = has_row_scales(src->type)};
    u.together = u.info->rows_together;
    u.weights = u.rows ? src->cols : TQ_BLOCK;
    u.n_units = u.bytes > 0 ? src->rows * src->cols / u.weights : 0;
    return u;
}

static float unit_scale(const struct units *u, uint64_t i)
{
    const uint8_t *at = u->src->data + i / u->together * u->bytes;
    if (u->rows) {
        return ternary_row_scale(u->info->type, at + i % u->together * sizeof(float));
    }
    uint16_t half;
    memcpy(&half, at + u->bytes - sizeof half, sizeof half);
    return f16_to_f32(half);
}

bool ternary_scales_agree(const struct ternary_source *src)
{
    const struct units u = units_of(src);
    float first = 0;
    for (uint64_t i = 0; i < u.n_units; i++) {
        const float d = unit_scale(&u, i);
        if (d != 0 && first != 0 && memcmp(&d, &first, sizeof d) != 0) {
            return false;
        }
        first = d != 0 ? d : first;
    }
    return true;
}

/* Codes of unit i in {-1, 0, 1}, or 2 for the one that means no weight. */
static void unit_codes(const struct units *u, uint64_t i, int8_t *w)
{
    const uint8_t *at =
        u->src->data + i / u->together * u->bytes + u->together * u->info->row_scale_bytes;
    for (uint64_t c = 0; c < u->weights; c += u->info->block_weights) {
        switch (u->info->type) {
        case TENSOR_TQ1_0:
            ternary_codes_tq1(at, w + c);
            break;
        case TENSOR_TQ2_0:
            ternary_codes_tq2(at, w + c);
            break;
        case TENSOR_IQ1_BN:
            ternary_codes_iq1_bn(at, w + c);
            break;
        case TENSOR_IQ2_BN:
            ternary_codes_iq2_bn(at, w + c);
            break;
        default:
            ternary_codes_of_four(at, (unsigned)(i % u->together), w + c);
            break;
        }
        at += u->together * u->info->block_bytes;
    }
}

/* A unit without a weight, whatever scale stands there. */
static bool is_empty(const int8_t *w, uint64_t n)
{
    uint64_t i = 0;
    while (i < n && w[i] == 0) {
        i++;
    }
    return i == n;
}

/* The one scale of all units that are not empty; 0 when all are. w: room for a unit. */
static enum bnt_status one_scale(const struct units *u, int8_t *w, float *scale,
                                 struct bnt_err *err)
{
    *scale = 0;
    for (uint64_t i = 0; i < u->n_units; i++) {
        float d = unit_scale(u, i);
        if (d == 0 || d == *scale) {
            continue;
        }
        unit_codes(u, i, w);
        if (is_empty(w, u->weights)) {
            continue;
        }
        enum bnt_status st = check_scale(d, err);
        if (st != BNT_OK) {
            return st;
        }
        if (*scale != 0) {
            return bnt_err_set(err, BNT_E_UNSUPPORTED,
                               "%s of the tensor have different scales (%g and %g)",
                               u->rows ? "rows" : "blocks", (double)*scale, (double)d);
        }
        *scale = d;
    }
    return BNT_OK;
}

static enum bnt_status find_scale(const struct units *u, float *scale, struct bnt_err *err)
{
    if (u->src->scale != 0) {
        *scale = u->src->scale;
        return BNT_OK;
    }
    int8_t *w = malloc((size_t)u->weights);
    enum bnt_status st =
        w ? one_scale(u, w, scale, err) : bnt_err_nomem(err, "a row of weights", u->weights);
    free(w);
    return st;
}

static enum bnt_status decode_units(const struct units *u, uint64_t row0, uint64_t row1,
                                    int8_t *dst, float *scale, struct bnt_err *err)
{
    const uint64_t n = u->weights, row_units = u->src->cols / n;
    enum bnt_status st = find_scale(u, scale, err);
    for (uint64_t i = row0 * row_units; st == BNT_OK && i < row1 * row_units; i++, dst += n) {
        unit_codes(u, i, dst);
        if (unit_scale(u, i) == 0) { /* makes zeros of whatever stands there */
            memset(dst, 0, n);
        }
        uint64_t bad = find_bad(dst, n);
        if (bad < n) {
            st = ternary_bad_code(u->src, i / row_units, i % row_units * n + bad, err);
        }
    }
    return st;
}

static enum bnt_status check_source(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                                    struct bnt_err *err)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)src->type);
    uint64_t ne[4] = {src->cols, src->rows, 1, 1}, size;
    if (!info || !info->ternary) {
        return bnt_err_set(err, BNT_E_UNSUPPORTED, "type %u has no ternary codes",
                           (unsigned)src->type);
    }
    if (!tensor_size(src->type, ne, &size)) {
        return gguf_fail(err, GGUF_FAULT_DIMENSIONS, "%s cannot have %llu x %llu weights",
                         info->name, (unsigned long long)src->rows, (unsigned long long)src->cols);
    }
    if (size != src->size || row0 > row1 || row1 > src->rows) {
        return gguf_fail(err, GGUF_FAULT_BOUNDS,
                         "%s: rows %llu to %llu of %llu, %llu bytes where %llu are needed",
                         info->name, (unsigned long long)row0, (unsigned long long)row1,
                         (unsigned long long)src->rows, (unsigned long long)src->size,
                         (unsigned long long)size);
    }
    return BNT_OK;
}

enum bnt_status ternary_decode(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                               int8_t *dst, float *scale, struct bnt_err *err)
{
    enum bnt_status st = check_source(src, row0, row1, err);
    if (st != BNT_OK) {
        return st;
    }
    const struct units u = units_of(src);
    if (u.n_units > 0) {
        return decode_units(&u, row0, row1, dst, scale, err);
    }
    float s;
    memcpy(&s, src->data + src->size - TAIL_BYTES, sizeof s);
    st = check_scale(s, err);
    if (st != BNT_OK) {
        return st;
    }
    if (src->type == TENSOR_I2_S) {
        st = decode_i2s(src, row0, row1, dst, err);
    } else {
        st = ternary_decode_tl(src, row0, row1, dst, err);
    }
    if (st == BNT_OK) {
        *scale = s;
    }
    return st;
}

uint64_t ternary_row_bytes(uint64_t cols)
{
    return (cols + 127) / 128 * 32;
}

/* Four times `lane` weights, the first quarter in the high bits. */
static inline void pack_block(const int8_t *restrict w, unsigned lane, uint8_t *restrict dst)
{
    for (unsigned p = 0; p < lane; p++) {
        dst[p] = (uint8_t)((w[p] + 1) << 6 | (w[lane + p] + 1) << 4 | (w[2 * lane + p] + 1) << 2 |
                           (w[3 * lane + p] + 1));
    }
}

void ternary_pack(const int8_t *w, uint64_t n_rows, uint64_t cols, uint8_t *dst)
{
    for (uint64_t r = 0; r < n_rows; r++, w += cols) {
        for (uint64_t c = 0; c < cols; c += 128, dst += 32) {
            int8_t block[128] = {0};
            memcpy(block, w + c, cols - c < 128 ? cols - c : 128);
            for (unsigned i = 0; BNT_FAULT(ternary_sign) && i < 128; i++) {
                block[i] = (int8_t)-block[i];
            }
            pack_block(block, 32, dst);
        }
    }
}

/* ---- writing ---- */

static void encode_i2s_blocks(const struct ternary_source *shape, const int8_t *w, uint8_t *dst)
{
    const unsigned lane = shape->layout == I2S_ARM ? 16 : 32;
    for (uint64_t at = 0; at < shape->rows * shape->cols; at += 4 * lane, dst += lane) {
        pack_block(w + at, lane, dst);
    }
}

static void encode_i2s_rows4(const struct ternary_source *shape, const int8_t *w, uint8_t *dst)
{
    const uint64_t cols = shape->cols;
    for (uint64_t r = 0; r < shape->rows; r += 4, w += 4 * cols) {
        for (uint64_t c = 0; c < cols; c++) {
            *dst++ = (uint8_t)((w[c] + 1) << 6 | (w[cols + c] + 1) << 4 |
                               (w[2 * cols + c] + 1) << 2 | (w[3 * cols + c] + 1));
        }
    }
}

/* n trits, `stride` apart, the first the most significant, as a fraction of 256 of 3^5. */
static uint8_t trits_byte(const int8_t *w, unsigned n, int stride)
{
    unsigned v = 0;
    for (unsigned i = 0; i < 5; i++) {
        v = 3 * v + (i < n ? (unsigned)(w[(int)i * stride] + 1) : 0);
    }
    return (uint8_t)((v * 256 + 242) / 243);
}

static void encode_tq1_block(const int8_t *w, uint8_t *dst)
{
    for (unsigned m = 0; m < 32; m++) {
        dst[m] = trits_byte(w + m, 5, 32);
    }
    for (unsigned m = 0; m < 16; m++) {
        dst[32 + m] = trits_byte(w + 160 + m, 5, 16);
    }
    for (unsigned m = 0; m < 4; m++) {
        dst[48 + m] = trits_byte(w + 240 + m, 4, 4);
    }
}

static void encode_tq2_block(const int8_t *w, uint8_t *dst)
{
    for (unsigned i = 0; i < 64; i++) {
        const int8_t *at = w + i / 32 * 128 + i % 32;
        dst[i] = (uint8_t)((at[0] + 1) | (at[32] + 1) << 2 | (at[64] + 1) << 4 | (at[96] + 1) << 6);
    }
}

/* As ternary_codes_iq1_bn reads it. */
static void encode_iq1_block(const int8_t *w, uint8_t *dst)
{
    for (unsigned i = 0; i < 12; i++) {
        dst[i] = trits_byte(w + i / 3 * 16 + i % 3 * 5 + 4, 5, -1);
    }
    const int8_t last[5] = {-1, w[63], w[47], w[31], w[15]};
    dst[12] = trits_byte(last, 5, 1);
}

static void encode_iq2_block(const int8_t *w, uint8_t *dst)
{
    for (unsigned i = 0; i < 16; i++) {
        dst[i] = (uint8_t)((w[i] + 1) | (w[16 + i] + 1) << 2 | (w[32 + i] + 1) << 4 |
                           (w[48 + i] + 1) << 6);
    }
}

/* The same 64 columns of four rows, as ternary_codes_of_four reads them. */
static void encode_four_rows(const int8_t *w, uint64_t cols, uint8_t *dst)
{
    for (unsigned i = 0; i < 64; i++) {
        const int8_t *at = w + i / 4 % 4 * cols + i / 16 * 16 + i % 4;
        dst[i] = (uint8_t)((at[0] + 1) | (at[4] + 1) << 2 | (at[8] + 1) << 4 | (at[12] + 1) << 6);
    }
}

/* Rows, alone or together, behind their scales. */
static void encode_bn(const struct ternary_source *shape, const int8_t *w, float scale,
                      uint8_t *dst)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)shape->type);
    const uint64_t together = info->rows_together, cols = shape->cols;
    for (uint64_t r = 0; r < shape->rows; r += together, w += together * cols) {
        for (uint64_t k = 0; k < together; k++, dst += info->row_scale_bytes) {
            if (ternary_holds_half(shape->type)) {
                f16_store(dst, scale);
            } else {
                memcpy(dst, &scale, sizeof scale);
            }
        }
        for (uint64_t c = 0; c < cols; c += BN_BLOCK, dst += together * info->block_bytes) {
            if (together > 1) {
                encode_four_rows(w + c, cols, dst);
            } else if (shape->type == TENSOR_IQ1_BN) {
                encode_iq1_block(w + c, dst);
            } else {
                encode_iq2_block(w + c, dst);
            }
        }
    }
}

void ternary_part_rows(const struct ternary_source *src, uint64_t row0, uint64_t row1, uint8_t *dst)
{
    const struct units u = units_of(src);
    for (uint64_t r = row0; r < row1; r++) {
        const uint8_t *at = src->data + r / 4 * u.bytes + 4 * sizeof(float);
        const float scale = unit_scale(&u, r);
        memcpy(dst, &scale, sizeof scale);
        dst += sizeof scale;
        for (uint64_t c = 0; c < src->cols; c += BN_BLOCK, at += BN_BLOCK, dst += BN_BLOCK / 4) {
            int8_t w[BN_BLOCK];
            ternary_codes_of_four(at, (unsigned)(r % 4), w);
            encode_iq2_block(w, dst);
        }
    }
}

/* A block without a weight gets 0 for its scale, as from ggml's quantiser. */
static void encode_tq(const struct ternary_source *shape, const int8_t *w, float scale,
                      uint8_t *dst)
{
    const uint32_t block_bytes = tensor_type_info((uint32_t)shape->type)->block_bytes;
    for (uint64_t b = 0; b < shape->rows * shape->cols / TQ_BLOCK; b++, dst += block_bytes) {
        if (shape->type == TENSOR_TQ1_0) {
            encode_tq1_block(w + b * TQ_BLOCK, dst);
        } else {
            encode_tq2_block(w + b * TQ_BLOCK, dst);
        }
        uint16_t half = is_empty(w + b * TQ_BLOCK, TQ_BLOCK) ? 0 : f32_to_f16(scale);
        memcpy(dst + block_bytes - sizeof half, &half, sizeof half);
    }
}

enum bnt_status ternary_encode(const struct ternary_source *shape, const int8_t *w, float scale,
                               uint8_t *dst, struct bnt_err *err)
{
    enum bnt_status st = check_source(shape, 0, 0, err);
    if (st != BNT_OK) {
        return st;
    }
    if (shape->type == TENSOR_TQ1_0 || shape->type == TENSOR_TQ2_0) {
        encode_tq(shape, w, scale, dst);
        return BNT_OK;
    }
    if (has_row_scales(shape->type)) {
        encode_bn(shape, w, scale, dst);
        return BNT_OK;
    }
    memset(dst, 0, shape->size);
    memcpy(dst + shape->size - TAIL_BYTES, &scale, sizeof scale);
    if (shape->type != TENSOR_I2_S) {
        return ternary_encode_tl(shape, w, dst, err);
    }
    st = check_layout(shape, err);
    if (st == BNT_OK && shape->layout == I2S_ROWS4) {
        encode_i2s_rows4(shape, w, dst);
    } else if (st == BNT_OK) {
        encode_i2s_blocks(shape, w, dst);
    }
    return st;
}
