/* The small copy of a head made in what every processor has, and the choice. */
#include "engine/cpu/screen_code.h"

#include "engine/cpu/tables.h"

#define SCREEN_CODE screen_code_ref
#include "engine/cpu/screen_code.inc"

screen_code_fn *screen_code_best(void)
{
#if defined(__x86_64__)
    if (!cpu_kernels_missing(&cpu_kernels_avx512)) {
        return screen_code_avx512;
    }
    if (!cpu_kernels_missing(&cpu_kernels_avx2)) {
        return screen_code_avx2;
    }
#endif
    return screen_code_ref;
}
