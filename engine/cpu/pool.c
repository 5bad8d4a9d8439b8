/* The thread pool.
 *
 * The pieces of a job are dealt out in advance: every thread has a share of neighbouring pieces and
 * takes them in order, so that it walks through memory; who has none left takes the last piece of
 * another's share. A share is one 64-bit word: the job's number (high half), the end of the pieces
 * that are left and the next of them (16 bits each). A piece is taken by a compare-and-swap of that
 * word, which fails if the share or the job has changed meanwhile.
 *
 * Invariants:
 *   - the job's fields (fn, ctx, n, chunk) change only while all shares are empty, since run()
 *     returns only when all pieces are done; so a thread whose swap succeeded, which read the
 *     fields after the share, read those of that very job, and its piece keeps the job alive;
 *   - threads that sleep or are late are never waited for: a pool of more threads than processors
 *     does not crawl;
 *   - `parked` is raised before the last look at the shares, and the shares are dealt before the
 *     look at `parked`, both sequentially consistent: a wake-up cannot be lost. The same holds for
 *     `caller_waits` and `n_done`.
 *
 * Job numbers are 32 bits; a thread would have to sleep between two instructions for 2^31 jobs to
 * mistake one. */
#include "engine/cpu/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/sysinfo.h"
#include "base/thread.h"

#define MAX_PIECES 0xffffu
/* Rounds of spinning before a thread parks: tens of microseconds, longer than the serial work
 * between two jobs. */
#define SPIN_ROUNDS 4000

struct worker {
    struct cpu_pool *pool;
    pthread_t id;
    int thread;
};

/* A share on a line of its own: its owner writes it for every piece. */
struct share {
    _Alignas(64) _Atomic uint64_t word;
};

struct cpu_pool {
    _Alignas(64) _Atomic uint32_t job;    /* number of the last job that was dealt */
    _Alignas(64) _Atomic uint32_t n_done; /* pieces */
    _Atomic bool caller_waits;
    _Alignas(64) _Atomic(cpu_pool_fn *) fn;
    _Atomic(void *) ctx;
    _Atomic size_t n, chunk;
    _Atomic uint32_t n_pieces;

    _Alignas(64) pthread_mutex_t lock; /* for the two conditions only */
    pthread_cond_t work, done;
    _Atomic int parked;
    _Atomic bool stop;
    int spin_rounds; /* 0 when there are more threads than processors */
    int n_useful;    /* processors */
    int n_threads, n_started;
    struct worker *workers; /* n_threads - 1 */
    struct share *shares;   /* n_threads */
};

static uint64_t share_word(uint32_t job, uint32_t next, uint32_t end)
{
    return (uint64_t)job << 32 | end << 16 | next;
}

static uint32_t share_next(uint64_t word)
{
    return (uint32_t)word & 0xffff;
}

static uint32_t share_end(uint64_t word)
{
    return (uint32_t)word >> 16;
}

static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* Take one piece of a share, its owner the first and others the last, and run it. False: the share
 * is empty. */
static bool take_piece(struct cpu_pool *p, int owner, int thread)
{
    _Atomic uint64_t *share = &p->shares[owner].word;
    uint64_t word = atomic_load(share);
    for (;;) {
        uint32_t next = share_next(word), end = share_end(word);
        if (next >= end) {
            return false;
        }
        cpu_pool_fn *fn = atomic_load_explicit(&p->fn, memory_order_acquire);
        void *ctx = atomic_load_explicit(&p->ctx, memory_order_acquire);
        size_t n = atomic_load_explicit(&p->n, memory_order_acquire);
        size_t chunk = atomic_load_explicit(&p->chunk, memory_order_acquire);
        bool own = owner == thread;
        uint32_t job = (uint32_t)(word >> 32);
        uint64_t left = own ? share_word(job, next + 1, end) : share_word(job, next, end - 1);
        if (atomic_compare_exchange_weak(share, &word, left)) {
            size_t begin = (own ? next : end - 1) * chunk;
            fn(ctx, begin, n - begin < chunk ? n : begin + chunk, thread);
            return true;
        }
    }
}

/* Take and run pieces until no share has any. Returns false when there was none to take. */
static bool work_on_job(struct cpu_pool *p, int thread)
{
    uint32_t mine = 0;
    for (int i = 0; i < p->n_threads; i++) {
        int owner = (thread + i) % p->n_threads;
        while (take_piece(p, owner, thread)) {
            mine++;
        }
    }
    if (mine == 0) {
        return false;
    }
    /* Pieces that are done and not yet counted keep the job alive, so that this is its number. */
    uint32_t n_pieces = atomic_load(&p->n_pieces);
    if (atomic_fetch_add(&p->n_done, mine) + mine == n_pieces && atomic_load(&p->caller_waits)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
    return true;
}

static bool work_left(struct cpu_pool *p)
{
    for (int i = 0; i < p->n_threads; i++) {
        uint64_t word = atomic_load(&p->shares[i].word);
        if (share_next(word) < share_end(word)) {
            return true;
        }
    }
    return false;
}

static void park(struct cpu_pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->parked, 1);
    while (!work_left(p) && !atomic_load(&p->stop)) {
        pthread_cond_wait(&p->work, &p->lock);
    }
    atomic_fetch_sub(&p->parked, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct cpu_pool *p = w->pool;
    uint32_t seen = 0;
    while (!atomic_load(&p->stop)) {
        for (int i = 0; i < p->spin_rounds && atomic_load(&p->job) == seen; i++) {
            relax();
        }
        seen = atomic_load(&p->job);
        if (!work_on_job(p, w->thread)) {
            park(p);
        }
    }
    return NULL;
}

enum bnt_status cpu_pool_new(int n_threads, struct cpu_pool **out, struct bnt_err *err)
{
    if (n_threads < 1 || n_threads > CPU_POOL_MAX_THREADS) {
        return bnt_err_set(err, BNT_E_USAGE, "number of threads must be 1 to %d, not %d",
                           CPU_POOL_MAX_THREADS, n_threads);
    }
    size_t shares_bytes = (size_t)n_threads * sizeof(struct share);
    struct cpu_pool *p = aligned_alloc(_Alignof(struct cpu_pool), sizeof(*p));
    struct share *shares = aligned_alloc(_Alignof(struct share), shares_bytes);
    struct worker *workers = calloc((size_t)n_threads, sizeof(*workers));
    if (p == NULL || shares == NULL || workers == NULL) {
        free(p);
        free(shares);
        free(workers);
        return bnt_err_nomem(err, "a thread pool",
                             sizeof(*p) + shares_bytes + (size_t)n_threads * sizeof(*workers));
    }
    memset(p, 0, sizeof(*p));
    memset(shares, 0, shares_bytes);
    p->workers = workers;
    p->shares = shares;
    p->n_threads = n_threads;
    p->n_useful = bnt_cpu_count();
    p->spin_rounds = n_threads > p->n_useful ? 0 : SPIN_ROUNDS;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 0; i < n_threads - 1; i++) {
        workers[i] = (struct worker){.pool = p, .thread = i + 1};
        int rc = bnt_thread_start(&workers[i].id, worker_main, &workers[i]);
        if (rc != 0) {
            cpu_pool_free(p);
            return bnt_err_set(err, BNT_E_FAILED, "cannot start thread %d of %d: %s", i + 2,
                               n_threads, strerror(rc));
        }
        p->n_started++;
    }
    *out = p;
    return BNT_OK;
}

void cpu_pool_free(struct cpu_pool *p)
{
    if (p == NULL) {
        return;
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, true);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_started; i++) {
        pthread_join(p->workers[i].id, NULL);
    }
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p->shares);
    free(p);
}

int cpu_pool_n_threads(const struct cpu_pool *p)
{
    return p->n_threads;
}

/* Wake sleepers, but not more than there are pieces for them or processors to run them. */
static void wake_workers(struct cpu_pool *p, uint32_t n_pieces)
{
    int parked = atomic_load(&p->parked);
    if (parked == 0) {
        return;
    }
    int wanted = p->n_useful - 1 > 0 ? p->n_useful - 1 : 1;
    if ((uint32_t)wanted > n_pieces - 1) {
        wanted = (int)(n_pieces - 1);
    }
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < wanted && i < parked; i++) {
        pthread_cond_signal(&p->work);
    }
    pthread_mutex_unlock(&p->lock);
}

static void wait_for_pieces(struct cpu_pool *p, uint32_t n_pieces)
{
    for (int i = 0; i < p->spin_rounds; i++) {
        if (atomic_load(&p->n_done) == n_pieces) {
            return;
        }
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_waits, true);
    while (atomic_load(&p->n_done) != n_pieces) {
        pthread_cond_wait(&p->done, &p->lock);
    }
    atomic_store(&p->caller_waits, false);
    pthread_mutex_unlock(&p->lock);
}

/* Hand the pieces of a new job out, each thread a share of neighbours. From the first store on
 * others may work. */
static void deal(struct cpu_pool *p, uint32_t n_pieces)
{
    uint32_t job = atomic_load(&p->job) + 1, threads = (uint32_t)p->n_threads;
    for (uint32_t i = 0; i < threads; i++) {
        uint32_t next = (uint32_t)((uint64_t)n_pieces * i / threads);
        uint32_t end = (uint32_t)((uint64_t)n_pieces * (i + 1) / threads);
        atomic_store(&p->shares[i].word, share_word(job, next, end));
    }
    atomic_store(&p->job, job);
}

void cpu_pool_run(struct cpu_pool *p, size_t n, size_t chunk, cpu_pool_fn *fn, void *ctx)
{
    if (n == 0) {
        return;
    }
    chunk = chunk == 0 ? 1 : chunk;
    if (n / chunk >= MAX_PIECES) {
        chunk = n / (MAX_PIECES / 2) + 1;
    }
    if (p->n_threads == 1 || n <= chunk) {
        for (size_t begin = 0; begin < n; begin += chunk) {
            fn(ctx, begin, n - begin < chunk ? n : begin + chunk, 0);
        }
        return;
    }
    uint32_t n_pieces = (uint32_t)((n + chunk - 1) / chunk) - BNT_FAULT(pool_piece);
    atomic_store_explicit(&p->fn, fn, memory_order_release);
    atomic_store_explicit(&p->ctx, ctx, memory_order_release);
    atomic_store_explicit(&p->n, n, memory_order_release);
    atomic_store_explicit(&p->chunk, chunk, memory_order_release);
    atomic_store_explicit(&p->n_pieces, n_pieces, memory_order_release);
    atomic_store(&p->n_done, 0);
    deal(p, n_pieces);
    wake_workers(p, n_pieces);
    work_on_job(p, 0);
    wait_for_pieces(p, n_pieces);
}

enum bnt_status cpu_pool_new_shared(struct cpu_pool **out, struct bnt_err *err)
{
    int n = bnt_cpu_count();
    return cpu_pool_new(n < CPU_POOL_MAX_THREADS ? n : CPU_POOL_MAX_THREADS, out, err);
}

enum bnt_status cpu_pool_run_once(size_t n, size_t chunk, cpu_pool_fn *fn, void *ctx,
                                  struct bnt_err *err)
{
    struct cpu_pool *pool;
    enum bnt_status st = cpu_pool_new_shared(&pool, err);
    if (st == BNT_OK) {
        cpu_pool_run(pool, n, chunk, fn, ctx);
        cpu_pool_free(pool);
    }
    return st;
}
