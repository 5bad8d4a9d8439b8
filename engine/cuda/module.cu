// bnt_cuda.so: the table of cuda_table.h on the CUDA runtime, which is linked statically: a machine
// without driver or GPU can open the module and be told so. Owns contexts: a stream and what was
// allocated. Everything else is in headers that also compile as C (grid.h).
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/cuda_table.h"
#include "engine/cuda/kernels_attend.h"
#include "engine/cuda/kernels_draw.h"
#include "engine/cuda/kernels_mma.h"
#include "engine/cuda/kernels_product.h"
#include "engine/cuda/kernels_row.h"
#include "engine/cuda/kernels_screen_many.h"
#include "engine/cuda/kernels_split.h"

// ---- kernels ----

// One block of these to a processor is enough, so they may have the registers that keep additions going.
static __global__ void __launch_bounds__(CUDA_WEIGH_THREADS, 1)
    k_values_global(const __grid_constant__ struct cuda_split_args a);
static __global__ void __launch_bounds__(CUDA_WEIGH_THREADS, 1)
    k_attend_one_global(const __grid_constant__ struct cuda_split_args a);
// One block to a processor.
static __global__ void __launch_bounds__(CUDA_STEP_MOST * CUDA_STEP_GROUP, 1)
    k_step_global(const __grid_constant__ struct cuda_step_args a);
// Four of these, which is 128 registers a thread: by themselves they would take a few more, and three fit.
static __global__ void __launch_bounds__(CUDA_MMA_THREADS, 4)
    k_ternary_mma_global(const __grid_constant__ struct cuda_ternary_args a);
static __global__ void __launch_bounds__(2 * CUDA_FLOAT_ROWS, 4)
    k_float_many_global(const __grid_constant__ struct cuda_float_args a);

// Two.
static __global__ void __launch_bounds__(CUDA_MANY_THREADS, 2)
    k_screen_many_global(const __grid_constant__ struct cuda_screen_score_args a);

#define DEFINE_KERNEL(id, fn, type)                                                                \
    static __global__ void fn##_global(const __grid_constant__ struct type a)                      \
    {                                                                                              \
        extern __shared__ __align__(16) unsigned char block_shared[];                              \
        fn(block_shared, &a);                                                                      \
    }
CUDA_KERNEL_TABLE(DEFINE_KERNEL)
#undef DEFINE_KERNEL

struct kernel_row {
    const void *entry;
    size_t args_bytes;
};

static const struct kernel_row kernel_rows[] = {
#define KERNEL_ROW(id, fn, type) {(const void *)fn##_global, sizeof(struct type)},
    CUDA_KERNEL_TABLE(KERNEL_ROW)
#undef KERNEL_ROW
};

// ---- contexts ----

struct piece {
    struct piece *next;
    void *data;
    bool host;
};

struct cuda_context {
    int index;
    cudaStream_t stream;
    struct piece *pieces;
    bool recording;
    bool overlap;      // launches may begin before the one ahead of them has ended
    bool after_kernel; // the last thing in the stream was a launch
    char problem[256];
};

struct cuda_graph {
    cudaGraphExec_t exec;
};

static thread_local char open_problem[256];

static enum cuda_code code_of(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return CUDA_OK;
    case cudaErrorMemoryAllocation:
        return CUDA_NO_MEMORY;
    case cudaErrorInvalidConfiguration:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidPtx:
    case cudaErrorUnsupportedPtxVersion:
        return CUDA_LAUNCH;
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorDevicesUnavailable:
    case cudaErrorNoDevice:
        return CUDA_LOST;
    default:
        return CUDA_FAILED;
    }
}

static void tell(char *out, size_t size, cudaError_t e, const char *doing)
{
    snprintf(out, size, "%s: %s (%s)", doing, cudaGetErrorString(e), cudaGetErrorName(e));
}

static enum cuda_code check(struct cuda_context *c, cudaError_t e, const char *doing)
{
    if (e != cudaSuccess) {
        tell(c->problem, sizeof c->problem, e, doing);
        cudaGetLastError(); // an error that does not stick must not be met again
    }
    return code_of(e);
}

static enum cuda_code count(int *n, char *why, size_t size)
{
    *n = 0;
    why[0] = '\0';
    cudaError_t e = cudaGetDeviceCount(n);
    if (e != cudaSuccess) {
        *n = 0;
        snprintf(why, size, "%s", cudaGetErrorString(e));
        cudaGetLastError();
    }
    return CUDA_OK;
}

static enum cuda_code info(int index, struct cuda_info *out)
{
    cudaDeviceProp p;
    int driver = 0, runtime = 0;
    size_t free_bytes = 0, total = 0;
    memset(out, 0, sizeof *out);
    cudaError_t e = cudaGetDeviceProperties(&p, index);
    if (e == cudaSuccess) {
        e = cudaSetDevice(index);
    }
    if (e == cudaSuccess) {
        e = cudaMemGetInfo(&free_bytes, &total);
    }
    if (e != cudaSuccess) {
        tell(open_problem, sizeof open_problem, e, "asking for the device");
        cudaGetLastError();
        return code_of(e);
    }
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    snprintf(out->name, sizeof out->name, "%s", p.name);
    out->major = (uint32_t)p.major;
    out->minor = (uint32_t)p.minor;
    out->memory = total;
    out->free = free_bytes;
    out->n_processors = (uint32_t)p.multiProcessorCount;
    out->driver = (uint32_t)driver;
    out->runtime = (uint32_t)runtime;
    return CUDA_OK;
}

// All kernels to the device now: loaded at their first launch they might be loaded in the middle of a capture, and a
// device that none of the code is for would be told late.
static cudaError_t load_kernels(void)
{
    cudaError_t e = cudaSuccess;
    for (uint32_t i = 0; e == cudaSuccess && i < CUDA_N_KERNELS; i++) {
        cudaFuncAttributes attributes;
        e = cudaFuncGetAttributes(&attributes, kernel_rows[i].entry);
    }
    return e;
}

static enum cuda_code open_context(int index, int overlap, struct cuda_context **out)
{
    struct cuda_context *c = (struct cuda_context *)calloc(1, sizeof *c);
    if (!c) {
        snprintf(open_problem, sizeof open_problem, "out of memory for a context");
        return CUDA_NO_MEMORY;
    }
    struct cuda_info i;
    enum cuda_code code = info(index, &i);
    cudaError_t e = code == CUDA_OK ? load_kernels() : cudaSuccess;
    if (code == CUDA_OK && e == cudaSuccess) {
        e = cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking);
    }
    if (e != cudaSuccess) {
        tell(open_problem, sizeof open_problem, e, "loading the kernels and making a stream");
        cudaGetLastError();
        code = code_of(e);
    }
    if (code != CUDA_OK) {
        free(c);
        return code;
    }
    c->index = index;
    c->overlap = overlap && i.major >= 9 && i.driver >= 12030 && i.runtime >= 12030;
    *out = c;
    return CUDA_OK;
}

static const char *problem(const struct cuda_context *c)
{
    return c ? c->problem : open_problem;
}

static void enter(const struct cuda_context *c)
{
    cudaSetDevice(c->index);
}

// ---- memory ----

static enum cuda_code allocate(struct cuda_context *c, uint64_t bytes, bool host, void **out)
{
    struct piece *p = (struct piece *)calloc(1, sizeof *p);
    if (!p) {
        snprintf(c->problem, sizeof c->problem, "out of memory on the host");
        return CUDA_NO_MEMORY;
    }
    enter(c);
    cudaError_t e = host ? cudaMallocHost(&p->data, bytes) : cudaMalloc(&p->data, bytes);
    if (e == cudaSuccess && host) {
        memset(p->data, 0, bytes);
    } else if (e == cudaSuccess) {
        e = cudaMemsetAsync(p->data, 0, bytes, c->stream);
        e = e == cudaSuccess ? cudaStreamSynchronize(c->stream) : e;
        if (e != cudaSuccess) {
            cudaFree(p->data);
        }
    }
    if (e != cudaSuccess) {
        free(p);
        return check(c, e, "allocating");
    }
    p->host = host;
    p->next = c->pieces;
    c->pieces = p;
    *out = p->data;
    return CUDA_OK;
}

static enum cuda_code alloc(struct cuda_context *c, uint64_t bytes, void **out)
{
    return allocate(c, bytes, false, out);
}

static enum cuda_code alloc_host(struct cuda_context *c, uint64_t bytes, void **out)
{
    return allocate(c, bytes, true, out);
}

static void close_context(struct cuda_context *c)
{
    enter(c);
    cudaStreamSynchronize(c->stream);
    while (c->pieces) {
        struct piece *p = c->pieces;
        c->pieces = p->next;
        if (p->host) {
            cudaFreeHost(p->data);
        } else {
            cudaFree(p->data);
        }
        free(p);
    }
    cudaStreamDestroy(c->stream);
    cudaGetLastError();
    free(c);
}

// ---- what runs ----

static enum cuda_code copy(struct cuda_context *c, void *dst, const void *src, uint64_t bytes,
                           cudaMemcpyKind kind)
{
    enter(c);
    c->after_kernel = false;
    cudaError_t e = cudaMemcpyAsync(dst, src, bytes, kind, c->stream);
    if (e == cudaSuccess && !c->recording) {
        e = cudaStreamSynchronize(c->stream);
    }
    return check(c, e, "copying");
}

static enum cuda_code upload(struct cuda_context *c, void *dst, const void *src, uint64_t bytes)
{
    return copy(c, dst, src, bytes, cudaMemcpyHostToDevice);
}

static enum cuda_code download(struct cuda_context *c, void *dst, const void *src, uint64_t bytes)
{
    return copy(c, dst, src, bytes, cudaMemcpyDeviceToHost);
}

static enum cuda_code launch(struct cuda_context *c, const struct cuda_launch *l)
{
    if (l->kernel >= CUDA_N_KERNELS || kernel_rows[l->kernel].args_bytes != l->args_bytes) {
        snprintf(c->problem, sizeof c->problem, "kernel %u with %zu bytes of arguments", l->kernel,
                 l->args_bytes);
        return CUDA_LAUNCH;
    }
    enter(c);
    void *args[] = {const_cast<void *>(l->args)};
    cudaLaunchAttribute attribute;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(l->grid_x, l->grid_y);
    config.blockDim = dim3(l->block);
    config.dynamicSmemBytes = l->shared;
    config.stream = c->stream;
    config.attrs = &attribute;
    config.numAttrs = c->overlap && c->after_kernel ? 1 : 0;
    c->after_kernel = true;
    return check(c, cudaLaunchKernelExC(&config, kernel_rows[l->kernel].entry, args), "launching");
}

static enum cuda_code launch_timed(struct cuda_context *c, const struct cuda_launch *l, double *us)
{
    cudaEvent_t before = NULL, after = NULL;
    float ms = 0;
    enter(c);
    cudaError_t e = cudaEventCreate(&before);
    e = e == cudaSuccess ? cudaEventCreate(&after) : e;
    e = e == cudaSuccess ? cudaEventRecord(before, c->stream) : e;
    c->after_kernel = false;
    enum cuda_code code = e == cudaSuccess ? launch(c, l) : CUDA_OK;
    if (e == cudaSuccess && code == CUDA_OK) {
        e = cudaEventRecord(after, c->stream);
        e = e == cudaSuccess ? cudaEventSynchronize(after) : e;
        e = e == cudaSuccess ? cudaEventElapsedTime(&ms, before, after) : e;
    }
    if (before) {
        cudaEventDestroy(before);
    }
    if (after) {
        cudaEventDestroy(after);
    }
    c->after_kernel = false;
    *us = 1e3 * (double)ms;
    return code == CUDA_OK ? check(c, e, "timing a launch") : code;
}

static enum cuda_code sync_context(struct cuda_context *c)
{
    enter(c);
    return check(c, cudaStreamSynchronize(c->stream), "waiting");
}

// ---- graphs ----

static enum cuda_code graph_begin(struct cuda_context *c)
{
    enter(c);
    c->after_kernel = false;
    cudaError_t e = cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal);
    c->recording = e == cudaSuccess;
    return check(c, e, "beginning a graph");
}

static enum cuda_code graph_end(struct cuda_context *c, struct cuda_graph **out)
{
    cudaGraph_t graph = NULL;
    enter(c);
    c->recording = false;
    c->after_kernel = false;
    *out = NULL;
    cudaError_t e = cudaStreamEndCapture(c->stream, &graph);
    struct cuda_graph *g = (struct cuda_graph *)calloc(1, sizeof *g);
    if (e == cudaSuccess && g) {
        e = cudaGraphInstantiateWithFlags(&g->exec, graph, 0);
    }
    if (graph) {
        cudaGraphDestroy(graph);
    }
    if (e != cudaSuccess || !g) {
        free(g);
        return g ? check(c, e, "making a graph") : CUDA_NO_MEMORY;
    }
    *out = g;
    return CUDA_OK;
}

static enum cuda_code graph_run(struct cuda_context *c, struct cuda_graph *g)
{
    enter(c);
    c->after_kernel = false;
    return check(c, cudaGraphLaunch(g->exec, c->stream), "running a graph");
}

static void graph_free(struct cuda_context *c, struct cuda_graph *g)
{
    if (g) {
        enter(c);
        cudaGraphExecDestroy(g->exec);
        free(g);
    }
}

static const struct cuda_table table = {
    CUDA_TABLE_VERSION, count,     info,      open_context, close_context, problem,
    alloc,              alloc_host, upload,   download,     launch,        launch_timed,
    sync_context,       graph_begin, graph_end, graph_run,  graph_free,
};

extern "C" __attribute__((visibility("default"))) const struct cuda_table *bnt_cuda_module(void)
{
    return &table;
}
