/* The list of checks. */
#include "ci/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fault.h"

struct doctor_check *doctor_check(struct doctor *d, const char *id, const char *looked, ...)
{
    /* Past the end the last one is overwritten: a number that a reader of this file can count. */
    struct doctor_check *c = &d->at[d->n < DOCTOR_MAX_CHECKS ? d->n++ : DOCTOR_MAX_CHECKS - 1];
    va_list ap;
    *c = (struct doctor_check){.id = id};
    va_start(ap, looked);
    vsnprintf(c->looked, sizeof c->looked, looked, ap);
    va_end(ap);
    return c;
}

void doctor_found(struct doctor_check *c, const char *found, ...)
{
    va_list ap;
    va_start(ap, found);
    vsnprintf(c->found, sizeof c->found, found, ap);
    va_end(ap);
}

void doctor_problem(struct doctor_check *c, const char *next, const char *found, ...)
{
    va_list ap;
    c->state = BNT_FAULT(doctor_blind) ? DOCTOR_OK : DOCTOR_PROBLEM;
    snprintf(c->next, sizeof c->next, "%s", next);
    va_start(ap, found);
    vsnprintf(c->found, sizeof c->found, found, ap);
    va_end(ap);
}

void doctor_error(struct doctor_check *c, const char *next, const struct bnt_err *err)
{
    doctor_problem(c, err->hint[0] ? err->hint : next, "%s", err->msg);
}

void doctor_skipped(struct doctor_check *c, const char *why, ...)
{
    va_list ap;
    c->state = DOCTOR_SKIPPED;
    va_start(ap, why);
    vsnprintf(c->found, sizeof c->found, why, ap);
    va_end(ap);
}

struct doctor_check *doctor_find(struct doctor *d, const char *id)
{
    size_t i = 0;
    while (i < d->n && strcmp(d->at[i].id, id) != 0) {
        i++;
    }
    return i < d->n ? &d->at[i] : NULL;
}

bool doctor_is_ill(const struct doctor *d, const char *id)
{
    for (size_t i = 0; i < d->n; i++) {
        if (strcmp(d->at[i].id, id) == 0 && d->at[i].state == DOCTOR_PROBLEM) {
            return true;
        }
    }
    return false;
}
