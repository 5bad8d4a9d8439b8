#include "testkit/suites/gguf_cases.h"

#include <string.h>

#include "testkit/suite.h"

enum {
    TYPE_F32 = 0,
    TYPE_F16 = 1,
    TYPE_Q4_0 = 2,
    TYPE_IQ2_XXS = 16,
    TYPE_Q4_K = 12,
    TYPE_TQ1_0 = 34,
    TYPE_TQ2_0 = 35
};
enum { TYPE_I2_S = 36, TYPE_TL1 = 38, TYPE_39 = 39, TYPE_IQ2_TN = 142 };
enum { TL2_BYTES_64x192 = 3296, MXFP4_BYTES_64x192 = 64 * 192 / 32 * 17 };

/* ---- parts ---- */

/* Head of a file with one key, the architecture. */
static void head(struct gguf_bytes *g, uint64_t n_tensors)
{
    gb_head(g, 3, n_tensors, 1);
    gb_key_str(g, "general.architecture", "bitnet-b1.58");
}

/* One F32 tensor of 8 x 4 weights at `offset`, and `bytes` of data. */
static void one_tensor(struct gguf_bytes *g, uint64_t offset, uint64_t bytes)
{
    head(g, 1);
    gb_tensor(g, "w", 8, 4, TYPE_F32, offset);
    gb_pad(g, 32);
    gb_zeros(g, bytes);
}

/* Two F32 tensors of 128 bytes each. */
static void two_tensors(struct gguf_bytes *g, uint64_t first, uint64_t second)
{
    head(g, 2);
    gb_tensor(g, "first", 8, 4, TYPE_F32, first);
    gb_tensor(g, "second", 8, 4, TYPE_F32, second);
    gb_pad(g, 32);
    gb_zeros(g, 256);
}

static void typed_tensor(struct gguf_bytes *g, uint64_t cols, uint64_t rows, uint32_t type,
                         uint64_t bytes)
{
    head(g, 1);
    gb_tensor(g, "w", cols, rows, type, 0);
    gb_pad(g, 32);
    gb_zeros(g, bytes);
}

static void nested_arrays(struct gguf_bytes *g, unsigned depth)
{
    gb_head(g, 3, 0, 1);
    gb_key_array(g, "nested", depth == 1 ? 4 : 9, 1);
    for (unsigned d = 2; d <= depth; d++) {
        gb_u32(g, d == depth ? 4 : 9);
        gb_u64(g, 1);
    }
    gb_u32(g, 77);
}

/* ---- sound files ---- */

static void put_every_value_type(struct gguf_bytes *g)
{
    gb_key(g, "u8", 0);
    gb_u8(g, 200);
    gb_key(g, "i8", 1);
    gb_u8(g, (uint8_t)-100);
    gb_key(g, "u16", 2);
    gb_u16(g, 60000);
    gb_key(g, "i16", 3);
    gb_u16(g, (uint16_t)-30000);
    gb_key_u32(g, "u32", 4000000000u);
    gb_key(g, "i32", 5);
    gb_u32(g, (uint32_t)-2000000000);
    gb_key(g, "f32", 6);
    gb_f32(g, 1.5f);
    gb_key(g, "bool", 7);
    gb_u8(g, 1);
    gb_key_str(g, "str", "text");
    gb_key(g, "u64", 10);
    gb_u64(g, 18000000000000000000u);
    gb_key(g, "i64", 11);
    gb_u64(g, (uint64_t)-9000000000000000000);
    gb_key(g, "f64", 12);
    gb_f64(g, 0.1);
}

static void put_arrays(struct gguf_bytes *g)
{
    gb_key_array(g, "strings", 8, 3);
    gb_str(g, "alpha");
    gb_str(g, "");
    gb_str(g, "gamma");
    gb_key_array(g, "ints", 5, 2);
    gb_u32(g, 7);
    gb_u32(g, (uint32_t)-7);
    gb_key_array(g, "floats", 6, 2);
    gb_f32(g, 0.25f);
    gb_f32(g, -3);
    gb_key_array(g, "bools", 7, 2);
    gb_u8(g, 0);
    gb_u8(g, 1);
    gb_key_array(g, "none", 8, 0);
    gb_key_array(g, "nested", 9, 2);
    gb_u32(g, 0);
    gb_u64(g, 3);
    gb_raw(g, "\1\2\3", 3);
    gb_u32(g, 8);
    gb_u64(g, 1);
    gb_str(g, "deep");
}

static void everything(struct gguf_bytes *g, uint32_t version)
{
    static const struct {
        const char *name;
        uint64_t cols, rows;
        uint32_t type;
        uint64_t bytes;
    } tensors[] = {
        {"f32", 8, 3, TYPE_F32, 96},     {"f16", 8, 4, TYPE_F16, 64},
        {"q4_0", 32, 2, TYPE_Q4_0, 36},  {"q4_k", 256, 1, TYPE_Q4_K, 144},
        {"i2_s", 128, 2, TYPE_I2_S, 96}, {"tl1", 64, 32, TYPE_TL1, 544},
        {"tq1", 256, 1, TYPE_TQ1_0, 54}, {"tq2", 256, 1, TYPE_TQ2_0, 66},
    };
    enum { N = sizeof tensors / sizeof tensors[0] };
    gb_head(g, version, N, 20);
    gb_key_str(g, "general.architecture", "bitnet-b1.58");
    gb_key_u32(g, "general.alignment", 32);
    put_every_value_type(g);
    put_arrays(g);
    uint64_t offset = 0;
    for (size_t i = 0; i < N; i++) {
        gb_tensor(g, tensors[i].name, tensors[i].cols, tensors[i].rows, tensors[i].type, offset);
        offset += (tensors[i].bytes + 31) / 32 * 32;
    }
    for (size_t i = 0; i < N; i++) {
        gb_pad(g, 32);
        for (uint64_t b = 0; b < tensors[i].bytes; b++) {
            gb_u8(g, (uint8_t)(b * 37 + i));
        }
    }
}

void gguf_case_everything(struct gguf_bytes *g)
{
    everything(g, 3);
}

/* Each type with a shape that it can have; TL2 with triples and pairs. */
static void every_type(struct gguf_bytes *g)
{
    static const struct {
        const char *name;
        uint64_t cols, rows;
        uint32_t type;
    } tensors[] = {
        {"f32", 8, 3, 0},     {"f16", 8, 4, 1},     {"q4_0", 32, 2, 2},  {"q4_1", 32, 2, 3},
        {"q5_0", 32, 2, 6},   {"q5_1", 32, 2, 7},   {"q8_0", 32, 2, 8},  {"q4_k", 256, 1, 12},
        {"q5_k", 256, 1, 13}, {"q6_k", 256, 1, 14}, {"bf16", 8, 1, 30},  {"tq1", 256, 1, 34},
        {"tq2", 256, 1, 35},  {"i2_s", 128, 4, 36}, {"tl1", 64, 32, 38}, {"tl2", 128, 96, 39},
    };
    enum { N = sizeof tensors / sizeof tensors[0] };
    uint64_t sizes[N], offset = 0;
    head(g, N);
    for (size_t i = 0; i < N; i++) {
        uint64_t ne[4] = {tensors[i].cols, tensors[i].rows, 1, 1};
        assert_true(tensor_size((enum tensor_type)tensors[i].type, ne, &sizes[i]));
        gb_tensor(g, tensors[i].name, ne[0], ne[1], tensors[i].type, offset);
        offset += (sizes[i] + 31) / 32 * 32;
    }
    for (size_t i = 0; i < N; i++) {
        gb_pad(g, 32);
        gb_zeros(g, sizes[i]);
    }
}

static void sound_every_type(struct gguf_bytes *g)
{
    every_type(g);
}

static void sound_every_type_big(struct gguf_bytes *g)
{
    g->big = true;
    every_type(g);
}

static void sound_v2(struct gguf_bytes *g)
{
    everything(g, 2);
}

static void sound_v3_big(struct gguf_bytes *g)
{
    g->big = true;
    everything(g, 3);
}

static void sound_v2_big(struct gguf_bytes *g)
{
    g->big = true;
    everything(g, 2);
}

static void sound_empty(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 0);
}

static void sound_vocabulary(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 2);
    gb_key_str(g, "tokenizer.ggml.model", "gpt2");
    gb_key_array(g, "tokenizer.ggml.tokens", 8, 2);
    gb_str(g, "a");
    gb_str(g, "b");
}

static void sound_alignment_64(struct gguf_bytes *g)
{
    gb_head(g, 3, 2, 1);
    gb_key_u32(g, "general.alignment", 64);
    gb_tensor(g, "first", 1, 1, TYPE_F32, 0);
    gb_tensor(g, "second", 1, 1, TYPE_F32, 64);
    gb_pad(g, 64);
    gb_zeros(g, 68);
}

/* Out of order and with a gap: offsets are what counts. */
static void sound_unordered(struct gguf_bytes *g)
{
    two_tensors(g, 128, 0);
}

static void sound_nested_4(struct gguf_bytes *g)
{
    nested_arrays(g, 4);
}

static void sound_scalar_tensor(struct gguf_bytes *g)
{
    head(g, 1);
    gb_str(g, "scalar");
    gb_u32(g, 0);
    gb_u32(g, TYPE_F32);
    gb_u64(g, 0);
    gb_pad(g, 32);
    gb_f32(g, 1);
}

static void sound_tl2_by_size(struct gguf_bytes *g)
{
    gb_head(g, 3, 1, 1);
    gb_key_str(g, "general.architecture", "llama");
    gb_tensor(g, "w", 192, 64, TYPE_39, 0);
    gb_pad(g, 32);
    gb_zeros(g, TL2_BYTES_64x192);
}

/* Trailing bytes, so the size says nothing; the family does. */
static void sound_tl2_by_architecture(struct gguf_bytes *g)
{
    typed_tensor(g, 192, 64, TYPE_39, TL2_BYTES_64x192 + 320);
}

static void sound_tl2_by_file_type(struct gguf_bytes *g)
{
    gb_head(g, 3, 1, 2);
    gb_key_str(g, "general.architecture", "llama");
    gb_key_u32(g, "general.file_type", 39);
    gb_tensor(g, "w", 192, 64, TYPE_39, 0);
    gb_pad(g, 32);
    gb_zeros(g, TL2_BYTES_64x192 + 320);
}

/* ---- header ---- */

static void empty_file(struct gguf_bytes *g)
{
    (void)g;
}

static void no_magic(struct gguf_bytes *g)
{
    gb_raw(g, "GGUX\3\0\0\0\0\0\0\0", 12);
}

static void lfs_pointer(struct gguf_bytes *g)
{
    const char *text = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    gb_raw(g, text, strlen(text));
}

static void web_page(struct gguf_bytes *g)
{
    const char *text = "<!DOCTYPE html><html><body>404</body></html>";
    gb_raw(g, text, strlen(text));
}

static void magic_only(struct gguf_bytes *g)
{
    gb_raw(g, "GGUF", 4);
}

static void ends_in_counts(struct gguf_bytes *g)
{
    gb_raw(g, "GGUF\3\0\0\0\1\0\0", 11);
}

static void ends_in_key(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_u64(g, 20);
    gb_raw(g, "general.arch", 12);
}

static void ends_in_strings(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_array(g, "tokenizer.ggml.tokens", 8, 3);
    gb_str(g, "one");
    gb_u64(g, 5);
    gb_raw(g, "tw", 2);
}

static void ends_in_tensor(struct gguf_bytes *g)
{
    head(g, 1);
    gb_str(g, "w");
    gb_u32(g, 2);
    gb_u64(g, 8);
}

/* ---- version ---- */

static void version_0(struct gguf_bytes *g)
{
    gb_head(g, 0, 0, 0);
}

static void version_1(struct gguf_bytes *g)
{
    gb_raw(g, "GGUF", 4);
    gb_u32(g, 1);
    gb_u32(g, 0);
    gb_u32(g, 0);
}

static void version_1_big(struct gguf_bytes *g)
{
    g->big = true;
    version_1(g);
}

static void version_4(struct gguf_bytes *g)
{
    gb_head(g, 4, 0, 0);
}

/* ---- alignment ---- */

static void alignment_of(struct gguf_bytes *g, uint32_t alignment)
{
    gb_head(g, 3, 0, 1);
    gb_key_u32(g, "general.alignment", alignment);
}

static void alignment_0(struct gguf_bytes *g)
{
    alignment_of(g, 0);
}

static void alignment_24(struct gguf_bytes *g)
{
    alignment_of(g, 24);
}

static void alignment_huge(struct gguf_bytes *g)
{
    alignment_of(g, 1u << 31);
}

static void alignment_text(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_str(g, "general.alignment", "32");
}

static void tensor_unaligned(struct gguf_bytes *g)
{
    one_tensor(g, 4, 160);
}

/* ---- size ---- */

static void tensor_cut(struct gguf_bytes *g)
{
    one_tensor(g, 0, 127);
}

/* Over the next tensor and past the end: that the file is cut is the news. */
static void tensor_cut_over_next(struct gguf_bytes *g)
{
    head(g, 2);
    gb_tensor(g, "large", 1000, 1000, TYPE_F32, 0);
    gb_tensor(g, "next", 8, 4, TYPE_F32, 128);
    gb_pad(g, 32);
    gb_zeros(g, 256);
}

static void tensor_beyond_end(struct gguf_bytes *g)
{
    one_tensor(g, 1 << 20, 128);
}

static void tensor_offset_wraps(struct gguf_bytes *g)
{
    one_tensor(g, UINT64_MAX - 31, 128);
}

static void no_data_at_all(struct gguf_bytes *g)
{
    head(g, 1);
    gb_tensor(g, "w", 8, 4, TYPE_F32, 0);
}

/* ---- bounds ---- */

static void too_many_tensors(struct gguf_bytes *g)
{
    gb_head(g, 3, UINT64_MAX, 0);
}

static void too_many_keys(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, GGUF_MAX_KV + 1);
}

static void key_too_long(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_u64(g, UINT64_MAX);
    gb_zeros(g, 64);
}

static void string_too_long(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key(g, "general.name", 8);
    gb_u64(g, UINT64_MAX - 7);
    gb_zeros(g, 64);
}

static void string_in_array_too_long(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_array(g, "tokens", 8, 2);
    gb_u64(g, 1ull << 63);
    gb_zeros(g, 64);
}

static void array_wraps(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_array(g, "scores", 10, 1ull << 61);
    gb_zeros(g, 64);
}

static void array_too_long(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_array(g, "scores", 0, 1ull << 40);
    gb_zeros(g, 64);
}

static void nested_5(struct gguf_bytes *g)
{
    nested_arrays(g, 5);
}

static void five_dimensions(struct gguf_bytes *g)
{
    head(g, 1);
    gb_str(g, "w");
    gb_u32(g, 5);
    gb_zeros(g, 64);
}

static void tensor_name_too_long(struct gguf_bytes *g)
{
    head(g, 1);
    gb_u64(g, GGUF_MAX_NAME_BYTES + 1);
    gb_zeros(g, 512);
}

static void tensors_overlap(struct gguf_bytes *g)
{
    two_tensors(g, 0, 96);
}

static void tensors_overlap_unordered(struct gguf_bytes *g)
{
    two_tensors(g, 64, 0);
}

static void tensors_coincide(struct gguf_bytes *g)
{
    two_tensors(g, 32, 32);
}

/* ---- unsupported types ---- */

static void value_type_13(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key(g, "odd", 13);
    gb_zeros(g, 64);
}

static void element_type_99(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_array(g, "odd", 99, 1);
    gb_zeros(g, 64);
}

static void tensor_iq2_xxs(struct gguf_bytes *g)
{
    typed_tensor(g, 256, 1, TYPE_IQ2_XXS, 66);
}

static void tensor_iq2_tn(struct gguf_bytes *g)
{
    typed_tensor(g, 512, 1, TYPE_IQ2_TN, 132);
}

static void tensor_4242(struct gguf_bytes *g)
{
    typed_tensor(g, 256, 1, 4242, 512);
}

/* 39 with the room of MXFP4, even in a family that has TL2 files. */
static void tensor_mxfp4(struct gguf_bytes *g)
{
    typed_tensor(g, 192, 64, TYPE_39, MXFP4_BYTES_64x192);
}

/* 39 with room that fits neither, in a family without TL2 files. */
static void tensor_39_undecided(struct gguf_bytes *g)
{
    gb_head(g, 3, 1, 1);
    gb_key_str(g, "general.architecture", "gpt-oss");
    gb_tensor(g, "w", 192, 64, TYPE_39, 0);
    gb_pad(g, 32);
    gb_zeros(g, MXFP4_BYTES_64x192 + 320);
}

/* ---- corrupt ---- */

static void duplicate_key(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 3);
    gb_key_u32(g, "same", 1);
    gb_key_u32(g, "other", 1);
    gb_key_u32(g, "same", 1);
}

static void duplicate_tensor(struct gguf_bytes *g)
{
    head(g, 2);
    gb_tensor(g, "same", 8, 4, TYPE_F32, 0);
    gb_tensor(g, "same", 8, 4, TYPE_F32, 128);
    gb_pad(g, 32);
    gb_zeros(g, 256);
}

static void empty_key(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_u32(g, "", 1);
}

static void key_with_nul(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_u64(g, 3);
    gb_raw(g, "a\0b", 3);
    gb_u32(g, 0);
    gb_u8(g, 1);
}

static void boolean_2(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key(g, "flag", 7);
    gb_u8(g, 2);
}

static void boolean_in_array_2(struct gguf_bytes *g)
{
    gb_head(g, 3, 0, 1);
    gb_key_array(g, "flags", 7, 3);
    gb_raw(g, "\1\0\2", 3);
}

/* ---- dimensions ---- */

static void dimension_0(struct gguf_bytes *g)
{
    typed_tensor(g, 8, 0, TYPE_F32, 128);
}

static void dimension_not_of_blocks(struct gguf_bytes *g)
{
    typed_tensor(g, 40, 1, TYPE_Q4_0, 128);
}

static void dimensions_wrap(struct gguf_bytes *g)
{
    typed_tensor(g, 1ull << 33, 1ull << 33, TYPE_F32, 128);
}

#define SOUND(name)                                                                                \
    {                                                                                              \
#name, name, GGUF_FAULT_NONE, ""                                                           \
    }

const struct gguf_case gguf_cases[] = {
    {"sound_everything", gguf_case_everything, GGUF_FAULT_NONE, ""},
    SOUND(sound_every_type),
    SOUND(sound_every_type_big),
    SOUND(sound_v2),
    SOUND(sound_v3_big),
    SOUND(sound_v2_big),
    SOUND(sound_empty),
    SOUND(sound_vocabulary),
    SOUND(sound_alignment_64),
    SOUND(sound_unordered),
    SOUND(sound_nested_4),
    SOUND(sound_scalar_tensor),
    SOUND(sound_tl2_by_size),
    SOUND(sound_tl2_by_architecture),
    SOUND(sound_tl2_by_file_type),
    {"empty_file", empty_file, GGUF_FAULT_HEADER, "empty"},
    {"no_magic", no_magic, GGUF_FAULT_HEADER, "no GGUF magic at byte 0"},
    {"lfs_pointer", lfs_pointer, GGUF_FAULT_HEADER, "Git LFS pointer"},
    {"web_page", web_page, GGUF_FAULT_HEADER, "web page"},
    {"magic_only", magic_only, GGUF_FAULT_HEADER, "ends at byte 4 inside the header"},
    {"ends_in_counts", ends_in_counts, GGUF_FAULT_HEADER, "ends at byte 11 inside the header"},
    {"ends_in_key", ends_in_key, GGUF_FAULT_HEADER,
     "ends at byte 44 inside the header (key 0 at byte 32)"},
    {"ends_in_strings", ends_in_strings, GGUF_FAULT_HEADER, "tokenizer.ggml.tokens"},
    {"ends_in_tensor", ends_in_tensor, GGUF_FAULT_HEADER, "tensor w"},
    {"version_0", version_0, GGUF_FAULT_VERSION, "version 0"},
    {"version_1", version_1, GGUF_FAULT_VERSION, "version 1 (32-bit counts"},
    {"version_1_big", version_1_big, GGUF_FAULT_VERSION, "version 1 (32-bit counts"},
    {"version_4", version_4, GGUF_FAULT_VERSION, "version 4"},
    {"alignment_0", alignment_0, GGUF_FAULT_ALIGNMENT, "general.alignment is 0"},
    {"alignment_24", alignment_24, GGUF_FAULT_ALIGNMENT, "general.alignment is 24"},
    {"alignment_huge", alignment_huge, GGUF_FAULT_ALIGNMENT, "general.alignment is 2147483648"},
    {"alignment_text", alignment_text, GGUF_FAULT_ALIGNMENT, "general.alignment"},
    {"tensor_unaligned", tensor_unaligned, GGUF_FAULT_ALIGNMENT, "tensor w: offset 4"},
    {"tensor_cut", tensor_cut, GGUF_FAULT_SIZE, "(1 bytes missing)"},
    {"tensor_cut_over_next", tensor_cut_over_next, GGUF_FAULT_SIZE, "(3999744 bytes missing)"},
    {"tensor_beyond_end", tensor_beyond_end, GGUF_FAULT_SIZE, "tensor w: starts at byte"},
    {"tensor_offset_wraps", tensor_offset_wraps, GGUF_FAULT_SIZE, "tensor w: starts at byte"},
    {"no_data_at_all", no_data_at_all, GGUF_FAULT_SIZE, "tensor w: needs 128 bytes"},
    {"too_many_tensors", too_many_tensors, GGUF_FAULT_BOUNDS,
     "tensor count 18446744073709551615 at byte 8"},
    {"too_many_keys", too_many_keys, GGUF_FAULT_BOUNDS, "key count 65537 at byte 16"},
    {"key_too_long", key_too_long, GGUF_FAULT_BOUNDS, "key 0 at byte 24"},
    {"string_too_long", string_too_long, GGUF_FAULT_BOUNDS, "value of general.name"},
    {"string_in_array_too_long", string_in_array_too_long, GGUF_FAULT_BOUNDS, "value of tokens"},
    {"array_wraps", array_wraps, GGUF_FAULT_BOUNDS, "value of scores"},
    {"array_too_long", array_too_long, GGUF_FAULT_BOUNDS, "value of scores"},
    {"nested_5", nested_5, GGUF_FAULT_BOUNDS, "nested deeper than 4"},
    {"five_dimensions", five_dimensions, GGUF_FAULT_BOUNDS, "tensor w: 5 dimensions"},
    {"tensor_name_too_long", tensor_name_too_long, GGUF_FAULT_BOUNDS,
     "256 bytes (at most 255 allowed)"},
    {"tensors_overlap", tensors_overlap, GGUF_FAULT_BOUNDS, "overlap tensor second"},
    {"tensors_overlap_unordered", tensors_overlap_unordered, GGUF_FAULT_BOUNDS,
     "overlap tensor first"},
    {"tensors_coincide", tensors_coincide, GGUF_FAULT_BOUNDS, "overlap tensor second"},
    {"value_type_13", value_type_13, GGUF_FAULT_UNSUPPORTED_TYPE, "unknown value type 13"},
    {"element_type_99", element_type_99, GGUF_FAULT_UNSUPPORTED_TYPE, "unknown value type 99"},
    {"tensor_iq2_xxs", tensor_iq2_xxs, GGUF_FAULT_UNSUPPORTED_TYPE, "type IQ2_XXS (16)"},
    {"tensor_iq2_tn", tensor_iq2_tn, GGUF_FAULT_UNSUPPORTED_TYPE, "type IQ2_TN (142)"},
    {"tensor_4242", tensor_4242, GGUF_FAULT_UNSUPPORTED_TYPE, "unknown type 4242"},
    {"tensor_mxfp4", tensor_mxfp4, GGUF_FAULT_UNSUPPORTED_TYPE, "type MXFP4 (39)"},
    {"tensor_39_undecided", tensor_39_undecided, GGUF_FAULT_UNSUPPORTED_TYPE, "type MXFP4 (39)"},
    {"duplicate_key", duplicate_key, GGUF_FAULT_CORRUPT, "key same stands twice"},
    {"duplicate_tensor", duplicate_tensor, GGUF_FAULT_CORRUPT, "tensor same stands twice"},
    {"empty_key", empty_key, GGUF_FAULT_CORRUPT, "name is empty"},
    {"key_with_nul", key_with_nul, GGUF_FAULT_CORRUPT, "NUL byte"},
    {"boolean_2", boolean_2, GGUF_FAULT_CORRUPT, "boolean has value 2"},
    {"boolean_in_array_2", boolean_in_array_2, GGUF_FAULT_CORRUPT, "boolean has value 2"},
    {"dimension_0", dimension_0, GGUF_FAULT_DIMENSIONS,
     "tensor w: F32 cannot have the shape 8 x 0"},
    {"dimension_not_of_blocks", dimension_not_of_blocks, GGUF_FAULT_DIMENSIONS,
     "(blocks of 32 weights)"},
    {"dimensions_wrap", dimensions_wrap, GGUF_FAULT_DIMENSIONS, "tensor w"},
    {0},
};
