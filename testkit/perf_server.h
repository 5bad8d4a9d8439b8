/* A server of somebody else as one side of a comparison of speed: it evaluates the prompts of
 * `bnt bench` (engine/bench.h), as ids of our tokenizer, and the same number of tokens after the
 * first of them.
 *
 * Its own clock counts where it tells it ("timings" of llama-server and its relatives): the way to
 * it is not what is compared. Else it is the time from question to answer; then single tokens are
 * what n + 1 tokens take longer than one. */
#ifndef TESTKIT_PERF_SERVER_H
#define TESTKIT_PERF_SERVER_H

#include "engine/bench.h"
#include "testkit/subject.h"

struct perf_server;

struct perf_server_plan {
    const char *address, *model;   /* model: our file of what the server is said to run */
    const struct bench_plan *work; /* lengths, n_decode, n_warmups, n_reps */
    const volatile sig_atomic_t *interrupted;
};

/* Errors: those of bnt_subject_open_http and of opening the model; DIFFERS a vocabulary of another
 * size. */
enum bnt_status perf_server_open(const struct perf_server_plan *plan, struct perf_server **out,
                                 struct bnt_err *err);
void perf_server_close(struct perf_server *s); /* NULL is fine */
const struct bench_plan *perf_server_work(const struct perf_server *s);
const char *perf_server_name(const struct perf_server *s); /* of its model, as it says */
bool perf_server_has_clock(const struct perf_server *s);   /* after a run: its times are its own */

/* The fastest of the repetitions, milliseconds: prompt_ms[i] to the first new token after
 * lengths[i] ids; decode_ms of all n_decode tokens. Errors: DIFFERS a prompt that has another
 * number of tokens there; INFERENCE an answer that ended too early or cannot be; those of asking.
 */
struct perf_server_times {
    double prompt_ms[BENCH_LENGTHS_MAX], decode_ms;
};
enum bnt_status perf_server_run(struct perf_server *s, struct perf_server_times *out,
                                struct bnt_err *err);

#endif
