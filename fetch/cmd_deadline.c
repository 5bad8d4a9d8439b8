/* One alarm per process: a command fetches once. */
#include "fetch/cmd_deadline.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/opt.h"
#include "fetch/manifest.h"

#define TIMEOUT_S 900

static volatile sig_atomic_t json_at_alarm;

/* The time is over and something does not look at the clock: a disk that hangs, a resolver. What is
 * on the disk is safe at any point, so it may end here; only calls that are safe in a handler. */
static void on_alarm(int number)
{
    (void)number;
    static const char text[] =
        "error: the time for fetching was over, and a step hung\n"
        "  hint: what has arrived is kept: run the same command again and it "
        "goes on from there\n";
    static const char event[] = "{\"event\":\"result\",\"exit\":19,\"files\":[]}\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    if (json_at_alarm) {
        written = write(STDOUT_FILENO, event, sizeof event - 1);
    }
    (void)written; /* who does not listen is told by the exit code */
    _exit(BNT_E_TIME);
}

static enum bnt_status parse(const char *text, int64_t *timeout_s, struct bnt_err *err)
{
    const bool bare = text[strspn(text, "0123456789")] == '\0' && text[0];
    char seconds[32];
    if (strcmp(text, "0") == 0) {
        *timeout_s = 0;
        return BNT_OK;
    }
    snprintf(seconds, sizeof seconds, "%.20s%s", text, bare ? "s" : "");
    enum bnt_status st = bnt_parse_duration(seconds, timeout_s, err);
    if (st == BNT_OK && *timeout_s > MANIFEST_TIMEOUT_MAX_S) {
        st = bnt_err_set(err, BNT_E_USAGE, "%.20s is more than a week", text);
    }
    return st;
}

enum bnt_status cmd_deadline_set(const struct cmd_deadline *d, struct bnt_fetch_opts *opts,
                                 struct bnt_err *err)
{
    const char *text = d->option ? d->option : bnt_env("BNT_FETCH_TIMEOUT");
    int64_t timeout_s = d->manifest_s > 0 ? d->manifest_s : TIMEOUT_S;
    if (text && parse(text, &timeout_s, err) != BNT_OK) {
        return bnt_err_context(err, "%s", d->option ? "--timeout" : "BNT_FETCH_TIMEOUT");
    }
    const uint64_t limit_ns = (uint64_t)timeout_s * 1000000000u;
    const int64_t tenth_s = timeout_s / 10, grace_s = tenth_s < 1 ? 1 : tenth_s > 30 ? 30 : tenth_s;
    opts->deadline_ns = timeout_s > 0 ? d->began_ns + limit_ns : 0;
    json_at_alarm = d->json;
    signal(SIGALRM, on_alarm);
    alarm(timeout_s > 0 ? (unsigned)(timeout_s + grace_s) : 0);
    return BNT_OK;
}

void cmd_deadline_over(void)
{
    alarm(0);
}
