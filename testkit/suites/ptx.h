/* A machine for PTX: runs the kernels as nvcc compiled them, on the processor, for tests alone.
 *
 * The fake device compiles the kernels as C; what they say to nvcc alone (instructions in inline
 * assembly, vector loads, copies behind the back of a thread) only shows in what nvcc makes of it.
 * That is read here and run by warps of 32 lanes, which diverge and meet again at the immediate
 * postdominator of a branch. What is not run: ptxas's translation to a GPU's own instructions.
 *
 * An instruction that is not known here is an error when the file is read. What a GPU would trap,
 * or would let pass with a result that nobody can rely on, ends the process with kernel and line:
 *
 * - addresses outside of allocations, shared memory or arguments, or not aligned to their width
 * - a barrier that a part of a warp reaches, or where another warp has ended
 * - redux of other lanes than named, mma of a part of a warp
 * - a race: bytes of shared memory used by two threads, one of them to write, no barrier between
 * - a copy (cp.async) that is read, or written over, before it was waited for
 * - what a launch has written, read before griddepcontrol.wait or as a constant (ld.nc)
 *
 * Shared memory begins as noise, and copies arrive when they are waited for, not before. Reference:
 * PTX ISA 9.0. */
#ifndef BNT_PTX_H
#define BNT_PTX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ptx_module;

/* NULL, with a sentence in why, for a file that cannot be read or says what is not known here. */
struct ptx_module *ptx_open(const char *path, char *why, size_t size);
void ptx_close(struct ptx_module *m);

/* The compute capability that the file was made for: 90 for 9.0. */
uint32_t ptx_target(const struct ptx_module *m);

struct ptx_launch {
    const char *kernel; /* the name of the function in the source */
    uint32_t grid_x, grid_y, n_threads, shared_bytes;
    const void *args;
    size_t args_bytes;
    bool downwards; /* warps and blocks from the last to the first */
};

/* Whether bytes first..last are in one allocation, and may be used so. early: by one who relies on
 * no launch having written them. */
typedef bool ptx_reaches_fn(uint64_t first, uint64_t last, bool store, bool early);

/* What a launch did. */
struct ptx_counts {
    uint64_t instructions;          /* of a warp, whatever lanes take part */
    uint64_t products;              /* mma among them */
    uint64_t shared, shared_turns;  /* accesses: turns of the banks that they need at least, take */
    uint64_t global_bytes, sectors; /* of lanes; of 32 bytes, each once for an instruction */
};

struct ptx_counts ptx_run(const struct ptx_module *m, const struct ptx_launch *l,
                          ptx_reaches_fn *reaches);

#endif
