/* Places at which tests run side by side, each in a process of its own.
 *
 * A program that lists its tests with worker=yes is started once per slot as `PROGRAM --worker` and
 * asked for one test after another (testkit/suites/worker.h says how); any other is started anew
 * for each test as `PROGRAM --run NAME`. A worker that dies takes one test with it, which is told
 * so, and is replaced. */
#ifndef TESTKIT_SLOTS_H
#define TESTKIT_SLOTS_H

#include "testkit/bnt_test.h"

struct slots;

/* For run->n_jobs tests of run->program at a time. */
enum bnt_status slots_new(struct bnt_test_run *run, struct slots **out, struct bnt_err *err);
/* Ends what runs. What idle workers have to say at their end (a leak report), or which processes
 * had outlived their tests, goes to run->worker_note. */
void slots_free(struct slots *s);

/* The test that runs in slot i; NULL: it is free. */
struct bnt_test *slots_test(const struct slots *s, size_t i);
/* Start t in the free slot i. When that fails t is concluded and the slot stays free. */
void slots_start(struct slots *s, size_t i, struct bnt_test *t);
/* Wait for something to happen, at most wait_ms. */
void slots_serve(struct slots *s, unsigned wait_ms);
/* The test of slot i when it has ended, concluded, and the slot is free again; else NULL. */
struct bnt_test *slots_take_ended(struct slots *s, size_t i);
/* End all that runs; they are to be taken as ended. */
void slots_stop(struct slots *s);

#endif
