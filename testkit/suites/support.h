/* What the program around the tests shares with support.c; tests see testkit/suite.h only. */
#ifndef SUITES_SUPPORT_H
#define SUITES_SUPPORT_H

#include <stdbool.h>

#include "base/file.h"
#include "base/status.h"

/* A new empty folder under $TMPDIR, which suite_scratch of processes forked from now on names. The
 * caller removes it. */
enum bnt_status support_make_scratch(char out[BNT_PATH_MAX], struct bnt_err *err);
/* In the child: lead HOME, TMPDIR and the caches into the scratch folder. */
void support_enter_test(void);

/* The cause that suite_infrastructure named in this process, or NULL. */
const char *support_cause(void);
/* True for a word that suite_infrastructure takes. */
bool support_is_cause(const char *word);

/* Digest of what the tests of a suite depend on in the source tree: the suite's own file and the
 * paths of testkit/suites/inputs.def. "-" without a source tree. Valid until the next call. */
const char *support_inputs_digest(const char *suite);

/* The source tree and the shared folder, or NULL where there is none. */
const char *support_source_dir(void);
const char *support_shared_dir(void);

#endif
