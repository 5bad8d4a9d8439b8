/* What the CUDA back end needs of a device, as a table of functions. Two things give it:
 *
 *     bnt_cuda.so      built by nvcc from module.cu when nvcc is there, opened at run time
 *     the fake device  testkit/suites/fake_cuda.c: the same kernels, compiled for the processor and
 *                      run block by block, with faults on demand; it exists in tests alone
 *
 * Nothing above this table knows CUDA, and nothing below it knows models. Addresses on a device are
 * void pointers that the host never follows. Launches and copies of one context run in order; only
 * `sync` and `download` wait. A context is used by one thread at a time. */
#ifndef BNT_CUDA_TABLE_H
#define BNT_CUDA_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* Of this table and of the arguments of the kernels together: a module of another version is not
 * used. */
#define CUDA_TABLE_VERSION 7u
/* The symbol by which a module gives its table. */
#define CUDA_MODULE_SYMBOL "bnt_cuda_module"

enum cuda_code {
    CUDA_OK,
    CUDA_NO_MEMORY, /* an allocation did not fit; the context goes on */
    CUDA_LOST,      /* the context is of no more use: a fault in a kernel, a device that fell off */
    CUDA_LAUNCH,    /* a launch was refused */
    CUDA_FAILED     /* anything else; `problem` has the words */
};

struct cuda_info {
    char name[128];
    uint32_t major, minor;    /* compute capability */
    uint64_t memory, free;    /* bytes; free: now */
    uint32_t n_processors;    /* multiprocessors */
    uint32_t driver, runtime; /* 12040: 12.4 */
    int fake;                 /* not zero: this is no GPU, results come from the processor */
};

struct cuda_context;
struct cuda_graph;

/* A launch: grid_x * grid_y blocks of `block` threads, each with `shared` bytes of shared memory.
 * `args` is the struct of the kernel (kernel_args.h). */
struct cuda_launch {
    uint32_t kernel; /* enum cuda_kernel */
    uint32_t grid_x, grid_y, block, shared;
    const void *args;
    size_t args_bytes;
};

struct cuda_table {
    uint32_t version;
    /* Devices that can be used; *n is 0, and why says why, without driver or GPU: that is no error.
     */
    enum cuda_code (*count)(int *n, char *why, size_t size);
    enum cuda_code (*info)(int index, struct cuda_info *out);
    /* overlap: a launch may begin, and ask for its weights, before the one ahead of it has ended,
     * where the device can do that. */
    enum cuda_code (*open)(int index, int overlap, struct cuda_context **out);
    void (*close)(struct cuda_context *c); /* frees all that was allocated, and not the graphs */
    /* What the last failure of this context (or, with NULL, of this thread's open) was. */
    const char *(*problem)(const struct cuda_context *c);

    enum cuda_code (*alloc)(struct cuda_context *c, uint64_t bytes, void **out); /* zeroed */
    /* Memory of the host that copies inside a graph may name. */
    enum cuda_code (*alloc_host)(struct cuda_context *c, uint64_t bytes, void **out);

    /* The source may be reused at once, save between graph_begin and graph_end. */
    enum cuda_code (*upload)(struct cuda_context *c, void *dst, const void *src, uint64_t bytes);
    /* Waits, save between graph_begin and graph_end: there dst must be of alloc_host. */
    enum cuda_code (*download)(struct cuda_context *c, void *dst, const void *src, uint64_t bytes);
    enum cuda_code (*launch)(struct cuda_context *c, const struct cuda_launch *l);
    /* Launch, wait, and say how long it took; not between graph_begin and graph_end. */
    enum cuda_code (*launch_timed)(struct cuda_context *c, const struct cuda_launch *l, double *us);
    enum cuda_code (*sync)(struct cuda_context *c);

    /* What is launched and copied between begin and end is kept, not run. */
    enum cuda_code (*graph_begin)(struct cuda_context *c);
    enum cuda_code (*graph_end)(struct cuda_context *c, struct cuda_graph **out);
    enum cuda_code (*graph_run)(struct cuda_context *c, struct cuda_graph *g);
    void (*graph_free)(struct cuda_context *c, struct cuda_graph *g);
};

typedef const struct cuda_table *cuda_module_fn(void);

#endif
