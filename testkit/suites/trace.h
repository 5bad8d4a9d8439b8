/* Stacks of a test's threads, taken while it still is as it was.
 *
 * By gdb where it is installed (BNT_TEST_BACKTRACE=gdb, the default), else by a signal to each
 * thread, whose handler writes its return addresses to the test's page (=self; a thread that blocks
 * the signal, or stopped, has none). =off: none. Both have a bound of a few seconds. */
#ifndef SUITES_TRACE_H
#define SUITES_TRACE_H

#include <sys/types.h>

#include "base/buf.h"
#include "testkit/suites/body.h"

/* Before the first fork: the unwinder loads its library now, never in a signal handler. */
void trace_prepare(void);
/* Append the stacks of a running test to out. */
void trace_take(pid_t pid, struct body_page *page, struct bnt_buf *out);
/* Append what the page holds: the stack of a crash. */
void trace_show(const struct body_page *page, struct bnt_buf *out);

#endif
