/* Invariants: a test is in the hand of exactly one of plan (from `next` on), `again`, and the
 * runner, or it is concluded; `again` is a ring with room for every test at once. */
#include "testkit/schedule.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "testkit/filter.h"

enum bnt_status schedule_init(struct schedule *s, struct bnt_test_run *run,
                              const struct bnt_test_options *options, struct bnt_err *err)
{
    *s = (struct schedule){.run = run, .options = options, .budget_ms = run->budget_ms};
    s->grace_ms = bnt_test_grace_ms(run->budget_ms);
    size_t bytes = (run->n + 1) * sizeof *s->again;
    s->again = malloc(bytes);
    return s->again ? BNT_OK : bnt_err_nomem(err, "the schedule", bytes);
}

void schedule_release(struct schedule *s)
{
    free(s->again);
    s->again = NULL;
}

void schedule_conclude(struct bnt_test *t, enum bnt_test_outcome outcome, const char *reason)
{
    t->outcome = outcome;
    free(t->reason);
    t->reason = strdup(reason);
}

static struct bnt_test *planned(const struct schedule *s, size_t position)
{
    return &s->run->at[s->run->order ? s->run->order[position] : position];
}

static uint64_t remaining_ms(const struct schedule *s, uint64_t elapsed_ms)
{
    return elapsed_ms < s->budget_ms ? s->budget_ms - elapsed_ms : 0;
}

/* At the beginning of a run every test fits that is expected to fit at all. */
static uint64_t worst_ms(const struct schedule *s, const struct bnt_test *t)
{
    return t->plan.worst_ms < s->budget_ms ? t->plan.worst_ms : s->budget_ms;
}

static bool fits(const struct schedule *s, const struct bnt_test *t, uint64_t elapsed_ms)
{
    uint64_t left = remaining_ms(s, elapsed_ms);
    return left > 0 && t->plan.fit_ms <= left && worst_ms(s, t) <= left + s->grace_ms;
}

static void conclude_unfit(const struct schedule *s, struct bnt_test *t, uint64_t elapsed_ms)
{
    char reason[128] = "budget";
    uint64_t left = remaining_ms(s, elapsed_ms);
    bool long_tail = t->plan.fit_ms <= left;
    if (left > 0) {
        snprintf(reason, sizeof reason, "budget: may take %.1f s, and %.1f s are left%s",
                 (double)(long_tail ? worst_ms(s, t) : t->plan.fit_ms) / 1e3,
                 (double)(left + (long_tail ? s->grace_ms : 0)) / 1e3,
                 long_tail ? " with the grace" : "");
    }
    schedule_conclude(t, BNT_TEST_NOT_RUN, reason);
}

/* What an earlier run said becomes what the test says; its reason stays with the run. */
static void take_output(struct bnt_test *t, struct bnt_test_try *from)
{
    t->verdict = from->verdict;
    free(t->output);
    t->output = from->output;
    from->output = NULL;
}

/* Of a test that is repeated: the worst of its runs, with the output of the first that failed. */
static void sum_up_repeats(struct bnt_test *t)
{
    size_t n_runs = t->n_tries + (t->outcome != BNT_TEST_NOT_RUN);
    size_t n_failed = t->outcome == BNT_TEST_FAILED;
    struct bnt_test_try *first = NULL;
    for (size_t i = 0; i < t->n_tries; i++) {
        n_failed += t->tries[i].outcome == BNT_TEST_FAILED;
        first = first || t->tries[i].outcome != BNT_TEST_FAILED ? first : &t->tries[i];
    }
    if (n_failed == 0) {
        return;
    }
    char *reason = NULL;
    const char *why = first ? first->reason : t->reason;
    int n = asprintf(&reason, "%zu of %zu runs failed: %s", n_failed, n_runs, why ? why : "");
    if (first) {
        take_output(t, first);
    }
    schedule_conclude(t, BNT_TEST_FAILED, n > 0 ? reason : "runs failed");
    free(n > 0 ? reason : NULL);
}

/* Of a test that failed for a cause of the infrastructure, and whose next run came to nothing: it
 * failed. */
static void take_last_try(struct bnt_test *t)
{
    struct bnt_test_try *last = &t->tries[t->n_tries - 1];
    take_output(t, last);
    t->wall_ns = last->wall_ns;
    schedule_conclude(t, last->outcome, last->reason ? last->reason : "");
    free(last->reason);
    t->n_tries--;
}

/* One that has run, and comes to no other run: what is known of it decides. */
static void conclude_unrepeated(const struct schedule *s, struct bnt_test *t)
{
    if (s->options->n_repeats > 1) {
        sum_up_repeats(t);
    } else {
        take_last_try(t);
    }
}

static struct bnt_test *take_again(struct schedule *s)
{
    struct bnt_test *t = s->again[s->first_again];
    s->first_again = (s->first_again + 1) % (s->run->n + 1);
    s->n_again--;
    return t;
}

static struct bnt_test *next_again(struct schedule *s, uint64_t elapsed_ms)
{
    while (s->n_again > 0) {
        struct bnt_test *t = take_again(s);
        if (fits(s, t, elapsed_ms)) {
            return t;
        }
        conclude_unfit(s, t, elapsed_ms);
        conclude_unrepeated(s, t);
    }
    return NULL;
}

struct bnt_test *schedule_next(struct schedule *s, uint64_t elapsed_ms)
{
    struct bnt_test *t = NULL;
    while (!t && s->next < s->run->n) {
        struct bnt_test *candidate = planned(s, s->next++);
        if (candidate->outcome != BNT_TEST_PENDING) {
            continue; /* cached */
        }
        if (fits(s, candidate, elapsed_ms)) {
            t = candidate;
        } else {
            conclude_unfit(s, candidate, elapsed_ms);
        }
    }
    t = t ? t : next_again(s, elapsed_ms);
    if (t && !t->place.started) {
        t->place = (struct bnt_test_place){.started = true, .order = s->n_started++};
        t->place.start_ms = elapsed_ms;
    }
    return t;
}

bool schedule_has_more(const struct schedule *s)
{
    return s->next < s->run->n || s->n_again > 0;
}

static bool keep_try(struct bnt_test *t)
{
    struct bnt_test_try *grown = realloc(t->tries, (t->n_tries + 1) * sizeof *grown);
    if (!grown) {
        return false;
    }
    t->tries = grown;
    struct bnt_test_try *kept = &t->tries[t->n_tries++];
    *kept = (struct bnt_test_try){.outcome = t->outcome,
                                  .verdict = t->verdict,
                                  .reason = t->reason,
                                  .output = t->output,
                                  .wall_ns = t->wall_ns};
    t->reason = NULL;
    t->output = NULL;
    return true;
}

static bool may_retry(const struct bnt_test *t)
{
    bool declared = t->cause && filter_has_word(t->retry_on, t->cause);
    return t->outcome == BNT_TEST_FAILED && (declared || BNT_FAULT(retry_anything)) &&
           t->n_tries + 1 < BNT_TEST_TRIES_MAX;
}

void schedule_ended(struct schedule *s, struct bnt_test *t)
{
    bool repeats = s->options->n_repeats > 1;
    bool again = repeats ? t->n_tries + 1 < s->options->n_repeats &&
                               (t->outcome == BNT_TEST_PASSED || t->outcome == BNT_TEST_FAILED)
                         : may_retry(t);
    if (again && !s->given_up && keep_try(t)) {
        schedule_conclude(t, BNT_TEST_PENDING, "");
        s->again[(s->first_again + s->n_again++) % (s->run->n + 1)] = t;
        return;
    }
    const bool ran = t->outcome == BNT_TEST_PASSED || t->outcome == BNT_TEST_FAILED;
    if (t->n_tries > 0 && (repeats || !ran)) { /* stopped, or skipped */
        conclude_unrepeated(s, t);
    }
    if (s->options->fail_fast && t->outcome == BNT_TEST_FAILED && !t->quarantined) {
        schedule_give_up(s, "a test failed, and --fail-fast was given");
    }
}

void schedule_give_up(struct schedule *s, const char *reason)
{
    s->given_up = true;
    for (; s->next < s->run->n; s->next++) {
        struct bnt_test *t = planned(s, s->next);
        if (t->outcome == BNT_TEST_PENDING) {
            schedule_conclude(t, BNT_TEST_NOT_RUN, reason);
        }
    }
    while (s->n_again > 0) {
        struct bnt_test *t = take_again(s);
        schedule_conclude(t, BNT_TEST_NOT_RUN, reason);
        conclude_unrepeated(s, t);
    }
}
