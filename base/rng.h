/* Numbers that a seed determines on every machine: xoshiro256** 1.0 (D. Blackman, S. Vigna,
 * "Scrambled linear pseudorandom number generators", 2021), its state filled by splitmix64 as the
 * authors advise. Never for secrets. */
#ifndef BNT_RNG_H
#define BNT_RNG_H

#include <stdint.h>

struct bnt_rng {
    uint64_t s[4];
};

void bnt_rng_seed(struct bnt_rng *r, uint64_t seed);
uint64_t bnt_rng_next(struct bnt_rng *r);
/* Uniform in [0, 1): the upper 53 bits. */
double bnt_rng_unit(struct bnt_rng *r);
/* Below n, n > 0; the bias of 2^-64 n is of no concern here. */
uint64_t bnt_rng_below(struct bnt_rng *r, uint64_t n);

#endif
