/* The tables that this build has, for choose.c and for tests that take one by name. A table of another architecture is
 * not compiled. */
#ifndef BNT_CPU_TABLES_H
#define BNT_CPU_TABLES_H

#include "engine/cpu/kernels.h"

extern const struct cpu_kernels cpu_kernels_ref;
#if defined(__x86_64__)
extern const struct cpu_kernels cpu_kernels_avx2;
extern const struct cpu_kernels cpu_kernels_avx512;
#endif
#if defined(__aarch64__)
extern const struct cpu_kernels cpu_kernels_neon;
#endif

#endif
