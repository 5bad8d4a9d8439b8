/* Sources of the rows: the BitNet b1.58 papers (Ma et al. 2024; 2B4T report 2025) and
 * docs/formats.md for the bitnet rows; LLaMA (Touvron et al. 2023); Qwen2 (Yang et al. 2024);
 * Qwen3 (Yang et al. 2025); MiniCPM (Hu et al. 2024).
 * Ternary weights may come with any row: the type of a tensor decides how it is multiplied. */
#include "engine/arch.h"

#include <string.h>

static const struct arch table[] = {
    {.name = "bitnet-b1.58",
     .family = "BitNet b1.58, squared ReLU",
     .act = ACT_RELU2,
     .rope = ROPE_NEOX,
     .sub_norms = true},
    {.name = "bitnet-25",
     .family = "BitNet b1.58, earlier conversion",
     .act = ACT_RELU2,
     .rope = ROPE_NEOX,
     .sub_norms = true},
    {.name = "bitnet",
     .family = "BitNet b1.58, SiLU",
     .act = ACT_SILU,
     .rope = ROPE_NEOX,
     .sub_norms = true},
    {.name = "llama",
     .family = "LLaMA, Falcon3-1.58, Llama3-8B-1.58",
     .act = ACT_SILU,
     .rope = ROPE_NORM},
    {.name = "qwen2", .family = "Qwen2", .act = ACT_SILU, .rope = ROPE_NEOX, .qkv_bias = true},
    {.name = "qwen3",
     .family = "Qwen3, Bonsai",
     .act = ACT_SILU,
     .rope = ROPE_NEOX,
     .head_norms = true},
    {.name = "minicpm",
     .family = "MiniCPM, BitCPM4",
     .act = ACT_SILU,
     .rope = ROPE_NORM,
     .scaled = true},
};

const struct arch *arch_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

const char *arch_names(void)
{
    return "bitnet-b1.58, bitnet-25, bitnet, llama, qwen2, qwen3, minicpm";
}
