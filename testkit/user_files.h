/* Which suites in YAML a command line means. */
#ifndef BNT_USER_FILES_H
#define BNT_USER_FILES_H

#include "base/buf.h"
#include "base/status.h"
#include "testkit/user_suite.h"

/* Append the absolute paths of suites, separated by ':': each operand is a file, or a folder whose
 * files *.bnt.yml are taken, with those of the folders below it, in the order of their names; links
 * are followed.
 * Errors: NOT_FOUND no such file, a folder without a suite; USAGE a path with ':' in it; what keeps
 * a folder from being read. */
enum bnt_status user_files_list(char *const *operands, int n, struct bnt_buf *out,
                                struct bnt_err *err);
/* Tell the suites program by its environment: BNT_SUITE_FILES, and BNT_TEST_SUBJECT unless subject
 * is NULL; a file in subject becomes absolute. Without operands both are taken out. */
enum bnt_status user_files_export(char *const *operands, int n, const char *subject,
                                  struct bnt_err *err);

/* FILE when two tests have one name, which a run could not tell apart: with both places. */
enum bnt_status user_files_distinct(struct user_suite *const *suites, size_t n,
                                    struct bnt_err *err);

#endif
