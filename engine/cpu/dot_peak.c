/* The loops for all tables, and the one without instructions of its own. */
#include "engine/cpu/dot_peak.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "base/clock.h"

enum { PASSES = 5, REF_WIDTH = 64 };
#define PASS_NS 4000000u
#define FIRST_ROUNDS 1024u

static uint32_t run_ref(uint64_t rounds)
{
    static const volatile int8_t from[2] = {1, -1};
    int8_t a[REF_WIDTH], b[REF_WIDTH];
    int32_t sum[REF_WIDTH] = {0};
    for (size_t i = 0; i < REF_WIDTH; i++) {
        a[i] = from[i % 2];
        b[i] = from[i / 2 % 2];
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < REF_WIDTH; i++) {
            sum[i] += a[i] * b[i];
        }
        atomic_signal_fence(memory_order_seq_cst);
        a[r % REF_WIDTH] = from[r % 2];
    }
    uint32_t all = 0;
    for (size_t i = 0; i < REF_WIDTH; i++) {
        all += (uint32_t)sum[i];
    }
    return all;
}

static const struct dot_loop dot_loop_ref = {"ref", run_ref, REF_WIDTH};

static const struct dot_loop *const loops[] = {
#if defined(__x86_64__)
    &dot_loop_avx512,
    &dot_loop_avx2,
#endif
#if defined(__aarch64__)
    &dot_loop_i8mm,
    &dot_loop_neon,
#endif
};

static const struct dot_loop *loop_for(const char *kernels)
{
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        if (strcmp(loops[i]->kernels, kernels) == 0) {
            return loops[i];
        }
    }
    return &dot_loop_ref;
}

struct dot_job {
    const struct dot_loop *loop;
    uint64_t rounds;
    _Atomic uint32_t sum;
};

static void run_piece(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct dot_job *job = ctx;
    for (size_t i = begin; i < end; i++) {
        atomic_fetch_add(&job->sum, job->loop->run(job->rounds));
    }
}

double dot_peak_gmacs(struct cpu_pool *pool, const char *kernels)
{
    struct dot_job job = {.loop = loop_for(kernels), .rounds = FIRST_ROUNDS};
    size_t pieces = (size_t)cpu_pool_n_threads(pool) * 4;
    double best = 0;
    for (int pass = 0; pass < PASSES;) {
        uint64_t start = bnt_clock_now_ns();
        cpu_pool_run(pool, pieces, 1, run_piece, &job);
        uint64_t ns = bnt_clock_now_ns() - start;
        double macs = (double)job.rounds * job.loop->macs_per_round * (double)pieces;
        double rate = macs / (double)(ns > 0 ? ns : 1);
        best = rate > best ? rate : best;
        if (ns < PASS_NS && job.rounds < UINT32_MAX) {
            job.rounds *= 2; /* too short to believe */
        } else {
            pass++;
        }
    }
    return best;
}
