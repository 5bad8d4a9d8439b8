/* The small copy of a head made in AVX-512. */
#include "engine/cpu/screen_code.h"

#if defined(__x86_64__)
#define SCREEN_CODE screen_code_avx512
#include "engine/cpu/screen_code.inc"
#endif
