/* Two ways to end, one question. */
#include "fetch/fetch_stop.h"

#include "base/clock.h"
#include "base/fault.h"

uint64_t fetch_left_ns(const struct bnt_fetch_opts *opts)
{
    if (opts->deadline_ns == 0 || BNT_FAULT(fetch_deadline)) {
        return UINT64_MAX;
    }
    uint64_t now_ns = bnt_clock_now_ns();
    return now_ns < opts->deadline_ns ? opts->deadline_ns - now_ns : 0;
}

enum bnt_status fetch_stop(const struct bnt_fetch_opts *opts, const char *doing,
                           struct bnt_err *err)
{
    if (opts->interrupted && *opts->interrupted) {
        return bnt_err_set(err, BNT_E_INTERRUPTED, "interrupted %s", doing);
    }
    if (fetch_left_ns(opts) > 0) {
        return BNT_OK;
    }
    enum bnt_status st = bnt_err_set(err, BNT_E_TIME, "the time for fetching was over %s", doing);
    bnt_err_hint(err, "give it more time with --timeout");
    return st;
}

int fetch_stop_digest(void *ctx, uint64_t done_bytes)
{
    (void)done_bytes;
    return fetch_stop(ctx, "", NULL) != BNT_OK;
}
