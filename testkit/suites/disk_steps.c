/* Steps are counted from 0 in their order. */
#include "testkit/suites/disk_steps.h"

#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "testkit/suite.h"
#include "testkit/suites/cache_fixture.h"

static long armed_at, step_at,
    step_count;        /* the step that is asked for, hit; how many there were */
static int step_errno; /* 0: die there */
static bool step_short;

static int hit_step(enum bnt_file_step step, size_t *n)
{
    if (step_count++ != step_at) {
        return 0;
    }
    if (step_short && (step == BNT_FILE_WRITE || step == BNT_FILE_DB) && *n > 1) {
        *n /= 2;
        step_at++;
        return 0;
    }
    if (step_errno == 0) {
        raise(SIGKILL);
    }
    return step_errno;
}

void disk_steps_arm(long at, int code, bool is_short)
{
    armed_at = step_at = at;
    step_count = 0;
    step_errno = code;
    step_short = is_short;
    bnt_file_fault(hit_step);
}

bool disk_steps_disarm(void)
{
    bnt_file_fault(NULL);
    return step_count > armed_at;
}

bool disk_steps_killed(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
    return !WIFEXITED(status);
}

void disk_steps_kill_after(pid_t child, unsigned after_us)
{
    int status = 0;
    bnt_clock_sleep_ns(1000ull * after_us);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
}

struct bnt_cache *disk_steps_cache(int round)
{
    char relative[64], dir[BNT_PATH_MAX];
    struct bnt_err err = {0};
    struct bnt_cache *c = NULL;
    snprintf(relative, sizeof relative, "r%d", round);
    if (bnt_cache_open(fixture_path(dir, relative), &c, &err) != BNT_OK) {
        fail_msg("round %d: %s", round, err.msg);
    }
    return c;
}
