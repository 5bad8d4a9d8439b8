/* The end in time of a command that fetches: by itself at the deadline, and soon after it by force
 * where something does not look at the clock. */
#ifndef BNT_CMD_DEADLINE_H
#define BNT_CMD_DEADLINE_H

#include "fetch/bnt_fetch.h"

#define CMD_DEADLINE_HELP                                                                          \
    "of all together: seconds, or with a unit (15m); 0: none; exit code 19 [900]"

struct cmd_deadline {
    const char *option; /* what --timeout says; NULL: nothing */
    int64_t manifest_s; /* what the manifest says; 0: nothing, or it is not known yet */
    uint64_t began_ns;  /* of the monotonic clock */
    bool json;          /* a last event goes to standard output when it ends by force */
};

/* Set it, or set it anew: --timeout, else BNT_FETCH_TIMEOUT, else the manifest's, else 15 minutes,
 * from the beginning on. Errors: USAGE. */
enum bnt_status cmd_deadline_set(const struct cmd_deadline *d, struct bnt_fetch_opts *opts,
                                 struct bnt_err *err);
/* What is left of the command needs no end. */
void cmd_deadline_over(void);

#endif
