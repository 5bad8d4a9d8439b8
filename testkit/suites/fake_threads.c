/* Threads of a block as fibers. Owns their stacks, which live as long as the process: a fiber that
 * has ended a block waits for the next one. */
#include "testkit/suites/fake_threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#define GRID_THREADS
#include "engine/cuda/kernels_attend.h"
#include "engine/cuda/kernels_draw.h"
#include "engine/cuda/kernels_mma.h"
#include "engine/cuda/kernels_product.h"
#include "engine/cuda/kernels_row.h"
#include "engine/cuda/kernels_screen_many.h"
#include "engine/cuda/kernels_split.h"

/* ---- what ThreadSanitizer is told: who runs, and what a barrier orders ---- */

/* gcc defines a name for it, clang knows it as a feature. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN
#endif
#elif defined(__SANITIZE_THREAD__)
#define WITH_TSAN
#endif

#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#define NOT_WATCHED __attribute__((no_sanitize("thread")))
#define WATCH_NEW() __tsan_create_fiber(0)
#define WATCH_THIS() __tsan_get_current_fiber()
/* A switch orders nothing. */
#define WATCH_SWITCH(to) __tsan_switch_to_fiber(to, __tsan_switch_to_fiber_no_sync)
#define WATCH_BEFORE(what) __tsan_release(what)
#define WATCH_AFTER(what) __tsan_acquire(what)
#else
#define NOT_WATCHED
#define WATCH_NEW() NULL
#define WATCH_THIS() NULL
#define WATCH_SWITCH(to) ((void)(to))
#define WATCH_BEFORE(what) ((void)(what))
#define WATCH_AFTER(what) ((void)(what))
#endif

/* ---- fibers ---- */

enum { STACK_BYTES = 64 << 10, WARP = 32 };
enum place { READY, AT_BARRIER, AT_PRODUCT, ENDED };

/* What a thread brings to a product of its warp. */
struct brought {
    uint32_t a[4], b[2];
};

struct fiber {
    ucontext_t at;
    void *watched;
    struct block block;
    enum place place;
    int line;         /* of the barrier */
    unsigned crossed; /* barriers of this block */
    uint32_t n_products;
    struct brought brought[2]; /* to this product and to the next: a thread may be one ahead */
};

static struct fiber fibers[CUDA_MAX_THREADS];
static uint32_t n_fibers;
static ucontext_t scheduler;
static void *scheduler_watched;
static const struct fake_block *work;
static char barriers[2], all; /* what is ordered: by every other barrier, by beginning and end */

static struct fiber *fiber_of(const struct block *block)
{
    return &fibers[block->thread];
}

NOT_WATCHED static void leave(struct fiber *f, enum place place)
{
    f->place = place;
    WATCH_SWITCH(scheduler_watched);
    swapcontext(&f->at, &scheduler);
}

NOT_WATCHED static void resume(struct fiber *f)
{
    f->place = READY;
    WATCH_SWITCH(f->watched);
    swapcontext(&scheduler, &f->at);
}

NOT_WATCHED static void grid_wait(const struct block *block, int line)
{
    struct fiber *f = fiber_of(block);
    char *barrier = &barriers[f->crossed++ % 2];
    f->line = line;
    WATCH_BEFORE(barrier);
    leave(f, AT_BARRIER);
    WATCH_AFTER(barrier);
}

/* Row r of the 16 and column n of the 8, see grid.h. */
NOT_WATCHED static int32_t warp_dot(const struct fiber *warp, uint32_t which, uint32_t r,
                                    uint32_t n)
{
    int32_t sum = 0;
    for (uint32_t k = 0; k < 32; k++) {
        uint32_t from = k % 16 / 4, shift = k % 4 * 8;
        const struct brought *a = &warp[r % 8 * 4 + from].brought[which];
        const struct brought *b = &warp[n * 4 + from].brought[which];
        uint32_t weight = a->a[k / 16 * 2 + r / 8] >> shift & 0xff;
        sum += (int32_t)weight * (int8_t)(b->b[k / 16] >> shift & 0xff);
    }
    return sum;
}

NOT_WATCHED static void grid_mma(const struct block *block, int32_t *c, const uint32_t *a,
                                 const uint32_t *b)
{
    struct fiber *f = fiber_of(block);
    uint32_t lane = block->thread % WARP, which = f->n_products++ % 2;
    struct brought *mine = &f->brought[which];
    for (uint32_t i = 0; i < 4; i++) {
        mine->a[i] = a[i];
        mine->b[i % 2] = b[i % 2];
    }
    leave(f, AT_PRODUCT);
    for (uint32_t i = 0; i < 4; i++) {
        c[i] += warp_dot(f - lane, which, lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
    }
}

/* ---- a block ---- */

static void enter(const struct fake_block *w, const struct block *block)
{
    switch ((enum cuda_kernel)w->kernel) {
#define RUN(id, fn, type)                                                                          \
    case id:                                                                                       \
        fn(block, (const struct type *)w->args);                                                   \
        break;
        CUDA_KERNEL_TABLE(RUN)
#undef RUN
    case CUDA_N_KERNELS:
        break;
    }
}

/* The life of fiber i: one block after the other. */
static void live(int i)
{
    struct fiber *f = &fibers[i];
    for (;;) {
        WATCH_AFTER(&all);
        enter(work, &f->block);
        WATCH_BEFORE(&all);
        leave(f, ENDED);
    }
}

static void need_fibers(uint32_t n)
{
    for (; n_fibers < n; n_fibers++) {
        struct fiber *f = &fibers[n_fibers];
        void *stack = malloc(STACK_BYTES);
        if (!stack || getcontext(&f->at) != 0) {
            fprintf(stderr, "fake device: no memory for a thread\n");
            abort();
        }
        f->at.uc_stack.ss_sp = stack;
        f->at.uc_stack.ss_size = STACK_BYTES;
        f->watched = WATCH_NEW();
        makecontext(&f->at, (void (*)(void))live, 1, (int)n_fibers);
    }
}

/* Until all threads of a warp are at a barrier or have ended; a product waits for all of them. */
static void run_warp(struct fiber *warp, bool downwards)
{
    bool again = true;
    while (again) {
        again = false;
        for (uint32_t i = 0; i < WARP; i++) {
            struct fiber *f = &warp[downwards ? WARP - 1 - i : i];
            if (f->place == READY || f->place == AT_PRODUCT) {
                resume(f);
            }
            again = again || f->place == AT_PRODUCT;
        }
    }
}

/* All are at the same barrier, which lets them go, or have ended. */
static bool go_on(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (fibers[i].place != fibers[0].place || fibers[i].line != fibers[0].line) {
            fprintf(stderr, "fake device: kernel %u: thread 0 %s %d, thread %u %s %d\n",
                    work->kernel, fibers[0].place == ENDED ? "has ended after" : "waits at line",
                    fibers[0].line, i, fibers[i].place == ENDED ? "has ended after" : "at line",
                    fibers[i].line);
            abort();
        }
    }
    return fibers[0].place != ENDED;
}

void fake_threads_run(const struct fake_block *b)
{
    work = b;
    scheduler_watched = WATCH_THIS();
    need_fibers(b->n_threads);
    for (uint32_t i = 0; i < b->n_threads; i++) {
        fibers[i].block = (struct block){
            .x = b->x, .y = b->y, .n_threads = b->n_threads, .thread = i, .shared = b->shared};
        fibers[i].line = 0;
        fibers[i].crossed = 0;
    }
    WATCH_BEFORE(&all);
    uint32_t n_warps = b->n_threads / WARP;
    do {
        for (uint32_t i = 0; i < b->n_threads; i++) {
            fibers[i].place = READY;
        }
        for (uint32_t i = 0; i < n_warps; i++) {
            run_warp(&fibers[(b->downwards ? n_warps - 1 - i : i) * WARP], b->downwards);
        }
    } while (go_on(b->n_threads));
    WATCH_AFTER(&all);
}
