/* The tables that this build has, for choose.c, self_test.c and tests. A table of another
 * architecture is not compiled. */
#ifndef BNT_CPU_TABLES_H
#define BNT_CPU_TABLES_H

#include "engine/cpu/kernels.h"

extern const struct cpu_kernels cpu_kernels_ref;
#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avx2;
extern const struct cpu_kernels cpu_kernels_avx512;
/* Of the first one, in a file of its own: */
void add_columns_avx2(const struct column_codes *w, const int8_t *q, uint64_t begin, uint64_t end,
                      int32_t *acc);
/* Of the last one, in a file of its own since it asks for AVX-512 VBMI: */
void dot_fives_vbmi(const struct five_codes *w, const struct row_walk *walk,
                    const struct act_rows *a, float *y);
#endif
#if defined(__aarch64__)
extern const struct cpu_kernels cpu_kernels_neon;
extern const struct cpu_kernels cpu_kernels_i8mm; /* in kernels_neon.c, but for its product: */
void matmul_ternary_i8mm(const struct ternary_weights *w, uint64_t row0, uint64_t row1,
                         const struct act_rows *a, size_t n_tok, float *y, size_t y_stride);
#endif
#if defined(__wasm_simd128__)
extern const struct cpu_kernels cpu_kernels_wasm;
#endif

/* The entries that a table has as functions of its own file, by these names. */
#define CPU_OWN_ENTRIES                                                                            \
    .quantize_act = quantize_act, .matmul_float = matmul_float, .dot_ternary = dot_ternary,        \
    .dot_float = dot_float, .dot_narrow = dot_narrow, .dot_screen = dot_screen,                    \
    .rmsnorm = rmsnorm, .rope = rope, .attend = attend, .act_mul = act_mul, .add = add,            \
    .store_f16 = store_f16

/* cpu_kernels_choose among given tables (NULL-terminated, fastest first): what it does, open to
 * tests. */
struct cpu_choice {
    const struct cpu_kernels *kernels;
    char note[512]; /* why faster ones are not used, "" if there is nothing to say */
};
enum bnt_status cpu_kernels_choose_from(const struct cpu_kernels *const *tables, const char *name,
                                        struct cpu_choice *out, struct bnt_err *err);

#endif
