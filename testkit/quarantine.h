/* The quarantine: failures that are known, each with an owner, a reason and an end.
 *
 *     quarantine:
 *       - test: cache_survives_kill
 *         owner: mira@example.org
 *         reason: the runner's disk lies about fsync, issue 12
 *         expires: 2026-12-20
 *
 * A failure in quarantine is shown and counted and does not make the run fail. An entry ends at
 * most QUARANTINE_DAYS_MAX days ahead, on its day in UTC; afterwards the whole run fails, so that
 * nobody forgets it. */
#ifndef TESTKIT_QUARANTINE_H
#define TESTKIT_QUARANTINE_H

#include "testkit/bnt_test.h"

enum { QUARANTINE_DAYS_MAX = 30 };
#define QUARANTINE_DEFAULT "testkit/quarantine.yml"

/* Read the file and mark the tests it names. now_unix_s: today. Errors: FILE with its place for a
 * field that is absent, unknown or wrong, a test that the program does not have (unless some_tests:
 * it has those of the suites in YAML that were named, which need not be all), a date too far ahead;
 * FAILED for an entry that has expired. */
enum bnt_status quarantine_apply(struct bnt_test_run *run, const char *path, int64_t now_unix_s,
                                 bool some_tests, struct bnt_err *err);
/* After the run: a failure of a marked test becomes QUARANTINED. */
void quarantine_settle(struct bnt_test_run *run);

#endif
