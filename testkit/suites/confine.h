/* What the kernel holds a test to, where it can: files (Landlock), signals to others (Landlock),
 * network (a namespace with nothing but loopback), memory (RLIMIT_AS; testkit/memory_group.h). What
 * it cannot do here is reported, once, and never silently.
 *
 *   read and run   the system's folders, those of PATH, the source tree, the build, the shared
 *                  folder, the model under test and the files that needs name
 *   write          the test's own folder, and its control group if it says `makes_groups`;
 *                  /dev/null and its like; the source tree with BNT_UPDATE_GOLDEN, the build in a
 *                  coverage build
 *   signal         itself and what it started
 *   connect        loopback, unless the test or one of its needs opens the network
 *
 * BNT_TEST_CONFINE=0 switches files, signals and network off, for a debugger's sake. */
#ifndef SUITES_CONFINE_H
#define SUITES_CONFINE_H

#include <stdbool.h>

#include "testkit/suite.h"

struct body_spec;

/* Bits of what is not enforced here. */
enum confine_gap {
    CONFINE_FILES = 1,
    CONFINE_SIGNALS = 2,
    CONFINE_NETWORK = 4,
    CONFINE_OFF = 8,
    CONFINE_MEMORY = 16 /* set by isolate.c, which makes the control group */
};

/* In the process that forks, before each fork: makes the namespace that the test will enter, kept
 * from then on. */
void confine_prepare(const struct suite_test *test);
/* In the test's process, while it has one thread: closes every descriptor past standard error and
 * gives up the rest. What could not be enforced is in spec->page->not_enforced. False: spec->page->
 * trouble says why the test must not run. */
bool confine_enter(const struct body_spec *spec);
/* "files (this kernel has no Landlock), ..."; "" for 0. Valid until the next call. */
const char *confine_gaps(unsigned gaps);

#endif
