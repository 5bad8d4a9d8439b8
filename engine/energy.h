/* Energy that the processors took, from the counters that Linux shows of Intel's and AMD's RAPL:
 * one per package (socket), counted in microjoules by the processor itself. Most systems let only
 * the superuser read them, virtual machines have none; then there is no figure, never a guess. */
#ifndef BNT_ENERGY_H
#define BNT_ENERGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENERGY_ROOT "/sys/class/powercap" /* where Linux keeps the counters */
enum { ENERGY_PACKAGES_MAX = 16 };

struct energy {
    size_t n; /* packages; 0: no figure */
    struct {
        char path[512];   /* of the counter */
        uint64_t last_uj; /* at the last reading */
        uint64_t wrap_uj; /* it begins at 0 again after this */
    } at[ENERGY_PACKAGES_MAX];
    char why[200]; /* with n == 0: why there is no figure, and what would help */
};

/* Find the packages below root and take a first reading. */
void energy_open(struct energy *e, const char *root);
/* Joules of all packages since the last reading. False, and no figure from then on, when a counter
 * can no longer be read. The longest time between two readings is what a counter takes to wrap
 * twice: minutes. */
bool energy_since(struct energy *e, double *joules);

#endif
