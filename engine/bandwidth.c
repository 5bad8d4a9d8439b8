/* Read a buffer that no cache holds, again and again, and keep the best pass. The buffer is written
 * first, by the threads that will read it: pages that were never written are all one page of zeros.
 *
 * One processor fetches ahead best along one stream, another one along several; whoever reads
 * slower than it could makes a poor yardstick. So each way takes its turn over a part of the
 * buffer, and the fewest streams count that are as fast as the fastest, nearly. */
#include "engine/bandwidth.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/stats.h"
#include "base/sysinfo.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/pool.h"

#define MIN_BYTES (32u << 20)
#define MAX_BYTES (160u << 20)
#define PIECE_BYTES (1u << 20)
#define BUDGET_NS 200000000u
enum { MAX_PASSES = 6, LANES = 16, STREAMS_MAX = 8 };

/* Ways of reading, by their streams. A pass reads one of PARTS parts, the next pass the next one:
 * each way meets all of them. */
static const int ways[] = {1, 2, 4, STREAMS_MAX};
enum { WAYS = sizeof ways / sizeof *ways, PARTS = WAYS + 1, ROUNDS = PARTS };
#define NEARLY 1.03

struct reading {
    uint64_t *words;
    int streams;
    _Atomic uint64_t sum; /* keeps the reads from being left out */
};

/* Parts of so many words that follow each other, side by side. */
static inline __attribute__((always_inline)) void
add_parts(uint64_t lane[LANES], const uint64_t *words, size_t part, size_t streams)
{
    for (size_t i = 0; i < part; i += LANES) {
        for (size_t s = 0; s < streams; s++) {
            for (size_t j = 0; j < LANES; j++) {
                lane[j] += words[s * part + i + j];
            }
        }
    }
}

/* streams is a constant where this is called. */
static inline __attribute__((always_inline)) uint64_t sum_streams(const uint64_t *words, size_t n,
                                                                  size_t streams)
{
    const size_t part = n / (streams * LANES) * LANES;
    uint64_t lane[LANES] = {0}, sum = 0;
    add_parts(lane, words, part, streams);
    if (!BNT_FAULT(bandwidth_rest)) {
        add_parts(lane, words + streams * part, (n - streams * part) / LANES * LANES, 1);
    }
    for (size_t j = 0; j < LANES; j++) {
        sum += lane[j];
    }
    return sum;
}

uint64_t bandwidth_sum(const uint64_t *words, size_t n, int streams)
{
    return streams == STREAMS_MAX ? sum_streams(words, n, STREAMS_MAX)
           : streams == 4         ? sum_streams(words, n, 4)
           : streams == 2         ? sum_streams(words, n, 2)
                                  : sum_streams(words, n, 1);
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
    for (size_t i = begin; i < end; i++) {
        atomic_fetch_add(&r->sum, bandwidth_sum(r->words + i * words, words, r->streams));
    }
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

/* Pieces [begin, end), which threads take, or which the caller reads alone; ns. */
static uint64_t pass_ns(struct cpu_pool *pool, struct reading *r, size_t begin, size_t end)
{
    struct reading part = {.words = r->words + begin * (PIECE_BYTES / sizeof(uint64_t)),
                           .streams = r->streams};
    const uint64_t start = bnt_clock_now_ns();
    if (pool == NULL) {
        read_piece(&part, 0, end - begin, 0);
    } else {
        cpu_pool_run(pool, end - begin, 1, read_piece, &part);
    }
    return bnt_clock_now_ns() - start;
}

/* GB/s of the best of a few passes over the buffer. */
static double best_pass(struct cpu_pool *pool, struct reading *r, uint64_t bytes,
                        uint64_t budget_ns)
{
    const uint64_t deadline_ns = bnt_clock_now_ns() + budget_ns;
    uint64_t best = UINT64_MAX;
    for (int pass = 0; pass < MAX_PASSES; pass++) {
        const uint64_t ns = pass_ns(pool, r, 0, (size_t)(bytes / PIECE_BYTES));
        best = ns < best ? ns : best;
        if (pass > 0 && bnt_clock_now_ns() > deadline_ns) {
            break;
        }
    }
    return (double)bytes / (double)(best > 0 ? best : 1);
}

static int fastest_way(struct cpu_pool *pool, struct reading *r, uint64_t bytes)
{
    const size_t part = (size_t)(bytes / PIECE_BYTES / PARTS);
    double ns[WAYS][ROUNDS], median[WAYS], least = INFINITY;
    size_t n = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int way = 0; way < WAYS; way++, n++) {
            const size_t begin = n % PARTS * part;
            r->streams = ways[way];
            ns[way][round] = (double)pass_ns(pool, r, begin, begin + part);
        }
    }
    for (int way = 0; way < WAYS; way++) {
        bnt_stats_sort(ns[way], ROUNDS);
        median[way] = bnt_stats_median(ns[way], ROUNDS);
        least = fmin(least, median[way]);
    }
    int way = 0;
    while (median[way] > least * NEARLY) {
        way++;
    }
    return ways[way];
}

/* By number of threads; 0: not known yet. */
static _Atomic int known[CPU_POOL_MAX_THREADS + 1];

/* pool NULL: the caller alone. */
static void choose_way(struct cpu_pool *pool, struct reading *r, uint64_t bytes)
{
    _Atomic int *const at = &known[pool == NULL ? 1 : cpu_pool_n_threads(pool)];
    int streams = *at, none = 0;
    if (streams == 0) {
        streams = fastest_way(pool, r, bytes);
        streams = atomic_compare_exchange_strong(at, &none, streams) ? streams : none;
    }
    r->streams = streams;
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
    choose_way(p->pool, &p->r, bytes);
    *out = p;
    return BNT_OK;
}

double bandwidth_probe_run(struct bandwidth_probe *p)
{
    return best_pass(p->pool, &p->r, p->bytes, 0);
}

int bandwidth_probe_streams(const struct bandwidth_probe *p)
{
    return p->r.streams;
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
    out->all_streams = p->r.streams;
    out->all_gb_per_s = best_pass(p->pool, &p->r, p->bytes, BUDGET_NS / 2);
    choose_way(NULL, &p->r, p->bytes);
    out->one_streams = p->r.streams;
    out->one_gb_per_s =
        threads == 1 ? out->all_gb_per_s : best_pass(NULL, &p->r, p->bytes, BUDGET_NS / 2);
    out->n_threads = threads;
    out->buffer_bytes = p->bytes;
    out->elapsed_ns = bnt_clock_now_ns() - start;
    bandwidth_probe_free(p);
    return BNT_OK;
}

enum bnt_status bandwidth_streams(int n_threads, int *out, struct bnt_err *err)
{
    const int threads = n_threads > 0 ? n_threads : bnt_cpu_count();
    struct bandwidth_probe *p = NULL;
    enum bnt_status st = BNT_OK;
    if (threads > CPU_POOL_MAX_THREADS || known[threads] == 0) {
        st = bandwidth_probe_new(threads, &p, err);
    }
    *out = st == BNT_OK ? known[threads] : 1;
    bandwidth_probe_free(p);
    return st;
}
