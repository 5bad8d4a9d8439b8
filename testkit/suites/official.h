/* The official 2B4T file for tests: what is recorded of it, and where it is. */
#ifndef SUITES_OFFICIAL_H
#define SUITES_OFFICIAL_H

#include <jansson.h>

/* Name the file that the user's cache has under the recorded digest in BNT_OFFICIAL_2B, unless that
 * is set. Called once, before tests get caches of their own. Where the cache has none, or cannot be
 * read, the need `official2b` stays unmet. */
void official_find(void);

/* What follows is for tests with needs "source"; a failure fails the test. */

/* The facts: bitnet-b1.58-2B-4T.json in $BNT_OFFICIAL_FACTS, else in testkit/data/golden. The
 * caller's. */
json_t *official_facts(void);
/* The contract that they give: bitnet-b1.58-2B-4T.contract in the same folder, else in
 * testkit/data/contracts. Valid until the next call. */
const char *official_contract(void);
/* The file itself; with needs "official2b". */
const char *official_file(void);

#endif
