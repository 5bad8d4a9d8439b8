/* Tests of YAML suites (testkit/user_suite.h) as tests of this program. */
#ifndef SUITES_USER_TESTS_H
#define SUITES_USER_TESTS_H

#include "base/status.h"
#include "testkit/suite.h"

/* The suites of $BNT_SUITE_FILES, paths separated by ':', as a list that ends with NULL; *out is
 * NULL when there are none. Read once; names of models are looked up now, since a test sees another
 * cache. Errors: those of user_suite_read. */
enum bnt_status user_tests_load(const struct suite *const **out, struct bnt_err *err);

/* The file of such a suite; NULL: it is none of these, or its path cannot stand in a line of
 * fields.
 */
const char *user_tests_file(const struct suite *suite);

/* Digest of what the tests of such a suite depend on: its file and the texts of those beside it;
 * "-" when they cannot be read again. NULL: the suite is none of these. Valid until the next call.
 */
const char *user_tests_inputs(const struct suite *suite);

#endif
