/* Read a buffer that no cache holds, again and again, and keep the best pass. The buffer is written
 * first, by the threads that will read it: pages that were never written are all one page of zeros.
 */
#include "engine/bandwidth.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/sysinfo.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pool.h"

#define MIN_BYTES (32u << 20)
#define MAX_BYTES (160u << 20)
#define PIECE_BYTES (1u << 20)
#define BUDGET_NS 200000000u
enum { MAX_PASSES = 6 };

struct reading {
    uint64_t *words;
    _Atomic uint64_t sum; /* keeps the reads from being left out */
};

uint64_t bandwidth_sum(const uint64_t *words, size_t n)
{
    uint64_t lane[16] = {0}, sum = 0;
    for (size_t i = 0; i + 16 <= n; i += 16) {
        for (int j = 0; j < 16; j++) {
            lane[j] += words[i + j];
        }
    }
    for (int j = 0; j < 16; j++) {
        sum += lane[j];
    }
    return sum;
}

static void write_piece(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct reading *r = ctx;
    memset((char *)r->words + begin * PIECE_BYTES, 1, (end - begin) * PIECE_BYTES);
}

static void read_piece(void *ctx, size_t begin, size_t end, int thread)
{
    (void)thread;
    struct reading *r = ctx;
    const size_t words = PIECE_BYTES / sizeof(uint64_t);
    atomic_fetch_add(&r->sum, bandwidth_sum(r->words + begin * words, (end - begin) * words));
}

/* Several times the last cache (at three times, hits still show), but no more than an eighth of the
 * memory that may be used. */
uint64_t bandwidth_buffer_bytes(void)
{
    uint64_t bytes = 5 * cpu_features()->l3;
    bytes = bytes < 2 * (uint64_t)MIN_BYTES ? 2 * (uint64_t)MIN_BYTES
            : bytes > MAX_BYTES             ? MAX_BYTES
                                            : bytes;
    uint64_t limit = bnt_memory_limit() / 8;
    bytes = bytes > limit ? limit : bytes;
    return (bytes < MIN_BYTES ? MIN_BYTES : bytes) / PIECE_BYTES * PIECE_BYTES;
}

/* GB/s of the best of a few passes over the buffer, in pieces that threads take; alone: the caller
 * reads it all. */
static double best_pass(struct cpu_pool *pool, struct reading *r, uint64_t bytes, bool alone,
                        uint64_t deadline_ns)
{
    size_t pieces = (size_t)(bytes / PIECE_BYTES);
    uint64_t best = UINT64_MAX;
    for (int pass = 0; pass < MAX_PASSES; pass++) {
        uint64_t start = bnt_clock_now_ns();
        if (alone) {
            read_piece(r, 0, pieces, 0);
        } else {
            cpu_pool_run(pool, pieces, 1, read_piece, r);
        }
        uint64_t now = bnt_clock_now_ns();
        best = now - start < best ? now - start : best;
        if (now > deadline_ns && pass > 0) {
            break;
        }
    }
    return (double)bytes / (double)(best > 0 ? best : 1);
}

/* Both rates of memory that was never written. */
static enum bnt_status measure(uint64_t *words, uint64_t bytes, int n_threads,
                               struct bandwidth *out, struct bnt_err *err)
{
    uint64_t start = bnt_clock_now_ns();
    int threads = n_threads > 0 ? n_threads : bnt_cpu_count();
    struct cpu_pool *pool;
    enum bnt_status st = cpu_pool_new(threads, &pool, err);
    if (st != BNT_OK) {
        return st;
    }
    struct reading r = {.words = words};
    cpu_pool_run(pool, (size_t)(bytes / PIECE_BYTES), 1, write_piece, &r);
    out->one_gb_per_s = best_pass(pool, &r, bytes, true, start + BUDGET_NS / 2);
    out->all_gb_per_s =
        threads == 1 ? out->one_gb_per_s : best_pass(pool, &r, bytes, false, start + BUDGET_NS);
    out->n_threads = threads;
    out->buffer_bytes = bytes;
    out->elapsed_ns = bnt_clock_now_ns() - start;
    cpu_pool_free(pool);
    return BNT_OK;
}

enum bnt_status bandwidth_measure(int n_threads, struct bandwidth *out, struct bnt_err *err)
{
    uint64_t bytes = bandwidth_buffer_bytes();
    void *buffer =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) {
        return bnt_err_nomem(err, "measuring the memory's speed", bytes);
    }
    (void)madvise(buffer, (size_t)bytes,
                  MADV_HUGEPAGE); /* saves page faults; without it the result is the same */
    enum bnt_status st = measure(buffer, bytes, n_threads, out, err);
    munmap(buffer, (size_t)bytes);
    return st;
}
