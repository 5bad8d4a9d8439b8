/* Shards: one tier cut into parts of about equal time, which machines that share nothing but the
 * command line agree upon.
 *
 * Each computes the whole division for itself, from what is the same everywhere: the names of the
 * tests, their time limits, and a file of times that is committed or handed to all (`bnt test
 * history --times` writes it). A local history is never asked. The longest test goes first, each
 * into the shard with the least time so far. */
#ifndef TESTKIT_SHARD_H
#define TESTKIT_SHARD_H

#include "testkit/bnt_test.h"

enum { SHARDS_MAX = 1000 };

/* text: "2/5", or "auto": from the environment of the CI system. Errors: USAGE. */
enum bnt_status shard_parse(const char *text, unsigned *index, unsigned *total,
                            struct bnt_err *err);

/* Keep the tests of one shard and note the others. times_path may be NULL: then time limits alone
 * divide. Errors: FILE for a file of times that is none. */
enum bnt_status shard_split(struct bnt_test_run *run, unsigned index, unsigned total,
                            const char *times_path, struct bnt_err *err);

/* SUITE/NAME, by which shards know a test; the caller frees. NULL: out of memory. */
char *shard_full_name(const struct bnt_test *t);

/* What each shard of `total` would have, without a change to the run. */
struct shard_load {
    size_t tests;
    double seconds; /* expected */
};
enum bnt_status shard_loads(const struct bnt_test_run *run, unsigned total, const char *times_path,
                            struct shard_load *each, struct bnt_err *err);

/* Merge the result files of all shards into `out` (zeroed). What is not whole is written to
 * `problems`, one line each, and the status is FAILED: a shard that is missing or there twice, a
 * test that no shard or two have, files of different programs, models, tiers or divisions. */
enum bnt_status shard_merge(struct bnt_test_run *parts, const int *exit_codes, size_t n_parts,
                            struct bnt_test_run *out, struct bnt_buf *problems,
                            struct bnt_err *err);

#endif
