/* Who runs what on what: the facts by which results of different runs are compared. */
#ifndef TESTKIT_IDENTITY_H
#define TESTKIT_IDENTITY_H

#include "testkit/bnt_test.h"

/* Fill run's id, machine and the digests of program and model. program_digest covers the suites
 * program and the bnt beside it, which suites start. */
enum bnt_status identity_fill(struct bnt_test_run *run, struct bnt_err *err);

/* Digest of a text. */
enum bnt_status identity_digest(const char *text, size_t n, char hex[BNT_SHA256_HEX],
                                struct bnt_err *err);

#endif
