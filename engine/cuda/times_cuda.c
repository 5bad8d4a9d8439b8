/* The time of each kernel, for who asks for it with BNT_CUDA_TIMES=FILE: launches are waited for
 * one by one, and nothing is captured. A line per kernel is appended to the file when the session
 * ends: its name, launches, microseconds in all. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/cuda/backend_cuda.h"

enum bnt_status cuda_times_open(const char *path, struct cuda_times **out, struct bnt_err *err)
{
    struct cuda_times *t = calloc(1, sizeof *t);
    if (!t) {
        return bnt_err_nomem(err, "times of kernels", sizeof *t);
    }
    t->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (t->fd < 0) {
        enum bnt_status st = bnt_err_errno(err, "cannot write BNT_CUDA_TIMES, %s", path);
        free(t);
        return st;
    }
    *out = t;
    return BNT_OK;
}

enum cuda_code cuda_launch_timed(const struct backend_cuda *b, const struct cuda_launch *l)
{
    struct cuda_times *t = b->times;
    double us = 0;
    enum cuda_code code = b->table->launch_timed(b->context, l, &us);
    if (code == CUDA_OK) {
        t->n[l->kernel]++;
        t->us[l->kernel] += us;
    }
    return code;
}

void cuda_times_close(struct cuda_times *t)
{
    static const char *const names[] = {
#define KERNEL_NAME(id, fn, type) #fn,
        CUDA_KERNEL_TABLE(KERNEL_NAME)
#undef KERNEL_NAME
    };
    for (uint32_t i = 0; t && i < CUDA_N_KERNELS; i++) {
        if (t->n[i] >
            0) { /* a line that finds no room is missing, and the session is what it was */
            dprintf(t->fd, "%-16s %8llu %12.1f\n", names[i], (unsigned long long)t->n[i], t->us[i]);
        }
    }
    if (t) {
        close(t->fd);
    }
    free(t);
}
