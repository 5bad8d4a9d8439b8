/* The rates of this machine for a model of time (engine/speed_model.h), each measured by itself. */
#ifndef BNT_SPEED_PROBE_H
#define BNT_SPEED_PROBE_H

#include "engine/op_time.h"
#include "engine/speed_model.h"

enum { SPEED_MACHINES_MAX = 16 };

struct speed_probe_plan {
    const struct speed_shape *shape;
    const char *path;   /* of the model, whose own pages are read; NULL: it is not there */
    const char *kernel; /* as of a session */
    uint32_t batches[SPEED_BATCHES_MAX];
    size_t n_batches;
    int threads[SPEED_MACHINES_MAX]; /* a machine of each number; the first is 1 */
    size_t n_threads;
    uint32_t repetitions;
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

#endif
