/* Which tests a person means. A filter is words separated by blanks, and a test must match them
 * all; of several filters it must match one. A word is
 *
 *     TEXT            a part of SUITE/NAME
 *     suite:NAME      the suite of that name
 *     name:TEXT       a part of the test's name
 *     tag:WORD        one of its tags
 *     subject:WORD    one of the kinds of model that it takes, "none" if it takes none
 *     tier:WORD       the smallest tier that runs it: fast, integration, full
 *     needs:WORD      one of its needs
 *     kills:NAME      its suite must see the planted defect of this name
 *
 * and `!` before a word turns it round. */
#ifndef TESTKIT_FILTER_H
#define TESTKIT_FILTER_H

#include "testkit/bnt_test.h"

/* Errors: USAGE for a key that there is none, or a filter without a word. */
enum bnt_status filter_check(const struct bnt_strs *filters, struct bnt_err *err);
/* filters: checked, or NULL for all tests. */
bool filter_matches(const struct bnt_strs *filters, const struct bnt_test *test);

/* True when word is one of the comma-separated words of a list. */
bool filter_has_word(const char *list, const char *word);

#endif
