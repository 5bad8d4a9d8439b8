/* Sources of the rows: the BitNet b1.58 papers (Ma et al. 2024; 2B4T report 2025) and
 * docs/formats.md for the bitnet rows; LLaMA (Touvron et al. 2023); Qwen2 (Yang et al. 2024);
 * Qwen3 (Yang et al. 2025).
 * Ternary weights may come with any row: the type of a tensor decides how it is multiplied. */
#include "engine/arch.h"

#include <string.h>

static const struct arch table[] = {
    {"bitnet-b1.58", ACT_RELU2, ROPE_NEOX, true, false, false, "BitNet b1.58, squared ReLU"},
    {"bitnet-25", ACT_RELU2, ROPE_NEOX, true, false, false, "BitNet b1.58, earlier conversion"},
    {"bitnet", ACT_SILU, ROPE_NEOX, true, false, false, "BitNet b1.58, SiLU"},
    {"llama", ACT_SILU, ROPE_NORM, false, false, false, "LLaMA, Falcon3-1.58, Llama3-8B-1.58"},
    {"qwen2", ACT_SILU, ROPE_NEOX, false, true, false, "Qwen2"},
    {"qwen3", ACT_SILU, ROPE_NEOX, false, false, true, "Qwen3, Bonsai"},
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
    return "bitnet-b1.58, bitnet-25, bitnet, llama, qwen2, qwen3";
}
