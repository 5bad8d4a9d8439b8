/* The official 2B4T file for tests: what is recorded of it, and where it is. */
#ifndef SUITES_OFFICIAL_H
#define SUITES_OFFICIAL_H

#include <jansson.h>
#include <stdbool.h>

/* The need `official2b`: true when BNT_OFFICIAL_2B names a file that can be read. Unless it is set,
 * it becomes the file that the user's cache has under the recorded digest. Called before the test
 * that needs it gets a cache of its own. */
bool official_find(void);

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
