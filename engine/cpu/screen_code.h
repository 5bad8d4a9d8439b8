/* Making one row of the small copy of a head (engine/screen.h). */
#ifndef BNT_SCREEN_CODE_H
#define BNT_SCREEN_CODE_H

#include <stdint.h>

#include "engine/cpu/kernels.h"
#include "engine/screen.h"

enum { SCREEN_REST_BLOCK_BYTES = 64 };

/* Where a row goes: screen_row_bytes(cols) of codes, a block of the rest for 256 columns. */
struct screen_place {
    struct screen_row *row;
    uint8_t *codes, *rest;
};

/* w: whole blocks of 256, zeros after the row's end. */
typedef void screen_code_fn(const float *w, uint64_t cols, const struct screen_place *at);
screen_code_fn screen_code_ref, screen_code_avx2, screen_code_avx512; /* the same bits */

/* The fastest that this processor can run. */
screen_code_fn *screen_code_best(void);

#endif
