/* Which test starts next, in the order of the plan and within the budget; and whether one that
 * ended runs again, because it is repeated or because what failed lies outside this project. */
#ifndef TESTKIT_SCHEDULE_H
#define TESTKIT_SCHEDULE_H

#include "testkit/bnt_test.h"

struct schedule {
    struct bnt_test_run *run;
    const struct bnt_test_options *options;
    uint64_t budget_ms, grace_ms;
    size_t next;             /* position in the plan */
    struct bnt_test **again; /* tests that run once more, first come first served; a ring */
    size_t first_again, n_again;
    size_t n_started;
    bool given_up; /* nothing is started any more */
};

enum bnt_status schedule_init(struct schedule *s, struct bnt_test_run *run,
                              const struct bnt_test_options *options, struct bnt_err *err);
void schedule_release(struct schedule *s);

/* The next to start, or NULL when there is none now. What no longer fits is concluded as NOT RUN on
 * the way; time only passes, so it never would fit again. */
struct bnt_test *schedule_next(struct schedule *s, uint64_t elapsed_ms);
/* True while schedule_next may return a test. */
bool schedule_has_more(const struct schedule *s);
/* After a test ended with an outcome. It may be PENDING again afterwards. */
void schedule_ended(struct schedule *s, struct bnt_test *t);
/* Conclude all that have not started. */
void schedule_give_up(struct schedule *s, const char *reason);

void schedule_conclude(struct bnt_test *t, enum bnt_test_outcome outcome, const char *reason);

#endif
