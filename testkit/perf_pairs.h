/* Times of two programs, measured in turn: `BASE bench --json` and `HEAD bench --json`, each in a
 * fresh process, since where memory falls makes one process of the same program faster than the
 * next. The order alternates: base first, then head first. One pair more than asked for runs before
 * the others and does not count: it finds out whether both can do the work. A server can take the
 * place of BASE (perf_server.h). */
#ifndef TESTKIT_PERF_PAIRS_H
#define TESTKIT_PERF_PAIRS_H

#include <signal.h>
#include <stdbool.h>

#include "base/digest.h"
#include "base/opt.h"
#include "engine/bench.h"
#include "testkit/perf_verdict.h"

enum { PERF_FIGURES_MAX = BENCH_LENGTHS_MAX + 1, PERF_ARGS_MAX = 40 + 2 * BNT_STRS_MAX };

enum perf_clock {
    PERF_CPU,          /* processor time, which others on the machine do not lengthen */
    PERF_WALL,         /* the time that passes */
    PERF_INSTRUCTIONS, /* millions of them in a whole run, counted by valgrind's cachegrind */
};

struct perf_server;

struct perf_plan {
    const char *base, *head; /* paths of the programs */
    struct perf_server
        *server; /* instead of base, whose address that is then; its clock is PERF_WALL */
    const char *const *options; /* of `bench`, NULL-terminated, at most PERF_ARGS_MAX */
    enum perf_clock clock;
    size_t n_pairs;
    unsigned timeout_ms;                                        /* of one run; 0: none */
    const volatile sig_atomic_t *interrupted;                   /* may be NULL */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* of pairs; may be NULL */
    void *ctx;
};

/* A prompt length ("prompt 200") or the single tokens ("token"): per run the time of its fastest
 * repetition, milliseconds; of single tokens, of all in a repetition. Or "instructions", alone. */
struct perf_figure {
    char name[32];
    struct perf_pair *pairs; /* n_pairs of the plan */
    size_t n;
};

/* What a program said of itself in its first run. */
struct perf_program {
    char version[32], build[16], kernel[32];
    int n_threads;
};

struct perf_pairs {
    struct perf_figure figures[PERF_FIGURES_MAX];
    size_t n_figures;
    struct perf_program base, head;
    char model[BNT_SHA256_HEX];
};

/* out: zeroed; release it whatever comes back. Errors: NOT_FOUND a program that is not there;
 * UNSUPPORTED one that has no such `bench`, or no valgrind; FAILED a run that failed, with what it
 * said; TIME; DIFFERS when both measured different models; INTERRUPTED. */
enum bnt_status perf_pairs_measure(const struct perf_plan *plan, struct perf_pairs *out,
                                   struct bnt_err *err);
void perf_pairs_release(struct perf_pairs *p);

#endif
