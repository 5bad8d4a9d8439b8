/* The classes of all characters beyond ASCII, made by unicode_table_main.c. A run is its first code
 * point and, above UNI_CP_MASK, its UNI_* bits; it lasts until the next one begins. */
#ifndef BNT_WASM_UNICODE_RUNS_H
#define BNT_WASM_UNICODE_RUNS_H

#include <stddef.h>
#include <stdint.h>

extern const uint32_t unicode_runs[];
extern const size_t unicode_n_runs;

#endif
