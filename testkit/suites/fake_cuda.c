/* The fake device. Owns what is allocated on it: a list per context, each block between guard bytes
 * that are checked when it is released. Not for several threads at once. */
#include "testkit/suites/fake_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/kernels_attend.h"
#include "engine/cuda/kernels_draw.h"
#include "engine/cuda/kernels_mma.h"
#include "engine/cuda/kernels_product.h"
#include "engine/cuda/kernels_row.h"
#include "engine/cuda/kernels_screen_many.h"
#include "engine/cuda/kernels_split.h"
#include "testkit/suites/fake_threads.h"
#include "testkit/suites/ptx.h"

enum { SHARED_MAX = 48 * 1024, GUARD = 64, GUARD_BYTE = 0x5a, MAX_ARGS = 512 };
#define DEFAULT_MEMORY (8ull << 30)

struct piece {
    struct piece *next;
    uint64_t bytes;
    bool host;
    bool stored;         /* by a kernel */
    unsigned char *data; /* GUARD bytes stand before and behind */
};

struct action {
    struct cuda_launch launch; /* args point into args */
    unsigned char args[MAX_ARGS];
    void *dst; /* a copy, when not NULL */
    const void *src;
    uint64_t bytes;
    bool back; /* to the host */
};

struct cuda_graph {
    struct action *at;
    size_t n, cap;
};

struct cuda_context {
    struct cuda_context *next;
    struct piece *pieces;
    struct cuda_graph *recording;
    bool lost;
    char problem[160];
};

static struct fake_cuda_plan plan;
static struct fake_cuda_counts counts;
static uint64_t n_allocs, n_draws;
static char open_problem[160];
static struct cuda_context *contexts;
static struct ptx_module *ptx;

/* The kernels as they are in a file of PTX, if one is named, else as C. Once for a process. */
static void open_ptx(void)
{
    char why[200];
    const char *path = getenv("BNT_TEST_PTX");
    if (path && !ptx && !(ptx = ptx_open(path, why, sizeof why))) {
        fprintf(stderr, "fake device: %s: %s\n", path, why);
        abort();
    }
}

void fake_cuda_reset(const struct fake_cuda_plan *p)
{
    plan = *p;
    open_ptx();
    n_allocs = n_draws = 0;
    counts.launches = 0;
    counts.uploaded_bytes = counts.downloaded_bytes = 0;
    counts.most_bytes = counts.bytes;
}

struct fake_cuda_counts fake_cuda_count(void)
{
    return counts;
}

static enum cuda_code fail(struct cuda_context *c, enum cuda_code code, const char *what)
{
    snprintf(c->problem, sizeof c->problem, "fake device: %s", what);
    return code;
}

/* ---- devices ---- */

static uint64_t memory_of_plan(void)
{
    return plan.memory ? plan.memory : DEFAULT_MEMORY;
}

static enum cuda_code count(int *n, char *why, size_t size)
{
    *n = plan.absent ? 0 : 1;
    snprintf(why, size, "%s", plan.absent ? "the fake driver sees no GPU" : "");
    return CUDA_OK;
}

static enum cuda_code info(int index, struct cuda_info *out)
{
    if (index != 0 || plan.absent) {
        return CUDA_FAILED;
    }
    *out = (struct cuda_info){.name = "FAKE DEVICE (the processor; for tests)",
                              .major = plan.no_mma ? 7
                                       : ptx       ? ptx_target(ptx) / 10
                                                   : 9,
                              .minor = plan.no_mma ? 5
                                       : ptx       ? ptx_target(ptx) % 10
                                                   : 0,
                              .memory = memory_of_plan(),
                              .free = memory_of_plan() - counts.bytes,
                              .n_processors = plan.processors ? (uint32_t)plan.processors : 4,
                              .driver = 12000,
                              .runtime = 12000,
                              .fake = 1};
    return CUDA_OK;
}

static enum cuda_code open_context(int index, int overlap, struct cuda_context **out)
{
    (void)overlap;
    if (plan.open_fails || plan.absent || index != 0) {
        snprintf(open_problem, sizeof open_problem, "fake device: no context by plan");
        return CUDA_FAILED;
    }
    *out = calloc(1, sizeof **out);
    if (!*out) {
        return CUDA_NO_MEMORY;
    }
    (*out)->next = contexts;
    contexts = *out;
    counts.contexts++;
    return CUDA_OK;
}

static const char *problem(const struct cuda_context *c)
{
    return c ? c->problem : open_problem;
}

/* ---- memory ---- */

static void check_guards(const struct piece *p)
{
    for (int i = 0; i < GUARD; i++) {
        if (p->data[i] != GUARD_BYTE || p->data[GUARD + p->bytes + i] != GUARD_BYTE) {
            fprintf(stderr, "fake device: a kernel wrote beside an allocation of %llu bytes\n",
                    (unsigned long long)p->bytes);
            abort();
        }
    }
}

static enum cuda_code allocate(struct cuda_context *c, uint64_t bytes, bool host, void **out)
{
    n_allocs++;
    if (c->lost) {
        return fail(c, CUDA_LOST, "lost");
    }
    if ((plan.alloc_fails && n_allocs >= plan.alloc_fails) ||
        (!host && bytes > memory_of_plan() - counts.bytes)) {
        return fail(c, CUDA_NO_MEMORY, "out of memory");
    }
    struct piece *p = calloc(1, sizeof *p);
    uint64_t whole = (bytes + 2 * GUARD + 63) / 64 * 64;
    if (p) {
        p->data = aligned_alloc(64, (size_t)whole);
    }
    if (!p || !p->data) {
        free(p);
        return fail(c, CUDA_NO_MEMORY, "the host is out of memory");
    }
    memset(p->data, GUARD_BYTE, (size_t)whole);
    memset(p->data + GUARD, 0, (size_t)bytes);
    *p = (struct piece){.next = c->pieces, .bytes = bytes, .host = host, .data = p->data};
    c->pieces = p;
    counts.allocations++;
    counts.bytes += host ? 0 : bytes;
    counts.most_bytes = counts.bytes > counts.most_bytes ? counts.bytes : counts.most_bytes;
    *out = p->data + GUARD;
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
    while (c->pieces) {
        struct piece *p = c->pieces;
        c->pieces = p->next;
        check_guards(p);
        counts.allocations--;
        counts.bytes -= p->host ? 0 : p->bytes;
        free(p->data);
        free(p);
    }
    struct cuda_context **at = &contexts;
    while (*at != c) {
        at = &(*at)->next;
    }
    *at = c->next;
    counts.contexts--;
    free(c);
}

/* ---- what runs ---- */

static enum cuda_code record(struct cuda_context *c, const struct action *what)
{
    struct cuda_graph *g = c->recording;
    if (g->n == g->cap) {
        size_t cap = g->cap ? 2 * g->cap : 64;
        struct action *at = realloc(g->at, cap * sizeof *at);
        if (!at) {
            return fail(c, CUDA_NO_MEMORY, "the host is out of memory");
        }
        g->at = at;
        g->cap = cap;
    }
    g->at[g->n++] = *what;
    return CUDA_OK;
}

static bool reaches(uint64_t first, uint64_t last, bool store, bool early)
{
    for (struct cuda_context *c = contexts; c; c = c->next) {
        for (struct piece *p = c->pieces; p; p = p->next) {
            uint64_t begin = (uint64_t)(uintptr_t)p->data + GUARD;
            if (first >= begin && last < begin + p->bytes) {
                p->stored |= store;
                return !early || !p->stored;
            }
        }
    }
    return false;
}

static const char *kernel_name(uint32_t kernel)
{
    static const char *const names[] = {
#define NAME(id, fn, type) #fn,
        CUDA_KERNEL_TABLE(NAME)
#undef NAME
    };
    return names[kernel];
}

/* By what nvcc made of them, and, where it is asked for, a line of what that took. */
static void run_ptx(const struct cuda_launch *l, const void *args)
{
    struct ptx_counts n = ptx_run(ptx,
                                  &(struct ptx_launch){.kernel = kernel_name(l->kernel),
                                                       .grid_x = l->grid_x,
                                                       .grid_y = l->grid_y,
                                                       .n_threads = l->block,
                                                       .shared_bytes = l->shared,
                                                       .args = args,
                                                       .args_bytes = l->args_bytes,
                                                       .downwards = plan.downwards},
                                  reaches);
    if (plan.counts) {
        double blocks = (double)l->grid_x * l->grid_y, warps = blocks * l->block / 32.0;
        fprintf(stderr,
                "%-16s %5u x %3u blocks of %4u, a warp %8.1f instructions, %6.1f mma, a block "
                "%8.1f turns of %8.1f, %9.0f bytes in sectors of %9.0f\n",
                kernel_name(l->kernel), l->grid_x, l->grid_y, l->block,
                (double)n.instructions / warps, (double)n.products / warps,
                (double)n.shared_turns / blocks, (double)n.shared / blocks,
                (double)n.global_bytes / blocks, 32.0 * (double)n.sectors / blocks);
    }
}

/* All blocks of a launch, each with shared memory full of what nobody wrote. */
static void run_blocks(const struct cuda_launch *l, const void *args)
{
    static _Alignas(64) unsigned char shared[SHARED_MAX];
    uint32_t n = l->grid_x * l->grid_y;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = plan.downwards ? n - 1 - i : i;
        struct block b = {.x = at % l->grid_x,
                          .y = at / l->grid_x,
                          .n_threads = l->block,
                          .downwards = plan.downwards,
                          .shared = shared};
        memset(shared, 0xa5, l->shared);
        if (plan.threads) {
            fake_threads_run(&(struct fake_block){.kernel = l->kernel,
                                                  .x = b.x,
                                                  .y = b.y,
                                                  .n_threads = l->block,
                                                  .downwards = plan.downwards,
                                                  .shared = shared,
                                                  .args = args});
            continue;
        }
        switch ((enum cuda_kernel)l->kernel) {
#define RUN(id, fn, type)                                                                          \
    case id:                                                                                       \
        fn(&b, (const struct type *)args);                                                         \
        break;
            CUDA_KERNEL_TABLE(RUN)
#undef RUN
        case CUDA_N_KERNELS:
            break;
        }
    }
}

static bool launch_is_sound(const struct cuda_launch *l)
{
    static const size_t sizes[] = {
#define SIZE(id, fn, type) sizeof(struct type),
        CUDA_KERNEL_TABLE(SIZE)
#undef SIZE
    };
    return l->kernel < CUDA_N_KERNELS && l->args_bytes == sizes[l->kernel] && l->grid_x > 0 &&
           l->grid_y > 0 && l->grid_y < 65536 && l->block > 0 && l->block % 32 == 0 &&
           l->block <= CUDA_MAX_THREADS && l->shared <= SHARED_MAX;
}

static enum cuda_code run_launch(struct cuda_context *c, const struct cuda_launch *l)
{
    _Alignas(16) unsigned char args[MAX_ARGS];
    counts.launches++;
    if (c->lost || (plan.lost_at && counts.launches >= plan.lost_at)) {
        c->lost = true;
        return fail(c, CUDA_LOST, "lost");
    }
    if ((plan.launch_fails && counts.launches == plan.launch_fails) || !launch_is_sound(l)) {
        return fail(c, CUDA_LAUNCH, "the launch is refused");
    }
    memcpy(args, l->args, l->args_bytes);
    if (plan.wrong_sum && (l->kernel == CUDA_K_TERNARY || l->kernel == CUDA_K_TERNARY_MMA ||
                           l->kernel == CUDA_K_TERNARY_FEW || l->kernel == CUDA_K_STEP)) {
        struct cuda_matrix *m = l->kernel == CUDA_K_STEP
                                    ? ((struct cuda_step_args *)(void *)args)->m
                                    : ((struct cuda_ternary_args *)(void *)args)->m;
        m->out_scale *= 1.0625f;
    }
    if (ptx) {
        run_ptx(l, args);
    } else {
        run_blocks(l, args);
    }
    if (l->kernel == CUDA_K_DRAW && ++n_draws == plan.draw_fails) {
        ((const struct cuda_draw_args *)(const void *)args)->out->id = -1;
    }
    return CUDA_OK;
}

static enum cuda_code launch(struct cuda_context *c, const struct cuda_launch *l)
{
    if (!c->recording) {
        return run_launch(c, l);
    }
    struct action a = {.launch = *l};
    if (l->args_bytes > MAX_ARGS) {
        return fail(c, CUDA_LAUNCH, "too many arguments");
    }
    memcpy(a.args, l->args, l->args_bytes);
    return record(c, &a);
}

/* A microsecond each: what it takes here says nothing of a GPU. */
static enum cuda_code launch_timed(struct cuda_context *c, const struct cuda_launch *l, double *us)
{
    *us = 1;
    return c->recording ? fail(c, CUDA_FAILED, "timed in a graph") : run_launch(c, l);
}

static enum cuda_code copy(struct cuda_context *c, void *dst, const void *src, uint64_t bytes)
{
    if (c->lost) {
        return fail(c, CUDA_LOST, "lost");
    }
    if (c->recording) {
        return record(c, &(struct action){.dst = dst, .src = src, .bytes = bytes});
    }
    memcpy(dst, src, (size_t)bytes);
    return CUDA_OK;
}

static enum cuda_code upload(struct cuda_context *c, void *dst, const void *src, uint64_t bytes)
{
    counts.uploaded_bytes += bytes;
    return copy(c, dst, src, bytes);
}

static enum cuda_code download(struct cuda_context *c, void *dst, const void *src, uint64_t bytes)
{
    enum cuda_code code = copy(c, dst, src, bytes);
    if (code == CUDA_OK && c->recording) {
        c->recording->at[c->recording->n - 1].back = true;
    } else {
        counts.downloaded_bytes += bytes;
    }
    return code;
}

static enum cuda_code sync_context(struct cuda_context *c)
{
    return c->lost ? fail(c, CUDA_LOST, "lost") : CUDA_OK;
}

/* ---- graphs ---- */

static enum cuda_code graph_begin(struct cuda_context *c)
{
    c->recording = calloc(1, sizeof *c->recording);
    counts.graphs += c->recording != NULL;
    return c->recording ? CUDA_OK : fail(c, CUDA_NO_MEMORY, "the host is out of memory");
}

static void graph_free(struct cuda_context *c, struct cuda_graph *g)
{
    (void)c;
    if (g) {
        counts.graphs--;
        free(g->at);
        free(g);
    }
}

static enum cuda_code graph_end(struct cuda_context *c, struct cuda_graph **out)
{
    *out = c->recording;
    c->recording = NULL;
    return CUDA_OK;
}

static enum cuda_code graph_run(struct cuda_context *c, struct cuda_graph *g)
{
    enum cuda_code code = CUDA_OK;
    for (size_t i = 0; code == CUDA_OK && i < g->n; i++) {
        struct action *a = &g->at[i];
        a->launch.args = a->args;
        counts.downloaded_bytes += a->back ? a->bytes : 0;
        code = a->dst ? copy(c, a->dst, a->src, a->bytes) : run_launch(c, &a->launch);
    }
    return code;
}

const struct cuda_table *fake_cuda_table(void)
{
    static const struct cuda_table table = {
        .version = CUDA_TABLE_VERSION,
        .count = count,
        .info = info,
        .open = open_context,
        .close = close_context,
        .problem = problem,
        .alloc = alloc,
        .alloc_host = alloc_host,
        .upload = upload,
        .download = download,
        .launch = launch,
        .launch_timed = launch_timed,
        .sync = sync_context,
        .graph_begin = graph_begin,
        .graph_end = graph_end,
        .graph_run = graph_run,
        .graph_free = graph_free,
    };
    return &table;
}

#ifdef FAKE_CUDA_MODULE
static uint64_t number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

__attribute__((visibility("default"))) const struct cuda_table *bnt_cuda_module(void);
const struct cuda_table *bnt_cuda_module(void)
{
    const char *text = getenv("BNT_FAKE_CUDA");
    text = text ? text : "";
    plan = (struct fake_cuda_plan){.alloc_fails = number_after(text, "alloc="),
                                   .launch_fails = number_after(text, "launch="),
                                   .lost_at = number_after(text, "lost="),
                                   .draw_fails = number_after(text, "draw="),
                                   .memory = number_after(text, "memory="),
                                   .processors = number_after(text, "processors="),
                                   .absent = strstr(text, "absent") != NULL,
                                   .downwards = strstr(text, "downwards") != NULL,
                                   .threads = strstr(text, "threads") != NULL,
                                   .counts = strstr(text, "counts") != NULL,
                                   .wrong_sum = strstr(text, "wrong") != NULL};
    open_ptx();
    return fake_cuda_table();
}
#endif
