/* Blocks of the fake device as threads that are threads (GRID_THREADS of engine/cuda/grid.h): one
 * goes from barrier to barrier before the next one does, upwards or downwards, as those of a GPU
 * may. So it meets what another thread has done too early or too late where a barrier is missing;
 * built with ThreadSanitizer, every such access is reported, whatever it leads to. Threads that
 * wait at different barriers, or where others have ended, end the process with a message. Not for
 * several threads at once. */
#ifndef BNT_FAKE_THREADS_H
#define BNT_FAKE_THREADS_H

#include <stdbool.h>
#include <stdint.h>

struct fake_block {
    uint32_t kernel; /* enum cuda_kernel */
    uint32_t x, y, n_threads;
    bool downwards;
    unsigned char *shared;
    const void *args; /* the struct of the kernel */
};
void fake_threads_run(const struct fake_block *b);

#endif
