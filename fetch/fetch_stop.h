/* When a fetch has to end before it is done: the user asked for it, or its time is over. Whatever
 * waits or works for long asks here now and then. */
#ifndef BNT_FETCH_FETCH_STOP_H
#define BNT_FETCH_FETCH_STOP_H

#include "fetch/bnt_fetch.h"

/* OK, or INTERRUPTED or TIME; `doing` says at what, for the message. */
enum bnt_status fetch_stop(const struct bnt_fetch_opts *opts, const char *doing,
                           struct bnt_err *err);

/* What is left of the time; UINT64_MAX when there is no limit. */
uint64_t fetch_left_ns(const struct bnt_fetch_opts *opts);

/* A bnt_digest_progress_fn; ctx is the bnt_fetch_opts. */
int fetch_stop_digest(void *ctx, uint64_t done_bytes);

#endif
