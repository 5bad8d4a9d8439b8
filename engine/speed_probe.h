/* The rates of this machine for a model of time (engine/speed_model.h), each measured by itself. */
#ifndef BNT_SPEED_PROBE_H
#define BNT_SPEED_PROBE_H

#include "engine/bnt_infer.h"
#include "engine/op_time.h"
#include "engine/speed_model.h"

enum { SPEED_MACHINES_MAX = 16 };

struct speed_probe_plan {
    const struct speed_shape *shape;
    const char *kernel; /* as of a session */
    uint32_t batches[SPEED_BATCHES_MAX];
    size_t n_batches;
    int threads[SPEED_MACHINES_MAX]; /* a machine of each number; the first is 1 */
    size_t n_threads;
    uint32_t repetitions;
    const volatile sig_atomic_t *interrupted; /* may be NULL */
};

struct speed_probe {
    struct speed_rates rates;
    struct speed_machine machines[SPEED_MACHINES_MAX];
    double gmacs[SPEED_MACHINES_MAX]; /* peak of dot products with so many threads */
    size_t n_machines;
    char kernel[16];
};

/* Errors: those of op_timer_run and bandwidth_measure; UNSUPPORTED weights of other types than
 * ternary, F32, F16 and BF16. */
enum bnt_status speed_probe_run(const struct speed_probe_plan *plan, struct speed_probe *out,
                                struct bnt_err *err);

/* The part of zeros in the input of `down` that squared ReLU leaves of n_ff random gates and
 * factors: normal ones, normed and in 8 bits. Errors: those of cpu_kernels_choose; MEMORY. */
enum bnt_status speed_random_zeros(const char *kernel, uint64_t n_ff, double *out,
                                   struct bnt_err *err);

/* What products and steps take in this moment, each by the kernel, the threads and the pages of a
 * session itself. Machines have modes that last for seconds, of memory and of what threads hand one
 * another, so this is asked right before and after what is held against it. */
struct speed_streams {
    double plain_gb_per_s; /* a sum over the head's weights, of its copy where tokens read that */
    double head_ns;        /* as the session computes it: all rows, or screened with the choice */
    uint64_t head_bytes;   /* of every token: of a screened one, its copy */
    /* Of a layer, by batch: its products alone; all of it but attention; rotation and attention,
     * where several tokens share the keys. 0: was not asked for, as are batches larger than the
     * session's. */
    double product_ns[SPEED_BATCHES_MAX], unattended_ns[SPEED_BATCHES_MAX],
        attended_ns[SPEED_BATCHES_MAX];
};
/* After an evaluation, whose logits it forgets; what the session holds stays. Errors: UNSUPPORTED
 * weights that are streamed or looked up in tables, a device that is no CPU; those of the head. */
enum bnt_status speed_streams_probe(struct bnt_session *s, const struct speed_rates *batches,
                                    struct speed_streams *out, struct bnt_err *err);
/* Their medians, for the machine with so many threads. At most SPEED_STREAMS_MAX of them. */
enum { SPEED_STREAMS_MAX = 64 };
void speed_streams_apply(const struct speed_streams *streams, size_t n, const struct speed_shape *s,
                         struct speed_machine *m);

#endif
