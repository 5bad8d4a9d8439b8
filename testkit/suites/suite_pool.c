/* Guards the thread pool: a piece that is lost or runs twice, a wake-up that is missed, more
 * threads than processors; and the measurement of memory that runs on it. */
#include "testkit/suite.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "base/rng.h"
#include "engine/bandwidth.h"
#include "engine/cpu/pool.h"

enum { POOL_ITEMS = 1000 };

struct pool_job {
    _Atomic int seen[POOL_ITEMS];
    _Atomic bool bad;
    size_t n, chunk;
    int n_threads;
};

static void mark_items(void *ctx, size_t begin, size_t end, int thread)
{
    struct pool_job *job = ctx;
    if (begin >= end || end > job->n || end - begin > job->chunk || thread < 0 ||
        thread >= job->n_threads) {
        atomic_store(&job->bad, true);
    }
    for (size_t i = begin; i < end; i++) {
        atomic_fetch_add(&job->seen[i], 1);
    }
}

static void pool_runs_every_piece_once(void **state)
{
    (void)state;
    /* 64: more than processors, so that workers park at once and every job must wake some. */
    static const int threads[] = {1, 2, 5, 64};
    for (size_t i = 0; i < sizeof(threads) / sizeof(*threads); i++) {
        struct cpu_pool *pool;
        assert_int_equal(cpu_pool_new(threads[i], &pool, NULL), BNT_OK);
        assert_int_equal(cpu_pool_n_threads(pool), threads[i]);
        static struct pool_job job;
        for (int round = 0; round < 3000; round++) {
            memset(&job, 0, sizeof(job));
            job.n = (size_t)(round * 37 % (POOL_ITEMS + 1));
            job.chunk = (size_t)(1 + round * 13 % 200);
            job.n_threads = threads[i];
            cpu_pool_run(pool, job.n, job.chunk, mark_items, &job);
            assert_false(atomic_load(&job.bad));
            for (size_t j = 0; j < job.n; j++) {
                assert_int_equal(atomic_load(&job.seen[j]), 1);
            }
        }
        cpu_pool_free(pool);
    }
}

static void pool_refuses_absurd_numbers(void **state)
{
    (void)state;
    struct cpu_pool *pool;
    struct bnt_err err = {0};
    assert_int_equal(cpu_pool_new(0, &pool, &err), BNT_E_USAGE);
    assert_int_equal(cpu_pool_new(1 << 20, &pool, NULL), BNT_E_USAGE);
}

/* ---- Bandwidth. */

/* However many streams, every word but what is left over after a multiple of 16 counts once. */
static void streams_read_every_word_once(void **state)
{
    (void)state;
    enum { WORDS = 1024 };
    static uint64_t words[WORDS];
    struct bnt_rng rng;
    bnt_rng_seed(&rng, 5);
    for (size_t i = 0; i < WORDS; i++) {
        words[i] = bnt_rng_next(&rng);
    }
    for (size_t n = 0; n <= WORDS; n++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < n / 16 * 16; i++) {
            sum += words[i];
        }
        for (int streams = 1; streams <= 8; streams *= 2) {
            assert_true(bandwidth_sum(words, n, streams) == sum);
        }
    }
}

static bool is_way(int streams)
{
    return streams == 1 || streams == 2 || streams == 4 || streams == 8;
}

/* Chosen once: who asks again, or measures, is told the same. */
static void bandwidth_is_plausible(void **state)
{
    (void)state;
    struct bandwidth b = {0};
    assert_int_equal(bandwidth_measure(2, &b, NULL), BNT_OK);
    /* From a slow machine under a sanitizer to several times the fastest socket. */
    assert_true(b.one_gb_per_s > 0.05 && b.one_gb_per_s < 5000);
    assert_true(b.all_gb_per_s > 0.05 && b.all_gb_per_s < 5000);
    assert_true(b.n_threads == 2 && b.buffer_bytes >= 32u << 20 && b.elapsed_ns > 0);
    assert_true(is_way(b.one_streams) && is_way(b.all_streams));
    int streams = 0;
    assert_int_equal(bandwidth_streams(2, &streams, NULL), BNT_OK);
    assert_int_equal(streams, b.all_streams);
    assert_int_equal(bandwidth_streams(1, &streams, NULL), BNT_OK);
    assert_int_equal(streams, b.one_streams);
    assert_int_equal(bandwidth_streams(CPU_POOL_MAX_THREADS + 1, &streams, NULL), BNT_E_USAGE);
}

static const struct suite_test tests[] = {
    {.name = "pool_runs_every_piece_once", .body = pool_runs_every_piece_once, .timeout_ms = 30000},
    {.name = "pool_refuses_absurd_numbers", .body = pool_refuses_absurd_numbers},
    {.name = "pool_streams_read_every_word_once", .body = streams_read_every_word_once},
    {.name = "pool_bandwidth_is_plausible", .body = bandwidth_is_plausible},
    {0},
};
const struct suite suite_pool = {"pool", tests, "pool_piece bandwidth_rest"};
