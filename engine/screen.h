/* A copy of a head in few bits per weight, by which most rows are known not to matter: the score of
 * a row against the copy differs from its logit by no more than a bound that is proven from the
 * copy and the input, so that a row whose score plus bound stays below a logit that is known needs
 * not be read.
 *
 * The copy has two parts. Of every row 5 bits per weight are read. Of the few rows that remain, 2
 * more, which bring the bound down to two fifths.
 *
 * The form (packed.h) is made by screen_fill into screen_bytes bytes of the caller's, or found
 * again; screen_view adopts it where it lies. A function of the head's values alone. */
#ifndef BNT_SCREEN_H
#define BNT_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/cpu/kernels.h"

/* Of the bound, see cpu/screen_cpu.c. Subnormal products lose more than a share of themselves: this
 * is far above them. */
#define SCREEN_LOSS 1e-30f
/* What roundings of a logit and of its score may make of a length of the input. */
#define SCREEN_ROUNDINGS 64
static inline double screen_rounding_unit(uint64_t cols)
{
    return ((double)cols / 16 + SCREEN_ROUNDINGS) * 0x1p-23;
}

/* Tokens whose head is computed in full after one that the screen did not help. */
enum { SCREEN_REST_TOKENS = 32 };

struct bnt_model;
struct weight;

/* w[c] = step * level[c] + e[c], and e[c] = step * SCREEN_REST * (rest[c] - 1.5) + f[c]. */
#define SCREEN_REST 1.25f
struct screen_row {
    float step;
    float error; /* not below the length of e; infinite when a weight is no finite number */
    float norm;  /* not below the length of step * level */
    float left;  /* not below the length of f; infinite with error */
};

/* Rows of codes lie row_bytes apart, see struct screen_codes of cpu/kernels.h; those of rest, 0 to
 * 3, rest_bytes apart, as in struct ternary_weights (weight + 1 is the code) with rest_cols
 * columns.
 */
struct screen {
    const struct screen_row *rows; /* n_rows; NULL: there is no copy */
    const uint8_t *codes, *rest;
    uint64_t n_rows, cols, row_bytes;
    uint64_t rest_cols, rest_bytes;
};

/* True when a head can be screened, and a copy spares something: of 4 bits per weight or more. */
bool screen_fits(const struct weight *head);
uint64_t screen_bytes(const struct weight *head);
/* The part of it that is read for every token. */
uint64_t screen_token_bytes(const struct weight *head);
/* All threads of the process's share work on it. interrupted: NULL, or non-zero ends it early.
 * Errors: MEMORY, FAILED (no threads). */
enum bnt_status screen_fill(const struct weight *head, uint8_t *dst,
                            const volatile sig_atomic_t *interrupted, struct bnt_err *err);
/* data: 64-byte aligned, as long as the screen is used. */
void screen_view(const struct weight *head, const uint8_t *data, struct screen *out);
/* Find or make the copy for a model whose head is in memory: m->screen. */
enum bnt_status screen_open(struct bnt_model *m, struct bnt_err *err);

#endif
