/* Another machine for the model of time: what is said of it, and what is taken over from here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "engine/speed_probe.h"
#include "testkit/cmd_bench_impl.h"

enum { MACHINE_FILE_MAX = 4096 };

static const struct {
    const char *key;
    size_t offset;
    double least, most;
} keys[] = {
    {"cores", offsetof(struct bench_machine, cores), 1, BNT_MAX_THREADS},
    {"bandwidth", offsetof(struct bench_machine, gb_per_s), 0.1, 1e5},
    {"peak", offsetof(struct bench_machine, gmacs), 0.1, 1e7},
    {"job_us", offsetof(struct bench_machine, job_us), 0.001, 1e6},
    {"core_speed", offsetof(struct bench_machine, core_speed), 0.001, 1e3},
    {"cache_mb", offsetof(struct bench_machine, cache_mb), 0.001, 1e5},
    {"zeros", offsetof(struct bench_machine, zeros), 0, 0.99},
};

static enum bnt_status take_pair(const char *at, size_t len, struct bench_machine *out,
                                 struct bnt_err *err)
{
    const size_t key = strcspn(at, "=");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (key >= len || strlen(keys[i].key) != key || strncmp(at, keys[i].key, key) != 0) {
            continue;
        }
        char *end;
        const double value = strtod(at + key + 1, &end);
        if (end != at + len || end == at + key + 1 || !(value >= keys[i].least) ||
            !(value <= keys[i].most) || (i == 0 && value != floor(value))) {
            return bnt_err_set(err, BNT_E_USAGE, "--machine: %s must be a %snumber from %g to %g",
                               keys[i].key, i == 0 ? "whole " : "", keys[i].least, keys[i].most);
        }
        memcpy((char *)out + keys[i].offset, &value, sizeof value);
        return BNT_OK;
    }
    bnt_err_set(err, BNT_E_USAGE, "--machine: \"%.*s\" is not known", (int)(len < 40 ? len : 40),
                at);
    bnt_err_hint(err, "cores=N,bandwidth=GB/s, and if known peak=GMAC/s, job_us=N, core_speed=N, "
                      "cache_mb=N, zeros=PART");
    return BNT_E_USAGE;
}

/* Pairs between commas, blanks and line ends; a line from # on is a comment. */
static enum bnt_status take_pairs(const char *text, struct bench_machine *out, struct bnt_err *err)
{
    enum bnt_status st = BNT_OK;
    for (const char *at = text; *at != '\0' && st == BNT_OK;) {
        const size_t len = strcspn(at, ", \t\r\n#");
        if (len > 0) {
            st = take_pair(at, len, out, err);
        }
        at += len;
        at += *at == '#' ? strcspn(at, "\n") : *at != '\0';
    }
    if (st == BNT_OK && (out->cores == 0 || out->gb_per_s == 0)) {
        st = bnt_err_set(err, BNT_E_USAGE, "--machine: cores and bandwidth must be said");
    }
    return st;
}

enum bnt_status bench_machine_parse(const char *text, struct bench_machine *out,
                                    struct bnt_err *err)
{
    *out = (struct bench_machine){.zeros = -1};
    if (strchr(text, '=')) {
        return take_pairs(text, out, err);
    }
    struct bnt_buf file = BNT_BUF(MACHINE_FILE_MAX);
    enum bnt_status st = bnt_file_read(text, &file, err);
    st = st == BNT_OK ? take_pairs(bnt_buf_view(&file), out, err) : st;
    bnt_buf_release(&file);
    return st;
}

/* Of the machine with most threads here: its shares, and its jobs, which grow with the threads. */
enum bnt_status bench_machine_of(const struct bench_machine *said, const struct speed_probe *probe,
                                 struct speed_machine *out, struct bnt_err *err)
{
    const struct speed_machine *here = &probe->machines[probe->n_machines - 1];
    *out = *here;
    out->n_threads = (int)said->cores;
    out->gb_per_s = said->gb_per_s;
    out->dot_speed = said->gmacs > 0 ? said->gmacs / said->cores / probe->rates.gmacs : 1;
    out->step_speed = said->core_speed > 0 ? said->core_speed : 1;
    out->job_ns = said->job_us * 1e3;
    if (said->cache_mb > 0) {
        out->cache_bytes = (uint64_t)(said->cache_mb * 1e6);
    }
    if (out->job_ns == 0 && said->cores > 1) {
        if (here->n_threads == 1) {
            bnt_err_set(err, BNT_E_UNSUPPORTED,
                        "what a job costs cannot be measured here with one thread");
            bnt_err_hint(err, "say it: --machine ...,job_us=N");
            return BNT_E_UNSUPPORTED;
        }
        out->job_ns = here->job_ns * (said->cores - 1) / (here->n_threads - 1);
    }
    return BNT_OK;
}

static void tell_zeros(const struct bench_machine *said, const struct speed_shape *s,
                       const struct speed_machine *m)
{
    if (speed_by_columns(s)) {
        printf("  zeros         %.0f %% of what meets down (%s): these columns are not read, the "
               "others at %.0f %% of memory's speed\n",
               100 * s->zeros, said->zeros_from, 100 * m->columns_share);
    } else {
        printf("  zeros         none are left out (%s)\n", said->zeros_from);
    }
}

void bench_machine_tell(const struct bench_machine *said, const struct speed_probe *probe,
                        const struct speed_shape *s, const struct speed_machine *m)
{
    const struct speed_machine *here = &probe->machines[probe->n_machines - 1];
    printf("assumed of %d cores:\n", m->n_threads);
    printf("  memory        %.1f GB/s for a plain sum (said); all cores reach what %d thread%s "
           "do%s here: %.0f %% of it with ternary weights in 2 bits",
           m->gb_per_s, here->n_threads, here->n_threads == 1 ? "" : "s",
           here->n_threads == 1 ? "es" : "", 100 * m->ternary_share);
    if (s->w[W_UP].fives_bytes > 0) {
        printf(", %.0f %% in 1.6", 100 * m->fives_share);
    }
    printf(", %.0f %% with the head\n", 100 * m->head_share);
    if (s->copy_bytes > 0) {
        printf("  copies        %.2f GB of them for single tokens, as they are made here, are kept "
               "there too\n",
               (double)s->copy_bytes / 1e9);
    } else {
        printf("  copies        none for single tokens: so it is with --packed off, and with small "
               "models\n");
    }
    tell_zeros(said, s, m);
    printf("  dot products  %.0f GMAC/s (%s)\n", probe->rates.gmacs * m->dot_speed * m->n_threads,
           said->gmacs > 0 ? "said" : "each core as one here");
    printf("  sharing       cores together reach the part of their speed alone that %d do here\n",
           here->n_threads);
    printf("  other steps   a core is %g times as fast as one here (%s)\n", m->step_speed,
           said->core_speed > 0 ? "said" : "assumed");
    printf("  a job         %.2f us (%s)\n", m->job_ns / 1e3,
           said->job_us > 0 ? "said" : "what one costs here, in proportion to the other threads");
    printf("  cache         %.1f MB for weights (%s)\n", (double)m->cache_bytes / 1e6,
           said->cache_mb > 0 ? "said" : "as here");
    printf("  kernels       %s, all cores doing nothing else at the speed they have alone\n\n",
           probe->kernel);
}
