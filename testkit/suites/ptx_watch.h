/* Who used each byte of a block's shared memory since the last barrier, of the block or of a warp.
 */
#ifndef BNT_PTX_WATCH_H
#define BNT_PTX_WATCH_H

#include <stdbool.h>
#include <stdint.h>

enum ptx_use {
    PTX_READS,
    PTX_WRITES,
    PTX_ADDS,   /* an atomic instruction */
    PTX_SENDS,  /* a copy begins */
    PTX_ARRIVES /* and has been waited for */
};

void ptx_watch_block(void);                 /* nothing is used */
void ptx_watch_barrier(void);               /* all before is ordered before all after */
void ptx_watch_warp_barrier(uint32_t warp); /* the same of the threads of a warp */

/* NULL, or what is wrong with it. offset: within the block's shared memory. */
const char *ptx_watch_use(uint32_t offset, uint32_t bytes, uint32_t thread, enum ptx_use use);

#endif
