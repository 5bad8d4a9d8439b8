/* One way to write a kernel for two compilers. A kernel is a function that a whole block enters; in
 * it, code for single threads stands in loops over the threads, with barriers between them:
 *
 *     BLOCK_FN void k_double(BLOCK, const struct args *a)
 *     {
 *         FOR_THREADS(t)
 *         {
 *             shared[t] = a->x[BLOCK_X * N_THREADS + t];
 *         }
 *         BARRIER();
 *         FOR_THREADS(t) { ... }
 *     }
 *
 * Under nvcc every thread of the block enters, and the body of FOR_THREADS runs once. As C one call
 * stands for the block, and FOR_THREADS is a loop, upwards or downwards: threads that depend on
 * each other between two barriers give other results downwards, so that a missing barrier shows
 * without a GPU. With GRID_THREADS a call stands for one thread instead, as on a GPU, and goes from
 * one barrier to the next before another thread does: then a barrier that is missing between two
 * loops shows, too. What a thread keeps from one loop to the next is declared with KEEP and reached
 * with MINE. Outside of FOR_THREADS only values that are equal in all threads may be computed.
 *
 * Floats: no contraction on either side (-fmad=false, -ffp-contract=off), division and square root
 * rounded correctly, so that both give the bits of engine/cpu/kernels_ref.c. */
#ifndef BNT_CUDA_GRID_H
#define BNT_CUDA_GRID_H

#include <stdint.h>

#define CUDA_MAX_THREADS 1024u

#ifdef __CUDACC__

#include <cuda_fp16.h>

#define BLOCK_FN static __device__ __forceinline__
#define THREAD_FN static __device__ __forceinline__
#define BLOCK unsigned char *block_shared
#define SAME_BLOCK block_shared
#define BLOCK_SHARED block_shared
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define N_THREADS blockDim.x
#define FOR_THREADS(t) for (uint32_t t = threadIdx.x, t##_once = 1; t##_once != 0; t##_once = 0)
#define BARRIER() __syncthreads()
/* The threads of each warp show each other what they wrote; cheaper than the whole block. */
#define WARP_BARRIER() __syncwarp()
#define KEEP(type, name, n) type name[1][n]
#define MINE(name, t) name[0]
#define UNROLL _Pragma("unroll")
/* The launch after this one may begin; nothing that it reads may be touched before WAIT_PREVIOUS.
 * Both do nothing where launches do not overlap. */
#if __CUDA_ARCH__ >= 900
#define LET_NEXT_BEGIN() asm volatile("griddepcontrol.launch_dependents;" ::: "memory")
#define WAIT_PREVIOUS() asm volatile("griddepcontrol.wait;" ::: "memory")
#else
#define LET_NEXT_BEGIN() ((void)0)
#define WAIT_PREVIOUS() ((void)0)
#endif

struct words4 {
    uint32_t w[4];
};

/* 16 bytes that nothing writes during the launch; p is a multiple of 16. */
THREAD_FN struct words4 load_constant(const void *p)
{
    uint4 v = __ldg((const uint4 *)p);
    struct words4 out = {{v.x, v.y, v.z, v.w}};
    return out;
}

THREAD_FN struct words4 load_words(const void *p)
{
    uint4 v = *(const uint4 *)p;
    struct words4 out = {{v.x, v.y, v.z, v.w}};
    return out;
}

THREAD_FN void store_words(void *p, struct words4 v)
{
    *(uint4 *)p = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]);
}

/* 16 bytes of global memory, or zeros, on their way to shared memory; they are there, for the
 * thread that sent them, once COPIES_LEFT says that no more than n of its groups are not. */
THREAD_FN void send_words(void *shared, const void *from, int wanted)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(from), "r"(wanted ? 16 : 0)
                 : "memory");
#else
    struct words4 none = {{0, 0, 0, 0}};
    store_words(shared, wanted ? load_words(from) : none);
#endif
}

/* The same of four bytes. */
THREAD_FN void send_word(void *shared, const void *from, int wanted)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
                     (uint32_t)__cvta_generic_to_shared(shared)),
                 "l"(from), "r"(wanted ? 4 : 0)
                 : "memory");
#else
    *(uint32_t *)shared = wanted ? *(const uint32_t *)from : 0;
#endif
}

#if __CUDA_ARCH__ >= 800
#define END_COPIES() asm volatile("cp.async.commit_group;" ::: "memory")
#define COPIES_LEFT(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")
#else
#define END_COPIES() ((void)0)
#define COPIES_LEFT(n) ((void)0)
#endif

/* The 128 bytes around p will be wanted: they come as far as the second cache. */
THREAD_FN void soon_wanted(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* c + the sum of four products of bytes: a without sign, b with. */
THREAD_FN int32_t dot4(uint32_t a, uint32_t b, int32_t c)
{
    int32_t d;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

/* Both with sign. */
THREAD_FN int32_t dot4_signed(uint32_t a, uint32_t b, int32_t c)
{
    int32_t d;
    asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

/* Four of the eight bytes of a (0..3) and b (4..7), by the low four nibbles of `which`; a nibble
 * of 8 or more takes the highest bit of byte nibble - 8, eight times. */
THREAD_FN uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t which)
{
    uint32_t d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(which));
    return d;
}

THREAD_FN float float_of(uint32_t bits)
{
    return __uint_as_float(bits);
}

THREAD_FN uint32_t bits_of(float x)
{
    return __float_as_uint(x);
}

THREAD_FN double double_of(uint64_t bits)
{
    return __longlong_as_double((long long)bits);
}

THREAD_FN float half_to_float(uint16_t h)
{
    return __half2float(__ushort_as_half(h));
}

THREAD_FN uint16_t float_to_half(float x)
{
    return __half_as_ushort(__float2half_rn(x));
}

/* Into one word for all threads of the warp: they agree first, so that the word is written once. */
THREAD_FN int first_of(uint32_t active)
{
    return threadIdx.x % 32 == __ffs((int)active) - 1;
}

THREAD_FN void shared_max(uint32_t *p, uint32_t v)
{
#if __CUDA_ARCH__ >= 800
    uint32_t active = __activemask();
    v = __reduce_max_sync(active, v);
    if (first_of(active)) {
        atomicMax(p, v);
    }
#else
    atomicMax(p, v);
#endif
}

THREAD_FN void shared_max64(uint64_t *p, uint64_t v)
{
#if __CUDA_ARCH__ >= 800
    uint32_t active = __activemask(), high = __reduce_max_sync(active, (uint32_t)(v >> 32));
    uint32_t low = __reduce_max_sync(active, (uint32_t)(v >> 32) == high ? (uint32_t)v : 0);
    v = (uint64_t)high << 32 | low;
    if (first_of(active)) {
        atomicMax((unsigned long long *)p, (unsigned long long)v);
    }
#else
    atomicMax((unsigned long long *)p, (unsigned long long)v);
#endif
}

THREAD_FN void shared_add(int32_t *p, int32_t v)
{
#if __CUDA_ARCH__ >= 800
    uint32_t active = __activemask();
    v = __reduce_add_sync(active, v);
    if (first_of(active)) {
        atomicAdd(p, v);
    }
#else
    atomicAdd(p, v);
#endif
}

/* What *p was before one was added. */
THREAD_FN uint32_t shared_next(uint32_t *p)
{
    return atomicAdd(p, 1u);
}

#define SQRT(x) __fsqrt_rn(x)

#else

#include <math.h>
#include <string.h>

/* The block in work. */
struct block {
    uint32_t x, y, n_threads;
    int downwards;
    uint32_t thread;       /* with GRID_THREADS: which one of them this is */
    unsigned char *shared; /* 16-byte aligned */
};

#define BLOCK_FN static
#define THREAD_FN static inline
#define BLOCK const struct block *block
#define SAME_BLOCK block
#define BLOCK_SHARED block->shared
#define BLOCK_X block->x
#define BLOCK_Y block->y
#define N_THREADS block->n_threads
#ifdef GRID_THREADS
/* By who runs the threads: until all of them are here, or all of their warp to multiply. */
static void grid_wait(const struct block *block, int line);
static void grid_mma(const struct block *block, int32_t *c, const uint32_t *a, const uint32_t *b);
#define FOR_THREADS(t) for (uint32_t t = block->thread, t##_once = 1; t##_once != 0; t##_once = 0)
#define BARRIER() grid_wait(block, __LINE__)
#define WARP_BARRIER() BARRIER()
#define KEEP(type, name, n) type name[1][n]
#define MINE(name, t) name[0 * (t)]
#else
#define FOR_THREADS(t)                                                                             \
    for (uint32_t t##_i = 0, t = block->downwards ? N_THREADS - 1 : 0; t##_i < N_THREADS;          \
         t##_i++, t = block->downwards ? t - 1 : t + 1)
#define BARRIER() ((void)0)
#define WARP_BARRIER() ((void)0)
#define KEEP(type, name, n) type name[CUDA_MAX_THREADS][n]
#define MINE(name, t) name[t]
#endif
#define UNROLL
#define LET_NEXT_BEGIN() ((void)0)
#define WAIT_PREVIOUS() ((void)0)

struct words4 {
    uint32_t w[4];
};

THREAD_FN struct words4 load_words(const void *p)
{
    struct words4 out;
    memcpy(&out, __builtin_assume_aligned(p, 16), sizeof out);
    return out;
}

THREAD_FN struct words4 load_constant(const void *p)
{
    return load_words(p);
}

THREAD_FN void store_words(void *p, struct words4 v)
{
    memcpy(__builtin_assume_aligned(p, 16), &v, sizeof v);
}

/* As soon as it is sent: what still reads the place would see it. */
THREAD_FN void send_words(void *shared, const void *from, int wanted)
{
    struct words4 none = {{0, 0, 0, 0}};
    store_words(shared, wanted ? load_words(from) : none);
}

THREAD_FN void send_word(void *shared, const void *from, int wanted)
{
    *(uint32_t *)shared = wanted ? *(const uint32_t *)from : 0;
}

#define END_COPIES() ((void)0)
#define COPIES_LEFT(n) ((void)0)

THREAD_FN void soon_wanted(const void *p)
{
    (void)p;
}

THREAD_FN int32_t dot4(uint32_t a, uint32_t b, int32_t c)
{
    for (int i = 0; i < 32; i += 8) {
        c += (int32_t)(a >> i & 0xff) * (int8_t)(b >> i & 0xff);
    }
    return c;
}

THREAD_FN int32_t dot4_signed(uint32_t a, uint32_t b, int32_t c)
{
    for (int i = 0; i < 32; i += 8) {
        c += (int8_t)(a >> i & 0xff) * (int8_t)(b >> i & 0xff);
    }
    return c;
}

THREAD_FN uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t which)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t d = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t nibble = which >> 4 * i & 15, byte = bytes >> 8 * (nibble & 7) & 0xff;
        d |= (nibble < 8 ? byte : byte & 0x80 ? 0xffu : 0) << 8 * i;
    }
    return d;
}

THREAD_FN float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

THREAD_FN uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

THREAD_FN double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

THREAD_FN float half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, mantissa = h & 0x3ff;
    if (exponent == 0) { /* subnormal: the mantissa counts units of 2^-24 */
        float magnitude = (float)mantissa * 0x1p-24f;
        return float_of(bits_of(magnitude) | sign);
    }
    return float_of(sign | (exponent == 31 ? 0xffu : exponent + 112) << 23 | mantissa << 13);
}

/* Round to nearest even. */
THREAD_FN uint16_t float_to_half(float x)
{
    uint32_t bits = bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x7f800000) {
        return (uint16_t)(sign | 0x7c00 | (magnitude > 0x7f800000 ? 0x200 : 0));
    }
    if (magnitude < 0x38800000) { /* below the smallest normal: to units of 2^-24 */
        float units = (float_of(magnitude) * 0x1p+24f + 0x1.8p+23f) - 0x1.8p+23f;
        return (uint16_t)(sign | (uint32_t)units);
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded >= 0x47800000 ? 0x7c00 : (rounded - 0x38000000) >> 13));
}

/* Atomic, so that ThreadSanitizer takes them for what they are. */
THREAD_FN void shared_max(uint32_t *p, uint32_t v)
{
    uint32_t was = __atomic_load_n(p, __ATOMIC_RELAXED);
    __atomic_store_n(p, v > was ? v : was, __ATOMIC_RELAXED);
}

THREAD_FN void shared_max64(uint64_t *p, uint64_t v)
{
    uint64_t was = __atomic_load_n(p, __ATOMIC_RELAXED);
    __atomic_store_n(p, v > was ? v : was, __ATOMIC_RELAXED);
}

THREAD_FN void shared_add(int32_t *p, int32_t v)
{
    __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

THREAD_FN uint32_t shared_next(uint32_t *p)
{
    return __atomic_fetch_add(p, 1u, __ATOMIC_RELAXED);
}

#define SQRT(x) sqrtf(x)

#endif

/* Integers of KEEP arrays that one warp multiplies: a is 16 rows of 32 bytes without sign, b 32
 * rows of 8 with, c 16 rows of 8, spread over the threads of a warp as PTX says for
 * mma.m16n8k32.row.col.s32.u8.s8.s32 (ISA, "Matrix Fragments for mma.m16n8k32"). */
#ifdef __CUDACC__
#if __CUDA_ARCH__ >= 800
#define MMA(c, at, a, b, n_threads)                                                                \
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "  \
        "{%0,%1,%2,%3};"                                                                           \
        : "+r"(c[0][at]), "+r"(c[0][(at) + 1]), "+r"(c[0][(at) + 2]), "+r"(c[0][(at) + 3])         \
        : "r"(a[0][0]), "r"(a[0][1]), "r"(a[0][2]), "r"(a[0][3]), "r"(b[0][0]), "r"(b[0][1]))
#else
#define MMA(c, at, a, b, n_threads) ((void)0) /* the host launches no such kernel there */
#endif
#elif defined(GRID_THREADS)
#define MMA(c, at, a, b, n_threads) grid_mma(block, &c[0][at], a[0], b[0])
#else
#define MMA(c, at, a, b, n_threads)                                                                \
    mma_warps(&c[0][at], sizeof c[0] / sizeof c[0][0], a, b, n_threads)

/* a and b of one warp as rows of 32. */
struct mma_tile {
    int16_t a[16][32], b[8][32];
};

static inline void mma_gather(struct mma_tile *m, uint32_t (*a)[4], uint32_t (*b)[2])
{
    for (uint32_t lane = 0; lane < 32; lane++) {
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t k = lane % 4 * 4 + i;
            for (uint32_t reg = 0; reg < 4; reg++) {
                m->a[lane / 4 + reg % 2 * 8][reg / 2 * 16 + k] = a[lane][reg] >> 8 * i & 0xff;
            }
            for (uint32_t reg = 0; reg < 2; reg++) {
                m->b[lane / 4][reg * 16 + k] = (int8_t)(b[lane][reg] >> 8 * i);
            }
        }
    }
}

/* Whether a warp has anything to multiply with: tokens past the last one are zeros. */
static inline int mma_any(uint32_t (*b)[2])
{
    uint32_t any = 0;
    for (uint32_t lane = 0; lane < 32; lane++) {
        any |= b[lane][0] | b[lane][1];
    }
    return any != 0;
}

static inline void mma_warps(int32_t *c, uint32_t stride, uint32_t (*a)[4], uint32_t (*b)[2],
                             uint32_t n_threads)
{
    struct mma_tile m;
    for (uint32_t warp = 0; warp < n_threads; warp += 32) {
        if (!mma_any(b + warp)) {
            continue;
        }
        mma_gather(&m, a + warp, b + warp);
        for (uint32_t r = 0; r < 16; r++) {
            for (uint32_t n = 0; n < 8; n++) {
                uint32_t lane = r % 8 * 4 + n / 2, reg = r / 8 * 2 + n % 2;
                int32_t sum = 0;
                for (uint32_t k = 0; k < 32; k++) {
                    sum += m.a[r][k] * m.b[n][k];
                }
                c[(warp + lane) * stride + reg] += sum;
            }
        }
    }
}
#endif

#endif
