/* How many int8 multiply-adds per second this processor does at most: the yardstick for products
 * that memory does not bind. Each loop keeps its operands in registers and does nothing but dot
 * products, with the instruction that the ternary kernel of the same name is built on (of batches,
 * where that differs from the one for a single token). */
#ifndef BNT_DOT_PEAK_H
#define BNT_DOT_PEAK_H

#include <stdint.h>

#include "engine/cpu/pool.h"

/* A loop of `rounds` rounds; returns the sum of what it computed, so that nothing is left out. */
struct dot_loop {
    const char *kernels; /* name of the table that it belongs to */
    uint32_t (*run)(uint64_t rounds);
    uint32_t macs_per_round;
};

#if defined(__x86_64__)
extern const struct dot_loop dot_loop_avx2;
extern const struct dot_loop dot_loop_avx512;
#endif
#if defined(__aarch64__)
extern const struct dot_loop dot_loop_i8mm;
extern const struct dot_loop dot_loop_neon;
#endif

/* 10^9 multiply-adds per second of all threads of a pool together, by the loop for a table of
 * kernels that this processor can run; the best of a few passes of a few milliseconds. */
double dot_peak_gmacs(struct cpu_pool *pool, const char *kernels);

#endif
