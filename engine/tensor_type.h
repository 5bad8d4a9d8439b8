/* Tensor types of GGUF files: sizes, names, dequantisation.
 *
 * Layouts: docs/formats.md for the ternary types; ggml-org/ggml src/ggml-common.h for the others.
 * Ids are ggml's, except that 36, 38 and 39 mean I2_S, TL1 and TL2 as microsoft/BitNet numbers them
 * (upstream ggml has since given 39 to MXFP4: type, architecture, file type and byte size decide,
 * see gguf_place.c). 42 is Q2_0, whose blocks are of 64 weights in ggml and of 128 in the engine
 * for which it was made: the byte size decides, and the latter goes by a number of its own here. */
#ifndef BNT_TENSOR_TYPE_H
#define BNT_TENSOR_TYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define TENSOR_ID_MASK 0xffff /* what of a type stands in a file */

enum tensor_type {
    TENSOR_F32 = 0,
    TENSOR_F16 = 1,
    TENSOR_Q4_0 = 2,
    TENSOR_Q4_1 = 3,
    TENSOR_Q5_0 = 6,
    TENSOR_Q5_1 = 7,
    TENSOR_Q8_0 = 8,
    TENSOR_Q2_K = 10,
    TENSOR_Q3_K = 11,
    TENSOR_Q4_K = 12,
    TENSOR_Q5_K = 13,
    TENSOR_Q6_K = 14,
    TENSOR_IQ4_NL = 20,
    TENSOR_IQ4_XS = 23,
    TENSOR_BF16 = 30,
    TENSOR_TQ1_0 = 34,
    TENSOR_TQ2_0 = 35,
    TENSOR_I2_S = 36,
    TENSOR_TL1 = 38,
    TENSOR_TL2 = 39,
    TENSOR_Q1_0 = 41,    /* a sign and a scale for 128 weights */
    TENSOR_Q2_0 = 42,    /* scale * {-1, 0, 1, 2} */
    TENSOR_IQ1_BN = 134, /* this and the next two: ik_llama.cpp's */
    TENSOR_IQ2_BN = 135,
    TENSOR_IQ2_BN_R4 = 335, /* four rows of IQ2_BN between one another */
    TENSOR_Q2_0_G128 = TENSOR_Q2_0 + TENSOR_ID_MASK + 1
};

struct tensor_type_info {
    enum tensor_type type;
    const char *name;         /* "I2_S" */
    uint32_t block_weights;   /* ne0 is a multiple of this */
    uint32_t block_bytes;     /* 0: size is not per block (I2_S, TL1, TL2), see tensor_size */
    bool ternary;             /* values are scale * {-1, 0, 1} */
    uint32_t row_scale_bytes; /* of the scale that begins a row, of so many bytes; 0: none does */
    uint32_t rows_together;   /* so many rows lie between one another, behind all their scales */
};

/* NULL for one that is not known here. */
const struct tensor_type_info *tensor_type_info(uint32_t type);

/* By name in either case ("i2_s"); NULL for one that is not known here. */
const struct tensor_type_info *tensor_type_find(const char *name);
/* general.file_type of a file whose linear weights are of this type. */
uint32_t tensor_file_type(enum tensor_type type);

/* Name of an id by which ggml, bitnet.cpp or ik_llama.cpp know it, read here or not ("IQ2_XXS",
 * "I8_S", "IQ1_BN"); NULL for an id that none of them uses. 39 is "TL2" here and "MXFP4" only to
 * those who know better from the file. */
const char *tensor_type_name(uint32_t id);

/* Bytes of a tensor with these dimensions; false on overflow, a dimension of 0 or a shape that the
 * type cannot hold. */
bool tensor_size(enum tensor_type type, const uint64_t ne[4], uint64_t *bytes);

/* Bytes of a row of cols weights, which the type's block divides; 0 for I2_S, TL1, TL2 and
 * IQ2_BN_R4, whose rows do not lie on their own. */
uint64_t tensor_row_bytes(enum tensor_type type, uint64_t cols);

/* Bytes of the least piece of a tensor that stands on its own: a block, a row that begins with its
 * scale, or rows that lie together. 0 for I2_S, TL1 and TL2, which have one scale at their end. */
uint64_t tensor_unit_bytes(enum tensor_type type, uint64_t cols);

/* The engine whose number this is where it is not ggml's: "bitnet.cpp", "ik_llama.cpp", or NULL. */
const char *tensor_type_maker(enum tensor_type type);

/* F32, F16 and BF16: values that lie one by one and are multiplied as they lie. */
static inline bool tensor_is_plain(enum tensor_type type)
{
    return type == TENSOR_F32 || type == TENSOR_F16 || type == TENSOR_BF16;
}

/* Packings that share the I2_S type id (docs/formats.md). */
enum i2s_layout {
    I2S_X86,  /* 128 weights in 32 bytes: published files, and what the kernels read */
    I2S_ARM,  /* 64 weights in 16 bytes */
    I2S_ROWS4 /* 4 rows in a byte */
};
const char *i2s_layout_name(enum i2s_layout l); /* "128/32", "64/16", "4-rows" */
/* Back from the name. Errors: USAGE. */
enum bnt_status i2s_layout_parse(const char *text, enum i2s_layout *out, struct bnt_err *err);

/* Tile sizes of TL1/TL2, which the file does not record: known shapes come from a table, others are
 * an argument. */
struct tl_tiles {
    uint32_t bm, bk, bm_inner;
};
/* Tiles of a known shape (microsoft/BitNet presets; 2B4T as in docs/formats.md); false when
 * unknown. */
bool tl_tiles_known(enum tensor_type type, uint64_t rows, uint64_t cols, struct tl_tiles *out);

/* Row r of a row-major tensor (ne0 = cols) into dst[cols] as float32, bit-exact to the reference
 * dequantisers. For types whose blocks lie within a row: those with tensor_row_bytes. `row`
 * points at the row's first byte, in host byte order. */
void dequantize_row(enum tensor_type type, const void *row, uint64_t cols, float *dst);

/* The info's rows_together rows at `unit`, which may be one, into dst, a row after the other: for
 * IQ2_BN_R4 besides the types of dequantize_row. */
void dequantize_unit(enum tensor_type type, const void *unit, uint64_t cols, float *dst);

/* Ternary codes of rows [row0, row1) of a tensor: w[(r-row0)*cols + c] in {-1, 0, 1}, and the one
 * scale of the whole tensor. Types I2_S (by layout), TL1, TL2 (by tiles), and those with a scale to
 * each block or row (TQ1_0, TQ2_0, IQ1_BN, IQ2_BN, IQ2_BN_R4) when all that are not empty have one
 * (else UNSUPPORTED: dequantise them as floats). data is the whole tensor in host byte order; dst
 * has (row1-row0)*cols entries. Every call compares all scales of the latter types, unless the
 * source has the one that an earlier call gave. Errors: FILE with class CORRUPT
 * (a code that no weight has; row and column are named), SCALE, DIMENSIONS (tiles or layout do not
 * divide the shape) or BOUNDS (size is not what the shape needs, rows outside it). */
struct ternary_source {
    enum tensor_type type;
    const uint8_t *data;
    uint64_t size, rows, cols;
    enum i2s_layout layout;
    struct tl_tiles tiles;
    float scale; /* of all blocks or rows; 0: not known */
};
enum bnt_status ternary_decode(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                               int8_t *dst, float *scale, struct bnt_err *err);

/* The way back: the whole tensor from its codes w[rows*cols] in {-1, 0, 1} and its one scale, as
 * the type's own quantiser writes it. shape.data is not looked at; dst has shape.size bytes, which
 * must be what tensor_size says. TQ1_0, TQ2_0 and IQ1_BN keep the scale as a half
 * (ternary_holds_half). Errors: as ternary_decode. */
enum bnt_status ternary_encode(const struct ternary_source *shape, const int8_t *w, float scale,
                               uint8_t *dst, struct bnt_err *err);

bool ternary_holds_half(enum tensor_type type);

/* True when all scales of blocks or rows that are not 0 are one, bit by bit, or the type has one
 * scale for all. */
bool ternary_scales_agree(const struct ternary_source *src);

/* Rows [row0, row1) of IQ2_BN_R4 as rows of IQ2_BN, whatever their scales. */
void ternary_part_rows(const struct ternary_source *src, uint64_t row0, uint64_t row1,
                       uint8_t *dst);

/* Pack ternary rows into the kernels' form, I2_S 128/32 with every row padded with zero weights to
 * a multiple of 128: w[n_rows*cols] in {-1,0,1} -> dst[n_rows * ternary_row_bytes(cols)]. */
uint64_t ternary_row_bytes(uint64_t cols); /* ceil(cols/128)*32 */
void ternary_pack(const int8_t *w, uint64_t n_rows, uint64_t cols, uint8_t *dst);

/* IEEE binary16 and bfloat16 to binary32, exact; binary32 to binary16, round to nearest even. */
float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f);
void f16_store(uint8_t at[2], float f); /* at any alignment */
float bf16_to_f32(uint16_t h);

#endif
