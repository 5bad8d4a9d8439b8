/* The kill matrix: which planted defects the suites saw. ci/check_faults.sh writes it, a line per
 * pair, separated by tabs: defect, suite, "killed", "survived" or "skipped", the test that failed.
 */
#ifndef TESTKIT_KILLS_H
#define TESTKIT_KILLS_H

#include "base/buf.h"
#include "base/status.h"

struct kill_pair {
    const char *defect, *suite, *verdict, *test; /* into the text */
};

struct kills {
    size_t n;
    struct kill_pair *at;
    char *text; /* owned */
};

/* out: zeroed. Errors: FILE with the line that is none. */
enum bnt_status kills_read(const char *path, struct kills *out, struct bnt_err *err);
void kills_release(struct kills *k);

#endif
