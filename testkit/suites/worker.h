/* bnt-suites --worker: runs one test after another for the runner (testkit/slots.h), which spares
 * each the start of a program and maps the model once for all.
 *
 *     in:   run TOKEN NAME\n
 *     out:  record TOKEN EXIT BYTES\n  and BYTES of what `bnt-suites --run NAME` would print,
 *           whose exit code would be EXIT
 *
 * The token is made by the runner for each test and lies in memory that the kernel empties in every
 * forked process: a test cannot answer for its worker, whatever it writes to whatever descriptor.
 */
#ifndef SUITES_WORKER_H
#define SUITES_WORKER_H

#include <signal.h>

#include "base/status.h"
#include "testkit/suites/tap_write.h"

/* Finds a test by its name, or NULL. */
typedef const struct suite_test *worker_find_fn(const char *name, bool corpus);

/* Until standard input ends or *stop. `how` names the program, for the lines about reruns. */
enum bnt_status worker_serve(worker_find_fn *find, const struct tap_tally *how,
                             const volatile sig_atomic_t *stop, struct bnt_err *err);

#endif
