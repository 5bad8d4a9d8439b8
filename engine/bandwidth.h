/* Speed of reading memory, measured: the yardstick for decoding, which is bound by it.
 *
 * What is read is summed. A thread walks a piece of memory in 1, 2, 4 or 8 places at once, its
 * streams: in as many as are fastest here, found by turns once per process and number of threads,
 * and the fewer where it makes no difference. */
#ifndef BNT_BANDWIDTH_H
#define BNT_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct bandwidth {
    double one_gb_per_s; /* one thread; 10^9 bytes */
    double all_gb_per_s; /* n_threads together */
    int n_threads;
    int one_streams, all_streams; /* of each thread, with one and with all */
    uint64_t
        buffer_bytes;    /* what was read; several times the last-level cache where memory allows */
    uint64_t elapsed_ns; /* what the measurement took, buffer included */
};

/* The sum of n words, by one thread in so many streams; what is left over after a multiple of 16 is
 * left out. */
uint64_t bandwidth_sum(const uint64_t *words, size_t n, int streams);

/* The streams for so many threads (0: as many as this process may use), measured unless that was
 * done: a tenth of a second. Errors: as of bandwidth_measure. */
enum bnt_status bandwidth_streams(int n_threads, int *out, struct bnt_err *err);

/* Bytes that no cache holds and that this process may well take. */
uint64_t bandwidth_buffer_bytes(void);

/* The best of a few passes, in half a second or so: other work on the machine lowers the result.
 * n_threads 0: as many as this process may use. Errors: MEMORY; FAILED when threads cannot be
 * started. */
enum bnt_status bandwidth_measure(int n_threads, struct bandwidth *out, struct bnt_err *err);

/* The same again and again, with one buffer and one set of threads: what all threads together read
 * in this moment, GB/s, the better of two passes (some 10 ms). Errors of new: as above. */
struct bandwidth_probe;
enum bnt_status bandwidth_probe_new(int n_threads, struct bandwidth_probe **out,
                                    struct bnt_err *err);
double bandwidth_probe_run(struct bandwidth_probe *p);
int bandwidth_probe_streams(const struct bandwidth_probe *p);
void bandwidth_probe_free(struct bandwidth_probe *p);

#endif
