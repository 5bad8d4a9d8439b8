/* Monotonic and calendar time through one seam that tests can replace. */
#ifndef BNT_CLOCK_H
#define BNT_CLOCK_H

#include <stdint.h>

/* Nanoseconds of the monotonic clock; never goes back. */
uint64_t bnt_clock_now_ns(void);
/* Time since 1970-01-01 UTC. */
int64_t bnt_clock_unix_s(void);
int64_t bnt_clock_unix_ns(void);
/* Sleep; with a fake clock, advance it at once. */
void bnt_clock_sleep_ns(uint64_t ns);
/* From now on the clock stands still at `now_ns` and only sleeps move it (tests). */
void bnt_clock_fake(uint64_t now_ns);

#endif
