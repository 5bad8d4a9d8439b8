/* Which planted defects (base/fault.h) which suite must see. */
#ifndef SUITES_FAULTS_H
#define SUITES_FAULTS_H

#include <stddef.h>

#include "base/status.h"
#include "testkit/suite.h"

/* FAILED, and a message, unless every defect has a suite that must see it, every suite has a defect
 * to see, and every name that a suite gives is one of base/faults.def. */
enum bnt_status faults_check(const struct suite *const *all);
/* The next of the names at *at, as a suite states them, its length in *len; NULL at the end. */
const char *faults_next_name(const char **at, size_t *len);
/* One line per pair on standard output: defect, suite, what is wrong, separated by tabs. */
void faults_print(const struct suite *const *all);

#endif
