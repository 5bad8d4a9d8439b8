/* Waits: exponential with full jitter, or what the server asks for. */
#include "fetch/backoff.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/fault.h"

#define UNIX_TIME_MIN 1000000000 /* a larger number of seconds to wait would be thirty years */

uint64_t backoff_wait_ns(unsigned failures, uint64_t random)
{
    uint64_t ceiling_ms = BACKOFF_FIRST_MS;
    for (unsigned i = 1; i < failures && ceiling_ms < BACKOFF_CEILING_MS; i++) {
        ceiling_ms *= 2;
    }
    ceiling_ms = ceiling_ms < BACKOFF_CEILING_MS ? ceiling_ms : BACKOFF_CEILING_MS;
    return random % (ceiling_ms * 1000000 + 1);
}

uint64_t backoff_random(void)
{
    uint64_t bits;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits) {
        bits =
            bnt_clock_now_ns() * 0x9e3779b97f4a7c15u; /* spreads clients, which is all it is for */
    }
    return bits;
}

bool backoff_http_date(const char *value, int64_t *unix_s)
{
    /* RFC 9110, 5.6.7: the usual form, and two that are only read. */
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm tm = {0};
        const char *end = strptime(value, forms[i], &tm);
        if (end && !*end) {
            *unix_s = (int64_t)timegm(&tm);
            return true;
        }
    }
    return false;
}

/* A whole number of seconds at the beginning of a text; -1 when there is none. */
static int64_t seconds(const char *text)
{
    if (!isdigit((unsigned char)text[0])) {
        return -1;
    }
    return strtoll(text, NULL, 10);
}

/* The number after "key=" where the key begins a word. */
static int64_t parameter(const char *value, const char *key)
{
    size_t k = strlen(key);
    for (const char *p = value; (p = strcasestr(p, key)); p += k) {
        bool begins = p == value || strchr("; ,", p[-1]);
        if (begins && p[k] == '=') {
            return seconds(p + k + 1);
        }
    }
    return -1;
}

static int64_t until(int64_t then_s, int64_t now_s)
{
    return then_s > now_s ? then_s - now_s : 0;
}

static int64_t asked_s(const char *name, const char *value, int64_t now_s)
{
    int64_t date_s;
    if (strcasecmp(name, "retry-after") == 0) {
        return backoff_http_date(value, &date_s) ? until(date_s, now_s) : seconds(value);
    }
    if (strcasecmp(name, "ratelimit") == 0) {
        int64_t t = parameter(value, "t");
        return t >= 0 ? t : parameter(value, "reset");
    }
    int64_t n = seconds(value);
    return n >= UNIX_TIME_MIN ? until(n, now_s) : n;
}

int64_t backoff_header_wait_s(const char *name, const char *value, int64_t now_s)
{
    if (BNT_FAULT(retry_after)) {
        return -1;
    }
    const int64_t wait_s = asked_s(name, value, now_s);
    if (wait_s <= 0) {
        return -1;
    }
    return wait_s < BACKOFF_ASKED_MAX_S ? wait_s : BACKOFF_ASKED_MAX_S;
}
