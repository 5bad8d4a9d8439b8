/* Clock with a fake for tests: one flag, read without a lock because tests set it before they start
 * threads. */
#include "base/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <time.h>

static bool is_fake;
static uint64_t fake_ns;

uint64_t bnt_clock_now_ns(void)
{
    if (is_fake) {
        return fake_ns;
    }
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t bnt_clock_unix_s(void)
{
    return is_fake ? (int64_t)(fake_ns / 1000000000u) : (int64_t)time(NULL);
}

int64_t bnt_clock_unix_ns(void)
{
    if (is_fake) {
        return (int64_t)fake_ns;
    }
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void bnt_clock_sleep_ns(uint64_t ns)
{
    if (is_fake) {
        fake_ns += ns;
        return;
    }
    struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000u),
                          .tv_nsec = (long)(ns % 1000000000u)};
    while (nanosleep(&ts, &ts) != 0 && errno == EINTR) {
    }
}

void bnt_clock_fake(uint64_t now_ns)
{
    is_fake = true;
    fake_ns = now_ns;
}
