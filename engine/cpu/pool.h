/* A pool of threads that spin briefly, then park. One caller at a time.
 *
 * More threads than processors is no disaster: such a pool parks at once, wakes no more threads
 * than there are processors, and never waits for a thread that has no piece. Workers block all
 * signals. A child of fork() has no workers: make a pool after forking, and do not touch the
 * parent's. */
#ifndef BNT_POOL_H
#define BNT_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct cpu_pool;
enum { CPU_POOL_MAX_THREADS = 1024 };

/* n_threads counts the caller: 1 starts no thread. */
enum bnt_status cpu_pool_new(int n_threads, struct cpu_pool **out, struct bnt_err *err);
/* Of all processors that this process may use. */
enum bnt_status cpu_pool_new_shared(struct cpu_pool **out, struct bnt_err *err);
void cpu_pool_free(struct cpu_pool *p);
int cpu_pool_n_threads(const struct cpu_pool *p);

/* Call fn(ctx, begin, end, thread) over pieces of [0, n) until all is done; pieces are at most
 * `chunk` long and are taken by whoever is free, the caller included; thread in [0, n_threads)
 * names private scratch. Returns when all pieces are done. Which thread runs which piece is not
 * fixed: results must not depend on it. */
typedef void cpu_pool_fn(void *ctx, size_t begin, size_t end, int thread);
void cpu_pool_run(struct cpu_pool *p, size_t n, size_t chunk, cpu_pool_fn *fn, void *ctx);

/* By a shared pool that is made for it and freed. Errors: those of cpu_pool_new. */
enum bnt_status cpu_pool_run_once(size_t n, size_t chunk, cpu_pool_fn *fn, void *ctx,
                                  struct bnt_err *err);

#endif
