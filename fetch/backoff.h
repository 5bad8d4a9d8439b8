/* How long to wait before a request is repeated. Pure functions: whoever waits, waits by
 * base/clock.h. */
#ifndef BNT_FETCH_BACKOFF_H
#define BNT_FETCH_BACKOFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BACKOFF_FIRST_MS 500
#define BACKOFF_CEILING_MS 30000
#define BACKOFF_ASKED_MAX_S 31536000 /* a year: in nanoseconds and beside a clock it fits */

/* Full jitter: a time between 0 and min(BACKOFF_CEILING_MS, BACKOFF_FIRST_MS * 2^(failures - 1)),
 * picked by `random`, so that many clients of one server that failed do not come back together.
 * failures counts from 1. */
uint64_t backoff_wait_ns(unsigned failures, uint64_t random);
/* Bits of the kernel for the above. */
uint64_t backoff_random(void);

/* Seconds to wait that a header asks for, at most BACKOFF_ASKED_MAX_S, or -1 when it asks for
 * nothing that is understood, or for none: 0, and a date that is over by a clock that goes wrong,
 * would spend all attempts within milliseconds on a server that says that it has too much to do.
 *
 *     Retry-After: 120 | Wed, 21 Oct 2015 07:28:00 GMT
 *     RateLimit-Reset: 50                              seconds
 *     X-RateLimit-Reset: 50 | 1445412480               seconds, or Unix time
 *     RateLimit: "default";r=0;t=50 | limit=10, remaining=0, reset=50
 *
 * now_s: Unix time; where the answer has a Date, that one, so that clocks need not agree. */
int64_t backoff_header_wait_s(const char *name, const char *value, int64_t now_s);
/* Unix time of an HTTP-date; false when it is none. */
bool backoff_http_date(const char *value, int64_t *unix_s);

#endif
