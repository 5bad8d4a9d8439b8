/* The fake device: the table of engine/cuda/cuda_table.h computed by the processor, for tests
 * alone. It runs the very kernels that nvcc compiles, block by block, and fails where it is told
 * to. Its name and its `fake` flag say what it is; a session on it warns.
 *
 * Two forms: linked into bnt-suites, and build/<config>/fake_cuda.so, a module that a program opens
 * only when BNT_CUDA_MODULE names it; there the plan comes from BNT_FAKE_CUDA ("alloc=3,launch=40,
 * lost=100,draw=2,memory=1000000,processors=132,absent,wrong,threads,downwards,counts").
 *
 * Where BNT_TEST_PTX names a file, both run the kernels as nvcc compiled them into it (ptx.h), and
 * the device is one of the compute capability that the file is for. `make check-ptx` does that. */
#ifndef BNT_FAKE_CUDA_H
#define BNT_FAKE_CUDA_H

#include <stdbool.h>

#include "engine/cuda/cuda_table.h"

/* Zeros: nothing fails. Counts are from the reset on. */
struct fake_cuda_plan {
    uint64_t alloc_fails;  /* the n-th allocation, and later ones, find no memory */
    uint64_t launch_fails; /* the n-th launch is refused; those after it are not */
    uint64_t lost_at;      /* the n-th launch loses the device for good */
    uint64_t draw_fails;   /* the n-th draw gives no id */
    uint64_t memory;       /* bytes of the device; 0: 8 GiB */
    uint64_t processors;   /* 0: 4 */
    bool absent;           /* there is no device */
    bool open_fails;
    bool no_mma;    /* compute capability 7.5 */
    bool downwards; /* threads and blocks run from the last to the first */
    bool threads;   /* a block is threads that are threads: fake_threads.h; slow */
    bool counts;    /* with PTX: a line for each launch, of instructions, banks and bytes */
    bool wrong_sum; /* every result of a ternary product is off by one code */
};
void fake_cuda_reset(const struct fake_cuda_plan *plan);

/* What is held now, and what happened since the reset. */
struct fake_cuda_counts {
    uint64_t contexts, allocations, bytes, graphs; /* alive */
    uint64_t launches, most_bytes, uploaded_bytes, downloaded_bytes;
};
struct fake_cuda_counts fake_cuda_count(void);

const struct cuda_table *fake_cuda_table(void);

#endif
