/* The small copy of a head made in AVX2. */
#include "engine/cpu/screen_code.h"

#if defined(__x86_64__)
#define SCREEN_CODE screen_code_avx2
#include "engine/cpu/screen_code.inc"
#endif
