/* Tensors' rows to float32: dequant.inc with the instructions that every machine has. */
#include "engine/dequant.inc"

void dequantize_row(enum tensor_type type, const void *row, uint64_t cols, float *dst)
{
    dequantize_here(type, row, cols, dst);
}

void dequantize_unit(enum tensor_type type, const void *unit, uint64_t cols, float *dst)
{
    if (type != TENSOR_IQ2_BN_R4) {
        dequantize_row(type, unit, cols, dst);
        return;
    }
    for (unsigned k = 0; k < 4; k++, dst += cols) {
        const float d = ternary_row_scale(type, (const uint8_t *)unit + k * sizeof d);
        const uint8_t *block = (const uint8_t *)unit + 4 * sizeof d;
        for (uint64_t i = 0; i < cols; i += 64, block += 64) {
            int8_t w[64];
            ternary_codes_of_four(block, k, w);
            scale_codes(w, 64, d, dst + i);
        }
    }
}
