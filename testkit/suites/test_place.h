/* The place of one test: a folder of its own, and an environment that leads into it.
 *
 *     root/scratch   suite_scratch, with the caches below .cache
 *     root/tmp       TMPDIR
 *     root/home      HOME and the current folder */
#ifndef SUITES_TEST_PLACE_H
#define SUITES_TEST_PLACE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/file.h"

/* Once, before the first test: paths in the variables that tests read become absolute, since a test
 * runs in another folder. */
void test_place_fix_environment(void);
/* The values of those variables: of the i-th, "" when it is not set; NULL past the last. */
const char *test_place_outer_file(size_t i);
/* HOME as it was for this program, "" for none. */
const char *test_place_outer_home(void);

/* An empty place below $TMPDIR: the last one again, where a test left that empty. */
enum bnt_status test_place_make(char root[BNT_PATH_MAX], struct bnt_err *err);
/* After the test. */
void test_place_give_back(const char *root);
/* At the end of the program: remove what was kept for another test. */
void test_place_end(void);
/* In the test's process. False: the place is gone. */
bool test_place_enter(const char *root);
/* What the test left outside root/scratch: "tmp/x, home/y"; "" for nothing. */
void test_place_list_left(const char *root, char *out, size_t size);

#endif
