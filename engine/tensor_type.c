/* Tensor types: the table of those that are read here, the names of all others, sizes, half
 * precision, tile sizes. */
#include "engine/tensor_type.h"

#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "base/fault.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct tensor_type_info types[] = {
    {TENSOR_F32, "F32", 1, 4, false, 0, 1},
    {TENSOR_F16, "F16", 1, 2, false, 0, 1},
    {TENSOR_Q4_0, "Q4_0", 32, 18, false, 0, 1},
    {TENSOR_Q4_1, "Q4_1", 32, 20, false, 0, 1},
    {TENSOR_Q5_0, "Q5_0", 32, 22, false, 0, 1},
    {TENSOR_Q5_1, "Q5_1", 32, 24, false, 0, 1},
    {TENSOR_Q8_0, "Q8_0", 32, 34, false, 0, 1},
    {TENSOR_Q4_K, "Q4_K", 256, 144, false, 0, 1},
    {TENSOR_Q2_K, "Q2_K", 256, 84, false, 0, 1},
    {TENSOR_Q3_K, "Q3_K", 256, 110, false, 0, 1},
    {TENSOR_Q5_K, "Q5_K", 256, 176, false, 0, 1},
    {TENSOR_Q6_K, "Q6_K", 256, 210, false, 0, 1},
    {TENSOR_IQ4_NL, "IQ4_NL", 32, 18, false, 0, 1},
    {TENSOR_IQ4_XS, "IQ4_XS", 256, 136, false, 0, 1},
    {TENSOR_BF16, "BF16", 1, 2, false, 0, 1},
    {TENSOR_TQ1_0, "TQ1_0", 256, 54, true, 0, 1},
    {TENSOR_TQ2_0, "TQ2_0", 256, 66, true, 0, 1},
    {TENSOR_I2_S, "I2_S", 64, 0, true, 0, 1},
    {TENSOR_TL1, "TL1", 4, 0, true, 0, 1},
    {TENSOR_TL2, "TL2", 32, 0, true, 0, 1},
    {TENSOR_IQ1_BN, "IQ1_BN", 64, 13, true, 2, 1},
    {TENSOR_IQ2_BN, "IQ2_BN", 64, 16, true, 4, 1},
    {TENSOR_IQ2_BN_R4, "IQ2_BN_R4", 64, 16, true, 4, 4},
    {TENSOR_Q1_0, "Q1_0", 128, 18, false, 0, 1},
    {TENSOR_Q2_0, "Q2_0", 64, 18, false, 0, 1},
    {TENSOR_Q2_0_G128, "Q2_0_G128", 128, 34, false, 0, 1},
};

/* Ids that other engines use and that are not read here, so that a refusal can name them. */
static const struct {
    uint32_t id;
    const char *name;
} foreign_names[] = {
    {4, "Q4_2"},         {5, "Q4_3"},        {9, "Q8_1"},         {15, "Q8_K"},
    {16, "IQ2_XXS"},     {17, "IQ2_XS"},     {18, "IQ3_XXS"},     {19, "IQ1_S"},
    {21, "IQ3_S"},       {22, "IQ2_S"},      {24, "I8"},          {25, "I16"},
    {26, "I32"},         {27, "I64"},        {28, "F64"},         {29, "IQ1_M"},
    {31, "Q4_0_4_4"},    {32, "Q4_0_4_8"},   {33, "Q4_0_8_8"},    {37, "I8_S"},
    {40, "NVFP4"},       {97, "Q8_0_X4"},    {98, "Q8_1_X4"},     {99, "Q8_2_X4"},
    {133, "Q6_0"},       {136, "Q8_K64"},    {137, "IQ2_K"},      {138, "IQ3_K"},
    {139, "IQ4_K"},      {140, "IQ5_K"},     {141, "IQ6_K"},      {142, "IQ2_TN"},
    {143, "IQ1_TN"},     {144, "IQ4_KS"},    {145, "IQ2_KS"},     {146, "IQ4_KSS"},
    {147, "Q8_K16"},     {148, "Q8_K32"},    {149, "Q8_KR8"},     {150, "Q8_K128"},
    {151, "Q8_KV"},      {152, "IQ5_KS"},    {153, "IQ2_KT"},     {154, "IQ3_KT"},
    {155, "IQ4_KT"},     {156, "IQ3_KS"},    {157, "IQ2_KL"},     {158, "IQ1_KT"},
    {202, "Q4_0_R8"},    {206, "Q5_0_R4"},   {208, "Q8_0_R8"},    {210, "Q2_K_R4"},
    {211, "Q3_K_R4"},    {212, "Q4_K_R4"},   {213, "Q5_K_R4"},    {214, "Q6_K_R4"},
    {216, "IQ2_XXS_R4"}, {217, "IQ2_XS_R4"}, {218, "IQ3_XXS_R4"}, {219, "IQ1_S_R4"},
    {220, "IQ4_NL_R4"},  {221, "IQ3_S_R4"},  {222, "IQ2_S_R4"},   {223, "IQ4_XS_R8"},
    {229, "IQ1_M_R4"},   {230, "BF16_R16"},  {233, "Q6_0_R4"},    {337, "IQ2_K_R4"},
    {338, "IQ3_K_R4"},   {339, "IQ4_K_R4"},  {340, "IQ5_K_R4"},   {344, "IQ4_KS_R4"},
    {352, "IQ5_KS_R4"},  {353, "MXFP4_R8"},  {397, "Q8_K_R16"},   {398, "Q8_KV_R8"},
    {399, "Q8_K_R8"},
};

/* Tile sizes by shape: what the conversion scripts of microsoft/BitNet use for their models. For
 * TL1 of the Llama3-8B shapes two configurations are in use; these are the preset's. */
static const struct {
    enum tensor_type type;
    uint32_t rows, cols;
    struct tl_tiles tiles;
} known_tiles[] = {
    /* bitnet_b1_58-large */
    {TENSOR_TL1, 1536, 4096, {256, 128, 32}},
    {TENSOR_TL1, 1536, 1536, {128, 64, 64}},
    {TENSOR_TL1, 4096, 1536, {256, 128, 32}},
    {TENSOR_TL2, 1536, 4096, {256, 96, 32}},
    {TENSOR_TL2, 1536, 1536, {128, 192, 32}},
    {TENSOR_TL2, 4096, 1536, {256, 96, 32}},
    /* bitnet_b1_58-3B */
    {TENSOR_TL1, 3200, 8640, {160, 64, 32}},
    {TENSOR_TL1, 3200, 3200, {320, 128, 64}},
    {TENSOR_TL1, 8640, 3200, {320, 64, 32}},
    {TENSOR_TL2, 3200, 8640, {160, 96, 32}},
    {TENSOR_TL2, 3200, 3200, {320, 96, 32}},
    {TENSOR_TL2, 8640, 3200, {320, 96, 32}},
    /* Llama3-8B-1.58-100B-tokens */
    {TENSOR_TL1, 14336, 4096, {256, 128, 64}},
    {TENSOR_TL1, 4096, 14336, {256, 128, 32}},
    {TENSOR_TL1, 1024, 4096, {128, 64, 64}},
    {TENSOR_TL1, 4096, 4096, {128, 64, 32}},
    {TENSOR_TL2, 14336, 4096, {256, 96, 32}},
    {TENSOR_TL2, 4096, 14336, {128, 96, 32}},
    {TENSOR_TL2, 1024, 4096, {256, 96, 32}},
    {TENSOR_TL2, 4096, 4096, {128, 96, 32}},
    /* BitNet-b1.58-2B-4T: no preset exists; these give the tokens of its I2_S form. */
    {TENSOR_TL2, 2560, 6912, {160, 96, 32}},
    {TENSOR_TL2, 640, 2560, {320, 96, 32}},
    {TENSOR_TL2, 2560, 2560, {320, 96, 32}},
    {TENSOR_TL2, 6912, 2560, {256, 96, 32}},
};

/* n = product of the dimensions; false on overflow or a dimension of 0. Kept below 2^61 so that
 * callers may multiply by a few more bits. */
static bool count_weights(const uint64_t ne[4], uint64_t *n)
{
    *n = 1;
    for (int i = 0; i < 4; i++) {
        if (ne[i] == 0 || !bnt_mul_u64(*n, ne[i], n) || *n >> 61 != 0) {
            return false;
        }
    }
    return true;
}

/* The formula of bitnet.cpp, whose first term is negative below 256 columns and then rounds towards
 * zero. */
static bool tl2_size(uint64_t weights, uint64_t cols, uint64_t *bytes)
{
    if (weights >> 58 != 0 || cols % 32 != 0 || (weights / cols) % 32 != 0) {
        return false;
    }
    int64_t rows = (int64_t)(weights / cols);
    if (rows >> 50 != 0) {
        return false;
    }
    int64_t n = ((int64_t)weights - 256 * rows) / 3 * 5 / 8 + 256 * rows / 2 * 4 / 8;
    *bytes = ((uint64_t)n + 31) / 32 * 32 + 32;
    return true;
}

const struct tensor_type_info *tensor_type_info(uint32_t type)
{
    for (size_t i = 0; i < COUNT(types); i++) {
        if ((uint32_t)types[i].type == type) {
            return &types[i];
        }
    }
    return NULL;
}

const struct tensor_type_info *tensor_type_find(const char *name)
{
    for (size_t i = 0; i < COUNT(types); i++) {
        if (strcasecmp(types[i].name, name) == 0) {
            return &types[i];
        }
    }
    return NULL;
}

uint32_t tensor_file_type(enum tensor_type type)
{
    static const struct {
        enum tensor_type type;
        uint32_t id;
    } ids[] = {
        {TENSOR_F32, 0},      {TENSOR_F16, 1},       {TENSOR_Q4_0, 2},        {TENSOR_Q4_1, 3},
        {TENSOR_Q8_0, 7},     {TENSOR_Q5_0, 8},      {TENSOR_Q5_1, 9},        {TENSOR_Q2_K, 10},
        {TENSOR_Q3_K, 12},    {TENSOR_Q4_K, 14},     {TENSOR_IQ4_NL, 25},     {TENSOR_IQ4_XS, 30},
        {TENSOR_Q5_K, 16},    {TENSOR_Q6_K, 18},     {TENSOR_BF16, 32},       {TENSOR_TQ1_0, 36},
        {TENSOR_TQ2_0, 37},   {TENSOR_TL1, 38},      {TENSOR_TL2, 39},        {TENSOR_I2_S, 40},
        {TENSOR_IQ1_BN, 136}, {TENSOR_IQ2_BN, 137},  {TENSOR_IQ2_BN_R4, 337}, {TENSOR_Q1_0, 40},
        {TENSOR_Q2_0, 41},    {TENSOR_Q2_0_G128, 41}};
    for (size_t i = 0; i < COUNT(ids); i++) {
        if (ids[i].type == type) {
            return ids[i].id;
        }
    }
    return 0;
}

const char *tensor_type_name(uint32_t id)
{
    const struct tensor_type_info *info = tensor_type_info(id);
    if (info) {
        return info->name;
    }
    for (size_t i = 0; i < COUNT(foreign_names); i++) {
        if (foreign_names[i].id == id) {
            return foreign_names[i].name;
        }
    }
    return NULL;
}

bool tensor_size(enum tensor_type type, const uint64_t ne[4], uint64_t *bytes)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    uint64_t n;
    if (!info || !count_weights(ne, &n)) {
        return false;
    }
    if (type == TENSOR_TL2) {
        return tl2_size(n, ne[0], bytes);
    }
    if (type == TENSOR_I2_S || type == TENSOR_TL1) {
        /* An I2_S stream is cut in blocks regardless of rows: only the whole must divide. */
        if (n % info->block_weights != 0) {
            return false;
        }
        *bytes = n / 4 + 32;
        return true;
    }
    const uint64_t rows = n / ne[0];
    uint64_t scales;
    return ne[0] % info->block_weights == 0 && rows % info->rows_together == 0 &&
           bnt_mul_u64(n / info->block_weights, info->block_bytes, bytes) &&
           bnt_mul_u64(rows, info->row_scale_bytes, &scales) && bnt_add_u64(*bytes, scales, bytes);
}

uint64_t tensor_row_bytes(enum tensor_type type, uint64_t cols)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    return info->rows_together > 1
               ? 0
               : info->row_scale_bytes + cols / info->block_weights * info->block_bytes;
}

uint64_t tensor_unit_bytes(enum tensor_type type, uint64_t cols)
{
    const struct tensor_type_info *info = tensor_type_info((uint32_t)type);
    return info->row_scale_bytes == 0
               ? info->block_bytes
               : info->rows_together *
                     (info->row_scale_bytes + cols / info->block_weights * info->block_bytes);
}

const char *tensor_type_maker(enum tensor_type type)
{
    switch (type) {
    case TENSOR_I2_S:
    case TENSOR_TL1:
    case TENSOR_TL2:
        return "bitnet.cpp";
    case TENSOR_IQ1_BN:
    case TENSOR_IQ2_BN:
    case TENSOR_IQ2_BN_R4:
        return "ik_llama.cpp";
    default:
        return NULL;
    }
}

const char *i2s_layout_name(enum i2s_layout l)
{
    switch (l) {
    case I2S_X86:
        return "128/32";
    case I2S_ARM:
        return "64/16";
    case I2S_ROWS4:
        return "4-rows";
    }
    return "unknown";
}

enum bnt_status i2s_layout_parse(const char *text, enum i2s_layout *out, struct bnt_err *err)
{
    for (int l = I2S_X86; l <= I2S_ROWS4; l++) {
        if (strcmp(text, i2s_layout_name((enum i2s_layout)l)) == 0) {
            *out = (enum i2s_layout)l;
            return BNT_OK;
        }
    }
    bnt_err_set(err, BNT_E_USAGE, "'%s' is not an I2_S packing", text);
    bnt_err_hint(err, "write auto, 128/32, 64/16 or 4-rows");
    return BNT_E_USAGE;
}

bool tl_tiles_known(enum tensor_type type, uint64_t rows, uint64_t cols, struct tl_tiles *out)
{
    for (size_t i = 0; i < COUNT(known_tiles); i++) {
        if (known_tiles[i].type == type && known_tiles[i].rows == rows &&
            known_tiles[i].cols == cols) {
            *out = known_tiles[i].tiles;
            return true;
        }
    }
    return false;
}

static float float_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = (h >> 10) & 0x1f;
    uint32_t mantissa = h & 0x3ff;
    if (exponent == 0x1f) {
        return float_of_bits(sign | 0x7f800000u | mantissa << 13);
    }
    if (exponent == 0) {
        /* Zero or subnormal: mantissa * 2^-24 is exact in binary32. */
        float f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    return float_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return (uint16_t)(sign | 0x7e00); /* NaN: quiet, payload dropped */
    }
    if (magnitude >= 0x477ff000u) {
        return (uint16_t)(sign | 0x7c00); /* 65520 and above round to infinity */
    }
    if (magnitude < 0x38800000u) {
        /* Below 2^-14 the result is subnormal. Adding 0.5 puts the unit of the sum's last place at
         * 2^-24, the spacing of subnormal halves, so that the addition itself rounds to nearest
         * even. */
        float sum = float_of_bits(magnitude) + 0.5f;
        memcpy(&bits, &sum, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    uint32_t odd = magnitude >> 13 & 1;
    return (
        uint16_t)(sign |
                  ((magnitude - 0x38000000u + (BNT_FAULT(f16_rounding) ? 0 : 0xfff + odd)) >> 13));
}

void f16_store(uint8_t at[2], float f)
{
    uint16_t half = f32_to_f16(f);
    memcpy(at, &half, sizeof half);
}

float bf16_to_f32(uint16_t h)
{
    return float_of_bits((uint32_t)h << 16);
}
