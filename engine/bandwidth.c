/* Read a buffer that no cache holds, again and again, and keep the best pass. The buffer is written
 * first, by the threads that will read it: pages that were never written are all one page of zeros.
 */
#include "engine/bandwidth.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
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

struct bandwidth_probe {
    struct cpu_pool *pool;
    struct reading r;
    uint64_t bytes;
};

enum bnt_status bandwidth_probe_new(int n_threads, struct bandwidth_probe **out,
                                    struct bnt_err *err)
{
    const int threads = n_threads > 0 ? n_threads : bnt_cpu_count();
    const uint64_t bytes = bandwidth_buffer_bytes();
    struct bandwidth_probe *p = calloc(1, sizeof *p);
    void *buffer =
        p ? mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
          : MAP_FAILED;
    if (buffer == MAP_FAILED) {
        free(p);
        return bnt_err_nomem(err, "measuring the memory's speed", bytes);
    }
    *p = (struct bandwidth_probe){.r = {.words = buffer}, .bytes = bytes};
    enum bnt_status st = cpu_pool_new(threads, &p->pool, err);
    if (st != BNT_OK) {
        bandwidth_probe_free(p);
        return st;
    }
    /* Saves page faults; without it the result is the same. */
    (void)madvise(buffer, (size_t)bytes, MADV_HUGEPAGE);
    cpu_pool_run(p->pool, (size_t)(bytes / PIECE_BYTES), 1, write_piece, &p->r);
    *out = p;
    return BNT_OK;
}

double bandwidth_probe_run(struct bandwidth_probe *p)
{
    return best_pass(p->pool, &p->r, p->bytes, false, 0);
}

void bandwidth_probe_free(struct bandwidth_probe *p)
{
    if (p != NULL) {
        cpu_pool_free(p->pool);
        munmap(p->r.words, (size_t)p->bytes);
        free(p);
    }
}

enum bnt_status bandwidth_measure(int n_threads, struct bandwidth *out, struct bnt_err *err)
{
    const uint64_t start = bnt_clock_now_ns();
    struct bandwidth_probe *p = NULL;
    enum bnt_status st = bandwidth_probe_new(n_threads, &p, err);
    if (st != BNT_OK) {
        return st;
    }
    const int threads = cpu_pool_n_threads(p->pool);
    out->one_gb_per_s = best_pass(p->pool, &p->r, p->bytes, true, start + BUDGET_NS / 2);
    out->all_gb_per_s = threads == 1
                            ? out->one_gb_per_s
                            : best_pass(p->pool, &p->r, p->bytes, false, start + BUDGET_NS);
    out->n_threads = threads;
    out->buffer_bytes = p->bytes;
    out->elapsed_ns = bnt_clock_now_ns() - start;
    bandwidth_probe_free(p);
    return BNT_OK;
}
