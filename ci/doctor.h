/* bnt doctor: checks that name the cause of what goes wrong. Each says what it looked at, what it
 * found and what to do next. Nothing is changed, and nothing is asked of the network unless a URL
 * is given.
 *
 * A check whose ground another one has taken away is skipped and says so, so that one cause gives
 * one problem. */
#ifndef CI_DOCTOR_H
#define CI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/app.h"
#include "base/file.h"
#include "base/status.h"

enum doctor_state { DOCTOR_OK, DOCTOR_PROBLEM, DOCTOR_SKIPPED };

struct doctor_check {
    const char *id; /* "cache.index": section and what; static */
    enum doctor_state state;
    char looked[640], found[640], next[320];
};

/* How the run is meant that does not go well: as the options of bnt infer. */
struct doctor_opts {
    const char *model, *kernel, *i2s_layout, *pre, *chat_template, *url;
    int64_t threads;
    uint64_t memory_limit;
    bool json, problems;
};

enum { DOCTOR_MAX_CHECKS = 32 };

struct doctor {
    const struct bnt_app *app;
    const struct doctor_opts *o;
    struct doctor_check at[DOCTOR_MAX_CHECKS];
    size_t n;
};

/* ---- for the checks ---- */

/* A new check that is well unless something else is said of it. */
struct doctor_check *doctor_check(struct doctor *d, const char *id, const char *looked, ...)
    BNT_PRINTF(3, 4);
void doctor_found(struct doctor_check *c, const char *found, ...) BNT_PRINTF(2, 3);
void doctor_problem(struct doctor_check *c, const char *next, const char *found, ...)
    BNT_PRINTF(3, 4);
/* A problem that a function of the house has found: its message and hint. */
void doctor_error(struct doctor_check *c, const char *next, const struct bnt_err *err);
void doctor_skipped(struct doctor_check *c, const char *why, ...) BNT_PRINTF(2, 3);
/* A check that was made, by its id. NULL: none. */
struct doctor_check *doctor_find(struct doctor *d, const char *id);
bool doctor_is_ill(const struct doctor *d, const char *id);

/* ---- the checks, in this order ---- */

void doctor_environment(struct doctor *d);
void doctor_processor(struct doctor *d);
void doctor_model(struct doctor *d);
void doctor_cache(struct doctor *d);
void doctor_network(struct doctor *d);

#endif
